//! How many hosts: a number of them, or a share.

use serde::{Deserialize, Serialize};

/// A number of hosts, or a share of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Amount {
    /// So many hosts.
    Count(u32),
    /// So many per cent of the hosts, 0 to 100.
    Percent(u32),
}

impl Amount {
    /// At most so many of `hosts`: a share is rounded down, so that a bound is never exceeded.
    #[must_use]
    pub fn at_most(self, hosts: usize) -> usize {
        match self {
            Self::Count(count) => (count as usize).min(hosts),
            Self::Percent(percent) => hosts * percent.min(100) as usize / 100,
        }
    }

    /// At least one of `hosts`, else as [`Amount::at_most`]: a batch that could hold no host would
    /// never end.
    #[must_use]
    pub fn at_least_one(self, hosts: usize) -> usize {
        self.at_most(hosts).max(1)
    }
}

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_so_that_a_bound_holds_and_a_batch_moves() {
        assert_eq!(Amount::Percent(25).at_most(7), 1);
        assert_eq!(Amount::Percent(25).at_most(3), 0);
        assert_eq!(Amount::Percent(25).at_least_one(3), 1);
        assert_eq!(Amount::Count(9).at_most(3), 3);
    }
}
