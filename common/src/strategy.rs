//! How an environment wants to be rolled out: the knobs, their defaults and what must hold between them.

mod amount;
mod analysis;
mod ask;
mod calendar;
mod canary;
mod entry;
mod gate;
mod limits;
mod ranges;

use serde::{Deserialize, Serialize};

pub use amount::Amount;
pub use analysis::{
    CanaryAnalysis, CpuMetric, FailureMetric, LatencyMetric, MAX_FLOOR_PER_HOUR, MAX_TOLERANCE_PERCENT,
    MIN_WINDOW, MemoryMetric, Missing, RestartMetric, Share,
};
pub use ask::{Ask, GateUrl, InvalidGateUrl};
pub use calendar::{Calendar, Closed, Freeze, InvalidWindow, ReleaseWindow, UnknownZone, ZoneName, closed};
pub use canary::{Canary, InvalidCanary};
pub use entry::{Entry, MAX_APPROVALS};
pub use gate::{Before, Gate, MAX_GATES};
pub use limits::{Limit, Limits};
pub use ranges::{Asked, Knob, KnobKind, Range, Ranges};

use crate::assignment::MAX_HEALTHY_DEADLINE;
use crate::ids::LabelKey;
use crate::time::{Duration, duration_ms, human};

/// Nobody watches a canary for longer.
const MAX_CANARY_HOLD: Duration = Duration::from_secs(7 * 24 * 3600);

/// The longest watch: the place is held meanwhile, and a day has seen every hour of the application's.
const MAX_WATCH: Duration = Duration::from_secs(24 * 3600);

/// The order in which hosts change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StrategyKind {
    /// Batch by batch, the canary first.
    Rolling,
    /// One host after the other, the canary first.
    OneAtATime,
    /// Every host in one batch.
    AllAtOnce,
    /// One of two groups of hosts after the other, and requests go to the group that does not change: `spread` names the
    /// label whose two values are the groups.
    BlueGreen,
}

/// How hosts of a batch follow those before them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// A batch begins once all of the one before is proven.
    #[default]
    Batch,
    /// A host begins as soon as one of those before it is proven: no more than a batch change at once.
    Sliding,
}

/// Whether hosts change by the values of a label, as it is said for one rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spread {
    /// They do not.
    None,
    /// By the values of this one.
    Label(LabelKey),
}

impl Spread {
    /// The word for no label.
    pub const NONE: &str = "none";

    /// The label, if there is one.
    #[must_use]
    pub fn label(&self) -> Option<LabelKey> {
        match self {
            Self::None => None,
            Self::Label(label) => Some(label.clone()),
        }
    }
}

impl Window {
    /// Both of them, with the words by which the definition and `ctl` know them.
    pub const ALL: [(Self, &str); 2] = [(Self::Batch, "batch"), (Self::Sliding, "sliding")];

    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(window, _)| *window == self).map_or("", |(_, word)| word)
    }

    /// The one of this name.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == word).map(|(window, _)| *window)
    }

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
    fn is_batch(&self) -> bool {
        *self == Self::Batch
    }
}

impl StrategyKind {
    /// All of them, with the words by which the definition and `ctl` know them.
    pub const ALL: [(Self, &str); 4] = [
        (Self::Rolling, "rolling"),
        (Self::OneAtATime, "one_at_a_time"),
        (Self::AllAtOnce, "all_at_once"),
        (Self::BlueGreen, "blue_green"),
    ];

    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, word)| word)
    }

    /// The one of this name.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == word).map(|(kind, _)| *kind)
    }
}

