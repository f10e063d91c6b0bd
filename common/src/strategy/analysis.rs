//! The canary analysis, as an environment asks for it: what is compared, how much worse a canary may be, and how sure
//! the comparison has to be. Whole numbers only: this is signed with the manifest.

mod services;

use serde::{Deserialize, Serialize};

use crate::time::{Duration, duration_ms, human};

pub use services::{CpuMetric, MAX_FLOOR_PER_HOUR, MemoryMetric, RestartMetric};

/// A window must hold figures of every host, and these come every ten seconds.
pub const MIN_WINDOW: Duration = Duration::from_secs(10);

/// A longer one would leave a bad canary where it is for too long.
const MAX_WINDOW: Duration = Duration::from_secs(600);

/// Fewer windows than these are no evidence, whatever they show.
const MIN_WINDOWS: u32 = 5;

/// Nobody waits for longer.
const MAX_DEADLINE: Duration = Duration::from_secs(7 * 24 * 3600);

/// A canary that may be a hundred times as bad is not compared.
pub const MAX_TOLERANCE_PERCENT: u32 = 10_000;

/// A canary analysis: the hosts of the canary are compared with those still on the release before, over the same
/// minutes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CanaryAnalysis {
    /// Each window is one observation.
    #[serde(rename = "window_ms", with = "duration_ms")]
    pub window: Duration,
    /// Without a verdict within this the rollout pauses; counted from when the canary is proven, or from the last
    /// resumption.
    #[serde(rename = "deadline_ms", with = "duration_ms")]
    pub deadline: Duration,
    /// Of releases that are no worse than the tolerances, at most so many are taken back.
    pub alpha: Share,
    /// Of releases that are worse, at most so many pass.
    pub beta: Share,
    /// How long the checks take.
    pub latency: LatencyMetric,
    /// How many of the checks' probes fail.
    pub failures: FailureMetric,
    /// How much of the processor the services take.
    #[serde(default, skip_serializing_if = "CpuMetric::is_default")]
    pub cpu: CpuMetric,
    /// How much memory they hold.
    #[serde(default, skip_serializing_if = "MemoryMetric::is_default")]
    pub memory: MemoryMetric,
    /// How often they start again by themselves.
    #[serde(default, skip_serializing_if = "RestartMetric::is_default")]
    pub restarts: RestartMetric,
}

/// How long a check takes, each check by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatencyMetric {
    /// So many per cent slower is as it should be.
    pub tolerance_percent: u32,
    /// And so much slower in any case: a millisecond more of three is nothing.
    #[serde(rename = "slack_ms", with = "duration_ms")]
    pub slack: Duration,
    /// Whether it decides, or is only shown.
    pub critical: bool,
    /// What it means that there are no figures.
    pub missing: Missing,
}

/// How many probes of a check fail, each check by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailureMetric {
    /// So many per cent more failures than the others have is as it should be.
    pub tolerance_percent: u32,
    /// And so many of all probes in any case.
    pub floor: Share,
    /// Whether it decides, or is only shown.
    pub critical: bool,
    /// What it means that there are no figures.
    pub missing: Missing,
}

/// What it means that a metric has no figures in most windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// Nothing is known: without other evidence of a bad release the rollout pauses at the deadline.
    Pause,
    /// Nothing: the other metrics decide.
    Ignore,
    /// The release is broken, and goes back.
    Fail,
}

impl Missing {
    /// All of them, with the words by which the definition knows them.
    pub const ALL: [(Self, &str); 3] =
        [(Self::Pause, "pause"), (Self::Ignore, "ignore"), (Self::Fail, "fail")];

    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(missing, _)| *missing == self).map_or("", |(_, word)| word)
    }

    /// The one of this name.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == word).map(|(missing, _)| *missing)
    }
}

/// A share, in hundredths of a per cent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Share(pub u32);

impl Share {
    /// Of a whole number of per cent.
    #[must_use]
    pub const fn percent(percent: u32) -> Self {
        Self(percent * 100)
    }

    /// Between 0 and 1.
    #[must_use]
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }

    /// Reads `5%` or `0.25%`; `None` for anything else, more than two decimals included.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let number = text.strip_suffix('%')?.trim();
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() > 2 {
            return None;
        }
        let hundredths = part.parse::<u32>().ok()? * if part.len() == 1 { 10 } else { 1 };
        whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(hundredths).map(Self)
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, part) = (self.0 / 100, self.0 % 100);
        match part {
            0 => write!(f, "{whole}%"),
            tenths if tenths.is_multiple_of(10) => write!(f, "{whole}.{}%", tenths / 10),
            part => write!(f, "{whole}.{part:02}%"),
        }
    }
}

impl Default for CanaryAnalysis {
    /// Windows of three heartbeats; half as slow again, or half as many failures again, is as it should be: hosts that
    /// are not quite alike differ by a fifth for good.
    fn default() -> Self {
        Self {
            window: Duration::from_secs(30),
            deadline: Duration::from_secs(30 * 60),
            alpha: Share::percent(5),
            beta: Share::percent(5),
            latency: LatencyMetric::default(),
            failures: FailureMetric::default(),
            cpu: CpuMetric::default(),
            memory: MemoryMetric::default(),
            restarts: RestartMetric::default(),
        }
    }
}

impl Default for LatencyMetric {
    fn default() -> Self {
        let slack = Duration::from_millis(10);
        Self { tolerance_percent: 50, slack, critical: true, missing: Missing::Pause }
    }
}

impl Default for FailureMetric {
    fn default() -> Self {
        Self { tolerance_percent: 50, floor: Share::percent(1), critical: true, missing: Missing::Pause }
    }
}

