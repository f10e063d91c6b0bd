//! The steps of a release whose service has two slots: start in the free one, warm up, lead requests there.
//!
//! Everything that may go wrong comes before the swap, and nothing that serves is touched before requests
//! go elsewhere.

use landfall_common::manifest::traffic::Slot;

use super::{Action, Aim, Installed, Placement, Target, TrafficOutline, changed};

/// Into the slot that requests are not led to.
pub(super) fn forward(from: Option<&Installed>, to: &Installed, placement: &Placement) -> Vec<Action> {
    let aimed = placement.aimed().or_else(|| placement.last().and_then(Aim::slot));
    // Where nobody knows what requests are led to, a slot in which nothing runs is the one that is free, or one that they
    // were never led to.
    let both = [Slot::Blue, Slot::Green];
    let empty = || both.into_iter().find(|slot| !placement.slots.contains_key(slot));
    let unused = || both.into_iter().find(|slot| !placement.may_lead_to(*slot));
    let slot = aimed.map(Slot::other).or_else(empty).or_else(unused).unwrap_or(Slot::Blue);
    let mut plan = Vec::new();
    // An earlier release with a gate was left in place behind it.
    if placement.last().is_some_and(|aim| matches!(aim.to, Target::Open | Target::Nowhere)) {
        plan.extend(left(to, placement));
    }
    let occupant = placement.slots.get(&slot);
    let kept = aimed.is_some() && occupant == Some(&to.release.name);
    if let Some(release) = occupant.filter(|_| !kept) {
        // Only what is certain not to serve is ended. To the other slot requests have been led before: it was warm then.
        let other =
            placement.slots.get(&slot.other()).filter(|_| placement.may_lead_to(slot)).map(|release| {
                let to = Target::Slot { slot: slot.other(), release: release.clone() };
                Aim { by: release.clone(), to }
            });
        plan.extend(placement.aim.clone().or(other).map(|aim| Action::Lead { aim }));
        plan.push(Action::Retire { slot, release: release.clone() });
    }
    plan.extend(into(slot, kept, from, to));
    plan
}

/// Into this slot, whatever was there before.
pub(super) fn into(slot: Slot, kept: bool, from: Option<&Installed>, to: &Installed) -> Vec<Action> {
    let mut plan = serve(slot, kept, to);
    plan.insert(1, Action::WarmUp { slot, release: to.release.name.clone() });
    plan.push(Action::swap(to));
    plan.extend(changed(from, to));
    plan
}

/// Runs there, and gets the requests.
pub(super) fn serve(slot: Slot, kept: bool, to: &Installed) -> Vec<Action> {
    let release = to.release.name.clone();
    let target = Target::Slot { slot, release: release.clone() };
    vec![Action::Start { slot, release, kept }, Action::lead(&to.release.name, target)]
}

/// The slot in which a release ran before a plan was begun.
pub(super) fn before(begun: &[Action], release: &Installed, placement: &Placement) -> Option<Slot> {
    let started = begun.iter().find_map(|action| match action {
        Action::Start { slot, .. } => Some(*slot),
        _ => None,
    });
    let name = &release.release.name;
    [Slot::Blue, Slot::Green]
        .into_iter()
        .find(|slot| Some(*slot) != started && placement.slots.get(slot) == Some(name))
}

/// Undoes the aim of a release with traffic for one without: to where its service itself listens, and to
/// this host.
pub(super) fn left(to: &Installed, placement: &Placement) -> Option<Action> {
    let aim = placement.last()?;
    let is_certain = placement.trying.is_none();
    let release = to.release.name.clone();
    match &aim.to {
        Target::Plain { release: known } if is_certain && *known == release => None,
        Target::Slot { .. } | Target::Plain { .. } => Some(Action::lead(&aim.by, Target::Plain { release })),
        Target::Open if is_certain => None,
        Target::Open | Target::Nowhere => Some(Action::lead(&aim.by, Target::Open)),
    }
}

/// The placement as it may be after some steps of a release.
pub(super) fn led(to: &Installed, placement: &Placement) -> Placement {
    let release = to.release.name.clone();
    let target = match &to.outline.traffic {
        Some(TrafficOutline::Slots { .. }) => {
            placement.slot_of(&release).map(|slot| Target::Slot { slot, release: release.clone() })
        }
        Some(TrafficOutline::Gate) => Some(Target::Nowhere),
        None => None,
    };
    let aim = target.map(|to| Aim { by: release, to }).or_else(|| placement.last().cloned());
    Placement { aim, trying: None, doubted: Default::default(), ..placement.clone() }
}

/// Ends what runs in slots, for a release that has none.
pub(super) fn vacated(placement: &Placement) -> impl Iterator<Item = Action> {
    placement.slots.iter().map(|(slot, release)| Action::Retire { slot: *slot, release: release.clone() })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use landfall_common::assignment::ReleaseRef;
    use landfall_common::time::Duration;
    use landfall_common::{ReleaseCounter, Sha256};

    use super::*;
    use crate::outline::Outline;

    fn name(text: &str) -> landfall_common::ReleaseName {
        text.parse().unwrap()
    }

    fn release(text: &str) -> Installed {
        let traffic =
            Some(TrafficOutline::Slots { service: "web".parse().unwrap(), keep: Duration::from_secs(60) });
        let digest = Sha256::of(text.as_bytes());
        let release = ReleaseRef { name: name(text), counter: ReleaseCounter(2), digest, length: 1 };
        Installed { release, outline: Outline { traffic, ..Outline::default() } }
    }

    fn names(plan: &[Action]) -> Vec<String> {
        plan.iter().map(|action| action.name().to_string()).collect()
    }

    /// Nobody knows whether requests go to the first slot, and what is in the other one was never warm (found by the
    /// simulation, seed 88518054): they are not led there to make room.
    #[test]
    fn room_is_made_in_the_slot_that_requests_were_never_led_to() {
        let plain = Aim { by: name("v2"), to: Target::Plain { release: name("v1") } };
        let placement = Placement {
            slots: BTreeMap::from([(Slot::Blue, name("v2")), (Slot::Green, name("v3"))]),
            trying: Some(plain),
            doubted: BTreeSet::from([Slot::Blue]),
            ..Placement::default()
        };
        let plan = forward(None, &release("v2"), &placement);
        assert_eq!(names(&plan), ["retire-green", "start-green", "warm-up-green", "switch-green", "swap"]);
    }
}
