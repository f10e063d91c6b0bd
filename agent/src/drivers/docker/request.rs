//! What is asked of Docker for a container, and what is refused before anything is asked.
//!
//! Whoever talks to Docker is root on the host. So a release may ask for nothing that reaches beyond its own
//! containers and directories, unless the host's `agent.toml` grants it.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, PortBinding, RestartPolicy,
    RestartPolicyNameEnum,
};
use landfall_common::manifest::Container;
use landfall_common::manifest::container::{LogDriver, Volume, VolumeSource};
use landfall_common::{ServiceName, Sha256, canonical};

use super::client::label;
use super::settings::Settings;
use crate::steps::{StepContext, UnknownWord};

/// What a container's logs may take, in Docker's words: as much as those of a service with a holder.
const LOG_BOUND: [(&str, &str); 2] = [("max-size", "8m"), ("max-file", "2")];

/// Docker's default, which every host has.
const BRIDGE: &str = "bridge";
const HOST: &str = "host";

/// Why a container is not asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error(
        "the release asks for a privileged container, which is root on this host; its administrator grants it by `privileged = true` in [docker] of agent.toml"
    )]
    Privileged,
    #[error(
        "the release asks for the network {0:?}; the host's administrator grants it by `networks = [{0:?}]` in [docker] of agent.toml"
    )]
    Network(String),
    #[error("{path} cannot be mounted: {reason}")]
    Path { path: PathBuf, reason: String },
    #[error(
        "{path} lies outside of {{shared}}, {{prepared}} and {{release}}, and cannot be mounted; the host's administrator grants it by `mounts` in [docker] of agent.toml"
    )]
    Outside { path: PathBuf },
    #[error("{path} is part of a release and can be mounted with `:ro` only")]
    Release { path: PathBuf },
    #[error(
        "{inner} lies inside {outer}, to which a container of this application writes: it could be replaced by a link to anywhere; mount one of them, or {outer} with `:ro`"
    )]
    Nested { inner: PathBuf, outer: PathBuf },
    #[error(
        "the volume {0:?} was not made for this application; the host's administrator grants it by `volumes = [{0:?}]` in [docker] of agent.toml"
    )]
    Volume(String),
    #[error("{0:?} is not an address to publish a port on: it has to be IP:PORT")]
    Address(String),
    #[error(transparent)]
    Word(#[from] UnknownWord),
}

/// A path of the host in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bind {
    pub path: PathBuf,
    pub read_only: bool,
}

/// A container that is asked for.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// Its name: another one for each other content.
    pub name: String,
    pub body: ContainerCreateBody,
    /// Volumes that Docker is to have.
    pub volumes: Vec<String>,
    /// What of the host is mounted.
    pub binds: Vec<Bind>,
    /// It has an address of the host to itself, so that it cannot run beside another.
    pub is_alone: bool,
}

/// What can be refused before anything of a release is there: all but paths of its own, which are not laid out yet.
///
/// # Errors
/// [`Refusal`].
pub(super) fn check(
    container: &Container,
    settings: &Settings,
    context: &StepContext,
) -> Result<(), Refusal> {
    for volume in &container.volumes {
        let VolumeSource::Path { path } = &volume.source else { continue };
        if !["{release}", "{prepared}", "{shared}"].iter().any(|own| path.starts_with(own)) {
            granted(&context.words.expand(path)?, volume.read_only, settings, context)?;
        }
    }
    if container.privileged && !settings.privileged {
        return Err(Refusal::Privileged);
    }
    match &container.network {
        Some(network) if network != BRIDGE && !settings.networks.contains(network) => {
            Err(Refusal::Network(network.clone()))
        }
        _ => Ok(()),
    }
}

