//! What every [`Store`] must do, as one function that a test calls with its implementation.
//!
//! Each rule gets a fresh, empty store. A rule that does not hold panics with its sentence.

use std::future::Future;
use std::sync::Arc;

use super::{
    Batch, Change, MAX_BATCH_BYTES, MAX_CHANGES, MAX_VALUE_BYTES, Revision, Store, StoreError, WatchEvent,
};

/// How many tasks fight over one counter.
const TASKS: usize = 8;
/// How often each of them adds one.
const ROUNDS: usize = 25;

/// Runs every rule against stores that `fresh` makes.
///
/// # Panics
/// If a rule does not hold.
pub async fn check<F>(fresh: impl Fn() -> F)
where
    F: Future<Output = Arc<dyn Store>>,
{
    values_are_read_back_with_their_version(&*fresh().await).await;
    a_batch_applies_whole_or_not_at_all(&*fresh().await).await;
    preconditions_hold_or_tell_what_is_there(&*fresh().await).await;
    a_scan_is_ordered_and_comes_in_pages(&*fresh().await).await;
    limits_are_refused(&*fresh().await).await;
    a_watch_tells_of_its_prefix_in_order(&*fresh().await).await;
    a_slow_watcher_learns_that_it_missed_something(&*fresh().await).await;
    two_writers_never_overwrite_each_other(fresh().await).await;
}

async fn commit(store: &dyn Store, batch: Batch) -> Revision {
    store.commit(batch).await.expect("the commit is valid")
}

async fn value(store: &dyn Store, key: &str) -> Option<Vec<u8>> {
    store.get(key).await.expect("a read succeeds").map(|v| v.value)
}

async fn values_are_read_back_with_their_version(store: &dyn Store) {
    assert_eq!(store.get("a").await.expect("a read succeeds"), None, "a missing key has no value");
    let first = commit(store, Batch::new().put("a", "1").put("b", "")).await;
    let second = commit(store, Batch::new().put("a", vec![0, 255])).await;
    assert!(second > first, "revisions grow");
    let a = store.get("a").await.expect("a read succeeds").expect("it was written");
    assert_eq!((a.value, a.version), (vec![0, 255], second), "the last write is read");
    let b = store.get("b").await.expect("a read succeeds").expect("an empty value is a value");
    assert_eq!((b.value, b.version), (Vec::new(), first), "an untouched key keeps its version");
    let third = commit(store, Batch::new().delete("a").delete("never was")).await;
    assert_eq!(value(store, "a").await, None, "a deleted key has no value");
    let again = commit(store, Batch::new().put("a", "2")).await;
    assert!(again > third);
}

async fn a_batch_applies_whole_or_not_at_all(store: &dyn Store) {
    commit(store, Batch::new().put("x", "1").put("y", "1")).await;
    let refused = store.commit(Batch::new().put("x", "2").delete("y").put("z", "2").if_absent("x")).await;
    assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
    assert_eq!(value(store, "x").await.as_deref(), Some(&b"1"[..]), "nothing of it was done");
    assert_eq!(value(store, "y").await.as_deref(), Some(&b"1"[..]), "nothing of it was done");
    assert_eq!(value(store, "z").await, None, "nothing of it was done");
}

async fn preconditions_hold_or_tell_what_is_there(store: &dyn Store) {
    let first = commit(store, Batch::new().put("k", "1").if_absent("k")).await;
    let conflict = |expected: Option<Revision>, found: Option<Revision>| {
        move |result: Result<Revision, StoreError>| match result {
            Err(StoreError::Conflict { key, expected: e, found: f }) => {
                assert_eq!((key.as_str(), e, f), ("k", expected, found), "the conflict tells what is there");
            }
            other => panic!("expected a conflict, got {other:?}"),
        }
    };
    conflict(None, Some(first))(store.commit(Batch::new().put("k", "2").if_absent("k")).await);
    let second = commit(store, Batch::new().put("k", "2").if_version("k", first)).await;
    conflict(Some(first), Some(second))(
        store.commit(Batch::new().put("k", "3").if_version("k", first)).await,
    );
    commit(store, Batch::new().delete("k").if_version("k", second)).await;
    conflict(Some(second), None)(store.commit(Batch::new().put("k", "3").if_version("k", second)).await);
    commit(store, Batch::new().put("other", "1").if_absent("k")).await;
    // A batch that changes nothing is a question.
    commit(store, Batch::new().if_absent("k")).await;
    conflict(Some(first), None)(store.commit(Batch::new().if_version("k", first)).await);
}

