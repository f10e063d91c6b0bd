//! Gates that others hold: a batch begins once somebody has opened them for it, and no answer opens nothing.

use landfall_common::strategy::{Before, Gate, Strategy};
use landfall_common::{Duration, GateName, RolloutId};
use landfall_controller_core::command::{Action, Answer};
use landfall_controller_core::gate::GateVerdict;
use landfall_controller_core::log::{LogEvent, MigrationVerdict};
use landfall_controller_core::record::WayBackKind;
use landfall_controller_core::rollout::StatusWord;
use landfall_controller_core::{Refusal, preview, preview_drill, preview_rollback};

use crate::hosts::Behaviour;
use crate::world::{World, host_id, migration, name, place, strategy};

pub fn gate(name: &str, before: Before) -> Gate {
    Gate { name: GateName::new(name).unwrap(), before, deadline: Duration::from_secs(600), ask: None }
}

fn gated(gates: &[(&str, Before)]) -> Strategy {
    Strategy { gates: gates.iter().map(|(name, before)| gate(name, *before)).collect(), ..strategy() }
}

/// Five hosts on v1, which has no gates, and a published v2.
fn on_v1(strategy: Strategy) -> World {
    let mut world = World::new(5);
    world.publish("v1", 1, None, crate::world::strategy());
    world.publish("v2", 2, None, strategy);
    world.must_succeed("v1");
    world
}

fn say(world: &mut World, id: &RolloutId, gate: &str, verdict: GateVerdict) -> Result<Answer, Refusal> {
    let (gate, reason) = (GateName::new(gate).unwrap(), "we looked".to_owned());
    world.ask(Action::AnswerGate { rollout: id.clone(), gate, batch: None, verdict, reason })
}

fn waits(world: &mut World, id: &RolloutId) {
    world.until("a gate", |world| world.word(id) == StatusWord::Waiting);
    world.run(1);
}

fn told(world: &World) -> String {
    let all = world.log.iter().map(|entry| entry.event.summary());
    all.filter(|told| told.contains("gate")).collect::<Vec<_>>().join("\n")
}

