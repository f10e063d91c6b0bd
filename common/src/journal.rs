//! An append-only journal of records, the truth behind whatever is built from it.
//!
//! A record is acknowledged once [`Journal::sync`] has returned; from then on it is there after any crash,
//! or opening the journal fails and names the place. Several records may share one sync.
//!
//! In a directory lie segments (`seg-<first record>.log`, see [`frame`] for the bytes) and snapshots
//! (`snap-<last record>.snap`). [`Journal::compact`] writes a snapshot and reads it back; the one before and
//! the segments after it are kept until the next, so that one damaged snapshot costs nothing.
//!
//! What the records mean, and that only one process writes, is its user's concern.

mod error;
mod frame;
mod recovery;
mod snapshot;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{AppendFile, Disk};
use frame::{Frame, Kind};
use recovery::{Files, LastSegment, segment_path};

pub use error::JournalError;
pub use recovery::{Note, Recovered, Snapshot};

/// The largest record, in bytes. A length beyond it in a file is damage.
pub const MAX_RECORD_BYTES: usize = 64 << 20;

/// How a journal is kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// When a segment is this long, the next append begins a new one, in bytes.
    pub segment_bytes: u64,
    /// What an operator should do if acknowledged records are damaged; a sentence that ends an error.
    pub next_command: &'static str,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            // Recovery writes the last segment again: this bounds it.
            segment_bytes: 4 << 20,
            next_command: "Put the file back from a copy of this directory, or restore a backup.",
        }
    }
}

/// A journal that is open for writing.
pub struct Journal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: Options,
    file: Box<dyn AppendFile>,
    /// The first record of the open segment.
    segment_first: u64,
    /// Its length in bytes, marks included.
    segment_len: u64,
    /// As much of it was there at the last sync.
    synced_len: u64,
    last: u64,
    durable: u64,
    snapshot_last: Option<u64>,
    stopped: Option<String>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal")
            .field("dir", &self.dir)
            .field("last", &self.last)
            .field("durable", &self.durable)
            .field("stopped", &self.stopped)
            .finish_non_exhaustive()
    }
}

