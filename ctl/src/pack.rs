//! From a tree on the disk to content-addressed objects: the same tree gives the same digest, always.
//!
//! Only names, contents, links and the executable bit count; times, owners and other modes do not. Objects
//! go to a local cache in the form in which they are uploaded; nothing here talks to a network.

pub mod cache;
pub mod unpack;
pub mod walk;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use landfall_common::manifest::{Directory, Entry, MAX_DIRECTORY_BYTES};
use landfall_common::{Sha256, canonical};

use crate::error::Error;
pub use cache::{CACHE_BYTES, ObjectCache};
pub use walk::{Globs, Node};

/// At most so many threads hash and compress: an operator's machine has other work too.
const THREADS: usize = 2;

/// A tree, packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// The digest of the root directory object.
    pub tree: Sha256,
    /// How many files it holds.
    pub file_count: u64,
    /// The sum of their sizes.
    pub total_bytes: u64,
    /// The digest over the paths and contents of the files that define the schema; none if no glob is
    /// given or no file matches.
    pub schema: Option<Sha256>,
}

/// Who wants to know how far the packing is.
pub trait Progress: Sync {
    /// So many files and bytes are to be packed.
    fn total(&self, files: u64, bytes: u64);
    /// One more file, of that size or with so many bytes left, is done.
    fn file(&self, bytes: u64);
    /// So many more bytes of a large file are done.
    fn bytes(&self, bytes: u64);
}

/// Nobody does.
pub struct Silent;

impl Progress for Silent {
    fn total(&self, _files: u64, _bytes: u64) {}
    fn file(&self, _bytes: u64) {}
    fn bytes(&self, _bytes: u64) {}
}

/// One file to be hashed.
struct Job<'n> {
    place: String,
    path: &'n Path,
    size: u64,
}

/// Packs a tree.
///
/// # Errors
/// [`Error::Tree`] for what a release must not hold, [`Error::EmptyTree`], [`Error::Io`],
/// [`Error::Changed`].
pub fn pack(
    root: &Path,
    exclude: &Globs,
    schema_files: &Globs,
    cache: &ObjectCache,
    progress: &impl Progress,
) -> Result<Packed, Error> {
    let tree = walk::walk(root, exclude)?;
    let mut jobs = Vec::new();
    collect(&tree, "", &mut jobs);
    if jobs.is_empty() {
        return Err(Error::EmptyTree);
    }
    let total_bytes = jobs.iter().map(|job| job.size).sum();
    progress.total(jobs.len() as u64, total_bytes);
    let digests = hash(&jobs, cache, progress)?;
    let schema: BTreeMap<&str, &Sha256> = jobs
        .iter()
        .zip(&digests)
        .filter(|(job, _)| schema_files.contain(&job.place))
        .map(|(job, digest)| (job.place.as_str(), digest))
        .collect();
    let schema = if schema.is_empty() {
        None
    } else {
        let bytes = canonical::to_vec(&schema).expect("texts and digests have a canonical form");
        Some(Sha256::of(&bytes))
    };
    let file_count = jobs.len() as u64;
    drop(jobs);
    let (tree, _) = directory(&tree, &mut digests.into_iter(), "", cache)?;
    Ok(Packed { tree, file_count, total_bytes, schema })
}

/// The files of a tree, in the order in which [`directory`] meets them.
fn collect<'n>(tree: &'n BTreeMap<String, Node>, inside: &str, jobs: &mut Vec<Job<'n>>) {
    for (name, node) in tree {
        let place = crate::git::join(inside, name);
        match node {
            Node::File { path, size, .. } => jobs.push(Job { place, path, size: *size }),
            Node::Directory(below) => collect(below, &place, jobs),
            Node::Symlink { .. } => {}
        }
    }
}

