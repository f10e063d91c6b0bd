//! Which objects the releases of an application are made of: those are what its hosts may fetch.
//!
//! Nothing of it is stored. An application's trees are walked when a host first asks for an object that is not
//! known yet, and then only what earlier releases do not have in common with the new one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use landfall_common::manifest::{Directory, Entry, MAX_DIRECTORY_BYTES, MAX_MANIFEST_BYTES, Manifest};
use landfall_common::{AppName, Sha256};
use tokio::sync::RwLock;

use crate::error::{ControllerError, Reason};
use crate::objects::Depot;

/// What is known of all applications.
#[derive(Debug, Default)]
pub struct Catalogue(Mutex<BTreeMap<AppName, Arc<RwLock<Known>>>>);

#[derive(Debug, Default)]
struct Known {
    /// The manifests whose trees have been walked.
    releases: BTreeSet<Sha256>,
    /// Manifests, directories and files.
    objects: BTreeSet<Sha256>,
}

impl Catalogue {
    /// How many of these objects, from the first on, belong to releases of the application. `releases` gives the
    /// manifests of those that are published, and is asked only where something is not known yet.
    ///
    /// # Errors
    /// [`ControllerError::Object`] if a release that may be the one is damaged; those of `releases`.
    pub async fn belonging<F>(
        &self,
        depot: &Depot,
        application: &AppName,
        objects: &[Sha256],
        releases: impl FnOnce() -> F,
    ) -> Result<usize, ControllerError>
    where
        F: Future<Output = Result<Vec<Sha256>, ControllerError>>,
    {
        let known = {
            let mut applications = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            applications.entry(application.clone()).or_default().clone()
        };
        let count = known.read().await.leading(objects);
        if count == objects.len() {
            return Ok(count);
        }
        // Whoever waits here for another's walk finds what it has found.
        let mut known = known.write().await;
        if known.leading(objects) == objects.len() {
            return Ok(objects.len());
        }
        let mut damaged = None;
        for manifest in releases().await? {
            if known.releases.contains(&manifest) {
                continue;
            }
            match known.walk(depot, manifest).await {
                Ok(found) => {
                    known.objects.extend(found);
                    known.releases.insert(manifest);
                }
                Err(error) => {
                    tracing::error!(%application, %manifest, error = %error.chain(), "a release cannot be read");
                    damaged = Some(error);
                }
            }
        }
        match (known.leading(objects), damaged) {
            (0, Some(error)) => Err(error),
            (count, _) => Ok(count),
        }
    }
}

impl Known {
    fn leading(&self, objects: &[Sha256]) -> usize {
        objects.iter().take_while(|digest| self.objects.contains(digest)).count()
    }

    /// The objects of a release that are not known yet.
    async fn walk(&self, depot: &Depot, manifest: Sha256) -> Result<BTreeSet<Sha256>, ControllerError> {
        let refuse = |error: String| ControllerError::refused(Reason::BadManifest, error);
        let bytes = depot.read(manifest, MAX_MANIFEST_BYTES).await?;
        let tree = Manifest::from_bytes(&bytes).map_err(|error| refuse(error.in_full()))?.tree;
        let mut found = BTreeSet::from([manifest]);
        let mut directories = vec![tree];
        while let Some(digest) = directories.pop() {
            if self.objects.contains(&digest) || !found.insert(digest) {
                continue;
            }
            let content = depot.read(digest, MAX_DIRECTORY_BYTES).await?;
            let directory = Directory::from_bytes(&content).map_err(|error| refuse(error.in_full()))?;
            for entry in directory.entries.into_values() {
                match entry {
                    Entry::File { digest, .. } => {
                        found.insert(digest);
                    }
                    Entry::Directory { digest, .. } => directories.push(digest),
                    Entry::Symlink { .. } => {}
                }
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_common::ReleaseName;
    use landfall_common::manifest::{FORMAT, Origin, Program};

    /// Stores a release with one file in a directory; gives its manifest's digest.
    async fn publish(depot: &Depot, application: &AppName, content: &str) -> Sha256 {
        let size = content.len() as u64;
        let digest = depot.store(content.into()).await.unwrap();
        let file = Entry::File { digest, size, executable: false };
        let inner = Directory { entries: BTreeMap::from([("file".to_owned(), file)]) }.to_bytes().unwrap();
        let size = inner.len() as u64;
        let digest = depot.store(inner).await.unwrap();
        let inner = Entry::Directory { digest, size };
        let tree = Directory { entries: BTreeMap::from([("inner".to_owned(), inner)]) }.to_bytes().unwrap();
        let manifest = Manifest {
            format: FORMAT,
            application: application.clone(),
            release: ReleaseName::new("v1").unwrap(),
            origin: Origin::Artifact { commit: None },
            tree: depot.store(tree).await.unwrap(),
            file_count: 1,
            total_bytes: content.len() as u64,
            program: Program::default(),
            environments: BTreeMap::new(),
        };
        depot.store(manifest.to_bytes().unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn an_application_has_the_objects_of_its_releases_and_a_damaged_one_hides_no_other() {
        let place = tempfile::tempdir().unwrap();
        let depot = Depot::open(&place.path().join("o"), &place.path().join("u")).await.unwrap();
        let [shop, blog] = ["shop", "blog"].map(|name| AppName::new(name).unwrap());
        let (ours, theirs) = (publish(&depot, &shop, "ours").await, publish(&depot, &blog, "theirs").await);
        let gone = Sha256::of(b"a manifest that is not here");
        let catalogue = Catalogue::default();
        let count = async |objects: &[Sha256], releases: &[Sha256]| {
            let releases = releases.to_vec();
            catalogue.belonging(&depot, &shop, objects, || async { Ok(releases) }).await
        };
        let (file, other) = (Sha256::of(b"ours"), Sha256::of(b"theirs"));
        assert_eq!(count(&[file], &[]).await.unwrap(), 0);
        assert_eq!(count(&[ours, file, other, file], &[gone, ours]).await.unwrap(), 2);
        assert_eq!(count(&[file, theirs], &[ours]).await.unwrap(), 1);
        // It may be one of the release that cannot be read.
        assert!(count(&[other], &[gone, ours]).await.is_err());
    }
}
