//! What a definition lets be set otherwise for one rollout.

use std::collections::BTreeMap;

use landfall_common::assignment::RestartKind;
use landfall_common::strategy::{
    Amount, Canary, Knob, Range, Ranges, Spread, Strategy, StrategyKind, Window,
};
use landfall_common::{Duration, LabelKey, ServiceName, Sha256};
use landfall_controller_core::command::{Action, Overrides, RollRequest};
use landfall_controller_core::preview;
use landfall_controller_core::restart::RestartRequest;
use proptest::prelude::*;
use proptest::strategy::Strategy as Strategy_;

use crate::world::{World, place, strategy};

fn with(ranges: &[(Knob, Range)]) -> Strategy {
    let ranges: BTreeMap<_, _> = ranges.iter().cloned().collect();
    Strategy { overrides: Some(Ranges::new(ranges)), ..strategy() }
}

fn at_most(amount: Amount) -> Range {
    Range::Hosts { min: None, max: Some(amount) }
}

/// What is said to a request with these differences.
fn said(world: &mut World, overrides: Overrides) -> String {
    let request = RollRequest { overrides, ..World::request("v2") };
    let shown = preview(&world.state, &request, world.now).map(drop);
    if let Err(refused) = shown {
        let begun = world.roll(request).map(drop);
        assert_eq!(begun.unwrap_err().to_string(), refused.to_string(), "what is shown is what is said");
        return refused.to_string();
    }
    "allowed".to_owned()
}

