//! The tree of a simulated disk, what of its names is durable, and what a crash leaves of both.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rand::rngs::StdRng;
use rand::{Rng as _, RngCore, SeedableRng as _};

use super::Faults;
use super::file::File;

/// The number of the root directory.
pub const ROOT: u64 = 0;

/// A file, directory or symlink, by whatever names.
#[derive(Debug, Clone)]
pub enum Node {
    File(File),
    Dir(Dir),
    Symlink(PathBuf),
}

/// A directory.
#[derive(Debug, Clone, Default)]
pub struct Dir {
    /// The names that are seen.
    pub live: BTreeMap<OsString, u64>,
    /// The names that a power cut cannot take.
    durable: BTreeMap<OsString, u64>,
}

/// One entry set to a node, or removed.
#[derive(Debug, Clone)]
struct Set {
    dir: u64,
    name: OsString,
    node: Option<u64>,
}

/// A change of names that is not durable yet; both parts of a rename happen together.
#[derive(Debug, Clone)]
struct NameChange(Vec<Set>);

/// The whole disk.
#[derive(Clone)]
pub struct State {
    pub faults: Faults,
    pub operations: u64,
    pub off: bool,
    /// Shared with the other disks of the machine: whether its power is off.
    pub power_off: Arc<AtomicBool>,
    /// Grows with every restart; handles of an older one are dead.
    pub boot: u64,
    nodes: BTreeMap<u64, Node>,
    next: u64,
    pending: Vec<NameChange>,
    locks: BTreeSet<u64>,
    errors: StdRng,
    /// Nodes left after the last collection: the next one is worth it at twice as many.
    collected: usize,
}

/// What an operation is, for the faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
    Sync,
}

impl State {
    pub fn new(seed: u64) -> Self {
        Self {
            faults: Faults::default(),
            operations: 0,
            off: false,
            power_off: Arc::default(),
            boot: 0,
            nodes: BTreeMap::from([(ROOT, Node::Dir(Dir::default()))]),
            next: ROOT + 1,
            pending: Vec::new(),
            locks: BTreeSet::new(),
            errors: StdRng::seed_from_u64(seed),
            collected: 64,
        }
    }

    /// Lets an operation begin, or fail. `Ok(true)`: the power goes right after it, so do it and then fail.
    pub fn begin(&mut self, access: Access) -> io::Result<bool> {
        if self.is_off() {
            return Err(power_is_off());
        }
        let mut last = false;
        if access != Access::Read {
            self.operations += 1;
            if let Some(left) = &mut self.faults.power_off_after {
                if *left == 0 {
                    self.off = true;
                    self.power_off.store(true, Ordering::Relaxed);
                    last = true;
                } else {
                    *left -= 1;
                }
            }
        }
        let ppm = match access {
            Access::Read => self.faults.read_error_ppm,
            Access::Write => self.faults.write_error_ppm,
            Access::Sync => self.faults.sync_error_ppm,
        };
        if ppm > 0 && self.errors.random_range(0..1_000_000) < ppm {
            return Err(io::Error::from_raw_os_error(5));
        }
        Ok(last)
    }

    /// Whether every operation fails.
    pub fn is_off(&self) -> bool {
        self.off || self.power_off.load(Ordering::Relaxed)
    }

