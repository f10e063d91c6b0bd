//! What stands between the database and a release: which migration has to run, and which ways back exist
//! (P7). The database follows migrations, not releases: what it has taken it keeps when the code goes back.

use std::borrow::Cow;

use landfall_common::Timestamp;
use landfall_common::assignment::{Direction, ReleaseRef};

use crate::contract::Contracted;
use crate::record::{Applied, PlaceRecord, ReleaseRecord, WayBackKind};
use crate::rollout::{Planned, Schema};
use crate::state::State;
use crate::timing::HISTORY;

/// What has to run before a release can be activated in a place.
pub(crate) fn forward(place: &PlaceRecord, release: &ReleaseRecord) -> Schema {
    let Some(facts) = &release.migration else {
        return Schema::Fits { reason: format!("{} has no migration", release.release.name) };
    };
    // Also below others: a release that was left half way, and is brought again after one between.
    if place.migrations.iter().any(|applied| applied.release.digest == release.release.digest) {
        return Schema::Fits { reason: format!("the migration of {} has run already", release.release.name) };
    }
    if let Some(top) = place.migrations.last() {
        let name = &top.release.name;
        if facts.schema.is_some() && facts.schema == top.facts.schema {
            return Schema::Fits { reason: format!("the schema is that of {name}") };
        }
    }
    let migration =
        Planned { release: release.release.clone(), direction: Direction::Up, facts: facts.clone() };
    Schema::Due { migration }
}

/// A place as it is once what is due there has run: what hosts are let go for after it must run on that schema.
pub(crate) fn after<'p>(
    place: &'p PlaceRecord,
    due: &Schema,
    previous: Option<&ReleaseRef>,
    now: Timestamp,
) -> Cow<'p, PlaceRecord> {
    let Schema::Due { migration } = due else { return Cow::Borrowed(place) };
    let mut after = place.clone();
    match migration.direction {
        Direction::Up => after.migrations.push(Applied {
            release: migration.release.clone(),
            from: previous.cloned(),
            facts: migration.facts.clone(),
            at: now,
        }),
        Direction::Down => after.migrations.retain(|applied| applied.release != migration.release),
        Direction::Contract => {}
    }
    Cow::Owned(after)
}

/// How code can go back to an older release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    /// It runs on the schema as it is.
    Code,
    /// This has to run first.
    Down(Planned),
    /// It cannot.
    Blocked {
        /// Why.
        reason: String,
        /// What would be needed.
        needed: String,
    },
}

/// How code can go back to `target`, a release of this application that was in force before, from what the database
/// of its place has taken.
pub(crate) fn way_back(state: &State, place: &PlaceRecord, target: &ReleaseRef) -> Way {
    let (application, migrations) = (&place.place.application, &place.migrations);
    if state.release(application, &target.name).is_some_and(|record| was_taken_back(migrations, record)) {
        return Way::Blocked {
            reason: format!("the migration of {} was taken back since", target.name),
            needed: "publish its content anew under another name and release that".to_owned(),
        };
    }
    past(place, target)
}

/// Whether a release that was proven once lacks its migration now.
fn was_taken_back(migrations: &[Applied], release: &ReleaseRecord) -> bool {
    let Some(facts) = &release.migration else { return false };
    let has = |applied: &Applied| {
        applied.release.digest == release.release.digest
            || facts.schema.is_some() && facts.schema == applied.facts.schema
    };
    // What is older than all that is remembered has been forgotten, and not taken back.
    let forgotten = migrations.len() >= HISTORY
        && migrations.iter().all(|applied| applied.release.counter > release.release.counter);
    !forgotten && !migrations.iter().any(has)
}

/// How code of `target` gets past what the database has taken since.
///
/// A compatible migration lets pass the release that was in force before it, and none that is older: what
/// was expanded for the one may be contracted for the next. At most one migration is taken back at a time,
/// and only the newest one. What a contract has taken away no older release does without.
pub(crate) fn past(place: &PlaceRecord, target: &ReleaseRef) -> Way {
    if let Some(contracted) = place.contracted_past(target) {
        return contracted_away(contracted, target);
    }
    let mut beyond = place.migrations.iter().rev().filter(|applied| applied.release.counter > target.counter);
    let mut down = None;
    let mut next = beyond.next();
    if let Some(applied) = next
        && applied.facts.way_back == WayBackKind::Reversible
    {
        down = Some(Planned {
            release: applied.release.clone(),
            direction: Direction::Down,
            facts: applied.facts.clone(),
        });
        next = beyond.next();
    }
    for applied in next.into_iter().chain(beyond) {
        let name = &applied.release.name;
        match applied.facts.way_back {
            WayBackKind::None => {
                return Way::Blocked {
                    reason: format!("the migration of {name} cannot be undone"),
                    needed: format!(
                        "publish a release that mends {name}, or restore a backup of the database from before it \
                         and publish the content of {} anew under another name",
                        target.name
                    ),
                };
            }
            WayBackKind::Reversible => {
                return Way::Blocked {
                    reason: format!(
                        "it lies more than one reversible migration back, the next is that of {name}"
                    ),
                    needed: "go back one release at a time".to_owned(),
                };
            }
            WayBackKind::Compatible => {
                let knows = applied.from.as_ref().is_some_and(|from| target.counter >= from.counter);
                if !knows {
                    let from = applied.from.as_ref().map_or("nothing", |from| from.name.as_str());
                    return Way::Blocked {
                        reason: format!(
                            "the migration of {name} is compatible with {from}, and with nothing older"
                        ),
                        needed: format!("go back to {from} at most, or publish a release that mends {name}"),
                    };
                }
            }
        }
    }
    down.map_or(Way::Code, Way::Down)
}

