//! Gates that others hold: which of them a rollout must find open before a batch begins, and what was said of each, by
//! those who came to say it or by those whom the [controller asked](crate::asked).
//!
//! An answer is for one rollout, and so for one release by its digest, and for one batch; only what is said while the
//! rollout waits there counts, and so after the batch before was proven.
//!
//! After the last batch they hold on while the release is [watched](WATCH): those that the controller asks are asked as
//! before, and of the others whoever has opened one may take that back.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use landfall_common::assignment::ReleaseRef;
use landfall_common::strategy::{Gate, GateUrl};
use landfall_common::{Duration, GateName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::log::Actor;
use crate::record::{Place, PlaceRecord};
use crate::refusal::Refusal;
use crate::rollout::{Rollout, RolloutKind, Stage};
use crate::state::State;

/// In place of the number of a batch that is to begin: none is, and the release is watched.
pub const WATCH: u32 = 0;

/// What was said of a gate. That nobody has said anything is no verdict of these, and opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateVerdict {
    /// The batch may begin.
    Open,
    /// Not now: it waits, for as long as that is what was said last.
    Closed,
    /// The release is not good: it goes back.
    Failed,
}

impl GateVerdict {
    /// All of them, with the words by which `ctl` and answers know them.
    pub const ALL: [(Self, &str); 3] =
        [(Self::Open, "open"), (Self::Closed, "closed"), (Self::Failed, "failed")];

    /// What a gate is or does, in a sentence.
    pub(crate) fn is(self) -> &'static str {
        match self {
            Self::Open => "is open",
            Self::Closed => "is closed",
            Self::Failed => "says no",
        }
    }
}

impl fmt::Display for GateVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(Self::ALL.iter().find(|(verdict, _)| verdict == self).map_or("", |(_, word)| word))
    }
}

/// What was said last of a gate, by whom, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateAnswer {
    /// What.
    pub verdict: GateVerdict,
    /// By whom.
    pub by: Actor,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
}

/// What is known of the gates before a batch, or in the watch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtGates {
    /// The batch that is to begin, from 1, or [`WATCH`].
    #[serde(default, skip_serializing_if = "is_watch")]
    pub next: u32,
    /// What was said since the rollout waits there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub answers: BTreeMap<GateName, GateAnswer>,
    /// Whether somebody has let it go although nobody is left of the canary, so that nothing will be proven.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_canary: bool,
    /// Whether somebody has said that the batch begins, or the watch ends, whatever the gates say.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overruled: bool,
    /// Those that were open then: nobody has overruled them, and what is said of them since counts.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub open_then: BTreeSet<GateName>,
}

impl AtGates {
    /// Nothing was said yet.
    #[must_use]
    pub fn before(next: u32) -> Self {
        Self { next, ..Self::default() }
    }

    /// Nothing was said in the watch yet.
    #[must_use]
    pub fn in_the_watch() -> Self {
        Self::before(WATCH)
    }

    /// Somebody lets it go on whatever those gates say that are not open. He overrules none that is: what is said of it
    /// after this counts.
    #[must_use]
    pub(crate) fn overruled_with(self, open: impl IntoIterator<Item = GateName>) -> Self {
        Self { overruled: true, open_then: open.into_iter().collect(), ..self }
    }

    /// Whether there is nothing to remember of a watch.
    pub(crate) fn is_untold(&self) -> bool {
        *self == Self::in_the_watch()
    }

    /// Whether a gate holds the batch, or the watch: nobody has overruled it.
    #[must_use]
    pub fn counts(&self, gate: &GateName) -> bool {
        !self.overruled || self.open_then.contains(gate)
    }
}

/// A gate, and what was said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing<'a> {
    /// Which.
    pub gate: &'a Gate,
    /// What was said last, if anything was that counts.
    pub said: Option<Said<'a>>,
    /// When one that the controller asks has last answered, whether that counts still or not.
    pub heard_at: Option<Timestamp>,
    /// Why the last question to one that the controller asks had no answer.
    pub error: Option<&'a str>,
    /// Whether it stands as it was before the last batch while nothing is said: in the watch one that somebody opens.
    pub stands: bool,
}

/// What counts of what was said of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said<'a> {
    /// What.
    pub verdict: GateVerdict,
    /// By whom.
    pub by: By<'a>,
    /// Since when.
    pub since: Timestamp,
    /// Why; whoever is asked may leave it out.
    pub reason: &'a str,
}

/// Who has said something of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By<'a> {
    /// Somebody came and said it.
    Somebody(&'a Actor),
    /// It was asked there.
    Asked(&'a GateUrl),
}

impl fmt::Display for By<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Somebody(actor) => actor.fmt(f),
            Self::Asked(url) => url.fmt(f),
        }
    }
}

impl<'a> Standing<'a> {
    /// How a gate stands, before a batch or in the watch.
    pub(crate) fn of(
        state: &'a State,
        rollout: &Rollout,
        at: &'a AtGates,
        gate: &'a Gate,
        now: Timestamp,
    ) -> Self {
        let Some(ask) = &gate.ask else {
            let said = at.answers.get(&gate.name).map(|GateAnswer { verdict, by, at, reason }| Said {
                verdict: *verdict,
                by: By::Somebody(by),
                since: *at,
                reason,
            });
            return Self { gate, said, heard_at: None, error: None, stands: at.next == WATCH };
        };
        let heard = state.asking.heard(rollout, at.next, gate, now);
        let said = heard.word.map(|(word, since)| Said {
            verdict: word.verdict,
            by: By::Asked(&ask.url),
            since,
            reason: &word.reason,
        });
        Self { gate, said, heard_at: heard.at, error: heard.error, stands: false }
    }

