//! A rollout and its status: the state machine, as data.
//!
//! `Staging → Migrating → Running → ended`, and from each a way into `RollingBack`, `Paused` and the ends.
//! What a stage needs to know it carries; there is no field that only some stages use.

use std::collections::BTreeSet;
use std::fmt;

use landfall_common::assignment::{Direction, ReleaseRef};
use landfall_common::report::Failure;
use landfall_common::strategy::{CanaryAnalysis, Limits, Strategy};
use landfall_common::time::duration_ms;
use landfall_common::{Duration, Generation, HostId, RolloutId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::approval::Approval;
use crate::command::RollRequest;
use crate::contract::Contract;
use crate::gate::AtGates;
use crate::groups::Groups;
use crate::log::Actor;
use crate::record::{MigrationFacts, Place};
use crate::restart::Restart;

/// The act of bringing one release to one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// Its name.
    pub id: RolloutId,
    /// Where.
    pub place: Place,
    /// Forward, or back by hand.
    pub kind: RolloutKind,
    /// What is brought.
    pub release: ReleaseRef,
    /// What was in force before, and would be again.
    pub previous: Option<ReleaseRef>,
    /// With which knobs.
    pub strategy: Strategy,
    /// At whose request.
    pub by: Actor,
    /// When.
    pub requested_at: Timestamp,
    /// When its turn came, where it stood in line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn_came_at: Option<Timestamp>,
    /// When somebody let it go on after a pause, if it was ever paused: deadlines begin anew then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed_at: Option<Timestamp>,
    /// Who has approved it, where that was needed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<Approval>,
    /// The two groups that it changes one after the other, with requests led to the other one; none of a rollout that
    /// leaves requests where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Groups>,
    /// How many batches there are; each [`crate::member::Member`] knows its own.
    pub batches: u32,
    /// What stands between the database and the release.
    pub schema: Schema,
    /// What it takes away in the end, where its release does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract: Option<Contract>,
    /// How far it is.
    pub status: Status,
    /// Since when it has this status, or was resumed.
    pub since: Timestamp,
    /// How long the way there took, of a drill that is proven there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub there: Option<Duration>,
    /// Once it has ended: which hosts of its place were left out, and by whose word. Empty if none was.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub left_out: String,
    /// What is restarted or reloaded, if that is what it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
}

/// Which way a rollout goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutKind {
    /// To a release that was not in force here.
    Forward,
    /// By hand, to a release that was proven here: no canary.
    Rollback,
    /// To another release and back again, on the canary alone: a rehearsal of the way back.
    Drill,
    /// Services of the release in force are restarted or reloaded, and nothing is brought.
    Restart,
}

/// What stands between the database and the release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "schema", rename_all = "snake_case")]
pub enum Schema {
    /// Nothing has to run.
    Fits {
        /// Why, as a sentence.
        reason: String,
    },
    /// This has to run once, and has not succeeded yet.
    Due {
        /// What.
        migration: Planned,
    },
    /// It has run.
    Done {
        /// What.
        migration: Planned,
    },
    /// It has run, and was taken back.
    TakenBack {
        /// What.
        migration: Planned,
    },
}

/// A migration, forward or back, that a rollout needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// The release whose migration it is.
    pub release: ReleaseRef,
    /// Forward, or the way back.
    pub direction: Direction,
    /// What it means.
    pub facts: MigrationFacts,
}

/// How far a rollout is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Status {
    /// Under way.
    Active {
        /// With what.
        stage: Stage,
    },
    /// Nothing new begins until somebody resumes it. What was begun on a host ends there.
    Paused {
        /// Where it goes on.
        stage: Stage,
        /// Why it does not.
        reason: String,
        /// Who paused it.
        by: Actor,
    },
    /// Over; it never moves again.
    Ended {
        /// How.
        end: End,
    },
}

