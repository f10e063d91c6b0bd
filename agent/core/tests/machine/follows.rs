//! A release that follows another is taken only from there, whoever orders it (P1).

use landfall_common::ReleaseCounter;
use landfall_common::assignment::OnFailure;
use landfall_common::manifest::Follows;
use landfall_common::report::OutcomeKind;

use crate::harness::{Harness, S, activate, activate_with, stage};

fn on_v1() -> Harness {
    let mut host = Harness::new();
    host.commit(1, "v1");
    host
}

fn demands(host: &mut Harness, stop: &str) {
    let counter = ReleaseCounter(stop[1..].parse().unwrap());
    host.follows = Some(Follows { release: stop.parse().unwrap(), counter });
}

fn refused(host: &Harness) -> String {
    let OutcomeKind::Refused { failure } = host.outcome() else { panic!("{:?}", host.outcome()) };
    assert_eq!(failure.step.as_str(), "accept");
    failure.reason.clone()
}

#[test]
fn a_stop_cannot_be_skipped() {
    let mut host = on_v1();
    demands(&mut host, "v2");
    host.assign(activate(2, "v3"));
    host.run();
    assert_eq!(refused(&host), "v3 follows v2, so that a host takes that first, and here v1 is active");
    assert_eq!(host.record().active, Some("v1".parse().unwrap()), "nothing was touched");
    // Nor by killing the agent in between, nor once it is staged.
    host.restart();
    host.assign(stage(3, "v3"));
    host.run();
    assert_eq!(host.outcome(), &OutcomeKind::Staged);
    host.assign(activate_with(4, "v3", OnFailure::Hold));
    host.run();
    refused(&host);
    host.follows = None;
    host.commit(5, "v2");
    host.commit(6, "v3");
}

#[test]
fn a_newer_one_than_the_stop_will_do() {
    let mut host = on_v1();
    host.commit(2, "v3");
    demands(&mut host, "v2");
    host.commit(3, "v4");
}

#[test]
fn a_stop_is_taken_once_it_is_proven() {
    let mut host = on_v1();
    host.assign(activate_with(2, "v2", OnFailure::Hold));
    host.run();
    host.wait(S(300));
    host.run();
    assert!(matches!(host.outcome(), OutcomeKind::Held { .. }));
    demands(&mut host, "v2");
    host.assign(activate(3, "v3"));
    host.run();
    assert_eq!(refused(&host), "v3 follows v2, which is active here and not proven");
    // What lies beyond it may be mended by what is newer.
    demands(&mut host, "v1");
    host.commit(4, "v4");
}

/// What would be refused ends no proof: the host is not left with a release that nobody looks at any more.
#[test]
fn what_cannot_be_taken_from_here_waits_until_what_is_under_way_is_proven() {
    for is_staged in [true, false] {
        let mut host = on_v1();
        demands(&mut host, "v2");
        if is_staged {
            host.assign(stage(2, "v3"));
            host.run();
        }
        host.follows = None;
        host.assign(activate(3, "v2"));
        host.run();
        demands(&mut host, "v2");
        host.assign(activate(4, "v3"));
        host.run();
        assert!(host.record().queued.is_some(), "v2 is being proven");
        host.checks_answer(Ok(()));
        host.wait(S(30));
        host.run();
        assert_eq!(host.record().active, Some("v3".parse().unwrap()), "v2 was proven, which v3 follows");
    }
}

/// What hangs in its proof is left for what is older at once, on the disk or not.
#[test]
fn a_way_back_waits_for_no_proof() {
    let mut host = Harness::new();
    host.commit(2, "v2");
    host.assign(activate(3, "v3"));
    host.run();
    host.assign(activate(4, "v1"));
    assert!(host.record().queued.is_none());
    host.run();
    assert_eq!(host.record().active, Some("v1".parse().unwrap()));
}

#[test]
fn a_way_back_is_never_held_and_the_way_forth_again_is() {
    let mut host = on_v1();
    host.commit(2, "v2");
    demands(&mut host, "v2");
    host.commit(3, "v3");
    host.commit(4, "v1");
    host.assign(activate(5, "v3"));
    host.run();
    refused(&host);
    // What fails goes back by itself to what it came from.
    host.commit(6, "v2");
    host.assign(activate(7, "v3"));
    host.run();
    host.checks_answer(Err("status 500"));
    host.wait(S(300));
    host.run();
    host.checks_answer(Ok(()));
    assert!(matches!(host.outcome(), OutcomeKind::Reverted { .. }), "{:?}", host.outcome());
    assert_eq!(host.record().active, Some("v2".parse().unwrap()));
}

#[test]
fn a_host_that_runs_nothing_takes_it() {
    let mut host = Harness::new();
    demands(&mut host, "v2");
    host.commit(1, "v3");
}
