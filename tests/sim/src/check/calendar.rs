//! Nothing begins while no release window is open, by what the log tells and the clock on the wall of the zone.

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
                    let clock = on_the_wall(at, &release.plan.strategy.entry.calendar.zone.to_string());
                    let is_open = |hours: &String| {
                        hours.split_once('-').is_some_and(|(from, until)| from <= &*clock && &*clock < until)
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

/// The hour and minute of a moment in a zone. By a table of its own, of the two changes that a world may meet.
fn on_the_wall(at: &str, zone: &str) -> String {
    let is_winter = ("2026-10-25T01:00".."2027-03-28T01:00").contains(&at);
    let ahead = match zone {
        "UTC" => 0,
        "Europe/Berlin" if is_winter => 1,
        "Europe/Berlin" => 2,
        other => unreachable!("no world is in {other}"),
    };
    let hour: u32 = at.get(11..13).and_then(|hour| hour.parse().ok()).unwrap_or_default();
    format!("{:02}{}", (hour + ahead) % 24, at.get(13..16).unwrap_or_default())
}
