//! The other side of the [updater](crate::updater): a repository as it is made and kept.
//!
//! Who does what:
//! - *Offline* (`ctl init`, key rotation): [`Root::first`](crate::metadata::Root::first) and `next`, the
//!   top-level [`Targets`] with one delegation per application. Wrapped with [`Envelope::unsigned`], signed by
//!   each holder in turn, accepted by [`Repository::submit`].
//! - *Release signers* (`ctl release`): the next version of `apps/APP`, with [`Targets::add_release`].
//! - *Online* (the controller): [`Repository::publish`] makes snapshot and timestamp for what was submitted.
//!
//! A repository demands of what is submitted all that a client will demand, so that it never publishes
//! something that its clients refuse.

mod releases;

use std::collections::BTreeMap;
use std::time::Duration;

use landfall_common::Timestamp as Time;

use crate::envelope::{Authority, Envelope, Signed};
use crate::error::TrustError;
use crate::key::KeyPair;
use crate::metadata::{Header, MetaFile, Role, Root, Snapshot, Targets, Timestamp, file_name};
pub use releases::PublishError;

/// A file to keep and serve, under the name by which clients ask for it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a file that is not kept cannot be served"]
pub struct File {
    /// Such as `3.targets.json` or `timestamp.json`.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// How long what the online roles sign stays in force.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    /// Of a snapshot.
    pub snapshot: Duration,
    /// Of a timestamp: how long a client can be kept from news without noticing.
    pub timestamp: Duration,
}

impl Default for Lifetimes {
    /// A week, and a day.
    fn default() -> Self {
        Self { snapshot: Duration::from_secs(7 * 86_400), timestamp: Duration::from_secs(86_400) }
    }
}

/// The current metadata of a repository.
#[derive(Debug, Clone)]
pub struct Repository {
    root: Signed<Root>,
    targets: BTreeMap<String, Signed<Targets>>,
    snapshot: Option<Signed<Snapshot>>,
    timestamp: Option<Signed<Timestamp>>,
}

impl Repository {
    /// A repository with this root and nothing else: a first root, or the newest one that is trusted. It must
    /// be signed by its own threshold.
    ///
    /// # Errors
    /// What is wrong with the root.
    pub fn new(root: Vec<u8>) -> Result<Self, TrustError> {
        let root = Signed::<Root>::read("root", root)?;
        root.envelope.verify("root", &root.body.authority("root"))?;
        Ok(Self { root, targets: BTreeMap::new(), snapshot: None, timestamp: None })
    }

    /// The repository out of its kept files, by name; more than the current ones may be given. `root` is the
    /// bytes of a root that is trusted, from which newer ones are followed. Of the rest, the digests are
    /// checked from the timestamp down, and neither expiry nor signatures: what has expired, or was signed by
    /// keys replaced since, can still be built upon ([`Repository::unsigned_roles`] names the latter).
    ///
    /// # Errors
    /// What is wrong with a file that the newest timestamp leads to, or [`TrustError::NotFound`].
    pub fn open(root: Vec<u8>, files: &BTreeMap<String, Vec<u8>>) -> Result<Self, TrustError> {
        let mut repository = Self::new(root)?;
        while let Some(bytes) = files.get(&file_name("root", Some(repository.root.version() + 1))) {
            repository.root = repository.verify_root(bytes.clone())?;
        }
        let Some(bytes) = files.get("timestamp.json") else { return Ok(repository) };
        let get = |name: String| files.get(&name).cloned().ok_or(TrustError::NotFound { file: name });
        let timestamp = Signed::<Timestamp>::read("timestamp", bytes.clone())?;
        let meta = timestamp.body.snapshot();
        let bytes = get(repository.name("snapshot", meta.version))?;
        meta.check("snapshot", &bytes)?;
        let snapshot = Signed::<Snapshot>::read("snapshot", bytes)?;
        for (role, meta) in snapshot.body.roles() {
            let bytes = get(repository.name(role, meta.version))?;
            meta.check(role, &bytes)?;
            repository.targets.insert(role.to_owned(), Signed::<Targets>::read(role, bytes)?);
        }
        repository.snapshot = Some(snapshot);
        repository.timestamp = Some(timestamp);
        Ok(repository)
    }

