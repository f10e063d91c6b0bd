//! Gates that others hold: what an integration says of one, and how those of a rollout stand.

use landfall_common::strategy::Gate;
use landfall_common::time::human;
use landfall_common::{Duration, GateName};
use landfall_controller_core::command::Action;
use landfall_controller_core::gate::{self, GateVerdict};
use landfall_controller_core::preview::{Batch, Plan, PlannedGate};
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
    let asked = gate::standings(view.state, rollout, view.now);
    let next = gate::at(rollout).map(|at| at.next);
    let all = gate::of(view.state, place, &rollout.release).into_iter();
    let all = all.filter(|gate| {
        (1..=rollout.batches.max(1)).any(|batch| gate::holds(gate, rollout.kind, batch, rollout.batches))
    });
    let gate = |gate: &Gate| {
        let asked = asked.iter().find(|standing| standing.gate.name == gate.name);
        let said = asked.and_then(|standing| standing.said);
        let ask = gate.ask.as_ref();
        let ms = |period: Duration| u64::try_from(period.as_millis()).unwrap_or(u64::MAX);
        pb::RolloutGate {
            name: gate.name.to_string(),
            before: gate.before.to_string(),
            asked: asked.and(next).unwrap_or_default(),
            watched: asked.and(next) == Some(gate::WATCH),
            verdict: said.map_or(pb::GateVerdict::Unspecified, |said| verdict(said.verdict)).into(),
            by: said.map(|said| said.by.to_string()).unwrap_or_default(),
            at_ms: said.map(|said| said.since.ms()).unwrap_or_default(),
            reason: said.map(|said| said.reason.to_owned()).unwrap_or_default(),
            deadline_ms: ms(gate.deadline),
            url: ask.map(|ask| ask.url.to_string()).unwrap_or_default(),
            every_ms: ask.map(|ask| ms(ask.every)).unwrap_or_default(),
            error: asked.and_then(|standing| standing.error).unwrap_or_default().to_owned(),
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
    let note = |PlannedGate { gate, can_answer, .. }: &PlannedGate| {
        let Gate { name, before, deadline, ask } = gate;
        let who = match ask {
            None => format!("`ctl gate open {name}`"),
            Some(ask) if *can_answer => {
                format!("the controller asks {} every {}", ask.url, human::format(ask.every))
            }
            // A release that brings one is refused.
            Some(ask) => format!(
                "the release in force has it asked at {}, which controller.toml does not allow, and `ctl promote` \
                 overrules it",
                ask.url
            ),
        };
        let deadline = human::format(*deadline);
        let on = match gate.holds_on() && !plan.strategy.watch.is_zero() {
            true => "; it holds on in the watch",
            false => "",
        };
        format!(
            "gate {name} must be open before {before}: {who}; without an answer for {deadline} the rollout pauses{on}"
        )
    };
    plan.gates.iter().map(note).collect()
}
