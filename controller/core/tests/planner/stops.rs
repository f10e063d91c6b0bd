//! Required stops: hosts that come to a release over others, in a rollout and outside of one.

use landfall_common::assignment::{Assignment, OnFailure, Order};
use landfall_common::manifest::Follows;
use landfall_common::strategy::{Amount, Canary, Strategy};
use landfall_common::{Duration, ReleaseCounter};
use landfall_controller_core::command::{Action, IfHeld, RollRequest};
use landfall_controller_core::preview::{Over, PlannedStops};
use landfall_controller_core::record::{Change, Content, Record, ReleaseRecord, WayBackKind};
use landfall_controller_core::rollout::StatusWord;
use landfall_controller_core::{Output, Refusal, preview, preview_drill, retention};
use proptest::prelude::*;

use crate::hosts::Behaviour;
use crate::world::{World, host_id, migration, name, place, strategy};

fn knobs() -> Strategy {
    Strategy { failure_budget: Amount::Count(1), max_unavailable: Amount::Count(2), ..strategy() }
}

fn follows(world: &mut World, release: &str, stop: &str, counter: u64) {
    let stop = Follows { release: name(stop), counter: ReleaseCounter(counter) };
    world.follows.insert(name(release), stop);
}

/// v3 follows v2, and v5 follows v3.
fn published(hosts: usize) -> World {
    let mut world = World::new(hosts);
    follows(&mut world, "v3", "v2", 2);
    follows(&mut world, "v5", "v3", 3);
    for number in 1..=5 {
        world.publish(&format!("v{number}"), number, None, knobs());
    }
    world.must_succeed("v1");
    world
}

/// Of four hosts on v1 the last was away while the others came to `in_force`, one release after the other.
fn one_away(in_force: &[&str]) -> World {
    let mut world = published(4);
    world.cut.push(host_id(4));
    world.run(40);
    for release in in_force {
        let id = world.release(release).unwrap();
        assert_eq!(world.ended(&id), StatusWord::Failed, "{}", world.end_reason(&id));
    }
    assert_eq!(world.runs()[3], "v1");
    world
}

fn took(world: &World, number: usize) -> Vec<String> {
    world.hosts[&host_id(number)].took.iter().map(ToString::to_string).collect()
}

fn come_back(world: &mut World) {
    world.cut.clear();
}

#[test]
fn one_that_was_away_for_two_releases_catches_up_step_by_step() {
    let mut world = one_away(&["v2", "v3", "v5"]);
    come_back(&mut world);
    world.until("it takes the first stop", |world| {
        world.sentences.iter().any(|sentence| sentence.contains("on its way"))
    });
    insta::assert_snapshot!(world.sentences.join("\n"), @"web-04 takes v2 on its way to v5, the release in force");
    world.until("all", |world| world.runs() == ["v5"; 4]);
    world.run(30);
    assert_eq!(took(&world, 4), ["v1", "v2", "v3", "v5"]);
    assert_eq!(took(&world, 1), ["v1", "v2", "v3", "v5"]);
    world.run(60);
    assert_eq!(world.sentences, Vec::<String>::new());
}

