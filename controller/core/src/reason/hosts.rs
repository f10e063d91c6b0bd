//! A few names out of many, as sentences tell them.

use std::fmt;

use landfall_common::HostId;
use serde::{Deserialize, Serialize};

/// How many hosts one sentence names; the rest is counted.
const NAMED: usize = 5;

/// A few names out of many.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hosts {
    /// The first of them.
    pub named: Vec<HostId>,
    /// How many more there are.
    pub more: usize,
}

impl Hosts {
    pub(crate) fn add(&mut self, host: &HostId) {
        if self.named.len() < NAMED {
            self.named.push(host.clone());
        } else {
            self.more += 1;
        }
    }

    /// How many in all.
    #[must_use]
    pub fn count(&self) -> usize {
        self.named.len() + self.more
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    pub(super) fn is(&self) -> &'static str {
        if self.count() == 1 { "is" } else { "are" }
    }

    pub(super) fn s_of_verb(&self) -> &'static str {
        if self.count() == 1 { "s" } else { "" }
    }

    pub(super) fn take(&self) -> &'static str {
        if self.count() == 1 { "takes" } else { "take" }
    }
}

impl fmt::Display for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, host) in self.named.iter().enumerate() {
            let last = index + 1 == self.named.len() && self.more == 0;
            let between = if index == 0 {
                ""
            } else if last {
                " and "
            } else {
                ", "
            };
            write!(f, "{between}{host}")?;
        }
        if self.more > 0 {
            write!(f, " and {} more", self.more)?;
        }
        Ok(())
    }
}

impl FromIterator<HostId> for Hosts {
    fn from_iter<I: IntoIterator<Item = HostId>>(hosts: I) -> Self {
        let mut few = Self::default();
        hosts.into_iter().for_each(|host| few.add(&host));
        few
    }
}
