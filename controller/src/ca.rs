//! The controller's own certificate authority: ECDSA P-256, for hosts, operators and the server itself.
//!
//! It shares nothing with the release trust: who holds this key can let programs in, and still makes no
//! host run anything.

use std::path::{Path, PathBuf};

use landfall_common::{Duration, Sha256, Timestamp};
use rand::TryRngCore as _;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::error::{ControllerError, Reason};
use crate::identity::{Identity, PeerCertificate, SERIAL_MARK};
use crate::private_file;

/// The name in the server's certificate, whatever address it is reached by.
pub const SERVER_NAME: &str = "landfall-controller";

/// Agents renew at two thirds of this.
pub const HOST_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// A working day and some.
pub const OPERATOR_LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// The server renews its own at two thirds of this, without anybody's help.
pub const SERVER_LIFETIME: Duration = Duration::from_secs(30 * 86_400);

/// Every agent pins the authority's key, so that it should outlive the fleet's hardware.
pub const AUTHORITY_LIFETIME: Duration = Duration::from_secs(20 * 365 * 86_400);

/// Certificates begin this long before they are made: clocks differ, and an NTP step of 15 s has been seen to
/// make fresh ones "not yet valid".
const BACKDATED: Duration = Duration::from_secs(5 * 60);

/// The algorithm identifier and curve of a P-256 key, as the DER of every such SubjectPublicKeyInfo begins.
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The authority: its key and its certificate.
pub struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    key_digest: Sha256,
    not_after: Timestamp,
}

/// A certificate with its key, for the server itself.
pub struct ServerCertificate {
    /// The leaf, and after it the authority's: clients that know only the latter's key find it in the chain.
    pub chain: Vec<CertificateDer<'static>>,
    /// PKCS#8, DER.
    pub key: Vec<u8>,
    /// When it expires.
    pub not_after: Timestamp,
}

impl CertificateAuthority {
    /// Makes a new authority and keeps it in this directory.
    ///
    /// # Errors
    /// [`ControllerError::Authority`], [`ControllerError::File`].
    pub fn create(directory: &Path, now: Timestamp) -> Result<Self, ControllerError> {
        let key = KeyPair::generate().map_err(failed("make its key"))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name("Landfall CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial(now)?);
        validity(&mut params, now, AUTHORITY_LIFETIME);
        let certificate = params.self_signed(&key).map_err(failed("sign its certificate"))?;
        private_file::directory(directory)?;
        private_file::write(&key_path(directory), key.serialize_pem().as_bytes())?;
        // The certificate comes last: an authority without one was never finished, and may be made anew.
        private_file::write(&certificate_path(directory), certificate.pem().as_bytes())?;
        Self::of(key, certificate.der().clone())
    }

    /// Reads the authority that is kept in this directory.
    ///
    /// # Errors
    /// [`ControllerError::File`], [`ControllerError::Authority`] for damaged files.
    pub fn open(directory: &Path) -> Result<Self, ControllerError> {
        let text = |path: PathBuf| {
            String::from_utf8(private_file::read(&path)?).map_err(|_| ControllerError::Authority {
                doing: "be read",
                reason: format!("{} is not PEM", path.display()),
            })
        };
        let key = KeyPair::from_pem(&text(key_path(directory))?).map_err(failed("read its key"))?;
        let pem = text(certificate_path(directory))?;
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| {
            ControllerError::Authority { doing: "read its certificate", reason: error.to_string() }
        })?;
        Self::of(key, certificate)
    }

    /// Whether an authority was made in this directory.
    ///
    /// # Errors
    /// [`ControllerError::File`] if that cannot be seen.
    pub fn exists(directory: &Path) -> Result<bool, ControllerError> {
        private_file::exists(&certificate_path(directory))
    }

    fn of(key: KeyPair, certificate: CertificateDer<'static>) -> Result<Self, ControllerError> {
        let damaged = || ControllerError::Authority {
            doing: "read its certificate",
            reason: "it is not an X.509 certificate".to_owned(),
        };
        let (key_digest, not_after, certified) = {
            let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|_| damaged())?;
            let not_after = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
            let spki = parsed.public_key();
            (Sha256::of(spki.raw), Timestamp::from_ms(not_after * 1000), spki.raw == rcgen_spki(&key))
        };
        if !certified {
            return Err(ControllerError::Authority {
                doing: "be opened",
                reason: "its key and its certificate do not belong together; put both back from a backup"
                    .to_owned(),
            });
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(failed("read its certificate"))?;
        Ok(Self { issuer, certificate, key_digest, not_after })
    }

