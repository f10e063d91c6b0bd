//! Drivers: what starting, restarting and stopping a service means.
//!
//! Each kind is a file of its own with one type that implements [`Driver`], and [`of`] is the one place that
//! knows them all: [`process`] (a [holder](crate::holder) owns socket and process), [`exec`] (the application's
//! own commands), [`systemd`] and [`supervisor`] (what the host's administrator has installed there), [`docker`]
//! (containers). A service may change from one to another between releases ([`held`]). What every driver must do is
//! held by one suite, `tests/drivers`, which runs each against the real thing. Which service is activated when, and what happens on failure, is decided
//! elsewhere.

pub mod docker;
mod evidence;
pub mod exec;
mod held;
mod note;
pub mod process;
pub(crate) mod seat;
pub mod supervisor;
pub mod systemd;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use landfall_agent_core::drift::Finding;
use landfall_agent_core::drift::beside::Things;
use landfall_common::manifest::{self, Service};
use landfall_common::report::Failure;
use landfall_common::{ServiceName, Sha256, StepName};

use crate::holder::{Launcher, Places};
use crate::steps::{Output, StepContext};
use crate::usage::Roots;
use held::Held;
use note::{Incarnations, Notes};

/// What the drivers of a host share.
#[derive(Debug, Clone)]
pub struct DriverHost {
    /// How holders are started.
    pub launcher: Launcher,
    /// Where their files are.
    pub places: Places,
    /// Where drivers keep what they must remember, `/var/lib/landfall/drivers`.
    pub state: PathBuf,
    /// Docker, and what its containers may have of this host.
    pub docker: docker::Settings,
    bus: systemd::Bus,
    seen: Arc<Mutex<BTreeMap<PathBuf, Restarts>>>,
}

/// What was seen of something beside the files of its release.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// In what it differs.
    pub findings: Vec<Finding>,
    /// What is to be on record of it as applied, if nothing is.
    pub applied: Things,
}

/// What was seen of a service that is started again by itself, without being counted by who does it.
#[derive(Debug, Default)]
struct Restarts {
    last: Incarnations,
    restarts: u32,
}

impl DriverHost {
    /// The drivers of a host that keep their files here.
    #[must_use]
    pub fn new(launcher: Launcher, places: Places, state: PathBuf) -> Self {
        Self {
            launcher,
            places,
            state,
            docker: docker::Settings::default(),
            bus: systemd::Bus::default(),
            seen: Arc::default(),
        }
    }

    /// How systemd is asked.
    pub(crate) fn bus(&self) -> systemd::Bus {
        self.bus.clone()
    }

    fn notes(&self, context: &StepContext, service: &ServiceName) -> Notes {
        let name = format!("{}.{service}.attempt.json", context.identity.application);
        Notes { path: self.state.join(name) }
    }

    /// How often a service was seen to run again since it was activated: a lower bound.
    fn restarts(
        &self,
        context: &StepContext,
        service: &ServiceName,
        activated: Option<&Incarnations>,
        now: &Incarnations,
    ) -> u32 {
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = all.entry(self.notes(context, service).path).or_default();
        if activated.is_none_or(|activated| activated == now) {
            seen.restarts = 0;
        } else if seen.last != *now {
            seen.restarts += 1;
        }
        seen.last.clone_from(now);
        seen.restarts
    }
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
        /// By what its use of the host can be read, and that restarts are counted; none where the driver sees neither.
        roots: Option<Roots>,
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

    /// Replaces what runs of the release by a new process of the same release, and returns once that runs. `attempt`
    /// as in [`Self::activate`]: asked again with the same one after a restart of the agent, what was done is not
    /// done again, as far as the driver can know.
    ///
    /// # Errors
    /// As [`Self::activate`].
    async fn restart(&self, release: Sha256, attempt: &str) -> Result<(), Failure>;

    /// Has what runs reload itself, in the way of its definition. Doing it twice does no harm.
    ///
    /// # Errors
    /// [`Failure`]; always where the definition has no reload.
    async fn reload(&self, _release: Sha256, _attempt: &str) -> Result<(), Failure> {
        Err(Failure::new(StepName::new("reload").expect("a word"), "the service's definition has no reload"))
    }

    /// Ends a service that leaves the host. One that does not run is no error.
    ///
    /// # Errors
    /// [`Failure`].
    async fn deactivate(&self) -> Result<(), Failure>;

    /// How the service is.
    async fn status(&self) -> DriverState;

