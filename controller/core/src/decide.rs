//! The answer to a command of an operator.

use std::collections::BTreeSet;

use landfall_common::assignment::ReleaseRef;
use landfall_common::canonical;
use landfall_common::manifest::Origin;
use landfall_common::{Sha256, Timestamp};
use serde::Serialize;

use crate::command::{Action, Answer, Command};
use crate::log::{Actor, LogEvent, NewEntry};
use crate::output::{Decided, Output};
use crate::record::{Change, Content, HostRecord, Key, Place, Record, ReleaseRecord, RequestRecord};
use crate::refusal::Refusal;
use crate::retention;
use crate::state::State;

mod approve;
mod control;
mod drain;
mod evidence;
mod gate;
mod label;
mod leave_out;
mod lock;
mod start;

/// Answers a command: what changes because of it, or why it is refused. Nothing is changed here; run the
/// planner once the changes are applied.
///
/// # Errors
/// [`Refusal`]; then nothing has happened.
pub fn decide(state: &State, command: &Command, now: Timestamp) -> Result<Decided, Refusal> {
    let content = content(command);
    if let Some(known) = state.requests.get(&command.request) {
        if known.content != content {
            return Err(Refusal::RequestReused { request: command.request.clone() });
        }
        return Ok(Decided { answer: known.answer.clone(), output: Output::default() });
    }
    let mut draft = Draft { state, command, now, output: Output::default() };
    let answer = match &command.action {
        Action::Publish { release, signed_by } => draft.publish(release, signed_by),
        Action::Roll(request) => draft.roll(request),
        Action::RollBack { place, to, reason } => draft.roll_back(place, to.as_ref(), reason),
        Action::Drill { place, to } => draft.drill(place, to.as_ref()),
        Action::Restart(request) => draft.restart(request),
        Action::Pause { rollout, reason } => draft.pause(rollout, reason),
        Action::Resume { rollout, reason } => draft.resume(rollout, reason),
        Action::Abort { rollout, go_back, reason } => draft.abort(rollout, *go_back, reason),
        Action::Promote { rollout, reason } => draft.promote(rollout, reason),
        Action::Approve { rollout, content, reason } => draft.approve(rollout, *content, reason),
        Action::Reject { rollout, reason } => draft.reject(rollout, reason),
        Action::WithdrawApprovals { of } => Ok(draft.withdraw_approvals(of)),
        Action::AnswerGate { rollout, gate, batch, verdict, reason } => {
            draft.answer_gate(rollout, gate, *batch, *verdict, reason)
        }
        Action::SubmitEvidence { statement, signature } => draft.submit_evidence(statement, signature),
        Action::RetryFailed { place, rollout, reason } => draft.retry_failed(place, rollout.as_ref(), reason),
        Action::ResolveMigration { rollout, verdict, reason } => draft.resolve(rollout, *verdict, reason),
        Action::Enrol { host, token } => draft.enrol(host, token),
        Action::RemoveContent { releases, keep } => draft.remove_content(releases, *keep),
        Action::RepairDrift { host, reason } => draft.repair_drift(host, reason),
        Action::Exclude { hosts, rollout, reason } => draft.exclude(hosts, rollout.as_ref(), reason),
        Action::Include { hosts, reason } => draft.include(hosts, reason),
        Action::Cordon { hosts, reason } => draft.cordon(hosts, reason),
        Action::Uncordon { hosts, reason } => draft.uncordon(hosts, reason),
        Action::Drain { hosts, reason, beyond_budget } => draft.drain(hosts, reason, beyond_budget),
        Action::Undrain { hosts, reason } => draft.undrain(hosts, reason),
        Action::Label { hosts, set, removed, reason } => draft.label(hosts, (set, removed), reason),
        Action::Lock { place, message, period } => draft.lock(place, message, *period),
        Action::Unlock { place, reason } => draft.unlock(place, reason),
        Action::Remove { host, reason } => draft.remove(host, reason),
    }?;
    draft.put(Record::Request(RequestRecord {
        id: command.request.clone(),
        content,
        answer: answer.clone(),
        at: now,
    }));
    Ok(Decided { answer, output: draft.output })
}

/// What makes two requests the same: who asks and what for.
fn content(command: &Command) -> Sha256 {
    #[derive(Serialize)]
    struct Content<'a> {
        by: &'a Actor,
        action: &'a Action,
    }
    let content = Content { by: &command.by, action: &command.action };
    Sha256::of(&canonical::to_vec(&content).expect("made of names, numbers and digests only"))
}

/// An answer in the making.
struct Draft<'a> {
    state: &'a State,
    command: &'a Command,
    now: Timestamp,
    output: Output,
}

