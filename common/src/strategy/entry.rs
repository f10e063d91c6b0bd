//! What must hold before a rollout to an environment begins. What is under way is not touched by any of it, and no way
//! back waits for it.

use super::calendar::Calendar;
use crate::evidence::{self, Demand};
use crate::ids::EnvName;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// More people than this have never agreed on anything.
pub const MAX_APPROVALS: u32 = 20;

/// What must hold before a rollout begins. What has its default is left out of the manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// How many people other than the one who asks must have approved it; at most [`MAX_APPROVALS`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub approvals: u32,
    /// When it may begin.
    #[serde(default, skip_serializing_if = "is_default")]
    pub calendar: Calendar,
    /// In which environments that very release must have been proven before, on every host.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub after: BTreeSet<EnvName>,
    /// What CI must have said of the release's commit; at most [`evidence::MAX_DEMANDS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Demand>,
}

fn is_default(calendar: &Calendar) -> bool {
    *calendar == Calendar::default()
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Entry {
    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }

    /// Checks the bounds.
    ///
    /// # Errors
    /// A sentence naming the knob and its value.
    pub fn check(&self) -> Result<(), String> {
        if self.approvals > MAX_APPROVALS {
            return Err(format!("approvals ({}) must be at most {MAX_APPROVALS}", self.approvals));
        }
        evidence::check(&self.evidence)?;
        self.calendar.check()
    }
}
