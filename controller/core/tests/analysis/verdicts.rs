//! What it says to people, in one case of each kind.

use std::collections::BTreeMap;

use insta::assert_snapshot;
use landfall_controller_core::analysis::{
    Analysis, Count, Finding, Invalid, Metric, OnMissing, Outcome, Report, Settings, Tolerance, Unit,
    Verdict, Window, Worse,
};

fn latency() -> Metric {
    Metric {
        name: "p95".into(),
        worse: Worse::Higher,
        tolerance: Tolerance::level(1.2, 0.005).unwrap(),
        critical: true,
        on_missing: OnMissing::Inconclusive,
        unit: Unit::Seconds,
    }
}

fn errors() -> Metric {
    Metric {
        name: "errors".into(),
        tolerance: Tolerance::events(1.5, 0.005).unwrap(),
        unit: Unit::Share,
        ..latency()
    }
}

fn throughput() -> Metric {
    Metric {
        name: "throughput".into(),
        worse: Worse::Lower,
        tolerance: Tolerance::level(1.25, 0.0).unwrap(),
        unit: Unit::Plain,
        ..latency()
    }
}

/// One canary against three, with some jitter that does not decide anything.
fn level(canary: f64, baseline: f64, at: u32) -> Window {
    let jitter = 1.0 + 0.01 * f64::from(at % 3);
    Window::Level { canary: vec![canary * jitter], baseline: vec![baseline, baseline * 0.9, baseline * 7.0] }
}

fn events(canary: u64, baseline: u64) -> Window {
    let host = |events| Count { events, of: 100 };
    Window::Events { canary: vec![host(canary)], baseline: vec![host(baseline), host(0), host(0)] }
}

