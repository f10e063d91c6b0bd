//! A host with two slots and a proxy, as they really are, beside what the machine believes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use landfall_agent_core::outline::CheckOutline;
use landfall_agent_core::placement::TrafficOutline;
use landfall_agent_core::{
    Action, Effect, Event, Finish, Identity, Machine, Now, Outline, Record, State, Target, decide,
};
use landfall_common::assignment::{Assignment, OnFailure};
use landfall_common::manifest::traffic::Slot;
use landfall_common::report::{Health, OutcomeKind};
use landfall_common::{ReleaseName, Sha256, canonical};

use crate::harness::{S, activate_with, failure};

/// What becomes of one effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The agent is killed, and the effect never took place.
    KilledBefore,
    /// It took place, and the agent is killed before it hears of it.
    KilledAfter,
    /// The host loses its power before it.
    PowerBefore,
    /// The host loses its power after it.
    PowerAfter,
    /// It fails without having done anything.
    Fails,
    /// It took place and says that it failed.
    FailsAfter,
}

pub const FAULTS: [Fault; 6] = [
    Fault::KilledBefore,
    Fault::KilledAfter,
    Fault::PowerBefore,
    Fault::PowerAfter,
    Fault::Fails,
    Fault::FailsAfter,
];

/// What a release's traffic is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Slots,
    Gate,
    Plain,
}

pub struct World {
    pub machine: Machine,
    pub now: Now,
    /// What really runs in each slot.
    pub slots: BTreeMap<Slot, ReleaseName>,
    /// What really runs otherwise.
    pub plain: BTreeMap<String, ReleaseName>,
    /// Where the proxy really leads requests.
    pub proxy: Option<Target>,
    pub current: Option<ReleaseName>,
    pub kinds: BTreeMap<ReleaseName, Kind>,
    /// Releases that never answer: not when they are warmed up, not to checks.
    pub cold: BTreeSet<ReleaseName>,
    /// Releases that fail their checks.
    pub sick: BTreeSet<ReleaseName>,
    /// The proxy does not do what it is told.
    pub stuck: bool,
    /// What happens at which effect on slots and proxy.
    pub faults: Vec<(usize, Fault)>,
    /// Effects on slots and proxy so far.
    pub count: usize,
    /// Every start in a slot that really started something.
    pub starts: Vec<(Slot, ReleaseName)>,
    /// After a reboot, until the machine has put things right again.
    booting: bool,
    queue: VecDeque<Effect>,
}

pub fn name(text: &str) -> ReleaseName {
    text.parse().unwrap()
}

impl World {
    pub fn new() -> Self {
        let identity = Identity {
            host: "web-1".parse().unwrap(),
            application: "shop".parse().unwrap(),
            environment: "production".parse().unwrap(),
        };
        let mut world = Self {
            machine: Machine::new(Record::new(identity)),
            now: Now { wall: "2026-11-21T12:00:00Z".parse().unwrap(), mono: S(1000) },
            slots: BTreeMap::new(),
            plain: BTreeMap::new(),
            proxy: None,
            current: None,
            kinds: BTreeMap::new(),
            cold: BTreeSet::new(),
            sick: BTreeSet::new(),
            stuck: false,
            faults: Vec::new(),
            count: 0,
            starts: Vec::new(),
            booting: false,
            queue: VecDeque::new(),
        };
        world.send(Event::Started);
        world
    }

    pub fn send(&mut self, event: Event) {
        let output = decide(&self.machine, event, self.now);
        self.machine = output.next;
        self.queue.extend(output.effects);
    }

    fn outline(&self, release: &ReleaseName) -> Outline {
        let keep = S(60);
        Outline {
            services: vec!["web".parse().unwrap(), "worker".parse().unwrap()],
            checks: vec![CheckOutline { name: "http".parse().unwrap(), max_age: S(100_000) }],
            retention: 2,
            traffic: match self.kinds.get(release).unwrap_or(&Kind::Slots) {
                Kind::Slots => Some(TrafficOutline::Slots { service: "web".parse().unwrap(), keep }),
                Kind::Gate => Some(TrafficOutline::Gate),
                Kind::Plain => None,
            },
            ..Outline::default()
        }
    }

