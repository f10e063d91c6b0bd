//! Uploads: an object arrives in pieces, and is stored once it is complete and verified.
//!
//! A small one is held in memory; one that outgrows that goes to a file, which an interrupted upload leaves
//! behind so that the next one goes on where it ended.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use landfall_common::Sha256;
use object_store::{ObjectStoreExt as _, WriteMultipart};

use super::unpack::verify_file;
use super::{CHUNK_BYTES, Depot, Unpacking, bad_object, blocking, location, object_error};
use crate::error::{ControllerError, Reason};

/// An upload of at most so many compressed bytes stays in memory.
const IN_MEMORY_BYTES: usize = 1 << 20;

/// The largest compressed form.
const MAX_COMPRESSED_BYTES: u64 = super::MAX_OBJECT_BYTES;

/// One object on its way in.
#[must_use = "an upload that is not finished stores nothing"]
pub struct Upload {
    depot: Depot,
    digest: Sha256,
    part: Part,
}

enum Part {
    Memory(Vec<u8>),
    File { file: File, length: u64 },
}

impl Depot {
    /// How many bytes of an object's compressed form are kept from an interrupted upload.
    #[must_use]
    pub fn kept(&self, digest: Sha256) -> u64 {
        std::fs::metadata(self.part_path(digest)).map(|meta| meta.len()).unwrap_or(0)
    }

    /// Begins or goes on with an upload, at this offset of the compressed form.
    ///
    /// # Errors
    /// [`Reason::WrongOffset`] if it is not where the kept part ends (zero begins anew),
    /// [`Reason::Overloaded`] if another upload of the same object has its file open.
    pub fn upload(&self, digest: Sha256, offset: u64) -> Result<Upload, ControllerError> {
        if offset == 0 {
            return Ok(Upload { depot: self.clone(), digest, part: Part::Memory(Vec::new()) });
        }
        self.claim(digest)?;
        let kept = self.kept(digest);
        let opened = if kept == offset {
            open(&self.part_path(digest), false)
        } else {
            let message = format!(
                "the upload of {digest} goes on at {offset}, but {kept} bytes of it are here; ask again for what \
                 is missing"
            );
            Err(ControllerError::refused(Reason::WrongOffset, message))
        };
        match opened {
            Ok(file) => Ok(Upload { depot: self.clone(), digest, part: Part::File { file, length: kept } }),
            Err(error) => {
                self.release(digest);
                Err(error)
            }
        }
    }

    fn part_path(&self, digest: Sha256) -> PathBuf {
        self.0.uploads.join(format!("{digest}.part"))
    }

    fn claim(&self, digest: Sha256) -> Result<(), ControllerError> {
        let mut uploading = self.0.uploading.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if uploading.insert(digest) {
            return Ok(());
        }
        let message = format!("object {digest} is being uploaded by somebody else; try again in a while");
        Err(ControllerError::refused(Reason::Overloaded, message))
    }

    /// Whether no upload of this object is going on.
    pub(super) fn abandoned(&self, digest: Sha256) -> bool {
        !self.0.uploading.lock().unwrap_or_else(std::sync::PoisonError::into_inner).contains(&digest)
    }

    fn release(&self, digest: Sha256) {
        self.0.uploading.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&digest);
    }
}

impl Upload {
    /// Takes the next bytes of the compressed form.
    ///
    /// # Errors
    /// [`ControllerError::File`] if the disk does not take them, [`Reason::BadObject`] for too many.
    pub async fn write(&mut self, data: &[u8]) -> Result<(), ControllerError> {
        let memory = match &mut self.part {
            Part::Memory(memory) if memory.len() + data.len() <= IN_MEMORY_BYTES => {
                memory.extend_from_slice(data);
                return Ok(());
            }
            Part::Memory(memory) => Some(std::mem::take(memory)),
            Part::File { .. } => None,
        };
        if let Some(memory) = memory {
            self.depot.claim(self.digest)?;
            match self.spill(&memory) {
                Ok(file) => self.part = Part::File { file, length: memory.len() as u64 },
                Err(error) => {
                    self.depot.release(self.digest);
                    return Err(error);
                }
            }
        }
        let Part::File { file, length } = &mut self.part else { return Ok(()) };
        *length += data.len() as u64;
        if *length > MAX_COMPRESSED_BYTES {
            return Err(bad_object(self.digest, "its compressed form is too large"));
        }
        let path = self.depot.part_path(self.digest);
        file.write_all(data).map_err(|source| full(path, source))
    }

