//! The canary of a rollout beside the hosts that still run the release before: the figures of both, window by window,
//! and what the analysis says of them. In memory only: a controller that starts begins anew.
//!
//! What the test is and what it assumes is in [`crate::analysis`]; what follows from its verdict in the planner.
//!
//! While a release is watched no host is left on the one before: then its figures stand against [limits] that somebody has
//! given.

mod limits;
mod named;
mod service;
mod shown;

use std::collections::BTreeMap;

use landfall_common::manifest::AppMetric;
use landfall_common::manifest::metric::MAX_METRICS;
use landfall_common::strategy::{CanaryAnalysis, Limits, Missing};
use landfall_common::{Duration, HostId, MetricName, RolloutId, ServiceName, StepName, Timestamp};

use crate::analysis::{
    Analysis, Count, Metric, OnMissing, Outcome, Report, Settings, Successive, Tolerance, Unit, Verdict,
    Window, Worse, report,
};
use crate::observation::{CheckFigures, Figures, MetricFigures, Shown};
use crate::record::ReleaseRecord;

use service::Use;
use shown::Showing;

pub use named::{Named, limits};

/// So many checks of a release are compared, the first ones of its definition: each takes memory for each host of an
/// environment, and of the rate of false alarms.
pub const MAX_CHECKS: usize = 8;

/// And so many services.
pub const MAX_SERVICES: usize = 8;

/// What a release has in common with the one before it, in its own order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subjects {
    /// Checks, by name.
    pub checks: Vec<StepName>,
    /// Services, by name.
    pub services: Vec<ServiceName>,
    /// What the application shows of itself, as the release has it.
    pub metrics: Vec<AppMetric>,
}

/// The comparison of one rollout.
#[derive(Debug, Clone)]
pub struct Comparison {
    rollout: RolloutId,
    length: Duration,
    subjects: Subjects,
    test: Test,
    report: Report,
    open: Open,
    /// Why a metric of the application is missing, as a host of each side said last.
    missing: BTreeMap<(MetricName, On), (HostId, String)>,
    /// Whether it has seen the canary held from the beginning.
    whole: bool,
    /// When a window ended last after which it passed.
    passed_at: Option<Timestamp>,
    /// Since when it does.
    passes_since: Option<Timestamp>,
    /// Of how many hosts figures are due in a window: less than half of them stand for nobody. 0 where one is enough.
    due: usize,
}

/// How the windows are judged.
#[derive(Debug, Clone)]
enum Test {
    /// All together: a canary is held until it is known.
    Once(Analysis),
    /// Again and again: what is watched may turn bad late.
    Successive(Successive),
}

/// The window that has not ended.
#[derive(Debug, Clone, Default)]
struct Open {
    since: Option<Timestamp>,
    canary: Side,
    baseline: Side,
}

/// Of each host what it measured, in the order of what is compared.
type Side = BTreeMap<HostId, Measured>;

/// What a host measured in a window.
#[derive(Debug, Clone, Default)]
struct Measured {
    checks: Vec<Tally>,
    services: Vec<Use>,
    metrics: Vec<Showing>,
}

/// What a check of a host measured in a window.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    asked: u64,
    failed: u64,
    /// The sum of the medians of each heartbeat in seconds, each as often as the check was asked.
    weighted: f64,
}

/// On which side a host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum On {
    Canary,
    Baseline,
}

impl Comparison {
    /// Of these; `whole` if the canary is held from now on.
    pub(crate) fn new(rollout: RolloutId, asked: &CanaryAnalysis, subjects: Subjects, whole: bool) -> Self {
        let subjects = subjects.bounded();
        let settings = Settings::new(asked.alpha.fraction(), asked.beta.fraction()).unwrap_or_default();
        let test = Test::Once(Analysis::new(settings, analysis(&subjects, asked)));
        Self::by(test, rollout, asked.window, subjects, whole)
    }

