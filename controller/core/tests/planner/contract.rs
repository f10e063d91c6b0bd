//! The contract: once, after the last old host is gone, and never anything older afterwards (FIELD_NOTES "Migrations").

use landfall_common::Duration;
use landfall_common::assignment::{Direction, OnFailure, Order};
use landfall_common::strategy::{Amount, Strategy};
use landfall_controller_core::command::{Action, IfHeld, RollRequest};
use landfall_controller_core::contract::ContractFacts;
use landfall_controller_core::log::MigrationVerdict;
use landfall_controller_core::record::WayBackKind;
use landfall_controller_core::rollout::StatusWord;
use landfall_controller_core::{explain, plan, preview, preview_drill, preview_rollback};

use crate::hosts::{Behaviour, Migrates};
use crate::world::{World, host_id, migration, name, place, strategy};

fn facts() -> ContractFacts {
    ContractFacts { lease: Duration::from_secs(60), idempotent: false }
}

/// A fleet on v1, and a published v2 that expands and contracts.
fn before_v2(hosts: usize, knobs: Strategy) -> World {
    let mut world = World::new(hosts);
    world.contracts.insert(name("v2"), facts());
    world.publish("v1", 1, None, strategy());
    world.publish("v2", 2, migration(WayBackKind::Compatible), knobs);
    world.must_succeed("v1");
    world
}

fn contracts(world: &World) -> Vec<u64> {
    let all = world.hosts.values().flat_map(|host| &host.migrations);
    let all = all.filter(|(_, way, _)| *way == Direction::Contract);
    let mut fences: Vec<u64> = all.map(|(_, _, fence)| *fence).collect();
    fences.sort_unstable();
    fences
}

fn refused(world: &World) -> String {
    preview_rollback(&world.state, &place(), None, world.now).unwrap_err().to_string()
}

#[test]
fn it_runs_once_on_one_host_after_every_host_is_proven_and_then_nothing_goes_back() {
    let mut world = before_v2(5, strategy());
    let plan = preview(&world.state, &World::request("v2"), world.now).unwrap();
    assert_eq!(plan.contract, Some(facts()));
    let id = world.release("v2").unwrap();
    world.until("it contracts", |w| w.word(&id) == StatusWord::Contracting);
    assert_eq!(world.runs(), ["v2"; 5]);
    world.run(1);
    insta::assert_snapshot!(world.sentences.join("\n"), @"web-01 has been contracting the schema for 1s; without an answer its outcome counts as unknown at 2027-01-15 08:03:55 UTC");
    let back = Action::RollBack { place: place(), to: None, reason: String::new() };
    insta::assert_snapshot!(world.ask(back).unwrap_err(), @"web-01 may be running the contract of rollout r-9 until 2027-01-15 08:03:55 UTC; its outcome decides what can follow. If it stays unknown, `ctl migration resolve r-9` settles it");
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(contracts(&world), [2], "under a lease of its own, after that of the migration");
    insta::assert_snapshot!(refused(&world), @"cannot go back to v1: the contract of v2 has taken away what v1 needs; publish a release that mends v2, or restore a backup of the database from before it and publish the content of v1 anew under another name");
    let drill = preview_drill(&world.state, &place(), None, world.now).unwrap_err();
    insta::assert_snapshot!(drill, @"no drill in tenants in production: v1 does not run on the schema as it is, and a drill changes no database");
    // Once more it brings nothing, and contracts nothing.
    assert_eq!(preview(&world.state, &World::request("v2"), world.now).unwrap().contract, None);
    world.must_succeed("v2");
    assert_eq!(contracts(&world), [2]);
}

#[test]
fn it_comes_after_the_watch_during_which_the_fleet_could_still_go_back() {
    let mut world = before_v2(3, Strategy { watch: Duration::from_secs(120), ..strategy() });
    let id = world.release("v2").unwrap();
    world.until("it is watched", |w| w.word(&id) == StatusWord::Watching);
    world.run(60);
    assert!(contracts(&world).is_empty());
    world.behaves("v2", Behaviour::Bad);
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    assert_eq!(world.runs(), ["v1"; 3]);
    assert!(contracts(&world).is_empty());
    world.behaves("v2", Behaviour::Good);
    let id = world.release("v2").unwrap();
    world.until("it contracts", |w| w.word(&id) == StatusWord::Contracting);
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(contracts(&world).len(), 1);
}

