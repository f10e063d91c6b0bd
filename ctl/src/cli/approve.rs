//! `ctl approve`, `ctl reject`: arguments.

use clap::Args;

/// `ctl approve`
#[derive(Debug, Args)]
#[command(after_help = "\
Where landfall.toml says `approvals = N` for an environment, a release stands in line until N people other than the
one who asked for it have approved it. What is approved is what is shown: the release by its digest, and the knobs.

Example:
  ctl approve r20261122-k7x2m --reason 'tested on staging'")]
pub struct Approve {
    /// The rollout's id, as `ctl status` shows it
    pub rollout: String,
    /// Why, for the log
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// `ctl reject`
#[derive(Debug, Args)]
pub struct Reject {
    /// The rollout's id, as `ctl status` shows it
    pub rollout: String,
    /// Why, for whoever asked for it and for the log
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}
