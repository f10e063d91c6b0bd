//! Getting a release: its manifest, its directory objects, the files that are lacking.
//!
//! Everything is named by the digest of its content, and held against it before it gets its place. It
//! travels compressed; of a large object the compressed bytes that have arrived are kept, and fetched on from
//! there. A controller that cannot be reached is waited for; one that sends something else than was asked
//! for is asked again a few times only. Memory is bounded by a chunk and the decoder's window, whatever the
//! size of a file.

mod decoder;
mod object;

use std::collections::BTreeMap;
use std::sync::Arc;

use landfall_agent_core::backoff::Backoff;
use landfall_agent_core::{Event, Finish, Identity, Outline};
use landfall_common::assignment::ReleaseRef;
use landfall_common::disk::Disk;
use landfall_common::manifest::{MAX_DIRECTORY_BYTES, MAX_MANIFEST_BYTES, Manifest, ManifestError};
use landfall_common::report::Failure;
use landfall_common::{Duration, Generation, ReleaseName, Sha256, StepName};
use landfall_proto::v1::agents_client::AgentsClient;
use tokio::sync::{Mutex, OwnedMutexGuard, watch};
use tonic::transport::Channel;

use crate::apply::store::{Lacking, LackingFile, Store};
use crate::error::{AgentError, chain};
use object::{Came, Sink, Wanted};

/// How often an object may arrive as something else before the fetch is given up.
const MAX_BAD_ANSWERS: u32 = 3;

/// Objects asked for at once: enough to keep the connection busy, few enough that an interruption costs little.
const BATCH: usize = 512;

/// The connection of the moment; `None` while there is none.
pub type Link = watch::Receiver<Option<AgentsClient<Channel>>>;

/// What a fetch needs.
pub struct Fetch {
    /// The connection.
    pub link: Link,
    /// `/srv/<app>`.
    pub app: Arc<dyn Disk>,
    /// Whose host this is.
    pub identity: Identity,
    /// For whom.
    pub generation: Generation,
    /// What.
    pub release: ReleaseRef,
    /// What the host says of itself, by which services are chosen.
    pub variables: BTreeMap<String, String>,
    /// Releases whose files need not be fetched.
    pub bases: Vec<(ReleaseName, Sha256)>,
    /// One fetch at a time: what one that was given up still does on the disk has ended before the next begins.
    pub turn: Arc<Mutex<()>>,
}

/// Why an attempt ended.
pub(crate) enum Stop {
    /// The connection; another attempt goes on where this one ended.
    Broken(String),
    /// What arrived is not what was asked for.
    Bad(AgentError),
    /// Trying again is of no use.
    Fatal(String),
}

impl From<AgentError> for Stop {
    fn from(error: AgentError) -> Self {
        match error {
            AgentError::BadObject { .. } | AgentError::NotSent { .. } => Self::Bad(error),
            AgentError::Disk(error) => error.into(),
            AgentError::Manifest(error @ ManifestError::Newer { .. }) => Self::Fatal(format!(
                "{}; upgrade landfall-agent on this host ({} now), then the same release again",
                error.in_full(),
                env!("CARGO_PKG_VERSION")
            )),
            other => Self::Fatal(chain(&other)),
        }
    }
}

impl From<landfall_common::disk::DiskError> for Stop {
    fn from(error: landfall_common::disk::DiskError) -> Self {
        Self::Fatal(chain(&AgentError::from(error)))
    }
}

impl Fetch {
    /// Fetches until everything is here. `tell` is called with events of progress.
    pub async fn run(mut self, tell: impl Fn(Event) + Sync) -> Finish {
        // Its own wait is short: the session waits long enough for a controller that is down.
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
        let mut bad = 0;
        let turn = Arc::new(self.turn.clone().lock_owned().await);
        loop {
            let Ok(client) = self.link.wait_for(Option::is_some).await.map(|client| client.clone()) else {
                return failed("the agent is stopping".to_owned());
            };
            let Some(mut client) = client else { continue };
            match self.attempt(&mut client, &turn, &tell).await {
                Ok(outline) => return Finish::Fetched { outline: Box::new(outline) },
                Err(Stop::Broken(reason)) => {
                    tracing::info!(release = %self.release.name, reason, "the fetch was interrupted and goes on");
                }
                Err(Stop::Bad(error)) if bad + 1 < MAX_BAD_ANSWERS => {
                    bad += 1;
                    tracing::warn!(release = %self.release.name, error = %chain(&error), "fetched again");
                }
                Err(Stop::Bad(error)) => {
                    return failed(format!("{}; asked {MAX_BAD_ANSWERS} times", chain(&error)));
                }
                Err(Stop::Fatal(reason)) => return failed(reason),
            }
            let wait = backoff.next_wait(&mut rand::rng());
            tokio::time::sleep(wait).await;
        }
    }

