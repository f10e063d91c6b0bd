//! `ctl lock`, `ctl unlock`: arguments.

use clap::Args;
use landfall_common::EnvName;
use landfall_common::time::Duration;

use super::{duration, name};

/// `ctl lock`
#[derive(Debug, Args)]
#[command(after_help = "\
What is under way goes on, and can go back. Releases are refused with your message, or stand in line with
--queue; `ctl rollback` is refused too. It ends by itself; lock again to change its end or its message.

Examples:
  ctl lock production 'moving the database' --for 2h
  ctl unlock production")]
pub struct Lock {
    /// The environment
    #[arg(value_name = "ENVIRONMENT", value_parser = name(EnvName::new))]
    pub environment: EnvName,
    /// What for, to be read by whoever is refused
    pub message: String,
    /// For how long: one minute to 30 days
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, default_value = "1h")]
    pub period: Duration,
}

/// `ctl unlock`
#[derive(Debug, Args)]
pub struct Unlock {
    /// The environment
    #[arg(value_name = "ENVIRONMENT", value_parser = name(EnvName::new))]
    pub environment: EnvName,
    /// Why, for the log; needed for the lock of somebody else
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
}
