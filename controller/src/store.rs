//! What the controller remembers, behind one trait: keys with values, changed in batches that apply whole
//! or not at all.
//!
//! A commit that returned `Ok` is durable. Reads see only what is durable. The version of a key is the
//! revision that last wrote it; a batch may demand versions, which is how two writers keep from
//! overwriting each other.
//!
//! [`embedded`] keeps everything in one process: an fsynced journal is the truth, sled is the index.
//! [`conformance`] is the suite that every implementation passes.

pub mod backup;
mod codec;
pub mod conformance;
pub mod embedded;
mod error;
pub mod index;
mod shared;
mod watch;

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use backup::Backup;
pub use codec::State;
pub use embedded::{EmbeddedStore, IndexState, Opened, Options};
pub use error::{StoreError, StoreIoError};
pub use index::{Index, IndexError, IndexSource, MemoryIndex, SledIndex};
pub use shared::SharedStore;
pub use watch::{Changes, Watch, WatchEvent};

/// The longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 512;

/// The largest value, in bytes (etcd's usual limit for a request is 1.5 MiB). Larger things are objects.
pub const MAX_VALUE_BYTES: usize = 1 << 20;

/// The most changes in one batch. A rollout over ten thousand hosts begins, and all of them are asked to stage,
/// in one decision, and a decision is one commit. (etcd takes 128 operations unless its
/// `--max-txn-ops` is raised.)
pub const MAX_CHANGES: usize = 1 << 15;

/// The most bytes of keys and values in one batch; what is written is one record of the journal.
pub const MAX_BATCH_BYTES: usize = 32 << 20;

/// The number of a commit. It only grows; zero is the empty store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A value and the revision that wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// The bytes.
    pub value: Vec<u8>,
    /// The revision that last wrote this key.
    pub version: Revision,
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The bytes.
    pub value: Vec<u8>,
    /// The revision that last wrote this key.
    pub version: Revision,
}

/// Entries in the order of their keys, all of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// The moment: every commit up to this one is seen, none after it. A watch that was opened before the
    /// scan tells of everything later.
    pub revision: Revision,
    /// The entries.
    pub entries: Vec<Entry>,
    /// Whether the limit cut the answer short.
    pub more: bool,
}

/// What must hold for a batch to apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Precondition {
    /// The key has no value.
    Absent(String),
    /// The key has a value that this revision wrote.
    VersionIs(String, Revision),
}

impl Precondition {
    /// The key it speaks of.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Absent(key) | Self::VersionIs(key, _) => key,
        }
    }
}

/// One change of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Gives the key this value.
    Put(String, Vec<u8>),
    /// Removes the key; nothing happens if it has no value.
    Delete(String),
}

impl Change {
    /// The key it changes.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Put(key, _) | Self::Delete(key) => key,
        }
    }

    /// The bytes of its key and value.
    fn bytes(&self) -> usize {
        match self {
            Self::Put(key, value) => key.len() + value.len(),
            Self::Delete(key) => key.len(),
        }
    }
}

/// Changes that apply together, or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use = "a batch does nothing until it is committed"]
pub struct Batch {
    /// What must hold.
    pub preconditions: Vec<Precondition>,
    /// What then changes; a key may stand here once.
    pub changes: Vec<Change>,
}

impl Batch {
    /// A batch that demands and changes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Also writes this value.
    pub fn put(mut self, key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.changes.push(Change::Put(key.into(), value.into()));
        self
    }

    /// Also removes this key.
    pub fn delete(mut self, key: impl Into<String>) -> Self {
        self.changes.push(Change::Delete(key.into()));
        self
    }

    /// Only if this key has no value.
    pub fn if_absent(mut self, key: impl Into<String>) -> Self {
        self.preconditions.push(Precondition::Absent(key.into()));
        self
    }

    /// Only if this revision last wrote the key.
    pub fn if_version(mut self, key: impl Into<String>, version: Revision) -> Self {
        self.preconditions.push(Precondition::VersionIs(key.into(), version));
        self
    }

    /// Only if the key still is what was read: the version of `read`, or absent for `None`.
    pub fn if_unchanged(self, key: impl Into<String>, read: Option<&Versioned>) -> Self {
        match read {
            Some(versioned) => self.if_version(key, versioned.version),
            None => self.if_absent(key),
        }
    }

    /// Also demands and changes all that `other` does.
    pub fn and(mut self, other: Batch) -> Self {
        self.preconditions.extend(other.preconditions);
        self.changes.extend(other.changes);
        self
    }

    /// Checks the limits.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] with the rule that is broken.
    pub fn check(&self) -> Result<(), StoreError> {
        let invalid = |reason: String| Err(StoreError::Invalid(reason));
        if self.changes.len() > MAX_CHANGES {
            return invalid(format!("{} changes are more than {MAX_CHANGES}", self.changes.len()));
        }
        let bytes: usize = self.changes.iter().map(Change::bytes).sum();
        if bytes > MAX_BATCH_BYTES {
            return invalid(format!("its {bytes} bytes are more than {MAX_BATCH_BYTES}"));
        }
        let mut changed = BTreeSet::new();
        for key in
            self.preconditions.iter().map(Precondition::key).chain(self.changes.iter().map(Change::key))
        {
            if key.is_empty() || key.len() > MAX_KEY_BYTES || key.chars().any(char::is_control) {
                return invalid(format!(
                    "{key:?} is not a key: it must have 1 to {MAX_KEY_BYTES} bytes and no control characters"
                ));
            }
        }
        for change in &self.changes {
            if !changed.insert(change.key()) {
                return invalid(format!("{} is changed twice", change.key()));
            }
            if let Change::Put(key, value) = change
                && value.len() > MAX_VALUE_BYTES
            {
                return invalid(format!("the value of {key} has {} bytes", value.len()));
            }
        }
        Ok(())
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// Where the controller keeps its state.
#[tonic::async_trait]
pub trait Store: Send + Sync {
    /// The value of a key.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot answer.
    async fn get(&self, key: &str) -> Result<Option<Versioned>, StoreError>;

    /// All entries whose key begins with `prefix`.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot answer.
    async fn scan(&self, prefix: &str) -> Result<Scan, StoreError> {
        self.scan_page(prefix, None, usize::MAX).await
    }

    /// At most `limit` entries whose key begins with `prefix` and comes after `after`.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot answer.
    async fn scan_page(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Scan, StoreError>;

    /// Applies a batch and returns when it is durable. A batch without changes only checks its
    /// preconditions.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if a precondition does not hold and [`StoreError::Invalid`] for a batch
    /// that breaks the limits: nothing has changed. [`StoreError::Stopped`]: see there.
    async fn commit(&self, batch: Batch) -> Result<Revision, StoreError>;

    /// Every later change of keys that begin with `prefix`, in the order of the revisions.
    fn watch(&self, prefix: &str) -> Watch;
}
