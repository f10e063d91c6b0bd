//! The agent's own program: under which name it starts itself, and which of two it is where a release of the agent
//! brought one ([ADR 8](../../docs/adr/0008-an-agent-releases-the-agent.md)).

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The kernel's link to the program that runs, and not its path: that path is gone, or names another version,
/// once a package upgrade has replaced the file under a running agent.
pub const OWN: &str = "/proc/self/exe";

/// What `--version` says first.
const NAME: &str = "landfall-agent ";

/// A program that cannot say its version within this cannot be an agent.
const ANSWER: Duration = Duration::from_secs(5);

/// A program that has run this long was well.
pub const WELL_AFTER: Duration = Duration::from_secs(30);

/// How often one is begun that has never been well.
const ATTEMPTS: u32 = 3;

const POLL: Duration = Duration::from_millis(10);

/// Where the file of this process is. The link tells of a file that was replaced by its name.
#[must_use]
pub fn own_path() -> PathBuf {
    std::fs::read_link(OWN).unwrap_or_default()
}

/// A program of a release, and where it is noted how often it was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Released {
    /// The program.
    pub program: PathBuf,
    /// A directory of the agent's own that outlives its restarts and not the host's.
    pub run_dir: PathBuf,
}

impl Released {
    /// Becomes that program, with the arguments of this one. Returns if it is not there, if this is it, or, with the
    /// reason, if it cannot be run: then this one is the agent, since a host without an agent could not even be
    /// mended.
    ///
    /// # Errors
    /// Why the program that is there is not run, as a sentence.
    pub fn become_it(&self) -> Result<(), String> {
        let path = match self.program.canonicalize() {
            Ok(path) => path,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(format!("{} cannot be looked at: {error}", self.program.display())),
        };
        if path == own_path() {
            return Ok(());
        }
        let refuse = |why: String| Err(format!("{} is not run, because {why}", path.display()));
        if let Err(why) = must_be_out_of_reach(&path, rustix::process::geteuid().as_raw())
            .and_then(|()| must_answer(&path))
            .and_then(|()| self.note(&path))
        {
            return refuse(why);
        }
        let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
        let error = Command::new(&path).args(arguments).exec();
        refuse(format!("it cannot be started: {error}"))
    }

    /// This process has run for [`WELL_AFTER`]: if it is that program, it is well.
    pub fn is_well(&self) {
        if self.program.canonicalize().is_ok_and(|path| path == own_path()) {
            self.forget();
        }
    }

    fn forget(&self) {
        let _ = std::fs::remove_file(self.note_path());
    }

    fn note_path(&self) -> PathBuf {
        self.run_dir.join("program-begun")
    }

    /// Notes that it is begun, and refuses one that has begun too often without having been well.
    fn note(&self, path: &Path) -> Result<(), String> {
        let metadata = path.metadata().map_err(|error| format!("it cannot be looked at: {error}"))?;
        let (inode, changed) = (metadata.ino(), (metadata.ctime(), metadata.ctime_nsec()));
        let which = format!("{inode} {}.{} {}", changed.0, changed.1, path.display());
        let noted = std::fs::read_to_string(self.note_path()).unwrap_or_default();
        let begun = noted.split_once(' ').filter(|(_, noted)| *noted == which);
        let begun: u32 = begun.and_then(|(count, _)| count.parse().ok()).unwrap_or(0);
        if begun >= ATTEMPTS {
            let well = WELL_AFTER.as_secs();
            return Err(format!(
                "it has begun {begun} times and not run for {well} s; it is tried again after a reboot"
            ));
        }
        std::fs::create_dir_all(&self.run_dir)
            .and_then(|()| std::fs::write(self.note_path(), format!("{} {which}", begun + 1)))
            .map_err(|error| format!("{} cannot be written: {error}", self.note_path().display()))
    }
}

/// Whoever takes an agent over must not be able to stay by replacing its program: the file, and each directory above
/// it, must belong to root or to one other user, and be writable for nobody else.
fn must_be_out_of_reach(path: &Path, user: u32) -> Result<(), String> {
    let mut other = None;
    for part in path.ancestors() {
        let metadata =
            part.metadata().map_err(|error| format!("{} cannot be looked at: {error}", part.display()))?;
        if let Some(why) = within_reach(user, &mut other, metadata.uid(), metadata.mode()) {
            return Err(format!("{} {why}", part.display()));
        }
    }
    Ok(())
}

/// Why a file or directory may be replaced by somebody whom it is not for; `other` is the one owner beside root.
fn within_reach(user: u32, other: &mut Option<u32>, owner: u32, mode: u32) -> Option<&'static str> {
    if mode & 0o022 != 0 {
        Some("may be written by others than its owner")
    } else if owner == 0 {
        None
    } else if user == 0 {
        Some("does not belong to root, who runs this")
    } else if owner == user {
        Some("belongs to the agent's own user")
    } else if *other.get_or_insert(owner) != owner {
        Some("belongs to a third user")
    } else {
        None
    }
}

