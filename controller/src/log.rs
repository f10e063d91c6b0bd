//! The log: every release, rollout, outcome and certificate, in a tree that shows any later change.
//!
//! Its entries lie in the store, and are written in the same batch as the change they tell of, so that
//! neither is ever there without the other:
//!
//! ```text
//! log/entry/<20 digits>          the entry, canonical JSON; the leaf is its hash
//! log/node/<2 digits>/<20 digits> the hash of a whole subtree: level and index
//! log/tree                       the frontier, which is all that an append needs
//! log/checkpoint                 the signed checkpoint of exactly this tree
//! ```
//!
//! The entries' type is in `landfall_controller_core::log`, trees and proofs in `landfall_common::merkle`.

mod error;
mod prove;
mod verify;

#[cfg(test)]
mod tests;

use landfall_common::merkle::{CHECKPOINT_TYPE, Checkpoint, Frontier, Node, leaf_hash};
use landfall_common::{Sha256, Timestamp, canonical};
use landfall_controller_core::log::{LogEntry, NewEntry};
use landfall_trust::director::sign_document;
use landfall_trust::key::KeyPair;

use crate::store::{Batch, MAX_CHANGES, Revision, Store};

pub use error::LogError;
pub use prove::{prove_consistency, prove_inclusion, root_of};
pub use verify::{Verified, verify};

/// Where the frontier lies.
pub const TREE_KEY: &str = "log/tree";
/// Where the signed checkpoint lies.
pub const CHECKPOINT_KEY: &str = "log/checkpoint";
/// What the keys of entries begin with.
pub const ENTRY_PREFIX: &str = "log/entry/";

/// How many changes of a batch an append of so many entries takes at most: each entry, its leaf and on
/// average one more subtree, and the tree and its checkpoint.
#[must_use]
pub const fn changes_of(entries: usize) -> usize {
    // n leaves make at most n - 1 subtrees whole among themselves, and 64 together with what was there.
    if entries == 0 { 0 } else { 3 * entries + 63 + 2 }
}

/// How many entries always fit into a batch with nothing else in it.
pub const MAX_ENTRIES: usize = (MAX_CHANGES - 65) / 3;

/// Where an entry lies.
#[must_use]
pub fn entry_key(index: u64) -> String {
    format!("{ENTRY_PREFIX}{index:020}")
}

fn node_key(node: Node) -> String {
    format!("log/node/{:02}/{:020}", node.level, node.index)
}

/// The end of the log as it was read or committed last: what an append builds on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogTree {
    frontier: Frontier,
    version: Option<Revision>,
}

impl LogTree {
    /// Reads it from the store; an empty store has an empty log.
    ///
    /// # Errors
    /// [`LogError`].
    pub async fn load(store: &dyn Store) -> Result<Self, LogError> {
        let Some(stored) = store.get(TREE_KEY).await? else { return Ok(Self::default()) };
        let frontier: Frontier = serde_json::from_slice(&stored.value)
            .map_err(|source| LogError::Malformed { key: TREE_KEY.to_owned(), source })?;
        if !frontier.is_whole() {
            return Err(LogError::Tree("its number of subtrees does not fit its size".to_owned()));
        }
        Ok(Self { frontier, version: Some(stored.version) })
    }

    /// How many entries there are.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// The root of the tree over them.
    #[must_use]
    pub fn root(&self) -> Sha256 {
        self.frontier.root()
    }

    /// Numbers the entries and turns them into a batch that appends them, with a checkpoint signed by
    /// `signer` at `now`. The batch applies only if nobody has appended meanwhile: on a conflict about
    /// [`TREE_KEY`], load the tree anew and append again.
    ///
    /// # Errors
    /// [`LogError::TooMany`] if they might not fit into a batch.
    pub fn append(
        &self,
        entries: Vec<NewEntry>,
        signer: &KeyPair,
        now: Timestamp,
    ) -> Result<Appended, LogError> {
        if entries.len() > MAX_ENTRIES {
            return Err(LogError::TooMany { count: entries.len() });
        }
        let mut frontier = self.frontier.clone();
        let mut batch = Batch::new();
        let mut numbered = Vec::with_capacity(entries.len());
        for entry in entries {
            let entry = entry.number(frontier.size());
            let bytes = canonical::to_vec(&entry)?;
            for (node, hash) in frontier.append(leaf_hash(&bytes)) {
                batch = batch.put(node_key(node), hash.as_bytes().to_vec());
            }
            batch = batch.put(entry_key(entry.index), bytes);
            numbered.push(entry);
        }
        if !numbered.is_empty() {
            let checkpoint = Checkpoint { size: frontier.size(), root: frontier.root(), at: now };
            let checkpoint = sign_document(CHECKPOINT_TYPE, &checkpoint, signer)?;
            batch =
                batch.put(TREE_KEY, canonical::to_vec(&frontier)?).put(CHECKPOINT_KEY, checkpoint.to_bytes());
            batch = match self.version {
                Some(version) => batch.if_version(TREE_KEY, version),
                None => batch.if_absent(TREE_KEY),
            };
        }
        Ok(Appended { batch, entries: numbered, frontier, version: self.version })
    }
}

/// Entries that are ready to be committed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "nothing is logged until the batch is committed"]
pub struct Appended {
    /// To be committed, together with the change that the entries tell of.
    pub batch: Batch,
    /// The entries with their numbers.
    pub entries: Vec<LogEntry>,
    frontier: Frontier,
    version: Option<Revision>,
}

impl Appended {
    /// The tree after the batch was committed at this revision.
    #[must_use]
    pub fn committed(self, revision: Revision) -> LogTree {
        let version = if self.entries.is_empty() { self.version } else { Some(revision) };
        LogTree { frontier: self.frontier, version }
    }
}

/// At most `limit` entries from number `from` on, in order.
///
/// # Errors
/// [`LogError`].
pub async fn read(store: &dyn Store, from: u64, limit: usize) -> Result<Vec<LogEntry>, LogError> {
    let after = from.checked_sub(1).map(entry_key);
    let page = store.scan_page(ENTRY_PREFIX, after.as_deref(), limit).await?;
    page.entries.iter().map(|stored| parse(&stored.key, &stored.value)).collect()
}

/// The newest `limit` entries, in order.
///
/// # Errors
/// [`LogError`].
pub async fn read_newest(store: &dyn Store, limit: usize) -> Result<Vec<LogEntry>, LogError> {
    let size = LogTree::load(store).await?.size();
    read(store, size.saturating_sub(limit as u64), limit).await
}

/// The signed checkpoint, canonical JSON; none while the log is empty.
///
/// # Errors
/// [`LogError`].
pub async fn checkpoint(store: &dyn Store) -> Result<Option<Vec<u8>>, LogError> {
    Ok(store.get(CHECKPOINT_KEY).await?.map(|stored| stored.value))
}

fn parse(key: &str, bytes: &[u8]) -> Result<LogEntry, LogError> {
    serde_json::from_slice(bytes).map_err(|source| LogError::Malformed { key: key.to_owned(), source })
}
