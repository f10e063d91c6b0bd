//! Programs of the host's Supervisor: what it is configured to run, whether it runs, and out of which release.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::{ReleaseName, ServiceName};

use super::setting::{Settings, Things, differences, sentence};
use crate::drift::finding::{Finding, Kind, Remedy};

/// How a process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It runs.
    Up,
    /// It is being started or stopped: how it is will be seen the next time.
    Changing,
    /// It does not run, in Supervisor's word for it.
    Down(String),
}

/// A process, as Supervisor tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// What it is configured to be; `None` if Supervisor has it in no configuration any more.
    pub settings: Option<Settings>,
    /// How it is.
    pub state: State,
    /// The release in whose directory it works, where that can be seen.
    pub shown: Option<ReleaseName>,
}

/// What must be.
#[derive(Debug, Clone)]
pub struct Must<'a> {
    /// The service whose processes these are.
    pub service: &'a ServiceName,
    /// What it is to run.
    pub release: &'a ReleaseName,
    /// What was applied; `None` if that is not on record yet.
    pub applied: Option<&'a Things>,
    /// A process that is asked to reload goes on working where it was started.
    pub may_stay: bool,
}

/// What is to be on record of these: their settings.
#[must_use]
pub fn settings(seen: &BTreeMap<String, Process>) -> Things {
    let settings = |(name, process): (&String, &Process)| Some((name.clone(), process.settings.clone()?));
    seen.iter().filter_map(settings).collect()
}

/// In what the processes of a service differ from what was applied, by the names `group:process`.
#[must_use]
pub fn findings(must: &Must<'_>, seen: &BTreeMap<String, Process>) -> Vec<Finding> {
    let nobody_serves = !seen.values().any(|process| matches!(process.state, State::Up | State::Changing));
    let none = Things::new();
    let applied = must.applied.unwrap_or(&none);
    let names: BTreeSet<&String> = applied.keys().chain(seen.keys()).collect();
    let mut found = Vec::new();
    for name in names {
        let mut find = |kind, detail, remedy| {
            found.push(super::finding(format!("supervisor {name}"), kind, detail, remedy));
        };
        let process = seen.get(name);
        let now = process.and_then(|process| process.settings.as_ref());
        match (must.applied.map(|applied| applied.get(name)), now) {
            // Nothing is on record yet.
            (None, _) => {}
            (Some(None), None) => {}
            (Some(Some(then)), Some(now)) => {
                let differing = differences(then, now);
                if !differing.is_empty() {
                    find(Kind::Changed, sentence(differing), configured(name));
                }
            }
            (Some(Some(_)), None) => {
                let detail = format!("it was configured when {} became active", must.release);
                find(Kind::Missing, detail, configured(name));
            }
            (Some(None), Some(_)) => {
                let detail = format!("it was not configured when {} became active", must.release);
                find(Kind::Added, detail, by_hand(ADDED.to_owned()));
            }
        }
        let Some(process) = process else { continue };
        match (&process.state, &process.shown) {
            (State::Down(how), _) => {
                let remedy = if nobody_serves {
                    Remedy::Start { service: must.service.clone() }
                } else {
                    by_hand(format!("`supervisorctl start {name}`"))
                };
                find(Kind::Missing, format!("it does not run: {how}"), remedy);
            }
            (State::Up, Some(shown)) if shown != must.release && !must.may_stay => {
                let detail = format!("it runs in the directory of {shown} instead of {}", must.release);
                let what = format!(
                    "starting it anew interrupts what it serves: `supervisorctl restart {name}` at a good moment"
                );
                find(Kind::Changed, detail, by_hand(what));
            }
            (State::Up | State::Changing, _) => {}
        }
    }
    found
}

const ADDED: &str = "look at it; the next release that becomes active takes it as it is";

fn configured(name: &str) -> Remedy {
    let group = name.split_once(':').map_or(name, |(group, _)| group);
    by_hand(format!(
        "put it back in Supervisor's configuration, then `supervisorctl update {group}`, which starts it anew; the \
         next release that becomes active takes it as it is"
    ))
}

fn by_hand(what: String) -> Remedy {
    Remedy::ByHand { what: what.into() }
}
