//! Removing what no release needs any more, a piece at a time and never in a release's way.
//!
//! A release is first renamed to `.trash-…`, so that it is there whole or not at all, and then removed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use landfall_common::disk::Disk;
use landfall_common::manifest::Entry;
use landfall_common::{ReleaseName, Sha256};

use super::remove_any;
use super::tree::Trees;
use crate::error::AgentError;
use crate::layout;

/// What is left to do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "nothing is removed until its pieces are carried out"]
pub struct Sweep {
    keep: BTreeSet<ReleaseName>,
    /// The trees of the releases that stay, if they are all known.
    trees: Option<Vec<Sha256>>,
    /// What could not be removed, and is left to the next sweep: one file of another user's must not keep
    /// everything else on the disk.
    left: BTreeSet<PathBuf>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Releases,
    Objects,
}

impl Sweep {
    /// Everything that was made here goes but these releases. `trees` are theirs: then the objects that none of
    /// them needs go as well, and what was fetched and not laid out. Without them (something is being fetched)
    /// objects stay.
    pub fn new(keep: BTreeSet<ReleaseName>, trees: Option<Vec<Sha256>>) -> Self {
        Self { keep, trees, left: BTreeSet::new(), stage: Stage::Releases }
    }

    /// Does one piece: removes one release, or the objects. `false` when nothing is left.
    ///
    /// # Errors
    /// [`AgentError::Disk`]; the next call goes on with something else, and does not try this again.
    pub fn work(&mut self, disk: &dyn Disk) -> Result<bool, AgentError> {
        match self.stage {
            Stage::Releases => {
                match self.next_release(disk)? {
                    Some(path) => {
                        if let Err(error) = remove_release(disk, &path) {
                            self.left.insert(path);
                            return Err(error);
                        }
                    }
                    None => self.stage = Stage::Objects,
                }
                Ok(true)
            }
            Stage::Objects => {
                if let Some(trees) = self.trees.take() {
                    remove_objects(disk, &trees)?;
                }
                Ok(false)
            }
        }
    }

    fn next_release(&self, disk: &dyn Disk) -> Result<Option<PathBuf>, AgentError> {
        // Whatever the record says: the very first swap may have failed after its rename.
        let current = super::current(disk)?;
        let stays = |name: &str| self.keep.iter().chain(&current).any(|kept| kept.as_str() == name);
        for parent in [layout::RELEASES, layout::PREPARED, layout::MANIFESTS, layout::INVENTORIES] {
            for entry in disk.list(Path::new(parent))? {
                let name = entry.name.to_string_lossy();
                let plain = name.strip_prefix(layout::STAGING_PREFIX).unwrap_or(&name);
                let path = Path::new(parent).join(&entry.name);
                // A manifest goes after its release: it shows whose that is.
                let stays_yet = match parent {
                    layout::RELEASES => !is_ours(disk, &name)?,
                    layout::MANIFESTS => disk.kind(&Path::new(layout::RELEASES).join(&entry.name))?.is_some(),
                    _ => false,
                };
                if !stays(plain) && !stays_yet && !self.left.contains(&path) {
                    return Ok(Some(path));
                }
            }
        }
        Ok(None)
    }
}

/// Whether this agent has made what has this name in `releases/`. Whatever deployed to the host before may have
/// left releases of its own there, and may still run one of them. A manifest is there before its release is, and
/// goes after it.
fn is_ours(disk: &dyn Disk, name: &str) -> Result<bool, AgentError> {
    if [layout::STAGING_PREFIX, layout::TRASH_PREFIX].iter().any(|prefix| name.starts_with(prefix)) {
        return Ok(true);
    }
    Ok(disk.kind(&Path::new(layout::MANIFESTS).join(name))?.is_some())
}

fn remove_release(disk: &dyn Disk, path: &Path) -> Result<(), AgentError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with('.') {
        return remove_any(disk, path);
    }
    let trash = path.with_file_name(format!("{}{name}", layout::TRASH_PREFIX));
    remove_any(disk, &trash)?;
    disk.rename(path, &trash)?;
    disk.sync_dir(path.parent().unwrap_or(Path::new("")))?;
    remove_any(disk, &trash)
}

fn remove_objects(disk: &dyn Disk, trees: &[Sha256]) -> Result<(), AgentError> {
    let mut directories = Trees::new(disk);
    let mut needed = BTreeSet::new();
    let mut unseen = trees.to_vec();
    while let Some(digest) = unseen.pop() {
        if !needed.insert(digest.to_string()) {
            continue;
        }
        let Some(directory) = directories.directory(digest)? else { continue };
        unseen.extend(directory.entries.values().filter_map(|entry| match entry {
            Entry::Directory { digest, .. } => Some(*digest),
            Entry::File { .. } | Entry::Symlink { .. } => None,
        }));
    }
    for entry in disk.list(Path::new(layout::DIRS))? {
        if !needed.contains(&*entry.name.to_string_lossy()) {
            remove_any(disk, &Path::new(layout::DIRS).join(&entry.name))?;
        }
    }
    for parent in [layout::OBJECTS, layout::PARTIAL] {
        for entry in disk.list(Path::new(parent))? {
            remove_any(disk, &Path::new(parent).join(&entry.name))?;
        }
    }
    Ok(())
}
