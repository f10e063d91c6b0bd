//! A controller with its store, a network, and modelled hosts; one second at a time.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::assignment::{Assignment, ReleaseRef};
use landfall_common::manifest::{AppMetric, Follows, Origin};
use landfall_common::report::HostReport;
use landfall_common::strategy::{Amount, Strategy};
use landfall_common::{
    AppName, Duration, EnvName, HostId, LabelKey, OperatorName, ReleaseCounter, ReleaseName, RequestId,
    RolloutId, ServiceName, Sha256, StepName, Timestamp,
};
use landfall_controller_core::command::{Action, Answer, Command, RollRequest};
use landfall_controller_core::contract::ContractFacts;
use landfall_controller_core::log::{Actor, LogEntry, NewEntry};
use landfall_controller_core::observation::{
    Attention, CheckFigures, Figures, MetricFigures, Observation, ServiceFigures, Shown,
};
use landfall_controller_core::record::{
    Change, Content, HostRecord, Key, MigrationFacts, Place, Record, ReleaseRecord, WayBackKind,
};
use landfall_controller_core::restored::{RestoredPlace, restored};
use landfall_controller_core::rollout::{Rollout, StatusWord};
use landfall_controller_core::{Effect, Output, Refusal, State, decide, plan, plan_place};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::checks::Checks;
use crate::hosts::{Behaviour, Host};

/// What goes wrong between the controller and its hosts, and with the controller itself.
pub struct Faults {
    pub rng: StdRng,
    /// Out of a hundred messages.
    pub lost: u32,
    /// Out of a hundred messages.
    pub doubled: u32,
    /// In seconds, at most.
    pub late: u64,
    /// Out of a thousand commits, before and after each is durable.
    pub crashes: u32,
}

impl Faults {
    pub fn none(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), lost: 0, doubled: 0, late: 0, crashes: 0 }
    }

    fn hits(&mut self, chance: u32, of: u32) -> bool {
        chance > 0 && self.rng.random_range(0..of) < chance
    }
}

enum Message {
    Order(HostId, Box<Assignment>),
    Report(HostId, u64, Box<HostReport>),
}

/// A metric of a release, and what it shows of it.
pub type ShownMetric = (AppMetric, Result<Shown, String>);

/// What a service uses.
#[derive(Clone, Copy, Default)]
pub struct Uses {
    pub cpu_ms_per_s: u64,
    pub memory_mib: u64,
    /// In ten seconds.
    pub restarts: u32,
}

/// Of the planner, one after the other at the same time: a decision on thousands of hosts takes some.
const MOST_RUNS: usize = 1000;

pub struct World {
    pub faults: Faults,
    pub checks: Checks,
    network: Vec<(Timestamp, Message)>,
    pub state: State,
    pub store: BTreeMap<Key, Record>,
    pub log: Vec<NewEntry>,
    /// From which status to which rollouts went, as durable records tell; from none where they begin.
    pub moves: BTreeSet<(Option<StatusWord>, StatusWord)>,
    pub now: Timestamp,
    pub hosts: BTreeMap<HostId, Host>,
    /// Hosts that the network does not reach.
    pub cut: Vec<HostId>,
    pub connections: BTreeMap<HostId, u64>,
    next_connection: u64,
    next_request: u64,
    pub sentences: Vec<String>,
    /// Every activation that was ever issued: when, to whom, whether the host was available.
    pub issued: Vec<Assignment>,
    /// The most hosts that were ever out of service at once since the last `watch`.
    pub most_out: usize,
    /// Hosts to which nothing happens report only so often.
    pub heartbeat: Duration,
    told: BTreeMap<HostId, (Timestamp, HostReport)>,
    /// How fast releases answer that are not as fast as others, in milliseconds, and how many of ten probes fail.
    pub answers: BTreeMap<ReleaseName, (u64, u32)>,
    /// What the service of each release uses; of releases published while this is empty no service is known.
    pub uses: BTreeMap<ReleaseName, Uses>,
    /// What each release shows of itself.
    pub shows: BTreeMap<ReleaseName, Vec<ShownMetric>>,
    /// Hosts whose agents send no figures.
    pub mute: Vec<HostId>,
    /// The contracts of releases that are to be published with one.
    pub contracts: BTreeMap<ReleaseName, ContractFacts>,
    /// What releases are to be published with that follow another.
    pub follows: BTreeMap<ReleaseName, Follows>,
    /// From which commit releases are said to be.
    pub commits: BTreeMap<ReleaseName, String>,
    /// Those whom the controller asks for its gates.
    pub doors: crate::asked::Doors,
}

