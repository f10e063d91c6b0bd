//! Order among the rollouts of a place: one at a time, a line, locks.

use landfall_common::strategy::Strategy;
use landfall_common::{Duration, OperatorName, RolloutId};
use landfall_controller_core::Refusal;
use landfall_controller_core::command::{Action, IfHeld, RollRequest};
use landfall_controller_core::log::Actor;
use landfall_controller_core::record::{Convergence, WayBackKind};
use landfall_controller_core::rollout::StatusWord;

use crate::hosts::Behaviour;
use crate::world::{World, migration, name, place, strategy};

/// Four hosts on v1, and v2 to v5 published.
fn on_v1() -> World {
    let mut world = World::new(4);
    for (number, release) in (1..).zip(["v1", "v2", "v3", "v4", "v5"]) {
        world.publish(release, number, None, strategy());
    }
    world.must_succeed("v1");
    world
}

fn if_held(release: &str, if_held: IfHeld) -> RollRequest {
    RollRequest { if_held, ..World::request(release) }
}

fn waits(world: &mut World, release: &str) -> RolloutId {
    world.roll(if_held(release, IfHeld::Queue)).unwrap()
}

fn lock(world: &mut World, minutes: u64) {
    let (place, period) = (place(), Duration::from_secs(minutes * 60));
    world.ask(Action::Lock { place, message: "audit".to_owned(), period }).unwrap();
}

fn by_bert(world: &mut World, action: Action) -> Result<(), Refusal> {
    let mut command = world.command(action);
    command.by = Actor::Operator(OperatorName::new("bert").unwrap());
    world.send(&command).map(drop)
}

#[test]
fn a_second_release_is_refused_and_told_who_holds_the_place() {
    let mut world = on_v1();
    world.release("v2").unwrap();
    let refusal = world.release("v3").unwrap_err();
    insta::assert_snapshot!(refusal, @"tenants in production is held by rollout r-11 of v2, begun by anna at 2027-01-15 08:00:41 UTC and now staging; a release can stand in line with --queue, and `ctl abort r-11` ends that one");
}

#[test]
fn whoever_waits_for_a_paused_rollout_is_told_why_it_is() {
    let mut world = on_v1();
    let first = world.release("v2").unwrap();
    waits(&mut world, "v3");
    let reason = "the queue is full".to_owned();
    by_bert(&mut world, Action::Pause { rollout: first, reason }).unwrap();
    insta::assert_snapshot!(world.release("v4").unwrap_err(), @"tenants in production is held by rollout r-11 of v2, begun by anna at 2027-01-15 08:00:41 UTC and now paused by bert; a release can stand in line with --queue, and `ctl abort r-11` ends that one. It is paused, since: the queue is full");
    world.run(1);
    insta::assert_snapshot!(world.sentences.last().unwrap(), @"rollout r-12 of v3 waits for rollout r-11 of v2, begun by anna at 2027-01-15 08:00:41 UTC and now paused by bert: the queue is full");
}

#[test]
fn those_in_line_begin_one_after_the_other_in_the_order_they_came() {
    let mut world = on_v1();
    let first = world.release("v2").unwrap();
    let (second, third) = (waits(&mut world, "v3"), waits(&mut world, "v4"));
    assert_eq!(world.word(&second), StatusWord::Pending);
    world.run(1);
    insta::assert_snapshot!(world.sentences[world.sentences.len() - 2..].join("\n"), @r"
    rollout r-12 of v3 waits for rollout r-11 of v2, begun by anna at 2027-01-15 08:00:41 UTC and now staging
    rollout r-13 of v4 waits for rollout r-11 of v2, begun by anna at 2027-01-15 08:00:41 UTC and now staging
    ");
    assert_eq!(world.ended(&first), StatusWord::Succeeded);
    assert_eq!(world.word(&third), StatusWord::Pending);
    assert_eq!(world.ended(&second), StatusWord::Succeeded);
    assert_eq!(world.ended(&third), StatusWord::Succeeded);
    assert_eq!(world.runs(), ["v4"; 4]);
    assert_eq!(world.rollout(&third).previous.as_ref().unwrap().name, name("v3"));
    let kinds: Vec<_> = world.log.iter().map(|entry| entry.event.kind()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "rollout_queued").count(), 2);
    assert_eq!(kinds.iter().filter(|kind| **kind == "rollout_started").count(), 4);
}

