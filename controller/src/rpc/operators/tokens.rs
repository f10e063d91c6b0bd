//! Single-use tokens by which hosts and operators join.

use landfall_common::{Duration, HostId, LabelKey, OperatorName, RequestId, Rights};
use landfall_controller_core::label::{self, MAX_LABELS};
use landfall_controller_core::log::{Actor, NewEntry};
use landfall_proto::v1 as pb;

use crate::enrolment::{Grant, TokenRecord, find_token, make};
use crate::error::{ControllerError, Reason};
use crate::rpc::{Caller, Context, convert};
use crate::store::{Batch, StoreError};

pub(super) async fn asked(
    context: &Context,
    caller: &Caller,
    request: pb::CreateTokenRequest,
) -> Result<pb::CreateTokenResponse, ControllerError> {
    let id = convert::request_id(&request.request_id)?;
    let grant = match (request.host, request.operator) {
        (Some(host), None) => host_grant(host)?,
        (None, Some(operator)) => {
            let invalid = |error: String| ControllerError::invalid(format!("operator: {error}"));
            let name = OperatorName::new(operator.name).map_err(|error| invalid(error.to_string()))?;
            let rights: Rights = operator.role.parse().map_err(|error| invalid(format!("{error}")))?;
            Grant::Operator { name, rights }
        }
        _ => {
            return Err(ControllerError::invalid(
                "a token is for a host or for an operator: set one of the two",
            ));
        }
    };
    let valid_for = Duration::from_millis(request.valid_for_ms);
    let (token, secret) =
        create(context, &id, grant, caller.actor(), caller.origin.clone(), valid_for).await?;
    Ok(pb::CreateTokenResponse {
        token_id: token.id,
        secret,
        ca: context.authority.key_digest().to_string(),
        expires_ms: token.expires_at.ms(),
    })
}

/// Makes a token, or finds the one that the same request made before.
///
/// # Errors
/// [`Reason::RequestIdReused`], [`Reason::InvalidArgument`], [`ControllerError::Store`].
pub async fn create(
    context: &Context,
    request: &RequestId,
    grant: Grant,
    by: Actor,
    origin: String,
    valid_for: Duration,
) -> Result<(TokenRecord, String), ControllerError> {
    let now = context.clock.now();
    let (token, secret) = make(&context.keys.tokens, request, grant, by.clone(), valid_for, now)?;
    let batch = token.put_into(Batch::new());
    let entry = NewEntry { at: now, actor: by, origin, event: token.made() };
    match context.writer.commit(batch, vec![entry]).await {
        Ok(()) => Ok((token, secret)),
        Err(ControllerError::Store(StoreError::Conflict { .. })) => {
            let stored = find_token(&*context.store, &token.id).await?;
            let known: Option<TokenRecord> =
                stored.map(|(key, found)| convert::stored(&key, &found.value)).transpose()?;
            match known {
                Some(known) if known.same_intent(&token) => Ok((known, secret)),
                _ => {
                    let message = format!(
                        "request {request} was already used for another token; send a new request id"
                    );
                    Err(ControllerError::refused(Reason::RequestIdReused, message))
                }
            }
        }
        Err(error) => Err(error),
    }
}

fn host_grant(host: pb::HostToken) -> Result<Grant, ControllerError> {
    if host.labels.len() > MAX_LABELS {
        return Err(ControllerError::invalid(format!("a host has at most {MAX_LABELS} labels")));
    }
    let place = convert::place(&host.application, &host.environment)?;
    let labels = host
        .labels
        .into_iter()
        .map(|(key, value)| {
            label::check(&key, &value).map_err(ControllerError::invalid)?;
            let key = LabelKey::new(key).map_err(|error| ControllerError::invalid(error.to_string()))?;
            Ok((key, value))
        })
        .collect::<Result<_, ControllerError>>()?;
    let name = match &*host.name {
        "" => None,
        name => Some(HostId::new(name).map_err(|error| ControllerError::invalid(error.to_string()))?),
    };
    Ok(Grant::Host { place, labels, name })
}
