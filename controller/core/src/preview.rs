//! What a rollout would do, without doing it: what `ctl plan` shows, and what a request is carried out by.

mod blue_green;
mod drill;
mod layout;
mod restart;
mod stops;

use landfall_common::assignment::ReleaseRef;
use landfall_common::strategy::{Canary, Entry, Gate, Strategy};
use landfall_common::{HostId, Sha256, Timestamp};
use serde::Serialize;

use crate::command::RollRequest;
use crate::contract::{self, ContractFacts};
use crate::gate;
use crate::groups::Groups;
use crate::observation::Host;
use crate::ranges;
use crate::record::{Applied, Convergence, Place, PlaceRecord, Proven, ReleaseRecord, WayBackKind, Word};
use crate::refusal::Refusal;
use crate::restart::Restart;
use crate::rollout::{RolloutKind, Schema};
use crate::schema::{self, Way};
use crate::state::State;

pub use drill::preview_drill;
pub use restart::preview_restart;
pub use stops::{Over, PlannedStops};

use layout::lay_out;

/// What a rollout would do.
#[must_use = "a plan is to be shown or carried out"]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Names what the plan depends on; a request that carries it is refused once that has changed.
    pub id: Sha256,
    /// Where.
    pub place: Place,
    /// Which way.
    pub kind: RolloutKind,
    /// What.
    pub release: ReleaseRef,
    /// What is in force.
    pub previous: Option<ReleaseRef>,
    /// With which knobs.
    pub strategy: Strategy,
    /// Host by host.
    pub batches: Vec<Batch>,
    /// The two groups between which requests are led; none where they stay where they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<Groups>,
    /// How many hosts may be out at the same time.
    pub max_unavailable: usize,
    /// How many may fail.
    pub failure_budget: usize,
    /// Those that are out now.
    pub unavailable: Vec<HostId>,
    /// Those that are cordoned, and have no part in it.
    pub left_out: Vec<(HostId, Word)>,
    /// What has to run once before.
    pub schema: Schema,
    /// What it takes away after the last host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contract: Option<ContractFacts>,
    /// What others must open before certain batches.
    pub gates: Vec<PlannedGate>,
    /// What happens if it fails.
    pub way_back: PlannedWayBack,
    /// What is restarted or reloaded, if that is what it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
    /// Hosts that take something else first, and those that cannot come to the release, as far as is known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stops: Vec<PlannedStops>,
}

/// Something that others must open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedGate {
    /// What.
    pub gate: Gate,
    /// Before which of the batches.
    pub batches: Vec<u32>,
    /// Whether the controller can get an answer of it: it is not to be asked, or may be. One of the release in force that
    /// may not be asked any more holds all the same.
    pub can_answer: bool,
}

/// Hosts that change together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Batch {
    /// From 1.
    pub number: u32,
    /// Whether it is the canary.
    pub canary: bool,
    /// What these hosts have in common, such as `role=canary`; empty for no more than their turn.
    pub why: String,
    /// Its hosts, in order.
    pub hosts: Vec<HostId>,
}

/// What happens to a release that fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "way_back", rename_all = "snake_case")]
pub enum PlannedWayBack {
    /// Nothing was in force: failed hosts are left as they are.
    NothingBefore,
    /// A failing host goes back by itself, and the others follow.
    Code,
    /// Failing hosts are held; the schema is taken back first.
    SchemaFirst,
    /// Failing hosts are held and the rollout pauses.
    None {
        /// Why.
        reason: String,
    },
}

/// What a request would do now.
///
/// # Errors
/// [`Refusal`] for what would be refused for reasons that lie in the release, the place or the request. That
/// another rollout holds the place does not hinder looking.
pub fn preview(state: &State, request: &RollRequest, now: Timestamp) -> Result<Plan, Refusal> {
    let record = published(state, &request.place, &request.release)?;
    let base = defined(record, &request.place)?;
    ranges::check(state, &request.place, record, (base, &request.overrides))?;
    let strategy = request.overrides.over(base);
    strategy.check().map_err(|rule| Refusal::Strategy { rule })?;
    let place = place_record(state, &request.place)?;
    let previous = place.in_force().map(|proven| proven.release.clone());
    if let Some(in_force) = &previous
        && record.release.counter < in_force.counter
    {
        let name = &request.release;
        let hint = if place.proven.iter().any(|proven| proven.release.name == *name) {
            format!("`ctl rollback {name}` goes back")
        } else {
            "it was never proven here, publish its content anew under another name".to_owned()
        };
        return Err(Refusal::Older {
            hint,
            release: name.clone(),
            in_force: in_force.name.clone(),
            place: Box::new(request.place.clone()),
        });
    }
    some_canary(state, &request.place, &strategy)?;
    gate::may_be_asked(state, &record.release, &strategy.gates)?;
    knows_the_schema(place, &record.release)?;
    content_is_here(record)?;
    let groups = blue_green::forward(state, request, &strategy, now)?;
    let schema = schema::forward(place, record);
    stops::lead_there(state, &schema::after(place, &schema, previous.as_ref(), now), &record.release)?;
    let way_back = planned_way_back(state, place, previous.as_ref(), &schema, now);
    let contract = contract::due(place, record);
    let release = record.release.clone();
    let kind = RolloutKind::Forward;
    let plan = lay_out(state, &request.place, kind, release, (strategy, groups), (schema, contract), now);
    Ok(Plan { previous, way_back, ..plan })
}

