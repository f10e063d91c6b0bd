//! The client: TUF's detailed workflow (§5.3–§5.6) as a machine without I/O.
//!
//! ```text
//! loop { match updater.advance()? {
//!     Next::Store { name, bytes } => make the file durable,
//!     Next::Fetch(need)           => updater.feed(the bytes, or None if there are none)?,
//!     Next::Ready                 => break,
//! } }
//! updater.find("shop/v1.4")   // Found, Absent, or Incomplete: then run the same loop and ask again
//! ```
//!
//! [`Updater::drive`] is that loop for a blocking caller. Files to store come before the next one to fetch, so
//! that the disk is never behind what the machine believes; an error in between loses nothing.

mod lookup;
mod roots;
mod top_level;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use landfall_common::{Sha256, Timestamp as Time};

use crate::envelope::{Authority, Signed};
use crate::error::TrustError;
use crate::metadata::{Role, Root, Snapshot, Targets, Timestamp, file_name};
use crate::store::{FLOORS, Floor, Floors, ROOT, TrustedStore, root_history};
pub use lookup::{Lookup, Target};
pub use roots::follow_roots;

/// A clock this far behind the last success is taken as it is; further behind, the time of that success counts
/// (NTP steps and virtual machines' resumes stay within it).
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(600);

/// The time of the last success is kept in steps of this, so that a refresh without news writes nothing.
const LAST_SEEN_STEP_MS: u64 = 3_600_000;

/// How much a repository may ask of a client. Lengths in bytes; one that metadata gives only narrows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of one root.
    pub root_length: u64,
    /// Of a timestamp.
    pub timestamp_length: u64,
    /// Of a snapshot.
    pub snapshot_length: u64,
    /// Of one targets role.
    pub targets_length: u64,
    /// New roots in one refresh.
    pub root_rotations: u32,
    /// Roles visited in one search.
    pub delegations: usize,
}

impl Default for Limits {
    /// 512 kB, 16 kB, 2 MB, 5 MB, 256 roots, 32 roles: those of python-tuf.
    fn default() -> Self {
        Self {
            root_length: 512_000,
            timestamp_length: 16_384,
            snapshot_length: 2_000_000,
            targets_length: 5_000_000,
            root_rotations: 256,
            delegations: 32,
        }
    }
}

/// A file that the machine cannot go on without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// Its name in the repository, such as `3.snapshot.json` or `1.apps%2Fshop.json`: one path component,
    /// percent-encoded already.
    pub name: String,
    /// The role, such as `snapshot` or `apps/shop`.
    pub role: String,
    /// The version before the name, where there is one.
    pub version: Option<u64>,
    /// Stop reading here: more bytes are refused.
    pub max_length: u64,
}

/// What the machine wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "an undone step leaves the disk behind the machine, or the machine waiting"]
pub enum Next {
    /// Make this file durable (replacing what has its name) before calling again.
    Store {
        /// Its name in the [`TrustedStore`]; it may hold one `/`.
        name: String,
        /// Its content.
        bytes: Vec<u8>,
    },
    /// Fetch this file, then call [`Updater::feed`].
    Fetch(Need),
    /// Nothing: the metadata is fresh, or the search can go on.
    Ready,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Root,
    RootIsNewest,
    Timestamp,
    Snapshot,
    Targets,
    Ready,
}

#[derive(Debug, Clone)]
enum Asked {
    Root,
    Timestamp,
    Snapshot,
    Targets(Visit),
}

/// A targets role, as seen from one role that delegates to it. What one delegator trusts another need not, so
/// a role is verified for each (diamond delegations).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Visit {
    role: String,
    delegator: String,
}

/// One refresh, and the searches after it.
#[derive(Debug)]
pub struct Updater {
    store: TrustedStore,
    floors: Floors,
    limits: Limits,
    clock: Time,
    now: Time,
    stage: Stage,
    rotations: u32,
    asked: Option<(Need, Asked)>,
    to_store: VecDeque<(String, Vec<u8>)>,
    root: Signed<Root>,
    timestamp: Option<Signed<Timestamp>>,
    snapshot: Option<Signed<Snapshot>>,
    targets: BTreeMap<String, Signed<Targets>>,
    verified: BTreeSet<Visit>,
    wanted: Option<Visit>,
}

