//! The four top-level roles of TUF as types (TUF §4.3–§4.6); targets have their own file.
//!
//! Fields that the specification does not know are kept in `extra`, and go back into what is written. What
//! is *not* here: who may sign what (that is [`Authority`](crate::Authority)), and in which order things are
//! checked (that is [`updater`](crate::updater)).

mod root;
mod targets;

use std::collections::BTreeMap;

use aws_lc_rs::digest::{self, SHA256, SHA512};
use landfall_common::Timestamp as Time;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::envelope::Signed;
use crate::error::TrustError;
pub use root::{RoleKeys, Root};
pub use targets::{DelegatedRole, Delegations, TargetFile, Targets, path_matches};

/// The version of the specification that this crate writes (TUF §4.3).
pub const SPEC_VERSION: &str = "1.0.34";

/// The names of the four roles that root itself authorises.
pub const TOP_LEVEL: [&str; 4] = ["root", "timestamp", "snapshot", "targets"];

/// Digests of a file: algorithm name → hexadecimal digest. `sha256` and `sha512` are known.
pub type Hashes = BTreeMap<String, String>;

/// What every role's metadata begins with (TUF §4.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The role: `root`, `timestamp`, `snapshot` or `targets`.
    #[serde(rename = "_type")]
    pub kind: String,
    /// The specification it follows; its major number must be 1.
    pub spec_version: String,
    /// At least 1, and it only grows.
    pub version: u64,
    /// From this moment on the metadata no longer counts.
    pub expires: Time,
}

impl Header {
    /// The header of a first version.
    #[must_use]
    pub fn first(kind: &str, expires: Time) -> Self {
        Self {
            kind: kind.to_owned(),
            spec_version: SPEC_VERSION.to_owned(),
            version: 1,
            expires: expires.whole_seconds(),
        }
    }

    /// The header of the version after this one.
    #[must_use]
    pub fn next(&self, expires: Time) -> Self {
        Self { version: self.version + 1, ..Self::first(&self.kind, expires) }
    }

    /// Refuses metadata whose time is over (freeze attack: TUF §5.3.10, §5.4.4, §5.5.6, §5.6.6).
    ///
    /// # Errors
    /// [`TrustError::Expired`].
    pub fn check_expiry(&self, what: &str, now: Time) -> Result<(), TrustError> {
        if self.expires > now {
            return Ok(());
        }
        Err(TrustError::Expired { what: what.to_owned(), version: self.version, expires: self.expires, now })
    }
}

/// What the four kinds of metadata have in common.
pub trait Role: Serialize + DeserializeOwned {
    /// The value of `_type`.
    const TYPE: &'static str;
    /// Type, version, expiry.
    fn header(&self) -> &Header;
    /// The rules of the role's own fields; the reason if one is broken.
    ///
    /// # Errors
    /// The broken rule, as a sentence.
    fn validate(&self) -> Result<(), String>;
}

impl<T: Role> Signed<T> {
    /// Reads metadata of this role and checks its shape: `_type`, specification, version, the role's own
    /// rules. Signatures are not looked at.
    ///
    /// # Errors
    /// [`TrustError::Malformed`], [`TrustError::Invalid`].
    pub fn read(what: &str, raw: Vec<u8>) -> Result<Self, TrustError> {
        let signed = Self::parse(what, raw)?;
        let header = signed.body.header();
        if header.kind != T::TYPE {
            return Err(TrustError::invalid(
                what,
                format!("its _type is {:?}, not {:?}", header.kind, T::TYPE),
            ));
        }
        if header.spec_version.split('.').next() != Some("1") {
            let reason = format!("it follows specification {:?}, and only 1.x is known", header.spec_version);
            return Err(TrustError::invalid(what, reason));
        }
        if header.version == 0 {
            return Err(TrustError::invalid(what, "its version is 0"));
        }
        signed.body.validate().map_err(|reason| TrustError::invalid(what, reason))?;
        Ok(signed)
    }

    /// The version.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.body.header().version
    }
}

/// How one metadata file vouches for another (TUF §4.4, §4.6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaFile {
    /// The version that the other must have.
    pub version: u64,
    /// Its length in bytes, where given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// Its digests, where given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hashes: Option<Hashes>,
    /// Fields unknown here.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl MetaFile {
    /// Vouches for these bytes with version, length and SHA-256.
    #[must_use]
    pub fn of(version: u64, bytes: &[u8]) -> Self {
        Self {
            version,
            length: Some(bytes.len() as u64),
            hashes: Some(hashes_of(bytes)),
            extra: BTreeMap::new(),
        }
    }

    /// Checks length and digests, where given (TUF §5.5.2, §5.6.2). The version is not looked at.
    ///
    /// # Errors
    /// [`TrustError::WrongDigest`], [`TrustError::UnknownDigests`].
    pub fn check(&self, what: &str, bytes: &[u8]) -> Result<(), TrustError> {
        check_bytes(what, bytes, self.length, self.hashes.as_ref())
    }
}

/// The SHA-256 of these bytes in the form of metadata.
#[must_use]
pub fn hashes_of(bytes: &[u8]) -> Hashes {
    BTreeMap::from([("sha256".to_owned(), hex::encode(digest::digest(&SHA256, bytes)))])
}

