//! `ctl runbook`: arguments.

use clap::Args;

use super::Environment;

/// `ctl runbook`
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing is changed. It is true at the moment at which it is printed: what it says can be done is not refused then, and
what is refused is told with the reason and what to type instead.

Examples:
  ctl runbook
  ctl runbook --env production > rollback.txt
  ctl runbook --env production -o json")]
pub struct Runbook {
    /// Where.
    #[command(flatten)]
    pub environment: Environment,
}
