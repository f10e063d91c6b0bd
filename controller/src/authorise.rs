//! Who may call which method: a table, and whatever is not in it is refused.
//!
//! Asked at every request and not only when a connection begins, since connections outlive certificates; an answer that
//! goes on ends when whoever asked is removed. Whether a
//! role that holds for one application or environment covers what a request names is asked where the request is read
//! (`rpc/operators/admission.rs`); a method of the operators' service that has not asked answers nothing.

mod lasting;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::task::{Context, Poll};

use futures::future::ready;
use landfall_common::{OperatorName, Right, Rights, Role, Scope, Timestamp};
use tokio::sync::watch;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::clock::Clock;
use crate::error::{ControllerError, Reason};
use crate::identity::{Identity, Peer};
use crate::rpc::errors::status;

pub use lasting::STREAMS;

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Whoever reaches the port.
    Anyone,
    /// An enrolled host.
    Agent,
    /// An operator with this role or a higher one, as far as it reaches.
    Operator(Role, Reach),
}

/// How far the role of an operator has to reach for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// It is about no application: the role for any of them will do.
    Anywhere,
    /// It is about the controller: the role must be for everything.
    Everything,
    /// To the application, the environments, hosts or rollouts that the request names.
    Named,
    /// The answer has only what the role reaches to.
    Narrowed,
}

use Access::{Agent, Anyone, Operator};
use Reach::{Anywhere, Everything, Named, Narrowed};
use Role::{Admin, Approver, Deployer, Gatekeeper, Viewer};

/// Every method there is.
pub const TABLE: [(&str, Access); 55] = [
    ("/grpc.health.v1.Health/Check", Anyone),
    ("/grpc.health.v1.Health/Watch", Operator(Viewer, Anywhere)),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Operator(Viewer, Anywhere)),
    ("/landfall.v1.Agents/FetchObjects", Agent),
    ("/landfall.v1.Agents/GetMetadata", Agent),
    ("/landfall.v1.Agents/SendOutput", Agent),
    ("/landfall.v1.Agents/Session", Agent),
    ("/landfall.v1.Enrolment/Join", Anyone),
    ("/landfall.v1.Enrolment/Renew", Anyone),
    ("/landfall.v1.Operators/AnswerGate", Operator(Gatekeeper, Named)),
    ("/landfall.v1.Operators/ApproveRollout", Operator(Approver, Named)),
    ("/landfall.v1.Operators/ControlRollout", Operator(Deployer, Named)),
    ("/landfall.v1.Operators/CordonHosts", Operator(Deployer, Named)),
    ("/landfall.v1.Operators/CreateToken", Operator(Admin, Named)),
    ("/landfall.v1.Operators/DrainHosts", Operator(Deployer, Named)),
    ("/landfall.v1.Operators/ExcludeHosts", Operator(Deployer, Named)),
    ("/landfall.v1.Operators/Explain", Operator(Viewer, Narrowed)),
    ("/landfall.v1.Operators/GetCheckpoint", Operator(Viewer, Anywhere)),
    ("/landfall.v1.Operators/GetInfo", Operator(Viewer, Narrowed)),
    ("/landfall.v1.Operators/GetObject", Operator(Viewer, Named)),
    ("/landfall.v1.Operators/GetRelease", Operator(Viewer, Named)),
    ("/landfall.v1.Operators/GetRepositoryFile", Operator(Viewer, Named)),
    ("/landfall.v1.Operators/GetRollout", Operator(Viewer, Named)),
    ("/landfall.v1.Operators/GetRunbook", Operator(Viewer, Named)),
    ("/landfall.v1.Operators/IncludeHosts", Operator(Deployer, Named)),
    ("/landfall.v1.Operators/LabelHosts", Operator(Deployer, Named)),
    ("/landfall.v1.Operators/ListDrift", Operator(Viewer, Narrowed)),
    ("/landfall.v1.Operators/ListEnvironments", Operator(Viewer, Narrowed)),
    ("/landfall.v1.Operators/ListEvidence", Operator(Viewer, Named)),
    ("/landfall.v1.Operators/ListHosts", Operator(Viewer, Narrowed)),
    ("/landfall.v1.Operators/ListOperators", Operator(Viewer, Everything)),
    ("/landfall.v1.Operators/ListReleases", Operator(Viewer, Narrowed)),
    ("/landfall.v1.Operators/ListRollouts", Operator(Viewer, Narrowed)),
    ("/landfall.v1.Operators/LockEnvironment", Operator(Deployer, Named)),
    ("/landfall.v1.Operators/MissingObjects", Operator(Deployer, Anywhere)),
    ("/landfall.v1.Operators/PlanRollout", Operator(Viewer, Named)),
    ("/landfall.v1.Operators/PublishRelease", Operator(Deployer, Named)),
    ("/landfall.v1.Operators/PublishRoot", Operator(Admin, Everything)),
    ("/landfall.v1.Operators/PutObjects", Operator(Deployer, Anywhere)),
    ("/landfall.v1.Operators/ReadLog", Operator(Viewer, Narrowed)),
    ("/landfall.v1.Operators/RejectRollout", Operator(Approver, Named)),
    ("/landfall.v1.Operators/RemoveHost", Operator(Admin, Named)),
    ("/landfall.v1.Operators/RemoveOperator", Operator(Admin, Everything)),
    ("/landfall.v1.Operators/RepairDrift", Operator(Deployer, Named)),
    ("/landfall.v1.Operators/ResolveMigration", Operator(Deployer, Named)),
    ("/landfall.v1.Operators/Rollback", Operator(Deployer, Named)),
    ("/landfall.v1.Operators/StartRestart", Operator(Deployer, Named)),
    ("/landfall.v1.Operators/StartRollout", Operator(Deployer, Named)),
    ("/landfall.v1.Operators/StartDrill", Operator(Deployer, Named)),
    ("/landfall.v1.Operators/StreamOutput", Operator(Deployer, Named)),
    ("/landfall.v1.Operators/SubmitEvidence", Operator(Gatekeeper, Named)),
    ("/landfall.v1.Operators/UncordonHosts", Operator(Deployer, Named)),
    ("/landfall.v1.Operators/UndrainHosts", Operator(Deployer, Named)),
    ("/landfall.v1.Operators/UnlockEnvironment", Operator(Deployer, Named)),
    ("/landfall.v1.Operators/WatchRollout", Operator(Viewer, Named)),
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
pub struct DenyList(Arc<Denied>);

