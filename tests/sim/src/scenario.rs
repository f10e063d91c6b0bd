//! What a seed stands for: how large the world is, what goes wrong in it and how often.

use std::collections::BTreeMap;

use landfall_common::manifest::WayBack;
use landfall_common::strategy::{
    Amount, Ask, Before, Canary, CanaryAnalysis, FailureMetric, Gate, LatencyMetric, Limits, MemoryMetric,
    Missing, ReleaseWindow, Share, Strategy, StrategyKind, Window,
};
use landfall_common::{Duration, GateName, LabelKey};

use crate::application::Shows;
use crate::artifact::{self, ReleasePlan};
use crate::dice::Dice;
use crate::host::EPOCH_MS;
use crate::hostile::Hostile;
use crate::sabotage::Sabotage;

/// What a seed stands for. Rates are so many of a million occasions; times are in milliseconds.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Where it all comes from.
    pub seed: u64,
    /// Hosts that are enrolled at the start.
    pub hosts: usize,
    /// How many of them, the last ones, are in staging, where releases are proven before.
    pub staging: usize,
    /// How long faults and operators go on.
    pub safety_ms: u64,
    /// The releases that operators can choose from, oldest first.
    pub releases: Vec<ReleasePlan>,
    /// Whether operators do anything of their own after the first release.
    pub operators: Operators,
    /// Whether they stand in line, supersede each other, and lock the place.
    pub line: bool,
    /// Whether they rehearse the way back.
    pub drills: bool,
    /// Whether they exclude and cordon hosts.
    pub leaves_out: bool,
    /// Whether they drain hosts beside that, which have a gate for it.
    pub drains: bool,
    /// Whether they say other things of hosts while rollouts are under way.
    pub relabels: bool,
    /// Releases go by two groups of hosts, told apart by the label `color`.
    pub by_groups: bool,
    /// Whether they restart services without a release.
    pub restarts: bool,
    /// The wall clock at the start, in milliseconds since 1970.
    pub epoch_ms: u64,
    /// What goes wrong.
    pub faults: FaultRates,
    /// What strikes when it hurts most.
    pub hostile: Option<Hostile>,
    /// What was broken on purpose, to see that it is noticed.
    pub sabotage: Option<Sabotage>,
}

/// What operators do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operators {
    /// They release one after the other and otherwise wait.
    Patient,
    /// They do anything at any time.
    Restless,
}

/// What goes wrong, and how often.
#[derive(Debug, Clone, Default)]
pub struct FaultRates {
    /// Of each message: it is lost.
    pub lost: u32,
    /// Of each message: it comes twice.
    pub doubled: u32,
    /// Of each message: it comes up to [`LATE_MS`] late, so that later ones overtake it.
    pub late: u32,
    /// Messages of connections that have ended are delivered all the same.
    pub stale: bool,
    /// Each second: a host is cut off for a while.
    pub partition: u32,
    /// Each second: the controller is cut off from everybody for a while.
    pub outage: u32,
    /// Each second: a host loses its power at some of its next disk operations.
    pub host_power: u32,
    /// Each second: an agent is killed at some of its next disk operations.
    pub agent_kill: u32,
    /// Each second: the controller loses its power at some of its next disk operations.
    pub controller_power: u32,
    /// Each second: the controller is killed.
    pub controller_kill: u32,
    /// Each second: the disk of a host is full for a while.
    pub host_full: u32,
    /// Each second: the disk of the controller is full for a while.
    pub controller_full: u32,
    /// Of each disk operation: it fails.
    pub io: u32,
    /// Of each step of preparation, restart or smoke test: it fails although nothing is wrong.
    pub step: u32,
    /// Of each migration: it exits with an error.
    pub migration: u32,
    /// Of each migration: it hangs until it is ended.
    pub migration_hang: u32,
    /// Of each probe: it fails although nothing is wrong.
    pub check: u32,
    /// Each second: all checks of a host fail for a while.
    pub sick: u32,
    /// Each second: the clock of a host steps, by up to [`FaultRates::clock_step_ms`] either way.
    pub clock: u32,
    /// Of each start of the controller: its clock has stepped meanwhile, if clocks step at all.
    pub controller_clock: u32,
    /// How far clocks step.
    pub clock_step_ms: u64,
}

