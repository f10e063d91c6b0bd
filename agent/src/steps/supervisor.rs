//! A step below a small process of its own, for the one step whose end must be known: the migration.
//!
//! The supervisor (`landfall-agent step-runner`) is a program without a runtime. It gets its order on its
//! standard input, notes durably that it begins, runs the step, keeps its deadline even if the agent is
//! killed, and notes durably how it ended. A restarted agent reads that note ([`recover`]) or waits for it
//! ([`wait`]). Only if the supervisor itself is killed, or the host goes down, is the end unknown; the step's
//! main process is then killed by the kernel, and the rest of its group by whoever learns of it, so that it
//! does not outlive its lease for long.
//!
//! Under systemd the agent's unit needs `KillMode=process`, since the supervisor is in its control group.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use landfall_common::StepName;
use landfall_common::manifest::Step;
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;
use tokio_util::sync::CancellationToken;

use super::group;
use super::output::{KEPT_BYTES, Output};
use super::process::{self, Stat};
use super::runner::{self, Ended, Order};
use super::{Cause, StepContext, StepFailure, StepOutput};
use crate::clock;

/// Room for the note of the end: twice what is kept of the output, since JSON writes line ends as two bytes.
const RESERVE_BYTES: usize = 4 * KEPT_BYTES;

/// How often the note is looked at by an agent that was restarted meanwhile.
const POLL: Duration = Duration::from_millis(100);

/// How supervisors are started, and where this one takes its notes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supervision {
    /// The agent's own program.
    pub program: PathBuf,
    /// What makes it a supervisor, usually `step-runner`.
    pub arguments: Vec<OsString>,
    /// The note: one file per run of a step, named by the caller (rollout, fence), removed by the caller.
    pub note: PathBuf,
}

/// What a note tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovered {
    /// There is no note: the step was never begun.
    NeverBegun,
    /// It still runs, below its supervisor.
    Running,
    /// It has ended.
    Ended(Result<StepOutput, StepFailure>),
    /// The supervisor was killed, or the host went down: nobody knows how the step ended.
    Lost {
        /// Which of the two, as a sentence.
        reason: String,
    },
}

/// What travels to the supervisor.
#[derive(Debug, Serialize, Deserialize)]
struct Instruction {
    step: StepName,
    order: Order,
    /// On the clock that all processes of a host share ([`clock::mono`]), so that the time until the supervisor
    /// runs counts too.
    deadline_ms: u64,
    note: PathBuf,
}

/// The file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Note {
    Begun { step: StepName, boot_id: String, pid: u32, started: u64 },
    Ended { step: StepName, ended: Ended },
}

