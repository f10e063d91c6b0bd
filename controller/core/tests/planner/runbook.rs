//! The runbook: how one would go back from here, and never more than that.

use landfall_common::{Duration, ReleaseName};
use landfall_controller_core::command::Action;
use landfall_controller_core::contract::ContractFacts;
use landfall_controller_core::explain::Next;
use landfall_controller_core::record::WayBackKind;
use landfall_controller_core::rollout::{RolloutKind, Stage, StatusWord};
use landfall_controller_core::runbook::{How, Runbook, WayBack, runbook};
use landfall_controller_core::{Refusal, decide};

use crate::hosts::{Behaviour, Migrates};
use crate::world::{World, host_id, migration, name, place, strategy};

/// What it says can be done is accepted when it is asked for at that moment, and brings that release; what it says is
/// refused is refused with the very same reason. Of each release, and of none that is named.
pub fn promises_nothing_else(world: &mut World) {
    let Some(told) = runbook(&world.state, &place(), world.now) else { return };
    let ask = |world: &mut World, to: Option<ReleaseName>| {
        let command = world.command(Action::RollBack { place: place(), to, reason: String::new() });
        let decided = decide(&world.state, &command, world.now);
        decided.map(|decided| (decided, command.fresh))
    };
    let asked = ask(world, None);
    match (&told.way, &asked) {
        (Ok(way), Ok((decided, fresh))) => {
            let mut after = world.state.clone();
            decided.output.changes.iter().for_each(|change| after.apply(change));
            let holder = after.place(&place()).unwrap().holder.clone().unwrap();
            let rollout = after.rollout(&holder).unwrap();
            match &way.how {
                How::Begins => {
                    assert_eq!((&holder, rollout.kind), (fresh, RolloutKind::Rollback));
                    assert_eq!(rollout.release, way.to);
                }
                How::Turns { rollout: id } | How::GoesBack { rollout: id, .. } => {
                    assert_eq!(holder, *id);
                    assert!(matches!(rollout.status.stage(), Some(Stage::RollingBack { .. })));
                    assert_eq!(rollout.previous.as_ref(), Some(&way.to));
                }
            }
        }
        (Err(told), Err(refused)) => assert_eq!(told, refused),
        (told, asked) => panic!("the runbook says {told:?}, and asked it is {asked:?}"),
    }
    for other in &told.others {
        let asked = ask(world, Some(other.release.name.clone()));
        assert_eq!(other.refused.as_ref(), asked.as_ref().err(), "{}", other.release.name);
    }
}

fn told(world: &mut World) -> Runbook {
    promises_nothing_else(world);
    runbook(&world.state, &place(), world.now).unwrap()
}

fn way(world: &mut World) -> WayBack {
    told(world).way.unwrap()
}

fn refused(world: &mut World) -> String {
    told(world).way.unwrap_err().to_string()
}

fn typed(all: &[Next]) -> String {
    all.iter().map(|next| format!("{}: {}", next.command, next.does)).collect::<Vec<_>>().join("\n")
}

fn others(told: &Runbook) -> Vec<String> {
    let each = told.others.iter().map(|other| {
        let why = other.refused.as_ref().map_or("can".to_owned(), Refusal::to_string);
        format!("{}: {why}", other.release.name)
    });
    each.collect()
}

fn batches(way: &WayBack) -> Vec<Vec<&str>> {
    way.batches.iter().map(|batch| batch.hosts.iter().map(|host| host.as_str()).collect()).collect()
}

/// v1 to v3, all of them proven.
fn on_v3(hosts: usize) -> World {
    let mut world = World::new(hosts);
    for number in 1..=3 {
        let release = format!("v{number}");
        world.publish(&release, number, None, strategy());
        world.must_succeed(&release);
    }
    world
}

