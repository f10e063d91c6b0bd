//! What is to be beside the files of the active release, by the record: services, slots, and where requests are led.

use std::collections::BTreeMap;

use landfall_agent_core::{Effect, State};
use landfall_common::assignment::ReleaseRef;
use landfall_common::manifest::traffic::Slot;
use landfall_common::manifest::{Driver, Program, Seat, Service, Traffic};
use landfall_common::{ReleaseName, Sha256};

use super::task::Endpoint;
use super::{Engine, Runner, Task};

/// What is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The active release.
    pub release: ReleaseRef,
    /// Its program, as it is signed, with those services that run here.
    pub program: Program,
    /// What is to run, also in the slot that is kept.
    pub running: Vec<Running>,
    /// Slots in which something may run, that of `running` or something that is about to be ended.
    pub occupied: Vec<Slot>,
    /// Where requests are to be led; `None` if nowhere, or if that is not settled.
    pub led: Option<Led>,
    /// Where requests are led is being made sure of.
    pub is_leading: bool,
    /// Why they may be led elsewhere, as far as that is known.
    pub misled: Option<String>,
}

/// A service that is to run, in its slot if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Which.
    pub service: Service,
    /// Of which release.
    pub release: ReleaseName,
    /// The digest of that release's manifest.
    pub digest: Sha256,
}

/// Where requests are to be led.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Led {
    /// By what.
    pub traffic: Traffic,
    /// Where to.
    pub to: Endpoint,
    /// The release that says so.
    pub by: ReleaseName,
}

impl Running {
    /// The slot that it has to itself, of a unit or a program of the host's own.
    #[must_use]
    pub fn seat(&self) -> Option<&Seat> {
        match &self.service.driver {
            Driver::Systemd { slot, .. } | Driver::Supervisor { slot, .. } => slot.as_ref(),
            Driver::Process { .. } | Driver::Exec { .. } | Driver::Docker(_) => None,
        }
    }
}

impl Standing {
    /// What is to run in each slot that a unit or a program of the host's own has to itself.
    #[must_use]
    pub fn seats(&self) -> BTreeMap<&str, &Running> {
        self.running.iter().filter_map(|running| Some((&*running.seat()?.slot, running))).collect()
    }
}

impl<R: Runner> Engine<R> {
    /// Whether the record says that a release runs in a slot.
    pub(super) fn runs_in(&self, slot: &str, release: &ReleaseName) -> bool {
        let slots = &self.machine.record.placement.slots;
        slots.iter().any(|(known, runs)| known.as_str() == slot && runs == release)
    }

    /// What is to be beside the files of the active release; `None` while a release is under way. If its manifest cannot
    /// be read, which is told elsewhere, nothing is.
    pub fn standing(&self) -> Option<Standing> {
        let record = &self.machine.record;
        let active = record.active().filter(|_| record.state == State::Idle)?;
        let name = &active.release.name;
        let running = |service: Service, release: &ReleaseName, digest| {
            let release = release.clone();
            Running { service, release, digest }
        };
        let placed = self.placed(name).map(|program| program.services).unwrap_or_default();
        let mut all: Vec<Running> =
            placed.into_iter().map(|service| running(service, name, active.release.digest)).collect();
        let placement = &record.placement;
        let (own, live) = (placement.slot_of(name), &self.machine.live);
        // What is just being ended is nobody's to judge.
        let others = placement.slots.iter().filter(|(slot, _)| {
            Some(**slot) != own && live.retiring != Some(**slot) && placement.kept.is_some()
        });
        for (slot, release) in others {
            let (Ok(service), Ok(digest)) = (self.instance(release, *slot), self.digest_of(release)) else {
                continue;
            };
            all.push(running(service, release, digest));
        }
        let is_settled = placement.trying.is_none() && live.misaimed.is_none() && !live.aiming;
        let aim = placement.aim.clone().filter(|_| is_settled);
        let led = aim.and_then(|aim| match self.lead(&aim, Effect::Aim { aim: aim.clone() }) {
            Ok(Task::Lead { traffic, to, release: by, .. }) => Some(Led { traffic, to, by }),
            _ => None,
        });
        Some(Standing {
            release: active.release.clone(),
            program: self.known(name).map(|manifest| manifest.program).unwrap_or_default(),
            running: all,
            occupied: placement.slots.keys().copied().collect(),
            led,
            is_leading: live.aiming,
            misled: live.misaimed.clone(),
        })
    }
}
