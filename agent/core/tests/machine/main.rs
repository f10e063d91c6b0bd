//! The machine's decisions, one sentence each.

#![allow(clippy::unwrap_used, reason = "a test states what it expects with unwrap")]

mod acceptance;
mod drain;
mod follows;
mod harness;
mod migrations;
mod restart;
mod slots;

use harness::{Harness, S, activate, activate_with, migrate, stage};
use landfall_agent_core::{Action, Effect, Event, Finish, State};
use landfall_common::ReleaseName;
use landfall_common::assignment::OnFailure;
use landfall_common::report::{Health, OutcomeKind, Phase};

#[test]
fn a_release_is_staged_activated_proven_and_committed() {
    let mut host = Harness::new();
    host.assign(stage(1, "v1"));
    host.run();
    assert_eq!(host.outcome(), &OutcomeKind::Staged);
    assert_eq!(host.record().active, None, "staging touched what runs");
    host.assign(activate(2, "v1"));
    host.run();
    assert!(matches!(host.record().state, State::Proving { .. }));
    host.checks_answer(Ok(()));
    host.wait(S(9));
    assert!(matches!(host.report().phase, Phase::Proving { healthy_for } if healthy_for == S(9)));
    host.wait(S(1));
    host.run();
    assert_eq!(host.outcome(), &OutcomeKind::Committed);
    let report = host.report();
    assert!(report.active.is_some_and(|active| active.proven));
    assert!(matches!(report.health, Health::Healthy { .. }));
    assert_eq!(
        host.names(),
        ["fetch", "unpack", "prepare 0", "seal", "swap", "restart-web", "restart-worker", "smoke 0"]
    );
}

#[test]
fn an_activation_of_a_release_that_is_not_here_stages_it_first() {
    let mut host = Harness::new();
    host.commit(1, "v1");
    assert_eq!(host.record().active, Some("v1".parse().unwrap()));
}

#[test]
fn a_release_that_fails_its_checks_goes_back_to_the_proven_one() {
    let mut host = Harness::new();
    host.commit(1, "v1");
    host.assign(activate(2, "v2"));
    host.run();
    host.checks_answer(Err("status 500"));
    host.wait(S(300));
    host.run();
    assert!(matches!(host.record().state, State::Confirming { .. }), "the way back is verified too");
    host.checks_answer(Ok(()));
    let OutcomeKind::Reverted { failure } = host.outcome() else { panic!("{:?}", host.outcome()) };
    assert_eq!(failure.reason, "check http fails: status 500; not healthy for 10s within 5m");
    assert_eq!(host.record().active, Some("v1".parse().unwrap()));
}

#[test]
fn a_failing_check_begins_the_window_anew_and_a_late_recovery_still_commits() {
    let mut host = Harness::new();
    host.assign(activate(1, "v1"));
    host.run();
    host.checks_answer(Ok(()));
    host.wait(S(9));
    host.checks_answer(Err("status 500"));
    host.checks_answer(Ok(()));
    host.wait(S(9));
    host.run();
    assert!(matches!(host.record().state, State::Proving { .. }));
    host.wait(S(1));
    host.run();
    assert_eq!(host.outcome(), &OutcomeKind::Committed);
}

#[test]
fn the_first_release_of_a_host_has_nothing_to_go_back_to() {
    let mut host = Harness::new();
    host.assign(activate(1, "v1"));
    host.run();
    host.wait(S(300));
    let OutcomeKind::Held { failure } = host.outcome() else { panic!("{:?}", host.outcome()) };
    assert!(failure.reason.contains("there is no proven release to go back to on this host"), "{failure:?}");
}

#[test]
fn an_order_to_hold_leaves_the_failed_release_in_place() {
    let mut host = Harness::new();
    host.commit(1, "v1");
    host.assign(harness::activate_with(2, "v2", OnFailure::Hold));
    host.run();
    host.wait(S(300));
    assert!(matches!(host.outcome(), OutcomeKind::Held { .. }));
    assert_eq!(host.record().active, Some("v2".parse().unwrap()));
    assert!(!host.report().active.unwrap().proven);
}