    /// The verdict; none is no answer.
    #[must_use]
    pub fn verdict(&self) -> Option<GateVerdict> {
        self.said.map(|said| said.verdict)
    }

    /// Whether it has no answer, and needs one.
    pub(crate) fn is_silent(&self) -> bool {
        self.said.is_none() && !self.stands
    }

    /// For how long it has had no answer, where the rollout has been seen to wait for so long.
    pub(crate) fn silent_for(&self, seen: Duration, now: Timestamp) -> Duration {
        self.heard_at.map_or(seen, |at| seen.min(now.since(at)))
    }

    /// Whether the batch may begin, or the watch end, as far as this gate is concerned.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.verdict().map_or(self.stands, |verdict| verdict == GateVerdict::Open)
    }
}

/// `qa-signoff is closed: by anna: the database moves`, or that there was no answer.
impl fmt::Display for Standing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.gate.name;
        match (&self.said, &self.gate.ask) {
            (None, None) => write!(f, "{name} has no answer"),
            (None, Some(ask)) => {
                write!(f, "{name} has no answer from {}", ask.url)?;
                self.error.map_or(Ok(()), |error| write!(f, ": {error}"))
            }
            (Some(Said { verdict, by, reason: "", .. }), _) => write!(f, "{name} {}, by {by}", verdict.is()),
            (Some(Said { verdict, by, reason, .. }), _) => {
                write!(f, "{name} {}, by {by}: {reason}", verdict.is())
            }
        }
    }
}

/// The gates of a place for a release: those of the release in force, and those that the release brings. A release does
/// not lift what holds in its place: of two with the same name the one in force counts.
#[must_use]
pub fn of<'a>(state: &'a State, place: &'a PlaceRecord, release: &ReleaseRef) -> Vec<&'a Gate> {
    let in_force = place.in_force().map(|proven| &proven.release);
    let mut all: Vec<&Gate> =
        in_force.into_iter().flat_map(|release| defined(state, &place.place, release)).collect();
    for gate in defined(state, &place.place, release) {
        if !all.iter().any(|known| known.name == gate.name) {
            all.push(gate);
        }
    }
    all.sort_by(|one, other| one.name.cmp(&other.name));
    all
}

fn defined<'a>(state: &'a State, place: &Place, release: &ReleaseRef) -> &'a [Gate] {
    let record = state.release(&place.application, &release.name);
    let strategy = record.and_then(|record| record.environments.get(&place.environment));
    strategy.map_or(&[], |strategy| &strategy.gates)
}

/// The gates that a rollout must find open before a batch begins, or in the [`WATCH`]. A way back waits for none.
#[must_use]
pub fn held<'a>(state: &'a State, rollout: &Rollout, batch: u32) -> Vec<&'a Gate> {
    let Some(place) = state.place(&rollout.place) else { return Vec::new() };
    let gates = of(state, place, &rollout.release).into_iter();
    gates.filter(|gate| holds(gate, rollout.kind, batch, rollout.batches)).collect()
}

/// Whether a gate must be open before a batch, of so many, or in the [`WATCH`].
#[must_use]
pub fn holds(gate: &Gate, kind: RolloutKind, batch: u32, of: u32) -> bool {
    match kind {
        RolloutKind::Forward if batch == WATCH => gate.holds_on(),
        RolloutKind::Forward => gate.holds(batch, of),
        // It has no second batch, and brings nothing to those that would be in one.
        RolloutKind::Drill => gate.holds(batch, of.max(2)),
        // It brings nothing new.
        RolloutKind::Rollback | RolloutKind::Restart => false,
    }
}

/// What is known of the gates that hold a rollout now, before a batch or in the watch, if any may.
#[must_use]
pub fn at(rollout: &Rollout) -> Option<&AtGates> {
    match rollout.status.stage()? {
        Stage::Gated { at } | Stage::Watching { at, .. } => Some(at),
        _ => None,
    }
}

/// `batch 2`, or the watch.
#[must_use]
pub fn moment(next: u32) -> String {
    if next == WATCH { "the end of the watch".to_owned() } else { format!("batch {next}") }
}

/// `batch 2 of 3`, or the watch.
pub(crate) fn what_waits(next: u32, of: u32) -> String {
    if next == WATCH { moment(next) } else { format!("{} of {of}", moment(next)) }
}

/// How the gates stand that hold a rollout now; empty for one that none holds.
#[must_use]
pub fn standings<'a>(state: &'a State, rollout: &'a Rollout, now: Timestamp) -> Vec<Standing<'a>> {
    let Some(at) = at(rollout) else { return Vec::new() };
    let gates = held(state, rollout, at.next).into_iter();
    gates.map(|gate| Standing::of(state, rollout, at, gate, now)).collect()
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_watch(next: &u32) -> bool {
    *next == WATCH
}

/// What a release asks where this controller may not.
///
/// # Errors
/// [`Refusal::GateNotAllowed`] for the first one.
pub(crate) fn may_be_asked(state: &State, release: &ReleaseRef, gates: &[Gate]) -> Result<(), Refusal> {
    let asked = gates.iter().filter_map(|gate| Some((gate, gate.ask.as_ref()?)));
    let not = asked.into_iter().find(|(_, ask)| !state.may_ask(&ask.url));
    not.map_or(Ok(()), |(gate, ask)| {
        Err(Refusal::GateNotAllowed {
            gate: gate.name.clone(),
            release: release.name.clone(),
            url: Box::new(ask.url.clone()),
        })
    })
}
