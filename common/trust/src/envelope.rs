//! The envelope of everything signed: a value, and signatures over its canonical JSON.
//!
//! What is verified is the canonical form of the very value that is then read, never a second reading of the
//! same bytes. Signatures are detached and collected one by one: no place ever needs two private keys.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::{Sha256, canonical};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::TrustError;
use crate::key::{KeyId, KeyIdentity, KeyPair, PublicKey};

/// One signature (TUF §4.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// The key that made it.
    pub keyid: KeyId,
    /// Hexadecimal. Other tools write an empty text for a signature that is still missing.
    pub sig: String,
    /// Fields unknown here.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// A value and its signatures, before anyone has decided to believe it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// What is signed.
    pub signed: Value,
    /// Signatures over its canonical JSON.
    pub signatures: Vec<Signature>,
    /// Fields unknown here. They are not signed.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// Who may sign: keys by id, which of them count, and how many it takes.
#[derive(Debug, Clone, Copy)]
pub struct Authority<'a> {
    /// Who says so, for messages: `root`, `targets`, or the reader of a document.
    pub delegator: &'a str,
    /// The keys that the delegator lists.
    pub keys: &'a BTreeMap<KeyId, PublicKey>,
    /// The ids among them that this role may use.
    pub keyids: &'a [KeyId],
    /// How many distinct keys must have signed; at least 1.
    pub threshold: usize,
}

impl Authority<'_> {
    /// The distinct public keys of the role.
    #[must_use]
    pub fn identities(&self) -> BTreeSet<KeyIdentity> {
        self.keyids.iter().filter_map(|id| self.keys.get(id)?.identity()).collect()
    }
}

impl Envelope {
    /// An envelope around this value, without signatures.
    ///
    /// # Errors
    /// [`TrustError::Canonical`] if the value has no canonical form (a fraction, say).
    pub fn unsigned<T: Serialize + ?Sized>(value: &T) -> Result<Self, TrustError> {
        let what = "a new document";
        let signed = serde_json::to_value(value)
            .map_err(|source| TrustError::Malformed { what: what.to_owned(), source })?;
        let envelope = Self { signed, signatures: Vec::new(), extra: BTreeMap::new() };
        envelope.canonical(what)?;
        Ok(envelope)
    }

    /// Reads an envelope; `what` names it in messages.
    ///
    /// # Errors
    /// [`TrustError::Malformed`].
    pub fn parse(what: &str, bytes: &[u8]) -> Result<Self, TrustError> {
        serde_json::from_slice(bytes)
            .map_err(|source| TrustError::Malformed { what: what.to_owned(), source })
    }

    /// The bytes to publish. These are what lengths and hashes in other metadata are taken of.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a JSON value with text keys can always be written")
    }

    /// The bytes that signatures are made over.
    ///
    /// # Errors
    /// [`TrustError::Canonical`]; never for an envelope from [`Envelope::unsigned`].
    pub fn canonical(&self, what: &str) -> Result<Vec<u8>, TrustError> {
        canonical::tuf_of_value(&self.signed)
            .map_err(|source| TrustError::Canonical { what: what.to_owned(), source })
    }

    /// Adds this pair's signature, in place of an earlier one by the same key.
    ///
    /// # Errors
    /// [`TrustError::Canonical`].
    pub fn sign(&mut self, pair: &KeyPair) -> Result<(), TrustError> {
        let signature = pair.sign(&self.canonical("the document")?);
        self.put(signature);
        Ok(())
    }

    /// Adds a signature made elsewhere, if it is a valid one by a key of that authority.
    ///
    /// # Errors
    /// [`TrustError::Key`] if the key is not one of the authority's, or did not sign this value.
    pub fn add_signature(
        &mut self,
        signature: Signature,
        authority: &Authority<'_>,
    ) -> Result<(), TrustError> {
        let refuse =
            |reason: &str| TrustError::Key { what: signature.keyid.to_string(), reason: reason.to_owned() };
        let key = Some(&signature.keyid)
            .filter(|id| authority.keyids.contains(id))
            .and_then(|id| authority.keys.get(id))
            .ok_or_else(|| refuse("it is not one of the keys that may sign this"))?;
        let message = self.canonical("the document")?;
        if !hex::decode(&signature.sig).is_ok_and(|raw| key.verifies(&message, &raw)) {
            return Err(refuse("its signature is not over this document"));
        }
        self.put(signature);
        Ok(())
    }

    fn put(&mut self, signature: Signature) {
        self.signatures.retain(|old| old.keyid != signature.keyid);
        self.signatures.push(signature);
    }

    /// The distinct authorised keys that validly signed this value. Key ids that occur twice among the
    /// signatures are refused (TUF §4.2: they must be unique).
    ///
    /// # Errors
    /// [`TrustError::Invalid`] for a repeated key id, [`TrustError::Canonical`].
    pub fn signers(
        &self,
        what: &str,
        authority: &Authority<'_>,
    ) -> Result<BTreeSet<KeyIdentity>, TrustError> {
        let mut seen = BTreeSet::new();
        for signature in &self.signatures {
            if !seen.insert(&signature.keyid) {
                return Err(TrustError::invalid(what, format!("key {} signs it twice", signature.keyid)));
            }
        }
        let message = self.canonical(what)?;
        Ok(self
            .signatures
            .iter()
            .filter(|signature| authority.keyids.contains(&signature.keyid))
            .filter_map(|signature| {
                let key = authority.keys.get(&signature.keyid)?;
                let raw = hex::decode(&signature.sig).ok()?;
                key.verifies(&message, &raw).then(|| key.identity())?
            })
            .collect())
    }

    /// How many further distinct keys must sign until the authority's threshold is met; 0 if it is.
    ///
    /// # Errors
    /// Those of [`Envelope::signers`].
    pub fn missing(&self, authority: &Authority<'_>) -> Result<usize, TrustError> {
        let valid = self.signers("the document", authority)?.len();
        Ok(authority.threshold.max(1).saturating_sub(valid))
    }

    /// Demands the authority's threshold (TUF §5.3.4 and its likes).
    ///
    /// # Errors
    /// [`TrustError::Unsigned`], and those of [`Envelope::signers`].
    pub fn verify(&self, what: &str, authority: &Authority<'_>) -> Result<(), TrustError> {
        let valid = self.signers(what, authority)?.len();
        let threshold = authority.threshold.max(1);
        if valid < threshold {
            let (what, delegator) = (what.to_owned(), authority.delegator.to_owned());
            return Err(TrustError::Unsigned { what, delegator, valid, threshold });
        }
        Ok(())
    }

    /// The digest of the canonical signed part: the same for two envelopes that say the same, whoever signed.
    ///
    /// # Errors
    /// [`TrustError::Canonical`].
    pub fn digest(&self, what: &str) -> Result<Sha256, TrustError> {
        Ok(Sha256::of(&self.canonical(what)?))
    }
}

