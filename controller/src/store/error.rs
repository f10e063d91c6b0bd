//! Why the store did not do what it was asked.

use landfall_common::disk::DiskError;
use landfall_common::journal::JournalError;

use super::Revision;

/// A read or a commit did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// A precondition of the batch does not hold; nothing has changed. Read again and decide anew.
    #[error("{key} has changed: expected {}, found {}", version(expected), version(found))]
    Conflict {
        /// The key.
        key: String,
        /// The version that the batch demanded; `None` is an absent key.
        expected: Option<Revision>,
        /// The version that is there.
        found: Option<Revision>,
    },
    /// The batch breaks a rule of the store; nothing has changed.
    #[error("the batch cannot be committed: {0}")]
    Invalid(String),
    /// There was no room for the commit; nothing has changed, and the store goes on once there is.
    #[error("the commit was not written, since the disk is full: free space in the state directory")]
    Full,
    /// The store met an error after which it cannot know what is durable, and refuses everything from
    /// then on. The commit in question may or may not be there after a restart.
    #[error("the store has stopped: {0}; restart the controller, which recovers from its journal")]
    Stopped(String),
}

fn version(version: &Option<Revision>) -> String {
    version.map_or_else(|| "no value".to_owned(), |v| format!("version {v}"))
}

/// The store cannot be opened, saved or restored.
#[derive(Debug, thiserror::Error)]
pub enum StoreIoError {
    /// The journal cannot be recovered or written.
    #[error("the state cannot be recovered")]
    Journal(#[from] JournalError),
    /// A file besides the journal.
    #[error("the state directory cannot be used")]
    Disk(#[from] DiskError),
    /// Another process has it open.
    #[error("{path} is in use by another controller: stop that one first")]
    Locked {
        /// The lock file.
        path: String,
    },
    /// The index could be neither opened nor rebuilt.
    #[error("the index cannot be used: {0}")]
    Index(String),
    /// The index knows commits that the journal has lost: the journal was cut or replaced.
    #[error(
        "the journal ends at revision {journal}, but revision {index} was acknowledged: the end of the \
         journal is gone; put its files back, or start from a backup with `landfall-controller restore`"
    )]
    JournalBehind {
        /// The last revision in the journal.
        journal: Revision,
        /// The revision that the index has.
        index: Revision,
    },
    /// A snapshot or backup does not hold what it should.
    #[error("{what} is damaged: {reason}")]
    Damaged {
        /// Which one.
        what: String,
        /// What does not fit.
        reason: String,
    },
    /// A restore would overwrite state.
    #[error("{path} already holds state: restore into an empty directory")]
    NotEmpty {
        /// The directory.
        path: String,
    },
    /// Reading or writing the backup failed.
    #[error("cannot {operation} the backup")]
    Backup {
        /// `read` or `write`.
        operation: &'static str,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}
