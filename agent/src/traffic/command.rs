//! Traffic that is led by commands of the release: they are signed like everything else that it runs.

use async_trait::async_trait;
use landfall_common::manifest::Step;
use landfall_common::manifest::traffic::filled;
use landfall_common::report::Failure;

use super::{Goal, Proxy, failure};
use crate::steps::{self, Cause, StepContext};

/// A command that leads requests to a slot.
pub(super) struct Switching<'a> {
    pub switch: &'a Step,
    pub context: &'a StepContext,
}

#[async_trait]
impl Proxy for Switching<'_> {
    async fn lead(&self, to: &Goal) -> Result<(), Failure> {
        let Goal::At { address, slot, .. } = to else {
            return Err(failure("a command that switches between slots cannot take a host out"));
        };
        let slot = slot.map_or("plain", landfall_common::manifest::traffic::Slot::as_str);
        let step = filled(self.switch, |word| match word {
            "slot" => Some(slot),
            "address" => Some(address.as_str()),
            _ => None,
        });
        steps::run(&step, self.context).await.map(drop).map_err(Failure::from)
    }
}

/// Commands that take the host out and in again.
pub(super) struct Gating<'a> {
    pub drain: &'a Step,
    pub undrain: &'a Step,
    pub context: &'a StepContext,
}

#[async_trait]
impl Proxy for Gating<'_> {
    async fn lead(&self, to: &Goal) -> Result<(), Failure> {
        match to {
            Goal::Nowhere { .. } => match steps::run(self.drain, self.context).await {
                Ok(_) => Ok(()),
                // Requests that do not end must not keep a host from ever changing.
                Err(late) if matches!(late.cause, Cause::TimedOut { .. }) => {
                    tracing::warn!(step = %late.step, "the drain did not end in time; the change goes on");
                    Ok(())
                }
                Err(failed) => Err(Failure::from(failed)),
            },
            Goal::Open => steps::run(self.undrain, self.context).await.map(drop).map_err(Failure::from),
            Goal::At { .. } => Err(failure("commands that drain a host lead to no slot")),
        }
    }
}
