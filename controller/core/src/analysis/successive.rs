//! The same test begun again and again, for what is looked at for long: one that has seen an hour of good windows would take
//! an hour of bad ones to be convinced of the contrary.
//!
//! The k-th test has the rate `alpha / (k (k + 1))`. These add up to `alpha` however many there are, and so at most `alpha`
//! of all releases that keep within their limits are ever taken back (a union bound; Shin, Ramdas and Rinaldo 2024 add up
//! tests that begin later to find a change).

use std::collections::{BTreeMap, VecDeque};

use super::report::{Report, Verdict};
use super::{Analysis, Metric, Settings, Window};

/// A test begins with every so many windows: more than one takes that only sees what is well.
pub const EVERY: u32 = 12;

/// So many go on; an older one has had five times the windows that it takes to see what is always bad.
const KEPT: usize = 5;

/// One test after the other of the same metrics.
#[derive(Debug, Clone)]
pub struct Successive {
    settings: Settings,
    metrics: Vec<Metric>,
    running: VecDeque<Analysis>,
    windows: u32,
}

impl Successive {
    /// Of these metrics.
    #[must_use]
    pub fn new(settings: Settings, metrics: Vec<Metric>) -> Self {
        let running = [Analysis::new(settings.spent_on(1), metrics.clone())].into();
        Self { settings, metrics, running, windows: 0 }
    }

    /// As [`Analysis::observe`].
    pub fn observe(&mut self, window: &BTreeMap<String, Window>) {
        if self.windows > 0 && self.windows.is_multiple_of(EVERY) {
            let settings = self.settings.spent_on(self.windows / EVERY + 1);
            self.running.push_back(Analysis::new(settings, self.metrics.clone()));
            if self.running.len() > KEPT {
                self.running.pop_front();
            }
        }
        self.windows += 1;
        self.running.iter_mut().for_each(|analysis| analysis.observe(window));
    }

    /// The test that fails, if one does, and else the newest one that has seen enough to tell: what was well an hour ago
    /// says nothing of now.
    fn telling(&self) -> Option<&Analysis> {
        let fails = self.running.iter().rev().find(|analysis| analysis.verdict() == Verdict::Fail);
        let tells = || self.running.iter().rev().find(|analysis| analysis.windows() >= EVERY);
        fails.or_else(tells).or(self.running.front())
    }

    /// As [`Analysis::verdict`].
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.telling().map_or(Verdict::Inconclusive, Analysis::verdict)
    }

    /// The verdict, and what it stands on.
    #[must_use]
    pub fn report(&self) -> Report {
        let none = || Report { verdict: Verdict::Inconclusive, findings: Vec::new() };
        self.telling().map_or_else(none, Analysis::report)
    }

    /// How many windows all of them together have seen.
    #[must_use]
    pub fn windows(&self) -> u32 {
        self.windows
    }
}
