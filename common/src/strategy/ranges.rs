//! Which knobs may be set otherwise for one rollout, and how far.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Amount, Spread};
use crate::ids::LabelKey;
use crate::time::{Duration, human, optional_duration_ms};

/// A knob that can be set otherwise for one rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is the field of `Strategy` of that name, `Strategy` its `kind`")]
pub enum Knob {
    Strategy,
    Canary,
    CanaryHold,
    AutoPromote,
    Analysis,
    Batch,
    Window,
    Spread,
    Stagger,
    MaxUnavailable,
    MinHealthy,
    HealthyDeadline,
    ProgressDeadline,
    RolloutDeadline,
    FailureBudget,
    AutoRollback,
    Watch,
}

/// What a knob is set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KnobKind {
    /// So many hosts, or a share of them.
    Hosts,
    /// A time.
    Time,
    /// One of these words.
    Words(&'static [&'static str]),
    /// The key of a label, or `none`.
    Label,
}

impl Knob {
    /// All of them, with their names in the definition.
    pub const ALL: [(Self, &str); 17] = [
        (Self::Strategy, "strategy"),
        (Self::Canary, "canary"),
        (Self::CanaryHold, "canary_hold"),
        (Self::AutoPromote, "auto_promote"),
        (Self::Analysis, "analysis"),
        (Self::Batch, "batch"),
        (Self::Window, "window"),
        (Self::Spread, "spread"),
        (Self::Stagger, "stagger"),
        (Self::MaxUnavailable, "max_unavailable"),
        (Self::MinHealthy, "min_healthy"),
        (Self::HealthyDeadline, "healthy_deadline"),
        (Self::ProgressDeadline, "progress_deadline"),
        (Self::RolloutDeadline, "rollout_deadline"),
        (Self::FailureBudget, "failure_budget"),
        (Self::AutoRollback, "auto_rollback"),
        (Self::Watch, "watch"),
    ];

    /// Its name in the definition.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(knob, _)| *knob == self).map_or("", |(_, word)| word)
    }

    /// What it is set to.
    #[must_use]
    pub fn kind(self) -> KnobKind {
        match self {
            Self::Canary | Self::Batch | Self::MaxUnavailable | Self::FailureBudget => KnobKind::Hosts,
            Self::CanaryHold
            | Self::Stagger
            | Self::MinHealthy
            | Self::HealthyDeadline
            | Self::ProgressDeadline
            | Self::RolloutDeadline
            | Self::Watch => KnobKind::Time,
            Self::AutoPromote | Self::Analysis | Self::AutoRollback => KnobKind::Words(&["on", "off"]),
            Self::Strategy => KnobKind::Words(&["rolling", "one_at_a_time", "all_at_once", "blue_green"]),
            Self::Window => KnobKind::Words(&["batch", "sliding"]),
            Self::Spread => KnobKind::Label,
        }
    }
}

impl fmt::Display for Knob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// How far a knob may be set otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Range {
    /// To whatever it takes.
    Any,
    /// So many hosts; both bounds are allowed, and are held against the number of hosts of the day.
    Hosts {
        /// No bound if there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min: Option<Amount>,
        /// No bound if there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<Amount>,
    },
    /// A time; both bounds are allowed.
    Time {
        /// No bound if there is none.
        #[serde(
            rename = "min_ms",
            with = "optional_duration_ms",
            default,
            skip_serializing_if = "Option::is_none"
        )]
        min: Option<Duration>,
        /// No bound if there is none.
        #[serde(
            rename = "max_ms",
            with = "optional_duration_ms",
            default,
            skip_serializing_if = "Option::is_none"
        )]
        max: Option<Duration>,
    },
    /// One of these words; at least one.
    OneOf(Vec<String>),
}

/// A value that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// So many hosts.
    Hosts(usize),
    /// A time.
    Time(Duration),
    /// A word, or the key of a label.
    Word(String),
}

impl Range {
    /// Whether a value lies in it, where there are so many hosts.
    #[must_use]
    pub fn holds(&self, asked: &Asked, hosts: usize) -> bool {
        match (self, asked) {
            (Self::Any, _) => true,
            (Self::Hosts { min, max }, Asked::Hosts(asked)) => {
                min.is_none_or(|min| *asked >= min.at_most(hosts))
                    && max.is_none_or(|max| *asked <= most(max, hosts))
            }
            (Self::Time { min, max }, Asked::Time(asked)) => {
                min.is_none_or(|min| *asked >= min) && max.is_none_or(|max| *asked <= max)
            }
            (Self::OneOf(words), Asked::Word(asked)) => words.contains(asked),
            (Self::Hosts { .. } | Self::Time { .. } | Self::OneOf(_), _) => false,
        }
    }

