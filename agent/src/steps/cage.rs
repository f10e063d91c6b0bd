//! Steps in units of their own: as another user, without the agent's files, with no network unless the signed
//! manifest says so, within limits, and ended as a whole.
//!
//! ```text
//! agent (landfall)                      landfall-step@ID.service (landfall-step)
//! writes requests/ID.json
//! asks systemd to start the unit  ───►  verifies the request and the release's files for itself (verify, tree)
//!                                       notes that it begins, runs it, notes how it ended (runner)
//! reads results/ID.json  ◄────────────  ends; systemd ends what is left in its control group
//! ```
//!
//! The unit is a template that root owns, and its instance names nothing but the request. A request is believed
//! in nothing but what makes it do less: the release must be vouched for by metadata that follows from the root
//! that is [pinned](pin) in a file of root's, and argv, environment and network are those of its manifest.
//!
//! The [files of the release](tree) are held against that manifest too, before each step. They belong to the agent's
//! user though, as does what is in `shared/` and `prepared/`: what an agent that was taken over makes of them between
//! that look and the program's own runs as the user of steps, without the rights of anybody else.

mod agent;
pub mod pin;
mod runner;
pub mod tree;
mod units;
mod verify;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use landfall_common::manifest::traffic::Slot;
use landfall_common::manifest::{Program, Step, WayBack};
use landfall_common::{ReleaseName, StepName};
use serde::{Deserialize, Serialize};

pub use agent::{Cage, Started};
pub use runner::run;
pub use units::{Trouble, Units};
pub use verify::{Approval, Refusal, approve};

/// Where a cage keeps its files. The units name these very paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Of root, and in it what belongs to others: `/var/lib/landfall-steps`.
    pub root: PathBuf,
    /// The output of steps: `/var/log/landfall-steps`.
    pub logs: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self { root: "/var/lib/landfall-steps".into(), logs: "/var/log/landfall-steps".into() }
    }
}

impl Places {
    /// Written by the agent, read by the runner.
    fn requests(&self) -> PathBuf {
        self.root.join("requests")
    }

    /// Written by the runner, read and removed by the agent.
    fn results(&self) -> PathBuf {
        self.root.join("results")
    }

    fn request(&self, id: &RunId) -> PathBuf {
        self.requests().join(format!("{id}.json"))
    }

    /// The note of one run: that it began, and how it ended.
    #[must_use]
    pub fn note(&self, id: &RunId) -> PathBuf {
        self.results().join(format!("{id}.json"))
    }

    /// Of the runner alone: what it has seen of the metadata.
    fn seen(&self) -> PathBuf {
        self.root.join("own/seen.json")
    }

    fn home(&self) -> PathBuf {
        self.root.join("home")
    }

    fn pin(&self) -> PathBuf {
        self.root.join("pin.json")
    }
}

/// Names one run, and so the instance of the unit: `m7` for the migration under lease 7, `s` and hexadecimal
/// digits for any other. polkit allows these and no others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunId(String);

impl RunId {
    /// That of a migration: the lease is used once, and so is its name.
    #[must_use]
    pub fn migration(fence: u64) -> Self {
        Self(format!("m{fence}"))
    }

    /// One that nobody has used.
    #[must_use]
    pub fn random() -> Self {
        Self(format!("s{:016x}", rand::random::<u64>()))
    }

    /// The lease, if it is that of a migration.
    #[must_use]
    pub fn fence(&self) -> Option<u64> {
        self.0.strip_prefix('m')?.parse().ok()
    }
}

impl FromStr for RunId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix(['m', 's']).unwrap_or_default();
        let known = (1..=20).contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        known.then(|| Self(text.to_owned())).ok_or_else(|| format!("{text:?} names no run of a step"))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a step is in its release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `[[prepare]]`.
    Prepare,
    /// `[migrate]`, forward.
    Migrate,
    /// `down` of `[migrate]`.
    MigrateDown,
    /// `[contract]`.
    Contract,
    /// `[[smoke]]`.
    Smoke,
}

impl Kind {
    /// Whether a step of this kind has the network. A preparation must say so: all hosts run it, and what it would
    /// fetch is in no manifest. The others talk to a database or to the service, mostly over it.
    #[must_use]
    pub fn has_network(self, step: &Step) -> bool {
        step.network.unwrap_or(self != Self::Prepare)
    }
}

