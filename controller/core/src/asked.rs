//! Gates that the controller asks: which questions are due, what came back, and who may be asked at all.
//!
//! Nothing of it is stored. What a gate has answered counts for the rollout and the batch that wait for it, or for its
//! watch, only if it was asked since they do, and only for a while: whoever does not answer any more has not said that
//! it is still so. A question has a number, and an answer to any but the newest is nobody's.

use std::collections::BTreeMap;

use landfall_common::assignment::ReleaseRef;
use landfall_common::strategy::{Ask, Gate, GateUrl};
use landfall_common::{Duration, GateName, RolloutId, Timestamp};

use crate::gate::{self, GateVerdict};
use crate::observation::Attention;
use crate::record::Place;
use crate::rollout::{Rollout, Status};
use crate::state::State;

/// So many questions are under way at the same time, of all rollouts together.
pub const AT_ONCE: usize = 16;

/// Added to the time that an answer may take, before a question counts as lost: the shell answers each, and one that it
/// has not must not be the last.
const LOST_AFTER: Duration = Duration::from_secs(30);

/// What a gate says for a reason is cut here: it stands in the log.
pub const MAX_REASON: usize = 300;

/// Where the controller may ask, as its own administrator has said: nowhere else, whatever a release says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed(Vec<GateUrl>);

impl Allowed {
    /// Each of these, and what lies below.
    #[must_use]
    pub fn below(urls: Vec<GateUrl>) -> Self {
        Self(urls)
    }

    /// The nearest one by which a URL may be asked: its place in the list.
    #[must_use]
    pub fn by(&self, url: &GateUrl) -> Option<usize> {
        let above = self.0.iter().enumerate().filter(|(_, above)| url.lies_below(above));
        above.max_by_key(|(_, above)| above.depth()).map(|(at, _)| at)
    }
}

/// What the shell is to ask now.
#[must_use = "whoever is not asked never answers"]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Which one it is, of this process.
    pub number: u64,
    /// Whom, and for how long to wait.
    pub ask: Ask,
    /// Where in [`Allowed`] it says that it may.
    pub allowed_by: usize,
    /// What it is about.
    pub about: About,
}

/// What a question is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Where.
    pub place: Place,
    /// Which gate.
    pub gate: GateName,
    /// The release that would go on.
    pub release: ReleaseRef,
    /// The rollout that waits.
    pub rollout: RolloutId,
    /// The batch that would begin, from 1, or [`gate::WATCH`].
    pub batch: u32,
    /// Of how many.
    pub batches: u32,
}

/// What a gate has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// What.
    pub verdict: GateVerdict,
    /// Why; empty if it has not said so.
    pub reason: String,
}

/// What came of the questions to one gate.
#[derive(Debug, Clone, Default)]
struct Asked {
    /// The newest answer.
    answer: Option<Counted>,
    /// Why the newest question had none.
    error: Option<String>,
    /// When it was asked last.
    at: Option<Timestamp>,
    /// The number of the newest question, until something comes of it.
    under_way: Option<u64>,
}

/// An answer, and for how long it counts.
#[derive(Debug, Clone)]
struct Counted {
    word: Word,
    /// When the question was asked.
    asked_at: Timestamp,
    /// Since when that is what it says.
    since: Timestamp,
    /// When it came.
    at: Timestamp,
}

/// The questions to the gates of a batch that waits, or of a watch.
#[derive(Debug, Clone)]
struct Waiting {
    rollout: RolloutId,
    batch: u32,
    gates: BTreeMap<GateName, Asked>,
}

/// All that was asked, and who may be.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asking {
    allowed: Allowed,
    waiting: BTreeMap<Place, Waiting>,
    /// The number of the newest question.
    number: u64,
}

/// What is known of a gate that the controller asks.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Heard<'a> {
    /// What it says, since when, if that counts now.
    pub word: Option<(&'a Word, Timestamp)>,
    /// When it last said anything.
    pub at: Option<Timestamp>,
    /// Why the newest question had no answer.
    pub error: Option<&'a str>,
}

