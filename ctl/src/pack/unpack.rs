//! Unpacks a tar stream below a directory, and nowhere else.
//!
//! An archive is somebody else's text: an entry that is absolute, climbs with `..`, goes through a link,
//! or is anything but a file, a directory or a link is refused by name, and the unpacking stops. What a few
//! compressed bytes can become is bounded.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use landfall_common::Timestamp;
use tar::EntryType;

use crate::error::Error;
use crate::output::format;

/// Bits of a mode that a release must not carry: set-uid, set-gid, sticky.
pub(super) const SPECIAL_BITS: u32 = 0o7000;

/// How much an archive may unpack to.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes of all its files.
    pub bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
}

impl Default for Bounds {
    /// Far more than a release has that hosts fetch within minutes, and less than fills a disk unseen.
    fn default() -> Self {
        Self { bytes: 32 << 30, entries: 2_000_000 }
    }
}

/// Opens an archive, decompressed by what its first bytes say it is.
///
/// # Errors
/// [`Error::Io`].
pub fn open(path: &Path) -> Result<Box<dyn Read>, Error> {
    let failed = |source| Error::io("read", path, source);
    let mut file = File::open(path).map_err(failed)?;
    let mut magic = Vec::new();
    file.by_ref().take(4).read_to_end(&mut magic).map_err(failed)?;
    let whole = io::Cursor::new(magic.clone()).chain(file);
    Ok(match magic[..] {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(whole))),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::Decoder::new(whole).map_err(failed)?),
        _ => Box::new(BufReader::new(whole)),
    })
}

/// Unpacks a tar stream into an empty directory. Every file gets the time `mtime`, where one is given, so
/// that a build sees the same tree each time.
///
/// # Errors
/// [`Error::Archive`] naming the entry, [`Error::Io`].
pub fn tar(stream: impl Read, into: &Path, mtime: Option<Timestamp>, what: &str) -> Result<(), Error> {
    tar_within(Bounds::default(), stream, into, mtime, what)
}

/// As [`tar`], within other bounds.
///
/// # Errors
/// As [`tar`].
pub fn tar_within(
    bounds: Bounds,
    stream: impl Read,
    into: &Path,
    mtime: Option<Timestamp>,
    what: &str,
) -> Result<(), Error> {
    let mut left = bounds;
    let broken = |source: io::Error| Error::Archive {
        what: what.to_owned(),
        reason: format!("it is not a whole tar archive: {source}"),
    };
    let mtime = mtime.map(|time| SystemTime::UNIX_EPOCH + Duration::from_millis(time.ms()));
    let mut archive = tar::Archive::new(stream);
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let raw = entry.path_bytes().into_owned();
        let shown = String::from_utf8_lossy(&raw).escape_debug().to_string();
        let refuse =
            |reason: String| Error::Archive { what: what.to_owned(), reason: format!("{shown:?}: {reason}") };
        let text = std::str::from_utf8(&raw).map_err(|_| refuse("its name is not UTF-8".to_owned()))?;
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            continue;
        }
        let inside = relative(text).ok_or_else(|| refuse("it lies outside the archive's root".to_owned()))?;
        let mode = entry.header().mode().map_err(broken)?;
        if inside.as_os_str().is_empty() {
            continue;
        }
        let too_much = || {
            refuse(format!(
                "with it the archive unpacks to more than {} entries or {}, which no release may hold",
                bounds.entries,
                format::bytes(bounds.bytes)
            ))
        };
        left.entries = left.entries.checked_sub(1).ok_or_else(too_much)?;
        if mode & SPECIAL_BITS != 0 && !kind.is_symlink() && !kind.is_dir() {
            return Err(refuse(format!(
                "it has mode {mode:04o}; set-uid, set-gid and sticky bits are refused"
            )));
        }
        let path = into.join(&inside);
        let io = |source| Error::io("write", &path, source);
        parents(into, &inside, &refuse)?;
        let occupied = fs::symlink_metadata(&path).ok();
        if occupied.as_ref().is_some_and(|metadata| !(kind.is_dir() && metadata.is_dir())) {
            return Err(refuse("it occurs twice".to_owned()));
        }
        match kind {
            EntryType::Directory => {
                if occupied.is_none() {
                    fs::create_dir(&path).map_err(io)?;
                }
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let permissions = if mode & 0o111 == 0 { 0o644 } else { 0o755 };
                let mut file = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(permissions)
                    .open(&path)
                    .map_err(io)?;
                // What an entry says of its size is not believed.
                let mut bounded = entry.by_ref().take(left.bytes.saturating_add(1));
                let copied = io::copy(&mut bounded, &mut file).map_err(io)?;
                left.bytes = left.bytes.checked_sub(copied).ok_or_else(too_much)?;
                if let Some(mtime) = mtime {
                    file.set_modified(mtime).map_err(io)?;
                }
            }
            EntryType::Symlink => {
                let target =
                    entry.link_name().map_err(broken)?.ok_or_else(|| refuse("a link to nothing".into()))?;
                std::os::unix::fs::symlink(&target, &path).map_err(io)?;
            }
            EntryType::Link => {
                let target = entry.link_name().map_err(broken)?;
                let target = target.as_deref().and_then(Path::to_str).and_then(relative);
                let target = target.ok_or_else(|| refuse("a hard link out of the archive".to_owned()))?;
                parents(into, &target, &refuse)?;
                let source = into.join(&target);
                let Some(size) =
                    fs::symlink_metadata(&source).ok().filter(fs::Metadata::is_file).map(|file| file.len())
                else {
                    return Err(refuse(format!(
                        "a hard link to {:?}, which is no earlier file",
                        target.display()
                    )));
                };
                left.bytes = left.bytes.checked_sub(size).ok_or_else(too_much)?;
                fs::copy(&source, &path).map_err(io)?;
            }
            EntryType::Char | EntryType::Block => return Err(refuse("devices are refused".to_owned())),
            EntryType::Fifo => return Err(refuse("pipes are refused".to_owned())),
            other => return Err(refuse(format!("entries of type {other:?} are refused"))),
        }
    }
    Ok(())
}

/// The path without `.`; none if it is absolute or climbs.
fn relative(text: &str) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for component in Path::new(text).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(path)
}

/// Makes the directories above `inside`; refuses to go through anything that is not one.
fn parents(root: &Path, inside: &Path, refuse: &impl Fn(String) -> Error) -> Result<(), Error> {
    let mut path = root.to_owned();
    for component in inside.parent().into_iter().flat_map(Path::components) {
        path.push(component);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => {
                return Err(refuse("its path goes through something that is not a directory".to_owned()));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir(&path).map_err(|source| Error::io("create", &path, source))?;
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
                    .map_err(|source| Error::io("create", &path, source))?;
            }
            Err(source) => return Err(Error::io("read", &path, source)),
        }
    }
    Ok(())
}
