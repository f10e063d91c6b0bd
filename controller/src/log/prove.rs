//! Proofs about the log, from the subtrees that lie in the store.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use landfall_common::Sha256;
use landfall_common::merkle::{self, Node, ProofError, Subtrees, empty_root};

use super::{LogError, node_key};
use crate::store::Store;

/// The proof that entry `index` is in the log of the first `size` entries.
///
/// # Errors
/// [`LogError::Proof`] if it is not.
pub async fn prove_inclusion(store: &dyn Store, index: u64, size: u64) -> Result<Vec<Sha256>, LogError> {
    let recorder = Recorder::default();
    let Ok(planned) = merkle::inclusion_proof(&recorder, index, size);
    planned?;
    let nodes = recorder.fetch(store, size).await?;
    Ok(merkle::inclusion_proof(&nodes, index, size).map_err(missing)??)
}

/// The proof that the log of the first `old_size` entries is a prefix of that of the first `new_size`.
///
/// # Errors
/// [`LogError::Proof`] if it cannot be.
pub async fn prove_consistency(
    store: &dyn Store,
    old_size: u64,
    new_size: u64,
) -> Result<Vec<Sha256>, LogError> {
    let recorder = Recorder::default();
    let Ok(planned) = merkle::consistency_proof(&recorder, old_size, new_size);
    planned?;
    let nodes = recorder.fetch(store, new_size).await?;
    Ok(merkle::consistency_proof(&nodes, old_size, new_size).map_err(missing)??)
}

/// The root of the tree over the first `size` entries.
///
/// # Errors
/// [`LogError::Proof`] if the log is shorter.
pub async fn root_of(store: &dyn Store, size: u64) -> Result<Sha256, LogError> {
    let recorder = Recorder::default();
    let Ok(_) = merkle::root(&recorder, size);
    let nodes = recorder.fetch(store, size).await?;
    merkle::root(&nodes, size).map_err(missing)
}

fn missing(node: Node) -> LogError {
    LogError::Tree(format!("{} is missing", node_key(node)))
}

/// Writes down which subtrees a proof asks for, since the store cannot answer at once.
#[derive(Default)]
struct Recorder(RefCell<BTreeSet<Node>>);

impl Subtrees for Recorder {
    type Error = Infallible;

    fn hash(&self, node: Node) -> Result<Sha256, Infallible> {
        self.0.borrow_mut().insert(node);
        Ok(empty_root())
    }
}

impl Recorder {
    async fn fetch(self, store: &dyn Store, size: u64) -> Result<BTreeMap<Node, Sha256>, LogError> {
        // A proof need not touch the last leaf, and must not be made about a log that is not there yet.
        if let Some(last) = size.checked_sub(1)
            && stored(store, Node { level: 0, index: last }).await?.is_none()
        {
            return Err(ProofError::OutOfRange.into());
        }
        let mut found = BTreeMap::new();
        for node in self.0.into_inner() {
            let hash = stored(store, node).await?.ok_or_else(|| missing(node))?;
            found.insert(node, hash);
        }
        Ok(found)
    }
}

/// A subtree's hash as it lies in the store.
pub async fn stored(store: &dyn Store, node: Node) -> Result<Option<Sha256>, LogError> {
    let key = node_key(node);
    let Some(stored) = store.get(&key).await? else { return Ok(None) };
    match stored.value.try_into() {
        Ok(bytes) => Ok(Some(Sha256::from_bytes(bytes))),
        Err(_) => Err(LogError::Tree(format!("{key} is not a hash"))),
    }
}
