//! Who comes to a release over others, and who cannot come to it: what `ctl plan` says of it, and what is refused.

use std::collections::BTreeSet;

use landfall_common::assignment::ReleaseRef;
use landfall_common::report::Active;
use landfall_common::{HostId, ReleaseName, Timestamp};
use serde::Serialize;

use crate::observation::Host;
use crate::record::{Place, PlaceRecord};
use crate::refusal::Refusal;
use crate::rollout::Schema;
use crate::schema;
use crate::state::State;
use crate::stops::{self, NoWay};

use super::Plan;

/// Hosts that come to a release in the same way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedStops {
    /// Which.
    pub hosts: Vec<HostId>,
    /// How.
    #[serde(flatten)]
    pub over: Over,
}

/// How hosts come to a release that cannot take it as they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "way", rename_all = "snake_case")]
pub enum Over {
    /// They take these first, one after the other.
    Stops {
        /// Which, in their order.
        releases: Vec<ReleaseName>,
    },
    /// They cannot.
    NoWay {
        /// Why, and what helps.
        reason: String,
    },
}

/// Of the hosts that have been heard of, in their order.
pub(super) fn planned(
    state: &State,
    place: &Place,
    hosts: &[&Host],
    (release, due, previous): (&ReleaseRef, &Schema, Option<&ReleaseRef>),
    now: Timestamp,
) -> Vec<PlannedStops> {
    let Some(record) = state.place(place) else { return Vec::new() };
    let record = schema::after(record, due, previous, now);
    let mut all: Vec<PlannedStops> = Vec::new();
    for host in hosts {
        let runs = host.seen.report.as_ref().and_then(|received| received.report.active.as_ref());
        let over = match stops::of(state, &record, runs, release) {
            Ok(way) if way.is_empty() => continue,
            Ok(way) => Over::Stops { releases: way.into_iter().map(|stop| stop.name).collect() },
            Err(no_way) => Over::NoWay { reason: no_way.to_string() },
        };
        let id = host.record.id.clone();
        match all.iter_mut().find(|known| known.over == over) {
            Some(known) => known.hosts.push(id),
            None => all.push(PlannedStops { hosts: vec![id], over }),
        }
    }
    all
}

/// Those that cannot come to the release.
pub(super) fn barred(planned: &[PlannedStops]) -> BTreeSet<HostId> {
    let barred = planned.iter().filter(|planned| matches!(planned.over, Over::NoWay { .. }));
    barred.flat_map(|planned| planned.hosts.iter().cloned()).collect()
}

/// Refuses what hosts cannot come to that run what is in force: it would fail on nearly all of them. `place` is the
/// record as it will be when they are let go.
pub(super) fn lead_there(state: &State, place: &PlaceRecord, release: &ReleaseRef) -> Result<(), Refusal> {
    let Some(in_force) = place.in_force() else { return Ok(()) };
    from(state, place, &in_force.release, release).map(|_| ()).map_err(|no_way| Refusal::NoWayThere {
        release: release.name.clone(),
        place: Box::new(place.place.clone()),
        reason: format!("{} is in force there, and {}", in_force.release.name, no_way.reason()),
        needed: no_way.helps,
    })
}

/// Refuses a drill in which hosts would take a stop, there or back again: what a stop does to a host is not rehearsed.
pub(super) fn straight(
    state: &State,
    place: &PlaceRecord,
    (here, there): (&ReleaseRef, &ReleaseRef),
) -> Result<(), String> {
    for (one, other) in [(here, there), (there, here)] {
        let between = match from(state, place, one, other) {
            Ok(way) if way.is_empty() => continue,
            Ok(way) => way.first().map(|stop| stop.name.clone()),
            Err(no_way) => Some(no_way.stop),
        };
        let between = between.map_or_else(String::new, |stop| format!("{stop}, which "));
        return Err(format!(
            "a host comes from {} to {} only over {between}{} follows, and a drill takes no stop",
            one.name, other.name, other.name
        ));
    }
    Ok(())
}

/// Refuses a drill whose canary would take a stop, since it runs neither of the two releases yet.
pub(super) fn takes_none(drill: &Plan) -> Result<(), String> {
    let canary = drill.batches.iter().flat_map(|batch| &batch.hosts);
    for host in canary {
        let Some(planned) = drill.stops.iter().find(|planned| planned.hosts.contains(host)) else { continue };
        let what = match &planned.over {
            Over::Stops { releases } => {
                let stop = releases.first().map_or("another release", ReleaseName::as_str);
                format!("takes {stop} before {}, and a drill takes no stop", drill.release.name)
            }
            Over::NoWay { reason } => format!("cannot come to {}: {reason}", drill.release.name),
        };
        return Err(format!("{host} is the canary, and {what}"));
    }
    Ok(())
}

fn from(
    state: &State,
    place: &PlaceRecord,
    runs: &ReleaseRef,
    release: &ReleaseRef,
) -> Result<Vec<ReleaseRef>, NoWay> {
    let runs = Active { release: runs.clone(), proven: true };
    stops::of(state, place, Some(&runs), release)
}
