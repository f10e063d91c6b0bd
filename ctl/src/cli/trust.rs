//! The command line of `ctl trust`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use landfall_common::ReleaseName;

use super::name;

/// Whose keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum KeyOf {
    /// Those that sign root and targets
    Root,
    /// Those that sign releases
    Release,
}

impl std::fmt::Display for KeyOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Root => "root",
            Self::Release => "release",
        })
    }
}

/// Whose keys are made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum RotationOf {
    /// Those that sign root and targets
    Root,
    /// Those that sign releases
    Release,
    /// Those of the controller, which sign snapshot and timestamp; the controller makes them
    Online,
}

/// What becomes of a change that others must sign, too.
#[derive(Debug, Clone, Default, Args)]
pub struct Draft {
    /// Where to write a change that needs further signatures [default: landfall-draft.json]
    #[arg(long, value_name = "FILE")]
    pub draft: Option<PathBuf>,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// `ctl trust`
#[derive(Debug, Subcommand)]
pub enum Trust {
    /// Show who may sign what, until when, and which of the keys are here
    Show,
    /// Show the public key of this machine, for others to add; make it if there is none
    #[command(after_help = "Example:\n  ctl trust key release > release-of-ana.json")]
    Key {
        /// Whose
        #[arg(value_enum)]
        of: KeyOf,
    },
    /// Add and remove keys, or change how many must sign
    #[command(after_help = "\
Root and targets have the same keys. What the threshold of a change is not met by here is written to a file,
for `ctl trust sign` on the machines of the other signers.

Examples:
  ctl trust change release --add ana.json --add ci.json --threshold 2
  ctl trust change release --remove 3f2a91c04d5e
  ctl trust change root --add spare-root.json")]
    Change {
        /// Whose
        #[arg(value_enum)]
        of: KeyOf,
        /// A file with a public key, as `ctl trust key` shows it; may be given several times
        #[arg(long, value_name = "FILE")]
        add: Vec<PathBuf>,
        /// A key, by the first digits of its id; may be given several times
        #[arg(long, value_name = "KEY")]
        remove: Vec<String>,
        /// How many of the keys must sign
        #[arg(long, value_name = "COUNT")]
        threshold: Option<usize>,
        /// What becomes of it.
        #[command(flatten)]
        draft: Draft,
    },
    /// Make a new key on this machine and let it take the place of the one that is here
    #[command(after_help = "\
Release keys: of every application for which this machine signs, or of --app only.

Online keys: after somebody had the controller. They are made on its host, by `landfall-controller new-online-keys`;
this lets them take the place of the old ones in the root. Hosts that were led to versions which never existed follow
the controller again from then on.

Examples:
  ctl trust rotate release
  ctl trust rotate online")]
    Rotate {
        /// Whose
        #[arg(value_enum)]
        of: RotationOf,
        /// What becomes of it.
        #[command(flatten)]
        draft: Draft,
    },
    /// Refuse every release before this one, on every host and for good
    #[command(after_help = "Example:\n  ctl trust floor v1.4")]
    Floor {
        /// The oldest release that is still accepted, also as the aim of a rollback
        #[arg(value_parser = name(ReleaseName::new))]
        release: ReleaseName,
        /// What becomes of it.
        #[command(flatten)]
        draft: Draft,
    },
    /// Sign root, targets and floors anew before they expire: those with less than 60 days left
    #[command(after_help = "\
Root is in force for a year. Targets, which names the keys of every application, and the floors are for 90 days:
for so long somebody who has taken the controller can keep a revoked key from the hosts.")]
    Renew {
        /// What becomes of it.
        #[command(flatten)]
        draft: Draft,
    },
    /// Look at a change or a release that others have signed, and add this machine's signatures
    Sign {
        /// The file
        file: PathBuf,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Publish a change or a release that has all its signatures
    Publish {
        /// The file
        file: PathBuf,
    },
    /// After a backup was restored: put back what this machine has seen since
    #[command(after_help = "\
Hosts that have seen newer metadata refuse everything older, and so every release, until this has run on a
machine that has seen it, too. Safe to repeat, on several machines.")]
    Republish,
}
