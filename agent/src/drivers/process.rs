//! The driver for services that a holder keeps.

use std::time::Duration;

use landfall_common::manifest::{Driver, Service};
use landfall_common::report::Failure;
use landfall_common::{ServiceName, Sha256};
use tokio::time::Instant;

use super::{DriverHost, DriverState, step_name};
use crate::holder::spec::{EndNote, Life};
use crate::holder::{ChildKey, ChildSpec, Client, ClientError, HolderSpec, Reply, Request, Status};
use crate::steps::StepContext;

/// How often a holder is asked how a handover goes.
const POLL: Duration = Duration::from_millis(25);

/// A holder listens within milliseconds; on a host that swaps it may take seconds.
const LAUNCH_TIMEOUT: Duration = Duration::from_secs(10);

/// A holder that gives no proper answer for this long is stuck.
const BROKEN_TIMEOUT: Duration = Duration::from_secs(15);

/// Beyond the process's own stop timeout: its group is killed then and has to go.
const STOP_SLACK: Duration = Duration::from_secs(20);

pub(super) async fn activate(
    host: &DriverHost,
    service: &Service,
    context: &StepContext,
    release: Sha256,
    attempt: &str,
) -> Result<(), Failure> {
    let fail = |reason: String| Failure::new(step_name(&service.name), reason);
    let child = child(service, context, release).map_err(fail)?;
    let key = child.key();
    let spec = host.places.spec(&context.identity.application, &service.name);
    let client = Client::new(&spec.control());
    let request = Request::Handover { child: Box::new(child), key, attempt: attempt.to_owned() };
    let handover = async {
        let mut launches = 0;
        let mut broken_since: Option<Instant> = None;
        loop {
            let answer = client.ask(&request).await;
            if !matches!(answer, Err(ClientError::Broken { .. })) {
                broken_since = None;
            }
            match answer {
                Ok(Reply::Status(status)) => match judge(&status, key, attempt) {
                    Verdict::Serving => return Ok(()),
                    Verdict::Failed(note) => return Err(failure(service, note)),
                    Verdict::UnderWay => {}
                },
                // Somebody's earlier handover: it ends by itself, one way or the other.
                Ok(Reply::Busy { .. }) => {}
                Ok(Reply::Refused { reason }) => return Err(fail(reason)),
                // A holder that dies again and again is not a wait but a failure.
                Err(ClientError::Gone { .. }) if launches < 3 => {
                    launches += 1;
                    launch(host, &spec, &client).await.map_err(fail)?;
                    continue;
                }
                // It may just be dying: the next question tells.
                Err(ClientError::Broken { .. })
                    if broken_since.get_or_insert_with(Instant::now).elapsed() < BROKEN_TIMEOUT => {}
                Err(error) => return Err(fail(error.to_string())),
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::select! {
        ended = handover => ended,
        () = context.cancel.cancelled() => Err(fail("cancelled; the holder ends the handover by itself".into())),
    }
}

/// What a status says about one attempt to hand over.
enum Verdict {
    Serving,
    Failed(EndNote),
    UnderWay,
}

fn judge(status: &Status, key: ChildKey, attempt: &str) -> Verdict {
    let end = status.end_of(key, attempt);
    if let Some(note) = end.and_then(|end| end.failure.as_ref()) {
        return Verdict::Failed(note.clone());
    }
    let Some(serving) = &status.serving else { return Verdict::UnderWay };
    match &serving.life {
        _ if serving.key != key && end.is_some() => Verdict::Failed(EndNote::of(format!(
            "it was ready, and then {} took its place",
            serving.release_name
        ))),
        _ if serving.key != key => Verdict::UnderWay,
        // The old process may still answer until it has gone; only then is the release alone.
        Life::Running { .. } if status.ending.is_empty() => Verdict::Serving,
        // It had become ready, and then ended by itself.
        Life::Waiting { .. } if end.is_some() => Verdict::Failed(
            serving.last_end.clone().unwrap_or_else(|| EndNote::of("it was ready and then ended by itself")),
        ),
        _ => Verdict::UnderWay,
    }
}

fn failure(service: &Service, note: EndNote) -> Failure {
    Failure {
        step: step_name(&service.name),
        reason: format!("service {}: {}", service.name, note.reason),
        exit_code: note.exit_code,
        tail: note.tail,
    }
}

/// What the holder is to run: the driver's description with all words replaced.
fn child(service: &Service, context: &StepContext, release: Sha256) -> Result<ChildSpec, String> {
    let Driver::Process { command, environment, listen, ready, stop_timeout } = &service.driver else {
        return Err(format!("service {} has no process of its own", service.name));
    };
    let words = &context.words;
    let expand = || {
        Ok::<_, crate::steps::UnknownWord>(ChildSpec {
            release,
            release_name: context.identity.release.clone(),
            argv: words.command(command)?,
            environment: words.environment(&context.identity, &context.home, environment)?,
            directory: context.directory.clone(),
            listen: listen.as_deref().map(|address| words.expand(address)).transpose()?,
            ready: ready.clone(),
            stop_timeout: *stop_timeout,
        })
    };
    expand().map_err(|error| error.to_string())
}

/// Starts a holder and waits until it answers.
async fn launch(host: &DriverHost, spec: &HolderSpec, client: &Client) -> Result<(), String> {
    host.launcher.launch(&host.places, spec).await?;
    let until = Instant::now() + LAUNCH_TIMEOUT;
    loop {
        match client.ask(&Request::Status).await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() >= until => {
                let said = host.launcher.said(&host.places, spec);
                return Err(format!("a holder was started but {error}; {said}"));
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

pub(super) async fn deactivate(
    host: &DriverHost,
    service: &ServiceName,
    context: &StepContext,
) -> Result<(), Failure> {
    let fail = |reason: String| Failure::new(step_name(service), reason);
    let spec = host.places.spec(&context.identity.application, service);
    let client = Client::new(&spec.control());
    if let DriverState::HolderGone { orphan: Some(_) } = status(host, service, context).await {
        // Only a holder can end what a holder started: the next one takes it over first.
        launch(host, &spec, &client).await.map_err(fail)?;
    }
    let mut until: Option<Instant> = None;
    loop {
        match client.ask(&Request::Stop).await {
            Err(ClientError::Gone { .. }) => break,
            Ok(Reply::Status(status)) => {
                let slack = STOP_SLACK + status.longest_end();
                let until = *until.get_or_insert_with(|| Instant::now() + slack);
                if Instant::now() >= until {
                    return Err(fail(format!("service {service} did not end within {} s", slack.as_secs())));
                }
            }
            Ok(Reply::Busy { .. }) => {}
            Ok(Reply::Refused { reason }) => return Err(fail(reason)),
            // It closed the connection because it has just ended.
            Err(ClientError::Broken { .. }) if until.is_some() => {}
            Err(error) => return Err(fail(error.to_string())),
        }
        tokio::time::sleep(POLL).await;
    }
    // A holder that was ended by a signal has kept its record, to come back with its service.
    for file in [host.places.spec_file(&spec), spec.record()] {
        let _ = std::fs::remove_file(file);
    }
    Ok(())
}

pub(super) async fn status(host: &DriverHost, service: &ServiceName, context: &StepContext) -> DriverState {
    let spec = host.places.spec(&context.identity.application, service);
    match Client::new(&spec.control()).ask(&Request::Status).await {
        Ok(Reply::Status(status)) => state(&status),
        Ok(Reply::Busy { .. }) => DriverState::Starting,
        Ok(Reply::Refused { reason }) => DriverState::Unknown { reason },
        Err(ClientError::Gone { .. }) => match crate::holder::client::orphan(&spec) {
            None => DriverState::Stopped,
            Some(orphan) => DriverState::HolderGone { orphan },
        },
        Err(error) => DriverState::Unknown { reason: error.to_string() },
    }
}

fn state(status: &Status) -> DriverState {
    let Some(serving) = &status.serving else {
        return match &status.starting {
            Some(_) => DriverState::Starting,
            None => DriverState::Stopped,
        };
    };
    match &serving.life {
        Life::Running { .. } => {
            DriverState::Running { release: Some(serving.key.release), restarts: serving.restarts }
        }
        Life::Starting { .. } => DriverState::Starting,
        Life::Waiting { .. } => {
            let note = serving.last_end.as_ref();
            let reason = note.map_or_else(|| "it ended".to_owned(), |note| note.reason.clone());
            let said = note.and_then(|note| note.tail.last()).map(|line| format!(": {line}"));
            DriverState::Failing { reason: format!("{reason}{}", said.unwrap_or_default()) }
        }
    }
}
