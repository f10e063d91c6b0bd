//! Restarts and reloads: the same release goes on, each step at most repeated, and nothing is gone back to.

use landfall_agent_core::placement::TrafficOutline;
use landfall_agent_core::{Effect, State};
use landfall_common::assignment::{Assignment, Order, RestartKind};
use landfall_common::report::{Health, OutcomeKind};

use crate::harness::{Harness, S, activate, activate_with, assignment, stage};

pub fn restart(generation: u64, release: &str, services: &[&str], kind: RestartKind) -> Assignment {
    let services = services.iter().map(|name| name.parse().unwrap()).collect();
    assignment(
        generation,
        release,
        Order::Restart { kind, services, min_healthy: S(10), healthy_deadline: S(300) },
    )
}

fn on_v1() -> Harness {
    let mut host = Harness::new();
    host.commit(1, "v1");
    host.forget();
    host
}

#[test]
fn only_what_is_asked_for_is_restarted_and_it_is_proven_afresh() {
    let mut host = on_v1();
    host.assign(restart(2, "v1", &["worker", "of-other-hosts"], RestartKind::Restart));
    host.run();
    assert_eq!(host.names(), ["restart-worker"]);
    assert!(matches!(host.record().state, State::Proving { .. }));
    // What its checks said before is no evidence.
    assert_eq!(host.report().health, Health::Unknown);
    host.checks_answer(Ok(()));
    host.wait(S(9));
    assert!(matches!(host.record().state, State::Proving { .. }));
    host.wait(S(1));
    host.run();
    assert_eq!(host.outcome(), &OutcomeKind::Committed);
    assert_eq!(host.names(), ["restart-worker", "smoke 0"]);
    assert_eq!(host.record().active, Some("v1".parse().unwrap()));
    assert!(host.report().active.unwrap().proven && host.report().restarts);
}

#[test]
fn a_reload_is_told_as_one_and_what_does_not_run_here_is_passed_over() {
    let mut host = on_v1();
    host.assign(restart(2, "v1", &["web"], RestartKind::Reload));
    host.run();
    assert_eq!(host.names(), ["reload-web"]);
    host.checks_answer(Ok(()));
    host.wait(S(10));
    host.run();
    assert_eq!(host.outcome(), &OutcomeKind::Committed);
    host.forget();
    host.assign(restart(3, "v1", &["of-other-hosts"], RestartKind::Restart));
    host.run();
    host.checks_answer(Ok(()));
    host.wait(S(10));
    host.run();
    assert_eq!(host.outcome(), &OutcomeKind::Committed);
    assert_eq!(host.names(), ["smoke 0"]);
}

#[test]
fn what_fails_leaves_everything_in_place() {
    let mut host = on_v1();
    host.assign(restart(2, "v1", &["web", "worker"], RestartKind::Restart));
    host.fail_next("restart-web");
    host.run();
    let OutcomeKind::Held { failure } = host.outcome() else { panic!("{:?}", host.outcome()) };
    assert_eq!(failure.step.as_str(), "restart-web");
    assert_eq!(host.names(), ["restart-web"], "the others were not touched");
    assert_eq!(host.record().active, Some("v1".parse().unwrap()));
    assert!(host.report().active.unwrap().proven, "the same release runs, and its checks say how");
    // Nor does it go back where its checks fail.
    host.assign(restart(3, "v1", &["web"], RestartKind::Restart));
    host.run();
    host.checks_answer(Err("status 500"));
    host.wait(S(300));
    let OutcomeKind::Held { failure } = host.outcome() else { panic!("{:?}", host.outcome()) };
    assert_eq!(failure.reason, "check http fails: status 500; not healthy for 10s within 5m");
    assert!(matches!(host.report().health, Health::Unhealthy { .. }));
}

