//! Asks gates over HTTP, for the planner: one `POST` each, to where `controller.toml` allows it and nowhere else.
//!
//! What comes back is a word or why there is none. No redirect is followed, no proxy of the environment is used, no more
//! is read than an answer can have, and all of it ends in time: whoever drops the future has ended the question.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::{Either, select};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use landfall_common::Sha256;
use landfall_common::strategy::GateUrl;
use landfall_common::time::human;
use landfall_controller_core::asked::{About, Allowed, Question, Word};
use landfall_controller_core::gate::{GateVerdict, WATCH};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::GateAccess;
use crate::error::ControllerError;

/// A longer answer is none: it has two short texts.
const MAX_ANSWER: usize = 16 << 10;

/// Of the head of an answer no more is read.
const MAX_HEAD: usize = 32 << 10;

/// A longer token is no token.
const MAX_TOKEN: u64 = 8 << 10;

/// Where the controller may ask, and with what.
#[derive(Default)]
pub struct Asker {
    /// As in [`Allowed`].
    ways: Vec<Way>,
}

struct Way {
    url: GateUrl,
    token_file: Option<PathBuf>,
    /// Where it is asked over TLS.
    tls: Option<TlsConnector>,
}

/// What is asked.
#[derive(Serialize)]
struct Body<'a> {
    application: &'a str,
    environment: &'a str,
    gate: &'a str,
    release: &'a str,
    digest: Sha256,
    rollout: &'a str,
    batch: u32,
    batches: u32,
    /// Whether no batch would begin: all have, and the release is watched.
    watch: bool,
}

impl<'a> From<&'a About> for Body<'a> {
    fn from(about: &'a About) -> Self {
        Self {
            application: about.place.application.as_str(),
            environment: about.place.environment.as_str(),
            gate: about.gate.as_str(),
            release: about.release.name.as_str(),
            digest: about.release.digest,
            rollout: about.rollout.as_str(),
            batch: about.batch,
            batches: about.batches,
            watch: about.batch == WATCH,
        }
    }
}

/// What is answered. A key that is misspelt, or said twice, is no answer: it may have meant anything.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    state: GateVerdict,
    #[serde(default)]
    reason: String,
}

impl Asker {
    /// Reads what it needs: the certificates of those who vouch for whom it asks. Tokens are read with each question, so
    /// that they can be replaced.
    ///
    /// # Errors
    /// [`ControllerError::File`], [`ControllerError::Gates`].
    pub fn open(access: &[GateAccess]) -> Result<Self, ControllerError> {
        let mut of_the_system = None;
        let mut ways = Vec::new();
        for GateAccess { url, token_file, ca_file } in access {
            if let Some(path) = token_file {
                token(path).map_err(|reason| unusable(url, reason))?;
            }
            let tls = match (url.is_secure(), ca_file) {
                (false, _) => None,
                (true, Some(path)) => Some(connector(authorities_in(path, url)?)),
                (true, None) => match &of_the_system {
                    Some(connector) => Some(TlsConnector::clone(connector)),
                    None => Some(of_the_system.insert(connector(authorities_of_the_system(url)?)).clone()),
                },
            };
            ways.push(Way { url: url.clone(), token_file: token_file.clone(), tls });
        }
        Ok(Self { ways })
    }

    /// Where it may ask.
    #[must_use]
    pub fn allowed(&self) -> Allowed {
        Allowed::below(self.ways.iter().map(|way| way.url.clone()).collect())
    }

    /// Asks.
    ///
    /// # Errors
    /// Why there is no answer, in a few words.
    pub async fn ask(&self, question: &Question) -> Result<Word, String> {
        let Question { ask, about, allowed_by, .. } = question;
        let way = self.ways.get(*allowed_by).filter(|way| ask.url.lies_below(&way.url));
        let way = way.ok_or("controller.toml does not allow that it is asked")?;
        let answer = tokio::time::timeout(ask.timeout, exchange(way, &ask.url, about)).await;
        answer.unwrap_or_else(|_| Err(format!("no answer within {}", human::format(ask.timeout))))
    }
}

