//! What the analysis says, metric by metric and on the whole.

use std::fmt;

use super::metric::{Metric, Tolerance, Unit, Worse};
use super::window::{Count, number};

/// On the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All critical metrics pass.
    Pass,
    /// At least one critical metric fails: the release goes back.
    Fail,
    /// Neither, so far.
    Inconclusive,
}

/// Of one metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is within its tolerance.
    Pass,
    /// It is not.
    Fail,
    /// It cannot be told yet.
    Inconclusive {
        /// How many more windows it would take, if they are as those so far; `None` if there are none yet, or no number
        /// of such windows would tell.
        more: Option<u32>,
    },
    /// Figures are missing: nothing is known.
    NoData(Missing),
    /// Figures are missing, and the definition says that they may.
    Ignored(Missing),
    /// Figures are missing, and the definition says that this is a failure.
    Absent(Missing),
}

/// Who has no figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The hosts on the new release, more often than the others.
    Canary,
    /// The hosts on the old one.
    Baseline,
    /// Both alike.
    Both,
}

/// What was seen of a metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Evidence {
    /// Of one with a figure per window.
    Level {
        /// The median over the windows.
        canary: Option<f64>,
        /// The same.
        baseline: Option<f64>,
        /// The median of the windows' ratios lies between these, with the confidence of the whole analysis; `None` if
        /// there are too few of them, or figures that are not above zero.
        times: Option<(f64, f64)>,
    },
    /// Of one that counts: all windows together.
    Events {
        /// Of the hosts on the new release.
        canary: Count,
        /// Of the others.
        baseline: Count,
    },
}

/// What is found of one metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Which.
    pub metric: Metric,
    /// What follows.
    pub outcome: Outcome,
    /// Out of what.
    pub evidence: Evidence,
    /// In how many windows the canaries were worse than the tolerance.
    pub worse_in: u32,
    /// How many windows had figures of both sides.
    pub paired: u32,
    /// Of how many in all.
    pub windows: u32,
    /// The p-value of "the canary is no worse than the tolerance", valid at all times; of this metric alone.
    pub p: f64,
    /// What whoever measures says of figures that are missing.
    pub note: Option<String>,
}

/// What the analysis says.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// On the whole.
    pub verdict: Verdict,
    /// Of each metric, in the order in which they were given.
    pub findings: Vec<Finding>,
}

impl Verdict {
    /// Of the outcomes of the critical metrics.
    pub(super) fn of(outcomes: impl Iterator<Item = Outcome>) -> Self {
        outcomes.fold(Self::Pass, |verdict, outcome| match (verdict, outcome) {
            (Self::Fail, _) | (_, Outcome::Fail | Outcome::Absent(_)) => Self::Fail,
            (Self::Pass, Outcome::Pass | Outcome::Ignored(_)) => Self::Pass,
            _ => Self::Inconclusive,
        })
    }
}

