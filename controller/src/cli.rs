//! The command line of `landfall-controller`, and the text of its `--help` and its man page.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use landfall_common::time::human;
use landfall_common::{Duration, OperatorName, Right};

/// The Landfall controller: keeps releases, plans rollouts, and tells agents what to run.
///
/// Without a command it serves until it is told to stop (SIGTERM or SIGINT).
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
pub struct Arguments {
    /// The configuration file.
    #[arg(
        long,
        value_name = "FILE",
        env = "LANDFALL_CONTROLLER_CONFIG",
        default_value = "/etc/landfall/controller.toml"
    )]
    pub config: PathBuf,
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the program can do beside serving.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Makes the state directory, the certificate authority and the online keys, and prints the first
    /// admin's token on standard output.
    Init {
        /// The first admin's name.
        #[arg(long, default_value = "admin")]
        name: OperatorName,
    },
    /// Prints a token by which an operator gets a certificate, also when every certificate has expired. The
    /// controller may be running.
    OperatorToken {
        /// The operator's name.
        #[arg(long)]
        name: OperatorName,
        /// viewer, gatekeeper, approver, deployer, manager or admin; of one application or environment with :APP or
        /// :APP/ENV after it. May be given several times.
        #[arg(long, value_name = "ROLE[:APP[/ENV]]", value_delimiter = ',', required = true)]
        role: Vec<Right>,
        /// How long the token is good, at most 24h.
        #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = human::parse)]
        valid_for: Duration,
    },
    /// Shuts an operator out at once: certificates that were issued until now are good for nothing. The
    /// controller may be running.
    OperatorRemove {
        /// The operator's name.
        #[arg(long)]
        name: OperatorName,
    },
    /// Makes new keys for the release repository's snapshot and timestamp, where those that are there may have been
    /// copied. The controller takes them up when it is started again; they sign from the moment at which a root names
    /// them: `ctl trust rotate online`.
    NewOnlineKeys,
    /// Writes everything that must not be lost into one file, which then holds private keys. The controller
    /// may be running.
    Backup {
        /// The file; `-` is standard output.
        file: PathBuf,
        /// Leave the releases' objects out: `ctl` uploads them again when a release is published anew.
        #[arg(long)]
        without_objects: bool,
    },
    /// Makes the state directory, which must hold no state, from a backup. Hosts are left at what they run, and
    /// operators come in by new tokens.
    Restore {
        /// The file that `backup` wrote.
        file: PathBuf,
    },
}
