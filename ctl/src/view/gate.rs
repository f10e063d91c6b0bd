//! The gates of a rollout that others hold.

use landfall_common::Timestamp;
use landfall_common::printable::line;
use landfall_proto::v1;
use serde::Serialize;

use super::moment;

/// Something that others open before a batch begins, and that holds on in the watch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gate {
    /// Its name.
    pub name: String,
    /// Before which batches, such as `the second batch`.
    pub before: String,
    /// The batch that waits for it now, if one does.
    pub asked: Option<u32>,
    /// Whether it holds on now that the release is watched, and no batch waits for it.
    pub watched: bool,
    /// What was said last since it is asked; none is no answer.
    pub verdict: Option<Verdict>,
    /// Who said it; empty without an answer.
    pub by: String,
    /// When.
    pub at: Option<Timestamp>,
    /// Why.
    pub reason: String,
    /// Without an answer for so many milliseconds, the rollout pauses.
    pub deadline_ms: u64,
    /// Where the controller asks it; none if others open it.
    pub url: Option<String>,
    /// How often, in milliseconds; 0 if others open it.
    pub every_ms: u64,
    /// Why the last question to it had no answer; empty if it had one.
    pub error: String,
}

impl Gate {
    /// Whether a batch, or the end of the watch, waits for somebody to open it.
    #[must_use]
    pub fn waits_for_somebody(&self) -> bool {
        let is_shut = self.asked.is_some() || (self.watched && self.verdict.is_some());
        is_shut && self.url.is_none() && self.verdict != Some(Verdict::Open)
    }
}

/// What is said of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The batch may begin.
    Open,
    /// Not now.
    Closed,
    /// The release is not good.
    Failed,
}

impl Verdict {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Failed => "failed",
        }
    }
}

impl From<Verdict> for v1::GateVerdict {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Open => Self::Open,
            Verdict::Closed => Self::Closed,
            Verdict::Failed => Self::Failed,
        }
    }
}

impl From<v1::RolloutGate> for Gate {
    fn from(gate: v1::RolloutGate) -> Self {
        let verdict = match gate.verdict() {
            v1::GateVerdict::Unspecified => None,
            v1::GateVerdict::Open => Some(Verdict::Open),
            v1::GateVerdict::Closed => Some(Verdict::Closed),
            v1::GateVerdict::Failed => Some(Verdict::Failed),
        };
        Self {
            name: line(&gate.name),
            before: line(&gate.before),
            asked: (gate.asked > 0).then_some(gate.asked),
            watched: gate.watched,
            verdict,
            by: line(&gate.by),
            at: moment(gate.at_ms),
            reason: line(&gate.reason),
            deadline_ms: gate.deadline_ms,
            url: Some(line(&gate.url)).filter(|url| !url.is_empty()),
            every_ms: gate.every_ms,
            error: line(&gate.error),
        }
    }
}
