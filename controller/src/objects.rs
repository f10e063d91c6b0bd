//! Objects: the files, directories and manifests of releases, named by the SHA-256 of their content and
//! kept compressed with zstd.
//!
//! An object is there whole and verified, or not at all. New ones are made durable together, by
//! [`Depot::sync`] before a release that needs them is published; after a crash those that were not are
//! verified again. Uploads are in [`upload`], the walk over a release in [`tree`], what happens to damaged ones
//! in [`damage`], and how those go that nobody needs in [`collect`].

pub mod collect;
mod damage;
pub mod tree;
mod unpack;
pub mod upload;

use std::collections::BTreeSet;
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use bytes::Bytes;
use futures::TryStreamExt as _;
use landfall_common::Sha256;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt as _};

use crate::error::{ControllerError, Reason};
use crate::private_file;
pub use unpack::{MAX_OBJECT_BYTES, Unpacking};

/// What is read and sent at once.
pub const CHUNK_BYTES: usize = 64 * 1024;

/// How much of the objects that are asked for together is read before it is sent.
const READ_AHEAD_BYTES: usize = 4 * CHUNK_BYTES;

/// Says, while it is there, that objects were stored that the disk may not have yet.
const MARKER: &str = "unsynced";

/// The objects.
#[derive(Clone)]
pub struct Depot(Arc<Inner>);

struct Inner {
    store: Arc<dyn ObjectStore>,
    directory: PathBuf,
    uploads: PathBuf,
    unsynced: AtomicBool,
    /// Objects whose upload is too large for memory and has a file: one upload at a time has it.
    uploading: Mutex<BTreeSet<Sha256>>,
    /// Held for reading while an object is stored or counted upon, for writing while some are removed.
    removal: tokio::sync::RwLock<()>,
    /// Objects that were found whole lately.
    whole: Mutex<damage::Whole>,
    /// Who looks at a large object.
    looks: tokio::sync::Semaphore,
}

/// A piece of an object's compressed form.
#[derive(Debug)]
pub struct Piece {
    /// The bytes.
    pub data: Bytes,
    /// The size of the whole compressed form.
    pub compressed_bytes: u64,
}

impl Depot {
    /// Opens the directory, made if it is not there, and verifies what the last run had not made durable.
    /// Partial uploads are in `uploads`.
    ///
    /// # Errors
    /// [`ControllerError::File`] if a directory cannot be used.
    pub async fn open(directory: &Path, uploads: &Path) -> Result<Self, ControllerError> {
        private_file::directory(directory)?;
        private_file::directory(uploads)?;
        // Not synced one by one: `sync` does it for all at once.
        let store = LocalFileSystem::new_with_prefix(directory).map_err(|error| ControllerError::File {
            doing: "use the directory of objects",
            path: directory.to_owned(),
            source: io::Error::other(error),
        })?;
        let depot = Self(Arc::new(Inner {
            store: Arc::new(store),
            directory: directory.to_owned(),
            uploads: uploads.to_owned(),
            unsynced: AtomicBool::new(false),
            uploading: Mutex::default(),
            removal: tokio::sync::RwLock::new(()),
            whole: Mutex::default(),
            looks: tokio::sync::Semaphore::new(damage::LOOKS),
        }));
        depot.recover().await?;
        Ok(depot)
    }

    /// Verifies every object that was stored since the marker was set, and drops what a crash has torn.
    async fn recover(&self) -> Result<(), ControllerError> {
        let marker = self.marker();
        let Ok(since) = std::fs::metadata(&marker).and_then(|marker| marker.modified()) else {
            return Ok(());
        };
        self.0.unsynced.store(true, Ordering::Release);
        let listed: Vec<ObjectMeta> = self.0.store.list(None).try_collect().await.map_err(|error| {
            let path = self.0.directory.clone();
            ControllerError::File { doing: "list the objects in", path, source: io::Error::other(error) }
        })?;
        // File times are coarse: a margin costs only the verification of a few objects more.
        let since = since - std::time::Duration::from_secs(2);
        let mut dropped = 0;
        for meta in listed {
            if SystemTime::from(meta.last_modified) < since {
                continue;
            }
            let whole = match digest_of(&meta.location) {
                Some(digest) => self.verify_stored(digest).await.is_ok(),
                None => false,
            };
            if !whole {
                dropped += 1;
                let _ = self.0.store.delete(&meta.location).await;
            }
        }
        if dropped > 0 {
            tracing::warn!(
                dropped,
                "objects that the last run had not made durable were torn; upload them again"
            );
        }
        self.sync().await
    }

    async fn verify_stored(&self, digest: Sha256) -> Result<(), ControllerError> {
        let (mut offset, mut pieces) = (0, Unpacking::new(digest)?);
        loop {
            let piece = self.piece(digest, offset).await?;
            offset += piece.data.len() as u64;
            pieces.feed(&piece.data, |_| {})?;
            if offset >= piece.compressed_bytes {
                return pieces.end();
            }
        }
    }

