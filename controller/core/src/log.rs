//! The entries of the log: who did what, when, from where, and how it ended.
//!
//! The core creates [`NewEntry`] values; the controller's log numbers them, hashes them into its tree and
//! writes them in the same commit as the change they tell of. A kind that has once been written is never
//! changed or removed, since old entries must go on to read back: add fields with a default, or a new kind.

mod summary;

use std::fmt;

use landfall_common::assignment::ReleaseRef;
use landfall_common::report::OutcomeKind;
use landfall_common::{
    AppName, EnvName, Generation, HostId, OperatorName, ReleaseName, RolloutId, Sha256, Timestamp,
};
use serde::{Deserialize, Serialize};

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

/// What happened. Written as `{"kind": "rollout_started", …}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LogEvent {
    /// A signed release was accepted.
    ReleasePublished {
        /// Of which application.
        application: AppName,
        /// The release.
        release: ReleaseRef,
        /// The commit it was built from, if it came from Git.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        commit: Option<String>,
        /// Who wrote that commit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        author: Option<String>,
        /// The key ids that signed it.
        signed_by: Vec<String>,
    },
    /// A rollout was planned and begun.
    RolloutStarted {
        /// Its id.
        rollout: RolloutId,
        /// Of which application.
        application: AppName,
        /// Where.
        environment: EnvName,
        /// The release it brings.
        release: ReleaseRef,
        /// The release that was in force.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        previous: Option<ReleaseRef>,
        /// How many hosts it targets.
        hosts: u64,
        /// The commits since the release that was in force, newest first.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        commits: Vec<CommitLine>,
        /// Release notes.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        notes: String,
    },
    /// A rollout ended.
    RolloutFinished {
        /// Its id.
        rollout: RolloutId,
        /// Of which application.
        application: AppName,
        /// Where.
        environment: EnvName,
        /// The release it brought.
        release: ReleaseRef,
        /// How.
        end: RolloutEnd,
        /// Why, where it did not succeed.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
        /// When it had begun.
        started_at: Timestamp,
        /// How many hosts run the release.
        hosts_done: u64,
        /// How many it targeted.
        hosts: u64,
    },
    /// The gate opened to a batch.
    BatchStarted {
        /// Of which rollout.
        rollout: RolloutId,
        /// The batch that may begin, from 1.
        batch: u64,
        /// Of how many.
        of: u64,
    },
    /// A host finished an order, well or not.
    StepOutcome {
        /// Of which rollout.
        rollout: RolloutId,
        /// The host.
        host: HostId,
        /// The release it was about.
        release: ReleaseName,
        /// The assignment.
        generation: Generation,
        /// How it ended.
        outcome: OutcomeKind,
    },
    /// A host that was asked for something did not say how it ended, or does not stay healthy.
    HostFailed {
        /// Of which rollout.
        rollout: RolloutId,
        /// The host.
        host: HostId,
        /// The release it was about.
        release: ReleaseName,
        /// Why it counts as failed.
        reason: String,
    },
    /// An operator asked for an older release.
    RollbackRequested {
        /// The rollout that carries it out.
        rollout: RolloutId,
        /// Of which application.
        application: AppName,
        /// Where.
        environment: EnvName,
        /// The release to go back to.
        to: ReleaseRef,
        /// Why, in the operator's words.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// A rollout turned round by itself.
    RollbackStarted {
        /// The rollout.
        rollout: RolloutId,
        /// The release to go back to.
        to: ReleaseRef,
        /// Why.
        reason: String,
    },
    /// A rollout was stopped where it was.
    RolloutPaused {
        /// The rollout.
        rollout: RolloutId,
        /// Why.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// A paused rollout goes on.
    RolloutResumed {
        /// The rollout.
        rollout: RolloutId,
    },
    /// An operator opened the gate that a rollout waited at.
    RolloutPromoted {
        /// The rollout.
        rollout: RolloutId,
        /// The batch that may begin.
        batch: u64,
    },
    /// An operator ended a rollout.
    RolloutAborted {
        /// The rollout.
        rollout: RolloutId,
        /// Why.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// A host took a rollout's migration lease.
    MigrationStarted {
        /// The rollout.
        rollout: RolloutId,
        /// The elected host.
        host: HostId,
        /// Whose migration.
        release: ReleaseName,
        /// When its lease ends.
        lease_until: Timestamp,
    },
    /// A migration ended, or its outcome was lost.
    MigrationFinished {
        /// The rollout.
        rollout: RolloutId,
        /// The elected host.
        host: HostId,
        /// Whose migration.
        release: ReleaseName,
        /// How.
        outcome: OutcomeKind,
    },
    /// An operator said how a migration with an unknown outcome ended.
    MigrationResolved {
        /// The rollout.
        rollout: RolloutId,
        /// What was said.
        verdict: MigrationVerdict,
        /// Why, in the operator's words.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// Failed hosts are tried again.
    HostsRetried {
        /// Of which application.
        application: AppName,
        /// Where.
        environment: EnvName,
        /// Which.
        hosts: Vec<HostId>,
    },
    /// A host outside of a rollout was sent to the release in force.
    HostConverging {
        /// The host.
        host: HostId,
        /// The release in force.
        release: ReleaseRef,
        /// The assignment.
        generation: Generation,
    },
    /// A host joined.
    HostEnrolled {
        /// The host.
        host: HostId,
        /// What it is pinned to.
        application: AppName,
        /// Where it is pinned to.
        environment: EnvName,
        /// The token that let it in.
        token: String,
    },
    /// A host was removed and its certificates denied.
    HostRemoved {
        /// The host.
        host: HostId,
        /// Why.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// An operator was removed: certificates that were issued until then are denied.
    OperatorRemoved {
        /// Who.
        name: OperatorName,
    },
    /// An enrolment token was made.
    TokenIssued {
        /// Its public id, never its secret.
        token: String,
        /// What it lets a host join.
        application: AppName,
        /// Where.
        environment: EnvName,
        /// Until when.
        expires_at: Timestamp,
    },
    /// A token for an operator's certificate was made.
    OperatorTokenIssued {
        /// Its public id, never its secret.
        token: String,
        /// Whom it lets in.
        name: OperatorName,
        /// As what, such as `deployer`.
        role: String,
        /// Until when.
        expires_at: Timestamp,
    },
    /// A certificate was issued.
    CertificateIssued {
        /// To whom.
        subject: Subject,
        /// Its serial number, hexadecimal.
        serial: String,
        /// Until when.
        expires_at: Timestamp,
    },
    /// The metadata of the release repository changed.
    MetadataAccepted {
        /// The role, such as `root` or an application's.
        role: String,
        /// Its new version.
        version: u64,
        /// The digest of its bytes.
        digest: Sha256,
    },
    /// The controller's state was put back from a backup.
    StateRestored {
        /// When the backup was made.
        backup_at: Timestamp,
        /// How far assignments' generations were moved ahead.
        generations_from: Generation,
    },
    /// A rehearsal of the way back ended.
    DrillFinished {
        /// Of which application.
        application: AppName,
        /// Where.
        environment: EnvName,
        /// On which host.
        host: HostId,
        /// Whether the host went back and forth healthily.
        passed: bool,
        /// What was seen.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
}

impl LogEvent {
    /// The word in the entry's `kind`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ReleasePublished { .. } => "release_published",
            Self::RolloutStarted { .. } => "rollout_started",
            Self::RolloutFinished { .. } => "rollout_finished",
            Self::BatchStarted { .. } => "batch_started",
            Self::StepOutcome { .. } => "step_outcome",
            Self::HostFailed { .. } => "host_failed",
            Self::RollbackRequested { .. } => "rollback_requested",
            Self::RollbackStarted { .. } => "rollback_started",
            Self::RolloutPaused { .. } => "rollout_paused",
            Self::RolloutResumed { .. } => "rollout_resumed",
            Self::RolloutPromoted { .. } => "rollout_promoted",
            Self::RolloutAborted { .. } => "rollout_aborted",
            Self::MigrationStarted { .. } => "migration_started",
            Self::MigrationFinished { .. } => "migration_finished",
            Self::MigrationResolved { .. } => "migration_resolved",
            Self::HostsRetried { .. } => "hosts_retried",
            Self::HostConverging { .. } => "host_converging",
            Self::HostEnrolled { .. } => "host_enrolled",
            Self::HostRemoved { .. } => "host_removed",
            Self::OperatorRemoved { .. } => "operator_removed",
            Self::TokenIssued { .. } => "token_issued",
            Self::OperatorTokenIssued { .. } => "operator_token_issued",
            Self::CertificateIssued { .. } => "certificate_issued",
            Self::MetadataAccepted { .. } => "metadata_accepted",
            Self::StateRestored { .. } => "state_restored",
            Self::DrillFinished { .. } => "drill_finished",
        }
    }

    /// The rollout it belongs to, if it does.
    #[must_use]
    pub fn rollout(&self) -> Option<&RolloutId> {
        match self {
            Self::RolloutStarted { rollout, .. }
            | Self::RolloutFinished { rollout, .. }
            | Self::BatchStarted { rollout, .. }
            | Self::StepOutcome { rollout, .. }
            | Self::HostFailed { rollout, .. }
            | Self::RollbackRequested { rollout, .. }
            | Self::RollbackStarted { rollout, .. }
            | Self::RolloutPaused { rollout, .. }
            | Self::RolloutResumed { rollout }
            | Self::RolloutPromoted { rollout, .. }
            | Self::RolloutAborted { rollout, .. }
            | Self::MigrationStarted { rollout, .. }
            | Self::MigrationFinished { rollout, .. }
            | Self::MigrationResolved { rollout, .. } => Some(rollout),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_common::canonical;
    use landfall_common::report::Failure;
    use landfall_common::{ReleaseCounter, StepName};

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
