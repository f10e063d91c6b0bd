//! Probes: asking once whether something is well. What follows from the answer is decided elsewhere.

pub(crate) mod answer;
mod http;

use std::time::Duration;

use landfall_common::manifest::{Check, Probe, Step};
use landfall_common::time::human;
use tokio::net::TcpStream;

use crate::steps::{self, Cause, StepContext};

/// Asks what a check asks, once. The context is that of the active release.
///
/// # Errors
/// What was seen instead of health, as one sentence.
pub async fn probe(check: &Check, context: &StepContext) -> Result<(), String> {
    match &check.probe {
        Probe::Http { url, status, contains, headers } => {
            let url = context.words.expand(url).map_err(|error| error.to_string())?;
            in_time(check.timeout, &url, http::ask(&url, *status, contains.as_deref(), headers)).await
        }
        Probe::Tcp { address } => {
            let address = context.words.expand(address).map_err(|error| error.to_string())?;
            let connect = async {
                TcpStream::connect(&address).await.map(drop).map_err(|error| format!("{address}: {error}"))
            };
            in_time(check.timeout, &address, connect).await
        }
        Probe::Exec { command } => exec(check, command, context).await,
    }
}

/// All that `url` answers, with status 200 and no more bytes than these.
///
/// # Errors
/// What came instead, as one sentence.
pub(crate) async fn fetch(url: &str, max_bytes: usize) -> Result<Vec<u8>, String> {
    http::fetch(url, max_bytes).await
}

async fn in_time(
    timeout: Duration,
    whom: &str,
    asking: impl Future<Output = Result<(), String>>,
) -> Result<(), String> {
    tokio::time::timeout(timeout, asking)
        .await
        .unwrap_or_else(|_| Err(format!("{whom} gave no answer within {}", human::format(timeout))))
}

async fn exec(check: &Check, command: &[String], context: &StepContext) -> Result<(), String> {
    let step = Step {
        name: check.name.clone(),
        command: command.to_vec(),
        environment: Default::default(),
        timeout: check.timeout,
        network: None,
    };
    // What a check writes every few seconds is not worth a log.
    let context = StepContext { log: None, ..context.clone() };
    steps::run(&step, &context).await.map(drop).map_err(|failure| {
        let said = failure.output.last_lines().pop().map(|line| format!(": {line}")).unwrap_or_default();
        match failure.cause {
            Cause::TimedOut { .. } => {
                format!("the command gave no answer within {}{said}", human::format(check.timeout))
            }
            cause => format!("the command {cause}{said}"),
        }
    })
}

#[cfg(test)]
mod tests;
