//! After the last batch: the release is watched for a while, by the rules that held on the way.

use landfall_common::Duration;
use landfall_common::strategy::{Amount, Strategy};
use landfall_controller_core::Refusal;
use landfall_controller_core::command::Action;
use landfall_controller_core::log::LogEvent;
use landfall_controller_core::rollout::StatusWord;

use crate::hosts::Behaviour;
use crate::world::{World, host_id, name, strategy};

const MINUTE: Duration = Duration::from_secs(60);

/// A fleet on v1, and a published v2 that is watched for ten minutes.
fn on_v1(hosts: usize, with: Strategy) -> World {
    let mut world = World::new(hosts);
    world.publish("v1", 1, None, strategy());
    world.publish("v2", 2, None, Strategy { watch: 10 * MINUTE, ..with });
    world.must_succeed("v1");
    world
}

/// The rollout of v2, once it is watched.
fn watched(world: &mut World) -> landfall_common::RolloutId {
    let id = world.release("v2").unwrap();
    world.until("a watch", |w| w.word(&id) == StatusWord::Watching);
    id
}

#[test]
fn a_release_is_proven_once_its_watch_is_over() {
    let mut world = on_v1(4, strategy());
    let id = watched(&mut world);
    assert_eq!(world.runs(), ["v2"; 4]);
    world.run(5);
    insta::assert_snapshot!(world.sentences.join("\n"), @"the release is everywhere and has been watched for 5s of 10m; `ctl promote r-8` ends the watch, `ctl rollback` goes back");
    let from = world.now;
    world.publish("v3", 3, None, strategy());
    insta::assert_snapshot!(world.release("v3").unwrap_err(), @"tenants in production is held by rollout r-8 of v2, begun by anna at 2027-01-15 08:00:41 UTC and now watching; a release can stand in line with --queue, and `ctl promote r-8` ends its watch");
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    let took = world.now.since(from);
    assert!(took > 9 * MINUTE && took < 11 * MINUTE, "{took:?}");
    let started = |event: &LogEvent| matches!(event, LogEvent::WatchStarted { .. });
    assert_eq!(world.log.iter().filter(|entry| started(&entry.event)).count(), 1);
}

