//! What follows from hosts that fail: how many may, and when the others go back on their account.

use crate::gate::GateVerdict;
use crate::member::MemberState;
use crate::rollout::Stage;

use super::table::Table;

/// Of so many hosts in a hundred, so few have failed that the release is not to blame.
const NEARLY_ALL: usize = 90;

/// The failure budget counts over the whole rollout. A first batch that fails whole is too much whatever
/// the budget says: that is what it is for.
pub(super) fn over_budget(table: &Table<'_>) -> Option<String> {
    let rollout = table.rollout();
    let (mut targeted, mut failed) = (0, 0);
    let (mut first, mut first_failed) = (0, 0);
    // What runs too old a release to come to this one is no reason to take it from others that have it.
    let staging = matches!(rollout.status.stage(), Some(Stage::Staging));
    for (_, member) in table.members() {
        let is_failed = usize::from(member.state.failed());
        targeted += 1;
        failed += usize::from(member.state.failed() && (staging || !member.state.barred()));
        if member.batch == 1 {
            first += 1;
            first_failed += is_failed;
        }
    }
    let budget = rollout.strategy.failure_budget.at_most(targeted);
    let hosts = |number: usize| if number == 1 { "1 host".to_owned() } else { format!("{number} hosts") };
    if failed > budget {
        let first = first_failure(table);
        return Some(format!("{} failed, the budget allows {budget}{first}", hosts(failed)));
    }
    // A batch of everything is no canary.
    let whole = first > 0 && first == first_failed && rollout.batches > 1;
    whole.then(|| format!("the whole first batch failed{}", first_failure(table)))
}

fn first_failure(table: &Table<'_>) -> String {
    table.first_failure().map_or_else(String::new, |failed| format!(": {failed}"))
}

/// Why nobody goes back although too many have failed, and what somebody may say: nearly all hosts run the release
/// already, and what is wrong is more likely wrong with those few. While it is watched it is the release that is looked
/// at, and goes back.
pub(super) fn too_late_to_go_back(table: &Table<'_>) -> Option<String> {
    let rollout = table.rollout();
    let is_late = match rollout.status.stage() {
        Some(Stage::Running { .. } | Stage::Contracting { .. }) => true,
        // Whoever holds a gate and says no means the release.
        Some(Stage::Gated { at }) => at.answers.values().all(|said| said.verdict != GateVerdict::Failed),
        _ => false,
    };
    if rollout.strategy.late_rollback || !is_late {
        return None;
    }
    let committed = |state: &MemberState| matches!(state, MemberState::Committed { .. });
    let (all, run) = table.members().fold((0_usize, 0_usize), |(all, run), (_, member)| {
        (all + 1, run + usize::from(committed(&member.state)))
    });
    if run * 100 < all * NEARLY_ALL {
        return None;
    }
    let name = &rollout.release.name;
    Some(format!(
        "{run} of {all} hosts run {name}, and do not go back for the others unless somebody says so: `ctl retry` tries \
         again, `ctl exclude` leaves a host out, `ctl rollback` goes back"
    ))
}
