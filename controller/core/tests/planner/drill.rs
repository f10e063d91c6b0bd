//! Drills: the way back is rehearsed on the canary, and nothing else changes.

use landfall_common::strategy::{Amount, Canary, Entry, Strategy, StrategyKind};
use landfall_common::{Duration, RolloutId};
use landfall_controller_core::Refusal;
use landfall_controller_core::command::{Action, Answer};
use landfall_controller_core::log::LogEvent;
use landfall_controller_core::record::WayBackKind;
use landfall_controller_core::rollout::{RolloutKind, StatusWord};

use crate::hosts::Behaviour;
use crate::world::{World, host_id, migration, name, place, strategy};

/// A fleet that has had v1 and runs v2.
fn on_v2(hosts: usize) -> World {
    let mut world = World::new(hosts);
    world.publish("v1", 1, None, strategy());
    world.publish("v2", 2, None, strategy());
    world.must_succeed("v1");
    world.must_succeed("v2");
    world
}

fn drill(world: &mut World, to: Option<&str>) -> Result<RolloutId, Refusal> {
    match world.ask(Action::Drill { place: place(), to: to.map(name) })? {
        Answer::Rollout { id } => Ok(id),
        Answer::Accepted => panic!("a drill has a name"),
    }
}

#[test]
fn the_canary_goes_to_the_release_before_and_comes_back() {
    let mut world = on_v2(4);
    let before: Vec<u32> = world.hosts.values().map(|host| host.activations).collect();
    let in_force = world.state.place(&place()).unwrap().in_force().cloned();
    let id = drill(&mut world, None).unwrap();
    world.until("the canary on v1", |w| w.runs()[0] == "v1");
    assert_eq!(world.runs(), ["v1", "v2", "v2", "v2"]);
    assert_eq!(world.rollout(&id).kind, RolloutKind::Drill);
    world.until("the way back", |w| w.word(&id) == StatusWord::RollingBack);
    assert_eq!(world.ended(&id), StatusWord::Rehearsed);
    assert_eq!(world.runs(), ["v2"; 4]);
    let after: Vec<u32> = world.hosts.values().map(|host| host.activations).collect();
    let moved: Vec<u32> = after.iter().zip(before).map(|(after, before)| after - before).collect();
    assert_eq!(moved, [2, 0, 0, 0]);

    let record = world.state.place(&place()).unwrap();
    assert_eq!(record.in_force(), in_force.as_ref(), "it proves nothing for the fleet");
    let rehearsal = record.rehearsed.clone().unwrap();
    assert_eq!(
        (rehearsal.release.name, rehearsal.back_to.name, rehearsal.hosts),
        (name("v1"), name("v2"), 1)
    );
    // Each way has its proof of ten seconds.
    let proof = Duration::from_secs(10);
    assert!(
        rehearsal.there >= proof && rehearsal.back >= proof,
        "{:?} {:?}",
        rehearsal.there,
        rehearsal.back
    );
    let finished =
        world.log.iter().find(|entry| matches!(entry.event, LogEvent::DrillFinished { .. })).unwrap();
    insta::assert_snapshot!(finished.event.summary(), @"rollback rehearsed: tenants in production went to v1 on 1 host in 12s, and back to v2 in 12s");
    // A rollback still goes where it went.
    let back = world.rollback(None).unwrap();
    assert_eq!(world.ended(&back), StatusWord::Succeeded);
    assert_eq!(world.runs(), ["v1"; 4]);
}

#[test]
fn a_release_that_was_never_here_is_rehearsed_before_it_comes() {
    let mut world = on_v2(3);
    world.publish(
        "v3",
        3,
        None,
        Strategy { auto_promote: false, watch: Duration::from_secs(600), ..strategy() },
    );
    let id = drill(&mut world, Some("v3")).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Rehearsed);
    assert_eq!(world.runs(), ["v2"; 3]);
    assert_eq!(world.state.place(&place()).unwrap().in_force().unwrap().release.name, name("v2"));
    // And may come for good.
    let rolled = world.release("v3").unwrap();
    world.until("a proven canary", |w| w.word(&rolled) == StatusWord::Waiting);
}

#[test]
fn a_drill_that_fails_is_told_as_what_it_is() {
    let mut world = on_v2(3);
    world.publish("v3", 3, None, strategy());
    world.behaves("v3", Behaviour::Bad);
    let id = drill(&mut world, Some("v3")).unwrap();
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    insta::assert_snapshot!(world.end_reason(&id), @"1 host failed, the budget allows 0: web-01 at healthz (exit code 1): healthz said no");
    assert_eq!(world.runs(), ["v2"; 3]);
    assert_eq!(world.state.place(&place()).unwrap().rehearsed, None);
    // What fails to come back is what a drill is for.
    world.behaves("v3", Behaviour::Good);
    let id = drill(&mut world, Some("v3")).unwrap();
    world.until("the canary on v3", |w| w.runs()[0] == "v3");
    world.host(1).behaviour.insert(name("v2"), Behaviour::Bad);
    world.until("it does not come back", |w| w.word(&id) == StatusWord::Paused);
    insta::assert_snapshot!(world.end_reason(&id), @"going back to v2 failed on web-01: web-01 at healthz (exit code 1): healthz said no. Mend what is the matter, then `ctl retry`");
    assert_eq!(world.state.place(&place()).unwrap().rehearsed, None);
}