impl Updater {
    /// Begins a refresh at the time `clock`, which then stays fixed (TUF §5.1). Starts from the pinned root and
    /// walks the roots that are kept.
    ///
    /// # Errors
    /// [`TrustError::NoTrustedRoot`], [`TrustError::FloorsDamaged`], or what is wrong with the pinned root.
    pub fn start(store: TrustedStore, clock: Time, limits: Limits) -> Result<Self, TrustError> {
        let floors = store.floors()?;
        let root = store.pinned_root(&floors)?;
        let now = match floors.last_seen {
            Some(seen) if clock + CLOCK_TOLERANCE < seen => seen,
            _ => clock,
        };
        let mut updater = Self {
            store,
            floors,
            limits,
            clock,
            now,
            stage: Stage::Root,
            rotations: 0,
            asked: None,
            to_store: VecDeque::new(),
            root,
            timestamp: None,
            snapshot: None,
            targets: BTreeMap::new(),
            verified: BTreeSet::new(),
            wanted: None,
        };
        updater.walk_kept_roots();
        Ok(updater)
    }

    /// What to do next. Calling it again without doing it gives the same fetch again; a file to store is given
    /// once.
    ///
    /// # Errors
    /// Why the refresh or the search cannot go on. What was given out to be stored stays good.
    pub fn advance(&mut self) -> Result<Next, TrustError> {
        loop {
            if let Some((name, bytes)) = self.to_store.pop_front() {
                return Ok(Next::Store { name, bytes });
            }
            if let Some((need, _)) = &self.asked {
                return Ok(Next::Fetch(need.clone()));
            }
            match self.stage {
                Stage::Root => self.ask_for_root()?,
                Stage::RootIsNewest => self.settle_root()?,
                Stage::Timestamp => self.ask_for_timestamp(),
                Stage::Snapshot => self.obtain_snapshot()?,
                Stage::Targets => self.obtain_targets(Visit::top_level())?,
                Stage::Ready => match self.wanted.take() {
                    Some(visit) => self.obtain_targets(visit)?,
                    None => return Ok(Next::Ready),
                },
            }
        }
    }

    /// Takes the file that [`Next::Fetch`] asked for; `None` if the repository says that it has none (for a
    /// root, that means: there is no newer one). A failing network is neither: do not call this then.
    ///
    /// # Errors
    /// Why the file is refused. The machine keeps asking for it, so another source may be tried.
    pub fn feed(&mut self, answer: Option<Vec<u8>>) -> Result<(), TrustError> {
        let Some((need, asked)) = self.asked.clone() else {
            return Err(TrustError::OutOfTurn("no file was asked for"));
        };
        match (answer, asked) {
            (Some(bytes), _) if bytes.len() as u64 > need.max_length => {
                let (length, max) = (bytes.len() as u64, need.max_length);
                return Err(TrustError::TooLong { what: need.name, length, max });
            }
            (Some(bytes), Asked::Root) => {
                let root = self.verify_next_root(bytes)?;
                self.rotations += 1;
                self.accept_root(root)?;
            }
            (None, Asked::Root) => self.stage = Stage::RootIsNewest,
            (Some(bytes), Asked::Timestamp) => self.take_timestamp(bytes)?,
            (Some(bytes), Asked::Snapshot) => self.take_snapshot(bytes)?,
            (Some(bytes), Asked::Targets(visit)) => self.take_targets(visit, bytes)?,
            (None, _) => return Err(TrustError::NotFound { file: need.name }),
        }
        self.asked = None;
        Ok(())
    }

    /// Runs the machine until it is ready, with a blocking `fetch` (which gives `None` for "there is no such
    /// file") and `store`.
    ///
    /// # Errors
    /// Those of the two functions, and of [`Updater::advance`] and [`Updater::feed`].
    pub fn drive<E: From<TrustError>>(
        &mut self,
        mut fetch: impl FnMut(&Need) -> Result<Option<Vec<u8>>, E>,
        mut store: impl FnMut(&str, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            match self.advance()? {
                Next::Store { name, bytes } => store(&name, &bytes)?,
                Next::Fetch(need) => self.feed(fetch(&need)?)?,
                Next::Ready => return Ok(()),
            }
        }
    }

