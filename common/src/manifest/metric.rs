//! What an application shows of itself to Prometheus and is compared by: where it is asked, which of its series are
//! meant, and how much worse they may be on a canary.
//!
//! Whole numbers and texts only: this is signed with the manifest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::MetricName;
use crate::strategy::{Missing, Share};

/// So many metrics may a release have: each is one more in the rate of false alarms, and takes memory for each host.
pub const MAX_METRICS: usize = 8;

/// One figure of the application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppMetric {
    /// Unique among the metrics of a release.
    pub name: MetricName,
    /// `http://host:port/path`, with the words of [`Step`](super::Step), as of a check.
    pub url: String,
    /// What is asked of it.
    pub asked: Asked,
    /// Which way is worse.
    pub worse: Direction,
    /// So many per cent worse is as it should be.
    pub tolerance_percent: u32,
    /// Whether it decides, or is only shown.
    pub critical: bool,
    /// What it means that there are no figures.
    pub missing: Missing,
}

/// Of which kind a figure is, and of which series it is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Asked {
    /// The sum of these at a moment.
    Gauge {
        /// Which.
        of: Series,
        /// So much worse in any case, in the gauge's own unit.
        slack: Decimal,
    },
    /// By how much these grow in a second, all together.
    Counter {
        /// Which.
        of: Series,
        /// So much worse in any case, a second.
        slack: Decimal,
    },
    /// Which part of one counter another one is: failed requests of all requests.
    Ratio {
        /// What is counted.
        events: Series,
        /// Of how many.
        of: Series,
        /// So many in any case, where more is worse.
        floor: Share,
    },
    /// Which part of what a histogram saw lies above the bound of one of its buckets.
    Histogram {
        /// Which; its name without `_bucket`.
        of: Series,
        /// The bound, as `le` has it.
        above: Decimal,
        /// So many in any case, where more is worse.
        floor: Share,
    },
}

/// Series of one name, all of them or those with certain labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series {
    /// Such as `http_requests_total`.
    pub name: String,
    /// What each of these labels has to be; with a `*` at its end, how it has to begin.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Which way is worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Failures, queues.
    Higher,
    /// What is done, hits of a cache.
    Lower,
}

/// A number that is not negative, as it is written with digits and a point: what is signed has no floating point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Decimal(String);

/// A text that is no such number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a number such as \"3\" or \"0.25\"")]
pub struct NoDecimal(String);

/// Nobody writes more.
const MAX_DIGITS: usize = 15;

impl Decimal {
    /// Reads `3` or `0.25`.
    ///
    /// # Errors
    /// [`NoDecimal`] for anything else: a sign, an exponent, more than 15 digits.
    pub fn new(text: impl Into<String>) -> Result<Self, NoDecimal> {
        let text = text.into();
        let (whole, part) = text.split_once('.').unwrap_or((&text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let short = whole.len() + part.len() <= MAX_DIGITS;
        if digits(whole) && digits(part) && short { Ok(Self(text)) } else { Err(NoDecimal(text)) }
    }

    /// None of anything.
    #[must_use]
    pub fn zero() -> Self {
        Self("0".to_owned())
    }

    /// As a number.
    #[must_use]
    pub fn value(&self) -> f64 {
        self.0.parse().expect("digits with at most one point are a number")
    }
}

impl TryFrom<String> for Decimal {
    type Error = NoDecimal;
    fn try_from(text: String) -> Result<Self, NoDecimal> {
        Self::new(text)
    }
}

impl From<Decimal> for String {
    fn from(decimal: Decimal) -> String {
        decimal.0
    }
}

impl std::fmt::Display for Decimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

impl AppMetric {
    /// Whether its figures can stand beside those of another one: of the same kind, and of a histogram above the same
    /// bound. Under which name the application counts is its own affair.
    #[must_use]
    pub fn is_comparable(&self, other: &Self) -> bool {
        let alike = match (&self.asked, &other.asked) {
            (Asked::Gauge { .. }, Asked::Gauge { .. })
            | (Asked::Counter { .. }, Asked::Counter { .. })
            | (Asked::Ratio { .. }, Asked::Ratio { .. }) => true,
            (Asked::Histogram { above, .. }, Asked::Histogram { above: other, .. }) => {
                above.value().to_bits() == other.value().to_bits()
            }
            _ => false,
        };
        alike && self.name == other.name
    }
}

impl Series {
    /// Whether a text may name series, as Prometheus has it.
    #[must_use]
    pub fn is_name(text: &str) -> bool {
        is_word(text, |byte| byte == b':')
    }

    /// The same of a label.
    #[must_use]
    pub fn is_label(text: &str) -> bool {
        is_word(text, |_| false)
    }
}

fn is_word(text: &str, also: impl Fn(u8) -> bool) -> bool {
    let is_first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || also(byte);
    text.bytes().next().is_some_and(is_first)
        && text.bytes().all(|byte| is_first(byte) || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_is_read_as_it_is_written_and_no_other_number_is_one() {
        for (text, value) in [("3", 3.0), ("0.25", 0.25), ("0", 0.0), ("10.50", 10.5)] {
            let read = Decimal::new(text).unwrap();
            assert_eq!((read.value(), read.to_string().as_str()), (value, text));
        }
        for text in
            ["", "-1", "+1", "1e3", "1.", ".5", "1.2.3", "Inf", "NaN", "0x1", " 1", "1234567890.1234567"]
        {
            assert!(Decimal::new(text).is_err(), "{text:?}");
        }
        assert!(serde_json::from_str::<Decimal>("\"1e3\"").is_err(), "what is signed is checked as well");
    }

    #[test]
    fn names_of_series_and_labels_are_those_of_prometheus() {
        for name in ["http_requests_total", "job:errors:rate5m", "_x", "a1"] {
            assert!(Series::is_name(name), "{name}");
        }
        for name in ["", "1a", "http-requests", "a b", "é", "a{b=\"c\"}"] {
            assert!(!Series::is_name(name), "{name}");
        }
        assert!(Series::is_label("code") && !Series::is_label("a:b"));
    }
}
