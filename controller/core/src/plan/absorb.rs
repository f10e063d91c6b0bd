//! What hosts report becomes what members have done.

use landfall_common::assignment::Order;
use landfall_common::report::{Failure, Health, OutcomeKind};
use landfall_common::time::human;
use landfall_common::{Generation, StepName, Timestamp};

use crate::log::LogEvent;
use crate::member::{Left, MemberState};
use crate::observation::Standing;
use crate::refusal::seconds;
use crate::rollout::{Rollout, Stage};
use crate::state::State;
use crate::timing::{ACTIVATE_ACCEPT, ANSWER_MARGIN};

use super::evidence::Proof;
use super::room::{weight, weight_of};
use super::stops;
use super::table::{Seat, Table};

/// What a report means for a member.
enum Move {
    /// It is now in this state.
    To(MemberState),
    /// It has not taken its order, and is in this state again.
    Again(MemberState),
    /// The release failed on it.
    Fail(Left, Failure),
    /// The way back failed on it.
    ReturnFail(Failure),
}

/// Takes in what hosts have reported, as much of it as there is room for.
pub(super) fn members(table: &mut Table<'_>) {
    let Some(rollout) = table.rollout.clone() else { return };
    let now = table.now;
    let mut events = Vec::new();
    for seat in &mut table.seats {
        if seat.member.is_none() {
            continue;
        }
        let Some((step, said)) = moved(seat, &rollout, table.state, now) else { continue };
        // In the record of the host, and in the log.
        let newest = match &step {
            Move::Fail(_, failure) | Move::ReturnFail(failure) => 2 * weight_of(failure),
            Move::To(_) | Move::Again(_) => 0,
        };
        if !table.room.take(newest + seat.member.as_deref().map_or(0, weight)) {
            table.in_parts = true;
            break;
        }
        let event = |generation: Generation, outcome: &OutcomeKind| LogEvent::StepOutcome {
            rollout: rollout.id.clone(),
            host: seat.host.record.id.clone(),
            release: about(seat, &rollout),
            generation,
            outcome: outcome.clone(),
        };
        match (&said, &step) {
            // That each of many hosts has staged is no news; that it could not is.
            (Some((_, OutcomeKind::Staged)), _) => {}
            (Some((generation, outcome)), _) => events.push(event(*generation, outcome)),
            (None, Move::Fail(_, failure) | Move::ReturnFail(failure)) => {
                events.push(LogEvent::HostFailed {
                    rollout: rollout.id.clone(),
                    host: seat.host.record.id.clone(),
                    release: about(seat, &rollout),
                    reason: failure.reason.clone(),
                });
            }
            (None, Move::To(_) | Move::Again(_)) => {}
        }
        if let Move::Fail(..) = step {
            let stop = stops::over(seat, &rollout).map(|stop| stop.name.clone());
            seat.stumbled_at(stop);
        }
        match step {
            Move::To(state) => seat.set(state, now),
            Move::Again(state) => seat.unheeded(state),
            Move::Fail(left, failure) => seat.fail(left, failure, now),
            Move::ReturnFail(failure) => {
                seat.fail_return(failure, now);
            }
        }
    }
    events.into_iter().for_each(|event| table.log(event));
}

fn about(seat: &Seat<'_>, rollout: &Rollout) -> landfall_common::ReleaseName {
    let assignment = seat.host.issued.assignment.as_ref();
    assignment.map_or(&rollout.release, |assignment| &assignment.release).name.clone()
}

type Said = Option<(Generation, OutcomeKind)>;

fn moved(seat: &Seat<'_>, rollout: &Rollout, state: &State, now: Timestamp) -> Option<(Move, Said)> {
    let member = seat.member.as_ref()?;
    let back = matches!(rollout.status.stage(), Some(Stage::RollingBack { .. }));
    let runs_release = seat.host.proven_digest() == Some(rollout.release.digest);
    match &member.state {
        MemberState::Pending if seat.fresh.is_some() && runs_release => {
            Some((Move::To(MemberState::Staged), None))
        }
        MemberState::Pending | MemberState::Staged | MemberState::ReturnDue | MemberState::ReturnFailed => {
            None
        }
        MemberState::Staging { generation } => staging(seat, rollout, *generation, now),
        MemberState::Granted { generation } => granted(seat, rollout, *generation, state, now),
        MemberState::Committed { .. } if back => None,
        MemberState::Committed { generation } => committed(seat, rollout, *generation, state, now),
        MemberState::Failed { left: Left::Unknown } if !back => late_word(seat, rollout, now),
        // What it went back to by itself must hold as well before the rollout can be called rolled back.
        MemberState::Failed { left: Left::Reverted } if back => {
            let previous = rollout.previous.as_ref().map(|previous| previous.digest);
            let is_back = seat.host.proven_digest() == previous;
            is_back.then(|| returned(seat, rollout, state, now))?
        }
        MemberState::Failed { .. } => None,
        MemberState::Returning { generation } => returning(seat, rollout, *generation, state, now),
        MemberState::Returned { .. } => returned(seat, rollout, state, now),
    }
}

