//! Starting a process the one way that steps and services share, and ending its group.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal};

use super::group;

/// The first descriptor that is passed to a service, as systemd has it.
pub(crate) const FIRST_PASSED: RawFd = 3;

/// How many descriptors can be passed.
pub(crate) const MAX_PASSED: usize = 2;

/// What is started, and with what around it.
pub(crate) struct Launch<'a> {
    /// The program and its arguments.
    pub argv: &'a [String],
    /// All of the environment.
    pub environment: &'a BTreeMap<String, String>,
    /// The working directory.
    pub directory: &'a Path,
    /// Standard output and error.
    pub output: OwnedFd,
    /// Descriptors from 3 on, each with its name; announced by `LISTEN_FDS`, `LISTEN_PID`, `LISTEN_FDNAMES`.
    pub passed: &'a [(&'a str, &'a OwnedFd)],
    /// Whether it gets SIGKILL when the thread that started it ends.
    pub dies_with_parent: bool,
    /// Where it notes which group it leads, for whoever ends what it leaves ([`group`]).
    pub note: Option<&'a Path>,
}

/// A process that was started, and leads a session and a group of its own.
#[derive(Debug)]
pub(crate) struct Started {
    /// To reap it.
    pub child: Child,
    /// Its id, which is that of its group too.
    pub pid: Pid,
    /// Readable once it has ended.
    pub pidfd: OwnedFd,
}

/// Why there is no process to watch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StartError {
    /// It never ran: an empty command, a directory or program that is not there, or what the kernel says.
    #[error("{0}")]
    NotStarted(String),
    /// It ran, and could not be watched, so that it was killed with its group. What it did before is unknown.
    #[error("{0}")]
    Killed(String),
}

impl From<String> for StartError {
    fn from(reason: String) -> Self {
        Self::NotStarted(reason)
    }
}

/// Starts a process.
///
/// # Errors
/// [`StartError`]; then nothing of it runs.
pub(crate) fn start(launch: &Launch<'_>) -> Result<Started, StartError> {
    start_watched(launch, |pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()))
}

fn start_watched(
    launch: &Launch<'_>,
    watch: impl FnOnce(Pid) -> rustix::io::Result<OwnedFd>,
) -> Result<Started, StartError> {
    let mut child = spawn(launch)?;
    let pid = pid_of(&child);
    match watch(pid) {
        Ok(pidfd) => Ok(Started { child, pid, pidfd }),
        Err(error) => {
            // It leads its group since before it became the program.
            signal_group(pid, Signal::KILL);
            let _ = child.wait();
            let pid = pid.as_raw_nonzero();
            Err(StartError::Killed(format!("process {pid} could not be watched and was killed: {error}")))
        }
    }
}

