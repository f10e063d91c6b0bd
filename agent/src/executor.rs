//! The executor: carries out what the engine asks for and is no matter of the disk, each as a task of its own.
//!
//! It makes no choice. What it is told to begin it begins, and how that ended it tells the engine.

mod acts;
pub mod beside;
mod notes;
pub mod watching;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use landfall_agent_core::outline::{SERVICE_INTERVAL, service_check};
use landfall_agent_core::{Effect, Event, Finish, Identity};
use landfall_common::assignment::{Direction, ReleaseRef};
use landfall_common::disk::{Disk, RealDisk};
use landfall_common::report::Failure;
use landfall_common::{ReleaseName, Sha256, StepName};
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use crate::apply::store::{LackingFile, Store};
use crate::config::{Config, StepsIn};
use crate::drivers::{self, DriverHost, DriverState};
use crate::engine::Task;
use crate::engine::standing::Running;
use crate::error::{AgentError, chain};
use crate::exposed::Exposed;
use crate::fetch::{self, Fetch, Link};
use crate::latency::Latencies;
use crate::layout;
use crate::program;
use crate::runtime::EngineHandle;
use crate::steps::cage::{self, Cage, Kind, Started};
use crate::steps::supervisor::{self, Supervision};
use crate::steps::{self, StepContext, StepFailure, Words};
use crate::usage::Usages;
use crate::{apply, clock};

/// How long a repair may take to get its files.
const RESTORE_PATIENCE: Duration = Duration::from_secs(60);

/// All that tasks need.
pub struct Executor {
    identity: Identity,
    app: Arc<dyn Disk>,
    app_dir: PathBuf,
    config: Config,
    host: DriverHost,
    /// Where preparation, migrations and smoke tests run, if not below the agent.
    cage: Option<Arc<Cage>>,
    engine: EngineHandle,
    link: Link,
    /// How the checks go.
    pub latencies: Arc<Latencies>,
    /// What the services use.
    pub usages: Arc<Usages>,
    /// What the application shows of itself.
    pub exposed: Arc<Exposed>,
    /// Ends fetches and steps that are not wanted any more.
    wanted: std::sync::Mutex<CancellationToken>,
    /// Ends a migration whose lease is long over, and nothing else does: it outlives an agent that stops.
    migrating: std::sync::Mutex<CancellationToken>,
    watching: std::sync::Mutex<CancellationToken>,
    /// Services are changed one at a time, whoever asks for it.
    services: Mutex<()>,
    /// How often services were looked after: who asks on for an earlier time ends.
    ensures: AtomicU64,
    /// What the engine wants done to services and proxies, in the order in which it does.
    acts: mpsc::UnboundedSender<Task>,
    to_act: std::sync::Mutex<Option<mpsc::UnboundedReceiver<Task>>>,
    /// One at a time writes what is fetched: a release, or a repair.
    fetches: Arc<Mutex<()>>,
    /// A step that is being ended has ended before the next one begins.
    steps: Mutex<()>,
    stop: CancellationToken,
}

