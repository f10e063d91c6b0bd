//! Releases of whose commits CI has to have said something before they begin.

use landfall_common::assignment::RestartKind;
use landfall_common::evidence::{CommitId, Demand, EvidenceKey, Statement, Verdict};
use landfall_common::strategy::{Entry, Strategy};
use landfall_common::{EvidenceName, Timestamp};
use landfall_controller_core::command::{Action, IfHeld, Overrides, RollRequest};
use landfall_controller_core::evidence::{EVIDENCE_AT_MOST, EvidenceRecord, UNNAMED_AT_MOST};
use landfall_controller_core::record::{Change, Record};
use landfall_controller_core::restart::RestartRequest;
use landfall_controller_core::{Output, Refusal, State, line, rollout::StatusWord};
use proptest::prelude::*;

use crate::world::{World, anna, name, place, strategy};

fn key(number: usize) -> EvidenceKey {
    EvidenceKey::new(format!("{number:08x}{:056}", 0)).unwrap()
}

fn commit(number: usize) -> CommitId {
    CommitId::new(format!("{number:08x}{:032}", 0)).unwrap()
}

fn tests() -> EvidenceName {
    EvidenceName::new("tests").unwrap()
}

/// Tests, said by one of these keys.
fn asks(keys: &[usize]) -> Strategy {
    let demand = Demand { name: tests(), keys: keys.iter().copied().map(key).collect() };
    Strategy { entry: Entry { evidence: vec![demand], ..Entry::default() }, ..strategy() }
}

fn statement(of: usize, by: usize, run: u64, result: Verdict) -> Statement {
    Statement {
        application: place().application,
        commit: commit(of),
        name: tests(),
        result,
        run,
        url: format!("https://ci/{run}"),
        at: Timestamp::from_ms(7),
        key: key(by),
    }
}

fn submit(world: &mut World, statement: Statement) -> Result<(), Refusal> {
    let signature = "ab".repeat(64);
    world.ask(Action::SubmitEvidence { statement: Box::new(statement), signature }).map(drop)
}

fn passes(world: &mut World, of: usize, by: usize, run: u64) {
    submit(world, statement(of, by, run, Verdict::Passed)).unwrap();
}

fn fails(world: &mut World, of: usize, by: usize, run: u64) {
    submit(world, statement(of, by, run, Verdict::Failed)).unwrap();
}

/// A release of the commit of its number.
fn publish(world: &mut World, number: u64, strategy: Strategy) {
    let release = format!("v{number}");
    let of = usize::try_from(number).unwrap();
    world.commits.insert(name(&release), commit(of).to_string());
    world.publish(&release, number, None, strategy);
}

fn refused(world: &mut World, release: &str) -> String {
    let refusal = world.release(release).unwrap_err();
    assert!(matches!(refusal, Refusal::Unevidenced(_)), "{refusal}");
    refusal.to_string()
}

/// A fleet on v1, of which the first key has said that it passed, and the same asked for v2.
pub fn world() -> World {
    let mut world = World::new(3);
    publish(&mut world, 1, asks(&[1]));
    publish(&mut world, 2, asks(&[1]));
    passes(&mut world, 1, 1, 10);
    world.must_succeed("v1");
    world
}

