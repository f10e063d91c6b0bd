//! Why the log cannot be written, read, or believed.

use landfall_common::canonical::CanonicalError;
use landfall_common::merkle::ProofError;
use landfall_trust::TrustError;

use super::MAX_ENTRIES;
use crate::store::StoreError;

/// Something about the log went wrong.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The store did not answer.
    #[error("the log cannot be read")]
    Store(#[from] StoreError),
    /// What lies in the store is not what was written.
    #[error("{key} in the store cannot be read")]
    Malformed {
        /// Where it lies.
        key: String,
        /// What does not fit.
        #[source]
        source: serde_json::Error,
    },
    /// An entry has no canonical form.
    #[error("an entry cannot be written")]
    Canonical(#[from] CanonicalError),
    /// More entries than fit into one batch.
    #[error("{count} entries are more than {MAX_ENTRIES}, which is what one commit takes")]
    TooMany {
        /// How many there were.
        count: usize,
    },
    /// A checkpoint cannot be signed, or its signature is not good.
    #[error("the checkpoint of the log is not good")]
    Checkpoint(#[from] TrustError),
    /// The tree beside the entries is not what it should be.
    #[error("the tree of the log is damaged: {0}")]
    Tree(String),
    /// No such entry, or no tree of that size.
    #[error("there is no such place in the log")]
    Proof(#[from] ProofError),
    /// The log is not what was signed.
    #[error("the log was changed after it was written: entry {index} {reason}")]
    Changed {
        /// The first entry that differs.
        index: u64,
        /// How.
        reason: String,
    },
}
