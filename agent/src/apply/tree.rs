//! Walking the tree of a release through its directory objects, each held against its digest.

use std::path::{Path, PathBuf};

use landfall_common::Sha256;
use landfall_common::disk::Disk;
use landfall_common::manifest::{Directory, Entry, link_target};

use crate::error::AgentError;
use crate::layout;

/// Deeper than this a tree is refused: paths would exceed what the system takes.
const MAX_DEPTH: usize = 128;

/// A directory object that is here; `None` if it is missing or not what its name says.
///
/// # Errors
/// [`AgentError::Disk`], or [`AgentError::Manifest`] for signed bytes that break a rule.
pub fn directory(disk: &dyn Disk, digest: Sha256) -> Result<Option<Directory>, AgentError> {
    match disk.read(&layout::directory(digest))? {
        Some(bytes) if Sha256::of(&bytes) == digest => Ok(Some(Directory::from_bytes(&bytes)?)),
        _ => Ok(None),
    }
}

/// Visits every entry, a directory before what is in it. Returns the digests of the directory objects that
/// are missing; what is below them is not visited.
///
/// # Errors
/// Those of `visit`; [`AgentError::Layout`] for a link that leaves the release.
pub fn walk(
    disk: &dyn Disk,
    root: Sha256,
    visit: &mut dyn FnMut(&Path, &Entry) -> Result<(), AgentError>,
) -> Result<Vec<(Sha256, u64)>, AgentError> {
    let mut missing = Vec::new();
    let mut stack = vec![(PathBuf::new(), 0, root, 0)];
    while let Some((path, depth, digest, size)) = stack.pop() {
        if depth > MAX_DEPTH {
            return Err(AgentError::Layout(format!("{} is nested too deeply", path.display())));
        }
        let Some(directory) = directory(disk, digest)? else {
            missing.push((digest, size));
            continue;
        };
        for (name, entry) in &directory.entries {
            let child = path.join(name);
            match entry {
                Entry::Symlink { target } => link_target(depth, target)
                    .map_err(|rule| AgentError::Layout(format!("{}: {rule}", child.display())))?,
                Entry::Directory { digest, size } => stack.push((child.clone(), depth + 1, *digest, *size)),
                Entry::File { .. } => {}
            }
            visit(&child, entry)?;
        }
    }
    Ok(missing)
}
