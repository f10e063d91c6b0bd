//! Following roots that were handed over, without a refresh: what a client does that is set up with a root which
//! has been rotated since.

use landfall_common::Timestamp as Time;

use super::{Limits, Next, Updater};
use crate::error::TrustError;
use crate::store::TrustedStore;

/// Takes the roots that follow the trusted one, oldest first, each signed by the threshold of the one before and
/// by its own (TUF §5.3.4). Expiry does not matter: only that of the newest does, at the next refresh.
///
/// # Errors
/// Why one of them does not follow; those of [`Updater::start`].
pub fn follow_roots(store: TrustedStore, newer: &[Vec<u8>]) -> Result<TrustedStore, TrustError> {
    let mut updater = Updater::start(store, Time::from_ms(0), Limits::default())?;
    let mut newer = newer.iter();
    loop {
        match updater.advance()? {
            // The updater's own copy of the store has it already.
            Next::Store { .. } => {}
            Next::Fetch(need) if need.role == "root" => match newer.next() {
                Some(root) => updater.feed(Some(root.clone()))?,
                None => return Ok(updater.store().clone()),
            },
            Next::Fetch(_) | Next::Ready => return Ok(updater.store().clone()),
        }
    }
}
