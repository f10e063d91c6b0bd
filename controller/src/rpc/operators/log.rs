//! The log, and the proof that nothing of it was changed.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::{AppName, EnvName, Rights, Role, RolloutId, Scope};
use landfall_controller_core::log::{LogEntry, LogEvent};
use landfall_controller_core::record::Place;
use landfall_proto::v1 as pb;

use super::page;
use crate::authorise::role_too_low;
use crate::error::ControllerError;
use crate::log::{self, LogTree};
use crate::reactor::past_key;
use crate::rpc::{Caller, Context, convert};
use crate::store::Store;

/// Entries in an answer whose asker does not say how many.
const DEFAULT_LIMIT: usize = 100;

/// The most entries in an answer.
const MAX_LIMIT: usize = 1000;

/// Entries that are read at a time while looking for those of one application.
const PAGE: usize = 500;

pub(super) async fn read(
    context: &Context,
    caller: &Caller,
    request: pb::ReadLogRequest,
) -> Result<pb::ReadLogResponse, ControllerError> {
    let limit = match request.limit as usize {
        0 => DEFAULT_LIMIT,
        limit => limit.min(MAX_LIMIT),
    };
    let store = &*context.store;
    let rights = caller.rights();
    let is_all = request.application.is_empty() && request.environment.is_empty();
    if is_all && !request.last && !rights.see_everything() {
        // Entry after entry it is read to be proven, and one that is left out would look like one that is missing.
        let who = (caller.certificate.identity.name(), &rights);
        let what = "reading the log as a whole, as proving it does,";
        return Err(role_too_low(who, what, Role::Viewer, Some(&Scope::Everything)));
    }
    let wanted = Wanted::new(request.application, request.environment, rights);
    let entries = match (wanted, request.last) {
        (None, true) => log::read_newest(store, limit).await?,
        (None, false) => log::read(store, request.from, limit).await?,
        (Some(wanted), true) => newest(context, &wanted, limit).await?,
        (Some(wanted), false) => following(context, &wanted, request.from, limit).await?,
    };
    let mut entries = entries.iter().map(message).collect::<Result<Vec<_>, _>>()?;
    // The newest come last, and of those that were asked for from the end they are the ones that stay.
    if request.last {
        entries.reverse();
    }
    let mut entries = page::fill(entries).items;
    if request.last {
        entries.reverse();
    }
    Ok(pb::ReadLogResponse { entries })
}

fn message(entry: &LogEntry) -> Result<pb::LogEntry, ControllerError> {
    Ok(pb::LogEntry {
        index: entry.index,
        at_ms: entry.at.ms(),
        actor: entry.actor.to_string(),
        origin: entry.origin.clone(),
        kind: entry.event.kind().to_owned(),
        summary: entry.summary.clone(),
        body: landfall_common::canonical::to_vec(entry).map_err(log::LogError::from)?,
    })
}

/// What a reader asks for, an application or one of its environments, and may look at.
#[derive(Clone)]
struct Wanted {
    application: String,
    environment: String,
    rights: Rights,
}

impl Wanted {
    fn new(application: String, environment: String, rights: Rights) -> Option<Self> {
        let is_all = application.is_empty() && environment.is_empty() && rights.see_everything();
        (!is_all).then_some(Self { application, environment, rights })
    }

    fn place(&self, application: &AppName, environment: Option<&EnvName>) -> bool {
        let seen = match environment {
            Some(environment) => self.rights.see(application, environment),
            None => self.rights.see_some_of(application),
        };
        seen && (self.application.is_empty() || self.application == application.as_str())
            && (self.environment.is_empty()
                || environment.is_none_or(|name| name.as_str() == self.environment))
    }
}

/// Where an entry belongs to.
enum Belongs {
    Place(AppName, Option<EnvName>),
    Rollout(RolloutId),
    Nowhere,
}

fn belongs(event: &LogEvent) -> Belongs {
    match event {
        LogEvent::ReleasePublished { application, .. }
        | LogEvent::EvidenceSubmitted { application, .. }
        | LogEvent::ContentRemoved { application, .. }
        | LogEvent::ContentRestored { application, .. } => Belongs::Place(application.clone(), None),
        LogEvent::RolloutStarted { application, environment, .. }
        | LogEvent::RolloutQueued { application, environment, .. }
        | LogEvent::PlaceLocked { application, environment, .. }
        | LogEvent::PlaceUnlocked { application, environment, .. }
        | LogEvent::RolloutFinished { application, environment, .. }
        | LogEvent::RollbackRequested { application, environment, .. }
        | LogEvent::HostsRetried { application, environment, .. }
        | LogEvent::ConvergenceStopped { application, environment, .. }
        | LogEvent::HostCordoned { application, environment, .. }
        | LogEvent::HostUncordoned { application, environment, .. }
        | LogEvent::HostDrained { application, environment, .. }
        | LogEvent::HostUndrained { application, environment, .. }
        | LogEvent::HostLabelled { application, environment, .. }
        | LogEvent::HostEnrolled { application, environment, .. }
        | LogEvent::TokenIssued { application, environment, .. }
        | LogEvent::DriftRepairRequested { application, environment, .. }
        | LogEvent::DriftRepaired { application, environment, .. }
        | LogEvent::RestartRequested { application, environment, .. }
        | LogEvent::DrillRequested { application, environment, .. }
        | LogEvent::DrillFinished { application, environment, .. } => {
            Belongs::Place(application.clone(), Some(environment.clone()))
        }
        other => other.rollout().map_or(Belongs::Nowhere, |rollout| Belongs::Rollout(rollout.clone())),
    }
}

