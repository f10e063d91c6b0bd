//! P5, after the last batch: a rollout whose environment asks for a watch succeeds only once it was watched for that
//! long, by a true clock and not by the controller's; or its hosts say, by their own, that they were well for that
//! long; or somebody has said that he has seen enough.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::RolloutId;
use landfall_common::report::Health;
use landfall_controller_core::member::{Member, MemberState};
use landfall_controller_core::rollout::{End, Rollout, RolloutKind, Stage, Status};

use super::{Checks, Violation};

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
    pub fn found(&mut self, rollout: &Rollout, true_ms: u64) {
        if let Some(Stage::Watching { accepted }) = rollout.status.stage() {
            self.since.entry(rollout.id.clone()).or_insert(true_ms);
            if *accepted {
                self.accepted.insert(rollout.id.clone());
            }
        }
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
        mut members: impl Iterator<Item = &'m Member>,
        true_ms: u64,
    ) -> Result<(), Violation> {
        self.watch.found(rollout, true_ms);
        let watch = rollout.strategy.watch;
        let succeeded = matches!(rollout.status, Status::Ended { end: End::Succeeded });
        let contracts = matches!(rollout.status.stage(), Some(Stage::Contracting { .. }));
        let must = (succeeded || contracts) && !watch.is_zero() && rollout.kind == RolloutKind::Forward;
        let id = &rollout.id;
        if !must || self.watch.accepted.contains(id) || self.watch.over.contains(id) {
            return Ok(());
        }
        let watched_ms = self.watch.since.get(&rollout.id).map_or(0, |since| true_ms.saturating_sub(*since));
        let well = |member: &Member| {
            let health = self.heard.get(&member.host).map(|heard| &heard.report.health);
            !matches!(member.state, MemberState::Committed { .. })
                || self.alone.holds(&member.host)
                || matches!(health, Some(Health::Healthy { period }) if *period >= watch)
        };
        if u128::from(watched_ms) >= watch.as_millis() || members.all(well) {
            self.watch.over.insert(id.clone());
            return Ok(());
        }
        let what = format!(
            "the watch of rollout {} of {} was over after {watched_ms} ms of {watch:?}",
            rollout.id, rollout.release.name
        );
        Err(Violation::new("P5", what))
    }
}
