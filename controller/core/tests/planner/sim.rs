//! A small simulation: a fleet, an operator and a controller, with messages lost, doubled and late, hosts
//! and the controller failing at any moment. First everything may fail and the checks hold; then it heals,
//! and every rollout ends and every host arrives.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::assignment::RestartKind;
use landfall_common::strategy::{Amount, Before, Canary, Entry, Gate, Strategy, StrategyKind, Window};
use landfall_common::{Duration, GateName, HostId, LabelKey, RolloutId};
use landfall_controller_core::command::{Action, Overrides, RollRequest};
use landfall_controller_core::contract::ContractFacts;
use landfall_controller_core::gate::{self, GateVerdict};
use landfall_controller_core::log::MigrationVerdict;
use landfall_controller_core::record::{MigrationFacts, WayBackKind};
use landfall_controller_core::restart::RestartRequest;
use landfall_controller_core::rollout::{MigrationRun, Rollout, Stage, Status, StatusWord};
use rand::Rng;
use rand::rngs::StdRng;

use crate::diagram::Moves;
use crate::hosts::{Behaviour, Migrates};
use crate::world::{Faults, World, host_id, name, place};

/// Enough to meet every turn of the state machine; `LANDFALL_SEEDS=FROM..TO` runs others.
const SEEDS: std::ops::Range<u64> = 0..120;

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("LANDFALL_SEEDS") else { return SEEDS };
    let (from, to) = text.split_once("..").expect("LANDFALL_SEEDS=FROM..TO");
    from.parse().unwrap()..to.parse().unwrap()
}

#[test]
fn the_promises_hold_whatever_fails_and_after_healing_every_rollout_ends() {
    let mut activations = 0;
    let mut ends = BTreeMap::new();
    let mut moves = Moves::new();
    for seed in seeds() {
        let outcome = std::panic::catch_unwind(|| story(seed));
        match outcome {
            Ok((checked, words, moved)) => {
                activations += checked;
                moves.extend(moved);
                words.into_iter().for_each(|word| *ends.entry(word).or_insert(0) += 1);
            }
            Err(panic) => {
                let test = "cargo test -p landfall-controller-core --test planner sim::";
                eprintln!("replay: LANDFALL_SEEDS={seed}..{} {test}", seed + 1);
                std::panic::resume_unwind(panic);
            }
        }
    }
    // A simulation in which nothing happens proves nothing.
    eprintln!("{activations} activations of available hosts; rollouts by their end: {ends:?}");
    let ways = [StatusWord::Succeeded, StatusWord::Failed, StatusWord::RolledBack, StatusWord::Aborted];
    if seeds() == SEEDS {
        assert!(ways.iter().all(|end| ends.contains_key(end)), "{ends:?}");
        assert!(activations > 1_000, "only {activations} activations of available hosts");
        crate::diagram::holds(moves);
    }
}

fn pick<T: Copy>(rng: &mut StdRng, from: &[T]) -> T {
    from[rng.random_range(0..from.len())]
}

