//! The manifest: the signed description of a release, and all that will ever execute because of it.
//!
//! A manifest does not depend on the environment; one digest goes from staging to production. It is
//! written in canonical JSON ([`crate::canonical`]) and named by the SHA-256 of those bytes. The files are
//! not in it but behind one digest: [`Directory`] objects, each naming its children by theirs, so that
//! two releases share whatever did not change.

pub mod container;
mod follows;
mod headers;
mod links;
mod listing;
pub mod metric;
mod migration;
mod selection;
pub mod traffic;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::assignment::RestartKind;
use crate::canonical::{self, CanonicalError};
use crate::ids::{AppName, EnvName, ReleaseName, ServiceName, StepName};
use crate::time::{Duration, Timestamp, duration_ms, optional_duration_ms};
use crate::{Sha256, strategy::Strategy};

pub use container::Container;
pub use follows::Follows;
pub use headers::{Headers, InvalidHeader};
pub use links::Links;
pub use metric::AppMetric;
pub use migration::{
    Contract, MAX_MIGRATION_NAME_BYTES, MAX_MIGRATION_NAMES, Migration, WayBack, migration_names,
};
pub use selection::UnsetVariable;
pub use traffic::Traffic;

/// The only format of manifest there is; a reader refuses any other.
pub const FORMAT: u32 = 1;

/// A manifest of this size or more is refused before it is parsed.
pub const MAX_MANIFEST_BYTES: usize = 1024 * 1024;

/// The signed description of one release of one application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// What is released.
    pub application: AppName,
    /// Under which name.
    pub release: ReleaseName,
    /// Where it comes from.
    pub origin: Origin,
    /// The files: the digest of the root [`Directory`] object.
    pub tree: Sha256,
    /// How many files the tree holds.
    pub file_count: u64,
    /// The sum of their sizes, in bytes.
    pub total_bytes: u64,
    /// What will execute on a host.
    pub program: Program,
    /// How each environment wants to be rolled out.
    pub environments: BTreeMap<EnvName, Strategy>,
}

/// Where the content of a release comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Origin {
    /// A commit of a Git repository, built in a clean tree.
    Git {
        /// The full commit id.
        commit: String,
        /// The author as `Name <address>`.
        author: String,
        /// When it was committed.
        committed_at: Timestamp,
        /// The first line of its message.
        subject: String,
    },
    /// A directory or an archive that was built elsewhere.
    Artifact {
        /// The commit that its maker says it was built from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        commit: Option<String>,
    },
}

/// Everything that a release can execute on a host, and what surrounds it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Run on each host while staging, in this order; nothing that runs is touched by them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prepare: Vec<Step>,
    /// Run once per rollout, on one elected host, before any activation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migrate: Option<Migration>,
    /// Run once per rollout, on one elected host, after every host of the environment runs this release, proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract: Option<Contract>,
    /// What runs, in the order in which it is restarted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Service>,
    /// What must hold while the release is proven, and afterwards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
    /// What the application shows of itself, by which a canary is compared with others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<AppMetric>,
    /// Run once on each host after its checks have held.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub smoke: Vec<Step>,
    /// What outlives a release and is linked into each.
    #[serde(default)]
    pub shared: Shared,
    /// How many releases a host keeps.
    #[serde(default)]
    pub retention: Retention,
    /// What stands in front of a service on each host, and how a change is led around it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
    /// What a host must have run before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<Follows>,
}

/// One action: an argv without a shell, in a clean environment, with a deadline.
///
/// In `command` and `environment` the words `{release}`, `{prepared}`, `{shared}` and `{current}` stand for
/// directories, and `{name}` for the host's own variable of that name; a value never becomes more than
/// one argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Unique among the steps of a release.
    pub name: StepName,
    /// The program and its arguments; never empty.
    pub command: Vec<String>,
    /// Added to the clean environment (`PATH`, `HOME`, `LANG`, `LANDFALL_*`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// After this the whole process group is ended.
    #[serde(rename = "timeout_ms", with = "duration_ms")]
    pub timeout: Duration,
    /// Whether it may use the network, where the definition says so. Where it does not, a preparation may not,
    /// and all else may: a migration talks to its database, a smoke test to the service. It counts where steps
    /// run in units of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<bool>,
}

