//! Required stops: which release a host takes next on its way to another one.
//!
//! A release may say that it follows an older one: what that one converts on each host, it expects to find converted. A
//! host that runs something older still takes the older one first, is proven on it, and goes on from there. This is the
//! only rule about it; whoever stages, lets go, corrects, plans or explains asks it.
//!
//! Numbers decide, and what a release follows has a lower one, so that a way has an end and goes up. A way back is never
//! held: from what is newer than its target, a host has been wherever that target demands. What a stop has done to the
//! host nobody can tell, and so one that went back and goes forth again takes the stops again.

use std::fmt;

use landfall_common::ReleaseName;
use landfall_common::assignment::ReleaseRef;
use landfall_common::report::Active;

use crate::record::{Place, PlaceRecord, ReleaseRecord};
use crate::refusal::moment;
use crate::schema::{self, Way};
use crate::state::State;

/// Why a host cannot come to a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoWay {
    /// What it runs.
    pub from: ReleaseName,
    /// The release that demands a stop: the one that it is to run, or a stop on the way there.
    pub to: ReleaseName,
    /// The stop that it cannot take.
    pub stop: ReleaseName,
    /// Why it cannot, as the second half of a sentence about the stop.
    pub why: String,
    /// What helps beside what always does.
    pub helps: Option<String>,
}

impl NoWay {
    /// Why a host cannot, without what to do about it: `v1.2 follows v1.1, whose files were removed at …`.
    #[must_use]
    pub fn reason(&self) -> String {
        format!("{} follows {}, {}", self.to, self.stop, self.why)
    }
}

impl fmt::Display for NoWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it runs {}, and {}; what helps: ", self.from, self.reason())?;
        if let Some(helps) = &self.helps {
            write!(f, "{helps}; or ")?;
        }
        write!(
            f,
            "a release that follows something else, or to build the host anew; `ctl hosts cordon` leaves it as it is"
        )
    }
}

/// The stops between what a host runs and `target`, in the order in which it takes them; none if it may take `target` as it
/// is. `known` knows the releases, and `closed` says why one cannot be taken now.
pub(crate) fn way<'r>(
    runs: Option<&Active>,
    target: &ReleaseRef,
    known: impl Fn(&ReleaseName) -> Option<&'r ReleaseRecord>,
    closed: impl Fn(&ReleaseRecord) -> Option<Closed>,
) -> Result<Vec<ReleaseRef>, NoWay> {
    // A host that runs nothing has nothing to convert.
    let Some(runs) = runs else { return Ok(Vec::new()) };
    let mut way = Vec::new();
    let mut next = known(&target.name).filter(|record| record.release.digest == target.digest);
    while let Some(record) = next {
        let demands = record.follows.as_ref();
        let Some(follows) = demands.filter(|stop| !stop.is_met_by(runs.release.counter, runs.proven)) else {
            break;
        };
        let no_way = |closed: Closed| NoWay {
            from: runs.release.name.clone(),
            to: record.release.name.clone(),
            stop: follows.release.clone(),
            why: closed.why,
            helps: closed.helps,
        };
        // Its publishing was refused; here it must not become a way without an end.
        if follows.counter >= record.release.counter {
            return Err(no_way(Closed::because("which is no older release")));
        }
        let stop = known(&follows.release).filter(|stop| stop.release.counter == follows.counter);
        let stop = stop.ok_or_else(|| no_way(Closed::because("which is not published here")))?;
        if let Some(closed) = closed(stop) {
            return Err(no_way(closed));
        }
        way.push(stop.release.clone());
        next = Some(stop);
    }
    way.reverse();
    Ok(way)
}

/// Why a release cannot be taken now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Closed {
    why: String,
    helps: Option<String>,
}

impl Closed {
    fn because(why: impl Into<String>) -> Self {
        Self { why: why.into(), helps: None }
    }
}

/// The stops of a host of this place on its way to `target`. `place` is its record as it will be when the host goes: a
/// stop runs only on a schema that it knows (P7).
pub(crate) fn of(
    state: &State,
    place: &PlaceRecord,
    runs: Option<&Active>,
    target: &ReleaseRef,
) -> Result<Vec<ReleaseRef>, NoWay> {
    let known = |name: &ReleaseName| state.release(&place.place.application, name);
    way(runs, target, known, |stop| closed(state, place, stop))
}

/// Why a stop cannot be taken in a place, if it cannot.
fn closed(state: &State, place: &PlaceRecord, stop: &ReleaseRecord) -> Option<Closed> {
    let name = &stop.release.name;
    if let Some(at) = stop.content.removed_at() {
        let why = format!("whose files were removed from the controller at {}", moment(at));
        let helps = format!("`ctl release {name} --publish-only` in its repository uploads them again");
        return Some(Closed { why, helps: Some(helps) });
    }
    let Place { environment, .. } = &place.place;
    if !stop.environments.contains_key(environment) {
        return Some(Closed::because(format!("which is not for {environment}")));
    }
    match schema::way_back(state, place, &stop.release) {
        Way::Code => None,
        // As a stop it may never have been in force here.
        _ if lacks_its_migration(place, stop) => {
            let helps = format!("`ctl release {name}` before it runs that");
            Some(Closed { why: "whose migration has not run here".to_owned(), helps: Some(helps) })
        }
        Way::Down(migration) => Some(Closed::because(format!(
            "which does not run on the schema of {} that the database has",
            migration.release.name
        ))),
        Way::Blocked { reason, .. } => {
            Some(Closed::because(format!("which does not run on the schema that the database has: {reason}")))
        }
    }
}

/// Whether a release brings a migration that the database of a place has never taken.
fn lacks_its_migration(place: &PlaceRecord, stop: &ReleaseRecord) -> bool {
    matches!(schema::forward(place, stop), crate::rollout::Schema::Due { .. })
        && !place.has_proven(&stop.release)
}

/// What a release demands of the hosts that take it, and what that demands of them, and so on: the newest stop first. At
/// most so many, whatever the records say.
pub(crate) fn demanded<'s>(
    state: &'s State,
    place: &Place,
    release: &ReleaseName,
    most: usize,
) -> impl Iterator<Item = &'s ReleaseName> + use<'s> {
    let application = place.application.clone();
    let below = move |name: &ReleaseName| {
        let follows = state.release(&application, name)?.follows.as_ref()?;
        Some(&follows.release)
    };
    std::iter::successors(below(release), move |stop| below(stop)).take(most)
}

#[cfg(test)]
mod tests;
