//! Rollouts as the analysis would see them: in some the canaries are no worse than their tolerance, and yet it looks
//! bad at times; in others they are worse by a named amount. The tests and the example `analysis_power` share them.

use std::collections::BTreeMap;
use std::f64::consts::TAU;

use landfall_controller_core::analysis::{
    Analysis, Count, Metric, OnMissing, Settings, Tolerance, Unit, Verdict, Window, Worse,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// What the next window of a rollout has, metric by metric.
pub type Source = Box<dyn FnMut(&mut StdRng) -> Vec<Window>>;

/// A kind of rollout.
pub struct World {
    pub name: &'static str,
    /// The tolerance of each of its metrics.
    pub tolerances: Vec<Tolerance>,
    /// A rollout of it.
    pub start: Box<dyn Fn(&mut StdRng) -> Source>,
}

/// When a rollout was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Failed { after: u32 },
    Passed { after: u32 },
    Open,
}

/// A rollout under way.
pub struct Course {
    pub analysis: Analysis,
    names: Vec<String>,
    source: Source,
    rng: StdRng,
}

impl Course {
    pub fn start(world: &World, settings: Settings, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let names: Vec<_> = (0..world.tolerances.len()).map(|at| format!("metric {at}")).collect();
        let metric = |(name, tolerance): (&String, &Tolerance)| Metric {
            name: name.clone(),
            worse: Worse::Higher,
            tolerance: *tolerance,
            critical: true,
            on_missing: OnMissing::Inconclusive,
            unit: Unit::Plain,
        };
        let analysis = Analysis::new(settings, names.iter().zip(&world.tolerances).map(metric).collect());
        let source = (world.start)(&mut rng);
        Self { analysis, names, source, rng }
    }

    /// A window passes.
    pub fn next_window(&mut self) {
        let figures = (self.source)(&mut self.rng);
        let window: BTreeMap<_, _> = self.names.iter().cloned().zip(figures).collect();
        self.analysis.observe(&window);
    }
}

/// One rollout, looked at after each window. It ends with the first verdict that is not inconclusive, or at the last
/// window; with `to_the_end` a pass does not end it, as where canaries are watched for a time that is fixed.
pub fn rollout(world: &World, settings: Settings, seed: u64, windows: u32, to_the_end: bool) -> Ending {
    let mut course = Course::start(world, settings, seed);
    let mut ending = Ending::Open;
    for after in 1..=windows {
        course.next_window();
        match course.analysis.verdict() {
            Verdict::Fail => return Ending::Failed { after },
            Verdict::Pass if !to_the_end => return Ending::Passed { after },
            Verdict::Pass => ending = Ending::Passed { after },
            Verdict::Inconclusive => ending = Ending::Open,
        }
    }
    ending
}

/// Latencies of one canary and of `hosts` others: each host's logarithm is the sum of what all have in common at that
/// time, of what the host is like, and of a noise that remembers `memory` of itself; the canary's is longer by
/// `times`.
pub fn latencies(name: &'static str, ratio: f64, times: f64, hosts: usize, like: Latency) -> World {
    let start = move |rng: &mut StdRng| {
        let own: Vec<_> = (0..=hosts).map(|_| like.between_hosts * normal(rng)).collect();
        let mut noise: Vec<_> = own.iter().map(|_| normal(rng)).collect();
        let source: Source = Box::new(move |rng| {
            let common = like.common * normal(rng);
            let fresh = (1.0 - like.memory * like.memory).sqrt();
            noise.iter_mut().for_each(|noise| *noise = like.memory * *noise + fresh * normal(rng));
            let mut figures: Vec<_> = own
                .iter()
                .zip(&noise)
                .map(|(own, noise)| 0.2 * (common + own + like.noise * noise).exp())
                .collect();
            figures.iter_mut().take(1).for_each(|canary| *canary *= times);
            let baseline = figures.split_off(1);
            vec![Window::Level { canary: figures, baseline }]
        });
        source
    };
    World { name, tolerances: vec![Tolerance::level(ratio, 0.0).unwrap()], start: Box::new(start) }
}

