//! Changes of keys, thresholds and floors, as the next versions of the metadata that they touch. Nothing is
//! signed or sent here.

use std::time::Duration;

use landfall_common::{AppName, ReleaseCounter, Timestamp};
use landfall_trust::metadata::{Header, Root, Targets};
use landfall_trust::policy::{POLICY_ROLE, app_role};
use landfall_trust::repository::PublishError;
use landfall_trust::{Authority, KeyId, PublicKey};

use super::draft::{Body, Draft};
use super::{Trusted, lifetime};
use crate::error::Error;

/// Whose keys are changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// Root and targets, which have the same.
    Root,
    /// The releases of an application.
    Releases(AppName),
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Root => f.write_str("root"),
            Self::Releases(application) => write!(f, "releases of {application}"),
        }
    }
}

/// The keys of a holder, and how many of them it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// The keys.
    pub keys: Vec<PublicKey>,
    /// How many must sign.
    pub threshold: usize,
}

impl Keys {
    fn of(authority: &Authority<'_>) -> Self {
        let keys = authority.keyids.iter().filter_map(|id| authority.keys.get(id)).cloned().collect();
        Self { keys, threshold: authority.threshold }
    }

    /// With keys more and less, and another threshold where one is given.
    ///
    /// # Errors
    /// [`Error::Usage`] for a key that is not there, or a threshold that could never be met.
    pub fn changed(
        mut self,
        add: &[PublicKey],
        remove: &[KeyId],
        threshold: Option<usize>,
    ) -> Result<Self, Error> {
        for id in remove {
            let before = self.keys.len();
            self.keys.retain(|key| key.keyid() != *id);
            if self.keys.len() == before {
                let next = "ctl trust show names the keys";
                return Err(Error::usage(format!("{id} is not one of the keys"), next));
            }
        }
        for key in add {
            if !self.keys.iter().any(|known| known.keyid() == key.keyid()) {
                self.keys.push(key.clone());
            }
        }
        self.threshold = threshold.unwrap_or(self.threshold);
        if self.threshold == 0 || self.threshold > self.keys.len() {
            return Err(Error::usage(
                format!("{} of {} key(s) could never be met", self.threshold, self.keys.len()),
                "add keys, or choose another --threshold",
            ));
        }
        Ok(self)
    }
}

impl Trusted {
    /// The keys of a holder now.
    ///
    /// # Errors
    /// [`Error::Missing`] for an application that nobody signs for.
    pub fn keys(&self, holder: &Holder) -> Result<Keys, Error> {
        match holder {
            Holder::Root => Ok(Keys::of(&self.root.authority("root"))),
            Holder::Releases(application) => {
                let authority = self.targets.authority("targets", &app_role(application));
                authority.as_ref().map(Keys::of).ok_or_else(|| {
                    Error::missing(
                        format!("no key may sign releases of {application} yet"),
                        format!("ctl init --app {application}, where the root key is"),
                    )
                })
            }
        }
    }

    /// The applications whose releases this key may sign.
    #[must_use]
    pub fn applications_of(&self, key: &KeyId) -> Vec<AppName> {
        let delegated = self.targets.delegations.iter().flat_map(|delegations| &delegations.roles);
        delegated
            .filter(|role| role.keyids.contains(key))
            .filter_map(|role| AppName::new(role.name.strip_prefix("apps/")?).ok())
            .collect()
    }
}

/// A change under way: the versions that it makes.
#[derive(Debug, Clone)]
pub struct Change<'t> {
    trusted: &'t Trusted,
    now: Timestamp,
    root: Option<Root>,
    targets: Option<Targets>,
    roles: std::collections::BTreeMap<String, Targets>,
}

impl<'t> Change<'t> {
    /// Nothing yet.
    #[must_use]
    pub fn of(trusted: &'t Trusted, now: Timestamp) -> Self {
        let roles = std::collections::BTreeMap::new();
        Self { trusted, now, root: None, targets: None, roles }
    }