    /// Every current file: what a new place that serves this repository needs. Older roots are not among them,
    /// and must be kept beside.
    #[must_use]
    pub fn files(&self) -> Vec<File> {
        let mut files = vec![self.file("root", self.root.version(), &self.root.raw)];
        files
            .extend(self.targets.iter().map(|(role, signed)| self.file(role, signed.version(), &signed.raw)));
        files.extend(self.snapshot.iter().map(|signed| self.file("snapshot", signed.version(), &signed.raw)));
        files.extend(self.timestamp.iter().map(|signed| self.file("timestamp", 0, &signed.raw)));
        files
    }

    /// The root in force.
    #[must_use]
    pub fn root(&self) -> &Root {
        &self.root.body
    }

    /// The current metadata of a targets role.
    #[must_use]
    pub fn targets_role(&self, role: &str) -> Option<&Targets> {
        self.targets.get(role).map(|signed| &signed.body)
    }

    /// Who may sign a role: a top-level one, or one that a known targets role delegates to.
    #[must_use]
    pub fn authority<'a>(&'a self, role: &str) -> Option<Authority<'a>> {
        if crate::metadata::TOP_LEVEL.contains(&role) {
            return Some(self.root.body.authority(role));
        }
        self.targets.iter().find_map(|(delegator, signed)| signed.body.authority(delegator, role))
    }

    /// Targets roles whose metadata does not meet what is demanded of it now, since the keys of their
    /// delegation or its threshold changed: clients refuse them until their next version is signed anew.
    #[must_use]
    pub fn unsigned_roles(&self) -> Vec<&str> {
        let unsigned = |role: &str, signed: &Signed<Targets>| {
            self.authority(role).is_none_or(|authority| signed.envelope.verify(role, &authority).is_err())
        };
        let roles = self.targets.iter().filter(|(role, signed)| unsigned(role, signed));
        roles.map(|(role, _)| role.as_str()).collect()
    }

    /// Takes a new root or a new version of a targets role, verified as a client will verify it. Submitting
    /// the current version again changes nothing. Clients see it when [`Repository::publish`] has run (a root
    /// at once).
    ///
    /// # Errors
    /// Why it is refused.
    pub fn submit(&mut self, role: &str, bytes: Vec<u8>, now: Time) -> Result<File, TrustError> {
        if role == "root" {
            if bytes != self.root.raw {
                let new = self.verify_root(bytes)?;
                new.body.header.check_expiry("root", now)?;
                self.root = new;
            }
            return Ok(self.file("root", self.root.version(), &self.root.raw));
        }
        let new = Signed::<Targets>::read(role, bytes)?;
        let authority =
            self.authority(role).ok_or_else(|| TrustError::invalid(role, "no role delegates to it"))?;
        new.envelope.verify(role, &authority)?;
        new.body.header.check_expiry(role, now)?;
        let current = self.targets.get(role);
        let listed = self.snapshot.as_ref().and_then(|signed| signed.body.role(role));
        let floor = current.map(Signed::version).max(listed.map(|meta| meta.version)).unwrap_or(0);
        let version = new.version();
        if version < floor {
            return Err(TrustError::Rollback { what: role.to_owned(), offered: version, floor });
        }
        if let Some(current) = current.filter(|current| current.version() == version) {
            if current.envelope.digest(role)? != new.envelope.digest(role)? {
                return Err(TrustError::SameVersionOtherContent { what: role.to_owned(), version });
            }
            // Clients hold the bytes that were published; the same content signed again is not news.
            return Ok(self.file(role, version, &current.raw));
        }
        let file = self.file(role, version, &new.raw);
        self.targets.insert(role.to_owned(), new);
        Ok(file)
    }

    /// Makes what clients need to see the current state: a new snapshot if a targets role changed or the old
    /// one is past half its life or not signed by the keys in force, and always a new timestamp. Keep the
    /// files in the given order; the timestamp, last, is what makes the others visible.
    ///
    /// # Errors
    /// [`TrustError::NotFound`] before top-level targets were submitted, [`TrustError::Unsigned`] if the pairs
    /// are not those that root authorises for the two roles.
    pub fn publish(
        &mut self,
        snapshot_pairs: &[&KeyPair],
        timestamp_pairs: &[&KeyPair],
        now: Time,
        lifetimes: &Lifetimes,
    ) -> Result<Vec<File>, TrustError> {
        if !self.targets.contains_key("targets") {
            return Err(TrustError::NotFound { file: "targets.json".to_owned() });
        }
        let mut files = Vec::new();
        let meta: BTreeMap<_, _> = self
            .targets
            .iter()
            .map(|(role, signed)| (format!("{role}.json"), MetaFile::of(signed.version(), &signed.raw)))
            .collect();
        let current = self.snapshot.as_ref().filter(|signed| {
            signed.body.meta == meta
                && signed.body.header.expires > now + lifetimes.snapshot / 2
                && signed.envelope.verify("snapshot", &self.root.body.authority("snapshot")).is_ok()
        });
        if current.is_none() {
            let header = next_header::<Snapshot>(self.snapshot.as_ref(), now + lifetimes.snapshot);
            let snapshot = Snapshot { header, meta, extra: BTreeMap::new() };
            let signed = self.sign_online("snapshot", &snapshot, snapshot_pairs)?;
            files.push(self.file("snapshot", signed.version(), &signed.raw));
            self.snapshot = Some(signed);
        }
        let snapshot = self.snapshot.as_ref().expect("made above if there was none");
        let meta =
            BTreeMap::from([("snapshot.json".to_owned(), MetaFile::of(snapshot.version(), &snapshot.raw))]);
        let header = next_header::<Timestamp>(self.timestamp.as_ref(), now + lifetimes.timestamp);
        let timestamp = Timestamp { header, meta, extra: BTreeMap::new() };
        let signed = self.sign_online("timestamp", &timestamp, timestamp_pairs)?;
        files.push(self.file("timestamp", signed.version(), &signed.raw));
        self.timestamp = Some(signed);
        Ok(files)
    }

    /// Lets the next [`Repository::publish`] sign both online roles anew, above these versions and above its own:
    /// for a repository that was put back to an earlier state, of which clients have seen more.
    pub fn resume_above(&mut self, snapshot_version: u64, timestamp_version: u64) {
        if let Some(snapshot) = &mut self.snapshot {
            let version = &mut snapshot.body.header.version;
            *version = snapshot_version.max(*version);
            // One that lists nothing is out of date.
            snapshot.body.meta.clear();
        }
        if let Some(timestamp) = &mut self.timestamp {
            let version = &mut timestamp.body.header.version;
            *version = timestamp_version.max(*version);
        }
    }

    /// The expiry of every current role, soonest first: what warns before one runs out.
    #[must_use]
    pub fn expiries(&self) -> Vec<(Time, String)> {
        let mut all = vec![(self.root.body.header.expires, "root".to_owned())];
        all.extend(self.targets.iter().map(|(role, signed)| (signed.body.header.expires, role.clone())));
        all.extend(self.snapshot.iter().map(|signed| (signed.body.header.expires, "snapshot".to_owned())));
        all.extend(self.timestamp.iter().map(|signed| (signed.body.header.expires, "timestamp".to_owned())));
        all.sort();
        all
    }

    fn sign_online<T: Role>(
        &self,
        role: &str,
        body: &T,
        pairs: &[&KeyPair],
    ) -> Result<Signed<T>, TrustError> {
        let mut envelope = Envelope::unsigned(body)?;
        for pair in pairs {
            envelope.sign(pair)?;
        }
        envelope.verify(role, &self.root.body.authority(role))?;
        Signed::read(role, envelope.to_bytes())
    }

    fn verify_root(&self, bytes: Vec<u8>) -> Result<Signed<Root>, TrustError> {
        let new = Signed::<Root>::read("root", bytes)?;
        new.envelope.verify("root", &self.root.body.authority("root"))?;
        new.envelope.verify("root", &new.body.authority("root"))?;
        let expected = self.root.version() + 1;
        if new.version() != expected {
            return Err(TrustError::WrongVersion {
                what: "root".to_owned(),
                offered: new.version(),
                expected,
            });
        }
        Ok(new)
    }

    fn name(&self, role: &str, version: u64) -> String {
        let versioned = role == "root" || (role != "timestamp" && self.root.body.consistent_snapshot);
        file_name(role, versioned.then_some(version))
    }

    fn file(&self, role: &str, version: u64, bytes: &[u8]) -> File {
        File { name: self.name(role, version), bytes: bytes.to_vec() }
    }
}

fn next_header<T: Role>(current: Option<&Signed<T>>, expires: Time) -> Header {
    match current {
        Some(signed) => signed.body.header().next(expires),
        None => Header::first(T::TYPE, expires),
    }
}
