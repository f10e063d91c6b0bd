//! A rollout as operators see it.

use landfall_common::assignment::RestartKind;
use landfall_common::report::Phase;
use landfall_common::time::human;
use landfall_common::{Duration, Timestamp};
use landfall_controller_core::line;
use landfall_controller_core::log::Actor;
use landfall_controller_core::member::{Left, LeftOut, Member, MemberState};
use landfall_controller_core::observation::Host;
use landfall_controller_core::reason::{InLine, Wait};
use landfall_controller_core::refusal::moment;
use landfall_controller_core::restart::Restart;
use landfall_controller_core::rollout::{
    End, HostFailure, MigrationRun, Rollout, RolloutKind, Schema, Stage, Status, StatusWord,
};
use landfall_proto::v1 as pb;

use super::{analysis, approvals, gates};
use crate::reactor::View;
use crate::rpc::convert;

/// A rollout with its hosts. `changes` are the commits that it brings.
pub(super) fn rollout(view: &View<'_>, rollout: &Rollout, changes: Vec<String>) -> pb::Rollout {
    pb::Rollout {
        id: rollout.id.to_string(),
        application: rollout.place.application.to_string(),
        environment: rollout.place.environment.to_string(),
        from: rollout.previous.as_ref().map(convert::release_ref),
        to: Some(convert::release_ref(&rollout.release)),
        status: status(word(view, rollout)).into(),
        reasons: reasons(view, rollout),
        batches: with_bounded_output(batches(view, rollout)),
        started_by: rollout.by.to_string(),
        started_ms: rollout.began_at().ms(),
        ended_ms: if rollout.ended() { rollout.since.ms() } else { 0 },
        changes,
        is_rollback: rollout.kind == RolloutKind::Rollback,
        migration: migration(rollout),
        in_line: rollout.in_line().is_some(),
        approvals: approvals::shown(view, rollout),
        is_drill: rollout.kind == RolloutKind::Drill,
        restart: rollout.restart.as_ref().map(restart),
        analysis: view.state.comparison(&rollout.id).map(analysis::shown),
        left_out: left_out(view, rollout),
        gates: gates::shown(view, rollout),
    }
}

/// The output of so many failures goes along, and of the others what failed: ten thousand hosts that fail alike
/// would make a message that no client takes.
const FAILURES_IN_FULL: usize = 100;

fn with_bounded_output(mut batches: Vec<pb::RolloutBatch>) -> Vec<pb::RolloutBatch> {
    let hosts = batches.iter_mut().flat_map(|batch| &mut batch.hosts);
    let failures = hosts.filter_map(|host| host.failure.as_mut());
    failures.skip(FAILURES_IN_FULL).for_each(|failure| failure.tail.clear());
    batches
}

/// A rollout that nothing but people hold up waits for them, whatever it stands in.
fn word(view: &View<'_>, rollout: &Rollout) -> StatusWord {
    let waits = line::waits(view.state, rollout, view.now);
    match &waits[..] {
        [Wait::InLine { why: InLine::Unapproved { .. }, .. }] => StatusWord::Waiting,
        _ => rollout.status.word(),
    }
}

fn restart(restart: &Restart) -> pb::Restart {
    let kind = match restart.kind {
        RestartKind::Restart => pb::RestartKind::Restart,
        RestartKind::Reload => pb::RestartKind::Reload,
    };
    pb::Restart {
        kind: kind.into(),
        services: restart.services.iter().map(ToString::to_string).collect(),
        reason: restart.reason.clone(),
    }
}

fn status(word: StatusWord) -> pb::RolloutStatus {
    match word {
        StatusWord::Pending => pb::RolloutStatus::Pending,
        StatusWord::Staging => pb::RolloutStatus::Staging,
        StatusWord::Migrating => pb::RolloutStatus::Migrating,
        StatusWord::Running => pb::RolloutStatus::Running,
        StatusWord::Paused => pb::RolloutStatus::Paused,
        StatusWord::Waiting => pb::RolloutStatus::Waiting,
        StatusWord::Watching => pb::RolloutStatus::Watching,
        StatusWord::Contracting => pb::RolloutStatus::Contracting,
        StatusWord::RollingBack => pb::RolloutStatus::RollingBack,
        StatusWord::Succeeded => pb::RolloutStatus::Succeeded,
        StatusWord::Failed => pb::RolloutStatus::Failed,
        StatusWord::RolledBack => pb::RolloutStatus::RolledBack,
        StatusWord::Rehearsed => pb::RolloutStatus::Rehearsed,
        StatusWord::Aborted => pb::RolloutStatus::Aborted,
        StatusWord::Superseded => pb::RolloutStatus::Superseded,
    }
}

