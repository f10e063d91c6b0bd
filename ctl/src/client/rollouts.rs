//! Rollouts: planned, begun, controlled, followed.

use landfall_common::assignment::RestartKind;
use landfall_common::{AppName, EnvName, ReleaseName};
use landfall_proto::v1;
use tonic::Streaming;

use super::request::{Anew, Control, Intent};
use super::{Client, request_id, status};
use crate::error::Error;
use crate::view;

impl Client {
    /// What a rollout would do.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn plan(&self, intent: &Intent) -> Result<view::Plan, Error> {
        let request = v1::PlanRolloutRequest {
            application: intent.application.to_string(),
            environment: intent.environment.to_string(),
            release: intent.release.to_string(),
            overrides: Some(intent.overrides.message()),
            no_way_back: intent.no_way_back,
            if_held: intent.if_held.message().into(),
            outside_window: intent.outside_window.clone(),
            proven_in: intent.proven_in.iter().map(ToString::to_string).collect(),
            unproven: intent.unproven.clone(),
            without_evidence: intent.without_evidence.clone(),
        };
        let answer = self.call(request, |mut o, q| async move { o.plan_rollout(q).await });
        answer.await.map(view::Plan::from)
    }

    /// Begins a rollout; `plan_id` empty for whatever the plan is.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn start(
        &self,
        intent: &Intent,
        plan_id: &str,
        changes: Vec<String>,
    ) -> Result<view::Rollout, Error> {
        let request = v1::StartRolloutRequest {
            request_id: request_id(),
            application: intent.application.to_string(),
            environment: intent.environment.to_string(),
            release: intent.release.to_string(),
            overrides: Some(intent.overrides.message()),
            no_way_back: intent.no_way_back,
            if_held: intent.if_held.message().into(),
            outside_window: intent.outside_window.clone(),
            proven_in: intent.proven_in.iter().map(ToString::to_string).collect(),
            unproven: intent.unproven.clone(),
            without_evidence: intent.without_evidence.clone(),
            plan_id: plan_id.to_owned(),
            changes,
        };
        let answer = self.call(request, |mut o, q| async move { o.start_rollout(q).await });
        present(answer.await?.rollout)
    }

    /// Goes back, to `release` or to the last one that was proven before.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn rollback(
        &self,
        application: &AppName,
        environment: &EnvName,
        release: Option<&ReleaseName>,
        reason: String,
    ) -> Result<view::Rollout, Error> {
        let request = v1::RollbackRequest {
            request_id: request_id(),
            application: application.to_string(),
            environment: environment.to_string(),
            release: release.map(ToString::to_string).unwrap_or_default(),
            reason,
        };
        let answer = self.call(request, |mut o, q| async move { o.rollback(q).await });
        present(answer.await?.rollout)
    }

    /// Rehearses the way back, by `release` or by the one that a rollback would go to.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn drill(
        &self,
        application: &AppName,
        environment: &EnvName,
        release: Option<&ReleaseName>,
    ) -> Result<view::Rollout, Error> {
        let request = v1::StartDrillRequest {
            request_id: request_id(),
            application: application.to_string(),
            environment: environment.to_string(),
            release: release.map(ToString::to_string).unwrap_or_default(),
        };
        let answer = self.call(request, |mut o, q| async move { o.start_drill(q).await });
        present(answer.await?.rollout)
    }

    /// Restarts or reloads services of the release in force.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn restart(&self, anew: &Anew) -> Result<view::Rollout, Error> {
        let kind = match anew.kind {
            RestartKind::Restart => v1::RestartKind::Restart,
            RestartKind::Reload => v1::RestartKind::Reload,
        };
        let request = v1::StartRestartRequest {
            request_id: request_id(),
            application: anew.application.to_string(),
            environment: anew.environment.to_string(),
            kind: kind.into(),
            services: anew.services.iter().map(ToString::to_string).collect(),
            reason: anew.reason.clone(),
            overrides: Some(anew.overrides.message()),
            outside_window: anew.outside_window.clone(),
        };
        let answer = self.call(request, |mut o, q| async move { o.start_restart(q).await });
        present(answer.await?.rollout)
    }

    /// Pauses, resumes, promotes, aborts, retries.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn control(
        &self,
        rollout: &str,
        control: Control,
        reason: String,
    ) -> Result<view::Rollout, Error> {
        let control = match control {
            Control::Pause => v1::Control::Pause,
            Control::Resume => v1::Control::Resume,
            Control::Abort => v1::Control::Abort,
            Control::RetryFailed => v1::Control::RetryFailed,
            Control::Promote => v1::Control::Promote,
        };
        let request = v1::ControlRolloutRequest {
            request_id: request_id(),
            rollout: rollout.to_owned(),
            control: control.into(),
            reason,
        };
        let answer = self.call(request, |mut o, q| async move { o.control_rollout(q).await });
        present(answer.await?.rollout)
    }

    /// Says yes to a rollout in line; `content` is what it was seen to bring.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn approve(
        &self,
        rollout: &str,
        content: String,
        reason: String,
    ) -> Result<view::Rollout, Error> {
        let rollout = rollout.to_owned();
        let request = v1::ApproveRolloutRequest { request_id: request_id(), rollout, content, reason };
        let answer = self.call(request, |mut o, q| async move { o.approve_rollout(q).await });
        present(answer.await?.rollout)
    }

    /// Says no to a rollout in line.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn reject(&self, rollout: &str, reason: String) -> Result<view::Rollout, Error> {
        let rollout = rollout.to_owned();
        let request = v1::RejectRolloutRequest { request_id: request_id(), rollout, reason };
        let answer = self.call(request, |mut o, q| async move { o.reject_rollout(q).await });
        present(answer.await?.rollout)
    }

    /// Says of a gate whether the batch that waits may begin, or this one if it is named.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn answer_gate(
        &self,
        rollout: &str,
        gate: &str,
        batch: Option<u32>,
        verdict: view::GateVerdict,
        reason: String,
    ) -> Result<view::Rollout, Error> {
        let request = v1::AnswerGateRequest {
            request_id: request_id(),
            rollout: rollout.to_owned(),
            gate: gate.to_owned(),
            verdict: v1::GateVerdict::from(verdict).into(),
            reason,
            batch: batch.unwrap_or_default(),
        };
        let answer = self.call(request, |mut o, q| async move { o.answer_gate(q).await });
        present(answer.await?.rollout)
    }

    /// Says how a migration of unknown outcome ended.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn resolve_migration(
        &self,
        rollout: &str,
        succeeded: bool,
        reason: String,
    ) -> Result<view::Rollout, Error> {
        let rollout = rollout.to_owned();
        let request = v1::ResolveMigrationRequest { request_id: request_id(), rollout, succeeded, reason };
        let answer = self.call(request, |mut o, q| async move { o.resolve_migration(q).await });
        present(answer.await?.rollout)
    }

    /// A rollout by its id.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn rollout(&self, id: &str) -> Result<view::Rollout, Error> {
        let request = v1::GetRolloutRequest { rollout: id.to_owned() };
        let answer = self.call(request, |mut o, q| async move { o.get_rollout(q).await });
        present(answer.await?.rollout)
    }

    /// Why a rollout, or a host, is as it is.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn explain(&self, subject: &str) -> Result<view::Account, Error> {
        use v1::explain_response::Account;
        let request = v1::ExplainRequest { subject: subject.to_owned() };
        let answer = self.call(request, |mut o, q| async move { o.explain(q).await });
        match answer.await?.account {
            Some(Account::Rollout(account)) => Ok(view::Account::Rollout(Box::new(account.into()))),
            Some(Account::Host(account)) => Ok(view::Account::Host(Box::new(account.into()))),
            None => Err(Error::Answer("it gives no account that this ctl knows".to_owned())),
        }
    }

    /// Rollouts, newest first.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn rollouts(
        &self,
        application: Option<&AppName>,
        environment: Option<&EnvName>,
        limit: u32,
    ) -> Result<Vec<view::Rollout>, Error> {
        let mut rollouts = Vec::new();
        let mut page_token = String::new();
        loop {
            let left = limit.saturating_sub(u32::try_from(rollouts.len()).unwrap_or(u32::MAX));
            let request = v1::ListRolloutsRequest {
                application: application.map(ToString::to_string).unwrap_or_default(),
                environment: environment.map(ToString::to_string).unwrap_or_default(),
                limit: left,
                page_token,
            };
            let answer = self.call(request, |mut o, q| async move { o.list_rollouts(q).await }).await?;
            rollouts.extend(answer.rollouts.into_iter().map(view::Rollout::from));
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                return Ok(rollouts);
            }
        }
    }

    /// The rollout now and at each change, until it has ended.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn watch(&self, id: &str) -> Result<Watch, Error> {
        let request = v1::WatchRolloutRequest { rollout: id.to_owned() };
        let answer = self.call(request, |mut o, q| async move { o.watch_rollout(q).await });
        Ok(Watch { stream: answer.await?, address: self.address.clone() })
    }
}

fn present(rollout: Option<v1::Rollout>) -> Result<view::Rollout, Error> {
    rollout.map(view::Rollout::from).ok_or_else(|| Error::Answer("it names no rollout".to_owned()))
}

/// A rollout that is being followed.
pub struct Watch {
    stream: Streaming<v1::WatchRolloutResponse>,
    address: String,
}

impl Watch {
    /// The next state; none when the rollout has ended.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when the connection breaks: watch again.
    pub async fn next(&mut self) -> Result<Option<view::Rollout>, Error> {
        let message = self.stream.message().await.map_err(|status| status::error(&status, &self.address))?;
        Ok(message.and_then(|message| message.rollout).map(view::Rollout::from))
    }
}
