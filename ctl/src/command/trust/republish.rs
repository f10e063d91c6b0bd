//! `ctl trust republish`: after a backup was restored, what this machine has seen since is put back.
//!
//! First the metadata, so that hosts follow the repository again; then the content of the releases that it lists
//! and the controller does not know, as far as this machine has kept it.

use std::collections::BTreeMap;

use landfall_common::manifest::{MAX_MANIFEST_BYTES, Manifest};
use landfall_common::{AppName, Sha256};
use landfall_trust::metadata::{Root, Snapshot, Targets, Timestamp, file_name};
use landfall_trust::policy::release_path;
use landfall_trust::store::root_history;
use landfall_trust::{Signed, TrustedStore};
use serde_json::json;

use crate::client::{Client, Resume};
use crate::command::Session;
use crate::config::Profile;
use crate::error::{Error, Exit};
use crate::output::progress::Bar;
use crate::pack::{self, ObjectCache};
use crate::trust::{self, Trust, Trusted};

pub(super) async fn run(session: &Session) -> Result<Exit, Error> {
    let output = session.output;
    let (profile, client) = session.connect().await?;
    let store = trust::load(&profile.trust_directory())?;
    let behind = Behind::of(&store, &client).await?;
    for (role, seen, there) in &behind.roles {
        output.line(format!("{role}: version {seen} was seen here, the controller has {there}"));
    }
    for (role, seen, held) in &behind.lost {
        output.note(format!(
            "{role}: version {seen} was seen here, and of its content only version {held} was kept; run this where \
             {role} was signed"
        ));
    }
    if !behind.is_empty() {
        behind.put_back(&store, &client).await?;
        output.line("the controller goes on from there");
    }
    let trusted = Trust::refresh(profile.trust_directory(), &client).await?.all(&client).await?;
    let (done, missing) = releases(session, &profile, &client, &trusted).await?;
    if behind.is_empty() && done.is_empty() && missing.is_empty() {
        output.line("nothing to do: the controller has everything that this machine has seen");
    }
    if !missing.is_empty() {
        output.line(format!(
            "listed, and neither the controller nor this machine has them: {}",
            missing.join(", ")
        ));
        output.note(
            "next: ctl trust republish where they were released, or release their tags again under new names",
        );
    }
    let roles: Vec<&String> = behind.roles.iter().map(|(role, ..)| role).collect();
    output.json("republished", &json!({ "roles": roles, "releases": done, "missing": missing }));
    Ok(if missing.is_empty() && behind.lost.is_empty() { Exit::Succeeded } else { Exit::Failed })
}

/// What the controller has lost of what was seen here: role, version seen, version there (or held here).
struct Behind {
    root: (u64, u64),
    roles: Vec<(String, u64, u64)>,
    lost: Vec<(String, u64, u64)>,
    snapshot_seen: u64,
    timestamp_seen: u64,
    online_behind: bool,
}

impl Behind {
    async fn of(store: &TrustedStore, client: &Client) -> Result<Self, Error> {
        let damaged = || Error::trust("this machine's copy of the release metadata is damaged");
        let floors = store.floors().map_err(damaged())?;
        // Not verified: it only says what to send, and the controller verifies what it gets.
        let answer = |what: &str| Error::Answer(format!("its {what} cannot be read"));
        let timestamp = client.repository_file("timestamp.json").await?;
        let timestamp = timestamp.ok_or_else(|| {
            Error::missing("the controller has no release repository", "ctl init, where the root key is")
        })?;
        let timestamp =
            Signed::<Timestamp>::read("timestamp", timestamp).map_err(|_| answer("timestamp"))?.body;
        let name = file_name("snapshot", Some(timestamp.snapshot().version));
        let snapshot = client.repository_file(&name).await?.ok_or_else(|| answer("snapshot"))?;
        let snapshot = Signed::<Snapshot>::read("snapshot", snapshot).map_err(|_| answer("snapshot"))?.body;
        let snapshot_seen =
            floors.snapshot.map_or(0, |floor| floor.version).max(floors.snapshot_listed.unwrap_or(0));
        let timestamp_seen = floors.timestamp.map_or(0, |floor| floor.version);
        let mut behind = Self {
            root: (floors.root.version, client.info().await?.root_version),
            roles: Vec::new(),
            lost: Vec::new(),
            snapshot_seen,
            timestamp_seen,
            online_behind: snapshot_seen > timestamp.snapshot().version
                || timestamp_seen > timestamp.header.version,
        };
        if behind.root.0 > behind.root.1 {
            behind.roles.push(("root".to_owned(), behind.root.0, behind.root.1));
        }
        for (role, floor) in &floors.roles {
            let there = snapshot.role(role).map_or(0, |meta| meta.version);
            if floor.version <= there {
                continue;
            }
            let held = store.get(&file_name(role, None)).and_then(|bytes| {
                Signed::<Targets>::read(role, bytes.to_vec()).ok().map(|read| read.body.header.version)
            });
            match held.unwrap_or(0) {
                held if held == floor.version => behind.roles.push((role.clone(), floor.version, there)),
                held => behind.lost.push((role.clone(), floor.version, held)),
            }
        }
        Ok(behind)
    }

