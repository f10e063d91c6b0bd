//! Where requests are led, and what is ended when none are led to it any more.

use landfall_common::Duration;
use landfall_common::ReleaseName;
use landfall_common::manifest::traffic::Slot;
use landfall_common::report::OutcomeKind;

use super::Turn;
use crate::effect::{Effect, Finish};
use crate::placement::{Aim, Kept, Placement, Target, TrafficOutline};
use crate::plan::Action;
use crate::state::{Activation, State};

/// What could not be ended is tried again after this.
const RETIRE_AGAIN: Duration = Duration::from_secs(30);

/// A plan that is begun again does not make room again: what is in the slot now is the release to come. How
/// many steps that leaves out.
pub(super) fn skip_what_made_room(plan: &mut Vec<Action>, placement: &Placement) -> usize {
    let start = plan.iter().position(|action| match action {
        Action::Start { slot, release, .. } => placement.slots.get(slot) == Some(release),
        _ => false,
    });
    plan.drain(..start.unwrap_or(0)).count()
}

impl Turn {
    /// The record may not know where the active release runs: it was made anew from what is on the disk. One that knows of
    /// others was left by a release for which room was made: what they serve they go on serving.
    pub(super) fn place_active(&mut self) {
        let Some(active) = self.machine.record.active() else { return };
        let name = active.release.name.clone();
        let placement = &self.machine.record.placement;
        if active.outline.slotted().is_some() && placement.slots.is_empty() {
            self.machine.record.placement.slots.insert(Slot::Blue, name);
        }
    }

    /// Where requests should go while nothing is being changed.
    fn wanted_aim(&self) -> Option<Aim> {
        let record = &self.machine.record;
        let active = record.active()?;
        let release = active.release.name.clone();
        let by = |to: Target| Some(Aim { by: release.clone(), to });
        match &active.outline.traffic {
            Some(TrafficOutline::Slots { .. }) => {
                let slot = record.placement.slot_of(&release)?;
                by(Target::Slot { slot, release: release.clone() })
            }
            // A release that was left in place although it failed gets no requests, nor does a host that is drained.
            Some(TrafficOutline::Gate) if record.in_doubt || record.led_away.is_some() => by(Target::Nowhere),
            Some(TrafficOutline::Gate) => by(Target::Open),
            // Whoever led them before still does; once this release is proven that is nobody's business.
            None => record.placement.last().map(|aim| match &aim.to {
                Target::Slot { .. } | Target::Plain { .. } => {
                    Aim { by: aim.by.clone(), to: Target::Plain { release } }
                }
                Target::Open | Target::Nowhere => Aim { by: aim.by.clone(), to: Target::Open },
            }),
        }
    }

    /// Asks for the aim to be as it should be, if it is not being changed anyway.
    pub(super) fn confirm_aim(&mut self) {
        let wanted = match &self.machine.record.state {
            State::Activating { .. } | State::Undoing { .. } => return,
            State::Proving { .. } | State::Smoking { .. } | State::Confirming { .. } => {
                let aim = self.machine.record.placement.aim.clone();
                // What was asked last may not have come about before this was begun.
                let is_away = self.machine.record.led_away.is_some();
                aim.map(|aim| {
                    if is_away && aim.to == Target::Open { Aim { to: Target::Nowhere, ..aim } } else { aim }
                })
            }
            _ => self.wanted_aim(),
        };
        match wanted {
            Some(aim) if !self.machine.live.aiming => {
                self.machine.live.aiming = true;
                self.effects.push(Effect::Aim { aim });
            }
            Some(_) => {}
            None => self.machine.live.misaimed = None,
        }
    }

    /// Whatever a proxy does by somebody's hand, it is told again, if nothing is under way: what is will lead requests
    /// itself.
    pub(super) fn misled(&mut self) {
        if self.machine.record.state == State::Idle {
            self.confirm_aim();
        }
    }

    /// An assignment has ended: is the aim what the active release wants?
    pub(super) fn settle_aim(&mut self) {
        if self.changes() {
            return;
        }
        let wanted = self.wanted_aim();
        let placement = &self.machine.record.placement;
        if wanted.is_some() && (wanted != placement.aim || placement.trying.is_some()) {
            let reason = "requests are not led to the active release yet".to_owned();
            self.machine.live.misaimed.get_or_insert(reason);
        }
        if self.machine.live.misaimed.is_some() {
            self.confirm_aim();
        }
    }

