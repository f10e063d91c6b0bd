//! Batch by batch: who may activate (P4), when the next batch may begin (P5), and when it is over.

use landfall_common::Duration;
use landfall_common::assignment::{OnFailure, Order, ReleaseRef};

use crate::log::LogEvent;
use crate::member::{Member, MemberState};
use crate::reason::{Doing, Hosts, Wait, WayOut, Why};
use crate::refusal::seconds;
use crate::rollout::{End, RolloutKind, Stage};
use crate::timing::{ACTIVATE_ACCEPT, UNREACHABLE_GRACE};
use crate::turn::{self, Fleet, NoReturn};

use super::Turn;
use super::blue_green;
use super::canary;
use super::contract;
use super::drill;
use super::evidence;
use super::failures;
use super::gates;
use super::pace::{Pace, Verdict};
use super::restart;
use super::stage;
use super::stops;
use super::table::{Seat, Table};
use super::watch;

/// Grants what the budget allows, up to this batch, and opens the gate to the next.
pub(super) fn advance(table: &mut Table<'_>, batch: u32) -> Turn {
    if let Err(turn) = begin(table, batch) {
        return turn;
    }
    let last = table.rollout().batches;
    if batch < last { gate(table, batch) } else { finish(table) }
}

/// What is done whatever the gate says: late hosts stage, a release that has failed too often goes back, and
/// hosts of batches that have begun activate.
pub(super) fn begin(table: &mut Table<'_>, batch: u32) -> Result<(), Turn> {
    blue_green::by_groups(table);
    stage::ask(table);
    if let Some(turn) = without_anybody(table) {
        return Err(turn);
    }
    if let Some(reason) = failures::over_budget(table) {
        return Err(turn_back(table, reason, "`ctl retry` tries again"));
    }
    grant(table, batch);
    Ok(())
}

/// Ends a rollout of which all hosts were left out or removed.
pub(super) fn without_anybody(table: &mut Table<'_>) -> Option<Turn> {
    if table.members().next().is_some() {
        return None;
    }
    let (reason, fleet) = table.nobody();
    Some(table.fail(reason, fleet))
}

/// Goes back, if that is wanted and possible; else pauses with the reason, and with what else somebody may do.
pub(super) fn turn_back(table: &mut Table<'_>, reason: String, or: &str) -> Turn {
    let touched = table.members().any(|(_, member)| member.touched);
    let rollout = table.rollout();
    let moved = turn::schema_moved(rollout);
    if !touched && !moved {
        return table.fail(format!("{reason}; nothing was activated"), Fleet::AsBefore);
    }
    let way = turn::way_back(table.state, rollout, &table.place, &reason);
    match way {
        Err(NoReturn::NothingBefore) => {
            let reason =
                format!("{reason}; nothing was in force before, so that there is nothing to go back to");
            table.fail(reason, Fleet::Mixed)
        }
        Err(NoReturn::IsRollback) => table.pause(format!(
            "{reason}; going back failed, and going back from that would be a loop. Mend the hosts and \
             `ctl retry`, or bring another release after `ctl abort`"
        )),
        Err(NoReturn::IsRestart) => table.pause(format!(
            "{reason}; the same release runs, so that there is nothing to go back to. Mend the hosts and `ctl retry`, or \
             `ctl abort` leaves the others as they are"
        )),
        Err(NoReturn::Schema { reason: why, needed }) => {
            table.pause(format!("{reason}; it does not go back by itself: {why}. What helps: {needed}; or {or}"))
        }
        Ok(_) if !rollout.strategy.auto_rollback => {
            table.pause(format!("{reason}; auto_rollback is off: `ctl rollback` goes back, {or}"))
        }
        Ok(stage) => {
            if let Some(but) = failures::too_late_to_go_back(table) {
                return table.pause(format!("{reason}; {but}"));
            }
            let (id, to) = (rollout.id.clone(), rollout.previous.clone());
            let now = table.now;
            table.rollout_mut().enter(stage, now);
            if let Some(to) = to {
                table.log(LogEvent::RollbackStarted { rollout: id, to, reason });
            }
            Turn::Taken
        }
    }
}

