//! Keys: public ones in TUF's form, and ed25519 pairs that sign.
//!
//! Signing is ed25519 only. Verifying also takes ECDSA on P-256 and RSA-PSS, since other repositories use
//! them. A key of an unknown kind is kept (its delegator signed it) and never verifies anything.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{self, Ed25519KeyPair, KeyPair as _, ParsedPublicKey, VerificationAlgorithm};
use landfall_common::{Sha256, canonical};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::envelope::Signature;
use crate::error::TrustError;

/// The name of a key within the metadata that lists it; by this crate always the hexadecimal SHA-256 of the
/// key's canonical JSON (TUF §4.2).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(pub String);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A public key as TUF metadata holds it (TUF §4.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicKey {
    /// `ed25519`, `ecdsa` (also written `ecdsa-sha2-nistp256`) or `rsa`.
    pub keytype: String,
    /// `ed25519`, `ecdsa-sha2-nistp256` or `rsassa-pss-sha256`.
    pub scheme: String,
    /// The key itself.
    pub keyval: KeyValue,
    /// Fields unknown here; they are part of what the key id is the digest of.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// The material of a public key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    /// ed25519: 64 hexadecimal digits. ECDSA and RSA: a PEM `PUBLIC KEY`.
    pub public: String,
    /// Fields unknown here.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// What a key *is*, whatever it is called and however it is written: the digest of its DER form. Two entries
/// of one identity count once towards a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyIdentity(Sha256);

impl PublicKey {
    /// An ed25519 key from its 32 bytes.
    #[must_use]
    pub fn ed25519(raw: &[u8; 32]) -> Self {
        Self {
            keytype: "ed25519".to_owned(),
            scheme: "ed25519".to_owned(),
            keyval: KeyValue { public: hex::encode(raw), extra: BTreeMap::new() },
            extra: BTreeMap::new(),
        }
    }

    /// The key's id: SHA-256 of its canonical JSON (TUF §4.2).
    #[must_use]
    pub fn keyid(&self) -> KeyId {
        // A fraction in an unknown field is the one thing without a canonical form; such a key came from
        // someone else's metadata, which is refused for the same reason before its keys are looked at.
        let bytes = canonical::tuf_to_vec(self).unwrap_or_default();
        KeyId(Sha256::of(&bytes).to_string())
    }

    /// Which key this is, or `None` if its kind is unknown or its material damaged: then it can verify
    /// nothing and counts for nothing.
    #[must_use]
    pub fn identity(&self) -> Option<KeyIdentity> {
        let der = self.parse()?.as_der().ok()?;
        Some(KeyIdentity(Sha256::of(der.as_ref())))
    }

    /// Whether this key made that signature over these bytes. An unknown scheme, a damaged key or a damaged
    /// signature is a plain no.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.parse().is_some_and(|key| key.verify_sig(message, signature).is_ok())
    }

    fn parse(&self) -> Option<ParsedPublicKey> {
        let algorithm: &'static dyn VerificationAlgorithm = match (&*self.keytype, &*self.scheme) {
            ("ed25519", "ed25519") => &signature::ED25519,
            ("ecdsa" | "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256") => &signature::ECDSA_P256_SHA256_ASN1,
            ("rsa", "rsassa-pss-sha256") => &signature::RSA_PSS_2048_8192_SHA256,
            _ => return None,
        };
        if self.keytype == "ed25519" {
            let raw = hex::decode(&self.keyval.public).ok().filter(|raw| raw.len() == 32)?;
            return ParsedPublicKey::new(algorithm, raw).ok();
        }
        let der = SubjectPublicKeyInfoDer::from_pem_slice(self.keyval.public.as_bytes()).ok()?;
        ParsedPublicKey::new(algorithm, der.as_ref()).ok()
    }
}

/// An ed25519 pair that signs. Its `Debug` form shows the key id only.
pub struct KeyPair {
    pair: Ed25519KeyPair,
    public: PublicKey,
    keyid: KeyId,
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair").field("keyid", &self.keyid.0).finish_non_exhaustive()
    }
}

impl KeyPair {
    /// A new pair, from the operating system's randomness.
    ///
    /// # Errors
    /// [`TrustError::Key`] if there is no randomness to be had.
    pub fn generate() -> Result<Self, TrustError> {
        let pair = Ed25519KeyPair::generate().map_err(|_| TrustError::Key {
            what: "being generated".to_owned(),
            reason: "the system gave no randomness".to_owned(),
        })?;
        Self::of(pair)
    }

