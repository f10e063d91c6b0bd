//! P6, a release that fails on more hosts than may goes nowhere else: not in its rollout, not on its way back,
//! and not to hosts that come to it later, one after the other.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::assignment::{Assignment, Order};
use landfall_common::report::{HostReport, OutcomeKind};
use landfall_common::strategy::Amount;
use landfall_common::{HostId, ReleaseName};
use landfall_controller_core::rollout::{Rollout, Stage};

use super::{Checks, Violation};

/// The failures that the controller's process was told of.
#[derive(Debug, Clone, Default)]
pub struct Failures {
    /// By host: the order that failed on it last, and the release.
    known: BTreeMap<HostId, (u64, ReleaseName)>,
    /// By host: an operator has said that all may begin anew, when this was the newest order.
    forgiven: BTreeMap<HostId, u64>,
}

impl Failures {
    /// Whether somebody has said since that all may begin anew.
    pub(super) fn is_forgiven(&self, host: &HostId, generation: u64) -> bool {
        self.forgiven.get(host).is_some_and(|newest| generation <= *newest)
    }
}

impl Checks {
    /// An operator wants to see it tried (again): what failed until now counts no more.
    pub fn may_try(&mut self) {
        for (host, newest) in &self.newest {
            self.failures.forgiven.insert(host.clone(), newest.generation.0);
        }
        self.failures.known.clear();
        self.forget_restarts();
    }

    /// An operator wants to see certain hosts tried again.
    pub(super) fn forgive(&mut self, hosts: &[HostId]) {
        for host in hosts {
            if let Some(newest) = self.newest.get(host) {
                self.failures.forgiven.insert(host.clone(), newest.generation.0);
            }
            self.failures.known.remove(host);
        }
        self.forgive_restarts(hosts);
    }

    pub(super) fn told_of_failure(&mut self, host: &HostId, report: &HostReport) {
        let Some(outcome) = &report.outcome else { return };
        let generation = outcome.generation.0;
        let failed = matches!(
            outcome.result,
            OutcomeKind::Reverted { .. } | OutcomeKind::Held { .. } | OutcomeKind::UndoFailed { .. }
        );
        let forgiven = self.failures.is_forgiven(host, generation);
        let Some(order) = self.sent.get(&(host.clone(), generation)) else { return };
        // What did not come up again had been proven: that is no failure of its release.
        let is_restart = matches!(order.order, Order::Restart { .. });
        if failed && !forgiven && !is_restart {
            self.failures.known.insert(host.clone(), (generation, order.release.name.clone()));
        }
    }

    pub(super) fn forget_failures(&mut self) {
        self.failures.known.clear();
    }

    /// A host is let go for a release.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn may_still_fail<'h>(
        &self,
        assignment: &Assignment,
        hosts: impl Iterator<Item = &'h HostId>,
        failure_budget: Amount,
        rollout: Option<&Rollout>,
    ) -> Result<(), Violation> {
        if !matches!(assignment.order, Order::Activate { .. }) {
            return Ok(());
        }
        let hosts: BTreeSet<&HostId> = hosts.collect();
        let name = &assignment.release.name;
        let goes_back = rollout.is_some_and(|rollout| {
            matches!(rollout.status.stage(), Some(Stage::RollingBack { .. }))
                && rollout.previous.as_ref() == Some(&assignment.release)
        });
        let failed: Vec<&str> = (self.failures.known.iter())
            .filter(|(host, (_, release))| hosts.contains(host) && release == name)
            // What failed on whoever was left out was somebody's to judge.
            .filter(|(host, _)| !self.alone.holds(host))
            // A host goes back to what it came from, though that had failed on it before: it is out in any case.
            .filter(|(host, _)| !goes_back || **host != assignment.host)
            .map(|(host, _)| host.as_str())
            .collect();
        let budget = match failure_budget {
            Amount::Count(most) => most as usize,
            Amount::Percent(percent) => hosts.len() * percent as usize / 100,
        };
        if failed.len() <= budget {
            return Ok(());
        }
        let what = format!(
            "{} was let go for {name} although that had failed on {} of {} hosts, and on {budget} it may: {}",
            assignment.host,
            failed.len(),
            hosts.len(),
            failed.join(", ")
        );
        Err(Violation::new("P6", what))
    }
}