/// The longest that a message is late. Connections have keepalives: one that is silent for longer is ended,
/// and what was on its way in it is gone.
pub const LATE_MS: u64 = 25_000;

impl Scenario {
    /// What this seed stands for.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x6c61_6e64_6661_6c6c);
        let dice = &mut dice;
        let hosts = match dice.between(0, 9) {
            0..=6 => dice.between(1, 6),
            7..=8 => dice.between(7, 20),
            _ => dice.between(21, 60),
        };
        let hosts = usize::try_from(hosts).unwrap_or(1);
        let safety_ms = if hosts > 20 { 900_000 } else { dice.between(900_000, 2_400_000) };
        let strategy = draw_strategy(dice);
        let mut releases = Vec::new();
        let migrations = dice.chance(600_000);
        let mut strategy = with_newer_knobs(seed, strategy);
        // Not by the dice either, and it meets all of the others in turn.
        if seed % 7 == 2 {
            strategy.watch = Duration::from_secs([20, 90, 240][usize::try_from(seed / 7 % 3).unwrap_or(0)]);
        }
        // Nor this: some rollouts are to be over sooner than they can be.
        if seed % 23 == 6 {
            strategy.rollout_deadline = strategy.progress_deadline + Duration::from_secs(60);
        }
        // In worlds with newer knobs; in half of them labels decide in any case.
        let relabels = matches!(seed % 12, 4 | 7);
        if relabels && seed % 24 < 12 {
            strategy.spread = Some(LabelKey::new("zone").expect("a valid key"));
        }
        for number in 1..=dice.between(3, 6) {
            releases.push(draw_release(dice, number, &strategy, migrations));
        }
        // Not by the dice: the worlds of the other seeds are what they were before there were slots.
        let first = match seed % 5 {
            3 => Some(1),
            4 if seed % 10 == 4 => Some(2),
            _ => None,
        };
        with_an_analysis(seed, &mut releases);
        with_limits(seed, &mut releases);
        with_contracts(seed, &mut releases);
        with_gates(seed, &mut releases);
        for plan in releases.iter_mut().filter(|plan| first.is_some_and(|first| plan.number >= first)) {
            plan.slots = true;
        }
        // Nor by the dice; slots have no other host to lead requests to.
        let drains = drains(seed);
        releases.iter_mut().for_each(|plan| plan.gate = drains && !plan.slots);
        let by_groups = by_groups(seed) && first.is_none();
        if by_groups {
            with_groups(&mut releases);
        }
        let operators = if dice.chance(600_000) { Operators::Restless } else { Operators::Patient };
        let faults = draw_faults(dice, hosts as u64);
        // Nor is this by the dice.
        let line = seed % 3 == 1;
        if line {
            with_entries(seed, &mut releases);
        }
        let drills = seed % 8 == 5;
        let restarts = seed % 8 == 6;
        let leaves_out = seed % 4 == 2;
        let staging = staging(seed, hosts);
        if staging > 0 {
            stage(&mut releases);
        }
        with_evidence(seed, &mut releases);
        with_stops(seed, &mut releases);
        Self {
            seed,
            hosts,
            staging,
            safety_ms,
            releases,
            operators,
            line,
            drills,
            restarts,
            leaves_out,
            drains,
            relabels,
            by_groups,
            epoch_ms: EPOCH_MS,
            faults,
            hostile: None,
            sabotage: None,
        }
    }

    /// What this seed stands for, with a hostile schedule on top of it.
    #[must_use]
    pub fn hostile(seed: u64, hostile: Hostile) -> Self {
        let mut scenario = Self { hostile: Some(hostile), staging: 0, ..Self::draw(seed) };
        // They are written for one place.
        scenario.releases.iter_mut().for_each(|plan| plan.staged = false);
        hostile.bend(&mut scenario);
        scenario
    }

    /// A world in which nothing goes wrong: so many hosts, so many good releases.
    #[must_use]
    pub fn calm(seed: u64, hosts: usize, releases: u64) -> Self {
        let strategy = Strategy {
            kind: StrategyKind::Rolling,
            canary: Canary::Count(1),
            batch: Amount::Count(2),
            max_unavailable: Amount::Count(2),
            min_healthy: Duration::from_secs(6),
            healthy_deadline: Duration::from_secs(40),
            progress_deadline: Duration::from_secs(180),
            failure_budget: Amount::Count(0),
            auto_rollback: true,
            ..Strategy::default()
        };
        let releases = (1..=releases).map(|number| ReleasePlan::good(number, strategy.clone())).collect();
        Self {
            seed,
            hosts,
            staging: 0,
            safety_ms: 900_000,
            releases,
            operators: Operators::Patient,
            line: false,
            drills: false,
            restarts: false,
            leaves_out: false,
            drains: false,
            relabels: false,
            by_groups: false,
            epoch_ms: EPOCH_MS,
            faults: FaultRates::default(),
            hostile: None,
            sabotage: None,
        }
    }
}

