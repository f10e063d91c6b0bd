//! What the controller tells, as plain data: what tables show and what `-o json` prints. Fields here are part
//! of the JSON format; one is never given another meaning, and a change that breaks readers raises
//! the version in the envelope.

use std::collections::BTreeMap;

use landfall_common::printable::{self, line};
use landfall_common::{Rights, Role, Scope, Timestamp};
use landfall_proto::v1;
use landfall_trust::PublicKey;
use serde::Serialize;

use crate::error::Error;

mod account;
mod analysis;
mod drift;
mod environment;
mod evidence;
mod gate;
mod host;
mod operator;
mod rollout;
mod runbook;

pub use account::{
    Account, Deadline, FirstFailure, HostAccount, LastFailure, LastOrder, NextCommand, RolloutAccount, Runs,
};
pub use analysis::{Analysis, MetricFinding, Verdict};
pub use drift::{DriftReport, FactDifference, FactValue, Finding, HostDrift, Repair};
pub use environment::{Environment, Lock, Rehearsal};
pub use evidence::{Evidence, PlannedEvidence};
pub use gate::{Gate, Verdict as GateVerdict};
pub use host::{Cordon, DriftMark, Figures, Host, HostPart, Latency, MetricShown, ServiceUse};
pub use operator::Operator;
pub use rollout::{
    Approval, Approvals, Batch, Failure, HostState, LeftOut, Progress, Restart, Rollout, Status,
};
pub use runbook::{Runbook, RunbookBatch, RunbookRelease, RunbookStep, RunbookWay};

/// A moment, where there is one.
fn moment(ms: u64) -> Option<Timestamp> {
    (ms > 0).then(|| Timestamp::from_ms(ms))
}

/// Whether somebody with this role may do nothing but look. Words that this program does not know are more.
#[must_use]
pub fn looks_only(role: &str) -> bool {
    let rights = role.parse::<Rights>();
    rights.is_ok_and(|rights| !rights.have_some(Role::Gatekeeper, &Scope::Everything))
}

/// Who is asked and who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Info {
    /// The controller's version.
    pub version: String,
    /// Its clock.
    pub now: Timestamp,
    /// Who asks.
    pub operator: String,
    /// The role in the certificate.
    pub role: String,
    /// When that certificate expires.
    pub certificate_expires: Option<Timestamp>,
    /// The version of the root metadata in force; 0 before there is one.
    pub root_version: u64,
    /// When each role of the release repository expires.
    pub role_expires: BTreeMap<String, Timestamp>,
    /// When the authority's certificate expires.
    pub ca_expires: Option<Timestamp>,
    /// When the server's certificate expires.
    pub server_certificate_expires: Option<Timestamp>,
    /// Applications that have release signers.
    pub applications: Vec<String>,
    /// What the releases' files take on the controller; absent in the first minutes after its start.
    pub objects: Option<ObjectsUsage>,
    /// The key that signs snapshots, a TUF key object.
    #[serde(skip)]
    pub snapshot_key: String,
    /// The key that signs timestamps.
    #[serde(skip)]
    pub timestamp_key: String,
    /// The key that signs the log's checkpoints.
    #[serde(skip)]
    pub log_key: String,
}

impl From<v1::GetInfoResponse> for Info {
    fn from(info: v1::GetInfoResponse) -> Self {
        let expires = info.role_expires_ms.into_iter().map(|(role, ms)| (role, Timestamp::from_ms(ms)));
        Self {
            version: info.version,
            now: Timestamp::from_ms(info.now_ms),
            operator: info.operator,
            role: info.role,
            certificate_expires: moment(info.certificate_expires_ms),
            root_version: info.root_version,
            role_expires: expires.collect(),
            ca_expires: moment(info.ca_expires_ms),
            server_certificate_expires: moment(info.server_certificate_expires_ms),
            applications: info.applications,
            objects: info.objects.map(ObjectsUsage::from),
            snapshot_key: info.snapshot_key,
            timestamp_key: info.timestamp_key,
            log_key: info.log_key,
        }
    }
}