pub fn place() -> Place {
    Place { application: AppName::new("tenants").unwrap(), environment: EnvName::new("production").unwrap() }
}

pub fn host_id(number: usize) -> HostId {
    HostId::new(format!("web-{number:02}")).unwrap()
}

/// Odd hosts may be canaries, and are in zone b; of the even ones every other is in zone a, the rest nowhere.
fn labels(number: usize) -> BTreeMap<LabelKey, String> {
    let label = |key: &str, value: &str| (LabelKey::new(key).unwrap(), value.to_owned());
    let zone = match number % 4 {
        1 | 3 => Some(label("zone", "b")),
        2 => Some(label("zone", "a")),
        _ => None,
    };
    (number % 2 == 1).then(|| label("role", "canary")).into_iter().chain(zone).collect()
}

pub fn name(text: &str) -> ReleaseName {
    ReleaseName::new(text).unwrap()
}

/// A strategy with short bounds.
pub fn strategy() -> Strategy {
    Strategy {
        batch: Amount::Count(2),
        max_unavailable: Amount::Count(2),
        healthy_deadline: Duration::from_secs(30),
        progress_deadline: Duration::from_secs(300),
        ..Strategy::default()
    }
}

pub fn migration(way_back: WayBackKind) -> Option<MigrationFacts> {
    let lease = Duration::from_secs(60);
    Some(MigrationFacts { lease, way_back, idempotent: false, schema: None })
}

impl World {
    /// So many hosts, all connected and heard of.
    pub fn new(hosts: usize) -> Self {
        let now = Timestamp::from_ms(1_800_000_000_000);
        let mut world = Self {
            faults: Faults::none(0),
            checks: Checks::default(),
            network: Vec::new(),
            state: State::new(now),
            store: BTreeMap::new(),
            log: Vec::new(),
            moves: BTreeSet::new(),
            now,
            hosts: BTreeMap::new(),
            cut: Vec::new(),
            connections: BTreeMap::new(),
            next_connection: 0,
            next_request: 0,
            sentences: Vec::new(),
            issued: Vec::new(),
            most_out: 0,
            heartbeat: Duration::from_secs(1),
            told: BTreeMap::new(),
            answers: BTreeMap::new(),
            uses: BTreeMap::new(),
            shows: BTreeMap::new(),
            mute: Vec::new(),
            contracts: BTreeMap::new(),
            follows: BTreeMap::new(),
            commits: BTreeMap::new(),
            doors: crate::asked::Doors::default(),
        };
        (1..=hosts).for_each(|number| world.enrol(number));
        world.run(2);
        world
    }

    /// A fleet on v1, and a published v2, both with this strategy.
    pub fn on_v1(hosts: usize, strategy: Strategy) -> Self {
        let mut world = Self::new(hosts);
        world.publish("v1", 1, None, strategy.clone());
        world.publish("v2", 2, None, strategy);
        world.must_succeed("v1");
        world.most_out = 0;
        world
    }

    /// So many that to enrol them one by one would take its time.
    pub fn of_many(hosts: usize) -> Self {
        let mut world = Self::new(1);
        world.enrol_many(2..=hosts);
        world.run(2);
        world
    }

    pub fn enrol_many(&mut self, numbers: std::ops::RangeInclusive<usize>) {
        for number in numbers {
            let id = host_id(number);
            let (place, enrolled_at) = (place(), self.now);
            let host = HostRecord {
                id: id.clone(),
                place,
                labels: labels(number),
                enrolled_at,
                cordon: None,
                drain: None,
                led_away: None,
            };
            let put = Change::Put { record: Record::Host(host) };
            self.commit(Output { changes: vec![put], ..Output::default() });
            self.hosts.insert(id, Host::new(self.now));
        }
    }

