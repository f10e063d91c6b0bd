//! Commands that begin a rollout.

use landfall_common::{ReleaseName, RolloutId};

use crate::approval;
use crate::begin::{self, Beginning};
use crate::command::{Answer, IfHeld, RollRequest};
use crate::course::{self, Course};
use crate::entry;
use crate::evidence;
use crate::line::{self, Hindrance};
use crate::log::{CommitLine, LogEvent};
use crate::output::Effect;
use crate::preview::{self, Plan};
use crate::proof;
use crate::reason::InLine;
use crate::record::{Place, PlaceRecord, Record};
use crate::refusal::Refusal;
use crate::restart::RestartRequest;
use crate::rollout::{End, Rollout, RolloutKind, Stage, Status};
use crate::timing::LINE_AT_MOST;
use crate::turn;

use super::Draft;

impl Draft<'_> {
    pub(super) fn roll(&mut self, request: &RollRequest) -> Result<Answer, Refusal> {
        let plan = preview::preview(self.state, request, self.now)?;
        let place = self.place_record(&request.place);
        let hindrance = line::hindrance(self.state, &place, None, (&plan.release, request), self.now);
        if let Some(lacking) = evidence::hopeless(self.state, &place, &plan.release, request) {
            return Err(Refusal::Unevidenced(Box::new(lacking)));
        }
        if let (Some(hindrance), IfHeld::Refuse) = (&hindrance, request.if_held) {
            return Err(hindrance.refusal(&place));
        }
        if request.plan.is_some_and(|seen| seen != plan.id) {
            return Err(Refusal::PlanChanged { release: request.release.clone() });
        }
        preview::way_back_is_known(&plan, request)?;
        self.say_if_outside(&place, &plan, request);
        self.say_if_unproven(&place, &plan, request);
        self.say_if_without_evidence(&place, &plan, request);
        match (hindrance, request.if_held) {
            (None, _) => self.begin_or_wait(place, plan, request),
            (Some(hindrance), IfHeld::Refuse | IfHeld::Queue) => {
                let why = hindrance.why().to_string();
                self.stand_in_line(place.clone(), plan, request, &why)
            }
            (Some(_), IfHeld::Supersede) => self.supersede(place.clone(), plan, request),
        }
    }

    pub(super) fn roll_back(
        &mut self,
        place: &Place,
        to: Option<&ReleaseName>,
        reason: &str,
    ) -> Result<Answer, Refusal> {
        let plan = match course::of(self.state, place, to, reason, self.now)? {
            Course::Begins(plan) => *plan,
            Course::Turns { rollout, .. } | Course::GoesBack(rollout) => {
                return self.turn_back(&rollout.id.clone(), reason);
            }
        };
        let record = self.place_record(place);
        self.log(LogEvent::RollbackRequested {
            rollout: self.command.fresh.clone(),
            application: place.application.clone(),
            environment: place.environment.clone(),
            to: plan.release.clone(),
            reason: reason.to_owned(),
        });
        self.keep_waiting(&record, Some(&plan.release.name));
        self.begin(record, plan, Vec::new())
    }

    /// Takes the canary to another release and back again.
    pub(super) fn drill(&mut self, place: &Place, to: Option<&ReleaseName>) -> Result<Answer, Refusal> {
        let plan = preview::preview_drill(self.state, place, to, self.now)?;
        let record = self.place_record(place);
        let Place { application, environment } = place.clone();
        // A freeze holds it as well: it changes a host that serves.
        let mut request = RollRequest::new(application, environment, plan.release.name.clone());
        // What was proven here is drilled as it is gone back to: without asking another place.
        if record.has_proven(&plan.release) {
            request.unproven = "it was proven here".to_owned();
            request.without_evidence.clone_from(&request.unproven);
        }
        let wanted = (&plan.release, &request);
        if let Some(hindrance) = line::hindrance(self.state, &record, None, wanted, self.now) {
            return Err(hindrance.no_drill(&record));
        }
        self.log(LogEvent::DrillRequested {
            rollout: self.command.fresh.clone(),
            application: place.application.clone(),
            environment: place.environment.clone(),
            release: plan.release.clone(),
        });
        self.begin(record, plan, Vec::new())
    }

    /// Restarts or reloads services of what is in force.
    pub(super) fn restart(&mut self, request: &RestartRequest) -> Result<Answer, Refusal> {
        let plan = preview::preview_restart(self.state, request, self.now)?;
        let place = self.place_record(&request.place);
        let Place { application, environment } = request.place.clone();
        // A freeze holds it as well: it changes hosts that serve. What it runs is in force already, whatever is said of it
        // since.
        let in_force = "it is in force here".to_owned();
        let wanted = RollRequest {
            outside_window: request.outside_window.clone(),
            unproven: in_force.clone(),
            without_evidence: in_force,
            ..RollRequest::new(application.clone(), environment.clone(), plan.release.name.clone())
        };
        let hindrance = line::hindrance(self.state, &place, None, (&plan.release, &wanted), self.now);
        if let Some(hindrance) = hindrance {
            return Err(hindrance.refusal(&place));
        }
        self.log(LogEvent::RestartRequested {
            rollout: self.command.fresh.clone(),
            application,
            environment,
            release: plan.release.clone(),
            verb: request.kind,
            services: request.services.iter().cloned().collect(),
            reason: request.reason.clone(),
        });
        self.say_if_outside(&place, &plan, &wanted);
        self.begin(place, plan, Vec::new())
    }

    /// Whoever passes a window or a freeze by has it in the log, whether it is closed now or when the turn comes.
    fn say_if_outside(&mut self, place: &PlaceRecord, plan: &Plan, request: &RollRequest) {
        if request.outside_window.is_empty() {
            return;
        }
        let closed = entry::closed(self.state, place, &plan.release, self.now);
        self.log(LogEvent::WindowOverridden {
            rollout: self.command.fresh.clone(),
            release: plan.release.clone(),
            closed: closed.map(|closed| closed.why).unwrap_or_default(),
            reason: request.outside_window.clone(),
        });
    }

    /// And whoever does without a proof.
    fn say_if_unproven(&mut self, place: &PlaceRecord, plan: &Plan, request: &RollRequest) {
        if request.unproven.is_empty() {
            return;
        }
        self.log(LogEvent::ProofOverridden {
            rollout: self.command.fresh.clone(),
            release: plan.release.clone(),
            lacking: proof::lacking(self.state, place, &plan.release).map(|lacks| lacks.there.environment),
            reason: request.unproven.clone(),
        });
    }

    /// And whoever does without evidence.
    fn say_if_without_evidence(&mut self, place: &PlaceRecord, plan: &Plan, request: &RollRequest) {
        if request.without_evidence.is_empty() {
            return;
        }
        let lacking = evidence::lacking(self.state, place, &plan.release);
        self.log(LogEvent::EvidenceOverridden {
            rollout: self.command.fresh.clone(),
            release: plan.release.clone(),
            lacking: lacking.map(|lacking| lacking.to_string()).unwrap_or_default(),
            reason: request.without_evidence.clone(),
        });
    }

    fn place_record(&self, place: &Place) -> PlaceRecord {
        // Hosts are enrolled here, or there is no plan.
        self.state.place(place).cloned().unwrap_or_else(|| PlaceRecord::new(place.clone()))
    }

    /// What stood in line when somebody decided to go back would undo that: it waits for another word.
    pub(super) fn keep_waiting(&mut self, place: &PlaceRecord, to: Option<&ReleaseName>) {
        let back = to.map_or(String::new(), |to| format!(" to {to}"));
        for id in &place.line {
            let Some(waiting) = self.state.rollout(id) else { continue };
            let Status::Active { stage } = waiting.status.clone() else { continue };
            let reason = format!(
                "it stood in line when going back{back} was asked for; `ctl resume {id}` lets it begin, `ctl abort \
                 {id}` ends it"
            );
            self.log(LogEvent::RolloutPaused { rollout: id.clone(), reason: reason.clone() });
            let status = Status::Paused { stage, reason, by: self.command.by.clone() };
            self.put(Record::Rollout(Box::new(Rollout { status, since: self.now, ..waiting.clone() })));
        }
    }

    fn stand_in_line(
        &mut self,
        mut place: PlaceRecord,
        plan: Plan,
        request: &RollRequest,
        why: &str,
    ) -> Result<Answer, Refusal> {
        let id = self.fresh()?;
        if place.line.len() >= LINE_AT_MOST {
            return Err(Refusal::LineFull { place: place.place });
        }
        let known = line::known(self.state, &place, &plan.release);
        place.line.push(id.clone());
        self.log(LogEvent::RolloutQueued {
            rollout: id.clone(),
            application: plan.place.application.clone(),
            environment: plan.place.environment.clone(),
            release: plan.release.clone(),
            reason: format!("it {why}"),
        });
        self.put(Record::Place(Box::new(place)));
        self.put(Record::Rollout(Box::new(Rollout {
            id: id.clone(),
            place: plan.place,
            kind: plan.kind,
            release: plan.release,
            previous: plan.previous,
            strategy: plan.strategy,
            by: self.command.by.clone(),
            requested_at: self.now,
            turn_came_at: None,
            resumed_at: None,
            approvals: Vec::new(),
            groups: None,
            batches: 0,
            schema: plan.schema,
            contract: None,
            status: Status::Active { stage: Stage::InLine { request: Box::new(request.clone()), known } },
            since: self.now,
            there: None,
            left_out: String::new(),
            restart: None,
        })));
        Ok(Answer::Rollout { id })
    }

    /// Ends what is under way and in line, and begins in its stead. A rollout that goes back, or brings back, is
    /// somebody's remedy, and one with a migration that may run leaves a database that nobody knows.
    fn supersede(
        &mut self,
        mut place: PlaceRecord,
        plan: Plan,
        request: &RollRequest,
    ) -> Result<Answer, Refusal> {
        if let Some(lock) = self.state.lock(&place, self.now) {
            return Err(Hindrance::Locked(lock).refusal(&place));
        }
        if let Some(barred) = line::barred(self.state, &place, (&plan.release, request), self.now) {
            return Err(barred.refusal(&place));
        }
        let by = self.fresh()?;
        let holder = place.holder.as_ref().and_then(|holder| self.state.rollout(holder)).cloned();
        if let Some(mut holder) = holder {
            let not = |reason| Refusal::NotSuperseded {
                rollout: holder.id.clone(),
                release: holder.release.name.clone(),
                reason,
            };
            if holder.kind == RolloutKind::Rollback {
                return Err(not("it is a way back that somebody asked for"));
            }
            if matches!(holder.status.stage(), Some(Stage::RollingBack { .. })) {
                return Err(not("it is on its way back"));
            }
            course::no_open_migration(self.state, &holder, self.now)?;
            if approval::needed(self.state, &place, &plan.release) > 0 {
                return Err(not("it is not ended for one that others have to approve first"));
            }
            let touched = self.state.members(&holder.id).any(|member| member.touched);
            let fleet = holder.left_half_way(touched);
            let end = End::Superseded { by: by.clone() };
            let id = holder.id.clone();
            let members = self.state.members(&id);
            let event = turn::end(&mut holder, &mut place, end.clone(), fleet, members, self.now);
            self.log(event);
            self.put(Record::Rollout(Box::new(holder)));
            self.output.effects.push(Effect::Ended { rollout: id, end });
        }
        for id in place.line.clone() {
            let Some(mut waiting) = self.state.rollout(&id).cloned() else { continue };
            let end = End::Superseded { by: by.clone() };
            let event = turn::leave_line(&mut waiting, &mut place, end.clone(), self.now);
            self.log(event);
            self.put(Record::Rollout(Box::new(waiting)));
            self.output.effects.push(Effect::Ended { rollout: id, end });
        }
        self.begin_or_wait(place, plan, request)
    }

    /// Begins in a place that is free, or waits there for approvals: nobody else holds it.
    fn begin_or_wait(
        &mut self,
        place: PlaceRecord,
        plan: Plan,
        request: &RollRequest,
    ) -> Result<Answer, Refusal> {
        match approval::needed(self.state, &place, &plan.release) {
            0 => self.begin(place, plan, request.commits.clone()),
            needed => {
                let why = InLine::Unapproved {
                    rollout: self.fresh()?,
                    needed,
                    asked_by: self.command.by.to_string(),
                    approved_by: Vec::new(),
                };
                self.stand_in_line(place, plan, request, &why.to_string())
            }
        }
    }

    fn fresh(&self) -> Result<RolloutId, Refusal> {
        let id = self.command.fresh.clone();
        if self.state.rollouts.contains_key(&id) {
            return Err(Refusal::RolloutExists { rollout: id });
        }
        Ok(id)
    }

    fn begin(&mut self, place: PlaceRecord, plan: Plan, commits: Vec<CommitLine>) -> Result<Answer, Refusal> {
        let id = self.fresh()?;
        let (by, requested_at) = (self.command.by.clone(), self.now);
        let approvals = Vec::new();
        let beginning = Beginning { id: id.clone(), by, requested_at, approvals, commits };
        let (changes, event) = begin::begin(self.state, place, plan, beginning, self.now);
        self.output.changes.extend(changes);
        self.log(event);
        Ok(Answer::Rollout { id })
    }
}
