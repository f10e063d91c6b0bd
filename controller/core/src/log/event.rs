//! What can happen: one variant for each kind of entry, with all that is known of it.

use landfall_common::assignment::{ReleaseRef, RestartKind};
use landfall_common::evidence::{CommitId, EvidenceKey, Verdict};
use landfall_common::report::OutcomeKind;
use landfall_common::time::duration_ms;
use landfall_common::{
    AppName, Duration, EnvName, EvidenceName, GateName, Generation, HostId, OperatorName, ReleaseName,
    RolloutId, ServiceName, Sha256, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::evidence::Stood;
use crate::gate::GateVerdict;
use crate::label::LabelChange;

use super::{AnalysisVerdict, CommitLine, MigrationVerdict, RolloutEnd, Subject};

/// What happened. Written as `{"kind": "rollout_started", …}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LogEvent {
    /// A signed release was accepted.
    ReleasePublished {
        /// Of which application.
        application: AppName,
        /// The release.
        release: ReleaseRef,
        /// The commit it was built from, if it came from Git.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        commit: Option<String>,
        /// Who wrote that commit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        author: Option<String>,
        /// The key ids that signed it.
        signed_by: Vec<String>,
    },
    /// A rollout was planned and begun.
    RolloutStarted {
        /// Its id.
        rollout: RolloutId,
        /// Of which application.
        application: AppName,
        /// Where.
        environment: EnvName,
        /// The release it brings.
        release: ReleaseRef,
        /// The release that was in force.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        previous: Option<ReleaseRef>,
        /// How many hosts it targets.
        hosts: u64,
        /// The commits since the release that was in force, newest first.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        commits: Vec<CommitLine>,
        /// Who has approved it, where that was needed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        approved_by: Vec<String>,
        /// The evidence that was asked for and there.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        evidence: Vec<Stood>,
        /// Release notes.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        notes: String,
    },
    /// A rollout was asked for and stands in line.
    RolloutQueued {
        /// Its id.
        rollout: RolloutId,
        /// Of which application.
        application: AppName,
        /// Where.
        environment: EnvName,
        /// The release that it will bring.
        release: ReleaseRef,
        /// What it waits for.
        reason: String,
    },
    /// An operator who may had a rollout begin whatever the release windows and freezes of its environment say.
    WindowOverridden {
        /// The rollout.
        rollout: RolloutId,
        /// The release that it will bring.
        release: ReleaseRef,
        /// What was closed by then; empty if nothing was.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        closed: String,
        /// Why, in his words.
        reason: String,
    },
    /// An operator who may had a release begin that is not proven where it has to be.
    ProofOverridden {
        /// The rollout.
        rollout: RolloutId,
        /// The release that it will bring.
        release: ReleaseRef,
        /// Where it was not; none if it was everywhere.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lacking: Option<EnvName>,
        /// Why, in his words.
        reason: String,
    },
    /// An operator who may had a release begin without the evidence that its environment asks for.
    EvidenceOverridden {
        /// The rollout.
        rollout: RolloutId,
        /// The release that it will bring.
        release: ReleaseRef,
        /// What it lacked by then, as a sentence; empty if nothing.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        lacking: String,
        /// Why, in his words.
        reason: String,
    },
    /// What CI says of a commit was handed in.
    EvidenceSubmitted {
        /// Of which application.
        application: AppName,
        /// Of which commit.
        commit: CommitId,
        /// What of, such as `tests`.
        name: EvidenceName,
        /// How that ended.
        result: Verdict,
        /// In which run.
        run: u64,
        /// The key that has signed it.
        key: EvidenceKey,
        /// Where it can be read; empty if nowhere.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        url: String,
    },
    /// Somebody said yes to a rollout that stands in line.
    RolloutApproved {
        /// The rollout.
        rollout: RolloutId,
        /// The release that it will bring.
        release: ReleaseRef,
        /// What was approved: the release, its place, the knobs.
        content: Sha256,
        /// Why, in his words.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// Somebody said no to it: it ends.
    RolloutRejected {
        /// The rollout.
        rollout: RolloutId,
        /// Why.
        reason: String,
    },
    /// An approval counts no more, since whoever gave it is no operator any more.
    ApprovalWithdrawn {
        /// Of which rollout.
        rollout: RolloutId,
        /// Whose.
        of: OperatorName,
    },
    /// A rollout ended.
    RolloutFinished {
        /// Its id.
        rollout: RolloutId,
        /// Of which application.
        application: AppName,
        /// Where.
        environment: EnvName,
        /// The release it brought.
        release: ReleaseRef,
        /// How.
        end: RolloutEnd,
        /// Why, where it did not succeed.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
        /// When it had begun.
        started_at: Timestamp,
        /// How many hosts run the release.
        hosts_done: u64,
        /// How many it targeted.
        hosts: u64,
    },
    /// The gate opened to a batch.
    BatchStarted {
        /// Of which rollout.
        rollout: RolloutId,
        /// The batch that may begin, from 1.
        batch: u64,
        /// Of how many.
        of: u64,
    },
    /// A host finished an order, well or not.
    StepOutcome {
        /// Of which rollout.
        rollout: RolloutId,
        /// The host.
        host: HostId,
        /// The release it was about.
        release: ReleaseName,
        /// The assignment.
        generation: Generation,
        /// How it ended.
        outcome: OutcomeKind,
    },
    /// A host that was asked for something did not say how it ended, or does not stay healthy.
    HostFailed {
        /// Of which rollout.
        rollout: RolloutId,
        /// The host.
        host: HostId,
        /// The release it was about.
        release: ReleaseName,
        /// Why it counts as failed.
        reason: String,
    },
    /// An operator asked for an older release.
    RollbackRequested {
        /// The rollout that carries it out.
        rollout: RolloutId,
        /// Of which application.
        application: AppName,
        /// Where.
        environment: EnvName,
        /// The release to go back to.
        to: ReleaseRef,
        /// Why, in the operator's words.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// A rollout turned round by itself.
    RollbackStarted {
        /// The rollout.
        rollout: RolloutId,
        /// The release to go back to.
        to: ReleaseRef,
        /// Why.
        reason: String,
    },
    /// A rollout was stopped where it was.
    RolloutPaused {
        /// The rollout.
        rollout: RolloutId,
        /// Why.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// A paused rollout goes on.
    RolloutResumed {
        /// The rollout.
        rollout: RolloutId,
        /// Why.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// An operator opened the gate that a rollout waited at.
    RolloutPromoted {
        /// The rollout.
        rollout: RolloutId,
        /// The batch that may begin.
        batch: u64,
        /// What the analysis of the canary, or its gates, said by then, where they had not passed.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        overruled: String,
        /// Why.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// Somebody has said whether a batch that waits at a gate may begin, or the watch end.
    GateAnswered {
        /// The rollout.
        rollout: RolloutId,
        /// The gate.
        gate: GateName,
        /// The batch that it is about, and no other; 0 of the watch.
        batch: u64,
        /// What the rollout brings.
        release: ReleaseRef,
        /// What was said.
        verdict: GateVerdict,
        /// Why.
        reason: String,
    },
    /// A batch that has waited at gates begins.
    GatesPassed {
        /// The rollout.
        rollout: RolloutId,
        /// The batch.
        batch: u64,
        /// Of each gate, what was said last.
        gates: Vec<String>,
        /// Whether somebody has overruled what they said.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        overruled: bool,
    },
    /// The canary was compared with the hosts on the release before, or what is watched with its limits, and something
    /// follows from it.
    CanaryAnalysed {
        /// The rollout.
        rollout: RolloutId,
        /// What is found.
        verdict: AnalysisVerdict,
        /// After so many windows.
        windows: u64,
        /// Of so many milliseconds each.
        window_ms: u64,
        /// Of each metric that the verdict stands on, a sentence.
        findings: Vec<String>,
        /// Whether it was in the watch, against limits.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        in_watch: bool,
    },
    /// The first of two groups of hosts gets all requests from now on, and the other one none.
    RequestsSwitched {
        /// The rollout.
        rollout: RolloutId,
        /// The group, such as `color=blue`.
        to: String,
    },
    /// Every host that can be heard of runs the release, or all of the group that gets the requests: it is watched from
    /// now on.
    WatchStarted {
        /// The rollout.
        rollout: RolloutId,
        /// For how long.
        #[serde(rename = "for_ms", with = "duration_ms")]
        period: Duration,
    },
    /// An operator has seen enough of a watch.
    WatchEnded {
        /// The rollout.
        rollout: RolloutId,
        /// What its gates said by then, where they were not open.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        overruled: String,
        /// Why.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// An operator ended a rollout.
    RolloutAborted {
        /// The rollout.
        rollout: RolloutId,
        /// Why.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// A host took a rollout's migration lease.
    MigrationStarted {
        /// The rollout.
        rollout: RolloutId,
        /// The elected host.
        host: HostId,
        /// Whose migration.
        release: ReleaseName,
        /// When its lease ends.
        lease_until: Timestamp,
        /// Whether it is the contract.
        #[serde(default, skip_serializing_if = "crate::member::is_not")]
        contract: bool,
        /// Whether it is the way back, its `down`.
        #[serde(default, skip_serializing_if = "crate::member::is_not")]
        down: bool,
    },
    /// A migration ended, or its outcome was lost.
    MigrationFinished {
        /// The rollout.
        rollout: RolloutId,
        /// The elected host.
        host: HostId,
        /// Whose migration.
        release: ReleaseName,
        /// How.
        outcome: OutcomeKind,
        /// Whether it is the contract.
        #[serde(default, skip_serializing_if = "crate::member::is_not")]
        contract: bool,
        /// Whether it is the way back, its `down`.
        #[serde(default, skip_serializing_if = "crate::member::is_not")]
        down: bool,
    },
    /// An operator said how a migration with an unknown outcome ended.
    MigrationResolved {
        /// The rollout.
        rollout: RolloutId,
        /// What was said.
        verdict: MigrationVerdict,
        /// Why, in the operator's words.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// Failed hosts are tried again.
    HostsRetried {
        /// Of which application.
        application: AppName,
        /// Where.
        environment: EnvName,
        /// Which.
        hosts: Vec<HostId>,
        /// Why.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// Hosts were left out of a rollout that was under way.
    HostsExcluded {
        /// The rollout.
        rollout: RolloutId,
        /// Which.
        hosts: Vec<HostId>,
        /// Why, in the operator's words.
        reason: String,
    },
    /// Hosts that were left out of a rollout take part again, or take what is in force.
    HostsIncluded {
        /// The rollout.
        rollout: RolloutId,
        /// Which.
        hosts: Vec<HostId>,
        /// Why, in the operator's words.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// A host is left alone, whatever is rolled out.
    HostCordoned {
        /// The host.
        host: HostId,
        /// Of which application.
        application: AppName,
        /// Where.
        environment: EnvName,
        /// Why, in the operator's words.
        reason: String,
    },
    /// Requests were to be led away from a host.
    HostDrained {
        /// Which.
        host: HostId,
        /// Its application.
        application: AppName,
        /// Its environment.
        environment: EnvName,
        /// Why.
        reason: String,
        /// Why more hosts might be out than the budget allows; empty if they might not.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        beyond_budget: String,
    },
    /// Requests were to be led back to it.
    HostUndrained {
        /// Which.
        host: HostId,
        /// Its application.
        application: AppName,
        /// Its environment.
        environment: EnvName,
        /// Why.
        reason: String,
    },
    /// A host is one like any other again.
    HostUncordoned {
        /// The host.
        host: HostId,
        /// Of which application.
        application: AppName,
        /// Where.
        environment: EnvName,
        /// Why, in the operator's words.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// Other things were said of a host.
    HostLabelled {
        /// The host.
        host: HostId,
        /// Of which application.
        application: AppName,
        /// Where.
        environment: EnvName,
        /// What changed, by the labels' keys.
        changes: Vec<LabelChange>,
        /// Why, in the operator's words.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// By its labels a host changes with another batch of the rollout under way.
    HostRegrouped {
        /// The rollout.
        rollout: RolloutId,
        /// The host.
        host: HostId,
        /// Its batch from now on, from 1.
        batch: u64,
        /// Of how many.
        of: u64,
    },
    /// A host outside of a rollout was sent to the release in force, or to a stop on its way there.
    HostConverging {
        /// The host.
        host: HostId,
        /// The release that it is to take.
        release: ReleaseRef,
        /// The release in force, if that is another one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        on_its_way_to: Option<ReleaseRef>,
        /// The assignment.
        generation: Generation,
    },
    /// Too many hosts outside of a rollout failed to take the release in force: no other is sent there.
    ConvergenceStopped {
        /// Of which application.
        application: AppName,
        /// Where.
        environment: EnvName,
        /// The release in force.
        release: ReleaseRef,
        /// Which failed, and why.
        reason: String,
    },
    /// Somebody claimed a place: no rollout begins there.
    PlaceLocked {
        /// Of which application.
        application: AppName,
        /// Where.
        environment: EnvName,
        /// What for.
        message: String,
        /// Until when, at the latest.
        until: Timestamp,
    },
    /// A claim on a place was given up, or taken away.
    PlaceUnlocked {
        /// Of which application.
        application: AppName,
        /// Where.
        environment: EnvName,
        /// Whose it was, where it was another's.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        owner: String,
        /// Why.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// A host joined.
    HostEnrolled {
        /// The host.
        host: HostId,
        /// What it is pinned to.
        application: AppName,
        /// Where it is pinned to.
        environment: EnvName,
        /// The token that let it in.
        token: String,
    },
    /// A host was removed and its certificates denied.
    HostRemoved {
        /// The host.
        host: HostId,
        /// Why.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// An operator was removed: certificates that were issued until then are denied.
    OperatorRemoved {
        /// Who.
        name: OperatorName,
    },
    /// An enrolment token was made.
    TokenIssued {
        /// Its public id, never its secret.
        token: String,
        /// What it lets a host join.
        application: AppName,
        /// Where.
        environment: EnvName,
        /// Until when.
        expires_at: Timestamp,
    },
    /// A token for an operator's certificate was made.
    OperatorTokenIssued {
        /// Its public id, never its secret.
        token: String,
        /// Whom it lets in.
        name: OperatorName,
        /// As what, such as `deployer`.
        role: String,
        /// Until when.
        expires_at: Timestamp,
    },
    /// A certificate was issued.
    CertificateIssued {
        /// To whom.
        subject: Subject,
        /// Its serial number, hexadecimal.
        serial: String,
        /// Until when.
        expires_at: Timestamp,
    },
    /// The metadata of the release repository changed.
    MetadataAccepted {
        /// The role, such as `root` or an application's.
        role: String,
        /// Its new version.
        version: u64,
        /// The digest of its bytes.
        digest: Sha256,
    },
    /// The files of a release were let go, since nobody was to be brought to it any more.
    ContentRemoved {
        /// Of which application.
        application: AppName,
        /// Which release.
        release: ReleaseRef,
    },
    /// The files of a release were uploaded anew.
    ContentRestored {
        /// Of which application.
        application: AppName,
        /// Which release.
        release: ReleaseRef,
    },
    /// The controller's state was put back from a backup.
    StateRestored {
        /// When the backup was made.
        backup_at: Timestamp,
        /// How far assignments' generations were moved ahead.
        generations_from: Generation,
    },
    /// An operator had a host put right what differs from its signed release.
    DriftRepairRequested {
        /// The host.
        host: HostId,
        /// Of which application.
        application: AppName,
        /// Where.
        environment: EnvName,
        /// Why, in the operator's words.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// A host said what came of that.
    DriftRepaired {
        /// The host.
        host: HostId,
        /// Of which application.
        application: AppName,
        /// Where.
        environment: EnvName,
        /// How many things were put right.
        restored: u64,
        /// How many were not.
        failed: u64,
    },
    /// An operator asked for services to be restarted or reloaded, with the release in force.
    RestartRequested {
        /// The rollout that carries it out.
        rollout: RolloutId,
        /// Of which application.
        application: AppName,
        /// Where.
        environment: EnvName,
        /// The release in force.
        release: ReleaseRef,
        /// Which of the two.
        verb: RestartKind,
        /// Which services.
        services: Vec<ServiceName>,
        /// Why.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// An operator asked for a rehearsal of the way back.
    DrillRequested {
        /// The rollout that carries it out.
        rollout: RolloutId,
        /// Of which application.
        application: AppName,
        /// Where.
        environment: EnvName,
        /// The release that the canary takes and gives back.
        release: ReleaseRef,
    },
    /// A rehearsal of the way back ended well.
    DrillFinished {
        /// The rollout that carried it out.
        rollout: RolloutId,
        /// Of which application.
        application: AppName,
        /// Where.
        environment: EnvName,
        /// The release that the canary has taken and given back.
        release: ReleaseRef,
        /// The release that it is back on.
        back_to: ReleaseRef,
        /// On how many hosts.
        hosts: u64,
        /// How long the way there took, its proof included.
        #[serde(rename = "there_ms", with = "duration_ms")]
        there: Duration,
        /// How long the way back took, its proof included.
        #[serde(rename = "back_ms", with = "duration_ms")]
        back: Duration,
    },
}

impl LogEvent {
    /// The word in the entry's `kind`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ReleasePublished { .. } => "release_published",
            Self::RolloutStarted { .. } => "rollout_started",
            Self::RolloutQueued { .. } => "rollout_queued",
            Self::WindowOverridden { .. } => "window_overridden",
            Self::ProofOverridden { .. } => "proof_overridden",
            Self::EvidenceOverridden { .. } => "evidence_overridden",
            Self::EvidenceSubmitted { .. } => "evidence_submitted",
            Self::RolloutApproved { .. } => "rollout_approved",
            Self::RolloutRejected { .. } => "rollout_rejected",
            Self::ApprovalWithdrawn { .. } => "approval_withdrawn",
            Self::RolloutFinished { .. } => "rollout_finished",
            Self::BatchStarted { .. } => "batch_started",
            Self::StepOutcome { .. } => "step_outcome",
            Self::HostFailed { .. } => "host_failed",
            Self::RollbackRequested { .. } => "rollback_requested",
            Self::RollbackStarted { .. } => "rollback_started",
            Self::RolloutPaused { .. } => "rollout_paused",
            Self::RolloutResumed { .. } => "rollout_resumed",
            Self::RolloutPromoted { .. } => "rollout_promoted",
            Self::GateAnswered { .. } => "gate_answered",
            Self::GatesPassed { .. } => "gates_passed",
            Self::RequestsSwitched { .. } => "requests_switched",
            Self::WatchStarted { .. } => "watch_started",
            Self::WatchEnded { .. } => "watch_ended",
            Self::CanaryAnalysed { .. } => "canary_analysed",
            Self::RolloutAborted { .. } => "rollout_aborted",
            Self::MigrationStarted { .. } => "migration_started",
            Self::MigrationFinished { .. } => "migration_finished",
            Self::MigrationResolved { .. } => "migration_resolved",
            Self::HostsRetried { .. } => "hosts_retried",
            Self::HostsExcluded { .. } => "hosts_excluded",
            Self::HostsIncluded { .. } => "hosts_included",
            Self::HostCordoned { .. } => "host_cordoned",
            Self::HostUncordoned { .. } => "host_uncordoned",
            Self::HostDrained { .. } => "host_drained",
            Self::HostUndrained { .. } => "host_undrained",
            Self::HostLabelled { .. } => "host_labelled",
            Self::HostRegrouped { .. } => "host_regrouped",
            Self::HostConverging { .. } => "host_converging",
            Self::ConvergenceStopped { .. } => "convergence_stopped",
            Self::PlaceLocked { .. } => "place_locked",
            Self::PlaceUnlocked { .. } => "place_unlocked",
            Self::HostEnrolled { .. } => "host_enrolled",
            Self::HostRemoved { .. } => "host_removed",
            Self::OperatorRemoved { .. } => "operator_removed",
            Self::TokenIssued { .. } => "token_issued",
            Self::OperatorTokenIssued { .. } => "operator_token_issued",
            Self::CertificateIssued { .. } => "certificate_issued",
            Self::MetadataAccepted { .. } => "metadata_accepted",
            Self::ContentRemoved { .. } => "content_removed",
            Self::ContentRestored { .. } => "content_restored",
            Self::StateRestored { .. } => "state_restored",
            Self::DriftRepairRequested { .. } => "drift_repair_requested",
            Self::DriftRepaired { .. } => "drift_repaired",
            Self::RestartRequested { .. } => "restart_requested",
            Self::DrillRequested { .. } => "drill_requested",
            Self::DrillFinished { .. } => "drill_finished",
        }
    }

    /// The rollout it belongs to, if it does.
    #[must_use]
    pub fn rollout(&self) -> Option<&RolloutId> {
        match self {
            Self::RolloutStarted { rollout, .. }
            | Self::RolloutQueued { rollout, .. }
            | Self::WindowOverridden { rollout, .. }
            | Self::ProofOverridden { rollout, .. }
            | Self::EvidenceOverridden { rollout, .. }
            | Self::RolloutApproved { rollout, .. }
            | Self::RolloutRejected { rollout, .. }
            | Self::ApprovalWithdrawn { rollout, .. }
            | Self::RolloutFinished { rollout, .. }
            | Self::BatchStarted { rollout, .. }
            | Self::StepOutcome { rollout, .. }
            | Self::HostFailed { rollout, .. }
            | Self::RollbackRequested { rollout, .. }
            | Self::RestartRequested { rollout, .. }
            | Self::DrillRequested { rollout, .. }
            | Self::DrillFinished { rollout, .. }
            | Self::RollbackStarted { rollout, .. }
            | Self::RolloutPaused { rollout, .. }
            | Self::RolloutResumed { rollout, .. }
            | Self::RolloutPromoted { rollout, .. }
            | Self::GateAnswered { rollout, .. }
            | Self::GatesPassed { rollout, .. }
            | Self::RequestsSwitched { rollout, .. }
            | Self::WatchStarted { rollout, .. }
            | Self::WatchEnded { rollout, .. }
            | Self::CanaryAnalysed { rollout, .. }
            | Self::RolloutAborted { rollout, .. }
            | Self::HostsExcluded { rollout, .. }
            | Self::HostsIncluded { rollout, .. }
            | Self::HostRegrouped { rollout, .. }
            | Self::MigrationStarted { rollout, .. }
            | Self::MigrationFinished { rollout, .. }
            | Self::MigrationResolved { rollout, .. } => Some(rollout),
            _ => None,
        }
    }
}
