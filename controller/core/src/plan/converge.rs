//! Hosts outside of a rollout: a new one, and one that was away, take the release in force.

use landfall_common::assignment::{Assignment, Order, ReleaseRef};
use landfall_common::report::OutcomeKind;
use landfall_common::strategy::Strategy;
use landfall_common::{Duration, RolloutId};

use crate::log::LogEvent;
use crate::member::{Left, Member, MemberState, Out};
use crate::observation::Standing;
use crate::reason::{Hosts, Wait};
use crate::record::Convergence;
use crate::rollout::{MigrationRun, Rollout, Schema, Stage};
use crate::stops::NoWay;
use crate::timing::{ACTIVATE_ACCEPT, CONVERGE_ANEW, CONVERGE_PAUSE, CONVERGE_PAUSE_AT_MOST, CONVERGE_TRIES};

use super::pace::Pace;
use super::stops;
use super::table::{Seat, Table};

/// Sends hosts that run something else to the release in force, within the same budgets as a rollout.
pub(super) fn hosts(table: &mut Table<'_>) {
    let Some((target, by)) = target(table) else { return };
    if table.rollout.as_deref().is_none_or(Rollout::ended) {
        report_left_alone(table, &target);
    }
    let active = table.rollout.as_deref().filter(|rollout| !rollout.ended());
    let off: Vec<usize> = (table.seats.iter().enumerate())
        .filter(|(_, seat)| active.is_none() || seat.member.is_none())
        .filter(|(_, seat)| seat.alone.is_none())
        .filter(|(_, seat)| !is_asked_now(seat) && seat.host.proven_digest() != Some(target.digest))
        .map(|(at, _)| at)
        .collect();
    if off.is_empty() {
        return note_whole(table);
    }
    // A schema on its way to somewhere else is no time to start the release in force anew.
    let moves = |rollout: &&Rollout| match rollout.status.stage() {
        Some(Stage::Contracting { run }) => !matches!(run, MigrationRun::Electing { .. }),
        _ => !matches!(rollout.schema, Schema::Fits { .. }),
    };
    if let Some(rollout) = active.filter(moves) {
        let rollout = rollout.id.clone();
        let hosts = off.into_iter().map(|at| table.seats[at].host.record.id.clone()).collect();
        return table.wait(Wait::SchemaMoves { hosts, rollout });
    }
    let strategy = strategy(table, &target);
    // While a rollout is under way there is one budget for both.
    let max_unavailable = active.map_or(strategy.max_unavailable, |rollout| rollout.strategy.max_unavailable);
    let max_unavailable = max_unavailable.at_least_one(table.seats.len());
    let is_active = active.is_some();
    let courses: Vec<(usize, Course, ReleaseRef)> = (off.into_iter())
        .map(|at| {
            let seat = &table.seats[at];
            match stops::next(table, seat, &target) {
                Ok(next) => (at, course(table, seat, &target, &next), next),
                Err(no_way) => (at, Course::NoWay(no_way), target.clone()),
            }
        })
        .collect();
    stop_if_too_many_failed(table, &courses, &target, &strategy);
    let mut blocked = Vec::new();
    let (mut left_alone, mut away) = (Hosts::default(), Hosts::default());
    let mut apart = Hosts::default();
    // Neither do they change beside a group that the rollout changes, nor it beside theirs.
    let mut pace = is_active.then(|| Pace::of(table));
    let convergence = table.place.convergence.clone();
    for (at, course, next) in courses {
        let seat = &table.seats[at];
        let host = seat.host.record.id.clone();
        let release = || target.name.clone();
        let over = || (next != target).then(|| next.name.clone());
        if seat.fresh.is_none() {
            // On coming back it is left alone like the others.
            let kept = if convergence == Convergence::On { &mut away } else { &mut left_alone };
            kept.add(&host);
            continue;
        }
        match (course, &convergence) {
            (_, Convergence::Held { .. }) => left_alone.add(&host),
            (Course::NoWay(no_way), _) => {
                table.wait(Wait::NoWay { host, release: release(), reason: no_way.to_string() });
            }
            (Course::Failed { reason, .. }, _) => {
                table.wait(Wait::NotConverged { host, release: release(), reason });
            }
            (Course::Later { reason, .. }, Convergence::On) => {
                table.wait(Wait::NotConverged { host, release: release(), reason });
            }
            (Course::UnderWay, _) => table.wait(Wait::Converging { host, release: release(), over: over() }),
            (Course::Send | Course::Later { .. }, Convergence::Stopped { .. }) => left_alone.add(&host),
            (Course::Send, Convergence::On) if !seat.at_rest() => {
                table.wait(Wait::Converging { host, release: release(), over: over() });
            }
            (Course::Send, Convergence::On) if !table.within_the_budget(seat, max_unavailable) => {
                blocked.push(at);
            }
            (Course::Send, Convergence::On)
                if pace.as_ref().is_some_and(|pace| !pace.beside(&table.seats[at])) =>
            {
                apart.add(&host);
            }
            (Course::Send, Convergence::On) if !table.has_room(at) => {
                table.wait(Wait::Converging { host, release: release(), over: over() });
            }
            (Course::Send, Convergence::On) => {
                send(table, at, (&next, &target), &by);
                if let Some(pace) = &mut pace {
                    pace.begun(&table.seats[at], table.now);
                }
            }
        }
    }
    if let (Some(group), false) = (pace.as_ref().and_then(Pace::group), apart.is_empty()) {
        table.wait(Wait::Group { in_change: group, waiting: apart });
    }
    table.wait_for_the_budget(max_unavailable, &blocked);
    if !away.is_empty() {
        table.wait(Wait::Away { hosts: away, release: target.name.clone() });
    }
    if left_alone.is_empty() {
        return;
    }
    match convergence {
        Convergence::On => {}
        Convergence::Held { reason } => table.wait(Wait::ConvergenceHeld { hosts: left_alone, reason }),
        Convergence::Stopped { reason } => {
            table.wait(Wait::ConvergenceStopped { hosts: left_alone, release: target.name, reason });
        }
    }
}

