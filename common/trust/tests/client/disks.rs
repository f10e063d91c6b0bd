//! Disks that lose, tear or forget files, and power that goes at any moment.

use landfall_trust::{TrustError, TrustedStore};

use crate::world::*;

/// What is left of a file.
type Damage = fn(&[u8]) -> Option<Vec<u8>>;

/// Ways in which a file may be found after a bad day.
const DAMAGE: &[(&str, Damage)] = &[
    ("missing", |_| None),
    ("empty", |_| Some(Vec::new())),
    ("cut in half", |bytes| Some(bytes[..bytes.len() / 2].to_vec())),
    ("zeroed", |bytes| Some(vec![0; bytes.len()])),
];

/// A world at version 2, the same at version 3, and a client that has seen the latter.
fn worlds() -> (World, World, Client) {
    let mut old = World::new();
    old.publish();
    let mut new = World::new();
    new.publish();
    new.publish();
    let client = Client::up_to_date(&new);
    (old, new, client)
}

#[test]
fn a_damaged_file_never_opens_the_way_for_an_older_version() {
    let (old, new, client) = worlds();
    for name in client.disk.files().keys() {
        for (kind, damage) in DAMAGE {
            let mut files = client.disk.files().clone();
            match damage(&files[name]) {
                Some(bytes) => files.insert(name.clone(), bytes),
                None => files.remove(name),
            };
            let mut client = Client { disk: TrustedStore::from_files(files), ..client.clone() };
            assert!(client.clone().refresh(&old, start()).is_err(), "{name} {kind}: went back");
            let refreshed = client.look_up(&new, start());
            match (name.as_str(), refreshed) {
                ("floors", Err(TrustError::FloorsDamaged { .. })) => {}
                ("root_history/1.root.json", Err(TrustError::NoTrustedRoot { .. })) => {}
                (_, Ok(Some(_))) => {
                    assert!(client.refresh(&old, start()).is_err(), "{name} {kind}: went back later");
                }
                (_, other) => panic!("{name} {kind}: {other:?}"),
            }
        }
    }
}

#[test]
fn all_files_but_record_and_pinned_root_can_be_lost_at_once() {
    let (old, new, mut client) = worlds();
    let kept = ["floors", "root_history/1.root.json"];
    let files = client.disk.files().clone().into_iter().filter(|(name, _)| kept.contains(&&**name));
    client.disk = TrustedStore::from_files(files);
    assert!(client.clone().refresh(&old, start()).is_err());
    assert!(client.look_up(&new, start()).unwrap().is_some());
}

#[test]
fn an_old_copy_of_a_file_beside_the_record_does_not_count() {
    let (old, new, mut client) = worlds();
    let earlier = Client::up_to_date(&old);
    for name in ["timestamp.json", "snapshot.json", "targets.json", "apps%2Fshop.json"] {
        client.disk.put(name, earlier.disk.get(name).unwrap().to_vec());
    }
    assert!(client.clone().look_up(&old, start()).is_err());
    assert!(client.look_up(&new, start()).unwrap().is_some());
}

/// From one state of a repository to a later one, with the power gone after each write.
fn power_goes_after_each_write(old: &World, new: &World) {
    let seen = Client::up_to_date(old);
    let mut whole = Client { writes: Vec::new(), ..seen.clone() };
    whole.look_up(new, start()).unwrap();
    assert!(whole.writes.len() >= 8, "{:?}", whole.writes);
    for written in 0..=whole.writes.len() {
        let mut client = Client { powerless_after: written, writes: Vec::new(), ..seen.clone() };
        client.look_up(new, start()).unwrap();
        client.powerless_after = usize::MAX;
        // A role of which the new version reached the disk does not go back to the old one.
        let mut backwards = client.clone();
        let _ = backwards.look_up(old, start());
        for role in ["root", "timestamp", "snapshot", "targets", SHOP] {
            let (before, after) = (client.version(role), backwards.version(role));
            assert!(after >= before, "after {written} writes {role} went back from {before} to {after}");
        }
        assert!(
            client.look_up(new, start()).unwrap().is_some(),
            "after {written} writes the client is stuck"
        );
        assert_eq!(client.disk, whole.disk, "after {written} writes the client ends elsewhere");
    }
}

#[test]
fn wherever_the_power_goes_the_client_goes_on_and_never_back() {
    let (old, new, _) = worlds();
    power_goes_after_each_write(&old, &new);
}

#[test]
fn wherever_the_power_goes_while_keys_rotate_the_client_goes_on_and_never_back() {
    let mut old = World::new();
    old.publish();
    let mut new = World::new();
    new.publish();
    new.rotate(&["root", "timestamp"], 60);
    new.rotate(&["snapshot"], 70);
    new.publish();
    power_goes_after_each_write(&old, &new);
}

#[test]
fn a_setup_that_was_cut_short_is_noticed() {
    let world = World::new();
    let whole = TrustedStore::initialise(&world.served["1.root.json"]).unwrap();
    for written in 0..whole.files().len() {
        let files = whole.files().clone().into_iter().take(written);
        let mut client = Client { disk: TrustedStore::from_files(files), ..Client::of(&world) };
        let outcome = client.refresh(&world, start());
        let complete =
            client.disk.get("root_history/1.root.json").is_some() && client.disk.get("floors").is_some();
        assert_eq!(outcome.is_ok(), complete, "after {written} files: {:?}", outcome.err());
    }
}

#[test]
fn a_refresh_without_news_writes_nothing() {
    let world = World::new();
    let mut client = Client::up_to_date(&world);
    client.writes.clear();
    client.look_up(&world, start()).unwrap();
    assert_eq!(client.writes, Vec::<String>::new());
}
