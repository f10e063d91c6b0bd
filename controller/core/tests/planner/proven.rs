//! Releases that are proven in one environment before they come to the next.

use landfall_common::EnvName;
use landfall_common::strategy::{Entry, Strategy};
use landfall_controller_core::command::{Action, IfHeld, RollRequest};
use landfall_controller_core::proof::{Found, Unproven, proof};
use landfall_controller_core::record::{Change, Place, PlaceRecord, Proven, Record};
use landfall_controller_core::{Output, Refusal, line, rollout::StatusWord};

use crate::hosts::Behaviour;
use crate::world::{World, name, place, strategy};

fn environment(name: &str) -> EnvName {
    EnvName::new(name).unwrap()
}

fn after(name: &str) -> Strategy {
    let entry = Entry { after: [environment(name)].into(), ..Entry::default() };
    Strategy { entry, ..strategy() }
}

/// What staging came to run, by hand: this world has one place with hosts.
fn in_staging(world: &mut World, change: impl FnOnce(&World, &mut PlaceRecord)) {
    let there = Place { environment: environment("staging"), ..place() };
    let mut record = world.state.place(&there).cloned().unwrap_or_else(|| PlaceRecord::new(there));
    change(world, &mut record);
    let put = Change::Put { record: Record::Place(Box::new(record)) };
    world.commit(Output { changes: vec![put], ..Output::default() });
}

fn proves(world: &mut World, release: &str, whole: bool) {
    in_staging(world, |world, record| {
        let release = world.state.release(&place().application, &name(release)).unwrap().release.clone();
        let rollout = landfall_common::RolloutId::new(format!("r-staging-{}", record.proven.len())).unwrap();
        record.proven.push(Proven { release, rollout, at: world.now, whole, gone_back: false });
    });
}

fn world() -> World {
    let mut world = World::new(3);
    world.publish("v1", 1, None, after("staging"));
    world.publish("v2", 2, None, after("staging"));
    proves(&mut world, "v1", true);
    world.must_succeed("v1");
    world
}

fn queued(release: &str) -> RollRequest {
    RollRequest { if_held: IfHeld::Queue, ..World::request(release) }
}

#[test]
fn a_release_comes_here_once_it_is_proven_there() {
    let mut world = world();
    insta::assert_snapshot!(world.release("v2").unwrap_err(), @"v2 is not proven for tenants in staging, where v1 is in force; `ctl release v2 --env staging` proves it there, a release can wait for that with --queue, and --unproven REASON does without where landfall.toml asks for it (role manager)");
    // On some hosts is not proven.
    proves(&mut world, "v2", false);
    insta::assert_snapshot!(world.release("v2").unwrap_err(), @"v2 is not proven for tenants in staging, where rollout r-staging-1 did not bring it to every host; `ctl release v2 --env staging` proves it there, a release can wait for that with --queue, and --unproven REASON does without where landfall.toml asks for it (role manager)");
    proves(&mut world, "v2", true);
    // What came after it does not matter.
    world.publish("v3", 3, None, strategy());
    proves(&mut world, "v3", true);
    world.must_succeed("v2");
}

#[test]
fn what_was_gone_back_from_there_is_proven_no_more() {
    let mut world = world();
    proves(&mut world, "v2", true);
    // As an older version has written it, which makes no note of it.
    proves(&mut world, "v1", true);
    insta::assert_snapshot!(world.release("v2").unwrap_err(), @"v2 is not proven for tenants in staging any more, since that place has gone back from it to v1; `ctl release v2 --env staging` proves it there, a release can wait for that with --queue, and --unproven REASON does without where landfall.toml asks for it (role manager)");
    proves(&mut world, "v2", true);
    in_staging(&mut world, |_, record| record.proven.last_mut().unwrap().gone_back = true);
    insta::assert_snapshot!(world.release("v2").unwrap_err(), @"v2 is not proven for tenants in staging any more, since that place has gone back from it; `ctl release v2 --env staging` proves it there, a release can wait for that with --queue, and --unproven REASON does without where landfall.toml asks for it (role manager)");
    proves(&mut world, "v2", true);
    world.must_succeed("v2");
}

/// Of a real place, as another one sees it.
#[test]
fn a_rollout_proves_its_release_to_other_places_when_it_is_over_and_until_somebody_goes_back() {
    let mut world = World::new(3);
    let watched = Strategy { watch: landfall_common::Duration::from_secs(60), ..strategy() };
    for (number, release) in (1..).zip(["v1", "v2", "v3"]) {
        world.publish(release, number, None, watched.clone());
    }
    let found = |world: &World, release: &str| {
        let qa = Place { environment: environment("qa"), ..place() };
        let release = world.state.release(&qa.application, &name(release)).unwrap();
        proof(&world.state, &qa, &release.release, &place().environment).map(drop).map_err(|why| why.found)
    };
    assert_eq!(found(&world, "v1"), Err(Found::Nothing { in_force: None }));
    let id = world.release("v1").unwrap();
    world.until("it is watched", |world| world.word(&id) == StatusWord::Watching);
    assert_eq!(found(&world, "v1"), Err(Found::UnderWay { rollout: id.clone() }));
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(found(&world, "v1"), Ok(()));
    assert_eq!(found(&world, "v2"), Err(Found::Nothing { in_force: Some(name("v1")) }));
    world.must_succeed("v2");
    // A release that goes back by itself was never proven, and takes the one before along with nothing.
    world.behaves("v3", Behaviour::Bad);
    let id = world.release("v3").unwrap();
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    for release in ["v1", "v2"] {
        assert_eq!(found(&world, release), Ok(()), "{release}");
    }
    assert_eq!(found(&world, "v3"), Err(Found::Nothing { in_force: Some(name("v2")) }));
    // With the word already, and not when the last host is back.
    let back = world.rollback(None).unwrap();
    assert!(!world.rollout(&back).ended());
    assert_eq!(found(&world, "v2"), Err(Found::GoneBack { in_force: None }));
    assert_eq!(world.ended(&back), StatusWord::Succeeded);
    assert_eq!(found(&world, "v2"), Err(Found::GoneBack { in_force: Some(name("v1")) }));
    assert_eq!(found(&world, "v1"), Ok(()));
    world.must_succeed("v2");
    assert_eq!(found(&world, "v2"), Ok(()));
}