fn strategy(rng: &mut StdRng) -> Strategy {
    let canary = match rng.random_range(0..5) {
        0 => Canary::Count(0),
        1 => Canary::Count(2),
        2 => Canary::Percent { percent: 30 },
        // Odd hosts have it.
        3 => "role=canary".parse().unwrap(),
        _ => Canary::Count(1),
    };
    let by_groups = rng.random_range(0..4) == 0;
    let canary = if by_groups { Canary::Count(1) } else { canary };
    let held = canary != Canary::Count(0);
    let canary_hold = if held { Duration::from_secs(pick(rng, &[0, 0, 30])) } else { Duration::ZERO };
    let auto_promote = !held || rng.random_range(0..3) > 0;
    let strategy = Strategy {
        limits: None,
        kind: pick(rng, &[StrategyKind::Rolling, StrategyKind::Rolling, StrategyKind::OneAtATime]),
        canary,
        canary_hold,
        auto_promote,
        analysis: None,
        window: pick(rng, &[Window::Batch, Window::Sliding]),
        spread: pick(rng, &[None, Some("zone")]).map(|label| LabelKey::new(label).unwrap()),
        stagger: Duration::from_secs(pick(rng, &[0, 0, 7])),
        batch: pick(rng, &[Amount::Count(1), Amount::Count(3), Amount::Percent(25), Amount::Percent(100)]),
        max_unavailable: pick(rng, &[Amount::Count(1), Amount::Count(2), Amount::Percent(34)]),
        failure_budget: pick(rng, &[Amount::Count(0), Amount::Count(0), Amount::Count(2)]),
        min_healthy: Duration::from_secs(pick(rng, &[0, 5, 10])),
        healthy_deadline: Duration::from_secs(30),
        progress_deadline: Duration::from_secs(240),
        rollout_deadline: Duration::ZERO,
        auto_rollback: rng.random_range(0..4) > 0,
        late_rollback: false,
        watch: Duration::from_secs(pick(rng, &[0, 0, 60])),
        gates: gates(rng),
        overrides: None,
        entry: Entry::default(),
    };
    if !by_groups {
        return strategy;
    }
    let label = LabelKey::new("color").unwrap();
    Strategy {
        kind: StrategyKind::BlueGreen,
        spread: Some(label),
        window: Window::Batch,
        stagger: Duration::ZERO,
        ..strategy
    }
}

/// Mostly none.
fn gates(rng: &mut StdRng) -> Vec<Gate> {
    let befores = Before::ALL.map(|(before, _)| before);
    let names = ["qa", "slo"].into_iter().filter(|_| rng.random_range(0..5) == 0).collect::<Vec<_>>();
    names.into_iter().map(|name| crate::gates::gate(name, pick(rng, &befores))).collect()
}

fn story(seed: u64) -> (usize, Vec<StatusWord>, Moves) {
    let mut rng = Faults::none(seed.wrapping_mul(7) + 1).rng;
    let hosts = rng.random_range(1..12);
    let mut world = World::new(hosts);
    if hosts > 1 {
        crate::blue_green::color(&mut world, hosts);
    }
    world.publish(
        "v1",
        1,
        None,
        Strategy {
            kind: StrategyKind::Rolling,
            canary: Canary::Count(1),
            canary_hold: Duration::ZERO,
            auto_promote: true,
            gates: Vec::new(),
            ..strategy(&mut rng)
        },
    );
    world.must_succeed("v1");
    world.faults = Faults {
        lost: pick(&mut rng, &[0, 5, 20]),
        doubled: pick(&mut rng, &[0, 20]),
        late: pick(&mut rng, &[0, 2, 20]),
        crashes: pick(&mut rng, &[0, 5, 20]),
        ..Faults::none(seed)
    };
    let mut released = 1;
    for _ in 0..rng.random_range(300..1500) {
        world.tick();
        crate::runbook::promises_nothing_else(&mut world);
        trouble(&mut world, &mut rng, hosts);
        operate(&mut world, &mut rng, &mut released);
    }
    heal(&mut world);
    let words = world.words().into_iter().map(|(_, word)| word).collect();
    (world.checks.activations_checked, words, world.moves)
}

/// Hosts lose power and their connection, and find them again.
fn trouble(world: &mut World, rng: &mut StdRng, hosts: usize) {
    let host = host_id(rng.random_range(1..=hosts));
    let now = world.now;
    match rng.random_range(0..200) {
        0 => world.hosts.get_mut(&host).unwrap().up = false,
        1..8 if !world.hosts[&host].up => world.hosts.get_mut(&host).unwrap().reboot(now),
        8 => world.cut.push(host),
        9..16 => world.cut.retain(|cut| *cut != host),
        16 => world.disconnect(&host),
        _ => {}
    }
}

