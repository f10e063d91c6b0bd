//! The checkers: what must be true whatever happens. Each looks only at what an outsider could see: disks
//! read afresh, what really runs, what was really sent and heard, the controller's durable records.
//!
//! They share no code with what they check, so that one mistake cannot hide in both.

pub mod account;
pub mod approval;
pub mod blue_green;
pub mod budget;
pub mod by_itself;
pub mod calendar;
pub mod comparison;
pub mod contract;
pub mod current;
pub mod drain;
pub mod drill;
pub mod evidence;
pub mod failures;
pub mod gate;
pub mod gates;
pub mod labels;
pub mod late;
pub mod leave_out;
pub mod line;
pub mod memory;
pub mod migration;
pub mod pace;
pub mod proof;
pub mod reasons;
pub mod restart;
pub mod runbook;
pub mod stops;
pub mod watch;

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::assignment::Assignment;
use landfall_common::report::HostReport;
use landfall_common::{HostId, RolloutId, Sha256, Timestamp};

use crate::artifact::Release;
use crate::dice::Dice;

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which: `P4`.
    pub promise: &'static str,
    /// What was seen.
    pub what: String,
}

impl Violation {
    pub(crate) fn new(promise: &'static str, what: impl Into<String>) -> Self {
        Self { promise, what: what.into() }
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is broken: {}", self.promise, self.what)
    }
}

/// A report as it reached the controller.
#[derive(Debug, Clone)]
pub struct Heard {
    /// By which connection.
    pub connection: u64,
    /// When, by the controller's clock.
    pub at: Timestamp,
    /// What.
    pub report: HostReport,
}

/// What operators and integrations have said so far that holds, or may.
pub struct Said {
    alone: leave_out::Alone,
    drained: drain::Drained,
    gates: gates::Words,
    groups: blue_green::Groups,
    failures: failures::Failures,
    restarts: restart::Restarts,
}

/// What the checkers remember.
pub struct Checks {
    /// Dice of their own: whether they look changes nothing in the world.
    pub dice: Dice,
    /// The releases by their digests.
    pub releases: BTreeMap<Sha256, Release>,
    /// Every assignment that was ever sent.
    pub sent: BTreeMap<(HostId, u64), Assignment>,
    /// The newest of each host.
    pub newest: BTreeMap<HostId, Assignment>,
    /// Orders of which the controller has had proof that they were not taken in time, whatever its clock says later.
    pub lapsed: BTreeSet<(HostId, u64)>,
    /// The newest report of each host that reached the controller's process.
    pub heard: BTreeMap<HostId, Heard>,
    /// What the process before it had heard last: upon that it has decided what is found durable.
    heard_before: BTreeMap<HostId, Heard>,
    /// The connections that stand, as the controller's process sees it.
    pub sessions: BTreeMap<HostId, u64>,
    /// When the controller's process was started, by its clock.
    pub started_at: Timestamp,
    /// Which host was seen to have proven which release.
    pub proven: BTreeSet<(HostId, Sha256)>,
    /// Hosts that have had an active release.
    pub had_active: BTreeSet<HostId>,
    /// The account of migrations that really ran.
    pub database: migration::Database,
    /// What must stand in the log.
    pub account: account::Account,
    /// Order among rollouts.
    pub line: line::Lines,
    /// Who has said yes to what.
    pub approvals: approval::Approvals,
    /// Which rollouts no window holds.
    pub windows: calendar::Windows,
    /// What staging has proven.
    pub proofs: proof::Proofs,
    /// What CI has said.
    pub evidence: evidence::Evidence,
    /// Who is to be left alone.
    pub alone: leave_out::Alone,
    /// What was said of hosts.
    pub labels: labels::Labels,
    /// Hosts that get no requests, by somebody's word.
    pub drained: drain::Drained,
    /// Requests that are led from one group of hosts to the other.
    pub groups: blue_green::Groups,
    /// What must not be forgotten.
    pub memory: memory::Memory,
    /// The failures that the controller's process was told of.
    pub failures: failures::Failures,
    /// Rollouts whose gate was looked at, with the batch that was open.
    pub open_batch: BTreeMap<RolloutId, u32>,
    /// Hosts that were let go and have not said what became of it, whatever process they said it to.
    pub let_go: pace::LetGo,
    /// What was measured while a canary is held.
    pub figures: comparison::Figures,
    /// Rollouts whose canary somebody has promoted.
    pub promoted: BTreeSet<RolloutId>,
    /// Rollouts that may go back.
    pub late: late::Late,
    /// What was said of the gates that others hold.
    pub gates: gates::Words,
    /// Rollouts that are watched.
    pub watch: watch::Watch,
    /// What was restarted without a release.
    pub restarts: restart::Restarts,
    /// Hosts that hear nothing of the controller.
    pub by_itself: by_itself::ByItself,
    /// What hosts run, and where they came from.
    pub stops: stops::Stops,
    /// How often a host came from a stop to what follows it.
    pub stopped: u64,
    /// How often a rollout under way had nothing to do.
    pub waits: u64,
    /// Looks so far.
    pub looks: u64,
}

