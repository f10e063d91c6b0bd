//! What runs beside the agents: fetches, steps, services, probes, migrations. Their ends are drawn from the
//! seed; what they really did is written down for the checkers.

use std::sync::Arc;

use landfall_agent::apply::clear_prepared;
use landfall_agent::apply::store::Store;
use landfall_agent::engine::Task;
use landfall_agent::engine::task::Endpoint;
use landfall_agent::error::AgentError;
use landfall_agent_core::outline::service_check;
use landfall_agent_core::state::Migrating;
use landfall_agent_core::{Action, Effect, Event as AgentEvent, Finish};
use landfall_common::assignment::{Direction, ReleaseRef};
use landfall_common::disk::Disk;
use landfall_common::manifest::Step;
use landfall_common::manifest::traffic::Slot;
use landfall_common::report::Failure;
use landfall_common::{Duration, ReleaseName, Sha256, StepName};

use super::{Doing, Event, World};
use crate::artifact::{Quality, step_name};
use crate::check::current;
use crate::check::migration::Run;
use crate::host::{Note, Probing, Watching};
use crate::sabotage::Sabotage;

/// How often the state of a service is looked at.
const SERVICE_PROBE_MS: u64 = 3_000;

fn failed(step: &str, reason: impl Into<String>) -> Finish {
    Finish::Failed { failure: Failure::new(step_name(step), reason) }
}

impl World {
    pub(super) fn begin_task(&mut self, host: usize, task: Task) {
        let (delay, doing) = match task {
            Task::Cancel => {
                self.hosts[host].tasks.clear();
                if let Some((_, release)) = self.hosts[host].ensuring.take() {
                    let result = Err("something else came before it".to_owned());
                    self.schedule(host, 20, Doing::Answer { event: AgentEvent::Ensured { release, result } });
                }
                return;
            }
            Task::Watch { watch, release, checks, services, .. } => {
                let process = self.hosts[host].process;
                // In a slot it is known who answers; elsewhere whoever listens does.
                let front = services.first().map(|service| service.name.clone());
                let front = front.filter(is_slot);
                let of_checks = checks.into_iter().map(|check| Probing {
                    name: check.name,
                    interval_ms: u64::try_from(check.interval.as_millis()).unwrap_or(2_000),
                    service: None,
                });
                let of_services = services.into_iter().filter_map(|service| {
                    let name = service_check(&service)?;
                    Some(Probing { name, interval_ms: SERVICE_PROBE_MS, service: Some(service.name) })
                });
                let probes: Vec<Probing> = of_checks.chain(of_services).collect();
                for check in 0..probes.len() {
                    let delay = self.dice.between(5, 500);
                    self.after(delay, Event::Probe { host, process, watch, check });
                }
                self.hosts[host].watch = Some(Watching { number: watch, release, probes, front });
                return;
            }
            Task::Migrate { step, left, migrating, effect } => {
                return self.migrate(host, &step, left, &migrating, &effect);
            }
            Task::ResumeMigration { step, migrating, effect } => {
                return self.resume_migration(host, &step, &migrating, effect);
            }
            Task::Fetch { release, bases, effect } => {
                (self.dice.between(50, 4_000), Doing::Fetch { release, bases, effect, tries: 0 })
            }
            Task::Step { step, release, afresh, effect, .. } => {
                let delay = self.dice.between(20, 3_000);
                let disk = &self.hosts[host].app_disk;
                let cleared = if afresh { clear_prepared(disk, &release) } else { Ok(()) };
                match cleared {
                    Ok(()) => (delay, Doing::Step { step, release, effect }),
                    Err(error) => {
                        let finish = failed("prepare", error.to_string());
                        let event = AgentEvent::Done { effect: Box::new(effect), finish };
                        (delay, Doing::Answer { event })
                    }
                }
            }
            Task::Service { service, release, activate, unless_running, effect, .. } => {
                // Services are touched one at a time, in the order in which it was asked.
                self.ensure(host);
                let service = service.name;
                let doing = Doing::Service { service, release, activate, unless_running, effect };
                (self.dice.between(50, 3_000), doing)
            }
            Task::Restart { service, release, effect, .. } => {
                self.ensure(host);
                let doing = Doing::Restart { service: service.name, release, effect };
                (self.dice.between(50, 3_000), doing)
            }
            Task::WarmUp { release, effect, .. } => {
                (self.dice.between(20, 3_000), Doing::WarmUp { release, effect })
            }
            Task::Lead { to, effect, .. } => {
                self.ensure(host);
                let delay = self.dice.between(20, 1_000);
                if matches!(effect, Effect::Act { .. }) {
                    (delay, Doing::Lead { to, effect })
                } else {
                    // Nobody waits for it, and yet what comes after it must find it done.
                    let event = self.lead(host, &to, effect);
                    (delay, Doing::Answer { event })
                }
            }
            Task::Retire { service, effect, .. } => {
                self.ensure(host);
                let (delay, service) = (self.dice.between(20, 5_000), service.name);
                if matches!(effect, Effect::Act { .. }) {
                    (delay, Doing::Retire { service, effect })
                } else {
                    let event = self.vacate(host, &service, effect);
                    (delay, Doing::Answer { event })
                }
            }
            Task::Ensure { .. }
                if self.scenario.sabotage == Some(Sabotage::StartsByController)
                    && self.hosts[host].connection.is_none() =>
            {
                return;
            }
            Task::Ensure { services, active } => {
                let services = services.into_iter().map(|running| (running.service.name, running.release));
                self.hosts[host].ensuring = Some((services.collect(), active));
                (self.dice.between(50, 2_000), Doing::Ensure)
            }
        };
        self.schedule(host, delay, doing);
    }