#[test]
fn after_a_swap_that_failed_the_link_is_put_right_and_until_then_the_host_is_not_healthy() {
    let mut host = Harness::new();
    host.commit(1, "v1");
    host.assign(harness::activate_with(2, "v2", OnFailure::Hold));
    host.fail_next("swap");
    host.run();
    assert!(matches!(host.outcome(), OutcomeKind::Held { .. }));
    assert_eq!(host.record().active, Some("v1".parse().unwrap()));
    let name_active = Effect::NameActive { release: "v1".parse().unwrap() };
    assert!(host.effects().contains(&name_active), "the rename may have taken place");
    let Health::Unhealthy { failing } = host.report().health else { panic!("{:?}", host.report()) };
    assert_eq!(failing.keys().map(|check| check.as_str()).collect::<Vec<_>>(), ["current"]);

    host.clear();
    host.send(Event::Named { result: Err("it failed again".to_owned()) });
    host.wait(S(2));
    assert!(host.effects().contains(&name_active), "it is tried again");
    host.assign(activate(3, "v1"));
    assert!(host.record().state.awaits().is_some(), "no release is proven through a link to another one");

    host.run();
    host.checks_answer(Ok(()));
    assert!(matches!(host.report().health, Health::Healthy { .. }), "a swap names what it should");
}

/// After a reboot: once, and never again, was how long a service stayed down when the disk had refused a read.
#[test]
fn services_that_could_not_be_started_and_checks_that_could_not_be_begun_are_tried_again() {
    let mut host = Harness::new();
    host.commit(1, "v1");
    host.restart();
    let v1: ReleaseName = "v1".parse().unwrap();
    let asked = |host: &Harness| {
        let effects = host.effects().iter();
        let of = |effect: &&Effect| matches!(effect, Effect::Ensure { release } if *release == v1);
        effects.filter(of).count()
    };
    assert_eq!(asked(&host), 1);
    let fails = || Event::Ensured { release: "v1".parse().unwrap(), result: Err("it exited".to_owned()) };
    let mut waits = Vec::new();
    for _ in 0..8 {
        host.clear();
        host.send(fails());
        let since = host.now.mono;
        while asked(&host) == 0 {
            assert!(host.machine.wake_after().is_some(), "somebody has to look at the clock");
            host.wait(S(1));
        }
        waits.push((host.now.mono - since).as_secs());
        host.clear();
        host.wait(S(300));
        assert_eq!(asked(&host), 0, "one at a time");
    }
    assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60, 60]);
    host.send(fails());
    let Health::Unhealthy { failing } = host.report().health else { panic!("{:?}", host.report()) };
    assert_eq!(failing.values().collect::<Vec<_>>(), ["it exited"]);
    host.send(Event::Ensured { release: v1.clone(), result: Ok(()) });
    host.clear();
    host.wait(S(300));
    assert_eq!(asked(&host), 0, "it runs");

    let watch = host.machine.live.watches;
    host.send(Event::Unwatched { watch, reason: "a manifest cannot be read".to_owned() });
    assert!(matches!(host.report().health, Health::Unhealthy { .. }));
    host.wait(S(2));
    assert_eq!(host.machine.live.watches, watch + 1);
    host.checks_answer(Ok(()));
    assert!(matches!(host.report().health, Health::Healthy { .. }));

    // What an activation restarts is not started beside it.
    host.assign(activate(2, "v2"));
    while !matches!(host.record().state, State::Activating { .. }) {
        host.run_one();
    }
    host.clear();
    host.send(fails());
    host.wait(S(300));
    assert_eq!(asked(&host), 0);
}

#[test]
fn a_release_never_goes_back_to_one_that_was_held_or_to_itself() {
    let mut host = Harness::new();
    host.commit(1, "v1");
    host.assign(harness::activate_with(2, "v2", OnFailure::Hold));
    host.run();
    host.wait(S(300));
    host.assign(activate(3, "v3"));
    host.run();
    host.wait(S(300));
    host.run();
    host.checks_answer(Ok(()));
    assert!(matches!(host.outcome(), OutcomeKind::Reverted { .. }));
    assert_eq!(host.record().active, Some("v1".parse().unwrap()), "v2 was never proven");
    host.assign(activate(4, "v1"));
    host.run();
    host.checks_answer(Err("down"));
    host.wait(S(300));
    assert!(matches!(host.outcome(), OutcomeKind::Held { .. }), "v1 was reverted to itself");
}

#[test]
fn a_way_back_that_fails_is_told_and_the_other_services_still_come_back() {
    let mut host = Harness::new();
    host.commit(1, "v1");
    host.assign(activate(2, "v2"));
    host.run();
    host.fail_next("restart-web");
    host.wait(S(300));
    host.run();
    let OutcomeKind::UndoFailed { undo, .. } = host.outcome() else { panic!("{:?}", host.outcome()) };
    assert_eq!(undo.step.as_str(), "restart-web");
    assert_eq!(host.names().last().map(String::as_str), Some("restart-worker"));
}

