//! The only system calls that durable code makes, behind one trait.
//!
//! Whoever keeps something that must survive a power cut (the journal, the agent's ledger) does it through
//! a [`Disk`], so that the simulation can put a disk underneath that loses or tears whatever was not
//! synced. What lives here on purpose knows nothing of records or formats.
//!
//! The contract is that of POSIX and no more: bytes are durable after `sync_file` / `sync_data`, a name
//! (created, renamed, removed) only after `sync_dir` of the directory that holds it.

mod error;
mod real;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

pub use error::DiskError;
pub use real::RealDisk;

/// What a directory entry is, the entry itself, not what a symlink leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A device, socket or pipe.
    Other,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The name within its directory.
    pub name: OsString,
    /// What it is.
    pub kind: EntryKind,
}

/// How many syncs a disk has done since it was opened: the dear part of being durable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SyncCounts {
    /// `fdatasync` and `fsync` of files.
    pub files: u64,
    /// `fsync` of directories.
    pub dirs: u64,
}

impl SyncCounts {
    /// Both kinds together.
    #[must_use]
    pub fn total(self) -> u64 {
        self.files + self.dirs
    }

    /// The syncs since `earlier` was read.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self { files: self.files - earlier.files, dirs: self.dirs - earlier.dirs }
    }
}

/// The counters behind [`SyncCounts`], for those who implement [`Disk`].
#[derive(Debug, Default)]
pub struct SyncCounter {
    files: AtomicU64,
    dirs: AtomicU64,
}

impl SyncCounter {
    /// Counts one sync of a file.
    pub fn file(&self) {
        self.files.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one sync of a directory.
    pub fn dir(&self) {
        self.dirs.fetch_add(1, Ordering::Relaxed);
    }

    /// The counts until now.
    #[must_use]
    pub fn counts(&self) -> SyncCounts {
        SyncCounts { files: self.files.load(Ordering::Relaxed), dirs: self.dirs.load(Ordering::Relaxed) }
    }
}

/// A file that grows at its end. The handle keeps working if the file is renamed.
pub trait AppendFile: Send + Sync {
    /// Writes all of `bytes` at the end; durable only after [`AppendFile::sync_data`].
    ///
    /// # Errors
    /// [`DiskError`]; then any part of `bytes` may have been written.
    fn append(&mut self, bytes: &[u8]) -> Result<(), DiskError>;

    /// Makes the content and the length durable (`fdatasync`). The *name* needs `sync_dir`.
    ///
    /// # Errors
    /// [`DiskError`]; then nothing is known about what was written since the last sync, and trying again
    /// proves nothing: the kernel may have dropped the pages.
    fn sync_data(&mut self) -> Result<(), DiskError>;

    /// Cuts the file to `len` bytes.
    ///
    /// # Errors
    /// [`DiskError`].
    fn truncate(&mut self, len: u64) -> Result<(), DiskError>;

    /// The present length in bytes.
    ///
    /// # Errors
    /// [`DiskError`].
    fn len(&self) -> Result<u64, DiskError>;

    /// Whether nothing is in it.
    ///
    /// # Errors
    /// [`DiskError`].
    fn is_empty(&self) -> Result<bool, DiskError> {
        Ok(self.len()? == 0)
    }
}

/// A lock that is held while this value lives; a killed process loses it.
#[must_use = "the lock is given up as soon as this value is dropped"]
pub trait DiskLock: Send + Sync {}

/// A tree of files below a root that was given when the disk was made. Every path is relative to it; an
/// absolute path or one with `..` is refused.
///
/// Synchronous and object safe. Paths are plain: `disk.read("ledger/state".as_ref())`.
pub trait Disk: Send + Sync {
    /// The path as people are told it: whole, where the root is a directory of this machine.
    fn shown(&self, path: &Path) -> PathBuf {
        path.to_owned()
    }

    /// The whole content of a file, or `None` if there is no such name.
    ///
    /// # Errors
    /// [`DiskError`].
    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, DiskError>;

