//! The release repository as the controller keeps and serves it.
//!
//! Root and targets roles come from their signers and are verified as clients will verify them; snapshot and
//! timestamp are signed here with the online keys, and again before they expire. The files live in the
//! store, so that they change in one commit with the log entry that tells of it.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use bytes::Bytes;
use landfall_common::assignment::ReleaseRef;
use landfall_common::manifest::Manifest;
use landfall_common::{AppName, Duration, ReleaseCounter, Sha256, Timestamp};
use landfall_controller_core::log::LogEvent;
use landfall_trust::metadata::{Targets, file_name};
use landfall_trust::policy::{AppPolicy, POLICY_ROLE, ReleaseCustom, app_role, policy_path, release_path};
use landfall_trust::repository::{File, Lifetimes, Repository};
use landfall_trust::{Signed, TrustError};
use serde::Deserialize as _;
use tokio::sync::{Mutex, MutexGuard};

use crate::error::{ControllerError, Reason};
use crate::keys::OnlineKeys;
use crate::store::{Batch, MAX_VALUE_BYTES, Store};

/// The keys of the files in the store: `repository/2.root.json`.
const PREFIX: &str = "repository/";

/// Older versions of a role's file that stay: a client that has read a timestamp goes on with the snapshot
/// and the roles of that moment, while newer ones are published.
const KEPT_VERSIONS: u64 = 8;

/// Older files that go with one change.
const PRUNED_AT_ONCE: usize = 32;

/// The timestamp is signed anew when it has no more than this left: half of its day.
const TIMESTAMP_LEFT: Duration = Duration::from_secs(12 * 3600);

/// The repository. What it serves is read without waiting; a change holds [`ReleaseRepository::edit`].
pub struct ReleaseRepository {
    keys: Arc<OnlineKeys>,
    served: RwLock<BTreeMap<String, Bytes>>,
    current: Mutex<Option<Repository>>,
    summary: RwLock<Summary>,
}

/// What people ask about the repository.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// The version of the root in force; 0 before there is one.
    pub root_version: u64,
    /// When each role expires.
    pub expiries: BTreeMap<String, Timestamp>,
    /// The applications that the top-level targets role delegates.
    pub applications: Vec<AppName>,
    /// The number below which the hosts of an application accept no release.
    pub floors: BTreeMap<AppName, ReleaseCounter>,
}

impl ReleaseRepository {
    /// Reads the repository from the store.
    ///
    /// # Errors
    /// [`ControllerError::Store`], and [`ControllerError::Trust`] for files that do not fit together.
    pub async fn load(store: &dyn Store, keys: Arc<OnlineKeys>) -> Result<Self, ControllerError> {
        let entries = store.scan(PREFIX).await?.entries;
        let files: BTreeMap<String, Vec<u8>> = entries
            .into_iter()
            .filter_map(|entry| Some((entry.key.strip_prefix(PREFIX)?.to_owned(), entry.value)))
            .collect();
        let current = match files.get(&file_name("root", Some(1))) {
            Some(root) => Some(Repository::open(root.clone(), &files)?),
            None => None,
        };
        let summary = RwLock::new(current.as_ref().map(summarise).unwrap_or_default());
        let served = files.into_iter().map(|(name, bytes)| (name, bytes.into())).collect();
        Ok(Self { keys, served: RwLock::new(served), current: Mutex::new(current), summary })
    }

    /// One file by the name that clients ask for.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<Bytes> {
        let served = self.served.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        // `root.json` is what a person asks for; clients walk the numbered ones.
        match name {
            "root.json" => served.get(&file_name("root", Some(self.summary().root_version))).cloned(),
            _ => served.get(name).cloned(),
        }
    }

    /// Every root there was, raw, oldest first.
    #[must_use]
    pub fn roots(&self) -> Vec<Bytes> {
        let newest = self.summary().root_version;
        (1..=newest).filter_map(|version| self.file(&file_name("root", Some(version)))).collect()
    }

    /// What people ask about it.
    #[must_use]
    pub fn summary(&self) -> Summary {
        self.summary.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Begins a change; others wait until it is finished or dropped.
    pub async fn edit(&self) -> Edit<'_> {
        let current = self.current.lock().await;
        let draft = current.clone();
        Edit { repository: self, current, draft, files: Vec::new(), events: Vec::new(), resumes: false }
    }

    /// Begins a change if the timestamp must be signed anew by now.
    ///
    /// # Errors
    /// [`ControllerError::Trust`] if it cannot be signed.
    pub async fn renewal(&self, now: Timestamp) -> Result<Option<Edit<'_>>, ControllerError> {
        let due = match self.summary().expiries.get("timestamp") {
            Some(expires) => *expires <= now + TIMESTAMP_LEFT,
            None => false,
        };
        if !due {
            return Ok(None);
        }
        let mut edit = self.edit().await;
        edit.sign(now)?;
        Ok(Some(edit))
    }
}