    fn marker(&self) -> PathBuf {
        self.0.uploads.join(MARKER)
    }

    /// Before the first object that is not durable at once.
    fn mark_unsynced(&self) -> Result<(), ControllerError> {
        if !self.0.unsynced.load(Ordering::Acquire) {
            private_file::write(&self.marker(), b"")?;
            self.0.unsynced.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Makes everything durable that was stored so far.
    ///
    /// # Errors
    /// [`ControllerError::File`] if the disk refuses.
    pub async fn sync(&self) -> Result<(), ControllerError> {
        // Cleared before the sync: what is stored meanwhile sets it again.
        if !self.0.unsynced.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let depot = self.clone();
        blocking(move || {
            let failed = |source| {
                depot.0.unsynced.store(true, Ordering::Release);
                ControllerError::File { doing: "sync", path: depot.0.directory.clone(), source }
            };
            let directory = std::fs::File::open(&depot.0.directory).map_err(failed)?;
            rustix::fs::syncfs(&directory).map_err(|error| failed(error.into()))?;
            if !depot.0.unsynced.load(Ordering::Acquire) {
                let _ = std::fs::remove_file(depot.marker());
            }
            Ok(())
        })
        .await
    }

    /// Whether an object is here, and the size of its compressed form.
    ///
    /// # Errors
    /// [`ControllerError::Object`] if that cannot be found out.
    pub async fn size(&self, digest: Sha256) -> Result<Option<u64>, ControllerError> {
        Ok(self.meta(digest).await?.map(|meta| meta.size))
    }

    async fn meta(&self, digest: Sha256) -> Result<Option<ObjectMeta>, ControllerError> {
        match self.0.store.head(&location(digest)).await {
            Ok(meta) => Ok(Some(meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(object_error("looked up", digest, error)),
        }
    }

    /// Those of these objects that are not here, with how much of each is kept from an interrupted upload. The
    /// others are counted upon from now on: see [`collect`].
    ///
    /// # Errors
    /// [`ControllerError::Object`].
    pub async fn missing(&self, digests: Vec<Sha256>) -> Result<Vec<(Sha256, u64)>, ControllerError> {
        let _no_removal = self.0.removal.read().await;
        let depot = self.clone();
        // One task for all: each look is a single call of the system, cheaper than a task of its own.
        blocking(move || {
            let now = SystemTime::now();
            let lately = now - collect::COUNTED_ANEW_AFTER;
            let mut missing = Vec::new();
            for digest in digests {
                let path = depot.path(digest);
                let looked_up = match std::fs::metadata(&path).and_then(|meta| meta.modified()) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        missing.push((digest, depot.kept(digest)));
                        Ok(())
                    }
                    Ok(counted) if counted < lately => {
                        std::fs::File::open(&path).and_then(|file| file.set_modified(now))
                    }
                    other => other.map(drop),
                };
                looked_up.map_err(|error| object_error("looked up", digest, error))?;
            }
            Ok(missing)
        })
        .await
    }

    /// One piece of an object's compressed form, from this offset on; empty at its end.
    ///
    /// # Errors
    /// [`Reason::NotFound`], [`ControllerError::Object`].
    pub async fn piece(&self, digest: Sha256, offset: u64) -> Result<Piece, ControllerError> {
        if offset > 0 {
            let size = self.size(digest).await?.ok_or_else(|| self.absent(digest))?;
            if offset >= size {
                return Ok(Piece { data: Bytes::new(), compressed_bytes: size });
            }
        }
        let range = GetRange::Bounded(offset..offset + CHUNK_BYTES as u64);
        let options = GetOptions { range: Some(range), ..GetOptions::default() };
        let result = match self.0.store.get_opts(&location(digest), options).await {
            Ok(result) => result,
            Err(object_store::Error::NotFound { .. }) => return Err(self.absent(digest)),
            Err(error) => return Err(object_error("read", digest, error)),
        };
        let compressed_bytes = result.meta.size;
        let data = result.bytes().await.map_err(|error| object_error("read", digest, error))?;
        Ok(Piece { data, compressed_bytes })
    }

    /// The first pieces of several objects, each from its offset on: of as many of them, one at least, as come
    /// to about [`READ_AHEAD_BYTES`]. A release is thousands of small files, and a way to another thread and
    /// back for each would cost more than reading it.
    ///
    /// # Errors
    /// [`Reason::NotFound`] if the very first is not here, [`Reason::ObjectDamaged`],
    /// [`ControllerError::Object`]. What is wrong with a later one is told when it is its turn.
    pub async fn first_pieces(&self, ranges: Vec<(Sha256, u64)>) -> Result<Vec<Piece>, ControllerError> {
        let depot = self.clone();
        blocking(move || {
            let (mut pieces, mut bytes, mut unpacking) = (Vec::new(), 0, None);
            for (digest, offset) in ranges {
                match depot.read_piece(digest, offset, &mut unpacking) {
                    Ok(piece) => {
                        bytes += piece.data.len();
                        pieces.push(piece);
                    }
                    Err(error) if pieces.is_empty() => return Err(error),
                    Err(_) => break,
                }
                if bytes >= READ_AHEAD_BYTES {
                    break;
                }
            }
            Ok(pieces)
        })
        .await
    }

    /// As [`Depot::piece`], straight from the directory.
    fn read_piece(
        &self,
        digest: Sha256,
        offset: u64,
        unpacking: &mut Option<Unpacking>,
    ) -> Result<Piece, ControllerError> {
        let path = self.path(digest);
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => self.absent(digest),
            _ => object_error("read", digest, error),
        };
        let mut file = std::fs::File::open(path).map_err(failed)?;
        let compressed_bytes = file.metadata().map_err(failed)?.len();
        if offset > 0 {
            file.seek(io::SeekFrom::Start(offset)).map_err(failed)?;
        }
        let rest = usize::try_from(compressed_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut data = Vec::with_capacity(rest.min(CHUNK_BYTES));
        file.take(CHUNK_BYTES as u64).read_to_end(&mut data).map_err(failed)?;
        let piece = Piece { data: data.into(), compressed_bytes };
        if offset == 0 {
            self.vouch(digest, &piece, unpacking)?;
        }
        Ok(piece)
    }

    /// An object's content, unpacked and verified, if it has at most `max` bytes.
    ///
    /// # Errors
    /// [`Reason::NotFound`], [`Reason::BadObject`] if it has more, [`Reason::ObjectDamaged`],
    /// [`ControllerError::Object`].
    pub async fn read(&self, digest: Sha256, max: usize) -> Result<Vec<u8>, ControllerError> {
        let mut content = Vec::new();
        let mut unpacking = Unpacking::new(digest)?;
        let mut offset = 0;
        loop {
            let piece = self.piece(digest, offset).await?;
            offset += piece.data.len() as u64;
            let mut too_long = false;
            let fed = unpacking.feed(&piece.data, |bytes| {
                too_long |= content.len() + bytes.len() > max;
                if !too_long {
                    content.extend_from_slice(bytes);
                }
            });
            if fed.is_err() {
                return Err(self.damaged(digest).await);
            }
            if too_long {
                return Err(bad_object(digest, format!("it has more than {max} bytes")));
            }
            if offset >= piece.compressed_bytes {
                if unpacking.end().is_err() {
                    return Err(self.damaged(digest).await);
                }
                return Ok(content);
            }
        }
    }

    /// Stores content that the controller itself was given whole, such as a manifest.
    ///
    /// # Errors
    /// [`ControllerError::Object`].
    pub async fn store(&self, content: Vec<u8>) -> Result<Sha256, ControllerError> {
        let digest = Sha256::of(&content);
        if !self.missing(vec![digest]).await?.is_empty() {
            let compressed = zstd::bulk::compress(&content, 3)
                .map_err(|error| object_error("compressed", digest, error))?;
            self.put(digest, compressed.into()).await?;
        }
        Ok(digest)
    }

    async fn put(&self, digest: Sha256, compressed: Bytes) -> Result<(), ControllerError> {
        self.mark_unsynced()?;
        let _no_removal = self.0.removal.read().await;
        let stored = self.0.store.put(&location(digest), compressed.into()).await;
        stored.map_err(|error| object_error("stored", digest, error))?;
        self.replaced(digest);
        // A sync that ran meanwhile may have come too early for this one.
        self.mark_unsynced()
    }
}

fn location(digest: Sha256) -> ObjectPath {
    let name = digest.to_string();
    ObjectPath::from(format!("{}/{name}.zst", &name[..2]))
}

fn digest_of(location: &ObjectPath) -> Option<Sha256> {
    location.filename()?.strip_suffix(".zst")?.parse().ok()
}

fn object_error(
    doing: &'static str,
    digest: Sha256,
    source: impl std::error::Error + Send + Sync + 'static,
) -> ControllerError {
    ControllerError::Object { doing, digest, source: Box::new(source) }
}

/// What is said of an object that is not there.
pub(crate) fn not_here(digest: Sha256) -> ControllerError {
    ControllerError::refused(Reason::NotFound, format!("there is no object {digest}"))
}

fn bad_object(digest: Sha256, why: impl std::fmt::Display) -> ControllerError {
    ControllerError::refused(Reason::BadObject, format!("object {digest} is refused: {why}"))
}

/// Runs something that waits for the disk or computes for long.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ControllerError> + Send + 'static,
) -> Result<T, ControllerError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(ControllerError::Stopping),
    }
}