/// In half of the worlds in which hosts are left out.
fn drains(seed: u64) -> bool {
    seed % 8 == 2
}

/// In a quarter of those in which requests can be led away from hosts, there is a second group that takes them.
fn by_groups(seed: u64) -> bool {
    seed % 32 == 10
}

/// Three of four releases go by two groups of hosts.
pub fn with_groups(releases: &mut [ReleasePlan]) {
    for plan in releases {
        plan.gate = true;
        plan.slots = false;
        if plan.number.is_multiple_of(4) {
            continue;
        }
        plan.strategy = Strategy {
            kind: StrategyKind::BlueGreen,
            spread: Some(LabelKey::new("color").expect("a valid key")),
            canary: Canary::Count(1),
            analysis: None,
            window: Window::Batch,
            stagger: Duration::ZERO,
            ..plan.strategy.clone()
        };
        if plan.number % 3 == 2 {
            plan.strategy.auto_promote = false;
        }
        if !plan.number.is_multiple_of(2) {
            plan.strategy.canary_hold = Duration::from_secs(20);
            plan.strategy.watch = Duration::from_secs(60);
        }
    }
}

fn draw_strategy(dice: &mut Dice) -> Strategy {
    let min_healthy = Duration::from_secs(*dice.pick(&[0, 2, 5, 10]));
    let healthy_deadline = Duration::from_secs(*dice.pick(&[30, 45, 60]));
    Strategy {
        kind: if dice.chance(120_000) { StrategyKind::AllAtOnce } else { StrategyKind::Rolling },
        canary: Canary::Count(*dice.pick(&[0, 1, 1, 1, 2])),
        batch: *dice.pick(&[Amount::Count(1), Amount::Count(3), Amount::Percent(25), Amount::Percent(50)]),
        max_unavailable: *dice.pick(&[
            Amount::Count(1),
            Amount::Count(2),
            Amount::Percent(25),
            Amount::Percent(50),
        ]),
        min_healthy,
        healthy_deadline,
        progress_deadline: Duration::from_secs(*dice.pick(&[120, 180, 300])),
        failure_budget: *dice.pick(&[
            Amount::Count(0),
            Amount::Count(0),
            Amount::Count(1),
            Amount::Percent(20),
        ]),
        auto_rollback: dice.chance(850_000),
        ..Strategy::default()
    }
}

