//! The four top-level roles, in the order of TUF §5.3–§5.6.
//!
//! Of each new file, the order is: authenticity, rollback, expiry; then the record of floors, then the file.
//! Only a root goes before its record, since the record may be lowered by it and must not be before it is kept.

use super::*;

impl Updater {
    /// Follows the kept roots from the pinned one, each signed by the one before and by itself. A root that is
    /// kept but newer than the record (power was lost between the two) is taken as if it had just come.
    pub(super) fn walk_kept_roots(&mut self) {
        while let Some(bytes) = self.store.get(&root_history(self.root.version() + 1)) {
            let Ok(root) = self.verify_next_root(bytes.to_vec()) else { break };
            if root.version() <= self.floors.root.version {
                self.root = root;
            } else if self.accept_root(root).is_err() {
                break;
            }
        }
    }

    /// TUF §5.3.2–§5.3.3: the next root, until there is none.
    pub(super) fn ask_for_root(&mut self) -> Result<(), TrustError> {
        if self.rotations >= self.limits.root_rotations {
            return Err(TrustError::TooManyRoots { max: self.limits.root_rotations });
        }
        let next = self.root.version() + 1;
        self.ask("root", Some(next), self.limits.root_length, Asked::Root);
        Ok(())
    }

    /// TUF §5.3.4–§5.3.5: signed by the old threshold and by its own, and exactly one version further.
    pub(super) fn verify_next_root(&self, bytes: Vec<u8>) -> Result<Signed<Root>, TrustError> {
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
        let digest = new.envelope.digest("root")?;
        if new.version() <= self.floors.root.version {
            // A root that was trusted before and is fetched again, since the local copy is gone.
            let floor = Some(self.floors.root).filter(|floor| floor.version == new.version());
            check_floor("root", floor, new.version(), digest)?;
        }
        Ok(new)
    }

    /// TUF §5.3.7–§5.3.8 and §5.3.11. Floors are lowered only by a root that is new to the record: passing an
    /// old rotation again must not lower them again.
    pub(super) fn accept_root(&mut self, new: Signed<Root>) -> Result<(), TrustError> {
        let version = new.version();
        let digest = new.envelope.digest("root")?;
        self.put(root_history(version), new.raw.clone());
        if version > self.floors.root.version {
            self.floors.recover(&self.root.body, &new.body);
            self.floors.root = Floor { version, digest: Some(digest) };
        }
        if version == self.floors.root.version {
            self.put(ROOT, new.raw.clone());
        }
        self.put_floors();
        self.root = new;
        Ok(())
    }

    /// TUF §5.3.10: only the newest root must be in force.
    pub(super) fn settle_root(&mut self) -> Result<(), TrustError> {
        let (version, floor) = (self.root.version(), self.floors.root.version);
        if version < floor {
            return Err(TrustError::Rollback { what: "root".to_owned(), offered: version, floor });
        }
        if self.store.get(ROOT) != Some(&*self.root.raw) {
            self.put(ROOT, self.root.raw.clone());
        }
        self.root.body.header.check_expiry("root", self.now)?;
        self.timestamp = self.vouched::<Timestamp>("timestamp", self.floors.timestamp).filter(|local| {
            local.envelope.verify("timestamp", &self.root.body.authority("timestamp")).is_ok()
        });
        self.stage = Stage::Timestamp;
        Ok(())
    }

    /// TUF §5.4.1: always, since nothing else says whether there is news.
    pub(super) fn ask_for_timestamp(&mut self) {
        self.ask("timestamp", None, self.limits.timestamp_length, Asked::Timestamp);
    }