impl Executor {
    /// Ready to begin.
    ///
    /// # Errors
    /// [`AgentError::Config`] if the agent's own program cannot be found.
    pub fn new(
        config: &Config,
        identity: &Identity,
        app: Arc<dyn Disk>,
        engine: EngineHandle,
        link: Link,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, AgentError> {
        let (acts, to_act) = mpsc::unbounded_channel();
        let mut host = DriverHost::new(config.launcher(), config.places(), config.state_dir.join("drivers"));
        host.docker.clone_from(&config.docker);
        let app_dir = config.app_dir(&identity.application);
        let cage = (config.steps == StepsIn::Unit).then(|| {
            let state = Arc::new(RealDisk::new(&config.state_dir));
            Arc::new(Cage::new(Arc::new(host.bus()), cage::Places::default(), state, app_dir.clone()))
        });
        Ok(Arc::new(Self {
            acts,
            to_act: std::sync::Mutex::new(Some(to_act)),
            identity: identity.clone(),
            app,
            app_dir,
            config: config.clone(),
            host,
            cage,
            engine,
            link,
            latencies: Arc::default(),
            usages: Arc::default(),
            exposed: Arc::default(),
            wanted: std::sync::Mutex::new(stop.child_token()),
            migrating: std::sync::Mutex::default(),
            watching: std::sync::Mutex::new(stop.child_token()),
            services: Mutex::new(()),
            ensures: AtomicU64::default(),
            fetches: Arc::default(),
            steps: Mutex::new(()),
            stop,
        }))
    }

    /// Takes tasks until the engine is gone.
    pub async fn run(self: Arc<Self>, mut tasks: mpsc::UnboundedReceiver<Task>) {
        self.clone().end_left().await;
        let to_act = self.to_act.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let acting = to_act.map(|to_act| tokio::spawn(acts::run(self.clone(), to_act)));
        while let Some(task) = tasks.recv().await {
            self.clone().begin(task);
        }
        if let Some(acting) = acting {
            acting.abort();
        }
    }

    fn begin(self: Arc<Self>, task: Task) {
        match task {
            Task::Cancel => {
                renew(&self.wanted, &self.stop);
                renew(&self.migrating, &CancellationToken::new());
            }
            Task::Watch { watch, release, checks, metrics, services, digest } => {
                renew(&self.watching, &self.stop);
                let ended = token(&self.watching);
                watching::begin_services(&self, watch, &release, services, digest, &ended);
                watching::begin_metrics(&self, watch, &release, &metrics, &ended);
                watching::begin(self, watch, &release, checks, &ended);
            }
            act @ (Task::Service { .. }
            | Task::Restart { .. }
            | Task::Ensure { .. }
            | Task::WarmUp { .. }
            | Task::Lead { .. }
            | Task::Retire { .. }) => {
                let _ = self.acts.send(act);
            }
            Task::Fetch { release, bases, effect } => {
                let Effect::Fetch { generation, .. } = effect else { return };
                let wanted = token(&self.wanted);
                tokio::spawn(async move {
                    let fetch = Fetch {
                        link: self.link.clone(),
                        app: self.app.clone(),
                        identity: self.identity.clone(),
                        generation,
                        release: release.clone(),
                        variables: self.config.variables(),
                        bases,
                        turn: self.fetches.clone(),
                    };
                    let engine = self.engine.clone();
                    let fetching = async {
                        match fetch.run(move |event| engine.send(event)).await {
                            finish @ Finish::Fetched { .. } => match self.stage_services(&release).await {
                                Ok(()) => finish,
                                Err(failure) => Finish::Failed { failure },
                            },
                            finish => finish,
                        }
                    };
                    tokio::select! {
                        finish = fetching => self.done(effect, finish),
                        () = wanted.cancelled() => {}
                    }
                });
            }
            Task::Step { step, release, slot, afresh, effect } => {
                let context = StepContext {
                    group_note: Some(self.group_note("step")),
                    ..self.context(&release, Some(&step.name), token(&self.wanted))
                };
                let kind = match effect {
                    Effect::Smoke { .. } => Kind::Smoke,
                    _ => Kind::Prepare,
                };
                tokio::spawn(async move {
                    let held = self.steps.lock().await;
                    if context.cancel.is_cancelled() {
                        return;
                    }
                    let result = match self.make_room(&step.name, &release, afresh).await {
                        Ok(()) => self.step(Started { release, kind, step, slot }, &context).await,
                        Err(failure) => Err(failure),
                    };
                    drop(held);
                    self.done(effect, finish_of(result));
                });
            }
            Task::Migrate { step, left, migrating, effect } => {
                let mut context = self.context(&migrating.release, Some(&step.name), token(&self.migrating));
                context.deadline = Some(clock::mono().saturating_add(asked_to_end_after(left)));
                let fence = migrating.fence;
                context.fence = Some(fence);
                let note = notes::path(&self.config.state_dir, fence);
                let kind = match migrating.direction {
                    Direction::Up => Kind::Migrate,
                    Direction::Down => Kind::MigrateDown,
                    Direction::Contract => Kind::Contract,
                };
                tokio::spawn(async move {
                    let result = if let Some(cage) = &self.cage {
                        let release = migrating.release;
                        let what = Started { release, kind, step, slot: None };
                        cage.migrate(fence, &what, &context).await.map(drop)
                    } else {
                        notes::sweep(&self.config.state_dir, fence, &step.name);
                        self.migrate(&step, &context, note).await
                    };
                    self.done(effect, conclusion(result));
                });
            }
            Task::ResumeMigration { step, migrating, effect } => {
                let cancel = token(&self.migrating);
                let fence = migrating.fence;
                let note = notes::path(&self.config.state_dir, fence);
                tokio::spawn(async move {
                    let result = if let Some(cage) = &self.cage {
                        cage.resume(fence, &step, &cancel).await
                    } else {
                        // The record says that it began; a note that is not there proves nothing.
                        let ended = supervisor::wait(&note, &step, &cancel).await;
                        ended.map_err(|failure| (failure.is_conclusive() && note.exists(), failure))
                    };
                    self.done(effect, conclusion(result.map(drop)));
                });
            }
        }
    }

    /// Ends what an agent before this one has left running. What it has left in units holds up steps only.
    async fn end_left(self: Arc<Self>) {
        for kind in ["step", "act"] {
            if let Err(left) = steps::end_left(&self.group_note(kind)).await {
                tracing::error!(left, "what an agent before this one has run has not ended");
            }
        }
        if let Some(cage) = self.cage.clone() {
            tokio::spawn(async move {
                if let Err(left) = cage.end_left().await {
                    tracing::error!(left, "what an agent before this one has run in a unit has not ended");
                }
            });
        }
    }

    /// Where it is noted which processes are those of the step, or of the change to a service or proxy, that
    /// runs: there is one of each at a time.
    fn group_note(&self, kind: &str) -> PathBuf {
        self.config.run_dir.join("steps").join(format!("{}.{kind}", self.identity.application))
    }

    /// Before a step, with the lock on steps held: nothing of an earlier one writes any more, and what that has
    /// prepared is removed where the step is to begin `afresh`.
    async fn make_room(&self, step: &StepName, release: &ReleaseName, afresh: bool) -> Result<(), Failure> {
        let mut left = steps::end_left(&self.group_note("step")).await;
        if let (Ok(()), Some(cage)) = (&left, &self.cage) {
            left = cage.end_left().await;
        }
        left.map_err(|reason| Failure::new(step.clone(), reason))?;
        if !afresh {
            return Ok(());
        }
        let failed = |reason: String| Failure::new(own_step("prepare"), format!("stage failed: {reason}"));
        let (app, release) = (self.app.clone(), release.clone());
        let cleared = tokio::task::spawn_blocking(move || apply::clear_prepared(&*app, &release)).await;
        cleared.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(chain(&error)))
    }

