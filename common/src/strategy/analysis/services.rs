//! What is compared of the services of a release: the processor and the memory that they use, and how often they start
//! again by themselves.

use serde::{Deserialize, Serialize};

use super::{MAX_TOLERANCE_PERCENT, Missing, Share};

const MIB: u64 = 1024 * 1024;

/// More restarts than this are nothing that is as it should be: one every ten seconds.
pub const MAX_FLOOR_PER_HOUR: u32 = 360;

/// The processor time that the processes of a service take, in cores; each service by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpuMetric {
    /// So many per cent more is as it should be.
    pub tolerance_percent: u32,
    /// And so much of one core more in any case.
    pub slack: Share,
    /// Whether it decides, or is only shown.
    pub critical: bool,
    /// What it means that there are no figures.
    pub missing: Missing,
}

/// The memory that the processes of a service hold, files aside; each service by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryMetric {
    /// So many per cent more is as it should be.
    pub tolerance_percent: u32,
    /// And so much more in any case, in bytes.
    pub slack_bytes: u64,
    /// Whether it decides, or is only shown.
    pub critical: bool,
    /// What it means that there are no figures.
    pub missing: Missing,
}

/// How often a service is started again after it has ended by itself; each service by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestartMetric {
    /// So many per cent more than the others have is as it should be.
    pub tolerance_percent: u32,
    /// And so many an hour in any case, on each host.
    pub floor_per_hour: u32,
    /// Whether it decides, or is only shown.
    pub critical: bool,
    /// What it means that there are no figures.
    pub missing: Missing,
}

impl Default for CpuMetric {
    /// Shown, and deciding nothing: a process that has just started fills its caches and compiles what it runs.
    fn default() -> Self {
        Self { tolerance_percent: 50, slack: Share::percent(10), critical: false, missing: Missing::Ignore }
    }
}

impl Default for MemoryMetric {
    /// Shown, and deciding nothing: how much a process holds is a matter of how long it runs.
    fn default() -> Self {
        Self { tolerance_percent: 50, slack_bytes: 32 * MIB, critical: false, missing: Missing::Ignore }
    }
}

impl Default for RestartMetric {
    /// Deciding: a service that ends by itself is worse for whatever reason, and one in ten minutes may be chance. Not
    /// every driver knows of restarts, nor does an agent of an older version.
    fn default() -> Self {
        Self { tolerance_percent: 50, floor_per_hour: 6, critical: true, missing: Missing::Ignore }
    }
}

impl CpuMetric {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl MemoryMetric {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl RestartMetric {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// How many restarts a second are as it should be in any case.
    #[must_use]
    pub fn floor_per_second(&self) -> f64 {
        f64::from(self.floor_per_hour) / 3600.0
    }
}

/// As [`super::CanaryAnalysis::check`].
pub(super) fn check(cpu: &CpuMetric, memory: &MemoryMetric, restarts: &RestartMetric) -> Result<(), String> {
    for (name, percent) in [
        ("cpu", cpu.tolerance_percent),
        ("memory", memory.tolerance_percent),
        ("restarts", restarts.tolerance_percent),
    ] {
        if percent > MAX_TOLERANCE_PERCENT {
            return Err(format!("tolerance ({percent}%) of {name} must be at most {MAX_TOLERANCE_PERCENT}%"));
        }
    }
    if restarts.floor_per_hour > MAX_FLOOR_PER_HOUR {
        return Err(format!(
            "floor ({}) of restarts must be at most {MAX_FLOOR_PER_HOUR} an hour",
            restarts.floor_per_hour
        ));
    }
    Ok(())
}
