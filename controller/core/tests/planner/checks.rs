//! What must hold after every decision, whoever made it and why. The checks share no code with the planner:
//! they go by what came in over the wire, what went out, and what the modelled hosts really run.

mod gates;

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::assignment::{Assignment, Direction, OnFailure, Order, ReleaseRef};
use landfall_common::report::{Health, HostReport, OutcomeKind, Phase};
use landfall_common::strategy::{StrategyKind, Window};
use landfall_common::{
    Duration, GateName, Generation, HostId, ReleaseCounter, ReleaseName, RolloutId, Timestamp,
};
use landfall_controller_core::gate::{GateVerdict, WATCH};
use landfall_controller_core::log::{LogEvent, MigrationVerdict, RolloutEnd};
use landfall_controller_core::member::{Member, MemberState};
use landfall_controller_core::record::{Change, Record};
use landfall_controller_core::rollout::{Rollout, RolloutKind, Schema, Stage, Status};
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
    leases: BTreeMap<(RolloutId, Direction), u32>,
    ended: BTreeMap<RolloutId, Rollout>,
    /// Contracts that may have run: of which release, and whether one has run to an end of its own.
    contracts: BTreeMap<RolloutId, (ReleaseCounter, ReleaseName, bool)>,
    /// Per host, the newest activation, until it is answered or was surely not taken.
    let_go: BTreeMap<HostId, Assignment>,
    /// Rollouts that somebody has promoted.
    promoted: BTreeSet<RolloutId>,
    /// Of each gate before a batch of a rollout, what was said last, and the batches whose gates were overruled.
    pub said: BTreeMap<(RolloutId, u64, GateName), GateVerdict>,
    overruled: BTreeSet<(RolloutId, u64)>,
    /// Since when rollouts are watched, and those of which somebody has seen enough.
    watched: BTreeMap<RolloutId, Timestamp>,
    accepted: BTreeSet<RolloutId>,
    /// Rollouts whose watch was over when their contract was begun.
    watch_over: BTreeSet<RolloutId>,
    /// Hosts that are cordoned, and those that were excluded, from which rollout.
    cordoned: BTreeSet<HostId>,
    /// Hosts that somebody has drained, as the log says.
    drained: BTreeSet<HostId>,
    /// What each host was told last of its requests: away, or back.
    told: BTreeMap<HostId, (bool, Generation, Timestamp)>,
    /// Rollouts whose requests change over, or have.
    switching: BTreeSet<RolloutId>,
    /// Hosts that somebody has undrained by hand since the newest rollout began: that is his word for it.
    by_hand: BTreeSet<HostId>,
    /// Rollouts that have begun, as the log says.
    begun: BTreeSet<RolloutId>,
    excluded: BTreeMap<HostId, RolloutId>,
    pub activations_checked: usize,
}

