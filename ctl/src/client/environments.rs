//! Environments: what is in force, who holds the place, and locks.

use std::time::Duration;

use landfall_common::{AppName, EnvName};
use landfall_proto::v1;
use tonic::Code;

use super::{Client, request_id};
use crate::error::Error;
use crate::view;

impl Client {
    /// Claims an environment for a while.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn lock(
        &self,
        application: &AppName,
        environment: &EnvName,
        message: String,
        period: Duration,
    ) -> Result<view::Environment, Error> {
        let request = v1::LockEnvironmentRequest {
            request_id: request_id(),
            application: application.to_string(),
            environment: environment.to_string(),
            message,
            valid_for_ms: u64::try_from(period.as_millis()).unwrap_or(u64::MAX),
        };
        let answer = self.call(request, |mut o, q| async move { o.lock_environment(q).await });
        present(answer.await?.environment)
    }

    /// Gives it up again, or takes it from whoever has claimed it.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn unlock(
        &self,
        application: &AppName,
        environment: &EnvName,
        reason: String,
    ) -> Result<view::Environment, Error> {
        let request = v1::UnlockEnvironmentRequest {
            request_id: request_id(),
            application: application.to_string(),
            environment: environment.to_string(),
            reason,
        };
        let answer = self.call(request, |mut o, q| async move { o.unlock_environment(q).await });
        present(answer.await?.environment)
    }

    /// How one would go back in an environment now.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn runbook(
        &self,
        application: &AppName,
        environment: &EnvName,
    ) -> Result<view::Runbook, Error> {
        let request = v1::GetRunbookRequest {
            application: application.to_string(),
            environment: environment.to_string(),
        };
        let answer = self.call(request, |mut o, q| async move { o.get_runbook(q).await });
        let missing = || Error::Answer("it holds no runbook".to_owned());
        answer.await?.runbook.map(view::Runbook::from).ok_or_else(missing)
    }

    /// Environments that have hosts; none of a controller that does not know of them yet.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn environments(
        &self,
        application: Option<&AppName>,
        environment: Option<&EnvName>,
    ) -> Result<Vec<view::Environment>, Error> {
        let request = v1::ListEnvironmentsRequest {
            application: application.map(ToString::to_string).unwrap_or_default(),
            environment: environment.map(ToString::to_string).unwrap_or_default(),
        };
        match self.call(request, |mut o, q| async move { o.list_environments(q).await }).await {
            Ok(answer) => Ok(answer.environments.into_iter().map(view::Environment::from).collect()),
            // A controller that is older has no locks and no queues, and all else in this is told elsewhere.
            Err(Error::Refused(refusal)) if refusal.code == Code::Unimplemented => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

fn present(environment: Option<v1::Environment>) -> Result<view::Environment, Error> {
    let missing = || Error::Answer("it names no environment".to_owned());
    environment.map(view::Environment::from).ok_or_else(missing)
}
