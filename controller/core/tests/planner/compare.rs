//! The canary beside the hosts on the release before: what its analysis lets through, takes back and leaves to people.

use landfall_common::Duration;
use landfall_common::RolloutId;
use landfall_common::strategy::{
    CanaryAnalysis, LatencyMetric, MemoryMetric, Missing, RestartMetric, Strategy,
};
use landfall_controller_core::command::{Action, Overrides, RollRequest};
use landfall_controller_core::log::{AnalysisVerdict, LogEvent, NewEntry};
use landfall_controller_core::rollout::StatusWord;
use landfall_controller_core::{explain, plan};

use crate::world::{Uses, World, host_id, name, strategy};

fn analysed() -> Strategy {
    Strategy { analysis: Some(CanaryAnalysis::default()), ..strategy() }
}

/// A fleet on v1, and a published v2.
fn on_v1(hosts: usize, strategy: Strategy) -> World {
    let mut world = World::new(hosts);
    world.publish("v1", 1, None, Strategy { analysis: None, auto_promote: true, ..strategy.clone() });
    world.publish("v2", 2, None, strategy);
    world.must_succeed("v1");
    world
}

fn slow(world: &mut World) {
    world.answers.insert(name("v2"), (400, 0));
}

fn verdicts(world: &World) -> Vec<AnalysisVerdict> {
    let verdict = |entry: &NewEntry| match &entry.event {
        LogEvent::CanaryAnalysed { verdict, .. } => Some(*verdict),
        _ => None,
    };
    world.log.iter().filter_map(verdict).collect()
}

fn compared(world: &mut World, windows: u32, id: &RolloutId) {
    world.until("windows", |w| w.state.comparison(id).is_some_and(|found| found.windows() >= windows));
}

