//! A modest number of worlds, those that once showed a mistake, and the planted defects.

use landfall_common::manifest::WayBack;
use landfall_common::strategy::{
    Amount, Ask, Before, Canary, CanaryAnalysis, Gate, Limits, Strategy, Window,
};
use landfall_common::{Duration, GateName};
use landfall_sim::application::Shows;
use landfall_sim::artifact::{self, ReleasePlan};
use landfall_sim::hostile::by_the_clock_of_berlin;
use landfall_sim::sabotage::Sabotage;
use landfall_sim::scenario::{Operators, stage, windows};
use landfall_sim::world::{GATES_AT, Statistics};
use landfall_sim::{Hostile, Outcome, Scenario, World, replay_command, run};

fn must_hold(outcome: &Outcome) {
    if let Some(violation) = &outcome.violation {
        panic!(
            "seed {}: {violation}\nsee it again with `{}`",
            outcome.seed,
            replay_command(outcome.seed, None)
        );
    }
}

fn a_few(start: u64) {
    let mut all = Statistics::default();
    for seed in start..start + 12 {
        let outcome = run(seed, false);
        must_hold(&outcome);
        all.add(&outcome.statistics);
    }
    assert!(all.succeeded + all.rolled_back + all.otherwise > 20, "hardly anything happened: {all:?}");
    assert!(all.looks > 500, "hardly anybody looked: {all:?}");
}

#[test]
fn every_promise_holds_in_a_few_worlds() {
    a_few(0);
}

#[test]
fn every_promise_holds_in_a_few_more_worlds() {
    a_few(1000);
}

/// Each of these once showed a mistake; what it was stands beside it.
#[test]
fn worlds_that_once_showed_a_mistake_hold() {
    for seed in [
        29,                 // A held activation left a service of the release before running for ever.
        5081,               // The same, after a crash.
        1004,       // A slot was ended that requests were still led to, after its proxy had not followed.
        20_425,     // A release that was proven once and failed now was reported as proven.
        20_186,     // Services that were started late, after the release had changed.
        200_729,    // A clock of the controller that was set back held the progress deadline up.
        201_047,    // Nobody said why a host that had been silent lacked the release in force.
        301_209,    // A swap that failed after its rename left `current` at a release that was not active.
        701_421,    // The same, in a larger world.
        55_000_334, // After a failed activation only what it had begun was undone, on a host that was half way before.
        66_005_024, // A way back that ended half way was called healthy, and what it left was never ended.
        33_000_834, // A slot was ended although requests might have been led to it.
        66_005_533, // The same: of two slots that were tried in vain only the last one counted.
        44_000_890, // What `current` named was removed, for the record did not know of it.
        71_000_129, // A disk refused a read after a reboot, and the services stayed down for ever.
        71_001_018, // What was swapped before a restart stayed so, though the next attempt failed before the swap.
        91_001_654, // A clock that leapt while the controller was down ended a migration's lease.
        95_539_571_617_486, // A host that was cordoned in the middle of it was taken for one that a gate had to wait for.
        770_257, // A batch that began and was over between two gates was asked about later than it was looked at.
        31_001_004, // A host whose order came alive again, as a clock went back, was let go beside one that was away.
        31_002_365, // A watch was held against what hosts said after it, while the contract ran.
        31_003_234, // A host that was away as its batch was proven came back while a gate was asked.
        70_004_606, // A host that did not come up again, and was removed, counted against a restart.
        20_261_428, // What names no commit waited for evidence for ever.
        20_261_122, // What CI has said was not read when the controller started.
        80_000_306, // Requests were to come back to a host whose release was not proven there.
        80_000_890, // A cordon that came after a drain, with the same words, went with it.
        86_000_930, // A way back that nobody had run, and that somebody took for done, was booked on the other release.
        86_008_372, // A host that was left half way before stayed in a canary whose label it had lost.
        87_003_524, // An order that had lapsed was sent again as a clock went back, and nobody counted what came of it.
        1_544,      // A stop that had failed on a host was what the rollout then went back to there.
        87_016_785, // What hosts had said of a watch was forgotten with the process that had ended it by that.
        88_602_862, // A host that had failed was tried again while a gate was asked: the gate had been opened before.
        88_620_126, // A host that had not come up again took part once more after a cordon, and counted as failed.
        88_646_730, // A host had refused to lead its requests away, and was counted among those that might yet do so.
        88_663_614, // A cordon was taken to be lifted by a word that found the controller's disk full.
        88_683_022, // A gate was taken for closed by such a word.
        1010, // Where no host could stage a release it was waited for the deadline, and nobody said for what.
        88_694_844, // A service with two slots ran beside them, of a release whose slot another one had taken in vain.
        88_818_284, // What requests went on to after a way back had failed was not started again after a boot.
        88_949_134, // The same, where it was not known whether they went there.
        89_018_994, // What a host had refused was said again only when a clock that was set right had caught up.
        89_118_689, // That a contract had failed was said of one that had run, since its release could not be read.
        22_889_597_352_370, // A batch that began and was over at once: a first one, between its gate and the hold of the canary.
    ] {
        must_hold(&run(seed, false));
    }
}