/// # Errors
/// A sentence; then nothing was run.
fn spawn(launch: &Launch<'_>) -> Result<Child, String> {
    let name = launch.argv.first().ok_or("the command is empty")?;
    if !launch.directory.is_dir() {
        return Err(format!("the directory {} does not exist", launch.directory.display()));
    }
    let program = find(name, launch)?;
    let image = Image::new(&program, launch)?;
    let mut command = Command::new(&program);
    let (stdout, stderr) = duplicate(&launch.output)
        .and_then(|stdout| Ok((stdout, duplicate(&launch.output)?)))
        .map_err(|error| format!("its output cannot be connected: {error}"))?;
    command.current_dir(launch.directory).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    let note = launch.note.map(|path| {
        group::begin(path).map_err(|error| format!("cannot note it in {}: {error}", path.display()))
    });
    let note = note.transpose()?;
    let parent = rustix::process::getpid();
    let dies_with_parent = launch.dies_with_parent;
    let become_image = move || {
        rustix::process::setsid()?;
        if dies_with_parent {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // The parent may have ended before the line above: then nobody will send the signal.
            if rustix::process::getppid() != Some(parent) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        if let Some(note) = &note {
            group::write_from_child(note)?;
        }
        Err(image.execute())
    };
    // SAFETY: between fork and exec the closure only makes system calls (setsid, prctl, getppid, open, read,
    // write, close, dup2, sigprocmask, getpid, execve) and writes into a buffer that was allocated before the fork.
    unsafe { command.pre_exec(become_image) };
    command.spawn().map_err(|error| format!("{}: {error}", program.display()))
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_child(child)
}

fn duplicate(fd: &OwnedFd) -> io::Result<Stdio> {
    Ok(Stdio::from(fd.try_clone()?))
}

/// Finds a program as a shell would: a name without a slash in the `PATH` of its own environment, any
/// other relative path from its working directory.
fn find(name: &str, launch: &Launch<'_>) -> Result<PathBuf, String> {
    if name.contains('/') {
        let path = launch.directory.join(name);
        return if path.exists() { Ok(path) } else { Err(format!("{} does not exist", path.display())) };
    }
    let path = launch.environment.get("PATH").map_or("", String::as_str);
    let executable = |candidate: &PathBuf| {
        fs::metadata(candidate).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    path.split(':')
        .map(|directory| launch.directory.join(directory).join(name))
        .find(executable)
        .ok_or_else(|| format!("there is no program {name:?} in {path}"))
}

/// The arguments of `execve`, made before the fork: afterwards nothing may be allocated.
struct Image {
    program: CString,
    argv: Pointers,
    envp: Pointers,
    /// `LISTEN_PID=` and room for the digits, which only the child knows. Atomic because it is written while it is
    /// only borrowed: through anything else an optimised build need not write it.
    listen_pid: Vec<AtomicU8>,
    passed: [RawFd; MAX_PASSED],
    passed_count: usize,
}

/// Strings and the null-terminated array of pointers to them.
struct Pointers {
    _strings: Vec<CString>,
    pointers: Vec<*const c_char>,
}

// SAFETY: the pointers are to heap memory that the same value owns and nobody writes to.
unsafe impl Send for Pointers {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for Pointers {}

impl Pointers {
    fn new(texts: impl Iterator<Item = Vec<u8>>) -> Result<Self, String> {
        let strings = texts.map(c_string).collect::<Result<Vec<_>, _>>()?;
        let mut pointers: Vec<_> = strings.iter().map(|text| text.as_ptr()).collect();
        pointers.push(std::ptr::null());
        Ok(Self { _strings: strings, pointers })
    }
}

fn c_string(text: Vec<u8>) -> Result<CString, String> {
    CString::new(text)
        .map_err(|error| format!("{:?} contains a NUL byte", String::from_utf8_lossy(&error.into_vec())))
}

const LISTEN_PID: &[u8] = b"LISTEN_PID=";

/// Of an id, which is below 2^32.
const MAX_DIGITS: usize = 10;

impl Image {
    fn new(program: &Path, launch: &Launch<'_>) -> Result<Self, String> {
        assert!(launch.passed.len() <= MAX_PASSED, "at most {MAX_PASSED} descriptors are passed");
        let mut environment: Vec<Vec<u8>> =
            launch.environment.iter().map(|(name, value)| format!("{name}={value}").into_bytes()).collect();
        let room = std::iter::repeat_n(0, MAX_DIGITS + 1);
        let listen_pid: Vec<_> = LISTEN_PID.iter().copied().chain(room).map(AtomicU8::new).collect();
        if !launch.passed.is_empty() {
            let names: Vec<&str> = launch.passed.iter().map(|(name, _)| *name).collect();
            environment.push(format!("LISTEN_FDS={}", names.len()).into_bytes());
            environment.push(format!("LISTEN_FDNAMES={}", names.join(":")).into_bytes());
        }
        let mut envp = Pointers::new(environment.into_iter())?;
        if !launch.passed.is_empty() {
            // The buffer's heap memory does not move when the value that owns it does.
            envp.pointers.insert(0, listen_pid.as_ptr().cast());
        }
        let mut passed = [-1; MAX_PASSED];
        for (slot, (_, fd)) in passed.iter_mut().zip(launch.passed) {
            *slot = fd.as_raw_fd();
        }
        Ok(Self {
            program: c_string(program.as_os_str().as_bytes().to_vec())?,
            argv: Pointers::new(launch.argv.iter().map(|argument| argument.clone().into_bytes()))?,
            envp,
            listen_pid,
            passed,
            passed_count: launch.passed.len(),
        })
    }

    /// Becomes the program; returns only if that fails. For use between fork and exec.
    fn execute(&self) -> io::Error {
        for (index, fd) in self.passed[..self.passed_count].iter().enumerate() {
            let target = FIRST_PASSED + RawFd::try_from(index).expect("at most MAX_PASSED");
            debug_assert!(*fd >= FIRST_PASSED + 2, "descriptors 3 and 4 are kept free by the holder");
            // SAFETY: dup2 on plain numbers; it clears close-on-exec on the target.
            if unsafe { libc::dup2(*fd, target) } < 0 {
                return io::Error::last_os_error();
            }
        }
        write_decimal(&self.listen_pid[LISTEN_PID.len()..], std::process::id());
        // SAFETY: the set is initialised by sigemptyset before it is used; the arrays are null-terminated
        // and alive; execve does not return on success.
        unsafe {
            let mut none = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
            libc::execve(self.program.as_ptr(), self.argv.pointers.as_ptr(), self.envp.pointers.as_ptr());
        }
        io::Error::last_os_error()
    }
}

/// Writes a number into a buffer of NULs that has room for [`MAX_DIGITS`]. Nothing is allocated.
fn write_decimal(buffer: &[AtomicU8], number: u32) {
    let mut digits = [0u8; MAX_DIGITS];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).expect("below ten");
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    for (place, digit) in buffer.iter().zip(&digits[at..]) {
        place.store(*digit, Ordering::Relaxed);
    }
}

/// Sends a signal to a process group; one that is gone already is no error.
pub(crate) fn signal_group(group: Pid, signal: Signal) {
    let _ = rustix::process::kill_process_group(group, signal);
}

/// Whether a process group has a member that still runs. Zombies do not count: in a container nobody may
/// ever reap them.
pub(crate) fn group_lives(group: Pid) -> bool {
    member_lives(group, 0)
}

/// As [`group_lives`], for a group that was begun `age` ago. Checks are asked every few seconds for ever, and on
/// a host with many processes looking at each of them would be most of what an idle agent does.
pub(crate) fn young_group_lives(group: Pid, age: Duration) -> bool {
    // Ids are given in turn: whoever is in the group was started after its leader and has a higher one, unless
    // they have begun again from below since.
    let leader = group.as_raw_nonzero().get();
    let is_in_turn = age < YOUNG && newest_pid().is_some_and(|newest| newest >= leader);
    member_lives(group, if is_in_turn { leader } else { 0 })
}

/// In so short a time no host starts as many processes as there are ids.
const YOUNG: Duration = Duration::from_secs(5);

/// The id that was given last, from the end of `/proc/loadavg` (proc(5)).
fn newest_pid() -> Option<i32> {
    fs::read_to_string("/proc/loadavg").ok()?.split_ascii_whitespace().nth(4)?.parse().ok()
}

/// Whether a member of the group still runs whose id is `lowest` or higher.
fn member_lives(group: Pid, lowest: i32) -> bool {
    members(group, lowest).map_or(true, |mut members| members.next().is_some())
}

/// The members of a group that still run and whose id is `lowest` or higher.
pub(super) fn members(group: Pid, lowest: i32) -> io::Result<impl Iterator<Item = (i32, Stat)>> {
    let is_gone = rustix::process::test_kill_process_group(group) == Err(rustix::io::Errno::SRCH);
    let entries = if is_gone { None } else { Some(fs::read_dir("/proc")?) };
    Ok(entries
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(move |pid| *pid >= lowest)
        .filter_map(|pid| Some((pid, Stat::of(pid)?)))
        .filter(move |(_, stat)| stat.group == group.as_raw_nonzero().get() && !stat.ended))
}

/// What the kernel says of a process in `/proc/<pid>/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    /// A zombie, or about to be one.
    pub ended: bool,
    /// Its parent.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: i32,
    /// The processor time that it took, in clock ticks.
    pub ticks: u64,
    /// When it was started, in clock ticks since the host was: with the process id, its identity.
    pub started: u64,
}

impl Stat {
    /// Reads it, if there is such a process.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The name of the program, in parentheses, may itself hold spaces and parentheses (proc(5)).
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        let session = fields.next()?.parse().ok()?;
        let (user, system): (u64, u64) = (fields.nth(7)?.parse().ok()?, fields.next()?.parse().ok()?);
        let started = fields.nth(6)?.parse().ok()?;
        let ticks = user.saturating_add(system);
        Some(Self { ended: matches!(state, "Z" | "X" | "x"), parent, group, session, ticks, started })
    }
}

