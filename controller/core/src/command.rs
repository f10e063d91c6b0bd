//! What operators ask for.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::evidence::Statement;
use landfall_common::strategy::{Amount, Canary, CanaryAnalysis, Spread, Strategy, StrategyKind, Window};
use landfall_common::time::duration_ms;
use landfall_common::{
    AppName, Duration, EnvName, GateName, HostId, LabelKey, OperatorName, ReleaseName, RequestId, RolloutId,
    Sha256,
};
use serde::{Deserialize, Serialize};

use crate::gate::GateVerdict;
use crate::label::Labels;
use crate::log::{Actor, CommitLine, MigrationVerdict};
use crate::record::{HostRecord, Place, ReleaseRecord};
use crate::restart::RestartRequest;
use crate::retention::Named;

/// One intent of one operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Sending the same one again changes nothing and is answered in the same way.
    pub request: RequestId,
    /// Who asks.
    pub by: Actor,
    /// From where: the address of the connection, or empty. No part of the intent.
    pub origin: String,
    /// The name of the rollout that this makes, if it makes one. Chosen by the shell, and no part of the
    /// intent: a retry may carry another.
    pub fresh: RolloutId,
    /// What is asked.
    pub action: Action,
}

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// A release was verified and its objects are here: it may be rolled out from now on.
    Publish {
        /// What was published.
        release: Box<ReleaseRecord>,
        /// The key ids that signed it.
        signed_by: Vec<String>,
    },
    /// Bring a release to a place.
    Roll(Box<RollRequest>),
    /// Go back: end the rollout under way, or bring a release that was proven before.
    RollBack {
        /// Where.
        place: Place,
        /// To which release; `None` is the one that was proven before the one in force.
        to: Option<ReleaseName>,
        /// Why.
        reason: String,
    },
    /// Rehearse the way back: take the canary to another release, and back to the one in force.
    Drill {
        /// Where.
        place: Place,
        /// Which release; `None` is the one that a rollback would go to.
        to: Option<ReleaseName>,
    },
    /// Restart or reload services of the release in force.
    Restart(Box<RestartRequest>),
    /// Begin nothing new.
    Pause {
        /// Which rollout.
        rollout: RolloutId,
        /// Why.
        reason: String,
    },
    /// Go on; the deadlines start anew.
    Resume {
        /// Which rollout.
        rollout: RolloutId,
        /// Why.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// End it where it is, or go back.
    Abort {
        /// Which rollout.
        rollout: RolloutId,
        /// Whether touched hosts go back.
        go_back: bool,
        /// Why.
        reason: String,
    },
    /// Let the batch after a proven canary begin.
    Promote {
        /// Which rollout.
        rollout: RolloutId,
        /// Why.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// Say yes to a rollout that stands in line.
    Approve {
        /// Which rollout.
        rollout: RolloutId,
        /// What it was seen to bring: [`crate::approval::content`].
        content: Sha256,
        /// Why, for the log.
        reason: String,
    },
    /// Say no to a rollout that stands in line for approvals: it ends.
    Reject {
        /// Which rollout.
        rollout: RolloutId,
        /// Why.
        reason: String,
    },
    /// What these people have approved they have not any more: they are no operators any more.
    WithdrawApprovals {
        /// Whose.
        of: OperatorName,
    },
    /// Say whether the batch that waits at a gate may begin.
    AnswerGate {
        /// Of which rollout.
        rollout: RolloutId,
        /// Which gate.
        gate: GateName,
        /// The batch that it is about; `None` is the one that waits.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        batch: Option<u32>,
        /// What.
        verdict: GateVerdict,
        /// Why.
        reason: String,
    },
    /// Take what CI says of a commit. The shell has verified the signature.
    SubmitEvidence {
        /// What is said.
        statement: Box<Statement>,
        /// By its key, hexadecimal.
        signature: String,
    },
    /// Try the hosts again that failed.
    RetryFailed {
        /// Where.
        place: Place,
        /// Of which rollout, if one is meant: while another one is under way there, nothing is tried again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rollout: Option<RolloutId>,
        /// Why.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// Say how a migration of unknown outcome ended.
    ResolveMigration {
        /// Of which rollout.
        rollout: RolloutId,
        /// Whether it took effect. If it did not, it is handed out again.
        verdict: MigrationVerdict,
        /// How that is known.
        reason: String,
    },
    /// A host has enrolled.
    Enrol {
        /// Which.
        host: HostRecord,
        /// The public id of the token that let it in.
        token: String,
    },
    /// Let go of the files of releases that nobody is to be brought to any more.
    RemoveContent {
        /// Which; one that has come to be needed meanwhile keeps its files.
        releases: BTreeSet<Named>,
        /// How many releases each environment and each application keeps.
        keep: usize,
    },
    /// A host puts right what differs from its signed release. The shell asks it to once this is durable.
    RepairDrift {
        /// Which.
        host: HostId,
        /// Why.
        reason: String,
    },
    /// Leave hosts out of the rollout under way: nothing more is asked of them, and they stay as they are.
    Exclude {
        /// Which, all of one place.
        hosts: BTreeSet<HostId>,
        /// Out of which rollout; `None` is the one that holds their place.
        rollout: Option<RolloutId>,
        /// Why.
        reason: String,
    },
    /// Let hosts that were excluded take part again, or take what is in force where the rollout is over.
    Include {
        /// Which, all of one place.
        hosts: BTreeSet<HostId>,
        /// Why.
        reason: String,
    },
    /// Leave hosts alone until they are uncordoned, whatever is rolled out.
    Cordon {
        /// Which.
        hosts: BTreeSet<HostId>,
        /// Why.
        reason: String,
    },
    /// Have requests led away from hosts, and leave them alone, until they are undrained.
    Drain {
        /// Which.
        hosts: BTreeSet<HostId>,
        /// Why.
        reason: String,
        /// Why more hosts may be out than the budget allows; empty if they may not.
        beyond_budget: String,
    },
    /// Have requests led back to them once they are healthy, and treat them like any other again.
    Undrain {
        /// Which.
        hosts: BTreeSet<HostId>,
        /// Why.
        reason: String,
    },
    /// Treat them like any other again.
    Uncordon {
        /// Which.
        hosts: BTreeSet<HostId>,
        /// Why.
        reason: String,
    },
    /// Say other things of hosts: what labels decide goes by them from now on.
    Label {
        /// Which.
        hosts: BTreeSet<HostId>,
        /// The labels that they are to have.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        set: Labels,
        /// Those that they are to have no more.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        removed: BTreeSet<LabelKey>,
        /// Why.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// Claim a place for a while: no rollout begins there.
    Lock {
        /// Which.
        place: Place,
        /// What for.
        message: String,
        /// For how long.
        #[serde(rename = "for_ms", with = "duration_ms")]
        period: Duration,
    },
    /// Give the place up again, or take it from whoever has claimed it.
    Unlock {
        /// Which.
        place: Place,
        /// Why. Whoever takes it from somebody else says so.
        reason: String,
    },
    /// A host is gone for good.
    Remove {
        /// Which.
        host: HostId,
        /// Why.
        reason: String,
    },
}

/// Which release is wanted where, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollRequest {
    /// Where.
    pub place: Place,
    /// What.
    pub release: ReleaseName,
    /// What differs from the environment's strategy.
    #[serde(default)]
    pub overrides: Overrides,
    /// The operator knows that there is no way back from the migration.
    #[serde(default)]
    pub no_way_back: bool,
    /// Why windows and freezes do not hold it; empty if they do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub outside_window: String,
    /// Refuse unless that very release is proven there.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub proven_in: BTreeSet<EnvName>,
    /// Why it may begin although it is not proven where its environment asks for that; empty if it may not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unproven: String,
    /// Why it may begin without the evidence that its environment asks for; empty if it may not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub without_evidence: String,
    /// Refuse if the plan is not this one any more.
    #[serde(default)]
    pub plan: Option<Sha256>,
    /// The commits since the release in force, newest first, for the log.
    #[serde(default)]
    pub commits: Vec<CommitLine>,
    /// What becomes of it where it cannot begin at once.
    #[serde(default, skip_serializing_if = "IfHeld::is_default")]
    pub if_held: IfHeld,
}

/// What becomes of a request for a rollout where another one holds the place, or a lock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IfHeld {
    /// It is refused, and told who holds the place.
    #[default]
    Refuse,
    /// It stands in line.
    Queue,
    /// It ends what is under way or in line, where that can be ended, and begins in its stead.
    Supersede,
}

impl IfHeld {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl RollRequest {
    /// A request with the environment's own strategy.
    #[must_use]
    pub fn new(application: AppName, environment: landfall_common::EnvName, release: ReleaseName) -> Self {
        let place = Place { application, environment };
        Self {
            place,
            release,
            overrides: Overrides::default(),
            no_way_back: false,
            outside_window: String::new(),
            proven_in: BTreeSet::new(),
            unproven: String::new(),
            without_evidence: String::new(),
            plan: None,
            commits: Vec::new(),
            if_held: IfHeld::default(),
        }
    }
}

/// What an operator sets otherwise than the environment's strategy, for one rollout.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Overrides {
    /// [`Strategy::kind`].
    pub kind: Option<StrategyKind>,
    /// [`Strategy::canary`].
    pub canary: Option<Canary>,
    /// [`Strategy::canary_hold`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary_hold: Option<Duration>,
    /// [`Strategy::auto_promote`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_promote: Option<bool>,
    /// Whether there is a [`Strategy::analysis`]: as the environment has it, or with the defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub analysis: Option<bool>,
    /// [`Strategy::batch`].
    pub batch: Option<Amount>,
    /// [`Strategy::window`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// [`Strategy::spread`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread: Option<Spread>,
    /// [`Strategy::stagger`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stagger: Option<Duration>,
    /// [`Strategy::max_unavailable`].
    pub max_unavailable: Option<Amount>,
    /// [`Strategy::min_healthy`].
    pub min_healthy: Option<Duration>,
    /// [`Strategy::healthy_deadline`].
    pub healthy_deadline: Option<Duration>,
    /// [`Strategy::progress_deadline`].
    pub progress_deadline: Option<Duration>,
    /// [`Strategy::rollout_deadline`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout_deadline: Option<Duration>,
    /// [`Strategy::failure_budget`].
    pub failure_budget: Option<Amount>,
    /// [`Strategy::auto_rollback`].
    pub auto_rollback: Option<bool>,
    /// [`Strategy::watch`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watch: Option<Duration>,
}

impl Overrides {
    /// The strategy with these differences.
    #[must_use]
    pub fn over(&self, base: &Strategy) -> Strategy {
        Strategy {
            kind: self.kind.unwrap_or(base.kind),
            canary: self.canary.clone().unwrap_or_else(|| base.canary.clone()),
            canary_hold: self.canary_hold.unwrap_or(base.canary_hold),
            auto_promote: self.auto_promote.unwrap_or(base.auto_promote),
            analysis: match self.analysis {
                Some(true) => base.analysis.clone().or_else(|| {
                    let hold = self.canary_hold.unwrap_or(base.canary_hold);
                    Some(CanaryAnalysis::held_for(hold))
                }),
                Some(false) => None,
                None => base.analysis.clone(),
            },
            limits: base.limits.clone(),
            batch: self.batch.unwrap_or(base.batch),
            window: self.window.unwrap_or(base.window),
            spread: self.spread.as_ref().map_or_else(|| base.spread.clone(), Spread::label),
            stagger: self.stagger.unwrap_or(base.stagger),
            max_unavailable: self.max_unavailable.unwrap_or(base.max_unavailable),
            min_healthy: self.min_healthy.unwrap_or(base.min_healthy),
            healthy_deadline: self.healthy_deadline.unwrap_or(base.healthy_deadline),
            progress_deadline: self.progress_deadline.unwrap_or(base.progress_deadline),
            rollout_deadline: self.rollout_deadline.unwrap_or(base.rollout_deadline),
            failure_budget: self.failure_budget.unwrap_or(base.failure_budget),
            auto_rollback: self.auto_rollback.unwrap_or(base.auto_rollback),
            late_rollback: base.late_rollback,
            watch: self.watch.unwrap_or(base.watch),
            gates: base.gates.clone(),
            overrides: base.overrides.clone(),
            entry: base.entry.clone(),
        }
    }
}

/// What a command is answered with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// It was done, or had been done already.
    Accepted,
    /// It concerns this rollout.
    Rollout {
        /// Which.
        id: RolloutId,
    },
}
