//! How one would go back in an environment: what the planner says, and what the signed manifests say of each step.

use std::sync::Arc;

use landfall_common::manifest::WayBack as MigrationWayBack;
use landfall_common::time::human;
use landfall_common::{HostId, ReleaseName, Timestamp};
use landfall_controller_core::preview::Batch;
use landfall_controller_core::record::Place;
use landfall_controller_core::runbook::{self, Down, How, Other, Runbook, WayBack};
use landfall_proto::v1 as pb;

use super::{environments, explain, program, rollouts};
use crate::error::{ControllerError, Reason};
use crate::reactor::View;
use crate::rpc::{Context, convert};

mod on_a_host;

/// Hosts of a batch that a step names; the batch has all of them.
const NAMED: usize = 40;

/// What the planner says, and what every host would refuse beyond that.
struct Told {
    book: Runbook,
    at: Timestamp,
    /// Why hosts would not take what a rollback without a name goes to.
    below: Option<String>,
    /// The same of the other releases, in their order.
    others_below: Vec<Option<String>>,
}

pub(super) async fn get(
    context: &Context,
    request: pb::GetRunbookRequest,
) -> Result<pb::GetRunbookResponse, ControllerError> {
    let place = convert::place(&request.application, &request.environment)?;
    let floors = Arc::new(context.repository.summary().floors);
    let asked = place.clone();
    let look = move |view: &View<'_>| {
        let book = runbook::runbook(view.state, &asked, view.now)?;
        // As a rollback is asked: the floor first.
        let below = |to: Option<&ReleaseName>| {
            let aim = rollouts::aim(view, &asked, to)?;
            rollouts::below_floor(view, &floors, &asked, &aim)
        };
        let others_below = book.others.iter().map(|other| below(Some(&other.release.name))).collect();
        Some(Told { below: below(None), others_below, at: view.now, book })
    };
    let told = context.reactor.read(look).await?;
    let unknown = || ControllerError::refused(Reason::NotFound, format!("nothing is known of {place}"));
    let told = told.ok_or_else(unknown)?;
    Ok(pb::GetRunbookResponse { runbook: Some(message(context, told).await) })
}

async fn message(context: &Context, told: Told) -> pb::Runbook {
    let Told { book, at, below, others_below } = told;
    let refused = below.or_else(|| book.way.as_ref().err().map(ToString::to_string));
    let way = match &book.way {
        Ok(way) if refused.is_none() => Some(of_way(context, &book.place, way).await),
        _ => None,
    };
    let commands = |all: Vec<_>| all.into_iter().map(explain::command).collect();
    pb::Runbook {
        application: book.place.application.to_string(),
        environment: book.place.environment.to_string(),
        at_ms: at.ms(),
        in_force: book.in_force.as_ref().map(|in_force| convert::release_ref(&in_force.release)),
        in_force_since_ms: book.in_force.as_ref().map_or(0, |in_force| in_force.since.ms()),
        in_force_rollout: book.in_force.as_ref().map(|now| now.rollout.to_string()).unwrap_or_default(),
        in_force_by: book.in_force.and_then(|now| Some(now.by?.to_string())).unwrap_or_default(),
        runs: book.runs.into_iter().map(explain::on_hosts).collect(),
        begin: if way.is_some() { commands(book.begin) } else { Vec::new() },
        way,
        refused: refused.unwrap_or_default(),
        others: book.others.iter().zip(others_below).map(|(other, below)| of_other(other, below)).collect(),
        stays: book.stays,
        notes: book.notes,
        rehearsed: book.rehearsed.as_ref().map(environments::rehearsal),
        instead: commands(book.instead),
        watch: commands(book.watch),
        verify: commands(book.verify),
    }
}

fn of_other(other: &Other, below: Option<String>) -> pb::RunbookRelease {
    let refused = below.or_else(|| other.refused.as_ref().map(ToString::to_string));
    pb::RunbookRelease {
        release: Some(convert::release_ref(&other.release)),
        proven_ms: other.proven.ms(),
        whole: other.whole,
        down: other.down && refused.is_none(),
        refused: refused.unwrap_or_default(),
    }
}