    /// A preparation or a smoke test.
    async fn step(&self, what: Started, context: &StepContext) -> Result<(), Failure> {
        let Some(cage) = &self.cage else {
            return steps::run(&what.step, context).await.map(drop).map_err(Failure::from);
        };
        cage.run(&what, context).await.map(drop).map_err(|failure| {
            let has_run = matches!(failure.cause, steps::Cause::Exited { .. });
            let mut failure = Failure::from(failure);
            if has_run {
                // What cannot read or reach something says so in many ways, none of which names the cause.
                failure.reason.push_str(match what.kind.has_network(&what.step) {
                    true => " (it ran as the user of steps)",
                    false => {
                        " (it ran as the user of steps, without network; `network = true` in landfall.toml gives it one)"
                    }
                });
            }
            failure
        })
    }

    async fn migrate(
        &self,
        step: &landfall_common::manifest::Step,
        context: &StepContext,
        note: PathBuf,
    ) -> Result<(), (bool, StepFailure)> {
        let not_started = |reason: String| {
            let cause = steps::Cause::NotStarted { reason };
            (
                true,
                StepFailure {
                    step: step.name.clone(),
                    cause,
                    output: Box::default(),
                    took: Default::default(),
                },
            )
        };
        if let Some(parent) = note.parent() {
            std::fs::create_dir_all(parent)
                .map_err(|error| not_started(format!("cannot make {}: {error}", parent.display())))?;
        }
        // A lease whose note is there was used before, whatever the ledger says: nobody knows how it ended.
        let was_begun = note.exists();
        let supervision =
            Supervision { program: program::OWN.into(), arguments: vec!["step-runner".into()], note };
        let result = supervisor::run(step, context, &supervision).await;
        result.map(drop).map_err(|failure| (failure.is_conclusive() && !was_begun, failure))
    }

