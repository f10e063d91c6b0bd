//! Letting in and shutting out, one after the other.
//!
//! A removal denies what was issued until its moment. Without this, a certificate might be issued a moment
//! later to somebody who was looked up a moment earlier, and hold for whoever takes the name next.

use landfall_common::Timestamp;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::clock::Clock;

/// The order between certificates and removals.
#[derive(Debug, Default)]
pub struct Admission(RwLock<()>);

/// While it is held nobody is removed.
#[must_use = "it must be held until the certificate's entry in the log is durable"]
#[derive(Debug)]
pub struct Issuing<'a> {
    /// When the certificate begins.
    pub now: Timestamp,
    _guard: RwLockReadGuard<'a, ()>,
}

/// While it is held no certificate is issued.
#[must_use = "it must be held until the removed name is denied"]
#[derive(Debug)]
pub struct Removing<'a> {
    /// Up to when certificates are denied.
    pub now: Timestamp,
    _guard: RwLockWriteGuard<'a, ()>,
}

impl Admission {
    /// Waits until no removal is under way; whether somebody may come in is looked up after this.
    pub async fn issue(&self, clock: &Clock) -> Issuing<'_> {
        let guard = self.0.read().await;
        Issuing { now: clock.now(), _guard: guard }
    }

    /// Waits until no certificate is being issued.
    pub async fn remove(&self, clock: &Clock) -> Removing<'_> {
        let guard = self.0.write().await;
        Removing { now: clock.now(), _guard: guard }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[tokio::test]
    async fn a_removal_comes_before_a_certificate_or_after_it() {
        let ticks = Arc::new(AtomicU64::new(0));
        let clock = Clock::of(move || Timestamp::from_ms(ticks.fetch_add(1, Ordering::Relaxed)));
        let admission = Admission::default();
        let (one, two) = (admission.issue(&clock).await, admission.issue(&clock).await);
        assert!(admission.remove(&clock).now_or_never().is_none());
        let last = one.now.max(two.now);
        drop((one, two));
        let removing = admission.remove(&clock).await;
        assert!(removing.now > last);
        assert!(admission.issue(&clock).now_or_never().is_none());
        let denied = removing.now;
        drop(removing);
        assert!(admission.issue(&clock).await.now > denied);
    }
}
