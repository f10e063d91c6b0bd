//! A host in a temporary directory: the real engine, ledger and apply, and a runner that does at once what
//! it is told, or what a test wants instead.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use landfall_agent::apply::store::Store;
use landfall_agent::engine::{self, Disks, Engine, Runner, Task};
use landfall_agent::error::AgentError;
use landfall_agent_core::{Effect, Event, Finish, Identity, Now, Outline, State};
use landfall_common::assignment::{Assignment, OnFailure, Order, ReleaseRef};
use landfall_common::disk::RealDisk;
use landfall_common::manifest::traffic::{Proxy, Slots, Switch, Traffic};
use landfall_common::manifest::{
    Check, Contract, Directory, Driver, Entry, Headers, Manifest, Origin, Probe, Program, Retention, Service,
    Shared, Step,
};
use landfall_common::report::{Failure, HostReport};
use landfall_common::{Duration, Generation, ReleaseCounter, ReleaseName, Sha256, Timestamp, canonical};

use crate::full::{FullDisk, Room, Stuck};

/// Files of a release: path, content, executable.
pub type Files = Vec<(&'static str, Vec<u8>, bool)>;

#[derive(Clone)]
pub struct Release {
    pub reference: ReleaseRef,
    pub manifest: Manifest,
    pub bytes: Vec<u8>,
    pub objects: BTreeMap<Sha256, Vec<u8>>,
    pub files: Files,
}

impl Release {
    pub fn new(name: &str, counter: u64, files: Files) -> Self {
        Self::with(name, counter, files, Shared::default())
    }

    pub fn with(name: &str, counter: u64, files: Files, shared: Shared) -> Self {
        let mut objects = BTreeMap::new();
        let paths: Vec<(PathBuf, Entry)> = files
            .iter()
            .map(|(path, content, executable)| {
                let digest = Sha256::of(content);
                objects.insert(digest, content.clone());
                let size = content.len() as u64;
                (PathBuf::from(path), Entry::File { digest, size, executable: *executable })
            })
            .collect();
        let (tree, _) = directory(Path::new(""), &paths, &mut objects);
        let step = |name: &str| Step {
            name: name.parse().unwrap(),
            command: vec!["true".into()],
            environment: BTreeMap::new(),
            timeout: Duration::from_secs(10),
            network: None,
        };
        let service = |name: &str| Service {
            name: name.parse().unwrap(),
            on: BTreeMap::new(),
            driver: Driver::Exec { restart: step(&format!("restart-{name}")), stop: None, status: None },
        };
        let manifest = Manifest {
            format: 1,
            application: "shop".parse().unwrap(),
            release: name.parse().unwrap(),
            origin: Origin::Artifact { commit: None },
            tree,
            file_count: files.len() as u64,
            total_bytes: files.iter().map(|(_, content, _)| content.len() as u64).sum(),
            program: Program {
                follows: None,
                prepare: vec![step("venv"), step("static")],
                migrate: None,
                contract: None,
                services: vec![service("web"), service("worker")],
                checks: vec![Check {
                    name: "http".parse().unwrap(),
                    probe: Probe::Tcp { address: "127.0.0.1:1".into() },
                    interval: Duration::from_secs(1),
                    timeout: Duration::from_secs(1),
                }],
                metrics: Vec::new(),
                smoke: vec![step("smoke")],
                shared,
                retention: Retention { releases: 2 },
                traffic: None,
            },
            environments: BTreeMap::new(),
        };
        let reference = ReleaseRef {
            name: name.parse().unwrap(),
            counter: ReleaseCounter(counter),
            digest: Sha256::of(&[]),
            length: 0,
        };
        Self { reference, manifest, bytes: Vec::new(), objects, files }.signed()
    }

    /// The same release, with its worker on hosts of this role only.
    pub fn with_worker_on(mut self, role: &str) -> Self {
        self.manifest.program.services[1].on = [("role".to_owned(), role.to_owned())].into();
        self.signed()
    }

    /// The same release, with two slots for `web` behind a proxy, and room for another one.
    pub fn with_slots(mut self) -> Self {
        let slots = Slots {
            service: "web".parse().unwrap(),
            blue: "127.0.0.1:8001".into(),
            green: "127.0.0.1:8002".into(),
            keep: Duration::from_secs(60),
            warm_up: vec!["/".into()],
            warm_up_headers: Headers::default(),
            warm_up_timeout: Duration::from_secs(10),
        };
        let switch = Switch::Nginx { upstream: "shop".into() };
        let proxy = Proxy::Slots { slots, switch };
        self.manifest.program.retention.releases = 3;
        self.manifest.program.traffic = Some(Traffic { proxy, drain: Duration::from_secs(10) });
        self.signed()
    }

    /// The same release, with a contract.
    pub fn with_contract(mut self) -> Self {
        let step = Step { name: "contract".parse().unwrap(), ..self.manifest.program.prepare[0].clone() };
        self.manifest.program.contract =
            Some(Contract { step, lease: Duration::from_secs(60), idempotent: false });
        self.signed()
    }

    fn signed(mut self) -> Self {
        self.bytes = self.manifest.to_bytes().unwrap();
        self.reference.digest = Sha256::of(&self.bytes);
        self.reference.length = self.bytes.len() as u64;
        self
    }
}

fn directory(
    at: &Path,
    files: &[(PathBuf, Entry)],
    objects: &mut BTreeMap<Sha256, Vec<u8>>,
) -> (Sha256, u64) {
    let mut directory_here = Directory::default();
    for (path, entry) in files {
        let Ok(rest) = path.strip_prefix(at) else { continue };
        let mut parts = rest.iter();
        let name = parts.next().unwrap().to_str().unwrap().to_owned();
        if parts.next().is_none() {
            directory_here.entries.insert(name, entry.clone());
        } else {
            let (digest, size) = directory(&at.join(&name), files, objects);
            directory_here.entries.insert(name, Entry::Directory { digest, size });
        }
    }
    let bytes = directory_here.to_bytes().unwrap();
    let digest = Sha256::of(&bytes);
    let size = bytes.len() as u64;
    objects.insert(digest, bytes);
    (digest, size)
}

/// What the runner was told, and what it has done.
#[derive(Default)]
pub struct Told {
    pub tasks: VecDeque<Task>,
    pub reports: Vec<HostReport>,
    /// How many assignments have been decided on.
    pub taken: usize,
    pub watch: Option<(u64, String)>,
}

#[derive(Clone, Default)]
pub struct Recorder(pub Rc<RefCell<Told>>);

impl Runner for Recorder {
    fn start(&mut self, task: Task) {
        let mut told = self.0.borrow_mut();
        match task {
            Task::Watch { watch, release, .. } => told.watch = Some((watch, release.to_string())),
            Task::Cancel => told.tasks.clear(),
            other => told.tasks.push_back(other),
        }
    }

    fn report(&mut self, report: HostReport) {
        self.0.borrow_mut().reports.push(report);
    }

    fn taken(&mut self) {
        self.0.borrow_mut().taken += 1;
    }
}

/// What becomes of the world at its n-th task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails.
    Fails,
    /// The agent is killed before it is done.
    KilledBefore,
    /// It is done, and the agent killed before it hears of it.
    KilledAfter,
    /// Its answer comes twice.
    Repeated,
    /// It is done, and the disk is full from then on.
    DiskFills,
}

