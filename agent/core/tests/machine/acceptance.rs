//! Which assignments a host takes: whose they are, their numbers, their time, their ranges.

use crate::harness::{Harness, S, activate, migrate, stage};
use crate::restart::restart;
use landfall_agent_core::Effect;
use landfall_common::assignment::{MAX_HEALTHY_DEADLINE, MAX_LEASE, Order, RestartKind};
use landfall_common::report::OutcomeKind;

#[test]
fn an_older_generation_is_refused_and_the_same_with_other_content_too() {
    let mut host = Harness::new();
    host.commit(5, "v1");
    let before = host.record().clone();
    host.assign(stage(4, "v2"));
    host.assign(stage(5, "v2"));
    assert_eq!(host.record(), &before);
    assert!(host.effects().iter().all(|effect| *effect == Effect::Report));
}

#[test]
fn a_number_after_which_there_would_be_none_is_not_accepted() {
    let mut host = Harness::new();
    host.commit(5, "v1");
    for bad in [stage(u64::MAX, "v2"), migrate(6, "v1", u64::MAX)] {
        host.assign(bad);
        let outcome = host.report().outcome.unwrap();
        let OutcomeKind::Refused { failure } = outcome.result else { panic!("{outcome:?}") };
        assert!(failure.reason.contains("none that is given out"), "{failure:?}");
    }
    host.commit(6, "v2");
}

#[test]
fn the_identical_assignment_changes_nothing() {
    let mut host = Harness::new();
    host.commit(5, "v1");
    let before = host.record().clone();
    host.assign(activate(5, "v1"));
    assert_eq!(host.record(), &before);
    assert_eq!(host.effects(), [Effect::Report]);
}

#[test]
fn an_assignment_of_another_host_application_or_environment_is_refused() {
    for change in 0..3 {
        let mut host = Harness::new();
        let mut assignment = stage(1, "v1");
        match change {
            0 => assignment.host = "web-2".parse().unwrap(),
            1 => assignment.application = "bank".parse().unwrap(),
            _ => assignment.environment = "staging".parse().unwrap(),
        }
        host.assign(assignment);
        assert_eq!(host.record().accepted, None);
        let Some(outcome) = host.report().outcome else { panic!("the refusal is not told") };
        assert!(matches!(outcome.result, OutcomeKind::Refused { .. }));
    }
}

#[test]
fn expiry_gates_acceptance_and_nothing_else() {
    let mut host = Harness::new();
    let mut late = stage(1, "v1");
    late.expires_at = host.now.wall;
    host.assign(late);
    assert_eq!(host.record().accepted, None);
    host.assign(activate(2, "v1"));
    host.now.wall = host.now.wall + S(1_000_000);
    host.restart();
    host.run();
    host.checks_answer(Ok(()));
    host.wait(S(10));
    host.run();
    assert_eq!(host.outcome(), &OutcomeKind::Committed);
}

#[test]
fn a_name_that_is_here_with_another_manifest_is_refused() {
    let mut host = Harness::new();
    host.commit(1, "v1");
    let mut other = activate(2, "v1");
    other.release.digest = landfall_common::Sha256::of(b"other");
    host.assign(other);
    assert!(matches!(host.report().outcome.unwrap().result, OutcomeKind::Refused { .. }));
}

proptest::proptest! {
    /// Whatever arrives in whatever order: the accepted generation and the lease only grow, and no migration
    /// is begun twice with one lease.
    #[test]
    fn fences_only_grow(moves in proptest::collection::vec((0..7u8, 0..12u64), 1..80)) {
        let mut host = Harness::new();
        let (mut generation, mut fence) = (0, 0);
        let mut begun = std::collections::BTreeSet::new();
        for (what, number) in moves {
            match what {
                0 => host.assign(stage(number, &format!("v{}", number % 4))),
                1 => host.assign(activate(number, &format!("v{}", number % 4))),
                2 => host.assign(migrate(number, &format!("v{}", number % 4), number / 2)),
                3 => host.run_one(),
                4 => host.restart(),
                5 => host.checks_answer(if number % 3 == 0 { Err("no") } else { Ok(()) }),
                _ => host.wait(S(number * 30)),
            }
            for effect in host.effects() {
                if let Effect::Migrate { migrating } = effect {
                    proptest::prop_assert!(begun.insert(migrating.fence), "lease {} was used twice", migrating.fence);
                }
            }
            host.clear();
            let accepted = host.record().accepted.map_or(0, |accepted| accepted.generation.0);
            proptest::prop_assert!(accepted >= generation && host.record().fence >= fence);
            (generation, fence) = (accepted, host.record().fence);
            let record = host.record();
            proptest::prop_assert!(record.proven.iter().all(|name| record.installed.contains_key(name)));
            proptest::prop_assert!(record.active.as_ref().is_none_or(|name| record.installed.contains_key(name)));
        }
    }
}

#[test]
fn durations_that_no_definition_can_have_are_refused() {
    let longest = |order: &Order| match *order {
        Order::Activate { on_failure, min_healthy, .. } => {
            Order::Activate { on_failure, min_healthy, healthy_deadline: MAX_HEALTHY_DEADLINE }
        }
        Order::Migrate { fence, direction, .. } => Order::Migrate { fence, lease: MAX_LEASE, direction },
        Order::Restart { kind, ref services, min_healthy, .. } => {
            let services = services.clone();
            Order::Restart { kind, services, min_healthy, healthy_deadline: MAX_HEALTHY_DEADLINE }
        }
        Order::Stage => Order::Stage,
        Order::Drain { away } => Order::Drain { away },
    };
    let moment = landfall_common::Duration::from_millis(1);
    for mut assignment in
        [activate(1, "v1"), migrate(1, "v1", 1), restart(1, "v1", &["web"], RestartKind::Reload)]
    {
        assignment.order = longest(&assignment.order);
        let mut host = Harness::new();
        host.assign(assignment.clone());
        assert!(host.record().accepted.is_some(), "{assignment:?}");
        let bent = match assignment.order {
            Order::Activate { on_failure, min_healthy, healthy_deadline } => vec![
                Order::Activate { on_failure, min_healthy, healthy_deadline: healthy_deadline + moment },
                Order::Activate { on_failure, min_healthy: healthy_deadline, healthy_deadline },
                Order::Activate { on_failure, min_healthy: S(0), healthy_deadline: S(0) },
            ],
            Order::Migrate { fence, lease, direction } => vec![
                Order::Migrate { fence, lease: lease + moment, direction },
                Order::Migrate { fence, lease: S(0), direction },
            ],
            Order::Restart { kind, ref services, min_healthy, healthy_deadline } => {
                let bent = |min_healthy, healthy_deadline| {
                    let services = services.clone();
                    Order::Restart { kind, services, min_healthy, healthy_deadline }
                };
                vec![bent(min_healthy, healthy_deadline + moment), bent(healthy_deadline, healthy_deadline)]
            }
            Order::Stage | Order::Drain { .. } => vec![],
        };
        for order in bent {
            let mut host = Harness::new();
            assignment.order = order;
            host.assign(assignment.clone());
            assert_eq!(host.record().accepted, None, "{assignment:?}");
            assert!(matches!(host.report().outcome.unwrap().result, OutcomeKind::Refused { .. }));
        }
    }
}
