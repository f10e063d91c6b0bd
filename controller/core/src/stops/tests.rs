//! The laws of the rule, over any releases.

use std::collections::BTreeMap;

use landfall_common::manifest::{Follows, Origin};
use landfall_common::{ReleaseCounter, Sha256, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::log::Actor;
use crate::record::Content;

type Releases = BTreeMap<ReleaseName, ReleaseRecord>;

fn name(counter: u64) -> ReleaseName {
    ReleaseName::new(format!("v{counter}")).unwrap()
}

fn release(counter: u64) -> ReleaseRef {
    let name = name(counter);
    let digest = Sha256::of(name.as_str().as_bytes());
    ReleaseRef { name, counter: ReleaseCounter(counter), digest, length: 1 }
}

fn record(counter: u64, follows: Option<u64>) -> ReleaseRecord {
    ReleaseRecord {
        application: "shop".parse().unwrap(),
        release: release(counter),
        published_at: Timestamp::from_ms(0),
        by: Actor::Controller,
        origin: Origin::Artifact { commit: None },
        notes: None,
        migration: None,
        contract: None,
        environments: BTreeMap::new(),
        checks: Vec::new(),
        services: Vec::new(),
        metrics: Vec::new(),
        hosts_keep: 0,
        follows: follows.map(|stop| Follows { release: name(stop), counter: ReleaseCounter(stop) }),
        content: Content::Here,
    }
}

fn active(counter: u64, proven: bool) -> Active {
    Active { release: release(counter), proven }
}

fn releases(all: &[(u64, Option<u64>)]) -> Releases {
    all.iter().map(|&(counter, follows)| (name(counter), record(counter, follows))).collect()
}

/// `1 2`, or why not.
fn told(releases: &Releases, runs: Option<&Active>, target: u64, shut: &[u64]) -> String {
    let closed = |stop: &ReleaseRecord| {
        shut.contains(&stop.release.counter.0).then(|| Closed::because("which is closed"))
    };
    match way(runs, &release(target), |name| releases.get(name), closed) {
        Ok(way) => way.iter().map(|stop| stop.name.to_string()).collect::<Vec<_>>().join(" "),
        Err(no_way) => no_way.reason(),
    }
}

#[test]
fn the_way_goes_over_what_each_release_follows() {
    let all = releases(&[(1, None), (2, None), (3, Some(2)), (4, None), (5, Some(3)), (6, Some(5))]);
    type Case = (Option<(u64, bool)>, u64, &'static str);
    let cases: [Case; 12] = [
        (Some((1, true)), 2, ""),
        (Some((1, true)), 3, "v2"),
        (Some((2, true)), 3, ""),
        (Some((1, true)), 4, ""),
        (Some((1, true)), 6, "v2 v3 v5"),
        (Some((4, true)), 6, "v5"),
        (Some((5, true)), 6, ""),
        // Back, and forth again.
        (Some((6, true)), 1, ""),
        // A stop that is not proven is taken again; what is newer than a stop is beyond it, whatever became of it.
        (Some((2, false)), 3, "v2"),
        (Some((4, false)), 5, ""),
        (Some((5, false)), 5, ""),
        // It has nothing to convert.
        (None, 6, ""),
    ];
    for (runs, target, expected) in cases {
        let runs = runs.map(|(counter, proven)| active(counter, proven));
        assert_eq!(told(&all, runs.as_ref(), target, &[]), expected, "{runs:?} to v{target}");
    }
}

#[test]
fn a_stop_that_cannot_be_taken_is_no_way() {
    let all = releases(&[(1, None), (3, Some(2)), (5, Some(3)), (7, Some(7)), (8, Some(9)), (9, Some(8))]);
    let from = active(1, true);
    let told = |target, shut: &[u64]| told(&all, Some(&from), target, shut);
    assert_eq!(told(3, &[]), "v3 follows v2, which is not published here");
    assert_eq!(told(5, &[]), "v3 follows v2, which is not published here");
    assert_eq!(told(5, &[3]), "v5 follows v3, which is closed");
    // What was refused where it was published is no way without an end.
    assert_eq!(told(7, &[]), "v7 follows v7, which is no older release");
    assert_eq!(told(8, &[]), "v8 follows v9, which is no older release");
    assert_eq!(told(9, &[]), "v8 follows v9, which is no older release");
}

#[test]
fn whoever_cannot_come_there_is_told_what_helps() {
    let all = releases(&[(1, None), (2, Some(1)), (3, Some(2))]);
    let closed = |_: &ReleaseRecord| {
        let helps = Some("`ctl release v2 --publish-only` in its repository uploads them again".to_owned());
        Some(Closed { why: "whose files were removed".to_owned(), helps })
    };
    let no_way = way(Some(&active(1, true)), &release(3), |name| all.get(name), closed).unwrap_err();
    insta::assert_snapshot!(no_way, @"it runs v1, and v3 follows v2, whose files were removed; what helps: `ctl release v2 --publish-only` in its repository uploads them again; or a release that follows something else, or to build the host anew; `ctl hosts cordon` leaves it as it is");
}

fn any_releases() -> impl Strategy<Value = Releases> {
    // Some of what they follow is not there, and some is newer.
    proptest::collection::vec(proptest::option::of(1u64..14), 1..12).prop_map(|follows| {
        let numbered = (1..).zip(follows);
        numbered.map(|(counter, follows)| (name(counter), record(counter, follows))).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// A way goes up, ends below its target, and each release on it is met by the one before.
    #[test]
    fn each_stop_is_met_by_the_one_before(
        all in any_releases(), from in 1u64..12, proven in any::<bool>(), target in 1u64..12,
        shut in proptest::collection::vec(1u64..12, 0..3),
    ) {
        let closed = |stop: &ReleaseRecord| {
            shut.contains(&stop.release.counter.0).then(|| Closed::because("which is closed"))
        };
        let runs = active(from, proven);
        let Ok(way) = way(Some(&runs), &release(target), |name| all.get(name), closed) else { return Ok(()) };
        let mut before = runs;
        for next in way.iter().cloned().chain([release(target)]) {
            let follows = all.get(&next.name).and_then(|record| record.follows.clone());
            let met = follows.is_none_or(|stop| stop.is_met_by(before.release.counter, before.proven));
            prop_assert!(met, "{:?} after {:?}", next, before);
            let is_stop = next != release(target);
            prop_assert!(!is_stop || !shut.contains(&next.counter.0));
            let again = next == before.release && !before.proven;
            prop_assert!(!is_stop || next.counter > before.release.counter || again);
            before = Active { release: next, proven: true };
        }
    }

    /// Whoever has come to the first stop has the rest of the way before him, and nothing else.
    #[test]
    fn a_way_is_gone_step_by_step(all in any_releases(), from in 1u64..12, target in 1u64..12) {
        let way = |runs: &Active| way(Some(runs), &release(target), |name| all.get(name), |_| None);
        let Ok(whole) = way(&active(from, true)) else { return Ok(()) };
        for (done, stop) in whole.iter().enumerate() {
            let runs = Active { release: stop.clone(), proven: true };
            prop_assert_eq!(way(&runs).unwrap(), whole[done + 1..].to_vec());
            // Where it fails on the stop, that is what it takes next.
            let runs = Active { proven: false, ..runs };
            prop_assert_eq!(way(&runs).unwrap(), whole[done..].to_vec());
        }
    }

    /// No way back is held, whatever follows what, where what a release follows is older.
    #[test]
    fn a_way_back_is_straight(all in any_releases(), from in 1u64..12, proven in any::<bool>(), back in 0u64..11) {
        let older: Releases = all
            .into_iter()
            .map(|(name, record)| {
                let own = record.release.counter;
                let follows = record.follows.clone().filter(|stop| stop.counter < own);
                (name, ReleaseRecord { follows, ..record })
            })
            .collect();
        let target = from.saturating_sub(back).max(1);
        let runs = active(from, proven);
        let way = way(Some(&runs), &release(target), |name| older.get(name), |_| Some(Closed::because("")));
        prop_assert_eq!(way.map(|way| way.len()).unwrap_or(99), 0);
    }
}