#[test]
fn what_stands_in_line_begins_once_it_is_proven_there_and_not_once_it_has_gone_back() {
    let mut world = world();
    let id = world.roll(queued("v2")).unwrap();
    let waits = |world: &World| {
        let waits = line::waits(&world.state, world.rollout(&id), world.now);
        waits.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    world.run(60);
    insta::assert_snapshot!(waits(&world), @"rollout r-7 of v2 waits for a proof: v2 is not proven for tenants in staging, where v1 is in force");
    // Behind it, what would be first if it were not for the line.
    assert!(matches!(world.release("v1"), Err(Refusal::LineNotEmpty { .. })));
    // A lock holds it, and by its end staging has gone back.
    let message = "audit".to_owned();
    let period = landfall_common::Duration::from_secs(120);
    world.ask(Action::Lock { place: place(), message, period }).unwrap();
    proves(&mut world, "v2", true);
    world.run(60);
    proves(&mut world, "v1", true);
    world.run(300);
    assert_eq!(world.word(&id), StatusWord::Pending);
    insta::assert_snapshot!(waits(&world), @"rollout r-7 of v2 waits for a proof: v2 is not proven for tenants in staging any more, since that place has gone back from it to v1");
    proves(&mut world, "v2", true);
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn what_is_not_proven_ends_nothing_that_is_under_way() {
    let mut world = world();
    world.publish("v3", 3, None, strategy());
    proves(&mut world, "v2", true);
    let id = world.release("v2").unwrap();
    let refusal = world.roll(RollRequest { if_held: IfHeld::Supersede, ..World::request("v3") }).unwrap_err();
    assert!(matches!(refusal, Refusal::Unproven(_)), "{refusal}");
    // What has begun goes on, whatever becomes of the proof.
    proves(&mut world, "v1", true);
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn who_may_does_without_the_proof_and_says_why() {
    let mut world = world();
    let id =
        world.roll(RollRequest { unproven: "staging burns".to_owned(), ..World::request("v2") }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    let told = world.log.iter().find(|entry| entry.event.kind() == "proof_overridden").unwrap();
    insta::assert_snapshot!(told.event.summary(), @"rollout r-7 of v2 is to begin although it is not proven in staging: staging burns");
}

#[test]
fn a_release_does_not_lift_what_it_is_held_by_and_asks_for_no_less_than_was_said() {
    let mut world = world();
    world.publish("v3", 3, None, strategy());
    assert!(matches!(world.release("v3"), Err(Refusal::Unproven(_))));
    proves(&mut world, "v3", true);
    let there = |name: &str, unproven: &str| RollRequest {
        proven_in: [environment(name)].into(),
        unproven: unproven.to_owned(),
        ..World::request("v3")
    };
    // Whoever names an environment means it.
    let refusal = world.roll(there("qa", "never mind")).unwrap_err();
    let qa = Place { environment: environment("qa"), ..place() };
    let found = Found::Nothing { in_force: None };
    let unproven = Unproven { release: name("v3"), there: qa, found };
    assert_eq!(refusal, Refusal::Unproven(Box::new(unproven)));
    let id = world.roll(there("staging", "")).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    // It asks for nothing itself, and now it is in force.
    world.publish("v4", 4, None, strategy());
    world.must_succeed("v4");
}

#[test]
fn neither_a_way_back_nor_its_rehearsal_asks_for_a_proof_elsewhere() {
    let mut world = World::new(3);
    world.publish("v1", 1, None, strategy());
    world.publish("v2", 2, None, after("staging"));
    world.publish("v3", 3, None, after("staging"));
    world.must_succeed("v1");
    proves(&mut world, "v2", true);
    world.must_succeed("v2");
    proves(&mut world, "v1", true);
    // What is new here is another matter.
    let drill = |to: &str| Action::Drill { place: place(), to: Some(name(to)) };
    insta::assert_snapshot!(world.ask(drill("v3")).unwrap_err(), @"no drill in tenants in production: v3 is not proven for tenants in staging, where v1 is in force; `ctl release v3 --env staging` proves it there");
    world.ask(drill("v1")).unwrap();
    world.until("the drill is over", |world| !world.rollout_held());
    // Older is not proven: what was passed over here is as new as the next one.
    proves(&mut world, "v3", true);
    world.must_succeed("v3");
    proves(&mut world, "v1", true);
    world.publish("v5", 5, None, after("staging"));
    world.publish("v6", 6, None, after("staging"));
    proves(&mut world, "v6", true);
    world.must_succeed("v6");
    proves(&mut world, "v1", true);
    let refusal = world.ask(drill("v5")).unwrap_err();
    assert!(refusal.to_string().contains("v5 is not proven"), "{refusal}");
    let back = world.rollback(None).unwrap();
    assert_eq!(world.ended(&back), StatusWord::Succeeded);
}
