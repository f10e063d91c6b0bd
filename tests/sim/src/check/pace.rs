//! What a strategy promises beside the budget: no more change at once than its window holds, never hosts of two
//! groups, and none sooner after another than it says.

use std::collections::BTreeMap;

use landfall_common::assignment::Assignment;
use landfall_common::report::HostReport;
use landfall_common::strategy::{StrategyKind, Window};
use landfall_common::{HostId, LabelKey, Timestamp};
use landfall_controller_core::record::HostRecord;
use landfall_controller_core::rollout::Rollout;

use super::{Checks, Violation};

/// How far clocks may be apart before an expired grant could still be taken.
const SKEW_MS: u64 = 30_000;
/// Beside twice the healthy deadline: for so long an answer is awaited.
const PATIENCE_MS: u64 = 180_000;

/// The newest activation of each host, until it is answered or was surely not taken.
pub type LetGo = BTreeMap<HostId, Granted>;

/// An activation that was sent.
pub struct Granted {
    assignment: Assignment,
    /// How far the controller's clock has been since: what has lapsed stays so when the clock is set back.
    clock: Timestamp,
}

impl Granted {
    pub(super) fn new(assignment: &Assignment) -> Self {
        Self { assignment: assignment.clone(), clock: assignment.issued_at }
    }
}

impl Checks {
    /// A host says what became of what it was let go for.
    pub(super) fn told_of_activation(&mut self, host: &HostId, report: &HostReport, at: Timestamp) {
        for granted in self.let_go.values_mut() {
            granted.clock = granted.clock.max(at);
        }
        let Some(Granted { assignment: grant, .. }) = self.let_go.get(host) else { return };
        let answered = report.outcome.as_ref().is_some_and(|o| o.generation == grant.generation);
        let lapsed = report.generation < grant.generation && at.ms() > grant.expires_at.ms() + SKEW_MS;
        if answered || lapsed || report.generation > grant.generation {
            self.let_go.remove(host);
        }
    }

    /// A host is let go for the release that a rollout brings.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn in_step<'h>(
        &self,
        assignment: &Assignment,
        rollout: Option<&Rollout>,
        hosts: impl Iterator<Item = &'h HostRecord>,
    ) -> Result<(), Violation> {
        let Some(rollout) =
            rollout.filter(|rollout| !rollout.ended() && rollout.release == assignment.release)
        else {
            return Ok(());
        };
        let strategy = &rollout.strategy;
        if !assignment.order.takes_out() || strategy.kind == StrategyKind::AllAtOnce {
            return Ok(());
        }
        let hosts: BTreeMap<&HostId, &HostRecord> = hosts.map(|host| (&host.id, host)).collect();
        let of_this = |other: &&Assignment| {
            other.rollout == rollout.id && other.release == rollout.release && other.host != assignment.host
        };
        let now_ms = assignment.issued_at.ms();
        let patience_ms =
            PATIENCE_MS + 2 * u64::try_from(strategy.healthy_deadline.as_millis()).unwrap_or(u64::MAX);
        let beside: Vec<&Assignment> = (self.let_go.values())
            .filter(|other| other.clock.ms().max(now_ms) - other.assignment.issued_at.ms() < patience_ms)
            .map(|other| &other.assignment)
            .filter(of_this)
            .filter(|other| hosts.contains_key(&other.host))
            .collect();
        let broken =
            |what: String| Err(Violation::new("P4", format!("{} is let go {what}", assignment.host)));
        let most = match (strategy.kind, strategy.window) {
            (StrategyKind::OneAtATime, _) => 1,
            (_, Window::Sliding) => strategy.batch.at_least_one(hosts.len()),
            _ => usize::MAX,
        };
        if beside.len() >= most {
            return broken(format!("beside {} others, and {most} may change at once", beside.len()));
        }
        // By what operators were told, and as it is now.
        let group = |host: &HostId, label: &LabelKey| self.labels.of(host, label);
        if let Some(label) = &strategy.spread
            && let Some(other) =
                beside.iter().find(|other| group(&other.host, label) != group(&assignment.host, label))
        {
            return broken(format!("beside {}, which has another {label}", other.host));
        }
        let newest = (self.newest.values()).filter(of_this).filter(|other| hosts.contains_key(&other.host));
        let newest = newest.filter(|other| other.order.takes_out());
        // A clock that was set back tells nothing.
        let last_ms = newest.map(|other| other.issued_at.ms()).max().filter(|last| *last <= now_ms);
        let stagger_ms = u64::try_from(strategy.stagger.as_millis()).unwrap_or(u64::MAX);
        match last_ms {
            Some(last_ms) if now_ms - last_ms < stagger_ms => {
                broken(format!("{} ms after another, and {stagger_ms} are asked for", now_ms - last_ms))
            }
            _ => Ok(()),
        }
    }
}
