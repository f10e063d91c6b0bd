//! Whose the state directory is. The service runs as a user of its own and has no privileges: a file that root
//! makes there by a command keeps it from starting.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::error::ControllerError;

/// How deep to look for files of others: `store/journal/FILE`.
const DEPTH: usize = 3;

/// Refuses to work in a directory of another user. One that is not there yet is nobody's.
///
/// # Errors
/// [`ControllerError::NotOwner`], [`ControllerError::File`].
pub fn check(directory: &Path) -> Result<(), ControllerError> {
    let owner = match std::fs::metadata(directory) {
        Ok(metadata) => metadata.uid(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => {
            return Err(ControllerError::File { doing: "look at", path: directory.to_owned(), source });
        }
    };
    if owner == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    Err(ControllerError::NotOwner { path: directory.to_owned(), owner: name_of(owner) })
}

/// What hinders a controller that may not use its own directory: the first file in it that is another's, and
/// the command that mends it.
#[must_use]
pub fn hint(directory: &Path) -> Option<String> {
    let own = rustix::process::geteuid().as_raw();
    let (path, owner) = foreign(directory, own, DEPTH)?;
    let (owner, own) = (name_of(owner), name_of(own));
    Some(format!(
        "{} belongs to {owner}, and the controller runs as {own}; as root, type `chown -R {own}: {}`",
        path.display(),
        directory.display()
    ))
}

fn foreign(path: &Path, own: u32, depth: usize) -> Option<(PathBuf, u32)> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    if metadata.uid() != own {
        return Some((path.to_owned(), metadata.uid()));
    }
    if depth == 0 || !metadata.is_dir() {
        return None;
    }
    let mut names: Vec<_> = std::fs::read_dir(path).ok()?.flatten().map(|entry| entry.path()).collect();
    names.sort();
    names.iter().find_map(|path| foreign(path, own, depth - 1))
}

/// The name of a user, or the number of one that has none here.
fn name_of(uid: u32) -> String {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid.to_string()).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("#{uid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_names_and_ones_own_directory_is_no_hindrance() {
        assert_eq!((name_of(0), name_of(4_000_000_000)), ("root".to_owned(), "#4000000000".to_owned()));
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("file"), "").unwrap();
        check(directory.path()).unwrap();
        check(&directory.path().join("missing")).unwrap();
        assert_eq!(hint(directory.path()), None);
    }

    /// Root gives a file away; anybody else looks at one of root's.
    #[test]
    fn a_directory_of_another_user_is_refused_with_the_command_that_works() {
        let directory = tempfile::tempdir().unwrap();
        let state = if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(directory.path(), Some(1), None).unwrap();
            directory.path()
        } else {
            Path::new("/proc/sys")
        };
        let refused = check(state).unwrap_err().to_string();
        let owner = name_of(std::fs::metadata(state).unwrap().uid());
        assert!(refused.contains(&format!("runuser -u {owner} -- landfall-controller")), "{refused}");
        let told = hint(state).unwrap();
        assert!(told.contains(&format!("belongs to {owner}")) && told.contains("chown -R"), "{told}");
    }
}