    pub fn enrol(&mut self, number: usize) {
        let id = host_id(number);
        let host = HostRecord {
            id: id.clone(),
            place: place(),
            labels: labels(number),
            enrolled_at: self.now,
            cordon: None,
            drain: None,
            led_away: None,
        };
        self.ask(Action::Enrol { host, token: "t".to_owned() }).unwrap();
        self.hosts.insert(id, Host::new(self.now));
    }

    pub fn host(&mut self, number: usize) -> &mut Host {
        self.hosts.get_mut(&host_id(number)).unwrap()
    }

    pub fn publish(
        &mut self,
        release: &str,
        counter: u64,
        migration: Option<MigrationFacts>,
        strategy: Strategy,
    ) {
        self.publish_anyway(release, counter, migration, strategy);
        assert!(self.state.release(&place().application, &name(release)).is_some());
    }

    /// Again and again, if the controller dies of it.
    pub fn publish_anyway(
        &mut self,
        release: &str,
        counter: u64,
        migration: Option<MigrationFacts>,
        strategy: Strategy,
    ) {
        let known = name(release);
        while self.state.release(&place().application, &known).is_none() {
            self.publish_once(release, counter, migration.clone(), strategy.clone());
        }
    }

    fn publish_once(
        &mut self,
        release: &str,
        counter: u64,
        migration: Option<MigrationFacts>,
        strategy: Strategy,
    ) {
        self.try_to_publish(release, counter, migration, strategy).unwrap();
    }

    pub fn try_to_publish(
        &mut self,
        release: &str,
        counter: u64,
        migration: Option<MigrationFacts>,
        strategy: Strategy,
    ) -> Result<Answer, Refusal> {
        let place = place();
        let digest = Sha256::of(release.as_bytes());
        let release =
            ReleaseRef { name: name(release), counter: ReleaseCounter(counter), digest, length: 100 };
        let contract = self.contracts.get(&release.name).cloned();
        let metrics_of = release.name.clone();
        let release = Box::new(ReleaseRecord {
            application: place.application,
            release,
            published_at: self.now,
            by: anna(),
            origin: Origin::Artifact { commit: self.commits.get(&metrics_of).cloned() },
            notes: None,
            migration,
            contract,
            environments: [(place.environment, strategy)].into(),
            checks: vec![StepName::new("web").unwrap()],
            services: if self.uses.is_empty() { vec![] } else { vec![ServiceName::new("app").unwrap()] },
            metrics: (self.shows.get(&metrics_of).into_iter().flatten())
                .map(|(metric, _)| metric.clone())
                .collect(),
            hosts_keep: 0,
            follows: self.follows.get(&metrics_of).cloned(),
            content: Content::Here,
        });
        self.ask(Action::Publish { release, signed_by: Vec::new() })
    }

    /// Everywhere the same behaviour.
    pub fn behaves(&mut self, release: &str, behaviour: Behaviour) {
        for host in self.hosts.values_mut() {
            host.behaviour.insert(name(release), behaviour);
        }
    }

    pub fn command(&mut self, action: Action) -> Command {
        self.next_request += 1;
        Command {
            request: RequestId::new(format!("q-{}", self.next_request)).unwrap(),
            by: anna(),
            origin: "10.0.0.1".to_owned(),
            fresh: RolloutId::new(format!("r-{}", self.next_request)).unwrap(),
            action,
        }
    }

    pub fn ask(&mut self, action: Action) -> Result<Answer, Refusal> {
        let command = self.command(action);
        self.send(&command)
    }

    pub fn send(&mut self, command: &Command) -> Result<Answer, Refusal> {
        let decided = decide(&self.state, command, self.now)?;
        self.commit(decided.output);
        self.plan();
        Ok(decided.answer)
    }

    pub fn request(release: &str) -> RollRequest {
        RollRequest::new(place().application, place().environment, name(release))
    }

    pub fn release(&mut self, release: &str) -> Result<RolloutId, Refusal> {
        self.roll(Self::request(release))
    }

    pub fn roll(&mut self, request: RollRequest) -> Result<RolloutId, Refusal> {
        match self.ask(Action::Roll(Box::new(request)))? {
            Answer::Rollout { id } => Ok(id),
            Answer::Accepted => panic!("a rollout has a name"),
        }
    }

