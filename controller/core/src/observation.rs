//! What is known of hosts at this moment, and never stored: after a restart every host is unknown until it
//! reports.

use landfall_common::assignment::{Assignment, Order};
use landfall_common::report::{Health, HostReport, OutcomeKind, Phase, Traffic};
use landfall_common::{Duration, Generation, HostId, MetricName, ServiceName, Sha256, StepName, Timestamp};

use crate::record::{HostRecord, Issued};
use crate::timing::{CLOCK_SKEW, HEARD_WITHIN};

/// Something that the shell saw of a host. Connections are numbered by the shell, growing, so that the late
/// end of an old connection does not end the new one and a report from an old one is not taken as fresh.
#[derive(Debug, Clone, PartialEq)]
pub enum Observation {
    /// A host has connected.
    Connected {
        /// Which.
        host: HostId,
        /// By which connection.
        connection: u64,
    },
    /// A connection has ended.
    Disconnected {
        /// Of which host.
        host: HostId,
        /// Which.
        connection: u64,
    },
    /// A host reports.
    Reported {
        /// Which.
        host: HostId,
        /// By which connection.
        connection: u64,
        /// What.
        report: Box<HostReport>,
    },
    /// A host tells what it has measured since it last did.
    Measured {
        /// Which.
        host: HostId,
        /// By which connection.
        connection: u64,
        /// What.
        figures: Figures,
    },
}

/// What a host has measured over a few seconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// Each check that was asked.
    pub checks: Vec<CheckFigures>,
    /// Each service that is seen.
    pub services: Vec<ServiceFigures>,
    /// What the application shows of itself.
    pub metrics: Vec<MetricFigures>,
}

/// How one check of a host went over a few seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckFigures {
    /// Which.
    pub check: StepName,
    /// How often it was asked.
    pub count: u32,
    /// How often it failed.
    pub failed: u32,
    /// How long it took, in the median.
    pub p50: Duration,
}

/// What one service of a host used over a few seconds. What the host cannot see is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceFigures {
    /// Which.
    pub service: ServiceName,
    /// Over how long.
    pub period: Duration,
    /// The processor time of its processes.
    pub cpu: Option<Duration>,
    /// The memory that they hold, in bytes.
    pub memory_bytes: Option<u64>,
    /// How often it was started again after it had ended by itself.
    pub restarts: u32,
}

/// What one metric of an application was like over a few seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricFigures {
    /// Which.
    pub metric: MetricName,
    /// The time that the figure covers.
    pub period: Duration,
    /// The figure, or why there is none.
    pub figure: Result<Shown, String>,
}

/// A figure that an application shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shown {
    /// The mean of a gauge, or by how much counters grew in a second.
    Level(f64),
    /// Of a ratio, or of a histogram.
    Events {
        /// What was counted.
        events: u64,
        /// Of how many.
        of: u64,
    },
}

impl Observation {
    /// The host it is about.
    #[must_use]
    pub fn host(&self) -> &HostId {
        match self {
            Self::Connected { host, .. }
            | Self::Disconnected { host, .. }
            | Self::Reported { host, .. }
            | Self::Measured { host, .. } => host,
        }
    }
}

/// What an observation means for the shell.
#[must_use = "it says whether to plan"]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attention {
    /// No such host, an old connection, or an old report.
    Ignored,
    /// Nothing that the planner would decide upon.
    Noted,
    /// The planner should run soon. Many observations may share one run.
    Plan,
}

/// What is known of a host: its records, and what was seen of it since the controller started.
#[derive(Debug, Clone)]
pub struct Host {
    /// What it was enrolled as.
    pub record: HostRecord,
    /// What was last asked of it.
    pub issued: Issued,
    /// What was seen of it.
    pub seen: Seen,
}