/// What going back would do now; `to` is the release that was proven on every host before the one in force, if
/// not given.
///
/// # Errors
/// [`Refusal::NothingBefore`], [`Refusal::Irreversible`], and those of [`preview`].
pub fn preview_rollback(
    state: &State,
    place: &Place,
    to: Option<&landfall_common::ReleaseName>,
    now: Timestamp,
) -> Result<Plan, Refusal> {
    let record = place_record(state, place)?;
    let nothing = |reason: String| Refusal::NothingBefore { reason };
    let in_force =
        record.in_force().ok_or_else(|| nothing(format!("no release was ever proven for {place}")))?;
    // Where hosts run a mixture, what is in force is what they go back to.
    let held = matches!(record.convergence, Convergence::Held { .. });
    let target = match to {
        None if held => in_force,
        None => before(record, in_force)?,
        Some(name) => {
            record.proven.iter().rev().find(|proven| proven.release.name == *name).ok_or_else(|| {
                nothing(format!(
                    "{name} was never proven for {place}, only a proven release can be gone back to"
                ))
            })?
        }
    };
    let target = target.release.clone();
    let schema = match schema::way_back(state, record, &target) {
        Way::Code => Schema::Fits { reason: format!("{} runs on the schema as it is", target.name) },
        Way::Down(migration) => Schema::Due { migration },
        Way::Blocked { reason, needed } => {
            return Err(Refusal::Irreversible { release: target.name, reason, needed });
        }
    };
    let known = state.release(&place.application, &target.name);
    known.map_or(Ok(()), content_is_here)?;
    let strategy =
        known.and_then(|release| release.environments.get(&place.environment).cloned()).unwrap_or_default();
    let previous = Some(in_force.release.clone());
    let way_back = match &schema {
        Schema::Fits { .. } => PlannedWayBack::Code,
        _ => PlannedWayBack::None {
            reason: format!("{} does not run on the schema of {}", in_force.release.name, target.name),
        },
    };
    // The fast lane: no canary, and nobody to wait for.
    let strategy = Strategy {
        canary: Canary::Count(0),
        canary_hold: landfall_common::Duration::ZERO,
        auto_promote: true,
        stagger: landfall_common::Duration::ZERO,
        watch: landfall_common::Duration::ZERO,
        gates: Vec::new(),
        entry: Entry::default(),
        ..strategy
    };
    let (strategy, groups) = blue_green::back(state, place, strategy, now);
    let plan = lay_out(state, place, RolloutKind::Rollback, target, (strategy, groups), (schema, None), now);
    Ok(Plan { previous, way_back, ..plan })
}

/// What was in force last before `in_force`, on every host, and is older: going back twice must not go forth again,
/// and what was gone back from before is no way back.
fn before<'r>(record: &'r PlaceRecord, in_force: &Proven) -> Result<&'r Proven, Refusal> {
    let place = &record.place;
    let mut older = record.proven.iter().rev().filter(|p| p.release.counter < in_force.release.counter);
    let part = older.clone().next();
    older.find(|proven| proven.whole).ok_or_else(|| {
        let name = &in_force.release.name;
        let reason = match part.map(|proven| &proven.release.name) {
            None => format!("no release before {name} was proven for {place}"),
            Some(part) => format!(
                "no release before {name} was proven on every host of {place}; `ctl rollback {part}` goes back to one \
                 that was proven on some"
            ),
        };
        Refusal::NothingBefore { reason }
    })
}

/// A rollout that ended half way has left its migration in the database: what is older may not know it, the
/// release in force included.
fn knows_the_schema(place: &PlaceRecord, release: &ReleaseRef) -> Result<(), Refusal> {
    let (reason, needed) = match schema::past(place, release) {
        Way::Code => return Ok(()),
        Way::Blocked { reason, needed } => (reason, needed),
        Way::Down(migration) => {
            let newer = &migration.release.name;
            let needed = match place.in_force() {
                Some(proven) => format!("`ctl rollback {}` takes it back", proven.release.name),
                None => format!("publish a release that is newer than {newer}"),
            };
            (format!("the migration of {newer} has run"), needed)
        }
    };
    Err(Refusal::SchemaAhead { release: release.name.clone(), reason, needed })
}

