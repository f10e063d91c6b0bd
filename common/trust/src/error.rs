//! The one error of this crate. Each variant names the file or role it is about.

use landfall_common::Timestamp;
use landfall_common::canonical::CanonicalError;

/// Why metadata, a document or a key was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// The bytes are not JSON, or not of the shape that the specification gives this role.
    #[error("{what} cannot be read")]
    Malformed {
        /// The role or document.
        what: String,
        /// Where the JSON departs from the shape.
        #[source]
        source: serde_json::Error,
    },
    /// The bytes have the right shape, but a field holds what it must not.
    #[error("{what} is not valid: {reason}")]
    Invalid {
        /// The role or document.
        what: String,
        /// The rule that it breaks.
        reason: String,
    },
    /// The signed part has no canonical form, so that no signature over it can be checked.
    #[error("{what} cannot be written as canonical JSON")]
    Canonical {
        /// The role or document.
        what: String,
        /// The value that has no canonical form.
        #[source]
        source: CanonicalError,
    },
    /// Fewer distinct authorised keys signed than the role demands (TUF §5.3.4, §5.4.2, §5.5.3, §5.6.3).
    #[error("{what} has {valid} valid signature(s) of {threshold} that {delegator} demands")]
    Unsigned {
        /// The role or document.
        what: String,
        /// Who names the keys: `root`, a targets role, or the reader of a document.
        delegator: String,
        /// Distinct authorised public keys with a valid signature.
        valid: usize,
        /// How many it takes.
        threshold: usize,
    },
    /// The metadata is older than the start of this refresh (freeze attack: TUF §5.3.10, §5.4.4, §5.5.6,
    /// §5.6.6).
    #[error("{what} version {version} expired at {expires}, and it is {now}")]
    Expired {
        /// The role.
        what: String,
        /// Its version.
        version: u64,
        /// When it ceased to hold.
        expires: Timestamp,
        /// The start of the refresh, as [`Updater::now`](crate::Updater::now) gives it.
        now: Timestamp,
    },
    /// A version below one already seen (rollback attack: TUF §5.3.5, §5.4.3, §5.5.5).
    #[error("{what} version {offered} is below version {floor}, which has been seen already")]
    Rollback {
        /// The role.
        what: String,
        /// What was offered.
        offered: u64,
        /// The lowest version that is accepted.
        floor: u64,
    },
    /// A version other than the one that the vouching role lists (mix and match: TUF §5.3.5, §5.5.4, §5.6.4).
    #[error("{what} has version {offered}, but version {expected} was asked for")]
    WrongVersion {
        /// The role.
        what: String,
        /// What was offered.
        offered: u64,
        /// What root's sequence, timestamp or snapshot lists.
        expected: u64,
    },
    /// The version is one already seen, the content is not.
    #[error("{what} version {version} has been seen with other content")]
    SameVersionOtherContent {
        /// The role.
        what: String,
        /// The version.
        version: u64,
    },
    /// A role that an earlier snapshot listed is gone (TUF §5.5.5).
    #[error("the new snapshot no longer lists {role}")]
    RoleRemoved {
        /// The role that is gone.
        role: String,
    },
    /// A delegation names a role that the snapshot does not list (TUF §5.6.4).
    #[error("{delegator} delegates to {role}, which the snapshot does not list")]
    NotInSnapshot {
        /// The delegated role.
        role: String,
        /// Who delegates to it.
        delegator: String,
    },
    /// The repository does not have a file that its own metadata names.
    #[error("the repository has no {file}")]
    NotFound {
        /// The name asked for.
        file: String,
    },
    /// More bytes than the vouching metadata or the limit allows (endless data attack).
    #[error("{what} has {length} bytes, and at most {max} are allowed")]
    TooLong {
        /// The file.
        what: String,
        /// Bytes received.
        length: u64,
        /// Bytes allowed.
        max: u64,
    },
    /// The bytes are not those that the vouching metadata gives the digest of.
    #[error("{what} does not have the {algorithm} digest (or length) that vouches for it")]
    WrongDigest {
        /// The file.
        what: String,
        /// `sha256`, `sha512`, or `length`.
        algorithm: &'static str,
    },
    /// The vouching metadata gives digests, but none of a kind known here.
    #[error("{what} is vouched for only by unknown digests: {algorithms}")]
    UnknownDigests {
        /// The file.
        what: String,
        /// Their names, comma-separated.
        algorithms: String,
    },
    /// Too many root versions in one refresh. Those that were accepted are kept, so the next refresh goes on.
    #[error("more than {max} new root versions in one refresh; refresh again to go on")]
    TooManyRoots {
        /// The limit.
        max: u32,
    },
    /// The record of version floors is damaged or missing. Without it an old version cannot be told from a
    /// new one, so nothing is accepted.
    #[error("the record of version floors is {state}; put it back from a backup, or enrol this host again")]
    FloorsDamaged {
        /// `missing` or `damaged`.
        state: &'static str,
    },
    /// The store has no file of this name, and the updater cannot start without it.
    #[error("the local store has no {file}; run the initialisation with the trusted root again")]
    NoTrustedRoot {
        /// The file.
        file: String,
    },
    /// The updater was asked for something that it is not ready for.
    #[error("{0}")]
    OutOfTurn(&'static str),
    /// A key that cannot be used.
    #[error("key {what} cannot be used: {reason}")]
    Key {
        /// The key's id or origin.
        what: String,
        /// Why not.
        reason: String,
    },
}

impl TrustError {
    pub(crate) fn invalid(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { what: what.into(), reason: reason.into() }
    }
}