/// What a rollout that has not ended is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub enum Stage {
    /// It stands in line and has not begun: what it will do is planned when its turn comes.
    InLine {
        /// What was asked for.
        request: Box<RollRequest>,
        /// What had gone wrong here by then.
        known: Known,
    },
    /// All hosts stage; nothing that runs is touched.
    Staging,
    /// One elected host migrates.
    Migrating {
        /// How far that is.
        run: MigrationRun,
    },
    /// Batch by batch; those up to this one may activate.
    Running {
        /// From 1.
        batch: u32,
    },
    /// The canary is proven, and the batch after it does not begin yet.
    Canary {
        /// What is awaited.
        promotion: Promotion,
    },
    /// The first of two groups is proven, and requests change over to it.
    Switching,
    /// A batch could begin, and waits for the gates that others hold.
    Gated {
        /// Which batch, and what was said.
        at: AtGates,
    },
    /// Every host that can be heard of runs the release, and it is watched for as long as the strategy asks. Of two groups
    /// it is the first that does, and the second keeps the release before for so long.
    Watching {
        /// Whether somebody has seen enough.
        accepted: bool,
        /// What was said of its gates meanwhile.
        #[serde(default, skip_serializing_if = "AtGates::is_untold")]
        at: AtGates,
    },
    /// Every host that can be heard of runs the release, and what only older ones need goes.
    Contracting {
        /// How far that is.
        run: MigrationRun,
    },
    /// Back to the previous release.
    RollingBack {
        /// Why.
        reason: String,
        /// With what.
        back: Back,
    },
}

/// Which figures of a rollout are looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Looks<'a> {
    /// Its canary beside the hosts on this release.
    Canary(&'a CanaryAnalysis, &'a ReleaseRef),
    /// All of it against these limits.
    Watch(&'a Limits),
}

/// What lets the batch after the canary begin, once the canary has been healthy for as long as it is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Promotion {
    /// Nothing else.
    ByItself,
    /// Somebody must promote it.
    Awaited,
    /// Somebody has. An analysis that is not sure yet is overruled; one that fails later is not.
    Given,
    /// Somebody has, although the analysis of the canary had failed.
    Overruled,
}

/// What had ended in a place when somebody last said that a rollout is to begin there. What ends badly afterwards he
/// did not know of. Names and no moments: clocks are set back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The rollout that had ended last.
    pub last: Option<RolloutId>,
    /// Those of the same release that had failed, or gone back.
    pub failed: BTreeSet<RolloutId>,
}

/// How a rollout goes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "back", rename_all = "snake_case")]
pub enum Back {
    /// First the schema: old code must not meet the new one.
    Schema {
        /// What takes it back.
        migration: Box<Planned>,
        /// How far that is.
        run: MigrationRun,
    },
    /// Host by host, within the budget.
    Hosts,
}

/// How far a migration is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "run", rename_all = "snake_case")]
pub enum MigrationRun {
    /// No host has it.
    Electing {
        /// How often it was handed out in vain.
        attempts: u32,
        /// The last attempt whose outcome nobody knows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        doubt: Option<Box<Doubt>>,
    },
    /// One host has it.
    Leased {
        /// Under this lease.
        lease: Lease,
    },
    /// It may have run, it may not. Somebody must look.
    Unknown {
        /// Under this lease.
        lease: Lease,
        /// What is known.
        reason: String,
        /// What the host said, if it said anything.
        failure: Option<Failure>,
    },
}

/// The right of one host to run a migration once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Which host.
    pub host: HostId,
    /// By this assignment.
    pub generation: Generation,
    /// The fencing number.
    pub fence: u64,
    /// Which way.
    pub direction: Direction,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// After this the host cannot be running it any more, as long as the controller's clock went evenly.
    pub over_at: Timestamp,
    /// Which attempt it is, from 1.
    pub attempt: u32,
    /// The last attempt before it whose outcome nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<Box<Doubt>>,
}

/// An attempt that may have taken effect. Where a second run does no harm it is followed by others, and stays
/// in doubt until one of them succeeds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// Under this lease.
    pub lease: Lease,
    /// What is known.
    pub reason: String,
    /// What the host said, if it said anything.
    pub failure: Option<Failure>,
}

