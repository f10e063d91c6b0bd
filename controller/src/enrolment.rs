//! How hosts and operators get in: single-use tokens, and certificates that renew themselves.
//!
//! A token's secret is derived and not stored: the store holds its hash, and a repeated request for a token
//! is answered with the same one.

mod admission;

use std::collections::BTreeMap;

use aws_lc_rs::{constant_time, hmac};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use landfall_common::token::Bearer;
use landfall_common::{
    Duration, HostId, LabelKey, OperatorName, RequestId, Rights, Sha256, Timestamp, Token,
};
use landfall_controller_core::log::{Actor, LogEvent, Subject};
use landfall_controller_core::record::Place;
use serde::{Deserialize, Serialize};

use crate::authorise::{DenyList, deny_key, operator_key};
use crate::ca::{CertificateAuthority, signed_by_key_of};
use crate::error::{ControllerError, Reason};
use crate::identity::{Identity, PeerCertificate};
use crate::rpc::convert;
use crate::store::{Batch, Store, Versioned};
pub use admission::{Admission, Issuing, Removing};

/// The longest life of a token.
pub const MAX_VALID: Duration = Duration::from_secs(24 * 3600);

/// The life of a token whose maker does not say.
pub const DEFAULT_VALID: Duration = Duration::from_secs(3600);

/// A host that was off for so long still gets a new certificate with the key of its old one.
pub const HOST_GRACE: Duration = Duration::from_secs(30 * 86_400);

/// Tokens stay in the store for so long after their end, so that repeated requests are recognised.
pub const KEPT: Duration = Duration::from_secs(7 * 86_400);

/// A token, as the store holds it under `token/ID`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Its public name.
    pub id: String,
    /// The digest of its secret.
    pub secret: Sha256,
    /// What it is good for.
    pub grant: Grant,
    /// Who made it.
    pub made_by: Actor,
    /// When.
    pub made_at: Timestamp,
    /// From then on it is good for nothing.
    pub expires_at: Timestamp,
    /// What was done with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Used>,
}

/// What was done with a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// When.
    pub at: Timestamp,
    /// The digest of the signing request: the same one again is a repetition and not a second use.
    pub csr: Sha256,
    /// Whom it let in.
    pub name: String,
}

/// What a token is good for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "grant", rename_all = "snake_case")]
pub enum Grant {
    /// A host joins.
    Host {
        /// What it is pinned to.
        place: Place,
        /// What its operator says of it.
        labels: BTreeMap<LabelKey, String>,
        /// Its name; `None` lets the agent choose.
        name: Option<HostId>,
    },
    /// An operator gets a certificate.
    Operator {
        /// The name in it.
        name: OperatorName,
        /// What is in it that the operator may do.
        #[serde(rename = "role")]
        rights: Rights,
    },
}

/// Where tokens stand in the store. Those of operators with more than one role for everything are apart: a version that
/// knows no scopes, to which somebody may go back, must neither stumble over them nor give more away for one.
const TOKENS: [&str; 2] = ["token/", "scoped-token/"];

/// The keys under which a token of this id may stand.
#[must_use]
pub fn token_keys(id: &str) -> [String; 2] {
    TOKENS.map(|prefix| format!("{prefix}{id}"))
}

/// Whether this is the key of a token.
#[must_use]
pub fn is_token(key: &str) -> bool {
    TOKENS.iter().any(|prefix| key.starts_with(prefix))
}

/// The token of this id, with its key.
///
/// # Errors
/// [`ControllerError::Store`].
pub async fn find_token(store: &dyn Store, id: &str) -> Result<Option<(String, Versioned)>, ControllerError> {
    for key in token_keys(id) {
        if let Some(stored) = store.get(&key).await? {
            return Ok(Some((key, stored)));
        }
    }
    Ok(None)
}

/// All tokens that are on record, with their keys.
///
/// # Errors
/// [`ControllerError::Store`], [`ControllerError::Record`].
pub async fn all_tokens(store: &dyn Store) -> Result<Vec<(String, TokenRecord)>, ControllerError> {
    let mut tokens = Vec::new();
    for prefix in TOKENS {
        for entry in store.scan(prefix).await?.entries {
            let token = convert::stored(&entry.key, &entry.value)?;
            tokens.push((entry.key, token));
        }
    }
    Ok(tokens)
}