/// What has become of the member's assignment, if it is still the newest that the host was given.
fn standing<'s>(seat: &'s Seat<'_>, generation: Generation, now: Timestamp) -> Standing<'s> {
    match &seat.host.issued.assignment {
        Some(assignment) if assignment.generation == generation => seat.host.standing(assignment, now),
        _ => Standing::Overtaken,
    }
}

fn expired(seat: &Seat<'_>, now: Timestamp) -> bool {
    seat.host.issued.assignment.as_ref().is_none_or(|assignment| now > assignment.expires_at)
}

fn staging(
    seat: &Seat<'_>,
    rollout: &Rollout,
    generation: Generation,
    now: Timestamp,
) -> Option<(Move, Said)> {
    match standing(seat, generation, now) {
        Standing::Open | Standing::Accepted => None,
        Standing::Lapsed | Standing::Overtaken => Some((Move::Again(MemberState::Pending), None)),
        Standing::Ended(outcome) => {
            let said = Some((generation, outcome.clone()));
            Some(match outcome {
                OutcomeKind::Staged => (Move::To(MemberState::Staged), said),
                // Too late is nobody's fault: it is asked again.
                OutcomeKind::Refused { .. } if expired(seat, now) => {
                    (Move::Again(MemberState::Pending), None)
                }
                other => {
                    let failure = stops::failed_at(stops::over(seat, rollout), why(other, "staging"));
                    (Move::Fail(Left::Untouched, failure), said)
                }
            })
        }
    }
}

fn granted(
    seat: &Seat<'_>,
    rollout: &Rollout,
    generation: Generation,
    state: &State,
    now: Timestamp,
) -> Option<(Move, Said)> {
    let runs_release = seat.host.proven_digest() == Some(rollout.release.digest);
    let over = stops::over(seat, rollout);
    let proof = match over {
        Some(stop) => Proof::of_stop(state, rollout, stop),
        None => Proof::of(&rollout.strategy),
    };
    let at_stop = |failure: Failure| stops::failed_at(over, failure);
    let standing = standing(seat, generation, now);
    if let (Some(stop), Standing::Ended(OutcomeKind::Committed)) = (over, &standing)
        && seat.runs(stop)
    {
        let said = Some((generation, OutcomeKind::Committed));
        // From there it goes on: it stages what it takes next.
        if stops::is_proven(seat, stop, proof) {
            return Some((Move::To(MemberState::Pending), said));
        }
        let waited = overdue(seat, proof, state, now)?;
        let sentence = format!("it has taken it, and is not healthy {waited} after it was asked");
        return Some((Move::Fail(Left::Held, at_stop(failure("health", sentence))), said));
    }
    match standing {
        Standing::Ended(outcome) => {
            let said = Some((generation, outcome.clone()));
            Some(match outcome {
                OutcomeKind::Committed if runs_release && over.is_none() => {
                    (Move::To(MemberState::Committed { generation }), said)
                }
                OutcomeKind::Committed => {
                    let sentence = "it reported success, but another release as active";
                    (Move::Fail(Left::Unknown, at_stop(failure("activate", sentence.to_owned()))), said)
                }
                OutcomeKind::Refused { .. } if expired(seat, now) => (Move::Again(MemberState::Staged), None),
                OutcomeKind::Reverted { failure } => {
                    (Move::Fail(Left::Reverted, at_stop(failure.clone())), said)
                }
                OutcomeKind::Refused { failure } | OutcomeKind::StageFailed { failure } => {
                    (Move::Fail(Left::Untouched, at_stop(failure.clone())), said)
                }
                other => (Move::Fail(Left::Held, at_stop(why(other, "activate"))), said),
            })
        }
        Standing::Lapsed => Some((Move::Again(MemberState::Staged), None)),
        Standing::Overtaken if runs_release && !rollout.is_restart() => {
            let generation = seat.host.seen.report.as_ref()?.report.generation;
            Some((Move::To(MemberState::Committed { generation }), None))
        }
        Standing::Overtaken if seat.fresh.is_some() => Some((Move::Again(MemberState::Staged), None)),
        Standing::Open | Standing::Accepted | Standing::Overtaken => {
            let waited = overdue(seat, proof, state, now)?;
            let sentence = format!("it was asked to activate and has not said for {waited} how it ended");
            Some((Move::Fail(Left::Unknown, at_stop(failure("activate", sentence))), None))
        }
    }
}

