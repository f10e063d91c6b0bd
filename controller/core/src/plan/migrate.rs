//! The migration, forward or back: one host, under a lease, and never a second time by itself (P7).

use landfall_common::HostId;
use landfall_common::assignment::{Assignment, Direction, Order};
use landfall_common::report::{Failure, OutcomeKind};

use crate::log::LogEvent;
use crate::member::{Left, Member, MemberState};
use crate::observation::Standing;
use crate::reason::Wait;
use crate::refusal::moment;
use crate::rollout::{Back, Doubt, Lease, MigrationRun, Planned, Schema, Stage};
use crate::timing::{LEASE_MARGIN, MIGRATE_ACCEPT, MIGRATION_ATTEMPTS};
use crate::turn::{self, Fleet};

use super::Turn;
use super::contract;
use super::stage;
use super::stops;
use super::table::Table;

/// Hands the migration out, waits for it, and goes on once it is known to have run.
pub(super) fn advance(table: &mut Table<'_>) -> Turn {
    let Some(planned) = planned(table) else {
        // Nothing is due: a stage that was entered for nothing is left.
        return super::run::open(table, 1);
    };
    if planned.direction == Direction::Up || forward(table) {
        stage::ask(table);
    }
    match run(table) {
        Some(MigrationRun::Electing { attempts, doubt }) => elect(table, &planned, attempts, doubt),
        Some(_) => {
            if settle(table) == Turn::Taken {
                return Turn::Taken;
            }
            report(table);
            Turn::None
        }
        None => Turn::None,
    }
}

/// Whether it is on the way there.
fn forward(table: &Table<'_>) -> bool {
    matches!(table.rollout().status.stage(), Some(Stage::Migrating { .. }))
}

fn run(table: &Table<'_>) -> Option<MigrationRun> {
    table.rollout().status.stage().and_then(Stage::migration).cloned()
}

/// Whether an order is that by which a host has the lease.
pub(super) fn is_leased(table: &Table<'_>, host: &HostId, order: &Assignment) -> bool {
    let run = table.rollout.as_deref().and_then(|rollout| rollout.status.stage()?.migration());
    matches!(run, Some(MigrationRun::Leased { lease })
        if lease.host == *host && lease.generation == order.generation)
}

/// What has to run.
fn planned(table: &Table<'_>) -> Option<Planned> {
    let rollout = table.rollout();
    match (rollout.status.stage()?, &rollout.schema) {
        (Stage::Migrating { .. }, Schema::Due { migration }) => Some(migration.clone()),
        (Stage::Contracting { .. }, _) => contract::planned(rollout),
        (Stage::RollingBack { back: Back::Schema { migration, .. }, .. }, _) => Some((**migration).clone()),
        _ => None,
    }
}

pub(super) fn set_run(table: &mut Table<'_>, run: MigrationRun) {
    let now = table.now;
    let rollout = table.rollout_mut();
    let next = match rollout.status.stage().cloned() {
        Some(Stage::Migrating { .. }) => Stage::Migrating { run },
        Some(Stage::Contracting { .. }) => Stage::Contracting { run },
        Some(Stage::RollingBack { reason, back: Back::Schema { migration, .. } }) => {
            Stage::RollingBack { reason, back: Back::Schema { migration, run } }
        }
        _ => return,
    };
    rollout.enter(next, now);
}

/// Gives the lease to the first host, batch by batch, that has what it takes: heard of, at rest, and with
/// the release on its disk.
fn elect(table: &mut Table<'_>, planned: &Planned, attempts: u32, doubt: Option<Box<Doubt>>) -> Turn {
    if attempts >= MIGRATION_ATTEMPTS {
        let reason = format!("the migration was refused {attempts} times");
        return match doubt {
            Some(doubt) => somebody_must_look(table, *doubt, "no other host has run it since"),
            None if forward(table) => {
                table.fail(format!("{reason}; nothing that runs was touched"), Fleet::AsBefore)
            }
            None => table.pause(format!("{reason}, so that the code cannot go back")),
        };
    }
    let there = forward(table);
    let now = table.now;
    // One that only the rollout before has touched may not have this release on its disk.
    let able = |member: &Member| match member.state {
        MemberState::Staged => true,
        MemberState::Pending | MemberState::Staging { .. } => false,
        MemberState::Failed { left: Left::Untouched | Left::Barred } => false,
        _ => !there && member.touched,
    };
    let candidates = table.seats.iter().enumerate().filter_map(|(at, seat)| {
        let member = seat.member.as_ref().filter(|member| able(member))?;
        let free = seat.at_rest() && !seat.host.grant_open(now);
        // Whoever takes a stop first has the stop on its disk, and would fetch the release under the lease.
        let stops = stops::over(seat, table.rollout()).is_some();
        free.then_some((stops, member.batch, at))
    });
    let Some((_, _, at)) = candidates.min() else {
        if table.stalled() {
            let reason = "no host that could migrate was heard of".to_owned();
            return match doubt {
                Some(doubt) => somebody_must_look(table, *doubt, &reason),
                None if there => {
                    table.fail(format!("{reason}; nothing that runs was touched"), Fleet::AsBefore)
                }
                None => table.pause(reason),
            };
        }
        table.wait(Wait::NoCandidate { attempts });
        return Turn::None;
    };
    hand_out(table, planned, at, attempts, doubt)
}

