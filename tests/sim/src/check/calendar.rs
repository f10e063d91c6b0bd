//! Nothing begins while no release window is open, by what the log tells and the clock on the wall, in UTC.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::Sha256;
use serde_json::Value;

use super::Violation;
use crate::artifact::Release;

/// Which rollouts no window holds.
#[derive(Debug, Default)]
pub struct Windows {
    free: BTreeSet<String>,
}

impl Windows {
    /// Reads an entry that has come to the log.
    ///
    /// # Errors
    /// [`Violation`].
    pub(super) fn read(
        &mut self,
        entry: &Value,
        releases: &BTreeMap<Sha256, Release>,
    ) -> Result<(), Violation> {
        let (event, at) = (&entry["event"], entry["at"].as_str().unwrap_or_default());
        let id = event["rollout"].as_str().unwrap_or_default();
        match event["kind"].as_str().unwrap_or_default() {
            "rollback_requested" | "window_overridden" => drop(self.free.insert(id.to_owned())),
            "rollout_started" if !self.free.contains(id) => {
                for asks in [&event["release"], &event["previous"]] {
                    let digest: Option<Sha256> = serde_json::from_value(asks["digest"].clone()).ok();
                    let Some(release) = digest.and_then(|digest| releases.get(&digest)) else { continue };
                    // Every day has the same, `Mon-Sun 08:00-08:20`.
                    let windows = release.plan.strategy.entry.calendar.windows.iter();
                    let hours: Vec<String> =
                        windows.map(|w| w.to_string().trim_start_matches("Mon-Sun ").to_owned()).collect();
                    let clock = at.get(11..16).unwrap_or_default();
                    let is_open = |hours: &String| {
                        hours.split_once('-').is_some_and(|(from, until)| from <= clock && clock < until)
                    };
                    if !hours.is_empty() && !hours.iter().any(is_open) {
                        let name = &release.reference.name;
                        let what = format!("{id} began at {at}, and no window of {name} is open then");
                        return Err(Violation::new("P8", what));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}