/// As `latencies`, of a canary that is like the others for so many windows.
pub fn turning(name: &'static str, ratio: f64, times: f64, well_for: u32, like: Latency) -> World {
    let world = latencies(name, ratio, 1.0, 3, like);
    let start = move |rng: &mut StdRng| {
        let mut well = (world.start)(rng);
        let mut at = 0;
        let source: Source = Box::new(move |rng| {
            at += 1;
            let mut windows = well(rng);
            for window in windows.iter_mut().filter(|_| at > well_for) {
                if let Window::Level { canary, .. } = window {
                    canary.iter_mut().for_each(|canary| *canary *= times);
                }
            }
            windows
        });
        source
    };
    World { name, tolerances: vec![Tolerance::level(ratio, 0.0).unwrap()], start: Box::new(start) }
}

/// What latencies are like. All in logarithms: 0.1 is about ten per cent.
#[derive(Clone, Copy)]
pub struct Latency {
    /// From window to window, of each host.
    pub noise: f64,
    /// The correlation of that noise with itself one window before.
    pub memory: f64,
    /// From window to window, of all hosts alike.
    pub common: f64,
    /// From host to host, for good.
    pub between_hosts: f64,
}

/// Without any memory, and with hosts that are alike.
pub const QUIET: Latency = Latency { noise: 0.1, memory: 0.0, common: 0.3, between_hosts: 0.0 };

/// Figures without a finite mean, on one canary and `hosts` others, that are alike.
pub fn heavy_tails(name: &'static str, hosts: usize) -> World {
    let start = move |_: &mut StdRng| {
        let source: Source = Box::new(move |rng| {
            let mut pareto = || (1.0 - rng.random::<f64>()).powf(-1.0 / 0.8);
            vec![Window::Level { canary: vec![pareto()], baseline: (0..hosts).map(|_| pareto()).collect() }]
        });
        source
    };
    World { name, tolerances: vec![Tolerance::level(1.0, 0.0).unwrap()], start: Box::new(start) }
}

/// Requests that fail, on one canary and `hosts` others.
#[derive(Clone, Copy)]
pub struct Failures {
    /// Of each host in each window.
    pub requests: u64,
    /// Of those on the baseline's hosts, which part fails.
    pub rate: f64,
    /// The canary's is so many times that.
    pub times: f64,
    /// How many fail together.
    pub burst: u64,
    /// How likely a host on which some failed has more in the next window too; 0 for windows that know nothing of
    /// each other.
    pub stays: f64,
}

/// Of one canary and `hosts` others.
pub fn failures(name: &'static str, ratio: f64, floor: f64, hosts: usize, like: Failures) -> World {
    let start = move |_: &mut StdRng| {
        let mut failing = vec![false; hosts + 1];
        let source: Source = Box::new(move |rng| {
            let counts = failing.iter_mut().enumerate().map(|(at, failing)| {
                let rate = if at == 0 { like.rate * like.times } else { like.rate };
                let mean = rate * like.requests as f64;
                let events = match like.stays > 0.0 {
                    // Of the time a part fails entirely, so that the mean is the same.
                    true => {
                        let begins = rate * (1.0 - like.stays) / (1.0 - rate);
                        *failing = rng.random_bool(if *failing { like.stays } else { begins });
                        if *failing { like.requests } else { 0 }
                    }
                    false => poisson(rng, mean / like.burst as f64) * like.burst,
                };
                Count { events: events.min(like.requests), of: like.requests }
            });
            let mut canary: Vec<_> = counts.collect();
            let baseline = canary.split_off(1);
            vec![Window::Events { canary, baseline }]
        });
        source
    };
    World { name, tolerances: vec![Tolerance::events(ratio, floor).unwrap()], start: Box::new(start) }
}

