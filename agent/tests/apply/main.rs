//! Whole releases on one host, on a real disk, with each step failing once.

#![allow(clippy::unwrap_used, reason = "a test states what it expects with unwrap")]

mod drift;
mod full;
mod slots;
mod world;

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::sync::atomic::Ordering;

use landfall_agent::engine::Task;
use landfall_agent_core::{Effect, Event, State};
use landfall_common::assignment::{Direction, Order};
use landfall_common::manifest::Shared;
use landfall_common::report::OutcomeKind;
use landfall_common::{Duration, Generation};
use world::{Fault, Files, Release, World};

fn files(version: &str) -> Files {
    vec![
        ("manage.py", b"#!/bin/sh\n".to_vec(), true),
        ("app/views.py", format!("VERSION = '{version}'\n").into_bytes(), false),
        ("app/models.py", b"the same in each release\n".to_vec(), false),
        ("app/empty.py", Vec::new(), false),
        ("app/again.py", b"the same in each release\n".to_vec(), false),
        ("bin/again", b"the same in each release\n".to_vec(), true),
        ("media/seed.txt", b"hidden by a link".to_vec(), false),
    ]
}

fn releases() -> [Release; 2] {
    [Release::new("v1", 1, files("1")), Release::new("v2", 2, files("2"))]
}

fn outcome(world: &World) -> OutcomeKind {
    world.engine.as_ref().unwrap().record().outcome.clone().unwrap().result
}

/// Where a release of two ends after this fault.
fn with_fault(at: usize, fault: Fault, sick: bool) -> World {
    let mut world = World::new(&releases());
    world.activate(1, "v1");
    assert_eq!(outcome(&world), OutcomeKind::Committed);
    world.count = 0;
    world.fault = Some((at, fault));
    if sick {
        world.sick.push("v2".to_owned());
    }
    world.activate(2, "v2");
    assert_eq!(world.engine.as_ref().unwrap().record().state, State::Idle, "task {at} {fault:?}");
    world
}

fn tasks_of_a_release(sick: bool) -> usize {
    let world = with_fault(usize::MAX, Fault::Fails, sick);
    world.count
}

#[test]
fn every_step_that_fails_ends_in_the_old_release() {
    for at in 1..=tasks_of_a_release(false) {
        let world = with_fault(at, Fault::Fails, false);
        let kind = outcome(&world);
        assert!(
            matches!(kind, OutcomeKind::StageFailed { .. } | OutcomeKind::Reverted { .. }),
            "task {at}: {kind:?}"
        );
        assert_eq!(world.current(), "v1", "task {at}");
        assert!(world.running.values().all(|release| release == "v1"), "task {at}: {:?}", world.running);
        if matches!(kind, OutcomeKind::StageFailed { .. }) {
            assert_eq!(world.names("releases"), ["v1"], "task {at} left something");
            assert_eq!(world.names("prepared"), ["v1"], "task {at} left something");
            assert!(world.names(".landfall/objects").is_empty(), "task {at} left something");
        }
    }
}

#[test]
fn every_kill_ends_in_the_new_release() {
    for fault in [Fault::KilledBefore, Fault::KilledAfter] {
        for at in 1..=tasks_of_a_release(false) {
            let world = with_fault(at, fault, false);
            assert_eq!(world.killed, 1, "task {at} {fault:?} did not come");
            assert_eq!(outcome(&world), OutcomeKind::Committed, "task {at} {fault:?}");
            assert_eq!(world.current(), "v2");
            assert!(world.running.values().all(|release| release == "v2"));
        }
    }
}

#[test]
fn every_kill_on_the_way_back_ends_in_the_old_release() {
    for fault in [Fault::KilledBefore, Fault::KilledAfter, Fault::Repeated] {
        for at in 1..=tasks_of_a_release(true) {
            let world = with_fault(at, fault, true);
            let kind = outcome(&world);
            assert!(matches!(kind, OutcomeKind::Reverted { .. }), "task {at} {fault:?}: {kind:?}");
            assert_eq!(world.current(), "v1");
            assert!(world.running.values().all(|release| release == "v1"), "{:?}", world.running);
        }
    }
}

