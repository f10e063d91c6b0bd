//! Hostile schedules: what a fleet must live through, and where it hurts most, is not left to the dice. Each has a name,
//! and comes on top of whatever else goes wrong in the world of a seed.

use landfall_common::Duration;
use landfall_common::manifest::WayBack;
use landfall_common::strategy::Canary;

use crate::scenario::Scenario;

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
    /// The clocks go forward an hour there.
    SummerTimeBegins,
    /// Three hosts of ten cannot be reached from the start.
    ThirdUnreachable,
    /// The controller cannot be reached for ten minutes and more once hosts were let go, and some of these lose their power
    /// meanwhile.
    ControllerGone,
    /// Every third host is away while two releases come into force, each of which follows the one before.
    AwayForTwoReleases,
}

/// When summer time ends in Berlin, 2026-10-25 01:00 UTC, in milliseconds since 1970.
const WINTER_MS: u64 = 1_792_890_000_000;
/// When it begins there, 2027-03-28 01:00 UTC.
const SUMMER_MS: u64 = 1_806_195_600_000;
/// So long before that the world begins.
pub(crate) const BEFORE_THE_CHANGE: Duration = Duration::from_secs(600);

/// Has releases begin by the clock of Berlin, in a world that begins just before that changes: the windows are open at other
/// times by any other clock, and in the end they are all open.
pub fn by_the_clock_of_berlin(scenario: &mut Scenario, begins: bool) {
    let (change, hours): (u64, &[&str]) = match begins {
        // What is between two and three does not come.
        true => (
            SUMMER_MS,
            &["00:30-00:59", "01:40-01:49", "02:00-03:00", "03:10-03:20", "03:40-03:50", "04:20-23:59"],
        ),
        // What is between two and three comes twice.
        false => (WINTER_MS, &["00:30-00:59", "02:10-02:20", "03:00-03:10", "03:30-23:59"]),
    };
    scenario.epoch_ms = change - 1_000 * BEFORE_THE_CHANGE.as_secs();
    for plan in scenario.releases.iter_mut().filter(|plan| plan.number > 1) {
        let calendar = &mut plan.strategy.entry.calendar;
        calendar.zone = "Europe/Berlin".parse().expect("a zone");
        let windows = hours.iter().map(|hours| format!("Mon-Sun {hours}").parse().expect("a window"));
        calendar.windows = windows.collect();
    }
}

/// Whether a world begins before summer time ends.
pub(crate) fn is_before_winter(epoch_ms: u64) -> bool {
    epoch_ms < WINTER_MS
}

impl Hostile {
    /// All of them, by their names.
    pub const ALL: [(Self, &str); 12] = [
        (Self::MigrationHostDies, "migration-host-dies"),
        (Self::RestartBetweenBatches, "restart-between-batches"),
        (Self::HalfPartitionedAtTheGate, "half-partitioned-at-the-gate"),
        (Self::CanaryNeverStarts, "canary-never-starts"),
        (Self::FlapsBelowMinHealthy, "flaps-below-min-healthy"),
        (Self::RollbackWhileRollingBack, "rollback-while-rolling-back"),
        (Self::ClockStepsAnHour, "clock-steps-an-hour"),
        (Self::SummerTimeEnds, "summer-time-ends"),
        (Self::SummerTimeBegins, "summer-time-begins"),
        (Self::ThirdUnreachable, "third-unreachable"),
        (Self::ControllerGone, "controller-gone"),
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
            Self::SummerTimeEnds => by_the_clock_of_berlin(scenario, false),
            Self::SummerTimeBegins => by_the_clock_of_berlin(scenario, true),
            Self::AwayForTwoReleases => {
                for plan in later {
                    plan.follows = Some(plan.number - 1);
                }
            }
            Self::RestartBetweenBatches
            | Self::HalfPartitionedAtTheGate
            | Self::ClockStepsAnHour
            | Self::ControllerGone
            | Self::ThirdUnreachable => {}
        }
    }
}
