//! A canary beside the hosts on the release before, by what the application shows of itself.

use landfall_common::manifest::AppMetric;
use landfall_common::manifest::metric::{Asked, Decimal, Direction, Series};
use landfall_common::strategy::{CanaryAnalysis, Missing, Share, Strategy};
use landfall_common::{MetricName, RolloutId};
use landfall_controller_core::comparison::Named;
use landfall_controller_core::observation::Shown;
use landfall_controller_core::plan;
use landfall_controller_core::rollout::StatusWord;

use crate::world::{World, name, place, strategy};

fn series(name: &str) -> Series {
    Series { name: name.to_owned(), labels: [].into() }
}

fn metric(name: &str, asked: Asked) -> AppMetric {
    AppMetric {
        name: MetricName::new(name).unwrap(),
        url: "http://127.0.0.1:8000/metrics".to_owned(),
        asked,
        worse: Direction::Higher,
        tolerance_percent: 50,
        critical: true,
        missing: Missing::Pause,
    }
}

fn errors() -> AppMetric {
    let (events, of) = (series("failed_total"), series("requests_total"));
    metric("errors", Asked::Ratio { events, of, floor: Share::percent(1) })
}

fn slow() -> AppMetric {
    let above = Decimal::new("0.5").unwrap();
    metric("slow-answers", Asked::Histogram { of: series("took_seconds"), above, floor: Share::percent(5) })
}

fn queue() -> AppMetric {
    metric("queue", Asked::Gauge { of: series("queue"), slack: Decimal::new("2").unwrap() })
}

fn done() -> AppMetric {
    let worse = Direction::Lower;
    AppMetric { worse, ..metric("done", Asked::Counter { of: series("done_total"), slack: Decimal::zero() }) }
}

fn events(events: u64, of: u64) -> Result<Shown, String> {
    Ok(Shown::Events { events, of })
}

fn level(level: f64) -> Result<Shown, String> {
    Ok(Shown::Level(level))
}

fn nothing() -> Result<Shown, String> {
    Err("there is no failed_total".to_owned())
}

/// A fleet on v1, and a rollout of v2, which show this of themselves.
fn begun(metric: &AppMetric, v1: Result<Shown, String>, v2: Result<Shown, String>) -> (World, RolloutId) {
    let mut world = World::new(5);
    world.shows = [(name("v1"), vec![(metric.clone(), v1)]), (name("v2"), vec![(metric.clone(), v2)])].into();
    world.publish("v1", 1, None, strategy());
    world.publish("v2", 2, None, Strategy { analysis: Some(CanaryAnalysis::default()), ..strategy() });
    world.must_succeed("v1");
    let id = world.release("v2").unwrap();
    (world, id)
}

/// How a rollout ends, and why.
fn ends(metric: &AppMetric, v1: Result<Shown, String>, v2: Result<Shown, String>) -> (StatusWord, String) {
    let (mut world, id) = begun(metric, v1, v2);
    let ends = [StatusWord::Paused, StatusWord::Succeeded, StatusWord::RolledBack];
    world.until("an end", |w| ends.contains(&w.word(&id)));
    let word = world.word(&id);
    if word == StatusWord::Succeeded {
        assert_eq!(world.runs(), ["v2"; 5]);
        return (word, String::new());
    }
    (word, world.end_reason(&id))
}

#[test]
fn a_release_whose_requests_fail_goes_back_though_its_checks_are_well() {
    let (word, why) = ends(&errors(), events(1, 1000), events(80, 1000));
    assert_eq!(word, StatusWord::RolledBack);
    insta::assert_snapshot!(why, @"the canary is worse than the hosts on v1: errors: 8 % on the canary against 0.1 % (1920 of all 2016, with 20 % of what was counted) in 8 windows; allowed: 1 %, or 1.5 times the others'");
    let (word, _) = ends(&errors(), events(1, 1000), events(1, 1000));
    assert_eq!(word, StatusWord::Succeeded);
    // It has a fifth of the requests: it is the rate that counts.
    let (word, _) = ends(&errors(), events(50, 10_000), events(5, 1000));
    assert_eq!(word, StatusWord::Succeeded);
}

#[test]
fn a_release_that_answers_slowly_too_often_goes_back() {
    let (word, why) = ends(&slow(), events(20, 1000), events(300, 1000));
    assert_eq!(word, StatusWord::RolledBack);
    insta::assert_snapshot!(why, @"the canary is worse than the hosts on v1: slow-answers: 30 % on the canary against 2 % (9000 of all 11400, with 20 % of what was counted) in 10 windows; allowed: 5 %, or 1.5 times the others'");
    assert_eq!(
        ends(&slow(), events(20, 1000), events(40, 1000)).0,
        StatusWord::Succeeded,
        "as may be in any case"
    );
}

