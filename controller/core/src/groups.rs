//! The two groups of hosts of a blue-green rollout: one of them changes while the other gets the requests.

use std::collections::BTreeMap;
use std::fmt;

use landfall_common::strategy::Amount;
use landfall_common::{LabelKey, Timestamp};
use serde::{Deserialize, Serialize};

use crate::group::Group;
use crate::label::Labels;
use crate::observation::Host;
use crate::reason::Hosts;

/// Two values of a label, in the order in which their hosts change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Groups {
    /// The label.
    pub label: LabelKey,
    /// Its value on the hosts that change first.
    pub first: String,
    /// Its value on the hosts that get the requests meanwhile.
    pub second: String,
}

/// One of the two groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// The one that changes first.
    First,
    /// The other one.
    Second,
}

impl Side {
    pub fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }

    /// That of the hosts of a batch.
    pub fn of_batch(batch: u32) -> Self {
        if batch <= 1 { Self::First } else { Self::Second }
    }
}

impl Groups {
    /// The groups of the hosts of a place. The one that serves less changes first: requests may be led away from it
    /// already.
    ///
    /// # Errors
    /// A sentence: hosts without the label, or not two values of it.
    pub(crate) fn of(hosts: &[&Host], label: &LabelKey, now: Timestamp) -> Result<Self, String> {
        let mut values: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        let mut without = Hosts::default();
        for host in hosts {
            match host.record.labels.get(label) {
                Some(value) => {
                    let (all, serve) = values.entry(value).or_default();
                    *all += 1;
                    *serve += usize::from(host.available(now));
                }
                None => without.add(&host.record.id),
            }
        }
        if let Some(host) = without.named.first() {
            let has = if without.count() == 1 { "has" } else { "have" };
            return Err(format!(
                "strategy is blue_green by {label}, and {without} {has} no {label}; `ctl hosts label {host} {label}=…` \
                 puts it into a group"
            ));
        }
        let mut groups: Vec<_> = values.into_iter().collect();
        groups.sort_by_key(|(_, (_, serve))| *serve);
        match groups.as_slice() {
            [(first, _), (second, _)] => {
                Ok(Self { label: label.clone(), first: (*first).to_owned(), second: (*second).to_owned() })
            }
            found => {
                let told: Vec<String> =
                    found.iter().map(|(value, (all, _))| format!("{label}={value} ({all})")).collect();
                Err(format!(
                    "strategy is blue_green by {label}, which needs two groups of hosts, and there {} {}: {}",
                    if told.len() == 1 { "is" } else { "are" },
                    told.len(),
                    told.join(", ")
                ))
            }
        }
    }

    /// Where hosts with these labels belong.
    pub(crate) fn side(&self, labels: &Labels) -> Option<Side> {
        match labels.get(&self.label) {
            Some(value) if *value == self.first => Some(Side::First),
            Some(value) if *value == self.second => Some(Side::Second),
            _ => None,
        }
    }

    /// The group whose hosts are those of a batch, as people name it.
    #[must_use]
    pub fn name_of_batch(&self, batch: u32) -> String {
        self.name(Side::of_batch(batch))
    }

    /// A group as people name it, such as `color=blue`.
    pub(crate) fn name(&self, side: Side) -> String {
        let value = match side {
            Side::First => &self.first,
            Side::Second => &self.second,
        };
        Group::Of(self.label.clone(), value.clone()).to_string()
    }
}

impl fmt::Display for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, then {}", self.name(Side::First), self.name(Side::Second))
    }
}

/// How many hosts of a group must serve for requests to be led there, of so many: all but those that may be out, and
/// always one.
pub(crate) fn needed(max_unavailable: Amount, hosts: usize) -> usize {
    hosts.saturating_sub(max_unavailable.at_most(hosts)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_is_to_carry_the_requests_has_a_host_that_serves() {
        let percent = |share, hosts| needed(Amount::Percent(share), hosts);
        assert_eq!((percent(25, 10), percent(25, 2), percent(25, 1), percent(100, 7)), (8, 2, 1, 1));
        let count = |count, hosts| needed(Amount::Count(count), hosts);
        assert_eq!((count(1, 1), count(3, 3), count(2, 5), count(0, 0)), (1, 1, 3, 1));
    }
}