/// The knobs that came later, in every third world: the worlds of the other seeds are what they were before.
fn with_newer_knobs(seed: u64, strategy: Strategy) -> Strategy {
    if !matches!(seed % 12, 0 | 3 | 4 | 7) {
        return strategy;
    }
    let mut dice = Dice::new(seed ^ 0x7374_7261_7465_6779);
    let dice = &mut dice;
    let mut strategy = strategy;
    if dice.chance(200_000) {
        strategy.kind = StrategyKind::OneAtATime;
    }
    if dice.chance(400_000) {
        // Of ten hosts three have the label.
        let labels = "role=canary".parse().expect("a label");
        strategy.canary = dice.pick(&[labels, Canary::Percent { percent: 30 }]).clone();
    }
    if dice.chance(400_000) {
        strategy.window = Window::Sliding;
    }
    if dice.chance(400_000) {
        strategy.spread = Some(LabelKey::new("zone").expect("a valid key"));
    }
    if dice.chance(300_000) {
        strategy.stagger = Duration::from_secs(*dice.pick(&[5, 20]));
    }
    if strategy.has_canary() {
        strategy.canary_hold = Duration::from_secs(*dice.pick(&[0, 0, 20, 90]));
        strategy.auto_promote = dice.chance(600_000);
    }
    strategy
}

/// Open for so many minutes of each half of an hour, at most 29.
#[must_use]
pub fn windows(minutes: u64) -> Vec<ReleaseWindow> {
    let half = |half: u64| {
        let (hour, start) = (half / 2, half % 2 * 30);
        let text = format!("Mon-Sun {hour:02}:{start:02}-{hour:02}:{:02}", start + minutes);
        text.parse().expect("a window")
    };
    (0..48).map(half).collect()
}

/// What must hold before each release begins, in half of the worlds with a line.
fn with_entries(seed: u64, releases: &mut [ReleasePlan]) {
    let mut dice = Dice::new(seed ^ 0x6170_7072_6f76_616c);
    if dice.chance(500_000) {
        return;
    }
    for plan in releases {
        plan.strategy.entry.approvals = *dice.pick(&[0, 1, 1, 2]);
        if dice.chance(400_000) {
            plan.strategy.entry.calendar.windows = windows(*dice.pick(&[5, 15, 20]));
        }
    }
}

/// Releases that take away in the end what older ones need, in every fourth world: by dice of their own.
fn with_contracts(seed: u64, releases: &mut [ReleasePlan]) {
    if seed % 4 != 1 {
        return;
    }
    let mut dice = Dice::new(seed ^ 0x636f_6e74_7261_6374);
    for plan in releases {
        if dice.chance(500_000) {
            plan.contracts(dice.chance(300_000), Duration::from_secs(dice.between(20, 60)));
        }
    }
}

/// Releases that CI must have passed, in every ninth world: by dice of their own.
fn with_evidence(seed: u64, releases: &mut [ReleasePlan]) {
    if seed % 9 != 7 {
        return;
    }
    let mut dice = Dice::new(seed ^ 0x6576_6964_656e_6365);
    for plan in releases {
        let keys = dice.pick(&[vec![1], vec![1], vec![1, 2], vec![2], vec![]]).clone();
        if !keys.is_empty() {
            plan.evidence.insert(artifact::tests(), keys);
        }
        if dice.chance(350_000) {
            let keys = dice.pick(&[vec![1], vec![2], vec![2, 3]]).clone();
            plan.evidence.insert(artifact::load(), keys);
        }
    }
}

/// Releases that hosts take only coming from an earlier one, in every seventeenth world: by dice of their own.
fn with_stops(seed: u64, releases: &mut [ReleasePlan]) {
    if seed % 17 != 14 {
        return;
    }
    let mut dice = Dice::new(seed ^ 0x666f_6c6c_6f77_732d);
    for plan in releases.iter_mut().filter(|plan| plan.number > 1) {
        if dice.chance(600_000) {
            plan.follows = Some(dice.between(plan.number.saturating_sub(2).max(1), plan.number - 1));
        }
    }
}

/// How many hosts are in staging, in every twentieth world: none of those whose canaries need certain hosts, or figures.
fn staging(seed: u64, hosts: usize) -> usize {
    let is_one = seed % 11 == 5 && !matches!(seed % 12, 0 | 3 | 4 | 7 | 8);
    if is_one && hosts > 1 { (hosts / 3).max(1) } else { 0 }
}

/// Each of these releases is proven in staging before. There is one database, and so neither migration nor contract.
pub fn stage(releases: &mut [ReleasePlan]) {
    for plan in releases {
        (plan.staged, plan.migration, plan.contract) = (true, None, None);
    }
}

