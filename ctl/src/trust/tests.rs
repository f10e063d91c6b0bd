//! Changes, as their signers make them and as clients then see them.

mod review;

use std::collections::BTreeMap;

use landfall_common::manifest::{FORMAT, Manifest};
use landfall_common::{AppName, Duration, EnvName, ReleaseCounter, ReleaseName, Sha256, Timestamp};
use landfall_trust::metadata::{Root, TOP_LEVEL, Targets};
use landfall_trust::policy::{
    AppPolicy, POLICY_ROLE, ReleaseCustom, accept_target, app_role, policy_path, release_path,
};
use landfall_trust::repository::{Lifetimes, Repository};
use landfall_trust::{Envelope, KeyPair, Limits, PublicKey, TrustError, TrustedStore, Updater};

use super::change::{Change, Holder};
use super::draft::{Body, Draft, DraftRelease};
use super::{Trusted, lifetime};

fn now() -> Timestamp {
    "2026-11-21T16:00:00Z".parse().unwrap()
}

fn shop() -> AppName {
    AppName::new("shop").unwrap()
}

fn pair(seed: u8) -> KeyPair {
    KeyPair::from_seed(&[seed; 32]).unwrap()
}

fn public(pair: &KeyPair) -> PublicKey {
    pair.public().clone()
}

/// A repository, and a client of it that is set up with its first root.
struct World {
    repository: Repository,
    files: BTreeMap<String, Vec<u8>>,
    store: TrustedStore,
    online: u8,
}

const ROOT: u8 = 1;
const RELEASE: u8 = 2;
const ONLINE: u8 = 9;

impl World {
    fn new() -> Self {
        let expires = now() + Duration::from_secs(365 * 86_400);
        let mut root = Root::first(expires);
        for role in TOP_LEVEL {
            let key = if matches!(role, "root" | "targets") { ROOT } else { ONLINE };
            root.set_role(role, &[public(&pair(key))], 1);
        }
        let mut targets = Targets::first(expires);
        targets.delegate_app(&shop(), &[public(&pair(RELEASE))], 1);
        let signed = |envelope: Envelope, key: u8| {
            let mut envelope = envelope;
            envelope.sign(&pair(key)).unwrap();
            envelope.to_bytes()
        };
        let root = signed(Envelope::unsigned(&root).unwrap(), ROOT);
        let repository = Repository::new(root.clone()).unwrap();
        let files = BTreeMap::from([("1.root.json".to_owned(), root.clone())]);
        let mut world =
            Self { repository, files, store: TrustedStore::initialise(&root).unwrap(), online: ONLINE };
        world.submit("targets", signed(Envelope::unsigned(&targets).unwrap(), ROOT)).unwrap();
        world
            .submit(
                &app_role(&shop()),
                signed(Envelope::unsigned(&Targets::first(expires)).unwrap(), RELEASE),
            )
            .unwrap();
        world.publish();
        world
    }

    fn submit(&mut self, role: &str, bytes: Vec<u8>) -> Result<(), TrustError> {
        let file = self.repository.submit(role, bytes, now())?;
        self.files.insert(file.name, file.bytes);
        Ok(())
    }

    fn publish(&mut self) {
        let online = pair(self.online);
        let files = self.repository.publish(&[&online], &[&online], now(), &Lifetimes::default()).unwrap();
        self.files.extend(files.into_iter().map(|file| (file.name, file.bytes)));
    }

    fn trusted(&self) -> Trusted {
        let role = |name: &str| self.repository.targets_role(name).cloned();
        let roles = [app_role(&shop()), POLICY_ROLE.to_owned()];
        Trusted {
            root: self.repository.root().clone(),
            targets: role("targets").unwrap(),
            roles: roles.into_iter().filter_map(|name| Some((name.clone(), role(&name)?))).collect(),
        }
    }

    /// As the controller takes a draft.
    fn take(&mut self, draft: &Draft) -> Result<(), TrustError> {
        draft.review(&self.trusted(), now()).unwrap();
        for role in ["root", "targets"] {
            if let Some(bytes) = draft.bytes(role) {
                self.submit(role, bytes)?;
            }
        }
        for (role, bytes) in draft.roles() {
            self.submit(&role, bytes)?;
        }
        assert_eq!(self.repository.unsigned_roles(), Vec::<&str>::new());
        self.publish();
        Ok(())
    }

