//! The embedded store over a real directory with sled; crashes of the machine are tried in `tests/sim`.

use std::collections::BTreeMap;
use std::fs;

use landfall_common::Timestamp;
use landfall_common::disk::{RealDisk, SyncCounts};
use landfall_common::journal::JournalError;

use super::*;
use crate::store::{Backup, SharedStore, SledIndex, Store, conformance};

struct World {
    root: tempfile::TempDir,
    disk: Arc<RealDisk>,
    options: Options,
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let disk = Arc::new(RealDisk::new(root.path()));
        Self { root, disk, options: Options { snapshot_every_bytes: 2000, segment_bytes: 700 } }
    }

    fn sled_dir(&self) -> PathBuf {
        self.root.path().join("sled")
    }

    fn try_open(&self) -> Result<(EmbeddedStore, Opened), StoreIoError> {
        let index = SledIndex::source(self.sled_dir());
        EmbeddedStore::open(self.disk.clone(), "state", &*index, self.options.clone())
    }

    fn open(&self) -> (EmbeddedStore, Opened) {
        self.try_open().unwrap()
    }

    fn syncs(&self) -> SyncCounts {
        self.disk.sync_counts()
    }
}

/// Writes 200 commits and returns what must be there.
fn fill(store: &EmbeddedStore) -> BTreeMap<String, Vec<u8>> {
    let mut expected = BTreeMap::new();
    for number in 0..200u32 {
        let key = format!("key/{:03}", number * 7 % 90);
        let mut batch = Batch::new();
        if number % 11 == 10 {
            batch = batch.delete(key.clone());
            expected.remove(&key);
        } else {
            let value = format!("value {number} {}", "x".repeat((number % 50) as usize)).into_bytes();
            batch = batch.put(key.clone(), value.clone());
            expected.insert(key, value);
        }
        store.commit(batch.put("last", number.to_string())).unwrap();
    }
    expected.insert("last".to_owned(), b"199".to_vec());
    expected
}

fn content(store: &EmbeddedStore) -> BTreeMap<String, Vec<u8>> {
    store.scan("").unwrap().entries.into_iter().map(|e| (e.key, e.value)).collect()
}

#[tokio::test]
async fn the_embedded_store_conforms() {
    let worlds = std::sync::Mutex::new(Vec::new());
    conformance::check(|| async {
        let mut world = World::new();
        world.options = Options::default();
        let store = SharedStore::new(world.open().0).unwrap();
        worlds.lock().unwrap().push(world);
        Arc::new(store) as Arc<dyn Store>
    })
    .await;
}

#[test]
fn a_clean_stop_keeps_the_index_and_any_other_builds_it_anew() {
    let world = World::new();
    let (store, _) = world.open();
    let expected = fill(&store);
    store.close().unwrap();
    assert!(matches!(store.commit(Batch::new().put("a", "b")), Err(StoreError::Stopped(_))));
    drop(store);

    let (store, opened) = world.open();
    assert_eq!((opened.index, opened.revision), (IndexState::Kept, Revision(200)));
    assert_eq!(content(&store), expected);
    drop(store);

    let (store, opened) = world.open();
    assert!(matches!(opened.index, IndexState::Rebuilt { .. }));
    assert_eq!(content(&store), expected);
}

#[test]
fn a_second_process_is_kept_out() {
    let world = World::new();
    let (_store, _) = world.open();
    let error = world.try_open().unwrap_err();
    assert!(matches!(error, StoreIoError::Locked { .. }), "{error}");
}

#[test]
fn a_commit_costs_one_sync_and_many_at_once_share_one() {
    let mut world = World::new();
    world.options = Options::default();
    let (store, _) = world.open();
    let before = world.syncs();
    for number in 0..10 {
        store.commit(Batch::new().put("k", number.to_string())).unwrap();
    }
    assert_eq!(world.syncs().since(before).total(), 10);

    let before = world.syncs();
    let waiting: Vec<_> =
        (0..100).map(|n| store.submit(Batch::new().put(format!("g/{n}"), "x")).unwrap()).collect();
    store.write_waiting();
    let revisions: Vec<_> = waiting.into_iter().map(|mut w| w.try_recv().unwrap().unwrap()).collect();
    assert!(revisions.is_sorted() && revisions.len() == 100);
    assert_eq!(world.syncs().since(before).total(), 1);

    let before = world.syncs();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let store = &store;
            scope.spawn(move || {
                for number in 0..50 {
                    store.commit(Batch::new().put(format!("t/{thread}"), number.to_string())).unwrap();
                }
            });
        }
    });
    assert!(world.syncs().since(before).total() < 400, "concurrent commits share syncs");
    assert_eq!(store.revision(), Revision(10 + 100 + 400));
}

/// A commit that waits for a snapshot of the whole state waits long: of many small changes of a large state few
/// may have to.
#[test]
fn snapshots_are_as_rare_as_the_state_is_large() {
    let world = World::new();
    let (store, _) = world.open();
    for number in 0..60 {
        store.commit(Batch::new().put(format!("key/{number}"), vec![b'x'; 1000])).unwrap();
    }
    let journal = world.root.path().join(journal_dir("state".as_ref()));
    let snapshots = || {
        let names = fs::read_dir(&journal).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().ends_with(".snap")).collect::<Vec<_>>()
    };
    let before: std::collections::BTreeSet<_> = snapshots().into_iter().collect();
    let (mut seen, mut written) = (before.clone(), 0);
    while written < 60_000 {
        let value = vec![b'y'; 100];
        written += value.len();
        store.commit(Batch::new().put("small", value)).unwrap();
        seen.extend(snapshots());
    }
    let made = seen.len() - before.len();
    assert!((1..=2).contains(&made), "{made} snapshots of 60 KB for 60 KB of changes");
}

