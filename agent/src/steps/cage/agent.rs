//! The agent's side: writes the request, has the unit started, and reads how the step ended.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use landfall_common::disk::Disk;
use landfall_common::manifest::Step;
use landfall_common::manifest::traffic::Slot;
use landfall_common::{ReleaseName, StepName};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::units::{self, Trouble, Units};
use super::{Kind, Places, Request, RunId, pin};
use crate::steps::supervisor::{Recovered, failure, millis, recover_by};
use crate::steps::{Cause, GRACE, StepContext, StepFailure, StepOutput};
use crate::{clock, layout, trust};

/// How often a unit is looked at whose job somebody else has asked for.
const POLL: Duration = Duration::from_millis(200);

/// The runner keeps the time. If it does not, the unit is ended so much later.
const MARGIN: Duration = Duration::from_secs(60);

/// So long systemd may not answer, as while it is restarted, before the end of a step counts as unknown.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs steps in units.
pub struct Cage {
    units: Arc<dyn Units>,
    places: Places,
    /// `/var/lib/landfall`, for the trusted metadata.
    state: Arc<dyn Disk>,
    app_dir: PathBuf,
    /// Whether a unit may run for which nobody waits: one of an agent before this one, or one that was given up.
    unknown: Mutex<bool>,
}

/// What is to run.
#[derive(Debug, Clone)]
pub struct Started {
    /// Of which release.
    pub release: ReleaseName,
    /// As what.
    pub kind: Kind,
    /// The step, as the manifest has it.
    pub step: Step,
    /// The slot that it asks.
    pub slot: Option<Slot>,
}

impl Cage {
    /// A cage whose units are started by these.
    #[must_use]
    pub fn new(units: Arc<dyn Units>, places: Places, state: Arc<dyn Disk>, app_dir: PathBuf) -> Self {
        Self { units, places, state, app_dir, unknown: Mutex::new(true) }
    }

    /// Ends what nobody waits for any more, as after an agent that was killed: all but migrations. Doing it again
    /// is nothing.
    ///
    /// # Errors
    /// A sentence, if such a step may still run.
    pub async fn end_left(&self) -> Result<(), String> {
        let mut unknown = self.unknown.lock().await;
        if *unknown {
            self.end_abandoned().await.map_err(|trouble| {
                format!("a step that an agent before this one has begun may still run: {trouble}")
            })?;
            *unknown = false;
        }
        Ok(())
    }

    /// Runs a preparation or a smoke test to its end.
    ///
    /// # Errors
    /// [`StepFailure`] unless it exits 0 in time.
    pub async fn run(&self, what: &Started, context: &StepContext) -> Result<StepOutput, StepFailure> {
        self.end_left().await.map_err(|reason| failure(&what.step.name, Cause::NotStarted { reason }))?;
        let id = RunId::random();
        let ended = self.carry_out(&id, what, context).await;
        if matches!(&ended, Err(StepFailure { cause: Cause::Lost { .. }, .. })) {
            *self.unknown.lock().await = true;
        }
        for path in
            [self.places.request(&id), self.places.note(&id), beside(&self.places.note(&id), ".reserve")]
        {
            let _ = fs::remove_file(path);
        }
        ended
    }

    /// Runs a migration to its end. If the agent is killed meanwhile, the migration goes on until its end or its
    /// deadline.
    ///
    /// # Errors
    /// Whether it is known that nothing of it is under way, and how it failed.
    pub async fn migrate(
        &self,
        fence: u64,
        what: &Started,
        context: &StepContext,
    ) -> Result<StepOutput, (bool, StepFailure)> {
        self.sweep(fence).await;
        let id = RunId::migration(fence);
        // A lease whose note is there was used before, whatever the ledger says: nobody knows how it ended.
        if self.places.note(&id).exists() {
            let reason = format!("{} says that it was begun before", self.places.note(&id).display());
            return Err((false, failure(&what.step.name, Cause::Lost { reason })));
        }
        let ended = self.carry_out(&id, what, context).await;
        ended.map_err(|failure| (failure.is_conclusive(), failure))
    }

