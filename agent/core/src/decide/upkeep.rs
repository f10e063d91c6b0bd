//! What is active is kept as it should be, whatever a disk or a manager refused at first: `current` names it, its
//! services run, its checks are asked.

use landfall_common::{Duration, ReleaseName};

use crate::effect::{Effect, Finish};
use crate::judge::Judge;
use crate::record::{Again, Watched};
use crate::state::State;

use super::Turn;

/// What could not be done is tried again after this,
const AGAIN: Duration = Duration::from_secs(2);
/// and after twice as long each time, up to this: a service that cannot be started costs a start each time.
const AGAIN_AT_MOST: Duration = Duration::from_secs(60);

impl Turn {
    /// Puts right what is due.
    pub(super) fn keep_up(&mut self) {
        if self.machine.live.misnamed.is_some() {
            self.name_active();
        }
        let now = self.now.mono;
        if self.machine.live.unwatched.as_ref().is_some_and(|again| again.is_due(now)) {
            self.watch_active();
        }
        if self.machine.live.idle.as_ref().is_some_and(|again| again.is_due(now)) && !self.restarts() {
            self.ensure();
        }
    }

    /// Whether services are being started and ended already.
    pub(super) fn restarts(&self) -> bool {
        matches!(self.machine.record.state, State::Activating { .. } | State::Undoing { .. })
    }

    /// Starts those services of the active release that do not run.
    pub(super) fn ensure(&mut self) {
        let Some(release) = self.machine.record.active.clone() else { return };
        if let Some(again) = &mut self.machine.live.idle {
            again.at = None;
        }
        self.effects.push(Effect::Ensure { release });
    }

    pub(super) fn ensured(&mut self, release: &ReleaseName, result: Result<(), String>) {
        // What was replaced meanwhile is no longer what was asked for.
        if self.machine.record.active.as_ref() != Some(release) {
            return;
        }
        let before = self.machine.live.idle.take();
        self.machine.live.idle = result.err().map(|reason| again(before.as_ref(), reason, self.now.mono));
        let reason = |again: &Option<Again>| again.as_ref().map(|again| again.reason.clone());
        if reason(&before) != reason(&self.machine.live.idle) {
            self.effects.push(Effect::Report);
        }
    }

    /// Begins the checks of the active release, all of whose answers are to come.
    pub(super) fn watch_active(&mut self) {
        if let Some(again) = &mut self.machine.live.unwatched {
            again.at = None;
        }
        let Some(active) = self.machine.record.active() else {
            self.machine.live.watch = None;
            return;
        };
        let release = active.release.name.clone();
        let slot = self.machine.record.placement.slot_of(&release);
        let judge = Judge::new(&active.outline.checks_in(slot), self.now.mono);
        self.machine.live.watches += 1;
        let number = self.machine.live.watches;
        self.machine.live.watch = Some(Watched { number, release: release.clone(), judge });
        self.effects.push(Effect::Watch { watch: number, release });
    }

    /// The checks could not be begun: nobody will answer.
    pub(super) fn unwatched(&mut self, number: u64, reason: String) {
        let is_newest = self.machine.live.watch.as_ref().is_some_and(|watch| watch.number == number);
        if !is_newest {
            return;
        }
        let before = self.machine.live.unwatched.take();
        self.machine.live.unwatched = Some(again(before.as_ref(), reason, self.now.mono));
        self.effects.push(Effect::Report);
    }

    /// A swap has failed, and whether its rename took place is not known.
    pub(super) fn swap_failed(&mut self, finish: &Finish) {
        if let Finish::Failed { failure } | Finish::Unknown { failure } = finish
            && self.machine.record.active.is_some()
        {
            self.machine.live.misnamed = Some(failure.reason.clone());
        }
    }

    /// Takes `current` back to what the record says.
    pub(super) fn name_active(&mut self) {
        match self.machine.record.active.clone() {
            // A swap that is under way names what it will.
            Some(release) if !self.restarts() => self.effects.push(Effect::NameActive { release }),
            _ => {}
        }
    }

    pub(super) fn named(&mut self, result: Result<(), String>) {
        let misnamed = result.err();
        if self.machine.live.misnamed != misnamed {
            self.machine.live.misnamed = misnamed;
            self.effects.push(Effect::Report);
        }
    }
}

/// It has failed, perhaps not for the first time.
fn again(before: Option<&Again>, reason: String, now: Duration) -> Again {
    let pause = before.map_or(AGAIN, |before| (before.pause * 2).min(AGAIN_AT_MOST));
    Again { reason, pause, at: Some(now + pause) }
}
