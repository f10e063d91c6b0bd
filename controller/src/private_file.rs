//! Files that hold secrets or decide something: mode 0600, written whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::error::ControllerError;

/// Writes a file beside its place, syncs it, renames it into place and syncs the directory.
///
/// # Errors
/// [`ControllerError::File`] naming the path.
pub fn write(path: &Path, content: &[u8]) -> Result<(), ControllerError> {
    let failed = |doing| move |source| ControllerError::File { doing, path: path.to_owned(), source };
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = Path::new(&temporary);
    let _ = fs::remove_file(temporary);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(temporary)
        .map_err(failed("create"))?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(failed("write"))?;
    fs::rename(temporary, path).map_err(failed("rename into place"))?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed("sync the directory of"))
}

/// Reads a file whole.
///
/// # Errors
/// [`ControllerError::File`] naming the path.
pub fn read(path: &Path) -> Result<Vec<u8>, ControllerError> {
    fs::read(path).map_err(|source| ControllerError::File { doing: "read", path: path.to_owned(), source })
}

/// Whether something is there. What may not be looked at is not taken for absent.
///
/// # Errors
/// [`ControllerError::File`] naming the path.
pub fn exists(path: &Path) -> Result<bool, ControllerError> {
    path.try_exists().map_err(|source| ControllerError::File {
        doing: "look for",
        path: path.to_owned(),
        source,
    })
}

/// Makes a directory of mode 0700 with its parents; one that is there is left as it is.
///
/// # Errors
/// [`ControllerError::File`] naming the path.
pub fn directory(path: &Path) -> Result<(), ControllerError> {
    match fs::DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(source) => {
            Err(ControllerError::File { doing: "make the directory", path: path.to_owned(), source })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_file_is_private_and_replaced_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        write(&path, b"first").unwrap();
        write(&path, b"second").unwrap();
        assert_eq!(read(&path).unwrap(), b"second");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failure_names_the_path() {
        let error = write(Path::new("/proc/none/key"), b"x").unwrap_err().to_string();
        assert!(error.contains("/proc/none/key"), "{error}");
    }
}
