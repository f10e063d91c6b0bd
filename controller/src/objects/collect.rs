//! What no release needs any more goes: marked from the releases that keep their content, swept directory by
//! directory.
//!
//! The time of an object's file says when it was last stored or counted upon: whoever is told that an object is
//! here moves it to now ([`Depot::missing`]), so that an upload which relies on it finds it for as long as the
//! grace lasts. Nothing is removed that is marked, or younger than that. A crash in the middle leaves objects
//! that the next sweep finds.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use landfall_common::manifest::{Directory, Entry, MAX_DIRECTORY_BYTES, MAX_MANIFEST_BYTES, Manifest};
use landfall_common::{Duration, Sha256};

use super::{Depot, blocking};
use crate::error::{ControllerError, Reason};

/// The time of a file that is counted upon is moved when it is older than this; far below any grace.
pub(super) const COUNTED_ANEW_AFTER: Duration = Duration::from_secs(600);

/// The directories that objects lie in, by the first byte of their digest.
pub const SHARDS: std::ops::RangeInclusive<u8> = 0..=u8::MAX;

/// What is needed.
pub type Marked = HashSet<Sha256>;

/// What a sweep found, and did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Objects that are needed, and their compressed bytes.
    pub kept: u64,
    /// See [`Swept::kept`].
    pub kept_bytes: u64,
    /// Bytes of objects that are not needed and stay until their grace is over, or until the next sweep.
    pub freeable_bytes: u64,
    /// Objects that were removed, and their bytes.
    pub removed: usize,
    /// See [`Swept::removed`].
    pub removed_bytes: u64,
    /// Whether old ones were left, since more than the bound were found.
    pub more: bool,
}

impl Swept {
    /// Adds what another directory had.
    pub fn add(&mut self, other: Self) {
        self.kept += other.kept;
        self.kept_bytes += other.kept_bytes;
        self.freeable_bytes += other.freeable_bytes;
        self.removed += other.removed;
        self.removed_bytes += other.removed_bytes;
        self.more |= other.more;
    }
}

impl Depot {
    /// Marks a manifest and everything that its release is made of.
    ///
    /// # Errors
    /// Those of [`Depot::read`]: then not all of it is marked, and nothing may be swept.
    pub async fn mark(&self, manifest: Sha256, marked: &mut Marked) -> Result<(), ControllerError> {
        marked.insert(manifest);
        let mut directories = vec![self.tree_of(manifest).await?];
        while let Some(digest) = directories.pop() {
            if !marked.insert(digest) {
                continue;
            }
            let read = self.entries(digest).await;
            if read.is_err() {
                // Whoever comes to this directory by another release must not take it for walked.
                marked.remove(&digest);
            }
            let directory = read?;
            for entry in directory.entries.into_values() {
                match entry {
                    Entry::Directory { digest, .. } => directories.push(digest),
                    Entry::File { digest, .. } => {
                        marked.insert(digest);
                    }
                    Entry::Symlink { .. } => {}
                }
            }
        }
        Ok(())
    }

    /// How many of these objects the release of a manifest needs; one whose own directory is among them needs
    /// that one at least.
    ///
    /// # Errors
    /// [`ControllerError::Object`].
    pub async fn lacks(&self, manifest: Sha256, gone: &BTreeSet<Sha256>) -> Result<u64, ControllerError> {
        if gone.is_empty() {
            return Ok(0);
        }
        if gone.contains(&manifest) {
            return Ok(1);
        }
        let mut seen = BTreeSet::new();
        let mut directories = vec![self.tree_of(manifest).await?];
        while let Some(digest) = directories.pop() {
            if !seen.insert(digest) || gone.contains(&digest) {
                continue;
            }
            for entry in self.entries(digest).await?.entries.into_values() {
                match entry {
                    Entry::Directory { digest, .. } => directories.push(digest),
                    Entry::File { digest, .. } => {
                        seen.insert(digest);
                    }
                    Entry::Symlink { .. } => {}
                }
            }
        }
        Ok(seen.intersection(gone).count() as u64)
    }

    async fn tree_of(&self, manifest: Sha256) -> Result<Sha256, ControllerError> {
        let bytes = self.read(manifest, MAX_MANIFEST_BYTES).await?;
        let refuse = |error: String| ControllerError::refused(Reason::BadManifest, error);
        Ok(Manifest::from_bytes(&bytes).map_err(|error| refuse(error.in_full()))?.tree)
    }

    async fn entries(&self, digest: Sha256) -> Result<Directory, ControllerError> {
        let bytes = self.read(digest, MAX_DIRECTORY_BYTES).await?;
        let refuse = |error: String| ControllerError::refused(Reason::BadManifest, error);
        Directory::from_bytes(&bytes).map_err(|error| refuse(error.in_full()))
    }