/// Metadata that was read: its typed body, the envelope it came in, and the raw bytes of both.
#[derive(Debug, Clone)]
pub struct Signed<T> {
    /// The body, read from `envelope.signed`.
    pub body: T,
    /// The envelope as it was parsed.
    pub envelope: Envelope,
    /// The bytes as they came. These are stored and hashed, never a second writing.
    pub raw: Vec<u8>,
}

impl<T: DeserializeOwned> Signed<T> {
    /// Reads metadata, which is not yet verified; `what` names it in messages.
    ///
    /// # Errors
    /// [`TrustError::Malformed`].
    pub fn parse(what: &str, raw: Vec<u8>) -> Result<Self, TrustError> {
        let envelope = Envelope::parse(what, &raw)?;
        let body = T::deserialize(&envelope.signed)
            .map_err(|source| TrustError::Malformed { what: what.to_owned(), source })?;
        Ok(Self { body, envelope, raw })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn keys(pairs: &[&KeyPair]) -> (BTreeMap<KeyId, PublicKey>, Vec<KeyId>) {
        let map: BTreeMap<_, _> = pairs.iter().map(|p| (p.keyid().clone(), p.public().clone())).collect();
        let ids = map.keys().cloned().collect();
        (map, ids)
    }

    #[test]
    fn signatures_are_collected_until_the_threshold_is_met() {
        let (a, b, c) = (pair(1), pair(2), pair(3));
        let (keys, keyids) = keys(&[&a, &b]);
        let authority = Authority { delegator: "test", keys: &keys, keyids: &keyids, threshold: 2 };
        let mut envelope = Envelope::unsigned(&json!({"x": 1})).unwrap();
        assert_eq!(envelope.missing(&authority).unwrap(), 2);
        envelope.sign(&a).unwrap();
        envelope.sign(&a).unwrap();
        assert_eq!(envelope.missing(&authority).unwrap(), 1);
        let message = envelope.canonical("x").unwrap();
        assert!(envelope.add_signature(c.sign(&message), &authority).is_err());
        assert!(envelope.add_signature(b.sign(b"something else"), &authority).is_err());
        assert!(envelope.verify("x", &authority).is_err());
        envelope.add_signature(b.sign(&message), &authority).unwrap();
        assert_eq!(envelope.missing(&authority).unwrap(), 0);
        envelope.verify("x", &authority).unwrap();
    }

    #[test]
    fn one_key_under_two_ids_counts_once() {
        let a = pair(1);
        let mut renamed = a.public().clone();
        renamed.extra.insert("alias".to_owned(), json!(true));
        let keys =
            BTreeMap::from([(a.keyid().clone(), a.public().clone()), (renamed.keyid(), renamed.clone())]);
        let keyids: Vec<_> = keys.keys().cloned().collect();
        let authority = Authority { delegator: "test", keys: &keys, keyids: &keyids, threshold: 2 };
        let mut envelope = Envelope::unsigned(&json!({"x": 1})).unwrap();
        envelope.sign(&a).unwrap();
        let twin = Signature { keyid: renamed.keyid(), ..envelope.signatures[0].clone() };
        envelope.add_signature(twin, &authority).unwrap();
        assert_eq!(envelope.signatures.len(), 2);
        let error = envelope.verify("x", &authority).unwrap_err();
        assert!(matches!(error, TrustError::Unsigned { valid: 1, threshold: 2, .. }), "{error}");
    }

    #[test]
    fn a_repeated_key_id_is_refused_even_above_the_threshold() {
        let a = pair(1);
        let (keys, keyids) = keys(&[&a]);
        let authority = Authority { delegator: "test", keys: &keys, keyids: &keyids, threshold: 1 };
        let mut envelope = Envelope::unsigned(&json!({"x": 1})).unwrap();
        envelope.sign(&a).unwrap();
        envelope.signatures.push(envelope.signatures[0].clone());
        assert!(matches!(envelope.verify("x", &authority), Err(TrustError::Invalid { .. })));
    }

    #[test]
    fn a_threshold_of_zero_demands_one_signature() {
        let a = pair(1);
        let (keys, keyids) = keys(&[&a]);
        let authority = Authority { delegator: "test", keys: &keys, keyids: &keyids, threshold: 0 };
        assert!(Envelope::unsigned(&json!({})).unwrap().verify("x", &authority).is_err());
    }

    fn pair(seed: u8) -> KeyPair {
        KeyPair::from_seed(&[seed; 32]).unwrap()
    }
}
