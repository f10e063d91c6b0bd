//! Whether a caller's role reaches to what a request names.
//!
//! Each request says here what it is about, and nowhere else: no method of the service gets at its caller otherwise,
//! and none that has not asked is answered ([`crate::authorise`]). What a caller may not look at is not there for it:
//! a rollout or a host of another place is refused in the words for one that nobody knows.

use landfall_common::manifest::Manifest;
use landfall_common::{AppName, HostId, RequestId, Rights, Role, RolloutId, Scope};
use landfall_controller_core::Refusal;
use landfall_controller_core::record::Place;
use landfall_proto::v1 as pb;
use tonic::{Request, Streaming};

use super::leave_out::HOSTS_AT_MOST;
use super::{OperatorsService, evidence};
use crate::authorise::{Question, Reach, role_too_low};
use crate::error::{ControllerError, Reason};
use crate::rpc::agents::{application_of, no_file};
use crate::rpc::{Caller, Context, convert, scope_of};

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum About {
    /// No application.
    Nothing,
    /// The controller and all that it has.
    Everything,
    /// An application; the role in any environment of it will do, since a release is for all of them.
    Application(AppName),
    /// A place, and others of which it asks something.
    Place { place: Place, looks_at: Vec<Place> },
    /// A rollout.
    Rollout(RolloutId),
    /// Hosts, and a rollout that they have a part in.
    Hosts { hosts: Vec<HostId>, rollout: Option<RolloutId> },
    /// A host that will not be there any more when the same is asked again.
    Leaving { host: HostId, request: RequestId },
    /// A list, of this application and this environment; empty for all.
    List { application: String, environment: String },
}

/// A request that says what it is about.
pub(super) trait Names {
    /// What it names.
    ///
    /// # Errors
    /// [`Reason::InvalidArgument`] for what cannot be a name.
    fn about(&self) -> Result<About, ControllerError>;
}

impl OperatorsService {
    /// Who asks and what, once it is sure that the caller's role reaches there.
    ///
    /// # Errors
    /// [`Reason::RoleTooLow`], [`Reason::NotFound`], [`Reason::HostUnknown`], [`Reason::InvalidArgument`].
    pub(super) async fn admit<T: Names>(&self, request: Request<T>) -> Result<(Caller, T), ControllerError> {
        let caller = Caller::of(&request)?;
        // Only what has passed the table has one.
        let unasked = || ControllerError::Unasked { method: std::any::type_name::<T>().to_owned() };
        let question = request.extensions().get::<Question>().cloned().ok_or_else(unasked)?;
        let message = request.into_inner();
        reaches(&self.0, &caller, &question, &message).await?;
        question.asked();
        Ok((caller, message))
    }
}

async fn reaches<T: Names>(
    context: &Context,
    caller: &Caller,
    question: &Question,
    message: &T,
) -> Result<(), ControllerError> {
    let rights = caller.rights();
    let needed = question.needed;
    if rights.have(needed, &Scope::Everything) {
        return Ok(());
    }
    let name = caller.certificate.identity.name();
    let who = (name, &rights);
    let about = message.about()?;
    match &about {
        About::Nothing if matches!(question.reach, Reach::Anywhere | Reach::Named) => Ok(()),
        About::List { application, environment } if question.reach == Reach::Narrowed => {
            match listed(application, environment)? {
                Some(scope) if !rights.have_some(needed, &scope) => {
                    Err(role_too_low(who, "this", needed, Some(&scope)))
                }
                _ => Ok(()),
            }
        }
        // A method of another kind than the table has it is one that nobody has thought about.
        _ if question.reach != Reach::Named => {
            Err(ControllerError::Unasked { method: std::any::type_name::<T>().to_owned() })
        }
        About::Nothing | About::Everything | About::List { .. } => {
            Err(role_too_low(who, "this", needed, Some(&Scope::Everything)))
        }
        About::Application(application) => {
            let scope = Scope::Application(application.clone());
            if rights.have_some(needed, &scope) {
                return Ok(());
            }
            Err(role_too_low(who, "this", needed, Some(&scope)))
        }
        About::Place { place, looks_at } => {
            caller.must_be(needed, place, "this")?;
            let asks =
                |other: &Place| caller.must_be(Role::Viewer, other, "asking whether it is proven there");
            looks_at.iter().try_for_each(asks)
        }
        About::Rollout(rollout) => {
            let place = place_of_rollout(context, rollout).await?;
            seen(&rights, place, || no_rollout(who, rollout))
                .and_then(|at| caller.must_be(needed, &at, "this"))
        }
        About::Hosts { hosts, rollout } => {
            for host in hosts {
                let (place, _) = place_of_host(context, host, None).await?;
                let place = seen(&rights, place, || no_host(who, host))?;
                caller.must_be(needed, &place, &format!("for {host} this"))?;
            }
            let Some(rollout) = rollout else { return Ok(()) };
            let place = place_of_rollout(context, rollout).await?;
            seen(&rights, place, || no_rollout(who, rollout))
                .and_then(|at| caller.must_be(needed, &at, "this"))
        }
        About::Leaving { host, request } => {
            let (place, answered) = place_of_host(context, host, Some(request.clone())).await?;
            if place.is_none() && answered {
                // The same again: it is answered as before, or refused as another request.
                return Ok(());
            }
            seen(&rights, place, || no_host(who, host)).and_then(|at| caller.must_be(needed, &at, "this"))
        }
    }
}

