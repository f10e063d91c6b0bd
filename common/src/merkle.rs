//! RFC 6962 Merkle trees: hashes of leaves and nodes, and proofs that a leaf is in a tree and that a tree
//! is a prefix of another (sections 2.1.1 and 2.1.2).
//!
//! Who checks a proof needs nothing but this file; who makes one brings the hashes of whole subtrees
//! ([`Subtrees`]), of which an append-only log never changes any. Nothing here reads or signs anything.

use crate::Sha256;

mod checkpoint;
mod prove;
mod verify;

pub use checkpoint::{CHECKPOINT_TYPE, Checkpoint};
pub use prove::{Frontier, Node, Subtrees, consistency_proof, inclusion_proof, root};
pub use verify::{verify_consistency, verify_inclusion};

/// A proof does not prove what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The leaf is not below the tree's size, or the older tree is larger than the newer.
    #[error("the proof is about a place outside the tree")]
    OutOfRange,
    /// The proof has too few or too many hashes.
    #[error("the proof does not have the right number of hashes")]
    Length,
    /// The hashes do not lead to the root.
    #[error("the proof does not lead to the tree's root")]
    Mismatch,
}

/// The hash of the tree without leaves.
#[must_use]
pub fn empty_root() -> Sha256 {
    Sha256::of(b"")
}

/// The hash of a leaf: SHA-256 of a zero byte and the entry.
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Sha256 {
    let mut hasher = Sha256::hasher();
    hasher.update(&[0]);
    hasher.update(entry);
    hasher.finish()
}

/// The hash of a node: SHA-256 of a one byte and both children.
#[must_use]
pub fn node_hash(left: &Sha256, right: &Sha256) -> Sha256 {
    let mut hasher = Sha256::hasher();
    hasher.update(&[1]);
    hasher.update(left.as_bytes());
    hasher.update(right.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests;
