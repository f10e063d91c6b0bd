//! Putting one thing back as it was applied: what is signed takes its place by one rename, durably.
//!
//! Files come from `.landfall/objects`, where they were held against their digests. Nothing is removed that was not
//! put there by the agent: a directory where a file must be stays, and is told.

use std::path::Path;

use landfall_agent_core::drift::{Finding, Remedy};
use landfall_common::disk::{Disk, EntryKind, parent};

use crate::error::AgentError;
use crate::layout;

/// A directory of a release is opened for the moment of a change.
const OPEN: u32 = 0o755;
const CLOSED: u32 = 0o555;

/// Where a file or link is made before it takes its place.
const TEMPORARY: &str = ".landfall/objects/mending";

/// Removes what was fetched to put these right.
pub fn clean(disk: &dyn Disk, findings: &[Finding]) {
    for finding in findings {
        if let Remedy::File { digest, executable, .. } = &finding.remedy {
            // What stays is swept away with the next release.
            let _ = super::remove_any(disk, &layout::object(*digest, *executable));
        }
    }
}

/// Puts one thing right. Doing it again does no harm.
///
/// # Errors
/// [`AgentError::Layout`] for what the agent may not do; [`AgentError::Disk`].
pub fn mend(disk: &dyn Disk, finding: &Finding) -> Result<(), AgentError> {
    let path = &*finding.path;
    match &finding.remedy {
        Remedy::File { digest, executable, .. } => {
            let object = layout::object(*digest, *executable);
            if disk.kind(&object)? != Some(EntryKind::File) {
                return Err(AgentError::Layout(
                    "what it must hold is not here any more; try again".to_owned(),
                ));
            }
            disk.sync_file(&object)?;
            // A second name, since more than one file may hold the same.
            let temporary = Path::new(TEMPORARY);
            super::remove_any(disk, temporary)?;
            // One that may have no more names goes itself.
            let from = if super::link(disk, &object, temporary)? { temporary } else { &object };
            in_open_directory(disk, path, &|| Ok(disk.rename(from, path)?))
        }
        Remedy::Link { target } => {
            let temporary = Path::new(TEMPORARY);
            super::remove_any(disk, temporary)?;
            disk.symlink(target, temporary)?;
            in_open_directory(disk, path, &|| Ok(disk.rename(temporary, path)?))
        }
        Remedy::Directory => in_open_directory(disk, path, &|| {
            disk.create_dir_all(path)?;
            Ok(disk.set_mode(path, CLOSED)?)
        }),
        Remedy::Mode { mode } => match disk.kind(path)? {
            Some(EntryKind::File | EntryKind::Dir) => Ok(disk.set_mode(path, *mode)?),
            _ => Err(AgentError::Layout("it is something else by now; look again".to_owned())),
        },
        Remedy::SharedDirectory => Ok(disk.ensure_dir(path)?),
        Remedy::SlotLink { slot, target, .. } => {
            in_slots(disk, &layout::slot(slot), &|temporary| Ok(disk.symlink(target, temporary)?))
        }
        Remedy::SlotFile { slot, content, .. } => {
            in_slots(disk, &layout::slot_environment(slot), &|temporary| {
                disk.write_atomic(temporary, content.as_bytes())?;
                // Whoever the service runs as reads it.
                Ok(disk.set_mode(temporary, 0o644)?)
            })
        }
        // Fetched and verified: it is in its place.
        Remedy::Object { .. } => Ok(()),
        Remedy::Current => Err(AgentError::Layout("the engine names the active release".to_owned())),
        Remedy::Lead | Remedy::Start { .. } | Remedy::Limits { .. } => {
            Err(AgentError::Layout("it is no matter of the disk".to_owned()))
        }
        Remedy::ByHand { what } => Err(AgentError::Layout(what.clone().into_owned())),
    }
}

/// What runs in a slot has it open, or has read it: it is replaced and never written to.
fn in_slots(
    disk: &dyn Disk,
    path: &Path,
    make: &dyn Fn(&Path) -> Result<(), AgentError>,
) -> Result<(), AgentError> {
    let temporary = Path::new(TEMPORARY);
    super::remove_any(disk, temporary)?;
    make(temporary)?;
    disk.ensure_dir(parent(path))?;
    disk.rename(temporary, path)?;
    Ok(disk.sync_dir(parent(path))?)
}

fn in_open_directory(
    disk: &dyn Disk,
    path: &Path,
    change: &dyn Fn() -> Result<(), AgentError>,
) -> Result<(), AgentError> {
    let above = parent(path);
    if disk.kind(above)? != Some(EntryKind::Dir) {
        return Err(AgentError::Layout("the directory that it is in is missing; it comes first".to_owned()));
    }
    let is_releases = above == Path::new(layout::RELEASES);
    if !is_releases {
        disk.set_mode(above, OPEN)?;
    }
    let changed = change();
    if !is_releases {
        disk.set_mode(above, CLOSED)?;
    }
    changed?;
    Ok(disk.sync_dir(above)?)
}
