//! What goes wrong, second by second, and the end of it.

use rand::Rng as _;

use super::{Event, World};
use crate::disk::Faults;
use crate::host::Doom;

impl World {
    /// Every second of the safety phase each fault gets its chance.
    pub(super) fn second(&mut self) {
        if self.healed {
            return;
        }
        self.after(1_000, Event::Second);
        self.strike_now_and_then();
        let faults = self.scenario.faults.clone();
        for host in 0..self.hosts.len() {
            if self.dice.chance(faults.partition) {
                let for_ms = self.dice.between(1_000, 150_000);
                self.hosts[host].cut_until = self.now + for_ms;
                let id = self.hosts[host].id.clone();
                self.note(format_args!("{id} is cut off for {for_ms} ms"));
                self.starve(host, for_ms);
            }
            if self.dice.chance(faults.sick) {
                self.hosts[host].sick_until = self.now + self.dice.between(2_000, 90_000);
            }
            if self.dice.chance(faults.clock) {
                let step = i64::try_from(self.dice.between(0, 2 * faults.clock_step_ms)).unwrap_or(0);
                let step = step - i64::try_from(faults.clock_step_ms).unwrap_or(0);
                self.hosts[host].clock_off_ms = step;
                let id = self.hosts[host].id.clone();
                self.note(format_args!("the clock of {id} steps to {step} ms"));
            }
            for (rate, doom) in [(faults.host_power, Doom::Power), (faults.agent_kill, Doom::Kill)] {
                if self.dice.chance(rate) && self.hosts[host].agent.is_some() {
                    self.doom(host, doom);
                }
            }
            if self.dice.chance(faults.host_full) {
                self.disk_is_full(Some(host));
            }
            self.io_errors(host);
        }
        if self.dice.chance(faults.outage) {
            let for_ms = self.dice.between(2_000, 90_000);
            self.outage_until = self.now + for_ms;
            self.note(format_args!("the controller is cut off for {for_ms} ms"));
            (0..self.hosts.len()).for_each(|host| self.starve(host, for_ms));
        }
        for (rate, power) in [(faults.controller_power, true), (faults.controller_kill, false)] {
            if self.dice.chance(rate) && self.controller.running.is_some() {
                let mut set = self.controller.disk.faults();
                set.power_off_after = Some(self.dice.between(0, 12));
                self.controller.disk.set_faults(set);
                self.controller.power_goes = power;
                let process = self.controller.process;
                self.after(15_000, Event::ControllerFalls { process });
            }
        }
        if self.dice.chance(faults.controller_full) {
            self.disk_is_full(None);
        }
    }

    /// The host will go down with one of its next disk operations, or if there are none, then soon.
    pub(super) fn doom(&mut self, host: usize, doom: Doom) {
        let after = self.dice.between(0, 40);
        let on_state = self.dice.chance(400_000);
        let agent = &mut self.hosts[host];
        let disk = if on_state { &agent.state_disk } else { &agent.app_disk };
        let mut set = disk.faults();
        set.power_off_after = Some(after);
        disk.set_faults(set);
        agent.doom = doom;
        let process = agent.process;
        let latest = self.dice.between(1_000, 20_000);
        self.after(latest, Event::DoomFalls { host, process });
    }

    fn io_errors(&mut self, host: usize) {
        let ppm = self.scenario.faults.io;
        if ppm == 0 {
            return;
        }
        let agent = &self.hosts[host];
        for disk in [&agent.state_disk, &agent.app_disk] {
            let mut set = disk.faults();
            set.write_error_ppm = ppm;
            set.sync_error_ppm = ppm;
            set.read_error_ppm = ppm / 4;
            disk.set_faults(set);
        }
        let mut set = self.controller.disk.faults();
        set.write_error_ppm = ppm / 4;
        set.sync_error_ppm = ppm / 4;
        self.controller.disk.set_faults(set);
    }

    fn disk_is_full(&mut self, host: Option<usize>) {
        let until = self.now + self.dice.between(2_000, 60_000);
        let room = self.dice.between(0, 4_000);
        let disks = match host {
            Some(host) => vec![self.hosts[host].state_disk.clone(), self.hosts[host].app_disk.clone()],
            None => vec![self.controller.disk.clone()],
        };
        for disk in disks {
            let mut set = disk.faults();
            set.capacity_bytes = Some(disk.used_bytes() + room);
            disk.set_faults(set);
        }
        self.note(format_args!("a disk is full: {host:?}"));
        self.after(until - self.now, Event::Full { host, until });
    }

    /// There is room again.
    pub(super) fn full(&mut self, host: Option<usize>, _until: u64) {
        let disks = match host {
            Some(host) => vec![self.hosts[host].state_disk.clone(), self.hosts[host].app_disk.clone()],
            None => vec![self.controller.disk.clone()],
        };
        for disk in disks {
            let mut set = disk.faults();
            set.capacity_bytes = None;
            disk.set_faults(set);
        }
    }

    /// The world heals: nothing goes wrong any more but what is wrong with a release itself.
    pub(super) fn heal(&mut self) {
        self.healed = true;
        self.before_healing = self.statistics;
        self.outage_until = 0;
        self.scenario.faults.stale = false;
        self.controller.clock_ahead_ms = 0;
        let now = self.controller_now();
        if let Some(running) = &mut self.controller.running {
            // As the clock of the real one tells of each leap.
            running.state.leapt(now);
        }
        self.checks.controller_clock_set(now);
        self.note(format_args!("the world heals"));
        for host in &mut self.hosts {
            host.cut_until = 0;
            host.sick_until = 0;
            host.clock_off_ms = 0;
            host.doom = Doom::None;
            // A disk that is off is one whose host is about to fall: that still happens.
            for disk in [&host.state_disk, &host.app_disk] {
                disk.set_faults(Faults::default());
            }
        }
        self.controller.disk.set_faults(Faults::default());
    }

    /// The planted defect of P2: something takes a file out of the release that is active.
    pub(super) fn remove_a_file(&mut self, host: usize) {
        use landfall_common::disk::Disk as _;
        let disk = &self.hosts[host].app_disk;
        let file = std::path::Path::new("current").join("run");
        if self.now > 60_000
            && disk.kind(&file).is_ok_and(|kind| kind.is_some())
            && self.dice.raw().random_bool(0.2)
        {
            let _ = disk.remove_file(&file);
        }
    }
}
