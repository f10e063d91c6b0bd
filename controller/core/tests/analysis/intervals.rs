//! "1.42 to 1.68 times": whether what is true lies between these, at every window at once.

use landfall_controller_core::analysis::Settings;
use landfall_controller_core::analysis::report::Evidence;

use crate::worlds::{Course, Latency, QUIET, World, heavy_tails, latencies};

const ROLLOUTS: u64 = 500;
const WINDOWS: u32 = 60;

/// What is shown after each window.
fn shown(world: &World, settings: Settings, seed: u64) -> Vec<Option<(f64, f64)>> {
    let mut course = Course::start(world, settings, seed);
    let look = |_| {
        course.next_window();
        match course.analysis.report().findings[0].evidence {
            Evidence::Level { times, .. } => times,
            Evidence::Events { .. } => panic!("{} is a level", world.name),
        }
    };
    (0..WINDOWS).map(look).collect()
}

/// In how many rollouts the truth was outside at least once, and how wide the interval was at the end, in the mean.
fn missed(world: &World, settings: Settings, truth: f64) -> (usize, f64) {
    let courses: Vec<_> = (0..ROLLOUTS).map(|seed| shown(world, settings, seed)).collect();
    let misses = |shown: &&Vec<Option<(f64, f64)>>| {
        shown.iter().flatten().any(|(low, high)| !(*low..=*high).contains(&truth))
    };
    let widths: Vec<_> = courses.iter().map(|shown| shown.last().unwrap().unwrap()).collect();
    let width = widths.iter().map(|(low, high)| high / low).sum::<f64>() / widths.len() as f64;
    (courses.iter().filter(misses).count(), width)
}

#[test]
fn what_is_true_lies_within_in_nineteen_of_twenty_rollouts_however_often_it_is_looked_at() {
    let remembers = Latency { memory: 0.5, ..QUIET };
    let noisy = Latency { noise: 0.3, ..remembers };
    let stated = usize::try_from(ROLLOUTS / 20).unwrap();
    for (world, truth) in [
        (latencies("the same, correlation 0.5", 1.2, 1.0, 3, remembers), 1.0),
        (latencies("twice as slow, noise 30 %", 1.2, 2.0, 3, noisy), 2.0),
        (latencies("against one other host", 1.2, 1.5, 1, remembers), 1.5),
        (heavy_tails("without a finite mean", 3), 1.0),
    ] {
        let (missed, _) = missed(&world, Settings::default(), truth);
        assert!(missed <= stated, "{}: {missed} of {ROLLOUTS}, {stated} may be", world.name);
    }
}

/// An interval without an end would hold as well.
#[test]
fn it_becomes_narrow() {
    let usual = Latency { memory: 0.5, ..QUIET };
    let (_, width) = missed(&latencies("half as slow again", 1.2, 1.5, 3, usual), Settings::default(), 1.5);
    assert!(width < 1.3, "from {width} times the other end");
}

/// The odds that windows which remember each other have are what the interval's width pays for.
#[test]
fn without_the_odds_of_what_remembers_it_would_be_wrong_too_often() {
    let usual = Latency { memory: 0.5, ..QUIET };
    let independent = Settings::default().with_persistence(1.0).unwrap();
    let (missed, _) = missed(&latencies("the same", 1.2, 1.0, 3, usual), independent, 1.0);
    assert!(missed > usize::try_from(ROLLOUTS / 20).unwrap(), "{missed} of {ROLLOUTS}");
}
