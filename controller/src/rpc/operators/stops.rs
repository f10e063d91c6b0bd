//! Which hosts come to a release over others, and which cannot come to it, as a plan tells it.

use landfall_controller_core::preview::{Over, Plan, PlannedStops};
use landfall_controller_core::reason::Hosts;

/// A sentence for all that go the same way.
pub(super) fn notes(plan: &Plan) -> impl Iterator<Item = String> + use<'_> {
    plan.stops.iter().map(note)
}

fn note(planned: &PlannedStops) -> String {
    let hosts: Hosts = planned.hosts.iter().cloned().collect();
    let one = planned.hosts.len() == 1;
    match &planned.over {
        Over::Stops { releases } => {
            let releases: Vec<&str> = releases.iter().map(|release| release.as_str()).collect();
            let takes = if one { "takes" } else { "take" };
            format!("{hosts} {takes} {} first", releases.join(", then "))
        }
        Over::NoWay { reason } => {
            let counts = if one { "counts" } else { "count" };
            format!("{hosts} cannot come to it, and {counts} as failed: {reason}")
        }
    }
}
