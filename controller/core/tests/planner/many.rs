//! More hosts move at once than one commit of the store may hold.

use landfall_common::Duration;
use landfall_common::strategy::{Amount, Strategy, StrategyKind};
use landfall_controller_core::member::MemberState;
use landfall_controller_core::rollout::StatusWord;

use crate::hosts::Behaviour;
use crate::world::{World, strategy};

fn all_at_once() -> Strategy {
    Strategy {
        kind: StrategyKind::AllAtOnce,
        max_unavailable: Amount::Percent(100),
        failure_budget: Amount::Count(0),
        ..strategy()
    }
}

/// The deadline of ten thousand hosts that do not answer is over at the same instant.
#[test]
fn ten_thousand_hosts_may_fail_at_the_same_instant() {
    const HOSTS: usize = 10_000;
    let mut world = World::of_many(HOSTS);
    world.publish("v1", 1, None, all_at_once());
    world.behaves("v1", Behaviour::Hangs);
    let id = world.release("v1").unwrap();
    let granted = |world: &World| {
        let members = world.state.members(&id);
        members.filter(|member| matches!(member.state, MemberState::Granted { .. })).count()
    };
    for _ in 0..30 {
        if granted(&world) == HOSTS {
            break;
        }
        world.tick();
    }
    assert_eq!(granted(&world), HOSTS, "{:?}", world.sentences);
    world.now = world.now + Duration::from_secs(300);
    world.tick();
    assert!(!world.rollout(&id).ended(), "nothing is decided on half of what is known");
    insta::assert_snapshot!(world.sentences.join("\n"), @"more hosts have moved at once than are written down at once; the others follow now");
    world.run(3);
    assert_eq!(world.word(&id), StatusWord::Failed, "{:?}", world.sentences);
}

/// Each says as much as it may of why, which stands in its record and in the log.
#[test]
fn thousands_of_hosts_may_say_at_length_why_they_failed() {
    let mut world = World::of_many(3_000);
    world.publish("v1", 1, None, all_at_once());
    world.behaves("v1", Behaviour::Verbose);
    let id = world.release("v1").unwrap();
    for _ in 0..60 {
        if world.rollout(&id).ended() {
            break;
        }
        world.tick();
    }
    assert_eq!(world.word(&id), StatusWord::Failed, "{:?}", world.sentences);
    assert!(
        world.end_reason(&id).starts_with("3000 hosts failed, the budget allows 0"),
        "{}",
        world.end_reason(&id)
    );
}

/// New hosts run nothing, and nothing keeps one of them from being sent to the release in force at once.
#[test]
fn ten_thousand_hosts_may_come_at_the_same_instant() {
    const HOSTS: usize = 10_000;
    let mut world = World::of_many(1);
    world.publish("v1", 1, None, all_at_once());
    world.must_succeed("v1");
    world.enrol_many(2..=HOSTS);
    world.until("all run v1", |world| world.runs().iter().all(|release| release == "v1"));
}
