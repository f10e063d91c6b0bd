//! The group that a host belongs to, by the value of a label: hosts of two groups never change at the same time.

use std::fmt;

use landfall_common::LabelKey;

use crate::label::Labels;
use crate::observation::Host;

/// A value of a label, or its absence, which comes last and is a group of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    /// Hosts with this value.
    Of(LabelKey, String),
    /// Hosts without the label.
    Without(LabelKey),
}

impl Group {
    /// Where a host belongs now: labels may change while a rollout is under way.
    pub fn of(host: &Host, label: &LabelKey) -> Self {
        Self::by(&host.record.labels, label)
    }

    /// Where a host with these labels belongs.
    pub fn by(labels: &Labels, label: &LabelKey) -> Self {
        match labels.get(label) {
            Some(value) => Self::Of(label.clone(), value.clone()),
            None => Self::Without(label.clone()),
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Of(label, value) => write!(f, "{label}={value}"),
            Self::Without(label) => write!(f, "no {label}"),
        }
    }
}