    fn targets(&mut self) -> &mut Targets {
        let (trusted, expires) = (self.trusted, lifetime::until("targets", self.now));
        self.targets.get_or_insert_with(|| trusted.targets.next(expires))
    }

    /// The next version of a role; its first if there is none.
    fn role(&mut self, name: &str) -> &mut Targets {
        let (trusted, expires) = (self.trusted, lifetime::until(name, self.now));
        self.roles.entry(name.to_owned()).or_insert_with(|| match trusted.roles.get(name) {
            Some(role) => role.next(expires),
            None => Targets::first(expires),
        })
    }

    /// Gives a holder these keys. What its old keys signed is signed anew by the new ones, or clients would refuse
    /// it from then on.
    pub fn set_keys(&mut self, holder: &Holder, Keys { keys, threshold }: &Keys) {
        match holder {
            Holder::Root => {
                let (trusted, expires) = (self.trusted, lifetime::until("root", self.now));
                let root = self.root.get_or_insert_with(|| trusted.root.next(expires));
                root.set_role("root", keys, *threshold);
                root.set_role("targets", keys, *threshold);
                let has_policy = trusted.targets.authority("targets", POLICY_ROLE).is_some();
                let targets = self.targets();
                if has_policy {
                    targets.delegate_policy(keys, *threshold);
                    self.role(POLICY_ROLE);
                }
            }
            Holder::Releases(application) => {
                self.targets().delegate_app(application, keys, *threshold);
                self.role(&app_role(application));
            }
        }
    }

    /// Gives the controller's roles these keys. Clients that see the old ones go forget what those vouched for: versions
    /// that somebody made up with them (TUF §5.3.11).
    pub fn set_online(&mut self, [snapshot, timestamp]: &[PublicKey; 2]) {
        let (trusted, expires) = (self.trusted, lifetime::until("root", self.now));
        let root = self.root.get_or_insert_with(|| trusted.root.next(expires));
        root.set_role("snapshot", std::slice::from_ref(snapshot), 1);
        root.set_role("timestamp", std::slice::from_ref(timestamp), 1);
    }

    /// Raises the floor of an application: older releases are refused everywhere from then on.
    ///
    /// # Errors
    /// [`Error::Usage`] for a floor below the one in force.
    pub fn set_floor(&mut self, application: &AppName, floor: ReleaseCounter) -> Result<(), Error> {
        if self.trusted.targets.authority("targets", POLICY_ROLE).is_none() {
            let Keys { keys, threshold } = self.trusted.keys(&Holder::Root)?;
            self.targets().delegate_policy(&keys, threshold);
        }
        let set = self.role(POLICY_ROLE).set_floor(application, floor);
        set.map(drop).map_err(|error: PublishError| Error::usage(error.to_string(), "a floor only rises"))
    }

    /// Signs anew, as they are, those of the root key's documents that have less than this left.
    pub fn renew(&mut self, left: Duration) {
        let (trusted, now) = (self.trusted, self.now);
        let is_due = |header: &Header| header.expires < now + left;
        if is_due(&trusted.root.header) {
            self.root.get_or_insert_with(|| trusted.root.next(lifetime::until("root", now)));
        }
        if is_due(&trusted.targets.header) {
            self.targets();
        }
        if trusted.roles.get(POLICY_ROLE).is_some_and(|policy| is_due(&policy.header)) {
            self.role(POLICY_ROLE);
        }
    }

    /// The change, to be signed.
    ///
    /// # Errors
    /// [`Error::Trust`] if it cannot be written.
    pub fn draft(self) -> Result<Draft, Error> {
        let mut draft = Draft::default();
        if let Some(root) = &self.root {
            draft.put("root", &Body::Root(Box::new(root.clone())))?;
        }
        if let Some(targets) = &self.targets {
            draft.put("targets", &Body::Targets(targets.clone()))?;
        }
        for (name, role) in &self.roles {
            draft.put(name, &Body::Targets(role.clone()))?;
        }
        Ok(draft)
    }
}
