//! How long to wait before the next attempt: exponential, with full jitter.

use landfall_common::Duration;
use rand::Rng;

/// Waits that grow with each failed attempt. With full jitter (uniform from zero to the bound), ten thousand
/// agents that lost their controller at once come back spread out (P9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    attempts: u32,
}

impl Backoff {
    /// The bound of the first wait, and that of every later one.
    #[must_use]
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, attempts: 0 }
    }

    /// The next wait.
    pub fn next_wait(&mut self, random: &mut impl Rng) -> Duration {
        let bound = self.first.saturating_mul(1 << self.attempts.min(20)).min(self.longest);
        self.attempts = self.attempts.saturating_add(1);
        bound.mul_f64(random.random::<f64>())
    }

    /// The last attempt succeeded.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;

    #[test]
    fn a_wait_is_spread_and_never_longer_than_its_bound() {
        let mut random = rand::rngs::StdRng::seed_from_u64(7);
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        let waits: Vec<_> = (0..200).map(|_| backoff.next_wait(&mut random)).collect();
        assert!(waits[0] <= Duration::from_secs(1));
        assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(60)));
        let late: Duration = waits[100..].iter().sum();
        assert!((20..40).contains(&(late.as_secs() / 100)), "the mean wait is {:?}", late / 100);
        backoff.reset();
        assert!(backoff.next_wait(&mut random) <= Duration::from_secs(1));
    }
}