    fn schedule(&mut self, host: usize, delay: u64, doing: Doing) {
        let task = self.next_task;
        self.next_task += 1;
        self.hosts[host].tasks.insert(task);
        let process = self.hosts[host].process;
        self.after(delay, Event::TaskEnds { host, process, task, doing: Box::new(doing) });
    }

    pub(super) fn task_ends(&mut self, host: usize, process: u64, task: u64, doing: Doing) {
        if self.hosts[host].process != process {
            // The agent is gone, but a holder that was asked to restart a service may have gone on.
            if let Doing::Service { service, release, activate: true, .. } = doing {
                let still_here = self.hosts[host].services.contains_key(&service);
                if still_here && self.dice.chance(500_000) {
                    self.service_runs(host, service, release);
                }
            } else if let Doing::Restart { service, effect, .. } = doing {
                if self.hosts[host].services.contains_key(&service) && self.dice.chance(500_000) {
                    self.restarted(host, process, &effect);
                }
            } else if let Doing::Lead { to, effect } = doing
                && !self.hosts[host].services.is_empty()
                && self.hosts[host].agent.is_none()
                && self.dice.chance(500_000)
            {
                // So may a proxy that was told to reload.
                self.lead(host, &to, effect);
            }
            return;
        }
        // Fetches and steps can be given up; what was begun on a service is finished.
        let is_wanted = self.hosts[host].tasks.remove(&task);
        if !is_wanted && matches!(doing, Doing::Fetch { .. } | Doing::Step { .. }) {
            return;
        }
        let (effect, finish) = match doing {
            Doing::Fetch { release, bases, effect, tries } => {
                let is_cut = self.is_cut(host) || self.controller.running.is_none();
                if is_cut && tries < 12 {
                    let doing = Doing::Fetch { release, bases, effect, tries: tries + 1 };
                    return self.schedule(host, 5_000, doing);
                }
                let finish = if is_cut {
                    failed("fetch", "the controller cannot be reached")
                } else {
                    self.fetch(host, &release, &bases)
                };
                (effect, finish)
            }
            Doing::Step { step, release, effect } => {
                let finish = self.step_ends(host, &step, &release, &effect);
                (effect, finish)
            }
            Doing::Service { service, release, activate, unless_running, effect } => {
                let finish = if unless_running && self.hosts[host].services.contains_key(&service) {
                    Finish::Ok
                } else if !activate {
                    self.hosts[host].services.remove(&service);
                    Finish::Ok
                } else if self.quality(host, &release) == Quality::Crashes || self.fails_by_chance() {
                    failed(service.as_str(), "exited with code 1 while starting")
                } else {
                    self.service_runs(host, service, release);
                    Finish::Ok
                };
                (effect, finish)
            }
            Doing::Restart { service, release, effect } => {
                let finish = if self.fails_by_chance() {
                    failed(service.as_str(), "exited with code 1 while starting")
                } else {
                    if self.scenario.sabotage != Some(Sabotage::RestartLies) {
                        self.restarted(host, process, &effect);
                    }
                    self.service_runs(host, service, release);
                    Finish::Ok
                };
                (effect, finish)
            }
            Doing::WarmUp { release, effect } => {
                let is_bad = matches!(self.quality(host, &release), Quality::Sick | Quality::Crashes);
                let is_taken = self.scenario.sabotage == Some(Sabotage::ColdIsWarm);
                let finish = if (is_bad && !is_taken) || self.fails_by_chance() {
                    failed("traffic", "it was not warm within 10s")
                } else {
                    Finish::Ok
                };
                (effect, finish)
            }
            Doing::Lead { to, effect } => {
                let event = self.lead(host, &to, effect);
                return self.tell(host, event);
            }
            Doing::Retire { service, effect } => {
                let event = self.vacate(host, &service, effect);
                return self.tell(host, event);
            }
            Doing::Answer { event } => return self.tell(host, event),
            Doing::Ensure => return self.ensure(host),
        };
        if self.hosts[host].is_off() {
            return self.host_disk_went_off(host);
        }
        self.tell(host, AgentEvent::Done { effect: Box::new(effect), finish });
    }