/// What the agent asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The release.
    pub release: ReleaseName,
    /// What of it.
    pub kind: Kind,
    /// Which of these.
    pub step: StepName,
    /// The slot that it asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Slot>,
    /// When it must have been asked to end, on the clock that all processes of a host share; not after its own
    /// timeout in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// The agent's metadata of the release repository, by the names that a client gives them.
    pub metadata: BTreeMap<String, String>,
}

impl Request {
    /// The step that it names.
    #[must_use]
    pub fn pick(&self, program: &Program) -> Option<Step> {
        let named = |step: &&Step| step.name == self.step;
        match self.kind {
            Kind::Prepare => program.prepare.iter().find(named).cloned(),
            Kind::Migrate => program.migrate.as_ref().map(|migration| &migration.step).filter(named).cloned(),
            Kind::MigrateDown => match &program.migrate.as_ref()?.way_back {
                WayBack::Reversible { down } => Some(down).filter(named).cloned(),
                WayBack::Compatible | WayBack::None => None,
            },
            Kind::Contract => program.contract.as_ref().map(|contract| &contract.step).filter(named).cloned(),
            Kind::Smoke => {
                let placed = self.slot.map(|slot| program.in_slot(slot));
                placed.as_ref().unwrap_or(program).smoke.iter().find(named).cloned()
            }
        }
    }
}

/// Opens what a step made to the agent, which is in the group of steps: it must be able to remove it, and its
/// services to read it. What cannot be opened is not the step's, and none of its affair.
fn open_to_group(directory: &Path) {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let own = rustix::process::geteuid().as_raw();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(found) = entry.metadata() else { continue };
            let is_open = if found.is_dir() { 0o070 } else { (found.mode() & 0o500) >> 3 };
            if found.uid() == own && !found.is_symlink() && found.mode() & is_open != is_open {
                let mode = (found.mode() & 0o7777) | is_open;
                let _ = std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode));
            }
            if found.is_dir() {
                directories.push(path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_run_is_one_that_polkit_allows() {
        for good in [RunId::migration(7), RunId::migration(u64::MAX), RunId::random()] {
            assert_eq!(good.to_string().parse::<RunId>().unwrap(), good);
        }
        for bad in
            ["", "m", "s", "x1", "m../etc/passwd", "s1/2", "sG", "m1.json", "S1", "s123456789012345678901"]
        {
            bad.parse::<RunId>().unwrap_err();
        }
        assert_eq!((RunId::migration(7).fence(), "sff".parse::<RunId>().unwrap().fence()), (Some(7), None));
    }

    #[test]
    fn the_two_templates_differ_in_the_network_and_in_nothing_else() {
        let without = include_str!("../../../deploy/systemd/system/landfall-step@.service");
        let with = include_str!("../../../deploy/systemd/system/landfall-step-net@.service");
        let lines = |text: &'static str| text.lines().filter(|line| !line.starts_with('#'));
        let only = |these: &'static str, others: &'static str| -> Vec<_> {
            lines(these).filter(|line| !lines(others).any(|other| other == *line)).collect()
        };
        assert_eq!(
            only(without, with),
            [
                "Description=Landfall step %i, without network",
                "ExecStart=/usr/bin/landfall-agent step %i",
                "PrivateNetwork=yes"
            ]
        );
        assert_eq!(
            only(with, without),
            [
                "Description=Landfall step %i, with network",
                "ExecStart=/usr/bin/landfall-agent step --network %i"
            ]
        );
        let places = Places::default();
        let writable = format!("ReadWritePaths=/srv {} {}", places.root.display(), places.logs.display());
        assert!(lines(without).any(|line| line == writable), "{writable}");
    }

    #[test]
    fn what_a_step_closed_is_opened_to_its_group() {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::create_dir(path("closed")).unwrap();
        std::fs::write(path("closed/key"), "").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", path("closed/link")).unwrap();
        let set = |name: &str, mode| {
            std::fs::set_permissions(path(name), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        set("closed/key", 0o600);
        set("closed", 0o700);
        open_to_group(directory.path());
        let mode = |name: &str| std::fs::metadata(path(name)).unwrap().mode() & 0o7777;
        assert_eq!((mode("closed"), mode("closed/key")), (0o770, 0o640));
    }
}