/// How long an answer has been awaited, once that is longer than any answer takes.
fn overdue(seat: &Seat<'_>, proof: Proof, state: &State, now: Timestamp) -> Option<String> {
    let (since, due) = answer_due(seat, proof, state, now)?;
    (now >= due).then(|| seconds(now.since(since)))
}

/// Since when an answer has been awaited, and until when that is no longer than an answer takes. After a start
/// the controller gives its hosts the time to come back.
pub(super) fn answer_due(
    seat: &Seat<'_>,
    proof: Proof,
    state: &State,
    now: Timestamp,
) -> Option<(Timestamp, Timestamp)> {
    // Since this order, not since the first of several that it did not take.
    let issued = seat.host.issued.assignment.as_ref().map(|assignment| assignment.issued_at);
    let since = issued.unwrap_or_default().max(seat.member.as_ref()?.since);
    let since = state.counted(since, now);
    let bound = ACTIVATE_ACCEPT + proof.healthy_deadline * 2 + ANSWER_MARGIN;
    Some((since, (since + bound).max(state.started_at + ACTIVATE_ACCEPT)))
}

fn committed(
    seat: &Seat<'_>,
    rollout: &Rollout,
    generation: Generation,
    state: &State,
    now: Timestamp,
) -> Option<(Move, Said)> {
    let report = &seat.fresh?.report;
    if report.generation < generation {
        return None;
    }
    let active = report.active.as_ref();
    if active.is_none_or(|active| active.release.digest != rollout.release.digest) {
        let before = rollout.previous.as_ref().map(|previous| previous.digest);
        let reverted = active.is_some_and(|active| Some(active.release.digest) == before && active.proven);
        let left = if reverted { Left::Reverted } else { Left::Unknown };
        let name = active.map_or("nothing", |active| active.release.name.as_str());
        let sentence = format!("it had committed the release and now runs {name}");
        return Some((Move::Fail(left, failure("health", sentence)), None));
    }
    let sentence = unstable(seat, Proof::of(&rollout.strategy), state, now)?;
    Some((
        Move::Fail(Left::Held, failure("health", format!("it had committed the release and {sentence}"))),
        None,
    ))
}

/// What is to be said of a host that was not healthy for long enough at a stretch for as long as the healthy
/// deadline. One that flaps would hold the gate, or the end, for ever.
///
/// It counts up to the host's newest word: how long it has been healthy it says only now and then, and a
/// deadline may be shorter than the time between two heartbeats.
fn unstable(seat: &Seat<'_>, proof: Proof, state: &State, now: Timestamp) -> Option<String> {
    let unstable_for = seat.fresh?.at.since(unstable_since(seat, proof, state, now)?);
    (unstable_for >= proof.healthy_deadline).then(|| {
        let min_healthy = human::format(proof.min_healthy);
        format!("was not healthy for {min_healthy} at a stretch since {} ago", seconds(unstable_for))
    })
}

/// Since when a host has not been healthy for long enough at a stretch; `None` if it is, or cannot be heard of.
pub(super) fn unstable_since(
    seat: &Seat<'_>,
    proof: Proof,
    state: &State,
    now: Timestamp,
) -> Option<Timestamp> {
    let told = seat.fresh?;
    if matches!(told.report.health, Health::Healthy { period } if period >= proof.min_healthy) {
        return None;
    }
    let seen = &seat.host.seen;
    let since = state.counted(seat.member.as_ref()?.since, now).max(state.started_at);
    Some(since.max(seen.connected_at.max(seen.stable_at).unwrap_or_default()))
}

