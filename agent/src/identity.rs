//! Who this host is, and what it shows for it: written at enrolment, below `identity/` in the state directory.
//!
//! `identity.json` changes only when the host joins again. `credentials.json` holds key and certificate in one file,
//! so that a renewal replaces both or neither.

use std::path::Path;

use landfall_agent_core::Identity;
use landfall_common::disk::{Disk, DiskError};
use landfall_common::{Duration, Timestamp};
use landfall_trust::PublicKey;
use rcgen::{CertificateParams, KeyPair, SigningKey as _};
use rustls_pki_types::PrivatePkcs8KeyDer;
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::error::AgentError;

const DIRECTORY: &str = "identity";
const IDENTITY: &str = "identity/identity.json";
const CREDENTIALS: &str = "identity/credentials.json";
const PENDING: &str = "identity/pending.json";

/// What was settled at enrolment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    /// Host, application, environment.
    pub identity: Identity,
    /// `HOST:PORT` of the controller that it joined.
    pub controller: String,
    /// One of these signs the assignments.
    pub director_keys: Vec<PublicKey>,
    /// The certificate of the controller's CA, DER.
    #[serde(with = "hex::serde")]
    pub ca: Vec<u8>,
}

/// A key and its certificate.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// PKCS#8, DER.
    #[serde(with = "hex::serde")]
    pub key: Vec<u8>,
    /// DER.
    #[serde(with = "hex::serde")]
    pub certificate: Vec<u8>,
}

/// A key whose certificate has been asked for. The same request may be sent again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// What the request is for: the token's id, or `renewal`.
    pub purpose: String,
    /// PKCS#8, DER.
    #[serde(with = "hex::serde")]
    pub key: Vec<u8>,
    /// PKCS#10, DER.
    #[serde(with = "hex::serde")]
    pub csr: Vec<u8>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(..)")
    }
}

impl Enrolled {
    /// Reads it; `None` if the host was never enrolled.
    ///
    /// # Errors
    /// [`AgentError::Disk`], [`AgentError::Identity`] for a damaged file.
    pub fn load(disk: &dyn Disk) -> Result<Option<Self>, AgentError> {
        read(disk, IDENTITY)
    }

    /// Writes it: the last thing that an enrolment does.
    ///
    /// # Errors
    /// [`AgentError::Disk`].
    pub fn save(&self, disk: &dyn Disk) -> Result<(), AgentError> {
        write(disk, IDENTITY, self)?;
        if disk.exists(Path::new(PENDING))? {
            disk.remove_file(Path::new(PENDING))?;
        }
        Ok(())
    }
}

impl Credentials {
    /// Reads them.
    ///
    /// # Errors
    /// [`AgentError::Disk`], [`AgentError::Identity`] if they are missing or damaged.
    pub fn load(disk: &dyn Disk) -> Result<Self, AgentError> {
        read(disk, CREDENTIALS)?.ok_or_else(|| AgentError::Identity {
            file: CREDENTIALS.to_owned(),
            reason: "it is missing; enrol this host again".to_owned(),
        })
    }

    /// Replaces them durably.
    ///
    /// # Errors
    /// [`AgentError::Disk`].
    pub fn save(&self, disk: &dyn Disk) -> Result<(), AgentError> {
        write(disk, CREDENTIALS, self)
    }

    /// From when to when the certificate is in force.
    ///
    /// # Errors
    /// [`AgentError::Identity`] if it is no certificate.
    pub fn validity(&self) -> Result<(Timestamp, Timestamp), AgentError> {
        let damaged = |error: String| AgentError::Identity { file: CREDENTIALS.to_owned(), reason: error };
        let (_, certificate) =
            X509Certificate::from_der(&self.certificate).map_err(|error| damaged(error.to_string()))?;
        let at = |seconds: i64| Timestamp::from_ms(u64::try_from(seconds).unwrap_or(0).saturating_mul(1000));
        let validity = certificate.validity();
        Ok((at(validity.not_before.timestamp()), at(validity.not_after.timestamp())))
    }

    /// When to ask for the next certificate: at two thirds of the life of this one.
    ///
    /// # Errors
    /// [`AgentError::Identity`].
    pub fn renew_at(&self) -> Result<Timestamp, AgentError> {
        let (from, until) = self.validity()?;
        Ok(from + until.since(from) * 2 / 3)
    }