#[test]
fn the_line_outlives_the_controller_and_its_requests_are_answered_alike() {
    let mut world = on_v1();
    world.release("v2").unwrap();
    let command = world.command(Action::Roll(Box::new(if_held("v3", IfHeld::Queue))));
    let answer = world.send(&command).unwrap();
    world.crash_controller();
    assert_eq!(world.send(&command).unwrap(), answer);
    assert_eq!(world.state.place(&place()).unwrap().line.len(), 1);
    world.until("v3", |w| w.runs() == ["v3"; 4]);
}

#[test]
fn what_has_become_older_than_what_is_in_force_falls_out_of_the_line() {
    let mut world = on_v1();
    let newer = world.release("v3").unwrap();
    let older = waits(&mut world, "v2");
    assert_eq!(world.ended(&newer), StatusWord::Succeeded);
    assert_eq!(world.ended(&older), StatusWord::Failed);
    insta::assert_snapshot!(world.end_reason(&older), @"when its turn came it could not begin: v2 is older than v3, which is in force for tenants in production; it was never proven here, publish its content anew under another name");
    assert_eq!(world.runs(), ["v3"; 4]);
    assert!(world.state.place(&place()).unwrap().line.is_empty());
}

#[test]
fn one_without_a_way_back_falls_out_of_the_line_if_nobody_has_accepted_that() {
    let mut world = on_v1();
    world.publish("v6", 6, migration(WayBackKind::None), strategy());
    world.release("v2").unwrap();
    let refusal = world.roll(if_held("v6", IfHeld::Queue)).unwrap_err();
    assert!(matches!(refusal, Refusal::NoWayBack { .. }), "{refusal}");
    let accepted = RollRequest { no_way_back: true, ..if_held("v6", IfHeld::Queue) };
    let id = world.roll(accepted).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn after_a_release_that_went_back_by_itself_the_line_goes_on() {
    let mut world = on_v1();
    world.behaves("v2", Behaviour::Bad);
    let bad = world.release("v2").unwrap();
    let next = waits(&mut world, "v3");
    assert_eq!(world.ended(&bad), StatusWord::RolledBack);
    assert_eq!(world.ended(&next), StatusWord::Succeeded);
    assert_eq!(world.runs(), ["v3"; 4]);
}

/// A pipeline that releases the same thing twice does not break the fleet twice.
#[test]
fn what_has_failed_does_not_begin_again_by_itself() {
    let mut world = on_v1();
    world.behaves("v2", Behaviour::Bad);
    let bad = world.release("v2").unwrap();
    let again = waits(&mut world, "v2");
    assert_eq!(world.ended(&bad), StatusWord::RolledBack);
    world.run(60);
    assert_eq!(world.word(&again), StatusWord::Paused);
    insta::assert_snapshot!(world.sentences.join("\n"), @"rollout r-12 of v2 was paused by controller at 2027-01-15 08:01:27 UTC: rollout r-11 of v2 was rolled back, and only an operator's word decides what runs now; `ctl resume r-12` lets it begin, `ctl abort r-12` ends it");
    world.behaves("v2", Behaviour::Good);
    world.ask(Action::Resume { rollout: again.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&again), StatusWord::Succeeded);
}

/// Somebody decided what should run; a pipeline that stood in line must not undo that.
#[test]
fn who_goes_back_by_hand_keeps_the_line_waiting() {
    let mut world = on_v1();
    world.must_succeed("v2");
    world.release("v3").unwrap();
    let next = waits(&mut world, "v4");
    let back = world.rollback(None).unwrap();
    assert_eq!(world.ended(&back), StatusWord::RolledBack);
    world.run(60);
    assert_eq!(world.word(&next), StatusWord::Paused);
    assert_eq!(world.runs(), ["v2"; 4]);
    insta::assert_snapshot!(world.sentences.join("\n"), @"rollout r-13 of v4 was paused by anna at 2027-01-15 08:01:20 UTC: it stood in line when going back to v2 was asked for; `ctl resume r-13` lets it begin, `ctl abort r-13` ends it");
    world.ask(Action::Resume { rollout: next.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&next), StatusWord::Succeeded);
}

#[test]
fn after_an_end_half_way_the_line_waits_for_a_word() {
    let mut world = on_v1();
    let half = world.release("v2").unwrap();
    let next = waits(&mut world, "v3");
    world.until("one has it", |w| w.runs().contains(&"v2".to_owned()));
    let (rollout, reason) = (half, "enough".to_owned());
    world.ask(Action::Abort { rollout, go_back: false, reason }).unwrap();
    world.run(60);
    assert_eq!(world.word(&next), StatusWord::Paused);
    insta::assert_snapshot!(world.sentences.last().unwrap(), @"rollout r-12 of v3 was paused by controller at 2027-01-15 08:00:46 UTC: rollout r-11 of v2 was aborted, and only an operator's word decides what runs now; `ctl resume r-12` lets it begin, `ctl abort r-12` ends it");
    world.ask(Action::Resume { rollout: next.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&next), StatusWord::Succeeded);
}

#[test]
fn who_stands_in_line_can_be_paused_resumed_and_aborted() {
    let mut world = on_v1();
    let first = world.release("v2").unwrap();
    let (second, third) = (waits(&mut world, "v3"), waits(&mut world, "v4"));
    world.ask(Action::Pause { rollout: second.clone(), reason: "not yet".to_owned() }).unwrap();
    let (rollout, reason) = (third.clone(), "no more".to_owned());
    world.ask(Action::Abort { rollout, go_back: true, reason }).unwrap();
    assert_eq!(world.word(&third), StatusWord::Aborted);
    assert_eq!(world.ended(&first), StatusWord::Succeeded);
    world.run(60);
    assert_eq!(world.word(&second), StatusWord::Paused);
    // Who comes later does not pass it by without a word.
    let refusal = world.release("v4").unwrap_err();
    assert!(matches!(refusal, Refusal::LineNotEmpty { .. }), "{refusal}");
    world.ask(Action::Resume { rollout: second.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&second), StatusWord::Succeeded);
    assert_eq!(world.runs(), ["v3"; 4]);
}

#[test]
fn who_supersedes_ends_what_is_under_way_and_in_line_within_the_budget() {
    let mut world = on_v1();
    let (first, second) = (world.release("v2").unwrap(), waits(&mut world, "v3"));
    world.until("one has it", |w| w.runs().contains(&"v2".to_owned()));
    world.most_out = 0;
    let third = world.roll(if_held("v4", IfHeld::Supersede)).unwrap();
    assert_eq!(world.word(&first), StatusWord::Superseded);
    assert_eq!(world.word(&second), StatusWord::Superseded);
    assert_eq!(world.ended(&third), StatusWord::Succeeded);
    assert_eq!(world.runs(), ["v4"; 4]);
    assert!(world.most_out <= 2);
    // What was superseded was never proven: the way back is to what was in force.
    assert_eq!(world.rollout(&third).previous.as_ref().unwrap().name, name("v1"));
}

/// It was told as done, and the hosts that had what was superseded stayed with it.
#[test]
fn who_goes_back_after_superseding_takes_along_what_had_been_superseded() {
    let mut world = on_v1();
    world.release("v2").unwrap();
    world.until("one has it", |w| w.runs().contains(&"v2".to_owned()));
    world.most_out = 0;
    let second = world.roll(if_held("v3", IfHeld::Supersede)).unwrap();
    world.until("two have it", |w| w.runs().iter().filter(|runs| **runs == "v3").count() > 1);
    let third = world.roll(if_held("v4", IfHeld::Supersede)).unwrap();
    assert_eq!(world.word(&second), StatusWord::Superseded);
    assert_eq!(world.rollback(None).unwrap(), third);
    assert_eq!(world.ended(&third), StatusWord::RolledBack);
    assert_eq!(world.runs(), ["v1"; 4]);
    assert!(world.most_out <= 2);
    // All of them were seen to run what is in force: nothing is held any more, and the next one begins at once.
    assert_eq!(world.state.place(&place()).unwrap().convergence, Convergence::On);
    world.must_succeed("v5");
}

#[test]
fn what_fails_after_superseding_takes_along_what_had_been_superseded() {
    let mut world = on_v1();
    world.release("v2").unwrap();
    world.until("two have it", |w| w.runs().iter().filter(|runs| **runs == "v2").count() > 1);
    world.behaves("v3", Behaviour::Bad);
    let bad = world.roll(if_held("v3", IfHeld::Supersede)).unwrap();
    assert_eq!(world.ended(&bad), StatusWord::RolledBack);
    assert_eq!(world.runs(), ["v1"; 4]);
}

/// Whoever follows it reads its end a moment later.
#[test]
fn how_a_rollout_ended_on_each_host_is_seen_after_the_next_has_begun() {
    let mut world = on_v1();
    let first = world.release("v2").unwrap();
    let (second, third) = (waits(&mut world, "v3"), waits(&mut world, "v4"));
    assert_eq!(world.ended(&first), StatusWord::Succeeded);
    world.until("the second has begun", |w| w.word(&second) != StatusWord::Pending);
    assert_eq!(world.state.members(&first).count(), 4);
    assert_eq!(world.ended(&second), StatusWord::Succeeded);
    world.until("the third has begun", |w| w.word(&third) != StatusWord::Pending);
    assert_eq!(world.state.members(&first).count(), 0);
    assert_eq!(world.state.members(&second).count(), 4);
    assert!(world.rollout(&third).began_at() > world.rollout(&third).requested_at);
}

#[test]
fn who_asks_to_go_back_while_it_goes_back_keeps_the_line_waiting_too() {
    let mut world = on_v1();
    world.behaves("v2", Behaviour::Bad);
    let bad = world.release("v2").unwrap();
    let next = waits(&mut world, "v3");
    world.until("back", |w| w.word(&bad) == StatusWord::RollingBack);
    assert_eq!(world.rollback(None).unwrap(), bad);
    assert_eq!(world.ended(&bad), StatusWord::RolledBack);
    world.run(60);
    assert_eq!(world.word(&next), StatusWord::Paused);
}

/// It went to the release before the one in force, or nowhere.
#[test]
fn going_back_after_an_end_half_way_brings_what_is_in_force() {
    let mut world = on_v1();
    world.must_succeed("v2");
    let rollout = world.release("v3").unwrap();
    world.until("one has it", |w| w.runs().contains(&"v3".to_owned()));
    world.ask(Action::Abort { rollout, go_back: false, reason: "enough".to_owned() }).unwrap();
    let back = world.rollback(None).unwrap();
    assert_eq!(world.ended(&back), StatusWord::Succeeded);
    assert_eq!(world.runs(), ["v2"; 4]);
    let back = world.rollback(None).unwrap();
    assert_eq!(world.ended(&back), StatusWord::Succeeded);
    assert_eq!(world.runs(), ["v1"; 4]);
}

#[test]
fn a_way_back_is_not_superseded() {
    let mut world = on_v1();
    world.must_succeed("v2");
    world.rollback(None).unwrap();
    let refusal = world.roll(if_held("v3", IfHeld::Supersede)).unwrap_err();
    assert!(matches!(refusal, Refusal::NotSuperseded { .. }), "{refusal}");
    let mut world = on_v1();
    world.behaves("v2", Behaviour::Bad);
    let bad = world.release("v2").unwrap();
    world.until("back", |w| w.word(&bad) == StatusWord::RollingBack);
    let refusal = world.roll(if_held("v3", IfHeld::Supersede)).unwrap_err();
    assert!(matches!(refusal, Refusal::NotSuperseded { .. }), "{refusal}");
    assert_eq!(world.ended(&bad), StatusWord::RolledBack);
}

#[test]
fn a_migration_that_may_run_is_not_superseded() {
    let mut world = on_v1();
    world.publish("v6", 6, migration(WayBackKind::Compatible), Strategy::default());
    world.publish("v7", 7, None, strategy());
    let id = world.release("v6").unwrap();
    world.until("it migrates", |w| w.rollout(&id).status.stage().and_then(|s| s.open_lease()).is_some());
    let refusal = world.roll(if_held("v7", IfHeld::Supersede)).unwrap_err();
    assert!(matches!(refusal, Refusal::MigrationOpen { .. }), "{refusal}");
}

#[test]
fn nothing_begins_in_a_place_that_is_locked() {
    let mut world = on_v1();
    world.must_succeed("v2");
    lock(&mut world, 10);
    insta::assert_snapshot!(world.release("v3").unwrap_err(), @"tenants in production is locked by anna until 2027-01-15 08:11:20 UTC: audit; a release can wait for its end with --queue, and `ctl unlock production` takes it away");
    assert!(matches!(world.roll(if_held("v3", IfHeld::Supersede)), Err(Refusal::Locked { .. })));
    assert!(matches!(world.rollback(None), Err(Refusal::Locked { .. })));
    let id = waits(&mut world, "v3");
    world.run(500);
    assert_eq!(world.word(&id), StatusWord::Pending);
    insta::assert_snapshot!(world.sentences.join("\n"), @"rollout r-16 of v3 waits until 2027-01-15 08:11:20 UTC, when the lock of anna ends: audit");
    // It is a lease: nobody has to be found who forgot it.
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

/// The clock was hours ahead when the place was locked, and was set right by a restart.
#[test]
fn a_lock_of_a_clock_that_was_ahead_holds_no_longer_than_it_was_for() {
    let mut world = on_v1();
    lock(&mut world, 10);
    world.set_back(Duration::from_secs(5 * 3600));
    world.crash_controller();
    let id = waits(&mut world, "v2");
    world.run(9 * 60);
    assert_eq!(world.word(&id), StatusWord::Pending);
    world.run(5 * 60);
    assert_eq!(world.word(&id), StatusWord::Succeeded);
}

#[test]
fn a_lock_lets_what_is_under_way_go_on_and_turn_back() {
    let mut world = on_v1();
    let id = world.release("v2").unwrap();
    lock(&mut world, 60);
    world.until("one has it", |w| w.runs().contains(&"v2".to_owned()));
    world.rollback(None).unwrap();
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
}

#[test]
fn a_lock_is_its_owners_and_another_says_why_he_takes_it_away() {
    let mut world = on_v1();
    lock(&mut world, 60);
    lock(&mut world, 30);
    let (message, period) = ("mine".to_owned(), Duration::from_secs(600));
    let again = Action::Lock { place: place(), message, period };
    assert!(matches!(by_bert(&mut world, again), Err(Refusal::Locked { .. })));
    let take = |reason: &str| Action::Unlock { place: place(), reason: reason.to_owned() };
    insta::assert_snapshot!(by_bert(&mut world, take(" ")).unwrap_err(), @"the lock on tenants in production is anna's: audit; whoever takes it away says why, with --reason");
    by_bert(&mut world, take("anna is on holiday")).unwrap();
    insta::assert_snapshot!(world.log.last().unwrap().event.summary(), @"the lock of anna on tenants in production was taken away: anna is on holiday");
    assert!(matches!(world.ask(take("")), Err(Refusal::NotLocked { .. })));
    lock(&mut world, 60);
    world.ask(take("")).unwrap();
    world.must_succeed("v2");
}

#[test]
fn a_lock_has_bounds() {
    let mut world = on_v1();
    for (message, seconds) in [("", 600), ("audit", 59), ("audit", 31 * 24 * 3600)] {
        let (message, period) = (message.to_owned(), Duration::from_secs(seconds));
        let refusal = world.ask(Action::Lock { place: place(), message, period }).unwrap_err();
        assert_eq!(refusal.to_string(), "a lock says what for, and holds for 1m to 30d");
    }
}

#[test]
fn a_line_has_an_end() {
    let mut world = on_v1();
    world.release("v2").unwrap();
    for _ in 0..20 {
        waits(&mut world, "v3");
    }
    let refusal = world.roll(if_held("v3", IfHeld::Queue)).unwrap_err();
    assert!(matches!(refusal, Refusal::LineFull { .. }), "{refusal}");
}

/// A restored controller decides nothing by itself.
#[test]
fn a_line_that_was_restored_waits_for_a_word() {
    let mut world = on_v1();
    world.release("v2").unwrap();
    let next = waits(&mut world, "v3");
    let backup = world.back_up();
    world.until("v2", |w| w.runs() == ["v2"; 4]);
    let places = world.restore(backup);
    assert_eq!(places[0].paused.as_ref().unwrap().release, name("v2"));
    world.run(60);
    assert_eq!(world.word(&next), StatusWord::Paused);
}
