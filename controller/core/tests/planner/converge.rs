//! Hosts outside of a rollout: what brings them to the release in force, and what stops that.

use landfall_common::Duration;
use landfall_common::strategy::{Amount, Strategy};
use landfall_controller_core::command::Action;
use landfall_controller_core::log::LogEvent;
use landfall_controller_core::record::WayBackKind;
use landfall_controller_core::rollout::StatusWord;

use crate::hosts::Behaviour;
use crate::world::{World, host_id, migration, name, place, strategy};

fn knobs() -> Strategy {
    Strategy { max_unavailable: Amount::Count(3), ..strategy() }
}

/// Four of six hosts run v2, which is in force; the other two are cut off, and it will be bad on them.
fn two_away() -> World {
    let mut world = World::new(6);
    world.publish("v1", 1, None, knobs());
    world.publish("v2", 2, None, knobs());
    world.must_succeed("v1");
    world.cut.extend([host_id(5), host_id(6)]);
    world.run(40);
    let id = world.release("v2").unwrap();
    assert_eq!(world.ended(&id), StatusWord::Failed);
    assert_eq!(world.runs(), ["v2", "v2", "v2", "v2", "v1", "v1"]);
    for number in [5, 6] {
        world.host(number).behaviour.insert(name("v2"), Behaviour::Bad);
    }
    world
}

