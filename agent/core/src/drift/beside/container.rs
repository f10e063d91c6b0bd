//! Containers of Docker's: the one that serves beside the one that was signed, and those that nobody needs.
//!
//! A container cannot be changed but in its limits and in whether it is started again; everything else is another
//! container, and another container in its place is an interruption.

use std::collections::BTreeSet;

use landfall_common::ServiceName;

use super::setting::{Settings, Value, differences, differing, sentence};
use crate::drift::finding::{Finding, Kind, Remedy};

/// Whether Docker starts it again: a setting that can be set while it runs,
pub const RESTART: &str = "restart policy";
/// as these can,
pub const MEMORY: &str = "memory";
/// this one,
pub const CPUS: &str = "cpus";
/// and this.
pub const PIDS: &str = "pids";

/// The word for a limit that there is none of. Docker cannot take a limit away while a container runs.
pub const UNLIMITED: &str = "unlimited";

/// A container, as Docker tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// The service that its labels name.
    pub service: String,
    /// Whether a process of it runs, or is started again.
    pub is_up: bool,
    /// How it is, in a few words.
    pub how: String,
    /// All that it was made to be.
    pub settings: Settings,
}

/// What must run for a service.
#[derive(Debug, Clone)]
pub struct Must<'a> {
    /// Which.
    pub service: &'a ServiceName,
    /// Its name, which says all that it is to be.
    pub name: &'a str,
    /// What it is to be.
    pub settings: &'a Settings,
}

/// In what the containers of a service differ from what was signed.
#[must_use]
pub fn findings(must: &Must<'_>, seen: &[Container]) -> Vec<Finding> {
    let mut found = Vec::new();
    let own = seen.iter().find(|container| container.name == must.name);
    let others: Vec<&Container> =
        seen.iter().filter(|container| container.name != must.name && container.is_up).collect();
    let mut find = |name: &str, kind, detail, remedy| {
        found.push(super::finding(format!("docker {name}"), kind, detail, remedy));
    };
    match (own, others.first()) {
        (Some(own), _) if own.is_up => {
            let differences = differences(must.settings, &own.settings);
            if !differences.is_empty() {
                let remedy = remedy(must, own);
                find(&own.name, Kind::Changed, sentence(differences), remedy);
            }
            for other in others {
                let detail = format!("it runs beside {}, which is signed", must.name);
                find(&other.name, Kind::Added, detail, by_hand(remove(&other.name)));
            }
        }
        (_, Some(_)) => {
            for other in others {
                let detail = format!("it runs instead of {}, which is signed", must.name);
                find(&other.name, Kind::Changed, detail, by_hand(renew(&other.name)));
            }
        }
        (own, None) => {
            let how = own.map_or_else(|| "it is not there".to_owned(), |own| own.how.clone());
            let remedy = Remedy::Start { service: must.service.clone() };
            find(must.name, Kind::Missing, format!("it does not run: {how}"), remedy);
        }
    }
    found
}

/// Containers of the application's that run and belong to none of these services.
#[must_use]
pub fn extra(services: &BTreeSet<String>, seen: &[Container]) -> Vec<Finding> {
    let nobodys = seen.iter().filter(|container| container.is_up && !services.contains(&container.service));
    let find = |container: &Container| {
        let detail = format!("it runs, and no release here has the service {}", container.service);
        let remedy = by_hand(remove(&container.name));
        super::finding(format!("docker {}", container.name), Kind::Added, detail, remedy)
    };
    nobodys.map(find).collect()
}

/// What Docker can set while a container runs is put right; a limit where there is to be none is not.
fn remedy(must: &Must<'_>, own: &Container) -> Remedy {
    let can = |name: &&String| {
        let unlimited = must.settings.get(*name) == Some(&Value::plain(UNLIMITED));
        match name.as_str() {
            RESTART | PIDS => true,
            MEMORY | CPUS => !unlimited,
            _ => false,
        }
    };
    if differing(must.settings, &own.settings).iter().all(can) {
        Remedy::Limits { service: must.service.clone() }
    } else {
        by_hand(renew(&own.name))
    }
}

fn remove(name: &str) -> String {
    format!("look at it; the agent removes nothing that is not its to remove: `docker rm -f {name}`")
}

fn renew(name: &str) -> String {
    format!(
        "another container in its place is an interruption: `docker rm -f {name}` at a good moment, then `ctl drift \
         HOST --repair`; or the next release"
    )
}

fn by_hand(what: String) -> Remedy {
    Remedy::ByHand { what: what.into() }
}