fn unusable(url: &GateUrl, reason: String) -> ControllerError {
    ControllerError::Gates { url: url.to_string(), reason }
}

fn connector(roots: RootCertStore) -> TlsConnector {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the versions that are on by default")
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

fn authorities_in(path: &Path, url: &GateUrl) -> Result<RootCertStore, ControllerError> {
    let pem = crate::private_file::read(path)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| error.to_string());
        let added = certificate.and_then(|one| roots.add(one).map_err(|error| error.to_string()));
        added.map_err(|error| unusable(url, format!("ca_file {}: {error}", path.display())))?;
    }
    if roots.is_empty() {
        return Err(unusable(url, format!("ca_file {} has no certificate", path.display())));
    }
    Ok(roots)
}

fn authorities_of_the_system(url: &GateUrl) -> Result<RootCertStore, ControllerError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let reason =
            "this machine trusts no certificate authority; install ca-certificates, or name a ca_file";
        return Err(unusable(url, reason.to_owned()));
    }
    Ok(roots)
}

/// The token in a file, without the end of its line.
fn token(path: &Path) -> Result<HeaderValue, String> {
    let wrong = |what: &str| format!("token_file {} {what}", path.display());
    let length = std::fs::metadata(path).map_err(|error| wrong(&format!("cannot be read: {error}")))?.len();
    if length > MAX_TOKEN {
        return Err(wrong("is too long for a token"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&format!("cannot be read: {error}")))?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong("holds no token: one word of ASCII letters"));
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| wrong("holds no token"))?;
    value.set_sensitive(true);
    Ok(value)
}

async fn exchange(way: &Way, url: &GateUrl, about: &About) -> Result<Word, String> {
    let request = request(way, url, about)?;
    let stream = TcpStream::connect((url.host(), url.port())).await;
    let stream = stream.map_err(|error| format!("cannot connect: {error}"))?;
    let Some(tls) = &way.tls else { return over(stream, request).await };
    let name = ServerName::try_from(url.host().to_owned()).map_err(|error| error.to_string())?;
    let stream = tls.connect(name, stream).await.map_err(|error| format!("cannot connect: {error}"))?;
    over(stream, request).await
}

async fn over(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Full<Bytes>>,
) -> Result<Word, String> {
    let mut client = http1::Builder::new();
    client.max_buf_size(MAX_HEAD);
    let (mut sender, connection) =
        client.handshake(TokioIo::new(stream)).await.map_err(|error| format!("cannot ask: {error}"))?;
    let answer = async move {
        let broken = |error: hyper::Error| format!("no answer: {}", chain(&error));
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        if status != StatusCode::OK {
            let redirect = if status.is_redirection() { ", and no redirect is followed" } else { "" };
            return Err(format!("it answered {}{redirect}", status.as_u16()));
        }
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(error) => format!("its answer broke off: {}", chain(&*error)),
            Err(_) => format!("its answer has more than {MAX_ANSWER} bytes"),
        })?;
        read(&body.to_bytes())
    };
    // The connection is driven for as long as the answer takes, and has no life of its own.
    match select(pin!(answer), pin!(connection)).await {
        Either::Left((answer, _)) => answer,
        Either::Right((_, answer)) => answer.await,
    }
}

fn request(way: &Way, url: &GateUrl, about: &About) -> Result<Request<Full<Bytes>>, String> {
    let body = serde_json::to_vec(&Body::from(about)).map_err(|error| error.to_string())?;
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(url.path_and_query())
        .header(HOST, url.authority())
        .header(CONTENT_TYPE, "application/json")
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("landfall-controller/", env!("CARGO_PKG_VERSION")));
    if let Some(path) = &way.token_file {
        request = request.header(AUTHORIZATION, token(path)?);
    }
    request.body(Full::from(body)).map_err(|error| error.to_string())
}

fn read(body: &[u8]) -> Result<Word, String> {
    let Answer { state, reason } = serde_json::from_slice(body).map_err(|error| {
        format!("its answer is not {{\"state\": \"open\"|\"closed\"|\"failed\", \"reason\": \"…\"}}: {error}")
    })?;
    Ok(Word { verdict: state, reason })
}

/// The error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
