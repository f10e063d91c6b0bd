//! What must hold after every decision, whoever made it and why. The checks share no code with the planner:
//! they go by what came in over the wire, what went out, and what the modelled hosts really run.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::assignment::{Direction, Order};
use landfall_common::report::{Health, HostReport, OutcomeKind, Phase};
use landfall_common::{Duration, Generation, HostId, RolloutId, Timestamp};
use landfall_controller_core::log::{LogEvent, MigrationVerdict, RolloutEnd};
use landfall_controller_core::record::{Change, Record};
use landfall_controller_core::rollout::{Rollout, Schema, Stage, Status};
use landfall_controller_core::{Effect, Output, State};

use crate::hosts::Host;
use crate::world::place;

#[derive(Default)]
pub struct Checks {
    heard: BTreeMap<HostId, (u64, HostReport, Timestamp)>,
    /// Per host, the newest activation: generation, and until when it may be taken.
    grants: BTreeMap<HostId, (Generation, Timestamp)>,
    generations: BTreeMap<HostId, Generation>,
    fence: u64,
    /// Leases per rollout and direction that were not settled as "did not take effect".
    leases: BTreeMap<(RolloutId, bool), u32>,
    ended: BTreeMap<RolloutId, Rollout>,
    pub activations_checked: usize,
}

impl Checks {
    pub fn heard(&mut self, host: &HostId, connection: u64, report: &HostReport, now: Timestamp) {
        let newest = self.heard.get(host);
        let newer = newest.is_none_or(|(old_connection, old, _)| {
            connection > *old_connection || (connection == *old_connection && report.is_newer_than(old))
        });
        if newer {
            self.heard.insert(host.clone(), (connection, report.clone(), now));
        }
    }

    pub fn gone(&mut self, host: &HostId) {
        self.heard.remove(host);
    }

    pub fn restarted(&mut self) {
        self.heard.clear();
    }

    fn available(&self, host: &HostId, now: Timestamp) -> bool {
        let Some((_, report, at)) = self.heard.get(host) else { return false };
        let open = self.grants.get(host).is_some_and(|(generation, until)| {
            match report.generation.cmp(generation) {
                std::cmp::Ordering::Less => *at <= *until + Duration::from_secs(30),
                std::cmp::Ordering::Equal => {
                    report.outcome.as_ref().is_none_or(|outcome| outcome.generation != *generation)
                }
                std::cmp::Ordering::Greater => false,
            }
        });
        let fresh = now.since(*at) <= Duration::from_secs(30);
        let busy =
            matches!(report.phase, Phase::Activating { .. } | Phase::Proving { .. } | Phase::Undoing { .. });
        let healthy = matches!(report.health, Health::Healthy { .. });
        fresh && healthy && !busy && !open && report.active.is_some()
    }

    /// Grants that are durable, and were not sent.
    pub fn granted(&mut self, output: &Output) {
        for effect in &output.effects {
            if let Effect::Send { host, assignment } = effect
                && matches!(assignment.order, Order::Activate { .. })
            {
                self.grants.insert(host.clone(), (assignment.generation, assignment.expires_at));
            }
        }
    }

    pub fn before(&mut self, state: &State, output: &Output, now: Timestamp) {
        // A run may end a rollout and go on with what is in force then.
        let mut record = state.place(&place()).cloned();
        for change in &output.changes {
            if let Change::Put { record: Record::Place(changed) } = change {
                record = Some((**changed).clone());
            }
        }
        let rollout = record.as_ref().and_then(|record| state.rollout(record.holder.as_ref()?));
        let strategy = rollout.map(|rollout| rollout.strategy.clone()).or_else(|| {
            let in_force = record?.in_force()?.release.clone();
            let release = state.release(&place().application, &in_force.name)?;
            release.environments.get(&place().environment).cloned()
        });
        for effect in &output.effects {
            let Effect::Send { host, assignment } = effect else { continue };
            let last = self.generations.insert(host.clone(), assignment.generation);
            assert!(last < Some(assignment.generation), "{host} got {last:?} again");
            match &assignment.order {
                Order::Stage => {}
                Order::Migrate { fence, .. } => {
                    assert!(*fence > self.fence, "the fence {fence} was used");
                    self.fence = *fence;
                }
                Order::Activate { .. } => {
                    let all = state.hosts(&place()).count();
                    let strategy = strategy.as_ref().expect("a release was published");
                    let max = strategy.max_unavailable.at_least_one(all);
                    if self.available(host, now) {
                        let out = state.hosts(&place()).filter(|h| !self.available(&h.record.id, now));
                        let out = out.count();
                        assert!(out < max, "P4: {host} was taken out while {out} were, of {max}");
                        self.activations_checked += 1;
                    }
                    self.grants.insert(host.clone(), (assignment.generation, assignment.expires_at));
                }
            }
        }
    }