/// Names this run of the kernel: process ids mean nothing after a reboot.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Blocks SIGTERM and SIGINT in this thread and gives a descriptor that is readable once one arrives.
///
/// # Errors
/// What the kernel says.
pub(crate) fn termination() -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by sigemptyset before it is used; signalfd returns a new descriptor
    // that nobody else owns.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::sigaddset(&raw mut set, libc::SIGINT);
        if libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_a_parenthesis_in_its_name_is_read() {
        let text = "42 (a) Z (b)) S 1 40 39 0 -1 4194560 1 0 0 0 5 6 0 0 20 0 1 0 777 1 1";
        let stat = Stat::parse(text).unwrap();
        assert_eq!(stat, Stat { ended: false, parent: 1, group: 40, session: 39, ticks: 11, started: 777 });
    }

    #[test]
    fn this_process_is_found() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(!Stat::of(pid).unwrap().ended);
        assert!(newest_pid().is_some());
    }

    #[test]
    fn a_member_is_found_after_its_leader_has_ended() {
        let mut leader =
            Command::new("sh").args(["-c", "sleep 60 & exit 0"]).process_group(0).spawn().unwrap();
        let group = pid_of(&leader);
        // Not reaped: its id stays taken.
        rustix::process::waitid(
            rustix::process::WaitId::Pid(group),
            rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT,
        )
        .unwrap();
        for age in [Duration::ZERO, YOUNG] {
            assert!(young_group_lives(group, age) && group_lives(group));
        }
        signal_group(group, Signal::KILL);
        while group_lives(group) {
            std::thread::yield_now();
        }
        for age in [Duration::ZERO, YOUNG] {
            assert!(!young_group_lives(group, age));
        }
        leader.wait().unwrap();
    }

    #[test]
    fn a_process_that_cannot_be_watched_is_killed_with_its_group() {
        let directory = tempfile::tempdir().unwrap();
        let pid_file = directory.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", pid_file.display());
        let (_output, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let launch = Launch {
            argv: &["/bin/sh".to_owned(), "-c".to_owned(), script],
            environment: &[("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into(),
            directory: directory.path(),
            output: write,
            passed: &[],
            dies_with_parent: false,
            note: None,
        };
        let mut group = None;
        let started = start_watched(&launch, |pid| {
            group = Some(pid);
            // It has begun its work, and is not alone.
            while !fs::read_to_string(&pid_file).is_ok_and(|text| text.ends_with('\n')) {
                std::thread::yield_now();
            }
            Err(rustix::io::Errno::MFILE)
        });
        assert!(
            matches!(&started, Err(StartError::Killed(reason)) if reason.contains("Too many open files")),
            "{started:?}"
        );
        while group_lives(group.unwrap()) {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_number_is_written_with_its_end() {
        for number in [1, 10, 4_194_304, u32::MAX] {
            let buffer: Vec<_> = (0..=MAX_DIGITS).map(|_| AtomicU8::new(0)).collect();
            write_decimal(&buffer, number);
            let bytes: Vec<u8> = buffer.into_iter().map(AtomicU8::into_inner).collect();
            let text = std::ffi::CStr::from_bytes_until_nul(&bytes).unwrap();
            assert_eq!(text.to_string_lossy(), number.to_string());
        }
    }
}
