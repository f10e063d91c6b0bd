//! The gate's question about one host: is there fresh evidence that it runs this release, healthily (P5)?

use landfall_common::assignment::ReleaseRef;
use landfall_common::report::Health;
use landfall_common::{Duration, Generation};

use crate::reason::Why;

use super::table::{Seat, Table};

/// `None` if there is evidence; else what is missing.
///
/// Evidence is a report that came over the connection that stands, not long ago, after the host had taken
/// the assignment, that names this digest as active and proven and has been healthy for long enough.
pub(super) fn missing(
    table: &Table<'_>,
    seat: &Seat<'_>,
    release: &ReleaseRef,
    generation: Generation,
    min_healthy: Duration,
) -> Option<Why> {
    let Some(received) = seat.fresh else { return Some(table.unheard(seat)) };
    let report = &received.report;
    if report.generation < generation {
        return Some(Why::Stale);
    }
    match &report.active {
        Some(active) if active.release.digest == release.digest && active.proven => {}
        Some(active) if active.release.digest == release.digest => return Some(Why::Stale),
        other => {
            return Some(Why::OtherRelease {
                release: other.as_ref().map(|active| active.release.name.clone()),
            });
        }
    }
    match &report.health {
        Health::Healthy { period } if *period >= min_healthy => None,
        Health::Healthy { period } => Some(Why::Young { period: *period, of: min_healthy }),
        Health::Unknown => Some(Why::Unhealthy { check: "no check has looked yet".to_owned() }),
        Health::Unhealthy { failing } => {
            let first = failing.iter().next();
            let check = first.map_or_else(String::new, |(name, saw)| format!("{name} {saw}"));
            Some(Why::Unhealthy { check })
        }
    }
}