impl Draft<'_> {
    fn put(&mut self, record: Record) {
        self.output.changes.push(Change::Put { record });
    }

    fn delete(&mut self, key: Key) {
        self.output.changes.push(Change::Delete { key });
    }

    fn log(&mut self, event: LogEvent) {
        self.output.log.push(NewEntry {
            at: self.now,
            actor: self.command.by.clone(),
            origin: self.command.origin.clone(),
            event,
        });
    }

    fn publish(&mut self, release: &ReleaseRecord, signed_by: &[String]) -> Result<Answer, Refusal> {
        let application = &release.application;
        let ReleaseRef { name, counter, digest, .. } = &release.release;
        if let Some(known) = self.state.release(application, name) {
            if known.release.digest == *digest {
                self.content_is_here(known);
                return Ok(Answer::Accepted);
            }
            return Err(Refusal::ReleaseDiffers {
                application: application.clone(),
                release: name.clone(),
                counter: known.release.counter.0,
            });
        }
        if let Some(taken) = self.state.releases(application).find(|r| r.release.counter == *counter) {
            return Err(Refusal::CounterTaken {
                application: application.clone(),
                counter: counter.0,
                taken: taken.release.name.clone(),
            });
        }
        self.follows_an_older_one(release)?;
        let (commit, author) = match &release.origin {
            Origin::Git { commit, author, .. } => (Some(commit.clone()), Some(author.clone())),
            Origin::Artifact { commit } => (commit.clone(), None),
        };
        self.log(LogEvent::ReleasePublished {
            application: application.clone(),
            release: release.release.clone(),
            commit,
            author,
            signed_by: signed_by.to_vec(),
        });
        self.put(Record::Release(Box::new(release.clone())));
        Ok(Answer::Accepted)
    }

    /// What a release says it follows must be there, and be older, or hosts could never come to it.
    fn follows_an_older_one(&self, release: &ReleaseRecord) -> Result<(), Refusal> {
        let Some(follows) = &release.follows else { return Ok(()) };
        let (name, stop) = (&release.release.name, &follows.release);
        let not = |reason: &str| Refusal::Follows {
            release: name.clone(),
            follows: stop.clone(),
            reason: reason.to_owned(),
        };
        if stop == name {
            return Err(not("which is itself"));
        }
        let known = self.state.release(&release.application, stop);
        let known = known.ok_or_else(|| not("which is not published here"))?;
        if known.release.counter != follows.counter {
            let reason = format!(
                "which is number {}, and not number {} as was signed",
                known.release.counter, follows.counter
            );
            return Err(not(&reason));
        }
        if follows.counter >= release.release.counter {
            return Err(not("which is newer"));
        }
        Ok(())
    }

    /// Its files were uploaded anew.
    fn content_is_here(&mut self, known: &ReleaseRecord) {
        if known.content.removed_at().is_none() {
            return;
        }
        let content = Content::Restored { at: self.now };
        self.log(LogEvent::ContentRestored {
            application: known.application.clone(),
            release: known.release.clone(),
        });
        self.put(Record::Release(Box::new(ReleaseRecord { content, ..known.clone() })));
    }

    fn remove_content(
        &mut self,
        releases: &BTreeSet<retention::Named>,
        keep: usize,
    ) -> Result<Answer, Refusal> {
        let state = self.state;
        for (application, name) in retention::surplus(state, keep, self.now).intersection(releases) {
            let Some(known) = state.release(application, name) else { continue };
            self.log(LogEvent::ContentRemoved {
                application: application.clone(),
                release: known.release.clone(),
            });
            let content = Content::Removed { at: self.now };
            self.put(Record::Release(Box::new(ReleaseRecord { content, ..known.clone() })));
        }
        Ok(Answer::Accepted)
    }

    fn enrol(&mut self, host: &HostRecord, token: &str) -> Result<Answer, Refusal> {
        let before = self.state.host(&host.id);
        let known = before.map(|known| &known.record);
        if let Some(known) = known.filter(|known| known.place != host.place) {
            return Err(Refusal::HostElsewhere { host: host.id.clone(), place: known.place.clone() });
        }
        let place = self.state.place(&host.place);
        if place.is_none() {
            let place = crate::record::PlaceRecord::new(host.place.clone());
            self.put(Record::Place(Box::new(place)));
        }
        // One that joins anew is left alone all the same. Of one that nothing is known of, it is not known either who led its
        // requests away, if somebody did: they come back to what is in force.
        let words = |known: &HostRecord| (known.cordon.clone(), known.drain.clone(), known.led_away.clone());
        let newest = || place.and_then(|place| place.newest_rollout()).cloned();
        let (cordon, drain, led_away) = known.map_or_else(|| (None, None, newest()), words);
        self.put(Record::Host(HostRecord { cordon, drain, led_away, ..host.clone() }));
        self.log(LogEvent::HostEnrolled {
            host: host.id.clone(),
            application: host.place.application.clone(),
            environment: host.place.environment.clone(),
            token: token.to_owned(),
        });
        let labelled = before.filter(|before| before.record.labels != host.labels);
        self.regroup(labelled.map(|before| (before.clone(), host.labels.clone())).as_slice());
        Ok(Answer::Accepted)
    }

    fn repair_drift(&mut self, host: &landfall_common::HostId, reason: &str) -> Result<Answer, Refusal> {
        let known = self.state.host(host).ok_or_else(|| Refusal::NoSuchHost { host: host.clone() })?;
        let Place { application, environment } = known.record.place.clone();
        let (host, reason) = (host.clone(), reason.to_owned());
        self.log(LogEvent::DriftRepairRequested { host, application, environment, reason });
        Ok(Answer::Accepted)
    }

    fn remove(&mut self, host: &landfall_common::HostId, reason: &str) -> Result<Answer, Refusal> {
        let no_such_host = || Refusal::NoSuchHost { host: host.clone() };
        let known = self.state.host(host).ok_or_else(no_such_host)?;
        let place = self.state.place(&known.record.place);
        let rollouts = place.into_iter().flat_map(|place| place.holder.iter().chain(&place.last));
        for rollout in rollouts {
            if self.state.members.get(rollout).is_some_and(|members| members.contains_key(host)) {
                self.delete(Key::Member(rollout.clone(), host.clone()));
            }
        }
        self.delete(Key::Issued(host.clone()));
        self.delete(Key::Host(host.clone()));
        self.log(LogEvent::HostRemoved { host: host.clone(), reason: reason.to_owned() });
        Ok(Answer::Accepted)
    }
}
