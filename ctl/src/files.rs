//! Small files that `ctl` keeps: written whole or not at all, private where they hold a key.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use crate::error::Error;

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The operator alone.
    Private,
    /// Everybody on the machine.
    Public,
}

/// Writes a file durably: temporary file, fsync, rename, fsync of the directory.
///
/// # Errors
/// [`Error::Io`].
pub fn write(path: &Path, content: &[u8], access: Access) -> Result<(), Error> {
    let directory = directory_of(path);
    make_directory(directory)?;
    let attempt = || -> io::Result<()> {
        let mut temporary = tempfile::NamedTempFile::new_in(directory)?;
        temporary.write_all(content)?;
        let mode = if access == Access::Private { 0o600 } else { 0o644 };
        temporary.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
        temporary.as_file().sync_all()?;
        temporary.persist(path).map_err(|error| error.error)?;
        fs::File::open(directory)?.sync_all()
    };
    attempt().map_err(|source| Error::io("write", path, source))
}

/// A bare name lies in the working directory, and the parent that Rust gives it is empty.
fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// Writes a private file that must not be there yet.
///
/// # Errors
/// [`Error::Io`], also if it exists.
pub fn create_private(path: &Path, content: &[u8]) -> Result<(), Error> {
    make_directory(directory_of(path))?;
    let attempt = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    attempt().map_err(|source| Error::io("create", path, source))
}

/// Makes a directory and all above it; new ones are the operator's alone.
///
/// # Errors
/// [`Error::Io`].
pub fn make_directory(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| Error::io("create", path, source))
}

/// Reads a file; none if there is none.
///
/// # Errors
/// [`Error::Io`].
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::io("read", path, source)),
    }
}

/// The permission bits of a file, if others than its owner may do anything with it.
///
/// # Errors
/// [`Error::Io`].
pub fn exposed_mode(path: &Path) -> Result<Option<u32>, Error> {
    let metadata = fs::metadata(path).map_err(|source| Error::io("read", path, source))?;
    let mode = metadata.permissions().mode() & 0o777;
    Ok((mode & 0o077 != 0).then_some(mode))
}

/// Reads a file with a private key; refuses one that others may read.
///
/// # Errors
/// [`Error::Config`] for such a one, [`Error::Io`].
pub fn read_private(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let Some(content) = read(path)? else { return Ok(None) };
    match exposed_mode(path)? {
        None => Ok(Some(content)),
        Some(mode) => Err(Error::Config {
            path: path.to_owned(),
            reason: format!("others may read it (mode {mode:04o}); chmod 600 {}", path.display()),
        }),
    }
}