/// How a rollout ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum End {
    /// Every targeted host runs this release, proven.
    Succeeded,
    /// It did not reach every host, or did not get back to every host that it had touched.
    Failed {
        /// Why.
        reason: String,
        /// The step that failed first, if one did.
        failure: Option<HostFailure>,
    },
    /// Every host that was touched runs the previous release, proven.
    RolledBack {
        /// Why.
        reason: String,
        /// The step that failed first, if one did.
        failure: Option<HostFailure>,
    },
    /// A drill whose hosts were proven with the other release, and again with the one in force.
    Rehearsed {
        /// How long the way there took, its proof included.
        #[serde(rename = "there_ms", with = "duration_ms")]
        there: Duration,
        /// How long the way back took, its proof included.
        #[serde(rename = "back_ms", with = "duration_ms")]
        back: Duration,
    },
    /// Somebody stopped it where it was.
    Aborted {
        /// Who.
        by: Actor,
        /// Why.
        reason: String,
    },
    /// Another rollout took its place.
    Superseded {
        /// Which.
        by: RolloutId,
    },
}

/// What failed on which host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFailure {
    /// The host.
    pub host: HostId,
    /// What failed.
    pub failure: Failure,
}

impl fmt::Display for HostFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { step, reason, exit_code, .. } = &self.failure;
        match exit_code {
            Some(code) => write!(f, "{} at {step} (exit code {code}): {reason}", self.host),
            None => write!(f, "{} at {step}: {reason}", self.host),
        }
    }
}

/// The word for a status, as people and programs read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatusWord {
    /// In line, and not begun.
    Pending,
    /// Hosts stage.
    Staging,
    /// One host migrates.
    Migrating,
    /// Hosts change, batch by batch.
    Running,
    /// Until somebody resumes it.
    Paused,
    /// For something outside of it, such as an operator's answer.
    Waiting,
    /// Every host runs the release, and it is watched for a while.
    Watching,
    /// Every host runs the release, and one of them contracts the schema.
    Contracting,
    /// Hosts go back.
    RollingBack,
    /// Ended well.
    Succeeded,
    /// Ended badly.
    Failed,
    /// Ended with the previous release.
    RolledBack,
    /// A drill that ended well.
    Rehearsed,
    /// Ended by an operator.
    Aborted,
    /// Ended by another rollout.
    Superseded,
}

impl StatusWord {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
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
}

impl std::fmt::Display for StatusWord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl Status {
    /// What it is about, unless it has ended.
    #[must_use]
    pub fn stage(&self) -> Option<&Stage> {
        match self {
            Self::Active { stage } | Self::Paused { stage, .. } => Some(stage),
            Self::Ended { .. } => None,
        }
    }

    /// The word for it.
    #[must_use]
    pub fn word(&self) -> StatusWord {
        match self {
            Self::Active { stage } => stage.word(),
            Self::Paused { .. } => StatusWord::Paused,
            Self::Ended { end } => match end {
                End::Succeeded => StatusWord::Succeeded,
                End::Failed { .. } => StatusWord::Failed,
                End::RolledBack { .. } => StatusWord::RolledBack,
                End::Rehearsed { .. } => StatusWord::Rehearsed,
                End::Aborted { .. } => StatusWord::Aborted,
                End::Superseded { .. } => StatusWord::Superseded,
            },
        }
    }
}

impl Stage {
    /// The word for it.
    #[must_use]
    pub fn word(&self) -> StatusWord {
        match self {
            Self::InLine { .. } => StatusWord::Pending,
            Self::Staging => StatusWord::Staging,
            Self::Canary { promotion: Promotion::Awaited } | Self::Gated { .. } => StatusWord::Waiting,
            Self::Watching { .. } => StatusWord::Watching,
            Self::Contracting {
                run: MigrationRun::Unknown { .. } | MigrationRun::Electing { doubt: None, .. },
            } => StatusWord::Waiting,
            Self::Contracting { .. } => StatusWord::Contracting,
            Self::Running { .. } | Self::Canary { .. } | Self::Switching => StatusWord::Running,
            Self::Migrating { run: MigrationRun::Unknown { .. } }
            | Self::RollingBack { back: Back::Schema { run: MigrationRun::Unknown { .. }, .. }, .. } => {
                StatusWord::Waiting
            }
            Self::Migrating { .. } => StatusWord::Migrating,
            Self::RollingBack { .. } => StatusWord::RollingBack,
        }
    }

