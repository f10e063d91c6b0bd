//! A host's disk: an ext4 of its own in a file, with the base below it.
//!
//! It can lose its power (what was not synced is lost, as on a real server), be full, stand still, or be
//! slow. All of that is done from outside, as a failing disk would do it.

use std::ffi::c_int;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::ioctl::{Opcode, Setter, ioctl, opcode};

/// Nothing goes to the disk any more, not even what the file system's own journal holds in memory.
const EXT4_SHUTDOWN: Opcode = opcode::read::<u32>(b'X', 125);
const SHUTDOWN_NO_LOG_FLUSH: u32 = 2;
const FREEZE: Opcode = opcode::read_write::<c_int>(b'X', 119);
const THAW: Opcode = opcode::read_write::<c_int>(b'X', 120);

/// How long a slow disk stands still, and how long it then works.
const SLOW_REST: Duration = Duration::from_millis(180);
const SLOW_WORK: Duration = Duration::from_millis(20);

/// The disk of one host.
#[derive(Debug, Clone)]
pub struct Disk {
    image: PathBuf,
}

impl Disk {
    /// Makes an empty one of `size_mib` in `image`; it takes room on the machine only for what is written.
    ///
    /// # Errors
    /// What `mkfs.ext4` said.
    pub fn make(image: PathBuf, size_mib: u64) -> io::Result<Self> {
        File::create(&image)?.set_len(size_mib * 1024 * 1024)?;
        let path = image.to_string_lossy();
        crate::run("mkfs.ext4", &["-q", "-m", "0", "-E", "lazy_itable_init=1,nodiscard", &path])?;
        Ok(Self { image })
    }

    /// Where its file is.
    #[must_use]
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// Cuts its power while it is mounted at `mount`.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn cut_power(mount: &Path) -> io::Result<()> {
        set(&File::open(mount)?, Request::CutPower)
    }

    /// Lets the disk mounted at `mount` stand still: whoever writes waits.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn stall(mount: &Path) -> io::Result<Stalled> {
        let directory = File::open(mount)?;
        set(&directory, Request::Freeze)?;
        Ok(Stalled { directory })
    }

    /// Makes the disk mounted at `mount` slow: it stands still for nine tenths of the time.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn slow(mount: &Path) -> io::Result<Slow> {
        let directory = File::open(mount)?;
        set(&directory, Request::Freeze)?;
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !asked.load(Ordering::Relaxed) {
                std::thread::sleep(SLOW_REST);
                let _ = set(&directory, Request::Thaw);
                std::thread::sleep(SLOW_WORK);
                let _ = set(&directory, Request::Freeze);
            }
            let _ = set(&directory, Request::Thaw);
        });
        Ok(Slow { stop, thread: Some(thread) })
    }
}

/// A disk that stands still until this is dropped.
#[must_use = "the disk works again as soon as this is dropped"]
#[derive(Debug)]
pub struct Stalled {
    directory: File,
}

impl Drop for Stalled {
    fn drop(&mut self) {
        let _ = set(&self.directory, Request::Thaw);
    }
}

/// A disk that is slow until this is dropped.
#[must_use = "the disk is as fast as before as soon as this is dropped"]
#[derive(Debug)]
pub struct Slow {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[derive(Clone, Copy)]
enum Request {
    CutPower,
    Freeze,
    Thaw,
}

fn set(directory: &impl AsFd, request: Request) -> io::Result<()> {
    // SAFETY: each of these requests reads one u32 or int through the pointer that `Setter` passes, and
    // writes nothing.
    unsafe {
        match request {
            Request::CutPower => ioctl(directory, Setter::<EXT4_SHUTDOWN, u32>::new(SHUTDOWN_NO_LOG_FLUSH)),
            Request::Freeze => ioctl(directory, Setter::<FREEZE, c_int>::new(0)),
            Request::Thaw => ioctl(directory, Setter::<THAW, c_int>::new(0)),
        }
    }?;
    Ok(())
}
