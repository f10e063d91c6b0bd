//! Who vouches for what, and for how long: between roles, and between what is kept and what is served.

use landfall_trust::TrustError;

use crate::forgery::*;
use crate::world::*;

type Bend = fn(&mut World);

/// What is refused late must be refused early too: the file that vouches for it is not kept.
#[test]
fn a_role_that_vouches_for_an_older_one_is_itself_refused() {
    let cases: &[(&str, Bend)] = &[
        ("timestamp", |w| {
            w.bump_online();
            w.snapshot.header.version = 1;
            w.serve_online();
        }),
        ("snapshot", |w| {
            w.bump_online();
            roll_back(w, "targets");
        }),
        ("snapshot", |w| {
            w.bump_online();
            roll_back(w, SHOP);
        }),
    ];
    for (role, by) in cases {
        let mut world = World::new();
        world.publish();
        let mut client = Client::up_to_date(&world);
        by(&mut world);
        client.refresh(&world, start()).unwrap_err();
        assert_eq!(client.version(role), 2, "a {role} that vouches for an older version was kept");
    }
}

#[test]
fn a_version_that_was_vouched_for_but_never_seen_is_a_floor_already() {
    let mut world = World::new();
    world.publish();
    let mut client = Client::up_to_date(&world);
    world.publish();
    let withheld = world.served.remove("3.snapshot.json").unwrap();
    client.refresh(&world, start()).unwrap_err();
    world.timestamp.header.version = 4;
    let honest = world.timestamp.meta.insert("snapshot.json".to_owned(), bare(2)).unwrap();
    world.serve_timestamp();
    let error = client.refresh(&world, start()).unwrap_err();
    assert!(told(&error).starts_with("snapshot version 2 is below version 3"), "{error}");
    world.timestamp.meta.insert("snapshot.json".to_owned(), honest);
    world.serve_timestamp();
    world.served.insert("3.snapshot.json".to_owned(), withheld);
    client.refresh(&world, start()).unwrap();
}

/// Local files are good only under the keys and thresholds in force now.
#[test]
fn a_kept_file_must_meet_what_is_demanded_now() {
    // A second key for the snapshot role, and both must sign. No key goes, so no floor comes down.
    let mut world = World::new();
    let mut client = Client::up_to_date(&world);
    world.root = world.root.next(world.expires);
    world.root.set_role("snapshot", &[public(3), public(80)], 2);
    world.serve_root();
    let error = client.refresh(&world, start()).unwrap_err();
    assert!(told(&error).starts_with("snapshot has 1 valid signature(s) of 2"), "{error}");

    // Another key for the application, whose metadata is the old one.
    let mut world = World::new();
    let mut client = Client::up_to_date(&world);
    world.body("targets").delegate(SHOP, &["shop/*".to_owned()], &[public(80)], 1);
    bump(&mut world, "targets");
    let error = client.look_up(&world, start()).unwrap_err();
    assert!(told(&error).starts_with("apps/shop has 0 valid signature(s) of 1"), "{error}");
}

#[test]
fn a_kept_file_expires_like_a_fetched_one() {
    for role in ["targets", SHOP] {
        let mut world = World::new();
        world.body(role).header.expires = start() + DAY;
        world.serve_all();
        let mut client = Client::up_to_date(&world);
        let error = client.look_up(&world, start() + DAY).unwrap_err();
        assert!(told(&error).starts_with(&format!("{role} version 1 expired")), "{error}");
    }
}

#[test]
fn a_refused_file_can_be_had_from_another_source() {
    let world = World::new();
    let mut updater =
        landfall_trust::Updater::start(Client::of(&world).disk, start(), Default::default()).unwrap();
    let mut refused = 0;
    let outcome: Result<(), TrustError> = loop {
        match updater.advance().unwrap() {
            landfall_trust::Next::Store { .. } => {}
            landfall_trust::Next::Ready => break Ok(()),
            landfall_trust::Next::Fetch(need) => {
                refused += usize::from(updater.feed(Some(b"rubbish".to_vec())).is_err());
                updater.feed(world.served.get(&need.name).cloned()).unwrap();
            }
        }
    };
    outcome.unwrap();
    assert_eq!(refused, 4);
    assert!(updater.feed(None).is_err());
}

#[test]
fn without_consistent_snapshots_only_roots_have_a_version_in_their_name() {
    let mut world = World::new();
    world.root.consistent_snapshot = false;
    world.serve_root();
    let mut client = Client::of(&world);
    let plain = |name: &str| name.strip_prefix("1.").unwrap_or(name).to_owned();
    world.served = world.served.into_iter().map(|(name, bytes)| (plain(&name), bytes)).collect();
    assert!(client.look_up(&world, start()).unwrap().is_some());
    assert_eq!(client.version(SHOP), 1);
}
