//! What a rollout by two groups would do: which hosts belong to which, and whether requests can be led between them.

use landfall_common::Timestamp;
use landfall_common::report::Traffic;
use landfall_common::strategy::{Strategy, StrategyKind};

use crate::command::RollRequest;
use crate::groups::{Groups, Side};
use crate::observation::Host;
use crate::reason::Hosts;
use crate::record::Place;
use crate::refusal::Refusal;
use crate::state::State;

use super::Batch;

/// The groups of a rollout that somebody asks for.
///
/// # Errors
/// [`Refusal::Strategy`] if there are no two groups, if requests cannot be led away from a host, or for a knob that has no
/// meaning beside them.
pub(super) fn forward(
    state: &State,
    request: &RollRequest,
    strategy: &Strategy,
    now: Timestamp,
) -> Result<Option<Groups>, Refusal> {
    if strategy.kind != StrategyKind::BlueGreen {
        return Ok(None);
    }
    let set = &request.overrides;
    let without_meaning = [
        ("canary", set.canary.is_some()),
        ("batch", set.batch.is_some()),
        ("window", set.window.is_some()),
        ("stagger", set.stagger.is_some()),
    ];
    if let Some((knob, _)) = without_meaning.iter().find(|(_, is_set)| *is_set) {
        let rule = format!(
            "strategy is blue_green, and {knob} has no meaning when one of two groups changes after the other"
        );
        return Err(Refusal::Strategy { rule });
    }
    by_groups(state, &request.place, strategy, now).map(Some).map_err(|rule| Refusal::Strategy { rule })
}

/// The same for the way back, which is to go whatever the labels say: without groups it goes batch by batch.
pub(super) fn back(
    state: &State,
    place: &Place,
    strategy: Strategy,
    now: Timestamp,
) -> (Strategy, Option<Groups>) {
    if strategy.kind != StrategyKind::BlueGreen {
        return (strategy, None);
    }
    match by_groups(state, place, &strategy, now) {
        Ok(groups) => (strategy, Some(groups)),
        Err(_) => (Strategy { kind: StrategyKind::Rolling, spread: None, ..strategy }, None),
    }
}

fn by_groups(state: &State, place: &Place, strategy: &Strategy, now: Timestamp) -> Result<Groups, String> {
    let Some(label) = &strategy.spread else { return Err("spread is none".to_owned()) };
    let hosts: Vec<&Host> = state.hosts(place).filter(|host| host.record.cordon.is_none()).collect();
    let groups = Groups::of(&hosts, label, now)?;
    let cannot = |host: &&&Host| {
        host.fresh(now).is_some_and(|received| {
            let is_tied = matches!(received.report.traffic, Traffic::Unknown | Traffic::Ungated);
            received.report.active.is_some() && is_tied
        })
    };
    let tied: Hosts = hosts.iter().filter(cannot).map(|host| host.record.id.clone()).collect();
    if !tied.is_empty() {
        return Err(format!(
            "strategy is blue_green, and requests cannot be led away from {tied}: what runs there has no `[traffic]` that \
             leads them to other hosts, or the agent is of a version that does not; `--strategy rolling --spread none` \
             brings the release that has it"
        ));
    }
    let in_force = state.place(place).and_then(|record| record.in_force());
    let first = || hosts.iter().filter(|host| groups.side(&host.record.labels) == Some(Side::First));
    let is_bare = |host: &&&Host| host.fresh(now).is_some_and(|received| received.report.active.is_none());
    if let Some(in_force) = in_force
        && first().all(|host| is_bare(&host))
    {
        let (group, name) = (groups.name(Side::First), &in_force.release.name);
        return Err(format!(
            "strategy is blue_green, and nothing runs on any host of {group} yet; once they have taken {name}, which is in \
             force, ask again (`ctl hosts`), or `--strategy rolling --spread none` goes batch by batch"
        ));
    }
    Ok(groups)
}

/// One batch for each group.
pub(super) fn batches(hosts: &[&Host], groups: &Groups) -> Vec<Batch> {
    let of = |side: Side| {
        let own = hosts.iter().filter(|host| groups.side(&host.record.labels) == Some(side));
        own.map(|host| host.record.id.clone()).collect()
    };
    let batch = |(number, side)| Batch { number, canary: false, why: groups.name(side), hosts: of(side) };
    [(1, Side::First), (2, Side::Second)].map(batch).into()
}
