//! The steps that take a host from one release to another, and back: a plan is a value, made before the
//! first step and kept in the record.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::{ReleaseName, ServiceName, StepName};
use serde::{Deserialize, Serialize};

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
    /// Ends a service that the release to come does not have.
    Stop {
        /// Which service.
        service: ServiceName,
        /// The release that defines it.
        release: ReleaseName,
    },
}

impl Action {
    /// What a person calls it: `swap`, `restart-web`, `stop-worker`.
    #[must_use]
    pub fn name(&self) -> StepName {
        match self {
            Self::Swap { .. } => crate::step("swap"),
            Self::Restart { service, .. } => crate::step(&format!("restart-{service}")),
            Self::Stop { service, .. } => crate::step(&format!("stop-{service}")),
        }
    }
}

/// From what is active (if anything) to a release: swap, restart its services in their order, then stop
/// what it does not have any more.
#[must_use]
pub fn forward(from: Option<&Installed>, to: &Installed) -> Vec<Action> {
    let mut plan = vec![Action::Swap { to: to.release.name.clone() }];
    plan.extend(to.outline.services.iter().map(|service| restart(service, to)));
    plan.extend(from.into_iter().flat_map(|from| leftover(from, to)));
    plan
}

/// From a release whose plan was begun, back to another: the inverse of each step of `begun`, which includes
/// the one that failed. Where `back` is not the release that was active before, any service may be in any
/// state, and all of them are restarted.
#[must_use]
pub fn back(from: Option<&Installed>, to: &Installed, back: &Installed, begun: &[Action]) -> Vec<Action> {
    if from.is_none_or(|from| from.release != back.release) {
        let mut plan = forward(Some(to), back);
        let known: BTreeSet<_> = plan.iter().map(Action::name).collect();
        let rest = from.into_iter().flat_map(|from| leftover(from, back));
        plan.extend(rest.filter(|action| !known.contains(&action.name())));
        return plan;
    }
    let touched: BTreeSet<&ServiceName> = begun
        .iter()
        .filter_map(|action| match action {
            Action::Swap { .. } => None,
            Action::Restart { service, .. } | Action::Stop { service, .. } => Some(service),
        })
        .collect();
    let mut plan = vec![Action::Swap { to: back.release.name.clone() }];
    plan.extend(
        back.outline.services.iter().filter(|name| touched.contains(name)).map(|name| restart(name, back)),
    );
    plan.extend(leftover(to, back).filter(|action| match action {
        Action::Stop { service, .. } => touched.contains(service),
        Action::Swap { .. } | Action::Restart { .. } => false,
    }));
    plan
}

/// Adds the ends of services that run on from earlier, unless the release has them or they are ended anyway.
pub(crate) fn end_strays(
    plan: &mut Vec<Action>,
    strays: &BTreeMap<ServiceName, ReleaseName>,
    to: &Installed,
) {
    for (service, release) in strays.iter().filter(|(service, _)| !to.outline.services.contains(service)) {
        let is_ended = plan
            .iter()
            .any(|action| matches!(action, Action::Stop { service: ended, .. } if ended == service));
        if !is_ended {
            plan.push(Action::Stop { service: service.clone(), release: release.clone() });
        }
    }
}

fn restart(service: &ServiceName, release: &Installed) -> Action {
    Action::Restart { service: service.clone(), release: release.release.name.clone() }
}

/// The services that only `from` has.
fn leftover(from: &Installed, to: &Installed) -> impl Iterator<Item = Action> {
    from.outline
        .services
        .iter()
        .filter(|service| !to.outline.services.contains(service))
        .map(|service| Action::Stop { service: service.clone(), release: from.release.name.clone() })
}