#[test]
fn an_answer_that_comes_twice_changes_nothing() {
    for at in 1..=tasks_of_a_release(false) {
        let world = with_fault(at, Fault::Repeated, false);
        assert_eq!(outcome(&world), OutcomeKind::Committed, "task {at}");
    }
}

#[test]
fn a_disk_that_fills_up_at_any_operation_leaves_the_old_release_and_nothing_else() {
    for room in 0.. {
        let mut world = World::new(&releases());
        world.activate(1, "v1");
        world.room.store(room, Ordering::Relaxed);
        world.activate(2, "v2");
        let kind = outcome(&world);
        if kind == OutcomeKind::Committed {
            assert!(room > 10, "the disk was full for {room} operations only");
            return;
        }
        assert_eq!(world.current(), "v1", "room for {room}: {kind:?}");
        assert!(world.running.values().all(|release| release == "v1"));
        let (OutcomeKind::StageFailed { failure } | OutcomeKind::Reverted { failure }) = &kind else {
            panic!("room for {room}: {kind:?}");
        };
        assert!(failure.reason.contains("disk full"), "room for {room}: {}", failure.reason);
        if matches!(kind, OutcomeKind::StageFailed { .. }) {
            assert_eq!(world.names("releases"), ["v1"], "room for {room} left something");
            assert!(world.names(".landfall/objects").is_empty(), "room for {room} left something");
        }
        world.room.store(i64::MAX, Ordering::Relaxed);
        world.activate(3, "v2");
        assert_eq!(outcome(&world), OutcomeKind::Committed, "room for {room}");
    }
}

#[test]
fn what_is_the_same_is_linked_and_only_what_is_lacking_is_fetched() {
    let mut world = World::new(&releases());
    world.activate(1, "v1");
    world.fetched = 0;
    world.activate(2, "v2");
    assert_eq!(world.fetched, "VERSION = '2'\n".len() as u64);
    let meta = |path: &str| std::fs::metadata(world.app().join(path)).unwrap();
    let inode = |path: &str| meta(path).ino();
    assert_eq!(inode("releases/v1/app/models.py"), inode("releases/v2/app/models.py"));
    assert_ne!(inode("releases/v1/app/views.py"), inode("releases/v2/app/views.py"));
    let mode = |path: &str| meta(path).permissions().mode() & 0o7777;
    assert_eq!((mode("releases/v2/app/again.py"), mode("releases/v2/bin/again")), (0o444, 0o555));
    assert_eq!(mode("releases/v2/app"), 0o555);
}

#[test]
fn a_file_that_was_changed_on_the_host_is_fetched_and_not_passed_on() {
    let mut world = World::new(&releases());
    world.activate(1, "v1");
    let path = world.app().join("releases/v1/manage.py");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(&path, "#!/bin/xx\n").unwrap();
    world.fetched = 0;
    // The old release no longer holds what was signed; only the new one is looked at here.
    world.releases.get_mut("v1").unwrap().files.clear();
    world.activate(2, "v2");
    assert_eq!(outcome(&world), OutcomeKind::Committed);
    assert_eq!(std::fs::read(world.app().join("current/manage.py")).unwrap(), b"#!/bin/sh\n");
}

#[test]
fn what_a_power_cut_tore_while_it_was_fetched_is_not_laid_out() {
    for content in [&b"the same in each release\n"[..], b"VERSION = '2'\n"] {
        let mut world = World::new(&releases());
        world.activate(1, "v1");
        let digest = landfall_common::Sha256::of(content);
        let torn = world.app().join(format!(".landfall/objects/{digest}"));
        std::fs::write(&torn, vec![0; content.len()]).unwrap();
        world.activate(2, "v2");
        // The world looks at every file of what is active.
        assert_eq!((outcome(&world), world.current().as_str()), (OutcomeKind::Committed, "v2"));
        assert!(!torn.exists());
    }
}

