//! Integrations that hold gates: they open them, close them again, say no, or say nothing; and some say it too early.

use landfall_common::{GateName, RolloutId};
use landfall_controller_core::command::Action;
use landfall_controller_core::gate::{self, GateVerdict};

use super::World;

/// The gates that worlds have.
pub const GATES: [&str; 2] = ["qa", "slo"];

impl World {
    /// Says something of a gate, where there are any; whether somebody did.
    pub(super) fn answer_gates(&mut self, holder: Option<RolloutId>) -> bool {
        let has_gates = self.releases.iter().any(|release| !release.plan.strategy.gates.is_empty());
        let Some(rollout) = holder.filter(|_| has_gates) else { return false };
        let Some(controller) = &self.controller.running else { return false };
        let Some(record) = controller.state.rollout(&rollout) else { return false };
        let standings = gate::standings(&controller.state, record, self.controller_now()).into_iter();
        let shut: Vec<GateName> =
            standings.filter(|gate| !gate.is_open()).map(|standing| standing.gate.name.clone()).collect();
        let next = gate::at(record).map_or(1, |at| at.next);
        let asked = gate::held(&controller.state, record, next).into_iter();
        let by_controller: Vec<GateName> =
            asked.filter(|gate| gate.ask.is_some()).map(|gate| gate.name.clone()).collect();
        if self.healed {
            let Some(gate) = shut.iter().find(|gate| !by_controller.contains(gate)) else { return false };
            self.say(rollout, gate.clone(), None, GateVerdict::Open);
            return true;
        }
        if self.dice.chance(400_000) {
            return false;
        }
        let anyone = GateName::new(*self.dice.pick(&GATES)).expect("a valid name");
        let gate = if self.dice.chance(800_000) { shut.first().cloned().unwrap_or(anyone) } else { anyone };
        let verdicts = [GateVerdict::Open, GateVerdict::Open, GateVerdict::Open, GateVerdict::Closed];
        let verdict = if self.dice.chance(60_000) { GateVerdict::Failed } else { *self.dice.pick(&verdicts) };
        let batch = self.dice.chance(300_000).then(|| u32::try_from(self.dice.between(1, 3)).unwrap_or(1));
        self.say(rollout, gate, batch, verdict);
        true
    }

    fn say(&mut self, rollout: RolloutId, gate: GateName, batch: Option<u32>, verdict: GateVerdict) {
        let reason = "we looked".to_owned();
        self.ask_as("robot", Action::AnswerGate { rollout, gate, batch, verdict, reason });
    }
}
