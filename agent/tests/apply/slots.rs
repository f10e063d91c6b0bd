//! Releases with two slots, and what may run beside these whatever fails.

use std::sync::atomic::Ordering;

use landfall_common::assignment::{OnFailure, Order};
use landfall_common::manifest::traffic::Slot;
use landfall_common::{Duration, ReleaseName};

use crate::files;
use crate::world::{Fault, Release, World};

fn activates(on_failure: OnFailure) -> Order {
    let (min_healthy, healthy_deadline) = (Duration::from_secs(2), Duration::from_secs(30));
    Order::Activate { on_failure, min_healthy, healthy_deadline }
}

/// v1 serves, v2 never becomes healthy, and at a task on its way back the disk is full; then there is room, another release
/// is asked for, and that fails at a task as well.
fn failing(back_at: usize, next: &str, next_at: usize) -> World {
    let releases = [1, 2, 3].map(|n| Release::new(&format!("v{n}"), n, files(&n.to_string())).with_slots());
    let mut world = World::new(&releases);
    world.activate(1, "v1");
    world.assign(2, "v2", Order::Stage);
    world.settle();
    world.assign(3, "v3", Order::Stage);
    world.settle();
    world.sick = vec!["v2".to_owned()];
    world.fault = Some((world.count + back_at, Fault::DiskFills));
    world.assign(4, "v2", activates(OnFailure::Revert));
    world.end();
    world.room.store(i64::MAX, Ordering::Relaxed);
    world.fault = Some((world.count + next_at, Fault::Fails));
    world.assign(5, next, activates(OnFailure::Hold));
    world.end();
    world
}

/// What requests are led to runs.
fn served(world: &World) -> Option<(Slot, Option<String>)> {
    let placement = &world.engine.as_ref().unwrap().record().placement;
    let slot = placement.aimed().filter(|_| placement.trying.is_none())?;
    Some((slot, world.running.get(&format!("web-{slot}")).cloned()))
}

#[test]
fn what_serves_in_a_slot_goes_on_and_nothing_runs_beside_the_slots_whatever_fails() {
    let mut without_a_slot = 0;
    for (next, back_at, next_at) in ["v1", "v3"]
        .into_iter()
        .flat_map(|next| (1..=8).flat_map(move |at| (1..=8).map(move |n| (next, at, n))))
    {
        let mut world = failing(back_at, next, next_at);
        let record = world.engine.as_ref().unwrap().record();
        let has_no_slot = record.placement.slot_of(record.active.as_ref().unwrap()).is_none();
        let before = served(&world).filter(|_| has_no_slot);
        // A boot: nothing runs any more.
        if next_at % 2 == 0 {
            world.running.clear();
        }
        world.start();
        world.settle();
        let told = format!("tasks {back_at} and, for {next}, {next_at} fail: {:?}", world.running);
        assert!(!world.running.contains_key("web"), "{told}");
        if let Some((slot, release)) = before {
            without_a_slot += 1;
            assert_eq!(world.running.get(&format!("web-{slot}")), release.as_ref(), "{told}");
        }
    }
    assert!(without_a_slot > 0, "there was always a slot for what is active");
}

/// v2 is the first with slots, and fails at a task; so does the way back (found by the simulation, seed 88949134): whatever
/// requests may be led to, for all that is known, runs after a boot if it ran before.
#[test]
fn what_requests_may_be_led_to_runs_after_a_boot() {
    let mut in_doubt = 0;
    for fails_at in 1..=8 {
        let v2 = Release::new("v2", 2, files("2")).with_slots();
        let mut world = World::new(&[Release::new("v1", 1, files("1")), v2]);
        world.activate(1, "v1");
        world.assign(2, "v2", Order::Stage);
        world.settle();
        world.fault = Some((world.count + fails_at, Fault::Fails));
        world.assign(3, "v2", activates(OnFailure::Revert));
        world.end();
        let placement = &world.engine.as_ref().unwrap().record().placement;
        let led_to = placement.slots.iter().find(|(slot, _)| placement.may_lead_to(**slot));
        let Some((slot, release)) = led_to.map(|(slot, release)| (*slot, release.to_string())) else {
            continue;
        };
        in_doubt += u32::from(placement.aim.is_none());
        world.running.clear();
        world.start();
        world.settle();
        let found = world.running.get(&format!("web-{slot}"));
        assert_eq!(found, Some(&release), "task {fails_at} fails: {:?}", world.running);
    }
    assert!(in_doubt > 0, "it was always known where requests go");
}

/// v2 serves in a slot, and the way back to v1 fails because nobody knows where that listens (found by the simulation, seed
/// 88818284): whatever is active, requests go on to v2, also after a boot.
#[test]
fn what_requests_are_led_to_runs_after_a_boot_beside_a_release_without_slots() {
    let v2 = Release::new("v2", 2, files("2")).with_slots();
    let mut world = World::new(&[Release::new("v1", 1, files("1")), v2]);
    world.activate(1, "v1");
    world.activate(2, "v2");
    let (slot, before) = served(&world).unwrap();
    assert_eq!(before.as_deref(), Some("v2"), "{:?}", world.running);
    world.assign(3, "v1", activates(OnFailure::Hold));
    world.settle();
    let record = world.engine.as_ref().unwrap().record();
    assert_eq!(
        (record.active.as_ref().map(ReleaseName::as_str), record.placement.aimed()),
        (Some("v1"), Some(slot))
    );
    world.running.clear();
    world.start();
    world.settle();
    assert_eq!(world.running.get(&format!("web-{slot}")), before.as_ref(), "{:?}", world.running);
    assert_eq!(world.running.get("web").map(String::as_str), Some("v1"), "{:?}", world.running);
}
