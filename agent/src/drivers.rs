//! Drivers: what starting, restarting and stopping a service means.
//!
//! Each kind is a file of its own with one type that implements [`Driver`], and [`of`] is the one place that
//! knows them all: [`process`] (a [holder](crate::holder) owns socket and process) and [`exec`] (the
//! application's own commands). What every driver must do is held by one suite, `tests/drivers`, which runs
//! each against the real thing. Which service is activated when, and what happens on failure, is decided
//! elsewhere.

pub mod exec;
pub mod process;

use async_trait::async_trait;
use landfall_common::manifest::{self, Service};
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
    /// Its holder has died. The next [`Driver::activate`] starts another, which takes over what still runs.
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

/// What starts, stops and knows one service, as one release defines it.
#[async_trait]
pub trait Driver: Send + Sync {
    /// Makes the service run the release, and returns once it does and the old process has ended. Doing it
    /// again changes nothing.
    ///
    /// `release` is the digest of that release's manifest. `attempt` names one intent, once and for all (the
    /// generation with the direction, say, or the start of the agent): asking again with the same one after
    /// a restart joins what is under way or tells how it ended, and never brings back what was replaced
    /// since; another one tries again what has failed.
    ///
    /// # Errors
    /// [`Failure`] with exit code and last lines. What became then of what ran before is told by each driver
    /// in its own file.
    async fn activate(&self, release: Sha256, attempt: &str) -> Result<(), Failure>;

    /// Ends a service that leaves the host. One that does not run is no error.
    ///
    /// # Errors
    /// [`Failure`].
    async fn deactivate(&self) -> Result<(), Failure>;

    /// How the service is.
    async fn status(&self) -> DriverState;
}

/// The driver of a service, as its release defines it.
#[must_use]
pub fn of<'a>(host: &'a DriverHost, service: &'a Service, context: &'a StepContext) -> Box<dyn Driver + 'a> {
    let name = &service.name;
    match &service.driver {
        manifest::Driver::Process { command, environment, listen, ready, stop_timeout } => {
            let listen = listen.as_deref();
            let program =
                process::Program { command, environment, listen, ready, stop_timeout: *stop_timeout };
            Box::new(process::Process { host, name, context, program })
        }
        manifest::Driver::Exec { restart, stop, status } => {
            Box::new(exec::Exec { context, restart, stop: stop.as_ref(), status: status.as_ref() })
        }
    }
}

/// [`Driver::activate`] of a service's own driver.
///
/// # Errors
/// [`Failure`].
pub async fn activate(
    host: &DriverHost,
    service: &Service,
    context: &StepContext,
    release: Sha256,
    attempt: &str,
) -> Result<(), Failure> {
    of(host, service, context).activate(release, attempt).await
}

/// [`Driver::deactivate`] of a service's own driver.
///
/// # Errors
/// [`Failure`].
pub async fn deactivate(host: &DriverHost, service: &Service, context: &StepContext) -> Result<(), Failure> {
    of(host, service, context).deactivate().await
}

/// [`Driver::status`] of a service's own driver.
pub async fn status(host: &DriverHost, service: &Service, context: &StepContext) -> DriverState {
    of(host, service, context).status().await
}

/// The name under which a failure of a service is reported.
fn step_name(service: &ServiceName) -> StepName {
    StepName::new(service.as_str()).expect("what is a service's name is a step's name too")
}
