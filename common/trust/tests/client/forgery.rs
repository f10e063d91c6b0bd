//! What a repository that lies can make: older files, files of others, files that nobody listed.

use landfall_trust::PublicKey;
use landfall_trust::metadata::{MetaFile, file_name};
use serde_json::{Value, json};

use crate::world::*;

pub fn stranger(world: &mut World, role: &str) {
    world.signers.insert(role.to_owned(), vec![pair(99)]);
}

pub fn bump(world: &mut World, role: &str) {
    let expires = world.expires;
    let next = world.body(role).next(expires);
    *world.body(role) = next;
    world.expires = start() + DAY * 30;
    world.bump_online();
    world.serve_targets(role);
    world.serve_online();
}

pub fn roll_back(world: &mut World, role: &str) {
    world.body(role).header.version = 1;
    world.serve_targets(role);
    world.serve_online();
}

pub fn root_by_new_key_only(world: &mut World) {
    world.root = world.root.next(world.expires);
    world.root.set_role("root", &[public(50)], 1);
    world.signers.insert("root".to_owned(), vec![pair(50)]);
    world.serve_root();
}

pub fn root_by_old_key_only(world: &mut World) {
    world.root = world.root.next(world.expires);
    world.root.set_role("root", &[public(50)], 1);
    world.serve_root();
}

pub fn one_key_twice(world: &mut World) {
    let mut alias: PublicKey = public(10);
    alias.extra.insert("alias".to_owned(), json!(true));
    let keyid = alias.keyid();
    world.body("targets").delegate("apps/shop", &["shop/*".to_owned()], &[public(10), alias], 2);
    world.publish();
    let name = file_name(SHOP, Some(3));
    edit(world, &name, |file| {
        let mut twin = file["signatures"][0].clone();
        twin["keyid"] = json!(keyid.0);
        file["signatures"].as_array_mut().unwrap().push(twin);
    });
    let bytes = world.served[&name].clone();
    world.snapshot.meta.insert("apps/shop.json".to_owned(), MetaFile::of(3, &bytes));
    world.serve_online();
}

pub fn bare(version: u64) -> MetaFile {
    MetaFile { length: None, hashes: None, ..MetaFile::of(version, b"") }
}

/// Serves the snapshot anew without telling the timestamp.
pub fn reserve_snapshot(world: &mut World) {
    let mut bytes = world.sign("snapshot", &world.snapshot);
    let listed = usize::try_from(world.timestamp.snapshot().length.unwrap()).unwrap();
    assert_ne!(bytes.len(), listed);
    bytes.truncate(listed.min(bytes.len()) - 1);
    world.served.insert(file_name("snapshot", Some(world.snapshot.header.version)), bytes);
}

pub fn grow(world: &mut World, name: &str) {
    world.served.get_mut(name).unwrap().push(b' ');
}

pub fn edit(world: &mut World, name: &str, change: impl FnOnce(&mut Value)) {
    let mut file: Value = serde_json::from_slice(&world.served[name]).unwrap();
    change(&mut file);
    world.served.insert(name.to_owned(), serde_json::to_vec(&file).unwrap());
}
