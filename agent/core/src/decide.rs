//! One event in, the next machine and its effects out.

mod activation;
mod drain;
mod migration;
mod restart;
mod staging;
mod traffic;
mod upkeep;

use landfall_common::assignment::{Assignment, OnFailure, Order};
use landfall_common::report::{Failure, Outcome, OutcomeKind};
use landfall_common::{Generation, Sha256};

use crate::accept::{Acceptance, Refusal, accept};
use crate::effect::{Effect, Event, Finish};
use crate::plan::Action;
use crate::record::{Accepted, Installed, Machine};
use crate::state::{Job, State, Terms};
use crate::{Now, step};

/// What follows from an event: make `next.record` durable if it differs, then carry out the effects in their
/// order.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "the next record must be made durable before the effects are carried out"]
pub struct Output {
    /// The machine afterwards.
    pub next: Machine,
    /// To be carried out after `next.record` is durable.
    pub effects: Vec<Effect>,
}

/// The decision. Pure: the same arguments give the same output.
pub fn decide(machine: &Machine, event: Event, now: Now) -> Output {
    let mut turn = Turn { machine: machine.clone(), effects: Vec::new(), now };
    match event {
        Event::Started => turn.started(),
        Event::Assigned { assignment, digest } => turn.assigned(&assignment, digest),
        Event::Distrusted { generation, failure } => turn.refused(generation, failure),
        Event::Progress { generation, done_bytes, total_bytes } => {
            if matches!(&turn.machine.record.state, State::Fetching { job } if job.generation == generation) {
                turn.machine.live.progress = (done_bytes, total_bytes);
                turn.effects.push(Effect::Report);
            }
        }
        Event::Done { effect, finish } => turn.done(&effect, finish),
        Event::Checked { watch, check, answer } => turn.checked(watch, &check, answer),
        Event::Named { result } => turn.named(result),
        Event::Ensured { release, result } => turn.ensured(&release, result),
        Event::Unwatched { watch, reason } => turn.unwatched(watch, reason),
        Event::Aimed { aim, result } => turn.aimed(aim, result),
        Event::Retired { slot, release, result } => turn.retired(slot, &release, result),
        Event::Misled => turn.misled(),
        Event::Tick => turn.tick(),
    }
    Output { next: turn.machine, effects: turn.effects }
}

/// A decision in the making.
struct Turn {
    machine: Machine,
    effects: Vec<Effect>,
    now: Now,
}

impl Turn {
    /// Finishes or goes on with what the record says was under way.
    fn started(&mut self) {
        self.machine.record.incarnation += 1;
        match &mut self.machine.record.state {
            // Its beginning is on record, and only its exit status can say how it ended.
            State::Migrating { resumed, .. } => *resumed = true,
            // Only what was verified in this process is laid out.
            State::Unpacking { job, .. } => {
                self.machine.record.state = State::Fetching { job: job.clone() };
            }
            // Steps of preparation build on one another; what a half one left is removed with all the others.
            State::Preparing { step, .. } => *step = 0,
            // The host may have been rebooted, so that nothing of what was restarted runs: all steps again.
            State::Activating { at, plan, reached, .. } => {
                *reached = (*reached).max(*at);
                *at = 0;
                // A slot may hold the release from before, and this plan not have come as far as that.
                let left_out = traffic::skip_what_made_room(plan, &self.machine.record.placement);
                *reached = reached.saturating_sub(left_out);
            }
            State::Undoing { at, plan, .. } => {
                *at = 0;
                traffic::skip_what_made_room(plan, &self.machine.record.placement);
            }
            _ => {}
        }
        self.drop_interrupted_lease();
        self.place_active();
        if self.machine.record.active.is_some() && !self.restarts() {
            self.name_active();
            self.ensure();
            // After a reboot, only once it runs again.
            self.confirm_aim();
        }
        self.watch_active();
        self.sweep();
        self.effects.extend(self.machine.record.state.awaits());
        self.retire();
        self.effects.push(Effect::Report);
    }

    fn assigned(&mut self, assignment: &Assignment, digest: Sha256) {
        match accept(&self.machine.record, assignment, digest, self.now.wall) {
            Ok(Acceptance::Same) => self.effects.push(Effect::Report),
            Ok(Acceptance::New) if self.is_migration_out_of_place(assignment) => {
                let reason = "the host is busy with another assignment; nothing of the migration has run";
                self.refused(assignment.generation, Failure::new(step("accept"), reason));
            }
            Ok(Acceptance::New) => {
                let accepted = Accepted { generation: assignment.generation, digest };
                self.machine.record.accepted = Some(accepted);
                self.machine.live.refused = None;
                self.take_up(assignment.clone());
            }
            Err(refusal) => self.refuse(assignment.generation, &refusal),
        }
    }

    fn refuse(&mut self, generation: Generation, refusal: &Refusal) {
        self.refused(generation, Failure::new(step("accept"), refusal.to_string()));
    }

    /// Tells of a refusal; the record does not change.
    fn refused(&mut self, generation: Generation, failure: Failure) {
        let newest = self.machine.record.accepted.map(|accepted| accepted.generation).unwrap_or_default();
        // The answer to an old number is the number that the report carries anyway.
        if generation > newest {
            self.machine.live.refused = Some((generation, failure));
        }
        self.effects.push(Effect::Report);
    }

    /// A lease counts from acceptance, so that a migration is not accepted only to wait.
    fn is_migration_out_of_place(&self, assignment: &Assignment) -> bool {
        let proves = matches!(&self.machine.record.state, State::Proving { .. } | State::Smoking { .. });
        matches!(assignment.order, Order::Migrate { .. }) && (proves || self.machine.record.state.is_busy())
    }

