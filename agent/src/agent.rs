//! The agent as a whole: everything put together and kept running.

use std::path::Path;
use std::sync::Arc;

use landfall_common::disk::{Disk, RealDisk};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::{self, Config};
use crate::drift::outside::applied::Record;
use crate::drift::outside::units::{UNIT_DIRECTORIES, Units};
use crate::engine::Disks;
use crate::error::AgentError;
use crate::executor::Executor;
use crate::executor::beside::Beside;
use crate::figures::Meter;
use crate::identity::{Credentials, Enrolled};
use crate::life::{Life, notify};
use crate::outputs::Outputs;
use crate::program::{self, Released};
use crate::session::Session;
use crate::tls::Dialler;
use crate::{drift, facts, renewal, runtime};

/// Who this host is and where its things are.
///
/// # Errors
/// [`AgentError::NotEnrolled`], [`AgentError::Identity`], [`AgentError::Disk`].
pub fn enrolled(config: &Config) -> Result<(Enrolled, Disks), AgentError> {
    let state: Arc<dyn Disk> = Arc::new(RealDisk::new(&config.state_dir));
    let enrolled = Enrolled::load(&*state)?
        .ok_or_else(|| AgentError::NotEnrolled { path: config.state_dir.join("identity/identity.json") })?;
    let app = Arc::new(RealDisk::new(config.app_dir(&enrolled.identity.application)));
    Ok((enrolled, Disks { state, app }))
}

/// Runs until `stop` is cancelled. Services are left running.
///
/// # Errors
/// What keeps it from starting: [`AgentError::NotEnrolled`], [`AgentError::LedgerLost`],
/// [`AgentError::Locked`], [`AgentError::Config`].
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), AgentError> {
    let (enrolled, disks) = enrolled(&config)?;
    for directory in [config.app_dir(&enrolled.identity.application), config.state_dir.join("home")] {
        make(&directory)?;
    }
    let credentials = Credentials::load(&*disks.state)?;
    let controller = config.controller.clone().unwrap_or_else(|| enrolled.controller.clone());
    let dialler = Dialler::tcp(controller);
    let (engine, outlet, thread) = runtime::start(disks.clone())?;
    let (link_sender, link) = watch::channel(None);
    let executor =
        Executor::new(&config, &enrolled.identity, disks.app.clone(), engine.clone(), link, stop.clone())?;
    let (latencies, usages, exposed) =
        (executor.latencies.clone(), executor.usages.clone(), executor.exposed.clone());
    let executing = tokio::spawn(executor.clone().run(outlet.tasks));
    let (credentials_sender, credentials) = watch::channel(credentials);
    let renewing = tokio::spawn({
        let (state, enrolled, dialler) = (disks.state.clone(), enrolled.clone(), dialler.clone());
        async move {
            let mut random = StdRng::from_os_rng();
            renewal::run(state, enrolled, dialler, credentials_sender, &mut random).await;
        }
    });
    let (drift_sender, drift) = watch::channel(None);
    let drifting = drift::start(drift::Parts {
        settings: config
            .drift
            .settings()
            .map_err(|reason| AgentError::Config { path: config::DEFAULT_PATH.into(), reason })?,
        root: config.app_dir(&enrolled.identity.application),
        reports: outlet.reports.clone(),
        engine: engine.clone(),
        outside: Arc::new(Beside {
            executor: executor.clone(),
            runtime: tokio::runtime::Handle::current(),
            units: Units { directories: UNIT_DIRECTORIES.map(Into::into).to_vec() },
            record: Record { state: disks.state.clone() },
        }),
        restore: {
            let runtime = tokio::runtime::Handle::current();
            Arc::new(move |files, directories| runtime.block_on(executor.restore(files, directories)))
        },
        out: drift_sender,
    })?;
    let outputs = Outputs::new(&config, enrolled.identity.application.clone());
    let session = Session {
        meter: Meter::new(&config.app_dir(&enrolled.identity.application)),
        enrolled,
        state: disks.state.clone(),
        dialler,
        credentials,
        reports: outlet.reports,
        engine: engine.clone(),
        link: link_sender,
        latencies,
        usages,
        exposed,
        facts: {
            let apps = config.apps_dir.clone();
            Arc::new(move || facts::read(&apps))
        },
        drift,
        drifting: drifting.clone(),
        outputs,
        stop: stop.clone(),
    };
    Life::own(false).tell();
    notify(&[sd_notify::NotifyState::Ready]);
    let watchdog = tokio::spawn(watchdog());
    let wellness = config.program.clone().map(|program| {
        let released = Released { program, run_dir: config.run_dir.clone() };
        tokio::spawn(async move {
            tokio::time::sleep(program::WELL_AFTER).await;
            released.is_well();
        })
    });
    session.run(&mut StdRng::from_os_rng()).await;
    notify(&[sd_notify::NotifyState::Stopping]);
    drifting.stop();
    for task in [executing, renewing, watchdog].into_iter().chain(wellness) {
        task.abort();
    }
    engine.stop();
    // Its last transition is durable before this process ends.
    if let Err(error) = tokio::task::spawn_blocking(move || thread.join()).await {
        tracing::error!(%error, "the engine did not end");
    }
    Ok(())
}

fn make(directory: &Path) -> Result<(), AgentError> {
    std::fs::create_dir_all(directory).map_err(|source| {
        AgentError::Disk(landfall_common::disk::DiskError::new("create the directory", directory, source))
    })
}

/// Says to systemd that the event loop goes round.
async fn watchdog() {
    let Some(period) = sd_notify::watchdog_enabled() else { return };
    let mut ticks = tokio::time::interval(period / 2);
    loop {
        ticks.tick().await;
        notify(&[sd_notify::NotifyState::Watchdog]);
    }
}

/// The name of this host, as its kernel knows it.
#[must_use]
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
