//! The record of what was applied of that which the host's administrator keeps: how it was when the release became
//! active, or rather at the first look after that.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use landfall_agent_core::drift::beside::Things;
use landfall_common::disk::Disk;
use landfall_common::report::{HostReport, OutcomeKind};
use landfall_common::{Generation, Sha256};
use serde::{Deserialize, Serialize};

use crate::error::chain;

/// The record, below the state directory. It is called after what was in it first.
const RECORD: &str = "drift-units.json";

/// What each file was: its digest, or in words why it has none.
pub type Files = BTreeMap<PathBuf, String>;

/// What was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The release that was active then.
    release: Sha256,
    /// The newest assignment then.
    generation: Generation,
    /// Units; nothing if they were not looked at yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Files>,
    /// Settings, by who told them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub things: BTreeMap<String, Things>,
}

/// Where it is kept.
pub struct Record {
    /// The state directory.
    pub state: Arc<dyn Disk>,
}

impl Record {
    /// What was applied with the active release: nothing, if it has become active since anything was recorded. One
    /// that cannot be read is made anew.
    #[must_use]
    pub fn read(&self, report: &HostReport, release: Sha256) -> Applied {
        let bytes = self.state.read(Path::new(RECORD)).ok().flatten();
        let known = bytes.and_then(|bytes| serde_json::from_slice::<Applied>(&bytes).ok());
        known.filter(|applied| applied.counts(report, release)).unwrap_or_else(|| Applied {
            release,
            generation: report.generation,
            files: None,
            things: BTreeMap::new(),
        })
    }

    /// Keeps it, if it is another than `before`.
    pub fn keep(&self, applied: &Applied, before: &Applied) {
        if applied == before {
            return;
        }
        let written = serde_json::to_vec(applied).map_err(|error| error.to_string()).and_then(|bytes| {
            self.state.write_atomic(Path::new(RECORD), &bytes).map_err(|error| chain(&error))
        });
        if let Err(error) = written {
            tracing::warn!(error, "what was applied is not recorded, and is at the next look");
        }
    }
}

impl Applied {
    /// Whether it is of this release, and of the time at which it became active.
    fn counts(&self, report: &HostReport, release: Sha256) -> bool {
        let became_active = report.outcome.as_ref().is_some_and(|outcome| {
            let did = matches!(outcome.result, OutcomeKind::Committed | OutcomeKind::Reverted { .. });
            did && outcome.generation > self.generation
        });
        self.release == release && !became_active
    }
}