    /// Sweeps one directory: removes at most `most` objects that are not marked and were not counted upon since
    /// `before`.
    ///
    /// # Errors
    /// [`ControllerError::File`].
    pub async fn sweep(
        &self,
        shard: u8,
        marked: Arc<Marked>,
        before: SystemTime,
        most: usize,
    ) -> Result<Swept, ControllerError> {
        let depot = self.clone();
        blocking(move || depot.sweep_directory(shard, &marked, before, most)).await
    }

    fn sweep_directory(
        &self,
        shard: u8,
        marked: &Marked,
        before: SystemTime,
        most: usize,
    ) -> Result<Swept, ControllerError> {
        let path = self.0.directory.join(format!("{shard:02x}"));
        let failed = |source| ControllerError::File { doing: "sweep", path: path.clone(), source };
        let mut swept = Swept::default();
        let listed = match std::fs::read_dir(&path) {
            Ok(listed) => listed,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(swept),
            Err(error) => return Err(failed(error)),
        };
        let mut old = Vec::new();
        for entry in listed {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let digest = name.to_str().and_then(|name| name.strip_suffix(".zst")?.parse().ok());
            // It may have been put aside or replaced a moment ago.
            let Some((bytes, stored)) = looked_up(&entry.path()) else { continue };
            match digest {
                Some(digest) if marked.contains(&digest) => {
                    swept.kept += 1;
                    swept.kept_bytes += bytes;
                }
                // What has no digest for a name is what an interrupted write has left.
                _ if stored < before && old.len() < most => old.push(entry.path()),
                _ => {
                    swept.freeable_bytes += bytes;
                    swept.more |= stored < before;
                }
            }
        }
        if old.is_empty() {
            return Ok(swept);
        }
        let _alone = self.0.removal.blocking_write();
        for path in old {
            // Looked at again, since nobody can count upon it any more from here on.
            let Some((bytes, stored)) = looked_up(&path) else { continue };
            if stored < before && std::fs::remove_file(&path).is_ok() {
                swept.removed += 1;
                swept.removed_bytes += bytes;
            } else {
                swept.freeable_bytes += bytes;
            }
        }
        Ok(swept)
    }

    /// Removes what is left of uploads that nobody has gone on with since `before`, and what was put aside of
    /// objects that nobody needs.
    ///
    /// # Errors
    /// [`ControllerError::File`].
    pub async fn sweep_uploads(
        &self,
        marked: Arc<Marked>,
        before: SystemTime,
    ) -> Result<(), ControllerError> {
        let depot = self.clone();
        blocking(move || {
            let uploads = &depot.0.uploads;
            let failed = |source| ControllerError::File { doing: "sweep", path: uploads.clone(), source };
            for entry in std::fs::read_dir(uploads).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let name = entry.file_name();
                let Some((stem, kind)) = name.to_str().and_then(|name| name.split_once('.')) else {
                    continue;
                };
                let Ok(digest) = stem.parse::<Sha256>() else { continue };
                let old = looked_up(&entry.path()).is_some_and(|(_, stored)| stored < before);
                let needless = match kind {
                    "part" => old && depot.abandoned(digest),
                    _ => old && !marked.contains(&digest),
                };
                if needless {
                    let _ = std::fs::remove_file(entry.path());
                }
            }
            Ok(())
        })
        .await
    }
}

