//! What the machine needs to know of a release's program: names and order, nothing that executes.

use landfall_common::assignment::Direction;
use landfall_common::manifest::traffic::Slot;
use landfall_common::manifest::{Driver, Follows, Program, Service, WayBack};
use landfall_common::time::{Duration, duration_ms};
use landfall_common::{ServiceName, StepName};
use serde::{Deserialize, Serialize};

use crate::placement::TrafficOutline;

/// The names of what a release consists of, in their order. Kept in the record, so that a decision after a
/// restart needs no other file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outline {
    /// Steps of preparation.
    pub prepare: Vec<StepName>,
    /// The migration, if there is one.
    pub migration: Option<MigrationOutline>,
    /// What takes away what only older releases need, if there is something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract: Option<StepName>,
    /// Services in the order in which they are restarted.
    pub services: Vec<ServiceName>,
    /// Checks; each service that can be asked how it is counts as one.
    pub checks: Vec<CheckOutline>,
    /// Smoke tests.
    pub smoke: Vec<StepName>,
    /// How many releases the host keeps, at least 2.
    pub retention: usize,
    /// How its requests are led around a change, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<TrafficOutline>,
    /// What this host must have run before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<Follows>,
}

impl Outline {
    /// The step that a lease is for, if there is one.
    #[must_use]
    pub fn migration_step(&self, direction: Direction) -> Option<&StepName> {
        match direction {
            Direction::Up => Some(&self.migration.as_ref()?.up),
            Direction::Down => self.migration.as_ref()?.down.as_ref(),
            Direction::Contract => self.contract.as_ref(),
        }
    }

    /// The service that has slots.
    #[must_use]
    pub fn slotted(&self) -> Option<&ServiceName> {
        match &self.traffic {
            Some(TrafficOutline::Slots { service, .. }) => Some(service),
            Some(TrafficOutline::Gate) | None => None,
        }
    }

    /// The services that have one place each, in their order.
    pub fn plain(&self) -> impl Iterator<Item = &ServiceName> {
        self.services.iter().filter(|service| self.slotted() != Some(*service))
    }

    /// Whether a service is one of [`Self::plain`].
    #[must_use]
    pub fn has_plain(&self, service: &ServiceName) -> bool {
        self.plain().any(|known| known == service)
    }

    /// The checks, with the one of the service that has slots under the name that it has in this slot.
    #[must_use]
    pub fn checks_in(&self, slot: Option<Slot>) -> Vec<CheckOutline> {
        let mut checks = self.checks.clone();
        if let (Some(service), Some(slot)) = (self.slotted(), slot) {
            let (plain, placed) = (check_name(service), check_name(&slot.instance(service)));
            checks.iter_mut().filter(|check| check.name == plain).for_each(|c| c.name = placed.clone());
        }
        checks
    }
}

/// The names of a migration's steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationOutline {
    /// Forward.
    pub up: StepName,
    /// The way back, where there is one.
    pub down: Option<StepName>,
}

/// A check, and how long its last answer counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckOutline {
    /// Its name.
    pub name: StepName,
    /// An answer older than this is no evidence any more.
    #[serde(rename = "max_age_ms", with = "duration_ms")]
    pub max_age: Duration,
}

/// Probes are made one after another by a program that may be busy: an answer counts for two rounds and
/// this much longer.
const ANSWER_SLACK: Duration = Duration::from_secs(2);

/// How often a service is looked at as its driver sees it.
pub const SERVICE_INTERVAL: Duration = Duration::from_secs(5);

/// The name under which a service counts among the checks of its release, if its driver can say how it is.
#[must_use]
pub fn service_check(service: &Service) -> Option<StepName> {
    let can_say = match &service.driver {
        Driver::Process { .. } | Driver::Systemd { .. } | Driver::Supervisor { .. } | Driver::Docker(_) => {
            true
        }
        Driver::Exec { status, .. } => status.is_some(),
    };
    can_say.then(|| check_name(&service.name))
}

fn check_name(service: &ServiceName) -> StepName {
    crate::step(&format!("service.{service}"))
}

impl From<&Program> for Outline {
    fn from(program: &Program) -> Self {
        Self {
            prepare: program.prepare.iter().map(|step| step.name.clone()).collect(),
            migration: program.migrate.as_ref().map(|migration| MigrationOutline {
                up: migration.step.name.clone(),
                down: match &migration.way_back {
                    WayBack::Reversible { down } => Some(down.name.clone()),
                    WayBack::Compatible | WayBack::None => None,
                },
            }),
            contract: program.contract.as_ref().map(|contract| contract.step.name.clone()),
            services: program.services.iter().map(|service| service.name.clone()).collect(),
            checks: program
                .checks
                .iter()
                .map(|check| CheckOutline {
                    name: check.name.clone(),
                    max_age: (check.interval + check.timeout) * 2 + ANSWER_SLACK,
                })
                .chain(
                    program
                        .services
                        .iter()
                        .filter_map(service_check)
                        .map(|name| CheckOutline { name, max_age: SERVICE_INTERVAL * 4 + ANSWER_SLACK }),
                )
                .collect(),
            smoke: program.smoke.iter().map(|step| step.name.clone()).collect(),
            retention: (program.retention.releases as usize).max(2),
            traffic: program.traffic.as_ref().map(|traffic| match traffic.slots() {
                Some(slots) => TrafficOutline::Slots { service: slots.service.clone(), keep: slots.keep },
                None => TrafficOutline::Gate,
            }),
            follows: program.follows.clone(),
        }
    }
}
