//! The engine: the machine, its ledger and its disk, driven by one event at a time.
//!
//! [`Engine::handle`] decides, makes the next record durable, and only then carries out the effects: those on
//! the disk at once, those that start processes or talk to a network through a [`Runner`], whose answers come
//! back as events. Nothing here is asynchronous, reads a clock or starts a process, so that the simulation
//! runs the very same code over a disk and a runner of its own.

mod manifests;
pub mod standing;
pub mod task;
mod traffic;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use landfall_agent_core::drift::{Finding, Remedy};
use landfall_agent_core::{
    Action, Effect, Event, Finish, Identity, Installed, Machine, Now, Record, State, decide,
};
use landfall_common::disk::{Disk, DiskLock};
use landfall_common::manifest::{Manifest, Step, WayBack};
use landfall_common::report::{Failure, HostReport};
use landfall_common::{Duration, ReleaseName, Sha256, StepName};

use crate::apply::store::Store;
use crate::apply::sweep::Sweep;
use crate::apply::{self, inventory, mend, unpack};
use crate::error::{AgentError, chain};
use crate::ledger::{self, Ledger};

use manifests::Manifests;
pub use task::{Runner, Task};

/// Events that wait while the ledger cannot be written; more are refused, for a check answers again anyway.
const MAX_WAITING: usize = 1024;

/// The disks of an agent.
#[derive(Clone)]
pub struct Disks {
    /// `/var/lib/landfall`: the ledger.
    pub state: Arc<dyn Disk>,
    /// `/srv/<app>`: releases, what is shared, `current`.
    pub app: Arc<dyn Disk>,
}

/// The machine with its ledger, its disk and its runner.
pub struct Engine<R> {
    machine: Machine,
    ledger: Ledger,
    disks: Disks,
    manifests: Manifests,
    runner: R,
    waiting: VecDeque<Event>,
    sweep: Option<Sweep>,
    _lock: Box<dyn DiskLock>,
}

/// Makes the ledger of a host that was just enrolled.
///
/// # Errors
/// [`AgentError::LedgerExists`], [`AgentError::Disk`].
pub fn enrol(disks: &Disks, identity: Identity) -> Result<(), AgentError> {
    Ledger::create(disks.state.clone(), &Record::new(identity)).map(drop)
}

/// Replaces a lost ledger by what is on the disk, for an operator who has looked at it: the release that
/// `current` names counts as installed and proven. Whether others were prepared to their end cannot be seen, so
/// they do not count, and are removed. Returns its name.
///
/// # Errors
/// [`AgentError::Locked`] if the agent runs, [`AgentError::Disk`].
pub fn recover(
    disks: &Disks,
    identity: Identity,
    variables: &BTreeMap<String, String>,
) -> Result<Option<ReleaseName>, AgentError> {
    let _lock = lock(&*disks.state)?;
    let active = match apply::current(&*disks.app)? {
        Some(name) => found(&*disks.app, &identity, variables, name)?,
        None => None,
    };
    let record = ledger::recovered(identity, active);
    let active = record.active.clone();
    Ledger::write_over(disks.state.clone(), &record)?;
    Ok(active)
}

/// A release whose directory is there and whose manifest is whole.
fn found(
    app: &dyn Disk,
    identity: &Identity,
    variables: &BTreeMap<String, String>,
    name: ReleaseName,
) -> Result<Option<Installed>, AgentError> {
    let Some(bytes) = app.read(&crate::layout::manifest(&name))? else { return Ok(None) };
    let Ok(manifest) = Manifest::from_bytes(&bytes) else { return Ok(None) };
    if manifest.application != identity.application || !app.exists(&crate::layout::release(&name))? {
        return Ok(None);
    }
    let release = landfall_common::assignment::ReleaseRef {
        name,
        // Not on the disk; 0 is below every other, so that it is the first to go.
        counter: landfall_common::ReleaseCounter(0),
        digest: Sha256::of(&bytes),
        length: bytes.len() as u64,
    };
    let program = manifest.program.on_host(variables)?;
    Ok(Some(Installed { release, outline: (&program).into() }))
}

/// Keeps every other agent off this state directory.
///
/// # Errors
/// [`AgentError::Locked`], [`AgentError::Disk`].
pub(crate) fn lock(state: &dyn Disk) -> Result<Box<dyn DiskLock>, AgentError> {
    state
        .try_lock(Path::new("agent.lock"))?
        .ok_or_else(|| AgentError::Locked { what: "agent.lock".to_owned() })
}

