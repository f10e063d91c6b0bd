//! The file of a backup in the making: it gets its name once it is whole, and never that of another.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::error::ControllerError;
use crate::private_file;

/// A file beside the one that it becomes. Dropped before it is finished, it is removed.
#[derive(Debug)]
pub struct Draft {
    file: File,
    draft: PathBuf,
    target: PathBuf,
    finished: bool,
}

impl Draft {
    /// Begins a file of mode 0600.
    ///
    /// # Errors
    /// [`ControllerError::Backup`] if there is a file of that name, [`ControllerError::File`].
    pub fn begin(target: &Path) -> Result<Self, ControllerError> {
        if private_file::exists(target)? {
            return Err(taken(target));
        }
        let mut draft = target.as_os_str().to_owned();
        draft.push(format!(".{}.part", std::process::id()));
        let draft = PathBuf::from(draft);
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft);
        let failed =
            |source| ControllerError::File { doing: "make the backup's file", path: draft.clone(), source };
        let file = opened.map_err(failed)?;
        Ok(Self { file, draft, target: target.to_owned(), finished: false })
    }

    /// Where to write.
    pub fn file(&mut self) -> &mut dyn Write {
        &mut self.file
    }

    /// Syncs it and gives it its name.
    ///
    /// # Errors
    /// [`ControllerError::Backup`] if somebody else has made a file of that name, [`ControllerError::File`].
    pub fn finish(mut self) -> Result<(), ControllerError> {
        let failed =
            |source| ControllerError::File { doing: "write the backup", path: self.target.clone(), source };
        self.file.sync_all().map_err(failed)?;
        match named(&self.draft, &self.target) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(taken(&self.target)),
            other => other.map_err(failed)?,
        }
        self.finished = true;
        let directory = self.target.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = File::open(directory.unwrap_or_else(|| Path::new(".")));
        directory.and_then(|directory| directory.sync_all()).map_err(|source| ControllerError::File {
            doing: "sync the directory of",
            path: self.target.clone(),
            source,
        })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.finished {
            let _ = std::fs::remove_file(&self.draft);
        }
    }
}

/// Renames without overwriting; where the file system cannot do that in one, as well as it can.
fn named(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if !to.try_exists()? => {
            std::fs::rename(from, to)
        }
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => Err(ErrorKind::AlreadyExists.into()),
        other => Ok(other?),
    }
}

fn taken(path: &Path) -> ControllerError {
    let message = "it exists; choose another name, for a backup is never overwritten".to_owned();
    ControllerError::Backup { path: path.to_owned(), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_has_its_name_once_it_is_whole_and_one_that_failed_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("backup.tar");
        let count = || std::fs::read_dir(directory.path()).unwrap().count();
        let mut failed = Draft::begin(&target).unwrap();
        failed.file().write_all(b"half").unwrap();
        assert!(!target.exists());
        drop(failed);
        assert_eq!(count(), 0);
        let mut draft = Draft::begin(&target).unwrap();
        draft.file().write_all(b"whole").unwrap();
        draft.finish().unwrap();
        assert_eq!((std::fs::read(&target).unwrap(), count()), (b"whole".to_vec(), 1));
        assert!(Draft::begin(&target).unwrap_err().to_string().contains("choose another name"));
    }

    #[test]
    fn whoever_was_first_keeps_the_name() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("backup.tar");
        let draft = Draft::begin(&target).unwrap();
        std::fs::write(&target, "another's").unwrap();
        assert!(draft.finish().unwrap_err().to_string().contains("choose another name"));
        assert_eq!(std::fs::read(&target).unwrap(), b"another's");
    }
}
