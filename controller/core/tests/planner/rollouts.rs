//! Rollouts: the way there, the gate, the budget, the way back; the traps of FIELD_NOTES "Fleet".

use landfall_common::assignment::{Assignment, Order};
use landfall_common::strategy::{Amount, Canary, Strategy};
use landfall_common::{Duration, RequestId, RolloutId};
use landfall_controller_core::command::{Action, Answer};
use landfall_controller_core::explain;
use landfall_controller_core::member::MemberState;
use landfall_controller_core::rollout::StatusWord;
use landfall_controller_core::{Refusal, decide};

use crate::hosts::Behaviour;
use crate::world::{World, host_id, name, place, strategy};

#[test]
fn a_good_release_reaches_every_host_within_the_budget() {
    let mut world = World::on_v1(5, strategy());
    world.must_succeed("v2");
    assert_eq!(world.runs(), ["v2"; 5]);
    assert!(world.most_out <= 2, "{} were out", world.most_out);
    assert!(world.hosts.values().all(|host| host.activations == 2));
}

#[test]
fn the_canary_goes_alone_and_first() {
    let mut world = World::on_v1(5, strategy());
    let id = world.release("v2").unwrap();
    world.until("a commit", |w| w.runs().contains(&"v2".to_owned()));
    assert_eq!(world.runs(), ["v2", "v1", "v1", "v1", "v1"]);
    insta::assert_snapshot!(world.sentences.join("\n"), @"batch 1 of 3 waits: web-01 healthy for 0s of 10s");
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn a_release_that_cannot_be_staged_touches_nothing() {
    let mut world = World::on_v1(3, strategy());
    world.host(3).behaviour.insert(name("v2"), Behaviour::Unstageable);
    let id = world.release("v2").unwrap();
    assert_eq!(world.ended(&id), StatusWord::Failed);
    assert_eq!(world.runs(), ["v1"; 3]);
    assert_eq!(world.most_out, 0);
    insta::assert_snapshot!(world.end_reason(&id), @"1 host failed, the budget allows 0: web-03 at virtualenv (exit code 1): virtualenv said no; nothing that runs was touched");
}

/// Found by the simulation (seed 1010): it was waited for the progress deadline, and no sentence said for what.
#[test]
fn where_no_host_could_stage_it_nothing_is_waited_for_whatever_the_budget() {
    let mut world = World::on_v1(1, Strategy { failure_budget: Amount::Percent(100), ..strategy() });
    world.behaves("v2", Behaviour::Unstageable);
    let id = world.release("v2").unwrap();
    world.run(30);
    assert_eq!(world.word(&id), StatusWord::Failed);
    assert_eq!(world.runs(), ["v1"]);
    insta::assert_snapshot!(world.end_reason(&id), @"v2 could be staged on no host: web-01 at virtualenv (exit code 1): virtualenv said no; nothing that runs was touched");
}

/// CodeDeploy reports success if one of nine succeeded; Knight Capital missed one of eight.
#[test]
fn a_host_that_cannot_be_reached_is_not_done_and_never_a_success() {
    let mut world = World::on_v1(4, strategy());
    world.cut.push(host_id(3));
    world.run(40);
    let id = world.release("v2").unwrap();
    world.until("all others", |w| w.runs().iter().filter(|r| *r == "v2").count() == 3);
    world.run(60);
    insta::assert_snapshot!(world.sentences.join("\n"), @"batch 3 of 3 waits: web-03 has not been heard of for 4m6s");
    assert_eq!(world.ended(&id), StatusWord::Failed);
    insta::assert_snapshot!(world.end_reason(&id), @"v2 runs on 3 of 4 hosts: web-03 could not be heard of and will take it on return");
    // Its return with the old release is corrected.
    world.cut.clear();
    world.until("the correction", |w| w.runs() == ["v2"; 4]);
}

#[test]
fn unknown_hosts_use_the_budget_up() {
    let strategy = Strategy { max_unavailable: Amount::Count(1), ..strategy() };
    let mut world = World::on_v1(4, strategy);
    world.cut.push(host_id(4));
    world.run(40);
    let id = world.release("v2").unwrap();
    world.run(200);
    assert_eq!(world.runs(), ["v1"; 4]);
    insta::assert_snapshot!(world.sentences.join("\n"), @"max_unavailable 1: web-04 is out, web-01 waits");
    assert_eq!(world.ended(&id), StatusWord::Failed);
    insta::assert_snapshot!(world.end_reason(&id), @"nothing got on for 5m: max_unavailable 1: web-04 is out, web-01 waits; nothing was activated");
}

/// A canary that can never start stalled for ever (Nomad #10465).
#[test]
fn a_canary_that_never_answers_ends_in_a_rollback() {
    let mut world = World::on_v1(4, strategy());
    world.host(1).behaviour.insert(name("v2"), Behaviour::Hangs);
    let id = world.release("v2").unwrap();
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    assert_eq!(world.runs(), ["v1"; 4]);
    insta::assert_snapshot!(world.end_reason(&id), @"1 host failed, the budget allows 0: web-01 at activate: it was asked to activate and has not said for 4m how it ended");
}

/// Each order that lapses was repeated, and each repetition counted as progress: no deadline ever fired.
#[test]
fn a_host_that_reports_and_takes_no_order_does_not_hold_the_deadline_up() {
    for canary in [true, false] {
        let mut world = World::on_v1(4, strategy());
        let deaf = if canary { 1 } else { 4 };
        world.host(deaf).hears = |order| matches!(order, Order::Stage);
        let id = world.release("v2").unwrap();
        if !canary {
            world.until("the others", |w| w.runs().iter().filter(|r| *r == "v2").count() == 3);
        }
        world.run(450);
        assert_eq!(world.word(&id), StatusWord::Paused, "{:?}", world.sentences);
        if canary {
            insta::assert_snapshot!(world.end_reason(&id), @"nothing got on for 5m: batch 1 of 3 waits: web-01 reports, and has taken none of 3 orders since 5m ago. `ctl resume` waits on, `ctl rollback` goes back");
        } else {
            insta::assert_snapshot!(world.end_reason(&id), @"nothing got on for 5m: batch 3 of 3 waits: web-04 reports, and has taken none of 3 orders since 5m ago. `ctl resume` waits on, `ctl rollback` goes back");
        }
        // It is given the time anew, and no more than that.
        world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
        world.run(310);
        assert_eq!(world.word(&id), StatusWord::Paused);
        world.host(deaf).hears = |_| true;
        world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
        assert_eq!(world.ended(&id), StatusWord::Succeeded);
    }
}

#[test]
fn a_host_that_takes_no_order_on_the_way_back_does_not_hold_the_deadline_up() {
    let mut world = World::on_v1(4, strategy());
    let id = world.release("v2").unwrap();
    world.until("the canary", |w| w.runs()[0] == "v2" && w.most_out > 0);
    world.run(15);
    world.host(1).hears = |_| false;
    world.rollback(None).unwrap();
    world.run(450);
    assert_eq!(world.word(&id), StatusWord::Paused, "{:?}", world.sentences);
    insta::assert_snapshot!(world.end_reason(&id), @"nothing got on for 5m on the way back to v1: the way back waits: web-01 reports, and has taken none of 3 orders since 5m ago. Mend or remove the hosts that are out, then `ctl resume`");
    world.host(1).hears = |_| true;
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
}

#[test]
fn a_host_that_stages_nothing_does_not_hold_the_deadline_up() {
    let mut world = World::on_v1(3, Strategy { progress_deadline: Duration::from_secs(1200), ..strategy() });
    world.host(3).hears = |_| false;
    let id = world.release("v2").unwrap();
    world.run(1500);
    assert_eq!(world.word(&id), StatusWord::Failed, "{:?}", world.sentences);
    insta::assert_snapshot!(world.end_reason(&id), @"nothing got on for 20m: staging waits: web-03 reports, and has not taken the order it was given 20m3s ago; nothing that runs was touched");
}

#[test]
fn a_host_that_flaps_just_below_min_healthy_ends_in_a_rollback() {
    let mut world = World::on_v1(4, strategy());
    world.host(1).behaviour.insert(name("v2"), Behaviour::Flaps);
    let id = world.release("v2").unwrap();
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    assert_eq!(world.runs(), ["v1"; 4]);
    insta::assert_snapshot!(world.end_reason(&id), @"1 host failed, the budget allows 0: web-01 at health: it had committed the release and was not healthy for 10s at a stretch since 30s ago");
}

/// One late failure must not undo 99 % done work (Nomad #10881), where the budget allows it.
#[test]
fn a_host_that_went_back_by_itself_is_given_the_time_to_say_that_it_is_well() {
    let knobs = Strategy {
        min_healthy: Duration::from_secs(2),
        healthy_deadline: Duration::from_secs(4),
        ..strategy()
    };
    let mut world = World::on_v1(3, knobs);
    // The deadline is shorter than the time between two words of a host.
    world.heartbeat = Duration::from_secs(10);
    world.behaves("v2", Behaviour::Bad);
    let id = world.release("v2").unwrap();
    world.until("it goes back", |w| w.word(&id) == StatusWord::RollingBack);
    insta::assert_snapshot!(world.sentences.join("\n"), @"the way back waits: web-01 healthy for 0s of 2s");
    world.until("it is back, or stands still", |w| w.word(&id) != StatusWord::RollingBack);
    assert_eq!(world.word(&id), StatusWord::RolledBack, "{:?}", world.sentences);
}

#[test]
fn the_way_back_is_proven_as_the_release_before_asks() {
    let mut world = World::on_v1(3, Strategy { canary: Canary::Count(0), ..strategy() });
    // What is wrong with v3 is its deadline: a host needs longer to start.
    let hasty = Duration::from_millis(300);
    let wrong =
        Strategy { canary: Canary::Count(1), min_healthy: hasty / 3, healthy_deadline: hasty, ..strategy() };
    world.publish("v3", 3, None, wrong);
    world.host(2).behaviour.insert(name("v3"), Behaviour::Bad);
    let id = world.release("v3").unwrap();
    let back = |assignment: &&Assignment| assignment.rollout == id && assignment.release.name == name("v1");
    world.until("a host goes back", |w| w.issued.iter().any(|assignment| back(&assignment)));
    let Order::Activate { min_healthy, healthy_deadline, .. } = world.issued.iter().find(back).unwrap().order
    else {
        panic!()
    };
    assert_eq!((min_healthy, healthy_deadline), (strategy().min_healthy, strategy().healthy_deadline));
    world.run(4);
    insta::assert_snapshot!(world.sentences.join("\n"), @r"
    the way back waits: web-01 healthy for 2s of 10s
    the way back waits: web-02 healthy for 4s of 10s
    the way back waits: web-03 healthy for 2s of 10s
    ");
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
}

#[test]
fn a_way_back_that_fails_says_where_and_why() {
    let mut world = World::on_v1(3, strategy());
    world.host(2).behaviour.insert(name("v2"), Behaviour::Bad);
    world.host(1).behaviour.insert(name("v1"), Behaviour::Bad);
    let id = world.release("v2").unwrap();
    world.until("the way back has failed", |w| w.word(&id) == StatusWord::Paused);
    insta::assert_snapshot!(world.sentences.join("\n"), @"paused by controller since 2027-01-15 08:01:48 UTC: going back to v1 failed on web-01: web-01 at healthz (exit code 1): healthz said no. Mend what is the matter, then `ctl retry`");
    // What began it is not forgotten over that.
    world.host(1).behaviour.clear();
    world.ask(Action::RetryFailed { place: place(), rollout: None, reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    insta::assert_snapshot!(world.end_reason(&id), @"1 host failed, the budget allows 0: web-02 at healthz (exit code 1): healthz said no");
}

#[test]
fn rolling_back_by_hand_skips_the_canary_and_keeps_the_budget() {
    let mut world = World::on_v1(5, strategy());
    world.must_succeed("v2");
    world.most_out = 0;
    let id = world.rollback(None).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(world.runs(), ["v1"; 5]);
    assert!(world.most_out <= 2);
    // Going back once more must not go forth again.
    let refusal = world.rollback(None).unwrap_err();
    insta::assert_snapshot!(refusal, @"nothing to go back to: no release before v1 was proven for tenants in production");
}

#[test]
fn a_rollback_asked_for_under_way_turns_the_rollout_and_a_second_one_changes_nothing() {
    let mut world = World::on_v1(5, strategy());
    let id = world.release("v2").unwrap();
    world.until("half", |w| w.runs().iter().filter(|r| *r == "v2").count() == 3);
    assert_eq!(world.rollback(None).unwrap(), id);
    world.run(2);
    assert_eq!(world.word(&id), StatusWord::RollingBack);
    assert_eq!(world.rollback(None).unwrap(), id);
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    assert_eq!(world.runs(), ["v1"; 5]);
    assert!(world.most_out <= 2);
}

/// It answered that all was well, and the rollout stayed paused.
#[test]
fn asking_to_go_back_resumes_a_way_back_that_is_paused() {
    let mut world = World::on_v1(5, strategy());
    let id = world.release("v2").unwrap();
    world.until("half", |w| w.runs().iter().filter(|r| *r == "v2").count() == 3);
    world.rollback(None).unwrap();
    world.ask(Action::Pause { rollout: id.clone(), reason: "lunch".to_owned() }).unwrap();
    world.run(60);
    assert_eq!(world.word(&id), StatusWord::Paused);
    assert_eq!(world.rollback(None).unwrap(), id);
    assert_eq!(world.log.last().unwrap().event.kind(), "rollout_resumed");
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    assert_eq!(world.runs(), ["v1"; 5]);
}

/// What a rollout left in force that did not reach every host is not what to go back to unasked.
#[test]
fn going_back_unasked_passes_over_what_was_not_proven_on_the_whole() {
    for mended in [false, true] {
        let mut world = World::on_v1(4, Strategy { failure_budget: Amount::Count(1), ..strategy() });
        world.publish("v3", 3, None, strategy());
        world.host(4).behaviour.insert(name("v2"), Behaviour::Bad);
        let id = world.release("v2").unwrap();
        assert_eq!(world.ended(&id), StatusWord::Failed);
        if mended {
            world.host(4).behaviour.clear();
            world.ask(Action::RetryFailed { place: place(), rollout: None, reason: String::new() }).unwrap();
            world.until("all", |w| w.runs() == ["v2"; 4]);
            world.run(15);
        }
        world.must_succeed("v3");
        world.host(4).behaviour.clear();
        let id = world.rollback(None).unwrap();
        assert_eq!(world.ended(&id), StatusWord::Succeeded);
        let expected = if mended { "v2" } else { "v1" };
        assert_eq!(world.runs(), [expected; 4]);
    }
}

#[test]
fn what_was_proven_in_part_is_gone_back_to_by_its_name() {
    let mut world = World::new(3);
    let knobs = Strategy { failure_budget: Amount::Count(1), ..strategy() };
    world.publish("v1", 1, None, knobs.clone());
    world.publish("v2", 2, None, knobs);
    world.host(3).behaviour.insert(name("v1"), Behaviour::Bad);
    let id = world.release("v1").unwrap();
    assert_eq!(world.ended(&id), StatusWord::Failed);
    world.must_succeed("v2");
    insta::assert_snapshot!(world.rollback(None).unwrap_err(), @"nothing to go back to: no release before v2 was proven on every host of tenants in production; `ctl rollback v1` goes back to one that was proven on some");
    world.host(3).behaviour.clear();
    let id = world.rollback(Some("v1")).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn a_second_rollout_is_refused_with_who_and_since_when() {
    let mut world = World::on_v1(3, strategy());
    world.publish("v3", 3, None, strategy());
    world.release("v2").unwrap();
    let refusal = world.release("v3").unwrap_err();
    insta::assert_snapshot!(refusal, @"tenants in production is held by rollout r-8 of v2, begun by anna at 2027-01-15 08:00:29 UTC and now staging; a release can stand in line with --queue, and `ctl abort r-8` ends that one");
}

#[test]
fn the_same_request_is_answered_in_the_same_way_and_another_under_its_id_is_refused() {
    let mut world = World::on_v1(3, strategy());
    let mut command = world.command(Action::Roll(Box::new(World::request("v2"))));
    let Answer::Rollout { id } = world.send(&command).unwrap() else { panic!() };
    let before: Vec<_> = world.state.records().collect();
    command.fresh = landfall_common::RolloutId::new("another").unwrap();
    assert_eq!(world.send(&command).unwrap(), Answer::Rollout { id: id.clone() });
    assert_eq!(world.state.records().collect::<Vec<_>>(), before);
    // Also long after it has ended.
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(world.send(&command).unwrap(), Answer::Rollout { id });
    command.action = Action::Roll(Box::new(World::request("v1")));
    let request = RequestId::new(command.request.as_str()).unwrap();
    assert_eq!(decide(&world.state, &command, world.now), Err(Refusal::RequestReused { request }));
}

#[test]
fn a_paused_rollout_begins_nothing_and_its_deadlines_stand_still() {
    let mut world = World::on_v1(5, strategy());
    let id = world.release("v2").unwrap();
    world.until("the canary", |w| w.runs()[0] == "v2");
    world.ask(Action::Pause { rollout: id.clone(), reason: "lunch".to_owned() }).unwrap();
    world.run(1000);
    assert_eq!(world.runs(), ["v2", "v1", "v1", "v1", "v1"]);
    insta::assert_snapshot!(world.sentences.join("\n"), @"paused by anna since 2027-01-15 08:00:46 UTC: lunch");
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn an_abort_leaves_the_fleet_as_it_is_until_somebody_says_what_should_run() {
    let mut world = World::on_v1(5, strategy());
    let id = world.release("v2").unwrap();
    world.until("the canary", |w| w.runs()[0] == "v2");
    world.ask(Action::Abort { rollout: id.clone(), go_back: false, reason: String::new() }).unwrap();
    assert_eq!(world.word(&id), StatusWord::Aborted);
    world.run(300);
    assert_eq!(world.runs(), ["v2", "v1", "v1", "v1", "v1"]);
    insta::assert_snapshot!(world.sentences.join("\n"), @"web-01 is not at the release in force and left alone, since rollout r-9 of v2 was aborted; a new release or `ctl rollback` decides what runs");
    world.must_succeed("v2");
}

#[test]
fn a_restart_of_the_controller_between_two_batches_loses_nothing_and_moves_nothing_blindly() {
    let mut world = World::on_v1(5, strategy());
    let id = world.release("v2").unwrap();
    world.until("the canary", |w| w.runs()[0] == "v2");
    world.crash_controller();
    let issued = world.issued.len();
    world.plan();
    assert_eq!(world.issued.len(), issued, "nobody was heard of yet");
    insta::assert_snapshot!(world.sentences.join("\n"), @"batch 1 of 3 waits: web-01 has not been heard of for 0s");
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert!(world.hosts.values().all(|host| host.activations == 2));
}

#[test]
fn half_the_fleet_partitioned_at_the_gate_stops_the_rollout_and_healing_lets_it_end() {
    let mut world = World::on_v1(6, strategy());
    let id = world.release("v2").unwrap();
    world.until("the canary", |w| w.runs()[0] == "v2");
    world.cut.extend([host_id(4), host_id(5), host_id(6)]);
    world.run(25);
    let issued = world.issued.len();
    world.run(400);
    assert_eq!(world.issued.len(), issued, "three are unknown, two may be out");
    assert_eq!(world.word(&id), StatusWord::Paused);
    insta::assert_snapshot!(world.end_reason(&id), @"nothing got on for 5m: max_unavailable 2: web-04, web-05 and web-06 are out, web-02 and web-03 wait. `ctl resume` waits on, `ctl rollback` goes back");
    world.cut.clear();
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

/// Met by the simulation: what was written while the clock was ahead counted as progress until the clock was
/// there again, and no deadline fired.
#[test]
fn a_clock_that_is_set_back_does_not_hold_the_deadline_up() {
    for restarts in [false, true] {
        let mut world = World::on_v1(6, strategy());
        let id = world.release("v2").unwrap();
        world.until("the canary", |w| w.runs()[0] == "v2");
        world.cut.extend([host_id(4), host_id(5), host_id(6)]);
        world.run(25);
        world.set_back(Duration::from_secs(4 * 3600));
        if restarts {
            world.crash_controller();
        }
        world.run(290);
        assert_eq!(world.word(&id), StatusWord::Running, "a step of the clock is no deadline");
        world.run(60);
        assert_eq!(world.word(&id), StatusWord::Paused);
        world.cut.clear();
        world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
        assert_eq!(world.ended(&id), StatusWord::Succeeded);
    }
}

/// Met by the simulation (seed 87003524): a host that had not taken its order was told again, hours after others had been
/// let go in its place, once the clock was set back. It changed while the rollout was paused.
#[test]
fn an_order_that_has_lapsed_is_not_sent_again_by_a_clock_that_is_set_back() {
    let mut world = World::on_v1(3, strategy());
    world.host(1).hears = |order| !matches!(order, Order::Activate { .. });
    let id = world.release("v2").unwrap();
    let state = |w: &World| w.state.members(&id).find(|m| m.host == host_id(1)).unwrap().state.clone();
    world.until("it is let go", |w| matches!(state(w), MemberState::Granted { .. }));
    world.ask(Action::Pause { rollout: id.clone(), reason: "we look at it".to_owned() }).unwrap();
    world.until("it has lapsed", |w| state(w) == MemberState::Staged);
    world.set_back(Duration::from_secs(3600));
    world.host(1).hears = |_| true;
    world.run(60);
    assert_eq!(world.runs(), ["v1"; 3]);
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

/// Silence after an activation is no proof against the release, and none for it.
#[test]
fn a_host_that_is_lost_while_it_activates_counts_as_failed_and_is_corrected_on_return() {
    let mut world = World::on_v1(4, strategy());
    let id = world.release("v2").unwrap();
    world.until("the canary", |w| w.runs()[0] == "v2");
    world.cut.push(host_id(1));
    world.until("the way back", |w| w.word(&id) == StatusWord::RollingBack);
    insta::assert_snapshot!(world.sentences.join("\n"), @"the way back waits: web-01 has not been heard of for 3m58s");
    assert_eq!(world.runs(), ["v2", "v1", "v1", "v1"]);
    assert_eq!(world.ended(&id), StatusWord::Failed);
    insta::assert_snapshot!(world.end_reason(&id), @"1 host failed, the budget allows 0: web-01 at activate: it was asked to activate and has not said for 4m how it ended; it went back, but not on web-01");
    world.cut.clear();
    world.until("the correction", |w| w.runs() == ["v1"; 4]);
}

/// Met by the simulation: a host that was held and then tried again looked untouched to the way back.
#[test]
fn a_host_that_is_tried_again_goes_back_with_the_others() {
    let knobs = Strategy { failure_budget: Amount::Count(1), auto_rollback: false, ..strategy() };
    let mut world = World::on_v1(4, knobs);
    world.host(2).behaviour.insert(name("v2"), Behaviour::Hangs);
    world.host(3).behaviour.insert(name("v2"), Behaviour::Bad);
    let id = world.release("v2").unwrap();
    world.until("it pauses", |w| w.word(&id) == StatusWord::Paused);
    world.host(2).behaviour.clear();
    world.host(3).behaviour.clear();
    world.ask(Action::RetryFailed { place: place(), rollout: None, reason: String::new() }).unwrap();
    world.rollback(None).unwrap();
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    assert_eq!(world.runs(), ["v1"; 4]);
}

/// Whoever names a rollout that is over does not set going the one that somebody has paused since.
#[test]
fn hosts_of_another_rollout_than_the_one_that_is_meant_are_not_tried_again() {
    let mut world = World::on_v1(2, Strategy { auto_rollback: false, ..strategy() });
    world.host(2).behaviour.insert(name("v2"), Behaviour::Bad);
    let first = world.release("v2").unwrap();
    world.until("its host fails", |w| w.word(&first) == StatusWord::Paused);
    world.ask(Action::Abort { rollout: first.clone(), go_back: false, reason: "again".to_owned() }).unwrap();
    let second = world.release("v2").unwrap();
    world.until("its host fails", |w| w.word(&second) == StatusWord::Paused);
    let meant = |rollout: &RolloutId| Action::RetryFailed {
        place: place(),
        rollout: Some(rollout.clone()),
        reason: String::new(),
    };
    insta::assert_snapshot!(
        world.ask(meant(&first)).unwrap_err(),
        @"rollout r-8 is under way there, and r-6 is another one; `ctl retry r-8` tries the hosts again that failed in it"
    );
    assert_eq!(world.word(&second), StatusWord::Paused);
    world.host(2).behaviour.clear();
    world.ask(meant(&second)).unwrap();
    assert_eq!(world.ended(&second), StatusWord::Succeeded);
}

/// Met by the simulation: a host that is out for good held the way back for ever.
#[test]
fn a_way_back_that_the_budget_holds_up_pauses_and_names_the_host() {
    let knobs = Strategy { max_unavailable: Amount::Count(1), ..strategy() };
    let mut world = World::on_v1(3, knobs);
    let id = world.release("v2").unwrap();
    world.until("the canary", |w| w.issued.iter().filter(|a| a.release.name == name("v2")).count() == 2);
    world.until("it is proven", |w| w.runs()[1] == "v2");
    world.host(3).behaviour.insert(name("v1"), Behaviour::Bad);
    world.rollback(None).unwrap();
    world.until("it pauses", |w| w.word(&id) == StatusWord::Paused);
    insta::assert_snapshot!(world.end_reason(&id), @"nothing got on for 5m on the way back to v1: max_unavailable 1: web-03 is out, web-01 waits. Mend or remove the hosts that are out, then `ctl resume`");
    world.host(3).behaviour.clear();
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    assert_eq!(world.runs(), ["v1"; 3]);
}

#[test]
fn a_new_host_takes_the_release_in_force() {
    let mut world = World::on_v1(3, strategy());
    world.enrol(4);
    world.until("it joined", |w| w.runs() == ["v1"; 4]);
    // Not the one that is being rolled out, until that is in force.
    let id = world.release("v2").unwrap();
    world.until("the canary", |w| w.runs()[0] == "v2");
    world.enrol(5);
    world.until("it joined", |w| w.runs()[4] != "-");
    assert_eq!(world.runs()[4], "v1");
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    world.until("it follows", |w| w.runs() == ["v2"; 5]);
}

#[test]
fn a_silent_host_that_lacks_the_release_in_force_is_told_of_and_takes_it_on_coming_back() {
    let mut world = World::on_v1(5, strategy());
    world.host(5).up = false;
    let id = world.release("v2").unwrap();
    assert_eq!(world.ended(&id), StatusWord::Failed);
    world.run(600);
    insta::assert_snapshot!(world.sentences.join("\n"), @"web-05 is not heard of, and takes v2, the release in force, on coming back");
    world.host(5).up = true;
    world.until("the last host", |w| w.runs().iter().all(|release| release == "v2"));
}

#[test]
fn a_host_that_is_removed_is_no_longer_waited_for() {
    let mut world = World::on_v1(4, strategy());
    world.cut.push(host_id(4));
    world.run(40);
    let id = world.release("v2").unwrap();
    world.until("all others", |w| w.runs().iter().filter(|r| *r == "v2").count() == 3);
    let host = host_id(4);
    world.ask(Action::Remove { host: host.clone(), reason: "scrapped".to_owned() }).unwrap();
    world.hosts.remove(&host);
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn an_older_release_is_a_rollback_and_an_unproven_one_is_none() {
    let mut world = World::on_v1(2, strategy());
    world.publish("v3", 3, None, strategy());
    world.must_succeed("v3");
    insta::assert_snapshot!(world.release("v2").unwrap_err(), @"v2 is older than v3, which is in force for tenants in production; it was never proven here, publish its content anew under another name");
    insta::assert_snapshot!(world.rollback(Some("v2")).unwrap_err(), @"nothing to go back to: v2 was never proven for tenants in production, only a proven release can be gone back to");
    insta::assert_snapshot!(world.release("v9").unwrap_err(), @"tenants has no release v9; `ctl releases` lists those that are published");
}

#[test]
fn a_plan_that_is_no_longer_true_is_refused() {
    let mut world = World::on_v1(3, strategy());
    let plan = landfall_controller_core::preview(&world.state, &World::request("v2"), world.now).unwrap();
    assert_eq!(plan.batches.iter().map(|batch| batch.hosts.len()).collect::<Vec<_>>(), [1, 2]);
    let request =
        || landfall_controller_core::command::RollRequest { plan: Some(plan.id), ..World::request("v2") };
    world.enrol(4);
    let refusal = world.roll(request()).unwrap_err();
    insta::assert_snapshot!(refusal, @"the plan has changed since it was shown; look at it again with `ctl plan v2`");
    let host = host_id(4);
    world.ask(Action::Remove { host: host.clone(), reason: String::new() }).unwrap();
    world.hosts.remove(&host);
    let id = world.roll(request()).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

/// One that gets on a little again and again would never end. Whoever resumes it gives it as much again.
#[test]
fn a_rollout_that_takes_too_long_pauses_where_it_is() {
    let deadline = Duration::from_secs(400);
    let slow = Strategy { stagger: Duration::from_secs(120), batch: Amount::Count(1), ..strategy() };
    let mut world = World::new(8);
    world.publish("v1", 1, None, strategy());
    world.publish("v2", 2, None, Strategy { rollout_deadline: deadline, ..slow });
    world.must_succeed("v1");
    let id = world.release("v2").unwrap();
    world.run(10);
    let report = landfall_controller_core::plan(&world.state, world.now).report;
    let account = explain::rollout(&world.state, &report, &id, world.now).unwrap();
    assert!(account.deadlines.iter().any(|deadline| deadline.name == "rollout_deadline"));
    world.until("a pause", |w| w.word(&id) == StatusWord::Paused);
    insta::assert_snapshot!(world.end_reason(&id), @"it has taken all of rollout_deadline (6m40s) and is at batch 4 of 8. `ctl resume` gives it as much again, `ctl rollback` goes back");
    let done = |world: &World| world.runs().iter().filter(|runs| *runs == "v2").count();
    let first = done(&world);
    world.run(3600);
    assert_eq!((done(&world), world.word(&id)), (first, StatusWord::Paused), "it stands still");
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
    world.run(390);
    assert_ne!(world.word(&id), StatusWord::Paused);
    assert!(done(&world) > first);
    // A way back takes what it takes.
    world.until("another pause", |w| w.word(&id) == StatusWord::Paused);
    world.rollback(None).unwrap();
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
}

#[test]
fn the_release_in_force_again_restarts_nothing() {
    let mut world = World::on_v1(3, strategy());
    world.must_succeed("v1");
    assert!(world.hosts.values().all(|host| host.activations == 1));
}

#[test]
fn generations_go_on_above_what_a_host_reports() {
    let mut world = World::on_v1(3, strategy());
    // As after a restore from an old backup.
    for host in world.hosts.values_mut() {
        host.accepted = landfall_common::Generation(1000);
    }
    world.must_succeed("v2");
    assert!(world.hosts.values().all(|host| host.accepted.0 > 1000));
}

#[test]
fn the_deadline_of_a_plan_is_never_reached_by_waiting_for_health_alone() {
    let strategy = Strategy { min_healthy: Duration::from_secs(20), ..strategy() };
    let mut world = World::on_v1(8, strategy);
    world.must_succeed("v2");
    assert_eq!(world.runs(), ["v2"; 8]);
}

/// Whoever may still take an order counts as out, and may well serve: to let it go costs what it would cost otherwise.
#[test]
fn a_host_with_an_open_order_is_not_let_go_beside_one_that_is_away() {
    let knobs = Strategy { max_unavailable: Amount::Count(1), ..strategy() };
    let mut world = World::on_v1(3, knobs);
    world.host(1).hears = |order| !order.takes_out();
    let id = world.release("v2").unwrap();
    world.until("the canary is asked", |w| w.issued.iter().any(|asked| asked.rollout == id));
    world.cut.push(host_id(2));
    world.run(35);
    world.ask(Action::Abort { rollout: id.clone(), go_back: true, reason: String::new() }).unwrap();
    let asked = world.issued.len();
    world.run(20);
    assert_eq!(world.issued.len(), asked, "it was let go while web-02 was away");
    world.host(1).hears = |_| true;
    world.cut.clear();
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    assert_eq!(world.runs(), ["v1"; 3]);
}

/// The first release has failed on its canary, which serves it still, and the others run nothing: they go first, or the budget
/// would keep the one from changing until the others run what they wait to get after it (seed 88241089).
#[test]
fn before_anything_is_in_force_what_runs_nothing_goes_first() {
    let mut world = World::new(6);
    world.publish("v1", 1, None, strategy());
    world.publish("v2", 2, None, strategy());
    world.host(1).behaviour.insert(name("v1"), Behaviour::Bad);
    let bad = world.release("v1").unwrap();
    assert_eq!(world.ended(&bad), StatusWord::Failed);
    // Its checks pass by now.
    world.host(1).behaviour.clear();
    world.host(1).healthy_since = world.now;
    world.run(60);
    assert_eq!(world.runs()[0], "v1", "it was left with what failed");
    world.must_succeed("v2");
    assert_eq!(world.runs(), ["v2"; 6]);
}
