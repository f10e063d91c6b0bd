//! A pretended agent: it speaks the real protocol and does nothing but say that it did.

use landfall_common::assignment::{ASSIGNMENT_TYPE, Assignment, Order};
use landfall_proto::v1 as pb;
use landfall_trust::PublicKey;
use landfall_trust::director::verify_document;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use crate::fleet::{Credentials, Server};

/// What an agent remembers across its connections.
#[derive(Clone, Default)]
pub struct Memory {
    pub incarnation: u64,
    pub report: pb::HostReport,
    /// A release that it fails on, and goes back from.
    pub fails: Option<String>,
    /// The kernel that it tells of, if not the usual one.
    pub kernel: Option<String>,
    /// What it says of its drift; an older agent says nothing, and does not listen.
    pub drift: Option<pb::Drift>,
}

/// A connected agent.
pub struct Agent {
    task: JoinHandle<Memory>,
    stop: tokio_util::sync::CancellationToken,
}

impl Agent {
    /// Connects, and does what it is asked until it is stopped or the controller ends the session.
    pub async fn connect(server: &Server, credentials: &Credentials, memory: Memory) -> Self {
        let key: PublicKey = {
            let pair = landfall_controller::keys::OnlineKeys::open(&server.layout.keys()).unwrap();
            pair.director.public().clone()
        };
        let mut client = server.agents(credentials).await;
        let (out, messages) = mpsc::channel(16);
        let mut memory = Memory { incarnation: memory.incarnation + 1, ..memory };
        memory.report.incarnation = memory.incarnation;
        memory.report.sequence = 1;
        if memory.report.phase.is_none() {
            memory.report.phase =
                Some(pb::Phase { kind: pb::PhaseKind::Idle.into(), ..pb::Phase::default() });
        }
        let hello = pb::Hello {
            protocol: 1,
            version: "0.1.0".to_owned(),
            report: Some(memory.report.clone()),
            facts: [("kernel".to_owned(), memory.kernel.clone().unwrap_or_else(|| "6.1".to_owned()))].into(),
        };
        out.send(message(pb::agent_message::Message::Hello(hello))).await.unwrap();
        if let Some(drift) = memory.drift.clone() {
            out.send(message(pb::agent_message::Message::Drift(drift))).await.unwrap();
        }
        let mut inbound = client.session(ReceiverStream::new(messages)).await.unwrap().into_inner();
        let stop = tokio_util::sync::CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let _client = client;
            let mut beat = tokio::time::interval(std::time::Duration::from_millis(50));
            loop {
                tokio::select! {
                    () = stopped.cancelled() => return memory,
                    received = inbound.next() => match received {
                        Some(Ok(received)) => match received.message {
                            Some(pb::controller_message::Message::Assignment(bytes)) => {
                                take(&mut memory, &bytes, &key);
                            }
                            Some(pb::controller_message::Message::RepairDrift(asked)) => {
                                if let Some(drift) = repaired(&mut memory, asked) {
                                    out.send(message(pb::agent_message::Message::Drift(drift))).await.unwrap();
                                }
                            }
                            _ => {}
                        },
                        _ => return memory,
                    },
                    _ = beat.tick() => {}
                }
                memory.report.sequence += 1;
                let report = pb::agent_message::Message::Report(memory.report.clone());
                if out.send(message(report)).await.is_err() {
                    return memory;
                }
            }
        });
        Self { task, stop }
    }

    /// Ends the connection; what it remembers goes on.
    pub async fn disconnect(self) -> Memory {
        self.stop.cancel();
        self.task.await.unwrap()
    }

    /// Waits until the controller has ended the session.
    pub async fn ended(self) -> Memory {
        self.task.await.unwrap()
    }
}

fn message(message: pb::agent_message::Message) -> pb::AgentMessage {
    pb::AgentMessage { message: Some(message) }
}

/// All that was wrong is right now.
fn repaired(memory: &mut Memory, asked: pb::RepairDrift) -> Option<pb::Drift> {
    let drift = memory.drift.as_mut()?;
    let restored = drift.counts.values().sum();
    drift.counts.clear();
    drift.findings.clear();
    drift.repair = Some(pb::DriftRepair { request_id: asked.request_id, restored, failed: Vec::new() });
    Some(drift.clone())
}

fn take(memory: &mut Memory, bytes: &[u8], key: &PublicKey) {
    let mut value: serde_json::Value =
        verify_document(ASSIGNMENT_TYPE, bytes, std::slice::from_ref(key), 1).unwrap();
    value.as_object_mut().unwrap().remove("_type");
    let assignment: Assignment = serde_json::from_value(value).unwrap();
    let report = &mut memory.report;
    if assignment.generation.0 <= report.generation {
        return;
    }
    report.generation = assignment.generation.0;
    let release = pb::ReleaseRef {
        name: assignment.release.name.to_string(),
        counter: assignment.release.counter.0,
        digest: assignment.release.digest.to_string(),
        length: assignment.release.length,
    };
    let mut failure = None;
    let kind = match assignment.order {
        Order::Stage => pb::OutcomeKind::Staged,
        Order::Migrate { .. } => pb::OutcomeKind::Migrated,
        Order::Activate { .. } if memory.fails.as_deref() == Some(&*release.name) => {
            failure = Some(pb::Failure {
                step: "healthz".to_owned(),
                reason: "it answered 500".to_owned(),
                exit_code: None,
                tail: vec!["the last line".to_owned()],
            });
            pb::OutcomeKind::Reverted
        }
        Order::Drain { away } => {
            let now = if away { pb::HostTraffic::Drained } else { pb::HostTraffic::Led };
            report.set_traffic(now);
            pb::OutcomeKind::Committed
        }
        Order::Activate { .. } | Order::Restart { .. } => {
            report.active = Some(release);
            report.active_proven = true;
            pb::OutcomeKind::Committed
        }
    };
    report.outcome =
        Some(pb::Outcome { generation: report.generation, kind: kind.into(), failure, undo_failure: None });
    if report.active.is_some() {
        report.health = Some(pb::Health {
            kind: pb::HealthKind::Healthy.into(),
            for_ms: 60_000,
            ..pb::Health::default()
        });
    }
}
