//! What the active release runs by and what lies beside its files: units of the host's systemd, programs of its
//! Supervisor, containers, slots, and the proxy that leads requests here.
//!
//! What must be is known to the engine ([`Standing`]). What is neither signed nor the agent's own, a host's
//! administrator keeps: what was *applied* of it is how it was when the release became active. That is [recorded](applied)
//! at the first look after it, and held against how it is now. Nothing is asked that changes anything.

pub mod applied;
pub mod units;

use landfall_agent_core::drift::{Finding, Remedy};
use landfall_common::report::HostReport;

use super::look::Interrupted;
use crate::engine::standing::Standing;

/// What was seen beside the release's files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// What is not as it was applied.
    pub findings: Vec<Finding>,
    /// What was not looked at, and why.
    pub notes: Vec<String>,
}

/// Looks at what is beside the release's files, and after it on an operator's word. Blocks.
pub trait Beside: Send + Sync {
    /// What differs. Between two questions it takes a `breath`, which says whether to go on.
    ///
    /// # Errors
    /// [`Interrupted`] by that.
    fn look(
        &self,
        report: &HostReport,
        standing: &Standing,
        breath: &mut dyn FnMut() -> bool,
    ) -> Result<Seen, Interrupted>;

    /// Puts something of a service right that can be without an interruption.
    ///
    /// # Errors
    /// Why it was not, as a sentence.
    fn mend(&self, standing: &Standing, remedy: &Remedy) -> Result<(), String>;
}
