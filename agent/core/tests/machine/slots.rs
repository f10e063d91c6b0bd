//! Two slots behind a proxy: where requests go, at every cut.

mod world;

use crate::harness::activate_with;
use landfall_agent_core::{State, Target};
use landfall_common::assignment::OnFailure;
use landfall_common::manifest::traffic::Slot;
use landfall_common::report::OutcomeKind;
use world::{FAULTS, Fault, Kind, World, name};

/// A host on which v1 is committed.
fn serving(kinds: &[(&str, Kind)]) -> World {
    let mut world = World::new();
    world.kinds = kinds.iter().map(|(release, kind)| (name(release), *kind)).collect();
    world.activate(1, "v1", OnFailure::Revert);
    assert_eq!(world.outcome(), &OutcomeKind::Committed);
    world.check_at_rest("v1");
    world.count = 0;
    world
}

#[test]
fn a_release_starts_in_the_free_slot_and_gets_requests_once_it_is_warm() {
    let mut world = serving(&[]);
    let names = world.names_of(2, "v2");
    assert_eq!(names, ["start-green", "warm-up-green", "switch-green", "swap", "restart-worker"]);
    assert_eq!(world.slots[&Slot::Blue], name("v1"), "the old one still runs while the new one is proven");
    world.settle();
    assert_eq!(world.outcome(), &OutcomeKind::Committed);
    assert_eq!(world.slots.len(), 2, "the old one is kept");
    world.pass(61);
    world.settle();
    assert_eq!(world.slots.keys().collect::<Vec<_>>(), [&Slot::Green], "and then it is not");
}

/// Found by the simulation (seed 88215028): it said that requests go to the slot that they had just left, and the one that
/// they went to was ended.
#[test]
fn an_answer_from_before_a_change_says_nothing_of_where_requests_go_after_it() {
    let mut world = serving(&[]);
    world.misled();
    let late = world.carries_out_an_aim();
    world.activate(2, "v2", OnFailure::Revert);
    assert_eq!(world.outcome(), &OutcomeKind::Committed);
    world.send(late);
    world.pass(61);
    world.settle();
    assert_eq!(world.slots.keys().collect::<Vec<_>>(), [&Slot::Green]);
    world.check_at_rest("v2");
}

#[test]
fn the_way_back_within_the_kept_time_starts_nothing() {
    let mut world = serving(&[]);
    world.activate(2, "v2", OnFailure::Revert);
    let before = world.starts.clone();
    let names = world.names_of(3, "v1");
    assert_eq!(names, ["start-blue", "warm-up-blue", "switch-blue", "swap", "restart-worker"]);
    world.settle();
    assert_eq!((world.outcome(), world.active()), (&OutcomeKind::Committed, Some("v1")));
    assert_eq!(world.starts, before);
}

#[test]
fn a_third_release_makes_room_only_in_the_slot_that_is_certain_not_to_serve() {
    let mut world = serving(&[]);
    world.activate(2, "v2", OnFailure::Revert);
    let names = world.names_of(3, "v3");
    assert_eq!(
        names,
        [
            "switch-green",
            "retire-blue",
            "start-blue",
            "warm-up-blue",
            "switch-blue",
            "swap",
            "restart-worker"
        ]
    );
}

#[test]
fn a_release_that_never_answers_gets_no_request_and_its_slot_is_vacated() {
    let mut world = serving(&[]);
    world.cold.insert(name("v2"));
    world.activate(2, "v2", OnFailure::Revert);
    assert!(matches!(world.outcome(), OutcomeKind::Reverted { .. }), "{:?}", world.outcome());
    assert_eq!(world.active(), Some("v1"));
    assert_eq!(world.slots.keys().collect::<Vec<_>>(), [&Slot::Blue]);
    world.check_at_rest("after the revert");
}

#[test]
fn a_release_that_fails_its_checks_goes_back_without_a_start() {
    let mut world = serving(&[]);
    world.sick.insert(name("v2"));
    let before = world.starts.len();
    world.activate(2, "v2", OnFailure::Revert);
    assert!(matches!(world.outcome(), OutcomeKind::Reverted { .. }));
    assert_eq!(world.starts.len(), before + 1, "{:?}", world.starts);
    world.check_at_rest("after the revert");
}