    /// Of a release that is watched, against what it may show at most; `whole` if it is watched from now on.
    pub(crate) fn within(
        rollout: RolloutId,
        (limits, watch): (&Limits, Duration),
        subjects: Subjects,
        whole: bool,
    ) -> Self {
        let subjects = subjects.bounded();
        let settings = Settings::new(limits.alpha.fraction(), limits.beta.fraction()).unwrap_or_default();
        let planned = watch.as_millis() / limits.window.as_millis().max(1);
        let planned = u32::try_from(planned).unwrap_or(u32::MAX);
        let test = Test::Successive(Successive::new(settings, limits::metrics(&subjects, limits), planned));
        Self::by(test, rollout, limits.window, subjects, whole)
    }

    /// Nothing was seen yet.
    fn by(test: Test, rollout: RolloutId, length: Duration, subjects: Subjects, whole: bool) -> Self {
        Self {
            rollout,
            length,
            subjects,
            report: test.report(),
            test,
            open: Open::default(),
            missing: BTreeMap::new(),
            whole,
            passed_at: None,
            passes_since: None,
            due: 0,
        }
    }

    /// Of which rollout.
    #[must_use]
    pub fn rollout(&self) -> &RolloutId {
        &self.rollout
    }

    /// Whether it has seen the canary held from the beginning: not if the controller was started since.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Whether it holds what is watched to its limits, and is not that of a canary.
    #[must_use]
    pub fn is_of_the_watch(&self) -> bool {
        matches!(self.test, Test::Successive(_))
    }

