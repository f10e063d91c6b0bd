//! Answering the questions of a scan: what is in a directory, what must be, what a file holds.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::BufReader;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use landfall_agent_core::drift::{
    Area, Content, Expected, Place, Read, Scan, Seen, SeenKind, Target, Unseen,
};
use landfall_common::assignment::ReleaseRef;
use landfall_common::manifest::{Directory, Manifest};
use landfall_common::{Sha256, Timestamp};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::reading;
use crate::apply::inventory::Reader;
use crate::layout;

/// Called again and again while there is work: it may wait, and says whether to go on.
pub type Breathe<'b> = &'b mut dyn FnMut() -> bool;

/// The scan was told to end.
#[derive(Debug, PartialEq, Eq)]
pub struct Interrupted;

/// The eyes of one scan.
pub struct Looker {
    root: PathBuf,
    release: ReleaseRef,
    inventory: Option<Reader<BufReader<File>>>,
    piece: Vec<u8>,
}

impl Looker {
    /// What must be of the active release below `root`, which is `/srv/<app>`, the eyes for it, and what else is to be
    /// said of it.
    ///
    /// # Errors
    /// Why nothing is known, as a sentence.
    pub fn new(
        root: &Path,
        release: &ReleaseRef,
        ignore: &[String],
    ) -> Result<(Self, Target, Option<&'static str>), String> {
        let path = root.join(layout::manifest(&release.name));
        let bytes =
            std::fs::read(&path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        if Sha256::of(&bytes) != release.digest {
            return Err(format!("{} is not the manifest that was signed", path.display()));
        }
        let manifest = Manifest::from_bytes(&bytes).map_err(|error| error.in_full())?;
        let inventory = match File::open(root.join(layout::inventory(&release.name))) {
            Ok(file) => Reader::new(BufReader::new(file), release.digest).ok().flatten(),
            Err(_) => None,
        };
        let was_prepared = !manifest.program.prepare.is_empty();
        let note = (was_prepared && inventory.is_none())
            .then_some("what preparation made was not recorded on this host, and is not looked at");
        let target = Target {
            release: release.name.clone(),
            tree: manifest.tree,
            shared: manifest.program.shared,
            prepared: was_prepared && inventory.is_some(),
            ignore: ignore.to_vec(),
        };
        let piece = vec![0; reading::PIECE_BYTES];
        Ok((Self { root: root.to_owned(), release: release.clone(), inventory, piece }, target, note))
    }

    /// Answers for a directory.
    ///
    /// # Errors
    /// [`Interrupted`].
    pub fn directory(
        &mut self,
        scan: &mut Scan,
        place: &Place,
        breathe: Breathe<'_>,
    ) -> Result<(), Interrupted> {
        let seen = match list(&self.path(place.area, &place.below), breathe) {
            Ok(seen) => Ok(seen?),
            Err(unseen) => Err(unseen),
        };
        let expected = if place.is_cache { Ok(BTreeMap::new()) } else { self.expected(place) };
        scan.listed(place, expected, seen);
        if breathe() { Ok(()) } else { Err(Interrupted) }
    }

    /// Answers for a file.
    ///
    /// # Errors
    /// [`Interrupted`].
    pub fn content(&mut self, scan: &mut Scan, read: &Read, breathe: Breathe<'_>) -> Result<(), Interrupted> {
        let (area, below) = read.path();
        let digest = reading::open(&self.path(area, &below))
            .and_then(|file| reading::digest(&file, &mut self.piece, breathe));
        let content: Content = match digest {
            Ok(Some(digest)) => Ok(digest),
            Ok(None) => return Err(Interrupted),
            Err(error) => Err(unseen(&error)),
        };
        scan.read(read, content);
        if breathe() { Ok(()) } else { Err(Interrupted) }
    }

    /// Where `current` leads.
    #[must_use]
    pub fn current(&self) -> Option<PathBuf> {
        std::fs::read_link(self.root.join(layout::CURRENT)).ok()
    }

    fn path(&self, area: Area, below: &Path) -> PathBuf {
        let directory = match area {
            Area::Release => layout::release(&self.release.name),
            Area::Prepared => layout::prepared(&self.release.name),
        };
        self.root.join(directory).join(below)
    }

    fn expected(&mut self, place: &Place) -> Result<BTreeMap<OsString, Expected>, String> {
        match (place.area, place.object) {
            (Area::Prepared, _) => match &mut self.inventory {
                Some(inventory) => inventory.directory(&place.below),
                None => Err("what preparation made was not recorded".to_owned()),
            },
            (Area::Release, None) => Ok(BTreeMap::new()),
            (Area::Release, Some(digest)) => {
                let path = layout::directory(digest);
                let bytes = std::fs::read(self.root.join(&path))
                    .map_err(|error| format!("{} says what must be in it: {error}", path.display()))?;
                if Sha256::of(&bytes) != digest {
                    return Err(format!("{} says what must be in it, and is damaged", path.display()));
                }
                let directory = Directory::from_bytes(&bytes).map_err(|error| error.in_full())?;
                drop(bytes);
                let entries = directory.entries.into_iter();
                Ok(entries.map(|(name, entry)| (name.into(), Expected::from(&entry))).collect())
            }
        }
    }
}

fn unseen(error: &std::io::Error) -> Unseen {
    if error.kind() == std::io::ErrorKind::NotFound {
        Unseen::Gone
    } else {
        Unseen::Unreadable(error.to_string())
    }
}

type Listed = Result<BTreeMap<OsString, Seen>, Interrupted>;

/// What is in a directory; neither it nor anything in it is followed.
fn list(path: &Path, breathe: Breathe<'_>) -> Result<Listed, Unseen> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let failed = |error: Errno| unseen(&error.into());
    let directory = rustix::fs::open(path, flags, Mode::empty()).map_err(failed)?;
    let mut entries = BTreeMap::new();
    for entry in rustix::fs::Dir::read_from(&directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        match see(&directory, name) {
            Ok(seen) => {
                entries.insert(name.to_owned(), seen);
            }
            // It has gone since.
            Err(Errno::NOENT) => {}
            Err(error) => return Err(failed(error)),
        }
        if !breathe() {
            return Ok(Err(Interrupted));
        }
    }
    Ok(Ok(entries))
}

fn see(directory: &rustix::fd::OwnedFd, name: &OsStr) -> Result<Seen, Errno> {
    let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => SeenKind::File { size: u64::try_from(stat.st_size).unwrap_or_default() },
        FileType::Directory => SeenKind::Directory,
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(directory, name, Vec::new())?;
            let dangles = rustix::fs::statat(directory, name, AtFlags::empty()).err() == Some(Errno::NOENT);
            SeenKind::Link { target: OsString::from_vec(target.into_bytes()).into(), dangles }
        }
        _ => SeenKind::Other,
    };
    let s = u64::try_from(stat.st_ctime).unwrap_or_default();
    Ok(Seen { kind, mode: stat.st_mode & 0o7777, changed: Timestamp::from_ms(s.saturating_mul(1000)) })
}