    /// Checks it against what the knob is set to.
    ///
    /// # Errors
    /// A sentence naming the knob.
    pub fn check(&self, knob: Knob) -> Result<(), String> {
        let kind = knob.kind();
        match (self, kind) {
            (Self::Any, _) => Ok(()),
            (Self::Hosts { min, max }, KnobKind::Hosts) => {
                let shares = [min, max].into_iter().flatten();
                let mut shares = shares.filter_map(|amount| match amount {
                    Amount::Percent(percent) => Some(*percent),
                    Amount::Count(_) => None,
                });
                if let Some(share) = shares.find(|percent| *percent > 100) {
                    return Err(format!("the range of {knob} ({share}%) is more than 100%"));
                }
                match (min, max) {
                    (None, None) => Err(format!("the range of {knob} has neither min nor max")),
                    (Some(Amount::Count(min)), Some(Amount::Count(max))) if min > max => {
                        Err(format!("the range of {knob} is empty: min ({min}) is more than max ({max})"))
                    }
                    (Some(Amount::Percent(min)), Some(Amount::Percent(max))) if min > max => {
                        Err(format!("the range of {knob} is empty: min ({min}%) is more than max ({max}%)"))
                    }
                    _ => Ok(()),
                }
            }
            (Self::Time { min, max }, KnobKind::Time) => match (min, max) {
                (None, None) => Err(format!("the range of {knob} has neither min nor max")),
                (Some(min), Some(max)) if min > max => {
                    let (min, max) = (human::format(*min), human::format(*max));
                    Err(format!("the range of {knob} is empty: min ({min}) is more than max ({max})"))
                }
                _ => Ok(()),
            },
            (Self::OneOf(words), _) if words.is_empty() => {
                Err(format!("the range of {knob} is empty; leave {knob} out and it cannot be set"))
            }
            (Self::OneOf(words), KnobKind::Words(known)) => {
                match words.iter().find(|word| !known.contains(&word.as_str())) {
                    Some(word) => Err(format!("{word:?} is nothing that {knob} can be: {}", quoted(known))),
                    None => Ok(()),
                }
            }
            (Self::OneOf(words), KnobKind::Label) => {
                let is_key = |word: &String| word == Spread::NONE || LabelKey::new(word.clone()).is_ok();
                match words.iter().find(|word| !is_key(word)) {
                    Some(word) => {
                        Err(format!("{word:?} is nothing that {knob} can be: it is no key of a label"))
                    }
                    None => Ok(()),
                }
            }
            (_, kind) => Err(format!("the range of {knob} must be {}", kind.example())),
        }
    }
}

/// A share of few hosts is one of them, or nothing would ever change.
fn most(max: Amount, hosts: usize) -> usize {
    match max {
        Amount::Count(0) | Amount::Percent(0) => 0,
        max => max.at_least_one(hosts),
    }
}

impl KnobKind {
    /// How its range is written, for a sentence.
    #[must_use]
    pub fn example(self) -> &'static str {
        match self {
            Self::Hosts => "true, or bounds such as { max = \"50%\" }",
            Self::Time => "true, or bounds such as { min = \"1m\" }",
            Self::Words(_) => "true, or a list of the words that it may be",
            Self::Label => "true, or a list of labels' keys and \"none\"",
        }
    }
}

fn quoted(words: &[impl fmt::Debug]) -> String {
    words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" or ")
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bounds = |min: Option<String>, max: Option<String>| match (min, max) {
            (Some(min), Some(max)) => format!("{min} to {max}"),
            (Some(min), None) => format!("at least {min}"),
            (None, Some(max)) => format!("at most {max}"),
            (None, None) => "anything".to_owned(),
        };
        match self {
            Self::Any => f.write_str("anything"),
            Self::Hosts { min, max } => {
                f.write_str(&bounds(min.map(|min| min.to_string()), max.map(|max| max.to_string())))
            }
            Self::Time { min, max } => f.write_str(&bounds(min.map(human::format), max.map(human::format))),
            Self::OneOf(words) => f.write_str(&quoted(words)),
        }
    }
}

/// What may be set otherwise, each knob that is named within its range and no other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ranges(BTreeMap<Knob, Range>);

impl Ranges {
    /// Of these.
    #[must_use]
    pub fn new(ranges: BTreeMap<Knob, Range>) -> Self {
        Self(ranges)
    }

