//! Whether the files of a release are those that were signed: held against the tree of its manifest, before a step
//! of it runs.
//!
//! The files belong to the agent's user, who can change them again in the moment after: this notices what was
//! changed before, by whomever, and is no wall against somebody who has that user at this very moment.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use landfall_common::disk::RealDisk;
use landfall_common::manifest::{Entry, Manifest};
use landfall_common::{ReleaseName, Sha256};
use rustix::fs::{OFlags, Uid};

use crate::apply::store::shared_paths;
use crate::apply::tree::Trees;
use crate::apply::unpack::shared_target;
use crate::error::{AgentError, chain};
use crate::layout;

/// So much of a file is read at once.
const PIECE_BYTES: usize = 256 * 1024;

/// What must be at a path of the release.
enum Wanted {
    Directory,
    Link(PathBuf),
    File { digest: Sha256, size: u64, executable: bool },
}

/// Holds the files of a release against its manifest: none may be missing, none other, and none more but what root
/// has made there, such as the bytecode of a service that runs as root.
///
/// # Errors
/// A sentence that names the first that is not as it was signed.
pub fn check(app_dir: &Path, release: &ReleaseName, manifest: &Manifest) -> Result<(), String> {
    check_beside(app_dir, release, manifest, Uid::ROOT)
}

/// The same for another user than root.
fn check_beside(
    app_dir: &Path,
    release: &ReleaseName,
    manifest: &Manifest,
    root_user: Uid,
) -> Result<(), String> {
    let wanted = wanted(app_dir, manifest)?;
    let root = app_dir.join(layout::release(release));
    let altered = |path: &Path, what: &str| {
        format!(
            "the files of release {release} on this disk are not those that its signers list: {} {what}. Find out who \
             has changed it as the agent's user; staging the release again replaces it",
            path.display()
        )
    };
    let unreadable = |path: &Path, error: &io::Error| {
        format!("the files of release {release} cannot be verified: {}: {error}", path.display())
    };
    let found = fs::symlink_metadata(&root).map_err(|error| unreadable(&root, &error))?;
    if !found.is_dir() {
        return Err(altered(&root, "is no directory"));
    }
    let mut seen = BTreeSet::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        let place = root.join(&directory);
        for entry in fs::read_dir(&place).map_err(|error| unreadable(&place, &error))? {
            let entry = entry.map_err(|error| unreadable(&place, &error))?;
            let (path, place) = (directory.join(entry.file_name()), entry.path());
            let Some(wanted) = wanted.get(&path) else {
                let found = fs::symlink_metadata(&place).map_err(|error| unreadable(&place, &error))?;
                if found.uid() == root_user.as_raw() {
                    continue;
                }
                return Err(altered(&path, "is not among them"));
            };
            let is_right = is_as(wanted, &place).map_err(|error| unreadable(&place, &error))?;
            is_right.map_err(|what| altered(&path, what))?;
            if matches!(wanted, Wanted::Directory) {
                directories.push(path.clone());
            }
            seen.insert(path);
        }
    }
    match wanted.keys().find(|path| !seen.contains(*path)) {
        Some(missing) => Err(altered(missing, "is missing")),
        None => Ok(()),
    }
}

/// What is to be where: the tree of the manifest, and over it the links to shared paths.
fn wanted(app_dir: &Path, manifest: &Manifest) -> Result<BTreeMap<PathBuf, Wanted>, String> {
    let sentence = |error: AgentError| format!("the tree of the release cannot be read: {}", chain(&error));
    let shared = shared_paths(manifest).map_err(sentence)?;
    let mut wanted = BTreeMap::new();
    let disk = RealDisk::new(app_dir);
    let missing = Trees::new(&disk).walk(manifest.tree, &mut |path, entry| {
        if !shared.iter().any(|shared| path.starts_with(shared)) {
            let entry = match entry {
                Entry::Directory { .. } => Wanted::Directory,
                Entry::Symlink { target } => Wanted::Link(target.into()),
                &Entry::File { digest, size, executable } => Wanted::File { digest, size, executable },
            };
            wanted.insert(path.to_owned(), entry);
        }
        Ok(())
    });
    if let Some((digest, _)) = missing.map_err(sentence)?.first() {
        return Err(format!(
            "the tree of the release is not whole on this disk: {} is missing",
            digest.short()
        ));
    }
    for path in shared {
        for parent in path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
            wanted.entry(parent.to_owned()).or_insert(Wanted::Directory);
        }
        let target = shared_target(&path);
        wanted.insert(path, Wanted::Link(target));
    }
    Ok(wanted)
}

/// Whether what is at a place is this, or what it is instead.
fn is_as(wanted: &Wanted, place: &Path) -> io::Result<Result<(), &'static str>> {
    let found = fs::symlink_metadata(place)?;
    match wanted {
        Wanted::Directory if found.is_dir() => Ok(Ok(())),
        Wanted::Directory => Ok(Err("is no directory")),
        Wanted::Link(_) if !found.is_symlink() => Ok(Err("is no link")),
        Wanted::Link(target) if fs::read_link(place)? == *target => Ok(Ok(())),
        Wanted::Link(_) => Ok(Err("leads elsewhere")),
        &Wanted::File { digest, size, executable } => {
            let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or_default();
            if !found.is_file() {
                return Ok(Err("is no file"));
            }
            let file = OpenOptions::new().read(true).custom_flags(flags).open(place)?;
            let found = file.metadata()?;
            if (found.mode() & 0o111 != 0) != executable {
                return Ok(Err("has another mode"));
            }
            if !found.is_file() || found.len() != size || digest_of(file, size)? != digest {
                return Ok(Err("has another content"));
            }
            Ok(Ok(()))
        }
    }
}