/// Whether a host is asked for something else in this run. Where its requests go says nothing of what it has failed at.
fn is_asked_now(seat: &Seat<'_>) -> bool {
    let newest = seat.issued.as_ref().and_then(|issued| issued.newest());
    newest.is_some_and(|asked| !matches!(asked.order, Order::Drain { .. }))
}

/// What hosts are brought to that have no part in a rollout, and by which rollout it came: what is in force. A contract
/// waits for each of them, so that from then on it is the release whose contract that is.
fn target(table: &Table<'_>) -> Option<(ReleaseRef, RolloutId)> {
    let rollout = table.rollout.as_deref();
    let contracting =
        rollout.filter(|rollout| matches!(rollout.status.stage(), Some(Stage::Contracting { .. })));
    if let Some(rollout) = contracting {
        return Some((rollout.release.clone(), rollout.id.clone()));
    }
    table.place.in_force().map(|in_force| (in_force.release.clone(), in_force.rollout.clone()))
}

/// Outside of a rollout, which tells of those that it leaves out.
fn report_left_alone(table: &mut Table<'_>, target: &ReleaseRef) {
    for (how, drained) in [(Out::Cordoned, true), (Out::Cordoned, false), (Out::Excluded, false)] {
        let alone = table.seats.iter().filter(|seat| {
            let is_drained = seat.host.record.drain.is_some();
            seat.alone == Some(how) && is_drained == drained && !seat.runs(target)
        });
        let hosts: Hosts = alone.map(|seat| seat.host.record.id.clone()).collect();
        if !hosts.is_empty() {
            table.wait(Wait::LeftAlone { hosts, how, drained, release: target.name.clone() });
        }
    }
}

/// Those that were silent have come, and those that failed were mended: the release has proven itself after all.
fn note_whole(table: &mut Table<'_>) {
    let held = table.rollout.as_deref().is_some_and(|rollout| !rollout.ended());
    let Some(target) = table.place.in_force().map(|in_force| in_force.release.clone()) else { return };
    let all_well = !table.seats.is_empty() && table.seats.iter().all(|seat| !seat.out && seat.runs(&target));
    let in_part = table.place.in_force().is_some_and(|in_force| !in_force.whole);
    if !held
        && all_well
        && in_part
        && let Some(in_force) = table.place.to_mut().proven.last_mut()
    {
        in_force.whole = true;
    }
}

