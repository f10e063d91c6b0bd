//! The agents' processes: they start, tick, report, and end between any two operations of a disk.

use landfall_agent::engine::{Engine, enrol};
use landfall_agent::error::AgentError;
use landfall_agent_core::{Event as AgentEvent, Identity};

use super::tasks::is_slot;
use super::{Event, World};
use crate::artifact::{self, Quality};
use crate::check::Violation;
use crate::host::{Doom, Note, Wishes};
use crate::sabotage::Sabotage;

/// From one report to the next.
pub(super) const HEARTBEAT_MS: u64 = 10_000;

impl World {
    /// A host's ledger is made: enrolment comes before the first fault.
    pub(super) fn enrol_disks(&mut self, host: usize) {
        let host = &self.hosts[host];
        let identity = Identity {
            host: host.id.clone(),
            application: artifact::application(),
            environment: self.place_of(host.index).environment,
        };
        enrol(&host.disks(), identity).expect("an empty disk without faults");
    }

    pub(super) fn start_host(&mut self, host: usize) {
        let agent = &mut self.hosts[host];
        if agent.agent.is_some() {
            return;
        }
        let id = agent.id.clone();
        match Engine::open(agent.disks(), Wishes::new(agent.app_disk.clone())) {
            Ok(engine) => {
                agent.agent = Some(engine);
                agent.process += 1;
                agent.tick_at = None;
                agent.work_due = false;
            }
            Err(error) => {
                self.note(format_args!("the agent of {id} does not start: {error}"));
                if matches!(error, AgentError::LedgerLost { .. } | AgentError::NoLedger { .. }) {
                    return self.must(Err(Violation::new("P2", format!("{id}: {error}"))));
                }
                if self.hosts[host].is_off() {
                    self.host_disk_went_off(host);
                } else {
                    self.after(2_000, Event::StartHost { host });
                }
                return;
            }
        }
        self.note(format_args!("the agent of {id} starts"));
        if self.scenario.sabotage == Some(Sabotage::DrainForgotten) {
            self.hosts[host].led_away = false;
            let brought = self.checks.led_back(&id);
            self.must(brought);
        }
        let process = self.hosts[host].process;
        self.after(HEARTBEAT_MS, Event::Heartbeat { host, process });
        let wait = self.dice.between(10, 1_000);
        self.after(wait, Event::Connect { host, process });
        self.tell(host, AgentEvent::Started);
    }

    /// Hands an event to an agent, and does what follows.
    pub(super) fn tell(&mut self, host: usize, event: AgentEvent) {
        let now = self.hosts[host].now(self.now);
        if matches!(event, AgentEvent::Checked { .. }) && self.waits_for_controller(host) {
            return;
        }
        let Some(agent) = &mut self.hosts[host].agent else { return };
        // A ledger that cannot be written is tried again with the next event.
        let result = agent.handle(event, now);
        if let Err(error) = result {
            let id = self.hosts[host].id.clone();
            self.note(format_args!("{id} cannot write its ledger: {error}"));
        }
        self.drain(host);
    }

    /// Takes from an agent what it wants, looks at its disk, and lets it die if that went off.
    pub(super) fn drain(&mut self, host: usize) {
        let Some(agent) = &mut self.hosts[host].agent else { return };
        let wishes = agent.runner();
        let (tasks, reports) = (std::mem::take(&mut wishes.tasks), std::mem::take(&mut wishes.reports));
        let wake = agent.wake_after();
        let is_off = self.hosts[host].is_off();
        // A process that is killed has begun what it had begun; a power cut leaves nothing of it.
        if !is_off || self.hosts[host].doom == Doom::Kill {
            for task in tasks {
                self.begin_task(host, task);
            }
        }
        if is_off {
            return self.host_disk_went_off(host);
        }
        for said in reports {
            self.carry_report(host, said);
        }
        self.look_at_disk(host);
        let process = self.hosts[host].process;
        if let Some(wake) = wake {
            let delay = u64::try_from(wake.as_millis()).unwrap_or(1_000).max(1);
            let at = self.now + delay;
            let sooner = self.hosts[host].tick_at.is_none_or(|known| at < known);
            if sooner {
                self.hosts[host].tick_at = Some(at);
                self.after(delay, Event::Tick { host, process });
            }
        }
        if !self.hosts[host].work_due {
            self.hosts[host].work_due = true;
            self.after(1_500, Event::Work { host, process });
        }
    }

    pub(super) fn look_at_disk(&mut self, host: usize) {
        let agent = &mut self.hosts[host];
        let operations = agent.operations();
        if operations != agent.seen_operations {
            agent.seen_operations = operations;
            if self.scenario.sabotage == Some(Sabotage::HalfRelease) {
                self.remove_a_file(host);
            }
            let agent = &self.hosts[host];
            let result = self.checks.disk(&agent.id, &agent.app_disk);
            self.must(result);
        }
    }

