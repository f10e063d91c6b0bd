//! What no program can do without: the unchanged files linked, the changed ones written and synced, the swap.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::tree;

/// A release by hand below `directory`: the time from the first new directory to the synced swap. Nothing is
/// compared, fetched, hashed, checked or recorded. One `syncfs` and one `fsync`.
///
/// # Errors
/// If a file cannot be written.
pub fn release(directory: &Path) -> anyhow::Result<Duration> {
    let root = tempfile::tempdir_in(directory)?;
    let (old, new, changed) = (root.path().join("old"), root.path().join("new"), root.path().join("changed"));
    tree::write(&old, 1)?;
    tree::change(&changed, 2)?;
    sync(root.path())?;
    let began = Instant::now();
    for folder in fs::read_dir(&old)? {
        let folder = folder?.file_name();
        fs::create_dir_all(new.join(&folder))?;
        for file in fs::read_dir(old.join(&folder))? {
            let path = Path::new(&folder).join(file?.file_name());
            match fs::read(changed.join(&path)) {
                Ok(content) => fs::write(new.join(&path), content)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    fs::hard_link(old.join(&path), new.join(&path))?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    sync(root.path())?;
    std::os::unix::fs::symlink("new", root.path().join("next"))?;
    fs::rename(root.path().join("next"), root.path().join("current"))?;
    fs::File::open(root.path())?.sync_all()?;
    Ok(began.elapsed())
}

/// Waits until everything on the file system of `directory` is on the disk.
///
/// # Errors
/// If the disk says so.
pub fn sync(directory: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(fs::File::open(directory)?)?)
}
