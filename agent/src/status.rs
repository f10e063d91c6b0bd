//! `landfall-agent status`: what the ledger says, for whoever sits at the host, also while the agent is down.

use std::fmt::Write as _;

use landfall_agent_core::Record;
use landfall_agent_core::placement::{Placement, Target};
use landfall_common::ReleaseName;
use landfall_common::assignment::Order;
use landfall_common::report::{Failure, OutcomeKind};

use crate::engine::state_name;

/// A few lines for a person; `current` is what the link of that name names.
#[must_use]
pub fn text(record: &Record, current: Option<&ReleaseName>) -> String {
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
                let proven = match record.is_proven(&active.release.name) {
                    _ if record.in_doubt => "left in place though it failed",
                    true => "proven",
                    false => "not proven",
                };
                format!("{} ({}, {proven})", active.release.name, active.release.digest.short())
            }
            None => "nothing".to_owned(),
        },
    );
    if current != record.active.as_ref() {
        let named = current.map_or("no release", ReleaseName::as_str);
        line("", format!("but `current` names {named}"));
    }
    if let Some(mixed) = &record.mixed {
        line("", format!("but services may run another release: {}", mixed.reason));
    }
    placement(&record.placement, &mut line);
    line("state", state_name(&record.state).to_owned());
    let generation =
        record.accepted.map_or_else(|| "none".to_owned(), |accepted| accepted.generation.to_string());
    line("generation", generation);
    if let Some(queued) = &record.queued {
        let release = &queued.release.name;
        line("queued", format!("generation {}: {} {release}", queued.generation, verb(&queued.order)));
    }
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

/// What runs in which slot, and where requests go.
fn placement(placement: &Placement, line: &mut impl FnMut(&str, String)) {
    for (slot, release) in &placement.slots {
        line("slot", format!("{}: {release}", slot.as_str()));
    }
    if let Some(aim) = &placement.aim {
        line("requests", format!("go {}", whither(&aim.to)));
    }
    if let Some(trying) = &placement.trying {
        line("", format!("are being led {}", whither(&trying.to)));
    }
}

fn whither(target: &Target) -> String {
    match target {
        Target::Slot { slot, release } => format!("to slot {}, {release}", slot.as_str()),
        Target::Plain { release } => format!("to {release}, in no slot"),
        Target::Open => "to this host".to_owned(),
        Target::Nowhere => "elsewhere: this host is taken out".to_owned(),
    }
}

fn verb(order: &Order) -> &'static str {
    match order {
        Order::Stage => "stage",
        Order::Migrate { .. } => "migrate",
        Order::Activate { .. } => "activate",
        Order::Restart { kind, .. } => kind.as_str(),
        Order::Drain { away: true } => "drain",
        Order::Drain { away: false } => "undrain",
    }
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
    use landfall_agent_core::{Aim, Identity, Installed};
    use landfall_common::assignment::{Assignment, ReleaseRef};
    use landfall_common::manifest::traffic::Slot;
    use landfall_common::{Generation, ReleaseCounter, Sha256, Timestamp};

    fn reference(name: &str) -> ReleaseRef {
        ReleaseRef {
            name: name.parse().unwrap(),
            counter: ReleaseCounter(1),
            digest: Sha256::of(name.as_bytes()),
            length: 2,
        }
    }

    #[test]
    fn what_is_not_as_it_should_be_is_shown() {
        let mut record = Record::new(Identity {
            host: "web-1".parse().unwrap(),
            application: "shop".parse().unwrap(),
            environment: "production".parse().unwrap(),
        });
        let v1 = Installed { release: reference("v1"), outline: Default::default() };
        record.active = Some(v1.release.name.clone());
        record.proven = vec![v1.release.name.clone()];
        record.installed.insert(v1.release.name.clone(), v1);
        record.in_doubt = true;
        record.mixed = Some(Failure::new("web".parse().unwrap(), "step restart exited with code 1"));
        record.queued = Some(Assignment {
            host: record.identity.host.clone(),
            application: record.identity.application.clone(),
            environment: record.identity.environment.clone(),
            generation: Generation(9),
            issued_at: Timestamp::default(),
            expires_at: Timestamp::default(),
            rollout: "r1".parse().unwrap(),
            release: reference("v3"),
            order: Order::Stage,
        });
        let (green, v2) = (Slot::Green, "v2".parse::<ReleaseName>().unwrap());
        let to = |slot, release: &str| Target::Slot { slot, release: release.parse().unwrap() };
        record.placement.slots = [(Slot::Blue, "v1".parse().unwrap()), (green, v2.clone())].into();
        record.placement.aim = Some(Aim { by: v2.clone(), to: to(Slot::Blue, "v1") });
        record.placement.trying = Some(Aim { by: v2.clone(), to: to(green, "v2") });
        insta::assert_snapshot!(text(&record, Some(&v2)), @r"
        host         web-1
        application  shop in production
        active       v1 (3bfc269594ef, left in place though it failed)
                     but `current` names v2
                     but services may run another release: step restart exited with code 1
        slot         blue: v1
        slot         green: v2
        requests     go to slot blue, v1
                     are being led to slot green, v2
        state        idle
        generation   none
        queued       generation 9: stage v3
        on disk      v1
        ");
    }

    #[test]
    fn a_new_host_says_that_nothing_is_active() {
        let record = Record::new(Identity {
            host: "web-1".parse().unwrap(),
            application: "shop".parse().unwrap(),
            environment: "production".parse().unwrap(),
        });
        insta::assert_snapshot!(text(&record, None), @r"
        host         web-1
        application  shop in production
        active       nothing
        state        idle
        generation   none
        on disk      no release
        ");
    }
}
