//! The operators: who has a certificate or may get one, and who no longer.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::{Duration, OperatorName, Rights, Role, Sha256, Timestamp};
use landfall_controller_core::log::{LogEvent, NewEntry};
use landfall_proto::v1 as pb;
use serde::{Deserialize, Serialize};

use crate::authorise::operator_key;
use crate::enrolment::{Grant, all_tokens};
use crate::error::{ControllerError, Reason};
use crate::rpc::operators::approvals;
use crate::rpc::operators::hosts::DENIED;
use crate::rpc::{Caller, Context, convert};
use crate::store::{Batch, Store};

/// The keys of operators in the store.
pub(crate) const OPERATOR: &str = "operator/";

/// Who has not been here for so long after the last certificate is no longer listed.
const LISTED_FOR: Duration = Duration::from_secs(30 * 86_400);

/// The keys of answered removals.
const ASKED: &str = "asked/";

/// An operator who has come in, as the store holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OperatorRecord {
    /// What a version lists that knows no scopes; the lowest role where there is more to say.
    role: Rights,
    /// All of it, where the role alone is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rights: Option<Rights>,
    since: Timestamp,
    issued_at: Timestamp,
    expires_at: Timestamp,
    origin: String,
}

/// Notes that an operator gets a certificate.
///
/// # Errors
/// [`ControllerError::Store`], [`ControllerError::Record`].
pub(crate) async fn noted(
    batch: Batch,
    store: &dyn Store,
    (name, rights): (&OperatorName, &Rights),
    (issued_at, expires_at): (Timestamp, Timestamp),
    origin: &str,
) -> Result<Batch, ControllerError> {
    let key = format!("{OPERATOR}{name}");
    let known: Option<OperatorRecord> = match store.get(&key).await? {
        Some(stored) => Some(convert::stored(&key, &stored.value)?),
        None => None,
    };
    let since = known.map_or(issued_at, |known| known.since);
    let single = rights.single();
    let record = OperatorRecord {
        role: Rights::everywhere(single.unwrap_or(Role::Viewer)),
        rights: single.is_none().then(|| rights.clone()),
        since,
        issued_at,
        expires_at,
        origin: origin.to_owned(),
    };
    Ok(batch.put(key, convert::to_store(&record)))
}

/// Those whose certificate expired so long ago that nobody asks for them.
///
/// # Errors
/// [`ControllerError::Store`], [`ControllerError::Record`].
pub(crate) async fn forgotten(store: &dyn Store, now: Timestamp) -> Result<Vec<String>, ControllerError> {
    let mut old = Vec::new();
    for entry in store.scan(OPERATOR).await?.entries {
        let record: OperatorRecord = convert::stored(&entry.key, &entry.value)?;
        if record.expires_at + LISTED_FOR <= now {
            old.push(entry.key);
        }
    }
    Ok(old)
}

/// Who has come in, or may by a token.
///
/// # Errors
/// [`ControllerError::Store`], [`ControllerError::Record`].
pub(crate) async fn known(store: &dyn Store, now: Timestamp) -> Result<BTreeSet<String>, ControllerError> {
    let mut names = BTreeSet::new();
    for entry in store.scan(OPERATOR).await?.entries {
        names.insert(entry.key.trim_start_matches(OPERATOR).to_owned());
    }
    for (_, token) in all_tokens(store).await? {
        if let Grant::Operator { name, .. } = token.grant
            && token.used.is_none()
            && token.expires_at > now
        {
            names.insert(name.to_string());
        }
    }
    Ok(names)
}

pub(super) async fn list(context: &Context) -> Result<pb::ListOperatorsResponse, ControllerError> {
    let now = context.clock.now();
    let mut found: BTreeMap<String, pb::Operator> = BTreeMap::new();
    for (name, rights, expires) in open_tokens(context, now).await? {
        let (role, expires_ms) = (rights.to_string(), expires.ms());
        let invited = pb::Operator { name: name.to_string(), role, expires_ms, ..pb::Operator::default() };
        found.insert(name.to_string(), invited);
    }
    for entry in context.store.scan(OPERATOR).await?.entries {
        let name = entry.key.trim_start_matches(OPERATOR).to_owned();
        let record: OperatorRecord = convert::stored(&entry.key, &entry.value)?;
        let operator = pb::Operator {
            name: name.clone(),
            role: record.rights.unwrap_or(record.role).to_string(),
            since_ms: record.since.ms(),
            issued_ms: record.issued_at.ms(),
            expires_ms: record.expires_at.ms(),
            origin: record.origin,
        };
        found.insert(name, operator);
    }
    Ok(pb::ListOperatorsResponse { operators: found.into_values().collect() })
}

/// Tokens by which an operator may still come in.
async fn open_tokens(
    context: &Context,
    now: Timestamp,
) -> Result<Vec<(OperatorName, Rights, Timestamp)>, ControllerError> {
    let mut open = Vec::new();
    for (_, token) in all_tokens(&*context.store).await? {
        let Grant::Operator { name, rights } = token.grant else { continue };
        let denied = operator_key(&name);
        if token.used.is_none() && token.expires_at > now && !context.denied.denies(&denied, token.made_at) {
            open.push((name, rights, token.expires_at));
        }
    }
    Ok(open)
}

pub(super) async fn remove(
    context: &Context,
    caller: &Caller,
    request: pb::RemoveOperatorRequest,
) -> Result<pb::RemoveOperatorResponse, ControllerError> {
    let id = convert::request_id(&request.request_id)?;
    let name =
        OperatorName::new(request.name).map_err(|error| ControllerError::invalid(error.to_string()))?;
    let removing = context.admission.remove(&context.clock).await;
    let now = removing.now;
    let (asked, content) = (format!("{ASKED}{id}"), Sha256::of(format!("remove operator {name}").as_bytes()));
    if let Some(known) = context.store.get(&asked).await? {
        let known: (Sha256, u64) = convert::stored(&asked, &known.value)?;
        if known.0 != content {
            let message = format!("request {id} was already used for something else; send a new request id");
            return Err(ControllerError::refused(Reason::RequestIdReused, message));
        }
        // Whoever was let in again since stays.
        return Ok(pb::RemoveOperatorResponse {});
    }
    if caller.certificate.identity.name() == name.as_str() {
        let message = "you cannot remove yourself; another admin can, or `landfall-controller operator-remove` on its \
                       own host";
        return Err(ControllerError::refused(Reason::Precondition, message));
    }
    let key = format!("{OPERATOR}{name}");
    let invited = open_tokens(context, now).await?.iter().any(|(invited, ..)| *invited == name);
    if !invited && context.store.get(&key).await?.is_none() {
        let message = format!("there is no operator {name}; `ctl operators` lists them");
        return Err(ControllerError::refused(Reason::NotFound, message));
    }
    approvals::withdraw(context, caller.actor(), &caller.origin, &name).await?;
    let denied = operator_key(&name);
    let batch = Batch::new()
        .put(format!("{DENIED}{denied}"), convert::to_store(&now))
        .delete(key)
        .if_absent(&asked)
        .put(asked, convert::to_store(&(content, now.ms())));
    let event = LogEvent::OperatorRemoved { name: name.clone() };
    let entry = NewEntry { at: now, actor: caller.actor(), origin: caller.origin.clone(), event };
    context.writer.commit(batch, vec![entry]).await?;
    context.denied.deny(denied, now);
    tracing::info!(%name, "operator removed");
    Ok(pb::RemoveOperatorResponse {})
}
