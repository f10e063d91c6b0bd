//! The gate's question about one host: is there fresh evidence that it runs this release, healthily (P5)?

use landfall_common::assignment::ReleaseRef;
use landfall_common::report::{Health, Phase};
use landfall_common::strategy::Strategy;
use landfall_common::{Duration, Generation};

use crate::member::Member;
use crate::reason::Why;
use crate::rollout::Rollout;
use crate::state::State;

use super::blue_green;
use super::table::{Seat, Table};

/// How long a host has to be healthy, and within what time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Proof {
    pub min_healthy: Duration,
    pub healthy_deadline: Duration,
}

impl Proof {
    pub fn of(strategy: &Strategy) -> Self {
        Self { min_healthy: strategy.min_healthy, healthy_deadline: strategy.healthy_deadline }
    }

    /// For the release before: as its own definition says. What the failed one asks for may be the very thing
    /// that is wrong with it, a deadline for instance that no host can meet.
    pub fn back(state: &State, rollout: &Rollout) -> Self {
        let place = &rollout.place;
        let previous = rollout.previous.as_ref();
        let previous = previous.and_then(|previous| state.release(&place.application, &previous.name));
        let own = previous.and_then(|previous| previous.environments.get(&place.environment));
        Self::of(own.unwrap_or(&rollout.strategy))
    }

    /// For a stop on the way: as its own definition says.
    pub fn of_stop(state: &State, rollout: &Rollout, stop: &ReleaseRef) -> Self {
        let place = &rollout.place;
        let stop = state.release(&place.application, &stop.name);
        let own = stop.and_then(|stop| stop.environments.get(&place.environment));
        Self::of(own.unwrap_or(&rollout.strategy))
    }
}

/// What a host is about that was asked to activate something and has not said how it ended.
pub(super) fn under_way(table: &Table<'_>, seat: &Seat<'_>, member: &Member, min_healthy: Duration) -> Why {
    match seat.fresh.map(|received| &received.report.phase) {
        Some(Phase::Proving { healthy_for }) => Why::Young { period: *healthy_for, of: min_healthy },
        Some(Phase::Activating { step } | Phase::Undoing { step } | Phase::Preparing { step }) => {
            Why::Step { step: step.clone() }
        }
        _ => unanswered(table, member),
    }
}

/// How long a host has been asked for something that it has not answered.
pub(super) fn unanswered(table: &Table<'_>, member: &Member) -> Why {
    let period = table.now.since(member.since);
    match member.unheeded {
        0 => Why::Unanswered { period },
        orders => Why::Unheeded { orders, period },
    }
}

/// `None` if there is evidence; else what is missing.
///
/// Evidence is a report that came over the connection that stands, not long ago, after the host had taken
/// the assignment, that names this digest as active and proven and has been healthy for long enough, with its requests:
/// healthy without load is no proof, but for the first of two groups, which is to get none yet. They come back to a host that was drained once it is healthy, so that nothing waits
/// for ever.
pub(super) fn missing(
    table: &Table<'_>,
    seat: &Seat<'_>,
    release: &ReleaseRef,
    generation: Generation,
    min_healthy: Duration,
) -> Option<Why> {
    let Some(received) = seat.fresh else { return Some(table.unheard(seat)) };
    let report = &received.report;
    if report.generation < generation {
        return Some(Why::Stale);
    }
    match &report.active {
        Some(active) if active.release.digest == release.digest && active.proven => {}
        Some(active) if active.release.digest == release.digest => return Some(Why::Stale),
        other => {
            return Some(Why::OtherRelease {
                release: other.as_ref().map(|active| active.release.name.clone()),
            });
        }
    }
    match &report.health {
        Health::Healthy { period } if *period >= min_healthy => {
            let unloaded = report.traffic.is_away() && !blue_green::proves_without_requests(table, seat);
            unloaded.then_some(Why::Unloaded)
        }
        Health::Healthy { period } => Some(Why::Young { period: *period, of: min_healthy }),
        Health::Unknown => Some(Why::Unhealthy { check: "no check has looked yet".to_owned() }),
        Health::Unhealthy { failing } => {
            let first = failing.iter().next();
            let check = first.map_or_else(String::new, |(name, saw)| format!("{name} {saw}"));
            Some(Why::Unhealthy { check })
        }
    }
}
