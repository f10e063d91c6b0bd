//! How the hosts of a place are laid out into batches, and which gates stand before these.

use std::collections::BTreeMap;

use landfall_common::assignment::ReleaseRef;
use landfall_common::canonical;
use landfall_common::strategy::{Canary, Strategy, Window};
use landfall_common::{HostId, LabelKey, Sha256, Timestamp};
use serde::Serialize;

use crate::contract::ContractFacts;
use crate::gate;
use crate::group::Group;
use crate::groups::Groups;
use crate::observation::Host;
use crate::record::Place;
use crate::rollout::{RolloutKind, Schema};
use crate::state::State;

use super::{Batch, Plan, PlannedGate, PlannedWayBack, blue_green, stops};

/// What a plan depends on: its id is the digest of this.
#[derive(Serialize)]
struct DependsOn<'a> {
    place: &'a Place,
    kind: RolloutKind,
    release: &'a ReleaseRef,
    previous: &'a Option<ReleaseRef>,
    strategy: &'a Strategy,
    hosts: Vec<&'a HostId>,
    /// In the order of hosts, where labels decide who changes when.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    labels: Vec<&'a BTreeMap<LabelKey, String>>,
    schema: &'a Schema,
    #[serde(skip_serializing_if = "Option::is_none")]
    contract: Option<&'a ContractFacts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<&'a Groups>,
}

/// The plan for a release, as the hosts are now.
pub(super) fn lay_out(
    state: &State,
    place: &Place,
    kind: RolloutKind,
    release: ReleaseRef,
    (strategy, groups): (Strategy, Option<Groups>),
    (schema, contract): (Schema, Option<ContractFacts>),
    now: Timestamp,
) -> Plan {
    let all = state.hosts(place).count();
    let (cordoned, hosts): (Vec<&Host>, Vec<&Host>) =
        state.hosts(place).partition(|host| host.record.cordon.is_some());
    let previous = state.place(place).and_then(|record| Some(record.in_force()?.release.clone()));
    let stops = stops::planned(state, place, &hosts, (&release, &schema, previous.as_ref()), now);
    let barred = stops::barred(&stops);
    // A host that cannot be reached now, or cannot come to the release, comes last: it should not be the canary, and hold
    // up the others.
    let (heard, silent): (Vec<&Host>, Vec<&Host>) =
        hosts.iter().partition(|host| host.fresh(now).is_some() && !barred.contains(&host.record.id));
    // What gets no requests since a rollout by two groups was ended half way goes first, and so does what runs nothing
    // before anything is in force: that costs nothing, and the one host that was left with what failed is not waited for.
    let idle = |host: &Host| {
        let runs = host.fresh(now).is_some_and(|received| received.report.active.is_some());
        host.record.led_away.is_some() || (previous.is_none() && !runs)
    };
    let (idle, served): (Vec<&Host>, Vec<&Host>) = heard.into_iter().partition(|host| idle(host));
    let inside: Vec<&Host> = idle.into_iter().chain(served).chain(silent).collect();
    let batches = match &groups {
        Some(groups) => blue_green::batches(&inside, groups),
        None => batches(inside, &strategy),
    };
    let by_labels = strategy.spreads().is_some() || matches!(strategy.canary, Canary::Labels { .. });
    let depends_on = DependsOn {
        place,
        kind,
        release: &release,
        previous: &previous,
        strategy: &strategy,
        hosts: hosts.iter().map(|host| &host.record.id).collect(),
        labels: if by_labels { hosts.iter().map(|host| &host.record.labels).collect() } else { Vec::new() },
        schema: &schema,
        contract: contract.as_ref(),
        groups: groups.as_ref(),
    };
    let bytes = canonical::to_vec(&depends_on).expect("made of names, numbers and digests only");
    Plan {
        id: Sha256::of(&bytes),
        place: place.clone(),
        kind,
        // What is out counts, whoever keeps the host out.
        max_unavailable: strategy.max_unavailable.at_least_one(all),
        failure_budget: strategy.failure_budget.at_most(hosts.len()),
        unavailable: (hosts.iter().filter(|host| !host.available(now)))
            .map(|host| host.record.id.clone())
            .collect(),
        left_out: (cordoned.iter())
            .filter_map(|host| Some((host.record.id.clone(), host.record.cordon.clone()?)))
            .collect(),
        gates: gates(state, place, kind, &release, &batches),
        stops,
        release,
        // Before anything is in force, no host gets requests that could be led elsewhere.
        groups: groups.filter(|_| previous.is_some()),
        previous,
        strategy,
        batches,
        schema,
        contract,
        way_back: PlannedWayBack::Code,
        restart: None,
    }
}

/// The gates that hold, those of the release in force included, each with its batches.
pub(super) fn gates(
    state: &State,
    place: &Place,
    kind: RolloutKind,
    release: &ReleaseRef,
    batches: &[Batch],
) -> Vec<PlannedGate> {
    let Some(record) = state.place(place) else { return Vec::new() };
    let of = u32::try_from(batches.len()).unwrap_or(u32::MAX);
    let gates = gate::of(state, record, release).into_iter().map(|gate| {
        let held =
            batches.iter().map(|batch| batch.number).filter(|batch| gate::holds(gate, kind, *batch, of));
        let can_answer = gate.ask.as_ref().is_none_or(|ask| state.may_ask(&ask.url));
        PlannedGate { gate: gate.clone(), batches: held.collect(), can_answer }
    });
    gates.filter(|planned| !planned.batches.is_empty()).collect()
}

/// Hosts in their order, the canary first, then batch by batch; with `spread` group by group, and what has no
/// label comes last.
fn batches(mut hosts: Vec<&Host>, strategy: &Strategy) -> Vec<Batch> {
    let size = match strategy.window {
        Window::Batch => strategy.batch_of(hosts.len()),
        // Who of them may begin is a matter of who is proven.
        Window::Sliding => hosts.len().max(1),
    };
    let spread = strategy.spreads();
    let group = |host: &Host| spread.map(|label| Group::of(host, label));
    hosts.sort_by_key(|host| group(host));
    let (first, rest) = canary(hosts, strategy);
    let labelled = matches!(strategy.canary, Canary::Labels { .. });
    let why = if labelled { strategy.canary.to_string() } else { String::new() };
    let first = (!first.is_empty()).then_some((true, why, &*first));
    let rest = rest.chunk_by(|one, next| group(one) == group(next)).flat_map(|hosts| {
        let why = group(hosts[0]).map_or_else(String::new, |group| group.to_string());
        hosts.chunks(size).map(move |chunk| (false, why.clone(), chunk))
    });
    let ids = |hosts: &[&Host]| hosts.iter().map(|host| host.record.id.clone()).collect();
    (1..)
        .zip(first.into_iter().chain(rest))
        .map(|(number, (canary, why, hosts))| Batch { number, canary, why, hosts: ids(hosts) })
        .collect()
}

/// Those that go first, and the others.
fn canary<'h>(hosts: Vec<&'h Host>, strategy: &Strategy) -> (Vec<&'h Host>, Vec<&'h Host>) {
    if !strategy.has_canary() {
        return (Vec::new(), hosts);
    }
    if let Canary::Labels { .. } = strategy.canary {
        return hosts.into_iter().partition(|host| strategy.canary.names(&host.record.labels));
    }
    let count = strategy.canary.count_of(hosts.len());
    let mut first = hosts;
    let rest = first.split_off(count);
    (first, rest)
}
