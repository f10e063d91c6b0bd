//! What a holder decides: pure, over plain data. Time is an argument: the time since some moment in the past.
//!
//! At most one process *serves*, at most one is the *candidate* that starts beside it, and any number are
//! *ending*. A candidate that shows it is ready serves from then on and what served before ends; one that
//! does not ends itself. What may not run beside another is in [`outage`]. The shell ([`super::server`]) carries
//! the effects out and reports what happened.

mod event;
mod outage;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use landfall_common::manifest::Ready;
use landfall_common::time::human;

use super::spec::{self, ChildKey, ChildSpec, EndNote, HandoverEnd, Reply, Request, Status};
pub use event::{Effect, Event};
use outage::Outage;

/// Time since a moment that the shell has chosen.
pub type Mono = Duration;

/// Numbers the processes of one holder; never used twice.
pub type Serial = u64;

/// The first pause before a process that ended by itself is started again; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The pause grows up to here.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A process that has run this long was well: the pauses begin anew.
const WELL_AFTER: Duration = Duration::from_secs(10);

/// How many ended handovers are remembered: an agent asks for its own, which is among the newest.
const REMEMBERED: usize = 8;

/// All that a holder knows.
#[derive(Debug, Clone)]
pub struct Machine {
    holder_pid: u32,
    next_serial: Serial,
    serving: Option<Current>,
    candidate: Option<Candidate>,
    ending: BTreeMap<Serial, Ending>,
    recent: VecDeque<HandoverEnd>,
    stopping: Option<Stopping>,
    out: Option<Outage>,
}

/// What serves, or should.
#[derive(Debug, Clone)]
struct Current {
    child: ChildSpec,
    key: ChildKey,
    life: Life,
    /// In a row, for the pause.
    failures: u32,
    restarts: u32,
    last_end: Option<EndNote>,
}

#[derive(Debug, Clone)]
enum Life {
    Running {
        serial: Serial,
        pid: u32,
        since: Mono,
    },
    /// Started again after it had ended by itself; `awaited` is the attempt that wants to know.
    Starting {
        serial: Serial,
        pid: Option<u32>,
        since: Mono,
        awaited: Option<String>,
    },
    Waiting {
        until: Mono,
    },
}

#[derive(Debug, Clone)]
struct Candidate {
    child: ChildSpec,
    key: ChildKey,
    attempt: String,
    serial: Serial,
    pid: Option<u32>,
    since: Mono,
    /// It is started when nothing runs any more.
    waits: bool,
}

#[derive(Debug, Clone)]
struct Ending {
    key: ChildKey,
    pid: u32,
    kill_at: Mono,
    killed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopping {
    Forget,
    Keep,
}

/// What is to run, and its process, if there is one now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted<'m> {
    /// What it runs.
    pub child: &'m ChildSpec,
    /// Its identity.
    pub key: ChildKey,
    /// Its process.
    pub pid: Option<u32>,
}

/// What must outlive a holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered<'m> {
    /// What serves or should, and its process.
    pub serving: Option<Wanted<'m>>,
    /// What is being started, and under which attempt.
    pub candidate: Option<(Wanted<'m>, &'m str)>,
    /// What is ending.
    pub ending: Vec<(ChildKey, u32)>,
    /// How handovers ended.
    pub recent: Vec<HandoverEnd>,
}

impl Machine {
    /// A holder that holds nothing yet.
    #[must_use]
    pub fn new(holder_pid: u32) -> Self {
        Self {
            holder_pid,
            next_serial: 1,
            serving: None,
            candidate: None,
            ending: BTreeMap::new(),
            recent: VecDeque::new(),
            stopping: None,
            out: None,
        }
    }

    /// Takes over a process that an earlier holder had started, and that serves.
    pub fn adopt(&mut self, child: ChildSpec, key: ChildKey, pid: u32, now: Mono) -> Serial {
        let serial = self.serial();
        let life = Life::Running { serial, pid, since: now };
        self.serving = Some(Current { child, key, life, failures: 0, restarts: 0, last_end: None });
        serial
    }

