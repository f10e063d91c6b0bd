//! What the controller tells, as plain data: what tables show and what `-o json` prints. Fields here are part
//! of the JSON format; one is never given another meaning, and a change that breaks readers raises
//! the version in the envelope.

use std::collections::BTreeMap;

use landfall_common::Timestamp;
use landfall_proto::v1;
use serde::Serialize;

/// A moment, where there is one.
fn moment(ms: u64) -> Option<Timestamp> {
    (ms > 0).then(|| Timestamp::from_ms(ms))
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
            snapshot_key: info.snapshot_key,
            timestamp_key: info.timestamp_key,
            log_key: info.log_key,
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
            published_by: release.published_by,
            commit: release.commit,
            author: release.author,
            subject: release.subject,
            notes: release.notes,
            file_count: release.file_count,
            total_bytes: release.total_bytes,
            active_in: release.active_in,
            proven_in: release.proven_in,
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
    /// What going back would mean.
    pub way_back: String,
    /// Why a rollout would be refused.
    pub refusals: Vec<String>,
    /// What else to know.
    pub notes: Vec<String>,
}

/// Hosts that would change together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedBatch {
    /// Whether it is the canary.
    pub canary: bool,
    /// The hosts.
    pub hosts: Vec<String>,
}

impl From<v1::PlanRolloutResponse> for Plan {
    fn from(plan: v1::PlanRolloutResponse) -> Self {
        let batch = |batch: v1::PlannedBatch| PlannedBatch { canary: batch.canary, hosts: batch.hosts };
        Self {
            plan_id: plan.plan_id,
            from: plan.from.map(|release| release.name),
            to: plan.to.map(|release| release.name).unwrap_or_default(),
            batches: plan.batches.into_iter().map(batch).collect(),
            migration: plan.migration,
            way_back: plan.way_back,
            refusals: plan.refusals,
            notes: plan.notes,
        }
    }
}

/// Where a rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the words are those of the controller's interface, documented there")]
pub enum Status {
    Unknown,
    Pending,
    Staging,
    Migrating,
    Running,
    Paused,
    Waiting,
    RollingBack,
    Succeeded,
    Failed,
    RolledBack,
    Aborted,
    Superseded,
}

impl Status {
    /// For people.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Pending => "pending",
            Self::Staging => "staging",
            Self::Migrating => "migrating",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Waiting => "waiting",
            Self::RollingBack => "rolling back",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::RolledBack => "rolled back",
            Self::Aborted => "aborted",
            Self::Superseded => "superseded",
        }
    }

    /// Whether it is over.
    #[must_use]
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::RolledBack | Self::Aborted | Self::Superseded)
    }
}

impl From<v1::RolloutStatus> for Status {
    fn from(status: v1::RolloutStatus) -> Self {
        use v1::RolloutStatus as S;
        match status {
            S::Unspecified => Self::Unknown,
            S::Pending => Self::Pending,
            S::Staging => Self::Staging,
            S::Migrating => Self::Migrating,
            S::Running => Self::Running,
            S::Paused => Self::Paused,
            S::Waiting => Self::Waiting,
            S::RollingBack => Self::RollingBack,
            S::Succeeded => Self::Succeeded,
            S::Failed => Self::Failed,
            S::RolledBack => Self::RolledBack,
            S::Aborted => Self::Aborted,
            S::Superseded => Self::Superseded,
        }
    }
}

/// A rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rollout {
    /// Its id.
    pub id: String,
    /// Of which application.
    pub application: String,
    /// To which environment.
    pub environment: String,
    /// The release before.
    pub from: Option<String>,
    /// The release that it brings.
    pub to: String,
    /// The digest of that release's manifest.
    pub to_digest: String,
    /// Where it is.
    pub status: Status,
    /// What it waits for, or how it ended.
    pub reasons: Vec<String>,
    /// Its batches.
    pub batches: Vec<Batch>,
    /// Who began it.
    pub started_by: String,
    /// When.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// The commits that it brings.
    pub changes: Vec<String>,
    /// Whether it is a way back that somebody asked for.
    pub is_rollback: bool,
    /// The migration's state; empty when there is none.
    pub migration: String,
}

/// Hosts that change together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Batch {
    /// Whether it is the canary.
    pub canary: bool,
    /// The hosts.
    pub hosts: Vec<HostState>,
}

