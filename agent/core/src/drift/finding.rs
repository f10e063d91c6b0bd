//! What a scan finds: bounded in number, with a digest that stands for all of it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use landfall_common::{ReleaseName, ServiceName, Sha256, printable};

/// In what way something is not as it was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Other content, or another kind of thing.
    Changed,
    /// It is not there.
    Missing,
    /// Nobody released it.
    Added,
    /// Other permissions.
    Mode,
    /// A link that leads elsewhere.
    Link,
    /// It cannot be looked at.
    Unreadable,
}

impl Kind {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Missing => "missing",
            Self::Added => "added",
            Self::Mode => "mode",
            Self::Link => "link",
            Self::Unreadable => "unreadable",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// How a finding is put right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// The signed file takes its place.
    File {
        /// Its digest.
        digest: Sha256,
        /// Its size in bytes.
        size: u64,
        /// Mode 0555, else 0444.
        executable: bool,
    },
    /// The directory is made, and a later look finds what it lacks.
    Directory,
    /// The link is made.
    Link {
        /// Where it leads.
        target: PathBuf,
    },
    /// The permissions are set.
    Mode {
        /// To these.
        mode: u32,
    },
    /// The directory below `shared/` is made.
    SharedDirectory,
    /// `current` is pointed to the active release.
    Current,
    /// The directory object is fetched.
    Object {
        /// Its digest.
        digest: Sha256,
    },
    /// Requests are led anew to where the record says.
    Lead,
    /// A service of which nothing runs is started.
    Start {
        /// Which.
        service: ServiceName,
    },
    /// What can be set while a container runs is set to what is signed.
    Limits {
        /// The service whose container it is.
        service: ServiceName,
    },
    /// The link of a slot is made, if that release still runs there.
    SlotLink {
        /// Which.
        slot: String,
        /// What runs there.
        release: ReleaseName,
        /// Where it leads.
        target: PathBuf,
    },
    /// The file of a slot is written, if that release still runs there.
    SlotFile {
        /// Which.
        slot: String,
        /// What runs there.
        release: ReleaseName,
        /// What it holds.
        content: String,
    },
    /// Nothing that the agent may do by itself.
    ByHand {
        /// What a person can do.
        what: Cow<'static, str>,
    },
}

impl Remedy {
    /// What a person has to do; `None` if `ctl drift --repair` does it.
    #[must_use]
    pub fn by_hand(&self) -> Option<&str> {
        match self {
            Self::ByHand { what } => Some(what),
            _ => None,
        }
    }
}

/// One thing that is not as it was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Below `/srv/<app>`, or absolute; of what is no file its name, such as `supervisor web:web`.
    pub path: PathBuf,
    /// In what way.
    pub kind: Kind,
    /// A few words more.
    pub detail: String,
    /// How it is put right.
    pub remedy: Remedy,
}

impl Finding {
    /// The path as a person can read it on one line, whatever bytes are in it.
    #[must_use]
    pub fn shown_path(&self) -> String {
        printable::line(&self.path.to_string_lossy())
    }
}

/// What was found: all of it counted, the first of it listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    limit: usize,
    /// The first ones, in the order of the walk.
    pub listed: Vec<Finding>,
    /// How many there are of each kind.
    pub counts: BTreeMap<Kind, u64>,
    /// Over all of them, listed or not: the same digest, the same findings.
    pub digest: Sha256,
}

impl Findings {
    /// None yet; at most `limit` are listed.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, listed: Vec::new(), counts: BTreeMap::new(), digest: Sha256::of(b"") }
    }

    /// One more.
    pub fn push(&mut self, finding: Finding) {
        let mut text = self.digest.as_bytes().to_vec();
        text.extend_from_slice(finding.kind.word().as_bytes());
        text.extend_from_slice(finding.path.as_os_str().as_encoded_bytes());
        text.push(0);
        text.extend_from_slice(finding.detail.as_bytes());
        self.digest = Sha256::of(&text);
        *self.counts.entry(finding.kind).or_default() += 1;
        if self.listed.len() < self.limit {
            self.listed.push(finding);
        }
    }

    /// How many there are.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Whether all of them are listed.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.total() == self.listed.len() as u64
    }
}
