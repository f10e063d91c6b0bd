//! Objects on the operator's machine: content-addressed, zstd-compressed files, ready to be uploaded.
//!
//! An object is written to a temporary file and renamed, so that a name stands for its whole content or
//! does not exist. The time of its file says when it was last used: [`ObjectCache::trim`] removes what was not
//! used for the longest time, once there is too much.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use landfall_common::Sha256;

use crate::error::Error;

/// The level of compression: zstd's default, where more costs much time for few bytes.
const LEVEL: i32 = 3;
/// Files up to this size are read once into memory; larger ones are read twice in pieces.
const SMALL_BYTES: u64 = 1024 * 1024;
const PIECE_BYTES: usize = 256 * 1024;
/// The cache is trimmed to so much: some releases of a large application, which are then not packed anew.
pub const CACHE_BYTES: u64 = 4 << 30;
/// What was used within this time stays, also if it is more: another `ctl` may be about to upload it.
const IN_USE: Duration = Duration::from_secs(86_400);
/// The time of a file is moved when it is older than this.
const USED_ANEW_AFTER: Duration = Duration::from_secs(3600);

/// The cache of compressed objects.
#[derive(Debug, Clone)]
pub struct ObjectCache {
    root: PathBuf,
}

impl ObjectCache {
    /// The cache in this directory, which is made when absent.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(root: PathBuf) -> Result<Self, Error> {
        fs::create_dir_all(&root).map_err(|source| Error::io("create", &root, source))?;
        Ok(Self { root })
    }

    /// Where the compressed form of an object is, or would be.
    #[must_use]
    pub fn path(&self, digest: &Sha256) -> PathBuf {
        let name = digest.to_string();
        self.root.join(&name[..2]).join(format!("{name}.zst"))
    }

    /// Whether the object is there.
    #[must_use]
    pub fn has(&self, digest: &Sha256) -> bool {
        self.path(digest).is_file()
    }

    /// As [`ObjectCache::has`], for what is about to be used.
    pub(super) fn has_for_use(&self, digest: &Sha256) -> bool {
        let path = self.path(digest);
        let Ok(metadata) = fs::metadata(&path) else { return false };
        let now = SystemTime::now();
        if metadata.modified().is_ok_and(|used| used < now - USED_ANEW_AFTER) {
            // Only trimming is the worse for it if this fails.
            let _ = File::open(&path).and_then(|file| file.set_modified(now));
        }
        metadata.is_file()
    }

    /// Removes objects, beginning with those that were not used for the longest time, until the cache has no
    /// more than so many bytes. Gives how many bytes went.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn trim(&self, most_bytes: u64) -> Result<u64, Error> {
        let failed = |source| Error::io("trim", &self.root, source);
        let in_use_since = SystemTime::now() - IN_USE;
        let mut old: BTreeMap<(SystemTime, PathBuf), u64> = BTreeMap::new();
        let mut bytes = 0;
        for directory in fs::read_dir(&self.root).map_err(failed)? {
            let directory = directory.map_err(failed)?;
            let Ok(files) = fs::read_dir(directory.path()) else { continue };
            for file in files {
                let path = file.map_err(failed)?.path();
                // Another `ctl` may have removed it a moment ago.
                let Ok(metadata) = fs::metadata(&path) else { continue };
                bytes += metadata.len();
                let used = metadata.modified().map_err(failed)?;
                if used < in_use_since {
                    old.insert((used, path), metadata.len());
                }
            }
        }
        let before = bytes;
        for ((_, path), length) in old {
            if bytes <= most_bytes {
                break;
            }
            if fs::remove_file(&path).is_ok() {
                bytes -= length;
            }
        }
        Ok(before - bytes)
    }

    /// The size of the compressed form.
    ///
    /// # Errors
    /// [`Error::Io`] when it is not there.
    pub fn compressed_bytes(&self, digest: &Sha256) -> Result<u64, Error> {
        let path = self.path(digest);
        Ok(fs::metadata(&path).map_err(|source| Error::io("read", &path, source))?.len())
    }

    /// Puts an object that is in memory.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn put(&self, content: &[u8]) -> Result<Sha256, Error> {
        let digest = Sha256::of(content);
        if !self.has_for_use(&digest) {
            self.write(&digest, |out| out.write_all(content))?;
        }
        Ok(digest)
    }

    /// Puts the content of a file of that size; memory stays bounded, whatever the size.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Changed`] if the file changes meanwhile.
    pub fn put_file(&self, path: &Path, size: u64) -> Result<Sha256, Error> {
        let failed = |source| Error::io("read", path, source);
        let changed = || Error::Changed { path: path.to_owned() };
        if size <= SMALL_BYTES {
            let content = fs::read(path).map_err(failed)?;
            if content.len() as u64 != size {
                return Err(changed());
            }
            return self.put(&content);
        }
        let (digest, length) = digest_of(path)?;
        if length != size {
            return Err(changed());
        }
        if !self.has_for_use(&digest) {
            let mut file = File::open(path).map_err(failed)?;
            let mut hasher = Sha256::hasher();
            self.write(&digest, |out| {
                pieces(&mut file, |piece| {
                    hasher.update(piece);
                    out.write_all(piece)
                })
            })?;
            if hasher.finish() != digest {
                // What lies under the digest now is not its content.
                let wrong = self.path(&digest);
                fs::remove_file(&wrong).map_err(|source| Error::io("remove", &wrong, source))?;
                return Err(changed());
            }
        }
        Ok(digest)
    }

    /// The uncompressed content of an object of at most `max` bytes.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::CacheDamaged`].
    pub fn read(&self, digest: &Sha256, max: usize) -> Result<Vec<u8>, Error> {
        let path = self.path(digest);
        let failed = |source| Error::io("read", &path, source);
        let file = File::open(&path).map_err(failed)?;
        let mut content = Vec::new();
        let decoder = zstd::Decoder::new(file).map_err(failed)?;
        decoder.take(max as u64 + 1).read_to_end(&mut content).map_err(failed)?;
        if content.len() > max || Sha256::of(&content) != *digest {
            return Err(Error::CacheDamaged { path });
        }
        Ok(content)
    }

    /// Whether the compressed form still holds the object; a damaged one is removed.
    ///
    /// # Errors
    /// [`Error::CacheDamaged`].
    pub fn verify(&self, digest: &Sha256) -> Result<(), Error> {
        let path = self.path(digest);
        let mut hasher = Sha256::hasher();
        let read = File::open(&path).and_then(zstd::Decoder::new).and_then(|mut decoder| {
            pieces(&mut decoder, |piece| {
                hasher.update(piece);
                Ok(())
            })
        });
        if read.is_ok() && hasher.finish() == *digest {
            return Ok(());
        }
        fs::remove_file(&path).map_err(|source| Error::io("remove", &path, source))?;
        Err(Error::CacheDamaged { path })
    }

    fn write(
        &self,
        digest: &Sha256,
        fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), Error> {
        let path = self.path(digest);
        let directory = path.parent().expect("the path of an object has a directory");
        let write = || {
            fs::create_dir_all(directory)?;
            let temporary = tempfile::NamedTempFile::new_in(directory)?;
            let mut encoder = zstd::Encoder::new(io::BufWriter::new(temporary), LEVEL)?;
            fill(&mut encoder)?;
            let buffered = encoder.finish()?;
            let temporary = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
            // Not synced: after a power cut a name may stand for a damaged file, which is found before it
            // is uploaded. Syncing a hundred thousand files would cost minutes.
            temporary.persist(&path).map_err(|error| error.error)?;
            Ok(())
        };
        write().map_err(|source| Error::io("write", &path, source))
    }
}

