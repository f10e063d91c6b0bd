//! What on hosts is not as it was applied, in which facts they differ, and asking a host to put things right.

use landfall_common::assignment::ReleaseRef;
use landfall_common::{HostId, Rights};
use landfall_controller_core::command::{Action, Command};
use landfall_controller_core::facts::{self, Difference, HostFacts};
use landfall_controller_core::observation::Host;
use landfall_controller_core::record::Place;
use landfall_proto::v1 as pb;

use super::page;
use crate::error::{ControllerError, Reason};
use crate::reactor::Along;
use crate::rpc::live::Said;
use crate::rpc::{Caller, Context, convert, fresh_rollout};

/// So many differences, values of each in one environment, and hosts of each value are told.
const MAX_DIFFERENCES: usize = 64;
const MAX_VALUES: usize = 16;
const MAX_HOSTS: usize = 20;

struct Known {
    host: HostId,
    place: Place,
    connected: bool,
    active: Option<ReleaseRef>,
    said: Said,
}

pub(super) async fn list(
    context: &Context,
    rights: Rights,
    request: pb::ListDriftRequest,
) -> Result<pb::ListDriftResponse, ControllerError> {
    let live = context.live.clone();
    let application = request.application.clone();
    let known = context.reactor.read(move |view| {
        let seen = |place: &Place| rights.see(&place.application, &place.environment);
        let hosts = view.state.all_hosts().filter(|host| seen(&host.record.place));
        let hosts = hosts
            .filter(|host| application.is_empty() || application == host.record.place.application.as_str());
        let mut known: Vec<Known> = hosts
            .map(|host| Known {
                host: host.record.id.clone(),
                place: host.record.place.clone(),
                connected: host.seen.connection.is_some(),
                active: active(host),
                said: live.of(&host.record.id).unwrap_or_default(),
            })
            .collect();
        known.sort_by(|one, two| one.host.cmp(&two.host));
        known
    });
    let known = known.await?;
    if !request.host.is_empty() && !known.iter().any(|known| known.host.as_str() == request.host) {
        let message = format!("there is no host {:?}; `ctl hosts` lists them", request.host);
        return Err(ControllerError::refused(Reason::HostUnknown, message));
    }
    let facts = if request.page_token.is_empty() { differences(&known) } else { Vec::new() };
    let wanted = |known: &&Known| {
        (request.environment.is_empty() || request.environment == known.place.environment.as_str())
            && (request.host.is_empty() || request.host == known.host.as_str())
            && (request.page_token.is_empty() || known.host.as_str() > request.page_token.as_str())
    };
    let page = page::fill(known.iter().filter(wanted).map(message));
    let next_page_token = page.token(|host: &pb::HostDrift| host.host.clone());
    Ok(pb::ListDriftResponse { hosts: page.items, facts, next_page_token })
}

/// The release that a host last said to be active.
pub(super) fn active(host: &Host) -> Option<ReleaseRef> {
    let report = &host.seen.report.as_ref()?.report;
    report.active.as_ref().map(|active| active.release.clone())
}

fn message(known: &Known) -> pb::HostDrift {
    let drift = known.said.drift.as_ref();
    pb::HostDrift {
        host: known.host.to_string(),
        application: known.place.application.to_string(),
        environment: known.place.environment.to_string(),
        connected: known.connected,
        active: known.active.as_ref().map(|active| active.name.to_string()).unwrap_or_default(),
        is_of_active: drift.is_some_and(|drift| drift.is_of(known.active.as_ref())),
        drift: drift.map(|drift| (*drift.message).clone()),
        looked_ms: drift.map_or(0, |drift| drift.looked.ms()),
        read_ms: drift.and_then(|drift| drift.read).map_or(0, landfall_common::Timestamp::ms),
    }
}

fn differences(known: &[Known]) -> Vec<pb::FactDifference> {
    let said = known.iter().map(|known| HostFacts {
        host: known.host.clone(),
        place: known.place.clone(),
        facts: known.said.facts.clone(),
    });
    let found = facts::differences(&said.collect::<Vec<_>>());
    found.into_iter().take(MAX_DIFFERENCES).map(difference).collect()
}

fn difference(difference: Difference) -> pb::FactDifference {
    let mut values = Vec::new();
    for (environment, here) in difference.values {
        let mut here: Vec<(String, Vec<HostId>)> = here.into_iter().collect();
        // The usual value first; the sort is stable, so that equal ones stay in the order of their names.
        here.sort_by_key(|(_, hosts)| std::cmp::Reverse(hosts.len()));
        values.extend(here.into_iter().take(MAX_VALUES).map(|(value, hosts)| pb::FactValue {
            environment: environment.to_string(),
            value,
            count: hosts.len() as u64,
            hosts: hosts.iter().take(MAX_HOSTS).map(ToString::to_string).collect(),
        }));
    }
    pb::FactDifference {
        application: difference.application.to_string(),
        fact: difference.fact,
        inside: difference.inside.iter().map(ToString::to_string).collect(),
        between: difference.between,
        values,
    }
}

pub(super) async fn repair(
    context: &Context,
    caller: &Caller,
    request: pb::RepairDriftRequest,
) -> Result<pb::RepairDriftResponse, ControllerError> {
    let host = HostId::new(request.host).map_err(|error| ControllerError::invalid(error.to_string()))?;
    let id = convert::request_id(&request.request_id)?;
    let reason = convert::text("reason", request.reason)?;
    let asked = host.clone();
    let connected =
        context.reactor.read(move |view| view.state.host(&asked).map(|host| host.seen.connection.is_some()));
    if connected.await? == Some(false) {
        let message =
            format!("{host} is not connected, so that it cannot be asked for anything; nothing was changed");
        return Err(ControllerError::refused(Reason::Precondition, message));
    }
    let now = context.clock.now();
    let command = Command {
        request: id.clone(),
        by: caller.actor(),
        origin: caller.origin.clone(),
        fresh: fresh_rollout(now),
        action: Action::RepairDrift { host: host.clone(), reason },
    };
    context.reactor.command(command, Along::default()).await?;
    // Asked again by the same request, the host does it again: what is right stays as it is.
    context.live.repairing(&host, id.to_string());
    context.reactor.repair_drift(host, id.to_string()).await?;
    Ok(pb::RepairDriftResponse {})
}

/// What a host says of its drift is taken in; the end of a repair that was asked for goes into the log.
pub(crate) async fn said(context: &Context, host: &HostId, drift: pb::Drift) -> Result<(), ControllerError> {
    use landfall_controller_core::log::{Actor, LogEvent, NewEntry};
    let now = context.clock.now();
    let Some(repaired) = context.live.drift(host, drift, now) else { return Ok(()) };
    let asked = host.clone();
    let place =
        context.reactor.read(move |view| view.state.host(&asked).map(|host| host.record.place.clone()));
    let Some(Place { application, environment }) = place.await? else { return Ok(()) };
    let event = LogEvent::DriftRepaired {
        host: host.clone(),
        application,
        environment,
        restored: repaired.restored,
        failed: repaired.failed.len() as u64,
    };
    let entry = NewEntry { at: now, actor: Actor::Host(host.clone()), origin: String::new(), event };
    context.writer.commit(crate::store::Batch::new(), vec![entry]).await
}
