//! What a host is asked in a rollout that brings nothing: to restart or reload services of the release that it runs.

use landfall_common::assignment::Order;

use crate::log::LogEvent;
use crate::member::{Left, MemberState};
use crate::timing::ACTIVATE_ACCEPT;

use super::absorb;
use super::table::Table;

/// Asks it, or says why it cannot be asked; whether it was asked.
pub(super) fn ask(table: &mut Table<'_>, at: usize) -> bool {
    let rollout = table.rollout();
    let Some(restart) = rollout.restart.clone() else { return false };
    let (id, release, now) = (rollout.id.clone(), rollout.release.clone(), table.now);
    let (min_healthy, healthy_deadline) = (rollout.strategy.min_healthy, rollout.strategy.healthy_deadline);
    if !table.seats[at].fresh.is_some_and(|received| received.report.restarts) {
        let reason =
            format!("its agent is of a version that cannot {} services; upgrade it", restart.kind.as_str());
        let host = table.seats[at].host.record.id.clone();
        table.log(LogEvent::HostFailed { rollout: id, host, release: release.name, reason: reason.clone() });
        table.seats[at].fail(Left::Untouched, absorb::failure("accept", reason), now);
        return false;
    }
    let order =
        Order::Restart { kind: restart.kind, services: restart.services, min_healthy, healthy_deadline };
    let generation = table.issue(at, release, id, order, ACTIVATE_ACCEPT);
    table.seats[at].asked(MemberState::Granted { generation }, now);
    true
}