/// A host that was given up says after all how it ended.
fn late_word(seat: &Seat<'_>, rollout: &Rollout, now: Timestamp) -> Option<(Move, Said)> {
    let assignment = seat.host.issued.assignment.as_ref()?;
    let generation = assignment.generation;
    let over = stops::over(seat, rollout).filter(|_| matches!(assignment.order, Order::Activate { .. }));
    if assignment.release.digest != rollout.release.digest && over.is_none() {
        return None;
    }
    let Standing::Ended(outcome) = seat.host.standing(assignment, now) else { return None };
    let said = Some((generation, outcome.clone()));
    match outcome {
        OutcomeKind::Committed if over.is_some_and(|stop| seat.runs(stop)) => {
            Some((Move::To(MemberState::Pending), said))
        }
        OutcomeKind::Committed if seat.host.proven_digest() == Some(rollout.release.digest) => {
            Some((Move::To(MemberState::Committed { generation }), said))
        }
        OutcomeKind::Reverted { failure } => {
            Some((Move::Fail(Left::Reverted, stops::failed_at(over, failure.clone())), said))
        }
        OutcomeKind::Held { failure } | OutcomeKind::UndoFailed { failure, .. } => {
            Some((Move::Fail(Left::Held, stops::failed_at(over, failure.clone())), said))
        }
        _ => None,
    }
}

fn returning(
    seat: &Seat<'_>,
    rollout: &Rollout,
    generation: Generation,
    state: &State,
    now: Timestamp,
) -> Option<(Move, Said)> {
    let previous = rollout.previous.as_ref()?;
    let is_back = seat.host.proven_digest() == Some(previous.digest);
    let over = stops::over(seat, rollout);
    let proof = match over {
        Some(stop) => Proof::of_stop(state, rollout, stop),
        None => Proof::back(state, rollout),
    };
    let standing = standing(seat, generation, now);
    if let (Some(stop), Standing::Ended(OutcomeKind::Committed)) = (over, &standing)
        && seat.runs(stop)
    {
        let said = Some((generation, OutcomeKind::Committed));
        if stops::is_proven(seat, stop, proof) {
            return Some((Move::To(MemberState::ReturnDue), said));
        }
        let waited = overdue(seat, proof, state, now)?;
        let sentence = format!("it has taken it, and is not healthy {waited} after it was asked");
        return Some((Move::ReturnFail(stops::failed_at(over, failure("health", sentence))), said));
    }
    match standing {
        Standing::Ended(outcome) => {
            let said = Some((generation, outcome.clone()));
            Some(match outcome {
                OutcomeKind::Committed if is_back && over.is_none() => {
                    (Move::To(MemberState::Returned { generation }), said)
                }
                OutcomeKind::Refused { .. } if expired(seat, now) => {
                    (Move::Again(MemberState::ReturnDue), None)
                }
                other => (Move::ReturnFail(stops::failed_at(over, why(other, "activate"))), said),
            })
        }
        Standing::Lapsed => Some((Move::Again(MemberState::ReturnDue), None)),
        Standing::Overtaken if seat.fresh.is_some() => Some((Move::Again(MemberState::ReturnDue), None)),
        Standing::Open | Standing::Accepted | Standing::Overtaken => {
            // A silent host is waited for: it was not this that failed.
            seat.fresh?;
            let waited = overdue(seat, proof, state, now)?;
            let sentence = format!("it was asked to go back and has not said for {waited} how it ended");
            Some((Move::ReturnFail(stops::failed_at(over, failure("activate", sentence))), None))
        }
    }
}

fn returned(seat: &Seat<'_>, rollout: &Rollout, state: &State, now: Timestamp) -> Option<(Move, Said)> {
    let report = &seat.fresh?.report;
    let previous = rollout.previous.as_ref()?;
    let active = report.active.as_ref();
    if active.is_none_or(|active| active.release.digest != previous.digest) {
        let name = active.map_or("nothing", |active| active.release.name.as_str());
        let sentence = format!("it had gone back and now runs {name}");
        return Some((Move::ReturnFail(failure("health", sentence)), None));
    }
    let sentence = unstable(seat, Proof::back(state, rollout), state, now)?;
    Some((Move::ReturnFail(failure("health", format!("it had gone back and {sentence}"))), None))
}

/// Why an outcome is a failure.
fn why(outcome: &OutcomeKind, step: &str) -> Failure {
    match outcome {
        OutcomeKind::StageFailed { failure }
        | OutcomeKind::MigrationFailed { failure }
        | OutcomeKind::MigrationUnknown { failure }
        | OutcomeKind::Reverted { failure }
        | OutcomeKind::Held { failure }
        | OutcomeKind::UndoFailed { failure, .. }
        | OutcomeKind::Refused { failure } => failure.clone(),
        OutcomeKind::Staged | OutcomeKind::Migrated | OutcomeKind::Committed => {
            failure(step, "it answered something else than it was asked".to_owned())
        }
    }
}

pub(super) fn failure(step: &str, reason: String) -> Failure {
    Failure::new(StepName::new(step).expect("a word of letters"), reason)
}
