//! `ctl lock` and `ctl unlock`: a claim on an environment, so that no rollout begins there.

use super::Session;
use crate::cli;
use crate::error::{Error, Exit};
use crate::output::format;
use crate::view::{Environment, Lock};

pub(super) async fn lock(session: &Session, arguments: &cli::Lock) -> Result<Exit, Error> {
    let (_, client) = session.connect().await?;
    let application = session.application(&client).await?;
    let (environment, message) = (&arguments.environment, arguments.message.clone());
    let locked = client.lock(&application, environment, message, arguments.period).await?;
    let Environment { rollout, lock, .. } = &locked;
    let until = lock.as_ref().map(describe).unwrap_or_default();
    session.output.line(format!("{application} in {environment} is {until}"));
    if let Some(rollout) = rollout {
        session
            .output
            .line(format!("rollout {rollout} is under way and goes on; ctl pause {rollout} holds it"));
    }
    session.output.json("environment", &locked);
    Ok(Exit::Succeeded)
}

pub(super) async fn unlock(session: &Session, arguments: &cli::Unlock) -> Result<Exit, Error> {
    let (_, client) = session.connect().await?;
    let application = session.application(&client).await?;
    let environment = &arguments.environment;
    let unlocked = client.unlock(&application, environment, arguments.reason.clone()).await?;
    let next = match &unlocked.queue[..] {
        [] => String::new(),
        [next, ..] => format!("; rollout {next} is next"),
    };
    session.output.line(format!("{application} in {environment} is not locked any more{next}"));
    session.output.json("environment", &unlocked);
    Ok(Exit::Succeeded)
}

/// `locked by ana until 2026-11-22 18:00: audit`.
pub(super) fn describe(lock: &Lock) -> String {
    let until = lock.until.map(format::time).unwrap_or_default();
    format!("locked by {} until {until}: {}", lock.by, lock.message)
}
