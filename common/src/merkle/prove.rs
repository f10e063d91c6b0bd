//! Making roots and proofs from the hashes of whole subtrees.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{ProofError, empty_root, node_hash};
use crate::Sha256;

/// A whole subtree: of `2^level` leaves, the `index`-th of its level. Level 0 are the leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// How high it stands above the leaves.
    pub level: u8,
    /// Its place in its level.
    pub index: u64,
}

/// Where the hashes of whole subtrees come from.
pub trait Subtrees {
    /// What fails when they cannot be read.
    type Error;

    /// The hash of a subtree that is whole.
    ///
    /// # Errors
    /// Whatever keeps it from being read.
    fn hash(&self, node: Node) -> Result<Sha256, Self::Error>;
}

impl Subtrees for BTreeMap<Node, Sha256> {
    type Error = Node;

    fn hash(&self, node: Node) -> Result<Sha256, Node> {
        self.get(&node).copied().ok_or(node)
    }
}

/// All that is needed to append: how many leaves there are, and the hashes of the largest whole subtrees
/// that make them up, from left to right; one for each bit that is set in the size.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Frontier {
    size: u64,
    subtrees: Vec<Sha256>,
}

impl Frontier {
    /// How many leaves there are.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether it has as many subtrees as its size needs; another was not made here.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.subtrees.len() == usize::try_from(self.size.count_ones()).unwrap_or(usize::MAX)
    }

    /// Adds a leaf by its hash and returns every subtree that it makes whole, itself first.
    pub fn append(&mut self, leaf: Sha256) -> Vec<(Node, Sha256)> {
        let mut node = Node { level: 0, index: self.size };
        let mut hash = leaf;
        let mut whole = vec![(node, hash)];
        while node.index % 2 == 1 {
            let Some(left) = self.subtrees.pop() else { break };
            hash = node_hash(&left, &hash);
            node = Node { level: node.level + 1, index: node.index / 2 };
            whole.push((node, hash));
        }
        self.subtrees.push(hash);
        self.size += 1;
        whole
    }

    /// The root of the tree as it is.
    #[must_use]
    pub fn root(&self) -> Sha256 {
        let right_to_left = self.subtrees.iter().rev().copied();
        right_to_left.reduce(|right, left| node_hash(&left, &right)).unwrap_or_else(empty_root)
    }
}

/// The largest power of two below `size`, which is at least 2: where RFC 6962 splits a tree.
fn split(size: u64) -> u64 {
    1 << (u64::BITS - 1 - (size - 1).leading_zeros())
}

/// The hash of the leaves in a range that begins where a subtree does.
fn range_hash<S: Subtrees>(subtrees: &S, range: Range<u64>) -> Result<Sha256, S::Error> {
    let size = range.end - range.start;
    if size.is_power_of_two() {
        let level = u8::try_from(size.trailing_zeros()).expect("a u64 has 64 bits");
        return subtrees.hash(Node { level, index: range.start / size });
    }
    let middle = range.start + split(size);
    let left = range_hash(subtrees, range.start..middle)?;
    let right = range_hash(subtrees, middle..range.end)?;
    Ok(node_hash(&left, &right))
}

/// The root of the first `size` leaves.
///
/// # Errors
/// Those of `subtrees`.
pub fn root<S: Subtrees>(subtrees: &S, size: u64) -> Result<Sha256, S::Error> {
    if size == 0 { Ok(empty_root()) } else { range_hash(subtrees, 0..size) }
}

/// The proof that leaf `index` is in the tree of the first `size` leaves.
///
/// # Errors
/// Those of `subtrees`, or [`ProofError::OutOfRange`] in the inner result.
pub fn inclusion_proof<S: Subtrees>(
    subtrees: &S,
    index: u64,
    size: u64,
) -> Result<Result<Vec<Sha256>, ProofError>, S::Error> {
    if index >= size {
        return Ok(Err(ProofError::OutOfRange));
    }
    let mut proof = Vec::new();
    let mut range = 0..size;
    while range.end - range.start > 1 {
        let middle = range.start + split(range.end - range.start);
        let (inside, outside) = if index < middle {
            (range.start..middle, middle..range.end)
        } else {
            (middle..range.end, range.start..middle)
        };
        proof.push(range_hash(subtrees, outside)?);
        range = inside;
    }
    proof.reverse();
    Ok(Ok(proof))
}

/// The proof that the tree of the first `old_size` leaves is a prefix of that of the first `new_size`.
///
/// # Errors
/// Those of `subtrees`, or [`ProofError::OutOfRange`] in the inner result.
pub fn consistency_proof<S: Subtrees>(
    subtrees: &S,
    old_size: u64,
    new_size: u64,
) -> Result<Result<Vec<Sha256>, ProofError>, S::Error> {
    if old_size > new_size {
        return Ok(Err(ProofError::OutOfRange));
    }
    if old_size == 0 || old_size == new_size {
        return Ok(Ok(Vec::new()));
    }
    let mut proof = Vec::new();
    let mut range = 0..new_size;
    // Down to the subtree that ends where the old tree does.
    while range.end != old_size {
        let middle = range.start + split(range.end - range.start);
        let (inside, outside) = if old_size <= middle {
            (range.start..middle, middle..range.end)
        } else {
            (middle..range.end, range.start..middle)
        };
        proof.push(range_hash(subtrees, outside)?);
        range = inside;
    }
    // The old root itself is known to who asks.
    if range.start != 0 {
        proof.push(range_hash(subtrees, range)?);
    }
    proof.reverse();
    Ok(Ok(proof))
}
