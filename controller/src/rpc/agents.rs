//! What agents call: their session, metadata and objects.
//!
//! What one host may have is in [`allowance`], which objects are its application's in [`catalogue`], and how
//! they are sent in [`transfer`].

mod allowance;
pub mod catalogue;
mod transfer;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use futures::StreamExt as _;
use landfall_common::{AppName, Duration, HostId, Sha256};
use landfall_proto::v1 as pb;
use landfall_proto::v1::agents_server::Agents;
use rand::Rng as _;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use self::allowance::Allowances;
use self::transfer::{Ended, Wanted};
use super::{Caller, Context, convert, outputs};
use crate::error::{ControllerError, Reason};
use crate::identity::Identity;
use crate::reactor::{Order, Orders};

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

/// The most objects in one request.
const MAX_OBJECTS: usize = 10_000;

/// The service.
pub struct AgentsService {
    context: Arc<Context>,
    transfers: Arc<Semaphore>,
    allowances: Allowances,
}

impl AgentsService {
    /// A service on this context.
    #[must_use]
    pub fn new(context: Arc<Context>) -> Self {
        let transfers = Arc::new(Semaphore::new(TRANSFERS));
        Self { context, transfers, allowances: Allowances::default() }
    }

    /// The application of an enrolled host.
    async fn application(&self, host: &HostId) -> Result<AppName, ControllerError> {
        let asked = host.clone();
        let found = self
            .context
            .reactor
            .read(move |view| view.state.host(&asked).map(|host| host.record.place.application.clone()));
        found.await?.ok_or_else(|| not_enrolled(host))
    }

    /// Splits what a host asks for at the first object that is not one of its application's.
    async fn wanted(
        &self,
        application: &AppName,
        ranges: Vec<pb::ObjectRange>,
    ) -> Result<Wanted, ControllerError> {
        let parse = |range: pb::ObjectRange| Ok((convert::digest(&range.digest)?, range.offset));
        let mut ranges = ranges.into_iter().map(parse).collect::<Result<Vec<_>, ControllerError>>()?;
        let digests: Vec<_> = ranges.iter().map(|(digest, _)| *digest).collect();
        let known = belonging(&self.context, application, &digests).await?;
        ranges.truncate(known);
        Ok(Wanted { ranges, unknown: digests.get(known).copied() })
    }
}

/// How many of these objects, from the first on, are those of releases of the application whose files are here.
///
/// # Errors
/// [`ControllerError::Object`], [`ControllerError::Stopping`].
pub(super) async fn belonging(
    context: &Context,
    application: &AppName,
    digests: &[Sha256],
) -> Result<usize, ControllerError> {
    let asked = application.clone();
    let releases = || {
        context.reactor.read(move |view| {
            let here = view.state.releases(&asked).filter(|record| record.content.removed_at().is_none());
            here.map(|record| record.release.digest).collect::<Vec<_>>()
        })
    };
    context.catalogue.belonging(&context.depot, application, digests, releases).await
}

fn not_enrolled(host: &HostId) -> ControllerError {
    let again = Identity::Host(host.clone()).let_in_again();
    let message = format!("{host} is not enrolled any more; {again}");
    ControllerError::refused(Reason::Removed, message)
}

/// Whether a file of the release repository is the metadata of another application's role: nothing in there
/// concerns this one's hosts.
fn is_of_another(file: &str, application: &AppName) -> bool {
    application_of(file).is_some_and(|name| name != application.as_str())
}

