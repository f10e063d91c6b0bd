//! Objects that the disk has damaged: found when they are served, put aside, and asked for again from whoever
//! releases what needs them next.
//!
//! An object is looked at when it is first served, and then not again for [`LOOKED_AT_FOR`]: to unpack each
//! for every host would cost the controller as much as it costs the host.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use landfall_common::{Duration, Sha256};

use super::unpack::verify_file;
use super::{Depot, Piece, Unpacking, blocking, location, not_here, object_error};
use crate::error::{ControllerError, Reason};

/// What was whole is served without another look for so long.
const LOOKED_AT_FOR: Duration = Duration::from_secs(3600);

/// Digests of objects that were looked at: some megabytes of memory at most.
const REMEMBERED: usize = 100_000;

/// Large objects that are looked at, beside being served, at the same time.
pub(super) const LOOKS: usize = 2;

/// How the file of a damaged object ends that was put aside.
const ASIDE: &str = ".damaged";

/// The objects that were found whole lately.
#[derive(Debug)]
pub(super) struct Whole {
    since: Instant,
    digests: HashSet<Sha256>,
}

impl Default for Whole {
    fn default() -> Self {
        Self { since: Instant::now(), digests: HashSet::new() }
    }
}

impl Whole {
    fn holds(&mut self, digest: Sha256) -> bool {
        if self.since.elapsed() > LOOKED_AT_FOR || self.digests.len() >= REMEMBERED {
            *self = Self::default();
        }
        self.digests.contains(&digest)
    }
}

impl Depot {
    /// Looks at an object whose first piece is about to be served; `unpacking` is used again for the next one.
    /// A large one is looked at while it is being served: its host finds the damage itself, and is told when it
    /// asks again.
    pub(super) fn vouch(
        &self,
        digest: Sha256,
        piece: &Piece,
        unpacking: &mut Option<Unpacking>,
    ) -> Result<(), ControllerError> {
        if self.whole().holds(digest) {
            return Ok(());
        }
        if piece.data.len() as u64 == piece.compressed_bytes {
            let mut look = match unpacking.take() {
                Some(used) => used.again(digest)?,
                None => Unpacking::new(digest)?,
            };
            if look.feed(&piece.data, |_| {}).and_then(|()| look.end()).is_err() {
                self.put_aside_if_damaged(digest)?;
            }
            *unpacking = Some(look);
            self.whole().digests.insert(digest);
            return Ok(());
        }
        // Noted before it is known: one look is enough.
        self.whole().digests.insert(digest);
        let depot = self.clone();
        tokio::spawn(async move {
            let Ok(_permit) = depot.0.looks.acquire().await else { return };
            let looking = depot.clone();
            // What is wrong is logged where it is found.
            let _ = blocking(move || looking.put_aside_if_damaged(digest)).await;
        });
        Ok(())
    }

    fn whole(&self) -> std::sync::MutexGuard<'_, Whole> {
        self.0.whole.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Whoever has read an object and found it damaged says so here; gives what to tell its reader.
    pub async fn damaged(&self, digest: Sha256) -> ControllerError {
        let depot = self.clone();
        match blocking(move || depot.put_aside_if_damaged(digest)).await {
            Err(error) => error,
            // It was replaced in this very moment.
            Ok(()) => {
                let message = format!("object {digest} has just been repaired; ask again");
                ControllerError::refused(Reason::Overloaded, message)
            }
        }
    }

    /// Reads a stored object from its beginning to its end, and puts it aside if it is not what its name says.
    fn put_aside_if_damaged(&self, digest: Sha256) -> Result<(), ControllerError> {
        let path = self.path(digest);
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => self.absent(digest),
            _ => object_error("read", digest, error),
        };
        let looked_at = identity(&path).map_err(failed)?;
        match verify_file(&path, digest) {
            Ok(()) => return Ok(()),
            Err(error) if is_damage(&error) => {
                tracing::error!(%digest, error = %error.chain(), "a stored object is damaged; it is put aside");
            }
            Err(error) => return Err(error),
        }
        // What was looked at, and nothing that was uploaded since.
        let _alone = self.0.removal.blocking_write();
        if identity(&path).map_err(failed)? == looked_at {
            std::fs::rename(&path, self.aside(digest)).map_err(failed)?;
            self.whole().digests.remove(&digest);
            return Err(damaged(digest));
        }
        Ok(())
    }

    /// What is said of an object that is not there: one that was damaged can be brought back.
    pub(super) fn absent(&self, digest: Sha256) -> ControllerError {
        if self.aside(digest).exists() { damaged(digest) } else { not_here(digest) }
    }

    /// The objects that were put aside and not uploaded again yet.
    ///
    /// # Errors
    /// [`ControllerError::File`].
    pub async fn put_aside(&self) -> Result<BTreeSet<Sha256>, ControllerError> {
        let uploads = self.0.uploads.clone();
        blocking(move || {
            let failed = |source| ControllerError::File { doing: "list", path: uploads.clone(), source };
            let mut found = BTreeSet::new();
            for entry in std::fs::read_dir(&uploads).map_err(failed)? {
                let name = entry.map_err(failed)?.file_name();
                let digest = name.to_str().and_then(|name| name.strip_suffix(ASIDE)?.parse::<Sha256>().ok());
                found.extend(digest);
            }
            Ok(found)
        })
        .await
    }

    /// It is there again.
    pub(super) fn replaced(&self, digest: Sha256) {
        let _ = std::fs::remove_file(self.aside(digest));
        self.whole().digests.remove(&digest);
    }

    fn aside(&self, digest: Sha256) -> PathBuf {
        self.0.uploads.join(format!("{digest}{ASIDE}"))
    }

    pub(super) fn path(&self, digest: Sha256) -> PathBuf {
        self.0.directory.join(location(digest).as_ref())
    }
}

