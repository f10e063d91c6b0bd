//! What operators and other programs call. Each noun has its file; here every method is only unwrapped, once
//! [`admission`] has let it in.

mod admission;
mod analysis;
pub(crate) mod approvals;
pub(crate) mod drift;
mod environments;
mod evidence;
mod explain;
mod gates;
pub(crate) mod hosts;
mod info;
mod label;
mod leave_out;
mod log;
mod migrations;
mod objects;
mod page;
pub(crate) mod people;
mod program;
mod releases;
mod restart;
mod rollouts;
mod runbook;
mod shown;
mod stops;
mod tokens;

use std::sync::Arc;

use landfall_proto::v1 as pb;
use landfall_proto::v1::operators_server::Operators;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use super::Context;
use crate::error::ControllerError;

pub use tokens::create as create_token;

/// The service.
pub struct OperatorsService(pub Arc<Context>);

type Answer<T> = Result<Response<T>, Status>;

/// Does something to its end, also when whoever asked hangs up: a call is dropped then wherever it waits, and
/// between the commit and the memory that must agree with it.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, ControllerError>> + Send + 'static,
) -> Answer<T> {
    let done = tokio::spawn(work).await.map_err(|_| ControllerError::Stopping)?;
    Ok(Response::new(done?))
}

#[tonic::async_trait]
impl Operators for OperatorsService {
    type GetObjectStream = BoxStream<pb::GetObjectResponse>;
    type StreamOutputStream = BoxStream<pb::StreamOutputResponse>;
    type WatchRolloutStream = BoxStream<pb::WatchRolloutResponse>;

    async fn get_info(&self, request: Request<pb::GetInfoRequest>) -> Answer<pb::GetInfoResponse> {
        let (caller, _) = self.admit(request).await?;
        Ok(Response::new(info::get(&self.0, &caller)))
    }

    async fn publish_root(
        &self,
        request: Request<pb::PublishRootRequest>,
    ) -> Answer<pb::PublishRootResponse> {
        let (context, (caller, request)) = (self.0.clone(), self.admit(request).await?);
        to_its_end(async move { releases::publish_root(&context, &caller, request).await }).await
    }

    async fn get_repository_file(
        &self,
        request: Request<pb::GetRepositoryFileRequest>,
    ) -> Answer<pb::GetRepositoryFileResponse> {
        let (_, pb::GetRepositoryFileRequest { name }) = self.admit(request).await?;
        let content = self.0.repository.file(&name).ok_or_else(|| super::agents::no_file(&name))?;
        Ok(Response::new(pb::GetRepositoryFileResponse { content: content.to_vec() }))
    }

    async fn missing_objects(
        &self,
        request: Request<pb::MissingObjectsRequest>,
    ) -> Answer<pb::MissingObjectsResponse> {
        let (_, request) = self.admit(request).await?;
        Ok(Response::new(objects::missing(&self.0, request).await?))
    }

    async fn put_objects(
        &self,
        request: Request<Streaming<pb::PutObjectsRequest>>,
    ) -> Answer<pb::PutObjectsResponse> {
        let (_, request) = self.admit(request).await?;
        Ok(Response::new(objects::put(&self.0, request).await?))
    }

    async fn get_object(&self, request: Request<pb::GetObjectRequest>) -> Answer<Self::GetObjectStream> {
        let (_, request) = self.admit(request).await?;
        Ok(Response::new(objects::get(&self.0, &request).await?))
    }

    async fn publish_release(
        &self,
        request: Request<pb::PublishReleaseRequest>,
    ) -> Answer<pb::PublishReleaseResponse> {
        let (context, (caller, request)) = (self.0.clone(), self.admit(request).await?);
        to_its_end(async move { releases::publish(&context, &caller, request).await }).await
    }

    async fn list_releases(
        &self,
        request: Request<pb::ListReleasesRequest>,
    ) -> Answer<pb::ListReleasesResponse> {
        let (caller, request) = self.admit(request).await?;
        Ok(Response::new(releases::list(&self.0, caller.rights(), request).await?))
    }

