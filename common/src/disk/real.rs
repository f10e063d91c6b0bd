//! The disk of the machine.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{AppendFile, DirEntry, Disk, DiskError, DiskLock, EntryKind, SyncCounter, SyncCounts};

/// A directory of the machine as a [`Disk`].
#[derive(Debug, Clone)]
pub struct RealDisk {
    root: PathBuf,
    /// Bits that a new file may lack of the mode it was asked for.
    umask: u32,
    syncs: Arc<SyncCounter>,
}

impl RealDisk {
    /// Everything below `root`, which must exist when something is read or written.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), umask: umask(), syncs: Arc::default() }
    }

    /// The directory that all paths are relative to.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn resolve(&self, operation: &'static str, path: &Path) -> Result<PathBuf, DiskError> {
        // As `components` would tell, at a fraction of its cost: this is asked before every call.
        let bytes = path.as_os_str().as_bytes();
        let leaves = bytes.starts_with(b"/") || bytes.split(|byte| *byte == b'/').any(|part| part == b"..");
        if !leaves {
            Ok(self.root.join(path))
        } else {
            let reason = io::Error::new(io::ErrorKind::InvalidInput, "the path leaves the root of this disk");
            Err(DiskError::new(operation, path, reason))
        }
    }

    /// Runs `call` on the resolved path; errors name the full path, which is what an operator looks for.
    fn at<T>(
        &self,
        operation: &'static str,
        path: &Path,
        call: impl FnOnce(&Path) -> io::Result<T>,
    ) -> Result<T, DiskError> {
        let full = self.resolve(operation, path)?;
        call(&full).map_err(|source| DiskError::new(operation, &full, source))
    }
}

/// The umask of this process, which nobody here changes; every bit where `/proc` does not tell.
fn umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok()).unwrap_or(0o777)
}

/// `NotFound` becomes `None`.
fn found<T>(result: Result<T, DiskError>) -> Result<Option<T>, DiskError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn kind_of(file_type: fs::FileType) -> EntryKind {
    if file_type.is_file() {
        EntryKind::File
    } else if file_type.is_dir() {
        EntryKind::Dir
    } else if file_type.is_symlink() {
        EntryKind::Symlink
    } else {
        EntryKind::Other
    }
}

impl Disk for RealDisk {
    fn shown(&self, path: &Path) -> PathBuf {
        self.root.join(path)
    }

    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, DiskError> {
        found(self.at("read", path, |full| fs::read(full)))
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        self.at("read", path, |full| {
            let file = File::open(full)?;
            let rest = usize::try_from(file.metadata()?.len().saturating_sub(offset)).unwrap_or(usize::MAX);
            let mut bytes = vec![0; len.min(rest)];
            file.read_exact_at(&mut bytes, offset)?;
            Ok(bytes)
        })
    }

    fn len(&self, path: &Path) -> Result<Option<u64>, DiskError> {
        found(self.at("read the length of", path, |full| Ok(fs::metadata(full)?.len())))
    }

    fn open_append(&self, path: &Path) -> Result<Box<dyn AppendFile>, DiskError> {
        self.at("open", path, |full| {
            let file = OpenOptions::new().append(true).create(true).mode(0o600).open(full)?;
            let handle = RealAppend { file, path: full.to_owned(), syncs: Arc::clone(&self.syncs) };
            Ok(Box::new(handle) as Box<dyn AppendFile>)
        })
    }

    fn read_regular(&self, path: &Path, max: usize, content: &mut Vec<u8>) -> Result<bool, DiskError> {
        content.clear();
        self.at("read", path, |full| {
            // Not blocked by a pipe; a symlink says ELOOP, a socket ENXIO.
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = match rustix::fs::open(full, flags, Mode::empty()) {
                Ok(file) => File::from(file),
                Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(false),
                Err(errno) => return Err(errno.into()),
            };
            let metadata = file.metadata()?;
            let Some(len) = usize::try_from(metadata.len()).ok().filter(|len| *len <= max) else {
                return Ok(false);
            };
            if !metadata.is_file() {
                return Ok(false);
            }
            content.resize(len, 0);
            file.read_exact_at(content, 0).inspect_err(|_| content.clear())?;
            Ok(true)
        })
    }

