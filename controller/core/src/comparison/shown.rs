//! One figure that the application shows of itself, in one window of one host.

use landfall_common::manifest::AppMetric;
use landfall_common::manifest::metric::{Asked, Direction};

use crate::analysis::{Count, Metric, Tolerance, Unit, Worse};
use crate::observation::{MetricFigures, Shown};

use super::{on_missing, ratio};

/// What a host showed of a metric in a window.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Showing {
    readings: u32,
    levels: f64,
    count: Count,
}

impl Showing {
    pub fn add(&mut self, figures: &MetricFigures) {
        match &figures.figure {
            // What is no number would make none of all the others.
            Ok(Shown::Level(level)) if level.is_finite() => {
                self.readings += 1;
                self.levels += level;
            }
            Ok(Shown::Events { events, of }) => {
                self.count = self.count.and(Count { events: *events.min(of), of: *of });
            }
            _ => {}
        }
    }

    pub fn level(self) -> Option<f64> {
        (self.readings > 0).then(|| self.levels / f64::from(self.readings))
    }

    pub fn count(self) -> Count {
        self.count
    }
}

/// Whether its figures are levels, and not events out of so many.
pub(super) fn is_level(metric: &AppMetric) -> bool {
    matches!(metric.asked, Asked::Gauge { .. } | Asked::Counter { .. })
}

pub(super) fn metric(metric: &AppMetric) -> Metric {
    let ratio = ratio(metric.tolerance_percent);
    let (tolerance, unit) = match &metric.asked {
        Asked::Gauge { slack, .. } => (Tolerance::Level { ratio, slack: slack.value() }, Unit::Plain),
        Asked::Counter { slack, .. } => (Tolerance::Level { ratio, slack: slack.value() }, Unit::Rate),
        Asked::Ratio { floor, .. } | Asked::Histogram { floor, .. } => {
            (Tolerance::Events { ratio, floor: floor.fraction() }, Unit::Share)
        }
    };
    Metric {
        name: metric.name.to_string(),
        worse: match metric.worse {
            Direction::Higher => Worse::Higher,
            Direction::Lower => Worse::Lower,
        },
        tolerance,
        critical: metric.critical,
        on_missing: on_missing(metric.missing),
        unit,
    }
}

#[cfg(test)]
mod tests {
    use landfall_common::{Duration, MetricName};

    use super::*;

    #[test]
    fn what_is_missing_or_no_number_adds_nothing() {
        let mut seen = Showing::default();
        let mut add = |figure| {
            let (metric, period) = (MetricName::new("queue").unwrap(), Duration::from_secs(10));
            seen.add(&MetricFigures { metric, period, figure });
            (seen.level(), seen.count())
        };
        let none = (None, Count::default());
        assert_eq!(add(Err("it answered 404".to_owned())), none);
        assert_eq!(add(Ok(Shown::Level(f64::NAN))), none);
        assert_eq!(add(Ok(Shown::Level(f64::INFINITY))), none);
        assert_eq!(add(Ok(Shown::Level(0.0))), (Some(0.0), Count::default()), "zero is a figure");
        assert_eq!(add(Ok(Shown::Level(4.0))).0, Some(2.0));
        assert_eq!(add(Ok(Shown::Events { events: 9, of: 7 })).1, Count { events: 7, of: 7 });
        assert_eq!(add(Ok(Shown::Events { events: 1, of: u64::MAX })).1, Count { events: 8, of: u64::MAX });
    }
}
