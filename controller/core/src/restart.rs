//! Restarting or reloading services without a new release: a rollout that brings nothing. The same release runs before
//! and afterwards, so that there is nothing to go back to, and nothing to bring into force.

use std::collections::BTreeSet;
use std::fmt;

use landfall_common::assignment::RestartKind;
use landfall_common::{ServiceName, Sha256};
use serde::{Deserialize, Serialize};

use crate::command::Overrides;
use crate::record::Place;
use crate::rollout::{Rollout, RolloutKind};
use crate::turn::{self, Fleet};

/// Which services are wanted anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartRequest {
    /// Where.
    pub place: Place,
    /// The manifest in which the services were found: it must be that of the release in force.
    pub release: Sha256,
    /// Restarted or reloaded.
    pub kind: RestartKind,
    /// Which services; all of them are of that release, and can be restarted or reloaded.
    pub services: BTreeSet<ServiceName>,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What differs from the environment's strategy.
    #[serde(default)]
    pub overrides: Overrides,
    /// Why windows and freezes do not hold it; empty if they do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub outside_window: String,
}

/// What a rollout of [`RolloutKind::Restart`] does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// Restarted or reloaded.
    pub kind: RestartKind,
    /// Which services.
    pub services: BTreeSet<ServiceName>,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

impl Restart {
    /// `web, worker`.
    #[must_use]
    pub fn names(&self) -> String {
        self.services.iter().map(ServiceName::as_str).collect::<Vec<_>>().join(", ")
    }
}

/// `restart of web, worker`.
impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.kind.as_str(), self.names())
    }
}

impl Rollout {
    /// Whether the hosts go on with the release that they run.
    #[must_use]
    pub fn is_restart(&self) -> bool {
        self.kind == RolloutKind::Restart
    }

    /// What it has done to hosts, as the beginning of a sentence that goes on with their number.
    pub(crate) fn has_done(&self) -> String {
        match &self.restart {
            Some(restart) if restart.services.len() == 1 => {
                format!("{} was {} on", restart.names(), restart.kind.done())
            }
            Some(restart) => format!("{} were {} on", restart.names(), restart.kind.done()),
            None => format!("{} runs on", self.release.name),
        }
    }

    /// What the fleet runs once it has taken what was brought.
    pub(crate) fn taken(&self) -> Fleet {
        if self.is_restart() { Fleet::AsBefore } else { Fleet::TookIt }
    }

    /// What the fleet runs where it ends half way. `touched`: hosts have taken what it brings.
    pub(crate) fn left_half_way(&self, touched: bool) -> Fleet {
        let mixed = (touched && !self.is_restart()) || turn::schema_moved(self);
        if mixed { Fleet::Mixed } else { Fleet::AsBefore }
    }
}
