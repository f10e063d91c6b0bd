//! What a release that is watched may show at most.

use landfall_common::manifest::AppMetric;
use landfall_common::strategy::{Limit, Limits};

use crate::analysis::window::number;
use crate::analysis::{Metric, Tolerance, Unit, Worse};

use super::{Subjects, failures_of, latency_of, on_missing, service, shown};

/// What the limits hold of these: of each check and service, and of the metrics that they name.
pub(super) fn metrics(subjects: &Subjects, limits: &Limits) -> Vec<Metric> {
    let limited = |name: String, most: f64, unit: Unit| Metric {
        name,
        worse: Worse::Higher,
        tolerance: Tolerance::Limit { most },
        critical: true,
        on_missing: on_missing(limits.missing),
        unit,
    };
    let mut all = Vec::new();
    for check in &subjects.checks {
        all.extend(limits.latency.map(|most| limited(latency_of(check), most.as_secs_f64(), Unit::Seconds)));
        all.extend(limits.failures.map(|most| limited(failures_of(check), most.fraction(), Unit::Share)));
    }
    for name in &subjects.services {
        all.extend(limits.cpu.map(|most| limited(service::cpu_of(name), most.fraction(), Unit::Cores)));
        let memory = |most| limited(service::memory_of(name), number(most), Unit::Bytes);
        all.extend(limits.memory_bytes.map(memory));
    }
    let of_metric = |metric: &AppMetric| {
        let most = limits.metrics.get(&metric.name).map(Limit::value)?;
        let known = shown::metric(metric);
        Some(Metric { worse: known.worse, ..limited(known.name, most, known.unit) })
    };
    all.extend(subjects.metrics.iter().filter_map(of_metric));
    all
}

impl Metric {
    /// `latency of web at most 500 ms`, of one that stands against a limit.
    #[must_use]
    pub fn limit(&self) -> Option<String> {
        let Tolerance::Limit { most } = self.tolerance else { return None };
        let may_be = if self.worse == Worse::Higher { "at most" } else { "at least" };
        Some(format!("{} {may_be} {}", self.name, self.unit.write(most)))
    }
}
