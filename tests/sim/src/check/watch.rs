//! P5, after the last batch: a rollout whose environment asks for a watch succeeds only once it was watched for that
//! long, by a true clock and not by the controller's; or its hosts say, by their own, that they were well for that
//! long; or somebody has said that he has seen enough. What is far beyond its limits never does by itself.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::report::Health;
use landfall_common::{HostId, RolloutId};
use landfall_controller_core::member::{Member, MemberState};
use landfall_controller_core::rollout::{End, Rollout, RolloutKind, Stage, Status};

use super::{Checks, Heard, Violation};

/// What is known of watches.
#[derive(Debug, Default)]
pub struct Watch {
    /// When each began, by the true clock, in milliseconds.
    since: BTreeMap<RolloutId, u64>,
    /// Those of which somebody has seen enough.
    accepted: BTreeSet<RolloutId>,
    /// Those whose watch was over when the contract was begun, whatever hosts say after.
    over: BTreeSet<RolloutId>,
}

impl Watch {
    /// This is durable, perhaps by a commit whose answer died with the controller's process.
    fn found(&mut self, rollout: &Rollout, true_ms: u64) {
        if let Some(Stage::Watching { accepted, .. }) = rollout.status.stage() {
            self.since.entry(rollout.id.clone()).or_insert(true_ms);
            if *accepted {
                self.accepted.insert(rollout.id.clone());
            }
        }
    }

    fn judge(
        &mut self,
        rollout: &Rollout,
        was_watched: Option<Result<(), Violation>>,
    ) -> Result<(), Violation> {
        let Some(judged) = was_watched else { return Ok(()) };
        if judged.is_ok() {
            self.over.insert(rollout.id.clone());
        }
        judged
    }
}

impl Checks {
    /// A rollout's record has changed, at this moment by the true clock.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn is_watched<'m>(
        &mut self,
        rollout: &Rollout,
        members: impl Iterator<Item = &'m Member>,
        true_ms: u64,
    ) -> Result<(), Violation> {
        self.watch.found(rollout, true_ms);
        let was_watched = self.was_watched(rollout, members, &self.heard, true_ms);
        self.watch.judge(rollout, was_watched)
    }

    /// A controller starts and finds this durable: what the process before has decided, and has died over, it decided by
    /// what it had heard itself.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn watch_found<'m>(
        &mut self,
        rollout: &Rollout,
        members: impl Iterator<Item = &'m Member>,
        true_ms: u64,
    ) -> Result<(), Violation> {
        self.watch.found(rollout, true_ms);
        let was_watched = self.was_watched(rollout, members, &self.heard_before, true_ms);
        self.watch.judge(rollout, was_watched)
    }

    /// `None` where nothing is to be judged.
    fn was_watched<'m>(
        &self,
        rollout: &Rollout,
        mut members: impl Iterator<Item = &'m Member>,
        heard: &BTreeMap<HostId, Heard>,
        true_ms: u64,
    ) -> Option<Result<(), Violation>> {
        let watch = rollout.strategy.watch;
        let succeeded = matches!(rollout.status, Status::Ended { end: End::Succeeded });
        let contracts = matches!(rollout.status.stage(), Some(Stage::Contracting { .. }));
        // Before the second of two groups takes it.
        let in_two = rollout.groups.is_some();
        let goes_on = in_two && matches!(rollout.status.stage(), Some(Stage::Running { batch: 2 }));
        let must =
            (succeeded || contracts || goes_on) && !watch.is_zero() && rollout.kind == RolloutKind::Forward;
        let id = &rollout.id;
        if !must || self.watch.accepted.contains(id) || self.watch.over.contains(id) {
            return None;
        }
        let slow = self.releases.get(&rollout.release.digest).is_some_and(|release| release.plan.slow);
        if slow && rollout.strategy.limits.is_some() {
            let what = format!(
                "the watch of rollout {id} was over, and {} is far beyond its limits",
                rollout.release.name
            );
            return Some(Err(Violation::new("P5", what)));
        }
        let watched_ms = self.watch.since.get(id).map_or(0, |since| true_ms.saturating_sub(*since));
        let well = |member: &Member| {
            let health = heard.get(&member.host).map(|heard| &heard.report.health);
            !matches!(member.state, MemberState::Committed { .. })
                || self.alone.holds(&member.host)
                || matches!(health, Some(Health::Healthy { period }) if *period >= watch)
        };
        // Healthy without requests is no watch.
        if u128::from(watched_ms) >= watch.as_millis() || (!in_two && members.all(well)) {
            return Some(Ok(()));
        }
        let what = format!(
            "the watch of rollout {id} of {} was over after {watched_ms} ms of {watch:?}",
            rollout.release.name
        );
        Some(Err(Violation::new("P5", what)))
    }
}