/// The application whose role's metadata a file of the release repository is.
pub(super) fn application_of(file: &str) -> Option<String> {
    // With a version before the name or without.
    let name = match file.split_once('.') {
        Some((version, rest)) if version.bytes().all(|byte| byte.is_ascii_digit()) => rest,
        _ => file,
    };
    let role = name.trim_end_matches(".json").replace("%2F", "/");
    role.strip_prefix("apps/").map(str::to_owned)
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
        self.allowances.call(&host, Instant::now())?;
        self.application(&host).await?;
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
        let host = host(&Caller::of(&request)?)?;
        self.allowances.call(&host, Instant::now())?;
        let name = request.into_inner().name;
        if is_of_another(&name, &self.application(&host).await?) {
            return Err(no_file(&name).into());
        }
        let content = self.context.repository.file(&name).ok_or_else(|| no_file(&name))?;
        Ok(Response::new(pb::GetMetadataResponse { content: content.to_vec() }))
    }

    async fn fetch_objects(
        &self,
        request: Request<pb::FetchObjectsRequest>,
    ) -> Result<Response<Self::FetchObjectsStream>, Status> {
        let host = host(&Caller::of(&request)?)?;
        self.allowances.call(&host, Instant::now())?;
        let ranges = request.into_inner().objects;
        if ranges.len() > MAX_OBJECTS {
            let message = format!("at most {MAX_OBJECTS} objects can be asked for at once");
            return Err(ControllerError::invalid(message).into());
        }
        let own = self.allowances.transfer(&host, Instant::now())?;
        let application = self.application(&host).await?;
        let wanted = self.wanted(&application, ranges).await?;
        let (context, transfers) = (self.context.clone(), self.transfers.clone());
        let (out, chunks) = mpsc::channel(1);
        tokio::spawn(async move {
            let _own = own;
            let _one_of_all = tokio::select! {
                permit = transfers.acquire() => permit,
                () = out.closed() => return,
            };
            let sent = tokio::select! {
                sent = transfer::send(&context.depot, &wanted, &out, transfer::PATIENCE) => sent,
                () = context.stop.cancelled() => Err(Ended::Failed(ControllerError::Stopping)),
            };
            if let Err(Ended::Failed(error)) = sent {
                // Whoever does not read would not read this either: it must hold nothing up.
                let _ = out.send_timeout(Err(error.into()), Duration::from_secs(1)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(chunks))))
    }

    async fn send_output(
        &self,
        request: Request<Streaming<pb::SendOutputRequest>>,
    ) -> Result<Response<pb::SendOutputResponse>, Status> {
        let host = host(&Caller::of(&request)?)?;
        self.allowances.call(&host, Instant::now())?;
        outputs::pass_on(&self.context, &host, request.into_inner()).await?;
        Ok(Response::new(pb::SendOutputResponse {}))
    }
}

/// What is said of a file that is not there.
pub(super) fn no_file(name: &str) -> ControllerError {
    ControllerError::refused(Reason::NotFound, format!("the release repository has no {name:?}"))
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
    let (orders, mut orders_to_it, ended) = Orders::new();
    let mut wanted = context.outputs.connected(&host, connection);
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
            Some(order) = orders_to_it.recv() => {
                let message = match order {
                    Order::Assignment(bytes) => pb::controller_message::Message::Assignment(bytes.to_vec()),
                    Order::RepairDrift { request_id } => {
                        pb::controller_message::Message::RepairDrift(pb::RepairDrift { request_id })
                    }
                };
                if out.send(Ok(pb::ControllerMessage { message: Some(message) })).await.is_err() {
                    break Ok(());
                }
            }
            Some(wanted) = wanted.recv() => {
                let message = pb::controller_message::Message::OutputWanted(wanted);
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
    context.outputs.disconnected(&host, connection);
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
            let measured = convert::figures(&figures);
            context.live.figures(host, figures);
            context.reactor.measured(host.clone(), connection, measured).await
        }
        Some(pb::agent_message::Message::Drift(drift)) => {
            super::operators::drift::said(context, host, drift).await
        }
        Some(pb::agent_message::Message::Hello(_)) => {
            Err(ControllerError::invalid("a session has one Hello, at its beginning"))
        }
        // From a newer agent; what is not understood is ignored.
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_of_another_applications_role_is_told_from_the_rest() {
        let shop = AppName::new("shop").unwrap();
        for name in ["3.apps%2Fblog.json", "apps%2Fblog.json", "3.apps/blog.json", "3.apps%2Fshopping.json"] {
            assert!(is_of_another(name, &shop), "{name}");
        }
        for name in
            ["3.apps%2Fshop.json", "apps%2Fshop.json", "timestamp.json", "1.root.json", "2.policy.json", ""]
        {
            assert!(!is_of_another(name, &shop), "{name}");
        }
    }
}
