//! Requests are led away from hosts that somebody drains, and back to those that are not drained any more. Held against
//! what each host says, so that a word that was lost on its way, or by a controller, is said again.

use std::collections::BTreeMap;

use landfall_common::assignment::{Assignment, Order};
use landfall_common::report::{OutcomeKind, Traffic};

use crate::observation::Standing;
use crate::reason::{Hosts, Requests, Wait};
use crate::timing::{ACTIVATE_ACCEPT, CLOCK_SKEW, CONVERGE_EVERY};

use super::blue_green;
use super::migrate;
use super::table::{Seat, Table};

/// Says to each host what it does not do yet: to those at rest, so that how a change ended is heard first.
pub(super) fn hosts(table: &mut Table<'_>) {
    report(table);
    // Which rollout an order belongs to is for its books only.
    let newest = table.rollout.as_deref().map(|rollout| &rollout.id).or(table.place.newest_rollout());
    let Some(rollout) = newest.cloned() else { return };
    // What an operator has said is said.
    let by_rollout = blue_green::MayLeave::of(table);
    let may_leave = |seat: &Seat<'_>| {
        seat.host.record.drain.is_some() || by_rollout.as_ref().is_some_and(|may| may.holds(seat))
    };
    let due: Vec<(usize, bool)> = (table.seats.iter().enumerate())
        .filter_map(|(at, seat)| Some((at, seat.drain_due()?)))
        .filter(|(at, away)| !is_said(table, *at, *away))
        .filter(|(at, away)| !away || may_leave(&table.seats[*at]))
        .collect();
    for (at, away) in due {
        // The gate is that of what is active there.
        let Some(release) = table.seats[at].active().cloned() else { continue };
        if !table.has_room(at) {
            return;
        }
        table.issue(at, release, rollout.clone(), Order::Drain { away }, ACTIVATE_ACCEPT);
        table.seats[at].drain_asked = Some(away);
    }
}

fn report(table: &mut Table<'_>) {
    let mut waits: BTreeMap<Requests, Hosts> = BTreeMap::new();
    for seat in &table.seats {
        let Some(received) = seat.fresh else { continue };
        let how = match (seat.is_led_away(), received.report.traffic) {
            (true, Traffic::Unknown | Traffic::Ungated) => Requests::Stay,
            (true, Traffic::Led | Traffic::Draining | Traffic::Returning) => Requests::Leave,
            (false, Traffic::Draining | Traffic::Drained | Traffic::Returning) => Requests::Return,
            (true, Traffic::Drained) | (false, Traffic::Unknown | Traffic::Ungated | Traffic::Led) => {
                continue;
            }
        };
        waits.entry(how).or_default().add(&seat.host.record.id);
    }
    waits.into_iter().for_each(|(how, hosts)| table.wait(Wait::Requests { hosts, how }));
}

/// Whether it is busy, or was asked a moment ago.
fn is_said(table: &Table<'_>, at: usize, away: bool) -> bool {
    let seat = &table.seats[at];
    // The newer word overtakes the other one, taken or not.
    if seat.drain_asked.is_some_and(|asked| asked != away) {
        return seat.issued.is_some();
    }
    if seat.issued.is_some() || !seat.idles() || seat.host.grant_open(table.now) {
        return true;
    }
    let Some(asked) = seat.host.issued.newest() else { return false };
    match seat.host.standing(asked, table.now) {
        // What was asked before is answered first, whatever it is.
        Standing::Open | Standing::Accepted => true,
        Standing::Ended(OutcomeKind::Refused { .. }) if refusal_is_awaited(table, at, asked) => true,
        Standing::Ended(_) | Standing::Lapsed | Standing::Overtaken => {
            asked.order == Order::Drain { away } && table.since_issued(asked) < CONVERGE_EVERY
        }
    }
}

/// Whether a second copy of what a host has refused may still be taken, and how that ends would matter.
///
/// The host takes a newer word instead of the refused one, whichever comes first: it is waited with that only so that
/// nobody who refuses is asked all the time, and for no longer than the order's window by what has passed. Of a migration
/// that is leased to the host the end must be heard, and a newer word would hide it.
fn refusal_is_awaited(table: &Table<'_>, at: usize, asked: &Assignment) -> bool {
    let host = &table.seats[at].host;
    if host.never_taken(asked, table.now) {
        return false;
    }
    let window = asked.expires_at.since(asked.issued_at) + CLOCK_SKEW;
    table.since_issued(asked) <= window || migrate::is_leased(table, &host.record.id, asked)
}
