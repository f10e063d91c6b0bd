//! The journal over a real directory; what a crash does to it is tried in `tests/sim`.

use super::*;
use crate::disk::RealDisk;

struct World {
    root: tempfile::TempDir,
    disk: Arc<RealDisk>,
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let disk = Arc::new(RealDisk::new(root.path()));
        Self { root, disk }
    }

    fn try_open(&self) -> Result<(Journal, Recovered), JournalError> {
        Journal::open(self.disk.clone(), "journal", Options { segment_bytes: 300, ..Options::default() })
    }

    fn open(&self) -> (Journal, Recovered) {
        self.try_open().unwrap()
    }

    fn files(&self) -> Vec<String> {
        let entries = self.disk.list("journal".as_ref()).unwrap();
        entries.into_iter().map(|e| e.name.into_string().unwrap()).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join("journal").join(name)
    }

    fn flip(&self, name: &str, at: usize) {
        let mut bytes = std::fs::read(self.path(name)).unwrap();
        bytes[at] ^= 0x40;
        std::fs::write(self.path(name), bytes).unwrap();
    }
}

fn texts(recovered: &Recovered) -> Vec<String> {
    recovered.records.iter().map(|(_, bytes)| String::from_utf8(bytes.clone()).unwrap()).collect()
}

const FIRST: &str = "seg-00000000000000000001.log";

#[test]
fn records_are_read_back_in_order_over_several_segments() {
    let world = World::new();
    let (mut journal, recovered) = world.open();
    assert_eq!(recovered, Recovered::default());
    for number in 1..=20 {
        journal.append(&[format!("record {number}")]).unwrap();
        journal.sync().unwrap();
    }
    drop(journal);
    assert!(world.files().len() > 2, "{:?}", world.files());
    let (journal, recovered) = world.open();
    assert_eq!(texts(&recovered), (1..=20).map(|n| format!("record {n}")).collect::<Vec<_>>());
    assert_eq!((journal.last(), journal.durable()), (20, 20));
    assert!(recovered.notes.is_empty());
}

#[test]
fn a_group_of_records_costs_one_sync() {
    let world = World::new();
    let (mut journal, _) = world.open();
    let before = world.disk.sync_counts();
    let group: Vec<String> = (0..10).map(|n| n.to_string()).collect();
    journal.append(&group).unwrap();
    journal.append(&["one more"]).unwrap();
    journal.sync().unwrap();
    journal.sync().unwrap();
    assert_eq!(world.disk.sync_counts().since(before).total(), 1);
}

#[test]
fn a_tail_cut_at_any_byte_is_dropped_and_told_and_the_rest_stays() {
    let world = World::new();
    let (mut journal, _) = world.open();
    journal.append(&["kept"]).unwrap();
    journal.sync().unwrap();
    let whole = std::fs::read(world.path(FIRST)).unwrap();
    journal.append(&["not acknowledged"]).unwrap();
    drop(journal);
    let with_tail = std::fs::read(world.path(FIRST)).unwrap();
    for len in whole.len() + 1..with_tail.len() {
        for garbage in [0, 20] {
            let mut bytes = with_tail[..len].to_vec();
            bytes.extend(std::iter::repeat_n(0xA5, garbage));
            std::fs::write(world.path(FIRST), &bytes).unwrap();
            let (mut journal, recovered) = world.open();
            assert_eq!(texts(&recovered), ["kept"]);
            assert!(
                matches!(&recovered.notes[..], [Note::TornTail { offset, .. }] if *offset == whole.len() as u64)
            );
            journal.append(&["next"]).unwrap();
            journal.sync().unwrap();
            drop(journal);
            let (_, recovered) = world.open();
            assert_eq!(texts(&recovered), ["kept", "next"]);
            assert!(recovered.notes.is_empty(), "{:?}", recovered.notes);
        }
    }
}

