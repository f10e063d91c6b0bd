//! P7, migrations run at most once by themselves, one at a time, within their lease, and before any host
//! runs what needs them. The database's own account, as its log would tell it.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::assignment::{Assignment, Direction, OnFailure, Order};
use landfall_common::manifest::WayBack;
use landfall_common::{HostId, ReleaseName, RolloutId};
use landfall_controller_core::rollout::Rollout;

use super::{Checks, Violation};
use crate::artifact::ReleasePlan;

/// What really ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// For which rollout.
    pub rollout: RolloutId,
    /// Whose migration.
    pub release: ReleaseName,
    /// Forward or back.
    pub direction: Direction,
    /// On which host.
    pub host: HostId,
    /// Under which lease.
    pub fence: u64,
    /// When it began, in the world's time.
    pub began_at: u64,
    /// By when it must have ended.
    pub lease_until: u64,
    /// When it ended.
    pub ended_at: Option<u64>,
    /// Whether it took effect.
    pub took_effect: bool,
    /// Whether somebody looked and said that it did not, so that another may follow.
    pub written_off: bool,
    /// Whether a second run does no harm.
    pub idempotent: bool,
    /// Whether it ran to an end of its own, and failed.
    pub failed: bool,
}

/// The account.
#[derive(Debug, Default)]
pub struct Database {
    /// All runs.
    pub runs: Vec<Run>,
    /// What it has taken and not given back, oldest first: by what ran, and by what people said of runs of which
    /// nothing was known.
    taken: Vec<Taken>,
    /// Contracts of which people have said that they were done.
    pub contracted_by_word: BTreeSet<ReleaseName>,
    /// Of each rollout, the release in force before it.
    before: BTreeMap<RolloutId, Option<ReleaseName>>,
    /// When each lease ends, by host and number: from when the host took it.
    pub leases: BTreeMap<(HostId, u64), Lease>,
}

/// A migration that the database has taken.
#[derive(Debug)]
struct Taken {
    release: ReleaseName,
    /// What was in force before, and runs on it if it is compatible.
    from: Option<ReleaseName>,
}

impl Database {
    /// A migration took effect, or somebody said so.
    pub fn took(&mut self, rollout: &RolloutId, release: &ReleaseName, direction: Direction) {
        match direction {
            Direction::Up if self.has(release) => {}
            Direction::Up => {
                let from = self.before.get(rollout).cloned().flatten();
                self.taken.push(Taken { release: release.clone(), from });
            }
            Direction::Down => self.taken.retain(|taken| taken.release != *release),
            Direction::Contract => {}
        }
    }

    /// Whose migration a rollout ran in this direction.
    pub fn ran(&self, rollout: &RolloutId, direction: Direction) -> Option<ReleaseName> {
        let of_it = |run: &&Run| run.rollout == *rollout && run.direction == direction;
        self.runs.iter().rev().find(of_it).map(|run| run.release.clone())
    }

    /// Somebody said that what a rollout ran in this direction had no effect.
    pub fn written_off(&mut self, rollout: &RolloutId, direction: Direction) {
        let mut undone = Vec::new();
        let of_it = |run: &&mut Run| run.rollout == *rollout && run.direction == direction;
        for run in self.runs.iter_mut().filter(of_it).filter(|run| !run.written_off) {
            run.written_off = true;
            if run.took_effect {
                undone.push((run.release.clone(), run.direction));
            }
        }
        for (release, direction) in undone {
            let back = match direction {
                Direction::Up => Direction::Down,
                Direction::Down => Direction::Up,
                Direction::Contract => continue,
            };
            self.took(rollout, &release, back);
        }
    }

    fn has(&self, release: &ReleaseName) -> bool {
        self.taken.iter().any(|taken| taken.release == *release)
    }
}

/// The right to run a migration, as a host took it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// For which rollout.
    pub rollout: RolloutId,
    /// When it ends, in the world's time.
    pub until: u64,
}

impl Checks {
    /// A host takes an assignment: the lease of a migration counts from here.
    pub fn database_deadline(&mut self, assignment: &Assignment, now: u64) {
        if let Order::Migrate { fence, lease, .. } = assignment.order {
            let until = now + u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
            let lease = Lease { rollout: assignment.rollout.clone(), until };
            self.database.leases.insert((assignment.host.clone(), fence), lease);
        }
    }

