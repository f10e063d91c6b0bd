//! Draining: requests are led away from a host without a release, within the budget, and nothing new comes to it.

use std::collections::BTreeSet;

use landfall_common::assignment::Order;
use landfall_common::report::Traffic;
use landfall_common::strategy::{Amount, Strategy};
use landfall_common::{Duration, HostId};
use landfall_controller_core::Refusal;
use landfall_controller_core::command::{Action, Answer};
use landfall_controller_core::log::LogEvent;
use landfall_controller_core::rollout::StatusWord;

use crate::hosts::Behaviour;
use crate::world::{World, host_id, name, place, strategy};

fn named(numbers: &[usize]) -> BTreeSet<HostId> {
    numbers.iter().map(|number| host_id(*number)).collect()
}

fn drain_by(world: &mut World, numbers: &[usize], beyond_budget: &str) -> Result<Answer, Refusal> {
    let (hosts, reason) = (named(numbers), "its disk".to_owned());
    world.ask(Action::Drain { hosts, reason, beyond_budget: beyond_budget.to_owned() })
}

fn drain(world: &mut World, numbers: &[usize]) -> Result<Answer, Refusal> {
    drain_by(world, numbers, "")
}

fn undrain(world: &mut World, numbers: &[usize]) -> Result<Answer, Refusal> {
    world.ask(Action::Undrain { hosts: named(numbers), reason: "mended".to_owned() })
}