/// The labels of a service's containers.
pub(super) fn labels(
    context: &StepContext,
    service: &ServiceName,
    release: Sha256,
) -> HashMap<String, String> {
    let identity = &context.identity;
    [
        (label::APPLICATION, identity.application.to_string()),
        (label::ENVIRONMENT, identity.environment.to_string()),
        (label::SERVICE, service.to_string()),
        (label::RELEASE, identity.release.to_string()),
        (label::MANIFEST, release.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// The container of a release's service, made of this image.
///
/// # Errors
/// [`Refusal`].
pub(super) fn request(
    container: &Container,
    settings: &Settings,
    context: &StepContext,
    service: &ServiceName,
    release: Sha256,
    image: &str,
) -> Result<Request, Refusal> {
    check(container, settings, context)?;
    let words = &context.words;
    let mut ports: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
    for port in &container.publish {
        let host = words.expand(&port.host)?;
        let address: std::net::SocketAddr = host.parse().map_err(|_| Refusal::Address(host.clone()))?;
        let binding = PortBinding {
            host_ip: Some(address.ip().to_string()),
            host_port: Some(address.port().to_string()),
        };
        let name = format!("{}/{}", port.container, port.protocol.as_str());
        ports.entry(name).or_default().get_or_insert_default().push(binding);
    }
    let log = |name: &str| (name != LogDriver::Journald.as_str()).then(bound);
    let driver = container.log_driver.as_str();
    let is_on_host = container.network.as_deref() == Some(HOST);
    let (mounts, binds) = mounts(&container.volumes, settings, context)?;
    check_nesting(&binds)?;
    let host_config = HostConfig {
        mounts: Some(mounts),
        network_mode: Some(container.network.clone().unwrap_or_else(|| BRIDGE.to_owned())),
        // It has to prove itself first; what fails then is told and not tried again.
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        log_config: Some(HostConfigLogConfig { typ: Some(driver.to_owned()), config: log(driver) }),
        memory: container.memory_bytes.and_then(|bytes| i64::try_from(bytes).ok()),
        nano_cpus: container.cpus_milli.map(|milli| i64::from(milli) * 1_000_000),
        pids_limit: container.pids.map(i64::from),
        privileged: Some(container.privileged),
        security_opt: (!container.privileged).then(|| vec!["no-new-privileges".to_owned()]),
        port_bindings: Some(ports.clone()),
        ..HostConfig::default()
    };
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        cmd: match &container.command[..] {
            [] => None,
            command => Some(words.command(command)?),
        },
        env: Some(environment(container, context)?),
        user: container.user.clone(),
        exposed_ports: Some(
            ports.into_keys().collect::<std::collections::BTreeSet<_>>().into_iter().collect(),
        ),
        labels: Some(labels(context, service, release)),
        stop_timeout: Some(seconds(container.stop_timeout)),
        host_config: Some(host_config),
        ..ContainerCreateBody::default()
    };
    let named = container.volumes.iter().filter_map(|volume| match &volume.source {
        VolumeSource::Named { name } => Some(name.clone()),
        VolumeSource::Path { .. } => None,
    });
    Ok(Request {
        name: name(context, service, &body),
        volumes: named.collect(),
        binds,
        is_alone: is_on_host || !container.publish.is_empty(),
        body,
    })
}

/// How the names of a service's containers begin. Neither part has a dot in it.
pub(super) fn prefix(context: &StepContext, service: &ServiceName) -> String {
    format!("{}.{service}.", context.identity.application)
}

/// `tenants.web.v1.4.3fa9c1d2e4b5`: for people, and at its end the digest of everything that it is to be.
fn name(context: &StepContext, service: &ServiceName, body: &ContainerCreateBody) -> String {
    let bytes = canonical::to_vec(body).expect("texts, whole numbers, flags and maps have a canonical form");
    let tame = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let release: String = context.identity.release.as_str().chars().map(tame).collect();
    format!("{}{release}.{}", prefix(context, service), Sha256::of(&bytes).short())
}

fn bound() -> HashMap<String, String> {
    LOG_BOUND.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// Whole seconds, as Docker counts; never none, which would mean at once.
fn seconds(time: std::time::Duration) -> i64 {
    i64::try_from(time.as_millis().div_ceil(1000)).unwrap_or(i64::MAX).max(1)
}

/// What is added to the image's own, in the order of names.
fn environment(container: &Container, context: &StepContext) -> Result<Vec<String>, UnknownWord> {
    let identity = &context.identity;
    let mut all: BTreeMap<String, String> = [
        ("LANDFALL_APPLICATION", identity.application.to_string()),
        ("LANDFALL_ENVIRONMENT", identity.environment.to_string()),
        ("LANDFALL_RELEASE", identity.release.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    for (name, value) in &container.environment {
        all.insert(name.clone(), context.words.expand(value)?);
    }
    Ok(all.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
}

/// That nothing that is mounted can be replaced by a link: Docker follows links anew whenever it starts a container,
/// by itself and after a reboot too, when nobody looks where they lead.
///
/// # Errors
/// [`Refusal::Nested`].
pub(super) fn check_nesting(binds: &[Bind]) -> Result<(), Refusal> {
    for outer in binds.iter().filter(|bind| !bind.read_only).map(|bind| &bind.path) {
        let mut inner = binds.iter().map(|bind| &bind.path);
        if let Some(inner) = inner.find(|inner| *inner != outer && inner.starts_with(outer)) {
            return Err(Refusal::Nested { inner: inner.clone(), outer: outer.clone() });
        }
    }
    Ok(())
}

fn mounts(
    volumes: &[Volume],
    settings: &Settings,
    context: &StepContext,
) -> Result<(Vec<Mount>, Vec<Bind>), Refusal> {
    let mut mounts = Vec::new();
    let mut binds = Vec::new();
    for volume in volumes {
        let (typ, source) = match &volume.source {
            VolumeSource::Named { name } => (MountType::VOLUME, name.clone()),
            VolumeSource::Path { path } => {
                let path = granted(&context.words.expand(path)?, volume.read_only, settings, context)?;
                let text = path.to_string_lossy().into_owned();
                binds.push(Bind { path, read_only: volume.read_only });
                (MountType::BIND, text)
            }
        };
        mounts.push(Mount {
            target: Some(volume.target.clone()),
            source: Some(source),
            typ: Some(typ),
            read_only: Some(volume.read_only),
            ..Mount::default()
        });
    }
    Ok((mounts, binds))
}

/// Where a path of the host leads, if a container may have it.
fn granted(
    text: &str,
    read_only: bool,
    settings: &Settings,
    context: &StepContext,
) -> Result<PathBuf, Refusal> {
    let broken = |reason: String| Refusal::Path { path: text.into(), reason };
    if !text.starts_with('/') {
        return Err(broken("it is not an absolute path".to_owned()));
    }
    let path = Path::new(text).canonicalize().map_err(|error| broken(error.to_string()))?;
    // A directory that is not there holds nothing; one with an empty name would hold everything.
    let is_below = |directory: &Path| {
        !directory.as_os_str().is_empty() && directory.canonicalize().is_ok_and(|real| path.starts_with(real))
    };
    let words = &context.words;
    if [&words.release, &words.prepared].into_iter().any(|directory| is_below(Path::new(directory))) {
        return if read_only { Ok(path) } else { Err(Refusal::Release { path }) };
    }
    if is_below(Path::new(&words.shared)) || settings.mounts.iter().any(|directory| is_below(directory)) {
        return Ok(path);
    }
    Err(Refusal::Outside { path })
}

#[cfg(test)]
mod tests;
