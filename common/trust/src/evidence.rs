//! Evidence, signed: what CI says of a commit.
//!
//! A document names the key that signed it, so that whoever is handed one can tell damage from a stranger. Whether that
//! key may say it, and which of several documents counts, is decided elsewhere, by what release signers have signed.
//! What is kept of one is the statement and the signature: the same bytes come of them whoever writes them, and what
//! somebody has put around them is gone.

use std::collections::BTreeMap;

use landfall_common::canonical;
use landfall_common::evidence::{EvidenceKey, Statement};
use serde_json::Value;

use crate::director::sign_document;
use crate::envelope::{Envelope, Signature};
use crate::error::TrustError;
use crate::key::{KeyPair, PublicKey};

/// The `_type` of the document.
pub const KIND: &str = "landfall.evidence";

/// The largest document that is read, in bytes: four times of what a statement at its bounds takes.
pub const MAX_BYTES: usize = 4096;

/// A statement with its signature, verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// What is said.
    pub statement: Statement,
    /// By the statement's own key over its canonical form: 128 lower-case hexadecimal digits.
    pub signature: String,
}

/// What evidence calls the public half of a pair.
#[must_use]
pub fn key_of(pair: &KeyPair) -> EvidenceKey {
    EvidenceKey::new(pair.public().keyval.public.clone()).expect("the hexadecimal digits of 32 bytes")
}

impl Evidence {
    /// Signs a statement, whose key must be that of the pair.
    ///
    /// # Errors
    /// [`TrustError::Invalid`] for a statement of another key or out of bounds.
    pub fn sign(statement: Statement, pair: &KeyPair) -> Result<Self, TrustError> {
        if statement.key != key_of(pair) {
            return Err(TrustError::invalid(KIND, format!("it names key {}", statement.key.short())));
        }
        statement.check().map_err(|reason| TrustError::invalid(KIND, reason))?;
        let document = sign_document(KIND, &statement, pair)?;
        let signature = document.signatures.into_iter().next().map(|signature| signature.sig);
        Ok(Self { statement, signature: signature.unwrap_or_default() })
    }

    /// Reads and verifies a document.
    ///
    /// # Errors
    /// [`TrustError::Malformed`] for another form or a field that is not known, [`TrustError::Unsigned`] where the key
    /// that it names has not signed it, [`TrustError::Invalid`] for another `_type`, for more than [`MAX_BYTES`] and
    /// for what is out of bounds.
    pub fn parse(bytes: &[u8]) -> Result<Self, TrustError> {
        if bytes.len() > MAX_BYTES {
            return Err(TrustError::invalid(KIND, format!("it has more than {MAX_BYTES} bytes")));
        }
        let mut document = Envelope::parse(KIND, bytes)?;
        let [Signature { sig, .. }] = &document.signatures[..] else {
            return Err(TrustError::invalid(KIND, "it must have one signature"));
        };
        let signature = sig.clone();
        let found = document.signed.as_object_mut().and_then(|fields| fields.remove("_type"));
        if found.as_ref().and_then(Value::as_str) != Some(KIND) {
            return Err(TrustError::invalid(KIND, format!("its _type is {found:?}")));
        }
        let statement = serde_json::from_value(document.signed)
            .map_err(|source| TrustError::Malformed { what: KIND.to_owned(), source })?;
        Self::of(statement, signature)
    }

    /// A statement and a signature that belong together.
    ///
    /// # Errors
    /// [`TrustError::Unsigned`], and [`TrustError::Invalid`] for what is out of bounds.
    pub fn of(statement: Statement, signature: String) -> Result<Self, TrustError> {
        statement.check().map_err(|reason| TrustError::invalid(KIND, reason))?;
        let evidence = Self { statement, signature };
        let public = evidence.public();
        let message = canonical::tuf_of_value(&evidence.signed())
            .map_err(|source| TrustError::Canonical { what: KIND.to_owned(), source })?;
        // One text for one signature: upper-case digits would be the same in other bytes.
        let raw = hex::decode(&evidence.signature).ok().filter(|raw| hex::encode(raw) == evidence.signature);
        if !raw.is_some_and(|raw| public.verifies(&message, &raw)) {
            let (what, delegator) = (KIND.to_owned(), format!("its key {}", evidence.statement.key.short()));
            return Err(TrustError::Unsigned { what, delegator, valid: 0, threshold: 1 });
        }
        Ok(evidence)
    }

