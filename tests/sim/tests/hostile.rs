//! Hostile schedules, each by its name, in worlds that stay as they are: it strikes there, and every promise holds.

use landfall_sim::world::Statistics;
use landfall_sim::{Hostile, replay_command, run_hostile};

fn holds(hostile: Hostile, seeds: &[u64]) -> Statistics {
    let mut all = Statistics::default();
    for seed in seeds {
        let outcome = run_hostile(*seed, hostile, false);
        if let Some(violation) = &outcome.violation {
            panic!("{violation}\nsee it again with `{}`", replay_command(*seed, Some(hostile)));
        }
        all.add(&outcome.statistics);
    }
    assert!(all.struck > 0, "nothing strikes in {seeds:?}");
    all
}

#[test]
fn the_migration_host_dies_between_running_and_reporting() {
    holds(Hostile::MigrationHostDies, &[2, 8, 13]);
}

#[test]
fn the_controller_restarts_between_two_batches() {
    holds(Hostile::RestartBetweenBatches, &[5, 13, 71]);
}

#[test]
fn half_the_fleet_is_partitioned_at_the_gate() {
    holds(Hostile::HalfPartitionedAtTheGate, &[4, 16, 24]);
}

#[test]
fn a_canary_never_starts() {
    holds(Hostile::CanaryNeverStarts, &[3, 8, 13]);
}

#[test]
fn a_host_flaps_at_nine_point_nine_seconds_of_ten() {
    holds(Hostile::FlapsBelowMinHealthy, &[4, 5, 8]);
}

#[test]
fn a_rollback_is_requested_while_rolling_back() {
    holds(Hostile::RollbackWhileRollingBack, &[9, 11, 13]);
}

#[test]
fn the_clock_steps_by_an_hour() {
    holds(Hostile::ClockStepsAnHour, &[8, 10, 11]);
}

#[test]
fn the_clock_goes_over_the_end_of_summer_time() {
    holds(Hostile::SummerTimeEnds, &[10, 13]);
}

#[test]
fn the_clock_goes_over_the_beginning_of_summer_time() {
    holds(Hostile::SummerTimeBegins, &[10, 13]);
}

#[test]
fn three_of_ten_hosts_are_unreachable_from_the_start() {
    holds(Hostile::ThirdUnreachable, &[5, 13, 17]);
}

#[test]
fn the_controller_is_gone_once_hosts_were_let_go() {
    let seen = holds(Hostile::ControllerGone, &[5, 8, 13]);
    assert!(seen.by_themselves > 100, "hardly anybody was by himself: {seen:?}");
}

#[test]
fn hosts_are_away_for_two_releases_each_of_which_follows_the_one_before() {
    holds(Hostile::AwayForTwoReleases, &[4, 5, 8]);
}
