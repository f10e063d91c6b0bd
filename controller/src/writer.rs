//! The way in which everything is committed: a change and the log entries that tell of it, in one commit.

use std::sync::Arc;

use landfall_controller_core::log::NewEntry;
use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::error::ControllerError;
use crate::keys::OnlineKeys;
use crate::log::LogTree;
use crate::store::{Batch, Store};

/// The one writer of the log. Entries are numbered in the order of their commits.
pub struct Writer {
    store: Arc<dyn Store>,
    keys: Arc<OnlineKeys>,
    clock: Clock,
    tree: Arc<Mutex<LogTree>>,
}

impl Writer {
    /// Opens the log.
    ///
    /// # Errors
    /// [`ControllerError::Log`].
    pub async fn open(
        store: Arc<dyn Store>,
        keys: Arc<OnlineKeys>,
        clock: Clock,
    ) -> Result<Self, ControllerError> {
        let tree = Arc::new(Mutex::new(LogTree::load(&*store).await?));
        Ok(Self { store, keys, clock, tree })
    }

    /// Commits a batch with its entries; returns when both are durable. Dropped once the commit has begun, it
    /// goes on: a caller that hangs up must not leave the tree in memory behind the one in the store, since
    /// every later append would conflict.
    ///
    /// # Errors
    /// [`ControllerError::Store`], [`ControllerError::Log`]; nothing has happened.
    pub async fn commit(&self, batch: Batch, entries: Vec<NewEntry>) -> Result<(), ControllerError> {
        if entries.is_empty() {
            self.store.commit(batch).await?;
            return Ok(());
        }
        // Held over the commit: the next append builds on this one.
        let mut tree = self.tree.clone().lock_owned().await;
        let mut appended = tree.append(entries, &self.keys.log, self.clock.now())?;
        let log = std::mem::take(&mut appended.batch);
        let store = self.store.clone();
        let committing = tokio::spawn(async move {
            let revision = store.commit(batch.and(log)).await?;
            for entry in &appended.entries {
                tracing::info!(index = entry.index, kind = entry.event.kind(), "{}", entry.summary);
            }
            *tree = appended.committed(revision);
            Ok(())
        });
        committing.await.map_err(|_| ControllerError::Stopping)?
    }
}
