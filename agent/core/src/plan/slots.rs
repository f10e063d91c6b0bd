//! The steps of a release whose service has two slots: start in the free one, warm up, lead requests there.
//!
//! Everything that may go wrong comes before the swap, and nothing that serves is touched before requests
//! go elsewhere.

use landfall_common::manifest::traffic::Slot;

use super::{Action, Aim, Installed, Placement, Target, TrafficOutline, changed};

/// Into the slot that requests are not led to.
pub(super) fn forward(from: Option<&Installed>, to: &Installed, placement: &Placement) -> Vec<Action> {
    let aimed = placement.aimed().or_else(|| placement.last().and_then(Aim::slot));
    // Where nobody knows what requests are led to, a slot in which nothing runs is the one that is free.
    let empty = || [Slot::Blue, Slot::Green].into_iter().find(|slot| !placement.slots.contains_key(slot));
    let slot = aimed.map(Slot::other).or_else(empty).unwrap_or(Slot::Blue);
    let mut plan = Vec::new();
    // An earlier release with a gate was left in place behind it.
    if placement.last().is_some_and(|aim| matches!(aim.to, Target::Open | Target::Nowhere)) {
        plan.extend(left(to, placement));
    }
    let occupant = placement.slots.get(&slot);
    let kept = aimed.is_some() && occupant == Some(&to.release.name);
    if let Some(release) = occupant.filter(|_| !kept) {
        // Only what is certain not to serve is ended.
        let other = placement.slots.get(&slot.other()).map(|release| {
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
