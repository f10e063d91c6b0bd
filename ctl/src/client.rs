//! The controller, as `ctl` sees it: every call of the operators' service, with plain data in and out.
//!
//! Generated types stay here and in [`crate::view`]. A call that changes something carries a request id, so
//! that it can be sent again when the connection breaks.

pub mod environments;
pub mod evidence;
pub mod hosts;
pub mod identity;
pub mod objects;
pub mod request;
pub mod rollouts;
pub mod status;
pub mod tls;

use std::future::Future;
use std::time::Duration;

use landfall_common::token::{self, Token};
use landfall_common::{AppName, ReleaseName, Sha256};
use landfall_proto::v1;
use landfall_proto::v1::operators_client::OperatorsClient;
use rand::RngCore as _;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use crate::clock;
use crate::config::Profile;
use crate::error::Error;
use crate::view;
use identity::Identity;
pub use request::{Anew, Bearer, Control, IfHeld, Intent, LogRange, NewToken, Overrides, Resume};

/// A call that has no answer by then has none.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Pauses before a call that did not reach the controller is sent again.
const RETRIES: [Duration; 3] = [Duration::from_millis(300), Duration::from_secs(1), Duration::from_secs(3)];
/// Messages hold manifests and metadata of some MiB.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// A connection to one controller, as one operator.
#[derive(Debug, Clone)]
pub struct Client {
    operators: OperatorsClient<Channel>,
    address: String,
    /// The key of the authority that the connection is pinned to.
    authority: Option<Sha256>,
}

/// An id for one intent.
#[must_use]
pub fn request_id() -> String {
    let mut bytes = [0; 16];
    rand::rng().fill_bytes(&mut bytes);
    hex::encode(bytes)
}

impl Client {
    /// Connects as the operator of a profile; renews the certificate on the way when half of its time is
    /// over.
    ///
    /// # Errors
    /// [`Error::NotLoggedIn`], [`Error::Unreachable`].
    pub async fn connect(profile: &Profile) -> Result<Self, Error> {
        let mut identity = Identity::load(profile)?;
        let now = clock::now();
        identity.check(now)?;
        if identity.is_renewable(now) && identity.renew(profile).await.is_ok() {
            // Failing to renew is no reason to fail: the old certificate is still good.
            identity = Identity::load(profile)?;
        }
        let address = profile.context.controller.clone();
        let channel = tls::connect(&address, identity.credentials()).await?;
        Ok(Self { authority: identity.authority(), ..Self::over(channel, address) })
    }

    /// A client over a channel that is there already.
    #[must_use]
    pub fn over(channel: Channel, address: String) -> Self {
        let operators = OperatorsClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Self { operators, address, authority: None }
    }