/// Lets staged hosts of the batches that have begun activate. A host that serves only within the budget; one
/// that does not costs nothing.
fn grant(table: &mut Table<'_>, batch: u32) {
    let rollout = table.rollout();
    let may_revert = turn::may_revert(table.state, rollout, &table.place);
    let (min_healthy, healthy_deadline) = (rollout.strategy.min_healthy, rollout.strategy.healthy_deadline);
    let (id, release) = (rollout.id.clone(), rollout.release.clone());
    let is_restart = rollout.is_restart();
    let max_unavailable = table.max_unavailable();
    let now = table.now;
    let mut candidates: Vec<_> = (table.seats.iter().enumerate())
        .filter_map(|(at, seat)| {
            let member = seat.member.as_ref()?;
            let ready = matches!(member.state, MemberState::Staged) && member.batch <= batch;
            let may = ready && (blue_green::may_take(table, seat) || already_there(seat, &release).is_some());
            (may && seat.fresh.is_some() && seat.knows_its_traffic()).then_some((
                member.batch,
                seat.serves,
                at,
            ))
        })
        .collect();
    candidates.sort_unstable();
    let mut blocked = Vec::new();
    let mut pace = Pace::of(table);
    for (_, _, at) in candidates {
        let there = already_there(&table.seats[at], &release).filter(|_| !is_restart);
        if let Some(generation) = there {
            table.seats[at].set(MemberState::Committed { generation }, now);
            pace.passes(&mut table.seats[at]);
            continue;
        }
        let next = match stops::next(table, &table.seats[at], &release) {
            Ok(next) => next,
            Err(_) if !table.has_room(at) => break,
            Err(no_way) => {
                stops::bar(table, at, &no_way);
                continue;
            }
        };
        // What it runs has changed since it staged: it stages what it takes from there.
        if !stops::is_at_hand(&table.seats[at], table.rollout(), &next) {
            if !table.has_room(at) {
                break;
            }
            stage::ask_one(table, at, next, &id);
            continue;
        }
        if !table.within_the_budget(&table.seats[at], max_unavailable) {
            blocked.push(at);
            continue;
        }
        match pace.ask(&table.seats[at], now) {
            Verdict::Begin => {}
            Verdict::Not => continue,
            Verdict::NotYet => break,
        }
        if !table.has_room(at) {
            break;
        }
        if is_restart && table.seats[at].runs(&release) {
            if restart::ask(table, at) {
                pace.begun(&table.seats[at], now);
            }
            continue;
        }
        if next != release {
            let order = stops::order(table, &table.seats[at], &next);
            let generation = table.issue(at, next, id.clone(), order, ACTIVATE_ACCEPT);
            table.seats[at].asked(MemberState::Granted { generation }, now);
            pace.begun(&table.seats[at], now);
            continue;
        }
        // It may have missed the releases between the one that it runs and this one.
        let on_failure = match table.seats[at].active() {
            _ if !may_revert => OnFailure::Hold,
            Some(_) => stops::on_failure(table, &table.seats[at], &release),
            None => OnFailure::Revert,
        };
        let order = Order::Activate { on_failure, min_healthy, healthy_deadline };
        let generation = table.issue(at, release.clone(), id.clone(), order, ACTIVATE_ACCEPT);
        table.seats[at].asked(MemberState::Granted { generation }, now);
        pace.begun(&table.seats[at], now);
    }
    pace.report(table);
    table.wait_for_the_budget(max_unavailable, &blocked);
}

/// A host that runs the release already, proven and healthy, and has nothing else to do, needs no restart.
fn already_there(seat: &Seat<'_>, release: &ReleaseRef) -> Option<landfall_common::Generation> {
    let well = !seat.out || seat.is_well_without_requests();
    let there = seat.host.proven_digest() == Some(release.digest) && well && seat.at_rest();
    there.then(|| seat.fresh.map(|received| received.report.generation))?
}

/// How far a batch is.
pub(super) struct Batch {
    /// How many of its hosts there is evidence of.
    pub proven: usize,
    /// Whether nothing of it is awaited: every host is proven or has failed, or cannot be reached and was not
    /// touched.
    pub settled: bool,
    /// Whether all of its hosts were removed or left out: it proves nothing.
    pub empty: bool,
    /// What is awaited.
    pub waits: Vec<Wait>,
}

