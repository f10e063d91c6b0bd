//! How long the checks take: counted over one period, in bounded memory, and then told.

use std::collections::BTreeMap;
use std::sync::Mutex;

use landfall_common::{Duration, StepName};

/// Samples kept of one check in one period; of more, the later ones count for `count` and `max` only.
const MAX_SAMPLES: usize = 64;

/// Checks told of; a release with more is told of in part.
const MAX_CHECKS: usize = 64;

/// How one check went over a period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latency {
    /// Which.
    pub check: StepName,
    /// How often it was asked.
    pub count: u32,
    /// How often it failed.
    pub failed: u32,
    /// The median.
    pub p50: Duration,
    /// The longest.
    pub max: Duration,
}

#[derive(Debug, Default)]
struct Window {
    count: u32,
    failed: u32,
    max: Duration,
    samples: Vec<Duration>,
}

/// Collects answers until someone takes them.
#[derive(Debug, Default)]
pub struct Latencies(Mutex<BTreeMap<StepName, Window>>);

impl Latencies {
    /// One answer.
    pub fn add(&self, check: &StepName, took: Duration, failed: bool) {
        let mut windows = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if windows.len() >= MAX_CHECKS && !windows.contains_key(check) {
            return;
        }
        let window = windows.entry(check.clone()).or_default();
        window.count += 1;
        window.failed += u32::from(failed);
        window.max = window.max.max(took);
        if window.samples.len() < MAX_SAMPLES {
            window.samples.push(took);
        }
    }

    /// What there was since the last call.
    pub fn take(&self) -> Vec<Latency> {
        let windows = std::mem::take(&mut *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        let told = windows.into_iter().map(|(check, mut window)| {
            window.samples.sort_unstable();
            let p50 = window.samples.get(window.samples.len() / 2).copied().unwrap_or_default();
            Latency { check, count: window.count, failed: window.failed, p50, max: window.max }
        });
        told.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_told_once_and_its_memory_is_bounded() {
        let latencies = Latencies::default();
        let check: StepName = "http".parse().unwrap();
        for n in 1..=1000 {
            latencies.add(&check, Duration::from_millis(n), n % 10 == 0);
        }
        let told = latencies.take();
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].count, told[0].failed), (1000, 100));
        assert_eq!(told[0].max, Duration::from_secs(1));
        assert!(latencies.take().is_empty());
    }
}