    /// Up to `len` bytes from `offset`; fewer only at the end of the file.
    ///
    /// # Errors
    /// [`DiskError`]; a missing file is one.
    fn read_at(&self, path: &Path, offset: u64, len: usize) -> Result<Vec<u8>, DiskError>;

    /// The length of a file in bytes, or `None` if there is no such name.
    ///
    /// # Errors
    /// [`DiskError`].
    fn len(&self, path: &Path) -> Result<Option<u64>, DiskError>;

    /// Opens a file for appending and creates it (mode 0600) if it is missing.
    ///
    /// # Errors
    /// [`DiskError`].
    fn open_append(&self, path: &Path) -> Result<Box<dyn AppendFile>, DiskError>;

    /// Reads a regular file of at most `max` bytes into `content`, which is emptied first; a symlink is not
    /// followed. `false`, and nothing in `content`, if nothing stands at this name, or something else, or a
    /// longer file.
    ///
    /// # Errors
    /// [`DiskError`].
    fn read_regular(&self, path: &Path, max: usize, content: &mut Vec<u8>) -> Result<bool, DiskError> {
        content.clear();
        if self.kind(path)? != Some(EntryKind::File) || self.len(path)?.is_none_or(|len| len > max as u64) {
            return Ok(false);
        }
        content.append(&mut self.read_at(path, 0, max)?);
        Ok(true)
    }

