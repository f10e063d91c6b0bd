//! The controller's process: starts, plans, commits, sends; falls.

use landfall_controller::store::StoreError;
use landfall_controller_core::record::{Change, Record};
use landfall_controller_core::rollout::{End, Rollout, Status};
use landfall_controller_core::{Effect, Output, plan};

use super::{Event, World};
use crate::check::{Checks, Violation, current};
use crate::controller::read_fresh;
use crate::sabotage::Sabotage;

/// Why a decision did not become durable.
pub(super) enum Failed {
    /// Nothing has happened; try again later.
    Later,
    /// The process has ended.
    Down,
}

impl World {
    pub(super) fn start_controller(&mut self) {
        if self.controller.running.is_some() {
            return;
        }
        let faults = &self.scenario.faults;
        if !self.healed && faults.clock > 0 && self.dice.chance(faults.controller_clock) {
            // Its clock is steady while it runs; a start takes over whatever the machine says by then.
            self.controller.clock_ahead_ms = self.dice.between(0, 2 * faults.clock_step_ms);
            let ahead_ms = self.controller.clock_ahead_ms;
            self.note(format_args!("the controller's clock is {ahead_ms} ms ahead"));
        }
        let now = self.controller_now();
        if let Err(error) = self.controller.start(now) {
            let off = self.controller.disk.is_off();
            self.note(format_args!("the controller does not start: {error}"));
            let faults = self.controller.disk.faults();
            let has_excuse = off
                || faults.capacity_bytes.is_some()
                || faults.read_error_ppm > 0
                || faults.write_error_ppm > 0
                || faults.sync_error_ppm > 0;
            if !has_excuse {
                let what = format!("the controller cannot read its own store: {error}: {:?}", error);
                return self.must(Err(Violation::new("P8", what)));
            }
            self.controller.running = None;
            if off {
                self.controller_disk_went_off();
            } else {
                self.after(3_000, Event::StartController);
            }
            return;
        }
        self.note(format_args!("the controller starts"));
        self.checks.controller_started(now);
        let durable = match read_fresh(&self.controller.disk.fork()) {
            Ok(durable) => durable,
            Err(error) => {
                return self.must(Err(Violation::new("P8", format!("the store cannot be read: {error}"))));
            }
        };
        let remembers = self.checks.remembers(&durable);
        self.checks.started_from(&durable);
        self.must(remembers);
        let mut watched = Ok(());
        if let Some(controller) = &self.controller.running {
            // A commit whose answer died with the process before may have opened a gate, or left a host out.
            self.checks.alone.found(&controller.state);
            self.checks.labels.found(&controller.state);
            self.checks.drained.found(&controller.state);
            self.checks.gates.found(&controller.state, self.now);
            for rollout in controller.state.rollouts() {
                let members = controller.state.members(&rollout.id);
                watched = watched.and(self.checks.watch_found(rollout, members, self.now));
                self.checks.groups.found(rollout);
                self.checks.canary_found(rollout);
                if let Some(batch) = Checks::begun(rollout) {
                    self.checks.open_batch.insert(rollout.id.clone(), batch);
                }
            }
        }
        self.must(watched);
        for host in 0..self.hosts.len() {
            if let Some(connection) = self.hosts[host].connection {
                let wait = self.dice.between(0, 4_000);
                self.after(wait, Event::HostNotices { host, connection });
            }
        }
        self.plan_within(0);
    }

    /// Lets the planner run soon.
    pub(super) fn plan_within(&mut self, delay_ms: u64) {
        let at = self.now + delay_ms;
        let process = self.controller.process;
        let Some(controller) = &mut self.controller.running else { return };
        if controller.wake_at.is_none_or(|earlier| at < earlier) {
            controller.wake_at = Some(at);
            self.after(delay_ms, Event::Wake { process });
        }
    }

    pub(super) fn wake(&mut self, process: u64) {
        if self.controller.process != process {
            return;
        }
        let now = self.controller_now();
        let world_now = self.now;
        let Some(controller) = &mut self.controller.running else { return };
        if controller.wake_at != Some(world_now) {
            return;
        }
        controller.wake_at = None;
        let mut planned = plan(&controller.state, now);
        controller.report = std::mem::take(&mut planned.report);
        if self.scenario.sabotage == Some(Sabotage::WaitsUntold) {
            controller.report.places.clear();
        }
        let is_empty = planned.output.is_empty();
        let told = if is_empty {
            self.checks.says_what_it_waits_for(&controller.state, &controller.report)
        } else {
            Ok(())
        };
        self.must(told);
        if let Some(at) = planned.wake_at {
            self.plan_within(u64::try_from(at.since(now).as_millis()).unwrap_or(1_000).max(20));
        }
        if is_empty {
            self.ask_gates();
            return;
        }
        match self.carry_out(planned.output) {
            // What was just done may make room for more.
            Ok(()) => self.plan_within(20),
            Err(Failed::Later) => self.plan_within(1_000),
            Err(Failed::Down) => {}
        }
    }

