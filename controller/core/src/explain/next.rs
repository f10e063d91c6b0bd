//! The commands that can follow, by where a rollout or a host is.

use landfall_common::Timestamp;

use crate::approval;
use crate::course;
use crate::gate;
use crate::groups::Side;
use crate::member::MemberState;
use crate::record::Convergence;
use crate::rollout::{End, MigrationRun, Promotion, Rollout, RolloutKind, Stage, Status};
use crate::state::State;

use super::Next;
use super::host::HostFailed;
use super::rollout::FirstFailure;

pub(super) fn type_(command: impl Into<String>, does: impl Into<String>) -> Next {
    Next { command: command.into(), does: does.into() }
}

/// What can be typed about a rollout.
pub(super) fn of_rollout(
    state: &State,
    rollout: &Rollout,
    failed: Option<&FirstFailure>,
    now: Timestamp,
) -> Vec<Next> {
    let mut all = match &rollout.status {
        Status::Ended { end } => ended(state, rollout, end),
        Status::Active { stage } | Status::Paused { stage, .. } => {
            let paused = matches!(rollout.status, Status::Paused { .. });
            under_way(state, rollout, stage, paused, now)
        }
    };
    if let Some(failed) = failed {
        all.push(type_(
            format!("ctl why {}", failed.host),
            "tells all that is known of the host that failed first",
        ));
    }
    all
}

fn under_way(state: &State, rollout: &Rollout, stage: &Stage, paused: bool, now: Timestamp) -> Vec<Next> {
    let id = &rollout.id;
    let mut all = Vec::new();
    if let Stage::InLine { .. } = stage {
        if paused {
            all.push(type_(format!("ctl resume {id}"), "lets it begin when its turn comes"));
        }
        let place = state.place(&rollout.place);
        if place.is_some_and(|place| approval::missing(state, place, rollout).is_some()) {
            all.push(type_(
                format!("ctl approve {id}"),
                "says yes to it, for somebody else than who asked for it",
            ));
        }
        all.push(type_(format!("ctl abort {id}"), "takes it out of the line"));
        if let Some(holder) = place.and_then(|place| place.holder.as_ref()) {
            all.push(type_(format!("ctl why {holder}"), "tells what the one under way waits for"));
        }
        if place.is_some_and(|place| state.lock(place, now).is_some()) {
            all.push(type_(format!("ctl unlock {}", rollout.place.environment), "takes the lock away"));
        }
        return all;
    }
    let in_doubt = stage.migration().is_some_and(|run| run.in_doubt().is_some());
    if in_doubt {
        all.push(type_(
            format!("ctl migration resolve {id} --applied"),
            "goes on, once you have seen in the database that it took effect; or --not-applied",
        ));
    }
    if *stage == (Stage::Canary { promotion: Promotion::Awaited }) {
        let does = match &rollout.groups {
            Some(groups) => format!("leads the requests to {}", groups.name(Side::First)),
            None => "lets the batch after the canary follow".to_owned(),
        };
        all.push(type_(format!("ctl promote {id}"), does));
    }
    if let Some(at) = gate::at(rollout) {
        let gates = gate::standings(state, rollout, now);
        let counts = |standing: &&gate::Standing<'_>| at.counts(&standing.gate.name);
        let shut: Vec<_> = gates.iter().filter(counts).filter(|standing| !standing.is_open()).collect();
        if let Some(standing) = shut.iter().find(|standing| standing.gate.ask.is_none()) {
            let open = format!("ctl gate open {} --reason '…'", standing.gate.name);
            all.push(type_(open, format!("opens it for {}; or close, or fail", gate::moment(at.next))));
        }
        let does = match (stage, shut.is_empty()) {
            (Stage::Watching { accepted: false, .. }, true) => Some("ends the watch now".to_owned()),
            (_, true) => None,
            (_, false) => Some(format!("overrules the gates before {}", gate::moment(at.next))),
        };
        all.extend(does.map(|does| type_(format!("ctl promote {id}"), does)));
    }
    if paused {
        all.push(type_(format!("ctl resume {id}"), "lets it go on; its deadlines start anew"));
    }
    let going_back = matches!(stage, Stage::RollingBack { .. });
    let mut takes_part = state.members(id).filter(|member| member.left_out.is_none());
    let again = takes_part.any(|member| match member.state {
        MemberState::Failed { .. } => !going_back,
        MemberState::ReturnFailed => true,
        _ => false,
    });
    if again {
        all.push(type_(format!("ctl retry {id}"), "tries the failed hosts again, and resumes"));
    } else if paused && matches!(stage, Stage::Contracting { run: MigrationRun::Electing { .. } }) {
        all.push(type_(
            format!("ctl retry {id}"),
            "hands the contract out again, once what failed is mended",
        ));
    }
    let contracts = matches!(stage, Stage::Contracting { .. });
    let place = state.place(&rollout.place);
    if contracts && !paused && !in_doubt && stage.open_lease().is_none() {
        all.push(type_(
            format!("ctl abort {id}"),
            "ends it without the contract; the release stays in force",
        ));
    }
    // Nobody is told to type what is refused a moment later.
    let returns = rollout.kind == RolloutKind::Forward
        && !going_back
        && place.is_some_and(|place| course::of_rollout(state, rollout, place, "", now).is_ok());
    if returns {
        let to =
            rollout.previous.as_ref().map_or_else(String::new, |previous| format!(" to {}", previous.name));
        all.push(type_("ctl rollback", format!("goes back{to}")));
    }
    if paused && !in_doubt {
        all.push(type_(format!("ctl abort {id}"), "ends it and leaves every host as it is"));
    } else if !paused {
        all.push(type_(format!("ctl status --watch {id}"), "follows it"));
    }
    all
}

