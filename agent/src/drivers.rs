//! Drivers: what starting, restarting and stopping a service means.
//!
//! [`activate`] makes a service run a release and returns once it does; doing it again changes nothing.
//! The two drivers are [`process`] (a [holder](crate::holder) owns socket and process) and [`exec`] (the
//! application's own commands). Which service is activated when, and what happens on failure, is decided
//! elsewhere.

pub mod exec;
pub mod process;

use landfall_common::manifest::{Driver, Service};
use landfall_common::report::Failure;
use landfall_common::{ServiceName, Sha256, StepName};

use crate::holder::{Launcher, Places};
use crate::steps::StepContext;

/// What the drivers of a host share.
#[derive(Debug, Clone)]
pub struct DriverHost {
    /// How holders are started.
    pub launcher: Launcher,
    /// Where their files are.
    pub places: Places,
}

/// How a service is, as its driver sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriverState {
    /// It runs.
    Running {
        /// The release, where the driver knows it.
        release: Option<Sha256>,
        /// How often it was started again after it had ended by itself.
        restarts: u32,
    },
    /// It is being started, or started again; not ready yet.
    Starting,
    /// It ended by itself, or its status command fails.
    Failing {
        /// Why, as a sentence, with the last thing it said.
        reason: String,
    },
    /// Nothing was started, or it was stopped.
    Stopped,
    /// Its holder has died. The next [`activate`] starts another, which takes over what still runs.
    HolderGone {
        /// The process that goes on serving without a holder.
        orphan: Option<u32>,
    },
    /// It cannot be known.
    Unknown {
        /// Why, as a sentence.
        reason: String,
    },
}

/// Makes a service run the release of the context, and returns once it does and the old process has ended.
///
/// `release` is the digest of that release's manifest. `attempt` names one intent, once and for all (the
/// generation with the direction, say, or the start of the agent): asking again with the same one after a
/// restart joins what is under way or tells how it ended, and never brings back what was replaced since;
/// another one tries again what has failed.
///
/// # Errors
/// [`Failure`] with exit code and last lines. What ran before then still runs (`process`), or was left to the
/// service's own command (`exec`).
pub async fn activate(
    host: &DriverHost,
    service: &Service,
    context: &StepContext,
    release: Sha256,
    attempt: &str,
) -> Result<(), Failure> {
    match &service.driver {
        Driver::Process { .. } => process::activate(host, service, context, release, attempt).await,
        Driver::Exec { restart, .. } => exec::run(restart, context).await,
    }
}

/// Ends a service that leaves the host. One that does not run is no error.
///
/// # Errors
/// [`Failure`].
pub async fn deactivate(host: &DriverHost, service: &Service, context: &StepContext) -> Result<(), Failure> {
    match &service.driver {
        Driver::Process { .. } => process::deactivate(host, &service.name, context).await,
        Driver::Exec { stop: Some(stop), .. } => exec::run(stop, context).await,
        Driver::Exec { stop: None, .. } => Ok(()),
    }
}

/// How a service is.
pub async fn status(host: &DriverHost, service: &Service, context: &StepContext) -> DriverState {
    match &service.driver {
        Driver::Process { .. } => process::status(host, &service.name, context).await,
        Driver::Exec { status, .. } => exec::status(status.as_ref(), context).await,
    }
}

/// The name under which a failure of a service is reported.
fn step_name(service: &ServiceName) -> StepName {
    StepName::new(service.as_str()).expect("what is a service's name is a step's name too")
}
