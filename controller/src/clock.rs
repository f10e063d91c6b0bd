//! The clock, as a value: tests hand in their own.

use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use landfall_common::{Duration, Timestamp};

/// When the system's clock is further than this from a steady one, the latter was wrong at its start (a
/// machine without a battery, say), and a leap is the smaller harm.
const LEAP: Duration = Duration::from_secs(5 * 60);

/// Says what time it is.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

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
        let system = Self::system();
        let anchor = Mutex::new((system.now(), Instant::now()));
        Self::of(move || {
            let wall = system.now();
            let mut anchor = anchor.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let steady = anchor.0 + anchor.1.elapsed();
            if wall.since(steady).max(steady.since(wall)) <= LEAP {
                return steady;
            }
            *anchor = (wall, Instant::now());
            wall
        })
    }

    /// A clock of one's own.
    pub fn of(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}