#[test]
fn an_agent_that_is_killed_in_the_middle_finishes_it() {
    for killed_after in 0..=2 {
        let mut host = on_v1();
        host.assign(restart(2, "v1", &["web", "worker"], RestartKind::Restart));
        (0..killed_after).for_each(|_| host.run_one());
        host.restart();
        host.run();
        assert!(matches!(host.record().state, State::Proving { .. }));
        host.restart();
        host.checks_answer(Ok(()));
        host.wait(S(10));
        host.run();
        assert_eq!(host.outcome(), &OutcomeKind::Committed, "killed after {killed_after}");
        // Asked again for what has ended, it only says so.
        let names = host.names();
        host.assign(restart(2, "v1", &["web", "worker"], RestartKind::Restart));
        assert!(host.effects().iter().all(|effect| matches!(effect, Effect::Report)));
        assert_eq!(host.names(), names);
    }
}

#[test]
fn only_what_is_active_and_whole_is_restarted() {
    let reason = |host: &Harness| match host.outcome() {
        OutcomeKind::Refused { failure } => failure.reason.clone(),
        other => panic!("{other:?}"),
    };
    let mut host = Harness::new();
    host.assign(restart(1, "v1", &["web"], RestartKind::Restart));
    assert_eq!(reason(&host), "v1 is not active on this host, and nothing is");
    assert!(host.names().is_empty(), "nothing is fetched for it");
    host.commit(2, "v1");
    host.assign(stage(3, "v2"));
    host.run();
    host.forget();
    host.assign(restart(4, "v2", &["web"], RestartKind::Restart));
    assert_eq!(reason(&host), "v2 is not active on this host, v1 is");
    host.assign(activate_with(5, "v2", landfall_common::assignment::OnFailure::Hold));
    host.fail_next("restart-worker");
    host.run();
    host.forget();
    host.assign(restart(6, "v2", &["web"], RestartKind::Restart));
    assert!(
        reason(&host).contains("services of this host may run another release than v2"),
        "{}",
        reason(&host)
    );
    assert!(host.names().is_empty());
}

#[test]
fn one_restart_waits_for_the_proof_of_another_and_a_release_does_not() {
    let mut host = on_v1();
    host.assign(restart(2, "v1", &["web"], RestartKind::Restart));
    host.run();
    host.assign(restart(3, "v1", &["web"], RestartKind::Restart));
    host.run();
    assert_eq!(host.names(), ["restart-web"]);
    host.assign(activate(4, "v2"));
    host.run();
    host.checks_answer(Ok(()));
    host.wait(S(10));
    host.run();
    assert_eq!(host.outcome(), &OutcomeKind::Committed);
    assert_eq!(host.record().active, Some("v2".parse().unwrap()));
}

#[test]
fn behind_a_gate_it_is_out_meanwhile_and_after_a_failure() {
    let mut host = on_v1();
    let gated = |host: &mut Harness| {
        let installed = host.machine.record.installed.values_mut();
        installed.for_each(|installed| installed.outline.traffic = Some(TrafficOutline::Gate));
    };
    gated(&mut host);
    host.assign(restart(2, "v1", &["web"], RestartKind::Restart));
    host.run();
    assert_eq!(host.names(), ["drain", "restart-web", "undrain"]);
    host.checks_answer(Ok(()));
    host.wait(S(10));
    host.run();
    assert_eq!(host.outcome(), &OutcomeKind::Committed);
    host.forget();
    host.assign(restart(3, "v1", &["web"], RestartKind::Reload));
    host.run();
    assert_eq!(host.names(), ["reload-web"], "a reload drops no request");
    host.checks_answer(Ok(()));
    host.wait(S(10));
    host.run();
    host.assign(restart(4, "v1", &["web"], RestartKind::Restart));
    host.fail_next("restart-web");
    host.run();
    assert!(matches!(host.outcome(), OutcomeKind::Held { .. }));
    assert!(!host.report().active.unwrap().proven, "it gets no requests until it is proven again");
    host.forget();
    host.assign(restart(5, "v1", &["web"], RestartKind::Restart));
    host.run();
    host.checks_answer(Ok(()));
    host.wait(S(10));
    host.run();
    assert!(host.report().active.unwrap().proven);
}
