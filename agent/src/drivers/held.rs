//! By what a service is held on this host, and how it moves to something else.
//!
//! A release may give a service another driver than the release before, or another unit or program. What held
//! it until then knows nothing of that and would go on running the old release beside the new one, on the
//! same port at worst. So it is written down what holds a service before it is activated, and what held it
//! elsewhere is ended first. The service is out in between: once, for a change that is made once.

use std::path::PathBuf;

use landfall_common::manifest::{Driver, Service, Supervised, Unit};
use landfall_common::{AppName, ServiceName};
use serde::{Deserialize, Serialize};

use super::{DriverHost, note};
use crate::steps::{Identity, StepContext, Words};

/// What holds a service, with all that it takes to end it after its release has gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    pub service: Service,
    identity: Identity,
    words: Words,
    directory: PathBuf,
    home: PathBuf,
}

impl Held {
    pub fn new(service: &Service, context: &StepContext) -> Self {
        Self {
            service: service.clone(),
            identity: context.identity.clone(),
            words: context.words.clone(),
            directory: context.directory.clone(),
            home: context.home.clone(),
        }
    }

    /// The surroundings in which it was activated.
    pub fn context(&self, now: &StepContext) -> StepContext {
        StepContext {
            identity: self.identity.clone(),
            words: self.words.clone(),
            directory: self.directory.clone(),
            home: self.home.clone(),
            log: None,
            group_note: now.group_note.clone(),
            deadline: None,
            cancel: now.cancel.clone(),
        }
    }

    /// What is known of a service. A file that cannot be read is as good as none.
    pub fn read(host: &DriverHost, application: &AppName, service: &ServiceName) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path(host, application, service)).ok()?).ok()
    }

    /// Keeps it, durably, unless it is kept already.
    ///
    /// # Errors
    /// A sentence naming the file.
    pub fn write(&self, host: &DriverHost) -> Result<(), String> {
        let (application, service) = (&self.identity.application, &self.service.name);
        if Self::read(host, application, service).as_ref() == Some(self) {
            return Ok(());
        }
        note::write(&path(host, application, service), self)
    }

    /// Forgets it.
    pub fn remove(host: &DriverHost, application: &AppName, service: &ServiceName) {
        let _ = std::fs::remove_file(path(host, application, service));
    }
}

fn path(host: &DriverHost, application: &AppName, service: &ServiceName) -> PathBuf {
    host.state.join(format!("{application}.{service}.held.json"))
}

/// Whether two definitions of a service mean the same thing on a host.
pub(super) fn is_same_place(one: &Service, other: &Service) -> bool {
    match (&one.driver, &other.driver) {
        (Driver::Process { .. }, Driver::Process { .. })
        | (Driver::Exec { .. }, Driver::Exec { .. })
        | (Driver::Docker(_), Driver::Docker(_)) => true,
        (
            Driver::Systemd { unit: one, socket: one_socket, .. },
            Driver::Systemd { unit: other, socket: other_socket, .. },
        ) => one_socket == other_socket && unit_place(one) == unit_place(other),
        (
            Driver::Supervisor { target: one, server: one_server, .. },
            Driver::Supervisor { target: other, server: other_server, .. },
        ) => one_server == other_server && supervised_place(one) == supervised_place(other),
        _ => false,
    }
}

fn unit_place(unit: &Unit) -> (u8, &str) {
    match unit {
        Unit::Fixed { name, .. } => (0, name),
        Unit::Slots { template } => (1, template),
        Unit::Releases { template } => (2, template),
    }
}

fn supervised_place(target: &Supervised) -> (u8, &str) {
    match target {
        Supervised::Program { name } => (0, name),
        Supervised::Group { name } => (1, name),
    }
}
