//! Whether an assignment may be believed: the director's signature, and the release that it names, which the
//! release signers must list (TUF).
//!
//! The trusted metadata lies below `trust/` in the state directory, each file replaced durably before the
//! verifier goes on.

use std::path::{Path, PathBuf};

use landfall_agent_core::Identity;
use landfall_common::assignment::{ASSIGNMENT_TYPE, Assignment};
use landfall_common::disk::{Disk, EntryKind};
use landfall_common::{Sha256, Timestamp, canonical};
use landfall_proto::v1::GetMetadataRequest;
use landfall_proto::v1::agents_client::AgentsClient;
use landfall_trust::director::verify_document;
use landfall_trust::policy::{AppPolicy, accept_target, policy_path, release_path};
use landfall_trust::store::{FLOORS, root_history};
use landfall_trust::updater::{Next, Target};
use landfall_trust::{Limits, Lookup, PublicKey, TrustError, TrustedStore, Updater};
use tonic::transport::Channel;

use crate::error::{AgentError, chain};
use crate::tls::{ANSWER, in_time};

const DIRECTORY: &str = "trust";

/// Why an assignment is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Distrust {
    /// What was shown does not hold. Asking again gives the same.
    #[error("{0}")]
    Refused(String),
    /// It could not be found out.
    #[error("{0}")]
    Unavailable(String),
    /// This host cannot keep what it would have to remember, a full disk for instance. Asking again at once
    /// gives the same, and a host that only hung up would look as if it were away.
    #[error("{0}")]
    Unkept(String),
}

impl From<TrustError> for Distrust {
    fn from(error: TrustError) -> Self {
        Self::Refused(chain(&error))
    }
}

/// An assignment whose signature is good.
#[derive(Debug, Clone)]
pub struct Signed {
    /// Its body.
    pub assignment: Assignment,
    /// The digest of the body's canonical form.
    pub digest: Sha256,
}

/// Verifies the director's signature and reads the body.
///
/// # Errors
/// [`Distrust::Refused`].
pub fn verify_assignment(bytes: &[u8], keys: &[PublicKey]) -> Result<Signed, Distrust> {
    let mut body: serde_json::Value = verify_document(ASSIGNMENT_TYPE, bytes, keys, 1)?;
    if let Some(fields) = body.as_object_mut() {
        // The verifier has looked at it; the body is what was signed beside it.
        fields.remove("_type");
    }
    let assignment: Assignment = serde_json::from_value(body)
        .map_err(|error| Distrust::Refused(format!("the assignment cannot be understood: {error}")))?;
    let canonical = canonical::to_vec(&assignment).map_err(|error| Distrust::Refused(chain(&error)))?;
    Ok(Signed { digest: Sha256::of(&canonical), assignment })
}

/// Writes the files of a new trust, the record first.
///
/// # Errors
/// [`AgentError::Disk`].
pub fn save_all(disk: &dyn Disk, store: &TrustedStore) -> Result<(), AgentError> {
    disk.ensure_dir(&Path::new(DIRECTORY).join("root_history"))?;
    let record_first = store.files().iter().filter(|(name, _)| *name == FLOORS);
    for (name, bytes) in record_first.chain(store.files().iter().filter(|(name, _)| *name != FLOORS)) {
        save(disk, name, bytes)?;
    }
    Ok(())
}

fn save(disk: &dyn Disk, name: &str, bytes: &[u8]) -> Result<(), AgentError> {
    let path = Path::new(DIRECTORY).join(name);
    if let Some(parent) = path.parent() {
        disk.ensure_dir(parent)?;
    }
    Ok(disk.write_atomic(&path, bytes)?)
}

/// The root that was pinned at the enrolment, as it is on the disk.
///
/// # Errors
/// [`AgentError::Disk`], [`AgentError::Trust`] if it is not what the record of floors says.
pub fn pinned(disk: &dyn Disk) -> Result<Vec<u8>, AgentError> {
    let store = load(disk)?;
    let pinned = store.floors().map_err(AgentError::Trust)?.pinned;
    let file = root_history(pinned.version);
    let root = store.get(&file).filter(|root| Some(Sha256::of(root)) == pinned.digest);
    root.map(<[u8]>::to_vec).ok_or(AgentError::Trust(TrustError::NoTrustedRoot { file }))
}

