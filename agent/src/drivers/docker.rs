//! The driver for containers of the host's Docker.
//!
//! Each release has a container of its own, named after everything that it is to be, which is never changed: a
//! handover makes the new one and removes the old one. A container that publishes no port runs beside the old one
//! until it has proven itself, and when it fails the old one still runs. One with a port of the host cannot: the
//! old one is stopped before, by its own deadline, and when the new one fails neither runs. Slots give each an
//! address of its own.
//!
//! Until it has proven itself, Docker is told not to start a container again: what fails is told, with its last
//! lines, and stays to be looked at until the next one succeeds. Afterwards Docker starts it whenever it ends, and
//! after a reboot.

mod client;
mod drift;
mod fate;
mod images;
mod outage;
mod registries;
mod request;
mod saved;
pub mod settings;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use landfall_agent_core::drift::beside::Things;
use landfall_common::manifest::Container;
use landfall_common::report::Failure;
use landfall_common::time::human;
use landfall_common::{ServiceName, Sha256};
use tokio::time::Instant;

pub use drift::strangers;
pub use settings::Settings;

use super::note::{Incarnations, Note, Notes, Trouble};
use super::{Driver, DriverHost, DriverState, last_lines};
use crate::drivers;
use crate::steps::StepContext;
use client::{Client, DockerError, Health, Phase, Seen, label};
use fate::{Fate, fate};
use images::{ImageError, Images};
use outage::Patience;
use request::Request;

/// How often a container that changes is looked at.
const POLL: Duration = Duration::from_millis(100);

/// What a process that was killed leaves as its exit code.
const KILLED: i64 = 137;

/// A service of Docker's.
pub(super) struct Docker<'a> {
    pub host: &'a DriverHost,
    pub name: &'a ServiceName,
    pub context: &'a StepContext,
    pub container: &'a Container,
}

#[async_trait]
impl Driver for Docker<'_> {
    async fn activate(&self, release: Sha256, attempt: &str) -> Result<(), Failure> {
        tokio::select! {
            biased;
            () = self.context.cancel.cancelled() => {
                Err(self.fail("cancelled; Docker goes on with what it was told last"))
            }
            ended = self.replace_patiently(release, attempt, false) => ended,
        }
    }

    /// A container of the release is named after it: it is stopped before the new one is made.
    async fn restart(&self, release: Sha256, attempt: &str) -> Result<(), Failure> {
        tokio::select! {
            biased;
            () = self.context.cancel.cancelled() => {
                Err(self.fail("cancelled; Docker goes on with what it was told last"))
            }
            ended = self.replace_patiently(release, attempt, true) => ended,
        }
    }

    async fn deactivate(&self) -> Result<(), Failure> {
        let mut patience = Patience::default();
        while let Err(trouble) = self.end_all().await {
            patience.wait(self.name, trouble).await?;
        }
        self.notes().remove();
        Ok(())
    }

    async fn differs(&self, release: Sha256, _applied: Option<&Things>) -> Result<drivers::Seen, String> {
        self.seen(release).await
    }

    async fn set_limits(&self, release: Sha256) -> Result<(), Failure> {
        self.limit(release).await
    }

    async fn status(&self) -> DriverState {
        match self.look().await {
            Ok((docker, seen)) => self.state(&docker, &seen).await,
            Err(error) => DriverState::Unknown { reason: error.to_string() },
        }
    }

    /// Brings the image, if it comes from a registry or was fetched already.
    async fn stage(&self) -> Result<(), Failure> {
        request::check(self.container, &self.host.docker, self.context)
            .map_err(|error| self.failed(&error))?;
        // One that was never there is not waited for.
        self.connect().await.map_err(Trouble::into_failure)?;
        let mut patience = Patience::default();
        while let Err(trouble) = self.bring_image().await {
            patience.wait(self.name, trouble).await?;
        }
        Ok(())
    }
}

