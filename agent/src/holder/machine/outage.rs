//! Programs that may not run beside others: everything else ends first, and the service is *out* meanwhile.
//!
//! A candidate with a *hold* is started when all that ran has ended. Connections wait on the socket until it is
//! ready. Once that has lasted as long as the hold they are refused, and the candidate has failed; what served
//! before is started again, as it is after any failure of the candidate, and whatever is ready first ends the outage.

use landfall_common::time::human;

use super::{Candidate, Effect, Life, Machine, Mono, limit};
use crate::holder::spec::ChildSpec;

/// What served was ended, so that another may start.
#[derive(Debug, Clone)]
pub(super) struct Outage {
    pub since: Mono,
    /// Until then connections wait.
    pub until: Mono,
    address: String,
    pub refusing: bool,
}

impl Machine {
    /// Whether something may only run once everything else has ended.
    #[must_use]
    pub fn awaits_ends(&self) -> bool {
        let wanted = self.serving.iter().map(|current| &current.child);
        let wanted = wanted.chain(self.candidate.iter().map(|candidate| &candidate.child));
        wanted.into_iter().any(|child| child.hold.is_some())
    }

    /// Whether this may be started now: one that may not run beside others waits until all have ended.
    pub(super) fn is_free_for(&self, child: &ChildSpec) -> bool {
        child.hold.is_none() || self.ending.is_empty()
    }

    /// Ends what serves, so that a candidate can start which may not run beside it.
    pub(super) fn make_way(&mut self, child: &ChildSpec, now: Mono, effects: &mut Vec<Effect>) {
        let Some(current) = &mut self.serving else { return };
        let old = current.clone();
        // It is started again only if the candidate fails.
        current.life = Life::Waiting { until: Mono::MAX };
        let hold = child.hold.filter(|_| old.is_running());
        if let (Some(hold), Some(address), None) = (hold, &old.child.listen, &self.out) {
            let address = address.clone();
            self.out = Some(Outage { since: now, until: now + hold, address, refusing: false });
        }
        self.end_current(&old, now, effects);
    }

    /// A candidate has failed that had made what served end: that is started again.
    pub(super) fn bring_back(&mut self, now: Mono) {
        if self.stopping.is_some() {
            return;
        }
        if let Some(current) = &mut self.serving
            && let Life::Waiting { until: until @ Mono::MAX } = &mut current.life
        {
            *until = now;
        }
    }

    /// Something serves.
    pub(super) fn end_outage(&mut self, effects: &mut Vec<Effect>) {
        if self.out.take().is_some_and(|out| out.refusing) {
            effects.push(Effect::Admit);
        }
    }

    /// Connections have waited for as long as they may.
    pub(super) fn tick_outage(&mut self, now: Mono, effects: &mut Vec<Effect>) {
        let Some(out) = self.out.as_mut().filter(|out| !out.refusing && now >= out.until) else { return };
        out.refusing = true;
        effects.push(Effect::Refuse { address: out.address.clone() });
        let held = human::format(out.until - out.since);
        if let Some(candidate) = self.candidate.take() {
            let what = if candidate.waits { "what served before did not end" } else { "it was not ready" };
            let reason = format!(
                "{what} within the {held} for which connections are held; from then on they are refused"
            );
            self.give_up(candidate, reason, now, effects);
        }
    }
}

impl Candidate {
    /// When it has failed, or has stayed alive for long enough.
    pub(super) fn until(&self) -> Mono {
        self.since + if self.waits { self.child.hold.unwrap_or_default() } else { limit(&self.child.ready) }
    }

    /// What it means that this time has come.
    pub(super) fn too_late(&self) -> Option<String> {
        if self.waits {
            let held = human::format(self.child.hold.unwrap_or_default());
            return Some(format!("what has to end before it is started did not end within {held}"));
        }
        super::too_late(&self.child.ready)
    }
}