/// A change of the repository. [`Edit::batch`] says what to commit; once that is durable, [`Edit::finish`]
/// makes it visible. Dropped instead, nothing has happened.
#[must_use = "a change that is not committed and finished has not happened"]
pub struct Edit<'r> {
    repository: &'r ReleaseRepository,
    current: MutexGuard<'r, Option<Repository>>,
    draft: Option<Repository>,
    files: Vec<File>,
    events: Vec<LogEvent>,
    /// Whether versions may jump.
    resumes: bool,
}

/// What was published before a restore, as those know it who saw it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resume {
    /// Roots before the one that is published, oldest first.
    pub roots: Vec<Vec<u8>>,
    /// The highest version of the snapshot that was seen.
    pub snapshot_version: u64,
    /// The highest version of the timestamp that was seen.
    pub timestamp_version: u64,
}

/// Versions stay below what every JSON reader takes for a whole number.
const MAX_VERSION: u64 = 1 << 50;

impl Edit<'_> {
    /// Takes new root and targets metadata, and first metadata of newly delegated roles.
    ///
    /// # Errors
    /// [`Reason::BadSignature`] if a client would refuse it, [`Reason::RepositoryChanged`] for a version that
    /// does not follow, [`Reason::InvalidArgument`] if a delegated role has no metadata.
    pub fn publish_root(
        &mut self,
        root: Vec<u8>,
        targets: Vec<u8>,
        roles: BTreeMap<String, Vec<u8>>,
        now: Timestamp,
    ) -> Result<(), ControllerError> {
        bounded("root", &root)?;
        match &self.draft {
            None => {
                let first = Repository::new(root.clone()).map_err(refused)?;
                let version = first.root().header.version;
                if version != 1 {
                    let message = format!(
                        "the first root published here must be version 1, and this is version {version}"
                    );
                    return Err(ControllerError::refused(Reason::RepositoryChanged, message));
                }
                first.root().header.check_expiry("root", now).map_err(refused)?;
                self.note("root", version, &root);
                self.files.push(File { name: file_name("root", Some(1)), bytes: root });
                self.draft = Some(first);
            }
            Some(_) => self.submit("root", root, now)?,
        }
        if !targets.is_empty() {
            self.submit("targets", targets, now)?;
        }
        for (role, bytes) in roles {
            self.submit(&role, bytes, now)?;
        }
        self.check_delegations()?;
        self.check_signatures()?;
        self.sign(now)
    }

    /// Takes the metadata of an application's role that lists this manifest, and gives the release as it is
    /// listed, with the key ids that signed. Whether all signers' rules hold is checked here; whether the
    /// release's objects are there is not.
    ///
    /// # Errors
    /// [`Reason::NoRoot`], [`Reason::BadSignature`], [`Reason::RepositoryChanged`], [`Reason::BadManifest`],
    /// [`Reason::ReleaseNameTaken`].
    pub fn publish_release(
        &mut self,
        manifest: &Manifest,
        bytes: &[u8],
        role_metadata: Vec<u8>,
        now: Timestamp,
    ) -> Result<(ReleaseRef, Vec<String>), ControllerError> {
        let application = &manifest.application;
        let role = app_role(application);
        let draft = self.draft.as_ref().ok_or_else(no_root)?;
        let before = draft.targets_role(&role).cloned().ok_or_else(|| {
            let message = format!(
                "no role of the release repository speaks for {application}; an admin delegates one with `ctl init`"
            );
            ControllerError::refused(Reason::NoRoot, message)
        })?;
        let offered = Signed::<Targets>::read(&role, role_metadata.clone()).map_err(refused)?;
        let signed_by = signers(draft, &role, &offered)?;
        let listed = listed(manifest, bytes, &offered.body)?;
        follows(application, &before, &offered.body, &listed)?;
        self.submit(&role, role_metadata, now)?;
        if !self.files.is_empty() {
            self.sign(now)?;
        }
        Ok((listed, signed_by))
    }

    /// As [`Edit::publish_root`], for a repository that was put back to an earlier state: takes what its clients
    /// have seen since, and goes on above it.
    ///
    /// # Errors
    /// Those of [`Edit::publish_root`]; [`Reason::RepositoryChanged`] if a release that is listed now would be lost.
    pub fn resume(
        &mut self,
        resume: Resume,
        root: Vec<u8>,
        targets: Vec<u8>,
        roles: BTreeMap<String, Vec<u8>>,
        now: Timestamp,
    ) -> Result<(), ControllerError> {
        let Resume { roots, snapshot_version, timestamp_version } = resume;
        if snapshot_version.max(timestamp_version) > MAX_VERSION {
            return Err(ControllerError::invalid(format!("versions end at {MAX_VERSION}")));
        }
        self.resumes = true;
        for root in roots {
            self.submit("root", root, now)?;
        }
        self.draft.as_mut().ok_or_else(no_root)?.resume_above(snapshot_version, timestamp_version);
        self.publish_root(root, targets, roles, now)
    }

    fn submit(&mut self, role: &str, bytes: Vec<u8>, now: Timestamp) -> Result<(), ControllerError> {
        bounded(role, &bytes)?;
        let draft = self.draft.as_mut().ok_or_else(no_root)?;
        let version = |draft: &Repository| match role {
            "root" => Some(draft.root().header.version),
            _ => draft.targets_role(role).map(|targets| targets.header.version),
        };
        let before = version(draft);
        let listed = draft.targets_role(role).cloned();
        let file = draft.submit(role, bytes, now).map_err(refused)?;
        let after = version(draft).unwrap_or_default();
        match before {
            Some(before) if before == after => return Ok(()),
            Some(before) if self.resumes && after > before => {
                keeps(role, listed.as_ref(), draft.targets_role(role))?;
            }
            Some(before) if after != before + 1 => {
                let message = format!(
                    "version {after} of {role} was signed, but version {before} is in force: version {} must \
                     follow; read it again and sign anew",
                    before + 1
                );
                return Err(ControllerError::refused(Reason::RepositoryChanged, message));
            }
            _ => {}
        }
        self.note(role, after, &file.bytes);
        self.files.push(file);
        Ok(())
    }

    fn note(&mut self, role: &str, version: u64, bytes: &[u8]) {
        let digest = Sha256::of(bytes);
        self.events.push(LogEvent::MetadataAccepted { role: role.to_owned(), version, digest });
    }

    /// A client refuses a snapshot that does not list every role that is delegated to.
    fn check_delegations(&self) -> Result<(), ControllerError> {
        let Some(draft) = &self.draft else { return Err(no_root()) };
        let Some(targets) = draft.targets_role("targets") else {
            return Err(ControllerError::invalid("the first root must come with top-level targets metadata"));
        };
        let delegated = targets.delegations.iter().flat_map(|delegations| &delegations.roles);
        match delegated.into_iter().find(|role| draft.targets_role(&role.name).is_none()) {
            Some(role) => Err(ControllerError::invalid(format!(
                "targets delegates to {}, of which there is no metadata yet; send its first version along",
                role.name
            ))),
            None => Ok(()),
        }
    }

    /// A client refuses a role that the keys which may sign it now have not signed.
    fn check_signatures(&self) -> Result<(), ControllerError> {
        let unsigned = self.draft.as_ref().map(Repository::unsigned_roles).unwrap_or_default();
        let Some(role) = unsigned.first() else { return Ok(()) };
        let message = format!(
            "the keys that may sign {role} from now on have not signed its metadata; send its next version along, \
             signed by them"
        );
        Err(ControllerError::refused(Reason::BadSignature, message))
    }

    fn sign(&mut self, now: Timestamp) -> Result<(), ControllerError> {
        let keys = &self.repository.keys;
        let draft = self.draft.as_mut().ok_or_else(no_root)?;
        let root = draft.root().clone();
        let pairs = |role| keys.named_by(&root.authority(role));
        let files = draft
            .publish(&pairs("snapshot"), &pairs("timestamp"), now, &Lifetimes::default())
            .map_err(|error| match error {
                TrustError::Unsigned { what, .. } => ControllerError::refused(
                    Reason::BadSignature,
                    format!(
                        "root does not name this controller's key for {what}: snapshot is {}, timestamp is {}; \
                         put them into root and sign it anew",
                        keys.snapshot.keyid(),
                        keys.timestamp.keyid()
                    ),
                ),
                other => refused(other),
            })?;
        self.files.extend(files);
        Ok(())
    }

    /// Signs snapshot and timestamp anew above this version, if there is a repository.
    ///
    /// # Errors
    /// [`ControllerError::Trust`] if they cannot be signed.
    pub fn resume_above(&mut self, version: u64, now: Timestamp) -> Result<(), ControllerError> {
        let Some(draft) = self.draft.as_mut() else { return Ok(()) };
        draft.resume_above(version, version);
        self.sign(now)
    }

    /// The version of the root as it will be.
    #[must_use]
    pub fn root_version(&self) -> u64 {
        self.draft.as_ref().map_or(0, |draft| draft.root().header.version)
    }

    /// Whether anything changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// What to commit.
    pub fn batch(&self) -> Batch {
        let batch = self.files.iter().fold(Batch::new(), |batch, file| {
            batch.put(format!("{PREFIX}{}", file.name), file.bytes.clone())
        });
        self.outdated().into_iter().fold(batch, |batch, name| batch.delete(format!("{PREFIX}{name}")))
    }

    /// What the log tells of it.
    #[must_use]
    pub fn events(&self) -> Vec<LogEvent> {
        self.events.clone()
    }

    /// Makes the change visible, after its batch has become durable.
    pub fn finish(mut self) {
        let outdated = self.outdated();
        let Some(draft) = self.draft.take() else { return };
        {
            let mut served =
                self.repository.served.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            served.extend(self.files.drain(..).map(|file| (file.name, file.bytes.into())));
            for name in outdated {
                served.remove(&name);
            }
        }
        *self.repository.summary.write().unwrap_or_else(std::sync::PoisonError::into_inner) =
            summarise(&draft);
        *self.current = Some(draft);
    }

    /// Files that are so old that no client can still be on its way to them. Roots stay for ever.
    fn outdated(&self) -> Vec<String> {
        let served = self.repository.served.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut newest: BTreeMap<&str, u64> = BTreeMap::new();
        let names = || served.keys().map(String::as_str).chain(self.files.iter().map(|file| &*file.name));
        for (version, role) in names().filter_map(versioned) {
            let newest = newest.entry(role).or_default();
            *newest = version.max(*newest);
        }
        served
            .keys()
            .filter(|name| {
                versioned(name).is_some_and(|(version, role)| {
                    role != "root.json" && version + KEPT_VERSIONS < newest.get(role).copied().unwrap_or(0)
                })
            })
            .take(PRUNED_AT_ONCE)
            .cloned()
            .collect()
    }
}