/// A new token and its secret.
///
/// # Errors
/// [`Reason::InvalidArgument`] for a life that is too long.
pub fn make(
    key: &hmac::Key,
    request: &RequestId,
    grant: Grant,
    made_by: Actor,
    valid_for: Duration,
    now: Timestamp,
) -> Result<(TokenRecord, String), ControllerError> {
    let valid_for = if valid_for.is_zero() { DEFAULT_VALID } else { valid_for };
    if valid_for > MAX_VALID {
        let message = "a token is valid for at most 24 hours, since whoever has it gets in";
        return Err(ControllerError::invalid(message));
    }
    let id = hex::encode(&hmac::sign(key, format!("id/{made_by}/{request}").as_bytes()).as_ref()[..8]);
    let secret = hmac::sign(key, format!("secret/{id}").as_bytes());
    let token = TokenRecord {
        id,
        secret: Sha256::of(secret.as_ref()),
        grant,
        made_by,
        made_at: now,
        expires_at: now + valid_for,
        used: None,
    };
    Ok((token, BASE64_URL_SAFE_NO_PAD.encode(secret)))
}

/// The text of an operator's token. A host's is made by `ctl` only, which puts in what the controller must not
/// be trusted with.
#[must_use]
pub fn operator_text(id: &str, secret: &str, authority: Sha256) -> String {
    let (id, secret) = (id.to_owned(), secret.to_owned());
    Token { id, secret, ca: authority, root: None, bearer: Bearer::Operator }.to_text()
}

impl TokenRecord {
    /// Its key in the store.
    #[must_use]
    pub fn key(&self) -> String {
        let [plain, scoped] = token_keys(&self.id);
        match &self.grant {
            Grant::Operator { rights, .. } if rights.single().is_none() => scoped,
            _ => plain,
        }
    }

    /// Adds it to a commit, which fails if a token of its id is there.
    pub fn put_into(&self, batch: Batch) -> Batch {
        let absent = token_keys(&self.id).into_iter().fold(batch, |batch, key| batch.if_absent(&key));
        absent.put(self.key(), convert::to_store(self))
    }

    /// Whether `other` was made for the same intent.
    #[must_use]
    pub fn same_intent(&self, other: &Self) -> bool {
        let life = |token: &Self| token.expires_at.since(token.made_at);
        self.grant == other.grant && self.made_by == other.made_by && life(self) == life(other)
    }

    /// What the log tells of its making.
    pub fn made(&self) -> LogEvent {
        let token = self.id.clone();
        match &self.grant {
            Grant::Host { place, .. } => LogEvent::TokenIssued {
                token,
                application: place.application.clone(),
                environment: place.environment.clone(),
                expires_at: self.expires_at,
            },
            Grant::Operator { name, rights } => LogEvent::OperatorTokenIssued {
                token,
                name: name.clone(),
                role: rights.to_string(),
                expires_at: self.expires_at,
            },
        }
    }

    /// Whether the bearer may use it now, for this signing request. What is wrong is told only to whoever
    /// knows the secret.
    ///
    /// # Errors
    /// [`Reason::TokenInvalid`].
    pub fn check(
        &self,
        secret: &str,
        csr: &[u8],
        denied: &DenyList,
        now: Timestamp,
    ) -> Result<(), ControllerError> {
        let offered = BASE64_URL_SAFE_NO_PAD.decode(secret).map_err(|_| unknown())?;
        let digest = Sha256::of(&offered);
        constant_time::verify_slices_are_equal(digest.as_bytes(), self.secret.as_bytes())
            .map_err(|_| unknown())?;
        let again = match &self.grant {
            Grant::Host { .. } => "ask an admin for a new one (`ctl hosts token`)",
            Grant::Operator { .. } => "ask an admin for a new one (`ctl operators token`)",
        };
        if self.expires_at <= now {
            let message = format!("the token expired at {}; {again}", self.expires_at);
            return Err(ControllerError::refused(Reason::TokenInvalid, message));
        }
        match (&self.used, &self.made_by) {
            (None, Actor::Operator(maker)) if denied.denies(&operator_key(maker), self.made_at) => {
                let message = format!("{maker}, who made the token, was removed since; {again}");
                Err(ControllerError::refused(Reason::TokenInvalid, message))
            }
            (Some(used), _) if used.csr != Sha256::of(csr) => {
                let message = format!(
                    "the token was used at {} by {}, and is good for one use; {again}",
                    used.at, used.name
                );
                Err(ControllerError::refused(Reason::TokenInvalid, message))
            }
            _ => Ok(()),
        }
    }
}

/// What is said of a token that is not there, or whose secret is wrong.
pub fn unknown() -> ControllerError {
    let message = "the token is not one of this controller's; copy it whole, or ask an admin for a new one";
    ControllerError::refused(Reason::TokenInvalid, message)
}

/// What is said to whoever was removed.
pub fn removed(identity: &Identity) -> ControllerError {
    let message = format!("{} was removed; {}", identity.name(), identity.let_in_again());
    ControllerError::refused(Reason::Removed, message)
}

