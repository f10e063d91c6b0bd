//! Connections and what travels over them: lost, doubled, late, overtaken.

use landfall_agent_core::Event as AgentEvent;
use landfall_common::assignment::Assignment;
use landfall_common::report::HostReport;
use landfall_common::{Sha256, canonical};
use landfall_controller_core::observation::{Attention, Observation};

use super::{Event, World};
use crate::check::{Violation, current};
use crate::host::Said;
use crate::scenario::LATE_MS;

/// How long an end of a connection waits before it believes that the other is gone.
const KEEPALIVE_MS: u64 = 20_000;

impl World {
    pub(super) fn is_cut(&self, host: usize) -> bool {
        self.hosts[host].cut_until > self.now || self.outage_until > self.now
    }

    /// A host that has no connection tries to get one.
    pub(super) fn connect(&mut self, host: usize, process: u64) {
        let agent = &self.hosts[host];
        if agent.process != process || agent.agent.is_none() || agent.connection.is_some() || !agent.enrolled
        {
            return;
        }
        let is_cut = self.is_cut(host);
        let known = self.controller.running.as_ref().is_some_and(|c| c.state.host(&agent.id).is_some());
        if is_cut || !known {
            let wait = self.dice.between(500, 5_000);
            self.after(wait, Event::Connect { host, process });
            return;
        }
        let connection = self.next_connection;
        self.next_connection += 1;
        self.hosts[host].connection = Some(connection);
        let id = self.hosts[host].id.clone();
        self.note(format_args!("{id} connects as {connection}"));
        let now = self.controller_now();
        self.checks.connected(&id, connection);
        let attention = self.controller.running.as_mut().map(|controller| {
            controller.sessions.insert(id.clone(), connection);
            controller.state.observe(Observation::Connected { host: id, connection }, now)
        });
        self.attend(attention);
        self.send_report(host);
    }

    fn attend(&mut self, attention: Option<Attention>) {
        if attention == Some(Attention::Plan) {
            self.plan_within(20);
        }
    }

    /// When a message arrives, if it does, and when its double does.
    pub(super) fn delays(&mut self) -> Vec<u64> {
        let faults = &self.scenario.faults;
        let (lost, late, doubled) =
            if self.healed { (0, 0, 0) } else { (faults.lost, faults.late, faults.doubled) };
        let mut delays = Vec::new();
        for copy in [true, self.dice.chance(doubled)] {
            if !copy || self.dice.chance(lost) {
                continue;
            }
            let longest = if self.dice.chance(late) { LATE_MS } else { 60 };
            delays.push(self.dice.between(1, longest));
        }
        delays
    }

    /// A host says how it stands.
    pub(super) fn send_report(&mut self, host: usize) {
        let now = self.hosts[host].now(self.now);
        let Some(agent) = &mut self.hosts[host].agent else { return };
        let report = agent.report(now);
        let current = current::active(&self.hosts[host].app_disk);
        self.carry_report(host, Said { report, current });
    }

    pub(super) fn carry_report(&mut self, host: usize, Said { report, current }: Said) {
        let agent = &self.hosts[host];
        let said = self.checks.said(&agent.id, &current, &agent.services, agent.led_to.as_ref(), &report);
        self.must(said);
        let agent = &self.hosts[host];
        let said = self.checks.said_of_traffic(&agent.id, agent.led_away, &report);
        self.must(said);
        let early = self.checks.gets_no_requests_early(&self.hosts[host].id, &report);
        self.must(early);
        let Some(connection) = self.hosts[host].connection else { return };
        if self.is_cut(host) {
            return;
        }
        for delay in self.delays() {
            self.after(delay, Event::Report { host, connection, report: Box::new(report.clone()) });
        }
    }

