//! `landfall-agent status`: what the ledger says, for whoever sits at the host, also while the agent is down.

use std::fmt::Write as _;

use landfall_agent_core::Record;
use landfall_common::report::{Failure, OutcomeKind};

use crate::engine::state_name;

/// A few lines for a person.
#[must_use]
pub fn text(record: &Record) -> String {
    let identity = &record.identity;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<12} {value}");
    };
    line("host", identity.host.to_string());
    line("application", format!("{} in {}", identity.application, identity.environment));
    line(
        "active",
        match record.active() {
            Some(active) => {
                let proven = if record.is_proven(&active.release.name) { "proven" } else { "not proven" };
                format!("{} ({}, {proven})", active.release.name, active.release.digest.short())
            }
            None => "nothing".to_owned(),
        },
    );
    line("state", state_name(&record.state).to_owned());
    let generation =
        record.accepted.map_or_else(|| "none".to_owned(), |accepted| accepted.generation.to_string());
    line("generation", generation);
    let on_disk: Vec<_> = record.installed.keys().map(ToString::to_string).collect();
    line("on disk", if on_disk.is_empty() { "no release".to_owned() } else { on_disk.join(", ") });
    if let Some(outcome) = &record.outcome {
        let (kind, failure) = outcome_text(&outcome.result);
        line("last", format!("generation {}: {kind}", outcome.generation));
        for failure in failure {
            line("", failure.reason.clone());
            for tail in &failure.tail {
                line("", format!("| {tail}"));
            }
        }
    }
    text
}

fn outcome_text(outcome: &OutcomeKind) -> (&'static str, Vec<&Failure>) {
    match outcome {
        OutcomeKind::Staged => ("staged", vec![]),
        OutcomeKind::StageFailed { failure } => ("staging failed", vec![failure]),
        OutcomeKind::Migrated => ("migrated", vec![]),
        OutcomeKind::MigrationFailed { failure } => ("the migration failed", vec![failure]),
        OutcomeKind::MigrationUnknown { failure } => {
            ("nobody knows how the migration ended; see `ctl migration resolve`", vec![failure])
        }
        OutcomeKind::Committed => ("committed", vec![]),
        OutcomeKind::Reverted { failure } => ("went back to the release before", vec![failure]),
        OutcomeKind::Held { failure } => ("failed, and was left in place", vec![failure]),
        OutcomeKind::UndoFailed { failure, undo } => ("failed, and so did going back", vec![failure, undo]),
        OutcomeKind::Refused { failure } => ("refused", vec![failure]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_agent_core::Identity;

    #[test]
    fn a_new_host_says_that_nothing_is_active() {
        let record = Record::new(Identity {
            host: "web-1".parse().unwrap(),
            application: "shop".parse().unwrap(),
            environment: "production".parse().unwrap(),
        });
        insta::assert_snapshot!(text(&record), @r"
        host         web-1
        application  shop in production
        active       nothing
        state        idle
        generation   none
        on disk      no release
        ");
    }
}
