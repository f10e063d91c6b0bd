//! Gates that the controller asks: what counts is what was answered since the batch waits, and for a while.

use std::collections::BTreeMap;

use landfall_common::strategy::{Ask, Before, Gate, Strategy};
use landfall_common::{Duration, RolloutId};
use landfall_controller_core::asked::{AT_ONCE, Allowed, Question, Word};
use landfall_controller_core::command::Action;
use landfall_controller_core::gate::GateVerdict;
use landfall_controller_core::log::LogEvent;
use landfall_controller_core::observation::Attention;
use landfall_controller_core::rollout::{Stage, StatusWord};
use landfall_controller_core::{Refusal, explain, preview};
use proptest::prelude::*;
use proptest::strategy::Strategy as _;

use crate::gates::gate;
use crate::world::{World, place, strategy};

type Came = Result<Word, String>;

/// Those whom the controller asks.
#[derive(Default)]
pub struct Doors {
    /// By the name of the gate: after how many seconds it answers, and what. Who is not among them never does.
    pub answers: BTreeMap<String, (u64, Came)>,
    /// Each question, with the second in which it was asked.
    pub asked: Vec<(u64, Question)>,
    /// What is on its way, with the second in which it comes.
    coming: Vec<(u64, Question, Came)>,
    /// Each word that came, with the seconds in which it was asked for and came.
    pub came: Vec<(u64, u64, Question, Came)>,
    /// Seconds, by no clock that is ever set.
    pub seconds: u64,
}

impl World {
    /// Asks what is due, and takes in what comes.
    pub fn ask_gates(&mut self) {
        self.doors.seconds += 1;
        let second = self.doors.seconds;
        for question in self.state.questions(self.now) {
            self.doors.asked.push((second, question.clone()));
            if let Some((after, came)) = self.doors.answers.get(question.about.gate.as_str()) {
                self.doors.coming.push((second + after, question, came.clone()));
            }
        }
        let coming = std::mem::take(&mut self.doors.coming);
        let (now, later): (Vec<_>, Vec<_>) = coming.into_iter().partition(|(at, ..)| *at <= second);
        self.doors.coming = later;
        for (_, question, came) in now {
            let asked = self.doors.asked.iter().rev().find(|(_, asked)| asked.number == question.number);
            let asked_at = asked.map_or(0, |(at, _)| *at);
            let taken = self.state.answered(&question, came.clone(), self.now);
            if let (Attention::Plan, Ok(word)) = (taken, &came) {
                let about = &question.about;
                let gate = (about.rollout.clone(), u64::from(about.batch), about.gate.clone());
                self.checks.said.insert(gate, word.verdict);
            }
            self.doors.came.push((asked_at, second, question, came));
        }
    }

    /// A controller that has just begun has asked nobody yet.
    pub fn doors_forget(&mut self) {
        self.doors.coming.clear();
        self.doors.asked.clear();
        self.state.allow_gates(allowed());
    }
}

pub fn allowed() -> Allowed {
    Allowed::below(vec!["https://ci.example.org/gates".parse().unwrap()])
}

pub fn asked(name: &str, before: Before) -> Gate {
    let url = format!("https://ci.example.org/gates/{name}").parse().unwrap();
    let ask = Ask { url, every: Duration::from_secs(10), timeout: Duration::from_secs(5) };
    Gate { ask: Some(ask), ..gate(name, before) }
}

fn with(gates: Vec<Gate>) -> Strategy {
    Strategy { gates, ..strategy() }
}

fn on_v1(strategy: Strategy) -> World {
    let mut world = World::new(5);
    world.doors_forget();
    world.publish("v1", 1, None, crate::world::strategy());
    world.publish("v2", 2, None, strategy);
    world.must_succeed("v1");
    world
}

fn word(verdict: GateVerdict, reason: &str) -> Came {
    Ok(Word { verdict, reason: reason.to_owned() })
}

fn answers(world: &mut World, gate: &str, after: u64, came: Came) {
    world.doors.answers.insert(gate.to_owned(), (after, came));
}

fn waits(world: &mut World, id: &RolloutId) {
    world.until("a gate", |world| world.word(id) == StatusWord::Waiting);
    world.run(1);
}

fn said(world: &World) -> String {
    world.sentences.join("\n")
}

