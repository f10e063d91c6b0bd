//! P4, the budget holds: no available host is let go if that would exceed it, counting as unavailable
//! whoever was not heard of, is not healthy, or may still take a grant.

use landfall_common::assignment::Assignment;
use landfall_common::report::{Health, HostReport, OutcomeKind, Phase};
use landfall_common::strategy::Amount;
use landfall_common::{HostId, Timestamp};

use super::{Checks, Violation};

/// Three heartbeats.
const HEARD_WITHIN_MS: u64 = 30_000;
/// How far clocks may be apart before an expired grant could still be taken.
const SKEW_MS: u64 = 30_000;
/// Why a host that serves counts as out.
const MAY_TAKE: &str = "it may take a grant";

impl Checks {
    /// An assignment leaves the controller for the first time.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn granted<'h>(
        &self,
        assignment: &Assignment,
        hosts: impl Iterator<Item = &'h HostId>,
        max_unavailable: Amount,
        now: Timestamp,
    ) -> Result<(), Violation> {
        // Whoever may still take an order may serve for all that.
        if !assignment.order.takes_out() || !self.serves(&assignment.host, now) {
            return Ok(());
        }
        let mut count = 0;
        let mut out = Vec::new();
        for host in hosts {
            count += 1;
            if *host != assignment.host
                && let Some(why) = self.is_out(host, now)
            {
                out.push(format!("{host} ({why})"));
            }
        }
        let most = match max_unavailable {
            Amount::Count(most) => most as usize,
            Amount::Percent(percent) => count * percent as usize / 100,
        };
        if out.len() < most.max(1) {
            return Ok(());
        }
        Err(Violation::new(
            "P4",
            format!(
                "{} is available and was let go for {} although {} of {count} hosts are out and {} may be: {}",
                assignment.host,
                assignment.release.name,
                out.len(),
                most.max(1),
                out.join(", ")
            ),
        ))
    }

    fn serves(&self, host: &HostId, now: Timestamp) -> bool {
        matches!(self.is_out(host, now), None | Some(MAY_TAKE))
    }

    /// Why a host cannot be counted on; of several reasons that it may take a grant is the last.
    pub(super) fn is_out(&self, host: &HostId, now: Timestamp) -> Option<&'static str> {
        let Some(heard) = self.heard.get(host) else { return Some("nothing was heard of it") };
        let stands = self.sessions.get(host) == Some(&heard.connection);
        let fresh = stands && now.ms().saturating_sub(heard.at.ms()) <= HEARD_WITHIN_MS;
        let report = &heard.report;
        let at_rest = matches!(
            report.phase,
            Phase::Idle | Phase::Fetching { .. } | Phase::Preparing { .. } | Phase::Migrating
        );
        let serves = report.active.is_some() && matches!(report.health, Health::Healthy { .. });
        let whys = [
            (!fresh, "it has fallen silent"),
            (!at_rest, "it changes"),
            (!serves, "it does not serve"),
            (self.drained.holds(host) || report.traffic.is_away(), "it is drained"),
            (self.may_take_a_grant(host), MAY_TAKE),
        ];
        whys.into_iter().find(|(is, _)| *is).map(|(_, why)| why)
    }

    /// What a host says once the time for its newest order is over proves that it has not taken it.
    pub(super) fn told_of_lapse(&mut self, host: &HostId, report: &HostReport, at: Timestamp) {
        let Some(newest) = self.newest.get(host) else { return };
        if report.generation < newest.generation && at.ms() > newest.expires_at.ms() + SKEW_MS {
            self.lapsed.insert((host.clone(), newest.generation.0));
        }
    }

    /// What was heard of what became of an order.
    pub(super) fn answer_to(&self, order: &Assignment) -> Option<&OutcomeKind> {
        let outcome = self.heard.get(&order.host)?.report.outcome.as_ref()?;
        (outcome.generation == order.generation).then_some(&outcome.result)
    }

    fn may_take_a_grant(&self, host: &HostId) -> bool {
        let Some(newest) = self.newest.get(host) else { return false };
        if !newest.order.takes_out() {
            return false;
        }
        let Some(heard) = self.heard.get(host) else { return true };
        if heard.report.generation > newest.generation || self.answer_to(newest).is_some() {
            return false;
        }
        if heard.report.generation == newest.generation {
            return true;
        }
        !self.lapsed.contains(&(host.clone(), newest.generation.0))
    }
}