#[test]
fn the_same_seed_is_the_same_world() {
    for seed in [3, 17, 23] {
        let (first, second) = (run(seed, false), run(seed, true));
        assert_eq!(first.digest, second.digest, "seed {seed}");
        assert_eq!(first.statistics, second.statistics);
        assert_ne!(first.digest, run(seed + 1, false).digest);
    }
}

#[test]
fn in_a_calm_world_every_release_succeeds() {
    let outcome = World::new(Scenario::calm(1, 4, 4), false).run();
    must_hold(&outcome);
    assert_eq!(outcome.statistics.succeeded, 4, "{:?}", outcome.statistics);
    assert_eq!(outcome.statistics.rolled_back + outcome.statistics.otherwise, 0);
}

/// Runs a few worlds with a planted defect: one of them must show it, as this promise.
fn is_noticed(sabotage: Sabotage, promise: &str, change: impl Fn(&mut Scenario)) {
    let mut seen = Vec::new();
    for seed in 0..8 {
        let mut scenario = Scenario::calm(seed, 6, 4);
        change(&mut scenario);
        let honest = World::new(scenario.clone(), false).run();
        must_hold(&honest);
        scenario.sabotage = Some(sabotage);
        let outcome = World::new(scenario, false).run();
        if let Some(violation) = outcome.violation {
            assert_eq!(violation.promise, promise, "{violation}");
            return;
        }
        seen.push(outcome.statistics);
    }
    panic!("{sabotage:?} went unnoticed: {seen:?}");
}

fn with_migrations(scenario: &mut Scenario) {
    for plan in &mut scenario.releases {
        plan.migrates(WayBack::Compatible, false, Duration::from_secs(20));
    }
}

/// Each release follows the one before, and each is asked for only once: whoever is away misses some.
fn with_stops(scenario: &mut Scenario) {
    for plan in scenario.releases.iter_mut().filter(|plan| plan.number > 1) {
        plan.follows = Some(plan.number - 1);
        plan.strategy.max_unavailable = Amount::Count(4);
    }
    scenario.faults.partition = 3_000;
    scenario.operators = Operators::Restless;
}

#[test]
fn a_stop_that_is_skipped_is_noticed() {
    is_noticed(Sabotage::StopsForgotten, "P1", with_stops);
}

#[test]
fn a_release_that_loses_a_file_is_noticed() {
    is_noticed(Sabotage::HalfRelease, "P2", |_| {});
}

fn with_slots(scenario: &mut Scenario) {
    for plan in &mut scenario.releases {
        plan.slots = true;
    }
}

#[test]
fn in_a_calm_world_every_release_with_slots_succeeds() {
    let mut scenario = Scenario::calm(2, 4, 4);
    with_slots(&mut scenario);
    let outcome = World::new(scenario, false).run();
    must_hold(&outcome);
    assert_eq!(outcome.statistics.succeeded, 4, "{:?}", outcome.statistics);
}

