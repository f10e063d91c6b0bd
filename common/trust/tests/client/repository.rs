//! What the repository makes, the client takes; what the client would refuse, the repository does not make.

use std::collections::BTreeMap;

use landfall_common::{AppName, EnvName, ReleaseCounter, Timestamp as Time};
use landfall_trust::metadata::{Role, Root, TOP_LEVEL, Targets};
use landfall_trust::policy::{AppPolicy, accept_target, policy_path};
use landfall_trust::repository::{File, Lifetimes, PublishError, Repository};
use landfall_trust::updater::Target;
use landfall_trust::{Envelope, KeyPair, Limits, Need, TrustError, TrustedStore, Updater};

use crate::world::{DAY, custom, pair, public, start};

/// The served files, with one root key, one release key, one online key.
struct Served {
    repository: Repository,
    files: BTreeMap<String, Vec<u8>>,
}

fn signed<T: Role>(body: &T, pairs: &[&KeyPair]) -> Vec<u8> {
    let mut envelope = Envelope::unsigned(body).unwrap();
    for pair in pairs {
        envelope.sign(pair).unwrap();
    }
    envelope.to_bytes()
}

fn first_root() -> Root {
    let mut root = Root::first(start() + DAY * 365);
    for role in TOP_LEVEL {
        let seed = if matches!(role, "snapshot" | "timestamp") { 3 } else { 1 };
        root.set_role(role, &[public(seed)], 1);
    }
    root
}

impl Served {
    fn new() -> Self {
        let root = signed(&first_root(), &[&pair(1)]);
        let repository = Repository::new(root).unwrap();
        let files = BTreeMap::from_iter(repository.files().into_iter().map(|file| (file.name, file.bytes)));
        let mut served = Self { repository, files };
        let mut targets = Targets::first(start() + DAY * 90);
        targets.delegate_policy(&[public(1)], 1);
        targets.delegate_app(&app(), &[public(2)], 1);
        served.submit("targets", &targets, &[&pair(1)]).unwrap();
        served.submit("policy", &Targets::first(start() + DAY * 90), &[&pair(1)]).unwrap();
        let mut shop = Targets::first(start() + DAY * 90);
        assert!(shop.add_release(b"first", &custom("v1.3", 1)).unwrap());
        served.submit("apps/shop", &shop, &[&pair(2)]).unwrap();
        served
    }

    fn keep(&mut self, file: File) {
        self.files.insert(file.name, file.bytes);
    }

    fn submit<T: Role>(&mut self, role: &str, body: &T, pairs: &[&KeyPair]) -> Result<(), TrustError> {
        let file = self.repository.submit(role, signed(body, pairs), start())?;
        self.keep(file);
        Ok(())
    }

    fn publish(&mut self, now: Time) -> Vec<String> {
        let online = pair(3);
        let files = self.repository.publish(&[&online], &[&online], now, &Lifetimes::default()).unwrap();
        let names = files.iter().map(|file| file.name.clone()).collect();
        files.into_iter().for_each(|file| self.keep(file));
        names
    }

    fn look_up(&self, path: &str, now: Time) -> Result<Option<Target>, TrustError> {
        let store = TrustedStore::initialise(&self.files["1.root.json"]).unwrap();
        let mut updater = Updater::start(store, now, Limits::default())?;
        let fetch = |need: &Need| Ok(self.files.get(&need.name).cloned());
        updater.drive(fetch, |_, _| Ok(()))?;
        updater.find_with(path, fetch, |_, _| Ok(()))
    }
}

fn app() -> AppName {
    AppName::new("shop").unwrap()
}

#[test]
fn a_release_goes_from_its_signers_to_a_host() {
    let mut served = Served::new();
    assert_eq!(served.publish(start()), ["1.snapshot.json", "timestamp.json"]);
    let env = EnvName::new("production").unwrap();
    let target = served.look_up("shop/v1.3", start()).unwrap().unwrap();
    target.check(b"first").unwrap();
    assert!(target.check(b"other").is_err());
    let accept = |target: &Target, floor| accept_target(target, floor, &app(), &env);
    assert_eq!(accept(&target, ReleaseCounter(0)).unwrap().release.as_str(), "v1.3");

    let mut shop = served.repository.targets_role("apps/shop").unwrap().next(start() + DAY * 90);
    assert!(shop.add_release(b"second", &custom("v1.4", 2)).unwrap());
    assert!(!shop.add_release(b"second", &custom("v1.4", 2)).unwrap());
    assert!(matches!(shop.add_release(b"third", &custom("v1.4", 3)), Err(PublishError::NameTaken { .. })));
    assert!(matches!(shop.add_release(b"third", &custom("v1.5", 2)), Err(PublishError::CounterTaken { .. })));
    assert_eq!(shop.releases().last().unwrap().release.as_str(), "v1.4");
    served.submit("apps/shop", &shop, &[&pair(2)]).unwrap();

    let mut policy = served.repository.targets_role("policy").unwrap().next(start() + DAY * 90);
    policy.set_floor(&app(), ReleaseCounter(2)).unwrap();
    assert!(matches!(policy.set_floor(&app(), ReleaseCounter(1)), Err(PublishError::FloorLowered { .. })));
    served.submit("policy", &policy, &[&pair(1)]).unwrap();
    served.publish(start());

    let found = served.look_up(&policy_path(&app()), start()).unwrap();
    let floor = AppPolicy::of(found.as_ref()).unwrap().min_release_counter;
    assert_eq!(floor, ReleaseCounter(2));
    let old = served.look_up("shop/v1.3", start()).unwrap().unwrap();
    assert!(accept(&old, floor).unwrap_err().to_string().contains("refuses everything below 2"));
    let new = served.look_up("shop/v1.4", start()).unwrap().unwrap();
    assert_eq!(accept(&new, floor).unwrap().counter, ReleaseCounter(2));
    assert_eq!(served.look_up("shop/v9", start()).unwrap(), None);
}