    /// The pair with this 32-byte seed. The seed *is* the private key; tests and key derivation use this.
    ///
    /// # Errors
    /// [`TrustError::Key`] if the library refuses it.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, TrustError> {
        Self::of(Ed25519KeyPair::from_seed_unchecked(seed).map_err(rejected)?)
    }

    /// The pair in these PKCS#8 bytes (DER; version 1, as OpenSSL writes it, or 2).
    ///
    /// # Errors
    /// [`TrustError::Key`] if they hold no ed25519 pair.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, TrustError> {
        Self::of(Ed25519KeyPair::from_pkcs8(der).map_err(rejected)?)
    }

    /// The pair as PKCS#8 version 1 (DER). These bytes are the private key: mode 0600, or encrypted.
    ///
    /// # Errors
    /// [`TrustError::Key`] if the library cannot write it.
    pub fn to_pkcs8(&self) -> Result<Vec<u8>, TrustError> {
        let document = self.pair.to_pkcs8v1().map_err(|_| TrustError::Key {
            what: self.keyid.to_string(),
            reason: "it cannot be written as PKCS#8".to_owned(),
        })?;
        Ok(document.as_ref().to_vec())
    }

    fn of(pair: Ed25519KeyPair) -> Result<Self, TrustError> {
        let raw: &[u8; 32] = pair.public_key().as_ref().try_into().map_err(|_| TrustError::Key {
            what: "ed25519".to_owned(),
            reason: "its public half is not 32 bytes".to_owned(),
        })?;
        let public = PublicKey::ed25519(raw);
        let keyid = public.keyid();
        Ok(Self { pair, public, keyid })
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The public half's id.
    #[must_use]
    pub fn keyid(&self) -> &KeyId {
        &self.keyid
    }

    /// A signature over these very bytes. Metadata is signed through
    /// [`Envelope::sign`](crate::Envelope::sign), which makes the canonical form.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature {
            keyid: self.keyid.clone(),
            sig: hex::encode(self.pair.sign(message).as_ref()),
            extra: BTreeMap::new(),
        }
    }
}

fn rejected(error: aws_lc_rs::error::KeyRejected) -> TrustError {
    TrustError::Key { what: "ed25519".to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_reads_back_and_signs_alike() {
        let pair = KeyPair::generate().unwrap();
        let again = KeyPair::from_pkcs8(&pair.to_pkcs8().unwrap()).unwrap();
        assert_eq!(again.keyid(), pair.keyid());
        let signature = again.sign(b"x");
        let raw = hex::decode(&signature.sig).unwrap();
        assert!(pair.public().verifies(b"x", &raw));
        assert!(!pair.public().verifies(b"y", &raw));
        assert!(!pair.public().verifies(b"x", &raw[1..]));
        assert!(KeyPair::from_pkcs8(b"no key").is_err());
    }

    #[test]
    fn the_key_id_is_the_one_that_securesystemslib_computes() {
        let key = PublicKey::ed25519(&[0; 32]);
        // sha256 of {"keytype":"ed25519","keyval":{"public":"00…"},"scheme":"ed25519"}
        let text = format!(
            "{{\"keytype\":\"ed25519\",\"keyval\":{{\"public\":\"{}\"}},\"scheme\":\"ed25519\"}}",
            "0".repeat(64)
        );
        assert_eq!(key.keyid().0, Sha256::of(text.as_bytes()).to_string());
    }

    #[test]
    fn one_key_under_two_names_has_one_identity() {
        let key = KeyPair::generate().unwrap().public().clone();
        let mut renamed = key.clone();
        renamed.extra.insert("note".to_owned(), Value::from("same"));
        renamed.keyval.public = renamed.keyval.public.to_uppercase();
        assert_ne!(key.keyid(), renamed.keyid());
        assert!(key.identity().is_some());
        assert_eq!(key.identity(), renamed.identity());
    }

    #[test]
    fn an_unknown_or_damaged_key_verifies_nothing_and_has_no_identity() {
        for (keytype, scheme, public) in [
            ("sphincs", "sphincs-shake-128s", "00"),
            ("ed25519", "ed25519", "zz"),
            ("ed25519", "ed25519", ""),
            ("ed25519", "rsassa-pss-sha256", "00"),
            ("rsa", "rsassa-pss-sha256", "not PEM"),
            ("ecdsa", "ecdsa-sha2-nistp256", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"),
        ] {
            let mut key = PublicKey::ed25519(&[0; 32]);
            key.keytype = keytype.to_owned();
            key.scheme = scheme.to_owned();
            key.keyval.public = public.to_owned();
            assert_eq!(key.identity(), None, "{keytype}");
            assert!(!key.verifies(b"", b""), "{keytype}");
        }
    }
}
