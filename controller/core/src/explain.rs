//! Why a rollout or a host is as it is: one account of it, made of the records, of what was seen, and of what a run
//! of the planner says. Nothing is found out here that the planner does not decide upon.

use landfall_common::{ReleaseName, Timestamp};
use serde::Serialize;

use crate::observation::Host;

mod host;
mod next;
mod rollout;

pub use crate::plan::Deadline;
pub use host::{Asked, HostAccount, HostFailed, Part, Should, host};
pub use rollout::{FirstFailure, RolloutAccount, rollout};

/// A command to type next, and what it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Next {
    /// As it is typed.
    pub command: String,
    /// What it does, as the second half of a sentence.
    pub does: String,
}

/// Hosts that run the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Runs {
    /// What they say is active; `None` for nothing, or for hosts that were not heard of since this controller began.
    pub release: Option<ReleaseName>,
    /// Whether it was proven on them.
    pub proven: bool,
    /// Those of them that say so now; of the others it is what they said last.
    pub fresh: usize,
    /// Which.
    pub hosts: Vec<landfall_common::HostId>,
}

/// Hosts by what they run, the most common first.
pub(crate) fn runs<'h>(hosts: impl Iterator<Item = &'h Host>, now: Timestamp) -> Vec<Runs> {
    let mut found: std::collections::BTreeMap<(Option<ReleaseName>, bool), Runs> = Default::default();
    for host in hosts {
        let active = host.seen.report.as_ref().and_then(|received| received.report.active.as_ref());
        let (release, proven) =
            (active.map(|active| active.release.name.clone()), active.is_some_and(|active| active.proven));
        let key = (release.clone(), proven);
        let same = found.entry(key).or_insert_with(|| Runs { release, proven, fresh: 0, hosts: Vec::new() });
        same.fresh += usize::from(host.fresh(now).is_some());
        same.hosts.push(host.record.id.clone());
    }
    let mut found: Vec<Runs> = found.into_values().collect();
    found.sort_by_key(|same| std::cmp::Reverse(same.hosts.len()));
    found
}
