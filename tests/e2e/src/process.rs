//! A program under test: started, watched, killed by its own process id and never left behind.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How often a condition outside of this process is looked at while waiting for it.
const POLL: Duration = Duration::from_millis(20);

/// A running program whose output goes to a file.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output appended to `log`.
    ///
    /// # Errors
    /// If the file cannot be opened or the program cannot be started.
    pub fn spawn(name: &str, command: &mut Command, log: &Path) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("cannot start {name}: {error}")))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, at once; waits until it is gone.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        self.child.kill()?;
        self.child.wait()
    }

    /// SIGTERM; SIGKILL if it has not ended within `patience`.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub fn terminate(&mut self, patience: Duration) -> io::Result<ExitStatus> {
        signal(self.child.id(), "TERM");
        self.wait(patience)
    }

    /// Waits for its end; SIGKILL if it has not ended within `patience`.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub fn wait(&mut self, patience: Duration) -> io::Result<ExitStatus> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(POLL);
        }
        self.kill()
    }

    /// Waits until its output contains `text`.
    ///
    /// # Errors
    /// If it ends first, or does not say so within `patience`; with the last lines of its output.
    pub fn wait_for_output(&mut self, text: &str, patience: Duration) -> io::Result<()> {
        let what = format!("{} says {text:?}", self.name);
        let log = self.log.clone();
        let said = || fs::read_to_string(&log).unwrap_or_default().contains(text);
        let deadline = Instant::now() + patience;
        loop {
            if said() {
                return Ok(());
            }
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let why =
                    ended.map_or_else(|| "not in time".to_owned(), |status| format!("it ended: {status}"));
                return Err(io::Error::other(format!("waited until {what}: {why}\n{}", tail(&log, 30))));
            }
            std::thread::sleep(POLL);
        }
    }

    /// The last lines of its output.
    #[must_use]
    pub fn tail(&self) -> String {
        tail(&self.log, 30)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Sends a signal to one process, by its id.
pub fn signal(id: u32, signal: &str) {
    let _ = Command::new("kill").arg(format!("-{signal}")).arg(id.to_string()).stderr(Stdio::null()).status();
}

/// The ids of a process's children.
#[must_use]
pub fn children(id: u32) -> Vec<u32> {
    let parent = |child: u32| {
        // The name, in parentheses, may hold anything; the state and the parent follow it.
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok()
    };
    all().filter(|&child| parent(child) == Some(id)).collect()
}

/// A process's command line, with spaces between its words; empty when it is gone.
#[must_use]
pub fn command_line(id: u32) -> String {
    let bytes = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ").trim_end().to_owned()
}

/// The ids of all processes.
fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// The last `count` lines of a file, or nothing.
#[must_use]
pub fn tail(file: &Path, count: usize) -> String {
    let text = String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Waits until `condition` holds.
///
/// # Errors
/// With `what` was waited for, when it does not hold within `patience`.
pub fn wait_until(what: &str, patience: Duration, mut condition: impl FnMut() -> bool) -> io::Result<()> {
    let deadline = Instant::now() + patience;
    while !condition() {
        if Instant::now() > deadline {
            return Err(io::Error::other(format!("waited {} s until {what}", patience.as_secs())));
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

/// The ids of all processes whose command line or environment names `path`: what belongs to one temporary
/// directory, wherever it was started from.
#[must_use]
pub fn that_name(path: &Path) -> Vec<u32> {
    let needle = path.as_os_str().as_encoded_bytes();
    let names = |file: &str, id: u32| {
        let content = fs::read(format!("/proc/{id}/{file}")).unwrap_or_default();
        content.windows(needle.len()).any(|window| window == needle)
    };
    let own = std::process::id();
    all().filter(|&id| id != own && (names("cmdline", id) || names("environ", id))).collect()
}

/// The ids of all processes with this variable in their environment.
#[must_use]
pub fn with_variable(name: &str, value: &OsStr) -> Vec<u32> {
    let wanted = [name.as_bytes(), b"=", value.as_encoded_bytes()].concat();
    let has = |id: u32| {
        let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| entry == wanted)
    };
    all().filter(|&id| has(id)).collect()
}

/// A port on loopback that was free a moment ago.
///
/// # Errors
/// If none can be bound.
pub fn free_port() -> io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Whether this process may mount things.
#[must_use]
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}