fn operate(world: &mut World, rng: &mut StdRng, released: &mut u64) {
    let current = unfinished(world).map(|rollout| rollout.id.clone());
    let reason = String::new;
    // An operator may ask for anything at any time; a refusal is an answer.
    let action = match (rng.random_range(0..400), current) {
        (0..8, None) => {
            *released += 1;
            let release = format!("v{released}");
            let migration = (rng.random_range(0..2) == 0).then(|| MigrationFacts {
                lease: Duration::from_secs(20),
                way_back: pick(
                    rng,
                    &[
                        WayBackKind::Compatible,
                        WayBackKind::Compatible,
                        WayBackKind::Reversible,
                        WayBackKind::None,
                    ],
                ),
                idempotent: false,
                schema: None,
            });
            if rng.random_range(0..3) == 0 {
                let facts =
                    ContractFacts { lease: Duration::from_secs(20), idempotent: rng.random_range(0..3) == 0 };
                world.contracts.insert(name(&release), facts);
            }
            let knobs = strategy(rng);
            world.publish_anyway(&release, *released, migration, knobs);
            let faulty = rng.random_range(0..100);
            for host in world.hosts.values_mut() {
                let behaviour = match faulty {
                    0..50 => Behaviour::Good,
                    50..70 => Behaviour::Bad,
                    _ => pick(
                        rng,
                        &[
                            Behaviour::Good,
                            Behaviour::Good,
                            Behaviour::Good,
                            Behaviour::Bad,
                            Behaviour::Flaps,
                        ],
                    ),
                };
                host.behaviour.insert(name(&release), behaviour);
                host.migrates =
                    pick(rng, &[Migrates::Well, Migrates::Well, Migrates::Fails, Migrates::Unknown]);
            }
            Action::Roll(Box::new(RollRequest { no_way_back: true, ..World::request(&release) }))
        }
        (8..10, _) => Action::RollBack { place: place(), to: None, reason: reason() },
        (60..63, None) => {
            let to =
                (rng.random_range(0..3) > 0).then(|| name(&format!("v{}", rng.random_range(1..=*released))));
            Action::Drill { place: place(), to }
        }
        (63..68, None) => Action::Restart(Box::new(RestartRequest {
            place: place(),
            release: world
                .state
                .place(&place())
                .and_then(|place| Some(place.in_force()?.release.digest))
                .unwrap_or_else(|| landfall_common::Sha256::of(b"")),
            kind: RestartKind::Restart,
            services: ["web".parse().unwrap()].into(),
            reason: reason(),
            overrides: Overrides::default(),
            outside_window: String::new(),
        })),
        (10..12, Some(rollout)) => Action::Pause { rollout, reason: reason() },
        (12..30, Some(rollout)) => Action::Resume { rollout, reason: String::new() },
        (50..58, Some(rollout)) => Action::Promote { rollout, reason: String::new() },
        (90..140, Some(rollout)) => Action::AnswerGate {
            rollout,
            gate: GateName::new(pick(rng, &["qa", "slo"])).unwrap(),
            batch: None,
            verdict: pick(
                rng,
                &[GateVerdict::Open, GateVerdict::Open, GateVerdict::Closed, GateVerdict::Failed],
            ),
            reason: "we looked".to_owned(),
        },
        (30..32, Some(rollout)) => Action::Abort { rollout, go_back: false, reason: reason() },
        (32..36, _) => Action::RetryFailed { place: place(), rollout: None, reason: String::new() },
        (70..74, _) => {
            Action::Exclude { hosts: some_hosts(world, rng), rollout: None, reason: "broken".to_owned() }
        }
        (74..78, _) => Action::Include { hosts: some_hosts(world, rng), reason: reason() },
        (78..81, _) => Action::Cordon { hosts: some_hosts(world, rng), reason: "broken".to_owned() },
        (85..86, _) => Action::Drain {
            hosts: some_hosts(world, rng),
            reason: "broken".to_owned(),
            beyond_budget: if rng.random_range(0..4) == 0 { "burning".to_owned() } else { String::new() },
        },
        (86..90, _) => Action::Undrain { hosts: some_hosts(world, rng), reason: reason() },
        (81..85, _) => Action::Uncordon { hosts: some_hosts(world, rng), reason: reason() },
        (140..148, _) => {
            let zones = ["zone=a", "zone=b", "zone-", "role=canary", "role-", "color=blue", "color=green"];
            let label = pick(rng, &zones);
            let numbers = [rng.random_range(1..=world.hosts.len()), rng.random_range(1..=world.hosts.len())];
            crate::labels::label(&numbers, &[label])
        }
        (36..50, Some(rollout)) => {
            let Some(verdict) = truth(world) else { return };
            Action::ResolveMigration { rollout, verdict, reason: reason() }
        }
        _ => return,
    };
    let _ = world.ask(action);
}