/// The ids of the role's keys that signed the metadata. Others may stand beside; they are nobody's.
fn signers(
    draft: &Repository,
    role: &str,
    offered: &Signed<Targets>,
) -> Result<Vec<String>, ControllerError> {
    let message = offered.envelope.canonical(role).map_err(refused)?;
    let Some(authority) = draft.authority(role) else { return Ok(Vec::new()) };
    let signed = offered.envelope.signatures.iter().filter(|signature| {
        let key = authority.keyids.contains(&signature.keyid).then(|| authority.keys.get(&signature.keyid));
        let raw = hex::decode(&signature.sig).unwrap_or_default();
        key.flatten().is_some_and(|key| key.verifies(&message, &raw))
    });
    Ok(signed.map(|signature| signature.keyid.0.clone()).collect())
}

/// `12.snapshot.json` is version 12 of `snapshot.json`.
fn versioned(name: &str) -> Option<(u64, &str)> {
    let (version, role) = name.split_once('.')?;
    Some((version.parse().ok()?, role))
}

/// The release as the offered metadata lists it.
fn listed(manifest: &Manifest, bytes: &[u8], offered: &Targets) -> Result<ReleaseRef, ControllerError> {
    let (application, release) = (&manifest.application, &manifest.release);
    let refuse = |why: String| {
        let message = format!("the metadata does not list this manifest of {application} {release}: {why}");
        ControllerError::refused(Reason::BadManifest, message)
    };
    let path = release_path(application, release);
    let file = offered.targets.get(&path).ok_or_else(|| refuse(format!("there is no target {path}")))?;
    file.check(&path, bytes).map_err(|error| refuse(error.to_string()))?;
    let custom = file.custom.clone().unwrap_or_default();
    let custom: ReleaseCustom =
        serde_json::from_value(custom).map_err(|error| refuse(format!("its custom data: {error}")))?;
    if custom.app != *application || custom.release != *release {
        return Err(refuse(format!("it lists it as {} {}", custom.app, custom.release)));
    }
    Ok(ReleaseRef {
        name: release.clone(),
        counter: custom.counter,
        digest: Sha256::of(bytes),
        length: bytes.len() as u64,
    })
}

