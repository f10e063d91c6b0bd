//! The engine on a thread of its own: it waits for events, and for the disk, without holding up the network.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc as blocking;
use std::time::{Duration, Instant};

use landfall_agent_core::Event;
use landfall_agent_core::drift::Finding;
use landfall_common::assignment::Assignment;
use landfall_common::report::HostReport;
use landfall_common::{ReleaseName, Sha256};
use tokio::sync::{mpsc, watch};

use crate::engine::standing::Standing;
use crate::engine::{Disks, Engine, Runner, Task};
use crate::error::{AgentError, chain};
use crate::{clock, memory};

/// Between two pieces of removing what is not needed any more.
const SWEEP_PAUSE: Duration = Duration::from_millis(20);

/// Between two attempts to write a ledger that could not be written, or a sweep that failed.
const RETRY: Duration = Duration::from_secs(1);

enum Message {
    Event(Event),
    Report,
    Standing { answer: blocking::Sender<Option<Standing>> },
    Mend { release: ReleaseName, items: Vec<Finding>, answer: blocking::Sender<Mended> },
    Stop,
}

/// What came of each item that was to be put right; or why none was touched.
pub type Mended = Result<Vec<Result<(), String>>, String>;

/// How others reach the engine.
#[derive(Clone)]
pub struct EngineHandle {
    messages: blocking::Sender<Message>,
    given: Arc<AtomicU64>,
    taken: Arc<AtomicU64>,
}

/// What the engine said.
#[derive(Debug, Clone)]
pub struct Said {
    /// Its report.
    pub report: HostReport,
    /// When.
    pub at: Instant,
    /// Of how many of the [assignments given](EngineHandle::given) it knows.
    pub taken: u64,
}

impl EngineHandle {
    /// Gives it an event. Once it has stopped, nothing happens.
    pub fn send(&self, event: Event) {
        let _ = self.messages.send(Message::Event(event));
    }

    /// Gives it a verified assignment.
    pub fn assign(&self, assignment: Box<Assignment>, digest: Sha256) {
        self.given.fetch_add(1, Ordering::AcqRel);
        self.send(Event::Assigned { assignment, digest });
    }

    /// How many assignments it was given.
    #[must_use]
    pub fn given(&self) -> u64 {
        self.given.load(Ordering::Acquire)
    }

    /// How many of them it has not decided on yet.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        self.given().saturating_sub(self.taken.load(Ordering::Acquire))
    }

    /// Asks for a report; it comes through [`Outlet::reports`].
    pub fn request_report(&self) {
        let _ = self.messages.send(Message::Report);
    }

    /// What is to be beside the files of the active release ([`Engine::standing`]); `None` if that is not settled. Blocks.
    #[must_use]
    pub fn standing(&self) -> Option<Standing> {
        let (answer, answered) = blocking::channel();
        self.messages.send(Message::Standing { answer }).ok()?;
        answered.recv().ok()?
    }

    /// Has things put right that are not as they were applied ([`Engine::mend`]). Blocks until it is done.
    ///
    /// # Errors
    /// Why nothing was touched.
    pub fn mend(&self, release: ReleaseName, items: Vec<Finding>) -> Mended {
        let (answer, answered) = blocking::channel();
        let stopped = || "the agent is stopping".to_owned();
        self.messages.send(Message::Mend { release, items, answer }).map_err(|_| stopped())?;
        answered.recv().map_err(|_| stopped())?
    }

    /// Ends it after what it was given before.
    pub fn stop(&self) {
        let _ = self.messages.send(Message::Stop);
    }
}

/// What comes out of the engine.
pub struct Outlet {
    /// What it wants done.
    pub tasks: mpsc::UnboundedReceiver<Task>,
    /// What the engine said last.
    pub reports: watch::Receiver<Option<Said>>,
}

/// The engine's runner: passes everything on.
struct Inlet {
    tasks: mpsc::UnboundedSender<Task>,
    reports: watch::Sender<Option<Said>>,
    taken: Arc<AtomicU64>,
}