impl Checks {
    pub fn heard(&mut self, host: &HostId, connection: u64, report: &HostReport, now: Timestamp) {
        let newest = self.heard.get(host);
        let newer = newest.is_none_or(|(old_connection, old, _)| {
            connection > *old_connection || (connection == *old_connection && report.is_newer_than(old))
        });
        if newer {
            let told = |assignment: &mut Assignment| {
                let outcome = report.outcome.as_ref().map(|outcome| outcome.generation);
                let lapsed = now > assignment.expires_at + Duration::from_secs(30);
                outcome == Some(assignment.generation)
                    || report.generation > assignment.generation
                    || (report.generation < assignment.generation && lapsed)
            };
            if self.let_go.get_mut(host).is_some_and(told) {
                self.let_go.remove(host);
            }
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
        self.serves(host, now) && !self.may_take_a_grant(host)
    }

    fn may_take_a_grant(&self, host: &HostId) -> bool {
        let Some((_, report, at)) = self.heard.get(host) else { return true };
        self.grants.get(host).is_some_and(|(generation, until)| match report.generation.cmp(generation) {
            // Whoever has refused it by then takes no late copy of it either.
            std::cmp::Ordering::Less if *at > *until => {
                let answered =
                    report.outcome.as_ref().is_some_and(|outcome| outcome.generation == *generation);
                !answered && *at <= *until + Duration::from_secs(30)
            }
            std::cmp::Ordering::Less => true,
            std::cmp::Ordering::Equal => {
                report.outcome.as_ref().is_none_or(|outcome| outcome.generation != *generation)
            }
            std::cmp::Ordering::Greater => false,
        })
    }

    fn serves(&self, host: &HostId, now: Timestamp) -> bool {
        let Some((_, report, at)) = self.heard.get(host) else { return false };
        let fresh = now.since(*at) <= Duration::from_secs(30);
        let busy =
            matches!(report.phase, Phase::Activating { .. } | Phase::Proving { .. } | Phase::Undoing { .. });
        let healthy = matches!(report.health, Health::Healthy { .. });
        let led = !self.drained.contains(host) && !report.traffic.is_away();
        led && fresh && healthy && !busy && report.active.is_some()
    }

    /// What is durable, whether the controller lives to act upon it or not.
    pub fn logged(&mut self, output: &Output) {
        for entry in &output.log {
            match &entry.event {
                LogEvent::GateAnswered { rollout, gate, batch, verdict, .. } => {
                    self.said.insert((rollout.clone(), *batch, gate.clone()), *verdict);
                }
                LogEvent::RolloutPromoted { rollout, batch, overruled, .. }
                    if overruled.starts_with("gate ") =>
                {
                    self.overruled.insert((rollout.clone(), *batch));
                }
                LogEvent::RolloutPromoted { rollout, .. } => {
                    self.promoted.insert(rollout.clone());
                }
                LogEvent::WatchStarted { rollout, .. } => {
                    self.watched.insert(rollout.clone(), entry.at);
                }
                LogEvent::WatchEnded { rollout, overruled, .. } => {
                    self.accepted.insert(rollout.clone());
                    if !overruled.is_empty() {
                        self.overruled.insert((rollout.clone(), u64::from(WATCH)));
                    }
                }
                LogEvent::HostCordoned { host, .. } => {
                    self.cordoned.insert(host.clone());
                }
                LogEvent::HostUncordoned { host, .. } => {
                    self.cordoned.remove(host);
                }
                LogEvent::HostDrained { host, .. } => {
                    self.drained.insert(host.clone());
                }
                LogEvent::HostUndrained { host, .. } => {
                    self.drained.remove(host);
                    self.by_hand.insert(host.clone());
                }
                LogEvent::HostsExcluded { rollout, hosts, .. } => {
                    self.excluded.extend(hosts.iter().map(|host| (host.clone(), rollout.clone())));
                }
                LogEvent::HostsIncluded { hosts, .. } => {
                    self.excluded.retain(|host, _| !hosts.contains(host));
                }
                LogEvent::RolloutStarted { rollout, .. } => {
                    self.begun.insert(rollout.clone());
                    self.by_hand.clear();
                    self.excluded.retain(|_, from| from == rollout);
                }
                _ => {}
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
        let all = state.hosts(&place()).count();
        // Counted once, for there may be thousands: each that is let go adds itself.
        let mut out = None;
        for effect in &output.effects {
            let Effect::Send { host, assignment } = effect else { continue };
            let drains = matches!(assignment.order, Order::Drain { .. });
            let is_cordoned = self.cordoned.contains(host) && !drains;
            assert!(!is_cordoned, "{host} is cordoned, and is asked for {assignment:?}");
            assert!(
                drains || !self.excluded.contains_key(host),
                "{host} is excluded, and is asked for {assignment:?}"
            );
            let last = self.generations.insert(host.clone(), assignment.generation);
            assert!(last < Some(assignment.generation), "{host} got {last:?} again");
            match &assignment.order {
                Order::Stage => {}
                Order::Drain { away } => {
                    if *away && !self.drained.contains(host) {
                        self.somebody_else_serves(state, rollout, host, now);
                    }
                    if !*away {
                        self.was_let_get_requests(rollout, output, host);
                    }
                    let told = (*away, assignment.generation, assignment.expires_at);
                    self.told.insert(host.clone(), told);
                }
                Order::Migrate { fence, .. } => {
                    assert!(*fence > self.fence, "the fence {fence} was used");
                    self.fence = *fence;
                }
                Order::Activate { .. } | Order::Restart { .. } => {
                    if let Some(rollout) = rollout.filter(|rollout| rollout.id == assignment.rollout) {
                        self.in_step(state, rollout, assignment);
                    }
                    self.let_go.insert(host.clone(), (**assignment).clone());
                    let strategy = strategy.as_ref().expect("a release was published");
                    let max = strategy.max_unavailable.at_least_one(all);
                    let is_out = |host: &HostId| !self.available(host, now);
                    let out = out.get_or_insert_with(|| {
                        state.hosts(&place()).filter(|host| is_out(&host.record.id)).count()
                    });
                    if self.serves(host, now) {
                        // It counts as out where it may still take an order before this one.
                        let others = *out - usize::from(is_out(host));
                        assert!(
                            others < max,
                            "P4: {host} was taken out while {others} others were, of {max}"
                        );
                        *out = others + 1;
                        self.activations_checked += 1;
                    }
                    self.grants.insert(host.clone(), (assignment.generation, assignment.expires_at));
                }
            }
        }
    }

    pub fn after(&mut self, state: &State, output: &Output, hosts: &BTreeMap<HostId, Host>) {
        let mut members: BTreeMap<&RolloutId, BTreeMap<&HostId, &Member>> = BTreeMap::new();
        for effect in &output.effects {
            let Effect::Send { host, assignment } = effect else { continue };
            if !assignment.order.takes_out() {
                continue;
            }
            let reverts = match assignment.order {
                Order::Activate { on_failure: OnFailure::Revert, .. } => 2,
                _ => 1,
            };
            let may_go_to =
                [Some(&assignment.release), hosts[host].active.as_ref().map(|active| &active.release)];
            for (contract, known, _) in self.contracts.values() {
                for release in may_go_to.iter().take(reverts).flatten() {
                    assert!(
                        release.counter >= *contract,
                        "P7: {host} may run {} after the contract of {known}",
                        release.name
                    );
                }
            }
            let heard = self.heard.get(host).map(|(_, report, _)| report);
            let Some(rollout) = state.rollout(&assignment.rollout).filter(|rollout| !rollout.ended()) else {
                let in_force = state.place(&place()).and_then(|place| place.in_force());
                leads_to(state, heard, &assignment.release, &in_force.unwrap().release);
                continue;
            };
            let members = members
                .entry(&rollout.id)
                .or_insert_with(|| state.members(&rollout.id).map(|member| (&member.host, member)).collect());
            let Some(member) = members.get(host) else {
                // Whoever joined meanwhile is brought along before the contract.
                let stage = rollout.status.stage();
                assert!(
                    matches!(stage, Some(Stage::Contracting { .. })),
                    "{host} has no part in {}",
                    rollout.id
                );
                leads_to(state, heard, &assignment.release, &rollout.release);
                continue;
            };
            let goes_back = matches!(rollout.status, Status::Active { stage: Stage::RollingBack { .. } });
            if assignment.release == rollout.release || !goes_back {
                self.gates_were_open(state, rollout, member.batch);
            }
            match &rollout.status {
                Status::Active { stage: Stage::Running { batch } } => {
                    leads_to(state, heard, &assignment.release, &rollout.release);
                    assert!(member.batch <= *batch, "{host} of batch {} moved in {batch}", member.batch);
                }
                Status::Active { stage: Stage::RollingBack { .. } } => {
                    leads_to(state, heard, &assignment.release, rollout.previous.as_ref().unwrap());
                }
                // Of two groups the second comes after the watch.
                Status::Active { stage: Stage::Switching | Stage::Watching { .. } }
                    if rollout.groups.is_some() =>
                {
                    assert_eq!(member.batch, 1, "{host} moved while requests changed over");
                }
                // Late ones still take it.
                Status::Active { stage: Stage::Watching { .. } | Stage::Contracting { .. } } => {
                    leads_to(state, heard, &assignment.release, &rollout.release);
                }
                Status::Active { stage: Stage::Gated { at } } => {
                    leads_to(state, heard, &assignment.release, &rollout.release);
                    assert!(member.batch < at.next, "{host} moved while the gates were asked");
                }
                Status::Active { stage: Stage::Canary { .. } } => {
                    leads_to(state, heard, &assignment.release, &rollout.release);
                    assert_eq!(member.batch, 1, "{host} moved while the canary was held");
                }
                other => panic!("{host} was to activate while {:?}", other.word()),
            }
        }
        for entry in &output.log {
            match &entry.event {
                LogEvent::BatchStarted { rollout, batch: 2, .. }
                    if state.rollout(rollout).unwrap().groups.is_none() =>
                {
                    self.canary_was_held(state, rollout);
                }
                LogEvent::BatchStarted { rollout, batch: 2, .. } => {
                    self.gates_held_on(state, state.rollout(rollout).unwrap());
                }
                LogEvent::RequestsSwitched { rollout, .. } => {
                    self.gates_were_open(state, state.rollout(rollout).unwrap(), 2);
                }
                LogEvent::RolloutFinished { rollout, end, release, reason, .. } => {
                    let (out, targets): (Vec<_>, Vec<_>) =
                        state.members(rollout).partition(|member| member.left_out.is_some());
                    for member in &out {
                        let told = |host: &HostId| reason.contains(&format!("{host}, "));
                        let told = told(&member.host) || out.len() > 5;
                        assert!(told, "{rollout} left {} out, and says {reason:?}", member.host);
                    }
                    let targets: Vec<_> = targets.into_iter().map(|member| &member.host).collect();
                    let runs = |host: &HostId| hosts[host].active.as_ref();
                    match end {
                        RolloutEnd::Succeeded => {
                            self.was_watched(state, rollout, entry.at);
                            self.gates_held_on(state, state.rollout(rollout).unwrap());
                            for host in targets {
                                let active = runs(host).unwrap();
                                assert_eq!(active.release.digest, release.digest, "P5: {host}");
                                assert!(active.proven, "P5: {host}");
                            }
                            if state.rollout(rollout).unwrap().is_restart() {
                                let done = |host: &&HostId| hosts[*host].restarts.contains_key(rollout);
                                let idle = state.members(rollout).filter(|member| member.left_out.is_none());
                                let idle: Vec<_> =
                                    idle.map(|member| &member.host).filter(|host| !done(host)).collect();
                                // Who came late to what is in force was started with it.
                                let newest = |host: &HostId| {
                                    state.host(host).and_then(|host| host.issued.assignment.as_ref())
                                };
                                let brought = |host: &&HostId| {
                                    newest(host).is_some_and(|last| last.rollout == *rollout)
                                };
                                assert!(
                                    idle.iter().all(brought),
                                    "P5: {idle:?} were not restarted by {rollout}"
                                );
                            }
                        }
                        RolloutEnd::Rehearsed => {
                            let rollout = state.rollout(rollout).unwrap();
                            assert_eq!(rollout.kind, RolloutKind::Drill);
                            let back_to = rollout.previous.as_ref().unwrap();
                            for host in targets.into_iter().filter(|host| hosts[host].activations > 0) {
                                let active = runs(host).unwrap();
                                assert_eq!(active.release.digest, back_to.digest, "P6: {host}");
                                assert!(active.proven, "P6: {host}");
                            }
                        }
                        RolloutEnd::RolledBack => {
                            // What a host ran before a drill that had not come to it is none of its doing.
                            let touched = |host: &&&HostId| {
                                state.members(rollout).any(|member| member.host == ***host && member.touched)
                            };
                            for host in targets.iter().filter(|host| touched(host)) {
                                let digest = runs(host).map(|active| active.release.digest);
                                assert_ne!(digest, Some(release.digest), "P6: {host}");
                            }
                        }
                        _ => {}
                    }
                }
                LogEvent::MigrationStarted { rollout, .. } => {
                    let known = state.rollout(rollout).unwrap();
                    let way = known.status.stage().and_then(Stage::open_lease).unwrap().direction;
                    if way == Direction::Contract {
                        self.contract_begins(known, hosts);
                    }
                    let leases = self.leases.entry((rollout.clone(), way)).or_default();
                    *leases += 1;
                    let facts = match &known.schema {
                        Schema::Due { migration } => Some(migration.facts.idempotent),
                        _ => None,
                    };
                    let contract = known.contract.as_ref().map(|contract| contract.facts.idempotent);
                    let idempotent = if way == Direction::Contract { contract } else { facts };
                    if idempotent == Some(true) {
                        continue;
                    }
                    assert_eq!(*leases, 1, "P7: {rollout} handed its migration out again");
                }
                LogEvent::MigrationFinished { rollout, outcome: OutcomeKind::Refused { .. }, .. } => {
                    self.forget(rollout);
                    self.contracts.retain(|id, (_, _, ran)| id != rollout || *ran);
                }
                // A person has to say that it is to run once more.
                LogEvent::MigrationFinished {
                    rollout,
                    outcome: OutcomeKind::MigrationFailed { .. },
                    contract: true,
                    ..
                } => {
                    self.forget(rollout);
                    self.contracts.get_mut(rollout).unwrap().2 = true;
                }
                LogEvent::MigrationResolved { rollout, verdict: MigrationVerdict::NotApplied, .. } => {
                    self.forget(rollout);
                    self.contracts.remove(rollout);
                }
                _ => {}
            }
        }
        let mut seen = BTreeSet::new();
        for change in &output.changes {
            let key = change.key();
            assert!(seen.insert(key.clone()), "{key} changes twice in one commit");
            if let Change::Put { record: Record::Rollout(rollout) } = change {
                let switches = rollout.status.stage() == Some(&Stage::Switching);
                if switches && self.switching.insert(rollout.id.clone()) {
                    self.canary_was_held(state, &rollout.id);
                }
                // Whatever hosts say after, it was over when the contract came.
                let contracts = matches!(rollout.status.stage(), Some(Stage::Contracting { .. }));
                if contracts && !self.watch_over.contains(&rollout.id) {
                    self.was_watched(state, &rollout.id, rollout.since);
                    self.gates_held_on(state, rollout);
                    self.watch_over.insert(rollout.id.clone());
                }
                assert!(!self.ended.contains_key(&rollout.id), "{} moved after its end", rollout.id);
                if rollout.ended() {
                    self.ended.insert(rollout.id.clone(), (**rollout).clone());
                }
            }
        }
    }

    /// Whether a host was told to have its requests led away, and may still take that.
    fn may_be_led_away(&self, host: &HostId) -> bool {
        let Some((true, generation, until)) = self.told.get(host) else { return false };
        let lapsed = |(_, report, at): &(u64, HostReport, Timestamp)| {
            report.generation < *generation && *at > *until + Duration::from_secs(30)
        };
        let overtaken = |(_, report, _): &(u64, HostReport, Timestamp)| report.generation > *generation;
        !self.heard.get(host).is_some_and(|heard| lapsed(heard) || overtaken(heard))
    }

    /// A rollout by two groups has requests led away from a host: as many of the other group get requests and serve as
    /// have to, or the host has said itself that it does not serve.
    fn somebody_else_serves(&self, state: &State, rollout: Option<&Rollout>, host: &HostId, now: Timestamp) {
        let rollout = rollout.unwrap_or_else(|| panic!("{host} is led away from, and nobody asked for it"));
        let strategy = &rollout.strategy;
        assert_eq!(strategy.kind, StrategyKind::BlueGreen, "{host} is led away from by {}", rollout.id);
        let label = strategy.spread.as_ref().expect("groups have a label");
        let group = |host: &HostId| state.host(host).and_then(|host| host.record.labels.get(label).cloned());
        let others: Vec<&HostId> = state
            .hosts(&place())
            .map(|host| &host.record.id)
            .filter(|other| group(other).is_some() && group(other) != group(host))
            .collect();
        let serve =
            others.iter().filter(|other| self.available(other, now) && !self.may_be_led_away(other)).count();
        let needed = (others.len() - strategy.max_unavailable.at_most(others.len())).max(1);
        let ails = self
            .heard
            .get(host)
            .is_some_and(|(_, report, _)| matches!(report.health, Health::Unhealthy { .. }));
        assert!(
            ails || serve >= needed,
            "P3: requests are led away from {host} by {}, and of {} others {serve} serve, of {needed}: {:?}",
            rollout.id,
            others.len(),
            others
                .iter()
                .map(|host| (host, self.available(host, now), self.told.get(*host)))
                .collect::<Vec<_>>()
        );
    }

    /// Requests are led back to a host: not to a release that is held, or fails.
    fn was_let_get_requests(&self, rollout: Option<&Rollout>, output: &Output, host: &HostId) {
        let Some(rollout) = rollout.filter(|rollout| rollout.groups.is_some()) else { return };
        let changed = output.changes.iter().find_map(|change| match change {
            Change::Put { record: Record::Rollout(changed) } if changed.id == rollout.id => Some(&**changed),
            _ => None,
        });
        let rollout = changed.unwrap_or(rollout);
        // What somebody has left out is his to lead back.
        if self.excluded.contains_key(host) || self.cordoned.contains(host) {
            return;
        }
        let Some((_, report, _)) = self.heard.get(host) else { return };
        let runs = report.active.as_ref().map(|active| active.release.digest);
        let held = match rollout.status.stage() {
            Some(Stage::Running { batch: 1 } | Stage::Canary { .. } | Stage::Gated { .. }) => {
                rollout.release.digest
            }
            Some(Stage::RollingBack { .. }) => rollout.release.digest,
            _ => return,
        };
        assert_ne!(runs, Some(held), "P5: requests are led to {host}, and nobody has let {}", rollout.id);
    }

    /// Of the first of two groups nobody gets requests with the release before all of it is proven and let go.
    pub fn nothing_gets_requests_too_early(&self, state: &State, hosts: &BTreeMap<HostId, Host>) {
        let holder = state.place(&place()).and_then(|place| state.rollout(place.holder.as_ref()?));
        let Some(rollout) = holder.filter(|rollout| rollout.groups.is_some()) else { return };
        let held = matches!(
            rollout.status.stage(),
            Some(Stage::Running { batch: 1 } | Stage::Canary { .. } | Stage::Gated { .. })
        );
        // What was so before a restart from a backup is none of this rollout's doing.
        if rollout.kind != RolloutKind::Forward || !held || !self.begun.contains(&rollout.id) {
            return;
        }
        let first =
            state.members(&rollout.id).filter(|member| member.batch == 1 && member.left_out.is_none());
        for member in first.filter(|member| !self.by_hand.contains(&member.host)) {
            let host = &hosts[&member.host];
            let this = |issued: &&Assignment| issued.rollout == rollout.id && issued.order.takes_out();
            let newest = state.host(&member.host).and_then(|host| host.issued.assignment.as_ref());
            let runs =
                host.active.as_ref().is_some_and(|active| active.release.digest == rollout.release.digest);
            assert!(
                newest.filter(this).is_none() || !runs || !host.serves(),
                "P5: {} gets requests with {}, which nobody has let",
                member.host,
                rollout.release.name
            );
        }
    }

    /// Nothing older is left, on no host, whatever the controller has heard: from here on it would not run.
    fn contract_begins(&mut self, rollout: &Rollout, hosts: &BTreeMap<HostId, Host>) {
        for (host, is) in hosts {
            let active = is.active.as_ref().map(|active| active.release.digest);
            assert_eq!(active, Some(rollout.release.digest), "P7: {host} when the contract began");
        }
        let (counter, name) = (rollout.release.counter, rollout.release.name.clone());
        let ran = self.contracts.get(&rollout.id).is_some_and(|(_, _, ran)| *ran);
        self.contracts.insert(rollout.id.clone(), (counter, name, ran));
    }

    /// The batch after the canary begins: somebody has said so, if that was asked for, and each of the canary has
    /// said itself that it was healthy for as long as it was to be held.
    fn canary_was_held(&self, state: &State, id: &RolloutId) {
        let rollout = state.rollout(id).unwrap();
        let strategy = &rollout.strategy;
        let takes_part = |host: &HostId| !self.cordoned.contains(host) && !self.excluded.contains_key(host);
        let mut first = state.members(id).filter(|member| member.batch == 1).peekable();
        if rollout.has_canary() && first.peek().is_some() && !first.any(|member| takes_part(&member.host)) {
            assert!(self.promoted.contains(id), "{id} goes beyond a canary that has nobody");
        }
        assert!(strategy.auto_promote || self.promoted.contains(id), "{id} was promoted by nobody");
        if !strategy.holds_canary() {
            return;
        }
        for member in state.members(id).filter(|member| member.batch == 1) {
            if !matches!(member.state, MemberState::Committed { .. }) || !takes_part(&member.host) {
                continue;
            }
            let health = self.heard.get(&member.host).map(|(_, report, _)| &report.health);
            let held = matches!(health, Some(Health::Healthy { period }) if *period >= strategy.canary_hold);
            assert!(held, "{id} goes beyond its canary, and {} says {health:?}", member.host);
        }
    }

    /// A rollout ends well: it was watched for as long as was asked, by the controller or by the hosts themselves.
    fn was_watched(&self, state: &State, id: &RolloutId, now: Timestamp) {
        let rollout = state.rollout(id).unwrap();
        let watch = rollout.strategy.watch;
        if watch.is_zero()
            || matches!(rollout.kind, RolloutKind::Rollback | RolloutKind::Restart)
            || self.accepted.contains(id)
            || self.watch_over.contains(id)
        {
            return;
        }
        let since = self.watched.get(id).unwrap_or_else(|| panic!("{id} was never watched"));
        let told = state
            .members(id)
            .filter(|member| matches!(member.state, MemberState::Committed { .. }))
            .filter(|member| member.left_out.is_none())
            .all(|member| {
                let health = self.heard.get(&member.host).map(|(_, report, _)| &report.health);
                matches!(health, Some(Health::Healthy { period }) if *period >= watch)
            });
        assert!(
            now.since(*since) >= watch || told,
            "{id} was watched for {:?} of {watch:?}",
            now.since(*since)
        );
    }

    /// A host is let go for the release of a rollout: not beside too many, not beside another group, not too soon.
    fn in_step(&self, state: &State, rollout: &Rollout, assignment: &Assignment) {
        if assignment.release != rollout.release || rollout.strategy.kind == StrategyKind::AllAtOnce {
            return;
        }
        let strategy = &rollout.strategy;
        let (host, now) = (&assignment.host, assignment.issued_at);
        // Nobody waits longer for an answer.
        let patience = Duration::from_secs(60) + strategy.healthy_deadline * 2 + Duration::from_secs(120);
        let together = strategy.kind == StrategyKind::Rolling && strategy.window == Window::Batch;
        let may_be_any = together && strategy.spread.is_none();
        let let_go = (!may_be_any).then_some(&self.let_go);
        let others: Vec<&Assignment> = let_go
            .into_iter()
            .flat_map(BTreeMap::values)
            .filter(|other| other.host != *host && other.rollout == rollout.id)
            .filter(|other| other.release == rollout.release && now.since(other.issued_at) < patience)
            .filter(|other| state.host(&other.host).is_some())
            .collect();
        let all = state.hosts(&place()).count();
        let most = match (strategy.kind, strategy.window) {
            (StrategyKind::OneAtATime, _) => 1,
            (_, Window::Sliding) => strategy.batch.at_least_one(all),
            _ => usize::MAX,
        };
        assert!(
            others.len() < most,
            "{host} is let go beside {} others, and {most} may change",
            others.len()
        );
        if let Some(label) = &strategy.spread {
            let zone =
                |host: &HostId| state.host(host).and_then(|host| host.record.labels.get(label).cloned());
            for other in &others {
                let (own, others) = (zone(host), zone(&other.host));
                assert_eq!(own, others, "{host} is let go beside {} of another group", other.host);
            }
        }
        if strategy.stagger.is_zero() {
            return;
        }
        let newest =
            state.hosts(&place()).filter_map(|host| host.issued.assignment.as_ref()).filter(|last| {
                let activates = last.order.takes_out();
                activates && last.rollout == rollout.id && last.release == rollout.release
            });
        if let Some(last) = newest.map(|last| last.issued_at).max() {
            let apart = now.since(last);
            assert!(apart >= strategy.stagger, "{host} is let go {apart:?} after another");
        }
    }

    fn forget(&mut self, rollout: &RolloutId) {
        self.leases.retain(|(id, _), _| id != rollout);
    }

    pub fn every_wait_has_a_reason(&self, state: &State, sentences: &[String]) {
        for rollout in state.rollouts().filter(|rollout| !rollout.ended()) {
            assert!(
                !sentences.is_empty(),
                "P10: {} is {} without a reason: {:?}, {:?}",
                rollout.id,
                rollout.status.word(),
                (&rollout.status, rollout.kind, &rollout.groups),
                state
                    .members(&rollout.id)
                    .map(|member| {
                        let heard = self.heard.get(&member.host);
                        let heard =
                            heard.map(|(_, report, _)| (&report.active, report.traffic, &report.phase));
                        (&member.host, member.batch, &member.state, heard)
                    })
                    .collect::<Vec<_>>()
            );
        }
    }
}

/// What a host is let go for is what it is to run, or of what that follows, and so on, the first that it has not come to by
/// what it says that it runs.
fn leads_to(state: &State, heard: Option<&HostReport>, release: &ReleaseRef, target: &ReleaseRef) {
    let stop_of = |release: &ReleaseRef| {
        let application = place().application;
        let follows = state.release(&application, &release.name)?.follows.as_ref()?;
        Some(state.release(&application, &follows.release)?.release.clone())
    };
    let active = heard.map(|report| report.active.as_ref());
    let has_come_to = |stop: &ReleaseRef| match active {
        None | Some(None) => true,
        Some(Some(active)) if active.release.counter == stop.counter => active.proven,
        Some(Some(active)) => active.release.counter > stop.counter,
    };
    let mut one = target.clone();
    // Where nobody has heard of it any of them may be right.
    while active.is_some() || one != *release {
        match stop_of(&one) {
            Some(stop) if active.is_none() || !has_come_to(&stop) => one = stop,
            _ => break,
        }
    }
    assert_eq!(*release, one, "what leads to {} from {active:?}", target.name);
}
