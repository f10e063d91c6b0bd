//! After the last batch no host is left to compare with: what a release shows stands against limits that somebody has given.

use landfall_common::manifest::AppMetric;
use landfall_common::manifest::metric::{Asked, Decimal, Direction, Series};
use landfall_common::strategy::{
    Amount, CanaryAnalysis, Limit, Limits, Missing, Share, Strategy, StrategyKind,
};
use landfall_common::{Duration, LabelKey, MetricName, RolloutId};
use landfall_controller_core::command::Action;
use landfall_controller_core::comparison;
use landfall_controller_core::observation::Shown;
use landfall_controller_core::rollout::StatusWord;

use crate::blue_green::color;
use crate::world::{Uses, World, host_id, name, place, strategy};

const MINUTE: Duration = Duration::from_secs(60);

fn fast() -> Limits {
    Limits { latency: Some(Duration::from_millis(300)), ..Limits::default() }
}

fn with(limits: Limits) -> Strategy {
    Strategy { limits: Some(limits), watch: 10 * MINUTE, ..strategy() }
}

/// Five hosts on v1, and a v2 that is watched for ten minutes.
fn on_v1(strategy: Strategy) -> World {
    let mut world = World::new(5);
    world.publish("v1", 1, None, crate::world::strategy());
    world.publish("v2", 2, None, strategy);
    world.must_succeed("v1");
    world
}

fn watched(world: &mut World) -> RolloutId {
    let id = world.release("v2").unwrap();
    world.until("a watch", |w| w.word(&id) == StatusWord::Watching);
    id
}

fn slow(world: &mut World) {
    world.answers.insert(name("v2"), (400, 0));
}