    /// The authority's certificate, DER.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// SHA-256 of the authority's public key (DER SubjectPublicKeyInfo): what tokens carry and agents pin.
    #[must_use]
    pub fn key_digest(&self) -> Sha256 {
        self.key_digest
    }

    /// When the authority's certificate expires.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Issues a client certificate for the key of a signing request, of which nothing else is taken.
    ///
    /// # Errors
    /// [`Reason::CsrInvalid`]; [`ControllerError::Authority`] if it cannot be signed.
    pub fn issue(
        &self,
        csr: &[u8],
        identity: &Identity,
        now: Timestamp,
    ) -> Result<CertificateDer<'static>, ControllerError> {
        let key = requested_key(csr)?;
        let lifetime = match identity {
            Identity::Host(_) => HOST_LIFETIME,
            Identity::Operator { .. } => OPERATOR_LIFETIME,
        };
        let mut params = CertificateParams::default();
        params.distinguished_name = name(identity.name());
        let uri = identity.uri().try_into().map_err(failed("write the name"))?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params, &key, now, lifetime)
    }

    /// Issues a certificate for the server, with a new key.
    ///
    /// # Errors
    /// [`ControllerError::Authority`].
    pub fn issue_server(&self, now: Timestamp) -> Result<ServerCertificate, ControllerError> {
        let key = KeyPair::generate().map_err(failed("make the server's key"))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name(SERVER_NAME);
        let dns = SERVER_NAME.try_into().map_err(failed("write the server's name"))?;
        params.subject_alt_names = vec![SanType::DnsName(dns)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = self.sign(params, &key, now, SERVER_LIFETIME)?;
        Ok(ServerCertificate {
            chain: vec![leaf, self.certificate.clone()],
            key: key.serialize_der(),
            not_after: (now + SERVER_LIFETIME).min(self.not_after),
        })
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        key: &impl rcgen::PublicKeyData,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<CertificateDer<'static>, ControllerError> {
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial(now)?);
        validity(&mut params, now, lifetime);
        let certificate = params.signed_by(key, &self.issuer).map_err(failed("sign the certificate"))?;
        Ok(certificate.der().clone())
    }

    /// Reads a client certificate that this authority signed, whether it is still in force or not.
    ///
    /// # Errors
    /// [`Reason::CertificateForeign`].
    pub fn recognise(&self, der: &[u8]) -> Result<PeerCertificate, ControllerError> {
        let foreign = |why: String| {
            let message = format!("the certificate was not issued by this controller: {why}");
            ControllerError::refused(Reason::CertificateForeign, message)
        };
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|_| foreign("it is not X.509 in DER".to_owned()))?;
        let (_, authority) = X509Certificate::from_der(&self.certificate)
            .map_err(|_| foreign("the authority's own is damaged".to_owned()))?;
        certificate
            .verify_signature(Some(authority.public_key()))
            .map_err(|_| foreign("another authority signed it".to_owned()))?;
        PeerCertificate::read(der).map_err(|error| foreign(error.to_string()))
    }
}

/// Checks that the key of `certificate` (P-256) made `signature` (ASN.1 DER, with SHA-256) over `message`.
#[must_use]
pub fn signed_by_key_of(certificate: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
    let Some(point) = certificate.public_key().raw.strip_prefix(&P256_PREFIX) else { return false };
    aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1, point)
        .verify(message, signature)
        .is_ok()
}

fn requested_key(csr: &[u8]) -> Result<SubjectPublicKeyInfo, ControllerError> {
    let refuse = |why: &str| {
        let message = format!("the certificate signing request cannot be used: {why}");
        ControllerError::refused(Reason::CsrInvalid, message)
    };
    let (rest, request) =
        X509CertificationRequest::from_der(csr).map_err(|_| refuse("it is not PKCS#10 in DER form"))?;
    if !rest.is_empty() {
        return Err(refuse("bytes follow after its end"));
    }
    let spki = request.certification_request_info.subject_pki.raw;
    if !spki.starts_with(&P256_PREFIX) {
        return Err(refuse("its key is not ECDSA P-256"));
    }
    request.verify_signature().map_err(|_| refuse("its own key did not sign it"))?;
    SubjectPublicKeyInfo::from_der(spki).map_err(|_| refuse("its key cannot be read"))
}

