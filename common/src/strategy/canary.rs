//! Which hosts change first: so many, a share, or those with certain labels.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Amount;
use crate::ids::LabelKey;

/// Which hosts change first. A bare number in the manifest is a count, as it always was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Canary {
    /// So many; 0 for none.
    Count(u32),
    /// So many per cent of the hosts, at least one.
    Percent {
        /// 1 to 100.
        percent: u32,
    },
    /// Those that have all of these labels.
    Labels {
        /// At least one.
        labels: BTreeMap<LabelKey, String>,
    },
}

impl Canary {
    /// Whether a host with these labels is one of those that are named by their labels.
    #[must_use]
    pub fn names(&self, host: &BTreeMap<LabelKey, String>) -> bool {
        match self {
            Self::Labels { labels } => labels.iter().all(|(key, value)| host.get(key) == Some(value)),
            Self::Count(_) | Self::Percent { .. } => false,
        }
    }

    /// How many of so many hosts, where it is a number.
    #[must_use]
    pub fn count_of(&self, hosts: usize) -> usize {
        match self {
            Self::Count(count) => Amount::Count(*count).at_most(hosts),
            Self::Percent { percent } => Amount::Percent(*percent).at_least_one(hosts).min(hosts),
            Self::Labels { .. } => 0,
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Self::Percent { percent: 0 } => Err("canary is 0%: write 0 for none".to_owned()),
            Self::Percent { percent } if *percent > 100 => Err(format!("canary ({self}) is more than 100%")),
            Self::Labels { labels } if labels.is_empty() => Err("canary names no label".to_owned()),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Canary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent { percent } => write!(f, "{percent}%"),
            Self::Labels { labels } => {
                for (index, (key, value)) in labels.iter().enumerate() {
                    write!(f, "{}{key}={value}", if index == 0 { "" } else { "," })?;
                }
                Ok(())
            }
        }
    }
}

/// What is neither a number of hosts, nor a share, nor labels.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is neither a number of hosts such as 2, nor a share such as 5%, nor labels such as role=canary"
)]
pub struct InvalidCanary {
    text: String,
}

impl FromStr for Canary {
    type Err = InvalidCanary;

    fn from_str(text: &str) -> Result<Self, InvalidCanary> {
        let invalid = || InvalidCanary { text: text.to_owned() };
        let number = |digits: &str| {
            // `parse` takes a sign.
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| digits.parse::<u32>().ok()).flatten()
        };
        if let Some(digits) = text.strip_suffix('%')
            && let Some(percent) = number(digits).filter(|percent| (1..=100).contains(percent))
        {
            return Ok(Self::Percent { percent });
        }
        if let Some(count) = number(text) {
            return Ok(Self::Count(count));
        }
        let label = |pair: &str| {
            let (key, value) = pair.split_once('=')?;
            Some((LabelKey::new(key).ok()?, value.to_owned()))
        };
        let labels: Option<BTreeMap<_, _>> = text.split(',').map(label).collect();
        labels.map(|labels| Self::Labels { labels }).ok_or_else(invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_reads_back_as_it_is_written() {
        for text in ["0", "2", "5%", "100%", "role=canary", "role=canary,zone=a"] {
            let canary: Canary = text.parse().unwrap();
            assert_eq!(canary.to_string(), text);
            let json = serde_json::to_string(&canary).unwrap();
            assert_eq!(serde_json::from_str::<Canary>(&json).unwrap(), canary, "{json}");
        }
        assert_eq!(serde_json::to_string(&Canary::Count(2)).unwrap(), "2");
        for text in ["", "-1", "+1", "0%", "101%", "%", "x", "role", "=a", "1.5"] {
            assert!(text.parse::<Canary>().is_err(), "{text}");
        }
    }

    #[test]
    fn labels_name_those_that_have_all_of_them() {
        let canary: Canary = "role=canary,zone=a".parse().unwrap();
        let host = |pairs: &[(&str, &str)]| {
            let pair = |(key, value): &(&str, &str)| (LabelKey::new(*key).unwrap(), (*value).to_owned());
            pairs.iter().map(pair).collect::<BTreeMap<_, _>>()
        };
        assert!(canary.names(&host(&[("role", "canary"), ("zone", "a"), ("disk", "ssd")])));
        assert!(!canary.names(&host(&[("role", "canary")])));
        assert!(!canary.names(&host(&[("role", "canary"), ("zone", "b")])));
        assert!(!Canary::Count(1).names(&host(&[("role", "canary")])));
    }

    #[test]
    fn a_share_holds_at_least_one_host_and_a_count_no_more_than_there_are() {
        assert_eq!(Canary::Percent { percent: 5 }.count_of(3), 1);
        assert_eq!(Canary::Percent { percent: 50 }.count_of(7), 3);
        assert_eq!(Canary::Count(9).count_of(3), 3);
        assert_eq!(Canary::Percent { percent: 5 }.count_of(0), 0);
    }
}
