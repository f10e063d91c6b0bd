//! What a restart or a reload of services would do.

use landfall_common::strategy::Strategy;
use landfall_common::{Duration, Timestamp};

use crate::command::Overrides;
use crate::ranges;
use crate::reason::Hosts;
use crate::record::Convergence;
use crate::refusal::Refusal;
use crate::restart::{Restart, RestartRequest};
use crate::rollout::{RolloutKind, Schema};
use crate::state::State;

use super::layout::lay_out;
use super::{Plan, place_record, some_canary};

/// What a restart or a reload would do now.
///
/// # Errors
/// [`Refusal::NoRestart`], and those of [`preview`].
pub fn preview_restart(state: &State, request: &RestartRequest, now: Timestamp) -> Result<Plan, Refusal> {
    let RestartRequest { place, kind, services, .. } = request;
    let record = place_record(state, place)?;
    let none = |reason: String| Refusal::NoRestart { kind: *kind, place: Box::new(place.clone()), reason };
    let in_force = record
        .in_force()
        .ok_or_else(|| none("no release was ever proven there; `ctl release` brings one".to_owned()))?;
    let release = in_force.release.clone();
    if let Convergence::Held { reason } | Convergence::Stopped { reason } = &record.convergence {
        return Err(none(format!(
            "{reason}, and hosts may not run {}; bring them to one release first",
            release.name
        )));
    }
    if services.is_empty() {
        return Err(none(format!("{} has no service that it could be done to", release.name)));
    }
    if request.release != release.digest {
        return Err(none(format!("{} has come into force meanwhile; ask again", release.name)));
    }
    let too_old: Hosts = (state.hosts(place))
        .filter(|host| host.record.cordon.is_none())
        .filter(|host| host.fresh(now).is_some_and(|received| !received.report.restarts))
        .map(|host| host.record.id.clone())
        .collect();
    if !too_old.is_empty() {
        return Err(none(format!(
            "the agent of {too_old} is of a version that cannot {} services; upgrade it first",
            kind.as_str()
        )));
    }
    let Overrides { analysis, watch, auto_rollback, .. } = &request.overrides;
    if analysis.is_some() || watch.is_some() || auto_rollback.is_some() {
        let rule =
            "the same release goes on: there is nothing to analyse, to watch or to go back to".to_owned();
        return Err(Refusal::Strategy { rule });
    }
    let own = state.release(&place.application, &release.name);
    if let Some((known, base)) = own.and_then(|own| Some((own, own.environments.get(&place.environment)?))) {
        ranges::check(state, place, known, (base, &request.overrides))?;
    }
    let own = own.and_then(|own| own.environments.get(&place.environment).cloned()).unwrap_or_default();
    // There is nothing to compare with, and nothing that was brought to be watched.
    let strategy = Strategy { analysis: None, watch: Duration::ZERO, ..request.overrides.over(&own) };
    strategy.check().map_err(|rule| Refusal::Strategy { rule })?;
    some_canary(state, place, &strategy)?;
    let schema = (Schema::Fits { reason: "a restart changes no database".to_owned() }, None);
    let plan = lay_out(state, place, RolloutKind::Restart, release.clone(), (strategy, None), schema, now);
    let restart = Restart { kind: *kind, services: services.clone(), reason: request.reason.clone() };
    Ok(Plan { previous: Some(release), restart: Some(restart), ..plan })
}
