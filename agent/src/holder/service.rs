//! One process of a service: how it is started, what it writes, and how it ends.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use landfall_common::manifest::Ready;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::ready::{Question, Watch};
use super::record::ProcessId;
use super::socket::{Listening, Private};
use super::spec::{ChildSpec, EndNote};
use super::written::Written;
use crate::steps::output::Capture;
use crate::steps::process::{self, Launch, Stat};

/// What is remembered of its output, for the report of its end.
const TAIL_BYTES: usize = 16 * 1024;

/// Room for what a service writes while no holder reads: after a holder's death, until the next one.
const PIPE_BYTES: usize = 1024 * 1024;

/// One read of a service's output; a flood of one service must not starve the rest.
const READ_BYTES: usize = 64 * 1024;

/// A process that runs.
pub(super) struct Service {
    pub id: ProcessId,
    pub stop_timeout: Duration,
    pub watch: Option<Watch>,
    pid: Pid,
    pidfd: OwnedFd,
    /// None if an earlier holder started it: then its exit code goes to somebody else.
    child: Option<Child>,
    output: Option<OwnedFd>,
    tail: Capture,
}

/// Where the short-lived files of a process are, and how they are called.
pub(super) struct Names<'a> {
    pub run: &'a Path,
    /// Unique among the processes of a holder and of those before it.
    pub stem: String,
}

impl Names<'_> {
    fn with(&self, extension: &str) -> PathBuf {
        self.run.join(format!("{}.{extension}", self.stem))
    }
}

impl Service {
    /// Starts a process with the shared socket, if there is one.
    pub fn start(
        child: &ChildSpec,
        shared: Option<&Listening>,
        names: &Names<'_>,
        now: Instant,
    ) -> Result<Self, String> {
        let mut environment = child.environment.clone();
        let mut private = None;
        let watch = match &child.ready {
            Ready::Alive { .. } => Watch::Alive,
            Ready::Notify { .. } => {
                let path = names.with("notify");
                environment.insert("NOTIFY_SOCKET".to_owned(), path.to_string_lossy().into_owned());
                Watch::notify(&path)?
            }
            Ready::Http { path, headers, .. } => {
                let shared = shared.ok_or("it has no address to listen on, so nothing can be asked of it")?;
                let unix_path = shared.is_unix().then(|| names.with("ready"));
                let (address, fd) = Private::bind(unix_path.as_deref())?;
                private = Some(fd);
                let host = host(child.listen.as_deref().filter(|_| !shared.is_unix()));
                Watch::Http(Question::new(address, path, &host, headers, now))
            }
        };
        let mut passed = Vec::new();
        passed.extend(shared.map(|shared| ("listen", &shared.fd)));
        passed.extend(private.as_ref().map(|fd| ("ready", fd)));
        let pipe = names.with("out");
        let (output, write) = open_pipe(&pipe)?;
        let started = process::start(&Launch {
            argv: &child.argv,
            environment: &environment,
            directory: &child.directory,
            output: write,
            passed: &passed,
            dies_with_parent: false,
            note: None,
        });
        let started = started.map_err(|error| {
            let _ = std::fs::remove_file(&pipe);
            error.to_string()
        })?;
        let pid = started.child.id();
        let ticks = i32::try_from(pid).ok().and_then(Stat::of).map_or(0, |stat| stat.started);
        Ok(Self {
            id: ProcessId { pid, started: ticks, output: pipe },
            stop_timeout: child.stop_timeout,
            watch: Some(watch),
            pid: started.pid,
            pidfd: started.pidfd,
            child: Some(started.child),
            output: Some(output),
            tail: Capture::new(0, TAIL_BYTES),
        })
    }

