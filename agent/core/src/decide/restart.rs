//! Restarting and reloading what is active: the same release goes on, and there is nothing to go back to.

use std::collections::BTreeSet;

use landfall_common::ServiceName;
use landfall_common::assignment::RestartKind;
use landfall_common::report::{Failure, OutcomeKind};

use super::Turn;
use crate::placement::TrafficOutline;
use crate::plan;
use crate::record::Installed;
use crate::state::{Activation, Job, State, Terms};
use crate::step;

impl Turn {
    pub(super) fn begin_restart(
        &mut self,
        job: &Job,
        kind: RestartKind,
        services: &BTreeSet<ServiceName>,
        terms: Terms,
    ) {
        let record = &self.machine.record;
        let active = record.active().filter(|active| active.release == job.release);
        let is_whole = record.mixed.is_none()
            && record.strays.is_empty()
            && active.is_none_or(|active| record.placement.has_its_slot(active))
            && (!record.in_doubt || record.is_proven(&job.release.name));
        let Some(active) = active.filter(|_| is_whole) else {
            return self.refuse_restart(job);
        };
        let mut plan = plan::renew(active, services, kind);
        self.keep_away(&mut plan);
        let to = active.release.name.clone();
        let activation = Activation {
            generation: job.generation,
            from: Some(to.clone()),
            from_in_doubt: record.in_doubt,
            to,
            terms,
            is_restart: true,
        };
        if plan.is_empty() {
            // None of these services runs here.
            self.watch_active();
            return self.enter(State::Proving { activation });
        }
        self.enter(State::Activating { activation, plan, at: 0, reached: 0 });
    }

    /// Only what is active, and whole, is restarted: all else is for an activation to put right.
    pub(super) fn refuse_restart(&mut self, job: &Job) {
        let record = &self.machine.record;
        let name = &job.release.name;
        let reason = match record.active() {
            Some(Installed { release, .. }) if *release == job.release => {
                format!(
                    "services of this host may run another release than {name}, which is to be activated first"
                )
            }
            Some(Installed { release, .. }) => {
                format!("{name} is not active on this host, {} is", release.name)
            }
            None => format!("{name} is not active on this host, and nothing is"),
        };
        self.end(job.generation, OutcomeKind::Refused { failure: Failure::new(step("accept"), reason) });
    }

    /// All of it is done: what the host was meanwhile to start, and was not for the sake of this, is started.
    pub(super) fn restarted(&mut self) {
        self.ensure();
    }

    pub(super) fn commit_restart(&mut self, activation: &Activation) {
        self.proven(&activation.to);
        self.end(activation.generation, OutcomeKind::Committed);
    }

    /// What runs is left as it is: it is the same release, so that its checks say how it is. Behind a gate it gets no
    /// requests until it is proven again.
    pub(super) fn restart_failed(&mut self, activation: &Activation, touched: bool, failure: Failure) {
        let record = &mut self.machine.record;
        let is_gated = record
            .active()
            .is_some_and(|active| matches!(active.outline.traffic, Some(TrafficOutline::Gate)));
        record.in_doubt |= is_gated && touched;
        self.ensure();
        if self.machine.live.watch.is_none() {
            self.watch_active();
        }
        self.end(activation.generation, OutcomeKind::Held { failure });
    }
}