/// A release that fails on hosts that come to it late is as bad as one that fails in its rollout (P6). Each of
/// them goes back by itself, so that the budget of hosts that are out would never stop the march. What failed
/// in the rollout counts as well, and is no reason by itself: that was within the budget.
fn stop_if_too_many_failed(
    table: &mut Table<'_>,
    courses: &[(usize, Course, ReleaseRef)],
    target: &ReleaseRef,
    strategy: &Strategy,
) {
    let budget = strategy.failure_budget.at_most(table.seats.len());
    let (mut failed, mut late, mut first) = (Hosts::default(), false, None);
    for (at, course, _) in courses {
        let Course::Failed { reason, release_failed } = course else { continue };
        let before = failed_in_last_rollout(table, &table.seats[*at], target).is_some();
        if !release_failed {
            continue;
        }
        late |= !before;
        failed.add(&table.seats[*at].host.record.id);
        first.get_or_insert(reason);
    }
    if !late || failed.count() <= budget || table.place.convergence != Convergence::On {
        return;
    }
    let why = first.map_or_else(String::new, |reason| format!(": {reason}"));
    let reason = format!("it failed on {failed}{why}, and {budget} may fail");
    table.place.to_mut().convergence = Convergence::Stopped { reason: reason.clone() };
    let place = table.place.place.clone();
    table.log(LogEvent::ConvergenceStopped {
        application: place.application,
        environment: place.environment,
        release: target.clone(),
        reason,
    });
}

fn strategy(table: &Table<'_>, target: &ReleaseRef) -> Strategy {
    let place = &table.place.place;
    let release = table.state.release(&place.application, &target.name);
    release.and_then(|release| release.environments.get(&place.environment).cloned()).unwrap_or_default()
}

/// What to do with a host that does not run the release in force.
enum Course {
    /// Send it there.
    Send,
    /// It was sent and is on its way.
    UnderWay,
    /// The last order came to nothing: it is sent there again, and not at once.
    Later { reason: String },
    /// It was there and failed: somebody must look.
    Failed {
        reason: String,
        /// Whether it was the release that failed, and not the host that did not take it.
        release_failed: bool,
    },
    /// It cannot come there from what it runs.
    NoWay(NoWay),
}

/// What to do with a host that is to run `target`, and takes `next` on its way there.
fn course(table: &Table<'_>, seat: &Seat<'_>, target: &ReleaseRef, next: &ReleaseRef) -> Course {
    if let Some((reason, release_failed)) = failed_in_last_rollout(table, seat, target) {
        return Course::Failed { reason, release_failed };
    }
    if let Some((reason, release_failed)) = failed_on_the_way(table, seat, target, next) {
        return Course::Failed { reason, release_failed };
    }
    let Some(assignment) = asked_for(seat, next) else { return Course::Send };
    let told = |outcome: &OutcomeKind| match next == target {
        true => told(outcome),
        false => stops::at(next, &told(outcome)),
    };
    let tries = seat.host.issued.tries;
    let reason = match seat.host.standing(assignment, table.now) {
        Standing::Open | Standing::Accepted => return Course::UnderWay,
        Standing::Overtaken => return Course::Send,
        Standing::Lapsed if tries <= 1 => "it reports, and has not taken the order to".to_owned(),
        Standing::Lapsed => format!("it reports, and has taken none of {tries} orders to"),
        // Too late is nobody's fault; too often is.
        Standing::Ended(OutcomeKind::Refused { failure }) if tries < CONVERGE_TRIES => failure.reason.clone(),
        Standing::Ended(OutcomeKind::Committed) => {
            let reason = "it said that it had taken it, and reports another release as active".to_owned();
            if tries >= CONVERGE_TRIES {
                return Course::Failed { reason, release_failed: true };
            }
            reason
        }
        Standing::Ended(outcome) => {
            let untouched = matches!(outcome, OutcomeKind::Refused { .. } | OutcomeKind::StageFailed { .. });
            return Course::Failed { reason: told(outcome), release_failed: !untouched };
        }
    };
    let again_at = assignment.issued_at + pause(tries);
    if table.now >= again_at { Course::Send } else { Course::Later { reason } }
}

