//! Walking the tree of a release through its directory objects, each held against its digest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use landfall_common::Sha256;
use landfall_common::disk::Disk;
use landfall_common::manifest::{Directory, Entry, Links, link_target};

use crate::error::AgentError;
use crate::layout;

/// Deeper than this a tree is refused: paths would exceed what the system takes.
const MAX_DEPTH: usize = 128;

/// The trees of one disk, as somebody goes through them: releases share most of their directories, and what was
/// read for one is not read again for the next.
pub struct Trees<'a> {
    disk: &'a dyn Disk,
    read: BTreeMap<Sha256, Rc<Directory>>,
}

impl<'a> Trees<'a> {
    /// Of this disk.
    pub fn new(disk: &'a dyn Disk) -> Self {
        Self { disk, read: BTreeMap::new() }
    }

    /// A directory object that is here; `None` if it is missing or not what its name says.
    ///
    /// # Errors
    /// [`AgentError::Disk`], or [`AgentError::Manifest`] for signed bytes that break a rule.
    pub fn directory(&mut self, digest: Sha256) -> Result<Option<Rc<Directory>>, AgentError> {
        if let Some(directory) = self.read.get(&digest) {
            return Ok(Some(directory.clone()));
        }
        match self.disk.read(&layout::directory(digest))? {
            Some(bytes) if Sha256::of(&bytes) == digest => {
                let directory = Rc::new(Directory::from_bytes(&bytes)?);
                self.read.insert(digest, directory.clone());
                Ok(Some(directory))
            }
            _ => Ok(None),
        }
    }

    /// Visits every entry, a directory before what is in it. Returns the digests of the directory objects that
    /// are missing; what is below them is not visited.
    ///
    /// # Errors
    /// Those of `visit`; [`AgentError::Layout`] for a link that leaves the release.
    pub fn walk(
        &mut self,
        root: Sha256,
        visit: &mut dyn FnMut(&Path, &Entry) -> Result<(), AgentError>,
    ) -> Result<Vec<(Sha256, u64)>, AgentError> {
        let mut missing = Vec::new();
        let mut links = Links::default();
        let mut stack = vec![(PathBuf::new(), 0, root, 0)];
        while let Some((path, depth, digest, size)) = stack.pop() {
            if depth > MAX_DEPTH {
                return Err(AgentError::Layout(format!("{} is nested too deeply", path.display())));
            }
            let Some(directory) = self.directory(digest)? else {
                missing.push((digest, size));
                continue;
            };
            for (name, entry) in &directory.entries {
                let child = path.join(name);
                match entry {
                    Entry::Symlink { target } => {
                        link_target(depth, target)
                            .map_err(|rule| AgentError::Layout(format!("{}: {rule}", child.display())))?;
                        links.add(&child.to_string_lossy(), target);
                    }
                    Entry::Directory { digest, size } => {
                        stack.push((child.clone(), depth + 1, *digest, *size));
                    }
                    Entry::File { .. } => {}
                }
                visit(&child, entry)?;
            }
        }
        links.check().map_err(|(path, rule)| AgentError::Layout(format!("{path}: {rule}")))?;
        Ok(missing)
    }
}
