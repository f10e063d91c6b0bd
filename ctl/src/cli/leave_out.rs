//! `ctl exclude`, `ctl include`: arguments.

use clap::Args;
use landfall_common::HostId;

use super::name;

/// `ctl exclude`
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing more is asked of them, and nobody waits for them. What one of them was let do it ends, and it stays with what
comes of that, until `ctl include` or the next rollout. The end of the rollout names them.

Examples:
  ctl exclude web-7 --reason 'its disk is broken'
  ctl resume                                        where the rollout was paused because of it
  ctl include web-7")]
pub struct Exclude {
    /// The hosts, all of one environment
    #[arg(required = true, value_name = "HOST", value_parser = name(HostId::new))]
    pub hosts: Vec<HostId>,
    /// Out of this rollout [default: the one under way where they are]
    #[arg(long, value_name = "ID")]
    pub rollout: Option<String>,
    /// Why, for the log and for whoever wonders
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// `ctl include`
#[derive(Debug, Args)]
pub struct Include {
    /// The hosts
    #[arg(required = true, value_name = "HOST", value_parser = name(HostId::new))]
    pub hosts: Vec<HostId>,
    /// Why, for the log
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
}
