//! Releases and the metadata that vouches for them.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::manifest::{MAX_MANIFEST_BYTES, Manifest, Origin};
use landfall_common::{Rights, Sha256};
use landfall_controller_core::State;
use landfall_controller_core::command::{Action, Command};
use landfall_controller_core::log::NewEntry;
use landfall_controller_core::record::{Place, ReleaseRecord};
use landfall_proto::v1 as pb;

use super::page;
use crate::error::{ControllerError, Reason};
use crate::objects::tree;
use crate::reactor::Along;
use crate::repository::Resume;
use crate::rpc::{Caller, Context, convert, fresh_rollout};

/// The keys of answered requests that are not the planner's: the digest of what was asked.
const ASKED: &str = "asked/";

pub(super) async fn publish_root(
    context: &Context,
    caller: &Caller,
    request: pb::PublishRootRequest,
) -> Result<pb::PublishRootResponse, ControllerError> {
    let id = convert::request_id(&request.request_id)?;
    let now = context.clock.now();
    let asked = format!("{ASKED}{id}");
    let content = {
        let mut hasher = Sha256::hasher();
        let resume = request.resume.as_ref().map(prost::Message::encode_to_vec).unwrap_or_default();
        let parts = [request.root.as_slice(), request.targets.as_slice(), resume.as_slice()];
        let roles = request.roles.iter().flat_map(|(role, bytes)| [role.as_bytes(), bytes.as_slice()]);
        for part in parts.into_iter().chain(roles) {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        hasher.finish()
    };
    if let Some(known) = context.store.get(&asked).await? {
        let known: (Sha256, u64) = convert::stored(&asked, &known.value)?;
        if known.0 != content {
            let message = format!("request {id} was already used for something else; send a new request id");
            return Err(ControllerError::refused(Reason::RequestIdReused, message));
        }
        return Ok(pb::PublishRootResponse { root_version: known.1 });
    }
    let mut edit = context.repository.edit().await;
    let roles: BTreeMap<_, _> = request.roles.into_iter().collect();
    match request.resume {
        None => edit.publish_root(request.root, request.targets, roles, now)?,
        Some(pb::Resume { roots, snapshot_version, timestamp_version }) => {
            let resume = Resume { roots, snapshot_version, timestamp_version };
            edit.resume(resume, request.root, request.targets, roles, now)?;
        }
    }
    let root_version = edit.root_version();
    let record = convert::to_store(&(content, root_version));
    let batch = edit.batch().if_absent(&asked).put(asked, record);
    let entry = |event| NewEntry { at: now, actor: caller.actor(), origin: caller.origin.clone(), event };
    let entries = edit.events().into_iter().map(entry).collect();
    context.writer.commit(batch, entries).await?;
    edit.finish();
    tracing::info!(root_version, "release root published");
    Ok(pb::PublishRootResponse { root_version })
}

pub(super) async fn publish(
    context: &Context,
    caller: &Caller,
    request: pb::PublishReleaseRequest,
) -> Result<pb::PublishReleaseResponse, ControllerError> {
    let id = convert::request_id(&request.request_id)?;
    let notes = convert::text("notes", request.notes)?;
    let bytes = request.manifest;
    let manifest = Manifest::from_bytes(&bytes)
        .map_err(|error| ControllerError::refused(Reason::BadManifest, error.in_full()))?;
    let now = context.clock.now();
    let mut edit = context.repository.edit().await;
    let (release, signed_by) = edit.publish_release(&manifest, &bytes, request.role_metadata, now)?;
    tree::check(&context.depot, &manifest).await?;
    let (application, name) = (manifest.application.clone(), release.name.clone());
    let known = context
        .reactor
        .read(move |view| {
            let known = view.state.release(&application, &name)?;
            Some((known.release.clone(), known.content))
        })
        .await?;
    let existed = known.as_ref().is_some_and(|(known, _)| *known == release);
    let removed = known.is_some_and(|(_, content)| content.removed_at().is_some());
    // From here on a release is promised: what it needs must survive a power cut.
    context.depot.store(bytes).await?;
    context.depot.sync().await?;
    let entry = |event| NewEntry { at: now, actor: caller.actor(), origin: caller.origin.clone(), event };
    let entries: Vec<NewEntry> = edit.events().into_iter().map(entry).collect();
    if existed && !removed {
        if !edit.is_empty() {
            context.writer.commit(edit.batch(), entries).await?;
        }
    } else {
        let by = caller.actor();
        let mut record = ReleaseRecord::of(&manifest, release.clone(), now, by.clone());
        record.notes = (!notes.is_empty()).then_some(notes);
        let command = Command {
            request: id,
            by,
            origin: caller.origin.clone(),
            fresh: fresh_rollout(now),
            action: Action::Publish { release: Box::new(record), signed_by },
        };
        let counts = Counts { files: manifest.file_count, bytes: manifest.total_bytes };
        let key = counts_key(manifest.application.as_str(), release.name.as_str());
        let batch = edit.batch().put(key, convert::to_store(&counts));
        context.reactor.command(command, Along { batch, entries }).await?;
    }
    edit.finish();
    tracing::info!(application = %manifest.application, release = %release.name, existed, "release published");
    Ok(pb::PublishReleaseResponse { release: Some(convert::release_ref(&release)), existed })
}

/// How large a release is; people see it in lists.
#[derive(Debug, Clone, Copy, Default, serde::Serialize, serde::Deserialize)]
struct Counts {
    files: u64,
    bytes: u64,
}

fn counts_key(application: &str, release: &str) -> String {
    format!("size/{application}/{release}")
}

pub(super) async fn list(
    context: &Context,
    rights: Rights,
    request: pb::ListReleasesRequest,
) -> Result<pb::ListReleasesResponse, ControllerError> {
    let wanted = match &*request.application {
        "" => None,
        name => Some(convert::application(name)?),
    };
    let applications = context.repository.summary().applications.into_iter();
    let applications: BTreeSet<_> = applications.filter(|name| rights.see_some_of(name)).collect();
    let after = match &*request.page_token {
        "" => None,
        token => Some(position(token).ok_or_else(|| ControllerError::invalid("no such page_token"))?),
    };
    let mut releases = context
        .reactor
        .read(move |view| {
            applications
                .iter()
                .filter(|name| wanted.as_ref().is_none_or(|wanted| wanted == *name))
                .flat_map(|name| view.state.releases(name))
                .map(|record| message(view.state, record, &rights))
                .collect::<Vec<_>>()
        })
        .await?;
    releases.sort_by_key(|release| std::cmp::Reverse(place_in_list(release)));
    let after = |release: &pb::Release| after.as_ref().is_none_or(|after| place_in_list(release) < *after);
    let mut page = page::fill(releases.into_iter().filter(after));
    for release in &mut page.items {
        add_counts(context, release).await?;
    }
    let next_page_token = page.token(|release| {
        let (published_ms, counter, application) = place_in_list(release);
        format!("{published_ms}/{counter}/{application}")
    });
    Ok(pb::ListReleasesResponse { releases: page.items, next_page_token })
}

/// What releases are ordered by, the newest last.
fn place_in_list(release: &pb::Release) -> (u64, u64, String) {
    let counter = release.release.as_ref().map_or(0, |release| release.counter);
    (release.published_ms, counter, release.application.clone())
}

fn position(token: &str) -> Option<(u64, u64, String)> {
    let (published_ms, rest) = token.split_once('/')?;
    let (counter, application) = rest.split_once('/')?;
    Some((published_ms.parse().ok()?, counter.parse().ok()?, application.to_owned()))
}

pub(super) async fn get(
    context: &Context,
    rights: Rights,
    request: pb::GetReleaseRequest,
) -> Result<pb::GetReleaseResponse, ControllerError> {
    let (application, name) =
        (convert::application(&request.application)?, convert::release_name(&request.name)?);
    let found = {
        let (application, name) = (application.clone(), name.clone());
        let look = move |view: &crate::reactor::View<'_>| {
            let record = view.state.release(&application, &name)?;
            Some((message(view.state, record, &rights), record.release.digest))
        };
        context.reactor.read(look).await?
    };
    let (mut release, digest) = found.ok_or_else(|| {
        let message =
            format!("{application} has no release {name}; `ctl releases` lists those that are published");
        ControllerError::refused(Reason::NotFound, message)
    })?;
    add_counts(context, &mut release).await?;
    let manifest = context.depot.read(digest, MAX_MANIFEST_BYTES).await?;
    if release.removed_ms == 0 {
        let aside = context.depot.put_aside().await?;
        release.damaged_objects = context.depot.lacks(digest, &aside).await?;
    }
    Ok(pb::GetReleaseResponse { release: Some(release), manifest })
}