/// As `latencies`, of a process that has just started: in its window number *n*, from 0 on, its figure is `like_new(n)`
/// times what it will be.
pub fn fresh(
    name: &'static str,
    ratio: f64,
    like_new: impl Fn(f64) -> f64 + Copy + 'static,
    like: Latency,
) -> World {
    let world = latencies(name, ratio, 1.0, 3, like);
    let start = move |rng: &mut StdRng| {
        let mut settled = (world.start)(rng);
        let mut at = 0.0;
        let source: Source = Box::new(move |rng| {
            let mut windows = settled(rng);
            for window in &mut windows {
                if let Window::Level { canary, .. } = window {
                    canary.iter_mut().for_each(|canary| *canary *= like_new(at));
                }
            }
            at += 1.0;
            windows
        });
        source
    };
    World { name, tolerances: vec![Tolerance::level(ratio, 0.0).unwrap()], start: Box::new(start) }
}

/// Services that end by themselves, in windows of 30 s: of one canary and three others.
#[derive(Clone, Copy)]
pub struct Restarts {
    /// On each host.
    pub an_hour: f64,
    /// On the canary in place of that.
    pub on_the_canary: f64,
    /// Every so many seconds it ends again, for as long as it is in a loop; 0 for ends that know nothing of each other.
    pub loops_s: u64,
}

/// May be six an hour in any case.
pub fn restarts(name: &'static str, like: Restarts) -> World {
    const WINDOW_S: u64 = 30;
    let start = move |_: &mut StdRng| {
        let mut looping = [false; 4];
        let source: Source = Box::new(move |rng| {
            let counts = looping.iter_mut().enumerate().map(|(at, looping)| {
                let an_hour = if at == 0 { like.on_the_canary } else { like.an_hour };
                let mean = an_hour * WINDOW_S as f64 / 3600.0;
                let events = match WINDOW_S.checked_div(like.loops_s) {
                    Some(each) => {
                        // Four windows in a row, in the mean.
                        let begins = mean / (4.0 * each as f64);
                        *looping = rng.random_bool(if *looping { 0.75 } else { begins });
                        if *looping { each } else { 0 }
                    }
                    None => poisson(rng, mean),
                };
                Count { events: events.min(WINDOW_S), of: WINDOW_S }
            });
            let mut canary: Vec<_> = counts.collect();
            let baseline = canary.split_off(1);
            vec![Window::Events { canary, baseline }]
        });
        source
    };
    let tolerance = Tolerance::events(1.5, 6.0 / 3600.0).unwrap();
    World { name, tolerances: vec![tolerance], start: Box::new(start) }
}

/// All of them at once, in one rollout.
pub fn together(name: &'static str, worlds: Vec<World>) -> World {
    let tolerances = worlds.iter().flat_map(|world| world.tolerances.clone()).collect();
    let start = move |rng: &mut StdRng| {
        let mut sources: Vec<_> = worlds.iter().map(|world| (world.start)(rng)).collect();
        let source: Source = Box::new(move |rng| sources.iter_mut().flat_map(|source| source(rng)).collect());
        source
    };
    World { name, tolerances, start: Box::new(start) }
}

