//! What a host says of itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::assignment::ReleaseRef;
use crate::ids::{Generation, StepName};
use crate::time::{Duration, Timestamp, duration_ms};

/// How many of the last lines of a step's output travel with a failure: a server of several processes writes the
/// trace of the one that failed, and after it its own, of twenty lines and more.
pub const TAIL_LINES: usize = 40;

/// How many bytes these lines have at most: a failure is stored, once for each host that tells one.
pub const TAIL_BYTES: usize = 8 * 1024;

/// The last of the lines, as many as travel with a failure: at most [`TAIL_LINES`], of [`TAIL_BYTES`] together.
#[must_use]
pub fn tail(mut lines: Vec<String>) -> Vec<String> {
    let mut bytes = 0;
    let fitting = lines.iter().rev().take(TAIL_LINES).take_while(|line| {
        bytes += line.len();
        bytes <= TAIL_BYTES
    });
    lines.split_off(lines.len() - fitting.count())
}

/// The state of a host at one moment. A newer one replaces an older one whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostReport {
    /// Grows with each start of the agent.
    pub incarnation: u64,
    /// Grows with each report of one incarnation.
    pub sequence: u64,
    /// The host's clock. Never compared with the controller's to decide anything.
    pub at: Timestamp,
    /// The newest assignment that the host has accepted.
    pub generation: Generation,
    /// What it is doing.
    pub phase: Phase,
    /// What `current` names, as proven or as it stands.
    pub active: Option<Active>,
    /// How the newest assignment ended, once it has.
    pub outcome: Option<Outcome>,
    /// Whether the active release is healthy now.
    pub health: Health,
    /// Whether the agent takes [`Order::Restart`](crate::assignment::Order::Restart); one of an older version does not
    /// even understand it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restarts: bool,
    /// Whether requests are led to this host, as far as its agent has a say in that.
    #[serde(default, skip_serializing_if = "Traffic::is_unknown")]
    pub traffic: Traffic,
}

impl HostReport {
    /// Whether `self` was made after `other` by the same host.
    #[must_use]
    pub fn is_newer_than(&self, other: &Self) -> bool {
        (self.incarnation, self.sequence) > (other.incarnation, other.sequence)
    }
}

/// The release that a host runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Active {
    /// Which one.
    pub release: ReleaseRef,
    /// Whether it passed its checks on this host and was committed.
    pub proven: bool,
}

/// Whether requests are led to a host, as far as its agent has a say in that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Traffic {
    /// Its agent is of a version that does not take [`Order::Drain`](crate::assignment::Order::Drain).
    #[default]
    Unknown,
    /// What is active has nothing that could lead them to another host.
    Ungated,
    /// As what is active wants it.
    Led,
    /// They are to be led away, and those under way are ending, or the gate does not answer.
    Draining,
    /// They are led away.
    Drained,
    /// They are led away, and will be led back once it is healthy.
    Returning,
}

impl Traffic {
    /// Whether nothing is known of it.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        *self == Self::Unknown
    }

    /// Whether somebody has led them away, or is about to.
    #[must_use]
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Draining | Self::Drained | Self::Returning)
    }
}

/// What a host is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Phase {
    /// Nothing; the newest assignment has ended.
    Idle,
    /// Fetching what it lacks.
    Fetching {
        /// Bytes that are here.
        done_bytes: u64,
        /// Bytes in all.
        total_bytes: u64,
    },
    /// Unpacking, linking and preparing.
    Preparing {
        /// The step that runs.
        step: StepName,
    },
    /// Running the migration.
    Migrating,
    /// Swapping and restarting.
    Activating {
        /// The step that runs.
        step: StepName,
    },
    /// Waiting for health to last.
    Proving {
        /// Healthy without a break for so long.
        #[serde(rename = "healthy_for_ms", with = "duration_ms")]
        healthy_for: Duration,
    },
    /// Going back.
    Undoing {
        /// The step that runs.
        step: StepName,
    },
}

/// How an assignment ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Of which assignment.
    pub generation: Generation,
    /// In what way.
    pub result: OutcomeKind,
}

/// In what way an assignment ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum OutcomeKind {
    /// The release is on the disk, verified and prepared.
    Staged,
    /// It could not be staged; nothing that runs was touched.
    StageFailed {
        /// Why.
        failure: Failure,
    },
    /// The migration exited 0 within its lease.
    Migrated,
    /// The migration failed, with an exit code: it ran to its own end.
    MigrationFailed {
        /// Why.
        failure: Failure,
    },
    /// Whether the migration took effect is not known (killed by its timeout or lease, or the host
    /// restarted during it). Only an operator can say.
    MigrationUnknown {
        /// Why.
        failure: Failure,
    },
    /// The release is active and was healthy for as long as was asked.
    Committed,
    /// The release failed on this host, and the one before is active and running again.
    Reverted {
        /// Why.
        failure: Failure,
    },
    /// The release failed on this host and was left in place, as asked.
    Held {
        /// Why.
        failure: Failure,
    },
    /// The release failed on this host, and so did going back; an operator is needed.
    UndoFailed {
        /// Why the release failed.
        failure: Failure,
        /// Why the way back failed.
        undo: Failure,
    },
    /// The assignment was refused; nothing was done.
    Refused {
        /// Why.
        failure: Failure,
    },
}

/// What a person needs to know of a failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The step or check that failed.
    pub step: StepName,
    /// What happened, as one sentence.
    pub reason: String,
    /// The exit code, where a process exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The last lines of its output, as [`tail`] bounds them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tail: Vec<String>,
}

impl Failure {
    /// A failure that no process stands behind.
    #[must_use]
    pub fn new(step: StepName, reason: impl Into<String>) -> Self {
        Self { step, reason: reason.into(), exit_code: None, tail: Vec::new() }
    }
}

/// Whether the active release is healthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Health {
    /// Nobody has looked yet, or there is nothing active. Not health.
    Unknown,
    /// Every check passed when last tried.
    Healthy {
        /// Without a break for so long.
        #[serde(rename = "for_ms", with = "duration_ms")]
        period: Duration,
    },
    /// At least one check failed.
    Unhealthy {
        /// Which, and what it saw, by the name of the check.
        failing: BTreeMap<StepName, String>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_the_end_of_what_was_written_within_its_bounds() {
        let numbered = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>();
        assert_eq!(tail(numbered(3)), ["0", "1", "2"]);
        assert_eq!(tail(numbered(100)), numbered(100)[100 - TAIL_LINES..]);

        let long = vec!["x".repeat(TAIL_BYTES / 4); TAIL_LINES];
        assert_eq!(tail(long), vec!["x".repeat(TAIL_BYTES / 4); 4]);
        assert_eq!(tail(vec!["x".repeat(TAIL_BYTES + 1), "end".to_owned()]), ["end"]);
        assert!(tail(Vec::new()).is_empty());
    }
}
