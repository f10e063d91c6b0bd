//! The world: hosts, one controller, operators and what lies between them, one event after the other on one
//! clock. Nothing in it waits, sleeps or runs beside anything else; every choice is drawn from the seed.
//!
//! First comes the safety phase, with faults and operators. Then the world heals: no faults any more, and a
//! patient operator who answers what is asked of him. By the end of the liveness phase every rollout has
//! ended, and every host runs the release in force or there is a sentence that says why not.

mod agents;
mod approvals;
mod asked;
mod evidence;
mod faults;
mod figures;
mod hostile;
mod hub;
mod integrations;
mod labels;
mod network;
mod operators;
mod planted;
mod settled;
mod tasks;

pub use asked::{GATES_AT, allowed};
pub use integrations::GATES;

use std::collections::{BTreeMap, BTreeSet};

use landfall_agent::engine::task::Endpoint;
use landfall_agent_core::{Effect, Event as AgentEvent, Finish};
use landfall_common::assignment::{Assignment, ReleaseRef};
use landfall_common::manifest::Step;
use landfall_common::report::HostReport;
use landfall_common::{ReleaseName, RequestId, RolloutId, ServiceName, Sha256, Timestamp};
use landfall_controller_core::asked::{Question, Word};
use landfall_controller_core::command::Command;
use landfall_controller_core::observation::Figures;
use landfall_controller_core::record::Place;
use landfall_controller_core::runbook::Runbook;

use crate::artifact::{self, Release, ReleasePlan};
use crate::check::{Checks, Violation};
use crate::controller::Controller;
use crate::dice::Dice;
use crate::host::Host;
use crate::sabotage::Sabotage;
use crate::scenario::Scenario;
use crate::trace::Trace;

/// By when everything must have settled after the world has healed.
const LIVENESS_MS: u64 = 3 * 3_600_000;

/// Something that happens at some time.
#[derive(Debug, Clone)]
enum Event {
    StartHost { host: usize },
    Tick { host: usize, process: u64 },
    Work { host: usize, process: u64 },
    Heartbeat { host: usize, process: u64 },
    Connect { host: usize, process: u64 },
    Probe { host: usize, process: u64, watch: u64, check: usize },
    TaskEnds { host: usize, process: u64, task: u64, doing: Box<Doing> },
    MigrationEnds { host: usize, run: usize, fence: u64, finish: Finish, took_effect: bool },
    DoomFalls { host: usize, process: u64 },
    Full { host: Option<usize>, until: u64 },
    ToHost { host: usize, connection: u64, assignment: Box<Assignment> },
    Report { host: usize, connection: u64, report: Box<HostReport> },
    Figures { host: usize, connection: u64, figures: Figures },
    HostNotices { host: usize, connection: u64 },
    ControllerNotices { host: usize, connection: u64 },
    GateAnswers { process: u64, question: Box<Question>, came: Result<Word, String> },
    StartController,
    ControllerFalls { process: u64 },
    Wake { process: u64 },
    Second,
    Operate,
}

/// What runs below an agent.
#[derive(Debug, Clone)]
enum Doing {
    Fetch {
        release: ReleaseRef,
        bases: Vec<(ReleaseName, Sha256)>,
        effect: Effect,
        tries: u32,
    },
    Step {
        step: Step,
        release: ReleaseName,
        effect: Effect,
    },
    Service {
        service: ServiceName,
        release: ReleaseName,
        activate: bool,
        unless_running: bool,
        effect: Effect,
    },
    Restart {
        service: ServiceName,
        release: ReleaseName,
        effect: Effect,
    },
    WarmUp {
        release: ReleaseName,
        effect: Effect,
    },
    Lead {
        to: Endpoint,
        effect: Effect,
    },
    Retire {
        service: ServiceName,
        effect: Effect,
    },
    Answer {
        event: AgentEvent,
    },
    Ensure,
}

/// How a world went.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// The promise that was broken, if one was.
    pub violation: Option<Violation>,
    /// The digest of everything that happened.
    pub digest: Sha256,
    /// How much happened.
    pub statistics: Statistics,
    /// How much of it before the world healed.
    pub before_healing: Statistics,
    /// The trace, if it was kept.
    pub trace: Vec<String>,
}

