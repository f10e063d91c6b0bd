//! P5, what has to be proven in staging is: nothing begins that did not come to run on every host there, or from which
//! somebody has gone back there since, by what the log tells and the hosts have said.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::{HostId, Sha256};
use serde_json::Value;

use super::Violation;
use crate::artifact::{self, Release};

/// What staging has proven.
#[derive(Debug, Default)]
pub struct Proofs {
    /// The hosts that are there.
    pub hosts: BTreeSet<HostId>,
    /// What has come into force there, by digest: its counter, and whether its rollout says that all hosts run it.
    brought: BTreeMap<Sha256, (u64, bool)>,
    /// Rollouts that go back, wherever.
    back: BTreeSet<String>,
    /// Those that somebody lets begin without a proof.
    free: BTreeSet<String>,
    drills: BTreeSet<String>,
    /// What has come into force where it is asked for, by digest.
    here: BTreeSet<Sha256>,
}

impl Proofs {
    /// Reads an entry that has come to the log.
    ///
    /// # Errors
    /// [`Violation`].
    pub(super) fn read(
        &mut self,
        entry: &Value,
        releases: &BTreeMap<Sha256, Release>,
        said: &BTreeSet<(HostId, Sha256)>,
    ) -> Result<(), Violation> {
        let event = &entry["event"];
        let id = event["rollout"].as_str().unwrap_or_default().to_owned();
        let is_staging = event["environment"] == artifact::staging().as_str();
        let digest = |release: &Value| serde_json::from_value::<Sha256>(release["digest"].clone()).ok();
        let counter = |release: &Value| release["counter"].as_u64().unwrap_or_default();
        let release = &event["release"];
        match event["kind"].as_str().unwrap_or_default() {
            "rollback_requested" => drop(self.back.insert(id)),
            "drill_requested" => drop(self.drills.insert(id)),
            // What is restarted is in force already.
            "proof_overridden" | "restart_requested" => drop(self.free.insert(id)),
            "rollout_started" if is_staging && self.back.contains(&id) => {
                let to = counter(release);
                self.brought.retain(|_, (counter, _)| *counter <= to);
            }
            "rollout_finished" if is_staging => {
                let whole = match event["end"].as_str().unwrap_or_default() {
                    "succeeded" => true,
                    "failed" => false,
                    _ => return Ok(()),
                };
                if let Some(digest) = digest(release) {
                    self.brought.entry(digest).or_insert((counter(release), false)).1 |= whole;
                }
            }
            "rollout_finished"
                if matches!(event["end"].as_str(), Some("succeeded" | "failed" | "aborted")) =>
            {
                self.here.extend(digest(release));
            }
            "rollout_started" if !is_staging && !self.back.contains(&id) && !self.free.contains(&id) => {
                let asks = |release: &Value| {
                    let release = digest(release).and_then(|digest| releases.get(&digest));
                    release.is_some_and(|release| release.plan.staged)
                };
                // What was proven here is drilled as it is gone back to: without asking another place.
                let was_here = digest(release).is_some_and(|digest| self.here.contains(&digest));
                let back = self.drills.contains(&id) && was_here;
                if back || !(asks(release) || asks(&event["previous"])) {
                    return Ok(());
                }
                let brought = digest(release).and_then(|digest| Some((digest, self.brought.get(&digest)?)));
                let everywhere =
                    |digest| self.hosts.iter().all(|host| said.contains(&(host.clone(), digest)));
                if !brought.is_some_and(|(digest, (_, whole))| *whole || everywhere(digest)) {
                    let what =
                        format!("{id} began with {release}, and staging has not proven it: {brought:?}");
                    return Err(Violation::new("P5", what));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use landfall_common::strategy::Strategy;
    use serde_json::json;

    use super::*;
    use crate::artifact::ReleasePlan;

    /// What the log tells, kind by kind, of which environment and release.
    fn told(entries: &[(&str, &str, u64)]) -> Result<(), Violation> {
        let staged = |number| ReleasePlan { staged: true, ..ReleasePlan::good(number, Strategy::default()) };
        let releases = [1, 2].map(|number| staged(number).build());
        let by_digest = releases.iter().map(|release| (release.reference.digest, release.clone())).collect();
        let mut proofs = Proofs { hosts: [HostId::new("web-1").unwrap()].into(), ..Proofs::default() };
        entries.iter().try_for_each(|(kind, environment, number)| {
            let reference = &releases[usize::try_from(*number).unwrap() - 1].reference;
            let (kind, end) = kind.split_once(' ').unwrap_or((kind, ""));
            let id = format!("{environment}-{number}");
            let event = json!({ "kind": kind, "environment": environment, "rollout": id, "release": reference, "end": end });
            proofs.read(&json!({ "event": event }), &by_digest, &BTreeSet::new())
        })
    }

    #[test]
    fn what_begins_was_proven_there_and_not_gone_back_from() {
        let (start, end) = ("rollout_started", "rollout_finished succeeded");
        let proven = [(start, "staging", 2), (end, "staging", 2)];
        let begins = (start, "production", 2);
        assert_eq!(told(&[&proven[..], &[begins]].concat()), Ok(()));
        assert!(told(&[begins]).is_err());
        assert!(told(&[proven[0], begins]).is_err());
        assert!(told(&[proven[0], ("rollout_finished failed", "staging", 2), begins]).is_err());
        assert!(told(&[proven[0], ("rollout_finished rolled_back", "staging", 2), begins]).is_err());
        let back = [("rollback_requested", "staging", 1), (start, "staging", 1)];
        assert!(told(&[&proven[..], &back, &[begins]].concat()).is_err());
        assert_eq!(told(&[&proven[..], &back, &proven, &[begins]].concat()), Ok(()));
        assert_eq!(told(&[("proof_overridden", "production", 2), begins]), Ok(()));
    }
}
