//! Hosts that requests are led away from: how many may be, and who is.

use landfall_common::strategy::Strategy;

use crate::record::Place;
use crate::rollout::Rollout;
use crate::state::State;

/// How many hosts of a place may be out at the same time: as the rollout under way says, or else what is in force.
pub(crate) fn may_be_out(state: &State, place: &Place) -> usize {
    let all = state.hosts(place).count();
    let Some(record) = state.place(place) else { return 0 };
    let holder = record.holder.as_ref().and_then(|id| state.rollout(id)).filter(|rollout| !rollout.ended());
    let own = |rollout: &Rollout| rollout.strategy.max_unavailable;
    let in_force = || {
        let release = state.release(&place.application, &record.in_force()?.release.name)?;
        release.environments.get(&place.environment).map(|strategy| strategy.max_unavailable)
    };
    let most = holder.map(own).or_else(in_force).unwrap_or(Strategy::default().max_unavailable);
    most.at_least_one(all)
}