/// Gives the lease to a host.
pub(super) fn hand_out(
    table: &mut Table<'_>,
    planned: &Planned,
    at: usize,
    attempts: u32,
    doubt: Option<Box<Doubt>>,
) -> Turn {
    let now = table.now;
    let fence = table.place.fence + 1;
    table.place.to_mut().fence = fence;
    contract::handed_out(table, planned, fence);
    let lease = planned.facts.lease;
    let order = Order::Migrate { fence, lease, direction: planned.direction };
    let id = table.rollout().id.clone();
    let generation = table.issue(at, planned.release.clone(), id.clone(), order, MIGRATE_ACCEPT);
    let host = table.seats[at].host.record.id.clone();
    let over_at = now + MIGRATE_ACCEPT + lease + LEASE_MARGIN;
    table.log(LogEvent::MigrationStarted {
        rollout: id,
        host: host.clone(),
        release: planned.release.name.clone(),
        lease_until: over_at,
        contract: planned.direction == Direction::Contract,
        down: planned.direction == Direction::Down,
    });
    let lease = Lease {
        host,
        generation,
        fence,
        direction: planned.direction,
        issued_at: now,
        over_at,
        attempt: attempts + 1,
        doubt,
    };
    set_run(table, MigrationRun::Leased { lease });
    report(table);
    Turn::None
}

/// Looks at what the elected host says, and at the lease. Works on a paused rollout as well.
pub(super) fn settle(table: &mut Table<'_>) -> Turn {
    let (lease, known_unknown) = match run(table) {
        Some(MigrationRun::Leased { lease }) => (lease, false),
        Some(MigrationRun::Unknown { lease, .. }) => (lease, true),
        _ => return Turn::None,
    };
    let now = table.now;
    let outcome = table.seats.iter().find(|seat| seat.host.record.id == lease.host).and_then(|seat| {
        let assignment = seat.host.issued.assignment.as_ref();
        let assignment = assignment.filter(|assignment| assignment.generation == lease.generation)?;
        match seat.host.standing(assignment, now) {
            Standing::Ended(OutcomeKind::Refused { .. }) if !seat.host.never_taken(assignment, now) => None,
            Standing::Ended(outcome) => Some(outcome.clone()),
            Standing::Lapsed => {
                let reason = "it was not taken while it could be".to_owned();
                Some(OutcomeKind::Refused { failure: super::absorb::failure("accept", reason) })
            }
            _ => None,
        }
    });
    match outcome {
        Some(OutcomeKind::Migrated) => {
            ended(table, &lease, OutcomeKind::Migrated);
            let mut place = table.place.clone();
            let began = turn::migrated(table.rollout_mut(), place.to_mut(), now);
            table.place = place;
            began.into_iter().for_each(|event| table.log(event));
            Turn::Taken
        }
        Some(OutcomeKind::MigrationFailed { failure }) => {
            ended(table, &lease, OutcomeKind::MigrationFailed { failure: failure.clone() });
            failed(table, &lease, failure)
        }
        Some(OutcomeKind::Refused { failure }) => {
            ended(table, &lease, OutcomeKind::Refused { failure });
            contract::not_taken(table, &lease);
            set_run(table, MigrationRun::Electing { attempts: lease.attempt, doubt: lease.doubt });
            Turn::Taken
        }
        Some(OutcomeKind::MigrationUnknown { failure }) if !known_unknown => {
            ended(table, &lease, OutcomeKind::MigrationUnknown { failure: failure.clone() });
            let reason = failure.reason.clone();
            unknown(table, lease, reason, Some(failure))
        }
        _ if !known_unknown && now >= table.state.over_at(&lease, now) => {
            let reason = format!(
                "{} was given the right to run it at {} and has not said how it ended; it cannot be \
                 running it any more",
                lease.host,
                moment(lease.issued_at)
            );
            let failure = super::absorb::failure("migrate", reason.clone());
            ended(table, &lease, OutcomeKind::MigrationUnknown { failure });
            unknown(table, lease, reason, None)
        }
        _ => Turn::None,
    }
}

