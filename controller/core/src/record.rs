//! What the controller must never forget: the durable records, their keys and the changes to them.
//!
//! What hosts say of themselves is not here: it is volatile, see [`crate::observation`].

mod key;

use std::collections::BTreeMap;
use std::fmt;

use landfall_common::assignment::{Assignment, ReleaseRef};
use landfall_common::manifest::{AppMetric, Follows, Manifest, Origin, WayBack};
use landfall_common::report::OutcomeKind;
use landfall_common::strategy::Strategy;
use landfall_common::time::duration_ms;
use landfall_common::{
    AppName, Duration, EnvName, Generation, HostId, LabelKey, RequestId, RolloutId, ServiceName, Sha256,
    StepName, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::command::Answer;
use crate::contract::{ContractFacts, Contracted};
use crate::evidence::EvidenceRecord;
use crate::log::Actor;
use crate::member::Member;
use crate::rollout::Rollout;
pub use key::{Key, RECORDS};

/// Where a rollout takes place: one application in one environment. There is one rollout per place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The application.
    pub application: AppName,
    /// The environment.
    pub environment: EnvName,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.application, self.environment)
    }
}

/// A host that was enrolled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRecord {
    /// Its name.
    pub id: HostId,
    /// What it was enrolled for; it never takes anything else.
    pub place: Place,
    /// What its operator says of it.
    #[serde(default)]
    pub labels: BTreeMap<LabelKey, String>,
    /// Since when.
    pub enrolled_at: Timestamp,
    /// The word of an operator that it is to be left alone, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cordon: Option<Word>,
    /// That requests are to be led away from it, if somebody has said so. It is cordoned as well then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
    /// The rollout that has requests led away from it, while one does: the other group of hosts gets them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub led_away: Option<RolloutId>,
}

impl HostRecord {
    /// Whether requests are to be led away from it, by whose word ever.
    #[must_use]
    pub fn is_led_away(&self) -> bool {
        self.drain.is_some() || self.led_away.is_some()
    }
}

/// The word of an operator that requests are to be led away from a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// Whose, and why.
    pub word: Word,
    /// Whether the host is cordoned by a word of its own, which stays when requests are led back.
    #[serde(default, skip_serializing_if = "is_no")]
    pub cordoned: bool,
}

/// Who said something, why, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// Who.
    pub by: Actor,
    /// Why.
    pub reason: String,
    /// When.
    pub since: Timestamp,
}

/// A published release: what the planner must know of its manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRecord {
    /// The application.
    pub application: AppName,
    /// Name, counter, digest.
    pub release: ReleaseRef,
    /// When it was published.
    pub published_at: Timestamp,
    /// By whom.
    pub by: Actor,
    /// Where its content comes from.
    pub origin: Origin,
    /// What people should know of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
    /// Its migration, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<MigrationFacts>,
    /// What it takes away in the end, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract: Option<ContractFacts>,
    /// How each environment wants to be rolled out.
    pub environments: BTreeMap<EnvName, Strategy>,
    /// Its checks; none is known of one that was published to an older controller.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<StepName>,
    /// Its services; none is known of one that was published to an older controller.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceName>,
    /// What it shows of itself. An older controller publishes none that does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<AppMetric>,
    /// How many releases its definition lets a host keep; the controller keeps no fewer.
    #[serde(default)]
    pub hosts_keep: u32,
    /// What a host must have run before it takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<Follows>,
    /// Whether its files are still on the controller.
    #[serde(default)]
    pub content: Content,
}

/// Whether the files of a release are on the controller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "content", rename_all = "snake_case")]
pub enum Content {
    /// They are.
    #[default]
    Here,
    /// They were removed once, and uploaded again by somebody who wants to go back to it.
    Restored {
        /// When.
        at: Timestamp,
    },
    /// They were removed, since nobody was to be brought to the release any more.
    Removed {
        /// When.
        at: Timestamp,
    },
}

impl ReleaseRecord {
    /// What the planner must know of a published manifest.
    #[must_use]
    pub fn of(manifest: &Manifest, release: ReleaseRef, published_at: Timestamp, by: Actor) -> Self {
        Self {
            application: manifest.application.clone(),
            release,
            published_at,
            by,
            origin: manifest.origin.clone(),
            notes: None,
            migration: manifest.program.migrate.as_ref().map(|migration| MigrationFacts {
                lease: migration.lease,
                way_back: WayBackKind::from(&migration.way_back),
                idempotent: migration.idempotent,
                schema: migration.schema,
            }),
            contract: (manifest.program.contract.as_ref())
                .map(|contract| ContractFacts { lease: contract.lease, idempotent: contract.idempotent }),
            environments: manifest.environments.clone(),
            checks: manifest.program.checks.iter().map(|check| check.name.clone()).collect(),
            services: manifest.program.services.iter().map(|service| service.name.clone()).collect(),
            metrics: manifest.program.metrics.clone(),
            hosts_keep: manifest.program.retention.releases,
            follows: manifest.program.follows.clone(),
            content: Content::Here,
        }
    }
}

