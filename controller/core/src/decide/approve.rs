//! Yes and no to a rollout that stands in line for approvals.

use landfall_common::{OperatorName, RolloutId, Sha256};

use crate::approval::{self, Approval};
use crate::command::Answer;
use crate::log::{Actor, LogEvent};
use crate::record::Record;
use crate::refusal::Refusal;
use crate::rollout::Rollout;

use super::Draft;

impl Draft<'_> {
    /// Notes that whoever asks approves what he saw. Who has approved it already is answered in the same way.
    pub(super) fn approve(&mut self, id: &RolloutId, seen: Sha256, reason: &str) -> Result<Answer, Refusal> {
        let mut rollout = self.to_be_approved(id)?;
        let by = &self.command.by;
        if rollout.by == *by {
            return Err(Refusal::OwnApproval { rollout: id.clone(), by: by.to_string() });
        }
        if approval::content(&rollout) != Some(seen) {
            return Err(Refusal::OtherThanSeen { rollout: id.clone() });
        }
        let answer = Answer::Rollout { id: id.clone() };
        if rollout.approvals.iter().any(|approval| approval.by == *by) {
            return Ok(answer);
        }
        let approval = Approval { by: by.clone(), at: self.now, reason: reason.to_owned() };
        rollout.approvals.push(approval);
        self.log(LogEvent::RolloutApproved {
            rollout: id.clone(),
            release: rollout.release.clone(),
            content: seen,
            reason: reason.to_owned(),
        });
        self.put(Record::Rollout(Box::new(rollout)));
        Ok(answer)
    }

    /// Ends it, for a reason.
    pub(super) fn reject(&mut self, id: &RolloutId, reason: &str) -> Result<Answer, Refusal> {
        self.to_be_approved(id)?;
        if reason.trim().is_empty() {
            return Err(Refusal::RejectedWithoutReason { rollout: id.clone() });
        }
        self.log(LogEvent::RolloutRejected { rollout: id.clone(), reason: reason.to_owned() });
        self.leave_line(id, &format!("it was rejected: {reason}"))
    }

    /// Somebody is no operator any more: what has not begun by his word needs another one.
    pub(super) fn withdraw_approvals(&mut self, of: &OperatorName) -> Answer {
        let his = Actor::Operator(of.clone());
        for rollout in self.state.rollouts().filter(|rollout| rollout.in_line().is_some()) {
            let mut rollout = rollout.clone();
            let before = rollout.approvals.len();
            rollout.approvals.retain(|approval| approval.by != his);
            if rollout.approvals.len() < before {
                self.log(LogEvent::ApprovalWithdrawn { rollout: rollout.id.clone(), of: of.clone() });
                self.put(Record::Rollout(Box::new(rollout)));
            }
        }
        Answer::Accepted
    }

    /// A rollout in line for which somebody must say yes.
    fn to_be_approved(&self, id: &RolloutId) -> Result<Rollout, Refusal> {
        let rollout = self.unfinished(id)?;
        let wrong =
            |reason| Refusal::WrongStatus { rollout: id.clone(), status: rollout.status.word(), reason };
        if rollout.in_line().is_none() {
            return Err(wrong("it has begun; `ctl rollback` goes back, `ctl abort` ends it where it is"));
        }
        if approval::needed(self.state, &self.place_of(rollout), &rollout.release) == 0 {
            return Err(wrong("nobody has to approve it; `ctl abort` ends it"));
        }
        Ok(rollout.clone())
    }
}
