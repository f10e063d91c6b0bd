//! Swapping, restarting, proving, committing, and the way back.

use landfall_common::assignment::{OnFailure, ReleaseRef};
use landfall_common::report::{Failure, Health, OutcomeKind};
use landfall_common::{Duration, Generation, ReleaseName};

use super::Turn;
use super::staging::failure_of;
use crate::effect::Finish;
use crate::judge::Verdict;
use crate::placement::Target;
use crate::plan::{self, Action};
use crate::record::{Installed, Record};
use crate::state::{Activation, State, Terms};
use crate::step;

impl Turn {
    pub(super) fn begin_activation(&mut self, generation: Generation, to: &Installed, terms: Terms) {
        let record = &self.machine.record;
        if let Some(reason) = not_from_here(record, to) {
            let failure = Failure::new(step("accept"), reason);
            return self.end(generation, OutcomeKind::Refused { failure });
        }
        let name = to.release.name.clone();
        let (from, from_in_doubt) = (record.active.clone(), record.in_doubt);
        let activation =
            Activation { generation, from, from_in_doubt, to: name.clone(), terms, is_restart: false };
        let runs_well = record.active.as_ref() == Some(&name)
            && record.strays.is_empty()
            && !record.in_doubt
            && record.placement.has_its_slot(to)
            && matches!(self.machine.health(self.now), Health::Healthy { .. });
        if runs_well {
            // It is what runs already, and well: nothing is restarted, but it is proven afresh.
            self.watch_active();
            return self.enter(State::Proving { activation });
        }
        let from = record.active().filter(|active| active.release.name != name);
        let mut plan = plan::forward(from, to, &record.placement);
        plan::end_strays(&mut plan, &record.strays, to);
        if let Err(reason) = self.away_with(&mut plan, to) {
            let failure = Failure::new(step("drain"), reason);
            return self.end(generation, OutcomeKind::Refused { failure });
        }
        // What is under way comes first, and what it was about the plan now knows.
        self.machine.live.retiring = None;
        self.enter(State::Activating { activation, plan, at: 0, reached: 0 });
    }

    pub(super) fn acted(&mut self, state: State, finish: Finish) {
        let State::Activating { activation, plan, at, reached } = state else { return };
        if finish != Finish::Ok {
            match &plan[at] {
                Action::Swap { .. } => self.swap_failed(&finish),
                Action::Lead { .. } => self.lead_failed(&finish),
                _ => {}
            }
            let failure = failure_of(finish);
            if activation.is_restart {
                return self.restart_failed(&activation, at.max(reached) > 0, failure);
            }
            self.left_undone(&plan[at..], &activation.to, &failure);
            return self.fail(activation, &plan[..=at.max(reached)], failure);
        }
        match &plan[at] {
            Action::Swap { to } => self.swapped(to, &plan[at + 1..]),
            action => self.was_done(action),
        }
        if at + 1 < plan.len() {
            return self.enter(State::Activating { activation, plan, at: at + 1, reached });
        }
        if activation.is_restart {
            self.restarted();
        }
        self.machine.record.mixed = None;
        self.watch_active();
        self.enter(State::Proving { activation });
        self.tick();
    }

    /// What the record says after an action that is not a swap.
    fn was_done(&mut self, action: &Action) {
        match action {
            Action::Restart { service, .. } | Action::Stop { service, .. } => {
                self.machine.record.strays.remove(service);
            }
            Action::Lead { aim } => self.leads(aim.clone()),
            Action::Retire { slot, release } => self.vacated(*slot, release),
            Action::Swap { .. } | Action::Renew { .. } | Action::Start { .. } | Action::WarmUp { .. } => {}
        }
    }

    /// What the steps to come will end runs on until then, and after them if they are never taken.
    fn swapped(&mut self, to: &ReleaseName, rest: &[Action]) {
        let record = &mut self.machine.record;
        if let Some(installed) = record.installed.get(to) {
            record.strays.retain(|service, _| !installed.outline.has_plain(service));
        }
        record.strays.extend(rest.iter().filter_map(|action| match action {
            Action::Stop { service, release } => Some((service.clone(), release.clone())),
            _ => None,
        }));
        record.active = Some(to.clone());
        record.in_doubt = true;
        self.machine.live.watch = None;
        self.machine.live.misnamed = None;
        self.machine.live.idle = None;
        self.machine.live.unwatched = None;
    }