impl Checks {
    /// Checkers that have seen nothing.
    #[must_use]
    pub fn new(seed: u64, releases: &[Release]) -> Self {
        Self {
            dice: Dice::new(seed ^ 0x6368_6563_6b65_7273),
            releases: releases.iter().map(|r| (r.reference.digest, r.clone())).collect(),
            sent: BTreeMap::new(),
            newest: BTreeMap::new(),
            lapsed: BTreeSet::new(),
            heard: BTreeMap::new(),
            heard_before: BTreeMap::new(),
            sessions: BTreeMap::new(),
            started_at: Timestamp::default(),
            proven: BTreeSet::new(),
            had_active: BTreeSet::new(),
            database: migration::Database::default(),
            account: account::Account::default(),
            line: line::Lines::default(),
            approvals: approval::Approvals::default(),
            windows: calendar::Windows::default(),
            proofs: proof::Proofs::default(),
            evidence: evidence::Evidence::default(),
            alone: leave_out::Alone::default(),
            labels: labels::Labels::default(),
            drained: drain::Drained::default(),
            groups: blue_green::Groups::default(),
            memory: memory::Memory::default(),
            failures: failures::Failures::default(),
            open_batch: BTreeMap::new(),
            let_go: pace::LetGo::new(),
            figures: comparison::Figures::default(),
            promoted: BTreeSet::new(),
            late: late::Late::default(),
            gates: gates::Words::default(),
            watch: watch::Watch::default(),
            restarts: restart::Restarts::default(),
            by_itself: by_itself::ByItself::default(),
            stops: stops::Stops::new(),
            stopped: 0,
            waits: 0,
            looks: 0,
        }
    }

    /// What was said until now.
    #[must_use]
    pub fn said_so_far(&self) -> Said {
        Said {
            alone: self.alone.clone(),
            drained: self.drained.clone(),
            gates: self.gates.clone(),
            groups: self.groups.clone(),
            failures: self.failures.clone(),
            restarts: self.restarts.clone(),
        }
    }

    /// What was said since was not taken: whoever said it has heard so, and nothing has changed.
    pub fn not_taken(&mut self, before: Said) {
        let Said { alone, drained, gates, groups, failures, restarts } = before;
        (self.alone, self.drained, self.gates) = (alone, drained, gates);
        (self.groups, self.failures, self.restarts) = (groups, failures, restarts);
    }

    /// The controller's process has started: what the one before had heard is gone.
    pub fn controller_started(&mut self, at: Timestamp) {
        self.started_at = at;
        self.heard_before = std::mem::take(&mut self.heard);
        self.sessions.clear();
        self.forget_failures();
        self.forget_restarts();
        self.forget_figures();
    }

    /// The controller's clock was set back: what was heard lies ahead of it by no time.
    pub fn controller_clock_set(&mut self, now: Timestamp) {
        for heard in self.heard.values_mut() {
            heard.at = heard.at.min(now);
        }
        self.started_at = self.started_at.min(now);
    }

    /// A host has connected to the controller.
    pub fn connected(&mut self, host: &HostId, connection: u64) {
        if self.sessions.get(host).is_none_or(|known| *known < connection) {
            self.sessions.insert(host.clone(), connection);
        }
    }

    /// The controller noticed the end of a connection.
    pub fn disconnected(&mut self, host: &HostId, connection: u64) {
        if self.sessions.get(host) == Some(&connection) {
            self.sessions.remove(host);
        }
    }

    /// A report reached the controller.
    pub fn heard(&mut self, host: &HostId, connection: u64, report: &HostReport, at: Timestamp) {
        if self.sessions.get(host) != Some(&connection) {
            return;
        }
        let is_old = self.heard.get(host).is_some_and(|last| {
            let number = |report: &HostReport| (report.incarnation, report.sequence);
            last.connection == connection && number(&last.report) >= number(report)
        });
        if !is_old {
            self.told_of_failure(host, report);
            self.told_of_restart(host, report);
            self.told_of_activation(host, report, at);
            self.told_of_lapse(host, report, at);
            self.heard.insert(host.clone(), Heard { connection, at, report: report.clone() });
        }
    }
}