    /// How long a window is.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.length
    }

    /// How many windows have ended.
    #[must_use]
    pub fn windows(&self) -> u32 {
        self.test.windows()
    }

    /// What is found so far, metric by metric.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// When it was known last to pass.
    #[must_use]
    pub fn passed_at(&self) -> Option<Timestamp> {
        self.passed_at
    }

    /// Since when it is known to pass, if it is.
    #[must_use]
    pub fn passes_since(&self) -> Option<Timestamp> {
        self.passes_since
    }

    /// Whether the window that is open ends with figures that come now.
    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        self.open.since.is_some_and(|since| now.since(since) >= self.length)
    }

    /// Says of how many hosts figures are due in the window that is open.
    pub(crate) fn expect(&mut self, hosts: usize) {
        self.due = hosts;
    }

    /// What follows so far. Nothing follows from no comparison (P5), nor from figures that are all missing.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let is_compared = |outcome| !matches!(outcome, Outcome::Ignored(_));
        let mut findings = self.report.findings.iter();
        let decides = findings.any(|finding| finding.metric.critical && is_compared(finding.outcome));
        if decides { self.report.verdict } else { Verdict::Inconclusive }
    }

    /// Takes in what a host measured since it last said so. A window ends with the first figures after its time.
    pub(crate) fn take(&mut self, host: &HostId, on: On, figures: &Figures, now: Timestamp) {
        let since = *self.open.since.get_or_insert(now);
        if now.since(since) >= self.length {
            self.end_window();
            if self.verdict() == Verdict::Pass {
                self.passed_at = Some(now);
                self.passes_since.get_or_insert(now);
            } else {
                self.passes_since = None;
            }
            self.open.since = Some(now);
        }
        let side = match on {
            On::Canary => &mut self.open.canary,
            On::Baseline => &mut self.open.baseline,
        };
        let measured = side.entry(host.clone()).or_insert_with(|| Measured {
            checks: vec![Tally::default(); self.subjects.checks.len()],
            services: vec![Use::default(); self.subjects.services.len()],
            metrics: vec![Showing::default(); self.subjects.metrics.len()],
        });
        for (tally, check) in measured.checks.iter_mut().zip(&self.subjects.checks) {
            if let Some(figures) = figures.checks.iter().find(|figures| figures.check == *check) {
                tally.add(figures);
            }
        }
        for (used, service) in measured.services.iter_mut().zip(&self.subjects.services) {
            let figures = figures.services.iter().find(|figures| figures.service == *service);
            // What a host that was away has measured meanwhile is not of this window.
            if let Some(figures) = figures.filter(|figures| figures.period <= self.length * 2) {
                used.add(figures);
            }
        }
        for (showing, metric) in measured.metrics.iter_mut().zip(&self.subjects.metrics) {
            let figures = figures.metrics.iter().find(|figures| figures.metric == metric.name);
            let Some(figures) = figures.filter(|figures| figures.period <= self.length * 2) else { continue };
            showing.add(figures);
            let said = (metric.name.clone(), on);
            if let Some(why) = why_missing(figures) {
                self.missing.insert(said, (host.clone(), why));
            } else if self.missing.get(&said).is_some_and(|(who, _)| who == host) {
                self.missing.remove(&said);
            }
        }
    }

    /// The clock was set: how long the window has lasted nobody knows.
    pub(crate) fn forget_window(&mut self) {
        self.open = Open::default();
        (self.passed_at, self.passes_since) = (None, None);
    }

    fn end_window(&mut self) {
        let Open { canary, baseline, .. } = std::mem::take(&mut self.open);
        let mut window = BTreeMap::new();
        for (at, check) in self.subjects.checks.iter().enumerate() {
            let level = |of: &Measured| of.checks[at].level();
            let count = |of: &Measured| of.checks[at].count();
            window.insert(latency_of(check), levels(&canary, &baseline, level));
            window.insert(failures_of(check), events(&canary, &baseline, count));
        }
        for (at, service) in self.subjects.services.iter().enumerate() {
            let of = |of: &Measured| of.services[at];
            window.insert(service::cpu_of(service), levels(&canary, &baseline, |host| of(host).cpu()));
            window.insert(service::memory_of(service), levels(&canary, &baseline, |host| of(host).memory()));
            let restarts = events(&canary, &baseline, |host| of(host).restarts());
            window.insert(service::restarts_of(service), restarts);
        }
        for (at, metric) in self.subjects.metrics.iter().enumerate() {
            let of = |of: &Measured| of.metrics[at];
            let figures = match shown::is_level(metric) {
                true => levels(&canary, &baseline, |host| of(host).level()),
                false => events(&canary, &baseline, |host| of(host).count()),
            };
            window.insert(metric.name.to_string(), figures);
        }
        let enough = |window: &Window| match window {
            Window::Level { canary, .. } => canary.len() * 2 >= self.due,
            Window::Events { canary, .. } => {
                canary.iter().filter(|count| count.of > 0).count() * 2 >= self.due
            }
        };
        window.retain(|_, window| enough(window));
        self.test.observe(&window);
        self.report = self.test.report();
        for finding in &mut self.report.findings {
            let none_yet = (finding.paired == 0).then_some(report::Missing::Both);
            let Some(whose) = finding.missing().or(none_yet) else { continue };
            let Ok(name) = MetricName::new(finding.metric.name.as_str()) else { continue };
            let sides: &[On] = match whose {
                report::Missing::Canary => &[On::Canary],
                report::Missing::Baseline => &[On::Baseline],
                report::Missing::Both => &[On::Canary, On::Baseline],
            };
            let said = sides.iter().find_map(|on| self.missing.get(&(name.clone(), *on)));
            finding.note = said.map(|(host, why)| format!("{host}: {why}"));
        }
    }
}

impl Test {
    fn observe(&mut self, window: &BTreeMap<String, Window>) {
        match self {
            Self::Once(analysis) => analysis.observe(window),
            Self::Successive(successive) => successive.observe(window),
        }
    }

    fn report(&self) -> Report {
        match self {
            Self::Once(analysis) => analysis.report(),
            Self::Successive(successive) => successive.report(),
        }
    }

    fn windows(&self) -> u32 {
        match self {
            Self::Once(analysis) => analysis.windows(),
            Self::Successive(successive) => successive.windows(),
        }
    }
}

/// All that is compared of these.
fn analysis(subjects: &Subjects, asked: &CanaryAnalysis) -> Vec<Metric> {
    let of_checks = subjects.checks.iter().flat_map(|check| metrics(check, asked));
    let of_services = subjects.services.iter().flat_map(|service| service::metrics(service, asked));
    of_checks.chain(of_services).chain(subjects.metrics.iter().map(shown::metric)).collect()
}

/// Why figures are none, as a host says it.
fn why_missing(figures: &MetricFigures) -> Option<String> {
    match &figures.figure {
        Err(why) => Some(why.clone()),
        Ok(Shown::Events { of: 0, .. }) => Some("nothing was counted".to_owned()),
        Ok(_) => None,
    }
}

