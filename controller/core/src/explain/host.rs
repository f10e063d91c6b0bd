//! Why a host is as it is: what it should run, what it was asked, what failed on it.

use landfall_common::assignment::{Assignment, Direction, Order, ReleaseRef};
use landfall_common::report::{Failure, OutcomeKind};
use landfall_common::{Generation, HostId, RolloutId, Timestamp};
use serde::Serialize;

use crate::log;
use crate::member::{Left, Member, MemberState};
use crate::observation::{Host, Standing};
use crate::plan::Deadline;
use crate::reason::{Concern, PlanningReport, Wait};
use crate::record::{Convergence, PlaceRecord, Word};
use crate::refusal::moment;
use crate::rollout::{Rollout, Stage};
use crate::state::State;

use super::{Next, next, rollout};

/// Why a host is as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostAccount {
    /// What it should run, and why.
    pub should: Should,
    /// Its part in the rollout under way, or in the last one.
    pub part: Option<Part>,
    /// What is awaited of it, or what it waits for.
    pub waits: Vec<String>,
    /// What follows by itself, the next first.
    pub deadlines: Vec<Deadline>,
    /// What it was last asked.
    pub asked: Option<Asked>,
    /// What failed on it last.
    pub failed: Option<HostFailed>,
    /// What to type.
    pub next: Vec<Next>,
}

/// What a host should run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Should {
    /// Which release; `None` where nothing is in force, or only an operator can say it.
    pub release: Option<ReleaseRef>,
    /// Why, as a sentence without its subject.
    pub why: String,
}

/// A host's part in a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Which.
    pub rollout: RolloutId,
    /// Its batch, from 1.
    pub batch: u32,
    /// Of how many.
    pub of: u32,
    /// Whether that rollout is over.
    pub ended: bool,
}

/// What a host was asked, and how it answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// What, such as `activate v1.5`.
    pub what: String,
    /// By which assignment.
    pub generation: Generation,
    /// When.
    pub at: Timestamp,
    /// For which rollout; outside of one, for that which brought the release.
    pub rollout: RolloutId,
    /// How it answered, as a sentence.
    pub answer: String,
}

/// What failed on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostFailed {
    /// Of which release.
    pub release: Option<ReleaseRef>,
    /// When it was known, where that is on record.
    pub at: Option<Timestamp>,
    /// Whether it still stands in the way of what the host should run.
    pub current: bool,
    /// What.
    pub failure: Failure,
}

/// What an account of a host is made of.
pub(super) struct Known<'a> {
    pub host: &'a Host,
    pub now: Timestamp,
    place: &'a PlaceRecord,
    /// The rollout that holds its place.
    pub holder: Option<&'a Rollout>,
    /// Its part in the rollout that holds its place, or in the last one, and that rollout.
    member: Option<(&'a Rollout, &'a Member)>,
}

impl Known<'_> {
    /// Its part in the rollout under way.
    fn takes_part(&self) -> Option<(&Rollout, &Member)> {
        self.member.filter(|(rollout, member)| !rollout.ended() && member.left_out.is_none())
    }

    /// The word by which it is left alone, how, and the command that ends that.
    fn word(&self) -> Option<(&Word, String, String)> {
        let id = &self.host.record.id;
        let excluded = || {
            let (rollout, member) = self.member?;
            let left_out = member.left_out.as_ref().filter(|_| member.is_excluded())?;
            Some((
                &left_out.word,
                format!("excluded from rollout {}", rollout.id),
                format!("ctl include {id}"),
            ))
        };
        let cordoned = self.host.record.cordon.as_ref();
        let cordoned = cordoned.map(|word| (word, "cordoned".to_owned(), format!("ctl hosts uncordon {id}")));
        let drained = self.host.record.drain.as_ref();
        let drained =
            drained.map(|drain| (&drain.word, "drained".to_owned(), format!("ctl hosts undrain {id}")));
        drained.or(cordoned).or_else(excluded)
    }

    /// The command that ends that it is left alone.
    pub fn freed_by(&self) -> Option<String> {
        self.word().map(|(_, _, command)| command)
    }

    /// Whether `ctl retry` would have it tried again.
    pub fn can_be_retried(&self) -> bool {
        if self.word().is_some() {
            return false;
        }
        match self.takes_part() {
            Some((rollout, member)) => match member.state {
                MemberState::Failed { .. } => {
                    !matches!(rollout.status.stage(), Some(Stage::RollingBack { .. }))
                }
                MemberState::ReturnFailed => true,
                _ => false,
            },
            None => self.holder.is_none() && !self.runs(self.place.in_force().map(|proven| &proven.release)),
        }
    }

    fn runs(&self, release: Option<&ReleaseRef>) -> bool {
        release.is_some_and(|release| self.host.proven_digest() == Some(release.digest))
    }
}

