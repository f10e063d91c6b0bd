//! Staging: every host of the rollout fetches and prepares the release, and nothing that runs is touched.

use landfall_common::RolloutId;
use landfall_common::assignment::{Order, ReleaseRef};
use landfall_common::report::Phase;

use crate::member::MemberState;
use crate::observation::Standing;
use crate::reason::{Doing, Wait, Why};
use crate::rollout::{MigrationRun, Schema, Stage};
use crate::timing::{STAGE_ACCEPT, UNREACHABLE_GRACE};
use crate::turn::Fleet;

use super::Turn;
use super::evidence;
use super::failures;
use super::gates;
use super::run;
use super::stops;
use super::table::{Seat, Table};

/// All hosts that can be heard of stage; then the migration, or the first batch.
pub(super) fn advance(table: &mut Table<'_>) -> Turn {
    ask(table);
    if let Some(reason) = failures::over_budget(table) {
        return table.fail(format!("{reason}; nothing that runs was touched"), Fleet::AsBefore);
    }
    let mut open = false;
    let mut staged = 0;
    let mut waits = Vec::new();
    for (seat, member) in table.members() {
        match member.state {
            MemberState::Pending | MemberState::Staging { .. } => {
                let given_up = seat.fresh.is_none() && table.silent_for(seat) >= UNREACHABLE_GRACE;
                open |= !given_up;
                waits.push(wait(table, seat));
            }
            MemberState::Failed { .. } => {}
            _ => staged += 1,
        }
    }
    if table.members().next().is_none() {
        let (reason, fleet) = table.nobody();
        return table.fail(reason, fleet);
    }
    if waits.is_empty() && staged == 0 {
        // The budget allows it, and nobody is left to wait for.
        let first = table.first_failure().map_or_else(String::new, |failed| format!(": {failed}"));
        let name = &table.rollout().release.name;
        let reason = format!("{name} could be staged on no host{first}; nothing that runs was touched");
        return table.fail(reason, Fleet::AsBefore);
    }
    if open || staged == 0 {
        if table.stalled() {
            let first = waits.first().map_or_else(String::new, |wait| format!(": {wait}"));
            let idle = crate::refusal::seconds(table.idle_for());
            let reason = format!("nothing got on for {idle}{first}; nothing that runs was touched");
            return table.fail(reason, Fleet::AsBefore);
        }
        waits.into_iter().for_each(|wait| table.wait(wait));
        return Turn::None;
    }
    gates::before(table, 1, false)
}

/// What was to hold before anything changes does: the migration, or the first batch.
pub(super) fn leave(table: &mut Table<'_>) -> Turn {
    let Schema::Due { .. } = table.rollout().schema else { return run::open(table, 1) };
    let now = table.now;
    table.rollout_mut().enter(Stage::Migrating { run: MigrationRun::anew() }, now);
    Turn::Taken
}

/// Asks those to stage that were not asked yet and can be heard of; in later stages as well, for those that
/// come late. The host that migrates is left alone: its answer must not be overtaken.
pub(super) fn ask(table: &mut Table<'_>) {
    let rollout = table.rollout();
    let id = rollout.id.clone();
    let elected = rollout.status.stage().and_then(Stage::open_lease).map(|lease| lease.host.clone());
    let now = table.now;
    let mut place_then = None;
    for at in 0..table.seats.len() {
        let seat = &table.seats[at];
        let pending = matches!(seat.member_state(), Some(MemberState::Pending));
        if !pending
            || seat.fresh.is_none()
            || !seat.knows_its_traffic()
            || elected.as_ref() == Some(&seat.host.record.id)
        {
            continue;
        }
        // What the rollout before let it do it may still take: that it is out is to stay known until it answers.
        let newest = seat.host.issued.assignment.as_ref();
        let granted = newest.filter(|newest| newest.order.takes_out());
        if granted.is_some_and(|granted| seat.host.standing(granted, now) == Standing::Open) {
            continue;
        }
        if !table.has_room(at) {
            break;
        }
        let place_then = place_then.get_or_insert_with(|| stops::place_then(table).into_owned());
        let next = match stops::staged_next(table, at, place_then) {
            Ok(next) => next,
            Err(no_way) => {
                stops::bar(table, at, &no_way);
                continue;
            }
        };
        ask_one(table, at, next, &id);
    }
}

/// Asks a host to stage what it takes next.
pub(super) fn ask_one(table: &mut Table<'_>, at: usize, next: ReleaseRef, rollout: &RolloutId) {
    let now = table.now;
    let generation = table.issue(at, next, rollout.clone(), Order::Stage, STAGE_ACCEPT);
    table.seats[at].asked(MemberState::Staging { generation }, now);
}

fn wait(table: &Table<'_>, seat: &Seat<'_>) -> Wait {
    let why = match seat.fresh {
        None => table.unheard(seat),
        Some(received) => match &received.report.phase {
            Phase::Fetching { done_bytes, total_bytes } => {
                Why::Fetching { done_bytes: *done_bytes, total_bytes: *total_bytes }
            }
            Phase::Preparing { step } => Why::Step { step: step.clone() },
            _ => match seat.member.as_deref() {
                Some(member) => evidence::unanswered(table, member),
                None => Why::NotStaged,
            },
        },
    };
    let why = stops::told(seat, table.rollout(), why);
    Wait::Host { what: Doing::Staging, host: seat.host.record.id.clone(), why }
}
