//! Which release a process runs, as the process itself shows it: by its working directory.
//!
//! A process that was started in `/srv/app/current` has the release's own directory as its working directory
//! from then on, whatever `current` names later. The kernel shows it to the process's own user only, so that
//! there is often no evidence; there is never a wrong one.

use std::path::Path;

use landfall_common::{ReleaseName, Sha256};

use crate::layout;
use crate::steps::StepContext;

/// The release below whose directory a process works.
pub(super) fn release_of(context: &StepContext, pid: u32) -> Option<ReleaseName> {
    let releases = context.directory.parent()?.canonicalize().ok()?;
    let directory = std::fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
    let inside = directory.strip_prefix(releases).ok()?;
    inside.iter().next()?.to_str()?.parse().ok()
}

/// The digest of a release that is on this host.
pub(super) fn digest_of(context: &StepContext, release: &ReleaseName) -> Option<Sha256> {
    let app = context.directory.parent().and_then(Path::parent)?;
    std::fs::read(app.join(layout::manifest(release))).ok().map(|manifest| Sha256::of(&manifest))
}
