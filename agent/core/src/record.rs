//! The machine's data: what is kept on the disk, and what is only remembered.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::assignment::{Assignment, ReleaseRef};
use landfall_common::manifest::traffic::Slot;
use landfall_common::report::{Failure, Outcome};
use landfall_common::{AppName, Duration, EnvName, Generation, HostId, ReleaseName, ServiceName, Sha256};
use serde::{Deserialize, Serialize};

use crate::judge::Judge;
use crate::outline::Outline;
use crate::placement::{LedAway, Placement};
use crate::state::State;

/// Who this host is: pinned at enrolment, and never changed by an assignment (P1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its name.
    pub host: HostId,
    /// The only application that it takes.
    pub application: AppName,
    /// The only environment that it takes assignments of.
    pub environment: EnvName,
}

/// What the ledger keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Who this host is.
    pub identity: Identity,
    /// Grows with each start of the agent.
    pub incarnation: u64,
    /// The newest assignment that was accepted: older ones are refused.
    pub accepted: Option<Accepted>,
    /// What it is doing.
    pub state: State,
    /// The releases on the disk, verified and prepared.
    pub installed: BTreeMap<ReleaseName, Installed>,
    /// What `current` names.
    pub active: Option<ReleaseName>,
    /// The releases that passed their checks here, newest proof first; all of them are installed.
    pub proven: Vec<ReleaseName>,
    /// The highest migration lease seen here: none at or below it is ever begun again.
    pub fence: u64,
    /// How the newest assignment that ended did so.
    pub outcome: Option<Outcome>,
    /// An accepted assignment that waits until what is under way has ended; only the newest one does.
    pub queued: Option<Assignment>,
    /// Services that may run although the active release does not have them, each with the release that does:
    /// a way there or back that ended early never came to ending them. The next one does.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub strays: BTreeMap<ServiceName, ReleaseName>,
    /// The active release was left in place although it failed: whatever it has proven before, that some of
    /// its services still run another release is well possible.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_doubt: bool,
    /// Why services may run another release than the active one: the step at which the way to it ended
    /// early. Until a whole way has been gone the host is not healthy, whatever its checks say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixed: Option<Failure>,
    /// What runs in which slot, and where requests are led.
    #[serde(default, skip_serializing_if = "Placement::is_empty")]
    pub placement: Placement,
    /// Whether requests are led away from this host by somebody's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub led_away: Option<LedAway>,
}

/// A fence: the number of an assignment and what it said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The number.
    pub generation: Generation,
    /// The digest of the body's canonical form.
    pub digest: Sha256,
}

/// A release on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// Which.
    pub release: ReleaseRef,
    /// What it consists of.
    pub outline: Outline,
}

impl Record {
    /// The record of a host that was just enrolled.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            incarnation: 0,
            accepted: None,
            state: State::Idle,
            installed: BTreeMap::new(),
            active: None,
            proven: Vec::new(),
            fence: 0,
            outcome: None,
            queued: None,
            strays: BTreeMap::new(),
            in_doubt: false,
            mixed: None,
            placement: Placement::default(),
            led_away: None,
        }
    }

    /// The release that `current` names.
    #[must_use]
    pub fn active(&self) -> Option<&Installed> {
        self.active.as_ref().and_then(|name| self.installed.get(name))
    }

    /// Whether a release passed its checks here.
    #[must_use]
    pub fn is_proven(&self, name: &ReleaseName) -> bool {
        self.proven.contains(name)
    }

    /// The newest proven release that is on the disk, other than `failed`: what a revert goes back to.
    #[must_use]
    pub fn way_back(&self, failed: &ReleaseName) -> Option<&Installed> {
        self.proven.iter().find(|name| *name != failed).and_then(|name| self.installed.get(name))
    }

    /// The releases that may not be removed whatever the retention says: the active one, the two newest
    /// proven ones (the second is the way back while the first is active), and what is under way.
    #[must_use]
    pub fn guarded(&self) -> BTreeSet<ReleaseName> {
        let mut guarded: BTreeSet<ReleaseName> = self.proven.iter().take(2).cloned().collect();
        guarded.extend(self.active.clone());
        guarded.extend(self.state.arriving().cloned());
        guarded.extend(self.queued.as_ref().map(|assignment| assignment.release.name.clone()));
        // What ends a service stands in the manifest of its release.
        guarded.extend(self.strays.values().cloned());
        guarded.extend(self.placement.releases().cloned());
        match &self.state {
            State::Activating { activation, .. }
            | State::Proving { activation }
            | State::Smoking { activation, .. } => {
                guarded.insert(activation.to.clone());
                guarded.extend(activation.from.clone());
            }
            State::Undoing { activation, back, .. } | State::Confirming { activation, back, .. } => {
                guarded.insert(activation.to.clone());
                guarded.insert(back.clone());
            }
            State::Migrating { migrating, .. } => {
                guarded.insert(migrating.release.clone());
            }
            State::Idle | State::Fetching { .. } | State::Unpacking { .. } | State::Preparing { .. } => {}
        }
        guarded
    }

    /// Forgets the releases beyond the retention: the guarded ones stay, and then the highest counters.
    pub(crate) fn retain(&mut self, keep: usize) {
        let mut staying = self.guarded();
        let mut by_counter: Vec<_> = self.installed.values().map(|i| &i.release).collect();
        by_counter.sort_by_key(|release| std::cmp::Reverse(release.counter));
        for release in by_counter {
            if staying.len() >= keep {
                break;
            }
            staying.insert(release.name.clone());
        }
        self.installed.retain(|name, _| staying.contains(name));
        self.proven.retain(|name| staying.contains(name));
    }
}