    /// TUF §5.4.2–§5.4.5.
    pub(super) fn take_timestamp(&mut self, bytes: Vec<u8>) -> Result<(), TrustError> {
        let what = "timestamp";
        let new = Signed::<Timestamp>::read(what, bytes)?;
        new.envelope.verify(what, &self.root.body.authority(what))?;
        let version = new.version();
        if let Some(local) = self.timestamp.as_ref().filter(|local| local.version() == version) {
            // §5.4.3.1: of two with one version the first stays, whatever the second says.
            local.body.header.check_expiry(what, self.now)?;
            self.stage = Stage::Snapshot;
            return Ok(());
        }
        let digest = new.envelope.digest(what)?;
        check_floor(what, self.floors.timestamp, version, digest)?;
        let listed = new.body.snapshot().version;
        let seen = self.floors.snapshot.map(|floor| floor.version).max(self.floors.snapshot_listed);
        if let Some(floor) = seen.filter(|floor| listed < *floor) {
            return Err(TrustError::Rollback { what: "snapshot".to_owned(), offered: listed, floor });
        }
        new.body.header.check_expiry(what, self.now)?;
        self.floors.timestamp = Some(Floor { version, digest: Some(digest) });
        self.floors.snapshot_listed = Some(listed);
        self.put_floors();
        self.put(file_name(what, None), new.raw.clone());
        self.timestamp = Some(new);
        self.stage = Stage::Snapshot;
        Ok(())
    }

    /// TUF §5.5.1: the local snapshot if it is the one that the timestamp vouches for, or else a new one.
    pub(super) fn obtain_snapshot(&mut self) -> Result<(), TrustError> {
        let what = "snapshot";
        let meta = self.trusted_timestamp()?.snapshot().clone();
        let local = self.vouched::<Snapshot>(what, self.floors.snapshot).filter(|local| {
            local.version() == meta.version
                && meta.check(what, &local.raw).is_ok()
                && local.envelope.verify(what, &self.root.body.authority(what)).is_ok()
        });
        if let Some(local) = local {
            local.body.header.check_expiry(what, self.now)?;
            self.snapshot = Some(local);
            self.stage = Stage::Targets;
            return Ok(());
        }
        let limit = self.limits.snapshot_length;
        let max_length = meta.length.map_or(limit, |length| length.min(limit));
        self.ask(what, self.name_version(meta.version), max_length, Asked::Snapshot);
        Ok(())
    }

    /// TUF §5.5.2–§5.5.7.
    pub(super) fn take_snapshot(&mut self, bytes: Vec<u8>) -> Result<(), TrustError> {
        let what = "snapshot";
        let meta = self.trusted_timestamp()?.snapshot();
        let expected = meta.version;
        meta.check(what, &bytes)?;
        let new = Signed::<Snapshot>::read(what, bytes)?;
        new.envelope.verify(what, &self.root.body.authority(what))?;
        let version = new.version();
        if version != expected {
            return Err(TrustError::WrongVersion { what: what.to_owned(), offered: version, expected });
        }
        let digest = new.envelope.digest(what)?;
        check_floor(what, self.floors.snapshot, version, digest)?;
        for (role, floor) in &self.floors.roles {
            let Some(listed) = new.body.role(role) else {
                return Err(TrustError::RoleRemoved { role: role.clone() });
            };
            if listed.version < floor.version {
                let (what, offered, floor) = (role.clone(), listed.version, floor.version);
                return Err(TrustError::Rollback { what, offered, floor });
            }
        }
        new.body.header.check_expiry(what, self.now)?;
        self.floors.snapshot = Some(Floor { version, digest: Some(digest) });
        for (role, listed) in new.body.roles() {
            let floor =
                self.floors.roles.entry(role.to_owned()).or_insert(Floor { version: 0, digest: None });
            if listed.version > floor.version {
                *floor = Floor { version: listed.version, digest: None };
            }
        }
        self.put_floors();
        self.put(file_name(what, None), new.raw.clone());
        self.snapshot = Some(new);
        self.stage = Stage::Targets;
        Ok(())
    }

    /// The refresh has succeeded: all four roles were in force at `now`, so `now` is not absurd, and a clock
    /// that is set back later is not believed.
    pub(super) fn settle(&mut self) {
        let seen = Time::from_ms(self.now.ms() / LAST_SEEN_STEP_MS * LAST_SEEN_STEP_MS);
        if self.floors.last_seen.is_none_or(|last| last < seen) {
            self.floors.last_seen = Some(seen);
            self.put_floors();
        }
        self.stage = Stage::Ready;
    }

    fn trusted_timestamp(&self) -> Result<&Timestamp, TrustError> {
        let signed = self.timestamp.as_ref().ok_or(TrustError::OutOfTurn("there is no timestamp yet"))?;
        Ok(&signed.body)
    }
}