    /// The way to a release has ended before these steps.
    fn left_undone(&mut self, rest: &[Action], to: &ReleaseName, failure: &Failure) {
        let record = &mut self.machine.record;
        if record.active.as_ref() == Some(to) && rest.iter().any(|action| action.service().is_some()) {
            record.mixed = Some(failure.clone());
        }
    }

    pub(super) fn prove(&mut self, activation: Activation) {
        // After a restart in this state the checks were begun anew, and with them the window and its deadline.
        let Some(watch) = &self.machine.live.watch else { return };
        let terms = &activation.terms;
        match watch.judge.verdict(terms.min_healthy, terms.healthy_deadline, self.now.mono) {
            Verdict::Waiting(_) => {}
            Verdict::TimedOut { check, reason } => self.fail_whole(activation, Failure::new(check, reason)),
            Verdict::Proven => self.smoke(activation, 0),
        }
    }

    fn smoke(&mut self, activation: Activation, at: usize) {
        let tests = self.machine.record.installed.get(&activation.to).map_or(0, |i| i.outline.smoke.len());
        if at < tests {
            self.enter(State::Smoking { activation, at });
        } else {
            self.commit(&activation);
        }
    }

    pub(super) fn smoked(&mut self, activation: Activation, at: usize, finish: Finish) {
        match finish {
            Finish::Ok => self.smoke(activation, at + 1),
            other => self.fail_whole(activation, failure_of(other)),
        }
    }

    fn commit(&mut self, activation: &Activation) {
        if activation.is_restart {
            return self.commit_restart(activation);
        }
        self.proven(&activation.to);
        let record = &mut self.machine.record;
        let keep = record.installed.get(&activation.to).map_or(2, |i| i.outline.retention);
        record.state = State::Idle;
        record.retain(keep);
        self.end_activation(activation, OutcomeKind::Committed);
    }

    pub(super) fn proven(&mut self, name: &ReleaseName) {
        let proven = &mut self.machine.record.proven;
        proven.retain(|known| known != name);
        proven.insert(0, name.clone());
        self.machine.record.in_doubt = false;
    }

    /// The release failed after all of its steps.
    fn fail_whole(&mut self, activation: Activation, failure: Failure) {
        if activation.is_restart {
            return self.restart_failed(&activation, true, failure);
        }
        let record = &self.machine.record;
        let from = activation.from.as_ref().filter(|from| **from != activation.to);
        let from = from.and_then(|name| record.installed.get(name));
        let to = record.installed.get(&activation.to);
        let begun = to.map(|to| plan::whole(from, to, &record.placement)).unwrap_or_default();
        self.fail(activation, &begun, failure);
    }

    /// The release failed in the last of the steps that were begun: back, or hold.
    fn fail(&mut self, activation: Activation, begun: &[Action], failure: Failure) {
        let record = &self.machine.record;
        let way_back = match activation.terms.on_failure {
            OnFailure::Hold => Err(None),
            OnFailure::Revert => {
                record.way_back(&activation.to).ok_or(Some("there is no proven release to go back to"))
            }
        };
        let back = match way_back {
            Ok(back) => back,
            Err(why) => {
                let mut failure = failure;
                if let Some(why) = why {
                    failure.reason = format!("{}; left in place, for {why} on this host", failure.reason);
                }
                if self.machine.live.watch.is_none() {
                    self.watch_active();
                }
                if self.machine.record.active.as_ref() == Some(&activation.to) {
                    self.machine.record.in_doubt = true;
                }
                return self.end_activation(&activation, OutcomeKind::Held { failure });
            }
        };
        let Some(to) = record.installed.get(&activation.to) else {
            let undo = Failure::new(step("undo"), "the failed release is not on record");
            return self.end_activation(&activation, OutcomeKind::UndoFailed { failure, undo });
        };
        let from = activation.from.as_ref().and_then(|name| record.installed.get(name));
        // What ran before may have been a mix: then undoing what was begun would only bring that mix back.
        let from = from.filter(|from| !activation.from_in_doubt || from.release != back.release);
        let mut plan = plan::back(from, to, back, begun, &record.placement);
        plan::end_strays(&mut plan, &record.strays, back);
        self.keep_away(&mut plan);
        let back = back.release.name.clone();
        self.enter(State::Undoing { activation, failure, back, plan, at: 0, undo: None });
    }