impl Runner for Inlet {
    fn start(&mut self, task: Task) {
        let _ = self.tasks.send(task);
    }

    fn report(&mut self, report: HostReport) {
        let taken = self.taken.load(Ordering::Acquire);
        self.reports.send_replace(Some(Said { report, at: Instant::now(), taken }));
    }

    fn taken(&mut self) {
        self.taken.fetch_add(1, Ordering::AcqRel);
    }
}

/// The thread.
pub struct EngineThread(std::thread::JoinHandle<()>);

impl EngineThread {
    /// Waits until it has ended.
    pub fn join(self) {
        if self.0.join().is_err() {
            tracing::error!("the engine's thread panicked");
        }
    }
}

/// Opens the engine and gives it a thread.
///
/// # Errors
/// Those of [`Engine::open`]; [`AgentError::Layout`] if there can be no thread.
pub fn start(disks: Disks) -> Result<(EngineHandle, Outlet, EngineThread), AgentError> {
    let (task_sender, tasks) = mpsc::unbounded_channel();
    let (report_sender, reports) = watch::channel(None);
    let (given, taken) = (Arc::default(), Arc::<AtomicU64>::default());
    let inlet = Inlet { tasks: task_sender, reports: report_sender, taken: taken.clone() };
    let engine = Engine::open(disks, inlet)?;
    let (sender, messages) = blocking::channel();
    let thread = std::thread::Builder::new()
        .name("engine".to_owned())
        .stack_size(1024 * 1024)
        .spawn(move || serve(engine, &messages))
        .map_err(|error| AgentError::Layout(format!("the engine's thread cannot be started: {error}")))?;
    let handle = EngineHandle { messages: sender, given, taken };
    handle.send(Event::Started);
    Ok((handle, Outlet { tasks, reports }, EngineThread(thread)))
}

fn serve(mut engine: Engine<Inlet>, messages: &blocking::Receiver<Message>) {
    // A sweep that was begun before a restart is asked for anew by the first event.
    let mut sweeping = true;
    // Until then the ledger is not tried again.
    let mut behind: Option<Instant> = None;
    loop {
        let wait = match (engine.wake_after(), sweeping) {
            (Some(wait), true) => Some(wait.min(SWEEP_PAUSE)),
            (Some(wait), false) => Some(wait),
            (None, true) => Some(SWEEP_PAUSE),
            (None, false) => None,
        };
        let message = match wait {
            Some(wait) => messages.recv_timeout(wait),
            None => messages.recv().map_err(|_| blocking::RecvTimeoutError::Disconnected),
        };
        match message {
            Ok(Message::Event(event)) => {
                if behind.is_some_and(|until| Instant::now() < until) {
                    engine.defer(event);
                } else {
                    behind = handle(&mut engine, event);
                }
                sweeping = true;
            }
            Ok(Message::Report) => {
                let report = engine.report(clock::now());
                engine.runner().report(report);
            }
            Ok(Message::Standing { answer }) => {
                let _ = answer.send(engine.standing());
            }
            Ok(Message::Mend { release, items, answer }) => {
                // Who asked may have gone away.
                let _ = answer.send(engine.mend(&release, &items));
            }
            Err(blocking::RecvTimeoutError::Timeout) => {
                if engine.wake_after().is_some() {
                    behind = handle(&mut engine, Event::Tick);
                }
                if sweeping {
                    sweeping = engine.work().unwrap_or_else(|error| {
                        tracing::warn!(error = %chain(&error), "an old release cannot be removed now");
                        false
                    });
                    if !sweeping {
                        memory::give_back();
                    }
                }
            }
            Ok(Message::Stop) | Err(blocking::RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Until when to leave the ledger alone, if it could not be written: meanwhile events are taken, so that they do
/// not pile up, and a wish to stop is heard.
fn handle(engine: &mut Engine<Inlet>, event: Event) -> Option<Instant> {
    let error = engine.handle(event, clock::now()).err()?;
    tracing::error!(error = %chain(&error), "the ledger cannot be written; nothing is begun until it can");
    Some(Instant::now() + RETRY)
}
