//! What a scan asks, and what it is answered: places, files, what must be there and what is.

use std::ffi::OsString;
use std::path::PathBuf;
use std::rc::Rc;

use landfall_common::manifest::{Entry, Shared};
use landfall_common::{ReleaseName, Sha256, Timestamp};

/// Which of a release's directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Area {
    /// `releases/<release>`: signed.
    Release,
    /// `prepared/<release>`: made by its preparation, and recorded then.
    Prepared,
}

impl Area {
    pub(super) fn root(self) -> &'static str {
        match self {
            Self::Release => "releases",
            Self::Prepared => "prepared",
        }
    }
}

/// What is scanned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The active release.
    pub release: ReleaseName,
    /// The digest of its root directory object.
    pub tree: Sha256,
    /// What is linked into it.
    pub shared: Shared,
    /// Whether there is a record of what its preparation made.
    pub prepared: bool,
    /// What may be added, as patterns of paths below the release's directories: `*` stands for anything.
    pub ignore: Vec<String>,
}

/// A directory to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Where it belongs.
    pub area: Area,
    /// Its path below the area; empty for the area itself.
    pub below: PathBuf,
    /// The object that says what is in it, for [`Area::Release`]. Without one nothing but links is.
    pub object: Option<Sha256>,
    /// Bytecode that nobody recorded: what must be is not asked for.
    pub is_cache: bool,
    /// It, or a directory above it, was changed since everything was known to be good. It may have been moved here
    /// with all that is in it, whose own times tell nothing then: all of it is read.
    pub is_fresh: bool,
}

/// A file to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    pub(super) area: Area,
    pub(super) below: Rc<PathBuf>,
    pub(super) name: OsString,
    /// Its size, as it was seen.
    pub size: u64,
    pub(super) digest: Sha256,
    pub(super) executable: bool,
}

impl Read {
    /// Its path below its area.
    #[must_use]
    pub fn path(&self) -> (Area, PathBuf) {
        (self.area, self.below.join(&self.name))
    }
}

/// What the scan wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// What must be in a directory, and what is: [`Scan::listed`].
    Directory(Place),
    /// The digest of a file: [`Scan::read`].
    Content(Read),
    /// Where `current` leads: [`Scan::current`].
    Current,
}

/// What must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// A file.
    File {
        /// The digest of its content.
        digest: Sha256,
        /// Its size in bytes.
        size: u64,
        /// Whether it is signed to be executable; `None` if its permissions were not recorded.
        executable: Option<bool>,
    },
    /// A directory.
    Directory {
        /// The object that says what is in it.
        object: Option<Sha256>,
    },
    /// A symbolic link.
    Link {
        /// Where it leads.
        target: PathBuf,
        /// The shared path that it links to, if it does.
        shared: Option<SharedPath>,
    },
    /// A socket, pipe or device; preparation made it.
    Other,
}

/// What a link to something shared leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedPath {
    /// Below `shared/`.
    pub path: PathBuf,
    /// A directory, which the agent makes; else a file, which the administrator keeps.
    pub is_directory: bool,
}

impl Expected {
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::File { .. } => "a file",
            Self::Directory { .. } => "a directory",
            Self::Link { .. } => "a link",
            Self::Other => "a socket, pipe or device",
        }
    }
}

impl From<&Entry> for Expected {
    fn from(entry: &Entry) -> Self {
        match entry {
            Entry::File { digest, size, executable } => {
                Self::File { digest: *digest, size: *size, executable: Some(*executable) }
            }
            Entry::Directory { digest, .. } => Self::Directory { object: Some(*digest) },
            Entry::Symlink { target } => Self::Link { target: target.into(), shared: None },
        }
    }
}

/// What is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What it is.
    pub kind: SeenKind,
    /// Its permission bits.
    pub mode: u32,
    /// When it was last changed in any way (`ctime`).
    pub changed: Timestamp,
}

/// What kind of thing is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeenKind {
    /// A file.
    File {
        /// Its size in bytes.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Link {
        /// Where it leads.
        target: PathBuf,
        /// Nothing is there.
        dangles: bool,
    },
    /// A socket, pipe or device.
    Other,
}

impl SeenKind {
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::File { .. } => "a file",
            Self::Directory => "a directory",
            Self::Link { .. } => "a link",
            Self::Other => "a socket, pipe or device",
        }
    }
}

/// Why a directory or a file could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unseen {
    /// It is not there.
    Gone,
    /// In the system's words.
    Unreadable(String),
}

/// What a file holds.
pub type Content = Result<Sha256, Unseen>;