/// Canaries that are no worse than their tolerance: none may be failed but by chance.
pub fn nulls() -> Vec<World> {
    let remembers = |memory| Latency { memory, ..QUIET };
    let few = Failures { requests: 20, rate: 0.002, times: 1.0, burst: 1, stays: 0.0 };
    vec![
        latencies("latency, exactly the others'; tolerance 1", 1.0, 1.0, 3, QUIET),
        latencies("latency, exactly at a tolerance of 1.2", 1.2, 1.2, 3, QUIET),
        latencies("latency, exactly the others', one host each; tolerance 1", 1.0, 1.0, 1, QUIET),
        latencies("latency, correlation 0.5 between windows, tolerance 1", 1.0, 1.0, 3, remembers(0.5)),
        latencies("latency, correlation 0.9 between windows, tolerance 1.2", 1.2, 1.0, 3, remembers(0.9)),
        latencies(
            "latency, hosts that differ by 5 % for good, tolerance 1.2",
            1.2,
            1.0,
            3,
            Latency { between_hosts: 0.05, memory: 0.5, ..QUIET },
        ),
        heavy_tails("figures without a finite mean, 1 against 3", 3),
        heavy_tails("figures without a finite mean, 1 against 8", 8),
        failures("few failures: 1 in 500 of 20 requests a window", 1.0, 0.0, 3, few),
        failures("few failures, 1 host against 9", 1.0, 0.0, 9, few),
        failures(
            "many failures: 5 % of 100 requests",
            1.0,
            0.0,
            3,
            Failures { requests: 100, rate: 0.05, ..few },
        ),
        failures(
            "failures in bursts of ten",
            1.0,
            0.0,
            3,
            Failures { requests: 100, rate: 0.01, burst: 10, ..few },
        ),
        failures(
            "whole windows that fail, the next too with one in two",
            1.0,
            0.0,
            3,
            Failures { rate: 0.05, stays: 0.5, ..few },
        ),
        failures(
            "failures of the canary alone, as many as may be: 1 %",
            1.0,
            0.01,
            3,
            Failures { requests: 100, rate: 1e-9, times: 1e7, ..few },
        ),
        fresh(
            "memory that grows from half of the others', hosts that differ by 10 %, tolerance 1.5",
            1.5,
            grown,
            HELD,
        ),
        fresh(
            "cpu, three times the others' at first and settled in two minutes, noise 30 %, tolerance 1.5",
            1.5,
            |window| 1.0 + 2.0 * (-window).exp(),
            Latency { noise: 0.3, memory: 0.5, ..QUIET },
        ),
        restarts("restarts, one an hour", Restarts { an_hour: 1.0, on_the_canary: 1.0, loops_s: 0 }),
        restarts(
            "restarts, as many as may be: six an hour",
            Restarts { an_hour: 0.0, on_the_canary: 6.0, loops_s: 0 },
        ),
        restarts(
            "restarts in loops of ten seconds",
            Restarts { an_hour: 6.0, on_the_canary: 6.0, loops_s: 10 },
        ),
        together(
            "four metrics in one rollout",
            vec![
                latencies("", 1.0, 1.0, 3, remembers(0.5)),
                heavy_tails("", 3),
                failures("", 1.0, 0.0, 3, Failures { requests: 100, rate: 0.01, burst: 10, ..few }),
                failures("", 1.0, 0.0, 3, Failures { rate: 0.05, stays: 0.5, ..few }),
            ],
        ),
    ]
}

/// Canaries that are worse, by a named amount, and one that is not.
pub fn effects() -> Vec<World> {
    let noisy = Latency { noise: 0.3, memory: 0.5, ..QUIET };
    let usual = Latency { memory: 0.5, ..QUIET };
    let web = |times| Failures { requests: 100, rate: 0.001, times, burst: 1, stays: 0.0 };
    vec![
        latencies("latency the same, noise 10 %", 1.2, 1.0, 3, usual),
        latencies("latency 1.1 times", 1.2, 1.1, 3, usual),
        latencies("latency 1.3 times", 1.2, 1.3, 3, usual),
        latencies("latency 1.5 times", 1.2, 1.5, 3, usual),
        latencies("latency 2 times", 1.2, 2.0, 3, usual),
        latencies("latency the same, noise 30 %", 1.2, 1.0, 3, noisy),
        latencies("latency 1.5 times, noise 30 %", 1.2, 1.5, 3, noisy),
        latencies("latency 2 times, noise 30 %", 1.2, 2.0, 3, noisy),
        failures("failures the same: 0.1 % of 100 requests", 1.5, 0.005, 3, web(1.0)),
        failures("failures 1 %", 1.5, 0.005, 3, web(10.0)),
        failures("failures 2 %", 1.5, 0.005, 3, web(20.0)),
        failures("failures 5 %", 1.5, 0.005, 3, web(50.0)),
        failures("failures 20 %", 1.5, 0.005, 3, web(200.0)),
        failures("failures 5 %, 1 canary against 1", 1.5, 0.005, 1, web(50.0)),
        failures("failures 5 %, 1 canary against 9", 1.5, 0.005, 9, web(50.0)),
        restarts("restarts the same: one an hour", Restarts { an_hour: 1.0, on_the_canary: 1.0, loops_s: 0 }),
        restarts("restarts, one in two minutes", Restarts { an_hour: 0.0, on_the_canary: 30.0, loops_s: 0 }),
        restarts("restarts, one a minute", Restarts { an_hour: 0.0, on_the_canary: 60.0, loops_s: 0 }),
        restarts("restarts, six a minute", Restarts { an_hour: 0.0, on_the_canary: 360.0, loops_s: 0 }),
    ]
    .into_iter()
    .chain(effects_on_what_services_use())
    .chain(effects_on_what_the_application_shows())
    .collect()
}

