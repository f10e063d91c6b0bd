//! Hostile schedules, each by its name, in worlds that stay as they are: it strikes there, every promise holds, and what comes
//! of it is what an operator would expect.

use landfall_sim::world::Statistics;
use landfall_sim::{Hostile, replay_command, run_hostile};

/// What happened in some worlds.
#[derive(Debug, Default)]
struct Seen {
    /// While the schedule could strike.
    before_healing: Statistics,
    /// In all.
    in_all: Statistics,
}

fn holds(hostile: Hostile, seeds: &[u64]) -> Seen {
    let mut seen = Seen::default();
    for seed in seeds {
        let outcome = run_hostile(*seed, hostile, false);
        if let Some(violation) = &outcome.violation {
            panic!("{violation}\nsee it again with `{}`", replay_command(*seed, Some(hostile)));
        }
        seen.before_healing.add(&outcome.before_healing);
        seen.in_all.add(&outcome.statistics);
    }
    assert!(seen.before_healing.struck > 0, "nothing strikes in {seeds:?}");
    seen
}

#[test]
fn the_migration_host_dies_between_running_and_reporting() {
    let seen = holds(Hostile::MigrationHostDies, &[2, 8, 13]);
    assert!(seen.before_healing.paused > 0, "nobody is asked: {seen:?}");
    assert!(seen.in_all.arrived > 0, "nothing arrives past it: {seen:?}");
}

#[test]
fn the_controller_restarts_between_two_batches() {
    let seen = holds(Hostile::RestartBetweenBatches, &[5, 13, 71]);
    let Statistics { controller_crashes, struck, arrived, .. } = seen.before_healing;
    assert!(controller_crashes >= struck && arrived > 0, "nothing arrives in spite of it: {seen:?}");
}

#[test]
fn half_the_fleet_is_partitioned_at_the_gate() {
    let seen = holds(Hostile::HalfPartitionedAtTheGate, &[4, 16, 24]);
    assert!(seen.before_healing.paused > 0, "no rollout stops: {seen:?}");
    assert!(seen.in_all.arrived > 0, "nothing arrives once they are back: {seen:?}");
}

#[test]
fn a_canary_never_starts() {
    let seen = holds(Hostile::CanaryNeverStarts, &[3, 8, 13]);
    assert_eq!(seen.before_healing.arrived, 0, "a release arrives past its canary: {seen:?}");
}

#[test]
fn a_host_flaps_at_nine_point_nine_seconds_of_ten() {
    let seen = holds(Hostile::FlapsBelowMinHealthy, &[4, 5, 8]);
    assert_eq!(seen.before_healing.arrived, 0, "9.9 s are taken for ten: {seen:?}");
}

#[test]
fn a_rollback_is_requested_while_rolling_back() {
    let seen = holds(Hostile::RollbackWhileRollingBack, &[9, 11, 13]);
    assert!(seen.before_healing.rolled_back > 0, "nothing has gone back: {seen:?}");
}

#[test]
fn the_clock_steps_by_an_hour() {
    let seen = holds(Hostile::ClockStepsAnHour, &[8, 10, 11]);
    assert!(seen.before_healing.arrived > 0, "nothing arrives in spite of it: {seen:?}");
}

#[test]
fn the_clock_goes_over_the_end_of_summer_time() {
    let seen = holds(Hostile::SummerTimeEnds, &[10, 13]);
    assert!(seen.in_all.arrived > 0, "no window opens: {seen:?}");
}

#[test]
fn the_clock_goes_over_the_beginning_of_summer_time() {
    let seen = holds(Hostile::SummerTimeBegins, &[10, 13]);
    assert!(seen.in_all.arrived > 0, "no window opens: {seen:?}");
}

#[test]
fn three_of_ten_hosts_are_unreachable_from_the_start() {
    let seen = holds(Hostile::ThirdUnreachable, &[5, 13, 17]);
    assert!(seen.in_all.arrived > 0, "nothing arrives: {seen:?}");
    assert!(seen.before_healing.paused + seen.before_healing.otherwise > 0, "nobody misses them: {seen:?}");
}

#[test]
fn the_controller_is_gone_once_hosts_were_let_go() {
    let seen = holds(Hostile::ControllerGone, &[5, 8, 11, 22]);
    assert!(seen.in_all.by_themselves > 100, "hardly anybody was by himself: {seen:?}");
    assert!(seen.in_all.arrived > 0, "nothing arrives once it is back: {seen:?}");
}

#[test]
fn hosts_are_away_for_two_releases_each_of_which_follows_the_one_before() {
    let seen = holds(Hostile::AwayForTwoReleases, &[4, 5, 8]);
    assert!(seen.before_healing.arrived >= 2, "nothing comes into force without them: {seen:?}");
    assert!(seen.in_all.stops > 0, "nobody comes step by step: {seen:?}");
}