/// The digest and the length of a file, read in pieces.
pub(super) fn digest_of(path: &Path) -> Result<(Sha256, u64), Error> {
    let failed = |source| Error::io("read", path, source);
    let mut hasher = Sha256::hasher();
    let mut length = 0;
    let mut file = File::open(path).map_err(failed)?;
    pieces(&mut file, |piece| {
        hasher.update(piece);
        length += piece.len() as u64;
        Ok(())
    })
    .map_err(failed)?;
    Ok((hasher.finish(), length))
}

fn pieces(reader: &mut dyn Read, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match reader.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => each(&piece[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn age(cache: &ObjectCache, digest: &Sha256, days: u32) {
        let file = File::open(cache.path(digest)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(86_400) * days).unwrap();
    }

    #[test]
    fn what_was_not_used_for_the_longest_time_goes_first() {
        let place = tempfile::tempdir().unwrap();
        let cache = ObjectCache::open(place.path().join("objects")).unwrap();
        let [old, older, used, new] =
            ["old", "older", "used again", "new"].map(|content| cache.put(content.as_bytes()).unwrap());
        for (digest, days) in [(&old, 3), (&older, 9), (&used, 20)] {
            age(&cache, digest, days);
        }
        assert_eq!(cache.put(b"used again").unwrap(), used);
        let size = |digest| cache.compressed_bytes(digest).unwrap();
        let all = size(&old) + size(&older) + size(&used) + size(&new);
        let going = size(&older);
        assert_eq!(cache.trim(all).unwrap(), 0);
        assert_eq!(cache.trim(all - 1).unwrap(), going);
        assert!(!cache.has(&older) && cache.has(&old));
        cache.trim(0).unwrap();
        assert!(!cache.has(&old));
        assert!(cache.has(&used) && cache.has(&new), "they may be on their way to the controller");
    }
}