    /// The document, always in the same bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let keyid = self.public().keyid();
        let signature = Signature { keyid, sig: self.signature.clone(), extra: BTreeMap::new() };
        let document =
            Envelope { signed: self.signed(), signatures: vec![signature], extra: BTreeMap::new() };
        document.to_bytes()
    }

    fn public(&self) -> PublicKey {
        let mut raw = [0; 32];
        hex::decode_to_slice(self.statement.key.as_str(), &mut raw).expect("64 hexadecimal digits");
        PublicKey::ed25519(&raw)
    }

    /// What is signed: the statement, and what it is.
    fn signed(&self) -> Value {
        let mut signed = serde_json::to_value(&self.statement).expect("texts and a whole number only");
        if let Value::Object(fields) = &mut signed {
            fields.insert("_type".to_owned(), Value::from(KIND));
        }
        signed
    }
}

#[cfg(test)]
mod tests {
    use landfall_common::evidence::{CommitId, MAX_RUN, MAX_URL_BYTES, Verdict};
    use landfall_common::{AppName, EvidenceName, Timestamp};
    use serde_json::json;

    use super::*;

    fn pair(seed: u8) -> KeyPair {
        KeyPair::from_seed(&[seed; 32]).unwrap()
    }

    fn statement(result: Verdict) -> Statement {
        Statement {
            application: AppName::new("tenants").unwrap(),
            commit: CommitId::new("1".repeat(40)).unwrap(),
            name: EvidenceName::new("tests").unwrap(),
            result,
            run: 7,
            url: "https://ci.example/7".to_owned(),
            at: Timestamp::from_ms(1_795_000_000_000),
            key: key_of(&pair(1)),
        }
    }

    fn passed() -> Evidence {
        Evidence::sign(statement(Verdict::Passed), &pair(1)).unwrap()
    }

    /// Any object, signed by the first pair as whatever it says that it is.
    fn forged(kind: &str, change: impl FnOnce(&mut serde_json::Map<String, Value>)) -> Vec<u8> {
        let mut value = serde_json::to_value(statement(Verdict::Passed)).unwrap();
        change(value.as_object_mut().unwrap());
        sign_document(kind, &value, &pair(1)).unwrap().to_bytes()
    }

    fn refused(bytes: &[u8]) -> String {
        let error = Evidence::parse(bytes).unwrap_err();
        let source = std::error::Error::source(&error).map_or(String::new(), |source| format!(": {source}"));
        format!("{error}{source}")
    }

    #[test]
    fn evidence_reads_back_in_the_same_bytes() {
        let bytes = passed().to_bytes();
        assert_eq!(Evidence::parse(&bytes).unwrap(), passed());
        assert_eq!(Evidence::parse(&bytes).unwrap().to_bytes(), bytes);
        assert_eq!(bytes, forged(KIND, |_| ()));
    }

    #[test]
    fn a_bound_that_is_kept_fits_into_a_document() {
        let largest = Statement {
            application: AppName::new("a".repeat(63)).unwrap(),
            commit: CommitId::new("1".repeat(64)).unwrap(),
            name: EvidenceName::new("t".repeat(63)).unwrap(),
            run: MAX_RUN,
            // A character that JSON writes as two.
            url: "\"".repeat(MAX_URL_BYTES),
            ..statement(Verdict::Failed)
        };
        let bytes = Evidence::sign(largest.clone(), &pair(1)).unwrap().to_bytes();
        assert_eq!(Evidence::parse(&bytes).unwrap().statement, largest);
    }

    #[test]
    fn every_field_that_is_bent_breaks_the_signature() {
        let text = String::from_utf8(passed().to_bytes()).unwrap();
        for (from, to) in [
            ("passed", "failed"),
            ("tenants", "tenantz"),
            ("\"run\":7", "\"run\":8"),
            ("tests", "lints"),
            (&"1".repeat(40), &"2".repeat(40)),
            ("ci.example/7", "ci.example/8"),
            (passed().statement.key.as_str(), key_of(&pair(2)).as_str()),
        ] {
            assert!(text.contains(from), "{from}");
            let bent = text.replace(from, to);
            assert!(matches!(Evidence::parse(bent.as_bytes()), Err(TrustError::Unsigned { .. })), "{bent}");
        }
    }

