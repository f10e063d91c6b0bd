//! How the canary of a rollout does beside the hosts on the release before.

use landfall_common::printable::line;
use landfall_proto::v1;
use serde::Serialize;

/// What the analysis of a canary says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Analysis {
    /// On the whole.
    pub verdict: Verdict,
    /// Windows that have ended.
    pub windows: u32,
    /// How long each is, in milliseconds.
    pub window_ms: u64,
    /// Of each metric.
    pub findings: Vec<MetricFinding>,
}

/// What an analysis says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the words are those of the controller's interface, documented there")]
pub enum Verdict {
    Unknown,
    Inconclusive,
    Pass,
    Fail,
}

/// What is found of one metric.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetricFinding {
    /// Such as `latency of web`.
    pub metric: String,
    /// Whether it decides.
    pub critical: bool,
    /// Of this metric alone.
    pub verdict: Verdict,
    /// Of which unit the figures are: `seconds`, `share` (between 0 and 1), `cores`, `bytes`, `per_second` or `plain`.
    pub unit: String,
    /// The median of the windows, or of all of them together.
    pub canary: Option<f64>,
    /// The same of the hosts on the release before.
    pub baseline: Option<f64>,
    /// In how many windows the canary was worse than its tolerance.
    pub worse_in: u32,
    /// Of how many with figures of both.
    pub paired: u32,
    /// The p-value of "no worse than its tolerance", valid at all times.
    pub p: f64,
    /// All of it, for people.
    pub sentence: String,
}

impl From<v1::AnalysisVerdict> for Verdict {
    fn from(verdict: v1::AnalysisVerdict) -> Self {
        match verdict {
            v1::AnalysisVerdict::Unspecified => Self::Unknown,
            v1::AnalysisVerdict::Inconclusive => Self::Inconclusive,
            v1::AnalysisVerdict::Pass => Self::Pass,
            v1::AnalysisVerdict::Fail => Self::Fail,
        }
    }
}

impl From<v1::CanaryAnalysis> for Analysis {
    fn from(analysis: v1::CanaryAnalysis) -> Self {
        let finding = |finding: v1::AnalysisFinding| MetricFinding {
            verdict: finding.verdict().into(),
            metric: line(&finding.metric),
            critical: finding.critical,
            unit: line(&finding.unit),
            canary: finding.canary,
            baseline: finding.baseline,
            worse_in: finding.worse_in,
            paired: finding.paired,
            p: finding.p,
            sentence: line(&finding.sentence),
        };
        Self {
            verdict: analysis.verdict().into(),
            windows: analysis.windows,
            window_ms: analysis.window_ms,
            findings: analysis.findings.into_iter().map(finding).collect(),
        }
    }
}