/// Whether a certificate may be traded for a new one, with the signing request signed by its key.
///
/// # Errors
/// [`Reason::CertificateForeign`], [`Reason::CertificateExpired`], [`Reason::Removed`].
pub fn may_renew(
    authority: &CertificateAuthority,
    denied: &DenyList,
    certificate: &[u8],
    csr: &[u8],
    signature: &[u8],
    now: Timestamp,
) -> Result<PeerCertificate, ControllerError> {
    let known = authority.recognise(certificate)?;
    if !signed_by_key_of(certificate, csr, signature) {
        let message = "the signing request is not signed by the key of the certificate that it renews";
        return Err(ControllerError::refused(Reason::CertificateForeign, message));
    }
    let name = known.identity.name();
    if denied.denies(&deny_key(&known.identity), known.issued_at) {
        return Err(removed(&known.identity));
    }
    let (grace, why) = match known.identity {
        Identity::Host(_) => {
            (HOST_GRACE, ", and is renewed for no longer than 30 days after; remove the host")
        }
        Identity::Operator { .. } => (Duration::ZERO, ""),
    };
    if now >= known.not_after + grace {
        let again = known.identity.let_in_again();
        let message = format!("the certificate of {name} expired at {}{why}; {again}", known.not_after);
        return Err(ControllerError::refused(Reason::CertificateExpired, message));
    }
    Ok(known)
}

/// What the log tells of a certificate.
///
/// # Errors
/// [`ControllerError::Identity`] if it does not read back.
pub fn issued(certificate: &[u8]) -> Result<LogEvent, ControllerError> {
    let read = PeerCertificate::read(certificate)?;
    let subject = match read.identity {
        Identity::Host(host) => Subject::Host { host },
        Identity::Operator { name, rights } => Subject::Operator { name, role: rights.to_string() },
    };
    let serial = crate::identity::serial(certificate)?;
    Ok(LogEvent::CertificateIssued { subject, serial, expires_at: read.not_after })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(valid_for: Duration, now: Timestamp) -> (TokenRecord, String) {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"key");
        let grant = Grant::Operator {
            name: OperatorName::new("alice").unwrap(),
            rights: Rights::everywhere(landfall_common::Role::Admin),
        };
        let request = RequestId::new("r1").unwrap();
        make(&key, &request, grant, Actor::Controller, valid_for, now).unwrap()
    }

    #[test]
    fn a_token_is_good_once_until_it_expires_and_for_its_own_repetition() {
        let now = Timestamp::from_ms(1_000_000);
        let none = DenyList::default();
        let (mut record, secret) = token(Duration::from_secs(60), now);
        assert!(record.check(&secret, b"csr", &none, now).is_ok());
        let text = |result: Result<(), ControllerError>| result.unwrap_err().to_string();
        assert!(text(record.check("wrong", b"csr", &none, now)).contains("not one of"));
        assert!(text(record.check("", b"csr", &none, now)).contains("not one of"));
        assert!(
            text(record.check(&secret, b"csr", &none, now + Duration::from_secs(60))).contains("expired")
        );
        record.used = Some(Used { at: now, csr: Sha256::of(b"csr"), name: "alice".to_owned() });
        assert!(record.check(&secret, b"csr", &none, now).is_ok());
        assert!(text(record.check(&secret, b"other", &none, now)).contains("used"));
        // Without the secret nothing is learnt of what became of it.
        assert!(text(record.check("wrong", b"other", &none, now)).contains("not one of"));
    }

    #[test]
    fn a_token_with_a_scope_is_nothing_to_a_version_that_knows_none() {
        let (plain, _) = token(Duration::ZERO, Timestamp::from_ms(1_000_000));
        // As every version has written it.
        let text = serde_json::to_string(&plain.grant).unwrap();
        assert_eq!(text, r#"{"grant":"operator","name":"alice","role":"admin"}"#);
        assert_eq!(plain.key(), format!("token/{}", plain.id));
        for rights in ["admin:shop", "viewer,deployer:shop/staging"] {
            let name = OperatorName::new("alice").unwrap();
            let grant = Grant::Operator { name, rights: rights.parse().unwrap() };
            let scoped = TokenRecord { grant, ..plain.clone() };
            assert_eq!(scoped.key(), format!("scoped-token/{}", plain.id));
            assert!(is_token(&scoped.key()) && !scoped.key().starts_with("token/"));
        }
    }

    #[test]
    fn a_repeated_request_makes_the_same_token() {
        let now = Timestamp::from_ms(1_000_000);
        let (one, secret) = token(Duration::ZERO, now);
        let (two, again) = token(Duration::ZERO, now + Duration::from_secs(5));
        assert_eq!((&one.id, &secret), (&two.id, &again));
        assert!(one.same_intent(&two));
        assert!(!one.same_intent(&token(Duration::from_secs(60), now).0));
        assert!(!serde_json::to_string(&one).unwrap().contains(&secret));
    }
}
