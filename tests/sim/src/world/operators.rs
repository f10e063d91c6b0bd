//! Operators: they release, and change their minds, repeat themselves, contradict each other, and in the end
//! one of them patiently answers whatever is asked.

use std::collections::BTreeSet;

use landfall_common::assignment::{Direction, RestartKind};
use landfall_common::evidence::Statement;
use landfall_common::strategy::{Amount, Canary};
use landfall_common::{Duration, HostId, OperatorName, RequestId, RolloutId, Timestamp};
use landfall_controller_core::command::{Action, Answer, Command, IfHeld, Overrides, RollRequest};
use landfall_controller_core::log::{Actor, MigrationVerdict};
use landfall_controller_core::record::{Convergence, HostRecord, Place, ReleaseRecord};
use landfall_controller_core::restart::RestartRequest;
use landfall_controller_core::rollout::{Back, MigrationRun, Schema, Stage, Status, StatusWord};
use landfall_controller_core::{decide, preview, runbook};

use super::hub::Failed;
use super::{Event, World};
use crate::check::Violation;
use crate::sabotage::Sabotage;
use crate::scenario::Operators;

/// How often the last operator asks for a release before he does without what CI says of it: it may be made from no commit.
const EVIDENCE_PATIENCE: u32 = 20;

impl World {
    pub(super) fn operate(&mut self) {
        let wait = match (self.healed, self.scenario.operators) {
            (true, _) => 15_000,
            (false, Operators::Patient) => self.dice.between(10_000, 40_000),
            (false, Operators::Restless) => self.dice.between(3_000, 60_000),
        };
        self.after(wait, Event::Operate);
        if self.controller.running.is_none() || self.outage_until > self.now {
            return;
        }
        if self.set_up() {
            return;
        }
        self.read_the_runbook();
        if self.scenario.staging > 0 {
            self.in_staging = self.dice.chance(500_000);
        }
        // Whoever got no answer asks again, with the same id.
        if let Some(request) = self.unanswered.take()
            && let Some(command) = self.commands.iter().find(|command| command.request == request).cloned()
        {
            return self.ask(command);
        }
        let holder = self.holder();
        if self.answer_gates(holder) || self.hand_in() {
            return;
        }
        if self.healed {
            if !self.leave_nobody_out() {
                self.answer_what_is_asked();
            }
        } else if self.scenario.leaves_out && self.dice.chance(150_000) {
            self.leave_out_or_in();
        } else if self.scenario.relabels && self.dice.chance(300_000) {
            self.relabel();
        } else if self.scenario.operators == Operators::Patient {
            self.be_patient();
        } else {
            self.be_restless();
        }
    }

    /// Now and then somebody wants to know how one would go back.
    fn read_the_runbook(&mut self) {
        if !self.checks.dice.chance(250_000) {
            return;
        }
        let (now, place) = (self.controller_now(), self.place());
        let Some(controller) = &self.controller.running else { return };
        let Some(page) = runbook::runbook(&controller.state, &place, now) else { return };
        self.statistics.runbooks += 1;
        let old = self.printed.replace(page.clone());
        let page = match (old, self.scenario.sabotage) {
            (Some(old), Some(Sabotage::RunbookOutdated)) => old,
            _ => page,
        };
        let kept = crate::check::runbook::is_kept(&page, &controller.state, now);
        self.must(kept);
    }

