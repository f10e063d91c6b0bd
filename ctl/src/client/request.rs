//! What can be asked of the controller, as plain data.

use std::time::Duration;

use landfall_common::assignment::RestartKind;
use landfall_common::strategy::{Canary, Spread, StrategyKind, Window};
use landfall_common::{AppName, EnvName, HostId, ReleaseName, ServiceName, Token};
use landfall_proto::v1;

/// A rollout that somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// Of which application.
    pub application: AppName,
    /// To which environment.
    pub environment: EnvName,
    /// Which release.
    pub release: ReleaseName,
    /// Other knobs than the definition's.
    pub overrides: Overrides,
    /// Accepts a migration that cannot be taken back.
    pub no_way_back: bool,
    /// What becomes of it where it cannot begin at once.
    pub if_held: IfHeld,
    /// Why windows and freezes do not hold it; empty if they do.
    pub outside_window: String,
    /// Refused unless it is proven there.
    pub proven_in: Option<EnvName>,
    /// Why it may be unproven where landfall.toml asks for that; empty if it may not.
    pub unproven: String,
    /// Why it may begin without the evidence that landfall.toml asks for; empty if it may not.
    pub without_evidence: String,
}

/// Services that somebody wants anew, with the release in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anew {
    /// Of which application.
    pub application: AppName,
    /// Where.
    pub environment: EnvName,
    /// Restarted or reloaded.
    pub kind: RestartKind,
    /// Which; none for all.
    pub services: Vec<ServiceName>,
    /// Why.
    pub reason: String,
    /// Other knobs than the definition's.
    pub overrides: Overrides,
    /// Why windows and freezes do not hold it; empty if they do.
    pub outside_window: String,
}

/// What becomes of a rollout that cannot begin at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IfHeld {
    /// It is refused.
    #[default]
    Refuse,
    /// It stands in line.
    Queue,
    /// It takes the place of what is under way.
    Supersede,
}

impl IfHeld {
    pub(super) fn message(self) -> v1::IfHeld {
        match self {
            Self::Refuse => v1::IfHeld::Unspecified,
            Self::Queue => v1::IfHeld::Queue,
            Self::Supersede => v1::IfHeld::Supersede,
        }
    }
}

/// Knobs for one rollout; what is absent stays as the definition has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// How hosts follow each other.
    pub strategy: Option<StrategyKind>,
    /// Hosts in the first batch.
    pub canary: Option<Canary>,
    /// How long the canary is held.
    pub canary_hold: Option<Duration>,
    /// Whether the next batch follows it by itself.
    pub auto_promote: Option<bool>,
    /// Whether the canary is compared with others.
    pub analysis: Option<bool>,
    /// `2` or `25%`.
    pub batch: Option<String>,
    /// Whether batches wait for each other as a whole.
    pub window: Option<Window>,
    /// The label by whose values hosts change, or none.
    pub spread: Option<Spread>,
    /// How far hosts are apart.
    pub stagger: Option<Duration>,
    /// `2` or `25%`.
    pub max_unavailable: Option<String>,
    /// Health without a break.
    pub min_healthy: Option<Duration>,
    /// How long that may take.
    pub healthy_deadline: Option<Duration>,
    /// How long nothing may get on.
    pub progress_deadline: Option<Duration>,
    /// How long it may take to reach all hosts.
    pub rollout_deadline: Option<Duration>,
    /// `2` or `25%`.
    pub failure_budget: Option<String>,
    /// Whether it goes back by itself.
    pub auto_rollback: Option<bool>,
    /// How long the fleet is watched after the last batch.
    pub watch: Option<Duration>,
}

impl Overrides {
    pub(super) fn message(&self) -> v1::StrategyOverrides {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        v1::StrategyOverrides {
            canary: match &self.canary {
                Some(Canary::Count(count)) => Some(*count),
                _ => None,
            },
            canary_hosts: match &self.canary {
                None | Some(Canary::Count(_)) => String::new(),
                Some(canary) => canary.to_string(),
            },
            canary_hold_ms: self.canary_hold.map(ms),
            auto_promote: self.auto_promote,
            analysis: self.analysis,
            strategy: self.strategy.map(StrategyKind::word).unwrap_or_default().to_owned(),
            batch: self.batch.clone().unwrap_or_default(),
            window: self.window.map(Window::word).unwrap_or_default().to_owned(),
            spread: self
                .spread
                .as_ref()
                .map(|spread| spread.label().map_or_else(String::new, |label| label.to_string())),
            stagger_ms: self.stagger.map(ms),
            max_unavailable: self.max_unavailable.clone().unwrap_or_default(),
            min_healthy_ms: self.min_healthy.map(ms),
            healthy_deadline_ms: self.healthy_deadline.map(ms),
            progress_deadline_ms: self.progress_deadline.map(ms),
            rollout_deadline_ms: self.rollout_deadline.map(ms),
            failure_budget: self.failure_budget.clone().unwrap_or_default(),
            auto_rollback: self.auto_rollback,
            watch_ms: self.watch.map(ms),
        }
    }
}

/// What to do with a rollout under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// No further batch begins.
    Pause,
    /// Goes on; deadlines start anew.
    Resume,
    /// Stops where it is.
    Abort,
    /// Tries failed hosts again.
    RetryFailed,
    /// The batch after a proven canary begins.
    Promote,
}

/// Who is to join with a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bearer {
    /// An agent.
    Host {
        /// Pinned from then on.
        application: AppName,
        /// Pinned from then on.
        environment: EnvName,
        /// Its labels.
        labels: std::collections::BTreeMap<String, String>,
        /// Its name; none lets the agent choose.
        name: Option<HostId>,
    },
    /// A person or a program.
    Operator {
        /// The name.
        name: String,
        /// Such as `viewer,deployer:shop/staging`.
        role: String,
    },
}

/// A token that was just made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// Without the release root's digest, which only the operator's own file can give.
    pub token: Token,
    /// After this it is worth nothing.
    pub expires: landfall_common::Timestamp,
}

/// What clients have seen of a repository that was put back to an earlier state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resume {
    /// Roots between the one in force there and the newest, oldest first.
    pub roots: Vec<Vec<u8>>,
    /// The highest version of the snapshot.
    pub snapshot_version: u64,
    /// The highest version of the timestamp.
    pub timestamp_version: u64,
}

/// Which entries of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogRange {
    /// The first index.
    pub from: u64,
    /// At most so many.
    pub limit: u32,
    /// The newest ones instead.
    pub last: bool,
    /// Of this application only.
    pub application: Option<AppName>,
    /// Of this environment only.
    pub environment: Option<EnvName>,
}
