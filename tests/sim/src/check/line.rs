//! Order among rollouts, by what the log tells: one at a time, those in line in their order, none while a lock
//! holds.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::Timestamp;
use serde_json::Value;

use super::Violation;

/// The line of each environment.
#[derive(Debug, Default)]
pub struct Lines(BTreeMap<String, Line>);

impl Lines {
    /// Reads an entry that has come to the log.
    ///
    /// # Errors
    /// [`Violation`].
    pub(super) fn read(&mut self, entry: &Value) -> Result<(), Violation> {
        let Some(environment) = entry["event"]["environment"].as_str() else { return Ok(()) };
        self.0.entry(environment.to_owned()).or_default().read(entry)
    }
}

/// Who holds the place, who stands in line, and whether it is locked.
#[derive(Debug, Default)]
struct Line {
    under_way: Option<String>,
    waiting: Vec<String>,
    /// Rollouts by which somebody went back: they pass the line by.
    back: BTreeSet<String>,
    /// From when until when: a clock that was set back since knows nothing of it.
    locked: Option<(Timestamp, Timestamp)>,
}

impl Line {
    fn read(&mut self, entry: &Value) -> Result<(), Violation> {
        let event = &entry["event"];
        let id = event["rollout"].as_str().unwrap_or_default().to_owned();
        let at = moment(&entry["at"]).unwrap_or_default();
        match event["kind"].as_str().unwrap_or_default() {
            "rollout_queued" => self.waiting.push(id),
            "rollback_requested" => drop(self.back.insert(id)),
            "place_locked" => self.locked = moment(&event["until"]).map(|until| (at, until)),
            "place_unlocked" => self.locked = None,
            "rollout_finished" => {
                self.waiting.retain(|waiting| *waiting != id);
                self.under_way.take_if(|under_way| *under_way == id);
            }
            "rollout_started" => return self.begins(id, at),
            _ => {}
        }
        Ok(())
    }

    fn begins(&mut self, id: String, at: Timestamp) -> Result<(), Violation> {
        let not = |why: String| Err(Violation::new("P8", format!("{id} began at {at}: {why}")));
        if let Some(other) = &self.under_way {
            return not(format!("{other} was under way"));
        }
        if let Some((_, until)) = self.locked.filter(|(from, until)| (*from..*until).contains(&at)) {
            return not(format!("the place was locked until {until}"));
        }
        match self.waiting.iter().position(|waiting| *waiting == id) {
            Some(0) => drop(self.waiting.remove(0)),
            Some(_) => return not(format!("{} stood before it in line", self.waiting[0])),
            None if self.waiting.is_empty() || self.back.contains(&id) => {}
            None => return not(format!("it passed {} by, which stood in line", self.waiting[0])),
        }
        self.under_way = Some(id);
        Ok(())
    }
}

fn moment(value: &Value) -> Option<Timestamp> {
    serde_json::from_value(value.clone()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(entries: &[(&str, &str)]) -> Result<(), Violation> {
        let mut line = Line::default();
        let mut entries = entries.iter().zip(1..);
        entries.try_for_each(|((kind, rollout), at)| {
            let until = json!(Timestamp::from_ms(4));
            let event = json!({ "kind": kind, "rollout": rollout, "until": until });
            line.read(&json!({ "at": json!(Timestamp::from_ms(at)), "event": event }))
        })
    }

    #[test]
    fn one_at_a_time_in_their_order_and_none_while_it_is_locked() {
        let (queued, started, finished) = ("rollout_queued", "rollout_started", "rollout_finished");
        assert_eq!(told(&[(started, "a"), (queued, "b"), (finished, "a"), (started, "b")]), Ok(()));
        assert_eq!(told(&[(queued, "b"), ("rollback_requested", "a"), (started, "a")]), Ok(()));
        assert_eq!(told(&[("place_locked", ""), ("place_unlocked", ""), (started, "a")]), Ok(()));
        for wrong in [
            [(started, "a"), (started, "b")],
            [(queued, "a"), (started, "b")],
            [("place_locked", ""), (started, "a")],
        ] {
            assert!(told(&wrong).is_err(), "{wrong:?}");
        }
        assert!(told(&[(queued, "a"), (queued, "b"), (started, "b")]).is_err());
    }
}
