//! A repository whose every file can be bent, and a client with a disk.

use std::collections::BTreeMap;
use std::time::Duration;

use landfall_common::{AppName, ReleaseCounter, ReleaseName, Timestamp as Time};
use landfall_trust::metadata::{
    Header, MetaFile, Role, Root, Snapshot, TOP_LEVEL, Targets, Timestamp, file_name,
};
use landfall_trust::policy::ReleaseCustom;
use landfall_trust::updater::Target;
use landfall_trust::{Envelope, KeyPair, Limits, PublicKey, TrustError, TrustedStore, Updater};

pub const SHOP: &str = "apps/shop";
pub const PATH: &str = "shop/v1.3";
pub const DAY: Duration = Duration::from_secs(86_400);

pub fn start() -> Time {
    "2026-11-21T00:00:00Z".parse().unwrap()
}

pub fn pair(seed: u8) -> KeyPair {
    KeyPair::from_seed(&[seed; 32]).unwrap()
}

pub fn custom(release: &str, counter: u64) -> ReleaseCustom {
    ReleaseCustom {
        app: AppName::new("shop").unwrap(),
        release: ReleaseName::new(release).unwrap(),
        counter: ReleaseCounter(counter),
        environments: None,
    }
}

/// Bodies as they will be signed next, the keys that sign them, and the files served now.
pub struct World {
    pub root: Root,
    pub targets: BTreeMap<String, Targets>,
    pub snapshot: Snapshot,
    pub timestamp: Timestamp,
    pub signers: BTreeMap<String, Vec<KeyPair>>,
    pub served: BTreeMap<String, Vec<u8>>,
    pub expires: Time,
}

impl World {
    /// Everything at version 1: one application with one release.
    pub fn new() -> Self {
        let expires = start() + DAY * 30;
        let mut signers = BTreeMap::new();
        let mut root = Root::first(expires);
        for (role, seed) in TOP_LEVEL.into_iter().zip(1..) {
            root.set_role(role, &[pair(seed).public().clone()], 1);
            signers.insert(role.to_owned(), vec![pair(seed)]);
        }
        let mut targets = Targets::first(expires);
        targets.delegate_app(&AppName::new("shop").unwrap(), &[pair(10).public().clone()], 1);
        signers.insert(SHOP.to_owned(), vec![pair(10)]);
        let mut shop = Targets::first(expires);
        shop.add_release(b"manifest", &custom("v1.3", 1)).unwrap();
        let meta = BTreeMap::from([("snapshot.json".to_owned(), MetaFile::of(1, b""))]);
        let mut world = Self {
            root,
            targets: BTreeMap::from([("targets".to_owned(), targets), (SHOP.to_owned(), shop)]),
            snapshot: Snapshot {
                header: Header::first("snapshot", expires),
                meta: BTreeMap::new(),
                extra: BTreeMap::new(),
            },
            timestamp: Timestamp {
                header: Header::first("timestamp", expires),
                meta,
                extra: BTreeMap::new(),
            },
            signers,
            served: BTreeMap::new(),
            expires,
        };
        world.serve_root();
        world.serve_all();
        world
    }

    pub fn sign<T: Role>(&self, role: &str, body: &T) -> Vec<u8> {
        let mut envelope = Envelope::unsigned(body).unwrap();
        for pair in &self.signers[role] {
            envelope.sign(pair).unwrap();
        }
        envelope.to_bytes()
    }

    pub fn serve_root(&mut self) {
        let bytes = self.sign("root", &self.root);
        self.served.insert(file_name("root", Some(self.root.header.version)), bytes);
    }

    /// Serves a targets role, and has the next snapshot list it.
    pub fn serve_targets(&mut self, role: &str) {
        let body = &self.targets[role];
        let version = body.header.version;
        let bytes = self.sign(role, body);
        self.snapshot.meta.insert(format!("{role}.json"), MetaFile::of(version, &bytes));
        self.served.insert(file_name(role, Some(version)), bytes);
    }

    /// Serves the snapshot, and has the next timestamp list it.
    pub fn serve_snapshot(&mut self) {
        let version = self.snapshot.header.version;
        let bytes = self.sign("snapshot", &self.snapshot);
        self.timestamp.meta.insert("snapshot.json".to_owned(), MetaFile::of(version, &bytes));
        self.served.insert(file_name("snapshot", Some(version)), bytes);
    }

