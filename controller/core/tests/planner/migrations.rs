//! The migration, forward and back: the traps of FIELD_NOTES "Migrations", and P7.

use landfall_common::assignment::{Direction, OnFailure, Order};
use landfall_common::report::Traffic;
use landfall_common::strategy::{Before, Canary, Strategy};
use landfall_common::{Duration, GateName, RolloutId, Sha256};
use landfall_controller_core::command::{Action, RollRequest};
use landfall_controller_core::gate::GateVerdict;
use landfall_controller_core::log::{LogEvent, MigrationVerdict};
use landfall_controller_core::preview;
use landfall_controller_core::preview::PlannedWayBack;
use landfall_controller_core::record::{MigrationFacts, WayBackKind};
use landfall_controller_core::rollout::{MigrationRun, Stage, StatusWord};

use crate::hosts::{Behaviour, Migrates};
use crate::world::{World, host_id, migration, name, place, strategy};

/// A fleet on v1, and a published v2 that migrates.
fn before_v2(hosts: usize, facts: Option<MigrationFacts>) -> World {
    let mut world = World::new(hosts);
    world.publish("v1", 1, None, strategy());
    world.publish("v2", 2, facts, strategy());
    world.must_succeed("v1");
    world.most_out = 0;
    world
}

/// Each run that was ever begun: release, direction, fence.
fn runs(world: &World) -> Vec<(String, Direction, u64)> {
    let all = world.hosts.values().flat_map(|host| host.migrations.iter());
    let mut all: Vec<_> = all.map(|(release, way, fence)| (release.to_string(), *way, *fence)).collect();
    all.sort_by_key(|(_, _, fence)| *fence);
    all
}

/// How often the log says that the first batch began: the time of an activation is counted from there.
fn first_batches(world: &World, id: &RolloutId) -> usize {
    let of =
        |event: &LogEvent| matches!(event, LogEvent::BatchStarted { rollout, batch: 1, .. } if rollout == id);
    world.log.iter().filter(|entry| of(&entry.event)).count()
}

/// Ansible's run_once runs once per batch; concurrent migrations ended in 432 errors.
#[test]
fn it_runs_once_per_rollout_before_anything_is_activated() {
    let mut world = before_v2(5, migration(WayBackKind::Compatible));
    let id = world.release("v2").unwrap();
    world.until("it runs", |w| w.word(&id) == StatusWord::Migrating);
    world.run(1);
    assert_eq!(world.runs(), ["v1"; 5]);
    insta::assert_snapshot!(world.sentences.join("\n"), @"web-01 has been migrating for 1s; without an answer its outcome counts as unknown at 2027-01-15 08:03:14 UTC");
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(runs(&world), [("v2".to_owned(), Direction::Up, 1)]);
    assert_eq!(first_batches(&world, &id), 1);
}

#[test]
fn a_failed_one_ends_the_rollout_before_anything_is_activated() {
    let mut world = before_v2(3, migration(WayBackKind::Compatible));
    world.host(1).migrates = Migrates::Fails;
    let id = world.release("v2").unwrap();
    assert_eq!(world.ended(&id), StatusWord::Failed);
    assert_eq!(world.most_out, 0);
    insta::assert_snapshot!(world.end_reason(&id), @"the migration failed on web-01: migrate said no; nothing was activated");
    assert_eq!(first_batches(&world, &id), 0);
    // That hosts should be tried again is no way to run it once more.
    let retry =
        world.ask(Action::RetryFailed { place: place(), rollout: None, reason: String::new() }).unwrap_err();
    insta::assert_snapshot!(retry, @"rollout r-7 of v2 has ended, and tenants in production does not run v2: `ctl release v2` tries it again");
}

