//! A host's part in a rollout.

use landfall_common::report::Failure;
use landfall_common::{Generation, HostId, ReleaseName, RolloutId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::record::Word;

/// A host's part in a rollout. A record of its own, so that the progress of one host among ten thousand is
/// one small write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The rollout.
    pub rollout: RolloutId,
    /// The host.
    pub host: HostId,
    /// Its batch, from 1.
    pub batch: u32,
    /// How far it is.
    pub state: MemberState,
    /// Since when. An order that it lets lapse, and the one that repeats it, do not begin it anew: a host that
    /// never takes an order gets nowhere.
    pub since: Timestamp,
    /// How many orders in a row came to nothing without having failed: it did not take them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unheeded: u32,
    /// Whether the release may be, or may have been, active on the host because of this rollout, or that of the
    /// one before it that ended half way. Once it is set it stays: a host that is tried again has still been touched, and
    /// must go back with the others.
    #[serde(default)]
    pub touched: bool,
    /// Whether there was evidence of the release on it since it was let go, so that its place in the window is
    /// free. Kept only where the strategy bounds who may change at the same time.
    #[serde(default, skip_serializing_if = "is_not")]
    pub settled: bool,
    /// The first thing that went wrong on it before the way back, kept through that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The stop at which it went wrong, where that was not the release of the rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<ReleaseName>,
    /// What went wrong on the way back: somebody has to mend it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub return_failure: Option<Failure>,
    /// Why it has no part in the rollout any more, or never had: nothing is asked of it, and nothing awaited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<LeftOut>,
}

/// Why a host of the place has no part in a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// How it came to be left out.
    pub how: Out,
    /// By whose word.
    #[serde(flatten)]
    pub word: Word,
}

/// How a host came to be left out of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Out {
    /// Out of this one.
    Excluded,
    /// Of whatever touches it, until it is uncordoned.
    Cordoned,
}

impl Out {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Excluded => "excluded",
            Self::Cordoned => "cordoned",
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
pub(crate) fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
pub(crate) fn is_not(flag: &bool) -> bool {
    !*flag
}

/// The host on which something went wrong first, and what.
pub(crate) fn first_failed<'m>(
    members: impl Iterator<Item = &'m Member>,
) -> Option<(&'m Member, &'m Failure)> {
    let failed = members.filter_map(|member| {
        let failure = member.failure.as_ref().or(member.return_failure.as_ref())?;
        Some((member, failure))
    });
    failed.min_by_key(|(member, _)| (member.since, &member.host))
}

impl Member {
    /// Whether an operator has left it out of this rollout alone.
    #[must_use]
    pub fn is_excluded(&self) -> bool {
        self.left_out.as_ref().is_some_and(|left_out| left_out.how == Out::Excluded)
    }

    /// What went wrong last: where there is a way back, its failure is the one to be mended.
    #[must_use]
    pub fn newest_failure(&self) -> Option<&Failure> {
        self.return_failure.as_ref().or(self.failure.as_ref())
    }
}

/// How far a host is in a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum MemberState {
    /// Nothing was asked of it yet.
    Pending,
    /// It was asked to stage.
    Staging {
        /// With this assignment.
        generation: Generation,
    },
    /// The release is on its disk, verified and prepared.
    Staged,
    /// It was granted the activation.
    Granted {
        /// With this assignment.
        generation: Generation,
    },
    /// It said that the release is active and proven.
    Committed {
        /// With this assignment.
        generation: Generation,
    },
    /// The release failed on it.
    Failed {
        /// What the host was left with.
        left: Left,
    },
    /// It must go back, and was not asked yet.
    ReturnDue,
    /// It was asked to go back.
    Returning {
        /// With this assignment.
        generation: Generation,
    },
    /// It runs the release before, proven.
    Returned {
        /// With this assignment.
        generation: Generation,
    },
    /// The release before failed on it as well.
    ReturnFailed,
}

/// What a failed host was left with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Left {
    /// Nothing that runs was touched.
    Untouched,
    /// As it was, since it cannot come to the release from what it runs: a stop on the way is closed.
    Barred,
    /// It went back to the release before by itself.
    Reverted,
    /// The failed release is in place.
    Held,
    /// Nobody knows: it never answered, or it runs something else than it said or ran before.
    Unknown,
}

impl MemberState {
    /// The assignment whose answer is awaited, if one is.
    #[must_use]
    pub fn awaits(&self) -> Option<Generation> {
        match self {
            Self::Staging { generation } | Self::Granted { generation } | Self::Returning { generation } => {
                Some(*generation)
            }
            Self::Pending
            | Self::Staged
            | Self::Committed { .. }
            | Self::Failed { .. }
            | Self::ReturnDue
            | Self::Returned { .. }
            | Self::ReturnFailed => None,
        }
    }

    /// Whether the host counts against the failure budget.
    #[must_use]
    pub fn failed(&self) -> bool {
        matches!(self, Self::Failed { .. })
    }

    /// Whether there is no way for the host to the release.
    #[must_use]
    pub fn barred(&self) -> bool {
        matches!(self, Self::Failed { left: Left::Barred })
    }

    /// Whether the host has said that it runs the release, proven.
    #[must_use]
    pub fn committed(&self) -> bool {
        matches!(self, Self::Committed { .. })
    }
}
