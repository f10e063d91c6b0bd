//! A host of plain data: what was applied, and what is there now.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use landfall_agent_core::drift::{
    Area, Ask, Depth, Expected, Place, Scan, Seen, SeenKind, Summary, Target, Unseen,
};
use landfall_common::manifest::Shared;
use landfall_common::{Sha256, Timestamp};

/// So many seconds after the beginning of time.
pub fn at(s: u64) -> Timestamp {
    Timestamp::from_ms(s * 1000)
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    File(String),
    Directory,
    Link(PathBuf),
}

#[derive(Debug, Clone)]
struct There {
    node: Node,
    mode: u32,
    changed: u64,
}

#[derive(Debug, Clone)]
pub struct World {
    /// The time of changes, in seconds.
    pub now: u64,
    pub ignore: Vec<String>,
    pub limit: usize,
    there: BTreeMap<PathBuf, There>,
    applied: BTreeMap<PathBuf, There>,
}

impl World {
    /// A host right after a release.
    pub fn applied() -> Self {
        let there = BTreeMap::new();
        let mut world = Self { now: 100, ignore: Vec::new(), limit: 100, there, applied: BTreeMap::new() };
        for (path, content) in [
            ("releases/v1/app/views.py", "views"),
            ("releases/v1/compiled/__pycache__/signed.cpython-311.pyc", "signed"),
            ("releases/v1/manage.py", "manage"),
            ("releases/v1/README", "read me"),
            ("prepared/v1/venv/lib.py", "lib"),
            ("prepared/v1/venv/__pycache__/lib.cpython-311.pyc", "compiled"),
            ("shared/media/old.png", "old"),
            ("shared/conf/.env", "SECRET=1"),
        ] {
            world.write(path, content);
        }
        world.link("releases/v1/latest", "app/views.py");
        world.link("releases/v1/media", "../../shared/media");
        world.write("releases/v1/conf/x", "");
        world.remove("releases/v1/conf/x");
        world.link("releases/v1/conf/.env", "../../../shared/conf/.env");
        world.link("current", "releases/v1");
        for (path, there) in &mut world.there {
            there.mode = match &there.node {
                Node::File(_) if path.ends_with("manage.py") => 0o555,
                Node::File(_) => 0o444,
                Node::Directory => 0o555,
                Node::Link(_) => 0o777,
            };
        }
        world.applied = world.there.clone();
        world
    }

    fn put(&mut self, path: &str, node: Node) {
        let path = PathBuf::from(path);
        let above: Vec<PathBuf> = path.ancestors().skip(1).map(Path::to_owned).collect();
        for above in above.into_iter().filter(|above| !above.as_os_str().is_empty()) {
            let directory = There { node: Node::Directory, mode: 0o555, changed: self.now };
            self.there.entry(above).or_insert(directory);
        }
        let mode =
            self.there.get(&path).filter(|old| old.node != Node::Directory).map_or(0o444, |old| old.mode);
        self.there.insert(path, There { node, mode, changed: self.now });
    }

    pub fn write(&mut self, path: &str, content: &str) {
        self.put(path, Node::File(content.to_owned()));
    }

    pub fn link(&mut self, path: &str, target: &str) {
        self.put(path, Node::Link(target.into()));
    }

    pub fn chmod(&mut self, path: &str, mode: u32) {
        let there = self.there.get_mut(Path::new(path)).unwrap();
        (there.mode, there.changed) = (mode, self.now);
    }

    pub fn remove(&mut self, path: &str) {
        self.there.retain(|there, _| !there.starts_with(path));
    }

    /// A directory with all that is in it.
    pub fn take(&mut self, path: &str) -> Taken {
        let taken: BTreeMap<_, _> = self
            .there
            .iter()
            .filter(|(there, _)| there.starts_with(path))
            .map(|(p, t)| (p.clone(), t.clone()))
            .collect();
        self.remove(path);
        Taken(taken)
    }

    pub fn put_back(&mut self, taken: Taken) {
        self.there.extend(taken.0);
    }

    pub fn size(&self, path: &str) -> u64 {
        match &self.there[Path::new(path)].node {
            Node::File(content) => content.len() as u64,
            _ => 0,
        }
    }