/// The knobs of a rollout. The defaults are the field's (Nomad's `update` block, but one canary that goes on by
/// itself, and automatic rollback).
///
/// What came later is left out of the manifest where it has its default, so that a definition that does not
/// name it keeps its digest, and an agent that does not know it reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Strategy {
    /// The order in which hosts change.
    pub kind: StrategyKind,
    /// Which hosts form the first batch.
    pub canary: Canary,
    /// How long the canary must have been healthy without a break before the next batch; zero for no longer than
    /// any other host.
    #[serde(
        rename = "canary_hold_ms",
        with = "duration_ms",
        default,
        skip_serializing_if = "Duration::is_zero"
    )]
    pub canary_hold: Duration,
    /// Whether the next batch follows the canary by itself, or waits for somebody who promotes it.
    #[serde(default = "on", skip_serializing_if = "is_on")]
    pub auto_promote: bool,
    /// Whether the canary is compared with the hosts still on the release before, and how; the next batch waits for the
    /// verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<CanaryAnalysis>,
    /// What the release may show at most while it is watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// How large each later batch is.
    pub batch: Amount,
    /// Whether batches wait for each other as a whole.
    #[serde(default, skip_serializing_if = "Window::is_batch")]
    pub window: Window,
    /// The label by whose values hosts change, one value after the other and never two at once; of `blue_green` the one
    /// that tells the two groups apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<LabelKey>,
    /// How long after one host the next begins at the earliest; up to half of it is added.
    #[serde(rename = "stagger_ms", with = "duration_ms", default, skip_serializing_if = "Duration::is_zero")]
    pub stagger: Duration,
    /// How many hosts may be out at the same time, unknown ones included; never less than one in effect. While one of
    /// two groups gets no requests, how many of the other one.
    pub max_unavailable: Amount,
    /// How long a host must be healthy without a break before it counts.
    #[serde(rename = "min_healthy_ms", with = "duration_ms")]
    pub min_healthy: Duration,
    /// Within this a host must have been healthy for `min_healthy`, counted from its activation.
    #[serde(rename = "healthy_deadline_ms", with = "duration_ms")]
    pub healthy_deadline: Duration,
    /// Within this some host must make progress, or the rollout pauses; where nothing was touched yet it ends as failed.
    /// Stands still while paused.
    #[serde(rename = "progress_deadline_ms", with = "duration_ms")]
    pub progress_deadline: Duration,
    /// Within this the release must have been brought to the hosts, or the rollout pauses; counted from its beginning, and anew
    /// once somebody resumes it. Zero for no such end.
    #[serde(
        rename = "rollout_deadline_ms",
        with = "duration_ms",
        default,
        skip_serializing_if = "Duration::is_zero"
    )]
    pub rollout_deadline: Duration,
    /// How many hosts may fail over the whole rollout before it goes back.
    pub failure_budget: Amount,
    /// Whether a rollout over its budget goes back by itself, or pauses.
    pub auto_rollback: bool,
    /// Whether it goes back by itself also where nearly all hosts run the release already, or pauses then.
    #[serde(default, skip_serializing_if = "is_off")]
    pub late_rollback: bool,
    /// For how long the fleet is watched once every host runs the release: what fails meanwhile counts as it did
    /// before. Zero for no watch.
    #[serde(rename = "watch_ms", with = "duration_ms", default, skip_serializing_if = "Duration::is_zero")]
    pub watch: Duration,
    /// What others must have opened before certain batches begin.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<Gate>,
    /// What may be set otherwise for one rollout, and how far; all of it if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overrides: Option<Ranges>,
    /// What must hold before a rollout begins.
    #[serde(default, skip_serializing_if = "Entry::is_open")]
    pub entry: Entry,
}