#[test]
fn what_is_shared_is_linked_into_the_release_and_hides_what_it_has_there() {
    let shared =
        Shared { directories: vec!["media".into(), "var/run".into()], files: vec!["conf/.env".into()] };
    let mut release = Release::with("v1", 1, files("1"), shared);
    release.files.retain(|(path, ..)| !path.starts_with("media"));
    let mut world = World::new(&[release]);
    world.activate(1, "v1");
    let OutcomeKind::StageFailed { failure } = outcome(&world) else { panic!("{:?}", outcome(&world)) };
    let missing = format!("the shared file {} is missing", world.app().join("shared/conf/.env").display());
    assert!(failure.reason.contains(&missing), "{}", failure.reason);
    std::fs::create_dir_all(world.app().join("shared/conf")).unwrap();
    std::fs::write(world.app().join("shared/conf/.env"), "SECRET=1").unwrap();
    world.activate(2, "v1");
    assert_eq!(outcome(&world), OutcomeKind::Committed);
    assert_eq!(std::fs::read(world.app().join("current/conf/.env")).unwrap(), b"SECRET=1");
    std::fs::write(world.app().join("current/media/new.jpg"), "picture").unwrap();
    std::fs::write(world.app().join("current/var/run/socket"), "").unwrap();
    assert!(world.app().join("shared/media/new.jpg").exists());
}

#[test]
fn retention_removes_old_releases_with_all_that_belongs_to_them() {
    let all: Vec<_> = (1..=5).map(|n| Release::new(&format!("v{n}"), n, files(&n.to_string()))).collect();
    let mut world = World::new(&all);
    for n in 1..=5 {
        world.activate(n, &format!("v{n}"));
    }
    for directory in ["releases", "prepared", ".landfall/releases"] {
        assert_eq!(world.names(directory), ["v4", "v5"], "{directory}");
    }
    // Root and `app` of two releases, `bin` and `media` of both.
    assert_eq!(world.names(".landfall/dirs").len(), 6);
}

#[test]
fn what_cannot_be_removed_keeps_nothing_else_on_the_disk() {
    let all: Vec<_> = (1..=5).map(|n| Release::new(&format!("v{n}"), n, files(&n.to_string()))).collect();
    let mut world = World::new(&all);
    *world.stuck.lock().unwrap() = Some("releases/.trash-v1".into());
    for n in 1..=5 {
        world.activate(n, &format!("v{n}"));
    }
    assert_eq!(world.names("releases"), [".trash-v1", "v4", "v5"]);
    for directory in ["prepared", ".landfall/releases"] {
        assert_eq!(world.names(directory), ["v4", "v5"], "{directory}");
    }
    *world.stuck.lock().unwrap() = None;
    world.activate(6, "v4");
    assert_eq!(world.names("releases"), ["v4", "v5"]);
}

#[test]
fn an_assignment_counts_as_taken_once_the_decision_on_it_is_durable() {
    let mut world = World::new(&releases());
    world.activate(1, "v1");
    let taken = world.told.0.borrow().taken;
    world.state_room.store(0, Ordering::Relaxed);
    let (event, now) = (world.assigned(2, "v2", Order::Stage), world.now);
    let engine = world.engine.as_mut().unwrap();
    engine.handle(event, now).unwrap_err();
    assert!(engine.is_behind());
    assert_eq!(engine.report(now).generation, Generation(1), "which is no proof that 2 is not accepted");
    assert_eq!(world.told.0.borrow().taken, taken);
    world.state_room.store(i64::MAX, Ordering::Relaxed);
    world.told.0.borrow_mut().reports.clear();
    world.send(Event::Tick);
    let told = world.told.0.borrow();
    assert_eq!((told.taken, told.reports[0].generation), (taken + 1, Generation(2)));
}

