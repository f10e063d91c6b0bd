//! Steps: running one command of a release with a deadline, a clean environment and bounded output.
//!
//! A step is an argv; no shell is involved unless the argv names one. It runs in its own session and
//! process group, with nothing on its standard input. When its main process ends, whatever it left behind
//! in its group is ended too, and nothing that still holds its output open can make the runner wait. At the
//! deadline (the step's timeout or that of the context, whichever comes first, on a clock that goes on while the host
//! sleeps) the
//! group gets SIGTERM, five seconds later SIGKILL.
//!
//! [`run`] runs a step below the agent. If the agent is killed, the kernel kills the main process of the step
//! with it, and what that has started goes on: until the next agent [ends it](end_left), which it does before
//! it runs anything. [`supervisor::run`] runs a step below a small process of its own that keeps the deadline
//! even if the agent is killed, and writes how the step ended where a restarted agent finds it. [`cage`]
//! runs it in a unit of systemd's, as another user. Deciding which step runs, and what a failure means, is not
//! done here.

pub mod cage;
pub mod environment;
mod group;
pub mod log;
pub mod output;
pub(crate) mod process;
mod runner;
pub mod supervisor;

use std::path::PathBuf;
use std::time::Duration;

use landfall_common::StepName;
use landfall_common::manifest::Step;
use landfall_common::report::Failure;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

pub use environment::{Identity, UnknownWord, Words};
pub use group::end as end_left;
pub use output::Output;

/// Between SIGTERM and SIGKILL to the group of a step: long enough to roll a transaction back.
pub const GRACE: Duration = Duration::from_secs(5);

/// What surrounds a step.
#[derive(Debug, Clone)]
pub struct StepContext {
    /// Whose step it is; becomes `LANDFALL_*`.
    pub identity: Identity,
    /// What `{words}` stand for.
    pub words: Words,
    /// Where it runs: usually the release's directory.
    pub directory: PathBuf,
    /// `HOME`.
    pub home: PathBuf,
    /// The number of the lease under which it migrates; becomes `LANDFALL_FENCE`.
    pub fence: Option<u64>,
    /// Where its output is also written, below a line that names release, step and time, at most
    /// [`log::STEP_LOG_BYTES`] (and as much again in `<log>.1`).
    pub log: Option<PathBuf>,
    /// Where it is noted which processes are the step's, so that those which outlive a killed agent are found
    /// and ended; of no other step that runs at the same time. A supervisor has a place of its own for it.
    pub group_note: Option<PathBuf>,
    /// An end that comes before the step's own timeout, such as that of a lease: on the clock of
    /// [`mono`](crate::clock::mono).
    pub deadline: Option<Duration>,
    /// Ends the step's group when cancelled.
    pub cancel: CancellationToken,
}

/// A step that exited 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepOutput {
    /// What it wrote, within bounds.
    pub output: Output,
    /// How long it ran.
    #[serde(rename = "took_ms", with = "landfall_common::time::duration_ms")]
    pub took: Duration,
}

/// A step that did not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("step {step} {cause}")]
pub struct StepFailure {
    /// Which.
    pub step: StepName,
    /// In what way.
    pub cause: Cause,
    /// What it wrote, within bounds.
    pub output: Box<Output>,
    /// How long it ran.
    #[serde(rename = "took_ms", with = "landfall_common::time::duration_ms")]
    pub took: Duration,
}

/// In what way a step failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Cause {
    /// It never ran.
    NotStarted {
        /// Why, as a sentence.
        reason: String,
    },
    /// It ran to its own end with this code, which is not 0.
    Exited {
        /// The code.
        code: i32,
    },
    /// A signal that the agent did not send ended it.
    Signalled {
        /// Its number.
        signal: i32,
    },
    /// The kernel killed it since its unit may not have more memory.
    OutOfMemory,
    /// It was ended after this long, by its timeout or the context's deadline.
    TimedOut {
        /// How long.
        #[serde(rename = "after_ms", with = "landfall_common::time::duration_ms")]
        after: Duration,
    },
    /// It was ended because nobody wants its result any more.
    Cancelled,
    /// The runner cannot tell how it ended.
    Lost {
        /// Why, as a sentence.
        reason: String,
    },
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotStarted { reason } => write!(f, "could not be started: {reason}"),
            Self::Exited { code } => write!(f, "exited with code {code}"),
            Self::Signalled { signal } => write!(f, "was killed by signal {signal}"),
            Self::OutOfMemory => {
                write!(f, "was killed: it took more memory than its unit may have (MemoryMax)")
            }
            Self::TimedOut { after } => {
                write!(
                    f,
                    "was ended after {}: it ran out of time",
                    landfall_common::time::human::format(*after)
                )
            }
            Self::Cancelled => write!(f, "was cancelled"),
            Self::Lost { reason } => write!(f, "has an unknown end: {reason}"),
        }
    }
}

impl StepFailure {
    /// Whether the step ran to its own end, so that what it did is known to be over. A step that was
    /// killed may have done its work or half of it.
    #[must_use]
    pub fn is_conclusive(&self) -> bool {
        matches!(self.cause, Cause::NotStarted { .. } | Cause::Exited { .. })
    }

    /// The form in which it is reported.
    #[must_use]
    pub fn to_failure(&self) -> Failure {
        let exit_code = match self.cause {
            Cause::Exited { code } => Some(code),
            _ => None,
        };
        Failure {
            step: self.step.clone(),
            reason: format!("step {} {}", self.step, self.cause),
            exit_code,
            tail: self.output.last_lines(),
        }
    }
}

impl From<StepFailure> for Failure {
    fn from(failure: StepFailure) -> Self {
        failure.to_failure()
    }
}

/// Runs a step to its end, below the agent, after what an earlier one noted in the same place has ended.
/// Dropping the future ends the step's group, as cancelling does.
///
/// # Errors
/// [`StepFailure`] unless it exits 0 in time.
pub async fn run(step: &Step, context: &StepContext) -> Result<StepOutput, StepFailure> {
    let fail = |reason: String| StepFailure {
        step: step.name.clone(),
        cause: Cause::NotStarted { reason },
        output: Box::default(),
        took: Duration::ZERO,
    };
    if let Some(note) = &context.group_note
        && let Err(left) = group::end(note).await
    {
        // It was sent SIGKILL and does nothing any more but what the kernel holds it for: a host must be able to
        // go back all the same. Where not even that may happen, whoever runs the step has asked before.
        tracing::warn!(step = %step.name, left, "the step runs beside an earlier one");
    }
    let mut order = runner::Order::new(step, context).map_err(&fail)?;
    if let Some(note) = &context.group_note
        && let Err(error) = group::begin(note)
    {
        // A host whose disk is full must be able to go back all the same.
        tracing::warn!(step = %step.name, note = %note.display(), %error, "the step runs without a note");
        order.note = None;
    }
    let (cancel, watched) = runner::cancellation().map_err(|error| fail(error.to_string()))?;
    // The blocking thread sees the other end of `cancel` close: when the token fires, and also when this
    // future is dropped halfway.
    let work = tokio::task::spawn_blocking(move || runner::run(&order, Some(&watched)));
    let mut work = std::pin::pin!(work);
    let joined = tokio::select! {
        joined = &mut work => joined,
        () = context.cancel.cancelled() => {
            drop(cancel);
            work.await
        }
    };
    let ended = joined.map_err(|error| fail(format!("the runner's thread died: {error}")))?;
    ended.into_result(&step.name)
}