    /// Where the controller is.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    fn error(&self, status: &Status) -> Error {
        status::error(status, &self.address)
    }

    /// Sends a request, and again while it does not reach the controller.
    async fn call<Q, A, F>(
        &self,
        request: Q,
        send: impl Fn(OperatorsClient<Channel>, Q) -> F,
    ) -> Result<A, Error>
    where
        Q: Clone,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let mut pauses = RETRIES.into_iter();
        loop {
            let sent =
                tokio::time::timeout(CALL_TIMEOUT, send(self.operators.clone(), request.clone())).await;
            let error = match sent {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => self.error(&status),
                Err(_) => {
                    let reason = format!("it did not answer within {} s", CALL_TIMEOUT.as_secs());
                    Error::Unreachable { address: self.address.clone(), reason }
                }
            };
            let again = match &error {
                Error::Unreachable { .. } => true,
                Error::Refused(refusal) => refusal.is_transient(),
                _ => false,
            };
            match pauses.next().filter(|_| again) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(error),
            }
        }
    }

    /// Who is asked and who asks.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Refused`].
    pub async fn info(&self) -> Result<view::Info, Error> {
        let answer = self.call(v1::GetInfoRequest {}, |mut o, q| async move { o.get_info(q).await });
        answer.await.map(view::Info::from)
    }

    /// Publishes root and targets metadata, and metadata of delegated roles; after a restore, with what was seen
    /// before it.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn publish_root(
        &self,
        root: Vec<u8>,
        targets: Vec<u8>,
        roles: std::collections::BTreeMap<String, Vec<u8>>,
        resume: Option<Resume>,
    ) -> Result<u64, Error> {
        let resume = resume.map(|Resume { roots, snapshot_version, timestamp_version }| v1::Resume {
            roots,
            snapshot_version,
            timestamp_version,
        });
        let request = v1::PublishRootRequest { request_id: request_id(), root, targets, roles, resume };
        let answer = self.call(request, |mut o, q| async move { o.publish_root(q).await });
        Ok(answer.await?.root_version)
    }

    /// A file of the release repository; none if there is none.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn repository_file(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let request = v1::GetRepositoryFileRequest { name: name.to_owned() };
        let answer = self.call(request, |mut o, q| async move { o.get_repository_file(q).await });
        match answer.await {
            Ok(answer) => Ok(Some(answer.content)),
            Err(Error::Refused(refusal)) if refusal.code == Code::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The content of an object of a release of this application, of at most `max` bytes, verified.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn object(&self, application: &AppName, digest: &Sha256, max: usize) -> Result<Vec<u8>, Error> {
        let (digest_text, application) = (digest.to_string(), application.to_string());
        let request = v1::GetObjectRequest { digest: digest_text, application };
        let answer = self.call(request, |mut o, q| async move { o.get_object(q).await });
        let mut stream = answer.await?;
        let mut content = Vec::new();
        while let Some(piece) = stream.message().await.map_err(|status| self.error(&status))? {
            content.extend_from_slice(&piece.data);
            if content.len() > max {
                return Err(Error::Answer(format!("object {digest} is larger than {max} bytes")));
            }
        }
        if Sha256::of(&content) == *digest {
            Ok(content)
        } else {
            Err(Error::Answer(format!("object {digest} does not have its digest")))
        }
    }

    /// Publishes a release whose objects are there; whether it was there already.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn publish_release(
        &self,
        manifest: Vec<u8>,
        role_metadata: Vec<u8>,
        notes: String,
    ) -> Result<bool, Error> {
        let request = v1::PublishReleaseRequest { request_id: request_id(), manifest, role_metadata, notes };
        let answer = self.call(request, |mut o, q| async move { o.publish_release(q).await });
        Ok(answer.await?.existed)
    }

    /// All releases of an application, newest first.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn releases(&self, application: &AppName) -> Result<Vec<view::Release>, Error> {
        let mut releases = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = v1::ListReleasesRequest { application: application.to_string(), page_token };
            let answer = self.call(request, |mut o, q| async move { o.list_releases(q).await }).await?;
            releases.extend(answer.releases.into_iter().map(view::Release::from));
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                return Ok(releases);
            }
        }
    }

    /// A release and its manifest; none if there is no such release.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn release(
        &self,
        application: &AppName,
        name: &ReleaseName,
    ) -> Result<Option<(view::Release, Vec<u8>)>, Error> {
        let request = v1::GetReleaseRequest { application: application.to_string(), name: name.to_string() };
        let answer = self.call(request, |mut o, q| async move { o.get_release(q).await });
        match answer.await {
            Ok(answer) => Ok(Some((answer.release.unwrap_or_default().into(), answer.manifest))),
            // One whose manifest is damaged is there.
            Err(Error::Refused(refusal))
                if refusal.code == Code::NotFound && refusal.reason != status::OBJECT_DAMAGED =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// A single-use token.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn create_token(&self, bearer: Bearer, valid_for: Duration) -> Result<NewToken, Error> {
        let (host, operator, named) = match bearer {
            Bearer::Host { application, environment, labels, name } => {
                let named = token::Bearer::Host {
                    application: application.clone(),
                    environment: environment.clone(),
                    name: name.clone(),
                };
                let host = v1::HostToken {
                    application: application.to_string(),
                    environment: environment.to_string(),
                    labels: labels.into_iter().collect(),
                    name: name.map(String::from).unwrap_or_default(),
                };
                (Some(host), None, named)
            }
            Bearer::Operator { name, role } => {
                (None, Some(v1::OperatorToken { name, role }), token::Bearer::Operator)
            }
        };
        let valid_for_ms = u64::try_from(valid_for.as_millis()).unwrap_or(u64::MAX);
        let request = v1::CreateTokenRequest { request_id: request_id(), host, operator, valid_for_ms };
        let answer = self.call(request, |mut o, q| async move { o.create_token(q).await }).await?;
        let ca = answer.ca.parse().map_err(|error| Error::Answer(format!("the token's `ca`: {error}")))?;
        // Who joins by it believes the token, so that it says what this machine has pinned.
        if self.authority.is_some_and(|pinned| pinned != ca) {
            let what = "the authority that it wants in a token is not the one that this machine has pinned";
            return Err(Error::Answer(what.to_owned()));
        }
        let (id, secret) = (answer.token_id, answer.secret);
        Ok(NewToken {
            token: Token { id, secret, ca, root: None, bearer: named },
            expires: landfall_common::Timestamp::from_ms(answer.expires_ms),
        })
    }

    /// Who has a certificate, or a token for one.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn operators(&self) -> Result<Vec<view::Operator>, Error> {
        let request = v1::ListOperatorsRequest {};
        let answer = self.call(request, |mut o, q| async move { o.list_operators(q).await });
        Ok(answer.await?.operators.into_iter().map(view::Operator::from).collect())
    }

    /// Denies everything that an operator has now.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn remove_operator(&self, name: &str) -> Result<(), Error> {
        let request = v1::RemoveOperatorRequest { request_id: request_id(), name: name.to_owned() };
        self.call(request, |mut o, q| async move { o.remove_operator(q).await }).await.map(drop)
    }

    /// Entries of the log, in their order.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn log(&self, range: LogRange) -> Result<Vec<view::LogEntry>, Error> {
        let LogRange { from, limit, last, application, environment } = range;
        let request = v1::ReadLogRequest {
            from,
            limit,
            last,
            application: application.map(String::from).unwrap_or_default(),
            environment: environment.map(String::from).unwrap_or_default(),
        };
        let answer = self.call(request, |mut o, q| async move { o.read_log(q).await });
        Ok(answer.await?.entries.into_iter().map(view::LogEntry::from).collect())
    }

    /// The log's signed checkpoint.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn checkpoint(&self) -> Result<Vec<u8>, Error> {
        let request = v1::GetCheckpointRequest { since_size: 0 };
        let answer = self.call(request, |mut o, q| async move { o.get_checkpoint(q).await });
        Ok(answer.await?.checkpoint)
    }
}
