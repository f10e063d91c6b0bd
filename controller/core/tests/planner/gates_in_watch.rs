//! After the last batch the gates hold on: what one says no to goes back, and while one is shut the watch does not end.

use std::collections::BTreeSet;

use landfall_common::report::Traffic;
use landfall_common::strategy::{Amount, Before, Gate, Strategy, StrategyKind};
use landfall_common::{Duration, GateName, LabelKey, RolloutId};
use landfall_controller_core::asked::Word;
use landfall_controller_core::command::{Action, Answer};
use landfall_controller_core::gate::{GateVerdict, WATCH};
use landfall_controller_core::log::LogEvent;
use landfall_controller_core::record::Record;
use landfall_controller_core::rollout::{Stage, Status, StatusWord};
use landfall_controller_core::{Refusal, explain, plan};

use crate::asked::asked;
use crate::blue_green::color;
use crate::gates::gate;
use crate::hosts::Behaviour;
use crate::world::{World, name, strategy};

const MINUTE: Duration = Duration::from_secs(60);

fn with(gates: Vec<Gate>) -> Strategy {
    Strategy { gates, watch: 10 * MINUTE, ..strategy() }
}

/// Five hosts on v1, which has no gates, and a v2 that is watched for ten minutes.
fn on_v1(strategy: Strategy) -> World {
    let mut world = World::new(5);
    world.doors_forget();
    world.publish("v1", 1, None, crate::world::strategy());
    world.publish("v2", 2, None, strategy);
    world.must_succeed("v1");
    world
}

fn answers(world: &mut World, gate: &str, verdict: GateVerdict) {
    let word = Word { verdict, reason: "the error budget".to_owned() };
    world.doors.answers.insert(gate.to_owned(), (0, Ok(word)));
}

fn say(world: &mut World, id: &RolloutId, gate: &str, verdict: GateVerdict) -> Result<Answer, Refusal> {
    let (gate, reason) = (GateName::new(gate).unwrap(), "we looked".to_owned());
    world.ask(Action::AnswerGate { rollout: id.clone(), gate, batch: None, verdict, reason })
}

fn promote(world: &mut World, id: &RolloutId) -> Result<Answer, Refusal> {
    world.ask(Action::Promote { rollout: id.clone(), reason: "it is known".to_owned() })
}

/// The rollout of v2, once it is watched: whoever has a gate opens it before that.
fn watched(world: &mut World) -> RolloutId {
    let id = world.release("v2").unwrap();
    for _ in 0..2000 {
        if world.word(&id) == StatusWord::Watching {
            return id;
        }
        if world.word(&id) == StatusWord::Waiting {
            // Refused where none of this name is asked, or the controller asks it.
            let _ = say(world, &id, "qa", GateVerdict::Open);
        }
        world.run(1);
    }
    panic!("no watch: {:?}", world.sentences);
}

fn told(world: &World) -> String {
    let all = world.log.iter().map(|entry| entry.event.summary());
    all.filter(|told| told.contains("watch") || told.contains("v1:")).collect::<Vec<_>>().join("\n")
}

#[test]
fn one_that_the_controller_asks_is_asked_on_and_its_no_goes_back() {
    let mut world = on_v1(with(vec![asked("slo", Before::Second)]));
    answers(&mut world, "slo", GateVerdict::Open);
    let id = watched(&mut world);
    let before = world.doors.asked.len();
    world.run(300);
    let since: Vec<_> = world.doors.asked[before..].iter().map(|(_, question)| &question.about).collect();
    assert!(since.len() >= 29, "every ten seconds: {}", since.len());
    assert_eq!(since.iter().map(|about| about.batch).collect::<BTreeSet<_>>(), BTreeSet::from([WATCH]));
    answers(&mut world, "slo", GateVerdict::Failed);
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    assert_eq!(world.runs(), ["v1"; 5]);
    insta::assert_snapshot!(world.end_reason(&id), @"gate slo says no, by https://ci.example.org/gates/slo: the error budget");
}

