//! The walk over a release's tree: every object that it needs must be here, and what its directories say
//! must agree with its manifest.

use std::collections::BTreeSet;

use landfall_common::Sha256;
use landfall_common::manifest::{Directory, Entry, Links, MAX_DIRECTORY_BYTES, Manifest, link_target};

use super::Depot;
use crate::error::{ControllerError, Reason};

/// Directories within each other; far above what file systems and people make.
const MAX_DEPTH: usize = 128;

/// At most so many entries in a release.
const MAX_ENTRIES: u64 = 2_000_000;

/// How many missing objects are named in a refusal.
const NAMED: usize = 5;

/// Checks the tree of a manifest.
///
/// # Errors
/// [`Reason::MissingObjects`] with the first few, [`Reason::BadManifest`] for a tree that breaks a rule or
/// differs from what the manifest says of it.
pub async fn check(depot: &Depot, manifest: &Manifest) -> Result<(), ControllerError> {
    let refuse = |why: String| {
        let message = format!("the tree of {} {} is refused: {why}", manifest.application, manifest.release);
        ControllerError::refused(Reason::BadManifest, message)
    };
    let mut directories = vec![(manifest.tree, 0, String::new())];
    let mut links = Links::default();
    let (mut files, mut bytes, mut entries) = (0u64, 0u64, 0u64);
    let mut needed = BTreeSet::new();
    let mut missing = Vec::new();
    while let Some((digest, depth, path)) = directories.pop() {
        if depth > MAX_DEPTH {
            return Err(refuse(format!("its directories are nested more than {MAX_DEPTH} deep")));
        }
        let content = match depot.read(digest, MAX_DIRECTORY_BYTES).await {
            Ok(content) => content,
            Err(ControllerError::Refused { reason: Reason::NotFound | Reason::ObjectDamaged, .. }) => {
                missing.push(digest);
                continue;
            }
            Err(error) => return Err(error),
        };
        needed.insert(digest);
        let directory = Directory::from_bytes(&content).map_err(|error| refuse(error.in_full()))?;
        for (name, entry) in directory.entries {
            entries += 1;
            if entries > MAX_ENTRIES {
                return Err(refuse(format!("it has more than {MAX_ENTRIES} entries")));
            }
            match entry {
                Entry::File { digest, size, .. } => {
                    files += 1;
                    bytes = bytes.saturating_add(size);
                    needed.insert(digest);
                }
                Entry::Directory { digest, .. } => {
                    directories.push((digest, depth + 1, format!("{path}{name}/")));
                }
                Entry::Symlink { target } => {
                    links.add(&format!("{path}{name}"), &target);
                    link_target(depth, &target).map_err(|rule| refuse(format!("{name:?}: {rule}")))?;
                }
            }
        }
    }
    missing.extend(depot.missing(needed.into_iter().collect()).await?.into_iter().map(|(digest, _)| digest));
    if !missing.is_empty() {
        return Err(lacking(&missing));
    }
    links.check().map_err(|(path, rule)| refuse(format!("{path:?}: {rule}")))?;
    if (files, bytes) != (manifest.file_count, manifest.total_bytes) {
        return Err(refuse(format!(
            "the manifest speaks of {} files with {} bytes, and the tree has {files} with {bytes}",
            manifest.file_count, manifest.total_bytes
        )));
    }
    Ok(())
}

fn lacking(missing: &[Sha256]) -> ControllerError {
    let named: Vec<String> = missing.iter().take(NAMED).map(Sha256::to_string).collect();
    let more =
        if missing.len() > NAMED { format!(" and {} more", missing.len() - NAMED) } else { String::new() };
    let message = format!(
        "objects of the release are not here: {}{more}; upload them and publish again",
        named.join(", ")
    );
    ControllerError::refused(Reason::MissingObjects, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_common::manifest::{FORMAT, Origin, Program};
    use landfall_common::{AppName, ReleaseName};
    use std::collections::BTreeMap;

    fn manifest(tree: Sha256, file_count: u64, total_bytes: u64) -> Manifest {
        Manifest {
            format: FORMAT,
            application: AppName::new("shop").unwrap(),
            release: ReleaseName::new("v1").unwrap(),
            origin: Origin::Artifact { commit: None },
            tree,
            file_count,
            total_bytes,
            program: Program::default(),
            environments: BTreeMap::new(),
        }
    }

    #[tokio::test]
    async fn a_tree_is_taken_only_when_all_of_it_is_here_and_fits_the_manifest() {
        let place = tempfile::tempdir().unwrap();
        let depot = Depot::open(&place.path().join("o"), &place.path().join("u")).await.unwrap();
        let file = Entry::File { digest: Sha256::of(b"hello"), size: 5, executable: false };
        let inner = Directory { entries: BTreeMap::from([("a".to_owned(), file)]) }.to_bytes().unwrap();
        let size = inner.len() as u64;
        let inner = depot.store(inner).await.unwrap();
        let outer = |target: &str| Directory {
            entries: BTreeMap::from([
                ("d".to_owned(), Entry::Directory { digest: inner, size }),
                ("l".to_owned(), Entry::Symlink { target: target.to_owned() }),
            ]),
        };
        let tree = depot.store(outer("d/a").to_bytes().unwrap()).await.unwrap();
        let text = |result: Result<(), ControllerError>| result.unwrap_err().to_string();
        assert!(text(check(&depot, &manifest(tree, 1, 5)).await).contains(&Sha256::of(b"hello").to_string()));
        depot.store(b"hello".to_vec()).await.unwrap();
        check(&depot, &manifest(tree, 1, 5)).await.unwrap();
        assert!(text(check(&depot, &manifest(tree, 2, 5)).await).contains("2 files"));
        // `d` holds the link `up -> ..` in another tree: each link for itself stays inside.
        let up = Directory {
            entries: BTreeMap::from([("up".to_owned(), Entry::Symlink { target: "..".to_owned() })]),
        };
        let up = up.to_bytes().unwrap();
        let size = up.len() as u64;
        let up = depot.store(up).await.unwrap();
        let together = Directory {
            entries: BTreeMap::from([
                ("d".to_owned(), Entry::Directory { digest: up, size }),
                ("out".to_owned(), Entry::Symlink { target: "d/up/../etc".to_owned() }),
            ]),
        };
        let together = depot.store(together.to_bytes().unwrap()).await.unwrap();
        let refused = text(check(&depot, &manifest(together, 0, 0)).await);
        assert!(refused.contains("out") && refused.contains("another link"), "{refused}");
        let escaping = depot.store(outer("../x").to_bytes().unwrap()).await.unwrap();
        assert!(text(check(&depot, &manifest(escaping, 1, 5)).await).contains("leaves the release"));
        assert!(text(check(&depot, &manifest(Sha256::of(b"none"), 0, 0)).await).contains("not here"));
    }
}