fn passed(world: &World) -> Vec<String> {
    let all = world.log.iter().filter_map(|entry| match &entry.event {
        LogEvent::GatesPassed { gates, .. } => Some(gates.join("; ")),
        _ => None,
    });
    all.collect()
}

#[test]
fn a_batch_begins_on_an_answer_and_the_log_says_on_whose() {
    let mut world = on_v1(with(vec![asked("slo", Before::Second)]));
    answers(&mut world, "slo", 0, word(GateVerdict::Closed, "the error budget is used up"));
    let id = world.release("v2").unwrap();
    waits(&mut world, &id);
    insta::assert_snapshot!(said(&world), @"batch 2 of 3 waits for gate slo: https://ci.example.org/gates/slo has answered closed, and is asked every 10s: the error budget is used up");
    world.run(3600);
    assert_eq!(world.word(&id), StatusWord::Waiting, "it answers, and no deadline runs");
    assert_eq!(world.runs(), ["v2", "v1", "v1", "v1", "v1"]);
    let numbers = world.doors.asked.len();
    assert!((360..=362).contains(&numbers), "{numbers} questions in an hour of every ten seconds");
    answers(&mut world, "slo", 2, word(GateVerdict::Open, ""));
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    insta::assert_snapshot!(passed(&world).join("\n"), @"slo is open, by https://ci.example.org/gates/slo");
    // Nobody is asked any more.
    let numbers = world.doors.asked.len();
    world.run(60);
    assert_eq!(world.doors.asked.len(), numbers);
    let about = &world.doors.asked[0].1.about;
    assert_eq!((about.batch, about.batches, about.release.name.as_str()), (2, 3, "v2"));
    assert_eq!((&about.rollout, &about.place), (&id, &place()));
}

