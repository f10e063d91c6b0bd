//! Gates that others hold: what was said of them, and what must have been said by then.

use landfall_common::strategy::{Before, Gate};
use landfall_controller_core::State;
use landfall_controller_core::gate::{GateVerdict, WATCH};
use landfall_controller_core::rollout::{Rollout, RolloutKind};

use super::Checks;

impl Checks {
    /// Up to the batch of a host that is let go, somebody has opened each gate for each batch, or has overruled it.
    pub(super) fn gates_were_open(&self, state: &State, rollout: &Rollout, batch: u32) {
        let of = match rollout.kind {
            RolloutKind::Forward => rollout.batches,
            RolloutKind::Drill => 2,
            RolloutKind::Rollback | RolloutKind::Restart => return,
        };
        for gate in gates_of(state, rollout) {
            let asked = |batch: &u32| match gate.before {
                Before::First => *batch == 1,
                Before::Second => *batch == 2 || of == 1,
                Before::Each => true,
            };
            for batch in (1..=batch).filter(asked).map(u64::from) {
                let said = self.said.get(&(rollout.id.clone(), batch, gate.name.clone()));
                let open =
                    said == Some(&GateVerdict::Open) || self.overruled.contains(&(rollout.id.clone(), batch));
                assert!(open, "{} began batch {batch}, and gate {} is {said:?}", rollout.id, gate.name);
            }
        }
    }

    /// A watch is over: nobody has shut a gate meanwhile, or somebody has overruled that; and whom the controller asks has
    /// said that it is open.
    pub(super) fn gates_held_on(&self, state: &State, rollout: &Rollout) {
        let watch = u64::from(WATCH);
        if rollout.kind != RolloutKind::Forward
            || !self.watched.contains_key(&rollout.id)
            || self.overruled.contains(&(rollout.id.clone(), watch))
        {
            return;
        }
        for gate in gates_of(state, rollout).into_iter().filter(|gate| gate.before != Before::First) {
            let said = self.said.get(&(rollout.id.clone(), watch, gate.name.clone()));
            let open = said.map_or(gate.ask.is_none(), |said| *said == GateVerdict::Open);
            assert!(open, "the watch of {} was over, and gate {} is {said:?}", rollout.id, gate.name);
        }
    }
}

/// By the definitions: of two with the same name the one in force counts.
fn gates_of<'s>(state: &'s State, rollout: &Rollout) -> Vec<&'s Gate> {
    let release = state.release(&rollout.place.application, &rollout.release.name).unwrap();
    let own = &release.environments[&rollout.place.environment].gates;
    // Where this is its last step as well, it is in force itself by now.
    let in_force = match rollout.ended() {
        true => rollout.previous.as_ref(),
        false => state.place(&rollout.place).and_then(|place| Some(&place.in_force()?.release)),
    };
    let in_force = in_force.and_then(|there| state.release(&rollout.place.application, &there.name));
    let in_force = in_force.map_or(&[][..], |there| &there.environments[&rollout.place.environment].gates);
    let new = own.iter().filter(|gate| in_force.iter().all(|there| there.name != gate.name));
    in_force.iter().chain(new).collect()
}
