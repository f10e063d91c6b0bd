//! Yes and no to what stands in line for approvals, and what becomes of a yes when its owner is removed.

use landfall_common::OperatorName;
use landfall_controller_core::approval;
use landfall_controller_core::command::{Action, Command};
use landfall_controller_core::log::{Actor, NewEntry};
use landfall_controller_core::record::{Change, Record};
use landfall_controller_core::rollout::Rollout;
use landfall_controller_core::{Output, State, decide};
use landfall_proto::v1 as pb;

use super::rollouts::{command, get};
use crate::authorise::deny_key;
use crate::clock::Clock;
use crate::error::{ControllerError, Reason};
use crate::initialise::fresh_request;
use crate::reactor::{Along, View};
use crate::rpc::{Caller, Context, convert, fresh_rollout};
use crate::store::{Batch, Store};

pub(super) async fn approve(
    context: &Context,
    caller: &Caller,
    request: pb::ApproveRolloutRequest,
) -> Result<pb::Rollout, ControllerError> {
    let rollout = convert::rollout_id(&request.rollout)?;
    let content = convert::digest(&request.content)?;
    let reason = convert::text("reason", request.reason)?;
    let action = Action::Approve { rollout: rollout.clone(), content, reason };
    said(context, caller, &request.request_id, action).await?;
    get(context, &rollout).await
}

pub(super) async fn reject(
    context: &Context,
    caller: &Caller,
    request: pb::RejectRolloutRequest,
) -> Result<pb::Rollout, ControllerError> {
    let rollout = convert::rollout_id(&request.rollout)?;
    let reason = convert::text("reason", request.reason)?;
    said(context, caller, &request.request_id, Action::Reject { rollout: rollout.clone(), reason }).await?;
    get(context, &rollout).await
}

/// A word that counts must not come in while its owner is being removed, and be found by nobody.
async fn said(
    context: &Context,
    caller: &Caller,
    request_id: &str,
    action: Action,
) -> Result<(), ControllerError> {
    let command = command(context, caller, request_id, action)?;
    let _nobody_is_removed = context.admission.issue(&context.clock).await;
    let certificate = &caller.certificate;
    if context.denied.denies(&deny_key(&certificate.identity), certificate.issued_at) {
        let message = format!("{} was removed from this controller", certificate.identity.name());
        return Err(ControllerError::refused(Reason::Removed, message));
    }
    context.reactor.command(command, Along::default()).await.map(drop)
}

/// Takes back what somebody has approved who is about to be removed. Call it while nobody can come in, and before
/// the removal: if that fails, approvals are asked for once more.
///
/// # Errors
/// [`ControllerError::Store`], [`ControllerError::Stopping`].
pub(crate) async fn withdraw(
    context: &Context,
    by: Actor,
    origin: &str,
    of: &OperatorName,
) -> Result<(), ControllerError> {
    let command = withdrawal(&context.clock, by, origin, of)?;
    context.reactor.command(command, Along::default()).await.map(drop)
}

/// The same where no controller is running: what is to be committed together with the removal.
///
/// # Errors
/// [`ControllerError::Store`], [`ControllerError::Record`].
pub(crate) async fn withdrawn(
    store: &dyn Store,
    clock: &Clock,
    of: &OperatorName,
) -> Result<(Batch, Vec<NewEntry>), ControllerError> {
    let mut records = Vec::new();
    for entry in store.scan("rollout/").await?.entries {
        records.push(convert::stored::<Record>(&entry.key, &entry.value)?);
    }
    let now = clock.now();
    let command = withdrawal(clock, Actor::Controller, "", of)?;
    let Output { changes, log, .. } = decide(&State::load(records, now), &command, now)?.output;
    let put = |batch: Batch, change: &Change| match change {
        Change::Put { record } => batch.put(change.key().to_string(), convert::to_store(record)),
        Change::Delete { key } => batch.delete(key.to_string()),
    };
    Ok((changes.iter().fold(Batch::new(), put), log))
}

fn withdrawal(clock: &Clock, by: Actor, origin: &str, of: &OperatorName) -> Result<Command, ControllerError> {
    Ok(Command {
        request: fresh_request()?,
        by,
        origin: origin.to_owned(),
        fresh: fresh_rollout(clock.now()),
        action: Action::WithdrawApprovals { of: of.clone() },
    })
}

/// What a rollout needs and has.
pub(super) fn shown(view: &View<'_>, rollout: &Rollout) -> Option<pb::RolloutApprovals> {
    let in_line = rollout.in_line();
    let place = view.state.place(&rollout.place).filter(|_| in_line.is_some());
    let needed = place.map_or(0, |place| approval::needed(view.state, place, &rollout.release));
    if needed == 0 && rollout.approvals.is_empty() {
        return None;
    }
    let given = rollout.approvals.iter().map(|approval| pb::RolloutApproval {
        by: approval.by.to_string(),
        at_ms: approval.at.ms(),
        reason: approval.reason.clone(),
    });
    Some(pb::RolloutApprovals {
        // What has begun needed no more than it has.
        needed: needed.max(if in_line.is_some() {
            0
        } else {
            u32::try_from(rollout.approvals.len()).unwrap_or(u32::MAX)
        }),
        given: given.collect(),
        content: approval::content(rollout).map(|content| content.to_string()).unwrap_or_default(),
        terms: in_line.map(approval::terms).unwrap_or_default(),
    })
}
