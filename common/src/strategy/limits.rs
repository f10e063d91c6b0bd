//! What a release may show at most while it is watched after the last batch, when no host is left on the release before to
//! compare it with. Whole numbers and texts only: this is signed with the manifest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::MetricName;
use crate::manifest::metric::{Decimal, MAX_METRICS};
use crate::time::{Duration, duration_ms, optional_duration_ms};

use super::analysis::{Missing, Share, check_test};

/// A watch is no longer, and nobody waits for longer.
const MAX_DEADLINE: Duration = Duration::from_secs(24 * 3600);

/// Limits that hold whatever other hosts show. What is beyond one of them in most windows goes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Each window is one observation.
    #[serde(rename = "window_ms", with = "duration_ms")]
    pub window: Duration,
    /// The rollout pauses when nothing is known for so long after the watch would be over, and after it was known last that
    /// the release keeps within them.
    #[serde(rename = "deadline_ms", with = "duration_ms")]
    pub deadline: Duration,
    /// Of releases that are at no time beyond a limit in more than half of the windows, at most so many are taken back.
    pub alpha: Share,
    /// Of releases that are beyond one in a third of all windows or more, at most so many pass.
    pub beta: Share,
    /// How long a check may take, each by itself.
    #[serde(
        rename = "latency_ms",
        with = "optional_duration_ms",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub latency: Option<Duration>,
    /// How many of its probes may fail, each check by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<Share>,
    /// How much processor time a service may take, in hundredths of a per cent of one core; each by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Share>,
    /// How much memory it may hold, files aside, in bytes; each by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// What the application's own metrics may show at most; at least, where lower is worse.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<MetricName, Limit>,
    /// What it means that there are no figures.
    pub missing: Missing,
}

/// How far a metric of the application may go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Of one that is a share: ratios and histograms.
    Share(Share),
    /// Of any other, in its own unit; of a counter a second.
    Level(Decimal),
}

impl Limit {
    /// As a number; a share lies between 0 and 1.
    #[must_use]
    pub fn value(&self) -> f64 {
        match self {
            Self::Share(share) => share.fraction(),
            Self::Level(level) => level.value(),
        }
    }
}

impl Default for Limits {
    /// None yet; windows and rates as of the canary's analysis.
    fn default() -> Self {
        Self {
            window: Duration::from_secs(30),
            deadline: Duration::from_secs(30 * 60),
            alpha: Share::percent(5),
            beta: Share::percent(5),
            latency: None,
            failures: None,
            cpu: None,
            memory_bytes: None,
            metrics: BTreeMap::new(),
            missing: Missing::Pause,
        }
    }
}

impl Limits {
    /// Checks each knob, and what must hold between them.
    ///
    /// # Errors
    /// A sentence naming the knob and its value.
    pub(super) fn check(&self) -> Result<(), String> {
        check_test("limits", (self.window, self.deadline, MAX_DEADLINE), (self.alpha, self.beta))?;
        for (name, is_zero) in [
            ("latency", self.latency.is_some_and(|latency| latency.is_zero())),
            ("cpu", self.cpu == Some(Share(0))),
            ("memory", self.memory_bytes == Some(0)),
        ] {
            if is_zero {
                return Err(format!("{name} of the limits is 0, which nothing keeps within"));
            }
        }
        if self.failures.is_some_and(|failures| failures >= Share::percent(100)) {
            return Err(
                "failures of the limits must be below 100%: all of them may fail otherwise".to_owned()
            );
        }
        if self.metrics.len() > MAX_METRICS {
            let many = self.metrics.len();
            return Err(format!("metrics of the limits are {many}, and must be at most {MAX_METRICS}"));
        }
        let holds = self.latency.is_some()
            || self.failures.is_some()
            || self.cpu.is_some()
            || self.memory_bytes.is_some()
            || !self.metrics.is_empty();
        if !holds {
            return Err("the limits name nothing that they hold: latency, failures, cpu, memory or metrics"
                .to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_knob_has_its_bounds() {
        let latency = Some(Duration::from_millis(500));
        let some = || Limits { latency, ..Limits::default() };
        let seconds = Duration::from_secs;
        assert_eq!(some().check(), Ok(()));
        let wrong = |limits: Limits| limits.check().unwrap_err();
        insta::assert_snapshot!(wrong(Limits::default()), @"the limits name nothing that they hold: latency, failures, cpu, memory or metrics");
        insta::assert_snapshot!(wrong(Limits { window: seconds(5), ..some() }), @"window (5s) of the limits must be from 10s, in which every host reports, to 10m");
        insta::assert_snapshot!(wrong(Limits { deadline: seconds(60), ..some() }), @"deadline (1m) of the limits is too short: 5 windows of 30s are the least that can tell anything");
        insta::assert_snapshot!(wrong(Limits { deadline: seconds(90_000), ..some() }), @"deadline (1d1h) of the limits must be at most 1d");
        insta::assert_snapshot!(wrong(Limits { beta: Share::percent(51), ..some() }), @"beta (51%) of the limits must be from 0.01% to 50%");
        insta::assert_snapshot!(wrong(Limits { latency: Some(Duration::ZERO), ..some() }), @"latency of the limits is 0, which nothing keeps within");
        insta::assert_snapshot!(wrong(Limits { failures: Some(Share::percent(100)), ..some() }), @"failures of the limits must be below 100%: all of them may fail otherwise");
    }

    #[test]
    fn what_is_signed_reads_as_it_was_written() {
        let queue = (MetricName::new("queue").unwrap(), Limit::Level(Decimal::new("300").unwrap()));
        let errors = (MetricName::new("errors").unwrap(), Limit::Share(Share::percent(5)));
        let limits = Limits { metrics: [queue, errors].into(), ..Limits::default() };
        let written = serde_json::to_string(&limits).unwrap();
        insta::assert_snapshot!(written, @r#"{"window_ms":30000,"deadline_ms":1800000,"alpha":500,"beta":500,"metrics":{"errors":{"share":500},"queue":{"level":"300"}},"missing":"pause"}"#);
        assert_eq!(serde_json::from_str::<Limits>(&written).unwrap(), limits);
    }
}
