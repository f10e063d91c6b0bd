//! What time it is on this host.

use landfall_agent_core::Now;
use landfall_common::{Duration, Timestamp};
use rustix::time::{ClockId, clock_gettime};

/// Both clocks, now.
#[must_use]
pub fn now() -> Now {
    Now { wall: wall(), mono: mono() }
}

/// The wall clock; before 1970 it counts as 1970.
#[must_use]
pub fn wall() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Since the host booted, the time that it slept included: a lease runs out for a sleeping host as well.
#[must_use]
pub fn mono() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}
