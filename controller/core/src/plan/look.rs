//! What a run of the planner would say now, in full: nothing is left out of it, and nothing is decided by it.

use landfall_common::time::human;
use landfall_common::{HostId, Timestamp};
use serde::Serialize;

use crate::gate;
use crate::member::MemberState;
use crate::reason::PlaceReport;
use crate::record::Place;
use crate::rollout::{Back, MigrationRun, Promotion, Rollout, Stage, Status};
use crate::state::State;
use crate::turn;

use super::absorb;
use super::compare::Compared;
use super::deadline;
use super::evidence::Proof;
use super::limits;
use super::room::Room;
use super::table::{Seat, Table};

/// So many deadlines of single hosts are told, the next ones.
const HOSTS: usize = 20;

/// What a run would say.
pub(crate) struct Look {
    /// What is awaited, all of it.
    pub report: PlaceReport,
    /// Until when, the next one first.
    pub deadlines: Vec<Deadline>,
}

/// A moment at which something follows by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deadline {
    /// What ends: the name of a setting, or `lease`, `answer`, `lock`.
    pub name: &'static str,
    /// The host that it is about, if it is about one.
    pub host: Option<HostId>,
    /// When.
    pub at: Timestamp,
    /// What follows then, as a sentence.
    pub then: String,
}

/// Looks at a place as a run would.
pub(crate) fn look(state: &State, place: &Place, now: Timestamp) -> Option<Look> {
    let mut room = Room::of_a_commit();
    let mut table = Table::lay(state, place, now, &mut room)?;
    table.in_full = true;
    super::go_on(&mut table);
    let mut deadlines = deadlines(&table);
    deadlines.sort_by_key(|deadline| deadline.at);
    Some(Look { report: table.report, deadlines })
}

fn deadlines(table: &Table<'_>) -> Vec<Deadline> {
    let Some(rollout) = table.rollout.as_deref() else { return Vec::new() };
    let Some(stage) = rollout.status.stage() else { return Vec::new() };
    let mut all = Vec::new();
    if let Some(MigrationRun::Leased { lease }) = stage.migration() {
        all.push(Deadline {
            name: "lease",
            host: Some(lease.host.clone()),
            at: table.state.over_at(lease, table.now),
            then: "the outcome of the migration counts as unknown, and somebody has to look".to_owned(),
        });
    }
    // While it is paused, no other runs.
    if matches!(rollout.status, Status::Active { .. }) {
        all.extend(progress(table, rollout, stage));
        all.extend(deadline::ends_at(table).map(|at| Deadline {
            name: "rollout_deadline",
            host: None,
            at,
            then: "it pauses, unless it has reached all hosts by then".to_owned(),
        }));
        all.extend(analysis(table, rollout, stage));
        all.extend(of_gates(table, rollout));
        let mut hosts: Vec<_> = table.seats.iter().filter_map(|seat| of_host(table, rollout, seat)).collect();
        hosts.sort_by_key(|deadline| deadline.at);
        all.extend(hosts.into_iter().take(HOSTS));
    }
    all
}