#[test]
fn damage_to_any_byte_of_an_acknowledged_record_is_refused_and_changes_nothing() {
    let world = World::new();
    let (mut journal, _) = world.open();
    for text in ["one", "two", "three"] {
        journal.append(&[text]).unwrap();
        journal.sync().unwrap();
    }
    journal.close().unwrap();
    let whole = std::fs::read(world.path(FIRST)).unwrap();
    let last_mark = whole.len() - frame::HEADER_BYTES;
    for at in 0..last_mark - frame::HEADER_BYTES {
        world.flip(FIRST, at);
        let error = world.try_open().unwrap_err();
        assert!(
            matches!(&error, JournalError::Damaged { offset, .. } if *offset <= at as u64),
            "{at}: {error}"
        );
        assert!(error.to_string().contains("restore a backup"), "{error}");
        world.flip(FIRST, at);
        assert_eq!(std::fs::read(world.path(FIRST)).unwrap(), whole, "{at}");
    }
    assert_eq!(texts(&world.open().1), ["one", "two", "three"]);
}

#[test]
fn a_missing_segment_is_refused() {
    let world = World::new();
    let (mut journal, _) = world.open();
    for number in 1..=20 {
        journal.append(&[format!("record {number}")]).unwrap();
        journal.sync().unwrap();
    }
    drop(journal);
    let second = world.files()[1].clone();
    std::fs::remove_file(world.path(&second)).unwrap();
    let error = world.try_open().unwrap_err();
    assert!(matches!(error, JournalError::Missing { .. }), "{error}");
    std::fs::remove_file(world.path(FIRST)).unwrap();
    assert!(matches!(world.try_open().unwrap_err(), JournalError::Missing { first: 1, .. }));
}

#[test]
fn a_snapshot_stands_for_what_it_covers_and_the_one_before_is_kept() {
    let world = World::new();
    let (mut journal, _) = world.open();
    for number in 1..=3 {
        for part in ["a", "b"] {
            journal.append(&[format!("{number}{part}")]).unwrap();
        }
        journal.compact(format!("state {number}").as_bytes()).unwrap();
        journal.compact(b"the same again").unwrap();
    }
    journal.append(&["after"]).unwrap();
    journal.close().unwrap();
    assert_eq!(
        world.files(),
        [
            "seg-00000000000000000005.log",
            "seg-00000000000000000007.log",
            "snap-00000000000000000004.snap",
            "snap-00000000000000000006.snap",
        ]
    );
    let (journal, recovered) = world.open();
    assert_eq!(recovered.snapshot, Some(Snapshot { last: 6, payload: b"state 3".to_vec() }));
    assert_eq!(texts(&recovered), ["after"]);
    assert_eq!((journal.last(), journal.since_snapshot()), (7, 1));
}

#[test]
fn a_damaged_snapshot_is_set_aside_for_the_one_before() {
    let world = World::new();
    let (mut journal, _) = world.open();
    for number in 1..=2 {
        journal.append(&[number.to_string()]).unwrap();
        journal.compact(format!("state {number}").as_bytes()).unwrap();
    }
    journal.append(&["3"]).unwrap();
    journal.sync().unwrap();
    drop(journal);
    world.flip("snap-00000000000000000002.snap", 60);
    let (mut journal, recovered) = world.open();
    assert_eq!(recovered.snapshot, Some(Snapshot { last: 1, payload: b"state 1".to_vec() }));
    assert_eq!(texts(&recovered), ["2", "3"]);
    assert!(matches!(&recovered.notes[..], [Note::DamagedSnapshot { .. }]), "{:?}", recovered.notes);
    journal.compact(b"state 3").unwrap();
    drop(journal);
    assert!(world.files().iter().all(|f| !f.ends_with(".damaged")), "{:?}", world.files());
    assert_eq!(world.open().1.snapshot, Some(Snapshot { last: 3, payload: b"state 3".to_vec() }));

    world.flip("snap-00000000000000000003.snap", 60);
    world.flip("snap-00000000000000000001.snap", 60);
    let error = world.try_open().unwrap_err();
    assert!(matches!(error, JournalError::Missing { first: 1, .. }), "{error}");
}

#[test]
fn a_journal_can_begin_with_a_snapshot() {
    let world = World::new();
    let dir = Path::new("journal");
    Journal::create_from_snapshot(&*world.disk, dir, 41, b"state").unwrap();
    assert!(Journal::create_from_snapshot(&*world.disk, dir, 41, b"state").is_err());
    let (mut journal, recovered) = world.open();
    assert_eq!(recovered.last(), 41);
    assert_eq!(journal.append(&["next"]).unwrap(), 42);
    journal.sync().unwrap();
    drop(journal);
    assert_eq!(world.open().1.records, [(42, b"next".to_vec())]);
}
