//! How a host joins, and how it renews its certificate.
//!
//! At the join the agent believes nobody but the token: it pins the CA's key that the token names, and the
//! release root whose digest it names. The order on the disk is: the request's key, then the credentials,
//! the trusted root, the ledger, and last the identity, which says that all of it is there.

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use landfall_agent_core::Identity;
use landfall_common::Sha256;
use landfall_common::disk::Disk;
use landfall_proto::v1::enrolment_client::EnrolmentClient;
use landfall_proto::v1::{JoinRequest, JoinResponse, RenewRequest};
use landfall_trust::{PublicKey, TrustedStore};
use serde::Deserialize;

use crate::engine::{self, Disks};
use crate::error::AgentError;
use crate::identity::{Credentials, Enrolled, Pending};
use crate::tls::{self, Anchor, Dialler};
use crate::trust;

const PREFIX: &str = "lft1_";

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Token {
    /// Its public name.
    pub id: String,
    /// Its secret, base64url.
    pub secret: String,
    /// The digest of the CA's key.
    pub ca: Sha256,
    /// The digest of the release root to begin with.
    #[serde(default)]
    pub root: Option<Sha256>,
    /// `host` or `operator`.
    pub kind: String,
}

impl Token {
    /// Reads the text that people carry.
    ///
    /// # Errors
    /// [`AgentError::Token`] with what is wrong; the secret is never shown.
    pub fn parse(text: &str) -> Result<Self, AgentError> {
        let wrong = |reason: &str| AgentError::Token { reason: reason.to_owned() };
        let encoded =
            text.trim().strip_prefix(PREFIX).ok_or_else(|| wrong("it does not begin with lft1_"))?;
        let bytes = BASE64_URL_SAFE_NO_PAD
            .decode(encoded)
            .map_err(|_| wrong("it was not copied whole, or something was added"))?;
        let token: Self = serde_json::from_slice(&bytes)
            .map_err(|_| wrong("it was not copied whole, or is of another version"))?;
        match (token.kind.as_str(), token.root) {
            ("host", Some(_)) => Ok(token),
            ("host", None) => Err(wrong("it names no release root; make it with `ctl hosts token`")),
            _ => Err(wrong("it is not for a host; make one with `ctl hosts token`")),
        }
    }
}

/// Enrols this host.
///
/// # Errors
/// [`AgentError::LedgerExists`] if it is enrolled already; [`AgentError::Token`], [`AgentError::Connect`],
/// [`AgentError::Controller`] for a refusal, [`AgentError::Trust`] for a root that is not the token's.
pub async fn join(
    state: &std::sync::Arc<dyn Disk>,
    token: &Token,
    controller: &str,
    dialler: &Dialler,
    host_name: &str,
) -> Result<Enrolled, AgentError> {
    state.ensure_dir(Path::new(""))?;
    if let Some(enrolled) = Enrolled::load(&**state)? {
        return Err(AgentError::LedgerExists { host: enrolled.identity.host.to_string() });
    }
    let pending = Pending::begin(&**state, &token.id)?;
    let channel = tls::connect(dialler, &Anchor::Key(token.ca), None).await?;
    let request = JoinRequest {
        token_id: token.id.clone(),
        secret: token.secret.clone(),
        csr: pending.csr.clone(),
        host: host_name.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let response = EnrolmentClient::new(channel).join(request).await.map_err(refused)?.into_inner();
    let (enrolled, store) = check(token, controller, &response)?;
    pending.certified(response.certificate).save(&**state)?;
    trust::save_all(&**state, &store)?;
    let disks = Disks { state: state.clone(), app: state.clone() };
    match engine::enrol(&disks, enrolled.identity.clone()) {
        // A join that was cut short after this.
        Ok(()) | Err(AgentError::LedgerExists { .. }) => {}
        Err(error) => return Err(error),
    }
    enrolled.save(&**state)?;
    Ok(enrolled)
}

/// Holds the answer against the token.
fn check(
    token: &Token,
    controller: &str,
    response: &JoinResponse,
) -> Result<(Enrolled, TrustedStore), AgentError> {
    let wrong = |reason: String| AgentError::Controller { reason };
    if tls::key_digest(&response.ca_certificate) != Some(token.ca) {
        return Err(wrong("its answer holds another CA than the token names".to_owned()));
    }
    if Some(Sha256::of(&response.root)) != token.root {
        return Err(wrong(
            "its release root is not the one that the token names; make a new token with `ctl hosts token`, and ask \
             who changed the root if that does not help"
                .to_owned(),
        ));
    }
    let store = TrustedStore::initialise(&response.root).map_err(AgentError::Trust)?;
    let director_keys = response
        .director_keys
        .iter()
        .map(|text| serde_json::from_str::<PublicKey>(text))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(format!("its key for assignments cannot be read: {error}")))?;
    if director_keys.is_empty() {
        return Err(wrong("it names no key for assignments".to_owned()));
    }
    let name = |error: landfall_common::ids::InvalidName| wrong(error.to_string());
    let identity = Identity {
        host: response.host.parse().map_err(name)?,
        application: response.application.parse().map_err(name)?,
        environment: response.environment.parse().map_err(name)?,
    };
    let ca = response.ca_certificate.clone();
    let enrolled = Enrolled { identity, controller: controller.to_owned(), director_keys, ca };
    Ok((enrolled, store))
}

/// Gets the next certificate, for a new key, and puts it in the place of the old one. Works with a certificate
/// that expired lately, since it is not shown: its key signs the request.
///
/// # Errors
/// [`AgentError::Connect`], [`AgentError::Controller`] for a refusal.
pub async fn renew(
    state: &dyn Disk,
    enrolled: &Enrolled,
    dialler: &Dialler,
    current: &Credentials,
) -> Result<Credentials, AgentError> {
    let pending = Pending::begin(state, "renewal")?;
    let channel = tls::connect(dialler, &Anchor::Certificate(enrolled.ca.clone()), None).await?;
    let request = RenewRequest {
        certificate: current.certificate.clone(),
        csr: pending.csr.clone(),
        signature: current.sign(&pending.csr)?,
    };
    let response = EnrolmentClient::new(channel).renew(request).await.map_err(refused)?.into_inner();
    let renewed = pending.certified(response.certificate);
    renewed.validity()?;
    renewed.save(state)?;
    Pending::end(state)?;
    Ok(renewed)
}

/// A refusal in the controller's own words.
pub(crate) fn refused(status: tonic::Status) -> AgentError {
    if status.code() == tonic::Code::Unavailable && status.message().is_empty() {
        return AgentError::Connect { reason: crate::error::chain(&status) };
    }
    AgentError::Controller { reason: format!("{} ({})", status.message(), status.code()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str) -> String {
        format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(json))
    }

    #[test]
    fn a_token_is_read_or_refused_without_showing_its_secret() {
        let digest = Sha256::of(b"x");
        let good =
            format!(r#"{{"id":"a1","secret":"hush","ca":"{digest}","root":"{digest}","kind":"host"}}"#);
        assert_eq!(Token::parse(&format!(" {}\n", text(&good))).unwrap().id, "a1");
        let operator = good.replace("\"host\"", "\"operator\"");
        let rootless = format!(r#"{{"id":"a1","secret":"hush","ca":"{digest}","kind":"host"}}"#);
        let cut = text(&good);
        for bad in ["", "hush", &text("{}"), &text(&operator), &text(&rootless), &cut[..cut.len() - 9]] {
            let error = Token::parse(bad).unwrap_err().to_string();
            assert!(!error.contains("hush"), "{error}");
        }
    }
}