    /// Starts what should run and does not.
    fn ensure(&mut self, host: usize) {
        let Some((services, active)) = self.hosts[host].ensuring.take() else { return };
        let mut result = Ok(());
        for (service, release) in services {
            if self.hosts[host].services.contains_key(&service) {
                continue;
            }
            if self.quality(host, &release) == Quality::Crashes || self.fails_by_chance() {
                result = Err("exited with code 1 while starting".to_owned());
            } else {
                self.service_runs(host, service, release);
            }
        }
        self.tell(host, AgentEvent::Ensured { release: active, result });
    }

    /// A process is replaced, for an order of this agent's process.
    fn restarted(&mut self, host: usize, process: u64, effect: &Effect) {
        // In a slot it has another name.
        let Effect::Act { generation, action: Action::Renew { service, .. } } = effect else { return };
        let id = self.hosts[host].id.clone();
        let done = self.checks.service_restarted(&id, generation.0, process, service);
        self.must(done);
    }

    fn service_runs(&mut self, host: usize, service: landfall_common::ServiceName, release: ReleaseName) {
        let agent = &mut self.hosts[host];
        let is_whole = self.checks.service_started(&agent.id, &agent.app_disk, &release);
        agent.services.insert(service, release);
        self.must(is_whole);
    }

    /// The proxy leads requests elsewhere; now and then it fails, and nobody knows whether it did.
    fn lead(&mut self, host: usize, to: &Endpoint, effect: Effect) -> AgentEvent {
        let service = match to {
            Endpoint::At { slot: Some(slot), .. } => {
                Some(slot.instance(&landfall_common::ServiceName::new("web").expect("a valid name")))
            }
            Endpoint::At { slot: None, .. } => landfall_common::ServiceName::new("web").ok(),
            Endpoint::Open | Endpoint::Nowhere => None,
        };
        let fails = self.fails_by_chance();
        let listens = service.as_ref().is_none_or(|service| self.hosts[host].services.contains_key(service));
        let lies = self.scenario.sabotage == Some(Sabotage::ProxyLies);
        if listens && !lies && !(fails && self.dice.chance(500_000)) {
            self.hosts[host].led_to = service;
            self.hosts[host].led_away = *to == Endpoint::Nowhere;
            let brought = (*to == Endpoint::Open).then(|| self.checks.led_back(&self.hosts[host].id));
            self.must(brought.unwrap_or(Ok(())));
            let agent = &self.hosts[host];
            let bad = agent.services.iter().filter(|(service, _)| is_slot(service));
            let bad: Vec<_> = bad
                .filter(|(_, runs)| matches!(self.quality(host, runs), Quality::Sick | Quality::Crashes))
                .map(|(service, _)| service.clone())
                .collect();
            let result = self.checks.led(&agent.id, agent.led_to.as_ref(), &bad);
            self.must(result);
        }
        let result = match (listens, fails) {
            (true, false) => Ok(()),
            (true, true) => Err("the proxy was reloaded and does not answer".to_owned()),
            (false, _) => Err("nobody listens there".to_owned()),
        };
        match effect {
            Effect::Aim { aim } => AgentEvent::Aimed { aim, result },
            effect => {
                let finish = result.map_or_else(|reason| failed("traffic", reason), |()| Finish::Ok);
                AgentEvent::Done { effect: Box::new(effect), finish }
            }
        }
    }