impl Report {
    /// The findings that the verdict stands on.
    pub fn reasons(&self) -> impl Iterator<Item = &Finding> {
        let verdict = self.verdict;
        self.findings.iter().filter(move |finding| {
            finding.metric.critical
                && match verdict {
                    Verdict::Pass => true,
                    Verdict::Fail => matches!(finding.outcome, Outcome::Fail | Outcome::Absent(_)),
                    Verdict::Inconclusive => {
                        matches!(finding.outcome, Outcome::Inconclusive { .. } | Outcome::NoData(_))
                    }
                }
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, finding) in self.reasons().enumerate() {
            write!(f, "{}{finding}", if at == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.metric.name)?;
        if let Some(missing) = self.missing() {
            let whose = match missing {
                Missing::Canary => " of the canary",
                Missing::Baseline => " of the hosts on the release before",
                Missing::Both => "",
            };
            write!(f, "no figures{whose} in {} of {} windows", self.windows - self.paired, self.windows)?;
            return self.noted(f);
        }
        self.seen(f)?;
        match self.outcome {
            Outcome::Inconclusive { .. } if self.paired == 0 => {
                write!(f, "not compared yet")?;
                self.noted(f)
            }
            Outcome::Inconclusive { more: Some(1) } => write!(f, "; about 1 more window would tell"),
            Outcome::Inconclusive { more: Some(more) } => write!(f, "; about {more} more windows would tell"),
            Outcome::Inconclusive { more: None } => write!(f, "; more windows like these would not tell"),
            _ => Ok(()),
        }
    }
}

impl Finding {
    /// Whose figures are missing, where some are in most windows.
    #[must_use]
    pub fn missing(&self) -> Option<Missing> {
        match self.outcome {
            Outcome::NoData(missing) | Outcome::Ignored(missing) | Outcome::Absent(missing) => Some(missing),
            _ => None,
        }
    }

    fn noted(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.note.as_ref().map_or(Ok(()), |note| write!(f, " ({note})"))
    }

    fn seen(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = self.metric.unit;
        match self.evidence {
            Evidence::Level { canary: Some(figure), .. }
                if let Tolerance::Limit { most } = self.metric.tolerance =>
            {
                let may_be = if self.metric.worse == Worse::Higher { "at most" } else { "at least" };
                let (figure, most) = (unit.write(figure), unit.write(most));
                let of = windows(self.paired);
                write!(f, "{figure}, and {may_be} {most} may be: beyond that in {} of {of}", self.worse_in)
            }
            Evidence::Level { canary: Some(canary), baseline: Some(baseline), times } => {
                write!(f, "{} on the canary against {}", unit.write(canary), unit.write(baseline))?;
                if let Some((from, to)) = times {
                    write!(f, " ({} to {} times)", Unit::Plain.write(from), Unit::Plain.write(to))?;
                }
                write!(f, ", {} in {} of {}", self.too_much(), self.worse_in, windows(self.paired))
            }
            Evidence::Events { canary, baseline } if self.paired > 0 => {
                let all = canary.and(baseline);
                write!(
                    f,
                    "{} on the canary against {} ({} of all {}, with {} of what was counted) in {}; allowed: {}",
                    unit.write(canary.rate()),
                    unit.write(baseline.rate()),
                    canary.events,
                    all.events,
                    Unit::Share.write(number(canary.of) / number(all.of)),
                    windows(self.paired),
                    self.allowed(),
                )
            }
            _ => Ok(()),
        }
    }

    /// What a window is like that is worse than the tolerance.
    fn too_much(&self) -> String {
        let unit = self.metric.unit;
        match self.metric.tolerance {
            Tolerance::Level { ratio, slack } if ratio > 1.0 && slack > 0.0 => {
                format!("beyond its tolerance of {ratio} times (at least {})", unit.write(slack))
            }
            Tolerance::Level { ratio, .. } if ratio > 1.0 => format!("beyond its tolerance of {ratio} times"),
            Tolerance::Level { slack, .. } if slack > 0.0 => {
                format!("beyond its tolerance of {}", unit.write(slack))
            }
            _ => "worse".to_owned(),
        }
    }

    /// What all windows together may have.
    fn allowed(&self) -> String {
        match (self.metric.tolerance, self.metric.worse) {
            (Tolerance::Events { ratio, floor }, Worse::Higher) if floor > 0.0 => {
                format!("{}, or {ratio} times the others'", self.metric.unit.write(floor))
            }
            (Tolerance::Events { ratio, .. }, Worse::Higher) => format!("{ratio} times the others'"),
            (Tolerance::Events { ratio, .. } | Tolerance::Level { ratio, .. }, _) => {
                format!("no less than the others' by {ratio} times")
            }
            (Tolerance::Limit { most }, _) => self.metric.unit.write(most),
        }
    }
}

fn windows(count: u32) -> String {
    match count {
        1 => "1 window".to_owned(),
        more => format!("{more} windows"),
    }
}