/// Every digest of a known kind must be right, and there must be one if there are digests at all.
pub(crate) fn check_bytes(
    what: &str,
    bytes: &[u8],
    length: Option<u64>,
    hashes: Option<&Hashes>,
) -> Result<(), TrustError> {
    let wrong = |algorithm| TrustError::WrongDigest { what: what.to_owned(), algorithm };
    if length.is_some_and(|length| length != bytes.len() as u64) {
        return Err(wrong("length"));
    }
    let Some(hashes) = hashes else { return Ok(()) };
    let mut known = false;
    for (algorithm, name) in [(&SHA256, "sha256"), (&SHA512, "sha512")] {
        let Some(expected) = hashes.get(name) else { continue };
        known = true;
        if !hex::encode(digest::digest(algorithm, bytes)).eq_ignore_ascii_case(expected) {
            return Err(wrong(name));
        }
    }
    if known {
        return Ok(());
    }
    let algorithms = hashes.keys().cloned().collect::<Vec<_>>().join(", ");
    Err(TrustError::UnknownDigests { what: what.to_owned(), algorithms })
}

/// The timestamp role: which snapshot is the newest (TUF §4.6).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timestamp {
    /// Type, version, expiry.
    #[serde(flatten)]
    pub header: Header,
    /// One entry, `snapshot.json`.
    pub meta: BTreeMap<String, MetaFile>,
    /// Fields unknown here.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Timestamp {
    /// The snapshot that this timestamp vouches for.
    #[must_use]
    pub fn snapshot(&self) -> &MetaFile {
        self.meta.get("snapshot.json").expect("validated when it was read or made")
    }
}

impl Role for Timestamp {
    const TYPE: &'static str = "timestamp";

    fn header(&self) -> &Header {
        &self.header
    }

    fn validate(&self) -> Result<(), String> {
        check_meta(&self.meta)?;
        self.meta.get("snapshot.json").map(|_| ()).ok_or_else(|| "it lists no snapshot.json".to_owned())
    }
}

/// The snapshot role: the version of every targets role (TUF §4.4).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Type, version, expiry.
    #[serde(flatten)]
    pub header: Header,
    /// `targets.json` and `ROLE.json` for each delegated role, their names as delegations write them.
    pub meta: BTreeMap<String, MetaFile>,
    /// Fields unknown here.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Snapshot {
    /// The entry of a targets role.
    #[must_use]
    pub fn role(&self, role: &str) -> Option<&MetaFile> {
        self.meta.get(&format!("{role}.json"))
    }

    /// Every targets role listed, with its entry.
    pub fn roles(&self) -> impl Iterator<Item = (&str, &MetaFile)> {
        self.meta.iter().filter_map(|(name, file)| Some((name.strip_suffix(".json")?, file)))
    }
}

impl Role for Snapshot {
    const TYPE: &'static str = "snapshot";

    fn header(&self) -> &Header {
        &self.header
    }

    fn validate(&self) -> Result<(), String> {
        check_meta(&self.meta)?;
        self.role("targets").map(|_| ()).ok_or_else(|| "it lists no targets.json".to_owned())
    }
}

fn check_meta(meta: &BTreeMap<String, MetaFile>) -> Result<(), String> {
    match meta.iter().find(|(name, file)| file.version == 0 || !name.ends_with(".json")) {
        Some((name, _)) => Err(format!("its entry {name:?} has version 0 or is no .json file")),
        None => Ok(()),
    }
}

/// The name of a role's metadata file: the role percent-encoded, so that a role called `../x` or `apps/shop`
/// is one path component, with the version before it where the repository is consistent (TUF §6.2).
#[must_use]
pub fn file_name(role: &str, version: Option<u64>) -> String {
    let mut name = version.map(|version| format!("{version}.")).unwrap_or_default();
    for byte in role.bytes() {
        if byte.is_ascii_alphanumeric() || b"_.-~".contains(&byte) {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    name.push_str(".json");
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_one_path_component_whatever_its_name() {
        for (role, version, name) in [
            ("targets", Some(3), "3.targets.json"),
            ("timestamp", None, "timestamp.json"),
            ("apps/shop", Some(1), "1.apps%2Fshop.json"),
            ("../x", None, "..%2Fx.json"),
            ("?#é", None, "%3F%23%C3%A9.json"),
        ] {
            assert_eq!(file_name(role, version), name);
        }
    }

    #[test]
    fn every_known_digest_must_be_right_and_one_must_be_known() {
        let sha256 = hashes_of(b"x");
        let sha512 = hex::encode(digest::digest(&SHA512, b"x"));
        let both = |sha512: &str| {
            let mut hashes = sha256.clone();
            hashes.insert("sha512".to_owned(), sha512.to_owned());
            hashes
        };
        assert!(check_bytes("f", b"x", Some(1), Some(&both(&sha512))).is_ok());
        assert!(check_bytes("f", b"x", None, None).is_ok());
        assert!(check_bytes("f", b"x", Some(2), None).is_err());
        assert!(check_bytes("f", b"x", None, Some(&both("00"))).is_err());
        let unknown = BTreeMap::from([("md5".to_owned(), String::new())]);
        assert!(matches!(
            check_bytes("f", b"x", None, Some(&unknown)),
            Err(TrustError::UnknownDigests { .. })
        ));
        assert!(check_bytes("f", b"x", None, Some(&BTreeMap::new())).is_err());
    }
}