/// Gives the account of a host; `None` if it is not enrolled. `report` is that of the last run.
#[must_use]
pub fn host(state: &State, report: &PlanningReport, id: &HostId, now: Timestamp) -> Option<HostAccount> {
    let host = state.host(id)?;
    let place = state.place(&host.record.place)?;
    let part_in = |rollout: &RolloutId| {
        let member = state.members.get(rollout)?.get(id)?;
        Some((state.rollout(rollout)?, member))
    };
    let holder = place.holder.as_ref();
    let member = holder.and_then(part_in).or_else(|| place.last.as_ref().and_then(part_in));
    let holder = holder.and_then(|holder| state.rollout(holder));
    let known = Known { host, now, place, holder, member };
    let looked = rollout::awaited(state, report, &host.record.place, now);
    let failed = failed(&known);
    Some(HostAccount {
        should: should(&known),
        part: member.map(|(rollout, member)| Part {
            rollout: rollout.id.clone(),
            batch: member.batch,
            of: rollout.batches,
            ended: rollout.ended(),
        }),
        waits: waits(&looked.report.waits, &known),
        deadlines: looked.deadlines.into_iter().filter(|at| at.host.as_ref() == Some(id)).collect(),
        asked: host.issued.newest().map(|assignment| asked(host, assignment, now)),
        next: next::of_host(&known, failed.as_ref()),
        failed,
    })
}

/// What of all that is awaited concerns the host. Sentences about many hosts name only a few: one of them is told if
/// the host may be among the others, and nothing is said of it alone.
fn waits(all: &[Wait], known: &Known<'_>) -> Vec<String> {
    let id = &known.host.record.id;
    let that = |concern| all.iter().filter(move |wait| wait.concerns(id) == concern).map(ToString::to_string);
    let named: Vec<String> = that(Concern::Named).collect();
    let waits = match known.takes_part() {
        Some((_, member)) => matches!(member.state, MemberState::Staged | MemberState::ReturnDue),
        None => !known.runs(known.place.in_force().map(|proven| &proven.release)),
    };
    if named.is_empty() && waits { that(Concern::Perhaps).collect() } else { named }
}

fn should(known: &Known<'_>) -> Should {
    if let Some(left_alone) = left_alone(known) {
        return left_alone;
    }
    if let Some((rollout, member)) = known.takes_part() {
        return in_rollout(known, rollout, member);
    }
    let Some(in_force) = known.place.in_force() else {
        let why = match known.holder {
            Some(rollout) => {
                format!("nothing was in force here when rollout {} began, which is not for it", rollout.id)
            }
            None => "nothing is in force here yet".to_owned(),
        };
        return Should { release: None, why };
    };
    let release = Some(in_force.release.clone());
    let since = format!("in force since {}, by rollout {}", moment(in_force.at), in_force.rollout);
    let why = match (&known.place.convergence, known.holder) {
        _ if known.runs(release.as_ref()) => since,
        (_, Some(rollout)) => {
            format!("{since}; it is no part of rollout {}, and takes what is in force after it", rollout.id)
        }
        (Convergence::On, None) => since,
        (Convergence::Held { reason }, None) => {
            let why = format!("{reason}, so that only an operator can say what is to run");
            return Should { release: None, why };
        }
        (Convergence::Stopped { reason }, None) => format!("{since}; it is not sent there, since {reason}"),
    };
    Should { release, why }
}

/// By an operator's word it stays as it is: no release is meant for it until that is taken back.
fn left_alone(known: &Known<'_>) -> Option<Should> {
    let (Word { by, reason, since }, how, command) = known.word()?;
    let why = format!("as it is: {how} by {by} since {}: {reason}; `{command}` ends that", moment(*since));
    Some(Should { release: None, why })
}

