//! What the simulated disk may lose, and what it must not.

use std::collections::BTreeSet;

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;

/// What is seen after a crash, over many throws of the dice.
fn outcomes<T: Ord>(prepare: impl Fn(&SimDisk), look: impl Fn(&SimDisk) -> T) -> BTreeSet<T> {
    (0..300)
        .map(|seed| {
            let disk = SimDisk::new(seed);
            prepare(&disk);
            disk.crash(&mut StdRng::seed_from_u64(seed));
            look(&disk)
        })
        .collect()
}

fn content(disk: &SimDisk, path: &str) -> Option<Vec<u8>> {
    disk.read(path.as_ref()).unwrap()
}

#[test]
fn what_was_synced_with_its_name_survives_every_crash() {
    let seen = outcomes(
        |disk| {
            disk.ensure_dir("a/b".as_ref()).unwrap();
            let mut file = disk.open_append("a/b/file".as_ref()).unwrap();
            file.append(b"kept").unwrap();
            file.sync_data().unwrap();
            disk.sync_dir("a/b".as_ref()).unwrap();
        },
        |disk| content(disk, "a/b/file"),
    );
    assert_eq!(seen, BTreeSet::from([Some(b"kept".to_vec())]));
}

#[test]
fn an_atomic_write_shows_the_old_or_the_new_never_another() {
    let seen = outcomes(
        |disk| {
            disk.write_atomic("file".as_ref(), b"old").unwrap();
            disk.write_new("file.tmp".as_ref(), b"newer", 0o600).unwrap();
            disk.sync_file("file.tmp".as_ref()).unwrap();
            disk.rename("file.tmp".as_ref(), "file".as_ref()).unwrap();
        },
        |disk| content(disk, "file"),
    );
    assert_eq!(seen, BTreeSet::from([Some(b"old".to_vec()), Some(b"newer".to_vec())]));
}

#[test]
fn a_rename_without_a_sync_of_the_bytes_can_leave_an_empty_or_torn_file() {
    let seen = outcomes(
        |disk| {
            disk.write_atomic("file".as_ref(), b"old").unwrap();
            disk.write_new("file.tmp".as_ref(), b"newer", 0o600).unwrap();
            disk.rename("file.tmp".as_ref(), "file".as_ref()).unwrap();
            disk.sync_dir("".as_ref()).unwrap();
        },
        |disk| content(disk, "file"),
    );
    assert!(seen.contains(&Some(Vec::new())) && seen.contains(&Some(b"newer".to_vec())));
    assert!(seen.contains(&Some(b"ne".to_vec())) && seen.contains(&Some(vec![0; 5])) && seen.len() > 10);
    assert!(!seen.contains(&Some(b"old".to_vec())), "the name was synced");
}

#[test]
fn a_name_that_was_not_synced_may_be_lost_though_its_bytes_were() {
    let seen = outcomes(
        |disk| {
            disk.write_new("file".as_ref(), b"x", 0o600).unwrap();
            disk.sync_file("file".as_ref()).unwrap();
        },
        |disk| content(disk, "file"),
    );
    assert_eq!(seen, BTreeSet::from([None, Some(b"x".to_vec())]));
}

#[test]
fn a_later_name_may_survive_an_earlier_one_and_a_rename_is_never_half() {
    let seen = outcomes(
        |disk| {
            for name in ["a", "b"] {
                disk.write_atomic(name.as_ref(), name.as_bytes()).unwrap();
            }
            disk.ensure_dir("d".as_ref()).unwrap();
            disk.rename("a".as_ref(), "d/a".as_ref()).unwrap();
            disk.rename("b".as_ref(), "d/b".as_ref()).unwrap();
        },
        |disk| {
            for name in ["a", "b"] {
                let moved = format!("d/{name}");
                assert_ne!(disk.exists(name.as_ref()).unwrap(), disk.exists(moved.as_ref()).unwrap());
            }
            (disk.exists("d/a".as_ref()).unwrap(), disk.exists("d/b".as_ref()).unwrap())
        },
    );
    assert_eq!(seen, BTreeSet::from([(false, false), (false, true), (true, false), (true, true)]));
}

#[test]
fn a_directory_sync_carries_what_a_rename_across_directories_needs() {
    let seen = outcomes(
        |disk| {
            disk.ensure_dir("d".as_ref()).unwrap();
            disk.ensure_dir("e".as_ref()).unwrap();
            disk.write_new("e/x".as_ref(), b"1", 0o600).unwrap();
            disk.write_atomic("d/y".as_ref(), b"2").unwrap();
            disk.rename("d/y".as_ref(), "e/x".as_ref()).unwrap();
            disk.sync_dir("d".as_ref()).unwrap();
        },
        |disk| (content(disk, "e/x"), content(disk, "d/y")),
    );
    assert_eq!(seen, BTreeSet::from([(Some(b"2".to_vec()), None)]));
}

