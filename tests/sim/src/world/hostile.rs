//! Hostile schedules strike.

use landfall_controller_core::command::Action;
use landfall_controller_core::member::{Member, MemberState};
use landfall_controller_core::rollout::{Rollout, Stage, StatusWord};

use super::{Event, World};
use crate::host::{Doom, Note};
use crate::hostile::{BEFORE_THE_CHANGE, Hostile};

impl World {
    fn hostile(&self, hostile: Hostile) -> bool {
        !self.healed && self.scenario.hostile == Some(hostile)
    }

    fn strikes(&mut self) {
        self.statistics.struck += 1;
        let name = self.scenario.hostile.map_or("", Hostile::name);
        self.note(format_args!("{name} strikes"));
    }

    /// Before anything else happens.
    pub(super) fn strike_from_the_start(&mut self) {
        if !self.hostile(Hostile::ThirdUnreachable) {
            return;
        }
        for host in 0..self.hosts.len() {
            if host % 10 % 3 == 1 {
                self.hosts[host].cut_until = self.scenario.safety_ms;
                self.strikes();
            }
        }
    }

    /// A rollout's record has changed.
    pub(super) fn strike_as_it_moves(&mut self, rollout: &Rollout) {
        let batch = match rollout.status.stage() {
            Some(Stage::Running { batch }) => *batch,
            _ => 0,
        };
        if self.hostile(Hostile::RestartBetweenBatches) && batch > 1 {
            self.strikes();
            self.controller.power_goes = self.dice.chance(500_000);
            let (process, delay) = (self.controller.process, self.dice.between(0, 100));
            self.after(delay, Event::ControllerFalls { process });
        }
        if self.hostile(Hostile::ClockStepsAnHour) {
            self.clock_steps = true;
        }
    }

    /// Of one that has just ended: nobody is told of it.
    pub(super) fn strike_after_a_migration(&mut self, host: usize, fence: u64) -> bool {
        if !self.hostile(Hostile::MigrationHostDies) || !self.struck_hosts.insert((host, fence)) {
            return false;
        }
        self.strikes();
        // What its supervisor noted may be lost as well.
        if self.dice.chance(500_000) {
            self.hosts[host].notes.insert(fence, Note::Lost);
        }
        self.hosts[host].doom = Doom::Power;
        if self.hosts[host].agent.is_some() {
            self.host_disk_went_off(host);
        }
        true
    }

    /// A host was let go.
    pub(super) fn strike_at_a_grant(&mut self, host: usize, is_canary: bool) {
        if !self.hostile(Hostile::CanaryNeverStarts) || !is_canary || !self.struck_hosts.insert((host, 0)) {
            return;
        }
        self.strikes();
        // In the others it crashes as it starts.
        if !self.scenario.seed.is_multiple_of(2) {
            self.hosts[host].cut_until = self.scenario.safety_ms;
            self.starve(host, self.scenario.safety_ms);
        }
    }

    /// Whether a probe of this host fails, the next of which comes within so long.
    pub(super) fn strikes_a_probe(&mut self, host: usize, next_ms: u64, expected: &str) -> bool {
        if !self.hostile(Hostile::FlapsBelowMinHealthy) || host != 0 || expected == "v1" {
            return false;
        }
        // It fails as late as it can.
        let last = self.flapped_at.unwrap_or(self.now);
        let fails = self.now + next_ms > last + 9_900;
        if fails || self.flapped_at.is_none() {
            self.flapped_at = Some(self.now);
        }
        if fails {
            self.strikes();
        }
        fails
    }

