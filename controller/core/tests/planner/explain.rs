//! Why a rollout or a host is as it is: the one account of each.

use landfall_common::strategy::{Amount, Strategy};
use landfall_common::{Duration, HostId, RolloutId};
use landfall_controller_core::command::{Action, RollRequest};
use landfall_controller_core::explain::{self, HostAccount, RolloutAccount};
use landfall_controller_core::plan;
use landfall_controller_core::record::WayBackKind;
use landfall_controller_core::rollout::StatusWord;

use crate::hosts::Behaviour;
use crate::world::{World, host_id, migration, name, strategy};

fn on_v1(hosts: usize) -> World {
    let mut world = World::new(hosts);
    world.publish("v1", 1, None, strategy());
    world.publish("v2", 2, None, strategy());
    world.must_succeed("v1");
    world
}

fn rollout(world: &World, id: &RolloutId) -> RolloutAccount {
    let report = plan(&world.state, world.now).report;
    explain::rollout(&world.state, &report, id, world.now).unwrap()
}

fn host(world: &World, number: usize) -> HostAccount {
    let report = plan(&world.state, world.now).report;
    explain::host(&world.state, &report, &host_id(number), world.now).unwrap()
}

fn deadlines(world: &World, deadlines: &[explain::Deadline]) -> String {
    let told = deadlines.iter().map(|deadline| {
        let about = deadline.host.as_ref().map_or(String::new(), |host| format!(" of {host}"));
        format!("{}{about} in {} s: {}", deadline.name, deadline.at.since(world.now).as_secs(), deadline.then)
    });
    told.collect::<Vec<_>>().join("\n")
}

fn runs(account: &RolloutAccount) -> Vec<(String, usize, usize)> {
    let release = |runs: &explain::Runs| runs.release.as_ref().map_or("-".to_owned(), ToString::to_string);
    account.runs.iter().map(|runs| (release(runs), runs.hosts.len(), runs.fresh)).collect()
}

fn commands(next: &[explain::Next]) -> Vec<&str> {
    next.iter().map(|next| next.command.as_str()).collect()
}

/// What would be refused is not among what can be typed.
#[test]
fn a_way_back_that_is_refused_is_not_offered() {
    let mut world = World::new(3);
    world.publish("v1", 1, None, strategy());
    world.publish("v2", 2, migration(WayBackKind::None), strategy());
    world.must_succeed("v1");
    world.behaves("v2", Behaviour::Bad);
    let id = world.roll(RollRequest { no_way_back: true, ..World::request("v2") }).unwrap();
    world.until("it migrates", |world| world.word(&id) == StatusWord::Migrating);
    let offers = |world: &World| commands(&rollout(world, &id).next).contains(&"ctl rollback");
    assert!(!offers(&world), "a migration may be running");
    world.until("it pauses", |world| world.word(&id) == StatusWord::Paused);
    assert!(world.rollback(None).is_err() && !offers(&world));
    let account = rollout(&world, &id);
    assert_eq!(commands(&account.next)[..2], [format!("ctl resume {id}"), format!("ctl retry {id}")]);
}

#[test]
fn all_that_is_awaited_is_told_and_not_only_the_first_of_it() {
    let mut world = on_v1(30);
    world.behaves("v2", Behaviour::Hangs);
    world.cut = (1..=30).map(host_id).collect();
    let id = world.release("v2").unwrap();
    world.run(40);
    assert!(world.sentences.len() < 25, "the report itself is short");
    let account = rollout(&world, &id);
    assert_eq!(account.waits.len(), 30);
    assert!(account.waits[29].starts_with("staging waits: web-30 has not been heard of for"));
    let own = host(&world, 30);
    assert_eq!(own.waits, account.waits[29..]);
    insta::assert_snapshot!(deadlines(&world, &account.deadlines), @"progress_deadline in 260 s: if nothing gets on, it ends as failed; nothing that runs was touched");
    assert_eq!(commands(&account.next), ["ctl rollback".to_owned(), format!("ctl status --watch {id}")]);
}

