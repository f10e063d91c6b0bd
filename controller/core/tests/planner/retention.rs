//! What is kept of releases and rollouts, and what is let go.

use std::collections::BTreeSet;

use landfall_common::Duration;
use landfall_controller_core::command::Action;
use landfall_controller_core::record::{Content, WayBackKind};
use landfall_controller_core::retention::{Named, needed, surplus};
use landfall_controller_core::rollout::StatusWord;
use landfall_controller_core::{Refusal, timing};

use crate::world::{World, migration, name, place, strategy};

/// Releases v1 to v`count`, each proven everywhere in turn.
fn proven(hosts: usize, count: u64) -> World {
    let mut world = World::new(hosts);
    for number in 1..=count {
        world.publish(&format!("v{number}"), number, None, strategy());
        world.must_succeed(&format!("v{number}"));
    }
    world
}

fn names(named: &BTreeSet<Named>) -> Vec<&str> {
    named.iter().map(|(_, name)| name.as_str()).collect()
}

fn remove(world: &mut World, keep: usize) {
    let releases = surplus(&world.state, keep, world.now);
    world.ask(Action::RemoveContent { releases, keep }).unwrap();
}

#[test]
fn the_last_good_ones_stay_and_older_ones_go() {
    let mut world = proven(2, 6);
    assert_eq!(names(&needed(&world.state, 3)), ["v4", "v5", "v6"]);
    assert_eq!(names(&surplus(&world.state, 3, world.now)), ["v1", "v2", "v3"]);
    remove(&mut world, 3);
    assert!(surplus(&world.state, 3, world.now).is_empty());
    let gone = world.state.release(&place().application, &name("v2")).unwrap();
    assert!(matches!(gone.content, Content::Removed { .. }), "it is listed, and says so");
    let told: Vec<_> = world.log.iter().filter(|entry| entry.event.kind() == "content_removed").collect();
    assert_eq!(told.len(), 3);
    insta::assert_snapshot!(told[0].event.summary(), @"the files of tenants v1 were removed; its entries stay");
}

#[test]
fn nobody_is_sent_to_a_release_whose_files_are_gone_until_they_are_back() {
    let mut world = proven(2, 4);
    remove(&mut world, 2);
    let refused = world.rollback(Some("v1")).unwrap_err();
    assert!(matches!(refused, Refusal::ContentRemoved { .. }), "{refused}");
    assert!(refused.to_string().contains("`ctl release v1 --publish-only`"), "{refused}");
    let known = world.state.release(&place().application, &name("v1")).unwrap().clone();
    let release =
        Box::new(landfall_controller_core::record::ReleaseRecord { content: Content::Here, ..known });
    world.ask(Action::Publish { release, signed_by: Vec::new() }).unwrap();
    assert!(surplus(&world.state, 2, world.now).iter().all(|(_, known)| *known != name("v1")));
    let id = world.rollback(Some("v1")).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert!(world.log.iter().any(|entry| entry.event.kind() == "content_restored"));
}

#[test]
fn what_a_host_runs_and_what_is_rolled_out_stays() {
    let mut world = proven(3, 4);
    // A host that nobody could reach since v2 still runs it.
    let mut away = proven(3, 2);
    away.cut.push(crate::world::host_id(3));
    for number in 3..=6 {
        away.publish(&format!("v{number}"), number, None, strategy());
    }
    assert!(names(&needed(&away.state, 2)).contains(&"v2"));
    // While v5 is rolled out both ends of it stay, however few are kept.
    world.publish("v5", 5, None, strategy());
    world.publish("v6", 6, None, strategy());
    world.release("v5").unwrap();
    let kept = needed(&world.state, 1);
    assert!(["v4", "v5", "v6"].iter().all(|wanted| names(&kept).contains(wanted)), "{kept:?}");
}

#[test]
fn a_release_that_came_to_be_needed_meanwhile_keeps_its_files() {
    let mut world = proven(2, 4);
    let releases = surplus(&world.state, 2, world.now);
    assert_eq!(names(&releases), ["v1", "v2"]);
    world.rollback(Some("v2")).unwrap();
    world.ask(Action::RemoveContent { releases, keep: 2 }).unwrap();
    let content =
        |world: &World, text: &str| world.state.release(&place().application, &name(text)).unwrap().content;
    assert_eq!(content(&world, "v2"), Content::Here);
    assert_ne!(content(&world, "v1"), Content::Here);
}

#[test]
fn the_release_whose_migration_can_be_taken_back_stays() {
    let mut world = World::new(2);
    world.publish("v1", 1, None, strategy());
    world.must_succeed("v1");
    world.publish("v2", 2, migration(WayBackKind::Reversible), strategy());
    let give_up = |world: &mut World, rollout| {
        world.ask(Action::Abort { rollout, go_back: false, reason: String::new() }).unwrap();
    };
    let second = world.release("v2").unwrap();
    world.until("the migration", |w| !w.state.place(&place()).unwrap().migrations.is_empty());
    give_up(&mut world, second);
    for number in 3..=5 {
        world.publish(&format!("v{number}"), number, None, strategy());
    }
    // Another one was the last since, and the hosts were asked for it: only the database speaks of v2.
    let third = world.release("v3").unwrap();
    give_up(&mut world, third);
    assert_eq!(names(&needed(&world.state, 1)), ["v1", "v2", "v3", "v5"]);
}

#[test]
fn ended_rollouts_are_forgotten_once_they_are_many_and_old() {
    let mut world = World::new(1);
    world.publish("v1", 1, None, strategy());
    world.must_succeed("v1");
    world.publish("v2", 2, None, strategy());
    let before = world.state.rollouts().count();
    let many = timing::ROLLOUTS_KEPT + 5;
    for _ in 0..many {
        let id = world.release("v2").unwrap();
        world.ask(Action::Abort { rollout: id, go_back: false, reason: String::new() }).unwrap();
    }
    assert_eq!(world.state.rollouts().count(), before + many, "their requests may still be repeated");
    world.run(1);
    world.now = world.now + timing::REQUEST_KEPT + Duration::from_secs(1);
    world.release("v2").unwrap();
    assert!(
        world.state.rollouts().count() <= timing::ROLLOUTS_KEPT + 3,
        "the newest, this one, the last, the proof"
    );
    let proving = &world.state.place(&place()).unwrap().proven[0].rollout;
    assert!(world.state.rollout(proving).is_some(), "what proved a release stays");
}
