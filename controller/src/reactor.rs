//! The one task that owns the planner's state.
//!
//! Everything that decides passes through here, one thing after the other: an event comes in, the planner
//! decides, changes and log entries become durable in one commit, then they are applied, then the effects
//! are carried out. Heartbeats change only what is in memory.
//!
//! The queue is bounded: when ten thousand agents come back at once their streams wait, and the planner
//! runs over many reports at a time.

mod sessions;

use std::sync::Arc;

use bytes::Bytes;
use landfall_common::assignment::{ASSIGNMENT_TYPE, Assignment};
use landfall_common::report::HostReport;
use landfall_common::{Duration, HostId, RolloutId, Timestamp, canonical};
use landfall_controller_core::asked::{Question, Word};
use landfall_controller_core::command::{Answer, Command};
use landfall_controller_core::log::NewEntry;
use landfall_controller_core::observation::{Attention, Figures, Observation};
use landfall_controller_core::reason::PlanningReport;
use landfall_controller_core::record::{Change, Key, Place, RECORDS, Record};
use landfall_controller_core::{Effect, Output, State, decide, plan};
use landfall_trust::director::sign_document;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::asker::Asker;
use crate::clock::Clock;
use crate::error::{ControllerError, Reason};
use crate::keys::OnlineKeys;
use crate::store::{Batch, Store};
use crate::writer::Writer;
pub use sessions::{Order, Orders, Sessions};

/// Events that wait; beyond that, those who bring them wait.
const QUEUE: usize = 4096;

/// Events that are taken in before the planner runs.
const TAKEN_AT_ONCE: usize = 1024;

/// The planner runs at most this often because of reports: each run may look at every host of a place.
const PLAN_PAUSE: Duration = Duration::from_millis(20);

/// And at least so many times as long as a run takes lies between two, so that it never has more than a
/// fifth of a core.
const PLAN_SHARE: u32 = 4;

/// The pause after a decision that could not be made durable.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// What is committed together with a decision.
#[derive(Debug, Default)]
pub struct Along {
    /// Changes that are not the planner's.
    pub batch: Batch,
    /// Entries of the log beside the planner's own.
    pub entries: Vec<NewEntry>,
}

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The planner's answer.
    pub answer: Answer,
    /// Whether the same request was answered before: then nothing has happened this time.
    pub repeated: bool,
}

enum Event {
    Command { command: Box<Command>, along: Along, reply: oneshot::Sender<Result<Done, ControllerError>> },
    Connected { host: HostId, connection: u64, orders: Orders },
    Disconnected { host: HostId, connection: u64 },
    Reported { host: HostId, connection: u64, report: Box<HostReport> },
    Measured { host: HostId, connection: u64, figures: Figures },
    RepairDrift { host: HostId, request_id: String, reply: oneshot::Sender<bool> },
    Read(Box<dyn FnOnce(&View<'_>) + Send>),
}

/// What a reader sees, all of one moment.
pub struct View<'v> {
    /// The planner's state.
    pub state: &'v State,
    /// Why it does not go on.
    pub report: &'v PlanningReport,
    /// When.
    pub now: Timestamp,
}

/// The way to the reactor.
#[derive(Clone)]
pub struct Reactor {
    events: mpsc::Sender<Event>,
    changed: watch::Receiver<u64>,
}

impl Reactor {
    /// Loads the state from the store and starts the task, which ends when `stop` is cancelled. If the store
    /// fails for good the task cancels `stop` itself and returns the reason.
    ///
    /// # Errors
    /// [`ControllerError::Store`], [`ControllerError::Record`].
    pub async fn start(
        store: &dyn Store,
        writer: Arc<Writer>,
        keys: Arc<OnlineKeys>,
        asker: Asker,
        clock: Clock,
        stop: CancellationToken,
    ) -> Result<(Self, tokio::task::JoinHandle<Result<(), ControllerError>>), ControllerError> {
        let mut records = Vec::new();
        for prefix in RECORDS {
            for entry in store.scan(prefix).await?.entries {
                let record: Record = serde_json::from_slice(&entry.value)
                    .map_err(|source| ControllerError::Record { key: entry.key.clone(), source })?;
                records.push(record);
            }
        }
        let mut state = State::load(records, clock.now());
        state.allow_gates(asker.allowed());
        let (events, queue) = mpsc::channel(QUEUE);
        let (tick, changed) = watch::channel(0);
        let core = Core {
            state,
            report: PlanningReport::default(),
            sessions: Sessions::default(),
            writer,
            keys,
            asker: Arc::new(asker),
            questions: JoinSet::new(),
            leaps: clock.leaps(),
            clock,
            tick,
            plan_due: Some(Instant::now()),
            plan_pause: PLAN_PAUSE,
            unstored_since: None,
        };
        let task = tokio::spawn(core.run(queue, stop));
        Ok((Self { events, changed }, task))
    }

