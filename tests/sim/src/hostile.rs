//! Hostile schedules: what a fleet must live through, and where it hurts most, is not left to the dice. Each has a name,
//! and comes on top of whatever else goes wrong in the world of a seed.

use landfall_common::Duration;
use landfall_common::manifest::WayBack;
use landfall_common::strategy::Canary;

use crate::scenario::{Scenario, windows};

/// A hostile schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hostile {
    /// The host that migrates loses its power when the migration has taken effect, before anybody is told.
    MigrationHostDies,
    /// The controller ends whenever a rollout has come to its next batch.
    RestartBetweenBatches,
    /// Half of the hosts are cut off when a batch is there, and the next one has not begun.
    HalfPartitionedAtTheGate,
    /// Every canary crashes as it starts, or is never heard of again once it was let go.
    CanaryNeverStarts,
    /// The first host is healthy for 9.9 s at a stretch, of the 10 s that are asked for.
    FlapsBelowMinHealthy,
    /// Somebody asks for a way back again and again while everything goes back.
    RollbackWhileRollingBack,
    /// The controller's clock steps by an hour, ahead and back in turn, whenever a rollout has moved.
    ClockStepsAnHour,
    /// The clocks go back an hour in the zone of the release windows, in the middle of it.
    SummerTimeEnds,
    /// Three hosts of ten cannot be reached from the start.
    ThirdUnreachable,
    /// Every third host is away while two releases come into force, each of which follows the one before.
    AwayForTwoReleases,
}

/// When summer time ends in Berlin, 2026-10-25 01:00 UTC, in milliseconds since 1970.
const WINTER_MS: u64 = 1_792_890_000_000;
/// So long before that the world begins.
pub(crate) const BEFORE_WINTER: Duration = Duration::from_secs(600);

impl Hostile {
    /// All of them, by their names.
    pub const ALL: [(Self, &str); 10] = [
        (Self::MigrationHostDies, "migration-host-dies"),
        (Self::RestartBetweenBatches, "restart-between-batches"),
        (Self::HalfPartitionedAtTheGate, "half-partitioned-at-the-gate"),
        (Self::CanaryNeverStarts, "canary-never-starts"),
        (Self::FlapsBelowMinHealthy, "flaps-below-min-healthy"),
        (Self::RollbackWhileRollingBack, "rollback-while-rolling-back"),
        (Self::ClockStepsAnHour, "clock-steps-an-hour"),
        (Self::SummerTimeEnds, "summer-time-ends"),
        (Self::ThirdUnreachable, "third-unreachable"),
        (Self::AwayForTwoReleases, "away-for-two-releases"),
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(hostile, _)| *hostile == self).map_or("", |(_, name)| name)
    }

    /// The one of this name.
    ///
    /// # Errors
    /// A sentence with all of the names.
    pub fn named(name: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(_, known)| *known == name).map(|(hostile, _)| *hostile);
        let all: Vec<_> = Self::ALL.iter().map(|(_, name)| *name).collect();
        found.ok_or_else(|| format!("there is no schedule {name:?}; there are {}", all.join(", ")))
    }

    /// Bends a world so that it can strike there.
    pub(crate) fn bend(self, scenario: &mut Scenario) {
        scenario.hosts = scenario.hosts.max(4);
        let later = scenario.releases.iter_mut().filter(|plan| plan.number > 1);
        match self {
            Self::MigrationHostDies => {
                for plan in later.filter(|plan| plan.migration.is_none()) {
                    plan.migrates(WayBack::Compatible, plan.number % 2 == 0, Duration::from_secs(40));
                }
            }
            Self::CanaryNeverStarts => {
                let crashes = scenario.seed.is_multiple_of(2);
                for plan in later {
                    plan.strategy.canary = Canary::Count(1);
                    if crashes {
                        (plan.bad_ppm, plan.badness) = (1_000_000, 2);
                    }
                }
            }
            Self::FlapsBelowMinHealthy => {
                for plan in later {
                    plan.strategy.min_healthy = Duration::from_secs(10);
                }
            }
            Self::RollbackWhileRollingBack => {
                for plan in later.filter(|plan| plan.number % 2 == 0) {
                    (plan.bad_ppm, plan.badness) = (400_000, 0);
                }
            }
            Self::SummerTimeEnds => {
                scenario.epoch_ms = WINTER_MS - 1_000 * BEFORE_WINTER.as_secs();
                for plan in later {
                    plan.strategy.entry.calendar.zone = "Europe/Berlin".parse().expect("a zone");
                    plan.strategy.entry.calendar.windows = windows(10);
                }
            }
            Self::AwayForTwoReleases => {
                for plan in later {
                    plan.follows = Some(plan.number - 1);
                }
            }
            Self::RestartBetweenBatches
            | Self::HalfPartitionedAtTheGate
            | Self::ClockStepsAnHour
            | Self::ThirdUnreachable => {}
        }
    }
}