fn on() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_on(flag: &bool) -> bool {
    *flag
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_off(flag: &bool) -> bool {
    !*flag
}

impl Default for Strategy {
    fn default() -> Self {
        Self {
            kind: StrategyKind::Rolling,
            canary: Canary::Count(1),
            canary_hold: Duration::ZERO,
            auto_promote: true,
            analysis: None,
            limits: None,
            batch: Amount::Percent(25),
            window: Window::Batch,
            spread: None,
            stagger: Duration::ZERO,
            max_unavailable: Amount::Percent(25),
            min_healthy: Duration::from_secs(10),
            healthy_deadline: Duration::from_secs(5 * 60),
            progress_deadline: Duration::from_secs(10 * 60),
            rollout_deadline: Duration::ZERO,
            failure_budget: Amount::Count(0),
            auto_rollback: true,
            late_rollback: false,
            watch: Duration::ZERO,
            gates: Vec::new(),
            overrides: None,
            entry: Entry::default(),
        }
    }
}

impl Strategy {
    /// Whether some hosts go first, and the others only once these are proven.
    #[must_use]
    pub fn has_canary(&self) -> bool {
        match self.kind {
            StrategyKind::Rolling | StrategyKind::OneAtATime => self.canary != Canary::Count(0),
            StrategyKind::AllAtOnce => false,
            // The first of the two groups.
            StrategyKind::BlueGreen => true,
        }
    }

    /// Whether the canary is held: for a time, until it was compared, or until somebody promotes it.
    #[must_use]
    pub fn holds_canary(&self) -> bool {
        self.has_canary() && (!self.canary_hold.is_zero() || !self.auto_promote || self.analysis.is_some())
    }

    /// How many hosts form a batch, or may be on their way back at the same time, of so many.
    #[must_use]
    pub fn batch_of(&self, hosts: usize) -> usize {
        match self.kind {
            StrategyKind::Rolling => self.batch.at_least_one(hosts),
            StrategyKind::OneAtATime => 1,
            StrategyKind::AllAtOnce | StrategyKind::BlueGreen => hosts.max(1),
        }
    }

    /// How many hosts may be in change at the same time of so many, where that is bounded beside the budget.
    #[must_use]
    pub fn at_once(&self, hosts: usize) -> Option<usize> {
        let bounded = match self.kind {
            StrategyKind::Rolling => self.window == Window::Sliding,
            StrategyKind::OneAtATime => true,
            StrategyKind::AllAtOnce | StrategyKind::BlueGreen => false,
        };
        bounded.then(|| self.batch_of(hosts))
    }

    /// The label by whose values hosts change one value after the other.
    #[must_use]
    pub fn spreads(&self) -> Option<&LabelKey> {
        self.spread.as_ref().filter(|_| self.kind != StrategyKind::AllAtOnce)
    }

    /// How far hosts are apart.
    #[must_use]
    pub fn staggers(&self) -> Duration {
        match self.kind {
            StrategyKind::Rolling | StrategyKind::OneAtATime => self.stagger,
            StrategyKind::AllAtOnce | StrategyKind::BlueGreen => Duration::ZERO,
        }
    }

    /// Checks what must hold between the knobs.
    ///
    /// # Errors
    /// A sentence naming the two knobs and their values.
    pub fn check(&self) -> Result<(), String> {
        let ordered = |short: (&str, Duration), long: (&str, Duration)| {
            if short.1 < long.1 {
                return Ok(());
            }
            let (a, b) = (human::format(short.1), human::format(long.1));
            Err(format!("{} ({a}) must be shorter than {} ({b})", short.0, long.0))
        };
        ordered(("min_healthy", self.min_healthy), ("healthy_deadline", self.healthy_deadline))?;
        if self.healthy_deadline > MAX_HEALTHY_DEADLINE {
            let (have, most) = (human::format(self.healthy_deadline), human::format(MAX_HEALTHY_DEADLINE));
            return Err(format!("healthy_deadline ({have}) must be at most {most}"));
        }
        ordered(("healthy_deadline", self.healthy_deadline), ("progress_deadline", self.progress_deadline))?;
        if !self.rollout_deadline.is_zero() {
            let whole = ("rollout_deadline", self.rollout_deadline);
            ordered(("progress_deadline", self.progress_deadline), whole)?;
        }
        for (name, amount) in [
            ("batch", self.batch),
            ("max_unavailable", self.max_unavailable),
            ("failure_budget", self.failure_budget),
        ] {
            if matches!(amount, Amount::Percent(percent) if percent > 100) {
                return Err(format!("{name} ({amount}) is more than 100%"));
            }
        }
        if matches!(self.batch, Amount::Count(0) | Amount::Percent(0)) {
            return Err("batch is 0: no host would ever change".to_owned());
        }
        if self.stagger > self.progress_deadline / 2 {
            let (have, of) = (human::format(self.stagger), human::format(self.progress_deadline));
            return Err(format!("stagger ({have}) must be at most half of progress_deadline ({of})"));
        }
        self.canary.check()?;
        gate::check(&self.gates)?;
        self.overrides.iter().try_for_each(Ranges::check)?;
        self.entry.check()?;
        if self.canary_hold > MAX_CANARY_HOLD {
            let (have, most) = (human::format(self.canary_hold), human::format(MAX_CANARY_HOLD));
            return Err(format!("canary_hold ({have}) must be at most {most}"));
        }
        if self.watch > MAX_WATCH {
            let (have, most) = (human::format(self.watch), human::format(MAX_WATCH));
            return Err(format!("watch ({have}) must be at most {most}"));
        }
        // Whoever asks for a person's word must not find that there was nothing to say it to.
        if !self.has_canary() {
            let without =
                if self.kind == StrategyKind::AllAtOnce { "strategy is all_at_once" } else { "canary is 0" };
            if !self.canary_hold.is_zero() {
                let hold = human::format(self.canary_hold);
                return Err(format!("canary_hold is {hold} and {without}: there is no canary to hold"));
            }
            if !self.auto_promote {
                return Err(format!("auto_promote is false and {without}: there is no canary to promote"));
            }
            if self.analysis.is_some() {
                return Err(format!("analysis is on and {without}: there is no canary to compare"));
            }
        }
        if self.kind == StrategyKind::BlueGreen {
            if self.spread.is_none() {
                let rule = "strategy is blue_green and spread is none: spread names the label whose two values are the \
                            groups, such as color";
                return Err(rule.to_owned());
            }
            if self.analysis.is_some() {
                let rule = "strategy is blue_green and analysis is on: no request reaches the first group before the \
                            others are led away, so that there is nothing to compare";
                return Err(rule.to_owned());
            }
        }
        self.limits.as_ref().map_or(Ok(()), Limits::check)?;
        if let Some(analysis) = &self.analysis {
            analysis.check()?;
            if analysis.deadline < self.canary_hold {
                let (deadline, hold) = (human::format(analysis.deadline), human::format(self.canary_hold));
                return Err(format!(
                    "deadline ({deadline}) of the analysis is shorter than canary_hold ({hold})"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_hold() {
        assert_eq!(Strategy::default().check(), Ok(()));
    }

    #[test]
    fn a_window_longer_than_its_deadline_is_refused() {
        let strategy = Strategy { min_healthy: Duration::from_secs(600), ..Strategy::default() };
        let sentence = strategy.check().unwrap_err();
        assert_eq!(sentence, "min_healthy (10m) must be shorter than healthy_deadline (5m)");
    }

    /// Manifests of before are signed: what they say must be read, and what has not changed written, as then.
    #[test]
    fn what_came_later_is_not_written_where_it_has_its_default() {
        let before = r#"{"auto_rollback":true,"batch":{"percent":25},"canary":1,"failure_budget":{"count":0},"healthy_deadline_ms":300000,"kind":"rolling","max_unavailable":{"percent":25},"min_healthy_ms":10000,"progress_deadline_ms":600000}"#;
        assert_eq!(serde_json::from_str::<Strategy>(before).unwrap(), Strategy::default());
        let written = crate::canonical::to_vec(&Strategy::default()).unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), before);
        let held = Strategy {
            kind: StrategyKind::OneAtATime,
            canary: "role=canary".parse().unwrap(),
            canary_hold: Duration::from_secs(600),
            auto_promote: false,
            analysis: Some(CanaryAnalysis::default()),
            window: Window::Sliding,
            spread: Some(LabelKey::new("zone").unwrap()),
            stagger: Duration::from_secs(30),
            entry: Entry {
                approvals: 2,
                calendar: Calendar {
                    zone: "Europe/Berlin".parse().unwrap(),
                    windows: vec!["Mon-Thu 09:00-17:00".parse().unwrap()],
                    freezes: vec![Freeze {
                        from: "2026-12-18T12:00".parse().unwrap(),
                        until: "2027-01-04".parse().unwrap(),
                        reason: "holidays".to_owned(),
                    }],
                },
                after: [crate::ids::EnvName::new("staging").unwrap()].into(),
                evidence: vec![crate::evidence::Demand {
                    name: crate::ids::EvidenceName::new("tests").unwrap(),
                    keys: [crate::evidence::EvidenceKey::new("0a".repeat(32)).unwrap()].into(),
                }],
            },
            ..Strategy::default()
        };
        let written = crate::canonical::to_vec(&held).unwrap();
        assert_eq!(serde_json::from_slice::<Strategy>(&written).unwrap(), held);
    }

    #[test]
    fn what_holds_a_canary_needs_one() {
        let none = Strategy { canary: Canary::Count(0), ..Strategy::default() };
        assert_eq!(none.check(), Ok(()));
        let held = Strategy { canary_hold: Duration::from_secs(60), ..none.clone() };
        insta::assert_snapshot!(held.check().unwrap_err(), @"canary_hold is 1m and canary is 0: there is no canary to hold");
        let at_once = Strategy { kind: StrategyKind::AllAtOnce, auto_promote: false, ..Strategy::default() };
        insta::assert_snapshot!(at_once.check().unwrap_err(), @"auto_promote is false and strategy is all_at_once: there is no canary to promote");
        let compared = Strategy { analysis: Some(CanaryAnalysis::default()), ..none.clone() };
        insta::assert_snapshot!(compared.check().unwrap_err(), @"analysis is on and canary is 0: there is no canary to compare");
        let hold = Duration::from_secs(3600);
        let late =
            Strategy { canary_hold: hold, analysis: Some(CanaryAnalysis::default()), ..Strategy::default() };
        insta::assert_snapshot!(late.check().unwrap_err(), @"deadline (30m) of the analysis is shorter than canary_hold (1h)");
        let slow = Strategy { stagger: Duration::from_secs(301), ..Strategy::default() };
        insta::assert_snapshot!(slow.check().unwrap_err(), @"stagger (5m1s) must be at most half of progress_deadline (10m)");
        let long = Strategy { canary_hold: Duration::from_secs(8 * 24 * 3600), ..Strategy::default() };
        insta::assert_snapshot!(long.check().unwrap_err(), @"canary_hold (8d) must be at most 7d");
    }
}
