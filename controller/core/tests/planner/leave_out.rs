//! Hosts that are left out: excluded from one rollout, or cordoned from all.

use std::collections::BTreeSet;

use landfall_common::strategy::{Amount, Before, Canary, Strategy};
use landfall_common::{Duration, GateName, HostId};
use landfall_controller_core::command::{Action, Answer};
use landfall_controller_core::gate::GateVerdict;
use landfall_controller_core::record::WayBackKind;
use landfall_controller_core::rollout::StatusWord;
use landfall_controller_core::{Refusal, preview};

use crate::hosts::Behaviour;
use crate::world::{World, host_id, migration, name, place, strategy};

fn on_v1(hosts: usize, next: Strategy) -> World {
    let mut world = World::new(hosts);
    world.publish("v1", 1, None, strategy());
    world.publish("v2", 2, None, next);
    world.must_succeed("v1");
    world
}

fn hosts(numbers: &[usize]) -> BTreeSet<HostId> {
    numbers.iter().map(|number| host_id(*number)).collect()
}

fn exclude(world: &mut World, numbers: &[usize]) -> Result<Answer, Refusal> {
    world.ask(Action::Exclude {
        hosts: hosts(numbers),
        rollout: None,
        reason: "its disk is broken".to_owned(),
    })
}

fn include(world: &mut World, numbers: &[usize]) -> Result<Answer, Refusal> {
    world.ask(Action::Include { hosts: hosts(numbers), reason: String::new() })
}

fn cordon(world: &mut World, numbers: &[usize]) {
    world.ask(Action::Cordon { hosts: hosts(numbers), reason: "it is moved".to_owned() }).unwrap();
}

fn uncordon(world: &mut World, numbers: &[usize]) {
    world.ask(Action::Uncordon { hosts: hosts(numbers), reason: String::new() }).unwrap();
}

#[test]
fn an_excluded_host_is_asked_for_nothing_and_success_says_so() {
    let mut world = on_v1(4, strategy());
    let id = world.release("v2").unwrap();
    world.until("the second batch", |w| w.runs()[0] == "v2");
    exclude(&mut world, &[4]).unwrap();
    let generation = world.host(4).accepted;
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    insta::assert_snapshot!(world.rollout(&id).left_out, @"web-04, excluded by anna: its disk is broken");
    // A controller that is restarted remembers it, and the host does not take the release by itself.
    world.crash_controller();
    world.run(300);
    assert_eq!(world.runs(), ["v2", "v2", "v2", "v1"]);
    assert_eq!(world.host(4).accepted, generation);
    insta::assert_snapshot!(world.sentences.join("\n"), @"web-04 is excluded and does not take v2, the release in force, until `ctl include web-04`");
    include(&mut world, &[4]).unwrap();
    world.until("all on v2", |w| w.runs() == ["v2"; 4]);
}

#[test]
fn a_host_that_was_excluded_takes_part_in_the_next_rollout() {
    let mut world = on_v1(3, strategy());
    let id = world.release("v2").unwrap();
    exclude(&mut world, &[3]).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    world.publish("v3", 3, None, strategy());
    world.must_succeed("v3");
    assert_eq!(world.runs(), ["v3"; 3]);
}

#[test]
fn a_host_that_is_included_again_is_tried_again() {
    let mut world = on_v1(4, strategy());
    world.host(3).behaviour.insert(name("v2"), Behaviour::Unstageable);
    let lenient = Strategy { failure_budget: Amount::Count(1), ..strategy() };
    world.publish("v3", 3, None, lenient);
    world.host(3).behaviour.insert(name("v3"), Behaviour::Unstageable);
    let id = world.release("v3").unwrap();
    world.run(20);
    exclude(&mut world, &[3]).unwrap();
    world.host(3).behaviour.clear();
    include(&mut world, &[3]).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(world.runs(), ["v3"; 4]);
    assert_eq!(world.rollout(&id).left_out, "");
}

/// Whoever was cordoned when a canary began that was all of it comes after it, whichever word keeps him out last.
#[test]
fn who_was_cordoned_and_excluded_as_well_comes_after_the_canary() {
    let mut world = on_v1(2, strategy());
    cordon(&mut world, &[2]);
    let id = world.release("v2").unwrap();
    exclude(&mut world, &[2]).unwrap();
    uncordon(&mut world, &[2]);
    include(&mut world, &[2]).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!((world.runs(), world.rollout(&id).batches), (vec!["v2".to_owned(); 2], 2));
}

