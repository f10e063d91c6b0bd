//! Gates that others hold: what an integration says of one, and how those of a rollout stand.

use landfall_common::GateName;
use landfall_common::strategy::Gate;
use landfall_controller_core::command::Action;
use landfall_controller_core::gate::{self, GateAnswer, GateVerdict};
use landfall_controller_core::preview::{Batch, Plan};
use landfall_controller_core::rollout::Rollout;
use landfall_proto::v1 as pb;

use super::rollouts::{command, get};
use crate::error::ControllerError;
use crate::reactor::{Along, View};
use crate::rpc::{Caller, Context, convert};

pub(super) async fn answer(
    context: &Context,
    caller: &Caller,
    request: pb::AnswerGateRequest,
) -> Result<pb::Rollout, ControllerError> {
    let rollout = convert::rollout_id(&request.rollout)?;
    let gate = GateName::new(&request.gate).map_err(|error| ControllerError::invalid(error.to_string()))?;
    let verdict = match request.verdict() {
        pb::GateVerdict::Unspecified => {
            return Err(ControllerError::invalid("verdict says nothing that this controller knows"));
        }
        pb::GateVerdict::Open => GateVerdict::Open,
        pb::GateVerdict::Closed => GateVerdict::Closed,
        pb::GateVerdict::Failed => GateVerdict::Failed,
    };
    let reason = convert::text("reason", request.reason)?;
    let batch = (request.batch > 0).then_some(request.batch);
    let action = Action::AnswerGate { rollout: rollout.clone(), gate, batch, verdict, reason };
    let command = command(context, caller, &request.request_id, action)?;
    context.reactor.command(command, Along::default()).await?;
    get(context, &rollout).await
}

/// The gates of a rollout that goes on, and what was said of those that are asked.
pub(super) fn shown(view: &View<'_>, rollout: &Rollout) -> Vec<pb::RolloutGate> {
    let Some(place) = view.state.place(&rollout.place).filter(|_| !rollout.ended()) else {
        return Vec::new();
    };
    let asked = gate::standings(view.state, rollout);
    let next = gate::next(rollout);
    let all = gate::of(view.state, place, &rollout.release).into_iter();
    let all = all.filter(|gate| {
        (1..=rollout.batches.max(1)).any(|batch| gate::holds(gate, rollout.kind, batch, rollout.batches))
    });
    let gate = |gate: &Gate| {
        let asked = asked.iter().find(|standing| standing.gate.name == gate.name);
        let answer = asked.and_then(|standing| standing.answer);
        pb::RolloutGate {
            name: gate.name.to_string(),
            before: gate.before.to_string(),
            asked: asked.and(next).unwrap_or_default(),
            verdict: answer.map_or(pb::GateVerdict::Unspecified, |answer| verdict(answer.verdict)).into(),
            by: answer.map(|answer| answer.by.to_string()).unwrap_or_default(),
            at_ms: answer.map(|answer| answer.at.ms()).unwrap_or_default(),
            reason: answer.map(|GateAnswer { reason, .. }| reason.clone()).unwrap_or_default(),
            deadline_ms: u64::try_from(gate.deadline.as_millis()).unwrap_or(u64::MAX),
        }
    };
    all.map(gate).collect()
}

fn verdict(verdict: GateVerdict) -> pb::GateVerdict {
    match verdict {
        GateVerdict::Open => pb::GateVerdict::Open,
        GateVerdict::Closed => pb::GateVerdict::Closed,
        GateVerdict::Failed => pb::GateVerdict::Failed,
    }
}

/// What else the batch after this one waits for.
pub(super) fn after(plan: &Plan, batch: &Batch) -> Option<String> {
    let named = plan.gates.iter().filter(|planned| planned.batches.contains(&(batch.number + 1)));
    let named: Vec<&str> = named.map(|planned| planned.gate.name.as_str()).collect();
    match named.as_slice() {
        [] => None,
        [one] => Some(format!("gate {one} is open")),
        several => Some(format!("gates {} are open", several.join(", "))),
    }
}

/// What is to be known of the gates before a rollout begins.
pub(super) fn notes(plan: &Plan) -> Vec<String> {
    let note = |gate: &Gate| {
        let deadline = landfall_common::time::human::format(gate.deadline);
        format!(
            "gate {} must be open before {}: `ctl gate open {0}`; without an answer for {deadline} the rollout pauses",
            gate.name, gate.before
        )
    };
    plan.gates.iter().map(|planned| note(&planned.gate)).collect()
}
