//! Opening the embedded store: the journal is recovered, the index compared with it or built anew.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, RwLock};

use landfall_common::disk::{Disk, DiskError, parent};
use landfall_common::journal::{self, Journal, Note, Recovered};

use super::queue::Queue;
use super::{EmbeddedStore, Options, Writer};
use crate::store::codec::{self, State};
use crate::store::index::{Index, IndexSource, difference};
use crate::store::watch::Watchers;
use crate::store::{Revision, StoreIoError};

/// What opening found. Worth a line in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The last commit.
    pub revision: Revision,
    /// What was wrong with the journal and has been put right, without loss.
    pub notes: Vec<Note>,
    /// Whether the index could be kept.
    pub index: IndexState,
}

/// What became of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexState {
    /// It was compared, entry by entry, and is right.
    Kept,
    /// It was built from the journal.
    Rebuilt {
        /// Why.
        reason: String,
    },
}

const LOCK: &str = "lock";
const JOURNAL: &str = "journal";
const CLEAN: &str = "clean";
const NEXT_COMMAND: &str =
    "Put the file back from a copy, or start from a backup with `landfall-controller restore`.";

impl EmbeddedStore {
    /// Opens the store in `dir` of this disk, recovering from whatever the last run left.
    ///
    /// # Errors
    /// [`StoreIoError::Locked`] if another process has it, [`StoreIoError::Journal`] if acknowledged commits
    /// are damaged, [`StoreIoError::JournalBehind`] if they are gone; nothing has been changed then.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: impl Into<PathBuf>,
        index: &dyn IndexSource,
        options: Options,
    ) -> Result<(Self, Opened), StoreIoError> {
        let dir = dir.into();
        disk.ensure_dir(&dir)?;
        let lock_path = dir.join(LOCK);
        let Some(lock) = disk.try_lock(&lock_path)? else {
            return Err(StoreIoError::Locked { path: lock_path.display().to_string() });
        };
        let clean = read_clean(&*disk, &dir)?;
        let journal_options =
            journal::Options { segment_bytes: options.segment_bytes, next_command: NEXT_COMMAND };
        let (journal, recovered) = Journal::open(Arc::clone(&disk), journal_dir(&dir), journal_options)?;
        let revision = Revision(journal.last());
        if let Some(clean) = clean.filter(|clean| *clean > revision) {
            return Err(StoreIoError::JournalBehind { journal: revision, index: clean });
        }
        // From here on a crash is unclean, also one that opening a damaged index causes.
        unmark_clean(&*disk, &dir)?;

        let bytes_since_snapshot = recovered.records.iter().map(|(_, r)| r.len() as u64).sum();
        let snapshot_bytes = recovered.snapshot.as_ref().map_or(0, |snapshot| snapshot.payload.len() as u64);
        let notes = recovered.notes.clone();
        let state = replay(recovered)?;
        let (index, index_state) = open_index(index, clean.is_some(), revision, &state)?;
        let store = Self {
            queue: Mutex::new(Queue::new(revision)),
            written: Condvar::new(),
            work: Condvar::new(),
            writer: Mutex::new(Writer { journal: Some(journal), bytes_since_snapshot, snapshot_bytes }),
            index: RwLock::new(index),
            watchers: Watchers::default(),
            options,
            disk,
            dir,
            _lock: lock,
        };
        Ok((store, Opened { revision, notes, index: index_state }))
    }
}

fn replay(recovered: Recovered) -> Result<State, StoreIoError> {
    let damaged = |what: String, reason: String| StoreIoError::Damaged { what, reason };
    let mut state = match recovered.snapshot {
        Some(snapshot) => codec::decode_state(&snapshot.payload)
            .map_err(|e| damaged(format!("the snapshot at {}", snapshot.last), e))?,
        None => State::new(),
    };
    for (number, record) in recovered.records {
        let changes = codec::decode_commit(&record)
            .map_err(|e| damaged(format!("commit {number} in the journal"), e))?;
        codec::apply(&mut state, Revision(number), changes);
    }
    Ok(state)
}

fn open_index(
    source: &dyn IndexSource,
    clean: bool,
    revision: Revision,
    state: &State,
) -> Result<(Box<dyn Index>, IndexState), StoreIoError> {
    let reason = if clean {
        match source.open().and_then(|index| Ok((difference(&*index, revision, state)?, index))) {
            Ok((None, index)) => return Ok((index, IndexState::Kept)),
            Ok((Some(difference), _)) => difference,
            Err(error) => error.0,
        }
    } else {
        "the last stop was not clean".to_owned()
    };
    let index = source.rebuild(revision, state).map_err(|error| StoreIoError::Index(error.0))?;
    Ok((index, IndexState::Rebuilt { reason }))
}

/// Where the journal of a store in `dir` lies.
pub fn journal_dir(dir: &Path) -> PathBuf {
    dir.join(JOURNAL)
}

/// Notes that the index was flushed at this revision.
pub fn mark_clean(disk: &dyn Disk, dir: &Path, revision: Revision) -> Result<(), DiskError> {
    disk.write_atomic(&dir.join(CLEAN), format!("{revision}\n").as_bytes())
}

fn read_clean(disk: &dyn Disk, dir: &Path) -> Result<Option<Revision>, DiskError> {
    let text = disk.read(&dir.join(CLEAN))?.and_then(|bytes| String::from_utf8(bytes).ok());
    // What cannot be read says nothing, and then the index is built anew.
    Ok(text.and_then(|text| text.trim_end().parse().ok()).map(Revision))
}

fn unmark_clean(disk: &dyn Disk, dir: &Path) -> Result<(), DiskError> {
    let path = dir.join(CLEAN);
    if !disk.exists(&path)? {
        return Ok(());
    }
    disk.remove_file(&path)?;
    disk.sync_dir(parent(&path))
}
