//! The entries of the log: who did what, when, from where, and how it ended.
//!
//! The core creates [`NewEntry`] values; the controller's log numbers them, hashes them into its tree and
//! writes them in the same commit as the change they tell of. What can happen is in [`LogEvent`]. A kind
//! that has once been written is never changed or removed, since old entries must go on to read back: add
//! fields with a default, or a new kind.

mod event;
mod summary;

use std::fmt;

use landfall_common::{HostId, OperatorName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::analysis::Verdict;

pub use event::LogEvent;
pub(crate) use summary::told;

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "type", content = "name", rename_all = "snake_case")]
pub enum Actor {
    /// A person or a program with an operator's certificate.
    Operator(OperatorName),
    /// An agent.
    Host(HostId),
    /// The controller by itself.
    Controller,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator(name) => f.pad(name.as_str()),
            Self::Host(host) => f.pad(host.as_str()),
            Self::Controller => f.pad("controller"),
        }
    }
}

/// An entry that has no number yet.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "what is not appended is forgotten"]
pub struct NewEntry {
    /// When, by the controller's clock.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// From where: the address of the connection, or empty.
    pub origin: String,
    /// What.
    pub event: LogEvent,
}

impl NewEntry {
    /// An entry of the controller's own doing.
    pub fn by_controller(at: Timestamp, event: LogEvent) -> Self {
        Self { at, actor: Actor::Controller, origin: String::new(), event }
    }

    /// Gives the entry its place in the log; its sentence is fixed from here on.
    #[must_use]
    pub fn number(self, index: u64) -> LogEntry {
        let summary = self.event.summary();
        LogEntry { index, at: self.at, actor: self.actor, origin: self.origin, summary, event: self.event }
    }
}

/// An entry of the log. Its canonical JSON is what the leaf of the log's tree is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// Its place; the first is 0, and there are no gaps.
    pub index: u64,
    /// When, by the controller's clock.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// From where: the address of the connection, or empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub origin: String,
    /// One sentence for people, as it was when the entry was written.
    pub summary: String,
    /// What.
    pub event: LogEvent,
}

/// A commit that a rollout brings to its environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitLine {
    /// The commit's full hash.
    pub commit: String,
    /// Its author's name.
    pub author: String,
    /// The first line of its message.
    pub subject: String,
}

/// How a rollout ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutEnd {
    /// Every targeted host runs the release.
    Succeeded,
    /// It ended without reaching every host, and nothing was put back.
    Failed,
    /// The hosts that had it are back on the release before.
    RolledBack,
    /// It was a drill: its hosts have had the release, and are back on the one in force.
    Rehearsed,
    /// An operator ended it.
    Aborted,
    /// Another rollout took its place.
    Superseded,
}

impl fmt::Display for RolloutEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::RolledBack => "was rolled back",
            Self::Rehearsed => "was rehearsed",
            Self::Aborted => "was aborted",
            Self::Superseded => "was superseded",
        })
    }
}

/// What an operator said of a migration whose outcome nobody knew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MigrationVerdict {
    /// It took effect.
    Applied,
    /// It did not, and may run again.
    NotApplied,
}

/// What the analysis of a canary has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnalysisVerdict {
    /// The canary is no worse than the hosts on the release before.
    Pass,
    /// It is worse.
    Fail,
    /// It could not be told.
    Inconclusive,
}

impl From<Verdict> for AnalysisVerdict {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Pass => Self::Pass,
            Verdict::Fail => Self::Fail,
            Verdict::Inconclusive => Self::Inconclusive,
        }
    }
}

/// Whom a certificate was issued to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Subject {
    /// An agent.
    Host {
        /// Its id.
        host: HostId,
    },
    /// An operator.
    Operator {
        /// The name.
        name: OperatorName,
        /// The role, such as `deployer`.
        role: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_common::assignment::ReleaseRef;
    use landfall_common::canonical;
    use landfall_common::report::{Failure, OutcomeKind};
    use landfall_common::{
        AppName, EnvName, Generation, ReleaseCounter, ReleaseName, RolloutId, Sha256, StepName,
    };

    fn release(name: &str) -> ReleaseRef {
        ReleaseRef {
            name: ReleaseName::new(name).unwrap(),
            counter: ReleaseCounter(4),
            digest: Sha256::of(name.as_bytes()),
            length: 100,
        }
    }

    #[test]
    fn an_entry_reads_back_from_its_canonical_form_and_says_its_kind() {
        let event = LogEvent::RolloutFinished {
            rollout: RolloutId::new("r-7").unwrap(),
            application: AppName::new("tenants").unwrap(),
            environment: EnvName::new("production").unwrap(),
            release: release("v1.5"),
            end: RolloutEnd::RolledBack,
            reason: "web-1 failed its checks".to_owned(),
            started_at: Timestamp::from_ms(1000),
            hosts_done: 0,
            hosts: 4,
        };
        let kind = event.kind();
        let entry = NewEntry::by_controller(Timestamp::from_ms(5000), event).number(3);
        let bytes = canonical::to_vec(&entry).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value["event"]["kind"], kind);
        assert_eq!(serde_json::from_slice::<LogEntry>(&bytes).unwrap(), entry);
        assert_eq!(
            entry.summary,
            "rollout of tenants v1.5 to production was rolled back, 0 of 4 hosts run it: web-1 failed its checks"
        );
    }

    #[test]
    fn a_failed_step_tells_its_reason() {
        let event = LogEvent::StepOutcome {
            rollout: RolloutId::new("r-7").unwrap(),
            host: HostId::new("web-1").unwrap(),
            release: ReleaseName::new("v1.5").unwrap(),
            generation: Generation(9),
            outcome: OutcomeKind::Reverted {
                failure: Failure::new(StepName::new("healthz").unwrap(), "healthz answered 500"),
            },
        };
        assert_eq!(event.summary(), "web-1: v1.5 failed and was put back: healthz answered 500");
        assert_eq!(event.rollout().unwrap().as_str(), "r-7");
    }
}
