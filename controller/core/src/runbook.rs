//! How one would go back from here, at this moment: what would run, what would refuse it, and what to type. Nothing
//! is found out here that a rollback would not be decided upon ([`crate::course`]), so that it promises nothing else.

use std::collections::BTreeSet;

use landfall_common::assignment::ReleaseRef;
use landfall_common::{Duration, HostId, RolloutId, Timestamp};
use serde::Serialize;

use crate::course::{self, Course};
use crate::explain::{Next, Runs, runs};
use crate::log::Actor;
use crate::member::Member;
use crate::observation::Host;
use crate::preview::Batch;
use crate::reason::Hosts;
use crate::record::{Place, PlaceRecord, Rehearsal, WayBackKind};
use crate::refusal::{Refusal, moment};
use crate::rollout::{Back, Planned, Rollout, Schema, Stage, Status};
use crate::state::State;

/// Cordoned hosts that are told one by one.
const NAMED: usize = 10;

/// How to go back in a place.
#[must_use = "a runbook is to be read"]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runbook {
    /// Where.
    pub place: Place,
    /// What is in force; nothing before the first release.
    pub in_force: Option<InForce>,
    /// What its hosts say that they run.
    pub runs: Vec<Runs>,
    /// What a rollback without a name does, or why it is refused.
    pub way: Result<WayBack, Refusal>,
    /// The other releases that were in force here, the newest first.
    pub others: Vec<Other>,
    /// What no rollback takes back.
    pub stays: Vec<String>,
    /// What is the matter now: a rollout under way, hosts that have no part in it, others in line.
    pub notes: Vec<String>,
    /// The last drill that ended well.
    pub rehearsed: Option<Rehearsal>,
    /// What to type where it is refused, before it or instead of it.
    pub instead: Vec<Next>,
    /// What to type to begin it; nothing where it is refused, or is on its way.
    pub begin: Vec<Next>,
    /// What to type to watch it, and when it does not go on.
    pub watch: Vec<Next>,
    /// What to type to see that it is done.
    pub verify: Vec<Next>,
}

/// What is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InForce {
    /// Which release.
    pub release: ReleaseRef,
    /// Since when.
    pub since: Timestamp,
    /// By which rollout.
    pub rollout: RolloutId,
    /// At whose request, where that is still on record.
    pub by: Option<Actor>,
}

/// What a rollback without a name does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WayBack {
    /// What runs in the end.
    pub to: ReleaseRef,
    /// When that came to be in force here last.
    pub proven: Option<Timestamp>,
    /// What does it.
    pub how: How,
    /// What takes the schema back, before any host.
    pub down: Option<Down>,
    /// Which hosts change, in their order.
    pub batches: Vec<Batch>,
    /// How many hosts may be out at the same time.
    pub max_unavailable: usize,
    /// How many may fail.
    pub failure_budget: usize,
    /// For how long each host has to be healthy.
    pub min_healthy: Duration,
    /// How long it may take to become so.
    pub healthy_deadline: Duration,
}

/// What goes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum How {
    /// A rollout of its own.
    Begins,
    /// The rollout under way turns.
    Turns {
        /// Which.
        rollout: RolloutId,
    },
    /// The rollout under way goes back already.
    GoesBack {
        /// Which.
        rollout: RolloutId,
        /// Whether it is paused.
        paused: bool,
    },
}

/// What takes the schema back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Down {
    /// Whose migration.
    pub of: ReleaseRef,
    /// How long the elected host may take.
    pub lease: Duration,
    /// The host that would be elected, as it looks now: the first that answers and is at rest.
    pub host: Option<HostId>,
}

/// Another release that was in force here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    /// Which.
    pub release: ReleaseRef,
    /// When it came to be so last.
    pub proven: Timestamp,
    /// Whether on every host.
    pub whole: bool,
    /// Why it cannot be gone back to now.
    pub refused: Option<Refusal>,
    /// Whether the schema would be taken back first.
    pub down: bool,
}