/// Runs a step below a supervisor and waits for its end. If the future is dropped, or the agent dies, the
/// step goes on until its end or its deadline; cancelling the context ends it.
///
/// # Errors
/// [`StepFailure`], with [`Cause::Lost`] if the supervisor was killed.
pub async fn run(
    step: &Step,
    context: &StepContext,
    supervision: &Supervision,
) -> Result<StepOutput, StepFailure> {
    let not_started = |reason: String| failure(&step.name, Cause::NotStarted { reason });
    if supervision.note.exists() {
        let note = supervision.note.display();
        return Err(not_started(format!("{note} says that it was begun before; it is not run twice")));
    }
    let order = Order::new(step, context).map_err(not_started)?;
    let deadline_ms = clock_ms().saturating_add(millis(order.time));
    let note = supervision.note.clone();
    let instruction = Instruction { step: step.name.clone(), order, deadline_ms, note };
    let bytes = serde_json::to_vec(&instruction).map_err(|error| not_started(error.to_string()))?;

    let mut command = tokio::process::Command::new(&supervision.program);
    command.args(&supervision.arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let new_session = || {
        rustix::process::setsid()?;
        Ok(())
    };
    // SAFETY: between fork and exec only setsid is called.
    unsafe { command.pre_exec(new_session) };
    let mut child = command
        .spawn()
        .map_err(|error| not_started(format!("cannot start {}: {error}", supervision.program.display())))?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    if let Some(mut stdin) = child.stdin.take() {
        // An order that does not arrive whole is not carried out; the note then stays absent.
        let _ = stdin.write_all(&bytes).await;
    }
    let exited = tokio::select! {
        exited = child.wait() => exited,
        () = context.cancel.cancelled() => {
            if let Some(pid) = pid {
                let _ = rustix::process::kill_process(pid, Signal::TERM);
            }
            child.wait().await
        }
    };
    match recover(&supervision.note, &step.name) {
        Recovered::Ended(result) => result,
        Recovered::NeverBegun => {
            let status = exited.map_or_else(|error| error.to_string(), |status| status.to_string());
            Err(not_started(format!("its supervisor ended before it began ({status})")))
        }
        Recovered::Running | Recovered::Lost { .. } => {
            let reason = "its supervisor was killed".to_owned();
            Err(failure(&step.name, left(&supervision.note, reason).await))
        }
    }
}

/// Of a step whose end is unknown: what it has left running is ended, or named.
async fn left(note: &Path, reason: String) -> Cause {
    match group::end(&group_note(note)).await {
        Ok(()) => Cause::Lost { reason },
        Err(left) => Cause::Lost { reason: format!("{reason}, and {left}") },
    }
}

/// What is known of a step that an agent before this one may have begun. If its supervisor was killed, so is
/// what the step has left running.
#[must_use]
pub fn recover(note: &Path, step: &StepName) -> Recovered {
    let recovered = recover_by(note, step, |pid, started| living(pid, started).is_some());
    if matches!(recovered, Recovered::Lost { .. }) {
        group::kill(&group_note(note));
    }
    recovered
}

/// The same, where another than `/proc` knows whether the process that noted the beginning still runs.
pub(super) fn recover_by(note: &Path, step: &StepName, lives: impl Fn(u32, u64) -> bool) -> Recovered {
    let bytes = match fs::read(note) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Recovered::NeverBegun,
        Err(error) => return lost(format!("{} cannot be read: {error}", note.display())),
    };
    match serde_json::from_slice(&bytes) {
        Ok(Note::Ended { ended, .. }) => Recovered::Ended(ended.into_result(step)),
        Ok(Note::Begun { boot_id, .. }) if boot_id != process::boot_id() => {
            lost("the host went down while it ran".to_owned())
        }
        Ok(Note::Begun { pid, started, .. }) => {
            if lives(pid, started) {
                return Recovered::Running;
            }
            // It may have ended between the two looks.
            match fs::read(note).map(|bytes| serde_json::from_slice(&bytes)) {
                Ok(Ok(Note::Ended { ended, .. })) => Recovered::Ended(ended.into_result(step)),
                _ => lost("its supervisor was killed".to_owned()),
            }
        }
        Err(error) => lost(format!("{} cannot be read: {error}", note.display())),
    }
}

/// Waits for the end of a step that an earlier agent has begun: it comes at its deadline at the latest, or once
/// `cancel` is cancelled.
///
/// # Errors
/// [`StepFailure`].
pub async fn wait(
    note: &Path,
    step: &StepName,
    cancel: &CancellationToken,
) -> Result<StepOutput, StepFailure> {
    let mut is_asked = false;
    loop {
        match recover(note, step) {
            Recovered::Running if is_asked => tokio::time::sleep(POLL).await,
            Recovered::Running => {
                let slept = cancel.run_until_cancelled(tokio::time::sleep(POLL)).await;
                if slept.is_none() {
                    is_asked = true;
                    terminate(note);
                }
            }
            Recovered::Ended(result) => return result,
            Recovered::Lost { reason } => return Err(failure(step, left(note, reason).await)),
            Recovered::NeverBegun => {
                let reason = "it was never begun".to_owned();
                return Err(failure(step, Cause::NotStarted { reason }));
            }
        }
    }
}

/// Asks the supervisor that a note names to end its step.
fn terminate(note: &Path) {
    if let Ok(bytes) = fs::read(note)
        && let Ok(Note::Begun { boot_id, pid, started, .. }) = serde_json::from_slice(&bytes)
        && boot_id == process::boot_id()
        && let Some(supervisor) = living(pid, started)
    {
        let _ = rustix::process::kill_process(supervisor, Signal::TERM);
    }
}

/// A process of this boot that still runs.
fn living(pid: u32, started: u64) -> Option<Pid> {
    let pid = i32::try_from(pid).ok()?;
    let stat = Stat::of(pid).filter(|stat| stat.started == started && !stat.ended);
    stat.and_then(|_| Pid::from_raw(pid))
}

