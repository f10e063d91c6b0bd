//! What agents call: their session, metadata and objects.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::StreamExt as _;
use landfall_common::{Duration, HostId, Sha256};
use landfall_proto::v1 as pb;
use landfall_proto::v1::agents_server::Agents;
use rand::Rng as _;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Caller, Context, convert};
use crate::error::{ControllerError, Reason};
use crate::identity::Identity;
use crate::objects::Piece;
use crate::reactor::Orders;

/// The protocol that this controller speaks.
const PROTOCOL: u32 = 1;

/// Agents report at least this often; the planner calls a host silent after three of these.
pub const HEARTBEAT: Duration = Duration::from_secs(10);

/// A session that does not begin with a Hello by then is ended.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Sessions end after a random time between one and two of these, and agents connect anew: no connection
/// is for ever, and those that began together do not end together.
const SESSION_LIFETIME: Duration = Duration::from_secs(6 * 3600);

/// Transfers at once. Each holds at most a few pieces of 64 KiB; the others wait their turn.
const TRANSFERS: usize = 256;

/// Objects whose first pieces are read together.
const READ_AHEAD: usize = 64;

/// The most objects in one request.
const MAX_OBJECTS: usize = 10_000;

/// The service.
pub struct AgentsService {
    context: Arc<Context>,
    transfers: Arc<Semaphore>,
}

impl AgentsService {
    /// A service on this context.
    #[must_use]
    pub fn new(context: Arc<Context>) -> Self {
        Self { context, transfers: Arc::new(Semaphore::new(TRANSFERS)) }
    }
}

fn host(caller: &Caller) -> Result<HostId, ControllerError> {
    match &caller.certificate.identity {
        Identity::Host(host) => Ok(host.clone()),
        Identity::Operator { name, .. } => {
            let message = format!("this is for hosts, and {name} is an operator");
            Err(ControllerError::refused(Reason::RoleTooLow, message))
        }
    }
}

#[tonic::async_trait]
impl Agents for AgentsService {
    type SessionStream = BoxStream<pb::ControllerMessage>;
    type FetchObjectsStream = BoxStream<pb::ObjectChunk>;

