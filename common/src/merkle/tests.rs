//! Every tree up to a size, against ct-merkle and against tampering.

use std::collections::BTreeMap;

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ct_merkle::{ConsistencyProof, InclusionProof, RootHash};
use proptest::prelude::*;
use sha2::Sha256 as Oracle;

use super::*;

const SIZE: u64 = 40;

fn entry(index: u64) -> Vec<u8> {
    format!("entry {index}").into_bytes()
}

/// Subtrees and roots of every size up to `SIZE`, made by appending.
fn grown() -> (BTreeMap<Node, Sha256>, Vec<Sha256>) {
    let mut frontier = Frontier::default();
    let mut nodes = BTreeMap::new();
    let mut roots = vec![frontier.root()];
    for index in 0..SIZE {
        nodes.extend(frontier.append(leaf_hash(&entry(index))));
        assert!(frontier.is_whole() && frontier.size() == index + 1);
        roots.push(frontier.root());
    }
    (nodes, roots)
}

#[test]
fn the_hashes_are_those_of_rfc_6962() {
    assert_eq!(
        leaf_hash(b"").to_string(),
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    );
    assert_eq!(empty_root(), Sha256::of(b""));
}

#[test]
fn roots_and_proofs_are_those_of_another_implementation() {
    let (nodes, roots) = grown();
    let mut oracle = MemoryBackedTree::<Oracle, Vec<u8>>::new();
    let mut oracle_roots: Vec<RootHash<Oracle>> = vec![oracle.root()];
    for new in 0..=SIZE {
        let new_root = &roots[usize::try_from(new).unwrap()];
        assert_eq!(root(&nodes, new).unwrap(), *new_root);
        assert_eq!(oracle.root().as_bytes().as_slice(), new_root.as_bytes());
        for index in 0..new {
            let proof = inclusion_proof(&nodes, index, new).unwrap().unwrap();
            let theirs: InclusionProof<Oracle> = oracle.prove_inclusion(usize::try_from(index).unwrap());
            let ours: Vec<u8> = proof.iter().flat_map(|hash| *hash.as_bytes()).collect();
            assert_eq!(theirs.as_bytes(), ours, "leaf {index} of {new}");
            verify_inclusion(&leaf_hash(&entry(index)), index, new, new_root, &proof).unwrap();
        }
        for old in 0..=new {
            let old_root = &roots[usize::try_from(old).unwrap()];
            let proof = consistency_proof(&nodes, old, new).unwrap().unwrap();
            verify_consistency(old, old_root, new, new_root, &proof).unwrap();
            if 0 < old && old < new {
                let theirs: ConsistencyProof<Oracle> =
                    oracle.prove_consistency(usize::try_from(new - old).unwrap());
                let ours: Vec<u8> = proof.iter().flat_map(|hash| *hash.as_bytes()).collect();
                assert_eq!(theirs.as_bytes(), ours, "{old} in {new}");
            }
        }
        oracle.push(entry(new));
        oracle_roots.push(oracle.root());
    }
}

#[test]
fn what_lies_outside_the_tree_has_no_proof() {
    let (nodes, roots) = grown();
    assert_eq!(inclusion_proof(&nodes, 3, 3).unwrap(), Err(ProofError::OutOfRange));
    assert_eq!(consistency_proof(&nodes, 4, 3).unwrap(), Err(ProofError::OutOfRange));
    let leaf = leaf_hash(&entry(3));
    assert_eq!(verify_inclusion(&leaf, 3, 3, &roots[3], &[]), Err(ProofError::OutOfRange));
    assert_eq!(verify_consistency(4, &roots[4], 3, &roots[3], &[]), Err(ProofError::OutOfRange));
}

proptest! {
    #[test]
    fn a_changed_proof_proves_nothing(
        old in 1..SIZE, more in 1..SIZE, index in 0..SIZE, at: prop::sample::Index, how in 0..4,
    ) {
        let (nodes, roots) = grown();
        let new = (old + more).min(SIZE);
        let index = index % new;
        let tamper = |proof: &mut Vec<Sha256>| match how {
            0 => { proof.pop(); }
            1 => proof.push(empty_root()),
            2 if !proof.is_empty() => { let i = at.index(proof.len()); proof[i] = empty_root(); }
            _ => proof.insert(0, empty_root()),
        };
        let (old_root, new_root) = (&roots[usize::try_from(old).unwrap()], &roots[usize::try_from(new).unwrap()]);

        let leaf = leaf_hash(&entry(index));
        let proof = inclusion_proof(&nodes, index, new).unwrap().unwrap();
        let mut changed = proof.clone();
        tamper(&mut changed);
        prop_assert!(changed == proof || verify_inclusion(&leaf, index, new, new_root, &changed).is_err());
        prop_assert!(verify_inclusion(&empty_root(), index, new, new_root, &proof).is_err());

        let proof = consistency_proof(&nodes, old, new).unwrap().unwrap();
        let mut changed = proof.clone();
        tamper(&mut changed);
        prop_assert!(changed == proof || verify_consistency(old, old_root, new, new_root, &changed).is_err());
        if old < new {
            prop_assert!(verify_consistency(old, &empty_root(), new, new_root, &proof).is_err());
            prop_assert!(verify_consistency(old, old_root, new, &empty_root(), &proof).is_err());
        }
    }
}