    pub fn after(&mut self, state: &State, output: &Output, hosts: &BTreeMap<HostId, Host>) {
        for effect in &output.effects {
            let Effect::Send { host, assignment } = effect else { continue };
            if !matches!(assignment.order, Order::Activate { .. }) {
                continue;
            }
            let Some(rollout) = state.rollout(&assignment.rollout).filter(|rollout| !rollout.ended()) else {
                continue;
            };
            let member = state.members(&rollout.id).find(|member| member.host == *host).unwrap();
            match &rollout.status {
                Status::Active { stage: Stage::Running { batch } } => {
                    assert_eq!(assignment.release, rollout.release);
                    assert!(member.batch <= *batch, "{host} of batch {} moved in {batch}", member.batch);
                }
                Status::Active { stage: Stage::RollingBack { .. } } => {
                    assert_eq!(Some(&assignment.release), rollout.previous.as_ref());
                }
                other => panic!("{host} was to activate while {:?}", other.word()),
            }
        }
        for entry in &output.log {
            match &entry.event {
                LogEvent::RolloutFinished { rollout, end, release, .. } => {
                    let targets: Vec<_> = state.members(rollout).map(|member| &member.host).collect();
                    let runs = |host: &HostId| hosts[host].active.as_ref();
                    match end {
                        RolloutEnd::Succeeded => {
                            for host in targets {
                                let active = runs(host).unwrap();
                                assert_eq!(active.release.digest, release.digest, "P5: {host}");
                                assert!(active.proven, "P5: {host}");
                            }
                        }
                        RolloutEnd::RolledBack => {
                            for host in targets {
                                let digest = runs(host).map(|active| active.release.digest);
                                assert_ne!(digest, Some(release.digest), "P6: {host}");
                            }
                        }
                        _ => {}
                    }
                }
                LogEvent::MigrationStarted { rollout, .. } => {
                    let up = state.rollout(rollout).and_then(|rollout| rollout.status.stage()?.open_lease());
                    let up = up.unwrap().direction == Direction::Up;
                    let leases = self.leases.entry((rollout.clone(), up)).or_default();
                    *leases += 1;
                    let facts = state.rollout(rollout).and_then(|rollout| match &rollout.schema {
                        Schema::Due { migration } => Some(migration.facts.clone()),
                        _ => None,
                    });
                    if facts.is_some_and(|facts| facts.idempotent) {
                        continue;
                    }
                    assert_eq!(*leases, 1, "P7: {rollout} handed its migration out again");
                }
                LogEvent::MigrationFinished { rollout, outcome: OutcomeKind::Refused { .. }, .. } => {
                    self.forget(rollout);
                }
                LogEvent::MigrationResolved { rollout, verdict: MigrationVerdict::NotApplied, .. } => {
                    self.forget(rollout);
                }
                _ => {}
            }
        }
        let mut seen = BTreeSet::new();
        for change in &output.changes {
            let key = change.key();
            assert!(seen.insert(key.clone()), "{key} changes twice in one commit");
            if let Change::Put { record: Record::Rollout(rollout) } = change {
                assert!(!self.ended.contains_key(&rollout.id), "{} moved after its end", rollout.id);
                if rollout.ended() {
                    self.ended.insert(rollout.id.clone(), (**rollout).clone());
                }
            }
        }
    }

    fn forget(&mut self, rollout: &RolloutId) {
        self.leases.retain(|(id, _), _| id != rollout);
    }

    pub fn every_wait_has_a_reason(&self, state: &State, sentences: &[String]) {
        for rollout in state.rollouts().filter(|rollout| !rollout.ended()) {
            assert!(
                !sentences.is_empty(),
                "P10: {} is {} without a reason",
                rollout.id,
                rollout.status.word()
            );
        }
    }
}
