//! Clocks that are wrong, jump, or go back.

use std::time::Duration;

use landfall_trust::updater::CLOCK_TOLERANCE;

use crate::world::*;

#[test]
fn a_clock_once_in_2099_does_not_brick_the_client() {
    let mut world = World::new();
    let mut client = Client::up_to_date(&world);
    let far = "2099-01-01T00:00:00Z".parse().unwrap();
    let error = client.refresh(&world, far).unwrap_err();
    assert!(told(&error).starts_with("root version 1 expired"), "{error}");
    world.publish();
    let updater = client.refresh(&world, start() + DAY).unwrap();
    assert_eq!(updater.clock_behind(), None);
    assert_eq!(client.version("timestamp"), 2);
}

#[test]
fn a_clock_ahead_within_what_was_signed_does_not_brick_the_client_either() {
    let mut world = World::new();
    let mut client = Client::of(&world);
    client.refresh(&world, start() + DAY * 29).unwrap();
    // The clock is put right; the repository signs for thirty days from then, as it always does.
    world.expires = start() + DAY * 31;
    world.publish();
    world.rotate(&[], 0);
    let updater = client.refresh(&world, start() + DAY).unwrap();
    assert_eq!(updater.clock_behind(), Some(DAY * 28));
    assert_eq!(updater.now(), start() + DAY * 29);
}

#[test]
fn a_clock_set_back_does_not_bring_expired_metadata_to_life() {
    let mut world = World::new();
    let mut client = Client::of(&world);
    world.timestamp.header.expires = start() + DAY * 2;
    world.serve_timestamp();
    client.refresh(&world, start() + DAY).unwrap();
    world.expires = start() + DAY * 40;
    world.publish();
    world.rotate(&[], 0);
    client.refresh(&world, start() + DAY * 20).unwrap();
    // With the battery flat the clock says 1970, and someone replays a later timestamp that has expired.
    world.timestamp.header.version = 9;
    world.timestamp.header.expires = start() + DAY * 19;
    world.serve_timestamp();
    let error = client.refresh(&world, landfall_common::Timestamp::from_ms(0)).unwrap_err();
    assert!(
        told(&error).starts_with(
            "timestamp version 9 expired at 2026-12-10T00:00:00Z, and it is 2026-12-11T00:00:00Z"
        ),
        "{error}"
    );
}

#[test]
fn a_clock_a_little_behind_is_taken_as_it_is() {
    let world = World::new();
    let mut client = Client::of(&world);
    let seen = start() + DAY;
    client.refresh(&world, seen).unwrap();
    let behind = |by: Duration| {
        landfall_common::Timestamp::from_ms(seen.ms() - u64::try_from(by.as_millis()).unwrap())
    };
    for (by, believed) in [
        (Duration::from_secs(15), true),
        (CLOCK_TOLERANCE, true),
        (CLOCK_TOLERANCE + Duration::from_secs(1), false),
    ] {
        let updater = client.refresh(&world, behind(by)).unwrap();
        assert_eq!(updater.clock_behind().is_none(), believed, "{by:?}");
        assert_eq!(updater.now(), if believed { behind(by) } else { seen });
    }
}