    /// Waits for the end of a migration that an agent before this one has begun; it comes at its deadline at the
    /// latest, or once `cancel` is cancelled.
    ///
    /// # Errors
    /// As [`Cage::migrate`]. A note that is not there proves nothing: the record says that it began.
    pub async fn resume(
        &self,
        fence: u64,
        step: &StepName,
        cancel: &CancellationToken,
    ) -> Result<StepOutput, (bool, StepFailure)> {
        let id = RunId::migration(fence);
        // Whether it has the network is for its definition to say, which is not needed for this.
        let units = [false, true].map(|network| units::unit(&id, network));
        let ended = cancel.run_until_cancelled(self.end(&units, &id, step)).await;
        let ended = match ended {
            Some(ended) => ended,
            None => {
                for unit in &units {
                    if self.units.is_up(unit).await.unwrap_or(true) {
                        self.stop(unit).await;
                    }
                }
                self.end(&units, &id, step).await
            }
        };
        let is_noted = self.places.note(&id).exists();
        into_result(ended, step, "it was never begun")
            .map_err(|failure| (failure.is_conclusive() && is_noted, failure))
    }

    async fn carry_out(
        &self,
        id: &RunId,
        what: &Started,
        context: &StepContext,
    ) -> Result<StepOutput, StepFailure> {
        let name = &what.step.name;
        let not_started = |reason: String| failure(name, Cause::NotStarted { reason });
        let left = context.deadline.map(|deadline| deadline.saturating_sub(clock::mono()));
        if left == Some(Duration::ZERO) {
            return Err(not_started("its deadline had passed before it could begin".to_owned()));
        }
        let request = Request {
            release: what.release.clone(),
            kind: what.kind,
            step: name.clone(),
            slot: what.slot,
            deadline_ms: context.deadline.map(millis),
            metadata: self.metadata().map_err(not_started)?,
        };
        self.open_prepared(&what.release)
            .and_then(|()| write(&self.places.request(id), &request))
            .map_err(|error| not_started(self.unwritable(&error)))?;
        let unit = units::unit(id, what.kind.has_network(&what.step));
        let time = left.map_or(what.step.timeout, |left| left.min(what.step.timeout));
        let from = crate::clock::wall().ms().saturating_mul(1000);
        let asked = tokio::select! {
            asked = self.units.start(&unit, time + GRACE + MARGIN) => asked,
            () = context.cancel.cancelled() => self.units.stop(&unit).await,
        };
        let mut is_clear = true;
        match &asked {
            Ok(()) => {}
            Err(Trouble::Refused(reason)) if !self.places.note(id).exists() => {
                return Err(not_started(reason.clone()));
            }
            Err(trouble) => {
                tracing::warn!(unit, %trouble, "a step that does not end by itself is ended");
                is_clear = matches!(trouble, Trouble::Refused(_));
                self.stop(&unit).await;
            }
        }
        let ended = match self.end(std::slice::from_ref(&unit), id, name).await {
            // It was asked for, and may begin after all: whoever waits for it any longer waits for nothing known.
            Recovered::NeverBegun if !is_clear => {
                Recovered::Lost { reason: "systemd did not say whether it was begun".to_owned() }
            }
            ended => ended,
        };
        let unsaid = match ended {
            Recovered::NeverBegun => self.units.said(&unit, from).await.pop(),
            _ => None,
        };
        let unsaid = unsaid.map(|line| format!(": {line}")).unwrap_or_default();
        into_result(ended, name, &format!("its unit ended before it began (`journalctl -u {unit}`){unsaid}"))
    }

    async fn stop(&self, unit: &str) {
        if let Err(trouble) = self.units.stop(unit).await {
            tracing::error!(unit, %trouble, "a step cannot be ended");
        }
    }

