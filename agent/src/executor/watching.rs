//! Asking the checks of the active release, each at its own interval, and its services besides.

use std::sync::Arc;

use landfall_agent_core::Event;
use landfall_agent_core::outline::{SERVICE_INTERVAL, service_check};
use landfall_common::ReleaseName;
use landfall_common::manifest::{Check, Service};
use tokio_util::sync::CancellationToken;

use super::Executor;
use crate::drivers::{self, DriverState};
use crate::probes;

/// Begins asking; the first answers come at once. Ends when `ended` is cancelled.
pub(super) fn begin(
    executor: Arc<Executor>,
    watch: u64,
    release: &ReleaseName,
    checks: Vec<Check>,
    ended: &CancellationToken,
) {
    for check in checks {
        let (executor, ended) = (executor.clone(), ended.clone());
        let context = executor.context(release, None, ended.clone());
        tokio::spawn(async move {
            let asking = async {
                loop {
                    let begun = tokio::time::Instant::now();
                    let answer = probes::probe(&check, &context).await;
                    executor.latencies.add(&check.name, begun.elapsed(), answer.is_err());
                    executor.engine.send(Event::Checked { watch, check: check.name.clone(), answer });
                    // A probe that took longer than the interval is followed by the next one at once.
                    tokio::time::sleep_until(begun + check.interval).await;
                }
            };
            ended.run_until_cancelled(asking).await;
        });
    }
}

/// Looks at the services as their drivers see them. One whose holder has died is given another.
pub(super) fn begin_services(
    executor: &Arc<Executor>,
    watch: u64,
    release: &ReleaseName,
    services: Vec<Service>,
    digest: landfall_common::Sha256,
    ended: &CancellationToken,
) {
    for service in services {
        let Some(check) = service_check(&service) else { continue };
        let (executor, ended, release) = (executor.clone(), ended.clone(), release.clone());
        tokio::spawn(async move {
            let context = executor.context(&release, None, ended.clone());
            let asking = async {
                loop {
                    let begun = tokio::time::Instant::now();
                    let state = drivers::status(&executor.host, &service, &context).await;
                    let answer = match &state {
                        DriverState::Running { .. } => Ok(()),
                        DriverState::Starting => Err("it is being started".to_owned()),
                        DriverState::Failing { reason } | DriverState::Unknown { reason } => {
                            Err(reason.clone())
                        }
                        DriverState::Stopped => Err("it does not run".to_owned()),
                        DriverState::HolderGone { orphan: Some(pid) } => {
                            Err(format!("its holder has died; process {pid} goes on serving"))
                        }
                        DriverState::HolderGone { orphan: None } => {
                            Err("its holder has died, and it too".to_owned())
                        }
                    };
                    executor.engine.send(Event::Checked { watch, check: check.clone(), answer });
                    if matches!(state, DriverState::HolderGone { .. }) {
                        tracing::error!(service = %service.name, ?state, "the holder of a service has died");
                        executor.ensure(vec![service.clone()], &release, digest).await;
                    }
                    tokio::time::sleep_until(begun + SERVICE_INTERVAL).await;
                }
            };
            ended.run_until_cancelled(asking).await;
        });
    }
}