async fn of_way(context: &Context, place: &Place, way: &WayBack) -> pb::RunbookWay {
    let (rollout, goes_back, paused) = match &way.how {
        How::Begins => (String::new(), false, false),
        How::Turns { rollout } => (rollout.to_string(), false, false),
        How::GoesBack { rollout, paused } => (rollout.to_string(), true, *paused),
    };
    pb::RunbookWay {
        to: Some(convert::release_ref(&way.to)),
        proven_ms: way.proven.map_or(0, Timestamp::ms),
        rollout,
        goes_back,
        paused,
        steps: steps(context, place, way).await,
        batches: way
            .batches
            .iter()
            .map(|batch| pb::PlannedBatch {
                canary: false,
                hosts: batch.hosts.iter().map(ToString::to_string).collect(),
                why: batch.why.clone(),
                then: String::new(),
            })
            .collect(),
        down: way.down.as_ref().map(|down| convert::release_ref(&down.of)),
        max_unavailable: way.max_unavailable as u64,
    }
}

async fn steps(context: &Context, place: &Place, way: &WayBack) -> Vec<pb::RunbookStep> {
    let to = &way.to.name;
    let step = |what: String, detail: Vec<String>| pb::RunbookStep { what, detail };
    let mut all = Vec::new();
    match &way.how {
        How::Begins => all.push(step(
            format!("every host fetches and prepares {to} beside what it runs; nothing that runs is touched"),
            vec!["a host that still has it on its disk fetches nothing".to_owned()],
        )),
        How::Turns { rollout } => all.push(step(
            format!(
                "rollout {rollout} begins nothing new, and turns; what was begun on a host ends there first"
            ),
            Vec::new(),
        )),
        How::GoesBack { .. } => {}
    }
    if let Some(down) = &way.down {
        all.push(step(of_down(down), down_command(context, down).await));
    }
    let within = match way.max_unavailable {
        1 => "one host out at a time".to_owned(),
        many => format!("at most {many} hosts out at the same time"),
    };
    let waits = format!(
        "a batch begins once the one before is proven: each host healthy without a break for {}, within {}",
        human::format(way.min_healthy),
        human::format(way.healthy_deadline)
    );
    if way.batches.is_empty() {
        let nobody = "no host was changed yet: they go on with what they run".to_owned();
        all.push(step(nobody, Vec::new()));
    } else {
        let batches = way.batches.iter().map(of_batch).chain([waits]).collect();
        all.push(step(format!("batch by batch, {within}, without a canary"), batches));
        let detail = match program::of(context, &way.to).await {
            Ok(program) => on_a_host::lines(&way.to, &program),
            Err(why) => vec![format!("what its definition says (its manifest cannot be read: {why})")],
        };
        all.push(step(format!("on each host, in this order, {to} comes to run"), detail));
    }
    let may = match way.failure_budget {
        0 => "a host that fails pauses it".to_owned(),
        many => format!("more than {many} hosts that fail pause it"),
    };
    all.push(step(
        format!("it ends once every host of {place} that can be heard of says that it runs {to}, proven"),
        vec![format!("{may}, with the step, the exit code, the output and what to type next")],
    ));
    all
}

/// `batch 2: web-2, web-3 (zone=a)`.
fn of_batch(batch: &Batch) -> String {
    let named: Vec<&str> = batch.hosts.iter().take(NAMED).map(HostId::as_str).collect();
    let more = batch.hosts.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let why = if batch.why.is_empty() { String::new() } else { format!(" ({})", batch.why) };
    format!("batch {}: {}{more}{why}", batch.number, named.join(", "))
}

fn of_down(Down { of, lease, host }: &Down) -> String {
    let host = host.as_ref().map_or("the first host that answers".to_owned(), |host| {
        format!("{host}, or the next that answers,")
    });
    format!(
        "{host} takes the schema back, once, before any host changes: the `down` of {}, for {} at most",
        of.name,
        human::format(*lease)
    )
}

async fn down_command(context: &Context, down: &Down) -> Vec<String> {
    let unknown = |why: String| vec![format!("what it runs cannot be told: {why}")];
    match program::of(context, &down.of).await {
        Ok(program) => match program.migrate.map(|migration| migration.way_back) {
            Some(MigrationWayBack::Reversible { down }) => vec![on_a_host::command(&down.command)],
            _ => unknown(format!("the manifest of {} has none", down.of.name)),
        },
        Err(why) => unknown(why),
    }
}