#[test]
fn a_proxy_that_lies_is_noticed() {
    is_noticed(Sabotage::ProxyLies, "P2", with_slots);
}

#[test]
fn a_cold_release_that_gets_requests_is_noticed() {
    is_noticed(Sabotage::ColdIsWarm, "P3", |scenario| {
        with_slots(scenario);
        scenario.releases[1].bad_ppm = 1_000_000;
    });
}

#[test]
fn a_budget_that_is_ignored_is_noticed() {
    is_noticed(Sabotage::BudgetIgnored, "P4", |scenario| {
        for plan in &mut scenario.releases {
            plan.strategy.canary = Canary::Count(0);
            plan.strategy.batch = Amount::Percent(100);
            plan.strategy.max_unavailable = Amount::Count(1);
        }
    });
}

/// The budget allows all of it: only who looks at the window, the zones or the clock can notice.
#[test]
fn a_pace_that_is_ignored_is_noticed() {
    let with = |change: fn(&mut Strategy)| {
        is_noticed(Sabotage::BudgetIgnored, "P4", |scenario| {
            for plan in &mut scenario.releases {
                plan.strategy.canary = Canary::Count(0);
                plan.strategy.batch = Amount::Percent(100);
                plan.strategy.max_unavailable = Amount::Percent(100);
                change(&mut plan.strategy);
            }
        });
    };
    with(|strategy| (strategy.window, strategy.batch) = (Window::Sliding, Amount::Count(2)));
    with(|strategy| strategy.stagger = Duration::from_secs(5));
}

/// Of hosts that may all change at once, but for their zones, one is said to be in another.
#[test]
fn labels_that_are_forgotten_are_noticed() {
    is_noticed(Sabotage::LabelsForgotten, "P4", |scenario| {
        scenario.relabels = true;
        for plan in &mut scenario.releases {
            plan.strategy.canary = Canary::Count(0);
            plan.strategy.batch = Amount::Percent(100);
            plan.strategy.max_unavailable = Amount::Percent(100);
            plan.strategy.spread = Some("zone".parse().expect("a valid key"));
        }
    });
}

#[test]
fn a_gate_that_is_ignored_is_noticed() {
    is_noticed(Sabotage::GateIgnored, "P5", |_| {});
}

#[test]
fn a_canary_that_is_not_held_is_noticed() {
    is_noticed(Sabotage::CanaryIgnored, "P5", |scenario| {
        for plan in &mut scenario.releases {
            plan.strategy.auto_promote = false;
        }
    });
    is_noticed(Sabotage::CanaryIgnored, "P5", |scenario| {
        for plan in &mut scenario.releases {
            plan.strategy.canary_hold = Duration::from_secs(60);
        }
    });
}

/// A canary that is compared in windows of ten seconds.
fn compared(scenario: &mut Scenario) {
    for plan in &mut scenario.releases {
        let (window, deadline) = (Duration::from_secs(10), Duration::from_secs(600));
        plan.strategy.analysis = Some(CanaryAnalysis { window, deadline, ..CanaryAnalysis::default() });
    }
}

#[test]
fn a_canary_that_goes_on_without_figures_is_noticed() {
    is_noticed(Sabotage::CanaryIgnored, "P5", compared);
}

#[test]
fn a_slow_canary_whose_figures_are_flattered_is_noticed() {
    is_noticed(Sabotage::FiguresFlattered, "P6", |scenario| {
        compared(scenario);
        scenario.releases[1].slow = true;
    });
}

#[test]
fn what_is_beyond_its_limits_and_whose_figures_are_flattered_is_noticed() {
    is_noticed(Sabotage::FiguresFlattered, "P5", |scenario| {
        for plan in &mut scenario.releases {
            let latency = Some(Duration::from_millis(200));
            plan.strategy.limits = Some(Limits { latency, ..Limits::default() });
            plan.strategy.watch = Duration::from_secs(120);
        }
        scenario.releases[1].slow = true;
    });
}

