//! What a cage asks of systemd.

use std::time::Duration;

use async_trait::async_trait;

use crate::drivers::systemd::{Bus, BusError, Verb, last_words};

/// The templates: without and with the network.
const TEMPLATES: [&str; 2] = ["landfall-step", "landfall-step-net"];

/// Stopping a unit takes as long as its `TimeoutStopSec=`, and a killed process its moment.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// The instance of the template that runs something.
pub(super) fn unit(id: &super::RunId, network: bool) -> String {
    format!("{}@{id}.service", TEMPLATES[usize::from(network)])
}

/// Why systemd did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// It will not.
    #[error("{0}")]
    Refused(String),
    /// It said nothing, or not yet: it may do so all the same.
    #[error("{0}")]
    Unclear(String),
}

/// What starts and ends units.
#[async_trait]
pub trait Units: Send + Sync {
    /// Starts a unit and waits for the end of that job, which is the end of the step.
    ///
    /// # Errors
    /// [`Trouble`]. A step that failed is none.
    async fn start(&self, unit: &str, timeout: Duration) -> Result<(), Trouble>;

    /// Ends a unit and all that runs in it, and waits until that is so.
    ///
    /// # Errors
    /// [`Trouble`].
    async fn stop(&self, unit: &str) -> Result<(), Trouble>;

    /// Whether anything runs in it.
    ///
    /// # Errors
    /// [`Trouble`].
    async fn is_up(&self, unit: &str) -> Result<bool, Trouble>;

    /// The units of steps of which it knows.
    ///
    /// # Errors
    /// [`Trouble`].
    async fn list(&self) -> Result<Vec<String>, Trouble>;

    /// What a unit said last, from a moment of the wall clock on, in microseconds.
    async fn said(&self, unit: &str, from_us: u64) -> Vec<String>;
}

#[async_trait]
impl Units for Bus {
    async fn start(&self, unit: &str, timeout: Duration) -> Result<(), Trouble> {
        self.ask(Verb::Start, unit, timeout).await.map(drop).map_err(trouble)
    }

    async fn stop(&self, unit: &str) -> Result<(), Trouble> {
        self.ask(Verb::Stop, unit, STOP_TIMEOUT).await.map(drop).map_err(trouble)
    }

    async fn is_up(&self, unit: &str) -> Result<bool, Trouble> {
        let state = self.look(unit).await.map_err(trouble)?;
        Ok(!matches!(state.active.as_str(), "inactive" | "failed") || state.has_job)
    }

    async fn list(&self) -> Result<Vec<String>, Trouble> {
        let mut units = Vec::new();
        for template in TEMPLATES {
            units.extend(Bus::list(self, &format!("{template}@*.service")).await.map_err(trouble)?);
        }
        Ok(units)
    }

    async fn said(&self, unit: &str, from_us: u64) -> Vec<String> {
        last_words(unit, from_us, None).await
    }
}

fn trouble(error: BusError) -> Trouble {
    match error {
        BusError::Denied { verb, unit, reason } => Trouble::Refused(format!(
            "polkit does not let the agent {verb} {unit} ({reason}): 50-landfall.rules of its package must be in \
             /usr/share/polkit-1/rules.d, and polkitd installed"
        )),
        error @ BusError::Refused { .. } => Trouble::Refused(error.to_string()),
        error => Trouble::Unclear(error.to_string()),
    }
}