    /// Whether a host accepts a release.
    fn accepts(&mut self, release: &str) -> Result<(), String> {
        let text = |error: &dyn std::error::Error| error.to_string();
        let mut updater =
            Updater::start(self.store.clone(), now(), Limits::default()).map_err(|e| text(&e))?;
        let fetch = |need: &landfall_trust::Need| Ok::<_, TrustError>(self.files.get(&need.name).cloned());
        let kept = &mut self.store;
        let mut store = |name: &str, bytes: &[u8]| {
            kept.put(name, bytes.to_vec());
            Ok(())
        };
        updater.drive(fetch, &mut store).map_err(|e| text(&e))?;
        let floor = updater.find_with(&policy_path(&shop()), fetch, &mut store).map_err(|e| text(&e))?;
        let floor = AppPolicy::of(floor.as_ref()).unwrap().min_release_counter;
        let path = release_path(&shop(), &ReleaseName::new(release).unwrap());
        let target =
            updater.find_with(&path, fetch, &mut store).map_err(|e| text(&e))?.ok_or("it is not listed")?;
        let environment = EnvName::new("production").unwrap();
        accept_target(&target, floor, &shop(), &environment).map(drop).map_err(|e| text(&e))
    }

    /// A draft of a release, without signatures.
    fn release(&self, name: &str) -> Draft {
        self.release_of(name, manifest(name))
    }

    /// The same, with this manifest.
    fn release_of(&self, name: &str, manifest: String) -> Draft {
        let role = app_role(&shop());
        let mut next = self.repository.targets_role(&role).unwrap().next(lifetime::until(&role, now()));
        let counter = ReleaseCounter(next.highest_counter().0 + 1);
        let release = ReleaseName::new(name).unwrap();
        let custom = ReleaseCustom { app: shop(), release, counter, environments: None };
        next.add_release(manifest.as_bytes(), &custom).unwrap();
        let mut draft = Draft::of_release(DraftRelease { manifest, notes: String::new() });
        draft.put(&role, &Body::Targets(next)).unwrap();
        draft
    }

    fn signed_release(&mut self, name: &str, keys: &[u8]) {
        let mut draft = self.release(name);
        let pairs: Vec<KeyPair> = keys.iter().map(|seed| pair(*seed)).collect();
        draft.sign(&self.trusted(), &pairs).unwrap();
        self.take(&draft).unwrap();
    }
}

/// The manifest of a release of the shop.
fn manifest(release: &str) -> String {
    let step = serde_json::json!({"name": "venv", "command": ["sh", "prepare.sh"], "timeout_ms": 60_000});
    let manifest: Manifest = serde_json::from_value(serde_json::json!({
        "format": FORMAT, "application": "shop", "release": release, "origin": {"type": "artifact"},
        "tree": Sha256::of(release.as_bytes()), "file_count": 1, "total_bytes": 1,
        "program": {"prepare": [step]}, "environments": {},
    }))
    .unwrap();
    String::from_utf8(manifest.to_bytes().unwrap()).unwrap()
}

/// Each signer on a machine of his own: the file goes from one to the next.
fn passed_on(draft: &Draft, trusted: &Trusted, signer: u8) -> Draft {
    let mut draft = Draft::parse(&draft.to_bytes()).unwrap();
    draft.sign(trusted, &[pair(signer)]).unwrap();
    draft
}

#[test]
fn two_of_three_sign_on_machines_of_their_own() {
    let mut world = World::new();
    let trusted = world.trusted();
    let releases = Holder::Releases(shop());
    let three = trusted.keys(&releases).unwrap();
    let three = three.changed(&[public(&pair(3)), public(&pair(4))], &[], Some(2)).unwrap();
    let mut change = Change::of(&trusted, now());
    change.set_keys(&releases, &three);
    let mut draft = change.draft().unwrap();
    // The root key for targets, and two of the new keys for the role, which clients read by the new rule.
    draft.sign(&trusted, &[pair(ROOT), pair(RELEASE)]).unwrap();
    let lacks = draft.lacks(&trusted).unwrap();
    assert_eq!(
        lacks.iter().map(|lack| (&*lack.role, lack.count, lack.keys.len())).collect::<Vec<_>>(),
        [("apps/shop", 1, 2)]
    );
    assert!(world.take(&draft).is_err());
    let mut world = World::new();
    world.take(&passed_on(&draft, &trusted, 4)).unwrap();

    let trusted = world.trusted();
    let draft = world.release("v1");
    let one = passed_on(&draft, &trusted, 3);
    assert_eq!(one.lacks(&trusted).unwrap()[0].count, 1);
    // Neither twice the same, nor somebody else's.
    for nobody in [3, 77, ROOT] {
        assert_eq!(passed_on(&one, &trusted, nobody).lacks(&trusted).unwrap()[0].count, 1);
    }
    let two = passed_on(&one, &trusted, 4);
    assert!(two.lacks(&trusted).unwrap().is_empty());
    world.take(&two).unwrap();
    world.accepts("v1").unwrap();
    // It was overtaken by itself.
    let error = two.review(&world.trusted(), now()).unwrap_err().to_string();
    assert!(error.contains("version 3 is in force"), "{error}");
}