    pub(super) fn report_arrives(&mut self, host: usize, connection: u64, report: HostReport) {
        if self.is_cut(host) || self.controller.running.is_none() {
            return;
        }
        let id = self.hosts[host].id.clone();
        let now = self.controller_now();
        let stale = self.scenario.faults.stale;
        let Some(controller) = &mut self.controller.running else { return };
        if controller.sessions.get(&id) != Some(&connection) && !stale {
            return;
        }
        self.checks.heard(&id, connection, &report, now);
        let report = Box::new(report);
        let observation = Observation::Reported { host: id.clone(), connection, report };
        let attention = controller.state.observe(observation, now);
        let pending = controller.state.pending(&id, now).cloned();
        self.attend(Some(attention));
        if let Some(assignment) = pending {
            self.send(&assignment);
        }
    }

    /// An assignment leaves the controller, if its host is connected.
    pub(super) fn send(&mut self, assignment: &Assignment) {
        let known = self.checks.sent(assignment, &self.controller.disk);
        self.must(known);
        self.statistics.assignments += 1;
        let Some(controller) = &self.controller.running else { return };
        let Some(connection) = controller.sessions.get(&assignment.host).copied() else { return };
        let Some(host) = self.hosts.iter().position(|host| host.id == assignment.host) else { return };
        if self.is_cut(host) {
            return;
        }
        for delay in self.delays() {
            let assignment = Box::new(assignment.clone());
            self.after(delay, Event::ToHost { host, connection, assignment });
        }
    }

    pub(super) fn assignment_arrives(&mut self, host: usize, connection: u64, assignment: &Assignment) {
        let agent = &self.hosts[host];
        let current = agent.connection == Some(connection) || self.scenario.faults.stale;
        if !current || self.is_cut(host) {
            return;
        }
        let now = agent.now(self.now);
        let Some(agent) = &mut self.hosts[host].agent else { return };
        let digest = Sha256::of(&canonical::to_vec(assignment).expect("plain data without fractions"));
        let before = agent.record().clone();
        // What waited for the ledger may be written together with it.
        let was_behind = agent.is_behind();
        let event = AgentEvent::Assigned { assignment: Box::new(assignment.clone()), digest };
        let result = agent.handle(event, now);
        let refused = agent.machine().live.refused.as_ref();
        let is_refused = refused.is_some_and(|(generation, _)| *generation == assignment.generation);
        let (unchanged, took) = (*agent.record() == before, agent.record().accepted != before.accepted);
        let (id, order) = (self.hosts[host].id.clone(), &assignment.order);
        let generation = assignment.generation;
        if took || is_refused {
            let word = if is_refused { "refuses" } else { "takes" };
            self.note(format_args!("{id} {word} g{generation} {} {order:?}", assignment.release.name));
        }
        if took {
            self.checks.database_deadline(assignment, self.now);
        }
        if is_refused && !unchanged && !was_behind {
            let what = format!("{id} refused generation {generation} and has changed its record");
            self.must(Err(Violation::new("P12", what)));
        }
        let _ = result;
        self.drain(host);
    }

    /// A host learns that its connection is gone.
    pub(super) fn host_notices(&mut self, host: usize, connection: u64) {
        let agent = &mut self.hosts[host];
        if agent.connection == Some(connection) {
            agent.connection = None;
            let process = agent.process;
            let wait = self.dice.between(100, 3_000);
            self.after(wait, Event::Connect { host, process });
        }
    }

    /// The controller learns that a connection is gone.
    pub(super) fn controller_notices(&mut self, host: usize, connection: u64) {
        let id = self.hosts[host].id.clone();
        let now = self.controller_now();
        let Some(controller) = &mut self.controller.running else { return };
        if controller.sessions.get(&id) == Some(&connection) {
            controller.sessions.remove(&id);
        }
        self.checks.disconnected(&id, connection);
        let observation = Observation::Disconnected { host: id, connection };
        let attention = controller.state.observe(observation, now);
        self.attend(Some(attention));
    }

    /// Both ends of a host's connection will find out that nothing comes through.
    pub(super) fn starve(&mut self, host: usize, for_ms: u64) {
        let Some(connection) = self.hosts[host].connection else { return };
        if for_ms >= KEEPALIVE_MS {
            self.after(KEEPALIVE_MS, Event::ControllerNotices { host, connection });
            let later = self.dice.between(0, 5_000);
            self.after(KEEPALIVE_MS + later, Event::HostNotices { host, connection });
        }
    }
}
