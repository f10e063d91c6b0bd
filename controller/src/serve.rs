//! The running controller, put together from its parts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use landfall_common::{Duration, Timestamp};
use landfall_proto::v1::agents_server::AgentsServer;
use landfall_proto::v1::enrolment_server::EnrolmentServer;
use landfall_proto::v1::operators_server::OperatorsServer;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::admin;
use crate::asker::Asker;
use crate::authorise::{AuthoriseLayer, DenyList};
use crate::clock::Clock;
use crate::collection::Counted;
use crate::config::{Layout, Retention};
use crate::enrolment::Admission;
use crate::error::ControllerError;
use crate::maintenance::Chores;
use crate::objects::Depot;
use crate::reactor::Reactor;
use crate::repository::ReleaseRepository;
use crate::rpc::agents::AgentsService;
use crate::rpc::enrolment::EnrolmentService;
use crate::rpc::operators::OperatorsService;
use crate::rpc::{Context, convert};
use crate::state::ControllerState;
use crate::store::{SharedStore, Store as _};
use crate::tls::{self, CurrentCertificate, Listen};

/// Connections that wait to be accepted: ten thousand agents may come at once after a restart.
const BACKLOG: u32 = 4096;

/// A peer that does not answer a ping is gone. Agents behind a NAT keep their way open by it, too.
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Long streams of agents end by themselves before; this is for the rest.
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(24 * 3600);

/// An upload under way may finish within this.
const MAX_CONNECTION_GRACE: Duration = Duration::from_secs(3600);

/// Calls under way may finish within this when the controller stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest messages: metadata of many roles at once for operators, a report or many digests for agents,
/// a signing request from whoever comes.
const MAX_OPERATOR_BYTES: usize = 32 << 20;
const MAX_AGENT_BYTES: usize = 2 << 20;
const MAX_STRANGER_BYTES: usize = 64 << 10;

/// A running controller.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// What the services work with.
    pub context: Arc<Context>,
    /// What it does from time to time.
    pub chores: Arc<Chores>,
    stop: CancellationToken,
    stop_reactor: CancellationToken,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    reactor: JoinHandle<Result<(), ControllerError>>,
    store: SharedStore,
}

/// Binds the address.
///
/// # Errors
/// [`ControllerError::Listen`] with what it means.
pub fn bind(address: SocketAddr) -> Result<TcpListener, ControllerError> {
    let bound = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bound().map_err(|source: std::io::Error| {
        let hint = match source.kind() {
            std::io::ErrorKind::AddrInUse => {
                "another program has this port; find it with `ss -ltnp`, or choose another `listen`"
            }
            std::io::ErrorKind::AddrNotAvailable => "this machine has no such address; check `listen`",
            std::io::ErrorKind::PermissionDenied => {
                "ports below 1024 need a privilege; choose a higher one in `listen`"
            }
            _ => "check `listen` in the configuration",
        };
        ControllerError::Listen { address, hint, source }
    })
}