    pub fn activate(&mut self, generation: u64, release: &str, on_failure: OnFailure) {
        self.assign(activate_with(generation, release, on_failure));
        self.settle();
    }

    pub fn assign(&mut self, assignment: Assignment) {
        let digest = Sha256::of(&canonical::to_vec(&assignment).unwrap());
        self.send(Event::Assigned { assignment: Box::new(assignment), digest });
    }

    /// Carries out the next effect; `false` if there is none.
    pub fn advance(&mut self) -> bool {
        let effect = self.queue.pop_front();
        effect.map(|effect| self.carry_out(effect)).is_some()
    }

    /// The next effect on the proxy that no plan awaits is carried out, and its answer is late: what it will be.
    pub fn carries_out_an_aim(&mut self) -> Event {
        let at = self.queue.iter().position(|effect| matches!(effect, Effect::Aim { .. })).unwrap();
        let Some(Effect::Aim { aim }) = self.queue.remove(at) else { unreachable!("it is one") };
        let result = self.happen(&Effect::Aim { aim: aim.clone() });
        Event::Aimed { aim, result }
    }

    /// A person has the proxy told again.
    pub fn misled(&mut self) {
        self.send(Event::Misled);
    }

    /// Until nothing is under way any more; slots may still be kept.
    pub fn settle(&mut self) {
        for _ in 0..2_000 {
            if let Some(effect) = self.queue.pop_front() {
                self.carry_out(effect);
                continue;
            }
            let live = &self.machine.live;
            let is_at_rest = self.machine.record.state == State::Idle
                && !(live.aiming || live.misaimed.is_some() || live.misnamed.is_some())
                && live.retiring.is_none();
            if is_at_rest {
                self.booting = false;
                return;
            }
            if self.holds_half() {
                return;
            }
            self.pass(1);
        }
        panic!("it never comes to rest: {:?} {:?}", self.machine.record.state, self.machine.live);
    }

    /// A release without slots was left in place although its service does not run: requests still go to
    /// the slot before, which runs on, and the host says that it is not well.
    fn holds_half(&self) -> bool {
        let record = &self.machine.record;
        record.state == State::Idle
            && record.in_doubt
            && record.active().is_some_and(|active| active.outline.traffic.is_none())
            && !self.plain.contains_key("web")
            && matches!(&self.proxy, Some(Target::Slot { slot, .. }) if self.slots.contains_key(slot))
            && matches!(self.machine.health(self.now), Health::Unhealthy { .. })
    }

    /// Seconds go by.
    pub fn pass(&mut self, seconds: u64) {
        self.now.mono += S(seconds);
        self.now.wall = self.now.wall + S(seconds);
        if let Some(watch) = self.machine.live.watch.clone() {
            let bad = self.cold.contains(&watch.release) || self.sick.contains(&watch.release);
            let answer = if bad { Err("status 500".to_owned()) } else { Ok(()) };
            let check = "http".parse().unwrap();
            self.send(Event::Checked { watch: watch.number, check, answer });
        }
        self.send(Event::Tick);
    }

