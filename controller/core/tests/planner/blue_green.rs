//! Two groups of hosts: one takes the release without requests, the other serves, and then they change places.

use std::collections::BTreeSet;

use landfall_common::assignment::Order;
use landfall_common::manifest::Follows;
use landfall_common::report::Traffic;
use landfall_common::strategy::{Amount, Canary, Spread, Strategy, StrategyKind};
use landfall_common::{Duration, LabelKey, ReleaseCounter, RolloutId};
use landfall_controller_core::command::{Action, Overrides, RollRequest};
use landfall_controller_core::log::LogEvent;
use landfall_controller_core::preview;
use landfall_controller_core::record::WayBackKind;
use landfall_controller_core::rollout::{Back, Stage, StatusWord};

use crate::hosts::Behaviour;
use crate::labels::label;
use crate::world::{World, host_id, migration, name, strategy};

fn by_color() -> Strategy {
    Strategy {
        kind: StrategyKind::BlueGreen,
        spread: Some(LabelKey::new("color").unwrap()),
        max_unavailable: Amount::Percent(25),
        ..strategy()
    }
}

fn promoted() -> Strategy {
    Strategy { auto_promote: false, ..by_color() }
}

fn watched(seconds: u64) -> Strategy {
    Strategy { watch: Duration::from_secs(seconds), ..by_color() }
}

/// The first half is blue, the other one green.
pub fn color(world: &mut World, hosts: usize) {
    let half: Vec<usize> = (1..=hosts / 2).collect();
    let other: Vec<usize> = (hosts / 2 + 1..=hosts).collect();
    world.ask(label(&half, &["color=blue"])).unwrap();
    world.ask(label(&other, &["color=green"])).unwrap();
}

/// On v1, with v2 published.
fn fleet(hosts: usize, strategy: Strategy) -> World {
    let mut world = World::new(hosts);
    color(&mut world, hosts);
    world.publish("v1", 1, None, Strategy { auto_promote: true, watch: Duration::ZERO, ..strategy.clone() });
    world.publish("v2", 2, None, strategy);
    world.must_succeed("v1");
    world.most_out = 0;
    world
}

/// How many hosts of each half get requests, and what those run that do.
fn served(world: &World) -> (usize, usize, BTreeSet<String>) {
    let hosts: Vec<_> = world.hosts.values().collect();
    let (blue, green) = hosts.split_at(hosts.len() / 2);
    let serve = |hosts: &[&crate::hosts::Host]| hosts.iter().filter(|host| host.serves()).count();
    let runs = hosts.iter().filter(|host| host.serves()).filter_map(|host| host.active.as_ref());
    (serve(blue), serve(green), runs.map(|active| active.release.name.to_string()).collect())
}

fn led(world: &World, numbers: std::ops::RangeInclusive<usize>, traffic: Traffic) -> bool {
    numbers.into_iter().all(|number| world.hosts[&host_id(number)].traffic == traffic)
}

fn stage(world: &World, id: &RolloutId) -> Stage {
    world.rollout(id).status.stage().cloned().unwrap()
}

fn is_held(world: &World, id: &RolloutId) -> bool {
    matches!(world.rollout(id).status.stage(), Some(Stage::Canary { .. }))
        && world.hosts.values().take(world.hosts.len() / 2).all(|host| host.traffic == Traffic::Drained)
}

fn told_since(world: &World, id: &RolloutId) -> Vec<String> {
    let of = |event: &LogEvent| event.rollout() == Some(id);
    let entries = world.log.iter().filter(|entry| of(&entry.event));
    let staged = |told: &String| !told.contains("staged");
    entries.map(|entry| entry.event.summary()).filter(staged).collect()
}