fn told(world: &World) -> String {
    let all = world.log.iter().map(|entry| entry.event.summary());
    all.filter(|told| told.contains("limits")).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_keeps_within_its_limits_is_proven_once_the_watch_is_over() {
    let mut world = on_v1(with(fast()));
    let id = watched(&mut world);
    world.run(70);
    insta::assert_snapshot!(world.sentences.join("\n"), @r"
    the release is everywhere and has been watched for 1m10s of 10m; `ctl promote r-9` ends the watch, `ctl rollback` goes back
    the release is not known to keep within its limits yet after 2 windows of 30s: latency of web: 22 ms, and at most 300 ms may be: beyond that in 0 of 2 windows; about 11 more windows would tell
    ");
    let from = world.now;
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    let took = world.now.since(from);
    assert!(took > 8 * MINUTE && took < 10 * MINUTE, "{took:?}");
    assert!(world.state.comparison(&id).is_none(), "nothing of it is kept");
}

#[test]
fn what_turns_slow_while_it_is_watched_goes_back_everywhere() {
    let mut world = on_v1(with(fast()));
    let id = watched(&mut world);
    world.run(120);
    slow(&mut world);
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    assert_eq!(world.runs(), ["v1"; 5]);
    insta::assert_snapshot!(world.end_reason(&id), @"v2 is beyond its limits: latency of web: 402 ms, and at most 300 ms may be: beyond that in 17 of 17 windows");
    insta::assert_snapshot!(told(&world), @r"
    the release of rollout r-9 is beyond its limits after 29 windows of 30s: latency of web: 402 ms, and at most 300 ms may be: beyond that in 17 of 17 windows
    rollout r-9 turned back to v1: v2 is beyond its limits: latency of web: 402 ms, and at most 300 ms may be: beyond that in 17 of 17 windows
    rollout of tenants v2 to production was rolled back, 0 of 5 hosts run it: v2 is beyond its limits: latency of web: 402 ms, and at most 300 ms may be: beyond that in 17 of 17 windows
    ");
}

/// Ten minutes are asked for, or as long as it takes to know.
#[test]
fn a_watch_that_is_too_short_to_tell_lasts_until_it_can() {
    let mut world = on_v1(Strategy { watch: MINUTE, ..with(fast()) });
    let id = watched(&mut world);
    world.run(120);
    assert_eq!(world.word(&id), StatusWord::Watching);
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn without_figures_it_pauses_and_nobody_calls_that_health() {
    let mut world = on_v1(with(fast()));
    world.mute = world.hosts.keys().cloned().collect::<Vec<_>>();
    let id = watched(&mut world);
    world.until("a pause", |w| w.word(&id) == StatusWord::Paused);
    insta::assert_snapshot!(world.end_reason(&id), @"the watch could not tell in 40m whether v2 keeps within its limits: no host has sent figures. `ctl resume` watches on, `ctl promote` ends the watch, `ctl rollback` goes back");
    world.ask(Action::Promote { rollout: id.clone(), reason: "it is known".to_owned() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    insta::assert_snapshot!(told(&world), @r"
    the release of rollout r-9 was watched without a verdict on its limits after 0 windows of 30s: latency of web: not compared yet
    rollout r-9 was paused: the watch could not tell in 40m whether v2 keeps within its limits: no host has sent figures. `ctl resume` watches on, `ctl promote` ends the watch, `ctl rollback` goes back
    the watch of rollout r-9 was ended although it was not known to keep within its limits: its limits: latency of web: not compared yet: it is known
    ");
}

#[test]
fn what_may_be_missing_holds_nobody_up_beside_what_is_there() {
    let most = Limits { memory_bytes: Some(64 << 20), missing: Missing::Ignore, ..fast() };
    let mut world = on_v1(with(most));
    let id = watched(&mut world);
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn what_services_use_is_held_as_well() {
    let limits = Limits { memory_bytes: Some(64 << 20), cpu: Some(Share::percent(50)), ..Limits::default() };
    let uses = Uses { cpu_ms_per_s: 200, memory_mib: 100, restarts: 0 };
    let mut world = World::new(3);
    world.uses = [(name("v1"), uses), (name("v2"), uses)].into();
    world.publish("v1", 1, None, strategy());
    world.publish("v2", 2, None, with(limits.clone()));
    world.must_succeed("v1");
    let held = comparison::limits(&world.state, &place().application, &name("v2"), &limits);
    insta::assert_snapshot!(held.join(", "), @"cpu of app at most 0.5 cores, memory of app at most 64 MiB");
    let id = watched(&mut world);
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    insta::assert_snapshot!(world.end_reason(&id), @"v2 is beyond its limits: memory of app: 101 MiB, and at most 64 MiB may be: beyond that in 16 of 16 windows");
}

fn metric(name: &str, worse: Direction, asked: Asked) -> AppMetric {
    AppMetric {
        name: MetricName::new(name).unwrap(),
        url: "http://127.0.0.1:8000/metrics".to_owned(),
        asked,
        worse,
        tolerance_percent: 50,
        critical: true,
        missing: Missing::Pause,
    }
}

fn series(name: &str) -> Series {
    Series { name: name.to_owned(), labels: [].into() }
}

/// How a rollout ends whose release shows this of itself, and why.
fn ends(metric: &AppMetric, shows: Shown, limit: Limit) -> (StatusWord, String) {
    let mut world = World::new(3);
    let limits = Limits { metrics: [(metric.name.clone(), limit)].into(), ..Limits::default() };
    world.shows = [(name("v2"), vec![(metric.clone(), Ok(shows))])].into();
    world.publish("v1", 1, None, strategy());
    world.publish("v2", 2, None, with(limits));
    world.must_succeed("v1");
    let id = watched(&mut world);
    let word = world.ended(&id);
    let reason = if word == StatusWord::Succeeded { String::new() } else { world.end_reason(&id) };
    (word, reason)
}

#[test]
fn what_the_application_shows_is_held_by_name() {
    let (events, of) = (series("failed_total"), series("requests_total"));
    let errors = metric("errors", Direction::Higher, Asked::Ratio { events, of, floor: Share::percent(1) });
    let shows = |events| Shown::Events { events, of: 100 };
    let most = Limit::Share(Share::percent(5));
    assert_eq!(ends(&errors, shows(3), most.clone()).0, StatusWord::Succeeded);
    let (word, why) = ends(&errors, shows(9), most);
    assert_eq!(word, StatusWord::RolledBack);
    insta::assert_snapshot!(why, @"v2 is beyond its limits: errors: 9 %, and at most 5 % may be: beyond that in 14 of 14 windows");
    let done = Asked::Counter { of: series("done_total"), slack: Decimal::zero() };
    let done = metric("done", Direction::Lower, done);
    let least = Limit::Level(Decimal::new("20").unwrap());
    assert_eq!(ends(&done, Shown::Level(25.0), least.clone()).0, StatusWord::Succeeded);
    let (word, why) = ends(&done, Shown::Level(4.0), least);
    assert_eq!(word, StatusWord::RolledBack);
    insta::assert_snapshot!(why, @"v2 is beyond its limits: done: 4 a second, and at least 20 a second may be: beyond that in 14 of 14 windows");
}

#[test]
fn somebody_who_has_seen_enough_overrules_them_and_the_log_says_what_they_said() {
    let mut world = on_v1(Strategy { auto_rollback: false, ..with(fast()) });
    let id = watched(&mut world);
    slow(&mut world);
    world.until("a pause", |w| w.word(&id) == StatusWord::Paused);
    insta::assert_snapshot!(world.end_reason(&id), @"v2 is beyond its limits: latency of web: 402 ms, and at most 300 ms may be: beyond that in 14 of 14 windows; auto_rollback is off: `ctl rollback` goes back, `ctl promote` ends the watch");
    world.ask(Action::Promote { rollout: id.clone(), reason: "it is the disk".to_owned() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    insta::assert_snapshot!(told(&world), @r"
    the release of rollout r-9 is beyond its limits after 14 windows of 30s: latency of web: 402 ms, and at most 300 ms may be: beyond that in 14 of 14 windows
    rollout r-9 was paused: v2 is beyond its limits: latency of web: 402 ms, and at most 300 ms may be: beyond that in 14 of 14 windows; auto_rollback is off: `ctl rollback` goes back, `ctl promote` ends the watch
    the watch of rollout r-9 was ended although it was not known to keep within its limits: its limits: latency of web: 402 ms, and at most 300 ms may be: beyond that in 14 of 14 windows: it is the disk
    ");
}

#[test]
fn a_controller_that_starts_begins_anew_and_says_so() {
    let mut world = on_v1(with(fast()));
    let id = watched(&mut world);
    world.run(500);
    world.crash_controller();
    world.run(200);
    assert_eq!(
        world.word(&id),
        StatusWord::Watching,
        "the hosts were well, and what they showed is forgotten"
    );
    assert!(world.sentences.join("\n").contains("begun anew with the controller"), "{:?}", world.sentences);
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

/// The canary's analysis comes before, and keeps its own figures.
#[test]
fn of_two_groups_the_other_one_gets_the_requests_again() {
    let by_color = Strategy {
        kind: StrategyKind::BlueGreen,
        spread: Some(LabelKey::new("color").unwrap()),
        max_unavailable: Amount::Percent(25),
        ..strategy()
    };
    let mut world = World::new(4);
    color(&mut world, 4);
    world.publish("v1", 1, None, by_color.clone());
    world.publish("v2", 2, None, Strategy { limits: Some(fast()), watch: 10 * MINUTE, ..by_color });
    world.must_succeed("v1");
    let id = watched(&mut world);
    slow(&mut world);
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    assert_eq!(world.runs(), ["v1"; 4]);
    assert!(world.hosts.values().all(|host| host.serves()));
}

/// Whoever was told that this ends the watch has ended it, whatever has become of the reason since.
#[test]
fn what_the_watch_has_paused_for_goes_on_with_a_promotion_although_it_is_known_by_then() {
    let mut world = on_v1(Strategy { watch: MINUTE, ..with(Limits { deadline: 3 * MINUTE, ..fast() }) });
    world.mute = world.hosts.keys().cloned().collect::<Vec<_>>();
    let id = watched(&mut world);
    world.until("a pause", |w| w.word(&id) == StatusWord::Paused);
    world.mute.clear();
    world.run(900);
    assert_eq!(world.word(&id), StatusWord::Paused);
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn figures_of_few_hosts_stand_for_nobody_else() {
    let mut world = on_v1(with(fast()));
    world.mute = world.hosts.keys().skip(2).cloned().collect::<Vec<_>>();
    let id = watched(&mut world);
    world.until("a pause", |w| w.word(&id) == StatusWord::Paused);
    assert!(world.end_reason(&id).contains("no figures in"), "{}", world.end_reason(&id));
    assert_eq!(world.runs(), ["v2"; 5]);
}

/// What was found before is what somebody has mended.
#[test]
fn whoever_resumes_begins_anew() {
    let mut world = on_v1(Strategy { auto_rollback: false, ..with(fast()) });
    let id = watched(&mut world);
    slow(&mut world);
    world.until("a pause", |w| w.word(&id) == StatusWord::Paused);
    world.answers.clear();
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

/// The guide's own knobs: a watch that is as long as the deadline.
#[test]
fn a_bad_minute_at_the_end_of_the_watch_is_no_reason_to_pause() {
    let mut world = on_v1(Strategy { watch: 30 * MINUTE, ..with(fast()) });
    let id = watched(&mut world);
    for _ in 0..6 {
        world.run(280);
        slow(&mut world);
        world.run(25);
        world.answers.clear();
    }
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

/// The hosts say that they were well for all of the watch as it begins, and what is known by then is what the canary has shown
/// (seed 88504512).
#[test]
fn what_the_canary_has_passed_is_nothing_that_the_watch_knows() {
    let mut world = World::new(3);
    let analysis = Some(CanaryAnalysis::default());
    world.publish("v1", 1, None, strategy());
    world.publish("v2", 2, None, Strategy { watch: MINUTE, analysis, ..with(fast()) });
    world.must_succeed("v1");
    // Both are as slow as each other, and one host stays with what it has.
    world.answers = [(name("v1"), (400, 0)), (name("v2"), (400, 0))].into();
    world
        .ask(Action::Cordon { hosts: [host_id(3)].into(), reason: "its disk is broken".to_owned() })
        .unwrap();
    let first = watched(&mut world);
    world.ask(Action::Abort { rollout: first, go_back: false, reason: String::new() }).unwrap();
    world.run(600);
    let again = world.release("v2").unwrap();
    world
        .until("a watch, or an end", |w| w.word(&again) == StatusWord::Watching || w.rollout(&again).ended());
    assert_eq!(world.word(&again), StatusWord::Watching, "{}", world.end_reason(&again));
}
