//! P5, what CI has to have passed has passed: nothing begins whose release, or the one in force, asks for evidence of its
//! commit that is not there, by what the log tells; and the log tells of nothing that CI has not said.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::Sha256;
use landfall_common::evidence::Statement;
use serde_json::Value;

use super::Violation;
use crate::artifact::{self, Release};

/// What CI has said.
#[derive(Debug, Default)]
pub struct Evidence {
    /// All of it, in the order in which it was signed.
    pub said: Vec<Statement>,
    /// What the log tells of it: the last run of each commit and key, and whether it has passed.
    told: BTreeMap<(String, String), (u64, bool)>,
    /// Rollouts that need none: they go back, restart, or somebody lets them begin without.
    free: BTreeSet<String>,
    drills: BTreeSet<String>,
}

impl Evidence {
    /// Reads an entry that has come to the log.
    ///
    /// # Errors
    /// [`Violation`].
    pub(super) fn read(
        &mut self,
        entry: &Value,
        releases: &BTreeMap<Sha256, Release>,
    ) -> Result<(), Violation> {
        let event = &entry["event"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let id = text(&event["rollout"]);
        match event["kind"].as_str().unwrap_or_default() {
            "evidence_submitted" => {
                let (commit, key) = (text(&event["commit"]), text(&event["key"]));
                let (run, result) = (event["run"].as_u64().unwrap_or_default(), text(&event["result"]));
                let is_it = |said: &&Statement| {
                    said.run == run && said.commit.as_str() == commit && said.key.as_str() == key
                };
                if self.said.iter().find(is_it).is_none_or(|said| said.result.word() != result) {
                    return Err(Violation::new("P5", format!("the log has {event}, and CI has not said it")));
                }
                let known = self.told.insert((commit, key), (run, result == "passed"));
                if known.is_some_and(|(known, _)| known >= run) {
                    return Err(Violation::new("P5", format!("{event} was taken after {known:?}")));
                }
            }
            "rollback_requested" | "restart_requested" | "evidence_overridden" => {
                self.free.insert(id);
            }
            "drill_requested" => drop(self.drills.insert(id)),
            "rollout_started" if !self.free.contains(&id) => {
                if event["environment"] != artifact::environment().as_str() {
                    return Ok(());
                }
                let counter = |release: &Value| release["counter"].as_u64().unwrap_or_default();
                let new = &event["release"];
                // What was proven here is drilled as it is gone back to.
                if self.drills.contains(&id) && counter(new) < counter(&event["previous"]) {
                    return Ok(());
                }
                let asks = |release: &Value| {
                    let digest: Option<Sha256> = serde_json::from_value(release["digest"].clone()).ok();
                    let release = digest.and_then(|digest| releases.get(&digest));
                    release.map(|release| release.plan.keys.clone()).unwrap_or_default()
                };
                let commit = artifact::commit(counter(new)).to_string();
                for keys in [asks(new), asks(&event["previous"])].iter().filter(|keys| !keys.is_empty()) {
                    let word = |key: &usize| {
                        let key = artifact::evidence_key(*key).to_string();
                        self.told.get(&(commit.clone(), key)).map(|(_, passed)| *passed)
                    };
                    let words: Vec<bool> = keys.iter().filter_map(word).collect();
                    if words.is_empty() || words.contains(&false) {
                        let what = format!("{id} began with {new}, of which CI has said {words:?}");
                        return Err(Violation::new("P5", what));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use landfall_common::evidence::Verdict;
    use landfall_common::strategy::Strategy;
    use serde_json::json;

    use super::*;
    use crate::artifact::ReleasePlan;

    const CI: usize = 1;

    fn statement(number: u64, key: usize, run: u64, result: Verdict) -> Statement {
        Statement {
            application: artifact::application(),
            commit: artifact::commit(number),
            name: artifact::tests(),
            result,
            run,
            url: String::new(),
            at: landfall_common::Timestamp::default(),
            key: artifact::evidence_key(key),
        }
    }

    fn told(said: &[Statement], before: &[&str], handed_in: &[Statement]) -> Result<(), Violation> {
        let asks = |number| ReleasePlan { keys: vec![CI], ..ReleasePlan::good(number, Strategy::default()) };
        let releases = [1, 2].map(|number| asks(number).build());
        let by_digest = releases.iter().map(|release| (release.reference.digest, release.clone())).collect();
        let mut evidence = Evidence { said: said.to_vec(), ..Evidence::default() };
        let mut read = |event: Value| evidence.read(&json!({ "event": event }), &by_digest);
        for kind in before {
            read(json!({ "kind": kind, "rollout": "r-2" }))?;
        }
        for Statement { commit, result, run, key, .. } in handed_in {
            read(
                json!({ "kind": "evidence_submitted", "commit": commit, "result": result, "run": run, "key": key }),
            )?;
        }
        let [first, second] = &releases;
        read(json!({
            "kind": "rollout_started", "rollout": "r-2", "environment": "production",
            "release": second.reference, "previous": first.reference,
        }))
    }

    #[test]
    fn what_begins_has_passed_by_what_ci_has_said_last() {
        let [good, bad, again] = [(1, Verdict::Passed), (2, Verdict::Failed), (3, Verdict::Passed)]
            .map(|(run, result)| statement(2, CI, run, result));
        let said = [good.clone(), bad.clone(), again.clone()];
        assert_eq!(told(&said, &[], std::slice::from_ref(&good)), Ok(()));
        assert!(told(&said, &[], &[]).is_err());
        assert!(told(&said, &[], &[good.clone(), bad.clone()]).is_err());
        assert_eq!(told(&said, &[], &[good.clone(), bad.clone(), again]), Ok(()));
        assert!(told(&said, &[], &[bad, good.clone()]).is_err(), "an older run was taken");
        let stranger = statement(2, 3, 1, Verdict::Passed);
        assert!(told(std::slice::from_ref(&stranger), &[], std::slice::from_ref(&stranger)).is_err());
        assert!(told(&[], &[], &[good]).is_err(), "nobody has said it");
        for free in ["evidence_overridden", "rollback_requested", "restart_requested"] {
            assert_eq!(told(&said, &[free], &[]), Ok(()));
        }
    }
}
