//! P5, gates that others hold: no batch begins beyond one without somebody's word that it is open, said for this
//! rollout and this batch after the batch before was proven, and not taken back since; or without somebody's word that
//! it does not matter. Of one that the controller asks itself, it was asked since the batch waits, not long ago, and has
//! answered nothing else since. No way back waits for one.
//!
//! A watch is not over before each gate but those of the first batch holds on: the controller was told so by whom it asks,
//! and nobody has shut another one meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::strategy::{Ask, Before, Gate};
use landfall_common::{GateName, HostId, RolloutId};
use landfall_controller_core::State;
use landfall_controller_core::asked::{Question, Word};
use landfall_controller_core::command::Action;
use landfall_controller_core::gate::{self, GateVerdict, WATCH};
use landfall_controller_core::member::{Member, MemberState};
use landfall_controller_core::rollout::{End, Rollout, RolloutKind, Stage, Status};

use super::{Checks, Violation};

/// A gate before a batch of a rollout.
type Held = (RolloutId, u32, GateName);

/// What was said, by what integrations and operators were answered.
#[derive(Debug, Clone, Default)]
pub struct Words {
    /// Of a gate before a batch, what was said last, and of whom of the batch before it was not known by then that
    /// it runs the release.
    said: BTreeMap<(RolloutId, u32, GateName), (GateVerdict, Option<String>)>,
    overruled: BTreeSet<(RolloutId, u32)>,
    /// The last batch of a rollout that has begun.
    begun: BTreeMap<RolloutId, u32>,
    /// Since when each rollout that is not paused has waited for the gates before a batch, in the world's time.
    waits: BTreeMap<RolloutId, (u32, u64)>,
    /// Rollouts whose watch has begun, and is not over.
    watched: BTreeSet<RolloutId>,
    /// Hosts of the batches before that were not let go yet when a rollout began to wait: they were away, the batch was
    /// proven without them, and they may come while it waits.
    late: BTreeSet<(RolloutId, HostId)>,
    /// Of each gate that the controller asks, the newest question, by its process and its number, and when it was asked.
    asked: BTreeMap<Held, ((u64, u64), u64)>,
    /// And what was answered last to one that was the newest by then, with the time of that question.
    heard: BTreeMap<(RolloutId, u32, GateName), (GateVerdict, u64)>,
}

/// The last batch that has begun, by a record. More than one may have in one decision.
fn begun(rollout: &Rollout) -> Option<u32> {
    match rollout.status.stage()? {
        Stage::Running { batch } => Some(*batch),
        // With it the rollout begins to change things.
        Stage::Migrating { .. } => Some(1),
        Stage::Gated { at } => Some(at.next - 1),
        // Its hosts may have been proven, or have come to nothing, in the decision in which it began.
        Stage::Canary { .. } => Some(1),
        // The second of two groups waits for its gates before requests change over, and not once more after the watch.
        Stage::Switching => Some(2),
        Stage::Watching { .. } if rollout.groups.is_some() => Some(2),
        _ => None,
    }
}

impl Words {
    /// What a process of the controller finds in its store: words whose answers died with the one before are among it.
    pub fn found(&mut self, state: &State, now: u64) {
        // What was asked died with the one before.
        self.asked.clear();
        self.heard.clear();
        self.waits.clear();
        for rollout in state.rollouts() {
            let members: Vec<&Member> = state.members(&rollout.id).collect();
            self.waits_from(rollout, members.into_iter(), now);
        }
        for rollout in state.rollouts() {
            if let Some(batch) = begun(rollout) {
                self.begun.insert(rollout.id.clone(), batch);
            }
            let Some(at) = gate::at(rollout) else { continue };
            for (gate, answer) in &at.answers {
                let key = (rollout.id.clone(), at.next, gate.clone());
                let known = self.said.entry(key).or_insert((answer.verdict, None));
                known.0 = answer.verdict;
            }
            if at.overruled {
                self.overruled.insert((rollout.id.clone(), at.next));
            }
        }
    }
}

