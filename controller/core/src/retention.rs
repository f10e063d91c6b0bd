//! Which releases somebody may still be brought to, so that their content has to stay.
//!
//! Every other release stays listed, in the log and in the answer to who asks, and can be released again from
//! its tag; only its files go. What goes is proposed by [`surplus`] and settled by
//! [`crate::command::Action::RemoveContent`], which looks again: a rollout may have begun in between.

use std::collections::BTreeSet;

use landfall_common::{AppName, ReleaseName, Timestamp};

use crate::record::{Content, PlaceRecord, WayBackKind};
use crate::state::State;
use crate::stops;
use crate::timing::{HISTORY, RESTORED_KEPT};

/// An application and one of its releases.
pub type Named = (AppName, ReleaseName);

/// The releases whose content has to stay: those that a host runs or was last asked for, those of rollouts
/// under way and of the last one of each place, the last `keep` that were proven in each place, the `keep`
/// newest of each application, the migrations that may have to be taken back, and what the releases in force and
/// those of rollouts demand that a host has run before. Where the definition in
/// force lets hosts keep more than `keep`, so many.
#[must_use]
pub fn needed(state: &State, keep: usize) -> BTreeSet<Named> {
    let mut needed = BTreeSet::new();
    for place in state.places() {
        let application = &place.place.application;
        let of_place = names_of(state, place, keep);
        needed.extend(of_place.into_iter().map(|name| (application.clone(), name)));
    }
    for host in state.all_hosts() {
        let application = &host.record.place.application;
        let reported = host.seen.report.as_ref().and_then(|received| received.report.active.as_ref());
        let asked = [&host.issued.assignment, &host.issued.requests].into_iter().flatten();
        let asked = asked.map(|assignment| &assignment.release.name);
        let names = reported.map(|active| &active.release.name).into_iter().chain(asked);
        needed.extend(names.map(|name| (application.clone(), name.clone())));
    }
    for application in state.releases.keys() {
        let mut newest: Vec<_> = state.releases(application).collect();
        newest.sort_by_key(|record| std::cmp::Reverse(record.release.counter));
        let names = newest.into_iter().take(keep).map(|record| record.release.name.clone());
        needed.extend(names.map(|name| (application.clone(), name)));
    }
    needed
}

fn names_of(state: &State, place: &PlaceRecord, keep: usize) -> BTreeSet<ReleaseName> {
    let mut names = BTreeSet::new();
    let in_force = place.in_force().map(|proven| &proven.release.name);
    let wanted = in_force.and_then(|name| state.release(&place.place.application, name));
    let keep = keep.max(wanted.map_or(0, |record| record.hosts_keep as usize)).min(HISTORY);
    let mut oldest = None;
    for proven in place.proven.iter().rev() {
        if names.len() < keep || names.contains(&proven.release.name) {
            names.insert(proven.release.name.clone());
            oldest = oldest.min(Some(proven.release.counter)).or(Some(proven.release.counter));
        }
    }
    // Going back behind a reversible migration runs a command of the release that brought it.
    for applied in &place.migrations {
        let within = oldest.is_none_or(|oldest| applied.release.counter >= oldest);
        if within && applied.facts.way_back == WayBackKind::Reversible {
            names.insert(applied.release.name.clone());
        }
    }
    // Of the last one too: after an end half way its hosts run a mixture of both.
    let under_way = place.holder.iter().chain(&place.last).chain(&place.line);
    let under_way: Vec<_> = under_way.filter_map(|id| state.rollout(id)).collect();
    for rollout in &under_way {
        names.insert(rollout.release.name.clone());
        names.extend(rollout.previous.as_ref().map(|previous| previous.name.clone()));
    }
    // Hosts that were away, or are built from an old image, come to these over what they follow.
    let follow: Vec<_> = in_force
        .into_iter()
        .chain(under_way.iter().map(|rollout| &rollout.release.name))
        .flat_map(|name| stops::demanded(state, &place.place, name, HISTORY))
        .cloned()
        .collect();
    names.extend(follow);
    names
}

/// The releases whose content is here and is not needed.
#[must_use]
pub fn surplus(state: &State, keep: usize, now: Timestamp) -> BTreeSet<Named> {
    let needed = needed(state, keep);
    let may_go = |content| match content {
        Content::Here => true,
        Content::Restored { at } => now.since(at) > RESTORED_KEPT,
        Content::Removed { .. } => false,
    };
    let here = state.all_releases().filter(|record| may_go(record.content));
    here.map(|record| (record.application.clone(), record.release.name.clone()))
        .filter(|named| !needed.contains(named))
        .collect()
}