/// One or two of them, for which a word is given or taken back.
fn some_hosts(world: &World, rng: &mut StdRng) -> BTreeSet<HostId> {
    let hosts: Vec<HostId> = world.hosts.keys().cloned().collect();
    (0..2).map(|_| hosts[rng.random_range(0..hosts.len())].clone()).collect()
}

fn unfinished(world: &World) -> Option<&Rollout> {
    world.state.rollouts().find(|rollout| !rollout.ended())
}

/// What the operator finds when looking at the database.
fn truth(world: &World) -> Option<MigrationVerdict> {
    let stage = unfinished(world)?.status.stage()?;
    let Some(MigrationRun::Unknown { lease, .. }) = stage.migration() else { return None };
    let ran = world.hosts.values().flat_map(|host| &host.migrations);
    let ran = ran.into_iter().any(|(_, way, fence)| *fence == lease.fence && *way == lease.direction);
    Some(if ran { MigrationVerdict::Applied } else { MigrationVerdict::NotApplied })
}

/// Whoever holds the gates opens them.
fn open_gates(world: &mut World, rollout: &RolloutId) {
    let asked: Vec<GateName> = gate::standings(&world.state, world.rollout(rollout), world.now)
        .into_iter()
        .filter(|standing| !standing.is_open())
        .map(|standing| standing.gate.name.clone())
        .collect();
    for gate in asked {
        let (rollout, verdict, reason) = (rollout.clone(), GateVerdict::Open, "we looked".to_owned());
        world.ask(Action::AnswerGate { rollout, gate, batch: None, verdict, reason }).unwrap();
    }
}

