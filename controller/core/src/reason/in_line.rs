//! What a rollout that stands in line waits for.

use std::fmt;

use landfall_common::{ReleaseName, RolloutId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::evidence::Lacking;
use crate::holder::Holder;
use crate::proof::Unproven;
use crate::refusal::moment;

/// What a rollout that stands in line waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "in_line", rename_all = "snake_case")]
pub enum InLine {
    /// The one that is under way.
    Held(Box<Holder>),
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
    /// A release window, or the end of a freeze.
    Closed {
        /// What is closed, and when it opens, as the end of a sentence about the place.
        why: String,
        /// When it opens, if that is known.
        opens: Option<Timestamp>,
    },
    /// A proof in another environment.
    Unproven(Box<Unproven>),
    /// What CI has not said.
    Unevidenced(Box<Lacking>),
    /// The word of people other than the one who asked for it.
    Unapproved {
        /// Which rollout it is itself.
        rollout: RolloutId,
        /// How many of them.
        needed: u32,
        /// Who asked for it.
        asked_by: String,
        /// Who has said yes.
        approved_by: Vec<String>,
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
            Self::Held(holder) => write!(f, "waits for {holder}{}", super::because(&holder.why)),
            Self::Behind { rollout, release } => {
                write!(f, "waits behind rollout {rollout} of {release}, which is next")
            }
            Self::Locked { by, until, message } => {
                write!(f, "waits until {}, when the lock of {by} ends: {message}", moment(*until))
            }
            Self::Closed { why, .. } => write!(f, "waits, since its environment {why}"),
            Self::Unproven(unproven) => write!(f, "waits for a proof: {unproven}"),
            Self::Unevidenced(lacking) => write!(f, "waits for evidence: {lacking}; {}", lacking.next()),
            Self::Unapproved { rollout, needed, asked_by, approved_by } => {
                let noun = if *needed == 1 { "approval" } else { "approvals" };
                match &approved_by[..] {
                    [] => write!(f, "waits for {needed} {noun} by others than {asked_by}")?,
                    by => write!(
                        f,
                        "waits for {} of {needed} {noun} by others than {asked_by}; approved by {}",
                        needed.saturating_sub(u32::try_from(by.len()).unwrap_or(u32::MAX)),
                        by.join(", ")
                    )?,
                }
                write!(f, "; `ctl approve {rollout}` or `ctl reject {rollout}` answers it")
            }
            Self::Paused { reason, by, since } => {
                write!(f, "was paused by {by} at {}{}", moment(*since), super::because(reason))
            }
            Self::Next => f.write_str("begins now"),
        }
    }
}