#[test]
fn a_way_back_to_a_release_that_was_held_half_way_restarts_all_of_it() {
    let mut host = Harness::new();
    host.commit(1, "v1");
    host.commit(2, "v2");
    host.assign(harness::activate_with(3, "v1", OnFailure::Hold));
    host.fail_next("restart-web");
    host.run();
    assert!(matches!(host.outcome(), OutcomeKind::Held { .. }), "the worker runs v2, and v1 is active");
    host.acts.clear();
    host.assign(activate(4, "v3"));
    host.fail_next("restart-web");
    host.run();
    let back: Vec<_> = host.acts.iter().skip(2).map(|action| action.name().to_string()).collect();
    assert_eq!(back, ["swap", "restart-web", "restart-worker"]);
}

#[test]
fn a_restart_that_fails_undoes_only_what_was_begun() {
    let mut host = Harness::new();
    host.commit(1, "v1");
    host.forget();
    host.fail_next("restart-web");
    host.assign(activate(2, "v2"));
    host.run();
    let acts: Vec<_> = host.names().into_iter().skip_while(|name| name != "swap").collect();
    assert_eq!(acts, ["swap", "restart-web", "swap", "restart-web"]);
}

#[test]
fn a_new_assignment_waits_for_a_migration_and_then_is_taken_up() {
    let mut host = Harness::new();
    host.assign(stage(1, "v1"));
    host.run();
    host.assign(migrate(2, "v1", 1));
    host.assign(activate(3, "v1"));
    assert!(matches!(host.record().state, State::Migrating { .. }));
    host.restart();
    host.run();
    assert!(matches!(&host.record().state, State::Proving { activation } if activation.generation.0 == 3));
}

#[test]
fn a_rollback_supersedes_a_release_that_is_being_proven() {
    let mut host = Harness::new();
    host.commit(1, "v1");
    host.assign(activate(2, "v2"));
    host.run();
    host.assign(activate(3, "v1"));
    host.run();
    host.checks_answer(Ok(()));
    host.wait(S(10));
    host.run();
    assert_eq!(host.outcome(), &OutcomeKind::Committed);
    assert_eq!(host.record().active, Some("v1".parse().unwrap()));
}

#[test]
fn staging_the_next_release_does_not_disturb_one_that_is_being_proven() {
    let mut host = Harness::new();
    host.commit(1, "v1");
    host.assign(activate(2, "v2"));
    host.run();
    host.assign(stage(3, "v3"));
    assert!(matches!(host.record().state, State::Proving { .. }));
    host.checks_answer(Ok(()));
    host.wait(S(10));
    host.run();
    assert!(host.record().is_proven(&"v2".parse().unwrap()));
    assert!(host.record().installed.contains_key(&"v3".parse().unwrap()));
}

#[test]
fn a_late_answer_to_what_is_not_awaited_any_more_is_ignored() {
    let mut host = Harness::new();
    host.assign(stage(1, "v1"));
    let effect = Box::new(host.record().state.awaits().unwrap());
    host.assign(stage(2, "v2"));
    assert!(host.effects().contains(&Effect::Cancel));
    let before = host.record().clone();
    host.send(Event::Done { effect, finish: Finish::Ok });
    assert_eq!(host.record(), &before);
}

#[test]
fn a_committed_release_that_turns_unhealthy_is_told_and_not_reverted() {
    let mut host = Harness::new();
    host.commit(1, "v1");
    host.commit(2, "v2");
    host.checks_answer(Err("status 503"));
    assert!(host.effects().contains(&Effect::Report));
    host.wait(S(10_000));
    assert!(matches!(host.report().health, Health::Unhealthy { .. }));
    assert_eq!(host.record().active, Some("v2".parse().unwrap()));
    assert_eq!(host.record().state, State::Idle);
}

#[test]
fn retention_never_forgets_the_active_release_or_the_way_back() {
    let mut host = Harness::new();
    for (index, name) in ["v1", "v2", "v3", "v4", "v5", "v6"].iter().enumerate() {
        host.commit(index as u64 + 1, name);
    }
    let kept: Vec<_> = host.record().installed.keys().map(ToString::to_string).collect();
    assert_eq!(kept, ["v4", "v5", "v6"]);
    // Releases that fail do not push the last good ones out.
    for generation in 7..15 {
        host.assign(stage(generation, &format!("w{generation}")));
        host.run();
    }
    let record = host.record();
    for name in ["v6", "v5"] {
        assert!(record.installed.contains_key(&name.parse().unwrap()), "{name} was forgotten");
    }
    assert_eq!(record.installed.len(), 3);
}

