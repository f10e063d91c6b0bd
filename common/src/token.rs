//! Enrolment tokens: what an operator carries to a host or a colleague, beside the controller.
//!
//! Whatever a host must not have to believe the controller about stands in here, put in by the operator's own
//! `ctl`. Who else is named in the controller's answer is refused.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::{AppName, EnvName, HostId, Sha256};

/// How every token begins.
const PREFIX: &str = "lft1_";

/// What a token says. Its text is `lft1_` and the base64url of this as JSON.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct Token {
    /// Its public name.
    pub id: String,
    /// What proves that one holds it, base64url.
    pub secret: String,
    /// SHA-256 of the DER SubjectPublicKeyInfo of the controller's CA certificate.
    pub ca: Sha256,
    /// SHA-256 of the release root metadata to begin with; newer ones are followed from it.
    pub root: Option<Sha256>,
    /// Whom it lets in.
    pub bearer: Bearer,
}

/// Whom a token lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bearer {
    /// A host.
    Host {
        /// What it runs, for good.
        application: AppName,
        /// Where, for good.
        environment: EnvName,
        /// Its name, where the operator chose it.
        name: Option<HostId>,
    },
    /// An operator.
    Operator,
}

/// Why a text is not a token. The text is never shown: it holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It is something else.
    #[error("it does not begin with lft1_")]
    Prefix,
    /// It lost or gained something on its way.
    #[error("it was not copied whole, or something was added")]
    Damaged,
    /// Host tokens of older versions named less, and a host would have to believe the controller about it.
    #[error("it names no application and environment, as tokens of older versions did")]
    Older,
    /// Of a later version, perhaps.
    #[error("it is for a {0:?}, which this version does not know")]
    Kind(String),
}

/// The JSON.
#[derive(Serialize, Deserialize)]
struct Fields {
    id: String,
    secret: String,
    ca: Sha256,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    root: Option<Sha256>,
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    application: Option<AppName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    environment: Option<EnvName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<HostId>,
}

impl TryFrom<Fields> for Token {
    type Error = TokenError;
    fn try_from(fields: Fields) -> Result<Self, TokenError> {
        let Fields { id, secret, ca, root, kind, application, environment, host } = fields;
        let bearer = match (kind.as_str(), application, environment) {
            ("host", Some(application), Some(environment)) => {
                Bearer::Host { application, environment, name: host }
            }
            ("host", _, _) => return Err(TokenError::Older),
            ("operator", _, _) => Bearer::Operator,
            _ => return Err(TokenError::Kind(kind)),
        };
        Ok(Self { id, secret, ca, root, bearer })
    }
}

impl From<Token> for Fields {
    fn from(token: Token) -> Self {
        let Token { id, secret, ca, root, bearer } = token;
        let fields = Self {
            id,
            secret,
            ca,
            root,
            kind: "operator".to_owned(),
            application: None,
            environment: None,
            host: None,
        };
        match bearer {
            Bearer::Operator => fields,
            Bearer::Host { application, environment, name } => Self {
                kind: "host".to_owned(),
                application: Some(application),
                environment: Some(environment),
                host: name,
                ..fields
            },
        }
    }
}

impl Token {
    /// Reads the text that people carry.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(TokenError::Prefix)?;
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(encoded).map_err(|_| TokenError::Damaged)?;
        let fields: Fields = serde_json::from_slice(&bytes).map_err(|_| TokenError::Damaged)?;
        fields.try_into()
    }

    /// The text that people carry.
    #[must_use]
    pub fn to_text(&self) -> String {
        let json = serde_json::to_vec(self).expect("texts can be written as JSON");
        format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(json))
    }
}

/// Without the secret.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("id", &self.id).field("bearer", &self.bearer).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str) -> String {
        format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(json))
    }

    #[test]
    fn a_token_reads_back_and_its_secret_is_not_shown() {
        let place = |name: Option<&str>| Bearer::Host {
            application: AppName::new("shop").unwrap(),
            environment: EnvName::new("production").unwrap(),
            name: name.map(|name| HostId::new(name).unwrap()),
        };
        for bearer in [Bearer::Operator, place(None), place(Some("web-1"))] {
            let token = Token {
                id: "a1".to_owned(),
                secret: "hush".to_owned(),
                ca: Sha256::of(b"ca"),
                root: Some(Sha256::of(b"root")),
                bearer,
            };
            assert_eq!(Token::parse(&format!(" {}\n", token.to_text())).unwrap(), token);
            assert!(!format!("{token:?}").contains("hush"));
        }
    }

    #[test]
    fn what_is_not_a_token_of_this_version_is_told_apart() {
        let digest = Sha256::of(b"x");
        let json = |rest: &str| text(&format!(r#"{{"id":"a1","secret":"hush","ca":"{digest}",{rest}}}"#));
        let whole = json(r#""kind":"operator""#);
        for (bad, expected) in [
            ("", TokenError::Prefix),
            ("hush", TokenError::Prefix),
            ("lft2_x", TokenError::Prefix),
            ("lft1_", TokenError::Damaged),
            (&text("{}"), TokenError::Damaged),
            (&whole[..whole.len() - 9], TokenError::Damaged),
            (&json(r#""kind":"host","root":"y""#), TokenError::Damaged),
            (&json(r#""kind":"host","application":"../x","environment":"e""#), TokenError::Damaged),
            (&json(&format!(r#""kind":"host","root":"{digest}""#)), TokenError::Older),
            (&json(r#""kind":"witness""#), TokenError::Kind("witness".to_owned())),
        ] {
            assert_eq!(Token::parse(bad).unwrap_err(), expected, "{bad}");
        }
    }
}
