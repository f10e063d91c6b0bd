//! `landfall-sim`: many seeds on all cores, or one with its trace.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is a program that prints")]

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use landfall_sim::world::Statistics;
use landfall_sim::{Hostile, Outcome, replay_command, run, run_hostile};

/// Runs simulated worlds and stops at the first broken promise.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    start: u64,
    /// How many worlds run at the same time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Runs this one seed and prints what happens in it.
    #[arg(long)]
    trace: Option<u64>,
    /// Lets a hostile schedule strike in each of them.
    #[arg(long, value_parser = Hostile::named)]
    hostile: Option<Hostile>,
    /// Goes on after a broken promise, and lists all of them at the end.
    #[arg(long)]
    keep_going: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.trace {
        Some(seed) => trace(seed, arguments.hostile),
        None => sweep(&arguments),
    }
}

fn one(seed: u64, hostile: Option<Hostile>, keep_trace: bool) -> Outcome {
    match hostile {
        Some(hostile) => run_hostile(seed, hostile, keep_trace),
        None => run(seed, keep_trace),
    }
}

fn trace(seed: u64, hostile: Option<Hostile>) -> ExitCode {
    let outcome = one(seed, hostile, true);
    for line in &outcome.trace {
        println!("{line}");
    }
    println!("seed {seed}: {:?}", outcome.statistics);
    match outcome.violation {
        None => ExitCode::SUCCESS,
        Some(violation) => {
            println!("seed {seed}: {violation}");
            ExitCode::FAILURE
        }
    }
}

fn sweep(arguments: &Arguments) -> ExitCode {
    let begun = Instant::now();
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let failed: Mutex<Vec<Outcome>> = Mutex::new(Vec::new());
    let total: Mutex<(u64, Statistics)> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= arguments.seeds {
                        break;
                    }
                    let seed = arguments.start.wrapping_add(at);
                    let result = std::panic::catch_unwind(|| one(seed, arguments.hostile, false));
                    let Ok(outcome) = result else {
                        eprintln!(
                            "seed {seed} panicked; see it again with `{}`",
                            replay_command(seed, arguments.hostile)
                        );
                        stop.store(!arguments.keep_going, Ordering::Relaxed);
                        failed.lock().expect("no holder panics").push(panicked(seed));
                        continue;
                    };
                    let mut total = total.lock().expect("no holder panics");
                    total.0 += 1;
                    total.1.add(&outcome.statistics);
                    if total.0.is_multiple_of(500) {
                        eprintln!("{} seeds in {:.0} s", total.0, begun.elapsed().as_secs_f64());
                    }
                    drop(total);
                    if let Some(violation) = &outcome.violation {
                        eprintln!(
                            "seed {seed}: {violation}\n  see it again with `{}`",
                            replay_command(seed, arguments.hostile)
                        );
                        stop.store(!arguments.keep_going, Ordering::Relaxed);
                        failed.lock().expect("no holder panics").push(outcome);
                    }
                }
            });
        }
    });
    let (seeds, statistics) = *total.lock().expect("no holder panics");
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{seeds} seeds from {} in {seconds:.0} s ({:.1} a second): {statistics:?}",
        arguments.start,
        seeds_per_second(seeds, seconds)
    );
    let failed = failed.lock().expect("no holder panics");
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("{} seeds failed", failed.len());
    ExitCode::FAILURE
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn seeds_per_second(seeds: u64, seconds: f64) -> f64 {
    seeds as f64 / seconds.max(0.001)
}

fn panicked(seed: u64) -> Outcome {
    Outcome {
        seed,
        violation: None,
        digest: landfall_common::Sha256::of(b""),
        statistics: Statistics::default(),
        before_healing: Statistics::default(),
        trace: Vec::new(),
    }
}