impl<R: Runner> Engine<R> {
    /// Opens the ledger. The first event must be [`Event::Started`].
    ///
    /// # Errors
    /// [`AgentError::Locked`], [`AgentError::NoLedger`], [`AgentError::LedgerLost`], [`AgentError::Disk`].
    pub fn open(disks: Disks, runner: R) -> Result<Self, AgentError> {
        let lock = lock(&*disks.state)?;
        let (ledger, record) = Ledger::open(disks.state.clone())?;
        apply::init(&*disks.app)?;
        let machine = Machine::new(record);
        let (manifests, waiting) = Default::default();
        Ok(Self { machine, ledger, disks, manifests, runner, waiting, sweep: None, _lock: lock })
    }

    /// The machine as it stands.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The record as it is on the disk.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.machine.record
    }

    /// What the effects are given to.
    pub fn runner(&mut self) -> &mut R {
        &mut self.runner
    }

    /// When to send [`Event::Tick`], counted from now; `None` if only other events move the machine. While
    /// the ledger cannot be written, any event tries again.
    #[must_use]
    pub fn wake_after(&self) -> Option<Duration> {
        if self.waiting.is_empty() { self.machine.wake_after() } else { Some(Duration::from_secs(1)) }
    }

    /// Whether events wait for a ledger that cannot be written.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The next report.
    pub fn report(&mut self, now: Now) -> HostReport {
        self.machine.report(now)
    }

    /// Takes an event, and carries out what follows from it.
    ///
    /// # Errors
    /// [`AgentError::Disk`] if the record cannot be made durable. The event then waits, nothing that follows
    /// from it has been begun, and the next event tries again.
    pub fn handle(&mut self, event: Event, now: Now) -> Result<(), AgentError> {
        self.defer(event);
        while let Some(event) = self.waiting.front() {
            let output = decide(&self.machine, event.clone(), now);
            if output.next.record != self.machine.record {
                self.ledger.save(&output.next.record)?;
                tell(&self.machine.record, &output.next.record);
            }
            self.machine = output.next;
            if let Some(Event::Assigned { .. }) = self.waiting.pop_front() {
                self.runner.taken();
            }
            let (local, remote): (Vec<_>, Vec<_>) = output.effects.into_iter().partition(task::is_local);
            for effect in remote {
                self.send(effect, now);
            }
            for effect in local {
                self.perform(effect);
            }
        }
        Ok(())
    }

    /// Puts an event behind those that wait for the ledger. What passes, such as the answer of a check, is dropped
    /// while others wait, and so is everything once there are too many.
    pub fn defer(&mut self, event: Event) {
        let is_passing = matches!(event, Event::Tick | Event::Checked { .. } | Event::Progress { .. });
        if self.waiting.is_empty() || (!is_passing && self.waiting.len() < MAX_WAITING) {
            self.waiting.push_back(event);
        } else if matches!(event, Event::Assigned { .. }) {
            // Nothing will come of it, which is as certain as a decision.
            self.runner.taken();
        }
    }

    /// Does a piece of what can wait: removing old releases. `false` when there is nothing to do now.
    ///
    /// # Errors
    /// [`AgentError::Disk`]; the next call goes on.
    pub fn work(&mut self) -> Result<bool, AgentError> {
        if self.machine.record.state != State::Idle {
            return Ok(false);
        }
        let Some(sweep) = &mut self.sweep else { return Ok(false) };
        let more = sweep.work(&*self.disks.app)?;
        if !more {
            self.sweep = None;
            self.ledger.reserve();
        }
        Ok(more)
    }

    /// Effects on the disk.
    fn perform(&mut self, effect: Effect) {
        let result = match &effect {
            Effect::Sweep { keep } => {
                self.sweep = Some(Sweep::new(keep.clone(), self.trees(keep)));
                return;
            }
            Effect::NameActive { release } => {
                let result = self.name_active(release);
                self.waiting.push_front(Event::Named { result });
                return;
            }
            Effect::Unpack { release, .. } => {
                let bases = self.bases(&release.name);
                self.manifest(&release.name, release.digest)
                    .and_then(|manifest| unpack::unpack(&self.disks.app, &release.name, &manifest, &bases))
                    .map_err(|error| Failure::new(name("unpack"), format!("stage failed: {}", chain(&error))))
            }
            Effect::Seal { release, .. } => self.seal(release),
            Effect::Act { action: Action::Swap { to }, .. } => {
                apply::swap(&*self.disks.app, to).map_err(|error| {
                    Failure::new(name("swap"), format!("current cannot be swapped: {}", chain(&error)))
                })
            }
            _ => return,
        };
        let finish = match result {
            Ok(()) => Finish::Ok,
            Err(failure) => Finish::Failed { failure },
        };
        // Before whatever waits: it is the answer to what was decided last.
        self.waiting.push_front(Event::Done { effect: Box::new(effect), finish });
    }

    /// Records what preparation wrote, and makes it durable.
    fn seal(&self, release: &ReleaseName) -> Result<(), Failure> {
        let disk = &self.disks.app;
        let sealed = disk.exists(&crate::layout::prepared(release)).and_then(|was_prepared| {
            if !was_prepared {
                return Ok(());
            }
            if let Ok(digest) = self.digest_of(release) {
                // A release runs as well without: then nobody knows later whether this was changed.
                if let Err(error) = inventory::record(&**disk, release, digest) {
                    tracing::warn!(%release, error = %chain(&error), "what preparation made is not recorded");
                }
            }
            disk.sync_tree(Path::new(""))
        });
        sealed.map_err(|error| Failure::new(name("sync"), format!("stage failed: {}", chain(&error))))
    }

    /// Puts back what is not as it was applied, if the release is active and nothing is under way. What is needed
    /// for it has been fetched and verified. One answer for each item.
    ///
    /// # Errors
    /// Why nothing is touched now, as a sentence.
    pub fn mend(&self, release: &ReleaseName, items: &[Finding]) -> Result<Vec<Result<(), String>>, String> {
        let record = &self.machine.record;
        if record.active.as_ref() != Some(release) || record.state != State::Idle || self.is_behind() {
            return Err(format!(
                "{release} is not active, or another release is under way; try again after it"
            ));
        }
        let mend = |item: &Finding| match &item.remedy {
            Remedy::Current => self.name_active(release),
            Remedy::SlotLink { slot, release, .. } | Remedy::SlotFile { slot, release, .. }
                if !self.runs_in(slot, release) =>
            {
                Err(format!("{release} does not run in this slot any more; look again"))
            }
            _ => mend::mend(&*self.disks.app, item).map_err(|error| chain(&error)),
        };
        let results = items.iter().map(mend).collect();
        mend::clean(&*self.disks.app, items);
        Ok(results)
    }

    /// Effects of the runner.
    fn send(&mut self, effect: Effect, now: Now) {
        match self.task(&effect, now) {
            Ok(Some(task)) => self.runner.start(task),
            Ok(None) => {}
            Err(failure) if task::is_upkeep(&effect) => {
                tracing::error!(step = %failure.step, reason = failure.reason, "it is tried again");
                let (reason, result) = (failure.reason.clone(), Err(failure.reason));
                self.waiting.push_front(match effect {
                    Effect::Aim { aim } => Event::Aimed { aim, result },
                    Effect::Retire { slot, release } => Event::Retired { slot, release, result },
                    Effect::Ensure { release } => Event::Ensured { release, result },
                    Effect::Watch { watch, .. } => Event::Unwatched { watch, reason },
                    _ => return,
                });
            }
            Err(failure) if self.machine.record.state.awaits().as_ref() == Some(&effect) => {
                let finish = Finish::Failed { failure };
                self.waiting.push_front(Event::Done { effect: Box::new(effect), finish });
            }
            Err(failure) => {
                tracing::error!(step = %failure.step, reason = failure.reason, "an effect cannot be carried out");
            }
        }
    }

    /// An effect with all that the runner needs for it.
    fn task(&mut self, effect: &Effect, now: Now) -> Result<Option<Task>, Failure> {
        let effect = effect.clone();
        Ok(Some(match &effect {
            Effect::Report => {
                let report = self.machine.report(now);
                self.runner.report(report);
                return Ok(None);
            }
            Effect::Cancel => Task::Cancel,
            Effect::Fetch { release, .. } => {
                // Released names are never given to other content: what was there is from a staging that failed.
                let bases = self.bases(&release.name);
                Task::Fetch { release: release.clone(), bases, effect }
            }
            Effect::Prepare { release, step, .. } => {
                let manifest = self.known(release)?;
                let afresh = *step == 0;
                let step = pick(&manifest.program.prepare, *step)?;
                Task::Step { step, release: release.clone(), slot: None, afresh, effect }
            }
            Effect::Smoke { release, step, .. } => {
                let step = pick(&self.placed(release)?.smoke, *step)?;
                let slot = self.machine.record.placement.slot_of(release);
                Task::Step { step, release: release.clone(), slot, afresh: false, effect }
            }
            Effect::ResumeMigration { migrating } => {
                let installed = self.machine.record.installed.get(&migrating.release);
                let step =
                    installed.and_then(|installed| installed.outline.migration_step(migrating.direction));
                let step = step.cloned().unwrap_or_else(|| name("migrate"));
                Task::ResumeMigration { step, migrating: migrating.clone(), effect }
            }
            Effect::Migrate { migrating } => {
                let manifest = self.known(&migrating.release)?;
                let step = migration_step(&manifest, migrating.direction)?;
                let left = migrating.deadline.saturating_sub(now.mono);
                Task::Migrate { step, left, migrating: migrating.clone(), effect }
            }
            Effect::Act { generation, action } => {
                let attempt = |release: &ReleaseName| format!("g{generation}-{release}");
                let (service, release, activate) = match action {
                    Action::Restart { service, release } => (service, release, true),
                    Action::Stop { service, release } => (service, release, false),
                    Action::Swap { .. } => return Ok(None),
                    Action::Renew { service, release, kind } => {
                        return Ok(Some(Task::Restart {
                            service: self.renewed(service, release, *kind)?,
                            kind: *kind,
                            release: release.clone(),
                            digest: self.digest_of(release)?,
                            attempt: attempt(release),
                            effect,
                        }));
                    }
                    Action::Start { slot, release, kept } => {
                        let service = self.instance(release, *slot)?;
                        let digest = self.digest_of(release)?;
                        return Ok(Some(Task::Service {
                            service,
                            release: release.clone(),
                            digest,
                            attempt: attempt(release),
                            activate: true,
                            unless_running: *kept,
                            effect,
                        }));
                    }
                    Action::WarmUp { slot, release } => {
                        let manifest = self.known(release)?;
                        let slots = traffic::slots(&manifest, release)?;
                        return Ok(Some(Task::WarmUp {
                            address: slots.address(*slot).to_owned(),
                            paths: slots.warm_up.clone(),
                            headers: slots.warm_up_headers.clone(),
                            timeout: slots.warm_up_timeout,
                            release: release.clone(),
                            effect,
                        }));
                    }
                    Action::Lead { aim } => return self.lead(aim, effect.clone()).map(Some),
                    Action::Retire { slot, release } => {
                        return self.retire(*slot, release, effect.clone()).map(Some);
                    }
                };
                let manifest = self.known(release)?;
                let definition = manifest.program.services.into_iter().find(|s| s.name == *service);
                let service = definition
                    .ok_or_else(|| Failure::new(action.name(), "the release has no such service"))?;
                let digest = self.digest_of(release)?;
                let attempt = attempt(release);
                let (release, unless_running) = (release.clone(), false);
                Task::Service { service, release, digest, attempt, activate, unless_running, effect }
            }
            Effect::Aim { aim } => return self.lead(aim, effect.clone()).map(Some),
            Effect::Retire { slot, release } => {
                return self.retire(*slot, release, effect.clone()).map(Some);
            }
            Effect::Watch { watch, release } => {
                let program = self.placed(release)?;
                let digest = self.digest_of(release)?;
                let (checks, metrics, services) = (program.checks, program.metrics, program.services);
                Task::Watch { watch: *watch, release: release.clone(), checks, metrics, services, digest }
            }
            Effect::Ensure { release } => {
                Task::Ensure { services: self.kept_up(release)?, active: release.clone() }
            }
            Effect::Unpack { .. }
            | Effect::Seal { .. }
            | Effect::Sweep { .. }
            | Effect::NameActive { .. } => return Ok(None),
        }))
    }

    /// The record says what is active; a link that says otherwise is put right.
    fn name_active(&self, active: &ReleaseName) -> Result<(), String> {
        let found = apply::current(&*self.disks.app);
        if !matches!(&found, Ok(Some(found)) if found == active) {
            tracing::warn!(release = %active, ?found, "current does not name the active release; it is put right");
        }
        // Also where it does: whether that is durable is not known after a swap that failed.
        apply::swap(&*self.disks.app, active).map_err(|error| {
            let reason = format!("`current` may not name {active}, the active release: {}", chain(&error));
            tracing::error!(reason, "current could not be put right; it is tried again");
            reason
        })
    }

    fn installed(&self, release: &ReleaseName) -> Result<&Installed, Failure> {
        let record = &self.machine.record;
        let arriving = match &record.state {
            State::Unpacking { installed, .. } | State::Preparing { installed, .. } => Some(installed),
            _ => None,
        };
        let known = record.installed.get(release).or(arriving.filter(|i| i.release.name == *release));
        known.ok_or_else(|| Failure::new(name("manifest"), format!("release {release} is not on record")))
    }

    fn digest_of(&self, release: &ReleaseName) -> Result<Sha256, Failure> {
        self.installed(release).map(|installed| installed.release.digest)
    }

    /// The manifest of a release, with those of its services that the record knows: which ones run here was
    /// decided when it came, and stays so however the host's variables change meanwhile.
    fn known(&self, release: &ReleaseName) -> Result<Manifest, Failure> {
        let Installed { release: found, outline } = self.installed(release)?;
        let manifest = self
            .manifest(release, found.digest)
            .map_err(|error| Failure::new(name("manifest"), chain(&error)))?;
        let mut manifest = Arc::unwrap_or_clone(manifest);
        manifest.program.services.retain(|service| outline.services.contains(&service.name));
        Ok(manifest)
    }

    fn manifest(&self, release: &ReleaseName, digest: Sha256) -> Result<Arc<Manifest>, AgentError> {
        self.manifests.read(&Store::new(self.disks.app.clone()), release, digest)
    }

    /// The releases whose files a new one may share: the active one, and the newest beside it.
    fn bases(&self, arriving: &ReleaseName) -> Vec<(ReleaseName, Sha256)> {
        let record = &self.machine.record;
        let newest = record.installed.values().max_by_key(|installed| installed.release.counter);
        let mut bases: Vec<(ReleaseName, Sha256)> = Vec::new();
        for installed in record.active().into_iter().chain(newest) {
            let base = (installed.release.name.clone(), installed.release.digest);
            if base.0 != *arriving && !bases.contains(&base) {
                bases.push(base);
            }
        }
        bases
    }

    /// The trees of these releases, if each is known and nothing is being fetched.
    fn trees(&self, keep: &std::collections::BTreeSet<ReleaseName>) -> Option<Vec<Sha256>> {
        if self.machine.record.state.arriving().is_some() {
            return None;
        }
        keep.iter().map(|release| self.known(release).ok().map(|manifest| manifest.tree)).collect()
    }
}