    /// Enrols hosts and publishes releases that the controller does not know.
    fn set_up(&mut self) -> bool {
        let Some(controller) = &self.controller.running else { return true };
        let unknown =
            self.hosts.iter().filter(|host| host.enrolled && controller.state.host(&host.id).is_none());
        let unknown: Vec<_> = unknown.map(|host| (host.id.clone(), host.index)).collect();
        let application = crate::artifact::application();
        let unpublished = self
            .releases
            .iter()
            .filter(|release| controller.state.release(&application, &release.reference.name).is_none());
        let unpublished: Vec<_> = unpublished.cloned().collect();
        let left =
            self.hosts.iter().filter(|host| !host.enrolled && controller.state.host(&host.id).is_some());
        let left: Vec<_> = left.map(|host| host.id.clone()).collect();
        let busy = !unknown.is_empty() || !unpublished.is_empty();
        for host in left {
            self.ask_anew(Action::Remove { host, reason: "scrapped".to_owned() });
        }
        for (id, index) in unknown {
            let host = HostRecord {
                id,
                place: self.place_of(index),
                labels: crate::scenario::labels(index, self.scenario.by_groups),
                enrolled_at: self.controller_now(),
                cordon: None,
                drain: None,
                led_away: None,
            };
            self.ask_anew(Action::Enrol { host, token: "t".to_owned() });
        }
        for release in unpublished {
            let by = Actor::Operator(OperatorName::new("anna").expect("a valid name"));
            let at = self.controller_now();
            let record = ReleaseRecord::of(&release.manifest, release.reference.clone(), at, by);
            let release = Box::new(record);
            self.ask_anew(Action::Publish { release, signed_by: vec!["k".to_owned()] });
        }
        busy
    }

    pub(super) fn ask_anew(&mut self, action: Action) {
        let by = *self.dice.pick(&["anna", "ben"]);
        self.ask_as(by, action);
    }

    pub(super) fn ask_as(&mut self, by: &str, action: Action) {
        let number = self.next_request;
        self.next_request += 1;
        let command = Command {
            request: RequestId::new(format!("q-{number:05}")).expect("a valid name"),
            by: Actor::Operator(OperatorName::new(by).expect("a valid name")),
            origin: "192.0.2.7".to_owned(),
            fresh: RolloutId::new(format!("r-{number:05}")).expect("a valid name"),
            action,
        };
        self.commands.push(command.clone());
        self.ask(command);
    }

    /// Sends a command, and looks at what came of it.
    fn ask(&mut self, command: Command) {
        let now = self.controller_now();
        let Some(controller) = &self.controller.running else {
            self.unanswered = Some(command.request);
            return;
        };
        if let Action::Remove { host, .. } = &command.action
            && controller.state.host(host).is_some()
        {
            // Whether it is gone is known only with the answer; nobody counts on it from here on.
            let host = host.clone();
            self.host_is_leaving(&host);
        }
        let Some(controller) = &self.controller.running else { return };
        let (operations, process) = (self.controller.disk.operations(), self.controller.process);
        let decided = decide(&controller.state, &command, now);
        let decided = match decided {
            Ok(decided) => decided,
            Err(refusal) => {
                self.statistics.refused += 1;
                self.note(format_args!(
                    "{} {} is refused: {refusal}",
                    command.request,
                    name(&command.action)
                ));
                if self.scenario.sabotage == Some(Sabotage::RefusalWrites) {
                    self.plant_a_refusal(&command);
                }
                if self.controller.disk.operations() != operations {
                    let what =
                        format!("request {} was refused ({refusal}) and wrote to the disk", command.request);
                    self.must(Err(Violation::new("P12", what)));
                }
                return;
            }
        };
        let repeated = decided.output.is_empty();
        self.note(format_args!(
            "{} {} is {}",
            command.request,
            name(&command.action),
            if repeated { "answered again" } else { "accepted" }
        ));
        if let Action::Promote { rollout, .. } = &command.action {
            self.checks.promoted.insert(rollout.clone());
        }
        let goes_back = match &command.action {
            Action::RollBack { place, .. } => self.holder_of(place),
            Action::Abort { go_back: true, rollout, .. } => Some(rollout.clone()),
            _ => None,
        };
        if let Some(rollout) = goes_back {
            self.checks.late.ask(&rollout);
        }
        if !repeated {
            let before = self.checks.said_so_far();
            self.checks.word_taken_back(&command.action);
            if let Some(controller) = &self.controller.running {
                self.checks.says_of_gate(&controller.state, &command.action);
            }
            self.resolve_truth(&command.action);
            if matches!(command.action, Action::Resume { .. } | Action::RetryFailed { .. }) {
                self.checks.database.asked_again();
            }
            let tries = match &command.action {
                Action::Roll(_)
                | Action::RollBack { .. }
                | Action::Drill { .. }
                | Action::Restart(_)
                | Action::RetryFailed { .. } => true,
                Action::Resume { rollout, .. } => self.stands_in_line(rollout),
                _ => false,
            };
            if tries {
                self.checks.may_try();
            }
            match self.carry_out(decided.output) {
                Ok(()) => {
                    self.checks.alone.given(&command.action, &decided.answer);
                    self.checks.drained.given(&command.action);
                    self.checks.labels.given(&command.action);
                    self.plan_within(0);
                }
                Err(failed) => {
                    if let Failed::Later = failed {
                        self.checks.not_taken(before);
                    }
                    self.unanswered = Some(command.request);
                    return;
                }
            }
        }
        // The answer may get lost on its way, or the controller with it.
        if !self.healed && self.dice.chance(self.scenario.faults.lost) || self.controller.process != process {
            self.unanswered = Some(command.request);
            return;
        }
        let remembered = self.checks.answered(&command, &decided.answer, &self.controller.disk);
        self.must(remembered);
        if let Answer::Rollout { .. } = decided.answer {
            self.plan_within(0);
        }
    }

