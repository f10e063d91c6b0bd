//! The steps that take a host from one release to another, and back: a plan is a value, made before the
//! first step and kept in the record.

mod slots;

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::assignment::RestartKind;
use landfall_common::manifest::traffic::Slot;
use landfall_common::{ReleaseName, ServiceName, StepName};
use serde::{Deserialize, Serialize};

use crate::placement::{Aim, Placement, Target, TrafficOutline};
use crate::record::Installed;

/// One step of an activation or of its undoing. Each may be repeated without harm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Action {
    /// Points `current` to a release, by one rename.
    Swap {
        /// To which.
        to: ReleaseName,
    },
    /// Makes a service run a release, starting it if it does not run.
    Restart {
        /// Which service.
        service: ServiceName,
        /// What it runs afterwards.
        release: ReleaseName,
    },
    /// Restarts or reloads a service that goes on with the same release.
    Renew {
        /// Which service.
        service: ServiceName,
        /// What it runs, before and afterwards.
        release: ReleaseName,
        /// Which of the two.
        kind: RestartKind,
    },
    /// Ends a service that the release to come does not have.
    Stop {
        /// Which service.
        service: ServiceName,
        /// The release that defines it.
        release: ReleaseName,
    },
    /// Starts a release in a slot.
    Start {
        /// Which slot.
        slot: Slot,
        /// What runs there afterwards.
        release: ReleaseName,
        /// It should run there already: it is started only if it does not.
        kept: bool,
    },
    /// Asks what runs in a slot until it answers as it should.
    WarmUp {
        /// Which slot.
        slot: Slot,
        /// The release that runs there.
        release: ReleaseName,
    },
    /// Leads requests elsewhere, and returns once new ones go there.
    Lead {
        /// Where.
        aim: Aim,
    },
    /// Ends what runs in a slot that no request is led to, after those under way have had their time.
    Retire {
        /// Which slot.
        slot: Slot,
        /// The release that runs there.
        release: ReleaseName,
    },
}

impl Action {
    pub(crate) fn swap(to: &Installed) -> Self {
        Self::Swap { to: to.release.name.clone() }
    }

    pub(crate) fn lead(by: &ReleaseName, to: Target) -> Self {
        Self::Lead { aim: Aim { by: by.clone(), to } }
    }

    /// The service with one place that it is about.
    pub(crate) fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::Restart { service, .. } | Self::Stop { service, .. } => Some(service),
            _ => None,
        }
    }

    /// What a person calls it: `swap`, `restart-web`, `stop-worker`, `switch-green`.
    #[must_use]
    pub fn name(&self) -> StepName {
        match self {
            Self::Swap { .. } => crate::step("swap"),
            Self::Restart { service, .. } => crate::step(&format!("restart-{service}")),
            Self::Renew { service, kind, .. } => crate::step(&format!("{}-{service}", kind.as_str())),
            Self::Stop { service, .. } => crate::step(&format!("stop-{service}")),
            Self::Start { slot, .. } => crate::step(&format!("start-{slot}")),
            Self::WarmUp { slot, .. } => crate::step(&format!("warm-up-{slot}")),
            Self::Retire { slot, .. } => crate::step(&format!("retire-{slot}")),
            Self::Lead { aim } => match &aim.to {
                Target::Slot { slot, .. } => crate::step(&format!("switch-{slot}")),
                Target::Plain { .. } => crate::step("switch-plain"),
                Target::Open => crate::step("undrain"),
                Target::Nowhere => crate::step("drain"),
            },
        }
    }
}

/// From what is active (if anything) to a release.
///
/// Without traffic: swap, restart its services in their order, then stop what it does not have any more. With
/// [slots](slots::forward) its service starts beside the one that serves, and with a gate the host is out
/// meanwhile.
#[must_use]
pub fn forward(from: Option<&Installed>, to: &Installed, placement: &Placement) -> Vec<Action> {
    match &to.outline.traffic {
        Some(TrafficOutline::Slots { .. }) => slots::forward(from, to, placement),
        Some(TrafficOutline::Gate) => {
            let by = &to.release.name;
            let mut plan = vec![Action::lead(by, Target::Nowhere), Action::swap(to)];
            plan.extend(changed(from, to));
            plan.extend(
                slots::left(to, placement).filter(|_| placement.last().and_then(Aim::slot).is_some()),
            );
            plan.push(Action::lead(by, Target::Open));
            plan.extend(slots::vacated(placement));
            plan
        }
        None => {
            let mut plan = vec![Action::swap(to)];
            plan.extend(changed(from, to));
            plan.extend(slots::left(to, placement));
            plan.extend(slots::vacated(placement));
            plan
        }
    }
}

