//! A rollout: its batches, its hosts, and how far they are.

use landfall_common::Timestamp;
use landfall_common::assignment::RestartKind;
use landfall_common::printable::{self, line};
use landfall_proto::v1;
use serde::Serialize;

use super::analysis::Analysis;
use super::gate::Gate;
use super::moment;

/// Where a rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the words are those of the controller's interface, documented there")]
pub enum Status {
    Unknown,
    Pending,
    Staging,
    Migrating,
    Running,
    Paused,
    Waiting,
    Watching,
    Contracting,
    RollingBack,
    Succeeded,
    Failed,
    RolledBack,
    Rehearsed,
    Aborted,
    Superseded,
}

impl Status {
    /// For people.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Pending => "pending",
            Self::Staging => "staging",
            Self::Migrating => "migrating",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Waiting => "waiting",
            Self::Watching => "watching",
            Self::Contracting => "contracting",
            Self::RollingBack => "rolling back",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::RolledBack => "rolled back",
            Self::Rehearsed => "rehearsed",
            Self::Aborted => "aborted",
            Self::Superseded => "superseded",
        }
    }

    /// Whether it stands still until somebody says something.
    #[must_use]
    pub fn waits_for_somebody(self) -> bool {
        matches!(self, Self::Paused | Self::Waiting)
    }

    /// Whether it is over.
    #[must_use]
    pub fn has_ended(self) -> bool {
        use Status::{Aborted, Failed, Rehearsed, RolledBack, Succeeded, Superseded};
        matches!(self, Succeeded | Failed | RolledBack | Rehearsed | Aborted | Superseded)
    }
}

impl From<v1::RolloutStatus> for Status {
    fn from(status: v1::RolloutStatus) -> Self {
        use v1::RolloutStatus as S;
        match status {
            S::Unspecified => Self::Unknown,
            S::Pending => Self::Pending,
            S::Staging => Self::Staging,
            S::Migrating => Self::Migrating,
            S::Running => Self::Running,
            S::Paused => Self::Paused,
            S::Waiting => Self::Waiting,
            S::Watching => Self::Watching,
            S::Contracting => Self::Contracting,
            S::RollingBack => Self::RollingBack,
            S::Succeeded => Self::Succeeded,
            S::Failed => Self::Failed,
            S::RolledBack => Self::RolledBack,
            S::Rehearsed => Self::Rehearsed,
            S::Aborted => Self::Aborted,
            S::Superseded => Self::Superseded,
        }
    }
}

/// A rollout.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rollout {
    /// Its id.
    pub id: String,
    /// Of which application.
    pub application: String,
    /// To which environment.
    pub environment: String,
    /// The release before.
    pub from: Option<String>,
    /// The release that it brings.
    pub to: String,
    /// The digest of that release's manifest.
    pub to_digest: String,
    /// Where it is.
    pub status: Status,
    /// What it waits for, or how it ended.
    pub reasons: Vec<String>,
    /// Its batches.
    pub batches: Vec<Batch>,
    /// Who began it.
    pub started_by: String,
    /// When.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// The commits that it brings.
    pub changes: Vec<String>,
    /// Whether it is a way back that somebody asked for.
    pub is_rollback: bool,
    /// Whether it has not begun: it stands in line.
    pub in_line: bool,
    /// Whether it is a drill.
    pub is_drill: bool,
    /// What is restarted or reloaded; none of one that brings a release.
    pub restart: Option<Restart>,
    /// The migration's state; empty when there is none.
    pub migration: String,
    /// How its canary does beside the hosts on the release before, while that is compared.
    pub analysis: Option<Analysis>,
    /// Who must say yes before it begins, and who has; none where nobody must.
    pub approvals: Option<Approvals>,
    /// Hosts of its environment that have no part in it, by an operator's word.
    pub left_out: Vec<LeftOut>,
    /// What others must open before certain batches; none once it has ended.
    pub gates: Vec<Gate>,
}

/// What a rollout does that brings nothing: the same release goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restart {
    /// `restart` or `reload`.
    pub kind: RestartKind,
    /// Which services.
    pub services: Vec<String>,
    /// Why.
    pub reason: String,
}

impl From<v1::Restart> for Restart {
    fn from(restart: v1::Restart) -> Self {
        let kind = match restart.kind() {
            v1::RestartKind::Reload => RestartKind::Reload,
            v1::RestartKind::Restart | v1::RestartKind::Unspecified => RestartKind::Restart,
        };
        Self { kind, services: printable::each(restart.services), reason: line(&restart.reason) }
    }
}

