//! What a run of the planner tells: the waits of each place, and as sentences.

use std::collections::BTreeMap;

use landfall_common::{RolloutId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::record::Place;

use super::Wait;

/// How many sentences a place gets; the rest is counted.
const SENTENCES: usize = 20;

/// Why it does not go on, place by place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanningReport {
    /// Those where something is awaited.
    pub places: Vec<PlaceReport>,
}

impl PlanningReport {
    /// The same, where nothing that was decided since could be stored: told first, in every place that either of
    /// the two knows.
    #[must_use]
    pub fn unstored(mut self, newer: &Self, since: Timestamp, reason: &str) -> Self {
        for place in &newer.places {
            if self.of(&place.place).is_none() {
                self.places.push(PlaceReport::new(&place.place, place.rollout.as_ref()));
            }
        }
        for place in &mut self.places {
            place.waits.retain(|wait| !matches!(wait, Wait::Unstored { .. }));
            place.waits.insert(0, Wait::Unstored { since, reason: reason.to_owned() });
        }
        self
    }

    /// The report of one place.
    #[must_use]
    pub fn of(&self, place: &Place) -> Option<&PlaceReport> {
        self.places.iter().find(|report| report.place == *place)
    }

    /// All sentences, by place.
    #[must_use]
    pub fn sentences(&self) -> BTreeMap<Place, Vec<String>> {
        self.places.iter().map(|report| (report.place.clone(), report.sentences().collect())).collect()
    }
}

/// Why it does not go on in one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceReport {
    /// Which.
    pub place: Place,
    /// The rollout that holds it.
    pub rollout: Option<RolloutId>,
    /// What is awaited, the most telling first, at most twenty.
    pub waits: Vec<Wait>,
    /// How many more there are.
    pub more: usize,
}

impl PlaceReport {
    pub(crate) fn new(place: &Place, rollout: Option<&RolloutId>) -> Self {
        Self { place: place.clone(), rollout: rollout.cloned(), waits: Vec::new(), more: 0 }
    }

    pub(crate) fn add(&mut self, wait: Wait) {
        if self.waits.len() < SENTENCES {
            self.waits.push(wait);
        } else {
            self.more += 1;
        }
    }

    /// One sentence for each wait that is not that of another rollout, in line behind the one that holds the place.
    pub fn of_holder(&self) -> impl Iterator<Item = String> + '_ {
        let more = (self.more > 0).then(|| format!("and {} more", self.more));
        let waits = self.waits.iter().filter(|wait| !matches!(wait, Wait::InLine { .. }));
        waits.map(ToString::to_string).chain(more)
    }

    /// One sentence for each wait.
    pub fn sentences(&self) -> impl Iterator<Item = String> + '_ {
        let more = (self.more > 0).then(|| format!("and {} more", self.more));
        self.waits.iter().map(ToString::to_string).chain(more)
    }
}
