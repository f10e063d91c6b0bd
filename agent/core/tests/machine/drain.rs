//! Draining: requests are led away by somebody's word and stay away, whatever happens; they come back to a healthy host.

mod laws;

use landfall_agent_core::placement::TrafficOutline;
use landfall_agent_core::{Effect, Event, Placement, State, Target};
use landfall_common::assignment::{Assignment, OnFailure, Order, RestartKind};
use landfall_common::manifest::traffic::Slot;
use landfall_common::report::{OutcomeKind, Traffic};

use crate::harness::{Harness, S, activate, activate_with, assignment, stage};
use crate::restart::restart;

fn drain(generation: u64, away: bool) -> Assignment {
    assignment(generation, "v1", Order::Drain { away })
}

/// On v1, behind a gate, and serving.
fn on_v1() -> Harness {
    let mut host = Harness::new();
    host.traffic = Some(TrafficOutline::Gate);
    host.commit(1, "v1");
    host.forget();
    host
}

/// Where the agent has last asked for requests to be led.
fn asked(host: &Harness) -> Option<Target> {
    let mut aims = host.effects().iter().rev();
    aims.find_map(|effect| match effect {
        Effect::Aim { aim } => Some(aim.to.clone()),
        _ => None,
    })
}

/// The gate answers what it was asked, if it was.
fn aim(host: &mut Harness, result: Result<(), &str>) {
    let mut aims = host.effects().iter().rev();
    let found = aims.find_map(|effect| match effect {
        Effect::Aim { aim } => Some(aim.clone()),
        _ => None,
    });
    host.clear();
    if let Some(aim) = found {
        host.send(Event::Aimed { aim, result: result.map_err(str::to_owned) });
    }
}

fn refused(host: &Harness) -> &str {
    let OutcomeKind::Refused { failure } = host.outcome() else { panic!("{:?}", host.outcome()) };
    &failure.reason
}

#[test]
fn requests_are_led_away_and_nothing_that_runs_is_touched() {
    let mut host = on_v1();
    assert_eq!(host.report().traffic, Traffic::Led);
    host.assign(drain(2, true));
    assert_eq!(host.outcome(), &OutcomeKind::Committed);
    // Those under way are ending.
    assert_eq!((asked(&host), host.report().traffic), (Some(Target::Nowhere), Traffic::Draining));
    aim(&mut host, Ok(()));
    assert_eq!(host.report().traffic, Traffic::Drained);
    assert_eq!(host.names(), Vec::<String>::new());
    // Said twice it is the same.
    host.assign(drain(3, true));
    assert_eq!(host.report().traffic, Traffic::Drained);
    assert_eq!(host.outcome(), &OutcomeKind::Committed);
    assert_eq!(asked(&host), None);
}

#[test]
fn a_gate_that_does_not_answer_is_asked_again_and_the_host_is_not_called_drained() {
    let mut host = on_v1();
    host.assign(drain(2, true));
    aim(&mut host, Err("the socket is gone"));
    assert_eq!(host.report().traffic, Traffic::Draining);
    host.wait(S(2));
    assert_eq!(asked(&host), Some(Target::Nowhere));
    aim(&mut host, Ok(()));
    assert_eq!(host.report().traffic, Traffic::Drained);
}

#[test]
fn a_drained_host_stays_so_over_restarts_of_its_agent() {
    let mut host = on_v1();
    host.assign(drain(2, true));
    // Killed before the gate has answered, and after.
    for _ in 0..2 {
        host.restart();
        assert_eq!(asked(&host), Some(Target::Nowhere));
        assert_eq!(host.report().traffic, Traffic::Draining, "who was killed does not know what it has done");
        aim(&mut host, Ok(()));
        assert_eq!(host.report().traffic, Traffic::Drained);
    }
    host.checks_answer(Ok(()));
    host.wait(S(3600));
    assert_eq!(asked(&host), None, "nobody has said otherwise");
}

#[test]
fn requests_come_back_once_the_host_is_healthy() {
    let mut host = on_v1();
    host.assign(drain(2, true));
    aim(&mut host, Ok(()));
    host.checks_answer(Err("status 500"));
    host.assign(drain(3, false));
    assert_eq!(host.outcome(), &OutcomeKind::Committed);
    assert_eq!((asked(&host), host.report().traffic), (None, Traffic::Returning));
    // Also where the agent is killed meanwhile.
    host.restart();
    aim(&mut host, Ok(()));
    host.wait(S(60));
    assert_eq!((asked(&host), host.report().traffic), (None, Traffic::Returning));
    host.checks_answer(Ok(()));
    assert_eq!((asked(&host), host.report().traffic), (Some(Target::Open), Traffic::Led));
    // And what was never drained is not brought back.
    let mut host = on_v1();
    host.assign(drain(2, false));
    assert_eq!((host.outcome(), asked(&host)), (&OutcomeKind::Committed, None));
}

#[test]
fn what_nothing_leads_elsewhere_is_refused_with_the_reason() {
    let mut host = Harness::new();
    host.assign(drain(1, true));
    insta::assert_snapshot!(refused(&host), @"v1 is not active on this host, and nothing is");
    host.commit(2, "v1");
    assert_eq!(host.report().traffic, Traffic::Ungated);
    host.assign(drain(3, true));
    insta::assert_snapshot!(refused(&host), @"v1 has nothing that leads requests to another host");
    let slots = TrafficOutline::Slots { service: "web".parse().unwrap(), keep: S(600) };
    host.machine.record.installed.values_mut().for_each(|i| i.outline.traffic = Some(slots.clone()));
    host.machine.record.placement =
        Placement { slots: [(Slot::Blue, "v1".parse().unwrap())].into(), ..Placement::default() };
    host.assign(drain(4, true));
    insta::assert_snapshot!(refused(&host), @"v1 has two slots on this host, and nothing that leads requests to another host");
    let mut host = on_v1();
    host.commit(2, "v2");
    host.assign(drain(3, true));
    insta::assert_snapshot!(refused(&host), @"v1 is not active on this host, v2 is");
    assert_eq!(host.record().led_away, None);
}

