//! Release windows and freezes: they hold the beginning of a rollout, and nothing else.

use landfall_common::strategy::{Calendar, Entry, Strategy};
use landfall_common::{Duration, Timestamp};
use landfall_controller_core::command::{Action, IfHeld, RollRequest};
use landfall_controller_core::rollout::StatusWord;
use landfall_controller_core::{Refusal, plan};

use crate::world::{World, place, strategy};

fn within(windows: &[&str]) -> Strategy {
    let windows = windows.iter().map(|text| text.parse().unwrap()).collect();
    let calendar = Calendar { zone: "Europe/Berlin".parse().unwrap(), windows, freezes: Vec::new() };
    Strategy { entry: Entry { calendar, ..Entry::default() }, ..strategy() }
}

/// On v1, which may be followed on Fridays from 09:00 to 09:05 in Berlin; it is one, 09:00 and some seconds.
fn world() -> World {
    let mut world = World::new(4);
    let fridays = within(&["Fri 09:00-09:05"]);
    for (counter, release) in (1..).zip(["v1", "v2", "v3"]) {
        world.publish(release, counter, None, fridays.clone());
    }
    world.must_succeed("v1");
    world
}

fn until(world: &mut World, text: &str) {
    let at: Timestamp = text.parse().unwrap();
    world.run(u32::try_from(at.since(world.now).as_secs()).unwrap());
}

fn queued(world: &mut World, release: &str) -> landfall_common::RolloutId {
    world.roll(RollRequest { if_held: IfHeld::Queue, ..World::request(release) }).unwrap()
}

#[test]
fn outside_of_its_windows_a_release_is_refused_and_told_when_they_open() {
    let mut world = world();
    until(&mut world, "2027-01-15T08:05:01Z");
    let refusal = world.release("v2").unwrap_err();
    insta::assert_snapshot!(refusal, @"tenants in production is outside of its release windows (Fri 09:00-09:05 Europe/Berlin); the next rollout may begin on Fri 2027-01-22 09:00 Europe/Berlin (2027-01-22 08:00:00 UTC); a release can wait for that with --queue, and --outside-window REASON begins at once (role manager); `ctl rollback` is not held by it");
    let supersede = RollRequest { if_held: IfHeld::Supersede, ..World::request("v2") };
    assert!(matches!(world.roll(supersede), Err(Refusal::Closed { .. })));
}

#[test]
fn in_line_it_waits_for_the_window_and_is_not_cut_off_by_its_end() {
    let mut world = world();
    // Hours after, a week is long for a test that looks every second.
    world.publish("v4", 9, None, within(&["Fri 09:00-09:05", "Fri 09:20-09:21"]));
    let id = world.release("v4").unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    until(&mut world, "2027-01-15T08:06:00Z");
    world.publish("v5", 10, None, within(&["Fri 09:20-09:21"]));
    let id = queued(&mut world, "v5");
    world.run(60);
    insta::assert_snapshot!(world.sentences.join("\n"), @"rollout r-12 of v5 waits, since its environment is outside of its release windows (Fri 09:20-09:21 Europe/Berlin); the next rollout may begin on Fri 2027-01-15 09:20 Europe/Berlin (2027-01-15 08:20:00 UTC)");
    until(&mut world, "2027-01-15T08:19:58Z");
    assert_eq!(world.word(&id), StatusWord::Pending);
    world.crash_controller();
    until(&mut world, "2027-01-15T08:20:10Z");
    assert_ne!(world.word(&id), StatusWord::Pending);
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

/// The next look is soon, whatever the clock said was left to wait.
#[test]
fn a_clock_that_steps_opens_a_window_at_once() {
    let mut world = world();
    until(&mut world, "2027-01-15T08:05:01Z");
    let queued = RollRequest { if_held: IfHeld::Queue, ..World::request("v2") };
    let id = world.roll(queued).unwrap();
    let wake = plan(&world.state, world.now).wake_at.unwrap();
    assert!(wake.since(world.now) <= Duration::from_secs(5));
    // Back into the window.
    world.set_back(Duration::from_secs(240));
    world.run(6);
    assert_ne!(world.word(&id), StatusWord::Pending);
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn a_release_does_not_open_what_it_is_held_by() {
    let mut world = world();
    world.publish("v4", 9, None, strategy());
    world.publish("v5", 10, None, strategy());
    until(&mut world, "2027-01-15T08:05:01Z");
    assert!(matches!(world.release("v4"), Err(Refusal::Closed { .. })));
    let at_once = RollRequest { outside_window: "it burns".to_owned(), ..World::request("v4") };
    let id = world.roll(at_once).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    let told: Vec<_> = world.log.iter().filter(|entry| entry.event.kind() == "window_overridden").collect();
    insta::assert_snapshot!(told[0].event.summary(), @"rollout r-12 of v4 is to begin although its environment is outside of its release windows (Fri 09:00-09:05 Europe/Berlin): it burns");
    assert_eq!(told.len(), 1);
    // From now on what v4 says is in force.
    world.must_succeed("v5");
}

/// It changes a host that serves; and there is no line for it, nor a way past.
#[test]
fn a_drill_is_held_and_told_when() {
    let mut world = world();
    world.must_succeed("v2");
    until(&mut world, "2027-01-15T08:06:00Z");
    let refusal = world.ask(Action::Drill { place: place(), to: None }).unwrap_err();
    insta::assert_snapshot!(refusal, @"no drill in tenants in production: it is outside of its release windows (Fri 09:00-09:05 Europe/Berlin); the next rollout may begin on Fri 2027-01-22 09:00 Europe/Berlin (2027-01-22 08:00:00 UTC)");
}

#[test]
fn no_way_back_waits_for_a_window() {
    let mut world = world();
    world.must_succeed("v2");
    until(&mut world, "2027-01-15T08:06:00Z");
    let back = world.rollback(None).unwrap();
    assert_eq!(world.ended(&back), StatusWord::Succeeded);
    assert_eq!(world.runs(), ["v1"; 4]);
}