/// Looks for fresh evidence of each host that changed in a batch: that it has been healthy for so long.
pub(super) fn look(table: &Table<'_>, batch: u32, healthy: Duration) -> Batch {
    let of = table.rollout().batches;
    let mut look = Batch { proven: 0, settled: true, empty: true, waits: Vec::new() };
    let mut later = Vec::new();
    for (seat, member) in table.members().filter(|(_, member)| member.batch == batch) {
        look.empty = false;
        if let Some(why) = blue_green::comes_later(table, seat) {
            later.push(Wait::Host { what: Doing::Batch { batch, of }, host: member.host.clone(), why });
            continue;
        }
        match pending(table, seat, member, healthy) {
            Pending::Proven => look.proven += 1,
            Pending::Failed => {}
            Pending::Silent(why) | Pending::Waits(why) => {
                let silent =
                    !member.touched && seat.fresh.is_none() && table.silent_for(seat) >= UNREACHABLE_GRACE;
                look.settled &= silent;
                let what = Doing::Batch { batch, of };
                look.waits.push(Wait::Host { what, host: member.host.clone(), why });
            }
        }
    }
    // They come after hosts that are proven, where there are any.
    if look.proven == 0 && !later.is_empty() {
        look.settled = false;
        look.waits.extend(later);
    }
    look
}

/// The next batch begins once there is fresh evidence of each host that changed in this one, and of at
/// least one host in the first.
fn gate(table: &mut Table<'_>, batch: u32) -> Turn {
    let rollout = table.rollout();
    let is_canary = batch == 1 && rollout.has_canary() && rollout.strategy.holds_canary();
    let goes_first = batch == 1 && rollout.has_canary();
    let look = look(table, batch, rollout.strategy.min_healthy);
    // With its hosts the canary's evidence is gone: a person's word is all that there can be.
    if look.empty && goes_first {
        return canary::gone(table);
    }
    // A batch that nobody is left in proves nothing, and holds nothing up.
    if look.settled && (look.proven > 0 || batch > 1 || look.empty) {
        return if is_canary { canary::hold(table) } else { gates::before(table, batch + 1, false) };
    }
    if table.stalled() {
        return stalled(table, &look.waits);
    }
    report(table, look.waits);
    Turn::None
}

/// A batch begins.
pub(super) fn open(table: &mut Table<'_>, batch: u32) -> Turn {
    let now = table.now;
    let event = turn::begin_batch(table.rollout_mut(), batch, now);
    table.log(event);
    Turn::Taken
}

/// Nothing gets on although hosts have changed: whether to wait, to go on or to go back is for somebody to
/// say who knows why the hosts are away.
pub(super) fn stalled(table: &mut Table<'_>, waits: &[Wait]) -> Turn {
    // The budget says more than that a host may not begin.
    let telling = |wait: &&Wait| !matches!(wait, Wait::Host { why: Why::Blocked, .. });
    let stays = blue_green::stays(table);
    let why = table.report.waits.first().or(stays.as_ref());
    let why = why.or_else(|| waits.iter().find(telling)).or(waits.first());
    let why = why.map_or_else(String::new, |wait| format!(": {wait}"));
    let idle = seconds(table.idle_for());
    let reason = format!("nothing got on for {idle}{why}. `ctl resume` waits on, {}", table.way_out());
    if table.members().any(|(_, member)| member.touched) || turn::schema_moved(table.rollout()) {
        return table.pause(reason);
    }
    table.fail(format!("nothing got on for {idle}{why}; nothing was activated"), Fleet::AsBefore)
}

/// That a host may not begin is told by what keeps it from beginning.
pub(super) fn report(table: &mut Table<'_>, waits: Vec<Wait>) {
    let told = |wait: &Wait| !matches!(wait, Wait::Host { why: Why::Blocked, .. });
    waits.into_iter().filter(told).for_each(|wait| table.wait(wait));
}

/// What is missing of a member.
enum Pending {
    /// Nothing.
    Proven,
    /// It has failed, and was counted.
    Failed,
    /// It cannot be heard of.
    Silent(Why),
    /// It is on its way.
    Waits(Why),
}

fn pending(table: &Table<'_>, seat: &Seat<'_>, member: &Member, healthy: Duration) -> Pending {
    let rollout = table.rollout();
    match member.state {
        MemberState::Committed { generation } => {
            let missing = evidence::missing(table, seat, &rollout.release, generation, healthy);
            match missing {
                None => Pending::Proven,
                Some(why @ Why::Unheard { .. }) => Pending::Silent(why),
                Some(why) => Pending::Waits(why),
            }
        }
        MemberState::Failed { .. } => Pending::Failed,
        _ if seat.fresh.is_none() => Pending::Silent(table.unheard(seat)),
        MemberState::Granted { .. } => {
            Pending::Waits(stops::under_way(table, seat, member, rollout.strategy.min_healthy))
        }
        MemberState::Staged => Pending::Waits(blue_green::holds(table, seat).unwrap_or(Why::Blocked)),
        _ => Pending::Waits(stops::told(seat, rollout, Why::NotStaged)),
    }
}