    /// The time that expiry is judged by: the clock as it was given, or the last success where the clock is
    /// more than [`CLOCK_TOLERANCE`] behind it.
    #[must_use]
    pub fn now(&self) -> Time {
        self.now
    }

    /// How far the clock is behind the last success, if it is so far behind that it was not believed.
    #[must_use]
    pub fn clock_behind(&self) -> Option<Duration> {
        (self.now > self.clock).then(|| self.now.since(self.clock))
    }

    /// The newest trusted root.
    #[must_use]
    pub fn root(&self) -> &Root {
        &self.root.body
    }

    /// A targets role that has been loaded; `targets` is there once the machine was ready.
    #[must_use]
    pub fn targets_role(&self, role: &str) -> Option<&Targets> {
        self.targets.get(role).map(|signed| &signed.body)
    }

    /// Every role loaded, with its version and when it expires: what `doctor` and the metrics warn of.
    #[must_use]
    pub fn roles(&self) -> Vec<(String, u64, Time)> {
        let line =
            |role: &str, header: &crate::metadata::Header| (role.to_owned(), header.version, header.expires);
        let mut lines = vec![line("root", &self.root.body.header)];
        lines.extend(self.timestamp.iter().map(|signed| line("timestamp", &signed.body.header)));
        lines.extend(self.snapshot.iter().map(|signed| line("snapshot", &signed.body.header)));
        lines.extend(self.targets.iter().map(|(role, signed)| line(role, &signed.body.header)));
        lines
    }

    /// The store as it is after everything that was given out to be stored.
    #[must_use]
    pub fn store(&self) -> &TrustedStore {
        &self.store
    }

    fn put(&mut self, name: impl Into<String>, bytes: Vec<u8>) {
        let name = name.into();
        self.store.put(&*name, bytes.clone());
        self.to_store.push_back((name, bytes));
    }

    /// Puts the record, if it differs from what is stored.
    fn put_floors(&mut self) {
        let bytes = self.floors.to_bytes();
        if self.store.get(FLOORS) != Some(&*bytes) {
            self.put(FLOORS, bytes);
        }
    }

    fn ask(&mut self, role: &str, version: Option<u64>, max_length: u64, asked: Asked) {
        let need = Need { name: file_name(role, version), role: role.to_owned(), version, max_length };
        self.asked = Some((need, asked));
    }

    /// The version in a file's name, where the repository is consistent (TUF §6.2).
    fn name_version(&self, version: u64) -> Option<u64> {
        self.root.body.consistent_snapshot.then_some(version)
    }

    /// A local file, if it is whole and says exactly what the record says was last accepted. Anything else is
    /// as if it were not there; it never moves a floor.
    fn vouched<T: Role>(&self, role: &str, floor: Option<Floor>) -> Option<Signed<T>> {
        let bytes = self.store.get(&file_name(role, None))?;
        let signed = Signed::<T>::read(role, bytes.to_vec()).ok()?;
        let digest = signed.envelope.digest(role).ok()?;
        (floor? == Floor { version: signed.version(), digest: Some(digest) }).then_some(signed)
    }
}

impl Visit {
    fn top_level() -> Self {
        Self { role: "targets".to_owned(), delegator: "root".to_owned() }
    }
}

/// Holds a version and its content against the floor.
pub(crate) fn check_floor(
    what: &str,
    floor: Option<Floor>,
    version: u64,
    digest: Sha256,
) -> Result<(), TrustError> {
    let Some(floor) = floor else { return Ok(()) };
    if version < floor.version {
        return Err(TrustError::Rollback { what: what.to_owned(), offered: version, floor: floor.version });
    }
    if version == floor.version && floor.digest.is_some_and(|seen| seen != digest) {
        return Err(TrustError::SameVersionOtherContent { what: what.to_owned(), version });
    }
    Ok(())
}
