//! How a program gets its first certificate, and the next one. How often is in [`pace`].

mod pace;

use std::sync::Arc;
use std::time::Instant;

use landfall_common::{HostId, RequestId, Sha256};
use landfall_controller_core::command::{Action, Command};
use landfall_controller_core::log::{Actor, NewEntry};
use landfall_controller_core::record::HostRecord;
use landfall_proto::v1 as pb;
use landfall_proto::v1::enrolment_server::Enrolment;
use tonic::{Request, Response, Status};

use self::pace::Pace;
use super::operators::people;
use super::{Context, convert, fresh_rollout, origin};
use crate::authorise::deny_key;
use crate::ca::OPERATOR_LIFETIME;
use crate::enrolment::{Grant, TokenRecord, Used, find_token, issued, may_renew, removed, unknown};
use crate::error::{ControllerError, Reason};
use crate::identity::Identity;
use crate::reactor::Along;
use crate::store::{Batch, Versioned};

/// The service.
pub struct EnrolmentService {
    context: Arc<Context>,
    pace: Pace,
}

impl EnrolmentService {
    /// A service on this context.
    #[must_use]
    pub fn new(context: Arc<Context>) -> Self {
        Self { context, pace: Pace::default() }
    }
}

#[tonic::async_trait]
impl Enrolment for EnrolmentService {
    async fn join(&self, request: Request<pb::JoinRequest>) -> Result<Response<pb::JoinResponse>, Status> {
        let origin = origin(&request);
        Ok(Response::new(join(&self.context, &self.pace, request.into_inner(), origin).await?))
    }

    async fn renew(&self, request: Request<pb::RenewRequest>) -> Result<Response<pb::RenewResponse>, Status> {
        let origin = origin(&request);
        Ok(Response::new(renew(&self.context, &self.pace, request.into_inner(), origin).await?))
    }
}

async fn join(
    context: &Context,
    pace: &Pace,
    request: pb::JoinRequest,
    origin: String,
) -> Result<pb::JoinResponse, ControllerError> {
    let issuing = context.admission.issue(&context.clock).await;
    let now = issuing.now;
    // The key of a store holds no control characters and no other key's prefix.
    if request.token_id.len() > 64 || !request.token_id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(unknown());
    }
    let found = find_token(&*context.store, &request.token_id).await?;
    let (key, stored) = found.ok_or_else(unknown)?;
    let token: TokenRecord = convert::stored(&key, &stored.value)?;
    token.check(&request.secret, &request.csr, &context.denied, now)?;
    // A token that was used may be used again and again for what it was used for: the answer may have got lost.
    pace.ask(&key, Instant::now())?;
    match token.grant.clone() {
        Grant::Operator { name, rights } => {
            let identity = Identity::Operator { name: name.clone(), rights: rights.clone() };
            // Neither a repetition of what let the operator in once, nor a token that was left over.
            if context.denied.denies(&deny_key(&identity), token.made_at) {
                return Err(removed(&identity));
            }
            let certificate = context.authority.issue(&request.csr, &identity, now)?;
            let first_use = token.used.is_none();
            let batch = used(&key, &stored, token, &request.csr, name.as_str(), now)?;
            let life = (now, now + OPERATOR_LIFETIME);
            let batch = people::noted(batch, &*context.store, (&name, &rights), life, &origin).await?;
            let entry = NewEntry {
                at: now,
                actor: Actor::Operator(name.clone()),
                origin,
                event: issued(&certificate)?,
            };
            context.writer.commit(batch, vec![entry]).await.map_err(raced)?;
            if first_use {
                pace.forgive(&deny_key(&identity));
            }
            Ok(pb::JoinResponse {
                certificate: certificate.to_vec(),
                ca_certificate: context.authority.certificate().to_vec(),
                operator: name.to_string(),
                role: rights.to_string(),
                ..pb::JoinResponse::default()
            })
        }
        Grant::Host { place, labels, name } => {
            let host = match name {
                Some(name) => name,
                None => {
                    HostId::new(request.host).map_err(|error| ControllerError::invalid(error.to_string()))?
                }
            };
            let roots = context.repository.roots();
            if roots.is_empty() {
                let message = "there is no release root yet; an admin publishes it with `ctl init`";
                return Err(ControllerError::refused(Reason::NoRoot, message));
            }
            let identity = Identity::Host(host.clone());
            // The name may belong to another machine by now: the repetition is of the removed one.
            let used_at = token.used.as_ref().map(|used| used.at);
            if used_at.is_some_and(|at| context.denied.denies(&deny_key(&identity), at)) {
                return Err(removed(&identity));
            }
            let certificate = context.authority.issue(&request.csr, &identity, now)?;
            let event = issued(&certificate)?;
            let entry = NewEntry { at: now, actor: Actor::Host(host.clone()), origin: origin.clone(), event };
            let repeated = token.used.is_some();
            let token_id = token.id.clone();
            let batch = used(&key, &stored, token, &request.csr, host.as_str(), now)?;
            let along = Along { batch, entries: vec![entry] };
            let asked = host.clone();
            let enrolled = context.reactor.read(move |view| view.state.host(&asked).is_some()).await?;
            if repeated {
                // The answer to the first one got lost, unless the host was removed since.
                if !enrolled {
                    return Err(removed(&identity));
                }
                context.writer.commit(along.batch, along.entries).await.map_err(raced)?;
            } else {
                if enrolled {
                    let message = format!(
                        "a host {host} is enrolled already; remove it with `ctl hosts remove {host}`, or join under \
                         another name"
                    );
                    return Err(ControllerError::refused(Reason::HostExists, message));
                }
                let record = HostRecord {
                    id: host.clone(),
                    place: place.clone(),
                    labels,
                    enrolled_at: now,
                    cordon: None,
                    drain: None,
                    led_away: None,
                };
                let command = Command {
                    request: RequestId::new(format!("join-{token_id}")).expect("letters and digits"),
                    by: Actor::Host(host.clone()),
                    origin,
                    fresh: fresh_rollout(now),
                    action: Action::Enrol { host: record, token: token_id },
                };
                context.reactor.command(command, along).await.map_err(raced)?;
                pace.forgive(&deny_key(&identity));
            }
            tracing::info!(%host, place = %place, "host enrolled");
            Ok(pb::JoinResponse {
                certificate: certificate.to_vec(),
                ca_certificate: context.authority.certificate().to_vec(),
                host: host.to_string(),
                application: place.application.to_string(),
                environment: place.environment.to_string(),
                director_keys: vec![convert::key(context.keys.director.public())],
                roots: roots.into_iter().map(Into::into).collect(),
                ..pb::JoinResponse::default()
            })
        }
    }
}