    /// Asks for something; the answer comes when it is durable.
    ///
    /// # Errors
    /// [`ControllerError::Refused`] with the planner's sentence, [`ControllerError::Store`].
    pub async fn command(&self, command: Command, along: Along) -> Result<Done, ControllerError> {
        let (reply, answer) = oneshot::channel();
        self.send(Event::Command { command: Box::new(command), along, reply }).await?;
        answer.await.map_err(|_| ControllerError::Stopping)?
    }

    /// Has a host put right what differs from its release; what came of it the host says later.
    ///
    /// # Errors
    /// [`ControllerError::Refused`] if the host cannot be told, [`ControllerError::Stopping`].
    pub async fn repair_drift(&self, host: HostId, request_id: String) -> Result<(), ControllerError> {
        let (reply, answer) = oneshot::channel();
        self.send(Event::RepairDrift { host: host.clone(), request_id, reply }).await?;
        if answer.await.map_err(|_| ControllerError::Stopping)? {
            return Ok(());
        }
        let message =
            format!("{host} is not connected, or does not listen; ask again when `ctl hosts` shows it");
        Err(ControllerError::refused(Reason::Precondition, message))
    }

    /// Looks at the state.
    ///
    /// # Errors
    /// [`ControllerError::Stopping`].
    pub async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&View<'_>) -> T + Send + 'static,
    ) -> Result<T, ControllerError> {
        let (reply, answer) = oneshot::channel();
        let look = Box::new(move |view: &View<'_>| {
            // Who asked may have gone away.
            let _ = reply.send(look(view));
        });
        self.send(Event::Read(look)).await?;
        answer.await.map_err(|_| ControllerError::Stopping)
    }

    /// A host has connected; its orders go there until it disconnects or connects anew.
    ///
    /// # Errors
    /// [`ControllerError::Stopping`].
    pub async fn connected(
        &self,
        host: HostId,
        connection: u64,
        orders: Orders,
    ) -> Result<(), ControllerError> {
        self.send(Event::Connected { host, connection, orders }).await
    }

    /// A connection has ended.
    ///
    /// # Errors
    /// [`ControllerError::Stopping`].
    pub async fn disconnected(&self, host: HostId, connection: u64) -> Result<(), ControllerError> {
        self.send(Event::Disconnected { host, connection }).await
    }

    /// A host reports.
    ///
    /// # Errors
    /// [`ControllerError::Stopping`].
    pub async fn reported(
        &self,
        host: HostId,
        connection: u64,
        report: HostReport,
    ) -> Result<(), ControllerError> {
        self.send(Event::Reported { host, connection, report: Box::new(report) }).await
    }

    /// A host tells what it has measured.
    ///
    /// # Errors
    /// [`ControllerError::Stopping`].
    pub async fn measured(
        &self,
        host: HostId,
        connection: u64,
        figures: Figures,
    ) -> Result<(), ControllerError> {
        self.send(Event::Measured { host, connection, figures }).await
    }

    /// Changes whenever the state may look different.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.clone()
    }

    async fn send(&self, event: Event) -> Result<(), ControllerError> {
        self.events.send(event).await.map_err(|_| ControllerError::Stopping)
    }
}

struct Core {
    state: State,
    report: PlanningReport,
    sessions: Sessions,
    writer: Arc<Writer>,
    keys: Arc<OnlineKeys>,
    asker: Arc<Asker>,
    /// Those to gates that are under way; they end with this.
    questions: JoinSet<(Question, Result<Word, String>)>,
    clock: Clock,
    leaps: u64,
    tick: watch::Sender<u64>,
    plan_due: Option<Instant>,
    plan_pause: Duration,
    /// Since when nothing that was planned could be made durable.
    unstored_since: Option<Timestamp>,
}

