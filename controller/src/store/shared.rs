//! The embedded store for asynchronous code: commits are queued by any task and written by one thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::watch::Watch;
use super::{Batch, EmbeddedStore, Revision, Scan, Store, StoreError, StoreIoError, Versioned};

/// The embedded store behind the [`Store`] trait; clones share it.
///
/// A commit costs its task no thread: the one writer syncs for all that wait. Reads go straight to the
/// index.
#[derive(Clone, Debug)]
pub struct SharedStore(Arc<Front>);

#[derive(Debug)]
struct Front {
    core: Arc<EmbeddedStore>,
    done: Arc<AtomicBool>,
    writer: Option<JoinHandle<()>>,
}

impl SharedStore {
    /// Starts the thread that writes.
    ///
    /// # Errors
    /// The system's, if it gives no thread.
    pub fn new(core: EmbeddedStore) -> std::io::Result<Self> {
        let core = Arc::new(core);
        let done = Arc::new(AtomicBool::new(false));
        let (for_thread, is_done) = (Arc::clone(&core), Arc::clone(&done));
        let writer = std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || {
            while for_thread.wait_for_work(|| is_done.load(Ordering::SeqCst)) {
                for_thread.write_waiting();
            }
        })?;
        Ok(Self(Arc::new(Front { core, done, writer: Some(writer) })))
    }

    /// The synchronous core.
    #[must_use]
    pub fn core(&self) -> &EmbeddedStore {
        &self.0.core
    }

    /// Writes what waits and notes a clean stop; see [`EmbeddedStore::close`].
    ///
    /// # Errors
    /// [`StoreIoError`].
    pub fn close(&self) -> Result<(), StoreIoError> {
        self.0.core.close()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.done.store(true, Ordering::SeqCst);
        self.core.wake_workers();
        if let Some(writer) = self.writer.take() {
            // It has no panic to tell of: `write_waiting` catches them.
            let _ = writer.join();
        }
    }
}

#[tonic::async_trait]
impl Store for SharedStore {
    async fn get(&self, key: &str) -> Result<Option<Versioned>, StoreError> {
        self.0.core.get(key)
    }

    async fn scan_page(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Scan, StoreError> {
        self.0.core.scan_page(prefix, after, limit)
    }

    async fn commit(&self, batch: Batch) -> Result<Revision, StoreError> {
        let outcome = self.0.core.submit(batch)?;
        outcome.await.unwrap_or_else(|_| Err(StoreError::Stopped("its writer is gone".to_owned())))
    }

    fn watch(&self, prefix: &str) -> Watch {
        self.0.core.watch(prefix)
    }
}