    /// What runs in a slot is ended.
    fn vacate(&mut self, host: usize, service: &landfall_common::ServiceName, effect: Effect) -> AgentEvent {
        self.hosts[host].services.remove(service);
        let agent = &self.hosts[host];
        let result = self.checks.vacated(&agent.id, agent.led_to.as_ref(), service);
        self.must(result);
        match effect {
            Effect::Retire { slot, release } => AgentEvent::Retired { slot, release, result: Ok(()) },
            effect => AgentEvent::Done { effect: Box::new(effect), finish: Finish::Ok },
        }
    }

    fn fails_by_chance(&mut self) -> bool {
        !self.healed && self.dice.chance(self.scenario.faults.step)
    }

    pub(super) fn quality(&self, host: usize, release: &ReleaseName) -> Quality {
        let release = self.releases.iter().find(|known| known.reference.name == *release);
        release.map_or(Quality::Good, |release| release.plan.quality(host))
    }

    /// The release comes, object by object, in whatever order it is lacking.
    fn fetch(&mut self, host: usize, wanted: &ReleaseRef, bases: &[(ReleaseName, Sha256)]) -> Finish {
        let Some(release) = self.releases.iter().find(|known| known.reference == *wanted) else {
            return failed("fetch", "nobody published it");
        };
        let disk: Arc<dyn Disk> = Arc::new(self.hosts[host].app_disk.clone());
        let store = Store::new(disk);
        let all = || -> Result<Finish, AgentError> {
            let manifest = store.put_manifest(&wanted.name, wanted.digest, &release.bytes)?;
            loop {
                let lacking = store.lacking(&manifest, bases)?;
                if lacking.is_empty() {
                    let outline = Box::new((&manifest.program).into());
                    return Ok(Finish::Fetched { outline });
                }
                for (digest, _) in &lacking.directories {
                    store.put_directory(*digest, &release.objects[digest])?;
                }
                for file in &lacking.files {
                    store.put_file(file, &release.objects[&file.digest])?;
                }
            }
        };
        all().unwrap_or_else(|error| failed("fetch", error.to_string()))
    }

    fn step_ends(&mut self, host: usize, step: &Step, release: &ReleaseName, effect: &Effect) -> Finish {
        let quality = self.quality(host, release);
        let is_smoke = matches!(effect, Effect::Smoke { .. });
        let is_bad = match quality {
            Quality::Smokes => is_smoke,
            Quality::Unstageable => !is_smoke,
            _ => false,
        };
        if is_bad || self.fails_by_chance() {
            let mut failure = Failure::new(step.name.clone(), "exited with code 3");
            failure.exit_code = Some(3);
            return Finish::Failed { failure };
        }
        if !is_smoke {
            let disk = &self.hosts[host].app_disk;
            let place = std::path::Path::new("prepared").join(release.as_str()).join(step.name.as_str());
            if let Err(error) = disk.write_new(&place, step.name.as_str().as_bytes(), 0o644) {
                return failed(step.name.as_str(), error.to_string());
            }
        }
        Finish::Ok
    }