impl Docker<'_> {
    fn notes(&self) -> Notes {
        self.host.notes(self.context, self.name)
    }

    fn fail(&self, reason: impl Into<String>) -> Failure {
        super::fail(self.name, reason)
    }

    fn failed(&self, error: &(dyn std::error::Error + 'static)) -> Failure {
        self.fail(format!("service {}: {}", self.name, crate::error::chain(error)))
    }

    /// Docker's refusal is final; anything else may be otherwise the next time.
    fn trouble(&self, error: &DockerError) -> Trouble {
        self.weighed(Some(error), self.failed(error))
    }

    fn image_trouble(&self, error: &ImageError) -> Trouble {
        self.weighed(error.docker(), self.failed(error))
    }

    fn weighed(&self, cause: Option<&DockerError>, failure: Failure) -> Trouble {
        match cause {
            Some(cause) if cause.is_away() => Trouble::Away(failure),
            Some(cause) if !cause.is_final() => Trouble::Unclear(failure),
            _ => Trouble::Failed(failure),
        }
    }

    async fn judged(&self, docker: &Client, trouble: Trouble) -> Trouble {
        outage::judge(trouble, docker, &self.host.docker.socket).await
    }

    fn refused(&self, refusal: &request::Refusal) -> Trouble {
        Trouble::Failed(self.failed(refusal))
    }

    async fn connect(&self) -> Result<Client, Trouble> {
        Client::connect(&self.host.docker.socket).await.map_err(|error| self.trouble(&error))
    }

    /// `/srv/<app>`.
    fn directory(&self) -> &Path {
        let directory = &self.context.directory;
        directory.parent().and_then(Path::parent).unwrap_or(directory)
    }

    fn images<'c>(&'c self, docker: &'c Client) -> Images<'c> {
        Images {
            docker,
            application: &self.context.identity.application,
            environment: &self.context.identity.environment,
            directory: self.directory(),
            credentials: self.host.docker.credentials.as_deref(),
        }
    }

    /// The service's containers. Labels alone do not tell: one that somebody made of a copy of ours has them too.
    async fn list(&self, docker: &Client) -> Result<Vec<Seen>, DockerError> {
        let identity = &self.context.identity;
        let labels = [
            (label::APPLICATION, identity.application.as_str()),
            (label::ENVIRONMENT, identity.environment.as_str()),
            (label::SERVICE, self.name.as_str()),
        ];
        let prefix = request::prefix(self.context, self.name);
        let mut seen = docker.list(&labels).await?;
        seen.retain(|container| container.name.starts_with(&prefix));
        Ok(seen)
    }

    /// That no container of the application that runs could lead astray what this one mounts, nor this one it.
    async fn check_beside(&self, docker: &Client, request: &Request) -> Result<(), Trouble> {
        let application = self.context.identity.application.as_str();
        let seen = docker.list(&[(label::APPLICATION, application)]).await;
        let seen = seen.map_err(|error| self.trouble(&error))?;
        let others = seen.into_iter().filter(|other| other.is_up() && other.name != request.name);
        let binds: Vec<_> =
            request.binds.iter().cloned().chain(others.flat_map(|other| other.binds)).collect();
        request::check_nesting(&binds).map_err(|refusal| self.refused(&refusal))
    }

    async fn look(&self) -> Result<(Client, Vec<Seen>), DockerError> {
        let docker = Client::connect(&self.host.docker.socket).await?;
        let seen = self.list(&docker).await?;
        Ok((docker, seen))
    }

    async fn bring_image(&self) -> Result<(), Trouble> {
        let docker = self.connect().await?;
        // Releases that have gone make room for this one.
        self.sweep(&docker).await;
        let images = self.images(&docker);
        if images.is_fetched(&self.container.image, &self.context.directory) {
            let ensured = images.ensure(&self.container.image, &self.context.directory).await;
            if let Err(error) = ensured {
                return Err(self.judged(&docker, self.image_trouble(&error)).await);
            }
        }
        Ok(())
    }

    async fn end_all(&self) -> Result<(), Trouble> {
        let docker = self.connect().await?;
        for container in &self.list(&docker).await.map_err(|error| self.trouble(&error))? {
            self.end(&docker, container).await.map_err(|error| self.trouble(&error))?;
        }
        Ok(())
    }

    async fn replace_patiently(&self, release: Sha256, attempt: &str, anew: bool) -> Result<(), Failure> {
        let mut patience = Patience::default();
        while let Err(trouble) = self.replace(release, attempt, anew, patience.was_needed()).await {
            patience.wait(self.name, trouble).await?;
        }
        Ok(())
    }

    /// `was_away`: containers of this attempt may have ended with Docker, and not by themselves.
    async fn replace(
        &self,
        release: Sha256,
        attempt: &str,
        anew: bool,
        was_away: bool,
    ) -> Result<(), Trouble> {
        let docker = self.connect().await?;
        let request = match self.request(&docker, release).await {
            Ok(request) => request,
            Err(trouble) => return Err(self.judged(&docker, trouble).await),
        };
        let seen = self.list(&docker).await.map_err(|error| self.trouble(&error))?;
        let (notes, fail) = (self.notes(), |reason: String| self.fail(reason));
        let all = incarnations(&seen, |_| true);
        let begun = if anew {
            notes.begin_anew(release, attempt, all, fail)
        } else {
            let running = incarnations(&seen, |container| container.phase == Phase::Up);
            notes.begin(release, attempt, all, running, fail)
        };
        let note = begun.map_err(Trouble::Failed)?;
        let ended = match self.renew(&docker, &note, request, seen, was_away).await {
            Ok(running) => Ok(running),
            Err(trouble) => match self.judged(&docker, trouble).await {
                away @ Trouble::Away(_) => return Err(away),
                trouble => Err(trouble),
            },
        };
        self.notes().end(note, ended, |reason| self.fail(reason)).map_err(Trouble::Failed)?;
        self.sweep(&docker).await;
        Ok(())
    }

    /// The image, what is asked for, and the volumes: all that can be had before anything that runs is touched.
    async fn request(&self, docker: &Client, release: Sha256) -> Result<Request, Trouble> {
        let image = self.images(docker).ensure(&self.container.image, &self.context.directory).await;
        let image = image.map_err(|error| self.image_trouble(&error))?;
        let settings = &self.host.docker;
        let request = request::request(self.container, settings, self.context, self.name, release, &image);
        let request = request.map_err(|refusal| self.refused(&refusal))?;
        self.check_beside(docker, &request).await?;
        self.make_volumes(docker, &request, release).await?;
        Ok(request)
    }

    async fn sweep(&self, docker: &Client) {
        match self.images(docker).sweep().await {
            Ok(0) => {}
            Ok(count) => {
                tracing::info!(service = %self.name, count, "images that no release needs are removed");
            }
            Err(error) => {
                let error = crate::error::chain(&error);
                tracing::warn!(service = %self.name, error, "old images cannot be removed; it is tried again");
            }
        }
    }

    /// Volumes of ours carry the application's and the environment's names as labels; others are somebody's data.
    async fn make_volumes(&self, docker: &Client, request: &Request, release: Sha256) -> Result<(), Trouble> {
        let own = request::labels(self.context, self.name, release);
        let is_own = |labels: &BTreeMap<String, String>| {
            [label::APPLICATION, label::ENVIRONMENT].iter().all(|key| labels.get(*key) == own.get(*key))
        };
        for name in request.volumes.iter().filter(|name| !self.host.docker.volumes.contains(name)) {
            match docker.volume(name).await.map_err(|error| self.trouble(&error))? {
                Some(labels) if is_own(&labels) => {}
                Some(_) => return Err(self.refused(&request::Refusal::Volume(name.clone()))),
                None => {
                    let made = docker.make_volume(name, own.clone()).await;
                    made.map_err(|error| self.trouble(&error))?;
                }
            }
        }
        Ok(())
    }

    /// Makes the container of the release run, and removes every other of the service.
    async fn renew(
        &self,
        docker: &Client,
        note: &Note,
        request: Request,
        seen: Vec<Seen>,
        was_away: bool,
    ) -> Result<Incarnations, Trouble> {
        let is_new = |container: &Seen| note.before.get(&container.name) != Some(&container.id);
        let (own, others): (Vec<_>, Vec<_>) =
            seen.into_iter().partition(|container| container.name == request.name);
        let mut own = own.into_iter().next();
        if let Some(container) = &own {
            let was_cut = was_away || fate::is_of_an_earlier_boot(container.started_at);
            let is_of_use = match fate(container, is_new(container), was_cut) {
                Fate::Keep if note.anew && !is_new(container) => {
                    docker.stop(container).await.map_err(|error| self.trouble(&error))?;
                    false
                }
                Fate::Keep => true,
                Fate::Renew => false,
                Fate::Failed => return Err(Trouble::Failed(self.give_up(docker, container).await)),
            };
            if !is_of_use {
                docker.remove(&container.id).await.map_err(|error| self.trouble(&error))?;
                own = None;
            }
        }
        let container = match own {
            Some(container) => container,
            None => docker.create(&request.name, request.body).await.map_err(|error| self.trouble(&error))?,
        };
        self.check_limits(docker, &container).await?;
        if request.is_alone {
            for other in others.iter().filter(|other| other.is_up()) {
                docker.stop(other).await.map_err(|error| self.trouble(&error))?;
            }
        }
        if container.phase == Phase::Created
            && let Err(error) = docker.start(&container.id).await
        {
            return Err(self.trouble(&error));
        }
        if container.phase == Phase::Created || container.on_trial {
            self.prove(docker, &container).await?;
            docker.keep_up(&container.id).await.map_err(|error| self.trouble(&error))?;
        }
        for other in &others {
            self.end(docker, other).await.map_err(|error| self.trouble(&error))?;
        }
        Ok([(container.name, container.id)].into())
    }

    /// Some kernels leave limits out; Docker then drops them with a warning that nobody reads.
    async fn check_limits(&self, docker: &Client, container: &Seen) -> Result<(), Trouble> {
        let asked = self.container;
        let memory = asked.memory_bytes.is_some() && container.memory == 0;
        let cpus = asked.cpus_milli.is_some() && container.nano_cpus == 0;
        let pids = asked.pids.is_some() && container.pids <= 0;
        let dropped = [(memory, "memory"), (cpus, "cpus"), (pids, "pids")];
        let Some((_, key)) = dropped.into_iter().find(|(is_dropped, _)| *is_dropped) else { return Ok(()) };
        let _ = docker.remove(&container.id).await;
        let reason = format!(
            "service {}: Docker on this host does not hold the limit `{key}`; see `docker info`",
            self.name
        );
        Err(Trouble::Failed(self.fail(reason)))
    }

    /// Stops a container, if it runs, and removes it.
    async fn end(&self, docker: &Client, container: &Seen) -> Result<(), DockerError> {
        if container.is_up() {
            docker.stop(container).await?;
        }
        docker.remove(&container.id).await
    }

    /// Waits until a container that was started is up to stay, or healthy where it says so itself.
    async fn prove(&self, docker: &Client, container: &Seen) -> Result<(), Trouble> {
        let settled = Instant::now() + self.container.settle;
        let late = Instant::now() + self.container.timeout;
        loop {
            let now = docker.look(&container.id).await.map_err(|error| self.trouble(&error))?;
            let Some(now) = now else {
                let reason =
                    format!("service {}: {} was removed by somebody else", self.name, container.name);
                return Err(Trouble::Failed(self.fail(reason)));
            };
            let is_proven = match (now.phase, &now.health) {
                (Phase::Up, None) => Instant::now() >= settled,
                (Phase::Up, Some(Health::Healthy)) => true,
                (Phase::Up, Some(Health::Starting)) if Instant::now() < late => false,
                _ => return Err(Trouble::Failed(self.give_up(docker, &now).await)),
            };
            if is_proven {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Stops a container that failed, and tells how it did; it stays for whoever wants to look at it.
    async fn give_up(&self, docker: &Client, container: &Seen) -> Failure {
        let mut failure = self.fail(format!("service {}: {}", self.name, self.sentence(container)));
        failure.exit_code = (container.phase == Phase::Ended)
            .then(|| i32::try_from(container.exit_code).ok())
            .flatten()
            .filter(|_| container.error.is_empty());
        failure.tail = docker.tail(&container.id).await;
        if container.is_up() {
            // Why it failed is the greater trouble.
            let _ = docker.stop(container).await;
        }
        failure
    }

    /// How a container is that does not serve.
    fn sentence(&self, container: &Seen) -> String {
        let name = &container.name;
        match (container.phase, &container.health) {
            (Phase::Up, Some(Health::Unhealthy(said))) if said.is_empty() => {
                format!("{name} is unhealthy by its image's HEALTHCHECK")
            }
            (Phase::Up, Some(Health::Unhealthy(said))) => {
                format!("{name} is unhealthy by its image's HEALTHCHECK: {said}")
            }
            (Phase::Up, _) => {
                format!("{name} is not healthy after {}", human::format(self.container.timeout))
            }
            (Phase::Created, _) if !container.error.is_empty() => {
                format!("{name} could not be started: {}", container.error)
            }
            (Phase::Created, _) => format!("{name} was not started"),
            (Phase::Restarting | Phase::Ended, _) => {
                let how = match container.exit_code {
                    _ if !container.error.is_empty() => format!("could not be started: {}", container.error),
                    _ if container.ran_out_of_memory => "ran out of memory".to_owned(),
                    KILLED => "was killed".to_owned(),
                    code => format!("exited with code {code}"),
                };
                let again =
                    if container.phase == Phase::Restarting { ", and Docker starts it again" } else { "" };
                format!("{name} {how}{again}")
            }
        }
    }

    async fn state(&self, docker: &Client, seen: &[Seen]) -> DriverState {
        let up = seen.iter().filter(|container| container.phase == Phase::Up);
        // While one takes the place of the other, the older one serves.
        if let Some(container) = up.min_by_key(|container| (container.on_trial, container.started_at)) {
            return match &container.health {
                Some(Health::Unhealthy(_)) => DriverState::Failing { reason: self.sentence(container) },
                Some(Health::Starting) => DriverState::Starting,
                None | Some(Health::Healthy) if container.on_trial => DriverState::Starting,
                None | Some(Health::Healthy) => DriverState::Running {
                    release: container.release,
                    restarts: container.restarts,
                    roots: Some(container.roots()),
                },
            };
        }
        // The one that was tried last; what was stopped for it is there as well.
        let last = seen.iter().max_by_key(|container| (container.on_trial, container.started_at));
        match last {
            None => DriverState::Stopped,
            Some(container) if container.phase == Phase::Created && container.error.is_empty() => {
                DriverState::Starting
            }
            Some(container) => {
                let said = docker.tail(&container.id).await.pop();
                let said = said.map(|line| format!(": {line}")).unwrap_or_default();
                DriverState::Failing { reason: format!("{}{said}", self.sentence(container)) }
            }
        }
    }
}

/// Those of which `wanted` holds. A container that is made anew has another id.
fn incarnations(seen: &[Seen], wanted: impl Fn(&Seen) -> bool) -> Incarnations {
    let wanted = seen.iter().filter(|container| wanted(container));
    wanted.map(|container| (container.name.clone(), container.id.clone())).collect()
}
