//! Labels of hosts change, before their batch comes, while they change, and after.

use std::collections::BTreeSet;

use landfall_common::strategy::{Amount, Canary, Strategy};
use landfall_common::{Duration, HostId, LabelKey, RolloutId};
use landfall_controller_core::command::{Action, IfHeld, RollRequest};
use landfall_controller_core::log::LogEvent;
use landfall_controller_core::member::MemberState;
use landfall_controller_core::rollout::{Promotion, Stage, StatusWord};
use landfall_controller_core::{Refusal, preview};

use crate::world::{World, host_id, name, place, strategy};

/// `zone=b` sets a label, `zone-` takes it away.
pub fn label(hosts: &[usize], labels: &[&str]) -> Action {
    let key = |text: &str| LabelKey::new(text).unwrap();
    let set = labels.iter().filter_map(|text| text.split_once('='));
    let removed = labels.iter().filter_map(|text| text.strip_suffix('-'));
    Action::Label {
        hosts: hosts.iter().map(|number| host_id(*number)).collect(),
        set: set.map(|(label, value)| (key(label), value.to_owned())).collect(),
        removed: removed.map(key).collect(),
        reason: String::new(),
    }
}

fn by_zone() -> Strategy {
    Strategy {
        spread: Some(LabelKey::new("zone").unwrap()),
        max_unavailable: Amount::Percent(100),
        batch: Amount::Count(2),
        canary: Canary::Count(0),
        ..strategy()
    }
}

/// Those with `role=canary` first, which are odd.
fn by_role(hold_s: u64) -> Strategy {
    Strategy {
        canary: "role=canary".parse().unwrap(),
        canary_hold: Duration::from_secs(hold_s),
        batch: Amount::Percent(100),
        max_unavailable: Amount::Percent(100),
        ..strategy()
    }
}

fn on_v1(hosts: usize, knobs: Strategy) -> World {
    let mut world = World::new(hosts);
    world.publish("v1", 1, None, strategy());
    world.publish("v2", 2, None, knobs);
    world.must_succeed("v1");
    world
}

fn batches(world: &World, id: &RolloutId) -> String {
    let of = world.rollout(id).batches;
    let line = |batch: u32| {
        let members = world.state.members(id).filter(|member| member.batch == batch);
        let hosts: Vec<_> =
            members.map(|member| member.host.as_str().trim_start_matches("web-").to_owned()).collect();
        format!("{batch}: {}", hosts.join(" "))
    };
    (1..=of).map(line).collect::<Vec<_>>().join(", ")
}

fn state_of(world: &World, id: &RolloutId, host: usize) -> MemberState {
    world.state.members(id).find(|member| member.host == host_id(host)).unwrap().state.clone()
}

