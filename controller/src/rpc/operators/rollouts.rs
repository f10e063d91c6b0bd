//! Rollouts: planned, begun, controlled, watched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use landfall_common::assignment::ReleaseRef;
use landfall_common::strategy::{StrategyKind, Window};
use landfall_common::time::human;
use landfall_common::{
    AppName, Duration, EnvName, ReleaseCounter, ReleaseName, RequestId, Rights, Role, RolloutId,
};
use landfall_controller_core::approval;
use landfall_controller_core::command::{Action, Answer, Command, IfHeld, RollRequest};
use landfall_controller_core::comparison::{self, Named};
use landfall_controller_core::groups::Groups;
use landfall_controller_core::line;
use landfall_controller_core::log::MigrationVerdict;
use landfall_controller_core::preview::{
    Batch, Plan, PlannedWayBack, preview, preview_drill, preview_rollback,
};
use landfall_controller_core::proof;
use landfall_controller_core::record::Place;
use landfall_controller_core::rollout::Schema;
use landfall_proto::v1 as pb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::BoxStream;

use super::{evidence, gates, migrations, page, shown, stops};
use crate::error::{ControllerError, Reason};
use crate::reactor::{Along, View, changes_key};
use crate::rpc::{Caller, Context, convert, fresh_rollout};
use crate::store;

/// Watchers are told at most this often.
const WATCH_PAUSE: Duration = Duration::from_millis(250);

/// Hosts that a plan leaves out and names.
const NAMED: usize = 10;

/// Rollouts in a list whose asker does not say how many.
const DEFAULT_LIMIT: usize = 50;

pub(super) async fn changes(context: &Context, rollout: &RolloutId) -> Result<Vec<String>, ControllerError> {
    let key = changes_key(rollout);
    match context.store.get(&key).await? {
        Some(stored) => convert::stored(&key, &stored.value),
        None => Ok(Vec::new()),
    }
}

fn unknown(rollout: &RolloutId) -> ControllerError {
    ControllerError::refused(Reason::NotFound, format!("no rollout {rollout} is known"))
}

pub(super) async fn plan(
    context: &Context,
    request: pb::PlanRolloutRequest,
) -> Result<pb::PlanRolloutResponse, ControllerError> {
    let place = convert::place(&request.application, &request.environment)?;
    let mut wanted =
        RollRequest::new(place.application, place.environment, convert::release_name(&request.release)?);
    wanted.overrides = convert::overrides(request.overrides)?;
    wanted.no_way_back = request.no_way_back;
    wanted.if_held = if_held(request.if_held);
    wanted.outside_window = convert::text("outside_window", request.outside_window)?;
    wanted.proven_in = environments(&wanted.place, &request.proven_in)?;
    wanted.unproven = convert::text("unproven", request.unproven)?.trim().to_owned();
    wanted.without_evidence = convert::text("without_evidence", request.without_evidence)?.trim().to_owned();
    // Of nobody's choice: one that somebody had used would be answered for its own sake.
    let request = crate::initialise::fresh_request()?;
    let planned = context.reactor.read(move |view| planned(view, &wanted, request)).await?;
    let (mut plan, due) = planned.map_err(ControllerError::from)?;
    if let Some((release, before)) = due {
        let listed = migrations::listed(context, &release, before.as_ref()).await;
        (plan.migrations, plan.more_migrations, plan.migrations_note) =
            (listed.names, listed.more, listed.note);
    }
    Ok(plan)
}

/// A plan without the names of its migrations, and the releases whose manifests have those.
type Planned = (pb::PlanRolloutResponse, Option<(ReleaseRef, Option<ReleaseRef>)>);