    /// Takes over a process that an earlier holder had started.
    pub fn adopt(id: ProcessId, stop_timeout: Duration) -> Result<Self, String> {
        let raw = i32::try_from(id.pid).ok().and_then(Pid::from_raw).ok_or("0 is no process")?;
        let pidfd = rustix::process::pidfd_open(raw, PidfdFlags::empty())
            .map_err(|error| format!("process {} cannot be watched: {error}", id.pid))?;
        // Without its pipe it is watched all the same; what it writes is then lost when the pipe is full.
        let output = rustix::fs::open(&id.output, read_flags(), Mode::empty()).ok();
        let (child, tail) = (None, Capture::new(0, TAIL_BYTES));
        Ok(Self { id, stop_timeout, watch: None, pid: raw, pidfd, child, output, tail })
    }

    /// Readable once it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Readable when it has written.
    pub fn output(&self) -> Option<BorrowedFd<'_>> {
        self.output.as_ref().map(AsFd::as_fd)
    }

    /// Its group, which has its id.
    pub fn group(&self) -> Pid {
        self.pid
    }

    /// Asks it to end: the main process alone, since a graceful server ends its workers in its own order.
    pub fn terminate(&self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::TERM);
    }

    /// Ends it and its group.
    pub fn kill(&self) {
        process::signal_group(self.pid, Signal::KILL);
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Reads what it wrote, once; false if there was nothing.
    pub fn read(&mut self, written: &mut Written) -> bool {
        let Some(output) = &self.output else { return false };
        let mut buffer = vec![0; READ_BYTES];
        match rustix::io::read(output, &mut buffer) {
            Ok(0) => self.output = None,
            Ok(count) => {
                self.tail.push(&buffer[..count]);
                written.write(&buffer[..count]);
                return true;
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(_) => self.output = None,
        }
        false
    }

    /// The last lines of its output.
    pub fn tail(&self) -> Vec<String> {
        self.tail.finish().last_lines()
    }

    /// How it ended. To be called once its pidfd is readable, after [`Self::read`].
    pub fn end(&mut self) -> EndNote {
        let status = self.child.as_mut().map(Child::wait);
        let (reason, exit_code) = match status {
            None => ("it ended; its exit code went to the holder that had started it".to_owned(), None),
            Some(Err(error)) => (format!("it ended; its exit code cannot be read: {error}"), None),
            Some(Ok(status)) => match (status.code(), status.signal()) {
                (Some(0), _) => {
                    ("it exited with code 0; a service must stay in the foreground".to_owned(), Some(0))
                }
                (Some(code), _) => (format!("it exited with code {code}"), Some(code)),
                (None, signal) => (format!("it was killed by signal {}", signal.unwrap_or_default()), None),
            },
        };
        EndNote { reason, exit_code, tail: self.tail() }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.id.output);
    }
}

/// The `Host` that an application on this address will know: one that listens everywhere is called by its
/// loopback address.
fn host(listen: Option<&str>) -> String {
    match listen.and_then(|listen| listen.rsplit_once(':')) {
        None => "localhost".to_owned(),
        Some(("" | "0.0.0.0" | "[::]", port)) => format!("127.0.0.1:{port}"),
        Some((host, port)) => format!("{host}:{port}"),
    }
}

fn read_flags() -> OFlags {
    OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC
}

/// A named pipe: the end that is read here, and the one for the process.
///
/// The process gets it open for reading too, so that it never meets a broken pipe when a holder dies; and
/// it has a name, so that the next holder can read on.
fn open_pipe(path: &Path) -> Result<(OwnedFd, OwnedFd), String> {
    let fail = |error: rustix::io::Errno| format!("cannot make the pipe {}: {error}", path.display());
    let _ = std::fs::remove_file(path);
    rustix::fs::mknodat(CWD, path, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).map_err(fail)?;
    let read = rustix::fs::open(path, read_flags(), Mode::empty()).map_err(fail)?;
    let write = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(fail)?;
    // A smaller pipe serves too, only for less long.
    let _ = rustix::pipe::fcntl_setpipe_size(&read, PIPE_BYTES);
    Ok((read, write))
}