#[derive(Debug, Default)]
struct Denied {
    names: RwLock<BTreeMap<String, Timestamp>>,
    /// Told at each change.
    changes: watch::Sender<()>,
}

impl DenyList {
    /// Denies every certificate of this name that was issued until now.
    pub fn deny(&self, name: String, until: Timestamp) {
        {
            let mut names = self.0.names.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            let known = names.entry(name).or_insert(until);
            *known = until.max(*known);
        }
        self.0.changes.send_replace(());
    }

    /// Whether a certificate of this name, issued then, is denied.
    #[must_use]
    pub fn denies(&self, name: &str, issued_at: Timestamp) -> bool {
        let names = self.0.names.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let all = name.starts_with("operator/").then_some(EVERY_OPERATOR);
        [Some(name), all]
            .into_iter()
            .flatten()
            .any(|name| names.get(name).is_some_and(|until| issued_at <= *until))
    }

    /// Comes back once [`DenyList::denies`] holds.
    async fn denial(&self, name: &str, issued_at: Timestamp) {
        let mut changes = self.0.changes.subscribe();
        while !self.denies(name, issued_at) {
            // Its other end is in this list.
            let _ = changes.changed().await;
        }
    }
}

/// What is said to whoever was removed.
fn shut_out(identity: &Identity) -> ControllerError {
    let message = format!(
        "{} was removed from this controller, or it was restored from a backup since; {}",
        identity.name(),
        identity.let_in_again()
    );
    ControllerError::refused(Reason::Removed, message)
}

/// The key of an identity in the deny list; an operator is denied in whatever role.
#[must_use]
pub fn deny_key(identity: &Identity) -> String {
    match identity {
        Identity::Host(host) => format!("host/{host}"),
        Identity::Operator { name, .. } => operator_key(name),
    }
}

/// The key of an operator in the deny list.
#[must_use]
pub fn operator_key(name: &OperatorName) -> String {
    format!("operator/{name}")
}

