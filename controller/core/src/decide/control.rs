//! Commands that act on a rollout under way.

use landfall_common::assignment::Order;
use landfall_common::report::OutcomeKind;
use landfall_common::{Generation, RolloutId};

use crate::analysis::Verdict;
use crate::command::Answer;
use crate::course::{self, Course};
use crate::gate::{self, AtGates};
use crate::line;
use crate::log::{Actor, LogEvent, MigrationVerdict};
use crate::member::{Left, Member, MemberState};
use crate::observation::{Host, Standing};
use crate::record::{Convergence, Issued, Place, PlaceRecord, Record};
use crate::refusal::Refusal;
use crate::rollout::{Back, End, MigrationRun, Promotion, Rollout, Stage, Status};
use crate::turn::{self, Fleet};

use super::Draft;

impl Draft<'_> {
    pub(super) fn pause(&mut self, id: &RolloutId, reason: &str) -> Result<Answer, Refusal> {
        let mut rollout = self.unfinished(id)?.clone();
        if let Status::Active { stage } = rollout.status {
            let (reason, by) = (reason.to_owned(), self.command.by.clone());
            self.log(LogEvent::RolloutPaused { rollout: id.clone(), reason: reason.clone() });
            rollout.status = Status::Paused { stage, reason, by };
            rollout.since = self.now;
            self.put(Record::Rollout(Box::new(rollout)));
        }
        Ok(Answer::Rollout { id: id.clone() })
    }

    pub(super) fn resume(&mut self, id: &RolloutId, reason: &str) -> Result<Answer, Refusal> {
        let mut rollout = self.unfinished(id)?.clone();
        if let Status::Paused { mut stage, .. } = rollout.status.clone() {
            self.log(LogEvent::RolloutResumed { rollout: id.clone(), reason: reason.to_owned() });
            if let Stage::InLine { known, .. } = &mut stage {
                *known = line::known(self.state, &self.place_of(&rollout), &rollout.release);
            }
            rollout.goes_on(stage, self.now);
            self.put(Record::Rollout(Box::new(rollout)));
        }
        Ok(Answer::Rollout { id: id.clone() })
    }

    pub(super) fn promote(&mut self, id: &RolloutId, reason: &str) -> Result<Answer, Refusal> {
        let mut rollout = self.unfinished(id)?.clone();
        let answer = Answer::Rollout { id: id.clone() };
        let compared = rollout.compares().is_some();
        let comparison = self.state.comparison(id).filter(|_| compared);
        let failed = comparison.is_some_and(|comparison| comparison.verdict() == Verdict::Fail);
        match rollout.status.stage() {
            Some(Stage::Watching { accepted, at }) => {
                let (accepted, at) = (*accepted, at.clone());
                return self.end_watch(rollout, accepted, at, reason);
            }
            Some(Stage::Gated { at }) => {
                let at = at.clone();
                return self.overrule_gates(rollout, at, reason);
            }
            Some(Stage::Canary { promotion: Promotion::Awaited }) => {}
            Some(Stage::Canary { promotion: Promotion::Given }) if failed => {}
            Some(Stage::Canary { promotion: Promotion::Given | Promotion::Overruled }) => return Ok(answer),
            Some(Stage::Canary { promotion: Promotion::ByItself }) if compared => {}
            Some(Stage::Canary { promotion: Promotion::ByItself }) => {
                return Err(wrong(
                    &rollout,
                    "it goes on by itself once its canary has been healthy for long enough",
                ));
            }
            Some(Stage::Staging | Stage::Migrating { .. } | Stage::Running { batch: 1 })
                if rollout.has_canary() && !rollout.strategy.auto_promote =>
            {
                return Err(wrong(&rollout, "its canary is not proven yet"));
            }
            Some(Stage::Switching) => {
                return Err(wrong(&rollout, "it was promoted, and requests change over"));
            }
            _ => return Err(wrong(&rollout, "it does not wait to be promoted")),
        }
        let overruled = match comparison {
            _ if !compared => String::new(),
            None => "no figures of the canary were compared".to_owned(),
            Some(comparison) if comparison.verdict() == Verdict::Pass => String::new(),
            Some(comparison) => comparison.report().to_string(),
        };
        let why = reason.to_owned();
        self.log(LogEvent::RolloutPromoted { rollout: id.clone(), batch: 2, overruled, reason: why });
        let promotion = if failed { Promotion::Overruled } else { Promotion::Given };
        let is_canary = |member: &Member| member.batch == 1 && member.left_out.is_none();
        let stage = if self.state.members(id).any(is_canary) {
            Stage::Canary { promotion }
        } else {
            // Nobody is left in it: the others follow by this word alone, and by that of their gates.
            Stage::Gated { at: AtGates { without_canary: true, ..AtGates::before(2) } }
        };
        // What the analysis has paused waits for this word, and for no other.
        if compared && matches!(rollout.status, Status::Paused { by: Actor::Controller, .. }) {
            self.log(LogEvent::RolloutResumed { rollout: id.clone(), reason: reason.to_owned() });
            rollout.goes_on(stage.clone(), self.now);
        }
        rollout.enter(stage, self.now);
        self.put(Record::Rollout(Box::new(rollout)));
        Ok(answer)
    }

    pub(super) fn abort(&mut self, id: &RolloutId, go_back: bool, reason: &str) -> Result<Answer, Refusal> {
        if self.unfinished(id)?.in_line().is_some() {
            return self.leave_line(id, reason);
        }
        if go_back {
            return self.turn_back(id, reason);
        }
        let mut rollout = self.unfinished(id)?.clone();
        course::no_open_migration(self.state, &rollout, self.now)?;
        let mut place = self.place_of(&rollout);
        let touched = self.state.members(id).any(|member| member.touched);
        let fleet = match rollout.status.stage() {
            // It came into force: only its contract is left undone.
            Some(Stage::Contracting { .. }) => Fleet::TookIt,
            _ => rollout.left_half_way(touched),
        };
        self.log(LogEvent::RolloutAborted { rollout: id.clone(), reason: reason.to_owned() });
        let end = End::Aborted { by: self.command.by.clone(), reason: reason.to_owned() };
        let members = self.state.members(id);
        let event = turn::end(&mut rollout, &mut place, end.clone(), fleet, members, self.now);
        self.log(event);
        self.put(Record::Rollout(Box::new(rollout)));
        self.put(Record::Place(Box::new(place)));
        self.output.effects.push(crate::output::Effect::Ended { rollout: id.clone(), end });
        Ok(Answer::Rollout { id: id.clone() })
    }

    /// Ends one that has not begun.
    pub(super) fn leave_line(&mut self, id: &RolloutId, reason: &str) -> Result<Answer, Refusal> {
        let mut rollout = self.unfinished(id)?.clone();
        let mut place = self.place_of(&rollout);
        self.log(LogEvent::RolloutAborted { rollout: id.clone(), reason: reason.to_owned() });
        let end = End::Aborted { by: self.command.by.clone(), reason: reason.to_owned() };
        let event = turn::leave_line(&mut rollout, &mut place, end.clone(), self.now);
        self.log(event);
        self.put(Record::Rollout(Box::new(rollout)));
        self.put(Record::Place(Box::new(place)));
        self.output.effects.push(crate::output::Effect::Ended { rollout: id.clone(), end });
        Ok(Answer::Rollout { id: id.clone() })
    }

    /// Makes a rollout go back. One that does already is left alone, and goes on if it was paused.
    pub(super) fn turn_back(&mut self, id: &RolloutId, reason: &str) -> Result<Answer, Refusal> {
        let mut rollout = self.unfinished(id)?.clone();
        let place = self.place_of(&rollout);
        let reason = format!("{} asked for it{}{reason}", self.command.by, sep(reason));
        let stage = match course::of_rollout(self.state, &rollout, &place, &reason, self.now)? {
            Course::Turns { stage, .. } => *stage,
            Course::GoesBack(_) | Course::Begins(_) => {
                self.keep_waiting(&place, rollout.previous.as_ref().map(|previous| &previous.name));
                return self.resume(id, &reason);
            }
        };
        if let Some(to) = rollout.previous.clone() {
            self.log(LogEvent::RollbackStarted { rollout: id.clone(), to, reason });
        }
        self.keep_waiting(&place, rollout.previous.as_ref().map(|previous| &previous.name));
        rollout.status = Status::Active { stage };
        rollout.since = self.now;
        self.put(Record::Rollout(Box::new(rollout)));
        Ok(Answer::Rollout { id: id.clone() })
    }

    pub(super) fn resolve(
        &mut self,
        id: &RolloutId,
        verdict: MigrationVerdict,
        reason: &str,
    ) -> Result<Answer, Refusal> {
        let mut rollout = self.unfinished(id)?.clone();
        let mut place = self.place_of(&rollout);
        let stage = rollout.status.stage().cloned();
        let contract = place.contract_of(&rollout.release).filter(|contracted| !contracted.known).cloned();
        if let (Some(contracted), Some(stage)) = (contract, &stage)
            && stage.migration().and_then(MigrationRun::in_doubt).is_none()
            && stage.open_lease().is_none()
        {
            match verdict {
                MigrationVerdict::Applied => {
                    turn::contracted(&mut rollout, &mut place, contracted.fence, self.now);
                }
                MigrationVerdict::NotApplied => place.contract_undone(&rollout.release),
            }
            self.log(LogEvent::MigrationResolved { rollout: id.clone(), verdict, reason: reason.to_owned() });
            self.put(Record::Rollout(Box::new(rollout)));
            self.put(Record::Place(Box::new(place)));
            return Ok(Answer::Rollout { id: id.clone() });
        }
        if stage.as_ref().and_then(Stage::migration).and_then(MigrationRun::in_doubt).is_none() {
            return Err(wrong(&rollout, "the outcome of no migration is unknown"));
        }
        let mut began = None;
        match (verdict, stage) {
            (MigrationVerdict::Applied, stage) => {
                // What came after the backup nobody knows: neither whether the gates were asked at all.
                let restored = stage.as_ref().and_then(Stage::migration).and_then(MigrationRun::in_doubt);
                let is_restored = restored.is_some_and(|lease| lease.generation == Generation::default());
                let asks = matches!(stage, Some(Stage::Migrating { .. })) && is_restored;
                began = turn::migrated(&mut rollout, &mut place, self.now);
                if asks && !gate::held(self.state, &rollout, 1).is_empty() {
                    rollout.enter(Stage::Gated { at: AtGates::before(1) }, self.now);
                    began = None;
                }
            }
            (MigrationVerdict::NotApplied, Some(stage)) => {
                // Somebody has looked: handing it out again is no second run.
                let run = MigrationRun::anew();
                let next = match stage {
                    Stage::RollingBack { reason, back: Back::Schema { migration, .. } } => {
                        Stage::RollingBack { reason, back: Back::Schema { migration, run } }
                    }
                    Stage::Contracting { .. } => {
                        place.contract_undone(&rollout.release);
                        Stage::Contracting { run }
                    }
                    // What was to be asked before it is asked once more: it may be handed out to another host.
                    Stage::Migrating { .. } if !gate::held(self.state, &rollout, 1).is_empty() => {
                        Stage::Gated { at: AtGates::before(1) }
                    }
                    _ => Stage::Migrating { run },
                };
                rollout.enter(next, self.now);
            }
            (MigrationVerdict::NotApplied, None) => {}
        }
        self.log(LogEvent::MigrationResolved { rollout: id.clone(), verdict, reason: reason.to_owned() });
        began.into_iter().for_each(|event| self.log(event));
        self.put(Record::Rollout(Box::new(rollout)));
        self.put(Record::Place(Box::new(place)));
        Ok(Answer::Rollout { id: id.clone() })
    }

    pub(super) fn retry_failed(
        &mut self,
        place: &Place,
        meant: Option<&RolloutId>,
        reason: &str,
    ) -> Result<Answer, Refusal> {
        let nothing = || Refusal::NothingFailed { place: place.clone() };
        let record = self.state.place(place).ok_or_else(nothing)?;
        if let (Some(meant), Some(holder)) = (meant, &record.holder)
            && meant != holder
        {
            return Err(Refusal::RetryAnother { rollout: meant.clone(), holder: holder.clone() });
        }
        let rollout = record.holder.as_ref().or(record.last.as_ref()).and_then(|id| self.state.rollout(id));
        let members = rollout.into_iter().flat_map(|rollout| self.state.members(&rollout.id));
        let going_back = rollout.is_some_and(|r| matches!(r.status.stage(), Some(Stage::RollingBack { .. })));
        // After the end hosts are brought to what is in force, and to nothing else.
        let ended = rollout.filter(|rollout| rollout.ended());
        let in_force = record.in_force().map(|proven| proven.release.digest);
        let members = members.filter(|member| member.left_out.is_none());
        let members = members.filter(|member| match (ended, &member.state) {
            (None, _) => true,
            (Some(ended), MemberState::ReturnFailed) => {
                ended.previous.as_ref().map(|previous| previous.digest) == in_force
            }
            // What failed to restart runs what is in force: that is asked for anew.
            (Some(ended), _) => Some(ended.release.digest) == in_force && !ended.is_restart(),
        });
        let retried: Vec<Member> = members.filter_map(|m| self.retried(m, going_back)).collect();
        let mut hosts: Vec<_> = retried.iter().map(|member| member.host.clone()).collect();
        for member in retried {
            self.put(Record::Member(Box::new(member)));
        }
        let stopped = matches!(record.convergence, Convergence::Stopped { .. });
        if record.holder.is_none() {
            // Outside of a rollout a failure stands in what the host answered to its last assignment.
            let failed = self.state.hosts(place).filter(|host| converging_failed(host, self.now));
            let failed = failed.filter(|host| !self.state.is_left_alone(host));
            let failed: Vec<_> = failed.map(|host| host.issued.clone()).collect();
            for issued in failed {
                if !hosts.contains(&issued.host) {
                    hosts.push(issued.host.clone());
                }
                self.put(Record::Issued(Box::new(Issued {
                    assignment: None,
                    came_to: None,
                    tries: 0,
                    ..issued
                })));
            }
            if stopped {
                let on = PlaceRecord { convergence: Convergence::On, ..record.clone() };
                self.put(Record::Place(Box::new(on)));
            }
        }
        // What has failed may be the contract, and none of the hosts.
        let contract = rollout.is_some_and(|rollout| {
            let contracting = matches!(
                rollout.status.stage(),
                Some(Stage::Contracting { run: MigrationRun::Electing { .. } })
            );
            contracting && matches!(rollout.status, Status::Paused { .. })
        });
        if hosts.is_empty() && !contract && !(stopped && record.holder.is_none()) {
            let over = ended.filter(|ended| Some(ended.release.digest) != in_force);
            return Err(over.map_or_else(nothing, |over| Refusal::RetryEnded {
                place: Box::new(place.clone()),
                rollout: over.id.clone(),
                release: over.release.name.clone(),
            }));
        }
        self.log(LogEvent::HostsRetried {
            application: place.application.clone(),
            environment: place.environment.clone(),
            hosts,
            reason: reason.to_owned(),
        });
        let Some(rollout) = rollout.filter(|rollout| !rollout.ended()) else { return Ok(Answer::Accepted) };
        let mut rollout = rollout.clone();
        if let Status::Paused { stage, .. } = rollout.status.clone() {
            self.log(LogEvent::RolloutResumed { rollout: rollout.id.clone(), reason: reason.to_owned() });
            rollout.goes_on(stage, self.now);
        }
        rollout.since = self.now;
        let id = rollout.id.clone();
        self.put(Record::Rollout(Box::new(rollout)));
        Ok(Answer::Rollout { id })
    }

    pub(super) fn retried(&self, member: &Member, going_back: bool) -> Option<Member> {
        let state = match member.state {
            MemberState::Failed { .. } if going_back => return None,
            MemberState::Failed { left: Left::Untouched | Left::Barred } => MemberState::Pending,
            MemberState::Failed { .. } => MemberState::Staged,
            MemberState::ReturnFailed => MemberState::ReturnDue,
            _ => return None,
        };
        // What began the way back stays told while it is tried again.
        let failure = if state == MemberState::ReturnDue { member.failure.clone() } else { None };
        let since = self.now;
        let failed_at = member.failed_at.clone().filter(|_| failure.is_some());
        Some(Member { state, since, unheeded: 0, failure, failed_at, return_failure: None, ..member.clone() })
    }

    pub(super) fn unfinished(&self, id: &RolloutId) -> Result<&Rollout, Refusal> {
        let no_such_rollout = || Refusal::NoSuchRollout { rollout: id.clone() };
        let rollout = self.state.rollout(id).ok_or_else(no_such_rollout)?;
        if rollout.ended() { Err(ended(rollout)) } else { Ok(rollout) }
    }

    pub(super) fn place_of(&self, rollout: &Rollout) -> PlaceRecord {
        let known = self.state.place(&rollout.place).cloned();
        known.unwrap_or_else(|| PlaceRecord::new(rollout.place.clone()))
    }
}

pub(super) fn ended(rollout: &Rollout) -> Refusal {
    Refusal::Ended { rollout: rollout.id.clone(), status: rollout.status.word() }
}

pub(super) fn wrong(rollout: &Rollout, reason: &'static str) -> Refusal {
    Refusal::WrongStatus { rollout: rollout.id.clone(), status: rollout.status.word(), reason }
}

fn sep(reason: &str) -> &'static str {
    if reason.is_empty() { "" } else { ": " }
}

/// Whether what a host was last asked to activate came to nothing.
pub(crate) fn converging_failed(host: &Host, now: landfall_common::Timestamp) -> bool {
    let Some(assignment) = &host.issued.assignment else { return false };
    let runs_it = host.proven_digest() == Some(assignment.release.digest);
    matches!(assignment.order, Order::Activate { .. })
        && match host.standing(assignment, now) {
            Standing::Ended(OutcomeKind::Committed) | Standing::Lapsed => !runs_it,
            Standing::Ended(_) => true,
            Standing::Open | Standing::Accepted | Standing::Overtaken => false,
        }
}
