//! What a drill would do, and what it must leave as it is.

use landfall_common::assignment::ReleaseRef;
use landfall_common::strategy::Strategy;
use landfall_common::{Duration, ReleaseName, Timestamp};

use crate::approval;
use crate::gate;
use crate::member::{Member, MemberState, Out};
use crate::record::{Convergence, Place, PlaceRecord};
use crate::refusal::Refusal;
use crate::rollout::{RolloutKind, Schema};
use crate::schema::{self, Way};
use crate::state::State;

use super::layout::{gates, lay_out};
use super::{
    Plan, before, content_is_here, defined, knows_the_schema, place_record, published, some_canary, stops,
};

/// What a drill would do now; `to` is the release that a rollback would go to, if not given.
///
/// # Errors
/// [`Refusal::NoDrill`], and those of [`preview`] and [`preview_rollback`].
pub fn preview_drill(
    state: &State,
    place: &Place,
    to: Option<&ReleaseName>,
    now: Timestamp,
) -> Result<Plan, Refusal> {
    let record = place_record(state, place)?;
    let no_drill = |reason: String| Refusal::NoDrill { place: Box::new(place.clone()), reason };
    let in_force = record.in_force().ok_or_else(|| {
        no_drill("no release was ever proven there, so that there is nothing to come back to".to_owned())
    })?;
    if let Convergence::Held { reason } | Convergence::Stopped { reason } = &record.convergence {
        let name = &in_force.release.name;
        return Err(no_drill(format!(
            "{reason}, and hosts may not run {name}; bring them to one release first"
        )));
    }
    let name = match to {
        Some(name) => name,
        None => &before(record, in_force)?.release.name,
    };
    let target = published(state, place, name)?;
    let (here, there) = (&in_force.release, &target.release);
    if there.digest == here.digest {
        return Err(no_drill(format!(
            "{name} is in force; name another release, to be taken and given back"
        )));
    }
    let base = defined(target, place)?;
    loses_no_word(state, record, here).map_err(no_drill)?;
    if !record.has_proven(there) && approval::needed(state, record, there) > 0 {
        let reason = "a release that is new there needs approvals, and a drill asks for none; `ctl drill` without a name \
                      takes one that was proven there";
        return Err(no_drill(reason.to_owned()));
    }
    if there.counter > here.counter {
        knows_the_schema(record, there)?;
        if let Schema::Due { .. } = schema::forward(record, target) {
            return Err(no_drill(format!(
                "{name} brings a migration, and a drill changes no database; rehearse it where the data may change"
            )));
        }
    } else if let Way::Down(_) | Way::Blocked { .. } = schema::way_back(state, record, there) {
        return Err(no_drill(format!(
            "{name} does not run on the schema as it is, and a drill changes no database"
        )));
    }
    stops::straight(state, record, (here, there)).map_err(no_drill)?;
    if !base.has_canary() {
        return Err(no_drill(format!("{name} has no canary there; a drill is the canary's")));
    }
    some_canary(state, place, base)?;
    gate::may_be_asked(state, there, &base.gates)?;
    content_is_here(target)?;
    let strategy =
        Strategy { canary_hold: Duration::ZERO, auto_promote: true, watch: Duration::ZERO, ..base.clone() };
    let schema = Schema::Fits { reason: "a drill changes no database".to_owned() };
    let mut plan =
        lay_out(state, place, RolloutKind::Drill, there.clone(), (strategy, None), (schema, None), now);
    plan.batches.truncate(1);
    stops::takes_none(&plan).map_err(no_drill)?;
    plan.gates = gates(state, place, RolloutKind::Drill, there, &plan.batches);
    // Whoever is uncordoned while it is under way has no part in it either: it is the canary's.
    plan.left_out.clear();
    Ok(Plan { previous: Some(here.clone()), ..plan })
}

/// What was said of hosts in the rollout before holds until the next one. A drill is no such rollout, and takes its place
/// in the books all the same.
fn loses_no_word(state: &State, record: &PlaceRecord, in_force: &ReleaseRef) -> Result<(), String> {
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