    /// Makes a decision durable, and does what it asks for.
    pub(super) fn carry_out(&mut self, mut output: Output) -> Result<(), Failed> {
        self.sabotage_output(&mut output);
        if self.scenario.sabotage == Some(Sabotage::SendBeforeCommit) && self.now > 60_000 {
            let faults = crate::disk::Faults { power_off_after: Some(0), ..Default::default() };
            let sends = output.effects.iter().any(|effect| matches!(effect, Effect::Send { .. }));
            if sends && self.planted.insert(0) {
                self.controller.power_goes = true;
                self.controller.disk.set_faults(faults);
                for effect in &output.effects {
                    if let Effect::Send { assignment, .. } = effect {
                        self.send(assignment);
                    }
                }
            }
        }
        let Some(controller) = &mut self.controller.running else { return Err(Failed::Down) };
        for change in &output.changes {
            if let Change::Put { record: Record::Rollout(rollout) } = change {
                self.checks.about_to_change(rollout, controller.state.members(&rollout.id));
            }
        }
        match controller.commit(&output) {
            Ok(()) => {}
            Err(error) if self.controller.disk.is_off() => {
                self.note(format_args!("the controller's disk goes off: {error}"));
                self.controller_disk_went_off();
                return Err(Failed::Down);
            }
            Err(StoreError::Full) => {
                self.note(format_args!("the controller's disk is full"));
                return Err(Failed::Later);
            }
            Err(StoreError::Stopped(reason)) => {
                self.note(format_args!("the controller's store has stopped: {reason}"));
                self.controller_ends(false);
                return Err(Failed::Down);
            }
            Err(error @ (StoreError::Conflict { .. } | StoreError::Invalid(_))) => {
                let what = format!("a decision can never become durable: {error}");
                self.must(Err(Violation::new("liveness", what)));
                return Err(Failed::Later);
            }
        }
        self.look_at_analyses(&output.log);
        for change in &output.changes {
            if let Change::Put { record: Record::Rollout(rollout) } = change {
                let undoes_little = self.checks.undoes_little(rollout);
                self.must(undoes_little);
                self.rollout_changed(rollout);
            }
        }
        for effect in output.effects {
            match effect {
                Effect::Send { assignment, .. } => {
                    self.look_at_grant(&assignment);
                    self.send(&assignment);
                }
                Effect::Ended { .. } => {}
            }
        }
        if self.controller.disk.is_off() {
            self.controller_disk_went_off();
            return Err(Failed::Down);
        }
        Ok(())
    }

    fn look_at_grant(&mut self, assignment: &landfall_common::assignment::Assignment) {
        self.note(format_args!(
            "g{} for {}: {} {:?}",
            assignment.generation, assignment.host, assignment.release.name, assignment.order
        ));
        let now = self.controller_now();
        if let Some(controller) = &self.controller.running
            && let Some(host) = controller.state.host(&assignment.host)
        {
            let records = controller.state.hosts(&host.record.place).map(|host| &host.record);
            let rollout = controller.state.rollout(&assignment.rollout);
            let led = self.checks.is_led(assignment, rollout, records, now);
            self.must(led);
        }
        if !assignment.order.takes_out() {
            return;
        }
        let Some(controller) = &self.controller.running else { return };
        let rollout = controller.state.rollout(&assignment.rollout);
        let strategy = match rollout.filter(|rollout| !rollout.ended()) {
            Some(rollout) => rollout.strategy.clone(),
            None => self.checks.releases[&assignment.release.digest].plan.strategy.clone(),
        };
        let host = controller.state.host(&assignment.host);
        let place = host.map_or_else(|| self.place(), |host| host.record.place.clone());
        let hosts = controller.state.hosts(&place).map(|host| &host.record.id);
        let granted = self.checks.granted(assignment, hosts, strategy.max_unavailable, now);
        let budget = self.checks.releases[&assignment.release.digest].plan.strategy.failure_budget;
        let hosts = controller.state.hosts(&place).map(|host| &host.record.id);
        let may_fail = self.checks.may_still_fail(assignment, hosts, budget, rollout);
        let members = controller.state.members(&assignment.rollout);
        let in_turn = self.checks.in_turn(assignment, rollout, members);
        let records = controller.state.hosts(&place).map(|host| &host.record);
        let in_step = self.checks.in_step(assignment, rollout, records);
        let first = self.checks.goes_first(assignment, rollout);
        let host = self.hosts.iter().find(|host| host.id == assignment.host);
        let active = host.and_then(|host| current::active(&host.app_disk).ok().flatten());
        let ready = self.checks.schema_is_ready(assignment, active.as_ref(), self.now);
        let touched = self.checks.may_be_touched(assignment);
        let is_canary = (controller.state.members(&assignment.rollout))
            .any(|member| member.host == assignment.host && member.batch == 1);
        let host = host.map(|host| host.index);
        let hosts = controller.state.hosts(&place).map(|host| &host.record.id);
        let restarted = self.checks.may_restart(assignment, hosts, rollout);
        for result in [granted, may_fail, in_turn, in_step, first, ready, touched, restarted] {
            self.must(result);
        }
        if let Some(host) = host {
            self.strike_at_a_grant(host, is_canary);
        }
    }

