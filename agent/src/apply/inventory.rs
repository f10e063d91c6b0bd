//! The record of what preparation made: each file with its digest, each link with its target, written when
//! preparation has ended, so that later changes can be told.
//!
//! Lines, one directory after the other, each before those in it, in the order of their names:
//!
//! ```text
//! landfall-inventory 1 <digest of the manifest>
//! D <path>                    what follows is in this directory
//! F <digest> <size> <name>    a file
//! S <name>                    a directory
//! L <target> <name>           a link
//! O <name>                    anything else
//! ```
//!
//! Bytes other than printable ASCII, and `%`, are written as `%XX`. Reading goes through the file once, whatever its
//! length, beside a walk in the same order.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io::BufRead;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use landfall_agent_core::drift::Expected;
use landfall_common::disk::{AppendFile, Disk, EntryKind};
use landfall_common::{ReleaseName, Sha256};

use super::store::PIECE_BYTES;
use crate::error::AgentError;
use crate::layout;

const HEADER: &str = "landfall-inventory 1";

/// Written in pieces of so many bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// Records what is in `prepared/<release>` now; an earlier record is replaced. Nothing is synced.
///
/// # Errors
/// [`AgentError::Disk`]; then there is no record.
pub fn record(disk: &dyn Disk, release: &ReleaseName, manifest: Sha256) -> Result<(), AgentError> {
    let path = layout::inventory(release);
    let mut arriving = path.clone().into_os_string();
    arriving.push(".arriving");
    let arriving = PathBuf::from(arriving);
    for leftover in [&path, &arriving] {
        super::remove_any(disk, leftover)?;
    }
    let written = write(disk, release, manifest, &arriving).and_then(|()| Ok(disk.rename(&arriving, &path)?));
    if written.is_err() {
        let _ = super::remove_any(disk, &arriving);
    }
    written
}

fn write(disk: &dyn Disk, release: &ReleaseName, manifest: Sha256, path: &Path) -> Result<(), AgentError> {
    let mut file = disk.open_append(path)?;
    let mut text = format!("{HEADER} {manifest}\n");
    let root = layout::prepared(release);
    let mut unseen = vec![PathBuf::new()];
    while let Some(below) = unseen.pop() {
        let directory = root.join(&below);
        line(&mut text, format_args!("D {}", escaped(below.as_os_str())));
        let mut inner = Vec::new();
        for entry in disk.list(&directory)? {
            let place = directory.join(&entry.name);
            let name = escaped(&entry.name);
            match entry.kind {
                EntryKind::File => {
                    let (digest, size) = digest(disk, &place)?;
                    line(&mut text, format_args!("F {digest} {size} {name}"));
                }
                EntryKind::Dir => {
                    line(&mut text, format_args!("S {name}"));
                    inner.push(below.join(&entry.name));
                }
                EntryKind::Symlink => {
                    let target = disk.read_link(&place)?.unwrap_or_default();
                    line(&mut text, format_args!("L {} {name}", escaped(target.as_os_str())));
                }
                EntryKind::Other => line(&mut text, format_args!("O {name}")),
            }
            flush(&mut *file, &mut text, BUFFER_BYTES)?;
        }
        unseen.extend(inner.into_iter().rev());
    }
    flush(&mut *file, &mut text, 0)
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a text cannot fail.
    let _ = writeln!(text, "{line}");
}

fn flush(file: &mut dyn AppendFile, text: &mut String, above: usize) -> Result<(), AgentError> {
    if text.len() > above {
        file.append(text.as_bytes())?;
        text.clear();
    }
    Ok(())
}

fn digest(disk: &dyn Disk, path: &Path) -> Result<(Sha256, u64), AgentError> {
    let mut hasher = Sha256::hasher();
    let mut size = 0;
    loop {
        let piece = disk.read_at(path, size, PIECE_BYTES)?;
        hasher.update(&piece);
        size += piece.len() as u64;
        if piece.len() < PIECE_BYTES {
            return Ok((hasher.finish(), size));
        }
    }
}