fn digest_of(file: File, size: u64) -> io::Result<Sha256> {
    // One byte more than it should have would show.
    let mut file = file.take(size.saturating_add(1));
    let (mut hasher, mut piece) = (Sha256::hasher(), vec![0; PIECE_BYTES]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&piece[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use landfall_common::manifest::{Directory, FORMAT, Origin, Program, Shared};

    use super::*;

    fn store(app_dir: &Path, directory: &Directory) -> Sha256 {
        let bytes = directory.to_bytes().unwrap();
        let digest = Sha256::of(&bytes);
        let place = app_dir.join(layout::directory(digest));
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, bytes).unwrap();
        digest
    }

    fn file(text: &str, executable: bool) -> Entry {
        Entry::File { digest: Sha256::of(text.as_bytes()), size: text.len() as u64, executable }
    }

    fn put(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// `app.sh`, `web/page`, `web/link -> page`, and the shared `web/media` and `settings/.env`.
    fn release(app_dir: &Path) -> Manifest {
        let link = Entry::Symlink { target: "page".to_owned() };
        let web = Directory {
            entries: [("page".to_owned(), file("page", false)), ("link".to_owned(), link)].into(),
        };
        let web = Entry::Directory { digest: store(app_dir, &web), size: 0 };
        let top = Directory {
            entries: [("app.sh".to_owned(), file("echo", true)), ("web".to_owned(), web)].into(),
        };
        let root = app_dir.join("releases/v1");
        for directory in ["web", "settings"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        put(&root.join("app.sh"), "echo", 0o555);
        put(&root.join("web/page"), "page", 0o444);
        symlink("page", root.join("web/link")).unwrap();
        symlink("../../../shared/web/media", root.join("web/media")).unwrap();
        symlink("../../../shared/settings/.env", root.join("settings/.env")).unwrap();
        let shared =
            Shared { directories: vec!["web/media".to_owned()], files: vec!["settings/.env".to_owned()] };
        Manifest {
            format: FORMAT,
            application: "shop".parse().unwrap(),
            release: "v1".parse().unwrap(),
            origin: Origin::Artifact { commit: None },
            tree: store(app_dir, &top),
            file_count: 2,
            total_bytes: 8,
            program: Program { shared, ..Program::default() },
            environments: BTreeMap::new(),
        }
    }

    fn checked(change: impl FnOnce(&Path)) -> Result<(), String> {
        let directory = tempfile::tempdir().unwrap();
        let manifest = release(directory.path());
        change(&directory.path().join("releases/v1"));
        let stranger = Uid::from_raw(rustix::process::geteuid().as_raw() + 1);
        check_beside(directory.path(), &manifest.release, &manifest, stranger)
    }

    #[test]
    fn the_files_as_they_were_signed_pass_and_nothing_else_does() {
        checked(|_| {}).unwrap();
        let remove = |path: &Path| fs::remove_file(path).unwrap();
        let again = |path: &Path, text: &str, mode: u32| {
            remove(path);
            put(path, text, mode);
        };
        type Change<'a> = Box<dyn Fn(&Path) + 'a>;
        let changes: Vec<(Change<'_>, &str)> = vec![
            (Box::new(|root| again(&root.join("app.sh"), "evil", 0o555)), "app.sh has another content"),
            (Box::new(|root| again(&root.join("app.sh"), "echo evil", 0o555)), "app.sh has another content"),
            (Box::new(|root| again(&root.join("web/page"), "page", 0o555)), "web/page has another mode"),
            (Box::new(|root| remove(&root.join("web/page"))), "web/page is missing"),
            (Box::new(|root| put(&root.join("web/sitecustomize.py"), "evil", 0o444)), "is not among them"),
            (
                Box::new(|root| {
                    remove(&root.join("app.sh"));
                    symlink("/bin/sh", root.join("app.sh")).unwrap();
                }),
                "app.sh is no file",
            ),
            (
                Box::new(|root| {
                    remove(&root.join("web/media"));
                    symlink("/etc", root.join("web/media")).unwrap();
                }),
                "web/media leads elsewhere",
            ),
            (
                Box::new(|root| {
                    fs::rename(root.join("web"), root.with_file_name("moved")).unwrap();
                    symlink("../moved", root.join("web")).unwrap();
                }),
                "web is no directory",
            ),
            (
                Box::new(|root| {
                    fs::rename(root, root.with_file_name("moved")).unwrap();
                    symlink("moved", root).unwrap();
                }),
                "releases/v1 is no directory",
            ),
            (
                Box::new(|root| {
                    for object in fs::read_dir(root.join("../../.landfall/dirs")).unwrap() {
                        remove(&object.unwrap().path());
                    }
                }),
                "is not whole on this disk",
            ),
        ];
        for (change, expected) in changes {
            let error = checked(change).unwrap_err();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn what_root_has_made_beside_them_is_left_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let manifest = release(directory.path());
        fs::create_dir(directory.path().join("releases/v1/web/__pycache__")).unwrap();
        fs::write(directory.path().join("releases/v1/web/__pycache__/page.pyc"), "").unwrap();
        check_beside(directory.path(), &manifest.release, &manifest, rustix::process::geteuid()).unwrap();
    }
}