impl Info {
    /// The keys of snapshot and timestamp that the next root is to name.
    ///
    /// # Errors
    /// [`Error::Answer`] if they cannot be read.
    pub fn online_keys(&self) -> Result<[PublicKey; 2], Error> {
        let key = |text: &str, role: &str| {
            serde_json::from_str(text)
                .map_err(|error| Error::Answer(format!("its key for {role} cannot be read: {error}")))
        };
        Ok([key(&self.snapshot_key, "snapshot")?, key(&self.timestamp_key, "timestamp")?])
    }
}

/// What the releases' files take on the controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ObjectsUsage {
    /// When it was counted.
    pub counted: Option<Timestamp>,
    /// Compressed bytes of the files that releases need.
    pub kept_bytes: u64,
    /// Bytes that no release needs any more, and that go when the grace is over.
    pub freeable_bytes: u64,
    /// Releases whose files are kept.
    pub releases: u64,
    /// Those of them that lack damaged objects.
    pub damaged_releases: Vec<String>,
    /// Why nothing can be removed; empty when nothing is in the way.
    pub held_up: String,
    /// How many releases are kept of an application, and in an environment.
    pub keep_releases: u64,
    /// How long what nobody needs stays.
    pub grace_ms: u64,
}

impl From<v1::ObjectsUsage> for ObjectsUsage {
    fn from(usage: v1::ObjectsUsage) -> Self {
        Self {
            counted: moment(usage.counted_ms),
            kept_bytes: usage.kept_bytes,
            freeable_bytes: usage.freeable_bytes,
            releases: usage.releases,
            damaged_releases: printable::each(usage.damaged_releases),
            held_up: line(&usage.held_up),
            keep_releases: usage.keep_releases,
            grace_ms: usage.grace_ms,
        }
    }
}

/// A published release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Release {
    /// Of which application.
    pub application: String,
    /// Its name.
    pub name: String,
    /// Its place in the sequence.
    pub counter: u64,
    /// The digest of its manifest.
    pub digest: String,
    /// When it was published.
    pub published: Option<Timestamp>,
    /// By whom.
    pub published_by: String,
    /// From which commit; empty if it does not say.
    pub commit: String,
    /// Who wrote that commit.
    pub author: String,
    /// The first line of the commit's message.
    pub subject: String,
    /// What changed, for people.
    pub notes: String,
    /// How many files it holds.
    pub file_count: u64,
    /// The sum of their sizes.
    pub total_bytes: u64,
    /// Where it is in force.
    pub active_in: Vec<String>,
    /// Where a rollout of it has succeeded.
    pub proven_in: Vec<String>,
    /// When the controller let go of its files; absent while they are there.
    pub removed: Option<Timestamp>,
    /// How many of its objects were found damaged; known only of a release that is asked for by name.
    pub damaged_objects: u64,
}

impl Release {
    /// Whether hosts can be brought to it.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.removed.is_none() && self.damaged_objects == 0
    }
}

impl From<v1::Release> for Release {
    fn from(release: v1::Release) -> Self {
        let reference = release.release.unwrap_or_default();
        Self {
            application: release.application,
            name: reference.name,
            counter: reference.counter,
            digest: reference.digest,
            published: moment(release.published_ms),
            published_by: line(&release.published_by),
            commit: line(&release.commit),
            author: line(&release.author),
            subject: line(&release.subject),
            notes: printable::lines(&release.notes),
            file_count: release.file_count,
            total_bytes: release.total_bytes,
            active_in: release.active_in,
            proven_in: release.proven_in,
            removed: moment(release.removed_ms),
            damaged_objects: release.damaged_objects,
        }
    }
}

