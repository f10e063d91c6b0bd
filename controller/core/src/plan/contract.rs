//! After the last host: the contract, on one host, under a lease, and never a second time by itself (P7). It waits for
//! every host of the place, whoever is left out of the rollout included: what it takes away older code still needs.

use landfall_common::assignment::Direction;
use landfall_common::report::{Failure, Phase};

use crate::log::{Actor, LogEvent};
use crate::member::MemberState;
use crate::reason::{Doing, Hosts, Wait, Why};
use crate::record::WayBackKind;
use crate::rollout::{Doubt, Lease, MigrationRun, Planned, Rollout, Stage, Status};
use crate::timing::MIGRATION_ATTEMPTS;

use super::Turn;
use super::evidence;
use super::migrate;
use super::run;
use super::table::{Seat, Table};

/// What has to run.
pub(super) fn planned(rollout: &Rollout) -> Option<Planned> {
    let facts = &rollout.contract.as_ref()?.facts;
    let facts = crate::record::MigrationFacts {
        lease: facts.lease,
        way_back: WayBackKind::None,
        idempotent: facts.idempotent,
        schema: None,
    };
    Some(Planned { release: rollout.release.clone(), direction: Direction::Contract, facts })
}

/// Every host that can be heard of runs the release, and the watch is over.
pub(super) fn begin(table: &mut Table<'_>) -> Turn {
    let now = table.now;
    let rollout = table.rollout();
    let doubt = table.place.contract_of(&rollout.release).filter(|contracted| !contracted.known);
    // One that was handed out before this rollout, or before a backup, may have run.
    let run = match doubt.map(|contracted| (contracted.fence, contracted.at)) {
        None => MigrationRun::anew(),
        Some((fence, at)) => {
            let host = table.members().next().map(|(seat, _)| seat.host.record.id.clone());
            let Some(host) = host else { return Turn::None };
            let reason = "it was handed out before, and nobody has said how it ended".to_owned();
            let lease = Lease {
                host,
                generation: landfall_common::Generation::default(),
                fence,
                direction: Direction::Contract,
                issued_at: at,
                over_at: at,
                attempt: 0,
                doubt: None,
            };
            MigrationRun::Unknown { lease, reason, failure: None }
        }
    };
    table.rollout_mut().enter(Stage::Contracting { run }, now);
    Turn::Taken
}

/// Waits for the last host, hands the contract out, and ends once it is known to have run.
pub(super) fn advance(table: &mut Table<'_>) -> Turn {
    let rollout = table.rollout();
    let Some(Stage::Contracting { run }) = rollout.status.stage().cloned() else { return Turn::None };
    let Some(planned) = planned(rollout).filter(|_| rollout.contract_due().is_some()) else {
        let last = rollout.batches;
        return match run::begin(table, last) {
            Err(turn) => turn,
            Ok(()) => run::finish(table),
        };
    };
    let MigrationRun::Electing { attempts, doubt } = run else {
        if migrate::settle(table) == Turn::Taken {
            return Turn::Taken;
        }
        migrate::report(table);
        return Turn::None;
    };
    // Hosts that come late still take the release, and until it was handed out what fails too often goes back.
    let last = table.rollout().batches;
    if let Err(turn) = run::begin(table, last) {
        return turn;
    }
    if attempts >= MIGRATION_ATTEMPTS {
        return in_vain(table, attempts, doubt);
    }
    let missing = missing(table);
    if !missing.is_empty() {
        report(table, missing);
        return Turn::None;
    }
    let candidates = table.seats.iter().enumerate().filter_map(|(at, seat)| {
        let member = seat.member.as_ref().filter(|_| seat.alone.is_none())?;
        Some((member.batch, at))
    });
    let Some((_, at)) = candidates.min() else {
        let reason = "no host is left that could run the contract".to_owned();
        return match doubt {
            Some(doubt) => migrate::somebody_must_look(table, *doubt, &reason),
            None => table.pause(reason),
        };
    };
    migrate::hand_out(table, &planned, at, attempts, doubt)
}

fn in_vain(table: &mut Table<'_>, attempts: u32, doubt: Option<Box<Doubt>>) -> Turn {
    if let Some(doubt) = doubt {
        return migrate::somebody_must_look(table, *doubt, "no other host has run it since");
    }
    migrate::set_run(table, MigrationRun::anew());
    let rollout = table.rollout();
    let (id, release) = (rollout.id.clone(), rollout.release.name.clone());
    let reason = format!(
        "the contract of {release} was refused {attempts} times, and has not run; {release} stays on every host. \
         `ctl retry {id}` hands it out again, `ctl abort {id}` ends the rollout without it"
    );
    stop(table, reason)
}

