//! `ctl promote`: arguments.

use clap::Args;
use landfall_common::EnvName;

use super::{Environment, Follow, Held, name};

/// `ctl promote`
#[derive(Debug, Args)]
#[command(after_help = "\
Without --from and --to it is about a rollout that waits after its canary. With them it is about a release: that very
release, by its digest, is brought from one environment to another, and refused unless every host of the first came to
run it. Nothing is built.

Examples:
  ctl promote                                       the rollout under way goes on after its canary
  ctl promote r20261122-k7x2m
  ctl promote v1.4 --from staging --to production   what staging has proven")]
pub struct Promote {
    /// The rollout's id [default: the one under way], or with --from and --to the release
    #[arg(value_name = "ROLLOUT|RELEASE")]
    pub what: Option<String>,
    /// Where the release must be proven
    #[arg(long, value_name = "ENVIRONMENT", value_parser = name(EnvName::new), requires_all = ["to", "what"], conflicts_with = "env")]
    pub from: Option<EnvName>,
    /// Where it is brought
    #[arg(long, value_name = "ENVIRONMENT", value_parser = name(EnvName::new), requires = "from")]
    pub to: Option<EnvName>,
    /// Where to look for the rollout under way.
    #[command(flatten)]
    pub environment: Environment,
    /// Why, for the log, of a canary
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, conflicts_with = "from")]
    pub reason: String,
    /// Do not ask, with --from and --to
    #[arg(short, long, requires = "from")]
    pub yes: bool,
    /// Accept a migration that cannot be taken back
    #[arg(long, requires = "from")]
    pub no_way_back: bool,
    /// What if another one has the place.
    #[command(flatten)]
    pub held: Held,
    /// How it is followed.
    #[command(flatten)]
    pub follow: Follow,
}