#[test]
fn a_canary_whose_services_are_worse_and_whose_figures_are_flattered_is_noticed() {
    is_noticed(Sabotage::FiguresFlattered, "P6", |scenario| {
        compared(scenario);
        scenario.releases[1].restless = true;
    });
    is_noticed(Sabotage::FiguresFlattered, "P6", |scenario| {
        compared(scenario);
        memory_decides(scenario);
        scenario.releases[1].hungry = true;
    });
}

fn shows(scenario: &mut Scenario, second: Shows) {
    compared(scenario);
    for plan in &mut scenario.releases {
        plan.shows = Some(Shows::Well);
    }
    scenario.releases[1].shows = Some(second);
}

#[test]
fn a_canary_whose_requests_fail_and_whose_figures_are_flattered_is_noticed() {
    is_noticed(Sabotage::FiguresFlattered, "P6", |scenario| shows(scenario, Shows::Failing));
}

#[test]
fn figures_that_are_missing_and_are_taken_for_none_are_noticed() {
    is_noticed(Sabotage::MissingIsZero, "P5", |scenario| shows(scenario, Shows::Nothing));
    is_noticed(Sabotage::MissingIsZero, "P5", |scenario| shows(scenario, Shows::Rubbish));
}

fn memory_decides(scenario: &mut Scenario) {
    for analysis in scenario.releases.iter_mut().filter_map(|plan| plan.strategy.analysis.as_mut()) {
        analysis.memory.critical = true;
    }
}

#[test]
fn of_releases_that_are_as_fast_no_more_go_back_than_is_said() {
    let mut all = Statistics::default();
    for seed in 0..40 {
        let mut scenario = Scenario::calm(seed, 6, 4);
        compared(&mut scenario);
        // Noise of everyday: probes that fail, messages that are lost or late.
        scenario.faults.check = 5_000;
        (scenario.faults.lost, scenario.faults.late) = (50_000, 50_000);
        let outcome = World::new(scenario, false).run();
        must_hold(&outcome);
        all.add(&outcome.statistics);
    }
    assert!(all.analysed >= 100, "{all:?}");
    assert!(all.taken_back_wrongly * 20 <= all.analysed, "more than one in twenty: {all:?}");
}

#[test]
fn a_release_that_is_worse_in_what_is_measured_goes_back_in_a_calm_world() {
    let worse: [fn(&mut ReleasePlan); 4] = [
        |plan| plan.slow = true,
        |plan| plan.restless = true,
        |plan| plan.hungry = true,
        |plan| plan.shows = Some(Shows::Failing),
    ];
    for make in worse {
        let mut scenario = Scenario::calm(3, 6, 2);
        shows(&mut scenario, Shows::Well);
        memory_decides(&mut scenario);
        make(&mut scenario.releases[1]);
        let outcome = World::new(scenario, false).run();
        must_hold(&outcome);
        let statistics = outcome.statistics;
        assert!(statistics.rolled_back >= 1 && statistics.succeeded == 1, "{statistics:?}");
    }
}

/// Somebody opens each gate, or does not.
fn with_gates(scenario: &mut Scenario, before: Before) {
    for plan in scenario.releases.iter_mut().skip(1) {
        let (name, deadline) = (GateName::new("qa").expect("a valid name"), Duration::from_secs(600));
        plan.strategy.gates = vec![Gate { name, before, deadline, ask: None }];
    }
}

fn asked_at(name: &str) -> Ask {
    let url = format!("{GATES_AT}/{name}").parse().expect("a valid URL");
    Ask { url, every: Ask::EVERY, timeout: Ask::TIMEOUT }
}

