//! What the controller asks of one host: the body of the signed assignment.
//!
//! An assignment chooses among signed releases and sets enumerated values. It never carries an argv, an
//! environment variable or a path, so that a controller that was taken over cannot run code (P1).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::Sha256;
use crate::ids::{AppName, EnvName, Generation, HostId, ReleaseCounter, ReleaseName, RolloutId, ServiceName};
use crate::time::{Duration, Timestamp, duration_ms};

/// The `_type` of the signed document.
pub const ASSIGNMENT_TYPE: &str = "landfall-assignment";

/// The longest time within which a release may have to be proven on a host. Longer than any real one, and short
/// enough that a host does not stand between two releases for ever.
pub const MAX_HEALTHY_DEADLINE: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest lease of a migration.
pub const MAX_LEASE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A release as the release repository lists it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRef {
    /// Its name.
    pub name: ReleaseName,
    /// Its position in the sequence of its application.
    pub counter: ReleaseCounter,
    /// The digest of its manifest.
    pub digest: Sha256,
    /// The size of its manifest in bytes.
    pub length: u64,
}

/// The body of an assignment, valid for one host and for a short time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assignment {
    /// The only host that may take it.
    pub host: HostId,
    /// Must be the application that the host was enrolled for.
    pub application: AppName,
    /// Must be the environment that the host was enrolled for.
    pub environment: EnvName,
    /// Must be greater than that of any assignment the host has accepted.
    pub generation: Generation,
    /// When it was signed.
    pub issued_at: Timestamp,
    /// After this it is not accepted any more. Work that was begun before goes on.
    pub expires_at: Timestamp,
    /// The rollout it belongs to.
    pub rollout: RolloutId,
    /// The release it is about.
    pub release: ReleaseRef,
    /// What to do with it.
    pub order: Order,
}

/// What to do with a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// Fetch, verify, unpack and prepare it; touch nothing that runs.
    Stage,
    /// Run its migration, once, ending before the lease does.
    Migrate {
        /// The fencing number of the lease; grows with each lease of the environment.
        fence: u64,
        /// Counted on the host's monotonic clock from when it accepts the assignment; above 0, at most
        /// [`MAX_LEASE`].
        #[serde(rename = "lease_ms", with = "duration_ms")]
        lease: Duration,
        /// Forward, or the way back.
        direction: Direction,
    },
    /// Make it the active release, prove it, commit it or undo it.
    Activate {
        /// What happens on this host if it cannot be proven.
        on_failure: OnFailure,
        /// How long it must be healthy without a break; shorter than the deadline.
        #[serde(rename = "min_healthy_ms", with = "duration_ms")]
        min_healthy: Duration,
        /// Within this it must be proven; at most [`MAX_HEALTHY_DEADLINE`].
        #[serde(rename = "healthy_deadline_ms", with = "duration_ms")]
        healthy_deadline: Duration,
    },
    /// Restart or reload services of the active release, which must be this one, and prove it once more. An agent that
    /// takes this order says so ([`HostReport::restarts`](crate::report::HostReport::restarts)).
    Restart {
        /// Which of the two.
        kind: RestartKind,
        /// Which services, by their names in the manifest; those that this host does not run are passed over.
        services: BTreeSet<ServiceName>,
        /// How long it must be healthy without a break; shorter than the deadline.
        #[serde(rename = "min_healthy_ms", with = "duration_ms")]
        min_healthy: Duration,
        /// Within this it must be proven; at most [`MAX_HEALTHY_DEADLINE`].
        #[serde(rename = "healthy_deadline_ms", with = "duration_ms")]
        healthy_deadline: Duration,
    },
    /// Lead requests away from this host, by the gate of the active release, which must be this one; or back to it, once
    /// it is healthy. Nothing that runs is touched, and it outlives a restart of the agent. An agent that takes this order
    /// says so ([`HostReport::traffic`](crate::report::HostReport::traffic)).
    Drain {
        /// Away, or back.
        away: bool,
    },
}

impl Order {
    /// Whether it changes what serves: a host that was given it counts as out until it has answered.
    #[must_use]
    pub fn takes_out(&self) -> bool {
        matches!(self, Self::Activate { .. } | Self::Restart { .. })
    }
}

/// What is done to services that go on with the same release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartKind {
    /// Each of their processes is replaced by a new one.
    Restart,
    /// They reload by themselves, as their definition says it.
    Reload,
}

impl RestartKind {
    /// The verb: `restart`, `reload`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Reload => "reload",
        }
    }

    /// What was done: `restarted`, `reloaded`.
    #[must_use]
    pub fn done(self) -> &'static str {
        match self {
            Self::Restart => "restarted",
            Self::Reload => "reloaded",
        }
    }
}

/// Which of a migration's steps runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The migration of the release.
    Up,
    /// Its way back, where it is reversible.
    Down,
    /// The `contract` of the release, after the last host.
    Contract,
}

/// What a host does with a release that it cannot prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Puts the release before back, by itself.
    Revert,
    /// Leaves things as they are and says so: going back is not safe for the schema (P7).
    Hold,
}