    /// In what the service differs from what was signed, or from what was applied of what the host's administrator
    /// keeps: `applied` is what [`Seen::applied`] was when `release` became active. Asks, and changes nothing.
    ///
    /// # Errors
    /// Why it cannot be seen, as a sentence.
    async fn differs(&self, _release: Sha256, _applied: Option<&Things>) -> Result<Seen, String> {
        Ok(Seen::default())
    }

    /// Sets what can be set of the service while it runs to what is signed.
    ///
    /// # Errors
    /// [`Failure`].
    async fn set_limits(&self, _release: Sha256) -> Result<(), Failure> {
        Ok(())
    }

    /// Brings to this host, before anything of it runs, what a release needs beside its files. Doing it again
    /// changes nothing.
    ///
    /// # Errors
    /// [`Failure`].
    async fn stage(&self) -> Result<(), Failure> {
        Ok(())
    }
}

/// The driver of a service, as its release defines it.
#[must_use]
pub fn of<'a>(host: &'a DriverHost, service: &'a Service, context: &'a StepContext) -> Box<dyn Driver + 'a> {
    let name = &service.name;
    match &service.driver {
        manifest::Driver::Process { command, environment, listen, ready, stop_timeout, hold } => {
            let listen = listen.as_deref();
            let program = process::Program {
                command,
                environment,
                listen,
                ready,
                stop_timeout: *stop_timeout,
                hold: *hold,
            };
            Box::new(process::Process { host, name, context, program })
        }
        manifest::Driver::Exec { restart, stop, status } => {
            Box::new(exec::Exec { context, restart, stop: stop.as_ref(), status: status.as_ref() })
        }
        manifest::Driver::Systemd { unit, socket, settle, timeout, slot } => {
            let (socket, settle, timeout, seat) = (socket.as_deref(), *settle, *timeout, slot.as_ref());
            Box::new(systemd::Systemd { host, name, context, unit, socket, settle, timeout, seat })
        }
        manifest::Driver::Supervisor { target, server, signal, settle, timeout, slot } => {
            let (signal, settle, timeout, seat) = (*signal, *settle, *timeout, slot.as_ref());
            Box::new(supervisor::Supervisor {
                host,
                name,
                context,
                target,
                server,
                signal,
                settle,
                timeout,
                seat,
            })
        }
        manifest::Driver::Docker(container) => Box::new(docker::Docker { host, name, context, container }),
    }
}

/// [`Driver::activate`] of a service's own driver, after what held the service by another one was ended.
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
    leave(host, service, context).await?;
    if let Err(reason) = Held::new(service, context).write(host) {
        // A disk that is full must not keep a service from going back: what is known of the same place is
        // enough to end it there.
        let known = Held::read(host, &context.identity.application, &service.name);
        if !known.is_some_and(|known| held::is_same_place(&known.service, service)) {
            return Err(fail(&service.name, reason));
        }
        tracing::warn!(service = %service.name, reason, "what holds the service is not written down anew");
    }
    of(host, service, context).activate(release, attempt).await
}

/// [`Driver::deactivate`] of a service's own driver, and of the one that holds it, if that is another.
///
/// # Errors
/// [`Failure`].
pub async fn deactivate(host: &DriverHost, service: &Service, context: &StepContext) -> Result<(), Failure> {
    leave(host, service, context).await?;
    let application = &context.identity.application;
    if let Some(other) = Held::other(host, application, service) {
        tracing::info!(service = %service.name, %other, "the service goes on under another name");
    } else {
        of(host, service, context).deactivate().await?;
    }
    Held::remove(host, application, &service.name);
    Ok(())
}

/// Ends what holds a service otherwise than this definition of it does.
async fn leave(host: &DriverHost, service: &Service, context: &StepContext) -> Result<(), Failure> {
    let Some(held) = Held::read(host, &context.identity.application, &service.name) else { return Ok(()) };
    if held::is_same_place(&held.service, service) {
        return Ok(());
    }
    tracing::info!(service = %service.name, "the service moves to another driver, unit or program");
    of(host, &held.service, &held.context(context)).deactivate().await
}

/// [`Driver::status`] of a service's own driver.
pub async fn status(host: &DriverHost, service: &Service, context: &StepContext) -> DriverState {
    of(host, service, context).status().await
}

/// A failure of a service that no process stands behind.
fn fail(service: &ServiceName, reason: impl Into<String>) -> Failure {
    Failure::new(step_name(service), reason)
}

/// The last lines of a text, as they may be printed.
fn last_lines(text: &str) -> Vec<String> {
    Output { first: text.to_owned(), ..Output::default() }.last_lines()
}

/// The name under which a failure of a service is reported.
fn step_name(service: &ServiceName) -> StepName {
    StepName::new(service.as_str()).expect("what is a service's name is a step's name too")
}
