//! A drill: the canary takes another release, is proven, and goes back to the one in force, which is proven again. It
//! changes no database and brings nothing to the fleet.

use crate::log::LogEvent;
use crate::member::MemberState;
use crate::refusal::seconds;
use crate::rollout::{Back, End, Stage};
use crate::turn;

use super::Turn;
use super::run;
use super::table::Table;

/// What else somebody may do where a drill does not turn back by itself.
const AGAIN: &str = "`ctl retry` tries again";

/// Turns back once the canary is proven with the other release.
pub(super) fn turn(table: &mut Table<'_>) -> Turn {
    let look = run::look(table, 1, table.rollout().strategy.min_healthy);
    if !look.settled {
        if table.stalled() {
            let why = look.waits.first().map_or_else(String::new, |wait| format!(": {wait}"));
            let idle = seconds(table.idle_for());
            return run::turn_back(table, format!("nothing got on for {idle}{why}"), AGAIN);
        }
        run::report(table, look.waits);
        return Turn::None;
    }
    if look.proven == 0 {
        return run::turn_back(table, "it was proven on no host".to_owned(), AGAIN);
    }
    let rollout = table.rollout();
    let reason = "this is a drill".to_owned();
    match turn::way_back(table.state, rollout, &table.place, &reason) {
        Ok(stage @ Stage::RollingBack { back: Back::Hosts, .. }) => {
            let (id, to, now, there) =
                (rollout.id.clone(), rollout.previous.clone(), table.now, table.held_for());
            let rollout = table.rollout_mut();
            rollout.there = Some(there);
            rollout.enter(stage, now);
            if let Some(to) = to {
                table.log(LogEvent::RollbackStarted { rollout: id, to, reason });
            }
            Turn::Taken
        }
        // Nothing has moved the schema since it was looked at.
        Ok(_) | Err(_) => {
            table.pause("the way back is not open any more; `ctl rollback` says why".to_owned())
        }
    }
}

/// How a drill ends whose hosts are all back: well, if none of them failed on the way there.
pub(super) fn rehearsed(table: &mut Table<'_>) -> Option<End> {
    let rollout = table.rollout();
    let (there, back_to) = (rollout.there?, rollout.previous.clone()?);
    if table.first_failure().is_some() {
        return None;
    }
    let back = table.held_for();
    let hosts =
        table.members().filter(|(_, member)| matches!(member.state, MemberState::Returned { .. })).count();
    let rollout = table.rollout();
    let event = LogEvent::DrillFinished {
        rollout: rollout.id.clone(),
        application: rollout.place.application.clone(),
        environment: rollout.place.environment.clone(),
        release: rollout.release.clone(),
        back_to,
        hosts: hosts as u64,
        there,
        back,
    };
    table.log(event);
    Some(End::Rehearsed { there, back })
}
