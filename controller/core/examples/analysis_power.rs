//! How often the canary analysis is wrong, and how soon it is right, over simulated rollouts: the tables of
//! `docs/reference/analysis.md`.
//!
//! `cargo run --profile checked -p landfall-controller-core --example analysis_power [ROLLOUTS [KIND]]`; only rollouts whose
//! name begins with KIND, if that is given.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a program for whoever changes the test: it prints its tables"
)]

#[path = "../tests/analysis/worlds.rs"]
mod worlds;

use landfall_controller_core::analysis::Settings;
use worlds::{Ending, Latency, QUIET, World, effects, growing, latencies, nulls, rollout, turning};

const WINDOWS: u32 = 60;

fn main() {
    let rollouts = std::env::args().nth(1).map_or(10_000, |count| count.parse().unwrap());
    let kind = std::env::args().nth(2).unwrap_or_default();
    let is_wanted = |world: &World| world.name.starts_with(&kind);
    println!("{rollouts} rollouts of each kind, {WINDOWS} windows, alpha and beta 0.05\n");
    println!(
        "| canaries that are no worse than their tolerance | taken back | with odds of 1 instead of 2 |"
    );
    println!("|---|---|---|");
    let independent = Settings::default().with_persistence(1.0).unwrap();
    for world in nulls().into_iter().chain(beyond_what_is_assumed()).filter(is_wanted) {
        let failed = |settings| {
            let failed = endings(&world, settings, rollouts, true);
            per_cent(failed.iter().filter(|ending| matches!(ending, Ending::Failed { .. })).count(), rollouts)
        };
        println!("| {} | {} | {} |", world.name, failed(Settings::default()), failed(independent));
    }
    println!("\n| what is true | failed | passed | undecided | windows until then: median, nine in ten |");
    println!("|---|---|---|---|---|");
    for world in effects().into_iter().filter(is_wanted) {
        row(&world, &endings(&world, Settings::default(), rollouts, false));
    }
    println!(
        "\n| what is true | failed | passed | undecided | windows until it failed: median, nine in ten |"
    );
    println!("|---|---|---|---|---|");
    let turned = [
        ("latency 2 times from the first window on", 0),
        ("latency 2 times after 10 windows", 10),
        ("latency 2 times after 20 windows", 20),
        ("latency 2 times after 30 windows", 30),
    ];
    let turned =
        turned.map(|(name, well_for)| turning(name, 1.2, 2.0, well_for, Latency { memory: 0.5, ..QUIET }));
    for world in turned.into_iter().chain(growing()).filter(is_wanted) {
        row(&world, &endings(&world, Settings::default(), rollouts, true));
    }
}

fn row(world: &World, endings: &[Ending]) {
    let count = |of: fn(&Ending) -> bool| {
        per_cent(endings.iter().filter(|ending| of(ending)).count(), endings.len() as u64)
    };
    let mut after: Vec<_> = endings
        .iter()
        .map(|ending| match ending {
            Ending::Failed { after } | Ending::Passed { after } => *after,
            Ending::Open => u32::MAX,
        })
        .collect();
    after.sort_unstable();
    let quantile = |tenths: usize| match after[after.len() * tenths / 10] {
        u32::MAX => format!("over {WINDOWS}"),
        after => after.to_string(),
    };
    println!(
        "| {} | {} | {} | {} | {}, {} |",
        world.name,
        count(|ending| matches!(ending, Ending::Failed { .. })),
        count(|ending| matches!(ending, Ending::Passed { .. })),
        count(|ending| matches!(ending, Ending::Open)),
        quantile(5),
        quantile(9),
    );
}

/// Canaries that are no worse, in a world that is not as the test assumes it.
fn beyond_what_is_assumed() -> [World; 2] {
    let remembers = Latency { memory: 0.9, ..QUIET };
    let unlike = Latency { between_hosts: 0.15, memory: 0.5, ..QUIET };
    [
        latencies("**beyond what is assumed**: correlation 0.9, tolerance 1", 1.0, 1.0, 3, remembers),
        latencies(
            "**beyond what is assumed**: hosts that differ by 15 % for good, tolerance 1.2",
            1.2,
            1.0,
            3,
            unlike,
        ),
    ]
}

fn endings(world: &World, settings: Settings, rollouts: u64, to_the_end: bool) -> Vec<Ending> {
    (0..rollouts).map(|seed| rollout(world, settings, seed, WINDOWS, to_the_end)).collect()
}

fn per_cent(count: usize, of: u64) -> String {
    format!("{:.2} %", 100.0 * count as f64 / of as f64)
}
