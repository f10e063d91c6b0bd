//! A host: what it runs, how it is, and its figures.

use std::collections::BTreeMap;

use landfall_common::Timestamp;
use landfall_common::printable::line;
use landfall_proto::v1;
use serde::Serialize;

use super::moment;

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
    /// What its last look at its release saw; absent until it has looked.
    pub drift: Option<DriftMark>,
    /// Why it is left alone, if it is.
    pub cordon: Option<Cordon>,
    /// Why requests are led away from it, if somebody has said so.
    pub drain: Option<Cordon>,
    /// Whether requests are led there, as its agent says it: `led`, `draining`, `drained`, `returning`, `ungated` where
    /// it has no say in that, `unknown` of an older one.
    pub traffic: String,
}

impl Host {
    /// Whether its agent leads requests away from it.
    #[must_use]
    pub fn is_led_away(&self) -> bool {
        matches!(self.traffic.as_str(), "draining" | "drained" | "returning")
    }
}

/// A host's part in a rollout that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostPart {
    /// The host.
    pub host: String,
    /// The rollout.
    pub rollout: String,
    /// Its batch, from 1.
    pub batch: u32,
    /// Of how many.
    pub batches: u32,
    /// Whether it was let go for the release, so that it is in change or has changed.
    pub let_go: bool,
}

impl From<v1::HostPart> for HostPart {
    fn from(part: v1::HostPart) -> Self {
        let v1::HostPart { host, rollout, batch, batches, let_go } = part;
        Self { host: line(&host), rollout: line(&rollout), batch, batches, let_go }
    }
}

/// An operator's word that a host is to be left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cordon {
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Option<Timestamp>,
}

impl From<v1::Cordon> for Cordon {
    fn from(cordon: v1::Cordon) -> Self {
        Self { by: line(&cordon.by), reason: line(&cordon.reason), since: moment(cordon.since_ms) }
    }
}

/// How far a host is from what was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DriftMark {
    /// How many things differ.
    pub total: u64,
    /// When it looked.
    pub looked: Option<Timestamp>,
}

impl From<v1::DriftSummary> for DriftMark {
    fn from(summary: v1::DriftSummary) -> Self {
        Self { total: summary.total, looked: moment(summary.looked_ms) }
    }
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
    /// What the services use.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceUse>,
    /// What the application shows of itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<MetricShown>,
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

/// What one service used over the last period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceUse {
    /// Its name.
    pub service: String,
    /// How long the period was, in milliseconds.
    pub period_ms: u64,
    /// Processor time in it, in microseconds, where that is seen.
    pub cpu_us: Option<u64>,
    /// Memory at its end, where that is seen.
    pub memory_bytes: Option<u64>,
    /// How often it was started again by itself.
    pub restarts: u32,
}

/// What one metric of the application was like over the last period: a level, or events of so many, or why it is missing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetricShown {
    /// Its name.
    pub metric: String,
    /// The time that the figure covers, in milliseconds.
    pub period_ms: u64,
    /// The mean of a gauge, or by how much counters grew in a second.
    pub level: Option<f64>,
    /// What was counted.
    pub events: Option<u64>,
    /// Of how many.
    pub of: Option<u64>,
    /// Why there is no figure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

impl From<v1::HostFigures> for Figures {
    fn from(figures: v1::HostFigures) -> Self {
        let latency = |c: v1::CheckLatency| Latency {
            check: line(&c.check),
            count: c.count,
            failed: c.failed,
            p50_us: c.p50_us,
            max_us: c.max_us,
        };
        let service = |s: v1::ServiceFigures| ServiceUse {
            service: line(&s.service),
            period_ms: s.period_ms,
            cpu_us: s.cpu_us,
            memory_bytes: s.memory_bytes,
            restarts: s.restarts,
        };
        let metric = |m: v1::MetricFigures| MetricShown {
            metric: line(&m.metric),
            period_ms: m.period_ms,
            level: m.level,
            events: m.events,
            of: m.of,
            missing: Some(line(&m.missing)).filter(|why| !why.is_empty()),
        };
        Self {
            metrics: figures.metrics.into_iter().map(metric).collect(),
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
            services: figures.services.into_iter().map(service).collect(),
        }
    }
}

fn phase_words(phase: &v1::Phase) -> String {
    use v1::PhaseKind as K;
    let step = |verb: &str| {
        if phase.step.is_empty() { verb.to_owned() } else { format!("{verb}: {}", line(&phase.step)) }
    };
    match phase.kind() {
        K::Unspecified => "unknown".to_owned(),
        K::Idle => "idle".to_owned(),
        K::Fetching => {
            let percent = phase.done_bytes.saturating_mul(100).checked_div(phase.total_bytes).unwrap_or(0);
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
        let traffic = match report.traffic() {
            v1::HostTraffic::Unspecified => "unknown",
            v1::HostTraffic::Ungated => "ungated",
            v1::HostTraffic::Led => "led",
            v1::HostTraffic::Draining => "draining",
            v1::HostTraffic::Drained => "drained",
            v1::HostTraffic::Returning => "returning",
        };
        let traffic = traffic.to_owned();
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
            failing: health.failing.into_iter().map(|(check, saw)| (line(&check), line(&saw))).collect(),
            figures: host.figures.map(Figures::from),
            facts: host.facts.into_iter().map(|(fact, value)| (line(&fact), line(&value))).collect(),
            agent_version: line(&host.agent_version),
            certificate_expires: moment(host.certificate_expires_ms),
            drift: host.drift.map(DriftMark::from),
            cordon: host.cordon.map(Cordon::from),
            drain: host.drain.map(Cordon::from),
            traffic,
        }
    }
}
