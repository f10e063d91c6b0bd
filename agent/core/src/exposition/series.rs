//! Series of an application: what one reading of it says of what is asked, and what two readings in a row say.
//!
//! Counters are told by how much they grew between two readings, each by itself, so that a process that has started anew
//! (a counter that is less than it was) counts from zero. A histogram is its buckets: counters that are told apart by `le`.

use std::collections::BTreeMap;

use landfall_common::manifest::metric::{Asked, Series};

use super::{Rubbish, Sample};

/// Series that one name and some labels may stand for: more are not those of one application.
pub const MAX_SERIES: usize = 1_000;

/// Counters by their labels.
pub type Counters = BTreeMap<String, f64>;

/// What one reading says of what was asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// The sum of all.
    Gauge(f64),
    /// Each of them.
    Counters(Counters),
    /// Of a ratio.
    Ratio {
        /// What is counted.
        events: Counters,
        /// Of how many.
        of: Counters,
    },
    /// Of a histogram.
    Buckets {
        /// What lies below the bound that is asked for.
        below: Counters,
        /// All that it saw.
        of: Counters,
    },
}

/// What two readings in a row say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Figure {
    /// So much.
    Level(f64),
    /// So many out of so many.
    Events {
        /// What was counted.
        events: f64,
        /// Of how many.
        of: f64,
    },
}

/// Why a reading says nothing of what is asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// It is no text of metrics.
    #[error(transparent)]
    Rubbish(#[from] Rubbish),
    /// Nothing has that name and those labels.
    #[error("there is no {0}")]
    None(String),
    /// A label that the events of a ratio are told by, and that none of that name has.
    #[error("no {name} has the label {label}")]
    NoLabel {
        /// Of the series.
        name: String,
        /// The label.
        label: String,
    },
    /// [`MAX_SERIES`].
    #[error("there are more than {MAX_SERIES} series of {0}")]
    TooMany(String),
    /// A bound that the histogram does not have.
    #[error("{name} has no bucket that ends at {bound}")]
    NoBucket {
        /// Of the histogram.
        name: String,
        /// As `le` would have it.
        bound: String,
    },
    /// `NaN`, or an infinite one.
    #[error("{0} has a value that is no number")]
    NotANumber(String),
}

/// A sample that is meant.
struct Found {
    /// Its labels without `le`.
    labels: String,
    /// `le`, where it is a number.
    bound: Option<f64>,
    value: f64,
}

fn takes(series: &Series, sample: &Sample<'_>, suffix: &str) -> bool {
    let is_named = sample.name.strip_suffix(suffix).is_some_and(|name| name == series.name);
    let fits = |(label, wanted): (&String, &String)| {
        let value = sample.labels.iter().find(|(name, _)| name == label).map_or("", |(_, value)| value);
        match wanted.strip_suffix('*') {
            Some(beginning) => value.starts_with(beginning),
            None => value == wanted,
        }
    };
    is_named && series.labels.iter().all(fits)
}