#[test]
fn a_release_begins_once_its_tests_have_passed() {
    let mut world = world();
    insta::assert_snapshot!(refused(&mut world, "v2"), @"v2 lacks the evidence tests for tenants in production: there is none of commit 000000020000; `ctl evidence add --commit 0000000200000000000000000000000000000000 --name tests --result passed --key FILE` hands it in, a release can wait for it with --queue, and --without-evidence REASON does without (role manager)");
    // Of another commit, another thing, by a key that may not.
    passes(&mut world, 3, 1, 1);
    submit(
        &mut world,
        Statement { name: EvidenceName::new("lint").unwrap(), ..statement(2, 1, 1, Verdict::Passed) },
    )
    .unwrap();
    assert!(refused(&mut world, "v2").contains("there is none of commit"));
    passes(&mut world, 2, 7, 1);
    insta::assert_snapshot!(refused(&mut world, "v2"), @"v2 lacks the evidence tests for tenants in production: that of commit 000000020000 was signed by key 000000070000, and v2 names 000000010000 for it; `ctl evidence add --commit 0000000200000000000000000000000000000000 --name tests --result passed --key FILE` hands it in, a release can wait for it with --queue, and --without-evidence REASON does without (role manager)");
    fails(&mut world, 2, 1, 11);
    insta::assert_snapshot!(refused(&mut world, "v2"), @"v2 lacks the evidence tests for tenants in production: run 11 of commit 000000020000 has failed, by key 000000010000 (https://ci/11); `ctl evidence add --commit 0000000200000000000000000000000000000000 --name tests --result passed --run 12 --key FILE` with that key, or a higher run, hands in one that has passed, a release can wait for it with --queue, and --without-evidence REASON does without (role manager)");
    passes(&mut world, 2, 1, 12);
    let id = world.release("v2").unwrap();
    // What has begun goes on, whatever is said later.
    fails(&mut world, 2, 1, 13);
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    let began = world.log.iter().rev().find(|entry| entry.event.kind() == "rollout_started").unwrap();
    insta::assert_snapshot!(began.event.summary(), @"rollout of tenants v2 to production after v1 began on 3 hosts; tests passed in run 12");
    let said = world.log.iter().rev().find(|entry| entry.event.kind() == "evidence_submitted").unwrap();
    insta::assert_snapshot!(said.event.summary(), @"tests of commit 000000020000 of tenants failed in run 13");
}

#[test]
fn an_older_run_that_is_handed_in_again_undoes_nothing() {
    let mut world = world();
    passes(&mut world, 2, 1, 11);
    fails(&mut world, 2, 1, 12);
    let entries = world.log.len();
    let refusal = submit(&mut world, statement(2, 1, 11, Verdict::Passed)).unwrap_err();
    insta::assert_snapshot!(refusal, @"run 11 says nothing of tests of commit 000000020000 any more, since run 12 has failed; a higher run of that key counts (`ctl evidence add --run NUMBER`), and several jobs of one run need a name each");
    // Nor does the same run that has thought better of it; one that failed after all is taken.
    passes(&mut world, 3, 1, 12);
    fails(&mut world, 3, 1, 12);
    let refusal = submit(&mut world, statement(3, 1, 12, Verdict::Passed)).unwrap_err();
    insta::assert_snapshot!(refusal, @"run 12 has said already that tests of commit 000000030000 failed; a higher run of that key counts (`ctl evidence add --run NUMBER`), and several jobs of one run need a name each");
    let entries = entries + 2;
    let refusal = submit(&mut world, statement(2, 1, 12, Verdict::Passed)).unwrap_err();
    assert!(matches!(refusal, Refusal::EvidenceOutrun { run: 12, known: 12, .. }), "{refusal}");
    // The very same changes nothing.
    fails(&mut world, 2, 1, 12);
    assert_eq!(world.log.len(), entries);
    assert!(refused(&mut world, "v2").contains("run 12"));
    // Each key counts for itself.
    passes(&mut world, 2, 7, 1);
    assert!(refused(&mut world, "v2").contains("run 12"));
}

#[test]
fn of_several_keys_one_that_has_failed_holds_it() {
    let mut world = World::new(3);
    publish(&mut world, 1, asks(&[1, 2]));
    passes(&mut world, 1, 1, 5);
    fails(&mut world, 1, 2, 3);
    assert!(refused(&mut world, "v1").contains("run 3 of commit"));
    passes(&mut world, 1, 2, 4);
    world.must_succeed("v1");
}

