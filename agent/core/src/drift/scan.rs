//! The scan: a walk over what must be, beside what is.
//!
//! The shell asks for the [`Scan::ask`] question, answers it, and may rest between any two. Memory is bounded by the
//! directories on one path and the files of one directory, not by the release.
//!
//! *Added* is what neither the signers nor preparation put there. A directory that was added is one finding, whatever
//! is in it. An interpreter's bytecode (`__pycache__/*.pyc`, and `prepared/*/pycache/**`) is not: it is written by
//! whoever first runs a source, and tells nothing. It is counted; what preparation had compiled may be compiled again.
//! Bytecode that was *signed* is held to its signature like everything else.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use landfall_common::Timestamp;

use super::bytecode::{CACHE, is_bytecode, is_in_caches};
use super::finding::{Finding, Findings, Kind, Remedy};
use super::pace::Depth;
use super::question::{
    Area, Ask, Content, Expected, Place, Read, Seen, SeenKind, SharedPath, Target, Unseen,
};

/// Deeper than this nothing is released: what lies there is not walked.
const MAX_DEPTH: usize = 160;

const NEW_RELEASE: &str = "what preparation makes is not signed, so that no single file of it can be put back: \
                           roll out a new release, whose preparation makes it anew";
const MOVE_AWAY: &str = "move it away, then repair";
const LOOK: &str = "look at it; the agent removes nothing that it did not put there";
const ADMINISTRATOR: &str = "it is the administrator's to keep: put it there";

/// What came of a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// What is not as it was applied.
    pub findings: Findings,
    /// Files of bytecode that nobody released, and that are not findings.
    pub caches: u64,
    /// Entries that were looked at.
    pub entries: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// A directory could not be looked into. Nothing is known of what is in it.
    pub is_blind: bool,
}

/// A scan under way.
#[derive(Debug, Clone)]
pub struct Scan {
    target: Target,
    depth: Depth,
    shared: BTreeMap<PathBuf, bool>,
    places: Vec<Place>,
    reads: VecDeque<Read>,
    is_current_known: bool,
    summary: Summary,
}

impl Scan {
    /// A scan of a release; at most `limit` findings are listed.
    #[must_use]
    pub fn new(target: Target, depth: Depth, limit: usize) -> Self {
        let place =
            |area, object| Place { area, below: PathBuf::new(), object, is_cache: false, is_fresh: false };
        let mut places = Vec::new();
        if target.prepared {
            places.push(place(Area::Prepared, None));
        }
        places.push(place(Area::Release, Some(target.tree)));
        let paths = |paths: &[String], is_directory| -> Vec<(PathBuf, bool)> {
            paths.iter().map(|path| (plain(path), is_directory)).collect()
        };
        let mut shared: BTreeMap<PathBuf, bool> =
            paths(&target.shared.directories, true).into_iter().collect();
        shared.extend(paths(&target.shared.files, false));
        let summary =
            Summary { findings: Findings::new(limit), caches: 0, entries: 0, bytes: 0, is_blind: false };
        Self { target, depth, shared, places, reads: VecDeque::new(), is_current_known: false, summary }
    }

    /// How deep it is.
    #[must_use]
    pub fn depth(&self) -> &Depth {
        &self.depth
    }

    /// The next question; `None` when the scan has ended.
    pub fn ask(&mut self) -> Option<Ask> {
        if let Some(read) = self.reads.pop_front() {
            return Some(Ask::Content(read));
        }
        if let Some(place) = self.places.pop() {
            return Some(Ask::Directory(place));
        }
        (!self.is_current_known).then_some(Ask::Current)
    }

    /// What was found until now, or in all.
    #[must_use]
    pub fn into_summary(self) -> Summary {
        self.summary
    }

    /// Where `current` leads; `None` if nothing, or no link, has that name.
    pub fn current(&mut self, leads_to: Option<&Path>) {
        self.is_current_known = true;
        let wanted = Path::new(Area::Release.root()).join(self.target.release.as_str());
        if leads_to == Some(&wanted) {
            return;
        }
        let detail = match leads_to {
            Some(other) => format!("leads to {} instead of {}", other.display(), wanted.display()),
            None => format!("does not lead to {}", wanted.display()),
        };
        self.find(PathBuf::from("current"), Kind::Link, detail, Remedy::Current);
    }