fn hash(jobs: &[Job<'_>], cache: &ObjectCache, progress: &impl Progress) -> Result<Vec<Sha256>, Error> {
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(index) else { return done };
            match cache.put_file(job.path, job.size) {
                Ok(digest) => done.push((index, digest)),
                Err(error) => {
                    // No thread takes another job; the first failure is the one that is told.
                    next.store(jobs.len(), Ordering::Relaxed);
                    let mut slot = failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    slot.get_or_insert(error);
                    return done;
                }
            }
            progress.file(job.size);
        }
    };
    let mut done: Vec<(usize, Sha256)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS.min(jobs.len())).map(|_| scope.spawn(work)).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| match thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        threads.into_iter().flat_map(join).collect()
    });
    if let Some(error) = failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        return Err(error);
    }
    done.sort_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, digest)| digest).collect())
}

/// Writes the objects of a directory and all below it.
fn directory(
    tree: &BTreeMap<String, Node>,
    files: &mut impl Iterator<Item = Sha256>,
    inside: &str,
    cache: &ObjectCache,
) -> Result<(Sha256, u64), Error> {
    let mut object = Directory::default();
    for (name, node) in tree {
        let entry = match node {
            Node::File { size, executable, .. } => {
                let digest = files.next().expect("each file was hashed, in this order");
                Entry::File { digest, size: *size, executable: *executable }
            }
            Node::Symlink { target } => Entry::Symlink { target: target.clone() },
            Node::Directory(below) => {
                let (digest, size) = directory(below, files, &crate::git::join(inside, name), cache)?;
                Entry::Directory { digest, size }
            }
        };
        object.entries.insert(name.clone(), entry);
    }
    let bytes = object.to_bytes()?;
    if bytes.len() > MAX_DIRECTORY_BYTES {
        let place = if inside.is_empty() { "the root" } else { inside };
        let count = object.entries.len();
        return Err(Error::Tree {
            problems: vec![format!("{place}: {count} entries are more than one directory may hold")],
        });
    }
    Ok((cache.put(&bytes)?, bytes.len() as u64))
}

/// The digest of one regular file of a packed tree, by its path below the root.
///
/// # Errors
/// [`Error::ImageFile`] if there is none; [`Error::CacheDamaged`], [`Error::Manifest`].
pub fn file(tree: &Sha256, path: &str, cache: &ObjectCache) -> Result<Sha256, Error> {
    let missing = || Error::ImageFile { path: path.to_owned() };
    let mut digest = *tree;
    let mut parts = path.split('/').peekable();
    while let Some(part) = parts.next() {
        let object = Directory::from_bytes(&cache.read(&digest, MAX_DIRECTORY_BYTES)?)?;
        digest = match (object.entries.get(part), parts.peek()) {
            (Some(Entry::Directory { digest, .. }), Some(_)) | (Some(Entry::File { digest, .. }), None) => {
                *digest
            }
            _ => return Err(missing()),
        };
    }
    Ok(digest)
}

/// Every object of a packed tree that is in the cache, each once, with its compressed size; directories
/// before what they hold. None if one is missing: then the tree has to be packed again.
///
/// # Errors
/// [`Error::CacheDamaged`], [`Error::Manifest`].
pub fn objects(tree: Sha256, cache: &ObjectCache) -> Result<Option<BTreeMap<Sha256, u64>>, Error> {
    let mut found = BTreeMap::new();
    let mut directories = vec![tree];
    while let Some(digest) = directories.pop() {
        if !cache.has_for_use(&digest) {
            return Ok(None);
        }
        if found.insert(digest, cache.compressed_bytes(&digest)?).is_some() {
            continue;
        }
        let object = Directory::from_bytes(&cache.read(&digest, MAX_DIRECTORY_BYTES)?)?;
        for entry in object.entries.values() {
            match entry {
                Entry::Directory { digest, .. } => directories.push(*digest),
                Entry::File { digest, .. } => {
                    if !cache.has_for_use(digest) {
                        return Ok(None);
                    }
                    found.insert(*digest, cache.compressed_bytes(digest)?);
                }
                Entry::Symlink { .. } => {}
            }
        }
    }
    Ok(Some(found))
}

#[cfg(test)]
mod tests;