#[test]
fn a_host_behind_a_gate_is_out_while_it_is_changed_and_stays_out_if_it_is_held() {
    let mut world = serving(&[("v1", Kind::Gate), ("v2", Kind::Gate), ("v3", Kind::Gate)]);
    world.sick.insert(name("v2"));
    world.activate(2, "v2", OnFailure::Hold);
    assert!(matches!(world.outcome(), OutcomeKind::Held { .. }));
    assert_eq!(world.proxy, Some(Target::Nowhere));
    assert_eq!(world.names_of(3, "v3"), ["drain", "swap", "restart-web", "restart-worker", "undrain"]);
}

#[test]
fn the_first_release_with_slots_takes_over_from_one_without_and_gives_back_to_it() {
    let kinds = [("v1", Kind::Plain), ("v3", Kind::Plain)];
    let mut world = serving(&kinds);
    let names = world.names_of(2, "v2");
    assert_eq!(names, ["start-blue", "warm-up-blue", "switch-blue", "swap", "restart-worker", "stop-web"]);
    world.settle();
    world.check_at_rest("v2");
    let names = world.names_of(3, "v3");
    assert_eq!(names, ["swap", "restart-web", "restart-worker", "switch-plain", "retire-blue"]);
    world.settle();
    world.check_at_rest("v3");
    let mut world = serving(&kinds);
    world.sick.insert(name("v2"));
    world.activate(2, "v2", OnFailure::Revert);
    assert_eq!(world.active(), Some("v1"));
    assert_eq!(world.proxy, Some(Target::Plain { release: name("v1") }));
    world.check_at_rest("back from v2");
}

#[test]
fn an_aim_that_failed_is_put_right_and_until_then_the_host_is_not_healthy() {
    let mut world = serving(&[]);
    // The proxy follows and says that it does not: nobody knows where requests go.
    world.faults = vec![(3, Fault::FailsAfter)];
    world.activate(2, "v2", OnFailure::Hold);
    let OutcomeKind::Held { .. } = world.outcome() else { panic!("{:?}", world.outcome()) };
    assert_eq!(world.active(), Some("v1"));
    world.check_at_rest("after the switch that failed");
}

/// Found by the simulation, seed 1004: the slot was ended that still got the requests.
#[test]
fn while_a_proxy_does_not_follow_the_slot_that_it_may_lead_to_runs_on() {
    let mut world = serving(&[("v1", Kind::Plain)]);
    world.names_of(2, "v2");
    world.stuck = true;
    world.sick.insert(name("v2"));
    world.run(400);
    assert!(matches!(world.outcome(), OutcomeKind::UndoFailed { .. }), "{:?}", world.outcome());
    assert_eq!(world.active(), Some("v1"));
    world.assign(activate_with(3, "v1", OnFailure::Hold));
    world.run(400);
    assert_eq!(world.slots.keys().collect::<Vec<_>>(), [&Slot::Blue], "requests still go there");
    world.stuck = false;
    world.settle();
    assert_eq!(world.proxy, Some(Target::Plain { release: name("v1") }));
    world.check_at_rest("once it follows");
}

/// The heart of it: whatever is cut where, in the end requests go to what is active, and at no instant to
/// what does not run or was never warm.
#[test]
fn at_every_cut_requests_go_to_a_slot_that_serves_the_active_release() {
    use Kind::{Gate, Plain, Slots};
    let mut tried = 0;
    for (v1, v2) in [
        (Slots, Slots),
        (Plain, Slots),
        (Slots, Plain),
        (Gate, Gate),
        (Plain, Gate),
        (Gate, Plain),
        (Gate, Slots),
        (Slots, Gate),
    ] {
        for on_failure in [OnFailure::Revert, OnFailure::Hold] {
            for bad in ["good", "sick", "cold"] {
                if bad == "cold" && v2 != Slots {
                    continue;
                }
                let begin = || {
                    let mut world = serving(&[("v1", v1), ("v2", v2), ("v3", v2)]);
                    match bad {
                        "sick" => drop(world.sick.insert(name("v2"))),
                        "cold" => drop(world.cold.insert(name("v2"))),
                        _ => {}
                    }
                    world
                };
                for fault in FAULTS {
                    for at in 1.. {
                        let mut world = begin();
                        world.faults = vec![(at, fault)];
                        let what = format!("{v1:?} to {v2:?} ({bad}, {on_failure:?}), {fault:?} at {at}");
                        world.activate(2, "v2", on_failure);
                        world.check_at_rest(&what);
                        if world.count < at {
                            break;
                        }
                        tried += 1;
                        world.pass(200);
                        world.settle();
                        world.check_at_rest(&format!("{what}, later"));
                        assert!(world.slots.len() <= 1, "{what}: {:?} run", world.slots);
                        // And the next release finds its way.
                        world.activate(3, "v3", OnFailure::Revert);
                        world.check_at_rest(&format!("{what}, then v3"));
                        if world.outcome() == &OutcomeKind::Committed {
                            assert_eq!(world.active(), Some("v3"), "{what}");
                        }
                        assert_eq!(world.machine.record.state, State::Idle);
                    }
                }
            }
        }
    }
    assert!(tried > 600, "only {tried} cuts were made");
}