    /// What should serve, but does not: it is started at the next [`Event::Tick`].
    pub fn resume(&mut self, child: ChildSpec, key: ChildKey, now: Mono) {
        let life = Life::Waiting { until: now };
        self.serving = Some(Current { child, key, life, failures: 0, restarts: 0, last_end: None });
    }

    /// Takes over a process that an earlier holder had started and that is to end. It has been asked to.
    pub fn adopt_ending(&mut self, key: ChildKey, pid: u32, kill_at: Mono) -> Serial {
        let serial = self.serial();
        self.ending.insert(serial, Ending { key, pid, kill_at, killed: false });
        serial
    }

    /// Remembers how an earlier holder's handover ended.
    pub fn recall(&mut self, end: HandoverEnd) {
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(end);
    }

    /// What must outlive this holder.
    #[must_use]
    pub fn remembered(&self) -> Remembered<'_> {
        Remembered {
            serving: self.serving.as_ref().map(|current| Wanted {
                child: &current.child,
                key: current.key,
                pid: current.life.pid(),
            }),
            candidate: self.candidate.as_ref().map(|candidate| {
                let wanted = Wanted { child: &candidate.child, key: candidate.key, pid: candidate.pid };
                (wanted, candidate.attempt.as_str())
            }),
            ending: self.ending.values().map(|ending| (ending.key, ending.pid)).collect(),
            recent: self.recent.iter().cloned().collect(),
        }
    }

    /// The addresses that something listens on, or is about to.
    #[must_use]
    pub fn addresses(&self) -> Vec<&str> {
        let serving = self.serving.as_ref().and_then(|current| current.child.listen.as_deref());
        let candidate = self.candidate.as_ref().and_then(|candidate| candidate.child.listen.as_deref());
        serving.into_iter().chain(candidate).collect()
    }

    /// When [`Event::Tick`] will next change something.
    #[must_use]
    pub fn wake_at(&self) -> Option<Mono> {
        let serving = self.serving.as_ref().map(|current| match &current.life {
            Life::Running { .. } => Mono::MAX,
            Life::Starting { since, .. } => *since + limit(&current.child.ready),
            // The end of what is in its way is an event of its own.
            Life::Waiting { .. } if !self.is_free_for(&current.child) => Mono::MAX,
            Life::Waiting { until } => *until,
        });
        let candidate = self.candidate.as_ref().map(Candidate::until);
        let out = self.out.as_ref().filter(|out| !out.refusing).map(|out| out.until);
        let ending = self.ending.values().filter(|ending| !ending.killed).map(|ending| ending.kill_at).min();
        [serving, candidate, ending, out].into_iter().flatten().min().filter(|at| *at < Mono::MAX)
    }

    /// How things are.
    #[must_use]
    pub fn status(&self, now: Mono) -> Status {
        let serving = self.serving.as_ref().map(|current| spec::Serving {
            key: current.key,
            release_name: current.child.release_name.clone(),
            life: match &current.life {
                Life::Running { pid, since, .. } => {
                    spec::Life::Running { pid: *pid, period: now.saturating_sub(*since) }
                }
                Life::Starting { pid, .. } => spec::Life::Starting { pid: pid.unwrap_or(0) },
                Life::Waiting { until } => spec::Life::Waiting { period: until.saturating_sub(now) },
            },
            restarts: current.restarts,
            last_end: current.last_end.clone(),
        });
        let starting = self.candidate.as_ref().map(|candidate| spec::Starting {
            key: candidate.key,
            release_name: candidate.child.release_name.clone(),
            attempt: candidate.attempt.clone(),
            pid: candidate.pid,
        });
        let ending = self.ending.values().map(|ending| spec::Ending {
            key: ending.key,
            pid: ending.pid,
            killed_in: ending.kill_at.saturating_sub(now),
        });
        Status {
            holder_pid: self.holder_pid,
            serving,
            starting,
            ending: ending.collect(),
            recent: self.recent.iter().cloned().collect(),
            stopping: self.stopping.is_some(),
            out: self
                .out
                .as_ref()
                .map(|out| spec::Out { period: now.saturating_sub(out.since), refusing: out.refusing }),
            can_hold: true,
        }
    }

    /// Takes one event.
    pub fn step(&mut self, event: Event, now: Mono) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Request(request) => {
                let reply = self.request(request, now, &mut effects);
                effects.push(Effect::Answer(reply));
            }
            Event::Started { serial, pid } => self.started(serial, pid),
            Event::Ready { serial } => self.ready(serial, now, &mut effects),
            Event::Ended { serial, note } => self.ended(serial, note, now, &mut effects),
            Event::Tail { attempt, lines, instead } => {
                if let Some(end) = self.recent.iter_mut().rev().find(|end| end.attempt == attempt)
                    && let Some(note) = &mut end.failure
                {
                    note.tail = lines;
                    note.reason.extend(instead.map(|instead| format!("; {instead}")));
                }
            }
            Event::Tick => self.tick(now, &mut effects),
            Event::Terminate => self.stop(Stopping::Keep, now, &mut effects),
        }
        if let Some(stopping) = self.stopping
            && self.ending.is_empty()
        {
            effects.push(Effect::Exit { forget: stopping == Stopping::Forget });
        }
        effects
    }

    fn serial(&mut self) -> Serial {
        self.next_serial += 1;
        self.next_serial - 1
    }

    fn request(&mut self, request: Request, now: Mono, effects: &mut Vec<Effect>) -> Reply {
        match request {
            Request::Status => {}
            Request::Stop => self.stop(Stopping::Forget, now, effects),
            Request::Handover { child, key, attempt } => {
                if let Some(refusal) = self.handover(*child, key, attempt, now, effects) {
                    return refusal;
                }
            }
        }
        Reply::Status(Box::new(self.status(now)))
    }

    /// Gives a reply only if the handover is not taken.
    fn handover(
        &mut self,
        child: ChildSpec,
        key: ChildKey,
        attempt: String,
        now: Mono,
        effects: &mut Vec<Effect>,
    ) -> Option<Reply> {
        if self.stopping.is_some() {
            return Some(Reply::Refused { reason: "the service is being stopped".to_owned() });
        }
        // A repetition of what has ended has no effect, however late it comes.
        let ended = self.recent.iter().any(|end| end.key == key && end.attempt == attempt);
        if ended {
            return None;
        }
        if self.serving.as_ref().is_some_and(|current| current.key == key && current.is_running()) {
            // It serves already. Whatever is starting beside it is not wanted any more.
            if let Some(candidate) = self.candidate.take() {
                let reason = format!("given up: {} was asked for again", child.release_name);
                self.give_up(candidate, reason, now, effects);
            }
            self.remember(key, attempt, None);
            return None;
        }
        if let Some(candidate) = &mut self.candidate {
            if candidate.key == key {
                candidate.attempt = attempt;
                return None;
            }
            let release_name = candidate.child.release_name.clone();
            return Some(Reply::Busy { starting: candidate.key, release_name });
        }
        if let Some(current) = self.serving.as_mut().filter(|current| current.key == key)
            && let Life::Starting { awaited, .. } = &mut current.life
        {
            *awaited = Some(attempt);
            return None;
        }
        let serial = self.serial();
        if child.hold.is_some() {
            self.make_way(&child, now, effects);
        }
        let waits = !self.is_free_for(&child);
        if !waits {
            effects.push(Effect::Start { serial, child: child.clone() });
        }
        self.candidate = Some(Candidate { child, key, attempt, serial, pid: None, since: now, waits });
        None
    }

    fn started(&mut self, serial: Serial, started: u32) {
        if let Some(candidate) = self.candidate.as_mut().filter(|candidate| candidate.serial == serial) {
            candidate.pid = Some(started);
        } else if let Some(current) = &mut self.serving
            && let Life::Starting { serial: own, pid, .. } = &mut current.life
            && *own == serial
        {
            *pid = Some(started);
        }
    }

    fn ready(&mut self, serial: Serial, now: Mono, effects: &mut Vec<Effect>) {
        if let Some(candidate) = self.candidate.take_if(|candidate| candidate.serial == serial) {
            self.promote(candidate, now, effects);
            return;
        }
        let Some(current) = &mut self.serving else { return };
        let Life::Starting { serial: own, pid: Some(pid), awaited, .. } = &mut current.life else { return };
        if *own != serial {
            return;
        }
        let (pid, awaited) = (*pid, awaited.take());
        current.life = Life::Running { serial, pid, since: now };
        let key = current.key;
        self.end_outage(effects);
        if let Some(attempt) = awaited {
            self.remember(key, attempt, None);
        }
    }

    fn promote(&mut self, candidate: Candidate, now: Mono, effects: &mut Vec<Effect>) {
        let Candidate { child, key, attempt, serial, pid, .. } = candidate;
        let pid = pid.expect("only a process that was started shows that it is ready");
        if let Some(old) = self.serving.take() {
            self.end_current(&old, now, effects);
        }
        let life = Life::Running { serial, pid, since: now };
        self.serving = Some(Current { child, key, life, failures: 0, restarts: 0, last_end: None });
        self.end_outage(effects);
        self.remember(key, attempt, None);
    }

    fn ended(&mut self, serial: Serial, note: EndNote, now: Mono, effects: &mut Vec<Effect>) {
        if self.ending.remove(&serial).is_some() {
            let free = self.ending.is_empty();
            if let Some(candidate) = self.candidate.as_mut().filter(|candidate| candidate.waits && free) {
                candidate.waits = false;
                candidate.since = now;
                effects.push(Effect::Start { serial: candidate.serial, child: candidate.child.clone() });
            }
            return;
        }
        if let Some(candidate) = self.candidate.take_if(|candidate| candidate.serial == serial) {
            self.remember(candidate.key, candidate.attempt, Some(note));
            self.bring_back(now);
            return;
        }
        let Some(current) = self.serving.as_mut().filter(|current| current.life.serial() == Some(serial))
        else {
            return;
        };
        let awaited = current.pause(note.clone(), now);
        let key = current.key;
        if let Some(attempt) = awaited {
            self.remember(key, attempt, Some(note));
        }
    }

    fn tick(&mut self, now: Mono, effects: &mut Vec<Effect>) {
        for (serial, ending) in &mut self.ending {
            if !ending.killed && now >= ending.kill_at {
                ending.killed = true;
                effects.push(Effect::Kill { serial: *serial });
            }
        }
        self.tick_outage(now, effects);
        if let Some(candidate) = self.candidate.take_if(|candidate| now >= candidate.until()) {
            match candidate.too_late() {
                None => self.promote(candidate, now, effects),
                Some(reason) => self.give_up(candidate, reason, now, effects),
            }
        }
        self.tick_serving(now, effects);
    }

    fn tick_serving(&mut self, now: Mono, effects: &mut Vec<Effect>) {
        let next = self.next_serial;
        let is_free = self.serving.as_ref().is_some_and(|current| self.is_free_for(&current.child));
        let Some(current) = &mut self.serving else { return };
        match &current.life {
            Life::Waiting { until } if now >= *until && is_free => {
                self.next_serial += 1;
                let starting = Life::Starting { serial: next, pid: None, since: now, awaited: None };
                current.life = starting;
                effects.push(Effect::Start { serial: next, child: current.child.clone() });
            }
            Life::Starting { serial, pid: Some(pid), since, .. }
                if now >= *since + limit(&current.child.ready) =>
            {
                let (serial, pid) = (*serial, *pid);
                let Some(reason) = too_late(&current.child.ready) else {
                    return self.ready(serial, now, effects);
                };
                let note = EndNote::of(reason);
                let (key, stop_timeout) = (current.key, current.child.stop_timeout);
                let awaited = current.pause(note.clone(), now);
                let ending = Ending { key, pid, kill_at: now + stop_timeout, killed: false };
                self.ending.insert(serial, ending);
                effects.push(Effect::Terminate { serial });
                if let Some(attempt) = awaited {
                    self.remember(key, attempt.clone(), Some(note));
                    effects.push(Effect::ReadTail { serial, attempt });
                }
            }
            _ => {}
        }
    }

    fn stop(&mut self, how: Stopping, now: Mono, effects: &mut Vec<Effect>) {
        // Forgetting is the stronger of the two, whichever comes first.
        if self.stopping != Some(Stopping::Forget) {
            self.stopping = Some(how);
        }
        if let Some(candidate) = self.candidate.take() {
            self.give_up(candidate, "given up: the service is being stopped".to_owned(), now, effects);
        }
        if let Some(current) = &mut self.serving {
            let old = current.clone();
            // Nothing starts it again, and a host that comes back still knows what to run.
            current.life = Life::Waiting { until: Mono::MAX };
            self.end_current(&old, now, effects);
        }
    }

    /// Ends a candidate gently, since it may be answering requests already.
    fn give_up(&mut self, candidate: Candidate, reason: String, now: Mono, effects: &mut Vec<Effect>) {
        let Candidate { child, key, attempt, serial, pid, .. } = candidate;
        self.remember(key, attempt.clone(), Some(EndNote::of(reason)));
        if let Some(pid) = pid {
            let kill_at = now + child.stop_timeout;
            self.ending.insert(serial, Ending { key, pid, kill_at, killed: false });
            effects.push(Effect::ReadTail { serial, attempt });
            effects.push(Effect::Terminate { serial });
        }
        self.bring_back(now);
    }

    fn end_current(&mut self, old: &Current, now: Mono, effects: &mut Vec<Effect>) {
        if let (Some(serial), Some(pid)) = (old.life.serial(), old.life.pid()) {
            let kill_at = now + old.child.stop_timeout;
            self.ending.insert(serial, Ending { key: old.key, pid, kill_at, killed: false });
            effects.push(Effect::Terminate { serial });
        }
    }

    fn remember(&mut self, key: ChildKey, attempt: String, failure: Option<EndNote>) {
        self.recent.retain(|end| end.key != key || end.attempt != attempt);
        self.recall(HandoverEnd { key, attempt, failure });
    }
}

