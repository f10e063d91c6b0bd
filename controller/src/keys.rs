//! The keys that the controller itself holds: two online roles of the release repository, the director's,
//! the log's, and the secret that tokens are derived from.

use std::path::Path;

use aws_lc_rs::hmac;
use landfall_trust::{Authority, KeyPair};
use rand::TryRngCore as _;

use crate::error::ControllerError;
use crate::private_file;

/// The online keys. Whoever has them can hide news or choose among signed releases, not sign one.
pub struct OnlineKeys {
    /// Signs the repository's snapshot: the newest, which the next root is to name.
    pub snapshot: KeyPair,
    /// Signs the repository's timestamp: the newest.
    pub timestamp: KeyPair,
    /// Those of the two roles before: they sign as long as it is them that root names.
    older: Vec<KeyPair>,
    /// Signs assignments.
    pub director: KeyPair,
    /// Signs the log's checkpoints.
    pub log: KeyPair,
    /// Tokens are derived from this, so that a repeated request is answered with the same one although
    /// only its hash is kept.
    pub tokens: hmac::Key,
}

const PAIRS: [&str; 4] = ["snapshot.key", "timestamp.key", "director.key", "log.key"];
/// The roles of the repository whose keys are here. Their second keys are `snapshot.2.key` and `timestamp.2.key`.
const ROLES: [&str; 2] = ["snapshot", "timestamp"];
const TOKENS: &str = "tokens.key";

impl OnlineKeys {
    /// Makes new keys where there are none, and reads them.
    ///
    /// # Errors
    /// [`ControllerError::File`], [`ControllerError::Trust`].
    pub fn create(directory: &Path) -> Result<Self, ControllerError> {
        private_file::directory(directory)?;
        for name in PAIRS {
            let path = directory.join(name);
            if !path.exists() {
                private_file::write(&path, &KeyPair::generate()?.to_pkcs8()?)?;
            }
        }
        let path = directory.join(TOKENS);
        if !path.exists() {
            private_file::write(&path, &random()?)?;
        }
        Self::open(directory)
    }

    /// Reads the keys.
    ///
    /// # Errors
    /// [`ControllerError::File`] for a missing one, [`ControllerError::Trust`] for a damaged one.
    pub fn open(directory: &Path) -> Result<Self, ControllerError> {
        let pair = |name: &str| -> Result<KeyPair, ControllerError> {
            Ok(KeyPair::from_pkcs8(&private_file::read(&directory.join(name))?)?)
        };
        let mut older = Vec::new();
        let mut newest = |first: &str, role: &str| -> Result<KeyPair, ControllerError> {
            let mut newest = pair(first)?;
            for name in further(directory, role).take_while(|(_, is_there)| *is_there).map(|(name, _)| name) {
                older.push(std::mem::replace(&mut newest, pair(&name)?));
            }
            Ok(newest)
        };
        let tokens = private_file::read(&directory.join(TOKENS))?;
        Ok(Self {
            snapshot: newest(PAIRS[0], ROLES[0])?,
            timestamp: newest(PAIRS[1], ROLES[1])?,
            older,
            director: pair(PAIRS[2])?,
            log: pair(PAIRS[3])?,
            tokens: hmac::Key::new(hmac::HMAC_SHA256, &tokens),
        })
    }

    /// Makes new keys for snapshot and timestamp beside those that are there, and reads all. The old ones go on signing
    /// until a root names the new ones, so that nothing stands still in between.
    ///
    /// # Errors
    /// Those of [`OnlineKeys::open`].
    pub fn renew(directory: &Path) -> Result<Self, ControllerError> {
        Self::open(directory)?;
        for role in ROLES {
            let free = further(directory, role).find(|(_, is_there)| !is_there);
            let (name, _) = free.expect("some number is free");
            private_file::write(&directory.join(name), &KeyPair::generate()?.to_pkcs8()?)?;
        }
        Self::open(directory)
    }

    /// The keys that may sign by this rule of root.
    #[must_use]
    pub fn named_by(&self, authority: &Authority<'_>) -> Vec<&KeyPair> {
        let all = [&self.snapshot, &self.timestamp].into_iter().chain(&self.older);
        all.filter(|pair| authority.keyids.contains(pair.keyid())).collect()
    }
}

/// The files of a role's keys after the first, without end, and whether they are there.
fn further(directory: &Path, role: &str) -> impl Iterator<Item = (String, bool)> {
    (2_u32..).map(move |number| {
        let name = format!("{role}.{number}.key");
        let is_there = directory.join(&name).exists();
        (name, is_there)
    })
}

/// 32 bytes of the system's randomness.
///
/// # Errors
/// [`ControllerError::Authority`] if there is none.
pub fn random() -> Result<[u8; 32], ControllerError> {
    let mut bytes = [0; 32];
    rand::rngs::OsRng
        .try_fill_bytes(&mut bytes)
        .map_err(|error| ControllerError::Authority { doing: "get randomness", reason: error.to_string() })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once() {
        let directory = tempfile::tempdir().unwrap();
        let first = OnlineKeys::create(directory.path()).unwrap();
        let again = OnlineKeys::create(directory.path()).unwrap();
        assert_eq!(first.director.keyid(), again.director.keyid());
        assert_ne!(first.director.keyid(), first.log.keyid());
    }

    #[test]
    fn of_several_keys_the_newest_is_named_next_and_the_one_that_root_names_signs() {
        let directory = tempfile::tempdir().unwrap();
        let first = OnlineKeys::create(directory.path()).unwrap();
        OnlineKeys::renew(directory.path()).unwrap();
        let third = OnlineKeys::renew(directory.path()).unwrap();
        assert_eq!(third.older.len(), 4);
        assert_eq!(first.director.keyid(), third.director.keyid());
        let keys = Default::default();
        for pair in [&first.snapshot, &third.snapshot, &third.older[1], &third.timestamp] {
            let keyids = [pair.keyid().clone()];
            let authority = Authority { delegator: "root", keys: &keys, keyids: &keyids, threshold: 1 };
            let named: Vec<_> = third.named_by(&authority).into_iter().map(KeyPair::keyid).collect();
            assert_eq!(named, [pair.keyid()]);
        }
        assert_ne!(first.snapshot.keyid(), third.snapshot.keyid());
    }
}
