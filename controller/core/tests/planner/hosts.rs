//! A modelled host: what an agent does with assignments, without doing anything.

use std::collections::BTreeMap;

use landfall_common::assignment::{Assignment, Direction, OnFailure, Order, ReleaseRef};
use landfall_common::report::{
    Active, Failure, Health, HostReport, Outcome, OutcomeKind, Phase, Traffic, tail,
};
use landfall_common::{Duration, Generation, ReleaseName, RolloutId, StepName, Timestamp};

/// How a release behaves on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Healthy at once, for ever.
    Good,
    /// Its check never passes.
    Bad,
    /// Its check fails each time before it has passed for long enough, but only once it was committed.
    Flaps,
    /// It cannot be staged.
    Unstageable,
    /// The same, and it says so at length.
    Verbose,
    /// Committed, the host runs what it ran before.
    Deserts,
    /// The host takes the assignment and is never done.
    Hangs,
}

/// How a migration behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Migrates {
    Well,
    Fails,
    /// It is killed half way.
    Unknown,
}

#[derive(Debug, Clone)]
struct Work {
    assignment: Assignment,
    done_at: Timestamp,
    before: Option<Active>,
    proving: bool,
}

#[derive(Debug, Clone)]
pub struct Host {
    pub up: bool,
    incarnation: u64,
    sequence: u64,
    pub accepted: Generation,
    pub active: Option<Active>,
    outcome: Option<Outcome>,
    work: Option<Work>,
    pub healthy_since: Timestamp,
    pub behaviour: BTreeMap<ReleaseName, Behaviour>,
    pub migrates: Migrates,
    /// Each run of a migration that was begun here: release, direction, fence.
    pub migrations: Vec<(ReleaseName, Direction, u64)>,
    /// Told of until something is accepted; not on record.
    refused: Option<Generation>,
    /// Refuses each first copy of a migration.
    pub coy: bool,
    /// Which orders it takes; it reports in any case.
    pub hears: fn(&Order) -> bool,
    /// Refuses each activation, in time.
    pub refuses: bool,
    /// Refuses each word about its requests, in time.
    pub keeps_its_requests: bool,
    /// What was activated and proven here, one after the other.
    pub took: Vec<ReleaseName>,
    /// What was activated here on top of what, proven or not.
    pub came_from: Vec<(Active, ReleaseRef)>,
    /// What was proven here and is on the disk, the newest first: what it reverts to is the first that did not fail.
    proven: Vec<ReleaseRef>,
    /// How often something was activated here.
    pub activations: u32,
    /// How often services were restarted here, by the rollout that asked for it.
    pub restarts: BTreeMap<RolloutId, u32>,
    /// Whether its services come up again.
    pub restarts_well: bool,
    /// Whether what it goes back to passes its checks again.
    pub reverts_well: bool,
    /// Whether its agent knows of restarts.
    pub knows_restarts: bool,
    /// What its agent says of its requests.
    pub traffic: Traffic,
    /// How many ticks those under way take to end.
    pub in_flight: u32,
}

pub fn failure(step: &str) -> Failure {
    Failure { exit_code: Some(1), ..Failure::new(StepName::new(step).unwrap(), format!("{step} said no")) }
}

/// As much as a host may say.
fn at_length(failure: Failure) -> Failure {
    Failure { tail: tail(vec!["\u{1b}[31m ".repeat(30); 100]), ..failure }
}

impl Host {
    pub fn new(now: Timestamp) -> Self {
        Self {
            up: true,
            incarnation: 1,
            sequence: 0,
            accepted: Generation(0),
            active: None,
            outcome: None,
            work: None,
            healthy_since: now,
            behaviour: BTreeMap::new(),
            migrates: Migrates::Well,
            migrations: Vec::new(),
            refused: None,
            coy: false,
            hears: |_| true,
            refuses: false,
            keeps_its_requests: false,
            took: Vec::new(),
            came_from: Vec::new(),
            proven: Vec::new(),
            activations: 0,
            restarts: BTreeMap::new(),
            restarts_well: true,
            reverts_well: true,
            knows_restarts: true,
            traffic: Traffic::Led,
            in_flight: 2,
        }
    }

    fn behaviour(&self, release: &ReleaseRef) -> Behaviour {
        self.behaviour.get(&release.name).copied().unwrap_or(Behaviour::Good)
    }

    fn way_back(&self, failed: &ReleaseRef) -> Option<ReleaseRef> {
        self.proven.iter().find(|known| *known != failed).cloned()
    }

    /// Whether its service is up, whatever the controller knows.
    pub fn serves(&self) -> bool {
        let busy = self.work.as_ref().is_some_and(|w| w.assignment.order.takes_out());
        self.up && !busy && self.active.is_some() && !self.traffic.is_away()
    }

