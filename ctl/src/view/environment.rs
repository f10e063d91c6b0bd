//! An environment of an application: one rollout at a time takes place in it.

use landfall_common::Timestamp;
use landfall_common::printable::line;
use landfall_proto::v1;
use serde::Serialize;

use super::moment;

/// An environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Environment {
    /// Of which application.
    pub application: String,
    /// Its name.
    pub environment: String,
    /// The release that its hosts should run.
    pub in_force: Option<String>,
    /// The rollout under way.
    pub rollout: Option<String>,
    /// The rollouts in line, the next one first.
    pub queue: Vec<String>,
    /// Who has claimed it.
    pub lock: Option<Lock>,
    /// The last drill that ended well.
    pub rehearsed: Option<Rehearsal>,
    /// Why no rollout may begin now, and until when: a window, or a freeze.
    pub closed: Option<Closed>,
    /// Why hosts are not where they should be, while no rollout is under way that says so.
    pub reasons: Vec<String>,
}

/// A way back that was rehearsed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rehearsal {
    /// The drill.
    pub rollout: String,
    /// The release that the canary took and gave back.
    pub release: String,
    /// The release that it is back on.
    pub back_to: String,
    /// When.
    pub at: Option<Timestamp>,
    /// On how many hosts.
    pub hosts: u64,
    /// How long the way there took, its proof included.
    pub there_ms: u64,
    /// How long the way back took, its proof included.
    pub back_ms: u64,
}

/// Outside of the release windows, or in a freeze.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Closed {
    /// As the end of a sentence about the environment.
    pub why: String,
    /// When a rollout may begin, if that is known.
    pub opens: Option<Timestamp>,
}

/// A claim on an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lock {
    /// Whose.
    pub by: String,
    /// What for.
    pub message: String,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Until when.
    pub until: Option<Timestamp>,
}

impl From<v1::Environment> for Environment {
    fn from(environment: v1::Environment) -> Self {
        Self {
            application: line(&environment.application),
            environment: line(&environment.environment),
            in_force: environment.in_force.map(|release| line(&release.name)),
            rollout: Some(line(&environment.rollout)).filter(|rollout| !rollout.is_empty()),
            queue: environment.queue.iter().map(|id| line(id)).collect(),
            lock: environment.lock.map(|lock| Lock {
                by: line(&lock.by),
                message: line(&lock.message),
                since: moment(lock.since_ms),
                until: moment(lock.until_ms),
            }),
            rehearsed: environment.rehearsed.map(Rehearsal::from),
            closed: environment
                .closed
                .map(|closed| Closed { why: line(&closed.why), opens: moment(closed.opens_ms) }),
            reasons: environment.reasons.iter().map(|reason| line(reason)).collect(),
        }
    }
}

impl From<v1::Rehearsal> for Rehearsal {
    fn from(rehearsal: v1::Rehearsal) -> Self {
        Self {
            rollout: line(&rehearsal.rollout),
            release: line(&rehearsal.release.unwrap_or_default().name),
            back_to: line(&rehearsal.back_to.unwrap_or_default().name),
            at: moment(rehearsal.at_ms),
            hosts: rehearsal.hosts,
            there_ms: rehearsal.there_ms,
            back_ms: rehearsal.back_ms,
        }
    }
}
