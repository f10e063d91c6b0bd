//! The session: the one long-lived stream to the controller, made anew whenever it ends.
//!
//! Reports go out at each transition and at least every heartbeat; assignments come in, are verified, and
//! become events of the engine. While there is no controller nothing here matters to the host: checks go on,
//! and a release that fails goes back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use landfall_agent_core::Event;
use landfall_agent_core::backoff::Backoff;
use landfall_common::assignment::Order;
use landfall_common::disk::Disk;
use landfall_common::report::{Failure, Health, HostReport};
use landfall_common::{Duration, StepName};
use landfall_proto::v1::agent_message::Message as Out;
use landfall_proto::v1::agents_client::AgentsClient;
use landfall_proto::v1::controller_message::Message as In;
use landfall_proto::v1::{AgentMessage, ControllerMessage, Hello};
use rand::Rng;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::error::{AgentError, chain};
use crate::exposed::Exposed;
use crate::figures::Meter;
use crate::identity::{Credentials, Enrolled};
use crate::latency::Latencies;
use crate::life::Life;
use crate::outputs::Outputs;
use crate::runtime::{EngineHandle, Said};
use crate::tls::{self, ANSWER, Anchor, Dialler, in_time};
use crate::trust::{self, Distrust};
use crate::usage::Usages;
use crate::{clock, drift, wire};

/// The protocol that this agent speaks.
const PROTOCOL: u32 = 1;

/// Between two heartbeats, until the controller says otherwise.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// The bounds of the wait before the next connection (P9).
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What the engine said longer ago than this says nothing about health now: it is busy with the disk.
const STALE: Duration = Duration::from_secs(15);

/// The largest file of the release repository that the verifier takes, and some.
const MAX_MESSAGE_BYTES: usize = 8 * 1024 * 1024;

/// An assignment has some hundred bytes. What is larger is not even read: the signature is inside.
const MAX_ASSIGNMENT_BYTES: usize = 64 * 1024;

/// So many assignments may wait for the engine; the controller repeats the newest in the next session anyway.
const MAX_BACKLOG: u64 = 32;

/// What sessions need.
pub struct Session {
    /// Who this is, and whom it believes.
    pub enrolled: Enrolled,
    /// `/var/lib/landfall`, for the trusted metadata.
    pub state: Arc<dyn Disk>,
    /// How the controller is reached.
    pub dialler: Dialler,
    /// The certificate of the moment.
    pub credentials: watch::Receiver<Credentials>,
    /// What the engine says.
    pub reports: watch::Receiver<Option<Said>>,
    /// Where assignments go.
    pub engine: EngineHandle,
    /// Where the connection of the moment is put, for fetches.
    pub link: watch::Sender<Option<AgentsClient<Channel>>>,
    /// The host's figures.
    pub meter: Meter,
    /// How the checks go.
    pub latencies: Arc<Latencies>,
    /// What the services use.
    pub usages: Arc<Usages>,
    /// What the application shows of itself.
    pub exposed: Arc<Exposed>,
    /// Kernel, distribution, runtimes: read anew for each connection.
    pub facts: Arc<dyn Fn() -> BTreeMap<String, String> + Send + Sync>,
    /// What is not as it was applied.
    pub drift: watch::Receiver<Option<drift::Report>>,
    /// Where it is asked to be put right.
    pub drifting: drift::Handle,
    /// What operators may read of steps and services.
    pub outputs: Outputs,
    /// Ends it.
    pub stop: CancellationToken,
}

/// What outlives a single connection.
struct Told {
    /// The number of the newest report, over all connections of this start of the agent.
    sequence: u64,
    /// What the engine said last.
    newest: Option<Said>,
    /// The assignment that was verified last: shown again, it is only a reminder.
    verified: Option<Vec<u8>>,
}