fn contracted_away(contracted: &Contracted, target: &ReleaseRef) -> Way {
    let name = &contracted.release.name;
    let reason = if contracted.known {
        format!("the contract of {name} has taken away what {} needs", target.name)
    } else {
        format!("the contract of {name} may have taken away what {} needs", target.name)
    };
    Way::Blocked {
        reason,
        needed: format!(
            "publish a release that mends {name}, or restore a backup of the database from before it and publish the \
             content of {} anew under another name",
            target.name
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{MigrationFacts, Place};
    use landfall_common::{Duration, ReleaseCounter, ReleaseName, Sha256};

    fn release(counter: u64) -> ReleaseRef {
        let name = format!("v{counter}");
        let digest = Sha256::of(name.as_bytes());
        ReleaseRef {
            name: ReleaseName::new(name).unwrap(),
            counter: ReleaseCounter(counter),
            digest,
            length: 1,
        }
    }

    fn applied(counter: u64, from: u64, way_back: WayBackKind) -> Applied {
        let lease = Duration::from_secs(60);
        let facts = MigrationFacts { lease, way_back, idempotent: false, schema: None };
        let at = Timestamp::from_ms(0);
        Applied { release: release(counter), from: Some(release(from)), facts, at }
    }

    fn place() -> PlaceRecord {
        let application = "tenants".parse().unwrap();
        PlaceRecord::new(Place { application, environment: "production".parse().unwrap() })
    }

    #[test]
    fn nothing_goes_back_past_a_contract_that_may_have_run() {
        let mut place = place();
        place.migrations = vec![applied(2, 1, WayBackKind::Compatible)];
        let way = |place: &PlaceRecord, target| match past(place, &release(target)) {
            Way::Code => "code".to_owned(),
            Way::Down(planned) => format!("down {}", planned.release.name),
            Way::Blocked { reason, .. } => reason,
        };
        let at = Timestamp::from_ms(0);
        assert_eq!(way(&place, 1), "code");
        place.contract_begins(&release(2), 7, at);
        assert_eq!(way(&place, 1), "the contract of v2 may have taken away what v1 needs");
        assert_eq!((way(&place, 2), way(&place, 3)), ("code".to_owned(), "code".to_owned()));
        // Handed out once more, and not taken: the first attempt may still have run.
        place.contract_begins(&release(2), 8, at);
        place.contract_never_began(&release(2), 8);
        assert_ne!(way(&place, 1), "code");
        place.contract_never_began(&release(2), 7);
        assert_eq!(way(&place, 1), "code");
        place.contract_ran(&release(2), 9, at);
        place.contract_undone(&release(2));
        assert_eq!(way(&place, 1), "the contract of v2 has taken away what v1 needs");
        // That of the next is known not to have run, and that of the one before stays.
        place.contract_begins(&release(3), 10, at);
        assert_eq!(way(&place, 2), "the contract of v3 may have taken away what v2 needs");
        place.contract_undone(&release(3));
        assert_eq!((way(&place, 1), way(&place, 2)).1, "code");
        assert_ne!(way(&place, 1), "code");
        place.contract_ran(&release(3), 11, at);
        assert_eq!(place.contracts.len(), 1, "what is older is behind it");
    }

    #[test]
    fn the_way_back_is_what_the_newest_migrations_allow() {
        use WayBackKind::{Compatible, None, Reversible};
        type Stack = &'static [(u64, u64, WayBackKind)];
        let cases: [(Stack, u64, &str); 10] = [
            (&[], 1, "code"),
            (&[(1, 0, None)], 1, "code"),
            (&[(2, 1, Compatible)], 1, "code"),
            (&[(2, 1, Reversible)], 1, "down v2"),
            (&[(2, 1, None)], 1, "the migration of v2 cannot be undone"),
            // Contracted for v2, so v1 would not run on it.
            (
                &[(2, 1, Compatible), (3, 2, Compatible)],
                1,
                "the migration of v3 is compatible with v2, and with nothing older",
            ),
            // v2 failed and went back, so v3 was made for v1 as well.
            (&[(2, 1, Compatible), (3, 1, Compatible)], 1, "code"),
            (&[(2, 1, Compatible), (3, 2, Reversible)], 1, "down v3"),
            (&[(2, 1, None), (3, 2, Reversible)], 1, "the migration of v2 cannot be undone"),
            (
                &[(2, 1, Reversible), (3, 2, Reversible)],
                1,
                "it lies more than one reversible migration back, the next is that of v2",
            ),
        ];
        for (stack, target, expected) in cases {
            let mut place = place();
            place.migrations = stack.iter().map(|&(c, from, way)| applied(c, from, way)).collect();
            let got = match past(&place, &release(target)) {
                Way::Code => "code".to_owned(),
                Way::Down(planned) => format!("down {}", planned.release.name),
                Way::Blocked { reason, .. } => reason,
            };
            assert_eq!(got, expected, "{stack:?}");
        }
    }
}