fn pick(steps: &[Step], index: usize) -> Result<Step, Failure> {
    let missing = || Failure::new(name("step"), format!("the release has no step {index}"));
    steps.get(index).cloned().ok_or_else(missing)
}

fn migration_step(
    manifest: &Manifest,
    direction: landfall_common::assignment::Direction,
) -> Result<Step, Failure> {
    use landfall_common::assignment::Direction;
    let program = &manifest.program;
    let step = match direction {
        Direction::Up => program.migrate.as_ref().map(|migration| migration.step.clone()),
        Direction::Down => program.migrate.as_ref().and_then(|migration| match &migration.way_back {
            WayBack::Reversible { down } => Some(down.clone()),
            WayBack::Compatible | WayBack::None => None,
        }),
        Direction::Contract => program.contract.as_ref().map(|contract| contract.step.clone()),
    };
    step.ok_or_else(|| Failure::new(name("migrate"), "the release has no such migration"))
}

fn name(text: &str) -> StepName {
    StepName::new(text).expect("a step of the agent's own has a valid name")
}

/// One line for each transition.
fn tell(before: &Record, after: &Record) {
    let generation = after.accepted.map(|accepted| accepted.generation.0);
    if std::mem::discriminant(&before.state) != std::mem::discriminant(&after.state) {
        tracing::info!(
            host = %after.identity.host, generation, from = state_name(&before.state),
            to = state_name(&after.state), "transition"
        );
    }
    if before.outcome != after.outcome
        && let Some(outcome) = &after.outcome
    {
        tracing::info!(host = %after.identity.host, generation = outcome.generation.0, result = ?outcome.result, "assignment ended");
    }
}

/// What a person calls a state.
#[must_use]
pub fn state_name(state: &State) -> &'static str {
    match state {
        State::Idle => "idle",
        State::Fetching { .. } => "fetching",
        State::Unpacking { .. } => "unpacking",
        State::Preparing { .. } => "preparing",
        State::Migrating { .. } => "migrating",
        State::Activating { .. } => "activating",
        State::Proving { .. } => "proving",
        State::Smoking { .. } => "smoke tests",
        State::Undoing { .. } => "undoing",
        State::Confirming { .. } => "confirming",
    }
}