/// A watch that holds to limits, and releases that are beyond them; by dice of their own as well.
fn with_limits(seed: u64, releases: &mut [ReleasePlan]) {
    if seed % 19 != 4 {
        return;
    }
    let mut dice = Dice::new(seed ^ 0x6c69_6d69_7473_2d2d);
    let limits = Limits {
        window: Duration::from_secs(*dice.pick(&[10, 20])),
        deadline: Duration::from_secs(*dice.pick(&[300, 900])),
        latency: Some(Duration::from_millis(200)),
        ..Limits::default()
    };
    let watch = Duration::from_secs(*dice.pick(&[60, 240]));
    for plan in releases.iter_mut() {
        (plan.strategy.limits, plan.strategy.watch) = (Some(limits.clone()), watch);
        plan.slow |= plan.number > 1 && dice.chance(300_000);
    }
}

/// A canary that is compared with others, in every sixth world, and releases that are slow: by dice of their own too.
fn with_an_analysis(seed: u64, releases: &mut [ReleasePlan]) {
    if !matches!(seed % 12, 0 | 8) {
        return;
    }
    let mut dice = Dice::new(seed ^ 0x616e_616c_7973_6973);
    let failures = FailureMetric { floor: Share::percent(*dice.pick(&[1, 5])), ..FailureMetric::default() };
    let missing = *dice.pick(&[Missing::Pause, Missing::Pause, Missing::Fail]);
    let analysis = CanaryAnalysis {
        window: Duration::from_secs(*dice.pick(&[10, 20, 30])),
        deadline: Duration::from_secs(*dice.pick(&[300, 900])),
        latency: LatencyMetric { missing, ..LatencyMetric::default() },
        failures,
        ..CanaryAnalysis::default()
    };
    for plan in releases.iter_mut().filter(|plan| plan.strategy.has_canary()) {
        plan.strategy.analysis = Some(analysis.clone());
        plan.slow = plan.number > 1 && dice.chance(300_000);
    }
    // What came later has dice of its own, so that the worlds of before are what they were.
    let mut dice = Dice::new(seed ^ 0x7365_7276_6963_6573);
    let memory = MemoryMetric { critical: dice.chance(500_000), ..MemoryMetric::default() };
    for plan in releases.iter_mut() {
        let Some(analysis) = &mut plan.strategy.analysis else { continue };
        analysis.memory = memory.clone();
        plan.restless = plan.number > 1 && dice.chance(150_000);
        plan.hungry = plan.number > 1 && dice.chance(150_000);
    }
    // And so has this: in half of these worlds applications show metrics, most of them from their first release on.
    let mut dice = Dice::new(seed ^ 0x6d65_7472_6963_732d);
    if !dice.chance(500_000) {
        return;
    }
    let first = if dice.chance(800_000) { 1 } else { 2 };
    for plan in releases.iter_mut().filter(|plan| plan.number >= first) {
        let shows = match dice.between(0, 99) {
            0..20 => Shows::Failing,
            20..27 => Shows::Nothing,
            27..35 => Shows::Rubbish,
            _ => Shows::Well,
        };
        plan.shows = Some(if plan.number > 1 { shows } else { Shows::Well });
    }
}

/// Gates that others hold, in every sixth world: by dice of their own too.
fn with_gates(seed: u64, releases: &mut [ReleasePlan]) {
    if !matches!(seed % 12, 1 | 10) {
        return;
    }
    let mut dice = Dice::new(seed ^ 0x6761_7465_732d_2d2d);
    let mut asked = Dice::new(seed ^ 0x6173_6b65_642d_2d2d);
    for plan in releases {
        for name in crate::world::GATES {
            if dice.chance(500_000) {
                let name = GateName::new(name).expect("a valid name");
                let before = *dice.pick(&Before::ALL.map(|(before, _)| before));
                let deadline = Duration::from_secs(*dice.pick(&[60, 600]));
                let ask = asked.chance(400_000).then(|| Ask {
                    url: format!("{}/{name}", crate::world::GATES_AT).parse().expect("a valid URL"),
                    every: Duration::from_secs(*asked.pick(&[2, 10, 30])),
                    timeout: Duration::from_secs(5),
                });
                plan.strategy.gates.push(Gate { name, before, deadline, ask });
            }
        }
    }
}

