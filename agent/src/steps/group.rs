//! The note of a step that runs: which group of processes is its own, for whoever comes after an agent or a
//! supervisor that was killed.
//!
//! The kernel kills the main process of a step together with whoever started it, but not what that process has
//! started: `sh prepare.sh` dies and its `pip` goes on writing. A step writes its note itself, between fork and
//! exec, so that there is no moment in which its program runs and is not noted.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};

use super::process::{self, Stat};

/// How often a group that was killed is looked at.
const POLL: Duration = Duration::from_millis(20);

/// After SIGKILL a process that waits for a broken disk or file server may stay for ever: give it up then.
const UNKILLABLE: Duration = Duration::from_secs(10);

/// A group beyond doubt: its id is given out again only once all of it has ended, and then to a process that
/// was started at another moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Group {
    leader: Pid,
    /// Of the leader, in clock ticks since the host's start.
    started: u64,
}

/// Begins a note, for [`write_from_child`] to finish. What an earlier step noted there is lost.
///
/// # Errors
/// What the kernel says.
pub(super) fn begin(note: &Path) -> io::Result<File> {
    if let Some(parent) = note.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut file = fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(note)?;
    io::Write::write_all(&mut file, format!("{}\n", process::boot_id()).as_bytes())?;
    Ok(file)
}

/// Finishes a note with what the kernel says of this process. For use between fork and exec: it makes system
/// calls and nothing else.
pub(super) fn write_from_child(note: impl AsFd) -> io::Result<()> {
    let stat = rustix::fs::open(c"/proc/self/stat", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut buffer = [0; 1024];
    let count = rustix::io::read(&stat, &mut buffer)?;
    if rustix::io::write(note, &buffer[..count])? < count {
        return Err(Errno::NOSPC.into());
    }
    Ok(())
}

/// Forgets a step that has ended with all of its group.
pub(super) fn forget(note: &Path) {
    let _ = fs::remove_file(note);
}

/// Kills what a step has left running whose agent or supervisor was killed, without waiting until it has ended.
pub(super) fn kill(note: &Path) {
    if let Some(group) = Group::noted(note) {
        let _ = group.kill();
    }
}

/// Kills what a step has left running whose agent or supervisor was killed, and waits until it has ended.
///
/// # Errors
/// A sentence that names a process which does not end.
pub async fn end(note: &Path) -> Result<(), String> {
    let Some(group) = Group::noted(note) else { return Ok(()) };
    let begun = Instant::now();
    let mut told = false;
    while let Some(pid) = group.member() {
        if begun.elapsed() >= UNKILLABLE {
            return Err(format!(
                "process {pid} of an earlier run does not even end by SIGKILL: the kernel holds it"
            ));
        }
        if group.kill() == Err(Errno::PERM) {
            // Not even one of them is ours: the ids mean something else by now.
            break;
        }
        if !std::mem::replace(&mut told, true) {
            tracing::warn!(pid, "what an earlier run of a step has left running is killed");
        }
        tokio::time::sleep(POLL).await;
    }
    forget(note);
    Ok(())
}

impl Group {
    /// The group that was noted. One that was begun and never finished has run nothing, and after the host
    /// went down nothing runs.
    fn noted(note: &Path) -> Option<Self> {
        let text = match fs::read(note) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(note = %note.display(), %error, "what a step may have left running is not known");
                return None;
            }
        };
        let (boot_id, stat) = text.split_once('\n')?;
        let leader = stat.split_ascii_whitespace().next()?.parse().ok().and_then(Pid::from_raw)?;
        (boot_id == process::boot_id()).then_some(())?;
        Some(Self { leader, started: Stat::parse(stat)?.started })
    }

    /// One of the group that still runs.
    fn member(&self) -> Option<i32> {
        let leader = self.leader.as_raw_nonzero().get();
        if Stat::of(leader).is_some_and(|stat| stat.started != self.started) {
            return None;
        }
        process::members(self.leader, 0)
            .ok()?
            .find(|(_, stat)| stat.session == leader && stat.started >= self.started)
            .map(|(pid, _)| pid)
    }

    fn kill(&self) -> Result<(), Errno> {
        match self.member() {
            Some(_) => rustix::process::kill_process_group(self.leader, Signal::KILL),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// A group whose leader has ended, and its note.
    fn left() -> (tempfile::TempDir, Group, std::process::Child) {
        use std::os::unix::process::CommandExt as _;
        let directory = tempfile::tempdir().unwrap();
        let note = begin(&directory.path().join("run/note")).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 600 & exit 0"]);
        // SAFETY: between fork and exec only system calls are made.
        unsafe {
            command.pre_exec(move || {
                rustix::process::setsid()?;
                write_from_child(&note)
            });
        }
        let mut leader = command.spawn().unwrap();
        leader.wait().unwrap();
        let group = Group::noted(&directory.path().join("run/note")).unwrap();
        assert_eq!(group.leader, Pid::from_child(&leader));
        (directory, group, leader)
    }

    #[tokio::test]
    async fn what_a_dead_leader_left_is_killed_and_forgotten() {
        let (directory, group, _leader) = left();
        assert!(group.member().is_some());
        let note = directory.path().join("run/note");
        end(&note).await.unwrap();
        assert!(group.member().is_none() && !note.exists());
        end(&note).await.unwrap();
    }

    #[tokio::test]
    async fn what_only_has_the_same_id_is_left_alone() {
        let (directory, group, _leader) = left();
        let note = directory.path().join("run/note");
        let text = fs::read_to_string(&note).unwrap();
        let (boot_id, stat) = text.split_once('\n').unwrap();
        // Of another run of the kernel; cut off before the program ran; begun after all that runs.
        let ticks = format!(" {} ", group.started);
        let later = stat.replacen(&ticks, &format!(" {} ", group.started + 1_000_000_000), 1);
        for other in [format!("other\n{stat}"), format!("{boot_id}\n"), format!("{boot_id}\n{later}")] {
            assert_ne!(other, text);
            fs::write(&note, other).unwrap();
            end(&note).await.unwrap();
            assert!(group.member().is_some());
        }
        fs::write(&note, text).unwrap();
        end(&note).await.unwrap();
        assert!(group.member().is_none());
    }
}