fn planned(
    view: &View<'_>,
    wanted: &RollRequest,
    request: RequestId,
) -> Result<Planned, landfall_controller_core::Refusal> {
    let plan = preview(view.state, wanted, view.now)?;
    // What beginning it would be refused for is found out by trying, without doing it.
    let command = Command {
        request,
        by: landfall_controller_core::log::Actor::Controller,
        origin: String::new(),
        fresh: fresh_rollout(view.now),
        action: Action::Roll(Box::new(wanted.clone())),
    };
    let refusal = landfall_controller_core::decide(view.state, &command, view.now).err();
    let message = pb::PlanRolloutResponse {
        migrations: Vec::new(),
        more_migrations: 0,
        migrations_note: String::new(),
        plan_id: plan.id.to_string(),
        from: plan.previous.as_ref().map(convert::release_ref),
        to: Some(convert::release_ref(&plan.release)),
        batches: plan
            .batches
            .iter()
            .map(|batch| pb::PlannedBatch {
                canary: batch.canary,
                hosts: batch.hosts.iter().map(ToString::to_string).collect(),
                why: batch.why.clone(),
                then: then(&plan, batch),
            })
            .collect(),
        migration: match &plan.schema {
            Schema::Fits { .. } => String::new(),
            Schema::Due { migration } | Schema::Done { migration } | Schema::TakenBack { migration } => {
                format!(
                    "the migration of {} runs once, on one host, before the first activation",
                    migration.release.name
                )
            }
        },
        contract: contract(&plan),
        way_back: way_back(&plan),
        refusals: refusal.into_iter().map(|refusal| refusal.to_string()).collect(),
        notes: notes(view, &plan, wanted),
        proofs: proofs(view, &plan, wanted),
        evidence: evidence::planned(view, &plan),
    };
    Ok((message, migrations::due(&plan)))
}

/// What is taken away after the last host, and what that ends.
fn contract(plan: &Plan) -> String {
    if plan.contract.is_none() {
        return String::new();
    }
    let name = &plan.release.name;
    let from = plan.previous.as_ref().filter(|previous| previous.digest != plan.release.digest);
    let from = from.map_or_else(String::new, |previous| format!(", and {} does not", previous.name));
    format!(
        "the contract of {name} runs once, on one host, after every host of {} runs {name}, proven; from then on only \
         {name} and what comes after it fit the database{from}",
        plan.place.environment
    )
}

/// Where the release must be proven before, and whether it is.
fn proofs(view: &View<'_>, plan: &Plan, wanted: &RollRequest) -> Vec<pb::Proof> {
    let Some(place) = view.state.place(&plan.place) else { return Vec::new() };
    let asked = proof::asked(view.state, place, &plan.release, wanted);
    let each = asked.into_iter().map(|environment| {
        let found = proof::proof(view.state, &plan.place, &plan.release, &environment);
        let proven = found.as_ref().ok();
        pb::Proof {
            environment: environment.to_string(),
            rollout: proven.map(|proven| proven.rollout.to_string()).unwrap_or_default(),
            at_ms: proven.map_or(0, |proven| proven.at.ms()),
            why_not: found.as_ref().err().map(ToString::to_string).unwrap_or_default(),
        }
    });
    each.collect()
}

/// What the next batch waits for beside the health of this one.
fn then(plan: &Plan, batch: &Batch) -> String {
    let strategy = &plan.strategy;
    let is_last = batch.number as usize == plan.batches.len();
    let gates = gates::after(plan, batch);
    let follows = match plan.groups {
        Some(_) if batch.number == 1 => "requests change over when",
        _ => "the next batch follows when",
    };
    let by_groups = strategy.kind == StrategyKind::BlueGreen;
    let is_held = batch.canary || by_groups && batch.number == 1;
    if !is_held || is_last || !strategy.holds_canary() {
        return gates.map_or_else(String::new, |gates| format!("{follows} {gates}"));
    }
    let hold = human::format(strategy.canary_hold);
    let who = if by_groups { &*batch.why } else { "the canary" };
    let healthy = (!strategy.canary_hold.is_zero()).then(|| format!("{who} has been healthy for {hold}"));
    // Before the first release there is nothing to compare with.
    let before = plan.previous.as_ref().filter(|_| strategy.analysis.is_some());
    let compared =
        before.map(|before| format!("its analysis beside the hosts on {} has passed", before.name));
    let promoted = (!strategy.auto_promote).then(|| "somebody types `ctl promote`".to_owned());
    let all: Vec<String> = healthy.into_iter().chain(compared).chain(promoted).chain(gates).collect();
    if all.is_empty() {
        return String::new();
    }
    format!("{follows} {}", all.join(" and "))
}

