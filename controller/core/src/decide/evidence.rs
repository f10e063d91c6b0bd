//! Evidence that is handed in.

use landfall_common::evidence::{Statement, Verdict};

use crate::command::Answer;
use crate::evidence::{self, EvidenceRecord, Said};
use crate::log::LogEvent;
use crate::record::{Key, Record};
use crate::refusal::Refusal;

use super::Draft;

impl Draft<'_> {
    /// Takes a statement, whose signature is verified already. The run is a fence: of one key an older one is refused, and a
    /// success of the same after a failure, so that nobody undoes a failure with a success of before. A failure is taken
    /// that comes in the same run after a success: several jobs of a run may speak under one name, and one that has
    /// failed outweighs those that have not. The same result of the same run changes nothing.
    pub(super) fn submit_evidence(
        &mut self,
        statement: &Statement,
        signature: &str,
    ) -> Result<Answer, Refusal> {
        let (application, said) = (&statement.application, Said::from(statement));
        let has_place = self.state.places().any(|place| place.place.application == *application);
        if !has_place && self.state.releases(application).next().is_none() {
            return Err(Refusal::NoSuchApplication { application: application.clone() });
        }
        let statements = self.state.evidence.get(application);
        let known = statements.and_then(|statements| statements.get(&said));
        if let Some(EvidenceRecord { statement: known, .. }) = known {
            // Said twice, as by a job that was tried again before its answer came.
            if known.run == statement.run && known.result == statement.result {
                return Ok(Answer::Accepted);
            }
            let fails = known.result == Verdict::Passed && statement.result == Verdict::Failed;
            if statement.run < known.run || (statement.run == known.run && !fails) {
                return Err(Refusal::EvidenceOutrun {
                    name: statement.name.clone(),
                    commit: statement.commit.clone(),
                    run: statement.run,
                    known: known.run,
                    result: known.result,
                });
            }
        }
        for surplus in evidence::surplus(self.state, application, statement) {
            self.delete(Key::Evidence(application.clone(), surplus));
        }
        let newest = statements.and_then(|all| all.values().map(|record| record.number).max());
        self.log(LogEvent::EvidenceSubmitted {
            application: application.clone(),
            commit: statement.commit.clone(),
            name: statement.name.clone(),
            result: statement.result,
            run: statement.run,
            key: statement.key.clone(),
            url: statement.url.clone(),
        });
        self.put(Record::Evidence(Box::new(EvidenceRecord {
            statement: statement.clone(),
            signature: signature.to_owned(),
            by: self.command.by.clone(),
            at: self.now,
            number: newest.unwrap_or_default() + 1,
        })));
        Ok(Answer::Accepted)
    }
}