    fn host_is_leaving(&mut self, id: &landfall_common::HostId) {
        let Some(host) = self.hosts.iter_mut().find(|host| host.id == *id) else { return };
        host.enrolled = false;
        let (index, connection) = (host.index, host.connection.take());
        self.checks.memory.removed(id);
        self.checks.proofs.hosts.remove(id);
        if let Some(connection) = connection {
            self.controller_notices(index, connection);
        }
    }

    fn roll(&mut self, release: usize) {
        let release = self.releases[release].reference.name.clone();
        let Place { application, environment } = self.place();
        let mut request = RollRequest::new(application, environment, release);
        request.no_way_back = self.dice.chance(700_000);
        // With its hosts a canary of certain labels is gone for good: the next operator asks for another.
        if self.healed {
            request.overrides.canary = Some(Canary::Count(1));
            // So is the budget where too many hosts never had a release: somebody has to allow more.
            if self.patience.get(&self.here("what should run")).is_some_and(|tries| *tries > 2) {
                request.overrides.max_unavailable = Some(Amount::Percent(100));
            }
        }
        if self.dice.chance(200_000) {
            request.overrides = Overrides {
                batch: Some(Amount::Count(2)),
                canary: Some(Canary::Count(1)),
                ..Overrides::default()
            };
        }
        if self.scenario.line && !self.healed {
            request.if_held =
                *self.dice.pick(&[IfHeld::Refuse, IfHeld::Queue, IfHeld::Queue, IfHeld::Supersede]);
        }
        // The last operator has no time to wait for a window, and before him now and then somebody else.
        let has_windows = self.releases.iter().any(|r| !r.plan.strategy.entry.calendar.windows.is_empty());
        if has_windows && (self.healed || self.dice.chance(100_000)) {
            request.outside_window = "it cannot wait".to_owned();
        }
        if self.scenario.staging > 0 && !self.in_staging {
            self.with_or_without_a_proof(&mut request);
        }
        // For CI he has, as long as it may say more, and before him hardly anybody does without.
        let needs_evidence = self.releases.iter().any(|release| !release.plan.evidence.is_empty());
        let after = self.here(&format!("roll {}", self.in_force().unwrap_or_default()));
        let has_waited = self.patience.get(&after).is_some_and(|tries| *tries > EVIDENCE_PATIENCE);
        if needs_evidence && (if self.healed { has_waited } else { self.dice.chance(60_000) }) {
            request.without_evidence = "it cannot wait".to_owned();
        }
        let now = self.controller_now();
        if self.dice.chance(300_000)
            && let Some(controller) = &self.controller.running
        {
            request.plan = preview(&controller.state, &request, now).ok().map(|plan| plan.id);
        }
        self.ask_anew(Action::Roll(Box::new(request)));
    }

    /// The last operator has no time for a proof either, and before him now and then somebody else; others name staging
    /// whatever the release says.
    fn with_or_without_a_proof(&mut self, request: &mut RollRequest) {
        if self.healed || self.dice.chance(100_000) {
            request.unproven = "it cannot wait".to_owned();
        } else if self.dice.chance(200_000) {
            request.proven_in.insert(crate::artifact::staging());
        }
    }