    pub(super) fn undone(&mut self, state: State, finish: Finish) {
        let State::Undoing { activation, failure, back, plan, at, mut undo } = state else { return };
        match (finish, &plan[at]) {
            (Finish::Ok, Action::Swap { to }) => self.swapped(to, &plan[at + 1..]),
            (Finish::Ok, action) => self.was_done(action),
            // Services would be restarted from a link that still leads to the failed release, or be ended
            // while they get the requests.
            (finish, action) if is_a_ground(action, &plan[at..]) => {
                match action {
                    Action::Swap { .. } => self.swap_failed(&finish),
                    Action::Lead { .. } => self.lead_failed(&finish),
                    _ => {}
                }
                self.watch_active();
                let undo = failure_of(finish);
                self.left_undone(&plan[at..], &back, &undo);
                return self.end_activation(&activation, OutcomeKind::UndoFailed { failure, undo });
            }
            // On the way back that is not worth stopping for; it is taken in again below.
            (_, Action::Lead { aim }) if aim.to == Target::Nowhere => {}
            // The other services are still worth bringing back.
            (finish, _) => {
                undo.get_or_insert(failure_of(finish));
            }
        }
        if at + 1 < plan.len() {
            return self.enter(State::Undoing { activation, failure, back, plan, at: at + 1, undo });
        }
        self.watch_active();
        self.machine.record.mixed = undo.clone();
        if let Some(undo) = undo {
            return self.end_activation(&activation, OutcomeKind::UndoFailed { failure, undo });
        }
        // What was not touched on the way there may have stopped meanwhile: the host may have been rebooted.
        self.ensure();
        self.enter(State::Confirming { activation, failure, back });
        self.tick();
    }

    /// The way back is verified as the way there: its checks must pass, once, within the deadline.
    pub(super) fn confirm(&mut self, activation: &Activation, failure: Failure, back: &ReleaseName) {
        let Some(watch) = &self.machine.live.watch else { return };
        match watch.judge.verdict(Duration::ZERO, activation.terms.healthy_deadline, self.now.mono) {
            Verdict::Waiting(_) => {}
            Verdict::Proven => {
                self.proven(back);
                self.end_activation(activation, OutcomeKind::Reverted { failure });
            }
            Verdict::TimedOut { check, reason } => {
                let undo = Failure::new(check, format!("release {back} is back, but {reason}"));
                self.end_activation(activation, OutcomeKind::UndoFailed { failure, undo });
            }
        }
    }

    /// Whether to take a release up may end the proof of what is active for nothing: it is newer, and has to be fetched
    /// first, or follows something else. A way back never waits.
    pub(super) fn comes_after_the_proof(&self, release: &ReleaseRef) -> bool {
        let record = &self.machine.record;
        let is_newer = record.active().is_some_and(|active| active.release.counter < release.counter);
        let installed = record.installed.get(&release.name);
        is_newer && installed.is_none_or(|installed| not_from_here(record, installed).is_some())
    }
}

/// Why a release cannot be taken by a host that runs what this one does, if it cannot: the release says in what is signed
/// what it follows, whoever orders it. A way back is never held by it, since what is older follows something older still.
fn not_from_here(record: &Record, to: &Installed) -> Option<String> {
    let follows = to.outline.follows.as_ref()?;
    let active = record.active()?;
    let is_proven = record.is_proven(&active.release.name) && !record.in_doubt;
    if follows.is_met_by(active.release.counter, is_proven) {
        return None;
    }
    let (to, from, stop) = (&to.release.name, &active.release.name, &follows.release);
    Some(match from == stop {
        true => format!("{to} follows {stop}, which is active here and not proven"),
        false => format!("{to} follows {stop}, so that a host takes that first, and here {from} is active"),
    })
}

/// Whether what comes after it on the way back stands on it.
fn is_a_ground(action: &Action, rest: &[Action]) -> bool {
    let leads_to_service =
        |action: &Action| matches!(action, Action::Lead { aim } if matches!(aim.to, Target::Plain { .. }));
    match action {
        Action::Restart { .. } => rest.iter().any(leads_to_service),
        Action::Swap { .. } | Action::Start { .. } | Action::WarmUp { .. } => true,
        Action::Lead { aim } => matches!(aim.to, Target::Slot { .. } | Target::Plain { .. }),
        Action::Renew { .. } | Action::Stop { .. } | Action::Retire { .. } => false,
    }
}
