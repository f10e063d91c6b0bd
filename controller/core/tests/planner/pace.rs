//! How many hosts change at once, of which group, and how soon after each other.

use std::collections::BTreeSet;

use landfall_common::strategy::{Amount, Canary, Strategy, StrategyKind, Window};
use landfall_common::{Duration, HostId, LabelKey};
use landfall_controller_core::command::Action;
use landfall_controller_core::member::MemberState;
use landfall_controller_core::preview;
use landfall_controller_core::rollout::StatusWord;

use crate::hosts::Behaviour;
use crate::world::{World, host_id, name, place, strategy};

fn sliding(batch: u32) -> Strategy {
    Strategy {
        window: Window::Sliding,
        batch: Amount::Count(batch),
        max_unavailable: Amount::Percent(100),
        canary: Canary::Count(0),
        ..strategy()
    }
}

fn by_zone() -> Strategy {
    Strategy {
        spread: Some(LabelKey::new("zone").unwrap()),
        max_unavailable: Amount::Percent(100),
        batch: Amount::Percent(100),
        canary: Canary::Count(0),
        ..strategy()
    }
}

/// A fleet on v1, and a published v2 with these knobs.
fn on_v1(hosts: usize, knobs: Strategy) -> World {
    let mut world = World::new(hosts);
    let at_once =
        Strategy { kind: StrategyKind::AllAtOnce, max_unavailable: Amount::Percent(100), ..strategy() };
    world.publish("v1", 1, None, at_once);
    world.publish("v2", 2, None, knobs);
    world.must_succeed("v1");
    world.most_out = 0;
    world
}

/// Those that are let go and have not said how it ended.
fn changing(world: &World) -> Vec<HostId> {
    let rollouts = world.state.rollouts().filter(|rollout| !rollout.ended());
    let members = rollouts.flat_map(|rollout| world.state.members(&rollout.id));
    members
        .filter(|m| matches!(m.state, MemberState::Granted { .. } | MemberState::Returning { .. }))
        .map(|member| member.host.clone())
        .collect()
}

fn zones(world: &World, hosts: &[HostId]) -> BTreeSet<Option<String>> {
    let label = LabelKey::new("zone").unwrap();
    let zone = |host: &HostId| world.state.host(host).unwrap().record.labels.get(&label).cloned();
    hosts.iter().map(zone).collect()
}

#[test]
fn in_a_sliding_window_a_host_begins_as_soon_as_another_is_proven() {
    let mut world = on_v1(6, sliding(2));
    // It is never done: the place beside it is taken again and again.
    world.host(1).behaviour.insert(name("v2"), Behaviour::Hangs);
    let id = world.release("v2").unwrap();
    world.until("two in change", |w| changing(w).len() == 2);
    insta::assert_snapshot!(world.sentences[0], @"2 may change at once: web-01 and web-02 do, web-03, web-04, web-05 and web-06 wait");
    world.until("all others", |w| w.runs().iter().filter(|release| *release == "v2").count() == 5);
    assert!(world.most_out <= 2, "{} were out", world.most_out);
    assert!(!world.rollout(&id).ended(), "one of them has not said how it ended");
}

