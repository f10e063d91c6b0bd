//! One line per attack of TUF §1.5.2 and per rule of §5.3–§5.7: what is served, and what the client says.

use serde_json::json;

use crate::forgery::*;
use crate::world::*;

struct Attack {
    name: &'static str,
    /// What the repository does after the client has seen version 2 of everything.
    by: fn(&mut World),
    /// How the client's refusal begins; empty if the attack must just have no effect.
    told: &'static str,
}

const fn attack(name: &'static str, by: fn(&mut World), told: &'static str) -> Attack {
    Attack { name, by, told }
}

fn past() -> landfall_common::Timestamp {
    start()
}

const ATTACKS: &[Attack] = &[
    // Freeze: §5.3.10, §5.4.4, §5.5.6, §5.6.6. Expiry is exclusive: at the very moment it has expired.
    attack(
        "expired root",
        |w| {
            w.expires = past();
            w.rotate(&[], 0);
        },
        "root version 2 expired at 2026-11-21T00:00:00Z, and it is 2026-11-21T00:00:00Z",
    ),
    attack(
        "expired timestamp",
        |w| {
            w.publish();
            w.timestamp.header.expires = past();
            w.serve_timestamp();
        },
        "timestamp version 3 expired",
    ),
    attack(
        "expired snapshot",
        |w| {
            w.bump_online();
            w.snapshot.header.expires = past();
            w.serve_online();
        },
        "snapshot version 3 expired",
    ),
    attack(
        "expired targets",
        |w| {
            w.expires = past();
            bump(w, "targets");
        },
        "targets version 3 expired",
    ),
    attack(
        "expired delegate",
        |w| {
            w.expires = past();
            bump(w, SHOP);
        },
        "apps/shop version 3 expired",
    ),
    // Arbitrary software: §5.3.4, §5.4.2, §5.5.3, §5.6.3.
    attack(
        "root by a stranger",
        |w| {
            stranger(w, "root");
            w.rotate(&[], 0);
        },
        "root has 0 valid signature(s) of 1 that root demands",
    ),
    attack(
        "timestamp by a stranger",
        |w| {
            stranger(w, "timestamp");
            w.publish();
        },
        "timestamp has 0 valid signature(s) of 1",
    ),
    attack(
        "snapshot by a stranger",
        |w| {
            stranger(w, "snapshot");
            w.publish();
        },
        "snapshot has 0 valid signature(s) of 1",
    ),
    attack(
        "targets by a stranger",
        |w| {
            stranger(w, "targets");
            w.publish();
        },
        "targets has 0 valid signature(s) of 1",
    ),
    attack(
        "delegate by a stranger",
        |w| {
            stranger(w, SHOP);
            w.publish();
        },
        "apps/shop has 0 valid signature(s) of 1 that targets demands",
    ),
    attack(
        "delegate by the top-level key",
        |w| {
            w.signers.insert(SHOP.to_owned(), vec![pair(4)]);
            w.publish();
        },
        "apps/shop has 0 valid signature(s) of 1",
    ),
    attack(
        "root by the new key only",
        root_by_new_key_only,
        "root has 0 valid signature(s) of 1 that root demands",
    ),
    attack(
        "root by the old key only",
        root_by_old_key_only,
        "root has 0 valid signature(s) of 1 that root demands",
    ),
    attack(
        "one key under two ids towards a threshold of 2",
        one_key_twice,
        "apps/shop has 1 valid signature(s) of 2",
    ),
    attack(
        "a key id twice among the signatures",
        |w| {
            w.publish();
            edit(w, "timestamp.json", |file| {
                let again = file["signatures"][0].clone();
                file["signatures"].as_array_mut().unwrap().push(again);
            });
        },
        "timestamp is not valid: key",
    ),
    attack(
        "a changed byte",
        |w| {
            w.publish();
            edit(w, "timestamp.json", |file| file["signed"]["version"] = json!(4));
        },
        "timestamp has 0 valid signature(s)",
    ),
    // Rollback: §5.3.5, §5.4.3, §5.5.5.
    attack(
        "older timestamp",
        |w| {
            w.timestamp.header.version = 1;
            w.serve_timestamp();
        },
        "timestamp version 1 is below version 2",
    ),
    attack(
        "older snapshot",
        |w| {
            w.bump_online();
            w.snapshot.header.version = 1;
            w.serve_online();
        },
        "snapshot version 1 is below version 2",
    ),
    attack(
        "older targets",
        |w| {
            w.bump_online();
            roll_back(w, "targets");
        },
        "targets version 1 is below version 2",
    ),
    attack(
        "older delegate",
        |w| {
            w.bump_online();
            roll_back(w, SHOP);
        },
        "apps/shop version 1 is below version 2",
    ),
    attack(
        "delegate no longer listed",
        |w| {
            w.bump_online();
            w.snapshot.meta.remove("apps/shop.json");
            w.serve_online();
        },
        "the new snapshot no longer lists apps/shop",
    ),
    attack(
        "root again under the next name",
        |w| {
            let bytes = w.served["1.root.json"].clone();
            w.served.insert("2.root.json".to_owned(), bytes);
        },
        "root has version 1, but version 2 was asked for",
    ),
    attack(
        "root that skips a version",
        |w| {
            w.root.header.version = 2;
            w.rotate(&[], 0);
            let bytes = w.served.remove("3.root.json").unwrap();
            w.served.insert("2.root.json".to_owned(), bytes);
        },
        "root has version 3, but version 2 was asked for",
    ),
    // Mix and match: §5.5.2, §5.5.4, §5.6.2, §5.6.4.
    attack(
        "another snapshot than listed",
        |w| {
            w.publish();
            w.timestamp.meta.insert("snapshot.json".to_owned(), bare(3));
            w.serve_timestamp();
            let old = w.served["2.snapshot.json"].clone();
            w.served.insert("3.snapshot.json".to_owned(), old);
        },
        "snapshot has version 2, but version 3 was asked for",
    ),
    attack(
        "another delegate than listed",
        |w| {
            w.publish();
            w.snapshot.meta.insert("apps/shop.json".to_owned(), bare(3));
            w.serve_online();
            let old = w.served["2.apps%2Fshop.json"].clone();
            w.served.insert("3.apps%2Fshop.json".to_owned(), old);
        },
        "apps/shop has version 2, but version 3 was asked for",
    ),
    attack(
        "one delegate's file for another's",
        |w| {
            w.publish();
            w.snapshot.meta.insert("apps/shop.json".to_owned(), bare(3));
            w.serve_online();
            let other = w.served["3.targets.json"].clone();
            w.served.insert("3.apps%2Fshop.json".to_owned(), other);
        },
        "apps/shop has 0 valid signature(s)",
    ),
    attack(
        "a snapshot of another digest",
        |w| {
            w.publish();
            w.snapshot.extra.insert("x".to_owned(), json!(1));
            reserve_snapshot(w);
        },
        "snapshot does not have the length digest",
    ),
    attack(
        "a snapshot with a byte more",
        |w| {
            w.publish();
            grow(w, "3.snapshot.json");
        },
        "3.snapshot.json has",
    ),
    attack(
        "targets with a byte more",
        |w| {
            w.publish();
            grow(w, "3.targets.json");
        },
        "3.targets.json has",
    ),
    attack(
        "only unknown digests",
        |w| {
            w.publish();
            let meta = w.snapshot.meta.get_mut("targets.json").unwrap();
            meta.hashes = Some([("md5".to_owned(), "00".to_owned())].into());
            w.serve_online();
        },
        "targets is vouched for only by unknown digests: md5",
    ),
    // The same version with other content.
    attack(
        "another timestamp of one version",
        |w| {
            w.timestamp.extra.insert("x".to_owned(), json!(1));
            w.serve_timestamp();
        },
        "",
    ),
    attack(
        "another snapshot of one version",
        |w| {
            w.timestamp.header.version = 3;
            w.snapshot.extra.insert("x".to_owned(), json!(1));
            w.serve_online();
        },
        "snapshot version 2 has been seen with other content",
    ),
    attack(
        "other targets of one version",
        |w| {
            w.bump_online();
            w.body("targets").extra.insert("x".to_owned(), json!(1));
            w.serve_targets("targets");
            w.serve_online();
        },
        "targets version 2 has been seen with other content",
    ),
    attack(
        "another delegate of one version",
        |w| {
            w.bump_online();
            w.body(SHOP).extra.insert("x".to_owned(), json!(1));
            w.serve_targets(SHOP);
            w.serve_online();
        },
        "apps/shop version 2 has been seen with other content",
    ),
    // Files that are missing, endless, or of another kind.
    attack(
        "no timestamp",
        |w| {
            w.served.remove("timestamp.json");
        },
        "the repository has no timestamp.json",
    ),
    attack(
        "no snapshot",
        |w| {
            w.publish();
            w.served.remove("3.snapshot.json");
        },
        "the repository has no 3.snapshot.json",
    ),
    attack(
        "no delegate",
        |w| {
            w.publish();
            w.served.remove("3.apps%2Fshop.json");
        },
        "the repository has no 3.apps%2Fshop.json",
    ),
    attack(
        "a timestamp without end",
        |w| {
            w.served.insert("timestamp.json".to_owned(), vec![b' '; 16_385]);
        },
        "timestamp.json has 16385 bytes, and at most 16384 are allowed",
    ),
    attack(
        "a root without end",
        |w| {
            w.served.insert("2.root.json".to_owned(), vec![b' '; 512_001]);
        },
        "2.root.json has 512001 bytes",
    ),
    attack(
        "a snapshot as timestamp",
        |w| {
            w.publish();
            let bytes = w.served["3.snapshot.json"].clone();
            w.served.insert("timestamp.json".to_owned(), bytes);
        },
        "timestamp is not valid: its _type is \"snapshot\", not \"timestamp\"",
    ),
    attack(
        "not JSON",
        |w| {
            w.served.insert("timestamp.json".to_owned(), b"<html>".to_vec());
        },
        "timestamp cannot be read: expected value at line 1 column 1",
    ),
    attack(
        "another specification",
        |w| {
            w.timestamp.header.spec_version = "2.0.0".to_owned();
            w.serve_timestamp();
        },
        "timestamp is not valid: it follows specification \"2.0.0\"",
    ),
    attack(
        "version 0",
        |w| {
            w.timestamp.header.version = 0;
            w.serve_timestamp();
        },
        "timestamp is not valid: its version is 0",
    ),
    attack(
        "a fraction in the signed part",
        |w| {
            edit(w, "timestamp.json", |file| file["signed"]["x"] = json!(0.5));
        },
        "timestamp cannot be written as canonical JSON: number 0.5",
    ),
    attack(
        "a delegate that the snapshot never listed",
        |w| {
            let keys = [public(20)];
            w.body("targets").delegations = None;
            w.body("targets").delegate("new", &["shop/*".to_owned()], &keys, 1);
            bump(w, "targets");
        },
        "targets delegates to new, which the snapshot does not list",
    ),
    attack(
        "a delegate that calls itself root",
        |w| {
            w.body("targets").delegate("root", &["*".to_owned()], &[public(20)], 1);
            bump(w, "targets");
        },
        "targets is not valid: it delegates to \"root\"",
    ),
];

