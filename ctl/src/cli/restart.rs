//! `ctl restart`, `ctl reload`: arguments.

use clap::Args;
use landfall_common::ServiceName;

use super::{Environment, Follow, Knobs, name};

/// `ctl restart`, `ctl reload`
#[derive(Debug, Args)]
#[command(after_help = "\
The same release goes on. Hosts follow each other as in a release: canary, batches, budget, and each is proven before the
next batch. Without names all services are restarted; `ctl reload` takes those whose definition has a reload.

Examples:
  ctl restart web --reason 'a new libssl'
  ctl restart                             all services of the release in force
  ctl reload web --batch 1                one host at a time after the canary")]
pub struct Restart {
    /// The services, as landfall.toml names them [default: all]
    #[arg(value_name = "SERVICE", value_parser = name(ServiceName::new))]
    pub services: Vec<ServiceName>,
    /// Where.
    #[command(flatten)]
    pub environment: Environment,
    /// Why, for the log
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
    /// Other knobs than the definition's.
    #[command(flatten)]
    pub knobs: Knobs,
    /// Do not let release windows and freezes hold it, for this reason; needs the role manager
    #[arg(long, value_name = "REASON", default_value = "", hide_default_value = true)]
    pub outside_window: String,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// How it is followed.
    #[command(flatten)]
    pub follow: Follow,
}