fn ended(state: &State, rollout: &Rollout, end: &End) -> Vec<Next> {
    let release = &rollout.release.name;
    let touched = state.members(&rollout.id).any(|member| member.touched);
    let place = state.place(&rollout.place);
    let is_last = place.is_some_and(|place| place.last.as_ref() == Some(&rollout.id));
    let free = place.is_some_and(|place| place.holder.is_none());
    if !is_last || !free {
        return Vec::new();
    }
    let in_force = place.and_then(|place| place.in_force()).map(|proven| &proven.release);
    let mut all = Vec::new();
    if let Some(member) = state.members(&rollout.id).find(|member| member.is_excluded()) {
        all.push(type_(format!("ctl include {}", member.host), "lets it take what is in force"));
    }
    let failed = state.members(&rollout.id).any(|m| m.state.failed() && m.left_out.is_none());
    let held = place.is_some_and(|place| matches!(place.convergence, Convergence::Held { .. }));
    match end {
        End::Succeeded | End::Rehearsed { .. } => {}
        _ if rollout.is_restart() => {
            if let Some(restart) = &rollout.restart {
                let names = restart.names().replace(", ", " ");
                all.push(type_(format!("ctl {} {names}", restart.kind.as_str()), "begins it again"));
            }
        }
        End::Failed { .. } if failed && in_force.is_some_and(|now| now.digest == rollout.release.digest) => {
            all.push(type_("ctl retry", "tries the hosts again that failed"));
            all.push(type_("ctl rollback", "goes back"));
        }
        End::Failed { .. } if !touched => {
            all.push(type_(format!("ctl release {release}"), "tries it again, once what failed is mended"));
        }
        End::Failed { .. } | End::Aborted { .. } if held || touched => {
            let to =
                in_force.map_or_else(String::new, |now| format!(" to {}, the release in force", now.name));
            all.push(type_("ctl rollback", format!("brings every host{to}")));
            all.push(type_(format!("ctl release {release}"), "tries it again"));
        }
        End::Failed { .. } | End::Aborted { .. } => {
            all.push(type_(format!("ctl release {release}"), "begins it again"));
        }
        End::RolledBack { .. } => {
            all.push(type_("ctl release NAME", "brings what is corrected, under a new name"));
        }
        End::Superseded { by } => {
            all.push(type_(format!("ctl why {by}"), "tells of the one that took its place"));
        }
    }
    all
}

/// What can be typed about a host.
pub(super) fn of_host(host: &super::host::Known<'_>, failed: Option<&HostFailed>) -> Vec<Next> {
    let id = &host.host.record.id;
    let mut all = Vec::new();
    if host.host.fresh(host.now).is_none() {
        all.push(type_(
            "systemctl status landfall-agent",
            format!("says, on {id}, whether its agent runs and what it says of the controller"),
        ));
    }
    if let Some(command) = host.freed_by() {
        all.push(type_(command, "lets it be touched again"));
    }
    if let Some(HostFailed { current: true, .. }) = failed {
        all.push(type_(format!("ctl logs {id}"), "shows of which steps and services there is output"));
        if host.can_be_retried() {
            let rollout = host.holder.map_or_else(String::new, |holder| format!(" {}", holder.id));
            all.push(type_(format!("ctl retry{rollout}"), "tries it again, with the others that failed"));
        }
    }
    if let Some(rollout) = host.holder {
        all.push(type_(format!("ctl why {}", rollout.id), "tells what its rollout waits for"));
    }
    all
}
