//! Who may call which method: a table, and whatever is not in it is refused.
//!
//! Asked at every request and not only when a connection begins, since connections outlive certificates.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};
use std::task::{Context, Poll};

use futures::future::{Either, Ready, ready};
use landfall_common::Timestamp;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::clock::Clock;
use crate::error::{ControllerError, Reason};
use crate::identity::{Identity, Peer, Role};
use crate::rpc::errors::status;

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Whoever reaches the port.
    Anyone,
    /// An enrolled host.
    Agent,
    /// An operator with this role or a higher one.
    Operator(Role),
}

use Access::{Agent, Anyone, Operator};
use Role::{Admin, Approver, Deployer, Gatekeeper, Viewer};

/// Every method there is.
pub const TABLE: [(&str, Access); 50] = [
    ("/grpc.health.v1.Health/Check", Anyone),
    ("/grpc.health.v1.Health/Watch", Operator(Viewer)),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Operator(Viewer)),
    ("/landfall.v1.Agents/FetchObjects", Agent),
    ("/landfall.v1.Agents/GetMetadata", Agent),
    ("/landfall.v1.Agents/SendOutput", Agent),
    ("/landfall.v1.Agents/Session", Agent),
    ("/landfall.v1.Enrolment/Join", Anyone),
    ("/landfall.v1.Enrolment/Renew", Anyone),
    ("/landfall.v1.Operators/AnswerGate", Operator(Gatekeeper)),
    ("/landfall.v1.Operators/ApproveRollout", Operator(Approver)),
    ("/landfall.v1.Operators/ControlRollout", Operator(Deployer)),
    ("/landfall.v1.Operators/CordonHosts", Operator(Deployer)),
    ("/landfall.v1.Operators/CreateToken", Operator(Admin)),
    ("/landfall.v1.Operators/ExcludeHosts", Operator(Deployer)),
    ("/landfall.v1.Operators/Explain", Operator(Viewer)),
    ("/landfall.v1.Operators/GetCheckpoint", Operator(Viewer)),
    ("/landfall.v1.Operators/GetInfo", Operator(Viewer)),
    ("/landfall.v1.Operators/GetObject", Operator(Viewer)),
    ("/landfall.v1.Operators/GetRelease", Operator(Viewer)),
    ("/landfall.v1.Operators/GetRepositoryFile", Operator(Viewer)),
    ("/landfall.v1.Operators/GetRollout", Operator(Viewer)),
    ("/landfall.v1.Operators/GetRunbook", Operator(Viewer)),
    ("/landfall.v1.Operators/IncludeHosts", Operator(Deployer)),
    ("/landfall.v1.Operators/ListDrift", Operator(Viewer)),
    ("/landfall.v1.Operators/ListEnvironments", Operator(Viewer)),
    ("/landfall.v1.Operators/ListHosts", Operator(Viewer)),
    ("/landfall.v1.Operators/ListOperators", Operator(Viewer)),
    ("/landfall.v1.Operators/ListReleases", Operator(Viewer)),
    ("/landfall.v1.Operators/ListRollouts", Operator(Viewer)),
    ("/landfall.v1.Operators/LockEnvironment", Operator(Deployer)),
    ("/landfall.v1.Operators/MissingObjects", Operator(Deployer)),
    ("/landfall.v1.Operators/PlanRollout", Operator(Viewer)),
    ("/landfall.v1.Operators/PublishRelease", Operator(Deployer)),
    ("/landfall.v1.Operators/PublishRoot", Operator(Admin)),
    ("/landfall.v1.Operators/PutObjects", Operator(Deployer)),
    ("/landfall.v1.Operators/ReadLog", Operator(Viewer)),
    ("/landfall.v1.Operators/RejectRollout", Operator(Approver)),
    ("/landfall.v1.Operators/RemoveHost", Operator(Admin)),
    ("/landfall.v1.Operators/RemoveOperator", Operator(Admin)),
    ("/landfall.v1.Operators/RepairDrift", Operator(Deployer)),
    ("/landfall.v1.Operators/ResolveMigration", Operator(Deployer)),
    ("/landfall.v1.Operators/Rollback", Operator(Deployer)),
    ("/landfall.v1.Operators/StartRestart", Operator(Deployer)),
    ("/landfall.v1.Operators/StartRollout", Operator(Deployer)),
    ("/landfall.v1.Operators/StartDrill", Operator(Deployer)),
    ("/landfall.v1.Operators/StreamOutput", Operator(Deployer)),
    ("/landfall.v1.Operators/UncordonHosts", Operator(Deployer)),
    ("/landfall.v1.Operators/UnlockEnvironment", Operator(Deployer)),
    ("/landfall.v1.Operators/WatchRollout", Operator(Viewer)),
];

/// Who may call this method; `None` for one that is not in the table.
#[must_use]
pub fn access(path: &str) -> Option<Access> {
    TABLE.iter().find(|(method, _)| *method == path).map(|(_, access)| *access)
}

