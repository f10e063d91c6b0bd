//! Where on the host a release runs and where its requests are led: two slots, and a proxy's aim.
//!
//! What may run in a slot is entered before it is started and taken out once it has ended, so that after a
//! crash at any instant the record names everything that may run. The aim is what the proxy was last *known*
//! to do; while that is in question nothing that it may lead to is ended.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::manifest::traffic::Slot;
use landfall_common::time::{Duration, duration_ms};
use landfall_common::{ReleaseName, ServiceName};
use serde::{Deserialize, Serialize};

use crate::record::Installed;

/// The slots and the aim of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// What may run in each slot.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub slots: BTreeMap<Slot, ReleaseName>,
    /// Where requests were last known to go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aim: Option<Aim>,
    /// Where they are being led, or where it failed to: from when it was begun until the aim is known again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trying: Option<Aim>,
    /// Slots that were tried before that and failed too: requests may be led there until an aim is known.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub doubted: BTreeSet<Slot>,
    /// How long the slot that served before goes on running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
}

/// Where requests go, and by whose word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aim {
    /// The release whose definition says what leads them.
    pub by: ReleaseName,
    /// Where they go.
    pub to: Target,
}

/// Where requests go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Target {
    /// To a slot.
    Slot {
        /// Which.
        slot: Slot,
        /// The release that runs there.
        release: ReleaseName,
    },
    /// To the address of the service itself, as a release without slots defines it.
    Plain {
        /// That release.
        release: ReleaseName,
    },
    /// To this host.
    Open,
    /// Not to this host.
    Nowhere,
}

/// A time on the monotonic clock of one boot. In another boot nothing of what it was about runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// When it began.
    #[serde(rename = "since_ms", with = "duration_ms")]
    pub since: Duration,
    /// When it ends.
    #[serde(rename = "until_ms", with = "duration_ms")]
    pub until: Duration,
}

impl Kept {
    /// Whether it still lasts.
    #[must_use]
    pub fn lasts(&self, now: Duration) -> bool {
        self.since <= now && now < self.until
    }
}

/// That requests are led away from this host, whatever the active release wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LedAway {
    /// Until somebody says otherwise.
    Drained,
    /// Until it is healthy.
    Returning,
}

/// What a release's traffic is, in outline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TrafficOutline {
    /// One service has two slots.
    Slots {
        /// Which.
        service: ServiceName,
        /// How long the slot that served before goes on running.
        #[serde(rename = "keep_ms", with = "duration_ms")]
        keep: Duration,
    },
    /// The host is taken out while its services are restarted.
    Gate,
}

impl Aim {
    /// The slot, if it is one.
    #[must_use]
    pub fn slot(&self) -> Option<Slot> {
        match self.to {
            Target::Slot { slot, .. } => Some(slot),
            Target::Plain { .. } | Target::Open | Target::Nowhere => None,
        }
    }
}

impl Placement {
    /// Whether there is nothing to remember.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }

    /// The slot that requests are led to.
    #[must_use]
    pub fn aimed(&self) -> Option<Slot> {
        self.aim.as_ref().and_then(Aim::slot)
    }

    /// Whether a release runs wholly, as far as it is for the slots to say: one that has slots is in one of them. Room may
    /// have been made there for another one that then failed.
    #[must_use]
    pub fn has_its_slot(&self, installed: &Installed) -> bool {
        installed.outline.slotted().is_none() || self.slot_of(&installed.release.name).is_some()
    }

    /// Whether requests may go to a slot, by all that is known.
    #[must_use]
    pub fn may_lead_to(&self, slot: Slot) -> bool {
        let trying = self.trying.as_ref().and_then(Aim::slot);
        [self.aimed(), trying].contains(&Some(slot)) || self.doubted.contains(&slot)
    }

    /// Requests are about to be led elsewhere.
    pub(crate) fn try_aim(&mut self, aim: Aim) {
        let before = self.trying.replace(aim);
        self.doubted.extend(before.as_ref().and_then(Aim::slot));
    }

    /// Requests are known to be led there, and so to nothing else.
    pub(crate) fn know_aim(&mut self, aim: Aim) {
        self.aim = Some(aim);
        self.trying = None;
        self.doubted.clear();
    }

    /// Where requests may go: where they are being led, or else where they go.
    pub(crate) fn last(&self) -> Option<&Aim> {
        self.trying.as_ref().or(self.aim.as_ref())
    }

    /// The slot in which a release runs: the one that requests are led to, if it runs in both.
    #[must_use]
    pub fn slot_of(&self, release: &ReleaseName) -> Option<Slot> {
        let runs = |slot: &Slot| self.slots.get(slot) == Some(release);
        self.aimed().filter(runs).or_else(|| [Slot::Blue, Slot::Green].into_iter().find(runs))
    }

    /// The releases that something of this still needs.
    pub(crate) fn releases(&self) -> impl Iterator<Item = &ReleaseName> {
        self.slots.values().chain(self.aim.iter().chain(&self.trying).map(|aim| &aim.by))
    }
}