/// How far a host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the words are those of the controller's interface, documented there")]
pub enum Progress {
    Unknown,
    Pending,
    Staging,
    Staged,
    Activating,
    Proving,
    Committed,
    Reverted,
    Failed,
    RollingBack,
    RolledBack,
}

impl Progress {
    /// For people.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Pending => "pending",
            Self::Staging => "staging",
            Self::Staged => "staged",
            Self::Activating => "activating",
            Self::Proving => "proving",
            Self::Committed => "ok",
            Self::Reverted => "reverted",
            Self::Failed => "failed",
            Self::RollingBack => "rolling back",
            Self::RolledBack => "rolled back",
        }
    }
}

impl From<v1::HostProgress> for Progress {
    fn from(progress: v1::HostProgress) -> Self {
        use v1::HostProgress as P;
        match progress {
            P::Unspecified => Self::Unknown,
            P::Pending => Self::Pending,
            P::Staging => Self::Staging,
            P::Staged => Self::Staged,
            P::Activating => Self::Activating,
            P::Proving => Self::Proving,
            P::Committed => Self::Committed,
            P::Reverted => Self::Reverted,
            P::Failed => Self::Failed,
            P::RollingBack => Self::RollingBack,
            P::RolledBack => Self::RolledBack,
        }
    }
}

/// A host of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostState {
    /// Its id.
    pub host: String,
    /// How far it is.
    pub progress: Progress,
    /// What it does or waits for.
    pub detail: String,
    /// Why it failed.
    pub failure: Option<Failure>,
}

/// What a person needs to know of a failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The step or check.
    pub step: String,
    /// What happened.
    pub reason: String,
    /// The exit code, where a process exited.
    pub exit_code: Option<i32>,
    /// The last lines of its output.
    pub tail: Vec<String>,
}

impl From<v1::Failure> for Failure {
    fn from(failure: v1::Failure) -> Self {
        let v1::Failure { step, reason, exit_code, tail } = failure;
        Self { step, reason, exit_code, tail }
    }
}

impl From<v1::Rollout> for Rollout {
    fn from(rollout: v1::Rollout) -> Self {
        let status = rollout.status().into();
        let host = |host: v1::RolloutHost| HostState {
            progress: host.progress().into(),
            host: host.host,
            detail: host.detail,
            failure: host.failure.map(Failure::from),
        };
        let batch = |batch: v1::RolloutBatch| Batch {
            canary: batch.canary,
            hosts: batch.hosts.into_iter().map(host).collect(),
        };
        let to = rollout.to.unwrap_or_default();
        Self {
            id: rollout.id,
            application: rollout.application,
            environment: rollout.environment,
            from: rollout.from.map(|release| release.name),
            to: to.name,
            to_digest: to.digest,
            status,
            reasons: rollout.reasons,
            batches: rollout.batches.into_iter().map(batch).collect(),
            started_by: rollout.started_by,
            started: moment(rollout.started_ms),
            ended: moment(rollout.ended_ms),
            changes: rollout.changes,
            is_rollback: rollout.is_rollback,
            migration: rollout.migration,
        }
    }
}

impl Rollout {
    /// Every host, with the number of its batch from 1.
    pub fn hosts(&self) -> impl Iterator<Item = (usize, &HostState)> {
        self.batches
            .iter()
            .enumerate()
            .flat_map(|(index, batch)| batch.hosts.iter().map(move |h| (index + 1, h)))
    }
}

/// An enrolled host.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Host {
    /// Its id.
    pub id: String,
    /// Its application.
    pub application: String,
    /// Its environment.
    pub environment: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// When it joined.
    pub enrolled: Option<Timestamp>,
    /// Whether it holds a session now.
    pub connected: bool,
    /// When it was last heard of.
    pub last_seen: Option<Timestamp>,
    /// The release that it runs.
    pub active: Option<String>,
    /// Whether that one was proven there.
    pub active_proven: bool,
    /// What it does: `idle`, `fetching`, `activating`…
    pub phase: String,
    /// `healthy`, `unhealthy` or `unknown`.
    pub health: String,
    /// What each failing check saw.
    pub failing: BTreeMap<String, String>,
    /// Its figures, if it has sent any.
    pub figures: Option<Figures>,
    /// Kernel, distribution, architecture…
    pub facts: BTreeMap<String, String>,
    /// The agent's version.
    pub agent_version: String,
    /// When its certificate expires.
    pub certificate_expires: Option<Timestamp>,
}