impl Core {
    async fn run(
        mut self,
        mut queue: mpsc::Receiver<Event>,
        stop: CancellationToken,
    ) -> Result<(), ControllerError> {
        let _guard = stop.clone().drop_guard();
        loop {
            let due = self.plan_due;
            let event = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                event = queue.recv() => match event {
                    Some(event) => Some(event),
                    None => return Ok(()),
                },
                Some(asked) = self.questions.join_next() => {
                    self.answered(asked);
                    None
                }
                () = async {
                    match due {
                        Some(due) => tokio::time::sleep_until(due).await,
                        None => std::future::pending().await,
                    }
                } => None,
            };
            if let Some(event) = event {
                self.take(event).await?;
                for _ in 1..TAKEN_AT_ONCE {
                    let Ok(event) = queue.try_recv() else { break };
                    self.take(event).await?;
                }
            }
            if self.plan_due.is_some_and(|due| due <= Instant::now()) {
                self.plan().await?;
            }
        }
    }

    async fn take(&mut self, event: Event) -> Result<(), ControllerError> {
        match event {
            Event::Command { command, along, reply } => {
                let result = self.command(*command, along).await;
                let fatal = matches!(&result, Err(error) if fatal(error));
                let stopped = fatal.then(|| ControllerError::Stopping);
                // Who asked may have gone away; the decision stands.
                let _ = reply.send(result);
                if let Some(error) = stopped {
                    return Err(error);
                }
            }
            Event::Connected { host, connection, orders } => {
                self.sessions.open(host.clone(), connection, orders);
                self.observe(Observation::Connected { host, connection });
            }
            Event::Disconnected { host, connection } => {
                self.sessions.close(&host, connection);
                self.observe(Observation::Disconnected { host, connection });
            }
            Event::Reported { host, connection, report } => {
                self.observe(Observation::Reported { host: host.clone(), connection, report });
                let now = self.now();
                let pending = self.state.pending(&host, now).cloned();
                if let Some(assignment) = pending {
                    self.send(&assignment);
                }
            }
            Event::Measured { host, connection, figures } => {
                let now = self.now();
                // The planner runs often enough while a canary is held, and nobody is told of each.
                let _ = self.state.observe(Observation::Measured { host, connection, figures }, now);
            }
            Event::RepairDrift { host, request_id, reply } => {
                // Who asked may have gone away.
                let _ = reply.send(self.sessions.repair_drift(&host, request_id));
            }
            Event::Read(look) => {
                let now = self.now();
                look(&View { state: &self.state, report: &self.report, now });
            }
        }
        Ok(())
    }

    /// What time it is. After a leap of the clock everything that takes time is given it anew.
    fn now(&mut self) -> Timestamp {
        let now = self.clock.now();
        let leaps = self.clock.leaps();
        if leaps != self.leaps {
            tracing::warn!(%now, "the clock has leapt; leases and deadlines are counted anew");
            self.leaps = leaps;
            self.state.leapt(now);
        }
        now
    }

    fn observe(&mut self, observation: Observation) {
        let now = self.now();
        match self.state.observe(observation, now) {
            Attention::Plan => self.plan_within(self.plan_pause),
            Attention::Noted | Attention::Ignored => {}
        }
        self.tell();
    }

    /// Asks the gates whose turn it is. Ended tasks are no more of this process's: nothing is asked while another has
    /// the state.
    fn ask_gates(&mut self) {
        let now = self.now();
        for question in self.state.questions(now) {
            let asker = self.asker.clone();
            self.questions.spawn(async move {
                let came = asker.ask(&question).await;
                (question, came)
            });
        }
    }

    /// Something has come of a question. One whose task has died counts as lost in a while.
    fn answered(&mut self, asked: Result<(Question, Result<Word, String>), JoinError>) {
        let (question, came) = match asked {
            Ok(asked) => asked,
            Err(error) => return tracing::error!(%error, "a question to a gate has died"),
        };
        if let Err(why) = &came {
            tracing::warn!(
                gate = %question.about.gate, rollout = %question.about.rollout, url = %question.ask.url, why,
                "a gate has not answered"
            );
        }
        let now = self.now();
        if self.state.answered(&question, came, now) == Attention::Plan {
            self.plan_within(self.plan_pause);
        }
        self.tell();
    }

    fn plan_within(&mut self, pause: Duration) {
        let due = Instant::now() + pause;
        self.plan_due = Some(self.plan_due.map_or(due, |earlier| earlier.min(due)));
    }

    async fn command(&mut self, command: Command, along: Along) -> Result<Done, ControllerError> {
        let now = self.now();
        let decided = decide(&self.state, &command, now)?;
        // The same request again: it was answered, and what belongs to it has happened.
        let repeated = decided.output.is_empty();
        if !repeated {
            self.carry_out(decided.output, along).await?;
            self.plan_due = Some(Instant::now());
        }
        Ok(Done { answer: decided.answer, repeated })
    }

    async fn plan(&mut self) -> Result<(), ControllerError> {
        self.plan_due = None;
        let (now, begun) = (self.now(), Instant::now());
        let planned = plan(&self.state, now);
        self.plan_pause = PLAN_PAUSE.max(begun.elapsed() * PLAN_SHARE);
        if let Some(at) = planned.wake_at {
            self.plan_within(at.since(now).max(self.plan_pause));
        }
        if planned.output.is_empty() {
            self.unstored_since = None;
            self.report = planned.report;
            self.ask_gates();
            return Ok(());
        }
        match self.carry_out(planned.output, Along::default()).await {
            Ok(()) => {
                self.unstored_since = None;
                self.report = planned.report;
                // What was decided may make room for more.
                self.plan_within(self.plan_pause);
            }
            Err(error) if fatal(&error) => return Err(error),
            Err(error) => {
                // The disk is full, say: nothing has happened, and it is tried again. What would have happened
                // is not what is told.
                let reason = error.chain();
                tracing::error!(error = %reason, "a decision could not be made durable");
                let since = *self.unstored_since.get_or_insert(now);
                self.report = std::mem::take(&mut self.report).unstored(&planned.report, since, &reason);
                self.plan_due = Some(Instant::now() + RETRY_PAUSE);
                self.tell();
            }
        }
        Ok(())
    }

    /// Makes a decision durable, takes it in, and does what it asks for.
    async fn carry_out(&mut self, output: Output, along: Along) -> Result<(), ControllerError> {
        let Output { changes, mut log, effects } = output;
        let mut batch = along.batch;
        for change in &changes {
            let key = change.key().to_string();
            batch = match change {
                Change::Put { record } => {
                    let value = serde_json::to_vec(record).expect("plain data with text keys");
                    batch.put(key, value)
                }
                Change::Delete { key: Key::Rollout(id) } => {
                    forget_rollout(&self.state, id, batch.delete(key))
                }
                Change::Delete { .. } => batch.delete(key),
            };
        }
        log.extend(along.entries);
        if !batch.is_empty() || !log.is_empty() {
            self.writer.commit(batch, log).await?;
        }
        for change in &changes {
            self.state.apply(change);
            if let Change::Delete { key: Key::Host(host) } = change {
                self.sessions.end(host);
            }
        }
        for effect in effects {
            match effect {
                Effect::Send { assignment, .. } => self.send(&assignment),
                Effect::Ended { rollout, end } => {
                    tracing::info!(%rollout, end = end_word(&end), "rollout ended");
                }
            }
        }
        self.tell();
        Ok(())
    }

    fn send(&self, assignment: &Assignment) {
        let signed = sign_document(ASSIGNMENT_TYPE, assignment, &self.keys.director)
            .map_err(ControllerError::from)
            .and_then(|document| {
                canonical::to_vec(&document).map_err(|error| ControllerError::Authority {
                    doing: "write an assignment",
                    reason: error.to_string(),
                })
            });
        match signed {
            Ok(bytes) => self.sessions.send(&assignment.host, Bytes::from(bytes)),
            Err(error) => tracing::error!(error = %error.chain(), "an assignment could not be signed"),
        }
    }

    fn tell(&self) {
        self.tick.send_modify(|tick| *tick += 1);
    }
}

/// The key under which the place of a rollout stays that has been forgotten.
#[must_use]
pub fn past_key(rollout: &RolloutId) -> String {
    format!("past/{rollout}")
}

/// The commits that a rollout brings, as they were sent: the planner has no use for them.
#[must_use]
pub fn changes_key(rollout: &RolloutId) -> String {
    format!("changes/{rollout}")
}

/// Of a forgotten rollout only the place stays, by which its entries in the log are found.
fn forget_rollout(state: &State, id: &RolloutId, batch: Batch) -> Batch {
    let batch = batch.delete(changes_key(id));
    let Some(rollout) = state.rollout(id) else { return batch };
    let place: &Place = &rollout.place;
    batch.put(past_key(id), serde_json::to_vec(place).expect("plain data with text keys"))
}

/// Whether the store has failed for good: nobody knows what is durable.
fn fatal(error: &ControllerError) -> bool {
    matches!(error, ControllerError::Store(crate::store::StoreError::Stopped(_)) | ControllerError::Stopping)
}

fn end_word(end: &landfall_controller_core::rollout::End) -> &'static str {
    use landfall_controller_core::rollout::{End, Status};
    let end: End = end.clone();
    Status::Ended { end }.word().as_str()
}
