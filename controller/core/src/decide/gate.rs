//! What somebody says of a gate that a rollout waits at, or that holds on while it is watched.

use landfall_common::strategy::{Before, Gate};
use landfall_common::{GateName, RolloutId};

use crate::analysis::Verdict;
use crate::command::Answer;
use crate::gate::{self, AtGates, GateAnswer, GateVerdict, Standing};
use crate::log::{Actor, LogEvent};
use crate::record::Record;
use crate::refusal::Refusal;
use crate::rollout::{Rollout, Stage, Status};

use super::Draft;
use super::control::wrong;

impl Draft<'_> {
    /// Notes what was said. It is for the batch that is to begin next, or for the watch, and for no other; whoever knows
    /// which one he means says so.
    pub(super) fn answer_gate(
        &mut self,
        id: &RolloutId,
        name: &GateName,
        batch: Option<u32>,
        verdict: GateVerdict,
        reason: &str,
    ) -> Result<Answer, Refusal> {
        let mut rollout = self.unfinished(id)?.clone();
        if reason.trim().is_empty() {
            return Err(Refusal::GateWithoutReason { gate: name.clone(), verdict });
        }
        if let Some(Gate { ask: Some(ask), .. }) = self.known_gate(&rollout, name) {
            return Err(Refusal::GateIsAsked { gate: name.clone(), url: Box::new(ask.url.clone()) });
        }
        let held = gate::standings(self.state, &rollout, self.now);
        if !held.iter().any(|standing| standing.gate.name == *name) {
            return Err(Refusal::GateNotAsked {
                gate: name.clone(),
                rollout: id.clone(),
                status: rollout.status.word(),
                reason: not_asked(&held, self.known_gate(&rollout, name).map(|gate| gate.before)),
            });
        }
        let answer = Answer::Rollout { id: id.clone() };
        let (Status::Active { stage: Stage::Gated { at } | Stage::Watching { at, .. } }
        | Status::Paused { stage: Stage::Gated { at } | Stage::Watching { at, .. }, .. }) =
            &mut rollout.status
        else {
            return Ok(answer);
        };
        let next = at.next;
        if let Some(batch) = batch.filter(|batch| *batch != next) {
            let now = gate::moment(next);
            return Err(Refusal::OtherBatch { gate: name.clone(), rollout: id.clone(), batch, now });
        }
        let said = GateAnswer {
            verdict,
            by: self.command.by.clone(),
            at: self.now,
            reason: reason.trim().to_owned(),
        };
        let same = |known: &GateAnswer| {
            (known.verdict, &known.by, &known.reason) == (verdict, &said.by, &said.reason)
        };
        if at.answers.get(name).is_some_and(same) {
            return Ok(answer);
        }
        at.answers.insert(name.clone(), said);
        self.log(LogEvent::GateAnswered {
            rollout: id.clone(),
            gate: name.clone(),
            batch: u64::from(next),
            release: rollout.release.clone(),
            verdict,
            reason: reason.trim().to_owned(),
        });
        self.put(Record::Rollout(Box::new(rollout)));
        Ok(answer)
    }

    /// Somebody says that the batch begins whatever the gates say that are not open. What they have paused waits for this
    /// word. Of those that are open he overrules none: one that is closed after this holds.
    pub(super) fn overrule_gates(
        &mut self,
        rollout: Rollout,
        at: AtGates,
        reason: &str,
    ) -> Result<Answer, Refusal> {
        let answer = Answer::Rollout { id: rollout.id.clone() };
        let (open, shut) = self.open_and_shut(&rollout, &at);
        if at.overruled && shut.is_empty() {
            return Ok(answer);
        }
        let is_held = matches!(rollout.status, Status::Paused { by: Actor::Controller, .. });
        if shut.is_empty() && !is_held {
            let waits = match rollout.status {
                Status::Paused { .. } => {
                    "its gates are open, and somebody has paused it; `ctl resume` goes on"
                }
                _ => "its gates are open, and it waits for its hosts; `ctl status` says for which",
            };
            return Err(wrong(&rollout, waits));
        }
        let overruled = shut.join("; ");
        let batch = u64::from(at.next);
        let id = rollout.id.clone();
        self.log(LogEvent::RolloutPromoted { rollout: id, batch, overruled, reason: reason.to_owned() });
        let at = if shut.is_empty() { at } else { at.overruled_with(open) };
        self.goes_on_to(rollout, Stage::Gated { at }, is_held, reason);
        Ok(answer)
    }

    /// Somebody has seen enough of a watch, whatever those of its gates say that are not open.
    pub(super) fn end_watch(
        &mut self,
        rollout: Rollout,
        accepted: bool,
        at: AtGates,
        reason: &str,
    ) -> Result<Answer, Refusal> {
        let answer = Answer::Rollout { id: rollout.id.clone() };
        let (open, shut) = self.open_and_shut(&rollout, &at);
        // What the controller has paused waits for this word, whatever has become of the reason since.
        let is_held = matches!(rollout.status, Status::Paused { by: Actor::Controller, .. });
        if accepted && shut.is_empty() && !is_held {
            return Ok(answer);
        }
        let limits = if accepted { None } else { self.beyond_limits(&rollout) };
        let overruled: Vec<String> = limits.into_iter().chain(shut.iter().cloned()).collect();
        let (id, overruled) = (rollout.id.clone(), overruled.join("; "));
        self.log(LogEvent::WatchEnded { rollout: id, overruled, reason: reason.to_owned() });
        let at = if shut.is_empty() { at } else { at.overruled_with(open) };
        self.goes_on_to(rollout, Stage::Watching { accepted: true, at }, is_held, reason);
        Ok(answer)
    }

    /// Of the gates that hold a rollout now and that nobody has overruled, the names of those that are open, and what the
    /// others say: `gate qa is closed, by anna: …`.
    fn open_and_shut(&self, rollout: &Rollout, at: &AtGates) -> (Vec<GateName>, Vec<String>) {
        let standings = gate::standings(self.state, rollout, self.now);
        let counting = standings.iter().filter(|standing| at.counts(&standing.gate.name));
        let (open, shut): (Vec<&Standing<'_>>, Vec<&Standing<'_>>) =
            counting.partition(|standing| standing.is_open());
        let names = open.into_iter().map(|standing| standing.gate.name.clone()).collect();
        (names, shut.into_iter().map(|standing| format!("gate {standing}")).collect())
    }

    /// What the limits of a release that is watched say, where it is not known to keep within them.
    fn beyond_limits(&self, rollout: &Rollout) -> Option<String> {
        rollout.strategy.limits.as_ref()?;
        let comparison = self.state.comparison(&rollout.id).filter(|comparison| comparison.is_of_the_watch());
        match comparison.map(|comparison| (comparison.verdict(), comparison.report().to_string())) {
            Some((Verdict::Pass, _)) => None,
            Some((_, report)) if !report.is_empty() => Some(format!("its limits: {report}")),
            _ => Some("its limits: no host has sent figures".to_owned()),
        }
    }

    /// What gates have paused waits for this word, and for no other.
    fn goes_on_to(&mut self, mut rollout: Rollout, stage: Stage, is_held: bool, reason: &str) {
        if is_held {
            self.log(LogEvent::RolloutResumed { rollout: rollout.id.clone(), reason: reason.to_owned() });
            rollout.goes_on(stage.clone(), self.now);
        }
        rollout.enter(stage, self.now);
        self.put(Record::Rollout(Box::new(rollout)));
    }

    /// The gate of this name that holds a rollout, if one ever does.
    fn known_gate(&self, rollout: &Rollout, name: &GateName) -> Option<&Gate> {
        let place = self.state.place(&rollout.place)?;
        let gates = gate::of(self.state, place, &rollout.release);
        gates.into_iter().find(|gate| gate.name == *name)
    }
}

fn not_asked(held: &[Standing<'_>], before: Option<Before>) -> String {
    let asked: Vec<&str> = held.iter().map(|standing| standing.gate.name.as_str()).collect();
    let now = match asked.as_slice() {
        [] => "no gate is asked now".to_owned(),
        asked => format!("it waits for {}", asked.join(", ")),
    };
    match before {
        None => format!("it has no gate of this name, and {now}; `ctl gate list` shows its gates"),
        Some(before) => format!(
            "it asks this one before {before}, and {now}; say it when `ctl gate list` shows it as asked"
        ),
    }
}
