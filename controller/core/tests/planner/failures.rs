//! Hosts that fail: how many may, when the others go back on their account, and when they do not.

use landfall_common::strategy::{Amount, Strategy};
use landfall_common::{Duration, RolloutId};
use landfall_controller_core::command::Action;
use landfall_controller_core::rollout::StatusWord;

use crate::hosts::Behaviour;
use crate::world::{World, host_id, name, place, strategy};

#[test]
fn a_bad_release_goes_back_by_itself_and_is_never_called_a_success() {
    let mut world = World::on_v1(5, strategy());
    world.behaves("v2", Behaviour::Bad);
    let id = world.release("v2").unwrap();
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    assert_eq!(world.runs(), ["v1"; 5]);
    insta::assert_snapshot!(world.end_reason(&id), @"1 host failed, the budget allows 0: web-01 at healthz (exit code 1): healthz said no");
    assert!(world.most_out <= 1, "only the canary was ever out");
}

#[test]
fn a_release_that_fails_later_takes_the_hosts_that_took_it_back() {
    let mut world = World::on_v1(6, strategy());
    for number in [4, 5] {
        world.host(number).behaviour.insert(name("v2"), Behaviour::Bad);
    }
    let id = world.release("v2").unwrap();
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    assert_eq!(world.runs(), ["v1"; 6]);
    assert!(world.most_out <= 2);
    // And it does not go back and forth.
    let activations: u32 = world.hosts.values().map(|host| host.activations).sum();
    world.run(600);
    assert_eq!(activations, world.hosts.values().map(|host| host.activations).sum::<u32>());
}

#[test]
fn failures_within_the_budget_do_not_undo_the_others() {
    let strategy = Strategy { failure_budget: Amount::Count(1), ..strategy() };
    let mut world = World::on_v1(5, strategy);
    world.host(5).behaviour.insert(name("v2"), Behaviour::Bad);
    let id = world.release("v2").unwrap();
    assert_eq!(world.ended(&id), StatusWord::Failed);
    assert_eq!(world.runs(), ["v2", "v2", "v2", "v2", "v1"]);
    insta::assert_snapshot!(world.end_reason(&id), @"v2 runs on 4 of 5 hosts: web-05 failed, `ctl retry` tries again");
    world.run(5);
    insta::assert_snapshot!(world.sentences.join("\n"), @"web-05 does not run v2, the release in force: healthz said no; `ctl retry` tries it again");
    // Mended and tried again, it takes the release in force.
    world.host(5).behaviour.clear();
    world.ask(Action::RetryFailed { place: place(), rollout: None, reason: String::new() }).unwrap();
    world.until("all", |w| w.runs() == ["v2"; 5]);
}

#[test]
fn the_first_release_of_an_environment_has_nothing_to_go_back_to() {
    let mut world = World::new(3);
    world.publish("v1", 1, None, strategy());
    world.behaves("v1", Behaviour::Bad);
    let id = world.release("v1").unwrap();
    assert_eq!(world.ended(&id), StatusWord::Failed);
    insta::assert_snapshot!(world.end_reason(&id), @"1 host failed, the budget allows 0: web-01 at healthz (exit code 1): healthz said no; nothing was in force before, so that there is nothing to go back to");
}

/// The last of twenty hosts has failed, and nothing goes back for it.
fn paused_late() -> (World, RolloutId) {
    let mut world = World::on_v1(20, strategy());
    world.host(20).behaviour.insert(name("v2"), Behaviour::Bad);
    let id = world.release("v2").unwrap();
    world.until("a pause", |w| w.word(&id) == StatusWord::Paused);
    (world, id)
}

/// Nomad #10881.
#[test]
fn one_late_failure_does_not_undo_what_is_done() {
    let (mut world, id) = paused_late();
    insta::assert_snapshot!(world.end_reason(&id), @"1 host failed, the budget allows 0: web-20 at healthz (exit code 1): healthz said no; 19 of 20 hosts run v2, and do not go back for the others unless somebody says so: `ctl retry` tries again, `ctl exclude` leaves a host out, `ctl rollback` goes back");
    world.run(3600);
    // Who only resumes is told again.
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
    world.run(5);
    assert_eq!(world.word(&id), StatusWord::Paused);
    assert_eq!(world.runs()[..19], vec!["v2"; 19]);
    world.ask(Action::Abort { rollout: id.clone(), go_back: true, reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    assert_eq!(world.runs(), ["v1"; 20]);
}

#[test]
fn whoever_failed_late_is_tried_again_or_left_out() {
    let (mut world, id) = paused_late();
    world.host(20).behaviour.clear();
    world.ask(Action::RetryFailed { place: place(), rollout: None, reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(world.runs(), ["v2"; 20]);

    let (mut world, id) = paused_late();
    let hosts = [host_id(20)].into();
    world.ask(Action::Exclude { hosts, rollout: None, reason: "its disk is broken".to_owned() }).unwrap();
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn what_fails_late_in_the_watch_goes_back() {
    let mut world = World::on_v1(20, Strategy { watch: Duration::from_secs(600), ..strategy() });
    let id = world.release("v2").unwrap();
    world.until("the watch", |w| w.word(&id) == StatusWord::Watching);
    world.host(20).behaviour.insert(name("v2"), Behaviour::Bad);
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
}

#[test]
fn more_than_a_tenth_is_no_late_failure_and_who_wants_it_goes_back_late_too() {
    let mut world = World::on_v1(20, strategy());
    for number in [18, 19, 20] {
        world.host(number).behaviour.insert(name("v2"), Behaviour::Bad);
    }
    let id = world.release("v2").unwrap();
    assert_eq!(world.ended(&id), StatusWord::RolledBack);

    let mut world = World::on_v1(20, Strategy { late_rollback: true, ..strategy() });
    world.host(20).behaviour.insert(name("v2"), Behaviour::Bad);
    let id = world.release("v2").unwrap();
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    assert_eq!(world.runs(), ["v1"; 20]);
}

/// With nine hosts each of them is more than a tenth.
#[test]
fn a_small_fleet_knows_no_late_failure() {
    let mut world = World::on_v1(9, strategy());
    world.host(9).behaviour.insert(name("v2"), Behaviour::Bad);
    let id = world.release("v2").unwrap();
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
}
