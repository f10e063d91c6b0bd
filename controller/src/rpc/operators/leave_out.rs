//! Hosts that are left out: of the rollout under way, or of all that is rolled out.

use std::collections::BTreeSet;

use landfall_common::{HostId, Role};
use landfall_controller_core::command::{Action, Answer};
use landfall_controller_core::record::Place;
use landfall_proto::v1 as pb;

use super::hosts;
use super::rollouts::{self, command};
use crate::error::ControllerError;
use crate::reactor::{Along, View};
use crate::rpc::{Caller, Context, convert};

/// So many hosts in one request.
pub(super) const HOSTS_AT_MOST: usize = 1000;

pub(super) async fn exclude(
    context: &Context,
    caller: &Caller,
    request: pb::ExcludeHostsRequest,
) -> Result<Option<pb::Rollout>, ControllerError> {
    let (_, hosts) = named(request.hosts)?;
    let rollout = match &*request.rollout {
        "" => None,
        id => Some(convert::rollout_id(id)?),
    };
    let reason = convert::text("reason", request.reason)?;
    asked(context, caller, &request.request_id, Action::Exclude { hosts, rollout, reason }).await
}

pub(super) async fn include(
    context: &Context,
    caller: &Caller,
    request: pb::IncludeHostsRequest,
) -> Result<Option<pb::Rollout>, ControllerError> {
    let (_, hosts) = named(request.hosts)?;
    let reason = convert::text("reason", request.reason)?;
    asked(context, caller, &request.request_id, Action::Include { hosts, reason }).await
}

async fn asked(
    context: &Context,
    caller: &Caller,
    request_id: &str,
    action: Action,
) -> Result<Option<pb::Rollout>, ControllerError> {
    let command = command(context, caller, request_id, action)?;
    match context.reactor.command(command, Along::default()).await?.answer {
        Answer::Rollout { id } => Ok(Some(rollouts::get(context, &id).await?)),
        Answer::Accepted => Ok(None),
    }
}

pub(super) async fn cordon(
    context: &Context,
    caller: &Caller,
    request: pb::CordonHostsRequest,
) -> Result<Vec<pb::Host>, ControllerError> {
    let (names, hosts) = named(request.hosts)?;
    let reason = convert::text("reason", request.reason)?;
    let command = command(context, caller, &request.request_id, Action::Cordon { hosts, reason })?;
    context.reactor.command(command, Along::default()).await?;
    shown(context, names).await
}

pub(super) async fn uncordon(
    context: &Context,
    caller: &Caller,
    request: pb::UncordonHostsRequest,
) -> Result<Vec<pb::Host>, ControllerError> {
    let (names, hosts) = named(request.hosts)?;
    let reason = convert::text("reason", request.reason)?;
    let command = command(context, caller, &request.request_id, Action::Uncordon { hosts, reason })?;
    context.reactor.command(command, Along::default()).await?;
    shown(context, names).await
}

pub(super) async fn drain(
    context: &Context,
    caller: &Caller,
    request: pb::DrainHostsRequest,
) -> Result<Vec<pb::Host>, ControllerError> {
    let (names, hosts) = named(request.hosts)?;
    let reason = convert::text("reason", request.reason)?;
    let beyond_budget = convert::text("beyond_budget", request.beyond_budget)?.trim().to_owned();
    if !beyond_budget.is_empty() {
        let asked = hosts.clone();
        let places = move |view: &View<'_>| -> BTreeSet<Place> {
            asked.iter().filter_map(|host| Some(view.state.host(host)?.record.place.clone())).collect()
        };
        for place in context.reactor.read(places).await? {
            caller.must_be(Role::Manager, &place, "to take out more hosts than the budget allows")?;
        }
    }
    let action = Action::Drain { hosts, reason, beyond_budget };
    let command = command(context, caller, &request.request_id, action)?;
    context.reactor.command(command, Along::default()).await?;
    shown(context, names).await
}

pub(super) async fn undrain(
    context: &Context,
    caller: &Caller,
    request: pb::UndrainHostsRequest,
) -> Result<Vec<pb::Host>, ControllerError> {
    let (names, hosts) = named(request.hosts)?;
    let reason = convert::text("reason", request.reason)?;
    let command = command(context, caller, &request.request_id, Action::Undrain { hosts, reason })?;
    context.reactor.command(command, Along::default()).await?;
    shown(context, names).await
}

pub(super) fn named(hosts: Vec<String>) -> Result<(Vec<HostId>, BTreeSet<HostId>), ControllerError> {
    if hosts.is_empty() || hosts.len() > HOSTS_AT_MOST {
        return Err(ControllerError::invalid(format!("name one to {HOSTS_AT_MOST} hosts")));
    }
    let name = |host| HostId::new(host).map_err(|error| ControllerError::invalid(error.to_string()));
    let names: Vec<HostId> = hosts.into_iter().map(name).collect::<Result<_, _>>()?;
    let hosts = names.iter().cloned().collect();
    Ok((names, hosts))
}

pub(super) async fn shown(context: &Context, names: Vec<HostId>) -> Result<Vec<pb::Host>, ControllerError> {
    let live = context.live.clone();
    let look = move |view: &View<'_>| {
        let found = names.iter().filter_map(|host| view.state.host(host));
        found.map(|host| hosts::message(host, &live)).collect()
    };
    context.reactor.read(look).await
}