/// Services of the active release anew, in their order, without a swap. Where a gate leads requests away around a change,
/// it does so around a restart; a reload drops none.
#[must_use]
pub fn renew(active: &Installed, services: &BTreeSet<ServiceName>, kind: RestartKind) -> Vec<Action> {
    let release = &active.release.name;
    let wanted = active.outline.services.iter().filter(|service| services.contains(*service));
    let mut plan: Vec<Action> = wanted
        .map(|service| Action::Renew { service: service.clone(), release: release.clone(), kind })
        .collect();
    let is_gated = matches!(active.outline.traffic, Some(TrafficOutline::Gate));
    if is_gated && kind == RestartKind::Restart && !plan.is_empty() {
        plan.insert(0, Action::lead(release, Target::Nowhere));
        plan.push(Action::lead(release, Target::Open));
    }
    plan
}

/// All steps of a release that is active: what is undone if it fails afterwards.
pub(crate) fn whole(from: Option<&Installed>, to: &Installed, placement: &Placement) -> Vec<Action> {
    match placement.slot_of(&to.release.name).filter(|_| to.outline.slotted().is_some()) {
        Some(slot) => slots::into(slot, false, from, to),
        None => forward(from, to, placement),
    }
}

/// From a release whose plan was begun, back to another: the inverse of each step of `begun`, which includes
/// the one that failed. Where `back` is not the release that was active before, any service may be in any
/// state, and all of them are restarted.
///
/// What runs in the slot of the failed release is not ended here but retired once this is over: nobody has
/// to wait for that.
#[must_use]
pub fn back(
    from: Option<&Installed>,
    to: &Installed,
    back: &Installed,
    begun: &[Action],
    placement: &Placement,
) -> Vec<Action> {
    let anew = || {
        let mut plan = forward(Some(to), back, placement);
        let known: BTreeSet<_> = plan.iter().map(Action::name).collect();
        let rest = from.into_iter().flat_map(|from| leftover(from, back));
        plan.extend(rest.filter(|action| !known.contains(&action.name())));
        plan
    };
    if from.is_none_or(|from| from.release != back.release) {
        return anew();
    }
    let was_led = begun.iter().any(|action| matches!(action, Action::Lead { .. }));
    let mut touched: BTreeSet<&ServiceName> = begun.iter().filter_map(Action::service).collect();
    // What is to get the requests again must run, and it may have stopped since.
    touched.extend(to.outline.slotted().filter(|_| was_led));
    let restarts = back.outline.plain().filter(|name| touched.contains(name)).map(|name| restart(name, back));
    let stops =
        leftover(to, back).filter(|action| action.service().is_some_and(|name| touched.contains(name)));
    let by = &back.release.name;
    match &back.outline.traffic {
        Some(TrafficOutline::Slots { .. }) => {
            let Some(slot) = slots::before(begun, back, placement) else { return anew() };
            // It was proven when it served, and so it is led to at once.
            let mut plan = slots::serve(slot, true, back);
            plan.push(Action::swap(back));
            plan.extend(restarts.chain(stops));
            plan
        }
        Some(TrafficOutline::Gate) => {
            let mut plan = vec![Action::lead(by, Target::Nowhere), Action::swap(back)];
            plan.extend(restarts.chain(stops));
            plan.push(Action::lead(by, Target::Open));
            plan
        }
        None => {
            let mut plan = vec![Action::swap(back)];
            plan.extend(restarts.chain(stops));
            if was_led {
                plan.extend(slots::left(back, &slots::led(to, placement)));
            }
            plan
        }
    }
}

/// Adds the ends of services that run on from earlier, unless the release has them or they are ended anyway.
pub(crate) fn end_strays(
    plan: &mut Vec<Action>,
    strays: &BTreeMap<ServiceName, ReleaseName>,
    to: &Installed,
) {
    for (service, release) in strays.iter().filter(|(service, _)| !to.outline.has_plain(service)) {
        let is_ended = plan
            .iter()
            .any(|action| matches!(action, Action::Stop { service: ended, .. } if ended == service));
        if !is_ended {
            plan.push(Action::Stop { service: service.clone(), release: release.clone() });
        }
    }
}

/// The services with one place each: those of the release restarted, those that it does not have stopped.
fn changed(from: Option<&Installed>, to: &Installed) -> Vec<Action> {
    let mut plan: Vec<_> = to.outline.plain().map(|service| restart(service, to)).collect();
    plan.extend(from.into_iter().flat_map(|from| leftover(from, to)));
    plan
}

fn restart(service: &ServiceName, release: &Installed) -> Action {
    Action::Restart { service: service.clone(), release: release.release.name.clone() }
}

/// The services that only `from` has.
fn leftover(from: &Installed, to: &Installed) -> impl Iterator<Item = Action> {
    from.outline
        .plain()
        .filter(|service| !to.outline.has_plain(service))
        .map(|service| Action::Stop { service: service.clone(), release: from.release.name.clone() })
}