    pub(super) fn holder(&self) -> Option<RolloutId> {
        self.holder_of(&self.place())
    }

    fn holder_of(&self, place: &Place) -> Option<RolloutId> {
        self.controller.running.as_ref()?.state.place(place)?.holder.clone()
    }

    fn stands_in_line(&self, rollout: &RolloutId) -> bool {
        let state = self.controller.running.as_ref().map(|controller| &controller.state);
        let rollout = state.and_then(|state| state.rollout(rollout));
        rollout.is_some_and(|rollout| rollout.in_line().is_some())
    }

    pub(super) fn next_in_line(&self) -> Option<RolloutId> {
        self.controller.running.as_ref()?.state.place(&self.place())?.line.first().cloned()
    }

    /// Patience is for each place.
    fn here(&self, what: &str) -> String {
        format!("{what} in {}", self.place())
    }

    /// One release after the other, each when the one before is over.
    fn be_patient(&mut self) {
        if self.holder().or_else(|| self.next_in_line()).is_some() {
            return self.answer_what_is_asked();
        }
        let in_force = self.in_force();
        let next = in_force.map_or(0, |number| number);
        if self.scenario.drills && next > 0 && next < self.releases.len() {
            let tries = self.patience.entry(self.here(&format!("drill {next}"))).or_default();
            *tries += 1;
            if *tries == 1 {
                let to = self.dice.chance(500_000).then(|| self.releases[next].reference.name.clone());
                return self.ask_anew(Action::Drill { place: self.place(), to });
            }
        }
        if self.scenario.restarts && next > 0 {
            let tries = self.patience.entry(self.here(&format!("restart {next}"))).or_default();
            *tries += 1;
            if *tries == 1 {
                return self.restart();
            }
        }
        let tries = self.patience.entry(self.here(&format!("roll {next}"))).or_default();
        *tries += 1;
        // Staging has to be through with it before.
        let after_staging = self.scenario.staging > 0 && !self.in_staging;
        let after_ci = self.releases.iter().any(|release| !release.plan.evidence.is_empty());
        // And CI takes as long as it takes for each of two names, and fails now and then.
        let each = match (after_ci, after_staging) {
            (true, _) => 100,
            (false, true) => 12,
            (false, false) => 2,
        };
        if *tries <= each * 3 / 2 && next < self.releases.len() {
            let skip = usize::try_from(u64::from(*tries) / u64::from(each)).unwrap_or(0);
            self.roll((next + skip).min(self.releases.len() - 1));
        }
    }

    /// The number of the release in force.
    pub(super) fn in_force(&self) -> Option<usize> {
        let controller = self.controller.running.as_ref()?;
        let proven = controller.state.place(&self.place())?.in_force()?;
        usize::try_from(proven.release.counter.0).ok()
    }

    /// All services of what is in force, or one of them.
    fn restart(&mut self) {
        let place = self.place();
        let Some(controller) = &self.controller.running else { return };
        let in_force = controller.state.place(&place).and_then(|record| record.in_force());
        let Some(digest) = in_force.map(|proven| proven.release.digest) else { return };
        let Some(release) = self.checks.releases.get(&digest) else { return };
        let program = &release.manifest.program;
        let slotted = program.slots().map(|slots| slots.service.clone());
        let able = program.services.iter().filter(|service| {
            service.driver.renews(RestartKind::Restart, slotted.as_ref() == Some(&service.name)).is_ok()
        });
        let mut services: BTreeSet<_> = able.map(|service| service.name.clone()).collect();
        if services.len() > 1 && self.dice.chance(300_000) {
            services.pop_first();
        }
        let overrides = Overrides {
            max_unavailable: self.healed.then_some(Amount::Percent(100)),
            ..Overrides::default()
        };
        self.ask_anew(Action::Restart(Box::new(RestartRequest {
            place,
            release: digest,
            kind: RestartKind::Restart,
            services,
            reason: "because".to_owned(),
            overrides,
            outside_window: String::new(),
        })));
    }