/// What it waits for, or how it ended.
fn reasons(view: &View<'_>, rollout: &Rollout) -> Vec<String> {
    let failed = |reason: &str, failure: &Option<HostFailure>| {
        let mut reasons = vec![reason.to_owned()];
        // Mostly it is the very reason.
        let untold = failure.as_ref().filter(|failed| !reason.contains(&failed.failure.reason));
        reasons.extend(untold.map(|failed| {
            format!("{}: {} failed: {}", failed.host, failed.failure.step, failed.failure.reason)
        }));
        reasons
    };
    // Of those that were left out a rollout tells to its end, and the record of that stays.
    let left_out = (!rollout.left_out.is_empty()).then(|| format!("left out: {}", rollout.left_out));
    let mut reasons = why(view, rollout, failed);
    reasons.extend(left_out);
    reasons
}

fn why(
    view: &View<'_>,
    rollout: &Rollout,
    failed: impl Fn(&str, &Option<HostFailure>) -> Vec<String>,
) -> Vec<String> {
    match &rollout.status {
        Status::Ended { end } => match end {
            End::Succeeded => Vec::new(),
            End::Failed { reason, failure } | End::RolledBack { reason, failure } => failed(reason, failure),
            End::Rehearsed { there, back } => vec![format!(
                "the way there took {}, the way back {}, each with its proof",
                human::format(whole(*there)),
                human::format(whole(*back))
            )],
            End::Aborted { by, reason } => vec![with_reason(format!("{} aborted it", name(by)), reason)],
            End::Superseded { by } => vec![format!("rollout {by} took its place")],
        },
        Status::Active { .. } | Status::Paused { .. } if rollout.in_line().is_some() => {
            let waits = line::waits(view.state, rollout, view.now);
            waits.into_iter().map(|wait| wait.to_string()).collect()
        }
        Status::Active { .. } | Status::Paused { .. } => {
            view.report.of(&rollout.place).map(|report| report.of_holder().collect()).unwrap_or_default()
        }
    }
}

/// In whole seconds, as people read it.
fn whole(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs())
}

fn name(actor: &Actor) -> String {
    match actor {
        Actor::Controller => "the controller".to_owned(),
        other => other.to_string(),
    }
}

fn with_reason(sentence: String, reason: &str) -> String {
    if reason.is_empty() { sentence } else { format!("{sentence}: {reason}") }
}

fn left_out(view: &View<'_>, rollout: &Rollout) -> Vec<pb::LeftOutHost> {
    let each = |member: &Member| {
        let LeftOut { how, word } = member.left_out.as_ref()?;
        Some(pb::LeftOutHost {
            host: member.host.to_string(),
            how: how.as_str().to_owned(),
            by: word.by.to_string(),
            reason: word.reason.clone(),
            since_ms: word.since.ms(),
            touched: member.touched,
        })
    };
    view.state.members(&rollout.id).filter_map(each).collect()
}

fn batches(view: &View<'_>, rollout: &Rollout) -> Vec<pb::RolloutBatch> {
    let members = view.state.members(&rollout.id).filter(|member| member.left_out.is_none());
    let mut members: Vec<&Member> = members.collect();
    members.sort_by(|one, two| (one.batch, &one.host).cmp(&(two.batch, &two.host)));
    let canaried = rollout.has_canary() && rollout.groups.is_none();
    members
        .chunk_by(|one, two| one.batch == two.batch)
        .map(|members| {
            let number = members.first().map_or(0, |member| member.batch);
            pb::RolloutBatch {
                canary: canaried && number == 1,
                hosts: members.iter().map(|member| host(view, member)).collect(),
                number,
                group: rollout
                    .groups
                    .as_ref()
                    .map_or_else(String::new, |groups| groups.name_of_batch(number)),
            }
        })
        .collect()
}

fn host(view: &View<'_>, member: &Member) -> pb::RolloutHost {
    let seen = view.state.host(&member.host);
    let phase = seen.and_then(|host| Some(&host.seen.report.as_ref()?.report)).map(|report| &report.phase);
    let (done_bytes, total_bytes) = match phase {
        Some(Phase::Fetching { done_bytes, total_bytes })
            if matches!(member.state, MemberState::Staging { .. }) =>
        {
            (*done_bytes, *total_bytes)
        }
        _ => (0, 0),
    };
    pb::RolloutHost {
        host: member.host.to_string(),
        progress: progress(&member.state, phase).into(),
        detail: first(view, member, seen, detail(member, seen, phase, view.now)),
        failure: member.newest_failure().map(convert::failure_message),
        done_bytes,
        total_bytes,
        touched: member.touched,
    }
}

fn progress(state: &MemberState, phase: Option<&Phase>) -> pb::HostProgress {
    match state {
        MemberState::Pending => pb::HostProgress::Pending,
        MemberState::Staging { .. } => pb::HostProgress::Staging,
        MemberState::Staged => pb::HostProgress::Staged,
        MemberState::Granted { .. } if matches!(phase, Some(Phase::Proving { .. })) => {
            pb::HostProgress::Proving
        }
        MemberState::Granted { .. } => pb::HostProgress::Activating,
        MemberState::Committed { .. } => pb::HostProgress::Committed,
        MemberState::Failed { left: Left::Reverted } => pb::HostProgress::Reverted,
        MemberState::Failed { .. } | MemberState::ReturnFailed => pb::HostProgress::Failed,
        MemberState::ReturnDue | MemberState::Returning { .. } => pb::HostProgress::RollingBack,
        MemberState::Returned { .. } => pb::HostProgress::RolledBack,
    }
}

