//! Commands that begin a rollout.

use landfall_common::{ReleaseName, RolloutId};

use crate::command::{Answer, RollRequest};
use crate::log::{CommitLine, LogEvent};
use crate::member::{Member, MemberState};
use crate::preview::{self, Plan};
use crate::record::{Key, Place, PlaceRecord, Record, WayBackKind};
use crate::refusal::Refusal;
use crate::rollout::{Rollout, Schema, Stage, Status};
use crate::timing::{FORGOTTEN_AT_ONCE, REQUEST_KEPT, ROLLOUTS_KEPT};

use super::Draft;

impl Draft<'_> {
    pub(super) fn roll(&mut self, request: &RollRequest) -> Result<Answer, Refusal> {
        let plan = preview::preview(self.state, request, self.now)?;
        self.place_is_free(&request.place)?;
        if request.plan.is_some_and(|seen| seen != plan.id) {
            return Err(Refusal::PlanChanged { release: request.release.clone() });
        }
        if let Some(reason) = preview::needs_no_way_back(&plan)
            && !request.no_way_back
        {
            let reason = reason.to_owned();
            let undeclared = matches!(
                &plan.schema,
                Schema::Due { migration } if migration.facts.way_back == WayBackKind::None
            );
            return Err(Refusal::NoWayBack { release: request.release.clone(), reason, undeclared });
        }
        self.begin(plan, request.commits.clone())
    }

    pub(super) fn roll_back(
        &mut self,
        place: &Place,
        to: Option<&ReleaseName>,
        reason: &str,
    ) -> Result<Answer, Refusal> {
        let holder = self.state.place(place).and_then(|record| self.state.rollout(record.holder.as_ref()?));
        if let Some(holder) = holder {
            let previous = holder.previous.as_ref().map(|previous| &previous.name);
            if to.is_some() && to != previous {
                return Err(self.held_by(holder));
            }
            return self.turn_back(&holder.id.clone(), reason);
        }
        let plan = preview::preview_rollback(self.state, place, to, self.now)?;
        self.log(LogEvent::RollbackRequested {
            rollout: self.command.fresh.clone(),
            application: place.application.clone(),
            environment: place.environment.clone(),
            to: plan.release.clone(),
            reason: reason.to_owned(),
        });
        self.begin(plan, Vec::new())
    }

    /// Rollouts of this place that nobody will ask for by an old answer, beyond the newest ones.
    fn forgotten(&self, place: &PlaceRecord) -> Vec<RolloutId> {
        let mut ended: Vec<&Rollout> = self
            .state
            .rollouts()
            .filter(|rollout| rollout.place == place.place && rollout.ended())
            .filter(|rollout| place.last.as_ref() != Some(&rollout.id))
            .collect();
        ended.sort_by_key(|rollout| std::cmp::Reverse(rollout.requested_at));
        let surplus = ended.into_iter().skip(ROLLOUTS_KEPT);
        surplus
            .filter(|rollout| self.now.since(rollout.since) > REQUEST_KEPT)
            .filter(|rollout| place.proven.iter().all(|proven| proven.rollout != rollout.id))
            .map(|rollout| rollout.id.clone())
            .take(FORGOTTEN_AT_ONCE)
            .collect()
    }

    fn place_is_free(&self, place: &Place) -> Result<(), Refusal> {
        let holder = self.state.place(place).and_then(|record| self.state.rollout(record.holder.as_ref()?));
        holder.map_or(Ok(()), |holder| Err(self.held_by(holder)))
    }

    fn held_by(&self, holder: &Rollout) -> Refusal {
        Refusal::Held {
            place: Box::new(holder.place.clone()),
            rollout: holder.id.clone(),
            release: holder.release.name.clone(),
            by: holder.by.to_string(),
            since: holder.requested_at,
            status: holder.status.word(),
        }
    }

    fn begin(&mut self, plan: Plan, commits: Vec<CommitLine>) -> Result<Answer, Refusal> {
        let id = self.command.fresh.clone();
        if self.state.rollouts.contains_key(&id) {
            return Err(Refusal::RolloutExists { rollout: id });
        }
        let mut place = self.state.place(&plan.place).cloned().unwrap_or_else(|| {
            // Hosts are enrolled here, or there would be no plan.
            PlaceRecord::new(plan.place.clone())
        });
        // The members of the rollout before have served their purpose.
        if let Some(last) = &place.last {
            let keys: Vec<_> = self.state.members(last).map(|m| m.host.clone()).collect();
            for host in keys {
                self.delete(Key::Member(last.clone(), host));
            }
        }
        for old in self.forgotten(&place) {
            self.delete(Key::Rollout(old));
        }
        place.holder = Some(id.clone());
        self.put(Record::Place(Box::new(place)));
        let hosts: usize = plan.batches.iter().map(|batch| batch.hosts.len()).sum();
        let notes = self.state.release(&plan.place.application, &plan.release.name);
        self.log(LogEvent::RolloutStarted {
            rollout: id.clone(),
            application: plan.place.application.clone(),
            environment: plan.place.environment.clone(),
            release: plan.release.clone(),
            previous: plan.previous.clone(),
            hosts: hosts as u64,
            commits,
            notes: notes.and_then(|release| release.notes.clone()).unwrap_or_default(),
        });
        let batches = u32::try_from(plan.batches.len()).unwrap_or(u32::MAX);
        for batch in plan.batches {
            for host in batch.hosts {
                self.put(Record::Member(Box::new(Member {
                    rollout: id.clone(),
                    host,
                    batch: batch.number,
                    state: MemberState::Pending,
                    since: self.now,
                    unheeded: 0,
                    touched: false,
                    failure: None,
                    return_failure: None,
                })));
            }
        }
        self.put(Record::Rollout(Box::new(Rollout {
            id: id.clone(),
            place: plan.place,
            kind: plan.kind,
            release: plan.release,
            previous: plan.previous,
            strategy: plan.strategy,
            by: self.command.by.clone(),
            requested_at: self.now,
            batches,
            schema: plan.schema,
            status: Status::Active { stage: Stage::Staging },
            since: self.now,
        })));
        Ok(Answer::Rollout { id })
    }
}
