//! The turns that a rollout takes for more than one reason: a migration that is known to have run, the way
//! back, the end.

use landfall_common::assignment::{Direction, ReleaseRef};
use landfall_common::{HostId, Timestamp};

use crate::log::{LogEvent, RolloutEnd};
use crate::member::{LeftOut, Member, MemberState};
use crate::reason::WayOut;
use crate::record::{Applied, Convergence, PlaceRecord, Proven, Rehearsal, WayBackKind};
use crate::rollout::{Back, End, HostFailure, MigrationRun, Rollout, RolloutKind, Schema, Stage, Status};
use crate::schema::{self, Way};
use crate::state::State;
use crate::timing::HISTORY;

/// A batch begins; what the log is told of it.
#[must_use]
pub(crate) fn begin_batch(rollout: &mut Rollout, batch: u32, now: Timestamp) -> LogEvent {
    rollout.enter(Stage::Running { batch }, now);
    LogEvent::BatchStarted {
        rollout: rollout.id.clone(),
        batch: u64::from(batch),
        of: u64::from(rollout.batches),
    }
}

/// The migration that the stage is about has run: the database's record and the rollout go on, and what the log is told
/// where the first batch begins with that.
#[must_use]
pub(crate) fn migrated(rollout: &mut Rollout, place: &mut PlaceRecord, now: Timestamp) -> Option<LogEvent> {
    let stage = rollout.status.stage().cloned()?;
    match stage {
        Stage::Migrating { .. } => {
            if let Schema::Due { migration } = rollout.schema.clone() {
                match migration.direction {
                    Direction::Up => {
                        place.migrations.push(Applied {
                            release: migration.release.clone(),
                            from: rollout.previous.clone(),
                            facts: migration.facts.clone(),
                            at: now,
                        });
                        let surplus = place.migrations.len().saturating_sub(HISTORY);
                        place.migrations.drain(..surplus);
                    }
                    Direction::Down => take_back(place, &migration.release),
                    Direction::Contract => {}
                }
                rollout.schema = Schema::Done { migration };
            }
            return Some(begin_batch(rollout, 1, now));
        }
        Stage::RollingBack { reason, back: Back::Schema { migration, .. } } => {
            take_back(place, &migration.release);
            rollout.schema = Schema::TakenBack { migration: *migration };
            rollout.enter(Stage::RollingBack { reason, back: Back::Hosts }, now);
        }
        Stage::Contracting { run } => {
            let fence = run.in_doubt().map_or(place.fence, |lease| lease.fence);
            contracted(rollout, place, fence, now);
            rollout.enter(Stage::Contracting { run: MigrationRun::anew() }, now);
        }
        Stage::InLine { .. }
        | Stage::Staging
        | Stage::Running { .. }
        | Stage::Canary { .. }
        | Stage::Gated { .. }
        | Stage::Switching
        | Stage::Watching { .. }
        | Stage::RollingBack { .. } => {}
    }
    None
}

/// The contract of the rollout has run.
pub(crate) fn contracted(rollout: &mut Rollout, place: &mut PlaceRecord, fence: u64, now: Timestamp) {
    place.contract_ran(&rollout.release, fence, now);
    if let Some(contract) = &mut rollout.contract {
        contract.ran = true;
    }
}

fn take_back(place: &mut PlaceRecord, release: &ReleaseRef) {
    if let Some(at) = place.migrations.iter().rposition(|applied| applied.release == *release) {
        place.migrations.remove(at);
    }
}

/// Why a rollout cannot go back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoReturn {
    /// It is itself the way back; going back from it would be a loop.
    IsRollback,
    /// It brings nothing: the same release runs.
    IsRestart,
    /// Nothing else was in force.
    NothingBefore,
    /// The schema stands in the way.
    Schema {
        /// Why.
        reason: String,
        /// What would be needed.
        needed: String,
    },
}

