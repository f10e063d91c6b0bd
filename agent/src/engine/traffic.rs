//! What the tasks of slots and proxies need, out of manifests.

use landfall_agent_core::{Action, Aim, Effect, Target};
use landfall_common::assignment::RestartKind;
use landfall_common::manifest::traffic::{Slot, Slots};
use landfall_common::manifest::{Container, Driver, Manifest, Program, Service};
use landfall_common::report::Failure;
use landfall_common::{ReleaseName, ServiceName};

use super::standing::Running;
use super::task::Endpoint;
use super::{Engine, Runner, Task, name};

/// The slots of a release.
pub(super) fn slots<'m>(manifest: &'m Manifest, release: &ReleaseName) -> Result<&'m Slots, Failure> {
    let missing = || Failure::new(name("traffic"), format!("release {release} has no slots"));
    manifest.program.slots().ok_or_else(missing)
}

impl<R: Runner> Engine<R> {
    /// The program of a release as it runs here: in the slot that the record knows. Of one in no slot what has slots does
    /// not run: another release was given its room, and what is active has not changed since.
    pub(super) fn placed(&self, release: &ReleaseName) -> Result<Program, Failure> {
        let mut program = self.known(release)?.program;
        let Some(slotted) = program.slots().map(|slots| slots.service.clone()) else { return Ok(program) };
        Ok(match self.machine.record.placement.slot_of(release) {
            Some(slot) => program.in_slot(slot),
            None => {
                program.services.retain(|service| service.name != slotted);
                program
            }
        })
    }

    /// What is to run while a release is active: its services, and what requests may be led to, by all that is known, where
    /// that is another one, as after a way back that failed. It served before a boot, and nobody else would start it.
    pub(super) fn kept_up(&self, active: &ReleaseName) -> Result<Vec<Running>, Failure> {
        let digest = self.digest_of(active)?;
        let services = self.placed(active)?.services.into_iter();
        let mut all: Vec<Running> =
            services.map(|service| Running { service, release: active.clone(), digest }).collect();
        let placement = &self.machine.record.placement;
        let own = placement.slot_of(active);
        let others = placement.slots.iter().filter(|(slot, _)| own != Some(**slot));
        for (slot, release) in others.filter(|(slot, _)| placement.may_lead_to(**slot)) {
            let (service, digest) = (self.instance(release, *slot)?, self.digest_of(release)?);
            all.push(Running { service, release: release.clone(), digest });
        }
        Ok(all)
    }

    /// The service of a release that has slots, in one of them.
    pub(super) fn instance(&self, release: &ReleaseName, slot: Slot) -> Result<Service, Failure> {
        let manifest = self.known(release)?;
        let wanted = slot.instance(&slots(&manifest, release)?.service);
        let services = manifest.program.in_slot(slot).services;
        services.into_iter().find(|service| service.name == wanted).ok_or_else(|| {
            Failure::new(name("traffic"), format!("release {release} has no service for its slots"))
        })
    }

    /// A service of the active release that is to be restarted where it runs.
    pub(super) fn renewed(
        &self,
        service: &ServiceName,
        release: &ReleaseName,
        kind: RestartKind,
    ) -> Result<Service, Failure> {
        let found = self.known(release)?.program.services.into_iter().find(|known| known.name == *service);
        let step = Action::Renew { service: service.clone(), release: release.clone(), kind }.name();
        let found = found.ok_or_else(|| Failure::new(step.clone(), "the release has no such service"))?;
        let record = &self.machine.record;
        let is_slotted = self.installed(release)?.outline.slotted() == Some(service);
        let slot = record.placement.slot_of(release).filter(|_| is_slotted);
        found.driver.renews(kind, is_slotted).map_err(|why| {
            Failure::new(step, format!("service {service} cannot be {}: {why}", kind.done()))
        })?;
        slot.map_or(Ok(found), |slot| self.instance(release, slot))
    }

    pub(super) fn lead(&self, aim: &Aim, effect: Effect) -> Result<Task, Failure> {
        let by = self.known(&aim.by)?;
        let missing = || Failure::new(name("traffic"), format!("release {} has no traffic", aim.by));
        let traffic = by.program.traffic.clone().ok_or_else(missing)?;
        let to = match &aim.to {
            Target::Slot { slot, release } => Endpoint::At {
                address: slots(&by, release)?.address(*slot).to_owned(),
                slot: Some(*slot),
                release: release.clone(),
            },
            Target::Plain { release } => {
                let service = &slots(&by, &aim.by)?.service;
                let address = self.listens(release, service)?;
                Endpoint::At { address, slot: None, release: release.clone() }
            }
            Target::Open => Endpoint::Open,
            Target::Nowhere => Endpoint::Nowhere,
        };
        Ok(Task::Lead { traffic, to, release: aim.by.clone(), effect })
    }

    /// Where a service of a release without slots listens.
    fn listens(
        &self,
        release: &ReleaseName,
        service: &landfall_common::ServiceName,
    ) -> Result<String, Failure> {
        let services = self.known(release)?.program.services;
        let found = services.into_iter().find(|known| known.name == *service);
        let published = |container: &Container| container.publish.first().map(|port| port.host.clone());
        let address = found.and_then(|service| match service.driver {
            Driver::Process { listen, .. } => listen,
            Driver::Docker(container) => published(&container),
            Driver::Exec { .. } | Driver::Systemd { .. } | Driver::Supervisor { .. } => None,
        });
        match address {
            Some(address) => Ok(address),
            None => Err(Failure::new(
                name("traffic"),
                format!(
                    "release {release} does not say where its service {service} listens, so no request can \
                     be led to it; lead them there in the proxy itself, or activate a release with slots"
                ),
            )),
        }
    }

    pub(super) fn retire(&self, slot: Slot, release: &ReleaseName, effect: Effect) -> Result<Task, Failure> {
        let manifest = self.known(release)?;
        let address = slots(&manifest, release)?.address(slot).to_owned();
        let drain = manifest.program.traffic.as_ref().map(|traffic| traffic.drain).unwrap_or_default();
        let service = self.instance(release, slot)?;
        Ok(Task::Retire { service, address, drain, release: release.clone(), effect })
    }
}