    /// Begins an accepted assignment, or lets it wait.
    fn take_up(&mut self, assignment: Assignment) {
        let proves = matches!(&self.machine.record.state, State::Proving { .. } | State::Smoking { .. });
        let activates = matches!(&assignment.order, Order::Activate { .. });
        let waits = proves && (!activates || self.comes_after_the_proof(&assignment.release));
        if self.machine.record.state.is_busy() || waits {
            self.machine.record.queued = Some(assignment);
            self.effects.push(Effect::Report);
            return;
        }
        self.machine.record.queued = None;
        if self.machine.record.state.awaits().is_some() {
            self.effects.push(Effect::Cancel);
        }
        if let Order::Drain { away } = assignment.order {
            return self.drain(&assignment, away);
        }
        self.machine.live.progress = (0, 0);
        let job = Job {
            generation: assignment.generation,
            release: assignment.release,
            order: assignment.order,
            accepted: self.now.mono,
        };
        match self.machine.record.installed.get(&job.release.name).cloned() {
            Some(installed) => self.proceed(&job, &installed),
            None if matches!(job.order, Order::Restart { .. }) => self.refuse_restart(&job),
            None => self.enter(State::Fetching { job }),
        }
    }

    /// The release is on the disk: now what it is wanted for.
    fn proceed(&mut self, job: &Job, installed: &Installed) {
        match &job.order {
            Order::Stage => self.end(job.generation, OutcomeKind::Staged),
            // Taken up before it comes to this.
            Order::Drain { .. } => {}
            Order::Migrate { fence, lease, direction } => {
                self.begin_migration(job, installed, *fence, *lease, *direction);
            }
            Order::Activate { on_failure, min_healthy, healthy_deadline } => {
                let terms = Terms {
                    on_failure: *on_failure,
                    min_healthy: *min_healthy,
                    healthy_deadline: *healthy_deadline,
                };
                self.begin_activation(job.generation, installed, terms);
            }
            Order::Restart { kind, services, min_healthy, healthy_deadline } => {
                let terms = Terms {
                    on_failure: OnFailure::Hold,
                    min_healthy: *min_healthy,
                    healthy_deadline: *healthy_deadline,
                };
                self.begin_restart(job, *kind, services, terms);
            }
        }
    }

    fn done(&mut self, effect: &Effect, finish: Finish) {
        if self.machine.record.state.awaits().as_ref() != Some(effect) {
            return;
        }
        match self.machine.record.state.clone() {
            State::Fetching { job } => self.fetched(job, finish),
            State::Unpacking { job, installed } => self.unpacked(job, installed, finish),
            State::Preparing { job, installed, step } => self.prepared(job, installed, step, finish),
            State::Migrating { migrating, .. } => self.migrated(&migrating, finish),
            activating @ State::Activating { .. } => self.acted(activating, finish),
            State::Smoking { activation, at } => self.smoked(activation, at, finish),
            undoing @ State::Undoing { .. } => self.undone(undoing, finish),
            State::Idle | State::Proving { .. } | State::Confirming { .. } => {}
        }
    }

    fn checked(&mut self, number: u64, check: &landfall_common::StepName, answer: Result<(), String>) {
        let before = self.machine.health(self.now);
        let Some(watch) = self.machine.live.watch.as_mut().filter(|watch| watch.number == number) else {
            return;
        };
        watch.judge.observe(check, answer, self.now.mono);
        self.machine.live.unwatched = None;
        let after = self.machine.health(self.now);
        if std::mem::discriminant(&before) != std::mem::discriminant(&after) {
            self.effects.push(Effect::Report);
        }
        self.tick();
    }

    fn tick(&mut self) {
        self.keep_up();
        self.lead_back();
        if self.machine.live.misaimed.is_some() {
            self.confirm_aim();
        }
        self.retire();
        match self.machine.record.state.clone() {
            State::Proving { activation } => self.prove(activation),
            State::Confirming { activation, failure, back } => self.confirm(&activation, failure, &back),
            State::Migrating { migrating, .. } => self.watch_lease(&migrating),
            _ => {}
        }
    }

    /// Enters a state and asks for what it awaits.
    fn enter(&mut self, state: State) {
        self.effects.extend(state.awaits());
        self.effects.push(Effect::Report);
        let placement = &mut self.machine.record.placement;
        match state.awaits() {
            // From this moment on it may run there,
            Some(Effect::Act { action: Action::Start { slot, release, .. }, .. }) => {
                placement.slots.insert(slot, release);
            }
            // and requests may go there.
            Some(Effect::Act { action: Action::Lead { aim }, .. }) => {
                placement.try_aim(aim);
                // What was asked before is no news of where they go from now on.
                self.machine.live.aiming = false;
            }
            _ => {}
        }
        self.machine.record.state = state;
    }

    /// An assignment has ended. What waits is begun.
    fn end(&mut self, generation: Generation, result: OutcomeKind) {
        self.machine.record.outcome = Some(Outcome { generation, result });
        self.machine.record.state = State::Idle;
        self.effects.push(Effect::Report);
        if let Some(queued) = self.machine.record.queued.take() {
            self.take_up(queued);
        }
        if self.machine.live.misnamed.is_some() {
            self.name_active();
        }
        self.lead_back();
        self.settle_aim();
        self.retire();
        self.sweep();
    }

    /// Removes what the record does not know. Asked for whenever the set of releases has changed.
    fn sweep(&mut self) {
        let mut keep = self.machine.record.guarded();
        keep.extend(self.machine.record.installed.keys().cloned());
        self.effects.push(Effect::Sweep { keep });
    }
}