/// Whoever asks for certain hosts to go first must not find that all went at once.
fn some_canary(state: &State, place: &Place, strategy: &Strategy) -> Result<(), Refusal> {
    let named = |host: &Host| strategy.canary.names(&host.record.labels);
    if !strategy.has_canary()
        || !matches!(strategy.canary, Canary::Labels { .. })
        || state.hosts(place).any(|host| named(host) && host.record.cordon.is_none())
    {
        return Ok(());
    }
    let rule = match state.hosts(place).find(|host| named(host)) {
        None => format!(
            "canary is {}, and no host of {place} has these labels; `ctl hosts label HOST KEY=VALUE` gives \
             them to one, or name other hosts with `--canary`",
            strategy.canary
        ),
        Some(cordoned) => format!(
            "canary is {}, and every host of {place} with these labels is cordoned; `ctl hosts uncordon {}` gives \
             one free, or name other hosts with `--canary`",
            strategy.canary, cordoned.record.id
        ),
    };
    Err(Refusal::Strategy { rule })
}

fn published<'s>(
    state: &'s State,
    place: &Place,
    name: &landfall_common::ReleaseName,
) -> Result<&'s ReleaseRecord, Refusal> {
    let application = &place.application;
    let unknown = || Refusal::NoSuchRelease { application: application.clone(), release: name.clone() };
    state.release(application, name).ok_or_else(unknown)
}

/// How the release is to be rolled out there.
fn defined<'r>(record: &'r ReleaseRecord, place: &Place) -> Result<&'r Strategy, Refusal> {
    record.environments.get(&place.environment).ok_or_else(|| {
        let defined: Vec<_> = record.environments.keys().map(|name| name.as_str()).collect();
        Refusal::NoSuchEnvironment {
            release: record.release.name.clone(),
            environment: place.environment.clone(),
            defined: if defined.is_empty() { "none".to_owned() } else { defined.join(", ") },
        }
    })
}

/// Hosts can be brought only to a release that they can fetch.
fn content_is_here(record: &ReleaseRecord) -> Result<(), Refusal> {
    match record.content.removed_at() {
        None => Ok(()),
        Some(at) => Err(Refusal::ContentRemoved {
            application: record.application.clone(),
            release: record.release.name.clone(),
            at: at.whole_seconds(),
        }),
    }
}

fn place_record<'a>(state: &'a State, place: &Place) -> Result<&'a PlaceRecord, Refusal> {
    let found = state.places.get(place).filter(|found| !found.hosts.is_empty());
    let found = found.ok_or_else(|| Refusal::NoHosts { place: place.clone() })?;
    if found.hosts.values().all(|host| host.record.cordon.is_some()) {
        return Err(Refusal::AllCordoned { place: place.clone() });
    }
    Ok(&found.record)
}

/// What follows if a forward rollout fails, once its migration has run.
pub(crate) fn planned_way_back(
    state: &State,
    place: &PlaceRecord,
    previous: Option<&ReleaseRef>,
    schema: &Schema,
    now: Timestamp,
) -> PlannedWayBack {
    let Some(previous) = previous else { return PlannedWayBack::NothingBefore };
    let mut after = place.clone();
    if let Schema::Due { migration } = schema {
        after.migrations.push(Applied {
            release: migration.release.clone(),
            from: Some(previous.clone()),
            facts: migration.facts.clone(),
            at: now,
        });
    }
    match schema::way_back(state, &after, previous) {
        Way::Code => PlannedWayBack::Code,
        Way::Down(_) => PlannedWayBack::SchemaFirst,
        Way::Blocked { reason, .. } => PlannedWayBack::None { reason },
    }
}

/// Refuses a plan without a way back, unless the operator has said that he knows.
pub(crate) fn way_back_is_known(plan: &Plan, request: &RollRequest) -> Result<(), Refusal> {
    let Some(reason) = needs_no_way_back(plan).filter(|_| !request.no_way_back) else { return Ok(()) };
    let undeclared = matches!(
        &plan.schema,
        Schema::Due { migration } if migration.facts.way_back == WayBackKind::None
    );
    Err(Refusal::NoWayBack { release: request.release.clone(), reason: reason.to_owned(), undeclared })
}

/// Whether a request for this plan needs the operator's word that there is no way back.
fn needs_no_way_back(plan: &Plan) -> Option<&str> {
    match (&plan.way_back, &plan.schema) {
        (PlannedWayBack::None { reason }, _) => Some(reason),
        (_, Schema::Due { migration }) if plan.previous.is_some() => {
            // Every other way back is covered above; this holds even if the stack were to be emptied.
            (migration.facts.way_back == WayBackKind::None).then_some("its migration cannot be undone")
        }
        _ => None,
    }
}
