//! The command line of `ctl import`.

use std::path::PathBuf;

use clap::Args;

use crate::import::Kind;

/// `ctl import`
#[derive(Debug, Args)]
#[command(after_help = "\
The file is read as text, and so are files of the repository that it names (scripts, stages, a Capfile); nothing is
executed. What is written is a valid definition: comments name the line that each part comes from, and what only you can
know is marked DECIDE. The report says what was carried over, what was not and what to do instead, what is to be decided.
A file that is there already is never written over. No controller is needed. docs/from says the same by hand.

Examples:
  ctl import appspec.yml
  ctl import config/deploy.rb
  ctl import config/deploy.yml --app site         the application's name, where nothing else says it
  ctl import fabfile.py --to -                    the definition to stdout, the report to stderr
  ctl import fabfile.py --to - -o json            both as JSON, nothing written

Exit codes: 0 a definition was made, whatever is left to decide; 1 a file could not be read or written; 2 the file is not
what it was taken for, or landfall.toml is there already: nothing was written.")]
pub struct Import {
    /// The other tool's file
    pub file: PathBuf,
    /// Whose file it is [default: by its name and what it says]
    #[arg(long, value_enum, value_name = "KIND")]
    pub kind: Option<Kind>,
    /// Where to write the definition; - for stdout [default: landfall.toml in the root of the repository: beside the
    /// file, or above its directory config]
    #[arg(long, value_name = "PATH")]
    pub to: Option<PathBuf>,
}
