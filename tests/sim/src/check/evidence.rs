//! P5, what CI has to have passed has passed: nothing begins whose release, or the one in force, asks for evidence of its
//! commit that is not there, by what the log tells; the log tells of nothing that CI has not said, and of each rollout on what
//! it stands.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::Sha256;
use landfall_common::evidence::{EvidenceKey, Statement};
use serde_json::Value;

use super::Violation;
use crate::artifact::{self, Release};

/// What CI has said.
#[derive(Debug, Default)]
pub struct Evidence {
    /// All of it, in the order in which it was signed.
    pub said: Vec<Statement>,
    /// What the log tells of it: the last run of each commit, name and key, and whether it has passed.
    told: BTreeMap<(String, String, String), (u64, bool)>,
    /// Rollouts that need none: they restart, or somebody lets them begin without.
    free: BTreeSet<String>,
    /// Those that go back, or take the canary to what is no more new than that.
    back: BTreeSet<String>,
    drills: BTreeSet<String>,
    /// What has come into force, by digest.
    here: BTreeSet<Sha256>,
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
        let id = text(&event["rollout"]);
        let is_here = event["environment"] == artifact::environment().as_str();
        match event["kind"].as_str().unwrap_or_default() {
            "evidence_submitted" => self.submitted(event)?,
            "restart_requested" | "evidence_overridden" => drop(self.free.insert(id)),
            "rollback_requested" => drop(self.back.insert(id)),
            "drill_requested" => {
                self.back.insert(id.clone());
                self.drills.insert(id);
            }
            "rollout_finished" if is_here && !self.drills.contains(&id) => {
                if matches!(event["end"].as_str(), Some("succeeded" | "failed" | "aborted")) {
                    self.here.extend(digest(&event["release"]));
                }
            }
            "rollout_started" => {
                let was_here = digest(&event["release"]).is_some_and(|digest| self.here.contains(&digest));
                self.stood(event)?;
                if is_here && !self.free.contains(&id) && !(self.back.contains(&id) && was_here) {
                    self.begins(event, releases)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What was handed in CI has said, and it is no older than what was handed in before; a failure outweighs a success of
    /// the same run.
    fn submitted(&mut self, event: &Value) -> Result<(), Violation> {
        let about = (text(&event["commit"]), text(&event["name"]), text(&event["key"]));
        let (run, result) = (event["run"].as_u64().unwrap_or_default(), text(&event["result"]));
        let is_it = |said: &Statement| {
            let of = (said.commit.as_str(), said.name.as_str(), said.key.as_str());
            of == (&*about.0, &*about.1, &*about.2) && said.run == run && said.result.word() == result
        };
        if !self.said.iter().any(is_it) {
            return Err(Violation::new("P5", format!("the log has {event}, and CI has not said it")));
        }
        let passed = result == "passed";
        match self.told.insert(about, (run, passed)) {
            Some((known, had)) if known > run || (known == run && (passed || !had)) => {
                Err(Violation::new("P5", format!("{event} was taken after run {known}, which passed: {had}")))
            }
            _ => Ok(()),
        }
    }

    /// What is said of a rollout that it stood on was there.
    fn stood(&self, event: &Value) -> Result<(), Violation> {
        let commit = artifact::commit(counter(&event["release"])).to_string();
        for piece in event["evidence"].as_array().into_iter().flatten() {
            let about = (commit.clone(), text(&piece["name"]), text(&piece["key"]));
            let told = self.told.get(&about);
            if told != Some(&(piece["run"].as_u64().unwrap_or_default(), true)) {
                let what =
                    format!("{} is said to stand on {piece}, and CI has said {told:?}", event["rollout"]);
                return Err(Violation::new("P5", what));
            }
        }
        Ok(())
    }

    /// A rollout that needs what its release asks for, and the one in force, has it, and says so.
    fn begins(&self, event: &Value, releases: &BTreeMap<Sha256, Release>) -> Result<(), Violation> {
        let asks = |release: &Value| {
            let release = digest(release).and_then(|digest| releases.get(&digest));
            release.map(|release| release.plan.evidence.clone()).unwrap_or_default()
        };
        let commit = artifact::commit(counter(&event["release"])).to_string();
        for (name, keys) in asks(&event["release"]).iter().chain(&asks(&event["previous"])) {
            let keys: Vec<EvidenceKey> = keys.iter().map(|key| artifact::evidence_key(*key)).collect();
            let word = |key: &EvidenceKey| {
                let about = (commit.clone(), name.to_string(), key.to_string());
                self.told.get(&about).map(|(_, passed)| *passed)
            };
            let words: Vec<bool> = keys.iter().filter_map(word).collect();
            let new = &event["release"];
            if words.is_empty() || words.contains(&false) {
                let what =
                    format!("{} began with {new}, of whose {name} CI has said {words:?}", event["rollout"]);
                return Err(Violation::new("P5", what));
            }
            let by = |piece: &Value| {
                piece["name"] == name.as_str() && keys.iter().any(|key| piece["key"] == key.as_str())
            };
            if !event["evidence"].as_array().is_some_and(|pieces| pieces.iter().any(by)) {
                let what =
                    format!("{} began with {new}, and does not tell on which {name}", event["rollout"]);
                return Err(Violation::new("P5", what));
            }
        }
        Ok(())
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn counter(release: &Value) -> u64 {
    release["counter"].as_u64().unwrap_or_default()
}

fn digest(release: &Value) -> Option<Sha256> {
    serde_json::from_value(release["digest"].clone()).ok()
}

#[cfg(test)]
mod tests {
    use landfall_common::EvidenceName;
    use landfall_common::evidence::Verdict;
    use landfall_common::strategy::Strategy;
    use serde_json::json;

    use super::*;
    use crate::artifact::ReleasePlan;

    const CI: usize = 1;

    fn statement(name: EvidenceName, key: usize, run: u64, result: Verdict) -> Statement {
        Statement {
            application: artifact::application(),
            commit: artifact::commit(2),
            name,
            result,
            run,
            url: String::new(),
            at: landfall_common::Timestamp::default(),
            key: artifact::evidence_key(key),
        }
    }

    fn tests(run: u64, result: Verdict) -> Statement {
        statement(artifact::tests(), CI, run, result)
    }

    /// The log of these, of what was handed in, and of a rollout that says that it stands on some of it.
    fn told(before: &[Value], handed_in: &[Statement], on: &[&Statement]) -> Result<(), Violation> {
        let asks = |number| ReleasePlan {
            evidence: [(artifact::tests(), vec![CI])].into(),
            ..ReleasePlan::good(number, Strategy::default())
        };
        let releases = [1, 2].map(|number| asks(number).build());
        let by_digest = releases.iter().map(|release| (release.reference.digest, release.clone())).collect();
        let said = handed_in.iter().filter(|statement| statement.run < 100).cloned().collect();
        let mut evidence = Evidence { said, ..Evidence::default() };
        let mut read = |event: Value| evidence.read(&json!({ "event": event }), &by_digest);
        let [first, second] = &releases;
        for event in before {
            let mut event = event.clone();
            event["environment"] = json!("production");
            event["release"] = json!(second.reference);
            read(event)?;
        }
        for Statement { commit, name, result, run, key, .. } in handed_in {
            let (kind, result) = ("evidence_submitted", result.word());
            read(json!({
                "kind": kind, "commit": commit, "name": name, "result": result, "run": run, "key": key,
            }))?;
        }
        let on = on.iter().map(|on| json!({ "name": on.name, "key": on.key, "run": on.run }));
        read(json!({
            "kind": "rollout_started", "rollout": "r-2", "environment": "production",
            "release": second.reference, "previous": first.reference, "evidence": on.collect::<Vec<_>>(),
        }))
    }

    #[test]
    fn what_begins_has_passed_by_what_ci_has_said_last() {
        let (good, bad, again) =
            (tests(1, Verdict::Passed), tests(2, Verdict::Failed), tests(3, Verdict::Passed));
        let each = |statements: &[&Statement]| statements.iter().map(|s| (*s).clone()).collect::<Vec<_>>();
        assert_eq!(told(&[], &each(&[&good]), &[&good]), Ok(()));
        assert!(told(&[], &[], &[]).is_err());
        assert!(told(&[], &each(&[&good, &bad]), &[&good]).is_err());
        assert_eq!(told(&[], &each(&[&good, &bad, &again]), &[&again]), Ok(()));
        assert!(told(&[], &each(&[&bad, &good]), &[&good]).is_err(), "an older run was taken");
        let stranger = statement(artifact::tests(), 3, 1, Verdict::Passed);
        assert!(told(&[], &each(&[&stranger]), &[&stranger]).is_err());
        let load = statement(artifact::load(), CI, 1, Verdict::Passed);
        assert!(told(&[], &each(&[&load]), &[&load]).is_err(), "another thing has passed");
        assert!(told(&[], &[tests(100, Verdict::Passed)], &[]).is_err(), "nobody has said it");
    }

    #[test]
    fn of_the_same_run_a_failure_counts_and_no_success_after_it() {
        let (good, bad) = (tests(1, Verdict::Passed), tests(1, Verdict::Failed));
        let overridden = [json!({ "kind": "evidence_overridden", "rollout": "r-2" })];
        assert_eq!(told(&overridden, &[good.clone(), bad.clone()], &[]), Ok(()));
        assert!(told(&overridden, &[bad, good.clone()], &[]).is_err());
        assert!(told(&overridden, &[good.clone(), good], &[]).is_err());
    }

    #[test]
    fn what_begins_tells_truly_on_what() {
        let (good, again) = (tests(1, Verdict::Passed), tests(2, Verdict::Passed));
        let both = [good.clone(), again.clone()];
        assert_eq!(told(&[], &both, &[&again]), Ok(()));
        assert!(told(&[], &both, &[]).is_err(), "it tells nothing");
        assert!(told(&[], &both, &[&good]).is_err(), "a run that is not the last");
        let stranger = statement(artifact::tests(), 3, 1, Verdict::Passed);
        assert!(told(&[], &both, &[&again, &stranger]).is_err(), "nobody has said it");
    }

    #[test]
    fn only_what_was_here_comes_again_without() {
        for free in ["evidence_overridden", "restart_requested"] {
            assert_eq!(told(&[json!({ "kind": free, "rollout": "r-2" })], &[], &[]), Ok(()));
        }
        let ended = |id: &str, end: &str| json!({ "kind": "rollout_finished", "rollout": id, "end": end });
        let was_here = ended("r-1", "succeeded");
        for back in ["rollback_requested", "drill_requested"] {
            let back = |id: &str| json!({ "kind": back, "rollout": id });
            assert!(told(&[back("r-2")], &[], &[]).is_err(), "it was never here");
            assert_eq!(told(&[was_here.clone(), back("r-2")], &[], &[]), Ok(()));
            assert!(told(&[ended("r-1", "superseded"), back("r-2")], &[], &[]).is_err());
        }
        // A drill leaves nothing behind.
        let drill = json!({ "kind": "drill_requested", "rollout": "r-1" });
        let back = json!({ "kind": "rollback_requested", "rollout": "r-2" });
        assert!(told(&[drill, was_here.clone(), back], &[], &[]).is_err());
        assert!(told(&[was_here], &[], &[]).is_err(), "whoever releases it anew is asked");
    }
}
