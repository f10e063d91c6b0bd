//! How sure the analysis has to be.

use super::metric::Invalid;

/// How sure the analysis has to be, and how much it expects one window to be like the one before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// At most this share of rollouts whose canaries are no worse is taken back, over all critical metrics and all
    /// looks together.
    pub(super) alpha: f64,
    /// At most this share of rollouts whose canaries are worse passes.
    pub(super) beta: f64,
    /// How much the odds of a window may be turned by the windows before it.
    pub(super) persistence: f64,
}

/// What a side has to win before it is believed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Thresholds {
    pub fail: f64,
    pub pass: f64,
}

impl Settings {
    /// One rollout in twenty at most.
    pub const ALPHA: f64 = 0.05;
    /// The same for those that should not have passed.
    pub const BETA: f64 = 0.05;
    /// Two to one. A garbage collection, a slow query or a noisy neighbour lasts for longer than a window: then a
    /// host that was slow by chance is slow again with more than even odds. These are the odds that signs have
    /// whose correlation from one window to the next is a third (for a normal series: a correlation of a half).
    pub const PERSISTENCE: f64 = 2.0;

    /// # Errors
    /// If a rate is not between 0.0001 and 0.5: below it no canary would ever fail, above it a coin would do.
    pub fn new(alpha: f64, beta: f64) -> Result<Self, Invalid> {
        let rate = 0.0001..=0.5;
        if !rate.contains(&alpha) || !rate.contains(&beta) {
            return Err(Invalid::Rate);
        }
        Ok(Self { alpha, beta, persistence: Self::PERSISTENCE })
    }

    /// With other odds than [`Self::PERSISTENCE`].
    ///
    /// # Errors
    /// If they are not at least 1 (windows that know nothing of each other).
    pub fn with_persistence(self, odds: f64) -> Result<Self, Invalid> {
        if !(1.0..=100.0).contains(&odds) {
            return Err(Invalid::Persistence);
        }
        Ok(Self { persistence: odds, ..self })
    }

    /// What the k-th of tests that follow each other may spend of both rates, from 1: all of them together spend no more than
    /// the whole, however many they are.
    pub(super) fn spent_on(self, k: u32) -> Self {
        let part = 1.0 / (f64::from(k) * (f64::from(k) + 1.0));
        Self { alpha: self.alpha * part, beta: self.beta * part, ..self }
    }

    /// A canary is failed if any of its critical metrics fails, so each may do so wrongly with only its part of the
    /// rate (Bonferroni). It passes only if all of them pass, so each may do that with the whole rate: whichever is
    /// truly worse has to pass wrongly (Berger 1982).
    pub(super) fn thresholds(self, critical: usize) -> Thresholds {
        let metrics = u32::try_from(critical.max(1)).unwrap_or(u32::MAX);
        Thresholds { fail: f64::from(metrics) / self.alpha, pass: 1.0 / self.beta }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { alpha: Self::ALPHA, beta: Self::BETA, persistence: Self::PERSISTENCE }
    }
}

/// A probability whose odds are those of `share`, times `odds`.
pub(super) fn lengthened(share: f64, odds: f64) -> f64 {
    odds * share / (1.0 - share + odds * share)
}