/// Starts a controller on an initialised state directory.
///
/// # Errors
/// What hinders it; nothing is left running.
pub async fn start<L: Listen>(
    layout: Layout,
    retention: Retention,
    asker: Asker,
    listener: L,
    address: SocketAddr,
    clock: Clock,
) -> Result<Running, ControllerError> {
    let state = ControllerState::open(&layout, &clock).await?;
    let depot = Depot::open(&layout.objects, &layout.state.join("uploads")).await?;
    let repository = Arc::new(ReleaseRepository::load(&state.store, state.keys.clone()).await?);
    let denied = DenyList::default();
    for entry in state.store.scan("denied/").await?.entries {
        let until: Timestamp = convert::stored(&entry.key, &entry.value)?;
        denied.deny(entry.key.trim_start_matches("denied/").to_owned(), until);
    }
    let certificate = state.authority.issue_server(clock.now())?;
    let server_expires_ms = AtomicU64::new(certificate.not_after.ms());
    let certificate = CurrentCertificate::new(certificate)?;
    let acceptor = tls::acceptor(&state.authority, certificate.clone(), clock.clone())?;

    let (stop, stop_reactor) = (CancellationToken::new(), CancellationToken::new());
    let (reactor, reactor_task) = Reactor::start(
        &state.store,
        state.writer.clone(),
        state.keys.clone(),
        asker,
        clock.clone(),
        stop_reactor.clone(),
    )
    .await?;
    let context = Arc::new(Context {
        store: Arc::new(state.store.clone()),
        writer: state.writer.clone(),
        reactor,
        repository,
        depot,
        authority: state.authority.clone(),
        keys: state.keys.clone(),
        denied: denied.clone(),
        admission: Admission::default(),
        live: crate::rpc::live::Live::default(),
        catalogue: crate::rpc::agents::catalogue::Catalogue::default(),
        outputs: crate::rpc::outputs::Outputs::default(),
        usage: Counted::default(),
        retention,
        clock: clock.clone(),
        stop: stop.clone(),
        server_expires_ms,
        connections: AtomicU64::new(0),
    });
    admin::listen(layout, context.clone(), state.store.clone())?;
    let chores = Arc::new(Chores::new(context.clone(), certificate));
    tokio::spawn(chores.clone().run());
    // Without the reactor nothing is left to serve.
    let (without_reactor, end) = (stop_reactor.clone(), stop.clone());
    tokio::spawn(async move {
        without_reactor.cancelled().await;
        end.cancel();
    });
    let server =
        serve(context.clone(), denied, clock, tls::incoming(listener, acceptor), stop.clone()).await?;
    Ok(Running {
        address,
        context,
        chores,
        stop,
        stop_reactor,
        server,
        reactor: reactor_task,
        store: state.store,
    })
}

async fn serve<I>(
    context: Arc<Context>,
    denied: DenyList,
    clock: Clock,
    incoming: tokio_stream::wrappers::ReceiverStream<std::io::Result<tls::Connection<I>>>,
    stop: CancellationToken,
) -> Result<JoinHandle<Result<(), tonic::transport::Error>>, ControllerError>
where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<AgentsServer<AgentsService>>().await;
    health.set_serving::<EnrolmentServer<EnrolmentService>>().await;
    health.set_serving::<OperatorsServer<OperatorsService>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(landfall_proto::DESCRIPTOR)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| ControllerError::Server(Box::new(error)))?;
    let agents =
        AgentsServer::new(AgentsService::new(context.clone())).max_decoding_message_size(MAX_AGENT_BYTES);
    let enrolment = EnrolmentServer::new(EnrolmentService::new(context.clone()))
        .max_decoding_message_size(MAX_STRANGER_BYTES);
    let operators =
        OperatorsServer::new(OperatorsService(context)).max_decoding_message_size(MAX_OPERATOR_BYTES);
    let router = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_connection_age(MAX_CONNECTION_AGE)
        .max_connection_age_grace(MAX_CONNECTION_GRACE)
        .layer(AuthoriseLayer::new(denied, clock))
        .add_service(health_service)
        .add_service(reflection)
        .add_service(agents)
        .add_service(enrolment)
        .add_service(operators);
    Ok(tokio::spawn(async move {
        router
            .serve_with_incoming_shutdown(incoming, async move {
                stop.cancelled().await;
                health.set_not_serving::<AgentsServer<AgentsService>>().await;
                health.set_not_serving::<OperatorsServer<OperatorsService>>().await;
            })
            .await
    }))
}

impl Running {
    /// Cancelled when the controller comes to an end, by itself or because it was asked to.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Whether the part that decides answers.
    pub async fn alive(&self) -> bool {
        self.context.reactor.read(|_| ()).await.is_ok()
    }

    /// Stops: no new calls, streams end, what is under way finishes, the store is closed.
    ///
    /// # Errors
    /// Why it came to an end by itself, or what failed in stopping.
    pub async fn stop(self) -> Result<(), ControllerError> {
        self.stop.cancel();
        let mut server = self.server;
        match tokio::time::timeout(STOP_TIMEOUT, &mut server).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::error!(%error, "the gRPC server failed"),
            Ok(Err(error)) => tracing::error!(%error, "the gRPC server ended badly"),
            Err(_) => {
                tracing::warn!("calls under way did not finish in time and were cut off");
                server.abort();
            }
        }
        self.stop_reactor.cancel();
        let ended = self.reactor.await.map_err(|_| ControllerError::Stopping)?;
        tracing::info!(sessions = self.context.connections.load(Ordering::Relaxed), "controller stopped");
        self.store.close()?;
        ended
    }
}
