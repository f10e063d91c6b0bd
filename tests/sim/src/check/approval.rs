//! Nothing begins that others had to approve and have not, by what the log tells and what the releases ask for.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::Sha256;
use serde_json::Value;

use super::Violation;
use crate::artifact::Release;

/// Who asked for what, and who has said yes to it.
#[derive(Debug, Default)]
pub struct Approvals {
    asked: BTreeMap<String, String>,
    given: BTreeMap<String, BTreeSet<String>>,
    /// Rollouts by which somebody went back: they need none.
    back: BTreeSet<String>,
    /// Drills.
    drills: BTreeSet<String>,
    restarts: BTreeSet<String>,
    /// What has come into force, by environment and digest.
    here: BTreeSet<(String, Sha256)>,
}

impl Approvals {
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
        let digest = |release: &Value| serde_json::from_value::<Sha256>(release["digest"].clone()).ok();
        let id = text(&event["rollout"]);
        let actor = text(&entry["actor"]["name"]);
        match event["kind"].as_str().unwrap_or_default() {
            "rollout_queued" => drop(self.asked.insert(id, actor)),
            "rollback_requested" => drop(self.back.insert(id)),
            "drill_requested" => drop(self.drills.insert(id)),
            "restart_requested" => drop(self.restarts.insert(id)),
            "rollout_approved" => drop(self.given.entry(id).or_default().insert(actor)),
            "approval_withdrawn" => {
                self.given.entry(id).or_default().remove(&text(&event["of"]));
            }
            "rollout_finished"
                if matches!(event["end"].as_str(), Some("succeeded" | "failed" | "aborted")) =>
            {
                self.here
                    .extend(digest(&event["release"]).map(|digest| (text(&event["environment"]), digest)));
            }
            "rollout_started" if !self.back.contains(&id) => {
                let asks = |release: &Value| {
                    let release = digest(release).and_then(|digest| releases.get(&digest));
                    release.map_or(0, |release| release.plan.strategy.entry.approvals)
                };
                // What is restarted was approved when it came.
                if self.restarts.contains(&id) {
                    return Ok(());
                }
                // What was proven here is drilled as it is gone back to: without asking anybody.
                let here = digest(&event["release"]).map(|digest| (text(&event["environment"]), digest));
                if self.drills.contains(&id) && here.is_some_and(|here| self.here.contains(&here)) {
                    return Ok(());
                }
                let needed = asks(&event["release"]).max(asks(&event["previous"])) as usize;
                let asked_by = self.asked.get(&id).unwrap_or(&actor);
                let given = self.given.get(&id).into_iter().flatten();
                let others = given.filter(|by| *by != asked_by).count();
                if others < needed {
                    let what = format!("{id} began with {others} of {needed} approvals by others");
                    return Err(Violation::new("P8", what));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
