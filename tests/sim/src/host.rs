//! A host: its disks and clocks, the agent's process if it runs, and what really runs beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use landfall_agent::engine::{Disks, Engine, Runner, Task};
use landfall_agent_core::{Finish, Now};
use landfall_common::report::HostReport;
use landfall_common::{Duration, HostId, ReleaseName, ServiceName, StepName, Timestamp};

use crate::application::Application;
use crate::check::current;
use crate::disk::SimDisk;

/// The wall clock at the start of nearly every world.
pub const EPOCH_MS: u64 = 1_790_000_000_000;

/// A host.
pub struct Host {
    /// Its name.
    pub id: HostId,
    /// Its number, from 0.
    pub index: usize,
    /// Whether the controller should know it.
    pub enrolled: bool,
    /// Where the ledger is.
    pub state_disk: SimDisk,
    /// Where the releases are.
    pub app_disk: SimDisk,
    /// When it booted, in the world's time: its monotonic clock counts from there.
    pub booted_at: u64,
    /// The wall clock at the start of its world.
    pub epoch_ms: u64,
    /// Its wall clock is ahead by so much.
    pub clock_off_ms: i64,
    /// Grows with each start and each end of the agent.
    pub process: u64,
    /// The agent.
    pub agent: Option<Engine<Wishes>>,
    /// Its connection, as it believes.
    pub connection: Option<u64>,
    /// Until when it is cut off.
    pub cut_until: u64,
    /// Until when all its checks fail.
    pub sick_until: u64,
    /// What happens when its disk goes off.
    pub doom: Doom,
    /// What really runs: each service with the release it runs.
    pub services: BTreeMap<ServiceName, ReleaseName>,
    /// The service that the proxy leads requests to; it forgets nothing.
    pub led_to: Option<ServiceName>,
    /// Whether what stands before the hosts leads requests elsewhere; it forgets nothing either.
    pub led_away: bool,
    /// The checks that are being made.
    pub watch: Option<Watching>,
    /// Services that are about to be started if they do not run, each with its release; and the active one.
    pub ensuring: Option<(Vec<(ServiceName, ReleaseName)>, ReleaseName)>,
    /// Tasks that run below the agent.
    pub tasks: BTreeSet<u64>,
    /// What the supervisors of migrations noted, by lease.
    pub notes: BTreeMap<u64, Note>,
    /// Of each check since the last heartbeat: how often it was asked, how often it failed, and how long it took last.
    pub measured: BTreeMap<StepName, (u32, u32, u64)>,
    /// The release whose answer a check had last.
    pub answered: Option<ReleaseName>,
    /// What answers there and shows metrics, as its agent has seen it.
    pub application: Option<Application>,
    /// When the next tick comes.
    pub tick_at: Option<u64>,
    /// Whether a piece of leisurely work is due.
    pub work_due: bool,
    /// Disk operations that the checkers have seen.
    pub seen_operations: u64,
}

/// What happens when a disk goes off in the middle of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doom {
    /// Nothing is planned.
    None,
    /// The host loses its power.
    Power,
    /// The agent is killed, and the host goes on.
    Kill,
}

/// The checks of a release.
#[derive(Debug, Clone)]
pub struct Watching {
    /// The number to answer with.
    pub number: u64,
    /// Of which release.
    pub release: ReleaseName,
    /// What is asked.
    pub probes: Vec<Probing>,
    /// The service that answers for the application, if the release says which.
    pub front: Option<ServiceName>,
}

/// Something that is asked again and again.
#[derive(Debug, Clone)]
pub struct Probing {
    /// The name to answer with.
    pub name: StepName,
    /// From one answer to the next.
    pub interval_ms: u64,
    /// The service whose state it is; `None` for a check of the application.
    pub service: Option<ServiceName>,
}

/// What a supervisor noted of a migration.
#[derive(Debug, Clone, PartialEq)]
pub enum Note {
    /// It runs.
    Running {
        /// The run, in the database's account.
        run: usize,
    },
    /// It has ended.
    Ended(Finish),
    /// The power went during it.
    Lost,
}

/// The engine's runner: only writes down what is wanted. The world does it.
#[derive(Debug)]
pub struct Wishes {
    disk: SimDisk,
    /// Tasks, in order.
    pub tasks: Vec<Task>,
    /// Reports, in order.
    pub reports: Vec<Said>,
}

/// A report, and what `current` named as it was made: by the end of one event an agent may have gone on.
#[derive(Debug)]
pub struct Said {
    /// The report.
    pub report: HostReport,
    /// What `current` named, or what is wrong with it.
    pub current: Result<Option<ReleaseName>, String>,
}

impl Wishes {
    /// Of an agent whose releases are on this disk.
    #[must_use]
    pub fn new(disk: SimDisk) -> Self {
        Self { disk, tasks: Vec::new(), reports: Vec::new() }
    }
}

impl Runner for Wishes {
    fn start(&mut self, task: Task) {
        self.tasks.push(task);
    }

    fn report(&mut self, report: HostReport) {
        self.reports.push(Said { report, current: current::active(&self.disk) });
    }
}

impl Host {
    /// A host with empty disks.
    #[must_use]
    pub fn new(index: usize, seed: u64, epoch_ms: u64) -> Self {
        let state_disk = SimDisk::new(seed);
        let app_disk = state_disk.beside(seed ^ 1);
        Self {
            id: HostId::new(format!("web-{:02}", index + 1)).expect("a valid name"),
            index,
            enrolled: true,
            state_disk,
            app_disk,
            booted_at: 0,
            epoch_ms,
            clock_off_ms: 0,
            process: 0,
            agent: None,
            connection: None,
            cut_until: 0,
            sick_until: 0,
            doom: Doom::None,
            services: BTreeMap::new(),
            led_to: None,
            led_away: false,
            watch: None,
            ensuring: None,
            tasks: BTreeSet::new(),
            notes: BTreeMap::new(),
            measured: BTreeMap::new(),
            answered: None,
            application: None,
            tick_at: None,
            work_due: false,
            seen_operations: 0,
        }
    }

    /// Its disks, as the engine takes them.
    #[must_use]
    pub fn disks(&self) -> Disks {
        Disks { state: Arc::new(self.state_disk.clone()), app: Arc::new(self.app_disk.clone()) }
    }

    /// What time it is here.
    #[must_use]
    pub fn now(&self, world_ms: u64) -> Now {
        let wall = (self.epoch_ms + world_ms).saturating_add_signed(self.clock_off_ms);
        Now {
            wall: Timestamp::from_ms(wall),
            mono: Duration::from_millis(world_ms.saturating_sub(self.booted_at)),
        }
    }

    /// Whether one of its disks has gone off.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.state_disk.is_off() || self.app_disk.is_off()
    }

    /// Operations on its application's disk so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.app_disk.operations()
    }
}