#[test]
fn gates_that_are_not_asked_are_noticed() {
    for before in [Before::First, Before::Second, Before::Each] {
        is_noticed(Sabotage::GatesForgotten, "P5", |scenario| with_gates(scenario, before));
    }
    is_noticed(Sabotage::GateWordsKept, "P5", |scenario| with_gates(scenario, Before::Each));
    is_noticed(Sabotage::AnswersKept, "P5", |scenario| {
        with_gates(scenario, Before::Each);
        for gate in scenario.releases.iter_mut().flat_map(|plan| &mut plan.strategy.gates) {
            gate.ask = Some(asked_at("qa"));
        }
    });
}

#[test]
fn a_release_that_is_not_watched_is_noticed() {
    is_noticed(Sabotage::WatchIgnored, "P5", |scenario| {
        for plan in &mut scenario.releases {
            plan.strategy.watch = Duration::from_secs(120);
        }
    });
}

#[test]
fn a_watch_that_ends_whatever_its_gates_say_is_noticed() {
    is_noticed(Sabotage::WatchOverruled, "P5", |scenario| {
        with_gates(scenario, Before::Second);
        for plan in &mut scenario.releases {
            plan.strategy.watch = Duration::from_secs(120);
        }
        for gate in scenario.releases.iter_mut().flat_map(|plan| &mut plan.strategy.gates) {
            gate.ask = Some(asked_at("qa"));
        }
    });
}

#[test]
fn a_success_that_is_none_is_noticed() {
    is_noticed(Sabotage::FalseSuccess, "P5", |_| {});
}

#[test]
fn a_host_that_is_not_left_alone_is_noticed() {
    is_noticed(Sabotage::LeftOutForgotten, "P5", |scenario| scenario.leaves_out = true);
}

#[test]
fn a_restart_that_did_not_take_place_is_noticed() {
    is_noticed(Sabotage::RestartLies, "P5", |scenario| scenario.restarts = true);
}

#[test]
fn a_rollout_that_waits_in_silence_is_noticed() {
    is_noticed(Sabotage::WaitsUntold, "P10", |_| {});
}

#[test]
fn an_agent_that_waits_for_its_controller_is_noticed() {
    for sabotage in [Sabotage::WaitsForController, Sabotage::StartsByController] {
        is_noticed(sabotage, "P9", |scenario| {
            scenario.hostile = Some(Hostile::ControllerGone);
            // They have not ended when they notice that nobody is there.
            for plan in &mut scenario.releases {
                plan.strategy.min_healthy = Duration::from_secs(35);
                plan.strategy.healthy_deadline = Duration::from_secs(60);
            }
        });
    }
}

#[test]
fn a_bad_release_that_is_called_good_is_noticed() {
    is_noticed(Sabotage::LyingProbes, "P6", |scenario| {
        scenario.releases[1].bad_ppm = 1_000_000;
    });
}

#[test]
fn a_drill_that_does_not_come_back_is_noticed() {
    is_noticed(Sabotage::DrillStays, "P6", |scenario| scenario.drills = true);
}

#[test]
fn a_failure_budget_that_is_ignored_is_noticed() {
    is_noticed(Sabotage::FailuresIgnored, "P6", |scenario| {
        scenario.releases[1].bad_ppm = 500_000;
    });
}

/// Ten hosts, of which the last one does not take v2.
#[test]
fn a_late_failure_that_undoes_the_rest_is_noticed() {
    is_noticed(Sabotage::LateUndone, "P6", |scenario| {
        (scenario.hosts, scenario.releases[1].bad_on) = (10, Some(9));
        scenario.releases.truncate(2);
    });
}

#[test]
fn a_migration_that_runs_twice_is_noticed() {
    is_noticed(Sabotage::MigrationTwice, "P7", with_migrations);
}

#[test]
fn a_migration_that_outlives_its_lease_is_noticed() {
    is_noticed(Sabotage::LeaseIgnored, "P7", |scenario| {
        with_migrations(scenario);
        scenario.faults.migration_hang = 500_000;
    });
}

#[test]
fn an_activation_before_its_migration_is_noticed() {
    is_noticed(Sabotage::MigrationSkipped, "P7", with_migrations);
}

