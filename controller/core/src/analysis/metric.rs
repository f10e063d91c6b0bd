//! What is compared, and how much worse a canary may be.

use thiserror::Error;

/// One thing that is compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// As in the definition.
    pub name: String,
    /// Which way is worse.
    pub worse: Worse,
    /// How much worse is still as it should be.
    pub tolerance: Tolerance,
    /// Whether it decides. One that does not is shown, and takes nothing of the rate of false alarms.
    pub critical: bool,
    /// What it means that there are no figures.
    pub on_missing: OnMissing,
    /// How its figures are written.
    pub unit: Unit,
}

/// Which way is worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worse {
    /// Latencies, failures, memory.
    Higher,
    /// Throughput, the share of cache hits.
    Lower,
}

/// How much worse is still as it should be. It says too of which kind the metric's figures are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Tolerance {
    /// A figure per host and window: a quantile of latencies, memory, a queue's length.
    Level {
        /// The canaries' figure may be so many times the baseline's (where lower is worse: the baseline's the
        /// canaries').
        ratio: f64,
        /// Or worse by so much, for figures near zero; in the metric's unit.
        slack: f64,
    },
    /// Figures of either kind against one that is given, whatever others have.
    Limit {
        /// The canaries' figure may be so much (where lower is worse: no less); of events their rate.
        most: f64,
    },
    /// Events out of so many chances per host and window: failed requests, failed probes, restarts.
    Events {
        /// Their rate may be so many times the baseline's.
        ratio: f64,
        /// Or so much in any case, where higher is worse; between 0 and 1.
        floor: f64,
    },
}

/// What it means that canaries or baseline, or both, have no figures in most windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnMissing {
    /// That nothing is known: the rollout pauses.
    Inconclusive,
    /// Nothing: the others decide.
    Pass,
    /// That the release is broken.
    Fail,
}

/// How figures are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// As they are.
    Plain,
    /// As milliseconds or seconds.
    Seconds,
    /// As MiB and the like.
    Bytes,
    /// Between 0 and 1, as per cent.
    Share,
    /// Of the processor.
    Cores,
    /// So many a second, as so many an hour.
    PerSecond,
    /// So many a second.
    Rate,
}

/// A definition that cannot be tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Invalid {
    /// Of a tolerance.
    #[error("a ratio must be between 1 and 1000: a canary may be so many times as bad")]
    Ratio,
    /// Of a tolerance for levels.
    #[error("a slack must be a number that is not negative")]
    Slack,
    /// Of a tolerance for events.
    #[error("a floor must be at least 0 and below 0.5: so much of what is tried may fail in any case")]
    Floor,
    /// Of the settings.
    #[error("a rate of error must be between 0.0001 and 0.5")]
    Rate,
    /// Of the settings.
    #[error("odds of persistence must be between 1 and 100")]
    Persistence,
}

impl Tolerance {
    /// # Errors
    /// If a figure is out of its range.
    pub fn level(ratio: f64, slack: f64) -> Result<Self, Invalid> {
        let slack = Some(slack).filter(|slack| slack.is_finite() && *slack >= 0.0).ok_or(Invalid::Slack)?;
        Ok(Self::Level { ratio: ratio_in_range(ratio)?, slack })
    }

    /// # Errors
    /// If a figure is out of its range.
    pub fn events(ratio: f64, floor: f64) -> Result<Self, Invalid> {
        let floor = Some(floor).filter(|floor| (0.0..0.5).contains(floor)).ok_or(Invalid::Floor)?;
        Ok(Self::Events { ratio: ratio_in_range(ratio)?, floor })
    }
}

fn ratio_in_range(ratio: f64) -> Result<f64, Invalid> {
    Some(ratio).filter(|ratio| (1.0..=1000.0).contains(ratio)).ok_or(Invalid::Ratio)
}

impl Unit {
    /// Its name, for programs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
            Self::Share => "share",
            Self::Cores => "cores",
            Self::PerSecond | Self::Rate => "per_second",
        }
    }

    /// A figure as people read it, to three digits.
    #[must_use]
    pub fn write(self, value: f64) -> String {
        let scaled = |steps: &[(f64, &str)]| {
            let step = steps.iter().find(|(from, _)| value.abs() >= *from).or(steps.last());
            let (from, unit) = step.copied().unwrap_or((1.0, ""));
            format!("{} {unit}", digits(value / from))
        };
        match self {
            Self::Plain => digits(value),
            Self::Share => format!("{} %", digits(value * 100.0)),
            Self::Cores => format!("{} cores", digits(value)),
            Self::PerSecond => format!("{} an hour", digits(value * 3600.0)),
            Self::Rate => format!("{} a second", digits(value)),
            Self::Seconds => scaled(&[(1.0, "s"), (1e-3, "ms"), (1e-6, "µs")]),
            Self::Bytes => {
                let kib = 1024.0;
                scaled(&[(kib * kib * kib, "GiB"), (kib * kib, "MiB"), (kib, "KiB"), (1.0, "bytes")])
            }
        }
    }
}

fn digits(value: f64) -> String {
    let places = match value.abs() {
        0.0 => 0,
        small if small < 0.01 => 4,
        small if small < 1.0 => 3,
        small if small < 10.0 => 2,
        small if small < 100.0 => 1,
        _ => 0,
    };
    let written = format!("{value:.places$}");
    match written.contains('.') {
        true => written.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => written,
    }
}