    /// The range of a knob; `None` if it may not be set.
    #[must_use]
    pub fn of(&self, knob: Knob) -> Option<&Range> {
        self.0.get(&knob)
    }

    /// Those that may be set.
    pub fn knobs(&self) -> impl Iterator<Item = Knob> {
        self.0.keys().copied()
    }

    pub(super) fn check(&self) -> Result<(), String> {
        self.0.iter().try_for_each(|(knob, range)| range.check(*knob))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::{StrategyKind, Window};

    fn hosts(min: Option<Amount>, max: Option<Amount>) -> Range {
        Range::Hosts { min, max }
    }

    #[test]
    fn every_knob_has_a_name_and_the_words_of_the_others() {
        for (kind, word) in StrategyKind::ALL {
            assert_eq!(Range::OneOf(vec![word.to_owned()]).check(Knob::Strategy), Ok(()), "{kind:?}");
        }
        for (window, word) in Window::ALL {
            assert_eq!(Range::OneOf(vec![word.to_owned()]).check(Knob::Window), Ok(()), "{window:?}");
        }
        let keys: Vec<&str> = Knob::ALL.iter().map(|(_, word)| *word).collect();
        let (_, written) = crate::definition::TABLES.iter().find(|(table, _)| *table == "overrides").unwrap();
        assert_eq!(*written, keys, "each can be written");
        for (knob, word) in Knob::ALL {
            assert_eq!(serde_json::to_string(&knob).unwrap(), format!("{word:?}"));
        }
    }

    #[test]
    fn bounds_are_allowed_and_follow_the_number_of_hosts() {
        let half = hosts(None, Some(Amount::Percent(50)));
        assert!(half.holds(&Asked::Hosts(5), 10) && !half.holds(&Asked::Hosts(6), 10));
        // One host may always change, or nothing would.
        assert!(half.holds(&Asked::Hosts(1), 1));
        assert!(hosts(None, Some(Amount::Count(0))).holds(&Asked::Hosts(0), 10));
        assert!(!hosts(None, Some(Amount::Count(0))).holds(&Asked::Hosts(1), 10));
        let two = hosts(Some(Amount::Count(2)), None);
        assert!(!two.holds(&Asked::Hosts(1), 10) && two.holds(&Asked::Hosts(2), 10));
        assert!(two.holds(&Asked::Hosts(1), 1), "all there are");
        let time = Range::Time { min: Some(Duration::from_secs(60)), max: Some(Duration::from_secs(600)) };
        let holds = |seconds| time.holds(&Asked::Time(Duration::from_secs(seconds)), 10);
        assert!(!holds(59) && holds(60) && holds(600) && !holds(601));
        let word = Range::OneOf(vec!["on".to_owned()]);
        assert!(
            word.holds(&Asked::Word("on".to_owned()), 1) && !word.holds(&Asked::Word("off".to_owned()), 1)
        );
    }

    #[test]
    fn a_range_that_says_nothing_is_refused() {
        let said = |range: Range, knob| range.check(knob).unwrap_err();
        let of_times = |min: Option<u64>, max: Option<u64>| Range::Time {
            min: min.map(Duration::from_secs),
            max: max.map(Duration::from_secs),
        };
        insta::assert_snapshot!(said(hosts(None, None), Knob::Batch), @"the range of batch has neither min nor max");
        insta::assert_snapshot!(said(hosts(Some(Amount::Count(3)), Some(Amount::Count(2))), Knob::Batch), @"the range of batch is empty: min (3) is more than max (2)");
        insta::assert_snapshot!(said(hosts(None, Some(Amount::Percent(101))), Knob::Batch), @"the range of batch (101%) is more than 100%");
        insta::assert_snapshot!(said(of_times(None, None), Knob::Watch), @"the range of watch has neither min nor max");
        insta::assert_snapshot!(said(of_times(Some(9), Some(8)), Knob::Watch), @"the range of watch is empty: min (9s) is more than max (8s)");
        insta::assert_snapshot!(said(Range::OneOf(Vec::new()), Knob::Analysis), @"the range of analysis is empty; leave analysis out and it cannot be set");
        insta::assert_snapshot!(said(Range::OneOf(vec!["maybe".to_owned()]), Knob::Analysis), @r#""maybe" is nothing that analysis can be: "on" or "off""#);
        insta::assert_snapshot!(said(Range::OneOf(vec!["a zone".to_owned()]), Knob::Spread), @r#""a zone" is nothing that spread can be: it is no key of a label"#);
        insta::assert_snapshot!(said(of_times(Some(1), None), Knob::Batch), @r#"the range of batch must be true, or bounds such as { max = "50%" }"#);
    }
}
