//! Operators who say other things of hosts.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::LabelKey;
use landfall_controller_core::Output;
use landfall_controller_core::command::Action;
use landfall_controller_core::log::LogEvent;
use landfall_controller_core::record::{Change, Record};

use super::World;

impl World {
    /// Of one or two hosts somebody says where they are, or that they go first.
    pub(super) fn relabel(&mut self) {
        let mut hosts = BTreeSet::new();
        for _ in 0..self.dice.between(1, 2) {
            let at = self.dice.index(self.hosts.len());
            hosts.insert(self.hosts[at].id.clone());
        }
        let key = |text: &str| LabelKey::new(text).expect("a valid key");
        let (mut set, mut removed) = (BTreeMap::new(), BTreeSet::new());
        match self.dice.between(0, 4) {
            0..=2 => {
                let zone = *self.dice.pick(&["a", "b", "c"]);
                set.insert(key("zone"), zone.to_owned());
            }
            3 => {
                removed.insert(key("zone"));
            }
            _ if self.dice.chance(500_000) => {
                set.insert(key("role"), "canary".to_owned());
            }
            _ => {
                removed.insert(key("role"));
            }
        }
        self.statistics.relabelled += 1;
        self.ask_anew(Action::Label { hosts, set, removed, reason: String::new() });
    }

    /// The planted defect: the words are logged, and everything goes by those of before.
    pub(super) fn forget_labels(&self, output: &mut Output) {
        if !output.log.iter().any(|entry| matches!(entry.event, LogEvent::HostLabelled { .. })) {
            return;
        }
        let Some(controller) = &self.controller.running else { return };
        output.changes.retain_mut(|change| match change {
            Change::Put { record: Record::Host(host) } => {
                if let Some(known) = controller.state.host(&host.id) {
                    host.labels.clone_from(&known.record.labels);
                }
                true
            }
            Change::Put { record: Record::Member(_) | Record::Rollout(_) } => false,
            _ => true,
        });
    }
}