#[test]
fn what_turns_sick_while_it_is_watched_goes_back_everywhere() {
    let mut world = on_v1(4, strategy());
    let id = watched(&mut world);
    world.run(300);
    world.host(3).behaviour.insert(name("v2"), Behaviour::Bad);
    world.run(5);
    insta::assert_snapshot!(world.sentences.join("\n"), @r"
    the release is everywhere and has been watched for 5m5s of 10m; `ctl promote r-8` ends the watch, `ctl rollback` goes back
    the watch waits: web-03 is not healthy: healthz answered 500
    ");
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    assert_eq!(world.runs(), ["v1"; 4]);
    insta::assert_snapshot!(world.end_reason(&id), @"1 host failed, the budget allows 0: web-03 at health: it had committed the release and was not healthy for 10s at a stretch since 30s ago");
}

#[test]
fn a_failure_within_the_budget_is_told_and_changes_nothing_for_the_others() {
    let mut world = on_v1(4, Strategy { failure_budget: Amount::Count(1), ..strategy() });
    let id = watched(&mut world);
    world.host(4).behaviour.insert(name("v2"), Behaviour::Flaps);
    world.run(120);
    assert_eq!(world.word(&id), StatusWord::Watching);
    assert_eq!(world.ended(&id), StatusWord::Failed);
    assert_eq!(world.runs(), ["v2"; 4]);
    insta::assert_snapshot!(world.end_reason(&id), @"v2 runs on 3 of 4 hosts: web-04 failed, `ctl retry` tries again");
}

#[test]
fn a_moment_of_sickness_at_the_end_of_the_watch_is_waited_for() {
    let mut world = on_v1(3, Strategy { healthy_deadline: MINUTE, ..strategy() });
    let id = watched(&mut world);
    // Longer than the deadline for progress has nothing got on by then, and nothing was to.
    world.run(580);
    world.host(2).behaviour.insert(name("v2"), Behaviour::Bad);
    world.run(25);
    assert_eq!(world.word(&id), StatusWord::Watching);
    world.host(2).behaviour.clear();
    world.host(2).healthy_since = world.now;
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn what_nobody_has_seen_is_not_watched() {
    let mut world = on_v1(3, strategy());
    let id = watched(&mut world);
    // By their own clocks the hosts have been well all the time.
    world.run(300);
    world.crash_controller();
    world.run(330);
    assert_eq!(world.ended(&id), StatusWord::Succeeded);

    world.publish("v3", 3, None, Strategy { watch: 10 * MINUTE, ..strategy() });
    let id = world.release("v3").unwrap();
    world.until("a watch", |w| w.word(&id) == StatusWord::Watching);
    world.run(300);
    world.crash_controller();
    world.host(1).healthy_since = world.now;
    // Nor does a clock that leaps make time pass.
    world.run(60);
    world.now = world.now + 60 * MINUTE;
    for host in world.hosts.values_mut() {
        host.healthy_since = world.now;
    }
    world.state.leapt(world.now);
    world.run(570);
    assert_eq!(world.word(&id), StatusWord::Watching);
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn somebody_who_has_seen_enough_ends_the_watch_and_not_its_evidence() {
    let mut world = on_v1(3, strategy());
    let id = watched(&mut world);
    world.host(2).behaviour.insert(name("v2"), Behaviour::Bad);
    world.run(2);
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    world.run(10);
    assert_eq!(world.word(&id), StatusWord::Watching);
    world.host(2).behaviour.clear();
    world.host(2).healthy_since = world.now;
    let from = world.now;
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert!(world.now.since(from) < MINUTE);
    let ended = |event: &LogEvent| matches!(event, LogEvent::WatchEnded { .. });
    assert_eq!(world.log.iter().filter(|entry| ended(&entry.event)).count(), 1);
}

#[test]
fn a_pause_unsays_nothing_that_the_hosts_say_and_a_rollback_ends_the_watch() {
    let mut world = on_v1(3, strategy());
    let id = watched(&mut world);
    world.run(500);
    world.ask(Action::Pause { rollout: id.clone(), reason: "looking".to_owned() }).unwrap();
    world.run(500);
    assert_eq!(world.word(&id), StatusWord::Paused);
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
    world.run(5);
    assert_eq!(world.word(&id), StatusWord::Succeeded, "the hosts have been well for longer than that");

    world.publish("v3", 3, None, Strategy { watch: 10 * MINUTE, ..strategy() });
    let id = world.release("v3").unwrap();
    world.until("a watch", |w| w.word(&id) == StatusWord::Watching);
    assert_eq!(world.rollback(None).unwrap(), id);
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    assert_eq!(world.runs(), ["v2"; 3]);
}

#[test]
fn a_host_that_is_away_holds_no_watch_up_and_takes_the_release_within_it() {
    let mut world = on_v1(5, strategy());
    let away = host_id(5);
    world.cut.push(away.clone());
    world.disconnect(&away);
    world.run(40);
    let id = watched(&mut world);
    assert_eq!(world.runs(), ["v2", "v2", "v2", "v2", "v1"]);
    world.run(60);
    world.cut.clear();
    world.until("it has taken the release", |w| w.runs()[4] == "v2");
    assert_eq!(world.word(&id), StatusWord::Watching);
    assert_eq!(world.ended(&id), StatusWord::Succeeded);

    // One that stays away is told at the end, and is not what the release is judged by.
    world.publish("v3", 3, None, Strategy { watch: 10 * MINUTE, ..strategy() });
    world.cut.push(away.clone());
    world.disconnect(&away);
    world.run(40);
    let id = world.release("v3").unwrap();
    world.until("a watch", |w| w.word(&id) == StatusWord::Watching);
    assert_eq!(world.ended(&id), StatusWord::Failed);
    insta::assert_snapshot!(world.end_reason(&id), @"v3 runs on 4 of 5 hosts: web-05 could not be heard of and will take it on return");
    world.cut.clear();
    world.until("it has taken the release", |w| w.runs()[4] == "v3");
}

#[test]
fn a_way_back_is_not_watched() {
    let mut world = on_v1(3, strategy());
    let id = watched(&mut world);
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    let id = world.rollback(None).unwrap();
    let from = world.now;
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert!(world.now.since(from) < 5 * MINUTE);
    assert!(!matches!(world.release("v2"), Err(Refusal::Held { .. })));
}