    pub(super) fn probe(&mut self, host: usize, process: u64, number: u64, check: usize) {
        let agent = &self.hosts[host];
        let Some(watch) = agent.watch.as_ref().filter(|watch| watch.number == number) else { return };
        if agent.process != process {
            return;
        }
        let Probing { name, interval_ms, service } = watch.probes[check].clone();
        let expected = watch.release.clone();
        let service = service.map(|service| agent.services.get(&service).cloned());
        // Whoever asks a port is answered by whatever listens there, whichever release was expected.
        let runs = match &watch.front {
            Some(front) => agent.services.get(front).cloned(),
            None => agent.services.values().next().cloned(),
        };
        let is_sick = agent.sick_until > self.now;
        let flaps = service.is_none() && self.strikes_a_probe(host, interval_ms + 200, expected.as_str());
        let (is_of_application, answering) = (service.is_none(), runs.clone());
        let answer = match runs {
            _ if service.is_some() => match service.flatten() {
                Some(release) if release == expected => Ok(()),
                Some(release) => Err(format!("runs {release}")),
                None => Err("does not run".to_owned()),
            },
            None => Err("connection refused".to_owned()),
            Some(_) if is_sick || flaps => Err("answered 500".to_owned()),
            Some(release) => {
                let turn = (self.now / 7_000 + host as u64).is_multiple_of(2);
                match self.quality(host, &release) {
                    _ if self.scenario.sabotage == Some(Sabotage::LyingProbes) => Ok(()),
                    _ if self.never_answers_well(host, &release) => Err("answered 500".to_owned()),
                    Quality::Flaps if turn => Err("answered 503".to_owned()),
                    _ if !self.healed && self.dice.chance(self.scenario.faults.check) => {
                        Err("timed out".to_owned())
                    }
                    _ => Ok(()),
                }
            }
        };
        if is_of_application {
            self.measure(host, &name, answering.as_ref(), answer.is_err());
        }
        let jitter = self.dice.between(0, 200);
        self.after(interval_ms + jitter, Event::Probe { host, process, watch: number, check });
        self.tell(host, AgentEvent::Checked { watch: number, check: name, answer });
    }

    /// Whether no check of a release ever passes on a host.
    pub(super) fn never_answers_well(&self, host: usize, release: &ReleaseName) -> bool {
        let smoke = self.releases.iter().any(|r| r.reference.name == *release && r.plan.smoke > 0);
        match self.quality(host, release) {
            Quality::Sick | Quality::Crashes => true,
            Quality::Smokes => !smoke,
            _ => false,
        }
    }

    /// The supervisor of a migration: notes that it begins, runs it, ends it with its lease, notes how it
    /// ended. It outlives the agent, and not its host.
    fn resume_migration(&mut self, host: usize, step: &StepName, migrating: &Migrating, effect: Effect) {
        let finish = match self.hosts[host].notes.get(&migrating.fence).cloned() {
            Some(Note::Running { .. }) => return,
            Some(Note::Ended(finish)) => finish,
            Some(Note::Lost) => unknown(step, "the host went down while it ran"),
            // The record says that it began; a note that is not there proves nothing.
            None => unknown(step, "it was never begun"),
        };
        self.tell_later(host, effect, finish);
    }

    fn migrate(&mut self, host: usize, step: &Step, left: Duration, migrating: &Migrating, effect: &Effect) {
        let fence = migrating.fence;
        let note = self.hosts[host].notes.get(&fence).cloned();
        let runs_again = self.scenario.sabotage == Some(Sabotage::MigrationTwice);
        let finish = match note {
            Some(Note::Running { .. }) => return,
            Some(Note::Ended(finish)) => finish,
            Some(Note::Lost) => unknown(&step.name, "the host went down while it ran"),
            None => {
                self.run_migration(host, step, left, migrating);
                if runs_again {
                    self.run_migration(host, step, left, migrating);
                }
                return;
            }
        };
        self.tell_later(host, effect.clone(), finish);
    }

    fn tell_later(&mut self, host: usize, effect: Effect, finish: Finish) {
        // As a task of its own, so that the machine gets its answer after the event that asked for it.
        let run = usize::MAX;
        let fence = match &effect {
            Effect::Migrate { migrating } | Effect::ResumeMigration { migrating } => migrating.fence,
            _ => 0,
        };
        self.after(20, Event::MigrationEnds { host, run, fence, finish, took_effect: false });
    }

