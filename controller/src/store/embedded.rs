//! The store of a single controller: the journal acknowledges, the index answers.
//!
//! A commit is checked and gets its revision at once, waits in a queue, and is written with all that wait by
//! whoever comes first: one sync for the group. Only then is it put into the index, so that a read never
//! sees what a crash could take, and only then is anyone told.
//!
//! This core is synchronous and runs the same over a simulated disk; [`super::SharedStore`] is its front for
//! asynchronous code.

mod opening;
mod queue;
#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};

use landfall_common::disk::{Disk, DiskLock};
use landfall_common::journal::Journal;
use tokio::sync::oneshot;

use super::codec::{self, encode_commit};
use super::index::{Changed, Index, PAGE};
use super::watch::{Watch, Watchers};
use super::{Batch, Change, Entry, Revision, Scan, StoreError, StoreIoError, Versioned};
use queue::{Queue, Waiting};

pub(super) use opening::journal_dir;
pub use opening::{IndexState, Opened};

/// How the store is kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// After so many bytes of journal a snapshot is written; or after as many as the last snapshot has, if those
    /// are more. So no byte is written more than twice, however large the state is.
    pub snapshot_every_bytes: u64,
    /// How long a segment of the journal gets, in bytes.
    pub segment_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        // Replaying 8 MiB at a start takes well below a second.
        Self { snapshot_every_bytes: 8 << 20, segment_bytes: 4 << 20 }
    }
}

/// The embedded store.
pub struct EmbeddedStore {
    queue: Mutex<Queue>,
    /// A group was written, or the store stopped.
    written: Condvar,
    /// Something waits to be written.
    work: Condvar,
    writer: Mutex<Writer>,
    index: RwLock<Box<dyn Index>>,
    watchers: Watchers,
    options: Options,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// Keeps other processes out.
    _lock: Box<dyn DiskLock>,
}

/// What only the one who writes touches.
struct Writer {
    /// `None` once closed.
    journal: Option<Journal>,
    bytes_since_snapshot: u64,
    snapshot_bytes: u64,
}