#[test]
fn while_one_is_closed_the_watch_does_not_end() {
    let mut world = on_v1(with(vec![asked("slo", Before::Each)]));
    answers(&mut world, "slo", GateVerdict::Open);
    let id = watched(&mut world);
    answers(&mut world, "slo", GateVerdict::Closed);
    world.run(3600);
    assert_eq!(world.word(&id), StatusWord::Watching, "it answers, and no deadline runs");
    insta::assert_snapshot!(world.sentences.join("\n"), @r"
    the end of the watch waits for gate slo: https://ci.example.org/gates/slo has answered closed, and is asked every 10s: the error budget
    the release is everywhere and has been watched for 1h of 10m; `ctl promote r-9` ends the watch, `ctl rollback` goes back
    ");
    answers(&mut world, "slo", GateVerdict::Open);
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn no_answer_pauses_and_is_asked_again_when_that_is_lifted() {
    let mut world = on_v1(with(vec![asked("slo", Before::Second)]));
    answers(&mut world, "slo", GateVerdict::Open);
    let id = watched(&mut world);
    world.doors.answers.insert("slo".to_owned(), (0, Err("it answered 503".to_owned())));
    world.until("a pause", |world| world.word(&id) == StatusWord::Paused);
    insta::assert_snapshot!(world.end_reason(&id), @"gate slo has had no answer from https://ci.example.org/gates/slo for 10m (it answered 503), and the end of the watch waits for it: `ctl resume` asks again, `ctl promote` overrules the gates, `ctl rollback` goes back");
    assert_eq!(world.runs(), ["v2"; 5], "no answer is no no");
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
    answers(&mut world, "slo", GateVerdict::Open);
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

/// It was opened before the last batch: nobody has to say that once more.
#[test]
fn one_that_somebody_opens_stands_open_until_he_takes_that_back() {
    let mut world = on_v1(with(vec![gate("qa", Before::Second)]));
    let id = watched(&mut world);
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    let mut world = on_v1(with(vec![gate("qa", Before::Second)]));
    let id = watched(&mut world);
    say(&mut world, &id, "qa", GateVerdict::Closed).unwrap();
    world.run(3600);
    assert_eq!(world.word(&id), StatusWord::Watching);
    let report = plan(&world.state, world.now).report;
    let next = explain::rollout(&world.state, &report, &id, world.now).unwrap().next;
    let next: Vec<String> = next.iter().map(|next| format!("{}: {}", next.command, next.does)).collect();
    let sentences = [world.sentences.join("\n"), next.join("\n")].join("\n");
    insta::assert_snapshot!(sentences, @r"
    the end of the watch waits for gate qa: anna has said closed at 2027-01-15 08:01:20 UTC: we looked; `ctl gate open qa --reason …` opens it
    the release is everywhere and has been watched for 1h of 10m; `ctl promote r-9` ends the watch, `ctl rollback` goes back
    ctl gate open qa --reason '…': opens it for the end of the watch; or close, or fail
    ctl promote r-9: overrules the gates before the end of the watch
    ctl rollback: goes back to v1
    ctl status --watch r-9: follows it
    ");
    world.crash_controller();
    world.run(600);
    assert_eq!(world.word(&id), StatusWord::Watching, "what was said outlives the controller");
    say(&mut world, &id, "qa", GateVerdict::Failed).unwrap();
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    insta::assert_snapshot!(told(&world), @r"
    rollout r-9 is watched for 10m from now on
    gate qa in the watch of rollout r-9 is closed: we looked
    gate qa in the watch of rollout r-9 says no: we looked
    rollout r-9 turned back to v1: gate qa says no, by anna: we looked
    ");
}

#[test]
fn one_before_the_first_batch_is_over_with_it() {
    let mut world = on_v1(with(vec![gate("qa", Before::First), asked("slo", Before::First)]));
    answers(&mut world, "slo", GateVerdict::Open);
    let id = watched(&mut world);
    answers(&mut world, "slo", GateVerdict::Failed);
    insta::assert_snapshot!(say(&mut world, &id, "qa", GateVerdict::Failed).unwrap_err(), @"rollout r-9 is watching, and does not ask gate qa now: it asks this one before the first batch, and no gate is asked now; say it when `ctl gate list` shows it as asked");
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn a_word_about_a_batch_is_none_about_the_watch() {
    let mut world = on_v1(with(vec![gate("qa", Before::Each)]));
    let id = watched(&mut world);
    let (gate, reason) = (GateName::new("qa").unwrap(), "it is late".to_owned());
    let verdict = GateVerdict::Failed;
    let late = world.ask(Action::AnswerGate { rollout: id.clone(), gate, batch: Some(3), verdict, reason });
    insta::assert_snapshot!(late.unwrap_err(), @"rollout r-9 asks gate qa before the end of the watch, and this is about batch 3; look at it again with `ctl gate list`");
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn whoever_has_seen_enough_overrules_those_that_are_shut_and_no_others() {
    let mut world = on_v1(with(vec![gate("qa", Before::Second), asked("slo", Before::Second)]));
    answers(&mut world, "slo", GateVerdict::Open);
    let id = watched(&mut world);
    say(&mut world, &id, "qa", GateVerdict::Closed).unwrap();
    world.run(1);
    // It ends once its hosts are well, and until then what was open may say no.
    world.host(2).behaviour.insert(name("v2"), Behaviour::Bad);
    world.run(2);
    promote(&mut world, &id).unwrap();
    promote(&mut world, &id).unwrap();
    insta::assert_snapshot!(told(&world), @r"
    rollout r-9 is watched for 10m from now on
    gate qa in the watch of rollout r-9 is closed: we looked
    the watch of rollout r-9 was ended, and overrules its gates: gate qa is closed, by anna: we looked: it is known
    ");
    world.run(2);
    assert_eq!(world.word(&id), StatusWord::Watching);
    answers(&mut world, "slo", GateVerdict::Failed);
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    insta::assert_snapshot!(world.end_reason(&id), @"gate slo says no, by https://ci.example.org/gates/slo: the error budget");
}

/// His word is for what was shut by then: what is closed since waits for another one.
#[test]
fn what_is_closed_after_somebody_has_seen_enough_holds_until_he_says_so_again() {
    let mut world = on_v1(with(vec![asked("slo", Before::Second)]));
    answers(&mut world, "slo", GateVerdict::Open);
    let id = watched(&mut world);
    world.host(2).behaviour.insert(name("v2"), Behaviour::Bad);
    world.run(2);
    promote(&mut world, &id).unwrap();
    answers(&mut world, "slo", GateVerdict::Closed);
    world.run(12);
    world.host(2).behaviour.clear();
    world.host(2).healthy_since = world.now;
    world.run(300);
    assert_eq!(world.word(&id), StatusWord::Watching);
    promote(&mut world, &id).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    insta::assert_snapshot!(told(&world), @r"
    rollout r-9 is watched for 10m from now on
    the watch of rollout r-9 was ended: it is known
    the watch of rollout r-9 was ended, and overrules its gates: gate slo is closed, by https://ci.example.org/gates/slo: the error budget: it is known
    ");
}

#[test]
fn what_may_not_go_back_by_itself_pauses_and_somebody_overrules() {
    let auto = Strategy { auto_rollback: false, ..with(vec![asked("slo", Before::Second)]) };
    let mut world = on_v1(auto);
    answers(&mut world, "slo", GateVerdict::Open);
    let id = watched(&mut world);
    answers(&mut world, "slo", GateVerdict::Failed);
    world.until("a pause", |world| world.word(&id) == StatusWord::Paused);
    insta::assert_snapshot!(world.end_reason(&id), @"gate slo says no, by https://ci.example.org/gates/slo: the error budget; auto_rollback is off: `ctl rollback` goes back, `ctl promote` overrules the gates");
    promote(&mut world, &id).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    insta::assert_snapshot!(told(&world), @r"
    rollout r-9 is watched for 10m from now on
    the watch of rollout r-9 was ended, and overrules its gates: gate slo says no, by https://ci.example.org/gates/slo: the error budget: it is known
    ");
}

/// What was answered before is forgotten with the process, and a watch that was over by then waits for the answer.
#[test]
fn a_controller_that_was_away_asks_before_the_watch_is_over() {
    let mut world = on_v1(with(vec![asked("slo", Before::Second)]));
    answers(&mut world, "slo", GateVerdict::Open);
    let id = watched(&mut world);
    world.doors.answers.clear();
    world.crash_controller();
    world.run(500);
    world.crash_controller();
    world.run(300);
    assert_eq!(world.word(&id), StatusWord::Watching, "the hosts have been well for all of it");
    answers(&mut world, "slo", GateVerdict::Open);
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn a_restored_controller_keeps_what_shuts_a_gate() {
    let mut world = on_v1(with(vec![gate("qa", Before::Second)]));
    let id = watched(&mut world);
    say(&mut world, &id, "qa", GateVerdict::Closed).unwrap();
    let backup = world.back_up();
    world.restore(backup);
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
    world.run(1200);
    assert_eq!(world.word(&id), StatusWord::Watching);
    say(&mut world, &id, "qa", GateVerdict::Failed).unwrap();
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
}

/// The second group has kept v1: requests go back to it, and the first one follows.
#[test]
fn of_two_groups_the_other_one_gets_the_requests_again() {
    let mut world = World::new(4);
    world.doors_forget();
    color(&mut world, 4);
    let by_color = Strategy {
        kind: StrategyKind::BlueGreen,
        spread: Some(LabelKey::new("color").unwrap()),
        max_unavailable: Amount::Percent(25),
        ..strategy()
    };
    world.publish("v1", 1, None, by_color.clone());
    let gates = vec![asked("slo", Before::Second)];
    world.publish("v2", 2, None, Strategy { gates, watch: 10 * MINUTE, ..by_color });
    world.must_succeed("v1");
    answers(&mut world, "slo", GateVerdict::Open);
    let id = watched(&mut world);
    world.run(60);
    assert_eq!(world.runs(), ["v2", "v2", "v1", "v1"]);
    answers(&mut world, "slo", GateVerdict::Failed);
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    assert_eq!(world.runs(), ["v1"; 4]);
    assert!(world.hosts.values().all(|host| host.traffic == Traffic::Led));
}

/// For as long as a gate holds the watch nothing is to get on: who is away for a moment when it opens is waited for.
#[test]
fn what_a_gate_has_held_for_an_hour_does_not_end_for_a_host_that_is_away_for_a_moment() {
    let mut world = on_v1(with(vec![gate("qa", Before::Second)]));
    let id = watched(&mut world);
    say(&mut world, &id, "qa", GateVerdict::Closed).unwrap();
    world.run(3600);
    world.host(5).up = false;
    world.run(90);
    say(&mut world, &id, "qa", GateVerdict::Open).unwrap();
    world.run(120);
    assert_eq!(world.word(&id), StatusWord::Watching);
    let now = world.now;
    world.host(5).reboot(now);
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

/// A store that a controller before this one wrote knows nothing of it.
#[test]
fn a_watch_without_gates_is_written_as_before() {
    let mut world = on_v1(with(Vec::new()));
    let id = watched(&mut world);
    let record = world.store.values().find_map(|record| match record {
        Record::Rollout(rollout) if rollout.id == id => Some(serde_json::to_value(&rollout.status).unwrap()),
        _ => None,
    });
    let written = record.unwrap();
    let watching: Status = serde_json::from_value(written.clone()).unwrap();
    assert!(matches!(watching.stage(), Some(Stage::Watching { accepted: false, at }) if at.next == WATCH));
    insta::assert_snapshot!(written, @r#"{"stage":{"accepted":false,"stage":"watching"},"status":"active"}"#);
    assert!(!world.log.iter().any(|entry| matches!(entry.event, LogEvent::WatchEnded { .. })));
}
