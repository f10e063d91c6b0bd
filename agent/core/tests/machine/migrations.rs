//! A migration on one host: once, within its lease, and of unknown outcome where nobody can know.

use crate::harness::{Harness, S, contract, failure, migrate, stage};
use landfall_agent_core::{Effect, Event, Finish, State};
use landfall_common::report::OutcomeKind;

#[test]
fn a_migration_whose_end_is_not_on_record_is_unknown_and_never_begun_again() {
    let mut host = Harness::new();
    host.assign(stage(1, "v1"));
    host.run();
    host.assign(migrate(2, "v1", 1));
    let State::Migrating { migrating, resumed: false } = host.record().state.clone() else { panic!() };
    host.restart();
    assert!(host.effects().contains(&Effect::ResumeMigration { migrating: migrating.clone() }));
    assert!(!host.effects().iter().any(|effect| matches!(effect, Effect::Migrate { .. })));
    let effect = Box::new(Effect::ResumeMigration { migrating });
    host.send(Event::Done { effect, finish: Finish::Unknown { failure: failure("no exit status") } });
    assert!(matches!(host.outcome(), OutcomeKind::MigrationUnknown { .. }));
    host.assign(migrate(3, "v1", 1));
    assert!(
        matches!(host.report().outcome.unwrap().result, OutcomeKind::Refused { .. }),
        "the lease was reused"
    );
}

#[test]
fn a_migration_runs_once_within_its_lease() {
    let mut host = Harness::new();
    host.assign(migrate(1, "v1", 1));
    host.run();
    assert_eq!(host.outcome(), &OutcomeKind::Migrated);
    assert_eq!(host.names().iter().filter(|name| *name == "migrate").count(), 1);
}

#[test]
fn a_lease_that_ran_out_while_staging_begins_no_migration() {
    let mut host = Harness::new();
    host.assign(migrate(1, "v1", 1));
    host.now.mono += S(61);
    host.run();
    let OutcomeKind::MigrationFailed { failure } = host.outcome() else { panic!("{:?}", host.outcome()) };
    assert!(failure.reason.contains("nothing of it has run"), "{failure:?}");
    assert!(!host.names().contains(&"migrate".to_owned()));
}

#[test]
fn a_migration_that_nobody_answers_for_is_unknown_when_its_lease_is_long_over() {
    let mut host = Harness::new();
    host.assign(stage(1, "v1"));
    host.run();
    host.assign(migrate(2, "v1", 1));
    host.wait(S(89));
    assert!(matches!(host.record().state, State::Migrating { .. }));
    host.wait(S(2));
    assert!(matches!(host.outcome(), OutcomeKind::MigrationUnknown { .. }));
}

#[test]
fn a_restart_before_a_migration_began_gives_it_back_with_certainty() {
    let mut host = Harness::new();
    host.assign(migrate(1, "v1", 1));
    assert!(matches!(host.record().state, State::Fetching { .. }));
    host.restart();
    assert!(matches!(host.outcome(), OutcomeKind::MigrationFailed { .. }));
}

#[test]
fn a_contract_runs_once_on_the_active_release_under_a_lease_of_its_own() {
    let mut host = Harness::new();
    host.contract = true;
    host.assign(migrate(1, "v1", 1));
    host.run();
    host.commit(2, "v1");
    // The lease of the migration is used up.
    host.assign(contract(3, "v1", 1));
    assert!(matches!(host.report().outcome.unwrap().result, OutcomeKind::Refused { .. }));
    host.assign(contract(4, "v1", 2));
    let State::Migrating { migrating, .. } = host.record().state.clone() else {
        panic!("{:?}", host.record())
    };
    assert_eq!(migrating.direction, landfall_common::assignment::Direction::Contract);
    host.restart();
    assert!(host.effects().contains(&Effect::ResumeMigration { migrating }));
    host.run();
    assert_eq!(host.outcome(), &OutcomeKind::Migrated);
    assert_eq!(host.record().active().unwrap().release.name.as_str(), "v1");
}

#[test]
fn a_release_without_a_contract_runs_none() {
    let mut host = Harness::new();
    host.assign(contract(1, "v1", 1));
    host.run();
    let OutcomeKind::MigrationFailed { failure } = host.outcome() else { panic!("{:?}", host.outcome()) };
    assert_eq!(failure.reason, "release v1 has no contract; nothing of it has run");
}