#[test]
fn a_truncation_that_was_not_synced_may_come_back() {
    let seen = outcomes(
        |disk| {
            disk.write_atomic("file".as_ref(), b"abcdef").unwrap();
            let mut file = disk.open_append("file".as_ref()).unwrap();
            file.truncate(4).unwrap();
            file.truncate(2).unwrap();
            file.append(b"X").unwrap();
        },
        |disk| content(disk, "file").unwrap(),
    );
    assert!(
        seen.contains(&b"abcdef"[..]) && seen.contains(&b"ab"[..]) && seen.contains(&b"abX"[..]),
        "{seen:?}"
    );
    assert!(seen.iter().all(|bytes| bytes.starts_with(b"ab")));
}

#[test]
fn bytes_whose_sync_failed_are_not_saved_by_a_later_sync() {
    let disk = SimDisk::new(1);
    let mut file = disk.open_append("file".as_ref()).unwrap();
    disk.sync_dir("".as_ref()).unwrap();
    disk.set_faults(Faults { sync_error_ppm: 1_000_000, ..Faults::default() });
    file.append(b"doomed").unwrap();
    let error = file.sync_data().unwrap_err();
    assert_eq!(error.source.raw_os_error(), Some(5));
    disk.set_faults(Faults::default());
    file.append(b" saved").unwrap();
    file.sync_data().unwrap();
    assert_eq!(content(&disk, "file").unwrap(), b"doomed saved");
    disk.crash(&mut StdRng::seed_from_u64(1));
    let left = content(&disk, "file").unwrap();
    assert!(left.ends_with(b" saved") && !left.starts_with(b"doomed"), "{left:?}");
}

#[test]
fn a_full_disk_takes_what_fits_and_goes_on_when_there_is_room() {
    let disk = SimDisk::new(1);
    disk.write_atomic("old".as_ref(), b"12345").unwrap();
    disk.set_faults(Faults { capacity_bytes: Some(8), ..Faults::default() });
    let mut file = disk.open_append("file".as_ref()).unwrap();
    let error = file.append(b"12345").unwrap_err();
    assert!(error.is_full(), "{error}");
    assert_eq!(file.len().unwrap(), 3);
    assert!(disk.write_atomic("other".as_ref(), b"x").unwrap_err().is_full());
    disk.remove_file("old".as_ref()).unwrap();
    disk.write_atomic("other".as_ref(), b"x").unwrap();
    assert_eq!(disk.used_bytes(), 4);
}

#[test]
fn after_the_power_went_everything_fails_until_the_machine_is_back() {
    let disk = SimDisk::new(1);
    let lock = disk.try_lock("lock".as_ref()).unwrap().unwrap();
    assert!(disk.try_lock("lock".as_ref()).unwrap().is_none());
    let mut file = disk.open_append("file".as_ref()).unwrap();
    disk.set_faults(Faults { power_off_after: Some(1), ..Faults::default() });
    file.append(b"a").unwrap();
    assert!(file.append(b"b").is_err());
    assert!(disk.is_off() && disk.read("file".as_ref()).is_err());
    disk.crash(&mut StdRng::seed_from_u64(3));
    assert!(file.append(b"c").is_err(), "the handle died with its process");
    let again = disk.try_lock("lock".as_ref()).unwrap().unwrap();
    drop(lock);
    assert!(disk.try_lock("lock".as_ref()).unwrap().is_none(), "a dead lock frees nothing");
    drop(again);
}

#[test]
fn links_are_followed_and_stay_inside() {
    let disk = SimDisk::new(1);
    disk.ensure_dir("releases/v1".as_ref()).unwrap();
    disk.ensure_dir("shared".as_ref()).unwrap();
    disk.write_new("shared/env".as_ref(), b"x", 0o600).unwrap();
    disk.symlink("../../shared/env".as_ref(), "releases/v1/.env".as_ref()).unwrap();
    disk.symlink_atomic("releases/v1".as_ref(), "current".as_ref()).unwrap();
    assert_eq!(content(&disk, "current/.env").unwrap(), b"x");
    disk.hard_link("shared/env".as_ref(), "releases/v1/copy".as_ref()).unwrap();
    disk.remove_dir_all("shared".as_ref()).unwrap();
    assert_eq!(content(&disk, "current/copy").unwrap(), b"x");
    assert_eq!(content(&disk, "current/.env"), None);
    assert!(disk.read("../x".as_ref()).is_err());
}

#[test]
fn memory_is_given_back_for_files_that_are_gone() {
    let disk = SimDisk::new(1);
    for round in 0..1000u32 {
        disk.write_atomic("file".as_ref(), &round.to_le_bytes()).unwrap();
    }
    assert!(disk.state().node_count() < 300);
}