/// What a list is asked of; `None` for all, or for an environment of whatever application.
fn listed(application: &str, environment: &str) -> Result<Option<Scope>, ControllerError> {
    Ok(match (application, environment) {
        ("", _) => None,
        (application, "") => Some(Scope::Application(convert::application(application)?)),
        (application, environment) => Some(scope_of(&convert::place(application, environment)?)),
    })
}

/// The place, if it may be looked at.
fn seen(
    rights: &Rights,
    place: Option<Place>,
    unknown: impl FnOnce() -> ControllerError,
) -> Result<Place, ControllerError> {
    place.filter(|place| rights.see(&place.application, &place.environment)).ok_or_else(unknown)
}

async fn place_of_rollout(context: &Context, rollout: &RolloutId) -> Result<Option<Place>, ControllerError> {
    let asked = rollout.clone();
    let look =
        context.reactor.read(move |view| view.state.rollout(&asked).map(|rollout| rollout.place.clone()));
    look.await
}

/// Where a host is enrolled, and whether this request was answered before, at the same moment.
async fn place_of_host(
    context: &Context,
    host: &HostId,
    request: Option<RequestId>,
) -> Result<(Option<Place>, bool), ControllerError> {
    let asked = host.clone();
    let look = context.reactor.read(move |view| {
        let place = view.state.host(&asked).map(|host| host.record.place.clone());
        (place, request.is_some_and(|request| view.state.has_answered(&request)))
    });
    look.await
}

/// What is said of what is not there, or not for this caller.
pub(super) fn looks_only((name, rights): (&str, &Rights)) -> String {
    format!("; {name} looks at {} only", rights.places())
}

fn no_rollout(who: (&str, &Rights), rollout: &RolloutId) -> ControllerError {
    let refusal = Refusal::NoSuchRollout { rollout: rollout.clone() };
    ControllerError::refused(Reason::NotFound, format!("{refusal}{}", looks_only(who)))
}

fn no_host(who: (&str, &Rights), host: &HostId) -> ControllerError {
    let refusal = Refusal::NoSuchHost { host: host.clone() };
    ControllerError::refused(Reason::HostUnknown, format!("{refusal}{}", looks_only(who)))
}

fn host_id(name: &str) -> Result<HostId, ControllerError> {
    HostId::new(name).map_err(|error| ControllerError::invalid(error.to_string()))
}

fn place(application: &str, environment: &str) -> Result<About, ControllerError> {
    Ok(About::Place { place: convert::place(application, environment)?, looks_at: Vec::new() })
}

/// A place where something is to be proven, and where it is to be proven first.
fn proven(application: &str, environment: &str, proven_in: &[String]) -> Result<About, ControllerError> {
    let looks_at = proven_in.iter().map(|environment| convert::place(application, environment));
    let looks_at = looks_at.collect::<Result<_, _>>()?;
    Ok(About::Place { place: convert::place(application, environment)?, looks_at })
}

fn rollout(id: &str) -> Result<About, ControllerError> {
    Ok(About::Rollout(convert::rollout_id(id)?))
}

fn hosts(names: &[String], rollout: &str) -> Result<About, ControllerError> {
    // Each is looked up before it is known whether anything may be done there.
    if names.is_empty() || names.len() > HOSTS_AT_MOST {
        return Err(ControllerError::invalid(format!("name one to {HOSTS_AT_MOST} hosts")));
    }
    let hosts = names.iter().map(|name| host_id(name)).collect::<Result<Vec<_>, _>>()?;
    let rollout = if rollout.is_empty() { None } else { Some(convert::rollout_id(rollout)?) };
    Ok(About::Hosts { hosts, rollout })
}

/// `Request => |request| what it is about`.
macro_rules! names {
    ($($request:ty => |$it:ident| $about:expr;)*) => {
        $(impl Names for $request {
            fn about(&self) -> Result<About, ControllerError> {
                let $it = self;
                $about
            }
        })*
    };
}

/// All that the controller has, as far as the caller may look at it.
fn all() -> Result<About, ControllerError> {
    list("", "")
}