impl Restart {
    /// `web, worker`.
    #[must_use]
    pub fn names(&self) -> String {
        self.services.join(", ")
    }

    /// `web was restarted`.
    #[must_use]
    pub fn done(&self) -> String {
        let were = if self.services.len() == 1 { "was" } else { "were" };
        format!("{} {were} {}", self.names(), self.kind.done())
    }
}

/// Yes by others than the one who asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Approvals {
    /// By how many people.
    pub needed: u32,
    /// Those that were given.
    pub given: Vec<Approval>,
    /// Names what is approved; empty once it has begun.
    pub content: String,
    /// What was asked for otherwise than the release says.
    pub terms: Vec<String>,
}

/// Somebody's yes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Approval {
    /// Whose.
    pub by: String,
    /// When.
    pub at: Option<Timestamp>,
    /// Why.
    pub reason: String,
}

impl From<v1::RolloutApprovals> for Approvals {
    fn from(approvals: v1::RolloutApprovals) -> Self {
        let given = approvals.given.into_iter().map(|approval| Approval {
            by: line(&approval.by),
            at: moment(approval.at_ms),
            reason: line(&approval.reason),
        });
        Self {
            needed: approvals.needed,
            given: given.collect(),
            content: approvals.content,
            terms: printable::each(approvals.terms),
        }
    }
}

/// A host that has no part in a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// The host.
    pub host: String,
    /// `excluded` or `cordoned`.
    pub how: String,
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Whether the release is, or may have been, active on it because of the rollout.
    pub touched: bool,
}

/// Hosts that change together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Batch {
    /// From 1, as reasons and the log call it.
    pub number: u32,
    /// Whether it is the canary.
    pub canary: bool,
    /// Which of two groups of hosts it is, such as `color=blue`; empty where hosts do not change by two groups.
    pub group: String,
    /// The hosts.
    pub hosts: Vec<HostState>,
}

/// How far a host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the words are those of the controller's interface, documented there")]
pub enum Progress {
    Unknown,
    Pending,
    Staging,
    Staged,
    Activating,
    Proving,
    Committed,
    Reverted,
    Failed,
    RollingBack,
    RolledBack,
}

impl Progress {
    /// For people.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Pending => "pending",
            Self::Staging => "staging",
            Self::Staged => "staged",
            Self::Activating => "activating",
            Self::Proving => "proving",
            Self::Committed => "ok",
            Self::Reverted => "reverted",
            Self::Failed => "failed",
            Self::RollingBack => "rolling back",
            Self::RolledBack => "rolled back",
        }
    }
}

impl From<v1::HostProgress> for Progress {
    fn from(progress: v1::HostProgress) -> Self {
        use v1::HostProgress as P;
        match progress {
            P::Unspecified => Self::Unknown,
            P::Pending => Self::Pending,
            P::Staging => Self::Staging,
            P::Staged => Self::Staged,
            P::Activating => Self::Activating,
            P::Proving => Self::Proving,
            P::Committed => Self::Committed,
            P::Reverted => Self::Reverted,
            P::Failed => Self::Failed,
            P::RollingBack => Self::RollingBack,
            P::RolledBack => Self::RolledBack,
        }
    }
}

/// A host of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostState {
    /// Its id.
    pub host: String,
    /// How far it is.
    pub progress: Progress,
    /// What it does or waits for.
    pub detail: String,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// While it fetches: the bytes that are there.
    pub done_bytes: u64,
    /// While it fetches: the bytes that it lacked in all.
    pub total_bytes: u64,
    /// Whether the release is, or may have been, active on it because of the rollout.
    pub touched: bool,
}

/// What a person needs to know of a failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The step or check.
    pub step: String,
    /// What happened.
    pub reason: String,
    /// The exit code, where a process exited.
    pub exit_code: Option<i32>,
    /// The last lines of its output.
    pub tail: Vec<String>,
}

impl Failure {
    /// Whether the host's agent does not know all that the release asks for.
    #[must_use]
    pub fn is_of_an_older_agent(&self) -> bool {
        // The first is what agents of 0.1 say, and no more than that.
        let words = ["manifest cannot be read: unknown", "manifest is made for a newer version"];
        self.step == "fetch" && words.iter().any(|words| self.reason.contains(words))
    }
}

