//! Labels of hosts, set and taken away.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::{HostId, LabelKey};
use landfall_controller_core::command::Action;
use landfall_controller_core::member::MemberState;
use landfall_proto::v1 as pb;

use super::leave_out::{named, shown};
use super::rollouts::command;
use crate::error::ControllerError;
use crate::reactor::{Along, View};
use crate::rpc::{Caller, Context, convert};

pub(super) async fn asked(
    context: &Context,
    caller: &Caller,
    request: pb::LabelHostsRequest,
) -> Result<pb::LabelHostsResponse, ControllerError> {
    let (names, hosts) = named(request.hosts)?;
    let key = |key| LabelKey::new(key).map_err(|error| ControllerError::invalid(error.to_string()));
    let set = request.set.into_iter().map(|(label, value)| Ok((key(label)?, value)));
    let set = set.collect::<Result<BTreeMap<_, _>, ControllerError>>()?;
    let removed = request.remove.into_iter().map(key).collect::<Result<BTreeSet<_>, _>>()?;
    let reason = convert::text("reason", request.reason)?;
    let action = Action::Label { hosts: hosts.clone(), set, removed, reason };
    let command = command(context, caller, &request.request_id, action)?;
    context.reactor.command(command, Along::default()).await?;
    let parts = context.reactor.read(move |view| parts(view, &hosts)).await?;
    Ok(pb::LabelHostsResponse { hosts: shown(context, names).await?, parts })
}

/// What hosts have to do with rollouts that are under way.
fn parts(view: &View<'_>, hosts: &BTreeSet<HostId>) -> Vec<pb::HostPart> {
    let part = |id: &HostId| {
        let (rollout, member) = view.state.part_of(view.state.host(id)?)?;
        let takes_part = !rollout.ended() && member.left_out.is_none();
        takes_part.then(|| pb::HostPart {
            host: id.to_string(),
            rollout: rollout.id.to_string(),
            batch: member.batch,
            batches: rollout.batches,
            let_go: !matches!(
                member.state,
                MemberState::Pending | MemberState::Staging { .. } | MemberState::Staged
            ),
        })
    };
    hosts.iter().filter_map(part).collect()
}
