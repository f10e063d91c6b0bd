//! What must hold in a place before a rollout begins: what its release says, and what the release in force says. A
//! release does not lift what holds until it is in force itself.

use landfall_common::Timestamp;
use landfall_common::assignment::ReleaseRef;
use landfall_common::strategy::{self, Calendar, Closed, Entry};

use crate::record::{Place, PlaceRecord};
use crate::state::State;

/// What both releases ask for.
pub(crate) fn entries<'a>(
    state: &'a State,
    place: &'a PlaceRecord,
    release: &'a ReleaseRef,
) -> impl Iterator<Item = &'a Entry> {
    let in_force = place.in_force().map(|proven| &proven.release);
    [Some(release), in_force].into_iter().flatten().filter_map(|release| entry(state, &place.place, release))
}

fn entry<'a>(state: &'a State, place: &Place, release: &ReleaseRef) -> Option<&'a Entry> {
    let record = state.release(&place.application, &release.name)?;
    record.environments.get(&place.environment).map(|strategy| &strategy.entry)
}

/// Why no rollout of a release may begin in a place at this moment, and when one may.
#[must_use]
pub fn closed(state: &State, place: &PlaceRecord, release: &ReleaseRef, now: Timestamp) -> Option<Closed> {
    let calendars: Vec<&Calendar> = entries(state, place, release).map(|entry| &entry.calendar).collect();
    strategy::closed(&calendars, now)
}

/// The same by what the release in force says alone.
#[must_use]
pub fn closed_now(state: &State, place: &PlaceRecord, now: Timestamp) -> Option<Closed> {
    closed(state, place, &place.in_force()?.release, now)
}
