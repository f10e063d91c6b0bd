//! The real store and journal over a disk that loses and tears what was not synced: what was acknowledged
//! is there after any crash, also one during recovery, and recovery changes nothing the second time.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use landfall_common::disk::{Disk as _, DiskError};
use landfall_common::journal::JournalError;
use landfall_controller::store::embedded::Options;
use landfall_controller::store::{
    Batch, Change, EmbeddedStore, MemoryIndex, Revision, StoreError, StoreIoError,
};
use landfall_sim::disk::{Faults, SimDisk};
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};

/// As many seeds as keep this below a few seconds in an unoptimised build; `SEEDS=` in the environment
/// tries others, `SEED=` a single one.
const SEEDS: u64 = 1000;

fn seeds() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(SEEDS),
    }
}

type State = BTreeMap<String, Vec<u8>>;

/// What the store was told, and what it acknowledged.
#[derive(Default)]
struct Model {
    /// The changes of each revision, from 1 on. Those beyond `acknowledged` may or may not be there.
    history: Vec<Vec<Change>>,
    acknowledged: usize,
}

impl Model {
    fn state(&self, revision: usize) -> State {
        let mut state = State::new();
        for change in self.history[..revision].iter().flatten() {
            match change {
                Change::Put(key, value) => state.insert(key.clone(), value.clone()),
                Change::Delete(key) => state.remove(key),
            };
        }
        state
    }

    /// Compares an opened store; what it has is acknowledged from then on.
    fn check(&mut self, store: &EmbeddedStore) -> Result<(), String> {
        let revision = usize::try_from(store.revision().0).expect("it is small");
        if revision < self.acknowledged || revision > self.history.len() {
            let (from, to) = (self.acknowledged, self.history.len());
            return Err(format!("recovered revision {revision}, acknowledged {from}, written {to}"));
        }
        let found: State = store
            .scan("")
            .expect("it is open")
            .entries
            .into_iter()
            .map(|entry| (entry.key, entry.value))
            .collect();
        if found != self.state(revision) {
            return Err(format!("the state at revision {revision} is not what was committed"));
        }
        self.history.truncate(revision);
        self.acknowledged = revision;
        Ok(())
    }
}

struct World {
    disk: SimDisk,
    dice: StdRng,
    options: Options,
    model: Model,
    lies: bool,
}

impl World {
    fn new(seed: u64, lies: bool) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let options = Options {
            snapshot_every_bytes: dice.random_range(100..2000),
            segment_bytes: dice.random_range(50..1000),
        };
        Self { disk: SimDisk::new(seed), dice, options, model: Model::default(), lies }
    }

    fn open(&self) -> Result<EmbeddedStore, StoreIoError> {
        let source = MemoryIndex::source();
        let opened =
            EmbeddedStore::open(Arc::new(self.disk.clone()), "state", &*source, self.options.clone());
        opened.map(|(store, _)| store)
    }

    /// One life of the process, from opening to its end, whichever way.
    fn live(&mut self, faults: Faults) -> Result<(), String> {
        self.disk.set_faults(Faults { ignore_syncs: self.lies, ..faults });
        let store = match self.open() {
            Ok(store) => store,
            Err(StoreIoError::Disk(_) | StoreIoError::Journal(JournalError::Disk(_))) => return Ok(()),
            Err(error) => return Err(format!("the store does not open: {error:?}")),
        };
        self.model.check(&store)?;
        for _ in 0..self.dice.random_range(0..12) {
            if !self.write_group(&store)? {
                return Ok(());
            }
            if !self.disk.is_off() {
                // Reads see what is acknowledged and nothing else.
                self.model.check(&store)?;
            }
        }
        if self.dice.random_bool(0.3) {
            let _ = store.close();
        }
        Ok(())
    }

    /// Submits some commits together; false once the store has stopped.
    fn write_group(&mut self, store: &EmbeddedStore) -> Result<bool, String> {
        let mut waiting = Vec::new();
        for _ in 0..self.dice.random_range(1..5) {
            let mut batch = Batch::new();
            let mut keys: Vec<u32> = (0..8).collect();
            for _ in 0..self.dice.random_range(1..4) {
                let key = keys.swap_remove(self.dice.random_range(0..keys.len()));
                batch = if self.dice.random_bool(0.2) {
                    batch.delete(format!("k{key}"))
                } else {
                    let mut value = vec![0; self.dice.random_range(0..300)];
                    self.dice.fill_bytes(&mut value);
                    batch.put(format!("k{key}"), value)
                };
            }
            let changes = batch.changes.clone();
            match store.submit(batch) {
                Ok(receiver) => {
                    self.model.history.push(changes);
                    waiting.push(receiver);
                }
                Err(StoreError::Stopped(_)) => return Ok(false),
                Err(error) => return Err(format!("a valid batch is refused: {error}")),
            }
        }
        store.write_waiting();
        let mut goes_on = true;
        for mut receiver in waiting {
            match receiver.try_recv().map_err(|_| "an outcome is missing".to_owned())? {
                Ok(Revision(revision)) => {
                    self.model.acknowledged = usize::try_from(revision).expect("it is small");
                }
                // Nothing has changed.
                Err(StoreError::Full) => self.model.history.truncate(self.model.acknowledged),
                Err(StoreError::Stopped(_)) => goes_on = false,
                Err(error) => return Err(format!("a queued batch fails: {error}")),
            }
        }
        Ok(goes_on)
    }

    fn end_of_life(&mut self) {
        if self.disk.is_off() || self.dice.random_bool(0.6) {
            self.disk.crash(&mut self.dice);
        } else {
            self.disk.kill();
        }
    }

    fn some_faults(&mut self) -> Faults {
        let mut faults = Faults::default();
        match self.dice.random_range(0..6) {
            0 => faults.sync_error_ppm = 50_000,
            1 => faults.write_error_ppm = 20_000,
            2 => faults.capacity_bytes = Some(self.disk.used_bytes() + self.dice.random_range(0..3000)),
            _ => {}
        }
        if self.dice.random_bool(0.7) {
            faults.power_off_after = Some(self.dice.random_range(0..80));
        }
        faults
    }

    fn run(&mut self) -> Result<(), String> {
        for _ in 0..self.dice.random_range(2..10) {
            let faults = self.some_faults();
            self.live(faults)?;
            self.end_of_life();
        }
        // All is well again: it opens, and opening it changes nothing.
        self.disk.set_faults(Faults { ignore_syncs: self.lies, ..Faults::default() });
        let mut revision = None;
        for _ in 0..3 {
            let store = self.open().map_err(|error| format!("the store does not open: {error:?}"))?;
            self.model.check(&store)?;
            if *revision.get_or_insert(store.revision()) != store.revision() {
                return Err("recovering twice gives something else".to_owned());
            }
            drop(store);
            self.disk.crash(&mut self.dice);
        }
        Ok(())
    }
}

