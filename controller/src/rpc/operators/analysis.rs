//! The comparison of a held canary as operators see it.

use landfall_controller_core::analysis::report::Evidence;
use landfall_controller_core::analysis::{Finding, Outcome, Verdict};
use landfall_controller_core::comparison::Comparison;
use landfall_proto::v1 as pb;

/// The comparison of a rollout's canary.
pub(super) fn shown(comparison: &Comparison) -> pb::CanaryAnalysis {
    pb::CanaryAnalysis {
        verdict: verdict(comparison.verdict()).into(),
        windows: comparison.windows(),
        window_ms: u64::try_from(comparison.length().as_millis()).unwrap_or(u64::MAX),
        findings: comparison.report().findings.iter().map(finding).collect(),
    }
}

fn verdict(verdict: Verdict) -> pb::AnalysisVerdict {
    match verdict {
        Verdict::Pass => pb::AnalysisVerdict::Pass,
        Verdict::Fail => pb::AnalysisVerdict::Fail,
        Verdict::Inconclusive => pb::AnalysisVerdict::Inconclusive,
    }
}

fn finding(finding: &Finding) -> pb::AnalysisFinding {
    let (canary, baseline) = match finding.evidence {
        Evidence::Level { canary, baseline, .. } => (canary, baseline),
        Evidence::Events { canary, baseline } if finding.paired > 0 => {
            (Some(canary.rate()), Some(baseline.rate()))
        }
        Evidence::Events { .. } => (None, None),
    };
    pb::AnalysisFinding {
        metric: finding.metric.name.clone(),
        critical: finding.metric.critical,
        verdict: match finding.outcome {
            Outcome::Pass | Outcome::Ignored(_) => pb::AnalysisVerdict::Pass,
            Outcome::Fail | Outcome::Absent(_) => pb::AnalysisVerdict::Fail,
            Outcome::Inconclusive { .. } | Outcome::NoData(_) => pb::AnalysisVerdict::Inconclusive,
        }
        .into(),
        canary,
        baseline,
        worse_in: finding.worse_in,
        paired: finding.paired,
        p: finding.p,
        sentence: finding.to_string(),
        unit: finding.metric.unit.word().to_owned(),
    }
}
