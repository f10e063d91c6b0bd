//! The way back, host by host: within the budget, verified like the way there, without a canary.

use std::collections::BTreeSet;

use landfall_common::assignment::{OnFailure, Order, ReleaseRef};
use landfall_common::{Duration, Generation};

use crate::group::Group;
use crate::log::LogEvent;
use crate::member::{Left, Member, MemberState};
use crate::reason::{Doing, Hosts, Wait, Why};
use crate::refusal::seconds;
use crate::rollout::{Back, End, HostFailure, Stage};
use crate::timing::ACTIVATE_ACCEPT;
use crate::turn::Fleet;

use super::Turn;
use super::absorb;
use super::blue_green;
use super::drill;
use super::evidence::{self, Proof};
use super::room::weight;
use super::stops;
use super::table::{Seat, Table};

/// Brings every host that was touched back, and ends once there is evidence of each.
pub(super) fn advance(table: &mut Table<'_>) -> Turn {
    let Some(previous) = table.rollout().previous.clone() else {
        return table.fail("there is nothing to go back to".to_owned(), Fleet::Mixed);
    };
    let now = table.now;
    let stands: Vec<(bool, bool)> = (table.seats.iter())
        .map(|seat| {
            let barred = seat.member_state().is_some_and(MemberState::barred);
            let shut = barred && stops::without_a_way(table, seat, &previous).is_some();
            (stops::failed_where_it_goes(table, seat, &previous), shut)
        })
        .collect();
    for (seat, (failed_there, shut)) in table.seats.iter_mut().zip(stands) {
        let Some(member) = &seat.member else { continue };
        let due = match member.state {
            // Still without a way from what it runs.
            MemberState::Failed { .. } if shut => false,
            MemberState::Granted { .. } | MemberState::Committed { .. } => true,
            MemberState::Failed { left: Left::Held | Left::Unknown } => true,
            // Tried again, and not as far as that.
            MemberState::Pending | MemberState::Staging { .. } | MemberState::Staged => member.touched,
            MemberState::Failed { left: Left::Untouched | Left::Barred } => member.touched,
            // It says that it went back by itself: believed as long as it does not say otherwise.
            MemberState::Failed { left: Left::Reverted } => {
                seat.at_rest() && seat.host.proven_digest() != Some(previous.digest)
            }
            _ => false,
        };
        if !due {
            continue;
        }
        if !table.room.take(weight(member)) {
            table.in_parts = true;
            return Turn::None;
        }
        // What has just failed on it as a stop does not do better as the way back.
        if let Some(failure) = member.failure.clone().filter(|_| failed_there) {
            seat.fail_return(failure, now);
            continue;
        }
        seat.set(MemberState::ReturnDue, now);
    }
    if table.members().next().is_none()
        && let (reason, Fleet::Mixed) = table.nobody()
    {
        return table.fail(reason, Fleet::Mixed);
    }
    leave_without_a_way(table, &previous);
    let rollout = table.rollout();
    let targeted = table.members().count();
    let failed = table.members().filter(|(seat, member)| failed_back(table, seat, member)).count();
    if failed > rollout.strategy.failure_budget.at_most(targeted) {
        return table.pause(return_failed(table, &previous));
    }
    let proof = Proof::back(table.state, rollout);
    let reason = reason(table);
    let before = look(table, &previous, proof.min_healthy);
    let stand = |(_, member): (&Seat<'_>, &Member)| {
        matches!(member.state, MemberState::ReturnFailed) || stays(member)
    };
    if before.unsettled == 0 && !table.members().any(stand) {
        let failure = table.first_failure();
        let in_force = table.place.in_force().map(|in_force| in_force.release.digest);
        let all =
            table.seats.iter().all(|seat| seat.fresh.is_some() && seat.host.proven_digest() == in_force);
        // What a rollout before this one had left half way is mended as well.
        let fleet = if all && in_force.is_some() { Fleet::InForce } else { Fleet::AsBefore };
        let end = drill::rehearsed(table).unwrap_or(End::RolledBack { reason, failure });
        return table.end(end, fleet);
    }
    if before.unsettled == 0 || (before.only_silent && table.stalled()) {
        let mut away = Hosts::default();
        for (seat, member) in table.members().filter(|(_, member)| member.touched) {
            let settled = matches!(member.state, MemberState::Returned { .. }) && seat.fresh.is_some();
            if !settled && (!matches!(member.state, MemberState::Failed { .. }) || stays(member)) {
                away.add(&member.host);
            }
        }
        let reason = format!("{reason}; it went back, but not on {away}");
        return table.fail(reason, Fleet::AsBefore);
    }
    blue_green::by_groups(table);
    return_hosts(table, before.under_way, before.groups, proof);
    let after = look(table, &previous, proof.min_healthy);
    if table.stalled() {
        // Somebody must say whether a host that is out for good is to hold the others.
        let stays = blue_green::stays(table);
        let why = table.report.waits.first().or(stays.as_ref()).or(after.waits.first());
        let why = why.map_or_else(String::new, |wait| format!(": {wait}"));
        let idle = seconds(table.idle_for());
        return table.pause(format!(
            "nothing got on for {idle} on the way back to {}{why}. Mend or remove the hosts that are out, \
             then `ctl resume`",
            previous.name
        ));
    }
    after.waits.into_iter().for_each(|wait| table.wait(wait));
    Turn::None
}

