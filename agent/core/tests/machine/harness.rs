//! A machine with a shell that does what it is told at once, or fails where a test says.

use std::collections::BTreeSet;

use landfall_agent_core::outline::{CheckOutline, MigrationOutline};
use landfall_agent_core::placement::TrafficOutline;
use landfall_agent_core::{Action, Effect, Event, Finish, Identity, Machine, Now, Outline, Record, decide};
use landfall_common::assignment::{Assignment, Direction, OnFailure, Order, ReleaseRef};
use landfall_common::manifest::Follows;
use landfall_common::report::{Failure, HostReport, OutcomeKind};
use landfall_common::{Duration, Generation, ReleaseCounter, Sha256, Timestamp, canonical};

pub const S: fn(u64) -> Duration = Duration::from_secs;

pub struct Harness {
    pub machine: Machine,
    pub now: Now,
    pub contract: bool,
    /// And what leads requests to it.
    pub traffic: Option<TrafficOutline>,
    /// What is staged from now on follows this.
    pub follows: Option<Follows>,
    pub services: Vec<&'static str>,
    pub acts: Vec<Action>,
    effects: Vec<Effect>,
    names: Vec<String>,
    fail: BTreeSet<String>,
}

fn start() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

pub fn assignment(generation: u64, release: &str, order: Order) -> Assignment {
    let number = release[1..].parse().unwrap();
    Assignment {
        host: "web-1".parse().unwrap(),
        application: "shop".parse().unwrap(),
        environment: "production".parse().unwrap(),
        generation: Generation(generation),
        issued_at: start(),
        expires_at: start() + S(3600),
        rollout: "r1".parse().unwrap(),
        release: ReleaseRef {
            name: release.parse().unwrap(),
            counter: ReleaseCounter(number),
            digest: Sha256::of(release.as_bytes()),
            length: 100,
        },
        order,
    }
}

pub fn stage(generation: u64, release: &str) -> Assignment {
    assignment(generation, release, Order::Stage)
}

pub fn activate(generation: u64, release: &str) -> Assignment {
    activate_with(generation, release, OnFailure::Revert)
}

pub fn activate_with(generation: u64, release: &str, on_failure: OnFailure) -> Assignment {
    let order = Order::Activate { on_failure, min_healthy: S(10), healthy_deadline: S(300) };
    assignment(generation, release, order)
}

pub fn migrate(generation: u64, release: &str, fence: u64) -> Assignment {
    assignment(generation, release, Order::Migrate { fence, lease: S(60), direction: Direction::Up })
}

pub fn contract(generation: u64, release: &str, fence: u64) -> Assignment {
    assignment(generation, release, Order::Migrate { fence, lease: S(60), direction: Direction::Contract })
}

pub fn failure(reason: &str) -> Failure {
    Failure::new("test".parse().unwrap(), reason)
}

impl Harness {
    pub fn new() -> Self {
        let identity = Identity {
            host: "web-1".parse().unwrap(),
            application: "shop".parse().unwrap(),
            environment: "production".parse().unwrap(),
        };
        let mut host = Self {
            machine: Machine::new(Record::new(identity)),
            now: Now { wall: start(), mono: S(1000) },
            services: vec!["web", "worker"],
            contract: false,
            traffic: None,
            follows: None,
            acts: Vec::new(),
            effects: Vec::new(),
            names: Vec::new(),
            fail: BTreeSet::new(),
        };
        host.send(Event::Started);
        host.clear();
        host
    }

    pub fn send(&mut self, event: Event) {
        let output = decide(&self.machine, event, self.now);
        self.machine = output.next;
        self.effects.extend(output.effects);
    }

    /// The agent is killed and started: what is only remembered is lost.
    pub fn restart(&mut self) {
        self.machine = Machine::new(self.machine.record.clone());
        self.clear();
        self.send(Event::Started);
    }

    pub fn assign(&mut self, assignment: Assignment) {
        let digest = Sha256::of(&canonical::to_vec(&assignment).unwrap());
        self.clear();
        self.send(Event::Assigned { assignment: Box::new(assignment), digest });
    }

    /// Carries out what is awaited, until nothing is.
    pub fn run(&mut self) {
        while self.machine.record.state.awaits().is_some() {
            self.run_one();
        }
    }

    pub fn run_one(&mut self) {
        let Some(effect) = self.machine.record.state.awaits() else { return };
        let name = match &effect {
            Effect::Fetch { .. } => "fetch".to_owned(),
            Effect::Unpack { .. } => "unpack".to_owned(),
            Effect::Prepare { step, .. } => format!("prepare {step}"),
            Effect::Seal { .. } => "seal".to_owned(),
            Effect::Migrate { .. } => "migrate".to_owned(),
            Effect::ResumeMigration { .. } => "resume".to_owned(),
            Effect::Act { action, .. } => {
                self.acts.push(action.clone());
                action.name().to_string()
            }
            Effect::Smoke { step, .. } => format!("smoke {step}"),
            other => panic!("{other:?} is never awaited"),
        };
        let finish = if self.fail.remove(&name) {
            Finish::Failed { failure: Failure::new(name.replace(" ", "-").parse().unwrap(), "it failed") }
        } else if let Effect::Fetch { .. } = effect {
            Finish::Fetched { outline: Box::new(self.outline()) }
        } else {
            Finish::Ok
        };
        self.names.push(name);
        self.send(Event::Done { effect: Box::new(effect), finish });
    }

    fn outline(&self) -> Outline {
        Outline {
            prepare: vec!["venv".parse().unwrap()],
            migration: Some(MigrationOutline { up: "migrate".parse().unwrap(), down: None }),
            contract: self.contract.then(|| "contract".parse().unwrap()),
            services: self.services.iter().map(|name| name.parse().unwrap()).collect(),
            checks: vec![CheckOutline { name: "http".parse().unwrap(), max_age: S(100_000) }],
            smoke: vec!["smoke".parse().unwrap()],
            retention: 3,
            traffic: self.traffic.clone(),
            follows: self.follows.clone(),
        }
    }

    /// From nothing to committed.
    pub fn commit(&mut self, generation: u64, release: &str) {
        self.assign(activate(generation, release));
        self.run();
        self.checks_answer(Ok(()));
        self.wait(S(10));
        self.run();
        assert_eq!(self.outcome(), &OutcomeKind::Committed);
        self.clear();
    }

    pub fn checks_answer(&mut self, answer: Result<(), &str>) {
        let watch = self.machine.live.watches;
        let answer = answer.map_err(str::to_owned);
        self.send(Event::Checked { watch, check: "http".parse().unwrap(), answer });
    }

    pub fn wait(&mut self, time: Duration) {
        self.now.mono += time;
        self.now.wall = self.now.wall + time;
        self.send(Event::Tick);
    }

    pub fn fail_next(&mut self, name: &str) {
        self.fail.insert(name.to_owned());
    }

    pub fn record(&self) -> &Record {
        &self.machine.record
    }

    pub fn outcome(&self) -> &OutcomeKind {
        &self.machine.record.outcome.as_ref().expect("no assignment has ended").result
    }

    pub fn report(&mut self) -> HostReport {
        self.machine.report(self.now)
    }

    pub fn effects(&self) -> &[Effect] {
        &self.effects
    }

    pub fn clear(&mut self) {
        self.effects.clear();
    }

    pub fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    pub fn forget(&mut self) {
        self.names.clear();
        self.acts.clear();
    }
}
