//! P3 and P5, two groups of hosts: requests are led away from one only while enough of the other serve, and none come to a
//! release before it is proven and nobody has let them.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::assignment::{Assignment, Order};
use landfall_common::report::{Health, HostReport, OutcomeKind, Traffic};
use landfall_common::strategy::{Amount, StrategyKind};
use landfall_common::{HostId, RolloutId, Sha256, Timestamp};
use landfall_controller_core::command::Action;
use landfall_controller_core::record::HostRecord;
use landfall_controller_core::rollout::{Rollout, RolloutKind, Stage};

use super::{Checks, Violation};

/// What is known of requests that rollouts lead.
#[derive(Debug, Clone, Default)]
pub struct Groups {
    /// Releases that are to get no requests yet, by their rollouts.
    held: BTreeMap<RolloutId, Sha256>,
    /// Hosts that somebody has undrained by hand: that is his word for it.
    by_hand: BTreeSet<HostId>,
}

impl Groups {
    /// A word is about to be given; whether it is taken, only the answer tells.
    pub fn asked(&mut self, action: &Action) {
        if let Action::Undrain { hosts, .. } = action {
            self.by_hand.extend(hosts.iter().cloned());
        }
    }

    /// This is durable.
    pub fn found(&mut self, rollout: &Rollout) {
        if rollout.groups.is_none() || rollout.kind != RolloutKind::Forward {
            return;
        }
        match rollout.status.stage() {
            Some(Stage::Running { batch: 1 } | Stage::Canary { .. }) => {
                self.held.insert(rollout.id.clone(), rollout.release.digest);
            }
            Some(
                Stage::InLine { .. }
                | Stage::Staging
                | Stage::Migrating { .. }
                | Stage::Gated { .. }
                | Stage::RollingBack { .. },
            ) => {}
            // Once requests have changed over, and once it is over, others decide.
            _ => drop(self.held.remove(&rollout.id)),
        }
    }
}

impl Checks {
    /// A host is told where its requests are to go, for the first time by this order.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn is_led<'h>(
        &self,
        assignment: &Assignment,
        rollout: Option<&Rollout>,
        hosts: impl Iterator<Item = &'h HostRecord>,
        now: Timestamp,
    ) -> Result<(), Violation> {
        let Order::Drain { away } = assignment.order else { return Ok(()) };
        let host = &assignment.host;
        if away && !self.drained.holds(host) { self.others_serve(host, rollout, hosts, now) } else { Ok(()) }
    }

    /// Whether a host was told last to have its requests led away, and may still take that.
    fn may_be_led_away(&self, host: &HostId) -> bool {
        let away = |newest: &&Assignment| newest.order == Order::Drain { away: true };
        let newest = self.newest.get(host).filter(away);
        newest.is_some_and(|newest| {
            let is_refused = matches!(self.answer_to(newest), Some(OutcomeKind::Refused { .. }));
            !is_refused && !self.lapsed.contains(&(host.clone(), newest.generation.0))
        })
    }

    fn others_serve<'h>(
        &self,
        host: &HostId,
        rollout: Option<&Rollout>,
        hosts: impl Iterator<Item = &'h HostRecord>,
        now: Timestamp,
    ) -> Result<(), Violation> {
        let rollout = rollout.filter(|rollout| !rollout.ended() && rollout.groups.is_some());
        let Some(rollout) = rollout else {
            let what = format!("requests are led away from {host}, and nobody has asked for it");
            return Err(Violation::new("P3", what));
        };
        // As it was signed, whatever the rollout's own record says.
        let signed = self.releases[&rollout.release.digest].plan.strategy.clone();
        let strategy = if signed.kind == StrategyKind::BlueGreen { signed } else { rollout.strategy.clone() };
        let Some(label) = &strategy.spread else { return Ok(()) };
        let hosts: Vec<&HostRecord> = hosts.collect();
        let own = hosts.iter().find(|known| known.id == *host).and_then(|known| known.labels.get(label));
        let others =
            hosts.iter().filter(|known| known.labels.get(label).is_some_and(|group| Some(group) != own));
        let (mut count, mut serve) = (0_usize, 0_usize);
        for other in others {
            count += 1;
            serve += usize::from(self.is_out(&other.id, now).is_none() && !self.may_be_led_away(&other.id));
        }
        let may_be_out = match strategy.max_unavailable {
            Amount::Count(most) => most as usize,
            Amount::Percent(percent) => count * percent as usize / 100,
        };
        let needed = count.saturating_sub(may_be_out).max(1);
        let ails =
            self.heard.get(host).is_some_and(|heard| matches!(heard.report.health, Health::Unhealthy { .. }));
        if serve >= needed || ails {
            return Ok(());
        }
        Err(Violation::new(
            "P3",
            format!(
                "requests are led away from {host} for rollout {}, and {serve} of {count} others serve, of {needed}",
                rollout.id
            ),
        ))
    }

    /// A host says what it runs, and whether requests come to it.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn gets_no_requests_early(&self, host: &HostId, report: &HostReport) -> Result<(), Violation> {
        let Some(active) = &report.active else { return Ok(()) };
        if report.traffic != Traffic::Led || self.groups.by_hand.contains(host) {
            return Ok(());
        }
        for (rollout, digest) in &self.groups.held {
            let by_it = |sent: &Assignment| {
                sent.host == *host
                    && sent.rollout == *rollout
                    && sent.release.digest == *digest
                    && matches!(sent.order, Order::Activate { .. })
            };
            if active.release.digest == *digest && self.sent.values().any(by_it) {
                let what = format!(
                    "requests come to {host} with {}, and rollout {rollout} has not led them there",
                    active.release.name
                );
                return Err(Violation::new("P5", what));
            }
        }
        Ok(())
    }
}
