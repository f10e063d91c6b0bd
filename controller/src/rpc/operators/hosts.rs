//! The hosts, with what they say of themselves.

use landfall_common::{HostId, Rights};
use landfall_controller_core::command::{Action, Command};
use landfall_controller_core::observation::Host;
use landfall_controller_core::record::Word;
use landfall_proto::v1 as pb;

use super::page;
use crate::authorise::deny_key;
use crate::error::ControllerError;
use crate::identity::Identity;
use crate::reactor::Along;
use crate::rpc::{Caller, Context, convert, fresh_rollout};
use crate::store::Batch;

/// The keys of denied names in the store.
pub(crate) const DENIED: &str = "denied/";

pub(super) async fn list(
    context: &Context,
    rights: Rights,
    request: pb::ListHostsRequest,
) -> Result<pb::ListHostsResponse, ControllerError> {
    let live = context.live.clone();
    let wanted = move |host: &Host| {
        let place = &host.record.place;
        rights.see(&place.application, &place.environment)
            && (request.application.is_empty() || request.application == place.application.as_str())
            && (request.environment.is_empty() || request.environment == place.environment.as_str())
            && (request.page_token.is_empty() || host.record.id.as_str() > request.page_token.as_str())
    };
    let page = context
        .reactor
        .read(move |view| {
            let mut hosts: Vec<&Host> = view.state.all_hosts().filter(|host| wanted(host)).collect();
            hosts.sort_by(|one, two| one.record.id.cmp(&two.record.id));
            page::fill(hosts.into_iter().map(|host| message(host, &live)))
        })
        .await?;
    let next_page_token = page.token(|host| host.id.clone());
    Ok(pb::ListHostsResponse { hosts: page.items, next_page_token })
}

/// A host as operators see it.
pub(super) fn message(host: &Host, live: &crate::rpc::live::Live) -> pb::Host {
    let said = live.of(&host.record.id).unwrap_or_default();
    let active = super::drift::active(host);
    // Of a release that is not active any more it tells nothing.
    let drift = said.drift.filter(|drift| drift.is_of(active.as_ref()));
    pb::Host {
        id: host.record.id.to_string(),
        application: host.record.place.application.to_string(),
        environment: host.record.place.environment.to_string(),
        labels: host.record.labels.iter().map(|(key, value)| (key.to_string(), value.clone())).collect(),
        enrolled_ms: host.record.enrolled_at.ms(),
        connected: host.seen.connection.is_some(),
        last_seen_ms: host.seen.heard_at.map_or(0, landfall_common::Timestamp::ms),
        report: host.seen.report.as_ref().map(|received| convert::report_message(&received.report)),
        figures: said.figures.map(|figures| *figures),
        facts: said.facts,
        agent_version: said.version,
        certificate_expires_ms: said.certificate_expires.ms(),
        drift: drift.map(|drift| pb::DriftSummary {
            total: drift.total(),
            looked_ms: drift.looked.ms(),
            digest: drift.message.digest.clone(),
        }),
        cordon: host.record.cordon.as_ref().map(word),
        drain: host.record.drain.as_ref().map(|drain| word(&drain.word)),
    }
}

fn word(word: &Word) -> pb::Cordon {
    pb::Cordon { by: word.by.to_string(), reason: word.reason.clone(), since_ms: word.since.ms() }
}

pub(super) async fn remove(
    context: &Context,
    caller: &Caller,
    request: pb::RemoveHostRequest,
) -> Result<pb::RemoveHostResponse, ControllerError> {
    let host = HostId::new(request.host).map_err(|error| ControllerError::invalid(error.to_string()))?;
    let reason = convert::text("reason", request.reason)?;
    let removing = context.admission.remove(&context.clock).await;
    let now = removing.now;
    let denied = deny_key(&Identity::Host(host.clone()));
    let batch = Batch::new().put(format!("{DENIED}{denied}"), convert::to_store(&now));
    let command = Command {
        request: convert::request_id(&request.request_id)?,
        by: caller.actor(),
        origin: caller.origin.clone(),
        fresh: fresh_rollout(now),
        action: Action::Remove { host: host.clone(), reason },
    };
    let done = context.reactor.command(command, Along { batch, entries: Vec::new() }).await?;
    // As it was stored: a repeated request must not deny a host that has joined anew since, and must make up
    // for what the first one was kept from.
    let key = format!("{DENIED}{denied}");
    if let Some(stored) = context.store.get(&key).await? {
        context.denied.deny(denied, convert::stored(&key, &stored.value)?);
    }
    if !done.repeated {
        context.live.forget(&host);
    }
    Ok(pb::RemoveHostResponse {})
}
