//! The first start, and tokens for operators made on the controller's own host: the way in when nobody has
//! a certificate, or every one has expired.

use landfall_common::{Duration, OperatorName, RequestId, Rights, Role, Timestamp};
use landfall_controller_core::log::{Actor, LogEvent, NewEntry};

use crate::authorise::operator_key;
use crate::clock::Clock;
use crate::config::Layout;
use crate::enrolment::{Grant, make, operator_text};
use crate::error::{ControllerError, Reason};
use crate::keys::random;
use crate::rpc::convert;
use crate::rpc::operators::{approvals, people};
use crate::state::ControllerState;
use crate::store::{Batch, Store};
use crate::writer::Writer;

/// Makes the state directory, the authority and the keys; returns the first admin's token.
///
/// # Errors
/// [`ControllerError::AlreadyInitialised`], [`ControllerError::File`].
pub async fn initialise(
    layout: &Layout,
    name: OperatorName,
    clock: &Clock,
) -> Result<String, ControllerError> {
    let state = ControllerState::create(layout, clock).await?;
    let token = operator_token(&state, name, Rights::everywhere(Role::Admin), Duration::ZERO, clock).await;
    state.close()?;
    token
}

/// Makes a token for an operator in an opened state; returns its text.
///
/// # Errors
/// [`ControllerError::Store`], or a life that is too long.
pub async fn operator_token(
    state: &ControllerState,
    name: OperatorName,
    rights: Rights,
    valid_for: Duration,
    clock: &Clock,
) -> Result<String, ControllerError> {
    let request = fresh_request()?;
    let now = clock.now();
    let grant = Grant::Operator { name, rights };
    let (token, secret) = make(&state.keys.tokens, &request, grant, Actor::Controller, valid_for, now)?;
    let batch = token.put_into(Batch::new());
    state.writer.commit(batch, vec![NewEntry::by_controller(now, token.made())]).await?;
    Ok(operator_text(&token.id, &secret, state.authority.key_digest()))
}

/// Removes an operator where no controller is running, and with him what he has approved.
///
/// # Errors
/// Those of [`deny_operator`].
pub async fn remove_operator(
    state: &ControllerState,
    name: OperatorName,
    clock: &Clock,
) -> Result<(), ControllerError> {
    let along = approvals::withdrawn(&state.store, clock, &name).await?;
    deny_operator(&state.store, &state.writer, name, clock.now(), along).await.map(drop)
}

/// Denies every certificate of an operator that was issued until `now`, and commits what goes along with that;
/// returns the key and the moment for the running controller's list. A later token lets the operator in again.
///
/// # Errors
/// [`Reason::NotFound`] for a name that has neither certificate nor token, [`ControllerError::Store`].
pub async fn deny_operator(
    store: &dyn Store,
    writer: &Writer,
    name: OperatorName,
    now: Timestamp,
    (along, mut entries): (Batch, Vec<NewEntry>),
) -> Result<(String, Timestamp), ControllerError> {
    let known = people::known(store, now).await?;
    if !known.contains(name.as_str()) {
        let known: Vec<_> = known.into_iter().collect();
        let known = if known.is_empty() { "nobody is".to_owned() } else { known.join(", ") };
        let message = format!("there is no operator {name}; known: {known}");
        return Err(ControllerError::refused(Reason::NotFound, message));
    }
    let denied = operator_key(&name);
    let batch = along
        .put(format!("denied/{denied}"), convert::to_store(&now))
        .delete(format!("{}{name}", people::OPERATOR));
    let event = LogEvent::OperatorRemoved { name };
    entries.push(NewEntry::by_controller(now, event));
    writer.commit(batch, entries).await?;
    Ok((denied, now))
}

/// A request id for what the host's administrator asks for, who does not repeat requests.
///
/// # Errors
/// [`ControllerError::Authority`] if there is no randomness.
pub fn fresh_request() -> Result<RequestId, ControllerError> {
    let id = format!("local-{}", hex::encode(&random()?[..12]));
    Ok(RequestId::new(id).expect("letters, digits and a dash"))
}
