//! Laws in fleets of any size up to ten thousand hosts: a few cases each, for each is a whole rollout. That no host moves
//! before its batch is held against each step of any of these worlds.

use std::collections::BTreeSet;

use landfall_common::strategy::{Amount, Strategy, Window};
use landfall_common::{Duration, HostId, LabelKey};
use landfall_controller_core::observation::Observation;
use landfall_controller_core::rollout::StatusWord;
use landfall_controller_core::{State, plan};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use rand::seq::SliceRandom;

use crate::hosts::{Behaviour, Host};
use crate::world::{Faults, World, name, strategy};

/// A fleet of each order of magnitude.
fn sizes() -> impl Strategy_<Value = [usize; 4]> {
    (1usize..10, 10usize..100, 100usize..1_000, 1_000usize..=10_000).prop_map(Into::into)
}

// The planner's own word for its knobs is taken.
use proptest::strategy::Strategy as Strategy_;

/// Shares, since a batch of five would take ten thousand hosts a day.
fn strategies() -> impl Strategy_<Value = Strategy> {
    (20u32..=100, 20u32..=100, any::<bool>(), any::<bool>()).prop_map(|(batch, out, slides, spreads)| {
        Strategy {
            window: if slides { Window::Sliding } else { Window::Batch },
            spread: spreads.then(|| LabelKey::new("zone").unwrap()),
            batch: Amount::Percent(batch),
            max_unavailable: Amount::Percent(out),
            ..strategy()
        }
    })
}

fn on_v1(hosts: usize, knobs: &Strategy) -> World {
    let mut world = World::of_many(hosts);
    // Whoever has nothing to say says so every ten seconds, as agents do.
    world.heartbeat = Duration::from_secs(10);
    let at_once =
        Strategy { batch: Amount::Percent(100), max_unavailable: Amount::Percent(100), ..strategy() };
    world.publish("v1", 1, None, at_once);
    world.publish("v2", 2, None, knobs.clone());
    world.must_succeed("v1");
    world.most_out = 0;
    world
}

fn a_good_one_arrives(hosts: usize, knobs: &Strategy) -> TestCaseResult {
    let mut world = on_v1(hosts, knobs);
    let id = world.release("v2").unwrap();
    let runs = |host: &Host| host.active.as_ref().is_some_and(|active| active.release.name == name("v2"));
    let mut done = BTreeSet::new();
    while !world.rollout(&id).ended() {
        world.tick();
        let now = world.hosts.iter().filter(|(_, host)| runs(host));
        let now: BTreeSet<_> = now.map(|(id, _)| id.clone()).collect();
        prop_assert!(done.is_subset(&now), "a host went back");
        done = now;
    }
    prop_assert_eq!(world.word(&id), StatusWord::Succeeded);
    prop_assert_eq!(done.len(), hosts);
    prop_assert!(world.most_out <= knobs.max_unavailable.at_least_one(hosts));
    prop_assert!(world.hosts.values().all(|host| host.activations == 2));
    Ok(())
}

fn a_bad_one_goes_back(hosts: usize, knobs: &Strategy) -> TestCaseResult {
    let mut world = on_v1(hosts, knobs);
    for host in world.hosts.values_mut().step_by(3) {
        host.behaviour.insert(name("v2"), Behaviour::Bad);
    }
    let id = world.release("v2").unwrap();
    prop_assert_eq!(world.ended(&id), StatusWord::RolledBack);
    prop_assert!(world.runs().iter().all(|release| release == "v1"));
    prop_assert!(world.most_out <= knobs.max_unavailable.at_least_one(hosts));
    Ok(())
}

fn any_order_is_the_same(hosts: usize, knobs: &Strategy, seconds: u32, order: u64) -> TestCaseResult {
    let mut world = on_v1(hosts, knobs);
    world.release("v2").unwrap();
    world.run(seconds);
    // This holds too that a second run has nothing to add to the first.
    world.plan();
    let now = world.now + Duration::from_secs(1);
    let reported = |(id, host): (&HostId, &mut Host)| {
        host.tick(now);
        let connection = world.connections[id];
        Observation::Reported { host: id.clone(), connection, report: Box::new(host.report(now)) }
    };
    let mut reports: Vec<_> = world.hosts.iter_mut().map(reported).collect();
    let planned = |reports: &[Observation]| {
        let mut state: State = world.state.clone();
        for report in reports {
            let _ = state.observe(report.clone(), now);
        }
        plan(&state, now)
    };
    let one = planned(&reports);
    reports.shuffle(&mut Faults::none(order).rng);
    prop_assert_eq!(one, planned(&reports));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2))]

    /// Progress is monotonic, the budget is kept, and each host is activated once.
    #[test]
    fn a_good_release_arrives_within_the_budget(fleets in sizes(), knobs in strategies()) {
        fleets.into_iter().try_for_each(|hosts| a_good_one_arrives(hosts, &knobs))?;
    }

    /// A release that is bad on one host in three goes back, whatever the size.
    #[test]
    fn a_bad_release_goes_back_everywhere(fleets in sizes(), knobs in strategies()) {
        fleets.into_iter().try_for_each(|hosts| a_bad_one_goes_back(hosts, &knobs))?;
    }

    /// Reports that come in the same moment may come in any order, at any time of a rollout.
    #[test]
    fn the_order_of_simultaneous_reports_does_not_matter(
        fleets in sizes(),
        knobs in strategies(),
        seconds in 1u32..30,
        order in any::<u64>(),
    ) {
        fleets.into_iter().try_for_each(|hosts| any_order_is_the_same(hosts, &knobs, seconds, order))?;
    }
}