    pub fn take(&mut self, assignment: &Assignment, now: Timestamp) {
        if !self.up || !(self.hears)(&assignment.order) || assignment.generation <= self.accepted {
            return;
        }
        let first = self.refused != Some(assignment.generation);
        let coy = self.coy && first && matches!(assignment.order, Order::Migrate { .. });
        let refuses = self.refuses && assignment.order.takes_out();
        let keeps = self.keeps_its_requests && matches!(assignment.order, Order::Drain { .. });
        if now >= assignment.expires_at || coy || refuses || keeps {
            self.refused = Some(assignment.generation);
            return;
        }
        self.refused = None;
        if let Order::Drain { away } = assignment.order {
            assert!(self.work.is_none(), "it is asked while it is busy");
            self.accepted = assignment.generation;
            self.traffic = match (away, self.traffic) {
                (_, Traffic::Ungated | Traffic::Unknown) => panic!("it cannot do this"),
                (true, _) => Traffic::Draining,
                (false, Traffic::Led) => Traffic::Led,
                (false, _) => Traffic::Returning,
            };
            self.in_flight = 2;
            return self.end(assignment.generation, OutcomeKind::Committed);
        }
        let lasts = match &assignment.order {
            Order::Drain { .. } => 0,
            Order::Stage => 3,
            Order::Migrate { .. } => 5,
            Order::Activate { .. } | Order::Restart { .. } => 2,
        };
        if let Order::Migrate { fence, direction, .. } = &assignment.order {
            self.migrations.push((assignment.release.name.clone(), *direction, *fence));
        }
        // A newer order ends what was going on; what was active before that stays what to go back to.
        let before = match self.work.take() {
            Some(work) if work.proving => work.before,
            _ => self.active.clone(),
        };
        self.accepted = assignment.generation;
        self.outcome = None;
        let done_at = now + Duration::from_secs(lasts);
        self.work = Some(Work { assignment: assignment.clone(), done_at, before, proving: false });
    }

    fn end(&mut self, generation: Generation, result: OutcomeKind) {
        self.work = None;
        self.outcome = Some(Outcome { generation, result });
    }

    /// Goes on by itself.
    pub fn tick(&mut self, now: Timestamp) {
        if !self.up {
            return;
        }
        if let Some(active) = self.active.clone()
            && self.behaviour(&active.release) == Behaviour::Flaps
            && active.proven
            && now.since(self.healthy_since) >= Duration::from_millis(9_900)
        {
            self.healthy_since = now;
        }
        self.in_flight = self.in_flight.saturating_sub(1);
        let is_well =
            self.active.as_ref().is_some_and(|active| self.behaviour(&active.release) != Behaviour::Bad);
        self.traffic = match self.traffic {
            Traffic::Draining if self.in_flight == 0 => Traffic::Drained,
            Traffic::Returning if is_well && self.in_flight == 0 => Traffic::Led,
            same => same,
        };
        let Some(work) = self.work.clone() else { return };
        if now < work.done_at {
            return;
        }
        let assignment = work.assignment;
        let generation = assignment.generation;
        let behaviour = self.behaviour(&assignment.release);
        match assignment.order {
            Order::Stage if behaviour == Behaviour::Unstageable => {
                self.end(generation, OutcomeKind::StageFailed { failure: failure("virtualenv") });
            }
            Order::Stage if behaviour == Behaviour::Verbose => {
                let failure = at_length(failure("virtualenv"));
                self.end(generation, OutcomeKind::StageFailed { failure });
            }
            Order::Stage => self.end(generation, OutcomeKind::Staged),
            Order::Drain { .. } => {}
            Order::Migrate { .. } => {
                let failure = failure("migrate");
                let result = match self.migrates {
                    Migrates::Well => OutcomeKind::Migrated,
                    Migrates::Fails => OutcomeKind::MigrationFailed { failure },
                    Migrates::Unknown => OutcomeKind::MigrationUnknown { failure },
                };
                self.end(generation, result);
            }
            Order::Restart { .. }
                if self.active.as_ref().map(|active| &active.release) != Some(&assignment.release) =>
            {
                self.end(generation, OutcomeKind::Refused { failure: failure("accept") });
            }
            Order::Restart { min_healthy, .. } if !work.proving => {
                *self.restarts.entry(assignment.rollout.clone()).or_default() += 1;
                if !self.restarts_well {
                    return self.end(generation, OutcomeKind::Held { failure: failure("restart-web") });
                }
                self.healthy_since = now;
                let work = self.work.as_mut().expect("it was there above");
                work.proving = true;
                work.done_at = now + min_healthy;
            }
            Order::Restart { .. } => {
                self.active = Some(Active { release: assignment.release, proven: true });
                self.end(generation, OutcomeKind::Committed);
            }
            Order::Activate { .. } if behaviour == Behaviour::Hangs => {}
            Order::Activate { min_healthy, healthy_deadline, .. } if !work.proving => {
                self.activations += 1;
                let before = self.active.take();
                self.came_from.extend(before.map(|before| (before, assignment.release.clone())));
                self.active = Some(Active { release: assignment.release.clone(), proven: false });
                self.healthy_since = now;
                let lasts = if behaviour == Behaviour::Bad { healthy_deadline } else { min_healthy };
                let work = self.work.as_mut().expect("it was there above");
                work.proving = true;
                work.done_at = now + lasts;
            }
            Order::Activate { on_failure, .. } => {
                if behaviour == Behaviour::Deserts {
                    self.active = work.before;
                    return self.end(generation, OutcomeKind::Committed);
                }
                let bad = behaviour == Behaviour::Bad;
                match (bad, on_failure) {
                    (false, _) => {
                        self.took.push(assignment.release.name.clone());
                        self.proven.retain(|known| *known != assignment.release);
                        self.proven.insert(0, assignment.release.clone());
                        self.active = Some(Active { release: assignment.release, proven: true });
                        self.end(generation, OutcomeKind::Committed);
                    }
                    (true, OnFailure::Revert) if self.way_back(&assignment.release).is_none() => {
                        self.end(generation, OutcomeKind::Held { failure: failure("healthz") });
                    }
                    (true, OnFailure::Revert) if !self.reverts_well => {
                        self.active = self
                            .way_back(&assignment.release)
                            .map(|release| Active { release, proven: false });
                        let (failure, undo) = (failure("healthz"), failure("healthz"));
                        self.end(generation, OutcomeKind::UndoFailed { failure, undo });
                    }
                    (true, OnFailure::Revert) => {
                        self.active = self
                            .way_back(&assignment.release)
                            .map(|release| Active { release, proven: true });
                        self.healthy_since = now;
                        self.end(generation, OutcomeKind::Reverted { failure: failure("healthz") });
                    }
                    (true, OnFailure::Hold) => {
                        self.end(generation, OutcomeKind::Held { failure: failure("healthz") });
                    }
                }
            }
        }
    }

