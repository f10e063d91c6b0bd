//! The beginning of a rollout: the same for one that begins at once and for one whose turn has come.

use std::collections::BTreeSet;

use landfall_common::{HostId, RolloutId, Timestamp};

use crate::approval::Approval;
use crate::contract::Contract;
use crate::evidence;
use crate::groups::Side;
use crate::log::{Actor, CommitLine, LogEvent};
use crate::member::{LeftOut, Member, MemberState, Out};
use crate::preview::Plan;
use crate::record::{Change, Convergence, Key, PlaceRecord, Record};
use crate::rollout::{Rollout, RolloutKind, Stage, Status};
use crate::state::State;
use crate::timing::{FORGOTTEN_AT_ONCE, REQUEST_KEPT, ROLLOUTS_KEPT};

/// Who begins what.
pub(crate) struct Beginning {
    pub id: RolloutId,
    pub by: Actor,
    pub requested_at: Timestamp,
    pub approvals: Vec<Approval>,
    pub commits: Vec<CommitLine>,
}

/// What changes when a rollout begins in a place that is free, and the entry that says so. `place` is the record
/// as it is to be, but for the holder.
pub(crate) fn begin(
    state: &State,
    mut place: PlaceRecord,
    plan: Plan,
    beginning: Beginning,
    now: Timestamp,
) -> (Vec<Change>, LogEvent) {
    let Beginning { id, by, requested_at, approvals, commits } = beginning;
    let mut changes = Vec::new();
    let astray = astray(state, &place);
    // No way back has asked for any.
    let evidence = match plan.kind {
        RolloutKind::Rollback => Vec::new(),
        _ if plan.restart.is_some() => Vec::new(),
        _ => evidence::stood(state, &place, &plan.release),
    };
    // Whoever follows the rollout before still wants to see how it ended on each host; those before it have served
    // their purpose.
    for (old, members) in state.members.iter().filter(|(old, _)| place.last.as_ref() != Some(*old)) {
        if state.rollout(old).is_some_and(|old| old.place == place.place && old.ended()) {
            let keys = members.keys().map(|host| Key::Member(old.clone(), host.clone()));
            changes.extend(keys.map(|key| Change::Delete { key }));
        }
    }
    let forgotten = forgotten(state, &place, now);
    changes.extend(forgotten.into_iter().map(|id| Change::Delete { key: Key::Rollout(id) }));
    let mut put = |record| changes.push(Change::Put { record });
    place.holder = Some(id.clone());
    if plan.kind == RolloutKind::Rollback {
        let left = place.proven.iter_mut().filter(|proven| proven.release.counter > plan.release.counter);
        left.for_each(|proven| proven.gone_back = true);
    }
    put(Record::Place(Box::new(place)));
    let hosts: usize = plan.batches.iter().map(|batch| batch.hosts.len()).sum();
    let notes = state.release(&plan.place.application, &plan.release.name);
    let event = LogEvent::RolloutStarted {
        rollout: id.clone(),
        application: plan.place.application.clone(),
        environment: plan.place.environment.clone(),
        release: plan.release.clone(),
        previous: plan.previous.clone(),
        hosts: hosts as u64,
        commits,
        approved_by: approvals.iter().map(|approval| approval.by.to_string()).collect(),
        evidence,
        notes: notes.and_then(|release| release.notes.clone()).unwrap_or_default(),
    };
    let batches = u32::try_from(plan.batches.len()).unwrap_or(u32::MAX);
    let all_canary = plan.batches.first().is_some_and(|batch| batch.canary) && batches == 1;
    let targeted = plan.batches.into_iter().flat_map(|batch| {
        let number = batch.number;
        batch.hosts.into_iter().map(move |host| (number, host, None))
    });
    // Whoever is left alone until then comes with the last, and never beside a canary that nobody was planned to follow.
    let lasts = batches.max(1) + u32::from(all_canary);
    // But for one of two groups: it belongs to its own.
    let of_group = |host: &HostId| {
        let side = plan.groups.as_ref()?.side(&state.host(host)?.record.labels)?;
        Some(if side == Side::First { 1 } else { 2 })
    };
    let left_out: Vec<_> = (plan.left_out.iter())
        .map(|(host, word)| {
            let left_out = LeftOut { how: Out::Cordoned, word: word.clone() };
            (of_group(host).unwrap_or(lasts), host.clone(), Some(left_out))
        })
        .collect();
    for (batch, host, left_out) in targeted.chain(left_out) {
        put(Record::Member(Box::new(Member {
            rollout: id.clone(),
            batch,
            state: MemberState::Pending,
            since: now,
            unheeded: 0,
            touched: astray.contains(&host),
            settled: false,
            host,
            failure: None,
            failed_at: None,
            return_failure: None,
            left_out,
        })));
    }
    put(Record::Rollout(Box::new(Rollout {
        id,
        place: plan.place,
        kind: plan.kind,
        release: plan.release,
        previous: plan.previous,
        strategy: plan.strategy,
        by,
        requested_at,
        turn_came_at: (requested_at != now).then_some(now),
        resumed_at: None,
        approvals,
        groups: plan.groups,
        batches,
        schema: plan.schema,
        contract: plan.contract.map(|facts| Contract { facts, ran: false }),
        status: Status::Active { stage: Stage::Staging },
        since: now,
        there: None,
        left_out: String::new(),
        restart: plan.restart,
    })));
    (changes, event)
}

/// The hosts that the rollout before may have left with something else than what is in force, where it ended half
/// way: if this one goes back, they go back with it.
fn astray(state: &State, place: &PlaceRecord) -> BTreeSet<HostId> {
    if !matches!(place.convergence, Convergence::Held { .. }) {
        return BTreeSet::new();
    }
    let last = place.last.iter().flat_map(|last| state.members(last));
    last.filter(|member| member.touched).map(|member| member.host.clone()).collect()
}

/// Rollouts of this place that nobody will ask for by an old answer, beyond the newest ones.
fn forgotten(state: &State, place: &PlaceRecord, now: Timestamp) -> Vec<RolloutId> {
    let mut ended: Vec<&Rollout> = state
        .rollouts()
        .filter(|rollout| rollout.place == place.place && rollout.ended())
        .filter(|rollout| place.last.as_ref() != Some(&rollout.id))
        .collect();
    ended.sort_by_key(|rollout| std::cmp::Reverse(rollout.requested_at));
    let surplus = ended.into_iter().skip(ROLLOUTS_KEPT);
    surplus
        .filter(|rollout| now.since(rollout.since) > REQUEST_KEPT)
        .filter(|rollout| place.proven.iter().all(|proven| proven.rollout != rollout.id))
        .map(|rollout| rollout.id.clone())
        .take(FORGOTTEN_AT_ONCE)
        .collect()
}