    async fn get_release(&self, request: Request<pb::GetReleaseRequest>) -> Answer<pb::GetReleaseResponse> {
        let (caller, request) = self.admit(request).await?;
        Ok(Response::new(releases::get(&self.0, caller.rights(), request).await?))
    }

    async fn plan_rollout(
        &self,
        request: Request<pb::PlanRolloutRequest>,
    ) -> Answer<pb::PlanRolloutResponse> {
        let (_, request) = self.admit(request).await?;
        Ok(Response::new(rollouts::plan(&self.0, request).await?))
    }

    async fn start_rollout(
        &self,
        request: Request<pb::StartRolloutRequest>,
    ) -> Answer<pb::StartRolloutResponse> {
        let (caller, request) = self.admit(request).await?;
        let rollout = rollouts::start(&self.0, &caller, request).await?;
        Ok(Response::new(pb::StartRolloutResponse { rollout: Some(rollout) }))
    }

    async fn rollback(&self, request: Request<pb::RollbackRequest>) -> Answer<pb::RollbackResponse> {
        let (caller, request) = self.admit(request).await?;
        let rollout = rollouts::roll_back(&self.0, &caller, request).await?;
        Ok(Response::new(pb::RollbackResponse { rollout: Some(rollout) }))
    }

    async fn start_drill(&self, request: Request<pb::StartDrillRequest>) -> Answer<pb::StartDrillResponse> {
        let (caller, request) = self.admit(request).await?;
        let rollout = rollouts::drill(&self.0, &caller, request).await?;
        Ok(Response::new(pb::StartDrillResponse { rollout: Some(rollout) }))
    }

    async fn start_restart(
        &self,
        request: Request<pb::StartRestartRequest>,
    ) -> Answer<pb::StartRestartResponse> {
        let (caller, request) = self.admit(request).await?;
        let rollout = restart::start(&self.0, &caller, request).await?;
        Ok(Response::new(pb::StartRestartResponse { rollout: Some(rollout) }))
    }

    async fn control_rollout(
        &self,
        request: Request<pb::ControlRolloutRequest>,
    ) -> Answer<pb::ControlRolloutResponse> {
        let (caller, request) = self.admit(request).await?;
        let rollout = rollouts::control(&self.0, &caller, request).await?;
        Ok(Response::new(pb::ControlRolloutResponse { rollout: Some(rollout) }))
    }

    async fn approve_rollout(
        &self,
        request: Request<pb::ApproveRolloutRequest>,
    ) -> Answer<pb::ApproveRolloutResponse> {
        let (caller, request) = self.admit(request).await?;
        let rollout = approvals::approve(&self.0, &caller, request).await?;
        Ok(Response::new(pb::ApproveRolloutResponse { rollout: Some(rollout) }))
    }

    async fn reject_rollout(
        &self,
        request: Request<pb::RejectRolloutRequest>,
    ) -> Answer<pb::RejectRolloutResponse> {
        let (caller, request) = self.admit(request).await?;
        let rollout = approvals::reject(&self.0, &caller, request).await?;
        Ok(Response::new(pb::RejectRolloutResponse { rollout: Some(rollout) }))
    }

    async fn answer_gate(&self, request: Request<pb::AnswerGateRequest>) -> Answer<pb::AnswerGateResponse> {
        let (caller, request) = self.admit(request).await?;
        let rollout = gates::answer(&self.0, &caller, request).await?;
        Ok(Response::new(pb::AnswerGateResponse { rollout: Some(rollout) }))
    }

    async fn submit_evidence(
        &self,
        request: Request<pb::SubmitEvidenceRequest>,
    ) -> Answer<pb::SubmitEvidenceResponse> {
        let (caller, request) = self.admit(request).await?;
        Ok(Response::new(evidence::submit(&self.0, &caller, request).await?))
    }

    async fn list_evidence(
        &self,
        request: Request<pb::ListEvidenceRequest>,
    ) -> Answer<pb::ListEvidenceResponse> {
        let (_, request) = self.admit(request).await?;
        Ok(Response::new(evidence::list(&self.0, request).await?))
    }