#[test]
fn one_of_unknown_outcome_waits_for_an_operator_and_never_runs_a_second_time_by_itself() {
    let mut world = before_v2(3, migration(WayBackKind::Compatible));
    world.host(1).migrates = Migrates::Unknown;
    let id = world.release("v2").unwrap();
    world.until("it waits", |w| w.word(&id) == StatusWord::Waiting);
    world.run(5000);
    assert_eq!(world.word(&id), StatusWord::Waiting);
    assert_eq!(runs(&world).len(), 1);
    insta::assert_snapshot!(world.sentences.join("\n"), @"nobody knows whether the migration on web-01 took effect: migrate said no. Look at the database, then type `ctl migration resolve r-7 --applied` or `ctl migration resolve r-7 --not-applied`");
    // Nothing else may begin meanwhile.
    let abort = Action::Abort { rollout: id.clone(), go_back: false, reason: String::new() };
    insta::assert_snapshot!(world.ask(abort).unwrap_err(), @"nobody knows whether the migration of rollout r-7 took effect on web-01, and that decides what can follow. Look at the database, then type `ctl migration resolve r-7 --applied` or `ctl migration resolve r-7 --not-applied`");
    let reason = "the table is there".to_owned();
    world
        .ask(Action::ResolveMigration { rollout: id.clone(), verdict: MigrationVerdict::Applied, reason })
        .unwrap();
    assert_eq!(first_batches(&world, &id), 1);
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(runs(&world).len(), 1);
    assert_eq!(first_batches(&world, &id), 1);
}