/// Figures of a host.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// Of all cores, in per mille.
    pub cpu_per_mille: u32,
    /// Memory in use.
    pub memory_used_bytes: u64,
    /// Memory in all.
    pub memory_total_bytes: u64,
    /// Free on the file system of the releases.
    pub disk_free_bytes: u64,
    /// Its size.
    pub disk_total_bytes: u64,
    /// The load average over one minute, times 100.
    pub load1_centi: u32,
    /// Bytes received per second.
    pub network_received_bytes_per_s: u64,
    /// Bytes sent per second.
    pub network_sent_bytes_per_s: u64,
    /// The agent's memory.
    pub agent_rss_bytes: u64,
    /// Latencies of the checks.
    pub checks: Vec<Latency>,
}

/// How one check went over the last period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// Its name.
    pub check: String,
    /// How often it was tried.
    pub count: u32,
    /// How often it failed.
    pub failed: u32,
    /// The median, in microseconds.
    pub p50_us: u64,
    /// The longest, in microseconds.
    pub max_us: u64,
}

impl From<v1::HostFigures> for Figures {
    fn from(figures: v1::HostFigures) -> Self {
        let latency = |c: v1::CheckLatency| Latency {
            check: c.check,
            count: c.count,
            failed: c.failed,
            p50_us: c.p50_us,
            max_us: c.max_us,
        };
        Self {
            cpu_per_mille: figures.cpu_per_mille,
            memory_used_bytes: figures.memory_used_bytes,
            memory_total_bytes: figures.memory_total_bytes,
            disk_free_bytes: figures.disk_free_bytes,
            disk_total_bytes: figures.disk_total_bytes,
            load1_centi: figures.load1_centi,
            network_received_bytes_per_s: figures.network_received_bytes_per_s,
            network_sent_bytes_per_s: figures.network_sent_bytes_per_s,
            agent_rss_bytes: figures.agent_rss_bytes,
            checks: figures.checks.into_iter().map(latency).collect(),
        }
    }
}

fn phase_words(phase: &v1::Phase) -> String {
    use v1::PhaseKind as K;
    let step = |verb: &str| {
        if phase.step.is_empty() { verb.to_owned() } else { format!("{verb}: {}", phase.step) }
    };
    match phase.kind() {
        K::Unspecified => "unknown".to_owned(),
        K::Idle => "idle".to_owned(),
        K::Fetching => {
            let percent = (phase.done_bytes * 100).checked_div(phase.total_bytes).unwrap_or(0);
            format!("fetching {percent}%")
        }
        K::Preparing => step("preparing"),
        K::Migrating => "migrating".to_owned(),
        K::Activating => step("activating"),
        K::Proving => format!("proving, healthy for {} s", phase.healthy_for_ms / 1000),
        K::Undoing => step("undoing"),
    }
}

impl From<v1::Host> for Host {
    fn from(host: v1::Host) -> Self {
        let report = host.report.unwrap_or_default();
        let health = report.health.unwrap_or_default();
        let phase = report.phase.as_ref().map_or_else(|| "unknown".to_owned(), phase_words);
        Self {
            id: host.id,
            application: host.application,
            environment: host.environment,
            labels: host.labels.into_iter().collect(),
            enrolled: moment(host.enrolled_ms),
            connected: host.connected,
            last_seen: moment(host.last_seen_ms),
            active: report.active.map(|release| release.name),
            active_proven: report.active_proven,
            phase,
            health: match health.kind() {
                v1::HealthKind::Healthy => "healthy",
                v1::HealthKind::Unhealthy => "unhealthy",
                v1::HealthKind::Unknown | v1::HealthKind::Unspecified => "unknown",
            }
            .to_owned(),
            failing: health.failing.into_iter().collect(),
            figures: host.figures.map(Figures::from),
            facts: host.facts.into_iter().collect(),
            agent_version: host.agent_version,
            certificate_expires: moment(host.certificate_expires_ms),
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
            actor: entry.actor,
            origin: entry.origin,
            kind: entry.kind,
            summary: entry.summary,
            body: serde_json::from_slice(&entry.body).unwrap_or_default(),
            raw: entry.body,
        }
    }
}
