//! A restart brings nothing: what runs stays what it is, on every host; each host of a success was restarted as it was
//! asked, and no agent does it twice in one life; hosts that do not come up again are no more than may fail (P2, P5, P6).

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::assignment::{Assignment, Order};
use landfall_common::report::{HostReport, OutcomeKind};
use landfall_common::strategy::Amount;
use landfall_common::{HostId, RolloutId, ServiceName};
use landfall_controller_core::member::Member;
use landfall_controller_core::record::PlaceRecord;
use landfall_controller_core::rollout::{End, Rollout, RolloutKind, Status};

use super::{Checks, Violation};

/// What was really restarted, and what the controller's process was told of it.
#[derive(Debug, Clone, Default)]
pub struct Restarts {
    /// By host and order: which service, in which process of the agent.
    done: BTreeMap<(HostId, u64), BTreeSet<(ServiceName, u64)>>,
    /// Hosts that did not come up again, by the rollout that restarted them.
    failed: BTreeMap<RolloutId, BTreeSet<HostId>>,
}

impl Checks {
    /// A service was replaced, by this process of the host's agent, for the order of this number.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn service_restarted(
        &mut self,
        host: &HostId,
        generation: u64,
        process: u64,
        service: &ServiceName,
    ) -> Result<(), Violation> {
        let key = (host.clone(), generation);
        let asked = match self.sent.get(&key).map(|sent| &sent.order) {
            Some(Order::Restart { services, .. }) => services.contains(service),
            _ => false,
        };
        if !asked {
            let what = format!("{host} restarts {service}, and nobody has asked it to (g{generation})");
            return Err(Violation::new("P2", what));
        }
        if !self.restarts.done.entry(key).or_default().insert((service.clone(), process)) {
            let what =
                format!("{host} restarts {service} again in the same life of its agent (g{generation})");
            return Err(Violation::new("P2", what));
        }
        Ok(())
    }

    /// The controller hears how an order ended.
    pub(super) fn told_of_restart(&mut self, host: &HostId, report: &HostReport) {
        let Some(outcome) = &report.outcome else { return };
        let Some(order) = self.sent.get(&(host.clone(), outcome.generation.0)) else { return };
        // A report from before somebody has said that all may begin anew may come after his word.
        let is_forgiven = self.failures.is_forgiven(host, outcome.generation.0);
        if is_forgiven || !matches!(order.order, Order::Restart { .. }) {
            return;
        }
        let failed = self.restarts.failed.entry(order.rollout.clone()).or_default();
        match outcome.result {
            OutcomeKind::Held { .. } => failed.insert(host.clone()),
            _ => failed.remove(host),
        };
    }

    pub(super) fn forget_restarts(&mut self) {
        self.restarts.failed.clear();
    }

    /// These take part again: that they did not come up counts no more.
    pub(super) fn forgive_restarts(&mut self, hosts: &[HostId]) {
        for failed in self.restarts.failed.values_mut() {
            failed.retain(|host| !hosts.contains(host));
        }
    }

    /// A host is asked to restart services.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn may_restart<'h>(
        &self,
        assignment: &Assignment,
        hosts: impl Iterator<Item = &'h HostId>,
        rollout: Option<&Rollout>,
    ) -> Result<(), Violation> {
        let Order::Restart { .. } = assignment.order else { return Ok(()) };
        let Some(rollout) = rollout.filter(|rollout| rollout.kind == RolloutKind::Restart) else {
            let what = format!("{} is asked to restart by what is no restart", assignment.host);
            return Err(Violation::new("P1", what));
        };
        if rollout.previous.as_ref() != Some(&assignment.release) {
            let what = format!(
                "{} is to restart {} by a rollout over {:?}",
                assignment.host, assignment.release.name, rollout.previous
            );
            return Err(Violation::new("P6", what));
        }
        let Amount::Count(most) = rollout.strategy.failure_budget else { return Ok(()) };
        // Whoever was removed is nobody's any more.
        let hosts: BTreeSet<&HostId> = hosts.collect();
        let failed = self.restarts.failed.get(&rollout.id).into_iter().flatten();
        let failed = failed.filter(|host| hosts.contains(host));
        let failed = failed.filter(|host| **host != assignment.host && !self.alone.holds(host)).count();
        if failed <= most as usize {
            return Ok(());
        }
        let what = format!(
            "{} is restarted although {failed} hosts did not come up again, and {most} may fail",
            assignment.host
        );
        Err(Violation::new("P6", what))
    }

    /// A rollout's record has changed.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn restart_moves<'m>(
        &self,
        rollout: &Rollout,
        place: Option<&PlaceRecord>,
        members: impl Iterator<Item = &'m Member>,
    ) -> Result<(), Violation> {
        if rollout.kind != RolloutKind::Restart {
            return Ok(());
        }
        let id = &rollout.id;
        if place.is_some_and(|place| place.proven.iter().any(|proven| proven.rollout == *id)) {
            return Err(Violation::new("P6", format!("restart {id} brought something into force")));
        }
        if self.database.runs.iter().any(|run| run.rollout == *id) {
            return Err(Violation::new("P7", format!("restart {id} has migrated")));
        }
        if !matches!(rollout.status, Status::Ended { end: End::Succeeded }) {
            return Ok(());
        }
        for member in members.filter(|member| !self.alone.holds(&member.host)) {
            let host = &member.host;
            let mut sent = self.sent.iter().filter(|((to, _), sent)| to == host && sent.rollout == *id);
            let done = sent.any(|(key, sent)| match &sent.order {
                // It did not run what is in force, and was started with it.
                Order::Activate { .. } => sent.release == rollout.release,
                Order::Restart { services, .. } => {
                    let done: BTreeSet<&ServiceName> = self
                        .restarts
                        .done
                        .get(key)
                        .into_iter()
                        .flatten()
                        .map(|(service, _)| service)
                        .collect();
                    services.iter().all(|service| done.contains(service))
                }
                Order::Stage | Order::Migrate { .. } | Order::Drain { .. } => false,
            });
            if !done {
                return Err(Violation::new(
                    "P5",
                    format!("restart {id} is well over, and {host} was not restarted"),
                ));
            }
        }
        Ok(())
    }
}
