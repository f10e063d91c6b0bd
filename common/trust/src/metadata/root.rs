//! The root role: which keys every top-level role has (TUF §4.3).

use std::collections::BTreeMap;

use landfall_common::Timestamp as Time;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Header, Role, TOP_LEVEL};
use crate::envelope::Authority;
use crate::key::{KeyId, PublicKey};

/// The keys of one role, and how many of them must sign.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoleKeys {
    /// Ids of keys that are listed beside.
    pub keyids: Vec<KeyId>,
    /// How many distinct ones must sign; at least 1.
    pub threshold: usize,
    /// Fields unknown here.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// Root metadata.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Root {
    /// Type, version, expiry.
    #[serde(flatten)]
    pub header: Header,
    /// Whether snapshot and targets metadata are fetched with their version before their name, and targets
    /// with their digest before theirs (TUF §6.2).
    #[serde(default)]
    pub consistent_snapshot: bool,
    /// Every key that a role below uses.
    pub keys: BTreeMap<KeyId, PublicKey>,
    /// The four top-level roles; others are kept and ignored.
    pub roles: BTreeMap<String, RoleKeys>,
    /// Fields unknown here.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Root {
    /// A first root without keys: give each of the four roles its keys with [`Root::set_role`] before it is
    /// signed. Snapshots are consistent.
    #[must_use]
    pub fn first(expires: Time) -> Self {
        Self {
            header: Header::first("root", expires),
            consistent_snapshot: true,
            keys: BTreeMap::new(),
            roles: BTreeMap::new(),
            extra: BTreeMap::new(),
        }
    }

    /// The next version of this root, with the same keys. It must be signed by the threshold of this one
    /// *and* of itself (TUF §5.3.4).
    #[must_use]
    pub fn next(&self, expires: Time) -> Self {
        Self { header: self.header.next(expires), ..self.clone() }
    }

    /// Gives a top-level role these keys, in place of those it had, and drops keys that nobody uses any more.
    pub fn set_role(&mut self, role: &str, keys: &[PublicKey], threshold: usize) {
        let keyids = keys.iter().map(PublicKey::keyid).collect();
        self.keys.extend(keys.iter().map(|key| (key.keyid(), key.clone())));
        let extra = self.roles.remove(role).map(|old| old.extra).unwrap_or_default();
        self.roles.insert(role.to_owned(), RoleKeys { keyids, threshold, extra });
        let used = |id: &KeyId| self.roles.values().any(|role| role.keyids.contains(id));
        self.keys =
            self.keys.iter().filter(|(id, _)| used(id)).map(|(id, key)| (id.clone(), key.clone())).collect();
    }

    /// Who may sign a top-level role.
    ///
    /// # Panics
    /// Never for one of [`TOP_LEVEL`] on a root that was read or passed [`Role::validate`].
    #[must_use]
    pub fn authority(&self, role: &str) -> Authority<'_> {
        const NOBODY: &[KeyId] = &[];
        // A role that root does not name has no keys, and so nothing ever meets its threshold.
        let (keyids, threshold) = match self.roles.get(role) {
            Some(role) => (role.keyids.as_slice(), role.threshold),
            None => (NOBODY, usize::MAX),
        };
        Authority { delegator: "root", keys: &self.keys, keyids, threshold }
    }

    /// Whether `newer` takes a key away from this role: the sign that the role was compromised and recovers,
    /// so that version floors which its old keys vouched for are reset (TUF §5.3.11). Keys are compared by
    /// what they are; renaming one or adding another takes nothing away.
    #[must_use]
    pub fn loses_key(&self, newer: &Self, role: &str) -> bool {
        !self.authority(role).identities().is_subset(&newer.authority(role).identities())
    }
}

impl Role for Root {
    const TYPE: &'static str = "root";

    fn header(&self) -> &Header {
        &self.header
    }

    fn validate(&self) -> Result<(), String> {
        for name in TOP_LEVEL {
            let role = self.roles.get(name).ok_or_else(|| format!("it has no role {name}"))?;
            if role.threshold == 0 {
                return Err(format!("role {name} has a threshold of 0"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyPair;

    #[test]
    fn setting_a_role_drops_keys_that_nobody_uses() {
        let keys: Vec<_> = (1..=3).map(|n| KeyPair::from_seed(&[n; 32]).unwrap().public().clone()).collect();
        let mut root = Root::first(Time::from_ms(0));
        assert!(root.validate().is_err());
        for role in TOP_LEVEL {
            root.set_role(role, &keys[..2], 1);
        }
        assert!(root.validate().is_ok());
        let mut newer = root.next(Time::from_ms(0));
        newer.set_role("snapshot", &keys[1..], 1);
        assert_eq!(newer.keys.len(), 3);
        assert!(root.loses_key(&newer, "snapshot"));
        assert!(!root.loses_key(&newer, "timestamp"));
        newer.set_role("snapshot", &keys[..1], 1);
        assert_eq!(newer.keys.len(), 2);
    }
}