/// A figure of each host that has one.
fn levels(canary: &Side, baseline: &Side, of: impl Fn(&Measured) -> Option<f64>) -> Window {
    let side = |side: &Side| side.values().filter_map(&of).collect();
    Window::Level { canary: side(canary), baseline: side(baseline) }
}

/// The count of each host.
fn events(canary: &Side, baseline: &Side, of: impl Fn(&Measured) -> Count) -> Window {
    let side = |side: &Side| side.values().map(&of).collect();
    Window::Events { canary: side(canary), baseline: side(baseline) }
}

impl Subjects {
    /// Of one that was published to an older controller nothing is known: then what is missing shows as missing.
    pub(crate) fn of(release: Option<&ReleaseRecord>, before: Option<&ReleaseRecord>) -> Self {
        Self {
            checks: in_common(release, before, |release| &release.checks),
            services: in_common(release, before, |release| &release.services),
            metrics: metrics_in_common(release, before),
        }
    }

    /// All that a release has, which is compared with no other one.
    pub(crate) fn alone(release: Option<&ReleaseRecord>) -> Self {
        Self {
            checks: release.map(|release| release.checks.clone()).unwrap_or_default(),
            services: release.map(|release| release.services.clone()).unwrap_or_default(),
            metrics: release.map(|release| release.metrics.clone()).unwrap_or_default(),
        }
    }

    /// As many as are compared.
    fn bounded(mut self) -> Self {
        self.checks.truncate(MAX_CHECKS);
        self.services.truncate(MAX_SERVICES);
        self.metrics.truncate(MAX_METRICS);
        self
    }
}

fn in_common<N: Clone + PartialEq>(
    release: Option<&ReleaseRecord>,
    before: Option<&ReleaseRecord>,
    all: impl Fn(&ReleaseRecord) -> &Vec<N>,
) -> Vec<N> {
    let before = before.map(&all).map(Vec::as_slice).unwrap_or_default();
    let common = |name: &&N| before.is_empty() || before.contains(name);
    release.into_iter().flat_map(&all).filter(common).cloned().collect()
}

/// A release of which none is known has none: a controller that does not know them publishes no release that has some.
fn metrics_in_common(release: Option<&ReleaseRecord>, before: Option<&ReleaseRecord>) -> Vec<AppMetric> {
    let before = before.map(|before| before.metrics.as_slice()).unwrap_or_default();
    let common = |metric: &&AppMetric| before.iter().any(|known| metric.is_comparable(known));
    release.into_iter().flat_map(|release| &release.metrics).filter(common).cloned().collect()
}

impl Tally {
    fn add(&mut self, figures: &CheckFigures) {
        self.asked += u64::from(figures.count);
        self.failed += u64::from(figures.failed.min(figures.count));
        self.weighted += figures.p50.as_secs_f64() * f64::from(figures.count);
    }

    #[expect(clippy::cast_precision_loss, reason = "how often a check is asked in ten minutes")]
    fn level(self) -> Option<f64> {
        (self.asked > 0).then(|| self.weighted / self.asked as f64)
    }

    fn count(self) -> Count {
        Count { events: self.failed, of: self.asked }
    }
}

fn latency_of(check: &StepName) -> String {
    format!("latency of {check}")
}

fn failures_of(check: &StepName) -> String {
    format!("failures of {check}")
}

fn metrics(check: &StepName, asked: &CanaryAnalysis) -> [Metric; 2] {
    let (latency, failures) = (&asked.latency, &asked.failures);
    [
        Metric {
            name: latency_of(check),
            worse: Worse::Higher,
            tolerance: Tolerance::Level {
                ratio: ratio(latency.tolerance_percent),
                slack: latency.slack.as_secs_f64(),
            },
            critical: latency.critical,
            on_missing: on_missing(latency.missing),
            unit: Unit::Seconds,
        },
        Metric {
            name: failures_of(check),
            worse: Worse::Higher,
            tolerance: Tolerance::Events {
                ratio: ratio(failures.tolerance_percent),
                floor: failures.floor.fraction(),
            },
            critical: failures.critical,
            on_missing: on_missing(failures.missing),
            unit: Unit::Share,
        },
    ]
}

