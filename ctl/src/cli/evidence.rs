//! `ctl evidence`: arguments.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use landfall_common::EvidenceName;
use landfall_common::evidence::{MAX_RUN, Verdict};

use super::name;

/// `ctl evidence`
#[derive(Debug, Subcommand)]
pub enum Evidence {
    /// Print the public half of CI's key, for landfall.toml; the key is made if it is not there
    #[command(after_help = "\
The file is ed25519 in PKCS#8 PEM, mode 0600, as those of `ctl init`. It is a secret of CI, and none of the release keys.

Example:
  ctl evidence key ci.pem")]
    Key {
        /// The private key
        file: PathBuf,
    },
    /// Sign what CI found out about a commit, and print it; asks nobody
    #[command(after_help = "\
Example, in a job that reaches no controller:
  ctl evidence sign --app shop --commit \"$SHA\" --name tests --result passed --run \"$RUN\" --key ci.pem > tests.json")]
    Sign(Said),
    /// Hand in what was signed elsewhere: each file is tried, whatever becomes of the others
    Submit {
        /// What `ctl evidence sign` has printed
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Sign what CI found out about a commit, and hand it in
    #[command(after_help = "\
Of one commit, name and key the highest run counts: an older one that is handed in again undoes nothing. Of the same run a
failure counts. Failures are worth handing in too: they hold a commit that had passed. Jobs that run side by side each
need a name of their own, which landfall.toml asks for, or one job after all of them hands in.

Without --run the clock of whoever signs puts runs in order, and one that is signed later counts, whenever its tests ran:
give the number that CI has for it.

Example:
  ctl evidence add --commit HEAD --name tests --result passed --run \"$RUN\" --key ci.pem --url \"$JOB_URL\"")]
    Add(Said),
    /// Show what CI has said, what came last first
    List {
        /// Of this commit only
        commit: Option<String>,
        /// How many at most
        #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
        limit: u32,
    },
}

/// What is said.
#[derive(Debug, Args)]
pub struct Said {
    /// The commit: its full id, or in its repository whatever Git understands
    #[arg(long, default_value = "HEAD", value_name = "COMMIT")]
    pub commit: String,
    /// What was looked at, as landfall.toml names it
    #[arg(long, value_parser = name(EvidenceName::new))]
    pub name: EvidenceName,
    /// How that ended
    #[arg(long)]
    pub result: Outcome,
    /// CI's private key
    #[arg(long, env = "LANDFALL_EVIDENCE_KEY", value_name = "FILE")]
    pub key: PathBuf,
    /// Which run this was, by CI's own count; the highest counts [default: the milliseconds since 1970 as it is signed]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..=MAX_RUN))]
    pub run: Option<u64>,
    /// Where the result can be read
    #[arg(long, default_value = "", hide_default_value = true)]
    pub url: String,
}

/// How something ended, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Outcome {
    /// Well.
    Passed,
    /// Not well.
    Failed,
}

impl From<Outcome> for Verdict {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Passed => Self::Passed,
            Outcome::Failed => Self::Failed,
        }
    }
}