    fn write_new(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<(), DiskError> {
        self.at("write", path, |full| {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(full)?;
            if mode & self.umask != 0 {
                file.set_permissions(fs::Permissions::from_mode(mode))?;
            }
            file.write_all(bytes)
        })
    }

    fn sync_file(&self, path: &Path) -> Result<(), DiskError> {
        self.at("sync", path, |full| {
            self.syncs.file();
            File::open(full)?.sync_all()
        })
    }

    fn sync_dir(&self, path: &Path) -> Result<(), DiskError> {
        self.at("sync the directory", path, |full| {
            self.syncs.dir();
            File::open(full)?.sync_all()
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let source = self.resolve("rename", from)?;
        self.at("rename to", to, |full| fs::rename(&source, full))
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        self.at("create the directory", path, |full| fs::create_dir_all(full))
    }

    fn remove_file(&self, path: &Path) -> Result<(), DiskError> {
        self.at("remove", path, |full| fs::remove_file(full))
    }

    fn remove_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        let removed = self.at("remove the directory", path, |full| match fs::remove_dir_all(full) {
            // Releases are read-only trees; nothing can be unlinked from a directory without `w`.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                open_up(full)?;
                fs::remove_dir_all(full)
            }
            other => other,
        });
        found(removed).map(|_| ())
    }

    fn list(&self, path: &Path) -> Result<Vec<DirEntry>, DiskError> {
        let entries = self.at("list", path, |full| {
            fs::read_dir(full)?
                .map(|entry| {
                    let entry = entry?;
                    Ok(DirEntry { name: entry.file_name(), kind: kind_of(entry.file_type()?) })
                })
                .collect::<io::Result<Vec<_>>>()
        });
        let mut entries = found(entries)?.unwrap_or_default();
        entries.sort();
        Ok(entries)
    }

    fn kind(&self, path: &Path) -> Result<Option<EntryKind>, DiskError> {
        found(self.at("look at", path, |full| Ok(kind_of(fs::symlink_metadata(full)?.file_type()))))
    }

    fn symlink(&self, target: &Path, link: &Path) -> Result<(), DiskError> {
        self.at("make the symlink", link, |full| std::os::unix::fs::symlink(target, full))
    }

    fn read_link(&self, path: &Path) -> Result<Option<PathBuf>, DiskError> {
        found(self.at("read the symlink", path, |full| fs::read_link(full)))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let source = self.resolve("link", from)?;
        self.at("link to", to, |full| fs::hard_link(&source, full))
    }

    fn set_mode(&self, path: &Path, mode: u32) -> Result<(), DiskError> {
        self.at("set the mode of", path, |full| fs::set_permissions(full, fs::Permissions::from_mode(mode)))
    }

    fn try_lock(&self, path: &Path) -> Result<Option<Box<dyn DiskLock>>, DiskError> {
        self.at("lock", path, |full| {
            let file = OpenOptions::new().create(true).append(true).mode(0o600).open(full)?;
            match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => Ok(Some(Box::new(RealLock { _file: file }) as Box<dyn DiskLock>)),
                Err(Errno::WOULDBLOCK) => Ok(None),
                Err(errno) => Err(errno.into()),
            }
        })
    }

    fn sync_tree(&self, path: &Path) -> Result<(), DiskError> {
        // One syncfs instead of thousands of fsyncs; it counts as one of a file.
        self.at("sync the file system of", path, |full| {
            rustix::fs::syncfs(File::open(full)?).map_err(io::Error::from)
        })?;
        self.syncs.file();
        Ok(())
    }

    fn free_bytes(&self) -> Result<Option<u64>, DiskError> {
        self.at("look at the free space of", Path::new(""), |full| {
            let figures = rustix::fs::statvfs(full)?;
            Ok(Some(figures.f_bavail.saturating_mul(figures.f_frsize)))
        })
    }

    fn sync_counts(&self) -> SyncCounts {
        self.syncs.counts()
    }
}