/// Denies operators of whatever name. No operator has it.
pub const EVERY_OPERATOR: &str = "operator/*";

/// Hosts and operators that were removed: certificates that were issued to them until then count no more.
#[derive(Debug, Clone, Default)]
pub struct DenyList(Arc<RwLock<BTreeMap<String, Timestamp>>>);

impl DenyList {
    /// Denies every certificate of this name that was issued until now.
    pub fn deny(&self, name: String, until: Timestamp) {
        let mut list = self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = list.entry(name).or_insert(until);
        *known = until.max(*known);
    }

    /// Whether a certificate of this name, issued then, is denied.
    #[must_use]
    pub fn denies(&self, name: &str, issued_at: Timestamp) -> bool {
        let list = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let all = name.starts_with("operator/").then_some(EVERY_OPERATOR);
        [Some(name), all]
            .into_iter()
            .flatten()
            .any(|name| list.get(name).is_some_and(|until| issued_at <= *until))
    }
}

/// The key of an identity in the deny list; an operator is denied in whatever role.
#[must_use]
pub fn deny_key(identity: &Identity) -> String {
    match identity {
        Identity::Host(host) => format!("host/{host}"),
        Identity::Operator { name, .. } => format!("operator/{name}"),
    }
}

/// Decides about one call.
///
/// # Errors
/// [`ControllerError::Refused`] with the sentence for the caller.
pub fn authorise(
    path: &str,
    peer: Option<&Peer>,
    denied: &DenyList,
    now: Timestamp,
) -> Result<(), ControllerError> {
    let access = access(path).ok_or_else(|| {
        ControllerError::refused(Reason::MethodUnknown, format!("{path} is not a method of this controller"))
    })?;
    if access == Anyone {
        return Ok(());
    }
    let certificate = peer.and_then(|peer| peer.certificate.as_ref()).ok_or_else(|| {
        let message = "this call needs a client certificate; operators get one with `ctl login TOKEN`, hosts \
                       with `landfall-agent join TOKEN`";
        ControllerError::refused(Reason::CertificateRequired, message)
    })?;
    let name = certificate.identity.name();
    if certificate.not_after <= now {
        let message = format!(
            "the certificate of {name} expired at {}; {}",
            certificate.not_after,
            certificate.identity.let_in_again()
        );
        return Err(ControllerError::refused(Reason::CertificateExpired, message));
    }
    if denied.denies(&deny_key(&certificate.identity), certificate.issued_at) {
        let message = format!(
            "{name} was removed from this controller, or it was restored from a backup since; {}",
            certificate.identity.let_in_again()
        );
        return Err(ControllerError::refused(Reason::Removed, message));
    }
    match (access, &certificate.identity) {
        (Agent, Identity::Host(_)) => Ok(()),
        (Operator(needed), Identity::Operator { role, .. }) if *role >= needed => Ok(()),
        (Operator(needed), Identity::Operator { role, .. }) => {
            let message = format!("this needs the role {needed}, and {name} is {role}");
            Err(ControllerError::refused(Reason::RoleTooLow, message))
        }
        (Operator(_), Identity::Host(_)) => {
            let message = format!("this is for operators, and {name} is a host");
            Err(ControllerError::refused(Reason::RoleTooLow, message))
        }
        (Agent | Anyone, _) => {
            let message = format!("this is for hosts, and {name} is an operator");
            Err(ControllerError::refused(Reason::RoleTooLow, message))
        }
    }
}

/// Puts [`authorise`] before every service.
#[derive(Clone)]
pub struct AuthoriseLayer {
    denied: DenyList,
    clock: Clock,
}

impl AuthoriseLayer {
    /// A layer that asks this list and this clock.
    #[must_use]
    pub fn new(denied: DenyList, clock: Clock) -> Self {
        Self { denied, clock }
    }
}

impl<S> Layer<S> for AuthoriseLayer {
    type Service = Authorised<S>;
    fn layer(&self, inner: S) -> Authorised<S> {
        Authorised { inner, layer: self.clone() }
    }
}

/// A service behind the table.
#[derive(Clone)]
pub struct Authorised<S> {
    inner: S,
    layer: AuthoriseLayer,
}

impl<S, B> Service<http::Request<B>> for Authorised<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let peer = request.extensions().get::<Arc<Peer>>();
        match authorise(
            request.uri().path(),
            peer.map(Arc::as_ref),
            &self.layer.denied,
            self.layer.clock.now(),
        ) {
            Ok(()) => Either::Left(self.inner.call(request)),
            Err(error) => {
                let origin = peer.map(|peer| peer.origin()).unwrap_or_default();
                tracing::warn!(method = request.uri().path(), origin, error = %error, "call refused");
                Either::Right(ready(Ok(status(error).into_http())))
            }
        }
    }
}
