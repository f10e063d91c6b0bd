//! What of a release is on this disk already, and where what is fetched goes until it is laid out.
//!
//! Nothing here is synced: what a power cut takes is fetched again, and for that reason everything that is
//! found is held against its digest before it counts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use landfall_common::disk::{AppendFile, Disk, EntryKind};
use landfall_common::manifest::{Directory, Entry, Manifest};
use landfall_common::{ReleaseName, Sha256};

use super::tree::Trees;
use crate::error::{AgentError, human_bytes};
use crate::layout;

/// How much of a file is read at once.
pub const PIECE_BYTES: usize = 256 * 1024;

/// What is lacking of a release.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lacking {
    /// Directory objects, with their sizes (0: not known, for the root).
    pub directories: Vec<(Sha256, u64)>,
    /// Files; complete only when no directory is lacking.
    pub files: Vec<LackingFile>,
}

/// A file that is lacking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LackingFile {
    /// Its digest.
    pub digest: Sha256,
    /// Its size in bytes.
    pub size: u64,
    /// Wanted with mode 0444.
    pub plain: bool,
    /// Wanted with mode 0555.
    pub executable: bool,
}

impl Lacking {
    /// Whether there is nothing left to fetch.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.directories.is_empty() && self.files.is_empty()
    }

    /// The sum of the files, in bytes, as they will stand on the disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.size * (u64::from(f.plain) + u64::from(f.executable)).max(1)).sum()
    }
}

/// The part of the disk that fetching writes to.
#[derive(Clone)]
pub struct Store {
    disk: Arc<dyn Disk>,
}