/// It ran to an end of its own, and failed. What it has changed until then nobody knows.
pub(super) fn failed(table: &mut Table<'_>, lease: &Lease, failure: &Failure) -> Turn {
    if let Some(seat) = table.seats.iter_mut().find(|seat| seat.host.record.id == lease.host) {
        seat.blame(failure.clone());
    }
    migrate::set_run(table, MigrationRun::anew());
    let rollout = table.rollout();
    let (id, release) = (rollout.id.clone(), rollout.release.name.clone());
    let code = failure.exit_code.map_or_else(String::new, |code| format!(" (exit code {code})"));
    let reason = format!(
        "the contract of {release} failed on {}{code}: {}; {release} stays on every host, and what is older may not \
         run any more. Mend what is the matter, then `ctl retry {id}`; `ctl abort {id}` ends the rollout without it",
        lease.host, failure.reason
    );
    stop(table, reason)
}

/// Pauses. Where somebody has done so for a reason of his own, whoever resumes is to know this one.
fn stop(table: &mut Table<'_>, reason: String) -> Turn {
    let now = table.now;
    let rollout = table.rollout_mut();
    let Status::Paused { reason: told, by, .. } = &mut rollout.status else { return table.pause(reason) };
    (*told, *by) = (reason.clone(), Actor::Controller);
    rollout.since = now;
    let event = LogEvent::RolloutPaused { rollout: rollout.id.clone(), reason };
    table.log(event);
    Turn::Taken
}

/// The hosts that may still run something older, and why that is not ruled out.
fn missing(table: &Table<'_>) -> Vec<(landfall_common::HostId, Why)> {
    let found = table.seats.iter().filter_map(|seat| {
        let why = why_not(table, seat)?;
        Some((seat.host.record.id.clone(), why))
    });
    found.collect()
}

fn why_not(table: &Table<'_>, seat: &Seat<'_>) -> Option<Why> {
    let rollout = table.rollout();
    let Some(told) = seat.fresh else { return Some(table.unheard(seat)) };
    if let (Some(how), false) = (seat.alone, seat.runs(&rollout.release)) {
        return Some(Why::LeftAlone { how, release: seat.active().map(|active| active.name.clone()) });
    }
    if let Some(MemberState::Failed { .. }) = seat.member_state() {
        let reason = seat.member.as_ref().and_then(|member| member.newest_failure());
        let reason = reason.map_or_else(String::new, |failure| failure.reason.clone());
        return Some(Why::Failed { reason });
    }
    if let Some(MemberState::Committed { generation }) = seat.member_state() {
        let healthy = rollout.strategy.min_healthy;
        if let Some(why) = evidence::missing(table, seat, &rollout.release, *generation, healthy) {
            return Some(why);
        }
    }
    if !seat.runs(&rollout.release) {
        return Some(Why::OtherRelease { release: seat.active().map(|active| active.name.clone()) });
    }
    // What it was asked for may still bring something else.
    let busy = !matches!(told.report.phase, Phase::Idle) || seat.host.grant_open(table.now);
    busy.then_some(Why::Stale)
}

fn report(table: &mut Table<'_>, missing: Vec<(landfall_common::HostId, Why)>) {
    let rollout = table.rollout();
    let (id, release) = (rollout.id.clone(), rollout.release.name.clone());
    let hosts: Hosts = missing.iter().map(|(host, _)| host.clone()).collect();
    let run = rollout.status.stage().and_then(Stage::migration);
    let doubt = run.and_then(MigrationRun::in_doubt).map(|lease| lease.host.clone());
    table.wait(Wait::Contract { rollout: id, release, hosts, doubt });
    for (host, why) in missing {
        table.wait(Wait::Host { what: Doing::Contract, host, why });
    }
}

/// A lease of it is handed out: from now on nothing older may run, whatever becomes of it.
pub(super) fn handed_out(table: &mut Table<'_>, planned: &Planned, fence: u64) {
    if planned.direction == Direction::Contract {
        let now = table.now;
        table.place.to_mut().contract_begins(&planned.release, fence, now);
    }
}

/// It was not taken: nothing has begun.
pub(super) fn not_taken(table: &mut Table<'_>, lease: &Lease) {
    if lease.direction == Direction::Contract {
        let release = table.rollout().release.clone();
        table.place.to_mut().contract_never_began(&release, lease.fence);
    }
}