/// The size of a file and when it was last stored or counted upon.
fn looked_up(path: &Path) -> Option<(u64, SystemTime)> {
    let meta = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    Some((meta.len(), meta.modified().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use landfall_common::manifest::{FORMAT, Origin, Program};
    use landfall_common::{AppName, ReleaseName};

    struct Place {
        _directory: tempfile::TempDir,
        depot: Depot,
    }

    impl Place {
        async fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let (objects, uploads) = (directory.path().join("o"), directory.path().join("u"));
            Self { depot: Depot::open(&objects, &uploads).await.unwrap(), _directory: directory }
        }

        /// A release of one file in a directory of its own, beside one that all have.
        async fn release(&self, content: &str) -> Sha256 {
            let file = async |content: &str| {
                let size = content.len() as u64;
                let digest = self.depot.store(content.into()).await.unwrap();
                Entry::File { digest, size, executable: false }
            };
            let inner = BTreeMap::from([("own".to_owned(), file(content).await)]);
            let inner = Directory { entries: inner }.to_bytes().unwrap();
            let size = inner.len() as u64;
            let digest = self.depot.store(inner).await.unwrap();
            let entries = BTreeMap::from([
                ("inner".to_owned(), Entry::Directory { digest, size }),
                ("shared".to_owned(), file("shared").await),
            ]);
            let manifest = Manifest {
                format: FORMAT,
                application: AppName::new("shop").unwrap(),
                release: ReleaseName::new("v1").unwrap(),
                origin: Origin::Artifact { commit: None },
                tree: self.depot.store(Directory { entries }.to_bytes().unwrap()).await.unwrap(),
                file_count: 2,
                total_bytes: 0,
                program: Program::default(),
                environments: BTreeMap::new(),
            };
            self.depot.store(manifest.to_bytes().unwrap()).await.unwrap()
        }

        async fn marked(&self, manifests: &[Sha256]) -> Arc<Marked> {
            let mut marked = Marked::new();
            for manifest in manifests {
                self.depot.mark(*manifest, &mut marked).await.unwrap();
            }
            Arc::new(marked)
        }

        async fn sweep(&self, marked: &Arc<Marked>, before: SystemTime, most: usize) -> Swept {
            let mut swept = Swept::default();
            for shard in SHARDS {
                let left = most - swept.removed;
                swept.add(self.depot.sweep(shard, marked.clone(), before, left).await.unwrap());
            }
            swept
        }

        async fn has(&self, content: &str) -> bool {
            self.depot.size(Sha256::of(content.as_bytes())).await.unwrap().is_some()
        }

        /// As if it had lain there for a day.
        fn age(&self, content: &str) {
            let path = self.depot.path(Sha256::of(content.as_bytes()));
            let file = std::fs::File::open(path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(86_400)).unwrap();
        }
    }

    fn later() -> SystemTime {
        SystemTime::now() + Duration::from_secs(60)
    }

    #[tokio::test]
    async fn what_a_kept_release_needs_stays_and_the_rest_goes() {
        let place = Place::new().await;
        let (old, new) = (place.release("old").await, place.release("new").await);
        let marked = place.marked(&[new]).await;
        let swept = place.sweep(&marked, later(), 100).await;
        // The old file, its directory, its tree and its manifest.
        assert_eq!((swept.kept, swept.removed, swept.more), (5, 4, false));
        assert!(place.has("new").await && place.has("shared").await && !place.has("old").await);
        assert!(place.depot.read(new, MAX_MANIFEST_BYTES).await.is_ok());
        assert!(place.depot.mark(old, &mut Marked::new()).await.is_err());
        let swept = place.sweep(&marked, later(), 100).await;
        assert_eq!((swept.kept, swept.removed, swept.freeable_bytes), (5, 0, 0));
    }

    #[tokio::test]
    async fn what_an_upload_counts_upon_stays() {
        let place = Place::new().await;
        for content in ["asked for", "forgotten"] {
            place.depot.store(content.into()).await.unwrap();
            place.age(content);
        }
        let asked = Sha256::of(b"asked for");
        assert!(place.depot.missing(vec![asked]).await.unwrap().is_empty());
        let before = SystemTime::now() - Duration::from_secs(3600);
        let swept = place.sweep(&place.marked(&[]).await, before, 100).await;
        assert_eq!(swept.removed, 1);
        assert!(place.has("asked for").await && !place.has("forgotten").await);
        // The controller's own: a manifest that is published again.
        place.age("asked for");
        place.depot.store(b"asked for".to_vec()).await.unwrap();
        assert_eq!(place.sweep(&place.marked(&[]).await, before, 100).await.removed, 0);
    }

    #[tokio::test]
    async fn a_sweep_is_bounded_and_says_that_there_is_more() {
        let place = Place::new().await;
        for number in 0..7 {
            place.depot.store(format!("object {number}").into()).await.unwrap();
        }
        let marked = place.marked(&[]).await;
        let mut rounds = Vec::new();
        loop {
            let swept = place.sweep(&marked, later(), 3).await;
            rounds.push(swept.removed);
            if !swept.more {
                break;
            }
            assert!(swept.freeable_bytes > 0);
        }
        assert_eq!(rounds, [3, 3, 1]);
    }

    #[tokio::test]
    async fn a_release_that_cannot_be_read_whole_is_not_taken_for_marked() {
        let place = Place::new().await;
        let manifest = place.release("old").await;
        let gone = place.depot.tree_of(manifest).await.unwrap();
        std::fs::remove_file(place.depot.path(gone)).unwrap();
        let mut marked = Marked::new();
        assert!(place.depot.mark(manifest, &mut marked).await.is_err());
        assert!(place.depot.mark(manifest, &mut marked).await.is_err(), "the second look is no better");
        assert_eq!(place.depot.lacks(manifest, &BTreeSet::from([gone])).await.unwrap(), 1);
        assert_eq!(place.depot.lacks(manifest, &BTreeSet::new()).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn what_interrupted_uploads_left_goes_in_time() {
        let place = Place::new().await;
        let digest = Sha256::of(b"large");
        let mut upload = place.depot.upload(digest, 0).unwrap();
        upload.write(&vec![7; 2 << 20]).await.unwrap();
        let marked = place.marked(&[]).await;
        place.depot.sweep_uploads(marked.clone(), later()).await.unwrap();
        assert!(place.depot.kept(digest) > 0, "it is going on");
        drop(upload);
        place.depot.sweep_uploads(marked.clone(), SystemTime::UNIX_EPOCH).await.unwrap();
        assert!(place.depot.kept(digest) > 0, "somebody may come back for it");
        place.depot.sweep_uploads(marked, later()).await.unwrap();
        assert_eq!(place.depot.kept(digest), 0);
    }
}
