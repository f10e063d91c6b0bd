//! What is called what below `/srv/<app>`. All paths are relative to that directory.
//!
//! ```text
//! releases/<release>/          read-only; .staging-<release> while it is laid out, .trash-… while it goes
//! prepared/<release>/          what its preparation made; may be written by steps
//! shared/                      what outlives releases
//! current -> releases/<release>
//! slots/<slot> -> ../releases/<release>, slots/<slot>.env
//!                              what a unit or a program of the host's own runs in a slot, and where it listens
//! .landfall/releases/<release> the manifest
//! .landfall/prepared/<release> what was in prepared/<release> when its preparation had ended
//! .landfall/dirs/<digest>      directory objects of the releases that are here
//! .landfall/objects/<digest>   files that were fetched and not yet laid out (`.x`: executable)
//! .landfall/partial/<digest>   compressed files that have arrived in part
//! ```
//!
//! Objects lie beside the releases and not below `/var/lib`, so that laying out is a rename, not a copy.

use std::path::{Path, PathBuf};

use landfall_common::{ReleaseName, Sha256};

/// The link to the active release.
pub const CURRENT: &str = "current";
/// What runs in slots.
pub const SLOTS: &str = "slots";
/// All releases.
pub const RELEASES: &str = "releases";
/// What was prepared for each.
pub const PREPARED: &str = "prepared";
/// What outlives releases.
pub const SHARED: &str = "shared";
/// The manifests.
pub const MANIFESTS: &str = ".landfall/releases";
/// The records of what preparation made.
pub const INVENTORIES: &str = ".landfall/prepared";
/// Directory objects.
pub const DIRS: &str = ".landfall/dirs";
/// Files that were fetched.
pub const OBJECTS: &str = ".landfall/objects";
/// Files that have arrived in part.
pub const PARTIAL: &str = ".landfall/partial";
/// Begins the name of a release that is being laid out.
pub const STAGING_PREFIX: &str = ".staging-";
/// Begins the name of a release that is being removed.
pub const TRASH_PREFIX: &str = ".trash-";

/// Where a release is.
#[must_use]
pub fn release(name: &ReleaseName) -> PathBuf {
    Path::new(RELEASES).join(name.as_str())
}

/// The link to what runs in a slot.
#[must_use]
pub fn slot(name: &str) -> PathBuf {
    Path::new(SLOTS).join(name)
}

/// What a service learns of its slot.
#[must_use]
pub fn slot_environment(name: &str) -> PathBuf {
    Path::new(SLOTS).join(format!("{name}.env"))
}

/// Where it is laid out.
#[must_use]
pub fn staging(name: &ReleaseName) -> PathBuf {
    Path::new(RELEASES).join(format!("{STAGING_PREFIX}{name}"))
}

/// What its preparation made.
#[must_use]
pub fn prepared(name: &ReleaseName) -> PathBuf {
    Path::new(PREPARED).join(name.as_str())
}

/// Its manifest.
#[must_use]
pub fn manifest(name: &ReleaseName) -> PathBuf {
    Path::new(MANIFESTS).join(name.as_str())
}

/// The record of what its preparation made.
#[must_use]
pub fn inventory(name: &ReleaseName) -> PathBuf {
    Path::new(INVENTORIES).join(name.as_str())
}

/// A directory object.
#[must_use]
pub fn directory(digest: Sha256) -> PathBuf {
    Path::new(DIRS).join(digest.to_string())
}

/// A file that was fetched.
#[must_use]
pub fn object(digest: Sha256, executable: bool) -> PathBuf {
    Path::new(OBJECTS).join(format!("{digest}{}", if executable { ".x" } else { "" }))
}

/// What a file of this name among those that were fetched is: its digest, and whether it is executable.
#[must_use]
pub fn object_of(name: &str) -> Option<(Sha256, bool)> {
    let (digest, executable) = match name.strip_suffix(".x") {
        Some(digest) => (digest, true),
        None => (name, false),
    };
    Some((digest.parse().ok()?, executable))
}

/// A compressed file that has arrived in part.
#[must_use]
pub fn partial(digest: Sha256) -> PathBuf {
    Path::new(PARTIAL).join(digest.to_string())
}