/// Whether the release before failed on a host. What failed at a stop on the way there, or has none, stands where it stood
/// before the rollout: it says nothing of that release, and holds nobody up.
fn failed_back(table: &Table<'_>, seat: &Seat<'_>, member: &Member) -> bool {
    matches!(member.state, MemberState::ReturnFailed) && !stops::stands_before_one(table, seat)
}

/// Whether a host was touched, and stays where it is, without a way back from there.
fn stays(member: &Member) -> bool {
    member.touched && member.state.barred()
}

/// Hosts without a way from what they run are asked nothing, and are named in the end.
fn leave_without_a_way(table: &mut Table<'_>, previous: &ReleaseRef) {
    let (id, now) = (table.rollout().id.clone(), table.now);
    for at in 0..table.seats.len() {
        let seat = &table.seats[at];
        if !matches!(seat.member_state(), Some(MemberState::ReturnDue)) {
            continue;
        }
        let Some(no_way) = stops::without_a_way(table, seat, previous) else { continue };
        if !table.has_room(at) {
            return;
        }
        let host = table.seats[at].host.record.id.clone();
        let failure = absorb::failure("accept", no_way.to_string());
        let (release, reason) = (previous.name.clone(), failure.reason.clone());
        table.log(LogEvent::HostFailed { rollout: id.clone(), host, release, reason });
        table.seats[at].bar_return(failure, now);
    }
}

/// Where the way back failed, and why on the first of those hosts.
fn return_failed(table: &Table<'_>, previous: &ReleaseRef) -> String {
    let failed = || table.members().filter(|(seat, member)| failed_back(table, seat, member));
    let hosts: Hosts = failed().map(|(_, member)| member.host.clone()).collect();
    let why = failed()
        .min_by_key(|(_, member)| (member.since, &member.host))
        .and_then(|(_, member)| {
            let failure = member.return_failure.clone()?;
            Some(format!(": {}", HostFailure { host: member.host.clone(), failure }))
        })
        .unwrap_or_default();
    format!(
        "going back to {} failed on {hosts}{why}. Mend what is the matter, then `ctl retry`",
        previous.name
    )
}

/// How far the way back is.
struct Look {
    /// How many hosts there is no evidence of yet.
    unsettled: usize,
    /// Those that were asked to go back, until there is evidence of them: that is the gate of the way back.
    under_way: Hosts,
    /// The groups that these belong to, where hosts change group by group.
    groups: BTreeSet<Group>,
    /// Whether all of the unsettled cannot be heard of.
    only_silent: bool,
    waits: Vec<Wait>,
}

fn look(table: &Table<'_>, previous: &ReleaseRef, min_healthy: Duration) -> Look {
    let spread = table.rollout().strategy.spreads();
    let expected = blue_green::Expected::of(table);
    let mut look = Look {
        unsettled: 0,
        under_way: Hosts::default(),
        groups: BTreeSet::new(),
        only_silent: true,
        waits: Vec::new(),
    };
    for (seat, member) in table.members() {
        let why = match member.state {
            MemberState::Returned { generation } => {
                evidence::missing(table, seat, previous, generation, min_healthy)
            }
            MemberState::Failed { left: Left::Reverted } => {
                evidence::missing(table, seat, previous, Generation::default(), min_healthy)
            }
            MemberState::Returning { .. } | MemberState::ReturnDue if seat.fresh.is_none() => {
                Some(table.unheard(seat))
            }
            MemberState::Returning { .. } => Some(stops::under_way(table, seat, member, min_healthy)),
            MemberState::ReturnDue => {
                Some(blue_green::holds_back(table, seat, expected).unwrap_or(Why::Blocked))
            }
            _ => None,
        };
        let Some(why) = why else { continue };
        look.unsettled += 1;
        look.only_silent &= matches!(why, Why::Unheard { .. });
        if matches!(member.state, MemberState::Returning { .. } | MemberState::Returned { .. }) {
            look.under_way.add(&member.host);
            look.groups.extend(spread.map(|label| Group::of(seat.host, label)));
        }
        if !matches!(why, Why::Blocked) {
            look.waits.push(Wait::Host { what: Doing::Rollback, host: member.host.clone(), why });
        }
    }
    look
}

