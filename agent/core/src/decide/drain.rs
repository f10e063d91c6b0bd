//! Requests are led away from this host by somebody's word, and back to it: nothing that runs is touched.

use landfall_common::assignment::Assignment;
use landfall_common::report::{Failure, Health, OutcomeKind};

use super::Turn;
use crate::effect::Effect;
use crate::placement::{LedAway, Target, TrafficOutline};
use crate::plan::Action;
use crate::record::Installed;
use crate::step;

impl Turn {
    /// Writes the word down; where requests are led follows from it ([`Turn::settle_aim`]), and what is really so is in
    /// each report.
    pub(super) fn drain(&mut self, assignment: &Assignment, away: bool) {
        let generation = assignment.generation;
        if away && let Err(reason) = self.can_be_drained(assignment) {
            let failure = Failure::new(step("drain"), reason);
            return self.end(generation, OutcomeKind::Refused { failure });
        }
        let record = &mut self.machine.record;
        record.led_away = match (away, record.led_away) {
            (true, _) => Some(LedAway::Drained),
            (false, Some(_)) => Some(LedAway::Returning),
            (false, None) => None,
        };
        self.end(generation, OutcomeKind::Committed);
    }

    fn can_be_drained(&self, assignment: &Assignment) -> Result<(), String> {
        let name = &assignment.release.name;
        match self.machine.record.active() {
            Some(active) if active.release == assignment.release => match &active.outline.traffic {
                Some(TrafficOutline::Gate) => Ok(()),
                Some(TrafficOutline::Slots { .. }) => Err(format!(
                    "{name} has two slots on this host, and nothing that leads requests to another host"
                )),
                None => Err(format!("{name} has nothing that leads requests to another host")),
            },
            Some(active) => Err(format!("{name} is not active on this host, {} is", active.release.name)),
            None => Err(format!("{name} is not active on this host, and nothing is")),
        }
    }

    /// What a plan would lead back to this host stays away from it.
    pub(super) fn keep_away(&self, plan: &mut Vec<Action>) {
        if self.machine.record.led_away.is_some() {
            plan.retain(|action| !matches!(action, Action::Lead { aim } if aim.to == Target::Open));
        }
    }

    /// The same for an activation. A release without a gate could not lead requests back, and nobody else would: it is not
    /// activated on a host that is drained. Where they were to come back anyway, its plan leads them back.
    pub(super) fn away_with(&mut self, plan: &mut Vec<Action>, to: &Installed) -> Result<(), String> {
        let is_gated = to.outline.traffic == Some(TrafficOutline::Gate);
        match self.machine.record.led_away {
            Some(LedAway::Drained) if !is_gated => Err(format!(
                "requests are led away from this host, and {} has nothing that could lead them back; undrain it first",
                to.release.name
            )),
            Some(LedAway::Returning) if !is_gated => {
                self.machine.record.led_away = None;
                Ok(())
            }
            _ => {
                self.keep_away(plan);
                Ok(())
            }
        }
    }

    /// Requests come back to a host that is healthy, and to no other; what is being changed is proven first.
    pub(super) fn lead_back(&mut self) {
        let returns = self.machine.record.led_away == Some(LedAway::Returning);
        if !returns || self.changes() || !matches!(self.machine.health(self.now), Health::Healthy { .. }) {
            return;
        }
        self.machine.record.led_away = None;
        self.effects.push(Effect::Report);
        self.settle_aim();
    }
}
