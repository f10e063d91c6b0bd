//! Taking over what a holder that died has left running: its processes, and their listening socket.
//!
//! The socket lives as long as a process has it open, but its address cannot be bound again. So it is taken
//! from there (`pidfd_getfd(2)`, Linux 5.6; same user, and a process that may be traced).

use std::fs;
use std::os::fd::{OwnedFd, RawFd};

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags};

use crate::steps::process::Stat;

/// Takes a socket, by its inode, from a process or another of its group.
pub(super) fn take_socket(pid: u32, inode: u64) -> Result<OwnedFd, String> {
    let wanted = format!("socket:[{inode}]");
    let main = i32::try_from(pid).map_err(|_| format!("{pid} is not a process id"))?;
    let mut last = format!("process {pid} has closed it");
    for candidate in group_of(main) {
        let Some(fd) = find(candidate, &wanted) else { continue };
        match take(candidate, fd) {
            Ok(fd) => return Ok(fd),
            Err(error) => last = format!("descriptor {fd} of process {candidate} cannot be taken: {error}"),
        }
    }
    Err(last)
}

/// The process itself first, then the others of its group.
fn group_of(main: i32) -> impl Iterator<Item = i32> {
    let others = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(move |entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        (pid != main && Stat::of(pid)?.group == main).then_some(pid)
    });
    std::iter::once(main).chain(others)
}

/// The descriptor under which a process has it. A program may have moved it from where it was passed.
fn find(pid: i32, wanted: &str) -> Option<RawFd> {
    fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten().find_map(|entry| {
        let is_it = fs::read_link(entry.path()).ok()?.to_str()? == wanted;
        is_it.then(|| entry.file_name().to_str()?.parse().ok()).flatten()
    })
}

fn take(pid: i32, fd: RawFd) -> rustix::io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or(rustix::io::Errno::SRCH)?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    let taken = rustix::process::pidfd_getfd(pidfd, fd, PidfdGetfdFlags::empty())?;
    rustix::io::fcntl_setfd(&taken, rustix::io::FdFlags::CLOEXEC)?;
    Ok(taken)
}