/// What was seen of a host since the controller started.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The number of its connection, while it has one.
    pub connection: Option<u64>,
    /// When that connection was made.
    pub connected_at: Option<Timestamp>,
    /// When something last came from it.
    pub heard_at: Option<Timestamp>,
    /// Its newest report.
    pub report: Option<Received>,
    /// When it last was healthy for as long as its last activation asks for.
    pub stable_at: Option<Timestamp>,
    /// When it was last seen to get on with what it does. That its health changes is no progress: a host
    /// whose health comes and goes must not keep a rollout waiting for ever, nor one that refuses each order.
    pub progressed_at: Option<Timestamp>,
}

/// A report, and how it came.
#[derive(Debug, Clone)]
pub struct Received {
    /// What the host says.
    pub report: HostReport,
    /// When it came, by the controller's clock.
    pub at: Timestamp,
    /// By which connection.
    pub connection: u64,
}

impl Host {
    /// A host that was not heard of yet.
    #[must_use]
    pub fn new(record: HostRecord) -> Self {
        let issued = Issued::nothing(record.id.clone());
        Self { record, issued, seen: Seen::default() }
    }

    /// Its newest report, if it is fresh: from the connection that stands, and not older than
    /// [`HEARD_WITHIN`]. Anything else is no evidence (P5).
    #[must_use]
    pub fn fresh(&self, now: Timestamp) -> Option<&Received> {
        let received = self.seen.report.as_ref()?;
        let current = self.seen.connection == Some(received.connection);
        (current && now.since(received.at) <= HEARD_WITHIN).then_some(received)
    }

    /// Whether it is sure to serve (P4): it [serves](Self::serves), and nothing was granted that it may still take, and no
    /// word is on its way of where its requests are to go, nor any decided.
    #[must_use]
    pub fn available(&self, now: Timestamp) -> bool {
        let led_away = self.record.led_away.is_some();
        self.serves(now) && !led_away && !self.grant_open(now) && self.drain_asked(now).is_none()
    }

    /// Whether it serves as far as is known: fresh word of it, healthy, and nothing done to what runs. Unknown and
    /// partitioned hosts do not.
    #[must_use]
    pub fn serves(&self, now: Timestamp) -> bool {
        let Some(received) = self.fresh(now) else { return false };
        let report = &received.report;
        let at_rest = matches!(
            report.phase,
            Phase::Idle | Phase::Fetching { .. } | Phase::Preparing { .. } | Phase::Migrating
        );
        at_rest
            && report.active.is_some()
            && matches!(report.health, Health::Healthy { .. })
            // What is to be led away from it does not reach it, and what was is not back before it says so.
            && self.record.drain.is_none()
            && !report.traffic.is_away()
    }

    /// Whether an activation was granted that the host may still take, or has taken without saying yet how
    /// it ended.
    #[must_use]
    pub fn grant_open(&self, now: Timestamp) -> bool {
        let Some(assignment) = &self.issued.assignment else { return false };
        if !assignment.order.takes_out() {
            return false;
        }
        match self.standing(assignment, now) {
            Standing::Open | Standing::Accepted => true,
            Standing::Ended(_) | Standing::Lapsed | Standing::Overtaken => false,
        }
    }

    /// What it was told last of where its requests are to go, if it may still take that, or has not said what came of it.
    #[must_use]
    pub(crate) fn drain_asked(&self, now: Timestamp) -> Option<bool> {
        let assignment = self.issued.newest()?;
        let Order::Drain { away } = assignment.order else { return None };
        let open = matches!(self.standing(assignment, now), Standing::Open | Standing::Accepted);
        open.then_some(away)
    }

    /// Whether it has refused to have its requests led back.
    #[must_use]
    pub(crate) fn refused_return(&self, now: Timestamp) -> bool {
        self.issued.newest().is_some_and(|assignment| {
            assignment.order == Order::Drain { away: false }
                && matches!(self.standing(assignment, now), Standing::Ended(OutcomeKind::Refused { .. }))
        })
    }

    /// What it has still to be told of where its requests go: away, or back.
    #[must_use]
    pub(crate) fn drain_due(&self, now: Timestamp) -> Option<bool> {
        self.drain_due_of(self.fresh(now), self.drain_asked(now), self.record.is_led_away())
    }

