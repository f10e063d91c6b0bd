//! Laws over random fleets.

use std::collections::BTreeSet;

use landfall_common::strategy::{Amount, Canary, Strategy, StrategyKind, Window};
use landfall_common::{Duration, LabelKey};
use landfall_controller_core::command::Action;
use landfall_controller_core::rollout::StatusWord;
use landfall_controller_core::{State, decide, plan, preview};
use proptest::prelude::*;

use crate::hosts::Behaviour;
use crate::world::{World, host_id, name, place, strategy};

fn amounts() -> impl Strategy_<Value = Amount> {
    prop_oneof![(1u32..9).prop_map(Amount::Count), (1u32..=100).prop_map(Amount::Percent)]
}

// The planner's own word for its knobs is taken.
use proptest::strategy::Strategy as Strategy_;

fn canaries() -> impl Strategy_<Value = Canary> {
    prop_oneof![
        (0u32..4).prop_map(Canary::Count),
        (1u32..=100).prop_map(|percent| Canary::Percent { percent }),
        Just("role=canary".parse().unwrap()),
    ]
}

fn kinds() -> impl Strategy_<Value = StrategyKind> {
    prop_oneof![Just(StrategyKind::Rolling), Just(StrategyKind::OneAtATime), Just(StrategyKind::AllAtOnce)]
}

