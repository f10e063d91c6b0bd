//! The bytes of a commit in the journal and of the whole state in a snapshot.
//!
//! Both begin with a format number, so that a later release can read what this one wrote.

use std::collections::BTreeMap;

use super::{Change, Revision, Versioned};

/// Every key with its value and version.
pub type State = BTreeMap<String, Versioned>;

const COMMIT_FORMAT: u8 = 1;
const STATE_FORMAT: u8 = 1;
const PUT: u8 = 1;
const DELETE: u8 = 2;

/// The bytes of a commit.
pub fn encode_commit(changes: &[Change]) -> Vec<u8> {
    let mut out = vec![COMMIT_FORMAT];
    for change in changes {
        match change {
            Change::Put(key, value) => {
                out.push(PUT);
                write_bytes(&mut out, key.as_bytes());
                write_bytes(&mut out, value);
            }
            Change::Delete(key) => {
                out.push(DELETE);
                write_bytes(&mut out, key.as_bytes());
            }
        }
    }
    out
}

/// The changes of a commit, or why the bytes are none.
pub fn decode_commit(bytes: &[u8]) -> Result<Vec<Change>, String> {
    let mut reader = Reader(bytes);
    reader.format(COMMIT_FORMAT)?;
    let mut changes = Vec::new();
    while !reader.0.is_empty() {
        changes.push(match reader.byte()? {
            PUT => Change::Put(reader.text()?, reader.bytes()?.to_vec()),
            DELETE => Change::Delete(reader.text()?),
            other => return Err(format!("unknown change {other}")),
        });
    }
    Ok(changes)
}

/// The bytes of a state.
pub fn encode_state<'a>(entries: impl Iterator<Item = (&'a str, &'a Versioned)>) -> Vec<u8> {
    let mut out = vec![STATE_FORMAT];
    for (key, value) in entries {
        append_entry(&mut out, key, value);
    }
    out
}

/// Adds an entry to the bytes of a state.
pub fn append_entry(out: &mut Vec<u8>, key: &str, Versioned { value, version }: &Versioned) {
    write_bytes(out, key.as_bytes());
    out.extend_from_slice(&version.0.to_le_bytes());
    write_bytes(out, value);
}

/// The state, or why the bytes are none.
pub fn decode_state(bytes: &[u8]) -> Result<State, String> {
    let mut reader = Reader(bytes);
    reader.format(STATE_FORMAT)?;
    let mut state = State::new();
    while !reader.0.is_empty() {
        let key = reader.text()?;
        let version = Revision(reader.number()?);
        let value = reader.bytes()?.to_vec();
        state.insert(key, Versioned { value, version });
    }
    Ok(state)
}

/// Does a commit to a state.
pub fn apply(state: &mut State, revision: Revision, changes: Vec<Change>) {
    for change in changes {
        match change {
            Change::Put(key, value) => state.insert(key, Versioned { value, version: revision }),
            Change::Delete(key) => state.remove(&key),
        };
    }
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).expect("keys and values are bounded");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(bytes);
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let (head, tail) = self.0.split_at_checked(len).ok_or("it is cut off")?;
        self.0 = tail;
        Ok(head)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn format(&mut self, known: u8) -> Result<(), String> {
        match self.byte()? {
            format if format == known => Ok(()),
            other => Err(format!("format {other} is not known to this release, which writes {known}")),
        }
    }

    fn number(&mut self) -> Result<u64, String> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into().expect("8 bytes were taken")))
    }

    fn bytes(&mut self) -> Result<&'a [u8], String> {
        let len = u32::from_le_bytes(self.take(4)?.try_into().expect("4 bytes were taken"));
        self.take(usize::try_from(len).map_err(|_| "it is too long")?)
    }

    fn text(&mut self) -> Result<String, String> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| "a key is not UTF-8".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            (".{1,8}", proptest::collection::vec(any::<u8>(), 0..20)).prop_map(|(k, v)| Change::Put(k, v)),
            ".{1,8}".prop_map(Change::Delete),
        ]
    }

    proptest! {
        #[test]
        fn commits_and_states_read_back(changes in proptest::collection::vec(change(), 0..10)) {
            prop_assert_eq!(decode_commit(&encode_commit(&changes)).unwrap(), changes.clone());
            let mut state = State::new();
            apply(&mut state, Revision(7), changes);
            let bytes = encode_state(state.iter().map(|(k, v)| (k.as_str(), v)));
            prop_assert_eq!(decode_state(&bytes).unwrap(), state);
        }

        #[test]
        fn rubbish_is_an_error_and_never_a_panic(bytes: Vec<u8>) {
            let _ = decode_commit(&bytes);
            let _ = decode_state(&bytes);
        }
    }
}