    /// A migration begins.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn migration_begins(&mut self, run: Run) -> Result<usize, Violation> {
        let describe = |run: &Run| {
            format!(
                "{:?} of {} for {} on {} at {}",
                run.direction, run.release, run.rollout, run.host, run.began_at
            )
        };
        let runs = &mut self.database.runs;
        let now = run.began_at;
        if let Some(other) = runs.iter().find(|other| other.ended_at.is_none_or(|ended| ended > now)) {
            let what =
                format!("two migrations at the same time: {}, and {}", describe(other), describe(&run));
            return Err(Violation::new("P7", what));
        }
        let same = runs.iter().find(|other| {
            other.rollout == run.rollout
                && other.release == run.release
                && other.direction == run.direction
                && !other.written_off
        });
        if let Some(other) = same
            && !run.idempotent
        {
            let what = format!("a migration ran twice: {}, and {}", describe(other), describe(&run));
            return Err(Violation::new("P7", what));
        }
        runs.push(run);
        Ok(runs.len() - 1)
    }

    /// A migration has ended.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn migration_ended(
        &mut self,
        run: usize,
        at: u64,
        took_effect: bool,
        failed: bool,
    ) -> Result<(), Violation> {
        let run = &mut self.database.runs[run];
        run.ended_at = Some(at);
        run.took_effect = took_effect;
        run.failed = failed;
        let late = at > run.lease_until;
        let what = format!(
            "the migration of {} on {} ran until {at}, and its lease ended at {}",
            run.release, run.host, run.lease_until
        );
        if took_effect {
            let (rollout, release, direction) = (run.rollout.clone(), run.release.clone(), run.direction);
            self.database.took(&rollout, &release, direction);
        }
        if late { Err(Violation::new("P7", what)) } else { Ok(()) }
    }

    /// A rollout may come to migrate: what is in force before it.
    pub fn rollout_known(&mut self, rollout: &Rollout) {
        // In line it is planned later, for what is in force then.
        if rollout.in_line().is_some() {
            return;
        }
        let before = rollout.previous.as_ref().map(|previous| previous.name.clone());
        self.database.before.entry(rollout.id.clone()).or_insert(before);
    }

    /// An activation leaves the controller, for a host that runs `active`: what the release needs must have run,
    /// nothing may run now, and the schema must be one that the release knows, and the one also to which the host
    /// would go back.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn schema_is_ready(
        &self,
        assignment: &Assignment,
        active: Option<&ReleaseName>,
        now: u64,
    ) -> Result<(), Violation> {
        let Order::Activate { on_failure, .. } = assignment.order else { return Ok(()) };
        let schema = |run: &&super::migration::Run| run.direction != Direction::Contract;
        let mut running =
            self.database.runs.iter().filter(|run| run.ended_at.is_none_or(|ended| ended > now));
        if let Some(run) = running.find(schema).filter(|run| run.rollout == assignment.rollout) {
            let what = format!(
                "{} may activate {} while the migration of {} runs on {}",
                assignment.host, assignment.release.name, run.release, run.host
            );
            return Err(Violation::new("P7", what));
        }
        let name = &assignment.release.name;
        let migrates = self.plan(name).is_some_and(|plan| plan.migration.is_some());
        if migrates && !self.database.has(name) {
            let what = format!("{} may activate {name}, whose migration never ran", assignment.host);
            return Err(Violation::new("P7", what));
        }
        if let Some(why) = self.does_not_know(name) {
            let what = format!("{} may activate {name}, and {why}", assignment.host);
            return Err(Violation::new("P7", what));
        }
        let other = active.filter(|active| *active != name && on_failure == OnFailure::Revert);
        if let Some(active) = other
            && let Some(why) = self.does_not_know(active)
        {
            let host = &assignment.host;
            let what = format!("{host} may go back from {name} to {active} by itself, and {why}");
            return Err(Violation::new("P7", what));
        }
        Ok(())
    }

    /// Why a release cannot run on what the database has taken.
    fn does_not_know(&self, release: &ReleaseName) -> Option<String> {
        let number = self.plan(release)?.number;
        if let Some(why) = self.contracted_away(number) {
            return Some(why);
        }
        for taken in &self.database.taken {
            let newer = self.plan(&taken.release)?;
            if newer.number <= number {
                continue;
            }
            let from = taken.from.as_ref().and_then(|from| self.plan(from)).map(|plan| plan.number);
            match &newer.migration.as_ref()?.way_back {
                WayBack::Compatible if from.is_some_and(|from| from <= number) => {}
                WayBack::Compatible => {
                    return Some(format!(
                        "the migration of {} was made for {:?}, and is in the database",
                        taken.release, taken.from
                    ));
                }
                WayBack::Reversible { .. } | WayBack::None => {
                    return Some(format!("the database has the migration of {}", taken.release));
                }
            }
        }
        None
    }

    pub(super) fn plan(&self, name: &ReleaseName) -> Option<&ReleasePlan> {
        self.releases.values().find(|release| release.reference.name == *name).map(|release| &release.plan)
    }
}