/// Hosts that came back took a bad release one after the other: each went back by itself, so that the budget of
/// unavailable hosts never stopped the march.
#[test]
fn hosts_that_fail_on_coming_back_stop_those_that_follow() {
    let mut world = two_away();
    world.cut.retain(|host| *host != host_id(5));
    world.run(120);
    assert_eq!(world.host(5).activations, 2, "v1, and v2 for a while");
    world.cut.clear();
    world.run(600);
    assert_eq!(world.hosts[&host_id(6)].activations, 1, "{:?}", world.sentences);
    insta::assert_snapshot!(world.sentences.join("\n"), @r"
    web-05 does not run v2, the release in force: healthz said no; `ctl retry` tries it again
    web-06 is not sent to v2, the release in force, since it failed on web-05: healthz said no, and 0 may fail; `ctl retry` tries again, a new release or `ctl rollback` decides what else runs
    ");
    let told = |event: &LogEvent| event.kind() == "convergence_stopped";
    let told: Vec<_> = world.log.iter().filter(|entry| told(&entry.event)).collect();
    assert_eq!(told.len(), 1);
    insta::assert_snapshot!(told[0].event.summary(), @"no more hosts of tenants in production are sent to v2: it failed on web-05: healthz said no, and 0 may fail");
    // Nor is one that is away promised anything.
    world.cut.push(host_id(6));
    world.run(60);
    insta::assert_snapshot!(world.sentences.join("\n"), @r"
    web-05 does not run v2, the release in force: healthz said no; `ctl retry` tries it again
    web-06 is not sent to v2, the release in force, since it failed on web-05: healthz said no, and 0 may fail; `ctl retry` tries again, a new release or `ctl rollback` decides what else runs
    ");
    world.cut.clear();
    // It outlives the controller, which knows nothing of its hosts then.
    world.crash_controller();
    world.run(60);
    assert_eq!(world.host(6).activations, 1);
    // Mended, they are tried again.
    world.hosts.values_mut().for_each(|host| host.behaviour.clear());
    world.ask(Action::RetryFailed { place: place(), rollout: None, reason: String::new() }).unwrap();
    world.until("all", |w| w.runs() == ["v2"; 6]);
}

#[test]
fn failures_within_the_budget_stop_nobody() {
    let mut world = World::new(6);
    let knobs = Strategy { failure_budget: Amount::Count(1), ..knobs() };
    world.publish("v1", 1, None, knobs.clone());
    world.publish("v2", 2, None, knobs);
    world.must_succeed("v1");
    world.cut.extend([host_id(5), host_id(6)]);
    world.run(40);
    let id = world.release("v2").unwrap();
    assert_eq!(world.ended(&id), StatusWord::Failed);
    world.host(5).behaviour.insert(name("v2"), Behaviour::Bad);
    world.cut.retain(|host| *host != host_id(5));
    world.run(120);
    world.cut.clear();
    world.until("the last", |w| w.runs()[5] == "v2");
}

/// The canary was healthy, then the network of all others failed: each batch passed in silence, and a release
/// that one host ran was in force.
#[test]
fn a_release_is_not_in_force_while_more_are_silent_than_may_be_out() {
    let mut world = World::new(6);
    world.publish("v1", 1, None, knobs());
    world.publish("v2", 2, None, knobs());
    world.must_succeed("v1");
    let id = world.release("v2").unwrap();
    world.until("the canary", |w| w.runs()[0] == "v2");
    world.cut.extend((2..=6).map(host_id));
    world.until("it stands", |w| w.word(&id) != StatusWord::Running);
    assert_eq!(world.word(&id), StatusWord::Paused);
    insta::assert_snapshot!(world.end_reason(&id), @"v2 runs on 1 of 6 hosts; web-02, web-03, web-04, web-05 and web-06 could not be heard of, and 3 may be out. `ctl resume` waits on, `ctl rollback` goes back, `ctl abort` leaves the hosts as they are");
    world.cut.clear();
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

fn sent(world: &World, number: usize) -> usize {
    world.issued.iter().filter(|assignment| assignment.host == host_id(number)).count()
}

fn logged(world: &World) -> usize {
    world.log.iter().filter(|entry| entry.event.kind() == "host_converging").count()
}

/// A refusal was forgotten with the window of its order, and the order sent again each minute, for ever.
#[test]
fn a_host_that_refuses_for_good_is_left_alone_after_three_orders() {
    let mut world = two_away();
    world.host(5).behaviour.clear();
    world.host(5).refuses = true;
    let (before, entries) = (sent(&world, 5), logged(&world));
    world.cut.retain(|host| *host != host_id(5));
    world.run(3600);
    assert_eq!(sent(&world, 5) - before, 3, "{:?}", world.sentences);
    assert_eq!(logged(&world) - entries, 1, "what is repeated is no news");
    insta::assert_snapshot!(world.sentences.join("\n"), @r"
    web-05 does not run v2, the release in force: accept said no; `ctl retry` tries it again
    web-06 is not heard of, and takes v2, the release in force, on coming back
    ");
    // That was not the release's fault.
    world.cut.clear();
    world.host(6).behaviour.clear();
    world.until("the other", |w| w.runs()[5] == "v2");
    world.host(5).refuses = false;
    world.ask(Action::RetryFailed { place: place(), rollout: None, reason: String::new() }).unwrap();
    world.until("all", |w| w.runs() == ["v2"; 6]);
}

#[test]
fn a_host_that_takes_no_order_is_asked_less_and_less_often() {
    let mut world = two_away();
    world.host(5).behaviour.clear();
    world.host(5).hears = |_| false;
    let (before, entries) = (sent(&world, 5), logged(&world));
    world.cut.retain(|host| *host != host_id(5));
    world.run(4 * 3600);
    let orders = sent(&world, 5) - before;
    assert!((6..=10).contains(&orders), "{orders}: {:?}", world.sentences);
    assert_eq!(logged(&world) - entries, 1);
    world.until("it is told of", |w| w.sentences[0].contains("none of"));
    insta::assert_snapshot!(world.sentences.join("\n"), @r"
    web-05 does not run v2, the release in force: it reports, and has taken none of 9 orders to; `ctl retry` tries it again
    web-06 is not heard of, and takes v2, the release in force, on coming back
    ");
    world.host(5).hears = |_| true;
    world.ask(Action::RetryFailed { place: place(), rollout: None, reason: String::new() }).unwrap();
    world.until("it", |w| w.runs()[4] == "v2");
}

/// It says that it committed, and each of its reports names another release.
#[test]
fn a_host_that_commits_and_reports_another_release_is_not_sent_there_for_ever() {
    let mut world = two_away();
    world.host(5).behaviour.insert(name("v2"), Behaviour::Deserts);
    let before = sent(&world, 5);
    world.cut.retain(|host| *host != host_id(5));
    world.run(3600);
    assert_eq!(sent(&world, 5) - before, 3, "{:?}", world.sentences);
    insta::assert_snapshot!(world.sentences.join("\n"), @r"
    web-05 does not run v2, the release in force: it said that it had taken it, and reports another release as active; `ctl retry` tries it again
    web-06 is not sent to v2, the release in force, since it failed on web-05: it said that it had taken it, and reports another release as active, and 0 may fail; `ctl retry` tries again, a new release or `ctl rollback` decides what else runs
    ");
}

#[test]
fn a_host_that_joins_while_the_schema_moves_is_told_of() {
    let mut world = World::new(3);
    world.publish("v1", 1, None, strategy());
    world.publish("v2", 2, migration(WayBackKind::Compatible), strategy());
    world.must_succeed("v1");
    let id = world.release("v2").unwrap();
    world.until("the canary", |w| w.runs()[0] == "v2");
    world.ask(Action::Pause { rollout: id.clone(), reason: "lunch".to_owned() }).unwrap();
    world.enrol(4);
    world.run(60);
    assert_eq!(world.runs()[3], "-");
    insta::assert_snapshot!(world.sentences.join("\n"), @r"
    paused by anna since 2027-01-15 08:00:39 UTC: lunch
    web-04 waits for the end of rollout r-7, which brings a migration, and takes what is in force then
    ");
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    world.until("it follows", |w| w.runs() == ["v2"; 4]);
}

#[test]
fn a_host_that_drifts_now_and_then_is_brought_back_each_time() {
    let mut world = World::new(3);
    world.publish("v1", 1, None, strategy());
    world.must_succeed("v1");
    for _ in 0..5 {
        world.now = world.now + Duration::from_secs(26 * 3600);
        world.run(5);
        world.host(2).active = None;
        world.run(2);
        world.until("it is back", |w| w.runs() == ["v1"; 3]);
    }
}