    /// How long until then.
    ///
    /// # Errors
    /// [`AgentError::Identity`].
    pub fn renew_in(&self, now: Timestamp) -> Result<Duration, AgentError> {
        Ok(self.renew_at()?.since(now))
    }

    /// Signs with the key: ECDSA P-256 with SHA-256, ASN.1 DER.
    ///
    /// # Errors
    /// [`AgentError::Identity`] if the key cannot be used.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, AgentError> {
        let key = KeyPair::try_from(&PrivatePkcs8KeyDer::from(self.key.as_slice())).map_err(unusable)?;
        key.sign(message).map_err(unusable)
    }
}

impl Pending {
    /// The request that is on the disk for this purpose, or a new one, durably written before it is used:
    /// if the answer gets lost, the very same request may be sent again.
    ///
    /// # Errors
    /// [`AgentError::Disk`], [`AgentError::Identity`].
    pub fn begin(disk: &dyn Disk, purpose: &str) -> Result<Self, AgentError> {
        disk.ensure_dir(Path::new(DIRECTORY))?;
        if let Ok(Some(pending)) = read::<Self>(disk, PENDING)
            && pending.purpose == purpose
        {
            return Ok(pending);
        }
        let key = KeyPair::generate().map_err(unusable)?;
        let csr = CertificateParams::default().serialize_request(&key).map_err(unusable)?;
        let pending = Self { purpose: purpose.to_owned(), key: key.serialize_der(), csr: csr.der().to_vec() };
        write(disk, PENDING, &pending)?;
        Ok(pending)
    }

    /// With its certificate.
    #[must_use]
    pub fn certified(&self, certificate: Vec<u8>) -> Credentials {
        Credentials { key: self.key.clone(), certificate }
    }

    /// Forgets it.
    ///
    /// # Errors
    /// [`AgentError::Disk`].
    pub fn end(disk: &dyn Disk) -> Result<(), AgentError> {
        if disk.exists(Path::new(PENDING))? {
            disk.remove_file(Path::new(PENDING))?;
        }
        Ok(())
    }
}

fn unusable(error: rcgen::Error) -> AgentError {
    AgentError::Identity { file: "the host's key".to_owned(), reason: error.to_string() }
}

/// What a `join` by root leaves behind is not the agent's to read.
fn unreadable(error: DiskError) -> AgentError {
    if error.kind() != std::io::ErrorKind::PermissionDenied {
        return AgentError::Disk(error);
    }
    let state = error.path.ancestors().nth(2).unwrap_or(&error.path).display();
    let reason = format!(
        "it belongs to another user, as after a `join` by root; `chown -R landfall: {state}` gives it to the agent, \
         where that runs as landfall"
    );
    AgentError::Identity { file: error.path.display().to_string(), reason }
}

fn read<T: for<'de> Deserialize<'de>>(disk: &dyn Disk, path: &str) -> Result<Option<T>, AgentError> {
    let Some(bytes) = disk.read(Path::new(path)).map_err(unreadable)? else { return Ok(None) };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| AgentError::Identity { file: path.to_owned(), reason: error.to_string() })
}

fn write<T: Serialize>(disk: &dyn Disk, path: &str, value: &T) -> Result<(), AgentError> {
    disk.ensure_dir(Path::new(DIRECTORY))?;
    let bytes = serde_json::to_vec_pretty(value).expect("plain data with text keys");
    Ok(disk.write_atomic(Path::new(path), &bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_common::disk::RealDisk;

    #[test]
    fn files_of_another_user_are_told_with_what_gives_them_back() {
        let denied = |kind| {
            let path = Path::new("/var/lib/landfall").join(IDENTITY);
            unreadable(DiskError::new("read", &path, std::io::Error::from(kind))).to_string()
        };
        let told = denied(std::io::ErrorKind::PermissionDenied);
        assert!(told.starts_with("/var/lib/landfall/identity/identity.json cannot be used"), "{told}");
        assert!(told.contains("`chown -R landfall: /var/lib/landfall`"), "{told}");
        assert!(!denied(std::io::ErrorKind::NotADirectory).contains("chown"));
    }

    #[test]
    fn a_request_that_was_not_answered_is_sent_again_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(directory.path());
        let first = Pending::begin(&disk, "t1").unwrap();
        assert!(Pending::begin(&disk, "t1").unwrap() == first);
        assert!(Pending::begin(&disk, "t2").unwrap() != first);
        Pending::end(&disk).unwrap();
        Pending::end(&disk).unwrap();
    }
}
