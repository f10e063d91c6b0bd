//! Services are restarted and reloaded batch by batch, and nothing is brought.

use std::collections::BTreeSet;

use landfall_common::assignment::{Order, RestartKind};
use landfall_common::strategy::{Amount, Strategy};
use landfall_common::{Duration, RolloutId, Sha256};
use landfall_controller_core::Refusal;
use landfall_controller_core::command::{Action, Answer, Overrides};
use landfall_controller_core::log::LogEvent;
use landfall_controller_core::restart::RestartRequest;
use landfall_controller_core::rollout::{RolloutKind, StatusWord};

use crate::hosts::Behaviour;
use crate::world::{World, host_id, name, place, strategy};

fn on_v1(hosts: usize) -> World {
    let mut world = World::new(hosts);
    world.publish("v1", 1, None, strategy());
    world.must_succeed("v1");
    world
}

fn request(world: &World) -> RestartRequest {
    let in_force = world.state.place(&place()).and_then(|place| place.in_force());
    RestartRequest {
        place: place(),
        release: in_force.map_or(Sha256::of(b""), |proven| proven.release.digest),
        kind: RestartKind::Restart,
        services: ["web".parse().unwrap()].into(),
        reason: String::new(),
        overrides: Overrides::default(),
        outside_window: String::new(),
    }
}

fn ask(world: &mut World, request: RestartRequest) -> Result<RolloutId, Refusal> {
    match world.ask(Action::Restart(Box::new(request)))? {
        Answer::Rollout { id } => Ok(id),
        Answer::Accepted => panic!("a restart has a name"),
    }
}

fn restart(world: &mut World) -> Result<RolloutId, Refusal> {
    let request = request(world);
    ask(world, request)
}

/// How often each host was restarted by a rollout.
fn counts(world: &World, id: &RolloutId) -> Vec<u32> {
    world.hosts.values().map(|host| host.restarts.get(id).copied().unwrap_or(0)).collect()
}

#[test]
fn each_host_is_restarted_once_batch_by_batch_and_nothing_is_brought() {
    let mut world = on_v1(5);
    let activations: Vec<u32> = world.hosts.values().map(|host| host.activations).collect();
    let before = world.state.place(&place()).unwrap().proven.clone();
    let id = restart(&mut world).unwrap();
    assert_eq!(world.rollout(&id).kind, RolloutKind::Restart);
    world.until("a restarted canary", |w| counts(w, &id)[0] == 1);
    assert_eq!(counts(&world, &id), [1, 0, 0, 0, 0]);
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(counts(&world, &id), [1; 5]);
    assert_eq!(world.runs(), ["v1"; 5]);
    assert_eq!(activations, world.hosts.values().map(|host| host.activations).collect::<Vec<_>>());
    assert_eq!(world.state.place(&place()).unwrap().proven, before, "it proves nothing new");
    assert!(world.issued.iter().filter(|asked| asked.rollout == id).all(|asked| match &asked.order {
        Order::Restart { services, .. } => *services == BTreeSet::from(["web".parse().unwrap()]),
        _ => false,
    }));
    let told = |kind: fn(&LogEvent) -> bool| {
        world.log.iter().rfind(|entry| kind(&entry.event)).unwrap().event.summary()
    };
    insta::assert_snapshot!(told(|e| matches!(e, LogEvent::RestartRequested { .. })), @"a restart of web was asked for, with v1 of tenants in production");
    insta::assert_snapshot!(told(|e| matches!(e, LogEvent::RolloutFinished { .. })), @"rollout of tenants v1 to production succeeded, 5 of 5 hosts run it");
}

#[test]
fn it_goes_as_the_environment_says_and_as_it_is_asked_to() {
    let mut world = on_v1(5);
    let overrides = Overrides { batch: Some(Amount::Count(1)), ..Overrides::default() };
    let wanted = RestartRequest { overrides, kind: RestartKind::Reload, ..request(&world) };
    let id = ask(&mut world, wanted).unwrap();
    assert_eq!(world.rollout(&id).batches, 5);
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(counts(&world, &id), [1; 5]);
    let overrides = Overrides { watch: Some(Duration::from_secs(60)), ..Overrides::default() };
    let wanted = RestartRequest { overrides, ..request(&world) };
    insta::assert_snapshot!(ask(&mut world, wanted).unwrap_err(), @"the strategy does not hold: the same release goes on: there is nothing to analyse, to watch or to go back to");
    // A canary that somebody has to promote waits here too.
    world.publish("v2", 2, None, Strategy { auto_promote: false, ..strategy() });
    let rolled = world.release("v2").unwrap();
    world.until("a proven canary", |w| w.word(&rolled) == StatusWord::Waiting);
    world.ask(Action::Promote { rollout: rolled.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&rolled), StatusWord::Succeeded);
    let id = restart(&mut world).unwrap();
    world.until("a restarted canary", |w| w.word(&id) == StatusWord::Waiting);
    assert_eq!(counts(&world, &id), [1, 0, 0, 0, 0]);
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(world.runs(), ["v2"; 5]);
}

