//! What holds whatever is seen.

use std::collections::BTreeMap;

use landfall_controller_core::analysis::wealth::Wealth;
use landfall_controller_core::analysis::{
    Analysis, Count, Metric, OnMissing, Settings, Tolerance, Unit, Verdict, Window, Worse,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn metric(tolerance: Tolerance, worse: Worse) -> Metric {
    Metric {
        name: "it".into(),
        worse,
        tolerance,
        critical: true,
        on_missing: OnMissing::Inconclusive,
        unit: Unit::Plain,
    }
}

fn analysed(metric: Metric, windows: &[Window]) -> Analysis {
    let mut analysis = Analysis::new(Settings::default(), vec![metric]);
    windows.iter().for_each(|window| analysis.observe(&BTreeMap::from([("it".into(), window.clone())])));
    analysis
}

/// What hosts send may be anything.
fn anything() -> impl Strategy<Value = Window> {
    let figure =
        prop_oneof![any::<f64>(), 0.0..10.0_f64, Just(0.0), Just(f64::NAN), Just(f64::MAX), Just(-1.0)];
    let count = prop_oneof![
        (any::<u64>(), any::<u64>()).prop_map(|(events, of)| Count { events, of }),
        (0..20_u64, 0..20_u64).prop_map(|(events, of)| Count { events, of }),
    ];
    prop_oneof![
        (vec(figure.clone(), 0..5), vec(figure, 0..5))
            .prop_map(|(canary, baseline)| Window::Level { canary, baseline }),
        (vec(count.clone(), 0..5), vec(count, 0..5))
            .prop_map(|(canary, baseline)| Window::Events { canary, baseline }),
    ]
}

fn tolerance() -> impl Strategy<Value = Tolerance> {
    let ratio = || prop_oneof![Just(1.0), 1.0..1000.0];
    prop_oneof![
        (ratio(), 0.0..10.0).prop_map(|(ratio, slack)| Tolerance::level(ratio, slack).unwrap()),
        (ratio(), 0.0..0.4).prop_map(|(ratio, floor)| Tolerance::events(ratio, floor).unwrap()),
    ]
}

proptest! {
    /// The one property that Ville's inequality needs: of all that could come next and has the stated mean, none makes a
    /// richer man of who bets. Every distribution on [0, 1] with that mean is a mixture of such on two points.
    #[test]
    fn no_bet_has_an_expected_gain(
        seen in vec((0.0..=1.0_f64, 0.001..0.999_f64), 0..30),
        mean in 0.001..0.999_f64,
        low in 0.0..1.0_f64,
        high in 0.0..1.0_f64,
    ) {
        let mut wealth = Wealth::default();
        seen.iter().for_each(|(figure, mean)| wealth.observe(*figure, *mean));
        let (low, high) = (low * mean, mean + high * (1.0 - mean));
        let likely = if high > low { (mean - low) / (high - low) } else { 1.0 };
        let then = |figure| {
            let mut then = wealth.clone();
            then.observe(figure, mean);
            then.now()
        };
        let expected = likely * then(high) + (1.0 - likely) * then(low);
        prop_assert!(expected <= wealth.now() * (1.0 + 1e-9), "{expected} after {}", wealth.now());
    }

    #[test]
    fn a_wealth_is_never_negative_and_its_highest_never_falls(
        seen in vec((any::<f64>(), any::<f64>()), 0..100),
    ) {
        let (mut wealth, mut highest) = (Wealth::default(), 1.0);
        for (figure, mean) in seen {
            wealth.observe(if figure.is_nan() { 0.5 } else { figure }, mean);
            prop_assert!(wealth.now() >= 0.0 && wealth.now().is_finite());
            prop_assert!(wealth.highest() >= highest);
            highest = wealth.highest();
        }
    }

    /// And then those that were asked for decide.
    #[test]
    fn so_many_more_of_the_same_are_enough(ones in 0..20_u32, of in 1..20_u32, mean in 0.05..0.9_f64) {
        let mut wealth = Wealth::default();
        let mut round = || (0..of).for_each(|at| wealth.observe(if at < ones { 1.0 } else { 0.0 }, mean));
        round();
        let more = wealth.more(of, 40.0);
        if let Some(more) = more.filter(|more| *more < 2000) {
            (0..=more / of).for_each(|_| (0..of).for_each(|at| wealth.observe(if at < ones { 1.0 } else { 0.0 }, mean)));
            prop_assert!(wealth.now() >= 40.0, "{} after {more} more", wealth.now());
        }
    }

    #[test]
    fn whatever_is_seen_there_is_a_verdict_and_it_can_be_said(
        tolerance in tolerance(),
        higher in any::<bool>(),
        windows in vec(anything(), 0..30),
    ) {
        let worse = if higher { Worse::Higher } else { Worse::Lower };
        let analysis = analysed(metric(tolerance, worse), &windows);
        let report = analysis.report();
        prop_assert_eq!(report.verdict, analysis.verdict());
        prop_assert!(report.findings.iter().all(|finding| finding.p > 0.0 && finding.p <= 1.0));
        prop_assert!(!report.to_string().contains("NaN"), "{}", report);
        prop_assert!(report.to_string().starts_with("it: "), "{}", report);
    }

    /// Where both sides are told apart by nothing but their names, no side is worse.
    #[test]
    fn hosts_with_the_same_figures_never_fail(
        tolerance in tolerance(),
        windows in vec((vec(0.0..1e6_f64, 1..4), vec((0..50_u64, 1..50_u64), 1..4)), 0..60),
    ) {
        let same = |(levels, counts): &(Vec<f64>, Vec<(u64, u64)>)| match tolerance {
            Tolerance::Level { .. } | Tolerance::Limit { .. } => Window::Level { canary: levels.clone(), baseline: levels.clone() },
            Tolerance::Events { .. } => {
                let counts: Vec<_> = counts.iter().map(|(events, of)| Count { events: *events, of: *of }).collect();
                Window::Events { canary: counts.clone(), baseline: counts }
            }
        };
        let windows: Vec<_> = windows.iter().map(same).collect();
        prop_assert_ne!(analysed(metric(tolerance, Worse::Higher), &windows).verdict(), Verdict::Fail);
        prop_assert_ne!(analysed(metric(tolerance, Worse::Lower), &windows).verdict(), Verdict::Fail);
    }

    /// In which order the hosts of a side are named makes no difference.
    #[test]
    fn the_order_of_hosts_does_not_count(
        tolerance in tolerance(),
        windows in vec(anything(), 0..30),
    ) {
        let turned: Vec<_> = windows
            .iter()
            .map(|window| match window.clone() {
                Window::Level { mut canary, mut baseline } => {
                    canary.reverse();
                    baseline.reverse();
                    Window::Level { canary, baseline }
                }
                Window::Events { mut canary, mut baseline } => {
                    canary.reverse();
                    baseline.reverse();
                    Window::Events { canary, baseline }
                }
            })
            .collect();
        let said = |windows| analysed(metric(tolerance, Worse::Higher), windows).report().to_string();
        prop_assert_eq!(said(&windows), said(&turned));
    }
}