impl std::fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedStore").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl EmbeddedStore {
    /// The value of a key.
    ///
    /// # Errors
    /// [`StoreError::Stopped`].
    pub fn get(&self, key: &str) -> Result<Option<Versioned>, StoreError> {
        self.index_read().get(key).map_err(|e| self.stop_for_index(&e))
    }

    /// All entries whose key begins with `prefix`.
    ///
    /// # Errors
    /// [`StoreError::Stopped`].
    pub fn scan(&self, prefix: &str) -> Result<Scan, StoreError> {
        self.scan_page(prefix, None, usize::MAX)
    }

    /// At most `limit` entries whose key begins with `prefix` and comes after `after`.
    ///
    /// # Errors
    /// [`StoreError::Stopped`].
    pub fn scan_page(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Scan, StoreError> {
        let index = self.index_read();
        let scan = index.revision().and_then(|revision| {
            // One more than asked for shows whether there is more.
            let mut entries = index.page(prefix, after, limit.saturating_add(1))?;
            let more = entries.len() > limit;
            entries.truncate(limit);
            Ok(Scan { revision, entries, more })
        });
        drop(index);
        scan.map_err(|e| self.stop_for_index(&e))
    }

    /// Every change from here on.
    #[must_use]
    pub fn watch(&self, prefix: &str) -> Watch {
        self.watchers.watch(prefix)
    }

    /// The last revision that is durable.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.lock_queue().durable
    }

    /// Applies a batch and returns when it is durable.
    ///
    /// # Errors
    /// As [`super::Store::commit`].
    pub fn commit(&self, batch: Batch) -> Result<Revision, StoreError> {
        let mut waiting = self.submit(batch)?;
        loop {
            if let Ok(outcome) = waiting.try_recv() {
                return outcome;
            }
            let queue = self.lock_queue();
            if queue.writing {
                // Outcomes are sent under the queue's lock, so none can be missed between the two looks.
                drop(self.written.wait(queue).unwrap_or_else(PoisonError::into_inner));
            } else {
                drop(queue);
                self.write_waiting();
            }
        }
    }

    /// Checks a batch, gives it its revision and puts it into the queue. It is written by the next
    /// [`EmbeddedStore::write_waiting`] of anyone; the outcome then arrives.
    ///
    /// # Errors
    /// As [`super::Store::commit`]; nothing was queued.
    pub fn submit(
        &self,
        batch: Batch,
    ) -> Result<oneshot::Receiver<Result<Revision, StoreError>>, StoreError> {
        batch.check()?;
        let mut queue = self.lock_queue();
        if let Some(reason) = &queue.stopped {
            return Err(StoreError::Stopped(reason.clone()));
        }
        // A batch that changes nothing has nothing to wait for, so it must not lean on what still waits.
        let leans_on_queue = !batch.is_empty();
        for precondition in &batch.preconditions {
            let key = precondition.key();
            let found = match queue.pending_version(key).filter(|_| leans_on_queue) {
                Some(version) => version,
                None => match self.index_read().get(key) {
                    Ok(value) => value.map(|v| v.version),
                    Err(error) => {
                        drop(queue);
                        return Err(self.stop_for_index(&error));
                    }
                },
            };
            queue::check(precondition, found)?;
        }
        let (sender, receiver) = oneshot::channel();
        if batch.is_empty() {
            let _ = sender.send(Ok(queue.durable));
            return Ok(receiver);
        }
        queue.push(batch.changes, sender);
        drop(queue);
        self.work.notify_one();
        Ok(receiver)
    }

    /// Writes what waits, unless someone else is at it; one sync for all of it.
    pub fn write_waiting(&self) {
        let Some(group) = self.lock_queue().take_group() else { return };
        let outcome = catch_unwind(AssertUnwindSafe(|| self.write(&group)))
            .unwrap_or_else(|_| Err(StoreError::Stopped("writing a commit panicked".to_owned())));
        let compact = outcome.is_ok();
        self.lock_queue().settle(group, outcome);
        self.written.notify_all();
        if compact && catch_unwind(AssertUnwindSafe(|| self.compact_if_due())).is_err() {
            self.stop("writing a snapshot panicked");
        }
        self.lock_queue().writing = false;
        self.written.notify_all();
        self.work.notify_one();
    }

    fn write(&self, group: &[Waiting]) -> Result<(), StoreError> {
        let mut writer = self.lock_writer();
        let Some(journal) = &mut writer.journal else {
            return Err(StoreError::Stopped("it was closed".to_owned()));
        };
        let records: Vec<Vec<u8>> = group.iter().map(|w| encode_commit(&w.changes)).collect();
        let (Some(first), Some(last)) = (group.first(), group.last()) else { return Ok(()) };
        if journal.last() + 1 != first.revision.0 {
            return Err(StoreError::Stopped("the journal is not where the store thinks it is".to_owned()));
        }
        if let Err(error) = journal.append(&records) {
            return Err(match error.is_full() {
                true => StoreError::Full,
                false => StoreError::Stopped(chain(&error)),
            });
        }
        journal.sync().map_err(|error| StoreError::Stopped(chain(&error)))?;
        writer.bytes_since_snapshot += records.iter().map(|r| r.len() as u64).sum::<u64>();
        drop(writer);

        // Acknowledged from here on, whatever happens.
        let mut changed = Changed::new();
        for waiting in group {
            for change in &waiting.changes {
                let (key, value) = match change {
                    Change::Put(key, value) => {
                        (key, Some(Versioned { value: value.clone(), version: waiting.revision }))
                    }
                    Change::Delete(key) => (key, None),
                };
                changed.insert(key.clone(), value);
            }
        }
        let applied =
            self.index.write().unwrap_or_else(PoisonError::into_inner).apply(last.revision, &changed);
        applied.map_err(|error| StoreError::Stopped(format!("the index failed: {error}")))?;
        for waiting in group {
            self.watchers.tell(waiting.revision, waiting.changes.clone());
        }
        Ok(())
    }

    fn compact_if_due(&self) {
        let mut writer = self.lock_writer();
        if writer.bytes_since_snapshot < self.options.snapshot_every_bytes.max(writer.snapshot_bytes) {
            return;
        }
        // Whether it succeeds or not: on a full disk it should not be tried again with every commit.
        writer.bytes_since_snapshot = 0;
        if let Err(error) = self.compact(&mut writer) {
            tracing::warn!(error = chain(&error), "the journal could not be compacted; it goes on growing");
        }
    }

    fn compact(&self, writer: &mut Writer) -> Result<(), StoreIoError> {
        let (_, payload) = self.snapshot()?;
        if let Some(journal) = &mut writer.journal {
            journal.compact(&payload)?;
            writer.snapshot_bytes = payload.len() as u64;
        }
        Ok(())
    }

    /// The whole state at one revision.
    pub(super) fn snapshot(&self) -> Result<(Revision, Vec<u8>), StoreIoError> {
        let broken = |error: super::IndexError| StoreIoError::Index(error.0);
        let index = self.index_read();
        let revision = index.revision().map_err(broken)?;
        let mut payload = codec::encode_state(std::iter::empty());
        let mut after: Option<String> = None;
        loop {
            let page = index.page("", after.as_deref(), PAGE).map_err(broken)?;
            let Some(last) = page.last() else { return Ok((revision, payload)) };
            after = Some(last.key.clone());
            for Entry { key, value, version } in page {
                codec::append_entry(&mut payload, &key, &Versioned { value, version });
            }
        }
    }

    /// Writes what waits, makes a snapshot and notes a clean stop, so that the next start need not rebuild
    /// the index. Nothing can be committed afterwards. Without it the store is as if killed, and as whole.
    ///
    /// # Errors
    /// [`StoreIoError`]; nothing acknowledged is at risk.
    pub fn close(&self) -> Result<(), StoreIoError> {
        loop {
            let queue = self.lock_queue();
            if queue.writing {
                drop(self.written.wait(queue).unwrap_or_else(PoisonError::into_inner));
            } else if queue.is_empty() {
                break;
            } else {
                drop(queue);
                self.write_waiting();
            }
        }
        let was_stopped = self.lock_queue().stopped.is_some();
        self.stop("it was closed");
        let mut writer = self.lock_writer();
        if was_stopped {
            writer.journal = None;
            return Ok(());
        }
        let Some(journal) = writer.journal.take() else { return Ok(()) };
        let last = journal.last();
        journal.close()?;
        let flushed = self.index_read().flush();
        flushed.map_err(|error| StoreIoError::Index(error.0))?;
        opening::mark_clean(&*self.disk, &self.dir, Revision(last))?;
        Ok(())
    }

    /// Waits until something is queued; false once the store has stopped or `done` says so.
    pub(super) fn wait_for_work(&self, done: impl Fn() -> bool) -> bool {
        let mut queue = self.lock_queue();
        loop {
            if done() {
                return false;
            }
            if !queue.writing && !queue.is_empty() {
                return true;
            }
            queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Wakes whoever is in [`EmbeddedStore::wait_for_work`].
    pub(super) fn wake_workers(&self) {
        drop(self.lock_queue());
        self.work.notify_all();
    }

    fn stop_for_index(&self, error: &super::IndexError) -> StoreError {
        self.stop(&format!("the index failed: {error}"))
    }

    fn stop(&self, reason: &str) -> StoreError {
        let reason = self.lock_queue().stopped.get_or_insert_with(|| reason.to_owned()).clone();
        self.written.notify_all();
        self.work.notify_all();
        StoreError::Stopped(reason)
    }

    // A panic while one of these locks is held is caught in `write_waiting`, which stops the store.

    fn lock_queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn index_read(&self) -> std::sync::RwLockReadGuard<'_, Box<dyn Index>> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error with all its causes, for the one sentence that [`StoreError::Stopped`] has room for.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
