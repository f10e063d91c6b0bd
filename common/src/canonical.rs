//! Canonical JSON, the form over which everything signed is hashed and signed.
//!
//! The form is the one that TUF uses (OLPC canonical JSON): object keys sorted by their UTF-8 bytes, no
//! white space, strings escape only `"` and `\`, numbers are integers. Floating-point numbers are refused,
//! since two programs may write the same one in two ways.

use serde::Serialize;
use serde_json::Value;

/// Why a value has no canonical form.
#[derive(Debug, thiserror::Error)]
pub enum CanonicalError {
    /// A number that is not an integer in the range of `i64` or `u64`.
    #[error("number {0} has no canonical form: only integers do")]
    NotAnInteger(String),
    /// The value cannot be expressed as JSON at all.
    #[error("value cannot be written as JSON")]
    Serialize(#[source] serde_json::Error),
}

/// The canonical bytes of anything serializable.
///
/// # Errors
/// [`CanonicalError`] if the value holds a fraction, or cannot be expressed as JSON.
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CanonicalError> {
    let value = serde_json::to_value(value).map_err(CanonicalError::Serialize)?;
    of_value(&value)
}

/// The canonical bytes of a JSON value.
///
/// # Errors
/// [`CanonicalError::NotAnInteger`].
pub fn of_value(value: &Value) -> Result<Vec<u8>, CanonicalError> {
    let mut out = Vec::new();
    write(value, &mut out)?;
    Ok(out)
}

fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), CanonicalError> {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) if number.is_i64() || number.is_u64() => {
            out.extend_from_slice(number.to_string().as_bytes());
        }
        Value::Number(number) => return Err(CanonicalError::NotAnInteger(number.to_string())),
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(item, out)?;
            }
            out.push(b']');
        }
        Value::Object(map) => {
            // serde_json's map may keep insertion order (a feature another crate can switch on): sort here.
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| key.as_bytes());
            out.push(b'{');
            for (index, (key, item)) in entries.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_string(key, out);
                out.push(b':');
                write(item, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        if byte == b'"' || byte == b'\\' {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_are_sorted_and_only_quote_and_backslash_escaped() {
        let value = json!({"b": [1, true, null], "a": "x\"\\\ny", "B": {}});
        assert_eq!(of_value(&value).unwrap(), b"{\"B\":{},\"a\":\"x\\\"\\\\\ny\",\"b\":[1,true,null]}");
    }

    #[test]
    fn a_fraction_has_no_canonical_form() {
        assert!(of_value(&json!({"x": 1.5})).is_err());
    }
}
