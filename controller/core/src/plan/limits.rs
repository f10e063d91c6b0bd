//! What follows from the figures of a release that is watched, where limits are given.

use landfall_common::Duration;
use landfall_common::strategy::Limits;
use landfall_common::time::human;

use crate::analysis::Verdict;
use crate::comparison::Comparison;
use crate::reason::Wait;
use crate::refusal::seconds;
use crate::rollout::Rollout;
use crate::state::State;

use super::Turn;
use super::compare;
use super::look::Deadline;
use super::run;
use super::table::Table;

/// What is known of what is watched: in the decision in which that begins there is still what its canary has shown.
fn found<'s>(state: &'s State, rollout: &Rollout) -> Option<&'s Comparison> {
    state.comparison(&rollout.id).filter(|comparison| comparison.is_of_the_watch())
}

/// Whether the watch may end as far as the limits are concerned; what is beyond them goes back. Somebody who has seen
/// enough has seen this as well.
pub(super) fn hold(table: &mut Table<'_>, accepted: bool) -> Result<bool, Turn> {
    let rollout = table.rollout();
    let Some(limits) = rollout.strategy.limits.as_ref().filter(|_| !accepted) else { return Ok(true) };
    let comparison = found(table.state, rollout);
    match comparison.map(Comparison::verdict) {
        Some(Verdict::Pass) => {
            let since = comparison.and_then(Comparison::passes_since).unwrap_or_default();
            table.held_until = table.held_until.max(since);
            return Ok(true);
        }
        Some(Verdict::Fail) => {
            let found = comparison.map(|comparison| comparison.report().to_string()).unwrap_or_default();
            log(table);
            let name = &table.rollout().release.name;
            let reason = format!("{name} is beyond its limits: {found}");
            return Err(run::turn_back(table, reason, "`ctl promote` ends the watch"));
        }
        Some(Verdict::Inconclusive) | None => {}
    }
    let seen = table.seen_for();
    if left(table, limits).is_zero() {
        let why = match comparison.filter(|comparison| comparison.windows() > 0) {
            None => "no host has sent figures".to_owned(),
            Some(comparison) => {
                let (windows, length) = (comparison.windows(), human::format(comparison.length()));
                let count = if windows == 1 { "window" } else { "windows" };
                format!("{windows} {count} of {length}; {}", comparison.report())
            }
        };
        log(table);
        let (name, way_out) = (&table.rollout().release.name, table.way_out());
        return Err(table.pause(format!(
            "the watch could not tell in {} whether {name} keeps within its limits: {why}. `ctl resume` watches on, `ctl \
             promote` ends the watch, {way_out}",
            seconds(seen),
        )));
    }
    Ok(false)
}

/// How long nothing may be known yet: the deadline runs from when the watch could be over, and from when it was known last.
fn left(table: &Table<'_>, limits: &Limits) -> Duration {
    let rollout = table.rollout();
    let over_for = table.seen_for().saturating_sub(rollout.strategy.watch);
    let passed_at = found(table.state, rollout).and_then(Comparison::passed_at);
    let unknown_for = passed_at.map_or(over_for, |at| over_for.min(table.now.since(at)));
    limits.deadline.saturating_sub(unknown_for)
}

/// When it pauses since nothing can be told.
pub(super) fn deadline(table: &Table<'_>, rollout: &Rollout) -> Option<Deadline> {
    let limits = rollout.strategy.limits.as_ref()?;
    let kept = |comparison: &Comparison| comparison.verdict() == Verdict::Pass;
    if found(table.state, rollout).is_some_and(kept) {
        return None;
    }
    let left = left(table, limits);
    let then = "it pauses, unless it is known by then whether the release keeps within its limits".to_owned();
    Some(Deadline { name: "limits.deadline", host: None, at: table.now + left, then })
}

/// Tells how they stand.
pub(super) fn report(table: &mut Table<'_>) {
    let rollout = table.rollout();
    let Some(limits) = &rollout.strategy.limits else { return };
    let comparison = found(table.state, rollout);
    let wait = Wait::Limits {
        kept: comparison.is_some_and(|comparison| comparison.verdict() == Verdict::Pass),
        windows: comparison.map_or(0, Comparison::windows),
        window: limits.window,
        findings: compare::findings(comparison),
        anew: comparison.is_some_and(|comparison| !comparison.is_whole()),
    };
    table.wait(wait);
}

/// Writes down what was found, where something follows from it.
fn log(table: &mut Table<'_>) {
    let rollout = table.rollout();
    let Some(limits) = &rollout.strategy.limits else { return };
    let event = compare::analysed(rollout, found(table.state, rollout), limits.window, true);
    table.log(event);
}