#[test]
fn a_rollout_under_way_tells_its_deadlines_and_each_host_its_own_part() {
    let mut world = on_v1(5);
    world.behaves("v2", Behaviour::Hangs);
    let id = world.release("v2").unwrap();
    world.until("a host that hangs", |w| w.sentences.iter().any(|s| s.contains("web-01")));
    world.run(20);
    let account = rollout(&world, &id);
    insta::assert_snapshot!(account.waits.join("\n"), @"batch 1 of 3 waits: web-01 runs restart");
    insta::assert_snapshot!(deadlines(&world, &account.deadlines), @r"
    answer of web-01 in 223 s: it counts as failed, unless it has said how it ended
    progress_deadline in 284 s: if nothing gets on, it pauses, and somebody says what follows
    ");
    assert_eq!(runs(&account), [("v1".to_owned(), 5, 5)]);
    let (canary, later) = (host(&world, 1), host(&world, 4));
    insta::assert_snapshot!(canary.should.why, @"batch 1 of 3 of rollout r-9, for which it was let go");
    assert_eq!(canary.should.release.unwrap().name, name("v2"));
    insta::assert_snapshot!(canary.asked.unwrap().answer, @"it has taken it, and has not said how it ended");
    assert_eq!(canary.deadlines.len(), 1);
    insta::assert_snapshot!(later.should.why, @"until batch 3 of 3 of rollout r-9 begins, which brings v2");
    assert_eq!(later.should.release.unwrap().name, name("v1"));
    insta::assert_snapshot!(later.asked.unwrap().answer, @"v2 was staged");
    // Paused, nothing runs out.
    world.ask(Action::Pause { rollout: id.clone(), reason: "lunch".to_owned() }).unwrap();
    let account = rollout(&world, &id);
    assert_eq!(account.deadlines, []);
    insta::assert_snapshot!(account.waits.join("\n"), @"paused by anna since 2027-01-15 08:01:01 UTC: lunch");
    assert_eq!(
        commands(&account.next),
        [format!("ctl resume {id}"), "ctl rollback".to_owned(), format!("ctl abort {id}")]
    );
    assert_eq!(account.since, world.now);
}

#[test]
fn what_failed_first_is_told_with_its_step_and_its_output_also_once_it_is_over() {
    let mut world = on_v1(4);
    world.host(1).behaviour.insert(name("v2"), Behaviour::Bad);
    let id = world.release("v2").unwrap();
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
    let account = rollout(&world, &id);
    let failed = account.failed.clone().unwrap();
    assert_eq!((failed.host, failed.failure.exit_code), (host_id(1), Some(1)));
    assert_eq!((account.waits.len(), account.deadlines.len()), (0, 0));
    assert_eq!(runs(&account), [("v1".to_owned(), 4, 4)]);
    assert_eq!(commands(&account.next), ["ctl release NAME", "ctl why web-01"]);
    let host = host(&world, 1);
    let failed = host.failed.unwrap();
    assert_eq!(failed.release.unwrap().name, name("v2"));
    assert!(failed.current, "it does not run v2");
    insta::assert_snapshot!(host.asked.unwrap().answer, @"v2 failed and was put back: healthz said no");
    insta::assert_snapshot!(host.should.why, @"in force since 2027-01-15 08:00:41 UTC, by rollout r-7");
    assert!(host.part.unwrap().ended);
}

#[test]
fn a_host_that_failed_within_the_budget_can_be_tried_again_and_one_that_was_is_well() {
    let mut world = World::new(4);
    let lenient = Strategy { failure_budget: Amount::Count(1), ..strategy() };
    world.publish("v1", 1, None, strategy());
    world.publish("v2", 2, None, lenient);
    world.must_succeed("v1");
    world.host(3).behaviour.insert(name("v2"), Behaviour::Bad);
    let id = world.release("v2").unwrap();
    assert_eq!(world.ended(&id), StatusWord::Failed);
    let account = rollout(&world, &id);
    assert_eq!(commands(&account.next), ["ctl retry", "ctl rollback", "ctl why web-03"]);
    assert_eq!(runs(&account), [("v2".to_owned(), 3, 3), ("v1".to_owned(), 1, 1)]);
    let failed = host(&world, 3);
    assert_eq!(commands(&failed.next), ["ctl logs web-03", "ctl retry"]);
    insta::assert_snapshot!(failed.waits.join("\n"), @"web-03 does not run v2, the release in force: healthz said no; `ctl retry` tries it again");
    world.host(3).behaviour.insert(name("v2"), Behaviour::Good);
    world
        .ask(Action::RetryFailed { place: crate::world::place(), rollout: None, reason: String::new() })
        .unwrap();
    world.until("all on v2", |w| w.runs() == ["v2"; 4]);
    world.run(20);
    let well = host(&world, 3);
    assert_eq!((well.failed.map(|failed| failed.current), well.waits.len()), (None, 0));
    assert_eq!(well.should.release.unwrap().name, name("v2"));
}

#[test]
fn a_host_among_many_that_wait_is_told_for_what_though_the_sentence_does_not_name_it() {
    let mut world = World::new(20);
    let tight = Strategy { batch: Amount::Count(19), max_unavailable: Amount::Count(1), ..strategy() };
    world.publish("v1", 1, None, Strategy { max_unavailable: Amount::Percent(100), ..tight.clone() });
    world.publish("v2", 2, None, tight);
    world.must_succeed("v1");
    let id = world.release("v2").unwrap();
    world.until("a full budget", |w| w.sentences.iter().any(|s| s.contains("max_unavailable")));
    let last = host(&world, 20);
    assert_eq!(last.waits.len(), 1, "{:?}", last.waits);
    assert!(last.waits[0].contains("max_unavailable 1") && !last.waits[0].contains("web-20"));
    assert!(host(&world, 2).waits.len() <= 1);
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(host(&world, 20).waits, Vec::<String>::new());
}

#[test]
fn what_stands_in_line_tells_for_whom_and_when_a_lock_ends() {
    let mut world = on_v1(2);
    let first = world.release("v2").unwrap();
    world.publish("v3", 3, None, strategy());
    let queued =
        RollRequest { if_held: landfall_controller_core::command::IfHeld::Queue, ..World::request("v3") };
    let second = world.roll(queued).unwrap();
    let account = rollout(&world, &second);
    assert!(account.waits[0].contains(&format!("waits for rollout {first} of v2")), "{:?}", account.waits);
    assert_eq!(commands(&account.next), [format!("ctl abort {second}"), format!("ctl why {first}")]);
    let lock = Action::Lock {
        place: crate::world::place(),
        message: "audit".to_owned(),
        period: Duration::from_secs(3600),
    };
    world.ask(lock).unwrap();
    assert_eq!(world.ended(&first), StatusWord::Succeeded);
    let account = rollout(&world, &second);
    assert_eq!(account.deadlines.len(), 1);
    assert!(account.waits[0].contains("the lock of anna ends: audit"), "{:?}", account.waits);
}

#[test]
fn nobody_is_told_of_what_is_not_known() {
    let world = on_v1(1);
    let report = plan(&world.state, world.now).report;
    let (rollout, host) = (RolloutId::new("r-99").unwrap(), HostId::new("web").unwrap());
    assert_eq!(explain::rollout(&world.state, &report, &rollout, world.now), None);
    assert_eq!(explain::host(&world.state, &report, &host, world.now), None);
    // One that has just joined, and was not heard of.
    let mut world = World::new(1);
    let before = self::host(&world, 1);
    assert_eq!((before.should.release, before.asked), (None, None));
    world.disconnect(&host_id(1));
    assert_eq!(commands(&self::host(&world, 1).next), ["systemctl status landfall-agent"]);
}
