//! After the last batch: what is wrong with a release may show only under load, or after a while. For as long as the
//! environment asks, the questions to the hosts and to the gates that others hold go on; what fails counts against the
//! budget that it counted against before, and more than that goes back, as does what a gate says no to.

use landfall_common::Duration;

use crate::gate::AtGates;
use crate::groups::Side;
use crate::log::LogEvent;
use crate::member::MemberState;
use crate::reason::{Doing, Wait};
use crate::rollout::{Rollout, Stage};

use super::Turn;
use super::blue_green;
use super::evidence;
use super::gates;
use super::limits;
use super::run;
use super::table::Table;

/// Whether the release is to be watched now that it has been brought everywhere.
pub(super) fn is_due(rollout: &Rollout) -> bool {
    let stage = rollout.status.stage();
    !rollout.strategy.watch.is_zero() && matches!(stage, Some(Stage::Running { .. } | Stage::Switching))
}

/// Every host that can be heard of runs the release, or has failed within the budget.
pub(super) fn begin(table: &mut Table<'_>) -> Turn {
    let now = table.now;
    let rollout = table.rollout_mut();
    rollout.enter(Stage::Watching { accepted: false, at: AtGates::in_the_watch() }, now);
    let event = LogEvent::WatchStarted { rollout: rollout.id.clone(), period: rollout.strategy.watch };
    table.log(event);
    Turn::Taken
}

/// Goes on asking until the watch is over, or somebody has seen enough. Hosts that come late still take the release.
pub(super) fn advance(table: &mut Table<'_>, accepted: bool, at: &AtGates) -> Turn {
    let held = gates::in_watch(table, at).and_then(|open| Ok(limits::hold(table, accepted)? && open));
    let may_end = match held {
        Ok(may_end) => may_end,
        Err(turn) => return turn,
    };
    let first_of_two = table.rollout().groups.is_some();
    let last = if first_of_two { 1 } else { table.rollout().batches };
    if let Err(turn) = run::begin(table, last) {
        return turn;
    }
    if first_of_two && table.members().all(|(_, member)| member.batch > last) {
        return blue_green::gone(table);
    }
    let seen = seen_for(table);
    // Healthy without requests is no watch, and by their own clocks hosts do not tell that apart.
    let told = !first_of_two && told(table);
    let is_over = may_end && (accepted || seen >= table.rollout().strategy.watch || told);
    if is_over && !first_of_two {
        return run::finish(table);
    }
    if is_over {
        let look = run::look(table, last, table.rollout().strategy.min_healthy);
        if look.settled && look.proven > 0 {
            return run::open(table, last + 1);
        }
        if table.stalled() {
            return run::stalled(table, &look.waits);
        }
        run::report(table, look.waits);
    }
    let rollout = table.rollout();
    let (min_healthy, id, watch) = (rollout.strategy.min_healthy, rollout.id.clone(), rollout.strategy.watch);
    let ailing = table.members().filter_map(|(seat, member)| {
        let MemberState::Committed { generation } = member.state else { return None };
        let missing = evidence::missing(table, seat, &rollout.release, generation, min_healthy);
        let why = missing?;
        Some(Wait::Host { what: Doing::Watch, host: member.host.clone(), why })
    });
    let ailing: Vec<Wait> = ailing.collect();
    let group = rollout.groups.as_ref().map(|groups| groups.name(Side::First));
    let way_out = table.way_out();
    table.wait(Wait::Watch { rollout: id, period: seen, of: watch, group, way_out });
    if !accepted {
        limits::report(table);
    }
    ailing.into_iter().for_each(|wait| table.wait(wait));
    Turn::None
}

/// For how long this controller has watched without a break. Neither the time that it was away counts, nor what a
/// clock says that leapt.
pub(super) fn seen_for(table: &Table<'_>) -> Duration {
    table.held_for().min(table.now.since(table.state.started_at))
}

/// Whether the hosts say, by their own clocks, that they have been healthy for the whole of the watch: a controller
/// that was away meanwhile has missed nothing.
fn told(table: &Table<'_>) -> bool {
    let rollout = table.rollout();
    let healthy = rollout.strategy.watch.max(rollout.strategy.min_healthy);
    table.members().all(|(seat, member)| match member.state {
        MemberState::Committed { generation } => {
            evidence::missing(table, seat, &rollout.release, generation, healthy).is_none()
        }
        MemberState::Failed { .. } => true,
        _ => false,
    })
}
