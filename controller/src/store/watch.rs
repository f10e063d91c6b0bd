//! Telling of changes: who watches gets every commit that touches its prefix, or learns that it missed some.

use std::sync::Arc;

use tokio::sync::broadcast;

use super::{Change, Revision};

/// How many commits a watcher may lag behind before it has to read anew.
const BACKLOG: usize = 1024;

/// The changes of one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The commit.
    pub revision: Revision,
    /// What it changed; of a watch, only what its prefix covers.
    pub changes: Vec<Change>,
}

/// What a watch tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// A commit touched the prefix.
    Changed(Changes),
    /// The watcher was too slow and commits are missing: scan again, then go on watching.
    Missed,
}

/// The stream of changes below one prefix.
#[derive(Debug)]
pub struct Watch {
    prefix: String,
    receiver: broadcast::Receiver<Arc<Changes>>,
}

impl Watch {
    /// The next event; `None` once the store has closed.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        loop {
            match self.receiver.recv().await {
                Ok(changes) => {
                    if let Some(event) = self.narrowed(&changes) {
                        return Some(event);
                    }
                }
                Err(broadcast::error::RecvError::Lagged(_)) => return Some(WatchEvent::Missed),
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// The next event if one is there already.
    pub fn try_next(&mut self) -> Option<WatchEvent> {
        loop {
            match self.receiver.try_recv() {
                Ok(changes) => {
                    if let Some(event) = self.narrowed(&changes) {
                        return Some(event);
                    }
                }
                Err(broadcast::error::TryRecvError::Lagged(_)) => return Some(WatchEvent::Missed),
                Err(_) => return None,
            }
        }
    }

    fn narrowed(&self, changes: &Changes) -> Option<WatchEvent> {
        let covered = |change: &&Change| change.key().starts_with(&self.prefix);
        let covered: Vec<Change> = changes.changes.iter().filter(covered).cloned().collect();
        (!covered.is_empty())
            .then_some(WatchEvent::Changed(Changes { revision: changes.revision, changes: covered }))
    }
}

/// The sending side, for those who implement [`super::Store`].
#[derive(Debug, Clone)]
pub struct Watchers(broadcast::Sender<Arc<Changes>>);

impl Default for Watchers {
    fn default() -> Self {
        Self(broadcast::Sender::new(BACKLOG))
    }
}

impl Watchers {
    /// Tells every watcher of a commit that is durable.
    pub fn tell(&self, revision: Revision, changes: Vec<Change>) {
        // Without a receiver there is nobody to tell.
        let _ = self.0.send(Arc::new(Changes { revision, changes }));
    }

    /// A watch of all that is told from here on.
    #[must_use]
    pub fn watch(&self, prefix: &str) -> Watch {
        Watch { prefix: prefix.to_owned(), receiver: self.0.subscribe() }
    }
}