/// How much happened in a world: a simulation in which nothing happens proves nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Events.
    pub events: u64,
    /// Rollouts that succeeded.
    pub succeeded: u64,
    /// Of these, rollouts of any release but the first.
    pub arrived: u64,
    /// Rollouts that went back.
    pub rolled_back: u64,
    /// How often the record of a rollout was written while it was paused.
    pub paused: u64,
    /// Restarts that ended well.
    pub restarted: u64,
    /// How often somebody said other things of hosts.
    pub relabelled: u64,
    /// Drills that ended well.
    pub rehearsed: u64,
    /// Rollouts that ended otherwise.
    pub otherwise: u64,
    /// Crashes of hosts and agents.
    pub host_crashes: u64,
    /// Crashes of the controller.
    pub controller_crashes: u64,
    /// Migrations that really ran.
    pub migrations: u64,
    /// Commands that were refused.
    pub refused: u64,
    /// Runbooks that were held against what is answered.
    pub runbooks: u64,
    /// Assignments that were sent.
    pub assignments: u64,
    /// Canaries that were compared until something followed from it.
    pub analysed: u64,
    /// Of these, releases with which nothing is wrong that were found to be worse.
    pub taken_back_wrongly: u64,
    /// How often a hostile schedule has struck.
    pub struck: u64,
    /// How often a host came to a release over what that follows.
    pub stops: u64,
    /// How often a host was looked at that had heard of no controller for long enough to come to rest.
    pub by_themselves: u64,
    /// How often a rollout under way had nothing to do, and a sentence said why.
    pub waits: u64,
    /// Looks of the checkers.
    pub looks: u64,
}

impl Statistics {
    /// Adds those of another world.
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.succeeded += other.succeeded;
        self.arrived += other.arrived;
        self.rolled_back += other.rolled_back;
        self.paused += other.paused;
        self.restarted += other.restarted;
        self.relabelled += other.relabelled;
        self.rehearsed += other.rehearsed;
        self.otherwise += other.otherwise;
        self.host_crashes += other.host_crashes;
        self.controller_crashes += other.controller_crashes;
        self.migrations += other.migrations;
        self.refused += other.refused;
        self.runbooks += other.runbooks;
        self.assignments += other.assignments;
        self.analysed += other.analysed;
        self.taken_back_wrongly += other.taken_back_wrongly;
        self.struck += other.struck;
        self.stops += other.stops;
        self.by_themselves += other.by_themselves;
        self.waits += other.waits;
        self.looks += other.looks;
    }
}

/// The world.
pub struct World {
    scenario: Scenario,
    now: u64,
    dice: Dice,
    queue: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    hosts: Vec<Host>,
    controller: Controller,
    releases: Vec<Release>,
    checks: Checks,
    trace: Trace,
    statistics: Statistics,
    before_healing: Statistics,
    violation: Option<Violation>,
    next_connection: u64,
    next_task: u64,
    next_request: u64,
    /// Until when the controller is cut off from everybody.
    outage_until: u64,
    healed: bool,
    /// Commands that were sent, for those who repeat themselves.
    commands: Vec<Command>,
    /// A command whose answer never came.
    unanswered: Option<RequestId>,
    /// How often the operator has tried to get a rollout on.
    patience: BTreeMap<String, u32>,
    /// The runbook that somebody printed last.
    printed: Option<Runbook>,
    /// Whether the operators are about staging at the moment.
    in_staging: bool,
    /// What has been planted already, where once is enough.
    planted: BTreeSet<u64>,
    /// Which hosts a hostile schedule has struck, and at which lease.
    struck_hosts: BTreeSet<(usize, u64)>,
    /// At which batches of which rollouts it has struck.
    gates: BTreeSet<(RolloutId, u32)>,
    /// When it has let a probe fail.
    flapped_at: Option<u64>,
    /// Whether it is about to set the controller's clock.
    clock_steps: bool,
}

impl World {
    /// The world of a scenario.
    #[must_use]
    pub fn new(scenario: Scenario, keep_trace: bool) -> Self {
        let mut dice = Dice::new(scenario.seed);
        let releases: Vec<Release> = scenario.releases.iter().map(|plan| packed(&scenario, plan)).collect();
        let hosts = (0..scenario.hosts)
            .map(|index| Host::new(index, dice.between(0, u64::MAX - 1), scenario.epoch_ms))
            .collect::<Vec<_>>();
        let controller = Controller::new(dice.between(0, u64::MAX - 1));
        let mut checks = Checks::new(scenario.seed, &releases);
        let staging = hosts.iter().skip(scenario.hosts - scenario.staging);
        checks.proofs.hosts = staging.map(|host: &Host| host.id.clone()).collect();
        Self {
            now: 0,
            dice,
            queue: BTreeMap::new(),
            next_event: 0,
            hosts,
            controller,
            releases,
            checks,
            trace: Trace::new(keep_trace),
            statistics: Statistics::default(),
            before_healing: Statistics::default(),
            violation: None,
            next_connection: 1,
            next_task: 1,
            next_request: 1,
            outage_until: 0,
            healed: false,
            commands: Vec::new(),
            unanswered: None,
            patience: BTreeMap::new(),
            printed: None,
            in_staging: false,
            planted: BTreeSet::new(),
            struck_hosts: BTreeSet::new(),
            gates: BTreeSet::new(),
            flapped_at: None,
            clock_steps: false,
            scenario,
        }
    }