    /// The same of a report that is known to be fresh, of what it was told last, and of whether requests are to be led
    /// away. A word that may still be taken is overtaken by the other one, whatever the host says now.
    #[must_use]
    pub(crate) fn drain_due_of(
        &self,
        fresh: Option<&Received>,
        asked: Option<bool>,
        wanted: bool,
    ) -> Option<bool> {
        let received = fresh?;
        if asked.is_some_and(|asked| asked != wanted) {
            return Some(wanted);
        }
        match (wanted, received.report.traffic) {
            (true, Traffic::Led | Traffic::Returning) => Some(true),
            (false, Traffic::Draining | Traffic::Drained) => Some(false),
            _ => None,
        }
    }

    /// What has become of an assignment, as far as the host's newest report tells, or one before it was told something
    /// of its requests.
    #[must_use]
    pub fn standing(&self, assignment: &Assignment, now: Timestamp) -> Standing<'_> {
        let Issued { assignment: about_release, came_to, .. } = &self.issued;
        if let (Some(asked), Some(came_to)) = (about_release, came_to)
            && asked.generation == assignment.generation
        {
            return Standing::Ended(came_to);
        }
        let Some(received) = &self.seen.report else { return Standing::Open };
        let report = &received.report;
        // A refusal is told of without the number having been accepted.
        let outcome = report.outcome.as_ref().filter(|o| o.generation == assignment.generation);
        if let Some(outcome) = outcome {
            return Standing::Ended(&outcome.result);
        }
        match report.generation.cmp(&assignment.generation) {
            std::cmp::Ordering::Greater => Standing::Overtaken,
            std::cmp::Ordering::Equal => Standing::Accepted,
            std::cmp::Ordering::Less if self.never_taken(assignment, now) => Standing::Lapsed,
            std::cmp::Ordering::Less => Standing::Open,
        }
    }

    /// What an assignment has come to, if it has ended.
    pub(crate) fn ended(&self, assignment: &Assignment, now: Timestamp) -> Option<&OutcomeKind> {
        match self.standing(assignment, now) {
            Standing::Ended(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// Whether it is sure that the host has not taken an assignment and cannot take it any more. A refusal
    /// alone is not: another copy may be on its way, and may be accepted.
    #[must_use]
    pub(crate) fn never_taken(&self, assignment: &Assignment, now: Timestamp) -> bool {
        // Only a report made after the end of the window proves it, and only a fresh one was surely made
        // after it came here.
        self.fresh(now).is_some_and(|received| {
            received.report.generation < assignment.generation
                && received.at > assignment.expires_at + CLOCK_SKEW
        })
    }

    /// How long it must be healthy without a break to count as stable: what its last activation asks for.
    pub(crate) fn stable_after(&self) -> Duration {
        match self.issued.assignment.as_ref().map(|assignment| &assignment.order) {
            Some(Order::Activate { min_healthy, .. } | Order::Restart { min_healthy, .. }) => *min_healthy,
            _ => Duration::ZERO,
        }
    }

    /// The digest of the release that it reports as active and proven.
    #[must_use]
    pub fn proven_digest(&self) -> Option<Sha256> {
        let active = self.seen.report.as_ref()?.report.active.as_ref()?;
        active.proven.then_some(active.release.digest)
    }

    /// The number for its next assignment: above all that was issued and all that it reports.
    #[must_use]
    pub fn next_generation(&self) -> Generation {
        let reported = self.seen.report.as_ref().map_or(Generation::default(), |r| r.report.generation);
        self.issued.highest.max(reported).next()
    }

    /// The assignment that should be sent (again): still acceptable, and not accepted yet.
    #[must_use]
    pub fn pending(&self, now: Timestamp) -> Option<&Assignment> {
        let assignment = self.issued.newest()?;
        let open = matches!(self.standing(assignment, now), Standing::Open);
        (open && now < assignment.expires_at && self.seen.connection.is_some()).then_some(assignment)
    }

    /// For how long nothing has come from it, counted from `at_least_since` if it never did.
    #[must_use]
    pub fn silent_for(&self, at_least_since: Timestamp, now: Timestamp) -> Duration {
        let last = self.seen.heard_at.map_or(at_least_since, |heard| heard.max(at_least_since));
        now.since(last)
    }
}

/// What has become of an assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing<'a> {
    /// The host may still take it, or has taken it without us knowing.
    Open,
    /// The host has taken it.
    Accepted,
    /// It has ended.
    Ended(&'a OutcomeKind),
    /// Its window is over and the host has not taken it.
    Lapsed,
    /// The host has taken a newer one.
    Overtaken,
}

impl Seen {
    /// Takes what lies ahead, by a clock that was set back, as of this moment.
    pub(crate) fn none_after(&mut self, now: Timestamp) {
        let moments =
            [&mut self.connected_at, &mut self.heard_at, &mut self.stable_at, &mut self.progressed_at];
        let report = self.report.as_mut().map(|received| &mut received.at);
        for moment in moments.into_iter().flatten().chain(report) {
            *moment = now.min(*moment);
        }
    }

    /// Takes an observation in. Older reports of the same connection, and all of older connections, are
    /// dropped.
    pub(crate) fn take(
        &mut self,
        observation: Observation,
        stable_after: Duration,
        now: Timestamp,
    ) -> Attention {
        match observation {
            Observation::Connected { connection, .. } => {
                if self.connection.is_some_and(|current| current >= connection) {
                    return Attention::Ignored;
                }
                self.connection = Some(connection);
                self.connected_at = Some(now);
                Attention::Plan
            }
            Observation::Disconnected { connection, .. } => {
                if self.connection != Some(connection) {
                    return Attention::Ignored;
                }
                self.connection = None;
                Attention::Plan
            }
            Observation::Reported { connection, report, .. } => {
                self.report(connection, *report, stable_after, now)
            }
            // What checks measure is of the comparison with others, and not of the host.
            Observation::Measured { .. } => Attention::Ignored,
        }
    }

    fn report(
        &mut self,
        connection: u64,
        report: HostReport,
        stable_after: Duration,
        now: Timestamp,
    ) -> Attention {
        if self.connection != Some(connection) {
            return Attention::Ignored;
        }
        if let Some(last) = &self.report
            && last.connection == connection
            && !report.is_newer_than(&last.report)
        {
            return Attention::Ignored;
        }
        let old = self.report.as_ref();
        let answers = old.is_none_or(|last| last.report.outcome != report.outcome);
        let got_on = old.is_none_or(|last| {
            let (old, new) = (&last.report, &report);
            old.generation != new.generation
                || old.active != new.active
                || (answers && !refuses(new))
                || !same_step(&old.phase, &new.phase)
        });
        // A host that was silent is one that counts again.
        let other_health = old.is_none_or(|last| {
            last.connection != connection
                || now.since(last.at) > HEARD_WITHIN
                || std::mem::discriminant(&last.report.health) != std::mem::discriminant(&report.health)
        });
        if got_on {
            self.progressed_at = Some(now);
        }
        if matches!(report.health, Health::Healthy { period } if period >= stable_after) {
            self.stable_at = Some(now);
        }
        self.heard_at = Some(now);
        self.report = Some(Received { report, at: now, connection });
        if got_on || answers || other_health { Attention::Plan } else { Attention::Noted }
    }
}

fn refuses(report: &HostReport) -> bool {
    report.outcome.as_ref().is_some_and(|outcome| matches!(outcome.result, OutcomeKind::Refused { .. }))
}

/// Whether two phases are the same step as far as progress goes: more bytes are progress, a longer or
/// shorter time of health is none.
fn same_step(old: &Phase, new: &Phase) -> bool {
    match (old, new) {
        (Phase::Proving { .. }, Phase::Proving { .. }) => true,
        (old, new) => old == new,
    }
}