fn reason(table: &Table<'_>) -> String {
    match table.rollout().status.stage() {
        Some(Stage::RollingBack { reason, back: Back::Hosts }) => reason.clone(),
        _ => String::new(),
    }
}

/// Hosts that do not serve go first: they cost nothing.
fn return_hosts(table: &mut Table<'_>, mut under_way: Hosts, mut groups: BTreeSet<Group>, proof: Proof) {
    let rollout = table.rollout();
    let Some(previous) = rollout.previous.clone() else { return };
    let id = rollout.id.clone();
    let strategy = &rollout.strategy;
    let batch = strategy.batch_of(table.seats.len());
    let spread = strategy.spreads().cloned();
    // Reverting would bring the failed release back.
    let order = Order::Activate {
        on_failure: OnFailure::Hold,
        min_healthy: proof.min_healthy,
        healthy_deadline: proof.healthy_deadline,
    };
    let (max_unavailable, now) = (table.max_unavailable(), table.now);
    let expected = blue_green::Expected::of(table);
    let mut due: Vec<_> = (table.seats.iter().enumerate())
        .filter(|(_, seat)| {
            matches!(seat.member_state(), Some(MemberState::ReturnDue))
                && seat.fresh.is_some()
                && seat.knows_its_traffic()
                && blue_green::may_return(seat, expected)
        })
        .map(|(at, seat)| (seat.serves, at))
        .collect();
    due.sort_unstable();
    let mut blocked = Vec::new();
    let (mut queued, mut apart) = (Hosts::default(), Hosts::default());
    let was_under_way = under_way.clone();
    for (serves, at) in due {
        let host = table.seats[at].host.record.id.clone();
        if !table.within_the_budget(&table.seats[at], max_unavailable) {
            blocked.push(at);
            continue;
        }
        let group = spread.as_ref().map(|label| Group::of(table.seats[at].host, label));
        // What does not serve may go back beside whatever changes: it costs nothing, and a way back must move.
        if serves && groups.iter().any(|other| Some(other) != group.as_ref()) {
            apart.add(&host);
            continue;
        }
        if under_way.count() >= batch {
            queued.add(&host);
            continue;
        }
        if !table.has_room(at) {
            break;
        }
        // One that ran something older than the release in force may have to come to that over stops.
        let next = match stops::next(table, &table.seats[at], &previous) {
            Ok(next) => next,
            Err(no_way) if stops::said_to_run(&table.seats[at], &table.rollout().release) => {
                let failure = absorb::failure("accept", no_way.to_string());
                table.seats[at].fail_return(failure, now);
                continue;
            }
            // It may still take an order that it was given: that comes to an end first.
            Err(_) => {
                let member = table.seats[at].member.as_deref();
                let why = member
                    .map(|member| evidence::under_way(table, &table.seats[at], member, proof.min_healthy));
                let why = why.unwrap_or(Why::Blocked);
                table.wait(Wait::Host { what: Doing::Rollback, host, why });
                continue;
            }
        };
        let order =
            if next == previous { order.clone() } else { stops::order(table, &table.seats[at], &next) };
        let generation = table.issue(at, next, id.clone(), order, ACTIVATE_ACCEPT);
        table.seats[at].asked(MemberState::Returning { generation }, now);
        under_way.add(&host);
        groups.extend(group);
    }
    if let (Some(group), false) = (groups.first(), apart.is_empty()) {
        table.wait(Wait::Group { in_change: group.to_string(), waiting: apart });
    }
    table.wait_for_the_budget(max_unavailable, &blocked);
    if !queued.is_empty() && !was_under_way.is_empty() {
        table.wait(Wait::ReturnBatch { batch, under_way: was_under_way, waiting: queued });
    }
}