/// What somebody may do who does not want to wait for a rollout any longer.
pub(crate) fn way_out(state: &State, rollout: &Rollout, place: &PlaceRecord) -> WayOut {
    let run = rollout.status.stage().and_then(Stage::migration);
    match way_back(state, rollout, place, "") {
        _ if run.and_then(MigrationRun::in_doubt).is_some() => WayOut::Resolve,
        Ok(_) => WayOut::Back,
        Err(NoReturn::IsRestart) => WayOut::Others,
        Err(_) => WayOut::Stay,
    }
}

/// The stage in which a rollout goes back.
pub(crate) fn way_back(
    state: &State,
    rollout: &Rollout,
    place: &PlaceRecord,
    reason: &str,
) -> Result<Stage, NoReturn> {
    if rollout.kind == RolloutKind::Rollback {
        return Err(NoReturn::IsRollback);
    }
    if rollout.is_restart() {
        return Err(NoReturn::IsRestart);
    }
    let previous = rollout.previous.as_ref().filter(|previous| previous.digest != rollout.release.digest);
    let previous = previous.ok_or(NoReturn::NothingBefore)?;
    let back = match schema::way_back(state, place, previous) {
        Way::Code => Back::Hosts,
        Way::Down(migration) => {
            let run = MigrationRun::anew();
            Back::Schema { migration: Box::new(migration), run }
        }
        Way::Blocked { reason, needed } => return Err(NoReturn::Schema { reason, needed }),
    };
    Ok(Stage::RollingBack { reason: reason.to_owned(), back })
}

/// Whether a host may put the previous release back by itself: only where old code can meet the schema.
pub(crate) fn may_revert(state: &State, rollout: &Rollout, place: &PlaceRecord) -> bool {
    match (rollout.kind, &rollout.previous) {
        (_, None) => false,
        (RolloutKind::Forward | RolloutKind::Drill, Some(previous)) => meets_schema(state, place, previous),
        // Only of a host that does not run the release in force, and is brought to it.
        (RolloutKind::Restart, Some(_)) => true,
        (RolloutKind::Rollback, Some(_)) => matches!(rollout.schema, Schema::Fits { .. }),
    }
}

/// Whether a release runs on the schema as it is.
pub(crate) fn meets_schema(state: &State, place: &PlaceRecord, release: &ReleaseRef) -> bool {
    matches!(schema::way_back(state, place, release), Way::Code)
}

/// What an end means for its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fleet {
    /// The release is what the fleet runs from now on.
    TookIt,
    /// The fleet runs what it ran before.
    AsBefore,
    /// Every host of it was seen to run what is in force.
    InForce,
    /// It runs a mixture, or code that may not fit the schema: only an operator can say what should run.
    Mixed,
}

/// Ends a rollout and frees its place.
pub(crate) fn end<'m>(
    rollout: &mut Rollout,
    place: &mut PlaceRecord,
    end: End,
    fleet: Fleet,
    members: impl Iterator<Item = &'m Member>,
    now: Timestamp,
) -> LogEvent {
    let (mut hosts, mut hosts_done, mut touched_out) = (0, 0, false);
    let mut left_out = Vec::new();
    for member in members {
        hosts += 1;
        let done = match (&end, &member.state) {
            (End::Rehearsed { .. }, state) => matches!(state, MemberState::Returned { .. }),
            (_, state) => matches!(state, MemberState::Committed { .. }),
        };
        match &member.left_out {
            None => hosts_done += u64::from(done),
            Some(why) => {
                touched_out |= member.touched;
                left_out.push((&member.host, why));
            }
        }
    }
    if let (End::Rehearsed { there, back }, Some(back_to)) = (&end, &rollout.previous) {
        place.rehearsed = Some(Rehearsal {
            rollout: rollout.id.clone(),
            release: rollout.release.clone(),
            back_to: back_to.clone(),
            at: now,
            hosts: hosts_done,
            there: *there,
            back: *back,
        });
    }
    rollout.left_out = told_of(&left_out);
    place.holder = None;
    place.last = Some(rollout.id.clone());
    match fleet {
        Fleet::TookIt => {
            let (release, rollout) = (rollout.release.clone(), rollout.id.clone());
            // What somebody left out after it was let go has proven nothing.
            let whole = matches!(end, End::Succeeded) && !touched_out;
            place.proven.push(Proven { release, rollout, at: now, whole, gone_back: false });
            let surplus = place.proven.len().saturating_sub(HISTORY);
            place.proven.drain(..surplus);
            place.convergence = Convergence::On;
        }
        Fleet::AsBefore => {}
        Fleet::InForce => place.convergence = Convergence::On,
        Fleet::Mixed => {
            let (word, _) = told(&end);
            let reason = format!("rollout {} of {} {word}", rollout.id, rollout.release.name);
            place.convergence = Convergence::Held { reason };
        }
    }
    finished(rollout, end, (hosts_done, hosts), now)
}