#[test]
fn an_operator_may_say_that_it_did_not_take_effect_and_it_runs_again() {
    let mut world = before_v2(3, migration(WayBackKind::Compatible));
    world.host(1).migrates = Migrates::Unknown;
    let id = world.release("v2").unwrap();
    world.until("it waits", |w| w.word(&id) == StatusWord::Waiting);
    world.host(1).migrates = Migrates::Well;
    let (verdict, reason) = (MigrationVerdict::NotApplied, "the table is not there".to_owned());
    world.ask(Action::ResolveMigration { rollout: id.clone(), verdict, reason }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    let fences: Vec<_> = runs(&world).into_iter().map(|(_, _, fence)| fence).collect();
    assert_eq!(fences, [1, 2], "each lease has its own number, and it grows");
}

/// The migration host dies between running and reporting.
#[test]
fn a_host_that_dies_with_the_lease_leaves_it_unknown_and_no_other_host_takes_over() {
    let mut world = before_v2(4, migration(WayBackKind::Compatible));
    let id = world.release("v2").unwrap();
    world.until("it runs", |w| !runs(w).is_empty());
    world.host(1).up = false;
    world.until("it waits", |w| w.word(&id) == StatusWord::Waiting);
    insta::assert_snapshot!(world.sentences.join("\n"), @"nobody knows whether the migration on web-01 took effect: web-01 was given the right to run it at 2027-01-15 08:00:44 UTC and has not said how it ended; it cannot be running it any more. Look at the database, then type `ctl migration resolve r-8 --applied` or `ctl migration resolve r-8 --not-applied`");
    world.run(1000);
    assert_eq!(runs(&world).len(), 1);
    assert_eq!(world.runs(), ["v1"; 4]);
    // It comes back and knows as little; the operator is asked.
    let now = world.now;
    world.host(1).reboot(now);
    world.run(10);
    assert_eq!(world.word(&id), StatusWord::Waiting);
}

#[test]
fn a_lease_that_ran_out_unheard_is_settled_by_the_hosts_own_late_word() {
    let mut world = before_v2(4, migration(WayBackKind::Compatible));
    let id = world.release("v2").unwrap();
    world.until("it runs", |w| !runs(w).is_empty());
    world.cut.push(host_id(1));
    world.until("it waits", |w| w.word(&id) == StatusWord::Waiting);
    world.cut.clear();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(runs(&world).len(), 1);
}

#[test]
fn a_controller_that_dies_during_it_hands_nothing_out_twice() {
    let mut world = before_v2(4, migration(WayBackKind::Compatible));
    let id = world.release("v2").unwrap();
    world.until("it runs", |w| !runs(w).is_empty());
    world.crash_controller();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(runs(&world).len(), 1);
}

#[test]
fn an_idempotent_one_is_tried_again_after_its_lease_and_not_for_ever() {
    let facts = migration(WayBackKind::Compatible).map(|facts| MigrationFacts { idempotent: true, ..facts });
    let mut world = before_v2(3, facts);
    world.hosts.values_mut().for_each(|host| host.migrates = Migrates::Unknown);
    let id = world.release("v2").unwrap();
    world.until("it waits", |w| w.word(&id) == StatusWord::Waiting);
    world.run(1000);
    assert_eq!(runs(&world).len(), 3);
}

/// A controller that comes back with a clock that is hours ahead has not seen the lease pass.
#[test]
fn a_clock_that_leaps_while_the_controller_is_down_does_not_end_a_lease() {
    let facts = migration(WayBackKind::Compatible).map(|facts| MigrationFacts { idempotent: true, ..facts });
    let mut world = before_v2(3, facts);
    world.release("v2").unwrap();
    world.until("it runs", |w| !runs(w).is_empty());
    world.cut.push(host_id(1));
    world.now = world.now + Duration::from_secs(3 * 3600);
    world.crash_controller();
    world.run(140);
    assert_eq!(runs(&world).len(), 1, "the first may still be running");
    world.until("it is tried again", |w| runs(w).len() == 2);
}

/// Met by the simulation (seed 88038226): the order that a host had not taken became young again with a clock that was set
/// back, for another host had the lease under the same number. Both migrated.
#[test]
fn a_lease_that_has_lapsed_is_not_handed_out_again_by_a_clock_that_is_set_back() {
    let mut world = before_v2(3, None);
    let gates = vec![crate::gates::gate("dba", Before::First)];
    world.publish("v3", 3, migration(WayBackKind::Compatible), Strategy { gates, ..strategy() });
    world.hosts.values_mut().for_each(|host| host.hears = |order| !matches!(order, Order::Migrate { .. }));
    let id = world.release("v3").unwrap();
    world.until("all have staged it", |world| world.word(&id) == StatusWord::Waiting);
    // The first in line is away for a while.
    world.cut.push(host_id(1));
    world.run(40);
    let (gate, reason) = (GateName::new("dba").unwrap(), "go".to_owned());
    let verdict = GateVerdict::Open;
    world.ask(Action::AnswerGate { rollout: id.clone(), gate, batch: None, verdict, reason }).unwrap();
    let lease = |world: &World| match world.rollout(&id).status.stage() {
        Some(Stage::Migrating { run: MigrationRun::Leased { lease } }) => Some(lease.clone()),
        _ => None,
    };
    world.until("one has it", |world| lease(world).is_some());
    let first = lease(&world).unwrap();
    world.cut.clear();
    world.until("another one has it", |world| lease(world).is_some_and(|lease| lease.host != first.host));
    assert_eq!(lease(&world).unwrap().generation, first.generation, "numbers are each host's own");
    world.set_back(Duration::from_secs(3600));
    world.hosts.get_mut(&first.host).unwrap().hears = |_| true;
    world.run(30);
    assert_eq!(runs(&world), []);
    world.hosts.values_mut().for_each(|host| host.hears = |_| true);
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(runs(&world).len(), 1);
}

#[test]
fn a_release_without_a_way_back_needs_the_operators_word() {
    let mut world = before_v2(3, migration(WayBackKind::None));
    insta::assert_snapshot!(world.release("v2").unwrap_err(), @"there is no way back from v2: the migration of v2 cannot be undone; declare its migration reversible or compatible, or accept it with --no-way-back (hosts that fail are then left as they are, and the rollout pauses)");
    let plan = preview(&world.state, &World::request("v2"), world.now).unwrap();
    assert!(matches!(plan.way_back, PlannedWayBack::None { .. }));
    let request = RollRequest { no_way_back: true, ..World::request("v2") };
    let id = world.roll(request).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    // And a rollback past it is refused before it begins.
    insta::assert_snapshot!(world.rollback(None).unwrap_err(), @"cannot go back to v1: the migration of v2 cannot be undone; publish a release that mends v2, or restore a backup of the database from before it and publish the content of v1 anew under another name");
}

#[test]
fn hosts_that_fail_past_an_irreversible_migration_are_held_and_the_rollout_pauses() {
    let mut world = before_v2(3, migration(WayBackKind::None));
    world.behaves("v2", Behaviour::Bad);
    let id = world.roll(RollRequest { no_way_back: true, ..World::request("v2") }).unwrap();
    world.until("it pauses", |w| w.word(&id) == StatusWord::Paused);
    assert_eq!(world.runs(), ["v2", "v1", "v1"]);
    insta::assert_snapshot!(world.end_reason(&id), @"1 host failed, the budget allows 0: web-01 at healthz (exit code 1): healthz said no; it does not go back by itself: the migration of v2 cannot be undone. What helps: publish a release that mends v2, or restore a backup of the database from before it and publish the content of v1 anew under another name; or `ctl retry` tries again");
    insta::assert_snapshot!(world.rollback(None).unwrap_err(), @"cannot go back to v1: the migration of v2 cannot be undone; publish a release that mends v2, or restore a backup of the database from before it and publish the content of v1 anew under another name");
    world.run(2000);
    assert_eq!(world.runs(), ["v2", "v1", "v1"]);
    assert_eq!(world.word(&id), StatusWord::Paused);
    // Mended on the host, it goes on.
    world.hosts.values_mut().for_each(|host| host.behaviour.clear());
    world.ask(Action::RetryFailed { place: place(), rollout: None, reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

/// Of v3, irreversible, only the migration has come to stay.
fn after_half_of_v3(way_back: WayBackKind) -> World {
    let mut world = before_v2(3, None);
    world.publish("v3", 3, migration(way_back), strategy());
    world.behaves("v3", Behaviour::Bad);
    let id = world.roll(RollRequest { no_way_back: true, ..World::request("v3") }).unwrap();
    world.until("one has tried it", |world| world.runs()[0] == "v3");
    let reason = "by hand".to_owned();
    world.ask(Action::Abort { rollout: id.clone(), go_back: false, reason }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Aborted);
    world
}

#[test]
fn what_a_rollout_that_ended_half_way_left_in_the_database_keeps_older_releases_out() {
    let anyway = |release| RollRequest { no_way_back: true, ..World::request(release) };
    let mut world = after_half_of_v3(WayBackKind::None);
    insta::assert_snapshot!(world.roll(anyway("v1")).unwrap_err(), @"v1 does not know the schema as it is: the migration of v3 cannot be undone; publish a release that mends v3, or restore a backup of the database from before it and publish the content of v1 anew under another name");
    insta::assert_snapshot!(world.roll(anyway("v2")).unwrap_err(), @"v2 does not know the schema as it is: the migration of v3 cannot be undone; publish a release that mends v3, or restore a backup of the database from before it and publish the content of v2 anew under another name");
    world.publish("v4", 4, None, strategy());
    let id = world.roll(anyway("v4")).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);

    let mut world = after_half_of_v3(WayBackKind::Reversible);
    insta::assert_snapshot!(world.roll(anyway("v2")).unwrap_err(), @"v2 does not know the schema as it is: the migration of v3 has run; `ctl rollback v1` takes it back");
    let id = world.rollback(Some("v1")).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(runs(&world)[1].1, Direction::Down);
    world.must_succeed("v2");

    let mut world = after_half_of_v3(WayBackKind::Compatible);
    world.must_succeed("v1");
}

#[test]
fn what_was_gone_back_from_is_no_way_back_and_a_migration_that_was_taken_back_is_not_there() {
    let mut world = before_v2(3, migration(WayBackKind::Reversible));
    world.publish("v3", 3, None, strategy());
    world.must_succeed("v2");
    let id = world.rollback(None).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    world.must_succeed("v3");
    insta::assert_snapshot!(world.rollback(Some("v2")).unwrap_err(), @"cannot go back to v2: the migration of v2 was taken back since; publish its content anew under another name and release that");
    let id = world.rollback(None).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(world.runs(), ["v1"; 3]);
    world.must_succeed("v2");
    assert_eq!(runs(&world).iter().filter(|run| run.1 == Direction::Up).count(), 2);
}

/// v2 is still in force, and its migration is gone.
#[test]
fn a_way_back_that_ended_half_way_leaves_none_to_the_release_in_force() {
    let mut world = before_v2(3, migration(WayBackKind::Reversible));
    world.publish("v3", 3, None, strategy());
    world.must_succeed("v2");
    world.behaves("v1", Behaviour::Hangs);
    let id = world.rollback(None).unwrap();
    world.until("it is taken back", |world| runs(world).len() == 2);
    world.run(20);
    world.ask(Action::Abort { rollout: id, go_back: false, reason: "by hand".to_owned() }).unwrap();
    insta::assert_snapshot!(world.release("v3").unwrap_err(), @"there is no way back from v3: the migration of v2 was taken back since; accept it with --no-way-back (hosts that fail are then left as they are, and the rollout pauses)");
    let id = world.roll(RollRequest { no_way_back: true, ..World::request("v3") }).unwrap();
    insta::assert_snapshot!(world.rollback(None).unwrap_err(), @"cannot go back to v2: the migration of v2 was taken back since; publish its content anew under another name and release that");
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

/// A host that missed a release runs what the schema has left behind.
#[test]
fn a_host_goes_back_by_itself_only_to_what_the_schema_lets_it() {
    let mut world = before_v2(3, migration(WayBackKind::None));
    world.publish("v3", 3, None, strategy());
    let away = host_id(3);
    world.cut.push(away.clone());
    let id = world.roll(RollRequest { no_way_back: true, ..World::request("v2") }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Failed, "one is not heard of");
    assert_eq!(world.runs(), ["v2", "v2", "v1"]);
    world.release("v3").unwrap();
    world.cut.clear();
    world.until("all have been asked", |world| {
        world
            .hosts
            .keys()
            .all(|host| world.issued.iter().any(|a| a.host == *host && a.release.name == name("v3")))
    });
    for assignment in world.issued.iter().filter(|assignment| assignment.release.name == name("v3")) {
        let Order::Activate { on_failure, .. } = assignment.order else { continue };
        let expected = if assignment.host == away { OnFailure::Hold } else { OnFailure::Revert };
        assert_eq!(on_failure, expected, "{}", assignment.host);
    }
}

#[test]
fn a_first_release_has_no_way_back_to_ask_about() {
    let mut world = World::new(2);
    world.publish("v1", 1, migration(WayBackKind::None), strategy());
    world.must_succeed("v1");
    assert_eq!(runs(&world).len(), 1);
}

/// Rolling back only the code ran old code on the new schema.
#[test]
fn a_reversible_one_is_taken_back_once_before_the_code_and_hosts_wait_for_it() {
    let mut world = before_v2(5, migration(WayBackKind::Reversible));
    world.host(4).behaviour.insert(name("v2"), Behaviour::Bad);
    let id = world.release("v2").unwrap();
    world.until("the way back", |w| w.word(&id) == StatusWord::RollingBack);
    assert_eq!(world.runs()[3], "v2", "held: its old code does not fit the schema");
    let activations = world.issued.iter().filter(|a| a.release.name == name("v2"));
    for assignment in activations {
        assert!(matches!(assignment.order, Order::Activate { on_failure: OnFailure::Hold, .. }));
    }
    world.until("it is taken back", |w| runs(w).len() == 2);
    assert!(!world.issued.iter().rev().take(2).any(|a| a.release.name == name("v1")));
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    assert_eq!(world.runs(), ["v1"; 5]);
    let expected = [("v2".to_owned(), Direction::Up, 1), ("v2".to_owned(), Direction::Down, 2)];
    assert_eq!(runs(&world), expected);
    assert!(world.state.place(&place()).unwrap().migrations.is_empty());
}

#[test]
fn a_way_back_that_fails_is_not_followed_by_the_code() {
    let mut world = before_v2(3, migration(WayBackKind::Reversible));
    world.behaves("v2", Behaviour::Bad);
    let id = world.release("v2").unwrap();
    world.until("it has run", |w| runs(w).len() == 1 && w.runs()[0] == "v2");
    world.hosts.values_mut().for_each(|host| host.migrates = Migrates::Fails);
    world.until("it waits", |w| w.word(&id) == StatusWord::Waiting);
    world.run(1000);
    assert_eq!(world.runs(), ["v2", "v1", "v1"]);
    assert_eq!(runs(&world).len(), 2);
    insta::assert_snapshot!(world.sentences.join("\n"), @"nobody knows whether the migration on web-01 took effect: its way back failed: migrate said no. Look at the database, then type `ctl migration resolve r-7 --applied` or `ctl migration resolve r-7 --not-applied`");
    let (verdict, reason) = (MigrationVerdict::Applied, "done by hand".to_owned());
    world.ask(Action::ResolveMigration { rollout: id.clone(), verdict, reason }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
}

#[test]
fn going_back_by_hand_takes_a_reversible_migration_back_first() {
    let mut world = before_v2(4, migration(WayBackKind::Reversible));
    world.must_succeed("v2");
    let id = world.rollback(None).unwrap();
    world.until("it is taken back", |w| runs(w).len() == 2);
    assert_eq!(world.runs(), ["v2"; 4]);
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(world.runs(), ["v1"; 4]);
    assert_eq!(runs(&world)[1].1, Direction::Down);
}

#[test]
fn a_compatible_one_lets_the_code_go_back_alone_and_is_not_run_again() {
    let mut world = before_v2(4, migration(WayBackKind::Compatible));
    world.must_succeed("v2");
    let id = world.rollback(None).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(world.runs(), ["v1"; 4]);
    // The database has kept it.
    world.must_succeed("v2");
    assert_eq!(runs(&world).len(), 1);
}

#[test]
fn a_release_with_the_same_schema_needs_none() {
    let schema = Some(Sha256::of(b"models"));
    let facts = migration(WayBackKind::Compatible).map(|facts| MigrationFacts { schema, ..facts });
    let mut world = before_v2(3, facts.clone());
    world.publish("v3", 3, facts, strategy());
    world.must_succeed("v2");
    world.must_succeed("v3");
    assert_eq!(runs(&world).len(), 1);
}

#[test]
fn while_the_schema_moves_no_new_host_is_started_on_the_old_release() {
    let mut world = before_v2(3, migration(WayBackKind::Compatible));
    let id = world.release("v2").unwrap();
    world.until("it runs", |w| !runs(w).is_empty());
    world.enrol(4);
    world.run(4);
    assert_eq!(world.runs()[3], "-");
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    world.until("it follows", |w| w.runs() == ["v2"; 4]);
}

#[test]
fn pausing_while_it_runs_loses_neither_its_outcome_nor_its_reason() {
    let mut world = before_v2(3, migration(WayBackKind::Compatible));
    let id = world.release("v2").unwrap();
    world.until("it runs", |w| !runs(w).is_empty());
    world.ask(Action::Pause { rollout: id.clone(), reason: "wait".to_owned() }).unwrap();
    world.run(600);
    assert_eq!(world.word(&id), StatusWord::Paused);
    assert_eq!(world.runs(), ["v1"; 3]);
    assert!(world.log.iter().any(|entry| matches!(entry.event, LogEvent::MigrationFinished { .. })));
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(runs(&world).len(), 1);
}

#[test]
fn a_lease_is_as_long_as_the_definition_says() {
    let mut world = World::new(1);
    let facts = migration(WayBackKind::Compatible)
        .map(|facts| MigrationFacts { lease: Duration::from_secs(7), ..facts });
    world.publish("v1", 1, facts, Strategy { canary: Canary::Count(0), ..strategy() });
    let id = world.release("v1").unwrap();
    world.until("it runs", |w| !runs(w).is_empty());
    let lease = world.rollout(&id).status.stage().unwrap().open_lease().unwrap();
    // Accepted within a minute, run for seven seconds, and half a minute for its word.
    assert_eq!(lease.over_at.since(lease.issued_at), Duration::from_secs(60 + 7 + 30));
}

/// A second copy of what was refused may be on its way, and may be accepted.
#[test]
fn a_refused_one_is_handed_out_anew_only_once_nobody_can_take_it_any_more() {
    let mut world = before_v2(3, migration(WayBackKind::Compatible));
    world.host(1).coy = true;
    let id = world.release("v2").unwrap();
    world.until("it is handed out", |w| w.word(&id) == StatusWord::Migrating);
    world.run(60);
    let handed_out = |world: &World| {
        let of = |entry: &&_| matches!(entry, &&LogEvent::MigrationStarted { .. });
        world.log.iter().map(|entry| &entry.event).filter(of).count()
    };
    assert_eq!(handed_out(&world), 1);
    world.run(40);
    assert_eq!(handed_out(&world), 2);
    world.host(1).coy = false;
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(runs(&world).len(), 1);
}

/// The word about its requests must not hide that nobody can take the migration any more.
#[test]
fn a_refused_one_goes_to_another_host_although_the_one_that_refused_was_drained() {
    let mut world = before_v2(3, migration(WayBackKind::Compatible));
    world.host(1).coy = true;
    let id = world.release("v2").unwrap();
    world.until("it is handed out", |w| w.word(&id) == StatusWord::Migrating);
    world.run(3);
    let (hosts, reason) = ([host_id(1)].into(), "a new disk".to_owned());
    world.ask(Action::Drain { hosts, reason, beyond_budget: String::new() }).unwrap();
    world.until("it ran elsewhere", |w| !runs(w).is_empty());
    world.until("it waits", |w| w.word(&id) == StatusWord::Waiting);
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(runs(&world).len(), 1);
    world.until("it is drained", |w| w.hosts[&host_id(1)].traffic == Traffic::Drained);
}

fn idempotent(way_back: WayBackKind) -> Option<MigrationFacts> {
    migration(way_back).map(|facts| MigrationFacts { idempotent: true, ..facts })
}

/// The first run was killed, the next hosts refused theirs: "nothing was touched", it said.
#[test]
fn a_run_of_unknown_outcome_is_not_forgotten_over_those_that_follow() {
    for refuses in [false, true] {
        let mut world = before_v2(3, idempotent(WayBackKind::None));
        world.host(1).migrates = Migrates::Unknown;
        let id = world.roll(RollRequest { no_way_back: true, ..World::request("v2") }).unwrap();
        world.until("it runs", |w| !runs(w).is_empty());
        if !refuses {
            world.until("it runs again", |w| runs(w).len() == 2);
        }
        for host in world.hosts.values_mut() {
            if refuses {
                host.hears = |_| false;
            } else {
                host.migrates = Migrates::Fails;
            }
        }
        let ended = |w: &World| w.rollout(&id).ended() || w.word(&id) == StatusWord::Waiting;
        world.until("it stands", ended);
        assert_eq!(world.word(&id), StatusWord::Waiting, "{:?}", world.rollout(&id).status);
        if refuses {
            insta::assert_snapshot!(world.sentences.join("\n"), @"nobody knows whether the migration on web-01 took effect: migrate said no; no other host has run it since. Look at the database, then type `ctl migration resolve r-7 --applied` or `ctl migration resolve r-7 --not-applied`");
        } else {
            insta::assert_snapshot!(world.sentences.join("\n"), @"nobody knows whether the migration on web-01 took effect: migrate said no; run once more on web-01, it failed: migrate said no. Look at the database, then type `ctl migration resolve r-7 --applied` or `ctl migration resolve r-7 --not-applied`");
        }
        for host in world.hosts.values_mut() {
            host.hears = |_| true;
        }
        let (verdict, reason) = (MigrationVerdict::Applied, "the table is there".to_owned());
        world.ask(Action::ResolveMigration { rollout: id.clone(), verdict, reason }).unwrap();
        assert_eq!(world.ended(&id), StatusWord::Succeeded);
    }
}

#[test]
fn while_another_host_is_sought_for_it_a_run_of_unknown_outcome_lets_nobody_go_back() {
    let mut world = before_v2(3, idempotent(WayBackKind::None));
    world.host(1).migrates = Migrates::Unknown;
    let id = world.roll(RollRequest { no_way_back: true, ..World::request("v2") }).unwrap();
    world.until("it runs", |w| !runs(w).is_empty());
    world.cut.extend((2..=3).map(host_id));
    world.run(1);
    world.cut.push(host_id(1));
    world.until("nobody has it", |w| w.rollout(&id).status.stage().and_then(|s| s.open_lease()).is_none());
    let abort = Action::Abort { rollout: id.clone(), go_back: false, reason: String::new() };
    insta::assert_snapshot!(world.ask(abort).unwrap_err(), @"nobody knows whether the migration of rollout r-7 took effect on web-01, and that decides what can follow. Look at the database, then type `ctl migration resolve r-7 --applied` or `ctl migration resolve r-7 --not-applied`");
    insta::assert_snapshot!(world.rollback(None).unwrap_err(), @"nobody knows whether the migration of rollout r-7 took effect on web-01, and that decides what can follow. Look at the database, then type `ctl migration resolve r-7 --applied` or `ctl migration resolve r-7 --not-applied`");
    // It is sought for as long as the deadline, and then somebody must look.
    world.until("it waits", |w| w.word(&id) == StatusWord::Waiting);
    insta::assert_snapshot!(world.sentences.join("\n"), @"nobody knows whether the migration on web-01 took effect: web-01 was given the right to run it at 2027-01-15 08:00:32 UTC and has not said how it ended; it cannot be running it any more; no host that could migrate was heard of. Look at the database, then type `ctl migration resolve r-7 --applied` or `ctl migration resolve r-7 --not-applied`");
    let (verdict, reason) = (MigrationVerdict::NotApplied, "the table is not there".to_owned());
    world.ask(Action::ResolveMigration { rollout: id.clone(), verdict, reason }).unwrap();
    let abort = Action::Abort { rollout: id.clone(), go_back: false, reason: String::new() };
    world.ask(abort).unwrap();
    assert_eq!(world.word(&id), StatusWord::Aborted);
}

/// With its hosts the members go, and what they were let do: the schema stays where it was moved to.
#[test]
fn when_all_hosts_are_removed_after_a_migration_nobody_starts_the_old_release_by_itself() {
    let mut world = before_v2(2, migration(WayBackKind::None));
    let id = world.roll(RollRequest { no_way_back: true, ..World::request("v2") }).unwrap();
    world.until("it has run", |w| w.word(&id) == StatusWord::Running);
    for number in 1..=2 {
        world.ask(Action::Remove { host: host_id(number), reason: "scrapped".to_owned() }).unwrap();
        world.hosts.remove(&host_id(number));
    }
    assert_eq!(world.ended(&id), StatusWord::Failed);
    world.enrol(3);
    world.run(60);
    assert_eq!(world.runs(), ["-"]);
    insta::assert_snapshot!(world.sentences.join("\n"), @"web-03 is not at the release in force and left alone, since rollout r-6 of v2 failed; a new release or `ctl rollback` decides what runs");
}

/// Both were left half way, and the database has taken both.
#[test]
fn a_migration_does_not_run_again_although_another_one_ran_between() {
    let mut world = before_v2(3, migration(WayBackKind::Compatible));
    world.publish("v3", 3, migration(WayBackKind::Compatible), strategy());
    for release in ["v2", "v3"] {
        let id = world.release(release).unwrap();
        world.until("its canary", |w| w.runs()[0] == release);
        world.ask(Action::Abort { rollout: id, go_back: false, reason: String::new() }).unwrap();
    }
    assert_eq!(runs(&world).len(), 2);
    let again = preview(&world.state, &World::request("v2"), world.now);
    insta::assert_snapshot!(again.map_or_else(|refused| refused.to_string(), |plan| format!("{:?}", plan.schema)), @r#"Fits { reason: "the migration of v2 has run already" }"#);
}
