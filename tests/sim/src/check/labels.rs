//! P5, labels decide who goes first, as they are and not as they were: what operators were told of hosts, kept apart from
//! what the controller makes of it.

use std::collections::BTreeMap;

use landfall_common::assignment::Assignment;
use landfall_common::strategy::Canary;
use landfall_common::{HostId, LabelKey};
use landfall_controller_core::State;
use landfall_controller_core::command::Action;
use landfall_controller_core::rollout::{Rollout, Stage};

use super::{Checks, Violation};

/// What was said of hosts.
#[derive(Debug, Default)]
pub struct Labels(BTreeMap<HostId, BTreeMap<LabelKey, String>>);

impl Labels {
    /// A word was given and is durable.
    pub fn given(&mut self, action: &Action) {
        match action {
            Action::Enrol { host, .. } => {
                self.0.insert(host.id.clone(), host.labels.clone());
            }
            Action::Label { hosts, set, removed, .. } => {
                for host in hosts {
                    let labels = self.0.entry(host.clone()).or_default();
                    labels.retain(|label, _| !removed.contains(label));
                    labels.extend(set.clone());
                }
            }
            _ => {}
        }
    }

    /// What a process of the controller finds in its store: words whose answers died with the one before are among it.
    pub fn found(&mut self, state: &State) {
        let all = state.all_hosts().map(|host| (host.record.id.clone(), host.record.labels.clone()));
        self.0 = all.collect();
    }

    /// The value of a label of a host.
    pub fn of(&self, host: &HostId, label: &LabelKey) -> Option<&String> {
        self.0.get(host)?.get(label)
    }
}

impl Checks {
    /// A host is let go in the first batch of a rollout whose canary is of certain labels: it has them, or was let go
    /// before.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn goes_first(&self, assignment: &Assignment, rollout: Option<&Rollout>) -> Result<(), Violation> {
        let Some(rollout) = rollout.filter(|rollout| rollout.release == assignment.release) else {
            return Ok(());
        };
        let canary = &rollout.strategy.canary;
        let is_first =
            matches!(rollout.status.stage(), Some(Stage::Running { batch: 1 } | Stage::Canary { .. }));
        let by_labels = rollout.has_canary() && matches!(canary, Canary::Labels { .. });
        if !assignment.order.takes_out() || !is_first || !by_labels {
            return Ok(());
        }
        let host = &assignment.host;
        let none = BTreeMap::new();
        let named = canary.names(self.labels.0.get(host).unwrap_or(&none));
        let before = self.sent.values().any(|sent| {
            let number = sent.generation < assignment.generation;
            sent.host == *host && sent.rollout == rollout.id && number && sent.order.takes_out()
        });
        if named || before {
            return Ok(());
        }
        let what = format!("{host} is let go with the canary of rollout {}, and is not {canary}", rollout.id);
        Err(Violation::new("P5", what))
    }
}
