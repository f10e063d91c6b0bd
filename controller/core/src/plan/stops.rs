//! Hosts that come to a release over others: which of them is next, how far they are with it, and who cannot come to it.

use std::borrow::Cow;

use landfall_common::Duration;
use landfall_common::assignment::{OnFailure, Order, ReleaseRef};
use landfall_common::report::{Failure, Health};

use crate::log::LogEvent;
use crate::member::{Left, Member, MemberState};
use crate::observation::Standing;
use crate::reason::Why;
use crate::record::PlaceRecord;
use crate::rollout::Rollout;
use crate::schema;
use crate::state::State;
use crate::stops::{self, NoWay};
use crate::turn;

use super::absorb;
use super::evidence::{self, Proof};
use super::table::{Seat, Table};

/// What a host takes next on its way to `target`: that, or a stop before it.
pub(super) fn next(table: &Table<'_>, seat: &Seat<'_>, target: &ReleaseRef) -> Result<ReleaseRef, NoWay> {
    next_then(table.state, &table.place, seat, target)
}

fn next_then(
    state: &State,
    place: &PlaceRecord,
    seat: &Seat<'_>,
    target: &ReleaseRef,
) -> Result<ReleaseRef, NoWay> {
    let runs = seat.fresh.and_then(|received| received.report.active.as_ref());
    let way = stops::of(state, place, runs, target)?;
    Ok(way.into_iter().next().unwrap_or_else(|| target.clone()))
}

/// The place as it will be when hosts are let go: what has to run before them has run.
pub(super) fn place_then<'t>(table: &'t Table<'_>) -> Cow<'t, PlaceRecord> {
    let rollout = table.rollout();
    schema::after(&table.place, &rollout.schema, rollout.previous.as_ref(), table.now)
}

/// What each host stages that has staged nothing yet, by its seat: what it takes next.
pub(super) fn staged_next(table: &Table<'_>, at: usize, place: &PlaceRecord) -> Result<ReleaseRef, NoWay> {
    next_then(table.state, place, &table.seats[at], &table.rollout().release)
}

/// The stop that a host was asked to stage or to activate last, on its way there or back in this rollout.
pub(super) fn over<'s>(seat: &'s Seat<'_>, rollout: &Rollout) -> Option<&'s ReleaseRef> {
    let issued = seat.issued.as_ref().unwrap_or(&seat.host.issued);
    let asked = issued.assignment.as_ref().filter(|asked| asked.rollout == rollout.id)?;
    let takes = matches!(asked.order, Order::Stage | Order::Activate { .. });
    let back = matches!(seat.member_state(), Some(MemberState::ReturnDue | MemberState::Returning { .. }));
    let target = if back { rollout.previous.as_ref()? } else { &rollout.release };
    (takes && asked.release.digest != target.digest).then_some(&asked.release)
}

/// Whether what a host takes next is what it was asked to stage. Where it takes no stop, whoever is staged is.
pub(super) fn is_at_hand(seat: &Seat<'_>, rollout: &Rollout, next: &ReleaseRef) -> bool {
    match over(seat, rollout) {
        Some(stop) => stop == next,
        None => *next == rollout.release,
    }
}

/// There is no way for a host to the release: it has no part in it until somebody sees to that.
pub(super) fn bar(table: &mut Table<'_>, at: usize, no_way: &NoWay) {
    let (id, release, now) = (table.rollout().id.clone(), table.rollout().release.name.clone(), table.now);
    let host = table.seats[at].host.record.id.clone();
    let reason = no_way.to_string();
    table.log(LogEvent::HostFailed { rollout: id, host, release, reason: reason.clone() });
    table.seats[at].fail(Left::Barred, absorb::failure("accept", reason), now);
}

/// What a host does where a release fails on it. It goes back to what was proven on it last: that is known, and is what it
/// runs, where that is proven and another release. What is in doubt lies above something that nobody has looked at, and
/// that may not run on the schema as it is (P7).
pub(super) fn on_failure(table: &Table<'_>, seat: &Seat<'_>, release: &ReleaseRef) -> OnFailure {
    let active = seat.fresh.and_then(|received| received.report.active.as_ref());
    let may_revert = active.is_some_and(|active| {
        active.proven
            && active.release.digest != release.digest
            && turn::meets_schema(table.state, &table.place, &active.release)
    });
    if may_revert { OnFailure::Revert } else { OnFailure::Hold }
}

/// The order by which a host takes a stop: by the knobs of the stop's own definition, and with the way back to what it
/// runs, where that runs on the schema as it is.
pub(super) fn order(table: &Table<'_>, seat: &Seat<'_>, stop: &ReleaseRef) -> Order {
    let proof = Proof::of_stop(table.state, table.rollout(), stop);
    Order::Activate {
        on_failure: on_failure(table, seat, stop),
        min_healthy: proof.min_healthy,
        healthy_deadline: proof.healthy_deadline,
    }
}

