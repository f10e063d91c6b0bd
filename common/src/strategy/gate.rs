//! Gates that others hold: what a rollout asks of somebody outside of it before a batch begins. They come and open it,
//! or the controller asks them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ask::Ask;
use crate::ids::GateName;
use crate::time::{Duration, duration_ms, human};

/// Whoever asks more than this of others never gets on.
pub const MAX_GATES: usize = 16;

/// Nobody waits for longer without a word: the place is held meanwhile.
const MAX_DEADLINE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Shorter, and a gate pauses a rollout before anybody could open it.
const MIN_DEADLINE: Duration = Duration::from_secs(10);

/// Something that must be open before certain batches begin. Somebody opens it, or says that it is open when the
/// controller asks: no answer never does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// Its name, one of its environment.
    pub name: GateName,
    /// Before which batches.
    #[serde(default, skip_serializing_if = "Before::is_second")]
    pub before: Before,
    /// Without an answer for so long, the rollout pauses.
    #[serde(rename = "deadline_ms", with = "duration_ms")]
    pub deadline: Duration,
    /// How the controller asks it. One that it does not ask, others open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<Ask>,
}

/// Before which batches a gate must be open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Before {
    /// The first: every host has staged, and nothing that runs was touched.
    First,
    /// The second: the first, such as the canary, is proven. Where there is only one, that one.
    #[default]
    Second,
    /// Each of them.
    Each,
}

impl Before {
    /// All of them, with the words by which the definition knows them.
    pub const ALL: [(Self, &str); 3] =
        [(Self::First, "first"), (Self::Second, "second"), (Self::Each, "each")];

    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(before, _)| *before == self).map_or("", |(_, word)| word)
    }

    /// The one of this name.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == word).map(|(before, _)| *before)
    }

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
    fn is_second(&self) -> bool {
        *self == Self::Second
    }
}

impl fmt::Display for Before {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::First => "the first batch",
            Self::Second => "the second batch",
            Self::Each => "each batch",
        })
    }
}

impl Gate {
    /// How long a gate that somebody opens goes without an answer by default: over night.
    pub const DEADLINE: Duration = Duration::from_secs(24 * 3600);

    /// Whether it must be open before a batch, of so many. There is no way around the second batch: a rollout that has
    /// one only waits before that.
    #[must_use]
    pub fn holds(&self, batch: u32, of: u32) -> bool {
        match self.before {
            Before::First => batch == 1,
            Before::Second => batch == of.clamp(1, 2),
            Before::Each => true,
        }
    }

    /// Whether it holds on while the release is watched, after the last batch. Before the first batch it says whether
    /// anything may begin at all, and nothing of how the release does.
    #[must_use]
    pub fn holds_on(&self) -> bool {
        self.before != Before::First
    }

    /// Checks the bounds.
    ///
    /// # Errors
    /// A sentence naming the gate and the value.
    pub(super) fn check(&self) -> Result<(), String> {
        if !(MIN_DEADLINE..=MAX_DEADLINE).contains(&self.deadline) {
            let (name, have) = (&self.name, human::format(self.deadline));
            return Err(format!("deadline ({have}) of gate {name} must be from 10s to 7d"));
        }
        self.ask.as_ref().map_or(Ok(()), |ask| ask.check(&self.name, self.deadline))
    }
}

/// Checks all gates of an environment.
pub(super) fn check(gates: &[Gate]) -> Result<(), String> {
    if gates.len() > MAX_GATES {
        return Err(format!("gates are {}, and must be at most {MAX_GATES}", gates.len()));
    }
    for (at, gate) in gates.iter().enumerate() {
        gate.check()?;
        if gates[..at].iter().any(|other| other.name == gate.name) {
            return Err(format!("gates has {} twice", gate.name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(name: &str, before: Before) -> Gate {
        Gate { name: GateName::new(name).unwrap(), before, deadline: Gate::DEADLINE, ask: None }
    }

    #[test]
    fn a_gate_before_the_second_batch_holds_the_only_one() {
        let held =
            |before, of| (1..=of).filter(|batch| gate("qa", before).holds(*batch, of)).collect::<Vec<_>>();
        assert_eq!(held(Before::First, 3), [1]);
        assert_eq!(held(Before::Second, 3), [2]);
        assert_eq!(held(Before::Second, 1), [1]);
        assert_eq!(held(Before::Each, 3), [1, 2, 3]);
    }

    #[test]
    fn gates_are_few_and_each_has_its_name_and_its_bounds() {
        assert_eq!(check(&[gate("qa", Before::Each), gate("slo", Before::Each)]), Ok(()));
        let twice = [gate("qa", Before::First), gate("qa", Before::Each)];
        insta::assert_snapshot!(check(&twice).unwrap_err(), @"gates has qa twice");
        let hasty = Gate { deadline: Duration::from_secs(9), ..gate("qa", Before::First) };
        insta::assert_snapshot!(check(&[hasty]).unwrap_err(), @"deadline (9s) of gate qa must be from 10s to 7d");
        let many: Vec<Gate> = (0..17).map(|n| gate(&format!("g{n}"), Before::First)).collect();
        insta::assert_snapshot!(check(&many).unwrap_err(), @"gates are 17, and must be at most 16");
    }

    #[test]
    fn what_has_its_default_is_not_written() {
        let json = serde_json::to_string(&gate("qa", Before::Second)).unwrap();
        assert_eq!(json, r#"{"name":"qa","deadline_ms":86400000}"#);
        assert_eq!(serde_json::from_str::<Gate>(&json).unwrap(), gate("qa", Before::Second));
    }

    #[test]
    fn one_that_is_asked_has_its_bounds_too() {
        let asked = |every: u64, timeout: u64, deadline: u64| {
            let url = "https://ci.example.org/gates/slo".parse().unwrap();
            let (every, timeout) = (Duration::from_secs(every), Duration::from_secs(timeout));
            let deadline = Duration::from_secs(deadline);
            Gate { ask: Some(Ask { url, every, timeout }), deadline, ..gate("slo", Before::Second) }
        };
        assert_eq!(check(&[asked(10, 5, 600)]), Ok(()));
        insta::assert_snapshot!(check(&[asked(601, 5, 6000)]).unwrap_err(), @"every (10m1s) of gate slo must be from 1s to 10m");
        insta::assert_snapshot!(check(&[asked(10, 61, 600)]).unwrap_err(), @"timeout (1m1s) of gate slo must be from 1s to 1m");
        insta::assert_snapshot!(check(&[asked(60, 5, 60)]).unwrap_err(), @"deadline (1m) of gate slo must be at least every (1m) and timeout (5s) together");
        let json = serde_json::to_string(&asked(10, 5, 600)).unwrap();
        insta::assert_snapshot!(json, @r#"{"name":"slo","deadline_ms":600000,"ask":{"url":"https://ci.example.org/gates/slo","every_ms":10000,"timeout_ms":5000}}"#);
        assert_eq!(serde_json::from_str::<Gate>(&json).unwrap(), asked(10, 5, 600));
        assert!(serde_json::from_str::<Gate>(&json.replace("https:", "ftp:")).is_err());
    }
}