    pub fn serve_timestamp(&mut self) {
        let bytes = self.sign("timestamp", &self.timestamp);
        self.served.insert(file_name("timestamp", None), bytes);
    }

    /// Serves all but the root, with the versions that the bodies have.
    pub fn serve_all(&mut self) {
        for role in self.targets.keys().cloned().collect::<Vec<_>>() {
            self.serve_targets(&role);
        }
        self.serve_online();
    }

    pub fn serve_online(&mut self) {
        self.serve_snapshot();
        self.serve_timestamp();
    }

    /// Raises every version but the root's, and expiry with it, and serves.
    pub fn publish(&mut self) {
        for targets in self.targets.values_mut() {
            *targets = targets.next(self.expires);
        }
        self.bump_online();
        self.serve_all();
    }

    pub fn bump_online(&mut self) {
        self.snapshot.header = self.snapshot.header.next(self.expires);
        self.timestamp.header = self.timestamp.header.next(self.expires);
    }

    /// Gives a top-level role a new key in the next root, and serves that.
    pub fn rotate(&mut self, roles: &[&str], seed: u8) {
        let old = std::mem::take(self.signers.get_mut("root").unwrap());
        self.root = self.root.next(self.expires);
        for (role, seed) in roles.iter().zip(seed..) {
            self.root.set_role(role, &[pair(seed).public().clone()], 1);
            self.signers.insert((*role).to_owned(), vec![pair(seed)]);
        }
        let kept = std::mem::take(self.signers.get_mut("root").unwrap());
        let both = old.into_iter().chain(kept).collect();
        self.signers.insert("root".to_owned(), both);
        self.serve_root();
        if roles.contains(&"root") {
            self.signers.get_mut("root").unwrap().remove(0);
        }
    }

    pub fn body(&mut self, role: &str) -> &mut Targets {
        self.targets.get_mut(role).unwrap()
    }
}

/// A client's disk. `powerless_after` lets only so many writes happen, as if the power went then.
#[derive(Clone)]
pub struct Client {
    pub disk: TrustedStore,
    pub powerless_after: usize,
    pub writes: Vec<String>,
    pub limits: Limits,
}

impl Client {
    pub fn of(world: &World) -> Self {
        let disk = TrustedStore::initialise(&world.served["1.root.json"]).unwrap();
        Self { disk, powerless_after: usize::MAX, writes: Vec::new(), limits: Limits::default() }
    }

    /// One that has refreshed, and looked up the release, so that every file is there.
    pub fn up_to_date(world: &World) -> Self {
        let mut client = Self::of(world);
        client.look_up(world, start()).unwrap();
        client
    }

    pub fn refresh(&mut self, world: &World, clock: Time) -> Result<Updater, TrustError> {
        let mut updater = Updater::start(self.disk.clone(), clock, self.limits)?;
        let fetch = |need: &landfall_trust::Need| Ok(world.served.get(&need.name).cloned());
        updater.drive(fetch, |name, bytes| self.write(name, bytes)).map(|()| updater)
    }

    pub fn look_up(&mut self, world: &World, clock: Time) -> Result<Option<Target>, TrustError> {
        let mut updater = self.refresh(world, clock)?;
        let fetch = |need: &landfall_trust::Need| Ok(world.served.get(&need.name).cloned());
        updater.find_with(PATH, fetch, |name, bytes| self.write(name, bytes))
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), TrustError> {
        if self.writes.len() < self.powerless_after {
            self.disk.put(name, bytes.to_vec());
        }
        self.writes.push(name.to_owned());
        Ok(())
    }

    /// The version of a role that is on the disk; 0 if there is none.
    pub fn version(&self, role: &str) -> u64 {
        let Some(bytes) = self.disk.get(&file_name(role, None)) else { return 0 };
        let value: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        value["signed"]["version"].as_u64().unwrap()
    }
}

pub fn public(seed: u8) -> PublicKey {
    pair(seed).public().clone()
}

/// An error with all of its causes, as a person would read it.
pub fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