/// Whether a host has failed on its way there at what it would take next on its way back.
pub(super) fn failed_where_it_goes(table: &Table<'_>, seat: &Seat<'_>, previous: &ReleaseRef) -> bool {
    let failed = seat.member_state().is_some_and(MemberState::failed);
    let asked = seat.host.issued.assignment.as_ref().filter(|asked| {
        failed && asked.rollout == table.rollout().id && matches!(asked.order, Order::Activate { .. })
    });
    let stop = asked.map(|asked| &asked.release).filter(|stop| stop.digest != table.rollout().release.digest);
    stop.is_some_and(|stop| next(table, seat, previous).is_ok_and(|next| next == *stop))
}

/// Whether what failed on a host on its way back was a stop on the way to the release before, which it had not come to
/// when the rollout began.
pub(super) fn stands_before_one(table: &Table<'_>, seat: &Seat<'_>) -> bool {
    let rollout = table.rollout();
    let Some(previous) = &rollout.previous else { return false };
    let asked = seat.issued.as_ref().unwrap_or(&seat.host.issued).assignment.as_ref();
    let Some(asked) = asked.filter(|asked| asked.rollout == rollout.id) else { return false };
    matches!(asked.order, Order::Activate { .. })
        && asked.release.digest != rollout.release.digest
        && leads_to(table, &asked.release, previous)
        && !said_to_run(seat, &rollout.release)
}

/// Whether a release is a stop on a way to `target`.
pub(super) fn leads_to(table: &Table<'_>, stop: &ReleaseRef, target: &ReleaseRef) -> bool {
    let (state, place) = (table.state, &table.place.place);
    let all = state.releases(&place.application).count();
    stops::demanded(state, place, &target.name, all).any(|demanded| *demanded == stop.name)
}

/// Why there is no way to a release for a host that is heard of, where no order is open that may yet change what it runs.
/// What runs the release of the rollout is not left where it is.
pub(super) fn without_a_way(table: &Table<'_>, seat: &Seat<'_>, target: &ReleaseRef) -> Option<NoWay> {
    seat.fresh?;
    let asked = seat.issued.as_ref().unwrap_or(&seat.host.issued).assignment.as_ref();
    let open = asked.is_some_and(|asked| {
        let standing = seat.host.standing(asked, table.now);
        asked.order.takes_out() && matches!(standing, Standing::Open | Standing::Accepted)
    });
    if open || said_to_run(seat, &table.rollout().release) {
        return None;
    }
    next(table, seat, target).err()
}

/// Whether a host said, when it was heard last, that it runs a release, proven or not.
pub(super) fn said_to_run(seat: &Seat<'_>, release: &ReleaseRef) -> bool {
    let newest = seat.host.seen.report.as_ref().and_then(|received| received.report.active.as_ref());
    newest.is_some_and(|active| active.release.digest == release.digest)
}

/// Whether there is evidence of the stop that a host has committed: it runs it, proven, and is healthy.
pub(super) fn is_proven(seat: &Seat<'_>, stop: &ReleaseRef, proof: Proof) -> bool {
    let healthy = seat.fresh.is_some_and(|received| {
        matches!(received.report.health, Health::Healthy { period } if period >= proof.min_healthy)
    });
    healthy && seat.runs(stop)
}

/// What failed at a stop names it: it is not the release that the rollout brings.
pub(super) fn failed_at(stop: Option<&ReleaseRef>, failure: Failure) -> Failure {
    let Some(stop) = stop else { return failure };
    Failure { reason: at(stop, &failure.reason), ..failure }
}

/// A reason with the stop that it is about.
pub(super) fn at(stop: &ReleaseRef, reason: &str) -> String {
    format!("at {}, which it takes first: {reason}", stop.name)
}

/// What a host is about that was let go: at a stop by the knobs of that, and what is still missing of it once it has taken it.
pub(super) fn under_way(table: &Table<'_>, seat: &Seat<'_>, member: &Member, min_healthy: Duration) -> Why {
    let rollout = table.rollout();
    let Some(stop) = over(seat, rollout) else {
        return evidence::under_way(table, seat, member, min_healthy);
    };
    let min_healthy = Proof::of_stop(table.state, rollout, stop).min_healthy;
    let generation = member.state.awaits().filter(|_| seat.runs(stop));
    let missing =
        generation.and_then(|generation| evidence::missing(table, seat, stop, generation, min_healthy));
    let why = missing.unwrap_or_else(|| evidence::under_way(table, seat, member, min_healthy));
    told(seat, rollout, why)
}

/// Why a host is not there yet, with the stop that it takes first.
pub(super) fn told(seat: &Seat<'_>, rollout: &Rollout, why: Why) -> Why {
    let under_way = matches!(
        seat.member_state(),
        Some(MemberState::Staging { .. } | MemberState::Granted { .. } | MemberState::Returning { .. })
    );
    match over(seat, rollout).filter(|_| under_way) {
        Some(stop) => Why::Over { stop: stop.name.clone(), then: Box::new(why) },
        None => why,
    }
}
