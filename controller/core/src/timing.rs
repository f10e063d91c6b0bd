//! The bounds in time that are the controller's own and not an application's. Each says why it is what it is.

use landfall_common::Duration;

/// A host that was not heard of for this long is unknown: three of its heartbeats of ten seconds.
pub const HEARD_WITHIN: Duration = Duration::from_secs(30);

/// A stage assignment may be accepted for this long. It touches nothing that runs, so it may be long.
pub const STAGE_ACCEPT: Duration = Duration::from_secs(10 * 60);

/// An activation may be accepted for this long. Until then the host counts as unavailable, so it is short.
pub const ACTIVATE_ACCEPT: Duration = Duration::from_secs(60);

/// A migration may be accepted for this long.
pub const MIGRATE_ACCEPT: Duration = Duration::from_secs(60);

/// How far the clock of a host may be from the controller's before an expired grant could still be taken.
pub const CLOCK_SKEW: Duration = Duration::from_secs(30);

/// Added to a lease before its outcome counts as unknown: the way of the last report.
pub const LEASE_MARGIN: Duration = Duration::from_secs(30);

/// Added to twice the healthy deadline (the way there and the way back on the host itself) before a host
/// that accepted an activation and never said how it ended counts as failed.
pub const ANSWER_MARGIN: Duration = Duration::from_secs(2 * 60);

/// Staging, and a batch, go on without a host that was not heard of for this long.
pub const UNREACHABLE_GRACE: Duration = Duration::from_secs(2 * 60);

/// The answer to a request is remembered for this long.
pub const REQUEST_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// While a rollout is under way the planner wants to run at least this often.
pub const PLAN_EVERY: Duration = Duration::from_secs(1);

/// While hosts outside of a rollout do not run what they should, the planner wants to run at least this often:
/// one of them may be switched off for months.
pub const CONVERGE_EVERY: Duration = Duration::from_secs(5);

/// How often a host outside of a rollout is sent to the release in force that refuses it, or that says it has
/// taken it and does not run it.
pub const CONVERGE_TRIES: u32 = 3;

/// The pause after an order to a host outside of a rollout that came to nothing: it doubles with each.
pub const CONVERGE_PAUSE: Duration = Duration::from_secs(60);

/// And grows no longer than this.
pub const CONVERGE_PAUSE_AT_MOST: Duration = Duration::from_secs(60 * 60);

/// After this long a host is sent there as if it were for the first time.
pub const CONVERGE_ANEW: Duration = Duration::from_secs(24 * 3600);

/// How often a migration whose definition says that it is idempotent is run anew after an unknown outcome,
/// and how many hosts may refuse it, before somebody is asked.
pub const MIGRATION_ATTEMPTS: u32 = 3;

/// The shortest claim on a place.
pub const MIN_LOCK: Duration = Duration::from_secs(60);

/// The longest claim on a place: over a holiday, and not until nobody remembers what for.
pub const MAX_LOCK: Duration = Duration::from_secs(30 * 24 * 3600);

/// How many rollouts may stand in line for a place: more is a pipeline that runs wild.
pub const LINE_AT_MOST: usize = 20;

/// How many rollouts of a place are kept with all that is known of them, beside those that a proven release
/// or an answer still names. What is older is in the log.
pub const ROLLOUTS_KEPT: usize = 100;

/// How many of those that are older go at once: a decision is one commit.
pub const FORGOTTEN_AT_ONCE: usize = 1000;

/// The files of a release that were uploaded again stay for so long, for whoever wants to go back to it.
pub const RESTORED_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// How many proven releases and applied migrations an environment remembers.
pub const HISTORY: usize = 50;