/// Marks the token as used, unless somebody else did so meanwhile.
fn used(
    key: &str,
    stored: &Versioned,
    mut token: TokenRecord,
    csr: &[u8],
    name: &str,
    now: landfall_common::Timestamp,
) -> Result<Batch, ControllerError> {
    if token.used.is_none() {
        token.used = Some(Used { at: now, csr: Sha256::of(csr), name: name.to_owned() });
    }
    let batch = Batch::new().if_version(key, stored.version);
    Ok(batch.put(key, convert::to_store(&token)))
}

fn raced(error: ControllerError) -> ControllerError {
    match error {
        ControllerError::Store(crate::store::StoreError::Conflict { .. }) => {
            let message = "the token was used by somebody else at this moment; ask an admin for a new one";
            ControllerError::refused(Reason::TokenInvalid, message)
        }
        other => other,
    }
}

async fn renew(
    context: &Context,
    pace: &Pace,
    request: pb::RenewRequest,
    origin: String,
) -> Result<pb::RenewResponse, ControllerError> {
    let issuing = context.admission.issue(&context.clock).await;
    let now = issuing.now;
    let pb::RenewRequest { certificate, csr, signature } = request;
    let known = may_renew(&context.authority, &context.denied, &certificate, &csr, &signature, now)?;
    pace.ask(&deny_key(&known.identity), Instant::now())?;
    let mut batch = Batch::new();
    let actor = match &known.identity {
        Identity::Host(host) => {
            let asked = host.clone();
            if !context.reactor.read(move |view| view.state.host(&asked).is_some()).await? {
                return Err(removed(&known.identity));
            }
            Actor::Host(host.clone())
        }
        Identity::Operator { name, rights } => {
            let life = (now, now + OPERATOR_LIFETIME);
            batch = people::noted(batch, &*context.store, (name, rights), life, &origin).await?;
            Actor::Operator(name.clone())
        }
    };
    let certificate = context.authority.issue(&csr, &known.identity, now)?;
    let entry = NewEntry { at: now, actor, origin, event: issued(&certificate)? };
    context.writer.commit(batch, vec![entry]).await?;
    Ok(pb::RenewResponse {
        certificate: certificate.to_vec(),
        ca_certificate: context.authority.certificate().to_vec(),
    })
}
