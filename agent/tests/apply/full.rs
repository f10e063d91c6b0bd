//! A disk that is full from some operation on, until there is room again, and that gives a file so many names.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use landfall_common::disk::{
    AppendFile, DirEntry, Disk, DiskError, DiskLock, EntryKind, RealDisk, SyncCounts,
};

/// What takes space works so many times more; shared by all handles of one disk.
pub type Room = Arc<AtomicI64>;

/// What cannot be removed, such as a directory with a file of another user's.
pub type Stuck = Arc<Mutex<Option<PathBuf>>>;

pub struct FullDisk {
    pub inner: RealDisk,
    pub room: Room,
    pub stuck: Stuck,
    /// Where it is.
    pub root: PathBuf,
    /// How many names one file may have.
    pub max_links: u64,
}

impl FullDisk {
    fn take(&self, operation: &'static str, path: &Path) -> Result<(), DiskError> {
        take(&self.room, operation, path)
    }
}

fn take(room: &Room, operation: &'static str, path: &Path) -> Result<(), DiskError> {
    if room.fetch_sub(1, Ordering::Relaxed) > 0 {
        return Ok(());
    }
    Err(DiskError::new(operation, path, ErrorKind::StorageFull))
}

struct FullFile {
    inner: Box<dyn AppendFile>,
    path: PathBuf,
    room: Room,
}

impl AppendFile for FullFile {
    fn append(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        take(&self.room, "append to", &self.path)?;
        self.inner.append(bytes)
    }
    fn sync_data(&mut self) -> Result<(), DiskError> {
        self.inner.sync_data()
    }
    fn truncate(&mut self, len: u64) -> Result<(), DiskError> {
        self.inner.truncate(len)
    }
    fn len(&self) -> Result<u64, DiskError> {
        self.inner.len()
    }
}

impl Disk for FullDisk {
    fn shown(&self, path: &Path) -> PathBuf {
        self.inner.shown(path)
    }
    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, DiskError> {
        self.inner.read(path)
    }
    fn read_at(&self, path: &Path, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        self.inner.read_at(path, offset, len)
    }
    fn len(&self, path: &Path) -> Result<Option<u64>, DiskError> {
        self.inner.len(path)
    }
    fn open_append(&self, path: &Path) -> Result<Box<dyn AppendFile>, DiskError> {
        self.take("open", path)?;
        let inner = self.inner.open_append(path)?;
        Ok(Box::new(FullFile { inner, path: path.to_owned(), room: self.room.clone() }))
    }
    fn write_new(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<(), DiskError> {
        if let Err(full) = self.take("write", path) {
            // As on a real one: the name is there, and a part of the content.
            self.inner.write_new(path, &bytes[..bytes.len() / 2], mode)?;
            return Err(full);
        }
        self.inner.write_new(path, bytes, mode)
    }
    fn sync_file(&self, path: &Path) -> Result<(), DiskError> {
        self.inner.sync_file(path)
    }
    fn sync_dir(&self, path: &Path) -> Result<(), DiskError> {
        self.inner.sync_dir(path)
    }
    fn sync_tree(&self, path: &Path) -> Result<(), DiskError> {
        // Delayed allocation may find out only now.
        self.take("sync", path)?;
        self.inner.sync_tree(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.inner.rename(from, to)
    }
    fn create_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        self.take("create the directory", path)?;
        self.inner.create_dir_all(path)
    }
    fn remove_file(&self, path: &Path) -> Result<(), DiskError> {
        self.inner.remove_file(path)
    }
    fn remove_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        if self.stuck.lock().unwrap().as_deref() == Some(path) {
            return Err(DiskError::new("remove", path, ErrorKind::PermissionDenied));
        }
        self.inner.remove_dir_all(path)
    }
    fn list(&self, path: &Path) -> Result<Vec<DirEntry>, DiskError> {
        self.inner.list(path)
    }
    fn kind(&self, path: &Path) -> Result<Option<EntryKind>, DiskError> {
        self.inner.kind(path)
    }
    fn symlink(&self, target: &Path, link: &Path) -> Result<(), DiskError> {
        self.take("link", link)?;
        self.inner.symlink(target, link)
    }
    fn read_link(&self, path: &Path) -> Result<Option<PathBuf>, DiskError> {
        self.inner.read_link(path)
    }
    fn hard_link(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.take("link to", to)?;
        if std::fs::symlink_metadata(self.root.join(from)).is_ok_and(|meta| meta.nlink() >= self.max_links) {
            return Err(DiskError::new("link to", to, ErrorKind::TooManyLinks));
        }
        self.inner.hard_link(from, to)
    }
    fn set_mode(&self, path: &Path, mode: u32) -> Result<(), DiskError> {
        self.inner.set_mode(path, mode)
    }
    fn try_lock(&self, path: &Path) -> Result<Option<Box<dyn DiskLock>>, DiskError> {
        self.inner.try_lock(path)
    }
    fn sync_counts(&self) -> SyncCounts {
        self.inner.sync_counts()
    }
}
