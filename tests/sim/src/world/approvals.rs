//! Operators who say yes and no to what others want, to what they saw or to something else, and who are removed.

use landfall_common::{OperatorName, RolloutId, Sha256};
use landfall_controller_core::approval;
use landfall_controller_core::command::Action;

use super::World;

/// More than anybody needs.
const PEOPLE: [&str; 4] = ["anna", "ben", "cora", "dirk"];

impl World {
    /// In a world with approvals somebody says something to the first in line; whether there was anything to say.
    pub(super) fn say_something(&mut self) -> bool {
        let asks = self.releases.iter().any(|release| release.plan.strategy.entry.approvals > 0);
        let Some(rollout) = self.next_in_line().filter(|_| asks) else { return false };
        let by = *self.dice.pick(&PEOPLE);
        let action = match self.dice.between(0, 9) {
            0 => Action::Reject { rollout, reason: "not like this".to_owned() },
            1 => Action::WithdrawApprovals { of: OperatorName::new(by).expect("a valid name") },
            2 => Action::Approve { rollout, content: Sha256::of(b"another"), reason: String::new() },
            _ => match self.approval_of(rollout) {
                Some(action) => action,
                None => return false,
            },
        };
        self.ask_as(by, action);
        true
    }

    /// One after the other says yes, until it begins.
    pub(super) fn say_yes(&mut self, rollout: &RolloutId) {
        let tries = self.patience.entry(format!("approve {rollout}")).or_default();
        *tries += 1;
        let by = PEOPLE[usize::try_from(*tries).unwrap_or(0) % PEOPLE.len()];
        if let Some(action) = self.approval_of(rollout.clone()) {
            self.ask_as(by, action);
        }
    }

    fn approval_of(&self, rollout: RolloutId) -> Option<Action> {
        let state = &self.controller.running.as_ref()?.state;
        let content = state.rollout(&rollout).and_then(approval::content)?;
        Some(Action::Approve { rollout, content, reason: "looks good".to_owned() })
    }
}