/// The files of the trust, as they are on the disk.
///
/// # Errors
/// [`AgentError::Disk`].
pub fn load(disk: &dyn Disk) -> Result<TrustedStore, AgentError> {
    let mut files = Vec::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        for entry in disk.list(&Path::new(DIRECTORY).join(&directory))? {
            let name = directory.join(&entry.name);
            match entry.kind {
                EntryKind::Dir => directories.push(name),
                EntryKind::File => {
                    if let Some(bytes) = disk.read(&Path::new(DIRECTORY).join(&name))? {
                        files.push((name.to_string_lossy().into_owned(), bytes));
                    }
                }
                EntryKind::Symlink | EntryKind::Other => {}
            }
        }
    }
    Ok(TrustedStore::from_files(files))
}

/// Refreshes the metadata and demands that the signers list the release of the assignment for this host: its
/// path and role, digest, length, counter, environment, and a counter at or above the signed floor.
///
/// # Errors
/// [`Distrust`].
pub async fn verify_release(
    disk: &dyn Disk,
    client: &mut AgentsClient<Channel>,
    assignment: &Assignment,
    identity: &Identity,
    now: Timestamp,
) -> Result<(), Distrust> {
    let store = load(disk).map_err(|error| Distrust::Unkept(chain(&error)))?;
    let mut updater = Updater::start(store, now, Limits::default())?;
    drive(&mut updater, disk, client).await?;
    let app = &identity.application;
    let policy = find(&mut updater, disk, client, &policy_path(app)).await?;
    let floor = AppPolicy::of(policy.as_ref())?.min_release_counter;
    let release = &assignment.release;
    let path = release_path(app, &release.name);
    let target = find(&mut updater, disk, client, &path).await?;
    let target = target.ok_or_else(|| {
        Distrust::Refused(format!("the release signers of {app} list no release {}", release.name))
    })?;
    let custom = accept_target(&target, floor, app, &identity.environment)
        .map_err(|error| Distrust::Refused(chain(&error)))?;
    let signed = target.file.hashes.get("sha256").map(String::as_str);
    for (what, theirs, ours) in [
        ("manifest digest", Some(release.digest.to_string()), signed.map(str::to_owned)),
        ("manifest length", Some(release.length.to_string()), Some(target.file.length.to_string())),
        ("number", Some(release.counter.to_string()), Some(custom.counter.to_string())),
        ("name", Some(release.name.to_string()), Some(custom.release.to_string())),
    ] {
        if theirs != ours {
            let (theirs, ours) = (theirs.unwrap_or_default(), ours.unwrap_or_default());
            return Err(Distrust::Refused(format!(
                "the assignment gives release {} the {what} {theirs}, and its signers {ours}",
                release.name
            )));
        }
    }
    Ok(())
}

async fn find(
    updater: &mut Updater,
    disk: &dyn Disk,
    client: &mut AgentsClient<Channel>,
    path: &str,
) -> Result<Option<Target>, Distrust> {
    loop {
        match updater.find(path)? {
            Lookup::Found(target) => return Ok(Some(*target)),
            Lookup::Absent => return Ok(None),
            Lookup::Incomplete => drive(updater, disk, client).await?,
        }
    }
}

async fn drive(
    updater: &mut Updater,
    disk: &dyn Disk,
    client: &mut AgentsClient<Channel>,
) -> Result<(), Distrust> {
    loop {
        match updater.advance()? {
            Next::Store { name, bytes } => {
                save(disk, &name, &bytes).map_err(|error| Distrust::Unkept(chain(&error)))?;
            }
            Next::Fetch(need) => {
                let request = GetMetadataRequest { name: need.name.clone() };
                let answer = in_time(ANSWER, client.get_metadata(request)).await;
                match answer {
                    Ok(response) => updater.feed(Some(response.into_inner().content))?,
                    Err(status) if status.code() == tonic::Code::NotFound => updater.feed(None)?,
                    Err(status) => {
                        let reason = format!("{} cannot be fetched: {}", need.name, chain(&status));
                        return Err(Distrust::Unavailable(reason));
                    }
                }
            }
            Next::Ready => return Ok(()),
        }
    }
}
