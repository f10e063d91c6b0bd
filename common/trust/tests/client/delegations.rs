//! Targets found, and not found, through delegations.

use landfall_trust::TrustError;
use landfall_trust::metadata::{TargetFile, Targets};

use crate::forgery::stranger;
use crate::world::*;

/// Two roles delegate to a third with different keys; its metadata has the signature for one of them.
#[test]
fn what_one_delegator_trusts_another_need_not() {
    let mut world = World::new();
    for (parent, key, seed) in [("a", 21, 31), ("b", 22, 32)] {
        let paths = [format!("{parent}/*")];
        world.body("targets").delegate(parent, &paths, &[public(key)], 1);
        let mut body = Targets::first(world.expires);
        body.delegate("shared", &paths, &[public(seed)], 1);
        world.targets.insert(parent.to_owned(), body);
        world.signers.insert(parent.to_owned(), vec![pair(key)]);
    }
    let mut shared = Targets::first(world.expires);
    for path in ["a/x", "b/x"] {
        shared.targets.insert(path.to_owned(), TargetFile::of(b"x", None));
    }
    world.targets.insert("shared".to_owned(), shared);
    world.signers.insert("shared".to_owned(), vec![pair(31)]);
    world.serve_all();
    let mut updater = Client::of(&world).refresh(&world, start()).unwrap();
    let fetch = |need: &landfall_trust::Need| Ok::<_, TrustError>(world.served.get(&need.name).cloned());
    assert!(updater.find_with("a/x", fetch, |_, _| Ok(())).unwrap().is_some());
    let error = updater.find_with("b/x", fetch, |_, _| Ok(())).unwrap_err();
    assert!(told(&error).starts_with("shared has 0 valid signature(s) of 1 that b demands"), "{error}");
}

#[test]
fn the_search_ends_with_a_terminating_role_however_deep() {
    for deep in [false, true] {
        let mut world = World::new();
        let targets = |paths: &[&str]| {
            let mut body = Targets::first(start() + DAY);
            for path in paths {
                body.targets.insert((*path).to_owned(), TargetFile::of(b"x", None));
            }
            body
        };
        if deep {
            // apps/shop lets the search go on, but the role that it trusts further does not.
            world.body("targets").delegations.as_mut().unwrap().roles[0].terminating = false;
            world.body(SHOP).delegate("inner", &["shop/*".to_owned()], &[public(22)], 1);
            world.targets.insert("inner".to_owned(), targets(&[]));
            world.signers.insert("inner".to_owned(), vec![pair(22)]);
        }
        world.body("targets").delegate("late", &["*/*".to_owned()], &[public(21)], 1);
        world.targets.insert("late".to_owned(), targets(&["shop/v9", "blog/v9"]));
        world.signers.insert("late".to_owned(), vec![pair(21)]);
        world.serve_all();
        let mut updater = Client::of(&world).refresh(&world, start()).unwrap();
        let fetch = |need: &landfall_trust::Need| Ok::<_, TrustError>(world.served.get(&need.name).cloned());
        assert_eq!(updater.find_with("shop/v9", fetch, |_, _| Ok(())).unwrap(), None);
        assert!(updater.find_with("blog/v9", fetch, |_, _| Ok(())).unwrap().is_some());
    }
}

#[test]
fn an_attack_on_one_application_does_not_touch_another() {
    let mut world = World::new();
    stranger(&mut world, SHOP);
    world.publish();
    let mut updater = Client::of(&world).refresh(&world, start()).unwrap();
    let fetch = |need: &landfall_trust::Need| Ok::<_, TrustError>(world.served.get(&need.name).cloned());
    assert!(updater.find_with("shop/v1.3", fetch, |_, _| Ok(())).is_err());
    assert_eq!(updater.find_with("blog/v1", fetch, |_, _| Ok(())).unwrap(), None);
}
