//! How a host joins, and how it renews its certificate.
//!
//! At the join the agent believes nobody but the token: it pins the CA's key that the token names, the release
//! root whose digest it names, and the application and the environment. The order on the disk is: the request's
//! key, then the credentials, the trusted root, the ledger, and last the identity, which says that all of it is
//! there.
//!
//! A host that joins again keeps its ledger, its releases and what it trusts: the token's root must stand in the
//! same chain as its own, and no version that it has seen is forgotten.

use std::path::Path;

use landfall_agent_core::Identity;
use landfall_common::disk::Disk;
use landfall_common::token::Bearer;
use landfall_common::{AppName, EnvName, HostId, Sha256, Token};
use landfall_proto::v1::enrolment_client::EnrolmentClient;
use landfall_proto::v1::{JoinRequest, JoinResponse, RenewRequest};
use landfall_trust::store::ROOT;
use landfall_trust::updater::follow_roots;
use landfall_trust::{PublicKey, TrustedStore};

use crate::engine::{self, Disks};
use crate::error::{AgentError, chain};
use crate::identity::{Credentials, Enrolled, Pending};
use crate::tls::{self, ANSWER, Anchor, Dialler, in_time};
use crate::trust;

/// A token that lets in a host, and what it pins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostToken {
    token: Token,
    root: Sha256,
    application: AppName,
    environment: EnvName,
    name: Option<HostId>,
}

impl HostToken {
    /// Reads the text that people carry.
    ///
    /// # Errors
    /// [`AgentError::Token`] with what is wrong; the secret is never shown.
    pub fn parse(text: &str) -> Result<Self, AgentError> {
        let wrong = |reason: String| AgentError::Token { reason };
        let token = Token::parse(text).map_err(|error| wrong(error.to_string()))?;
        let Bearer::Host { application, environment, name } = token.bearer.clone() else {
            return Err(wrong("it is for an operator and not for a host".to_owned()));
        };
        let root = token.root.ok_or_else(|| wrong("it names no release root".to_owned()))?;
        Ok(Self { token, root, application, environment, name })
    }

    /// A token that fixes the host's name lets no other in.
    ///
    /// # Errors
    /// [`AgentError::Token`].
    pub fn must_allow(&self, asked: &str) -> Result<(), AgentError> {
        match &self.name {
            Some(name) if name.as_str() != asked => {
                let reason =
                    format!("it is for {name}, and --name says {asked}; leave --name out to enrol as {name}");
                Err(AgentError::Token { reason })
            }
            _ => Ok(()),
        }
    }

    /// A host that is enrolled stays where and who it is.
    fn must_be_for(&self, identity: &Identity) -> Result<(), AgentError> {
        let here = self.application == identity.application && self.environment == identity.environment;
        if here && self.name.as_ref().is_none_or(|name| *name == identity.host) {
            return Ok(());
        }
        let name = self.name.as_ref().map_or("any host", HostId::as_str);
        let reason = format!(
            "it is for {name} of {} in {}, and this is {} of {} in {}; make one with `ctl hosts token --env {} --name \
             {}`, or remove this host's state directory to enrol it as another one",
            self.application,
            self.environment,
            identity.host,
            identity.application,
            identity.environment,
            identity.environment,
            identity.host,
        );
        Err(AgentError::Token { reason })
    }
}