#[test]
fn without_an_answer_the_rollout_pauses_with_the_last_error_and_asks_again_when_it_is_resumed() {
    let mut world = on_v1(with(vec![asked("slo", Before::Second)]));
    let id = world.release("v2").unwrap();
    waits(&mut world, &id);
    insta::assert_snapshot!(said(&world), @"batch 2 of 3 waits for gate slo: https://ci.example.org/gates/slo has not answered for 1s of 10m, after which the rollout pauses");
    answers(&mut world, "slo", 1, Err("it answered 503".to_owned()));
    world.run(60);
    insta::assert_snapshot!(said(&world), @"batch 2 of 3 waits for gate slo: https://ci.example.org/gates/slo has not answered for 1m1s of 10m, after which the rollout pauses: it answered 503");
    world.until("a pause", |world| world.word(&id) == StatusWord::Paused);
    insta::assert_snapshot!(world.end_reason(&id), @"gate slo has had no answer from https://ci.example.org/gates/slo for 10m (it answered 503), and batch 2 of 3 waits for it: `ctl resume` asks again, `ctl promote` overrules the gates, `ctl rollback` goes back");
    let numbers = world.doors.asked.len();
    answers(&mut world, "slo", 0, word(GateVerdict::Open, ""));
    world.run(600);
    assert_eq!(world.doors.asked.len(), numbers, "nobody is asked while it is paused");
    assert_eq!(world.runs(), ["v2", "v1", "v1", "v1", "v1"]);
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

/// What it said before the pause may be over when it goes on.
#[test]
fn an_answer_from_before_a_pause_does_not_count_after_it() {
    let mut world = on_v1(with(vec![asked("slo", Before::Second), gate("qa", Before::Second)]));
    answers(&mut world, "slo", 0, word(GateVerdict::Open, ""));
    let id = world.release("v2").unwrap();
    waits(&mut world, &id);
    world.ask(Action::Pause { rollout: id.clone(), reason: "lunch".to_owned() }).unwrap();
    answers(&mut world, "slo", 0, word(GateVerdict::Closed, "it burns"));
    let qa = gate("qa", Before::Second).name;
    let open = Action::AnswerGate {
        rollout: id.clone(),
        gate: qa,
        batch: None,
        verdict: GateVerdict::Open,
        reason: "we looked".to_owned(),
    };
    world.ask(open).unwrap();
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
    world.run(120);
    assert_eq!(world.runs(), ["v2", "v1", "v1", "v1", "v1"]);
    insta::assert_snapshot!(said(&world), @"batch 2 of 3 waits for gate slo: https://ci.example.org/gates/slo has answered closed, and is asked every 10s: it burns");
}

#[test]
fn an_answer_that_comes_after_the_batch_has_changed_is_nobodys() {
    let mut world = on_v1(with(vec![asked("slo", Before::Each)]));
    // Of the question before the first batch one answer comes at once, and the next is on its way for four minutes.
    answers(&mut world, "slo", 0, word(GateVerdict::Closed, ""));
    let id = world.release("v2").unwrap();
    waits(&mut world, &id);
    answers(&mut world, "slo", 240, word(GateVerdict::Open, "of the first"));
    world.run(12);
    answers(&mut world, "slo", 0, word(GateVerdict::Open, "at last"));
    world.until("the canary", |world| world.runs()[0] == "v2");
    answers(&mut world, "slo", 0, word(GateVerdict::Closed, ""));
    world.run(900);
    assert!(world.doors.came.iter().any(|(asked, came, ..)| came - asked == 240), "it has come");
    assert_eq!(world.runs(), ["v2", "v1", "v1", "v1", "v1"]);
}

#[test]
fn what_was_answered_too_long_ago_counts_no_more_and_the_deadline_runs_from_it() {
    let mut world = on_v1(with(vec![asked("slo", Before::Second), gate("qa", Before::Second)]));
    answers(&mut world, "slo", 0, word(GateVerdict::Open, ""));
    let id = world.release("v2").unwrap();
    waits(&mut world, &id);
    let (rollout, gate, reason) = (id.clone(), gate("qa", Before::Second).name, "we look".to_owned());
    let verdict = GateVerdict::Closed;
    world.ask(Action::AnswerGate { rollout, gate, batch: None, verdict, reason }).unwrap();
    world.run(300);
    assert!(!said(&world).contains("slo"), "it is open");
    // One question in vain takes nothing away, and several do.
    answers(&mut world, "slo", 0, Err("it is not to be reached".to_owned()));
    world.run(15);
    assert!(!said(&world).contains("slo"), "{}", said(&world));
    world.run(20);
    insta::assert_snapshot!(said(&world), @r"
    batch 2 of 3 waits for gate qa: anna has said closed at 2027-01-15 08:00:57 UTC: we look; `ctl gate open qa --reason …` opens it
    batch 2 of 3 waits for gate slo: https://ci.example.org/gates/slo has not answered for 35s of 10m, after which the rollout pauses: it is not to be reached
    ");
    world.until("a pause", |world| world.word(&id) == StatusWord::Paused);
    insta::assert_snapshot!(world.end_reason(&id), @"gate slo has had no answer from https://ci.example.org/gates/slo for 10m (it is not to be reached), and batch 2 of 3 waits for it: `ctl resume` asks again, `ctl promote` overrules the gates, `ctl rollback` goes back");
}

#[test]
fn a_question_that_is_lost_is_asked_again_and_its_late_answer_is_nobodys() {
    let mut world = on_v1(with(vec![asked("slo", Before::Second)]));
    answers(&mut world, "slo", 50, word(GateVerdict::Open, ""));
    let id = world.release("v2").unwrap();
    waits(&mut world, &id);
    world.run(49);
    assert_eq!(world.doors.asked.len(), 2, "five and thirty seconds after the first");
    world.run(3);
    assert_eq!(world.runs(), ["v2", "v1", "v1", "v1", "v1"]);
}

#[test]
fn one_that_says_no_has_the_release_go_back() {
    let mut world = on_v1(with(vec![asked("slo", Before::Second)]));
    answers(&mut world, "slo", 0, word(GateVerdict::Failed, "the basket is empty"));
    let id = world.release("v2").unwrap();
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    insta::assert_snapshot!(world.end_reason(&id), @"gate slo says no, by https://ci.example.org/gates/slo: the basket is empty");
}

#[test]
fn nobody_answers_for_one_that_is_asked_and_promote_overrules_it() {
    let mut world = on_v1(with(vec![asked("slo", Before::Second)]));
    answers(&mut world, "slo", 0, word(GateVerdict::Closed, "it burns"));
    let id = world.release("v2").unwrap();
    waits(&mut world, &id);
    let (gate, reason) = (gate("slo", Before::Second).name, "we looked".to_owned());
    let open =
        Action::AnswerGate { rollout: id.clone(), gate, batch: None, verdict: GateVerdict::Open, reason };
    insta::assert_snapshot!(world.ask(open).unwrap_err(), @"gate slo is asked by the controller, at https://ci.example.org/gates/slo, and nobody else answers for it: `ctl promote` overrules the gates, `ctl pause` holds the rollout, `ctl rollback` goes back");
    let account = explain::rollout(
        &world.state,
        &landfall_controller_core::reason::PlanningReport::default(),
        &id,
        world.now,
    );
    let next: Vec<String> = account.unwrap().next.into_iter().map(|next| next.command).collect();
    assert_eq!(next[0], format!("ctl promote {id}"), "{next:?}");
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    insta::assert_snapshot!(passed(&world).join("\n"), @"slo is closed, by https://ci.example.org/gates/slo: it burns");
}

#[test]
fn a_release_that_asks_where_it_may_not_is_refused_before_anything_begins() {
    let elsewhere = |url: &str| {
        let mut gate = asked("slo", Before::Second);
        gate.ask.as_mut().unwrap().url = url.parse().unwrap();
        gate
    };
    let mut world = on_v1(with(vec![elsewhere("http://169.254.169.254/latest?token=1")]));
    let before = world.store.clone();
    let plan = preview(&world.state, &World::request("v2"), world.now);
    insta::assert_snapshot!(plan.unwrap_err(), @r#"gate slo of v2 is asked at http://169.254.169.254/latest?token=1, and this controller may not ask there: whoever runs it adds `[[gates]]` with `url = "http://169.254.169.254/latest"`, or with what it lies below, to controller.toml, and restarts it"#);
    assert!(matches!(world.release("v2"), Err(Refusal::GateNotAllowed { .. })));
    assert_eq!(world.store, before);
    // Nor is it asked for a release that was in force before that was forbidden; it holds all the same.
    world.publish("v3", 3, None, with(vec![asked("slo", Before::Second)]));
    answers(&mut world, "slo", 0, word(GateVerdict::Open, ""));
    world.must_succeed("v3");
    world.publish("v4", 4, None, strategy());
    world.state.allow_gates(Allowed::default());
    let plan = preview(&world.state, &World::request("v4"), world.now).unwrap();
    assert!(!plan.gates[0].can_answer);
    let asked = world.doors.asked.len();
    let id = world.release("v4").unwrap();
    waits(&mut world, &id);
    insta::assert_snapshot!(said(&world), @"batch 2 of 3 waits for gate slo: https://ci.example.org/gates/slo has not answered for 1s of 10m, after which the rollout pauses: controller.toml does not allow that it is asked");
    world.until("a pause", |world| world.word(&id) == StatusWord::Paused);
    assert_eq!(world.doors.asked.len(), asked);
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn a_clock_that_is_set_back_has_all_gates_asked_anew() {
    let mut world = on_v1(with(vec![asked("slo", Before::Second), gate("qa", Before::Second)]));
    answers(&mut world, "slo", 0, word(GateVerdict::Open, ""));
    let id = world.release("v2").unwrap();
    waits(&mut world, &id);
    world.doors.answers.clear();
    let asked = world.doors.asked.len();
    world.set_back(Duration::from_secs(3600));
    world.run(5);
    assert_eq!(world.doors.asked.len(), asked + 1, "at once");
    assert!(said(&world).contains("/slo has not answered"), "{}", said(&world));
    assert_eq!(world.word(&id), StatusWord::Waiting);
}

/// The release in force has as many as one may, and the next brings as many of its own.
#[test]
fn no_more_than_so_many_are_asked_at_the_same_time_and_each_has_its_turn() {
    let names = |letter: char| (0..16).map(|number| format!("{letter}{number:02}")).collect::<Vec<_>>();
    let gates = |letter| with(names(letter).iter().map(|name| asked(name, Before::Second)).collect());
    let mut world = on_v1(gates('a'));
    names('a').iter().for_each(|name| answers(&mut world, name, 0, word(GateVerdict::Open, "")));
    world.must_succeed("v2");
    world.publish("v3", 3, None, gates('b'));
    // Those of the release in force take their time, and the others do not come to harm by it.
    names('a').iter().for_each(|name| answers(&mut world, name, 4, word(GateVerdict::Open, "")));
    names('b').iter().for_each(|name| answers(&mut world, name, 4, word(GateVerdict::Open, "")));
    let before = world.doors.asked.len();
    let id = world.release("v3").unwrap();
    waits(&mut world, &id);
    assert_eq!(world.doors.asked.len() - before, AT_ONCE);
    assert!(
        world.doors.asked[before..].iter().all(|(_, question)| question.about.gate.as_str().starts_with('a'))
    );
    world.run(6);
    let asked = &world.doors.asked[before + AT_ONCE..];
    assert!(asked[..AT_ONCE].iter().all(|(_, question)| question.about.gate.as_str().starts_with('b')));
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

/// Something that happens at the gates of a rollout.
#[derive(Debug, Clone, Copy)]
enum Turn {
    Answers(GateVerdict, u64),
    Silent,
    Runs(u64),
    Pause,
    Resume,
    Crash,
    SetBack(u64),
}

fn turns() -> impl proptest::strategy::Strategy<Value = Vec<Turn>> {
    let verdict = prop_oneof![4 => Just(GateVerdict::Open), 4 => Just(GateVerdict::Closed)];
    let turn = prop_oneof![
        6 => (verdict, prop_oneof![Just(0u64), 0u64..60]).prop_map(|(verdict, after)| Turn::Answers(verdict, after)),
        2 => Just(Turn::Silent),
        8 => (1u64..60).prop_map(Turn::Runs),
        1 => Just(Turn::Pause),
        3 => Just(Turn::Resume),
        1 => Just(Turn::Crash),
        1 => (1u64..7200).prop_map(Turn::SetBack),
    ];
    prop::collection::vec(turn, 10..60)
}

/// Since which second each batch waits, and has been let begin.
fn held(world: &World) -> Option<u32> {
    let rollout = world.state.rollouts().find(|rollout| !rollout.ended())?;
    match rollout.status.stage() {
        Some(Stage::Gated { at }) => Some(at.next),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever happens: a batch begins on an answer to a question of its own, that was asked since it waits and is not
    /// older than what counts, and on none that said otherwise later.
    #[test]
    fn a_batch_begins_on_a_fresh_answer_of_its_own(turns in turns()) {
        let mut world = on_v1(with(vec![asked("slo", Before::Each)]));
        let id = world.release("v2").unwrap();
        let mut since = None;
        for turn in turns {
            let runs = match turn {
                Turn::Answers(verdict, after) => {
                    answers(&mut world, "slo", after, word(verdict, ""));
                    1
                }
                Turn::Silent => {
                    world.doors.answers.clear();
                    1
                }
                Turn::Runs(seconds) => seconds,
                Turn::Pause => {
                    let _ = world.ask(Action::Pause { rollout: id.clone(), reason: "lunch".to_owned() });
                    1
                }
                Turn::Resume => {
                    let _ = world.ask(Action::Resume { rollout: id.clone(), reason: String::new() });
                    1
                }
                Turn::Crash => {
                    world.crash_controller();
                    1
                }
                Turn::SetBack(seconds) => {
                    world.set_back(Duration::from_secs(seconds));
                    1
                }
            };
            for _ in 0..runs {
                let before = held(&world);
                if before.is_some() && since.is_none_or(|(batch, _)| Some(batch) != before) {
                    since = before.map(|batch| (batch, world.doors.seconds));
                }
                let passed = passed(&world).len();
                world.run(1);
                if self::passed(&world).len() == passed {
                    continue;
                }
                let (batch, began) = since.take().expect("it waited");
                let second = world.doors.seconds;
                let mut own = world.doors.came.iter().rev().filter(|(asked, _, question, came)| {
                    question.about.batch == batch && *asked > began && came.is_ok()
                });
                let newest = own.next().map(|(asked, _, _, came)| (*asked, came.clone()));
                let (asked, came) = newest.expect("an answer");
                prop_assert!(second - asked <= 25, "it is {} s old", second - asked);
                prop_assert_eq!(came.unwrap().verdict, GateVerdict::Open);
            }
        }
        // And whoever answers in the end lets it end.
        answers(&mut world, "slo", 0, word(GateVerdict::Open, ""));
        for _ in 0..8 {
            world.run(300);
            let _ = world.ask(Action::Resume { rollout: id.clone(), reason: String::new() });
        }
        prop_assert!(world.rollout(&id).ended(), "{:?}", world.rollout(&id).status);
    }
}