/// What has failed on a host that was to come to `target`: that, or a stop on the way there, other than what it would take
/// next from what it was left with. It is not sent round and round without anybody's word.
///
/// Why it failed, and whether the release was what failed.
fn failed_on_the_way(
    table: &Table<'_>,
    seat: &Seat<'_>,
    target: &ReleaseRef,
    next: &ReleaseRef,
) -> Option<(String, bool)> {
    let last = seat.host.issued.assignment.as_ref()?;
    let release = &last.release;
    if !matches!(last.order, Order::Activate { .. }) || release.digest == next.digest {
        return None;
    }
    let Standing::Ended(outcome) = seat.host.standing(last, table.now) else { return None };
    if matches!(outcome, OutcomeKind::Committed | OutcomeKind::Refused { .. }) {
        return None;
    }
    let is_target = release.digest == target.digest;
    if !is_target && !stops::leads_to(table, release, target) {
        return None;
    }
    let reason = if is_target { told(outcome) } else { stops::at(release, &told(outcome)) };
    Some((reason, !matches!(outcome, OutcomeKind::StageFailed { .. })))
}

/// How long after an order the next one is sent, if it came to nothing.
fn pause(tries: u32) -> Duration {
    let doubled = CONVERGE_PAUSE * 2u32.saturating_pow(tries.saturating_sub(1).min(16));
    doubled.min(CONVERGE_PAUSE_AT_MOST)
}

/// The order to activate the release that the host was given last, if it was that.
fn asked_for<'s>(seat: &'s Seat<'_>, release: &ReleaseRef) -> Option<&'s Assignment> {
    let assignment = seat.host.issued.assignment.as_ref()?;
    let activates = matches!(assignment.order, Order::Activate { .. });
    (activates && assignment.release.digest == release.digest).then_some(assignment)
}

/// A host that tried this release in the rollout that brought it, and failed, is not sent there again by
/// itself.
///
/// Why it failed, and whether the release was what failed.
fn failed_in_last_rollout(table: &Table<'_>, seat: &Seat<'_>, target: &ReleaseRef) -> Option<(String, bool)> {
    let last: &Rollout = table.state.rollout(table.place.last.as_ref()?)?;
    // What failed to restart had the release; what else was asked of a host stands in its own answer.
    if last.is_restart() {
        return None;
    }
    let member: &Member = table.state.members.get(&last.id)?.get(&seat.host.record.id)?;
    let tried = match member.state {
        // What bars a host is asked anew each time.
        MemberState::Failed { left: Left::Unknown | Left::Barred } => false,
        MemberState::Failed { .. } => last.release.digest == target.digest,
        MemberState::ReturnFailed => {
            last.previous.as_ref().is_some_and(|previous| previous.digest == target.digest)
        }
        _ => false,
    };
    let reason = || member.newest_failure().map_or_else(String::new, |failure| failure.reason.clone());
    let untouched = matches!(member.state, MemberState::Failed { left: Left::Untouched });
    tried.then(|| (reason(), !untouched))
}

fn told(outcome: &OutcomeKind) -> String {
    match outcome {
        OutcomeKind::StageFailed { failure }
        | OutcomeKind::MigrationFailed { failure }
        | OutcomeKind::MigrationUnknown { failure }
        | OutcomeKind::Reverted { failure }
        | OutcomeKind::Held { failure }
        | OutcomeKind::UndoFailed { failure, .. }
        | OutcomeKind::Refused { failure } => failure.reason.clone(),
        OutcomeKind::Staged | OutcomeKind::Migrated | OutcomeKind::Committed => {
            "it answered something else than it was asked".to_owned()
        }
    }
}

/// Sends a host to `target`, or to the stop that is next on its way there.
fn send(table: &mut Table<'_>, at: usize, (next, target): (&ReleaseRef, &ReleaseRef), rollout: &RolloutId) {
    let strategy = strategy(table, next);
    let order = Order::Activate {
        on_failure: stops::on_failure(table, &table.seats[at], next),
        min_healthy: strategy.min_healthy,
        healthy_deadline: strategy.healthy_deadline,
    };
    let again =
        asked_for(&table.seats[at], next).is_some_and(|last| table.since_issued(last) < CONVERGE_ANEW);
    let tries = if again { table.seats[at].host.issued.tries.saturating_add(1) } else { 1 };
    let generation = table.issue(at, next.clone(), rollout.clone(), order, ACTIVATE_ACCEPT);
    if let Some(issued) = &mut table.seats[at].issued {
        issued.tries = tries;
    }
    let host = table.seats[at].host.record.id.clone();
    let over = (next != target).then(|| next.name.clone());
    table.wait(Wait::Converging { host: host.clone(), release: target.name.clone(), over });
    // What is repeated is no news.
    if tries == 1 {
        let on_its_way_to = (next != target).then(|| target.clone());
        table.log(LogEvent::HostConverging { host, release: next.clone(), on_its_way_to, generation });
    }
}
