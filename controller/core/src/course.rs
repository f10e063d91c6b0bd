//! Which way a rollback would go now, or why it is refused. Whoever asks for one and whoever only wants to know both
//! ask here, so that nobody is promised what is refused a moment later.

use landfall_common::assignment::Direction;
use landfall_common::{ReleaseName, Timestamp};

use crate::line::Hindrance;
use crate::preview::{self, Plan};
use crate::record::{Place, PlaceRecord};
use crate::refusal::Refusal;
use crate::rollout::{MigrationRun, Rollout, Stage};
use crate::state::State;
use crate::turn::{self, NoReturn};

/// What going back does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Course<'s> {
    /// A rollout of its own begins.
    Begins(Box<Plan>),
    /// The rollout under way turns.
    Turns {
        /// Which.
        rollout: &'s Rollout,
        /// The stage that it enters.
        stage: Box<Stage>,
    },
    /// The rollout under way goes back already; if it was paused, it goes on.
    GoesBack(&'s Rollout),
}

/// The way back in a place; `to` is what the rollout under way came from, or else the last release that was proven
/// on every host, if not given. `reason` is that of whoever asks.
///
/// # Errors
/// What is refused now, and why.
pub(crate) fn of<'s>(
    state: &'s State,
    place: &Place,
    to: Option<&ReleaseName>,
    reason: &str,
    now: Timestamp,
) -> Result<Course<'s>, Refusal> {
    let record = state.place(place);
    let holder = record.and_then(|record| Some((record, state.rollout(record.holder.as_ref()?)?)));
    if let Some((record, holder)) = holder {
        let previous = holder.previous.as_ref().map(|previous| &previous.name);
        if to.is_some() && to != previous {
            return Err(Hindrance::Held(holder).refusal(record));
        }
        return of_rollout(state, holder, record, reason, now);
    }
    let plan = preview::preview_rollback(state, place, to, now)?;
    if let Some((record, lock)) = record.and_then(|record| Some((record, state.lock(record, now)?))) {
        return Err(Hindrance::Locked(lock).refusal(record));
    }
    Ok(Course::Begins(Box::new(plan)))
}

/// The way back of a rollout that has not ended and does not stand in line.
///
/// # Errors
/// What is refused now, and why.
pub(crate) fn of_rollout<'s>(
    state: &State,
    rollout: &'s Rollout,
    place: &PlaceRecord,
    reason: &str,
    now: Timestamp,
) -> Result<Course<'s>, Refusal> {
    if matches!(rollout.status.stage(), Some(Stage::RollingBack { .. })) {
        return Ok(Course::GoesBack(rollout));
    }
    no_open_migration(state, rollout, now)?;
    let stage = turn::way_back(state, rollout, place, reason).map_err(|why| no_return(rollout, why))?;
    Ok(Course::Turns { rollout, stage: Box::new(stage) })
}

fn no_return(rollout: &Rollout, why: NoReturn) -> Refusal {
    let wrong =
        |reason| Refusal::WrongStatus { rollout: rollout.id.clone(), status: rollout.status.word(), reason };
    match why {
        NoReturn::IsRollback => wrong("it is itself the way back; resume or abort it"),
        NoReturn::IsRestart => wrong(
            "the same release runs before and after a restart, so that there is nothing to go back to; `ctl abort` \
             leaves the others as they are",
        ),
        NoReturn::NothingBefore => Refusal::NothingBefore {
            reason: format!("no other release was in force for {} before", rollout.place),
        },
        NoReturn::Schema { reason, needed } => {
            let release = rollout.previous.as_ref().unwrap_or(&rollout.release).name.clone();
            Refusal::Irreversible { release, reason, needed }
        }
    }
}

/// A second migration must not begin beside one that may still run, and code must not go back before it is known
/// which schema it would meet.
pub(crate) fn no_open_migration(state: &State, rollout: &Rollout, now: Timestamp) -> Result<(), Refusal> {
    let stage = rollout.status.stage();
    let in_doubt = stage.and_then(Stage::migration).and_then(MigrationRun::in_doubt);
    let Some(lease) = in_doubt.or(stage.and_then(Stage::open_lease)) else { return Ok(()) };
    let (rollout, host) = (rollout.id.clone(), lease.host.clone());
    let direction = match lease.direction {
        Direction::Up => "migration",
        Direction::Down => "way back of the migration",
        Direction::Contract => "contract",
    };
    if in_doubt.is_some() {
        return Err(Refusal::MigrationUnknown { rollout, host, direction });
    }
    Err(Refusal::MigrationOpen { rollout, host, until: state.over_at(lease, now), direction })
}