#[test]
fn a_host_whose_batch_has_not_come_changes_with_its_new_group() {
    let mut world = on_v1(9, by_zone());
    let id = world.release("v2").unwrap();
    world.until("zone a in change", |w| matches!(state_of(w, &id, 2), MemberState::Granted { .. }));
    assert_eq!(batches(&world, &id), "1: 02 06, 2: 01 03, 3: 05 07, 4: 09, 5: 04 08");
    // Where there is a place in a batch to come of its zone; where there is none, in the end.
    world.ask(label(&[4], &["zone=b"])).unwrap();
    assert_eq!(batches(&world, &id), "1: 02 06, 2: 01 03, 3: 05 07, 4: 04 09, 5: 08");
    world.ask(label(&[9], &["zone=c"])).unwrap();
    world.ask(label(&[1], &["zone=a"])).unwrap();
    assert_eq!(batches(&world, &id), "1: 02 06, 2: 03, 3: 05 07, 4: 04, 5: 08, 6: 09, 7: 01");
    // Back in time is back in its place.
    world.ask(label(&[9], &["zone=b"])).unwrap();
    assert_eq!(batches(&world, &id), "1: 02 06, 2: 03 09, 3: 05 07, 4: 04, 5: 08, 6: , 7: 01");
    let told: Vec<String> = world.log.iter().map(|entry| entry.event.summary()).collect();
    let told: Vec<&String> = told.iter().filter(|line| line.contains("web-09")).collect();
    insta::assert_debug_snapshot!(told, @r#"
    [
        "web-09 joined tenants in production",
        "web-09: v1 is active and healthy",
        "labels of web-09 changed, zone=c instead of b",
        "by its labels web-09 changes with batch 6 of 6 of rollout r-13",
        "labels of web-09 changed, zone=b instead of c",
        "by its labels web-09 changes with batch 2 of 7 of rollout r-13",
    ]
    "#);
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(world.runs(), ["v2"; 9]);
}

#[test]
fn a_host_that_is_in_change_counts_where_its_label_says_now() {
    let mut world = on_v1(9, by_zone());
    let id = world.release("v2").unwrap();
    world.until("zone a in change", |w| matches!(state_of(w, &id, 2), MemberState::Granted { .. }));
    world.ask(label(&[2], &["zone=b"])).unwrap();
    assert_eq!(batches(&world, &id), "1: 02 06, 2: 01 03, 3: 05 07, 4: 09, 5: 04 08");
    // It goes on with what it was let do, and what has changed stays changed, whatever is said of it.
    world.until("it has changed", |w| matches!(state_of(w, &id, 2), MemberState::Committed { .. }));
    world.ask(label(&[2], &["zone-"])).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(world.hosts[&host_id(2)].activations, 2);
}

#[test]
fn no_batch_becomes_larger_than_the_strategy_says_of_those_that_take_part() {
    let mut world = on_v1(12, Strategy { batch: Amount::Percent(34), ..by_zone() });
    let (hosts, reason) = ((7..=12).map(host_id).collect(), "later".to_owned());
    world.ask(Action::Cordon { hosts, reason }).unwrap();
    let id = world.release("v2").unwrap();
    world.until("zone a in change", |w| matches!(state_of(w, &id, 2), MemberState::Granted { .. }));
    let largest = |world: &World| {
        let taking_part = || world.state.members(&id).filter(|member| member.left_out.is_none());
        taking_part().map(|one| taking_part().filter(|other| other.batch == one.batch).count()).max()
    };
    assert_eq!(largest(&world), Some(2));
    world.ask(label(&[1, 3, 4, 5], &["zone=c"])).unwrap();
    assert_eq!(largest(&world), Some(2), "{}", batches(&world, &id));
}

#[test]
fn the_evidence_of_a_held_canary_is_the_hosts_that_it_was() {
    let mut world = on_v1(6, by_role(60));
    let id = world.release("v2").unwrap();
    world.until("a held canary", |w| {
        matches!(w.rollout(&id).status.stage(), Some(Stage::Canary { promotion: Promotion::ByItself }))
    });
    assert_eq!(batches(&world, &id), "1: 01 03 05, 2: 02 04 06");
    // Nobody else becomes a canary in silence, and nobody who was one is not any more.
    world.ask(label(&[1, 3, 5], &["role-"])).unwrap();
    world.ask(label(&[2], &["role=canary"])).unwrap();
    assert_eq!(batches(&world, &id), "1: 01 03 05, 2: 02 04 06");
    world.run(20);
    assert!(matches!(world.rollout(&id).status.stage(), Some(Stage::Canary { .. })));
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn a_canary_that_nobody_is_left_in_waits_for_a_word() {
    let mut world = on_v1(6, by_role(0));
    world.cut.push(host_id(2));
    world.run(200);
    let id = world.release("v2").unwrap();
    world.until("staging", |w| matches!(w.rollout(&id).status.stage(), Some(Stage::Staging)));
    world.ask(label(&[1, 3, 5], &["role=web"])).unwrap();
    assert_eq!(batches(&world, &id), "1: , 2: 01 02 03 04 05 06");
    world.until("a word is awaited", |w| {
        matches!(w.rollout(&id).status.stage(), Some(Stage::Canary { promotion: Promotion::Awaited }))
    });
    world.run(60);
    insta::assert_snapshot!(world.sentences[0], @"no host of the canary is left, so that nothing was proven; `ctl promote r-10` lets batch 2 of 2 follow, `ctl rollback` goes back");
    assert_eq!(world.runs(), ["v1"; 6]);
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    world.cut.clear();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn whoever_gets_the_canarys_label_before_anything_has_begun_is_one() {
    let mut world = on_v1(6, by_role(0));
    let id = world.release("v2").unwrap();
    world.until("staging", |w| matches!(w.rollout(&id).status.stage(), Some(Stage::Staging)));
    world.ask(label(&[2], &["role=canary"])).unwrap();
    world.ask(label(&[1], &["role-"])).unwrap();
    assert_eq!(batches(&world, &id), "1: 02 03 05, 2: 01 04 06");
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn what_stands_in_line_is_planned_by_the_labels_of_its_turn() {
    let mut world = on_v1(6, by_role(0));
    world.publish("v3", 3, None, by_role(0));
    let id = world.release("v2").unwrap();
    let queued = world.roll(RollRequest { if_held: IfHeld::Queue, ..World::request("v3") }).unwrap();
    world.ask(label(&[3, 5], &["role-"])).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    world.until("its turn", |w| w.rollout(&queued).in_line().is_none());
    assert_eq!(batches(&world, &queued), "1: 01, 2: 02 03 04 05 06");
    assert_eq!(world.ended(&queued), StatusWord::Succeeded);
}

#[test]
fn a_plan_that_was_shown_is_refused_once_labels_that_decide_have_changed() {
    let mut world = on_v1(6, by_role(0));
    let shown = preview(&world.state, &World::request("v2"), world.now).unwrap();
    world.ask(label(&[1], &["role-"])).unwrap();
    let request = RollRequest { plan: Some(shown.id), ..World::request("v2") };
    assert_eq!(world.roll(request), Err(Refusal::PlanChanged { release: name("v2") }));
    let now = preview(&world.state, &World::request("v2"), world.now).unwrap();
    assert_eq!(now.batches[0].hosts, [host_id(3), host_id(5)]);
    world.ask(label(&[3, 5], &["role-"])).unwrap();
    let refusal = preview(&world.state, &World::request("v2"), world.now).unwrap_err();
    insta::assert_snapshot!(refusal, @"the strategy does not hold: canary is role=canary, and no host of tenants in production has these labels; `ctl hosts label HOST KEY=VALUE` gives them to one, or name other hosts with `--canary`");
}

#[test]
fn a_drill_stays_the_canarys() {
    let mut world = on_v1(6, by_role(0));
    world.must_succeed("v2");
    let asked = world.ask(Action::Drill { place: place(), to: None });
    let Ok(landfall_controller_core::command::Answer::Rollout { id }) = asked else { panic!("{asked:?}") };
    world.ask(label(&[1], &["role-"])).unwrap();
    assert_eq!(world.rollout(&id).batches, 1);
    assert_eq!(world.ended(&id), StatusWord::Rehearsed);
}

#[test]
fn what_is_said_again_changes_nothing_and_nonsense_is_refused() {
    let mut world = World::on_v1(2, strategy());
    let command = world.command(label(&[1], &["zone=c", "role-"]));
    world.send(&command).unwrap();
    let records: Vec<_> = world.state.records().collect();
    let entries = world.log.len();
    world.send(&command).unwrap();
    world.ask(label(&[1], &["zone=c", "role-", "colour-"])).unwrap();
    assert_eq!(world.log.len(), entries);
    let hosts: BTreeSet<HostId> = [host_id(1)].into();
    let now: Vec<_> = world.state.records().collect();
    assert_eq!(
        records
            .iter()
            .filter(|record| matches!(record.key(), landfall_controller_core::record::Key::Host(_)))
            .collect::<Vec<_>>(),
        now.iter()
            .filter(|record| matches!(record.key(), landfall_controller_core::record::Key::Host(_)))
            .collect::<Vec<_>>()
    );
    let logged = world.log.iter().find_map(|entry| match &entry.event {
        LogEvent::HostLabelled { .. } => Some(entry.event.summary()),
        _ => None,
    });
    insta::assert_snapshot!(logged.unwrap(), @"labels of web-01 changed, role=canary removed, zone=c instead of b");
    let many = (0..65).map(|number| (LabelKey::new(format!("l{number}")).unwrap(), String::new())).collect();
    let too_long = [(LabelKey::new("zone").unwrap(), "z".repeat(257))].into();
    let set =
        |set| Action::Label { hosts: hosts.clone(), set, removed: BTreeSet::new(), reason: String::new() };
    let refused = [
        label(&[1, 7], &["zone=d"]),
        label(&[], &["zone=d"]),
        label(&[1], &[]),
        label(&[1], &["zone=d", "zone-"]),
        set(many),
        set(too_long),
    ];
    let before: Vec<_> = world.state.records().collect();
    let refused: Vec<String> =
        refused.into_iter().map(|action| world.ask(action).unwrap_err().to_string()).collect();
    insta::assert_snapshot!(refused.join("\n"), @r"
    no host web-07 is enrolled
    name at least one host
    say which labels: KEY=VALUE sets one, KEY- takes one away
    label zone is to be set and taken away at once; say one of the two
    web-01 would have 66 labels, and may have 64; `ctl hosts label web-01 KEY-` takes others away
    label zone: its value is longer than 256 bytes
    ");
    assert_eq!(world.state.records().collect::<Vec<_>>(), before);
}
