//! P5 and P6 of a canary that is compared with others: it goes on by itself only on figures of both, and never if it is
//! plainly worse.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::{HostId, RolloutId};
use landfall_controller_core::member::Member;
use landfall_controller_core::rollout::{Rollout, Stage};

use super::{Checks, Violation};
use crate::application::Shows;
use crate::artifact::ReleasePlan;

/// So many figures of each side are the least that can be evidence: of five windows each.
const LEAST: u64 = 5;

/// What a release may be like.
type Is = fn(&ReleasePlan) -> bool;

/// What the controller's process has heard while a canary was held.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Of each host, how often it told of probes since the canary of the rollout is held.
    heard: BTreeMap<HostId, u64>,
    /// The rollout whose canary that is.
    held: Option<RolloutId>,
}

impl Checks {
    /// Figures of a host reached the controller.
    pub fn figures_heard(&mut self, host: &HostId, connection: u64, probes: u32) {
        if self.sessions.get(host) == Some(&connection) && probes > 0 {
            *self.figures.heard.entry(host.clone()).or_default() += 1;
        }
    }

    /// A rollout's record changes: a canary that is compared goes on by itself only with evidence, and not if the
    /// release is plainly slower than the one before. Asked before [`Checks::rollout_moves`].
    ///
    /// # Errors
    /// [`Violation`].
    pub fn canary_moves<'m>(
        &mut self,
        rollout: &Rollout,
        members: impl Iterator<Item = &'m Member>,
    ) -> Result<(), Violation> {
        let was_held = self.figures.held.as_ref() == Some(&rollout.id);
        let stage = rollout.status.stage();
        if let Some(Stage::Canary { .. }) = stage {
            if !was_held {
                self.figures = Figures { held: Some(rollout.id.clone()), ..Figures::default() };
            }
            return Ok(());
        }
        let figures = std::mem::take(&mut self.figures);
        let figures = if was_held { figures } else { Figures::default() };
        let goes_on = matches!(stage, Some(Stage::Running { batch: 2.. }))
            && self.open_batch.get(&rollout.id).is_none_or(|batch| *batch < 2);
        let asked = rollout.has_canary() && rollout.strategy.analysis.is_some();
        let Some(previous) = rollout.previous.as_ref().filter(|_| asked && goes_on) else { return Ok(()) };
        if self.promoted.contains(&rollout.id) {
            return Ok(());
        }
        let canary: BTreeSet<HostId> =
            members.filter(|member| member.batch == 1).map(|member| member.host.clone()).collect();
        let of = |is_canary: bool| {
            let heard = figures.heard.iter().filter(|(host, _)| canary.contains(*host) == is_canary);
            heard.map(|(_, times)| times).sum::<u64>()
        };
        let (of_canary, of_others) = (of(true), of(false));
        if of_canary.min(of_others) < LEAST {
            return Err(Violation::new(
                "P5",
                format!(
                    "rollout {} goes on after its canary by itself on {of_canary} figures of it and {of_others} of others",
                    rollout.id
                ),
            ));
        }
        let decides = rollout.strategy.analysis.as_ref().is_some_and(|analysis| analysis.memory.critical);
        let shows = |digest| self.releases.get(digest).and_then(|release| release.plan.shows);
        let both = shows(&rollout.release.digest).zip(shows(&previous.digest));
        if both.is_some_and(|(shows, before)| shows.is_missing() || before.is_missing()) {
            let (name, before) = (&rollout.release.name, &previous.name);
            let what =
                format!("{name} beside {before} shows nothing of what decides, and was let go on by itself");
            return Err(Violation::new("P5", what));
        }
        let shows_both = both.is_some();
        let worse: [(&str, Is, bool); 4] = [
            ("is far slower", |plan| plan.slow, true),
            ("ends by itself far more often", |plan| plan.restless, true),
            ("holds far more memory", |plan| plan.hungry, decides),
            ("fails far more requests", |plan| plan.shows == Some(Shows::Failing), shows_both),
        ];
        for (how, is_so, decides) in worse {
            let is_so = |digest| self.releases.get(digest).is_some_and(|release| is_so(&release.plan));
            if decides && is_so(&rollout.release.digest) && !is_so(&previous.digest) {
                let (name, before) = (&rollout.release.name, &previous.name);
                let what = format!("{name} {how} than {before}, and was let go on by itself");
                return Err(Violation::new("P6", what));
            }
        }
        Ok(())
    }

    /// A process has started from this rollout: the one before may have died once its canary was held.
    pub fn canary_found(&mut self, rollout: &Rollout) {
        if let Some(Stage::Canary { .. }) = rollout.status.stage() {
            self.figures.held = Some(rollout.id.clone());
        }
    }

    /// The controller's process has started: what the one before had heard is gone.
    pub(super) fn forget_figures(&mut self) {
        self.figures.heard.clear();
    }
}