    fn carry_out(&mut self, effect: Effect) {
        let counts = matches!(effect, Effect::Act { .. } | Effect::Aim { .. } | Effect::Retire { .. });
        self.count += usize::from(counts);
        let here = self.faults.iter().find(|(at, _)| counts && *at == self.count);
        let fault = here.map(|(_, fault)| *fault);
        match fault {
            Some(Fault::KilledBefore) => return self.start_agent(false),
            Some(Fault::PowerBefore) => return self.start_agent(true),
            _ => {}
        }
        let result =
            if fault == Some(Fault::Fails) { Err("made to fail".to_owned()) } else { self.happen(&effect) };
        self.check(&effect);
        let result = if fault == Some(Fault::FailsAfter) { Err("made to fail".to_owned()) } else { result };
        match fault {
            Some(Fault::KilledAfter) => return self.start_agent(false),
            Some(Fault::PowerAfter) => return self.start_agent(true),
            _ => {}
        }
        let event = match effect.clone() {
            Effect::Aim { aim } => Event::Aimed { aim, result },
            Effect::Retire { slot, release } => Event::Retired { slot, release, result },
            Effect::NameActive { .. } => Event::Named { result },
            Effect::Ensure { release } => Event::Ensured { release, result },
            Effect::Fetch { release, .. } => {
                let outline = Box::new(self.outline(&release.name));
                Event::Done { effect: Box::new(effect), finish: Finish::Fetched { outline } }
            }
            Effect::Act { .. } | Effect::Unpack { .. } | Effect::Seal { .. } => {
                let finish = match result {
                    Ok(()) => Finish::Ok,
                    Err(reason) => Finish::Failed { failure: failure(&reason) },
                };
                Event::Done { effect: Box::new(effect), finish }
            }
            _ => return,
        };
        self.send(event);
    }

    /// The agent is started again; of a host that was rebooted only disk and proxy are left.
    fn start_agent(&mut self, power: bool) {
        self.queue.clear();
        if power {
            self.slots.clear();
            self.plain.clear();
            self.now.mono = S(20);
            self.booting = true;
        }
        self.machine = Machine::new(self.machine.record.clone());
        self.send(Event::Started);
    }