/// Everything works from here on; what waits for an operator gets one.
fn heal(world: &mut World) {
    world.faults = Faults::none(0);
    world.cut.clear();
    let now = world.now;
    for host in world.hosts.values_mut() {
        host.migrates = Migrates::Well;
        host.coy = false;
        if !host.up {
            host.reboot(now);
        }
    }
    // Whoever was left alone is needed again.
    let hosts: BTreeSet<HostId> = world.hosts.keys().cloned().collect();
    let drained = |host: &&HostId| world.state.host(host).is_some_and(|host| host.record.drain.is_some());
    let drained = hosts.iter().filter(drained).cloned().collect();
    world.ask(Action::Undrain { hosts: drained, reason: String::new() }).unwrap();
    world.ask(Action::Uncordon { hosts: hosts.clone(), reason: String::new() }).unwrap();
    let _ = world.ask(Action::Include { hosts, reason: String::new() });
    for _ in 0..6 {
        for _ in 0..15 {
            world.run(60);
            let id = unfinished(world).map(|rollout| rollout.id.clone());
            id.into_iter().for_each(|id| open_gates(world, &id));
        }
        let Some(rollout) = unfinished(world) else { break };
        let (id, status) = (rollout.id.clone(), rollout.status.clone());
        match status {
            Status::Paused { .. } => {
                let _ = world.ask(Action::Resume { rollout: id.clone(), reason: String::new() });
                world.run(900);
                if matches!(unfinished(world).map(|r| &r.status), Some(Status::Paused { .. })) {
                    let end = Action::Abort { rollout: id, go_back: false, reason: String::new() };
                    let _ = world.ask(end);
                }
            }
            Status::Active { stage: Stage::Migrating { .. } | Stage::RollingBack { .. } } => {
                if let Some(verdict) = truth(world) {
                    let reason = String::new();
                    world.ask(Action::ResolveMigration { rollout: id, verdict, reason }).unwrap();
                }
            }
            Status::Active { stage: Stage::Canary { .. } | Stage::Gated { .. } } => {
                let _ = world.ask(Action::Promote { rollout: id, reason: String::new() });
            }
            // It waits for hosts that do not take the release: they are tried again, and then it is left undone.
            Status::Active { stage: Stage::Contracting { .. } } => {
                if let Some(verdict) = truth(world) {
                    let reason = String::new();
                    world.ask(Action::ResolveMigration { rollout: id.clone(), verdict, reason }).unwrap();
                }
                let _ =
                    world.ask(Action::RetryFailed { place: place(), rollout: None, reason: String::new() });
                world.run(900);
                let waits =
                    |rollout: &Rollout| matches!(rollout.status.stage(), Some(Stage::Contracting { .. }));
                if unfinished(world).is_some_and(waits) {
                    let end = Action::Abort { rollout: id, go_back: false, reason: String::new() };
                    let _ = world.ask(end);
                }
            }
            Status::Active { .. } | Status::Ended { .. } => {}
        }
    }
    if let Some(rollout) = unfinished(world) {
        let members: Vec<_> = world.state.members(&rollout.id).map(|m| (m.host.as_str(), &m.state)).collect();
        panic!("{} never ends: {:?} {members:?} {:?}", rollout.id, rollout.status, world.sentences);
    }
    // A last good release reaches everyone, whatever was left behind.
    world.hosts.values_mut().for_each(|host| host.behaviour.clear());
    let last = world.state.releases(&place().application).map(|r| r.release.counter.0).max().unwrap_or(0) + 1;
    let release = format!("v{last}");
    world.publish(&release, last, None, crate::world::strategy());
    let id = world.roll(RollRequest { no_way_back: true, ..World::request(&release) }).unwrap();
    // The gates of the release in force hold it as well.
    for _ in 0..600 {
        if world.rollout(&id).ended() {
            break;
        }
        world.run(60);
        open_gates(world, &id);
        undrain_if_told(world, &id);
    }
    assert_eq!(world.word(&id), StatusWord::Succeeded, "{:?} {:?}", world.rollout(&id), world.sentences);
    let off: Vec<&HostId> = (world.hosts.iter())
        .filter(|(_, host)| host.active.as_ref().is_none_or(|active| active.release.name != name(&release)))
        .map(|(id, _)| id)
        .collect();
    assert!(off.is_empty(), "{off:?}");
    world.run(60);
    let away: Vec<&HostId> =
        world.hosts.iter().filter(|(_, host)| host.traffic.is_away()).map(|(id, _)| id).collect();
    assert!(away.is_empty(), "{away:?} are healthy, and get no requests");
}

/// What a rollout by two groups has left without requests may be more than may be out: a person says that it gets them.
fn undrain_if_told(world: &mut World, id: &RolloutId) {
    let told =
        |sentence: &String| Some(sentence.split("`ctl hosts undrain ").nth(1)?.split('`').next()?.to_owned());
    let Some(host) = world.sentences.iter().find_map(told) else { return };
    if world.word(id) != StatusWord::Paused {
        return;
    }
    let hosts = [HostId::new(&host).unwrap()].into();
    world.ask(Action::Undrain { hosts, reason: String::new() }).unwrap();
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
}
