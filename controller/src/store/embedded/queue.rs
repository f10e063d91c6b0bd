//! Commits that were checked and wait to be written.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use crate::store::{Change, Precondition, Revision, StoreError};

/// The most commits that share a sync, so that the first of them does not wait for a huge write.
const MAX_GROUP: usize = 256;

/// A commit on its way.
pub struct Waiting {
    pub revision: Revision,
    pub changes: Vec<Change>,
    outcome: oneshot::Sender<Result<Revision, StoreError>>,
}

/// What waits, and what those who come next must know of it.
pub struct Queue {
    /// The last revision that was given out.
    last: Revision,
    /// The last that is durable and in the index.
    pub durable: Revision,
    /// Somebody is writing.
    pub writing: bool,
    /// Why nothing is taken any more.
    pub stopped: Option<String>,
    waiting: Vec<Waiting>,
    /// What queued commits will leave of a key: who changes it last, and whether a value remains.
    pending: BTreeMap<String, (Revision, bool)>,
}

impl Queue {
    pub fn new(durable: Revision) -> Self {
        Self {
            last: durable,
            durable,
            writing: false,
            stopped: None,
            waiting: Vec::new(),
            pending: BTreeMap::new(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The version that a key will have once all that waits is written; `None` if nothing that waits
    /// changes it.
    pub fn pending_version(&self, key: &str) -> Option<Option<Revision>> {
        self.pending.get(key).map(|(revision, remains)| remains.then_some(*revision))
    }

    pub fn push(&mut self, changes: Vec<Change>, outcome: oneshot::Sender<Result<Revision, StoreError>>) {
        let revision = Revision(self.last.0 + 1);
        self.last = revision;
        for change in &changes {
            let remains = matches!(change, Change::Put(..));
            self.pending.insert(change.key().to_owned(), (revision, remains));
        }
        self.waiting.push(Waiting { revision, changes, outcome });
    }

    /// What is to be written now, if it is this caller's turn.
    pub fn take_group(&mut self) -> Option<Vec<Waiting>> {
        if self.writing || self.waiting.is_empty() {
            return None;
        }
        self.writing = true;
        let rest = self.waiting.split_off(self.waiting.len().min(MAX_GROUP));
        Some(std::mem::replace(&mut self.waiting, rest))
    }

    /// Tells a group how it ended. A failure takes along all that waits behind it, since that was checked
    /// against what the group would have changed.
    pub fn settle(&mut self, group: Vec<Waiting>, outcome: Result<(), StoreError>) {
        match outcome {
            Ok(()) => {
                if let Some(last) = group.last() {
                    self.durable = last.revision;
                }
                let durable = self.durable;
                self.pending.retain(|_, (revision, _)| *revision > durable);
                for waiting in group {
                    // Who gave up waiting does not want to know.
                    let _ = waiting.outcome.send(Ok(waiting.revision));
                }
            }
            Err(error) => {
                if let StoreError::Stopped(reason) = &error {
                    self.stopped.get_or_insert_with(|| reason.clone());
                }
                for waiting in group.into_iter().chain(std::mem::take(&mut self.waiting)) {
                    let _ = waiting.outcome.send(Err(error.clone()));
                }
                self.pending.clear();
                self.last = self.durable;
            }
        }
    }
}

/// Compares a precondition with the version that is there.
pub fn check(precondition: &Precondition, found: Option<Revision>) -> Result<(), StoreError> {
    let (key, expected) = match precondition {
        Precondition::Absent(key) => (key, None),
        Precondition::VersionIs(key, version) => (key, Some(*version)),
    };
    if found == expected {
        return Ok(());
    }
    Err(StoreError::Conflict { key: key.clone(), expected, found })
}
