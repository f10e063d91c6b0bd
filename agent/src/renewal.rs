//! Keeping the host's certificate: a new key and certificate at two thirds of its life, tried again with
//! jitter until it works, also after it has expired.

use std::sync::Arc;

use landfall_agent_core::backoff::Backoff;
use landfall_common::Duration;
use landfall_common::disk::Disk;
use rand::Rng;
use tokio::sync::watch;

use crate::error::chain;
use crate::identity::{Credentials, Enrolled};
use crate::tls::Dialler;
use crate::{clock, enrolment};

/// Clocks step, and a host may sleep: the time is looked at again at least this often.
const LOOK: Duration = Duration::from_secs(600);

/// Renews for ever.
pub async fn run(
    state: Arc<dyn Disk>,
    enrolled: Enrolled,
    dialler: Dialler,
    credentials: watch::Sender<Credentials>,
    random: &mut impl Rng,
) {
    let mut backoff = Backoff::new(Duration::from_secs(5), Duration::from_secs(600));
    loop {
        let current = credentials.borrow().clone();
        let wait = current.renew_in(clock::wall()).unwrap_or_default();
        if !wait.is_zero() {
            tokio::time::sleep(wait.min(LOOK)).await;
            continue;
        }
        match enrolment::renew(&*state, &enrolled, &dialler, &current).await {
            Ok(renewed) => {
                tracing::info!(host = %enrolled.identity.host, "certificate renewed");
                credentials.send_replace(renewed);
                backoff.reset();
            }
            Err(error) => {
                tracing::warn!(host = %enrolled.identity.host, error = %chain(&error), "the certificate is not renewed yet");
            }
        }
        // Also after a success: a certificate whose life is already two thirds over when it comes must not
        // make this a busy loop.
        tokio::time::sleep(backoff.next_wait(random) + Duration::from_secs(1)).await;
    }
}