    #[test]
    fn a_signature_for_another_purpose_is_none() {
        for kind in ["landfall.checkpoint", "landfall.assignment", "targets"] {
            assert!(refused(&forged(kind, |_| ())).contains("its _type is"), "{kind}");
        }
        // The very bytes of another kind, said to be evidence.
        let text = String::from_utf8(forged("landfall.checkpoint", |_| ())).unwrap();
        let renamed = text.replace("landfall.checkpoint", KIND);
        assert!(matches!(Evidence::parse(renamed.as_bytes()), Err(TrustError::Unsigned { .. })));
        // A signature over the statement alone, without what it is.
        let bare = serde_json::to_value(statement(Verdict::Passed)).unwrap();
        let mut document = Envelope::unsigned(&bare).unwrap();
        document.sign(&pair(1)).unwrap();
        assert!(refused(&document.to_bytes()).contains("its _type is None"));
        let signature = document.signatures[0].sig.clone();
        assert!(Evidence::of(statement(Verdict::Passed), signature).is_err());
    }

    #[test]
    fn what_is_not_wholly_understood_is_refused_though_it_is_signed() {
        for (change, why) in [
            (json!({"except": "on Fridays"}), "unknown field `except`"),
            (json!({"result": "skipped"}), "unknown variant `skipped`"),
            (json!({"run": 0}), "run (0) must be from 1"),
            (json!({"run": MAX_RUN + 1}), "run (9007199254740992) must be from 1"),
            (json!({"run": -1}), "invalid value"),
            (json!({"commit": "1111111"}), "commit id"),
            (json!({"name": "../tests"}), "evidence name"),
            (json!({"url": "x".repeat(MAX_URL_BYTES + 1)}), "url has 501 bytes"),
            (json!({"url": "https://ci/\u{1b}[2J"}), "url has a character"),
            (json!({"url": "https://ci/\u{202e}7"}), "url has a character"),
            (json!({"url": "https://ci/é"}), "url has a character"),
        ] {
            let bytes = forged(KIND, |fields| fields.extend(change.as_object().unwrap().clone()));
            let said = refused(&bytes);
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn a_document_is_bounded_before_it_is_read() {
        let mut bytes = passed().to_bytes();
        bytes.resize(MAX_BYTES + 1, b' ');
        assert!(refused(&bytes).contains("more than 4096 bytes"));
        assert!(Evidence::parse(b"").is_err());
        let deep = format!("{}{}", "[".repeat(2000), "]".repeat(2000));
        assert!(Evidence::parse(deep.as_bytes()).is_err());
    }

    #[test]
    fn one_signature_has_one_form() {
        let evidence = passed();
        let raw = hex::decode(&evidence.signature).unwrap();
        let with = |raw: &[u8]| Evidence::of(evidence.statement.clone(), hex::encode(raw));
        assert!(with(&raw).is_ok());
        // S and S + L are the same number to a verifier that does not look (RFC 8032 §5.1.7 does).
        let order = hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010").unwrap();
        let mut larger = raw.clone();
        let mut carry = 0_u16;
        for (byte, add) in larger[32..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            *byte = u8::try_from(sum & 0xff).unwrap();
            carry = sum >> 8;
        }
        assert_eq!(carry, 0, "it fits");
        assert!(matches!(with(&larger), Err(TrustError::Unsigned { .. })));
        assert!(Evidence::of(evidence.statement.clone(), evidence.signature.to_uppercase()).is_err());
        assert!(with(&raw[1..]).is_err());
        assert!(Evidence::of(evidence.statement.clone(), String::new()).is_err());
        // What stands around it is not signed, and not kept; of two signatures nobody says which counts.
        let mut document = Envelope::parse(KIND, &evidence.to_bytes()).unwrap();
        document.extra.insert("note".to_owned(), Value::from("believe me"));
        document.signatures[0].extra.insert("by".to_owned(), Value::from("root"));
        assert_eq!(Evidence::parse(&document.to_bytes()).unwrap().to_bytes(), evidence.to_bytes());
        document.sign(&pair(2)).unwrap();
        assert!(refused(&document.to_bytes()).contains("one signature"));
    }

    #[test]
    fn a_pair_signs_for_itself_only() {
        assert!(Evidence::sign(statement(Verdict::Passed), &pair(2)).is_err());
        assert!(Evidence::sign(Statement { run: 0, ..statement(Verdict::Passed) }, &pair(1)).is_err());
    }
}
