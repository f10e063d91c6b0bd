//! The log over a real store, and what tampering with it shows.

use std::sync::Arc;

use landfall_common::disk::RealDisk;
use landfall_common::merkle::{verify_consistency, verify_inclusion};
use landfall_common::{HostId, RolloutId};
use landfall_controller_core::log::LogEvent;
use landfall_trust::key::PublicKey;

use super::*;
use crate::store::embedded::Options;
use crate::store::{EmbeddedStore, MemoryIndex, SharedStore, StoreError};

fn now() -> Timestamp {
    Timestamp::from_ms(1_800_000_000_000)
}

fn signer() -> KeyPair {
    KeyPair::from_seed(&[7; 32]).unwrap()
}

fn entry(number: u64) -> NewEntry {
    let event = match number % 2 {
        0 => LogEvent::RolloutResumed {
            rollout: RolloutId::new(format!("r{number}")).unwrap(),
            reason: String::new(),
        },
        _ => LogEvent::HostRemoved {
            host: HostId::new(format!("web-{number}")).unwrap(),
            reason: "worn out".to_owned(),
        },
    };
    NewEntry::by_controller(now(), event)
}

fn store() -> (tempfile::TempDir, SharedStore) {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(RealDisk::new(dir.path()));
    let source = MemoryIndex::source();
    let (core, _) = EmbeddedStore::open(disk, "state", &*source, Options::default()).unwrap();
    (dir, SharedStore::new(core).unwrap())
}

/// A log of `size` entries, appended in groups of one to four.
async fn filled(size: u64) -> (tempfile::TempDir, SharedStore, Vec<LogTree>) {
    let (dir, store) = store();
    let mut tree = LogTree::load(&store).await.unwrap();
    let mut trees = vec![tree.clone()];
    while tree.size() < size {
        let group = (1 + tree.size() % 4).min(size - tree.size());
        let entries = (tree.size()..tree.size() + group).map(entry).collect();
        let appended = tree.append(entries, &signer(), now()).unwrap();
        assert!(appended.batch.changes.len() <= changes_of(appended.entries.len()));
        let batch = appended.batch.clone().put("state", tree.size().to_string());
        tree = appended.committed(store.commit(batch).await.unwrap());
        assert_eq!(LogTree::load(&store).await.unwrap(), tree);
        trees.push(tree.clone());
    }
    (dir, store, trees)
}

fn keys() -> [PublicKey; 1] {
    [signer().public().clone()]
}

#[tokio::test]
async fn entries_are_read_back_and_the_log_verifies() {
    let (_dir, store, trees) = filled(30).await;
    let all = read(&store, 0, 100).await.unwrap();
    assert_eq!(all.len(), 30);
    assert!(all.iter().enumerate().all(|(i, e)| e.index == i as u64));
    assert_eq!(read(&store, 10, 3).await.unwrap(), all[10..13]);
    assert_eq!(read_newest(&store, 4).await.unwrap(), all[26..]);
    let verified = verify(&store, &keys(), None).await.unwrap();
    assert_eq!(verified, Verified { size: 30, root: trees.last().unwrap().root() });
    for tree in &trees {
        let seen = Checkpoint { size: tree.size(), root: tree.root(), at: now() };
        verify(&store, &keys(), Some(&seen)).await.unwrap();
    }
    let (_dir, empty) = self::store();
    assert_eq!(verify(&empty, &keys(), None).await.unwrap().size, 0);
}

#[tokio::test]
async fn proofs_from_the_store_convince_whoever_has_the_checkpoint() {
    let (_dir, store, trees) = filled(30).await;
    let last = trees.last().unwrap();
    for index in 0..30 {
        let proof = prove_inclusion(&store, index, 30).await.unwrap();
        let leaf = leaf_hash(&store.get(&entry_key(index)).await.unwrap().unwrap().value);
        verify_inclusion(&leaf, index, 30, &last.root(), &proof).unwrap();
    }
    for tree in &trees {
        let proof = prove_consistency(&store, tree.size(), 30).await.unwrap();
        verify_consistency(tree.size(), &tree.root(), 30, &last.root(), &proof).unwrap();
        assert_eq!(root_of(&store, tree.size()).await.unwrap(), tree.root());
    }
    for result in [prove_inclusion(&store, 30, 31).await, prove_consistency(&store, 5, 31).await] {
        assert!(matches!(result, Err(LogError::Proof(_))), "{result:?}");
    }
}