/// Catches what is made for another machine, or lacks a library, before this process is gone.
fn must_answer(path: &Path) -> Result<(), String> {
    let unheard = |error: io::Error| format!("it cannot be heard: {error}");
    // Not a pipe: whom it leaves behind could keep that open.
    let heard = rustix::fs::memfd_create("version", rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(|error| unheard(error.into()))?;
    let mut heard = File::from(heard);
    let output = heard.try_clone().map_err(unheard)?;
    let mut command = Command::new(path);
    command.arg("--version").stdin(Stdio::null()).stdout(output).stderr(Stdio::null()).process_group(0);
    let mut child = command.spawn().map_err(|error| format!("it cannot be started: {error}"))?;
    let group = rustix::process::Pid::from_child(&child);
    let begun = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if begun.elapsed() < ANSWER => std::thread::sleep(POLL),
            Ok(None) | Err(_) => break None,
        }
    };
    let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    let Some(status) = status else {
        let _ = child.wait();
        return Err(format!("it does not say its version within {} s", ANSWER.as_secs()));
    };
    if !status.success() {
        return Err(format!("its --version ended with {status}"));
    }
    let mut said = [0; NAME.len()];
    let is_agent =
        heard.rewind().and_then(|()| heard.read_exact(&mut said)).is_ok() && said == *NAME.as_bytes();
    if is_agent { Ok(()) } else { Err("it does not say that it is landfall-agent".to_owned()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_program_whose_file_was_replaced_can_still_start_itself() {
        let directory = tempfile::tempdir().unwrap();
        let copy = directory.path().join("copy");
        std::fs::copy("/bin/bash", &copy).unwrap();
        let script = format!("rm {}; {} -c 'echo still here'", copy.display(), OWN);
        let output = Command::new(&copy).arg("-c").arg(script).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "still here\n", "{output:?}");
    }

    fn released(directory: &Path) -> Released {
        Released { program: directory.join("current/landfall-agent"), run_dir: directory.join("run") }
    }

    #[test]
    fn what_is_not_there_is_not_run_and_no_error() {
        let directory = tempfile::tempdir().unwrap();
        let released = released(directory.path());
        assert_eq!(released.become_it(), Ok(()));
        symlink("nowhere", directory.path().join("current")).unwrap();
        assert_eq!(released.become_it(), Ok(()));
    }

    #[test]
    fn what_the_agent_or_somebody_else_could_replace_is_not_run() {
        let (root, agent, updater) = (0, 990, 991);
        let own = Some("belongs to the agent's own user");
        let others = Some("may be written by others than its owner");
        for (user, owner, mode, expected) in [
            (agent, updater, 0o555, None),
            (agent, root, 0o755, None),
            (root, root, 0o755, None),
            (root, updater, 0o755, Some("does not belong to root, who runs this")),
            (agent, agent, 0o555, own),
            (agent, updater, 0o775, others),
            (agent, root, 0o757, others),
            (agent, root, 0o1777, others),
        ] {
            assert_eq!(within_reach(user, &mut None, owner, mode), expected, "{user} {owner} {mode:o}");
        }
        assert_eq!(within_reach(agent, &mut Some(updater), updater, 0o755), None);
        assert_eq!(within_reach(agent, &mut Some(updater), 992, 0o755), Some("belongs to a third user"));
        let path = Path::new("/usr/bin/env").canonicalize().unwrap();
        assert_eq!(must_be_out_of_reach(&path, agent), Ok(()), "it is root's, with all that is above it");
        let directory = tempfile::tempdir().unwrap();
        let why = must_be_out_of_reach(directory.path(), agent).unwrap_err();
        assert!(why.contains("may be written by others"), "what is above counts: {why}");
    }

    #[test]
    fn what_has_begun_three_times_and_never_been_well_is_not_begun_again() {
        let directory = tempfile::tempdir().unwrap();
        let released = released(directory.path());
        let program = directory.path().join("v1");
        std::fs::write(&program, "").unwrap();
        for _ in 0..3 {
            assert_eq!(released.note(&program), Ok(()));
        }
        let why = released.note(&program).unwrap_err();
        assert!(why.contains("has begun 3 times and not run for 30 s"), "{why}");
        let next = directory.path().join("v2");
        std::fs::write(&next, "").unwrap();
        assert_eq!(released.note(&next), Ok(()), "that is another one");
        assert_eq!(released.note(&next), Ok(()));
        released.forget();
        for _ in 0..3 {
            assert_eq!(released.note(&next), Ok(()), "it has been well since");
        }
        assert!(released.note(&next).is_err());
    }

    #[test]
    fn what_is_no_agent_is_not_run() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("agent");
        for (content, expected) in [
            ("", "it cannot be started"),
            ("\x7fELF rubbish", "it cannot be started"),
            ("#!/bin/sh\nexit 7\n", "its --version ended with exit status: 7"),
            ("#!/bin/sh\necho something else\n", "it does not say that it is landfall-agent"),
            ("#!/bin/sh\nexec sleep 1000\n", "it does not say its version within 5 s"),
            ("#!/bin/sh\nsleep 1000 &\necho something else\n", "it does not say that it is landfall-agent"),
        ] {
            std::fs::write(&file, content).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
            let why = must_answer(&file).unwrap_err();
            assert!(why.contains(expected), "{content:?}: {why}");
        }
        std::fs::write(&file, "#!/bin/sh\necho landfall-agent 9.9.9\n").unwrap();
        assert_eq!(must_answer(&file), Ok(()));
    }
}
