//! P6, what is done on nearly all hosts is not undone for the few that fail late, unless that is asked for.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::RolloutId;
use landfall_common::report::Health;
use landfall_controller_core::member::{Member, MemberState};
use landfall_controller_core::rollout::{Rollout, RolloutKind, Stage, Status};

use super::{Checks, Violation};

/// What is known of rollouts that may go back.
#[derive(Debug, Default)]
pub struct Late {
    /// Those that bring their release to host after host: how many have it, and how many are to have it.
    running: BTreeMap<RolloutId, (usize, usize)>,
    /// Those that somebody has told to go back, and those of which that cannot be known any more.
    asked: BTreeSet<RolloutId>,
}

impl Late {
    /// Somebody wants it to go back.
    pub fn ask(&mut self, rollout: &RolloutId) {
        self.asked.insert(rollout.clone());
    }
}

impl Checks {
    /// A rollout's record is about to change; these are its members as they are until then.
    pub fn about_to_change<'m>(&mut self, rollout: &Rollout, members: impl Iterator<Item = &'m Member>) {
        let Some(counts) = self.late.running.get_mut(&rollout.id) else { return };
        *counts = (0, 0);
        for member in members.filter(|member| !self.alone.holds(&member.host)) {
            // Who is not well may be about to fail.
            let health = self.heard.get(&member.host).map(|heard| &heard.report.health);
            let is_well =
                matches!(health, Some(Health::Healthy { period }) if *period >= rollout.strategy.min_healthy);
            counts.0 += usize::from(is_well && matches!(member.state, MemberState::Committed { .. }));
            counts.1 += 1;
        }
    }

    /// A rollout's record has changed.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn undoes_little(&mut self, rollout: &Rollout) -> Result<(), Violation> {
        let stage = match &rollout.status {
            Status::Active { stage } | Status::Paused { stage, .. } => Some(stage),
            Status::Ended { .. } => None,
        };
        if matches!(stage, Some(Stage::Running { .. } | Stage::Contracting { .. })) {
            self.late.running.entry(rollout.id.clone()).or_default();
            return Ok(());
        }
        let Some((done, all)) = self.late.running.remove(&rollout.id) else { return Ok(()) };
        // A drill is there to go back.
        let is_drill = rollout.kind == RolloutKind::Drill;
        let goes_back = !is_drill && matches!(stage, Some(Stage::RollingBack { .. }));
        let wanted = self.releases[&rollout.release.digest].plan.strategy.late_rollback;
        if !goes_back || wanted || self.late.asked.contains(&rollout.id) || done * 100 < all * 90 {
            return Ok(());
        }
        let what =
            format!("rollout {} goes back by itself although {done} of {all} hosts run it", rollout.id);
        Err(Violation::new("P6", what))
    }
}
