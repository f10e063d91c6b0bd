//! Evidence: what CI says of a commit, such as that its tests have passed, and what an environment asks for.
//!
//! Who may say it stands in the manifest, by key, and so release signers have signed it. How a statement is signed and
//! verified is not here but in `landfall-trust`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::{AppName, EvidenceName, InvalidName};
use crate::time::Timestamp;

/// Whoever asks for more than this before a rollout has nothing left that begins.
pub const MAX_DEMANDS: usize = 16;

/// How many keys may sign the same evidence: each CI has one, and another while it is replaced.
pub const MAX_KEYS: usize = 8;

/// The largest run: JSON knows whole numbers up to here everywhere.
pub const MAX_RUN: u64 = (1 << 53) - 1;

/// The longest address at which a result can be read, in bytes.
pub const MAX_URL_BYTES: usize = 500;

macro_rules! digits {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $lengths:pat, $reason:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Checks the text and takes it.
            ///
            /// # Errors
            /// [`InvalidName`] with the rule that it breaks.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
                let text = text.into();
                let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
                if matches!(text.len(), $lengths) && text.bytes().all(is_digit) {
                    return Ok(Self(text));
                }
                Err(InvalidName { kind: $kind, text, reason: $reason })
            }

            /// All digits.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The first 12 digits, for people.
            #[must_use]
            pub fn short(&self) -> &str {
                &self.0[..12]
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl From<$type> for String {
            fn from(digits: $type) -> Self {
                digits.0
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

digits!(
    /// A commit of a Git repository by its full id: 40 hexadecimal digits, or 64 where the repository uses SHA-256.
    CommitId,
    "commit id",
    40 | 64,
    "it must be all 40 or 64 lower-case hexadecimal digits"
);
digits!(
    /// An ed25519 public key, by its 32 bytes: 64 hexadecimal digits.
    EvidenceKey,
    "public key",
    64,
    "it must be 64 lower-case hexadecimal digits, as `ctl evidence key FILE` prints them"
);

/// What an environment asks for before a rollout begins: that somebody who may has said that it passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Demand {
    /// What of, such as `tests`.
    pub name: EvidenceName,
    /// Who may say so; never empty, at most [`MAX_KEYS`].
    pub keys: BTreeSet<EvidenceKey>,
}

/// Checks what an environment asks for.
///
/// # Errors
/// A sentence that names the evidence.
pub fn check(demands: &[Demand]) -> Result<(), String> {
    if demands.len() > MAX_DEMANDS {
        return Err(format!("evidence is asked for {} times, and may be {MAX_DEMANDS} times", demands.len()));
    }
    for (at, Demand { name, keys }) in demands.iter().enumerate() {
        if keys.is_empty() || keys.len() > MAX_KEYS {
            return Err(format!("evidence {name} has {} keys, and must have 1 to {MAX_KEYS}", keys.len()));
        }
        if demands[..at].iter().any(|other| other.name == *name) {
            return Err(format!("evidence {name} is asked for twice"));
        }
    }
    Ok(())
}

/// How something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Well.
    Passed,
    /// Not well.
    Failed,
}

impl Verdict {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// What is said of a commit. All of it is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// Of which application.
    pub application: AppName,
    /// Of which commit of its repository.
    pub commit: CommitId,
    /// What was looked at, such as `tests`.
    pub name: EvidenceName,
    /// How that ended.
    pub result: Verdict,
    /// Which run of it this was; from 1 to [`MAX_RUN`]. Of one key the statement with the highest counts, and of the same
    /// run one that failed, so that an older one that is handed in again undoes nothing.
    pub run: u64,
    /// Where the result can be read, in printable ASCII; empty if nowhere, at most [`MAX_URL_BYTES`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// When it was signed, by the clock of whoever did. It orders nothing.
    pub at: Timestamp,
    /// Who says so: the key that has signed it.
    pub key: EvidenceKey,
}

impl Statement {
    /// Checks the bounds.
    ///
    /// # Errors
    /// A sentence naming the field and its value.
    pub fn check(&self) -> Result<(), String> {
        if !(1..=MAX_RUN).contains(&self.run) {
            return Err(format!("run ({}) must be from 1 to {MAX_RUN}", self.run));
        }
        if self.url.len() > MAX_URL_BYTES {
            return Err(format!("url has {} bytes, and may have {MAX_URL_BYTES}", self.url.len()));
        }
        // RFC 3986 §2: what else there is in an address is percent-encoded. So nothing in it steers a terminal.
        if !self.url.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("url has a character that no address has".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_named_in_full() {
        assert!(CommitId::new("0a".repeat(20)).is_ok());
        assert!(CommitId::new("0a".repeat(32)).is_ok());
        for text in ["", "abc1234", &"0A".repeat(20), &"0g".repeat(20), &"é".repeat(20), &"0a".repeat(21)] {
            assert!(CommitId::new(text).is_err(), "{text:?} was taken");
        }
        let error = serde_json::from_str::<EvidenceKey>("\"0a\"").unwrap_err().to_string();
        assert!(error.contains("ctl evidence key"), "{error}");
    }

    #[test]
    fn demands_have_bounds() {
        let name = |name: &str| EvidenceName::new(name).unwrap();
        let key = |byte: usize| EvidenceKey::new(format!("{byte:064x}")).unwrap();
        let demand =
            |text: &str, keys: usize| Demand { name: name(text), keys: (0..keys).map(key).collect() };
        assert_eq!(check(&[demand("tests", 1), demand("lint", MAX_KEYS)]), Ok(()));
        let many: Vec<Demand> = (0..=MAX_DEMANDS).map(|index| demand(&format!("t{index}"), 1)).collect();
        for (demands, why) in [
            (vec![demand("tests", 0)], "evidence tests has 0 keys, and must have 1 to 8"),
            (vec![demand("tests", 9)], "evidence tests has 9 keys, and must have 1 to 8"),
            (vec![demand("tests", 1), demand("tests", 2)], "evidence tests is asked for twice"),
            (many, "evidence is asked for 17 times, and may be 16 times"),
        ] {
            assert_eq!(check(&demands), Err(why.to_owned()));
        }
    }
}