#[test]
fn requests_are_led_away_nothing_is_rolled_out_and_they_come_back() {
    let mut world = World::on_v1(4, strategy());
    drain(&mut world, &[2]).unwrap();
    world.until("a drained host", |w| w.hosts[&host_id(2)].traffic == Traffic::Drained);
    let before = world.issued.len();
    let id = world.release("v2").unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(world.runs(), ["v2", "v1", "v2", "v2"]);
    assert!(world.issued[before..].iter().all(|asked| asked.host != host_id(2)));
    assert_eq!(world.hosts[&host_id(2)].traffic, Traffic::Drained);
    undrain(&mut world, &[2]).unwrap();
    world.until("it serves v2", |w| w.runs()[1] == "v2" && w.hosts[&host_id(2)].traffic == Traffic::Led);
    let told: Vec<String> = world.log.iter().map(|entry| entry.event.summary()).collect();
    let told: Vec<&String> = told.iter().filter(|told| told.contains("drained")).collect();
    insta::assert_debug_snapshot!(told, @r#"
    [
        "web-02 was drained: its disk",
        "web-02 was undrained: mended",
    ]
    "#);
}

#[test]
fn a_drained_host_counts_as_out() {
    let mut world = World::on_v1(4, Strategy { max_unavailable: Amount::Count(1), ..strategy() });
    drain(&mut world, &[4]).unwrap();
    let id = world.release("v2").unwrap();
    world.run(300);
    assert_eq!(world.runs(), ["v1"; 4], "nobody else may be out");
    assert!(world.sentences.iter().any(|s| s.contains("web-04 is out")), "{:?}", world.sentences);
    undrain(&mut world, &[4]).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(world.most_out, 1);
}

#[test]
fn more_than_the_budget_allows_is_refused_with_the_figures_unless_somebody_says_why() {
    let mut world = World::on_v1(4, strategy());
    insta::assert_snapshot!(drain(&mut world, &[1, 2, 3]).unwrap_err(), @"3 hosts of tenants in production would be out, and max_unavailable allows 2 (out already: none); `--beyond-budget REASON` does it all the same");
    drain(&mut world, &[1]).unwrap();
    world.run(5);
    insta::assert_snapshot!(drain(&mut world, &[2, 3]).unwrap_err(), @"3 hosts of tenants in production would be out, and max_unavailable allows 2 (out already: web-01); `--beyond-budget REASON` does it all the same");
    // What is out already costs nothing.
    world.host(3).up = false;
    world.run(60);
    insta::assert_snapshot!(drain(&mut world, &[2]).unwrap_err(), @"3 hosts of tenants in production would be out, and max_unavailable allows 2 (out already: web-01 and web-03); `--beyond-budget REASON` does it all the same");
    drain_by(&mut world, &[2], "the rack burns").unwrap();
    let drained = world.log.iter().rev().find(|entry| matches!(entry.event, LogEvent::HostDrained { .. }));
    insta::assert_snapshot!(drained.unwrap().event.summary(), @"web-02 was drained beyond the budget (the rack burns): its disk");
    // Those that are drained are so, whoever says why anew.
    let again = world.ask(Action::Drain {
        hosts: named(&[1, 2]),
        reason: "both disks".to_owned(),
        beyond_budget: String::new(),
    });
    assert_eq!(again, Ok(Answer::Accepted));
}

#[test]
fn what_cannot_be_drained_is_refused_with_what_else_to_do_and_nothing_changes() {
    let mut world = World::on_v1(4, strategy());
    let before: Vec<_> = world.state.records().collect();
    world.host(1).traffic = Traffic::Ungated;
    world.host(2).traffic = Traffic::Unknown;
    world.run(2);
    insta::assert_snapshot!(drain(&mut world, &[1]).unwrap_err(), @"web-01 cannot be drained: what runs there has no `[traffic]` with which its agent could lead requests to other hosts; take it out of what stands before the hosts by hand, and `ctl hosts cordon web-01` has it left alone by rollouts meanwhile");
    insta::assert_snapshot!(drain(&mut world, &[2]).unwrap_err(), @"web-02 cannot be drained: its agent is of a version that cannot; upgrade it first, or `ctl hosts cordon web-02` has it left alone by rollouts meanwhile");
    world.cut.push(host_id(3));
    world.run(60);
    insta::assert_snapshot!(drain(&mut world, &[3]).unwrap_err(), @"web-03 cannot be drained: it cannot be heard of, so that nobody would know when its requests have ended; `ctl hosts cordon web-03` has it left alone by rollouts meanwhile");
    assert!(drain(&mut world, &[4, 1]).is_err(), "all of them, or none");
    let unsaid = Action::Drain { hosts: named(&[4]), reason: " ".to_owned(), beyond_budget: String::new() };
    insta::assert_snapshot!(world.ask(unsaid).unwrap_err(), @"whoever drains a host says why, with --reason");
    assert_eq!(world.state.records().collect::<Vec<_>>(), before);
}

#[test]
fn a_cordon_of_its_own_stays_and_uncordoning_does_not_undrain() {
    let mut world = World::on_v1(4, strategy());
    world.ask(Action::Cordon { hosts: named(&[1]), reason: "mine".to_owned() }).unwrap();
    drain(&mut world, &[1, 2]).unwrap();
    let uncordon = Action::Uncordon { hosts: named(&[2]), reason: String::new() };
    insta::assert_snapshot!(world.ask(uncordon).unwrap_err(), @"web-02 is drained by anna: its disk; `ctl hosts undrain web-02` leads requests back and gives it free");
    world.run(10);
    undrain(&mut world, &[1, 2]).unwrap();
    let cordoned =
        |world: &World, number| world.state.host(&host_id(number)).unwrap().record.cordon.is_some();
    assert_eq!((cordoned(&world, 1), cordoned(&world, 2)), (true, false));
    world.until("both serve", |w| w.hosts.values().all(|host| host.traffic == Traffic::Led));
    assert_eq!(undrain(&mut world, &[1, 2]), Ok(Answer::Accepted), "said twice it is the same");
}

#[test]
fn what_a_host_was_let_do_ends_before_it_is_told() {
    let mut world = World::on_v1(4, strategy());
    let id = world.release("v2").unwrap();
    world.until("web-01 is busy", |w| w.runs()[0] == "v2");
    drain(&mut world, &[1]).unwrap();
    assert_eq!(world.hosts[&host_id(1)].traffic, Traffic::Led);
    world.until("a drained host", |w| w.hosts[&host_id(1)].traffic == Traffic::Drained);
    assert_eq!(world.runs()[0], "v2");
    let _ = world.ask(Action::Promote { rollout: id.clone(), reason: String::new() });
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    undrain(&mut world, &[1]).unwrap();
    world.until("it serves", |w| w.hosts[&host_id(1)].traffic == Traffic::Led);
}

#[test]
fn it_outlives_the_controller_and_comes_back_only_well() {
    let mut world = World::on_v1(3, strategy());
    drain(&mut world, &[1]).unwrap();
    world.crash_controller();
    world.until("a drained host", |w| w.hosts[&host_id(1)].traffic == Traffic::Drained);
    world.host(1).behaviour.insert(name("v1"), Behaviour::Bad);
    undrain(&mut world, &[1]).unwrap();
    world.run(60);
    assert_eq!(world.hosts[&host_id(1)].traffic, Traffic::Returning);
    world.host(1).behaviour.clear();
    world.until("it serves", |w| w.hosts[&host_id(1)].traffic == Traffic::Led);
    assert!(world.state.place(&place()).is_some());
}

/// Nothing is in force yet, and the one who works on a host has the same word.
#[test]
fn a_host_is_drained_before_anything_is_in_force() {
    let mut world = World::new(4);
    world.publish("v1", 1, None, strategy());
    let id = world.release("v1").unwrap();
    world.until("web-01 serves", |w| w.runs()[0] == "v1");
    drain_by(&mut world, &[1], "nothing serves yet").unwrap();
    world.until("a drained host", |w| w.hosts[&host_id(1)].traffic == Traffic::Drained);
    assert!(world.state.place(&place()).unwrap().in_force().is_none());
    world.ask(Action::Abort { rollout: id.clone(), go_back: false, reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Aborted);
    undrain(&mut world, &[1]).unwrap();
    world.until("it serves", |w| w.hosts[&host_id(1)].traffic == Traffic::Led);
}

/// Healthy without a request is no proof (P5): neither of a batch nor of the end, until requests are back.
#[test]
fn what_a_host_shows_without_requests_is_no_evidence() {
    let mut world = World::on_v1(4, strategy());
    let id = world.release("v2").unwrap();
    world.until("web-01 runs v2", |w| w.runs()[0] == "v2" && w.hosts[&host_id(1)].serves());
    drain_by(&mut world, &[1], "its disk smokes").unwrap();
    world.until("a drained host", |w| w.hosts[&host_id(1)].traffic == Traffic::Drained);
    undrain(&mut world, &[1]).unwrap();
    world.until("it is told", |w| w.hosts[&host_id(1)].traffic == Traffic::Returning);
    world.host(1).in_flight = 300;
    world.run(120);
    assert!(world.hosts[&host_id(1)].active.is_some());
    insta::assert_debug_snapshot!(world.sentences, @r#"
    [
        "the end waits: web-01 was drained, and gets no requests yet",
        "requests come back to web-01 once it is healthy",
    ]
    "#);
    assert_eq!(world.word(&id), StatusWord::Running);
    world.host(1).in_flight = 0;
    let _ = world.ask(Action::Promote { rollout: id.clone(), reason: String::new() });
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(world.runs(), ["v2"; 4]);
}

/// Not from what stands there, and not beside others: with the requests that it is to be proven with.
#[test]
fn requests_are_led_back_before_anything_is_activated() {
    let mut world = World::on_v1(3, strategy());
    drain(&mut world, &[1]).unwrap();
    world.until("a drained host", |w| w.hosts[&host_id(1)].traffic == Traffic::Drained);
    let id = world.release("v2").unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(world.runs()[0], "v1");
    undrain(&mut world, &[1]).unwrap();
    world.until("it takes v2", |w| w.runs()[0] == "v2");
    assert_eq!(world.hosts[&host_id(1)].traffic, Traffic::Led);
}

#[test]
fn where_requests_are_is_told_until_they_are_there() {
    let mut world = World::on_v1(4, strategy());
    drain(&mut world, &[1, 2]).unwrap();
    world.run(1);
    insta::assert_snapshot!(world.sentences.join("\n"), @"requests are being led away from web-01 and web-02");
    world.run(5);
    assert!(world.sentences.is_empty(), "{:?}", world.sentences);
    // An agent of an older version was put there, which leads requests back.
    world.host(1).traffic = Traffic::Unknown;
    world.run(2);
    insta::assert_snapshot!(world.sentences.join("\n"), @"web-01 is drained, and requests may come there all the same: the agent is of an older version now, or what runs has no gate");
    world.host(1).traffic = Traffic::Drained;
    world.behaves("v1", Behaviour::Bad);
    undrain(&mut world, &[1, 2]).unwrap();
    world.run(5);
    insta::assert_snapshot!(world.sentences.join("\n"), @"requests come back to web-01 and web-02 once they are healthy");
}

/// Somebody works on a host, and says otherwise before it has answered.
#[test]
fn the_other_word_overtakes_the_first() {
    let mut world = World::on_v1(3, strategy());
    for _ in 0..3 {
        drain(&mut world, &[1]).unwrap();
        world.run(1);
        undrain(&mut world, &[1]).unwrap();
        world.run(1);
    }
    world.until("it serves", |w| w.hosts[&host_id(1)].traffic == Traffic::Led);
    world.run(60);
    assert_eq!(world.hosts[&host_id(1)].traffic, Traffic::Led);
    assert_eq!(world.sentences, Vec::<String>::new());
}

#[test]
fn who_is_behind_because_it_is_drained_is_told_with_what_ends_it() {
    let mut world = World::on_v1(4, strategy());
    drain(&mut world, &[2]).unwrap();
    world.run(10);
    let id = world.release("v2").unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    world.run(5);
    insta::assert_snapshot!(world.sentences.join("\n"), @"web-02 is drained and does not take v2, the release in force, until `ctl hosts undrain web-02`");
}

#[test]
fn where_nothing_runs_nothing_is_led_away() {
    let mut world = World::new(2);
    world.host(1).traffic = Traffic::Ungated;
    world.run(2);
    insta::assert_snapshot!(drain(&mut world, &[1]).unwrap_err(), @"web-01 cannot be drained: nothing runs there, so that no request is led to it; `ctl hosts cordon web-01` has it left alone by rollouts meanwhile");
}

#[test]
fn in_a_rollout_too_a_host_is_told_of_its_requests_before_anything_is_activated() {
    let one = Amount::Count(1);
    let mut world = World::on_v1(4, Strategy { max_unavailable: one, batch: Amount::Count(3), ..strategy() });
    let id = world.release("v2").unwrap();
    world.until("all have staged", |w| w.runs()[0] == "v2");
    drain_by(&mut world, &[4], "its disk smokes").unwrap();
    world.run(60);
    assert_eq!(world.runs(), ["v2", "v1", "v1", "v1"], "nobody else may be out");
    let before = world.issued.len();
    undrain(&mut world, &[4]).unwrap();
    let is_let_go = |w: &World| w.issued[before..].iter().any(|asked| asked.host == host_id(4));
    world.until("it is let go", is_let_go);
    assert_ne!(world.hosts[&host_id(4)].traffic, Traffic::Drained, "it was told before");
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(world.runs(), ["v2"; 4]);
}

/// Two operators: the second word comes while the first one is on its way.
#[test]
fn a_word_that_was_taken_back_is_not_sent_and_is_overtaken_where_it_was() {
    let mut world = World::on_v1(4, Strategy { max_unavailable: Amount::Count(1), ..strategy() });
    let of = |world: &World| world.state.host(&host_id(1)).unwrap().clone();
    drain(&mut world, &[1]).unwrap();
    world.until("a drained host", |w| w.hosts[&host_id(1)].traffic == Traffic::Drained);
    undrain(&mut world, &[1]).unwrap();
    let issued = of(&world).issued.requests.unwrap();
    assert_eq!(issued.order, Order::Drain { away: false });
    drain(&mut world, &[1]).unwrap();
    let issued = of(&world).issued.requests.unwrap();
    assert_eq!(issued.order, Order::Drain { away: true }, "it may have taken the other one");
    world.run(10);
    assert_eq!(world.hosts[&host_id(1)].traffic, Traffic::Drained);

    drain(&mut world, &[2]).unwrap_err();
    undrain(&mut world, &[1]).unwrap();
    world.until("it serves", |w| w.hosts[&host_id(1)].traffic == Traffic::Led);
    world.run(5);
    assert!(of(&world).available(world.now));
    drain(&mut world, &[1]).unwrap();
    undrain(&mut world, &[1]).unwrap();
    assert!(!of(&world).available(world.now), "its requests may be led away from it yet");
}

/// Met by the simulation (seed 89018994): the end of what it had refused lay as far ahead as the clock had been, and for so
/// long nobody told it again.
#[test]
fn a_word_that_was_refused_is_said_again_though_the_clock_was_set_back_since() {
    let mut world = World::on_v1(2, strategy());
    drain(&mut world, &[1]).unwrap();
    world.until("a drained host", |w| w.hosts[&host_id(1)].traffic == Traffic::Drained);
    world.host(1).keeps_its_requests = true;
    let number = |world: &World| world.state.host(&host_id(1)).unwrap().issued.highest;
    let before = number(&world);
    undrain(&mut world, &[1]).unwrap();
    world.run(60);
    assert_eq!(number(&world), before.next(), "who refuses is not asked all the time");
    world.host(1).keeps_its_requests = false;
    world.set_back(Duration::from_secs(3 * 3600));
    world.run(120);
    assert_eq!(world.hosts[&host_id(1)].traffic, Traffic::Led);
}

#[test]
fn a_cordon_with_the_words_of_the_drain_stays_as_well() {
    let mut world = World::on_v1(4, strategy());
    drain(&mut world, &[1]).unwrap();
    world.ask(Action::Cordon { hosts: named(&[1]), reason: "its disk".to_owned() }).unwrap();
    undrain(&mut world, &[1]).unwrap();
    assert!(world.state.host(&host_id(1)).unwrap().record.cordon.is_some());
}

/// A word about requests is no word about releases: how the change before it ended counts, whoever works there meanwhile.
#[test]
fn how_a_change_ended_counts_although_the_host_was_drained_since() {
    let mut world = World::on_v1(4, strategy());
    world.host(1).behaviour.insert(name("v2"), Behaviour::Bad);
    let id = world.release("v2").unwrap();
    world.until("web-01 is busy", |w| w.runs()[0] == "v2");
    drain(&mut world, &[1]).unwrap();
    world.until("a drained host", |w| w.hosts[&host_id(1)].traffic == Traffic::Drained);
    assert_eq!(world.runs()[0], "v1", "it went back by itself");
    world.crash_controller();
    world.run(60);
    undrain(&mut world, &[1]).unwrap();
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    insta::assert_snapshot!(world.end_reason(&id), @"1 host failed, the budget allows 0: web-01 at healthz (exit code 1): healthz said no");
    assert_eq!(world.hosts[&host_id(1)].activations, 2, "v1, and v2 once");
}

#[test]
fn what_failed_on_a_host_outside_of_a_rollout_is_not_tried_again_because_it_was_drained() {
    let mut world = World::on_v1(4, strategy());
    world.cut.push(host_id(4));
    let id = world.release("v2").unwrap();
    world.ended(&id);
    world.host(4).behaviour.insert(name("v2"), Behaviour::Bad);
    world.cut.clear();
    world.until("it has failed there", |w| w.sentences.iter().any(|s| s.contains("`ctl retry`")));
    world.until("it is well", |w| w.hosts[&host_id(4)].serves());
    let before = world.hosts[&host_id(4)].activations;
    drain(&mut world, &[4]).unwrap();
    world.until("a drained host", |w| w.hosts[&host_id(4)].traffic == Traffic::Drained);
    undrain(&mut world, &[4]).unwrap();
    world.run(600);
    assert_eq!(world.hosts[&host_id(4)].activations, before, "{:?}", world.sentences);
    insta::assert_snapshot!(world.sentences.join("\n"), @"web-04 does not run v2, the release in force: healthz said no; `ctl retry` tries it again");
    world.host(4).behaviour.clear();
    world.ask(Action::RetryFailed { place: place(), rollout: None, reason: String::new() }).unwrap();
    world.until("it follows", |w| w.runs() == ["v2"; 4]);
}

/// How long it has to be healthy at a stretch is what its last activation has asked for.
#[test]
fn a_host_that_flaps_has_failed_although_it_was_drained() {
    let watch = Duration::from_secs(1800);
    let mut world = World::on_v1(4, Strategy { watch, ..strategy() });
    let id = world.release("v2").unwrap();
    world.until("it is watched", |w| w.word(&id) == StatusWord::Watching);
    drain(&mut world, &[1]).unwrap();
    world.until("a drained host", |w| w.hosts[&host_id(1)].traffic == Traffic::Drained);
    undrain(&mut world, &[1]).unwrap();
    world.until("it serves", |w| w.hosts[&host_id(1)].traffic == Traffic::Led);
    world.host(1).behaviour.insert(name("v2"), Behaviour::Flaps);
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    insta::assert_snapshot!(world.end_reason(&id), @"1 host failed, the budget allows 0: web-01 at health: it had committed the release and was not healthy for 10s at a stretch since 30s ago");
}
