//! Applying a release to the disk: the store of what was fetched, the layout of a tree, the swap, and the
//! removal of what is not needed any more. Decides nothing and starts no process.

pub mod inventory;
pub mod mend;
pub mod store;
pub mod sweep;
pub mod tree;
pub mod unpack;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use landfall_common::ReleaseName;
use landfall_common::disk::{Disk, EntryKind};

use crate::error::AgentError;
use crate::layout;

/// Gives a file one more name; `false` if it has as many as its file system allows (65,000 on ext4): all equal
/// files of all releases on a host are one.
fn link(disk: &dyn Disk, from: &Path, to: &Path) -> Result<bool, AgentError> {
    match disk.hard_link(from, to) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::TooManyLinks => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Makes the directories that everything else expects.
///
/// # Errors
/// [`AgentError::Disk`].
pub fn init(disk: &dyn Disk) -> Result<(), AgentError> {
    for path in [
        layout::RELEASES,
        layout::PREPARED,
        layout::SHARED,
        layout::MANIFESTS,
        layout::INVENTORIES,
        layout::DIRS,
        layout::OBJECTS,
        layout::PARTIAL,
    ] {
        disk.ensure_dir(Path::new(path))?;
    }
    Ok(())
}

/// The release that `current` names, whatever the record says.
///
/// # Errors
/// [`AgentError::Disk`].
pub fn current(disk: &dyn Disk) -> Result<Option<ReleaseName>, AgentError> {
    let path = Path::new(layout::CURRENT);
    if disk.kind(path)? != Some(EntryKind::Symlink) {
        return Ok(None);
    }
    let target = disk.read_link(path)?.unwrap_or_default();
    let name = target.strip_prefix(layout::RELEASES).ok().and_then(|rest| rest.to_str());
    Ok(name.and_then(|name| ReleaseName::new(name).ok()))
}

/// Points `current` to a release, by one rename. Doing it again makes it durable again and changes nothing.
///
/// # Errors
/// [`AgentError::Layout`] if the release is not on the disk, or something that is no link has its name;
/// [`AgentError::Disk`].
pub fn swap(disk: &dyn Disk, to: &ReleaseName) -> Result<(), AgentError> {
    let target = layout::release(to);
    if disk.kind(&target)? != Some(EntryKind::Dir) {
        return Err(AgentError::Layout(format!("release {to} is not on this disk")));
    }
    let link = Path::new(layout::CURRENT);
    match disk.kind(link)? {
        None | Some(EntryKind::Symlink) => {}
        Some(_) => {
            let reason = "`current` is not a link; move it away, so that it can be made one";
            return Err(AgentError::Layout(reason.to_owned()));
        }
    }
    if current(disk)?.as_ref() == Some(to) {
        // It may stand there without being durable: from a swap that a crash cut short.
        return Ok(disk.sync_dir(Path::new(""))?);
    }
    Ok(disk.symlink_atomic(&target, link)?)
}

/// Makes room for what the preparation of a release makes: an empty directory, whatever an earlier attempt has
/// left there. Nothing of that attempt may run any more.
///
/// # Errors
/// [`AgentError::Disk`].
pub fn clear_prepared(disk: &dyn Disk, release: &ReleaseName) -> Result<(), AgentError> {
    let path = layout::prepared(release);
    disk.remove_dir_all(&path)?;
    Ok(disk.create_dir_all(&path)?)
}

/// Removes whatever has this name.
fn remove_any(disk: &dyn Disk, path: &Path) -> Result<(), AgentError> {
    match disk.kind(path)? {
        None => Ok(()),
        Some(EntryKind::Dir) => Ok(disk.remove_dir_all(path)?),
        Some(_) => Ok(disk.remove_file(path)?),
    }
}

/// The parts of a path below the release's root, as the manifest writes them.
fn relative(path: &str) -> Result<PathBuf, AgentError> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    for part in &parts {
        landfall_common::manifest::component(part)
            .map_err(|rule| AgentError::Layout(format!("the shared path {path:?} cannot be used: {rule}")))?;
    }
    if parts.is_empty() {
        return Err(AgentError::Layout(format!("the shared path {path:?} names nothing")));
    }
    Ok(parts.iter().collect())
}