#[test]
fn it_waits_for_the_last_old_host_and_says_for_which_and_how_to_do_without() {
    let mut world = before_v2(5, strategy());
    world.cut.push(host_id(4));
    let id = world.release("v2").unwrap();
    world.until("it waits", |w| w.word(&id) == StatusWord::Waiting);
    world.run(5000);
    assert_eq!(world.word(&id), StatusWord::Waiting);
    assert!(contracts(&world).is_empty());
    insta::assert_snapshot!(world.sentences.join("\n"), @r"
    v2 is brought; its contract waits until nothing older can run, and of web-04 that is not known. Bring it to v2, or `ctl hosts remove` what is gone for good; `ctl abort r-9` ends the rollout without it
    the contract waits: web-04 has not been heard of for 1h26m13s
    ");
    // Until it has begun, the fleet may go back.
    assert!(world.ask(Action::RollBack { place: place(), to: None, reason: String::new() }).is_ok());
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    // And once it is back it takes the release first.
    let id = world.release("v2").unwrap();
    world.until("it waits", |w| w.word(&id) == StatusWord::Waiting);
    world.cut.clear();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!((world.runs(), contracts(&world).len()), (vec!["v2".to_owned(); 5], 1));
}

#[test]
fn it_waits_for_hosts_that_the_rollout_has_left_out_or_that_have_failed() {
    let mut world = before_v2(5, Strategy { failure_budget: Amount::Count(1), ..strategy() });
    let reason = "its disk is broken".to_owned();
    world.ask(Action::Cordon { hosts: [host_id(5)].into(), reason: reason.clone() }).unwrap();
    world.host(3).behaviour.insert(name("v2"), Behaviour::Bad);
    let id = world.release("v2").unwrap();
    world.until("it waits", |w| w.word(&id) == StatusWord::Waiting);
    world.run(600);
    assert!(contracts(&world).is_empty());
    insta::assert_snapshot!(world.sentences.join("\n"), @r"
    v2 is brought; its contract waits until nothing older can run, and of web-03 and web-05 that is not known. Bring them to v2, or `ctl hosts remove` what is gone for good; `ctl abort r-10` ends the rollout without it
    the contract waits: web-03 failed: healthz said no
    the contract waits: web-05 is cordoned and reports v1
    ");
    world.host(3).behaviour.clear();
    world.ask(Action::RetryFailed { place: place(), rollout: None, reason: String::new() }).unwrap();
    world.run(100);
    assert!(contracts(&world).is_empty(), "web-05 still runs v1");
    world.ask(Action::Uncordon { hosts: [host_id(5)].into(), reason }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!((world.runs(), contracts(&world).len()), (vec!["v2".to_owned(); 5], 1));
}

#[test]
fn a_host_that_joins_meanwhile_takes_the_release_and_is_waited_for() {
    let mut world = before_v2(4, strategy());
    world.cut.push(host_id(4));
    let id = world.release("v2").unwrap();
    world.until("it waits", |w| w.word(&id) == StatusWord::Waiting);
    world.enrol(5);
    let v1 = world.host(1).active.clone().unwrap();
    world.run(60);
    assert_eq!(world.host(5).active.clone().unwrap().release.name, name("v2"), "not {}", v1.release.name);
    let reason = "scrapped".to_owned();
    world.hosts.remove(&host_id(4));
    world.ask(Action::Remove { host: host_id(4), reason }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(contracts(&world).len(), 1);
}

#[test]
fn one_that_fails_undoes_nothing_and_runs_again_when_somebody_says_so() {
    let mut world = before_v2(3, strategy());
    let id = world.release("v2").unwrap();
    world.until("the migration has run", |w| w.word(&id) == StatusWord::Running);
    world.hosts.values_mut().for_each(|host| host.migrates = Migrates::Fails);
    world.until("it pauses", |w| w.word(&id) == StatusWord::Paused);
    world.run(1000);
    assert_eq!((world.runs(), contracts(&world).len()), (vec!["v2".to_owned(); 3], 1));
    insta::assert_snapshot!(world.end_reason(&id), @"the contract of v2 failed on web-01 (exit code 1): migrate said no; v2 stays on every host, and what is older may not run any more. Mend what is the matter, then `ctl retry r-7`; `ctl abort r-7` ends the rollout without it");
    // It may have gone half of its way.
    let back = Action::RollBack { place: place(), to: None, reason: String::new() };
    insta::assert_snapshot!(world.ask(back.clone()).unwrap_err(), @"cannot go back to v1: the contract of v2 may have taken away what v1 needs; publish a release that mends v2, or restore a backup of the database from before it and publish the content of v1 anew under another name");
    world.ask(Action::RetryFailed { place: place(), rollout: None, reason: String::new() }).unwrap();
    world.until("it pauses again", |w| w.word(&id) == StatusWord::Paused);
    assert_eq!(contracts(&world).len(), 2);
    // Somebody has looked: nothing of it took effect. Then the fleet could go back, and goes on.
    let (verdict, reason) = (MigrationVerdict::NotApplied, "all of it is there".to_owned());
    world.ask(Action::ResolveMigration { rollout: id.clone(), verdict, reason }).unwrap();
    world.hosts.values_mut().for_each(|host| host.migrates = Migrates::Well);
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(contracts(&world).len(), 3);
}

#[test]
fn whoever_resumes_what_was_paused_meanwhile_is_told_that_it_has_failed() {
    let mut world = before_v2(3, strategy());
    let id = world.release("v2").unwrap();
    world.until("the migration has run", |w| w.word(&id) == StatusWord::Running);
    world.hosts.values_mut().for_each(|host| host.migrates = Migrates::Fails);
    world.until("it contracts", |w| w.word(&id) == StatusWord::Contracting);
    world.ask(Action::Pause { rollout: id.clone(), reason: "lunch".to_owned() }).unwrap();
    world.until("it has failed", |w| !w.end_reason(&id).contains("lunch"));
    assert!(
        world.end_reason(&id).starts_with("the contract of v2 failed on web-01"),
        "{}",
        world.end_reason(&id)
    );
    world.run(1000);
    assert_eq!((world.word(&id), contracts(&world).len()), (StatusWord::Paused, 1));
}

#[test]
fn a_rollout_that_is_ended_without_its_contract_leaves_the_release_in_force_and_the_doubt_in_place() {
    let mut world = before_v2(3, strategy());
    let id = world.release("v2").unwrap();
    world.until("the migration has run", |w| w.word(&id) == StatusWord::Running);
    world.hosts.values_mut().for_each(|host| host.migrates = Migrates::Fails);
    world.until("it pauses", |w| w.word(&id) == StatusWord::Paused);
    let end = Action::Abort { rollout: id.clone(), go_back: false, reason: "tomorrow".to_owned() };
    world.ask(end).unwrap();
    world.run(100);
    assert_eq!(world.runs(), ["v2"; 3]);
    insta::assert_snapshot!(refused(&world), @"cannot go back to v1: the contract of v2 may have taken away what v1 needs; publish a release that mends v2, or restore a backup of the database from before it and publish the content of v1 anew under another name");
    // By another rollout it does not run a second time by itself either.
    let id = world.release("v2").unwrap();
    world.until("it waits", |w| w.word(&id) == StatusWord::Waiting);
    world.run(1000);
    assert_eq!((world.word(&id), contracts(&world).len()), (StatusWord::Waiting, 1));
    insta::assert_snapshot!(world.sentences.join("\n"), @"nobody knows whether the contract on web-01 took effect: it was handed out before, and nobody has said how it ended. Look at the database, then type `ctl migration resolve r-9 --applied` or `ctl migration resolve r-9 --not-applied`");
    let (verdict, reason) = (MigrationVerdict::Applied, "the column is gone".to_owned());
    world.ask(Action::ResolveMigration { rollout: id.clone(), verdict, reason }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(contracts(&world).len(), 1);
}

/// What is heard late is written down as well (P8).
#[test]
fn that_one_of_unknown_outcome_has_failed_is_in_the_log_once_it_is_heard() {
    let mut world = before_v2(3, strategy());
    let id = world.release("v2").unwrap();
    world.until("all are on it", |w| w.runs() == ["v2"; 3]);
    world.host(1).migrates = Migrates::Fails;
    world.until("it contracts", |w| w.word(&id) == StatusWord::Contracting);
    world.run(1);
    world.cut.push(host_id(1));
    world.until("it waits", |w| w.word(&id) == StatusWord::Waiting);
    world.cut.clear();
    world.until("it is heard", |w| w.word(&id) == StatusWord::Paused);
    world.run(60);
    let told = world.log.iter().map(|entry| entry.event.summary());
    let told: Vec<String> = told.filter(|told| told.contains("the contract of v2")).collect();
    insta::assert_snapshot!(told.join("\n"), @r"
    web-01 began the contract of v2
    web-01: the contract of v2 ended without a known outcome: web-01 was given the right to run it at 2027-01-15 08:01:01 UTC and has not said how it ended; it cannot be running it any more
    web-01: the contract of v2 failed: migrate said no
    rollout r-7 was paused: the contract of v2 failed on web-01 (exit code 1): migrate said no; v2 stays on every host, and what is older may not run any more. Mend what is the matter, then `ctl retry r-7`; `ctl abort r-7` ends the rollout without it
    ");
}

#[test]
fn one_of_unknown_outcome_waits_for_an_operator_unless_it_may_run_twice() {
    let mut world = before_v2(3, strategy());
    let id = world.release("v2").unwrap();
    world.until("it contracts", |w| w.word(&id) == StatusWord::Contracting);
    world.crash_controller();
    world.host(1).up = false;
    world.until("it waits", |w| w.word(&id) == StatusWord::Waiting);
    world.run(1000);
    insta::assert_snapshot!(world.sentences.join("\n"), @"nobody knows whether the contract on web-01 took effect: web-01 was given the right to run it at 2027-01-15 08:01:01 UTC and has not said how it ended; it cannot be running it any more. Look at the database, then type `ctl migration resolve r-7 --applied` or `ctl migration resolve r-7 --not-applied`");
    let end = Action::Abort { rollout: id.clone(), go_back: false, reason: String::new() };
    insta::assert_snapshot!(world.ask(end).unwrap_err(), @"nobody knows whether the contract of rollout r-7 took effect on web-01, and that decides what can follow. Look at the database, then type `ctl migration resolve r-7 --applied` or `ctl migration resolve r-7 --not-applied`");
    let now = world.now;
    world.host(1).reboot(now);
    world.run(100);
    assert!(contracts(&world).len() <= 1);
    let (verdict, reason) = (MigrationVerdict::Applied, "the column is gone".to_owned());
    world.ask(Action::ResolveMigration { rollout: id.clone(), verdict, reason }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);

    let mut world = World::new(3);
    world.contracts.insert(name("v1"), ContractFacts { idempotent: true, ..facts() });
    world.publish("v1", 1, None, strategy());
    world.host(1).migrates = Migrates::Unknown;
    let id = world.release("v1").unwrap();
    world.until("it was tried twice", |w| contracts(w).len() == 2);
    world.host(1).migrates = Migrates::Well;
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(contracts(&world).len(), 2);
}

/// Whoever ends the rollout because a host has failed leaves the release in force, and has not said that it is to be tried
/// again by what stood in line (seed 88212505).
#[test]
fn what_stood_in_line_does_not_try_what_has_failed_after_an_abort() {
    let mut world = before_v2(3, Strategy { auto_rollback: false, ..strategy() });
    let id = world.release("v2").unwrap();
    let again = world.roll(RollRequest { if_held: IfHeld::Queue, ..World::request("v2") }).unwrap();
    world.until("it contracts", |w| w.word(&id) == StatusWord::Contracting);
    world.crash_controller();
    world.host(1).up = false;
    world.until("it waits", |w| w.word(&id) == StatusWord::Waiting);
    let now = world.now;
    world.host(1).reboot(now);
    let (verdict, reason) = (MigrationVerdict::NotApplied, "the column is there".to_owned());
    world.host(2).behaviour.insert(name("v2"), Behaviour::Bad);
    world.ask(Action::ResolveMigration { rollout: id.clone(), verdict, reason }).unwrap();
    world.until("a pause", |w| w.word(&id) == StatusWord::Paused);
    world.ask(Action::Abort { rollout: id.clone(), go_back: false, reason: String::new() }).unwrap();
    world.run(60);
    insta::assert_snapshot!(world.sentences.join("\n"), @"rollout r-8 of v2 was paused by controller at 2027-01-15 08:04:01 UTC: rollout r-7 of v2 had failed on hosts and was aborted, and only an operator's word decides what runs now; `ctl resume r-8` lets it begin, `ctl abort r-8` ends it");
    world.host(2).behaviour.clear();
    world.ask(Action::Resume { rollout: again.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&again), StatusWord::Succeeded);
}

/// It may run twice, and before it could a host turned sick: nobody is told to type what is refused (seed 88202489).
#[test]
fn in_doubt_and_waiting_for_a_host_it_is_told_what_settles_it() {
    let mut world = World::new(3);
    world.contracts.insert(name("v1"), ContractFacts { idempotent: true, ..facts() });
    world.publish("v1", 1, None, Strategy { failure_budget: Amount::Count(1), ..strategy() });
    world.host(1).migrates = Migrates::Unknown;
    let id = world.release("v1").unwrap();
    world.until("it contracts", |w| w.word(&id) == StatusWord::Contracting);
    world.host(2).behaviour.insert(name("v1"), Behaviour::Bad);
    world.run(300);
    assert_eq!(contracts(&world).len(), 1);
    let report = plan(&world.state, world.now).report;
    let next = explain::rollout(&world.state, &report, &id, world.now).unwrap().next;
    let next: Vec<String> = next.iter().map(|next| format!("{}: {}", next.command, next.does)).collect();
    insta::assert_snapshot!([world.sentences.join("\n"), next.join("\n")].join("\n"), @r"
    v1 is brought; its contract waits until nothing older can run, and of web-02 that is not known. Bring it to v1, or `ctl hosts remove` what is gone for good; nobody knows whether it took effect on web-01 already: once you have looked at the database, `ctl migration resolve r-5 --applied` or `--not-applied` settles that
    the contract waits: web-02 failed: it had committed the release and was not healthy for 10s at a stretch since 30s ago
    ctl migration resolve r-5 --applied: goes on, once you have seen in the database that it took effect; or --not-applied
    ctl retry r-5: tries the failed hosts again, and resumes
    ctl status --watch r-5: follows it
    ctl why web-02: tells all that is known of the host that failed first
    ");
    let end = Action::Abort { rollout: id.clone(), go_back: false, reason: String::new() };
    assert!(world.ask(end).unwrap_err().to_string().contains("ctl migration resolve"));
    let (verdict, reason) = (MigrationVerdict::Applied, "the column is gone".to_owned());
    world.ask(Action::ResolveMigration { rollout: id.clone(), verdict, reason }).unwrap();
    world.host(2).behaviour.clear();
    world.ask(Action::RetryFailed { place: place(), rollout: None, reason: String::new() }).unwrap();
    assert!(world.rollout(&id).ended() || world.ended(&id) == StatusWord::Succeeded);
    assert_eq!(contracts(&world).len(), 1);
}

#[test]
fn a_host_that_comes_late_from_an_older_release_does_not_revert_to_it() {
    let mut world = before_v2(3, strategy());
    world.must_succeed("v2");
    world.enrol(4);
    let v1 = world.state.release(&place().application, &name("v1")).unwrap().release.clone();
    world.host(4).active = Some(landfall_common::report::Active { release: v1, proven: true });
    world.run(30);
    let late = world.issued.iter().rev().find(|assignment| assignment.host == host_id(4)).unwrap();
    assert!(matches!(late.order, Order::Activate { on_failure: OnFailure::Hold, .. }), "{late:?}");
}

#[test]
fn a_restored_controller_hands_none_out_that_may_have_run_since_the_backup() {
    let mut world = before_v2(3, strategy());
    let id = world.release("v2").unwrap();
    world.until("hosts change", |w| w.runs().contains(&"v2".to_owned()));
    let backup = world.back_up();
    world.restore(backup);
    world.run(10);
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
    world.until("it waits", |w| w.word(&id) == StatusWord::Waiting);
    world.run(1000);
    assert!(contracts(&world).is_empty());
    insta::assert_snapshot!(world.sentences.join("\n"), @"nobody knows whether the contract on web-01 took effect: it was handed out before, and nobody has said how it ended. Look at the database, then type `ctl migration resolve r-7 --applied` or `ctl migration resolve r-7 --not-applied`");
    let (verdict, reason) = (MigrationVerdict::NotApplied, "the column is there".to_owned());
    world.ask(Action::ResolveMigration { rollout: id.clone(), verdict, reason }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(contracts(&world).len(), 1);
}