#[test]
fn what_current_names_is_not_removed_whatever_the_record_says() {
    let all: Vec<_> = (1..=4).map(|n| Release::new(&format!("v{n}"), n, files(&n.to_string()))).collect();
    let mut world = World::new(&all);
    for n in 1..=4 {
        world.assign(n, &format!("v{n}"), Order::Stage);
        world.settle();
        if n == 1 {
            std::os::unix::fs::symlink("releases/v1", world.app().join("current")).unwrap();
        }
    }
    assert_eq!(world.names("releases"), ["v1", "v3", "v4"]);
}

#[test]
fn a_code_only_release_costs_few_syncs() {
    let mut world = World::new(&releases());
    world.activate(1, "v1");
    let disks = world.disks();
    let before = disks.app.sync_counts();
    landfall_agent::apply::unpack::unpack(
        &disks.app,
        &"v1".parse().unwrap(),
        &world.releases["v1"].manifest,
        &[],
    )
    .unwrap_err();
    // Nothing was fetched for it: it fails, and what it began is gone.
    assert_eq!(disks.app.sync_counts().since(before).total(), 0);
}

#[test]
fn a_current_that_someone_moved_is_put_right_at_the_start() {
    let mut world = World::new(&releases());
    world.activate(1, "v1");
    world.assign(2, "v2", Order::Stage);
    world.settle();
    std::fs::remove_file(world.app().join("current")).unwrap();
    std::os::unix::fs::symlink("releases/v2", world.app().join("current")).unwrap();
    world.start();
    assert_eq!(world.current(), "v1");
}

/// Met by the simulation (seed 89118689): the manifest could not be read after a boot, and the host said that the contract had
/// failed, which had run.
#[test]
fn how_a_migration_ended_is_asked_though_its_release_cannot_be_read_any_more() {
    let mut world = World::new(&[Release::new("v1", 1, files("1")).with_contract()]);
    world.activate(1, "v1");
    let lease = Duration::from_secs(60);
    world.assign(2, "v1", Order::Migrate { fence: 1, lease, direction: Direction::Contract });
    let begun = |world: &World| world.told.0.borrow().tasks.back().cloned();
    let Some(Task::Migrate { step, migrating, .. }) = begun(&world) else { panic!("it was not begun") };
    std::fs::remove_dir_all(world.app().join(".landfall/releases")).unwrap();
    world.start();
    let effect = Effect::ResumeMigration { migrating: migrating.clone() };
    let asked = Task::ResumeMigration { step: step.name, migrating, effect };
    assert!(world.told.0.borrow().tasks.contains(&asked), "{:?}", world.told.0.borrow().tasks);
    assert!(matches!(world.engine.as_ref().unwrap().record().state, State::Migrating { .. }));
}

#[test]
fn two_agents_never_run_on_one_directory() {
    let world = World::new(&releases());
    let second = landfall_agent::engine::Engine::open(world.disks(), world::Recorder::default());
    assert!(second.is_err_and(|error| error.to_string().contains("another landfall-agent")));
}

#[test]
fn which_services_run_here_is_decided_when_a_release_comes_and_stays_so() {
    let [v1, v2] = releases().map(|release| release.with_worker_on("worker"));
    let v3 = Release::new("v3", 3, files("3")).with_worker_on("mail");
    let mut world = World::new(&[v1, v2, v3]);
    let role = |name: &str| BTreeMap::from([("role".to_owned(), name.to_owned())]);
    let running = |world: &World| world.running.clone().into_iter().collect::<Vec<_>>();
    let runs = |service: &str, release: &str| (service.to_owned(), release.to_owned());
    world.variables = role("web");
    world.activate(1, "v1");
    assert_eq!(outcome(&world), OutcomeKind::Committed);
    assert_eq!(running(&world), [runs("web", "v1")]);

    // The host says something else: what runs is what was proven, also after a restart of the agent.
    world.variables = role("worker");
    world.start();
    world.settle();
    assert_eq!(running(&world), [runs("web", "v1")]);
    world.activate(2, "v2");
    assert_eq!(running(&world), [runs("web", "v2"), runs("worker", "v2")]);

    // One that is not for this host any more is ended.
    world.activate(3, "v3");
    assert_eq!(running(&world), [runs("web", "v3")]);

    // A host that says nothing refuses, and goes on with what it has.
    world.variables.clear();
    world.activate(4, "v1");
    assert_eq!(world.current(), "v3");
    assert!(matches!(outcome(&world), OutcomeKind::StageFailed { .. }), "{:?}", outcome(&world));
}

