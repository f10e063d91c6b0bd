//! What a decision consists of, and what it asks the shell to do.

use landfall_common::Timestamp;
use landfall_common::assignment::Assignment;
use landfall_common::{HostId, RolloutId};

use crate::command::Answer;
use crate::log::NewEntry;
use crate::reason::PlanningReport;
use crate::record::Change;
use crate::rollout::End;

/// A decision. The shell makes `changes` and `log` durable in one commit, then applies `changes` to the
/// state, then carries `effects` out. If the commit fails it drops the whole value: nothing has happened.
#[must_use = "a decision that is not committed has not happened"]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// To the durable records; at most one for each key.
    pub changes: Vec<Change>,
    /// What happened, in this order.
    pub log: Vec<NewEntry>,
    /// What to do once both are durable.
    pub effects: Vec<Effect>,
}

impl Output {
    /// Whether there is nothing to commit and nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.log.is_empty() && self.effects.is_empty()
    }
}

/// The answer to a command, with the decision behind it.
#[must_use = "a decision that is not committed has not happened"]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// For who asked.
    pub answer: Answer,
    /// Empty if the same request was answered before.
    pub output: Output,
}

/// One run of the planner.
#[must_use = "a decision that is not committed has not happened"]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Planned {
    /// What is decided.
    pub output: Output,
    /// Why it does not go on, place by place.
    pub report: PlanningReport,
    /// Plan again at this moment at the latest, whatever happens. `None`: only when something happens.
    pub wake_at: Option<Timestamp>,
}

/// What the shell is asked to do once a decision is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Sign the assignment and send it to its host, if that is connected. Whatever gets lost is found again
    /// through [`crate::State::pending`].
    Send {
        /// To which host.
        host: HostId,
        /// What.
        assignment: Box<Assignment>,
    },
    /// A rollout has ended: tell whoever wants to know.
    Ended {
        /// Which.
        rollout: RolloutId,
        /// How.
        end: End,
    },
}
