//! The migration: begun at most once, ended before its lease, and an unknown end stays unknown (P7).

use landfall_common::assignment::{Direction, Order};
use landfall_common::report::{Failure, OutcomeKind};
use landfall_common::{Duration, StepName};

use super::Turn;
use super::staging::failure_of;
use crate::effect::{Effect, Finish};
use crate::record::Installed;
use crate::state::{Job, Migrating, State};
use crate::step;

/// The runner ends the step at its deadline and then tells how it ended; after this much longer nobody will.
const ANSWER_GRACE: Duration = Duration::from_secs(30);

impl Turn {
    pub(super) fn begin_migration(
        &mut self,
        job: &Job,
        installed: &Installed,
        fence: u64,
        lease: Duration,
        direction: Direction,
    ) {
        let name = &installed.release.name;
        let never_began = |reason: String| {
            let failure = Failure::new(step("migrate"), format!("{reason}; nothing of it has run"));
            OutcomeKind::MigrationFailed { failure }
        };
        if self.migration_step(&installed.release.name, direction).is_none() {
            let reason = match direction {
                Direction::Up => format!("release {name} has no migration"),
                Direction::Down => format!("the migration of release {name} has no way back"),
                Direction::Contract => format!("release {name} has no contract"),
            };
            return self.end(job.generation, never_began(reason));
        }
        let deadline = job.accepted + lease;
        if self.now.mono >= deadline {
            let reason = "the lease ran out before the migration could begin".to_owned();
            return self.end(job.generation, never_began(reason));
        }
        if fence <= self.machine.record.fence {
            let reason = format!("lease {fence} was used already");
            return self.end(job.generation, never_began(reason));
        }
        self.machine.record.fence = fence;
        let migrating =
            Migrating { generation: job.generation, release: name.clone(), fence, direction, deadline };
        self.enter(State::Migrating { migrating, resumed: false });
    }

    pub(super) fn migrated(&mut self, migrating: &Migrating, finish: Finish) {
        let result = match finish {
            Finish::Ok => OutcomeKind::Migrated,
            Finish::Failed { failure } => OutcomeKind::MigrationFailed { failure },
            other => OutcomeKind::MigrationUnknown { failure: failure_of(other) },
        };
        self.end(migrating.generation, result);
    }

    /// The last resort: whoever runs the step should have answered long ago.
    pub(super) fn watch_lease(&mut self, migrating: &Migrating) {
        if self.now.mono < migrating.deadline + ANSWER_GRACE {
            return;
        }
        let name = self.migration_step(&migrating.release, migrating.direction);
        let reason = "the lease has run out, and nobody can say how the migration ended";
        let failure = Failure::new(name.unwrap_or_else(|| step("migrate")), reason);
        self.effects.push(Effect::Cancel);
        self.end(migrating.generation, OutcomeKind::MigrationUnknown { failure });
    }

    /// A lease counts on the clock of the boot in which it was accepted. After a restart nobody knows whether
    /// this is that boot, and a migration that has not begun is given back with certainty.
    pub(super) fn drop_interrupted_lease(&mut self) {
        let interrupted = match &self.machine.record.state {
            State::Fetching { job } | State::Unpacking { job, .. } | State::Preparing { job, .. } => {
                matches!(job.order, Order::Migrate { .. }).then_some(job.generation)
            }
            _ => None,
        };
        if let Some(generation) = interrupted {
            let reason = "the agent was restarted before the migration began; nothing of it has run";
            let failure = Failure::new(step("migrate"), reason);
            self.end(generation, OutcomeKind::MigrationFailed { failure });
        }
    }

    fn migration_step(
        &self,
        release: &landfall_common::ReleaseName,
        direction: Direction,
    ) -> Option<StepName> {
        self.machine.record.installed.get(release)?.outline.migration_step(direction).cloned()
    }
}
