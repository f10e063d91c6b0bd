//! Why a host is not where it is to be, and what waits for it.

use std::fmt;

use landfall_common::time::{duration_ms, human};
use landfall_common::{Duration, ReleaseName, StepName};
use serde::{Deserialize, Serialize};

use crate::member::Out;
use crate::refusal::seconds;

use super::because;

/// What waits for a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "doing", rename_all = "snake_case")]
pub enum Doing {
    /// Staging.
    Staging,
    /// A batch.
    Batch {
        /// Which, from 1.
        batch: u32,
        /// Of how many.
        of: u32,
    },
    /// The end of the rollout.
    End,
    /// Requests change over to the other group of hosts.
    Switch,
    /// The watch over what was brought.
    Watch,
    /// The contract, after the last host.
    Contract,
    /// The way back.
    Rollback,
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Staging => f.write_str("staging"),
            Self::Batch { batch, of } => write!(f, "batch {batch} of {of}"),
            Self::End => f.write_str("the end"),
            Self::Switch => f.write_str("the change of requests to the other group"),
            Self::Watch => f.write_str("the watch"),
            Self::Contract => f.write_str("the contract"),
            Self::Rollback => f.write_str("the way back"),
        }
    }
}

/// Why a host is not there yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Why {
    /// It has not been heard of.
    Unheard {
        /// For how long.
        #[serde(rename = "for_ms", with = "duration_ms")]
        period: Duration,
    },
    /// It was asked and has not answered.
    Unanswered {
        /// For how long.
        #[serde(rename = "for_ms", with = "duration_ms")]
        period: Duration,
    },
    /// It reports, and takes no order.
    Unheeded {
        /// How many it let lapse.
        orders: u32,
        /// Since how long ago.
        #[serde(rename = "for_ms", with = "duration_ms")]
        period: Duration,
    },
    /// It fetches.
    Fetching {
        /// Bytes that are there.
        done_bytes: u64,
        /// Bytes in all.
        total_bytes: u64,
    },
    /// It runs a step.
    Step {
        /// Which.
        step: StepName,
    },
    /// It is healthy, but not for long enough.
    Young {
        /// For how long.
        #[serde(rename = "for_ms", with = "duration_ms")]
        period: Duration,
        /// Of how long.
        #[serde(rename = "of_ms", with = "duration_ms")]
        of: Duration,
    },
    /// It is not healthy.
    Unhealthy {
        /// The first failing check and what it saw.
        check: String,
    },
    /// Its last report is older than what was asked.
    Stale,
    /// It reports another release.
    OtherRelease {
        /// Which, if any.
        release: Option<ReleaseName>,
    },
    /// It was drained, and requests have not come back to it yet.
    Unloaded,
    /// It takes another release first.
    Over {
        /// Which.
        stop: ReleaseName,
        /// How far it is with that.
        then: Box<Why>,
    },
    /// It gets requests, and nothing there could lead them away.
    Tied,
    /// Nothing runs there, so that requests could not be kept from what it would take.
    Bare,
    /// It gets requests, or was told of them and has not answered: they are led away before it changes.
    Loaded,
    /// It is not staged yet.
    NotStaged,
    /// It may not begin yet.
    Blocked,
    /// It is left alone by an operator's word.
    LeftAlone {
        /// By which kind of word.
        how: Out,
        /// What it reports as active, if it reports anything.
        release: Option<ReleaseName>,
    },
    /// The release failed on it.
    Failed {
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unheard { period } => write!(f, "has not been heard of for {}", seconds(*period)),
            Self::Unanswered { period } => {
                write!(f, "was asked {} ago and has not answered", seconds(*period))
            }
            Self::Unheeded { orders: 1, period } => {
                write!(f, "reports, and has not taken the order it was given {} ago", seconds(*period))
            }
            Self::Unheeded { orders, period } => {
                write!(f, "reports, and has taken none of {orders} orders since {} ago", seconds(*period))
            }
            Self::Fetching { done_bytes, total_bytes } => {
                write!(f, "has fetched {} of {} KiB", done_bytes / 1024, total_bytes.div_ceil(1024))
            }
            Self::Step { step } => write!(f, "runs {step}"),
            Self::Young { period, of } => {
                write!(f, "healthy for {} of {}", seconds(*period), human::format(*of))
            }
            Self::Unhealthy { check } => write!(f, "is not healthy: {check}"),
            Self::Stale => f.write_str("has not reported since it was asked"),
            Self::OtherRelease { release: Some(release) } => write!(f, "reports {release} as active"),
            Self::OtherRelease { release: None } => f.write_str("reports no active release"),
            Self::Unloaded => f.write_str("was drained, and gets no requests yet"),
            Self::Over { stop, then } => write!(f, "takes {stop} first: {then}"),
            Self::Tied => f.write_str(
                "gets requests that nothing there could lead away: what runs has no gate, or its agent is of an older \
                 version; `ctl exclude` leaves it out",
            ),
            Self::Bare => f.write_str(
                "runs nothing, and would get requests with the release at once: it comes after the others",
            ),
            Self::Loaded => f.write_str("changes once the other group has its requests"),
            Self::NotStaged => f.write_str("is not staged yet"),
            Self::Blocked => f.write_str("may not begin yet"),
            Self::LeftAlone { how, release } => {
                let active = release.as_ref().map_or("no active release", ReleaseName::as_str);
                write!(f, "is {} and reports {active}", how.as_str())
            }
            Self::Failed { reason } => write!(f, "failed{}", because(reason)),
        }
    }
}