#[test]
fn a_queued_commit_counts_for_the_next_ones_preconditions_but_is_not_read() {
    let world = World::new();
    let (store, _) = world.open();
    let mut first = store.submit(Batch::new().put("k", "1").if_absent("k")).unwrap();
    let refused = store.submit(Batch::new().put("k", "2").if_absent("k"));
    assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
    let mut second = store.submit(Batch::new().put("k", "2").if_version("k", Revision(1))).unwrap();
    assert_eq!(store.get("k").unwrap(), None, "it is not durable");
    assert!(store.submit(Batch::new().if_absent("k")).is_ok(), "a question is about what is durable");
    store.write_waiting();
    assert_eq!(first.try_recv().unwrap().unwrap(), Revision(1));
    assert_eq!(second.try_recv().unwrap().unwrap(), Revision(2));
    assert_eq!(store.get("k").unwrap().unwrap().value, b"2");
}

/// Does something terrible to a closed store's sled directory; everything must still be there.
fn survives(harm: impl Fn(&std::path::Path)) {
    for clean in [true, false] {
        let world = World::new();
        let (store, _) = world.open();
        let expected = fill(&store);
        if clean {
            store.close().unwrap();
        }
        drop(store);
        harm(&world.sled_dir());
        let (store, opened) = world.open();
        assert_eq!(content(&store), expected, "{opened:?}");
        assert_eq!(opened.revision, Revision(200));
        store.commit(Batch::new().put("after", "x")).unwrap();
        store.close().unwrap();
        drop(store);
        let (store, opened) = world.open();
        assert_eq!(opened.index, IndexState::Kept);
        assert_eq!(store.get("after").unwrap().unwrap().version, Revision(201));
    }
}

fn files(directory: &std::path::Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn a_removed_index_is_built_anew() {
    survives(|sled| fs::remove_dir_all(sled).unwrap());
}

#[test]
fn a_file_in_the_place_of_the_index_is_built_anew() {
    survives(|sled| {
        fs::remove_dir_all(sled).unwrap();
        fs::write(sled, "not a directory").unwrap();
    });
}

#[test]
fn a_truncated_index_is_built_anew() {
    for keep in [0, 1, 3] {
        survives(|sled| {
            for file in files(sled) {
                let len = fs::metadata(&file).unwrap().len();
                fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(len * keep / 4).unwrap();
            }
        });
    }
}

#[test]
fn an_index_with_a_damaged_end_is_built_anew() {
    survives(|sled| {
        for file in files(sled) {
            let mut bytes = fs::read(&file).unwrap();
            let from = bytes.len().saturating_sub(64 << 10);
            bytes[from..].fill(0xA5);
            fs::write(&file, bytes).unwrap();
        }
    });
}

#[test]
fn an_index_with_random_damage_is_kept_only_if_it_is_right() {
    for seed in 1..12u64 {
        survives(|sled| {
            let mut random = seed;
            for file in files(sled) {
                let mut bytes = fs::read(&file).unwrap();
                for _ in 0..60 {
                    // Knuth's linear congruential generator: any will do.
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let at = usize::try_from(random >> 33).unwrap() % bytes.len().clamp(1, 40_000);
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 0x5A;
                    }
                }
                fs::write(&file, bytes).unwrap();
            }
        });
    }
}

#[test]
fn a_journal_that_lost_acknowledged_commits_is_refused() {
    let world = World::new();
    let (store, _) = world.open();
    store.commit(Batch::new().put("a", "1")).unwrap();
    store.close().unwrap();
    drop(store);
    let journal = world.root.path().join("state/journal");
    let saved = world.root.path().join("saved");
    fs::rename(&journal, &saved).unwrap();
    let error = world.try_open().unwrap_err();
    assert!(matches!(error, StoreIoError::JournalBehind { .. }), "{error}");
    assert!(error.to_string().contains("landfall-controller restore"), "{error}");

    fs::remove_dir_all(&journal).unwrap();
    fs::rename(&saved, &journal).unwrap();
    let segment = files(&journal).into_iter().find(|f| f.extension().is_some_and(|e| e == "log")).unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    bytes[30] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    let error = world.try_open().unwrap_err();
    assert!(matches!(&error, StoreIoError::Journal(JournalError::Damaged { record: 1, .. })), "{error}");
    bytes[30] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    assert_eq!(world.open().1.index, IndexState::Kept, "a refused start changes nothing");
}

#[test]
fn a_backup_becomes_the_same_store_and_any_damage_to_it_is_seen() {
    let world = World::new();
    let (store, _) = world.open();
    let expected = fill(&store);
    let mut bytes = Vec::new();
    let revision = store.export(Timestamp::from_ms(5000), &mut bytes).unwrap();
    store.commit(Batch::new().put("later", "x")).unwrap();

    let backup = Backup::read(&mut &bytes[..]).unwrap();
    assert_eq!((backup.revision, backup.made_at), (revision, Timestamp::from_ms(5000)));
    let error = backup.restore(&*world.disk, "state".as_ref()).unwrap_err();
    assert!(matches!(error, StoreIoError::NotEmpty { .. }), "{error}");
    let other = World::new();
    backup.restore(&*other.disk, "state".as_ref()).unwrap();
    let (restored, _) = other.open();
    assert_eq!(content(&restored), expected);
    assert_eq!(restored.get("last").unwrap(), store.get("last").unwrap(), "versions are kept");
    assert_eq!(restored.commit(Batch::new().put("next", "x")).unwrap(), Revision(revision.0 + 1));

    for at in (0..bytes.len()).step_by(97) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert!(Backup::read(&mut &damaged[..]).is_err(), "byte {at}");
        assert!(Backup::read(&mut &bytes[..at]).is_err(), "cut at {at}");
    }
}
