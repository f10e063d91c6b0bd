//! Locks: a person's claim on a place, for a while.

use landfall_common::Duration;

use crate::command::Answer;
use crate::log::LogEvent;
use crate::record::{Lock, Place, PlaceRecord, Record};
use crate::refusal::Refusal;
use crate::timing::{MAX_LOCK, MIN_LOCK};

use super::Draft;

impl Draft<'_> {
    /// Claims a place, or claims it anew: the owner of a lock may change its message and its end. What is under
    /// way goes on.
    pub(super) fn lock(&mut self, at: &Place, message: &str, period: Duration) -> Result<Answer, Refusal> {
        let place = self.known(at)?;
        if message.trim().is_empty() || period < MIN_LOCK || period > MAX_LOCK {
            return Err(Refusal::LockUnbounded);
        }
        if let Some(lock) = self.state.lock(&place, self.now).filter(|lock| lock.by != self.command.by) {
            let (by, until, message) = (lock.by.to_string(), lock.until, lock.message.clone());
            return Err(Refusal::Locked { place: Box::new(at.clone()), by, until, message });
        }
        let until = self.now + period;
        self.log(LogEvent::PlaceLocked {
            application: at.application.clone(),
            environment: at.environment.clone(),
            message: message.to_owned(),
            until,
        });
        let (by, message) = (self.command.by.clone(), message.to_owned());
        let lock = Some(Lock { by, message, since: self.now, until });
        self.put(Record::Place(Box::new(PlaceRecord { lock, ..place })));
        Ok(Answer::Accepted)
    }

    pub(super) fn unlock(&mut self, at: &Place, reason: &str) -> Result<Answer, Refusal> {
        let place = self.known(at)?;
        let lock =
            self.state.lock(&place, self.now).ok_or_else(|| Refusal::NotLocked { place: at.clone() })?;
        let is_own = lock.by == self.command.by;
        if !is_own && reason.trim().is_empty() {
            let (by, message) = (lock.by.to_string(), lock.message.clone());
            return Err(Refusal::LockOfAnother { place: Box::new(at.clone()), by, message });
        }
        self.log(LogEvent::PlaceUnlocked {
            application: at.application.clone(),
            environment: at.environment.clone(),
            owner: if is_own { String::new() } else { lock.by.to_string() },
            reason: reason.to_owned(),
        });
        self.put(Record::Place(Box::new(PlaceRecord { lock: None, ..place })));
        Ok(Answer::Accepted)
    }

    fn known(&self, place: &Place) -> Result<PlaceRecord, Refusal> {
        let known = self.state.place(place).cloned();
        known.ok_or_else(|| Refusal::NoHosts { place: place.clone() })
    }
}
