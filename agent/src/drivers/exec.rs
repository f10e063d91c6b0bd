//! The driver for services that have their own commands.

use landfall_common::manifest::Step;
use landfall_common::report::Failure;

use super::DriverState;
use crate::steps::{self, Cause, StepContext};

pub(super) async fn run(step: &Step, context: &StepContext) -> Result<(), Failure> {
    steps::run(step, context).await.map(drop).map_err(Failure::from)
}

/// Without a status command nothing is known: no data is not health.
pub(super) async fn status(step: Option<&Step>, context: &StepContext) -> DriverState {
    let Some(step) = step else {
        return DriverState::Unknown { reason: "the service has no status command".to_owned() };
    };
    match steps::run(step, context).await {
        Ok(_) => DriverState::Running { release: None, restarts: 0 },
        Err(failure) if matches!(failure.cause, Cause::Exited { .. }) => {
            let said = failure.output.last_lines().pop().map(|line| format!(": {line}")).unwrap_or_default();
            DriverState::Failing { reason: format!("{failure}{said}") }
        }
        Err(failure) => DriverState::Unknown { reason: failure.to_string() },
    }
}