pub struct World {
    /// How many operations of `/srv/<app>` that take space still work.
    pub room: Room,
    /// How many of the state directory's.
    pub state_room: Room,
    pub stuck: Stuck,
    /// How many names one of its files may have.
    pub max_links: u64,
    pub directory: tempfile::TempDir,
    pub engine: Option<Engine<Recorder>>,
    pub told: Recorder,
    pub releases: BTreeMap<String, Release>,
    /// What the host says of itself.
    pub variables: BTreeMap<String, String>,
    /// What each service runs.
    pub running: BTreeMap<String, String>,
    /// What was restarted with the release that it runs, in its order.
    pub restarts: Vec<String>,
    /// Releases that never become healthy.
    pub sick: Vec<String>,
    pub now: Now,
    pub fault: Option<(usize, Fault)>,
    /// Tasks until now.
    pub count: usize,
    /// Bytes of files put into the store.
    pub fetched: u64,
    pub killed: usize,
}

impl World {
    pub fn new(releases: &[Release]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["state", "app"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        let mut world = Self {
            room: Arc::new(i64::MAX.into()),
            state_room: Arc::new(i64::MAX.into()),
            stuck: Stuck::default(),
            max_links: u64::MAX,
            directory,
            engine: None,
            told: Recorder::default(),
            releases: releases.iter().map(|r| (r.reference.name.to_string(), r.clone())).collect(),
            variables: BTreeMap::new(),
            running: BTreeMap::new(),
            restarts: Vec::new(),
            sick: Vec::new(),
            now: Now { wall: "2026-11-21T12:00:00Z".parse().unwrap(), mono: Duration::from_secs(100) },
            fault: None,
            count: 0,
            fetched: 0,
            killed: 0,
        };
        let identity = Identity {
            host: "web-1".parse().unwrap(),
            application: "shop".parse().unwrap(),
            environment: "production".parse().unwrap(),
        };
        engine::enrol(&world.disks(), identity).unwrap();
        world.start();
        world
    }

    pub fn app(&self) -> PathBuf {
        self.directory.path().join("app")
    }

    pub fn disks(&self) -> Disks {
        let disk = |name: &str, room: &Room| {
            let root = self.directory.path().join(name);
            let (inner, room, stuck) = (RealDisk::new(&root), room.clone(), self.stuck.clone());
            Arc::new(FullDisk { inner, room, stuck, root, max_links: self.max_links })
        };
        Disks { state: disk("state", &self.state_room), app: disk("app", &self.room) }
    }

    pub fn start(&mut self) {
        self.engine = None;
        self.told = Recorder::default();
        self.engine = Some(Engine::open(self.disks(), self.told.clone()).unwrap());
        self.send(Event::Started);
    }

    pub fn send(&mut self, event: Event) {
        self.engine.as_mut().unwrap().handle(event, self.now).unwrap();
        self.check();
    }

    pub fn assign(&mut self, generation: u64, release: &str, order: Order) {
        let event = self.assigned(generation, release, order);
        self.send(event);
    }

    pub fn assigned(&self, generation: u64, release: &str, order: Order) -> Event {
        let assignment = Assignment {
            host: "web-1".parse().unwrap(),
            application: "shop".parse().unwrap(),
            environment: "production".parse().unwrap(),
            generation: Generation(generation),
            issued_at: Timestamp::default(),
            expires_at: self.now.wall + Duration::from_secs(3600),
            rollout: "r1".parse().unwrap(),
            release: self.releases[release].reference.clone(),
            order,
        };
        let digest = Sha256::of(&canonical::to_vec(&assignment).unwrap());
        Event::Assigned { assignment: Box::new(assignment), digest }
    }

    pub fn activate(&mut self, generation: u64, release: &str) {
        let order = Order::Activate {
            on_failure: OnFailure::Revert,
            min_healthy: Duration::from_secs(2),
            healthy_deadline: Duration::from_secs(30),
        };
        self.assign(generation, release, order);
        self.settle();
    }

    /// Carries out tasks, answers checks and lets time pass until nothing is left to be done.
    pub fn settle(&mut self) {
        (0..500).any(|_| !self.step());
        // What cannot be removed is left, and the sweep goes on.
        while self.engine.as_mut().unwrap().work().unwrap_or(true) {
            self.check();
        }
    }

    /// The same until the order has ended: what follows from that is still to be done.
    pub fn end(&mut self) {
        for _ in 0..500 {
            if self.engine.as_ref().unwrap().record().state == State::Idle {
                return;
            }
            self.step();
        }
    }

    /// A task, or a second; whether there may be more.
    fn step(&mut self) -> bool {
        let task = self.told.0.borrow_mut().tasks.pop_front();
        if let Some(task) = task {
            self.task(task);
            return true;
        }
        if self.engine.as_ref().unwrap().wake_after().is_none() {
            return false;
        }
        self.now.mono += Duration::from_secs(1);
        let watch = self.told.0.borrow().watch.clone();
        if let Some((watch, release)) = watch {
            let program = self.releases[&release].manifest.program.clone();
            let services = program.on_host(&self.variables).unwrap().services;
            let runs = services.iter().all(|s| self.runs(s.name.as_str(), &release));
            let well = runs && !self.sick.contains(&release);
            let answer = if well { Ok(()) } else { Err("status 500".to_owned()) };
            self.send(Event::Checked { watch, check: "http".parse().unwrap(), answer });
        }
        self.send(Event::Tick);
        true
    }

    /// Whether a service runs a release, in whichever slot.
    fn runs(&self, service: &str, release: &str) -> bool {
        ["", "-blue", "-green"]
            .iter()
            .any(|slot| self.running.get(&format!("{service}{slot}")).is_some_and(|runs| runs == release))
    }

    fn task(&mut self, task: Task) {
        let Some(effect) = effect_of(&task) else {
            if let Task::Ensure { services, .. } = task {
                for running in services {
                    self.running.insert(running.service.name.to_string(), running.release.to_string());
                }
            }
            return;
        };
        self.count += 1;
        let fault = self.fault.filter(|(at, _)| *at == self.count).map(|(_, fault)| fault);
        if fault == Some(Fault::KilledBefore) {
            self.killed += 1;
            return self.start();
        }
        let finish = if fault == Some(Fault::Fails) {
            let failure = Failure::new("test".parse().unwrap(), "it was made to fail");
            Finish::Failed { failure }
        } else {
            self.do_task(&task)
        };
        match fault {
            Some(Fault::KilledAfter) => {
                self.killed += 1;
                return self.start();
            }
            Some(Fault::DiskFills) => self.room.store(0, Ordering::Relaxed),
            Some(Fault::Repeated) => {
                let finish = finish.clone();
                self.send(Event::Done { effect: Box::new(effect.clone()), finish });
            }
            _ => {}
        }
        let said = match &finish {
            Finish::Failed { failure } => Err(failure.reason.clone()),
            _ => Ok(()),
        };
        self.send(match effect {
            Effect::Aim { aim } => Event::Aimed { aim, result: said },
            Effect::Retire { slot, release } => Event::Retired { slot, release, result: said },
            effect => Event::Done { effect: Box::new(effect), finish },
        });
    }

    fn do_task(&mut self, task: &Task) -> Finish {
        match task {
            Task::Fetch { release, bases, .. } => match self.fetch(release, bases) {
                Ok(outline) => Finish::Fetched { outline: Box::new(outline) },
                Err(error) => {
                    let reason = landfall_agent::error::chain(&error);
                    Finish::Failed { failure: Failure::new("fetch".parse().unwrap(), reason) }
                }
            },
            Task::Step { step, release, afresh, effect: Effect::Prepare { .. }, .. } => {
                let cleared = match afresh {
                    true => landfall_agent::apply::clear_prepared(&*self.disks().app, release),
                    false => Ok(()),
                };
                if let Err(error) = cleared {
                    let reason = landfall_agent::error::chain(&error);
                    return Finish::Failed { failure: Failure::new("prepare".parse().unwrap(), reason) };
                }
                let place = self.app().join("prepared").join(release.as_str());
                std::fs::write(place.join(step.name.as_str()), "made").unwrap();
                Finish::Ok
            }
            Task::Service { service, release, activate: true, .. } => {
                self.running.insert(service.name.to_string(), release.to_string());
                Finish::Ok
            }
            Task::Restart { service, .. } => {
                self.restarts.push(service.name.to_string());
                Finish::Ok
            }
            Task::Service { service, .. } => {
                self.running.remove(service.name.as_str());
                Finish::Ok
            }
            Task::Retire { service, .. } => {
                self.running.remove(service.name.as_str());
                Finish::Ok
            }
            _ => Finish::Ok,
        }
    }

    fn fetch(
        &mut self,
        release: &ReleaseRef,
        bases: &[(ReleaseName, Sha256)],
    ) -> Result<Outline, AgentError> {
        let source = self.releases[release.name.as_str()].clone();
        let store = Store::new(self.disks().app);
        let manifest = store.put_manifest(&release.name, release.digest, &source.bytes)?;
        loop {
            let lacking = store.lacking(&manifest, bases)?;
            if lacking.is_empty() {
                return Ok(Outline::from(&manifest.program.on_host(&self.variables)?));
            }
            for (digest, _) in &lacking.directories {
                store.put_directory(*digest, &source.objects[digest])?;
            }
            for file in &lacking.files {
                let content = &source.objects[&file.digest];
                self.fetched += content.len() as u64;
                let mut writer = store.writer(file)?;
                content.chunks(7).try_for_each(|piece| writer.write(piece))?;
                writer.finish()?;
            }
        }
    }

    /// P2: whatever `current` names is there whole, with every file as it was signed.
    pub fn check(&self) {
        let current = self.app().join("current");
        let Ok(target) = std::fs::read_link(&current) else { return };
        let name = target.file_name().unwrap().to_str().unwrap().to_owned();
        for (path, content, _) in &self.releases[&name].files {
            let found = std::fs::read(current.join(path)).unwrap_or_else(|e| panic!("{name}/{path}: {e}"));
            assert_eq!(&found, content, "{name}/{path} is not what was signed");
        }
        for step in ["venv", "static"] {
            let made = self.app().join("prepared").join(&name).join(step);
            assert!(made.exists(), "{} is active and not prepared", made.display());
        }
    }

    pub fn current(&self) -> String {
        let target = std::fs::read_link(self.app().join("current")).unwrap();
        target.file_name().unwrap().to_str().unwrap().to_owned()
    }

    pub fn names(&self, directory: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.app().join(directory)).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn effect_of(task: &Task) -> Option<Effect> {
    match task {
        Task::Fetch { effect, .. }
        | Task::Step { effect, .. }
        | Task::Migrate { effect, .. }
        | Task::ResumeMigration { effect, .. }
        | Task::Service { effect, .. }
        | Task::Restart { effect, .. }
        | Task::WarmUp { effect, .. }
        | Task::Lead { effect, .. }
        | Task::Retire { effect, .. } => Some(effect.clone()),
        Task::Watch { .. } | Task::Ensure { .. } | Task::Cancel => None,
    }
}