fn after(count: u32, metrics: &[Metric], window: impl Fn(u32) -> Vec<(&'static str, Window)>) -> Report {
    let mut analysis = Analysis::new(Settings::default(), metrics.to_vec());
    for at in 0..count {
        let window = window(at).into_iter().map(|(name, window)| (name.to_owned(), window));
        analysis.observe(&window.collect::<BTreeMap<_, _>>());
    }
    assert_eq!(analysis.windows(), count);
    analysis.report()
}

fn said(report: &Report) -> String {
    format!("{:?}: {report}", report.verdict)
}

#[test]
fn a_slow_canary_fails_and_it_says_how_slow_it_is() {
    assert_snapshot!(said(&after(15, &[latency()], |at| vec![("p95", level(0.31, 0.2, at))])), @"Fail: p95: 313 ms on the canary against 200 ms (1.55 to 1.58 times), beyond its tolerance of 1.2 times (at least 5 ms) in 15 of 15 windows");
}

#[test]
fn a_canary_as_good_as_the_others_passes() {
    assert_snapshot!(said(&after(12, &[latency()], |at| vec![("p95", level(0.201, 0.2, at))])), @"Pass: p95: 203 ms on the canary against 200 ms, beyond its tolerance of 1.2 times (at least 5 ms) in 0 of 12 windows");
}

#[test]
fn early_it_cannot_be_told_and_it_says_how_many_windows_it_takes() {
    let report = after(5, &[latency()], |at| vec![("p95", level(0.201, 0.2, at))]);
    assert_snapshot!(said(&report), @"Inconclusive: p95: 203 ms on the canary against 200 ms, beyond its tolerance of 1.2 times (at least 5 ms) in 0 of 5 windows; about 6 more windows would tell");
    // And so it is.
    let Outcome::Inconclusive { more: Some(more) } = report.findings[0].outcome else { panic!("{report}") };
    let verdict = |count| after(count, &[latency()], |at| vec![("p95", level(0.201, 0.2, at))]).verdict;
    assert_eq!(verdict(5 + more), Verdict::Pass);
    assert_eq!(verdict(5 + more - 1), Verdict::Inconclusive);
}

#[test]
fn a_canary_that_is_as_often_worse_as_not_is_never_told() {
    let report =
        after(40, &[latency()], |at| vec![("p95", level(if at % 2 == 0 { 0.3 } else { 0.2 }, 0.2, at))]);
    assert_snapshot!(said(&report), @"Inconclusive: p95: 247 ms on the canary against 200 ms (1 to 1.53 times), beyond its tolerance of 1.2 times (at least 5 ms) in 20 of 40 windows; more windows like these would not tell");
}

#[test]
fn failures_that_fall_on_the_canary_alone_fail_it() {
    assert_snapshot!(said(&after(8, &[errors()], |_| vec![("errors", events(5, 0))])), @"Fail: errors: 5 % on the canary against 0 % (40 of all 40, with 25 % of what was counted) in 8 windows; allowed: 0.5 %, or 1.5 times the others'");
}

#[test]
fn failures_that_fall_on_all_alike_do_not() {
    let report = after(30, &[errors()], |at| vec![("errors", events(u64::from(at % 2), u64::from(at % 3)))]);
    assert_ne!(report.verdict, Verdict::Fail, "{report}");
}

#[test]
fn a_few_failures_below_the_floor_pass_even_if_the_others_have_none() {
    let report = after(30, &[errors()], |at| vec![("errors", events(u64::from(at % 10 == 4), 0))]);
    assert_snapshot!(said(&report), @"Pass: errors: 0.1 % on the canary against 0 % (3 of all 3, with 25 % of what was counted) in 30 windows; allowed: 0.5 %, or 1.5 times the others'");
}

#[test]
fn many_failures_in_few_windows_do_not_pass() {
    let report = after(30, &[errors()], |at| vec![("errors", events(if at % 10 == 4 { 30 } else { 0 }, 0))]);
    assert_snapshot!(said(&report), @"Inconclusive: errors: 3 % on the canary against 0 % (90 of all 90, with 25 % of what was counted) in 30 windows; allowed: 0.5 %, or 1.5 times the others'; about 58 more windows would tell");
}

#[test]
fn where_lower_is_worse_a_canary_that_does_less_fails() {
    assert_snapshot!(said(&after(15, &[throughput()], |at| vec![("throughput", level(70.0, 100.0, at))])), @"Fail: throughput: 70.7 on the canary against 100 (0.7 to 0.714 times), beyond its tolerance of 1.25 times in 15 of 15 windows");
    let more = after(15, &[throughput()], |at| vec![("throughput", level(170.0, 100.0, at))]);
    assert_eq!(more.verdict, Verdict::Pass);
}

#[test]
fn one_critical_metric_that_fails_fails_the_canary_and_one_that_is_not_critical_is_only_shown() {
    let window = |at| vec![("p95", level(0.4, 0.2, at)), ("errors", events(0, 0))];
    assert_snapshot!(said(&after(18, &[latency(), errors()], window)), @"Fail: p95: 404 ms on the canary against 200 ms (2 to 2.04 times), beyond its tolerance of 1.2 times (at least 5 ms) in 18 of 18 windows");
    let shown = Metric { critical: false, ..latency() };
    let report = after(18, &[shown, errors()], window);
    assert_eq!(report.verdict, Verdict::Pass);
    assert_eq!(
        report.findings.iter().map(|Finding { outcome, .. }| *outcome).collect::<Vec<_>>(),
        [Outcome::Fail, Outcome::Pass]
    );
}

#[test]
fn the_more_metrics_there_are_the_more_each_has_to_show() {
    let windows = |metrics: usize| {
        let metrics: Vec<_> = (0..metrics).map(|at| Metric { name: format!("m{at}"), ..latency() }).collect();
        let fails = |count: &u32| {
            after(*count, &metrics, |at| vec![("m0", level(0.4, 0.2, at))]).verdict == Verdict::Fail
        };
        (1..100).find(fails).unwrap()
    };
    assert_eq!([1, 2, 4, 8].map(windows), [12, 14, 16, 18]);
}

#[test]
fn what_it_means_that_figures_are_missing_is_for_the_definition_to_say() {
    // The canary's endpoint is gone, the others' is there.
    let gone = |at: u32| match level(0.2, 0.2, at) {
        Window::Level { baseline, .. } => vec![("p95", Window::Level { canary: vec![f64::NAN], baseline })],
        Window::Events { .. } => Vec::new(),
    };
    let with = |on_missing| after(10, &[Metric { on_missing, ..latency() }], gone);
    assert_snapshot!(said(&with(OnMissing::Inconclusive)), @"Inconclusive: p95: no figures of the canary in 10 of 10 windows");
    assert_snapshot!(said(&with(OnMissing::Fail)), @"Fail: p95: no figures of the canary in 10 of 10 windows");
    assert_snapshot!(said(&with(OnMissing::Pass)), @"Pass: p95: no figures of the canary in 10 of 10 windows");
    // An application that has just started has none yet.
    let first = after(4, &[Metric { on_missing: OnMissing::Fail, ..latency() }], gone);
    assert_snapshot!(said(&first), @"Inconclusive: p95: not compared yet");
    let neither = after(10, &[Metric { on_missing: OnMissing::Fail, ..latency() }], |_| Vec::new());
    assert_snapshot!(said(&neither), @"Fail: p95: no figures in 10 of 10 windows");
}

#[test]
fn requests_that_do_not_reach_the_canary_are_no_evidence_for_it() {
    let none = |_| {
        let of_baseline = vec![Count { events: 1, of: 100 }];
        vec![("errors", Window::Events { canary: vec![Count::default()], baseline: of_baseline })]
    };
    assert_snapshot!(said(&after(20, &[errors()], none)), @"Inconclusive: errors: no figures of the canary in 20 of 20 windows");
}

#[test]
fn a_canary_that_was_well_and_is_not_any_more_does_not_pass() {
    let report = after(24, &[latency()], |at| vec![("p95", level(if at < 14 { 0.2 } else { 0.4 }, 0.2, at))]);
    assert_snapshot!(said(&report), @"Inconclusive: p95: 204 ms on the canary against 200 ms (1 to 2.04 times), beyond its tolerance of 1.2 times (at least 5 ms) in 10 of 24 windows; about 15 more windows would tell");
}

#[test]
fn what_cannot_be_tested_is_refused() {
    assert_eq!(Tolerance::level(0.9, 0.0), Err(Invalid::Ratio));
    assert_eq!(Tolerance::level(f64::NAN, 0.0), Err(Invalid::Ratio));
    assert_eq!(Tolerance::level(1.0, -1.0), Err(Invalid::Slack));
    assert_eq!(Tolerance::events(1.0, 0.5), Err(Invalid::Floor));
    assert_eq!(Settings::new(0.0, 0.05), Err(Invalid::Rate));
    assert_eq!(Settings::default().with_persistence(0.5), Err(Invalid::Persistence));
}