impl Session {
    /// Keeps a session until told to stop.
    pub async fn run(mut self, random: &mut impl Rng) {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut told = Told { sequence: 0, newest: None, verified: None };
        let stop = self.stop.clone();
        loop {
            let begun = Instant::now();
            let ended = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                ended = self.connection(&mut told) => ended,
            };
            self.link.send_replace(None);
            Life::own(false).tell();
            match ended {
                Ok(why) => tracing::info!(host = %self.enrolled.identity.host, why, "session ended"),
                Err(error) => {
                    let error = self.expired().unwrap_or_else(|| chain(&error));
                    tracing::warn!(host = %self.enrolled.identity.host, %error, "no session");
                }
            }
            // A session that held for a while was a good one; one that is refused at once is none.
            if begun.elapsed() > HEARTBEAT {
                backoff.reset();
            }
            let wait = backoff.next_wait(random);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// A certificate that has expired is refused without a word: the connection just breaks.
    fn expired(&self) -> Option<String> {
        let (_, until) = self.credentials.borrow().validity().ok()?;
        (until <= clock::wall())
            .then(|| format!("this host's certificate expired at {until}; a session needs it renewed first"))
    }

    async fn connection(&mut self, told: &mut Told) -> Result<&'static str, AgentError> {
        let credentials = self.credentials.borrow_and_update().clone();
        let anchor = Anchor::Certificate(self.enrolled.ca.clone());
        let channel = tls::connect(&self.dialler, &anchor, Some(&credentials)).await?;
        let mut client = AgentsClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let (out, messages) = mpsc::channel(4);
        self.refresh(told).await;
        let facts = self.facts.clone();
        let facts = tokio::task::spawn_blocking(move || facts()).await.unwrap_or_default();
        let hello = Hello {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            report: self.report(told),
            facts,
        };
        // The channel is empty: there is room for the first message.
        let _ = out.send(AgentMessage { message: Some(Out::Hello(hello)) }).await;
        let inbound = in_time(ANSWER, client.session(ReceiverStream::new(messages)))
            .await
            .map_err(crate::enrolment::refused)?;
        self.link.send_replace(Some(client.clone()));
        tracing::info!(host = %self.enrolled.identity.host, "session begun");
        self.converse(told, client, inbound.into_inner(), &out).await
    }