    /// A whole look, and what it read.
    pub fn look(&self, depth: &Depth) -> (Summary, Vec<String>) {
        let target = Target {
            release: "v1".parse().unwrap(),
            tree: Sha256::of(b"releases/v1"),
            shared: Shared { directories: vec!["media".into()], files: vec!["conf/.env".into()] },
            prepared: true,
            ignore: self.ignore.clone(),
        };
        let mut scan = Scan::new(target, depth.clone(), self.limit);
        let mut reads = Vec::new();
        while let Some(ask) = scan.ask() {
            match ask {
                Ask::Directory(place) => {
                    let seen = self.list(&path(place.area, &place.below));
                    scan.listed(&place, Ok(self.expected(&place)), seen);
                }
                Ask::Content(read) => {
                    let (area, below) = read.path();
                    let path = path(area, &below);
                    reads.push(path.to_str().unwrap().to_owned());
                    let content = match &self.there[&path].node {
                        Node::File(content) => Ok(Sha256::of(content.as_bytes())),
                        _ => Err(Unseen::Gone),
                    };
                    scan.read(&read, content);
                }
                Ask::Current => {
                    let leads_to = match self.there.get(Path::new("current")).map(|there| &there.node) {
                        Some(Node::Link(target)) => Some(target.as_path()),
                        _ => None,
                    };
                    scan.current(leads_to);
                }
            }
        }
        (scan.into_summary(), reads)
    }

    fn list(&self, path: &Path) -> Result<BTreeMap<OsString, Seen>, Unseen> {
        if self.there.get(path).map(|there| &there.node) != Some(&Node::Directory) {
            return Err(Unseen::Gone);
        }
        Ok(children(&self.there, path).map(|(name, there)| (name, self.seen(path, there))).collect())
    }

    fn seen(&self, directory: &Path, there: &There) -> Seen {
        let kind = match &there.node {
            Node::File(content) => SeenKind::File { size: content.len() as u64 },
            Node::Directory => SeenKind::Directory,
            Node::Link(target) => {
                let mut place: Vec<OsString> = directory.iter().map(OsString::from).collect();
                for part in target {
                    if part == ".." {
                        place.pop();
                    } else {
                        place.push(part.to_owned());
                    }
                }
                let dangles = !self.there.contains_key(&place.iter().collect::<PathBuf>());
                SeenKind::Link { target: target.clone(), dangles }
            }
        };
        Seen { kind, mode: there.mode, changed: at(there.changed) }
    }

    /// What was signed or recorded: the links to what is shared are not.
    fn expected(&self, place: &Place) -> BTreeMap<OsString, Expected> {
        let path = path(place.area, &place.below);
        if place.area == Area::Release && place.object != Some(Sha256::of(path.to_str().unwrap().as_bytes()))
        {
            return BTreeMap::new();
        }
        let signed = children(&self.applied, &path).filter(|(_, there)| {
            !matches!(&there.node, Node::Link(target) if target.to_str().unwrap().contains("shared"))
        });
        let signed = signed.filter(|(name, _)| path.join(name) != Path::new("releases/v1/conf"));
        signed
            .map(|(name, there)| {
                let path = path.join(&name);
                let expected = match &there.node {
                    Node::File(content) => Expected::File {
                        digest: Sha256::of(content.as_bytes()),
                        size: content.len() as u64,
                        executable: (place.area == Area::Release).then_some(there.mode == 0o555),
                    },
                    Node::Directory => {
                        let object = Sha256::of(path.to_str().unwrap().as_bytes());
                        Expected::Directory { object: (place.area == Area::Release).then_some(object) }
                    }
                    Node::Link(target) => Expected::Link { target: target.clone(), shared: None },
                };
                (name, expected)
            })
            .collect()
    }
}

/// What was taken out of a world.
pub struct Taken(BTreeMap<PathBuf, There>);

fn path(area: Area, below: &Path) -> PathBuf {
    let root = match area {
        Area::Release => "releases/v1",
        Area::Prepared => "prepared/v1",
    };
    if below.as_os_str().is_empty() { root.into() } else { Path::new(root).join(below) }
}

fn children<'w>(
    all: &'w BTreeMap<PathBuf, There>,
    path: &'w Path,
) -> impl Iterator<Item = (OsString, &'w There)> + 'w {
    all.iter()
        .filter(move |(there, _)| there.parent() == Some(path))
        .map(|(there, node)| (there.file_name().unwrap().to_owned(), node))
}
