//! A backup of everything that the controller must not lose, in one tar file: the store's state, the
//! authority, the online keys, and the objects.

mod draft;
mod restore;

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write};
use std::path::{Component, Path, PathBuf};

use landfall_common::{Sha256, Timestamp};

use crate::config::Layout;
use crate::error::ControllerError;
use crate::store::EmbeddedStore;
pub use draft::Draft;
pub use restore::{Restored, restore};

/// The store's state in the archive; it comes first.
const STATE: &str = "state";
const KEYS: &str = "keys";
const AUTHORITY: &str = "ca";
const OBJECTS: &str = "objects";

/// Writes a backup of the state of one moment; commits, uploads and removals go on meanwhile. It holds private
/// keys.
///
/// # Errors
/// [`ControllerError::StoreIo`], [`ControllerError::File`].
pub fn write(
    layout: &Layout,
    store: &EmbeddedStore,
    without_objects: bool,
    now: Timestamp,
    out: &mut dyn Write,
) -> Result<(), ControllerError> {
    let mut archive = tar::Builder::new(out);
    let mut state = Vec::new();
    store.export(now, &mut state)?;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ControllerError::File { doing: "back up", path, source }
    };
    let mut header = header(state.len() as u64, now);
    archive.append_data(&mut header, STATE, state.as_slice()).map_err(failed(&layout.store()))?;
    for (name, directory) in [(KEYS, layout.keys()), (AUTHORITY, layout.ca())] {
        for file in listed(&directory)? {
            append(&mut archive, layout, &Path::new(name).join(&file), now)?;
        }
    }
    // After the state: what is published in it has all its objects here.
    if !without_objects {
        for shard in listed(&layout.objects)? {
            for file in listed(&layout.objects.join(&shard))? {
                append(&mut archive, layout, &Path::new(OBJECTS).join(&shard).join(&file), now)?;
            }
        }
    }
    archive.into_inner().and_then(|out| out.flush()).map_err(failed(&layout.state))
}

/// Modes are the narrowest: who unpacks it by hand must not lay the keys open.
fn header(size: u64, at: Timestamp) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o600);
    header.set_mtime(at.ms() / 1000);
    header
}

/// The names in a directory, in order; none if it is not there, or no directory.
fn listed(directory: &Path) -> Result<Vec<std::ffi::OsString>, ControllerError> {
    let failed = |source| ControllerError::File { doing: "back up", path: directory.to_owned(), source };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.map_err(failed)?.file_name());
    }
    names.sort();
    Ok(names)
}

/// Takes in one file, if it has a place in a backup: what an upload has begun to write, say, has none. A file
/// that was removed meanwhile nobody needs.
fn append(
    archive: &mut tar::Builder<&mut dyn Write>,
    layout: &Layout,
    name: &Path,
    now: Timestamp,
) -> Result<(), ControllerError> {
    let Some(path) = place(layout, name) else { return Ok(()) };
    let failed = |source| ControllerError::File { doing: "back up", path: path.clone(), source };
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let size = file.metadata().map_err(failed)?.len();
    // As long as the header says, whatever happens to the file.
    let mut content = file.take(size);
    archive.append_data(&mut header(size, now), name, &mut content).map_err(failed)?;
    match content.limit() {
        0 => Ok(()),
        _ => Err(failed(ErrorKind::UnexpectedEof.into())),
    }
}

/// Where a file of the archive belongs; only what a controller cannot do without has a place.
fn place(layout: &Layout, name: &Path) -> Option<PathBuf> {
    match parts(name)?[..] {
        [KEYS, file] if file.ends_with(".key") => Some(layout.keys().join(file)),
        [AUTHORITY, file @ ("ca.key" | "ca.crt")] => Some(layout.ca().join(file)),
        [OBJECTS, shard, file] if is_object(shard, file) => Some(layout.objects.join(shard).join(file)),
        _ => None,
    }
}

fn parts(name: &Path) -> Option<Vec<&str>> {
    let plain = |part| if let Component::Normal(part) = part { part.to_str() } else { None };
    name.components().map(plain).collect()
}

fn is_object(shard: &str, file: &str) -> bool {
    let digest = file.strip_suffix(".zst").filter(|digest| digest.parse::<Sha256>().is_ok());
    digest.is_some_and(|digest| shard.len() == 2 && digest.starts_with(shard))
}