/// When it pauses or ends since nothing gets on.
fn progress(table: &Table<'_>, rollout: &Rollout, stage: &Stage) -> Option<Deadline> {
    let strategy = &rollout.strategy;
    let began = table.members().any(|(_, member)| member.touched) || turn::schema_moved(rollout);
    let untouched = "it ends as failed; nothing that runs was touched";
    let then = match stage {
        Stage::Staging => untouched,
        Stage::Migrating { run: MigrationRun::Electing { doubt: None, .. } } => untouched,
        Stage::Running { .. } if !began => "it ends as failed, with nothing activated",
        Stage::Switching => "it pauses, and somebody says what follows",
        Stage::Running { batch } if *batch < rollout.batches => "it pauses, and somebody says what follows",
        Stage::Running { .. } | Stage::RollingBack { back: Back::Hosts, .. } => {
            "it pauses, or ends without those that cannot be heard of"
        }
        Stage::RollingBack { back: Back::Schema { run: MigrationRun::Electing { .. }, .. }, .. }
        | Stage::Migrating { run: MigrationRun::Electing { .. } } => "somebody has to say what follows",
        Stage::Canary { promotion: Promotion::ByItself | Promotion::Given | Promotion::Overruled } => {
            let patience = strategy.canary_hold + strategy.progress_deadline;
            let healthy = human::format(strategy.canary_hold.max(strategy.min_healthy));
            return Some(Deadline {
                name: "canary_hold",
                host: None,
                at: table.state.counted(rollout.since, table.now) + patience,
                then: format!("it pauses, unless the canary was healthy for {healthy} at a stretch by then"),
            });
        }
        Stage::Watching { accepted: false, .. } => {
            let left = strategy.watch.saturating_sub(super::watch::seen_for(table));
            // Then it is its gates, its limits or its hosts that are waited for.
            if left.is_zero() {
                return None;
            }
            let then = match rollout.groups {
                Some(_) => "the other group takes the release, if nothing fails until then".to_owned(),
                None => "it ends well, if nothing fails until then".to_owned(),
            };
            return Some(Deadline { name: "watch", host: None, at: table.now + left, then });
        }
        Stage::Watching { accepted: true, .. } if rollout.groups.is_some() => {
            "it pauses, and somebody says what follows"
        }
        Stage::Watching { accepted: true, .. } => "it ends without those that cannot be heard of",
        // Nobody hurries a person, a lease has its own end, and who stands in line waits for others.
        Stage::Canary { promotion: Promotion::Awaited }
        | Stage::Gated { .. }
        | Stage::InLine { .. }
        | Stage::Migrating { .. }
        | Stage::Contracting { .. }
        | Stage::RollingBack { .. } => return None,
    };
    let begun =
        table.now.ms().saturating_sub(u64::try_from(table.idle_for().as_millis()).unwrap_or(u64::MAX));
    let at = Timestamp::from_ms(begun) + strategy.progress_deadline;
    Some(Deadline { name: "progress_deadline", host: None, at, then: format!("if nothing gets on, {then}") })
}

/// When it pauses since the comparison of the canary, or the limits in the watch, have found nothing.
fn analysis(table: &Table<'_>, rollout: &Rollout, stage: &Stage) -> Option<Deadline> {
    if let Stage::Watching { accepted: false, .. } = stage {
        return limits::deadline(table, rollout);
    }
    let Stage::Canary { promotion: promotion @ Promotion::ByItself } = stage else { return None };
    let (asked, _) = rollout.compares()?;
    if Compared::of(table, *promotion).lets_go() {
        return None;
    }
    let left = asked.deadline.saturating_sub(table.seen_for());
    let then = "it pauses, unless the analysis could tell by then whether the canary is worse".to_owned();
    Some(Deadline { name: "analysis.deadline", host: None, at: table.now + left, then })
}

/// When it pauses since nobody has said anything of a gate.
fn of_gates(table: &Table<'_>, rollout: &Rollout) -> Vec<Deadline> {
    let Some(at) = gate::at(rollout) else { return Vec::new() };
    let silent = gate::standings(table.state, rollout, table.now)
        .into_iter()
        .filter(|standing| standing.is_silent() && at.counts(&standing.gate.name));
    let deadline = |gate: gate::Standing<'_>| Deadline {
        name: "deadline of a gate",
        host: None,
        at: table.now + gate.gate.deadline.saturating_sub(gate.silent_for(table.seen_for(), table.now)),
        then: format!("it pauses, unless there is an answer of gate {} by then", gate.gate.name),
    };
    silent.map(deadline).collect()
}

/// When a host counts as failed that does not answer, or is not healthy.
fn of_host(table: &Table<'_>, rollout: &Rollout, seat: &Seat<'_>) -> Option<Deadline> {
    let (state, now) = (table.state, table.now);
    let member = seat.member.as_deref()?;
    let there = Proof::of(&rollout.strategy);
    let (name, at, proof) = match member.state {
        MemberState::Granted { .. } => ("answer", absorb::answer_due(seat, there, state, now)?.1, there),
        MemberState::Returning { .. } => {
            seat.fresh?;
            let back = Proof::back(state, rollout);
            ("answer", absorb::answer_due(seat, back, state, now)?.1, back)
        }
        MemberState::Committed { .. } => {
            let since = absorb::unstable_since(seat, there, state, now)?;
            ("healthy_deadline", since + there.healthy_deadline, there)
        }
        MemberState::Returned { .. } => {
            let back = Proof::back(state, rollout);
            let since = absorb::unstable_since(seat, back, state, now)?;
            ("healthy_deadline", since + back.healthy_deadline, back)
        }
        _ => return None,
    };
    let then = if name == "answer" {
        "it counts as failed, unless it has said how it ended".to_owned()
    } else {
        let healthy = human::format(proof.min_healthy);
        format!("it counts as failed, unless it was healthy for {healthy} at a stretch")
    };
    Some(Deadline { name, host: Some(member.host.clone()), at, then })
}
