//! What is done to services and proxies: one after the other, in the order in which the engine asked for it.

use std::sync::Arc;

use landfall_agent_core::{Effect, Event, Finish};
use landfall_common::assignment::RestartKind;
use landfall_common::report::Failure;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Executor;
use crate::drivers::{self, DriverState};
use crate::engine::Task;
use crate::traffic::{self, connections};

/// Takes acts until the executor is gone.
///
/// A slot that nobody waits for is drained only until something else is wanted: it may be an urgent way back.
pub(super) async fn run(executor: Arc<Executor>, mut acts: mpsc::UnboundedReceiver<Task>) {
    let mut next = None;
    loop {
        let task = match next.take() {
            Some(task) => task,
            None => match acts.recv().await {
                Some(task) => task,
                None => return,
            },
        };
        if let Task::Retire { address, drain, release, effect: effect @ Effect::Retire { .. }, .. } = &task {
            let draining = drained(&executor, address, *drain, release);
            tokio::select! {
                biased;
                () = draining => {}
                Some(other) = acts.recv() => {
                    next = Some(other);
                    let reason = "something else came before it".to_owned();
                    answer(&executor, effect.clone(), Err(Failure::new(crate::executor::own_step("retire"), reason)));
                    continue;
                }
            }
        }
        act(&executor, task).await;
    }
}

async fn act(executor: &Arc<Executor>, task: Task) {
    match task {
        Task::Service { service, release, digest, attempt, activate, unless_running, effect } => {
            let context = executor.acting(&release);
            let held = executor.services.lock().await;
            let runs = unless_running
                && match drivers::status(&executor.host, &service, &context).await {
                    DriverState::Running { release, .. } => release.is_none_or(|running| running == digest),
                    _ => false,
                };
            let result = if runs {
                Ok(())
            } else if activate {
                drivers::activate(&executor.host, &service, &context, digest, &attempt).await
            } else {
                drivers::deactivate(&executor.host, &service, &context).await
            };
            drop(held);
            answer(executor, effect, result);
        }
        Task::Restart { service, kind, release, digest, attempt, effect } => {
            let context = executor.acting(&release);
            let held = executor.services.lock().await;
            let driver = drivers::of(&executor.host, &service, &context);
            let result = match kind {
                RestartKind::Restart => driver.restart(digest, &attempt).await,
                RestartKind::Reload => driver.reload(digest, &attempt).await,
            };
            drop(held);
            answer(executor, effect, result);
        }
        Task::Ensure { services, active } => {
            let result = executor.ensure(services, &active).await;
            answer(executor, Effect::Ensure { release: active }, result);
        }
        Task::WarmUp { address, paths, headers, timeout, release, effect } => {
            let context = executor.acting(&release);
            let result = traffic::warm_up::warm_up(&address, &paths, &headers, timeout, &context).await;
            answer(executor, effect, result);
        }
        Task::Lead { traffic, to, release, effect } => {
            let context = executor.acting(&release);
            let result = traffic::lead(&executor.config.traffic, &traffic, &to, &context).await;
            answer(executor, effect, result);
        }
        Task::Retire { service, address, drain, release, effect } => {
            if let Effect::Act { .. } = effect {
                drained(executor, &address, drain, &release).await;
            }
            let context = executor.acting(&release);
            let held = executor.services.lock().await;
            let result = drivers::deactivate(&executor.host, &service, &context).await;
            drop(held);
            if result.is_ok() {
                tracing::info!(service = %service.name, %release, "the slot is free");
            }
            answer(executor, effect, result);
        }
        Task::Fetch { .. }
        | Task::Step { .. }
        | Task::Migrate { .. }
        | Task::ResumeMigration { .. }
        | Task::Watch { .. }
        | Task::Cancel => {
            tracing::error!("a task that changes neither service nor proxy was asked for as one that does");
        }
    }
}

/// Waits until a slot has no connections left, or has had its time.
async fn drained(
    executor: &Executor,
    address: &str,
    drain: std::time::Duration,
    release: &landfall_common::ReleaseName,
) {
    let context = executor.context(release, None, CancellationToken::new());
    // An address that cannot be made out has nobody connected to it.
    let Ok(address) = context.words.expand(address) else { return };
    let cut = connections::drained(&address, drain).await;
    if cut > 0 {
        tracing::warn!(%address, %release, cut, "connections did not end within the drain and are cut");
    }
}

pub(super) fn answer(executor: &Executor, effect: Effect, result: Result<(), Failure>) {
    let event = match (effect, result) {
        (Effect::Aim { aim }, result) => {
            Event::Aimed { aim, result: result.map_err(|failure| with_last_line(&failure)) }
        }
        (Effect::Retire { slot, release }, result) => {
            if let Err(failure) = &result {
                tracing::warn!(%slot, %release, reason = failure.reason, "a slot is not free yet");
            }
            Event::Retired { slot, release, result: result.map_err(|failure| failure.reason) }
        }
        (Effect::Ensure { release }, result) => {
            Event::Ensured { release, result: result.map_err(|failure| with_last_line(&failure)) }
        }
        (effect, Ok(())) => Event::Done { effect: Box::new(effect), finish: Finish::Ok },
        (effect, Err(failure)) => {
            Event::Done { effect: Box::new(effect), finish: Finish::Failed { failure } }
        }
    };
    executor.engine.send(event);
}

/// What a person sees of a failure that no step stands behind.
pub(super) fn with_last_line(failure: &Failure) -> String {
    match failure.tail.last() {
        Some(line) => format!("{}: {line}", failure.reason),
        None => failure.reason.clone(),
    }
}
