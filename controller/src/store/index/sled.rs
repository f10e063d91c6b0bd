//! The index on disk: sled, which is quick and not to be trusted with the truth.
//!
//! Measured: its `flush` does not fsync, and with its last 64 KiB damaged it opens with writes silently
//! missing or panics. So every call is fenced against panics, nothing here is relied upon after an unclean
//! stop, and it is never flushed but before a clean one.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Changed, Index, IndexError, IndexSource};
use crate::store::codec::State;
use crate::store::{Entry, Revision, Versioned};

/// sled's own default is 1 GiB.
const CACHE_BYTES: u64 = 64 << 20;

/// sled's lock of a killed process can outlive it for a moment. The store's own lock is already held, so
/// nobody else is at work there.
const LOCK_RETRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// No key of the store has a control character, so this one is never in the way.
const REVISION_KEY: &[u8] = b"\0revision";

/// Entries per batch when the index is built.
const BUILD_BATCH: usize = 1000;

/// sled as an [`Index`].
pub struct SledIndex {
    db: sled::Db,
}

impl SledIndex {
    /// An index in this directory, which belongs to it alone.
    #[must_use]
    pub fn source(directory: impl Into<PathBuf>) -> Box<dyn IndexSource> {
        Box::new(Source(directory.into()))
    }
}

struct Source(PathBuf);

impl IndexSource for Source {
    fn open(&self) -> Result<Box<dyn Index>, IndexError> {
        if !self.0.exists() {
            return Err(IndexError("it is not there".to_owned()));
        }
        Ok(Box::new(open(&self.0)?))
    }

    fn rebuild(&self, revision: Revision, state: &State) -> Result<Box<dyn Index>, IndexError> {
        remove(&self.0).map_err(|e| IndexError(format!("cannot remove {}: {e}", self.0.display())))?;
        let index = open(&self.0)?;
        fenced(|| {
            let mut batch = sled::Batch::default();
            for (count, (key, value)) in state.iter().enumerate() {
                batch.insert(key.as_bytes(), encode(value));
                if count % BUILD_BATCH == BUILD_BATCH - 1 {
                    index.db.apply_batch(std::mem::take(&mut batch))?;
                }
            }
            batch.insert(REVISION_KEY, encode_revision(revision));
            index.db.apply_batch(batch)
        })?;
        Ok(Box::new(index))
    }
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn open(path: &Path) -> Result<SledIndex, IndexError> {
    let mut tries = 0;
    loop {
        let opened = fenced(|| {
            let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
            config.open().map(|db| SledIndex { db })
        });
        match opened {
            Err(IndexError(text)) if text.contains("lock") && tries < LOCK_RETRIES => {
                tries += 1;
                std::thread::sleep(LOCK_PAUSE);
            }
            other => return other,
        }
    }
}

/// Runs a call into sled; a panic of it becomes an error.
fn fenced<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, IndexError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(IndexError(format!("sled: {error}"))),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(IndexError(format!("sled panicked: {text}")))
        }
    }
}

fn encode(Versioned { value, version }: &Versioned) -> Vec<u8> {
    let mut out = version.0.to_le_bytes().to_vec();
    out.extend_from_slice(value);
    out
}

fn decode(bytes: &[u8]) -> Result<Versioned, IndexError> {
    let (version, value) =
        bytes.split_first_chunk::<8>().ok_or_else(|| IndexError("sled: a value is cut off".to_owned()))?;
    Ok(Versioned { value: value.to_vec(), version: Revision(u64::from_le_bytes(*version)) })
}

/// Twice, once inverted: a revision made up by damage must not look like one that was acknowledged.
fn encode_revision(Revision(revision): Revision) -> Vec<u8> {
    [revision.to_le_bytes(), (!revision).to_le_bytes()].concat()
}

impl Index for SledIndex {
    fn revision(&self) -> Result<Revision, IndexError> {
        let bytes = fenced(|| self.db.get(REVISION_KEY))?.unwrap_or_default();
        let revision = bytes.first_chunk::<8>().map(|b| Revision(u64::from_le_bytes(*b)));
        let whole = revision.filter(|revision| encode_revision(*revision) == *bytes);
        whole.ok_or_else(|| IndexError("sled: its revision is missing or damaged".to_owned()))
    }

    fn get(&self, key: &str) -> Result<Option<Versioned>, IndexError> {
        fenced(|| self.db.get(key.as_bytes()))?.map(|bytes| decode(&bytes)).transpose()
    }

    fn page(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Entry>, IndexError> {
        // The least string after `after` is `after` and a zero byte.
        let start = match after {
            Some(after) if after >= prefix => [after.as_bytes(), &[0]].concat(),
            _ => prefix.as_bytes().to_vec(),
        };
        let mut entries = Vec::new();
        let mut range = self.db.range(start..);
        while entries.len() < limit {
            let Some((key, bytes)) = fenced(|| range.next().transpose())? else { break };
            if key == REVISION_KEY {
                continue;
            }
            if !key.starts_with(prefix.as_bytes()) {
                break;
            }
            let key = String::from_utf8(key.to_vec())
                .map_err(|_| IndexError("sled: a key is not UTF-8".to_owned()))?;
            let Versioned { value, version } = decode(&bytes)?;
            entries.push(Entry { key, value, version });
        }
        Ok(entries)
    }

    fn apply(&self, revision: Revision, changed: &Changed) -> Result<(), IndexError> {
        let mut batch = sled::Batch::default();
        for (key, value) in changed {
            match value {
                Some(value) => batch.insert(key.as_bytes(), encode(value)),
                None => batch.remove(key.as_bytes()),
            }
        }
        batch.insert(REVISION_KEY, encode_revision(revision));
        fenced(|| self.db.apply_batch(batch))
    }

    fn flush(&self) -> Result<(), IndexError> {
        fenced(|| self.db.flush())?;
        Ok(())
    }
}