    fn be_restless(&mut self) {
        let place = self.place();
        let reason = "because".to_owned();
        let lines = self.scenario.line;
        if lines && self.dice.chance(60_000) {
            let period = Duration::from_secs(self.dice.between(60, 300));
            return self.ask_anew(Action::Lock { place, message: reason, period });
        }
        if lines && self.dice.chance(60_000) {
            return self.ask_anew(Action::Unlock { place, reason });
        }
        if lines && self.dice.chance(150_000) && self.say_something() {
            return;
        }
        if self.scenario.drills && self.dice.chance(80_000) {
            let release = self.dice.index(self.releases.len());
            let to = self.dice.chance(700_000).then(|| self.releases[release].reference.name.clone());
            return self.ask_anew(Action::Drill { place, to });
        }
        if self.scenario.restarts && self.dice.chance(100_000) {
            return self.restart();
        }
        let about = if lines && self.dice.chance(300_000) { self.next_in_line() } else { self.holder() };
        let rollout = about.unwrap_or_else(|| RolloutId::new("r-none").expect("a valid name"));
        match self.dice.between(0, 15) {
            0..=4 => {
                let at = self.in_force().unwrap_or(0);
                let at = if self.dice.chance(700_000) { at } else { self.dice.index(self.releases.len()) };
                self.roll(at.min(self.releases.len() - 1));
            }
            5 => self.ask_anew(Action::RollBack { place, to: None, reason }),
            6 => {
                let release = self.dice.index(self.releases.len());
                let to = Some(self.releases[release].reference.name.clone());
                self.ask_anew(Action::RollBack { place, to, reason });
            }
            7 => self.ask_anew(Action::Pause { rollout, reason }),
            8..=9 => self.ask_anew(Action::Resume { rollout, reason: String::new() }),
            10 => {
                let go_back = self.dice.chance(500_000);
                self.ask_anew(Action::Abort { rollout, go_back, reason });
            }
            11 => self.ask_anew(Action::RetryFailed { place, rollout: Some(rollout), reason: String::new() }),
            12 => self.settle_migration(),
            13 => self.ask_anew(Action::Promote { rollout, reason: String::new() }),
            14 => self.repeat(),
            _ => self.change_the_fleet(),
        }
    }

    /// The same request again, or another one under its id.
    fn repeat(&mut self) {
        if self.commands.is_empty() {
            return;
        }
        let at = self.dice.index(self.commands.len());
        let mut command = self.commands[at].clone();
        if self.dice.chance(300_000) {
            command.action = Action::Promote { rollout: command.fresh.clone(), reason: String::new() };
        }
        self.ask(command);
    }

    /// Of one or two hosts somebody says that they are to be left alone, or not any more.
    fn leave_out_or_in(&mut self) {
        let mut hosts = BTreeSet::new();
        for _ in 0..self.dice.between(1, 2) {
            let at = self.dice.index(self.hosts.len());
            hosts.insert(self.hosts[at].id.clone());
        }
        let reason = "its disk is broken".to_owned();
        if self.scenario.drains && self.dice.chance(400_000) {
            let beyond = if self.dice.chance(200_000) { "all of them" } else { "" };
            let action = match self.dice.between(0, 2) {
                0 => Action::Undrain { hosts, reason },
                _ => Action::Drain { hosts, reason, beyond_budget: beyond.to_owned() },
            };
            return self.ask_anew(action);
        }
        let action = match self.dice.between(0, 3) {
            0 => Action::Exclude { hosts, rollout: None, reason },
            1 => Action::Include { hosts, reason },
            2 => Action::Cordon { hosts, reason },
            _ => Action::Uncordon { hosts, reason },
        };
        self.ask_anew(action);
    }

