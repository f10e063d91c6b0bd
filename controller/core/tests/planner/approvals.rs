//! Approvals: a rollout stands in line until people other than the one who asked for it have said yes.

use landfall_common::strategy::{Amount, Entry, Strategy};
use landfall_common::{OperatorName, RolloutId, Sha256};
use landfall_controller_core::Refusal;
use landfall_controller_core::approval::{content, terms};
use landfall_controller_core::command::{Action, Answer, IfHeld, Overrides, RollRequest};
use landfall_controller_core::log::Actor;
use landfall_controller_core::rollout::StatusWord;

use crate::hosts::Behaviour;
use crate::world::{World, name, place, strategy};

fn needs(approvals: u32) -> Strategy {
    Strategy { entry: Entry { approvals, ..Entry::default() }, ..strategy() }
}

/// Four hosts on v1, which asks for as many as v2 and v3 do.
fn world(approvals: u32) -> World {
    let mut world = World::new(4);
    world.publish("v0", 1, None, strategy());
    world.must_succeed("v0");
    for (counter, release) in (2..).zip(["v1", "v2", "v3"]) {
        world.publish(release, counter, None, needs(approvals));
    }
    let id = world.release("v1").unwrap();
    for by in ["bert", "cora", "dirk"].iter().take(approvals as usize) {
        approve(&mut world, by, &id).unwrap();
    }
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    world
}

fn by(world: &mut World, who: &str, action: Action) -> Result<Answer, Refusal> {
    let mut command = world.command(action);
    command.by = Actor::Operator(OperatorName::new(who).unwrap());
    world.send(&command)
}

fn approve(world: &mut World, who: &str, id: &RolloutId) -> Result<Answer, Refusal> {
    let content = content(world.rollout(id)).unwrap_or_else(|| Sha256::of(b"it has begun"));
    by(world, who, Action::Approve { rollout: id.clone(), content, reason: "looks good".to_owned() })
}

fn reject(world: &mut World, who: &str, id: &RolloutId, reason: &str) -> Result<Answer, Refusal> {
    by(world, who, Action::Reject { rollout: id.clone(), reason: reason.to_owned() })
}

fn waits(world: &mut World, id: &RolloutId) {
    world.run(30);
    assert_eq!(world.word(id), StatusWord::Pending);
}