#[test]
fn what_is_named_is_set_within_its_range_and_nothing_else() {
    let mut world = World::on_v1(
        10,
        with(&[
            (Knob::Batch, at_most(Amount::Percent(50))),
            (Knob::Canary, Range::Hosts { min: Some(Amount::Count(1)), max: Some(Amount::Count(3)) }),
            (Knob::CanaryHold, Range::Any),
            (Knob::Strategy, Range::OneOf(vec!["one_at_a_time".to_owned()])),
            (Knob::AutoPromote, Range::OneOf(vec!["off".to_owned()])),
            (Knob::Spread, Range::OneOf(vec!["zone".to_owned()])),
            (Knob::MinHealthy, Range::Time { min: Some(Duration::from_secs(10)), max: None }),
        ]),
    );
    let mut said = |overrides| said(&mut world, overrides);
    let default = Overrides::default;
    for allowed in [
        default(),
        Overrides { batch: Some(Amount::Count(5)), ..default() },
        Overrides { batch: Some(Amount::Percent(50)), ..default() },
        Overrides { canary: Some(Canary::Count(3)), ..default() },
        Overrides { canary: Some(Canary::Percent { percent: 30 }), ..default() },
        Overrides { canary_hold: Some(Duration::from_secs(7200)), ..default() },
        Overrides { kind: Some(StrategyKind::OneAtATime), ..default() },
        Overrides { auto_promote: Some(false), ..default() },
        Overrides { spread: Some(Spread::Label(LabelKey::new("zone").unwrap())), ..default() },
        Overrides { min_healthy: Some(Duration::from_secs(20)), ..default() },
        // As it is defined, whether it is named or not.
        Overrides { window: Some(Window::Batch), spread: Some(Spread::None), ..default() },
        Overrides { max_unavailable: Some(strategy().max_unavailable), ..default() },
    ] {
        assert_eq!(said(allowed.clone()), "allowed", "{allowed:?}");
    }
    insta::assert_snapshot!(said(Overrides { batch: Some(Amount::Count(6)), ..default() }), @"batch cannot be 6 for one rollout: landfall.toml of v2 lets it be at most 50% in production (`[environment.production.overrides]`)");
    insta::assert_snapshot!(said(Overrides { canary: Some(Canary::Count(0)), ..default() }), @"canary cannot be 0 for one rollout: landfall.toml of v2 lets it be 1 to 3 in production (`[environment.production.overrides]`)");
    // Odd hosts have this label: five of ten.
    insta::assert_snapshot!(said(Overrides { canary: Some("role=canary".parse().unwrap()), ..default() }), @"canary cannot be role=canary for one rollout: landfall.toml of v2 lets it be 1 to 3 in production (`[environment.production.overrides]`)");
    insta::assert_snapshot!(said(Overrides { kind: Some(StrategyKind::AllAtOnce), ..default() }), @r#"strategy cannot be all_at_once for one rollout: landfall.toml of v2 lets it be "one_at_a_time" in production (`[environment.production.overrides]`)"#);
    insta::assert_snapshot!(said(Overrides { min_healthy: Some(Duration::from_secs(1)), ..default() }), @"min_healthy cannot be 1s for one rollout: landfall.toml of v2 lets it be at least 10s in production (`[environment.production.overrides]`)");
    insta::assert_snapshot!(said(Overrides { auto_rollback: Some(false), ..default() }), @"auto_rollback cannot be off for one rollout: landfall.toml of v2 lets only strategy, canary, canary_hold, auto_promote, batch, spread, min_healthy be set otherwise in production (`[environment.production.overrides]`)");
    insta::assert_snapshot!(said(Overrides { max_unavailable: Some(Amount::Percent(100)), ..default() }), @"max_unavailable cannot be 100% for one rollout: landfall.toml of v2 lets only strategy, canary, canary_hold, auto_promote, batch, spread, min_healthy be set otherwise in production (`[environment.production.overrides]`)");
}

#[test]
fn without_ranges_all_may_be_set_and_with_none_nothing() {
    let everything =
        Overrides { batch: Some(Amount::Percent(100)), auto_rollback: Some(false), ..Overrides::default() };
    let mut world = World::on_v1(3, strategy());
    assert_eq!(said(&mut world, everything.clone()), "allowed");
    let mut world = World::on_v1(3, with(&[]));
    insta::assert_snapshot!(said(&mut world, everything), @"auto_rollback cannot be off for one rollout: landfall.toml of v2 lets nothing be set otherwise in production (`[environment.production.overrides]`)");
}

/// A restart is another release's of nobody: what is in force says how far.
/// What is out counts whoever keeps it out, and what is checked is what the rollout goes by.
#[test]
fn a_share_of_hosts_is_counted_with_those_that_the_knob_is_used_with() {
    let most = |most| at_most(Amount::Count(most));
    let knobs = with(&[(Knob::MaxUnavailable, most(3)), (Knob::Batch, most(3)), (Knob::Window, Range::Any)]);
    let mut world = World::new(10);
    world.publish("v1", 1, None, strategy());
    world.publish("v2", 2, None, knobs);
    world.must_succeed("v1");
    let (hosts, reason) = ((7..=10).map(crate::world::host_id).collect(), "later".to_owned());
    world.ask(Action::Cordon { hosts, reason }).unwrap();
    let half = Some(Amount::Percent(50));
    let mut said = |overrides| said(&mut world, overrides);
    insta::assert_snapshot!(said(Overrides { max_unavailable: half, ..Overrides::default() }), @"max_unavailable cannot be 50% for one rollout: landfall.toml of v2 lets it be at most 3 in production (`[environment.production.overrides]`)");
    let sliding = Overrides { batch: half, window: Some(Window::Sliding), ..Overrides::default() };
    insta::assert_snapshot!(said(sliding), @"batch cannot be 50% for one rollout: landfall.toml of v2 lets it be at most 3 in production (`[environment.production.overrides]`)");
    insta::assert_snapshot!(said(Overrides { batch: half, ..Overrides::default() }), @"allowed");
}

#[test]
fn a_restart_keeps_to_the_ranges_of_what_is_in_force() {
    let mut world = World::on_v1(4, with(&[(Knob::Batch, at_most(Amount::Count(1)))]));
    let release = Sha256::of(b"v1");
    let mut restart = |batch| {
        let request = RestartRequest {
            place: place(),
            release,
            kind: RestartKind::Restart,
            services: [ServiceName::new("web").unwrap()].into(),
            reason: "a leak".to_owned(),
            overrides: Overrides { batch: Some(Amount::Count(batch)), ..Overrides::default() },
            outside_window: String::new(),
        };
        world.ask(Action::Restart(Box::new(request))).map(drop)
    };
    insta::assert_snapshot!(restart(3).unwrap_err(), @"batch cannot be 3 for one rollout: landfall.toml of v1 lets it be at most 1 in production (`[environment.production.overrides]`)");
    restart(1).unwrap();
}

fn amounts() -> impl Strategy_<Value = Amount> {
    prop_oneof![(1u32..40).prop_map(Amount::Count), (1u32..=100).prop_map(Amount::Percent)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the bounds and the fleet: what begins changes no more hosts at once than they let.
    #[test]
    fn no_batch_is_beyond_its_range(
        hosts in 1usize..30,
        max in amounts(),
        asked in amounts(),
    ) {
        let mut world = World::of_many(hosts);
        let own = Strategy { batch: Amount::Count(1), ..with(&[(Knob::Batch, at_most(max))]) };
        world.publish("v1", 1, None, own);
        let overrides = Overrides { batch: Some(asked), ..Overrides::default() };
        let request = RollRequest { overrides, ..World::request("v1") };
        let allowed = match max {
            Amount::Count(count) => count as usize,
            Amount::Percent(percent) => (hosts * percent as usize / 100).max(1),
        };
        if let Ok(plan) = preview(&world.state, &request, world.now) {
            prop_assert!(plan.batches.iter().all(|batch| batch.canary || batch.hosts.len() <= allowed));
        } else {
            let comes_to = match asked {
                Amount::Count(count) => count as usize,
                Amount::Percent(percent) => hosts * percent as usize / 100,
            };
            prop_assert!(comes_to > allowed, "{} of {} is refused, and {} may be", asked, hosts, max);
        }
    }
}
