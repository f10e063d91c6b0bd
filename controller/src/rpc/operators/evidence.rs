//! Evidence: what CI says of commits, taken, shown, and held against what a plan asks for.

use landfall_common::evidence::CommitId;
use landfall_controller_core::command::Action;
use landfall_controller_core::evidence::{self, EvidenceRecord};
use landfall_controller_core::preview::Plan;
use landfall_proto::v1 as pb;
use landfall_trust::TrustError;
use landfall_trust::evidence::Evidence;

use super::rollouts::command;
use crate::error::ControllerError;
use crate::reactor::{Along, View};
use crate::rpc::{Caller, Context, convert};

/// Statements in a list whose asker does not say how many.
const DEFAULT_LIMIT: usize = 50;

/// The most statements in an answer.
const MAX_LIMIT: usize = 500;

/// A document that was handed in, verified.
///
/// # Errors
/// [`Reason::InvalidArgument`](crate::error::Reason::InvalidArgument).
pub(super) fn read(document: &[u8]) -> Result<Evidence, ControllerError> {
    let refused = |error: TrustError| {
        let cause = std::error::Error::source(&error).map_or(String::new(), |cause| format!(": {cause}"));
        let next = "`ctl evidence sign` writes one that is taken";
        ControllerError::invalid(format!("the evidence is not taken: {error}{cause}; {next}"))
    };
    Evidence::parse(document).map_err(refused)
}

pub(super) async fn submit(
    context: &Context,
    caller: &Caller,
    request: pb::SubmitEvidenceRequest,
) -> Result<pb::SubmitEvidenceResponse, ControllerError> {
    let Evidence { statement, signature } = read(&request.document)?;
    let action = Action::SubmitEvidence { statement: Box::new(statement), signature };
    let command = command(context, caller, &request.request_id, action)?;
    context.reactor.command(command, Along::default()).await?;
    Ok(pb::SubmitEvidenceResponse {})
}

pub(super) async fn list(
    context: &Context,
    request: pb::ListEvidenceRequest,
) -> Result<pb::ListEvidenceResponse, ControllerError> {
    let application = convert::application(&request.application)?;
    let invalid = |error: landfall_common::ids::InvalidName| ControllerError::invalid(error.to_string());
    let commit = match &*request.commit {
        "" => None,
        commit => Some(CommitId::new(commit).map_err(invalid)?),
    };
    let limit = match request.limit as usize {
        0 => DEFAULT_LIMIT,
        limit => limit.min(MAX_LIMIT),
    };
    let look = move |view: &View<'_>| {
        let all = view.state.evidence(&application);
        let is_wanted = |record: &&EvidenceRecord| {
            commit.as_ref().is_none_or(|commit| record.statement.commit == *commit)
        };
        let mut wanted: Vec<&EvidenceRecord> = all.filter(is_wanted).collect();
        wanted.sort_by_key(|record| std::cmp::Reverse(record.number));
        let more = wanted.len().saturating_sub(limit);
        wanted.truncate(limit);
        let evidence = wanted.into_iter().map(message).collect();
        pb::ListEvidenceResponse { evidence, more: u32::try_from(more).unwrap_or(u32::MAX) }
    };
    context.reactor.read(look).await
}

fn message(record: &EvidenceRecord) -> pb::Evidence {
    let EvidenceRecord { statement, signature, by, at, .. } = record.clone();
    let document = Evidence { statement, signature }.to_bytes();
    pb::Evidence { document, by: by.to_string(), at_ms: at.ms() }
}

/// What a plan needs to begin, and whether it is there.
pub(super) fn planned(view: &View<'_>, plan: &Plan) -> Vec<pb::PlannedEvidence> {
    let Some(place) = view.state.place(&plan.place) else { return Vec::new() };
    let piece = |(name, found): (&landfall_common::EvidenceName, Result<_, Box<evidence::Lacking>>)| {
        let statement: Option<&landfall_common::evidence::Statement> = found.as_ref().ok().copied();
        pb::PlannedEvidence {
            name: name.to_string(),
            run: statement.map_or(0, |statement| statement.run),
            key: statement.map(|statement| statement.key.to_string()).unwrap_or_default(),
            url: statement.map(|statement| statement.url.clone()).unwrap_or_default(),
            why_not: found.as_ref().err().map(ToString::to_string).unwrap_or_default(),
        }
    };
    evidence::pieces(view.state, place, &plan.release).map(piece).collect()
}