#[test]
fn code_that_goes_back_past_a_migration_that_cannot_be_undone_is_noticed() {
    is_noticed(Sabotage::SchemaForgotten, "P7", |scenario| {
        for plan in &mut scenario.releases {
            plan.migrates(WayBack::None, false, Duration::from_secs(20));
        }
        scenario.releases[1].bad_ppm = 1_000_000;
    });
}

fn with_contracts(scenario: &mut Scenario) {
    for plan in &mut scenario.releases {
        plan.migrates(WayBack::Compatible, false, Duration::from_secs(20));
        plan.contracts(false, Duration::from_secs(20));
    }
}

#[test]
fn in_a_calm_world_every_release_contracts() {
    let mut scenario = Scenario::calm(5, 6, 4);
    with_contracts(&mut scenario);
    let outcome = World::new(scenario, false).run();
    must_hold(&outcome);
    assert_eq!(
        (outcome.statistics.succeeded, outcome.statistics.migrations),
        (4, 8),
        "{:?}",
        outcome.statistics
    );
}

#[test]
fn a_contract_before_the_last_host_is_noticed() {
    is_noticed(Sabotage::ContractEarly, "P7", with_contracts);
}

#[test]
fn code_that_goes_back_past_a_contract_is_noticed() {
    is_noticed(Sabotage::ContractForgotten, "P7", |scenario| {
        with_contracts(scenario);
        scenario.operators = Operators::Restless;
    });
}

#[test]
fn an_assignment_that_was_never_durable_is_noticed() {
    is_noticed(Sabotage::SendBeforeCommit, "P8", |_| {});
}

#[test]
fn a_disk_that_forgets_is_noticed() {
    is_noticed(Sabotage::ForgetfulDisk, "P8", |scenario| scenario.faults.controller_power = 10_000);
}

#[test]
fn an_end_that_the_log_does_not_tell_is_noticed() {
    is_noticed(Sabotage::EndUntold, "P8", |_| {});
}

fn with_approvals(scenario: &mut Scenario) {
    for plan in &mut scenario.releases {
        plan.strategy.entry.approvals = 2;
    }
}

#[test]
fn in_a_calm_world_every_release_that_is_approved_succeeds() {
    let mut scenario = Scenario::calm(3, 4, 4);
    with_approvals(&mut scenario);
    let outcome = World::new(scenario, false).run();
    must_hold(&outcome);
    assert_eq!(outcome.statistics.succeeded, 4, "{:?}", outcome.statistics);
}

#[test]
fn a_release_that_begins_outside_of_its_windows_is_noticed() {
    is_noticed(Sabotage::WindowsIgnored, "P8", |scenario| {
        for plan in &mut scenario.releases {
            plan.strategy.entry.calendar.windows = windows(5);
        }
    });
}

/// By either change of the clocks there.
#[test]
fn windows_by_another_clock_than_that_of_their_zone_are_noticed() {
    for begins in [false, true] {
        // The one before the change, the other one nearly all after it.
        for (sabotage, later_ms) in [(Sabotage::ZoneIgnored, 0), (Sabotage::SummerTimeIgnored, 590_000)] {
            is_noticed(sabotage, "P8", |scenario| {
                by_the_clock_of_berlin(scenario, begins);
                scenario.epoch_ms += later_ms;
            });
        }
    }
}

fn with_staging(scenario: &mut Scenario) {
    scenario.staging = 2;
    stage(&mut scenario.releases);
}

#[test]
fn in_a_calm_world_every_release_is_proven_in_staging_and_comes_to_production() {
    let mut scenario = Scenario::calm(3, 6, 3);
    with_staging(&mut scenario);
    scenario.safety_ms = 2_400_000;
    let outcome = World::new(scenario, false).run();
    must_hold(&outcome);
    assert_eq!(outcome.statistics.succeeded, 6, "{:?}", outcome.statistics);
    assert!(outcome.statistics.refused > 0, "nobody came too early: {:?}", outcome.statistics);
}