#[test]
fn every_attack_is_refused_and_named_and_moves_no_version_back() {
    for attack in ATTACKS {
        let mut world = World::new();
        world.publish();
        let mut client = Client::up_to_date(&world);
        (attack.by)(&mut world);
        let told = match client.look_up(&world, start()) {
            Ok(_) => String::new(),
            Err(error) => told(&error),
        };
        match attack.told {
            "" => assert_eq!(told, "", "{}", attack.name),
            expected => assert!(told.starts_with(expected), "{}: {told:?}", attack.name),
        }
        for role in ["root", "timestamp", "snapshot", "targets", SHOP] {
            let floor = if role == "root" { 1 } else { 2 };
            assert!(client.version(role) >= floor, "{} moved {role} back", attack.name);
        }
        // The repository comes to its senses: nothing of the attack stays, except what a threshold did sign.
        if !attack.name.contains("root")
            && !attack.name.contains("never listed")
            && !attack.name.contains("calls itself")
        {
            let mut sane = World::new();
            sane.timestamp.header.version = 8;
            sane.snapshot.header.version = 8;
            sane.targets.values_mut().for_each(|body| body.header.version = 8);
            sane.publish();
            let found = client.look_up(&sane, start());
            assert!(found.as_ref().is_ok_and(Option::is_some), "{}: {found:?}", attack.name);
        }
    }
}
