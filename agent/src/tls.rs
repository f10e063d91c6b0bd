//! The agent's side of TLS, and the HTTP/2 channel over it.
//!
//! The controller's certificate must name `landfall-controller` and chain to the CA whose key was pinned,
//! whatever address it is reached by. Each connection is made with the credentials of that moment, so that
//! a renewed certificate counts from the next connection on.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use landfall_common::{Duration, Sha256};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::error::AgentError;
use crate::identity::Credentials;

/// The name in the controller's certificate.
const SERVER_NAME: &str = "landfall-controller";

/// HTTP/2 pings, so that a connection that died silently is noticed even where the application is quiet.
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// From the first packet to the end of the handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// How long the controller may take to answer a call.
pub const ANSWER: Duration = Duration::from_secs(30);

/// A connection, of whatever kind.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

type Dialling = Pin<Box<dyn Future<Output = io::Result<Box<dyn Io>>> + Send>>;

/// How a plain connection to the controller is made: TCP, or whatever a test puts here.
#[derive(Clone)]
pub struct Dialler {
    dial: Arc<dyn Fn() -> Dialling + Send + Sync>,
    /// Where to, for people.
    address: String,
}

impl Dialler {
    /// TCP to `HOST:PORT`, the name looked up at each attempt.
    #[must_use]
    pub fn tcp(address: String) -> Self {
        let to = address.clone();
        let dialler = Self::new(move || {
            let address = to.clone();
            Box::pin(async move {
                let stream = tokio::net::TcpStream::connect(&address).await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream) as Box<dyn Io>)
            })
        });
        Self { address, ..dialler }
    }

    /// Any other way.
    pub fn new(dial: impl Fn() -> Dialling + Send + Sync + 'static) -> Self {
        Self { dial: Arc::new(dial), address: "its address".to_owned() }
    }
}

/// Whom the agent believes to be the controller.
#[derive(Debug, Clone)]
pub enum Anchor {
    /// Whoever has a certificate under a CA with this key (SHA-256 of its SubjectPublicKeyInfo): at
    /// enrolment, when the CA's certificate is not here yet.
    Key(Sha256),
    /// Whoever has a certificate under this CA.
    Certificate(Vec<u8>),
}

/// Connects, at the first use, and gives a channel that does not reconnect by itself for ever: a session
/// that ends makes a new one.
///
/// # Errors
/// [`AgentError::Tls`] for a CA certificate or key that cannot be used, [`AgentError::Connect`].
pub async fn connect(
    dialler: &Dialler,
    anchor: &Anchor,
    credentials: Option<&Credentials>,
) -> Result<Channel, AgentError> {
    let config = Arc::new(client_config(anchor, credentials)?);
    let address = dialler.address.clone();
    let dialler = dialler.clone();
    let connector = tower::service_fn(move |_: http::Uri| {
        let (config, dialler) = (config.clone(), dialler.clone());
        async move {
            let attempt = async {
                let stream = (dialler.dial)().await?;
                let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
                TlsConnector::from(config).connect(name, stream).await
            };
            let stream = tokio::time::timeout(CONNECT_TIMEOUT, attempt)
                .await
                .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no connection within 15s"))??;
            Ok::<_, io::Error>(hyper_util::rt::TokioIo::new(stream))
        }
    });
    // The scheme is only a label: TLS is ours, below.
    Endpoint::from_static("http://landfall-controller")
        .user_agent(concat!("landfall-agent/", env!("CARGO_PKG_VERSION")))
        .map_err(|error| AgentError::Connect { reason: crate::error::chain(&error) })?
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        // An object is at most some chunks of 64 KiB ahead of the disk: memory stays bounded.
        .initial_stream_window_size(512 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .connect_with_connector(connector)
        .await
        .map_err(|error| AgentError::Connect { reason: format!("{address}: {}", explain(&error)) })
}

/// A call that must be answered within `limit`: a controller whose connections live while its calls hang must not
/// hold up what else this host has to say.
///
/// # Errors
/// What the call says, or `unavailable` with a reason.
pub async fn in_time<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, tonic::Status>>,
) -> Result<T, tonic::Status> {
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
        Err(tonic::Status::unavailable(format!("the controller gave no answer for {}s", limit.as_secs())))
    })
}

/// Whether a certificate is one for this key, issued by this CA. Whether it is in force now is not asked: a host's
/// clock may be wrong, and the controller judges by its own.
///
/// # Errors
/// [`AgentError::Tls`], [`AgentError::Identity`].
pub fn check_issued(ca: &[u8], credentials: &Credentials) -> Result<(), AgentError> {
    client_config(&Anchor::Certificate(ca.to_vec()), Some(credentials))?;
    let (from, _) = credentials.validity()?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)?), provider)
        .build()
        .map_err(|error| AgentError::Tls(rustls::Error::General(error.to_string())))?;
    let certificate = CertificateDer::from(credentials.certificate.clone());
    let at = UnixTime::since_unix_epoch(Duration::from_millis(from.ms()));
    verifier.verify_client_cert(&certificate, &[], at).map(drop).map_err(AgentError::Tls)
}

/// The refusals of TLS in words; a refused client certificate shows as a broken pipe on first use.
fn explain(error: &tonic::transport::Error) -> String {
    let text = crate::error::chain(error);
    if text.contains("NotValidForName") || text.contains("UnknownIssuer") {
        return format!("whoever answers is not this host's controller: {text}");
    }
    if text.contains("CertificateExpired")
        || text.contains("CertificateNotYetValid")
        || text.contains("NotValidYet")
    {
        return format!(
            "the controller's certificate is not in force at this host's time; check the clock: {text}"
        );
    }
    text
}

fn client_config(anchor: &Anchor, credentials: Option<&Credentials>) -> Result<ClientConfig, AgentError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(AgentError::Tls)?;
    let builder = match anchor {
        Anchor::Certificate(ca) => builder.with_root_certificates(roots(ca)?),
        Anchor::Key(digest) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(PinnedKey { digest: *digest, provider })),
    };
    let mut config = match credentials {
        Some(credentials) => {
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(credentials.key.clone()));
            let chain = vec![CertificateDer::from(credentials.certificate.clone())];
            builder.with_client_auth_cert(chain, key).map_err(AgentError::Tls)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn roots(ca: &[u8]) -> Result<RootCertStore, AgentError> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(ca.to_vec())).map_err(AgentError::Tls)?;
    Ok(roots)
}

/// SHA-256 of the public key of a certificate (DER SubjectPublicKeyInfo).
#[must_use]
pub fn key_digest(certificate: &[u8]) -> Option<Sha256> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(Sha256::of(certificate.public_key().raw))
}

/// Finds the CA of the pinned key in what the server shows, and then verifies as ever.
#[derive(Debug)]
struct PinnedKey {
    digest: Sha256,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedKey {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let unknown = || rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let ca = intermediates.iter().find(|der| key_digest(der) == Some(self.digest)).ok_or_else(unknown)?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
