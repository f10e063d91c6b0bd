//! What the controller keeps, and how it finds it again.

use std::collections::BTreeSet;

use landfall_controller_core::State;
use landfall_controller_core::record::{RECORDS, Record};

use crate::evidence;

/// The kind of a record, as the store names it. Whoever adds one has to give it a name here, too, which is one of
/// [`RECORDS`], and a record of it to the world below.
fn kind(record: &Record) -> &'static str {
    match record {
        Record::Host(_) => "host/",
        Record::Release(_) => "release/",
        Record::Place(_) => "place/",
        Record::Rollout(_) => "rollout/",
        Record::Member(_) => "member/",
        Record::Issued(_) => "issued/",
        Record::Request(_) => "request/",
        Record::Evidence(_) => "evidence/",
    }
}

#[test]
fn whoever_reads_all_kinds_of_records_reads_all_records() {
    let world = evidence::world();
    let records: Vec<Record> = world.state.records().collect();
    let found: BTreeSet<&str> = records.iter().map(kind).collect();
    assert_eq!(found, RECORDS.into(), "every kind is in this world, and is read");
    for record in &records {
        let key = record.key().to_string();
        let of: Vec<&str> = RECORDS.into_iter().filter(|kind| key.starts_with(kind)).collect();
        assert_eq!(of, [kind(record)], "{key}");
    }
    // As a controller starts: kind by kind.
    let mut read = Vec::new();
    for kind in RECORDS {
        read.extend(records.iter().filter(|record| record.key().to_string().starts_with(kind)).cloned());
    }
    let again = State::load(read, world.now);
    assert_eq!(again.records().collect::<Vec<_>>(), records);
}
