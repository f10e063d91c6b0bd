//! The canary: which hosts it is, how long it is held, and who lets the others follow.

use std::collections::BTreeSet;

use landfall_common::strategy::{Before, Canary, Strategy, StrategyKind};
use landfall_common::{Duration, GateName};
use landfall_controller_core::command::{Action, Overrides, RollRequest};
use landfall_controller_core::gate::GateVerdict;
use landfall_controller_core::log::LogEvent;
use landfall_controller_core::rollout::{Stage, StatusWord};
use landfall_controller_core::{Refusal, preview};

use crate::hosts::Behaviour;
use crate::world::{World, host_id, name, strategy};

/// A fleet on v1, and a published v2.
fn on_v1(hosts: usize, strategy: Strategy) -> World {
    let mut world = World::new(hosts);
    world.publish(
        "v1",
        1,
        None,
        Strategy { canary_hold: Duration::ZERO, auto_promote: true, ..strategy.clone() },
    );
    world.publish("v2", 2, None, strategy);
    world.must_succeed("v1");
    world
}

fn held(seconds: u64) -> Strategy {
    Strategy { canary_hold: Duration::from_secs(seconds), ..strategy() }
}

fn by_hand() -> Strategy {
    Strategy { auto_promote: false, ..strategy() }
}

fn batches(world: &World, request: &RollRequest) -> Vec<String> {
    let plan = preview(&world.state, request, world.now).unwrap();
    let hosts = |hosts: &[landfall_common::HostId]| {
        hosts
            .iter()
            .map(|host| host.as_str().trim_start_matches("web-").to_owned())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let line = |batch: &landfall_controller_core::preview::Batch| {
        let canary = if batch.canary { "canary " } else { "" };
        format!("{canary}{} {}", batch.why, hosts(&batch.hosts)).trim().to_owned()
    };
    plan.batches.iter().map(line).collect()
}

#[test]
fn the_canary_is_a_number_a_share_or_those_with_a_label() {
    let mut world = World::new(6);
    world.publish("v1", 1, None, strategy());
    let with = |canary: &str, kind: StrategyKind| {
        let overrides =
            Overrides { canary: Some(canary.parse().unwrap()), kind: Some(kind), ..Overrides::default() };
        batches(&world, &RollRequest { overrides, ..World::request("v1") })
    };
    assert_eq!(with("2", StrategyKind::Rolling), ["canary  01 02", "03 04", "05 06"]);
    assert_eq!(with("50%", StrategyKind::Rolling), ["canary  01 02 03", "04 05", "06"]);
    assert_eq!(with("role=canary", StrategyKind::Rolling), ["canary role=canary 01 03 05", "02 04", "06"]);
    assert_eq!(with("1", StrategyKind::OneAtATime), ["canary  01", "02", "03", "04", "05", "06"]);
    assert_eq!(with("1", StrategyKind::AllAtOnce), ["01 02 03 04 05 06"]);
}

#[test]
fn a_canary_of_hosts_that_do_not_exist_is_refused() {
    let mut world = World::new(2);
    world.publish("v1", 1, None, Strategy { canary: "role=guinea-pig".parse().unwrap(), ..strategy() });
    let refusal = world.release("v1").unwrap_err();
    insta::assert_snapshot!(refusal, @"the strategy does not hold: canary is role=guinea-pig, and no host of tenants in production has these labels; `ctl hosts label HOST KEY=VALUE` gives them to one, or name other hosts with `--canary`");
    // Whoever goes back is not kept from it by a canary that he does not need.
    world.publish("v2", 2, None, strategy());
    world.must_succeed("v2");
}

#[test]
fn a_canary_is_held_until_it_has_been_healthy_for_long_enough() {
    let mut world = on_v1(5, held(120));
    let id = world.release("v2").unwrap();
    world.until("a held canary", |w| w.sentences.iter().any(|sentence| sentence.contains("held")));
    let from = world.now;
    assert_eq!(world.word(&id), StatusWord::Running);
    insta::assert_snapshot!(world.sentences.join("\n"), @r"
    the canary is held until it has been healthy for 2m; batch 2 of 3 follows by itself
    batch 1 of 3 waits: web-01 healthy for 10s of 2m
    ");
    // The controller is away for a while: the host has counted on.
    world.run(30);
    world.crash_controller();
    world.until("the next batch", |w| w.runs()[1] == "v2");
    let took = world.now.since(from);
    assert!(took >= Duration::from_secs(100) && took <= Duration::from_secs(140), "{took:?}");
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn a_canary_that_turns_sick_while_it_is_held_goes_back_by_itself() {
    let mut world = on_v1(5, held(600));
    let id = world.release("v2").unwrap();
    world.until("a held canary", |w| w.sentences.iter().any(|sentence| sentence.contains("held")));
    world.run(60);
    world.host(1).behaviour.insert(name("v2"), Behaviour::Flaps);
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    assert_eq!(world.runs(), ["v1"; 5]);
    assert!(world.hosts.values().skip(1).all(|host| host.activations == 1), "only the canary was touched");
    insta::assert_snapshot!(world.end_reason(&id), @"1 host failed, the budget allows 0: web-01 at health: it had committed the release and was not healthy for 10s at a stretch since 30s ago");
}

#[test]
fn a_canary_that_is_never_healthy_for_long_enough_pauses_the_rollout() {
    let mut world = on_v1(3, Strategy { progress_deadline: Duration::from_secs(60), ..held(120) });
    let id = world.release("v2").unwrap();
    world.until("a held canary", |w| w.sentences.iter().any(|sentence| sentence.contains("held")));
    while world.word(&id) == StatusWord::Running {
        world.run(40);
        world.host(1).healthy_since = world.now;
    }
    assert_eq!(world.word(&id), StatusWord::Paused);
    insta::assert_snapshot!(world.end_reason(&id), @"the canary has been held for 3m, and was never healthy for 2m at a stretch: batch 1 of 2 waits: web-01 healthy for 20s of 2m. `ctl resume` waits on, `ctl rollback` goes back");
    assert_eq!(world.runs(), ["v2", "v1", "v1"]);
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn the_others_follow_when_somebody_promotes_the_canary_and_no_deadline_runs_meanwhile() {
    let mut world = on_v1(4, by_hand());
    let id = world.release("v2").unwrap();
    let early = world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap_err();
    insta::assert_snapshot!(early, @"rollout r-8 is staging: its canary is not proven yet");
    world.until("a proven canary", |w| w.word(&id) == StatusWord::Waiting);
    insta::assert_snapshot!(world.sentences.join("\n"), @"the canary is proven; `ctl promote r-8` lets batch 2 of 3 follow, `ctl rollback` goes back");
    world.run(3600);
    assert_eq!(world.word(&id), StatusWord::Waiting, "a person may take an hour");
    world.crash_controller();
    world.run(5);
    assert_eq!(world.runs(), ["v2", "v1", "v1", "v1"]);
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    let promoted = |entry: &landfall_controller_core::log::NewEntry| {
        matches!(&entry.event, LogEvent::RolloutPromoted { batch: 2, .. })
    };
    assert_eq!(world.log.iter().filter(|entry| promoted(entry)).count(), 1);
    let late = world.ask(Action::Promote { rollout: id, reason: String::new() }).unwrap_err();
    assert!(matches!(late, Refusal::Ended { .. }), "{late}");
}

#[test]
fn where_nothing_was_in_force_nobody_is_told_to_go_back() {
    let mut world = World::new(3);
    world.publish("v1", 1, None, by_hand());
    let id = world.release("v1").unwrap();
    world.until("a proven canary", |w| w.word(&id) == StatusWord::Waiting);
    insta::assert_snapshot!(world.sentences.join("\n"), @"the canary is proven; `ctl promote r-5` lets batch 2 of 2 follow, `ctl abort` leaves the hosts as they are");
    world.ask(Action::Abort { rollout: id, go_back: false, reason: String::new() }).unwrap();
}

#[test]
fn a_promoted_canary_still_needs_its_evidence() {
    let mut world = on_v1(3, Strategy { canary_hold: Duration::from_secs(60), ..by_hand() });
    let id = world.release("v2").unwrap();
    world.until("a proven canary", |w| w.word(&id) == StatusWord::Waiting);
    insta::assert_snapshot!(world.sentences.join("\n"), @r"
    the canary is held until it has been healthy for 1m; `ctl promote r-7` lets batch 2 of 2 follow, `ctl rollback` goes back
    batch 1 of 2 waits: web-01 healthy for 10s of 1m
    ");
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.word(&id), StatusWord::Running);
    insta::assert_snapshot!(world.sentences.join("\n"), @r"
    the canary is held until it has been healthy for 1m; it was promoted, and batch 2 of 2 follows
    batch 1 of 2 waits: web-01 healthy for 10s of 1m
    ");
    world.cut.push(host_id(1));
    world.run(90);
    assert_eq!(world.runs(), ["v2", "v1", "v1"], "no data is not health");
    world.cut.clear();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

/// Flagger #1801: nothing went back while it waited at its gate.
#[test]
fn a_rollout_that_waits_for_its_promotion_can_go_back_and_does_so_by_itself() {
    let mut world = on_v1(3, by_hand());
    let id = world.release("v2").unwrap();
    world.until("a proven canary", |w| w.word(&id) == StatusWord::Waiting);
    assert_eq!(world.rollback(None).unwrap(), id);
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    assert_eq!(world.runs(), ["v1"; 3]);
    let id = world.release("v2").unwrap();
    world.until("a proven canary", |w| w.word(&id) == StatusWord::Waiting);
    world.host(1).behaviour.insert(name("v2"), Behaviour::Flaps);
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
}

/// Nomad #10465: a canary that could not be placed stalled its deployment for ever.
#[test]
fn a_canary_that_never_starts_ends_the_rollout() {
    let mut world = on_v1(4, Strategy { canary: "role=canary".parse().unwrap(), ..by_hand() });
    for number in [1, 3] {
        world.host(number).up = false;
    }
    world.run(60);
    let id = world.release("v2").unwrap();
    assert_eq!(world.ended(&id), StatusWord::Failed);
    assert_eq!(world.runs()[1], "v1");
    insta::assert_snapshot!(world.end_reason(&id), @"nothing got on for 5m: batch 1 of 2 waits: web-01 has not been heard of for 8m; nothing was activated");
}

#[test]
fn with_its_hosts_a_canary_takes_its_evidence_and_a_person_decides() {
    let mut world = on_v1(3, by_hand());
    let id = world.release("v2").unwrap();
    world.until("a proven canary", |w| w.word(&id) == StatusWord::Waiting);
    world.ask(Action::Remove { host: host_id(1), reason: "scrapped".to_owned() }).unwrap();
    world.hosts.remove(&host_id(1));
    world.run(60);
    assert_eq!(world.word(&id), StatusWord::Waiting);
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

/// Whoever joins the canary while its gate is asked is held like it.
#[test]
fn who_comes_to_a_canary_late_is_held_before_its_gate_lets_others_follow() {
    let gates = vec![crate::gates::gate("qa", Before::Second)];
    let mut world = on_v1(5, strategy());
    world.publish("v3", 3, None, Strategy { gates, canary: Canary::Count(2), ..held(60) });
    let hosts: BTreeSet<_> = [host_id(2)].into();
    let exclude = Action::Exclude { hosts: hosts.clone(), rollout: None, reason: "broken".to_owned() };
    let id = world.release("v3").unwrap();
    world.ask(exclude).unwrap();
    world.until("the gate", |w| matches!(w.rollout(&id).status.stage(), Some(Stage::Gated { .. })));
    let (gate, reason) = (GateName::new("qa").unwrap(), "we looked".to_owned());
    let verdict = GateVerdict::Open;
    world.ask(Action::Include { hosts, reason: String::new() }).unwrap();
    world.ask(Action::AnswerGate { rollout: id.clone(), gate, batch: None, verdict, reason }).unwrap();
    world.until("it is in the canary", |w| w.runs()[1] == "v3");
    world.run(50);
    assert_eq!(world.runs(), ["v3", "v3", "v1", "v1", "v1"]);
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn what_is_paused_at_its_canary_can_be_promoted_and_goes_on_when_resumed() {
    let mut world = on_v1(3, by_hand());
    let id = world.release("v2").unwrap();
    world.until("a proven canary", |w| w.word(&id) == StatusWord::Waiting);
    world.ask(Action::Pause { rollout: id.clone(), reason: "lunch".to_owned() }).unwrap();
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    world.run(60);
    assert_eq!((world.word(&id), world.runs()[1].as_str()), (StatusWord::Paused, "v1"));
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn a_canary_that_is_the_whole_fleet_has_nobody_to_be_held_for() {
    let mut world = on_v1(1, by_hand());
    world.must_succeed("v2");
    world.publish("v3", 3, None, Strategy { canary: Canary::Percent { percent: 100 }, ..held(600) });
    world.must_succeed("v3");
}

#[test]
fn the_way_back_by_hand_has_no_canary() {
    let mut world = on_v1(3, Strategy { canary_hold: Duration::from_secs(60), ..by_hand() });
    world.publish("v3", 3, None, strategy());
    let id = world.release("v2").unwrap();
    world.until("a proven canary", |w| w.word(&id) == StatusWord::Waiting);
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    world.must_succeed("v3");
    let back = world.rollback(Some("v2")).unwrap();
    assert_eq!(world.ended(&back), StatusWord::Succeeded);
    assert_eq!(world.runs(), ["v2"; 3]);
}

/// Where all others were cordoned the plan is its canary alone, and they do not join that.
#[test]
fn whoever_is_uncordoned_comes_after_the_canary() {
    let mut world = on_v1(4, Strategy { canary_hold: Duration::from_secs(60), ..by_hand() });
    let others: BTreeSet<_> = (2..=4).map(host_id).collect();
    world.ask(Action::Cordon { hosts: others.clone(), reason: "a new disk".to_owned() }).unwrap();
    let id = world.release("v2").unwrap();
    world.until("the canary changes", |w| w.hosts[&host_id(1)].activations == 2);
    world.ask(Action::Uncordon { hosts: others, reason: String::new() }).unwrap();
    world.run(120);
    assert_eq!(world.runs(), ["v2", "v1", "v1", "v1"]);
    assert_eq!(world.word(&id), StatusWord::Waiting);
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(world.runs(), ["v2"; 4]);
}

/// A promotion is for the canary that there is.
#[test]
fn a_promotion_does_not_count_for_a_canary_that_was_left_out_since() {
    let mut world = on_v1(4, Strategy { canary_hold: Duration::from_secs(600), ..by_hand() });
    let id = world.release("v2").unwrap();
    world.until("it waits", |w| w.word(&id) == StatusWord::Waiting);
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    world.run(5);
    let (hosts, reason) = ([host_id(1)].into(), "it is slow".to_owned());
    world.ask(Action::Exclude { hosts, rollout: None, reason }).unwrap();
    world.run(1200);
    assert_eq!(world.runs(), ["v2", "v1", "v1", "v1"]);
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}