#[test]
fn what_clients_would_refuse_is_not_taken() {
    let mut served = Served::new();
    served.publish(start());
    let shop = served.repository.targets_role("apps/shop").unwrap().clone();
    let next = shop.next(start() + DAY * 90);
    let mut other = shop.clone();
    other.add_release(b"x", &custom("v2", 9)).unwrap();
    let refusals = [
        served.submit("apps/shop", &next, &[&pair(1)]),
        served.submit("apps/blog", &next, &[&pair(2)]),
        served.submit("apps/shop", &shop.next(start()), &[&pair(2)]),
        served.submit("apps/shop", &other, &[&pair(2)]),
        served.submit("root", &first_root(), &[&pair(2)]),
        served.submit("root", &first_root().next(start() + DAY), &[&pair(2)]),
        served.submit("root", &first_root().next(start()), &[&pair(1)]),
    ];
    let told: Vec<_> = refusals.into_iter().map(|refusal| refusal.unwrap_err().to_string()).collect();
    let expected = [
        "apps/shop has 0 valid signature(s) of 1 that targets demands",
        "apps/blog is not valid: no role delegates to it",
        "apps/shop version 2 expired at 2026-11-21T00:00:00Z, and it is 2026-11-21T00:00:00Z",
        "apps/shop version 1 has been seen with other content",
        "root has 0 valid signature(s) of 1 that root demands",
        "root has 0 valid signature(s) of 1 that root demands",
        "root version 2 expired at 2026-11-21T00:00:00Z, and it is 2026-11-21T00:00:00Z",
    ];
    assert_eq!(told, expected);
    served.submit("apps/shop", &shop, &[&pair(2)]).unwrap();
    served.submit("apps/shop", &next, &[&pair(2)]).unwrap();
    assert!(matches!(served.submit("apps/shop", &shop, &[&pair(2)]), Err(TrustError::Rollback { .. })));
    let wrong = pair(9);
    let lifetimes = Lifetimes::default();
    assert!(served.repository.publish(&[&wrong], &[&wrong], start(), &lifetimes).is_err());
}

#[test]
fn a_snapshot_is_made_anew_only_when_it_must_be() {
    let mut served = Served::new();
    served.publish(start());
    assert_eq!(served.publish(start() + DAY), ["timestamp.json"]);
    assert_eq!(served.publish(start() + DAY * 4), ["2.snapshot.json", "timestamp.json"]);
    assert!(served.look_up("shop/v1.3", start() + DAY * 4).unwrap().is_some());
}

#[test]
fn a_repository_opens_again_as_it_was_left() {
    let mut served = Served::new();
    served.publish(start());
    let mut root = first_root().next(start() + DAY * 365);
    root.set_role("root", &[public(5), public(6)], 2);
    served.submit("root", &root, &[&pair(1), &pair(5), &pair(6)]).unwrap();
    let again = Repository::open(served.files["1.root.json"].clone(), &served.files).unwrap();
    assert_eq!(again.files(), served.repository.files());
    assert_eq!(again.root().header.version, 2);
    let mut damaged = served.files.clone();
    damaged.remove("1.apps%2Fshop.json");
    let error = Repository::open(served.files["1.root.json"].clone(), &damaged).unwrap_err();
    assert_eq!(error.to_string(), "the repository has no 1.apps%2Fshop.json");
    // The next root takes two signatures of the new keys; one at a time.
    let next = Envelope::unsigned(&root.next(start() + DAY * 365)).unwrap();
    let authority = again.authority("root").unwrap();
    assert_eq!(next.missing(&authority).unwrap(), 2);
}

#[test]
fn new_keys_for_the_online_roles_are_used_at_the_next_publication() {
    let mut served = Served::new();
    served.publish(start());
    let mut root = first_root().next(start() + DAY * 365);
    root.set_role("snapshot", &[public(8)], 1);
    root.set_role("timestamp", &[public(8)], 1);
    served.submit("root", &root, &[&pair(1)]).unwrap();
    let online = pair(8);
    for file in served.repository.publish(&[&online], &[&online], start(), &Lifetimes::default()).unwrap() {
        served.keep(file);
    }
    assert!(served.look_up("shop/v1.3", start()).unwrap().is_some());
}

#[test]
fn a_role_whose_keys_were_replaced_is_named_until_it_is_signed_anew() {
    let mut served = Served::new();
    assert!(served.repository.unsigned_roles().is_empty());
    let mut targets = served.repository.targets_role("targets").unwrap().next(start() + DAY * 90);
    targets.delegate_app(&app(), &[public(7)], 1);
    served.submit("targets", &targets, &[&pair(1)]).unwrap();
    assert_eq!(served.repository.unsigned_roles(), ["apps/shop"]);
    let shop = served.repository.targets_role("apps/shop").unwrap().next(start() + DAY * 90);
    served.submit("apps/shop", &shop, &[&pair(7)]).unwrap();
    assert!(served.repository.unsigned_roles().is_empty());
}