    async fn attempt(
        &self,
        client: &mut AgentsClient<Channel>,
        turn: &Arc<OwnedMutexGuard<()>>,
        tell: &(impl Fn(Event) + Sync),
    ) -> Result<Outline, Stop> {
        let store = Store::new(self.app.clone());
        let manifest = Arc::new(self.manifest(&store, client).await?);
        let program = manifest.program.clone().on_host(&self.variables);
        let outline = Outline::from(&program.map_err(|unset| Stop::Fatal(unset.to_string()))?);
        let lacking = loop {
            let lacking = self.lacking(&store, &manifest, turn).await?;
            if lacking.directories.is_empty() {
                break lacking;
            }
            for batch in lacking.directories.chunks(BATCH) {
                let wanted = batch.iter().map(|(digest, size)| {
                    // The root's is not signed by a directory above it.
                    let signed = usize::try_from(*size).ok().filter(|size| *size > 0);
                    let max = signed.unwrap_or(MAX_DIRECTORY_BYTES).min(MAX_DIRECTORY_BYTES);
                    Wanted { digest: *digest, sink: Sink::memory(max) }
                });
                object::fetch(client, &self.app, wanted.collect(), &mut |came| match came {
                    Came::Part { .. } => Ok(()),
                    Came::Whole(arrived) => store.put_directory(arrived.digest, arrived.bytes).map(drop),
                })
                .await?;
            }
        };
        let total_bytes: u64 = lacking.files.iter().map(|file| file.size).sum();
        store.check_room(lacking.bytes())?;
        let (mut done_bytes, mut told) = (0, 0);
        let generation = self.generation;
        tell(Event::Progress { generation, done_bytes, total_bytes });
        for batch in lacking.files.chunks(BATCH) {
            let wanted =
                batch.iter().map(|file| self.wanted(&store, file)).collect::<Result<_, AgentError>>()?;
            object::fetch(client, &self.app, wanted, &mut |came| {
                let now_bytes = match came {
                    // A peer may send more than was announced; that is found at its end.
                    Came::Part { bytes } => total_bytes.min(done_bytes + bytes),
                    Came::Whole(arrived) => {
                        done_bytes += arrived.size;
                        done_bytes
                    }
                };
                // Some twenty messages for a release, however many files it has, and however large they are.
                if now_bytes.saturating_sub(told) > total_bytes / 20 {
                    told = now_bytes;
                    tell(Event::Progress { generation, done_bytes: now_bytes, total_bytes });
                }
                Ok(())
            })
            .await?;
        }
        Ok(outline)
    }

    /// [`Store::lacking`], which reads whole releases: meanwhile the network's thread has heartbeats to send.
    async fn lacking(
        &self,
        store: &Store,
        manifest: &Arc<Manifest>,
        turn: &Arc<OwnedMutexGuard<()>>,
    ) -> Result<Lacking, Stop> {
        let (store, manifest, bases) = (store.clone(), manifest.clone(), self.bases.clone());
        let turn = turn.clone();
        let looking = tokio::task::spawn_blocking(move || {
            let lacking = store.lacking(&manifest, &bases);
            drop(turn);
            lacking
        });
        let lacking = looking.await.map_err(|error| Stop::Fatal(format!("looking for files: {error}")))?;
        Ok(lacking?)
    }

    fn wanted(&self, store: &Store, file: &LackingFile) -> Result<Wanted, AgentError> {
        Ok(Wanted { digest: file.digest, sink: Sink::File { store: store.clone(), file: file.clone() } })
    }

    /// The manifest that the signers listed, held against what this host is.
    async fn manifest(&self, store: &Store, client: &mut AgentsClient<Channel>) -> Result<Manifest, Stop> {
        let release = &self.release;
        let manifest = match store.manifest(&release.name, release.digest)? {
            Some(manifest) => manifest,
            None => {
                let wanted = Wanted { digest: release.digest, sink: Sink::memory(MAX_MANIFEST_BYTES) };
                let mut found = None;
                object::fetch(client, &self.app, vec![wanted], &mut |came| {
                    if let Came::Whole(arrived) = came {
                        found = Some(store.put_manifest(&release.name, release.digest, arrived.bytes)?);
                    }
                    Ok(())
                })
                .await?;
                found.ok_or_else(|| Stop::Broken("the manifest did not arrive".to_owned()))?
            }
        };
        if manifest.application != self.identity.application || manifest.release != release.name {
            return Err(Stop::Fatal(format!(
                "the manifest is that of {} {}, and {} {} was wanted",
                manifest.application, manifest.release, self.identity.application, release.name
            )));
        }
        Ok(manifest)
    }
}

/// Gets single objects into the store: files from other places of this disk where they are what they should be, and
/// the rest from the controller.
///
/// # Errors
/// Why not, as a sentence.
pub async fn restore(
    link: &Link,
    app: &Arc<dyn Disk>,
    files: Vec<LackingFile>,
    directories: Vec<Sha256>,
) -> Result<(), String> {
    let store = Store::new(app.clone());
    let files = store.borrow(files).map_err(|error| chain(&error))?;
    if files.is_empty() && directories.is_empty() {
        return Ok(());
    }
    let client = link.borrow().clone();
    let mut client =
        client.ok_or("the controller cannot be reached, and the signed files are nowhere else")?;
    let failed = |stop| match stop {
        Stop::Broken(reason) | Stop::Fatal(reason) => reason,
        Stop::Bad(error) => chain(&error),
    };
    for batch in directories.chunks(BATCH) {
        let wanted =
            batch.iter().map(|digest| Wanted { digest: *digest, sink: Sink::memory(MAX_DIRECTORY_BYTES) });
        object::fetch(&mut client, app, wanted.collect(), &mut |came| match came {
            Came::Part { .. } => Ok(()),
            Came::Whole(arrived) => store.put_directory(arrived.digest, arrived.bytes).map(drop),
        })
        .await
        .map_err(failed)?;
    }
    for batch in files.chunks(BATCH) {
        let sink = |file: &LackingFile| Sink::File { store: store.clone(), file: file.clone() };
        let wanted = batch.iter().map(|file| Wanted { digest: file.digest, sink: sink(file) });
        object::fetch(&mut client, app, wanted.collect(), &mut |_| Ok(())).await.map_err(failed)?;
    }
    Ok(())
}

fn failed(reason: String) -> Finish {
    let step = StepName::new("fetch").expect("a step of the agent's own has a valid name");
    Finish::Failed { failure: Failure::new(step, format!("stage failed: {reason}")) }
}
