//! What a gate that others hold has said, where a batch waits for it.

use std::fmt;

use landfall_common::strategy::GateUrl;
use landfall_common::time::{duration_ms, human};
use landfall_common::{Duration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::gate::GateVerdict;
use crate::refusal::{moment, seconds};

/// Why a gate is not open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum AtGate {
    /// Nobody has said anything.
    NoAnswer {
        /// For how long.
        #[serde(rename = "for_ms", with = "duration_ms")]
        period: Duration,
        /// After which time the rollout pauses.
        #[serde(rename = "deadline_ms", with = "duration_ms")]
        deadline: Duration,
    },
    /// Somebody has.
    Said {
        /// What.
        verdict: GateVerdict,
        /// Who.
        by: String,
        /// Since when.
        since: Timestamp,
        /// Why.
        reason: String,
    },
    /// Whoever is asked has not answered.
    Unanswered {
        /// Where.
        url: GateUrl,
        /// For how long.
        #[serde(rename = "for_ms", with = "duration_ms")]
        period: Duration,
        /// After which time the rollout pauses.
        #[serde(rename = "deadline_ms", with = "duration_ms")]
        deadline: Duration,
        /// Why the last question had no answer; empty before that is known.
        error: String,
    },
    /// Whoever is asked has.
    Answered {
        /// Where.
        url: GateUrl,
        /// What.
        verdict: GateVerdict,
        /// Why; empty if it has not said so.
        reason: String,
        /// How often it is asked.
        #[serde(rename = "every_ms", with = "duration_ms")]
        every: Duration,
    },
}

impl fmt::Display for AtGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer { period, deadline } => {
                let (period, deadline) = (seconds(*period), human::format(*deadline));
                write!(f, "it has had no answer for {period} of {deadline}, after which the rollout pauses")
            }
            Self::Unanswered { url, period, deadline, error } => {
                let (period, deadline) = (seconds(*period), human::format(*deadline));
                let error = if error.is_empty() { String::new() } else { format!(": {error}") };
                write!(
                    f,
                    "{url} has not answered for {period} of {deadline}, after which the rollout pauses{error}"
                )
            }
            Self::Answered { url, verdict, reason, every } => {
                let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
                write!(
                    f,
                    "{url} has answered {verdict}, and is asked every {}{reason}",
                    human::format(*every)
                )
            }
            Self::Said { verdict, by, since, reason } => {
                write!(f, "{by} has said {verdict} at {}: {reason}", moment(*since))
            }
        }
    }
}
