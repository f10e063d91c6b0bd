//! Order among the rollouts of a place: what hinders one from beginning, and who stands in line.

use landfall_common::assignment::ReleaseRef;
use landfall_common::strategy::Closed;
use landfall_common::{ReleaseName, RolloutId, Timestamp};

use crate::approval;
use crate::command::RollRequest;
use crate::entry;
use crate::evidence::{self, Lacking};
use crate::holder::Holder;
use crate::proof::{self, Unproven};
use crate::reason::{InLine, Wait};
use crate::record::{Lock, Place, PlaceRecord};
use crate::refusal::Refusal;
use crate::rollout::{End, Known, Rollout, Status};
use crate::state::State;
use crate::stops;

/// What hinders a rollout from beginning in a place.
#[derive(Debug, Clone)]
pub(crate) enum Hindrance<'a> {
    /// Another one is under way.
    Held(&'a Rollout),
    /// Another one is before it in line.
    Behind(&'a Rollout),
    /// Somebody has claimed the place.
    Locked(Lock),
    /// It is not the time for it.
    Closed(Closed),
    /// It has to be proven elsewhere before.
    Unproven(Unproven),
    /// CI has to have said that it is good.
    Unevidenced(Lacking),
}

/// What hinders a rollout from beginning; `id` is its own, if it stands in line already.
pub(crate) fn hindrance<'a>(
    state: &'a State,
    place: &'a PlaceRecord,
    id: Option<&RolloutId>,
    wanted: (&ReleaseRef, &RollRequest),
    now: Timestamp,
) -> Option<Hindrance<'a>> {
    if let Some(holder) = place.holder.as_ref().and_then(|holder| state.rollout(holder)) {
        return Some(Hindrance::Held(holder));
    }
    let first = place.line.first().filter(|first| Some(*first) != id);
    if let Some(first) = first.and_then(|first| state.rollout(first)) {
        return Some(Hindrance::Behind(first));
    }
    state.lock(place, now).map(Hindrance::Locked).or_else(|| barred(state, place, wanted, now))
}

/// What keeps it from beginning now whatever else does: neither a lock nor a calendar nor a proof nor evidence is
/// superseded.
pub(crate) fn barred<'a>(
    state: &'a State,
    place: &'a PlaceRecord,
    (release, request): (&ReleaseRef, &RollRequest),
    now: Timestamp,
) -> Option<Hindrance<'a>> {
    let outside = !request.outside_window.is_empty();
    let closed = if outside { None } else { entry::closed(state, place, release, now) };
    let unproven = || proof::missing(state, place, release, request).map(Hindrance::Unproven);
    let unevidenced = || evidence::missing(state, place, release, request).map(Hindrance::Unevidenced);
    closed.map(Hindrance::Closed).or_else(unproven).or_else(unevidenced)
}

impl Hindrance<'_> {
    /// The answer to whoever does not want to wait.
    pub fn refusal(&self, place: &PlaceRecord) -> Refusal {
        let at = Box::new(place.place.clone());
        match self {
            Self::Held(holder) => Refusal::Held { place: at, holder: Box::new(Holder::of(holder)) },
            Self::Behind(first) => Refusal::LineNotEmpty {
                place: at,
                first: first.id.clone(),
                release: first.release.name.clone(),
                by: first.by.to_string(),
                since: first.requested_at,
            },
            Self::Locked(lock) => Refusal::Locked {
                place: at,
                by: lock.by.to_string(),
                until: lock.until,
                message: lock.message.clone(),
            },
            Self::Closed(closed) => Refusal::Closed { place: at, closed: closed.clone() },
            Self::Unproven(unproven) => Refusal::Unproven(Box::new(unproven.clone())),
            Self::Unevidenced(lacking) => Refusal::Unevidenced(Box::new(lacking.clone())),
        }
    }

    /// The answer to whoever wants a drill: neither waiting in line nor passing by is for those.
    pub fn no_drill(&self, place: &PlaceRecord) -> Refusal {
        let reason = match self {
            Self::Closed(closed) => format!("it {closed}"),
            Self::Unproven(unproven) => format!("{unproven}; {}", unproven.next()),
            Self::Unevidenced(lacking) => format!("{lacking}; {}", lacking.next()),
            Self::Held(_) | Self::Behind(_) | Self::Locked(_) => return self.refusal(place),
        };
        Refusal::NoDrill { place: Box::new(place.place.clone()), reason }
    }

    pub fn why(&self) -> InLine {
        match self {
            Self::Held(holder) => InLine::Held(Box::new(Holder::of(holder))),
            Self::Behind(first) => {
                InLine::Behind { rollout: first.id.clone(), release: first.release.name.clone() }
            }
            Self::Locked(lock) => {
                InLine::Locked { by: lock.by.to_string(), until: lock.until, message: lock.message.clone() }
            }
            Self::Closed(closed) => InLine::Closed { why: closed.to_string(), opens: closed.opens },
            Self::Unproven(unproven) => InLine::Unproven(Box::new(unproven.clone())),
            Self::Unevidenced(lacking) => InLine::Unevidenced(Box::new(lacking.clone())),
        }
    }
}