impl Content {
    /// When the files were removed, if they are gone.
    #[must_use]
    pub fn removed_at(&self) -> Option<Timestamp> {
        match self {
            Self::Here | Self::Restored { .. } => None,
            Self::Removed { at } => Some(*at),
        }
    }
}

/// What the planner must know of a migration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationFacts {
    /// How long the elected host holds the right to run it.
    #[serde(rename = "lease_ms", with = "duration_ms")]
    pub lease: Duration,
    /// What stands between the migrated database and the release before.
    pub way_back: WayBackKind,
    /// Whether running it twice does no harm.
    pub idempotent: bool,
    /// The digest of the files that define the schema, where the definition names them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Sha256>,
}

/// [`WayBack`] without the command, which is none of the planner's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WayBackKind {
    /// The previous release runs on the new schema.
    Compatible,
    /// A step takes the schema back.
    Reversible,
    /// There is none.
    None,
}

impl From<&WayBack> for WayBackKind {
    fn from(way_back: &WayBack) -> Self {
        match way_back {
            WayBack::Compatible => Self::Compatible,
            WayBack::Reversible { .. } => Self::Reversible,
            WayBack::None => Self::None,
        }
    }
}

/// What is known of a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceRecord {
    /// Which place.
    pub place: Place,
    /// The releases that came to be in force here, oldest first; the last one is.
    pub proven: Vec<Proven>,
    /// The migrations that the database has taken and not given back, oldest first.
    pub migrations: Vec<Applied>,
    /// The contracts that have run on it or may have: the newest that is known to, and those after it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contracts: Vec<Contracted>,
    /// The number of the last migration lease; only grows.
    pub fence: u64,
    /// The rollout that holds the place.
    pub holder: Option<RolloutId>,
    /// The rollout that held it last.
    pub last: Option<RolloutId>,
    /// Whether hosts that run something else are brought to the release in force.
    pub convergence: Convergence,
    /// The rollouts that wait for the place, the next one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub line: Vec<RolloutId>,
    /// What somebody has claimed it for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<Lock>,
    /// The last drill that ended well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsed: Option<Rehearsal>,
}

/// A drill that ended well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsal {
    /// The rollout that carried it out.
    pub rollout: RolloutId,
    /// The release that the canary took and gave back.
    pub release: ReleaseRef,
    /// The release that it is back on.
    pub back_to: ReleaseRef,
    /// When.
    pub at: Timestamp,
    /// On how many hosts.
    pub hosts: u64,
    /// How long the way there took, its proof included.
    #[serde(rename = "there_ms", with = "duration_ms")]
    pub there: Duration,
    /// How long the way back took, its proof included.
    #[serde(rename = "back_ms", with = "duration_ms")]
    pub back: Duration,
}

/// A person's claim on a place: nothing begins there while it holds. It is a lease, so that nobody has to be
/// found who forgot it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// Who claims it.
    pub by: Actor,
    /// What for.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
    /// Until when, at the latest.
    pub until: Timestamp,
}

impl PlaceRecord {
    /// A place where nothing has happened yet.
    #[must_use]
    pub fn new(place: Place) -> Self {
        Self {
            place,
            proven: Vec::new(),
            migrations: Vec::new(),
            contracts: Vec::new(),
            fence: 0,
            holder: None,
            last: None,
            convergence: Convergence::On,
            line: Vec::new(),
            lock: None,
            rehearsed: None,
        }
    }

    /// Whether this release was ever proven here.
    #[must_use]
    pub fn has_proven(&self, release: &ReleaseRef) -> bool {
        self.proven.iter().any(|proven| proven.release.digest == release.digest)
    }

    /// The release that every host here should run when no rollout is under way.
    #[must_use]
    pub fn in_force(&self) -> Option<&Proven> {
        self.proven.last()
    }

    /// The rollout that decided last what its hosts do: the one under way, or the newest one that has ended.
    #[must_use]
    pub fn newest_rollout(&self) -> Option<&RolloutId> {
        let in_force = self.in_force().map(|in_force| &in_force.rollout);
        self.holder.as_ref().or(self.last.as_ref()).or(in_force)
    }
}

