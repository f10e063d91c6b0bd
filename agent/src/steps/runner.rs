//! Runs one process to its end: reads what it writes, keeps its deadline, ends what it leaves behind.
//!
//! Synchronous on purpose: the supervisor runs it without a runtime, the agent on a blocking thread.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use landfall_common::StepName;
use landfall_common::manifest::Step;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::group;
use super::log::{Log, STEP_LOG_BYTES};
use super::output::{Capture, Output};
use super::process::{self, Launch, StartError, Started};
use super::{Cause, GRACE, StepContext, StepFailure, StepOutput};
use crate::clock;

/// How often a group that has been asked to end is looked at.
const GROUP_POLL: Duration = Duration::from_millis(20);

/// After SIGKILL a process that waits for a broken disk or file server may stay for ever: give it up then.
const UNKILLABLE: Duration = Duration::from_secs(10);

/// How often the clock is looked at: the kernel's timeouts stand still while the host sleeps, deadlines do not.
const LOOK: Duration = Duration::from_secs(1);

/// What is still in the pipe after the end is read up to here; whoever writes more is not of the step.
const DRAIN_BYTES: usize = 1024 * 1024;

/// A step with all its words replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Order {
    pub argv: Vec<String>,
    pub environment: BTreeMap<String, String>,
    pub directory: PathBuf,
    pub log: Option<PathBuf>,
    /// Begins this run in the log, which other runs have too.
    pub heading: String,
    /// Where it notes which group it leads.
    pub note: Option<PathBuf>,
    #[serde(rename = "time_ms", with = "landfall_common::time::duration_ms")]
    pub time: Duration,
}

impl Order {
    pub fn new(step: &Step, context: &StepContext) -> Result<Self, String> {
        let words = &context.words;
        let left = context.deadline.map(|deadline| deadline.saturating_sub(clock::mono()));
        if left == Some(Duration::ZERO) {
            return Err("its deadline had passed before it could begin".to_owned());
        }
        let mut environment = words
            .environment(&context.identity, &context.home, &step.environment)
            .map_err(|error| error.to_string())?;
        if let Some(fence) = context.fence {
            environment.insert("LANDFALL_FENCE".to_owned(), fence.to_string());
        }
        Ok(Self {
            argv: words.command(&step.command).map_err(|error| error.to_string())?,
            environment,
            directory: context.directory.clone(),
            log: context.log.clone(),
            heading: format!("--- {} {} {}\n", context.identity.release, step.name, crate::clock::wall()),
            note: context.group_note.clone(),
            time: left.map_or(step.timeout, |left| left.min(step.timeout)),
        })
    }
}

/// How it ended; no cause means exit code 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ended {
    pub cause: Option<Cause>,
    pub output: Output,
    #[serde(rename = "took_ms", with = "landfall_common::time::duration_ms")]
    pub took: Duration,
}

impl Ended {
    pub fn into_result(self, step: &StepName) -> Result<StepOutput, StepFailure> {
        let Self { cause, output, took } = self;
        match cause {
            None => Ok(StepOutput { output, took }),
            Some(cause) => Err(StepFailure { step: step.clone(), cause, output: Box::new(output), took }),
        }
    }
}

/// A pair of descriptors: when the first is closed, the second becomes readable.
pub(super) fn cancellation() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    Ok((write, read))
}

/// Runs a process until it and its group have ended. Ends them when `cancel` becomes readable.
pub(super) fn run(order: &Order, cancel: Option<&OwnedFd>) -> Ended {
    let begun = clock::mono();
    let mut capture = Capture::default();
    let cause = match Running::start(order) {
        Err(cause) => Some(cause),
        Ok(running) => running.finish(order.time, cancel, &mut capture),
    };
    if let Some(note) = &order.note
        && !matches!(cause, Some(Cause::Lost { .. }))
    {
        group::forget(note);
    }
    Ended { cause, output: capture.finish(), took: since(begun) }
}

struct Running {
    started: Started,
    output: OwnedFd,
    log: Option<Log>,
    begun: Duration,
}