#[test]
fn a_release_key_is_rotated_and_the_old_one_signs_no_more() {
    let mut world = World::new();
    world.signed_release("v1", &[RELEASE]);
    world.accepts("v1").unwrap();
    let trusted = world.trusted();
    let releases = Holder::Releases(shop());
    let keys = trusted.keys(&releases).unwrap();
    let keys = keys.changed(&[public(&pair(5))], &[pair(RELEASE).keyid().clone()], None).unwrap();
    let mut change = Change::of(&trusted, now());
    change.set_keys(&releases, &keys);
    let mut draft = change.draft().unwrap();
    draft.sign(&trusted, &[pair(ROOT), pair(RELEASE), pair(5)]).unwrap();
    let said = draft.review(&trusted, now()).unwrap().join("\n");
    assert!(said.contains("may sign") && said.contains("may no longer sign"), "{said}");
    world.take(&draft).unwrap();
    world.accepts("v1").unwrap();
    let mut old = world.release("v2");
    old.sign(&world.trusted(), &[pair(RELEASE)]).unwrap();
    assert!(world.take(&old).is_err());
    world.signed_release("v2", &[5]);
    world.accepts("v2").unwrap();
}

#[test]
fn the_root_key_is_rotated_with_all_that_it_signs() {
    let mut world = World::new();
    world.signed_release("v1", &[RELEASE]);
    let trusted = world.trusted();
    let mut change = Change::of(&trusted, now());
    change.set_floor(&shop(), ReleaseCounter(1)).unwrap();
    let mut draft = change.draft().unwrap();
    draft.sign(&trusted, &[pair(ROOT)]).unwrap();
    world.take(&draft).unwrap();

    let trusted = world.trusted();
    let keys = trusted.keys(&Holder::Root).unwrap();
    let keys = keys.changed(&[public(&pair(6))], &[pair(ROOT).keyid().clone()], None).unwrap();
    let mut change = Change::of(&trusted, now());
    change.set_keys(&Holder::Root, &keys);
    let draft = change.draft().unwrap();
    assert_eq!(draft.roles().keys().collect::<Vec<_>>(), [POLICY_ROLE]);
    // The old root lets the new one in: neither is enough without the other.
    for one in [ROOT, 6] {
        let lacks = passed_on(&draft, &trusted, one).lacks(&trusted).unwrap();
        assert!(lacks.iter().any(|lack| lack.role == "root"), "{lacks:?}");
    }
    world.take(&passed_on(&passed_on(&draft, &trusted, ROOT), &trusted, 6)).unwrap();
    // A host that was set up with the first root follows.
    world.accepts("v1").unwrap();
}

#[test]
fn a_floor_refuses_what_is_older_and_only_rises() {
    let mut world = World::new();
    for name in ["v1", "v2"] {
        world.signed_release(name, &[RELEASE]);
    }
    world.accepts("v1").unwrap();
    let trusted = world.trusted();
    let mut change = Change::of(&trusted, now());
    change.set_floor(&shop(), ReleaseCounter(2)).unwrap();
    let mut draft = change.draft().unwrap();
    draft.sign(&trusted, &[pair(ROOT)]).unwrap();
    let said = draft.review(&trusted, now()).unwrap().join("\n");
    assert!(said.contains("releases below number 2 (v2) are refused everywhere, before 0"), "{said}");
    world.take(&draft).unwrap();
    assert!(world.accepts("v1").unwrap_err().contains("refuses everything below 2"));
    world.accepts("v2").unwrap();
    let error = Change::of(&world.trusted(), now()).set_floor(&shop(), ReleaseCounter(1)).unwrap_err();
    assert!(error.to_string().contains("cannot be lowered"), "{error}");
}

