//! How a wait can be ended by a word.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What somebody may type who does not want to wait for a rollout any longer. Nobody is told to type what is refused a
/// moment later.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WayOut {
    /// The release before is put back.
    #[default]
    Back,
    /// There is no way back: every host stays with what it runs.
    Stay,
    /// Nobody knows what became of a migration: that comes before all else.
    Resolve,
    /// It is a restart: the hosts that were not restarted yet are not.
    Others,
}

impl fmt::Display for WayOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Back => "`ctl rollback` goes back",
            Self::Stay => "`ctl abort` leaves the hosts as they are",
            Self::Resolve => "`ctl migration resolve` says what became of the migration",
            Self::Others => "`ctl abort` leaves the others as they are",
        })
    }
}