#[test]
fn a_canary_that_is_no_worse_goes_on_by_itself_once_that_is_known() {
    let mut world = on_v1(5, analysed());
    let id = world.release("v2").unwrap();
    compared(&mut world, 3, &id);
    let from = world.now;
    assert_eq!(world.word(&id), StatusWord::Running);
    insta::assert_snapshot!(world.sentences.join("\n"), @r"
    the canary is proven; batch 2 of 3 follows by itself once its analysis has passed
    the analysis of the canary beside the hosts on v1 has no verdict yet after 3 windows of 30s: latency of web: 21.7 ms on the canary against 22.2 ms, beyond its tolerance of 1.5 times (at least 10 ms) in 0 of 3 windows; about 8 more windows would tell; failures of web: 0 % on the canary against 0 % (0 of all 0, with 20 % of what was counted) in 3 windows; allowed: 1 %, or 1.5 times the others'; about 8 more windows would tell
    ");
    world.until("the next batch", |w| w.runs()[1] == "v2");
    assert!(world.now.since(from) >= Duration::from_secs(120), "not before there is evidence");
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(verdicts(&world), [AnalysisVerdict::Pass]);
    let told = world.log.iter().find(|entry| matches!(entry.event, LogEvent::CanaryAnalysed { .. })).unwrap();
    insta::assert_snapshot!(told.event.summary(), @"the canary of rollout r-9 passed its analysis after 11 windows of 30s: latency of web: 22 ms on the canary against 22 ms, beyond its tolerance of 1.5 times (at least 10 ms) in 0 of 11 windows; failures of web: 0 % on the canary against 0 % (0 of all 0, with 20 % of what was counted) in 11 windows; allowed: 1 %, or 1.5 times the others'");
    assert!(world.state.comparison(&id).is_none(), "nothing of it is kept");
}

#[test]
fn a_canary_that_answers_more_slowly_goes_back_by_itself_with_the_figures() {
    let mut world = on_v1(5, analysed());
    slow(&mut world);
    let id = world.release("v2").unwrap();
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    assert_eq!(world.runs(), ["v1"; 5]);
    assert!(world.hosts.values().skip(1).all(|host| host.activations == 1), "only the canary was touched");
    insta::assert_snapshot!(world.end_reason(&id), @"the canary is worse than the hosts on v1: latency of web: 402 ms on the canary against 22 ms, beyond its tolerance of 1.5 times (at least 10 ms) in 14 of 14 windows");
    assert_eq!(verdicts(&world), [AnalysisVerdict::Fail]);
}

#[test]
fn a_canary_whose_probes_fail_now_and_then_goes_back_by_itself() {
    let mut world = on_v1(5, analysed());
    world.answers.insert(name("v2"), (20, 1));
    let id = world.release("v2").unwrap();
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    insta::assert_snapshot!(world.end_reason(&id), @"the canary is worse than the hosts on v1: failures of web: 10 % on the canary against 0 % (21 of all 21, with 20 % of what was counted) in 7 windows; allowed: 1 %, or 1.5 times the others'");
}

/// A fleet on v1, and a published v2, whose services use so much.
fn that_uses(v1: Option<Uses>, v2: Option<Uses>, strategy: Strategy) -> World {
    let mut world = World::new(5);
    world.uses = [(name("v0"), Uses::default())].into();
    world.uses.extend(v1.map(|uses| (name("v1"), uses)));
    world.uses.extend(v2.map(|uses| (name("v2"), uses)));
    world.publish("v1", 1, None, Strategy { analysis: None, ..strategy.clone() });
    world.publish("v2", 2, None, strategy);
    world.must_succeed("v1");
    world
}

const USUAL: Uses = Uses { cpu_ms_per_s: 200, memory_mib: 100, restarts: 0 };

#[test]
fn a_canary_whose_service_starts_again_and_again_goes_back_by_itself() {
    let mut world = that_uses(Some(USUAL), Some(Uses { restarts: 1, ..USUAL }), analysed());
    let id = world.release("v2").unwrap();
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    insta::assert_snapshot!(world.end_reason(&id), @"the canary is worse than the hosts on v1: restarts of app: 360 an hour on the canary against 0 an hour (21 of all 21, with 20 % of what was counted) in 7 windows; allowed: 6 an hour, or 1.5 times the others'");
}

/// A process that has just started holds less and works more: neither decides where nobody has said how much may be.
#[test]
fn processor_and_memory_decide_where_a_tolerance_is_named() {
    let more = Uses { cpu_ms_per_s: 900, memory_mib: 400, ..USUAL };
    let mut world = that_uses(Some(USUAL), Some(more), analysed());
    let id = world.release("v2").unwrap();
    compared(&mut world, 6, &id);
    let report = world.state.comparison(&id).unwrap().report().clone();
    let told: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(told.join("\n"), @r"
    latency of web: 21.8 ms on the canary against 22.1 ms, beyond its tolerance of 1.5 times (at least 10 ms) in 0 of 6 windows; about 5 more windows would tell
    failures of web: 0 % on the canary against 0 % (0 of all 0, with 20 % of what was counted) in 6 windows; allowed: 1 %, or 1.5 times the others'; about 5 more windows would tell
    cpu of app: 0.9 cores on the canary against 0.2 cores, beyond its tolerance of 1.5 times (at least 0.1 cores) in 6 of 6 windows; about 9 more windows would tell
    memory of app: 401 MiB on the canary against 101 MiB, beyond its tolerance of 1.5 times (at least 32 MiB) in 6 of 6 windows; about 9 more windows would tell
    restarts of app: 0 an hour on the canary against 0 an hour (0 of all 0, with 20 % of what was counted) in 6 windows; allowed: 6 an hour, or 1.5 times the others'; about 5 more windows would tell
    ");
    assert_eq!(world.ended(&id), StatusWord::Succeeded);

    let memory = MemoryMetric { critical: true, ..MemoryMetric::default() };
    let analysis = Some(CanaryAnalysis { memory, ..CanaryAnalysis::default() });
    let asked = Strategy { analysis, ..strategy() };
    let mut world = that_uses(Some(USUAL), Some(more), asked.clone());
    let id = world.release("v2").unwrap();
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    insta::assert_snapshot!(world.end_reason(&id), @"the canary is worse than the hosts on v1: memory of app: 401 MiB on the canary against 101 MiB, beyond its tolerance of 1.5 times (at least 32 MiB) in 16 of 16 windows");
    let mut world = that_uses(Some(USUAL), Some(Uses { memory_mib: 120, ..USUAL }), asked);
    let id = world.release("v2").unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

/// As an agent of an older version does, and a driver that cannot see them: the checks decide, unless it is said that
/// they do not.
#[test]
fn a_host_that_tells_nothing_of_its_services_is_compared_by_its_checks() {
    let mut world = that_uses(None, None, analysed());
    let id = world.release("v2").unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    let told = world.log.iter().find(|entry| matches!(entry.event, LogEvent::CanaryAnalysed { .. })).unwrap();
    insta::assert_snapshot!(told.event.summary(), @"the canary of rollout r-9 passed its analysis after 11 windows of 30s: latency of web: 22 ms on the canary against 22 ms, beyond its tolerance of 1.5 times (at least 10 ms) in 0 of 11 windows; failures of web: 0 % on the canary against 0 % (0 of all 0, with 20 % of what was counted) in 11 windows; allowed: 1 %, or 1.5 times the others'; restarts of app: no figures in 11 of 11 windows");
    let restarts = RestartMetric { missing: Missing::Pause, ..RestartMetric::default() };
    let analysis = Some(CanaryAnalysis { restarts, ..CanaryAnalysis::default() });
    let mut world = that_uses(None, None, Strategy { analysis, ..strategy() });
    let id = world.release("v2").unwrap();
    world.until("a pause", |w| w.word(&id) == StatusWord::Paused);
    insta::assert_snapshot!(world.end_reason(&id), @"the analysis of the canary could not tell in 30m whether it is worse than the hosts on v1: 59 windows of 30s; restarts of app: no figures in 59 of 59 windows. `ctl resume` waits on, `ctl promote` overrules the analysis, `ctl rollback` goes back");
}

/// Who asks for nothing but what may be missing learns nothing where it is (P5).
#[test]
fn nothing_follows_from_figures_that_are_all_missing_and_may_be() {
    let default = CanaryAnalysis::default();
    let latency = LatencyMetric { missing: Missing::Ignore, ..default.latency };
    let failures = landfall_common::strategy::FailureMetric { missing: Missing::Ignore, ..default.failures };
    let analysis = Some(CanaryAnalysis { latency, failures, ..CanaryAnalysis::default() });
    let mut world = on_v1(4, Strategy { analysis, ..strategy() });
    world.mute.push(host_id(1));
    let id = world.release("v2").unwrap();
    world.until("a pause", |w| w.word(&id) == StatusWord::Paused);
    assert_eq!(world.runs(), ["v2", "v1", "v1", "v1"]);
}

/// No data is not health (P5).
#[test]
fn without_figures_nothing_goes_on_until_a_person_says_so() {
    let mut world = on_v1(4, analysed());
    world.mute.push(host_id(1));
    let id = world.release("v2").unwrap();
    world.until("a pause", |w| w.word(&id) == StatusWord::Paused);
    insta::assert_snapshot!(world.end_reason(&id), @"the analysis of the canary could not tell in 30m whether it is worse than the hosts on v1: 59 windows of 30s; latency of web: no figures of the canary in 59 of 59 windows; failures of web: no figures of the canary in 59 of 59 windows. `ctl resume` waits on, `ctl promote` overrules the analysis, `ctl rollback` goes back");
    assert_eq!(world.runs(), ["v2", "v1", "v1", "v1"]);
    assert_eq!(verdicts(&world), [AnalysisVerdict::Inconclusive]);
    let from = world.now;
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
    world.until("another pause", |w| w.word(&id) == StatusWord::Paused);
    assert!(world.now.since(from) >= Duration::from_secs(30 * 60), "it goes on waiting");
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    let promoted =
        world.log.iter().find(|entry| matches!(entry.event, LogEvent::RolloutPromoted { .. })).unwrap();
    insta::assert_snapshot!(promoted.event.summary(), @"rollout r-8 was promoted to batch 2 although its analysis had not passed: latency of web: no figures of the canary in 119 of 119 windows; failures of web: no figures of the canary in 119 of 119 windows");
}

#[test]
fn nobody_to_compare_with_and_nobody_who_says_anything_are_told_apart() {
    let reason = |mute: &[usize], before: &[usize]| {
        let mut world = on_v1(4, analysed());
        world.mute = mute.iter().map(|number| host_id(*number)).collect();
        world.cut = before.iter().map(|number| host_id(*number)).collect();
        let id = world.release("v2").unwrap();
        world.until("a pause", |w| w.word(&id) == StatusWord::Paused);
        world.end_reason(&id)
    };
    insta::assert_snapshot!(reason(&[1, 2, 3, 4], &[]), @"the analysis of the canary could not tell in 30m whether it is worse than the hosts on v1: no host has sent figures. `ctl resume` waits on, `ctl promote` overrules the analysis, `ctl rollback` goes back");
    insta::assert_snapshot!(reason(&[2, 3, 4], &[]), @"the analysis of the canary could not tell in 30m whether it is worse than the hosts on v1: 59 windows of 30s; latency of web: no figures of the hosts on the release before in 59 of 59 windows; failures of web: no figures of the hosts on the release before in 59 of 59 windows. `ctl resume` waits on, `ctl promote` overrules the analysis, `ctl rollback` goes back");
}

#[test]
fn what_is_missing_may_be_the_failure_itself() {
    let latency = LatencyMetric { missing: Missing::Fail, ..LatencyMetric::default() };
    let analysis = Some(CanaryAnalysis { latency, ..CanaryAnalysis::default() });
    let mut world = on_v1(4, Strategy { analysis, ..strategy() });
    world.mute.push(host_id(1));
    let id = world.release("v2").unwrap();
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    insta::assert_snapshot!(world.end_reason(&id), @"the canary is worse than the hosts on v1: latency of web: no figures of the canary in 5 of 5 windows");
}

#[test]
fn a_controller_that_starts_begins_anew_and_says_so() {
    let mut world = on_v1(4, analysed());
    let id = world.release("v2").unwrap();
    compared(&mut world, 6, &id);
    world.crash_controller();
    world.run(20);
    assert_eq!(world.runs(), ["v2", "v1", "v1", "v1"]);
    let report = plan(&world.state, world.now).report;
    let account = explain::rollout(&world.state, &report, &id, world.now).unwrap();
    let deadline = account.deadlines.iter().find(|deadline| deadline.name == "analysis.deadline").unwrap();
    assert_eq!(deadline.at.since(world.now), CanaryAnalysis::default().deadline - Duration::from_secs(20));
    insta::assert_snapshot!(world.sentences.join("\n"), @r"
    the canary is proven; batch 2 of 3 follows by itself once its analysis has passed
    the analysis of the canary beside the hosts on v1 has no verdict yet after 0 windows of 30s, begun anew with the controller: latency of web: not compared yet; failures of web: not compared yet
    ");
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn a_clock_that_leaps_is_no_evidence_and_no_end_of_the_deadline() {
    let mut world = on_v1(4, analysed());
    let id = world.release("v2").unwrap();
    compared(&mut world, 2, &id);
    let hour = Duration::from_secs(3600);
    world.now = world.now + hour;
    let now = world.now;
    world.state.leapt(now);
    world.run(5);
    assert_eq!(world.state.comparison(&id).map(|found| found.windows()), Some(2));
    assert_eq!(world.word(&id), StatusWord::Running);
    world.set_back(hour);
    world.run(60);
    assert_eq!((world.word(&id), world.runs()[1].as_str()), (StatusWord::Running, "v1"));
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn a_person_promotes_what_has_passed_and_a_canary_that_fails_does_not_wait_for_him() {
    let by_hand = Strategy { auto_promote: false, ..analysed() };
    let mut world = on_v1(4, by_hand.clone());
    let id = world.release("v2").unwrap();
    world.until("a pass", |w| w.sentences.iter().any(|sentence| sentence.contains(" passed after ")));
    assert_eq!(world.word(&id), StatusWord::Waiting);
    world.run(3600);
    assert_eq!(world.runs()[1], "v1", "no deadline runs against a person");
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(verdicts(&world), [AnalysisVerdict::Pass]);

    let mut world = on_v1(4, by_hand);
    slow(&mut world);
    let id = world.release("v2").unwrap();
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
}

#[test]
fn what_is_promoted_early_is_held_all_the_same_and_goes_back_if_it_fails() {
    let mut world = on_v1(4, Strategy { canary_hold: Duration::from_secs(900), ..analysed() });
    slow(&mut world);
    let id = world.release("v2").unwrap();
    compared(&mut world, 1, &id);
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    assert_eq!(world.runs(), ["v1"; 4]);
}

#[test]
fn a_failure_that_does_not_go_back_by_itself_is_overruled_by_a_promotion() {
    let mut world = on_v1(4, Strategy { auto_rollback: false, ..analysed() });
    slow(&mut world);
    let id = world.release("v2").unwrap();
    world.until("a pause", |w| w.word(&id) == StatusWord::Paused);
    insta::assert_snapshot!(world.end_reason(&id), @"the canary is worse than the hosts on v1: latency of web: 402 ms on the canary against 22 ms, beyond its tolerance of 1.5 times (at least 10 ms) in 14 of 14 windows; auto_rollback is off: `ctl rollback` goes back, `ctl promote` overrules the analysis");
    // Who only resumes is told again.
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.word(&id), StatusWord::Paused);
    world.ask(Action::Promote { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(verdicts(&world), [AnalysisVerdict::Fail; 3]);
}

#[test]
fn before_the_first_release_there_is_nothing_to_compare_with() {
    let mut world = World::new(3);
    world.publish("v1", 1, None, analysed());
    world.must_succeed("v1");
    assert_eq!(verdicts(&world), []);
}

#[test]
fn for_one_rollout_the_analysis_is_turned_on_and_off() {
    let with = |analysis: bool| {
        let overrides = Overrides { analysis: Some(analysis), ..Overrides::default() };
        RollRequest { overrides, ..World::request("v2") }
    };
    let mut world = on_v1(3, analysed());
    slow(&mut world);
    let id = world.roll(with(false)).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    let mut world = on_v1(3, strategy());
    slow(&mut world);
    let id = world.roll(with(true)).unwrap();
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
}

/// No request reaches them: their figures are none that serving hosts can be held against.
#[test]
fn drained_hosts_are_nobody_to_compare_with() {
    let mut world = on_v1(5, analysed());
    let id = world.release("v2").unwrap();
    compared(&mut world, 2, &id);
    let hosts: std::collections::BTreeSet<_> = (2..=5).map(host_id).collect();
    let beyond_budget = "all of them".to_owned();
    world.ask(Action::Drain { hosts: hosts.clone(), reason: "the switch".into(), beyond_budget }).unwrap();
    world.run(200);
    insta::assert_snapshot!(world.state.comparison(&id).unwrap().report(), @"latency of web: no figures of the hosts on the release before in 5 of 8 windows; failures of web: no figures of the hosts on the release before in 5 of 8 windows");
    assert_eq!(world.word(&id), StatusWord::Running);
    world.ask(Action::Undrain { hosts, reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(verdicts(&world), [AnalysisVerdict::Pass]);
}