/// Something that runs as long as the release is active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Unique in the application.
    pub name: ServiceName,
    /// What starts, restarts and stops it.
    pub driver: Driver,
    /// The host's own variables that must have these values for the service to run there. Without any it runs
    /// on every host.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub on: BTreeMap<String, String>,
}

/// What restarting means for a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Driver {
    /// A holder process owns the listening socket and the child: the new one is started beside the old
    /// and must be ready before the old is asked to finish.
    Process {
        /// The program and its arguments, with the words of [`Step`]. It runs in the release's directory.
        command: Vec<String>,
        /// Added to the clean environment.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        environment: BTreeMap<String, String>,
        /// The address to hold, `host:port` or `unix:/path`; passed as descriptor 3 with `LISTEN_FDS=1`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        listen: Option<String>,
        /// How a new process shows that it is ready.
        ready: Ready,
        /// How long the old process may finish its requests after SIGTERM before SIGKILL.
        #[serde(rename = "stop_timeout_ms", with = "duration_ms")]
        stop_timeout: Duration,
        /// The new process may not run beside the old one: that is ended first, and connections wait on the held
        /// socket, at most so long. After that they are refused, and the new process has failed.
        #[serde(
            rename = "hold_ms",
            default,
            skip_serializing_if = "Option::is_none",
            with = "optional_duration_ms"
        )]
        hold: Option<Duration>,
    },
    /// The application's own commands.
    Exec {
        /// Makes the service run the release that `current` names; also used on the way back.
        restart: Step,
        /// Ends it, when the application leaves the host.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stop: Option<Step>,
        /// Exits 0 while it runs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<Step>,
    },
    /// A unit of the host's systemd, which its administrator has installed.
    Systemd {
        /// Which, and what restarting means for it.
        unit: Unit,
        /// The socket unit that keeps the listening socket while the service is restarted; its full name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        socket: Option<String>,
        /// A unit that does not say itself that it is ready must have stayed active for so long.
        #[serde(rename = "settle_ms", with = "duration_ms")]
        settle: Duration,
        /// How long each job of systemd may take.
        #[serde(rename = "timeout_ms", with = "duration_ms")]
        timeout: Duration,
        /// Of a service with slots: `unit` is one instance, and each slot has its own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        slot: Option<Seat>,
    },
    /// Processes of the host's Supervisor, configured by its administrator.
    Supervisor {
        /// Which.
        target: Supervised,
        /// The path of Supervisor's socket, with the words of [`Step`].
        server: String,
        /// Sent instead of stopping and starting each process.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<ReloadSignal>,
        /// After a signal, a process must have stayed up for so long.
        #[serde(rename = "settle_ms", with = "duration_ms")]
        settle: Duration,
        /// How long each process may take to stop, and to start.
        #[serde(rename = "timeout_ms", with = "duration_ms")]
        timeout: Duration,
        /// Of a service with slots: each slot has a program or a group of its own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        slot: Option<Seat>,
    },
    /// A container of the host's Docker.
    Docker(Box<Container>),
}

impl Driver {
    /// Whether a service can be restarted, or reloaded, without a new release. `has_slots`: it is the one that stands in
    /// one of two slots; there only what a holder keeps can be replaced without a dropped request, for requests are led
    /// to the slot all the while.
    ///
    /// # Errors
    /// Why it cannot, as the second half of a sentence.
    pub fn renews(&self, kind: RestartKind, has_slots: bool) -> Result<(), &'static str> {
        let reloads = match self {
            Self::Systemd { unit: Unit::Fixed { how, .. }, .. } => *how == Renewal::Reload,
            Self::Supervisor { signal, .. } => signal.is_some(),
            _ => false,
        };
        match kind {
            RestartKind::Reload if !reloads => Err(
                "its definition has no reload: `how = \"reload\"` of a unit of systemd, or `signal` of a program of \
                     Supervisor; `ctl restart` restarts it",
            ),
            RestartKind::Restart if has_slots && !matches!(self, Self::Process { .. }) => Err(
                "it stands in one of two slots and its driver stops it before it starts it again, while requests are \
                     led there; a release of the same commit under a new name starts it in the other slot",
            ),
            RestartKind::Restart | RestartKind::Reload => Ok(()),
        }
    }
}

