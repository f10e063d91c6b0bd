//! An index in memory: what the simulation uses, and nothing of it outlives the process.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::RwLock;

use super::{Changed, Index, IndexError, IndexSource};
use crate::store::codec::State;
use crate::store::{Entry, Revision, Versioned};

/// A map behind a lock.
#[derive(Debug, Default)]
pub struct MemoryIndex(RwLock<(Revision, BTreeMap<String, Versioned>)>);

impl MemoryIndex {
    /// What makes such indexes.
    #[must_use]
    pub fn source() -> Box<dyn IndexSource> {
        Box::new(Source)
    }
}

struct Source;

impl IndexSource for Source {
    fn open(&self) -> Result<Box<dyn Index>, IndexError> {
        Err(IndexError("it was in memory".to_owned()))
    }

    fn rebuild(&self, revision: Revision, state: &State) -> Result<Box<dyn Index>, IndexError> {
        Ok(Box::new(MemoryIndex(RwLock::new((revision, state.clone())))))
    }
}

const UNPOISONED: &str = "no code panics while it holds this lock";

impl Index for MemoryIndex {
    fn revision(&self) -> Result<Revision, IndexError> {
        Ok(self.0.read().expect(UNPOISONED).0)
    }

    fn get(&self, key: &str) -> Result<Option<Versioned>, IndexError> {
        Ok(self.0.read().expect(UNPOISONED).1.get(key).cloned())
    }

    fn page(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Entry>, IndexError> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let map = &self.0.read().expect(UNPOISONED).1;
        let entries = map.range::<str, _>((start, Bound::Unbounded));
        let entries = entries.take_while(|(key, _)| key.starts_with(prefix)).take(limit);
        let entry = |(key, Versioned { value, version }): (&String, &Versioned)| Entry {
            key: key.clone(),
            value: value.clone(),
            version: *version,
        };
        Ok(entries.map(entry).collect())
    }

    fn apply(&self, revision: Revision, changed: &Changed) -> Result<(), IndexError> {
        let mut inner = self.0.write().expect(UNPOISONED);
        inner.0 = revision;
        for (key, value) in changed {
            match value {
                Some(value) => inner.1.insert(key.clone(), value.clone()),
                None => inner.1.remove(key),
            };
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), IndexError> {
        Ok(())
    }
}
