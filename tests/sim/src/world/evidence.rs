//! CI: it says of commits that their tests have passed or have not, says otherwise later, repeats what it said before, and
//! strangers say it too.

use std::collections::BTreeSet;

use landfall_common::EvidenceName;
use landfall_common::evidence::{Statement, Verdict};
use landfall_controller_core::command::Action;

use super::World;
use crate::artifact;

impl World {
    /// In a world whose releases need evidence CI says something; whether it did.
    pub(super) fn hand_in(&mut self) -> bool {
        let asked: BTreeSet<(EvidenceName, usize)> = (self.releases.iter())
            .flat_map(|release| &release.plan.evidence)
            .flat_map(|(name, keys)| keys.iter().map(|key| (name.clone(), *key)))
            .collect();
        if asked.is_empty() {
            return false;
        }
        if self.healed {
            return self.all_have_passed(&asked);
        }
        if !self.dice.chance(350_000) {
            return false;
        }
        let said = &self.checks.evidence.said;
        if !said.is_empty() && self.dice.chance(250_000) {
            let at = self.dice.index(said.len());
            let mut again = said[at].clone();
            // Another job of the same run, which ended otherwise.
            if self.dice.chance(300_000) {
                again.result = match again.result {
                    Verdict::Passed => Verdict::Failed,
                    Verdict::Failed => Verdict::Passed,
                };
                self.checks.evidence.said.push(again.clone());
            }
            self.submit(again);
            return true;
        }
        let number = self.releases[self.dice.index(self.releases.len())].plan.number;
        let key = usize::try_from(self.dice.between(1, 4)).unwrap_or(1);
        let name = if self.dice.chance(600_000) { artifact::tests() } else { artifact::load() };
        let result = if self.dice.chance(700_000) { Verdict::Passed } else { Verdict::Failed };
        self.say_of(number, name, key, result);
        true
    }

    /// In the end all tests pass, and CI knows what has reached the controller.
    fn all_have_passed(&mut self, asked: &BTreeSet<(EvidenceName, usize)>) -> bool {
        let Some(controller) = &self.controller.running else { return false };
        let all: Vec<&Statement> =
            controller.state.evidence(&artifact::application()).map(|record| &record.statement).collect();
        let lacks = |number: u64, name: &EvidenceName, key: usize| {
            let (commit, key) = (artifact::commit(number), artifact::evidence_key(key));
            let is_it = |said: &&&Statement| said.commit == commit && said.name == *name && said.key == key;
            all.iter().find(is_it).is_none_or(|said| said.result == Verdict::Failed)
        };
        // Of each release all that any of them asks for, by all keys: the one in force may have named others.
        let numbers = self.releases.iter().map(|release| release.plan.number);
        let each = numbers.flat_map(|number| asked.iter().map(move |(name, key)| (number, name, *key)));
        let lacking: Vec<(u64, EvidenceName, usize)> = each
            .filter(|(number, name, key)| lacks(*number, name, *key))
            .map(|(number, name, key)| (number, name.clone(), key))
            .collect();
        for (number, name, key) in &lacking {
            self.say_of(*number, name.clone(), *key, Verdict::Passed);
        }
        !lacking.is_empty()
    }

    fn say_of(&mut self, number: u64, name: EvidenceName, key: usize, result: Verdict) {
        let run = self.checks.evidence.said.len() as u64 + 1;
        let statement = Statement {
            application: artifact::application(),
            commit: artifact::commit(number),
            name,
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
