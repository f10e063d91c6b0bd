//! A log file of bounded size: when it is full it becomes `<path>.1` and a new one begins.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The bound of a step's log; a build that writes more than twice this keeps its end.
pub const STEP_LOG_BYTES: u64 = 4 * 1024 * 1024;

/// An open log. Writing never fails: a full disk must not end the process whose output this is; what
/// could not be written is missing from the file.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: Option<File>,
    bytes: u64,
    max_bytes: u64,
}

impl Log {
    /// Opens a log, to be continued if it exists.
    #[must_use]
    pub fn open(path: &Path, max_bytes: u64) -> Self {
        if let Some(parent) = path.parent() {
            let _ = std::fs::create_dir_all(parent);
        }
        let file = OpenOptions::new().create(true).append(true).open(path).ok();
        let bytes = file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |meta| meta.len());
        Self { path: path.to_owned(), file, bytes, max_bytes }
    }

    /// Adds bytes, beginning a new file when this one would grow beyond its bound.
    pub fn write(&mut self, bytes: &[u8]) {
        if self.bytes > 0 && self.bytes + bytes.len() as u64 > self.max_bytes {
            let mut old = self.path.clone().into_os_string();
            old.push(".1");
            let _ = std::fs::rename(&self.path, old);
            self.file = OpenOptions::new().create(true).append(true).open(&self.path).ok();
            self.bytes = 0;
        }
        if let Some(file) = &mut self.file
            && file.write_all(bytes).is_ok()
        {
            self.bytes += bytes.len() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_and_its_predecessor_stay_within_the_bound() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("logs/web.log");
        let mut log = Log::open(&path, 1000);
        for _ in 0..100 {
            log.write(&[b'x'; 99]);
        }
        for name in ["logs/web.log", "logs/web.log.1"] {
            let bytes = std::fs::metadata(directory.path().join(name)).unwrap().len();
            assert!(bytes <= 1000, "{name} has {bytes} bytes");
        }
    }
}