/// Memory of hosts that differ by 10 % for good, grown to half of what it will be as the process starts; processor time with a
/// noise of 30 %, three times as much in the first windows. Both may be half as much again.
fn effects_on_what_services_use() -> Vec<World> {
    let cpu = Latency { noise: 0.3, memory: 0.5, ..QUIET };
    let started = |window: f64| 1.0 + 2.0 * (-window).exp();
    vec![
        fresh("memory the same", 1.5, grown, HELD),
        fresh("cpu the same", 1.5, started, cpu),
        fresh("cpu 2 times", 1.5, move |window| started(window) + 1.0, cpu),
        fresh("cpu 3 times", 1.5, move |window| started(window) + 2.0, cpu),
    ]
}

/// What is worse only once the process has grown: it may pass before, and has to be watched for as long as that takes.
pub fn growing() -> Vec<World> {
    vec![
        fresh("memory 2 times", 1.5, move |window| 2.0 * grown(window), HELD),
        fresh("memory 3 times", 1.5, move |window| 3.0 * grown(window), HELD),
        fresh("memory that leaks: a tenth of it in a minute", 1.5, |window| 1.0 + 0.05 * window, HELD),
    ]
}

/// What memory is like.
const HELD: Latency = Latency { noise: 0.1, memory: 0.95, common: 0.1, between_hosts: 0.1 };

/// In so many windows, from half of what it will be: two thirds of the way in twenty.
fn grown(window: f64) -> f64 {
    1.0 - 0.5 * (-window / 20.0).exp()
}

/// A gauge that jumps, as the length of a queue does, and may be twice as long; a share of what was tried, and of a histogram
/// what lies above its bound, which may be half as much again or one in a hundred.
fn effects_on_what_the_application_shows() -> Vec<World> {
    let queue = Latency { noise: 0.7, memory: 0.5, ..QUIET };
    let share = |rate, times| Failures { requests: 100, rate, times, burst: 1, stays: 0.0 };
    vec![
        latencies("a queue the same, noise 70 %", 2.0, 1.0, 3, queue),
        latencies("a queue 3 times as long, noise 70 %", 2.0, 3.0, 3, queue),
        latencies("a queue 8 times as long, noise 70 %", 2.0, 8.0, 3, queue),
        failures("a share the same: 0.2 % of 100", 1.5, 0.01, 3, share(0.002, 1.0)),
        failures("a share of 3 %, not 0.2 %", 1.5, 0.01, 3, share(0.002, 15.0)),
        failures("a share of 5 %, not 0.2 %", 1.5, 0.01, 3, share(0.002, 25.0)),
        failures("above a bound the same: 5 % of 100", 1.5, 0.01, 3, share(0.05, 1.0)),
        failures("above a bound 15 %, not 5 %", 1.5, 0.01, 3, share(0.05, 3.0)),
        failures("above a bound 25 %, not 5 %", 1.5, 0.01, 3, share(0.05, 5.0)),
    ]
}

/// A standard normal variate (Box and Muller).
fn normal(rng: &mut StdRng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (TAU * rng.random::<f64>()).cos()
}

/// For small means (Knuth).
fn poisson(rng: &mut StdRng, mean: f64) -> u64 {
    let (limit, mut product, mut count) = ((-mean).exp(), rng.random::<f64>(), 0);
    while product > limit {
        product *= rng.random::<f64>();
        count += 1;
    }
    count
}