impl Journal {
    /// Recovers the journal in `dir` (created if missing) and opens it for writing. All that is returned is
    /// durable.
    ///
    /// # Errors
    /// [`JournalError::Damaged`] and [`JournalError::Missing`] if acknowledged records cannot be read; then
    /// nothing has been changed. [`JournalError::Disk`].
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: impl Into<PathBuf>,
        options: Options,
    ) -> Result<(Self, Recovered), JournalError> {
        let dir = dir.into();
        disk.ensure_dir(&dir)?;
        let (recovered, LastSegment { first, len }) = recovery::recover(&*disk, &dir, &options)?;
        let file = open_segment(&*disk, &dir, first)?;
        let last = recovered.last();
        let journal = Self {
            disk,
            dir,
            options,
            file,
            segment_first: first,
            segment_len: len,
            synced_len: len,
            last,
            durable: last,
            snapshot_last: recovered.snapshot.as_ref().map(|s| s.last),
            stopped: None,
        };
        Ok((journal, recovered))
    }

    /// Makes a journal in an empty or missing directory that begins after record `last` with a snapshot.
    ///
    /// # Errors
    /// [`JournalError::Missing`] is never returned; [`JournalError::Disk`] with `AlreadyExists` if the
    /// directory holds a journal.
    pub fn create_from_snapshot(
        disk: &dyn Disk,
        dir: &Path,
        last: u64,
        payload: &[u8],
    ) -> Result<(), JournalError> {
        disk.ensure_dir(dir)?;
        let files = Files::list(disk, dir)?;
        if !files.segments.is_empty() || !files.snapshots.is_empty() {
            let reason = std::io::Error::new(std::io::ErrorKind::AlreadyExists, "it holds a journal already");
            return Err(crate::disk::DiskError::new("make a journal in", dir, reason).into());
        }
        snapshot::write(disk, dir, last, payload)?;
        Ok(())
    }

    /// The number of the last record that was appended; zero before the first.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The last record that is durable.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// How many records stand after the newest snapshot.
    #[must_use]
    pub fn since_snapshot(&self) -> u64 {
        self.last - self.snapshot_last.unwrap_or(0)
    }

    /// Appends records and returns the number of the last one. They are not durable before
    /// [`Journal::sync`].
    ///
    /// # Errors
    /// [`JournalError::TooLarge`], or [`JournalError::Disk`] when the disk refuses: then none of the records
    /// is in the journal, which goes on. [`JournalError::Stopped`].
    pub fn append<R: AsRef<[u8]>>(&mut self, records: &[R]) -> Result<u64, JournalError> {
        self.check()?;
        if let Some(large) = records.iter().map(|r| r.as_ref().len()).find(|len| *len > MAX_RECORD_BYTES) {
            return Err(JournalError::TooLarge { len: large });
        }
        if self.segment_len >= self.options.segment_bytes && self.durable == self.last {
            self.rotate()?;
        }
        let mut bytes = Vec::new();
        let mut number = self.last;
        for record in records {
            number += 1;
            Frame { kind: Kind::Record, number, durable: self.durable, payload: record.as_ref() }
                .write(&mut bytes);
        }
        self.write(&bytes)?;
        self.last = number;
        Ok(number)
    }

    /// Makes everything appended durable; one sync, none if there is nothing new.
    ///
    /// # Errors
    /// [`JournalError::Disk`]; then the journal has stopped, since nobody knows what is durable, and what
    /// was appended since the last sync may or may not be there when it is opened again.
    pub fn sync(&mut self) -> Result<(), JournalError> {
        self.check()?;
        if self.durable == self.last {
            return Ok(());
        }
        self.sync_file()?;
        self.durable = self.last;
        // The mark is durable with the next sync or when the kernel writes it back; it narrows the window in
        // which damage to the last records would look like a torn tail. Its failure costs only that.
        let _ = self.mark();
        Ok(())
    }

    /// Puts a snapshot that holds the effect of every record so far in the place of old segments.
    ///
    /// # Errors
    /// [`JournalError::Disk`]; the records are untouched, and the journal goes on unless it says
    /// [`JournalError::Stopped`] from then on.
    pub fn compact(&mut self, payload: &[u8]) -> Result<(), JournalError> {
        self.sync()?;
        if self.snapshot_last == Some(self.last) {
            return Ok(());
        }
        if self.segment_first <= self.last {
            self.rotate()?;
        }
        snapshot::write(&*self.disk, &self.dir, self.last, payload)?;
        let previous = self.snapshot_last.replace(self.last);
        self.remove_covered(previous)
    }

    /// Notes that everything is durable, so that any later damage is seen as such. Dropping the journal
    /// without it is a crash, which is fine as well.
    ///
    /// # Errors
    /// [`JournalError::Disk`].
    pub fn close(mut self) -> Result<(), JournalError> {
        self.sync()?;
        self.mark()?;
        self.sync_file()
    }

    fn check(&self) -> Result<(), JournalError> {
        match &self.stopped {
            Some(reason) => Err(JournalError::Stopped(reason.clone())),
            None => Ok(()),
        }
    }

    fn mark(&mut self) -> Result<(), JournalError> {
        let mut bytes = Vec::new();
        Frame { kind: Kind::Mark, number: self.durable, durable: self.durable, payload: &[] }
            .write(&mut bytes);
        self.write(&bytes)
    }

    fn sync_file(&mut self) -> Result<(), JournalError> {
        match self.file.sync_data() {
            Ok(()) => {
                self.synced_len = self.segment_len;
                Ok(())
            }
            Err(error) => {
                self.stopped = Some(error.to_string());
                // What was not synced is not acknowledged, and better gone than half there. If this fails
                // too, recovery has to be content with what it finds.
                let _ = self.file.truncate(self.synced_len);
                Err(error.into())
            }
        }
    }

    /// Writes all of `bytes` or none.
    fn write(&mut self, bytes: &[u8]) -> Result<(), JournalError> {
        if let Err(error) = self.file.append(bytes) {
            // Half a frame in front of later ones would be damage.
            if let Err(second) = self.file.truncate(self.segment_len) {
                self.stopped = Some(second.to_string());
            }
            return Err(error.into());
        }
        self.segment_len += bytes.len() as u64;
        Ok(())
    }

    /// Ends the segment, whose records are all durable, and begins the next.
    fn rotate(&mut self) -> Result<(), JournalError> {
        debug_assert_eq!(self.durable, self.last, "a segment ends only when it is durable");
        // Only the last segment may have a torn tail, so the marks of this one must be whole.
        self.mark()?;
        self.sync_file()?;
        let first = self.last + 1;
        match open_segment(&*self.disk, &self.dir, first) {
            Ok(file) => {
                self.file = file;
                self.segment_first = first;
                self.segment_len = 0;
                self.synced_len = 0;
                Ok(())
            }
            Err(error) => {
                // Unless it is certain that no new segment exists, the old one must not grow: its records
                // would stand twice. A full disk is told before the name is made.
                let exists = self.disk.exists(&segment_path(&self.dir, first)).unwrap_or(true);
                if exists || !error.is_full() {
                    self.stopped = Some(error.to_string());
                }
                Err(error.into())
            }
        }
    }

    /// Removes what the snapshot `previous` and the newest one make needless. Not synced: what comes back
    /// after a crash is removed the next time.
    fn remove_covered(&self, previous: Option<u64>) -> Result<(), JournalError> {
        let files = Files::list(&*self.disk, &self.dir)?;
        for path in files.debris {
            self.disk.remove_file(&path)?;
        }
        let Some(previous) = previous else { return Ok(()) };
        for &last in files.snapshots.iter().filter(|&&last| last < previous) {
            self.disk.remove_file(&snapshot::path(&self.dir, last))?;
        }
        for pair in files.segments.windows(2) {
            if pair[1] <= previous + 1 {
                self.disk.remove_file(&segment_path(&self.dir, pair[0]))?;
            }
        }
        Ok(())
    }
}

/// Opens a segment and makes its name durable.
fn open_segment(
    disk: &dyn Disk,
    dir: &Path,
    first: u64,
) -> Result<Box<dyn AppendFile>, crate::disk::DiskError> {
    let path = segment_path(dir, first);
    let is_new = !disk.exists(&path)?;
    let file = disk.open_append(&path)?;
    if is_new {
        disk.sync_dir(dir)?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests;