/// The machine: its record, and what it only remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Made durable before any effect.
    pub record: Record,
    /// Lost at a restart.
    pub live: Live,
}

/// What a restart may forget.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Live {
    /// The checks that are running, and what they said.
    pub watch: Option<Watched>,
    /// The number of the newest watch.
    pub watches: u64,
    /// How far a fetch is: bytes here, and in all.
    pub progress: (u64, u64),
    /// A newer assignment that was refused since the last one was accepted.
    pub refused: Option<(Generation, Failure)>,
    /// Why `current` may name another release than the active one. Until it is put right, tried again with
    /// every tick, the host is not healthy: whatever runs, what a restart would run is not known.
    pub misnamed: Option<String>,
    /// Why a service of the active release may not run, although it should.
    pub idle: Option<Again>,
    /// Why the checks of the active release are not asked.
    pub unwatched: Option<Again>,
    /// Why requests may be led elsewhere than to the active release. Put right in the same way.
    pub misaimed: Option<String>,
    /// Whether [`crate::Effect::Aim`] is under way.
    pub aiming: bool,
    /// The slot for which [`crate::Effect::Retire`] is under way.
    pub retiring: Option<Slot>,
    /// A slot could not be retired; it is tried again from then on.
    pub retire_after: Option<Duration>,
    /// The number of the newest report.
    pub sequence: u64,
}

/// What could not be done and is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Again {
    /// Why.
    pub reason: String,
    /// How long it waits this time.
    pub pause: Duration,
    /// From when on, by the monotonic clock; `None` while it is being tried.
    pub at: Option<Duration>,
}

impl Again {
    pub(crate) fn is_due(&self, now: Duration) -> bool {
        self.at.is_some_and(|at| now >= at)
    }
}

/// A release whose checks are running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// Its number.
    pub number: u64,
    /// Which release.
    pub release: ReleaseName,
    /// What its checks said.
    pub judge: Judge,
}

impl Machine {
    /// A machine as it stands after its record was read.
    #[must_use]
    pub fn new(record: Record) -> Self {
        Self { record, live: Live::default() }
    }

    /// Whether requests are led to a slot, or should be.
    pub(crate) fn is_needed(&self, slot: Slot) -> bool {
        let placement = &self.record.placement;
        let should = self
            .record
            .active()
            .filter(|active| active.outline.slotted().is_some())
            .and_then(|active| placement.slot_of(&active.release.name));
        should == Some(slot) || placement.may_lead_to(slot)
    }

    /// When the machine wants a [`crate::Event::Tick`], counted from now; `None` if only events move it.
    #[must_use]
    pub fn wake_after(&self) -> Option<Duration> {
        // A quarter of a second is the grain of windows and deadlines, which are given in seconds.
        const GRAIN: Duration = Duration::from_millis(250);
        // Disks that refuse a rename do not change their mind within moments.
        const MISNAMED: Duration = Duration::from_secs(2);
        match self.record.state {
            State::Proving { .. } | State::Confirming { .. } | State::Migrating { .. } => Some(GRAIN),
            _ => {
                let waits = |again: &Option<Again>| again.as_ref().is_some_and(|again| again.at.is_some());
                let is_wrong = self.live.misnamed.is_some()
                    || self.live.misaimed.is_some()
                    || waits(&self.live.idle)
                    || waits(&self.live.unwatched);
                let retires = self.record.placement.slots.keys().any(|slot| !self.is_needed(*slot));
                (is_wrong || retires).then_some(MISNAMED)
            }
        }
    }
}
