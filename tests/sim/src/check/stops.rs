//! Required stops: a host comes to a release only from what that follows, or from something newer; whoever orders it, and
//! whatever the power takes. What goes back, by an order or by itself, is held by nothing.
//!
//! All that this looks at is what `current` names on the disk of each host, one after the other, and which release its
//! agent says that it has proven.

use std::collections::BTreeMap;

use landfall_common::HostId;
use landfall_common::ReleaseName;

use super::{Checks, Violation};

/// What each host runs, and where it came from.
pub type Stops = BTreeMap<HostId, Stands>;

/// A release on a host.
#[derive(Debug, Clone)]
pub struct Stands {
    release: ReleaseName,
    /// Whether it was proven since it is there.
    proven: bool,
    /// From where, until it is proven: a host that fails on it goes back, and a power cut may take it there.
    from: Option<Box<Stands>>,
}

impl Checks {
    /// `current` of a host names this release now.
    pub(super) fn comes_to(&mut self, host: &HostId, release: &ReleaseName) -> Result<(), Violation> {
        let before = self.stops.remove(host);
        let Some(before) = before else {
            self.stops.insert(host.clone(), Stands { release: release.clone(), proven: false, from: None });
            return Ok(());
        };
        if before.release == *release {
            self.stops.insert(host.clone(), before);
            return Ok(());
        }
        // Back to where it came from, as if it had not been here.
        let mut earlier = before.from.as_deref();
        while let Some(one) = earlier {
            if one.release == *release {
                self.stops.insert(host.clone(), one.clone());
                return Ok(());
            }
            earlier = one.from.as_deref();
        }
        let judged = self.may_come(host, &before, release);
        let from = (!before.proven).then(|| before.from.clone()).flatten();
        let from = Some(Box::new(Stands { from, ..before }));
        self.stops.insert(host.clone(), Stands { release: release.clone(), proven: false, from });
        judged
    }

    fn may_come(&mut self, host: &HostId, from: &Stands, release: &ReleaseName) -> Result<(), Violation> {
        let plan =
            |name: &ReleaseName| self.releases.values().find(|r| r.reference.name == *name).map(|r| &r.plan);
        let (Some(here), Some(there)) = (plan(&from.release), plan(release)) else { return Ok(()) };
        let Some(stop) = there.follows else { return Ok(()) };
        let is_met = here.number > stop || (here.number == stop && from.proven);
        let goes_back = there.number < here.number;
        if here.number == stop && is_met {
            self.stopped += 1;
        }
        // The first one ever, of which not more than the name has come there: its swap has failed, nothing was started, and
        // the host says that nothing runs. It has nothing to convert.
        let says_nothing = self.heard.get(host).is_some_and(|heard| heard.report.active.is_none());
        let never_ran = !from.proven && from.from.is_none() && says_nothing;
        if goes_back || is_met || never_ran {
            return Ok(());
        }
        let proven = if from.proven { "proven" } else { "not proven" };
        let what =
            format!("{host} comes to {release}, which follows v{stop}, from {}, {proven}", from.release);
        Err(Violation::new("P1", what))
    }

    /// An agent says what it has proven.
    pub(super) fn stands_on(&mut self, host: &HostId, release: &ReleaseName, proven: bool) {
        if let Some(stands) = self.stops.get_mut(host).filter(|stands| stands.release == *release && proven) {
            stands.proven = true;
            stands.from = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::ReleasePlan;
    use landfall_common::strategy::Strategy;

    /// `v1 v2! v3`: what one host runs, one after the other, and with `!` that it is proven.
    fn judge(way: &str) -> Result<(), String> {
        let releases = (1..=4).map(|number| {
            let mut plan = ReleasePlan::good(number, Strategy::default());
            plan.follows = (number == 3).then_some(2);
            plan.build()
        });
        let mut checks = Checks::new(1, &releases.collect::<Vec<_>>());
        let host = HostId::new("web-1").expect("a valid name");
        for word in way.split(' ') {
            let name = ReleaseName::new(word.trim_end_matches('!')).expect("a valid name");
            checks.comes_to(&host, &name).map_err(|violation| violation.what)?;
            checks.stands_on(&host, &name, word.ends_with('!'));
        }
        Ok(())
    }

    #[test]
    fn a_stop_that_is_skipped_is_seen_and_a_way_back_is_none() {
        for good in [
            "v1! v2! v3!",
            "v3",
            "v1! v4! v3! v4!",
            "v2! v3! v1! v2! v3!",
            // It fails, and goes back by itself; or its power goes before the link is on the disk.
            "v1! v2! v3 v2 v3!",
            "v3! v1 v3 v3!",
            "v3! v2 v1 v3",
        ] {
            assert_eq!(judge(good), Ok(()), "{good}");
        }
        for bad in ["v1! v3!", "v1! v2 v3", "v3! v1! v3!", "v2! v1! v3"] {
            assert!(judge(bad).is_err(), "{bad}");
        }
    }
}