#[test]
fn what_is_under_way_ends_first_and_what_is_only_staged_is_left() {
    let mut host = on_v1();
    host.assign(restart(2, "v1", &["web"], RestartKind::Restart));
    host.assign(drain(3, true));
    assert!(host.record().queued.is_some());
    host.run();
    assert!(host.record().queued.is_some(), "it is being proven");
    host.checks_answer(Ok(()));
    host.wait(S(10));
    host.run();
    assert_eq!(host.names(), ["drain", "restart-web", "undrain", "smoke 0"]);
    assert_eq!(host.report().traffic, Traffic::Draining);
    aim(&mut host, Ok(()));
    assert_eq!(host.report().traffic, Traffic::Drained);

    let mut host = on_v1();
    host.assign(stage(2, "v2"));
    host.assign(drain(3, true));
    assert!(host.effects().contains(&Effect::Cancel));
    assert_eq!((&host.record().state, host.outcome()), (&State::Idle, &OutcomeKind::Committed));
}

/// A controller that does not know what it has said must not bring requests to a host that somebody works on.
#[test]
fn whatever_else_is_asked_leads_no_request_there() {
    for fails in [None, Some("restart-web")] {
        let mut host = on_v1();
        host.assign(drain(2, true));
        aim(&mut host, Ok(()));
        for order in [restart(3, "v1", &["web"], RestartKind::Restart), activate(4, "v2")] {
            host.assign(order);
            while host.record().state.awaits().is_some() {
                fails.iter().for_each(|name| host.fail_next(name));
                host.run_one();
            }
            host.checks_answer(Ok(()));
            host.wait(S(10));
            host.run();
            assert!(!host.names().contains(&"undrain".to_owned()), "{:?}", host.names());
            assert_ne!(asked(&host), Some(Target::Open));
            aim(&mut host, Ok(()));
            assert_eq!(host.report().traffic, Traffic::Drained, "{fails:?}");
        }
    }
}

/// Nobody would lead them back: what has no gate cannot, and what was active before is not any more.
#[test]
fn what_could_not_lead_requests_back_is_not_activated_on_a_drained_host() {
    let mut host = on_v1();
    host.assign(drain(2, true));
    aim(&mut host, Ok(()));
    host.traffic = None;
    host.assign(activate(3, "v2"));
    host.run();
    insta::assert_snapshot!(refused(&host), @"requests are led away from this host, and v2 has nothing that could lead them back; undrain it first");
    assert_eq!(
        (host.report().traffic, host.record().active().unwrap().release.name.as_str()),
        (Traffic::Drained, "v1")
    );
    // Where they were to come back anyway they do so with what has no say in it.
    host.checks_answer(Err("status 500"));
    host.assign(drain(4, false));
    assert_eq!(host.report().traffic, Traffic::Returning);
    host.forget();
    host.commit(5, "v2");
    insta::assert_debug_snapshot!(host.names(), @r#"
    [
        "swap",
        "restart-web",
        "restart-worker",
        "undrain",
        "smoke 0",
    ]
    "#);
    assert_eq!((host.report().traffic, host.record().led_away), (Traffic::Ungated, None));
}

#[test]
fn what_is_activated_on_a_host_that_comes_back_is_proven_before_it_gets_requests() {
    let mut host = on_v1();
    host.assign(drain(2, true));
    aim(&mut host, Ok(()));
    host.checks_answer(Err("status 500"));
    host.assign(drain(3, false));
    host.assign(activate(4, "v2"));
    host.run();
    host.checks_answer(Ok(()));
    host.wait(S(5));
    assert_eq!((asked(&host), host.report().traffic), (None, Traffic::Returning));
    host.wait(S(5));
    host.run();
    assert_eq!(host.outcome(), &OutcomeKind::Committed);
    assert_eq!((asked(&host), host.report().traffic), (Some(Target::Open), Traffic::Led));
    assert!(!host.names().contains(&"undrain".to_owned()), "{:?}", host.names());
}

/// Whoever gives a host free that was drained does not thereby say that what failed there may have requests.
#[test]
fn a_release_in_doubt_gets_no_request_because_a_host_is_undrained() {
    let mut host = on_v1();
    host.assign(activate_with(2, "v2", OnFailure::Hold));
    host.fail_next("restart-worker");
    host.run();
    assert!(matches!(host.outcome(), OutcomeKind::Held { .. }) && host.record().in_doubt);
    aim(&mut host, Ok(()));
    host.assign(assignment(3, "v2", Order::Drain { away: true }));
    host.assign(assignment(4, "v2", Order::Drain { away: false }));
    host.checks_answer(Ok(()));
    host.wait(S(60));
    assert_eq!(host.report().traffic, Traffic::Returning);
    assert_ne!(asked(&host), Some(Target::Open));
    // What is proven there does.
    host.commit(5, "v2");
    assert_eq!(host.report().traffic, Traffic::Led);
    host.restart();
    assert_eq!(asked(&host), Some(Target::Open));
}
