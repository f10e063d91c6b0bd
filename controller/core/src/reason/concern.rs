//! Which hosts a wait is about.

use landfall_common::HostId;

use super::Wait;

/// Whether a wait is about a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Concern {
    /// It names it.
    Named,
    /// It may be among those that it does not name.
    Perhaps,
    /// It is not.
    Not,
}

impl Wait {
    /// Whether it says why a host does not go on.
    pub(crate) fn concerns(&self, host: &HostId) -> Concern {
        let (named, more) = match self {
            Self::Host { host: one, .. }
            | Self::Stagger { host: one, .. }
            | Self::Migrating { host: one, .. }
            | Self::MigrationUnknown { host: one, .. }
            | Self::Converging { host: one, .. }
            | Self::NotConverged { host: one, .. }
            | Self::NoWay { host: one, .. } => (one == host, false),
            Self::Budget { waiting: hosts, .. }
            | Self::Window { waiting: hosts, .. }
            | Self::Group { waiting: hosts, .. }
            | Self::ReturnBatch { waiting: hosts, .. }
            | Self::Away { hosts, .. }
            | Self::ConvergenceStopped { hosts, .. }
            | Self::SchemaMoves { hosts, .. }
            | Self::Contract { hosts, .. }
            | Self::LeftAlone { hosts, .. }
            | Self::Requests { hosts, .. }
            | Self::Carried { hosts, .. }
            | Self::KeptAway { hosts, .. }
            | Self::ConvergenceHeld { hosts, .. } => (hosts.named.contains(host), hosts.more > 0),
            Self::Paused { .. }
            | Self::Canary { .. }
            | Self::Analysis { .. }
            | Self::Gate { .. }
            | Self::Limits { .. }
            | Self::Watch { .. }
            | Self::NoCandidate { .. }
            | Self::Unstored { .. }
            | Self::InLine { .. }
            | Self::InParts => (false, false),
        };
        match (named, more) {
            (true, _) => Concern::Named,
            (false, true) => Concern::Perhaps,
            (false, false) => Concern::Not,
        }
    }
}