/// The slot of a unit or program that the host's administrator has installed for it. It runs what the link
/// `slots/<slot>` names, and not what `current` does: a release starts in its slot before it is active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seat {
    /// `blue` or `green`; in what is signed the word `{slot}`, which [`Program::in_slot`] replaces.
    pub slot: String,
    /// Where it listens there, with the words of [`Step`]; in what is signed the word `{address}`.
    pub address: String,
}

impl Seat {
    /// As it is signed.
    #[must_use]
    pub fn of_words() -> Self {
        Self { slot: "{slot}".to_owned(), address: "{address}".to_owned() }
    }
}

/// Which unit of systemd a service is, and what making it run another release means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Unit {
    /// One unit, which runs what `current` names.
    Fixed {
        /// Its full name, such as `tenants-web.service`.
        name: String,
        /// What is asked of systemd.
        how: Renewal,
    },
    /// Two instances of a template, `a` and `b`, which run what `current` names when they start: the new one
    /// is started in the slot that is free, then the old one is stopped.
    Slots {
        /// The template, such as `tenants-web@.service`.
        template: String,
    },
    /// One instance of a template for each release, by the release's name (escaped as systemd-escape does):
    /// the new one is started, then the old one is stopped.
    Releases {
        /// The template, such as `tenants-web@.service`.
        template: String,
    },
}

/// How a unit that runs comes to run another release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Renewal {
    /// It is stopped and started.
    Restart,
    /// It reloads by itself.
    Reload,
}

/// What of a Supervisor a service is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Supervised {
    /// One process, `web` or `group:web`.
    Program {
        /// Its name.
        name: String,
    },
    /// All processes of a group, renewed one after another.
    Group {
        /// Its name.
        name: String,
    },
}

/// A signal on which a process loads its program anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ReloadSignal {
    /// `SIGHUP`.
    Hup,
    /// `SIGUSR1`.
    Usr1,
    /// `SIGUSR2`.
    Usr2,
}

impl ReloadSignal {
    /// Its name without `SIG`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hup => "HUP",
            Self::Usr1 => "USR1",
            Self::Usr2 => "USR2",
        }
    }
}

/// How a new process shows that it is ready to take over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Ready {
    /// It stays alive for this long. The weakest sign: nothing was asked of it.
    Alive {
        /// How long.
        #[serde(rename = "for_ms", with = "duration_ms")]
        period: Duration,
    },
    /// It sends `READY=1` to `NOTIFY_SOCKET` within the timeout.
    Notify {
        /// How long it may take.
        #[serde(rename = "timeout_ms", with = "duration_ms")]
        timeout: Duration,
    },
    /// It answers this path with a status from 200 to 399 on a *private* socket that the holder passes as
    /// well (descriptor 4, name `ready`), so that it is the new process that answers and not the old.
    Http {
        /// The path, such as `/healthz`.
        path: String,
        /// Added to the request.
        #[serde(default, skip_serializing_if = "Headers::is_empty")]
        headers: Headers,
        /// How long it may take.
        #[serde(rename = "timeout_ms", with = "duration_ms")]
        timeout: Duration,
    },
}

/// A probe of health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Unique among the checks of a release.
    pub name: StepName,
    /// What is asked.
    pub probe: Probe,
    /// From one probe to the next.
    #[serde(rename = "interval_ms", with = "duration_ms")]
    pub interval: Duration,
    /// A probe without an answer for this long has failed.
    #[serde(rename = "timeout_ms", with = "duration_ms")]
    pub timeout: Duration,
}

