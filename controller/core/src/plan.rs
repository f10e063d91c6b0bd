//! A run of the planner: what is decided now, and why it does not go on.
//!
//! A run works on a copy of what it may change (the place, its rollout, the members and what was asked of
//! the hosts that move), goes on as far as it can, and returns the difference. Its cost is one pass over the
//! hosts of a place for each turn of the rollout.

use landfall_common::Timestamp;

use crate::output::Planned;
use crate::reason::Wait;
use crate::record::{Change, Key, Place};
use crate::state::{PlaceState, State};
use crate::timing::{FORGOTTEN_AT_ONCE, REQUEST_KEPT};

mod absorb;
mod back;
mod blue_green;
mod canary;
mod compare;
mod contract;
mod converge;
mod deadline;
mod drain;
mod drill;
mod evidence;
mod failures;
mod gates;
mod limits;
mod line;
mod look;
mod migrate;
mod pace;
mod restart;
mod room;
mod run;
mod stage;
mod stops;
mod table;
mod watch;

pub use look::Deadline;
pub(crate) use look::{Look, look};
use room::Room;
use table::Table;

/// Plans every place, and forgets answers that are old: as much of it as one commit holds, the rest in the run
/// that follows at once. Run it after a start, after a command, and at `wake_at`.
pub fn plan(state: &State, now: Timestamp) -> Planned {
    let (mut all, mut room) = (Planned::default(), Room::of_a_commit());
    // A beginning may take all of the room: nobody's is to wait until no other place has anything to write down.
    let begins = |(place, found): (&Place, &PlaceState)| {
        Some((place.clone(), line::next(state, &found.record, now, &mut room)?))
    };
    let begun = state.places.iter().find_map(begins);
    for place in state.places.keys().filter(|place| begun.as_ref().is_none_or(|(begun, _)| begun != *place)) {
        join(&mut all, plan_table(state, place, now, &mut room));
    }
    begun.into_iter().for_each(|(_, begun)| join(&mut all, begun));
    let old = state.requests.values().filter(|request| now.since(request.at) > REQUEST_KEPT);
    let forgotten = old.map(|request| Change::Delete { key: Key::Request(request.id.clone()) });
    all.output.changes.extend(forgotten.take(FORGOTTEN_AT_ONCE));
    all
}

/// Plans one place: enough after a host of it was observed.
pub fn plan_place(state: &State, place: &Place, now: Timestamp) -> Planned {
    let mut room = Room::of_a_commit();
    let begun = state.place(place).and_then(|record| line::next(state, record, now, &mut room));
    begun.unwrap_or_else(|| plan_table(state, place, now, &mut room))
}

fn plan_table(state: &State, place: &Place, now: Timestamp, room: &mut Room) -> Planned {
    let Some(mut table) = Table::lay(state, place, now, room) else { return Planned::default() };
    let was_under_way = table.is_under_way();
    go_on(&mut table);
    let wake_at = if table.in_parts {
        table.wait(Wait::InParts);
        Some(now)
    } else if was_under_way && !table.is_under_way() {
        // What it has asked of hosts until then is no part of what follows.
        Some(now)
    } else {
        table.wake_after().map(|period| now + period)
    };
    table.clear(wake_at)
}

/// Decides what can be decided now, and reports what is awaited.
fn go_on(table: &mut Table<'_>) {
    absorb::members(table);
    // Nothing is decided on half of what hosts have said.
    if !table.in_parts {
        // Each turn of the rollout can make room for the next. Their number is bounded by the stages and the
        // batches: no stage is entered twice in one run.
        while advance(table) == Turn::Taken {}
        deadline::of_rollout(table);
        blue_green::lead(table);
        drain::hosts(table);
        converge::hosts(table);
    }
    line::report(table);
}

/// Whether a rollout went on to something else, so that there may be more to decide.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// It did.
    Taken,
    /// It stays where it is.
    None,
}

fn advance(table: &mut Table<'_>) -> Turn {
    use crate::rollout::{Back, Stage, Status};
    let Some(rollout) = &table.rollout else { return Turn::None };
    match &rollout.status {
        Status::Ended { .. } => Turn::None,
        Status::Paused { stage, .. } => {
            // A migration that runs while paused still ends, and its outcome must not be lost.
            if stage.open_lease().is_some() {
                let _ = migrate::settle(table);
            }
            table.report_paused();
            Turn::None
        }
        Status::Active { stage } => match stage {
            // Who stands in line holds no place.
            Stage::InLine { .. } => Turn::None,
            Stage::Staging => stage::advance(table),
            Stage::Migrating { .. } => migrate::advance(table),
            Stage::Running { batch } => {
                let batch = *batch;
                run::advance(table, batch)
            }
            Stage::Canary { promotion } => canary::advance(table, *promotion),
            Stage::Switching => blue_green::advance(table),
            Stage::Gated { at } => {
                let at = at.clone();
                gates::advance(table, &at)
            }
            Stage::Watching { accepted, at } => {
                let (accepted, at) = (*accepted, at.clone());
                watch::advance(table, accepted, &at)
            }
            Stage::Contracting { .. } => contract::advance(table),
            Stage::RollingBack { back: Back::Schema { .. }, .. } => migrate::advance(table),
            Stage::RollingBack { back: Back::Hosts, .. } => back::advance(table),
        },
    }
}

fn join(all: &mut Planned, one: Planned) {
    all.output.changes.extend(one.output.changes);
    all.output.log.extend(one.output.log);
    all.output.effects.extend(one.output.effects);
    all.report.places.extend(one.report.places);
    all.wake_at = match (all.wake_at, one.wake_at) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
}
