//! Asking the checks of the active release, each at its own interval, and its services besides.

use std::sync::Arc;

use landfall_agent_core::Event;
use landfall_agent_core::outline::{SERVICE_INTERVAL, service_check};
use landfall_common::ReleaseName;
use landfall_common::manifest::{AppMetric, Check, Service};
use tokio_util::sync::CancellationToken;

use super::Executor;
use crate::drivers::{self, DriverState};
use crate::engine::standing::Running;
use crate::{exposed, probes};

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

/// Reads what the application shows of itself.
pub(super) fn begin_metrics(
    executor: &Arc<Executor>,
    watch: u64,
    release: &ReleaseName,
    metrics: &[AppMetric],
    ended: &CancellationToken,
) {
    for url in executor.exposed.begin(watch, metrics) {
        let (executor, ended) = (executor.clone(), ended.clone());
        let context = executor.context(release, None, ended.clone());
        tokio::spawn(async move {
            let reading = exposed::read(&executor.exposed, watch, url, &context.words);
            ended.run_until_cancelled(reading).await;
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
    let seen = services.iter().filter(|service| service_check(service).is_some());
    let seen = seen.map(|service| service.name.clone()).collect();
    executor.usages.begin(&seen, std::time::Instant::now());
    for service in services {
        let Some(check) = service_check(&service) else { continue };
        let (executor, ended, release) = (executor.clone(), ended.clone(), release.clone());
        tokio::spawn(async move {
            let context = executor.context(&release, None, ended.clone());
            let asking = async {
                let mut ran = false;
                loop {
                    let begun = tokio::time::Instant::now();
                    let state = drivers::status(&executor.host, &service, &context).await;
                    ran |= matches!(state, DriverState::Running { .. });
                    match &state {
                        DriverState::Running { restarts, roots, .. } => {
                            executor.usages.runs(&service.name, roots.as_ref(), *restarts);
                        }
                        _ => executor.usages.rests(&service.name),
                    }
                    let answer = answer(&state, ran);
                    executor.engine.send(Event::Checked { watch, check: check.clone(), answer });
                    if let DriverState::HolderGone { orphan } = &state {
                        if ran || orphan.is_some() {
                            tracing::error!(service = %service.name, ?state, "the holder of a service has died");
                        } else {
                            // As after every boot of the machine.
                            tracing::info!(service = %service.name, "a service does not run yet and is started");
                        }
                        // What comes of it is what the next look tells.
                        let (service, release) = (service.clone(), release.clone());
                        let running = Running { service, release: release.clone(), digest };
                        let _ = executor.ensure_seen(vec![running], &release).await;
                    }
                    tokio::time::sleep_until(begun + SERVICE_INTERVAL).await;
                }
            };
            ended.run_until_cancelled(asking).await;
        });
    }
}

/// What a service's state means for its health; `ran` if it was seen running since the agent looks.
fn answer(state: &DriverState, ran: bool) -> Result<(), String> {
    match state {
        DriverState::Running { .. } => Ok(()),
        DriverState::Starting => Err("it is being started".to_owned()),
        DriverState::Failing { reason } | DriverState::Unknown { reason } => Err(reason.clone()),
        DriverState::Stopped => Err("it does not run".to_owned()),
        DriverState::HolderGone { orphan: Some(pid) } => {
            Err(format!("its holder has died; process {pid} goes on serving"))
        }
        DriverState::HolderGone { orphan: None } if ran => Err("its holder has died, and it too".to_owned()),
        DriverState::HolderGone { orphan: None } => {
            Err("it does not run yet, and is being started".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_has_not_run_since_the_boot_has_not_died() {
        let gone = DriverState::HolderGone { orphan: None };
        assert!(answer(&gone, false).unwrap_err().contains("not run yet"));
        assert!(answer(&gone, true).unwrap_err().contains("has died"));
        let orphan = DriverState::HolderGone { orphan: Some(7) };
        assert!(answer(&orphan, false).unwrap_err().contains("goes on serving"), "the machine did not boot");
    }
}
