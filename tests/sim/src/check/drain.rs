//! P3, a drained host gets no requests: from the moment at which it says so until somebody says that it may have them
//! again, whatever its agent and its controller go through.

use std::collections::BTreeSet;

use landfall_common::HostId;
use landfall_common::report::{HostReport, Traffic};
use landfall_controller_core::State;
use landfall_controller_core::command::Action;

use super::{Checks, Violation};

/// Who is to get no requests, by what operators were answered.
#[derive(Debug, Clone, Default)]
pub struct Drained {
    asked: BTreeSet<HostId>,
    /// Those that have said that it is so.
    away: BTreeSet<HostId>,
}

impl Drained {
    /// Whether somebody has said so of a host.
    pub fn holds(&self, host: &HostId) -> bool {
        self.asked.contains(host)
    }

    /// A word was given and is durable.
    pub fn given(&mut self, action: &Action) {
        if let Action::Drain { hosts, .. } = action {
            self.asked.extend(hosts.iter().cloned());
        }
    }

    /// A word is about to be taken back; whether it is, only the answer tells.
    pub fn taken_back(&mut self, action: &Action) {
        match action {
            Action::Undrain { hosts, .. } => hosts.iter().for_each(|host| self.forget(host)),
            Action::Remove { host, .. } => self.forget(host),
            _ => {}
        }
    }

    fn forget(&mut self, host: &HostId) {
        self.asked.remove(host);
        self.away.remove(host);
    }

    /// What a process of the controller finds in its store: words whose answers died with the one before are among it.
    pub fn found(&mut self, state: &State) {
        let drained = state.all_hosts().filter(|host| host.record.drain.is_some());
        self.asked.extend(drained.map(|host| host.record.id.clone()));
    }
}

impl Checks {
    /// A host says whether requests are led to it.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn said_of_traffic(
        &mut self,
        host: &HostId,
        led_away: bool,
        report: &HostReport,
    ) -> Result<(), Violation> {
        if report.traffic != Traffic::Drained {
            return Ok(());
        }
        if !led_away {
            return Err(Violation::new(
                "P3",
                format!("{host} says that it is drained, and requests come to it"),
            ));
        }
        if self.drained.asked.contains(host) {
            self.drained.away.insert(host.clone());
        }
        Ok(())
    }

    /// Requests are led to a host again.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn led_back(&self, host: &HostId) -> Result<(), Violation> {
        if !self.drained.away.contains(host) {
            return Ok(());
        }
        Err(Violation::new("P3", format!("{host} is drained, and requests are led to it again")))
    }
}
