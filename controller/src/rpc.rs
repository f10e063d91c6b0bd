//! The gRPC services: the only place that sees protobuf.
//!
//! [`convert`] turns messages into domain types and back, [`errors`] maps every error to a status. Who may
//! call what has been decided before a method is reached, by [`crate::authorise`].

pub mod agents;
pub mod convert;
pub mod enrolment;
pub mod errors;
pub mod live;
pub mod operators;
pub mod outputs;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use landfall_common::{Rights, Role, RolloutId, Scope};
use landfall_controller_core::log::Actor;
use landfall_controller_core::record::Place;
use rand::Rng as _;
use tokio_util::sync::CancellationToken;
use tonic::Request;

use crate::authorise::{DenyList, role_too_low};
use crate::ca::CertificateAuthority;
use crate::clock::Clock;
use crate::collection::Counted;
use crate::config::Retention;
use crate::enrolment::Admission;
use crate::error::{ControllerError, Reason};
use crate::identity::{Identity, Peer, PeerCertificate};
use crate::keys::OnlineKeys;
use crate::objects::Depot;
use crate::reactor::Reactor;
use crate::repository::ReleaseRepository;
use crate::store::Store;
use crate::writer::Writer;

/// What the services work with.
pub struct Context {
    /// For reading.
    pub store: Arc<dyn Store>,
    /// For everything that changes something and is not the planner's.
    pub writer: Arc<Writer>,
    /// The planner.
    pub reactor: Reactor,
    /// The release repository.
    pub repository: Arc<ReleaseRepository>,
    /// The objects.
    pub depot: Depot,
    /// Issues certificates.
    pub authority: Arc<CertificateAuthority>,
    /// The online keys.
    pub keys: Arc<OnlineKeys>,
    /// Who was removed.
    pub denied: DenyList,
    /// Held while somebody is let in or shut out.
    pub admission: Admission,
    /// What hosts say that nobody stores.
    pub live: live::Live,
    /// Which objects are whose.
    pub catalogue: agents::catalogue::Catalogue,
    /// Who reads what hosts write.
    pub outputs: outputs::Outputs,
    /// What the files of releases take.
    pub usage: Counted,
    /// How long they stay.
    pub retention: Retention,
    /// What time it is.
    pub clock: Clock,
    /// Cancelled when the controller stops; long streams end then.
    pub stop: CancellationToken,
    /// When the server's certificate expires, in milliseconds.
    pub server_expires_ms: AtomicU64,
    /// Numbers the sessions.
    pub connections: AtomicU64,
}

/// Who calls: the identity, which the table has let pass, and from where.
#[derive(Debug, Clone)]
pub struct Caller {
    /// What the certificate says.
    pub certificate: PeerCertificate,
    /// The address, as the log shows it.
    pub origin: String,
}

impl Caller {
    /// The caller of a method that needs a certificate.
    ///
    /// # Errors
    /// [`Reason::CertificateRequired`]; the table lets nobody here without one.
    pub fn of<T>(request: &Request<T>) -> Result<Self, ControllerError> {
        let peer = request.extensions().get::<Arc<Peer>>();
        let certificate = peer.and_then(|peer| peer.certificate.clone()).ok_or_else(|| {
            ControllerError::refused(Reason::CertificateRequired, "this call needs a client certificate")
        })?;
        Ok(Self { certificate, origin: origin(request) })
    }

    /// What it may do, and where; of a host nothing.
    #[must_use]
    pub fn rights(&self) -> Rights {
        match &self.certificate.identity {
            Identity::Operator { rights, .. } => rights.clone(),
            Identity::Host(_) => Rights::default(),
        }
    }

    /// Refuses whoever has a lower role in this place: for what the method alone does not tell.
    ///
    /// # Errors
    /// [`Reason::RoleTooLow`].
    pub fn must_be(&self, needed: Role, place: &Place, what: &str) -> Result<(), ControllerError> {
        let (rights, scope) = (self.rights(), scope_of(place));
        if rights.have(needed, &scope) {
            return Ok(());
        }
        Err(role_too_low((self.certificate.identity.name(), &rights), what, needed, Some(&scope)))
    }

    /// As the log names it.
    #[must_use]
    pub fn actor(&self) -> Actor {
        match &self.certificate.identity {
            Identity::Host(host) => Actor::Host(host.clone()),
            Identity::Operator { name, .. } => Actor::Operator(name.clone()),
        }
    }
}

/// A place, as where a role holds.
#[must_use]
pub fn scope_of(place: &Place) -> Scope {
    Scope::Environment(place.application.clone(), place.environment.clone())
}

/// The address that a request came from.
#[must_use]
pub fn origin<T>(request: &Request<T>) -> String {
    request.extensions().get::<Arc<Peer>>().map(|peer| peer.origin()).unwrap_or_default()
}

/// A name for a rollout: the day, and enough randomness for people to tell two apart.
#[must_use]
pub fn fresh_rollout(now: landfall_common::Timestamp) -> RolloutId {
    // Without letters that look like digits.
    const LETTERS: &[u8] = b"abcdefghjkmnpqrstuvwxyz23456789";
    let mut random = rand::rng();
    let tail: String = (0..5).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect();
    let day: String = now.to_string().chars().take(10).filter(char::is_ascii_digit).collect();
    RolloutId::new(format!("r{day}-{tail}")).expect("made of letters, digits and a dash")
}