fn strategies() -> impl Strategy_<Value = Strategy> {
    let apart = prop_oneof![Just(0u64), 1u64..8];
    (amounts(), amounts(), canaries(), kinds(), 0u64..40, any::<bool>(), any::<bool>(), apart).prop_map(
        |(batch, max_unavailable, canary, kind, hold, slides, spreads, apart)| {
            let strategy = Strategy {
                window: if slides { Window::Sliding } else { Window::Batch },
                spread: spreads.then(|| LabelKey::new("zone").unwrap()),
                stagger: Duration::from_secs(apart),
                kind,
                batch,
                max_unavailable,
                canary,
                ..strategy()
            };
            let canary_hold = if strategy.has_canary() { Duration::from_secs(hold) } else { Duration::ZERO };
            // The same draw decides both: what is held at the beginning is watched at the end.
            Strategy { canary_hold, watch: Duration::from_secs(hold), ..strategy }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Each host is in one batch, the canary is first, and no batch is empty or too large.
    #[test]
    fn a_plan_holds_each_host_once(hosts in prop_oneof![1usize..200, 2_000usize..3_000], knobs in strategies()) {
        let mut world = World::of_many(hosts);
        world.publish("v1", 1, None, knobs.clone());
        let plan = preview(&world.state, &World::request("v1"), world.now).unwrap();
        let all: Vec<_> = plan.batches.iter().flat_map(|batch| &batch.hosts).collect();
        prop_assert_eq!(all.len(), hosts);
        prop_assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), hosts);
        for batch in &plan.batches {
            prop_assert!(!batch.hosts.is_empty());
            if !batch.canary && knobs.window == Window::Batch {
                prop_assert!(batch.hosts.len() <= knobs.batch_of(hosts));
            }
            if !batch.canary && let Some(label) = knobs.spreads() {
                let zone = |host| world.state.host(host).unwrap().record.labels.get(label).cloned();
                let zones: BTreeSet<_> = batch.hosts.iter().map(zone).collect();
                prop_assert_eq!(zones.len(), 1);
            }
            prop_assert_eq!(batch.canary, batch.number == 1 && knobs.has_canary());
        }
    }

    /// A good release arrives, host by host activated once, and never more are out than the budget allows.
    #[test]
    fn a_good_release_arrives_within_the_budget(hosts in 1usize..40, knobs in strategies()) {
        let mut world = World::new(hosts);
        world.publish("v1", 1, None, knobs.clone());
        world.publish("v2", 2, None, knobs.clone());
        world.must_succeed("v1");
        world.most_out = 0;
        let id = world.release("v2").unwrap();
        let mut done = 0;
        while !world.rollout(&id).ended() {
            world.tick();
            let now_done = world.runs().iter().filter(|release| *release == "v2").count();
            prop_assert!(now_done >= done, "progress is monotonic");
            done = now_done;
        }
        prop_assert_eq!(world.word(&id), StatusWord::Succeeded);
        prop_assert!(world.most_out <= knobs.max_unavailable.at_least_one(hosts));
        prop_assert!(world.hosts.values().all(|host| host.activations == 2));
    }

    /// By groups, of whatever size: one of them always carries the requests, with as many hosts as have to serve, nobody
    /// gets requests with the release before they change over, and each host is activated once.
    #[test]
    fn by_groups_one_of_them_always_carries_the_requests(
        blue in 1usize..12,
        green in 1usize..12,
        max_unavailable in amounts(),
        hold in 0u64..40,
        bad in any::<bool>(),
    ) {
        let hosts = blue + green;
        let mut world = World::new(hosts);
        let numbers = |from: usize, to: usize| (from..=to).collect::<Vec<_>>();
        world.ask(crate::labels::label(&numbers(1, blue), &["color=blue"])).unwrap();
        world.ask(crate::labels::label(&numbers(blue + 1, hosts), &["color=green"])).unwrap();
        let time = Duration::from_secs(hold);
        let knobs = Strategy {
            kind: StrategyKind::BlueGreen,
            spread: Some(LabelKey::new("color").unwrap()),
            canary_hold: time,
            watch: time,
            max_unavailable,
            ..strategy()
        };
        world.publish("v1", 1, None, knobs.clone());
        world.publish("v2", 2, None, knobs.clone());
        world.must_succeed("v1");
        let id = world.release("v2").unwrap();
        if bad {
            world.behaves("v2", Behaviour::Bad);
        }
        while !world.rollout(&id).ended() {
            world.tick();
            let (one, other): (Vec<_>, Vec<_>) = world.hosts.values().enumerate().partition(|(at, _)| *at < blue);
            let carries = |hosts: &[(usize, &crate::hosts::Host)]| {
                let needed = (hosts.len() - max_unavailable.at_most(hosts.len())).max(1);
                hosts.iter().filter(|(_, host)| host.serves()).count() >= needed
            };
            prop_assert!(carries(&one) || carries(&other), "{:?}", world.sentences);
        }
        let (word, release) = if bad { (StatusWord::RolledBack, "v1") } else { (StatusWord::Succeeded, "v2") };
        prop_assert_eq!(world.word(&id), word);
        world.run(10);
        prop_assert!(world.runs().iter().all(|runs| runs == release));
        prop_assert!(world.hosts.values().all(|host| host.serves()));
        prop_assert!(bad || world.hosts.values().all(|host| host.activations == 2));
    }

    /// Whatever is said of hosts while it is under way: each change is within the budget and the window, beside nobody of
    /// another group as labels are then (the checks of the world look at each), nothing is decided twice, and the release
    /// arrives.
    #[test]
    fn labels_that_change_break_no_promise(
        hosts in 2usize..20,
        knobs in strategies(),
        said in prop::collection::vec((1usize..20, 0usize..5, 0u32..8), 1..12),
    ) {
        let mut world = World::new(hosts);
        world.publish("v1", 1, None, knobs.clone());
        world.publish("v2", 2, None, knobs.clone());
        world.must_succeed("v1");
        world.most_out = 0;
        let id = world.release("v2").unwrap();
        let words = ["zone=a", "zone=b", "zone-", "role=canary", "role-"];
        let mut said = said.into_iter();
        while !world.rollout(&id).ended() {
            if let Some((host, word, wait)) = said.next() {
                world.ask(crate::labels::label(&[host % hosts + 1], &[words[word]])).unwrap();
                for _ in 0..=wait {
                    world.tick();
                }
            }
            world.tick();
            world.plan();
            prop_assert!(plan(&world.state, world.now).output.is_empty(), "it has decided already");
            let rollout = world.rollout(&id);
            let largest = (2..=rollout.batches)
                .map(|batch| world.state.members(&id).filter(|member| member.batch == batch).count())
                .max();
            if knobs.window == Window::Batch {
                prop_assert!(largest.unwrap_or(0) <= knobs.batch_of(hosts), "no batch is larger than it may be");
            }
            if world.word(&id) == StatusWord::Waiting {
                let _ = world.ask(Action::Promote { rollout: id.clone(), reason: String::new() });
            }
        }
        prop_assert_eq!(world.word(&id), StatusWord::Succeeded);
        prop_assert!(world.most_out <= knobs.max_unavailable.at_least_one(hosts));
        prop_assert!(world.hosts.values().all(|host| host.activations == 2));
    }

    /// A release that fails on some host, with no failure allowed, ends with the release before on all, or, once
    /// nearly all have it, with somebody's word.
    #[test]
    fn a_bad_release_goes_back_everywhere_or_waits_for_a_word(
        hosts in 1usize..25,
        bad in 0usize..25,
        knobs in strategies(),
    ) {
        let mut world = World::new(hosts);
        world.publish("v1", 1, None, knobs.clone());
        world.publish("v2", 2, None, knobs.clone());
        world.must_succeed("v1");
        world.most_out = 0;
        world.host(bad % hosts + 1).behaviour.insert(name("v2"), Behaviour::Bad);
        let id = world.release("v2").unwrap();
        while !world.rollout(&id).ended() && world.word(&id) != StatusWord::Paused {
            world.tick();
        }
        if world.word(&id) == StatusWord::Paused {
            // What is done on nine tenths is undone for nobody who fails late.
            let done = world.runs().iter().filter(|release| *release == "v2").count();
            prop_assert!(done * 10 >= hosts * 9, "{} of {}", done, hosts);
        } else {
            prop_assert_eq!(world.word(&id), StatusWord::RolledBack);
            prop_assert!(world.runs().iter().all(|release| release == "v1"));
        }
        prop_assert!(world.most_out <= knobs.max_unavailable.at_least_one(hosts));
    }

    /// Reports that come in the same moment may come in any order.
    #[test]
    fn the_order_of_simultaneous_reports_does_not_matter(
        hosts in 2usize..12,
        seconds in 1u32..60,
        order in Just(()).prop_perturb(|(), mut rng| rng.next_u64()),
    ) {
        use landfall_controller_core::observation::Observation;
        use rand::seq::SliceRandom;
        let mut world = World::new(hosts);
        world.publish("v1", 1, None, strategy());
        world.release("v1").unwrap();
        world.run(seconds);
        let now = world.now + Duration::from_secs(1);
        let reports: Vec<_> = world.hosts.iter_mut().map(|(id, host)| {
            host.tick(now);
            let connection = world.connections[id];
            Observation::Reported { host: id.clone(), connection, report: Box::new(host.report(now)) }
        }).collect();
        let planned = |reports: &[Observation]| {
            let mut state: State = world.state.clone();
            for report in reports {
                let _ = state.observe(report.clone(), now);
            }
            plan(&state, now)
        };
        let mut shuffled = reports.clone();
        shuffled.shuffle(&mut crate::world::Faults::none(order).rng);
        prop_assert_eq!(planned(&reports), planned(&shuffled));
    }

    /// What is refused, or asked again, changes nothing; what is loaded from records decides the same.
    #[test]
    fn records_are_all_there_is_to_know(hosts in 1usize..8, seconds in 0u32..90, cut in 0usize..8) {
        let mut world = World::new(hosts);
        world.publish("v1", 1, None, strategy());
        world.publish("v2", 2, None, strategy());
        world.must_succeed("v1");
        world.cut.push(host_id(cut % hosts + 1));
        world.release("v2").unwrap();
        world.run(seconds);
        let loaded = State::load(world.state.records(), world.now);
        prop_assert_eq!(
            loaded.records().collect::<Vec<_>>(),
            world.state.records().collect::<Vec<_>>()
        );
        let stored: Vec<_> = world.store.values().cloned().collect();
        prop_assert_eq!(stored.len(), world.state.records().count());
        for record in stored {
            let text = serde_json::to_string(&record).unwrap();
            prop_assert_eq!(serde_json::from_str::<landfall_controller_core::record::Record>(&text).unwrap(), record);
        }
        // Nobody was heard of yet: nothing is decided blindly.
        prop_assert!(plan(&loaded, world.now).output.effects.is_empty());
        let before: Vec<_> = world.state.records().collect();
        let command = world.command(Action::Roll(Box::new(World::request("v2"))));
        if !world.rollout_held() {
            return Ok(());
        }
        prop_assert!(decide(&world.state, &command, world.now).is_err());
        prop_assert_eq!(world.state.records().collect::<Vec<_>>(), before);
        prop_assert_eq!(world.state.place(&place()).is_some(), true);
    }
}
