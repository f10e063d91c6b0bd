//! Asking a new process for pages before anybody else does: it fills its caches, and shows that it answers.

use std::time::Duration;

use landfall_common::manifest::Headers;
use landfall_common::report::Failure;
use landfall_common::time::human;
use tokio::time::Instant;

use super::{ask, expand, failure};
use crate::steps::StepContext;

/// From one question that was not answered well to the next.
const AGAIN: Duration = Duration::from_millis(100);

/// Asks for each path until it is answered with a status from 200 to 399; without any path, until a
/// connection is accepted.
///
/// # Errors
/// [`Failure`] with the last answer, once the time is over.
pub async fn warm_up(
    address: &str,
    paths: &[String],
    headers: &Headers,
    timeout: Duration,
    context: &StepContext,
) -> Result<(), Failure> {
    let address = expand(address, context)?;
    let until = Instant::now() + timeout;
    if paths.is_empty() {
        return until_well(until, timeout, &address, None, headers).await;
    }
    for path in paths {
        until_well(until, timeout, &address, Some(path), headers).await?;
    }
    Ok(())
}

async fn until_well(
    until: Instant,
    timeout: Duration,
    address: &str,
    path: Option<&str>,
    headers: &Headers,
) -> Result<(), Failure> {
    loop {
        let answer = match path {
            None => ask::connect(address).await,
            Some(path) => match ask::get(address, path, headers).await {
                Ok((200..=399, _)) => Ok(()),
                Ok((status, _)) => Err(format!("GET {path} was answered with {status}")),
                Err(reason) => Err(format!("GET {path}: {reason}")),
            },
        };
        let Err(reason) = answer else { return Ok(()) };
        if Instant::now() + AGAIN >= until {
            let time = human::format(timeout);
            return Err(failure(format!("{address} was not warm within {time}: {reason}")));
        }
        tokio::time::sleep(AGAIN).await;
    }
}