impl From<v1::Failure> for Failure {
    fn from(failure: v1::Failure) -> Self {
        let v1::Failure { step, reason, exit_code, tail } = failure;
        Self { step: line(&step), reason: line(&reason), exit_code, tail: printable::each(tail) }
    }
}

impl Rollout {
    /// Whether it stands still until somebody says something. Those whom the controller asks by itself are nobody to wait
    /// for.
    #[must_use]
    pub fn waits_for_somebody(&self) -> bool {
        let mut asked = self.gates.iter().filter(|gate| gate.asked.is_some()).peekable();
        match self.status {
            Status::Waiting if asked.peek().is_some() => asked.any(Gate::waits_for_somebody),
            status => status.waits_for_somebody(),
        }
    }
}

impl From<v1::Rollout> for Rollout {
    fn from(rollout: v1::Rollout) -> Self {
        let status = rollout.status().into();
        let host = |host: v1::RolloutHost| HostState {
            progress: host.progress().into(),
            host: line(&host.host),
            detail: line(&host.detail),
            done_bytes: host.done_bytes,
            total_bytes: host.total_bytes,
            failure: host.failure.map(Failure::from),
            touched: host.touched,
        };
        let batch = |(at, batch): (u32, v1::RolloutBatch)| Batch {
            // An earlier controller does not say it.
            number: if batch.number == 0 { at } else { batch.number },
            canary: batch.canary,
            group: line(&batch.group),
            hosts: batch.hosts.into_iter().map(host).collect(),
        };
        let left_out = |host: v1::LeftOutHost| LeftOut {
            host: line(&host.host),
            how: line(&host.how),
            by: line(&host.by),
            reason: line(&host.reason),
            since: moment(host.since_ms),
            touched: host.touched,
        };
        let to = rollout.to.unwrap_or_default();
        Self {
            id: rollout.id,
            application: rollout.application,
            environment: rollout.environment,
            from: rollout.from.map(|release| release.name),
            to: to.name,
            to_digest: to.digest,
            status,
            reasons: printable::each(rollout.reasons),
            batches: (1..).zip(rollout.batches).map(batch).collect(),
            started_by: line(&rollout.started_by),
            started: moment(rollout.started_ms),
            ended: moment(rollout.ended_ms),
            changes: printable::each(rollout.changes),
            is_rollback: rollout.is_rollback,
            in_line: rollout.in_line,
            is_drill: rollout.is_drill,
            restart: rollout.restart.map(Restart::from),
            migration: line(&rollout.migration),
            analysis: rollout.analysis.map(Analysis::from),
            approvals: rollout.approvals.map(Approvals::from),
            left_out: rollout.left_out.into_iter().map(left_out).collect(),
            gates: rollout.gates.into_iter().map(Gate::from).collect(),
        }
    }
}

impl Rollout {
    /// Whether no host was asked to run the release.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.hosts().all(|(_, host)| !host.touched)
    }

    /// Every host, with the number of its batch from 1.
    pub fn hosts(&self) -> impl Iterator<Item = (usize, &HostState)> {
        self.batches
            .iter()
            .enumerate()
            .flat_map(|(index, batch)| batch.hosts.iter().map(move |h| (index + 1, h)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_host_says_cannot_steer_the_terminal_of_whoever_reads_it() {
        let hostile = || "no\u{1b}[2J\nsucceeded: all is well".to_owned();
        let failure =
            v1::Failure { step: hostile(), reason: hostile(), exit_code: None, tail: vec![hostile()] };
        let host = v1::RolloutHost {
            host: "web-1".to_owned(),
            detail: hostile(),
            failure: Some(failure),
            ..v1::RolloutHost::default()
        };
        let batch = v1::RolloutBatch { hosts: vec![host], ..v1::RolloutBatch::default() };
        let rollout = Rollout::from(v1::Rollout {
            reasons: vec![hostile()],
            migration: hostile(),
            changes: vec![hostile()],
            started_by: hostile(),
            batches: vec![batch],
            ..v1::Rollout::default()
        });
        let shown = format!("{rollout:?}");
        assert_eq!(shown.matches(r"no\\u{1b}[2J\\u{a}succeeded").count(), 8, "{shown}");
        let (_, host) = rollout.hosts().next().unwrap();
        assert!(!host.detail.contains(['\u{1b}', '\n']));
    }
}
