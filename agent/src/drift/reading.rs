//! Reading a file without taking anything from who uses the machine: what is in the page cache is read from there,
//! what is not is read from the disk and let go of again.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::path::Path;

use landfall_common::Sha256;
use rustix::fs::{Advice, Mode, OFlags};
use rustix::io::{Errno, ReadWriteFlags};

/// How much is read at once. Small, since the cached pages of a piece that is not all cached are let go of too.
pub const PIECE_BYTES: usize = 64 * 1024;

/// Opens a regular file; no link is followed, nothing waited for, and its time of access stays.
///
/// # Errors
/// As the system says; `InvalidInput` for what is no regular file.
pub fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let open = |flags| rustix::fs::open(path, flags, Mode::empty());
    // Only the owner of a file may leave its time of access as it is.
    let opened: Result<OwnedFd, Errno> = match open(flags | OFlags::NOATIME) {
        Err(Errno::PERM) => open(flags),
        other => other,
    };
    let file = File::from(opened?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file any more"));
    }
    Ok(file)
}

/// The digest of what a file holds. `breathe` is called after each piece and may end it.
///
/// # Errors
/// As the system says. `Ok(None)` if `breathe` has ended it.
pub fn digest(
    file: &File,
    piece: &mut [u8],
    breathe: &mut dyn FnMut() -> bool,
) -> io::Result<Option<Sha256>> {
    // Nothing is read ahead: what lies ahead would look as if somebody used it.
    let _ = rustix::fs::fadvise(file, 0, None, Advice::Random);
    let mut hasher = Sha256::hasher();
    let mut offset = 0u64;
    let mut knows_cache = true;
    loop {
        let cached = match knows_cache {
            true => {
                let flags = ReadWriteFlags::NOWAIT;
                rustix::io::preadv2(file, &mut [IoSliceMut::new(piece)], offset, flags)
            }
            false => Err(Errno::AGAIN),
        };
        let read = match cached {
            Ok(read) => read,
            Err(Errno::INTR) => continue,
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
                // Whoever cannot say what is cached is not told to forget it either.
                knows_cache = false;
                continue;
            }
            Err(Errno::AGAIN) => {
                let read = match rustix::io::pread(file, &mut *piece, offset) {
                    Err(Errno::INTR) => continue,
                    read => read?,
                };
                if knows_cache && let Some(length) = NonZeroU64::new(read as u64) {
                    let _ = rustix::fs::fadvise(file, offset, Some(length), Advice::DontNeed);
                }
                read
            }
            Err(error) => return Err(error.into()),
        };
        if read == 0 {
            return Ok(Some(hasher.finish()));
        }
        hasher.update(&piece[..read]);
        offset += read as u64;
        if !breathe() {
            return Ok(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_to_its_end_and_can_be_let_go_of_in_the_middle() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let content: Vec<u8> = (0..=250).cycle().take(PIECE_BYTES * 3 + 17).collect();
        std::fs::write(&path, &content).unwrap();
        let (mut piece, mut breaths) = (vec![0; PIECE_BYTES], 0);
        let file = open(&path).unwrap();
        let whole = digest(&file, &mut piece, &mut || {
            breaths += 1;
            true
        });
        assert_eq!(whole.unwrap(), Some(Sha256::of(&content)));
        assert!(breaths >= 4);
        assert_eq!(digest(&file, &mut piece, &mut || false).unwrap(), None);
    }

    #[test]
    fn nothing_but_a_file_is_opened_and_nothing_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::os::unix::fs::symlink("/etc/passwd", path("link")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, path("pipe"), rustix::fs::FileType::Fifo, Mode::RUSR, 0)
            .unwrap();
        for name in ["link", "pipe", "gone", "."] {
            assert!(open(&path(name)).is_err(), "{name}");
        }
    }
}
