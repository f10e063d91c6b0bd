//! How long a rollout may take to bring its release to the hosts, where somebody has said that: one that gets on a little
//! again and again never ends otherwise.

use landfall_common::Timestamp;
use landfall_common::time::human;

use crate::rollout::{MigrationRun, Rollout, RolloutKind, Stage, Status};

use super::table::Table;

/// Pauses a rollout that has taken too long. What a host was let do it does.
pub(super) fn of_rollout(table: &mut Table<'_>) {
    if ends_at(table).is_none_or(|at| table.now < at) {
        return;
    }
    let rollout = table.rollout();
    let (taken, way_out) = (human::format(rollout.strategy.rollout_deadline), table.way_out());
    let there = match rollout.status.stage() {
        Some(Stage::Running { batch }) => format!("batch {batch} of {}", rollout.batches),
        Some(Stage::Gated { at }) => format!("the gates before batch {} of {}", at.next, rollout.batches),
        Some(Stage::Canary { .. }) => "its canary".to_owned(),
        Some(Stage::Switching) => "the change of requests to the other group".to_owned(),
        Some(Stage::Migrating { .. }) => "its migration".to_owned(),
        _ => "staging".to_owned(),
    };
    let reason = format!(
        "it has taken all of rollout_deadline ({taken}) and is at {there}. `ctl resume` gives it as much again, {way_out}"
    );
    let _ = table.pause(reason);
}

/// When that is, of one that is under way and has not reached all hosts.
pub(super) fn ends_at(table: &Table<'_>) -> Option<Timestamp> {
    let rollout = table.rollout.as_deref()?;
    let deadline = rollout.strategy.rollout_deadline;
    (!deadline.is_zero() && is_on_its_way(rollout)).then(|| {
        let begun = table.state.counted(rollout.began_at(), table.now);
        let resumed = rollout.resumed_at.map(|at| table.state.counted(at, table.now));
        resumed.map_or(begun, |resumed| resumed.max(begun)) + deadline
    })
}

/// Whether it still brings something to hosts. A way back takes what it takes, and a lease has an end of its own.
fn is_on_its_way(rollout: &Rollout) -> bool {
    let Status::Active { stage } = &rollout.status else { return false };
    let brings = rollout.kind != RolloutKind::Rollback;
    brings
        && match stage {
            Stage::Staging
            | Stage::Running { .. }
            | Stage::Canary { .. }
            | Stage::Gated { .. }
            | Stage::Switching
            | Stage::Migrating { run: MigrationRun::Electing { .. } } => true,
            Stage::InLine { .. }
            | Stage::Migrating { .. }
            | Stage::Watching { .. }
            | Stage::Contracting { .. }
            | Stage::RollingBack { .. } => false,
        }
}