#[test]
fn a_lost_ledger_is_recovered_from_what_current_names_and_nothing_else() {
    let mut world = World::new(&releases());
    world.activate(1, "v1");
    // As the power may go while v2 is being prepared: its manifest and its tree are whole.
    world.assign(2, "v2", Order::Stage);
    world.settle();
    std::fs::remove_file(world.app().join("prepared/v2/static")).unwrap();
    let identity = world.engine.as_ref().unwrap().record().identity.clone();
    world.engine = None;
    for slot in ["ledger.a", "ledger.b"] {
        std::fs::write(world.directory.path().join("state").join(slot), "rubbish").unwrap();
    }
    assert!(landfall_agent::engine::Engine::open(world.disks(), world::Recorder::default()).is_err());
    let active = landfall_agent::engine::recover(&world.disks(), identity, &BTreeMap::new()).unwrap();
    assert_eq!(active, Some("v1".parse().unwrap()));
    world.start();
    let installed = &world.engine.as_ref().unwrap().record().installed;
    assert_eq!(installed.keys().map(ToString::to_string).collect::<Vec<_>>(), ["v1"]);
    // The world looks whether what is active was prepared.
    world.activate(9, "v2");
    assert_eq!(outcome(&world), OutcomeKind::Committed);
}

#[test]
fn a_file_that_has_as_many_names_as_it_may_have_is_copied() {
    let same: Files = ["a", "b/a", "b/b", "c/a", "c/b", "c/c", "d"]
        .map(|path| (path, b"".to_vec(), false))
        .into_iter()
        .chain([("x", b"x".to_vec(), true), ("y", b"x".to_vec(), true)])
        .collect();
    let all: Vec<_> = (1..=3).map(|n| Release::new(&format!("v{n}"), n, same.clone())).collect();
    let mut world = World::new(&all);
    world.max_links = 3;
    world.start();
    for n in 1..=3 {
        world.activate(n, &format!("v{n}"));
        // The world looks at every file of what is active.
        assert_eq!(outcome(&world), OutcomeKind::Committed);
    }
    let meta = |path: &str| std::fs::metadata(world.app().join("current").join(path)).unwrap();
    assert!(same.iter().all(|(path, ..)| meta(path).nlink() <= 3));
    let inodes: std::collections::BTreeSet<u64> = same.iter().map(|(path, ..)| meta(path).ino()).collect();
    assert!(inodes.len() < same.len(), "nothing is shared any more");
    assert_eq!((meta("a").mode() & 0o7777, meta("y").mode() & 0o7777), (0o444, 0o555));
    assert!(world.names(".landfall/objects").is_empty());
}

#[test]
fn a_restart_restarts_what_is_asked_for_and_leaves_everything_else() {
    let mut world = World::new(&releases());
    world.activate(1, "v1");
    let (running, current) = (world.running.clone(), world.current());
    let services: std::collections::BTreeSet<landfall_common::ServiceName> =
        running.keys().take(1).map(|name| name.parse().unwrap()).collect();
    let order = Order::Restart {
        kind: landfall_common::assignment::RestartKind::Restart,
        services: services.clone(),
        min_healthy: landfall_common::Duration::from_secs(2),
        healthy_deadline: landfall_common::Duration::from_secs(30),
    };
    world.assign(2, "v1", order);
    world.settle();
    let restarted: Vec<String> = services.iter().map(ToString::to_string).collect();
    assert_eq!(world.restarts, restarted);
    assert_eq!((world.running.clone(), world.current()), (running, current));
    let report = world.engine.as_mut().unwrap().report(world.now);
    assert_eq!(report.outcome.map(|outcome| outcome.result), Some(OutcomeKind::Committed));
}