/// How to go back in a place; `None` if nobody knows of the place.
#[must_use]
pub fn runbook(state: &State, place: &Place, now: Timestamp) -> Option<Runbook> {
    let record = state.place(place)?;
    let course = course::of(state, place, None, "", now);
    let way = course.map(|course| way(state, record, &course, now));
    let aim = way.as_ref().ok().map(|way| way.to.digest);
    let in_force = record.in_force().map(|proven| InForce {
        release: proven.release.clone(),
        since: proven.at,
        rollout: proven.rollout.clone(),
        by: state.rollout(&proven.rollout).map(|rollout| rollout.by.clone()),
    });
    let here = in_force.as_ref().map(|in_force| in_force.release.digest);
    let mut known: BTreeSet<_> = aim.into_iter().chain(here).collect();
    let others = record.proven.iter().rev().filter(|proven| known.insert(proven.release.digest));
    let others = others.map(|proven| {
        let course = course::of(state, place, Some(&proven.release.name), "", now);
        Other {
            release: proven.release.clone(),
            proven: proven.at,
            whole: proven.whole,
            down: course.as_ref().is_ok_and(takes_schema_back),
            refused: course.err(),
        }
    });
    let others: Vec<Other> = others.collect();
    let holder = record.holder.as_ref().and_then(|id| state.rollout(id));
    let typed =
        Typed { place, held: holder.is_some_and(|holder| matches!(holder.status, Status::Active { .. })) };
    Some(Runbook {
        in_force,
        runs: runs(state.hosts(place), now),
        stays: stays(record),
        notes: notes(state, record, &way, now),
        rehearsed: record.rehearsed.clone(),
        instead: way.as_ref().err().map(|refusal| typed.instead(refusal, &others)).unwrap_or_default(),
        begin: way.as_ref().ok().map(|way| typed.begin(way)).unwrap_or_default(),
        watch: typed.watch(),
        verify: typed.verify(way.as_ref().ok()),
        place: place.clone(),
        others,
        way,
    })
}

fn takes_schema_back(course: &Course<'_>) -> bool {
    match course {
        Course::Begins(plan) => matches!(plan.schema, Schema::Due { .. }),
        Course::Turns { stage, .. } => down_of(Some(stage)).is_some(),
        Course::GoesBack(rollout) => down_of(rollout.status.stage()).is_some(),
    }
}

fn down_of(stage: Option<&Stage>) -> Option<&Planned> {
    match stage {
        Some(Stage::RollingBack { back: Back::Schema { migration, .. }, .. }) => Some(migration),
        _ => None,
    }
}

fn way(state: &State, record: &PlaceRecord, course: &Course<'_>, now: Timestamp) -> WayBack {
    let (strategy, how, batches, planned) = match course {
        Course::Begins(plan) => {
            let planned = match &plan.schema {
                Schema::Due { migration } => Some(migration),
                _ => None,
            };
            (&plan.strategy, How::Begins, plan.batches.clone(), planned)
        }
        Course::Turns { rollout, stage } => {
            let how = How::Turns { rollout: rollout.id.clone() };
            (&rollout.strategy, how, touched(state, rollout), down_of(Some(stage)))
        }
        Course::GoesBack(rollout) => {
            let paused = matches!(rollout.status, Status::Paused { .. });
            let how = How::GoesBack { rollout: rollout.id.clone(), paused };
            (&rollout.strategy, how, touched(state, rollout), down_of(rollout.status.stage()))
        }
    };
    let to = match course {
        Course::Begins(plan) => plan.release.clone(),
        Course::Turns { rollout, .. } | Course::GoesBack(rollout) => {
            rollout.previous.clone().unwrap_or_else(|| rollout.release.clone())
        }
    };
    // Before the first host changes it is told to all that take part.
    let first = || {
        let all = match course {
            Course::Begins(plan) => &plan.batches,
            _ => &batches,
        };
        let mut hosts = all.iter().flat_map(|batch| &batch.hosts);
        hosts.find(|id| state.host(id).is_some_and(|host| host.fresh(now).is_some())).cloned()
    };
    let down = planned.map(|planned| Down {
        of: planned.release.clone(),
        lease: planned.facts.lease,
        host: first(),
    });
    let all = state.hosts(&record.place).count();
    let targeted = batches.iter().map(|batch| batch.hosts.len()).sum();
    WayBack {
        proven: record.proven.iter().rev().find(|proven| proven.release.digest == to.digest).map(|p| p.at),
        max_unavailable: strategy.max_unavailable.at_least_one(all),
        failure_budget: strategy.failure_budget.at_most(targeted),
        min_healthy: strategy.min_healthy,
        healthy_deadline: strategy.healthy_deadline,
        to,
        how,
        down,
        batches,
    }
}