fn in_rollout(known: &Known<'_>, rollout: &Rollout, member: &Member) -> Should {
    let (id, brings) = (&rollout.id, &rollout.release);
    let batch = format!("batch {} of {} of rollout {id}", member.batch, rollout.batches);
    let begun = match rollout.status.stage() {
        Some(Stage::Running { batch }) => *batch,
        Some(Stage::Canary { .. } | Stage::Switching) => 1,
        Some(Stage::Gated { at }) => at.next - 1,
        Some(Stage::Watching { .. }) if rollout.groups.is_some() => 1,
        Some(Stage::Watching { .. } | Stage::Contracting { .. }) => rollout.batches,
        _ => 0,
    };
    let there = |why: String| Should { release: Some(brings.clone()), why };
    if let Some(Stage::RollingBack { .. }) = rollout.status.stage() {
        let why = match member.state {
            MemberState::ReturnFailed => format!("rollout {id} goes back, and that failed on it"),
            MemberState::Returned { .. } => format!("rollout {id} goes back, and it is there"),
            _ if member.touched => format!("rollout {id} goes back"),
            _ => format!("rollout {id} goes back, and had not come to it"),
        };
        return Should { release: rollout.previous.clone(), why };
    }
    match &member.state {
        MemberState::Failed { left } => {
            let left = match left {
                Left::Untouched if member.touched => "it runs what it has taken before that",
                Left::Untouched => "nothing that runs was touched",
                Left::Barred => {
                    "it cannot come to it from what it runs; once there is a way, `ctl retry` tries again"
                }
                Left::Reverted => "it went back by itself",
                Left::Held => "the failed release is in place",
                Left::Unknown => "nobody knows what it was left with",
            };
            there(format!("{batch}, which failed on it: {left}"))
        }
        MemberState::Committed { .. } => there(format!("{batch}, which it has taken")),
        MemberState::Granted { .. } => there(format!("{batch}, for which it was let go")),
        _ if member.batch <= begun => there(format!("{batch}, which has begun")),
        _ => {
            let until = format!("until {batch} begins, which brings {}", brings.name);
            let in_force = known.place.in_force();
            let release = in_force.map(|proven| proven.release.clone());
            Should { release, why: until }
        }
    }
}

fn asked(host: &Host, assignment: &Assignment, now: Timestamp) -> Asked {
    let release = &assignment.release.name;
    let what = match &assignment.order {
        Order::Stage => format!("stage {release}"),
        Order::Migrate { direction: Direction::Up, .. } => format!("run the migration of {release}"),
        Order::Migrate { direction: Direction::Down, .. } => format!("take the migration of {release} back"),
        Order::Migrate { direction: Direction::Contract, .. } => format!("run the contract of {release}"),
        Order::Activate { .. } => format!("activate {release}"),
        Order::Drain { away: true } => "lead its requests away".to_owned(),
        Order::Drain { away: false } => "lead its requests back once it is healthy".to_owned(),
        Order::Restart { kind, services, .. } => {
            let names: Vec<&str> = services.iter().map(|service| service.as_str()).collect();
            format!("{} {} of {release}", kind.as_str(), names.join(", "))
        }
    };
    let answer = match host.standing(assignment, now) {
        Standing::Open if host.fresh(now).is_none() => {
            "it has not answered, and cannot be heard of".to_owned()
        }
        Standing::Open => {
            format!("it has not answered; it may take it until {}", moment(assignment.expires_at))
        }
        Standing::Accepted => "it has taken it, and has not said how it ended".to_owned(),
        Standing::Ended(OutcomeKind::Committed) if matches!(assignment.order, Order::Drain { .. }) => {
            "it does".to_owned()
        }
        Standing::Ended(outcome) => format!("{release} {}", log::told(outcome)),
        Standing::Lapsed => "it did not take it while it could".to_owned(),
        Standing::Overtaken => "it has taken something newer".to_owned(),
    };
    Asked {
        what,
        generation: assignment.generation,
        at: assignment.issued_at,
        rollout: assignment.rollout.clone(),
        answer,
    }
}

/// The last failure: of what it answered last, or else of its part in the last rollout.
fn failed(known: &Known<'_>) -> Option<HostFailed> {
    let host = known.host;
    let current = |release: &ReleaseRef| !known.runs(Some(release));
    let assignment = host.issued.assignment.as_ref();
    if let Some(assignment) = assignment
        && let Standing::Ended(outcome) = host.standing(assignment, known.now)
        && let Some(failure) = failure_of(outcome)
    {
        return Some(HostFailed {
            release: Some(assignment.release.clone()),
            at: None,
            current: current(&assignment.release),
            failure: failure.clone(),
        });
    }
    let (rollout, member) = known.member?;
    let failure = member.newest_failure()?.clone();
    let release = match (&member.return_failure, &rollout.previous) {
        (Some(_), Some(previous)) => previous,
        _ => &rollout.release,
    };
    let failed = matches!(member.state, MemberState::Failed { .. } | MemberState::ReturnFailed);
    Some(HostFailed {
        release: Some(release.clone()),
        at: failed.then_some(member.since),
        current: failed && current(release),
        failure,
    })
}

fn failure_of(outcome: &OutcomeKind) -> Option<&Failure> {
    match outcome {
        OutcomeKind::UndoFailed { undo: failure, .. }
        | OutcomeKind::StageFailed { failure }
        | OutcomeKind::MigrationFailed { failure }
        | OutcomeKind::MigrationUnknown { failure }
        | OutcomeKind::Reverted { failure }
        | OutcomeKind::Held { failure }
        | OutcomeKind::Refused { failure } => Some(failure),
        OutcomeKind::Staged | OutcomeKind::Migrated | OutcomeKind::Committed => None,
    }
}