    /// In the end every host is needed; whether there was one that was left alone.
    fn leave_nobody_out(&mut self) -> bool {
        if !self.scenario.leaves_out {
            return false;
        }
        let place = self.place();
        let Some(controller) = &self.controller.running else { return false };
        let all = || controller.state.hosts(&place);
        let drained: BTreeSet<HostId> =
            all().filter(|host| host.record.drain.is_some()).map(|host| host.record.id.clone()).collect();
        // What a rollout by two groups that was ended half way has left without requests.
        let is_free = controller.state.place(&place).is_some_and(|place| place.holder.is_none());
        let kept: BTreeSet<HostId> = all()
            .filter(|host| is_free && host.record.drain.is_none() && host.record.led_away.is_some())
            .map(|host| host.record.id.clone())
            .collect();
        let cordoned: BTreeSet<HostId> =
            all().filter(|host| host.record.cordon.is_some()).map(|host| host.record.id.clone()).collect();
        let excluded: BTreeSet<HostId> = all()
            .filter(|host| controller.state.is_left_alone(host))
            .map(|host| host.record.id.clone())
            .filter(|host| !cordoned.contains(host))
            .collect();
        let reason = "it is needed again".to_owned();
        if !drained.is_empty() {
            self.ask_anew(Action::Undrain { hosts: drained, reason });
            return true;
        }
        if !kept.is_empty() {
            self.ask_anew(Action::Undrain { hosts: kept, reason });
            return true;
        }
        if !cordoned.is_empty() {
            self.ask_anew(Action::Uncordon { hosts: cordoned, reason });
            return true;
        }
        if !excluded.is_empty() {
            self.ask_anew(Action::Include { hosts: excluded, reason });
            return true;
        }
        false
    }

    fn change_the_fleet(&mut self) {
        let host = self.dice.index(self.hosts.len());
        let beside =
            |other: &&crate::host::Host| other.enrolled && self.place_of(other.index) == self.place_of(host);
        if self.hosts.iter().filter(beside).count() > 1 && self.hosts[host].enrolled {
            let host = self.hosts[host].id.clone();
            self.ask_anew(Action::Remove { host, reason: "scrapped".to_owned() });
        } else {
            self.ask_anew(Action::RetryFailed { place: self.place(), rollout: None, reason: String::new() });
        }
    }

    /// An operator who looks at the database before he says how a migration ended.
    fn settle_migration(&mut self) {
        let Some(id) = self.holder() else { return };
        let Some(controller) = &self.controller.running else { return };
        let Some(rollout) = controller.state.rollout(&id) else { return };
        let run = rollout.status.stage().and_then(|stage| stage.migration());
        let Some(lease) = run.and_then(MigrationRun::in_doubt) else {
            let verdict = MigrationVerdict::Applied;
            return self.ask_anew(Action::ResolveMigration { rollout: id, verdict, reason: String::new() });
        };
        let runs = &self.checks.database.runs;
        if runs.iter().any(|run| run.ended_at.is_none_or(|ended| ended > self.now)) {
            return;
        }
        let applied =
            runs.iter().any(|run| run.rollout == id && run.direction == lease.direction && run.took_effect);
        // What fails again and again is in the end done by hand, and said to be done.
        let tries = self.patience.entry(format!("migration {id}")).or_default();
        *tries += 1;
        let by_hand = self.healed && *tries > 3;
        let verdict =
            if applied || by_hand { MigrationVerdict::Applied } else { MigrationVerdict::NotApplied };
        self.ask_anew(Action::ResolveMigration { rollout: id, verdict, reason: "looked".to_owned() });
    }

    /// What an accepted verdict means for the account of the database.
    fn resolve_truth(&mut self, action: &Action) {
        let Action::ResolveMigration { rollout: id, verdict, .. } = action else { return };
        let state = self.controller.running.as_ref().map(|controller| &controller.state);
        let Some(rollout) = state.and_then(|state| state.rollout(id)) else { return };
        let place = state.and_then(|state| state.place(&rollout.place));
        let contract = place.and_then(|place| place.contract_of(&rollout.release));
        let run = rollout.status.stage().and_then(|stage| stage.migration());
        // Also a careless word, said before there was anything to ask and come late: it is a person's.
        let way = match run.and_then(MigrationRun::in_doubt) {
            Some(lease) => lease.direction,
            None if contract.is_some_and(|contract| !contract.known) => Direction::Contract,
            None => return,
        };
        match (verdict, way) {
            (MigrationVerdict::NotApplied, way) => self.checks.database.written_off(id, way),
            (MigrationVerdict::Applied, Direction::Contract) => {
                self.checks.database.contracted_by_word.insert(rollout.release.name.clone());
            }
            (MigrationVerdict::Applied, way) => {
                let ran = self.checks.database.ran(id, way);
                // Where none has begun it is the one that was asked about: going back, that of the release that is left.
                let asked = match (rollout.status.stage(), &rollout.schema) {
                    (Some(Stage::RollingBack { back: Back::Schema { migration, .. }, .. }), _) => {
                        &migration.release
                    }
                    (_, Schema::Due { migration }) => &migration.release,
                    _ => &rollout.release,
                };
                let release = ran.unwrap_or_else(|| asked.name.clone());
                self.checks.database.took(id, &release, way);
            }
        }
    }

