//! The clock, as a value: tests hand in their own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use landfall_common::{Duration, Timestamp};

/// When the system's clock is further than this from the steady one, it was set: hosts go by theirs, and an
/// order that lives for a minute would be over for them before it comes. A leap is the smaller harm.
const LEAP: Duration = Duration::from_secs(10);

/// What is less than a leap is made up for at this part of the time that passes: as good as even, and done within
/// a quarter of an hour.
const SLEW: u32 = 100;

/// How long one correction goes on before the system's clock is looked at again.
const SEGMENT: Duration = Duration::from_secs(1);

/// Says what time it is.
#[derive(Clone)]
pub struct Clock {
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    leaps: Arc<AtomicU64>,
}

/// A stretch of time from which the clock goes on: evenly, but for a small correction.
struct Segment {
    /// What time it was, since 1970.
    from: Duration,
    /// What the even clock said.
    begun: Duration,
    /// How far the system's clock was ahead, or behind.
    ahead: Duration,
    behind: Duration,
}

impl Segment {
    fn new(from: Duration, begun: Duration, wall: Duration) -> Self {
        Self { from, begun, ahead: wall.saturating_sub(from), behind: from.saturating_sub(wall) }
    }

    /// What time it is. It never goes back: a correction is less than the time that has passed.
    fn at(&self, even: Duration) -> Duration {
        let passed = even.saturating_sub(self.begun);
        let most = passed / SLEW;
        (self.from + passed + self.ahead.min(most)).saturating_sub(self.behind.min(most))
    }
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
    /// makes hosts look silent or a deadline fire early. It is made up for little by little.
    #[must_use]
    pub fn steady() -> Self {
        let begun = Instant::now();
        Self::steadied(Self::system(), move || begun.elapsed())
    }

    fn steadied(system: Self, even: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        let wall = move || Duration::from_millis(system.now().ms());
        let segment = Mutex::new(Segment::new(wall(), even(), wall()));
        let leaps = Arc::new(AtomicU64::new(0));
        let counter = leaps.clone();
        let now = move || {
            let mut segment = segment.lock().unwrap_or_else(PoisonError::into_inner);
            let (wall, even) = (wall(), even());
            let now = segment.at(even);
            let now = if wall.abs_diff(now) > LEAP {
                *segment = Segment::new(wall, even, wall);
                counter.fetch_add(1, Ordering::Relaxed);
                wall
            } else {
                if even.saturating_sub(segment.begun) >= SEGMENT {
                    *segment = Segment::new(now, even, wall);
                }
                now
            };
            Timestamp::from_ms(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
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

    const START: u64 = 1_000_000_000;

    /// A system's clock, an even one, and the steady one made of both; in milliseconds.
    struct Clocks {
        wall: Arc<AtomicU64>,
        even: Arc<AtomicU64>,
        steady: Clock,
    }

    impl Clocks {
        fn new() -> Self {
            let (wall, even) = (Arc::new(AtomicU64::new(START)), Arc::new(AtomicU64::new(0)));
            let (of_wall, of_even) = (wall.clone(), even.clone());
            let system = Clock::of(move || Timestamp::from_ms(of_wall.load(Ordering::Relaxed)));
            let steady =
                Clock::steadied(system, move || Duration::from_millis(of_even.load(Ordering::Relaxed)));
            Self { wall, even, steady }
        }

        fn pass(&self, ms: u64) -> u64 {
            self.wall.fetch_add(ms, Ordering::Relaxed);
            self.even.fetch_add(ms, Ordering::Relaxed);
            self.steady.now().ms()
        }

        fn wall(&self) -> u64 {
            self.wall.load(Ordering::Relaxed)
        }
    }

    /// Hosts go by their own clocks, and take no order that is older than a minute.
    #[test]
    fn a_step_that_makes_orders_expire_on_their_way_is_a_leap() {
        for step in [120_000, 7_200_000] {
            let clocks = Clocks::new();
            clocks.wall.fetch_add(step, Ordering::Relaxed);
            assert_eq!((clocks.pass(1), clocks.steady.leaps()), (START + step + 1, 1));
            assert_eq!(
                (clocks.pass(1000), clocks.steady.leaps()),
                (START + step + 1001, 1),
                "steady from there"
            );
            clocks.wall.fetch_sub(step, Ordering::Relaxed);
            assert_eq!((clocks.pass(1), clocks.steady.leaps()), (START + 1002, 2));
        }
    }

    #[test]
    fn a_small_step_is_made_up_for_little_by_little_and_time_never_goes_back() {
        for back in [false, true] {
            let clocks = Clocks::new();
            match back {
                false => clocks.wall.fetch_add(9000, Ordering::Relaxed),
                true => clocks.wall.fetch_sub(9000, Ordering::Relaxed),
            };
            let mut last = clocks.steady.now().ms();
            assert_eq!(last, START, "nothing has happened at once");
            for _ in 0..10_000 {
                let now = clocks.pass(97);
                assert!((last + 95..=last + 99).contains(&now), "{last} {now}");
                last = now;
            }
            assert!(last.abs_diff(clocks.wall()) <= 1, "{last} {}", clocks.wall());
            assert_eq!(clocks.steady.leaps(), 0);
        }
    }

    /// However often it is asked, no part of a millisecond is lost.
    #[test]
    fn it_goes_as_evenly_as_the_even_clock() {
        let clocks = Clocks::new();
        for _ in 0..100_000 {
            clocks.pass(1);
        }
        assert_eq!(clocks.steady.now().ms(), START + 100_000);
    }
}