/// What a check asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Probe {
    /// `GET url` (plain HTTP) is answered with this status.
    Http {
        /// `http://host:port/path`, with the words of [`Step`].
        url: String,
        /// The expected status.
        status: u16,
        /// A text that the body must contain.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        contains: Option<String>,
        /// Added to the request.
        #[serde(default, skip_serializing_if = "Headers::is_empty")]
        headers: Headers,
    },
    /// A connection to `host:port` is accepted.
    Tcp {
        /// `host:port`, with the words of [`Step`].
        address: String,
    },
    /// A command exits 0.
    Exec {
        /// The program and its arguments.
        command: Vec<String>,
    },
}

/// What outlives a release and is linked into each, by its path relative to the release.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shared {
    /// Made when absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub directories: Vec<String>,
    /// Kept by the host's administrator; a missing one fails the staging, with its path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
}

/// How many releases a host keeps; the active one and the last proven one are never removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// From 2.
    pub releases: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self { releases: 5 }
    }
}

/// One directory of a release, an object like any file; its entries are sorted by name and unique.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    /// By name: one path component, valid UTF-8, no control characters.
    pub entries: BTreeMap<String, Entry>,
}

/// What a name in a [`Directory`] stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Entry {
    /// A regular file.
    File {
        /// The digest of its content.
        digest: Sha256,
        /// Its size in bytes.
        size: u64,
        /// Mode 0555 on a host, else 0444.
        executable: bool,
    },
    /// A directory.
    Directory {
        /// The digest of its [`Directory`] object.
        digest: Sha256,
        /// The size of that object in bytes.
        size: u64,
    },
    /// A symbolic link that stays inside the release.
    Symlink {
        /// Relative, and never above the release's own directory.
        target: String,
    },
}

/// Why bytes are not a manifest or a directory object.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Too large to be read at all.
    #[error("{what} has {bytes} bytes; at most {max} are accepted")]
    TooLarge {
        /// What it was taken for.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// Not of the expected form.
    #[error("{what} cannot be read")]
    Malformed {
        /// What it was taken for.
        what: &'static str,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// Of the expected form, with something in it that this version has never heard of.
    #[error("{what} is made for a newer version than this one")]
    Newer {
        /// What it was taken for.
        what: &'static str,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// Well-formed, but against a rule.
    #[error("{what} breaks a rule: {rule}")]
    Rule {
        /// What it was taken for.
        what: &'static str,
        /// The rule, with the offending name.
        rule: String,
    },
    /// It cannot be written in canonical form.
    #[error("it has no canonical form")]
    Canonical(#[from] CanonicalError),
}

impl Manifest {
    /// The canonical bytes, whose digest names the manifest.
    ///
    /// # Errors
    /// [`ManifestError::Canonical`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, ManifestError> {
        Ok(canonical::to_vec(self)?)
    }

    /// Reads and checks canonical bytes.
    ///
    /// # Errors
    /// [`ManifestError`] when they are too large, of another form or format, or not canonical.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ManifestError> {
        let manifest: Self = read("manifest", bytes, MAX_MANIFEST_BYTES)?;
        if manifest.format != FORMAT {
            let rule = format!("format is {}, this program reads format {FORMAT}", manifest.format);
            return Err(ManifestError::Rule { what: "manifest", rule });
        }
        if let Some(migration) = &manifest.program.migrate {
            migration_names(&migration.names)
                .map_err(|rule| ManifestError::Rule { what: "manifest", rule })?;
        }
        Ok(manifest)
    }
}

/// A directory object of this size or more is refused: about 100,000 entries.
pub const MAX_DIRECTORY_BYTES: usize = 32 * 1024 * 1024;

impl ManifestError {
    /// It and its cause in one sentence.
    #[must_use]
    pub fn in_full(&self) -> String {
        let cause = std::error::Error::source(self);
        cause.map_or_else(|| self.to_string(), |cause| format!("{self}: {cause}"))
    }
}

impl Directory {
    /// The canonical bytes, whose digest names the directory.
    ///
    /// # Errors
    /// [`ManifestError`] if an entry's name or link is against the rules.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ManifestError> {
        self.check()?;
        Ok(canonical::to_vec(self)?)
    }

    /// Reads and checks canonical bytes.
    ///
    /// # Errors
    /// [`ManifestError`] for another form, or a name that could leave the directory.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ManifestError> {
        let fast = if bytes.len() <= MAX_DIRECTORY_BYTES { listing::read(bytes) } else { None };
        let directory = match fast {
            Some(directory) => directory,
            None => read("directory object", bytes, MAX_DIRECTORY_BYTES)?,
        };
        directory.check()?;
        Ok(directory)
    }

    fn check(&self) -> Result<(), ManifestError> {
        self.entries.keys().try_for_each(|name| {
            component(name).map_err(|rule| ManifestError::Rule { what: "directory object", rule })
        })
    }
}