impl Words {
    /// From when on answers count, and who of the batches before is late: nobody waits for it, though it may still come,
    /// or be tried again.
    fn waits_from<'m>(
        &mut self,
        rollout: &Rollout,
        members: impl Iterator<Item = &'m Member> + Clone,
        now: u64,
    ) {
        // Whoever is proven is late no more.
        for member in members.clone().filter(|member| matches!(member.state, MemberState::Committed { .. })) {
            self.late.remove(&(rollout.id.clone(), member.host.clone()));
        }
        match rollout.status.stage() {
            Some(Stage::Watching { .. }) => drop(self.watched.insert(rollout.id.clone())),
            _ => drop(self.watched.remove(&rollout.id)),
        }
        let is_paused = matches!(rollout.status, Status::Paused { .. });
        let Some(at) = gate::at(rollout).filter(|_| !is_paused) else {
            self.waits.remove(&rollout.id);
            return;
        };
        if self.waits.get(&rollout.id).is_some_and(|(batch, _)| *batch == at.next) {
            return;
        }
        self.waits.insert(rollout.id.clone(), (at.next, now));
        let late = members.filter(|member| member.batch < at.next).filter(|member| {
            matches!(
                member.state,
                MemberState::Pending
                    | MemberState::Staging { .. }
                    | MemberState::Staged
                    | MemberState::Failed { .. }
            )
        });
        self.late.extend(late.map(|member| (rollout.id.clone(), member.host.clone())));
    }

    /// Whether a gate that the controller asks has let a batch begin.
    fn has_answered(
        &self,
        gate: &Gate,
        ask: &Ask,
        rollout: &RolloutId,
        batch: u32,
        now: u64,
    ) -> Result<(), String> {
        let Some((verdict, asked_at)) = self.heard.get(&(rollout.clone(), batch, gate.name.clone())) else {
            return Err("has not answered".to_owned());
        };
        let since = self.waits.get(rollout).filter(|(waits, _)| *waits == batch).map(|(_, since)| *since);
        let most = u64::try_from((ask.every * 2 + ask.timeout).as_millis()).unwrap_or(u64::MAX);
        match verdict {
            GateVerdict::Open if now - asked_at > most => Err(format!("was asked {} ms ago", now - asked_at)),
            GateVerdict::Open if since.is_none_or(|since| *asked_at < since) => {
                Err(format!("was asked at {asked_at}, and the batch waits since {since:?}"))
            }
            GateVerdict::Open => Ok(()),
            verdict => Err(format!("has answered {verdict}")),
        }
    }
}

impl Checks {
    /// The controller asks a gate.
    pub fn asks_gate(&mut self, question: &Question, process: u64, now: u64) {
        let about = &question.about;
        let key = (about.rollout.clone(), about.batch, about.gate.clone());
        self.gates.asked.insert(key, ((process, question.number), now));
    }

    /// And it is told something, of which it knows when it has asked for it.
    pub fn gate_answers(&mut self, question: &Question, came: &Result<Word, String>) {
        let about = &question.about;
        let key = (about.rollout.clone(), about.batch, about.gate.clone());
        let asked = self.gates.asked.get(&key).filter(|((_, number), _)| *number == question.number);
        if let (Some((_, at)), Ok(word)) = (asked, came) {
            self.gates.heard.insert(key, (word.verdict, *at));
        }
    }

    /// A word is about to be given: what it is about is told by what has begun by now.
    pub fn says_of_gate(&mut self, state: &State, action: &Action) {
        match action {
            Action::AnswerGate { rollout, gate, verdict, .. } => {
                let next =
                    if self.gates.watched.contains(rollout) { WATCH } else { self.next_batch(rollout) };
                let digest = state.rollout(rollout).map(|rollout| rollout.release.digest);
                // Nobody waits for those that somebody has left out in the middle of it.
                let waited_for = state.members(rollout).filter(|member| member.left_out.is_none());
                let is_late =
                    |member: &Member| self.gates.late.contains(&(rollout.clone(), member.host.clone()));
                let before = waited_for.filter(|member| member.batch + 1 == next && !is_late(member));
                let early = before.into_iter().find(|member| {
                    let proven =
                        digest.is_some_and(|digest| self.proven.contains(&(member.host.clone(), digest)));
                    let under_way = matches!(member.state, MemberState::Granted { .. });
                    let committed = matches!(member.state, MemberState::Committed { .. });
                    under_way || (committed && !proven)
                });
                let early = early.map(|member| format!("{} was {:?} by then", member.host, member.state));
                self.gates.said.insert((rollout.clone(), next, gate.clone()), (*verdict, early));
            }
            Action::Promote { rollout, .. } => {
                let stage = state.rollout(rollout).and_then(|rollout| rollout.status.stage());
                let overruled = match stage {
                    Some(Stage::Gated { .. }) => self.next_batch(rollout),
                    Some(Stage::Watching { .. }) => WATCH,
                    _ => return,
                };
                self.gates.overruled.insert((rollout.clone(), overruled));
            }
            _ => {}
        }
    }

    fn next_batch(&self, rollout: &RolloutId) -> u32 {
        self.gates.begun.get(rollout).map_or(1, |begun| begun + 1)
    }

