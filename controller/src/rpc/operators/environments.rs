//! Environments: what is in force, who holds the place and who stands in line, and locks.

use landfall_common::{Duration, Rights};
use landfall_controller_core::command::Action;
use landfall_controller_core::entry;
use landfall_controller_core::record::{Place, PlaceRecord, Rehearsal};
use landfall_proto::v1 as pb;

use super::rollouts::command;
use crate::error::{ControllerError, Reason};
use crate::reactor::{Along, View};
use crate::rpc::{Caller, Context, convert};

pub(super) async fn lock(
    context: &Context,
    caller: &Caller,
    request: pb::LockEnvironmentRequest,
) -> Result<pb::Environment, ControllerError> {
    let place = convert::place(&request.application, &request.environment)?;
    let message = convert::text("message", request.message)?;
    let period = Duration::from_millis(request.valid_for_ms);
    let action = Action::Lock { place: place.clone(), message, period };
    asked(context, caller, &request.request_id, action, place).await
}

pub(super) async fn unlock(
    context: &Context,
    caller: &Caller,
    request: pb::UnlockEnvironmentRequest,
) -> Result<pb::Environment, ControllerError> {
    let place = convert::place(&request.application, &request.environment)?;
    let reason = convert::text("reason", request.reason)?;
    let action = Action::Unlock { place: place.clone(), reason };
    asked(context, caller, &request.request_id, action, place).await
}

async fn asked(
    context: &Context,
    caller: &Caller,
    request_id: &str,
    action: Action,
    place: Place,
) -> Result<pb::Environment, ControllerError> {
    let command = command(context, caller, request_id, action)?;
    context.reactor.command(command, Along::default()).await?;
    let look = {
        let place = place.clone();
        move |view: &View<'_>| view.state.place(&place).map(|record| shown(view, record))
    };
    let found = context.reactor.read(look).await?;
    found.ok_or_else(|| ControllerError::refused(Reason::NotFound, format!("nothing is known of {place}")))
}

pub(super) async fn list(
    context: &Context,
    rights: Rights,
    request: pb::ListEnvironmentsRequest,
) -> Result<pb::ListEnvironmentsResponse, ControllerError> {
    let look = move |view: &View<'_>| {
        let wanted = |asked: &str, name: &str| asked.is_empty() || asked == name;
        let places = view.state.places().filter(|record| {
            rights.see(&record.place.application, &record.place.environment)
                && wanted(&request.application, record.place.application.as_str())
                && wanted(&request.environment, record.place.environment.as_str())
        });
        places.map(|record| shown(view, record)).collect()
    };
    let environments = context.reactor.read(look).await?;
    Ok(pb::ListEnvironmentsResponse { environments })
}

fn shown(view: &View<'_>, record: &PlaceRecord) -> pb::Environment {
    pb::Environment {
        application: record.place.application.to_string(),
        environment: record.place.environment.to_string(),
        in_force: record.in_force().map(|proven| convert::release_ref(&proven.release)),
        rollout: record.holder.as_ref().map(ToString::to_string).unwrap_or_default(),
        queue: record.line.iter().map(ToString::to_string).collect(),
        rehearsed: record.rehearsed.as_ref().map(rehearsal),
        lock: view.state.lock(record, view.now).map(|lock| pb::EnvironmentLock {
            by: lock.by.to_string(),
            message: lock.message.clone(),
            since_ms: lock.since.ms(),
            until_ms: lock.until.ms(),
        }),
        closed: entry::closed_now(view.state, record, view.now).map(|closed| pb::EnvironmentClosed {
            opens_ms: closed.opens.map_or(0, |opens| opens.ms()),
            why: closed.to_string(),
        }),
        reasons: reasons(view, record),
    }
}

/// What the planner awaits in a place that no rollout holds; the one that does tells it itself.
fn reasons(view: &View<'_>, record: &PlaceRecord) -> Vec<String> {
    let report = view.report.of(&record.place).filter(|_| record.holder.is_none());
    report.map(|report| report.of_holder().collect()).unwrap_or_default()
}

pub(super) fn rehearsal(rehearsal: &Rehearsal) -> pb::Rehearsal {
    pb::Rehearsal {
        rollout: rehearsal.rollout.to_string(),
        release: Some(convert::release_ref(&rehearsal.release)),
        back_to: Some(convert::release_ref(&rehearsal.back_to)),
        at_ms: rehearsal.at.ms(),
        hosts: rehearsal.hosts,
        there_ms: milliseconds(rehearsal.there),
        back_ms: milliseconds(rehearsal.back),
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