#[test]
fn a_release_that_names_no_commit_in_full_has_no_evidence() {
    let mut world = World::new(3);
    world.publish("v1", 1, None, asks(&[1]));
    insta::assert_snapshot!(refused(&mut world, "v1"), @"v1 lacks the evidence tests for tenants in production: it names no commit in full that there could be any of; publish it under another name, from a tag or with --commit and the full id, and --without-evidence REASON does without (role manager)");
    world.commits.insert(name("v2"), "abc1234".to_owned());
    world.publish("v2", 2, None, asks(&[1]));
    assert!(refused(&mut world, "v2").contains("names no commit in full"));
}

#[test]
fn nobody_waits_for_evidence_that_cannot_come() {
    let mut world = world();
    world.publish("v3", 3, None, strategy());
    let queued = |release: &str| RollRequest { if_held: IfHeld::Queue, ..World::request(release) };
    let refusal = world.roll(queued("v3")).unwrap_err();
    assert!(matches!(refusal, Refusal::Unevidenced(_)), "{refusal}");
    // It stands in line since nothing is asked for, and by its turn something is.
    let mut world = World::new(3);
    publish(&mut world, 1, asks(&[1]));
    passes(&mut world, 1, 1, 10);
    world.publish("v3", 3, None, strategy());
    let before = world.release("v1").unwrap();
    let id = world.roll(queued("v3")).unwrap();
    assert_eq!(world.ended(&before), StatusWord::Succeeded);
    assert_eq!(world.ended(&id), StatusWord::Failed);
    let said = world.log.iter().rev().find(|entry| entry.event.kind() == "rollout_finished").unwrap();
    insta::assert_snapshot!(said.event.summary(), @"rollout of tenants v3 to production failed, 0 of 0 hosts run it: when its turn came it could not begin: v3 lacks the evidence tests for tenants in production: it names no commit in full that there could be any of; v1, which is in force, asks for it; publish it under another name, from a tag or with --commit and the full id, and --without-evidence REASON does without (role manager)");
}

#[test]
fn a_release_does_not_shed_what_the_one_in_force_asks_for() {
    let mut world = world();
    // Neither by asking for nothing, nor by naming another key.
    publish(&mut world, 3, strategy());
    publish(&mut world, 4, asks(&[7]));
    insta::assert_snapshot!(refused(&mut world, "v3"), @"v3 lacks the evidence tests for tenants in production: there is none of commit 000000030000; v1, which is in force, asks for it; `ctl evidence add --commit 0000000300000000000000000000000000000000 --name tests --result passed --key FILE` hands it in, a release can wait for it with --queue, and --without-evidence REASON does without (role manager)");
    passes(&mut world, 4, 7, 1);
    insta::assert_snapshot!(refused(&mut world, "v4"), @"v4 lacks the evidence tests for tenants in production: that of commit 000000040000 was signed by key 000000070000, and v1 names 000000010000 for it; v1, which is in force, asks for it; `ctl evidence add --commit 0000000400000000000000000000000000000000 --name tests --result passed --key FILE` hands it in, a release can wait for it with --queue, and --without-evidence REASON does without (role manager)");
    passes(&mut world, 4, 1, 11);
    world.must_succeed("v4");
    // From then on it is the new key that counts, and in the end none.
    publish(&mut world, 5, strategy());
    passes(&mut world, 5, 1, 12);
    assert!(refused(&mut world, "v5").contains("v4 names"));
    passes(&mut world, 5, 7, 2);
    world.must_succeed("v5");
    publish(&mut world, 6, strategy());
    world.must_succeed("v6");
}

