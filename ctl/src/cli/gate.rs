//! `ctl gate`: arguments.

use clap::{Args, Subcommand};

use super::Environment;

/// `ctl gate`
#[derive(Debug, Subcommand)]
pub enum Gate {
    /// Show the gates of a rollout, and what was said of them
    List {
        /// The rollout's id [default: the one under way]
        rollout: Option<String>,
        /// Where to look for the one under way.
        #[command(flatten)]
        environment: Environment,
    },
    /// Let the batch begin that waits for a gate
    #[command(after_help = "\
What is said of a gate is for the batch that waits for it now, and for no other. Before its turn it is refused.

Example:
  ctl gate open qa-signoff --reason 'tested by hand, ticket 4711'")]
    Open(Answer),
    /// Not now: the batch waits until the gate is opened
    Close(Answer),
    /// The release is not good: it goes back
    Fail(Answer),
}

/// What is said of which gate.
#[derive(Debug, Args)]
pub struct Answer {
    /// The gate
    pub gate: String,
    /// The rollout's id [default: the one under way]
    pub rollout: Option<String>,
    /// Where to look for the one under way.
    #[command(flatten)]
    pub environment: Environment,
    /// Refuse if another batch waits by now
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub batch: Option<u32>,
    /// Why, for the log
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}