    fn spill(&self, memory: &[u8]) -> Result<File, ControllerError> {
        let path = self.depot.part_path(self.digest);
        let mut file = open(&path, true)?;
        file.write_all(memory).map_err(|source| full(path, source))?;
        Ok(file)
    }

    /// Verifies the object and stores it; returns the size of its compressed form. One that is not what its
    /// digest promises is dropped.
    ///
    /// # Errors
    /// [`Reason::BadObject`], [`ControllerError::Object`].
    pub async fn finish(mut self) -> Result<u64, ControllerError> {
        let (depot, digest) = (self.depot.clone(), self.digest);
        match &mut self.part {
            Part::Memory(memory) => {
                let memory = std::mem::take(memory);
                let memory = blocking(move || {
                    let mut unpacking = Unpacking::new(digest)?;
                    unpacking.feed(&memory, |_| {})?;
                    unpacking.end()?;
                    Ok(memory)
                })
                .await?;
                let length = memory.len() as u64;
                depot.put(digest, memory.into()).await?;
                Ok(length)
            }
            // The claim goes with `self`, also when the caller hangs up before this has ended.
            Part::File { length, .. } => {
                let length = *length;
                let path = depot.part_path(digest);
                let result = depot.put_file(digest, &path).await;
                if matches!(result, Ok(()) | Err(ControllerError::Refused { .. })) {
                    let _ = std::fs::remove_file(&path);
                }
                result.map(|()| length)
            }
        }
    }
}

impl Drop for Upload {
    /// What was written stays, for the upload that goes on.
    fn drop(&mut self) {
        if matches!(self.part, Part::File { .. }) {
            self.depot.release(self.digest);
        }
    }
}

impl Depot {
    async fn put_file(&self, digest: Sha256, path: &Path) -> Result<(), ControllerError> {
        let verified = path.to_owned();
        blocking(move || verify_file(&verified, digest)).await?;
        self.mark_unsynced()?;
        let failed = |error| object_error("stored", digest, error);
        let upload = self.0.store.put_multipart(&location(digest)).await.map_err(failed)?;
        let mut writer = WriteMultipart::new(upload);
        let mut file = tokio::fs::File::open(path).await.map_err(|source| full(path.to_owned(), source))?;
        let mut piece = vec![0; 4 * CHUNK_BYTES];
        loop {
            let length = tokio::io::AsyncReadExt::read(&mut file, &mut piece)
                .await
                .map_err(|source| full(path.to_owned(), source))?;
            if length == 0 {
                break;
            }
            writer.wait_for_capacity(2).await.map_err(failed)?;
            writer.write(&piece[..length]);
        }
        {
            let _no_removal = self.0.removal.read().await;
            writer.finish().await.map_err(failed)?;
            self.replaced(digest);
        }
        self.mark_unsynced()
    }
}

fn open(path: &Path, anew: bool) -> Result<File, ControllerError> {
    OpenOptions::new()
        .create(anew)
        .write(true)
        .truncate(anew)
        .append(!anew)
        .mode(0o600)
        .open(path)
        .map_err(|source| full(path.to_owned(), source))
}