    /// The power goes and comes back: what was begun is ended as the ledger would.
    /// Its clock is set back to this, by so much: what it does goes by one that is not set.
    pub fn set_back(&mut self, now: Timestamp, by_ms: u64) {
        self.healthy_since = now;
        if let Some(work) = &mut self.work {
            work.done_at = Timestamp::from_ms(work.done_at.ms() - by_ms);
        }
    }

    pub fn reboot(&mut self, now: Timestamp) {
        self.up = true;
        self.incarnation += 1;
        self.sequence = 0;
        self.refused = None;
        self.healthy_since = now;
        let Some(work) = self.work.clone() else { return };
        let generation = work.assignment.generation;
        match work.assignment.order {
            Order::Stage | Order::Drain { .. } => {}
            Order::Migrate { .. } => {
                self.end(generation, OutcomeKind::MigrationUnknown { failure: failure("migrate") });
            }
            Order::Activate { .. } | Order::Restart { .. } => {
                if let Some(work) = &mut self.work {
                    work.proving = false;
                    work.done_at = now + Duration::from_secs(2);
                }
            }
        }
    }

    pub fn report(&mut self, now: Timestamp) -> HostReport {
        self.sequence += 1;
        let step = || StepName::new("restart").unwrap();
        let phase = match &self.work {
            None => Phase::Idle,
            Some(work) => match &work.assignment.order {
                Order::Stage => Phase::Preparing { step: StepName::new("virtualenv").unwrap() },
                Order::Drain { .. } => Phase::Idle,
                Order::Migrate { .. } => Phase::Migrating,
                Order::Activate { .. } | Order::Restart { .. } if work.proving => {
                    Phase::Proving { healthy_for: now.since(self.healthy_since) }
                }
                Order::Activate { .. } | Order::Restart { .. } => Phase::Activating { step: step() },
            },
        };
        let health = match &self.active {
            None => Health::Unknown,
            Some(active) if self.behaviour(&active.release) == Behaviour::Bad => Health::Unhealthy {
                failing: [(StepName::new("healthz").unwrap(), "answered 500".to_owned())].into(),
            },
            Some(_) => Health::Healthy { period: now.since(self.healthy_since) },
        };
        HostReport {
            incarnation: self.incarnation,
            sequence: self.sequence,
            at: now,
            generation: self.accepted,
            phase,
            active: self.active.clone(),
            outcome: self.refused.map_or_else(
                || self.outcome.clone(),
                |generation| {
                    let result = OutcomeKind::Refused { failure: failure("accept") };
                    Some(Outcome { generation, result })
                },
            ),
            health,
            restarts: self.knows_restarts,
            traffic: self.traffic,
        }
    }
}
