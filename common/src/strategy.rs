//! How an environment wants to be rolled out: the knobs, their defaults and what must hold between them.

use serde::{Deserialize, Serialize};

use crate::assignment::MAX_HEALTHY_DEADLINE;
use crate::time::{Duration, duration_ms, human};

/// The order in which hosts change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StrategyKind {
    /// Batch by batch, the canary first.
    Rolling,
    /// Every host in one batch.
    AllAtOnce,
}

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

/// The knobs of a rollout. The defaults are the field's (Nomad's `update` block, but one canary and
/// automatic rollback).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Strategy {
    /// The order in which hosts change.
    pub kind: StrategyKind,
    /// How many hosts form the first batch; 0 means no canary.
    pub canary: u32,
    /// How large each later batch is.
    pub batch: Amount,
    /// How many hosts may be out at the same time, unknown ones included; never less than one in effect.
    pub max_unavailable: Amount,
    /// How long a host must be healthy without a break before it counts.
    #[serde(rename = "min_healthy_ms", with = "duration_ms")]
    pub min_healthy: Duration,
    /// Within this a host must have been healthy for `min_healthy`, counted from its activation.
    #[serde(rename = "healthy_deadline_ms", with = "duration_ms")]
    pub healthy_deadline: Duration,
    /// Within this some host must make progress, or the rollout counts as failed; stands still while
    /// paused.
    #[serde(rename = "progress_deadline_ms", with = "duration_ms")]
    pub progress_deadline: Duration,
    /// How many hosts may fail over the whole rollout before it goes back.
    pub failure_budget: Amount,
    /// Whether a rollout over its budget goes back by itself, or pauses.
    pub auto_rollback: bool,
}

impl Default for Strategy {
    fn default() -> Self {
        Self {
            kind: StrategyKind::Rolling,
            canary: 1,
            batch: Amount::Percent(25),
            max_unavailable: Amount::Percent(25),
            min_healthy: Duration::from_secs(10),
            healthy_deadline: Duration::from_secs(5 * 60),
            progress_deadline: Duration::from_secs(10 * 60),
            failure_budget: Amount::Count(0),
            auto_rollback: true,
        }
    }
}

impl Strategy {
    /// Checks what must hold between the knobs.
    ///
    /// # Errors
    /// A sentence naming the two knobs and their values.
    pub fn check(&self) -> Result<(), String> {
        let ordered = |short: (&str, Duration), long: (&str, Duration)| {
            if short.1 < long.1 {
                return Ok(());
            }
            let (a, b) = (human::format(short.1), human::format(long.1));
            Err(format!("{} ({a}) must be shorter than {} ({b})", short.0, long.0))
        };
        ordered(("min_healthy", self.min_healthy), ("healthy_deadline", self.healthy_deadline))?;
        if self.healthy_deadline > MAX_HEALTHY_DEADLINE {
            let (have, most) = (human::format(self.healthy_deadline), human::format(MAX_HEALTHY_DEADLINE));
            return Err(format!("healthy_deadline ({have}) must be at most {most}"));
        }
        ordered(("healthy_deadline", self.healthy_deadline), ("progress_deadline", self.progress_deadline))?;
        for (name, amount) in [
            ("batch", self.batch),
            ("max_unavailable", self.max_unavailable),
            ("failure_budget", self.failure_budget),
        ] {
            if matches!(amount, Amount::Percent(percent) if percent > 100) {
                return Err(format!("{name} ({amount}) is more than 100%"));
            }
        }
        if matches!(self.batch, Amount::Count(0) | Amount::Percent(0)) {
            return Err("batch is 0: no host would ever change".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_hold() {
        assert_eq!(Strategy::default().check(), Ok(()));
    }

    #[test]
    fn a_window_longer_than_its_deadline_is_refused() {
        let strategy = Strategy { min_healthy: Duration::from_secs(600), ..Strategy::default() };
        let sentence = strategy.check().unwrap_err();
        assert_eq!(sentence, "min_healthy (10m) must be shorter than healthy_deadline (5m)");
    }

    #[test]
    fn a_share_is_rounded_so_that_a_bound_holds_and_a_batch_moves() {
        assert_eq!(Amount::Percent(25).at_most(7), 1);
        assert_eq!(Amount::Percent(25).at_most(3), 0);
        assert_eq!(Amount::Percent(25).at_least_one(3), 1);
        assert_eq!(Amount::Count(9).at_most(3), 3);
    }
}
