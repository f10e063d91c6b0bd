//! P9, the controller may be down: a host that hears nothing of it finishes what it was let do, or goes back from it, and
//! what ran before a loss of power runs again. None of that waits for the controller, and no expiry keeps it from that.

use std::collections::BTreeMap;

use landfall_common::HostId;
use landfall_common::report::{HostReport, Phase};

use super::{Checks, Violation};

/// By then a host has come to rest: each deadline that a release of these worlds sets is over, there and back.
pub const AT_REST_WITHIN_MS: u64 = 240_000;

/// Hosts that hear nothing of the controller.
#[derive(Debug, Default)]
pub struct ByItself {
    /// The agent's process, and since when, in the world's time, nothing but the release itself has kept it from getting on.
    since: BTreeMap<HostId, (u64, u64)>,
    /// How often one was looked at that had been by itself for long enough.
    pub looks: u64,
}

impl ByItself {
    /// It hears of the controller, or something else keeps it from getting on.
    pub fn is_over(&mut self, host: &HostId) {
        self.since.remove(host);
    }
}

impl Checks {
    /// A host says beside itself how it stands; `runs` is whether all services of what is active do, or what is wrong with
    /// them is the release.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn by_itself(
        &mut self,
        host: &HostId,
        (process, now): (u64, u64),
        report: &HostReport,
        runs: bool,
    ) -> Result<(), Violation> {
        let since = self.by_itself.since.entry(host.clone()).or_insert((process, now));
        if since.0 != process {
            *since = (process, now);
        }
        if now < since.1 + AT_REST_WITHIN_MS {
            return Ok(());
        }
        self.by_itself.looks += 1;
        let broken =
            |what: String| Err(Violation::new("P9", format!("{host} hears of no controller, and {what}")));
        match &report.phase {
            Phase::Activating { .. } | Phase::Proving { .. } | Phase::Undoing { .. } => {
                broken(format!("does not come to rest: {:?}", report.phase))
            }
            // What it lacks comes from the controller, and a migration has a lease of its own.
            Phase::Fetching { .. } | Phase::Preparing { .. } | Phase::Migrating => Ok(()),
            Phase::Idle if runs => Ok(()),
            Phase::Idle => broken(format!("does not run {:?}", report.active)),
        }
    }
}