#[test]
fn a_service_that_the_next_release_does_not_have_is_stopped_and_comes_back_on_the_way_back() {
    let mut host = Harness::new();
    host.commit(1, "v1");
    host.forget();
    host.services = vec!["web", "mailer"];
    host.assign(activate(2, "v2"));
    host.run();
    assert_eq!(host.names().split_off(4), ["swap", "restart-web", "restart-mailer", "stop-worker"]);
    host.forget();
    host.wait(S(300));
    host.run();
    assert_eq!(host.names(), ["swap", "restart-web", "restart-worker", "stop-mailer"]);
    let stop = host.acts.last().unwrap();
    assert_eq!(*stop, Action::Stop { service: "mailer".parse().unwrap(), release: "v2".parse().unwrap() });
}

#[test]
fn a_restarted_agent_begins_an_activation_again_and_finishes_it() {
    let mut host = Harness::new();
    host.commit(1, "v1");
    host.assign(activate(2, "v2"));
    for _ in 0..6 {
        host.run_one();
    }
    assert!(matches!(host.record().state, State::Activating { at: 2, .. }), "{:?}", host.record().state);
    host.restart();
    assert!(matches!(host.record().state, State::Activating { at: 0, .. }));
    host.run();
    host.checks_answer(Ok(()));
    host.wait(S(10));
    host.run();
    assert_eq!(host.outcome(), &OutcomeKind::Committed);
}

/// The killed attempt had restarted `web`: that the second one fails before it comes to that changes nothing.
#[test]
fn what_was_begun_before_a_restart_is_undone_though_the_next_attempt_fails_at_once() {
    let mut host = Harness::new();
    host.commit(1, "v1");
    host.assign(activate(2, "v2"));
    for _ in 0..6 {
        host.run_one();
    }
    host.restart();
    host.fail_next("swap");
    host.forget();
    host.run();
    assert_eq!(host.names(), ["swap", "swap", "restart-web", "restart-worker"]);
}

/// Found by the simulation, seed 66005024: the host called itself healthy, and a service of the failed release
/// ran on beside the old one for ever.
#[test]
fn a_way_back_that_ends_half_way_leaves_the_host_unhealthy_and_the_next_release_clears_up() {
    let mut host = Harness::new();
    host.commit(1, "v1");
    host.services = vec!["web", "mailer"];
    host.assign(activate(2, "v2"));
    host.run();
    host.wait(S(300));
    host.run_one();
    host.restart();
    host.fail_next("swap");
    host.run();
    assert!(matches!(host.outcome(), OutcomeKind::UndoFailed { .. }));
    host.send(Event::Named { result: Ok(()) });
    host.checks_answer(Ok(()));
    let Health::Unhealthy { failing } = host.report().health else { panic!("{:?}", host.report().health) };
    assert!(failing[&"swap".parse().unwrap()].contains("services may run another one"), "{failing:?}");
    host.services = vec!["web"];
    host.forget();
    host.commit(3, "v3");
    assert_eq!(host.names()[4..8], ["swap", "restart-web", "stop-worker", "stop-mailer"]);
    assert!(host.record().strays.is_empty());
    host.checks_answer(Ok(()));
    assert!(matches!(host.report().health, Health::Healthy { .. }));
}

/// Found by the simulation, seed 29: the second service of the release before ran on for ever.
#[test]
fn a_service_that_a_held_activation_left_running_is_ended_by_the_next_one() {
    let mut host = Harness::new();
    host.commit(1, "v1");
    host.services = vec!["web"];
    host.fail_next("restart-web");
    host.assign(activate_with(2, "v2", OnFailure::Hold));
    host.run();
    assert!(matches!(host.outcome(), OutcomeKind::Held { .. }));
    assert_eq!(host.record().strays.len(), 1, "the worker of v1 runs on");
    host.restart();
    host.forget();
    host.assign(activate(3, "v3"));
    host.run();
    assert_eq!(host.names()[4..], ["swap", "restart-web", "stop-worker"]);
    assert!(host.record().strays.is_empty());
}

/// Found by the simulation, seed 20425: the controller took the link for the whole truth.
#[test]
fn a_release_that_was_proven_before_and_failed_now_is_not_reported_as_proven() {
    let mut host = Harness::new();
    host.commit(1, "v1");
    host.commit(2, "v2");
    host.fail_next("restart-web");
    host.assign(activate_with(3, "v1", OnFailure::Hold));
    host.run();
    assert!(matches!(host.outcome(), OutcomeKind::Held { .. }));
    assert!(host.report().active.is_some_and(|active| !active.proven));
    host.checks_answer(Ok(()));
    host.assign(stage(4, "v3"));
    host.run();
    assert!(host.report().active.is_some_and(|active| !active.proven));
    host.forget();
    host.commit(5, "v1");
    assert_eq!(host.names()[..3], ["swap", "restart-web", "restart-worker"], "all is restarted");
    assert!(host.report().active.is_some_and(|active| active.proven));
}