/// What would hinder a rollout from beginning at once, as the second half of a sentence: `waits for …`.
#[must_use]
pub fn hindered(
    state: &State,
    place: &Place,
    wanted: (&ReleaseRef, &RollRequest),
    now: Timestamp,
) -> Option<String> {
    hindrance(state, state.place(place)?, None, wanted, now).map(|found| found.why().to_string())
}

/// What has gone wrong here so far, for whoever says now that `release` is to begin: of it, and of what hosts may have to
/// take before it.
pub(crate) fn known(state: &State, place: &PlaceRecord, release: &ReleaseRef) -> Known {
    let all = state.releases(&place.place.application).count();
    let stops: Vec<&ReleaseName> = stops::demanded(state, &place.place, &release.name, all).collect();
    let is_it = |name: &ReleaseName| *name == release.name || stops.contains(&name);
    let same = |other: &&Rollout| other.place == place.place && tried(state, other).any(is_it);
    let failed = state.rollouts().filter(same).filter(|other| went_wrong(state, other).is_some());
    Known { last: place.last.clone(), failed: failed.map(|other| other.id.clone()).collect() }
}

/// What a rollout brought to hosts, or tried to: its release, and the stops that failed on the way to it.
pub(crate) fn tried<'s>(state: &'s State, rollout: &'s Rollout) -> impl Iterator<Item = &'s ReleaseName> {
    let stops = state.members(&rollout.id).filter_map(|member| member.failed_at.as_ref());
    std::iter::once(&rollout.release.name).chain(stops)
}

/// How a rollout that did not bring its release ended, if it has.
pub(crate) fn went_wrong(state: &State, rollout: &Rollout) -> Option<&'static str> {
    let failed_somewhere =
        || state.members(&rollout.id).any(|member| member.state.failed() && !member.state.barred());
    match &rollout.status {
        // It brought nothing: the release had been proven before.
        _ if rollout.is_restart() => None,
        Status::Ended { end: End::Failed { .. } } => Some("has failed"),
        Status::Ended { end: End::RolledBack { .. } } => Some("was rolled back"),
        Status::Ended { end: End::Aborted { .. } } if failed_somewhere() => {
            Some("had failed on hosts and was aborted")
        }
        _ => None,
    }
}

/// What a rollout that stands in line waits for: others or somebody's word first, then approvals. Nothing if it does
/// not stand in line.
#[must_use]
pub fn waits(state: &State, rollout: &Rollout, now: Timestamp) -> Vec<Wait> {
    let (Some(place), Some(request)) = (state.place(&rollout.place), rollout.in_line()) else {
        return Vec::new();
    };
    let others = match &rollout.status {
        Status::Paused { reason, by, .. } => {
            Some(InLine::Paused { reason: reason.clone(), by: by.to_string(), since: rollout.since })
        }
        _ => hindrance(state, place, Some(&rollout.id), (&rollout.release, request), now)
            .map(|found| found.why()),
    };
    let mut waits: Vec<InLine> = others.into_iter().chain(approval::missing(state, place, rollout)).collect();
    if waits.is_empty() {
        waits.push(InLine::Next);
    }
    let told = |why| Wait::InLine { rollout: rollout.id.clone(), release: rollout.release.name.clone(), why };
    waits.into_iter().map(told).collect()
}