/// Nothing that is listed is lost by a jump: the versions in between may have been others than the signers knew.
fn keeps(role: &str, before: Option<&Targets>, after: Option<&Targets>) -> Result<(), ControllerError> {
    let (Some(before), Some(after)) = (before, after) else { return Ok(()) };
    let lost = before.targets.iter().find(|(path, file)| {
        after.targets.get(*path).is_none_or(|same| same.hashes != file.hashes || same.custom != file.custom)
    });
    let Some((path, _)) = lost else { return Ok(()) };
    let (old, new) = (before.header.version, after.header.version);
    let message = format!(
        "version {new} of {role}, which was signed before the restore, does not list {path}, which version {old} \
         lists now: it was published since, and no client that knows version {new} accepts it. Its signers must \
         decide: sign a version {} that lists what is right",
        new + 1
    );
    Err(ControllerError::refused(Reason::RepositoryChanged, message))
}

/// What was published stays as it is, and what is new has a higher number than all before.
fn follows(
    application: &AppName,
    before: &Targets,
    offered: &Targets,
    listed: &ReleaseRef,
) -> Result<(), ControllerError> {
    for (path, file) in &before.targets {
        match offered.targets.get(path) {
            Some(same) if same.hashes == file.hashes && same.custom == file.custom => {}
            // Taken off the list: clients refuse it from now on, which only its signers can want.
            None => {}
            Some(_) => {
                let message = format!(
                    "{path} is published already with other content; a published name is never reused, choose \
                     another"
                );
                return Err(ControllerError::refused(Reason::ReleaseNameTaken, message));
            }
        }
    }
    let highest = before.highest_counter();
    let fresh = !before.targets.contains_key(&release_path(application, &listed.name));
    if fresh && listed.counter <= highest {
        let message = format!(
            "{application} {} has number {}, and number {highest} was used already; read the role again and \
             sign anew",
            listed.name, listed.counter
        );
        return Err(ControllerError::refused(Reason::RepositoryChanged, message));
    }
    Ok(())
}