    /// Runs it to its end, or to the first broken promise.
    #[must_use]
    pub fn run(mut self) -> Outcome {
        self.begin();
        let safety = self.scenario.safety_ms;
        self.run_until(safety);
        if self.violation.is_none() {
            self.heal();
            let deadline = self.now + LIVENESS_MS;
            let mut settled_for = 0;
            // Settled once is not enough: what settles must stay so.
            while self.violation.is_none() && settled_for < 3 && self.now < deadline {
                let next = self.now + 20_000;
                self.run_until(next);
                settled_for = if self.unsettled().is_none() { settled_for + 1 } else { 0 };
            }
            if self.violation.is_none()
                && let Some(what) = self.unsettled()
            {
                let what = format!("{} s after the world has healed {what}", LIVENESS_MS / 1000);
                self.violation = Some(Violation::new("liveness", what));
            }
        }
        self.statistics.looks = self.checks.looks;
        self.statistics.stops = self.checks.stopped;
        self.statistics.waits = self.checks.waits;
        self.statistics.by_themselves = self.checks.by_itself.looks;
        let digest = self.trace.digest();
        if let Some(violation) = &self.violation {
            self.trace.add(self.now, format_args!("{violation}"));
        }
        Outcome {
            seed: self.scenario.seed,
            violation: self.violation,
            digest,
            statistics: self.statistics,
            before_healing: self.before_healing,
            trace: self.trace.take(),
        }
    }

    fn begin(&mut self) {
        self.after(0, Event::StartController);
        for host in 0..self.hosts.len() {
            self.enrol_disks(host);
            let delay = self.dice.between(0, 3_000);
            self.after(delay, Event::StartHost { host });
        }
        self.strike_from_the_start();
        self.after(500, Event::Second);
        self.after(1_000, Event::Operate);
    }

    fn run_until(&mut self, until: u64) {
        while self.violation.is_none() {
            let Some(entry) = self.queue.first_entry() else { break };
            let (at, _) = *entry.key();
            if at > until {
                break;
            }
            let event = entry.remove();
            self.now = at;
            self.statistics.events += 1;
            self.take(event);
        }
        self.now = until.max(self.now);
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::StartHost { host } => self.start_host(host),
            Event::Tick { host, process } => self.tick(host, process),
            Event::Work { host, process } => self.work(host, process),
            Event::Heartbeat { host, process } => self.heartbeat(host, process),
            Event::Connect { host, process } => self.connect(host, process),
            Event::Probe { host, process, watch, check } => self.probe(host, process, watch, check),
            Event::TaskEnds { host, process, task, doing } => self.task_ends(host, process, task, *doing),
            Event::MigrationEnds { host, run, fence, finish, took_effect } => {
                self.migration_ends(host, run, fence, finish, took_effect);
            }
            Event::DoomFalls { host, process } => self.doom_falls(host, process),
            Event::Full { host, until } => self.full(host, until),
            Event::ToHost { host, connection, assignment } => {
                self.assignment_arrives(host, connection, &assignment);
            }
            Event::Report { host, connection, report } => self.report_arrives(host, connection, *report),
            Event::Figures { host, connection, figures } => self.figures_arrive(host, connection, figures),
            Event::HostNotices { host, connection } => self.host_notices(host, connection),
            Event::ControllerNotices { host, connection } => self.controller_notices(host, connection),
            Event::GateAnswers { process, question, came } => self.gate_answers(process, &question, came),
            Event::StartController => self.start_controller(),
            Event::ControllerFalls { process } => self.controller_falls(process),
            Event::Wake { process } => self.wake(process),
            Event::Second => self.second(),
            Event::Operate => self.operate(),
        }
    }

    fn after(&mut self, delay_ms: u64, event: Event) {
        self.next_event += 1;
        self.queue.insert((self.now + delay_ms, self.next_event), event);
    }

    fn note(&mut self, what: std::fmt::Arguments<'_>) {
        self.trace.add(self.now, what);
    }

    /// Keeps the first broken promise.
    fn must(&mut self, result: Result<(), Violation>) {
        if let Err(violation) = result {
            self.violation.get_or_insert(violation);
        }
    }

    /// What time it is for the controller.
    fn controller_now(&self) -> Timestamp {
        Timestamp::from_ms(self.scenario.epoch_ms + self.now + self.controller.clock_ahead_ms)
    }

    /// The place that the operators are about.
    fn place(&self) -> Place {
        if self.in_staging { Self::staging() } else { Self::production() }
    }

    fn production() -> Place {
        Place { application: artifact::application(), environment: artifact::environment() }
    }

    fn staging() -> Place {
        Place { application: artifact::application(), environment: artifact::staging() }
    }

    /// The place of a host by its number.
    fn place_of(&self, host: usize) -> Place {
        let in_staging = host >= self.scenario.hosts - self.scenario.staging;
        if in_staging { Self::staging() } else { Self::production() }
    }
}

/// A release as it is packed.
fn packed(scenario: &Scenario, plan: &ReleasePlan) -> Release {
    if scenario.sabotage != Some(Sabotage::StopsForgotten) {
        return plan.build();
    }
    let straight = ReleasePlan { follows: None, ..plan.clone() };
    Release { plan: plan.clone(), ..straight.build() }
}
