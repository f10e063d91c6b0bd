//! A Docker that is away for a while: it is restarted at any time, as by an upgrade of its package.
//!
//! That is no failure of a release, nor a reason to leave a host half way back. What was begun is begun again once
//! Docker answers; what it was in the middle of is known by names and notes.

use std::path::Path;
use std::time::Duration;

use landfall_common::ServiceName;
use landfall_common::report::Failure;
use tokio::time::Instant;

use super::client::Client;
use crate::drivers::note::Trouble;

/// For how long it is waited for: a package is installed meanwhile, and then every container started.
const AWAY: Duration = Duration::from_secs(120);

/// How often it is asked for.
const AGAIN: Duration = Duration::from_millis(500);

/// One that works answers at once; one that is being ended takes no new connection, or leaves it waiting.
const ANSWER: Duration = Duration::from_secs(5);

/// How long something has been tried in vain.
#[derive(Debug)]
pub(super) struct Patience {
    limit: Duration,
    until: Option<Instant>,
}

impl Default for Patience {
    fn default() -> Self {
        Self { limit: AWAY, until: None }
    }
}

impl Patience {
    /// Whether Docker was away since the beginning, and has ended containers that way.
    pub fn was_needed(&self) -> bool {
        self.until.is_some()
    }

    /// Waits a moment, after which it can be tried again.
    ///
    /// # Errors
    /// What went wrong, if it is not that Docker is away, or if it has been for too long.
    pub async fn wait(&mut self, service: &ServiceName, trouble: Trouble) -> Result<(), Failure> {
        let Trouble::Away(failure) = trouble else { return Err(trouble.into_failure()) };
        let is_first = self.until.is_none();
        let until = *self.until.get_or_insert_with(|| Instant::now() + self.limit);
        if Instant::now() >= until {
            return Err(failure);
        }
        if is_first {
            tracing::warn!(%service, reason = failure.reason, "Docker is away; it is waited for");
        }
        tokio::time::sleep(AGAIN).await;
        Ok(())
    }
}

/// What ended while Docker was being ended, or because of it, has not failed by itself.
pub(super) async fn judge(trouble: Trouble, docker: &Client, socket: &Path) -> Trouble {
    let Trouble::Failed(failure) = trouble else { return trouble };
    // It ends its containers while it still answers whoever is connected, but lets nobody in any more.
    let answers = matches!(tokio::time::timeout(ANSWER, Client::connect(socket)).await, Ok(Ok(_)));
    if answers && !docker.has_gone() { Trouble::Failed(failure) } else { Trouble::Away(failure) }
}

#[cfg(test)]
mod tests {
    use landfall_common::StepName;

    use super::*;

    #[tokio::test]
    async fn one_that_is_away_is_waited_for_and_not_for_ever() {
        let service: ServiceName = "web".parse().unwrap();
        let failure = |reason: &str| Failure::new(StepName::new("web").unwrap(), reason);
        let mut patience = Patience::default();
        assert!(!patience.was_needed());
        patience.wait(&service, Trouble::Away(failure("gone"))).await.unwrap();
        assert!(patience.was_needed());
        for trouble in [Trouble::Failed(failure("bad")), Trouble::Unclear(failure("bad"))] {
            assert_eq!(patience.wait(&service, trouble).await.unwrap_err().reason, "bad");
        }
        let mut none = Patience { limit: Duration::ZERO, until: None };
        assert_eq!(none.wait(&service, Trouble::Away(failure("gone"))).await.unwrap_err().reason, "gone");
    }
}
