//! What a host measures of its checks and its services, told with its heartbeats.

use landfall_common::strategy::{Missing, Strategy};
use landfall_common::{Duration, ReleaseName, ServiceName, StepName};
use landfall_controller_core::log::{AnalysisVerdict, LogEvent, NewEntry};
use landfall_controller_core::observation::{
    CheckFigures, Figures, MetricFigures, Observation, ServiceFigures, Shown,
};

use super::agents::HEARTBEAT_MS;
use super::{Event, World};
use crate::application::{Application, REQUESTS, Shows};
use crate::check::Violation;
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
        self.hosts[host].answered = runs.cloned();
    }

    /// What the services of a host have used since its last heartbeat, as whatever runs there uses it.
    fn used(&self, host: usize) -> Vec<ServiceFigures> {
        let runs = self.hosts[host].answered.as_ref();
        let running =
            |name: &ReleaseName| self.releases.iter().find(|release| release.reference.name == *name);
        let Some(plan) = runs.and_then(running).map(|release| &release.plan) else { return Vec::new() };
        let noise = (self.now / 10_000 * 5 + host as u64 * 3) % 13;
        let used = |service: &str| ServiceFigures {
            service: ServiceName::new(service).expect("a valid name"),
            period: Duration::from_millis(HEARTBEAT_MS),
            cpu: Some(Duration::from_millis(1_000 + noise * 40)),
            memory_bytes: Some(((100 + noise) * if plan.hungry { 4 } else { 1 }) << 20),
            restarts: u32::from(plan.restless),
        };
        vec![used("web")]
    }

    /// What the application of a host shows of itself, as whatever runs there shows it.
    fn shown(&mut self, host: usize) -> Vec<MetricFigures> {
        let Some(runs) = self.hosts[host].answered.clone() else { return Vec::new() };
        let running = self.releases.iter().find(|release| release.reference.name == runs);
        let Some((shows, restless)) = running.and_then(|r| Some((r.plan.shows?, r.plan.restless))) else {
            return Vec::new();
        };
        let (now, noise) = (self.now, (self.now / 10_000 * 11 + host as u64 * 5) % 37);
        let application = &mut self.hosts[host].application;
        let known = application.take().filter(|application| *application.release() == runs);
        let application = application.insert(known.unwrap_or_else(|| Application::new(runs, now)));
        if restless {
            application.restart(now);
        }
        application.read(shows, noise, now)
    }

    /// A host tells what it has measured. Only worlds in which that is compared have such messages.
    pub(super) fn send_figures(&mut self, host: usize) {
        let measured = std::mem::take(&mut self.hosts[host].measured);
        let services = self.used(host);
        let metrics = self.shown(host);
        let is_looked_at = |strategy: &Strategy| strategy.analysis.is_some() || strategy.limits.is_some();
        if !self.releases.iter().any(|release| is_looked_at(&release.plan.strategy)) {
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
        let checks = measured.into_iter().map(figures).collect();
        let told = Figures { checks, services, metrics };
        for delay in self.delays() {
            self.after(delay, Event::Figures { host, connection, figures: told.clone() });
        }
    }

    pub(super) fn figures_arrive(&mut self, host: usize, connection: u64, mut figures: Figures) {
        if self.is_cut(host) {
            return;
        }
        if self.scenario.sabotage == Some(Sabotage::FiguresFlattered) {
            figures.checks.iter_mut().for_each(|check| check.p50 = Duration::from_millis(20));
            for service in &mut figures.services {
                (service.memory_bytes, service.restarts) = (Some(100 << 20), 0);
            }
            for metric in figures.metrics.iter_mut().filter(|metric| metric.figure.is_ok()) {
                metric.figure = Ok(Shown::Events { events: 0, of: REQUESTS });
            }
        }
        if self.scenario.sabotage == Some(Sabotage::MissingIsZero) {
            for metric in figures.metrics.iter_mut().filter(|metric| metric.figure.is_err()) {
                metric.figure = Ok(Shown::Events { events: 0, of: REQUESTS });
            }
        }
        let id = self.hosts[host].id.clone();
        let now = self.controller_now();
        let Some(controller) = &mut self.controller.running else { return };
        self.checks.figures_heard(&id, connection, figures.checks.iter().map(|check| check.count).sum());
        // The planner runs every second while a canary is held.
        let _ = controller.state.observe(Observation::Measured { host: id, connection, figures }, now);
    }

    /// What the log says of comparisons, beside what the releases really are.
    pub(super) fn look_at_analyses(&mut self, log: &[NewEntry]) {
        let mut wrongly = Ok(());
        for entry in log {
            let LogEvent::CanaryAnalysed { rollout, verdict, findings, in_watch, .. } = &entry.event else {
                continue;
            };
            self.statistics.analysed += 1;
            self.note(format_args!("the canary of {rollout}: {verdict:?}: {}", findings.join("; ")));
            let state = self.controller.running.as_ref().map(|controller| &controller.state);
            let Some(rollout) = state.and_then(|state| state.rollout(rollout)) else { continue };
            // As good as others in all that is measured, and not bad in any other way, and not of those for whom no figures are a failure.
            let good = self.releases.iter().any(|release| {
                let pauses = release.plan.strategy.analysis.as_ref().map(|a| a.latency.missing);
                let is_it = release.reference == rollout.release && pauses == Some(Missing::Pause);
                let is_failing = release.plan.shows == Some(Shows::Failing);
                let is_worse =
                    release.plan.slow || release.plan.restless || release.plan.hungry || is_failing;
                is_it && !is_worse && release.plan.bad_ppm == 0
            });
            if *in_watch {
                let slow = self.checks.releases.get(&rollout.release.digest).is_some_and(|r| r.plan.slow);
                if *verdict == AnalysisVerdict::Fail && !slow {
                    let what = format!("{} keeps within its limits, and is taken back", rollout.release.name);
                    wrongly = Err(Violation::new("P6", what));
                }
                continue;
            }
            if *verdict == AnalysisVerdict::Fail && good {
                self.statistics.taken_back_wrongly += 1;
            }
        }
        self.must(wrongly);
    }
}