/// The same for an operator's way back while the old slot is kept, and for a third release on top.
#[test]
fn at_every_cut_of_a_way_back_requests_go_to_a_slot_that_serves() {
    for third in ["v1", "v3"] {
        for fault in FAULTS {
            for at in 1.. {
                let mut world = serving(&[]);
                world.activate(2, "v2", OnFailure::Revert);
                world.count = 0;
                world.faults = vec![(at, fault)];
                let what = format!("v2 to {third}, {fault:?} at {at}");
                world.activate(3, third, OnFailure::Revert);
                world.check_at_rest(&what);
                if world.count < at {
                    break;
                }
                world.pass(200);
                world.settle();
                world.check_at_rest(&format!("{what}, later"));
                assert_eq!(world.slots.len(), 1, "{what}: {:?} run", world.slots);
            }
        }
    }
}

/// The attempt before had come as far as the swap, and the one after the restart does not. Found by the simulation,
/// seed 71001018.
#[test]
fn at_every_cut_an_attempt_that_then_fails_earlier_leaves_current_at_what_is_active() {
    use Kind::{Gate, Plain, Slots};
    let mut tried = 0;
    for (v1, v2) in [(Slots, Slots), (Plain, Slots), (Slots, Plain), (Gate, Gate), (Gate, Slots)] {
        for (cut, on_failure) in [
            (Fault::KilledAfter, OnFailure::Hold),
            (Fault::PowerAfter, OnFailure::Hold),
            (Fault::KilledAfter, OnFailure::Revert),
        ] {
            for at in 1..=7 {
                for then in at + 1..at + 8 {
                    let mut world = serving(&[("v1", v1), ("v2", v2), ("v3", v2)]);
                    world.faults = vec![(at, cut), (then, Fault::Fails)];
                    let what = format!("{v1:?} to {v2:?}, {cut:?} at {at}, fails at {then}");
                    world.assign(activate_with(2, "v2", on_failure));
                    world.run(400);
                    assert_eq!(
                        world.current.as_ref().map(|current| current.as_str()),
                        world.active(),
                        "{what}"
                    );
                    tried += usize::from(world.count >= then);
                }
            }
        }
    }
    assert!(tried > 100, "only {tried} were tried");
}

#[test]
fn requests_that_somebody_led_elsewhere_by_hand_are_led_back_when_that_is_said() {
    let mut world = serving(&[]);
    world.activate(2, "v2", OnFailure::Revert);
    for elsewhere in [Some(Target::Slot { slot: Slot::Blue, release: name("v1") }), None] {
        world.proxy = elsewhere;
        world.settle();
        world.misled();
        world.settle();
        world.check_at_rest("told again");
    }
    let mut gated = serving(&[("v1", Kind::Gate)]);
    gated.proxy = Some(Target::Nowhere);
    gated.misled();
    gated.settle();
    gated.check_at_rest("in again");
}

#[test]
fn whenever_it_is_said_that_requests_are_led_elsewhere_a_release_leads_them_as_it_would() {
    for cut in 0.. {
        let mut world = serving(&[]);
        world.assign(activate_with(2, "v2", OnFailure::Revert));
        let reached = (0..cut).all(|_| world.advance());
        world.misled();
        world.settle();
        assert_eq!((world.outcome(), world.active()), (&OutcomeKind::Committed, Some("v2")), "after {cut}");
        world.check_at_rest(&format!("after {cut}"));
        if !reached {
            assert!(cut > 5, "{cut}");
            return;
        }
    }
}