/// Why a gate is not asked.
pub(crate) const NOT_ALLOWED: &str = "controller.toml does not allow that it is asked";

impl Asking {
    /// A rollout has come to wait for gates, or does so no longer. Paused it is not asked for, and what was said before
    /// counts no more when it goes on.
    pub fn moved(&mut self, before: Option<&Rollout>, rollout: &Rollout) {
        let waits = |rollout: &Rollout| match &rollout.status {
            Status::Active { .. } => gate::at(rollout).map(|at| at.next),
            _ => None,
        };
        let (was, is) = (before.and_then(waits), waits(rollout));
        let paused = matches!(rollout.status, Status::Paused { .. }) && gate::at(rollout).is_some();
        match is {
            Some(batch) if was != is => {
                let waiting = Waiting { rollout: rollout.id.clone(), batch, gates: BTreeMap::new() };
                self.waiting.insert(rollout.place.clone(), waiting);
            }
            None if !paused && self.of(&rollout.place, &rollout.id).is_some() => {
                self.waiting.remove(&rollout.place);
            }
            _ => {}
        }
    }

    fn of(&self, place: &Place, rollout: &RolloutId) -> Option<&Waiting> {
        self.waiting.get(place).filter(|waiting| waiting.rollout == *rollout)
    }

    /// No moment that was seen may lie ahead, and no answer counts for longer than it should: all are asked anew.
    pub fn begin_anew(&mut self) {
        self.waiting.values_mut().for_each(|waiting| waiting.gates.clear());
    }

    /// What is known of a gate before this batch of a rollout, or in its watch.
    pub fn heard(&self, rollout: &Rollout, batch: u32, gate: &Gate, now: Timestamp) -> Heard<'_> {
        let Some(ask) = &gate.ask else { return Heard::default() };
        let waiting = self.of(&rollout.place, &rollout.id).filter(|waiting| waiting.batch == batch);
        let asked = waiting.and_then(|waiting| waiting.gates.get(&gate.name));
        let answer = asked.and_then(|asked| asked.answer.as_ref());
        let error = asked.and_then(|asked| asked.error.as_deref());
        let may_be = self.allowed.by(&ask.url).is_some();
        Heard {
            word: answer.filter(|answer| answer.counts(ask, now)).map(|answer| (&answer.word, answer.since)),
            at: answer.map(|answer| answer.at),
            error: if may_be { error } else { Some(NOT_ALLOWED) },
        }
    }
}

impl Counted {
    fn counts(&self, ask: &Ask, now: Timestamp) -> bool {
        now.since(self.asked_at) <= ask.fresh_for()
    }
}

impl Asked {
    /// When it is to be asked, if no question is under way that may still have an answer.
    fn due(&self, ask: &Ask, now: Timestamp) -> Option<Option<Timestamp>> {
        let Some(at) = self.at else { return Some(None) };
        let lost = now.since(at) > ask.timeout + LOST_AFTER;
        let is_due = now.since(at) >= ask.every && (self.under_way.is_none() || lost);
        is_due.then_some(Some(at))
    }
}

impl State {
    /// Says where gates may be asked. Without, none is.
    pub fn allow_gates(&mut self, allowed: Allowed) {
        self.asking.allowed = allowed;
    }

    /// Whether a gate may be asked there.
    #[must_use]
    pub fn may_ask(&self, url: &GateUrl) -> bool {
        self.asking.allowed.by(url).is_some()
    }