fn read<T: Serialize + for<'de> Deserialize<'de>>(
    what: &'static str,
    bytes: &[u8],
    max: usize,
) -> Result<T, ManifestError> {
    if bytes.len() > max {
        return Err(ManifestError::TooLarge { what, bytes: bytes.len(), max });
    }
    let value: T = serde_json::from_slice(bytes).map_err(|source| {
        // As serde words it: an unknown field, an unknown variant. What lacks something is no manifest of any version.
        let is_newer = source.is_data() && source.to_string().starts_with("unknown ");
        if is_newer {
            ManifestError::Newer { what, source }
        } else {
            ManifestError::Malformed { what, source }
        }
    })?;
    // One content, one digest: a reader that took other spellings would let two digests name one release.
    if canonical::to_vec(&value)? != bytes {
        return Err(ManifestError::Rule { what, rule: "it is not in canonical form".to_owned() });
    }
    Ok(value)
}

/// Checks one path component: what a directory of a release may call its children.
///
/// # Errors
/// The rule that the name breaks, as a sentence.
pub fn component(name: &str) -> Result<(), String> {
    if name.is_empty() || name == "." || name == ".." {
        return Err(format!("{name:?} is not the name of a file"));
    }
    if name.len() > 255 {
        return Err(format!("the name {name:?} is longer than 255 bytes"));
    }
    if name.contains('/') || name.chars().any(char::is_control) {
        return Err(format!("the name {name:?} contains a slash or a control character"));
    }
    Ok(())
}

/// Checks that a symbolic link at `depth` directories below the release's root stays inside the release, as far as
/// that can be told without the others: [`Links`] follows them through each other.
///
/// # Errors
/// The rule that the link breaks, as a sentence.
pub fn link_target(depth: usize, target: &str) -> Result<(), String> {
    let wrong = if target.is_empty() {
        Some("leads nowhere: its target is empty")
    } else if target.starts_with('/') {
        Some("is absolute: make it relative, so that it holds wherever the release lies")
    } else if target.chars().any(char::is_control) {
        Some("holds control characters")
    } else {
        None
    };
    if let Some(wrong) = wrong {
        return Err(format!("the link to {target:?} {wrong}"));
    }
    let mut level = depth;
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                level = level
                    .checked_sub(1)
                    .ok_or_else(|| format!("the link to {target:?} leaves the release"))?;
            }
            _ => level += 1,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_read_only_in_its_canonical_form() {
        let mut directory = Directory::default();
        let entry = Entry::File { digest: Sha256::of(b""), size: 0, executable: false };
        directory.entries.insert("a".into(), entry);
        let bytes = directory.to_bytes().unwrap();
        assert_eq!(Directory::from_bytes(&bytes).unwrap(), directory);
        let spaced = String::from_utf8(bytes).unwrap().replacen(':', ": ", 1);
        assert!(Directory::from_bytes(spaced.as_bytes()).unwrap_err().to_string().contains("canonical"));
    }

    #[test]
    fn a_name_or_a_link_cannot_leave_the_release() {
        for name in ["", ".", "..", "a/b", "a\nb", "\u{7f}"] {
            assert!(component(name).is_err(), "{name:?} was taken");
        }
        assert!(link_target(1, "../a/b").is_ok());
        assert!(link_target(0, "a/../b").is_ok());
        for (depth, target) in [(0, "../x"), (1, "../../x"), (3, "/etc/passwd"), (0, "a/../../x"), (0, "")] {
            assert!(link_target(depth, target).is_err(), "{target:?} at {depth} was taken");
        }
    }
}