fn summarise(repository: &Repository) -> Summary {
    let applications: Vec<AppName> = repository
        .targets_role("targets")
        .and_then(|targets| targets.delegations.as_ref())
        .map(|delegations| {
            let names = delegations.roles.iter().filter_map(|role| role.name.strip_prefix("apps/"));
            names.filter_map(|name| AppName::new(name).ok()).collect()
        })
        .unwrap_or_default();
    let expiries = repository.expiries().into_iter().map(|(expires, role)| (role, expires)).collect();
    let floor = |app: &AppName| {
        let custom = repository.targets_role(POLICY_ROLE)?.targets.get(&policy_path(app))?.custom.as_ref()?;
        Some((app.clone(), AppPolicy::deserialize(custom).ok()?.min_release_counter))
    };
    let floors = applications.iter().filter_map(floor).collect();
    Summary { root_version: repository.root().header.version, expiries, applications, floors }
}

fn bounded(role: &str, bytes: &[u8]) -> Result<(), ControllerError> {
    if bytes.len() <= MAX_VALUE_BYTES {
        return Ok(());
    }
    Err(ControllerError::invalid(format!(
        "the metadata of {role} has {} bytes; at most {MAX_VALUE_BYTES} are accepted",
        bytes.len()
    )))
}

fn no_root() -> ControllerError {
    let message = "the release repository has no root yet; an admin publishes one with `ctl init`";
    ControllerError::refused(Reason::NoRoot, message)
}

fn refused(error: TrustError) -> ControllerError {
    let reason = match &error {
        TrustError::Rollback { .. }
        | TrustError::WrongVersion { .. }
        | TrustError::SameVersionOtherContent { .. } => Reason::RepositoryChanged,
        _ => Reason::BadSignature,
    };
    let mut message = error.to_string();
    if let Some(cause) = std::error::Error::source(&error) {
        message = format!("{message}: {cause}");
    }
    ControllerError::refused(reason, message)
}
