//! A newtype for every name and number, validated where it enters.
//!
//! Names become path components, file names and log fields, so each kind says which characters it
//! takes; nothing that could climb out of a directory or break a line passes.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Why a text is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {text:?} is not valid: {reason}")]
pub struct InvalidName {
    /// What the text was meant to name, for instance `release name`.
    pub kind: &'static str,
    /// The offending text.
    pub text: String,
    /// The rule that it breaks.
    pub reason: &'static str,
}

/// The characters that a kind of name takes besides ASCII letters and digits.
struct Rule {
    kind: &'static str,
    max_len: usize,
    upper: bool,
    extra: &'static [u8],
}

fn check(rule: &Rule, text: &str) -> Result<(), InvalidName> {
    let fail = |reason| Err(InvalidName { kind: rule.kind, text: text.to_owned(), reason });
    if text.is_empty() {
        return fail("it is empty");
    }
    if text.len() > rule.max_len {
        return fail("it is too long");
    }
    let first = text.as_bytes()[0];
    if !(first.is_ascii_lowercase() || first.is_ascii_digit() || (rule.upper && first.is_ascii_uppercase())) {
        return fail(if rule.upper {
            "it must begin with a letter or a digit"
        } else {
            "it must begin with a lower-case letter or a digit"
        });
    }
    let allowed = |b: u8| {
        b.is_ascii_lowercase()
            || b.is_ascii_digit()
            || (rule.upper && b.is_ascii_uppercase())
            || rule.extra.contains(&b)
    };
    if !text.bytes().all(allowed) {
        return fail(if rule.upper {
            "only ASCII letters, digits, '.', '-', '_' and '+' are allowed"
        } else {
            "only lower-case ASCII letters, digits, '-' and '_' are allowed"
        });
    }
    if text.contains("..") {
        return fail("it contains '..'");
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $rule:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        // Names are copied far more often than they are made: a copy shares the text.
        pub struct $type(Arc<str>);

        impl $type {
            /// Checks the text and takes it as a name.
            ///
            /// # Errors
            /// [`InvalidName`] with the rule that the text breaks.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
                let text = text.into();
                check(&$rule, &text)?;
                Ok(Self(text.into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.as_str().to_owned()
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

name!(
    /// An application: lower-case letters, digits, `-` and `_`, at most 63 bytes.
    AppName,
    Rule { kind: "application name", max_len: 63, upper: false, extra: b"-_" }
);
name!(
    /// An environment, such as `production`.
    EnvName,
    Rule { kind: "environment name", max_len: 63, upper: false, extra: b"-_" }
);
name!(
    /// A release, such as `v1.4`: the name of its Git tag, or given with a prebuilt artifact. Names are
    /// opaque; the order of releases is their [`ReleaseCounter`].
    ReleaseName,
    Rule { kind: "release name", max_len: 100, upper: true, extra: b".-_+" }
);
name!(
    /// A server with an agent, as it was named at enrolment.
    HostId,
    Rule { kind: "host id", max_len: 100, upper: true, extra: b".-_" }
);
name!(
    /// A person or a program that operates the fleet, as its certificate names it.
    OperatorName,
    Rule { kind: "operator name", max_len: 100, upper: true, extra: b".-_" }
);
name!(
    /// The act of bringing one release to one environment.
    RolloutId,
    Rule { kind: "rollout id", max_len: 63, upper: true, extra: b"-_" }
);
name!(
    /// Chosen by a client for one intent, so that sending it again changes nothing.
    RequestId,
    Rule { kind: "request id", max_len: 100, upper: true, extra: b"-_" }
);
name!(
    /// A service of an application.
    ServiceName,
    Rule { kind: "service name", max_len: 63, upper: false, extra: b"-_" }
);
name!(
    /// A step of preparation, migration or smoke test, or a check.
    StepName,
    Rule { kind: "step name", max_len: 63, upper: true, extra: b".-_" }
);
name!(
    /// Something that others open before a batch begins, such as `qa-signoff`.
    GateName,
    Rule { kind: "gate name", max_len: 63, upper: true, extra: b".-_" }
);
name!(
    /// What CI says something about, such as `tests`.
    EvidenceName,
    Rule { kind: "evidence name", max_len: 63, upper: true, extra: b".-_" }
);
name!(
    /// A figure that an application shows of itself, such as `errors`.
    MetricName,
    Rule { kind: "metric name", max_len: 63, upper: true, extra: b".-_" }
);
name!(
    /// The key of a host's label, such as `zone`.
    LabelKey,
    Rule { kind: "label", max_len: 63, upper: true, extra: b".-_" }
);

/// The number of an assignment. It only grows: an older one is refused, and the same number with other
/// content too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The largest that is taken from anyone, controller or host: there must always be a next one, whatever either
    /// of them says.
    pub const MAX: Self = Self(1 << 62);

    /// The generation after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The position of a release in the sequence of its application; the first is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReleaseCounter(pub u64);

impl fmt::Display for ReleaseCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_climb_out_of_a_directory_or_break_a_line() {
        for text in ["", ".", "..", "../etc", "a/b", "a\nb", "a b", "-x", "v1..2", "é", &"a".repeat(101)] {
            assert!(ReleaseName::new(text).is_err(), "{text:?} was taken");
        }
        for text in ["v1.4", "2026.11.21-3", "v1.0.0+build_5", "A"] {
            assert!(ReleaseName::new(text).is_ok(), "{text:?} was refused");
        }
        assert!(AppName::new("Tenants").is_err());
    }

    #[test]
    fn a_name_read_from_json_is_checked() {
        assert!(serde_json::from_str::<HostId>("\"web-1\"").is_ok());
        let error = serde_json::from_str::<HostId>("\"../x\"").unwrap_err().to_string();
        assert!(error.contains("host id"), "{error}");
    }
}