/// With the stop that a host takes first on its way, if it does.
fn first(view: &View<'_>, member: &Member, host: Option<&Host>, detail: String) -> String {
    let asked = host.and_then(|host| host.issued.assignment.as_ref());
    let stop = asked.zip(view.state.rollout(&member.rollout)).filter(|(asked, rollout)| {
        let goes_there = matches!(member.state, MemberState::Staging { .. } | MemberState::Granted { .. });
        goes_there && asked.rollout == rollout.id && asked.release.digest != rollout.release.digest
    });
    match stop {
        Some((asked, _)) => format!("{} first: {detail}", asked.release.name),
        None => detail,
    }
}

/// What a host does or waits for, as a few words.
fn detail(member: &Member, host: Option<&Host>, phase: Option<&Phase>, now: Timestamp) -> String {
    let busy = matches!(
        member.state,
        MemberState::Staging { .. } | MemberState::Granted { .. } | MemberState::Returning { .. }
    );
    if !busy {
        return match &member.state {
            MemberState::Failed { left: Left::Held } => "the failed release is in place".to_owned(),
            MemberState::Failed { left: Left::Unknown } => "nobody knows what it was left with".to_owned(),
            _ => String::new(),
        };
    }
    let Some(host) = host else { return "no longer enrolled".to_owned() };
    if host.fresh(now).is_none() {
        return match host.seen.heard_at {
            Some(at) => format!("silent for {}", seconds(now.since(at))),
            None => "not heard of yet".to_owned(),
        };
    }
    match phase {
        Some(Phase::Fetching { done_bytes, total_bytes }) if *total_bytes > 0 => {
            format!("fetching, {} %", done_bytes.saturating_mul(100) / total_bytes)
        }
        Some(Phase::Fetching { .. }) => "fetching".to_owned(),
        Some(Phase::Preparing { step }) => format!("preparing: {step}"),
        Some(Phase::Migrating) => "migrating".to_owned(),
        Some(Phase::Activating { step }) => format!("activating: {step}"),
        Some(Phase::Proving { healthy_for }) => format!("healthy for {}", seconds(*healthy_for)),
        Some(Phase::Undoing { step }) => format!("going back: {step}"),
        Some(Phase::Idle) | None => "was asked".to_owned(),
    }
}

fn seconds(duration: Duration) -> String {
    human::format(Duration::from_secs(duration.as_secs()))
}

/// The migration, and the contract that follows in the end.
fn migration(rollout: &Rollout) -> String {
    let contracting = matches!(rollout.status.stage(), Some(Stage::Contracting { .. }));
    let run = rollout.status.stage().and_then(|stage| stage.migration());
    let moved = of_schema(run.filter(|_| !contracting), &rollout.schema);
    let name = &rollout.release.name;
    let contract = match (&rollout.contract, run.filter(|_| contracting)) {
        (None, _) => String::new(),
        (Some(contract), _) if contract.ran => format!("the contract of {name} has run"),
        (Some(_), Some(MigrationRun::Electing { doubt: None, .. })) => {
            format!("the contract of {name} has not run yet")
        }
        (Some(_), Some(run)) => format!("the contract of {name}: {}", under_way(run)),
        (Some(_), None) if rollout.ended() => format!("the contract of {name} has not run"),
        (Some(_), None) => format!("the contract of {name} runs after the last host"),
    };
    [moved, contract].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
}

fn of_schema(run: Option<&MigrationRun>, schema: &Schema) -> String {
    match (run, schema) {
        (Some(run), _) => under_way(run),
        (None, Schema::Fits { .. }) => String::new(),
        (None, Schema::Due { migration }) => {
            format!("the migration of {} has not run yet", migration.release.name)
        }
        (None, Schema::Done { migration }) => format!("the migration of {} has run", migration.release.name),
        (None, Schema::TakenBack { migration }) => {
            format!("the migration of {} was taken back", migration.release.name)
        }
    }
}

fn under_way(run: &MigrationRun) -> String {
    match run {
        MigrationRun::Leased { lease } => {
            format!(
                "{} runs it, since {}, until {} at the latest",
                lease.host,
                moment(lease.issued_at),
                moment(lease.over_at)
            )
        }
        MigrationRun::Unknown { lease, reason, .. } => format!(
            "nobody knows whether it took effect on {}: {reason}; look at the database, then `ctl migration resolve`",
            lease.host
        ),
        MigrationRun::Electing { doubt: Some(doubt), .. } => format!(
            "nobody knows how it ended on {}; a host is being chosen to run it once more",
            doubt.lease.host
        ),
        MigrationRun::Electing { .. } => "a host is being chosen to run it".to_owned(),
    }
}