    pub fn rollback(&mut self, to: Option<&str>) -> Result<RolloutId, Refusal> {
        let (place, to, reason) = (place(), to.map(name), "it is slow".to_owned());
        match self.ask(Action::RollBack { place, to, reason })? {
            Answer::Rollout { id } => Ok(id),
            Answer::Accepted => panic!("a rollout has a name"),
        }
    }

    /// As the shell does it: durable first, then applied, then carried out.
    /// Whether the controller lives to see it.
    pub fn commit(&mut self, output: Output) -> bool {
        fits_into_a_commit(&output);
        if self.faults.hits(self.faults.crashes, 1000) {
            // Nothing of it has become durable, so nothing of it has happened.
            self.crash_controller();
            return false;
        }
        for change in &output.changes {
            match change {
                Change::Put { record } => {
                    self.moves.extend(moved(self.store.get(&record.key()), record));
                    self.store.insert(record.key(), record.clone());
                }
                Change::Delete { key } => {
                    self.store.remove(key);
                }
            }
        }
        self.log.extend(output.log.clone());
        self.checks.logged(&output);
        self.checks.before(&self.state, &output, self.now);
        output.changes.iter().for_each(|change| self.state.apply(change));
        self.checks.after(&self.state, &output, &self.hosts);
        if self.faults.hits(self.faults.crashes, 1000) {
            // All of it is durable, and nothing was carried out: a grant is one all the same.
            self.crash_controller();
            return false;
        }
        for effect in output.effects {
            if let Effect::Send { host, assignment } = effect {
                if assignment.order.takes_out() {
                    self.issued.push((*assignment).clone());
                }
                self.deliver(&host, &assignment);
            }
        }
        true
    }

    pub fn deliver(&mut self, host: &HostId, assignment: &Assignment) {
        if self.connections.contains_key(host) && !self.cut.contains(host) {
            self.carry(|| Message::Order(host.clone(), Box::new(assignment.clone())));
        }
    }

    /// Messages come at once, or late, twice, never.
    fn carry(&mut self, message: impl Fn() -> Message) {
        let copies = 1 + u32::from(self.faults.hits(self.faults.doubled, 100));
        for _ in 0..copies {
            if self.faults.hits(self.faults.lost, 100) {
                continue;
            }
            let late = match self.faults.late {
                0 => 0,
                late => self.faults.rng.random_range(0..=late),
            };
            if late == 0 {
                self.arrive(message());
            } else {
                self.network.push((self.now + Duration::from_secs(late), message()));
            }
        }
    }

    fn arrive(&mut self, message: Message) {
        let now = self.now;
        match message {
            Message::Order(host, assignment) => {
                if !self.cut.contains(&host)
                    && let Some(host) = self.hosts.get_mut(&host)
                {
                    host.take(&assignment, now);
                }
            }
            Message::Report(host, connection, report) => {
                if self.connections.get(&host) == Some(&connection) {
                    self.checks.heard(&host, connection, &report, now);
                }
                let _ = self.observe(Observation::Reported { host: host.clone(), connection, report });
                if let Some(assignment) = self.state.pending(&host, now).cloned() {
                    self.deliver(&host, &assignment);
                }
            }
        }
    }

    pub fn plan(&mut self) {
        // What is to follow at once does, as the reactor has it.
        for _ in 0..MOST_RUNS {
            let planned = plan(&self.state, self.now);
            let wake_at = planned.wake_at;
            self.sentences = planned.report.places.iter().flat_map(|place| place.sentences()).collect();
            self.commit(planned.output);
            if self.faults.crashes > 0 {
                return;
            }
            if wake_at != Some(self.now) {
                // What a run decides it decides whole.
                let again = plan(&self.state, self.now);
                assert!(again.output.changes.is_empty(), "not settled: {:?}", again.output.changes);
                return;
            }
        }
        panic!("it has not settled after {MOST_RUNS} runs: {:?}", self.sentences);
    }

    pub fn crash_controller(&mut self) {
        self.state = State::load(self.store.values().cloned(), self.now);
        self.connections.clear();
        self.checks.restarted();
        self.doors_forget();
    }

    /// The controller's state of some moment, as a backup holds it.
    pub fn back_up(&self) -> (Timestamp, Vec<Record>) {
        (self.now, self.store.values().cloned().collect())
    }

