//! What a draft changes is what its signers are shown: attacks by one signer on the signature of the next.

use serde_json::{Value, json};

use super::*;

const MAL: u8 = 66;

/// A shop with a release and a floor, whose root is signed by two of three and its releases by one of two.
fn guarded() -> World {
    let mut world = World::new();
    world.signed_release("v1", &[RELEASE]);
    world.signed_release("v2", &[RELEASE]);
    let trusted = world.trusted();
    let mut change = Change::of(&trusted, now());
    change.set_floor(&shop(), ReleaseCounter(1)).unwrap();
    sign_and_take(&mut world, change.draft().unwrap(), &[ROOT]);
    let trusted = world.trusted();
    let mut change = Change::of(&trusted, now());
    let add = |holder: &Holder, seeds: [u8; 2], threshold| {
        let keys = seeds.map(|seed| public(&pair(seed)));
        trusted.keys(holder).unwrap().changed(&keys, &[], Some(threshold)).unwrap()
    };
    change.set_keys(&Holder::Root, &add(&Holder::Root, [11, 12], 2));
    change.set_keys(&Holder::Releases(shop()), &add(&Holder::Releases(shop()), [21, 22], 1));
    sign_and_take(&mut world, change.draft().unwrap(), &[ROOT, 11, RELEASE]);
    world
}

fn sign_and_take(world: &mut World, mut draft: Draft, keys: &[u8]) {
    let pairs: Vec<KeyPair> = keys.iter().map(|seed| pair(*seed)).collect();
    draft.sign(&world.trusted(), &pairs).unwrap();
    world.take(&draft).unwrap();
}

/// The draft with one document bent.
fn bent(draft: &Draft, role: &str, by: impl FnOnce(&mut Value)) -> Draft {
    let mut file: Value = serde_json::from_slice(&draft.to_bytes()).unwrap();
    by(&mut file["documents"][role]["signed"]);
    Draft::parse(&serde_json::to_vec(&file).unwrap()).unwrap()
}

/// Drafts of every kind that there is, by what they are for.
fn drafts(world: &World, trusted: &Trusted) -> Vec<(&'static str, Draft)> {
    let keys = |holder: &Holder, old: u8, new: u8| {
        let keys = trusted.keys(holder).unwrap();
        keys.changed(&[public(&pair(new))], &[pair(old).keyid().clone()], None).unwrap()
    };
    let mut rotate = Change::of(trusted, now());
    rotate.set_keys(&Holder::Root, &keys(&Holder::Root, 12, 13));
    let mut release_key = Change::of(trusted, now());
    release_key.set_keys(&Holder::Releases(shop()), &keys(&Holder::Releases(shop()), RELEASE, 23));
    let mut floor = Change::of(trusted, now());
    floor.set_floor(&shop(), ReleaseCounter(2)).unwrap();
    vec![
        ("root keys", rotate.draft().unwrap()),
        ("release keys", release_key.draft().unwrap()),
        ("floor", floor.draft().unwrap()),
        ("release", world.release("v3")),
    ]
}

fn reviewed(draft: &Draft, trusted: &Trusted) -> Result<Vec<String>, String> {
    draft.review(trusted, now()).map_err(|error| error.to_string())
}

/// One signer of three keeps the id of the release key, and puts a key of his own behind it.
#[test]
fn another_key_behind_a_known_id_is_refused() {
    let world = guarded();
    let trusted = world.trusted();
    let (_, draft) = drafts(&world, &trusted).remove(0);
    let id = pair(RELEASE).keyid().clone();
    let mal = bent(&draft, "targets", |targets| {
        let key = &mut targets["delegations"]["keys"][&id.0];
        assert!(key.is_object(), "the release key is there");
        key["keyval"]["public"] = json!(public(&pair(MAL)).keyval.public);
    });
    let error = reviewed(&mal, &trusted).unwrap_err();
    assert!(error.starts_with(&format!("apps/shop: what the draft calls key {}", &id.0[..12])), "{error}");
    // Nor the same key once more, which would count for two of a threshold in the eyes of a reader.
    let twin = bent(&draft, "targets", |targets| {
        let mut key = serde_json::to_value(public(&pair(RELEASE))).unwrap();
        key["note"] = json!("spare");
        let id = serde_json::from_value::<PublicKey>(key.clone()).unwrap().keyid();
        targets["delegations"]["keys"][&id.0] = key;
        targets["delegations"]["roles"][0]["keyids"].as_array_mut().unwrap().push(json!(id));
    });
    assert!(reviewed(&twin, &trusted).unwrap_err().contains("is there twice, under two ids"));
}

