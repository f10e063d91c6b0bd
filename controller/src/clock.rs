//! The clock, as a value: tests hand in their own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use landfall_common::{Duration, Timestamp};

/// When the system's clock is further than this from a steady one, the latter was wrong at its start (a
/// machine without a battery, say), and a leap is the smaller harm.
const LEAP: Duration = Duration::from_secs(5 * 60);

/// Says what time it is.
#[derive(Clone)]
pub struct Clock {
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    leaps: Arc<AtomicU64>,
}

impl Clock {
    /// The system's.
    #[must_use]
    pub fn system() -> Self {
        Self::of(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            Timestamp::from_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
        })
    }

    /// The system's clock as it was at the start, going on at an even pace: no small step of the system's
    /// makes hosts look silent or a deadline fire early.
    #[must_use]
    pub fn steady() -> Self {
        Self::steadied(Self::system())
    }

    fn steadied(system: Self) -> Self {
        let anchor = Mutex::new((system.now(), Instant::now()));
        let leaps = Arc::new(AtomicU64::new(0));
        let counter = leaps.clone();
        let now = move || {
            let wall = system.now();
            let mut anchor = anchor.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let steady = anchor.0 + anchor.1.elapsed();
            if wall.since(steady).max(steady.since(wall)) <= LEAP {
                return steady;
            }
            *anchor = (wall, Instant::now());
            counter.fetch_add(1, Ordering::Relaxed);
            wall
        };
        Self { now: Arc::new(now), leaps }
    }

    /// How often it has leapt: from then on, what was to be over by some moment may have had less time than
    /// that.
    #[must_use]
    pub fn leaps(&self) -> u64 {
        self.leaps.load(Ordering::Relaxed)
    }

    /// A clock of one's own.
    pub fn of(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self { now: Arc::new(now), leaps: Arc::default() }
    }

    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.now)()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_step_is_not_followed_and_a_leap_is_told_of() {
        let wall = Arc::new(AtomicU64::new(1_000_000_000));
        let set = wall.clone();
        let clock = Clock::steadied(Clock::of(move || Timestamp::from_ms(wall.load(Ordering::Relaxed))));
        set.fetch_add(200_000, Ordering::Relaxed);
        assert!(clock.now() < Timestamp::from_ms(1_000_190_000), "a step of 200 s was followed");
        assert_eq!(clock.leaps(), 0);
        set.fetch_add(7_200_000, Ordering::Relaxed);
        assert!(clock.now() >= Timestamp::from_ms(1_007_400_000));
        assert_eq!(clock.leaps(), 1);
        let _ = clock.now();
        assert_eq!(clock.leaps(), 1, "it goes on steadily from there");
    }
}
