//! What the agent says, in the form of the wire. Nothing else of the agent knows that form.

use landfall_agent_core::drift::Finding;
use landfall_agent_core::exposition::series::Figure;
use landfall_agent_core::exposition::source::Told;
use landfall_common::assignment::ReleaseRef;
use landfall_common::report::{Failure, Health, HostReport, Outcome, OutcomeKind, Phase, Traffic};
use landfall_common::{Duration, printable};
use landfall_proto::v1 as pb;

use crate::drift::Report;
use crate::figures::Figures;
use crate::latency::Latency;
use crate::usage::Usage;

/// A report.
#[must_use]
pub fn report(report: &HostReport) -> pb::HostReport {
    pb::HostReport {
        incarnation: report.incarnation,
        sequence: report.sequence,
        at_ms: report.at.ms(),
        generation: report.generation.0,
        phase: Some(phase(&report.phase)),
        active: report.active.as_ref().map(|active| release(&active.release)),
        active_proven: report.active.as_ref().is_some_and(|active| active.proven),
        outcome: report.outcome.as_ref().map(outcome),
        health: Some(health(&report.health)),
        restarts: report.restarts,
        traffic: traffic(report.traffic).into(),
    }
}

fn traffic(traffic: Traffic) -> pb::HostTraffic {
    match traffic {
        Traffic::Unknown => pb::HostTraffic::Unspecified,
        Traffic::Ungated => pb::HostTraffic::Ungated,
        Traffic::Led => pb::HostTraffic::Led,
        Traffic::Draining => pb::HostTraffic::Draining,
        Traffic::Drained => pb::HostTraffic::Drained,
        Traffic::Returning => pb::HostTraffic::Returning,
    }
}

/// Figures of the host, of its checks, of its services, and of what the application shows of itself.
#[must_use]
pub fn figures(
    figures: &Figures,
    checks: &[Latency],
    services: &[Usage],
    metrics: &[Told],
) -> pb::HostFigures {
    pb::HostFigures {
        cpu_per_mille: figures.cpu_per_mille,
        memory_used_bytes: figures.memory_used_bytes,
        memory_total_bytes: figures.memory_total_bytes,
        disk_free_bytes: figures.disk_free_bytes,
        disk_total_bytes: figures.disk_total_bytes,
        load1_centi: figures.load1_centi,
        network_received_bytes_per_s: figures.network_received_bytes_per_s,
        network_sent_bytes_per_s: figures.network_sent_bytes_per_s,
        agent_rss_bytes: figures.agent_rss_bytes,
        checks: checks
            .iter()
            .map(|latency| pb::CheckLatency {
                check: latency.check.to_string(),
                count: latency.count,
                failed: latency.failed,
                p50_us: micros(latency.p50),
                max_us: micros(latency.max),
            })
            .collect(),
        services: services
            .iter()
            .map(|usage| pb::ServiceFigures {
                service: usage.service.to_string(),
                period_ms: millis(usage.period),
                cpu_us: usage.cpu.map(micros),
                memory_bytes: usage.memory_bytes,
                restarts: usage.restarts,
            })
            .collect(),
        metrics: metrics.iter().map(metric).collect(),
    }
}

fn metric(told: &Told) -> pb::MetricFigures {
    let mut metric = pb::MetricFigures {
        metric: told.metric.to_string(),
        period_ms: millis(told.period),
        ..pb::MetricFigures::default()
    };
    match &told.figure {
        Ok(Figure::Level(level)) => metric.level = Some(*level),
        Ok(Figure::Events { events, of }) => {
            (metric.events, metric.of) = (Some(whole(*events)), Some(whole(*of)));
        }
        Err(why) => metric.missing = bounded(printable::line(why)),
    }
    metric
}

/// Counters count whole things, in floating point.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it ends at the range")]
fn whole(count: f64) -> u64 {
    count.round() as u64
}

/// So many findings are told one by one; of the others, how many there are.
const FINDINGS: usize = 50;

