//! How often somebody may ask for what stays for ever: every certificate is an entry in the log.
//!
//! Kept in memory, by name: there are at most as many as there are hosts, operators and open tokens.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use landfall_common::Duration;

use crate::error::{ControllerError, Reason};

/// Certificates of one name, on average. A host asks for one every 16 hours.
const ONE_IN: Duration = Duration::from_secs(10 * 60);

/// Certificates that one name may ask for at once: answers may get lost.
const AT_ONCE: u32 = 12;

/// Who asked for certificates lately.
#[derive(Debug, Default)]
pub struct Pace(Mutex<BTreeMap<String, Instant>>);

impl Pace {
    /// Counts a certificate for this name, or this token, that is asked for `now`.
    ///
    /// # Errors
    /// [`Reason::Overloaded`] for one that asks too often.
    pub fn ask(&self, name: &str, now: Instant) -> Result<(), ControllerError> {
        let mut paid = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        paid.retain(|_, paid_at| *paid_at > now);
        // When everything that was asked for will have been paid for.
        let paid_at = paid.get(name).copied().unwrap_or(now) + ONE_IN;
        if paid_at.duration_since(now) > ONE_IN * AT_ONCE {
            let message = format!(
                "{name} has asked for too many certificates; one in {} minutes is the most",
                ONE_IN.as_secs() / 60
            );
            return Err(ControllerError::refused(Reason::Overloaded, message));
        }
        paid.insert(name.to_owned(), paid_at);
        Ok(())
    }

    /// Whoever is let in by an admin's new token begins anew.
    pub fn forgive(&self, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_asks_so_often_and_no_other_suffers_for_it() {
        let (pace, now) = (Pace::default(), Instant::now());
        for _ in 0..AT_ONCE {
            pace.ask("host/web-1", now).unwrap();
        }
        let refused = pace.ask("host/web-1", now).unwrap_err();
        assert!(refused.to_string().contains("10 minutes"), "{refused}");
        pace.ask("host/web-2", now).unwrap();
        pace.ask("host/web-1", now + ONE_IN).unwrap();
        assert!(pace.ask("host/web-1", now + ONE_IN).is_err());
        pace.forgive("host/web-1");
        pace.ask("host/web-1", now + ONE_IN).unwrap();
        // Nobody is remembered for longer than that matters.
        pace.ask("host/web-3", now + ONE_IN * 100).unwrap();
        assert_eq!(pace.0.lock().unwrap().len(), 1);
    }
}