impl Current {
    fn is_running(&self) -> bool {
        matches!(self.life, Life::Running { .. })
    }

    /// After it ended by itself: waits before it is started again. Gives back who awaited it.
    fn pause(&mut self, note: EndNote, now: Mono) -> Option<String> {
        let (well, awaited) = match &mut self.life {
            Life::Running { since, .. } => (now.saturating_sub(*since) >= WELL_AFTER, None),
            Life::Starting { awaited, .. } => (false, awaited.take()),
            Life::Waiting { .. } => (false, None),
        };
        self.failures = if well { 0 } else { self.failures };
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(10)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        self.restarts = self.restarts.saturating_add(1);
        self.last_end = Some(note);
        self.life = Life::Waiting { until: now + pause };
        awaited
    }
}

impl Life {
    fn serial(&self) -> Option<Serial> {
        match self {
            Self::Running { serial, .. } | Self::Starting { serial, .. } => Some(*serial),
            Self::Waiting { .. } => None,
        }
    }

    fn pid(&self) -> Option<u32> {
        match self {
            Self::Running { pid, .. } => Some(*pid),
            Self::Starting { pid, .. } => *pid,
            Self::Waiting { .. } => None,
        }
    }
}

/// How long a process may take to show that it is ready, or has to stay alive.
fn limit(ready: &Ready) -> Duration {
    match ready {
        Ready::Alive { period } => *period,
        Ready::Notify { timeout } | Ready::Http { timeout, .. } => *timeout,
    }
}

/// What it means that the limit has passed: nothing (it stayed alive), or why it failed.
fn too_late(ready: &Ready) -> Option<String> {
    match ready {
        Ready::Alive { .. } => None,
        Ready::Notify { timeout } => {
            Some(format!("it did not send READY=1 to NOTIFY_SOCKET within {}", human::format(*timeout)))
        }
        Ready::Http { path, timeout, .. } => Some(format!(
            "it did not answer GET {path} with a status from 200 to 399 on descriptor 4 within {}",
            human::format(*timeout)
        )),
    }
}

#[cfg(test)]
mod tests;