fn full(path: PathBuf, source: io::Error) -> ControllerError {
    ControllerError::File { doing: "keep the upload in", path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn depot(directory: &Path) -> Depot {
        Depot::open(&directory.join("objects"), &directory.join("uploads")).await.unwrap()
    }

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        };
        (0..length).map(|_| next()).collect()
    }

    #[tokio::test]
    async fn a_small_object_reads_back() {
        let directory = tempfile::tempdir().unwrap();
        let depot = depot(directory.path()).await;
        let digest = Sha256::of(b"hello");
        let mut upload = depot.upload(digest, 0).unwrap();
        upload.write(&zstd::bulk::compress(b"hello", 3).unwrap()).await.unwrap();
        upload.finish().await.unwrap();
        assert_eq!(depot.read(digest, 5).await.unwrap(), b"hello");
        assert!(depot.read(digest, 4).await.is_err());
        assert!(depot.missing(vec![digest]).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn an_empty_object_is_an_object() {
        let directory = tempfile::tempdir().unwrap();
        let depot = depot(directory.path()).await;
        let digest = depot.store(Vec::new()).await.unwrap();
        assert_eq!(depot.read(digest, 0).await.unwrap(), b"");
    }

    #[tokio::test]
    async fn a_large_upload_goes_on_where_it_was_interrupted() {
        let directory = tempfile::tempdir().unwrap();
        let content = noise(3 << 20);
        let digest = Sha256::of(&content);
        let compressed = zstd::bulk::compress(&content, 1).unwrap();
        let (first, second) = compressed.split_at(2 << 20);
        {
            let depot = depot(directory.path()).await;
            let mut upload = depot.upload(digest, 0).unwrap();
            for piece in first.chunks(256 * 1024) {
                upload.write(piece).await.unwrap();
            }
            assert!(depot.upload(digest, first.len() as u64).is_err(), "two uploads had one file");
        }
        let depot = depot(directory.path()).await;
        assert_eq!(depot.missing(vec![digest]).await.unwrap(), [(digest, first.len() as u64)]);
        assert!(depot.upload(digest, 1).is_err());
        let mut upload = depot.upload(digest, first.len() as u64).unwrap();
        upload.write(second).await.unwrap();
        assert_eq!(upload.finish().await.unwrap(), compressed.len() as u64);
        assert_eq!(depot.read(digest, 4 << 20).await.unwrap(), content);
        assert_eq!(depot.kept(digest), 0);
    }

    #[tokio::test]
    async fn an_upload_whose_end_nobody_waits_for_can_be_taken_up_again() {
        let directory = tempfile::tempdir().unwrap();
        let depot = depot(directory.path()).await;
        let content = noise(3 << 20);
        let digest = Sha256::of(&content);
        let compressed = zstd::bulk::compress(&content, 1).unwrap();
        let mut upload = depot.upload(digest, 0).unwrap();
        upload.write(&compressed).await.unwrap();
        let end = upload.finish();
        assert!(futures::FutureExt::now_or_never(end).is_none(), "it ended at once");
        let upload = depot.upload(digest, compressed.len() as u64).unwrap();
        upload.finish().await.unwrap();
        assert_eq!(depot.read(digest, 4 << 20).await.unwrap(), content);
    }

    #[tokio::test]
    async fn what_its_digest_does_not_promise_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let depot = depot(directory.path()).await;
        let good = zstd::bulk::compress(b"hello", 3).unwrap();
        let digest = Sha256::of(b"hello");
        let mut wide = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
        wide.window_log(27).unwrap();
        wide.write_all(b"hello").unwrap();
        for (what, bytes) in [
            ("with a window that no agent takes", wide.finish().unwrap()),
            ("tampered", zstd::bulk::compress(b"hullo", 3).unwrap()),
            ("torn", good[..good.len() - 1].to_vec()),
            ("followed by rubbish", [&good[..], b"x"].concat()),
            ("no zstd", b"hello".to_vec()),
            ("nothing", Vec::new()),
        ] {
            let mut upload = depot.upload(digest, 0).unwrap();
            upload.write(&bytes).await.unwrap();
            let error = upload.finish().await.unwrap_err();
            assert!(
                matches!(error, ControllerError::Refused { reason: Reason::BadObject, .. }),
                "{what}: {error}"
            );
            assert_eq!(depot.size(digest).await.unwrap(), None, "{what}");
        }
    }

    #[tokio::test]
    async fn an_object_that_a_crash_tore_is_dropped_at_the_next_start() {
        let directory = tempfile::tempdir().unwrap();
        let (torn, whole) = {
            let depot = depot(directory.path()).await;
            (depot.store(b"first".to_vec()).await.unwrap(), depot.store(b"second".to_vec()).await.unwrap())
        };
        let name = torn.to_string();
        let path = directory.path().join(format!("objects/{}/{name}.zst", &name[..2]));
        std::fs::write(path, b"").unwrap();
        let depot = depot(directory.path()).await;
        assert_eq!(depot.size(torn).await.unwrap(), None);
        assert!(depot.size(whole).await.unwrap().is_some());
        assert!(!directory.path().join("uploads/unsynced").exists());
    }
}