    /// The migration that is being run, or was, without a known outcome.
    #[must_use]
    pub fn migration(&self) -> Option<&MigrationRun> {
        match self {
            Self::Migrating { run }
            | Self::Contracting { run }
            | Self::RollingBack { back: Back::Schema { run, .. }, .. } => Some(run),
            _ => None,
        }
    }

    /// The lease that may still be in use, or whose outcome nobody knows.
    #[must_use]
    pub fn open_lease(&self) -> Option<&Lease> {
        match self.migration()? {
            MigrationRun::Leased { lease } | MigrationRun::Unknown { lease, .. } => Some(lease),
            MigrationRun::Electing { .. } => None,
        }
    }
}

impl MigrationRun {
    /// Nothing was handed out yet, or somebody has looked and it did not take effect.
    #[must_use]
    pub fn anew() -> Self {
        Self::Electing { attempts: 0, doubt: None }
    }

    /// The lease under which it may have taken effect, while it is not handed out.
    #[must_use]
    pub fn in_doubt(&self) -> Option<&Lease> {
        match self {
            Self::Unknown { lease, .. } => Some(lease),
            Self::Electing { doubt, .. } => doubt.as_ref().map(|doubt| &doubt.lease),
            Self::Leased { .. } => None,
        }
    }
}

impl Rollout {
    /// Goes on to another stage, from now on. A paused rollout stays paused.
    pub(crate) fn enter(&mut self, next: Stage, now: Timestamp) {
        match &mut self.status {
            Status::Active { stage } | Status::Paused { stage, .. } => *stage = next,
            Status::Ended { .. } => return,
        }
        self.since = now;
    }

    /// For how long it stays where it is because it is watched: then nothing is to get on.
    #[must_use]
    pub(crate) fn watched_for(&self) -> Duration {
        match self.status.stage() {
            Some(Stage::Watching { accepted: false, .. }) => self.strategy.watch,
            _ => Duration::ZERO,
        }
    }

    /// Whether its first batch is a canary: the way back has none.
    #[must_use]
    pub fn has_canary(&self) -> bool {
        matches!(self.kind, RolloutKind::Forward | RolloutKind::Restart) && self.strategy.has_canary()
    }

    /// The figures that are looked at now: those of its canary beside the others', or, while it is watched, its own against
    /// their limits.
    pub(crate) fn looks_at_figures(&self) -> Option<Looks<'_>> {
        match self.status.stage()? {
            Stage::Canary { .. } => self.compares().map(|(asked, previous)| Looks::Canary(asked, previous)),
            Stage::Watching { .. } => self.strategy.limits.as_ref().map(Looks::Watch),
            _ => None,
        }
    }

    /// While its canary is held: how that is compared with the hosts on the release before, and which this is. Before
    /// the first release there is nothing to compare with.
    #[must_use]
    pub fn compares(&self) -> Option<(&CanaryAnalysis, &ReleaseRef)> {
        let is_held = matches!(self.status.stage(), Some(Stage::Canary { .. }));
        self.strategy.analysis.as_ref().filter(|_| is_held).zip(self.previous.as_ref())
    }

    /// When it began, or when it was asked for, while it has not.
    #[must_use]
    pub fn began_at(&self) -> Timestamp {
        self.turn_came_at.unwrap_or(self.requested_at)
    }

    /// It goes on after a pause; its deadlines begin anew.
    pub(crate) fn goes_on(&mut self, stage: Stage, now: Timestamp) {
        self.status = Status::Active { stage };
        (self.since, self.resumed_at) = (now, Some(now));
    }

    /// What was asked for, while it has not begun.
    #[must_use]
    pub fn in_line(&self) -> Option<&RollRequest> {
        match self.status.stage()? {
            Stage::InLine { request, .. } => Some(request),
            _ => None,
        }
    }

    /// Whether it has ended.
    #[must_use]
    pub fn ended(&self) -> bool {
        matches!(self.status, Status::Ended { .. })
    }
}
