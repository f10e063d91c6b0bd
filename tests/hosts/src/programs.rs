//! The programs under test, without what only a debugger reads: a tenth of their size.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

/// The three programs of Landfall.
pub const NAMES: [&str; 3] = ["ctl", "landfall-agent", "landfall-controller"];

/// A directory with the programs that were built last for the tests.
///
/// # Errors
/// If one was not built, or cannot be stripped.
pub fn stripped() -> io::Result<PathBuf> {
    let (built, here) = (crate::target().join("debug"), crate::directory().join("programs"));
    fs::create_dir_all(&here)?;
    let lock = File::create(here.with_extension("lock"))?;
    lock.lock()?;
    for name in NAMES {
        let (from, to) = (built.join(name), here.join(name));
        let made = fs::metadata(&from).and_then(|metadata| metadata.modified()).map_err(|error| {
            io::Error::other(format!("{}: {error}: run `cargo build --bins`", from.display()))
        })?;
        let is_new = fs::metadata(&to).and_then(|metadata| metadata.modified()).is_ok_and(|time| time > made);
        if !is_new {
            let partial = here.join(format!("{name}.partial"));
            crate::run("strip", &["-o", &partial.to_string_lossy(), &from.to_string_lossy()])?;
            fs::rename(&partial, &to)?;
        }
    }
    Ok(here)
}
