//! What a client keeps: named files as raw bytes, and the record of version floors.
//!
//! The record is what makes old metadata refused after a restart, whatever became of the other files: it is
//! made durable *before* the file that it speaks of, a file counts only if the record vouches for it, and a
//! record that is missing or damaged stops everything instead of starting again from nothing. Layout:
//!
//! | name | content |
//! |---|---|
//! | `root_history/N.root.json` | every root ever trusted; the lowest is the pinned one |
//! | `root.json` | the newest of them |
//! | `timestamp.json`, `snapshot.json`, `targets.json`, `apps%2Fshop.json` … | the newest of each role |
//! | `floors` | the record (not `.json`: it is no metadata) |
//!
//! Nothing here touches a disk. The shell loads the files, and writes each one that
//! [`Next::Store`](crate::Next::Store) hands it: temporary file, fsync, rename, fsync of the directory.

use std::collections::BTreeMap;

use landfall_common::{Sha256, Timestamp as Time, canonical};
use serde::{Deserialize, Serialize};

use crate::envelope::Signed;
use crate::error::TrustError;
use crate::metadata::Root;

/// The name of the record of floors.
pub const FLOORS: &str = "floors";

/// The name of the newest root.
pub const ROOT: &str = "root.json";

/// The name of one root among those kept.
#[must_use]
pub fn root_history(version: u64) -> String {
    format!("root_history/{version}.root.json")
}

/// The lowest version that is still accepted, and what that version says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    /// Below this, a file is refused; at this, only with the same content.
    pub version: u64,
    /// The digest of the canonical signed part, once the file itself has been seen. A vouching role may list a
    /// version long before it can be fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Sha256>,
}

/// The record: one floor per role. It is raised by what was accepted, and lowered only when a newer root takes
/// a key away from the role that vouched for it (recovery from a fast-forward attack, TUF §5.3.11).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floors {
    /// The root that was pinned when this client was set up: its version, and the digest of its raw bytes.
    pub pinned: Floor,
    /// The newest root.
    pub root: Floor,
    /// The timestamp role.
    #[serde(default)]
    pub timestamp: Option<Floor>,
    /// The snapshot version that timestamps vouched for; reset with the timestamp role's keys.
    #[serde(default)]
    pub snapshot_listed: Option<u64>,
    /// The snapshot role itself; reset with its own keys.
    #[serde(default)]
    pub snapshot: Option<Floor>,
    /// Every targets role that a snapshot has listed; reset with the snapshot role's keys.
    #[serde(default)]
    pub roles: BTreeMap<String, Floor>,
    /// The latest hour at which a whole refresh succeeded. Since all metadata was in force then, it never lies
    /// beyond what signers allowed, whatever the clock of this host once showed.
    #[serde(default)]
    pub last_seen: Option<Time>,
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    floors: serde_json::Value,
    sha256: Sha256,
}

impl Floors {
    fn pinned(root: &Signed<Root>) -> Result<Self, TrustError> {
        let version = root.version();
        Ok(Self {
            pinned: Floor { version, digest: Some(Sha256::of(&root.raw)) },
            root: Floor { version, digest: Some(root.envelope.digest("root")?) },
            timestamp: None,
            snapshot_listed: None,
            snapshot: None,
            roles: BTreeMap::new(),
            last_seen: None,
        })
    }

    /// The record's bytes, with a digest over them, so that a flipped bit is noticed.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let floors = serde_json::to_value(self).expect("plain data with text keys");
        let sha256 = Sha256::of(&canonical::of_value(&floors).expect("no fractions"));
        canonical::to_vec(&Sealed { floors, sha256 }).expect("no fractions")
    }

    /// Reads the record.
    ///
    /// # Errors
    /// [`TrustError::FloorsDamaged`] for anything but what [`Floors::to_bytes`] wrote.
    pub fn parse(bytes: &[u8]) -> Result<Self, TrustError> {
        let damaged = || TrustError::FloorsDamaged { state: "damaged" };
        let sealed: Sealed = serde_json::from_slice(bytes).map_err(|_| damaged())?;
        let canonical = canonical::of_value(&sealed.floors).map_err(|_| damaged())?;
        if Sha256::of(&canonical) != sealed.sha256 {
            return Err(damaged());
        }
        serde_json::from_value(sealed.floors).map_err(|_| damaged())
    }

    /// Lowers the floors whose vouching role loses a key from the old root to the new one.
    pub(crate) fn recover(&mut self, old: &Root, new: &Root) {
        if old.loses_key(new, "timestamp") {
            self.timestamp = None;
            self.snapshot_listed = None;
        }
        if old.loses_key(new, "snapshot") {
            self.snapshot = None;
            self.roles.clear();
        }
    }
}