/// Why an operator's role does not do: what is needed and where, what there is, and who can give it.
#[must_use]
pub fn role_too_low(
    (name, rights): (&str, &Rights),
    what: &str,
    needed: Role,
    scope: Option<&Scope>,
) -> ControllerError {
    let is_scoped = *rights != rights.unscoped();
    let message = match scope.filter(|_| is_scoped) {
        None => format!("{what} needs the role {needed}, and {name} is {rights}"),
        Some(scope) => {
            // A new token says all of it.
            let given = rights.and([Right { role: needed, scope: scope.clone() }]);
            format!(
                "{what} needs the role {needed} for {scope}, and {name} is {rights}; an admin for everything gives it \
                 with `ctl operators token {name} --role {given}`"
            )
        }
    };
    ControllerError::refused(Reason::RoleTooLow, message)
}

/// What the table leaves to the service: to ask whether the caller's role reaches to what the request names.
#[derive(Debug, Clone)]
pub struct Question {
    /// The role that the method needs.
    pub needed: Role,
    /// How far.
    pub reach: Reach,
    asked: Arc<AtomicBool>,
}

impl Question {
    fn new(needed: Role, reach: Reach) -> Self {
        Self { needed, reach, asked: Arc::default() }
    }

    /// The service has asked: it may answer.
    pub fn asked(&self) {
        self.asked.store(true, Ordering::Release);
    }

    /// Whether an answer is none: that of a method that was forgotten. Errors are one.
    fn is_open<B>(&self, answer: &http::Response<B>) -> bool {
        !self.asked.load(Ordering::Acquire) && !answer.headers().contains_key("grpc-status")
    }
}

/// Methods of the service whose requests name applications, environments, hosts and rollouts.
const OPERATORS: &str = "/landfall.v1.Operators/";

/// Decides about one call.
///
/// # Errors
/// [`ControllerError::Refused`] with the sentence for the caller.
pub fn authorise(
    path: &str,
    peer: Option<&Peer>,
    denied: &DenyList,
    now: Timestamp,
) -> Result<Option<Question>, ControllerError> {
    let access = access(path).ok_or_else(|| {
        ControllerError::refused(Reason::MethodUnknown, format!("{path} is not a method of this controller"))
    })?;
    if access == Anyone {
        return Ok(None);
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
        return Err(shut_out(&certificate.identity));
    }
    match (access, &certificate.identity) {
        (Agent, Identity::Host(_)) => Ok(None),
        (Operator(needed, reach), Identity::Operator { rights, .. }) => {
            let (does, scope) = match reach {
                Everything => (rights.have(needed, &Scope::Everything), Some(&Scope::Everything)),
                Anywhere | Named | Narrowed => (rights.have_some(needed, &Scope::Everything), None),
            };
            if !does {
                return Err(role_too_low((name, rights), "this", needed, scope));
            }
            Ok(path.starts_with(OPERATORS).then(|| Question::new(needed, reach)))
        }
        (Operator(..), Identity::Host(_)) => {
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
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        let peer = request.extensions().get::<Arc<Peer>>();
        let path = request.uri().path();
        match authorise(path, peer.map(Arc::as_ref), &self.layer.denied, self.layer.clock.now()) {
            Ok(question) => {
                let path = path.to_owned();
                let certificate = peer.and_then(|peer| peer.certificate.clone());
                let listener = certificate.filter(|_| STREAMS.contains(&path.as_str()));
                let denied = self.layer.denied.clone();
                if let Some(question) = &question {
                    request.extensions_mut().insert(question.clone());
                }
                let answer = self.inner.call(request);
                Box::pin(async move {
                    let answer = answer.await?;
                    if question.is_some_and(|question| question.is_open(&answer)) {
                        tracing::error!(
                            method = path,
                            "a method does not ask how far its caller's role reaches"
                        );
                        return Ok(status(ControllerError::Unasked { method: path }).into_http());
                    }
                    Ok(match listener {
                        Some(listener) => lasting::until_removed(answer, listener, denied),
                        None => answer,
                    })
                })
            }
            Err(error) => {
                let origin = peer.map(|peer| peer.origin()).unwrap_or_default();
                tracing::warn!(method = path, origin, error = %error, "call refused");
                Box::pin(ready(Ok(status(error).into_http())))
            }
        }
    }
}