/// The supervisor's own process: reads its order from `input` to its end, and carries it out.
///
/// # Errors
/// Before anything was run: an order that is not whole, or a note that cannot be written.
pub fn supervise(input: impl io::Read) -> io::Result<()> {
    let mut bytes = Vec::new();
    let mut input = input.take(4 * 1024 * 1024);
    input.read_to_end(&mut bytes)?;
    let Instruction { step, mut order, deadline_ms, note } = serde_json::from_slice(&bytes)?;
    order.note = Some(group_note(&note));
    let termination = process::termination()?;
    carry_out(&step, order, Some(deadline_ms), &note, &termination, |ended| ended)
}

/// Notes that a step begins, runs it, keeps its deadline, and notes how it ended, which `judge` may say better.
///
/// # Errors
/// A note that cannot be written: before the step has begun, unless it is that of its end.
pub(super) fn carry_out(
    step: &StepName,
    mut order: Order,
    deadline_ms: Option<u64>,
    note: &Path,
    termination: &OwnedFd,
    judge: impl FnOnce(Ended) -> Ended,
) -> io::Result<()> {
    let left = deadline_ms.map(|deadline| Duration::from_millis(deadline.saturating_sub(clock_ms())));
    if left == Some(Duration::ZERO) {
        return refuse(note, step, "its deadline had passed before it could begin".to_owned());
    }
    order.time = left.map_or(order.time, |left| order.time.min(left));
    // What cannot be noted must not be begun.
    if let Err(error) = reserve(note) {
        return refuse(note, step, format!("there is no room to note how it ends: {error}"));
    }
    let pid = std::process::id();
    let started = i32::try_from(pid).ok().and_then(Stat::of).map_or(0, |stat| stat.started);
    save(note, &Note::Begun { step: step.clone(), boot_id: process::boot_id(), pid, started })?;
    let ended = judge(runner::run(&order, Some(termination)));
    let outcome = Ended { cause: ended.cause.clone(), output: Output::default(), took: ended.took };
    // How it ended matters more than what it wrote.
    save_reserved(note, &Note::Ended { step: step.clone(), ended })
        .or_else(|_| save_reserved(note, &Note::Ended { step: step.clone(), ended: outcome }))
}

/// Notes that a step is not begun, and why.
///
/// # Errors
/// If that cannot be written.
pub(super) fn refuse(note: &Path, step: &StepName, reason: String) -> io::Result<()> {
    let cause = Some(Cause::NotStarted { reason });
    let ended = Ended { cause, output: Output::default(), took: Duration::ZERO };
    save(note, &Note::Ended { step: step.clone(), ended })
}

/// Room for the note of the end, which a step that fills the disk up cannot take: else nobody would know how
/// it ended.
fn reserve(note: &Path) -> io::Result<()> {
    let path = beside(note, ".reserve");
    let mut file = create(&path)?;
    let reserved = file.write_all(&vec![0; RESERVE_BYTES]).and_then(|()| file.sync_all());
    if reserved.is_err() {
        // A part of it is of no use, and takes the room to say so.
        let _ = fs::remove_file(&path);
    }
    reserved
}

/// Writes over what was reserved. The room that is not needed is given up last.
fn save_reserved(path: &Path, note: &Note) -> io::Result<()> {
    let reserved = beside(path, ".reserve");
    let bytes = serde_json::to_vec(note)?;
    let mut file = File::options().write(true).open(&reserved)?;
    file.write_all(&bytes)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_all()?;
    name(&reserved, path)
}

fn save(path: &Path, note: &Note) -> io::Result<()> {
    let temporary = beside(path, ".new");
    let mut file = create(&temporary)?;
    file.write_all(&serde_json::to_vec(note)?)?;
    file.sync_all()?;
    name(&temporary, path)
}

/// Gives a whole file its name, durably: without the directory the name may be lost with the power, and the
/// step would look never begun.
fn name(file: &Path, path: &Path) -> io::Result<()> {
    fs::rename(file, path)?;
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

fn create(path: &Path) -> io::Result<File> {
    fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o640).open(path)
}

/// Where the step notes its group.
fn group_note(note: &Path) -> PathBuf {
    beside(note, ".group")
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(suffix);
    name.into()
}

pub(super) fn failure(step: &StepName, cause: Cause) -> StepFailure {
    StepFailure { step: step.clone(), cause, output: Box::default(), took: Duration::ZERO }
}

fn lost(reason: String) -> Recovered {
    Recovered::Lost { reason }
}

pub(super) fn clock_ms() -> u64 {
    millis(clock::mono())
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
