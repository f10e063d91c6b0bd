//! What the records of a backup are worth once they are restored: somebody has gone on since, and nobody here
//! knows how far. So nothing is decided from them until an operator has said what should run (P6, P7).

use std::collections::BTreeMap;

use landfall_common::assignment::Direction;
use landfall_common::{Generation, ReleaseName, RolloutId, Timestamp};

use crate::gate::{AtGates, GateVerdict};
use crate::log::Actor;
use crate::member::Member;
use crate::record::{Convergence, Place, Record};
use crate::refusal::moment;
use crate::rollout::{Back, Lease, MigrationRun, Rollout, Schema, Stage, Status};

/// Generations and fences of a restored controller are so far above those in the backup that whatever was
/// handed out after it was made stays below, also on hosts that have not reported yet.
pub const AHEAD: u64 = 1_000_000;

/// A place that was restored, and waits for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoredPlace {
    /// Which.
    pub place: Place,
    /// What was in force when the backup was made.
    pub in_force: Option<ReleaseName>,
    /// The rollout that was under way then, and is paused now.
    pub paused: Option<PausedRollout>,
}

/// A rollout that was under way when the backup was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PausedRollout {
    /// Which.
    pub id: RolloutId,
    /// Of what.
    pub release: ReleaseName,
    /// Why it is paused.
    pub reason: String,
    /// Whether its migration may have run since.
    pub migration_unknown: bool,
}

/// Makes records of a backup safe to start from; returns the places that wait for an operator now, and the
/// highest generation that was ever used for a host.
///
/// No host is brought to what was in force then: its database may have moved on. What was under way is paused,
/// and a migration that was due then may have run.
pub fn restored(records: &mut [Record], backup_at: Timestamp) -> (Vec<RestoredPlace>, Generation) {
    let why = format!("the controller was restored from a backup of {}", moment(backup_at));
    let mut highest = Generation::default();
    let first_host = first_hosts(records);
    let mut fences = BTreeMap::new();
    let leaders = leaders(records);
    for record in records.iter_mut() {
        match record {
            // Who got requests when the backup was made says nothing of who does now: nobody is led back to what nobody has
            // let since. Whoever gets them says so himself.
            Record::Host(host) if host.led_away.is_none() => {
                host.led_away = leaders.get(&host.place).cloned();
            }
            Record::Issued(issued) => {
                issued.highest = Generation(issued.highest.0 + AHEAD);
                highest = highest.max(issued.highest);
            }
            Record::Place(place) => {
                fences.insert(place.place.clone(), place.fence);
                place.fence += AHEAD;
                place.convergence = Convergence::Held { reason: why.clone() };
            }
            _ => {}
        }
    }
    let mut paused = BTreeMap::new();
    let mut contracts = BTreeMap::new();
    for record in records.iter_mut() {
        if let Record::Rollout(rollout) = record
            && !rollout.ended()
        {
            if rollout.contract_due().is_some() {
                contracts.insert(rollout.place.clone(), rollout.release.clone());
            }
            let fence = fences.get(&rollout.place).copied().unwrap_or_default();
            let lease = |direction| {
                // Whom it was given to after the backup nobody knows: the first host is as likely as any.
                first_host.get(&rollout.id).map(|member| Lease {
                    host: member.host.clone(),
                    generation: Generation::default(),
                    fence,
                    direction,
                    issued_at: backup_at,
                    over_at: backup_at,
                    attempt: 0,
                    doubt: None,
                })
            };
            let unknown = unknown(rollout, &why, lease);
            let in_line = rollout.in_line().is_some();
            // Who may approve is not known any more either: operators are shut out.
            if in_line {
                rollout.approvals.clear();
            }
            // What was said of its gates may have been taken back since. In the watch it is what shuts them that was said.
            match &mut rollout.status {
                Status::Active { stage: Stage::Gated { at } }
                | Status::Paused { stage: Stage::Gated { at }, .. } => *at = AtGates::before(at.next),
                Status::Active { stage: Stage::Watching { at, .. } }
                | Status::Paused { stage: Stage::Watching { at, .. }, .. } => {
                    at.answers.retain(|_, said| said.verdict != GateVerdict::Open);
                    *at = AtGates { answers: std::mem::take(&mut at.answers), ..AtGates::in_the_watch() };
                }
                _ => {}
            }
            let told = pause(rollout, unknown, &why);
            // What stood in line waits as well, and is no answer to what was under way.
            if !in_line {
                paused.insert(rollout.place.clone(), told);
            }
        }
    }
    for record in records.iter_mut() {
        if let Record::Place(place) = record
            && let Some(release) = contracts.get(&place.place)
        {
            // Whatever was under way may have come to its end since.
            place.contract_begins(release, place.fence - AHEAD, backup_at);
        }
    }
    let places = records.iter().filter_map(|record| match record {
        Record::Place(place) => Some(RestoredPlace {
            place: place.place.clone(),
            in_force: place.in_force().map(|proven| proven.release.name.clone()),
            paused: paused.remove(&place.place),
        }),
        _ => None,
    });
    (places.collect(), highest)
}

