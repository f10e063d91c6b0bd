//! The releases whose files go, and the objects that go with them.
//!
//! First the decision, which is the planner's and is in the log: these releases have no files any more. Then the
//! objects that no other release needs are removed, which may be interrupted at any point: what is left is found
//! by the next round. What nobody could read is not guessed: while a release that keeps its files cannot be
//! walked, nothing goes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use landfall_common::{AppName, Duration, ReleaseName, RequestId, Sha256, Timestamp};
use landfall_controller_core::command::{Action, Command};
use landfall_controller_core::log::Actor;
use landfall_controller_core::retention;

use crate::config::Retention;
use crate::error::ControllerError;
use crate::objects::collect::{Marked, SHARDS, Swept};
use crate::reactor::Along;
use crate::rpc::{Context, fresh_rollout};

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(3600);

/// Nothing is decided before the hosts had the time to say what they run.
const AFTER_START: Duration = Duration::from_secs(15 * 60);

/// Objects that are removed in one round, a minute of the chores: an old release goes beside what is released.
const REMOVED_AT_ONCE: usize = 5_000;

/// What the files of releases take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// As of when.
    pub counted: Timestamp,
    /// What is kept, and what may go.
    pub swept: Swept,
    /// The releases whose files are kept.
    pub releases: u64,
    /// Those of them that lack objects which were found damaged.
    pub damaged: Vec<String>,
    /// Why nothing can be removed.
    pub held_up: Option<String>,
}

/// What was counted last.
#[derive(Debug, Default)]
pub struct Counted(Mutex<Option<Usage>>);

impl Counted {
    /// The last count, if there was one since the start.
    #[must_use]
    pub fn get(&self) -> Option<Usage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, usage: Usage) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(usage);
    }
}

/// When it was looked, and when it is to be again.
#[derive(Debug)]
pub struct Collection {
    policy: Retention,
    due: Mutex<Timestamp>,
}

/// A release with the digest of its manifest.
type Kept = (AppName, ReleaseName, Sha256);

impl Collection {
    /// A collection that begins some minutes after the start.
    #[must_use]
    pub fn new(policy: Retention, now: Timestamp) -> Self {
        Self { policy, due: Mutex::new(now + AFTER_START) }
    }

    /// Does what is due.
    ///
    /// # Errors
    /// What failed; it is tried again in the next round.
    pub async fn round(&self, context: &Context) -> Result<(), ControllerError> {
        let now = context.clock.now();
        if now < *self.due.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(());
        }
        self.decide(context, now).await?;
        let usage = self.sweep(context, now).await?;
        if usage.swept.removed > 0 {
            let Swept { removed, removed_bytes, .. } = usage.swept;
            tracing::info!(removed, removed_bytes, "objects that no release needs were removed");
        }
        // With more to remove the next round goes on; a release that cannot be read is looked at again in an hour.
        if !usage.swept.more || usage.held_up.is_some() {
            *self.due.lock().unwrap_or_else(PoisonError::into_inner) = now + EVERY;
        }
        context.usage.set(usage);
        Ok(())
    }

    /// Lets go of releases that nobody is to be brought to any more.
    async fn decide(&self, context: &Context, now: Timestamp) -> Result<(), ControllerError> {
        let keep = self.policy.releases;
        let releases =
            context.reactor.read(move |view| retention::surplus(view.state, keep, view.now)).await?;
        if releases.is_empty() {
            return Ok(());
        }
        let request = RequestId::new(format!("collect-{}", now.ms())).expect("letters, digits and a dash");
        let command = Command {
            request,
            by: Actor::Controller,
            origin: String::new(),
            fresh: fresh_rollout(now),
            action: Action::RemoveContent { releases, keep },
        };
        context.reactor.command(command, Along::default()).await.map(drop)
    }

    async fn sweep(&self, context: &Context, now: Timestamp) -> Result<Usage, ControllerError> {
        let (kept, manifests) = releases(context).await?;
        let aside = context.depot.put_aside().await?;
        // The manifests of all releases stay: they are small, and say what a release was.
        let mut marked: Marked = manifests.into_iter().collect();
        let (mut damaged, mut held_up) = (Vec::new(), None);
        for (application, name, manifest) in &kept {
            let told = format!("{application} {name}");
            let walked = match context.depot.mark(*manifest, &mut marked).await {
                Ok(()) => context.depot.lacks(*manifest, &aside).await,
                Err(error) => Err(error),
            };
            match walked {
                Ok(0) => {}
                Ok(_) => damaged.push(told),
                Err(error) => {
                    held_up = Some(format!("{told}: {}", error.chain()));
                    damaged.push(told);
                }
            }
            if context.stop.is_cancelled() {
                return Err(ControllerError::Stopping);
            }
        }
        if let Some(reason) = &held_up {
            tracing::warn!(
                reason,
                "a release cannot be read, so that no object is removed; release it again"
            );
        }
        let before = SystemTime::UNIX_EPOCH + Duration::from_millis(now.ms());
        // Without all marks nothing is old enough.
        let before = if held_up.is_some() { SystemTime::UNIX_EPOCH } else { before - self.policy.grace };
        let marked = Arc::new(marked);
        let mut swept = Swept::default();
        for shard in SHARDS {
            let left = REMOVED_AT_ONCE.saturating_sub(swept.removed);
            swept.add(context.depot.sweep(shard, marked.clone(), before, left).await?);
            if context.stop.is_cancelled() {
                return Err(ControllerError::Stopping);
            }
        }
        context.depot.sweep_uploads(marked, before).await?;
        Ok(Usage { counted: now, swept, releases: kept.len() as u64, damaged, held_up })
    }
}

/// The releases that keep their files, and the manifests of all.
async fn releases(context: &Context) -> Result<(Vec<Kept>, Vec<Sha256>), ControllerError> {
    let look = |view: &crate::reactor::View<'_>| {
        let all = || view.state.all_releases();
        let kept = all()
            .filter(|record| record.content.removed_at().is_none())
            .map(|record| (record.application.clone(), record.release.name.clone(), record.release.digest));
        (kept.collect(), all().map(|record| record.release.digest).collect())
    };
    context.reactor.read(look).await
}