fn escaped(name: &OsStr) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.as_bytes() {
        if byte.is_ascii_graphic() && *byte != b'%' {
            text.push(char::from(*byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

fn unescaped(text: &str) -> Option<OsString> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &rest[2..];
        } else {
            bytes.push(*first);
        }
    }
    Some(OsString::from_vec(bytes))
}

/// Reads a record beside a walk through the directories in its order.
pub struct Reader<R> {
    lines: R,
    /// The line that was read and not used.
    ahead: String,
}

impl<R: BufRead> Reader<R> {
    /// The record of a release; `None` if it is that of another one.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn new(mut lines: R, manifest: Sha256) -> std::io::Result<Option<Self>> {
        let mut ahead = String::new();
        lines.read_line(&mut ahead)?;
        let is_its = ahead.trim_end() == format!("{HEADER} {manifest}");
        ahead.clear();
        Ok(is_its.then_some(Self { lines, ahead }))
    }

    /// What was recorded of a directory. Directories are asked for in the order of the record; some may be left out.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn directory(&mut self, below: &Path) -> Result<BTreeMap<OsString, Expected>, String> {
        let wanted = format!("D {}", escaped(below.as_os_str()));
        while self.ahead != wanted {
            if !self.advance()? {
                return Err("it is not in the record of what preparation made".to_owned());
            }
        }
        let mut entries = BTreeMap::new();
        while self.advance()? && !self.ahead.starts_with("D ") {
            let (name, expected) = entry(&self.ahead).ok_or("the record of preparation is damaged")?;
            entries.insert(name, expected);
        }
        Ok(entries)
    }

    fn advance(&mut self) -> Result<bool, String> {
        self.ahead.clear();
        let read = self.lines.read_line(&mut self.ahead);
        let read = read.map_err(|error| format!("the record of preparation cannot be read: {error}"))?;
        if self.ahead.ends_with('\n') {
            self.ahead.pop();
        }
        Ok(read > 0)
    }
}

fn entry(line: &str) -> Option<(OsString, Expected)> {
    let (kind, rest) = line.split_once(' ')?;
    let (expected, name) = match kind {
        "F" => {
            let mut words = rest.splitn(3, ' ');
            let (digest, size) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            (Expected::File { digest, size, executable: None }, words.next()?)
        }
        "S" => (Expected::Directory { object: None }, rest),
        "L" => {
            let (target, name) = rest.split_once(' ')?;
            (Expected::Link { target: unescaped(target)?.into(), shared: None }, name)
        }
        "O" => (Expected::Other, rest),
        _ => return None,
    };
    Some((unescaped(name)?, expected))
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_common::disk::RealDisk;

    #[test]
    fn what_is_recorded_is_read_back_in_its_order_whatever_its_names() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("prepared/v1");
        std::fs::create_dir_all(root.join("venv/lib/a b")).unwrap();
        std::fs::create_dir_all(root.join("venv/lib-two")).unwrap();
        std::fs::create_dir_all(directory.path().join(layout::INVENTORIES)).unwrap();
        let strange = OsString::from_vec(b"new\nline \xff%".to_vec());
        std::fs::write(root.join("venv").join(&strange), "strange").unwrap();
        std::fs::write(root.join("venv/lib/a b/x.py"), vec![7; PIECE_BYTES]).unwrap();
        std::os::unix::fs::symlink("/usr/bin/python 3", root.join("venv/python")).unwrap();
        let (disk, release) = (RealDisk::new(directory.path()), "v1".parse().unwrap());
        let manifest = Sha256::of(b"manifest");
        record(&disk, &release, manifest).unwrap();
        // Again, as after a crash between the record and what follows.
        record(&disk, &release, manifest).unwrap();

        let bytes = std::fs::read(directory.path().join(layout::inventory(&release))).unwrap();
        assert!(Reader::new(&bytes[..], Sha256::of(b"other")).unwrap().is_none());
        let mut reader = Reader::new(&bytes[..], manifest).unwrap().unwrap();
        let directory = Expected::Directory { object: None };
        assert_eq!(reader.directory(Path::new("")).unwrap(), [("venv".into(), directory)].into());
        let venv = reader.directory(Path::new("venv")).unwrap();
        let file = |content: &[u8]| Expected::File {
            digest: Sha256::of(content),
            size: content.len() as u64,
            executable: None,
        };
        assert_eq!(venv[&strange], file(b"strange"));
        let link = Expected::Link { target: "/usr/bin/python 3".into(), shared: None };
        assert_eq!(venv[OsStr::new("python")], link);
        // One that is left out is passed over.
        let inner = reader.directory(Path::new("venv/lib/a b")).unwrap();
        assert_eq!(inner, [("x.py".into(), file(&[7; PIECE_BYTES]))].into());
        assert!(reader.directory(Path::new("venv/lib-two")).unwrap().is_empty());
        assert!(reader.directory(Path::new("venv/never")).is_err());
    }
}