#[test]
fn nothing_is_rehearsed_that_would_change_a_database_or_bring_a_release() {
    let mut world = World::new(2);
    world.publish("v1", 1, None, strategy());
    world.publish("v2", 2, migration(WayBackKind::Reversible), strategy());
    insta::assert_snapshot!(drill(&mut world, Some("v1")).unwrap_err(), @"no drill in tenants in production: no release was ever proven there, so that there is nothing to come back to");
    world.must_succeed("v1");
    insta::assert_snapshot!(drill(&mut world, None).unwrap_err(), @"nothing to go back to: no release before v1 was proven for tenants in production");
    insta::assert_snapshot!(drill(&mut world, Some("v1")).unwrap_err(), @"no drill in tenants in production: v1 is in force; name another release, to be taken and given back");
    insta::assert_snapshot!(drill(&mut world, Some("v2")).unwrap_err(), @"no drill in tenants in production: v2 brings a migration, and a drill changes no database; rehearse it where the data may change");
    insta::assert_snapshot!(drill(&mut world, Some("v9")).unwrap_err(), @"tenants has no release v9; `ctl releases` lists those that are published");
    world.publish("v3", 3, None, Strategy { kind: StrategyKind::AllAtOnce, ..strategy() });
    insta::assert_snapshot!(drill(&mut world, Some("v3")).unwrap_err(), @"no drill in tenants in production: v3 has no canary there; a drill is the canary's");
    world.publish("v4", 4, None, Strategy { canary: Canary::Count(0), ..strategy() });
    assert!(matches!(drill(&mut world, Some("v4")).unwrap_err(), Refusal::NoDrill { .. }));
    world.must_succeed("v2");
    insta::assert_snapshot!(drill(&mut world, None).unwrap_err(), @"no drill in tenants in production: v1 does not run on the schema as it is, and a drill changes no database");
    world.publish("v5", 5, None, strategy());
    let id = world.release("v5").unwrap();
    assert!(matches!(drill(&mut world, Some("v5")).unwrap_err(), Refusal::Held { .. }));
    world.ask(Action::Abort { rollout: id, go_back: false, reason: String::new() }).unwrap();
    assert_eq!(world.runs(), ["v2"; 2]);
}

#[test]
fn a_drill_outlives_the_controller_and_heeds_a_word() {
    let mut world = on_v2(3);
    let id = drill(&mut world, None).unwrap();
    world.until("the canary on v1", |w| w.runs()[0] == "v1");
    world.crash_controller();
    world.until("the way back", |w| w.word(&id) == StatusWord::RollingBack);
    world.crash_controller();
    assert_eq!(world.ended(&id), StatusWord::Rehearsed);
    // Whoever calls it off has not rehearsed.
    let id = drill(&mut world, None).unwrap();
    world.until("the canary on v1", |w| w.runs()[0] == "v1");
    assert_eq!(world.rollback(None).unwrap(), id);
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    assert_eq!(world.runs(), ["v2"; 3]);
    // A canary that is lost on the way there comes back to what is in force.
    let id = drill(&mut world, None).unwrap();
    world.until("the canary on v1", |w| w.runs()[0] == "v1");
    let canary = host_id(1);
    world.cut.push(canary.clone());
    world.disconnect(&canary);
    world.run(400);
    world.cut.clear();
    world.until("it is over", |w| w.rollout(&id).ended());
    world.until("all on v2", |w| w.runs() == ["v2"; 3]);
}

#[test]
fn a_release_that_people_have_to_approve_is_not_drilled_past_them() {
    let mut world = on_v2(3);
    let entry = Entry { approvals: 1, ..Entry::default() };
    world.publish("v3", 3, None, Strategy { entry, ..strategy() });
    insta::assert_snapshot!(drill(&mut world, Some("v3")).unwrap_err(), @"no drill in tenants in production: a release that is new there needs approvals, and a drill asks for none; `ctl drill` without a name takes one that was proven there");
    let id = drill(&mut world, None).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Rehearsed);
}

/// A drill is no rollout that hosts could be targeted by.
#[test]
fn a_drill_ends_nobodys_exclusion_and_forgets_no_failure() {
    let knobs = Strategy { failure_budget: Amount::Count(1), ..strategy() };
    let mut world = World::new(4);
    world.publish("v1", 1, None, strategy());
    world.publish("v2", 2, None, knobs);
    world.must_succeed("v1");
    let id = world.release("v2").unwrap();
    let (hosts, reason) = ([host_id(4)].into(), "its disk is broken".to_owned());
    world.ask(Action::Exclude { hosts, rollout: None, reason }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    insta::assert_snapshot!(drill(&mut world, None).unwrap_err(), @"no drill in tenants in production: web-04 was excluded from the rollout before, and a drill would end that; `ctl include web-04` has it take v2, `ctl hosts cordon web-04` leaves it alone");
    world.run(120);
    assert_eq!(world.runs(), ["v2", "v2", "v2", "v1"]);
    // Left alone by a word of its own it stays so, before and after.
    let (hosts, reason) = ([host_id(4)].into(), "its disk is broken".to_owned());
    world.ask(Action::Cordon { hosts, reason }).unwrap();
    let id = drill(&mut world, None).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Rehearsed);
    world.run(120);
    assert_eq!(world.runs(), ["v2", "v2", "v2", "v1"]);
}
