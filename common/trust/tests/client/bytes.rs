//! Whatever bytes come, nothing panics, and nothing that was not signed is believed.

use landfall_trust::director::verify_document;
use landfall_trust::metadata::{Root, Snapshot, Targets, Timestamp, path_matches};
use landfall_trust::store::Floors;
use landfall_trust::{Envelope, KeyPair, Next, PublicKey, Signed, TrustedStore, Updater};
use proptest::prelude::*;
use serde_json::Value;

use crate::world::*;

/// JSON of the shape of metadata, with anything in its places.
fn metadata() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(Value::from("2030-01-01T00:00:00Z")),
    ];
    let key = prop_oneof![
        prop::sample::select(vec![
            "_type",
            "spec_version",
            "version",
            "expires",
            "meta",
            "snapshot.json",
            "targets.json",
            "targets",
            "delegations",
            "keys",
            "roles",
            "root",
            "timestamp",
            "snapshot",
            "keyids",
            "threshold",
            "name",
            "paths",
            "terminating",
            "hashes",
            "length",
            "keytype",
            "scheme",
            "keyval",
            "public",
            "signed",
            "signatures",
            "keyid",
            "sig",
            "consistent_snapshot",
        ])
        .prop_map(str::to_owned),
        ".{0,6}",
    ];
    leaf.prop_recursive(6, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn read_as_everything(bytes: &[u8]) {
    let _ = Signed::<Root>::read("root", bytes.to_vec());
    let _ = Signed::<Targets>::read("targets", bytes.to_vec());
    let _ = Signed::<Snapshot>::read("snapshot", bytes.to_vec());
    let _ = Signed::<Timestamp>::read("timestamp", bytes.to_vec());
    let _ = TrustedStore::initialise(bytes);
    let _ = Floors::parse(bytes);
    let _ = KeyPair::from_pkcs8(bytes);
    let _ = verify_document::<Value>("landfall.assignment", bytes, &[public(1)], 1);
    if let Ok(envelope) = Envelope::parse("x", bytes) {
        let _ = envelope.digest("x");
    }
    if let Ok(key) = serde_json::from_slice::<PublicKey>(bytes) {
        assert!(!key.verifies(b"", b""));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        read_as_everything(&bytes);
    }

    #[test]
    fn any_json_is_read_without_a_panic(value in metadata()) {
        read_as_everything(&serde_json::to_vec(&value).unwrap());
    }

    #[test]
    fn any_json_in_the_place_of_any_file_is_refused(value in metadata(), at in 0usize..5) {
        let world = World::new();
        let mut updater = Updater::start(Client::of(&world).disk, start(), Default::default()).unwrap();
        let bytes = serde_json::to_vec(&value).unwrap();
        let mut fed = 0;
        loop {
            match updater.advance().unwrap() {
                Next::Store { .. } => {}
                Next::Fetch(_) if fed == at => {
                    prop_assert!(updater.feed(Some(bytes)).is_err());
                    break;
                }
                Next::Fetch(need) => {
                    updater.feed(world.served.get(&need.name).cloned()).unwrap();
                    fed += 1;
                }
                Next::Ready if updater.find(PATH).unwrap() != landfall_trust::Lookup::Incomplete => break,
                Next::Ready => {}
            }
        }
    }

    /// One changed byte anywhere: refused, or (a byte of white space, an unsigned field) without effect.
    #[test]
    fn a_changed_byte_changes_nothing_that_is_believed(file in 0usize..5, at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut world = World::new();
        for meta in world.snapshot.meta.values_mut().chain(world.timestamp.meta.values_mut()) {
            (meta.length, meta.hashes) = (None, None);
        }
        let honest = Client::of(&world).look_up(&world, start()).unwrap();
        let name = world.served.keys().nth(file).unwrap().clone();
        let bytes = world.served.get_mut(&name).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(found) = Client::of(&World::new()).look_up(&world, start()) {
            prop_assert_eq!(found, honest);
        }
    }

    #[test]
    fn any_pattern_and_any_path_can_be_compared(pattern in "[*?a/\\[\\]é]{0,24}", path in "[ab/é]{0,24}") {
        let _ = path_matches(&pattern, &path);
        prop_assert!(path_matches(&path, &path));
        prop_assert_eq!(path_matches("*", &path), !path.contains('/'));
    }

    #[test]
    fn any_store_starts_or_says_why_not(files in prop::collection::btree_map(
        prop::sample::select(vec!["floors", "root.json", "root_history/1.root.json", "timestamp.json"]),
        prop::collection::vec(any::<u8>(), 0..64), 0..4)) {
        let files = files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes));
        prop_assert!(Updater::start(TrustedStore::from_files(files), start(), Default::default()).is_err());
    }
}