    pub fn node(&self, id: u64) -> io::Result<&Node> {
        self.nodes.get(&id).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub fn dir(&self, id: u64) -> io::Result<&Dir> {
        match self.node(id)? {
            Node::Dir(dir) => Ok(dir),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    pub fn file(&mut self, id: u64) -> io::Result<&mut File> {
        match self.nodes.get_mut(&id) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub fn add(&mut self, node: Node) -> u64 {
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, node);
        id
    }

    /// Changes names, all at once, and remembers that it is not durable.
    pub fn set_names(&mut self, sets: impl IntoIterator<Item = (u64, OsString, Option<u64>)>) {
        let sets: Vec<Set> = sets.into_iter().map(|(dir, name, node)| Set { dir, name, node }).collect();
        for set in &sets {
            if let Some(Node::Dir(dir)) = self.nodes.get_mut(&set.dir) {
                apply(&mut dir.live, set);
            }
        }
        self.pending.push(NameChange(sets));
    }

    /// Makes the names in a directory durable, and the other half of renames that touch it, and whatever
    /// had to come before those.
    pub fn sync_names(&mut self, dir: u64) {
        let mut touched = BTreeSet::from([dir]);
        let mut needed = vec![false; self.pending.len()];
        for (index, change) in self.pending.iter().enumerate().rev() {
            if change.0.iter().any(|set| touched.contains(&set.dir)) {
                needed[index] = true;
                touched.extend(change.0.iter().map(|set| set.dir));
            }
        }
        let mut needed = needed.into_iter();
        let changes = std::mem::take(&mut self.pending);
        let (now, later) = changes.into_iter().partition(|_| needed.next().unwrap_or(false));
        self.pending = later;
        self.make_durable(now);
        if self.nodes.len() > 2 * self.collected {
            self.collect();
        }
    }

    fn make_durable(&mut self, changes: Vec<NameChange>) {
        for set in changes.iter().flat_map(|change| &change.0) {
            if let Some(Node::Dir(dir)) = self.nodes.get_mut(&set.dir) {
                apply(&mut dir.durable, set);
            }
        }
    }

    /// The machine goes on with dead handles and free locks.
    pub fn restart(&mut self) {
        self.boot += 1;
        self.off = false;
        self.power_off.store(false, Ordering::Relaxed);
        self.locks.clear();
        self.faults.power_off_after = None;
    }

    /// The power was cut.
    pub fn crash(&mut self, dice: &mut dyn RngCore) {
        self.restart();
        let mut changes = std::mem::take(&mut self.pending);
        match dice.random_range(0..4) {
            0 => changes.clear(),
            1 => {}
            // As a file system with a journal of its metadata leaves it.
            2 => changes.truncate(dice.random_range(0..=changes.len())),
            _ => changes.retain(|_| dice.random_bool(0.5)),
        }
        self.make_durable(changes);
        for node in self.nodes.values_mut() {
            match node {
                Node::Dir(dir) => dir.live.clone_from(&dir.durable),
                Node::File(file) => file.crash(dice),
                Node::Symlink(_) => {}
            }
        }
        self.collect();
    }

    /// Drops nodes that no name leads to, neither seen nor durable nor on the way.
    fn collect(&mut self) {
        let mut reached = BTreeSet::from([ROOT]);
        let mut queue = vec![ROOT];
        let on_the_way = self.pending.iter().flat_map(|c| &c.0).filter_map(|set| set.node);
        queue.extend(on_the_way.filter(|id| reached.insert(*id)));
        while let Some(id) = queue.pop() {
            if let Some(Node::Dir(dir)) = self.nodes.get(&id) {
                let ids = dir.live.values().chain(dir.durable.values());
                queue.extend(ids.filter(|id| reached.insert(**id)));
            }
        }
        self.nodes.retain(|id, _| reached.contains(id));
        self.collected = self.nodes.len().max(64);
    }

    /// The bytes of all files that a live name leads to.
    pub fn used_bytes(&self) -> u64 {
        let mut files = BTreeSet::new();
        let mut queue = vec![ROOT];
        let mut used = 0;
        while let Some(id) = queue.pop() {
            match self.nodes.get(&id) {
                Some(Node::Dir(dir)) => queue.extend(dir.live.values()),
                Some(Node::File(file)) if files.insert(id) => used += file.live.len() as u64,
                _ => {}
            }
        }
        used
    }

    #[cfg(test)]
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// How many more bytes fit.
    pub fn room(&self) -> u64 {
        match self.faults.capacity_bytes {
            Some(capacity) => capacity.saturating_sub(self.used_bytes()),
            None => u64::MAX,
        }
    }

    pub fn lock(&mut self, id: u64) -> bool {
        self.locks.insert(id)
    }

    pub fn unlock(&mut self, id: u64, boot: u64) {
        if boot == self.boot {
            self.locks.remove(&id);
        }
    }

    pub fn damage(&mut self, path: &Path, at: usize, bytes: &[u8]) {
        let id = self.resolve(path, true).expect("the file to damage exists");
        self.file(id).expect("it is a file").damage(at, bytes);
    }
}

fn apply(names: &mut BTreeMap<OsString, u64>, set: &Set) {
    match set.node {
        Some(node) => names.insert(set.name.clone(), node),
        None => names.remove(&set.name),
    };
}

pub fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}
