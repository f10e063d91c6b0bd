//! Hosts: how they are, what on them drifted, what they write.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::{AppName, EnvName, HostId, ServiceName, StepName};
use landfall_proto::v1;
use tonic::Streaming;

use super::{Client, request_id, status};
use crate::error::Error;
use crate::view;

impl Client {
    /// What a step or a service of a host has written from so many lines before the end on, and with `follow` what
    /// it writes.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn output(
        &self,
        host: &HostId,
        step: Option<&StepName>,
        service: Option<&ServiceName>,
        lines: u32,
        follow: bool,
    ) -> Result<Written, Error> {
        let step = step.map(|step| v1::source::Source::Step(step.to_string()));
        let source = step.or_else(|| service.map(|service| v1::source::Source::Service(service.to_string())));
        let source = Some(v1::Source { source });
        let request = v1::StreamOutputRequest { host: host.to_string(), source, lines, follow };
        let answer = self.call(request, |mut o, q| async move { o.stream_output(q).await });
        Ok(Written { stream: answer.await?, address: self.address.clone() })
    }

    /// Enrolled hosts.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn hosts(
        &self,
        application: Option<&AppName>,
        environment: Option<&EnvName>,
    ) -> Result<Vec<view::Host>, Error> {
        let mut hosts = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = v1::ListHostsRequest {
                application: application.map(ToString::to_string).unwrap_or_default(),
                environment: environment.map(ToString::to_string).unwrap_or_default(),
                page_token,
            };
            let answer = self.call(request, |mut o, q| async move { o.list_hosts(q).await }).await?;
            hosts.extend(answer.hosts.into_iter().map(view::Host::from));
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                return Ok(hosts);
            }
        }
    }

    /// What on hosts is not as it was applied, and in which facts they differ.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn drift(
        &self,
        application: Option<&AppName>,
        environment: Option<&EnvName>,
        host: Option<&str>,
    ) -> Result<view::DriftReport, Error> {
        let (mut report, mut page_token) = (view::DriftReport::default(), String::new());
        loop {
            let request = v1::ListDriftRequest {
                application: application.map(ToString::to_string).unwrap_or_default(),
                environment: environment.map(ToString::to_string).unwrap_or_default(),
                host: host.unwrap_or_default().to_owned(),
                page_token,
            };
            let answer = self.call(request, |mut o, q| async move { o.list_drift(q).await }).await?;
            report.hosts.extend(answer.hosts.into_iter().map(view::HostDrift::from));
            report.facts.extend(answer.facts.into_iter().map(view::FactDifference::from));
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                return Ok(report);
            }
        }
    }

    /// Has a host put right what is signed; the id by which it says what came of that.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn repair_drift(&self, host: &str, reason: String) -> Result<String, Error> {
        let id = request_id();
        let request = v1::RepairDriftRequest { request_id: id.clone(), host: host.to_owned(), reason };
        self.call(request, |mut o, q| async move { o.repair_drift(q).await }).await?;
        Ok(id)
    }

    /// Leaves hosts alone until they are uncordoned.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn cordon(&self, hosts: &[HostId], reason: String) -> Result<Vec<view::Host>, Error> {
        let hosts = hosts.iter().map(ToString::to_string).collect();
        let request = v1::CordonHostsRequest { request_id: request_id(), hosts, reason };
        let answer = self.call(request, |mut o, q| async move { o.cordon_hosts(q).await }).await?;
        Ok(answer.hosts.into_iter().map(view::Host::from).collect())
    }

    /// Treats them like any other again.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn uncordon(&self, hosts: &[HostId], reason: String) -> Result<Vec<view::Host>, Error> {
        let hosts = hosts.iter().map(ToString::to_string).collect();
        let request = v1::UncordonHostsRequest { request_id: request_id(), hosts, reason };
        let answer = self.call(request, |mut o, q| async move { o.uncordon_hosts(q).await }).await?;
        Ok(answer.hosts.into_iter().map(view::Host::from).collect())
    }

    /// Has requests led away from hosts, which are cordoned with that; `beyond_budget` says why more of them may be out
    /// than the budget allows, and is empty if they may not.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn drain(
        &self,
        hosts: &[HostId],
        reason: String,
        beyond_budget: String,
    ) -> Result<Vec<view::Host>, Error> {
        let hosts = hosts.iter().map(ToString::to_string).collect();
        let request = v1::DrainHostsRequest { request_id: request_id(), hosts, reason, beyond_budget };
        let answer = self.call(request, |mut o, q| async move { o.drain_hosts(q).await }).await?;
        Ok(answer.hosts.into_iter().map(view::Host::from).collect())
    }

    /// Has requests led back to them once they are healthy.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn undrain(&self, hosts: &[HostId], reason: String) -> Result<Vec<view::Host>, Error> {
        let hosts = hosts.iter().map(ToString::to_string).collect();
        let request = v1::UndrainHostsRequest { request_id: request_id(), hosts, reason };
        let answer = self.call(request, |mut o, q| async move { o.undrain_hosts(q).await }).await?;
        Ok(answer.hosts.into_iter().map(view::Host::from).collect())
    }

    /// Sets labels of hosts and takes others away; the hosts as they are with that, and their parts in rollouts.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn label(
        &self,
        hosts: &[HostId],
        (set, remove): (BTreeMap<String, String>, BTreeSet<String>),
        reason: String,
    ) -> Result<(Vec<view::Host>, Vec<view::HostPart>), Error> {
        let request = v1::LabelHostsRequest {
            request_id: request_id(),
            hosts: hosts.iter().map(ToString::to_string).collect(),
            set: set.into_iter().collect(),
            remove: remove.into_iter().collect(),
            reason,
        };
        let answer = self.call(request, |mut o, q| async move { o.label_hosts(q).await }).await?;
        let parts = answer.parts.into_iter().map(view::HostPart::from).collect();
        Ok((answer.hosts.into_iter().map(view::Host::from).collect(), parts))
    }

    /// Leaves hosts out of a rollout; `rollout` empty for the one under way where they are.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn exclude(
        &self,
        hosts: &[HostId],
        rollout: Option<&str>,
        reason: String,
    ) -> Result<Option<view::Rollout>, Error> {
        let request = v1::ExcludeHostsRequest {
            request_id: request_id(),
            hosts: hosts.iter().map(ToString::to_string).collect(),
            rollout: rollout.unwrap_or_default().to_owned(),
            reason,
        };
        let answer = self.call(request, |mut o, q| async move { o.exclude_hosts(q).await });
        Ok(answer.await?.rollout.map(view::Rollout::from))
    }

    /// Lets excluded hosts take part again; the rollout in which they have a part.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn include(&self, hosts: &[HostId], reason: String) -> Result<Option<view::Rollout>, Error> {
        let hosts = hosts.iter().map(ToString::to_string).collect();
        let request = v1::IncludeHostsRequest { request_id: request_id(), hosts, reason };
        let answer = self.call(request, |mut o, q| async move { o.include_hosts(q).await });
        Ok(answer.await?.rollout.map(view::Rollout::from))
    }

    /// Denies a host from now on and forgets it.
    ///
    /// # Errors
    /// As [`Client::info`].
    pub async fn remove_host(&self, host: &str, reason: String) -> Result<(), Error> {
        let request = v1::RemoveHostRequest { request_id: request_id(), host: host.to_owned(), reason };
        self.call(request, |mut o, q| async move { o.remove_host(q).await }).await.map(drop)
    }
}

/// Output that is being read.
pub struct Written {
    stream: Streaming<v1::StreamOutputResponse>,
    address: String,
}

impl Written {
    /// The next piece, cut anywhere; none at the end.
    ///
    /// # Errors
    /// [`Error::Refused`] if the host has no such output or does not answer, [`Error::Unreachable`] when the
    /// connection breaks.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let message = self.stream.message().await.map_err(|status| status::error(&status, &self.address))?;
        Ok(message.map(|message| message.data))
    }
}
