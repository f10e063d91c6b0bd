//! The connection to the controller: HTTP/2 over TLS 1.3, the server proven by a certificate of the pinned
//! authority for the name `landfall-controller`, whatever the address.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use landfall_common::Sha256;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::status::reason_in_words;
use crate::error::Error;

/// The name in the controller's certificate.
const SERVER_NAME: &str = "landfall-controller";
/// A controller that has not accepted and shaken hands by then is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection on which nothing came back for so long is dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Whom to believe, and as whom to speak.
pub enum Credentials {
    /// With an operator's certificate; the controller's chains to this CA.
    Operator {
        /// The CA certificate.
        ca: CertificateDer<'static>,
        /// The operator's.
        certificate: CertificateDer<'static>,
        /// Its key.
        key: PrivateKeyDer<'static>,
    },
    /// Without a certificate; the key of the controller's CA has this digest.
    Pinned {
        /// SHA-256 of the DER SubjectPublicKeyInfo.
        ca_key: Sha256,
    },
}

/// A channel to the controller at `host:port`.
///
/// # Errors
/// [`Error::Unreachable`], [`Error::Usage`] for an address that is none.
pub async fn connect(address: &str, credentials: Credentials) -> Result<Channel, Error> {
    check_address(address)?;
    let config = client_config(credentials).map_err(|error| unreachable(address, &error.to_string()))?;
    let connector = TlsConnector::from(Arc::new(config));
    let to = address.to_owned();
    let dial = tower::service_fn(move |_: Uri| {
        let (connector, to) = (connector.clone(), to.clone());
        async move {
            let dial = async {
                let stream = TcpStream::connect(&to).await?;
                stream.set_nodelay(true)?;
                let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
                connector.connect(name, stream).await
            };
            let late = || io::Error::new(io::ErrorKind::TimedOut, "it did not answer within 10 s");
            let stream = tokio::time::timeout(CONNECT_TIMEOUT, dial).await.map_err(|_| late())??;
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    });
    // The scheme is http because TLS is ours: tonic must not add its own.
    let endpoint = Endpoint::from_static("http://landfall-controller")
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    endpoint.connect_with_connector(dial).await.map_err(|error| {
        let mut innermost: &dyn std::error::Error = &error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        unreachable(address, &innermost.to_string())
    })
}

fn unreachable(address: &str, cause: &str) -> Error {
    Error::Unreachable { address: address.to_owned(), reason: reason_in_words(cause) }
}

/// Checks that a text is `host:port`.
///
/// # Errors
/// [`Error::Usage`].
pub fn check_address(address: &str) -> Result<(), Error> {
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !host.contains('/'));
    match port.and_then(|(_, port)| port.parse::<u16>().ok()) {
        Some(port) if port > 0 => Ok(()),
        _ => Err(Error::usage(
            format!("{address:?} is not the address of a controller"),
            "write host:port, such as deploy.example.org:7443",
        )),
    }
}

fn client_config(credentials: Credentials) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?;
    let mut config = match credentials {
        Credentials::Operator { ca, certificate, key } => {
            let mut roots = RootCertStore::empty();
            roots.add(ca)?;
            builder.with_root_certificates(roots).with_client_auth_cert(vec![certificate], key)?
        }
        Credentials::Pinned { ca_key } => {
            let verifier = Arc::new(PinnedAuthority { ca_key, provider });
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Believes the authority whose *key* is pinned: its certificate comes in the server's chain, and the leaf
/// must then hold up against it as against any root.
#[derive(Debug)]
struct PinnedAuthority {
    ca_key: Sha256,
    provider: Arc<rustls::crypto::CryptoProvider>,
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pinned = |der: &&CertificateDer<'_>| key_digest(der) == Some(self.ca_key);
        let authority = chain.iter().find(pinned).ok_or_else(|| {
            let what = "the key of the controller's authority is not the one that the token names (pinned)";
            rustls::Error::General(what.to_owned())
        })?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(leaf, chain, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken here".to_owned()))
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

/// SHA-256 of a certificate's DER SubjectPublicKeyInfo.
#[must_use]
pub fn key_digest(der: &[u8]) -> Option<Sha256> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(Sha256::of(certificate.public_key().raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for good in ["127.0.0.1:7443", "[::1]:7443", "deploy.example.org:1"] {
            assert!(check_address(good).is_ok(), "{good}");
        }
        for bad in ["", "x", ":7443", "x:0", "x:99999", "https://x:1"] {
            assert!(check_address(bad).is_err(), "{bad}");
        }
    }
}
