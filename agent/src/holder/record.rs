//! What a holder leaves behind for the one after it: a file that is always whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::spec::{ChildKey, ChildSpec, HandoverEnd};
use crate::steps::process::{self, Stat};

/// All that must outlive a holder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The run of the kernel that process ids and inodes belong to.
    pub boot_id: String,
    /// What serves, or should.
    pub serving: Option<Recorded>,
    /// What is being started beside it, and under which attempt.
    pub candidate: Option<(Recorded, String)>,
    /// What was asked to end.
    pub ending: Vec<(ChildKey, ProcessId)>,
    /// The inodes of the listening sockets, by address.
    pub sockets: BTreeMap<String, u64>,
    /// How handovers ended.
    pub recent: Vec<HandoverEnd>,
}

/// A program and, unless it waits to be started, its process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Recorded {
    pub child: ChildSpec,
    pub key: ChildKey,
    pub process: Option<ProcessId>,
}

/// A process beyond doubt: ids are given out again, but not with the same moment of start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProcessId {
    pub pid: u32,
    /// Clock ticks since the host's start.
    pub started: u64,
    /// The named pipe that it writes to.
    pub output: PathBuf,
}

impl ProcessId {
    /// Whether it still runs.
    pub fn lives(&self) -> bool {
        let stat = i32::try_from(self.pid).ok().and_then(Stat::of);
        stat.is_some_and(|stat| stat.started == self.started && !stat.ended)
    }
}

impl Record {
    /// Reads it. One that cannot be read is as good as none: it is only ever renamed into place whole, but a
    /// power cut may take its content, and after that none of its processes runs.
    pub fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// Writes it.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        write(path, &serde_json::to_vec(self)?)
    }

    /// Whether its process ids mean anything now.
    pub fn is_of_this_boot(&self) -> bool {
        self.boot_id == process::boot_id()
    }
}

/// Writes a file durably, so that a reader finds the old or the new content, readable by nobody else (it holds
/// the environment of services).
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.to_owned().into_os_string();
    temporary.push(format!(".{}.new", std::process::id()));
    let result = (|| {
        let mut file: File =
            fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        fs::rename(&temporary, path)?;
        // Without the directory its name may be lost with the power, and the old content be back.
        match path.parent() {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    })();
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result
}
