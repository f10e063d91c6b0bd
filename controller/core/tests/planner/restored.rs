//! A controller that was restored from a backup decides nothing from what it remembers (P6, P7).

use landfall_controller_core::command::{Action, RollRequest};
use landfall_controller_core::log::MigrationVerdict;
use landfall_controller_core::record::WayBackKind;
use landfall_controller_core::rollout::StatusWord;

use crate::world::{World, host_id, migration, place, strategy};

fn before_v2() -> World {
    let mut world = World::new(3);
    world.publish("v1", 1, None, strategy());
    world.publish("v2", 2, migration(WayBackKind::None), strategy());
    world.must_succeed("v1");
    world
}

fn v2() -> RollRequest {
    RollRequest { no_way_back: true, ..World::request("v2") }
}

fn runs(world: &World) -> usize {
    world.hosts.values().map(|host| host.migrations.len()).sum()
}

#[test]
fn no_host_is_taken_back_to_what_was_in_force_when_the_backup_was_made() {
    let mut world = before_v2();
    let backup = world.back_up();
    let id = world.roll(v2()).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    let before = world.issued.len();
    let places = world.restore(backup);
    assert_eq!(places.iter().map(|restored| &restored.place).collect::<Vec<_>>(), [&place()]);
    world.run(2000);
    assert_eq!(world.runs(), ["v2"; 3], "v1 does not run on the schema of v2");
    assert_eq!(world.issued.len(), before);
    insta::assert_snapshot!(world.sentences.join("\n"), @"web-01, web-02 and web-03 are not at the release in force and left alone, since the controller was restored from a backup of 2027-01-15 08:00:29 UTC; a new release or `ctl rollback` decides what runs");
    // What should run an operator says.
    let id = world.roll(World::request("v1")).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    assert_eq!(world.runs(), ["v1"; 3]);
}

#[test]
fn a_migration_that_was_not_handed_out_in_the_backup_is_not_run_a_second_time() {
    for host_is_elected in [false, true] {
        let mut world = before_v2();
        let id = world.roll(v2()).unwrap();
        let mut backup = world.back_up();
        if host_is_elected {
            world.until("it runs", |w| runs(w) > 0);
            backup = world.back_up();
        }
        assert_eq!(world.ended(&id), StatusWord::Succeeded);
        let fence = world.hosts[&host_id(1)].migrations[0].2;
        let places = world.restore(backup);
        assert!(places[0].paused.as_ref().is_some_and(|paused| paused.migration_unknown));
        // The host that ran it is away: nobody could say that it did.
        world.cut.push(host_id(1));
        world.run(2000);
        assert_eq!((runs(&world), world.word(&id)), (1, StatusWord::Paused));
        // To go on with the rollout is not to say that the migration may run.
        world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
        world.run(2000);
        assert_eq!((runs(&world), world.word(&id)), (1, StatusWord::Waiting));
        if !host_is_elected {
            insta::assert_snapshot!(world.sentences.join("\n"), @"nobody knows whether the migration on web-01 took effect: the controller was restored from a backup of 2027-01-15 08:00:29 UTC, made before it was handed out; this host or another may have run it since. Look at the database, then type `ctl migration resolve r-7 --applied` or `ctl migration resolve r-7 --not-applied`");
        }
        world.cut.clear();
        let (verdict, reason) = (MigrationVerdict::NotApplied, "the database was put back, too".to_owned());
        world.ask(Action::ResolveMigration { rollout: id.clone(), verdict, reason }).unwrap();
        assert_eq!(world.ended(&id), StatusWord::Succeeded);
        let fences: Vec<_> =
            world.hosts.values().flat_map(|host| &host.migrations).map(|run| run.2).collect();
        assert_eq!(fences.len(), 2);
        assert!(fences.iter().max().unwrap() > &(fence + 1), "{fences:?}: no number is used twice");
    }
}

#[test]
fn a_rollout_that_was_under_way_in_the_backup_waits_for_an_operator() {
    let mut world = before_v2();
    world.publish("v3", 3, None, strategy());
    let id = world.release("v3").unwrap();
    let backup = world.back_up();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    let before = world.issued.len();
    world.restore(backup);
    world.run(2000);
    assert_eq!((world.word(&id), world.issued.len()), (StatusWord::Paused, before));
    insta::assert_snapshot!(world.sentences.join("\n"), @"paused by controller since 2027-01-15 08:00:29 UTC: the controller was restored from a backup of 2027-01-15 08:00:29 UTC, and may have gone on since that was made");
    world.ask(Action::Resume { rollout: id.clone(), reason: String::new() }).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}
