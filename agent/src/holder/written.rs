//! Where what a service writes goes: its log, and systemd's journal where the holder is a unit of systemd's.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::net::SendFlags;

use crate::steps::log::Log;

/// Takes what a service writes. It never waits and never fails: that must not end what is held here.
#[derive(Debug)]
pub struct Written {
    log: Log,
    /// Standard output leads to the journal.
    to_journal: bool,
}

impl Written {
    /// Into this log, bounded in bytes, and the journal if this process has it as its standard output.
    #[must_use]
    pub fn open(log: &Path, log_bytes: u64) -> Self {
        let to_journal = std::env::var("JOURNAL_STREAM").is_ok_and(|stream| is_standard_output(&stream));
        Self { log: Log::open(log, log_bytes), to_journal }
    }

    /// Adds bytes. What the journal does not take at once is not there; the log has it.
    pub fn write(&mut self, bytes: &[u8]) {
        self.log.write(bytes);
        if self.to_journal {
            let _ = rustix::net::send(std::io::stdout(), bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        }
    }
}

/// Whether `JOURNAL_STREAM`, the device and inode of a socket of the journal's, is this process's standard output.
fn is_standard_output(stream: &str) -> bool {
    std::fs::metadata("/proc/self/fd/1")
        .is_ok_and(|found| stream == format!("{}:{}", found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ones_own_standard_output_is_the_journal() {
        let own = std::fs::metadata("/proc/self/fd/1").unwrap();
        assert!(is_standard_output(&format!("{}:{}", own.dev(), own.ino())));
        for other in ["", "8:1", "x", &format!("{}:{}", own.dev(), own.ino() + 1)] {
            assert!(!is_standard_output(other), "{other}");
        }
    }
}