    fn run_migration(&mut self, host: usize, step: &Step, left: Duration, migrating: &Migrating) {
        let fence = migrating.fence;
        let id = self.hosts[host].id.clone();
        let Some(lease) = self.checks.database.leases.get(&(id.clone(), fence)).cloned() else { return };
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let faults = self.scenario.faults.clone();
        let hangs = !self.healed && self.dice.chance(faults.migration_hang);
        let fails = !self.healed && self.dice.chance(faults.migration);
        let wanted = if hangs { u64::MAX / 4 } else { self.dice.between(500, 12_000) };
        let mut bound = ms(step.timeout).min(ms(left));
        if self.scenario.sabotage == Some(Sabotage::LeaseIgnored) {
            bound = ms(left) + 30_000;
        }
        let took = wanted.min(bound);
        let (finish, took_effect) = if wanted > bound {
            (unknown(&step.name, "it was ended: it ran out of time"), self.dice.chance(500_000))
        } else if fails {
            (failed(step.name.as_str(), "exited with code 1"), false)
        } else {
            (Finish::Ok, true)
        };
        let release = self.releases.iter().find(|known| known.reference.name == migrating.release);
        let run = Run {
            rollout: lease.rollout,
            release: migrating.release.clone(),
            direction: migrating.direction,
            host: id.clone(),
            fence,
            began_at: self.now,
            lease_until: lease.until,
            ended_at: None,
            took_effect: false,
            written_off: false,
            failed: false,
            idempotent: release.is_some_and(|release| match migrating.direction {
                Direction::Contract => release.plan.contract.as_ref().is_some_and(|it| it.idempotent),
                _ => release.plan.migration.as_ref().is_some_and(|it| it.idempotent),
            }),
        };
        let hosts = self.hosts.iter().filter(|host| host.enrolled);
        let hosts = hosts.map(|host| (&host.id, current::active(&host.app_disk).unwrap_or_default()));
        let last = self.checks.contract_begins(&run, hosts);
        self.must(last);
        self.statistics.migrations += 1;
        self.note(format_args!("{id} migrates for {} ({:?}), lease {fence}", run.release, run.direction));
        match self.checks.migration_begins(run) {
            Ok(run) => {
                self.hosts[host].notes.insert(fence, Note::Running { run });
                self.after(took, Event::MigrationEnds { host, run, fence, finish, took_effect });
            }
            Err(violation) => self.must(Err(violation)),
        }
    }

    pub(super) fn migration_ends(
        &mut self,
        host: usize,
        run: usize,
        fence: u64,
        finish: Finish,
        took_effect: bool,
    ) {
        if run != usize::MAX {
            // It may have died with its host, and then not ended by itself.
            if self.hosts[host].notes.get(&fence) != Some(&Note::Running { run }) {
                return;
            }
            let id = self.hosts[host].id.clone();
            self.note(format_args!("the migration of {id} ends: {finish:?}"));
            let in_time = self.checks.migration_ended(
                run,
                self.now,
                took_effect,
                matches!(finish, Finish::Failed { .. }),
            );
            self.must(in_time);
            self.hosts[host].notes.insert(fence, Note::Ended(finish.clone()));
            if self.strike_after_a_migration(host, fence) {
                return;
            }
        }
        let awaited = self.hosts[host].agent.as_ref().and_then(|agent| agent.record().state.awaits());
        let of_this = matches!(&awaited, Some(Effect::Migrate { migrating } | Effect::ResumeMigration { migrating })
            if migrating.fence == fence);
        if let Some(effect) = awaited.filter(|_| of_this) {
            self.tell(host, AgentEvent::Done { effect: Box::new(effect), finish });
        }
    }
}

fn unknown(step: &StepName, reason: &str) -> Finish {
    Finish::Unknown { failure: Failure::new(step.clone(), reason) }
}

/// Whether a service is one that runs in a slot.
pub(super) fn is_slot(service: &landfall_common::ServiceName) -> bool {
    [Slot::Blue, Slot::Green].iter().any(|slot| service.as_str().ends_with(&format!("-{slot}")))
}
