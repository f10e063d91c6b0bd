//! How one would go back in an environment.

use landfall_common::Timestamp;
use landfall_common::printable::{each, line};
use landfall_proto::v1;
use serde::Serialize;

use super::{NextCommand, Rehearsal, Runs, moment};

/// How one would go back in an environment, as of a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Runbook {
    /// Of which application.
    pub application: String,
    /// In which environment.
    pub environment: String,
    /// When this was so.
    pub at: Option<Timestamp>,
    /// What is in force.
    pub in_force: Option<String>,
    /// Since when.
    pub in_force_since: Option<Timestamp>,
    /// By which rollout; empty before the first.
    pub in_force_rollout: String,
    /// At whose request; empty where that is not on record any more.
    pub in_force_by: String,
    /// What its hosts run, the most common first.
    pub runs: Vec<Runs>,
    /// What a rollback without a name does; absent where it is refused.
    pub way: Option<RunbookWay>,
    /// Why it is refused.
    pub refused: Option<String>,
    /// The other releases that were in force there, the newest first.
    pub others: Vec<RunbookRelease>,
    /// What no rollback takes back.
    pub stays: Vec<String>,
    /// What is the matter now.
    pub notes: Vec<String>,
    /// The last drill that ended well.
    pub rehearsed: Option<Rehearsal>,
    /// What to type where it is refused.
    pub instead: Vec<NextCommand>,
    /// What to type to begin it.
    pub begin: Vec<NextCommand>,
    /// What to type to watch it.
    pub watch: Vec<NextCommand>,
    /// What to type to see that it is done.
    pub verify: Vec<NextCommand>,
}

/// What a rollback without a name does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunbookWay {
    /// What runs in the end.
    pub to: String,
    /// When that came to be in force there last.
    pub proven: Option<Timestamp>,
    /// The rollout under way that turns; absent where one of its own begins.
    pub rollout: Option<String>,
    /// Whether that goes back already.
    pub goes_back: bool,
    /// Whether it is paused.
    pub paused: bool,
    /// The release whose migration is taken back first.
    pub down: Option<String>,
    /// What happens, in this order.
    pub steps: Vec<RunbookStep>,
    /// Which hosts change, in this order.
    pub batches: Vec<RunbookBatch>,
    /// How many hosts may be out at the same time.
    pub max_unavailable: u64,
}

/// One thing that happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunbookStep {
    /// As a sentence.
    pub what: String,
    /// What it consists of.
    pub detail: Vec<String>,
}

/// Hosts that change together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunbookBatch {
    /// Which.
    pub hosts: Vec<String>,
    /// What they have in common, such as `zone=a`; empty for no more than their turn.
    pub why: String,
}

/// Another release that was in force there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunbookRelease {
    /// Which.
    pub release: String,
    /// When it came to be so last.
    pub proven: Option<Timestamp>,
    /// Whether on every host.
    pub whole: bool,
    /// Why it cannot be gone back to; absent where it can.
    pub refused: Option<String>,
    /// Whether a migration would be taken back first.
    pub down: bool,
}

fn if_any(text: &str) -> Option<String> {
    Some(line(text)).filter(|text| !text.is_empty())
}

fn name(release: Option<v1::ReleaseRef>) -> Option<String> {
    release.map(|release| line(&release.name))
}

fn commands(all: Vec<v1::NextCommand>) -> Vec<NextCommand> {
    all.into_iter().map(NextCommand::from).collect()
}

impl From<v1::Runbook> for Runbook {
    fn from(book: v1::Runbook) -> Self {
        Self {
            application: line(&book.application),
            environment: line(&book.environment),
            at: moment(book.at_ms),
            in_force: name(book.in_force),
            in_force_since: moment(book.in_force_since_ms),
            in_force_rollout: line(&book.in_force_rollout),
            in_force_by: line(&book.in_force_by),
            runs: book.runs.into_iter().map(Runs::from).collect(),
            way: book.way.map(RunbookWay::from),
            refused: if_any(&book.refused),
            others: book.others.into_iter().map(RunbookRelease::from).collect(),
            stays: each(book.stays),
            notes: each(book.notes),
            rehearsed: book.rehearsed.map(Rehearsal::from),
            instead: commands(book.instead),
            begin: commands(book.begin),
            watch: commands(book.watch),
            verify: commands(book.verify),
        }
    }
}

impl From<v1::RunbookWay> for RunbookWay {
    fn from(way: v1::RunbookWay) -> Self {
        let step = |step: v1::RunbookStep| RunbookStep { what: line(&step.what), detail: each(step.detail) };
        let batch =
            |batch: v1::PlannedBatch| RunbookBatch { hosts: each(batch.hosts), why: line(&batch.why) };
        Self {
            to: name(way.to).unwrap_or_default(),
            proven: moment(way.proven_ms),
            rollout: if_any(&way.rollout),
            goes_back: way.goes_back,
            paused: way.paused,
            down: name(way.down),
            steps: way.steps.into_iter().map(step).collect(),
            batches: way.batches.into_iter().map(batch).collect(),
            max_unavailable: way.max_unavailable,
        }
    }
}

impl From<v1::RunbookRelease> for RunbookRelease {
    fn from(release: v1::RunbookRelease) -> Self {
        Self {
            proven: moment(release.proven_ms),
            whole: release.whole,
            refused: if_any(&release.refused),
            down: release.down,
            release: name(release.release).unwrap_or_default(),
        }
    }
}
