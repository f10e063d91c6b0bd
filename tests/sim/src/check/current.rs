//! P2, old or new, never half: `current` names a whole release at every instant, and whatever a power cut
//! leaves of the disk still does; what is started is whole; what is called healthy runs one release.

use std::collections::BTreeMap;
use std::path::Path;

use landfall_common::disk::{Disk as _, EntryKind};
use landfall_common::report::{Health, HostReport, Phase};
use landfall_common::{HostId, ReleaseName, ServiceName, Sha256};

use super::{Checks, Violation};
use crate::disk::SimDisk;

/// Of a million looks, how many also ask what a power cut at this instant would leave.
const CUT_PPM: u32 = 60_000;

impl Checks {
    /// The disk of a host has changed.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn disk(&mut self, host: &HostId, disk: &SimDisk) -> Result<(), Violation> {
        self.looks += 1;
        let copy = disk.fork();
        self.names_a_whole_release(host, &copy, "is")?;
        if let Ok(Some(name)) = active(&copy) {
            self.comes_to(host, &name)?;
        }
        if self.dice.chance(CUT_PPM) {
            copy.crash(self.dice.raw());
            self.names_a_whole_release(host, &copy, "after a power cut at this instant would be")?;
        }
        Ok(())
    }

    fn names_a_whole_release(&mut self, host: &HostId, disk: &SimDisk, when: &str) -> Result<(), Violation> {
        let broken = |what: String| Err(Violation::new("P2", format!("current of {host} {when} {what}")));
        match active(disk) {
            Ok(Some(name)) => match self.whole(disk, &name) {
                Ok(_) => Ok(()),
                Err(what) => broken(format!("half of release {name}: {what}")),
            },
            // Until the agent has said that it took place, the very first swap may be lost.
            Ok(None) if !self.had_active.contains(host) => Ok(()),
            Ok(None) => broken("nothing".to_owned()),
            Err(what) => broken(what),
        }
    }

    /// Whether a release lies on a disk whole; its digest.
    fn whole(&self, disk: &SimDisk, name: &ReleaseName) -> Result<Sha256, String> {
        let release = self.releases.values().find(|release| release.reference.name == *name);
        let release = release.ok_or("nobody published it")?;
        let root = Path::new("releases").join(name.as_str());
        for (path, digest) in &release.files {
            let bytes = disk.read(&root.join(path)).map_err(|error| error.to_string())?;
            match bytes {
                None => return Err(format!("{path} is missing")),
                Some(bytes) if Sha256::of(&bytes) != *digest => return Err(format!("{path} is another")),
                Some(_) => {}
            }
        }
        for link in &release.manifest.program.shared.directories {
            let kind = disk.kind(&root.join(link)).map_err(|error| error.to_string())?;
            if kind != Some(EntryKind::Symlink) {
                return Err(format!("{link} is no link"));
            }
        }
        Ok(release.reference.digest)
    }

    /// A service of a host has begun to run a release.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn service_started(
        &mut self,
        host: &HostId,
        disk: &SimDisk,
        release: &ReleaseName,
    ) -> Result<(), Violation> {
        let whole = self.whole(&disk.fork(), release);
        let broken = |what| Violation::new("P2", format!("{host} started half of release {release}: {what}"));
        whole.map(drop).map_err(broken)
    }

    /// An agent says how its host stands: at rest and healthy must mean that all services run the one
    /// release that `current` names.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn said(
        &mut self,
        host: &HostId,
        current: &Result<Option<ReleaseName>, String>,
        services: &BTreeMap<ServiceName, ReleaseName>,
        led_to: Option<&ServiceName>,
        report: &HostReport,
    ) -> Result<(), Violation> {
        let Some(said) = &report.active else { return Ok(()) };
        self.had_active.insert(host.clone());
        self.stands_on(host, &said.release.name, said.proven);
        if said.proven {
            self.proven.insert((host.clone(), said.release.digest));
        }
        let at_rest = matches!(report.phase, Phase::Idle);
        if !at_rest || !matches!(report.health, Health::Healthy { .. }) {
            return Ok(());
        }
        if current.as_ref().ok().and_then(Option::as_ref) != Some(&said.release.name) {
            let what =
                format!("{host} says that {} is active, and current is {current:?}", said.release.name);
            return Err(Violation::new("P2", what));
        }
        // A slot that requests are not led to is kept for the way back, and serves nobody.
        let kept = |service: &ServiceName| is_slot(service) && led_to != Some(service);
        let has_slots = (self.releases.get(&said.release.digest))
            .is_some_and(|release| release.manifest.program.slots().is_some());
        if has_slots && led_to.and_then(|service| services.get(service)) != Some(&said.release.name) {
            let what = format!(
                "{host} is at rest and healthy with {}, and requests go to {led_to:?} of {services:?}",
                said.release.name
            );
            return Err(Violation::new("P2", what));
        }
        let mut serving = services.iter().filter(|(service, _)| !kept(service));
        if let Some((service, other)) = serving.find(|(_, runs)| **runs != said.release.name) {
            let what = format!(
                "{host} is at rest and healthy with {}, and {service} runs {other}",
                said.release.name
            );
            return Err(Violation::new("P2", what));
        }
        Ok(())
    }

    /// The proxy of a host leads requests to a service, and these are ready for none.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn led(
        &mut self,
        host: &HostId,
        to: Option<&ServiceName>,
        bad: &[ServiceName],
    ) -> Result<(), Violation> {
        match to.filter(|to| bad.contains(to)) {
            Some(to) => {
                Err(Violation::new("P3", format!("{host} leads requests to {to}, which never answers")))
            }
            None => Ok(()),
        }
    }

    /// What ran in a slot of a host was ended.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn vacated(
        &mut self,
        host: &HostId,
        led_to: Option<&ServiceName>,
        ended: &ServiceName,
    ) -> Result<(), Violation> {
        if led_to != Some(ended) {
            return Ok(());
        }
        Err(Violation::new("P3", format!("{host} has ended {ended} while requests were led to it")))
    }
}

/// Whether a service is one that runs in a slot.
fn is_slot(service: &ServiceName) -> bool {
    service.as_str().ends_with("-blue") || service.as_str().ends_with("-green")
}

/// The release that `current` names, seen from outside.
pub(crate) fn active(disk: &SimDisk) -> Result<Option<ReleaseName>, String> {
    let link = disk.seen_link(Path::new("current")).map_err(|kind| format!("no link but {kind:?}"))?;
    let Some(target) = link else { return Ok(None) };
    let name = target.strip_prefix("releases").ok().and_then(|rest| rest.to_str());
    let name = name.and_then(|name| ReleaseName::new(name).ok());
    name.map(Some).ok_or_else(|| format!("a link to {}", target.display()))
}
