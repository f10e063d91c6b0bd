//! P7, migrations run at most once by themselves, one at a time, within their lease, and before any host
//! runs what needs them. The database's own account, as its log would tell it.

use std::collections::BTreeMap;

use landfall_common::assignment::{Assignment, Direction, Order};
use landfall_common::{HostId, ReleaseName, RolloutId};

use super::{Checks, Violation};

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
}

/// The account.
#[derive(Debug, Default)]
pub struct Database {
    /// All runs.
    pub runs: Vec<Run>,
    /// Releases whose migration somebody said had been applied.
    pub said_applied: Vec<ReleaseName>,
    /// When each lease ends, by host and number: from when the host took it.
    pub leases: BTreeMap<(HostId, u64), Lease>,
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
    pub fn migration_ended(&mut self, run: usize, at: u64, took_effect: bool) -> Result<(), Violation> {
        let run = &mut self.database.runs[run];
        run.ended_at = Some(at);
        run.took_effect = took_effect;
        if at > run.lease_until {
            let what = format!(
                "the migration of {} on {} ran until {at}, and its lease ended at {}",
                run.release, run.host, run.lease_until
            );
            return Err(Violation::new("P7", what));
        }
        Ok(())
    }

    /// An activation leaves the controller: what the release needs must have run, and nothing may run now.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn schema_is_ready(&self, assignment: &Assignment, now: u64) -> Result<(), Violation> {
        if !matches!(assignment.order, Order::Activate { .. }) {
            return Ok(());
        }
        let running = self.database.runs.iter().find(|run| run.ended_at.is_none_or(|ended| ended > now));
        if let Some(run) = running.filter(|run| run.rollout == assignment.rollout) {
            let what = format!(
                "{} may activate {} while the migration of {} runs on {}",
                assignment.host, assignment.release.name, run.release, run.host
            );
            return Err(Violation::new("P7", what));
        }
        let release = self.releases.get(&assignment.release.digest);
        if release.is_none_or(|release| release.plan.migration.is_none()) {
            return Ok(());
        }
        let name = &assignment.release.name;
        let ran = self
            .database
            .runs
            .iter()
            .any(|run| run.release == *name && run.direction == Direction::Up && run.took_effect);
        if ran || self.database.said_applied.contains(name) {
            return Ok(());
        }
        let what = format!("{} may activate {name}, whose migration never ran", assignment.host);
        Err(Violation::new("P7", what))
    }
}