/// Checks what windows and rates have to be, of the `analysis` or of the `limits`; the deadline is at most `most`.
///
/// # Errors
/// A sentence naming the knob and its value.
pub(super) fn check_test(
    of: &str,
    (window, deadline, most): (Duration, Duration, Duration),
    (alpha, beta): (Share, Share),
) -> Result<(), String> {
    let [length, patience, longest] = [window, deadline, most].map(human::format);
    if !(MIN_WINDOW..=MAX_WINDOW).contains(&window) {
        let (least, most) = (human::format(MIN_WINDOW), human::format(MAX_WINDOW));
        return Err(format!(
            "window ({length}) of the {of} must be from {least}, in which every host reports, to {most}"
        ));
    }
    if deadline < window * MIN_WINDOWS {
        return Err(format!(
            "deadline ({patience}) of the {of} is too short: {MIN_WINDOWS} windows of {length} are the least that can \
             tell anything"
        ));
    }
    if deadline > most {
        return Err(format!("deadline ({patience}) of the {of} must be at most {longest}"));
    }
    let rates = [("alpha", alpha), ("beta", beta)];
    let wrong = rates.into_iter().find(|(_, rate)| !(Share(1)..=Share::percent(50)).contains(rate));
    wrong.map_or(Ok(()), |(name, rate)| Err(format!("{name} ({rate}) of the {of} must be from 0.01% to 50%")))
}

impl CanaryAnalysis {
    /// The defaults, for a canary that is held for so long: the analysis waits no less.
    #[must_use]
    pub fn held_for(hold: Duration) -> Self {
        let by_default = Self::default();
        Self { deadline: by_default.deadline.max(hold), ..by_default }
    }

    /// Checks each knob, and what must hold between them.
    ///
    /// # Errors
    /// A sentence naming the knob and its value.
    pub(super) fn check(&self) -> Result<(), String> {
        check_test("analysis", (self.window, self.deadline, MAX_DEADLINE), (self.alpha, self.beta))?;
        for (name, percent) in
            [("latency", self.latency.tolerance_percent), ("failures", self.failures.tolerance_percent)]
        {
            if percent > MAX_TOLERANCE_PERCENT {
                return Err(format!(
                    "tolerance ({percent}%) of {name} must be at most {MAX_TOLERANCE_PERCENT}%"
                ));
            }
        }
        if self.failures.floor >= Share::percent(50) {
            return Err(format!("floor ({}) of failures must be below 50%", self.failures.floor));
        }
        services::check(&self.cpu, &self.memory, &self.restarts)?;
        // What may be missing decides nothing where it is.
        let (cpu, memory, restarts) = (&self.cpu, &self.memory, &self.restarts);
        let of_services = [
            (cpu.critical, cpu.missing),
            (memory.critical, memory.missing),
            (restarts.critical, restarts.missing),
        ];
        let decides = self.latency.critical
            || self.failures.critical
            || of_services.iter().any(|(critical, missing)| *critical && *missing != Missing::Ignore);
        if !decides {
            return Err("critical is false for every metric of the analysis: nothing would decide".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_read_as_it_is_written() {
        for (text, hundredths) in
            [("5%", 500), ("0.5%", 50), ("0.25%", 25), ("12.05%", 1205), ("100 %", 10_000)]
        {
            assert_eq!(Share::parse(text), Some(Share(hundredths)), "{text}");
        }
        for text in ["5%", "0.5%", "0.25%", "12.05%"] {
            assert_eq!(Share::parse(text).unwrap().to_string(), text);
        }
        for text in ["5", "%", ".5%", "0.125%", "-1%", "5.%", "99999999999%", "a%", "4294967295%"] {
            assert_eq!(Share::parse(text), None, "{text}");
        }
    }

    #[test]
    fn each_knob_has_its_bounds() {
        let default = CanaryAnalysis::default;
        assert_eq!(default().check(), Ok(()));
        let seconds = Duration::from_secs;
        let wrong = |analysis: CanaryAnalysis| analysis.check().unwrap_err();
        insta::assert_snapshot!(wrong(CanaryAnalysis { window: seconds(5), ..default() }), @"window (5s) of the analysis must be from 10s, in which every host reports, to 10m");
        insta::assert_snapshot!(wrong(CanaryAnalysis { deadline: seconds(60), ..default() }), @"deadline (1m) of the analysis is too short: 5 windows of 30s are the least that can tell anything");
        insta::assert_snapshot!(wrong(CanaryAnalysis { deadline: seconds(8 * 86_400), ..default() }), @"deadline (8d) of the analysis must be at most 7d");
        insta::assert_snapshot!(wrong(CanaryAnalysis { alpha: Share(0), ..default() }), @"alpha (0%) of the analysis must be from 0.01% to 50%");
        insta::assert_snapshot!(wrong(CanaryAnalysis { beta: Share::percent(51), ..default() }), @"beta (51%) of the analysis must be from 0.01% to 50%");
        let latency = LatencyMetric { tolerance_percent: 10_001, ..LatencyMetric::default() };
        insta::assert_snapshot!(wrong(CanaryAnalysis { latency, ..default() }), @"tolerance (10001%) of latency must be at most 10000%");
        let failures = FailureMetric { floor: Share::percent(50), ..FailureMetric::default() };
        insta::assert_snapshot!(wrong(CanaryAnalysis { failures, ..default() }), @"floor (50%) of failures must be below 50%");
        let latency = LatencyMetric { critical: false, ..LatencyMetric::default() };
        let failures = FailureMetric { critical: false, ..FailureMetric::default() };
        insta::assert_snapshot!(wrong(CanaryAnalysis { latency, failures, ..default() }), @"critical is false for every metric of the analysis: nothing would decide");
    }
}
