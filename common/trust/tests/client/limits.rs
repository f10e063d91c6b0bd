//! How much a client lets itself be sent. Lengths in metadata make the bound narrower, never wider: whoever holds
//! the online keys could otherwise fill a host's memory.

use landfall_trust::metadata::file_name;
use landfall_trust::{TrustError, Updater};

use crate::world::*;

/// The bound under which each file was asked for.
fn bounds(world: &World) -> Vec<(String, u64)> {
    let mut client = Client::of(world);
    let mut asked = Vec::new();
    let mut updater = Updater::start(client.disk.clone(), start(), client.limits).unwrap();
    let mut fetch = |need: &landfall_trust::Need| {
        asked.push((need.role.clone(), need.max_length));
        Ok::<_, TrustError>(world.served.get(&need.name).cloned())
    };
    let mut store = |name: &str, bytes: &[u8]| {
        client.disk.put(name, bytes.to_vec());
        Ok(())
    };
    // Whether it is accepted in the end does not matter: a length that is not that of the file is refused.
    let _ = updater.drive(&mut fetch, &mut store).and_then(|()| updater.find_with(PATH, fetch, store));
    asked
}

#[test]
fn a_length_that_metadata_gives_narrows_the_bound_and_never_widens_it() {
    let limits = Client::of(&World::new()).limits;
    for (given, snapshot, targets) in [
        (Some(1 << 60), limits.snapshot_length, limits.targets_length),
        (None, limits.snapshot_length, limits.targets_length),
    ] {
        let mut world = World::new();
        for role in ["targets", SHOP] {
            world.snapshot.meta.get_mut(&format!("{role}.json")).unwrap().length = given;
            world.serve_online();
            let asked = bounds(&world);
            assert_eq!(asked.iter().rev().find(|(asked, _)| asked == role).unwrap().1, targets, "{asked:?}");
            world.serve_targets(role);
        }
        let meta = world.timestamp.meta.get_mut("snapshot.json").unwrap();
        meta.length = given;
        world.serve_timestamp();
        let asked = bounds(&world);
        assert_eq!(asked.iter().find(|(role, _)| role == "snapshot").unwrap().1, snapshot, "{asked:?}");
    }
    let world = World::new();
    let length = |role: &str| {
        let version = (role != "timestamp").then_some(1);
        world.served[&file_name(role, version)].len() as u64
    };
    let asked = bounds(&world);
    for role in ["snapshot", "targets", SHOP] {
        assert!(asked.contains(&(role.to_owned(), length(role))), "{role}: {asked:?}");
    }
}
