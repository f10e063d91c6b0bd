//! Hosts outside of a rollout: a new one, and one that was away, take the release in force.

use landfall_common::assignment::{OnFailure, Order, ReleaseRef};
use landfall_common::report::OutcomeKind;
use landfall_common::strategy::Strategy;

use crate::log::LogEvent;
use crate::member::{Left, Member, MemberState};
use crate::observation::Standing;
use crate::reason::{Hosts, Wait};
use crate::record::Convergence;
use crate::rollout::{Rollout, Schema};
use crate::schema::{self, Way};
use crate::timing::ACTIVATE_ACCEPT;

use super::table::{Seat, Table};

/// Sends hosts that run something else to the release in force, within the same budget as a rollout.
pub(super) fn hosts(table: &mut Table<'_>) {
    let Some(in_force) = table.place.in_force().cloned() else { return };
    let active = table.rollout.as_deref().filter(|rollout| !rollout.ended());
    // A schema on its way to somewhere else is no time to start the release in force anew.
    if active.is_some_and(|rollout| !matches!(rollout.schema, Schema::Fits { .. })) {
        return;
    }
    let under_way = active.is_some();
    let target = in_force.release;
    let strategy = strategy(table, &target);
    // While a rollout is under way there is one budget for both.
    let max_unavailable = match active {
        Some(rollout) => rollout.strategy.max_unavailable,
        None => strategy.max_unavailable,
    };
    let max_unavailable = max_unavailable.at_least_one(table.seats.len());
    let mut blocked = Hosts::default();
    let mut held = Hosts::default();
    let mut away = Hosts::default();
    for at in 0..table.seats.len() {
        let seat = &table.seats[at];
        if (under_way && seat.member.is_some()) || seat.issued.is_some() {
            continue;
        }
        if seat.host.proven_digest() == Some(target.digest) {
            continue;
        }
        if seat.fresh.is_none() {
            away.add(&seat.host.record.id);
            continue;
        }
        let host = seat.host.record.id.clone();
        if let Convergence::Held { .. } = &table.place.convergence {
            held.add(&host);
            continue;
        }
        match course(table, seat, &target) {
            Course::Send if !seat.at_rest() => {
                table.wait(Wait::Converging { host, release: target.name.clone() });
            }
            Course::Send if !seat.out && table.out + 1 > max_unavailable => blocked.add(&host),
            Course::Send => send(table, at, &target, &in_force.rollout, &strategy),
            Course::UnderWay => {
                table.wait(Wait::Converging { host, release: target.name.clone() });
            }
            Course::Failed(reason) => {
                table.wait(Wait::NotConverged { host, release: target.name.clone(), reason });
            }
        }
    }
    if !blocked.is_empty() {
        let out = table.out_hosts();
        table.wait(Wait::Budget { max_unavailable, out, waiting: blocked });
    }
    if !away.is_empty() {
        table.wait(Wait::Away { hosts: away, release: target.name.clone() });
    }
    if let Convergence::Held { reason } = table.place.convergence.clone()
        && !held.is_empty()
    {
        table.wait(Wait::ConvergenceHeld { hosts: held, reason });
    }
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
    /// It was there and failed: somebody must look.
    Failed(String),
}

fn course(table: &Table<'_>, seat: &Seat<'_>, target: &ReleaseRef) -> Course {
    let of_target = |order: &Order| matches!(order, Order::Activate { .. });
    let assignment = seat.host.issued.assignment.as_ref();
    let assignment = assignment.filter(|a| a.release.digest == target.digest && of_target(&a.order));
    if let Some(assignment) = assignment {
        match seat.host.standing(assignment, table.now) {
            Standing::Open | Standing::Accepted => return Course::UnderWay,
            Standing::Lapsed | Standing::Overtaken | Standing::Ended(OutcomeKind::Committed) => {}
            Standing::Ended(OutcomeKind::Refused { .. }) if table.now > assignment.expires_at => {}
            Standing::Ended(outcome) => return Course::Failed(told(outcome)),
        }
    }
    match failed_in_last_rollout(table, seat, target) {
        Some(reason) => Course::Failed(reason),
        None => Course::Send,
    }
}

/// A host that tried this release in the rollout that brought it, and failed, is not sent there again by
/// itself.
fn failed_in_last_rollout(table: &Table<'_>, seat: &Seat<'_>, target: &ReleaseRef) -> Option<String> {
    let last: &Rollout = table.state.rollout(table.place.last.as_ref()?)?;
    let member: &Member = table.state.members.get(&last.id)?.get(&seat.host.record.id)?;
    let tried = match member.state {
        MemberState::Failed { left: Left::Unknown } => false,
        MemberState::Failed { .. } => last.release.digest == target.digest,
        MemberState::ReturnFailed => {
            last.previous.as_ref().is_some_and(|previous| previous.digest == target.digest)
        }
        _ => false,
    };
    let reason = || member.newest_failure().map_or_else(String::new, |failure| failure.reason.clone());
    tried.then(reason)
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

fn send(
    table: &mut Table<'_>,
    at: usize,
    target: &ReleaseRef,
    rollout: &landfall_common::RolloutId,
    strategy: &Strategy,
) {
    let active = table.seats[at].fresh.and_then(|received| received.report.active.as_ref());
    let may_revert = active.is_some_and(|active| {
        matches!(schema::way_back(&table.place.migrations, &active.release), Way::Code)
    });
    let order = Order::Activate {
        on_failure: if may_revert { OnFailure::Revert } else { OnFailure::Hold },
        min_healthy: strategy.min_healthy,
        healthy_deadline: strategy.healthy_deadline,
    };
    let generation = table.issue(at, target.clone(), rollout.clone(), order, ACTIVATE_ACCEPT);
    let host = table.seats[at].host.record.id.clone();
    table.wait(Wait::Converging { host: host.clone(), release: target.name.clone() });
    table.log(LogEvent::HostConverging { host, release: target.clone(), generation });
}