/// The hosts that a rollout under way brings back: those that it has touched.
fn touched(state: &State, rollout: &Rollout) -> Vec<Batch> {
    let members = state.members(&rollout.id).filter(|member| member.touched && member.left_out.is_none());
    let mut members: Vec<&Member> = members.collect();
    members.sort_by(|one, two| (one.batch, &one.host).cmp(&(two.batch, &two.host)));
    let batches = members.chunk_by(|one, two| one.batch == two.batch);
    let batches = (1..).zip(batches).map(|(number, members)| Batch {
        number,
        canary: false,
        why: String::new(),
        hosts: members.iter().map(|member| member.host.clone()).collect(),
    });
    batches.collect()
}

/// What no rollback takes back, the newest first.
fn stays(record: &PlaceRecord) -> Vec<String> {
    let contracts = record.contracts.iter().rev().map(|contracted| {
        let name = &contracted.release.name;
        let ran = if contracted.known { "has run" } else { "may have run" };
        format!(
            "the contract of {name} {ran} ({}): no release before {name} runs on this database any more",
            moment(contracted.at)
        )
    });
    let oldest = record.proven.iter().map(|proven| proven.release.counter).min();
    let after_the_oldest = |counter| oldest.is_none_or(|oldest| counter > oldest);
    let mut newest = true;
    let migrations =
        record.migrations.iter().rev().filter(|applied| after_the_oldest(applied.release.counter));
    let migrations = migrations.map(|applied| {
        let name = &applied.release.name;
        let is_newest = std::mem::replace(&mut newest, false);
        let at = moment(applied.at);
        match (applied.facts.way_back, &applied.from) {
            (WayBackKind::None, _) => format!(
                "the migration of {name} has run ({at}) and cannot be undone: no release before {name} can be gone back to"
            ),
            (WayBackKind::Compatible, Some(from)) if record.contracted_past(from).is_none() => format!(
                "the migration of {name} has run ({at}) and stays: {} runs with it, and nothing older",
                from.name
            ),
            (WayBackKind::Compatible, _) => {
                format!("the migration of {name} has run ({at}) and stays")
            }
            (WayBackKind::Reversible, _) if is_newest => format!(
                "the migration of {name} has run ({at}); its `down` takes it back, and what was written since into \
                 what that drops is lost"
            ),
            (WayBackKind::Reversible, _) => format!(
                "the migration of {name} has run ({at}); its `down` runs only once what came after it is taken back, \
                 one release at a time"
            ),
        }
    });
    let written = "what was written meanwhile to the database, to shared directories and to others stays";
    contracts.chain(migrations).chain([written.to_owned()]).collect()
}

fn notes(state: &State, record: &PlaceRecord, way: &Result<WayBack, Refusal>, now: Timestamp) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(holder) = record.holder.as_ref().and_then(|id| state.rollout(id)) {
        let what = match &holder.restart {
            Some(restart) => restart.to_string(),
            None => holder.release.name.to_string(),
        };
        notes.push(format!(
            "rollout {} of {what} is {}, since {}, asked for by {}",
            holder.id,
            holder.status.word(),
            moment(holder.since),
            holder.by
        ));
    }
    for id in &record.line {
        notes.push(format!(
            "rollout {id} stands in line; going back holds it until somebody types `ctl resume {id}`"
        ));
    }
    let mut cordoned =
        state.hosts(&record.place).filter_map(|host| Some((host, host.record.cordon.as_ref()?)));
    let named = cordoned.by_ref().take(NAMED).map(|(host, word)| {
        format!("{} is cordoned by {}: {}; it stays as it is", host.record.id, word.by, word.reason)
    });
    notes.extend(named);
    match cordoned.count() {
        0 => {}
        more => notes.push(format!("{more} more are cordoned, and stay as they are (ctl hosts)")),
    }
    let hosts = || state.hosts(&record.place).filter(|host| host.record.cordon.is_none());
    let silent: Hosts = hosts().filter(|host| host.fresh(now).is_none()).map(id).collect();
    if !silent.is_empty() {
        notes.push(format!(
            "{silent} cannot be heard of; the others go back, it is told as not done there, and whoever comes later is \
             brought to what is in force then"
        ));
    }
    let out = |host: &&Host| host.fresh(now).is_some() && !host.available(now);
    let out: Hosts = hosts().filter(out).map(id).collect();
    if !out.is_empty() && way.is_ok() {
        notes.push(format!("not serving now, and counted as out: {out}"));
    }
    notes
}

fn id(host: &Host) -> HostId {
    host.record.id.clone()
}

