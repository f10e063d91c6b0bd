//! The line of a place: the first in it begins once nothing stands in its way.

use landfall_common::{ReleaseName, Timestamp};

use crate::approval;
use crate::begin::{self, Beginning};
use crate::line::{self, Hindrance};
use crate::log::{Actor, LogEvent, NewEntry};
use crate::output::{Effect, Output, Planned};
use crate::preview::{self, Over, Plan};
use crate::reason::{PlaceReport, PlanningReport, Wait};
use crate::record::{Change, Convergence, PlaceRecord, Record};
use crate::refusal::Refusal;
use crate::rollout::{End, Known, Rollout, Stage, Status};
use crate::state::State;
use crate::turn;

use super::room::Room;
use super::table::Table;

/// Lets the first in line begin, where the place is free. That is a decision of its own: the hosts are looked at
/// in the next run, which follows at once.
pub(super) fn next(state: &State, place: &PlaceRecord, now: Timestamp, room: &mut Room) -> Option<Planned> {
    let first = state.rollout(place.line.first()?)?;
    let Status::Active { stage: Stage::InLine { request, known } } = &first.status else { return None };
    let hindrance = line::hindrance(state, place, Some(&first.id), (&first.release, request), now);
    let hopeless = match &hindrance {
        Some(Hindrance::Unevidenced(lacking)) if !lacking.may_come() => true,
        Some(_) => return None,
        None => false,
    };
    if !hopeless && approval::missing(state, place, first).is_some() {
        return None;
    }
    let mut report = PlaceReport::new(&place.place, Some(&first.id));
    waits(state, place, now).for_each(|wait| report.add(wait));
    let report = PlanningReport { places: vec![report] };
    let again = Planned { report, wake_at: Some(now), ..Planned::default() };
    // Its place is free, and nothing was taken before: it has all of it.
    room.take_whole();
    let output = if let Some(hindrance) = hindrance {
        fallen_out(place, first, &hindrance.refusal(place), now)
    } else if let Some(reason) = unsettled(place, known).or_else(|| has_failed(state, first, known)) {
        keep_waiting(first, &reason, now)
    } else {
        // The world has moved since it was asked for.
        let plan = preview::preview(state, request, now)
            .and_then(|plan| preview::way_back_is_known(&plan, request).map(|()| plan));
        match plan {
            Ok(plan) => match stop_has_failed(state, first, &plan, known) {
                Some(reason) => keep_waiting(first, &reason, now),
                None => begun(state, place, first, plan, now),
            },
            Err(refusal) => fallen_out(place, first, &refusal, now),
        }
    };
    Some(Planned { output, ..again })
}

/// Nobody but an operator knows what should run after a rollout that ended half way: whoever stood in line then
/// waits for his word.
fn unsettled(place: &PlaceRecord, known: &Known) -> Option<String> {
    match &place.convergence {
        Convergence::Held { reason } if place.last != known.last => Some(reason.clone()),
        _ => None,
    }
}

/// What has failed since it was asked for once more is not tried on all hosts again by itself (P6).
fn has_failed(state: &State, first: &Rollout, known: &Known) -> Option<String> {
    gone_wrong(state, first, known, |_, name| *name == first.release.name).map(|(told, _)| told)
}

/// The same of what hosts would take on their way to it.
fn stop_has_failed(state: &State, first: &Rollout, plan: &Plan, known: &Known) -> Option<String> {
    let takes = |name: &ReleaseName| {
        plan.stops
            .iter()
            .any(|planned| matches!(&planned.over, Over::Stops { releases } if releases.contains(name)))
    };
    // One that ended without a host, which was silent, has failed nowhere.
    let failed_somewhere = |other: &Rollout| match &other.status {
        Status::Ended { end: End::Failed { failure, .. } } => failure.is_some(),
        _ => true,
    };
    let is_it = |other: &Rollout, name: &ReleaseName| takes(name) && failed_somewhere(other);
    let (told, stop) = gone_wrong(state, first, known, is_it)?;
    Some(format!("{told}, and hosts take {stop} on their way to {}", first.release.name))
}

/// A rollout of this place that did not bring its release, since `first` was asked for, and what of it that was: its
/// release, or a stop on the way to it.
fn gone_wrong<'s>(
    state: &'s State,
    first: &Rollout,
    known: &Known,
    is_it: impl Fn(&Rollout, &ReleaseName) -> bool,
) -> Option<(String, &'s ReleaseName)> {
    let others = state.rollouts().filter(|other| other.place == first.place);
    others.filter(|other| !known.failed.contains(&other.id)).find_map(|other| {
        let name = line::tried(state, other).find(|name| is_it(other, name))?;
        let how = line::went_wrong(state, other)?;
        let at = if *name == other.release.name { String::new() } else { format!(" at its stop {name}") };
        Some((format!("rollout {} of {} {how}{at}", other.id, other.release.name), name))
    })
}

fn keep_waiting(first: &Rollout, reason: &str, now: Timestamp) -> Output {
    let id = &first.id;
    let reason = format!(
        "{reason}, and only an operator's word decides what runs now; `ctl resume {id}` lets it begin, `ctl abort \
         {id}` ends it"
    );
    let mut rollout = first.clone();
    if let Status::Active { stage } = first.status.clone() {
        rollout.status = Status::Paused { stage, reason: reason.clone(), by: Actor::Controller };
        rollout.since = now;
    }
    let event = LogEvent::RolloutPaused { rollout: id.clone(), reason };
    decision(vec![put(Record::Rollout(Box::new(rollout)))], event, now)
}

fn begun(state: &State, place: &PlaceRecord, first: &Rollout, plan: Plan, now: Timestamp) -> Output {
    let mut place = place.clone();
    place.line.retain(|id| *id != first.id);
    let commits = first.in_line().map(|request| request.commits.clone()).unwrap_or_default();
    let (id, by, requested_at) = (first.id.clone(), first.by.clone(), first.requested_at);
    let approvals = first.approvals.clone();
    let beginning = Beginning { id, by, requested_at, approvals, commits };
    let (changes, event) = begin::begin(state, place, plan, beginning, now);
    decision(changes, event, now)
}

/// What would be refused now does not begin.
fn fallen_out(place: &PlaceRecord, first: &Rollout, refusal: &Refusal, now: Timestamp) -> Output {
    let (mut place, mut rollout) = (place.clone(), first.clone());
    let reason = format!("when its turn came it could not begin: {refusal}");
    let end = End::Failed { reason, failure: None };
    let event = turn::leave_line(&mut rollout, &mut place, end.clone(), now);
    let changes = vec![put(Record::Rollout(Box::new(rollout))), put(Record::Place(Box::new(place)))];
    let effects = vec![Effect::Ended { rollout: first.id.clone(), end }];
    Output { effects, ..decision(changes, event, now) }
}

fn decision(changes: Vec<Change>, event: LogEvent, now: Timestamp) -> Output {
    Output { changes, log: vec![NewEntry::by_controller(now, event)], effects: Vec::new() }
}

fn put(record: Record) -> Change {
    Change::Put { record }
}

/// Says what those in line wait for.
pub(super) fn report(table: &mut Table<'_>) {
    let waits: Vec<Wait> = waits(table.state, &table.place, table.now).collect();
    waits.into_iter().for_each(|wait| table.wait(wait));
}

fn waits<'a>(state: &'a State, place: &'a PlaceRecord, now: Timestamp) -> impl Iterator<Item = Wait> + 'a {
    let in_line = place.line.iter().filter_map(|id| state.rollout(id));
    in_line.flat_map(move |rollout| line::waits(state, rollout, now))
}
