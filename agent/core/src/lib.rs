//! The apply machine: every decision that an agent makes on its host, as a pure function over plain data.
//!
//! [`decide`] takes the machine, one event and the time, and returns the machine's next value and the
//! effects to carry out. The shell makes the next [`Record`] durable *before* it carries out any effect, so
//! that after a crash at any instant the record says what may have been begun. Every effect may be carried
//! out again: a restarted agent repeats the one that its record awaits ([`State::awaits`]). The one
//! exception is a migration, whose beginning is recorded and which is never begun twice (P7).
//!
//! What lives elsewhere: where the record is kept, what a directory is called, how a process is started.

pub mod accept;
pub mod backoff;
mod decide;
pub mod drift;
pub mod effect;
pub mod exposition;
pub mod judge;
pub mod outline;
pub mod placement;
pub mod plan;
pub mod record;
mod report;
pub mod state;

pub use accept::{Acceptance, Refusal};
pub use decide::{Output, decide};
pub use effect::{Effect, Event, Finish};
pub use judge::{Judge, Standing, Verdict};
pub use outline::Outline;
pub use placement::{Aim, Placement, Target};
pub use plan::Action;
pub use record::{Identity, Installed, Live, Machine, Record};
pub use state::{Activation, Job, Order, State, Terms};

use landfall_common::{Duration, Timestamp};

/// What time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The wall clock, which may step: only for expiry at acceptance, and for people.
    pub wall: Timestamp,
    /// Since the host booted, never stepping: for leases, windows and deadlines.
    pub mono: Duration,
}

/// The name of a step of the agent's own, as a failure or a phase shows it.
pub(crate) fn step(name: &str) -> landfall_common::StepName {
    let kept: String =
        name.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).take(63).collect();
    landfall_common::StepName::new(kept)
        .or_else(|_| landfall_common::StepName::new("step"))
        .expect("the word 'step' is a valid name")
}