/// Gives the owner `rwx` on a directory and every directory in it.
fn open_up(directory: &Path) -> io::Result<()> {
    let mode = fs::symlink_metadata(directory)?.mode();
    fs::set_permissions(directory, fs::Permissions::from_mode(mode | 0o700))?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

/// `flock` holds as long as the descriptor is open.
struct RealLock {
    _file: File,
}

impl DiskLock for RealLock {}

struct RealAppend {
    file: File,
    path: PathBuf,
    syncs: Arc<SyncCounter>,
}

impl RealAppend {
    fn fail(&self, operation: &'static str, source: io::Error) -> DiskError {
        DiskError::new(operation, &self.path, source)
    }
}

impl AppendFile for RealAppend {
    fn append(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        self.file.write_all(bytes).map_err(|e| self.fail("append to", e))
    }

    fn sync_data(&mut self) -> Result<(), DiskError> {
        self.syncs.file();
        self.file.sync_data().map_err(|e| self.fail("sync", e))
    }

    fn truncate(&mut self, len: u64) -> Result<(), DiskError> {
        self.file.set_len(len).map_err(|e| self.fail("truncate", e))
    }

    fn len(&self) -> Result<u64, DiskError> {
        Ok(self.file.metadata().map_err(|e| self.fail("read the length of", e))?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> (tempfile::TempDir, RealDisk) {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(dir.path());
        (dir, disk)
    }

    #[test]
    fn an_atomic_write_costs_two_syncs_and_leaves_no_temporary_file() {
        let (_dir, disk) = disk();
        disk.write_atomic("state".as_ref(), b"one").unwrap();
        disk.write_atomic("state".as_ref(), b"two").unwrap();
        assert_eq!(disk.read("state".as_ref()).unwrap().unwrap(), b"two");
        assert_eq!(disk.sync_counts(), SyncCounts { files: 2, dirs: 2 });
        assert_eq!(disk.list("".as_ref()).unwrap().len(), 1);
    }

    #[test]
    fn a_path_that_leaves_the_root_is_refused() {
        let (_dir, disk) = disk();
        for path in ["../x", "/etc/passwd", "a/../../x"] {
            let error = disk.read(path.as_ref()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{path}");
        }
    }

    #[test]
    fn what_is_missing_is_none_and_an_absent_directory_is_empty() {
        let (_dir, disk) = disk();
        assert_eq!(disk.read("x".as_ref()).unwrap(), None);
        assert_eq!(Disk::len(&disk, "x".as_ref()).unwrap(), None);
        assert_eq!(disk.read_link("x".as_ref()).unwrap(), None);
        assert!(disk.list("x".as_ref()).unwrap().is_empty());
        disk.remove_dir_all("x".as_ref()).unwrap();
        let error = disk.remove_file("x".as_ref()).unwrap_err();
        assert!(error.to_string().starts_with("cannot remove /"), "{error}");
    }

    #[test]
    fn only_a_regular_file_that_is_not_too_long_is_read() {
        let (directory, disk) = disk();
        disk.write_new("file".as_ref(), b"12345", 0o644).unwrap();
        disk.write_new("empty".as_ref(), b"", 0o644).unwrap();
        disk.symlink("file".as_ref(), "link".as_ref()).unwrap();
        disk.create_dir_all("directory".as_ref()).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            directory.path().join("pipe"),
            rustix::fs::FileType::Fifo,
            Mode::RUSR,
            0,
        )
        .unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(directory.path().join("socket")).unwrap();
        let mut content = b"from before".to_vec();
        let mut read = |path: &str, max| {
            let is_read = disk.read_regular(path.as_ref(), max, &mut content).unwrap();
            (is_read, String::from_utf8(content.clone()).unwrap())
        };
        assert_eq!(read("file", 5), (true, "12345".into()));
        assert_eq!(read("empty", 0), (true, String::new()));
        for (path, max) in
            [("file", 4), ("link", 9), ("directory", 9), ("pipe", 9), ("socket", 9), ("missing", 9)]
        {
            assert_eq!(read(path, max), (false, String::new()), "{path}");
        }
    }

    #[test]
    fn a_new_file_has_the_mode_that_was_asked_for() {
        let (directory, mut disk) = disk();
        // As under a umask that takes more than this process has.
        for umask in [disk.umask, 0o777] {
            disk.umask = umask;
            let name = format!("{umask:o}");
            disk.write_new(name.as_ref(), b"x", 0o466).unwrap();
            let mode = fs::metadata(directory.path().join(&name)).unwrap().mode();
            assert_eq!(mode & 0o7777, 0o466, "{name}");
        }
    }

    #[test]
    fn appended_bytes_are_read_back_in_pieces() {
        let (_dir, disk) = disk();
        let mut file = disk.open_append("log".as_ref()).unwrap();
        file.append(b"hello ").unwrap();
        file.append(b"world").unwrap();
        file.sync_data().unwrap();
        assert_eq!(disk.read_at("log".as_ref(), 6, 100).unwrap(), b"world");
        file.truncate(3).unwrap();
        file.append(b"p").unwrap();
        assert_eq!(disk.read("log".as_ref()).unwrap().unwrap(), b"help");
        assert_eq!(file.len().unwrap(), 4);
    }

    #[test]
    fn a_lock_is_held_by_one_until_it_is_dropped() {
        let (_dir, disk) = disk();
        let held = disk.try_lock("lock".as_ref()).unwrap().unwrap();
        assert!(disk.try_lock("lock".as_ref()).unwrap().is_none());
        drop(held);
        assert!(disk.try_lock("lock".as_ref()).unwrap().is_some());
    }

    #[test]
    fn a_read_only_tree_can_be_removed() {
        let (_dir, disk) = disk();
        disk.ensure_dir("a/b".as_ref()).unwrap();
        disk.write_new("a/b/file".as_ref(), b"x", 0o400).unwrap();
        for dir in ["a/b", "a"] {
            disk.set_mode(dir.as_ref(), 0o500).unwrap();
        }
        disk.remove_dir_all("a".as_ref()).unwrap();
        assert!(!disk.exists("a".as_ref()).unwrap());
    }

    #[test]
    fn a_symlink_is_switched_over_an_existing_one() {
        let (_dir, disk) = disk();
        disk.symlink_atomic("releases/v1".as_ref(), "current".as_ref()).unwrap();
        disk.symlink_atomic("releases/v2".as_ref(), "current".as_ref()).unwrap();
        assert_eq!(disk.read_link("current".as_ref()).unwrap().unwrap(), Path::new("releases/v2"));
        assert_eq!(disk.kind("current".as_ref()).unwrap(), Some(EntryKind::Symlink));
    }
}