impl Store {
    /// On the disk whose root is `/srv/<app>`.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk }
    }

    /// The manifest of a release that is here; `None` if it is missing or not what its digest says.
    ///
    /// # Errors
    /// [`AgentError::Disk`], [`AgentError::Manifest`].
    pub fn manifest(&self, name: &ReleaseName, digest: Sha256) -> Result<Option<Manifest>, AgentError> {
        let bytes = self.manifest_bytes(name, digest)?;
        Ok(bytes.map(|bytes| Manifest::from_bytes(&bytes)).transpose()?)
    }

    /// Its bytes, as they were signed; `None` as above.
    ///
    /// # Errors
    /// [`AgentError::Disk`].
    pub fn manifest_bytes(&self, name: &ReleaseName, digest: Sha256) -> Result<Option<Vec<u8>>, AgentError> {
        let bytes = self.disk.read(&layout::manifest(name))?;
        Ok(bytes.filter(|bytes| Sha256::of(bytes) == digest))
    }

    /// Keeps a manifest whose digest was held against what is signed.
    ///
    /// # Errors
    /// [`AgentError::BadObject`], [`AgentError::Manifest`], [`AgentError::Disk`].
    pub fn put_manifest(
        &self,
        name: &ReleaseName,
        digest: Sha256,
        bytes: &[u8],
    ) -> Result<Manifest, AgentError> {
        check(digest, bytes)?;
        let manifest = Manifest::from_bytes(bytes)?;
        self.replace(&layout::manifest(name), bytes, 0o444)?;
        Ok(manifest)
    }

    /// Keeps a directory object.
    ///
    /// # Errors
    /// [`AgentError::BadObject`], [`AgentError::Manifest`], [`AgentError::Disk`].
    pub fn put_directory(&self, digest: Sha256, bytes: &[u8]) -> Result<Directory, AgentError> {
        check(digest, bytes)?;
        let directory = Directory::from_bytes(bytes)?;
        self.replace(&layout::directory(digest), bytes, 0o444)?;
        Ok(directory)
    }

    /// Keeps a file that is held in memory whole. Whoever is killed meanwhile leaves a part of it at its place:
    /// what is there counts only after [`Store::lacking`] has held it against its digest.
    ///
    /// # Errors
    /// [`AgentError::BadObject`], [`AgentError::Disk`].
    pub fn put_file(&self, file: &LackingFile, bytes: &[u8]) -> Result<(), AgentError> {
        check(file.digest, bytes)?;
        for executable in file.modes() {
            let path = layout::object(file.digest, executable);
            let mut written = self.disk.write_new(&path, bytes, mode(executable));
            if written.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::AlreadyExists) {
                super::remove_any(&*self.disk, &path)?;
                written = self.disk.write_new(&path, bytes, mode(executable));
            }
            if written.is_err() {
                let _ = self.disk.remove_file(&path);
            }
            written?;
        }
        Ok(())
    }

    /// The files that were fetched and not laid out yet: their digests, and whether they are executable.
    ///
    /// # Errors
    /// [`AgentError::Disk`].
    pub fn fetched(&self) -> Result<BTreeSet<(Sha256, bool)>, AgentError> {
        let entries = self.disk.list(Path::new(layout::OBJECTS))?;
        let files = entries.iter().filter(|entry| entry.kind == EntryKind::File);
        Ok(files.filter_map(|entry| layout::object_of(entry.name.to_str()?)).collect())
    }

    /// Begins a file that is written piece by piece.
    ///
    /// # Errors
    /// [`AgentError::Disk`].
    pub fn writer(&self, file: &LackingFile) -> Result<FileWriter, AgentError> {
        let paths: Vec<_> = file.modes().map(|x| (layout::object(file.digest, x), mode(x))).collect();
        let mut open = Vec::new();
        for (path, _) in &paths {
            let temporary = arriving(path);
            super::remove_any(&*self.disk, &temporary)?;
            open.push(self.disk.open_append(&temporary)?);
        }
        Ok(FileWriter {
            disk: self.disk.clone(),
            wanted: file.clone(),
            paths,
            open,
            digest: Sha256::hasher(),
            bytes: 0,
        })
    }

    /// What is lacking of a release, beside what the releases in `bases` have. Files of those are held against
    /// their digests: one that was changed on this host is fetched again and not passed on. What was fetched
    /// before and is not what it should be is removed, so that it is not laid out either.
    ///
    /// # Errors
    /// [`AgentError::Disk`], [`AgentError::Layout`].
    pub fn lacking(
        &self,
        manifest: &Manifest,
        bases: &[(ReleaseName, Sha256)],
    ) -> Result<Lacking, AgentError> {
        let mut wanted: BTreeMap<Sha256, LackingFile> = BTreeMap::new();
        let (mut count, mut total) = (0u64, 0u64);
        let mut trees = Trees::new(&*self.disk);
        let directories = trees.walk(manifest.tree, &mut |_, entry| {
            if let Entry::File { digest, size, executable } = entry {
                count += 1;
                total = total.saturating_add(*size);
                let file = wanted.entry(*digest).or_insert(LackingFile {
                    digest: *digest,
                    size: *size,
                    plain: false,
                    executable: false,
                });
                file.plain |= !executable;
                file.executable |= executable;
            }
            Ok(())
        })?;
        if directories.is_empty() && (count, total) != (manifest.file_count, manifest.total_bytes) {
            return Err(AgentError::Layout(format!(
                "the manifest speaks of {} files and {} bytes, its tree holds {count} and {total}",
                manifest.file_count, manifest.total_bytes
            )));
        }
        if !directories.is_empty() {
            // The rest of the tree may name the same files: what to fetch is known when it is here.
            return Ok(Lacking { directories, files: Vec::new() });
        }
        let sources = self.sources(&mut trees, bases, &wanted.keys().copied().collect())?;
        let fetched = self.fetched()?;
        let mut content = Vec::new();
        let mut files = Vec::new();
        for mut file in wanted.into_values() {
            for executable in [false, true] {
                let flag = if executable { &mut file.executable } else { &mut file.plain };
                if !*flag {
                    continue;
                }
                let key = (file.digest, executable);
                let mut is_here = false;
                if fetched.contains(&key) {
                    let object = layout::object(file.digest, executable);
                    is_here = self.is(&object, file.digest, file.size, &mut content)?;
                    if !is_here {
                        super::remove_any(&*self.disk, &object)?;
                    }
                }
                if !is_here && let Some(source) = sources.get(&key) {
                    // A file that cannot be read is fetched.
                    is_here = self.is(source, file.digest, file.size, &mut content).unwrap_or(false);
                }
                *flag = !is_here;
            }
            if file.plain || file.executable {
                files.push(file);
            }
        }
        Ok(Lacking { directories, files })
    }

    /// Where the files of other releases lie that have one of these digests.
    ///
    /// # Errors
    /// [`AgentError::Disk`].
    pub fn sources(
        &self,
        trees: &mut Trees<'_>,
        bases: &[(ReleaseName, Sha256)],
        wanted: &BTreeSet<Sha256>,
    ) -> Result<BTreeMap<(Sha256, bool), PathBuf>, AgentError> {
        let mut sources = BTreeMap::new();
        for (name, digest) in bases {
            let found = self.sources_in(trees, name, *digest, wanted, &mut sources);
            match found {
                // A newer agent was here. What it has left cannot be used, and is in the way of nothing.
                Err(AgentError::Manifest(error)) => {
                    tracing::info!(release = %name, error = %error.in_full(), "files of a release are not used");
                }
                found => found?,
            }
        }
        Ok(sources)
    }

    fn sources_in(
        &self,
        trees: &mut Trees<'_>,
        name: &ReleaseName,
        digest: Sha256,
        wanted: &BTreeSet<Sha256>,
        sources: &mut BTreeMap<(Sha256, bool), PathBuf>,
    ) -> Result<(), AgentError> {
        let Some(manifest) = self.manifest(name, digest)? else { return Ok(()) };
        let root = layout::release(name);
        let hidden: Vec<PathBuf> = shared_paths(&manifest)?;
        trees.walk(manifest.tree, &mut |path, entry| {
            if let Entry::File { digest, executable, .. } = entry
                && wanted.contains(digest)
                && !hidden.iter().any(|shared| path.starts_with(shared))
            {
                sources.entry((*digest, *executable)).or_insert_with(|| root.join(path));
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Gives files a second name in the store wherever a release on this disk has them as they should be. Returns
    /// those that none has.
    ///
    /// # Errors
    /// [`AgentError::Disk`], [`AgentError::Layout`].
    pub fn borrow(&self, files: Vec<LackingFile>) -> Result<Vec<LackingFile>, AgentError> {
        if files.is_empty() {
            return Ok(files);
        }
        let wanted = files.iter().map(|file| file.digest).collect();
        let mut found: BTreeMap<(Sha256, bool), Vec<PathBuf>> = BTreeMap::new();
        for entry in self.disk.list(Path::new(layout::MANIFESTS))? {
            let Some(name) = entry.name.to_str().and_then(|name| ReleaseName::new(name).ok()) else {
                continue;
            };
            let Some(bytes) = self.disk.read(&layout::manifest(&name))? else { continue };
            let base = [(name, Sha256::of(&bytes))];
            // One that is damaged itself has nothing to give; what others give is held against its digest.
            if let Ok(sources) = self.sources(&mut Trees::new(&*self.disk), &base, &wanted) {
                for (key, path) in sources {
                    found.entry(key).or_default().push(path);
                }
            }
        }
        let (mut lacking, mut content) = (BTreeMap::new(), Vec::new());
        for mut file in files {
            for executable in [false, true] {
                let flag = if executable { &mut file.executable } else { &mut file.plain };
                let key = (file.digest, executable);
                for source in found.get(&key).into_iter().flatten().filter(|_| *flag) {
                    // One that cannot be read is none.
                    if self.is(source, file.digest, file.size, &mut content).unwrap_or(false) {
                        let object = layout::object(file.digest, executable);
                        super::remove_any(&*self.disk, &object)?;
                        // One that has as many names as it may have is fetched.
                        *flag = !super::link(&*self.disk, source, &object)?;
                        break;
                    }
                }
            }
            if file.plain || file.executable {
                let known = lacking.entry(file.digest).or_insert_with(|| file.clone());
                known.plain |= file.plain;
                known.executable |= file.executable;
            }
        }
        Ok(lacking.into_values().collect())
    }

    /// Fails if there is clearly not enough room for so many bytes more.
    ///
    /// # Errors
    /// [`AgentError::NoRoom`], [`AgentError::Disk`].
    pub fn check_room(&self, bytes: u64) -> Result<(), AgentError> {
        // Names, directories and the compressed form while it arrives.
        let needs = bytes + bytes / 16 + 1024 * 1024;
        match self.disk.free_bytes()? {
            Some(has) if has < needs => {
                Err(AgentError::NoRoom { needs: human_bytes(needs), has: human_bytes(has) })
            }
            _ => Ok(()),
        }
    }

    /// Whether a file is what it should be, read through; `content` is room to read it into.
    fn is(&self, path: &Path, digest: Sha256, size: u64, content: &mut Vec<u8>) -> Result<bool, AgentError> {
        if size <= PIECE_BYTES as u64 {
            let is_short = self.disk.read_regular(path, PIECE_BYTES, content)?;
            return Ok(is_short && content.len() as u64 == size && Sha256::of(content) == digest);
        }
        if self.disk.kind(path)? != Some(EntryKind::File) || self.disk.len(path)? != Some(size) {
            return Ok(false);
        }
        let mut hasher = Sha256::hasher();
        let mut offset = 0;
        while offset < size {
            let piece = self.disk.read_at(path, offset, PIECE_BYTES)?;
            if piece.is_empty() {
                return Ok(false);
            }
            offset += piece.len() as u64;
            hasher.update(&piece);
        }
        Ok(hasher.finish() == digest)
    }

    fn replace(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<(), AgentError> {
        super::remove_any(&*self.disk, path)?;
        let temporary = arriving(path);
        super::remove_any(&*self.disk, &temporary)?;
        let written =
            self.disk.write_new(&temporary, bytes, mode).and_then(|()| self.disk.rename(&temporary, path));
        if written.is_err() {
            let _ = self.disk.remove_file(&temporary);
        }
        Ok(written?)
    }
}

impl LackingFile {
    fn modes(&self) -> impl Iterator<Item = bool> {
        [(self.plain, false), (self.executable, true)]
            .into_iter()
            .filter(|(wanted, _)| *wanted)
            .map(|(_, x)| x)
    }
}

/// A file that is written piece by piece, and kept only if it turns out to be what was wanted.
pub struct FileWriter {
    disk: Arc<dyn Disk>,
    wanted: LackingFile,
    paths: Vec<(PathBuf, u32)>,
    open: Vec<Box<dyn AppendFile>>,
    digest: landfall_common::digest::Hasher,
    bytes: u64,
}

impl FileWriter {
    /// Adds the next piece.
    ///
    /// # Errors
    /// [`AgentError::BadObject`] once there is more than was signed; [`AgentError::Disk`].
    pub fn write(&mut self, piece: &[u8]) -> Result<(), AgentError> {
        self.bytes += piece.len() as u64;
        if self.bytes > self.wanted.size {
            let reason = format!("it is longer than its {} bytes", self.wanted.size);
            return Err(AgentError::BadObject { wanted: self.wanted.digest, reason });
        }
        self.digest.update(piece);
        self.open.iter_mut().try_for_each(|file| file.append(piece))?;
        Ok(())
    }

    /// Holds it against its digest and puts it in its place.
    ///
    /// # Errors
    /// [`AgentError::BadObject`]; [`AgentError::Disk`].
    pub fn finish(mut self) -> Result<(), AgentError> {
        let (wanted, bytes) = (self.wanted.digest, self.bytes);
        let digest = std::mem::replace(&mut self.digest, Sha256::hasher()).finish();
        if digest != wanted || bytes != self.wanted.size {
            let reason = format!("its {bytes} bytes have the digest {}", digest.short());
            return Err(AgentError::BadObject { wanted, reason });
        }
        self.open.clear();
        for (path, mode) in &self.paths {
            let temporary = arriving(path);
            self.disk.set_mode(&temporary, *mode)?;
            self.disk.rename(&temporary, path)?;
        }
        self.paths.clear();
        Ok(())
    }
}

impl Drop for FileWriter {
    /// What was not finished is of no use to anyone.
    fn drop(&mut self) {
        for (path, _) in &self.paths {
            let _ = self.disk.remove_file(&arriving(path));
        }
    }
}

/// Where shared paths lie in a release: what its tree has there is covered by the links.
///
/// # Errors
/// [`AgentError::Layout`].
pub(crate) fn shared_paths(manifest: &Manifest) -> Result<Vec<PathBuf>, AgentError> {
    let shared = &manifest.program.shared;
    shared.directories.iter().chain(&shared.files).map(|path| super::relative(path)).collect()
}

/// The mode of a file on a host.
fn mode(executable: bool) -> u32 {
    if executable { 0o555 } else { 0o444 }
}

fn arriving(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".arriving");
    PathBuf::from(name)
}

fn check(wanted: Sha256, bytes: &[u8]) -> Result<(), AgentError> {
    let found = Sha256::of(bytes);
    if found == wanted {
        return Ok(());
    }
    let reason = format!("its {} bytes have the digest {}", bytes.len(), found.short());
    Err(AgentError::BadObject { wanted, reason })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use landfall_common::disk::RealDisk;
    use landfall_common::manifest::{FORMAT, Origin, Program};

    use super::*;

    #[test]
    fn a_release_that_only_a_newer_agent_understands_is_in_the_way_of_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Arc::new(RealDisk::new(directory.path()));
        for place in [layout::DIRS, layout::MANIFESTS] {
            disk.ensure_dir(Path::new(place)).unwrap();
        }
        let store = Store::new(disk);
        let empty = Directory::default().to_bytes().unwrap();
        let tree = Sha256::of(&empty);
        store.put_directory(tree, &empty).unwrap();
        let manifest = Manifest {
            format: FORMAT,
            application: "shop".parse().unwrap(),
            release: "v2".parse().unwrap(),
            origin: Origin::Artifact { commit: None },
            tree,
            file_count: 0,
            total_bytes: 0,
            program: Program::default(),
            environments: BTreeMap::new(),
        };
        let text = String::from_utf8(manifest.to_bytes().unwrap()).unwrap();
        let newer = text.replace("\"format\"", "\"fleet\":true,\"format\"");
        let (name, digest) = ("v1".parse().unwrap(), Sha256::of(newer.as_bytes()));
        store.replace(&layout::manifest(&name), newer.as_bytes(), 0o444).unwrap();
        let Err(AgentError::Manifest(error)) = store.manifest(&name, digest) else { panic!("{newer}") };
        assert!(
            error
                .in_full()
                .starts_with("manifest is made for a newer version than this one: unknown field `fleet`")
        );
        assert!(store.lacking(&manifest, &[(name, digest)]).unwrap().is_empty());
    }
}