    /// What must be in a directory (or why that is not known), and what is.
    pub fn listed(
        &mut self,
        place: &Place,
        expected: Result<BTreeMap<OsString, Expected>, String>,
        seen: Result<BTreeMap<OsString, Seen>, Unseen>,
    ) {
        let path = self.path(place.area, &place.below);
        let mut seen = match seen {
            Ok(seen) => seen,
            Err(Unseen::Gone) => {
                self.summary.is_blind = true;
                let remedy =
                    if place.area == Area::Release { Remedy::Directory } else { by_hand(NEW_RELEASE) };
                return self.find(path, Kind::Missing, "the directory is gone".to_owned(), remedy);
            }
            Err(Unseen::Unreadable(reason)) => {
                self.summary.is_blind = true;
                return self.find(path, Kind::Unreadable, reason, by_hand(LOOK));
            }
        };
        self.summary.entries += seen.len() as u64;
        if place.is_cache {
            return self.cache(place, seen);
        }
        let expected = match expected {
            Ok(expected) => expected,
            Err(reason) => {
                self.summary.is_blind = true;
                let remedy = place.object.map_or(by_hand(NEW_RELEASE), |digest| Remedy::Object { digest });
                return self.find(path, Kind::Unreadable, reason, remedy);
            }
        };
        let expected = self.with_links(place, expected);
        let below = Rc::new(place.below.clone());
        let mut places = Vec::new();
        for (name, expected) in expected {
            let seen = seen.remove(&name);
            self.compare(place, &below, name, expected, seen, &mut places);
        }
        for (name, seen) in seen {
            self.added(place, name, &seen, &mut places);
        }
        // In the order of their names, each with all that is below it: the record of preparation has the same.
        places.sort_by(|one, two| two.below.as_os_str().cmp(one.below.as_os_str()));
        self.places.extend(places);
    }

    /// What a file holds.
    pub fn read(&mut self, read: &Read, content: Content) {
        let path = self.path(read.area, &read.below.join(&read.name));
        let remedy = match read.area {
            Area::Release => {
                Remedy::File { digest: read.digest, size: read.size, executable: read.executable }
            }
            Area::Prepared => by_hand(NEW_RELEASE),
        };
        match content {
            Ok(digest) => {
                self.summary.bytes += read.size;
                if digest != read.digest {
                    self.find(path, Kind::Changed, "other content of the same size".to_owned(), remedy);
                }
            }
            Err(Unseen::Gone) => self.find(path, Kind::Missing, String::new(), remedy),
            Err(Unseen::Unreadable(reason)) => self.find(path, Kind::Unreadable, reason, remedy),
        }
    }

    /// What a directory holds beside what is signed: the links to what is shared, and the directories on the way
    /// there. What is signed at or below such a link is hidden by it.
    fn with_links(
        &self,
        place: &Place,
        mut expected: BTreeMap<OsString, Expected>,
    ) -> BTreeMap<OsString, Expected> {
        if place.area != Area::Release {
            return expected;
        }
        for (path, is_directory) in &self.shared {
            let Ok(rest) = path.strip_prefix(&place.below) else { continue };
            let mut parts = rest.iter();
            let Some(name) = parts.next() else { continue };
            if parts.next().is_some() {
                expected.entry(name.to_owned()).or_insert(Expected::Directory { object: None });
                continue;
            }
            // From `releases/<release>/a/b/name`: one step up for each of a, b, the release and `releases`.
            let mut target: PathBuf = std::iter::repeat_n("..", path.components().count() + 1).collect();
            target.push("shared");
            target.push(path);
            let shared = SharedPath { path: path.clone(), is_directory: *is_directory };
            expected.insert(name.to_owned(), Expected::Link { target, shared: Some(shared) });
        }
        expected
    }

    fn compare(
        &mut self,
        place: &Place,
        below: &Rc<PathBuf>,
        name: OsString,
        expected: Expected,
        seen: Option<Seen>,
        places: &mut Vec<Place>,
    ) {
        let area = place.area;
        let inside = place.below.join(&name);
        let path = self.path(area, &inside);
        let may_vary = area == Area::Prepared && is_bytecode(area, &inside);
        let Some(seen) = seen else {
            if may_vary {
                self.summary.caches += 1;
                return;
            }
            self.summary.is_blind |= matches!(expected, Expected::Directory { .. });
            let remedy = remedy(area, &expected);
            return self.find(path, Kind::Missing, String::new(), remedy);
        };
        let is_fresh = place.is_fresh || self.is_since(seen.changed);
        match (&expected, &seen.kind) {
            (Expected::File { digest, size, executable }, SeenKind::File { size: found }) => {
                if may_vary {
                    self.summary.caches += 1;
                    return;
                }
                if size != found {
                    let detail = format!("{found} bytes instead of {size}");
                    let remedy = remedy(area, &expected);
                    return self.find(path, Kind::Changed, detail, remedy);
                }
                if let Some(executable) = executable {
                    self.check_mode(&path, &seen, if *executable { 0o555 } else { 0o444 });
                }
                if is_fresh || self.is_doubted(&path) {
                    let (below, executable) = (below.clone(), executable.unwrap_or_default());
                    self.reads.push_back(Read {
                        area,
                        below,
                        name,
                        size: *size,
                        digest: *digest,
                        executable,
                    });
                }
            }
            (Expected::Directory { object }, SeenKind::Directory) => {
                if area == Area::Release {
                    self.check_mode(&path, &seen, 0o555);
                }
                if inside.components().count() < MAX_DEPTH {
                    places.push(Place { area, below: inside, object: *object, is_cache: false, is_fresh });
                }
            }
            (Expected::Link { target, shared }, SeenKind::Link { target: found, dangles }) => {
                if target != found {
                    let detail = format!("leads to {} instead of {}", found.display(), target.display());
                    let remedy = remedy(area, &expected);
                    return self.find(path, Kind::Link, detail, remedy);
                }
                if let (Some(shared), true) = (shared, dangles) {
                    let what = Path::new("shared").join(&shared.path);
                    let remedy =
                        if shared.is_directory { Remedy::SharedDirectory } else { by_hand(ADMINISTRATOR) };
                    let detail = format!("{} leads there", path.display());
                    self.find(what, Kind::Missing, detail, remedy);
                }
            }
            (Expected::Other, SeenKind::Other) => {}
            (_, other) => {
                self.summary.is_blind |= matches!(expected, Expected::Directory { .. });
                let remedy = match (&expected, other) {
                    (Expected::Directory { .. }, _) | (_, SeenKind::Directory) if area == Area::Release => {
                        by_hand(MOVE_AWAY)
                    }
                    _ => remedy(area, &expected),
                };
                let detail = format!("{} instead of {}", other.word(), expected.word());
                self.find(path, Kind::Changed, detail, remedy);
            }
        }
    }

