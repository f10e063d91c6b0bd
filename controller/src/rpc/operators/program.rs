//! What a published release runs, read from its signed manifest.

use landfall_common::assignment::ReleaseRef;
use landfall_common::manifest::{MAX_MANIFEST_BYTES, Manifest, Program};

use crate::rpc::Context;

/// What the manifest of a release says that runs, or why nobody can tell.
pub(super) async fn of(context: &Context, release: &ReleaseRef) -> Result<Program, String> {
    let bytes = context.depot.read(release.digest, MAX_MANIFEST_BYTES).await;
    let bytes = bytes.map_err(|error| error.chain())?;
    let manifest = Manifest::from_bytes(&bytes).map_err(|error| error.in_full())?;
    Ok(manifest.program)
}