/// Whether hosts that run something else are brought to the release in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Convergence {
    /// They are.
    On,
    /// A rollout ended half way, so that nobody but an operator knows what should run.
    Held {
        /// How it ended.
        reason: String,
    },
    /// More of them have failed than may: whoever has not been sent there is left alone until somebody says
    /// that they may try again.
    Stopped {
        /// Which failed, and why.
        reason: String,
    },
}

/// A release that came to be in force in a place: proven on every host, or on all but those that were silent or
/// failed within the budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proven {
    /// Which.
    pub release: ReleaseRef,
    /// By which rollout.
    pub rollout: RolloutId,
    /// When.
    pub at: Timestamp,
    /// Whether it was proven on every host. Only such a release is gone back to unasked.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub whole: bool,
    /// Whether somebody has gone back from it since, or begun to: it proves nothing for another place any more.
    #[serde(default, skip_serializing_if = "is_no")]
    pub gone_back: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_no(value: &bool) -> bool {
    !*value
}

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_yes(value: &bool) -> bool {
    *value
}

/// A migration that the database of a place has taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The release that brought it.
    pub release: ReleaseRef,
    /// The release that was in force before it; `None` if it was the first.
    pub from: Option<ReleaseRef>,
    /// What it means for the way back.
    pub facts: MigrationFacts,
    /// When it was known to have succeeded.
    pub at: Timestamp,
}

/// What was last asked of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// Of which host.
    pub host: HostId,
    /// The highest generation that was ever used for it.
    pub highest: Generation,
    /// The newest order about a release. One of an older version may be a word about requests.
    pub assignment: Option<Assignment>,
    /// What the host was told since of where its requests go: a word beside that order, and not in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Assignment>,
    /// What the order about a release had come to when the host was told something of its requests: from then on it
    /// answers that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub came_to: Option<OutcomeKind>,
    /// How often in a row the host was sent to this release outside of a rollout.
    #[serde(default, skip_serializing_if = "crate::member::is_zero")]
    pub tries: u32,
}

impl Issued {
    /// Nothing was asked of the host yet.
    #[must_use]
    pub fn nothing(host: HostId) -> Self {
        Self {
            host,
            highest: Generation::default(),
            assignment: None,
            requests: None,
            came_to: None,
            tries: 0,
        }
    }

    /// What the host is to take: the newest assignment of all.
    #[must_use]
    pub fn newest(&self) -> Option<&Assignment> {
        self.requests.as_ref().or(self.assignment.as_ref())
    }
}

/// A request that was answered, so that sending it again changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// As its sender chose it.
    pub id: RequestId,
    /// Of what was asked, and by whom.
    pub content: Sha256,
    /// What was answered.
    pub answer: Answer,
    /// When.
    pub at: Timestamp,
}

/// One durable record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// An enrolled host.
    Host(HostRecord),
    /// A published release.
    Release(Box<ReleaseRecord>),
    /// What is known of a place.
    Place(Box<PlaceRecord>),
    /// A rollout.
    Rollout(Box<Rollout>),
    /// A host's part in a rollout.
    Member(Box<Member>),
    /// What was last asked of a host.
    Issued(Box<Issued>),
    /// An answered request.
    Request(RequestRecord),
    /// What CI has said of a commit.
    Evidence(Box<EvidenceRecord>),
}

impl Record {
    /// The key under which it is stored.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Host(host) => Key::Host(host.id.clone()),
            Self::Release(record) => Key::Release(record.application.clone(), record.release.name.clone()),
            Self::Place(record) => Key::Place(record.place.clone()),
            Self::Rollout(rollout) => Key::Rollout(rollout.id.clone()),
            Self::Member(member) => Key::Member(member.rollout.clone(), member.host.clone()),
            Self::Issued(issued) => Key::Issued(issued.host.clone()),
            Self::Request(request) => Key::Request(request.id.clone()),
            Self::Evidence(record) => {
                let statement = &record.statement;
                Key::Evidence(statement.application.clone(), statement.into())
            }
        }
    }
}

/// A change of the durable records. The shell makes it durable first and applies it afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// The record is there, with this content.
    Put {
        /// The whole record.
        record: Record,
    },
    /// The record is gone.
    Delete {
        /// Which.
        key: Key,
    },
}

impl Change {
    /// The key that it touches.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Put { record } => record.key(),
            Self::Delete { key } => key.clone(),
        }
    }
}
