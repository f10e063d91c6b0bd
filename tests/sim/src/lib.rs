//! The simulated world: the real planner, machine, ledger, store and journal, over faulty disks and networks.
//!
//! Only the system calls are replaced ([`disk`]), the network, the clocks, and the processes that an agent
//! would start. One seed is one world, and the same seed is the same world to the last byte of its trace.
//! [`check`] watches from outside; [`sabotage`] proves that it does not sleep.

pub mod application;
pub mod artifact;
pub mod check;
pub mod controller;
pub mod dice;
pub mod disk;
pub mod host;
pub mod hostile;
pub mod sabotage;
pub mod scenario;
pub mod trace;
pub mod world;

pub use hostile::Hostile;
pub use scenario::Scenario;
pub use world::{Outcome, World};

/// Runs the world of a seed.
#[must_use]
pub fn run(seed: u64, keep_trace: bool) -> Outcome {
    World::new(Scenario::draw(seed), keep_trace).run()
}

/// Runs the world of a seed in which a hostile schedule strikes.
#[must_use]
pub fn run_hostile(seed: u64, hostile: Hostile, keep_trace: bool) -> Outcome {
    World::new(Scenario::hostile(seed, hostile), keep_trace).run()
}

/// How to see a failing seed again.
#[must_use]
pub fn replay_command(seed: u64, hostile: Option<Hostile>) -> String {
    let hostile = hostile.map_or_else(String::new, |hostile| format!(" HOSTILE={}", hostile.name()));
    format!("make sim SEED={seed}{hostile}")
}