fn rcgen_spki(key: &KeyPair) -> Vec<u8> {
    use rcgen::PublicKeyData as _;
    key.subject_public_key_info()
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// A mark, the time of issue, and randomness: 17 bytes of at most 20 (RFC 5280 §4.1.2.2).
fn serial(now: Timestamp) -> Result<SerialNumber, ControllerError> {
    let mut bytes = [0; 17];
    bytes[0] = SERIAL_MARK;
    bytes[1..9].copy_from_slice(&now.ms().to_be_bytes());
    rand::rngs::OsRng.try_fill_bytes(&mut bytes[9..]).map_err(|error| ControllerError::Authority {
        doing: "choose a serial number",
        reason: error.to_string(),
    })?;
    Ok(SerialNumber::from_slice(&bytes))
}

fn validity(params: &mut CertificateParams, now: Timestamp, lifetime: Duration) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let at = |ms: u64| epoch + Duration::from_secs(ms / 1000);
    params.not_before = at(now.ms().saturating_sub(u64::try_from(BACKDATED.as_millis()).unwrap_or(0)));
    params.not_after = at((now + lifetime).ms());
}

fn failed(doing: &'static str) -> impl Fn(rcgen::Error) -> ControllerError {
    move |error| ControllerError::Authority { doing, reason: error.to_string() }
}

fn key_path(directory: &Path) -> PathBuf {
    directory.join("ca.key")
}

fn certificate_path(directory: &Path) -> PathBuf {
    directory.join("ca.crt")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-21T12:00:00Z".parse().unwrap()
    }

    fn csr(key: &KeyPair) -> Vec<u8> {
        CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
    }

    #[test]
    fn a_certificate_says_who_it_was_issued_to_and_when() {
        let directory = tempfile::tempdir().unwrap();
        let authority = CertificateAuthority::create(directory.path(), now()).unwrap();
        let reopened = CertificateAuthority::open(directory.path()).unwrap();
        assert_eq!(authority.key_digest(), reopened.key_digest());
        let key = KeyPair::generate().unwrap();
        for (uri, lifetime) in
            [("landfall://host/web-1", HOST_LIFETIME), ("landfall://operator/alice/admin", OPERATOR_LIFETIME)]
        {
            let identity: Identity = uri.parse().unwrap();
            let der = reopened.issue(&csr(&key), &identity, now()).unwrap();
            let read = authority.recognise(&der).unwrap();
            assert_eq!(read, PeerCertificate { identity, issued_at: now(), not_after: now() + lifetime });
        }
    }

    #[test]
    fn nothing_but_the_key_is_taken_of_a_request() {
        let directory = tempfile::tempdir().unwrap();
        let authority = CertificateAuthority::create(directory.path(), now()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let admin: rcgen::string::Ia5String = "landfall://operator/mallory/admin".try_into().unwrap();
        params.subject_alt_names = vec![SanType::URI(admin)];
        let csr = params.serialize_request(&key).unwrap();
        let identity = Identity::Host(landfall_common::HostId::new("web-1").unwrap());
        let der = authority.issue(csr.der(), &identity, now()).unwrap();
        assert_eq!(authority.recognise(&der).unwrap().identity, identity);
        let (_, parsed) = X509Certificate::from_der(&der).unwrap();
        assert!(!parsed.is_ca());
    }

    #[test]
    fn a_request_that_its_key_did_not_sign_or_of_another_kind_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let authority = CertificateAuthority::create(directory.path(), now()).unwrap();
        let identity = Identity::Host(landfall_common::HostId::new("web-1").unwrap());
        let key = KeyPair::generate().unwrap();
        let mut torn = csr(&key);
        let last = torn.len() - 1;
        torn[last] ^= 1;
        let mut longer = csr(&key);
        longer.push(0);
        let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        for bad in [torn, longer, csr(&other), b"no request".to_vec(), Vec::new()] {
            let error = authority.issue(&bad, &identity, now()).unwrap_err();
            assert!(matches!(error, ControllerError::Refused { reason: Reason::CsrInvalid, .. }), "{error}");
        }
    }

    #[test]
    fn a_certificate_of_another_authority_is_foreign() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let ours = CertificateAuthority::create(one.path(), now()).unwrap();
        let theirs = CertificateAuthority::create(two.path(), now()).unwrap();
        let identity = Identity::Host(landfall_common::HostId::new("web-1").unwrap());
        let der = theirs.issue(&csr(&KeyPair::generate().unwrap()), &identity, now()).unwrap();
        assert!(ours.recognise(&der).unwrap_err().to_string().contains("another authority"));
    }

    #[test]
    fn a_key_and_a_certificate_of_two_authorities_are_told_apart() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        CertificateAuthority::create(one.path(), now()).unwrap();
        CertificateAuthority::create(two.path(), now()).unwrap();
        std::fs::copy(key_path(two.path()), key_path(one.path())).unwrap();
        let error = CertificateAuthority::open(one.path()).err().unwrap().to_string();
        assert!(error.contains("do not belong together"), "{error}");
    }
}
