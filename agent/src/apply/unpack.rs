//! Laying out the tree of a release beside the others, and publishing it by one rename.
//!
//! Files that another release has are hard links to its files, those that were fetched are renamed into
//! place; all are read-only. A step that runs as the owner of `releases/` could make such a file writable
//! and change it under every release that shares it: steps are given `{prepared}` to write to, and every
//! link is held against its digest when the next release is fetched.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use landfall_common::disk::{Disk, EntryKind};
use landfall_common::manifest::{Entry, Manifest};
use landfall_common::{ReleaseName, Sha256};

use super::remove_any;
use super::store::{LackingFile, PIECE_BYTES, Store, shared_paths};
use super::tree::Trees;
use crate::error::AgentError;
use crate::layout;

/// Mode of the directories of a release.
const DIRECTORY_MODE: u32 = 0o555;

/// Lays a release out and publishes it. What an earlier attempt left is removed first, and on an error all
/// that this one made.
///
/// # Errors
/// [`AgentError`]; then `releases/` is as it was, without this release.
pub fn unpack(
    disk: &Arc<dyn Disk>,
    name: &ReleaseName,
    manifest: &Manifest,
    bases: &[(ReleaseName, Sha256)],
) -> Result<(), AgentError> {
    let staging = layout::staging(name);
    remove_any(&**disk, &staging)?;
    remove_any(&**disk, &layout::release(name))?;
    let laid_out = lay_out(disk, &staging, manifest, bases).and_then(|()| {
        // One sync for everything: the files, the links, the manifest, the directory objects.
        disk.sync_tree(Path::new(""))?;
        disk.rename(&staging, &layout::release(name))?;
        Ok(disk.sync_dir(Path::new(layout::RELEASES))?)
    });
    if laid_out.is_err() {
        for leftover in [staging, layout::release(name)] {
            if let Err(error) = remove_any(&**disk, &leftover) {
                tracing::warn!(path = %leftover.display(), error = %crate::error::chain(&error), "a leftover stays");
            }
        }
    }
    laid_out
}

fn lay_out(
    disk: &Arc<dyn Disk>,
    staging: &Path,
    manifest: &Manifest,
    bases: &[(ReleaseName, Sha256)],
) -> Result<(), AgentError> {
    let hidden = shared_paths(manifest)?;
    let is_hidden = |path: &Path| hidden.iter().any(|shared| path.starts_with(shared));
    let mut trees = Trees::new(&**disk);
    let mut entries = Vec::new();
    let missing = trees.walk(manifest.tree, &mut |path, entry| {
        if !is_hidden(path) {
            entries.push((path.to_path_buf(), entry.clone()));
        }
        Ok(())
    })?;
    if let Some((digest, _)) = missing.first() {
        let reason = "it is not on this disk, though it was fetched".to_owned();
        return Err(AgentError::BadObject { wanted: *digest, reason });
    }
    let store = Store::new(disk.clone());
    // What was fetched comes first: a base that was changed on this host is why it was fetched.
    let mut fetched = store.fetched()?;
    let wanted = entries.iter().filter_map(|(_, entry)| match entry {
        Entry::File { digest, .. } => Some(*digest),
        Entry::Directory { .. } | Entry::Symlink { .. } => None,
    });
    let sources = store.sources(&mut trees, bases, &wanted.collect())?;
    let mut placed: BTreeMap<(Sha256, bool), PathBuf> = BTreeMap::new();
    let mut directories = vec![staging.to_path_buf()];
    disk.create_dir_all(staging)?;
    for (path, entry) in &entries {
        let place = staging.join(path);
        match entry {
            Entry::Directory { .. } => {
                disk.create_dir_all(&place)?;
                directories.push(place);
            }
            Entry::Symlink { target } => disk.symlink(Path::new(target), &place)?,
            Entry::File { digest, size, executable } => {
                let key = (*digest, *executable);
                let in_base = || sources.get(&key).filter(|_| !fetched.contains(&key));
                if let Some(twin) = placed.get(&key).or_else(in_base) {
                    if !super::link(&**disk, twin, &place)? {
                        copy(disk, &store, twin, *size, key)?;
                        disk.rename(&layout::object(*digest, *executable), &place)?;
                        placed.insert(key, place);
                    }
                } else if fetched.remove(&key) {
                    disk.rename(&layout::object(*digest, *executable), &place)?;
                    placed.insert(key, place);
                } else {
                    let reason = format!("{} is not on this disk, though it was fetched", path.display());
                    return Err(AgentError::BadObject { wanted: *digest, reason });
                }
            }
        }
    }
    link_shared(&**disk, staging, manifest, &mut directories)?;
    // The deepest first: a directory is closed after what is in it.
    directories.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    for directory in directories {
        disk.set_mode(&directory, DIRECTORY_MODE)?;
    }
    Ok(())
}

/// Puts a copy of a file where it would be had it been fetched.
fn copy(
    disk: &Arc<dyn Disk>,
    store: &Store,
    from: &Path,
    size: u64,
    (digest, executable): (Sha256, bool),
) -> Result<(), AgentError> {
    let mut writer = store.writer(&LackingFile { digest, size, plain: !executable, executable })?;
    let mut offset = 0;
    while offset < size {
        let piece = disk.read_at(from, offset, PIECE_BYTES)?;
        if piece.is_empty() {
            break;
        }
        offset += piece.len() as u64;
        writer.write(&piece)?;
    }
    writer.finish()
}

/// Links what outlives releases into this one: relative links, so that they hold wherever the whole lies.
fn link_shared(
    disk: &dyn Disk,
    staging: &Path,
    manifest: &Manifest,
    directories: &mut Vec<PathBuf>,
) -> Result<(), AgentError> {
    let shared = &manifest.program.shared;
    for path in &shared.directories {
        let place = Path::new(layout::SHARED).join(super::relative(path)?);
        match disk.kind(&place)? {
            Some(EntryKind::Dir | EntryKind::Symlink) => {}
            Some(_) => {
                let reason = format!("{} is no directory, and the release wants one", place.display());
                return Err(AgentError::Layout(reason));
            }
            None => disk.ensure_dir(&place)?,
        }
    }
    for path in &shared.files {
        let place = Path::new(layout::SHARED).join(super::relative(path)?);
        if disk.kind(&place)?.is_none() {
            let reason = format!(
                "the shared file {} is missing; put it there (it is the administrator's to keep), then stage again",
                disk.shown(&place).display()
            );
            return Err(AgentError::Layout(reason));
        }
    }
    for path in shared.directories.iter().chain(&shared.files) {
        let relative = super::relative(path)?;
        let link = staging.join(&relative);
        let mut parent = staging.to_path_buf();
        for part in relative.parent().into_iter().flat_map(Path::components) {
            parent.push(part);
            match disk.kind(&parent)? {
                Some(EntryKind::Dir) => {}
                None => {
                    disk.create_dir_all(&parent)?;
                    directories.push(parent.clone());
                }
                Some(_) => {
                    let reason = format!("the shared path {path:?} lies below a file or link of the release");
                    return Err(AgentError::Layout(reason));
                }
            }
        }
        disk.symlink(&shared_target(&relative), &link)?;
    }
    Ok(())
}

/// Where the link at a shared path of a release leads. From `releases/<release>/a/b/name`: one step up for each of
/// a, b, the release and `releases`.
pub(crate) fn shared_target(relative: &Path) -> PathBuf {
    let mut target: PathBuf = std::iter::repeat_n("..", relative.components().count() + 1).collect();
    target.push(layout::SHARED);
    target.push(relative);
    target
}