fn run(seed: u64, lies: bool) -> Result<(), String> {
    World::new(seed, lies).run().map_err(|error| format!("seed {seed}: {error}"))
}

#[test]
fn acknowledged_commits_survive_any_crash() {
    for seed in seeds() {
        if let Err(error) = run(seed, false) {
            panic!(
                "{error}; replay: SEED={seed} cargo test -p landfall-sim --test durable acknowledged_commits"
            );
        }
    }
}

#[test]
fn a_disk_that_lies_about_syncs_is_found_out() {
    let failed = (0..100).filter(|&seed| run(seed, true).is_err()).count();
    assert!(failed > 30, "only {failed} of 100 runs over a lying disk were found out");
}

/// The power goes at every single operation of a short history in turn, and again at every operation of the
/// recovery.
#[test]
fn the_power_may_go_at_every_operation_and_again_in_recovery() {
    for first in 0..70 {
        for second in 0..14 {
            let mut world = World::new(first * 100 + second, false);
            world.options = Options { snapshot_every_bytes: 600, segment_bytes: 300 };
            for power_off_after in [first, second] {
                let faults = Faults { power_off_after: Some(power_off_after), ..Faults::default() };
                world.live(faults).unwrap_or_else(|e| panic!("{first}, {second}: {e}"));
                world.end_of_life();
            }
            world.live(Faults::default()).unwrap_or_else(|e| panic!("{first}, {second}: {e}"));
        }
    }
}

/// Bit rot, without a power cut: never a silent loss.
#[test]
fn a_damaged_byte_anywhere_is_refused_or_costs_nothing() {
    let mut refused = 0;
    for seed in 0..600 {
        let mut world = World::new(seed, false);
        world.live(Faults::default()).unwrap();
        world.live(Faults::default()).unwrap();
        world.disk.kill();
        let dir = PathBuf::from("state/journal");
        let files = world.disk.list(&dir).unwrap();
        let path = dir.join(&files[world.dice.random_range(0..files.len())].name);
        let len = usize::try_from(world.disk.len(&path).unwrap().unwrap()).unwrap();
        if len == 0 {
            continue;
        }
        let at = world.dice.random_range(0..len);
        let byte = world.disk.read(&path).unwrap().unwrap()[at];
        world.disk.damage(&path, at, &[byte ^ (1 << world.dice.random_range(0..8))]);
        match world.open() {
            Ok(store) => {
                let written = world.model.acknowledged;
                world.model.check(&store).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
                assert_eq!(world.model.acknowledged, written, "seed {seed}");
            }
            Err(StoreIoError::Journal(JournalError::Damaged { .. } | JournalError::Missing { .. })) => {
                refused += 1;
            }
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
    assert!(refused > 50, "{refused} were refused");
}

#[test]
fn a_full_disk_refuses_commits_and_takes_them_when_there_is_room() {
    let disk = SimDisk::new(1);
    let source = MemoryIndex::source();
    let options = Options { snapshot_every_bytes: 4000, segment_bytes: 1000 };
    let (store, _) = EmbeddedStore::open(Arc::new(disk.clone()), "state", &*source, options).unwrap();
    disk.set_faults(Faults { capacity_bytes: Some(6000), ..Faults::default() });
    let mut committed = 0;
    let mut refused = 0;
    for number in 0..200 {
        match store.commit(Batch::new().put(format!("k{number}"), vec![7; 100])) {
            Ok(Revision(revision)) => {
                committed += 1;
                assert_eq!(revision, committed);
            }
            Err(StoreError::Full) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(committed > 10 && refused > 10, "{committed} {refused}");
    disk.set_faults(Faults::default());
    assert_eq!(store.commit(Batch::new().put("after", "x")).unwrap(), Revision(committed + 1));
    let _: Result<(), DiskError> = disk.sync_dir("".as_ref());
    drop(store);
    disk.crash(&mut StdRng::seed_from_u64(1));
    let (store, opened) = EmbeddedStore::open(Arc::new(disk), "state", &*source, Options::default()).unwrap();
    assert_eq!(opened.revision, Revision(committed + 1));
    assert_eq!(u64::try_from(store.scan("").expect("it is open").entries.len()).unwrap(), committed + 1);
}