    /// Brings what those services of a release that was fetched need beside its files that run on this host.
    async fn stage_services(&self, release: &ReleaseRef) -> Result<(), Failure> {
        let lost = |reason: String| Failure::new(own_step("fetch"), format!("stage failed: {reason}"));
        let manifest = Store::new(self.app.clone()).manifest(&release.name, release.digest);
        let manifest = manifest.map_err(|error| lost(chain(&error)))?;
        let manifest = manifest.ok_or_else(|| lost("its manifest is not on this disk".to_owned()))?;
        let program = manifest.program.on_host(&self.config.variables());
        let program = program.map_err(|unset| lost(unset.to_string()))?;
        let context = self.context(&release.name, None, CancellationToken::new());
        for service in &program.services {
            drivers::of(&self.host, service, &context).stage().await?;
        }
        Ok(())
    }

    /// Gets what a repair needs into the store: from the files that are here, else from the controller.
    ///
    /// # Errors
    /// What could not be got, as a sentence.
    pub async fn restore(&self, files: Vec<LackingFile>, directories: Vec<Sha256>) -> Result<(), String> {
        // A release that wants to fetch waits no longer than this.
        let restored = tokio::time::timeout(RESTORE_PATIENCE, async {
            let _turn = self.fetches.lock().await;
            // Whoever removed files may have removed where they are put.
            apply::init(&*self.app).map_err(|error| chain(&error))?;
            fetch::restore(&self.link, &self.app, files, directories).await
        });
        restored.await.unwrap_or_else(|_| {
            Err(format!("the signed files did not arrive within {} s", RESTORE_PATIENCE.as_secs()))
        })
    }

    /// Starts what does not run, and takes over what lost its holder. Services whose manager cannot be asked
    /// yet, as after a boot when the agent is up first, are asked for again until it answers, or `current`
    /// names another release; nothing waits for that.
    ///
    /// # Errors
    /// Why one of them may not run.
    async fn ensure(self: &Arc<Self>, services: Vec<Running>, active: &ReleaseName) -> Result<(), Failure> {
        let turn = self.ensures.fetch_add(1, Ordering::Relaxed) + 1;
        let Ensured { mut unseen, failed } = self.ensure_seen(services, active).await;
        for Running { service, release, .. } in &unseen {
            tracing::warn!(service = %service.name, %release, "how the service is cannot be asked yet, and is again");
        }
        let (executor, active) = (self.clone(), active.clone());
        let asking = async move {
            while !unseen.is_empty() {
                tokio::time::sleep(SERVICE_INTERVAL).await;
                let mut seen = Vec::new();
                for running in std::mem::take(&mut unseen) {
                    let context = executor.context(&running.release, None, CancellationToken::new());
                    // A manager that lets one wait holds up nobody else: the lock is taken once it answers.
                    match drivers::status(&executor.host, &running.service, &context).await {
                        DriverState::Unknown { .. } => unseen.push(running),
                        _ => seen.push(running),
                    }
                }
                if executor.ensures.load(Ordering::Relaxed) != turn {
                    return;
                }
                match is_active(&executor.app_dir, &active) {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(_) => {
                        unseen.extend(seen);
                        continue;
                    }
                }
                let again = executor.ensure_seen(seen, &active).await;
                unseen.extend(again.unseen);
                if let Some(failure) = again.failed {
                    let effect = Effect::Ensure { release: active.clone() };
                    acts::answer(&executor, effect, Err(failure));
                }
            }
        };
        let stop = self.stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(asking).await });
        failed.map_or(Ok(()), Err)
    }

    /// [`Self::ensure`], once.
    async fn ensure_seen(&self, services: Vec<Running>, active: &ReleaseName) -> Ensured {
        let mut done = Ensured::default();
        // Held throughout: an activation either waits, or has swapped `current` before.
        let _held = self.services.lock().await;
        for running in services {
            match is_active(&self.app_dir, active) {
                Ok(true) => {}
                Ok(false) => return Ensured::default(),
                Err(error) => {
                    let failure =
                        Failure::new(own_step("current"), format!("current cannot be read: {error}"));
                    return Ensured { failed: Some(failure), ..done };
                }
            }
            let Running { service, release, digest } = &running;
            let context = self.context(release, None, CancellationToken::new());
            let state = drivers::status(&self.host, service, &context).await;
            let wanted = match &state {
                DriverState::Running { release, .. } => release.is_some_and(|running| running != *digest),
                DriverState::Stopped | DriverState::HolderGone { .. } | DriverState::Failing { .. } => true,
                DriverState::Unknown { .. } => {
                    // A command without a status cannot be asked; after a reboot it is the init system's to start.
                    if service_check(service).is_some() {
                        done.unseen.push(running);
                    }
                    continue;
                }
                DriverState::Starting => false,
            };
            if wanted {
                tracing::info!(service = %service.name, %release, ?state, "the service is started");
                let attempt = format!("ensure-{}", crate::clock::wall().ms());
                if let Err(failure) =
                    drivers::activate(&self.host, service, &context, *digest, &attempt).await
                {
                    tracing::error!(
                        service = %service.name, reason = failure.reason,
                        "the service cannot be started; it is tried again"
                    );
                    done.failed.get_or_insert(failure);
                }
            }
        }
        done
    }

    /// What surrounds a step or service of a release.
    pub(crate) fn context(
        &self,
        release: &ReleaseName,
        step: Option<&StepName>,
        cancel: CancellationToken,
    ) -> StepContext {
        let directory = self.app_dir.join(layout::release(release));
        StepContext {
            identity: steps::Identity {
                application: self.identity.application.clone(),
                environment: self.identity.environment.clone(),
                release: release.clone(),
            },
            words: Words::of(&self.app_dir, release, self.config.variables()),
            directory,
            home: self.config.state_dir.join("home"),
            log: step.map(|step| {
                // Not by release: those of a release that failed are looked for when it is gone, and the
                // number of files stays that of the steps.
                let name = format!("{}.{step}.log", self.identity.application);
                self.config.log_dir.join("steps").join(name)
            }),
            fence: None,
            group_note: None,
            deadline: None,
            cancel,
        }
    }

    /// What surrounds a change to a service or a proxy, which is not given up once it was begun.
    fn acting(&self, release: &ReleaseName) -> StepContext {
        let context = self.context(release, None, CancellationToken::new());
        StepContext { group_note: Some(self.group_note("act")), ..context }
    }

    fn done(&self, effect: Effect, finish: Finish) {
        self.engine.send(Event::Done { effect: Box::new(effect), finish });
    }
}

