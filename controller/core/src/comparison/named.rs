//! What would be compared in a rollout, named before it begins.

use landfall_common::ReleaseName;
use landfall_common::strategy::{CanaryAnalysis, Limits};

use crate::State;
use crate::analysis::Metric;
use crate::record::ReleaseRecord;

use super::{Subjects, analysis};

/// The metrics of an analysis, by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named {
    /// Those that decide.
    pub decides: Vec<String>,
    /// Those that are only shown.
    pub aside: Vec<String>,
    /// What the release shows of itself and the one before does not, or as something else.
    pub alone: Vec<String>,
}

/// What a release may show at most while it is watched: `latency of web at most 500 ms`.
#[must_use]
pub fn limits(
    state: &State,
    application: &landfall_common::AppName,
    release: &ReleaseName,
    asked: &Limits,
) -> Vec<String> {
    let subjects = Subjects::alone(state.release(application, release)).bounded();
    super::limits::metrics(&subjects, asked).iter().filter_map(Metric::limit).collect()
}

impl Named {
    /// Of a release that follows another one of the same application.
    #[must_use]
    pub fn of(
        state: &State,
        application: &landfall_common::AppName,
        release: &ReleaseName,
        before: &ReleaseName,
        asked: &CanaryAnalysis,
    ) -> Self {
        let record = |name: &ReleaseName| state.release(application, name);
        let subjects = Subjects::of(record(release), record(before)).bounded();
        let mut named = Self::default();
        let shown = |release: &ReleaseRecord| release.metrics.clone();
        for metric in record(release).map(shown).unwrap_or_default() {
            if !subjects.metrics.iter().any(|known| known.name == metric.name) {
                named.alone.push(metric.name.to_string());
            }
        }
        for metric in analysis(&subjects, asked) {
            let list = if metric.critical { &mut named.decides } else { &mut named.aside };
            list.push(metric.name);
        }
        named
    }
}