    async fn session(
        &self,
        request: Request<Streaming<pb::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let caller = Caller::of(&request)?;
        let host = host(&caller)?;
        let enrolled = host.clone();
        if !self.context.reactor.read(move |view| view.state.host(&enrolled).is_some()).await? {
            let message = format!("{host} is not enrolled any more; it can join again with a new token");
            return Err(ControllerError::refused(Reason::Removed, message).into());
        }
        let context = self.context.clone();
        let (out, messages) = mpsc::channel(2);
        let inbound = request.into_inner();
        tokio::spawn(async move {
            if let Err(status) = serve(&context, host.clone(), &caller, inbound, &out).await {
                tracing::info!(%host, reason = status.message(), "session ended");
                // The agent may be gone, and with it whoever could hear this.
                let _ = out.try_send(Err(status));
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }

    async fn get_metadata(
        &self,
        request: Request<pb::GetMetadataRequest>,
    ) -> Result<Response<pb::GetMetadataResponse>, Status> {
        let name = request.into_inner().name;
        let content = self.context.repository.file(&name).ok_or_else(|| no_file(&name))?;
        Ok(Response::new(pb::GetMetadataResponse { content: content.to_vec() }))
    }

    async fn fetch_objects(
        &self,
        request: Request<pb::FetchObjectsRequest>,
    ) -> Result<Response<Self::FetchObjectsStream>, Status> {
        let ranges = request.into_inner().objects;
        if ranges.len() > MAX_OBJECTS {
            let message = format!("at most {MAX_OBJECTS} objects can be asked for at once");
            return Err(ControllerError::invalid(message).into());
        }
        let ranges = ranges
            .into_iter()
            .map(|range| Ok((convert::digest(&range.digest)?, range.offset)))
            .collect::<Result<Vec<_>, ControllerError>>()?;
        let (context, transfers) = (self.context.clone(), self.transfers.clone());
        let (out, chunks) = mpsc::channel(1);
        tokio::spawn(async move {
            let Ok(_permit) = transfers.acquire().await else { return };
            let sent = tokio::select! {
                sent = send_objects(&context, &ranges, &out) => sent,
                () = context.stop.cancelled() => Err(Some(ControllerError::Stopping)),
            };
            if let Err(Some(error)) = sent {
                let _ = out.send(Err(error.into())).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(chunks))))
    }
}

/// What is said of a file that is not there.
pub(super) fn no_file(name: &str) -> ControllerError {
    ControllerError::refused(Reason::NotFound, format!("the release repository has no {name:?}"))
}

/// Sends what was asked for, in that order; `Err(None)` when nobody listens any more.
async fn send_objects(
    context: &Context,
    ranges: &[(Sha256, u64)],
    out: &mpsc::Sender<Result<pb::ObjectChunk, Status>>,
) -> Result<(), Option<ControllerError>> {
    let mut rest = ranges;
    while !rest.is_empty() {
        let ahead = rest[..rest.len().min(READ_AHEAD)].to_vec();
        let pieces = context.depot.first_pieces(ahead).await.map_err(Some)?;
        let (now, later) = rest.split_at(pieces.len().min(rest.len()));
        rest = later;
        for ((digest, offset), piece) in now.iter().zip(pieces) {
            send_object(context, *digest, *offset, piece, out).await?;
        }
    }
    Ok(())
}

/// Sends one object from its first piece on.
async fn send_object(
    context: &Context,
    digest: Sha256,
    mut offset: u64,
    mut piece: Piece,
    out: &mpsc::Sender<Result<pb::ObjectChunk, Status>>,
) -> Result<(), Option<ControllerError>> {
    let mut first = true;
    loop {
        offset += piece.data.len() as u64;
        let last = offset >= piece.compressed_bytes;
        let chunk = pb::ObjectChunk {
            digest: if first { digest.to_string() } else { String::new() },
            compressed_bytes: if first { piece.compressed_bytes } else { 0 },
            data: piece.data.into(),
            last,
        };
        out.send(Ok(chunk)).await.map_err(|_| None)?;
        if last {
            return Ok(());
        }
        first = false;
        piece = context.depot.piece(digest, offset).await.map_err(Some)?;
    }
}

/// One session, until either side ends it.
async fn serve(
    context: &Context,
    host: HostId,
    caller: &Caller,
    mut inbound: Streaming<pb::AgentMessage>,
    out: &mpsc::Sender<Result<pb::ControllerMessage, Status>>,
) -> Result<(), Status> {
    let hello = tokio::time::timeout(HELLO_TIMEOUT, inbound.next()).await;
    let Ok(Some(Ok(pb::AgentMessage { message: Some(pb::agent_message::Message::Hello(mut hello)) }))) =
        hello
    else {
        return Err(ControllerError::invalid("a session begins with a Hello").into());
    };
    if hello.protocol != PROTOCOL {
        let message = format!(
            "the agent speaks protocol {}, and this controller speaks {PROTOCOL}; upgrade the older of the two",
            hello.protocol
        );
        return Err(ControllerError::invalid(message).into());
    }
    let report = hello.report.take().map(convert::report).transpose()?;
    let connection = context.connections.fetch_add(1, Ordering::Relaxed) + 1;
    let expires = caller.certificate.not_after;
    context.live.hello(host.clone(), hello, expires);
    let heartbeat_ms = u64::try_from(HEARTBEAT.as_millis()).unwrap_or(u64::MAX);
    let welcome = pb::Welcome { heartbeat_ms, now_ms: context.clock.now().ms() };
    let message = pb::controller_message::Message::Welcome(welcome);
    if out.send(Ok(pb::ControllerMessage { message: Some(message) })).await.is_err() {
        return Ok(());
    }
    let (orders, mut assignments, ended) = Orders::new();
    context.reactor.connected(host.clone(), connection, orders).await?;
    if let Some(report) = report {
        context.reactor.reported(host.clone(), connection, report).await?;
    }
    let lifetime = SESSION_LIFETIME + rand::rng().random_range(Duration::ZERO..SESSION_LIFETIME);
    let lifetime = lifetime.min(expires.since(context.clock.now()));
    let over = tokio::time::sleep(lifetime);
    tokio::pin!(over);
    let result = loop {
        tokio::select! {
            () = context.stop.cancelled() => break Err(ControllerError::Stopping.into()),
            () = ended.cancelled() => break Ok(()),
            () = &mut over => break Ok(()),
            Some(assignment) = assignments.recv() => {
                let message = pb::controller_message::Message::Assignment(assignment.to_vec());
                if out.send(Ok(pb::ControllerMessage { message: Some(message) })).await.is_err() {
                    break Ok(());
                }
            }
            message = inbound.next() => match message {
                None | Some(Err(_)) => break Ok(()),
                Some(Ok(message)) => {
                    if let Err(error) = take(context, &host, connection, message).await {
                        break Err(error.into());
                    }
                }
            },
        }
    };
    context.reactor.disconnected(host, connection).await?;
    result
}

async fn take(
    context: &Context,
    host: &HostId,
    connection: u64,
    message: pb::AgentMessage,
) -> Result<(), ControllerError> {
    match message.message {
        Some(pb::agent_message::Message::Report(report)) => {
            context.reactor.reported(host.clone(), connection, convert::report(report)?).await
        }
        Some(pb::agent_message::Message::Figures(figures)) => {
            context.live.figures(host, figures);
            Ok(())
        }
        Some(pb::agent_message::Message::Hello(_)) => {
            Err(ControllerError::invalid("a session has one Hello, at its beginning"))
        }
        // From a newer agent; what is not understood is ignored.
        None => Ok(()),
    }
}
