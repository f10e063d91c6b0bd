//! P7, the contract: it runs once, when no host of the environment is left on anything older, and nothing older runs
//! after it. By what the hosts' disks name as active, and by what really ran.

use landfall_common::assignment::Direction;
use landfall_common::{HostId, ReleaseName};
use landfall_controller_core::rollout::{End, Rollout, RolloutKind, Status};

use super::migration::{Database, Run};
use super::{Checks, Violation};

impl Database {
    /// Somebody wants what is under way to go on: a contract that has failed may run once more.
    pub fn asked_again(&mut self) {
        let failed = |run: &&mut Run| run.direction == Direction::Contract && run.failed;
        self.runs.iter_mut().filter(failed).for_each(|run| run.written_off = true);
    }

    fn contracts(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(|run| run.direction == Direction::Contract)
    }
}

impl Checks {
    /// A run begins on a host; `hosts` are all of the environment, with what each disk names as active.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn contract_begins<'h>(
        &self,
        run: &Run,
        mut hosts: impl Iterator<Item = (&'h HostId, Option<ReleaseName>)>,
    ) -> Result<(), Violation> {
        if run.direction != Direction::Contract {
            return Ok(());
        }
        let number = |name: &ReleaseName| self.plan(name).map_or(0, |plan| plan.number);
        let own = number(&run.release);
        let old = hosts.find_map(|(host, active)| {
            let active = active.filter(|active| number(active) < own)?;
            Some((host, active))
        });
        let Some((host, active)) = old else { return Ok(()) };
        let what =
            format!("the contract of {} begins on {}, and {host} has {active} active", run.release, run.host);
        Err(Violation::new("P7", what))
    }

    /// Why a release with this number cannot run on what contracts have left, if one of a newer release has run, or
    /// runs.
    pub(super) fn contracted_away(&self, number: u64) -> Option<String> {
        let took = |run: &&Run| !run.failed && (run.took_effect || run.ended_at.is_none());
        let newer = |run: &&Run| self.plan(&run.release).is_some_and(|plan| plan.number > number);
        let run = self.database.contracts().find(|run| took(run) && newer(run))?;
        Some(format!("the contract of {} has taken away what it needs", run.release))
    }

    /// A rollout's record has changed: one that has succeeded has contracted, if its release does.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn contract_has_run(&self, rollout: &Rollout) -> Result<(), Violation> {
        let name = &rollout.release.name;
        let must = matches!(rollout.status, Status::Ended { end: End::Succeeded })
            && rollout.kind == RolloutKind::Forward
            && self.plan(name).is_some_and(|plan| plan.contract.is_some());
        let has_run = self.database.contracts().any(|run| run.release == *name && run.took_effect);
        if !must || has_run || self.database.contracted_by_word.contains(name) {
            return Ok(());
        }
        let what = format!("rollout {} of {name} succeeded, and its contract has not run", rollout.id);
        Err(Violation::new("P7", what))
    }
}
