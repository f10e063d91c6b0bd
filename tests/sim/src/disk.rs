//! A disk in memory that keeps no promise it did not give.
//!
//! What a program sees is the *live* tree. Beside it stands what a power cut cannot take: the bytes of files
//! up to their last sync, and the names of directories up to theirs. [`SimDisk::crash`] throws a dice for
//! everything in between: an unsynced rename may be lost while a later one survives, an unsynced append may
//! be there in part, with garbage behind it. Tests draw the dice from their seed, so a run repeats exactly.
//!
//! Faults (no space, I/O errors, the power gone at the n-th operation) are set through [`Faults`].

mod file;
mod fs;
mod state;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use landfall_common::disk::{
    AppendFile, DirEntry, Disk, DiskError, DiskLock, EntryKind, SyncCounter, SyncCounts,
};
use rand::RngCore;

use state::{Node, State};

/// What may go wrong while the power is on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    /// How many bytes of file content fit; `None` is no limit. A write that does not fit is done in part.
    pub capacity_bytes: Option<u64>,
    /// Of a million operations that change something, how many fail with EIO without being done.
    pub write_error_ppm: u32,
    /// Of a million syncs, how many fail with EIO. What was to be synced may then never become durable,
    /// even if a later sync succeeds, as on Linux.
    pub sync_error_ppm: u32,
    /// Of a million reads, how many fail with EIO.
    pub read_error_ppm: u32,
    /// The power goes at the operation (of those that change or sync something) after so many more.
    pub power_off_after: Option<u64>,
    /// The disk says that it synced and did not, as cheap ones do. No program can bear that: it is there to
    /// show that a check of durability can fail.
    pub ignore_syncs: bool,
}

/// A handle on one simulated disk; clones see the same disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    syncs: Arc<SyncCounter>,
}

impl std::fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimDisk").field("operations", &self.operations()).finish_non_exhaustive()
    }
}

