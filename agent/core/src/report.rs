//! How the machine shows itself to the controller.

use landfall_common::report::{Active, Health, HostReport, Outcome, OutcomeKind, Phase, Traffic};

use crate::judge::Standing;
use crate::placement::{LedAway, Target, TrafficOutline};
use crate::record::Machine;
use crate::state::State;
use crate::{Now, step};

impl Machine {
    /// The next report. Each has a higher sequence number than the one before.
    pub fn report(&mut self, now: Now) -> HostReport {
        self.live.sequence += 1;
        let record = &self.record;
        let active = record.active().map(|installed| Active {
            release: installed.release.clone(),
            proven: record.is_proven(&installed.release.name) && !record.in_doubt,
        });
        let refused = self.live.refused.as_ref().map(|(generation, failure)| Outcome {
            generation: *generation,
            result: OutcomeKind::Refused { failure: failure.clone() },
        });
        HostReport {
            incarnation: record.incarnation,
            sequence: self.live.sequence,
            at: now.wall,
            generation: record.accepted.map(|accepted| accepted.generation).unwrap_or_default(),
            phase: self.phase(now),
            active,
            outcome: refused.or_else(|| record.outcome.clone()),
            health: self.health(now),
            restarts: true,
            traffic: self.traffic(),
        }
    }

    /// Whether requests are led to this host.
    fn traffic(&self) -> Traffic {
        let record = &self.record;
        let is_gated =
            record.active().is_some_and(|active| active.outline.traffic == Some(TrafficOutline::Gate));
        // What was asked before may still come about.
        let is_certain =
            record.placement.trying.is_none() && !self.live.aiming && self.live.misaimed.is_none();
        let is_away =
            is_certain && record.placement.aim.as_ref().is_some_and(|aim| aim.to == Target::Nowhere);
        match record.led_away {
            _ if !is_gated => Traffic::Ungated,
            None => Traffic::Led,
            Some(LedAway::Returning) => Traffic::Returning,
            Some(LedAway::Drained) if is_away => Traffic::Drained,
            Some(LedAway::Drained) => Traffic::Draining,
        }
    }

    /// Whether the active release is healthy.
    #[must_use]
    pub fn health(&self, now: Now) -> Health {
        if let Some(reason) = &self.live.misnamed {
            return Health::Unhealthy { failing: [(step("current"), reason.clone())].into() };
        }
        if let Some(reason) = &self.live.misaimed {
            return Health::Unhealthy { failing: [(step("traffic"), reason.clone())].into() };
        }
        if let Some(failure) = &self.record.mixed {
            let reason =
                format!("{}; until a release is activated, services may run another one", failure.reason);
            return Health::Unhealthy { failing: [(failure.step.clone(), reason)].into() };
        }
        let health = match (&self.live.watch, &self.record.active) {
            (Some(watch), Some(active)) if watch.release == *active => watch.judge.standing(now.mono).into(),
            _ => Health::Unknown,
        };
        // Why it does not run tells more than that it does not answer.
        match (health, self.live.idle.as_ref().or(self.live.unwatched.as_ref())) {
            (healthy @ Health::Healthy { .. }, _) => healthy,
            (_, Some(again)) => {
                Health::Unhealthy { failing: [(step("services"), again.reason.clone())].into() }
            }
            (health, None) => health,
        }
    }

    fn phase(&self, now: Now) -> Phase {
        match &self.record.state {
            State::Idle => Phase::Idle,
            State::Fetching { .. } => {
                let (done_bytes, total_bytes) = self.live.progress;
                Phase::Fetching { done_bytes, total_bytes }
            }
            State::Unpacking { .. } => Phase::Preparing { step: step("unpack") },
            State::Preparing { installed, step: at, .. } => {
                let name = installed.outline.prepare.get(*at).cloned();
                Phase::Preparing { step: name.unwrap_or_else(|| step("sync")) }
            }
            State::Migrating { .. } => Phase::Migrating,
            State::Activating { plan, at, .. } => {
                Phase::Activating { step: plan.get(*at).map_or_else(|| step("activate"), |a| a.name()) }
            }
            State::Proving { activation } => {
                let standing = self
                    .live
                    .watch
                    .as_ref()
                    .filter(|watch| watch.release == activation.to)
                    .map(|watch| watch.judge.standing(now.mono));
                let healthy_for = match standing {
                    Some(Standing::Healthy(period)) => period,
                    _ => landfall_common::Duration::ZERO,
                };
                Phase::Proving { healthy_for }
            }
            State::Smoking { activation, at } => {
                let installed = self.record.installed.get(&activation.to);
                let name = installed.and_then(|installed| installed.outline.smoke.get(*at)).cloned();
                Phase::Activating { step: name.unwrap_or_else(|| step("smoke")) }
            }
            State::Undoing { plan, at, .. } => {
                Phase::Undoing { step: plan.get(*at).map_or_else(|| step("undo"), |a| a.name()) }
            }
            State::Confirming { .. } => Phase::Undoing { step: step("confirm") },
        }
    }
}