/// Two groups as people name them, such as `color=blue`, in the order in which they change.
fn named(groups: &Groups) -> (String, String) {
    let name = |value: &str| format!("{}={value}", groups.label);
    (name(&groups.first), name(&groups.second))
}

fn way_back(plan: &Plan) -> String {
    let previous = plan.previous.as_ref().map(|previous| previous.name.to_string()).unwrap_or_default();
    match &plan.way_back {
        PlannedWayBack::NothingBefore => {
            "nothing was in force before: a host that fails is left as it is".to_owned()
        }
        PlannedWayBack::Code => format!("a host that fails goes back to {previous} by itself"),
        PlannedWayBack::SchemaFirst => {
            format!(
                "going back to {previous} first takes the schema back, on one host; hosts that fail wait for it"
            )
        }
        PlannedWayBack::None { reason } => {
            format!("there is none: {reason}; hosts that fail are left as they are and the rollout pauses")
        }
    }
}

/// An unknown word is one of a newer `ctl`, and the careful answer to it is to refuse.
fn if_held(word: i32) -> IfHeld {
    match pb::IfHeld::try_from(word) {
        Ok(pb::IfHeld::Queue) => IfHeld::Queue,
        Ok(pb::IfHeld::Supersede) => IfHeld::Supersede,
        Ok(pb::IfHeld::Unspecified) | Err(_) => IfHeld::Refuse,
    }
}