fn list(application: &str, environment: &str) -> Result<About, ControllerError> {
    Ok(About::List { application: application.to_owned(), environment: environment.to_owned() })
}

names! {
    pb::AnswerGateRequest => |it| rollout(&it.rollout);
    pb::ApproveRolloutRequest => |it| rollout(&it.rollout);
    pb::ControlRolloutRequest => |it| rollout(&it.rollout);
    pb::CordonHostsRequest => |it| hosts(&it.hosts, "");
    pb::DrainHostsRequest => |it| hosts(&it.hosts, "");
    pb::UndrainHostsRequest => |it| hosts(&it.hosts, "");
    pb::ExcludeHostsRequest => |it| hosts(&it.hosts, &it.rollout);
    pb::ExplainRequest => |_it| all();
    pb::GetCheckpointRequest => |_it| Ok(About::Nothing);
    pb::GetInfoRequest => |_it| all();
    pb::GetReleaseRequest => |it| Ok(About::Application(convert::application(&it.application)?));
    pb::GetRolloutRequest => |it| rollout(&it.rollout);
    pb::GetRunbookRequest => |it| place(&it.application, &it.environment);
    pb::IncludeHostsRequest => |it| hosts(&it.hosts, "");
    pb::ListDriftRequest => |it| list(&it.application, &it.environment);
    pb::ListEnvironmentsRequest => |it| list(&it.application, &it.environment);
    pb::ListEvidenceRequest => |it| Ok(About::Application(convert::application(&it.application)?));
    pb::ListHostsRequest => |it| list(&it.application, &it.environment);
    pb::ListOperatorsRequest => |_it| Ok(About::Everything);
    pb::ListReleasesRequest => |it| list(&it.application, "");
    pb::ListRolloutsRequest => |it| list(&it.application, &it.environment);
    pb::LockEnvironmentRequest => |it| place(&it.application, &it.environment);
    pb::MissingObjectsRequest => |_it| Ok(About::Nothing);
    pb::PlanRolloutRequest => |it| proven(&it.application, &it.environment, &it.proven_in);
    pb::PublishRootRequest => |_it| Ok(About::Everything);
    Streaming<pb::PutObjectsRequest> => |_it| Ok(About::Nothing);
    pb::ReadLogRequest => |it| list(&it.application, &it.environment);
    pb::RejectRolloutRequest => |it| rollout(&it.rollout);
    pb::RemoveOperatorRequest => |_it| Ok(About::Everything);
    pb::RepairDriftRequest => |it| hosts(std::slice::from_ref(&it.host), "");
    pb::ResolveMigrationRequest => |it| rollout(&it.rollout);
    pb::RollbackRequest => |it| place(&it.application, &it.environment);
    pb::StartDrillRequest => |it| place(&it.application, &it.environment);
    pb::StartRestartRequest => |it| place(&it.application, &it.environment);
    pb::StartRolloutRequest => |it| proven(&it.application, &it.environment, &it.proven_in);
    pb::StreamOutputRequest => |it| hosts(std::slice::from_ref(&it.host), "");
    pb::LabelHostsRequest => |it| hosts(&it.hosts, "");
    pb::UncordonHostsRequest => |it| hosts(&it.hosts, "");
    pb::UnlockEnvironmentRequest => |it| place(&it.application, &it.environment);
    pb::WatchRolloutRequest => |it| rollout(&it.rollout);

    // A token for an operator is for whatever that operator is let do.
    pb::CreateTokenRequest => |it| match (&it.host, &it.operator) {
        (Some(host), None) => place(&host.application, &host.environment),
        _ => Ok(About::Everything),
    };
    // By its digest alone nobody can tell whose it is.
    pb::GetObjectRequest => |it| match &*it.application {
        "" => Ok(About::Everything),
        application => Ok(About::Application(convert::application(application)?)),
    };
    // Root, targets, snapshot and timestamp are everybody's; the roles below are each an application's.
    pb::GetRepositoryFileRequest => |it| match application_of(&it.name) {
        None => Ok(About::Nothing),
        Some(name) => Ok(About::Application(AppName::new(name).map_err(|_| no_file(&it.name))?)),
    };
    pb::PublishReleaseRequest => |it| {
        let manifest = Manifest::from_bytes(&it.manifest);
        let bad = |error: landfall_common::manifest::ManifestError| {
            ControllerError::refused(Reason::BadManifest, error.in_full())
        };
        Ok(About::Application(manifest.map_err(bad)?.application))
    };
    // It is about a commit: whoever may say something in any environment of its application hands it in.
    pb::SubmitEvidenceRequest => |it| {
        Ok(About::Application(evidence::read(&it.document)?.statement.application))
    };
    pb::RemoveHostRequest => |it| Ok(About::Leaving {
        host: host_id(&it.host)?,
        request: convert::request_id(&it.request_id)?,
    });
}
