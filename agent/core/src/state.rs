//! The states of the machine. Each is made durable before the effect that it awaits.

use landfall_common::assignment::{Direction, OnFailure, ReleaseRef};
use landfall_common::report::Failure;
use landfall_common::time::{Duration, duration_ms};
use landfall_common::{Generation, ReleaseName};
use serde::{Deserialize, Serialize};

pub use landfall_common::assignment::Order;

use crate::effect::Effect;
use crate::plan::Action;
use crate::record::Installed;

/// What the machine is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum State {
    /// Nothing; the newest assignment has ended.
    #[default]
    Idle,
    /// Getting the manifest and the objects that are lacking.
    Fetching {
        /// For what.
        job: Job,
    },
    /// Laying the tree out beside the others and publishing it by a rename.
    Unpacking {
        /// For what.
        job: Job,
        /// What its manifest says.
        installed: Installed,
    },
    /// Running a step of preparation.
    Preparing {
        /// For what.
        job: Job,
        /// What its manifest says.
        installed: Installed,
        /// Which step; one past the last means: making what preparation wrote durable.
        step: usize,
    },
    /// A migration has begun, or will in the next moment. Never begun a second time from here.
    Migrating {
        /// What runs.
        migrating: Migrating,
        /// Whether the agent was restarted since it began: then only its durable exit status counts.
        resumed: bool,
    },
    /// Swapping and restarting.
    Activating {
        /// From what to what.
        activation: Activation,
        /// All steps.
        plan: Vec<Action>,
        /// The one that is under way.
        at: usize,
        /// The furthest one that an agent began before it was killed: from there on nothing was touched.
        #[serde(default)]
        reached: usize,
    },
    /// Waiting for health to last.
    Proving {
        /// From what to what.
        activation: Activation,
    },
    /// Healthy for long enough; running a smoke test.
    Smoking {
        /// From what to what.
        activation: Activation,
        /// Which test.
        at: usize,
    },
    /// Taking a release back that failed.
    Undoing {
        /// From what to what.
        activation: Activation,
        /// Why it goes back.
        failure: Failure,
        /// The release to go back to.
        back: ReleaseName,
        /// All steps.
        plan: Vec<Action>,
        /// The one that is under way.
        at: usize,
        /// The first step of the way back that failed.
        undo: Option<Failure>,
    },
    /// The old release runs again; waiting for its checks to pass.
    Confirming {
        /// From what to what.
        activation: Activation,
        /// Why it went back.
        failure: Failure,
        /// The release it went back to.
        back: ReleaseName,
    },
}

/// Bringing a release onto the disk, and what comes after that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Of the assignment.
    pub generation: Generation,
    /// Which release.
    pub release: ReleaseRef,
    /// What it is wanted for.
    pub order: Order,
    /// When the assignment was accepted, on the monotonic clock of this boot: a lease counts from here.
    #[serde(rename = "accepted_ms", with = "duration_ms")]
    pub accepted: Duration,
}

/// A migration under its lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migrating {
    /// Of the assignment.
    pub generation: Generation,
    /// Whose migration.
    pub release: ReleaseName,
    /// The number of the lease.
    pub fence: u64,
    /// Forward or back.
    pub direction: Direction,
    /// When the lease ends, on the monotonic clock of the boot in which it began.
    #[serde(rename = "deadline_ms", with = "duration_ms")]
    pub deadline: Duration,
}

/// From what to what, and on which terms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activation {
    /// Of the assignment.
    pub generation: Generation,
    /// What was active.
    pub from: Option<ReleaseName>,
    /// Whether what was active was in doubt: some of its services may have run another release.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub from_in_doubt: bool,
    /// What is to be.
    pub to: ReleaseName,
    /// On which terms.
    pub terms: Terms,
    /// Its services are restarted or reloaded, and the release stays the same: there is nothing to go back to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_restart: bool,
}

/// What an assignment says about proving a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// What happens if it cannot be proven.
    pub on_failure: OnFailure,
    /// How long it must be healthy without a break.
    #[serde(rename = "min_healthy_ms", with = "duration_ms")]
    pub min_healthy: Duration,
    /// Within this.
    #[serde(rename = "healthy_deadline_ms", with = "duration_ms")]
    pub healthy_deadline: Duration,
}

impl State {
    /// The one effect whose end this state awaits; it is carried out (again) after a restart.
    #[must_use]
    pub fn awaits(&self) -> Option<Effect> {
        match self {
            Self::Idle | Self::Proving { .. } | Self::Confirming { .. } => None,
            Self::Fetching { job } => {
                Some(Effect::Fetch { generation: job.generation, release: job.release.clone() })
            }
            Self::Unpacking { job, .. } => {
                Some(Effect::Unpack { generation: job.generation, release: job.release.clone() })
            }
            Self::Preparing { job, installed, step } => {
                let (generation, release) = (job.generation, job.release.name.clone());
                Some(if *step < installed.outline.prepare.len() {
                    Effect::Prepare { generation, release, step: *step }
                } else {
                    Effect::Seal { generation, release }
                })
            }
            Self::Migrating { migrating, resumed: false } => {
                Some(Effect::Migrate { migrating: migrating.clone() })
            }
            Self::Migrating { migrating, resumed: true } => {
                Some(Effect::ResumeMigration { migrating: migrating.clone() })
            }
            Self::Activating { activation, plan, at, .. } | Self::Undoing { activation, plan, at, .. } => {
                plan.get(*at)
                    .map(|action| Effect::Act { generation: activation.generation, action: action.clone() })
            }
            Self::Smoking { activation, at } => Some(Effect::Smoke {
                generation: activation.generation,
                release: activation.to.clone(),
                step: *at,
            }),
        }
    }

    /// Whether a new assignment has to wait until what is under way has ended.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        match self {
            Self::Idle | Self::Fetching { .. } | Self::Unpacking { .. } | Self::Preparing { .. } => false,
            Self::Proving { .. } | Self::Smoking { .. } => false,
            Self::Migrating { .. }
            | Self::Activating { .. }
            | Self::Undoing { .. }
            | Self::Confirming { .. } => true,
        }
    }

    /// The release that is being brought onto the disk and not yet counted as installed.
    #[must_use]
    pub fn arriving(&self) -> Option<&ReleaseName> {
        match self {
            Self::Fetching { job } | Self::Unpacking { job, .. } | Self::Preparing { job, .. } => {
                Some(&job.release.name)
            }
            _ => None,
        }
    }
}
