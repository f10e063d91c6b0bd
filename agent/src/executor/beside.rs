//! What runs beside the files of the active release, as it is: each driver, each slot and the proxy are asked, one
//! after the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use landfall_agent_core::drift::beside::seat;
use landfall_agent_core::drift::{Finding, Remedy};
use landfall_common::ServiceName;
use landfall_common::report::HostReport;
use tokio_util::sync::CancellationToken;

use super::{Executor, is_active};
use crate::drift::look::Interrupted;
use crate::drift::outside::applied::{Applied, Record};
use crate::drift::outside::units::Units;
use crate::drift::outside::{self, Seen};
use crate::drivers::{self, DriverState, docker};
use crate::engine::standing::{Running, Standing};
use crate::steps::StepContext;
use crate::traffic;

/// What a proxy's settings are recorded as.
const PROXY: &str = "proxy";

/// Looks beside the files of the active release.
pub struct Beside {
    /// Who asks.
    pub executor: Arc<Executor>,
    /// Where its questions run.
    pub runtime: tokio::runtime::Handle,
    /// Units of systemd.
    pub units: Units,
    /// What was applied.
    pub record: Record,
}

impl outside::Beside for Beside {
    fn look(
        &self,
        report: &HostReport,
        standing: &Standing,
        breath: &mut dyn FnMut() -> bool,
    ) -> Result<Seen, Interrupted> {
        let before = self.record.read(report, standing.release.digest);
        let mut applied = before.clone();
        let mut seen = Seen {
            findings: self.units.look(standing.release.name.as_str(), &standing.program, &mut applied),
            notes: Vec::new(),
        };
        seen.take(self.executor.slots(standing));
        for running in &standing.running {
            go_on(breath)?;
            seen.take(self.runtime.block_on(self.executor.service(running, &mut applied)));
        }
        go_on(breath)?;
        seen.take(self.runtime.block_on(self.executor.containers(standing)));
        go_on(breath)?;
        seen.take(self.runtime.block_on(self.executor.proxy(standing, &mut applied)));
        self.record.keep(&applied, &before);
        Ok(seen)
    }

    fn mend(&self, standing: &Standing, remedy: &Remedy) -> Result<(), String> {
        self.runtime.block_on(self.executor.mend(standing, remedy))
    }
}

fn go_on(breath: &mut dyn FnMut() -> bool) -> Result<(), Interrupted> {
    if breath() { Ok(()) } else { Err(Interrupted) }
}

impl Seen {
    /// What one of them said, or why it said nothing.
    fn take(&mut self, said: Result<Vec<Finding>, String>) {
        match said {
            Ok(findings) => self.findings.extend(findings),
            Err(note) => self.notes.push(note),
        }
    }
}

impl Executor {
    fn around(&self, running: &Running) -> StepContext {
        self.context(&running.release, None, CancellationToken::new())
    }

    /// The links of slots, and their files, against the record.
    fn slots(&self, standing: &Standing) -> Result<Vec<Finding>, String> {
        let mut must: BTreeMap<String, seat::Seat> = BTreeMap::new();
        for (slot, running) in standing.seats() {
            let Some(seat) = running.seat() else { continue };
            let wanted = drivers::seat::wanted(seat, &self.around(running));
            must.insert(slot.to_owned(), wanted.map_err(|reason| format!("slots: {reason}"))?);
        }
        let mut seen = drivers::seat::look(&self.app_dir);
        // What is about to be ended in a slot is nobody's to judge.
        let is_occupied = |slot: &str| standing.occupied.iter().any(|known| known.as_str() == slot);
        seen.retain(|slot, _| must.contains_key(slot) || !is_occupied(slot));
        Ok(seat::findings(&must, &seen))
    }

    /// What its driver says of a service.
    async fn service(&self, running: &Running, applied: &mut Applied) -> Result<Vec<Finding>, String> {
        let name = &running.service.name;
        let context = self.around(running);
        let driver = drivers::of(&self.host, &running.service, &context);
        let known = format!("service {name}");
        let seen = driver.differs(running.digest, applied.things.get(&known)).await;
        let seen = seen.map_err(|reason| format!("the service {name} was not looked at: {reason}"))?;
        if !seen.applied.is_empty() {
            applied.things.entry(known).or_insert(seen.applied);
        }
        Ok(seen.findings)
    }

    /// Containers of the application's that belong to no service.
    async fn containers(&self, standing: &Standing) -> Result<Vec<Finding>, String> {
        let services = standing.running.iter().map(|running| &running.service);
        let context = self.context(&standing.release.name, None, CancellationToken::new());
        let found = docker::strangers(&self.host, services, &context).await;
        found.map_err(|reason| format!("the containers were not looked at: {reason}"))
    }

    /// What the proxy says of where it leads requests.
    async fn proxy(&self, standing: &Standing, applied: &mut Applied) -> Result<Vec<Finding>, String> {
        let Some(led) = &standing.led else { return Ok(Vec::new()) };
        let context = self.context(&led.by, None, CancellationToken::new());
        let known = applied.things.get(PROXY);
        let seen = traffic::differs(&self.config.traffic, led, &context, known).await;
        let seen = seen.map_err(|failure| format!("the proxy was not looked at: {}", failure.reason))?;
        if !seen.applied.is_empty() {
            applied.things.entry(PROXY.to_owned()).or_insert(seen.applied);
        }
        Ok(seen.findings)
    }

    /// Puts something of a service right that can be without an interruption.
    async fn mend(&self, standing: &Standing, remedy: &Remedy) -> Result<(), String> {
        let of = |name: &ServiceName| {
            let found = standing.running.iter().find(|running| running.service.name == *name);
            found.ok_or_else(|| format!("{name} is not to run here any more; look again"))
        };
        // Held throughout: an activation either waits, or has swapped `current` before.
        let _held = self.services.lock().await;
        if !is_active(&self.app_dir, &standing.release.name).is_ok_and(|is_active| is_active) {
            return Err(format!("`current` does not name {}", standing.release.name));
        }
        let done = match remedy {
            Remedy::Start { service } => {
                let running = of(service)?;
                let context = self.around(running);
                // What runs by now is left alone, however it came to that.
                match drivers::status(&self.host, &running.service, &context).await {
                    DriverState::Running { .. } | DriverState::Starting => return Ok(()),
                    _ => {}
                }
                let attempt = format!("mend-{}", crate::clock::wall().ms());
                drivers::activate(&self.host, &running.service, &context, running.digest, &attempt).await
            }
            Remedy::Limits { service } => {
                let running = of(service)?;
                let context = self.around(running);
                drivers::of(&self.host, &running.service, &context).set_limits(running.digest).await
            }
            _ => return Err("it is no matter of a service".to_owned()),
        };
        done.map_err(|failure| super::acts::with_last_line(&failure))
    }
}