#[test]
fn one_group_takes_the_release_without_requests_and_then_they_change_places() {
    let mut world = fleet(4, by_color());
    let id = world.release("v2").unwrap();
    let mut seen = Vec::new();
    while !world.rollout(&id).ended() {
        world.tick();
        let (blue, green, runs) = served(&world);
        assert!(blue == 2 || green == 2, "{blue} and {green} serve");
        let now = (blue, green, runs.into_iter().collect::<Vec<_>>().join("+"));
        if seen.last() != Some(&now) {
            seen.push(now);
        }
    }
    assert_eq!(world.word(&id), StatusWord::Succeeded);
    insta::assert_debug_snapshot!(seen.iter().map(|(b, g, r)| format!("{b} {g} {r}")).collect::<Vec<_>>(), @r#"
    [
        "2 2 v1",
        "0 2 v1",
        "2 0 v2",
        "2 2 v2",
    ]
    "#);
    assert!(led(&world, 1..=4, Traffic::Led));
    insta::assert_debug_snapshot!(told_since(&world, &id), @r#"
    [
        "rollout of tenants v2 to production after v1 began on 4 hosts",
        "rollout r-10 went on to batch 1 of 2",
        "web-01: v2 is active and healthy",
        "web-02: v2 is active and healthy",
        "requests go to color=blue alone, which runs the release of rollout r-10",
        "rollout r-10 went on to batch 2 of 2",
        "web-03: v2 is active and healthy",
        "web-04: v2 is active and healthy",
        "rollout of tenants v2 to production succeeded, 4 of 4 hosts run it",
    ]
    "#);
    assert!(world.state.all_hosts().all(|host| host.record.led_away.is_none()));
}

#[test]
fn what_is_held_gets_no_requests_until_it_is_promoted_and_goes_back_without_having_had_any() {
    let mut world = fleet(4, promoted());
    let id = world.release("v2").unwrap();
    world.until("it is held", |w| is_held(w, &id));
    world.run(600);
    insta::assert_debug_snapshot!(world.sentences, @r#"
    [
        "color=blue is proven, without requests; `ctl promote r-10` leads the requests there, `ctl rollback` goes back",
    ]
    "#);
    assert_eq!(world.runs(), ["v2", "v2", "v1", "v1"]);
    assert_eq!(served(&world).2, ["v1".to_owned()].into());
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(world.runs(), ["v2"; 4]);

    let mut world = fleet(4, promoted());
    let id = world.release("v2").unwrap();
    world.until("it is held", |w| is_held(w, &id));
    world.rollback(None).unwrap();
    while !world.rollout(&id).ended() {
        world.tick();
        assert_eq!(served(&world).2, ["v1".to_owned()].into());
    }
    assert_eq!(world.word(&id), StatusWord::RolledBack);
    assert!(led(&world, 1..=4, Traffic::Led));
}

/// The way back is to lead requests back: nothing has to be activated for it.
#[test]
fn while_it_is_watched_requests_come_back_to_the_release_before_at_once() {
    let mut world = fleet(6, watched(600));
    let id = world.release("v2").unwrap();
    world.until("it is watched", |w| matches!(stage(w, &id), Stage::Watching { .. }));
    assert_eq!(served(&world), (3, 0, ["v2".to_owned()].into()));
    world.run(30);
    insta::assert_debug_snapshot!(world.sentences, @r#"
    [
        "requests go to color=blue, which has been watched for 30s of 10m; the other group keeps the release before. `ctl promote r-12` ends the watch, `ctl rollback` leads requests back to it",
    ]
    "#);
    let before = world.issued.len();
    world.rollback(None).unwrap();
    for _ in 0..5 {
        let serve = served(&world).1 == 3;
        assert!(serve || world.issued.len() == before, "nothing is activated for that");
        world.tick();
    }
    assert_eq!(served(&world).1, 3, "the other group has them back");
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    assert_eq!(world.runs(), ["v1"; 6]);
    assert!(led(&world, 1..=6, Traffic::Led));
}

#[test]
fn what_fails_under_load_goes_back_by_itself_while_the_other_group_has_the_release_before() {
    let mut world = fleet(4, watched(600));
    let id = world.release("v2").unwrap();
    world.until("it is watched", |w| matches!(stage(w, &id), Stage::Watching { .. }));
    world.behaves("v2", Behaviour::Bad);
    let mut lost = 0;
    while !world.rollout(&id).ended() {
        world.tick();
        let (blue, green, _) = served(&world);
        lost += u32::from(blue == 0 && green == 0);
    }
    assert_eq!(world.word(&id), StatusWord::RolledBack, "{:?}", world.rollout(&id).status);
    assert_eq!((world.runs(), lost), (vec!["v1".to_owned(); 4], 0));
    assert!(led(&world, 1..=4, Traffic::Led));
    // The other group was never touched.
    assert!((3..=4).all(|number| world.hosts[&host_id(number)].activations == 1));
}

#[test]
fn a_release_that_fails_in_the_first_group_never_gets_a_request() {
    let mut world = fleet(4, by_color());
    world.behaves("v2", Behaviour::Bad);
    let id = world.release("v2").unwrap();
    while !world.rollout(&id).ended() {
        world.tick();
        assert_eq!(served(&world).2, ["v1".to_owned()].into());
        assert_eq!(served(&world).1, 2);
    }
    assert_eq!(world.word(&id), StatusWord::RolledBack);
    assert!(led(&world, 1..=4, Traffic::Led));
}

/// Whatever is lost of the group that serves, and whatever the controller does not hear: who is held is held.
#[test]
fn nothing_that_is_lost_or_unheard_gives_requests_to_what_nobody_has_promoted() {
    let mut world = fleet(20, promoted());
    let id = world.release("v2").unwrap();
    world.until("it is held", |w| is_held(w, &id));
    let keeps = |world: &mut World, seconds: u32| {
        for _ in 0..seconds {
            world.tick();
            assert!(led(world, 1..=10, Traffic::Drained), "{:?}", world.sentences);
            let (blue, _, _) = served(world);
            assert_eq!(blue, 0);
        }
    };
    // A host of those that serve.
    world.host(15).up = false;
    keeps(&mut world, 600);
    let now = world.now;
    world.host(15).reboot(now);
    keeps(&mut world, 60);
    // Half of them, and the controller with its memory of who was there.
    world.cut.extend((11..=15).map(host_id));
    world.crash_controller();
    keeps(&mut world, 120);
    // All of everything.
    world.cut.extend((1..=20).map(host_id));
    keeps(&mut world, 120);
    world.crash_controller();
    world.cut.retain(|host| *host > host_id(10));
    keeps(&mut world, 300);
    world.cut.clear();
    keeps(&mut world, 60);
    assert!(led(&world, 11..=20, Traffic::Led), "nor are they led away from those that serve");
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

/// From the first group as little as from the second, whichever comes back first from an absence of the controller.
#[test]
fn a_controller_that_starts_anew_in_the_middle_of_it_leaves_nobody_without_requests() {
    for at in 0..60 {
        let mut world = fleet(4, by_color());
        let id = world.release("v2").unwrap();
        world.run(at);
        world.crash_controller();
        // Of some nothing is heard for a while.
        let away = if at % 2 == 0 { [1, 2] } else { [3, 4] };
        world.cut.extend(away.map(host_id));
        for _ in 0..50 {
            world.tick();
            let (blue, green, _) = served(&world);
            assert!(blue > 0 || green > 0, "after {at} s: nobody serves, {:?}", world.sentences);
        }
        world.cut.clear();
        assert_eq!(world.ended(&id), StatusWord::Succeeded, "after {at} s");
        assert!(led(&world, 1..=4, Traffic::Led), "after {at} s");
    }
}

#[test]
fn requests_stay_where_they_are_while_too_few_of_the_other_group_serve() {
    let mut world = fleet(8, by_color());
    for number in [5, 6] {
        world.host(number).up = false;
    }
    world.run(60);
    let id = world.release("v2").unwrap();
    world.run(280);
    // The group that serves less goes first, and does not become all that serves.
    assert_eq!(stage(&world, &id), Stage::Switching);
    assert_eq!(served(&world), (4, 2, ["v1".to_owned(), "v2".to_owned()].into()));
    insta::assert_debug_snapshot!(world.sentences, @r#"
    [
        "the change of requests to the other group waits: web-05 has not been heard of for 5m40s",
        "the change of requests to the other group waits: web-06 has not been heard of for 5m40s",
        "requests stay with web-01, web-02, web-03 and web-04: 2 of 4 hosts of color=green serve, and at least 3 must (max_unavailable) before they go there alone",
    ]
    "#);
    world.until("it pauses", |w| w.word(&id) == StatusWord::Paused);
    insta::assert_snapshot!(world.end_reason(&id), @"nothing got on for 5m: requests stay with web-01, web-02, web-03 and web-04: 2 of 4 hosts of color=green serve, and at least 3 must (max_unavailable) before they go there alone. `ctl resume` waits on, `ctl rollback` goes back");
    let now = world.now;
    for number in [5, 6] {
        world.host(number).reboot(now);
    }
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(world.runs(), ["v2"; 8]);
}

#[test]
fn where_nothing_serves_any_more_a_release_that_mends_it_goes_through() {
    let mut world = fleet(4, by_color());
    world.behaves("v1", Behaviour::Bad);
    world.run(60);
    let id = world.release("v2").unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded, "{:?}", world.rollout(&id).status);
    assert!(led(&world, 1..=4, Traffic::Led));
}

#[test]
fn what_is_aborted_half_way_stays_without_requests_until_somebody_decides() {
    let mut world = fleet(4, promoted());
    let id = world.release("v2").unwrap();
    world.until("it is held", |w| is_held(w, &id));
    let undrain = |hosts: &[usize]| Action::Undrain {
        hosts: hosts.iter().map(|number| host_id(*number)).collect(),
        reason: String::new(),
    };
    insta::assert_snapshot!(world.ask(undrain(&[1])).unwrap_err(), @"rollout r-10 has the requests of web-01 led to the other group of hosts, and back in its turn; `ctl rollback` or `ctl abort r-10` ends that");
    world.ask(Action::Abort { rollout: id, go_back: false, reason: String::new() }).unwrap();
    world.run(120);
    insta::assert_debug_snapshot!(world.sentences, @r#"
    [
        "requests are kept away from web-01 and web-02: a rollout was ended half way, and a new release or `ctl rollback` decides what runs; `ctl hosts undrain web-01` leads them back as it is",
        "web-01 and web-02 are not at the release in force and left alone, since rollout r-10 of v2 was aborted; a new release or `ctl rollback` decides what runs",
    ]
    "#);
    assert_eq!(served(&world), (0, 2, ["v1".to_owned()].into()));
    // One by a word of its own, the others with what comes to them.
    world.ask(undrain(&[1])).unwrap();
    world.until("it serves", |w| w.hosts[&host_id(1)].traffic == Traffic::Led);
    let back = world.rollback(None).unwrap();
    assert_eq!(world.ended(&back), StatusWord::Succeeded);
    assert_eq!(world.runs(), ["v1"; 4]);
    assert!(led(&world, 1..=4, Traffic::Led));
    // Those that run it already were not started anew.
    assert!((3..=4).all(|number| world.hosts[&host_id(number)].activations == 1));
}

#[test]
fn what_is_aborted_is_brought_on_by_any_other_rollout() {
    let mut world = fleet(4, promoted());
    let id = world.release("v2").unwrap();
    world.until("it is held", |w| is_held(w, &id));
    world.ask(Action::Abort { rollout: id, go_back: false, reason: String::new() }).unwrap();
    world.publish("v3", 3, None, strategy());
    world.must_succeed("v3");
    assert!(led(&world, 1..=4, Traffic::Led), "{:?}", world.sentences);
}

#[test]
fn a_rollback_after_the_end_goes_by_groups_too_and_without_anybody_to_wait_for() {
    let mut world = fleet(4, Strategy { watch: Duration::from_secs(60), ..promoted() });
    let id = world.release("v2").unwrap();
    world.until("it is held", |w| is_held(w, &id));
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    let back = world.rollback(None).unwrap();
    let mut least = 4;
    while !world.rollout(&back).ended() {
        world.tick();
        let (blue, green, _) = served(&world);
        least = least.min(blue + green);
    }
    assert_eq!((world.word(&back), least), (StatusWord::Succeeded, 2));
    assert_eq!(world.runs(), ["v1"; 4]);
}

/// A rollback goes whatever the labels say, and a host that is not heard of holds nobody up for ever.
#[test]
fn a_rollback_goes_without_groups_where_there_are_none_any_more() {
    let mut world = fleet(4, by_color());
    world.must_succeed("v2");
    world.ask(label(&[1, 2, 3, 4], &["color-"])).unwrap();
    let back = world.rollback(None).unwrap();
    assert_eq!(world.ended(&back), StatusWord::Succeeded);
    assert_eq!(world.runs(), ["v1"; 4]);
}

#[test]
fn groups_that_cannot_be_told_apart_or_led_are_refused_with_what_to_do() {
    let mut world = World::new(4);
    world.publish("v1", 1, None, by_color());
    let refused = |world: &mut World| world.release("v1").unwrap_err().to_string();
    insta::assert_snapshot!(refused(&mut world), @"the strategy does not hold: strategy is blue_green by color, and web-01, web-02, web-03 and web-04 have no color; `ctl hosts label web-01 color=…` puts it into a group");
    world.ask(label(&[1, 2, 3, 4], &["color=blue"])).unwrap();
    insta::assert_snapshot!(refused(&mut world), @"the strategy does not hold: strategy is blue_green by color, which needs two groups of hosts, and there is 1: color=blue (4)");
    world.ask(label(&[3], &["color=green"])).unwrap();
    world.ask(label(&[4], &["color=red"])).unwrap();
    insta::assert_snapshot!(refused(&mut world), @"the strategy does not hold: strategy is blue_green by color, which needs two groups of hosts, and there are 3: color=blue (2), color=green (1), color=red (1)");
    world.ask(label(&[4], &["color=green"])).unwrap();
    let overrides = Overrides { canary: Some(Canary::Count(1)), ..Overrides::default() };
    let with = landfall_controller_core::command::RollRequest { overrides, ..World::request("v1") };
    insta::assert_snapshot!(world.roll(with).unwrap_err(), @"the strategy does not hold: strategy is blue_green, and canary has no meaning when one of two groups changes after the other");
    world.must_succeed("v1");
    world.publish("v2", 2, None, by_color());
    world.host(2).traffic = Traffic::Ungated;
    world.run(2);
    insta::assert_snapshot!(world.release("v2").unwrap_err(), @"the strategy does not hold: strategy is blue_green, and requests cannot be led away from web-02: what runs there has no `[traffic]` that leads them to other hosts, or the agent is of a version that does not; `--strategy rolling --spread none` brings the release that has it");
    world.host(2).traffic = Traffic::Led;
    world.run(2);
    let id = world.release("v2").unwrap();
    insta::assert_snapshot!(world.ask(label(&[2], &["color=green"])).unwrap_err(), @"rollout r-17 leads requests between the groups of color, and web-02 stays in its own until that is over; `ctl hosts drain web-02` leads its requests away meanwhile");
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    world.ask(label(&[2], &["color=green"])).unwrap();
}

#[test]
fn the_plan_says_which_group_goes_first_and_it_is_the_one_that_serves_less() {
    let mut world = fleet(8, by_color());
    let plan = preview(&world.state, &World::request("v2"), world.now).unwrap();
    let batches: Vec<_> = plan.batches.iter().map(|batch| (batch.why.as_str(), batch.hosts.len())).collect();
    assert_eq!(batches, [("color=blue", 4), ("color=green", 4)]);
    assert_eq!(plan.groups.unwrap().to_string(), "color=blue, then color=green");
    world
        .ask(Action::Drain {
            hosts: [host_id(8)].into(),
            reason: "its disk".to_owned(),
            beyond_budget: "it burns".to_owned(),
        })
        .unwrap();
    world.run(5);
    let plan = preview(&world.state, &World::request("v2"), world.now).unwrap();
    assert_eq!(plan.batches[0].why, "color=green");
    // It is left out, and the group of which it is one goes first all the same.
    let id = world.release("v2").unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded, "{:?}", world.rollout(&id).status);
    assert_eq!(world.runs(), [["v2"; 7].as_slice(), &["v1"]].concat());
}

/// Nothing is in force: there are no requests that could be led elsewhere.
#[test]
fn the_first_release_of_all_goes_group_by_group_with_its_requests() {
    let mut world = World::new(4);
    color(&mut world, 4);
    world.publish("v1", 1, None, by_color());
    let id = world.release("v1").unwrap();
    world.until("the first group serves", |w| served(w).0 == 2);
    assert_eq!(served(&world).1, 0);
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

/// A host on which nothing runs cannot be kept without requests: it takes the release once these may go there.
#[test]
fn a_host_on_which_nothing_runs_comes_after_the_change() {
    let mut world = fleet(4, promoted());
    world.host(2).active = None;
    world.run(2);
    let id = world.release("v2").unwrap();
    world.until("it is held", |w| matches!(stage(w, &id), Stage::Canary { .. }));
    world.run(60);
    assert_eq!(world.runs()[1], "-");
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded, "{:?}", world.sentences);
    assert_eq!(world.runs(), ["v2"; 4]);
}

#[test]
fn a_pause_leaves_requests_where_they_are() {
    let mut world = fleet(4, by_color());
    let id = world.release("v2").unwrap();
    world.until("they change over", |w| stage(w, &id) == Stage::Switching);
    world.ask(Action::Pause { rollout: id.clone(), reason: String::new() }).unwrap();
    world.run(60);
    let (blue, green, _) = served(&world);
    assert!(green == 2, "{blue} and {green} serve");
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

/// What a backup says of who gets requests was so when it was made.
#[test]
fn a_restored_controller_leads_no_request_anywhere() {
    let mut world = fleet(4, watched(600));
    let id = world.release("v2").unwrap();
    world.until("the first group has no requests", |w| led(w, 1..=2, Traffic::Drained));
    let backup = world.back_up();
    world.until("it is watched", |w| matches!(stage(w, &id), Stage::Watching { .. }));
    world.run(10);
    world.restore(backup);
    for _ in 0..300 {
        world.tick();
        assert_eq!(served(&world), (2, 0, ["v2".to_owned()].into()), "{:?}", world.sentences);
    }
}

/// Nor does it lead any to what came after the backup, and nobody has let.
#[test]
fn a_restored_controller_leads_no_request_to_what_it_knows_nothing_of() {
    let mut world = fleet(4, promoted());
    let backup = world.back_up();
    let id = world.release("v2").unwrap();
    world.until("it is held", |w| is_held(w, &id));
    world.restore(backup);
    for _ in 0..300 {
        world.tick();
        assert_eq!(served(&world), (0, 2, ["v1".to_owned()].into()), "{:?}", world.sentences);
    }
    insta::assert_debug_snapshot!(world.sentences, @r#"
    [
        "requests are kept away from web-01 and web-02: a rollout was ended half way, and a new release or `ctl rollback` decides what runs; `ctl hosts undrain web-01` leads them back as it is",
        "web-01 and web-02 are not at the release in force and left alone, since the controller was restored from a backup of 2027-01-15 08:00:29 UTC; a new release or `ctl rollback` decides what runs",
    ]
    "#);
    let id = world.release("v2").unwrap();
    world.until("it is held", |w| is_held(w, &id));
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert!(led(&world, 1..=4, Traffic::Led));
}

/// Nor where only a word of the operator made the rollout one by groups, which no release of the backup tells of.
#[test]
fn a_restored_controller_leads_no_request_to_what_an_override_has_held() {
    let mut world = World::new(4);
    color(&mut world, 4);
    world.publish("v1", 1, None, strategy());
    world.publish("v2", 2, None, Strategy { auto_promote: false, ..strategy() });
    world.must_succeed("v1");
    let backup = world.back_up();
    let overrides = Overrides {
        kind: Some(StrategyKind::BlueGreen),
        spread: by_color().spread.map(Spread::Label),
        ..Overrides::default()
    };
    let id = world.roll(RollRequest { overrides, ..World::request("v2") }).unwrap();
    world.until("it is held", |w| is_held(w, &id));
    world.restore(backup);
    for _ in 0..300 {
        world.tick();
        assert_eq!(served(&world), (0, 2, ["v1".to_owned()].into()), "{:?}", world.sentences);
    }
    // Whoever gets them is known to, as soon as he is heard of.
    let led_away = world.state.all_hosts().filter(|host| host.record.led_away.is_some()).count();
    assert_eq!(led_away, 2);
}

/// Of one that was removed nothing is known any more, what it runs and who led its requests away included.
#[test]
fn a_host_that_was_removed_and_joins_anew_gets_requests_with_what_is_in_force() {
    let mut world = fleet(4, promoted());
    let id = world.release("v2").unwrap();
    world.until("it is held", |w| is_held(w, &id));
    let agent = world.hosts[&host_id(1)].clone();
    world.ask(Action::Remove { host: host_id(1), reason: "scrapped".to_owned() }).unwrap();
    world.enrol(1);
    world.ask(label(&[1], &["color=blue"])).unwrap();
    world.hosts.insert(host_id(1), agent);
    let mut is_back = false;
    for _ in 0..300 {
        world.tick();
        let (_, green, runs) = served(&world);
        assert_eq!((green, runs), (2, ["v1".to_owned()].into()), "{:?}", world.sentences);
        is_back |= world.hosts[&host_id(1)].traffic == Traffic::Led;
    }
    assert!(is_back, "it was brought to what is in force: {:?}", world.sentences);
    // One that is new has nothing that anybody could lead anywhere.
    world.enrol(5);
    world.ask(label(&[5], &["color=green"])).unwrap();
    world.until("it is in service", |w| w.runs()[4] == "v1");
    assert!(led(&world, 5..=5, Traffic::Led));
    assert!(world.state.host(&host_id(5)).unwrap().record.led_away.is_none());
}

/// Words that requests are to come back to are taken back with the release, before the schema is.
#[test]
fn while_the_schema_is_taken_back_nobody_gets_requests_with_what_is_given_up() {
    let mut world = World::new(4);
    color(&mut world, 4);
    world.publish("v1", 1, None, Strategy { watch: Duration::ZERO, ..by_color() });
    world.publish("v2", 2, migration(WayBackKind::Reversible), promoted());
    world.must_succeed("v1");
    let id = world.release("v2").unwrap();
    world.until("it is held", |w| is_held(w, &id));
    // The words to those that are to serve are lost.
    world.cut.extend([host_id(1), host_id(2)]);
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    world.until("it is promoted", |w| matches!(stage(w, &id), Stage::Switching));
    world.rollback(None).unwrap();
    world.cut.clear();
    while matches!(stage(&world, &id), Stage::RollingBack { back: Back::Schema { .. }, .. }) {
        world.tick();
        assert!(!served(&world).2.contains("v2"), "{:?}", world.sentences);
    }
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    assert!(led(&world, 1..=4, Traffic::Led));
}

/// What a rollout by two groups has left without requests is more than may be out, and the sentence says what helps.
#[test]
fn where_what_was_left_without_requests_is_too_much_the_sentence_names_the_way_out() {
    let mut world = fleet(8, promoted());
    let id = world.release("v2").unwrap();
    world.until("it is held", |w| is_held(w, &id));
    world.ask(Action::Abort { rollout: id, go_back: false, reason: String::new() }).unwrap();
    let canary = "color=green".parse().unwrap();
    world.publish("v3", 3, None, Strategy { canary, ..strategy() });
    world.release("v3").unwrap();
    world.run(60);
    insta::assert_debug_snapshot!(world.sentences, @r#"
    [
        "max_unavailable 2: web-01, web-02, web-03 and web-04 are out, web-05, web-06, web-07 and web-08 wait; `ctl hosts undrain web-01` leads requests back that were led away before",
    ]
    "#);
}

/// A group on which nothing runs yet has nothing that could be proven before requests change over.
#[test]
fn a_group_on_which_nothing_runs_yet_is_refused_until_it_has_what_is_in_force() {
    let mut world = World::new(2);
    world.publish("v1", 1, None, strategy());
    world.publish("v2", 2, None, by_color());
    world.must_succeed("v1");
    world.enrol(3);
    world.ask(label(&[1, 2], &["color=blue"])).unwrap();
    world.ask(label(&[3], &["color=green"])).unwrap();
    world.host(3).hears = |order| !matches!(order, Order::Activate { .. });
    world.run(10);
    insta::assert_snapshot!(world.release("v2").unwrap_err(), @"the strategy does not hold: strategy is blue_green, and nothing runs on any host of color=green yet; once they have taken v1, which is in force, ask again (`ctl hosts`), or `--strategy rolling --spread none` goes batch by batch");
    world.host(3).hears = |_| true;
    world.until("it has it", |w| w.runs() == ["v1"; 3]);
    world.must_succeed("v2");
}

/// Nobody is left who could be watched.
#[test]
fn a_first_group_that_is_left_out_while_it_is_watched_is_told_at_once() {
    let mut world = fleet(4, watched(3600));
    let id = world.release("v2").unwrap();
    world.until("it is watched", |w| matches!(stage(w, &id), Stage::Watching { .. }));
    let hosts: BTreeSet<_> = [host_id(1), host_id(2)].into();
    world.ask(Action::Exclude { hosts, rollout: None, reason: "broken".to_owned() }).unwrap();
    world.run(1);
    insta::assert_snapshot!(world.end_reason(&id), @"no host of color=blue is left in it, so that requests cannot be led there: `ctl include` and `ctl resume` go on where one was left out, `ctl abort` leaves the hosts as they are, `ctl rollback` goes back");
}

/// Whoever comes late to the first group is no reason to hold the others, nor to lead requests away from those that get them.
#[test]
fn a_host_of_the_first_group_that_comes_late_changes_once_the_second_serves_again() {
    for at in ["held", "watched"] {
        let mut world = fleet(8, Strategy { watch: Duration::from_secs(60), ..promoted() });
        world.host(2).up = false;
        world.run(40);
        let id = world.release("v2").unwrap();
        world.until("it is held", |w| matches!(stage(w, &id), Stage::Canary { .. }));
        let come = |world: &mut World| {
            let now = world.now;
            world.host(2).reboot(now);
        };
        if at == "held" {
            come(&mut world);
        }
        world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
        world.until("it is watched", |w| matches!(stage(w, &id), Stage::Watching { .. }));
        if at == "watched" {
            come(&mut world);
        }
        while !world.rollout(&id).ended() {
            world.tick();
            assert!(served(&world).0 >= 3, "{:?}", world.sentences);
        }
        assert_eq!(world.word(&id), StatusWord::Succeeded, "{at}: {:?}", world.rollout(&id).status);
        assert_eq!(world.runs(), ["v2"; 8]);
        assert!(led(&world, 1..=8, Traffic::Led));
    }
}

/// A host of the second group that is lost while it changes keeps nobody on what has failed.
#[test]
fn who_is_lost_on_the_way_back_holds_nobody_up() {
    let mut world = fleet(8, by_color());
    let id = world.release("v2").unwrap();
    world.until("the second group changes", |w| stage(w, &id) == Stage::Running { batch: 2 });
    world.until("one has it", |w| w.runs()[4] == "v2");
    world.host(5).up = false;
    world.until("it goes back", |w| w.word(&id) == StatusWord::RollingBack);
    world.until("the first group is back", |w| w.runs()[..4].iter().all(|runs| runs == "v1"));
    assert!(!world.hosts[&host_id(5)].up);
    let now = world.now;
    world.host(5).reboot(now);
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    assert_eq!(world.runs(), ["v1"; 8]);
    world.run(10);
    assert!(led(&world, 1..=8, Traffic::Led));
}

/// Before they have changed, hosts are led back to rather than have nobody serve.
#[test]
fn where_the_other_group_is_lost_those_that_have_not_changed_get_their_requests_back() {
    let mut world = fleet(4, by_color());
    // They take no order to change.
    for number in [1, 2] {
        world.host(number).hears = |order| matches!(order, landfall_common::assignment::Order::Drain { .. });
    }
    let id = world.release("v2").unwrap();
    world.run(1);
    let _ = world.ask(Action::Pause { rollout: id.clone(), reason: String::new() });
    let _ = world.ask(Action::Resume { rollout: id.clone(), reason: String::new() });
    world.run(30);
    for number in [3, 4] {
        world.host(number).up = false;
    }
    world.run(60);
    let (blue, _, _) = served(&world);
    assert!(blue == 2, "{:?}", world.sentences);
}

#[test]
fn what_is_left_out_and_led_away_can_be_led_back_by_hand() {
    let mut world = fleet(4, promoted());
    let id = world.release("v2").unwrap();
    world.until("it is held", |w| is_held(w, &id));
    let hosts: BTreeSet<_> = [host_id(1), host_id(2)].into();
    world.ask(Action::Exclude { hosts: hosts.clone(), rollout: None, reason: "broken".to_owned() }).unwrap();
    world.run(60);
    insta::assert_debug_snapshot!(world.sentences, @r#"
    [
        "paused by controller since 2027-01-15 08:00:46 UTC: no host of color=blue is left in it, so that requests cannot be led there: `ctl include` and `ctl resume` go on where one was left out, `ctl abort` leaves the hosts as they are, `ctl rollback` goes back",
    ]
    "#);
    world.ask(Action::Undrain { hosts, reason: String::new() }).unwrap();
    world.until("they serve", |w| led(w, 1..=2, Traffic::Led));
}

/// A host of either group takes its stop without requests as well, and gets them with the release.
#[test]
fn a_required_stop_is_taken_without_requests() {
    let mut world = World::new(4);
    color(&mut world, 4);
    let stop = Follows { release: name("v2"), counter: ReleaseCounter(2) };
    world.follows.insert(name("v3"), stop);
    for number in 1..=3 {
        world.publish(&format!("v{number}"), number, None, by_color());
    }
    world.must_succeed("v1");
    let id = world.release("v3").unwrap();
    while !world.rollout(&id).ended() {
        world.tick();
        let (blue, green, runs) = served(&world);
        assert!(blue == 2 || green == 2, "{blue} and {green} serve");
        assert!(!runs.contains("v2"), "no request reaches the stop");
    }
    assert_eq!(world.word(&id), StatusWord::Succeeded);
    assert!(world.hosts.values().all(|host| host.took.iter().any(|took| *took == name("v2"))));
    assert!(led(&world, 1..=4, Traffic::Led));
}

/// Who takes his own drain back says nothing of where the rollout has its requests.
#[test]
fn a_drain_that_is_taken_back_leads_no_request_to_what_is_held() {
    let mut world = fleet(8, promoted());
    let id = world.release("v2").unwrap();
    world.until("it is held", |w| is_held(w, &id));
    world.ask(Action::Pause { rollout: id.clone(), reason: String::new() }).unwrap();
    let hosts: BTreeSet<_> = [host_id(1)].into();
    let drain =
        Action::Drain { hosts: hosts.clone(), reason: "kernel".to_owned(), beyond_budget: String::new() };
    world.ask(drain).unwrap();
    world.run(10);
    world.ask(Action::Undrain { hosts, reason: String::new() }).unwrap();
    for _ in 0..60 {
        world.tick();
        assert!(led(&world, 1..=4, Traffic::Drained), "{:?}", world.sentences);
    }
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert!(led(&world, 1..=8, Traffic::Led));
}

/// The second group does not wait for the first to serve while the first waits for the second to be back.
#[test]
fn on_the_way_back_the_groups_do_not_wait_for_each_other() {
    let mut world = fleet(8, by_color());
    world.host(5).behaviour.insert(name("v2"), Behaviour::Bad);
    let id = world.release("v2").unwrap();
    world.until("it goes back", |w| w.word(&id) == StatusWord::RollingBack);
    for number in [1, 2] {
        world.host(number).behaviour.insert(name("v2"), Behaviour::Bad);
    }
    for _ in 0..200 {
        world.tick();
        assert_ne!(world.word(&id), StatusWord::Paused, "{:?}", world.sentences);
    }
    assert_eq!(world.word(&id), StatusWord::RolledBack, "{:?}", world.sentences);
    assert!(led(&world, 1..=8, Traffic::Led));
}

/// A host that fails at a stop and stands where it stood goes on to serve: the others go back as they would without it.
#[test]
fn who_fails_at_a_stop_keeps_neither_group_where_it_is() {
    let mut world = World::new(6);
    color(&mut world, 6);
    for (release, stop, counter) in [("v3", "v2", 2), ("v4", "v3", 3)] {
        let stop = Follows { release: name(stop), counter: ReleaseCounter(counter) };
        world.follows.insert(name(release), stop);
    }
    for number in 1..=4 {
        world.publish(&format!("v{number}"), number, None, by_color());
    }
    world.must_succeed("v1");
    // Left out of two releases, and not fit for the first of them.
    for release in ["v2", "v3"] {
        let id = world.release(release).unwrap();
        let (hosts, reason) = ([host_id(6)].into(), "its disk".to_owned());
        world.ask(Action::Exclude { hosts, rollout: None, reason }).unwrap();
        assert_eq!(world.ended(&id), StatusWord::Succeeded);
    }
    assert_eq!(world.runs(), ["v3", "v3", "v3", "v3", "v3", "v1"]);
    world.host(6).behaviour.insert(name("v2"), Behaviour::Bad);
    let id = world.release("v4").unwrap();
    for _ in 0..400 {
        world.tick();
        assert_ne!(world.word(&id), StatusWord::Paused, "{:?}", world.sentences);
    }
    assert!(world.rollout(&id).ended(), "{:?} {:?}", world.rollout(&id).status, world.sentences);
    assert!(world.runs()[..5].iter().all(|runs| runs == "v3" || runs == "v4"), "{:?}", world.runs());
    assert!(led(&world, 1..=6, Traffic::Led), "{:?}", world.sentences);
}