async fn add_counts(context: &Context, release: &mut pb::Release) -> Result<(), ControllerError> {
    let name = release.release.as_ref().map(|release| release.name.as_str()).unwrap_or_default();
    let key = counts_key(&release.application, name);
    if let Some(stored) = context.store.get(&key).await? {
        let counts: Counts = convert::stored(&key, &stored.value)?;
        (release.file_count, release.total_bytes) = (counts.files, counts.bytes);
    }
    Ok(())
}

/// A release, with those of its environments that its reader may look at.
fn message(state: &State, record: &ReleaseRecord, rights: &Rights) -> pb::Release {
    let (commit, author, subject) = match &record.origin {
        Origin::Git { commit, author, subject, .. } => (commit.clone(), author.clone(), subject.clone()),
        Origin::Artifact { commit } => (commit.clone().unwrap_or_default(), String::new(), String::new()),
    };
    let digest = record.release.digest;
    let seen = |place: &Place| {
        place.application == record.application && rights.see(&place.application, &place.environment)
    };
    let places = || state.places().filter(|place| seen(&place.place));
    let active =
        places().filter(|place| place.in_force().is_some_and(|force| force.release.digest == digest));
    let proven = places().filter(|place| place.proven.iter().any(|proven| proven.release.digest == digest));
    pb::Release {
        application: record.application.to_string(),
        release: Some(convert::release_ref(&record.release)),
        published_ms: record.published_at.ms(),
        published_by: record.by.to_string(),
        commit,
        author,
        subject,
        notes: record.notes.clone().unwrap_or_default(),
        file_count: 0,
        total_bytes: 0,
        active_in: active.map(|place| place.place.environment.to_string()).collect(),
        proven_in: proven.map(|place| place.place.environment.to_string()).collect(),
        removed_ms: record.content.removed_at().map_or(0, landfall_common::Timestamp::ms),
        damaged_objects: 0,
    }
}
