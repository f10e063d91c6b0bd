//! What the agent and a holder tell each other: one JSON line each way per connection.
//!
//! A holder outlives upgrades of the agent, so the two may be of different versions: neither refuses fields
//! that it does not know, new ones have a default, and the identity of what is to run is computed by the
//! agent alone and only compared by the holder.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use landfall_common::manifest::Ready;
use landfall_common::{AppName, ReleaseName, ServiceName, Sha256, canonical};
use serde::{Deserialize, Serialize};

/// A longer request is refused: an environment of a thousand variables fits many times.
pub const MAX_LINE_BYTES: usize = 1024 * 1024;

/// How a holder's refusal of a line that it does not understand begins. Not to be changed: holders that run say it.
pub const UNREADABLE: &str = "the request cannot be read";

/// How a holder is started; read from a file, so that a unit of systemd can name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderSpec {
    /// Whose service it is.
    pub application: AppName,
    /// Which one.
    pub service: ServiceName,
    /// Where its sockets are; short, since the path of a socket has at most 107 bytes.
    pub run: PathBuf,
    /// Where its lock and its record are.
    pub state: PathBuf,
    /// The log of the service.
    pub log: PathBuf,
    /// The bound of that log, in bytes; one older file of that size is kept.
    pub log_bytes: u64,
}

impl HolderSpec {
    /// `<application>.<service>`; neither of the two can hold a dot.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}.{}", self.application, self.service)
    }

    /// Where it answers.
    #[must_use]
    pub fn control(&self) -> PathBuf {
        self.run.join(format!("{}.sock", self.name()))
    }

    /// What it remembers of its processes.
    #[must_use]
    pub fn record(&self) -> PathBuf {
        self.state.join(format!("{}.record.json", self.name()))
    }

    /// Locked as long as it lives.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.state.join(format!("{}.lock", self.name()))
    }
}

/// What a service runs: all words replaced, nothing left to decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildSpec {
    /// The digest of the manifest that it comes from.
    pub release: Sha256,
    /// The name of that release, for people.
    pub release_name: ReleaseName,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// All of its environment, but for what announces the sockets.
    pub environment: BTreeMap<String, String>,
    /// Its working directory.
    pub directory: PathBuf,
    /// `host:port` or `unix:/path`.
    pub listen: Option<String>,
    /// How it shows that it is ready.
    pub ready: Ready,
    /// Between SIGTERM and SIGKILL.
    #[serde(rename = "stop_timeout_ms", with = "landfall_common::time::duration_ms")]
    pub stop_timeout: Duration,
    /// It may not run beside another: what runs is ended first, and connections wait, at most so long.
    #[serde(
        rename = "hold_ms",
        default,
        skip_serializing_if = "Option::is_none",
        with = "landfall_common::time::optional_duration_ms"
    )]
    pub hold: Option<Duration>,
    /// The attempt by which the same was to run anew: it makes another child of it, for a holder of any version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal: Option<String>,
}

impl ChildSpec {
    /// What it is known by: the same release run in the same way. For the agent; a holder that does not know
    /// all fields would come to another result.
    #[must_use]
    pub fn key(&self) -> ChildKey {
        let bytes = canonical::to_vec(self).expect("it holds neither fractions nor keys that are not text");
        ChildKey { release: self.release, spec: Sha256::of(&bytes) }
    }
}

/// The identity of a [`ChildSpec`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ChildKey {
    /// The digest of the release's manifest.
    pub release: Sha256,
    /// The digest of the whole [`ChildSpec`].
    pub spec: Sha256,
}

/// What a holder is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request {
    /// How things are.
    Status,
    /// Run this instead of what runs now. Asking again for what is under way, or has ended for the same
    /// attempt, changes nothing.
    Handover {
        /// What to run.
        child: Box<ChildSpec>,
        /// Its identity, as the agent has computed it.
        key: ChildKey,
        /// Names one attempt, once and for all: asking again with the same name never has an effect after
        /// that attempt has ended, another name may try again what has failed, or bring back what was
        /// replaced.
        attempt: String,
    },
    /// End the service and itself, and forget both.
    Stop,
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Reply {
    /// To a status request, and to all that is accepted: how things are now.
    Status(Box<Status>),
    /// Another handover is under way; ask again when it has ended.
    Busy {
        /// What is starting.
        starting: ChildKey,
        /// The name of its release.
        release_name: ReleaseName,
    },
    /// The request was not understood, or cannot be done.
    Refused {
        /// Why, as a sentence.
        reason: String,
    },
}

