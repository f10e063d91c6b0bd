//! Fast-forward attacks: an attacker with an online key raises versions to the sky, and a new root brings
//! them back to earth, once (TUF §5.3.11).

use landfall_trust::metadata::file_name;

use crate::world::*;

/// All online versions at 100, then the roles in question get new keys and start again.
struct Case {
    rotated: &'static [&'static str],
    restart: fn(&mut World),
    /// How the refusal begins; empty if the restart is accepted.
    told: &'static str,
}

const CASES: &[Case] = &[
    Case { rotated: &["timestamp"], restart: |w| w.timestamp.header.version = 1, told: "" },
    Case {
        rotated: &["snapshot"],
        restart: |w| {
            w.body("targets").header.version = 1;
            w.bump_online();
        },
        told: "",
    },
    Case {
        rotated: &["timestamp", "snapshot"],
        restart: |w| {
            w.timestamp.header.version = 1;
            w.snapshot.header.version = 1;
        },
        told: "",
    },
    Case {
        rotated: &["snapshot"],
        restart: |w| {
            w.bump_online();
            w.snapshot.meta.remove("apps/shop.json");
            w.targets.remove(SHOP);
        },
        told: "",
    },
    // Without new keys for the role that vouches, nothing comes down.
    Case {
        rotated: &[],
        restart: |w| w.timestamp.header.version = 1,
        told: "timestamp version 1 is below version 100",
    },
    Case {
        rotated: &["root"],
        restart: |w| w.timestamp.header.version = 1,
        told: "timestamp version 1 is below version 100",
    },
    Case {
        rotated: &["snapshot"],
        restart: |w| w.timestamp.header.version = 1,
        told: "timestamp version 1 is below version 100",
    },
    Case {
        rotated: &["timestamp"],
        restart: |w| {
            w.timestamp.header.version = 1;
            w.snapshot.header.version = 1;
        },
        told: "snapshot version 1 is below version 100",
    },
    Case {
        rotated: &["targets", "timestamp"],
        restart: |w| {
            w.body("targets").header.version = 1;
            w.bump_online();
        },
        told: "targets version 1 is below version 100",
    },
];

#[test]
fn versions_come_down_only_for_the_role_whose_keys_a_newer_root_takes_away() {
    for (number, case) in CASES.iter().enumerate() {
        let mut world = World::new();
        world.timestamp.header.version = 99;
        world.snapshot.header.version = 99;
        world.targets.values_mut().for_each(|body| body.header.version = 99);
        world.publish();
        let mut client = Client::up_to_date(&world);
        assert_eq!(client.version("timestamp"), 100);
        if !case.rotated.is_empty() {
            world.rotate(case.rotated, 60);
        }
        (case.restart)(&mut world);
        world.serve_all();
        let told = client.refresh(&world, start()).map_or_else(|error| told(&error), |_| String::new());
        match case.told {
            "" => assert_eq!(told, "", "case {number}"),
            expected => {
                assert!(told.starts_with(expected), "case {number}: {told}");
                // Nor is the file kept that would have vouched for it.
                let vouching = if expected.starts_with("targets") { "snapshot" } else { "timestamp" };
                assert_eq!(client.version(vouching), 100, "case {number}");
            }
        }
    }
}

#[test]
fn adding_or_renaming_a_key_brings_nothing_down() {
    let mut world = World::new();
    world.publish();
    let mut client = Client::up_to_date(&world);
    let mut renamed = public(2);
    renamed.extra.insert("note".to_owned(), serde_json::json!("renamed"));
    world.root = world.root.next(world.expires);
    world.root.set_role("timestamp", &[public(2), renamed, public(70)], 1);
    world.serve_root();
    world.timestamp.header.version = 1;
    world.serve_timestamp();
    let error = client.refresh(&world, start()).unwrap_err();
    assert!(told(&error).starts_with("timestamp version 1 is below version 2"), "{error}");
}

/// The hole that was found in another client: once the local copies of a rotation are gone and it is walked
/// again, the floors that were built after it must not come down a second time.
#[test]
fn walking_an_old_rotation_again_brings_nothing_down() {
    let mut world = World::new();
    world.publish();
    let mut client = Client::up_to_date(&world);
    world.rotate(&["timestamp"], 60);
    world.timestamp.header.version = 10;
    world.publish();
    client.look_up(&world, start()).unwrap();
    assert_eq!((client.version("root"), client.version("timestamp")), (2, 11));

    let files = client.disk.files().clone();
    client.disk = landfall_trust::TrustedStore::from_files(
        files.into_iter().filter(|(name, _)| name == "floors" || name == "root_history/1.root.json"),
    );
    let mut older = World::new();
    older.rotate(&["timestamp"], 60);
    older.timestamp.header.version = 9;
    older.publish();
    let error = client.refresh(&older, start()).unwrap_err();
    assert!(told(&error).starts_with("timestamp version 10 is below version 11"), "{error}");
    client.look_up(&world, start()).unwrap();
}

#[test]
fn a_root_that_was_seen_cannot_be_withheld_or_replaced() {
    let mut world = World::new();
    world.rotate(&["timestamp"], 60);
    world.publish();
    let mut client = Client::up_to_date(&world);
    client.disk = landfall_trust::TrustedStore::from_files(
        client
            .disk
            .files()
            .clone()
            .into_iter()
            .filter(|(name, _)| name != "root_history/2.root.json" && name != "root.json"),
    );
    let withheld = World::new();
    let error = client.clone().refresh(&withheld, start()).unwrap_err();
    assert!(told(&error).starts_with("root version 1 is below version 2"), "{error}");
    let mut replaced = World::new();
    replaced.rotate(&["snapshot"], 61);
    replaced.publish();
    let error = client.clone().refresh(&replaced, start()).unwrap_err();
    assert!(told(&error).starts_with("root version 2 has been seen with other content"), "{error}");
    client.refresh(&world, start()).unwrap();
}

#[test]
fn a_long_chain_of_roots_is_walked_in_several_refreshes() {
    let mut world = World::new();
    let mut client = Client::of(&world);
    client.limits.root_rotations = 3;
    for seed in 0..7 {
        world.rotate(&["root"], 100 + seed);
    }
    for _ in 0..2 {
        let error = client.refresh(&world, start()).unwrap_err();
        assert!(told(&error).starts_with("more than 3 new root versions"), "{error}");
    }
    client.refresh(&world, start()).unwrap();
    assert_eq!(client.version("root"), 8);
    assert!(client.disk.get(&format!("root_history/{}", file_name("root", Some(5)))).is_some());
}
