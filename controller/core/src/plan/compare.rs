//! What follows from the comparison of a held canary with the hosts on the release before.

use landfall_common::Duration;
use landfall_common::time::human;

use crate::analysis::Verdict;
use crate::comparison::Comparison;
use crate::log::{AnalysisVerdict, LogEvent};
use crate::reason::Wait;
use crate::refusal::seconds;
use crate::rollout::{Promotion, Rollout};

use super::Turn;
use super::run;
use super::table::Table;

/// How the comparison of a rollout's canary stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compared {
    /// None is asked for, or there is nothing before it to compare with.
    NotAsked,
    /// It is no worse.
    Passed,
    /// It is worse, and nobody has overruled that.
    Failed,
    /// It cannot be told yet, or somebody has said that it does not matter.
    Open,
}

impl Compared {
    pub fn of(table: &Table<'_>, promotion: Promotion) -> Self {
        let rollout = table.rollout();
        if rollout.compares().is_none() {
            return Self::NotAsked;
        }
        match table.state.comparison(&rollout.id).map(Comparison::verdict) {
            Some(Verdict::Pass) => Self::Passed,
            Some(Verdict::Fail) if promotion != Promotion::Overruled => Self::Failed,
            _ => Self::Open,
        }
    }

    /// Whether it lets a canary go on by itself.
    pub fn lets_go(self) -> bool {
        matches!(self, Self::NotAsked | Self::Passed)
    }
}

/// The canary is worse: the release goes back, if that is wanted and possible.
pub(super) fn failed(table: &mut Table<'_>) -> Turn {
    log(table);
    let before = before(table);
    let found = table.state.comparison(&table.rollout().id).map(|comparison| comparison.report().to_string());
    let reason = format!("the canary is worse than the hosts on {before}: {}", found.unwrap_or_default());
    run::turn_back(table, reason, "`ctl promote` overrules the analysis")
}

/// Nobody could tell in time: whether that is good enough is for somebody to say.
pub(super) fn too_late(table: &mut Table<'_>) -> Turn {
    log(table);
    let rollout = table.rollout();
    let (before, held_for) = (before(table), seconds(table.seen_for()));
    let why = match table.state.comparison(&rollout.id) {
        Some(comparison) if comparison.report().findings.is_empty() => {
            format!("{} has no check in common with {before}", rollout.release.name)
        }
        Some(comparison) if comparison.windows() == 0 => "no host has sent figures".to_owned(),
        None => "no host has sent figures".to_owned(),
        Some(comparison) => format!("{}; {}", windows(comparison), comparison.report()),
    };
    let way_out = table.way_out();
    table.pause(format!(
        "the analysis of the canary could not tell in {held_for} whether it is worse than the hosts on {before}: {why}. \
         `ctl resume` waits on, `ctl promote` overrules the analysis, {way_out}"
    ))
}

/// Tells how it stands.
pub(super) fn report(table: &mut Table<'_>) {
    let rollout = table.rollout();
    let Some((asked, _)) = rollout.compares() else { return };
    let comparison = table.state.comparison(&rollout.id);
    let wait = Wait::Analysis {
        passed: comparison.is_some_and(|comparison| comparison.verdict() == Verdict::Pass),
        windows: comparison.map_or(0, Comparison::windows),
        window: asked.window,
        before: before(table),
        findings: findings(comparison),
        anew: comparison.is_none_or(|comparison| !comparison.is_whole()),
    };
    table.wait(wait);
}

/// Writes down what was found, where something follows from it.
pub(super) fn log(table: &mut Table<'_>) {
    let rollout = table.rollout();
    let Some((asked, _)) = rollout.compares() else { return };
    let event = analysed(rollout, table.state.comparison(&rollout.id), asked.window, false);
    table.log(event);
}

/// What the log has of a comparison.
pub(super) fn analysed(
    rollout: &Rollout,
    comparison: Option<&Comparison>,
    window: Duration,
    in_watch: bool,
) -> LogEvent {
    LogEvent::CanaryAnalysed {
        rollout: rollout.id.clone(),
        verdict: comparison.map_or(AnalysisVerdict::Inconclusive, |comparison| comparison.verdict().into()),
        windows: comparison.map_or(0, Comparison::windows).into(),
        window_ms: u64::try_from(window.as_millis()).unwrap_or(u64::MAX),
        findings: findings(comparison),
        in_watch,
    }
}

/// Of each metric that the verdict stands on, a sentence.
pub(super) fn findings(comparison: Option<&Comparison>) -> Vec<String> {
    let report = comparison.map(Comparison::report);
    report.into_iter().flat_map(|report| report.reasons().map(ToString::to_string)).collect()
}

fn windows(comparison: &Comparison) -> String {
    let length = human::format(comparison.length());
    match comparison.windows() {
        1 => format!("1 window of {length}"),
        windows => format!("{windows} windows of {length}"),
    }
}

fn before(table: &Table<'_>) -> landfall_common::ReleaseName {
    let rollout = table.rollout();
    rollout.previous.as_ref().unwrap_or(&rollout.release).name.clone()
}