    fn rollout_changed(&mut self, rollout: &Rollout) {
        self.note(format_args!(
            "rollout {} of {} is {}",
            rollout.id,
            rollout.release.name,
            describe(rollout)
        ));
        self.checks.rollout_known(rollout);
        self.checks.account.ended(rollout);
        let contracted = self.checks.contract_has_run(rollout);
        self.must(contracted);
        let now = self.controller_now();
        let Some(controller) = &self.controller.running else { return };
        let members: Vec<_> = controller.state.members(&rollout.id).cloned().collect();
        let compared = self.checks.canary_moves(rollout, members.iter());
        let told = self.checks.leaves_nobody_out_in_silence(rollout, members.iter().map(|m| &m.host));
        let opened = self.checks.gates_were_open(rollout, members.iter(), self.now);
        let moves = self.checks.rollout_moves(rollout, members.iter(), now);
        let watched = self.checks.is_watched(rollout, members.iter(), self.now);
        self.checks.groups.found(rollout);
        let hosts = &self.hosts;
        let runs = |id: &landfall_common::HostId| {
            let host = hosts.iter().find(|host| host.id == *id)?;
            Some((host.index, current::active(&host.app_disk).unwrap_or_default()))
        };
        let ended = self.checks.rollout_ended(rollout, members.iter(), runs, now);
        let place = controller.state.place(&rollout.place);
        let drilled = self.checks.drill_moves(rollout, place, members.iter(), runs, now);
        let restarted = self.checks.restart_moves(rollout, place, members.iter());
        self.must(restarted);
        self.strike_as_it_moves(rollout);
        self.must(told);
        self.must(opened);
        self.must(moves);
        self.must(drilled);
        self.must(watched);
        self.must(compared);
        self.must(ended);
        match &rollout.status {
            Status::Ended { end: End::Succeeded } if rollout.is_restart() => self.statistics.restarted += 1,
            Status::Ended { end: End::Succeeded } => {
                self.statistics.succeeded += 1;
                self.statistics.arrived += u64::from(rollout.release.name.as_str() != "v1");
            }
            Status::Ended { end: End::RolledBack { .. } } => self.statistics.rolled_back += 1,
            Status::Ended { end: End::Rehearsed { .. } } => self.statistics.rehearsed += 1,
            Status::Ended { .. } => self.statistics.otherwise += 1,
            Status::Paused { .. } => self.statistics.paused += 1,
            _ => {}
        }
    }

    /// The disk went off in the middle of something.
    pub(super) fn controller_disk_went_off(&mut self) {
        let power = self.controller.power_goes;
        self.controller_ends(power);
    }

    pub(super) fn controller_ends(&mut self, power: bool) {
        self.note(format_args!("the controller {}", if power { "loses its power" } else { "is gone" }));
        self.statistics.controller_crashes += 1;
        self.controller.stop();
        if power {
            if self.scenario.sabotage == Some(Sabotage::ForgetfulDisk) {
                self.controller.disk = crate::disk::SimDisk::new(0);
            }
            self.controller.disk.crash(self.dice.raw());
        } else {
            self.controller.disk.kill();
        }
        self.controller.power_goes = false;
        let down = self.dice.between(1_000, if power { 60_000 } else { 10_000 });
        self.after(down, Event::StartController);
    }

    pub(super) fn controller_falls(&mut self, process: u64) {
        if self.controller.process == process && self.controller.running.is_some() {
            let power = self.controller.power_goes;
            self.controller_ends(power);
        }
    }
}

fn describe(rollout: &Rollout) -> String {
    match &rollout.status {
        Status::Active { stage } => format!("{stage:?}"),
        Status::Paused { reason, .. } => format!("paused: {reason}"),
        Status::Ended { end } => format!("over: {end:?}"),
    }
}
