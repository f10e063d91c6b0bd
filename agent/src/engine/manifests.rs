//! The manifests of the releases that are here, each parsed once: a look at where requests go, every few seconds, asks
//! for one.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use landfall_common::manifest::Manifest;
use landfall_common::{ReleaseName, Sha256};

use crate::apply::store::Store;
use crate::error::AgentError;

/// More than this are begun with anew; a host keeps a few releases.
const MOST: usize = 8;

/// What was parsed, by the digest of its bytes.
#[derive(Default)]
pub(super) struct Manifests(RefCell<BTreeMap<Sha256, Arc<Manifest>>>);

impl Manifests {
    /// The manifest of a release. Its bytes on the disk are held against the digest each time, so that damage is
    /// found as if nothing were remembered.
    ///
    /// # Errors
    /// [`AgentError::ManifestLost`], [`AgentError::Disk`], [`AgentError::Manifest`].
    pub fn read(
        &self,
        store: &Store,
        release: &ReleaseName,
        digest: Sha256,
    ) -> Result<Arc<Manifest>, AgentError> {
        let lost = || AgentError::ManifestLost { release: release.to_string(), digest };
        let bytes = store.manifest_bytes(release, digest)?.ok_or_else(lost)?;
        let mut parsed = self.0.borrow_mut();
        if let Some(manifest) = parsed.get(&digest) {
            return Ok(Arc::clone(manifest));
        }
        let manifest = Arc::new(Manifest::from_bytes(&bytes)?);
        if parsed.len() >= MOST {
            parsed.clear();
        }
        parsed.insert(digest, Arc::clone(&manifest));
        Ok(manifest)
    }
}
