//! Ends a fleet when the process that booted it has gone, however it went.
//!
//! The undertaker is a process of its own, in a session of its own. It waits for the end of its standard
//! input, whose other end only the test holds: a dropped fleet, a panic, Ctrl-C and SIGKILL all close it. If
//! the undertaker was killed too, the next fleet finds what is left by its name and buries it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const SCRIPT: &str = include_str!("undertaker/bury.sh");

/// Everything that a fleet is made of has a name that begins so: directories, control groups, namespaces.
pub const PREFIX: &str = "landfall-hosts";

/// A waiting undertaker; dropped, it buries, and the drop ends when that is done.
pub struct Undertaker {
    child: Child,
}

impl Undertaker {
    /// Starts one for the fleet `id` in `directory`, and makes the directory.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(id: &str, directory: &Path) -> io::Result<Self> {
        // The undertaker holds the lock as its standard output, and this process until it has started.
        let lock = File::create(directory.with_extension("lock"))?;
        lock.lock()?;
        fs::create_dir_all(directory)?;
        let child = command(id, directory)?.stdin(Stdio::piped()).stdout(lock).spawn()?;
        Ok(Self { child })
    }
}

impl Drop for Undertaker {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Buries what killed runs have left behind below `runs`.
///
/// # Errors
/// If the directory cannot be read.
pub fn bury_leftovers(runs: &Path) -> io::Result<()> {
    for entry in fs::read_dir(runs)?.flatten() {
        let path = entry.path();
        let Some(id) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
        if path.extension().is_none_or(|extension| extension != "lock") {
            continue;
        }
        let Ok(lock) = File::open(&path) else { continue };
        match lock.try_lock() {
            Ok(()) => {
                command(id, &path.with_extension(""))?.stdin(Stdio::null()).status()?;
            }
            // It lives.
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(())
}

/// In a session of its own: a signal to the test's group does not reach it.
fn command(id: &str, directory: &Path) -> io::Result<Command> {
    let mut command = Command::new("setsid");
    command
        .args(["sh", "-c", SCRIPT, "bury.sh"])
        .arg(directory)
        .arg(crate::host::cgroups()?.join(id))
        .arg(id);
    command.stderr(Stdio::null()).current_dir("/");
    Ok(command)
}
