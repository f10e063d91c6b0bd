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
            fence: None,
            group_note: now.group_note.clone(),
            deadline: None,
            cancel: now.cancel.clone(),
        }
    }

    /// What is known of a service. A file that cannot be read is as good as none.
    pub fn read(host: &DriverHost, application: &AppName, service: &ServiceName) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path(host, application, service)).ok()?).ok()
    }

    /// Another service of the application that has the same unit or program of the host's own: one whose name was
    /// changed has it twice for a moment, and ending the one would end the other.
    pub fn other(host: &DriverHost, application: &AppName, service: &Service) -> Option<ServiceName> {
        let prefix = format!("{application}.");
        let entries = std::fs::read_dir(&host.state).ok()?;
        let names = entries.filter_map(|entry| {
            let file = entry.ok()?.file_name();
            let name = file.to_str()?.strip_prefix(&prefix)?.strip_suffix(".held.json")?;
            ServiceName::new(name).ok().filter(|name| *name != service.name)
        });
        names
            .filter_map(|name| Self::read(host, application, &name))
            .find(|held| held.identity.application == *application && is_shared(&held.service, service))
            .map(|held| held.service.name)
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

/// Whether two services, of whatever names, are one unit or program of the host's own.
fn is_shared(one: &Service, other: &Service) -> bool {
    let is_one = match &one.driver {
        Driver::Systemd { unit, .. } => matches!(unit, Unit::Fixed { .. }),
        Driver::Supervisor { .. } => true,
        Driver::Process { .. } | Driver::Exec { .. } | Driver::Docker(_) => false,
    };
    is_one && is_same_place(one, other)
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use landfall_common::manifest::Renewal;

    use super::*;
    use crate::holder::{Launcher, Places};

    fn fixed(name: &str, unit: &str) -> Service {
        let unit = Unit::Fixed { name: unit.to_owned(), how: Renewal::Restart };
        let (settle, timeout) = (Duration::ZERO, Duration::from_secs(1));
        let driver = Driver::Systemd { unit, socket: None, settle, timeout, slot: None };
        Service { name: name.parse().unwrap(), driver, on: Default::default() }
    }

    fn holds(host: &DriverHost, application: &str, service: Service) {
        let identity = Identity {
            application: application.parse().unwrap(),
            environment: "production".parse().unwrap(),
            release: "v1".parse().unwrap(),
        };
        let words = Words::of("/srv/shop".as_ref(), &identity.release, Default::default());
        let (directory, home) = ("/srv/shop/releases/v1".into(), "/var/lib/landfall/home".into());
        Held { service, identity, words, directory, home }.write(host).unwrap();
    }

    #[test]
    fn a_unit_that_another_service_has_by_now_is_known() {
        let directory = tempfile::tempdir().unwrap();
        let launcher = Launcher::Detached { program: "/none".into(), arguments: vec![] };
        let (run, state, logs) = (directory.path().into(), directory.path().into(), directory.path().into());
        let places = Places { run, state, logs, log_bytes: 1 };
        let host = DriverHost::new(launcher, places, directory.path().join("drivers"));
        let shop: AppName = "shop".parse().unwrap();
        let of = |service: &Service| Held::other(&host, &shop, service).map(|name| name.to_string());
        let old = fixed("web", "shop.service");
        holds(&host, "shop", old.clone());
        assert_eq!(of(&old), None, "that is itself");
        holds(&host, "shop", fixed("worker", "shop-worker.service"));
        assert_eq!(of(&old), None, "that is another unit");
        holds(&host, "market", fixed("web", "shop.service"));
        assert_eq!(of(&old), None, "that is another application's");
        holds(&host, "shop", fixed("site", "shop.service"));
        assert_eq!(of(&old).as_deref(), Some("site"));
        assert_eq!(of(&fixed("site", "shop.service")).as_deref(), Some("web"), "on the way back");
        Held::remove(&host, &shop, &"site".parse().unwrap());
        assert_eq!(of(&old), None);
    }
}
