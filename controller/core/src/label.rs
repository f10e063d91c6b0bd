//! Labels of hosts: what operators say of them, and how much of it there may be.

use std::collections::BTreeMap;

use landfall_common::LabelKey;
use serde::{Deserialize, Serialize};

/// The labels of a host.
pub type Labels = BTreeMap<LabelKey, String>;

/// The most labels of a host.
pub const MAX_LABELS: usize = 64;
/// The longest value of one, in bytes.
pub const MAX_VALUE_BYTES: usize = 256;

/// Checks the value of a label.
///
/// # Errors
/// The rule that it breaks.
pub fn check(key: &str, value: &str) -> Result<(), String> {
    if value.len() > MAX_VALUE_BYTES {
        return Err(format!("label {key}: its value is longer than {MAX_VALUE_BYTES} bytes"));
    }
    if value.chars().any(char::is_control) {
        return Err(format!("label {key}: its value holds control characters"));
    }
    Ok(())
}

/// What became of one label of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelChange {
    /// Which.
    pub label: LabelKey,
    /// What it was; `None` if the host did not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What it is; `None` if the host has it no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// What differs between labels and others, by their keys.
#[must_use]
pub(crate) fn changes(from: &Labels, to: &Labels) -> Vec<LabelChange> {
    let keys: std::collections::BTreeSet<&LabelKey> = from.keys().chain(to.keys()).collect();
    let differ = keys.into_iter().filter(|key| from.get(*key) != to.get(*key));
    differ
        .map(|key| LabelChange { label: key.clone(), from: from.get(key).cloned(), to: to.get(key).cloned() })
        .collect()
}

impl std::fmt::Display for LabelChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let label = &self.label;
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => write!(f, "{label}={to} instead of {from}"),
            (None, Some(to)) => write!(f, "{label}={to}"),
            (Some(from), None) => write!(f, "{label}={from} removed"),
            (None, None) => write!(f, "{label}"),
        }
    }
}