impl SimDisk {
    /// An empty disk; injected errors are drawn from the seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: Arc::new(Mutex::new(State::new(seed))), syncs: Arc::default() }
    }

    /// Another disk of the same machine: when the power goes for one, it goes for both.
    #[must_use]
    pub fn beside(&self, seed: u64) -> Self {
        let other = Self::new(seed);
        other.state().power_off = Arc::clone(&self.state().power_off);
        other
    }

    /// Sets what may go wrong from here on.
    pub fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// The faults that are set; `power_off_after` has counted down.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.state().faults.clone()
    }

    /// Whether something may keep whoever writes to it from getting on.
    #[must_use]
    pub fn hinders(&self) -> bool {
        let faults = self.faults();
        faults.capacity_bytes.is_some()
            || faults.write_error_ppm + faults.sync_error_ppm + faults.read_error_ppm > 0
    }

    /// How many operations that change or sync something were tried.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Whether the power is off: every operation fails until [`SimDisk::crash`].
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.state().is_off()
    }

    /// Switches the power off; every operation fails until [`SimDisk::crash`].
    pub fn power_off(&self) {
        let mut state = self.state();
        state.off = true;
        state.power_off.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    /// The machine loses its power and starts again: what was not synced is kept, lost or torn as `dice`
    /// say. Open handles are dead and locks free. `power_off_after` is cleared, other faults stay.
    pub fn crash(&self, dice: &mut dyn RngCore) {
        self.state().crash(dice);
    }

    /// The processes are killed and the machine goes on: nothing is lost, open handles are dead and locks
    /// free. What was not synced stays at risk.
    pub fn kill(&self) {
        self.state().restart();
    }

    /// A second disk that is what this one is now, without faults and with the power on: for whoever looks
    /// at a disk from outside, or asks what a crash would leave at this instant.
    #[must_use]
    pub fn fork(&self) -> Self {
        let mut state = self.state().clone();
        state.faults = Faults::default();
        state.power_off = Arc::default();
        state.restart();
        Self { state: Arc::new(Mutex::new(state)), syncs: Arc::default() }
    }

    /// Where a symlink leads, seen from outside, without faults; `None` if nothing is there.
    ///
    /// # Errors
    /// If something else is there.
    pub fn seen_link(&self, path: &Path) -> Result<Option<PathBuf>, EntryKind> {
        let state = self.state();
        let node = state.resolve(path, false).and_then(|id| state.node(id));
        match node {
            Err(_) => Ok(None),
            Ok(Node::Symlink(target)) => Ok(Some(target.clone())),
            Ok(Node::File(_)) => Err(EntryKind::File),
            Ok(Node::Dir(_)) => Err(EntryKind::Dir),
        }
    }

    /// The bytes that the live files hold.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    /// Overwrites bytes of a file on the medium itself: bit rot, or a careless administrator.
    ///
    /// # Panics
    /// If there is no such file or it is shorter.
    pub fn damage(&self, path: &Path, at: usize, bytes: &[u8]) {
        self.state().damage(path, at, bytes);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic of a test while it held the lock leaves nothing half done that matters to the next.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn context<T>(operation: &'static str, path: &Path, result: io::Result<T>) -> Result<T, DiskError> {
    result.map_err(|source| DiskError::new(operation, path, source))
}

/// `NotFound` becomes `None`.
fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Disk for SimDisk {
    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, DiskError> {
        context("read", path, found(self.state().read(path)))
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        let bytes = context("read", path, self.state().read(path))?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        Ok(bytes[start..start.saturating_add(len).min(bytes.len())].to_vec())
    }

    fn len(&self, path: &Path) -> Result<Option<u64>, DiskError> {
        context("read the length of", path, found(self.state().len(path)))
    }

    fn open_append(&self, path: &Path) -> Result<Box<dyn AppendFile>, DiskError> {
        let mut state = self.state();
        let id = context("open", path, state.open_append(path))?;
        let handle = SimAppend { disk: self.clone(), id, boot: state.boot, path: path.to_owned() };
        Ok(Box::new(handle))
    }

    fn write_new(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<(), DiskError> {
        context("write", path, self.state().write_new(path, bytes, mode))
    }

    fn sync_file(&self, path: &Path) -> Result<(), DiskError> {
        self.syncs.file();
        context("sync", path, self.state().sync_file(path))
    }

    fn sync_dir(&self, path: &Path) -> Result<(), DiskError> {
        self.syncs.dir();
        context("sync the directory", path, self.state().sync_dir(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        context("rename to", to, self.state().rename(from, to))
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        context("create the directory", path, self.state().create_dir_all(path))
    }

    fn remove_file(&self, path: &Path) -> Result<(), DiskError> {
        context("remove", path, self.state().remove_file(path))
    }

    fn remove_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        context("remove the directory", path, self.state().remove_dir_all(path))
    }

    fn list(&self, path: &Path) -> Result<Vec<DirEntry>, DiskError> {
        Ok(context("list", path, found(self.state().list(path)))?.unwrap_or_default())
    }

    fn kind(&self, path: &Path) -> Result<Option<EntryKind>, DiskError> {
        context("look at", path, found(self.state().kind(path)))
    }

    fn symlink(&self, target: &Path, link: &Path) -> Result<(), DiskError> {
        context("make the symlink", link, self.state().symlink(target, link))
    }

    fn read_link(&self, path: &Path) -> Result<Option<PathBuf>, DiskError> {
        context("read the symlink", path, found(self.state().read_link(path)))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        context("link to", to, self.state().hard_link(from, to))
    }

    fn set_mode(&self, path: &Path, mode: u32) -> Result<(), DiskError> {
        context("set the mode of", path, self.state().set_mode(path, mode))
    }

    fn try_lock(&self, path: &Path) -> Result<Option<Box<dyn DiskLock>>, DiskError> {
        let mut state = self.state();
        let taken = context("lock", path, state.try_lock(path))?;
        let boot = state.boot;
        Ok(taken.map(|id| Box::new(SimLock { disk: self.clone(), id, boot }) as Box<dyn DiskLock>))
    }

    fn sync_counts(&self) -> SyncCounts {
        self.syncs.counts()
    }
}

struct SimLock {
    disk: SimDisk,
    id: u64,
    boot: u64,
}

impl DiskLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.state().unlock(self.id, self.boot);
    }
}

struct SimAppend {
    disk: SimDisk,
    id: u64,
    boot: u64,
    path: PathBuf,
}

impl AppendFile for SimAppend {
    fn append(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        context("append to", &self.path, self.disk.state().append(self.id, self.boot, bytes))
    }

    fn sync_data(&mut self) -> Result<(), DiskError> {
        self.disk.syncs.file();
        context("sync", &self.path, self.disk.state().sync_data(self.id, self.boot))
    }

    fn truncate(&mut self, len: u64) -> Result<(), DiskError> {
        context("truncate", &self.path, self.disk.state().truncate(self.id, self.boot, len))
    }

    fn len(&self) -> Result<u64, DiskError> {
        context("read the length of", &self.path, self.disk.state().handle_len(self.id, self.boot))
    }
}

#[cfg(test)]
mod tests;