/// Which file it is, and of which moment.
fn identity(path: &Path) -> io::Result<(u64, u64, i64, i64)> {
    let meta = std::fs::metadata(path)?;
    Ok((meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
}

/// Content that is not what its name says, or a sector that cannot be read. A want of descriptors is neither.
fn is_damage(error: &ControllerError) -> bool {
    match error {
        ControllerError::Refused { reason: Reason::BadObject, .. } => true,
        ControllerError::File { source, .. } => {
            source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
        }
        _ => false,
    }
}

/// Uploads are verified, so that what is wrong with a stored object is nobody's fault who asks for it.
fn damaged(digest: Sha256) -> ControllerError {
    let message = format!(
        "the controller's copy of object {digest} is damaged and was put aside; `ctl release` of the release \
         that needs it uploads it again"
    );
    ControllerError::refused(Reason::ObjectDamaged, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn depot(place: &tempfile::TempDir) -> Depot {
        Depot::open(&place.path().join("o"), &place.path().join("u")).await.unwrap()
    }

    fn reason(error: &ControllerError) -> Option<Reason> {
        match error {
            ControllerError::Refused { reason, .. } => Some(*reason),
            _ => None,
        }
    }

    /// Turns one bit over in the middle of what is stored.
    fn damage(depot: &Depot, digest: Sha256) {
        let path = depot.path(digest);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }

    #[tokio::test]
    async fn a_damaged_object_is_not_served_and_is_taken_anew() {
        let place = tempfile::tempdir().unwrap();
        let depot = depot(&place).await;
        let (good, bad) = (b"good".to_vec(), b"that which will be damaged".to_vec());
        let good = depot.store(good).await.unwrap();
        let digest = depot.store(bad.clone()).await.unwrap();
        damage(&depot, digest);
        let pieces = depot.first_pieces(vec![(good, 0), (digest, 0), (good, 0)]).await.unwrap();
        assert_eq!(pieces.len(), 1, "what is well is served, and then it is told");
        for _ in 0..2 {
            let error = depot.first_pieces(vec![(digest, 0)]).await.unwrap_err();
            assert_eq!(reason(&error), Some(Reason::ObjectDamaged), "{error}");
            assert!(error.to_string().contains("uploads it again"), "{error}");
        }
        assert_eq!(depot.missing(vec![good, digest]).await.unwrap(), [(digest, 0)]);
        assert_eq!(depot.put_aside().await.unwrap(), BTreeSet::from([digest]));
        assert_eq!(depot.store(bad.clone()).await.unwrap(), digest);
        assert_eq!(depot.first_pieces(vec![(digest, 0)]).await.unwrap().len(), 1);
        assert_eq!(depot.read(digest, 100).await.unwrap(), bad);
        assert!(depot.put_aside().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_a_reader_finds_damaged_is_put_aside_too() {
        let place = tempfile::tempdir().unwrap();
        let depot = depot(&place).await;
        let digest = depot.store(b"a directory, say".to_vec()).await.unwrap();
        damage(&depot, digest);
        let error = depot.read(digest, 100).await.unwrap_err();
        assert_eq!(reason(&error), Some(Reason::ObjectDamaged), "{error}");
        assert_eq!(depot.missing(vec![digest]).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_large_object_is_looked_at_while_it_is_served() {
        let place = tempfile::tempdir().unwrap();
        let depot = depot(&place).await;
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        };
        let content: Vec<u8> = (0..300_000).map(|_| next()).collect();
        let digest = depot.store(content).await.unwrap();
        damage(&depot, digest);
        let first = depot.first_pieces(vec![(digest, 0)]).await.unwrap();
        assert!((first[0].data.len() as u64) < first[0].compressed_bytes);
        while depot.missing(vec![digest]).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        let error = depot.first_pieces(vec![(digest, 0)]).await.unwrap_err();
        assert_eq!(reason(&error), Some(Reason::ObjectDamaged), "{error}");
    }
}