/// So many per cent more, as so many times.
fn ratio(more_percent: u32) -> f64 {
    1.0 + f64::from(more_percent) / 100.0
}

fn on_missing(missing: Missing) -> OnMissing {
    match missing {
        Missing::Pause => OnMissing::Inconclusive,
        Missing::Ignore => OnMissing::Pass,
        Missing::Fail => OnMissing::Fail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(count: u32, failed: u32, p50_ms: u64) -> Figures {
        let check = StepName::new("web").unwrap();
        let checks = vec![CheckFigures { check, count, failed, p50: Duration::from_millis(p50_ms) }];
        Figures { checks, ..Figures::default() }
    }

    fn host(number: u32) -> HostId {
        HostId::new(format!("web-{number}")).unwrap()
    }

    fn comparison(checks: &[&str]) -> Comparison {
        let checks = checks.iter().map(|check| StepName::new(*check).unwrap()).collect();
        let subjects = Subjects { checks, ..Subjects::default() };
        Comparison::new(RolloutId::new("r-1").unwrap(), &CanaryAnalysis::default(), subjects, true)
    }

    /// One canary against three others, each heard of every ten seconds.
    fn minutes(comparison: &mut Comparison, minutes: u64, canary_ms: u64) {
        for heartbeat in 0..minutes * 6 {
            let now = Timestamp::from_ms(1_000_000 + heartbeat * 10_000);
            comparison.take(&host(1), On::Canary, &figures(10, 0, canary_ms + heartbeat % 3), now);
            (2..5).for_each(|n| {
                comparison.take(&host(n), On::Baseline, &figures(10, 0, 20 + heartbeat % 5), now);
            });
        }
    }

    #[test]
    fn a_canary_that_is_as_fast_as_the_others_passes_and_one_that_is_slow_fails() {
        let mut good = comparison(&["web"]);
        minutes(&mut good, 10, 21);
        assert_eq!((good.verdict(), good.windows()), (Verdict::Pass, 19));
        insta::assert_snapshot!(good.report(), @"latency of web: 22 ms on the canary against 22 ms (0.957 to 1.05 times), beyond its tolerance of 1.5 times (at least 10 ms) in 0 of 19 windows; failures of web: 0 % on the canary against 0 % (0 of all 0, with 25 % of what was counted) in 19 windows; allowed: 1 %, or 1.5 times the others'");
        let mut bad = comparison(&["web"]);
        minutes(&mut bad, 10, 420);
        assert_eq!(bad.verdict(), Verdict::Fail);
        insta::assert_snapshot!(bad.report(), @"latency of web: 421 ms on the canary against 22 ms (18.3 to 20 times), beyond its tolerance of 1.5 times (at least 10 ms) in 19 of 19 windows");
    }

    #[test]
    fn nothing_follows_from_no_figures_and_from_nothing_to_compare() {
        let mut none = comparison(&[]);
        minutes(&mut none, 10, 21);
        assert_eq!(none.verdict(), Verdict::Inconclusive);
        let mut other = comparison(&["worker"]);
        minutes(&mut other, 10, 21);
        assert_eq!(other.verdict(), Verdict::Inconclusive);
        insta::assert_snapshot!(other.report(), @"latency of worker: no figures in 19 of 19 windows; failures of worker: no figures in 19 of 19 windows");
    }

    /// Ten windows in one: a leap of the clock makes no evidence.
    #[test]
    fn a_window_of_unknown_length_is_none() {
        let mut comparison = comparison(&["web"]);
        minutes(&mut comparison, 2, 21);
        let windows = comparison.windows();
        comparison.forget_window();
        comparison.take(&host(1), On::Canary, &figures(10, 0, 900), Timestamp::from_ms(90_000_000));
        assert_eq!(comparison.windows(), windows);
    }

    #[test]
    fn only_so_many_checks_are_compared() {
        let names: Vec<String> = (0..20).map(|n| format!("check-{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(comparison(&names).report().findings.len(), 2 * MAX_CHECKS);
    }
}
