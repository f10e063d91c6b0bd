//! What follows from the figures of a release that is watched, where limits are given.

use landfall_common::time::human;

use crate::analysis::Verdict;
use crate::comparison::Comparison;
use crate::log::{AnalysisVerdict, LogEvent};
use crate::reason::Wait;
use crate::refusal::seconds;
use crate::rollout::Rollout;

use super::Turn;
use super::look::Deadline;
use super::run;
use super::table::Table;

/// Whether the watch may end as far as the limits are concerned; what is beyond them goes back. Somebody who has seen
/// enough has seen this as well.
pub(super) fn hold(table: &mut Table<'_>, accepted: bool) -> Result<bool, Turn> {
    let rollout = table.rollout();
    let Some(limits) = rollout.strategy.limits.as_ref().filter(|_| !accepted) else { return Ok(true) };
    let comparison = table.state.comparison(&rollout.id);
    match comparison.map(Comparison::verdict) {
        Some(Verdict::Pass) => return Ok(true),
        Some(Verdict::Fail) => {
            let found = comparison.map(|comparison| comparison.report().to_string()).unwrap_or_default();
            log(table);
            let name = &table.rollout().release.name;
            let reason = format!("{name} is beyond its limits: {found}");
            return Err(run::turn_back(table, reason, "`ctl promote` ends the watch"));
        }
        Some(Verdict::Inconclusive) | None => {}
    }
    let patience = limits.deadline.max(rollout.strategy.watch);
    let seen = table.seen_for();
    if seen >= patience {
        let why = match comparison.filter(|comparison| comparison.windows() > 0) {
            None => "no host has sent figures".to_owned(),
            Some(comparison) => {
                let (windows, length) = (comparison.windows(), human::format(comparison.length()));
                let count = if windows == 1 { "window" } else { "windows" };
                format!("{windows} {count} of {length}; {}", comparison.report())
            }
        };
        log(table);
        return Err(table.pause(format!(
            "the watch could not tell in {} whether {} keeps within its limits: {why}. `ctl resume` watches on, `ctl promote` ends \
             the watch, `ctl rollback` goes back",
            seconds(seen),
            table.rollout().release.name
        )));
    }
    Ok(false)
}

/// When it pauses since nothing can be told.
pub(super) fn deadline(table: &Table<'_>, rollout: &Rollout) -> Option<Deadline> {
    let limits = rollout.strategy.limits.as_ref()?;
    let kept = |comparison: &Comparison| comparison.verdict() == Verdict::Pass;
    if table.state.comparison(&rollout.id).is_some_and(kept) {
        return None;
    }
    let left = limits.deadline.max(rollout.strategy.watch).saturating_sub(table.seen_for());
    let then = "it pauses, unless it is known by then whether the release keeps within its limits".to_owned();
    Some(Deadline { name: "limits.deadline", host: None, at: table.now + left, then })
}

/// Tells how they stand.
pub(super) fn report(table: &mut Table<'_>) {
    let rollout = table.rollout();
    let Some(limits) = &rollout.strategy.limits else { return };
    let comparison = table.state.comparison(&rollout.id);
    let report = comparison.map(Comparison::report);
    let wait = Wait::Limits {
        kept: comparison.is_some_and(|comparison| comparison.verdict() == Verdict::Pass),
        windows: comparison.map_or(0, Comparison::windows),
        window: limits.window,
        findings: report.into_iter().flat_map(|report| report.reasons().map(ToString::to_string)).collect(),
        anew: comparison.is_some_and(|comparison| !comparison.is_whole()),
    };
    table.wait(wait);
}

/// Writes down what was found, where something follows from it.
fn log(table: &mut Table<'_>) {
    let rollout = table.rollout();
    let Some(limits) = &rollout.strategy.limits else { return };
    let comparison = table.state.comparison(&rollout.id);
    let report = comparison.map(Comparison::report);
    let event = LogEvent::CanaryAnalysed {
        rollout: rollout.id.clone(),
        verdict: comparison.map_or(AnalysisVerdict::Inconclusive, |comparison| comparison.verdict().into()),
        windows: comparison.map_or(0, Comparison::windows).into(),
        window_ms: u64::try_from(limits.window.as_millis()).unwrap_or(u64::MAX),
        findings: report.into_iter().flat_map(|report| report.reasons().map(ToString::to_string)).collect(),
        in_watch: true,
    };
    table.log(event);
}