#[test]
fn what_stands_in_line_begins_once_it_has_passed_and_not_once_it_has_failed() {
    let mut world = world();
    let queued = RollRequest { if_held: IfHeld::Queue, ..World::request("v2") };
    let id = world.roll(queued).unwrap();
    let waits = |world: &World| {
        let waits = line::waits(&world.state, world.rollout(&id), world.now);
        waits.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    world.run(60);
    insta::assert_snapshot!(waits(&world), @"rollout r-8 of v2 waits for evidence: v2 lacks the evidence tests for tenants in production: there is none of commit 000000020000; `ctl evidence add --commit 0000000200000000000000000000000000000000 --name tests --result passed --key FILE` hands it in");
    let (message, period) = ("audit".to_owned(), landfall_common::Duration::from_secs(120));
    world.ask(Action::Lock { place: place(), message, period }).unwrap();
    passes(&mut world, 2, 1, 11);
    world.run(60);
    // By the time its turn comes it has failed.
    fails(&mut world, 2, 1, 12);
    world.run(300);
    assert_eq!(world.word(&id), StatusWord::Pending);
    insta::assert_snapshot!(waits(&world), @"rollout r-8 of v2 waits for evidence: v2 lacks the evidence tests for tenants in production: run 12 of commit 000000020000 has failed, by key 000000010000 (https://ci/12); `ctl evidence add --commit 0000000200000000000000000000000000000000 --name tests --result passed --run 13 --key FILE` with that key, or a higher run, hands in one that has passed");
    passes(&mut world, 2, 1, 13);
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn what_has_not_passed_ends_nothing_that_is_under_way() {
    let mut world = world();
    publish(&mut world, 3, asks(&[1]));
    passes(&mut world, 2, 1, 11);
    let id = world.release("v2").unwrap();
    let refusal = world.roll(RollRequest { if_held: IfHeld::Supersede, ..World::request("v3") }).unwrap_err();
    assert!(matches!(refusal, Refusal::Unevidenced(_)), "{refusal}");
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
}

#[test]
fn who_may_does_without_and_says_why() {
    let mut world = world();
    fails(&mut world, 2, 1, 11);
    let without = RollRequest { without_evidence: "CI burns".to_owned(), ..World::request("v2") };
    let id = world.roll(without).unwrap();
    assert_eq!(world.ended(&id), StatusWord::Succeeded);
    let told = world.log.iter().find(|entry| entry.event.kind() == "evidence_overridden").unwrap();
    insta::assert_snapshot!(told.event.summary(), @"rollout r-9 of v2 is to begin although v2 lacks the evidence tests for tenants in production: run 11 of commit 000000020000 has failed, by key 000000010000 (https://ci/11): CI burns");
}

#[test]
fn neither_a_way_back_nor_its_rehearsal_nor_a_restart_asks_for_evidence() {
    let mut world = World::new(3);
    publish(&mut world, 1, strategy());
    publish(&mut world, 2, asks(&[1]));
    publish(&mut world, 3, asks(&[1]));
    world.must_succeed("v1");
    passes(&mut world, 2, 1, 11);
    world.must_succeed("v2");
    fails(&mut world, 2, 1, 12);
    // What is new here is another matter.
    let drill = |to: &str| Action::Drill { place: place(), to: Some(name(to)) };
    insta::assert_snapshot!(world.ask(drill("v3")).unwrap_err(), @"no drill in tenants in production: v3 lacks the evidence tests for tenants in production: there is none of commit 000000030000; `ctl evidence add --commit 0000000300000000000000000000000000000000 --name tests --result passed --key FILE` hands it in");
    world.ask(drill("v1")).unwrap();
    world.until("the drill is over", |world| !world.rollout_held());
    let in_force = world.state.place(&place()).and_then(|place| place.in_force()).unwrap();
    let restart = RestartRequest {
        place: place(),
        release: in_force.release.digest,
        kind: RestartKind::Restart,
        services: ["web".parse().unwrap()].into(),
        reason: String::new(),
        overrides: Overrides::default(),
        outside_window: String::new(),
    };
    world.ask(Action::Restart(Box::new(restart))).unwrap();
    world.until("the restart is over", |world| !world.rollout_held());
    // Older is not proven: what was passed over here is as new as the next one, and nobody goes back to it either.
    publish(&mut world, 4, asks(&[1]));
    passes(&mut world, 4, 1, 13);
    world.must_succeed("v4");
    let refusal = world.ask(drill("v3")).unwrap_err();
    assert!(matches!(refusal, Refusal::NoDrill { .. }) && refusal.to_string().contains("lacks"), "{refusal}");
    let refusal = world.rollback(Some("v3")).unwrap_err();
    assert!(matches!(refusal, Refusal::NothingBefore { .. }), "{refusal}");
    // Back, and forth again to what was proven here, whatever is said of it since.
    let back = world.rollback(None).unwrap();
    assert_eq!(world.ended(&back), StatusWord::Succeeded);
    fails(&mut world, 4, 1, 14);
    let forth = world.rollback(Some("v4")).unwrap();
    assert_eq!(world.ended(&forth), StatusWord::Succeeded);
}

#[test]
fn nothing_is_kept_of_applications_that_are_not_there() {
    let mut world = World::new(1);
    let of_another = |name: &str| {
        let application = landfall_common::AppName::new(name).unwrap();
        Statement { application, ..statement(1, 1, 1, Verdict::Passed) }
    };
    // Hosts are enough, since tests run before there is a release.
    submit(&mut world, of_another(place().application.as_str())).unwrap();
    let refusal = submit(&mut world, of_another("tenant")).unwrap_err();
    insta::assert_snapshot!(refusal, @"no application tenant is known here: no release of it is published, and no host is enrolled for it; `ctl releases` lists releases, `ctl hosts` hosts");
    let refused = landfall_common::AppName::new("tenant").unwrap();
    assert_eq!(world.state.evidence(&refused).count(), 0);
}

#[test]
fn what_was_said_outlives_the_controller() {
    let mut world = world();
    fails(&mut world, 2, 1, 11);
    world.state = State::load(world.state.records().collect::<Vec<_>>(), world.now);
    assert!(submit(&mut world, statement(2, 1, 10, Verdict::Passed)).is_err());
    let all: Vec<&EvidenceRecord> = world.state.evidence(&place().application).collect();
    assert_eq!(all.iter().map(|record| record.statement.run).collect::<Vec<_>>(), [10, 11]);
}

/// Statements that were handed in long ago, without asking for each.
fn fill(world: &mut World, statements: impl IntoIterator<Item = Statement>) {
    let record = |(number, statement): (usize, Statement)| {
        Record::Evidence(Box::new(EvidenceRecord {
            statement,
            signature: String::new(),
            by: anna(),
            at: world.now,
            number: number as u64,
        }))
    };
    let records: Vec<Record> = statements.into_iter().enumerate().map(record).collect();
    for record in records {
        world.commit(Output { changes: vec![Change::Put { record }], ..Output::default() });
    }
}

fn kept(world: &World) -> Vec<Statement> {
    world.state.evidence(&place().application).map(|record| record.statement.clone()).collect()
}

#[test]
fn nobody_pushes_out_what_another_has_said_nor_failures_a_success() {
    let mut world = World::new(1);
    publish(&mut world, 1, asks(&[1, 2]));
    let failed = (0..EVIDENCE_AT_MOST).map(|of| statement(of, 1, 2, Verdict::Failed));
    let passed = (0..EVIDENCE_AT_MOST).map(|of| statement(5000 + of, 1, 2, Verdict::Passed));
    fill(&mut world, [statement(1, 2, 1, Verdict::Passed)].into_iter().chain(failed).chain(passed));
    let all = kept(&world).len();
    // What replaces another one of the same result takes no room.
    fails(&mut world, 7, 1, 3);
    assert_eq!(kept(&world).len(), all);
    // The oldest failure goes for another one of the same key, and nothing else.
    fails(&mut world, 9001, 1, 1);
    let left = kept(&world);
    assert_eq!(left.len(), all);
    assert!(!left.contains(&statement(0, 1, 2, Verdict::Failed)), "the oldest failure has gone");
    assert!(left.contains(&statement(5000, 1, 2, Verdict::Passed)));
    assert!(left.contains(&statement(1, 2, 1, Verdict::Passed)), "it is of another key");
    // The same where what had failed passes: it is one success more.
    passes(&mut world, 7, 1, 4);
    assert!(!kept(&world).contains(&statement(5000, 1, 2, Verdict::Passed)));
    assert!(kept(&world).contains(&statement(5001, 1, 2, Verdict::Passed)));
    // However many have failed, a good commit is released.
    publish(&mut world, 3, asks(&[1, 2]));
    passes(&mut world, 3, 1, 3);
    passes(&mut world, 3, 2, 3);
    assert!(world.release("v3").is_ok());
}

#[test]
fn a_stranger_who_floods_it_loses_his_own() {
    let mut world = World::new(1);
    publish(&mut world, 1, asks(&[1, 2]));
    let ours = (0..EVIDENCE_AT_MOST).map(|of| statement(of, 1, 2, Verdict::Passed));
    let strangers = (0..UNNAMED_AT_MOST + 3).map(|of| statement(of, 7, 2, Verdict::Failed));
    fill(&mut world, ours.chain(strangers));
    let of_strangers =
        |world: &World| kept(world).iter().filter(|said| ![key(1), key(2)].contains(&said.key)).count();
    // One comes, and whatever is too many goes: what nobody names any more may have been more.
    for number in 0..20 {
        passes(&mut world, 9000 + number, 100 + number, 1);
        assert_eq!(of_strangers(&world), UNNAMED_AT_MOST);
    }
    assert_eq!(kept(&world).len(), EVIDENCE_AT_MOST + UNNAMED_AT_MOST);
    assert!(!kept(&world).contains(&statement(0, 7, 2, Verdict::Failed)));
    // Nor do ours take the place of a stranger's, who may be the one that the next release names.
    passes(&mut world, 9999, 1, 1);
    assert_eq!(of_strangers(&world), UNNAMED_AT_MOST);
    assert!(kept(&world).contains(&statement(9019, 119, 1, Verdict::Passed)));
}

#[test]
fn the_same_result_of_the_same_run_is_taken_twice() {
    let mut world = world();
    fails(&mut world, 2, 1, 11);
    let log = world.log.len();
    let again = Statement { url: "https://ci/elsewhere".to_owned(), ..statement(2, 1, 11, Verdict::Failed) };
    submit(&mut world, again).unwrap();
    assert_eq!(world.log.len(), log, "nothing has changed");
}

proptest! {
    /// Whatever is handed in and handed in again: of each key the highest run is what counts.
    #[test]
    fn in_whatever_order_it_comes_the_last_run_of_each_key_counts(
        said in proptest::collection::vec((0..3_usize, 1..6_u64, any::<bool>()), 0..40),
    ) {
        let mut world = World::new(1);
        publish(&mut world, 1, asks(&[0, 1]));
        let mut last = std::collections::BTreeMap::new();
        for (by, run, good) in said {
            let verdict = if good { Verdict::Passed } else { Verdict::Failed };
            let known = last.get(&by).copied();
            let taken = submit(&mut world, statement(1, by, run, verdict)).is_ok();
            // A run that had passed may have failed after all, and not the other way round.
            let newer = known.is_none_or(|(known, had)| run > known || (run == known && had && !good));
            prop_assert_eq!(taken, newer || known == Some((run, good)));
            if newer {
                last.insert(by, (run, good));
            }
        }
        let words: Vec<bool> = [0, 1].iter().filter_map(|by| last.get(by).map(|(_, good)| *good)).collect();
        let begins = !words.is_empty() && words.iter().all(|good| *good);
        prop_assert_eq!(world.release("v1").is_ok(), begins);
    }
}
