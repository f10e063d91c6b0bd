//! The containers of a service beside what was signed, through the Engine API.
//!
//! What a container is to be is made out of the manifest as if it were to be started now ([`request`]), and each of its
//! settings is held against what Docker says of the one that runs. What the image gives belongs to it: variables,
//! command and user that the manifest leaves to it.

use std::collections::{BTreeMap, BTreeSet};

use bollard::models::{
    ContainerInspectResponse, ContainerUpdateBody, HealthConfig, HostConfig, ImageConfig, ImageInspect,
    Mount, PortBinding, RestartPolicy, RestartPolicyNameEnum,
};
use landfall_agent_core::drift::beside::container::{
    self, CPUS, Container, MEMORY, Must, PIDS, RESTART, UNLIMITED,
};
use landfall_agent_core::drift::beside::{Settings, Things, Value};
use landfall_agent_core::drift::{Finding, Kind, Remedy};
use landfall_common::Sha256;
use landfall_common::manifest::{Driver, Service};
use landfall_common::report::Failure;

use super::client::{Client, label};
use super::request::{self, Request};
use super::{Docker, DockerError, client};
use crate::drivers::{DriverHost, Seen};
use crate::error::chain;
use crate::steps::StepContext;

/// What an image that is gone is put right by.
const IMAGE_GONE: &str =
    "what runs goes on; the next release, or a start of this one, brings the image again";

/// The network that a container without one of its own has.
const OTHERS_NETWORK: &str = "container:";

impl Docker<'_> {
    /// In what the containers of the service differ from what was signed.
    ///
    /// # Errors
    /// Why Docker cannot be asked, or what is to be cannot be made out.
    pub(super) async fn seen(&self, release: Sha256) -> Result<Seen, String> {
        let docker = Client::connect(&self.host.docker.socket).await.map_err(|error| chain(&error))?;
        let all = self.list(&docker).await.map_err(|error| chain(&error))?;
        let Some((request, image)) = self.signed(&docker, release).await? else {
            // Without the image nothing can be said of its containers but whether one of the release runs.
            let runs = all.iter().any(|seen| seen.is_up() && seen.release == Some(release));
            return Ok(Seen { findings: vec![self.no_image(runs)], applied: Things::new() });
        };
        let name = served(&all, &request, release);
        let mut containers = Vec::new();
        for seen in &all {
            let is_own = seen.name == name;
            let inspected = if is_own { self.inspect(&docker, seen).await? } else { None };
            containers.push(Container {
                name: seen.name.clone(),
                service: self.name.to_string(),
                is_up: seen.is_up(),
                how: self.sentence(seen),
                settings: inspected.map(|answer| of_container(&answer)).unwrap_or_default(),
            });
        }
        let settings = of_request(&request, &image);
        let must = Must { service: self.name, name: &name, settings: &settings };
        Ok(Seen { findings: container::findings(&must, &containers), applied: Things::new() })
    }

    /// Sets the limits of the container that serves to what is signed, and that Docker starts it again.
    ///
    /// # Errors
    /// [`Failure`].
    pub(super) async fn limit(&self, release: Sha256) -> Result<(), Failure> {
        let failed = |reason: String| self.fail(format!("service {}: {reason}", self.name));
        let docker = Client::connect(&self.host.docker.socket).await.map_err(|error| self.failed(&error))?;
        let all = self.list(&docker).await.map_err(|error| self.failed(&error))?;
        let signed = self.signed(&docker, release).await.map_err(failed)?;
        let Some((request, _)) = signed else { return Err(failed("its image is not here".to_owned())) };
        let name = served(&all, &request, release);
        let Some(own) = all.iter().find(|seen| seen.name == name && seen.is_up()) else {
            return Err(failed(format!("{name} does not run")));
        };
        let host = request.body.host_config.unwrap_or_default();
        let body = ContainerUpdateBody {
            memory: host.memory,
            // Docker's own default, without which more memory than before is refused.
            memory_swap: host.memory.map(|bytes| bytes.saturating_mul(2)),
            nano_cpus: host.nano_cpus,
            // The only limit that can be taken away again.
            pids_limit: host.pids_limit.or((own.pids > 0).then_some(-1)),
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::UNLESS_STOPPED),
                maximum_retry_count: None,
            }),
            ..ContainerUpdateBody::default()
        };
        docker.update(&own.id, body).await.map_err(|error| self.failed(&error))
    }

    /// The container that is to be, and the image that it is made of; `None` if that is not here.
    async fn signed(
        &self,
        docker: &Client,
        release: Sha256,
    ) -> Result<Option<(Request, ImageInspect)>, String> {
        let id = self.images(docker).known(&self.container.image).await.map_err(|error| chain(&error))?;
        let Some(id) = id else { return Ok(None) };
        let image = client::found(docker.docker.inspect_image(&id)).await.map_err(|error| chain(&error))?;
        let Some(image) = image else { return Ok(None) };
        let settings = &self.host.docker;
        let request = request::request(self.container, settings, self.context, self.name, release, &id);
        request.map(|request| Some((request, image))).map_err(|refusal| chain(&refusal))
    }

    async fn inspect(
        &self,
        docker: &Client,
        seen: &client::Seen,
    ) -> Result<Option<ContainerInspectResponse>, String> {
        docker.inspect(&seen.id).await.map_err(|error| chain(&error))
    }

    fn no_image(&self, runs: bool) -> Finding {
        let remedy = if runs {
            Remedy::ByHand { what: IMAGE_GONE.into() }
        } else {
            Remedy::Start { service: self.name.clone() }
        };
        let detail = "the image that is signed is not in Docker any more".to_owned();
        let path = format!("docker image of {}", self.name).into();
        Finding { path, kind: Kind::Missing, detail, remedy }
    }
}