/// How things are with a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The holder's own process.
    pub holder_pid: u32,
    /// What serves, or should.
    pub serving: Option<Serving>,
    /// What is being started beside it.
    pub starting: Option<Starting>,
    /// What was asked to end and has not ended yet.
    pub ending: Vec<Ending>,
    /// How the last handovers ended, the newest last; a bounded number of them.
    pub recent: Vec<HandoverEnd>,
    /// Whether the holder is ending.
    pub stopping: bool,
    /// That nothing serves until what is to come is ready, since it may not run beside what was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out: Option<Out>,
    /// That this holder knows [`ChildSpec::hold`]; one of an older version starts everything beside what runs.
    #[serde(default)]
    pub can_hold: bool,
}

/// Nothing serves, on purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Out {
    /// For how long already.
    #[serde(rename = "for_ms", with = "landfall_common::time::duration_ms")]
    pub period: Duration,
    /// Connections have waited for as long as they may, and are refused.
    pub refusing: bool,
}

/// What serves, or should.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serving {
    /// Its identity.
    pub key: ChildKey,
    /// The name of its release.
    pub release_name: ReleaseName,
    /// How it is.
    pub life: Life,
    /// How often it was started again after it had ended by itself, since this holder began with it.
    pub restarts: u32,
    /// How it ended the last time it did so by itself.
    pub last_end: Option<EndNote>,
}

/// How a process of a service is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Life {
    /// It serves.
    Running {
        /// Its process.
        pid: u32,
        /// For how long.
        #[serde(rename = "for_ms", with = "landfall_common::time::duration_ms")]
        period: Duration,
    },
    /// It was started again and is not ready yet.
    Starting {
        /// Its process.
        pid: u32,
    },
    /// It ended by itself and will be started again.
    Waiting {
        /// In how long.
        #[serde(rename = "for_ms", with = "landfall_common::time::duration_ms")]
        period: Duration,
    },
}

/// What is being started beside what serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Starting {
    /// Its identity.
    pub key: ChildKey,
    /// The name of its release.
    pub release_name: ReleaseName,
    /// Under which attempt.
    pub attempt: String,
    /// Its process, once there is one.
    pub pid: Option<u32>,
}

/// What was asked to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// Its identity.
    pub key: ChildKey,
    /// Its process.
    pub pid: u32,
    /// In how long it is killed; zero if it was.
    #[serde(rename = "killed_in_ms", with = "landfall_common::time::duration_ms")]
    pub killed_in: Duration,
}

impl Status {
    /// How long until everything that was asked to end has been killed.
    #[must_use]
    pub fn longest_end(&self) -> Duration {
        self.ending.iter().map(|ending| ending.killed_in).max().unwrap_or_default()
    }

    /// How a certain attempt at a handover ended, if it has and is remembered.
    #[must_use]
    pub fn end_of(&self, key: ChildKey, attempt: &str) -> Option<&HandoverEnd> {
        self.recent.iter().rev().find(|end| end.key == key && end.attempt == attempt)
    }
}

/// How a handover ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandoverEnd {
    /// To what.
    pub key: ChildKey,
    /// Under which attempt.
    pub attempt: String,
    /// Nothing if it serves now; otherwise why it does not.
    pub failure: Option<EndNote>,
}

/// How a process ended, or why it never began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndNote {
    /// As a sentence.
    pub reason: String,
    /// The exit code, where it exited.
    pub exit_code: Option<i32>,
    /// The last lines of its output.
    pub tail: Vec<String>,
}

impl EndNote {
    /// Of what no process stands behind, or one that said nothing.
    #[must_use]
    pub fn of(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), exit_code: None, tail: Vec::new() }
    }
}