/// What is not as it was applied, at `now` on the clock since boot.
#[must_use]
pub fn drift(report: &Report, now: Duration) -> pb::Drift {
    let summary = &report.summary;
    let finding = |finding: &Finding| pb::DriftFinding {
        path: bounded(finding.shown_path()),
        kind: finding.kind.word().to_owned(),
        detail: bounded(printable::line(&finding.detail)),
        by_hand: bounded(printable::line(finding.remedy.by_hand().unwrap_or_default())),
    };
    let counts = summary.findings.counts.iter();
    pb::Drift {
        release: Some(release(&report.release)),
        looked_ago_ms: millis(now.saturating_sub(report.looked)),
        read_ago_ms: report.read.map(|read| millis(now.saturating_sub(read))),
        digest: summary.findings.digest.to_string(),
        counts: counts.map(|(kind, count)| (kind.word().to_owned(), *count)).collect(),
        findings: summary.findings.listed.iter().take(FINDINGS).map(finding).collect(),
        caches: summary.caches,
        entries: summary.entries,
        bytes: summary.bytes,
        notes: report.notes.clone(),
        repair: report.repair.as_ref().map(|repair| pb::DriftRepair {
            request_id: repair.request.clone(),
            restored: repair.restored,
            failed: repair.failed.iter().cloned().map(bounded).collect(),
        }),
    }
}

/// A path may be as long as the system takes; nobody reads more than this.
fn bounded(text: String) -> String {
    const LETTERS: usize = 400;
    if text.chars().count() <= LETTERS { text } else { text.chars().take(LETTERS).chain(['…']).collect() }
}

fn release(release: &ReleaseRef) -> pb::ReleaseRef {
    pb::ReleaseRef {
        name: release.name.to_string(),
        counter: release.counter.0,
        digest: release.digest.to_string(),
        length: release.length,
    }
}

fn phase(phase: &Phase) -> pb::Phase {
    let kind = |kind: pb::PhaseKind| pb::Phase { kind: kind.into(), ..pb::Phase::default() };
    match phase {
        Phase::Idle => kind(pb::PhaseKind::Idle),
        Phase::Fetching { done_bytes, total_bytes } => {
            pb::Phase { done_bytes: *done_bytes, total_bytes: *total_bytes, ..kind(pb::PhaseKind::Fetching) }
        }
        Phase::Preparing { step } => pb::Phase { step: step.to_string(), ..kind(pb::PhaseKind::Preparing) },
        Phase::Migrating => kind(pb::PhaseKind::Migrating),
        Phase::Activating { step } => pb::Phase { step: step.to_string(), ..kind(pb::PhaseKind::Activating) },
        Phase::Proving { healthy_for } => {
            pb::Phase { healthy_for_ms: millis(*healthy_for), ..kind(pb::PhaseKind::Proving) }
        }
        Phase::Undoing { step } => pb::Phase { step: step.to_string(), ..kind(pb::PhaseKind::Undoing) },
    }
}

fn outcome(outcome: &Outcome) -> pb::Outcome {
    let (kind, why, undo) = match &outcome.result {
        OutcomeKind::Staged => (pb::OutcomeKind::Staged, None, None),
        OutcomeKind::StageFailed { failure } => (pb::OutcomeKind::StageFailed, Some(failure), None),
        OutcomeKind::Migrated => (pb::OutcomeKind::Migrated, None, None),
        OutcomeKind::MigrationFailed { failure } => (pb::OutcomeKind::MigrationFailed, Some(failure), None),
        OutcomeKind::MigrationUnknown { failure } => (pb::OutcomeKind::MigrationUnknown, Some(failure), None),
        OutcomeKind::Committed => (pb::OutcomeKind::Committed, None, None),
        OutcomeKind::Reverted { failure } => (pb::OutcomeKind::Reverted, Some(failure), None),
        OutcomeKind::Held { failure } => (pb::OutcomeKind::Held, Some(failure), None),
        OutcomeKind::UndoFailed { failure, undo } => (pb::OutcomeKind::UndoFailed, Some(failure), Some(undo)),
        OutcomeKind::Refused { failure } => (pb::OutcomeKind::Refused, Some(failure), None),
    };
    pb::Outcome {
        generation: outcome.generation.0,
        kind: kind.into(),
        failure: why.map(failure),
        undo_failure: undo.map(failure),
    }
}

fn failure(failure: &Failure) -> pb::Failure {
    pb::Failure {
        step: failure.step.to_string(),
        reason: failure.reason.clone(),
        exit_code: failure.exit_code,
        tail: failure.tail.clone(),
    }
}

fn health(health: &Health) -> pb::Health {
    let kind = |kind: pb::HealthKind| pb::Health { kind: kind.into(), ..pb::Health::default() };
    match health {
        Health::Unknown => kind(pb::HealthKind::Unknown),
        Health::Healthy { period } => pb::Health { for_ms: millis(*period), ..kind(pb::HealthKind::Healthy) },
        Health::Unhealthy { failing } => pb::Health {
            failing: failing.iter().map(|(check, saw)| (check.to_string(), saw.clone())).collect(),
            ..kind(pb::HealthKind::Unhealthy)
        },
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