fn unknown(table: &mut Table<'_>, lease: Lease, reason: String, failure: Option<Failure>) -> Turn {
    let idempotent = planned(table).is_some_and(|planned| planned.facts.idempotent);
    // The host has ended it, by its own word or with its lease, and a second run does no harm.
    let next = if idempotent && lease.attempt < MIGRATION_ATTEMPTS {
        let attempts = lease.attempt;
        // The newest is the one that somebody would look for.
        let lease = Lease { doubt: None, ..lease };
        MigrationRun::Electing { attempts, doubt: Some(Box::new(Doubt { lease, reason, failure })) }
    } else {
        MigrationRun::Unknown { lease, reason, failure }
    };
    set_run(table, next);
    Turn::Taken
}

/// It may have taken effect, and nobody is left who could run it once more.
pub(super) fn somebody_must_look(table: &mut Table<'_>, doubt: Doubt, why: &str) -> Turn {
    let Doubt { lease, reason, failure } = doubt;
    set_run(table, MigrationRun::Unknown { lease, reason: format!("{reason}; {why}"), failure });
    Turn::Taken
}

/// The migration failed by itself.
fn failed(table: &mut Table<'_>, lease: &Lease, failure: Failure) -> Turn {
    if let Some(doubt) = lease.doubt.clone() {
        // What it met may be what the attempt before has left.
        let why = format!("run once more on {}, it failed: {}", lease.host, failure.reason);
        return somebody_must_look(table, *doubt, &why);
    }
    if lease.direction == Direction::Contract {
        return contract::failed(table, lease, &failure);
    }
    if forward(table) {
        if let Some(seat) = table.seats.iter_mut().find(|seat| seat.host.record.id == lease.host) {
            seat.blame(failure.clone());
        }
        let reason =
            format!("the migration failed on {}: {}; nothing was activated", lease.host, failure.reason);
        return table.fail(reason, Fleet::AsBefore);
    }
    // Half a way back may have been gone: somebody must look before code moves.
    let reason = format!("its way back failed: {}", failure.reason);
    let run = MigrationRun::Unknown { lease: lease.clone(), reason, failure: Some(failure) };
    if self::run(table).as_ref() == Some(&run) {
        return Turn::None;
    }
    set_run(table, run);
    Turn::Taken
}

/// How it ended, once: that a way back has failed is heard again with each report until somebody has looked.
fn ended(table: &mut Table<'_>, lease: &Lease, outcome: OutcomeKind) {
    let (rollout, release) = {
        let rollout = table.rollout();
        let release = planned(table).map_or(rollout.release.name.clone(), |planned| planned.release.name);
        (rollout.id.clone(), release)
    };
    let is_known = match (self::run(table), &outcome) {
        (Some(MigrationRun::Unknown { failure: known, .. }), OutcomeKind::MigrationFailed { failure }) => {
            known.as_ref() == Some(failure)
        }
        _ => false,
    };
    if !is_known {
        table.log(LogEvent::MigrationFinished {
            rollout,
            host: lease.host.clone(),
            release,
            outcome,
            contract: lease.direction == Direction::Contract,
            down: lease.direction == Direction::Down,
        });
    }
}

pub(super) fn report(table: &mut Table<'_>) {
    let wait = match run(table) {
        Some(MigrationRun::Leased { lease }) => Wait::Migrating {
            period: table.now.since(lease.issued_at),
            until: table.state.over_at(&lease, table.now),
            host: lease.host,
            direction: lease.direction,
        },
        Some(MigrationRun::Unknown { lease, reason, .. }) => {
            let (rollout, direction) = (table.rollout().id.clone(), lease.direction);
            Wait::MigrationUnknown { rollout, host: lease.host, direction, reason }
        }
        _ => return,
    };
    table.wait(wait);
}