    async fn exclude_hosts(
        &self,
        request: Request<pb::ExcludeHostsRequest>,
    ) -> Answer<pb::ExcludeHostsResponse> {
        let (caller, request) = self.admit(request).await?;
        let rollout = leave_out::exclude(&self.0, &caller, request).await?;
        Ok(Response::new(pb::ExcludeHostsResponse { rollout }))
    }

    async fn include_hosts(
        &self,
        request: Request<pb::IncludeHostsRequest>,
    ) -> Answer<pb::IncludeHostsResponse> {
        let (caller, request) = self.admit(request).await?;
        let rollout = leave_out::include(&self.0, &caller, request).await?;
        Ok(Response::new(pb::IncludeHostsResponse { rollout }))
    }

    async fn cordon_hosts(
        &self,
        request: Request<pb::CordonHostsRequest>,
    ) -> Answer<pb::CordonHostsResponse> {
        let (caller, request) = self.admit(request).await?;
        let hosts = leave_out::cordon(&self.0, &caller, request).await?;
        Ok(Response::new(pb::CordonHostsResponse { hosts }))
    }

    async fn uncordon_hosts(
        &self,
        request: Request<pb::UncordonHostsRequest>,
    ) -> Answer<pb::UncordonHostsResponse> {
        let (caller, request) = self.admit(request).await?;
        let hosts = leave_out::uncordon(&self.0, &caller, request).await?;
        Ok(Response::new(pb::UncordonHostsResponse { hosts }))
    }

    async fn label_hosts(&self, request: Request<pb::LabelHostsRequest>) -> Answer<pb::LabelHostsResponse> {
        let (caller, request) = self.admit(request).await?;
        label::asked(&self.0, &caller, request).await.map(Response::new).map_err(Into::into)
    }

    async fn drain_hosts(&self, request: Request<pb::DrainHostsRequest>) -> Answer<pb::DrainHostsResponse> {
        let (caller, request) = self.admit(request).await?;
        let hosts = leave_out::drain(&self.0, &caller, request).await?;
        Ok(Response::new(pb::DrainHostsResponse { hosts }))
    }

    async fn undrain_hosts(
        &self,
        request: Request<pb::UndrainHostsRequest>,
    ) -> Answer<pb::UndrainHostsResponse> {
        let (caller, request) = self.admit(request).await?;
        let hosts = leave_out::undrain(&self.0, &caller, request).await?;
        Ok(Response::new(pb::UndrainHostsResponse { hosts }))
    }

    async fn resolve_migration(
        &self,
        request: Request<pb::ResolveMigrationRequest>,
    ) -> Answer<pb::ResolveMigrationResponse> {
        let (caller, request) = self.admit(request).await?;
        let rollout = rollouts::resolve(&self.0, &caller, request).await?;
        Ok(Response::new(pb::ResolveMigrationResponse { rollout: Some(rollout) }))
    }

    async fn lock_environment(
        &self,
        request: Request<pb::LockEnvironmentRequest>,
    ) -> Answer<pb::LockEnvironmentResponse> {
        let (caller, request) = self.admit(request).await?;
        let environment = environments::lock(&self.0, &caller, request).await?;
        Ok(Response::new(pb::LockEnvironmentResponse { environment: Some(environment) }))
    }

    async fn unlock_environment(
        &self,
        request: Request<pb::UnlockEnvironmentRequest>,
    ) -> Answer<pb::UnlockEnvironmentResponse> {
        let (caller, request) = self.admit(request).await?;
        let environment = environments::unlock(&self.0, &caller, request).await?;
        Ok(Response::new(pb::UnlockEnvironmentResponse { environment: Some(environment) }))
    }

    async fn list_environments(
        &self,
        request: Request<pb::ListEnvironmentsRequest>,
    ) -> Answer<pb::ListEnvironmentsResponse> {
        let (caller, request) = self.admit(request).await?;
        Ok(Response::new(environments::list(&self.0, caller.rights(), request).await?))
    }

    async fn get_rollout(&self, request: Request<pb::GetRolloutRequest>) -> Answer<pb::GetRolloutResponse> {
        let (_, request) = self.admit(request).await?;
        let id = super::convert::rollout_id(&request.rollout)?;
        let rollout = rollouts::get(&self.0, &id).await?;
        Ok(Response::new(pb::GetRolloutResponse { rollout: Some(rollout) }))
    }