#[test]
fn levels_are_worse_in_the_direction_that_is_said() {
    let (word, why) = ends(&queue(), level(3.0), level(40.0));
    assert_eq!(word, StatusWord::RolledBack);
    insta::assert_snapshot!(why, @"the canary is worse than the hosts on v1: queue: 40 on the canary against 3, beyond its tolerance of 1.5 times (at least 2) in 15 of 15 windows");
    assert_eq!(ends(&queue(), level(40.0), level(0.0)).0, StatusWord::Succeeded);
    assert_eq!(ends(&queue(), level(0.0), level(2.0)).0, StatusWord::Succeeded, "its slack");
    let (word, why) = ends(&done(), level(12.0), level(3.5));
    assert_eq!(word, StatusWord::RolledBack);
    insta::assert_snapshot!(why, @"the canary is worse than the hosts on v1: done: 3.5 a second on the canary against 12 a second, beyond its tolerance of 1.5 times in 15 of 15 windows");
    assert_eq!(ends(&done(), level(12.0), level(40.0)).0, StatusWord::Succeeded);
}

#[test]
fn what_decides_and_is_missing_lets_nothing_go_on_and_says_what_the_host_said() {
    let (word, why) = ends(&errors(), events(1, 1000), nothing());
    assert_eq!(word, StatusWord::Paused);
    insta::assert_snapshot!(why, @"the analysis of the canary could not tell in 30m whether it is worse than the hosts on v1: 59 windows of 30s; errors: no figures of the canary in 59 of 59 windows (web-01: there is no failed_total). `ctl resume` waits on, `ctl promote` overrules the analysis, `ctl rollback` goes back");
    let (word, why) = ends(&errors(), nothing(), events(1, 1000));
    assert_eq!(word, StatusWord::Paused);
    insta::assert_snapshot!(why, @"the analysis of the canary could not tell in 30m whether it is worse than the hosts on v1: 59 windows of 30s; errors: no figures of the hosts on the release before in 59 of 59 windows (web-05: there is no failed_total). `ctl resume` waits on, `ctl promote` overrules the analysis, `ctl rollback` goes back");
    let (word, why) = ends(&errors(), events(0, 0), events(0, 0));
    assert_eq!(word, StatusWord::Paused, "no requests are no evidence");
    insta::assert_snapshot!(why, @"the analysis of the canary could not tell in 30m whether it is worse than the hosts on v1: 59 windows of 30s; errors: no figures in 59 of 59 windows (web-01: nothing was counted). `ctl resume` waits on, `ctl promote` overrules the analysis, `ctl rollback` goes back");
    let (mut world, id) = begun(&errors(), events(1, 1000), nothing());
    world.until("a window", |w| w.state.comparison(&id).is_some_and(|found| found.windows() == 2));
    insta::assert_snapshot!(world.state.comparison(&id).unwrap().report().findings[2], @"errors: not compared yet (web-01: there is no failed_total)");
    let broken = AppMetric { missing: Missing::Fail, ..errors() };
    let (word, why) = ends(&broken, events(1, 1000), nothing());
    assert_eq!(word, StatusWord::RolledBack);
    insta::assert_snapshot!(why, @"the canary is worse than the hosts on v1: errors: no figures of the canary in 5 of 5 windows (web-01: there is no failed_total)");
    let ignored = AppMetric { missing: Missing::Ignore, ..errors() };
    assert_eq!(ends(&ignored, events(1, 1000), nothing()).0, StatusWord::Succeeded, "the checks decide");
}

#[test]
fn what_decides_nothing_is_shown() {
    let shown = AppMetric { critical: false, ..errors() };
    let (mut world, id) = begun(&shown, events(1, 1000), events(900, 1000));
    world.until("windows", |w| w.state.comparison(&id).is_some_and(|found| found.windows() >= 6));
    let report = world.state.comparison(&id).unwrap().report().clone();
    insta::assert_snapshot!(report.findings[2], @"errors: 90 % on the canary against 0.1 % (16200 of all 16272, with 20 % of what was counted) in 6 windows; allowed: 1 %, or 1.5 times the others'; about 1 more window would tell");
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

/// Only what both show as the same kind of figure can be compared, and that is said before it begins.
#[test]
fn a_metric_that_the_release_before_does_not_have_is_not_compared() {
    let mut world = World::new(5);
    let as_gauge = AppMetric { asked: queue().asked, ..errors() };
    world.shows = [
        (name("v1"), vec![(as_gauge, level(1.0)), (queue(), level(1.0))]),
        (name("v2"), vec![(errors(), events(900, 1000)), (queue(), level(1.0)), (done(), level(1.0))]),
    ]
    .into();
    world.publish("v1", 1, None, strategy());
    world.publish("v2", 2, None, Strategy { analysis: Some(CanaryAnalysis::default()), ..strategy() });
    world.must_succeed("v1");
    let (application, asked) = (place().application, CanaryAnalysis::default());
    let named = Named::of(&world.state, &application, &name("v2"), &name("v1"), &asked);
    assert_eq!(named.decides, ["latency of web", "failures of web", "queue"]);
    assert_eq!((named.aside, named.alone), (vec![], vec!["errors".to_owned(), "done".to_owned()]));
    let id = world.release("v2").unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert!(plan(&world.state, world.now).report.places.is_empty() || world.runs() == ["v2"; 5]);
}
