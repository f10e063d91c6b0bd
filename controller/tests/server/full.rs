//! A store that takes nothing: whoever asks is told what hinders the controller.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use landfall_common::assignment::ReleaseRef;
use landfall_common::disk::RealDisk;
use landfall_common::report::{Active, Health, HostReport, Phase, Traffic};
use landfall_common::{
    EnvName, Generation, HostId, ReleaseCounter, ReleaseName, RolloutId, Sha256, Timestamp,
};
use landfall_controller::asker::Asker;
use landfall_controller::clock::Clock;
use landfall_controller::keys::OnlineKeys;
use landfall_controller::reactor::{Orders, Reactor};
use landfall_controller::store::embedded::Options;
use landfall_controller::store::index::SledIndex;

use landfall_controller::store::{
    Batch, EmbeddedStore, Revision, Scan, SharedStore, Store, StoreError, Versioned, Watch,
};
use landfall_controller::writer::Writer;
use landfall_controller_core::record::{HostRecord, Place, PlaceRecord, Proven, Record};
use tokio_util::sync::CancellationToken;

use crate::fleet::application;

/// A store whose disk can be filled.
struct Filled {
    store: SharedStore,
    full: AtomicBool,
}

#[tonic::async_trait]
impl Store for Filled {
    async fn get(&self, key: &str) -> Result<Option<Versioned>, StoreError> {
        self.store.get(key).await
    }
    async fn scan_page(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Scan, StoreError> {
        self.store.scan_page(prefix, after, limit).await
    }
    async fn commit(&self, batch: Batch) -> Result<Revision, StoreError> {
        match self.full.load(Ordering::SeqCst) {
            true => Err(StoreError::Full),
            false => self.store.commit(batch).await,
        }
    }
    fn watch(&self, prefix: &str) -> Watch {
        self.store.watch(prefix)
    }
}

fn release(name: &str, counter: u64) -> ReleaseRef {
    let digest = Sha256::of(name.as_bytes());
    ReleaseRef { name: ReleaseName::new(name).unwrap(), counter: ReleaseCounter(counter), digest, length: 1 }
}

/// A place where v2 is in force, and a host of it.
fn records(place: &Place, host: &HostId) -> Vec<Record> {
    let now = Timestamp::from_ms(0);
    let mut record = PlaceRecord::new(place.clone());
    let rollout = RolloutId::new("r-1").unwrap();
    record.proven.push(Proven { release: release("v2", 2), rollout, at: now, whole: true, gone_back: false });
    let labels = Default::default();
    let host = HostRecord {
        id: host.clone(),
        place: place.clone(),
        labels,
        enrolled_at: now,
        cordon: None,
        drain: None,
        led_away: None,
    };
    vec![Record::Place(Box::new(record)), Record::Host(host)]
}

async fn sentences(reactor: &Reactor) -> Vec<String> {
    let told = reactor.read(|view| view.report.sentences()).await.unwrap();
    told.into_values().flatten().collect()
}

/// Waits for the first sentence of the place to be one like this.
async fn until(reactor: &Reactor, what: impl Fn(&str) -> bool) -> Vec<String> {
    let mut changes = reactor.changes();
    loop {
        let told = sentences(reactor).await;
        if told.first().is_some_and(|first| what(first)) {
            return told;
        }
        changes.changed().await.unwrap();
    }
}

#[tokio::test]
async fn that_decisions_cannot_be_stored_is_told_first_until_they_can() {
    let directory = tempfile::tempdir().unwrap();
    let index = SledIndex::source(directory.path().join("index"));
    let disk = Arc::new(RealDisk::new(directory.path()));
    let (core, _) = EmbeddedStore::open(disk, "store", &*index, Options::default()).unwrap();
    let store = SharedStore::new(core).unwrap();
    let place = Place { application: application(), environment: EnvName::new("production").unwrap() };
    let host = HostId::new("web-1").unwrap();
    for record in records(&place, &host) {
        let value = serde_json::to_vec(&record).unwrap();
        store.commit(Batch::new().put(record.key().to_string(), value)).await.unwrap();
    }
    let store = Arc::new(Filled { store, full: AtomicBool::new(true) });
    let keys = Arc::new(OnlineKeys::create(&directory.path().join("keys")).unwrap());
    let clock = Clock::system();
    let writer = Arc::new(Writer::open(store.clone(), keys.clone(), clock.clone()).await.unwrap());
    let stop = CancellationToken::new();
    let (reactor, task) =
        Reactor::start(&*store, writer, keys, Asker::default(), clock.clone(), stop.clone()).await.unwrap();
    // The host runs another release than the one in force, and would be sent there.
    let (orders, mut assignments, _ended) = Orders::new();
    reactor.connected(host.clone(), 1, orders).await.unwrap();
    let active = Active { release: release("v1", 1), proven: true };
    let report = HostReport {
        incarnation: 1,
        sequence: 1,
        at: clock.now(),
        generation: Generation::default(),
        phase: Phase::Idle,
        active: Some(active),
        outcome: None,
        health: Health::Unknown,
        restarts: true,
        traffic: Traffic::Led,
    };
    reactor.reported(host, 1, report).await.unwrap();
    let told = until(&reactor, |first| first.contains("cannot store its decisions since")).await;
    assert!(told[0].contains("full"), "{told:?}");
    assert!(!told.iter().any(|sentence| sentence.contains("takes v2")), "it was never sent there: {told:?}");
    assert!(assignments.try_recv().is_err());
    store.full.store(false, Ordering::SeqCst);
    let told = until(&reactor, |first| first.contains("takes v2")).await;
    assert!(!told.iter().any(|sentence| sentence.contains("cannot store")), "{told:?}");
    assert!(assignments.recv().await.is_some());
    stop.cancel();
    task.await.unwrap().unwrap();
}