    async fn list_rollouts(
        &self,
        request: Request<pb::ListRolloutsRequest>,
    ) -> Answer<pb::ListRolloutsResponse> {
        let (caller, request) = self.admit(request).await?;
        Ok(Response::new(rollouts::list(&self.0, caller.rights(), request).await?))
    }

    async fn watch_rollout(
        &self,
        request: Request<pb::WatchRolloutRequest>,
    ) -> Answer<Self::WatchRolloutStream> {
        let (_, request) = self.admit(request).await?;
        let id = super::convert::rollout_id(&request.rollout)?;
        Ok(Response::new(rollouts::watch(self.0.clone(), id).await?))
    }

    async fn explain(&self, request: Request<pb::ExplainRequest>) -> Answer<pb::ExplainResponse> {
        let (caller, request) = self.admit(request).await?;
        Ok(Response::new(explain::explain(&self.0, &caller, request).await?))
    }

    async fn get_runbook(&self, request: Request<pb::GetRunbookRequest>) -> Answer<pb::GetRunbookResponse> {
        let (_, request) = self.admit(request).await?;
        Ok(Response::new(runbook::get(&self.0, request).await?))
    }

    async fn list_hosts(&self, request: Request<pb::ListHostsRequest>) -> Answer<pb::ListHostsResponse> {
        let (caller, request) = self.admit(request).await?;
        Ok(Response::new(hosts::list(&self.0, caller.rights(), request).await?))
    }

    async fn list_drift(&self, request: Request<pb::ListDriftRequest>) -> Answer<pb::ListDriftResponse> {
        let (caller, request) = self.admit(request).await?;
        Ok(Response::new(drift::list(&self.0, caller.rights(), request).await?))
    }

    async fn repair_drift(
        &self,
        request: Request<pb::RepairDriftRequest>,
    ) -> Answer<pb::RepairDriftResponse> {
        let (context, (caller, request)) = (self.0.clone(), self.admit(request).await?);
        to_its_end(async move { drift::repair(&context, &caller, request).await }).await
    }

    async fn stream_output(
        &self,
        request: Request<pb::StreamOutputRequest>,
    ) -> Answer<Self::StreamOutputStream> {
        let (_, request) = self.admit(request).await?;
        Ok(Response::new(super::outputs::stream(&self.0, request).await?))
    }

    async fn create_token(
        &self,
        request: Request<pb::CreateTokenRequest>,
    ) -> Answer<pb::CreateTokenResponse> {
        let (caller, request) = self.admit(request).await?;
        Ok(Response::new(tokens::asked(&self.0, &caller, request).await?))
    }

    async fn remove_host(&self, request: Request<pb::RemoveHostRequest>) -> Answer<pb::RemoveHostResponse> {
        let (context, (caller, request)) = (self.0.clone(), self.admit(request).await?);
        to_its_end(async move { hosts::remove(&context, &caller, request).await }).await
    }

    async fn list_operators(
        &self,
        request: Request<pb::ListOperatorsRequest>,
    ) -> Answer<pb::ListOperatorsResponse> {
        self.admit(request).await?;
        Ok(Response::new(people::list(&self.0).await?))
    }

    async fn remove_operator(
        &self,
        request: Request<pb::RemoveOperatorRequest>,
    ) -> Answer<pb::RemoveOperatorResponse> {
        let (context, (caller, request)) = (self.0.clone(), self.admit(request).await?);
        to_its_end(async move { people::remove(&context, &caller, request).await }).await
    }

    async fn read_log(&self, request: Request<pb::ReadLogRequest>) -> Answer<pb::ReadLogResponse> {
        let (caller, request) = self.admit(request).await?;
        Ok(Response::new(log::read(&self.0, &caller, request).await?))
    }

    async fn get_checkpoint(
        &self,
        request: Request<pb::GetCheckpointRequest>,
    ) -> Answer<pb::GetCheckpointResponse> {
        let (_, request) = self.admit(request).await?;
        Ok(Response::new(log::checkpoint(&self.0, request).await?))
    }
}
