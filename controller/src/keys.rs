//! The keys that the controller itself holds: two online roles of the release repository, the director's,
//! the log's, and the secret that tokens are derived from.

use std::path::Path;

use aws_lc_rs::hmac;
use landfall_trust::KeyPair;
use rand::TryRngCore as _;

use crate::error::ControllerError;
use crate::private_file;

/// The online keys. Whoever has them can hide news or choose among signed releases, not sign one.
pub struct OnlineKeys {
    /// Signs the repository's snapshot.
    pub snapshot: KeyPair,
    /// Signs the repository's timestamp.
    pub timestamp: KeyPair,
    /// Signs assignments.
    pub director: KeyPair,
    /// Signs the log's checkpoints.
    pub log: KeyPair,
    /// Tokens are derived from this, so that a repeated request is answered with the same one although
    /// only its hash is kept.
    pub tokens: hmac::Key,
}

const PAIRS: [&str; 4] = ["snapshot.key", "timestamp.key", "director.key", "log.key"];
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
        let pair = |name| -> Result<KeyPair, ControllerError> {
            Ok(KeyPair::from_pkcs8(&private_file::read(&directory.join(name))?)?)
        };
        let tokens = private_file::read(&directory.join(TOKENS))?;
        Ok(Self {
            snapshot: pair(PAIRS[0])?,
            timestamp: pair(PAIRS[1])?,
            director: pair(PAIRS[2])?,
            log: pair(PAIRS[3])?,
            tokens: hmac::Key::new(hmac::HMAC_SHA256, &tokens),
        })
    }
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
}
