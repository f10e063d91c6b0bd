//! The controller as a process: the real planner over the real store, on a disk that may fail. What the
//! reactor does with tasks and channels is done here one call at a time, in the same order: decide, commit,
//! apply, and only then send.

use std::collections::BTreeMap;
use std::sync::Arc;

use landfall_common::disk::Disk;
use landfall_common::{HostId, Timestamp, canonical};
use landfall_controller::store::{
    self, Batch, EmbeddedStore, MemoryIndex, Options, StoreError, StoreIoError,
};
use landfall_controller_core::log::LogEntry;
use landfall_controller_core::reason::PlanningReport;
use landfall_controller_core::record::{Change, RECORDS, Record};
use landfall_controller_core::{Output, State};

use crate::disk::SimDisk;

/// Where the store lies on the controller's disk.
const STORE: &str = "state";

/// The controller's machine, and the process if it runs.
pub struct Controller {
    /// Its disk.
    pub disk: SimDisk,
    /// Grows with each start and each end of the process.
    pub process: u64,
    /// The process.
    pub running: Option<Running>,
    /// How far its clock is ahead.
    pub clock_ahead_ms: u64,
    /// Whether it loses its power, and is not just killed, when its disk goes off.
    pub power_goes: bool,
}

/// The process.
pub struct Running {
    /// Its store.
    pub store: EmbeddedStore,
    /// What it decides upon.
    pub state: State,
    /// Why it does not go on.
    pub report: PlanningReport,
    /// The number of the next log entry.
    pub log_next: u64,
    /// The connection of each connected host.
    pub sessions: BTreeMap<HostId, u64>,
    /// When it plans next, in the world's time.
    pub wake_at: Option<u64>,
}

/// What a reader finds in the store: everything durable, as an outsider reads it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Durable {
    /// All records by their keys, as bytes.
    pub records: BTreeMap<String, Vec<u8>>,
    /// The log, entry by entry.
    pub log: Vec<Vec<u8>>,
}

fn options() -> Options {
    // Small, so that segments end and snapshots are made within a short world.
    Options { snapshot_every_bytes: 96 << 10, segment_bytes: 32 << 10 }
}

impl Controller {
    /// A controller that was never started.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { disk: SimDisk::new(seed), process: 0, running: None, clock_ahead_ms: 0, power_goes: false }
    }

    /// Opens the store and loads the state.
    ///
    /// # Errors
    /// Those of the store.
    pub fn start(&mut self, now: Timestamp) -> Result<(), StoreIoError> {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let (store, _) = EmbeddedStore::open(disk, STORE, &*MemoryIndex::source(), options())?;
        let durable = read(&store)?;
        let mut state = State::load(records(&durable), now);
        state.allow_gates(crate::world::allowed());
        self.process += 1;
        self.running = Some(Running {
            store,
            state,
            report: PlanningReport::default(),
            log_next: durable.log.len() as u64,
            sessions: BTreeMap::new(),
            wake_at: None,
        });
        Ok(())
    }

    /// The process ends, without a word.
    pub fn stop(&mut self) {
        self.process += 1;
        self.running = None;
    }
}

impl Running {
    /// Makes a decision durable and takes it in.
    ///
    /// # Errors
    /// Those of the store; then nothing of it has happened, as far as this process knows.
    pub fn commit(&mut self, output: &Output) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        for change in &output.changes {
            let key = change.key().to_string();
            batch = match change {
                Change::Put { record } => {
                    batch.put(key, serde_json::to_vec(record).expect("plain data with text keys"))
                }
                Change::Delete { .. } => batch.delete(key),
            };
        }
        let mut next = self.log_next;
        for entry in &output.log {
            let entry: LogEntry = entry.clone().number(next);
            let bytes = canonical::to_vec(&entry).expect("plain data without fractions");
            batch = batch.if_absent(log_key(next)).put(log_key(next), bytes);
            next += 1;
        }
        if !batch.is_empty() {
            self.store.commit(batch)?;
        }
        self.log_next = next;
        for change in &output.changes {
            self.state.apply(change);
        }
        Ok(())
    }
}

fn log_key(number: u64) -> String {
    format!("log/{number:020}")
}

fn read(store: &EmbeddedStore) -> Result<Durable, StoreIoError> {
    let scan = |prefix: &str| {
        store.scan(prefix).map(|scan| scan.entries).map_err(|error| StoreIoError::Index(error.to_string()))
    };
    let mut durable = Durable::default();
    for prefix in RECORDS {
        durable.records.extend(scan(prefix)?.into_iter().map(|entry| (entry.key, entry.value)));
    }
    durable.log = scan("log/")?.into_iter().map(|entry| entry.value).collect();
    Ok(durable)
}

fn records(durable: &Durable) -> Vec<Record> {
    let parse = |bytes: &Vec<u8>| serde_json::from_slice(bytes).expect("written by the same program");
    durable.records.values().map(parse).collect()
}

/// What another program would find on a disk: the store is opened afresh, on a copy.
///
/// # Errors
/// Those of the store.
pub fn read_fresh(copy: &SimDisk) -> Result<Durable, store::StoreIoError> {
    let disk: Arc<dyn Disk> = Arc::new(copy.clone());
    let (store, _) = EmbeddedStore::open(disk, STORE, &*MemoryIndex::source(), options())?;
    read(&store)
}