/// How many hosts a sentence on those that were left out names.
const NAMED: usize = 5;

/// Which hosts were left out, and why: `web-7, excluded by ana: its disk is broken`.
fn told_of(left_out: &[(&HostId, &LeftOut)]) -> String {
    let each = |(host, LeftOut { how, word }): &(&HostId, &LeftOut)| {
        format!("{host}, {} by {}: {}", how.as_str(), word.by, word.reason)
    };
    let mut told: Vec<String> = left_out.iter().take(NAMED).map(each).collect();
    if left_out.len() > NAMED {
        told.push(format!("and {} more", left_out.len() - NAMED));
    }
    told.join("; ")
}

/// An end as the log tells it.
fn told(end: &End) -> (RolloutEnd, String) {
    match end {
        End::Succeeded => (RolloutEnd::Succeeded, String::new()),
        End::Failed { reason, failure } => (RolloutEnd::Failed, with_failure(reason, failure.as_ref())),
        End::RolledBack { reason, failure } => {
            (RolloutEnd::RolledBack, with_failure(reason, failure.as_ref()))
        }
        End::Rehearsed { .. } => (RolloutEnd::Rehearsed, String::new()),
        End::Aborted { reason, .. } => (RolloutEnd::Aborted, reason.clone()),
        End::Superseded { by } => (RolloutEnd::Superseded, format!("by {by}")),
    }
}

/// Ends a rollout that stands in line and has not begun: it leaves the line, and nothing else changes.
pub(crate) fn leave_line(
    rollout: &mut Rollout,
    place: &mut PlaceRecord,
    end: End,
    now: Timestamp,
) -> LogEvent {
    place.line.retain(|id| *id != rollout.id);
    finished(rollout, end, (0, 0), now)
}

fn finished(rollout: &mut Rollout, end: End, (hosts_done, hosts): (u64, u64), now: Timestamp) -> LogEvent {
    let (word, mut reason) = told(&end);
    if !rollout.left_out.is_empty() {
        let before = if reason.is_empty() { String::new() } else { format!("{reason}; ") };
        reason = format!("{before}left out: {}", rollout.left_out);
    }
    rollout.status = Status::Ended { end };
    rollout.since = now;
    LogEvent::RolloutFinished {
        rollout: rollout.id.clone(),
        application: rollout.place.application.clone(),
        environment: rollout.place.environment.clone(),
        release: rollout.release.clone(),
        end: word,
        reason,
        started_at: rollout.began_at(),
        hosts_done,
        hosts,
    }
}

fn with_failure(reason: &str, failure: Option<&HostFailure>) -> String {
    match failure {
        Some(HostFailure { host, failure }) if !reason.contains(&failure.reason) => {
            format!("{reason}; first on {host}, at {}: {}", failure.step, failure.reason)
        }
        _ => reason.to_owned(),
    }
}

/// Whether the database is on a schema that the release in force before was not made for.
pub(crate) fn schema_moved(rollout: &Rollout) -> bool {
    matches!(&rollout.schema, Schema::Done { migration }
        if migration.direction == Direction::Down || migration.facts.way_back != WayBackKind::Compatible)
}