    /// Whether any of these is up.
    async fn is_any_up(&self, units: &[String]) -> Result<bool, Trouble> {
        for unit in units {
            if self.units.is_up(unit).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// How a step ended, once nothing runs in its unit any more, whichever of these that is.
    async fn end(&self, units: &[String], id: &RunId, step: &StepName) -> Recovered {
        let mut silent_since = None;
        loop {
            match self.is_any_up(units).await {
                Ok(true) => {
                    silent_since = None;
                    tokio::time::sleep(POLL).await;
                }
                // Whatever it noted, it noted before it went down.
                Ok(false) => return recover_by(&self.places.note(id), step, |_, _| false),
                Err(trouble) => {
                    let since = *silent_since.get_or_insert_with(clock::mono);
                    if clock::mono().saturating_sub(since) > PATIENCE {
                        return Recovered::Lost { reason: trouble.to_string() };
                    }
                    tokio::time::sleep(POLL).await;
                }
            }
        }
    }

    /// The metadata by which the runner verifies the release for itself.
    fn metadata(&self) -> Result<BTreeMap<String, String>, String> {
        let store = trust::load(&*self.state).map_err(|error| crate::error::chain(&error))?;
        let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).ok();
        let files = store.files().iter().filter(|(name, _)| is_asked_for(name));
        Ok(files.filter_map(|(name, bytes)| Some((name.clone(), text(bytes)?))).collect())
    }

    /// Lets the group of steps write what is being prepared.
    fn open_prepared(&self, release: &ReleaseName) -> io::Result<()> {
        let prepared = self.app_dir.join(layout::prepared(release));
        match fs::metadata(&prepared) {
            Ok(_) => {
                std::os::unix::fs::chown(&prepared, None, Some(pin::group(&self.places.requests())?))?;
                fs::set_permissions(&prepared, fs::Permissions::from_mode(0o775))
            }
            // A release without preparation has none.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn unwritable(&self, error: &io::Error) -> String {
        format!(
            "the request for its unit cannot be written: {error}; {} and its group are made by \
             `systemd-sysusers landfall-agent.conf; systemd-tmpfiles --create landfall-agent.conf`",
            self.places.root.display()
        )
    }

    async fn end_abandoned(&self) -> Result<(), Trouble> {
        for unit in self.units.list().await? {
            let id = unit.split_once('@').and_then(|(_, rest)| rest.strip_suffix(".service"));
            if id.and_then(|id| id.parse::<RunId>().ok()).is_some_and(|id| id.fence().is_some()) {
                continue;
            }
            tracing::info!(unit, "a step that an agent before this one has begun is ended");
            self.units.stop(&unit).await?;
        }
        for directory in [self.places.requests(), self.places.results()] {
            remove(&directory, |id| id.fence().is_none());
        }
        Ok(())
    }

    /// Removes what was asked for and noted under leases below this one: the record holds this one, so nobody
    /// asks for theirs any more. What still runs keeps its place for the note of its end.
    async fn sweep(&self, fence: u64) {
        let olds =
            |directory: &Path| runs(directory).filter_map(|(_, id)| id.fence()).collect::<BTreeSet<_>>();
        let directories = [self.places.requests(), self.places.results()];
        let found: BTreeSet<u64> = directories.iter().flat_map(|directory| olds(directory)).collect();
        for id in found.range(..fence).copied().map(RunId::migration) {
            let mut is_up = false;
            for network in [false, true] {
                is_up |= self.units.is_up(&units::unit(&id, network)).await.unwrap_or(true);
            }
            if !is_up {
                directories.iter().for_each(|directory| remove(directory, |found| *found == id));
            }
        }
    }
}

/// The files in a directory that belong to runs.
fn runs(directory: &Path) -> impl Iterator<Item = (PathBuf, RunId)> {
    fs::read_dir(directory).into_iter().flatten().flatten().filter_map(|entry| {
        let name = entry.file_name();
        Some((entry.path(), name.to_str()?.split_once('.')?.0.parse().ok()?))
    })
}

/// Removes the files of these runs from a directory.
fn remove(directory: &Path, is_old: impl Fn(&RunId) -> bool) {
    for (path, _) in runs(directory).filter(|(_, id)| is_old(id)) {
        if let Err(error) = fs::remove_file(&path) {
            // The next one tries again.
            tracing::warn!(path = %path.display(), %error, "an old note of a step cannot be removed");
        }
    }
}

/// Who signed is asked, and not how fresh it is.
fn is_asked_for(name: &str) -> bool {
    name.ends_with(".json") && !matches!(name, "timestamp.json" | "snapshot.json")
}

fn into_result(ended: Recovered, step: &StepName, unsaid: &str) -> Result<StepOutput, StepFailure> {
    match ended {
        Recovered::Ended(result) => result,
        Recovered::NeverBegun => Err(failure(step, Cause::NotStarted { reason: unsaid.to_owned() })),
        // `end` waits until nothing runs.
        Recovered::Running => Err(failure(step, Cause::Lost { reason: "it still runs".to_owned() })),
        Recovered::Lost { reason } => Err(failure(step, Cause::Lost { reason })),
    }
}

fn write(path: &Path, request: &Request) -> io::Result<()> {
    let temporary = beside(path, ".new");
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o640).open(&temporary)?;
    file.write_all(&serde_json::to_vec(request)?)?;
    fs::rename(&temporary, path)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(suffix);
    name.into()
}