    /// A rollout's record has changed. `members` are those of the rollout.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn gates_were_open<'m>(
        &mut self,
        rollout: &Rollout,
        members: impl Iterator<Item = &'m Member> + Clone,
        now: u64,
    ) -> Result<(), Violation> {
        let opened = self.were_open(rollout, members.clone(), now).and_then(|()| self.held_on(rollout, now));
        self.gates.waits_from(rollout, members, now);
        opened
    }

    fn were_open<'m>(
        &mut self,
        rollout: &Rollout,
        mut members: impl Iterator<Item = &'m Member>,
        now: u64,
    ) -> Result<(), Violation> {
        let Some(begun) = begun(rollout) else { return Ok(()) };
        let broken = |what: String| Err(Violation::new("P5", what));
        let first = self.next_batch(&rollout.id);
        for (gate, batch) in (first..=begun).flat_map(|batch| self.gates_before(rollout, batch)) {
            if self.gates.overruled.contains(&(rollout.id.clone(), batch)) {
                continue;
            }
            let what = format!("batch {batch} of rollout {} begins, and gate {}", rollout.id, gate.name);
            if let Some(ask) = &gate.ask {
                let answered = self.gates.has_answered(&gate, ask, &rollout.id, batch, now);
                answered.or_else(|why| broken(format!("{what} {why}")))?;
                continue;
            }
            let said = self.gates.said.get(&(rollout.id.clone(), batch, gate.name.clone()));
            match said {
                Some((GateVerdict::Open, None)) => {}
                Some((GateVerdict::Open, Some(early))) => {
                    return broken(format!("{what} was opened too early: {early}"));
                }
                Some((verdict, _)) => return broken(format!("{what} is {verdict}")),
                None => return broken(format!("{what} has no answer")),
            }
        }
        // A migration that did not take effect is handed out anew, and its gates are asked anew before that.
        if self.gates.begun.insert(rollout.id.clone(), begun).is_some_and(|before| before > begun) {
            self.gates.said.retain(|(id, batch, _), _| *id != rollout.id || *batch <= begun);
            self.gates.overruled.retain(|(id, batch)| *id != rollout.id || *batch <= begun);
        }
        let let_go = members
            .find(|member| member.batch > begun && matches!(member.state, MemberState::Granted { .. }));
        let_go
            .map_or(Ok(()), |member| broken(format!("{} of batch {} was let go", member.host, member.batch)))
    }

    /// The watch of a rollout is over.
    fn held_on(&self, rollout: &Rollout, now: u64) -> Result<(), Violation> {
        let is_over = match &rollout.status {
            Status::Ended { end } => *end == End::Succeeded,
            Status::Active { stage } => match stage {
                Stage::Contracting { .. } => true,
                Stage::Running { .. } => rollout.groups.is_some(),
                _ => false,
            },
            Status::Paused { .. } => false,
        };
        let overruled = self.gates.overruled.contains(&(rollout.id.clone(), WATCH));
        if !self.gates.watched.contains(&rollout.id) || !is_over || overruled {
            return Ok(());
        }
        for (gate, watch) in self.gates_before(rollout, WATCH) {
            let held = match &gate.ask {
                Some(ask) => self.gates.has_answered(&gate, ask, &rollout.id, watch, now),
                None => match self.gates.said.get(&(rollout.id.clone(), watch, gate.name.clone())) {
                    None | Some((GateVerdict::Open, _)) => Ok(()),
                    Some((verdict, _)) => Err(format!("is {verdict}")),
                },
            };
            held.map_err(|why| {
                Violation::new(
                    "P5",
                    format!("the watch of rollout {} is over, and gate {} {why}", rollout.id, gate.name),
                )
            })?;
        }
        Ok(())
    }

    /// By the definitions: those of the release, and those of the one before it, which count where both have one.
    fn gates_before(&self, rollout: &Rollout, batch: u32) -> Vec<(Gate, u32)> {
        let of = match rollout.kind {
            RolloutKind::Forward => rollout.batches,
            RolloutKind::Drill => 2,
            RolloutKind::Rollback | RolloutKind::Restart => return Vec::new(),
        };
        let gates =
            |digest| self.releases.get(digest).map_or(&[][..], |release| &release.plan.strategy.gates);
        let before = rollout.previous.as_ref().map_or(&[][..], |previous| gates(&previous.digest));
        let own = gates(&rollout.release.digest).iter();
        let own = own.filter(|gate| before.iter().all(|other| other.name != gate.name));
        let holds = |gate: &&Gate| match gate.before {
            Before::First => batch == 1,
            _ if batch == WATCH => true,
            Before::Second => batch == 2 || (batch == 1 && of == 1),
            Before::Each => true,
        };
        before.iter().chain(own).filter(holds).map(|gate| (gate.clone(), batch)).collect()
    }
}