#[test]
fn each_batch_waits_until_somebody_has_opened_the_gate_for_it() {
    let mut world = on_v1(gated(&[("qa", Before::Each), ("slo", Before::Second)]));
    let id = world.release("v2").unwrap();
    waits(&mut world, &id);
    assert_eq!(world.runs(), ["v1"; 5], "nothing that runs was touched");
    insta::assert_snapshot!(world.sentences.join("\n"), @"batch 1 of 3 waits for gate qa: it has had no answer for 1s of 10m, after which the rollout pauses; `ctl gate open qa --reason …` opens it");
    say(&mut world, &id, "qa", GateVerdict::Open).unwrap();
    world.until("the canary", |world| world.runs()[0] == "v2");
    waits(&mut world, &id);
    insta::assert_snapshot!(world.sentences.join("\n"), @r"
    batch 2 of 3 waits for gate qa: it has had no answer for 1s of 10m, after which the rollout pauses; `ctl gate open qa --reason …` opens it
    batch 2 of 3 waits for gate slo: it has had no answer for 1s of 10m, after which the rollout pauses; `ctl gate open slo --reason …` opens it
    ");
    // What was said before the canary is not said of the batch after it, and one of two is not both.
    say(&mut world, &id, "slo", GateVerdict::Open).unwrap();
    world.run(200);
    assert_eq!(world.runs(), ["v2", "v1", "v1", "v1", "v1"]);
    // A controller that is started anew knows what was said, and what was not.
    world.crash_controller();
    world.run(200);
    assert_eq!(world.runs(), ["v2", "v1", "v1", "v1", "v1"]);
    say(&mut world, &id, "qa", GateVerdict::Open).unwrap();
    world.until("the next batch", |world| world.runs()[2] == "v2");
    waits(&mut world, &id);
    assert_eq!(world.runs(), ["v2", "v2", "v2", "v1", "v1"]);
    say(&mut world, &id, "qa", GateVerdict::Open).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    insta::assert_snapshot!(told(&world), @r"
    gate qa before batch 1 of rollout r-9 is open: we looked
    the gates before batch 1 of rollout r-9 are open: qa is open, by anna: we looked
    gate slo before batch 2 of rollout r-9 is open: we looked
    gate qa before batch 2 of rollout r-9 is open: we looked
    the gates before batch 2 of rollout r-9 are open: qa is open, by anna: we looked; slo is open, by anna: we looked
    gate qa before batch 3 of rollout r-9 is open: we looked
    the gates before batch 3 of rollout r-9 are open: qa is open, by anna: we looked
    ");
}

#[test]
fn a_closed_gate_holds_for_as_long_as_it_is_closed_and_may_be_opened_again() {
    let mut world = on_v1(gated(&[("qa", Before::Second)]));
    let id = world.release("v2").unwrap();
    waits(&mut world, &id);
    say(&mut world, &id, "qa", GateVerdict::Closed).unwrap();
    world.run(3600);
    assert_eq!(world.word(&id), StatusWord::Waiting, "somebody has answered");
    assert_eq!(world.runs(), ["v2", "v1", "v1", "v1", "v1"]);
    insta::assert_snapshot!(world.sentences.join("\n"), @"batch 2 of 3 waits for gate qa: anna has said closed at 2027-01-15 08:00:57 UTC: we looked; `ctl gate open qa --reason …` opens it");
    say(&mut world, &id, "qa", GateVerdict::Open).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn without_an_answer_the_rollout_pauses_at_the_deadline_and_a_late_one_counts() {
    let mut world = on_v1(gated(&[("qa", Before::Second)]));
    let id = world.release("v2").unwrap();
    world.until("a pause", |world| world.word(&id) == StatusWord::Paused);
    insta::assert_snapshot!(world.end_reason(&id), @"gate qa has had no answer for 10m, and batch 2 of 3 waits for it: `ctl gate open qa --reason …` and `ctl resume` go on, `ctl promote` overrules the gates, `ctl rollback` goes back");
    world.run(1200);
    assert_eq!(world.runs(), ["v2", "v1", "v1", "v1", "v1"], "no answer opens nothing");
    // Resumed without an answer, it waits for another deadline.
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
    world.run(590);
    assert_eq!(world.word(&id), StatusWord::Waiting);
    world.until("a pause", |world| world.word(&id) == StatusWord::Paused);
    say(&mut world, &id, "qa", GateVerdict::Open).unwrap();
    world.run(60);
    assert_eq!(world.word(&id), StatusWord::Paused, "somebody says that it goes on");
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn a_gate_that_says_no_has_the_release_go_back() {
    let mut world = on_v1(gated(&[("qa", Before::Second)]));
    let id = world.release("v2").unwrap();
    waits(&mut world, &id);
    say(&mut world, &id, "qa", GateVerdict::Failed).unwrap();
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    insta::assert_snapshot!(world.end_reason(&id), @"gate qa says no, by anna: we looked");
    assert_eq!(world.runs(), ["v1"; 5]);
    // Before the first batch there is nothing to go back from.
    let mut world = on_v1(gated(&[("qa", Before::First)]));
    let id = world.release("v2").unwrap();
    waits(&mut world, &id);
    say(&mut world, &id, "qa", GateVerdict::Failed).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Failed);
    insta::assert_snapshot!(world.end_reason(&id), @"gate qa says no, by anna: we looked; nothing was activated");
    assert!(world.hosts.values().all(|host| host.activations == 1), "only v1 was activated");
}

#[test]
fn one_that_may_not_go_back_by_itself_pauses_and_somebody_overrules() {
    let mut world = on_v1(Strategy { auto_rollback: false, ..gated(&[("qa", Before::Second)]) });
    let id = world.release("v2").unwrap();
    waits(&mut world, &id);
    say(&mut world, &id, "qa", GateVerdict::Failed).unwrap();
    world.until("a pause", |world| world.word(&id) == StatusWord::Paused);
    insta::assert_snapshot!(world.end_reason(&id), @"gate qa says no, by anna: we looked; auto_rollback is off: `ctl rollback` goes back, `ctl promote` overrules the gates");
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    insta::assert_snapshot!(told(&world), @r"
    gate qa before batch 2 of rollout r-9 says no: we looked
    rollout r-9 was paused: gate qa says no, by anna: we looked; auto_rollback is off: `ctl rollback` goes back, `ctl promote` overrules the gates
    rollout r-9 was promoted to batch 2, and overrules its gates: gate qa says no, by anna: we looked
    the gates before batch 2 of rollout r-9 are overruled: qa says no, by anna: we looked
    ");
}

/// Whoever overrules one gate says nothing of another one that was open then.
#[test]
fn only_gates_that_are_not_open_are_overruled() {
    let mut world = on_v1(gated(&[("qa", Before::Second), ("slo", Before::Second)]));
    let id = world.release("v2").unwrap();
    waits(&mut world, &id);
    world.cut.push(host_id(1));
    world.run(60);
    say(&mut world, &id, "qa", GateVerdict::Open).unwrap();
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    // Said again it is the same.
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    say(&mut world, &id, "qa", GateVerdict::Closed).unwrap();
    world.cut.clear();
    world.run(300);
    assert_eq!(world.runs(), ["v2", "v1", "v1", "v1", "v1"], "{:?}", world.sentences);
    insta::assert_snapshot!(world.sentences.join("\n"), @"batch 2 of 3 waits for gate qa: anna has said closed at 2027-01-15 08:01:57 UTC: we looked; `ctl gate open qa --reason …` opens it");
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    insta::assert_snapshot!(told(&world), @r"
    gate qa before batch 2 of rollout r-9 is open: we looked
    rollout r-9 was promoted to batch 2, and overrules its gates: gate slo has no answer
    gate qa before batch 2 of rollout r-9 is closed: we looked
    rollout r-9 was promoted to batch 2, and overrules its gates: gate qa is closed, by anna: we looked
    the gates before batch 2 of rollout r-9 are overruled: qa is closed, by anna: we looked; slo has no answer
    ");
}

/// Whoever overrules, resumes or tries again says why, and the log keeps it.
#[test]
fn the_log_keeps_why_somebody_has_promoted_resumed_or_retried() {
    let mut world = on_v1(gated(&[("qa", Before::Second)]));
    let id = world.release("v2").unwrap();
    waits(&mut world, &id);
    let why = |reason: &str| reason.to_owned();
    world.ask(Action::Pause { rollout: id.clone(), reason: why("lunch") }).unwrap();
    world.ask(Action::Resume { rollout: id.clone(), reason: why("we are back") }).unwrap();
    world.ask(Action::Promote { rollout: id.clone(), reason: why("qa is on holiday") }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    world.behaves("v3", Behaviour::Bad);
    world.publish(
        "v3",
        3,
        None,
        Strategy { auto_rollback: false, watch: Duration::from_secs(60), ..strategy() },
    );
    let id = world.release("v3").unwrap();
    world.until("it waits for the gate in force", |world| world.word(&id) == StatusWord::Paused);
    world.behaves("v3", Behaviour::Good);
    let retry = Action::RetryFailed { place: place(), rollout: None, reason: why("its disk was full") };
    world.ask(retry).unwrap();
    world.until("the gate", |world| world.word(&id) == StatusWord::Waiting);
    say(&mut world, &id, "qa", GateVerdict::Open).unwrap();
    world.until("the watch", |world| world.word(&id) == StatusWord::Watching);
    world.ask(Action::Promote { rollout: id.clone(), reason: why("we have seen enough") }).unwrap();
    let all = world.log.iter().map(|entry| entry.event.summary());
    let said = ["resumed", "promoted", "again", "the watch of"];
    let told: Vec<String> = all.filter(|told| said.iter().any(|said| told.contains(said))).collect();
    insta::assert_snapshot!(told.join("\n"), @r"
    rollout r-9 was resumed: we are back
    rollout r-9 was promoted to batch 2, and overrules its gates: gate qa has no answer: qa is on holiday
    rollout r-14 was paused: 1 host failed, the budget allows 0: web-01 at healthz (exit code 1): healthz said no; auto_rollback is off: `ctl rollback` goes back, `ctl retry` tries again
    1 failed host of tenants in production may try again: its disk was full
    rollout r-14 was resumed: its disk was full
    the watch of rollout r-14 was ended: we have seen enough
    ");
}

/// Of what somebody has paused the gates are not what it waits for.
#[test]
fn what_is_paused_at_gates_that_are_open_waits_for_its_resumption() {
    let mut world = on_v1(gated(&[("qa", Before::Second)]));
    let id = world.release("v2").unwrap();
    waits(&mut world, &id);
    world.ask(Action::Pause { rollout: id.clone(), reason: "lunch".to_owned() }).unwrap();
    say(&mut world, &id, "qa", GateVerdict::Open).unwrap();
    insta::assert_snapshot!(world.ask(Action::Promote { rollout: id, reason: String::new() }).unwrap_err(), @"rollout r-9 is paused: its gates are open, and somebody has paused it; `ctl resume` goes on");
}

/// What is tried again is not let go for a release that somebody has just said no to.
#[test]
fn with_a_gate_that_says_no_nobody_is_let_go_any_more() {
    let mut world = on_v1(Strategy { auto_rollback: false, ..gated(&[("qa", Before::Second)]) });
    let id = world.release("v2").unwrap();
    waits(&mut world, &id);
    world.host(1).behaviour.insert(name("v2"), Behaviour::Bad);
    world.until("it has failed since", |world| world.word(&id) == StatusWord::Paused);
    insta::assert_snapshot!(world.end_reason(&id), @"1 host failed, the budget allows 0: web-01 at health: it had committed the release and was not healthy for 10s at a stretch since 30s ago; auto_rollback is off: `ctl rollback` goes back, `ctl retry` tries again");
    say(&mut world, &id, "qa", GateVerdict::Failed).unwrap();
    let let_go = world.host(1).activations;
    world.ask(Action::RetryFailed { place: place(), rollout: None, reason: String::new() }).unwrap();
    world.run(30);
    assert_eq!((world.word(&id), world.host(1).activations), (StatusWord::Paused, let_go));
}

#[test]
fn whoever_promotes_while_all_gates_are_open_overrules_none_of_them() {
    let mut world = on_v1(gated(&[("qa", Before::Second)]));
    let id = world.release("v2").unwrap();
    waits(&mut world, &id);
    let canary = host_id(1);
    world.cut.push(canary.clone());
    world.run(60);
    say(&mut world, &id, "qa", GateVerdict::Open).unwrap();
    world.run(30);
    assert_eq!(world.runs(), ["v2", "v1", "v1", "v1", "v1"], "the canary is not heard of");
    let refused = world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap_err();
    insta::assert_snapshot!(refused, @"rollout r-9 is waiting: its gates are open, and it waits for its hosts; `ctl status` says for which");
    say(&mut world, &id, "qa", GateVerdict::Closed).unwrap();
    world.cut.clear();
    world.run(300);
    assert_eq!(world.runs(), ["v2", "v1", "v1", "v1", "v1"], "somebody has closed it since");
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn an_answer_that_is_not_asked_for_is_refused_and_changes_nothing() {
    let mut world = on_v1(gated(&[("qa", Before::Second)]));
    let id = world.release("v2").unwrap();
    insta::assert_snapshot!(say(&mut world, &id, "qa", GateVerdict::Open).unwrap_err(), @"rollout r-9 is staging, and does not ask gate qa now: it asks this one before the second batch, and no gate is asked now; say it when `ctl gate list` shows it as asked");
    waits(&mut world, &id);
    insta::assert_snapshot!(say(&mut world, &id, "slo", GateVerdict::Open).unwrap_err(), @"rollout r-9 is waiting, and does not ask gate slo now: it has no gate of this name, and it waits for qa; `ctl gate list` shows its gates");
    let gate = GateName::new("qa").unwrap();
    let mut about = |batch: u32, reason: &str| {
        let (rollout, gate, reason) = (id.clone(), gate.clone(), reason.to_owned());
        let verdict = GateVerdict::Open;
        world.ask(Action::AnswerGate { rollout, gate, batch: Some(batch), verdict, reason }).map(drop)
    };
    insta::assert_snapshot!(about(3, "we looked").unwrap_err(), @"rollout r-9 asks gate qa before batch 2, and this is about batch 3; look at it again with `ctl gate list`");
    insta::assert_snapshot!(about(2, " ").unwrap_err(), @"whoever says that gate qa is open says why: `--reason …`");
    about(2, "we looked").unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    insta::assert_snapshot!(say(&mut world, &id, "qa", GateVerdict::Open).unwrap_err(), @"rollout r-9 has ended, succeeded: `ctl why r-9` tells how, and what can follow");
}

#[test]
fn the_same_answer_again_changes_nothing() {
    let mut world = on_v1(gated(&[("qa", Before::Second), ("slo", Before::Second)]));
    let id = world.release("v2").unwrap();
    waits(&mut world, &id);
    let before = world.log.len();
    let answer = say(&mut world, &id, "qa", GateVerdict::Open).unwrap();
    assert_eq!(say(&mut world, &id, "qa", GateVerdict::Open).unwrap(), answer);
    let said =
        world.log[before..].iter().filter(|entry| matches!(entry.event, LogEvent::GateAnswered { .. }));
    assert_eq!(said.count(), 1);
}

/// What the hosts had shown when the gate was asked is over when it opens.
#[test]
fn an_open_gate_is_no_proof_of_the_hosts() {
    let mut world = on_v1(Strategy {
        failure_budget: landfall_common::strategy::Amount::Count(2),
        ..gated(&[("qa", Before::Second)])
    });
    let id = world.release("v2").unwrap();
    waits(&mut world, &id);
    let host = crate::world::host_id(1);
    world.disconnect(&host);
    world.cut.push(host.clone());
    world.run(60);
    say(&mut world, &id, "qa", GateVerdict::Open).unwrap();
    world.run(100);
    assert_eq!(world.runs(), ["v2", "v1", "v1", "v1", "v1"], "web-01 cannot be heard of");
    world.until("a pause", |world| world.word(&id) == StatusWord::Paused);
    insta::assert_snapshot!(world.end_reason(&id), @"the gates before batch 2 are open, and batch 1 was not healthy for 10s since: batch 1 of 3 waits: web-01 has not been heard of for 6m. `ctl resume` waits on, `ctl rollback` goes back");
    world.cut.clear();
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn a_release_does_not_lift_the_gates_of_the_one_in_force() {
    let mut world = on_v1(gated(&[("qa", Before::Second)]));
    let id = world.release("v2").unwrap();
    waits(&mut world, &id);
    say(&mut world, &id, "qa", GateVerdict::Open).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    // Neither by having none, nor by one of the same name elsewhere.
    world.publish("v3", 3, None, gated(&[("qa", Before::First)]));
    let id = world.release("v3").unwrap();
    waits(&mut world, &id);
    assert_eq!(world.runs(), ["v3", "v2", "v2", "v2", "v2"], "the gate of v2 is before the second batch");
    say(&mut world, &id, "qa", GateVerdict::Open).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    world.publish("v4", 4, None, strategy());
    let id = world.release("v4").unwrap();
    waits(&mut world, &id);
    assert_eq!(world.runs(), ["v3"; 5], "the gate of v3 is before the first");
    say(&mut world, &id, "qa", GateVerdict::Open).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    world.publish("v5", 5, None, strategy());
    world.must_succeed("v5");
}

#[test]
fn a_migration_waits_for_the_gates_before_the_first_batch() {
    let mut world = World::new(3);
    world.publish("v1", 1, None, strategy());
    world.must_succeed("v1");
    world.publish("v2", 2, migration(WayBackKind::Compatible), gated(&[("dba", Before::First)]));
    let id = world.release("v2").unwrap();
    waits(&mut world, &id);
    world.run(60);
    let migrated = |world: &World| world.hosts.values().any(|host| !host.migrations.is_empty());
    assert!(!migrated(&world));
    say(&mut world, &id, "dba", GateVerdict::Open).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert!(migrated(&world));
}

#[test]
fn no_way_back_waits_for_a_gate() {
    let mut world = on_v1(gated(&[("qa", Before::Each)]));
    let id = world.release("v2").unwrap();
    for _ in 0..3 {
        waits(&mut world, &id);
        say(&mut world, &id, "qa", GateVerdict::Open).unwrap();
        world.run(3);
    }
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert!(preview_rollback(&world.state, &place(), None, world.now).unwrap().gates.is_empty());
    let back = world.rollback(None).unwrap();
    assert_eq!(world.ended(&back), StatusWord::RolledBack.min(StatusWord::Succeeded));
    assert_eq!(world.runs(), ["v1"; 5]);
    // Nor does one that turns round on the way, whose hosts go back.
    world.publish("v3", 3, None, gated(&[("qa", Before::Second)]));
    let id = world.release("v3").unwrap();
    waits(&mut world, &id);
    world.host(1).behaviour.insert(name("v3"), Behaviour::Flaps);
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
}

/// A rollout of one batch has no second, and whoever makes all hosts one batch gets around nothing.
#[test]
fn a_gate_before_the_second_batch_holds_the_only_one() {
    let mut world = World::new(1);
    world.publish("v1", 1, None, strategy());
    world.must_succeed("v1");
    world.publish("v2", 2, None, gated(&[("qa", Before::Second)]));
    let plan = preview(&world.state, &World::request("v2"), world.now).unwrap();
    assert_eq!(plan.gates[0].batches, [1]);
    let id = world.release("v2").unwrap();
    waits(&mut world, &id);
    assert_eq!(world.runs(), ["v1"]);
    say(&mut world, &id, "qa", GateVerdict::Open).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn a_drill_waits_for_the_gates_before_the_first_batch_alone() {
    let mut world = on_v1(gated(&[("qa", Before::Second), ("slo", Before::First)]));
    let id = world.release("v2").unwrap();
    for gate in ["slo", "qa"] {
        waits(&mut world, &id);
        say(&mut world, &id, gate, GateVerdict::Open).unwrap();
        world.run(3);
    }
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    let plan = preview_drill(&world.state, &place(), None, world.now).unwrap();
    let gates: Vec<_> = plan.gates.iter().map(|planned| planned.gate.name.as_str()).collect();
    assert_eq!(gates, ["slo"]);
    let Answer::Rollout { id } = world.ask(Action::Drill { place: place(), to: None }).unwrap() else {
        panic!("a drill is a rollout")
    };
    waits(&mut world, &id);
    say(&mut world, &id, "slo", GateVerdict::Open).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Rehearsed);
}

#[test]
fn a_restored_controller_asks_its_gates_once_more() {
    let mut world = on_v1(gated(&[("qa", Before::Second), ("slo", Before::Second)]));
    let id = world.release("v2").unwrap();
    waits(&mut world, &id);
    say(&mut world, &id, "qa", GateVerdict::Open).unwrap();
    let backup = world.back_up();
    // After the backup it is closed again, which is forgotten with the restoring.
    say(&mut world, &id, "qa", GateVerdict::Closed).unwrap();
    world.restore(backup);
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
    say(&mut world, &id, "slo", GateVerdict::Open).unwrap();
    world.run(60);
    assert_eq!(world.word(&id), StatusWord::Waiting);
    assert_eq!(world.runs(), ["v2", "v1", "v1", "v1", "v1"]);
}

/// A store that an older controller wrote has no gates, and this one's without any reads there.
#[test]
fn what_has_no_gates_is_written_as_before() {
    let mut world = on_v1(strategy());
    let id = world.release("v2").unwrap();
    world.run(5);
    let json = serde_json::to_string(world.rollout(&id)).unwrap();
    assert!(!json.contains("gate"), "{json}");
}

/// With its hosts the canary's evidence is gone, and no gate stands in for it.
#[test]
fn an_open_gate_is_no_word_for_a_canary_of_which_nobody_is_left() {
    let mut world = on_v1(gated(&[("qa", Before::Second)]));
    let id = world.release("v2").unwrap();
    waits(&mut world, &id);
    let hosts = [crate::world::host_id(1)].into();
    let reason = "its disk is broken".to_owned();
    world.ask(Action::Exclude { hosts, rollout: None, reason }).unwrap();
    world.run(2);
    say(&mut world, &id, "qa", GateVerdict::Open).unwrap_err();
    world.run(60);
    assert_eq!(world.runs(), ["v2", "v1", "v1", "v1", "v1"]);
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    world.run(60);
    assert_eq!(world.runs(), ["v2", "v1", "v1", "v1", "v1"], "the gate is asked all the same");
    say(&mut world, &id, "qa", GateVerdict::Open).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

/// What came after the backup nobody knows: the migration may have run, and where it has not its gates are asked anew.
#[test]
fn a_migration_that_waited_for_a_gate_may_have_run_since_the_backup() {
    let mut world = World::new(3);
    world.publish("v1", 1, None, strategy());
    world.must_succeed("v1");
    world.publish("v2", 2, migration(WayBackKind::Compatible), gated(&[("dba", Before::First)]));
    let id = world.release("v2").unwrap();
    waits(&mut world, &id);
    let backup = world.back_up();
    let restored = world.restore(backup);
    assert!(restored[0].paused.as_ref().unwrap().migration_unknown);
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
    let (verdict, reason) = (MigrationVerdict::NotApplied, "we looked".to_owned());
    world.ask(Action::ResolveMigration { rollout: id.clone(), verdict, reason }).unwrap();
    world.run(60);
    assert!(world.hosts.values().all(|host| host.migrations.is_empty()), "the gate has no answer");
    say(&mut world, &id, "dba", GateVerdict::Open).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

/// The few that fail do not undo what nearly all hosts run, wherever the rollout waits; whoever says no does.
#[test]
fn a_late_failure_at_a_gate_pauses_and_a_late_no_goes_back() {
    use landfall_common::strategy::{Amount, Canary};
    let late = |says_no: bool| {
        let mut world = World::new(20);
        let wide = Strategy {
            canary: Canary::Count(0),
            batch: Amount::Count(19),
            max_unavailable: Amount::Count(20),
            ..gated(&[("qa", Before::Second)])
        };
        world.publish("v1", 1, None, strategy());
        world.publish("v2", 2, None, wide);
        world.must_succeed("v1");
        let id = world.release("v2").unwrap();
        waits(&mut world, &id);
        if says_no {
            say(&mut world, &id, "qa", GateVerdict::Failed).unwrap();
        } else {
            world.host(1).behaviour.insert(name("v2"), Behaviour::Flaps);
        }
        world.until("an end or a pause", |w| w.rollout(&id).ended() || w.word(&id) == StatusWord::Paused);
        world.word(&id)
    };
    assert_eq!(late(false), StatusWord::Paused);
    assert_eq!(late(true), StatusWord::RolledBack);
}

/// Nor is a word against the gates one for a canary that was left out since.
#[test]
fn gates_that_are_overruled_are_no_word_for_a_canary_of_which_nobody_is_left() {
    let mut world = on_v1(gated(&[("qa", Before::Second)]));
    let id = world.release("v2").unwrap();
    waits(&mut world, &id);
    world.cut.push(crate::world::host_id(1));
    world.until("it is silent", |w| w.sentences.iter().any(|told| told.contains("web-01")));
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    let (hosts, reason) = ([crate::world::host_id(1)].into(), "its disk is broken".to_owned());
    world.ask(Action::Exclude { hosts, rollout: None, reason }).unwrap();
    world.run(60);
    assert_eq!(world.runs()[1..], ["v1", "v1", "v1", "v1"]);
}

/// Whether they were asked before the backup nobody knows, wherever the schema stands.
#[test]
fn after_a_backup_gates_are_asked_although_the_migration_has_run() {
    let mut world = World::new(3);
    world.publish("v1", 1, None, strategy());
    world.must_succeed("v1");
    world.publish("v2", 2, migration(WayBackKind::Compatible), gated(&[("dba", Before::First)]));
    let id = world.release("v2").unwrap();
    waits(&mut world, &id);
    let backup = world.back_up();
    world.restore(backup);
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
    let (verdict, reason) = (MigrationVerdict::Applied, "we looked".to_owned());
    world.ask(Action::ResolveMigration { rollout: id.clone(), verdict, reason }).unwrap();
    world.run(60);
    assert_eq!(world.runs(), ["v1"; 3], "the gate has no answer");
    say(&mut world, &id, "dba", GateVerdict::Open).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert!(world.hosts.values().all(|host| host.migrations.is_empty()), "it has run");
}

/// What lifts the pauses of a restored controller is no word against hers.
#[test]
fn whoever_had_paused_a_rollout_before_a_backup_has_paused_it_after_the_restore() {
    let mut world = on_v1(gated(&[("qa", Before::First)]));
    let id = world.release("v2").unwrap();
    waits(&mut world, &id);
    world.ask(Action::Pause { rollout: id.clone(), reason: "lunch".to_owned() }).unwrap();
    let backup = world.back_up();
    world.restore(backup);
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    world.run(60);
    assert_eq!((world.word(&id), world.runs()), (StatusWord::Paused, vec!["v1".to_owned(); 5]));
    insta::assert_snapshot!(world.end_reason(&id), @"the controller was restored from a backup of 2027-01-15 08:00:45 UTC, and may have gone on since that was made; before, anna had paused it: lunch");
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}