#[test]
fn it_tells_what_a_rollback_would_do_and_to_which_others_one_could_go() {
    let mut world = on_v3(5);
    let book = told(&mut world);
    assert_eq!(book.in_force.as_ref().unwrap().release.name, name("v3"));
    assert_eq!(others(&book), ["v1: can"]);
    assert_eq!(book.rehearsed, None);
    assert_eq!((&book.notes[..], &book.instead[..]), (&[] as &[String], &[] as &[Next]));
    let way = book.way.unwrap();
    assert_eq!((&way.to.name, &way.how), (&name("v2"), &How::Begins));
    // No canary, and the batches of the release that is gone back to.
    let five = [vec!["web-01", "web-02"], vec!["web-03", "web-04"], vec!["web-05"]];
    assert_eq!(batches(&way), five);
    assert_eq!((way.max_unavailable, way.failure_budget, way.down), (2, 0, None));
    insta::assert_snapshot!(typed(&book.begin), @"ctl rollback --app tenants --env production --reason 'WHY': asks once, goes back to v2, and follows it to the end");
    insta::assert_snapshot!(typed(&book.verify), @r"
    ctl hosts --app tenants --env production: every host runs v2, proven and healthy
    ctl status --app tenants --env production: how the last rollout ended, and what is in force
    ctl log --app tenants --env production: who did what, for the report in the morning
    ");
    // And it does that.
    let id = world.rollback(None).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(world.runs(), ["v2"; 5]);
    assert_eq!(told(&mut world).way.unwrap().to.name, name("v1"));
    assert_eq!(others(&told(&mut world)), ["v3: can"]);
}

#[test]
fn what_is_refused_is_told_with_its_reason_and_what_to_type() {
    let mut world = World::new(2);
    insta::assert_snapshot!(refused(&mut world), @"nothing to go back to: no release was ever proven for tenants in production");
    world.publish("v1", 1, None, strategy());
    world.must_succeed("v1");
    insta::assert_snapshot!(refused(&mut world), @"nothing to go back to: no release before v1 was proven for tenants in production");
    insta::assert_snapshot!(typed(&told(&mut world).instead), @"ctl release NAME --env production: in the application's repository: brings what mends it, under a new name");
    world.publish("v2", 2, None, strategy());
    world.must_succeed("v2");
    world.cut.push(host_id(2));
    world.run(120);
    insta::assert_snapshot!(told(&mut world).notes.join("\n"), @"web-02 cannot be heard of; the others go back, it is told as not done there, and whoever comes later is brought to what is in force then");
    let (message, period) = ("moving the database".to_owned(), Duration::from_secs(3600));
    world.ask(Action::Lock { place: place(), message, period }).unwrap();
    insta::assert_snapshot!(refused(&mut world), @"tenants in production is locked by anna until 2027-01-15 09:02:56 UTC: moving the database; a release can wait for its end with --queue, and `ctl unlock production` takes it away");
    insta::assert_snapshot!(typed(&told(&mut world).instead), @"ctl unlock production --app tenants --reason 'WHY': takes the lock of anna away; ask first, if you can");
    world.ask(Action::Unlock { place: place(), reason: "done".to_owned() }).unwrap();
    assert_eq!(way(&mut world).to.name, name("v1"));
    for number in 1..=2 {
        let hosts = [host_id(number)].into();
        world.ask(Action::Cordon { hosts, reason: "its disk".to_owned() }).unwrap();
        promises_nothing_else(&mut world);
    }
    insta::assert_snapshot!(refused(&mut world), @"every host of tenants in production is cordoned; `ctl hosts` shows them, `ctl hosts uncordon HOST` gives one free");
}

#[test]
fn what_is_under_way_turns_with_the_hosts_that_it_has_touched() {
    let mut world = on_v3(5);
    world.publish("v4", 4, None, strategy());
    world.publish("v5", 5, None, strategy());
    let id = world.release("v4").unwrap();
    assert_eq!(batches(&way(&mut world)), Vec::<Vec<&str>>::new(), "nothing is touched yet");
    world.host(3).behaviour.insert(name("v4"), Behaviour::Hangs);
    world.until("the second batch", |w| w.sentences.iter().any(|s| s.contains("web-03 runs restart")));
    let book = told(&mut world);
    let back = book.way.clone().unwrap();
    assert_eq!((&back.to.name, &back.how), (&name("v3"), &How::Turns { rollout: id.clone() }));
    assert_eq!(batches(&back), [vec!["web-01"], vec!["web-02", "web-03"]]);
    insta::assert_snapshot!(typed(&book.begin), @"ctl rollback --app tenants --env production --reason 'WHY': asks once, makes rollout r-14 go back to v3, and follows it");
    insta::assert_snapshot!(book.notes.join("\n"), @r"
    rollout r-14 of v4 is running, since 2027-01-15 08:02:14 UTC, asked for by anna
    not serving now, and counted as out: web-02 and web-03
    ");
    assert!(others(&book).iter().all(|other| other.contains("r-")), "{:?}", others(&book));
    world.ask(Action::Abort { rollout: id.clone(), go_back: true, reason: String::new() }).unwrap();
    world.ask(Action::Pause { rollout: id.clone(), reason: String::new() }).unwrap();
    let book = told(&mut world);
    assert_eq!(book.way.unwrap().how, How::GoesBack { rollout: id.clone(), paused: true });
    insta::assert_snapshot!(typed(&book.begin), @"ctl rollback --app tenants --env production --reason 'WHY': asks once, and lets the way back go on");
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(told(&mut world).begin, []);
    assert_eq!(world.ended(&id), StatusWord::RolledBack);
}

#[test]
fn the_schema_decides_and_what_stays_is_told() {
    let mut world = World::new(3);
    world.publish("v1", 1, None, strategy());
    world.publish("v2", 2, migration(WayBackKind::Compatible), strategy());
    world.publish("v3", 3, migration(WayBackKind::Reversible), strategy());
    let facts = ContractFacts { lease: Duration::from_secs(60), idempotent: false };
    world.contracts.insert(name("v4"), facts);
    world.publish("v4", 4, None, strategy());
    ["v1", "v2", "v3"].into_iter().for_each(|release| world.must_succeed(release));
    let book = told(&mut world);
    let back = book.way.clone().unwrap();
    let down = back.down.unwrap();
    assert_eq!((&down.of.name, down.host), (&name("v3"), Some(host_id(1))));
    insta::assert_snapshot!(book.stays.join("\n"), @r"
    the migration of v3 has run (2027-01-15 08:01:09 UTC); its `down` takes it back, and what was written since into what that drops is lost
    the migration of v2 has run (2027-01-15 08:00:37 UTC) and stays: v1 runs with it, and nothing older
    what was written meanwhile to the database, to shared directories and to others stays
    ");
    insta::assert_snapshot!(others(&book).join("\n"), @"v1: can");
    // Somebody has gone back, and the database with it.
    world.rollback(None).unwrap();
    world.host(1).migrates = Migrates::Unknown;
    world.until("a doubt", |w| w.sentences.iter().any(|s| s.contains("nobody knows")));
    insta::assert_snapshot!(refused(&mut world), @"nobody knows whether the way back of the migration of rollout r-13 took effect on web-01, and that decides what can follow. Look at the database, then type `ctl migration resolve r-13 --applied` or `ctl migration resolve r-13 --not-applied`");
    insta::assert_snapshot!(typed(&told(&mut world).instead), @r"
    ctl why r-13: tells what is known of the migration; then look at the database
    ctl migration resolve r-13 --applied: once you have seen that it took effect
    ctl migration resolve r-13 --not-applied: once you have seen that it did not
    ");
    // A contract ends every way to what is older.
    let mut world = World::new(3);
    let facts = ContractFacts { lease: Duration::from_secs(60), idempotent: false };
    world.contracts.insert(name("v2"), facts);
    world.publish("v1", 1, None, strategy());
    world.publish("v2", 2, migration(WayBackKind::Compatible), strategy());
    ["v1", "v2"].into_iter().for_each(|release| world.must_succeed(release));
    insta::assert_snapshot!(refused(&mut world), @"cannot go back to v1: the contract of v2 has taken away what v1 needs; publish a release that mends v2, or restore a backup of the database from before it and publish the content of v1 anew under another name");
    insta::assert_snapshot!(told(&mut world).stays.join("\n"), @r"
    the contract of v2 has run (2027-01-15 08:01:06 UTC): no release before v2 runs on this database any more
    the migration of v2 has run (2027-01-15 08:00:37 UTC) and stays
    what was written meanwhile to the database, to shared directories and to others stays
    ");
    insta::assert_snapshot!(typed(&told(&mut world).instead), @"ctl release NAME --env production: in the application's repository: brings what mends it, under a new name");
}
