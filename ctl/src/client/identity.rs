//! The operator's certificate: got with a one-time token, kept in one private file, renewed while valid.

use landfall_common::token::{Bearer, Token};
use landfall_common::{Sha256, Timestamp};
use landfall_proto::v1;
use landfall_proto::v1::enrolment_client::EnrolmentClient;
use rcgen::{CertificateParams, KeyPair, SigningKey as _};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{status, tls};
use crate::config::Profile;
use crate::error::Error;
use crate::files::{self, Access};
use crate::keys::pem;

/// Reads a token as people carry it.
///
/// # Errors
/// [`Error::Usage`].
pub fn parse_token(text: &str) -> Result<Token, Error> {
    Token::parse(text).map_err(|error| {
        let next = "a token begins with lft1_ and is copied whole; ask for a new one if in doubt";
        Error::usage(format!("this token cannot be used: {error}"), next)
    })
}

/// Who the operator is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The name in the certificate.
    pub operator: String,
    /// The role.
    pub role: String,
    /// When the certificate expires.
    pub expires: Timestamp,
}

/// Trades a token for a certificate and keeps it.
///
/// # Errors
/// [`Error::Usage`] for a host's token, [`Error::Unreachable`], [`Error::Refused`], [`Error::Answer`].
pub async fn join(profile: &Profile, token: &Token) -> Result<Joined, Error> {
    if token.bearer != Bearer::Operator {
        return Err(Error::usage(
            "this is a token for a host, not for an operator",
            "on the host: landfall-agent join TOKEN --controller HOST:PORT",
        ));
    }
    let address = &profile.context.controller;
    let channel = tls::connect(address, tls::Credentials::Pinned { ca_key: token.ca }).await?;
    let (key, csr) = new_key()?;
    let request = v1::JoinRequest {
        token_id: token.id.clone(),
        secret: token.secret.clone(),
        csr,
        host: String::new(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let answer = EnrolmentClient::new(channel).join(request).await;
    let answer = answer.map_err(|status| status::error(&status, address))?.into_inner();
    if tls::key_digest(&answer.ca_certificate) != Some(token.ca) {
        return Err(Error::Answer(
            "its CA certificate does not have the key that the token names".to_owned(),
        ));
    }
    let expires = expiry(&answer.certificate)
        .ok_or_else(|| Error::Answer("the certificate that it issued cannot be read".to_owned()))?;
    files::write(&profile.ca_file(), pem("CERTIFICATE", &answer.ca_certificate).as_bytes(), Access::Public)?;
    keep(profile, &answer.certificate, &key)?;
    Ok(Joined { operator: answer.operator, role: answer.role, expires })
}

/// A certificate with its key and the CA that vouches for the controller.
pub struct Identity {
    ca: CertificateDer<'static>,
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
    begins: Timestamp,
    /// When the certificate expires.
    pub expires: Timestamp,
}

impl Identity {
    /// Reads what [`join`] kept.
    ///
    /// # Errors
    /// [`Error::NotLoggedIn`] if there is nothing, or if it is damaged.
    pub fn load(profile: &Profile) -> Result<Self, Error> {
        let name = &profile.name;
        let none = || Error::NotLoggedIn(format!("there is no certificate for context {name:?}"));
        let (ca_file, identity_file) = (profile.ca_file(), profile.identity_file());
        let ca = files::read(&ca_file)?.ok_or_else(none)?;
        let identity = files::read_private(&identity_file)?.ok_or_else(none)?;
        let damaged = |path: &std::path::Path| Error::NotLoggedIn(format!("{} is damaged", path.display()));
        let ca = CertificateDer::from_pem_slice(&ca).map_err(|_| damaged(&ca_file))?;
        let certificate = CertificateDer::from_pem_slice(&identity).map_err(|_| damaged(&identity_file))?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(&identity).map_err(|_| damaged(&identity_file))?;
        let (begins, expires) = validity(&certificate).ok_or_else(|| damaged(&identity_file))?;
        Ok(Self { ca, certificate, key, begins, expires })
    }

    /// What the connection is made with.
    #[must_use]
    pub fn credentials(&self) -> tls::Credentials {
        tls::Credentials::Operator {
            ca: self.ca.clone(),
            certificate: self.certificate.clone(),
            key: PrivateKeyDer::Pkcs8(self.key.clone_key()),
        }
    }

    /// The key of the authority that the controller's certificate must chain to.
    #[must_use]
    pub fn authority(&self) -> Option<Sha256> {
        tls::key_digest(&self.ca)
    }

    /// Whether it has expired.
    ///
    /// # Errors
    /// [`Error::NotLoggedIn`].
    pub fn check(&self, now: Timestamp) -> Result<(), Error> {
        if now < self.expires {
            return Ok(());
        }
        let expires = self.expires.whole_seconds();
        Err(Error::NotLoggedIn(format!("your certificate expired at {expires}")))
    }

    /// Whether half of its time is over.
    #[must_use]
    pub fn is_renewable(&self, now: Timestamp) -> bool {
        now.since(self.begins) > self.expires.since(self.begins) / 2
    }

    /// Trades the certificate for a fresh one with a new key, and keeps that.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Refused`]: the old one is still there then.
    pub async fn renew(&self, profile: &Profile) -> Result<(), Error> {
        let address = &profile.context.controller;
        let channel = tls::connect(address, self.credentials()).await?;
        let old = KeyPair::try_from(&self.key).map_err(unusable)?;
        let (key, csr) = new_key()?;
        let signature = old.sign(&csr).map_err(unusable)?;
        let request = v1::RenewRequest { certificate: self.certificate.to_vec(), csr, signature };
        let answer = EnrolmentClient::new(channel).renew(request).await;
        let answer = answer.map_err(|status| status::error(&status, address))?.into_inner();
        keep(profile, &answer.certificate, &key)
    }
}

fn new_key() -> Result<(KeyPair, Vec<u8>), Error> {
    let key = KeyPair::generate().map_err(unusable)?;
    let request = CertificateParams::default().serialize_request(&key).map_err(unusable)?;
    Ok((key, request.der().to_vec()))
}

fn unusable(error: rcgen::Error) -> Error {
    Error::NotLoggedIn(format!("the key of your certificate cannot be used: {error}"))
}

fn keep(profile: &Profile, certificate: &[u8], key: &KeyPair) -> Result<(), Error> {
    let text = pem("CERTIFICATE", certificate) + &pem("PRIVATE KEY", &key.serialize_der());
    files::write(&profile.identity_file(), text.as_bytes(), Access::Private)
}

fn expiry(certificate: &[u8]) -> Option<Timestamp> {
    validity(certificate).map(|(_, expires)| expires)
}

fn validity(certificate: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let moment =
        |seconds: i64| u64::try_from(seconds).ok().map(|s| Timestamp::from_ms(s.saturating_mul(1000)));
    let validity = parsed.validity();
    Some((moment(validity.not_before.timestamp())?, moment(validity.not_after.timestamp())?))
}