impl Running {
    fn start(order: &Order) -> Result<Self, Cause> {
        let no_pipe = |error| Cause::NotStarted { reason: format!("no pipe for its output: {error}") };
        let (output, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(no_pipe)?;
        rustix::fs::fcntl_setfl(&output, OFlags::NONBLOCK).map_err(no_pipe)?;
        let begun = clock::mono();
        let started = process::start(&Launch {
            argv: &order.argv,
            environment: &order.environment,
            directory: &order.directory,
            output: write,
            passed: &[],
            dies_with_parent: true,
            note: order.note.as_deref(),
        })?;
        let mut log = order.log.as_deref().map(|path| Log::open(path, STEP_LOG_BYTES));
        if let Some(log) = &mut log {
            log.write(order.heading.as_bytes());
        }
        Ok(Self { started, output, log, begun })
    }

    /// Three stages: it runs; it or its group has been asked to end; it has been killed.
    fn finish(mut self, time: Duration, cancel: Option<&OwnedFd>, capture: &mut Capture) -> Option<Cause> {
        let group = self.started.pid;
        let mut cause = None;
        let mut asked_at: Option<Duration> = None;
        let deadline = self.begun.saturating_add(time);
        let mut main_ended = false;
        let mut output_open = true;
        loop {
            let now = clock::mono();
            if main_ended && !process::young_group_lives(group, since(self.begun)) {
                break;
            }
            if asked_at.is_none() && (main_ended || now >= deadline) {
                if !main_ended {
                    cause = Some(Cause::TimedOut { after: since(self.begun) });
                }
                process::signal_group(group, Signal::TERM);
                asked_at = Some(now);
            }
            let wake_at = match asked_at {
                Some(asked_at) if now >= asked_at + GRACE + UNKILLABLE => {
                    let reason = "it does not even end by SIGKILL: the kernel holds it".to_owned();
                    return Some(Cause::Lost { reason });
                }
                Some(asked_at) if now >= asked_at + GRACE => {
                    process::signal_group(group, Signal::KILL);
                    now + GROUP_POLL
                }
                Some(_) => now + GROUP_POLL,
                None => deadline,
            };
            let seen = self.wait(wake_at, cancel.filter(|_| asked_at.is_none()), main_ended, output_open);
            if seen.output {
                output_open = self.read(capture);
            }
            main_ended |= seen.ended;
            if seen.cancelled && asked_at.is_none() && !main_ended {
                cause = Some(Cause::Cancelled);
                process::signal_group(group, Signal::TERM);
                asked_at = Some(clock::mono());
            }
        }
        let mut left = DRAIN_BYTES;
        while left > 0 && self.read(capture) && self.wait(Duration::ZERO, None, true, true).output {
            left = left.saturating_sub(64 * 1024);
        }
        // Reaped only now: until here its id could not be given to another group.
        let status = self.started.child.wait();
        cause.or_else(|| match status {
            Ok(status) => from_status(status),
            Err(error) => Some(Cause::Lost { reason: format!("its exit status cannot be read: {error}") }),
        })
    }

    /// Waits for the next thing to happen, or the time, but never for longer than [`LOOK`].
    fn wait(&self, until: Duration, cancel: Option<&OwnedFd>, main_ended: bool, output: bool) -> Seen {
        let none = PollFlags::empty();
        let mut fds = vec![
            PollFd::new(&self.output, if output { PollFlags::IN } else { none }),
            PollFd::new(&self.started.pidfd, if main_ended { none } else { PollFlags::IN }),
        ];
        if !output {
            // A closed pipe reports its end even when nothing was asked of it, and would keep this busy.
            fds.remove(0);
        }
        let ended_at = fds.len() - 1;
        fds.extend(cancel.map(|fd| PollFd::new(fd, PollFlags::IN)));
        let left = until.saturating_sub(clock::mono()).min(LOOK);
        let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
        if main_ended {
            // Likewise: a pidfd stays readable for ever.
            fds.remove(ended_at);
        }
        let _ = rustix::event::poll(&mut fds, Some(&timeout));
        let mut flags = fds.iter().map(|fd| !fd.revents().is_empty());
        Seen {
            output: output && flags.next().unwrap_or(false),
            ended: !main_ended && flags.next().unwrap_or(false),
            cancelled: cancel.is_some() && flags.next().unwrap_or(false),
        }
    }

    /// Reads once; false at the end of the stream.
    fn read(&mut self, capture: &mut Capture) -> bool {
        let mut buffer = [0; 64 * 1024];
        match rustix::io::read(&self.output, &mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                capture.push(&buffer[..count]);
                if let Some(log) = &mut self.log {
                    log.write(&buffer[..count]);
                }
                true
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => true,
            Err(_) => false,
        }
    }
}

fn since(begun: Duration) -> Duration {
    clock::mono().saturating_sub(begun)
}

struct Seen {
    output: bool,
    ended: bool,
    cancelled: bool,
}

/// One that ran before it was killed may have done its work: a migration's end is then for a person to find out.
impl From<StartError> for Cause {
    fn from(error: StartError) -> Self {
        match error {
            StartError::NotStarted(reason) => Self::NotStarted { reason },
            StartError::Killed(reason) => Self::Lost { reason },
        }
    }
}

fn from_status(status: ExitStatus) -> Option<Cause> {
    match (status.code(), status.signal()) {
        (Some(0), _) => None,
        (Some(code), _) => Some(Cause::Exited { code }),
        (None, Some(signal)) => Some(Cause::Signalled { signal }),
        (None, None) => Some(Cause::Lost { reason: "it has neither an exit code nor a signal".to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_never_ran_is_conclusive_when_nothing_was_started() {
        let failure = |error: StartError| StepFailure {
            step: "migrate".parse().unwrap(),
            cause: error.into(),
            output: Box::default(),
            took: Duration::ZERO,
        };
        assert!(failure(StartError::NotStarted("no program".to_owned())).is_conclusive());
        assert!(!failure(StartError::Killed("not watched".to_owned())).is_conclusive());
    }
}