/// Containers of the application's that belong to none of its services, where it has any in containers.
///
/// # Errors
/// Why Docker cannot be asked.
pub async fn strangers<'s>(
    host: &DriverHost,
    services: impl Iterator<Item = &'s Service>,
    context: &StepContext,
) -> Result<Vec<Finding>, String> {
    let (mut names, mut has_containers) = (BTreeSet::new(), false);
    for service in services {
        has_containers |= matches!(service.driver, Driver::Docker(_));
        names.insert(service.name.to_string());
    }
    if !has_containers {
        return Ok(Vec::new());
    }
    let seen = all(host, context).await.map_err(|error| chain(&error))?;
    Ok(container::extra(&names, &seen))
}

/// The containers of the application that its agent has made: labels alone do not tell.
async fn all(host: &DriverHost, context: &StepContext) -> Result<Vec<Container>, DockerError> {
    let identity = &context.identity;
    let docker = Client::connect(&host.docker.socket).await?;
    let labels = [
        (label::APPLICATION, identity.application.as_str()),
        (label::ENVIRONMENT, identity.environment.as_str()),
    ];
    let seen = docker.list(&labels).await?;
    let container = |seen: client::Seen| {
        let service = seen.labels.get(label::SERVICE)?.parse().ok()?;
        let is_ours = seen.name.starts_with(&request::prefix(context, &service));
        let (is_up, how, settings) = (seen.is_up(), String::new(), Settings::new());
        is_ours.then(|| Container { name: seen.name, service: service.to_string(), is_up, how, settings })
    };
    Ok(seen.into_iter().filter_map(container).collect())
}

/// The name of the container that is to serve. One that an agent of another version made of the same release may have
/// another name: what it is to be is held against it all the same.
fn served(all: &[client::Seen], request: &Request, release: Sha256) -> String {
    if all.iter().any(|seen| seen.name == request.name && seen.is_up()) {
        return request.name.clone();
    }
    let other = all.iter().find(|seen| seen.is_up() && seen.release == Some(release));
    other.map_or_else(|| request.name.clone(), |seen| seen.name.clone())
}

/// What a container is to be, or is, as far as both can tell.
#[derive(Default)]
struct Parts<'a> {
    image: Option<&'a str>,
    command: &'a [String],
    entrypoint: &'a [String],
    user: Option<&'a str>,
    directory: Option<&'a str>,
    environment: BTreeMap<&'a str, &'a str>,
    health: Option<&'a HealthConfig>,
    stop_timeout: Option<i64>,
    labels: BTreeMap<&'a str, &'a str>,
    host: Option<&'a HostConfig>,
    networks: Vec<&'a str>,
    restart: String,
}

fn of_request(request: &Request, image: &ImageInspect) -> Settings {
    let body = &request.body;
    let nothing = ImageConfig::default();
    let given = image.config.as_ref().unwrap_or(&nothing);
    let own = |own: &'_ Option<Vec<String>>| own.is_some();
    let mut environment = variables(given.env.as_deref());
    environment.extend(variables(body.env.as_deref()));
    let network = body.host_config.as_ref().and_then(|host| host.network_mode.as_deref());
    settings(&Parts {
        image: body.image.as_deref(),
        command: if own(&body.cmd) { list(&body.cmd) } else { list(&given.cmd) },
        entrypoint: list(&given.entrypoint),
        user: body.user.as_deref().or(given.user.as_deref()),
        directory: given.working_dir.as_deref(),
        environment,
        health: given.healthcheck.as_ref(),
        stop_timeout: body.stop_timeout,
        labels: own_labels(body.labels.as_ref()),
        host: body.host_config.as_ref(),
        networks: network.into_iter().collect(),
        restart: RestartPolicyNameEnum::UNLESS_STOPPED.to_string(),
    })
}

