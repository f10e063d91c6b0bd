//! P6 and P7, of a drill: it brings nothing to the fleet and nothing to a database, and is well over only if each host
//! that had the other release runs the one in force again.

use std::collections::BTreeSet;

use landfall_common::assignment::Order;
use landfall_common::strategy::Canary;
use landfall_common::{HostId, ReleaseName, Timestamp};
use landfall_controller_core::member::Member;
use landfall_controller_core::record::PlaceRecord;
use landfall_controller_core::rollout::{End, Rollout, RolloutKind, Status};

use super::{Checks, Violation};

impl Checks {
    /// A rollout's record has changed. `runs` tells what really is current on a host.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn drill_moves<'m>(
        &self,
        rollout: &Rollout,
        place: Option<&PlaceRecord>,
        members: impl Iterator<Item = &'m Member>,
        runs: impl Fn(&HostId) -> Option<(usize, Option<ReleaseName>)>,
        now: Timestamp,
    ) -> Result<(), Violation> {
        if rollout.kind != RolloutKind::Drill {
            return Ok(());
        }
        let id = &rollout.id;
        if place.is_some_and(|place| place.proven.iter().any(|proven| proven.rollout == *id)) {
            return Err(Violation::new(
                "P6",
                format!("drill {id} brought {} into force", rollout.release.name),
            ));
        }
        if self.database.runs.iter().any(|run| run.rollout == *id) {
            return Err(Violation::new("P7", format!("drill {id} has migrated")));
        }
        let sent = self.sent.values().filter(|sent| sent.rollout == *id && sent.release == rollout.release);
        let sent = sent.filter(|sent| matches!(sent.order, Order::Activate { .. }));
        let had: BTreeSet<&HostId> = sent.map(|sent| &sent.host).collect();
        if let Canary::Count(most) = rollout.strategy.canary
            && had.len() > most as usize
        {
            let what = format!("drill {id} let {} hosts go, and its canary is {most}", had.len());
            return Err(Violation::new("P6", what));
        }
        if !matches!(rollout.status, Status::Ended { end: End::Rehearsed { .. } }) {
            return Ok(());
        }
        let Some(back_to) = &rollout.previous else {
            return Err(Violation::new("P6", format!("drill {id} had nothing to come back to")));
        };
        for member in members.filter(|member| had.contains(&member.host)) {
            let Some((_, really)) = runs(&member.host) else { continue };
            let wrong = |why: String| {
                Violation::new("P6", format!("drill {id} is well over, and {} {why}", member.host))
            };
            if really.as_ref() != Some(&back_to.name) {
                return Err(wrong(format!("runs {really:?}")));
            }
            self.is_evident(&member.host, back_to.digest, landfall_common::Duration::ZERO, now)
                .map_err(wrong)?;
        }
        Ok(())
    }
}
