//! The index: keys to values, quick to read, and never the truth.
//!
//! The journal is. So an index may lose everything at any time; the store compares it when it opens, and
//! builds it anew from the journal if anything differs.

mod memory;
mod sled;

use std::collections::BTreeMap;

use super::codec::State;
use super::{Entry, Revision, Versioned};

pub use self::memory::MemoryIndex;
pub use self::sled::SledIndex;

/// An index failed; whatever it holds is worthless from then on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct IndexError(pub String);

/// What a group of commits leaves: per key the new value, or none.
pub type Changed = BTreeMap<String, Option<Versioned>>;

/// Keys to values. One thread writes at a time and none reads meanwhile.
pub trait Index: Send + Sync {
    /// The last commit that is in it.
    ///
    /// # Errors
    /// [`IndexError`].
    fn revision(&self) -> Result<Revision, IndexError>;

    /// The value of a key.
    ///
    /// # Errors
    /// [`IndexError`].
    fn get(&self, key: &str) -> Result<Option<Versioned>, IndexError>;

    /// At most `limit` entries whose key begins with `prefix` and comes after `after`, in order.
    ///
    /// # Errors
    /// [`IndexError`].
    fn page(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Entry>, IndexError>;

    /// Takes the effect of commits up to `revision`.
    ///
    /// # Errors
    /// [`IndexError`].
    fn apply(&self, revision: Revision, changed: &Changed) -> Result<(), IndexError>;

    /// Writes out what is only in memory, before a clean stop.
    ///
    /// # Errors
    /// [`IndexError`].
    fn flush(&self) -> Result<(), IndexError>;
}

/// Where an index comes from.
pub trait IndexSource: Send + Sync {
    /// Opens what an earlier run left. Only called after a clean stop.
    ///
    /// # Errors
    /// [`IndexError`] if nothing usable is there.
    fn open(&self) -> Result<Box<dyn Index>, IndexError>;

    /// Throws away whatever is there and makes an index that holds exactly this.
    ///
    /// # Errors
    /// [`IndexError`].
    fn rebuild(&self, revision: Revision, state: &State) -> Result<Box<dyn Index>, IndexError>;
}

/// Why an index is not what the journal says, if it is not.
pub(super) fn difference(
    index: &dyn Index,
    revision: Revision,
    state: &State,
) -> Result<Option<String>, IndexError> {
    let found = index.revision()?;
    if found != revision {
        return Ok(Some(format!("it is at revision {found}, the journal at {revision}")));
    }
    let mut expected = state.iter();
    let mut after: Option<String> = None;
    loop {
        let page = index.page("", after.as_deref(), PAGE)?;
        for entry in &page {
            let same = expected.next().is_some_and(|(key, value)| {
                *key == entry.key && value.value == entry.value && value.version == entry.version
            });
            if !same {
                return Ok(Some(format!("{} is not what the journal says", entry.key)));
            }
        }
        match page.last() {
            Some(last) => after = Some(last.key.clone()),
            None => return Ok(expected.next().map(|(key, _)| format!("{key} is missing"))),
        }
    }
}

/// Entries per step where everything is read.
pub(super) const PAGE: usize = 1000;