fn finish_of(result: Result<(), Failure>) -> Finish {
    match result {
        Ok(()) => Finish::Ok,
        Err(failure) => Finish::Failed { failure },
    }
}

fn own_step(name: &str) -> StepName {
    StepName::new(name).expect("a step of the agent's own has a valid name")
}

/// How a migration ended: only one that ran to its own end, or never began, is known to have failed.
fn conclusion(result: Result<(), (bool, StepFailure)>) -> Finish {
    match result {
        Ok(()) => Finish::Ok,
        Err((true, failure)) => Finish::Failed { failure: Failure::from(failure) },
        Err((false, failure)) => Finish::Unknown { failure: Failure::from(failure) },
    }
}

/// When a migration is asked to end, for one that must have ended when its lease does: the grace between
/// SIGTERM and SIGKILL lies within the lease (P7).
fn asked_to_end_after(lease_left: Duration) -> Duration {
    lease_left.saturating_sub(steps::GRACE)
}

/// Whether `current` names this release.
/// What came of looking after services once.
#[derive(Default)]
struct Ensured {
    /// Of these nothing could be learnt, though their driver can say it.
    unseen: Vec<Running>,
    /// Why the first of those that could not be started does not run.
    failed: Option<Failure>,
}

fn is_active(app_dir: &Path, release: &ReleaseName) -> io::Result<bool> {
    match std::fs::read_link(app_dir.join(layout::CURRENT)) {
        Ok(target) => Ok(target == layout::release(release)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn token(current: &std::sync::Mutex<CancellationToken>) -> CancellationToken {
    current.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
}

fn renew(current: &std::sync::Mutex<CancellationToken>, parent: &CancellationToken) {
    let mut current = current.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    current.cancel();
    *current = parent.child_token();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_migration_has_been_killed_when_its_lease_ends() {
        let lease = Duration::from_secs(60);
        assert_eq!(asked_to_end_after(lease) + steps::GRACE, lease);
        assert_eq!(asked_to_end_after(Duration::from_secs(1)), Duration::ZERO);
    }

    #[test]
    fn only_what_current_names_is_active() {
        let directory = tempfile::tempdir().unwrap();
        let (v1, v2) = (ReleaseName::new("v1").unwrap(), ReleaseName::new("v2").unwrap());
        assert!(!is_active(directory.path(), &v1).unwrap());
        std::os::unix::fs::symlink("releases/v1", directory.path().join("current")).unwrap();
        assert!(is_active(directory.path(), &v1).unwrap() && !is_active(directory.path(), &v2).unwrap());
    }
}