    pub(super) fn tick(&mut self, host: usize, process: u64) {
        let agent = &mut self.hosts[host];
        if agent.process != process || agent.tick_at != Some(self.now) {
            return;
        }
        agent.tick_at = None;
        if self.waits_for_controller(host) {
            self.hosts[host].tick_at = Some(self.now + 1_000);
            return self.after(1_000, Event::Tick { host, process });
        }
        self.tell(host, AgentEvent::Tick);
    }

    fn waits_for_controller(&self, host: usize) -> bool {
        self.scenario.sabotage == Some(Sabotage::WaitsForController) && self.hosts[host].connection.is_none()
    }

    pub(super) fn work(&mut self, host: usize, process: u64) {
        if self.hosts[host].process != process {
            return;
        }
        let Some(agent) = &mut self.hosts[host].agent else { return };
        let more = agent.work();
        self.hosts[host].work_due = false;
        if self.hosts[host].is_off() {
            return self.host_disk_went_off(host);
        }
        self.look_at_disk(host);
        if let Ok(true) | Err(_) = more {
            self.hosts[host].work_due = true;
            let delay = if more.is_ok() { 200 } else { 5_000 };
            self.after(delay, Event::Work { host, process });
        }
    }

    pub(super) fn heartbeat(&mut self, host: usize, process: u64) {
        if self.hosts[host].process != process || self.hosts[host].agent.is_none() {
            return;
        }
        if self.hosts[host].connection.is_some() {
            self.send_report(host);
            self.send_figures(host);
        }
        self.look_beside(host);
        self.after(HEARTBEAT_MS, Event::Heartbeat { host, process });
    }

    /// Whoever stands beside a host that hears of no controller looks how it gets on.
    fn look_beside(&mut self, host: usize) {
        let agent = &self.hosts[host];
        let is_hindered = [&agent.state_disk, &agent.app_disk].iter().any(|disk| disk.hinders());
        if agent.connection.is_some() || is_hindered {
            return self.checks.by_itself.is_over(&self.hosts[host].id);
        }
        let now = agent.now(self.now);
        let (id, process) = (agent.id.clone(), agent.process);
        let Some(report) = self.hosts[host].agent.as_mut().map(|agent| agent.report(now)) else { return };
        let runs = report.active.as_ref().is_none_or(|active| {
            let name = &active.release.name;
            let is_good = self.quality(host, name) == Quality::Good;
            let agent = &self.hosts[host];
            match agent.led_to.as_ref().filter(|to| is_slot(to)) {
                // Whatever became of an attempt, what requests are led to runs.
                Some(led_to) => !is_good || agent.services.contains_key(led_to),
                None => !is_good || !active.proven || self.runs_whole(host, name),
            }
        });
        let gets_on = self.checks.by_itself(&id, (process, self.now), &report, runs);
        self.must(gets_on);
    }

    pub(super) fn doom_falls(&mut self, host: usize, process: u64) {
        if self.hosts[host].process == process && self.hosts[host].agent.is_some() {
            self.host_disk_went_off(host);
        }
    }

    /// The agent's process ends, by itself or with its host.
    pub(super) fn host_disk_went_off(&mut self, host: usize) {
        let doom = self.hosts[host].doom;
        let power = doom != Doom::Kill;
        let id = self.hosts[host].id.clone();
        self.note(format_args!("{id} {}", if power { "loses its power" } else { "has its agent killed" }));
        self.statistics.host_crashes += 1;
        let agent = &mut self.hosts[host];
        agent.agent = None;
        agent.process += 1;
        agent.watch = None;
        agent.measured.clear();
        agent.answered = None;
        agent.application = None;
        agent.tasks.clear();
        agent.ensuring = None;
        agent.tick_at = None;
        agent.doom = Doom::None;
        let connection = agent.connection.take();
        if power {
            agent.state_disk.crash(self.dice.raw());
            agent.app_disk.crash(self.dice.raw());
            agent.services.clear();
        } else {
            agent.state_disk.kill();
            agent.app_disk.kill();
        }
        if let Some(connection) = connection {
            // A kernel that goes on ends the connections of a process; one without power does not.
            let wait = if power { self.dice.between(0, 20_000) } else { self.dice.between(1, 50) };
            self.after(wait, Event::ControllerNotices { host, connection });
        }
        let mut down = self.dice.between(500, 10_000);
        if power {
            down = self.dice.between(3_000, 60_000);
            self.migrations_lose_power(host);
            self.hosts[host].booted_at = self.now + down;
        }
        self.look_at_disk(host);
        self.after(down, Event::StartHost { host });
    }

    /// What ran below a supervisor dies with the host, at any point of its work.
    fn migrations_lose_power(&mut self, host: usize) {
        let running: Vec<(u64, usize)> = (self.hosts[host].notes.iter())
            .filter_map(|(fence, note)| match note {
                Note::Running { run } => Some((*fence, *run)),
                _ => None,
            })
            .collect();
        for (fence, run) in running {
            self.hosts[host].notes.insert(fence, Note::Lost);
            let took_effect = self.dice.chance(500_000);
            let result = self.checks.migration_ended(run, self.now, took_effect, false);
            self.must(result);
        }
    }
}
