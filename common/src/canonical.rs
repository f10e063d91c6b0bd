//! Canonical JSON: one value, one sequence of bytes, so that a digest or a signature over it means the value.
//!
//! Object keys are sorted by their UTF-8 bytes, there is no white space, and numbers are integers: fractions
//! are refused, since two programs may write the same one in two ways. Strings are written in one of two ways:
//!
//! - [`to_vec`] and [`of_value`] escape as RFC 8785 §3.2.2.2 does. The bytes are JSON and can be read back:
//!   manifests, directories and log entries are *kept* in this form.
//! - [`tuf_to_vec`] and [`tuf_of_value`] escape only `"` and `\`, as TUF demands (OLPC canonical JSON). With a
//!   line break in a string that is not JSON, so it serves for signing and key ids and is never stored.

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

/// The canonical bytes of anything serializable; they are JSON.
///
/// # Errors
/// [`CanonicalError`] if the value holds a fraction, or cannot be expressed as JSON.
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CanonicalError> {
    of_value(&json(value)?)
}

/// The canonical bytes of a JSON value; they are JSON.
///
/// # Errors
/// [`CanonicalError::NotAnInteger`].
pub fn of_value(value: &Value) -> Result<Vec<u8>, CanonicalError> {
    bytes(value, write_json_string)
}

/// What TUF signs of anything serializable.
///
/// # Errors
/// [`CanonicalError`] if the value holds a fraction, or cannot be expressed as JSON.
pub fn tuf_to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CanonicalError> {
    tuf_of_value(&json(value)?)
}

/// What TUF signs of a JSON value.
///
/// # Errors
/// [`CanonicalError::NotAnInteger`].
pub fn tuf_of_value(value: &Value) -> Result<Vec<u8>, CanonicalError> {
    bytes(value, write_tuf_string)
}

fn json<T: Serialize + ?Sized>(value: &T) -> Result<Value, CanonicalError> {
    serde_json::to_value(value).map_err(CanonicalError::Serialize)
}

type WriteString = fn(&str, &mut Vec<u8>);

fn bytes(value: &Value, write_string: WriteString) -> Result<Vec<u8>, CanonicalError> {
    let mut out = Vec::new();
    write(value, write_string, &mut out)?;
    Ok(out)
}

fn write(value: &Value, write_string: WriteString, out: &mut Vec<u8>) -> Result<(), CanonicalError> {
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
                write(item, write_string, out)?;
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
                write(item, write_string, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn write_tuf_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        if byte == b'"' || byte == b'\\' {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

fn write_json_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0x08 => out.extend_from_slice(b"\\b"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\r' => out.extend_from_slice(b"\\r"),
            0..0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_are_sorted_and_strings_escaped() {
        let value = json!({"b": [1, true, null], "a": "x\"\\\n\u{1}y", "B": {}});
        let stored = "{\"B\":{},\"a\":\"x\\\"\\\\\\n\\u0001y\",\"b\":[1,true,null]}";
        assert_eq!(String::from_utf8(of_value(&value).unwrap()).unwrap(), stored);
        let signed = "{\"B\":{},\"a\":\"x\\\"\\\\\n\u{1}y\",\"b\":[1,true,null]}";
        assert_eq!(String::from_utf8(tuf_of_value(&value).unwrap()).unwrap(), signed);
    }

    proptest::proptest! {
        #[test]
        fn what_is_kept_can_be_read_back(text in "\\PC*|[\\x00-\\x7f]*") {
            let value = json!({ "text": text });
            let bytes = of_value(&value).unwrap();
            proptest::prop_assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), value);
        }
    }

    #[test]
    fn a_fraction_has_no_canonical_form() {
        assert!(of_value(&json!({"x": 1.5})).is_err());
    }
}