/// All samples that are meant; at least one.
fn all(series: &Series, samples: &[Sample<'_>], suffix: &str) -> Result<Vec<Found>, Missing> {
    let mut found = Vec::new();
    for sample in samples.iter().filter(|sample| takes(series, sample, suffix)) {
        if !sample.value.is_finite() {
            return Err(Missing::NotANumber(series.name.clone()));
        }
        if found.len() == MAX_SERIES {
            return Err(Missing::TooMany(series.name.clone()));
        }
        let mut labels: Vec<_> = sample.labels.iter().filter(|(name, _)| *name != "le").collect();
        labels.sort();
        let bound = sample.labels.iter().find(|(name, _)| *name == "le");
        let bound = bound.and_then(|(_, value)| value.parse().ok());
        found.push(Found { labels: format!("{labels:?}"), bound, value: sample.value });
    }
    if found.is_empty() { Err(Missing::None(series.name.clone())) } else { Ok(found) }
}

fn counters(series: &Series, samples: &[Sample<'_>]) -> Result<Counters, Missing> {
    Ok(summed(all(series, samples, "")?.iter()))
}

/// Whether, where there are samples of that name, one of them has each of the labels: by one that none of them has nothing
/// would ever be counted.
fn has_labels(series: &Series, samples: &[Sample<'_>]) -> Result<(), Missing> {
    let named = || samples.iter().filter(|sample| sample.name == series.name);
    let is_known = |label: &str| named().any(|sample| sample.labels.iter().any(|(name, _)| *name == label));
    let unknown = series.labels.keys().find(|label| named().next().is_some() && !is_known(label));
    match unknown {
        Some(label) => Err(Missing::NoLabel { name: series.name.clone(), label: label.clone() }),
        None => Ok(()),
    }
}

fn summed<'f>(all: impl Iterator<Item = &'f Found>) -> Counters {
    let mut sums = BTreeMap::new();
    all.for_each(|found| *sums.entry(found.labels.clone()).or_insert(0.0) += found.value);
    sums
}

/// Whether a sample may be of what is asked: no other has to be kept.
#[must_use]
pub fn may_be_asked(asked: &Asked, sample: &Sample<'_>) -> bool {
    match asked {
        Asked::Gauge { of, .. } | Asked::Counter { of, .. } => sample.name == of.name,
        Asked::Ratio { events, of, .. } => sample.name == events.name || sample.name == of.name,
        Asked::Histogram { of, .. } => sample.name.strip_suffix("_bucket") == Some(&of.name),
    }
}

/// What samples say of what is asked.
///
/// # Errors
/// Why they say nothing.
pub fn read(asked: &Asked, samples: &[Sample<'_>]) -> Result<Reading, Missing> {
    match asked {
        Asked::Gauge { of, .. } => {
            Ok(Reading::Gauge(all(of, samples, "")?.iter().map(|found| found.value).sum()))
        }
        Asked::Counter { of, .. } => Ok(Reading::Counters(counters(of, samples)?)),
        Asked::Ratio { events, of, .. } => {
            let of = counters(of, samples)?;
            // Where nothing has failed yet, there may be no series of failures.
            let events = match counters(events, samples) {
                Err(Missing::None(_)) => {
                    has_labels(events, samples)?;
                    Counters::new()
                }
                events => events?,
            };
            Ok(Reading::Ratio { events, of })
        }
        Asked::Histogram { of, above, .. } => {
            let buckets = all(of, samples, "_bucket")?;
            let up_to = |bound: f64, written: &str| {
                let ends_there = |found: &&Found| found.bound == Some(bound);
                let counters = summed(buckets.iter().filter(ends_there));
                let bound = written.to_owned();
                if counters.is_empty() {
                    return Err(Missing::NoBucket { name: of.name.clone(), bound });
                }
                Ok(counters)
            };
            let below = up_to(above.value(), &above.to_string())?;
            Ok(Reading::Buckets { below, of: up_to(f64::INFINITY, "+Inf")? })
        }
    }
}

impl Reading {
    /// What this one says beside the one before, which was made so many seconds ago; nothing where there is none before,
    /// and of a gauge in any case.
    #[must_use]
    pub fn since(&self, before: Option<&Self>, seconds: f64) -> Option<Figure> {
        match (before, self) {
            (_, Self::Gauge(value)) => Some(Figure::Level(*value)),
            (Some(Self::Counters(before)), Self::Counters(now)) => {
                (seconds > 0.0).then(|| Figure::Level(growth(before, now) / seconds))
            }
            (Some(Self::Ratio { events: events_before, of: of_before }), Self::Ratio { events, of }) => {
                let of = growth(of_before, of);
                Some(Figure::Events { events: growth(events_before, events).min(of), of })
            }
            (Some(Self::Buckets { below: below_before, of: of_before }), Self::Buckets { below, of }) => {
                let of = growth(of_before, of);
                Some(Figure::Events { events: (of - growth(below_before, below)).max(0.0), of })
            }
            _ => None,
        }
    }

    /// Whether anything that was counted before is less now, or gone: a process that goes on loses nothing.
    #[must_use]
    pub fn fell_from(&self, before: &Self) -> bool {
        match (before, self) {
            (Self::Counters(before), Self::Counters(now)) => fell(before, now),
            (Self::Ratio { events: events_before, of: of_before }, Self::Ratio { events, of }) => {
                fell(events_before, events) || fell(of_before, of)
            }
            (Self::Buckets { below: below_before, of: of_before }, Self::Buckets { below, of }) => {
                fell(below_before, below) || fell(of_before, of)
            }
            _ => false,
        }
    }

    /// As it would be of a process that has just started.
    #[must_use]
    pub fn at_its_start(&self) -> Self {
        match self {
            Self::Gauge(_) => Self::Gauge(0.0),
            Self::Counters(_) => Self::Counters(Counters::new()),
            Self::Ratio { .. } => Self::Ratio { events: Counters::new(), of: Counters::new() },
            Self::Buckets { .. } => Self::Buckets { below: Counters::new(), of: Counters::new() },
        }
    }
}

fn fell(before: &Counters, now: &Counters) -> bool {
    before.iter().any(|(labels, value)| now.get(labels).is_none_or(|now| now < value))
}

/// By how much counters have grown, each by itself: one that is less than it was has begun anew, and one that was not
/// there has begun since.
fn growth(before: &Counters, now: &Counters) -> f64 {
    let grown = now.iter().map(|(labels, value)| match before.get(labels) {
        Some(before) if before <= value => value - before,
        _ => *value,
    });
    grown.sum::<f64>().max(0.0)
}

#[cfg(test)]
mod tests {
    use landfall_common::manifest::metric::Decimal;
    use landfall_common::strategy::Share;
    use proptest::prelude::*;

    use super::super::samples;
    use super::*;

    fn series(name: &str, labels: &[(&str, &str)]) -> Series {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Series { name: name.to_owned(), labels }
    }

    fn reading(asked: &Asked, text: &str) -> Result<Reading, Missing> {
        let all: Result<Vec<_>, _> = samples(text).collect();
        let all = all?;
        let kept: Vec<_> = all.iter().filter(|sample| may_be_asked(asked, sample)).cloned().collect();
        assert_eq!(read(asked, &kept), read(asked, &all), "what is not asked is not missed");
        read(asked, &all)
    }

    fn figure(asked: &Asked, before: &str, now: &str) -> Result<Option<Figure>, Missing> {
        Ok(reading(asked, now)?.since(Some(&reading(asked, before)?), 10.0))
    }

    #[test]
    fn a_gauge_is_the_sum_of_what_is_meant() {
        let asked = Asked::Gauge { of: series("queue", &[("kind", "mail*")]), slack: Decimal::zero() };
        let text = "queue{kind=\"mail\"} 3\nqueue{kind=\"mail-slow\"} 4\nqueue{kind=\"sms\"} 100\nqueued 7\n";
        assert_eq!(reading(&asked, text).unwrap().since(None, 10.0), Some(Figure::Level(7.0)));
        assert_eq!(figure(&asked, text, "queue 1\n"), Err(Missing::None("queue".to_owned())));
        assert_eq!(
            figure(&asked, text, "queue{kind=\"mail\"} NaN"),
            Err(Missing::NotANumber("queue".to_owned()))
        );
    }

    #[test]
    fn a_counter_that_begins_anew_counts_from_zero_and_each_by_itself() {
        let asked = Asked::Counter { of: series("done_total", &[]), slack: Decimal::zero() };
        let before = "done_total{worker=\"1\"} 100\ndone_total{worker=\"2\"} 100\n";
        let now = "done_total{worker=\"1\"} 120\ndone_total{worker=\"2\"} 5\ndone_total{worker=\"3\"} 15\n";
        assert_eq!(figure(&asked, before, now), Ok(Some(Figure::Level(4.0))));
        let first = reading(&asked, now).unwrap();
        assert_eq!(first.since(None, 10.0), None, "since when would not be known");
        assert_eq!(first.since(Some(&first.at_its_start()), 10.0), Some(Figure::Level(14.0)));
    }

    fn errors() -> Asked {
        let (events, of) = (series("requests_total", &[("code", "5*")]), series("requests_total", &[]));
        Asked::Ratio { events, of, floor: Share::percent(1) }
    }

    #[test]
    fn failures_that_have_not_come_yet_are_none_of_all_requests() {
        let before = "requests_total{code=\"200\"} 10\n";
        let well = "requests_total{code=\"200\"} 30\n";
        assert_eq!(figure(&errors(), before, well), Ok(Some(Figure::Events { events: 0.0, of: 20.0 })));
        let ill = "requests_total{code=\"200\"} 30\nrequests_total{code=\"503\"} 5\n";
        assert_eq!(figure(&errors(), before, ill), Ok(Some(Figure::Events { events: 5.0, of: 25.0 })));
        assert_eq!(figure(&errors(), before, before), Ok(Some(Figure::Events { events: 0.0, of: 0.0 })));
        let other = Err(Missing::None("requests_total".to_owned()));
        assert_eq!(figure(&errors(), before, "up 1\n"), other, "no requests at all are no zero");
    }

    #[test]
    fn events_by_a_label_that_no_series_has_are_missing_and_not_none() {
        let text = "requests_total{status=\"503\"} 10\n";
        let no_label = Missing::NoLabel { name: "requests_total".to_owned(), label: "code".to_owned() };
        assert_eq!(no_label.to_string(), "no requests_total has the label code");
        assert_eq!(reading(&errors(), text), Err(no_label));
        // A counter of its own, which is there once it has counted something, is another matter.
        let events = series("failed_total", &[("code", "5*")]);
        let asked = Asked::Ratio { events, of: series("requests_total", &[]), floor: Share::percent(1) };
        assert_eq!(figure(&asked, text, text), Ok(Some(Figure::Events { events: 0.0, of: 0.0 })));
    }

    fn histogram(counts: [u32; 4]) -> String {
        let bounds = ["0.1", "0.5", "1.0", "+Inf"].iter().zip(counts);
        bounds.map(|(bound, count)| format!("took_bucket{{le=\"{bound}\"}} {count}\n")).collect()
    }

    fn above(bound: &str) -> Asked {
        Asked::Histogram {
            of: series("took", &[]),
            above: Decimal::new(bound).unwrap(),
            floor: Share::percent(1),
        }
    }

    #[test]
    fn of_a_histogram_is_told_how_much_of_what_came_between_was_above_a_bound() {
        let (before, now) = (histogram([10, 10, 10, 10]), histogram([60, 100, 110, 110]));
        let seen = |bound: &str| figure(&above(bound), &before, &now);
        assert_eq!(seen("0.5"), Ok(Some(Figure::Events { events: 10.0, of: 100.0 })));
        assert_eq!(seen("1"), Ok(Some(Figure::Events { events: 0.0, of: 100.0 })));
        let no_bucket = Missing::NoBucket { name: "took".to_owned(), bound: "0.3".to_owned() };
        assert_eq!(seen("0.3"), Err(no_bucket));
        let no_end = "took_bucket{le=\"0.5\"} 3\n";
        let no_bucket = Missing::NoBucket { name: "took".to_owned(), bound: "+Inf".to_owned() };
        assert_eq!(figure(&above("0.5"), no_end, no_end), Err(no_bucket));
    }

    #[test]
    fn more_series_than_one_application_has_are_none() {
        let text: String = (0..=MAX_SERIES).map(|n| format!("requests_total{{path=\"/{n}\"}} 1\n")).collect();
        assert_eq!(reading(&errors(), &text), Err(Missing::TooMany("requests_total".to_owned())));
    }

    proptest! {
        /// Whatever the counters do, no figure is negative, and no more is counted than there was.
        #[test]
        fn figures_are_parts_of_what_was_counted(
            before in proptest::array::uniform4(0..1000_u32),
            now in proptest::array::uniform4(0..1000_u32),
        ) {
            if let Some(Figure::Events { events, of }) =
                figure(&above("0.5"), &histogram(before), &histogram(now)).unwrap()
            {
                prop_assert!((0.0..=of).contains(&events));
            }
        }
    }
}
