//! What on hosts is not as it was applied, and in which facts hosts differ.

use std::collections::BTreeMap;

use landfall_common::Timestamp;
use landfall_common::printable::{each, line};
use landfall_proto::v1;
use serde::Serialize;

use super::moment;

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DriftReport {
    /// By name.
    pub hosts: Vec<HostDrift>,
    /// By application and name.
    pub facts: Vec<FactDifference>,
}

/// One host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostDrift {
    /// Its name.
    pub host: String,
    /// Its application.
    pub application: String,
    /// Its environment.
    pub environment: String,
    /// Whether it holds a session now.
    pub connected: bool,
    /// The release that it has looked at; none until it has.
    pub release: Option<String>,
    /// The release that is active.
    pub active: Option<String>,
    /// Whether it has looked at the release that is active.
    pub is_of_active: bool,
    /// When it looked.
    pub looked: Option<Timestamp>,
    /// When it last read every file.
    pub read: Option<Timestamp>,
    /// How many things differ, by kind: `changed`, `missing`, `added`, `mode`, `link`, `unreadable`.
    pub counts: BTreeMap<String, u64>,
    /// The same digest, the same findings.
    pub digest: String,
    /// The first of them.
    pub findings: Vec<Finding>,
    /// Files of bytecode that nobody released, and that are no findings.
    pub caches: u64,
    /// Entries that were looked at, and bytes that were read.
    pub entries: u64,
    /// As above.
    pub bytes: u64,
    /// What was not looked at, and why.
    pub notes: Vec<String>,
    /// The last repair since the agent's start.
    pub repair: Option<Repair>,
}

impl HostDrift {
    /// How many things differ.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.values().fold(0, |sum, count| sum.saturating_add(*count))
    }
}

/// One thing that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Below the application's directory, or absolute.
    pub path: String,
    /// In what way.
    pub kind: String,
    /// A few words more.
    pub detail: String,
    /// What a person has to do; empty if `--repair` does it.
    pub by_hand: String,
}

/// What came of a repair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repair {
    /// The request that asked for it.
    pub request: String,
    /// How many things were put right.
    pub restored: u64,
    /// What could not be.
    pub failed: Vec<String>,
}

/// A fact in which hosts of one application differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FactDifference {
    /// The application.
    pub application: String,
    /// Such as `kernel`.
    pub fact: String,
    /// Environments inside of which hosts differ.
    pub inside: Vec<String>,
    /// Whether environments differ from each other.
    pub between: bool,
    /// Who has which value.
    pub values: Vec<FactValue>,
}

/// A value of a fact in one environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FactValue {
    /// The environment.
    pub environment: String,
    /// Empty: these hosts do not tell.
    pub value: String,
    /// How many hosts have it.
    pub count: u64,
    /// The first of them.
    pub hosts: Vec<String>,
}

impl From<v1::HostDrift> for HostDrift {
    fn from(host: v1::HostDrift) -> Self {
        let drift = host.drift.unwrap_or_default();
        Self {
            host: host.host,
            application: host.application,
            environment: host.environment,
            connected: host.connected,
            release: drift.release.map(|release| line(&release.name)),
            active: Some(line(&host.active)).filter(|active| !active.is_empty()),
            is_of_active: host.is_of_active,
            looked: moment(host.looked_ms),
            read: moment(host.read_ms),
            counts: drift.counts.into_iter().map(|(kind, count)| (line(&kind), count)).collect(),
            digest: line(&drift.digest),
            findings: drift.findings.into_iter().map(Finding::from).collect(),
            caches: drift.caches,
            entries: drift.entries,
            bytes: drift.bytes,
            notes: each(drift.notes),
            repair: drift.repair.map(|repair| Repair {
                request: line(&repair.request_id),
                restored: repair.restored,
                failed: each(repair.failed),
            }),
        }
    }
}

impl From<v1::DriftFinding> for Finding {
    fn from(finding: v1::DriftFinding) -> Self {
        Self {
            path: line(&finding.path),
            kind: line(&finding.kind),
            detail: line(&finding.detail),
            by_hand: line(&finding.by_hand),
        }
    }
}

impl From<v1::FactDifference> for FactDifference {
    fn from(difference: v1::FactDifference) -> Self {
        let value = |value: v1::FactValue| FactValue {
            environment: value.environment,
            value: line(&value.value),
            count: value.count,
            hosts: value.hosts,
        };
        Self {
            application: difference.application,
            fact: line(&difference.fact),
            inside: difference.inside,
            between: difference.between,
            values: difference.values.into_iter().map(value).collect(),
        }
    }
}