#[test]
fn a_release_begins_once_enough_others_have_approved_it() {
    let mut world = world(2);
    let id = world.release("v2").unwrap();
    waits(&mut world, &id);
    insta::assert_snapshot!(world.sentences.join("\n"), @"rollout r-13 of v2 waits for 2 approvals by others than anna; `ctl approve r-13` or `ctl reject r-13` answers it");
    approve(&mut world, "bert", &id).unwrap();
    waits(&mut world, &id);
    insta::assert_snapshot!(world.sentences.join("\n"), @"rollout r-13 of v2 waits for 1 of 2 approvals by others than anna; approved by bert; `ctl approve r-13` or `ctl reject r-13` answers it");
    // The same person again is no second one.
    approve(&mut world, "bert", &id).unwrap();
    waits(&mut world, &id);
    world.crash_controller();
    approve(&mut world, "cora", &id).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    let told: Vec<_> = world.log.iter().map(|entry| entry.event.summary()).collect();
    let told = told.iter().filter(|told| told.contains("v2") && !told.starts_with("web"));
    insta::assert_snapshot!(told.cloned().collect::<Vec<_>>().join("\n"), @r"
    tenants v2 was published
    rollout of tenants v2 to production stands in line: it waits for 2 approvals by others than anna; `ctl approve r-13` or `ctl reject r-13` answers it
    rollout r-13 of v2 was approved: looks good
    rollout r-13 of v2 was approved: looks good
    rollout of tenants v2 to production after v1 began on 4 hosts, approved by bert, cora
    rollout of tenants v2 to production succeeded, 4 of 4 hosts run it
    ");
    let by: Vec<_> = world.rollout(&id).approvals.iter().map(|approval| approval.by.to_string()).collect();
    assert_eq!(by, ["bert", "cora"]);
}

#[test]
fn nobody_approves_his_own() {
    let mut world = world(1);
    let id = world.release("v2").unwrap();
    insta::assert_snapshot!(approve(&mut world, "anna", &id).unwrap_err(), @"anna has asked for rollout r-12 himself; somebody else approves it, `ctl approve r-12`");
    waits(&mut world, &id);
}

/// Nobody approves something else than he saw.
#[test]
fn an_approval_is_of_the_release_and_of_the_knobs() {
    let mut world = world(1);
    let plain = world.release("v2").unwrap();
    let seen = content(world.rollout(&plain)).unwrap();
    world.ask(Action::Abort { rollout: plain, go_back: false, reason: String::new() }).unwrap();
    let overrides = Overrides { batch: Some(Amount::Percent(100)), ..Overrides::default() };
    for request in [
        RollRequest { no_way_back: true, ..World::request("v2") },
        RollRequest { overrides, ..World::request("v2") },
        World::request("v3"),
    ] {
        let said = terms(&request);
        let id = world.roll(request).unwrap();
        let reason = String::new();
        let stale = Action::Approve { rollout: id.clone(), content: seen, reason };
        let refusal = by(&mut world, "bert", stale).unwrap_err();
        assert!(matches!(refusal, Refusal::OtherThanSeen { .. }), "{refusal}");
        assert!(world.rollout(&id).approvals.is_empty());
        world.ask(Action::Abort { rollout: id, go_back: false, reason: String::new() }).unwrap();
        assert!(said.len() < 2, "{said:?}");
    }
    let id = world.release("v2").unwrap();
    by(&mut world, "bert", Action::Approve { rollout: id.clone(), content: seen, reason: String::new() })
        .unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn who_says_no_ends_it_and_says_why() {
    let mut world = world(2);
    let id = world.release("v2").unwrap();
    approve(&mut world, "bert", &id).unwrap();
    insta::assert_snapshot!(reject(&mut world, "cora", &id, " ").unwrap_err(), @"whoever rejects rollout r-13 says why, with --reason");
    reject(&mut world, "cora", &id, "not before the audit").unwrap();
    assert_eq!(world.word(&id), StatusWord::Aborted);
    insta::assert_snapshot!(world.log.last().unwrap().event.summary(), @"rollout of tenants v2 to production was aborted, 0 of 0 hosts run it: it was rejected: not before the audit");
    assert_eq!(world.runs(), ["v1"; 4]);
    insta::assert_snapshot!(approve(&mut world, "bert", &id).unwrap_err(), @"rollout r-13 has ended, aborted: `ctl why r-13` tells how, and what can follow");
}

#[test]
fn what_has_begun_or_needs_nobody_is_neither_approved_nor_rejected() {
    let mut world = world(1);
    let id = world.release("v2").unwrap();
    let next = world.roll(RollRequest { if_held: IfHeld::Queue, ..World::request("v3") }).unwrap();
    approve(&mut world, "bert", &id).unwrap();
    world.run(2);
    insta::assert_snapshot!(approve(&mut world, "cora", &id).unwrap_err(), @"rollout r-12 is staging: it has begun; `ctl rollback` goes back, `ctl abort` ends it where it is");
    assert!(reject(&mut world, "cora", &id, "too late").is_err());
    approve(&mut world, "bert", &next).unwrap();
    assert_eq!(world.ended(&next), StatusWord::Succeeded);

    let mut free = World::new(2);
    free.publish("v1", 1, None, strategy());
    free.publish("v2", 2, None, strategy());
    free.release("v1").unwrap();
    let id = free.roll(RollRequest { if_held: IfHeld::Queue, ..World::request("v2") }).unwrap();
    insta::assert_snapshot!(approve(&mut free, "bert", &id).unwrap_err(), @"rollout r-6 is pending: nobody has to approve it; `ctl abort` ends it");
    assert!(reject(&mut free, "bert", &id, "why not").is_err());
}

/// What a release says of its own environment holds for the one after it.
#[test]
fn a_release_does_not_lift_what_it_is_held_by() {
    let mut world = world(2);
    world.publish("v4", 9, None, strategy());
    world.publish("v5", 10, None, strategy());
    let id = world.release("v4").unwrap();
    waits(&mut world, &id);
    approve(&mut world, "bert", &id).unwrap();
    approve(&mut world, "cora", &id).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    world.must_succeed("v5");
    // And one that asks for more gets more.
    world.publish("v6", 11, None, needs(3));
    let id = world.release("v6").unwrap();
    waits(&mut world, &id);
}

#[test]
fn no_way_back_waits_for_anybody() {
    let mut world = world(1);
    let back = world.rollback(Some("v0")).unwrap();
    assert_eq!(world.ended(&back), StatusWord::Succeeded);
    assert_eq!(world.runs(), ["v0"; 4]);
    world.behaves("v2", Behaviour::Bad);
    let id = world.release("v2").unwrap();
    approve(&mut world, "bert", &id).unwrap();
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    assert_eq!(world.runs(), ["v0"; 4]);
}

#[test]
fn a_removed_operators_approval_counts_no_more() {
    let mut world = world(2);
    let id = world.release("v2").unwrap();
    approve(&mut world, "bert", &id).unwrap();
    let of = OperatorName::new("bert").unwrap();
    world.ask(Action::WithdrawApprovals { of }).unwrap();
    insta::assert_snapshot!(world.log.last().unwrap().event.summary(), @"the approval of rollout r-13 by bert counts no more, since bert was removed");
    approve(&mut world, "cora", &id).unwrap();
    waits(&mut world, &id);
    approve(&mut world, "dirk", &id).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn what_is_under_way_is_not_ended_for_one_that_has_to_be_approved() {
    let mut world = world(1);
    let supersede = |release| RollRequest { if_held: IfHeld::Supersede, ..World::request(release) };
    let first = world.release("v2").unwrap();
    // What has not begun is.
    let second = world.roll(supersede("v3")).unwrap();
    assert_eq!(world.word(&first), StatusWord::Superseded);
    waits(&mut world, &second);
    approve(&mut world, "bert", &second).unwrap();
    world.run(2);
    world.publish("v4", 9, None, needs(1));
    let refusal = world.roll(supersede("v4")).unwrap_err();
    insta::assert_snapshot!(refusal, @"rollout r-13 of v3 is not to be superseded: it is not ended for one that others have to approve first; stand in line behind it with --queue");
    assert_eq!(world.ended(&second), StatusWord::Succeeded);
}

#[test]
fn who_waits_for_another_and_for_approvals_is_told_both() {
    let mut world = world(1);
    let first = world.release("v2").unwrap();
    let second = world.roll(RollRequest { if_held: IfHeld::Queue, ..World::request("v3") }).unwrap();
    approve(&mut world, "bert", &second).unwrap();
    waits(&mut world, &second);
    insta::assert_snapshot!(world.sentences.join("\n"), @r"
    rollout r-12 of v2 waits for 1 approval by others than anna; `ctl approve r-12` or `ctl reject r-12` answers it
    rollout r-13 of v3 waits behind rollout r-12 of v2, which is next
    ");
    approve(&mut world, "bert", &first).unwrap();
    assert_eq!(world.ended(&second), StatusWord::Succeeded);
    assert_eq!(world.runs(), ["v3"; 4]);
}

/// Who was an operator when the backup was made may be none any more.
#[test]
fn a_restored_controller_asks_for_approvals_once_more() {
    let mut world = world(1);
    world
        .ask(Action::Lock {
            place: place(),
            message: "audit".to_owned(),
            period: landfall_common::Duration::from_secs(600),
        })
        .unwrap();
    let id = world.roll(RollRequest { if_held: IfHeld::Queue, ..World::request("v2") }).unwrap();
    approve(&mut world, "bert", &id).unwrap();
    let backup = world.back_up();
    world.restore(backup);
    assert!(world.rollout(&id).approvals.is_empty());
    world.run(700);
    assert_eq!(world.word(&id), StatusWord::Paused);
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
    waits(&mut world, &id);
    approve(&mut world, "bert", &id).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(world.rollout(&id).release.name, name("v2"));
}