#[test]
fn it_goes_over_them_in_its_batch_as_well() {
    let mut world = one_away(&["v2", "v3"]);
    // It comes back as the next rollout begins.
    come_back(&mut world);
    let planned = |world: &World| preview(&world.state, &World::request("v5"), world.now).unwrap();
    world.tick();
    let over = Over::Stops { releases: vec![name("v2"), name("v3")] };
    assert_eq!(planned(&world).stops, [PlannedStops { hosts: vec![host_id(4)], over }]);
    let before = world.most_out;
    let id = world.release("v5").unwrap();
    world.until("it is on its way", |world| world.sentences.iter().any(|told| told.contains("first: ")));
    insta::assert_snapshot!(world.sentences.join("\n"), @r"
    staging waits: web-01 runs virtualenv
    staging waits: web-02 runs virtualenv
    staging waits: web-03 runs virtualenv
    staging waits: web-04 takes v2 first: was asked 0s ago and has not answered
    ");
    assert_eq!(world.ended(&id), StatusWord::Succeeded, "{:?}", world.sentences);
    assert_eq!(took(&world, 4), ["v1", "v2", "v3", "v5"]);
    assert!(world.most_out <= before.max(2));
}

/// A stop is proven by what it asks for itself, and what is told of it says so, before it was taken and after.
#[test]
fn what_is_missing_at_a_stop_is_told_by_the_stop() {
    let mut world = World::new(1);
    follows(&mut world, "v3", "v2", 2);
    world.publish("v1", 1, None, knobs());
    world.publish("v2", 2, None, Strategy { min_healthy: Duration::from_secs(20), ..knobs() });
    world.publish("v3", 3, None, knobs());
    world.must_succeed("v1");
    world.host(1).behaviour.insert(name("v2"), Behaviour::Flaps);
    world.release("v3").unwrap();
    let tells = |world: &World, what: &str| world.sentences.iter().any(|told| told.contains(what));
    world.until("it is proven", |world| tells(world, "takes v2 first: healthy for 15s of 20s"));
    // Its health has begun anew when it is heard of again.
    world.cut.push(host_id(1));
    world.until("it has taken it", |world| took(world, 1) == ["v1", "v2"]);
    world.run(2);
    come_back(&mut world);
    world.run(2);
    assert!(tells(&world, "takes v2 first: healthy for "), "{:?}", world.sentences);
    assert!(tells(&world, " of 20s"), "{:?}", world.sentences);
}

/// All hosts of a place that never had the stop go over it, batch by batch.
#[test]
fn a_fleet_that_never_had_the_stop_goes_over_it() {
    let mut world = published(5);
    world.most_out = 0;
    let id = world.release("v3").unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    for number in 1..=5 {
        assert_eq!(took(&world, number), ["v1", "v2", "v3"]);
    }
    assert!(world.most_out <= 2, "{}", world.most_out);
}

/// What stood in line was asked for before anybody knew that its stop fails (P6).
#[test]
fn a_stop_that_has_failed_meanwhile_is_not_tried_again_by_what_stood_in_line() {
    let mut world = published(4);
    world.behaves("v2", Behaviour::Bad);
    let bad = world.release("v2").unwrap();
    let next = world.roll(RollRequest { if_held: IfHeld::Queue, ..World::request("v3") }).unwrap();
    assert_eq!(world.ended(&bad), StatusWord::RolledBack);
    world.run(60);
    insta::assert_snapshot!(world.sentences.join("\n"), @"rollout r-12 of v3 was paused by controller at 2027-01-15 08:01:27 UTC: rollout r-11 of v2 was rolled back, and hosts take v2 on their way to v3, and only an operator's word decides what runs now; `ctl resume r-12` lets it begin, `ctl abort r-12` ends it");
    world.behaves("v2", Behaviour::Good);
    world.ask(Action::Resume { rollout: next.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&next), StatusWord::Succeeded);
}

/// Nor is what failed as a stop on the way to something else (seed 88062955 of the simulation).
#[test]
fn what_has_failed_as_a_stop_meanwhile_is_not_tried_again_by_what_stood_in_line() {
    let mut world = published(4);
    world.behaves("v2", Behaviour::Bad);
    let bad = world.release("v3").unwrap();
    let queued = |release: &str| RollRequest { if_held: IfHeld::Queue, ..World::request(release) };
    let stop = world.roll(queued("v2")).unwrap();
    assert_eq!(world.ended(&bad), StatusWord::RolledBack);
    world.run(60);
    insta::assert_snapshot!(world.sentences.join("\n"), @"rollout r-12 of v2 was paused by controller at 2027-01-15 08:01:27 UTC: rollout r-11 of v3 was rolled back at its stop v2, and only an operator's word decides what runs now; `ctl resume r-12` lets it begin, `ctl abort r-12` ends it");
    // Whoever asks for it now knows.
    world.ask(Action::Abort { rollout: stop, go_back: false, reason: String::new() }).unwrap();
    world.behaves("v2", Behaviour::Good);
    let again = world.release("v2").unwrap();
    assert_eq!(world.ended(&again), StatusWord::Succeeded);
}

#[test]
fn what_fails_at_a_stop_counts_for_the_rollout_and_names_it() {
    let mut world = published(4);
    world.behaves("v2", Behaviour::Bad);
    let id = world.release("v3").unwrap();
    assert_eq!(world.ended(&id), StatusWord::RolledBack, "{:?}", world.sentences);
    insta::assert_snapshot!(world.end_reason(&id), @"the whole first batch failed: web-01 at healthz (exit code 1): at v2, which it takes first: healthz said no");
    assert_eq!(world.runs(), ["v1"; 4]);
    assert!(world.hosts.values().all(|host| host.took.iter().all(|took| *took != name("v3"))));
}

#[test]
fn what_fails_at_a_stop_on_coming_back_is_left_alone_until_somebody_looks() {
    let mut world = one_away(&["v2", "v3"]);
    world.host(4).behaviour.insert(name("v2"), Behaviour::Bad);
    come_back(&mut world);
    world.run(300);
    assert_eq!(world.runs()[3], "v1");
    insta::assert_snapshot!(world.sentences.join("\n"), @"web-04 does not run v3, the release in force: at v2, which it takes first: healthz said no; `ctl retry` tries it again");
    world.host(4).behaviour.clear();
    world.ask(Action::RetryFailed { place: place(), rollout: None, reason: String::new() }).unwrap();
    world.until("it", |world| world.runs() == ["v3"; 4]);
    world.run(30);
    assert_eq!(took(&world, 4), ["v1", "v2", "v3"]);
}

/// What it was left with is in doubt, so that it would take the stop again, and from there what has failed, and so on.
#[test]
fn what_failed_and_could_not_be_undone_is_not_tried_again_over_the_stop() {
    let mut world = one_away(&["v2", "v3"]);
    world.host(4).behaviour.insert(name("v3"), Behaviour::Bad);
    world.host(4).reverts_well = false;
    come_back(&mut world);
    world.until("it fails", |world| {
        let active = world.hosts[&host_id(4)].active.as_ref().unwrap();
        took(world, 4) == ["v1", "v2"] && active.release.name == name("v2") && !active.proven
    });
    let asked = world.issued.len();
    world.run(300);
    assert_eq!(world.issued.len(), asked, "{:?}", world.issued.last());
    insta::assert_snapshot!(world.sentences.join("\n"), @"web-04 does not run v3, the release in force: healthz said no; `ctl retry` tries it again");
    world.host(4).behaviour.clear();
    world.ask(Action::RetryFailed { place: place(), rollout: None, reason: String::new() }).unwrap();
    world.until("it", |world| world.runs() == ["v3"; 4]);
    world.run(30);
    assert_eq!(took(&world, 4), ["v1", "v2", "v2", "v3"]);
}

/// What is in doubt is not what a host reverts to: that is what was proven before it, and would not run on the schema.
#[test]
fn what_failed_at_a_stop_is_not_held_for_its_way_back() {
    let mut world = World::new(4);
    follows(&mut world, "v3", "v2", 2);
    world.publish("v1", 1, None, knobs());
    world.publish("v2", 2, None, knobs());
    // Compatible with v2, and with nothing older.
    world.publish("v3", 3, migration(WayBackKind::Compatible), knobs());
    world.must_succeed("v1");
    world.cut.push(host_id(4));
    world.run(40);
    for release in ["v2", "v3"] {
        let id = world.release(release).unwrap();
        assert_eq!(world.ended(&id), StatusWord::Failed, "{}", world.end_reason(&id));
    }
    world.host(4).behaviour.insert(name("v2"), Behaviour::Bad);
    come_back(&mut world);
    let asked = |world: &World| {
        let own = world.issued.iter().filter(|asked| asked.host == host_id(4));
        own.filter(|asked| asked.release.name == name("v2")).cloned().collect::<Vec<_>>()
    };
    for _ in 0..2 {
        world.run(100);
        assert_eq!(world.runs()[3], "v2", "what does not run on the schema is not started");
        world.ask(Action::RetryFailed { place: place(), rollout: None, reason: String::new() }).unwrap();
    }
    world.run(100);
    assert_eq!(world.runs()[3], "v2");
    let asked = asked(&world);
    assert_eq!(asked.len(), 3);
    let holds =
        |asked: &Assignment| matches!(asked.order, Order::Activate { on_failure: OnFailure::Hold, .. });
    assert!(asked.iter().all(holds), "{asked:?}");
}

#[test]
fn a_new_host_takes_the_release_in_force_straight_away() {
    let mut world = one_away(&["v2", "v3"]);
    world.enrol(5);
    world.until("it", |world| world.runs().last().unwrap() == "v3");
    world.run(30);
    assert_eq!(took(&world, 5), ["v3"]);
}

/// The schema has gone on so far that the stop does not run on it any more.
fn without_a_way() -> World {
    let mut world = World::new(4);
    follows(&mut world, "v3", "v2", 2);
    world.publish("v1", 1, None, knobs());
    world.publish("v2", 2, None, knobs());
    world.publish("v3", 3, None, knobs());
    // Compatible with v3, and with nothing older.
    world.publish("v4", 4, migration(WayBackKind::Compatible), knobs());
    follows(&mut world, "v5", "v3", 3);
    world.publish("v5", 5, None, knobs());
    world.must_succeed("v1");
    world.cut.push(host_id(4));
    world.run(40);
    for release in ["v2", "v3", "v4", "v5"] {
        let id = world.release(release).unwrap();
        assert_eq!(world.ended(&id), StatusWord::Failed, "{}", world.end_reason(&id));
    }
    world
}

#[test]
fn one_that_cannot_come_there_is_told_so_and_holds_nobody_up() {
    let mut world = without_a_way();
    come_back(&mut world);
    world.run(60);
    assert_eq!(took(&world, 4), ["v1"]);
    insta::assert_snapshot!(world.sentences.join("\n"), @"web-04 does not take v5, the release in force: it runs v1, and v3 follows v2, which does not run on the schema that the database has: the migration of v4 is compatible with v3, and with nothing older; what helps: a release that follows something else, or to build the host anew; `ctl hosts cordon` leaves it as it is");
    let account = landfall_controller_core::explain::host(
        &world.state,
        &landfall_controller_core::plan(&world.state, world.now).report,
        &host_id(4),
        world.now,
    );
    assert_eq!(account.unwrap().waits, world.sentences);
    // A rollout leaves it as it is and names it, within the budget of failures.
    follows(&mut world, "v6", "v5", 5);
    world.publish("v6", 6, None, knobs());
    let plan = preview(&world.state, &World::request("v6"), world.now).unwrap();
    assert!(matches!(&plan.stops[..], [PlannedStops { over: Over::NoWay { .. }, .. }]), "{:?}", plan.stops);
    let id = world.release("v6").unwrap();
    assert_eq!(world.ended(&id), StatusWord::Failed);
    insta::assert_snapshot!(world.end_reason(&id), @"v6 runs on 3 of 4 hosts: web-04 cannot come to it: it runs v1, and v3 follows v2, which does not run on the schema that the database has: the migration of v4 is compatible with v3, and with nothing older; what helps: a release that follows something else, or to build the host anew; `ctl hosts cordon` leaves it as it is");
    assert_eq!(world.runs(), ["v6", "v6", "v6", "v1"]);
    // A release that brings it along is its way out.
    world.publish("v7", 7, None, knobs());
    world.must_succeed("v7");
    assert_eq!(world.runs(), ["v7"; 4]);
}

#[test]
fn without_a_budget_for_failures_nothing_begins_that_one_cannot_come_to() {
    let mut world = without_a_way();
    come_back(&mut world);
    world.run(10);
    follows(&mut world, "v6", "v5", 5);
    world.publish("v6", 6, None, Strategy { failure_budget: Amount::Count(0), ..knobs() });
    let id = world.release("v6").unwrap();
    assert_eq!(world.ended(&id), StatusWord::Failed);
    insta::assert_snapshot!(world.end_reason(&id), @"1 host failed, the budget allows 0: web-04 at accept: it runs v1, and v3 follows v2, which does not run on the schema that the database has: the migration of v4 is compatible with v3, and with nothing older; what helps: a release that follows something else, or to build the host anew; `ctl hosts cordon` leaves it as it is; nothing that runs was touched");
    assert_eq!(world.runs(), ["v5", "v5", "v5", "v1"]);
}

/// It is no canary: what a host cannot come to says nothing of the release.
#[test]
fn one_that_cannot_come_there_comes_last() {
    let mut world = without_a_way();
    come_back(&mut world);
    // The first host is put back from an old image.
    let old = world.hosts[&host_id(4)].active.clone();
    world.host(1).active = old;
    world.run(10);
    follows(&mut world, "v6", "v5", 5);
    world.publish("v6", 6, None, Strategy { failure_budget: Amount::Count(2), ..knobs() });
    let plan = preview(&world.state, &World::request("v6"), world.now).unwrap();
    assert_eq!(plan.batches[0].hosts, [host_id(2)]);
    assert_eq!(plan.batches.last().unwrap().hosts.last(), Some(&host_id(4)));
    let id = world.release("v6").unwrap();
    assert_eq!(world.ended(&id), StatusWord::Failed);
    assert_eq!(world.runs(), ["v1", "v6", "v6", "v1"]);
}

/// It comes when the others have the release: that it cannot come there is no reason to take it from them.
#[test]
fn one_that_comes_late_and_cannot_come_there_takes_nothing_from_others() {
    let mut world = without_a_way();
    follows(&mut world, "v6", "v5", 5);
    world.publish("v6", 6, None, Strategy { failure_budget: Amount::Count(0), ..knobs() });
    let id = world.release("v6").unwrap();
    world.until("the first", |world| world.runs()[0] == "v6");
    come_back(&mut world);
    assert_eq!(world.ended(&id), StatusWord::Failed);
    assert_eq!(world.runs(), ["v6", "v6", "v6", "v1"]);
    insta::assert_snapshot!(world.end_reason(&id), @"v6 runs on 3 of 4 hosts: web-04 cannot come to it: it runs v1, and v3 follows v2, which does not run on the schema that the database has: the migration of v4 is compatible with v3, and with nothing older; what helps: a release that follows something else, or to build the host anew; `ctl hosts cordon` leaves it as it is");
}

#[test]
fn what_the_fleet_cannot_come_to_is_refused() {
    let mut world = World::new(3);
    follows(&mut world, "v3", "v2", 2);
    world.publish("v1", 1, None, knobs());
    world.publish("v2", 2, migration(WayBackKind::Compatible), knobs());
    world.publish("v3", 3, None, knobs());
    world.must_succeed("v1");
    let refused = world.release("v3").unwrap_err();
    insta::assert_snapshot!(refused, @"v3 cannot be brought to tenants in production: v1 is in force there, and v3 follows v2, whose migration has not run here; `ctl release v2` before it runs that");
    world.must_succeed("v2");
    world.must_succeed("v3");
}

#[test]
fn what_follows_no_earlier_release_is_not_published() {
    let mut world = World::new(1);
    world.publish("v1", 1, None, knobs());
    let mut refused = |release: &str, counter, stop: &str, of| {
        follows(&mut world, release, stop, of);
        world.try_to_publish(release, counter, None, knobs()).unwrap_err().to_string()
    };
    insta::assert_snapshot!(refused("v2", 2, "v0", 0), @"v2 follows v0 by its landfall.toml, which is not published here; correct `follows`, commit, and tag that commit");
    insta::assert_snapshot!(refused("v2", 2, "v2", 2), @"v2 follows v2 by its landfall.toml, which is itself; correct `follows`, commit, and tag that commit");
    insta::assert_snapshot!(refused("v2", 2, "v1", 5), @"v2 follows v1 by its landfall.toml, which is number 1, and not number 5 as was signed; correct `follows`, commit, and tag that commit");
    insta::assert_snapshot!(refused("v0", 0, "v1", 1), @"v0 follows v1 by its landfall.toml, which is newer; correct `follows`, commit, and tag that commit");
}

#[test]
fn a_way_back_is_straight_and_the_way_forth_again_is_not() {
    let mut world = published(3);
    world.must_succeed("v3");
    let back = world.rollback(Some("v1")).unwrap();
    assert_eq!(world.ended(&back), StatusWord::Succeeded);
    world.must_succeed("v5");
    assert_eq!(took(&world, 1), ["v1", "v2", "v3", "v1", "v2", "v3", "v5"]);
}

#[test]
fn a_drill_takes_no_stop() {
    let mut world = published(3);
    world.must_succeed("v3");
    let refused = preview_drill(&world.state, &place(), None, world.now).unwrap_err();
    insta::assert_snapshot!(refused, @"no drill in tenants in production: a host comes from v1 to v3 only over v2, which v3 follows, and a drill takes no stop");
    assert!(matches!(refused, Refusal::NoDrill { .. }));
    // Nor does a canary that has not come to the release in force yet.
    let mut world = published(3);
    world.cut.push(host_id(1));
    world.run(40);
    for release in ["v3", "v4"] {
        let id = world.release(release).unwrap();
        assert_eq!(world.ended(&id), StatusWord::Failed, "one could not be heard of");
    }
    world.host(1).hears = |order| !matches!(order, Order::Activate { .. });
    world.cut.clear();
    world.run(10);
    let refused = preview_drill(&world.state, &place(), Some(&name("v3")), world.now).unwrap_err();
    insta::assert_snapshot!(refused, @"no drill in tenants in production: web-01 is the canary, and takes v2 before v3, and a drill takes no stop");
}

/// What had begun its way over stops goes back with the others, straight where it was older, and over stops where the
/// release in force asks for it.
#[test]
fn a_rollout_that_goes_back_takes_those_along_that_were_on_their_way() {
    let mut world = one_away(&["v2", "v3"]);
    follows(&mut world, "v6", "v5", 5);
    world.publish("v6", 6, None, Strategy { canary: Canary::Count(0), batch: Amount::Count(4), ..knobs() });
    for number in [1, 2] {
        world.host(number).behaviour.insert(name("v6"), Behaviour::Bad);
    }
    come_back(&mut world);
    world.tick();
    let id = world.release("v6").unwrap();
    assert_eq!(world.ended(&id), StatusWord::RolledBack, "{:?}", world.sentences);
    world.until("all", |world| world.runs() == ["v3"; 4]);
    in_order(&world, 4);
}

/// v6 comes to four hosts, of which the last runs v1 and the others v3, and no failure is within its budget.
fn without_a_budget(world: &mut World) {
    let knobs = Strategy { failure_budget: Amount::Count(0), batch: Amount::Count(4), ..knobs() };
    world.publish("v6", 6, None, knobs);
    come_back(world);
    world.tick();
}

fn to_v6(world: &World, host: usize) -> usize {
    let is_it = |asked: &&Assignment| asked.host == host_id(host) && asked.release.name == name("v6");
    world.issued.iter().filter(is_it).count()
}

/// The release in force demands the very stop that failed: whoever stands before it holds nobody else up.
#[test]
fn what_failed_at_a_stop_does_not_keep_the_others_from_going_back() {
    let mut world = one_away(&["v2", "v3"]);
    follows(&mut world, "v6", "v3", 3);
    world.host(4).behaviour.insert(name("v2"), Behaviour::Bad);
    without_a_budget(&mut world);
    let id = world.release("v6").unwrap();
    world.until("it begins", |world| world.runs()[1] == "v6");
    assert_eq!(world.ended(&id), StatusWord::Failed, "{:?}", world.sentences);
    insta::assert_snapshot!(world.end_reason(&id), @"1 host failed, the budget allows 0: web-04 at healthz (exit code 1): at v2, which it takes first: healthz said no; it went back, but not on web-04");
    assert_eq!(world.runs(), ["v3", "v3", "v3", "v1"]);
    assert_eq!(to_v6(&world, 4), 0);
    // It is as if the rollout had never been: somebody looks, and it comes to what is in force.
    world.run(100);
    assert_eq!(world.runs()[3], "v1");
    insta::assert_snapshot!(world.sentences.join("\n"), @"web-04 does not run v3, the release in force: at v2, which it takes first: healthz said no; `ctl retry` tries it again");
    world.host(4).behaviour.clear();
    world.ask(Action::RetryFailed { place: place(), rollout: None, reason: String::new() }).unwrap();
    world.until("all", |world| world.runs() == ["v3"; 4]);
    in_order(&world, 4);
}

/// It is the way back alone that goes over the stop: what fails there says nothing of the others either.
#[test]
fn what_fails_at_a_stop_on_its_way_back_does_not_keep_the_others() {
    let mut world = one_away(&["v2", "v3"]);
    world.host(4).behaviour.extend([(name("v2"), Behaviour::Bad), (name("v6"), Behaviour::Bad)]);
    without_a_budget(&mut world);
    let id = world.release("v6").unwrap();
    assert_eq!(world.ended(&id), StatusWord::Failed, "{:?}", world.sentences);
    insta::assert_snapshot!(world.end_reason(&id), @"1 host failed, the budget allows 0: web-04 at healthz (exit code 1): healthz said no; it went back, but not on web-04");
    assert_eq!(to_v6(&world, 4), 1);
    assert_eq!(world.runs(), ["v3", "v3", "v3", "v1"]);
}

/// What never says how it ended at a stop is told of with that stop.
#[test]
fn what_does_not_answer_at_a_stop_on_its_way_back_names_it() {
    let mut world = one_away(&["v2", "v3"]);
    world.host(4).behaviour.extend([(name("v2"), Behaviour::Hangs), (name("v6"), Behaviour::Bad)]);
    without_a_budget(&mut world);
    let id = world.release("v6").unwrap();
    assert_eq!(world.ended(&id), StatusWord::Failed, "{:?}", world.sentences);
    let member = world.state.members(&id).find(|member| member.host == host_id(4)).unwrap();
    let reason = &member.return_failure.as_ref().unwrap().reason;
    assert!(reason.starts_with("at v2, which it takes first: it was asked to go back"), "{reason}");
    assert_eq!(world.runs()[..3], ["v3"; 3]);
}

/// What cannot be got any more, whoever asks for it.
fn files_are_gone(world: &mut World, release: &str) {
    let known = world.state.release(&place().application, &name(release)).unwrap().clone();
    let gone = ReleaseRecord { content: Content::Removed { at: world.now }, ..known };
    let put = Change::Put { record: Record::Release(Box::new(gone)) };
    world.commit(Output { changes: vec![put], ..Output::default() });
}

/// From what it runs there is no way to the release in force: it was not there before the rollout either.
#[test]
fn one_without_a_way_back_does_not_keep_the_others() {
    let mut world = one_away(&["v2", "v3"]);
    files_are_gone(&mut world, "v2");
    world.host(4).behaviour.insert(name("v6"), Behaviour::Bad);
    without_a_budget(&mut world);
    let id = world.release("v6").unwrap();
    assert_eq!(world.ended(&id), StatusWord::Failed, "{:?}", world.sentences);
    insta::assert_snapshot!(world.end_reason(&id), @"1 host failed, the budget allows 0: web-04 at healthz (exit code 1): healthz said no; it went back, but not on web-04");
    assert_eq!(to_v6(&world, 4), 1);
    assert_eq!(world.runs(), ["v3", "v3", "v3", "v1"]);
    world.run(30);
    insta::assert_snapshot!(world.sentences.join("\n"), @"web-04 does not take v3, the release in force: it runs v1, and v3 follows v2, whose files were removed from the controller at 2027-01-15 08:16:33 UTC; what helps: `ctl release v2 --publish-only` in its repository uploads them again; or a release that follows something else, or to build the host anew; `ctl hosts cordon` leaves it as it is");
    // Once there is a way it is taken, without anybody's word.
    let known = world.state.release(&place().application, &name("v2")).unwrap().clone();
    let here = ReleaseRecord { content: Content::Here, ..known };
    let put = Change::Put { record: Record::Release(Box::new(here)) };
    world.commit(Output { changes: vec![put], ..Output::default() });
    world.until("all", |world| world.runs() == ["v3"; 4]);
    in_order(&world, 4);
}

#[test]
fn what_hosts_may_still_have_to_go_over_is_kept() {
    let mut world = one_away(&["v2", "v3", "v5"]);
    for number in 6..=12 {
        world.publish(&format!("v{number}"), number, None, knobs());
    }
    let needed = |world: &World| {
        let all = retention::needed(&world.state, 2);
        all.into_iter().map(|(_, release)| release.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(needed(&world), ["v1", "v11", "v12", "v2", "v3", "v5"]);
    come_back(&mut world);
    world.until("all", |world| world.runs() == ["v5"; 4]);
    assert!(needed(&world).contains(&"v2".to_owned()), "an old image may come any day");
    // What is in force follows nothing that old.
    for release in ["v6", "v7", "v8"] {
        world.must_succeed(release);
    }
    assert!(!needed(&world).contains(&"v2".to_owned()));
}

/// What a host activated on top of what: each release after what it follows, or on a way back.
fn in_order(world: &World, number: usize) {
    for (before, to) in &world.hosts[&host_id(number)].came_from {
        let (from, goes_back) = (&before.release, to.counter <= before.release.counter);
        let met = |follows: &Follows| follows.is_met_by(from.counter, before.proven);
        let in_order = goes_back || world.follows.get(&to.name).is_none_or(met);
        assert!(in_order, "web-{number:02} went from {before:?} to {}", to.name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whoever is away when, and whatever follows what: nobody skips a stop, and in the end all run what is in force.
    #[test]
    fn whoever_was_away_comes_there_in_order(
        demands in proptest::collection::vec(proptest::option::of(1u64..3), 5),
        away in proptest::collection::vec((1usize..6, any::<bool>()), 5),
        bad in proptest::option::of((1usize..6, 2u64..6)),
        late in 0u32..40,
    ) {
        let mut world = World::new(5);
        for (number, back) in (1u64..).zip(&demands) {
            let release = format!("v{number}");
            if let Some(stop) = back.and_then(|back| number.checked_sub(back)).filter(|stop| *stop > 0) {
                follows(&mut world, &release, &format!("v{stop}"), stop);
            }
            let knobs = Strategy { progress_deadline: Duration::from_secs(120), ..knobs() };
            world.publish(&release, number, None, knobs);
        }
        world.must_succeed("v1");
        if let Some((host, release)) = bad {
            world.host(host).behaviour.insert(name(&format!("v{release}")), Behaviour::Bad);
        }
        for (number, (host, comes)) in (2u64..=5).zip(&away) {
            if *comes {
                world.cut.clear();
            } else {
                world.cut = vec![host_id(*host)];
            }
            world.run(late);
            let Ok(id) = world.release(&format!("v{number}")) else { continue };
            for _ in 0..1_500 {
                if world.rollout(&id).ended() || world.word(&id) == StatusWord::Paused {
                    break;
                }
                world.tick();
            }
            if !world.rollout(&id).ended() {
                let abort = Action::Abort { rollout: id, go_back: false, reason: "enough".to_owned() };
                world.ask(abort).unwrap();
            }
        }
        world.cut.clear();
        world.hosts.values_mut().for_each(|host| host.behaviour.clear());
        let _ = world.ask(Action::RetryFailed { place: place(), rollout: None, reason: String::new() });
        world.run(900);
        for number in 1..=5 {
            in_order(&world, number);
        }
        let record = world.state.place(&place()).unwrap();
        let is_on = record.convergence == landfall_controller_core::record::Convergence::On;
        if is_on {
            let in_force = record.in_force().unwrap().release.name.to_string();
            prop_assert_eq!(world.runs(), vec![in_force; 5], "{:?}", world.sentences);
        }
    }
}
