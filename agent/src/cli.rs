//! The command line of `landfall-agent`, and the text of its `--help` and its man page.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// What the program is started with.
#[derive(Debug, Parser)]
#[command(name = "landfall-agent", version, about = "Applies releases on this host", max_term_width = 100)]
pub struct Arguments {
    /// The configuration; /etc/landfall/agent.toml if it is there
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Enrol this host with a token from `ctl hosts token`
    Join {
        /// The token; `-` reads it from standard input, so that it is not seen in the list of processes
        token: String,
        /// Where the controller is, HOST:PORT
        #[arg(long, value_name = "HOST:PORT")]
        controller: Option<String>,
        /// The name to enrol under, where the token fixes none; the host name if absent
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// This host is enrolled already, and keeps its releases: its certificate has expired for good, it was
        /// removed, or the controller was built anew
        #[arg(long, conflicts_with = "name")]
        again: bool,
    },
    /// Run the agent
    Run,
    /// Show what this host runs and what happened last
    Status {
        /// The ledger's record as JSON
        #[arg(long)]
        json: bool,
    },
    /// Succeed if the agent of a unit runs PROGRAM and has a session with its controller: the check of a release of
    /// the agent itself
    Alive {
        /// Which agent
        #[arg(long, value_name = "UNIT", default_value = "landfall-agent.service")]
        unit: String,
        /// Do not ask for a session where the agent of this other unit has none either: the controller is away
        #[arg(long, value_name = "UNIT")]
        beside: Option<String>,
        /// Which program it must run
        program: PathBuf,
    },
    /// Replace a lost ledger by what is on the disk; the agent must be stopped
    Recover,
    /// Print an agent.toml with every key and its default
    Config,
    /// As root: pin what steps in units are verified against, and let them write below shared/ (the agent's unit
    /// does it when the agent starts)
    SetupSteps {
        /// Replace the root, application and environment that are pinned by those of this host's enrolment
        #[arg(long)]
        replace: bool,
    },
    /// Verify and run one step (started as landfall-step@.service)
    #[command(hide = true)]
    Step {
        /// The unit has the network
        #[arg(long)]
        network: bool,
        /// Which request
        id: crate::steps::cage::RunId,
    },
    /// Hold the socket and process of one service (started by the agent)
    #[command(hide = true)]
    Holder {
        /// Its specification
        specification: PathBuf,
    },
    /// Supervise one step (started by the agent)
    #[command(hide = true)]
    StepRunner,
}
