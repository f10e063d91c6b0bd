//! What a drill must leave as it is.

use landfall_common::assignment::ReleaseRef;

use crate::member::{Member, MemberState, Out};
use crate::record::PlaceRecord;
use crate::rollout::RolloutKind;
use crate::state::State;

/// What was said of hosts in the rollout before holds until the next one. A drill is no such rollout, and takes its place
/// in the books all the same.
pub(super) fn loses_no_word(
    state: &State,
    record: &PlaceRecord,
    in_force: &ReleaseRef,
) -> Result<(), String> {
    let last = record.last.as_ref().and_then(|last| state.rollout(last));
    // What failed in a drill is the canary's, and so is the next one.
    let was_drill = last.is_some_and(|last| last.kind == RolloutKind::Drill);
    let members = last.into_iter().flat_map(|last| state.members(&last.id));
    let free = |member: &&Member| state.host(&member.host).is_some_and(|host| host.record.cordon.is_none());
    for Member { host, state: member, left_out, .. } in members.filter(free) {
        let release = &in_force.name;
        if left_out.as_ref().is_some_and(|left_out| left_out.how == Out::Excluded) {
            return Err(format!(
                "{host} was excluded from the rollout before, and a drill would end that; `ctl include {host}` has it take \
                 {release}, `ctl hosts cordon {host}` leaves it alone"
            ));
        }
        if !was_drill
            && left_out.is_none()
            && matches!(member, MemberState::Failed { .. } | MemberState::ReturnFailed)
        {
            return Err(format!(
                "{host} failed in the rollout before, and a drill would have it tried again; `ctl retry` does, `ctl hosts \
                 cordon {host}` leaves it alone"
            ));
        }
    }
    Ok(())
}
