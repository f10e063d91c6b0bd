//! The canary: it is held for as long as its evidence is asked to hold, and until somebody promotes it where that
//! is asked, and compared with those on the release before. Meanwhile nothing beyond it changes, what fails goes back, and no deadline runs against a person.

use landfall_common::time::human;

use crate::groups::Side;
use crate::reason::Wait;
use crate::refusal::seconds;
use crate::rollout::{Promotion, Stage};

use super::Turn;
use super::blue_green;
use super::compare::{self, Compared};
use super::gates;
use super::run;
use super::table::Table;

/// The canary is proven: from here on it is held.
pub(super) fn hold(table: &mut Table<'_>) -> Turn {
    let by_itself = table.rollout().strategy.auto_promote;
    let promotion = if by_itself { Promotion::ByItself } else { Promotion::Awaited };
    let now = table.now;
    table.rollout_mut().enter(Stage::Canary { promotion }, now);
    Turn::Taken
}

/// Nobody is left in it: whether the others follow, without its evidence, is for a person to say.
pub(super) fn gone(table: &mut Table<'_>) -> Turn {
    if table.rollout().groups.is_some() {
        return blue_green::gone(table);
    }
    let now = table.now;
    table.rollout_mut().enter(Stage::Canary { promotion: Promotion::Awaited }, now);
    Turn::Taken
}

/// Lets the next batch begin once the canary has been healthy for long enough and somebody has promoted it, if
/// that is asked for.
pub(super) fn advance(table: &mut Table<'_>, promotion: Promotion) -> Turn {
    if let Err(turn) = run::begin(table, 1) {
        return turn;
    }
    let compared = Compared::of(table, promotion);
    if compared == Compared::Failed {
        return compare::failed(table);
    }
    let rollout = table.rollout();
    let strategy = &rollout.strategy;
    let (hold, patience) = (strategy.canary_hold, strategy.canary_hold + strategy.progress_deadline);
    // The host says how long it has been healthy without a break, by its own clock: a controller that was away
    // meanwhile has missed nothing.
    let look = run::look(table, 1, strategy.min_healthy.max(hold));
    let kept = look.settled && look.proven > 0;
    let may_go = match promotion {
        Promotion::ByItself => compared.lets_go(),
        Promotion::Awaited => false,
        Promotion::Given | Promotion::Overruled => true,
    };
    if may_go && kept {
        compare::log(table);
        return gates::before(table, 2, false);
    }
    // With its hosts the canary's evidence is gone for good. Whoever promoted it before has not said that none is needed.
    if look.empty && (promotion != Promotion::Awaited || table.rollout().groups.is_some()) {
        return gone(table);
    }
    let held_for = table.seen_for();
    let deadline = table.rollout().strategy.analysis.as_ref().map(|analysis| analysis.deadline);
    if promotion == Promotion::ByItself
        && !compared.lets_go()
        && deadline.is_some_and(|most| held_for >= most)
    {
        return compare::too_late(table);
    }
    if promotion != Promotion::Awaited && !kept && held_for >= patience {
        let of = human::format(hold.max(table.rollout().strategy.min_healthy));
        let why = look.waits.first().map_or_else(String::new, ToString::to_string);
        return table.pause(format!(
            "the canary has been held for {}, and was never healthy for {of} at a stretch: {why}. `ctl resume` waits on, \
             {}",
            seconds(held_for),
            table.way_out()
        ));
    }
    let rollout = table.rollout();
    table.wait(Wait::Canary {
        rollout: rollout.id.clone(),
        promotion,
        hold: rollout.strategy.canary_hold,
        kept,
        analysis: !compared.lets_go(),
        gone: look.empty,
        way_out: table.way_out(),
        group: rollout.groups.as_ref().map(|groups| groups.name(Side::First)),
        next: 2,
        of: rollout.batches,
    });
    compare::report(table);
    run::report(table, look.waits);
    Turn::None
}
