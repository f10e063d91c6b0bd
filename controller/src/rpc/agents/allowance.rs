//! How much of the controller one host may have, so that one that is broken or hostile leaves the others theirs.
//!
//! Kept in memory, by the name in the certificate: there are at most as many as there are hosts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use landfall_common::{Duration, HostId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{ControllerError, Reason};

/// Transfers of one host at once. An agent has one; those that it gave up linger until they are noticed.
pub const TRANSFERS_PER_HOST: usize = 4;

/// Calls of one host, on average. An agent fetches 512 objects with one, and a dozen files of metadata for an
/// assignment.
const CALLS_PER_S: u32 = 20;

/// Calls of one host that may come at once: a client that was away walks up to 256 roots.
const CALLS_AT_ONCE: u32 = 600;

/// What the hosts have had.
#[derive(Debug, Default)]
pub struct Allowances(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    hosts: BTreeMap<HostId, Allowance>,
    /// Those that have not been here lately are forgotten when so many are known.
    forget_at: usize,
}

#[derive(Debug)]
struct Allowance {
    transfers: Arc<Semaphore>,
    /// When everything that was called for will have been paid for, at [`CALLS_PER_S`].
    paid_at: Instant,
}

impl Allowance {
    fn is_idle(&self, now: Instant) -> bool {
        self.paid_at <= now && self.transfers.available_permits() == TRANSFERS_PER_HOST
    }
}

impl Allowances {
    /// Counts a call that comes `now`.
    ///
    /// # Errors
    /// [`Reason::Overloaded`] for a host that calls too often.
    pub fn call(&self, host: &HostId, now: Instant) -> Result<(), ControllerError> {
        self.of(host, now, |allowance| {
            let cost = Duration::from_secs(1) / CALLS_PER_S;
            let paid_at = allowance.paid_at.max(now) + cost;
            if paid_at.duration_since(now) > cost * CALLS_AT_ONCE {
                let message = format!("{host} calls more than {CALLS_PER_S} times a second; wait a little");
                return Err(ControllerError::refused(Reason::Overloaded, message));
            }
            allowance.paid_at = paid_at;
            Ok(())
        })
    }

    /// A place for a transfer, which is given back when it is dropped.
    ///
    /// # Errors
    /// [`Reason::Overloaded`] for a host that has [`TRANSFERS_PER_HOST`] under way.
    pub fn transfer(&self, host: &HostId, now: Instant) -> Result<OwnedSemaphorePermit, ControllerError> {
        self.of(host, now, |allowance| {
            allowance.transfers.clone().try_acquire_owned().map_err(|_| {
                let message = format!(
                    "{host} has {TRANSFERS_PER_HOST} transfers under way and does not read them to their end"
                );
                ControllerError::refused(Reason::Overloaded, message)
            })
        })
    }

    fn of<T>(&self, host: &HostId, now: Instant, act: impl FnOnce(&mut Allowance) -> T) -> T {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.hosts.contains_key(host) {
            if known.hosts.len() >= known.forget_at {
                known.hosts.retain(|_, allowance| !allowance.is_idle(now));
                known.forget_at = 2 * known.hosts.len() + 64;
            }
            let transfers = Arc::new(Semaphore::new(TRANSFERS_PER_HOST));
            known.hosts.insert(host.clone(), Allowance { transfers, paid_at: now });
        }
        let allowance = known.hosts.get_mut(host).expect("it was put there if it was not");
        act(allowance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> HostId {
        HostId::new(name).unwrap()
    }

    #[test]
    fn a_host_that_calls_without_end_is_slowed_down_and_no_other() {
        let (allowances, one, now) = (Allowances::default(), host("web-1"), Instant::now());
        for _ in 0..CALLS_AT_ONCE {
            allowances.call(&one, now).unwrap();
        }
        assert!(allowances.call(&one, now).unwrap_err().to_string().contains("web-1"));
        allowances.call(&host("web-2"), now).unwrap();
        let later = now + Duration::from_secs(1);
        for _ in 0..CALLS_PER_S {
            allowances.call(&one, later).unwrap();
        }
        assert!(allowances.call(&one, later).is_err());
    }

    #[test]
    fn a_host_has_its_own_transfers_only() {
        let (allowances, one, now) = (Allowances::default(), host("web-1"), Instant::now());
        let mut taken: Vec<_> =
            (0..TRANSFERS_PER_HOST).map(|_| allowances.transfer(&one, now).unwrap()).collect();
        assert!(allowances.transfer(&one, now).is_err());
        drop(allowances.transfer(&host("web-2"), now).unwrap());
        taken.pop();
        drop(allowances.transfer(&one, now).unwrap());
    }

    #[test]
    fn hosts_that_went_away_are_forgotten_and_those_at_work_are_not() {
        let (allowances, mut now) = (Allowances::default(), Instant::now());
        let busy = allowances.transfer(&host("busy"), now).unwrap();
        for round in 0..10 {
            for index in 0..100 {
                allowances.call(&host(&format!("web-{round}-{index}")), now).unwrap();
            }
            now += Duration::from_secs(60);
        }
        let known = allowances.0.lock().unwrap();
        assert!(known.hosts.len() < 300, "{}", known.hosts.len());
        assert!(known.hosts.contains_key(&host("busy")));
        drop(busy);
    }
}