    fn is_empty(&self) -> bool {
        self.roles.is_empty() && !self.online_behind
    }

    async fn put_back(&self, store: &TrustedStore, client: &Client) -> Result<(), Error> {
        let file = |role: &str| store.get(&file_name(role, None)).map(<[u8]>::to_vec);
        let (seen, there) = self.root;
        let mut roots: Vec<Vec<u8>> = (there + 1..=seen)
            .filter_map(|version| store.get(&root_history(version)).map(<[u8]>::to_vec))
            .collect();
        let root = match roots.pop() {
            Some(newest) => newest,
            // The one in force there, which changes nothing.
            None => client.repository_file("root.json").await?.unwrap_or_default(),
        };
        Signed::<Root>::read("root", root.clone()).map_err(Error::trust("the root cannot be sent"))?;
        let wanted = |role: &str| self.roles.iter().any(|(behind, ..)| behind == role);
        let targets = if wanted("targets") { file("targets").unwrap_or_default() } else { Vec::new() };
        let delegated = self.roles.iter().filter(|(role, ..)| role != "root" && role != "targets");
        let roles: BTreeMap<String, Vec<u8>> =
            delegated.filter_map(|(role, ..)| Some((role.clone(), file(role)?))).collect();
        let resume =
            Resume { roots, snapshot_version: self.snapshot_seen, timestamp_version: self.timestamp_seen };
        client.publish_root(root, targets, roles, Some(resume)).await.map(drop)
    }
}

/// Publishes the content of listed releases that the controller does not know; returns those and the ones that
/// are not here either.
async fn releases(
    session: &Session,
    profile: &Profile,
    client: &Client,
    trusted: &Trusted,
) -> Result<(Vec<String>, Vec<String>), Error> {
    let cache = ObjectCache::open(session.places.cache.join("objects"))?;
    let store = trust::load(&profile.trust_directory())?;
    let (mut done, mut missing) = (Vec::new(), Vec::new());
    for (role, listed) in &trusted.roles {
        let Some(application) = role.strip_prefix("apps/").and_then(|name| AppName::new(name).ok()) else {
            continue;
        };
        let Some(metadata) = store.get(&file_name(role, None)) else { continue };
        for custom in listed.releases() {
            if client.release(&application, &custom.release).await?.is_some() {
                continue;
            }
            let name = format!("{application} {}", custom.release);
            let digest = listed
                .targets
                .get(&release_path(&application, &custom.release))
                .and_then(|file| file.hashes.get("sha256")?.parse::<Sha256>().ok());
            let Some((manifest, objects)) = digest.and_then(|digest| kept(&cache, digest)) else {
                missing.push(name);
                continue;
            };
            let bar = Bar::new(session.output, "uploading");
            client.upload(&objects, &cache, &bar).await?;
            drop(bar);
            client.publish_release(manifest, metadata.to_vec(), String::new()).await?;
            session.output.line(format!("{name} is there again, with everything that it needs"));
            done.push(name);
        }
    }
    Ok((done, missing))
}

/// A release that this machine made or signed: its manifest, and its objects with their sizes.
fn kept(cache: &ObjectCache, digest: Sha256) -> Option<(Vec<u8>, BTreeMap<Sha256, u64>)> {
    if !cache.has(&digest) {
        return None;
    }
    let bytes = cache.read(&digest, MAX_MANIFEST_BYTES).ok()?;
    let manifest = Manifest::from_bytes(&bytes).ok()?;
    let objects = tokio::task::block_in_place(|| pack::objects(manifest.tree, cache)).ok()??;
    Some((bytes, objects))
}
