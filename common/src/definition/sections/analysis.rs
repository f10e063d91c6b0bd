//! `analysis` of an environment: `true`, or a table of what is to be otherwise than by default.

use toml::de::DeValue;

use super::{bytes, duration};
use crate::definition::reader::Section;
use crate::manifest::Check;
use crate::strategy::{
    CanaryAnalysis, CpuMetric, FailureMetric, LatencyMetric, MAX_FLOOR_PER_HOUR, MemoryMetric, Missing,
    RestartMetric, Share,
};
use crate::time::{Duration, human};

/// The analysis of an environment whose canary is held for so long.
pub(super) fn analysis(environment: &Section<'_>, hold: Duration) -> Option<CanaryAnalysis> {
    let by_default = CanaryAnalysis::held_for(hold);
    let found = environment.value("analysis")?;
    match found.value {
        DeValue::Boolean(on) => return on.then_some(by_default),
        DeValue::Table(_) => {}
        other => {
            let message =
                format!("`analysis` must be true, false or a table, not of type {}", other.type_str());
            environment.reader.wrong(found.span, message, Some("write `analysis = true`".to_owned()));
            return None;
        }
    }
    let section = environment.table("analysis", "analysis", "`analysis`")?;
    let latency = section.table("latency", "latency", "`latency`");
    let failures = section.table("failures", "failures", "`failures`");
    let cpu = section.table("cpu", "cpu", "`cpu`");
    let memory = section.table("memory", "memory", "`memory`");
    let restarts = section.table("restarts", "restarts", "`restarts`");
    Some(CanaryAnalysis {
        window: duration(&section, "window", by_default.window),
        deadline: duration(&section, "deadline", by_default.deadline),
        alpha: share(&section, "alpha").unwrap_or(by_default.alpha),
        beta: share(&section, "beta").unwrap_or(by_default.beta),
        latency: latency.map_or(by_default.latency, |section| latency_metric(&section)),
        failures: failures.map_or(by_default.failures, |section| failure_metric(&section)),
        cpu: cpu.map_or(by_default.cpu, |section| cpu_metric(&section)),
        memory: memory.map_or(by_default.memory, |section| memory_metric(&section)),
        restarts: restarts.map_or(by_default.restarts, |section| restart_metric(&section)),
    })
}

fn latency_metric(section: &Section<'_>) -> LatencyMetric {
    let by_default = LatencyMetric::default();
    LatencyMetric {
        tolerance_percent: tolerance(section).unwrap_or(by_default.tolerance_percent),
        slack: duration(section, "slack", by_default.slack),
        critical: section.boolean("critical").unwrap_or(by_default.critical),
        missing: missing(section).unwrap_or(by_default.missing),
    }
}

fn failure_metric(section: &Section<'_>) -> FailureMetric {
    let by_default = FailureMetric::default();
    FailureMetric {
        tolerance_percent: tolerance(section).unwrap_or(by_default.tolerance_percent),
        floor: share(section, "floor").unwrap_or(by_default.floor),
        critical: section.boolean("critical").unwrap_or(by_default.critical),
        missing: missing(section).unwrap_or(by_default.missing),
    }
}

/// Whoever says how much more may be means that more than that may not be.
fn cpu_metric(section: &Section<'_>) -> CpuMetric {
    let by_default = CpuMetric::default();
    CpuMetric {
        tolerance_percent: tolerance(section).unwrap_or(by_default.tolerance_percent),
        slack: share(section, "slack").unwrap_or(by_default.slack),
        critical: section.boolean("critical").unwrap_or_else(|| section.has("tolerance")),
        missing: missing(section).unwrap_or(by_default.missing),
    }
}

/// As [`cpu_metric`].
fn memory_metric(section: &Section<'_>) -> MemoryMetric {
    let by_default = MemoryMetric::default();
    MemoryMetric {
        tolerance_percent: tolerance(section).unwrap_or(by_default.tolerance_percent),
        slack_bytes: slack_bytes(section).unwrap_or(by_default.slack_bytes),
        critical: section.boolean("critical").unwrap_or_else(|| section.has("tolerance")),
        missing: missing(section).unwrap_or(by_default.missing),
    }
}

fn slack_bytes(section: &Section<'_>) -> Option<u64> {
    bytes(section, "slack", &section.string("slack")?)
}

fn restart_metric(section: &Section<'_>) -> RestartMetric {
    let by_default = RestartMetric::default();
    RestartMetric {
        tolerance_percent: tolerance(section).unwrap_or(by_default.tolerance_percent),
        floor_per_hour: section.integer("floor", 0..=MAX_FLOOR_PER_HOUR).unwrap_or(by_default.floor_per_hour),
        critical: section.boolean("critical").unwrap_or(by_default.critical),
        missing: missing(section).unwrap_or(by_default.missing),
    }
}

/// Such as `"0.5%"`.
pub(super) fn share(section: &Section<'_>, key: &str) -> Option<Share> {
    let text = section.string(key)?;
    let share = Share::parse(&text.value);
    if share.is_none() {
        let message = format!("`{key}`: {:?} is not a share with at most two decimals", text.value);
        section.reader.wrong(
            text.span,
            message,
            Some(format!("write `{key} = \"1%\"` or `{key} = \"0.25%\"`")),
        );
    }
    share
}

/// How many per cent worse is as it should be: whole ones are fine enough.
pub(super) fn tolerance(section: &Section<'_>) -> Option<u32> {
    let text = section.string("tolerance")?;
    let percent = text.value.strip_suffix('%').and_then(|number| number.trim().parse().ok());
    if percent.is_none() {
        let message = format!("`tolerance`: {:?} is not a whole number of per cent", text.value);
        let help = "write `tolerance = \"50%\"` for half as much again".to_owned();
        section.reader.wrong(text.span, message, Some(help));
    }
    percent
}

pub(super) fn missing(section: &Section<'_>) -> Option<Missing> {
    let text = section.string("missing")?;
    let missing = Missing::named(&text.value);
    if missing.is_none() {
        let words = Missing::ALL.map(|(_, word)| format!("{word:?}")).join(", ");
        let message = format!("`missing`: {:?} is none of {words}", text.value);
        section.reader.wrong(text.span, message, None);
    }
    missing
}

/// What an analysis needs of the checks: there must be some, and each must be asked in every window.
pub(super) fn must_compare(environment: &Section<'_>, analysis: &CanaryAnalysis, checks: &[Check]) {
    let span = environment.key_span("analysis");
    let Some(rarest) = checks.iter().max_by_key(|check| check.interval) else {
        let message = "the analysis compares what the checks measure, and there is no [[check]]";
        return environment.reader.wrong(
            span,
            message,
            Some("add a `[[check]]`, or remove `analysis`".to_owned()),
        );
    };
    if rarest.interval > analysis.window {
        let (interval, window) = (human::format(rarest.interval), human::format(analysis.window));
        let message = format!(
            "window ({window}) of the analysis is shorter than interval ({interval}) of check {}: most windows would \
             have no figures",
            rarest.name
        );
        environment.reader.wrong(span, message, None);
    }
}
