//! P5, whoever is left out is left alone, and is not passed over in silence: a host that somebody has excluded or
//! cordoned is not let go for anything, and a success names it.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::assignment::Assignment;
use landfall_common::{HostId, RolloutId};
use landfall_controller_core::State;
use landfall_controller_core::command::{Action, Answer};
use landfall_controller_core::record::Place;
use landfall_controller_core::rollout::{End, Rollout, Stage, Status};

use super::{Checks, Violation};

/// So many hosts a sentence names.
const NAMED: usize = 5;

/// Who is to be left alone, by what operators were answered.
#[derive(Debug, Clone, Default)]
pub struct Alone {
    cordoned: BTreeSet<HostId>,
    /// And those that are drained, which is a cordon as well, but not by a word of its own.
    drained: BTreeSet<HostId>,
    /// And out of which rollout.
    excluded: BTreeMap<HostId, RolloutId>,
    /// Where each rollout takes place.
    places: BTreeMap<RolloutId, Place>,
}

impl Alone {
    /// Whether somebody has said so of a host.
    pub fn holds(&self, host: &HostId) -> bool {
        self.cordoned.contains(host) || self.drained.contains(host) || self.excluded.contains_key(host)
    }

    /// A word was given and is durable.
    pub fn given(&mut self, action: &Action, answer: &Answer) {
        match (action, answer) {
            (Action::Cordon { hosts, .. }, _) => self.cordoned.extend(hosts.iter().cloned()),
            (Action::Drain { hosts, .. }, _) => self.drained.extend(hosts.iter().cloned()),
            (Action::Exclude { hosts, .. }, Answer::Rollout { id }) => {
                self.excluded.extend(hosts.iter().map(|host| (host.clone(), id.clone())));
            }
            _ => {}
        }
    }

    /// What a process of the controller finds in its store: words whose answers died with the one before are among it.
    pub fn found(&mut self, state: &State) {
        // Begun by a commit whose answer died: who was excluded from another one takes part in it.
        for host in state.all_hosts() {
            let holder = state.place(&host.record.place).and_then(|place| place.holder.as_ref());
            if let Some(rollout) = holder.and_then(|holder| state.rollout(holder)) {
                self.begun(rollout);
            }
        }
        for host in state.all_hosts() {
            let id = &host.record.id;
            if let Some(drain) = &host.record.drain {
                self.drained.insert(id.clone());
                if !drain.cordoned {
                    continue;
                }
            }
            if host.record.cordon.is_some() {
                self.cordoned.insert(id.clone());
                continue;
            }
            let under_way = state.place(&host.record.place).and_then(|place| place.holder.as_ref());
            let member = |rollout| state.members(rollout).find(|member| member.host == *id);
            if let Some(rollout) =
                under_way.filter(|rollout| member(rollout).is_some_and(|m| m.left_out.is_some()))
            {
                self.excluded.insert(id.clone(), rollout.clone());
            }
        }
    }

    /// A rollout is under way: what was excluded from others takes part in it.
    fn begun(&mut self, rollout: &Rollout) {
        let begun = match &rollout.status {
            Status::Active { stage } | Status::Paused { stage, .. } => !matches!(stage, Stage::InLine { .. }),
            Status::Ended { .. } => false,
        };
        if begun {
            self.places.insert(rollout.id.clone(), rollout.place.clone());
            let places = &self.places;
            let elsewhere = |from: &RolloutId| places.get(from).is_some_and(|place| *place != rollout.place);
            self.excluded.retain(|_, from| *from == rollout.id || elsewhere(from));
        }
    }
}

impl Checks {
    /// A word is about to be taken back; whether it is, only the answer tells. What failed on these hosts until now
    /// counts no more.
    pub fn word_taken_back(&mut self, action: &Action) {
        self.drained.taken_back(action);
        self.groups.asked(action);
        let hosts: Vec<HostId> = match action {
            Action::Undrain { hosts, .. } => {
                self.alone.drained.retain(|host| !hosts.contains(host));
                hosts.iter().cloned().collect()
            }
            Action::Uncordon { hosts, .. } => {
                self.alone.cordoned.retain(|host| !hosts.contains(host));
                hosts.iter().cloned().collect()
            }
            Action::Include { hosts, .. } => {
                self.alone.excluded.retain(|host, _| !hosts.contains(host));
                hosts.iter().cloned().collect()
            }
            Action::Remove { host, .. } => {
                self.alone.cordoned.remove(host);
                self.alone.drained.remove(host);
                self.alone.excluded.remove(host);
                Vec::new()
            }
            _ => Vec::new(),
        };
        self.forgive(&hosts);
    }

    /// A host is let go.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn may_be_touched(&self, assignment: &Assignment) -> Result<(), Violation> {
        let host = &assignment.host;
        if !assignment.order.takes_out() || !self.alone.holds(host) {
            return Ok(());
        }
        let what = format!("{host} is let go for {}, and was to be left alone", assignment.release.name);
        Err(Violation::new("P5", what))
    }

    /// A rollout's record changes. A success tells which hosts of its members it has left out.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn leaves_nobody_out_in_silence<'m>(
        &mut self,
        rollout: &Rollout,
        members: impl Iterator<Item = &'m HostId>,
    ) -> Result<(), Violation> {
        self.alone.begun(rollout);
        if !matches!(rollout.status, Status::Ended { end: End::Succeeded }) {
            return Ok(());
        }
        let out: Vec<&HostId> = members.filter(|host| self.alone.holds(host)).collect();
        let told = |host: &HostId| rollout.left_out.contains(&format!("{host}, "));
        let told = out.iter().filter(|host| told(host)).count();
        if told >= out.len().min(NAMED) {
            return Ok(());
        }
        let what =
            format!("rollout {} succeeded without {out:?}, and says {:?}", rollout.id, rollout.left_out);
        Err(Violation::new("P5", what))
    }
}