/// Every place of every document is bent in every way that keeps it JSON: a signer is shown another line, or the draft
/// is refused.
#[test]
fn nothing_can_be_changed_that_is_not_shown() {
    let world = guarded();
    let trusted = world.trusted();
    let mut tried = 0;
    for (what, draft) in drafts(&world, &trusted) {
        let shown = reviewed(&draft, &trusted).unwrap();
        let file: Value = serde_json::from_slice(&draft.to_bytes()).unwrap();
        for (role, document) in file["documents"].as_object().unwrap() {
            let mut places = Vec::new();
            walk(&document["signed"], &mut String::new(), &mut places);
            for place in places {
                for bend in bends(document["signed"].pointer(&place).unwrap()) {
                    // Ids of one role have no order.
                    if place.ends_with("/keyids") && same_set(&bend, &document["signed"], &place) {
                        continue;
                    }
                    tried += 1;
                    let bent =
                        bent(&draft, role, |signed| *signed.pointer_mut(&place).unwrap() = bend.clone());
                    if let Ok(lines) = reviewed(&bent, &trusted) {
                        assert_ne!(lines, shown, "{what}: {role}{place} as {bend} is not shown");
                    }
                }
            }
        }
    }
    assert!(tried > 1000, "only {tried} were tried");
}

/// Pointers to a value and everything in it.
fn walk(value: &Value, place: &mut String, places: &mut Vec<String>) {
    places.push(place.clone());
    let below: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(at, item)| (at.to_string(), item)).collect(),
        _ => Vec::new(),
    };
    for (key, value) in below {
        let length = place.len();
        place.push_str(&format!("/{}", key.replace('~', "~0").replace('/', "~1")));
        walk(value, place, places);
        place.truncate(length);
    }
}

/// Other values in the place of one.
fn bends(value: &Value) -> Vec<Value> {
    let mut bends = vec![Value::Null, json!([]), json!({}), json!("x"), json!(0), json!(u64::MAX)];
    match value {
        Value::Bool(is) => bends.push(json!(!is)),
        Value::Number(number) => {
            let number = number.as_u64().unwrap();
            bends.extend([json!(number + 1), json!(number.saturating_sub(1)), json!(number.to_string())]);
        }
        Value::String(text) => {
            bends.extend([
                json!(format!("{text}x")),
                json!(text.to_uppercase()),
                json!(text.replace("20", "21")),
            ]);
            bends.push(json!("2027-02-01T00:00:00Z"));
            // Another key, and the id of one.
            bends.extend([json!(public(&pair(MAL)).keyval.public), json!(pair(MAL).keyid())]);
        }
        Value::Array(items) => {
            for at in 0..items.len() {
                let mut less = items.clone();
                less.remove(at);
                let mut twice = items.clone();
                twice.push(items[at].clone());
                let mut turned = items.clone();
                turned.swap(at, 0);
                bends.extend([less, twice, turned].map(Value::Array));
            }
            bends.push(Value::Array(items.iter().cloned().chain([json!("*")]).collect()));
        }
        Value::Object(map) => {
            for (key, inner) in map {
                let mut less = map.clone();
                less.remove(key);
                let mut renamed = less.clone();
                renamed.insert(format!("{key}x"), inner.clone());
                let mut more = map.clone();
                more.insert(format!("{key}x"), inner.clone());
                bends.extend([less, renamed, more].map(Value::Object));
            }
            let mut more = map.clone();
            more.insert("x-new".to_owned(), json!(1));
            bends.push(Value::Object(more));
        }
        Value::Null => {}
    }
    bends.retain(|bend| bend != value);
    bends
}

fn same_set(bend: &Value, document: &Value, place: &str) -> bool {
    let set = |value: &Value| -> Option<(usize, std::collections::BTreeSet<String>)> {
        let items = value.as_array()?;
        Some((items.len(), items.iter().map(Value::to_string).collect()))
    };
    set(bend).is_some_and(|bend| Some(bend) == document.pointer(place).and_then(set))
}