/// Enrols this host, or with `again` one that is enrolled already, for the same place and under the same name.
///
/// # Errors
/// [`AgentError::Enrolled`] if it is enrolled already, or without `again`; [`AgentError::Locked`] if its agent
/// runs; [`AgentError::Token`], [`AgentError::Connect`], [`AgentError::Controller`] for a refusal,
/// [`AgentError::Trust`] for a root that is not the token's.
pub async fn join(
    state: &std::sync::Arc<dyn Disk>,
    token: &HostToken,
    controller: &str,
    dialler: &Dialler,
    host_name: &str,
    again: bool,
) -> Result<Enrolled, AgentError> {
    state.ensure_dir(Path::new(""))?;
    let before = Enrolled::load(&**state)?.map(|enrolled| enrolled.identity);
    let _lock = engine::lock(&**state)?;
    if let Some(identity) = &before {
        if !again {
            return Err(AgentError::Enrolled { host: identity.host.to_string() });
        }
        token.must_be_for(identity)?;
    }
    let host_name = before.as_ref().map_or(host_name, |identity| identity.host.as_str());
    let known = before.is_some().then(|| trust::load(&**state)).transpose()?;
    let pending = Pending::begin(&**state, &token.token.id)?;
    let channel = tls::connect(dialler, &Anchor::Key(token.token.ca), None).await?;
    let request = JoinRequest {
        token_id: token.token.id.clone(),
        secret: token.token.secret.clone(),
        csr: pending.csr.clone(),
        host: host_name.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let mut client = EnrolmentClient::new(channel);
    let response = in_time(ANSWER, client.join(request)).await.map_err(refused)?.into_inner();
    let (enrolled, store) = check(token, controller, host_name, &response, known)?;
    certified(&pending, response.certificate, &enrolled.ca)?.save(&**state)?;
    trust::save_all(&**state, &store)?;
    if before.is_none() {
        let disks = Disks { state: state.clone(), app: state.clone() };
        match engine::enrol(&disks, enrolled.identity.clone()) {
            // A join that was cut short after this.
            Ok(()) | Err(AgentError::LedgerExists { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    enrolled.save(&**state)?;
    Ok(enrolled)
}

/// Holds the answer against the token, and its roots against those that are `known` here.
fn check(
    token: &HostToken,
    controller: &str,
    host_name: &str,
    response: &JoinResponse,
    known: Option<TrustedStore>,
) -> Result<(Enrolled, TrustedStore), AgentError> {
    let wrong = |reason: String| AgentError::Controller { reason };
    if tls::key_digest(&response.ca_certificate) != Some(token.token.ca) {
        return Err(wrong("its answer holds another CA than the token names".to_owned()));
    }
    let store = trusted(token, &response.roots, known)?;
    let director_keys = response
        .director_keys
        .iter()
        .map(|text| serde_json::from_str::<PublicKey>(text))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(format!("its key for assignments cannot be read: {error}")))?;
    if director_keys.is_empty() {
        return Err(wrong("it names no key for assignments".to_owned()));
    }
    let host = token.name.as_ref().map_or(host_name, HostId::as_str);
    // The controller cannot move a host elsewhere (P1); if it disagrees, one of the two has been tampered with.
    for (what, theirs, ours) in [
        ("application", &response.application, token.application.as_str()),
        ("environment", &response.environment, token.environment.as_str()),
        ("host", &response.host, host),
    ] {
        if theirs != ours {
            return Err(wrong(format!(
                "it enrolled this host for the {what} {theirs:?}, and the token is for {ours:?}; remove the host with \
                 `ctl hosts remove {}` and find out who changed what",
                response.host
            )));
        }
    }
    let identity = Identity {
        host: HostId::new(host).map_err(|error| wrong(error.to_string()))?,
        application: token.application.clone(),
        environment: token.environment.clone(),
    };
    let ca = response.ca_certificate.clone();
    let enrolled = Enrolled { identity, controller: controller.to_owned(), director_keys, ca };
    Ok((enrolled, store))
}

/// The trust that begins with the root that the token names, or with the one that is known already, and goes on
/// to the newest that follows from it: the root may have been rotated since.
fn trusted(
    token: &HostToken,
    roots: &[Vec<u8>],
    known: Option<TrustedStore>,
) -> Result<TrustedStore, AgentError> {
    let wrong = |reason: &str| AgentError::Controller { reason: reason.to_owned() };
    let pinned = roots.iter().position(|root| Sha256::of(root) == token.root).ok_or_else(|| {
        wrong(
            "none of its release roots is the one that the token names; make a new token with `ctl hosts token`, and \
             ask who changed the root if that does not help",
        )
    })?;
    let (store, at) = match known {
        None => (TrustedStore::initialise(&roots[pinned]).map_err(AgentError::Trust)?, pinned),
        Some(store) => {
            let known = store.get(ROOT).unwrap_or_default();
            let at = roots.iter().position(|root| root == known).ok_or_else(|| {
                wrong(
                    "the release root that this host trusts is none of its roots: whoever signs there now did not \
                     sign before. If that is meant, remove this host's state directory and enrol it as a new one",
                )
            })?;
            (store, at)
        }
    };
    follow_roots(store, &roots[at + 1..]).map_err(AgentError::Trust)
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
    let mut client = EnrolmentClient::new(channel);
    let response = in_time(ANSWER, client.renew(request)).await.map_err(refused)?.into_inner();
    let renewed = certified(&pending, response.certificate, &enrolled.ca)?;
    renewed.save(state)?;
    Pending::end(state)?;
    Ok(renewed)
}

/// The key with the certificate that came for it. One that is for another key, or that this host's controller would
/// not know again, must not take the place of one that works.
fn certified(pending: &Pending, certificate: Vec<u8>, ca: &[u8]) -> Result<Credentials, AgentError> {
    let credentials = pending.certified(certificate);
    tls::check_issued(ca, &credentials).map_err(|error| AgentError::Controller {
        reason: format!("the certificate that it issued is not one for this host's key: {}", chain(&error)),
    })?;
    Ok(credentials)
}

/// A refusal in the controller's own words.
pub(crate) fn refused(status: tonic::Status) -> AgentError {
    if status.code() == tonic::Code::Unavailable && status.message().is_empty() {
        return AgentError::Connect { reason: crate::error::chain(&status) };
    }
    // Its sentence is whole; gRPC's name for the kind of refusal says nothing more to a person.
    let reason = match status.message() {
        "" => status.code().to_string(),
        sentence => sentence.to_owned(),
    };
    AgentError::Controller { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_fixes_a_name_lets_no_other_in() {
        let digest = Sha256::of(b"x");
        let token = |name: Option<&str>| {
            let bearer = Bearer::Host {
                application: AppName::new("shop").unwrap(),
                environment: EnvName::new("production").unwrap(),
                name: name.map(|name| HostId::new(name).unwrap()),
            };
            let token =
                Token { id: "a1".into(), secret: "hush".into(), ca: digest, root: Some(digest), bearer };
            HostToken::parse(&token.to_text()).unwrap()
        };
        token(None).must_allow("other").unwrap();
        token(Some("web-1")).must_allow("web-1").unwrap();
        let error = token(Some("web-1")).must_allow("other").unwrap_err().to_string();
        assert!(error.contains("it is for web-1, and --name says other"), "{error}");
    }

    #[test]
    fn a_refusal_is_told_in_the_controllers_own_words() {
        let error = refused(tonic::Status::permission_denied("the token was used already"));
        assert_eq!(error.to_string(), "the controller: the token was used already");
    }

    #[test]
    fn only_a_whole_token_for_a_host_is_taken_and_its_secret_is_not_shown() {
        let digest = Sha256::of(b"x");
        let bearer = Bearer::Host {
            application: AppName::new("shop").unwrap(),
            environment: EnvName::new("production").unwrap(),
            name: None,
        };
        let good = Token { id: "a1".into(), secret: "hush".into(), ca: digest, root: Some(digest), bearer };
        assert_eq!(HostToken::parse(&good.to_text()).unwrap().token, good);
        let operator = Token { bearer: Bearer::Operator, ..good.clone() };
        let rootless = Token { root: None, ..good };
        for bad in ["", "hush", &operator.to_text(), &rootless.to_text()] {
            let error = HostToken::parse(bad).unwrap_err().to_string();
            assert!(!error.contains("hush"), "{error}");
        }
    }
}
