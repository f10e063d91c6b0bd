//! Targets roles: loading one that is vouched for, and the search for a target through delegations
//! (TUF §5.6, §5.6.7).

use super::*;
use crate::metadata::{MetaFile, TargetFile};

/// A target that a trusted role vouches for.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Its path.
    pub path: String,
    /// The role that vouches for it, such as `apps/shop`.
    pub role: String,
    /// Length, digests, custom data.
    pub file: TargetFile,
}

impl Target {
    /// Demands the length and digests that were signed (TUF §5.7.2).
    ///
    /// # Errors
    /// [`TrustError::WrongDigest`], [`TrustError::UnknownDigests`].
    pub fn check(&self, bytes: &[u8]) -> Result<(), TrustError> {
        self.file.check(&self.path, bytes)
    }
}

/// What a search came to.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "an incomplete search goes on only after the machine has run again"]
pub enum Lookup {
    /// The most trusted role that knows the path vouches for it.
    Found(Box<Target>),
    /// No role that is trusted for the path knows it.
    Absent,
    /// A delegated role must be loaded first: run the machine until it is ready, and search again.
    Incomplete,
}

impl Updater {
    /// Searches for a target, depth first in order of trust, visiting each role once (TUF §5.6.7).
    ///
    /// # Errors
    /// [`TrustError::OutOfTurn`] before the refresh is done, and why a delegated role on the way cannot be
    /// trusted. Roles that are not on the way are not looked at: one bad delegate does not fail the others.
    pub fn find(&mut self, path: &str) -> Result<Lookup, TrustError> {
        if self.stage != Stage::Ready {
            return Err(TrustError::OutOfTurn("targets can be searched only when the refresh is done"));
        }
        // A search before this one may have been given up at a role that would not load.
        self.asked = None;
        self.wanted = None;
        let mut to_visit = vec![Visit::top_level()];
        let mut visited = BTreeSet::new();
        while let Some(visit) = to_visit.pop() {
            if visited.contains(&visit.role) {
                continue;
            }
            if visited.len() > self.limits.delegations {
                break;
            }
            let Some(targets) = self.targets.get(&visit.role) else {
                self.wanted = Some(visit);
                return Ok(Lookup::Incomplete);
            };
            if !self.verified.contains(&visit) {
                targets.envelope.verify(&visit.role, &self.authority(&visit)?)?;
                self.verified.insert(visit.clone());
            }
            let targets = &self.targets[&visit.role].body;
            if let Some(file) = targets.targets.get(path) {
                let target = Target { path: path.to_owned(), role: visit.role, file: file.clone() };
                return Ok(Lookup::Found(Box::new(target)));
            }
            let mut children = Vec::new();
            for role in targets.roles_for(path) {
                children.push(Visit { role: role.name.clone(), delegator: visit.role.clone() });
                if role.terminating {
                    to_visit.clear();
                    break;
                }
            }
            to_visit.extend(children.into_iter().rev());
            visited.insert(visit.role);
        }
        Ok(Lookup::Absent)
    }

    /// The blocking form of [`Updater::find`], for callers of [`Updater::drive`].
    ///
    /// # Errors
    /// Those of both.
    pub fn find_with<E: From<TrustError>>(
        &mut self,
        path: &str,
        mut fetch: impl FnMut(&Need) -> Result<Option<Vec<u8>>, E>,
        mut store: impl FnMut(&str, &[u8]) -> Result<(), E>,
    ) -> Result<Option<Target>, E> {
        loop {
            match self.find(path)? {
                Lookup::Found(target) => return Ok(Some(*target)),
                Lookup::Absent => return Ok(None),
                Lookup::Incomplete => self.drive(&mut fetch, &mut store)?,
            }
        }
    }

    /// The local file of a targets role if it is the one that the snapshot vouches for, or else a new one
    /// (TUF §5.6.1).
    pub(super) fn obtain_targets(&mut self, visit: Visit) -> Result<(), TrustError> {
        let meta = self.listed(&visit)?.clone();
        let role = &visit.role;
        let authority = self.authority(&visit)?;
        let local = self.vouched::<Targets>(role, self.floors.roles.get(role).copied()).filter(|local| {
            local.version() == meta.version
                && meta.check(role, &local.raw).is_ok()
                && local.envelope.verify(role, &authority).is_ok()
        });
        if let Some(local) = local {
            local.body.header.check_expiry(role, self.now)?;
            self.load(visit, local);
            return Ok(());
        }
        let limit = self.limits.targets_length;
        let max_length = meta.length.map_or(limit, |length| length.min(limit));
        let version = self.name_version(meta.version);
        self.ask(&visit.role.clone(), version, max_length, Asked::Targets(visit));
        Ok(())
    }

    /// TUF §5.6.2–§5.6.6.
    pub(super) fn take_targets(&mut self, visit: Visit, bytes: Vec<u8>) -> Result<(), TrustError> {
        let role = &visit.role;
        let meta = self.listed(&visit)?;
        let expected = meta.version;
        meta.check(role, &bytes)?;
        let new = Signed::<Targets>::read(role, bytes)?;
        new.envelope.verify(role, &self.authority(&visit)?)?;
        let version = new.version();
        if version != expected {
            return Err(TrustError::WrongVersion { what: role.clone(), offered: version, expected });
        }
        let digest = new.envelope.digest(role)?;
        check_floor(role, self.floors.roles.get(role).copied(), version, digest)?;
        new.body.header.check_expiry(role, self.now)?;
        self.floors.roles.insert(role.clone(), Floor { version, digest: Some(digest) });
        self.put_floors();
        self.put(file_name(role, None), new.raw.clone());
        self.load(visit, new);
        Ok(())
    }

    fn load(&mut self, visit: Visit, signed: Signed<Targets>) {
        self.targets.insert(visit.role.clone(), signed);
        self.verified.insert(visit);
        if self.stage == Stage::Targets {
            self.settle();
        }
    }

    fn listed(&self, visit: &Visit) -> Result<&MetaFile, TrustError> {
        let snapshot = self.snapshot.as_ref().ok_or(TrustError::OutOfTurn("there is no snapshot yet"))?;
        snapshot.body.role(&visit.role).ok_or_else(|| TrustError::NotInSnapshot {
            role: visit.role.clone(),
            delegator: visit.delegator.clone(),
        })
    }

    fn authority<'a>(&'a self, visit: &'a Visit) -> Result<Authority<'a>, TrustError> {
        if *visit == Visit::top_level() {
            return Ok(self.root.body.authority("targets"));
        }
        self.targets
            .get(&visit.delegator)
            .and_then(|delegator| delegator.body.authority(&visit.delegator, &visit.role))
            .ok_or(TrustError::OutOfTurn("a role was asked for that nobody delegates to"))
    }
}