#[test]
fn a_release_is_signed_only_as_its_manifest_says() {
    let world = guarded();
    let trusted = world.trusted();
    let role = app_role(&shop());
    let draft = world.release("v3");
    let shown = reviewed(&draft, &trusted).unwrap().join("\n");
    assert!(shown.contains("shop/v3 is listed as number 3: manifest "), "{shown}");
    assert!(shown.contains("prepare.0.command: sh prepare.sh"), "{shown}");
    let file = |edit: &dyn Fn(&mut Value)| {
        let mut file: Value = serde_json::from_slice(&draft.to_bytes()).unwrap();
        edit(&mut file);
        reviewed(&Draft::parse(&serde_json::to_vec(&file).unwrap()).unwrap(), &trusted)
    };
    // Another manifest than the one whose digest is listed: what is shown is not what runs.
    let harmless = manifest("v3").replace("prepare.sh", "harmless.sh");
    for (what, told) in [
        (file(&|file| file["release"]["manifest"] = json!(harmless)), "at targets.shop/v3.hashes.sha256"),
        (file(&|file| file["release"]["manifest"] = json!(manifest("v2"))), "at \"targets.shop/v3\""),
        (file(&|file| file["release"]["manifest"] = json!("{}")), "no manifest that a host would take"),
        (
            file(&|file| drop(file.as_object_mut().unwrap().remove("release"))),
            "does not hold the manifest of it",
        ),
        (
            file(&|file| {
                let second = file["documents"][&role]["signed"]["targets"]["shop/v3"].clone();
                file["documents"][&role]["signed"]["targets"]["shop/v4"] = second;
            }),
            "at \"targets.shop/v4\"",
        ),
        (
            file(&|file| {
                file["documents"][&role]["signed"]["targets"]["shop/v3"]["custom"]["counter"] = json!(9);
            }),
            "at targets.shop/v3.custom.counter",
        ),
        (
            file(&|file| {
                file["documents"][&role]["signed"]["targets"]["shop/v3"]["custom"]["environments"] =
                    json!(["x"]);
            }),
            "custom.environments",
        ),
        (
            file(&|file| {
                drop(
                    file["documents"][&role]["signed"]["targets"].as_object_mut().unwrap().remove("shop/v1"),
                );
            }),
            "at \"targets.shop/v1\"",
        ),
        (
            file(&|file| file["documents"]["policy"] = file["documents"][&role].clone()),
            "signs more than apps/shop",
        ),
        (
            file(&|file| file["documents"] = json!({"apps/blog": file["documents"][&role]})),
            "signs more than apps/shop",
        ),
    ] {
        let error = what.unwrap_err();
        assert!(error.contains(told), "{told}: {error}");
    }
}

#[test]
fn a_floor_cannot_be_lowered_or_taken_away_by_a_draft() {
    let world = guarded();
    let trusted = world.trusted();
    let mut change = Change::of(&trusted, now());
    change.set_floor(&shop(), ReleaseCounter(2)).unwrap();
    let draft = change.draft().unwrap();
    let shown = reviewed(&draft, &trusted).unwrap();
    assert_eq!(shown[0], "_policy/shop: releases below number 2 (v2) are refused everywhere, before 1");
    let lowered = bent(&draft, "policy", |policy| {
        policy["targets"]["_policy/shop"]["custom"]["min_release_counter"] = json!(0);
    });
    assert!(reviewed(&lowered, &trusted).unwrap_err().contains("cannot be lowered"));
    let emptied = bent(&draft, "policy", |policy| policy["targets"] = json!({}));
    assert!(reviewed(&emptied, &trusted).unwrap_err().contains("targets._policy/shop"));
    // A policy that nobody asks, since another role is asked for its paths.
    let mut change = Change::of(&trusted, now());
    change.set_keys(
        &Holder::Root,
        &trusted.keys(&Holder::Root).unwrap().changed(&[public(&pair(13))], &[], None).unwrap(),
    );
    let draft = change.draft().unwrap();
    for (field, value) in [("paths", json!([])), ("paths", json!(["x/*"])), ("terminating", json!(false))] {
        let hollow = bent(&draft, "targets", |targets| {
            let roles = targets["delegations"]["roles"].as_array_mut().unwrap();
            roles.iter_mut().find(|role| role["name"] == "policy").unwrap()[field] = value;
        });
        let error = reviewed(&hollow, &trusted).unwrap_err();
        assert!(error.contains(field), "{error}");
    }
}

#[test]
fn the_expiry_that_is_signed_is_shown_and_bounded() {
    let world = guarded();
    let trusted = world.trusted();
    let draft = drafts(&world, &trusted).remove(2).1;
    let at =
        |text: &str| reviewed(&bent(&draft, "policy", |policy| policy["expires"] = json!(text)), &trusted);
    let shown = at("2026-11-21T17:00:00Z").unwrap().join("\n");
    assert!(shown.contains("policy: version 3 is in force until 2026-11-21 17:00:00 (in 1h 00m)"), "{shown}");
    assert!(at("2026-11-21T15:00:00Z").is_err());
    let error = at("2040-01-01T00:00:00Z").unwrap_err();
    assert!(
        error.contains("in force until 2040-01-01 00:00:00, and it is signed for 90d 0h at most"),
        "{error}"
    );
}

/// Hosts go by the number that stands beside the name of what a release follows.
#[test]
fn a_release_follows_what_is_listed_under_that_number() {
    let world = guarded();
    let trusted = world.trusted();
    let follows = |release: &str, counter: u64| {
        let mut manifest: Value = serde_json::from_str(&manifest("v3")).unwrap();
        manifest["program"]["follows"] = json!({ "release": release, "counter": counter });
        let text = String::from_utf8(landfall_common::canonical::to_vec(&manifest).unwrap()).unwrap();
        reviewed(&world.release_of("v3", text), &trusted)
    };
    let shown = follows("v2", 2).unwrap().join("\n");
    assert!(shown.contains("follows.release: v2") && shown.contains("follows.counter: 2"), "{shown}");
    for (release, counter) in [("v2", 1), ("v1", 2), ("v3", 3), ("v0", 0), ("v9", 9)] {
        let error = follows(release, counter).unwrap_err();
        assert!(error.contains("and no earlier release is listed as that"), "{error}");
    }
}
