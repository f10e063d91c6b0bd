//! Why a journal cannot be opened or written.

use crate::disk::DiskError;

/// A journal did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A system call failed. What was to be written is not acknowledged.
    #[error("the journal cannot be used")]
    Disk(#[from] DiskError),
    /// Records that were acknowledged are damaged. Nothing was changed.
    #[error(
        "journal segment {segment} is damaged at byte {offset}, in record {record}: {reason}; the records \
         before it are whole. {next}"
    )]
    Damaged {
        /// The file, below the journal's disk.
        segment: String,
        /// Where the damage begins.
        offset: u64,
        /// The first record that cannot be read.
        record: u64,
        /// What does not fit.
        reason: String,
        /// What to do now.
        next: String,
    },
    /// Records are missing between what is there. Nothing was changed.
    #[error("the journal lacks records {first} to {last}: {reason}. {next}")]
    Missing {
        /// The first record that is not there.
        first: u64,
        /// The last.
        last: u64,
        /// How it shows.
        reason: String,
        /// What to do now.
        next: String,
    },
    /// A record is larger than [`super::MAX_RECORD_BYTES`].
    #[error("a record of {len} bytes is too large for the journal")]
    TooLarge {
        /// Its length.
        len: usize,
    },
    /// An earlier sync failed, so that nobody knows what is durable. Only opening it anew, which writes
    /// the unsure part again, helps.
    #[error("the journal was stopped by an earlier error: {0}")]
    Stopped(String),
}

impl JournalError {
    /// Whether nothing is lost and the journal goes on once there is space.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Disk(error) if error.is_full())
    }
}