    /// A controller that starts from a backup.
    pub fn restore(&mut self, (made_at, mut records): (Timestamp, Vec<Record>)) -> Vec<RestoredPlace> {
        let (places, _) = restored(&mut records, made_at);
        self.store = records.into_iter().map(|record| (record.key(), record)).collect();
        self.crash_controller();
        // It knows nothing of what was promised since.
        self.checks = Checks::default();
        places
    }

    /// The clock of all is set back.
    pub fn set_back(&mut self, by: Duration) {
        let by_ms = u64::try_from(by.as_millis()).unwrap();
        self.now = Timestamp::from_ms(self.now.ms() - by_ms);
        let now = self.now;
        self.hosts.values_mut().for_each(|host| host.set_back(now, by_ms));
        // Heartbeats go by a clock that is not set.
        self.told.clear();
    }

    pub fn observe(&mut self, observation: Observation) -> Attention {
        self.state.observe(observation, self.now)
    }

    pub fn disconnect(&mut self, host: &HostId) {
        if let Some(connection) = self.connections.remove(host) {
            self.checks.gone(host);
            let _ = self.observe(Observation::Disconnected { host: host.clone(), connection });
        }
    }

    /// One second: messages arrive, hosts go on, connect and report; the planner runs.
    pub fn tick(&mut self) {
        self.now = self.now + Duration::from_secs(1);
        let now = self.now;
        let (due, later) = std::mem::take(&mut self.network).into_iter().partition(|(at, _)| *at <= now);
        self.network = later;
        let due: Vec<(Timestamp, Message)> = due;
        due.into_iter().for_each(|(_, message)| self.arrive(message));
        let ids: Vec<HostId> = self.hosts.keys().cloned().collect();
        for id in ids {
            let host = self.hosts.get_mut(&id).unwrap();
            host.tick(now);
            if !host.up || self.cut.contains(&id) {
                self.disconnect(&id);
                continue;
            }
            let report = host.report(now);
            let connection = *self.connections.entry(id.clone()).or_insert_with(|| {
                self.next_connection += 1;
                self.next_connection
            });
            let _ = self.observe(Observation::Connected { host: id.clone(), connection });
            self.measure(&id, connection);
            if !self.is_news(&id, &report) {
                continue;
            }
            self.carry(|| Message::Report(id.clone(), connection, Box::new(report.clone())));
        }
        self.ask_gates();
        let planned = plan_place(&self.state, &place(), self.now);
        self.sentences = planned.report.places.iter().flat_map(|place| place.sentences()).collect();
        if self.commit(planned.output) {
            self.checks.every_wait_has_a_reason(&self.state, &self.sentences);
        }
        self.checks.nothing_gets_requests_too_early(&self.state, &self.hosts);
        self.most_out = self.most_out.max(self.hosts.values().filter(|host| !host.serves()).count());
    }

    /// Every ten seconds a host tells how its check went.
    fn measure(&mut self, id: &HostId, connection: u64) {
        let seconds = self.now.ms() / 1000;
        if !seconds.is_multiple_of(10) || self.mute.contains(id) {
            return;
        }
        let Some(active) = &self.hosts[id].active else { return };
        let (ms, failed) = self.answers.get(&active.release.name).copied().unwrap_or((20, 0));
        // A little noise, the same in each run.
        let p50 = Duration::from_millis(ms + (seconds / 10 * 7 + u64::from(id.as_str().as_bytes()[5])) % 5);
        let check = StepName::new("web").unwrap();
        let checks = vec![CheckFigures { check, count: 10, failed, p50 }];
        let noise = seconds / 10 * 3 + u64::from(id.as_str().as_bytes()[5]);
        let figures = |uses: &Uses| ServiceFigures {
            service: ServiceName::new("app").unwrap(),
            period: Duration::from_secs(10),
            cpu: Some(Duration::from_millis(uses.cpu_ms_per_s * 10 + noise % 7)),
            memory_bytes: Some((uses.memory_mib + noise % 3) << 20),
            restarts: uses.restarts,
        };
        let services = self.uses.get(&active.release.name).map(figures).into_iter().collect();
        let shown = self.shows.get(&active.release.name).into_iter().flatten();
        let metrics = shown.map(|(metric, figure)| MetricFigures {
            metric: metric.name.clone(),
            period: Duration::from_secs(10),
            figure: figure.clone(),
        });
        let figures = Figures { checks, services, metrics: metrics.collect() };
        let _ = self.observe(Observation::Measured { host: id.clone(), connection, figures });
    }

