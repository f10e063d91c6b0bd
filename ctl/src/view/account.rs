//! Why a rollout or a host is as it is.

use landfall_common::Timestamp;
use landfall_common::printable::{each, line};
use landfall_proto::v1;
use serde::Serialize;

use super::{Failure, Host, Rollout, moment};

/// One account.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Account {
    /// Of a rollout.
    Rollout(Box<RolloutAccount>),
    /// Of a host.
    Host(Box<HostAccount>),
}

/// Why a rollout is where it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RolloutAccount {
    /// The rollout.
    pub rollout: Rollout,
    /// Since when it has its status, or was resumed.
    pub since: Option<Timestamp>,
    /// All that is awaited, the most telling first.
    pub waits: Vec<String>,
    /// What follows by itself, the next first.
    pub deadlines: Vec<Deadline>,
    /// What failed first.
    pub first_failure: Option<FirstFailure>,
    /// On how many other hosts something failed.
    pub failed_besides: u64,
    /// What the hosts of its environment run.
    pub runs: Vec<Runs>,
    /// What can be typed.
    pub next: Vec<NextCommand>,
}

/// A moment at which something follows by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deadline {
    /// What ends.
    pub name: String,
    /// The host that it is about; empty for the whole rollout.
    pub host: String,
    /// When.
    pub at: Option<Timestamp>,
    /// What follows.
    pub then: String,
}

/// What failed first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FirstFailure {
    /// On which host.
    pub host: String,
    /// When, where it is known.
    pub at: Option<Timestamp>,
    /// What.
    pub failure: Failure,
}

/// Hosts that run the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Runs {
    /// The release; empty for none.
    pub release: String,
    /// Whether it was proven there.
    pub proven: bool,
    /// The hosts.
    pub hosts: Vec<String>,
    /// How many of them say so now.
    pub fresh: u64,
}

/// What can be typed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NextCommand {
    /// The command.
    pub command: String,
    /// What it does.
    pub does: String,
}

/// Why a host is as it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HostAccount {
    /// The host.
    pub host: Host,
    /// What it should run; absent where nobody but an operator can say.
    pub should_run: Option<String>,
    /// Why.
    pub should_why: String,
    /// The rollout in which it has a part, under way or the last one; empty if it has none.
    pub rollout: String,
    /// Its batch in it, from 1.
    pub batch: u32,
    /// Of how many.
    pub batches: u32,
    /// Whether that rollout has ended.
    pub rollout_ended: bool,
    /// What is awaited of it, or what it waits for.
    pub waits: Vec<String>,
    /// What follows by itself, the next first.
    pub deadlines: Vec<Deadline>,
    /// What it was asked last.
    pub asked: Option<LastOrder>,
    /// What failed on it last.
    pub failed: Option<LastFailure>,
    /// What can be typed.
    pub next: Vec<NextCommand>,
}

/// What a host was asked last, and how it answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastOrder {
    /// What.
    pub what: String,
    /// By which assignment.
    pub generation: u64,
    /// When.
    pub at: Option<Timestamp>,
    /// For which rollout.
    pub rollout: String,
    /// How it answered.
    pub answer: String,
}

/// What failed on a host last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastFailure {
    /// Of which release.
    pub release: String,
    /// When, where it is known.
    pub at: Option<Timestamp>,
    /// Whether the host still does not run that release.
    pub current: bool,
    /// What.
    pub failure: Failure,
}

impl From<v1::Deadline> for Deadline {
    fn from(deadline: v1::Deadline) -> Self {
        Self {
            name: line(&deadline.name),
            host: line(&deadline.host),
            at: moment(deadline.at_ms),
            then: line(&deadline.then),
        }
    }
}

impl From<v1::ReleaseOnHosts> for Runs {
    fn from(runs: v1::ReleaseOnHosts) -> Self {
        Self { release: line(&runs.release), proven: runs.proven, hosts: each(runs.hosts), fresh: runs.fresh }
    }
}

impl From<v1::NextCommand> for NextCommand {
    fn from(next: v1::NextCommand) -> Self {
        Self { command: line(&next.command), does: line(&next.does) }
    }
}

impl From<v1::RolloutAccount> for RolloutAccount {
    fn from(account: v1::RolloutAccount) -> Self {
        Self {
            rollout: account.rollout.unwrap_or_default().into(),
            since: moment(account.since_ms),
            waits: each(account.waits),
            deadlines: account.deadlines.into_iter().map(Deadline::from).collect(),
            first_failure: account.first_failure.map(|first| FirstFailure {
                host: line(&first.host),
                at: moment(first.at_ms),
                failure: first.failure.unwrap_or_default().into(),
            }),
            failed_besides: account.failed_besides,
            runs: account.runs.into_iter().map(Runs::from).collect(),
            next: account.next.into_iter().map(NextCommand::from).collect(),
        }
    }
}

impl From<v1::HostAccount> for HostAccount {
    fn from(account: v1::HostAccount) -> Self {
        Self {
            host: account.host.unwrap_or_default().into(),
            should_run: account.should_run.map(|release| line(&release.name)),
            should_why: line(&account.should_why),
            rollout: line(&account.rollout),
            batch: account.batch,
            batches: account.batches,
            rollout_ended: account.rollout_ended,
            waits: each(account.waits),
            deadlines: account.deadlines.into_iter().map(Deadline::from).collect(),
            asked: account.asked.map(|asked| LastOrder {
                what: line(&asked.what),
                generation: asked.generation,
                at: moment(asked.at_ms),
                rollout: line(&asked.rollout),
                answer: line(&asked.answer),
            }),
            failed: account.failed.map(|failed| LastFailure {
                release: line(&failed.release),
                at: moment(failed.at_ms),
                current: failed.current,
                failure: failed.failure.unwrap_or_default().into(),
            }),
            next: account.next.into_iter().map(NextCommand::from).collect(),
        }
    }
}