    /// An activation has ended, one way or the other.
    pub(super) fn end_activation(&mut self, activation: &Activation, result: OutcomeKind) {
        let (generation, to) = (activation.generation, &activation.to);
        let record = &mut self.machine.record;
        let keep = match record.active().map(|active| &active.outline.traffic) {
            Some(Some(TrafficOutline::Slots { keep, .. })) => Some(*keep),
            Some(Some(TrafficOutline::Gate) | None) | None => None,
        };
        let is_untouched = !matches!(result, OutcomeKind::Committed | OutcomeKind::Reverted { .. })
            && record.active.as_ref().is_some_and(|active| active != to);
        if is_untouched {
            // The same as on the way back, which there was none of.
            self.ensure();
        }
        let record = &mut self.machine.record;
        let is_committed = matches!(result, OutcomeKind::Committed);
        let is_certain = record.placement.trying.is_none();
        let is_nobodys = record.active().is_some_and(|active| active.outline.traffic.is_none());
        if is_committed && is_certain && is_nobodys {
            record.placement.aim = None;
        }
        let aimed = record.placement.aimed();
        let other = aimed.and_then(|slot| record.placement.slots.get(&slot.other()));
        let is_a_way_back = other.is_some_and(|release| record.proven.contains(release));
        let since = self.now.mono;
        record.placement.kept =
            keep.filter(|_| is_a_way_back).map(|keep| Kept { since, until: since + keep });
        self.end(generation, result);
        if !is_committed {
            // An attempt before a restart may have come as far as the swap, and this one not.
            self.name_active();
        }
    }

    /// Whether requests are being led elsewhere, or what gets them is not proven.
    pub(super) fn changes(&self) -> bool {
        match &self.machine.record.state {
            State::Activating { .. } | State::Undoing { .. } | State::Confirming { .. } => true,
            State::Proving { .. } | State::Smoking { .. } => true,
            State::Idle | State::Fetching { .. } | State::Unpacking { .. } | State::Preparing { .. } => false,
            State::Migrating { .. } => false,
        }
    }

    /// Ends what runs in a slot to no purpose.
    pub(super) fn retire(&mut self) {
        let live = &self.machine.live;
        let waits = live.retire_after.is_some_and(|from| self.now.mono < from);
        if self.changes() || waits || live.retiring.is_some() || live.misaimed.is_some() || live.aiming {
            return;
        }
        let placement = &self.machine.record.placement;
        if placement.kept.is_some_and(|kept| kept.lasts(self.now.mono)) {
            return;
        }
        let idle = placement.slots.iter().find(|(slot, _)| !self.machine.is_needed(**slot));
        let Some((slot, release)) = idle.map(|(slot, release)| (*slot, release.clone())) else { return };
        self.machine.live.retiring = Some(slot);
        self.effects.push(Effect::Retire { slot, release });
    }

    pub(super) fn retired(&mut self, slot: Slot, release: &ReleaseName, result: Result<(), String>) {
        // An activation has begun since, and has taken it into its plan.
        if self.machine.live.retiring != Some(slot) {
            return;
        }
        self.machine.live.retiring = None;
        self.machine.live.retire_after = result.is_err().then(|| self.now.mono + RETIRE_AGAIN);
        if result.is_err() {
            return;
        }
        self.vacated(slot, release);
        if let Some(keep) = self.machine.record.active().map(|active| active.outline.retention) {
            self.machine.record.retain(keep);
        }
        self.sweep();
        self.retire();
    }

    pub(super) fn vacated(&mut self, slot: Slot, release: &ReleaseName) {
        let placement = &mut self.machine.record.placement;
        if placement.slots.get(&slot) == Some(release) {
            placement.slots.remove(&slot);
            placement.kept = None;
        }
    }

    pub(super) fn leads(&mut self, aim: Aim) {
        self.machine.record.placement.know_aim(aim);
        self.machine.live.misaimed = None;
    }

    /// Whether requests go where they should has become uncertain.
    pub(super) fn lead_failed(&mut self, finish: &Finish) {
        if let Finish::Failed { failure } | Finish::Unknown { failure } = finish {
            self.machine.live.misaimed = Some(failure.reason.clone());
        }
    }

    pub(super) fn aimed(&mut self, aim: Aim, result: Result<(), String>) {
        // Requests have been led elsewhere since.
        if !std::mem::take(&mut self.machine.live.aiming) {
            return;
        }
        let before = self.machine.live.misaimed.clone();
        match result {
            Ok(()) => self.leads(aim),
            Err(reason) => self.machine.live.misaimed = Some(reason),
        }
        if self.machine.live.misaimed != before {
            self.effects.push(Effect::Report);
        }
        if self.machine.live.misaimed.is_none() {
            self.settle_aim();
            self.retire();
        }
    }
}