    /// Answers what is asked: resumes what is paused, settles what is unknown, and when that does not help,
    /// goes back or gives up.
    pub(super) fn answer_what_is_asked(&mut self) {
        let Some(id) = self.holder().or_else(|| self.next_in_line()) else {
            return self.say_what_should_run();
        };
        let Some(controller) = &self.controller.running else { return };
        let Some(rollout) = controller.state.rollout(&id) else { return };
        if rollout.in_line().is_some() && matches!(rollout.status, Status::Active { .. }) {
            if !self.is_past_hope() {
                return self.say_yes(&id);
            }
            let reason = "staging does not get it proven".to_owned();
            return self.ask_anew(Action::Abort { rollout: id, go_back: false, reason });
        }
        let run = rollout.status.stage().and_then(|stage| stage.migration());
        // What may run again by itself is awaited, unless it is paused with the doubt.
        let is_asked = match run {
            Some(MigrationRun::Unknown { .. }) => true,
            Some(MigrationRun::Electing { doubt, .. }) => {
                doubt.is_some() && rollout.status.word() == StatusWord::Paused
            }
            _ => false,
        };
        if is_asked {
            return self.settle_migration();
        }
        if matches!(rollout.status, Status::Active { stage: Stage::Contracting { .. } }) {
            let tries = self.patience.entry(format!("contract {id}")).or_default();
            *tries += 1;
            let reason = "it waits for hosts that do not come".to_owned();
            return match *tries {
                1..=8 => self.ask_anew(Action::RetryFailed {
                    place: self.place(),
                    rollout: Some(id),
                    reason: String::new(),
                }),
                // What was in doubt is, and nothing else can follow.
                _ if run.and_then(MigrationRun::in_doubt).is_some() => self.settle_migration(),
                _ => self.ask_anew(Action::Abort { rollout: id, go_back: false, reason }),
            };
        }
        if rollout.status.word() == StatusWord::Waiting {
            return self.ask_anew(Action::Promote { rollout: id, reason: String::new() });
        }
        let Status::Paused { reason, .. } = &rollout.status else { return };
        // Of what will never show any figures more time tells nothing.
        let is_untold = reason.contains("could not tell");
        let tries = self.patience.entry(format!("pause {id}")).or_default();
        *tries += 1;
        let reason = "it does not get on".to_owned();
        let action = match *tries {
            1 => Action::Resume { rollout: id, reason: String::new() },
            2 if is_untold => Action::Promote { rollout: id, reason: String::new() },
            2 => Action::RetryFailed { place: self.place(), rollout: Some(id), reason: String::new() },
            3 => Action::Abort { rollout: id, go_back: true, reason },
            4 => Action::Resume { rollout: id, reason: String::new() },
            _ => Action::Abort { rollout: id, go_back: false, reason },
        };
        self.ask_anew(action);
    }

    /// Whether what is first in line has been looked at so often that its proof will never come. Whoever looks at one sees
    /// all that stand there.
    fn is_past_hope(&mut self) -> bool {
        if self.scenario.staging == 0 || self.in_staging || !self.healed {
            return false;
        }
        let place = self.place();
        let state = self.controller.running.as_ref().map(|controller| &controller.state);
        let line = state.and_then(|state| state.place(&place)).map_or(&[][..], |place| &place.line);
        let mut first = None;
        for rollout in line {
            let looks = self.patience.entry(format!("proof {rollout}")).or_default();
            *looks += 1;
            first.get_or_insert(*looks > 60);
        }
        first == Some(true)
    }