#[test]
fn a_release_that_begins_without_its_proof_is_noticed() {
    is_noticed(Sabotage::ProofsIgnored, "P5", with_staging);
}

fn with_evidence(scenario: &mut Scenario) {
    scenario.safety_ms = 4_800_000;
    for plan in &mut scenario.releases {
        plan.evidence = [(artifact::tests(), vec![1]), (artifact::load(), vec![1, 2])].into();
    }
}

#[test]
fn in_a_calm_world_every_release_comes_once_it_has_passed() {
    let mut scenario = Scenario::calm(3, 4, 3);
    with_evidence(&mut scenario);
    let outcome = World::new(scenario, false).run();
    must_hold(&outcome);
    assert_eq!(outcome.statistics.succeeded, 3, "{:?}", outcome.statistics);
    assert!(outcome.statistics.refused > 0, "nobody came too early: {:?}", outcome.statistics);
}

#[test]
fn a_release_that_begins_without_evidence_is_noticed() {
    is_noticed(Sabotage::EvidenceIgnored, "P5", with_evidence);
}

#[test]
fn a_rollout_that_does_not_tell_what_it_stands_on_is_noticed() {
    is_noticed(Sabotage::EvidenceUntold, "P5", with_evidence);
}

#[test]
fn a_failure_that_is_forgotten_is_noticed() {
    is_noticed(Sabotage::EvidenceForgotten, "P5", with_evidence);
}

#[test]
fn a_release_that_begins_without_approvals_is_noticed() {
    is_noticed(Sabotage::ApprovalsIgnored, "P8", with_approvals);
}

#[test]
fn a_generation_that_is_used_twice_is_noticed() {
    is_noticed(Sabotage::GenerationReused, "P8", |_| {});
}

#[test]
fn a_refusal_that_leaves_a_trace_is_noticed() {
    is_noticed(Sabotage::RefusalWrites, "P12", |scenario| scenario.operators = Operators::Restless);
}

#[test]
fn a_runbook_that_does_not_hold_any_more_is_noticed() {
    is_noticed(Sabotage::RunbookOutdated, "P10", |scenario| scenario.operators = Operators::Restless);
}

fn with_drains(scenario: &mut Scenario) {
    (scenario.leaves_out, scenario.drains) = (true, true);
    scenario.releases.iter_mut().for_each(|plan| plan.gate = true);
    scenario.operators = Operators::Restless;
}

fn with_groups(scenario: &mut Scenario) {
    scenario.leaves_out = true;
    scenario.by_groups = true;
    landfall_sim::scenario::with_groups(&mut scenario.releases);
}

#[test]
fn in_a_calm_world_every_release_goes_by_two_groups() {
    let mut scenario = Scenario::calm(4, 6, 4);
    with_groups(&mut scenario);
    let outcome = World::new(scenario, false).run();
    must_hold(&outcome);
    assert!(outcome.statistics.succeeded >= 4, "{:?}", outcome.statistics);
}

#[test]
fn requests_that_change_over_before_anything_is_proven_are_noticed() {
    is_noticed(Sabotage::SwitchEarly, "P5", with_groups);
}

#[test]
fn requests_that_are_led_to_hosts_that_do_not_serve_are_noticed() {
    is_noticed(Sabotage::NobodyCarries, "P3", |scenario| {
        with_groups(scenario);
        // All of them have to serve, and now and then one does not.
        scenario.releases.iter_mut().for_each(|plan| plan.strategy.max_unavailable = Amount::Count(0));
        scenario.faults.sick = 10_000;
    });
}

#[test]
fn a_host_that_only_says_that_it_is_drained_is_noticed() {
    is_noticed(Sabotage::ProxyLies, "P3", with_drains);
}

#[test]
fn a_host_that_forgets_that_it_is_drained_is_noticed() {
    is_noticed(Sabotage::DrainForgotten, "P3", |scenario| {
        with_drains(scenario);
        scenario.faults.agent_kill = 20_000;
    });
}
