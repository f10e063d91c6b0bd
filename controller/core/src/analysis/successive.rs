//! The same test begun again and again, for what is looked at for long: one that has seen an hour of good windows would take
//! an hour of bad ones to be convinced of the contrary.
//!
//! The k-th test has the rates `alpha / (k (k + 1))` and `beta / (k (k + 1))`. These add up to `alpha` and `beta` however many
//! tests there are, so that both hold over all of them (a union bound; Shin, Ramdas and Rinaldo 2024 add up tests that
//! begin later to find a change).

use std::collections::{BTreeMap, VecDeque};

use super::report::{Finding, Outcome, Report, Verdict};
use super::{Analysis, Metric, Settings, Window};

/// A test begins with every so many windows at the soonest: about as many as one takes that only sees what is well.
pub const EVERY: u32 = 12;

/// In the time that is planned no more than so many begin: each has less to spend than the one before.
const PLANNED: u32 = 8;

/// So many go on; an older one has had five times the windows that it takes to see what is always bad.
const KEPT: usize = 5;

/// One test after the other of the same metrics.
#[derive(Debug, Clone)]
pub struct Successive {
    settings: Settings,
    metrics: Vec<Metric>,
    running: VecDeque<Analysis>,
    every: u32,
    windows: u32,
}

impl Successive {
    /// Of these metrics, for about so many windows.
    #[must_use]
    pub fn new(settings: Settings, metrics: Vec<Metric>, planned: u32) -> Self {
        let running = [Analysis::new(settings.spent_on(1), metrics.clone())].into();
        Self { settings, metrics, running, every: EVERY.max(planned.div_ceil(PLANNED)), windows: 0 }
    }

    /// As [`Analysis::observe`].
    pub fn observe(&mut self, window: &BTreeMap<String, Window>) {
        if self.windows > 0 && self.windows.is_multiple_of(self.every) {
            let settings = self.settings.spent_on(self.windows / self.every + 1);
            self.running.push_back(Analysis::new(settings, self.metrics.clone()));
            if self.running.len() > KEPT {
                self.running.pop_front();
            }
        }
        self.windows += 1;
        // One figure of all hosts is all that any of them looks at.
        let figures: BTreeMap<String, Window> =
            window.iter().map(|(metric, window)| (metric.clone(), window.reduced())).collect();
        self.running.iter_mut().for_each(|analysis| analysis.observe(&figures));
    }

    /// How many windows all of them together have seen.
    #[must_use]
    pub fn windows(&self) -> u32 {
        self.windows
    }

    /// The verdict, as that of [`Successive::report`].
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.telling().map_or(Verdict::Inconclusive, |(verdict, _)| verdict)
    }

    /// The verdict, and what it stands on.
    #[must_use]
    pub fn report(&self) -> Report {
        let none = || Report { verdict: Verdict::Inconclusive, findings: Vec::new() };
        self.telling().map_or_else(none, |(verdict, analysis)| Report { verdict, ..analysis.report() })
    }

    /// It fails with any test that does. It passes with any that does, the oldest first, unless the newest one that has seen
    /// enough is beyond a limit in a third of its windows: what was well an hour ago says nothing of now, and a bad minute
    /// does not undo an hour.
    fn telling(&self) -> Option<(Verdict, &Analysis)> {
        let fails = self.running.iter().rev().find(|analysis| fails(analysis));
        if let Some(analysis) = fails {
            return Some((Verdict::Fail, analysis));
        }
        let newest = self.running.iter().rev().find(|analysis| analysis.windows() >= EVERY);
        let newest = newest.or(self.running.front())?;
        let passes = self.running.iter().find(|analysis| analysis.verdict() == Verdict::Pass);
        match passes.filter(|_| newest.report().findings.iter().all(is_mostly_within)) {
            Some(passes) => Some((Verdict::Pass, passes)),
            None => Some((Verdict::Inconclusive, newest)),
        }
    }
}

/// Whether a test fails by what it has seen, or for want of figures in enough windows to call that missing.
fn fails(analysis: &Analysis) -> bool {
    analysis.verdict() == Verdict::Fail
        && (analysis.windows() >= EVERY
            || analysis.report().findings.iter().any(|finding| finding.outcome == Outcome::Fail))
}

/// Whether a metric decides nothing, or is within its limit in more than two thirds of the windows.
fn is_mostly_within(finding: &Finding) -> bool {
    let is_missing = matches!(finding.outcome, Outcome::NoData(_) | Outcome::Absent(_));
    !finding.metric.critical || (!is_missing && finding.worse_in * 3 <= finding.paired)
}