    /// After a rollout that ended half way, or before any has succeeded, somebody has to say what should run.
    fn say_what_should_run(&mut self) {
        let Some(controller) = &self.controller.running else { return };
        let Some(record) = controller.state.place(&self.place()) else { return };
        let is_held = !matches!(record.convergence, Convergence::On);
        let in_force = record.in_force().map(|proven| proven.release.clone());
        if in_force.is_some() && !is_held || !self.healed {
            return;
        }
        let tries = self.patience.entry(self.here("what should run")).or_default();
        *tries += 1;
        if *tries > 4 {
            return;
        }
        let lowest = in_force.map_or(0, |release| usize::try_from(release.counter.0).unwrap_or(1) - 1);
        let good: Vec<usize> =
            (lowest..self.releases.len()).filter(|at| self.releases[*at].plan.bad_ppm == 0).collect();
        // What is older than the schema is refused, and then a newer one is asked for.
        let next = good.get(usize::try_from(*tries).unwrap_or(1) - 1).or(good.last());
        self.roll(next.copied().unwrap_or(lowest));
    }

    /// The planted defect of P12.
    fn plant_a_refusal(&mut self, command: &Command) {
        use landfall_controller_core::Output;
        use landfall_controller_core::record::{Change, Record, RequestRecord};
        let record = Record::Request(RequestRecord {
            id: command.request.clone(),
            content: landfall_common::Sha256::of(b"refused"),
            answer: Answer::Accepted,
            at: Timestamp::default(),
        });
        let output = Output { changes: vec![Change::Put { record }], ..Output::default() };
        if let Some(controller) = &mut self.controller.running {
            let _ = controller.commit(&output);
        }
    }
}

fn name(action: &Action) -> String {
    match action {
        Action::Publish { release, .. } => format!("publish {}", release.release.name),
        Action::Roll(request) => format!("roll {}", request.release),
        Action::RollBack { to, .. } => format!("roll back to {to:?}"),
        Action::Drill { to, .. } => format!("drill to {to:?}"),
        Action::Restart(request) => format!("restart {:?}", request.services),
        Action::Exclude { hosts, .. } => format!("exclude {hosts:?}"),
        Action::Include { hosts, .. } => format!("include {hosts:?}"),
        Action::Cordon { hosts, .. } => format!("cordon {hosts:?}"),
        Action::Drain { hosts, .. } => format!("draining {hosts:?}"),
        Action::Undrain { hosts, .. } => format!("undraining {hosts:?}"),
        Action::Uncordon { hosts, .. } => format!("uncordon {hosts:?}"),
        Action::Label { hosts, set, removed, .. } => format!("label {hosts:?}: {set:?}, without {removed:?}"),
        Action::Pause { rollout, .. } => format!("pause {rollout}"),
        Action::Resume { rollout, .. } => format!("resume {rollout}"),
        Action::Abort { rollout, go_back, .. } => format!("abort {rollout} (go back: {go_back})"),
        Action::Promote { rollout, .. } => format!("promote {rollout}"),
        Action::AnswerGate { rollout, gate, verdict, .. } => format!("gate {gate} of {rollout} is {verdict}"),
        Action::Approve { rollout, .. } => format!("approve {rollout}"),
        Action::Reject { rollout, .. } => format!("reject {rollout}"),
        Action::WithdrawApprovals { of } => format!("withdraw the approvals of {of}"),
        Action::RetryFailed { .. } => "retry".to_owned(),
        Action::SubmitEvidence { statement, .. } => {
            let Statement { name, commit, result, run, key, .. } = &**statement;
            let (commit, key) = (commit.as_str(), key.as_str());
            format!("evidence: {name} of {} {result} in run {run} by {}", &commit[36..], &key[60..])
        }
        Action::ResolveMigration { rollout, verdict, .. } => format!("resolve {rollout}: {verdict:?}"),
        Action::Lock { message, period, .. } => format!("lock for {} s: {message}", period.as_secs()),
        Action::Unlock { .. } => "unlock".to_owned(),
        Action::Enrol { host, .. } => format!("enrol {}", host.id),
        Action::RemoveContent { releases, .. } => format!("remove the files of {} releases", releases.len()),
        Action::Remove { host, .. } => format!("remove {host}"),
        Action::RepairDrift { host, .. } => format!("repair the drift of {host}"),
    }
}
