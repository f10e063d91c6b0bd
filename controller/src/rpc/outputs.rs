//! What steps and services write, from the host to an operator who reads it.
//!
//! An operator asks here, the host is told on its session, and answers on a stream of its own, which is passed on
//! piece by piece. Nothing is kept: who reads slowly slows that stream down, and nothing else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use futures::StreamExt as _;
use landfall_common::{Duration, HostId};
use landfall_proto::v1 as pb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::BoxStream;
use tonic::{Status, Streaming};

use super::Context;
use crate::error::{ControllerError, Reason};

/// A connected host answers within this.
const ANSWER: Duration = Duration::from_secs(10);

/// Who reads at once, from all hosts. Each has at most a few pieces of 64 KiB here.
const READERS: usize = 64;

/// Pieces that wait for a reader.
const PIECES: usize = 2;

/// The largest piece.
const PIECE_BYTES: usize = 64 * 1024;

/// The most lines of before.
const MAX_LINES: u32 = 10_000;

type Pieces = mpsc::Sender<Result<pb::StreamOutputResponse, Status>>;

/// Who waits for a host's answer, or reads it.
#[derive(Debug)]
struct Reader {
    host: HostId,
    out: Pieces,
    /// Counts as long as it lives.
    _counted: Arc<()>,
}

/// Who reads, and how hosts are told.
#[derive(Debug, Clone, Default)]
pub struct Outputs(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    last_id: u64,
    /// By the session of the moment.
    hosts: BTreeMap<HostId, (u64, mpsc::Sender<pb::OutputWanted>)>,
    /// Those whom the host has not answered yet.
    waiting: BTreeMap<u64, Reader>,
    /// Held by each reader, so that they can be counted.
    counted: Arc<()>,
}

impl Outputs {
    /// A session has begun: what is wanted of its host.
    pub fn connected(&self, host: &HostId, connection: u64) -> mpsc::Receiver<pb::OutputWanted> {
        let (out, wanted) = mpsc::channel(READERS);
        self.lock().hosts.insert(host.clone(), (connection, out));
        wanted
    }

    /// A session has ended.
    pub fn disconnected(&self, host: &HostId, connection: u64) {
        let mut inner = self.lock();
        if inner.hosts.get(host).is_some_and(|(current, _)| *current == connection) {
            inner.hosts.remove(host);
        }
    }

    /// Tells the host what is wanted of it, and gives the number by which it answers.
    fn ask(
        &self,
        host: &HostId,
        request: pb::StreamOutputRequest,
        out: Pieces,
    ) -> Result<u64, ControllerError> {
        let mut inner = self.lock();
        if Arc::strong_count(&inner.counted) > READERS {
            let message = format!("{READERS} others read the output of hosts; try again later");
            return Err(ControllerError::refused(Reason::Precondition, message));
        }
        let Some((_, session)) = inner.hosts.get(host) else {
            let message = format!("{host} is not connected; its output is there only while it is");
            return Err(ControllerError::refused(Reason::Precondition, message));
        };
        let id = inner.last_id + 1;
        let pb::StreamOutputRequest { source, lines, follow, .. } = request;
        let wanted = pb::OutputWanted { id, source, lines: lines.min(MAX_LINES), follow };
        session.try_send(wanted).map_err(|_| unanswered(host))?;
        let reader = Reader { host: host.clone(), out, _counted: inner.counted.clone() };
        inner.last_id = id;
        inner.waiting.insert(id, reader);
        Ok(id)
    }

    /// The reader whom a host answers, once.
    fn answered(&self, host: &HostId, id: u64) -> Option<Reader> {
        let mut inner = self.lock();
        inner.waiting.get(&id).filter(|reader| reader.host == *host)?;
        inner.waiting.remove(&id)
    }

    /// The reader, if the host has not answered yet.
    fn give_up(&self, id: u64) -> Option<Reader> {
        self.lock().waiting.remove(&id)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Asks the host, and gives what it answers to the operator.
pub(super) async fn stream(
    context: &Context,
    request: pb::StreamOutputRequest,
) -> Result<BoxStream<pb::StreamOutputResponse>, ControllerError> {
    let host =
        HostId::new(request.host.clone()).map_err(|error| ControllerError::invalid(error.to_string()))?;
    let asked = host.clone();
    if !context.reactor.read(move |view| view.state.host(&asked).is_some()).await? {
        let message = format!("there is no host {host}; next: ctl hosts");
        return Err(ControllerError::refused(Reason::HostUnknown, message));
    }
    let (out, pieces) = mpsc::channel(PIECES);
    let id = context.outputs.ask(&host, request, out)?;
    let outputs = context.outputs.clone();
    tokio::spawn(async move {
        tokio::time::sleep(ANSWER).await;
        if let Some(reader) = outputs.give_up(id) {
            let _ = reader.out.try_send(Err(unanswered(&host).into()));
        }
    });
    Ok(Box::pin(ReceiverStream::new(pieces)))
}

/// Passes on what a host answers, until it has said all or nobody reads any more.
pub(super) async fn pass_on(
    context: &Context,
    host: &HostId,
    mut inbound: Streaming<pb::SendOutputRequest>,
) -> Result<(), ControllerError> {
    let nobody = || ControllerError::refused(Reason::NotFound, "nobody has asked for this output");
    let first = tokio::time::timeout(ANSWER, inbound.next()).await;
    let Ok(Some(Ok(mut message))) = first else { return Err(nobody()) };
    let reader = context.outputs.answered(host, message.id).ok_or_else(nobody)?;
    let out = &reader.out;
    loop {
        let piece = if !message.refusal.is_empty() {
            Err(ControllerError::refused(Reason::NotFound, format!("{host}: {}", message.refusal)).into())
        } else if message.data.len() > PIECE_BYTES {
            return Err(ControllerError::invalid("a piece of output is larger than 64 KiB"));
        } else {
            Ok(pb::StreamOutputResponse { data: message.data })
        };
        let is_last = piece.is_err();
        tokio::select! {
            sent = out.send(piece) => if sent.is_err() || is_last { return Ok(()) },
            () = context.stop.cancelled() => return Ok(()),
        }
        message = tokio::select! {
            next = inbound.next() => match next {
                Some(Ok(next)) => next,
                None | Some(Err(_)) => return Ok(()),
            },
            () = out.closed() => return Ok(()),
            () = context.stop.cancelled() => return Ok(()),
        };
    }
}

fn unanswered(host: &HostId) -> ControllerError {
    let message = format!(
        "{host} does not answer: its agent may just be gone (`ctl hosts`), or be older than this controller: upgrade \
         landfall-agent there"
    );
    ControllerError::refused(Reason::Precondition, message)
}