async fn a_scan_is_ordered_and_comes_in_pages(store: &dyn Store) {
    let keys = ["p/1", "p/10", "p/2", "p/é", "p0", "o", "q"];
    for key in keys {
        commit(store, Batch::new().put(key, key)).await;
    }
    let last = commit(store, Batch::new().put("p/1", "new")).await;
    let scan = store.scan("p/").await.expect("a scan succeeds");
    let names = |scan: &super::Scan| scan.entries.iter().map(|e| e.key.clone()).collect::<Vec<_>>();
    assert_eq!(names(&scan), ["p/1", "p/10", "p/2", "p/é"], "all with the prefix, in order");
    assert!(!scan.more && scan.revision >= last);
    assert_eq!((scan.entries[0].value.as_slice(), scan.entries[0].version), (&b"new"[..], last));
    let page = store.scan_page("p/", None, 3).await.expect("a scan succeeds");
    assert_eq!(names(&page), ["p/1", "p/10", "p/2"]);
    assert!(page.more, "a page that was cut short says so");
    let page = store.scan_page("p/", Some("p/2"), 3).await.expect("a scan succeeds");
    assert_eq!(names(&page), ["p/é"], "a page goes on after the key");
    assert!(!page.more);
    assert_eq!(names(&store.scan_page("p/", Some("p/15"), 1).await.expect("a scan succeeds")), ["p/2"]);
    assert_eq!(names(&store.scan("").await.expect("a scan succeeds")).len(), keys.len());
    assert!(store.scan("nothing").await.expect("a scan succeeds").entries.is_empty());
}

async fn limits_are_refused(store: &dyn Store) {
    commit(store, Batch::new().put("large", vec![7; MAX_VALUE_BYTES])).await;
    assert_eq!(value(store, "large").await, Some(vec![7; MAX_VALUE_BYTES]), "the largest value is kept");
    let many = |count: usize| (0..count).fold(Batch::new(), |batch, n| batch.put(format!("many/{n}"), "x"));
    commit(store, many(MAX_CHANGES)).await;
    for batch in [
        Batch::new().put("", "x"),
        Batch::new().put("line\nbreak", "x"),
        Batch::new().put("k".repeat(super::MAX_KEY_BYTES + 1), "x"),
        Batch::new().put("k", "1").delete("k"),
        Batch::new().put("k", vec![0; MAX_VALUE_BYTES + 1]),
        many(MAX_CHANGES + 1),
        (0..=MAX_BATCH_BYTES / MAX_VALUE_BYTES)
            .fold(Batch::new(), |batch, n| batch.put(format!("huge/{n}"), vec![0; MAX_VALUE_BYTES])),
    ] {
        let refused = store.commit(batch).await;
        assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
    }
    assert_eq!(value(store, "k").await, None, "a refused batch changes nothing");
}

async fn a_watch_tells_of_its_prefix_in_order(store: &dyn Store) {
    commit(store, Batch::new().put("w/before", "x")).await;
    let mut watch = store.watch("w/");
    let first = commit(store, Batch::new().put("w/a", "1").put("v", "1")).await;
    commit(store, Batch::new().put("elsewhere", "1")).await;
    let second = commit(store, Batch::new().delete("w/a").put("w/b", "2")).await;
    let mut told = Vec::new();
    while told.len() < 3 {
        match watch.next().await {
            Some(WatchEvent::Changed(changes)) => {
                told.extend(changes.changes.into_iter().map(|change| (changes.revision, change)));
            }
            other => panic!("expected changes, got {other:?}"),
        }
    }
    // Within one commit the order is the store's.
    told[1..].sort_by(|a, b| a.1.key().cmp(b.1.key()));
    let expected = [
        (first, Change::Put("w/a".to_owned(), b"1".to_vec())),
        (second, Change::Delete("w/a".to_owned())),
        (second, Change::Put("w/b".to_owned(), b"2".to_vec())),
    ];
    assert_eq!(told, expected);
    assert_eq!(watch.try_next(), None, "nothing else is told");
}

async fn a_slow_watcher_learns_that_it_missed_something(store: &dyn Store) {
    let mut watch = store.watch("s");
    let commits = 3000;
    for number in 0..commits {
        commit(store, Batch::new().put("s", number.to_string())).await;
    }
    let mut seen = 0;
    let mut missed = false;
    loop {
        match watch.next().await {
            Some(WatchEvent::Missed) => missed = true,
            Some(WatchEvent::Changed(changes)) => {
                seen += 1;
                let last = (commits - 1).to_string().into_bytes();
                if changes.changes == [Change::Put("s".to_owned(), last)] {
                    break;
                }
            }
            None => panic!("the store is open"),
        }
    }
    assert!(missed || seen == commits, "commits were dropped without a word");
}

async fn two_writers_never_overwrite_each_other(store: Arc<dyn Store>) {
    let add_one = |store: Arc<dyn Store>| async move {
        for _ in 0..ROUNDS {
            loop {
                let read = store.get("counter").await.expect("a read succeeds");
                let number = read.as_ref().map_or(0, |v| u64::from(v.value[0])) + 1;
                let byte = u8::try_from(number).expect("the counter stays small");
                let batch = Batch::new().put("counter", vec![byte]).if_unchanged("counter", read.as_ref());
                match store.commit(batch).await {
                    Ok(_) => break,
                    Err(StoreError::Conflict { .. }) => {}
                    Err(other) => panic!("expected a conflict at most, got {other}"),
                }
            }
        }
    };
    let tasks: Vec<_> = (0..TASKS).map(|_| tokio::spawn(add_one(Arc::clone(&store)))).collect();
    for task in tasks {
        task.await.expect("the task ends well");
    }
    let total = u8::try_from(TASKS * ROUNDS).expect("the counter stays small");
    assert_eq!(value(&*store, "counter").await, Some(vec![total]), "no addition was lost");
}