/// What a rollout would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Names the world that the plan was made for.
    pub plan_id: String,
    /// The release in force now.
    pub from: Option<String>,
    /// The release that would be.
    pub to: String,
    /// Batches in their order.
    pub batches: Vec<PlannedBatch>,
    /// Why and where a migration runs; empty if none does.
    pub migration: String,
    /// The migrations that it brings, as far as they were listed when it was built.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub migrations: Vec<String>,
    /// How many more there are.
    #[serde(skip_serializing_if = "is_none")]
    pub more_migrations: u64,
    /// What the list is worth; empty where there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub migrations_note: String,
    /// What its contract takes away after the last host; empty where it has none to run.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub contract: String,
    /// What going back would mean.
    pub way_back: String,
    /// Why a rollout would be refused.
    pub refusals: Vec<String>,
    /// What else to know.
    pub notes: Vec<String>,
    /// Where the release must be proven before; none of a controller that does not know of it yet.
    pub proofs: Vec<Proof>,
    /// What CI must have said; none of a controller that does not know of it yet.
    pub evidence: Vec<PlannedEvidence>,
}

/// Whether a release is proven in an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// Which.
    pub environment: String,
    /// The rollout that proved it; none if it is not proven.
    pub rollout: Option<String>,
    /// When that was over.
    pub at: Option<Timestamp>,
    /// Why it is not proven; empty if it is.
    pub why_not: String,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_none(number: &u64) -> bool {
    *number == 0
}

/// Hosts that would change together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedBatch {
    /// Whether it is the canary.
    pub canary: bool,
    /// The hosts.
    pub hosts: Vec<String>,
    /// What they have in common; empty for no more than their turn.
    pub why: String,
    /// What the next batch waits for beside their health; mostly empty.
    pub then: String,
}

impl From<v1::PlanRolloutResponse> for Plan {
    fn from(plan: v1::PlanRolloutResponse) -> Self {
        let batch = |batch: v1::PlannedBatch| PlannedBatch {
            canary: batch.canary,
            hosts: batch.hosts,
            why: line(&batch.why),
            then: line(&batch.then),
        };
        Self {
            plan_id: line(&plan.plan_id),
            from: plan.from.map(|release| release.name),
            to: plan.to.map(|release| release.name).unwrap_or_default(),
            batches: plan.batches.into_iter().map(batch).collect(),
            migration: line(&plan.migration),
            migrations: printable::each(plan.migrations),
            more_migrations: plan.more_migrations,
            migrations_note: line(&plan.migrations_note),
            contract: line(&plan.contract),
            way_back: line(&plan.way_back),
            refusals: printable::each(plan.refusals),
            notes: printable::each(plan.notes),
            proofs: plan.proofs.into_iter().map(Proof::from).collect(),
            evidence: plan.evidence.into_iter().map(PlannedEvidence::from).collect(),
        }
    }
}

impl From<v1::Proof> for Proof {
    fn from(proof: v1::Proof) -> Self {
        Self {
            environment: line(&proof.environment),
            rollout: Some(line(&proof.rollout)).filter(|rollout| !rollout.is_empty()),
            at: moment(proof.at_ms),
            why_not: line(&proof.why_not),
        }
    }
}

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogEntry {
    /// Its place.
    pub index: u64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// From where.
    pub origin: String,
    /// What kind.
    pub kind: String,
    /// One sentence.
    pub summary: String,
    /// The whole entry.
    pub body: serde_json::Value,
    /// The bytes that the log's leaf is made of.
    #[serde(skip)]
    pub raw: Vec<u8>,
}

impl From<v1::LogEntry> for LogEntry {
    fn from(entry: v1::LogEntry) -> Self {
        Self {
            index: entry.index,
            at: Timestamp::from_ms(entry.at_ms),
            actor: line(&entry.actor),
            origin: line(&entry.origin),
            kind: line(&entry.kind),
            summary: line(&entry.summary),
            body: serde_json::from_slice(&entry.body).unwrap_or_default(),
            raw: entry.body,
        }
    }
}