#[tokio::test]
async fn two_appends_to_the_same_end_cannot_both_be_committed() {
    let (_dir, store, trees) = filled(5).await;
    let tree = trees.last().unwrap();
    let one = tree.append(vec![entry(5)], &signer(), now()).unwrap();
    let other = tree.append(vec![entry(6)], &signer(), now()).unwrap();
    store.commit(one.batch).await.unwrap();
    let refused = store.commit(other.batch).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Conflict { key, .. } if key == TREE_KEY), "{refused}");
    verify(&store, &keys(), None).await.unwrap();
}

#[tokio::test]
async fn an_append_of_nothing_changes_nothing() {
    let (_dir, store, trees) = filled(3).await;
    let tree = trees.last().unwrap();
    let appended = tree.append(Vec::new(), &signer(), now()).unwrap();
    assert!(appended.batch.is_empty());
    assert_eq!(appended.committed(Revision(999)), *tree);
    let many = (0..=MAX_ENTRIES as u64).map(entry).collect();
    assert!(matches!(tree.append(many, &signer(), now()), Err(LogError::TooMany { .. })));
    let most: Vec<_> = (0..MAX_ENTRIES as u64).map(entry).collect();
    store.commit(tree.append(most, &signer(), now()).unwrap().batch).await.unwrap();
    verify(&store, &keys(), None).await.unwrap();
}

#[tokio::test]
async fn whatever_is_changed_afterwards_is_found_and_named() {
    let changed_entry = |bytes: &[u8]| {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        text.replace("worn out", "too good").into_bytes()
    };
    // An entry rewritten, its leaf left.
    let (_dir, store, trees) = filled(20).await;
    let bytes = changed_entry(&store.get(&entry_key(7)).await.unwrap().unwrap().value);
    store.commit(Batch::new().put(entry_key(7), bytes.clone())).await.unwrap();
    let error = verify(&store, &keys(), None).await.unwrap_err();
    assert!(matches!(error, LogError::Changed { index: 7, .. }), "{error}");

    // Its leaf rewritten too.
    let leaf = leaf_hash(&bytes);
    let node = node_key(Node { level: 0, index: 7 });
    store.commit(Batch::new().put(node, leaf.as_bytes().to_vec())).await.unwrap();
    let error = verify(&store, &keys(), None).await.unwrap_err();
    assert!(matches!(&error, LogError::Tree(text) if text.contains("entry 7")), "{error}");

    // The whole tree written anew and signed, by one who has the key: a checkpoint that was seen shows it.
    let seen = Checkpoint { size: trees[6].size(), root: trees[6].root(), at: now() };
    let (_dir, forged) = self::store();
    let tree = LogTree::default();
    let mut entries: Vec<_> = (0..20).map(entry).collect();
    entries[3].origin = "elsewhere".to_owned();
    forged.commit(tree.append(entries, &signer(), now()).unwrap().batch).await.unwrap();
    verify(&forged, &keys(), None).await.unwrap();
    let error = verify(&forged, &keys(), Some(&seen)).await.unwrap_err();
    assert!(matches!(error, LogError::Changed { .. }), "{error}");
    let foreign = [KeyPair::from_seed(&[8; 32]).unwrap().public().clone()];
    assert!(matches!(verify(&forged, &foreign, None).await, Err(LogError::Checkpoint(_))));
}

#[tokio::test]
async fn what_is_missing_or_added_is_found_and_named() {
    for (gone, at) in [(4, 4), (19, 19), (0, 0)] {
        let (_dir, store, _) = filled(20).await;
        store.commit(Batch::new().delete(entry_key(gone))).await.unwrap();
        let error = verify(&store, &keys(), None).await.unwrap_err();
        assert!(matches!(error, LogError::Changed { index, .. } if index == at), "{error}");
    }
    let (_dir, store, trees) = filled(20).await;
    let added = canonical::to_vec(&entry(20).number(20)).unwrap();
    store.commit(Batch::new().put(entry_key(20), added)).await.unwrap();
    let error = verify(&store, &keys(), None).await.unwrap_err();
    assert!(matches!(error, LogError::Changed { index: 20, .. }), "{error}");

    // Cut back to an earlier, rightly signed end.
    let (_dir, short, _) = filled(12).await;
    let last = trees.last().unwrap();
    let seen = Checkpoint { size: last.size(), root: last.root(), at: now() };
    let error = verify(&short, &keys(), Some(&seen)).await.unwrap_err();
    assert!(matches!(error, LogError::Changed { index: 12, .. }), "{error}");
}
