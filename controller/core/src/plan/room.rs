//! How much one decision may hold. A decision is one commit, and the store takes commits up to a size: what
//! does not fit is decided in the next run, which follows at once.

use landfall_common::canonical;
use landfall_common::report::Failure;

use crate::member::Member;

/// Of so many hosts at most: each makes five changes at most (its part in the rollout, what is asked of it, and
/// an entry of the log with its leaf and a node of the tree), and the store takes 32,768.
const HOSTS: usize = 4_000;

/// So many bytes of what hosts said of their failures at most: they are in the records of hosts and in the
/// entries of the log. The store takes 32 MiB, and each host has some 3 KiB beside them.
const BYTES: usize = 8 << 20;

/// What still fits into the decision, whatever the place.
pub(super) struct Room {
    hosts: usize,
    bytes: usize,
}

impl Room {
    pub fn of_a_commit() -> Self {
        Self { hosts: HOSTS, bytes: BYTES }
    }

    /// Takes all of it, for a decision that may concern every host of a place.
    pub fn take_whole(&mut self) {
        self.hosts = 0;
    }

    /// Takes the room for one more host with so many bytes; whether there was any.
    #[must_use]
    pub fn take(&mut self, bytes: usize) -> bool {
        // One fits always, whatever it says.
        if self.hosts == 0 || (bytes > self.bytes && self.hosts < HOSTS) {
            return false;
        }
        self.hosts -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
        true
    }
}

/// How many bytes a member's failures take in its record.
pub(super) fn weight(member: &Member) -> usize {
    [&member.failure, &member.return_failure].into_iter().flatten().map(weight_of).sum()
}

/// How many bytes a failure takes in a record.
pub(super) fn weight_of(failure: &Failure) -> usize {
    canonical::to_vec(failure).map_or(0, |bytes| bytes.len())
}
