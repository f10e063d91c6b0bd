//! What the checks of a host measure, told with its heartbeats.

use landfall_common::strategy::Missing;
use landfall_common::{Duration, ReleaseName, StepName};
use landfall_controller_core::log::{AnalysisVerdict, LogEvent, NewEntry};
use landfall_controller_core::observation::{CheckFigures, Observation};

use super::{Event, World};
use crate::sabotage::Sabotage;

impl World {
    /// A check of the application was answered, by whatever runs there.
    pub(super) fn measure(
        &mut self,
        host: usize,
        check: &StepName,
        runs: Option<&ReleaseName>,
        failed: bool,
    ) {
        let slow = runs.is_some_and(|runs| {
            self.releases.iter().any(|release| release.reference.name == *runs && release.plan.slow)
        });
        // What is the same in all hosts of a moment, and what is each host's own; not by the dice, so that worlds
        // without an analysis are what they were.
        let moment = self.now / 10_000;
        let own = (moment * 7 + host as u64 * 13) % 11;
        let took_ms = (20 + moment % 17 + own) * if slow { 20 } else { 1 };
        let measured = self.hosts[host].measured.entry(check.clone()).or_default();
        *measured = (measured.0 + 1, measured.1 + u32::from(failed), took_ms);
    }

    /// A host tells what its checks measured. Only worlds in which that is compared have such messages.
    pub(super) fn send_figures(&mut self, host: usize) {
        let measured = std::mem::take(&mut self.hosts[host].measured);
        if self.releases.iter().all(|release| release.plan.strategy.analysis.is_none()) {
            return;
        }
        let Some(connection) = self.hosts[host].connection else { return };
        if self.is_cut(host) {
            return;
        }
        let figures = |(check, (count, failed, took_ms))| CheckFigures {
            check,
            count,
            failed,
            p50: Duration::from_millis(took_ms),
        };
        let checks: Vec<CheckFigures> = measured.into_iter().map(figures).collect();
        for delay in self.delays() {
            self.after(delay, Event::Figures { host, connection, checks: checks.clone() });
        }
    }

    pub(super) fn figures_arrive(&mut self, host: usize, connection: u64, mut checks: Vec<CheckFigures>) {
        if self.is_cut(host) {
            return;
        }
        if self.scenario.sabotage == Some(Sabotage::FiguresFlattered) {
            checks.iter_mut().for_each(|check| check.p50 = Duration::from_millis(20));
        }
        let id = self.hosts[host].id.clone();
        let now = self.controller_now();
        let Some(controller) = &mut self.controller.running else { return };
        self.checks.figures_heard(&id, connection, checks.iter().map(|check| check.count).sum());
        // The planner runs every second while a canary is held.
        let _ = controller.state.observe(Observation::Measured { host: id, connection, checks }, now);
    }

    /// What the log says of comparisons, beside what the releases really are.
    pub(super) fn look_at_analyses(&mut self, log: &[NewEntry]) {
        for entry in log {
            let LogEvent::CanaryAnalysed { rollout, verdict, findings, .. } = &entry.event else { continue };
            self.statistics.analysed += 1;
            self.note(format_args!("the canary of {rollout}: {verdict:?}: {}", findings.join("; ")));
            let state = self.controller.running.as_ref().map(|controller| &controller.state);
            let Some(rollout) = state.and_then(|state| state.rollout(rollout)) else { continue };
            // Neither slow nor bad in any other way, and not of those for whom no figures are a failure.
            let good = self.releases.iter().any(|release| {
                let pauses = release.plan.strategy.analysis.as_ref().map(|a| a.latency.missing);
                let is_it = release.reference == rollout.release && pauses == Some(Missing::Pause);
                is_it && !release.plan.slow && release.plan.bad_ppm == 0
            });
            if *verdict == AnalysisVerdict::Fail && good {
                self.statistics.taken_back_wrongly += 1;
            }
        }
    }
}