fn notes(view: &View<'_>, plan: &Plan, wanted: &RollRequest) -> Vec<String> {
    let mut notes = Vec::new();
    notes.extend(approvals(view, plan));
    if let Some(sentence) = line::hindered(view.state, &plan.place, (&plan.release, wanted), view.now) {
        match wanted.if_held {
            IfHeld::Refuse => {}
            IfHeld::Queue => {
                notes.push(format!("it stands in line, and is planned anew then: it {sentence}"));
            }
            IfHeld::Supersede => notes.push("it ends what is under way and in line".to_owned()),
        }
    }
    // Before the first release nobody could serve.
    if !plan.unavailable.is_empty() && plan.previous.is_some() {
        let names: Vec<String> = plan.unavailable.iter().take(5).map(ToString::to_string).collect();
        let more = plan.unavailable.len().saturating_sub(names.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        notes.push(format!("not serving now: {}{more}", names.join(", ")));
    }
    notes.extend(stops::notes(plan));
    let left_out = plan.left_out.iter().take(NAMED);
    notes.extend(
        left_out.map(|(host, word)| format!("{host} is left out, cordoned by {}: {}", word.by, word.reason)),
    );
    if plan.left_out.len() > NAMED {
        notes.push(format!("{} more are left out, cordoned (ctl hosts)", plan.left_out.len() - NAMED));
    }
    notes.push(format!("at most {}, and at most {} may fail", out(plan), hosts(plan.failure_budget)));
    notes.extend(pace(plan));
    notes.extend(analysis(view, plan));
    notes.extend(limits(view, plan));
    notes.extend(gates::notes(plan));
    if let Schema::Fits { reason } = &plan.schema {
        notes.push(format!("no migration runs: {reason}"));
    }
    notes
}

/// Who has to say yes before it begins.
fn approvals(view: &View<'_>, plan: &Plan) -> Option<String> {
    let place = view.state.place(&plan.place)?;
    let who = match approval::needed(view.state, place, &plan.release) {
        0 => return None,
        1 => "somebody other than whoever asks has".to_owned(),
        needed => format!("{needed} people other than whoever asks have"),
    };
    Some(format!("it stands in line until {who} approved it with `ctl approve`"))
}

/// What the analysis of the canary does.
fn analysis(view: &View<'_>, plan: &Plan) -> Vec<String> {
    let has_others = plan.strategy.has_canary() && plan.batches.len() > 1;
    let Some(asked) = plan.strategy.analysis.as_ref().filter(|_| has_others) else { return Vec::new() };
    let Some(previous) = &plan.previous else {
        return vec!["the canary is not analysed: no release was in force before".to_owned()];
    };
    let (window, deadline) = (human::format(asked.window), human::format(asked.deadline));
    let mut notes = vec![format!(
        "the canary is compared in windows of {window}: worse, it goes back; without a verdict after {deadline} the rollout \
         pauses"
    )];
    let named = Named::of(view.state, &plan.place.application, &plan.release.name, &previous.name, asked);
    if !named.decides.is_empty() {
        notes.push(format!("compared are {}", named.decides.join(", ")));
    }
    if !named.aside.is_empty() {
        notes.push(format!("shown beside them, and deciding nothing, are {}", named.aside.join(", ")));
    }
    if !named.alone.is_empty() {
        let alone = named.alone.join(", ");
        notes.push(format!("not compared, since {} does not show the same: {alone}", previous.name));
    }
    notes
}

/// What the release may show at most while it is watched.
fn limits(view: &View<'_>, plan: &Plan) -> Option<String> {
    let limits = plan.strategy.limits.as_ref().filter(|_| !plan.strategy.watch.is_zero())?;
    let held = comparison::limits(view.state, &plan.place.application, &plan.release.name, limits);
    Some(format!(
        "in the watch it goes back when most windows of {} are beyond one of its limits: {}",
        human::format(limits.window),
        held.join(", ")
    ))
}

/// How many may be out at the same time, of whom.
fn out(plan: &Plan) -> String {
    let (Some(groups), [first, second]) = (&plan.groups, plan.batches.as_slice()) else {
        return format!("{} may be out at the same time", hosts(plan.max_unavailable));
    };
    // One always serves.
    let of = |batch: &Batch| {
        plan.strategy.max_unavailable.at_most(batch.hosts.len()).min(batch.hosts.len().saturating_sub(1))
    };
    let (first, second) = (of(first), of(second));
    let (blue, green) = named(groups);
    format!("{} of {green}, then {first} of {blue}, may be out while all requests go there", hosts(second))
}

/// Which of two groups takes it first, and where requests go.
fn by_groups(plan: &Plan, groups: &Groups) -> String {
    let (first, second) = named(groups);
    let watch = plan.strategy.watch;
    let then = match &plan.previous {
        Some(previous) if !watch.is_zero() => {
            format!("; {second} keeps {} for {}, and then takes it", previous.name, human::format(watch))
        }
        _ => format!(", and {second} takes it"),
    };
    format!(
        "{first} takes it first, without requests: {second} gets all of them meanwhile; then they change over{then}"
    )
}

/// How hosts follow each other beside batch by batch.
fn pace(plan: &Plan) -> Vec<String> {
    if let Some(groups) = &plan.groups {
        return vec![by_groups(plan, groups)];
    }
    let mut notes = Vec::new();
    let strategy = &plan.strategy;
    let all = plan.batches.iter().map(|batch| batch.hosts.len()).sum();
    if let Some(most) = strategy.at_once(all)
        && strategy.window == Window::Sliding
    {
        let may = format!("at most {} may change at the same time", hosts(most));
        notes.push(format!("{may}, and the next begins as soon as one is proven"));
    }
    if let Some(label) = strategy.spreads() {
        notes.push(format!("hosts of two values of {label} never change at the same time"));
    }
    if !strategy.staggers().is_zero() {
        let (least, most) = (strategy.staggers(), strategy.staggers() * 3 / 2);
        notes.push(format!(
            "each host begins {} to {} after the one before",
            human::format(least),
            human::format(most)
        ));
    }
    if !strategy.watch.is_zero() {
        notes
            .push(format!("the fleet is watched for {} after the last batch", human::format(strategy.watch)));
    }
    notes
}

fn hosts(count: usize) -> String {
    if count == 1 { "1 host".to_owned() } else { format!("{count} hosts") }
}

pub(super) fn command(
    context: &Context,
    caller: &Caller,
    request_id: &str,
    action: Action,
) -> Result<Command, ControllerError> {
    Ok(Command {
        request: convert::request_id(request_id)?,
        by: caller.actor(),
        origin: caller.origin.clone(),
        fresh: fresh_rollout(context.clock.now()),
        action,
    })
}

pub(super) async fn answered(context: &Context, answer: Answer) -> Result<pb::Rollout, ControllerError> {
    match answer {
        Answer::Rollout { id } => get(context, &id).await,
        Answer::Accepted => Ok(pb::Rollout::default()),
    }
}

pub(super) async fn start(
    context: &Context,
    caller: &Caller,
    request: pb::StartRolloutRequest,
) -> Result<pb::Rollout, ControllerError> {
    let place = convert::place(&request.application, &request.environment)?;
    let mut wanted =
        RollRequest::new(place.application, place.environment, convert::release_name(&request.release)?);
    wanted.overrides = convert::overrides(request.overrides)?;
    wanted.no_way_back = request.no_way_back;
    wanted.if_held = if_held(request.if_held);
    wanted.outside_window = convert::text("outside_window", request.outside_window)?.trim().to_owned();
    if !wanted.outside_window.is_empty() {
        caller.must_be(Role::Manager, &wanted.place, "to begin outside of a release window")?;
    }
    wanted.proven_in = environments(&wanted.place, &request.proven_in)?;
    wanted.unproven = convert::text("unproven", request.unproven)?.trim().to_owned();
    if !wanted.unproven.is_empty() {
        caller.must_be(Role::Manager, &wanted.place, "to release what is not proven")?;
    }
    wanted.without_evidence = convert::text("without_evidence", request.without_evidence)?.trim().to_owned();
    if !wanted.without_evidence.is_empty() {
        caller.must_be(Role::Manager, &wanted.place, "to release without evidence")?;
    }
    wanted.plan = match &*request.plan_id {
        "" => None,
        id => Some(convert::digest(id)?),
    };
    wanted.commits = convert::commits(&request.changes);
    let (place, name) = (wanted.place.clone(), wanted.release.clone());
    above_floor(context, move |view| {
        let record = view.state.release(&place.application, &name)?;
        Some((place, record.release.clone()))
    })
    .await?;
    let command = command(context, caller, &request.request_id, Action::Roll(Box::new(wanted)))?;
    let mut batch = store::Batch::new();
    if !request.changes.is_empty() {
        batch = batch.put(changes_key(&command.fresh), convert::to_store(&request.changes));
    }
    let done = context.reactor.command(command, Along { batch, entries: Vec::new() }).await?;
    answered(context, done.answer).await
}

fn environments(place: &Place, names: &[String]) -> Result<BTreeSet<EnvName>, ControllerError> {
    let environment = |name: &String| Ok(convert::place(place.application.as_str(), name)?.environment);
    names.iter().map(environment).collect()
}

/// What going back would bring: the release before the one under way, or an older one that was proven.
pub(super) fn aim(view: &View<'_>, place: &Place, to: Option<&ReleaseName>) -> Option<ReleaseRef> {
    let holder = view.state.place(place).and_then(|record| view.state.rollout(record.holder.as_ref()?));
    match holder {
        Some(holder) => holder.previous.clone(),
        None => preview_rollback(view.state, place, to, view.now).ok().map(|plan| plan.release),
    }
}

/// Why every host would refuse a release, if it lies below the signed floor of its application.
pub(super) fn below_floor(
    view: &View<'_>,
    floors: &BTreeMap<AppName, ReleaseCounter>,
    Place { application, .. }: &Place,
    ReleaseRef { name, counter, .. }: &ReleaseRef,
) -> Option<String> {
    let floor = *floors.get(application).filter(|floor| counter < *floor)?;
    let first = view.state.releases(application).find(|record| record.release.counter == floor);
    let first = first.map_or_else(String::new, |record| format!(" ({})", record.release.name));
    Some(format!(
        "{name} of {application} is number {counter}, and the signed floor is number {floor}{first}: every host refuses \
         what is below, also to go back, and a floor only rises. What {name} holds can be released again under a new name"
    ))
}

/// Every host would refuse a release below the signed floor: that is said before a rollout begins.
pub(super) async fn above_floor(
    context: &Context,
    aim: impl FnOnce(&View<'_>) -> Option<(Place, ReleaseRef)> + Send + 'static,
) -> Result<(), ControllerError> {
    let floors = context.repository.summary().floors;
    let below = move |view: &View<'_>| {
        let (place, release) = aim(view)?;
        below_floor(view, &floors, &place, &release)
    };
    let below = context.reactor.read(below).await?;
    below.map_or(Ok(()), |sentence| Err(ControllerError::refused(Reason::BelowFloor, sentence)))
}

pub(super) async fn roll_back(
    context: &Context,
    caller: &Caller,
    request: pb::RollbackRequest,
) -> Result<pb::Rollout, ControllerError> {
    let place = convert::place(&request.application, &request.environment)?;
    let to = match &*request.release {
        "" => None,
        name => Some(convert::release_name(name)?),
    };
    let reason = convert::text("reason", request.reason)?;
    let (aimed_at, named) = (place.clone(), to.clone());
    above_floor(context, move |view| aim(view, &aimed_at, named.as_ref()).map(|aim| (aimed_at, aim))).await?;
    let command = command(context, caller, &request.request_id, Action::RollBack { place, to, reason })?;
    let done = context.reactor.command(command, Along::default()).await?;
    answered(context, done.answer).await
}

pub(super) async fn drill(
    context: &Context,
    caller: &Caller,
    request: pb::StartDrillRequest,
) -> Result<pb::Rollout, ControllerError> {
    let place = convert::place(&request.application, &request.environment)?;
    let to = match &*request.release {
        "" => None,
        name => Some(convert::release_name(name)?),
    };
    let (aimed_at, named) = (place.clone(), to.clone());
    above_floor(context, move |view| {
        let plan = preview_drill(view.state, &aimed_at, named.as_ref(), view.now).ok()?;
        Some((aimed_at, plan.release))
    })
    .await?;
    let command = command(context, caller, &request.request_id, Action::Drill { place, to })?;
    let done = context.reactor.command(command, Along::default()).await?;
    answered(context, done.answer).await
}

pub(super) async fn control(
    context: &Context,
    caller: &Caller,
    request: pb::ControlRolloutRequest,
) -> Result<pb::Rollout, ControllerError> {
    let rollout = convert::rollout_id(&request.rollout)?;
    let control = request.control();
    let reason = convert::text("reason", request.reason)?;
    let action = match control {
        pb::Control::Unspecified => {
            return Err(ControllerError::invalid("control says nothing that this controller knows"));
        }
        pb::Control::Pause => Action::Pause { rollout: rollout.clone(), reason },
        pb::Control::Resume => Action::Resume { rollout: rollout.clone(), reason },
        pb::Control::Abort => Action::Abort { rollout: rollout.clone(), go_back: false, reason },
        pb::Control::Promote => Action::Promote { rollout: rollout.clone(), reason },
        pb::Control::RetryFailed => {
            let asked = rollout.clone();
            let look = move |view: &View<'_>| view.state.rollout(&asked).map(|rollout| rollout.place.clone());
            let place = context.reactor.read(look).await?.ok_or_else(|| unknown(&rollout))?;
            Action::RetryFailed { place, rollout: Some(rollout.clone()), reason }
        }
    };
    let command = command(context, caller, &request.request_id, action)?;
    match context.reactor.command(command, Along::default()).await?.answer {
        Answer::Accepted => get(context, &rollout).await,
        answer @ Answer::Rollout { .. } => answered(context, answer).await,
    }
}

pub(super) async fn resolve(
    context: &Context,
    caller: &Caller,
    request: pb::ResolveMigrationRequest,
) -> Result<pb::Rollout, ControllerError> {
    let rollout = convert::rollout_id(&request.rollout)?;
    let verdict = if request.succeeded { MigrationVerdict::Applied } else { MigrationVerdict::NotApplied };
    let reason = convert::text("reason", request.reason)?;
    let action = Action::ResolveMigration { rollout: rollout.clone(), verdict, reason };
    let command = command(context, caller, &request.request_id, action)?;
    context.reactor.command(command, Along::default()).await?;
    get(context, &rollout).await
}

pub(super) async fn get(context: &Context, id: &RolloutId) -> Result<pb::Rollout, ControllerError> {
    let changes = changes(context, id).await?;
    let asked = id.clone();
    let found = context
        .reactor
        .read(move |view| view.state.rollout(&asked).map(|rollout| shown::rollout(view, rollout, changes)))
        .await?;
    found.ok_or_else(|| unknown(id))
}

pub(super) async fn list(
    context: &Context,
    rights: Rights,
    request: pb::ListRolloutsRequest,
) -> Result<pb::ListRolloutsResponse, ControllerError> {
    let limit = if request.limit == 0 { DEFAULT_LIMIT } else { request.limit as usize };
    let after = match &*request.page_token {
        "" => None,
        id => Some(convert::rollout_id(id)?),
    };
    let unknown = after.clone();
    let page = context
        .reactor
        .read(move |view| {
            let wanted = |asked: &str, name: &str| asked.is_empty() || asked == name;
            let mut found: Vec<_> = view
                .state
                .rollouts()
                .filter(|rollout| rights.see(&rollout.place.application, &rollout.place.environment))
                .filter(|rollout| wanted(&request.application, rollout.place.application.as_str()))
                .filter(|rollout| wanted(&request.environment, rollout.place.environment.as_str()))
                .collect();
            found.sort_by_key(|rollout| std::cmp::Reverse((rollout.requested_at, &rollout.id)));
            let from = match &after {
                None => 0,
                Some(id) => 1 + found.iter().position(|rollout| rollout.id == *id)?,
            };
            let asked_for = found.into_iter().skip(from).take(limit);
            Some(page::fill(asked_for.map(|rollout| shown::rollout(view, rollout, Vec::new()))))
        })
        .await?;
    let page = match (page, unknown) {
        (Some(page), _) => page,
        (None, Some(id)) => return Err(self::unknown(&id)),
        (None, None) => page::Page { items: Vec::new(), more: false },
    };
    let cut_short = page.more;
    let mut rollouts = page.items;
    for rollout in &mut rollouts {
        rollout.changes = changes(context, &convert::rollout_id(&rollout.id)?).await?;
    }
    // With their commits they may be larger than they were.
    let page = page::fill(rollouts);
    let page = page::Page { more: page.more || cut_short, ..page };
    let next_page_token = page.token(|rollout| rollout.id.clone());
    Ok(pb::ListRolloutsResponse { rollouts: page.items, next_page_token })
}

pub(super) async fn watch(
    context: Arc<Context>,
    id: RolloutId,
) -> Result<BoxStream<pb::WatchRolloutResponse>, ControllerError> {
    let mut changed = context.reactor.changes();
    let mut shown = get(&context, &id).await?;
    let (out, messages) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let ended = shown.ended_ms > 0;
            if out.send(Ok(pb::WatchRolloutResponse { rollout: Some(shown.clone()) })).await.is_err() || ended
            {
                return;
            }
            loop {
                tokio::select! {
                    () = out.closed() => return,
                    () = context.stop.cancelled() => {
                        let _ = out.send(Err(ControllerError::Stopping.into())).await;
                        return;
                    }
                    changed = changed.changed() => if changed.is_err() { return },
                }
                tokio::time::sleep(WATCH_PAUSE).await;
                match get(&context, &id).await {
                    Ok(now) if now == shown => {}
                    Ok(now) => {
                        shown = now;
                        break;
                    }
                    Err(error) => {
                        let _ = out.send(Err(error.into())).await;
                        return;
                    }
                }
            }
        }
    });
    Ok(Box::pin(ReceiverStream::new(messages)))
}