#[test]
fn what_an_excluded_host_was_let_do_it_does_and_it_counts_as_out_meanwhile() {
    let mut world =
        on_v1(4, Strategy { max_unavailable: Amount::Count(1), canary: Canary::Count(0), ..strategy() });
    world.host(1).behaviour.insert(name("v2"), Behaviour::Bad);
    let id = world.release("v2").unwrap();
    world.until("an activation", |w| w.issued.iter().any(|a| a.release.name == name("v2")));
    exclude(&mut world, &[1]).unwrap();
    world.run(10);
    // Nobody else may be out beside it.
    assert_eq!(world.runs()[1..], ["v1", "v1", "v1"]);
    assert!(
        world.sentences.iter().any(|s| s.contains("max_unavailable 1: web-01 is out")),
        "{:?}",
        world.sentences
    );
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    // What was let go and left out has proven nothing of the release as a whole.
    let place = world.state.place(&place()).unwrap();
    assert!(!place.in_force().unwrap().whole);
    world.run(100);
    assert_eq!(world.runs(), ["v1", "v2", "v2", "v2"], "it stays where it is");
}

#[test]
fn a_canary_of_which_nobody_is_left_lets_nobody_follow_without_a_word() {
    let mut world = on_v1(5, strategy());
    world.host(1).behaviour.insert(name("v2"), Behaviour::Hangs);
    let id = world.release("v2").unwrap();
    world.until("an activation", |w| w.issued.iter().any(|a| a.release.name == name("v2")));
    exclude(&mut world, &[1]).unwrap();
    world.run(1000);
    assert_eq!(world.word(&id), StatusWord::Waiting);
    insta::assert_snapshot!(world.sentences.join("\n"), @"no host of the canary is left, so that nothing was proven; `ctl promote r-9` lets batch 2 of 3 follow, `ctl rollback` goes back");
    assert_eq!(world.runs()[1..], ["v1"; 4]);
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(world.runs()[1..], ["v2"; 4]);
}

#[test]
fn a_host_that_migrates_ends_that_and_activates_nothing() {
    let mut world = World::new(3);
    world.publish("v1", 1, None, strategy());
    world.must_succeed("v1");
    world.publish("v2", 2, migration(WayBackKind::Compatible), strategy());
    let id = world.release("v2").unwrap();
    world.until("a migration", |w| w.word(&id) == StatusWord::Migrating);
    exclude(&mut world, &[1]).unwrap();
    world.until("its end", |w| w.word(&id) != StatusWord::Migrating);
    assert_eq!(world.host(1).migrations.len(), 1);
    // It was the canary as well.
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(world.runs(), ["v1", "v2", "v2"]);
    assert_eq!(world.hosts.values().map(|host| host.migrations.len()).sum::<usize>(), 1);
}

#[test]
fn a_failed_host_that_is_excluded_is_no_failure_and_is_not_brought_back() {
    let lenient = Strategy { auto_rollback: false, ..strategy() };
    let mut world = on_v1(5, lenient);
    world.host(3).behaviour.insert(name("v2"), Behaviour::Bad);
    let id = world.release("v2").unwrap();
    world.until("a pause", |w| w.word(&id) == StatusWord::Paused);
    exclude(&mut world, &[3]).unwrap();
    assert_eq!(world.word(&id), StatusWord::Paused, "a word of its own lets it go on");
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    let v1 = || "v1".to_owned();
    assert_eq!(world.runs().into_iter().filter(|runs| *runs == v1()).count(), 1);
}

#[test]
fn who_is_excluded_on_the_way_back_stays_and_the_end_says_so() {
    let mut world = on_v1(4, strategy());
    let id = world.release("v2").unwrap();
    world.until("two on v2", |w| w.runs().iter().filter(|runs| *runs == "v2").count() >= 2);
    exclude(&mut world, &[1]).unwrap();
    world.rollback(None).unwrap();
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    world.run(60);
    assert_eq!(world.runs(), ["v2", "v1", "v1", "v1"]);
    insta::assert_snapshot!(world.rollout(&id).left_out, @"web-01, excluded by anna: its disk is broken");
    include(&mut world, &[1]).unwrap();
    world.until("all on v1", |w| w.runs() == ["v1"; 4]);
}

#[test]
fn a_cordoned_host_has_no_part_in_a_plan_and_takes_what_is_in_force_afterwards() {
    let mut world = on_v1(4, strategy());
    cordon(&mut world, &[1]);
    let plan = preview(&world.state, &World::request("v2"), world.now).unwrap();
    let all: Vec<_> = plan.batches.iter().flat_map(|batch| batch.hosts.clone()).collect();
    assert_eq!(all, [host_id(2), host_id(3), host_id(4)]);
    assert_eq!(plan.left_out.len(), 1);
    world.must_succeed("v2");
    world.run(100);
    assert_eq!(world.runs(), ["v1", "v2", "v2", "v2"]);
    insta::assert_snapshot!(world.sentences.join("\n"), @"web-01 is cordoned and does not take v2, the release in force, until `ctl hosts uncordon web-01`");
    // Said once more in other words, it is the same cordon.
    cordon(&mut world, &[1]);
    uncordon(&mut world, &[1]);
    world.until("all on v2", |w| w.runs() == ["v2"; 4]);
    assert!(world.state.place(&place()).unwrap().in_force().unwrap().whole);
}