/// Of each place the rollout that may have led requests away there.
fn leaders(records: &[Record]) -> BTreeMap<Place, RolloutId> {
    let places = records.iter().filter_map(|record| match record {
        Record::Place(place) => Some((place.place.clone(), place.newest_rollout()?.clone())),
        _ => None,
    });
    places.collect()
}

/// The member of each rollout that comes first: by batch, then by name.
fn first_hosts(records: &[Record]) -> BTreeMap<RolloutId, Member> {
    let mut first = BTreeMap::<RolloutId, Member>::new();
    for record in records {
        let Record::Member(member) = record else { continue };
        match first.get(&member.rollout) {
            Some(known) if (known.batch, &known.host) <= (member.batch, &member.host) => {}
            _ => drop(first.insert(member.rollout.clone(), (**member).clone())),
        }
    }
    first
}

/// The stage with its migration as one of unknown outcome, if it has one that may have run since the backup.
fn unknown(rollout: &Rollout, why: &str, lease: impl Fn(Direction) -> Option<Lease>) -> Option<Stage> {
    let run = |known: Option<&MigrationRun>, direction| {
        let (lease, reason, failure) = match known {
            Some(MigrationRun::Electing { doubt: Some(doubt), .. }) => {
                (doubt.lease.clone(), format!("{}; and {why}", doubt.reason), doubt.failure.clone())
            }
            None | Some(MigrationRun::Electing { .. }) => {
                let reason = "made before it was handed out; this host or another may have run it since";
                (lease(direction)?, format!("{why}, {reason}"), None)
            }
            Some(MigrationRun::Leased { lease }) => {
                let reason = "made while this host had the right to run it";
                (lease.clone(), format!("{why}, {reason}"), None)
            }
            Some(MigrationRun::Unknown { lease, reason, failure }) => {
                (lease.clone(), format!("{reason}; and {why}"), failure.clone())
            }
        };
        // No answer to it settles the matter any more: after it another host may have been asked.
        let lease = Lease { generation: Generation::default(), ..lease };
        Some(MigrationRun::Unknown { lease, reason, failure })
    };
    match (rollout.status.stage()?, &rollout.schema) {
        (Stage::Staging | Stage::Gated { .. }, Schema::Due { migration }) => {
            Some(Stage::Migrating { run: run(None, migration.direction)? })
        }
        (Stage::Migrating { run: known }, Schema::Due { migration }) => {
            Some(Stage::Migrating { run: run(Some(known), migration.direction)? })
        }
        (Stage::Contracting { run: known }, _) if rollout.contract_due().is_some() => {
            Some(Stage::Contracting { run: run(Some(known), Direction::Contract)? })
        }
        (Stage::RollingBack { reason, back: Back::Schema { migration, run: known } }, _) => {
            let run = run(Some(known), migration.direction)?;
            let back = Back::Schema { migration: migration.clone(), run };
            Some(Stage::RollingBack { reason: reason.clone(), back })
        }
        _ => None,
    }
}

fn pause(rollout: &mut Rollout, unknown: Option<Stage>, why: &str) -> PausedRollout {
    let mut reason = format!("{why}, and may have gone on since that was made");
    // Whoever had paused it has paused it still: what lifts the controller's own pauses is no word against a person's.
    let mut paused_by = Actor::Controller;
    if let Status::Paused { reason: before, by, .. } = &rollout.status {
        reason = format!("{reason}; before, {by} had paused it: {before}");
        paused_by = by.clone();
    }
    if let Some(stage) = unknown.or_else(|| rollout.status.stage().cloned()) {
        rollout.status = Status::Paused { stage, reason: reason.clone(), by: paused_by };
    }
    let migration = rollout.status.stage().and_then(Stage::migration);
    PausedRollout {
        id: rollout.id.clone(),
        release: rollout.release.name.clone(),
        reason,
        migration_unknown: matches!(migration, Some(MigrationRun::Unknown { .. })),
    }
}