    /// Whether a host would send this: something happened, or it is time for a heartbeat.
    fn is_news(&mut self, host: &HostId, report: &HostReport) -> bool {
        let kind = |report: &HostReport| {
            let (phase, health) =
                (std::mem::discriminant(&report.phase), std::mem::discriminant(&report.health));
            (report.generation, report.active.clone(), report.outcome.clone(), phase, health)
        };
        let last = self.told.get(host);
        let is_news =
            last.is_none_or(|(at, last)| self.now.since(*at) >= self.heartbeat || kind(last) != kind(report));
        if is_news {
            self.told.insert(host.clone(), (self.now, report.clone()));
        }
        is_news
    }

    pub fn run(&mut self, seconds: u32) {
        (0..seconds).for_each(|_| self.tick());
    }

    /// Until this holds, or for an hour.
    pub fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..3600 {
            if holds(self) {
                return;
            }
            self.tick();
        }
        panic!("never: {what}; now {:?} because {:?}", self.words(), self.sentences);
    }

    pub fn rollout_held(&self) -> bool {
        self.state.place(&place()).is_some_and(|place| place.holder.is_some())
    }

    pub fn rollout(&self, id: &RolloutId) -> &Rollout {
        self.state.rollout(id).unwrap()
    }

    pub fn word(&self, id: &RolloutId) -> StatusWord {
        self.rollout(id).status.word()
    }

    pub fn words(&self) -> Vec<(String, StatusWord)> {
        self.state.rollouts().map(|r| (r.id.to_string(), r.status.word())).collect()
    }

    pub fn ended(&mut self, id: &RolloutId) -> StatusWord {
        self.until("an end", |world| world.rollout(id).ended());
        self.word(id)
    }

    /// Brings a release everywhere, and expects that to work.
    pub fn must_succeed(&mut self, release: &str) {
        let id = self.release(release).unwrap();
        assert_eq!(self.ended(&id), StatusWord::Succeeded, "{release}: {:?}", self.rollout(&id).status);
    }

    /// What each host runs, proven or not.
    pub fn runs(&self) -> Vec<String> {
        let active =
            |host: &Host| host.active.as_ref().map_or("-", |active| active.release.name.as_str()).to_owned();
        self.hosts.values().map(active).collect()
    }

    pub fn end_reason(&self, id: &RolloutId) -> String {
        use landfall_controller_core::rollout::{End, Status};
        match &self.rollout(id).status {
            Status::Ended { end: End::Failed { reason, .. } | End::RolledBack { reason, .. } } => {
                reason.clone()
            }
            Status::Paused { reason, .. } => reason.clone(),
            other => panic!("no reason: {other:?}"),
        }
    }
}

/// What the store takes, with what an entry of the log costs: itself, its leaf, a node of the tree.
fn fits_into_a_commit(output: &Output) {
    let changes = output.changes.len() + 3 * output.log.len() + 65;
    assert!(changes <= 32_768, "{changes} changes");
    if changes < 1_000 {
        return;
    }
    let records = output.changes.iter().map(|change| serde_json::to_vec(change).unwrap().len() + 100);
    let entries = output.log.iter().map(|entry| {
        let entry: LogEntry = entry.clone().number(0);
        serde_json::to_vec(&entry).unwrap().len() + 500
    });
    let bytes: usize = records.chain(entries).sum();
    assert!(bytes <= 32 << 20, "{bytes} bytes");
}

pub fn anna() -> Actor {
    Actor::Operator(OperatorName::new("anna").unwrap())
}

fn moved(before: Option<&Record>, now: &Record) -> Option<(Option<StatusWord>, StatusWord)> {
    let Record::Rollout(now) = now else { return None };
    let before = match before {
        Some(Record::Rollout(before)) => Some(before.status.word()),
        _ => None,
    };
    let now = now.status.word();
    (before != Some(now)).then_some((before, now))
}
