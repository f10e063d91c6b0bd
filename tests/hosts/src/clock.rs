//! A host's clock, as its services see it.
//!
//! The kernel gives a namespace its own monotonic time and never its own date, so the date is shifted where
//! the C library is asked for it, in the units that are named. What is not shifted: PID 1 and its timers, the
//! dates of files, the journal's stamps. The monotonic clocks run on, as they do when a real clock is set.
//! (libfaketime breaks `clock_nanosleep` until a monotonic deadline, by which Rust and Python sleep.)

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use landfall_common::Sha256;

use crate::host::Host;

const SOURCE: &str = include_str!("clock/shift.c");

/// On the hosts: by how many seconds they are ahead, and what reads that.
const FILE: &str = "/etc/landfall-hosts.clock";
const LIBRARY: &str = "/usr/local/lib/landfall-hosts-clock.so";

impl Host {
    /// Sets the clock of the host, so many seconds ahead of this machine's or (negative) behind it.
    ///
    /// Seen by the units that [`Host::clock_for`] has named, also by those that run already.
    ///
    /// # Errors
    /// If the host does not answer.
    pub fn set_clock(&self, ahead_s: i64) -> io::Result<()> {
        // By a rename: a process that reads it meanwhile sees the old offset or the new one.
        let partial = format!("{FILE}.new");
        self.put(&partial, ahead_s.to_string().as_bytes(), 0o644)?;
        self.exec(&["mv", &partial, FILE])?.expect_code(0).map(|_| ())
    }

    /// Lets the units whose names begin with `prefix` (up to a dash, as in `landfall-`) look at the host's own
    /// clock from their next start on.
    ///
    /// # Errors
    /// If the host does not answer.
    pub fn clock_for(&self, prefix: &str) -> io::Result<()> {
        self.put(LIBRARY, &fs::read(library()?)?, 0o755)?;
        let text = format!("[Service]\nEnvironment=LD_PRELOAD={LIBRARY}\n");
        self.put(&format!("/etc/systemd/system/{prefix}.service.d/clock.conf"), text.as_bytes(), 0o644)?;
        self.exec(&["systemctl", "daemon-reload"])?.expect_code(0).map(|_| ())
    }
}

/// The library, compiled if it is not there yet. A compiler for C is there: Rust links with it.
fn library() -> io::Result<PathBuf> {
    let home = crate::directory();
    let lock = File::create(home.join("clock.lock"))?;
    lock.lock()?;
    let library = home.join(format!("clock-{}.so", Sha256::of(SOURCE.as_bytes()).short()));
    if !library.is_file() {
        let (source, partial) = (home.join("clock.c"), home.join("clock.partial"));
        fs::write(&source, SOURCE)?;
        let file = format!("-DSHIFT_FILE=\"{FILE}\"");
        let (from, to) = (source.to_string_lossy(), partial.to_string_lossy());
        crate::run("cc", &["-shared", "-fPIC", "-O1", "-Wall", &file, "-o", &to, &from])?;
        fs::rename(partial, &library)?;
    }
    Ok(library)
}