/// Commands as they can be typed on any machine with `ctl`, in any directory.
struct Typed<'a> {
    place: &'a Place,
    /// Whether a rollout is under way that brings something, and is not paused.
    held: bool,
}

impl Typed<'_> {
    fn at(&self) -> String {
        format!("--app {} --env {}", self.place.application, self.place.environment)
    }

    fn begin(&self, way: &WayBack) -> Vec<Next> {
        let does = match &way.how {
            How::Begins => format!("asks once, goes back to {}, and follows it to the end", way.to.name),
            How::Turns { rollout } => {
                format!("asks once, makes rollout {rollout} go back to {}, and follows it", way.to.name)
            }
            How::GoesBack { paused: true, .. } => "asks once, and lets the way back go on".to_owned(),
            How::GoesBack { paused: false, .. } => return Vec::new(),
        };
        vec![next(format!("ctl rollback {} --reason 'WHY'", self.at()), does)]
    }

    fn watch(&self) -> Vec<Next> {
        let at = self.at();
        vec![
            next(format!("ctl status --watch {at}"), "follows it; Ctrl-C stops following and nothing else"),
            next(format!("ctl why {at}"), "tells what it waits for, host by host, and what to type next"),
            next(format!("ctl retry {at}"), "tries the hosts again that failed, once they are mended"),
            next(
                "ctl exclude HOST --reason 'WHY'".to_owned(),
                "goes on without a host that cannot be mended now",
            ),
        ]
    }

    fn verify(&self, way: Option<&WayBack>) -> Vec<Next> {
        let shows = match way {
            Some(way) => format!("every host runs {}, proven and healthy", way.to.name),
            None => "what each host runs, and how it does".to_owned(),
        };
        let at = self.at();
        vec![
            next(format!("ctl hosts {at}"), shows),
            next(format!("ctl status {at}"), "how the last rollout ended, and what is in force"),
            next(format!("ctl log {at}"), "who did what, for the report in the morning"),
        ]
    }

    /// What to type where it is refused.
    fn instead(&self, refusal: &Refusal, others: &[Other]) -> Vec<Next> {
        let at = self.at();
        let mut all = match refusal {
            Refusal::Locked { by, .. } => vec![next(
                format!(
                    "ctl unlock {} --app {} --reason 'WHY'",
                    self.place.environment, self.place.application
                ),
                format!("takes the lock of {by} away; ask first, if you can"),
            )],
            Refusal::MigrationUnknown { rollout, .. } => vec![
                next(
                    format!("ctl why {rollout}"),
                    "tells what is known of the migration; then look at the database",
                ),
                next(
                    format!("ctl migration resolve {rollout} --applied"),
                    "once you have seen that it took effect",
                ),
                next(
                    format!("ctl migration resolve {rollout} --not-applied"),
                    "once you have seen that it did not",
                ),
            ],
            Refusal::MigrationOpen { rollout, until, .. } => vec![next(
                format!("ctl why {rollout}"),
                format!(
                    "tells how it ended; it does by {} at the latest, then print this again",
                    moment(*until)
                ),
            )],
            Refusal::WrongStatus { rollout, .. } => vec![
                next(format!("ctl why {rollout}"), "tells what it waits for"),
                next(format!("ctl resume {rollout}"), "lets it go on, if it is paused"),
                next(format!("ctl abort {rollout}"), "ends it where it is; then print this again"),
            ],
            Refusal::AllCordoned { .. } => vec![next(
                "ctl hosts uncordon HOST".to_owned(),
                "gives a host free; `ctl hosts` tells who has cordoned it and why",
            )],
            Refusal::NoHosts { .. } => Vec::new(),
            _ => {
                let pause = next(format!("ctl pause {at}"), "lets nothing new begin meanwhile");
                let mend = next(
                    format!("ctl release NAME --env {}", self.place.environment),
                    "in the application's repository: brings what mends it, under a new name",
                );
                self.held.then_some(pause).into_iter().chain([mend]).collect()
            }
        };
        let can = others.iter().filter(|other| other.refused.is_none());
        all.extend(can.map(|other| {
            let name = &other.release.name;
            next(
                format!("ctl rollback {name} {at} --reason 'WHY'"),
                format!("goes to {name}: that can be done"),
            )
        }));
        all
    }
}

fn next(command: String, does: impl Into<String>) -> Next {
    Next { command, does: does.into() }
}
