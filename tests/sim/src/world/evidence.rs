//! CI: it says of commits that their tests have passed or have not, says otherwise later, repeats what it said before, and
//! strangers say it too.

use std::collections::BTreeSet;

use landfall_common::evidence::{Statement, Verdict};
use landfall_controller_core::command::Action;

use super::World;
use crate::artifact::{self, ReleasePlan};

impl World {
    /// In a world whose releases need evidence CI says something; whether it did.
    pub(super) fn hand_in(&mut self) -> bool {
        let with: Vec<ReleasePlan> = self
            .releases
            .iter()
            .filter(|release| !release.plan.keys.is_empty())
            .map(|r| r.plan.clone())
            .collect();
        if with.is_empty() {
            return false;
        }
        if self.healed {
            return self.all_have_passed(&with);
        }
        if !self.dice.chance(350_000) {
            return false;
        }
        let handed_in = &self.checks.evidence.said;
        if !handed_in.is_empty() && self.dice.chance(250_000) {
            let at = self.dice.index(handed_in.len());
            let again = handed_in[at].clone();
            self.submit(again);
            return true;
        }
        let plan = self.dice.pick(&with).clone();
        let key = usize::try_from(self.dice.between(1, 4)).unwrap_or(1);
        let result = if self.dice.chance(700_000) { Verdict::Passed } else { Verdict::Failed };
        self.say_of(plan.number, key, result);
        true
    }

    /// In the end all tests pass, and CI knows what has reached the controller.
    fn all_have_passed(&mut self, with: &[ReleasePlan]) -> bool {
        let Some(controller) = &self.controller.running else { return false };
        let all: Vec<&Statement> =
            controller.state.evidence(&artifact::application()).map(|record| &record.statement).collect();
        let keys = with.iter().flat_map(|plan| plan.keys.iter().copied());
        let keys: BTreeSet<usize> = keys.collect();
        // Of each release by all keys that any of them names: the one in force may have named others.
        let each =
            self.releases.iter().flat_map(|release| keys.iter().map(|key| (release.plan.number, *key)));
        let lacks = |(number, key): &(u64, usize)| {
            let (commit, key) = (artifact::commit(*number), artifact::evidence_key(*key));
            !all.iter().any(|said| said.commit == commit && said.key == key && said.result == Verdict::Passed)
        };
        let lacking: Vec<(u64, usize)> = each.filter(lacks).collect();
        for (number, key) in &lacking {
            self.say_of(*number, *key, Verdict::Passed);
        }
        !lacking.is_empty()
    }

    fn say_of(&mut self, number: u64, key: usize, result: Verdict) {
        let run = self.checks.evidence.said.len() as u64 + 1;
        let statement = Statement {
            application: artifact::application(),
            commit: artifact::commit(number),
            name: artifact::tests(),
            result,
            run,
            url: String::new(),
            at: self.controller_now(),
            key: artifact::evidence_key(key),
        };
        self.checks.evidence.said.push(statement.clone());
        self.submit(statement);
    }

    fn submit(&mut self, statement: Statement) {
        let statement = Box::new(statement);
        self.ask_as("ci", Action::SubmitEvidence { statement, signature: "00".repeat(64) });
    }
}
