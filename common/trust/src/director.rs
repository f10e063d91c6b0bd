//! Landfall's own signed documents: assignments, log checkpoints, whatever one party says to another that is
//! not TUF metadata.
//!
//! The form is TUF's envelope over canonical JSON. `_type` inside the signed part says what the document is,
//! so that a signature for one purpose is worth nothing for another. Types are written `landfall.NAME`, which
//! no TUF role is called.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::envelope::{Authority, Envelope};
use crate::error::TrustError;
use crate::key::{KeyPair, PublicKey};

/// `{"signed": {"_type": …, …}, "signatures": [{"keyid": …, "sig": …}]}`.
pub type SignedDocument = Envelope;

/// Signs a value, which must be an object without a `_type` of its own; `kind` becomes its `_type`. Further
/// signatures are added with [`Envelope::sign`].
///
/// # Errors
/// [`TrustError::Invalid`] if the value is no object or has another `_type`, [`TrustError::Canonical`] if it
/// holds a fraction.
pub fn sign_document<T: Serialize + ?Sized>(
    kind: &str,
    value: &T,
    pair: &KeyPair,
) -> Result<SignedDocument, TrustError> {
    let mut document = Envelope::unsigned(value)?;
    let Value::Object(fields) = &mut document.signed else {
        return Err(TrustError::invalid(kind, "only an object can be signed"));
    };
    if let Some(other) = fields.insert("_type".to_owned(), Value::from(kind))
        && other != kind
    {
        return Err(TrustError::invalid(kind, format!("the value says that it is {other}")));
    }
    document.sign(pair)?;
    Ok(document)
}

/// Reads a document that at least `threshold` distinct keys of `keys` signed, and whose `_type` is `kind`. The
/// value returned is the one that was verified, `_type` included (a reading type may declare it or ignore it).
///
/// # Errors
/// [`TrustError::Malformed`], [`TrustError::Unsigned`], and [`TrustError::Invalid`] for another type.
pub fn verify_document<T: DeserializeOwned>(
    kind: &str,
    bytes: &[u8],
    keys: &[PublicKey],
    threshold: usize,
) -> Result<T, TrustError> {
    let document = SignedDocument::parse(kind, bytes)?;
    let by_id: BTreeMap<_, _> = keys.iter().map(|key| (key.keyid(), key.clone())).collect();
    let keyids: Vec<_> = by_id.keys().cloned().collect();
    document
        .verify(kind, &Authority { delegator: "its reader", keys: &by_id, keyids: &keyids, threshold })?;
    let found = document.signed.get("_type").and_then(Value::as_str);
    if found != Some(kind) {
        return Err(TrustError::invalid(kind, format!("its _type is {found:?}")));
    }
    T::deserialize(&document.signed).map_err(|source| TrustError::Malformed { what: kind.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const KIND: &str = "landfall.assignment";

    fn pair(seed: u8) -> KeyPair {
        KeyPair::from_seed(&[seed; 32]).unwrap()
    }

    #[test]
    fn a_document_reads_back_only_as_what_it_is_and_from_whom() {
        let bytes = sign_document(KIND, &json!({"generation": 7}), &pair(1)).unwrap().to_bytes();
        let keys = [pair(1).public().clone()];
        let value: Value = verify_document(KIND, &bytes, &keys, 1).unwrap();
        assert_eq!(value, json!({"_type": KIND, "generation": 7}));

        let other_type = verify_document::<Value>("landfall.checkpoint", &bytes, &keys, 1);
        assert!(matches!(other_type, Err(TrustError::Invalid { .. })));
        let other_key = verify_document::<Value>(KIND, &bytes, &[pair(2).public().clone()], 1);
        assert!(matches!(other_key, Err(TrustError::Unsigned { .. })));
        assert!(verify_document::<Value>(KIND, &bytes, &[], 0).is_err());
        let tampered = String::from_utf8(bytes).unwrap().replace("7}", "8}");
        assert!(verify_document::<Value>(KIND, tampered.as_bytes(), &keys, 1).is_err());
    }

    #[test]
    fn a_threshold_takes_several_keys() {
        let keys = [pair(1).public().clone(), pair(2).public().clone()];
        let mut document = sign_document(KIND, &json!({"generation": 7}), &pair(1)).unwrap();
        assert!(verify_document::<Value>(KIND, &document.to_bytes(), &keys, 2).is_err());
        document.sign(&pair(2)).unwrap();
        verify_document::<Value>(KIND, &document.to_bytes(), &keys, 2).unwrap();
    }

    #[test]
    fn what_is_no_object_or_says_another_type_is_not_signed() {
        for value in [json!([1]), json!("x"), json!({"_type": "root"}), json!({"x": 1.5})] {
            assert!(sign_document(KIND, &value, &pair(1)).is_err(), "{value} was signed");
        }
        assert!(sign_document(KIND, &json!({"_type": KIND}), &pair(1)).is_ok());
    }

    #[test]
    fn of_a_key_given_twice_only_the_last_value_is_signed_and_read() {
        let signed = sign_document(KIND, &json!({"generation": 7}), &pair(1)).unwrap();
        let text = String::from_utf8(signed.to_bytes()).unwrap();
        let doubled = text.replace("\"generation\":7", "\"generation\":8,\"generation\":7");
        let value: Value = verify_document(KIND, doubled.as_bytes(), &[pair(1).public().clone()], 1).unwrap();
        assert_eq!(value["generation"], 7);
        let doubled = text.replace("\"generation\":7", "\"generation\":7,\"generation\":8");
        assert!(verify_document::<Value>(KIND, doubled.as_bytes(), &[pair(1).public().clone()], 1).is_err());
    }
}