    /// Creates a file that does not exist yet, with this mode whatever the umask, and writes all of it;
    /// nothing is synced.
    ///
    /// # Errors
    /// [`DiskError`]; the kind is `AlreadyExists` if the name is taken.
    fn write_new(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<(), DiskError>;

    /// Makes the content of a file durable.
    ///
    /// # Errors
    /// [`DiskError`].
    fn sync_file(&self, path: &Path) -> Result<(), DiskError>;

    /// Makes the names in a directory durable. The root is the empty path.
    ///
    /// # Errors
    /// [`DiskError`].
    fn sync_dir(&self, path: &Path) -> Result<(), DiskError>;

    /// Renames in one step, over an existing file or symlink too.
    ///
    /// # Errors
    /// [`DiskError`].
    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError>;

    /// Creates a directory and its missing parents (mode 0755 less the umask); nothing is synced, see
    /// [`Disk::ensure_dir`].
    ///
    /// # Errors
    /// [`DiskError`].
    fn create_dir_all(&self, path: &Path) -> Result<(), DiskError>;

    /// Removes a file or a symlink.
    ///
    /// # Errors
    /// [`DiskError`]; a missing name is one.
    fn remove_file(&self, path: &Path) -> Result<(), DiskError>;

    /// Removes a directory with all that is in it; nothing happens if it is missing. Read-only directories
    /// in it are opened up first.
    ///
    /// # Errors
    /// [`DiskError`].
    fn remove_dir_all(&self, path: &Path) -> Result<(), DiskError>;

    /// The entries of a directory in the order of their names; none if it is missing.
    ///
    /// # Errors
    /// [`DiskError`].
    fn list(&self, path: &Path) -> Result<Vec<DirEntry>, DiskError>;

    /// What stands at this name, a symlink not followed; `None` if nothing does.
    ///
    /// # Errors
    /// [`DiskError`].
    fn kind(&self, path: &Path) -> Result<Option<EntryKind>, DiskError>;

    /// Makes the symlink `link` that leads to `target`; the target is kept as given.
    ///
    /// # Errors
    /// [`DiskError`]; the kind is `AlreadyExists` if the name is taken.
    fn symlink(&self, target: &Path, link: &Path) -> Result<(), DiskError>;

    /// Where a symlink leads, or `None` if there is no such name.
    ///
    /// # Errors
    /// [`DiskError`]; a name that is not a symlink is one.
    fn read_link(&self, path: &Path) -> Result<Option<PathBuf>, DiskError>;

    /// Gives a file a second name.
    ///
    /// # Errors
    /// [`DiskError`].
    fn hard_link(&self, from: &Path, to: &Path) -> Result<(), DiskError>;

    /// Sets the permission bits.
    ///
    /// # Errors
    /// [`DiskError`].
    fn set_mode(&self, path: &Path, mode: u32) -> Result<(), DiskError>;

    /// Takes the lock of this file, creating it if needed; `None` if another holds it.
    ///
    /// # Errors
    /// [`DiskError`].
    fn try_lock(&self, path: &Path) -> Result<Option<Box<dyn DiskLock>>, DiskError>;

    /// Makes everything below a directory durable, content and names: what was written in one go is synced
    /// in one go. This default visits each file; a real disk has one call for it.
    ///
    /// # Errors
    /// [`DiskError`].
    fn sync_tree(&self, path: &Path) -> Result<(), DiskError> {
        for entry in self.list(path)? {
            let child = path.join(&entry.name);
            match entry.kind {
                EntryKind::File => self.sync_file(&child)?,
                EntryKind::Dir => self.sync_tree(&child)?,
                EntryKind::Symlink | EntryKind::Other => {}
            }
        }
        self.sync_dir(path)
    }

    /// How many bytes may still be written; `None` if that is not known.
    ///
    /// # Errors
    /// [`DiskError`].
    fn free_bytes(&self) -> Result<Option<u64>, DiskError> {
        Ok(None)
    }

    /// The syncs done until now.
    fn sync_counts(&self) -> SyncCounts;

    /// Whether anything stands at this name, a dangling symlink included.
    ///
    /// # Errors
    /// [`DiskError`].
    fn exists(&self, path: &Path) -> Result<bool, DiskError> {
        Ok(self.kind(path)?.is_some())
    }

    /// Makes sure that a directory and its parents are there and stay: each name is synced in its parent,
    /// also of those that exist already, since an earlier process may have been killed, or its sync have
    /// failed, after it had made them. As many syncs as the path has parts.
    ///
    /// # Errors
    /// [`DiskError`].
    fn ensure_dir(&self, path: &Path) -> Result<(), DiskError> {
        self.create_dir_all(path)?;
        let mut parts: Vec<&Path> = path.ancestors().filter(|a| !a.as_os_str().is_empty()).collect();
        while let Some(part) = parts.pop() {
            self.sync_dir(parent(part))?;
        }
        Ok(())
    }

    /// Replaces a file (mode 0600) so that after a crash at any instant it holds either all of the old or
    /// all of the new bytes: temporary file, sync, rename, sync of the directory. Two syncs.
    ///
    /// # Errors
    /// [`DiskError`]; then the old content stands, unless only the last sync failed.
    fn write_atomic(&self, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        let temporary = temporary_name(path);
        // One that a crash left behind is in the way of `write_new`, and nobody else's.
        if self.exists(&temporary)? {
            self.remove_file(&temporary)?;
        }
        let written = self
            .write_new(&temporary, bytes, 0o600)
            .and_then(|()| self.sync_file(&temporary))
            .and_then(|()| self.rename(&temporary, path));
        if let Err(error) = written {
            // On a full disk the half-written temporary file would keep the space that is lacking.
            let _ = self.remove_file(&temporary);
            return Err(error);
        }
        self.sync_dir(parent(path))
    }

    /// Points the symlink `link` to `target` in one step, durably: temporary link, rename, sync of the
    /// directory. Whoever reads it meets the old or the new target, never none.
    ///
    /// # Errors
    /// [`DiskError`].
    fn symlink_atomic(&self, target: &Path, link: &Path) -> Result<(), DiskError> {
        let temporary = temporary_name(link);
        if self.exists(&temporary)? {
            self.remove_file(&temporary)?;
        }
        self.symlink(target, &temporary)?;
        self.rename(&temporary, link)?;
        self.sync_dir(parent(link))
    }
}

/// The suffix of files that [`Disk::write_atomic`] has not finished; recovery may remove them.
pub const TEMPORARY_SUFFIX: &str = ".tmp";

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(TEMPORARY_SUFFIX);
    PathBuf::from(name)
}

/// The directory that holds `path`; the root is the empty path.
#[must_use]
pub fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}