    /// Every second.
    pub(super) fn strike_now_and_then(&mut self) {
        if std::mem::take(&mut self.clock_steps) && self.hostile(Hostile::ClockStepsAnHour) {
            self.strikes();
            let hour = 3_600_000;
            self.controller.clock_ahead_ms = hour - self.controller.clock_ahead_ms.min(hour);
            let now = self.controller_now();
            if let Some(running) = &mut self.controller.running {
                running.state.leapt(now);
                self.plan_within(20);
            }
            self.checks.controller_clock_set(now);
        }
        if self.hostile(Hostile::AwayForTwoReleases) {
            self.stay_away();
        }
        let changes = self.hostile(Hostile::SummerTimeEnds) || self.hostile(Hostile::SummerTimeBegins);
        if changes && self.now / 1_000 == BEFORE_THE_CHANGE.as_secs() {
            self.strikes();
        }
        let Some(rollout) = self.holder() else { return };
        let Some(word) = self.status_of(&rollout) else { return };
        if self.hostile(Hostile::RollbackWhileRollingBack)
            && word == StatusWord::RollingBack
            && self.dice.chance(200_000)
        {
            self.strikes();
            let reason = "faster".to_owned();
            let action = match self.dice.between(0, 2) {
                0 => Action::RollBack { place: self.place(), to: None, reason },
                _ => Action::Abort { rollout: rollout.clone(), go_back: true, reason },
            };
            self.ask_as("ben", action);
        }
        if self.hostile(Hostile::ControllerGone) {
            self.controller_goes(&rollout);
        }
        if self.hostile(Hostile::HalfPartitionedAtTheGate) && self.at_the_gate(&rollout) {
            self.strikes();
            let for_ms = self.dice.between(30_000, 200_000);
            for host in (0..self.hosts.len()).filter(|host| host % 2 == 1) {
                self.hosts[host].cut_until = self.now + for_ms;
                self.starve(host, for_ms);
            }
        }
    }

    /// From the first release in force that two others follow until these are.
    fn stay_away(&mut self) {
        let away: Vec<usize> = (0..self.hosts.len()).filter(|host| host % 3 == 2).collect();
        let Some(number) = self.in_force() else { return };
        let since = self.struck_hosts.first().and_then(|(_, since)| usize::try_from(*since).ok());
        match since {
            None if number + 2 <= self.releases.len() => {
                for host in away {
                    self.struck_hosts.insert((host, number as u64));
                    self.hosts[host].cut_until = self.scenario.safety_ms;
                    self.starve(host, self.scenario.safety_ms);
                    self.strikes();
                }
            }
            Some(since) if number >= since + 2 => {
                let now = self.now;
                away.into_iter().for_each(|host| self.hosts[host].cut_until = now);
            }
            _ => {}
        }
    }

    /// Once hosts were let go the controller cannot be reached by anybody, twice; meanwhile each host may lose its power.
    fn controller_goes(&mut self, rollout: &landfall_common::RolloutId) {
        if self.outage_until > self.now {
            for host in 0..self.hosts.len() {
                if self.hosts[host].agent.is_some() && self.dice.chance(300) {
                    self.doom(host, Doom::Power);
                }
            }
            return;
        }
        let Some(controller) = &self.controller.running else { return };
        let is_granted = |member: &Member| matches!(member.state, MemberState::Granted { .. });
        if !controller.state.members(rollout).any(is_granted)
            || self.statistics.struck >= 2
            || !self.dice.chance(100_000)
        {
            return;
        }
        self.strikes();
        let for_ms = self.dice.between(600_000, 900_000);
        self.outage_until = self.now + for_ms;
        (0..self.hosts.len()).for_each(|host| self.starve(host, for_ms));
    }

    fn status_of(&self, rollout: &landfall_common::RolloutId) -> Option<StatusWord> {
        let controller = self.controller.running.as_ref()?;
        Some(controller.state.rollout(rollout)?.status.word())
    }

    /// Whether a batch is there, once for each of them.
    fn at_the_gate(&mut self, rollout: &landfall_common::RolloutId) -> bool {
        let Some(controller) = &self.controller.running else { return false };
        let Some(found) = controller.state.rollout(rollout) else { return false };
        let batch = match found.status.stage() {
            Some(Stage::Running { batch }) => *batch,
            Some(Stage::Canary { .. }) => 1,
            _ => return false,
        };
        let mut open = controller.state.members(rollout).filter(|member| member.batch <= batch);
        open.all(|member| matches!(member.state, MemberState::Committed { .. }))
            && batch < found.batches
            && self.gates.insert((rollout.clone(), batch))
    }
}