/// The files of a client, as plain data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedStore {
    files: BTreeMap<String, Vec<u8>>,
}

impl TrustedStore {
    /// The store of a new client that trusts this root: the bytes pinned at enrolment, out of band. Write all
    /// of [`TrustedStore::files`] durably, in order; the record comes first, so that a set-up which was cut
    /// short is noticed.
    ///
    /// # Errors
    /// If the bytes are no root metadata, or it is not signed by its own threshold. Its expiry does not
    /// matter (TUF §5.3: only that of the newest root does).
    pub fn initialise(root: &[u8]) -> Result<Self, TrustError> {
        let root = read_pinned(root)?;
        let mut store = Self::default();
        store.put(root_history(root.version()), root.raw.clone());
        store.put(ROOT, root.raw.clone());
        store.put(FLOORS, Floors::pinned(&root)?.to_bytes());
        Ok(store)
    }

    /// A store from files that were loaded. Whatever is there may be given; unknown names are ignored.
    #[must_use]
    pub fn from_files(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        Self { files: files.into_iter().collect() }
    }

    /// Every file, by name.
    #[must_use]
    pub fn files(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.files
    }

    /// One file.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(Vec::as_slice)
    }

    /// Adds or replaces a file.
    pub fn put(&mut self, name: impl Into<String>, bytes: Vec<u8>) {
        self.files.insert(name.into(), bytes);
    }

    /// The record of floors.
    ///
    /// # Errors
    /// [`TrustError::FloorsDamaged`] if it is missing beside other files, or not whole;
    /// [`TrustError::NoTrustedRoot`] if the store is empty.
    pub fn floors(&self) -> Result<Floors, TrustError> {
        match self.get(FLOORS) {
            Some(bytes) => Floors::parse(bytes),
            None if self.files.is_empty() => Err(TrustError::NoTrustedRoot { file: ROOT.to_owned() }),
            None => Err(TrustError::FloorsDamaged { state: "missing" }),
        }
    }

    /// The pinned root, as it was at enrolment.
    pub(crate) fn pinned_root(&self, floors: &Floors) -> Result<Signed<Root>, TrustError> {
        let file = root_history(floors.pinned.version);
        match self.get(&file) {
            Some(bytes) if Some(Sha256::of(bytes)) == floors.pinned.digest => read_pinned(bytes),
            _ => Err(TrustError::NoTrustedRoot { file }),
        }
    }
}

/// Reads a root that is trusted by itself: well-formed, and signed by its own threshold.
fn read_pinned(bytes: &[u8]) -> Result<Signed<Root>, TrustError> {
    let root = Signed::<Root>::read("root", bytes.to_vec())?;
    root.envelope.verify("root", &root.body.authority("root"))?;
    Ok(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floors() -> Floors {
        let floor = Floor { version: 3, digest: Some(Sha256::of(b"x")) };
        Floors {
            pinned: floor,
            root: floor,
            timestamp: Some(Floor { version: 9, digest: None }),
            snapshot_listed: Some(4),
            snapshot: None,
            roles: BTreeMap::from([("targets".to_owned(), floor)]),
            last_seen: Some(Time::from_ms(5)),
        }
    }

    #[test]
    fn the_record_reads_back_and_notices_any_change() {
        let bytes = floors().to_bytes();
        assert_eq!(Floors::parse(&bytes).unwrap(), floors());
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(Floors::parse(&changed).is_err(), "a flipped bit at {at} went unnoticed");
            assert!(Floors::parse(&bytes[..at]).is_err(), "a cut at {at} went unnoticed");
        }
    }

    #[test]
    fn a_store_without_its_record_is_not_a_new_store() {
        let mut store = TrustedStore::default();
        assert!(matches!(store.floors(), Err(TrustError::NoTrustedRoot { .. })));
        store.put("timestamp.json", Vec::new());
        assert!(matches!(store.floors(), Err(TrustError::FloorsDamaged { state: "missing" })));
        assert!(TrustedStore::initialise(b"{}").is_err());
    }
}
