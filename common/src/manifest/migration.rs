//! What changes a database, once per rollout: the migration before the first activation, and the contract after the last.

use serde::{Deserialize, Serialize};

use super::Step;
use crate::Sha256;
use crate::time::{Duration, duration_ms};

/// The migration of a database, and what it means for the way back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Migration {
    /// What runs; its timeout is shorter than the lease.
    pub step: Step,
    /// How long the elected host holds the right to run it, on its own monotonic clock.
    #[serde(rename = "lease_ms", with = "duration_ms")]
    pub lease: Duration,
    /// Whether the previous release can run on the schema that this one leaves behind.
    pub way_back: WayBack,
    /// Running it twice does no harm: an unknown outcome may then be retried without asking.
    pub idempotent: bool,
    /// The digest of the files that define the schema, where the definition names them. Two releases with
    /// the same digest need no migration between them, in either direction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Sha256>,
    /// The names of all migrations that the release knows, as `list_command` wrote them when it was built; at most
    /// [`MAX_MIGRATION_NAMES`] of [`MAX_MIGRATION_NAME_BYTES`]. People read them; nothing is decided by them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
}

/// An application of ten years has some hundreds of migrations.
pub const MAX_MIGRATION_NAMES: usize = 2000;
/// The longest name of a migration.
pub const MAX_MIGRATION_NAME_BYTES: usize = 200;

/// Checks the names of migrations.
///
/// # Errors
/// The rule that they break, as a sentence.
pub fn migration_names(names: &[String]) -> Result<(), String> {
    if names.len() > MAX_MIGRATION_NAMES {
        return Err(format!("{} migrations are named, at most {MAX_MIGRATION_NAMES} can be", names.len()));
    }
    let bad = |name: &&String| {
        name.is_empty() || name.len() > MAX_MIGRATION_NAME_BYTES || name.chars().any(char::is_control)
    };
    match names.iter().find(bad) {
        None => Ok(()),
        Some(name) => {
            let start: String = name.chars().take(40).collect();
            Err(format!(
                "{start:?} is not the name of a migration: 1 to {MAX_MIGRATION_NAME_BYTES} bytes, without control \
                 characters"
            ))
        }
    }
}

/// What stands between a migrated database and the release before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum WayBack {
    /// The previous release runs on the new schema (expand now, contract later): nothing to undo.
    Compatible,
    /// This step takes the schema back.
    Reversible {
        /// What runs, once, before the old release is activated.
        down: Step,
    },
    /// There is none.
    None,
}

/// What takes away from a database what only older releases need (expand now, contract later). Nothing takes it
/// back: once it may have run, no release before this one runs on that database any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    /// What runs; its timeout is shorter than the lease.
    pub step: Step,
    /// How long the elected host holds the right to run it, on its own monotonic clock.
    #[serde(rename = "lease_ms", with = "duration_ms")]
    pub lease: Duration,
    /// Running it twice does no harm: an unknown outcome may then be retried without asking.
    pub idempotent: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_in_one_line_and_there_are_not_too_many() {
        let long = "x".repeat(MAX_MIGRATION_NAME_BYTES + 1);
        for bad in ["", "a\nb", "a\u{1b}[31m", &long] {
            assert!(migration_names(&["a".to_owned(), bad.to_owned()]).is_err(), "{bad:?} was taken");
        }
        assert_eq!(migration_names(&[long[1..].to_owned()]), Ok(()));
        let many: Vec<String> = (0..=MAX_MIGRATION_NAMES).map(|number| number.to_string()).collect();
        assert_eq!(migration_names(&many[1..]), Ok(()));
        assert_eq!(migration_names(&many).unwrap_err(), "2001 migrations are named, at most 2000 can be");
    }
}