#[test]
fn new_online_keys_bring_hosts_back_from_versions_that_were_made_up() {
    let mut world = World::new();
    world.signed_release("v1", &[RELEASE]);
    world.accepts("v1").unwrap();
    // Somebody with the online keys lists the releases at a version that is never reached.
    let honest = world.files.clone();
    let bend = |world: &mut World, name: &str, by: &dyn Fn(&mut serde_json::Value)| {
        let mut envelope = Envelope::parse(name, &world.files[name]).unwrap();
        by(&mut envelope.signed);
        envelope.signatures.clear();
        envelope.sign(&pair(ONLINE)).unwrap();
        world.files.insert(name.to_owned(), envelope.to_bytes());
        serde_json::to_value(landfall_trust::metadata::MetaFile::of(50, &world.files[name])).unwrap()
    };
    let timestamp: serde_json::Value = serde_json::from_slice(&world.files["timestamp.json"]).unwrap();
    let listed = timestamp["signed"]["meta"]["snapshot.json"]["version"].as_u64().unwrap();
    let name = format!("{listed}.snapshot.json");
    let meta = bend(&mut world, &name, &|snapshot| {
        snapshot["version"] = 50.into();
        snapshot["meta"]["apps/shop.json"]["version"] = (1_u64 << 60).into();
    });
    let poisoned = world.files[&name].clone();
    world.files.insert("50.snapshot.json".to_owned(), poisoned);
    bend(&mut world, "timestamp.json", &|timestamp| {
        timestamp["version"] = 50.into();
        timestamp["meta"]["snapshot.json"] = meta.clone();
    });
    world.accepts("v1").unwrap_err();
    world.files = honest;
    assert!(world.accepts("v1").unwrap_err().contains("below version 50"));

    let trusted = world.trusted();
    let mut change = Change::of(&trusted, now());
    change.set_online(&[public(&pair(31)), public(&pair(31))]);
    let mut draft = change.draft().unwrap();
    assert!(draft.bytes("targets").is_none() && draft.roles().is_empty());
    draft.sign(&trusted, &[pair(ROOT)]).unwrap();
    let said = draft.review(&trusted, now()).unwrap().join("\n");
    for role in ["snapshot", "timestamp"] {
        assert!(said.contains(&format!("{role}: key {} may sign", pair(31).keyid())), "{said}");
        assert!(
            said.contains(&format!("{role}: key {} may no longer", &pair(ONLINE).keyid().0[..12])),
            "{said}"
        );
    }
    world.online = 31;
    world.take(&draft).unwrap();
    world.accepts("v1").unwrap();
    world.signed_release("v2", &[RELEASE]);
    world.accepts("v2").unwrap();
}

#[test]
fn what_is_about_to_expire_is_signed_anew_as_it_is() {
    let mut world = World::new();
    let trusted = world.trusted();
    let mut change = Change::of(&trusted, now());
    change.set_floor(&shop(), ReleaseCounter(1)).unwrap();
    let mut draft = change.draft().unwrap();
    draft.sign(&trusted, &[pair(ROOT)]).unwrap();
    world.take(&draft).unwrap();
    let trusted = world.trusted();
    let renewed = |days: u64| {
        let mut change = Change::of(&trusted, now() + Duration::from_secs(days * 86_400));
        change.renew(lifetime::RENEW_BEFORE);
        change.draft().unwrap()
    };
    assert!(renewed(29).is_empty());
    let draft = renewed(31);
    let roles = |draft: &Draft| draft.roles().into_keys().collect::<Vec<_>>();
    assert!(draft.bytes("root").is_none() && draft.bytes("targets").is_some());
    assert_eq!(roles(&draft), [POLICY_ROLE]);
    // Nothing but the time is told, since nothing else changes.
    let later = now() + Duration::from_secs(31 * 86_400);
    let lines = draft.review(&trusted, later).unwrap();
    assert!(lines.iter().all(|line| line.contains("is in force until 2027-03-22")), "{lines:?}");
    assert!(renewed(320).bytes("root").is_some());
}

#[test]
fn a_threshold_that_could_never_be_met_is_refused() {
    let keys = World::new().trusted().keys(&Holder::Releases(shop())).unwrap();
    for (remove, threshold) in
        [(vec![], Some(2)), (vec![], Some(0)), (vec![pair(RELEASE).keyid().clone()], None)]
    {
        assert!(keys.clone().changed(&[], &remove, threshold).is_err());
    }
    assert!(keys.changed(&[], &[pair(8).keyid().clone()], None).is_err());
}
