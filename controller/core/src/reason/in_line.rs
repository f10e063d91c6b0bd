//! What a rollout that stands in line waits for.

use std::fmt;

use landfall_common::{ReleaseName, RolloutId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::refusal::moment;
use crate::rollout::StatusWord;

/// What a rollout that stands in line waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "in_line", rename_all = "snake_case")]
pub enum InLine {
    /// The one that is under way.
    Held {
        /// Which.
        rollout: RolloutId,
        /// What it brings.
        release: ReleaseName,
        /// Who began it.
        by: String,
        /// Since when.
        since: Timestamp,
        /// How far it is.
        status: StatusWord,
    },
    /// The one that is next.
    Behind {
        /// Which.
        rollout: RolloutId,
        /// What it will bring.
        release: ReleaseName,
    },
    /// The end of a lock.
    Locked {
        /// Whose.
        by: String,
        /// When it ends at the latest.
        until: Timestamp,
        /// What it is for.
        message: String,
    },
    /// A word of an operator.
    Paused {
        /// Why.
        reason: String,
        /// Who paused it.
        by: String,
        /// Since when.
        since: Timestamp,
    },
    /// Nothing: it begins now.
    Next,
}

impl fmt::Display for InLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { rollout, release, by, since, status } => write!(
                f,
                "waits for rollout {rollout} of {release}, begun by {by} at {} and now {status}",
                moment(*since)
            ),
            Self::Behind { rollout, release } => {
                write!(f, "waits behind rollout {rollout} of {release}, which is next")
            }
            Self::Locked { by, until, message } => {
                write!(f, "waits until {}, when the lock of {by} ends: {message}", moment(*until))
            }
            Self::Paused { reason, by, since } => {
                write!(f, "was paused by {by} at {}: {reason}", moment(*since))
            }
            Self::Next => f.write_str("begins now"),
        }
    }
}
