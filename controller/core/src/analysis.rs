//! Canary analysis: are the hosts on the new release worse than those still on the old one, over the same minutes?
//!
//! Time is cut into windows of equal length. Of each window and each metric there is one observation, however many
//! requests and hosts it has: the canaries' figure beside the baseline's. Requests of one host and hosts of one
//! moment depend on each other; what is left between the two sides of one window is as near to independent as such
//! data comes. Nothing is assumed of how the figures are distributed: a window counts as worse or as within its
//! tolerance, and failures count by the share of them that fell on the canaries.
//!
//! The test is by betting ([`wealth`]): whoever doubts that the canary is no worse starts with one coin and bets
//! before each window. If he is wrong to doubt, his wealth reaches `1 / alpha` with a probability of at most
//! `alpha`, *ever*: so the planner may look after each window and stop when it likes. Each side of the question has
//! its own: enough wealth of the doubter fails the canary, enough wealth of his opponent lets it pass, and until
//! then it is inconclusive, which is a verdict of its own.
//!
//! `docs/reference/analysis.md` has the formulae, the papers, what is assumed, and the power.
//!
//! Pure: no clock, no store, nothing of the planner's.

mod doubt;
pub mod metric;
pub mod report;
mod series;
pub mod settings;
pub mod successive;
pub mod wealth;
pub mod window;

use std::collections::BTreeMap;

pub use metric::{Invalid, Metric, OnMissing, Tolerance, Unit, Worse};
pub use report::{Finding, Outcome, Report, Verdict};
pub use settings::Settings;
pub use successive::Successive;
pub use window::{Count, Window};

use series::Series;

/// One comparison, from the moment that the canaries run the new release.
#[derive(Debug, Clone)]
pub struct Analysis {
    settings: Settings,
    series: Vec<Series>,
    windows: u32,
}

impl Analysis {
    /// Of these metrics. Those that are critical share the rate of false alarms among them.
    #[must_use]
    pub fn new(settings: Settings, metrics: Vec<Metric>) -> Self {
        let series = metrics.into_iter().map(|metric| Series::new(metric, settings.persistence)).collect();
        Self { settings, series, windows: 0 }
    }

    /// Takes in the next window: of each metric, by its name, what the hosts of both sides had. A metric that is not
    /// among them had no figures in this window.
    pub fn observe(&mut self, window: &BTreeMap<String, Window>) {
        self.windows += 1;
        for series in &mut self.series {
            series.observe(window.get(&series.metric.name));
        }
    }

    /// How it stands. May be asked after each window: that is what the test is for.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let thresholds = self.settings.thresholds(self.critical().count());
        Verdict::of(self.critical().map(|series| series.outcome(thresholds, self.windows)))
    }

    /// The verdict, and what it stands on.
    #[must_use]
    pub fn report(&self) -> Report {
        let thresholds = self.settings.thresholds(self.critical().count());
        let findings = self.series.iter().map(|series| series.finding(thresholds, self.windows));
        Report { verdict: self.verdict(), findings: findings.collect() }
    }

    /// How many windows it has seen, with figures or without.
    #[must_use]
    pub fn windows(&self) -> u32 {
        self.windows
    }

    fn critical(&self) -> impl Iterator<Item = &Series> {
        self.series.iter().filter(|series| series.metric.critical)
    }
}
