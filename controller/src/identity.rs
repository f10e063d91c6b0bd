//! Who is asking: what a client certificate says, and what is remembered of it for each connection.
//!
//! Whether that caller may call a method is decided in [`crate::authorise`].

use std::net::SocketAddr;
use std::str::FromStr;

use landfall_common::ids::InvalidName;
use landfall_common::rights::InvalidRights;
use landfall_common::{HostId, OperatorName, Rights, Timestamp};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Whom a certificate was issued to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Identity {
    /// An agent.
    Host(HostId),
    /// A person or a program.
    Operator {
        /// Its name.
        name: OperatorName,
        /// What it may do, and where.
        rights: Rights,
    },
}

impl Identity {
    /// The URI in the certificate's subject alternative name.
    #[must_use]
    pub fn uri(&self) -> String {
        match self {
            Self::Host(id) => format!("landfall://host/{id}"),
            Self::Operator { name, rights } => format!("landfall://operator/{name}/{rights}"),
        }
    }

    /// What lets it in again, as a clause that follows what keeps it out.
    #[must_use]
    pub fn let_in_again(&self) -> String {
        match self {
            Self::Host(_) => {
                "an admin makes a new token with `ctl hosts token`, and `landfall-agent join TOKEN --again` \
                              on the host lets it in again"
                    .to_owned()
            }
            Self::Operator { name, rights } => format!(
                "an admin makes a new token with `ctl operators token {name} --role {rights}`, or the controller's own \
                 host with `landfall-controller operator-token --name {name} --role {rights}`; `ctl login TOKEN` takes it"
            ),
        }
    }

    /// The name alone, as the log shows it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Host(id) => id.as_str(),
            Self::Operator { name, .. } => name.as_str(),
        }
    }
}

impl FromStr for Identity {
    type Err = IdentityError;
    fn from_str(uri: &str) -> Result<Self, IdentityError> {
        let unknown = || IdentityError::Uri(uri.to_owned());
        let rest = uri.strip_prefix("landfall://").ok_or_else(unknown)?;
        let (kind, rest) = rest.split_once('/').ok_or_else(unknown)?;
        match kind {
            "host" => Ok(Self::Host(HostId::new(rest)?)),
            "operator" => {
                // Where a role holds has a slash of its own.
                let (name, rights) = rest.split_once('/').ok_or_else(unknown)?;
                Ok(Self::Operator { name: OperatorName::new(name)?, rights: rights.parse()? })
            }
            _ => Err(unknown()),
        }
    }
}

/// Why a certificate or a name does not say who someone is.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The bytes are not an X.509 certificate.
    #[error("it is not an X.509 certificate in DER form")]
    NotACertificate,
    /// It does not name exactly one identity.
    #[error("the certificate names {0} Landfall identities where one is needed")]
    Count(usize),
    /// A URI of another form.
    #[error("{0:?} does not name a host or an operator")]
    Uri(String),
    /// Roles that are none.
    #[error(transparent)]
    Rights(#[from] InvalidRights),
    /// A name against the rules.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// A serial number that this controller did not give.
    #[error("the certificate's serial number is not one of this controller's")]
    Serial,
}

/// What is kept of a client certificate, which the TLS handshake has verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Whom it names.
    pub identity: Identity,
    /// When it was issued by the controller's clock; the serial number carries it. A host that was removed
    /// and joined again is told from its former self by this.
    pub issued_at: Timestamp,
    /// From then on it no longer counts; asked at each request, since connections outlive certificates.
    pub not_after: Timestamp,
}

/// The first byte of a serial number of ours, before eight bytes of time and eight of randomness. It keeps
/// the number positive and of one length.
pub const SERIAL_MARK: u8 = 0x4c;

impl PeerCertificate {
    /// Reads a certificate. Its signature and its dates are not looked at.
    ///
    /// # Errors
    /// [`IdentityError`] when it does not name exactly one identity of ours.
    pub fn read(der: &[u8]) -> Result<Self, IdentityError> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| IdentityError::NotACertificate)?;
        let names = certificate.subject_alternative_name().map_err(|_| IdentityError::NotACertificate)?;
        let uris: Vec<&str> = names
            .iter()
            .flat_map(|extension| &extension.value.general_names)
            .filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None })
            .collect();
        let [uri] = uris[..] else { return Err(IdentityError::Count(uris.len())) };
        let serial = certificate.raw_serial();
        let issued: [u8; 8] = match serial {
            [SERIAL_MARK, time @ .., _, _, _, _, _, _, _, _] => {
                time.try_into().map_err(|_| IdentityError::Serial)?
            }
            _ => return Err(IdentityError::Serial),
        };
        let not_after = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
        Ok(Self {
            identity: uri.parse()?,
            issued_at: Timestamp::from_ms(u64::from_be_bytes(issued)),
            not_after: Timestamp::from_ms(not_after.saturating_mul(1000)),
        })
    }
}

/// A certificate's serial number, hexadecimal.
///
/// # Errors
/// [`IdentityError::NotACertificate`].
pub fn serial(der: &[u8]) -> Result<String, IdentityError> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| IdentityError::NotACertificate)?;
    Ok(hex::encode(certificate.raw_serial()))
}

/// One end of a connection, as every request on it sees it.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where it comes from.
    pub address: Option<SocketAddr>,
    /// What it showed, if anything.
    pub certificate: Option<PeerCertificate>,
}

impl Peer {
    /// The address without its port, as the log shows it; empty when unknown.
    #[must_use]
    pub fn origin(&self) -> String {
        self.address.map(|address| address.ip().to_canonical().to_string()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_reads_back() {
        for uri in [
            "landfall://host/web-1",
            "landfall://operator/alice/admin",
            "landfall://operator/ci/deployer",
            "landfall://operator/ci/deployer:shop",
            "landfall://operator/ci/viewer,deployer:shop/staging",
        ] {
            assert_eq!(uri.parse::<Identity>().unwrap().uri(), uri);
        }
    }

    #[test]
    fn anything_else_names_nobody() {
        for uri in [
            "",
            "landfall://host/",
            "landfall://host/a/b",
            "landfall://host/../x",
            "landfall://operator/alice",
            "landfall://operator/alice/root",
            "landfall://operator/alice/Admin",
            "landfall://operator/alice/deployer/staging",
            "landfall://operator/alice/deployer:shop/staging/eu",
            "landfall://operator/alice/deployer:*/staging",
            "landfall://operator//deployer:shop/staging",
            "https://host/web-1",
            "landfall://hosts/web-1",
        ] {
            assert!(uri.parse::<Identity>().is_err(), "{uri:?} was taken");
        }
    }
}
