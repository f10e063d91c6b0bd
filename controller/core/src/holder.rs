//! The rollout that holds a place, as whoever would like to have it is told.

use std::fmt;

use landfall_common::{ReleaseName, RolloutId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::gate;
use crate::refusal::moment;
use crate::rollout::{MigrationRun, Promotion, Rollout, RolloutKind, Stage, Status, StatusWord};

/// Who holds a place, since when, how far that is, and why it does not go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Which rollout.
    pub rollout: RolloutId,
    /// What it brings.
    pub release: ReleaseName,
    /// What it does instead of bringing a release: `restart of web`, `drill`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub does: Option<String>,
    /// Who began it.
    pub by: String,
    /// When.
    pub since: Timestamp,
    /// How far it is.
    pub status: StatusWord,
    /// Where it is, as the end of a sentence after the status: `batch 2 of 5`. May be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub at: String,
    /// Why it is paused or goes back. May be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// What makes room.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ends: String,
}

impl Holder {
    /// Of a rollout that has begun and not ended.
    #[must_use]
    pub fn of(rollout: &Rollout) -> Self {
        let does = match (&rollout.restart, rollout.kind) {
            (Some(restart), _) => Some(restart.to_string()),
            (None, RolloutKind::Drill) => Some("drill".to_owned()),
            (None, RolloutKind::Rollback) => Some("rollback".to_owned()),
            (None, RolloutKind::Forward | RolloutKind::Restart) => None,
        };
        let (id, word) = (&rollout.id, rollout.status.word());
        let in_doubt = rollout.status.stage().and_then(Stage::migration).and_then(MigrationRun::in_doubt);
        let ends = match word {
            _ if in_doubt.is_some() => format!("`ctl migration resolve {id}` comes first"),
            // It has changed all that it will.
            StatusWord::Watching => format!("`ctl promote {id}` ends its watch"),
            _ => format!("`ctl abort {id}` ends that one"),
        };
        let (at, why) = match &rollout.status {
            Status::Active { .. } if in_doubt.is_some() => {
                ("for somebody to say what became of its migration".to_owned(), String::new())
            }
            Status::Paused { reason, by, .. } => (format!("by {by}"), reason.clone()),
            Status::Active { stage: Stage::RollingBack { reason, .. } } => (String::new(), reason.clone()),
            Status::Active { stage } => (at(rollout, stage), String::new()),
            Status::Ended { .. } => (String::new(), String::new()),
        };
        Self {
            rollout: rollout.id.clone(),
            release: rollout.release.name.clone(),
            does,
            by: rollout.by.to_string(),
            since: rollout.began_at(),
            status: word,
            at,
            why,
            ends,
        }
    }

    /// A sentence of its own about why it does not go on.
    pub(crate) fn reason(&self) -> String {
        match self.status {
            _ if self.why.is_empty() => String::new(),
            status => format!(". It is {status}, since: {}", self.why),
        }
    }
}

/// `rollout r-8 of v2, begun by anna at 2027-01-15 08:00:41 UTC and now running batch 2 of 5`.
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rollout {} of {}", self.rollout, self.release)?;
        if let Some(does) = &self.does {
            write!(f, " ({does})")?;
        }
        write!(f, ", begun by {} at {} and now {}", self.by, moment(self.since), self.status)?;
        if self.at.is_empty() { Ok(()) } else { write!(f, " {}", self.at) }
    }
}

fn at(rollout: &Rollout, stage: &Stage) -> String {
    match stage {
        Stage::Running { batch } => format!("batch {batch} of {}", rollout.batches),
        Stage::Canary { promotion: Promotion::Awaited } => "to be promoted".to_owned(),
        Stage::Canary { .. } => "its canary".to_owned(),
        Stage::Gated { at } => format!("for the gates before {}", gate::what_waits(at.next, rollout.batches)),
        Stage::Switching => "its change of requests to the other group".to_owned(),
        Stage::Contracting { run: MigrationRun::Electing { .. } } => "to contract the schema".to_owned(),
        Stage::InLine { .. }
        | Stage::Staging
        | Stage::Migrating { .. }
        | Stage::Watching { .. }
        | Stage::Contracting { .. }
        | Stage::RollingBack { .. } => String::new(),
    }
}
