//! Why a rollout is where it is, or how it ended.

use landfall_common::report::Failure;
use landfall_common::{HostId, RolloutId, Timestamp};
use serde::Serialize;

use crate::line;
use crate::member::first_failed;
use crate::plan::{Deadline, Look, look};
use crate::reason::{PlanningReport, Wait};
use crate::record::Place;
use crate::rollout::{End, Rollout, Status};
use crate::state::State;

use super::{Next, Runs, next, runs};

/// Why a rollout is where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RolloutAccount {
    /// Since when it has its status, or was resumed.
    pub since: Timestamp,
    /// What is awaited, all of it, the most telling first; nothing once it has ended.
    pub waits: Vec<String>,
    /// What follows by itself, the next first.
    pub deadlines: Vec<Deadline>,
    /// What failed first.
    pub failed: Option<FirstFailure>,
    /// How many failed beside.
    pub failed_besides: usize,
    /// What the hosts of its place run.
    pub runs: Vec<Runs>,
    /// What to type.
    pub next: Vec<Next>,
}

/// What failed first, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FirstFailure {
    /// The host.
    pub host: HostId,
    /// When it was known; absent of a rollout whose hosts are not on record any more.
    pub at: Option<Timestamp>,
    /// What.
    pub failure: Failure,
}

/// Gives the account of a rollout; `None` if it is not known. `report` is that of the last run, which alone knows
/// whether its decisions could be stored.
#[must_use]
pub fn rollout(
    state: &State,
    report: &PlanningReport,
    id: &RolloutId,
    now: Timestamp,
) -> Option<RolloutAccount> {
    let rollout = state.rollout(id)?;
    let (waits, deadlines) = match () {
        () if rollout.ended() => (Vec::new(), Vec::new()),
        () if rollout.in_line().is_some() => in_line(state, rollout, now),
        () => under_way(state, report, &rollout.place, now),
    };
    let failed = first_failure(state, rollout);
    let all = state.members(id).filter(|member| member.newest_failure().is_some()).count();
    Some(RolloutAccount {
        since: rollout.since,
        waits,
        deadlines,
        failed_besides: all.saturating_sub(1),
        runs: runs(state.hosts(&rollout.place), now),
        next: next::of_rollout(state, rollout, failed.as_ref(), now),
        failed,
    })
}

/// What is awaited in a place that a rollout holds: what a run would say now, and what the last one alone knows.
pub(super) fn awaited(state: &State, report: &PlanningReport, place: &Place, now: Timestamp) -> Look {
    let mut looked = look(state, place, now).unwrap_or_else(|| Look {
        report: crate::reason::PlaceReport::new(place, None),
        deadlines: Vec::new(),
    });
    let unstored = report.of(place).into_iter().flat_map(|report| &report.waits);
    let unstored = unstored.filter(|wait| matches!(wait, Wait::Unstored { .. }));
    looked.report.waits.splice(0..0, unstored.cloned());
    looked
}

fn under_way(
    state: &State,
    report: &PlanningReport,
    place: &Place,
    now: Timestamp,
) -> (Vec<String>, Vec<Deadline>) {
    let looked = awaited(state, report, place, now);
    (looked.report.of_holder().collect(), looked.deadlines)
}

fn in_line(state: &State, rollout: &Rollout, now: Timestamp) -> (Vec<String>, Vec<Deadline>) {
    let waits = line::waits(state, rollout, now).into_iter().map(|wait| wait.to_string()).collect();
    let place = state.place(&rollout.place);
    let locked = place.and_then(|place| state.lock(place, now));
    let deadlines = locked.map(|lock| Deadline {
        name: "lock",
        host: None,
        at: lock.until,
        then: format!("the lock of {} ends", lock.by),
    });
    (waits, deadlines.into_iter().collect())
}

fn first_failure(state: &State, rollout: &Rollout) -> Option<FirstFailure> {
    if let Some((member, failure)) = first_failed(state.members(&rollout.id)) {
        let (host, failure) = (member.host.clone(), failure.clone());
        return Some(FirstFailure { host, at: Some(member.since), failure });
    }
    match &rollout.status {
        Status::Ended { end: End::Failed { failure, .. } | End::RolledBack { failure, .. } } => {
            let failed = failure.clone()?;
            Some(FirstFailure { host: failed.host, at: None, failure: failed.failure })
        }
        _ => None,
    }
}