/// All batches have begun: success needs every targeted host, with evidence (P5).
pub(super) fn finish(table: &mut Table<'_>) -> Turn {
    let rollout = table.rollout();
    if rollout.kind == RolloutKind::Drill {
        return drill::turn(table);
    }
    let (batch, of) = (rollout.batches, rollout.batches);
    let healthy = rollout.strategy.min_healthy;
    let (has_done, taken) = (rollout.has_done(), rollout.taken());
    let (mut proven, mut failed, mut silent, mut waiting) = (0, 0, 0, 0);
    let mut waits = Vec::new();
    for (seat, member) in table.members() {
        let (why, count) = match pending(table, seat, member, healthy) {
            Pending::Proven => {
                proven += 1;
                continue;
            }
            Pending::Failed => {
                failed += 1;
                continue;
            }
            Pending::Silent(why) => (why, &mut silent),
            Pending::Waits(why) => (why, &mut waiting),
        };
        *count += 1;
        let what = if member.batch == batch { Doing::Batch { batch, of } } else { Doing::End };
        waits.push(Wait::Host { what, host: member.host.clone(), why });
    }
    let hosts = proven + failed + silent + waiting;
    if rollout.groups.is_none()
        && watch::is_due(rollout)
        && proven > 0
        && waiting == 0
        && silent <= table.max_unavailable()
    {
        return watch::begin(table);
    }
    let rollout = table.rollout();
    let is_due = rollout.contract_due().is_some()
        && !matches!(rollout.status.stage(), Some(Stage::Contracting { .. }));
    if is_due && proven > 0 && waiting == 0 && silent <= table.max_unavailable() {
        return contract::begin(table);
    }
    if proven == hosts {
        return table.end(End::Succeeded, taken);
    }
    let reason = |table: &Table<'_>| {
        let named = incomplete(table);
        format!("{has_done} {proven} of {hosts} hosts: {named}")
    };
    if silent == 0 && waiting == 0 {
        // Within the budget: the fleet keeps the release, and those that failed can be tried again.
        let reason = reason(table);
        return table.fail(reason, taken);
    }
    if table.stalled() {
        if waiting > 0 || proven == 0 {
            return stalled(table, &waits);
        }
        let max_unavailable = table.max_unavailable();
        if silent > max_unavailable {
            // What so few hosts run is not what the fleet runs; they would all be sent to it on coming back.
            let is_silent = |(seat, member): &(&Seat<'_>, &Member)| {
                matches!(pending(table, seat, member, healthy), Pending::Silent(_))
            };
            let quiet: Hosts =
                table.members().filter(is_silent).map(|(_, member)| member.host.clone()).collect();
            let or = match table.way_out() {
                back @ WayOut::Back => format!("{back}, {}", WayOut::Stay),
                other => other.to_string(),
            };
            return table.pause(format!(
                "{has_done} {proven} of {hosts} hosts; {quiet} could not be heard of, and \
                 {max_unavailable} may be out. `ctl resume` waits on, {or}"
            ));
        }
        let reason = reason(table);
        return table.fail(reason, taken);
    }
    report(table, waits);
    Turn::None
}

/// Which hosts do not run the release, and what becomes of them.
fn incomplete(table: &Table<'_>) -> String {
    let healthy = table.rollout().strategy.min_healthy;
    let mut failed = Hosts::default();
    let mut silent = Hosts::default();
    let (mut barred, mut why) = (Hosts::default(), "");
    for (seat, member) in table.members() {
        match pending(table, seat, member, healthy) {
            Pending::Failed if member.state.barred() => {
                barred.add(&member.host);
                why = member.newest_failure().map_or("", |failure| &failure.reason);
            }
            Pending::Failed => failed.add(&member.host),
            Pending::Silent(_) => silent.add(&member.host),
            Pending::Proven | Pending::Waits(_) => {}
        }
    }
    let mut parts = Vec::new();
    if !failed.is_empty() {
        let again = match &table.rollout().restart {
            Some(restart) => restart.kind.as_str(),
            None => "retry",
        };
        parts.push(format!("{failed} failed, `ctl {again}` tries again"));
    }
    if !barred.is_empty() {
        parts.push(format!("{barred} cannot come to it: {why}"));
    }
    if !silent.is_empty() {
        let later = if table.rollout().is_restart() { "" } else { " and will take it on return" };
        parts.push(format!("{silent} could not be heard of{later}"));
    }
    parts.join("; ")
}
