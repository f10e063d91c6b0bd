//! Settings of what is configured elsewhere, and in what they differ.
//!
//! Arguments and variables may hold secrets: of these only a digest is kept, and only the name is ever told.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::{Sha256, printable};
use serde::{Deserialize, Serialize};

/// So many differences of one thing are told one by one.
const TOLD: usize = 6;

/// A longer value is not read to its end by anybody.
const LETTERS: usize = 120;

/// What a setting is set to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// It may be told.
    Plain(String),
    /// It may hold a secret; this is its digest.
    Secret(Sha256),
}

impl Value {
    /// One that may be told.
    #[must_use]
    pub fn plain(value: impl ToString) -> Self {
        Self::Plain(value.to_string())
    }

    /// One that may not.
    #[must_use]
    pub fn secret(value: &str) -> Self {
        Self::Secret(Sha256::of(value.as_bytes()))
    }
}

/// What something is set to, by the names of its settings.
pub type Settings = BTreeMap<String, Value>;

/// The settings of several things, by their names.
pub type Things = BTreeMap<String, Settings>;

/// In what these settings differ, in clauses.
pub(super) fn differences(must: &Settings, seen: &Settings) -> Vec<String> {
    differing(must, seen).into_iter().map(|name| clause(name, must.get(name), seen.get(name))).collect()
}

/// The names of the settings that differ.
pub(super) fn differing<'a>(must: &'a Settings, seen: &'a Settings) -> Vec<&'a String> {
    let names: BTreeSet<&String> = must.keys().chain(seen.keys()).collect();
    names.into_iter().filter(|name| must.get(*name) != seen.get(*name)).collect()
}

fn clause(name: &str, must: Option<&Value>, seen: Option<&Value>) -> String {
    let name = shown(name);
    match (must, seen) {
        (Some(Value::Plain(must)), Some(Value::Plain(seen))) => {
            format!("{name} is {} instead of {}", shown(seen), shown(must))
        }
        (Some(_), Some(_)) => format!("{name} is another"),
        (Some(_), None) => format!("{name} is missing"),
        (None, _) => format!("{name} was added"),
    }
}

/// Clauses as one sentence, however many there are.
pub(super) fn sentence(mut clauses: Vec<String>) -> String {
    let more = clauses.len().saturating_sub(TOLD);
    clauses.truncate(TOLD);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    clauses.join("; ") + &more
}

fn shown(text: &str) -> String {
    let line = printable::line(text);
    match line.char_indices().nth(LETTERS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