/// Those of these entries that are wanted. What only names its rollout belongs where that took place.
async fn select(
    context: &Context,
    wanted: &Wanted,
    entries: Vec<LogEntry>,
) -> Result<Vec<LogEntry>, ControllerError> {
    let past = past(context, &entries).await?;
    let wanted = wanted.clone();
    let look = move |view: &crate::reactor::View<'_>| {
        let of_place = |place: &Place| wanted.place(&place.application, Some(&place.environment));
        let keep = |entry: &LogEntry| match belongs(&entry.event) {
            Belongs::Place(application, environment) => wanted.place(&application, environment.as_ref()),
            Belongs::Rollout(id) => {
                let place = view.state.rollout(&id).map(|rollout| &rollout.place).or_else(|| past.get(&id));
                place.is_some_and(of_place)
            }
            Belongs::Nowhere => false,
        };
        entries.into_iter().filter(keep).collect()
    };
    context.reactor.read(look).await
}

/// Where those rollouts of these entries took place that the planner has forgotten.
async fn past(
    context: &Context,
    entries: &[LogEntry],
) -> Result<BTreeMap<RolloutId, Place>, ControllerError> {
    let ids = entries.iter().filter_map(|entry| match belongs(&entry.event) {
        Belongs::Rollout(id) => Some(id),
        _ => None,
    });
    let ids: BTreeSet<RolloutId> = ids.collect();
    let unknown = context
        .reactor
        .read(move |view| ids.into_iter().filter(|id| view.state.rollout(id).is_none()).collect::<Vec<_>>());
    let mut places = BTreeMap::new();
    for id in unknown.await? {
        let key = past_key(&id);
        if let Some(stored) = context.store.get(&key).await? {
            places.insert(id, convert::stored(&key, &stored.value)?);
        }
    }
    Ok(places)
}

async fn following(
    context: &Context,
    wanted: &Wanted,
    from: u64,
    limit: usize,
) -> Result<Vec<LogEntry>, ControllerError> {
    let mut found = Vec::new();
    let mut next = from;
    while found.len() < limit {
        let page = log::read(&*context.store, next, PAGE).await?;
        let Some(last) = page.last() else { break };
        next = last.index + 1;
        found.extend(select(context, wanted, page).await?);
    }
    found.truncate(limit);
    Ok(found)
}

async fn newest(context: &Context, wanted: &Wanted, limit: usize) -> Result<Vec<LogEntry>, ControllerError> {
    let mut found = Vec::new();
    let mut end = LogTree::load(&*context.store).await?.size();
    while end > 0 && found.len() < limit {
        let from = end.saturating_sub(PAGE as u64);
        let mut page = log::read(&*context.store, from, PAGE).await?;
        page.retain(|entry| entry.index < end);
        end = from;
        let mut page = select(context, wanted, page).await?;
        page.append(&mut found);
        found = page;
    }
    let surplus = found.len().saturating_sub(limit);
    found.drain(..surplus);
    Ok(found)
}

pub(super) async fn checkpoint(
    context: &Context,
    request: pb::GetCheckpointRequest,
) -> Result<pb::GetCheckpointResponse, ControllerError> {
    let store: &dyn Store = &*context.store;
    // The proof is about the tree that this very checkpoint signs, whatever is appended meanwhile.
    let Some(checkpoint) = log::checkpoint(store).await? else {
        return Ok(pb::GetCheckpointResponse::default());
    };
    let size = {
        let keys = [context.keys.log.public().clone()];
        let kind = landfall_common::merkle::CHECKPOINT_TYPE;
        let signed: landfall_common::merkle::Checkpoint =
            landfall_trust::director::verify_document(kind, &checkpoint, &keys, 1)?;
        signed.size
    };
    let consistency = match request.since_size {
        0 => Vec::new(),
        since => log::prove_consistency(store, since, size).await?,
    };
    let consistency = consistency.iter().map(|hash| hash.as_bytes().to_vec()).collect();
    Ok(pb::GetCheckpointResponse { checkpoint, consistency })
}