#[test]
fn a_host_that_is_cordoned_while_a_rollout_is_under_way_takes_part_again_when_it_is_not() {
    let mut world = on_v1(4, Strategy { batch: Amount::Count(1), ..strategy() });
    let id = world.release("v2").unwrap();
    world.until("the canary", |w| w.runs()[0] == "v2");
    cordon(&mut world, &[2]);
    world.until("the third", |w| w.runs()[2] == "v2");
    assert_eq!(world.runs()[1], "v1");
    uncordon(&mut world, &[2]);
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(world.runs(), ["v2"; 4]);
    assert_eq!(world.rollout(&id).left_out, "");
}

#[test]
fn a_rollout_of_which_everybody_is_cordoned_ends_and_another_does_not_begin() {
    let mut world = on_v1(2, strategy());
    let id = world.release("v2").unwrap();
    world.until("the canary", |w| w.runs()[0] == "v2");
    cordon(&mut world, &[1, 2]);
    assert_eq!(world.ended(&id), StatusWord::Failed);
    insta::assert_snapshot!(world.end_reason(&id), @"all of its hosts were left out or removed");
    world.run(100);
    assert_eq!(world.runs(), ["v2", "v1"], "they are left alone");
    insta::assert_snapshot!(world.release("v2").unwrap_err(), @"every host of tenants in production is cordoned; `ctl hosts` shows them, `ctl hosts uncordon HOST` gives one free");
    uncordon(&mut world, &[1, 2]);
    world.must_succeed("v2");
}

#[test]
fn what_cannot_be_left_out_is_refused_with_what_can_be_done() {
    let mut world = on_v1(3, strategy());
    insta::assert_snapshot!(exclude(&mut world, &[1]).unwrap_err(), @"no rollout is under way in tenants in production that web-01 could be excluded from; `ctl hosts cordon web-01` keeps it out of all that follow");
    let id = world.release("v2").unwrap();
    insta::assert_snapshot!(exclude(&mut world, &[1, 2, 3]).unwrap_err(), @"nobody would be left in rollout r-8; `ctl abort r-8` ends it where it is, `ctl rollback` goes back");
    insta::assert_snapshot!(exclude(&mut world, &[9]).unwrap_err(), @"no host web-09 is enrolled");
    world.enrol(4);
    insta::assert_snapshot!(exclude(&mut world, &[4]).unwrap_err(), @"web-04 has no part in rollout r-8: it joined since that began; `ctl hosts cordon web-04` has it left alone");
    let silent = Action::Exclude { hosts: hosts(&[1]), rollout: None, reason: " ".to_owned() };
    insta::assert_snapshot!(world.ask(silent).unwrap_err(), @"whoever excludes a host says why, with --reason");
    // Twice is as good as once.
    exclude(&mut world, &[2]).unwrap();
    let entries = world.log.len();
    exclude(&mut world, &[2]).unwrap();
    assert_eq!(world.log.len(), entries);
    cordon(&mut world, &[3]);
    insta::assert_snapshot!(include(&mut world, &[3]).unwrap_err(), @"web-03 is cordoned by anna: it is moved; `ctl hosts uncordon web-03` gives it free");
    insta::assert_snapshot!(exclude(&mut world, &[1]).unwrap_err(), @"nobody would be left in rollout r-8; `ctl abort r-8` ends it where it is, `ctl rollback` goes back");
    uncordon(&mut world, &[3]);
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    let late = Action::Exclude { hosts: hosts(&[1]), rollout: Some(id), reason: "late".to_owned() };
    insta::assert_snapshot!(world.ask(late).unwrap_err(), @"rollout r-8 has ended, succeeded: `ctl why r-8` tells how, and what can follow");
}

/// Beside a canary that is all of it a cordoned host would come with a batch of its own. Once the release is watched no gate
/// before such a batch would be asked any more: it belongs to the last one that was.
#[test]
fn who_is_uncordoned_while_it_is_watched_belongs_to_the_last_batch() {
    let next = Strategy {
        canary: Canary::Count(2),
        watch: Duration::from_secs(300),
        gates: vec![crate::gates::gate("slo", Before::Second)],
        ..strategy()
    };
    let mut world = on_v1(3, next);
    cordon(&mut world, &[3]);
    let id = world.release("v2").unwrap();
    world.until("its gate is asked", |w| w.word(&id) == StatusWord::Waiting);
    let (verdict, reason) = (GateVerdict::Open, "we looked".to_owned());
    let gate = GateName::new("slo").unwrap();
    world.ask(Action::AnswerGate { rollout: id.clone(), gate, batch: None, verdict, reason }).unwrap();
    world.until("it is watched", |w| w.word(&id) == StatusWord::Watching);
    uncordon(&mut world, &[3]);
    assert_eq!((world.rollout(&id).batches, world.word(&id)), (1, StatusWord::Watching));
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(world.runs(), ["v2"; 3]);
}