    /// Whether something was changed since everything was known to be good.
    fn is_since(&self, changed: Timestamp) -> bool {
        match &self.depth {
            Depth::All => true,
            Depth::Since { since, .. } => changed >= *since,
        }
    }

    /// Whether it was found changed before.
    fn is_doubted(&self, path: &Path) -> bool {
        matches!(&self.depth, Depth::Since { also, .. } if also.contains(path))
    }

    fn check_mode(&mut self, path: &Path, seen: &Seen, wanted: u32) {
        if seen.mode != wanted {
            let detail = format!("permissions {:04o} instead of {wanted:04o}", seen.mode);
            self.find(path.to_owned(), Kind::Mode, detail, Remedy::Mode { mode: wanted });
        }
    }

    fn added(&mut self, place: &Place, name: OsString, seen: &Seen, places: &mut Vec<Place>) {
        let inside = place.below.join(&name);
        if self.target.ignore.iter().any(|pattern| matches(pattern, &inside.to_string_lossy())) {
            return;
        }
        let is_directory = seen.kind == SeenKind::Directory;
        let is_cache = name == *CACHE && !place.is_cache || is_in_caches(place.area, &inside);
        if is_directory && is_cache && inside.components().count() < MAX_DEPTH {
            places.push(Place {
                area: place.area,
                below: inside,
                object: None,
                is_cache: true,
                is_fresh: true,
            });
            return;
        }
        if matches!(seen.kind, SeenKind::File { .. }) && is_bytecode(place.area, &inside) {
            self.summary.caches += 1;
            return;
        }
        let detail = if is_directory { "a directory, with all that is in it" } else { seen.kind.word() };
        self.find(self.path(place.area, &inside), Kind::Added, detail.to_owned(), by_hand(LOOK));
    }

    /// A directory of bytecode: whatever else is in it is a finding.
    fn cache(&mut self, place: &Place, seen: BTreeMap<OsString, Seen>) {
        let mut places = Vec::new();
        for (name, seen) in seen {
            self.added(place, name, &seen, &mut places);
        }
        self.places.extend(places);
    }

    fn find(&mut self, path: PathBuf, kind: Kind, detail: String, remedy: Remedy) {
        self.summary.findings.push(Finding { path, kind, detail, remedy });
    }

    fn path(&self, area: Area, below: &Path) -> PathBuf {
        let root = Path::new(area.root()).join(self.target.release.as_str());
        if below.as_os_str().is_empty() { root } else { root.join(below) }
    }
}

fn by_hand(what: &'static str) -> Remedy {
    Remedy::ByHand { what: what.into() }
}

fn remedy(area: Area, expected: &Expected) -> Remedy {
    match (area, expected) {
        (Area::Prepared, _) | (_, Expected::Other) => by_hand(NEW_RELEASE),
        (Area::Release, Expected::File { digest, size, executable }) => {
            Remedy::File { digest: *digest, size: *size, executable: executable.unwrap_or_default() }
        }
        (Area::Release, Expected::Directory { .. }) => Remedy::Directory,
        (Area::Release, Expected::Link { target, .. }) => Remedy::Link { target: target.clone() },
    }
}

/// A path as the manifest writes it, without empty parts.
fn plain(path: &str) -> PathBuf {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").collect()
}

/// Whether a text fits a pattern in which `*` stands for anything, slashes too.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}
