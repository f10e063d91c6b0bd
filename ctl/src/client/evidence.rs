//! Evidence, handed in and read.

use landfall_common::AppName;
use landfall_common::evidence::CommitId;
use landfall_proto::v1;
use landfall_trust::evidence::Evidence;

use super::{Client, request_id};
use crate::error::Error;
use crate::view;

impl Client {
    /// Hands in what CI says of a commit.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn submit_evidence(&self, evidence: &Evidence) -> Result<(), Error> {
        let request = v1::SubmitEvidenceRequest { request_id: request_id(), document: evidence.to_bytes() };
        self.call(request, |mut o, q| async move { o.submit_evidence(q).await }).await.map(drop)
    }

    /// What CI has said last of the commits of an application, or of one of them, each verified here; and how much more
    /// there is.
    ///
    /// # Errors
    /// As [`Client::info`], and [`Error::Answer`] for what its key has not signed.
    pub async fn evidence(
        &self,
        application: &AppName,
        commit: Option<&CommitId>,
        limit: u32,
    ) -> Result<(Vec<view::Evidence>, u32), Error> {
        let commit = commit.map(ToString::to_string).unwrap_or_default();
        let request = v1::ListEvidenceRequest { application: application.to_string(), commit, limit };
        let answer = self.call(request, |mut o, q| async move { o.list_evidence(q).await }).await?;
        let verified = answer.evidence.into_iter().map(view::Evidence::verify);
        let verified = verified.collect::<Result<_, _>>().map_err(Error::Answer)?;
        Ok((verified, answer.more))
    }
}
