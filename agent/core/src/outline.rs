//! What the machine needs to know of a release's program: names and order, nothing that executes.

use landfall_common::manifest::{Driver, Program, Service, WayBack};
use landfall_common::time::{Duration, duration_ms};
use landfall_common::{ServiceName, StepName};
use serde::{Deserialize, Serialize};

/// The names of what a release consists of, in their order. Kept in the record, so that a decision after a
/// restart needs no other file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outline {
    /// Steps of preparation.
    pub prepare: Vec<StepName>,
    /// The migration, if there is one.
    pub migration: Option<MigrationOutline>,
    /// Services in the order in which they are restarted.
    pub services: Vec<ServiceName>,
    /// Checks; each service that can be asked how it is counts as one.
    pub checks: Vec<CheckOutline>,
    /// Smoke tests.
    pub smoke: Vec<StepName>,
    /// How many releases the host keeps, at least 2.
    pub retention: usize,
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
        Driver::Process { .. } | Driver::Systemd { .. } | Driver::Supervisor { .. } => true,
        Driver::Exec { status, .. } => status.is_some(),
    };
    can_say.then(|| crate::step(&format!("service.{}", service.name)))
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
        }
    }
}