    /// What an effect does to the real things.
    fn happen(&mut self, effect: &Effect) -> Result<(), String> {
        match effect {
            Effect::Act { action, .. } => match action {
                Action::Swap { to } => self.current = Some(to.clone()),
                Action::Restart { service, release } => {
                    self.plain.insert(service.to_string(), release.clone());
                }
                // Where it stands, under the name that it has there.
                Action::Renew { .. } => {}
                Action::Stop { service, .. } => {
                    self.plain.remove(service.as_str());
                }
                Action::Start { slot, release, kept } => self.start(*slot, release, *kept),
                Action::WarmUp { slot, release } => {
                    if self.cold.contains(release) || self.slots.get(slot) != Some(release) {
                        return Err("no answer".to_owned());
                    }
                }
                Action::Lead { aim } => self.lead(&aim.to)?,
                Action::Retire { slot, .. } => {
                    self.slots.remove(slot);
                }
            },
            Effect::Aim { aim } => self.lead(&aim.to)?,
            Effect::Retire { slot, .. } => {
                self.slots.remove(slot);
            }
            Effect::NameActive { release } => self.current = Some(release.clone()),
            Effect::Ensure { release } => {
                let outline = self.machine.record.installed[release].outline.clone();
                for service in outline.plain() {
                    self.plain.insert(service.to_string(), release.clone());
                }
                if outline.slotted().is_some()
                    && let Some(slot) = self.machine.record.placement.slot_of(release)
                {
                    self.start(slot, release, true);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Nobody is led to where nobody listens.
    fn lead(&mut self, to: &Target) -> Result<(), String> {
        if self.stuck {
            return Err("the proxy is not there".to_owned());
        }
        if matches!(to, Target::Plain { .. }) && !self.plain.contains_key("web") {
            return Err("nobody listens there".to_owned());
        }
        self.proxy = Some(to.clone());
        Ok(())
    }

    fn start(&mut self, slot: Slot, release: &ReleaseName, kept: bool) {
        if kept && self.slots.contains_key(&slot) {
            return;
        }
        if self.slots.get(&slot) != Some(release) {
            self.starts.push((slot, release.clone()));
        }
        self.slots.insert(slot, release.clone());
    }

    /// What must hold at every instant.
    fn check(&self, after: &Effect) {
        let record = &self.machine.record;
        for (slot, release) in &self.slots {
            let known = record.placement.slots.get(slot);
            assert_eq!(known, Some(release), "after {after:?}: {slot} runs what the record does not know");
        }
        match &self.proxy {
            Some(Target::Slot { slot, release }) => {
                assert!(!self.cold.contains(release), "after {after:?}: requests go to {release}");
                let runs = self.slots.get(slot);
                assert!(
                    self.booting || runs == Some(release),
                    "after {after:?}: requests for {release} go to {slot}, which runs {runs:?}"
                );
            }
            Some(Target::Plain { .. }) => {
                assert!(self.booting || self.plain.contains_key("web"), "after {after:?}: nobody listens");
            }
            Some(Target::Open | Target::Nowhere) | None => {}
        }
    }

    /// What must hold when nothing is under way.
    pub fn check_at_rest(&self, what: &str) {
        let record = &self.machine.record;
        let Some(active) = record.active() else {
            assert!(self.slots.is_empty(), "{what}: nothing is active, and {:?} run", self.slots);
            return;
        };
        let name = &active.release.name;
        assert_eq!(self.current.as_ref(), Some(name), "{what}");
        if self.holds_half() {
            return;
        }
        match self.kinds.get(name).unwrap_or(&Kind::Slots) {
            Kind::Slots => {
                let Some(Target::Slot { slot, .. }) = &self.proxy else { panic!("{what}: {:?}", self.proxy) };
                assert_eq!(self.slots.get(slot), Some(name), "{what}: where requests go");
                assert!(!self.plain.contains_key("web") || record.in_doubt, "{what}: web runs twice");
            }
            Kind::Gate => {
                let outcome = record.outcome.as_ref().map(|outcome| &outcome.result);
                let held = matches!(outcome, Some(OutcomeKind::Held { .. } | OutcomeKind::UndoFailed { .. }));
                let expected = if held && record.in_doubt { Target::Nowhere } else { Target::Open };
                assert_eq!(self.proxy, Some(expected), "{what}");
            }
            Kind::Plain => match &self.proxy {
                Some(Target::Slot { slot, .. }) => panic!("{what}: requests go to {slot}"),
                Some(Target::Nowhere) => panic!("{what}: requests go nowhere"),
                Some(Target::Plain { .. } | Target::Open) | None => {
                    assert!(self.plain.contains_key("web"), "{what}: nothing serves");
                }
            },
        }
        if !record.in_doubt {
            assert_eq!(self.plain.get("worker"), Some(name), "{what}: the worker");
        }
        let healthy = matches!(self.machine.health(self.now), Health::Healthy { .. });
        assert!(healthy || record.in_doubt || self.sick.contains(name) || !self.answered(), "{what}");
    }

    fn answered(&self) -> bool {
        self.machine.live.watch.as_ref().is_some_and(|watch| {
            !matches!(watch.judge.standing(self.now.mono), landfall_agent_core::Standing::Unknown)
        })
    }

    pub fn outcome(&self) -> &OutcomeKind {
        &self.machine.record.outcome.as_ref().expect("no assignment has ended").result
    }

    pub fn active(&self) -> Option<&str> {
        self.machine.record.active.as_ref().map(ReleaseName::as_str)
    }

    /// So many seconds go by, with all that follows.
    pub fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            while let Some(effect) = self.queue.pop_front() {
                self.carry_out(effect);
            }
            self.pass(1);
        }
    }

    /// The names of what the machine wants done, carried out one by one until it proves or rests.
    pub fn names_of(&mut self, generation: u64, release: &str) -> Vec<String> {
        self.assign(activate_with(generation, release, OnFailure::Revert));
        let mut names = Vec::new();
        while let Some(effect) = self.queue.pop_front() {
            if let Effect::Act { action, .. } = &effect {
                names.push(action.name().to_string());
            }
            self.carry_out(effect);
        }
        names
    }
}