#[test]
fn what_was_proven_and_is_lost_later_holds_no_place_in_the_window() {
    let mut world = on_v1(5, sliding(1));
    let id = world.release("v2").unwrap();
    world.until("the second in change", |w| changing(w) == [host_id(2)]);
    world.cut.push(host_id(1));
    world.until("the others", |w| w.runs().iter().skip(1).all(|release| release == "v2"));
    assert!(world.most_out <= 1);
    world.cut.clear();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn one_at_a_time_is_one_at_a_time_also_when_a_host_comes_late() {
    let knobs =
        Strategy { kind: StrategyKind::OneAtATime, max_unavailable: Amount::Percent(100), ..strategy() };
    let mut world = on_v1(5, knobs);
    world.cut.push(host_id(2));
    world.run(200);
    let id = world.release("v2").unwrap();
    world.until("the fourth in change", |w| changing(w) == [host_id(4)]);
    world.cut.clear();
    while !world.rollout(&id).ended() {
        world.tick();
        assert!(changing(&world).len() <= 1, "{:?}", changing(&world));
    }
    assert_eq!(world.word(&id), StatusWord::Succeeded);
}

#[test]
fn zone_by_zone_is_planned_and_a_host_without_the_label_comes_last() {
    let mut world = on_v1(9, Strategy { batch: Amount::Count(2), ..by_zone() });
    let plan = preview(&world.state, &World::request("v2"), world.now).unwrap();
    let line = |batch: &landfall_controller_core::preview::Batch| {
        let hosts: Vec<_> = batch.hosts.iter().map(|host| host.as_str().trim_start_matches("web-")).collect();
        format!("{}: {}", batch.why, hosts.join(" "))
    };
    let lines: Vec<_> = plan.batches.iter().map(line).collect();
    assert_eq!(lines, ["zone=a: 02 06", "zone=b: 01 03", "zone=b: 05 07", "zone=b: 09", "no zone: 04 08"]);
    world.must_succeed("v2");
}

#[test]
fn two_zones_never_change_at_once_there_and_back() {
    for window in [Window::Batch, Window::Sliding] {
        let mut world = on_v1(9, Strategy { window, canary: "role=canary".parse().unwrap(), ..by_zone() });
        world.host(8).behaviour.insert(name("v2"), Behaviour::Bad);
        let id = world.release("v2").unwrap();
        let mut most = 0;
        while !world.rollout(&id).ended() {
            world.tick();
            let changing = changing(&world);
            most = most.max(changing.len());
            assert!(zones(&world, &changing).len() <= 1, "{changing:?}");
        }
        assert_eq!(world.word(&id), StatusWord::RolledBack);
        assert!(most >= 4, "a zone changes together");
        assert_eq!(world.runs(), ["v1"; 9]);
    }
}

#[test]
fn a_host_that_comes_late_waits_for_the_zone_that_changes() {
    let mut world = on_v1(9, by_zone());
    world.cut.push(host_id(2));
    world.run(200);
    let id = world.release("v2").unwrap();
    world.until("zone b in change", |w| changing(w).contains(&host_id(1)));
    world.cut.clear();
    world.until("a wait", |w| w.sentences.iter().any(|sentence| sentence.contains("is in change, web-02")));
    insta::assert_snapshot!(world.sentences[0], @"zone=b is in change, web-02 waits");
    while !world.rollout(&id).ended() {
        world.tick();
        let changing = changing(&world);
        assert!(zones(&world, &changing).len() <= 1, "{changing:?}");
    }
    assert_eq!(world.word(&id), StatusWord::Succeeded);
}

#[test]
fn a_host_that_changes_its_zone_changes_with_its_new_one() {
    let mut world = on_v1(6, by_zone());
    let shown = preview(&world.state, &World::request("v2"), world.now).unwrap().id;
    let id = world.release("v2").unwrap();
    world.until("zone a in change", |w| changing(w).contains(&host_id(2)));
    let mut host = world.state.host(&host_id(6)).unwrap().record.clone();
    host.labels.insert(LabelKey::new("zone").unwrap(), "b".to_owned());
    world.ask(Action::Enrol { host, token: "t".to_owned() }).unwrap();
    assert_ne!(preview(&world.state, &World::request("v2"), world.now).unwrap().id, shown, "another plan");
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(world.runs(), ["v2"; 6]);
}

#[test]
fn a_new_host_does_not_take_the_release_in_force_beside_another_zone() {
    let mut world = on_v1(9, by_zone());
    let id = world.release("v2").unwrap();
    world.until("zone a in change", |w| changing(w).contains(&host_id(2)));
    world.enrol(11);
    world.run(6);
    assert!(changing(&world).contains(&host_id(2)));
    assert_eq!(world.hosts[&host_id(11)].activations, 0);
    insta::assert_snapshot!(world.sentences.last().unwrap(), @"zone=a is in change, web-11 waits");
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    world.run(120);
    assert_eq!(world.runs(), ["v2"; 10]);
}

#[test]
fn hosts_begin_a_while_after_each_other() {
    let knobs = Strategy { stagger: Duration::from_secs(20), ..sliding(4) };
    let mut world = on_v1(5, knobs);
    world.issued.clear();
    let id = world.release("v2").unwrap();
    world.until("one in change", |w| !changing(w).is_empty());
    world.run(5);
    assert_eq!(changing(&world).len(), 1);
    insta::assert_snapshot!(world.sentences[0], @"web-02 begins in 19s: hosts are 20s apart at least");
    world.crash_controller();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    let at: Vec<_> = world.issued.iter().map(|assignment| assignment.issued_at).collect();
    assert_eq!(at.len(), 5);
    for pair in at.windows(2) {
        let apart = pair[1].since(pair[0]);
        assert!(apart >= Duration::from_secs(20) && apart <= Duration::from_secs(40), "{apart:?}");
    }
    // Whoever goes back does not dawdle.
    let back = world.rollback(None).unwrap();
    let from = world.now;
    assert_eq!(world.ended(&back), StatusWord::Succeeded);
    assert!(world.now.since(from) < Duration::from_secs(60), "{:?}", world.now.since(from));
}

#[test]
fn what_fails_within_the_budget_is_tried_again_in_its_place() {
    let knobs = Strategy { failure_budget: Amount::Count(1), stagger: Duration::from_secs(5), ..sliding(2) };
    let mut world = on_v1(6, knobs);
    world.host(3).behaviour.insert(name("v2"), Behaviour::Bad);
    let id = world.release("v2").unwrap();
    world.until("a failure", |w| {
        w.state.members(&id).any(|member| matches!(member.state, MemberState::Failed { .. }))
    });
    world.host(3).behaviour.clear();
    world.ask(Action::RetryFailed { place: place(), rollout: None, reason: String::new() }).unwrap();
    while !world.rollout(&id).ended() {
        world.tick();
        assert!(changing(&world).len() <= 2);
    }
    assert_eq!(world.word(&id), StatusWord::Succeeded);
}
