//! The driver for services that have their own commands.
//!
//! Asked again with the same attempt, it runs the command again: the command makes the service run what
//! `current` names, however often it is run. When it fails, what ran before was left to it.

use async_trait::async_trait;
use landfall_common::Sha256;
use landfall_common::manifest::Step;
use landfall_common::report::Failure;

use super::{Driver, DriverState};
use crate::steps::{self, Cause, StepContext};

/// A service and its commands.
pub(super) struct Exec<'a> {
    pub context: &'a StepContext,
    pub restart: &'a Step,
    pub stop: Option<&'a Step>,
    pub status: Option<&'a Step>,
}

#[async_trait]
impl Driver for Exec<'_> {
    async fn activate(&self, _release: Sha256, _attempt: &str) -> Result<(), Failure> {
        self.run(self.restart).await
    }

    /// What its command does.
    async fn restart(&self, _release: Sha256, _attempt: &str) -> Result<(), Failure> {
        self.run(self.restart).await
    }

    async fn deactivate(&self) -> Result<(), Failure> {
        match self.stop {
            Some(stop) => self.run(stop).await,
            None => Ok(()),
        }
    }

    /// Without a status command nothing is known: no data is not health.
    async fn status(&self) -> DriverState {
        let Some(step) = self.status else {
            return DriverState::Unknown { reason: "the service has no status command".to_owned() };
        };
        match steps::run(step, self.context).await {
            Ok(_) => DriverState::Running { release: None, restarts: 0, roots: None },
            Err(failure) if matches!(failure.cause, Cause::Exited { .. }) => {
                let said =
                    failure.output.last_lines().pop().map(|line| format!(": {line}")).unwrap_or_default();
                DriverState::Failing { reason: format!("{failure}{said}") }
            }
            Err(failure) => DriverState::Unknown { reason: failure.to_string() },
        }
    }
}

impl Exec<'_> {
    async fn run(&self, step: &Step) -> Result<(), Failure> {
        steps::run(step, self.context).await.map(drop).map_err(Failure::from)
    }
}
