//! Fetching, unpacking, preparing: nothing that runs is touched.

use landfall_common::assignment::Order;
use landfall_common::report::{Failure, OutcomeKind};

use super::Turn;
use crate::effect::Finish;
use crate::record::Installed;
use crate::state::{Job, State};

impl Turn {
    pub(super) fn fetched(&mut self, job: Job, finish: Finish) {
        match finish {
            Finish::Fetched { outline } => {
                let installed = Installed { release: job.release.clone(), outline: *outline };
                self.enter(State::Unpacking { job, installed });
            }
            other => self.stage_failed(&job, other),
        }
    }

    pub(super) fn unpacked(&mut self, job: Job, installed: Installed, finish: Finish) {
        match finish {
            Finish::Ok => self.enter(State::Preparing { job, installed, step: 0 }),
            other => self.stage_failed(&job, other),
        }
    }

    pub(super) fn prepared(&mut self, job: Job, installed: Installed, step: usize, finish: Finish) {
        match finish {
            Finish::Ok if step < installed.outline.prepare.len() => {
                self.enter(State::Preparing { job, installed, step: step + 1 });
            }
            Finish::Ok => {
                let name = installed.release.name.clone();
                let keep = installed.outline.retention;
                self.machine.record.installed.insert(name, installed.clone());
                // While the state still says that it arrives, the newcomer itself is not up for removal.
                self.machine.record.retain(keep);
                self.machine.record.state = State::Idle;
                self.proceed(&job, &installed);
            }
            other => self.stage_failed(&job, other),
        }
    }

    fn stage_failed(&mut self, job: &Job, finish: Finish) {
        let failure = failure_of(finish);
        let result = match &job.order {
            Order::Stage | Order::Activate { .. } | Order::Restart { .. } | Order::Drain { .. } => {
                OutcomeKind::StageFailed { failure }
            }
            // Nothing of it has run, and that is certain.
            Order::Migrate { .. } => OutcomeKind::MigrationFailed { failure },
        };
        self.end(job.generation, result);
    }
}

/// The failure in a finish that is not the one that was hoped for.
pub(super) fn failure_of(finish: Finish) -> Failure {
    match finish {
        Finish::Failed { failure } | Finish::Unknown { failure } => failure,
        Finish::Ok | Finish::Fetched { .. } => {
            Failure::new(crate::step("agent"), "the effect was answered with something else than its own end")
        }
    }
}
