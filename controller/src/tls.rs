//! TLS: from a listener to a stream of connections whose peers are known.
//!
//! tonic's own TLS cannot reload certificates, so the acceptor is ours. Each handshake is a task with a
//! deadline, and only so many run at once: ten thousand agents that reconnect wait in the kernel's queue
//! and do not starve those who are connected. What one address may have of them is in [`room`].

mod room;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, RwLock};
use std::task::{Context, Poll};

use landfall_common::Duration;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use crate::ca::{CertificateAuthority, ServerCertificate};
use crate::clock::Clock;
use crate::error::ControllerError;
use crate::identity::{Peer, PeerCertificate};
use room::{Entrance, Room};

/// A client that has not begun its handshake by then is dropped: who connects has something to say.
const HELLO_TIMEOUT: Duration = Duration::from_secs(3);

/// A client that has not finished its handshake by then is dropped.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Handshakes at once: each costs about a millisecond of CPU, so this is some hundred milliseconds of queue.
const HANDSHAKES: usize = 256;

/// A pause after the listener itself failed (too many open files, say), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The server's certificate, replaceable while connections are accepted.
#[derive(Debug)]
pub struct CurrentCertificate(RwLock<Arc<CertifiedKey>>);

impl CurrentCertificate {
    /// Begins with this certificate.
    ///
    /// # Errors
    /// [`ControllerError::Tls`] for a key that cannot be used.
    pub fn new(certificate: ServerCertificate) -> Result<Arc<Self>, ControllerError> {
        Ok(Arc::new(Self(RwLock::new(certified(certificate)?))))
    }

    /// New connections are shown this one from now on.
    ///
    /// # Errors
    /// [`ControllerError::Tls`] for a key that cannot be used; the one before stays.
    pub fn replace(&self, certificate: ServerCertificate) -> Result<(), ControllerError> {
        let certified = certified(certificate)?;
        *self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner) = certified;
        Ok(())
    }
}

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone())
    }
}

fn certified(certificate: ServerCertificate) -> Result<Arc<CertifiedKey>, ControllerError> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certificate.key));
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    Ok(Arc::new(CertifiedKey::from_der(certificate.chain, key, &provider)?))
}

/// The server's side of TLS 1.3 with HTTP/2. A client may show a certificate of our authority; what a caller
/// without one may do is decided for each method.
///
/// # Errors
/// [`ControllerError::Tls`], [`ControllerError::Authority`].
pub fn acceptor(
    authority: &CertificateAuthority,
    certificate: Arc<CurrentCertificate>,
    clock: Clock,
) -> Result<TlsAcceptor, ControllerError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.certificate().clone())?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| ControllerError::Authority { doing: "verify clients", reason: error.to_string() })?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.time_provider = Arc::new(Now(clock));
    // A resumed session would skip the look at the client's certificate, and keeps memory for each client.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Certificates are looked at by the same clock that they are issued by.
#[derive(Clone)]
struct Now(Clock);

impl std::fmt::Debug for Now {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Now")
    }
}

impl TimeProvider for Now {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(self.0.now().ms())))
    }
}

/// Where connections come from; a simulated network in tests.
pub trait Listen: Send + 'static {
    /// One connection.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// Waits for the next one.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Io, SocketAddr)>> + Send;
}

impl Listen for TcpListener {
    type Io = TcpStream;
    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, address) = TcpListener::accept(self).await?;
        // Assignments and reports are single small messages: waiting to fill a packet only delays them.
        stream.set_nodelay(true)?;
        Ok((stream, address))
    }
}

/// Accepts connections until the stream is dropped; only finished handshakes come out of it.
pub fn incoming<L: Listen>(
    mut listener: L,
    acceptor: TlsAcceptor,
) -> ReceiverStream<io::Result<Connection<L::Io>>> {
    let (accepted, connections) = mpsc::channel(64);
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    let mut room = Room::default();
    tokio::spawn(async move {
        loop {
            let Ok(permit) = handshakes.clone().acquire_owned().await else { return };
            let next = tokio::select! {
                next = listener.accept() => next,
                () = accepted.closed() => return,
            };
            let (stream, address) = match next {
                Ok(next) => next,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(entrance) = room.enter(address.ip()) else {
                tracing::info!(%address, "too many connections of this address have not finished their handshake");
                continue;
            };
            let (acceptor, accepted, handshakes) = (acceptor.clone(), accepted.clone(), handshakes.clone());
            tokio::spawn(async move {
                let permits = match entrance {
                    Entrance::Open(share) => Some((share, permit)),
                    Entrance::Waiting(waiting) => {
                        // Others of other addresses come first.
                        drop(permit);
                        match waiting.wait().await {
                            Some(share) => {
                                handshakes.acquire_owned().await.ok().map(|permit| (share, permit))
                            }
                            None => None,
                        }
                    }
                };
                let Some(permits) = permits else {
                    tracing::info!(%address, "too many others of this address are slow with their handshakes");
                    return;
                };
                let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, greeted(&acceptor, stream)).await;
                drop(permits);
                match handshake {
                    Ok(Ok(stream)) => {
                        // When the server is gone there is nobody left to tell.
                        let _ = accepted.send(Ok(Connection::new(stream, address))).await;
                    }
                    Ok(Err(error)) => tracing::info!(%address, %error, "TLS handshake failed"),
                    Err(_) => tracing::info!(%address, "TLS handshake took too long"),
                }
            });
        }
    });
    ReceiverStream::new(connections)
}

/// The handshake, of which the client's first word must come soon.
async fn greeted<I: AsyncRead + AsyncWrite + Unpin>(
    acceptor: &TlsAcceptor,
    stream: I,
) -> io::Result<TlsStream<I>> {
    let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream);
    let begun = tokio::time::timeout(HELLO_TIMEOUT, hello).await;
    let begun = begun.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "nothing was said"))??;
    begun.into_stream(acceptor.config().clone()).await
}

/// One connection whose handshake is done.
pub struct Connection<I> {
    stream: TlsStream<I>,
    peer: Arc<Peer>,
}

impl<I> Connection<I> {
    fn new(stream: TlsStream<I>, address: SocketAddr) -> Self {
        let leaf = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        // The handshake has verified that our authority signed it. One that does not say who it is for
        // was never issued by this program; its bearer is nobody.
        let certificate = leaf.and_then(|der| PeerCertificate::read(der).ok());
        Self { stream, peer: Arc::new(Peer { address: Some(address), certificate }) }
    }
}

impl<I> Connected for Connection<I> {
    type ConnectInfo = Arc<Peer>;
    fn connect_info(&self) -> Arc<Peer> {
        self.peer.clone()
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for Connection<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Connection<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
