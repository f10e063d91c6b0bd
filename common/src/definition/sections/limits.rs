//! `limits` of an environment: what the release may show at most while it is watched.

use std::collections::BTreeMap;

use super::analysis::{missing, share};
use super::{bytes, duration};
use crate::definition::diagnostic::nearest;
use crate::definition::reader::{At, Section};
use crate::ids::MetricName;
use crate::manifest::Check;
use crate::manifest::metric::{AppMetric, Asked, Decimal};
use crate::strategy::{Limit, Limits, Share, Strategy};
use crate::time::human;

/// The limits of an environment, for a release that shows these metrics.
pub(super) fn limits(environment: &Section<'_>, metrics: &[AppMetric]) -> Option<Limits> {
    let section = environment.table("limits", "limits", "`limits`")?;
    let by_default = Limits::default();
    Some(Limits {
        window: duration(&section, "window", by_default.window),
        deadline: duration(&section, "deadline", by_default.deadline),
        alpha: share(&section, "alpha").unwrap_or(by_default.alpha),
        beta: share(&section, "beta").unwrap_or(by_default.beta),
        latency: section.has("latency").then(|| duration(&section, "latency", by_default.deadline)),
        failures: share(&section, "failures"),
        cpu: share(&section, "cpu"),
        memory_bytes: section.string("memory").and_then(|text| bytes(&section, "memory", &text)),
        metrics: of_metrics(&section, metrics),
        missing: missing(&section).unwrap_or(by_default.missing),
    })
}

fn of_metrics(section: &Section<'_>, known: &[AppMetric]) -> BTreeMap<MetricName, Limit> {
    let said = section.map("metrics").unwrap_or_default();
    let limit = |(name, text): (String, At<String>)| {
        let Some(metric) = known.iter().find(|metric| metric.name.as_str() == name) else {
            let message = format!("`metrics`: there is no `[[metric]]` {name:?}");
            let help = nearest(&name, known.iter().map(|metric| metric.name.as_str()))
                .map(|name| format!("write `{name}`"));
            section.reader.wrong(text.span, message, help);
            return None;
        };
        Some((metric.name.clone(), of_metric(section, metric, text)?))
    };
    said.into_iter().filter_map(limit).collect()
}

fn of_metric(section: &Section<'_>, metric: &AppMetric, text: At<String>) -> Option<Limit> {
    let (limit, example) = match &metric.asked {
        Asked::Ratio { .. } | Asked::Histogram { .. } => {
            (Share::parse(&text.value).map(Limit::Share), "a share, such as \"5%\"")
        }
        Asked::Gauge { .. } | Asked::Counter { .. } => {
            (Decimal::new(text.value.clone()).ok().map(Limit::Level), "a number, such as \"300\"")
        }
    };
    if limit.is_none() {
        let message = format!("`{}`: {:?} is not what the metric shows", metric.name, text.value);
        section.reader.wrong(text.span, message, Some(format!("write {example}")));
    }
    limit
}

/// What limits need: a watch in which they hold, and whatever they are about, measured in every window.
pub(super) fn must_hold(
    environment: &Section<'_>,
    strategy: &Strategy,
    checks: &[Check],
    has_services: bool,
) {
    let Some(limits) = &strategy.limits else { return };
    let span = environment.key_span("limits");
    if strategy.watch.is_zero() {
        let message = "the limits hold while the release is watched, and it is not";
        let help = Some("add `watch = \"30m\"`, or remove `limits`".to_owned());
        return environment.reader.wrong(span, message, help);
    }
    let of_services = limits.cpu.is_some() || limits.memory_bytes.is_some();
    if of_services && !has_services {
        let message = "the limits hold what services use, and there is no [[service]]";
        let help = Some("add a `[[service]]`, or remove `cpu` and `memory`".to_owned());
        return environment.reader.wrong(span, message, help);
    }
    if limits.latency.is_none() && limits.failures.is_none() {
        return;
    }
    let Some(rarest) = checks.iter().max_by_key(|check| check.interval) else {
        let message = "the limits hold what the checks measure, and there is no [[check]]";
        let help = Some("add a `[[check]]`, or remove `latency` and `failures`".to_owned());
        return environment.reader.wrong(span, message, help);
    };
    if rarest.interval > limits.window {
        let (interval, window) = (human::format(rarest.interval), human::format(limits.window));
        let message = format!(
            "window ({window}) of the limits is shorter than interval ({interval}) of check {}: most windows would have no \
             figures",
            rarest.name
        );
        environment.reader.wrong(span, message, None);
    }
}