    async fn converse(
        &mut self,
        told: &mut Told,
        mut client: AgentsClient<Channel>,
        mut inbound: Streaming<ControllerMessage>,
        out: &mpsc::Sender<AgentMessage>,
    ) -> Result<&'static str, AgentError> {
        // What is read through this connection ends with it.
        let ended = CancellationToken::new();
        let _ends = ended.clone().drop_guard();
        let mut heartbeat = HEARTBEAT;
        let mut next = tokio::time::Instant::now() + heartbeat;
        // Whatever was seen before this connection is told on it.
        self.drift.mark_changed();
        loop {
            tokio::select! {
                biased;
                changed = self.reports.changed() => {
                    if changed.is_err() {
                        return Ok("the engine has stopped");
                    }
                    told.newest = self.reports.borrow_and_update().clone().or(told.newest.take());
                    if !self.send_report(told, out).await {
                        return Ok("the controller hung up");
                    }
                }
                message = inbound.message() => match message.map_err(crate::enrolment::refused)? {
                    None => return Ok("the controller ended it"),
                    Some(ControllerMessage { message: Some(In::Welcome(welcome)) }) => {
                        heartbeat = Duration::from_millis(welcome.heartbeat_ms.clamp(100, 60_000));
                        next = tokio::time::Instant::now() + heartbeat;
                        tell_skew(welcome.now_ms);
                        Life::own(true).tell();
                    }
                    Some(ControllerMessage { message: Some(In::Assignment(bytes)) }) => {
                        if !self.assignment(told, &mut client, bytes).await {
                            return Ok("an assignment could not be verified; it comes again with the next session");
                        }
                    }
                    Some(ControllerMessage { message: Some(In::RepairDrift(asked)) }) => {
                        self.drifting.repair(asked.request_id);
                    }
                    Some(ControllerMessage { message: Some(In::OutputWanted(wanted)) }) => {
                        let outputs = self.outputs.clone();
                        tokio::spawn(outputs.send(client.clone(), wanted, ended.clone()));
                    }
                    // From a newer controller; what is not understood is ignored.
                    Some(ControllerMessage { message: None }) => {}
                },
                () = tokio::time::sleep_until(next) => {
                    next = tokio::time::Instant::now() + heartbeat;
                    // If the engine is free its answer is the heartbeat; if it is busy the last word is.
                    self.engine.request_report();
                    let is_busy = told.newest.as_ref().is_none_or(|said| said.at.elapsed() > heartbeat + heartbeat / 2);
                    if is_busy && !self.send_report(told, out).await {
                        return Ok("the controller hung up");
                    }
                    let usages = self.usages.take(Instant::now());
                    let (checks, shown) = (self.latencies.take(), self.exposed.take());
                    let figures = wire::figures(&self.meter.read(), &checks, &usages, &shown);
                    if out.send(AgentMessage { message: Some(Out::Figures(figures)) }).await.is_err() {
                        return Ok("the controller hung up");
                    }
                }
                changed = self.drift.changed() => {
                    if changed.is_err() {
                        return Ok("the agent is stopping");
                    }
                    let drift = self.drift.borrow_and_update().as_ref().map(|seen| wire::drift(seen, clock::mono()));
                    if let Some(drift) = drift
                        && out.send(AgentMessage { message: Some(Out::Drift(drift)) }).await.is_err()
                    {
                        return Ok("the controller hung up");
                    }
                }
                changed = self.credentials.changed() => {
                    return Ok(if changed.is_ok() { "the certificate was renewed" } else { "the agent is stopping" });
                }
            }
        }
    }

    /// The engine's first word, or its newest.
    async fn refresh(&mut self, told: &mut Told) {
        self.engine.request_report();
        let newest = tokio::time::timeout(Duration::from_secs(1), self.reports.changed()).await;
        if matches!(newest, Ok(Ok(()))) {
            told.newest = self.reports.borrow_and_update().clone().or(told.newest.take());
        }
    }

    /// The engine's last word as the next report. None while it has not decided on an assignment that it was
    /// given: a report that knows nothing of it would be taken for proof that it was not accepted, while the
    /// engine, at a disk that hangs, is about to carry it out (P4, P7).
    fn report(&self, told: &mut Told) -> Option<landfall_proto::v1::HostReport> {
        let said = told.newest.as_ref().filter(|said| said.taken == self.engine.given())?;
        told.sequence += 1;
        let mut report = HostReport { sequence: told.sequence, at: clock::wall(), ..said.report.clone() };
        if said.at.elapsed() > STALE {
            report.health = Health::Unknown;
        }
        Some(wire::report(&report))
    }

    async fn send_report(&self, told: &mut Told, out: &mpsc::Sender<AgentMessage>) -> bool {
        match self.report(told) {
            Some(report) => out.send(AgentMessage { message: Some(Out::Report(report)) }).await.is_ok(),
            None => true,
        }
    }

    /// Verifies an assignment: the director's signature, then the fences, then the release that it brings. `false` if it could
    /// not be found out whether it holds: that is no refusal.
    async fn assignment(&self, told: &mut Told, client: &mut AgentsClient<Channel>, bytes: Vec<u8>) -> bool {
        let identity = &self.enrolled.identity;
        if bytes.len() > MAX_ASSIGNMENT_BYTES {
            tracing::error!(host = %identity.host, bytes = bytes.len(), "an assignment larger than any is ignored");
            return true;
        }
        if self.engine.backlog() > MAX_BACKLOG {
            tracing::warn!(host = %identity.host, "the engine is still busy with earlier assignments");
            return false;
        }
        let signed = match trust::verify_assignment(&bytes, &self.enrolled.director_keys) {
            Ok(signed) => signed,
            Err(error) => {
                // Nothing of it can be believed, its number included: there is nobody to tell.
                tracing::error!(host = %identity.host, error = %error, "an assignment that the director did not sign is ignored");
                return true;
            }
        };
        let generation = signed.assignment.generation;
        // Where requests go is led by the gate of what is active, which was verified when it came: nothing is brought that
        // could be trusted or not.
        let is_drain = matches!(signed.assignment.order, Order::Drain { .. });
        if !is_drain && told.verified.as_ref() != Some(&bytes) && self.is_new(told, &signed) {
            let verified =
                trust::verify_release(&*self.state, client, &signed.assignment, identity, clock::wall());
            match verified.await {
                Ok(()) => told.verified = Some(bytes),
                Err(Distrust::Refused(reason)) => {
                    tracing::error!(host = %identity.host, generation = generation.0, reason, "an assignment is refused");
                    let failure = Failure::new(step(), format!("the release is not trusted: {reason}"));
                    self.engine.send(Event::Distrusted { generation, failure });
                    return true;
                }
                Err(Distrust::Unkept(reason)) => {
                    tracing::error!(host = %identity.host, generation = generation.0, reason, "the metadata of an assignment cannot be kept");
                    let failure = Failure::new(step(), reason);
                    self.engine.send(Event::Distrusted { generation, failure });
                    return true;
                }
                Err(Distrust::Unavailable(reason)) => {
                    tracing::warn!(host = %identity.host, generation = generation.0, reason, "an assignment waits for its metadata");
                    return false;
                }
            }
        }
        self.engine.assign(Box::new(signed.assignment), signed.digest);
        true
    }

    /// Whether the fences may let it pass: if not, the engine refuses it without a look at the metadata. Only
    /// what can never change back is asked. Expiry is not: if the clock stepped back between this look and the
    /// engine's, an assignment would be accepted that nobody has verified.
    fn is_new(&self, told: &Told, signed: &trust::Signed) -> bool {
        let newest = told.newest.as_ref().map(|said| said.report.generation).unwrap_or_default();
        let assignment = &signed.assignment;
        let identity = &self.enrolled.identity;
        assignment.generation > newest
            && assignment.host == identity.host
            && assignment.application == identity.application
            && assignment.environment == identity.environment
    }
}

fn step() -> StepName {
    StepName::new("trust").expect("a step of the agent's own has a valid name")
}

/// A clock that is wrong makes certificates and metadata "not yet valid": said early, it saves an hour.
fn tell_skew(controller_ms: u64) {
    let (ours, theirs) = (clock::wall().ms(), controller_ms);
    let skew_s = ours.abs_diff(theirs) / 1000;
    if theirs > 0 && skew_s > 30 {
        tracing::warn!(skew_s, "the clocks of this host and of the controller differ");
    }
}
