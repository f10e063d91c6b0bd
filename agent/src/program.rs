//! The agent's own program: under which name it starts itself, and which of two it is where a release of the agent
//! brought one ([ADR 8](../../docs/adr/0008-an-agent-releases-the-agent.md)).

use std::ffi::OsString;
use std::io;
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

const POLL: Duration = Duration::from_millis(10);

/// Where the file of this process is. The link tells of a file that was replaced by its name.
#[must_use]
pub fn own_path() -> PathBuf {
    std::fs::read_link(OWN).unwrap_or_default()
}

/// Becomes the program that a release of the agent brought, with the arguments of this one. Returns if there is
/// none, if this is it, or, with the reason, if it cannot be run: then this one is the agent, since a host without
/// an agent could not even be mended.
///
/// # Errors
/// Why the program that is there is not run, as a sentence.
pub fn become_released(path: &Path) -> Result<(), String> {
    let path = match path.canonicalize() {
        Ok(path) => path,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("{} cannot be looked at: {error}", path.display())),
    };
    if path == own_path() {
        return Ok(());
    }
    must_be_out_of_reach(&path, rustix::process::geteuid().as_raw())?;
    must_answer(&path)?;
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let error = Command::new(&path).args(arguments).exec();
    Err(format!("{} cannot be run: {error}", path.display()))
}

/// Whoever takes an agent over must not be able to stay by replacing its program: neither the file nor a directory
/// above it may be the agent's own, or be writable for more than its owner.
fn must_be_out_of_reach(path: &Path, user: u32) -> Result<(), String> {
    for part in path.ancestors() {
        let metadata =
            part.metadata().map_err(|error| format!("{} cannot be looked at: {error}", part.display()))?;
        if let Some(why) = within_reach(user, metadata.uid(), metadata.mode()) {
            return Err(format!("{} is not run, because {} {why}", path.display(), part.display()));
        }
    }
    Ok(())
}

/// Why a file or directory may be replaced by a user who is not root.
fn within_reach(user: u32, owner: u32, mode: u32) -> Option<&'static str> {
    if user != 0 && owner == user {
        Some("belongs to the agent's own user")
    } else if mode & 0o022 != 0 {
        Some("may be written by others than its owner")
    } else {
        None
    }
}

/// Catches what is made for another machine, or lacks a library, before this process is gone.
fn must_answer(path: &Path) -> Result<(), String> {
    let fail = |why: String| Err(format!("{} is not run, because {why}", path.display()));
    let mut command = Command::new(path);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return fail(format!("it cannot be started: {error}")),
    };
    let begun = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(_)) => break,
            Ok(None) if begun.elapsed() < ANSWER => std::thread::sleep(POLL),
            Ok(None) | Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                return fail(format!("it does not say its version within {} s", ANSWER.as_secs()));
            }
        }
    }
    match child.wait_with_output() {
        Ok(output) if output.status.success() && output.stdout.starts_with(NAME.as_bytes()) => Ok(()),
        Ok(output) if output.status.success() => fail("it does not say that it is landfall-agent".to_owned()),
        Ok(output) => fail(format!("its --version ended with {}", output.status)),
        Err(error) => fail(format!("it cannot be heard: {error}")),
    }
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

    #[test]
    fn what_is_not_there_is_not_run_and_no_error() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(become_released(&directory.path().join("current/landfall-agent")), Ok(()));
        symlink("nowhere", directory.path().join("current")).unwrap();
        assert_eq!(become_released(&directory.path().join("current/landfall-agent")), Ok(()));
    }

    #[test]
    fn what_the_agent_or_somebody_else_could_replace_is_not_run() {
        let (root, agent, updater) = (0, 990, 991);
        let (own, others) = ("belongs to the agent's own user", "may be written by others than its owner");
        for (user, owner, mode, expected) in [
            (agent, updater, 0o555, None),
            (agent, root, 0o755, None),
            (root, root, 0o755, None),
            (agent, agent, 0o555, Some(own)),
            (agent, updater, 0o775, Some(others)),
            (agent, root, 0o757, Some(others)),
            (agent, root, 0o1777, Some(others)),
            (root, updater, 0o775, Some(others)),
        ] {
            assert_eq!(within_reach(user, owner, mode), expected, "{user} {owner} {mode:o}");
        }
        let path = Path::new("/usr/bin/env").canonicalize().unwrap();
        assert_eq!(must_be_out_of_reach(&path, agent), Ok(()), "it is root's, with all that is above it");
        let directory = tempfile::tempdir().unwrap();
        let why = must_be_out_of_reach(directory.path(), agent).unwrap_err();
        assert!(why.contains("may be written by others"), "what is above counts: {why}");
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