    /// The questions that are due; they are under way from now on, and each is to be followed by [`State::answered`].
    /// While a rollout waits for gates or is watched, ask at least once a second.
    pub fn questions(&mut self, now: Timestamp) -> Vec<Question> {
        self.sees(now);
        let mut under_way = 0;
        let mut due: Vec<(Option<Timestamp>, About, Ask, usize)> = Vec::new();
        for (place, waiting) in &self.asking.waiting {
            let Some(rollout) = self.rollout(&waiting.rollout) else { continue };
            let Status::Active { .. } = &rollout.status else { continue };
            let Some(at) = gate::at(rollout) else { continue };
            for gate in gate::held(self, rollout, at.next).into_iter().filter(|gate| at.counts(&gate.name)) {
                let Some(ask) = &gate.ask else { continue };
                let Some(allowed_by) = self.asking.allowed.by(&ask.url) else { continue };
                let unasked = Asked::default();
                let asked = waiting.gates.get(&gate.name).unwrap_or(&unasked);
                let Some(last) = asked.due(ask, now) else {
                    under_way += usize::from(asked.under_way.is_some());
                    continue;
                };
                let about = About {
                    place: place.clone(),
                    gate: gate.name.clone(),
                    release: rollout.release.clone(),
                    rollout: rollout.id.clone(),
                    batch: at.next,
                    batches: rollout.batches,
                };
                due.push((last, about, ask.clone(), allowed_by));
            }
        }
        // Whoever has waited longest comes first, so that those who answer late do not keep the others out.
        due.sort_by_key(|(last, ..)| *last);
        due.truncate(AT_ONCE.saturating_sub(under_way));
        due.into_iter().map(|(_, about, ask, allowed_by)| self.begin(about, ask, allowed_by, now)).collect()
    }

    fn begin(&mut self, about: About, ask: Ask, allowed_by: usize, now: Timestamp) -> Question {
        self.asking.number += 1;
        let number = self.asking.number;
        if let Some(waiting) = self.asking.waiting.get_mut(&about.place) {
            let asked = waiting.gates.entry(about.gate.clone()).or_default();
            (asked.at, asked.under_way) = (Some(now), Some(number));
        }
        Question { number, ask, allowed_by, about }
    }

    /// What came of a question: an answer, or why there is none. One that nobody waits for any more changes nothing.
    pub fn answered(&mut self, question: &Question, came: Result<Word, String>, now: Timestamp) -> Attention {
        self.sees(now);
        let Question { number, ask, about, .. } = question;
        let waiting = self.asking.waiting.get_mut(&about.place);
        let asked = waiting.and_then(|waiting| waiting.gates.get_mut(&about.gate));
        let Some(asked) = asked.filter(|asked| asked.under_way == Some(*number)) else {
            return Attention::Ignored;
        };
        asked.under_way = None;
        match came {
            Ok(mut word) => {
                word.reason = cut(&word.reason);
                let before = asked.answer.as_ref().filter(|before| before.counts(ask, now));
                let same = before.filter(|before| before.word.verdict == word.verdict);
                let since = same.map_or(now, |before| before.since);
                let asked_at = asked.at.unwrap_or(now);
                asked.error = None;
                asked.answer = Some(Counted { word, asked_at, since, at: now });
            }
            Err(why) => asked.error = Some(cut(&why)),
        }
        Attention::Plan
    }
}

/// One line, and not a long one.
fn cut(text: &str) -> String {
    let line = landfall_common::printable::line(text.trim());
    match line.char_indices().nth(MAX_REASON) {
        None => line,
        Some((at, _)) => format!("{}…", &line[..at]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_one_allows() {
        let urls = ["https://ci.example.org/", "https://ci.example.org/gates", "http://10.0.0.1:9000/gates"];
        let allowed = Allowed::below(urls.iter().map(|url| url.parse().unwrap()).collect());
        let by = |url: &str| allowed.by(&url.parse().unwrap());
        assert_eq!(by("https://ci.example.org/gates/slo"), Some(1));
        assert_eq!(by("https://ci.example.org/gatesx/slo"), Some(0));
        assert_eq!(by("http://10.0.0.1:9000/gates/slo"), Some(2));
        assert_eq!(by("http://10.0.0.1/gates/slo"), None);
        assert_eq!(by("http://169.254.169.254/latest/meta-data"), None);
        assert_eq!(Allowed::default().by(&urls[0].parse().unwrap()), None);
    }

    #[test]
    fn a_reason_is_one_line_and_not_a_long_one() {
        assert_eq!(cut(" all\nis\u{1b}[2Jwell "), "all\\u{a}is\\u{1b}[2Jwell");
        assert_eq!(cut(&"é".repeat(400)).chars().count(), MAX_REASON + 1);
    }
}