fn of_container(answer: &ContainerInspectResponse) -> Settings {
    let Some(config) = &answer.config else { return Settings::new() };
    let host = answer.host_config.as_ref();
    let networks = answer.network_settings.as_ref().and_then(|network| network.networks.as_ref());
    let mut networks: Vec<&str> = networks.into_iter().flatten().map(|(name, _)| &**name).collect();
    networks.sort_unstable();
    let restart = host.and_then(|host| host.restart_policy.as_ref()).and_then(|policy| policy.name);
    settings(&Parts {
        image: answer.image.as_deref(),
        command: list(&config.cmd),
        entrypoint: list(&config.entrypoint),
        user: config.user.as_deref(),
        directory: config.working_dir.as_deref(),
        environment: variables(config.env.as_deref()),
        health: config.healthcheck.as_ref(),
        stop_timeout: config.stop_timeout,
        labels: own_labels(config.labels.as_ref()),
        host,
        networks,
        restart: restart.map(|name| name.to_string()).unwrap_or_default(),
    })
}

fn settings(parts: &Parts<'_>) -> Settings {
    let mut all = Settings::new();
    let mut set = |name: &str, value: Value| drop(all.insert(name.to_owned(), value));
    let words = |words: &[String]| Value::secret(&words.join("\0"));
    set("image", Value::plain(parts.image.unwrap_or_default()));
    set("command", words(parts.command));
    set("entrypoint", words(parts.entrypoint));
    set("user", Value::plain(parts.user.filter(|user| !user.is_empty()).unwrap_or("the image's")));
    set("directory", Value::plain(parts.directory.filter(|path| !path.is_empty()).unwrap_or("/")));
    set("health check", Value::secret(&serde_json::to_string(&parts.health).unwrap_or_default()));
    set("stop timeout", Value::plain(parts.stop_timeout.unwrap_or_default()));
    set(RESTART, Value::plain(if parts.restart.is_empty() { "no" } else { &parts.restart }));
    for (name, value) in &parts.environment {
        set(&format!("environment {name}"), Value::secret(value));
    }
    for (name, value) in &parts.labels {
        set(&format!("label {name}"), Value::plain(value));
    }
    let Some(host) = parts.host else { return all };
    let limit = |limit: Option<i64>| match limit {
        Some(limit) if limit > 0 => Value::plain(limit),
        _ => Value::plain(UNLIMITED),
    };
    set(MEMORY, limit(host.memory));
    set(CPUS, limit(host.nano_cpus));
    set(PIDS, limit(host.pids_limit));
    set("privileged", Value::plain(host.privileged.unwrap_or(false)));
    set("security options", Value::plain(sorted(&host.security_opt)));
    set("capabilities", Value::plain(sorted(&host.cap_add)));
    let network = host.network_mode.clone().unwrap_or_default();
    if !network.starts_with(OTHERS_NETWORK) {
        set("networks", Value::plain(parts.networks.join(", ")));
    }
    set("network", Value::plain(network));
    set("processes of", Value::plain(host.pid_mode.clone().unwrap_or_default()));
    let log = host.log_config.as_ref().and_then(|log| log.typ.clone());
    set("log driver", Value::plain(log.unwrap_or_default()));
    for bind in host.binds.iter().flatten() {
        set(&format!("mount {bind}"), Value::plain("bind"));
    }
    for device in host.devices.iter().flatten() {
        set(
            &format!("device {}", device.path_in_container.as_deref().unwrap_or_default()),
            Value::plain("yes"),
        );
    }
    for mount in host.mounts.iter().flatten() {
        set(&format!("mount {}", mount.target.as_deref().unwrap_or_default()), Value::plain(shown(mount)));
    }
    for (port, bindings) in host.port_bindings.iter().flatten() {
        let mut addresses: Vec<String> = bindings.iter().flatten().map(address).collect();
        addresses.sort_unstable();
        set(&format!("port {port}"), Value::plain(addresses.join(", ")));
    }
    all
}

fn list(words: &Option<Vec<String>>) -> &[String] {
    words.as_deref().unwrap_or_default()
}

fn sorted(words: &Option<Vec<String>>) -> String {
    let mut words = words.clone().unwrap_or_default();
    words.sort_unstable();
    words.join(", ")
}

fn variables(environment: Option<&[String]>) -> BTreeMap<&str, &str> {
    environment.unwrap_or_default().iter().map(|text| text.split_once('=').unwrap_or((text, ""))).collect()
}

/// Images have labels of their own, and so may containers.
fn own_labels(labels: Option<&std::collections::HashMap<String, String>>) -> BTreeMap<&str, &str> {
    let all = labels.into_iter().flatten().map(|(name, value)| (&**name, &**value));
    all.filter(|(name, _)| name.starts_with("landfall.")).collect()
}

fn shown(mount: &Mount) -> String {
    let kind = mount.typ.map(|kind| kind.to_string()).unwrap_or_default();
    let source = mount.source.as_deref().unwrap_or_default();
    let how = if mount.read_only.unwrap_or(false) { "read-only" } else { "writable" };
    format!("{kind} {source} {how}")
}

fn address(binding: &PortBinding) -> String {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}:{}", part(&binding.host_ip), part(&binding.host_port))
}