#[test]
fn what_does_not_come_up_again_stops_the_others_and_there_is_no_way_back() {
    let mut world = on_v1(5);
    world.host(1).restarts_well = false;
    let id = restart(&mut world).unwrap();
    world.until("it is paused", |w| w.word(&id) == StatusWord::Paused);
    insta::assert_snapshot!(world.end_reason(&id), @"1 host failed, the budget allows 0: web-01 at restart-web (exit code 1): restart-web said no; the same release runs, so that there is nothing to go back to. Mend the hosts and `ctl retry`, or `ctl abort` leaves the others as they are");
    assert_eq!(counts(&world, &id), [1, 0, 0, 0, 0]);
    insta::assert_snapshot!(world.rollback(None).unwrap_err(), @"rollout r-8 is paused: the same release runs before and after a restart, so that there is nothing to go back to; `ctl abort` leaves the others as they are");
    // Mended, it is restarted once more, and the others follow.
    world.host(1).restarts_well = true;
    world.ask(Action::RetryFailed { place: place(), rollout: None, reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(counts(&world, &id), [2, 1, 1, 1, 1]);
    // Whoever calls it off has the others as they were, and nothing is held.
    world.host(1).restarts_well = false;
    let id = restart(&mut world).unwrap();
    world.until("it is paused", |w| w.word(&id) == StatusWord::Paused);
    world.ask(Action::Abort { rollout: id.clone(), go_back: false, reason: String::new() }).unwrap();
    assert_eq!(world.word(&id), StatusWord::Aborted);
    assert_eq!(counts(&world, &id), [1, 0, 0, 0, 0]);
    world.publish("v2", 2, None, strategy());
    world.must_succeed("v2");
}

#[test]
fn what_fails_within_the_budget_is_told_at_the_end() {
    let mut world = World::new(4);
    world.publish("v1", 1, None, Strategy { failure_budget: Amount::Count(1), ..strategy() });
    world.must_succeed("v1");
    world.host(3).restarts_well = false;
    let id = restart(&mut world).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Failed);
    insta::assert_snapshot!(world.end_reason(&id), @"web was restarted on 3 of 4 hosts: web-03 failed, `ctl restart` tries again");
    assert_eq!(counts(&world, &id), [1; 4]);
    // It runs what is in force, so that there is nothing to be retried.
    assert!(matches!(
        world.ask(Action::RetryFailed { place: place(), rollout: None, reason: String::new() }).unwrap_err(),
        Refusal::NothingFailed { .. }
    ));
    world.host(3).restarts_well = true;
    let id = restart(&mut world).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn an_agent_that_knows_nothing_of_it_is_named() {
    let mut world = on_v1(3);
    world.host(2).knows_restarts = false;
    world.run(15);
    insta::assert_snapshot!(restart(&mut world).unwrap_err(), @"no restart in tenants in production: the agent of web-02 is of a version that cannot restart services; upgrade it first");
    // One that comes with an older agent while it is under way has failed, and nothing was done to it.
    world.host(2).knows_restarts = true;
    world.run(15);
    let id = restart(&mut world).unwrap();
    world.host(2).knows_restarts = false;
    world.until("it is paused", |w| w.word(&id) == StatusWord::Paused);
    insta::assert_snapshot!(world.end_reason(&id), @"1 host failed, the budget allows 0: web-02 at accept: its agent is of a version that cannot restart services; upgrade it; the same release runs, so that there is nothing to go back to. Mend the hosts and `ctl retry`, or `ctl abort` leaves the others as they are");
    assert_eq!(counts(&world, &id)[1], 0);
}

#[test]
fn it_is_refused_where_it_makes_no_sense_or_something_else_goes_on() {
    let mut world = World::new(2);
    world.publish("v1", 1, None, strategy());
    world.publish("v2", 2, None, strategy());
    insta::assert_snapshot!(restart(&mut world).unwrap_err(), @"no restart in tenants in production: no release was ever proven there; `ctl release` brings one");
    world.must_succeed("v1");
    let wanted = RestartRequest { release: Sha256::of(b"another"), ..request(&world) };
    insta::assert_snapshot!(ask(&mut world, wanted).unwrap_err(), @"no restart in tenants in production: v1 has come into force meanwhile; ask again");
    let wanted = RestartRequest { services: BTreeSet::new(), ..request(&world) };
    insta::assert_snapshot!(ask(&mut world, wanted).unwrap_err(), @"no restart in tenants in production: v1 has no service that it could be done to");
    let rolled = world.release("v2").unwrap();
    assert!(matches!(restart(&mut world).unwrap_err(), Refusal::Held { .. }));
    assert_eq!(world.ended(&rolled), StatusWord::Succeeded);
    let id = restart(&mut world).unwrap();
    assert!(matches!(restart(&mut world).unwrap_err(), Refusal::Held { .. }));
    insta::assert_snapshot!(world.release("v2").unwrap_err(), @"tenants in production is held by rollout r-11 of v2 (restart of web), begun by anna at 2027-01-15 08:00:56 UTC and now running batch 1 of 2; a release can stand in line with --queue, and `ctl abort r-11` ends that one");
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn it_outlives_the_controller_and_reaches_a_host_that_was_away() {
    let mut world = on_v1(4);
    let id = restart(&mut world).unwrap();
    world.until("a restarted canary", |w| counts(w, &id)[0] == 1);
    world.crash_controller();
    let late = host_id(4);
    world.cut.push(late.clone());
    world.disconnect(&late);
    world.until("the others", |w| counts(w, &id)[..3] == [1, 1, 1]);
    world.run(40);
    world.crash_controller();
    world.cut.clear();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(counts(&world, &id), [1; 4]);
}

#[test]
fn a_host_that_does_not_run_what_is_in_force_is_brought_to_it_instead() {
    let mut world = on_v1(3);
    world.publish("v2", 2, None, Strategy { failure_budget: Amount::Count(1), ..strategy() });
    world.host(3).behaviour.insert(name("v2"), Behaviour::Bad);
    let rolled = world.release("v2").unwrap();
    assert_eq!(world.ended(&rolled), StatusWord::Failed);
    assert_eq!(world.runs(), ["v2", "v2", "v1"]);
    world.host(3).behaviour.clear();
    let id = restart(&mut world).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(world.runs(), ["v2"; 3]);
    assert_eq!(counts(&world, &id), [1, 1, 0]);
}
