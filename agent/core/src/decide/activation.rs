//! Swapping, restarting, proving, committing, and the way back.

use landfall_common::assignment::OnFailure;
use landfall_common::report::{Failure, Health, OutcomeKind};
use landfall_common::{Duration, Generation, ReleaseName};

use super::Turn;
use super::staging::failure_of;
use crate::effect::Finish;
use crate::judge::Verdict;
use crate::plan::{self, Action};
use crate::record::Installed;
use crate::state::{Activation, State, Terms};
use crate::step;

impl Turn {
    pub(super) fn begin_activation(&mut self, generation: Generation, to: &Installed, terms: Terms) {
        let record = &self.machine.record;
        let name = to.release.name.clone();
        let activation = Activation { generation, from: record.active.clone(), to: name.clone(), terms };
        let runs_well = record.active.as_ref() == Some(&name)
            && record.strays.is_empty()
            && !record.in_doubt
            && matches!(self.machine.health(self.now), Health::Healthy { .. });
        if runs_well {
            // It is what runs already, and well: nothing is restarted, but it is proven afresh.
            self.watch_active();
            return self.enter(State::Proving { activation });
        }
        let from = record.active().filter(|active| active.release.name != name);
        let mut plan = plan::forward(from, to);
        plan::end_strays(&mut plan, &record.strays, to);
        self.enter(State::Activating { activation, plan, at: 0 });
    }

    pub(super) fn acted(&mut self, activation: Activation, plan: Vec<Action>, at: usize, finish: Finish) {
        if finish != Finish::Ok {
            if let Action::Swap { .. } = &plan[at] {
                self.swap_failed(&finish);
            }
            return self.fail(activation, &plan[..=at], failure_of(finish));
        }
        match &plan[at] {
            Action::Swap { to } => {
                self.leave_strays(to);
                self.swapped(to);
            }
            Action::Restart { service, .. } | Action::Stop { service, .. } => {
                self.machine.record.strays.remove(service);
            }
        }
        if at + 1 < plan.len() {
            return self.enter(State::Activating { activation, plan, at: at + 1 });
        }
        self.watch_active();
        self.enter(State::Proving { activation });
        self.tick();
    }

    fn swapped(&mut self, to: &ReleaseName) {
        let record = &mut self.machine.record;
        if let Some(installed) = record.installed.get(to) {
            record.strays.retain(|service, _| !installed.outline.services.contains(service));
        }
        record.active = Some(to.clone());
        record.in_doubt = true;
        self.machine.live.watch = None;
        self.machine.live.misnamed = None;
    }

    /// What the release that was active has and the next one has not runs on until its turn comes.
    fn leave_strays(&mut self, to: &ReleaseName) {
        let record = &mut self.machine.record;
        let Some(active) = record.active.as_ref().filter(|active| *active != to) else { return };
        let (Some(from), Some(to)) = (record.installed.get(active), record.installed.get(to)) else { return };
        let left = from.outline.services.iter().filter(|service| !to.outline.services.contains(service));
        let left: Vec<_> = left.map(|service| (service.clone(), from.release.name.clone())).collect();
        record.strays.extend(left);
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
        self.proven(&activation.to);
        let record = &mut self.machine.record;
        let keep = record.installed.get(&activation.to).map_or(2, |i| i.outline.retention);
        record.state = State::Idle;
        record.retain(keep);
        self.end(activation.generation, OutcomeKind::Committed);
    }

    fn proven(&mut self, name: &ReleaseName) {
        let proven = &mut self.machine.record.proven;
        proven.retain(|known| known != name);
        proven.insert(0, name.clone());
        self.machine.record.in_doubt = false;
    }

    /// The release failed after all of its steps.
    fn fail_whole(&mut self, activation: Activation, failure: Failure) {
        let record = &self.machine.record;
        let from = activation.from.as_ref().filter(|from| **from != activation.to);
        let from = from.and_then(|name| record.installed.get(name));
        let begun =
            record.installed.get(&activation.to).map(|to| plan::forward(from, to)).unwrap_or_default();
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
                return self.end(activation.generation, OutcomeKind::Held { failure });
            }
        };
        let Some(to) = record.installed.get(&activation.to) else {
            let undo = Failure::new(step("undo"), "the failed release is not on record");
            return self.end(activation.generation, OutcomeKind::UndoFailed { failure, undo });
        };
        let from = activation.from.as_ref().and_then(|name| record.installed.get(name));
        let mut plan = plan::back(from, to, back, begun);
        plan::end_strays(&mut plan, &record.strays, back);
        let back = back.release.name.clone();
        self.enter(State::Undoing { activation, failure, back, plan, at: 0, undo: None });
    }

    pub(super) fn undone(&mut self, state: State, finish: Finish) {
        let State::Undoing { activation, failure, back, plan, at, mut undo } = state else { return };
        match (finish, &plan[at]) {
            (Finish::Ok, Action::Swap { to }) => self.swapped(to),
            (Finish::Ok, Action::Restart { service, .. } | Action::Stop { service, .. }) => {
                self.machine.record.strays.remove(service);
            }
            // Services would be restarted from a link that still leads to the failed release.
            (finish, Action::Swap { .. }) => {
                self.swap_failed(&finish);
                self.watch_active();
                let undo = failure_of(finish);
                return self.end(activation.generation, OutcomeKind::UndoFailed { failure, undo });
            }
            // The other services are still worth bringing back.
            (finish, Action::Restart { .. } | Action::Stop { .. }) => {
                undo.get_or_insert(failure_of(finish));
            }
        }
        if at + 1 < plan.len() {
            return self.enter(State::Undoing { activation, failure, back, plan, at: at + 1, undo });
        }
        self.watch_active();
        if let Some(undo) = undo {
            return self.end(activation.generation, OutcomeKind::UndoFailed { failure, undo });
        }
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
                self.end(activation.generation, OutcomeKind::Reverted { failure });
            }
            Verdict::TimedOut { check, reason } => {
                let undo = Failure::new(check, format!("release {back} is back, but {reason}"));
                self.end(activation.generation, OutcomeKind::UndoFailed { failure, undo });
            }
        }
    }
}