/// The labels of a host by its number.
#[must_use]
pub fn labels(host: usize, by_groups: bool) -> BTreeMap<LabelKey, String> {
    let label = |key: &str, value: &str| (LabelKey::new(key).expect("a valid key"), value.to_owned());
    // One of four hosts is in no zone.
    let zone = ["a", "b", "c"].get(host % 4).map(|zone| label("zone", zone));
    let color = by_groups.then(|| label("color", if host.is_multiple_of(2) { "blue" } else { "green" }));
    (host % 10 < 3).then(|| label("role", "canary")).into_iter().chain(zone).chain(color).collect()
}

fn draw_release(dice: &mut Dice, number: u64, strategy: &Strategy, migrations: bool) -> ReleasePlan {
    let mut plan = ReleasePlan::good(number, strategy.clone());
    plan.worker = dice.chance(400_000);
    plan.prepare = usize::try_from(dice.between(0, 2)).unwrap_or(0);
    plan.smoke = usize::try_from(dice.between(0, 1)).unwrap_or(0);
    plan.retention = u32::try_from(dice.between(2, 4)).unwrap_or(2);
    if migrations && dice.chance(500_000) {
        plan.migrates(
            match dice.between(0, 2) {
                0 => WayBack::None,
                1 => crate::artifact::reversible(),
                _ => WayBack::Compatible,
            },
            dice.chance(400_000),
            Duration::from_secs(dice.between(20, 60)),
        );
    }
    // The first release is never bad everywhere: there would be nothing to look at.
    if number > 1 {
        plan.bad_ppm = *dice.pick(&[0, 0, 0, 150_000, 1_000_000]);
    }
    plan.badness = dice.between(0, 4);
    plan
}

fn draw_faults(dice: &mut Dice, hosts: u64) -> FaultRates {
    let mut faults = FaultRates::default();
    // Some worlds are calm: a bug that shows there is a simple one.
    if dice.chance(150_000) {
        return faults;
    }
    let per_host = |rate: u64| u32::try_from(rate / hosts.max(1)).unwrap_or(0);
    let mut some = |odds: u32, low: u64, high: u64| {
        if dice.chance(odds) { u32::try_from(dice.between(low, high)).unwrap_or(0) } else { 0 }
    };
    faults.lost = some(500_000, 1_000, 200_000);
    faults.doubled = some(400_000, 1_000, 200_000);
    faults.late = some(500_000, 1_000, 200_000);
    faults.partition = per_host(u64::from(some(400_000, 2_000, 40_000)));
    faults.outage = some(200_000, 500, 5_000);
    faults.host_power = per_host(u64::from(some(400_000, 2_000, 30_000)));
    faults.agent_kill = per_host(u64::from(some(400_000, 2_000, 30_000)));
    faults.controller_power = some(400_000, 1_000, 15_000);
    faults.controller_kill = some(300_000, 1_000, 15_000);
    faults.host_full = per_host(u64::from(some(250_000, 2_000, 20_000)));
    faults.controller_full = some(200_000, 500, 5_000);
    faults.io = some(150_000, 100, 3_000);
    faults.step = some(300_000, 1_000, 100_000);
    faults.migration = some(300_000, 50_000, 400_000);
    faults.migration_hang = some(300_000, 50_000, 400_000);
    faults.check = some(300_000, 1_000, 100_000);
    faults.sick = per_host(u64::from(some(300_000, 2_000, 20_000)));
    faults.clock = per_host(u64::from(some(300_000, 2_000, 20_000)));
    faults.stale = some(300_000, 1, 1) > 0;
    faults.clock_step_ms = *dice.pick(&[10_000, 25_000, 600_000, 7_200_000, 36_000_000]);
    if dice.chance(500_000) {
        faults.controller_clock = u32::try_from(dice.between(50_000, 500_000)).unwrap_or(0);
    }
    faults
}
