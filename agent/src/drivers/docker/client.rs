//! The Engine API of Docker, as far as the driver uses it: calls with a deadline, and answers in its own words.

use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::usage::Roots;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerStateStatusEnum, ContainerUpdateBody,
    HealthStatusEnum, Mount, MountType, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, ListContainersOptionsBuilder, LogsOptionsBuilder,
    RemoveContainerOptionsBuilder, StartContainerOptions, StopContainerOptions,
};
use futures::TryStreamExt as _;
use landfall_common::Sha256;
use landfall_common::time::human;
use tokio::time::Instant;

use super::request::Bind;

/// Docker answers within milliseconds; on a host that swaps it may take long.
const CALL: Duration = Duration::from_secs(60);

/// How much longer than its own deadline a container may take to stop: it is killed then and has to go.
const STOP_SLACK: Duration = Duration::from_secs(60);

/// What Docker gives a container to stop that does not say otherwise.
const DEFAULT_STOP: Duration = Duration::from_secs(10);

/// How many lines of a log are asked for.
const TAIL_LINES: &str = "40";

/// How often a container is asked for whose name is taken and that is not there: twenty seconds, in which Docker makes
/// one or gives it up.
const CREATE_TRIES: u32 = 100;

/// The pause between two of them.
const CREATE_PAUSE: Duration = Duration::from_millis(200);

/// The labels by which an agent knows its own containers again.
pub(super) mod label {
    pub const APPLICATION: &str = "landfall.application";
    pub const ENVIRONMENT: &str = "landfall.environment";
    pub const SERVICE: &str = "landfall.service";
    pub const RELEASE: &str = "landfall.release";
    pub const MANIFEST: &str = "landfall.manifest";
}

/// Why Docker did not do something.
#[derive(Debug, thiserror::Error)]
pub(super) enum DockerError {
    #[error("Docker does not answer at {path}: {hint}")]
    Unreachable { path: PathBuf, hint: String },
    #[error(
        "the agent may not use {0}; only a member of the group `docker` may, and is root by that (`systemctl edit landfall-agent`: [Service] SupplementaryGroups=docker)"
    )]
    Denied(PathBuf),
    /// It went in the middle of a call.
    #[error("Docker went away: {0}; see `systemctl status docker`")]
    Lost(String),
    /// It said no.
    #[error("Docker refused it: {message}")]
    Refused { status: u16, message: String },
    #[error("Docker did not answer within {}; see `systemctl status docker`", human::format(*.0))]
    TooLate(Duration),
    #[error(
        "there is a container {0} already that Landfall has not made, and it is left alone: `docker rename {0} …` or `docker rm {0}`, then release again"
    )]
    Taken(String),
    #[error("Docker cannot be understood: {0}")]
    Broken(String),
}

impl From<bollard::errors::Error> for DockerError {
    fn from(error: bollard::errors::Error) -> Self {
        use bollard::errors::Error;
        match error {
            Error::DockerResponseServerError { status_code, message } => {
                Self::Refused { status: status_code, message: sentence(&message) }
            }
            Error::DockerStreamError { error } => Self::Refused { status: 0, message: sentence(&error) },
            Error::RequestTimeoutError => Self::TooLate(CALL),
            lost @ (Error::IOError { .. }
            | Error::HyperResponseError { .. }
            | Error::HyperLegacyError { .. }
            | Error::SocketNotFoundError(_)) => Self::Lost(crate::error::chain(&lost)),
            other => Self::Broken(crate::error::chain(&other)),
        }
    }
}

/// What somebody said, such as a registry, as a part of a sentence of ours.
fn sentence(said: &str) -> String {
    const MAX_CHARS: usize = 600;
    let words: Vec<_> = said.split(|c: char| c.is_whitespace() || c.is_control()).collect();
    let text = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text,
    }
}

impl DockerError {
    fn is(&self, code: u16) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == code)
    }

    /// Whether asking again for the same thing cannot help.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Taken(_))
    }

    /// Whether there is no Docker at the moment, as while it is restarted.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Lost(_))
    }
}

/// How a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Created,
    Up,
    /// It ended and waits to be started again.
    Restarting,
    Ended,
}

/// What its image's HEALTHCHECK says, where it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Health {
    Starting,
    Healthy,
    /// With the last answer.
    Unhealthy(String),
}

/// A container, as Docker sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub id: String,
    pub name: String,
    pub phase: Phase,
    pub health: Option<Health>,
    pub exit_code: i64,
    pub ran_out_of_memory: bool,
    /// Why it could not be started.
    pub error: String,
    pub restarts: u32,
    /// Of its first process, on the host; 0 where none runs.
    pub pid: u32,
    pub started_at: Option<jiff::Timestamp>,
    /// It is not started again by itself yet: it has to prove itself.
    pub on_trial: bool,
    /// The digest of the release's manifest.
    pub release: Option<Sha256>,
    pub labels: HashMap<String, String>,
    /// What of the host is mounted.
    pub binds: Vec<Bind>,
    pub memory: i64,
    pub nano_cpus: i64,
    pub pids: i64,
    pub stop_timeout: Duration,
}

impl Seen {
    fn read(answer: ContainerInspectResponse) -> Option<Self> {
        let state = answer.state?;
        let config = answer.config.unwrap_or_default();
        let host = answer.host_config.unwrap_or_default();
        let phase = match state.status? {
            ContainerStateStatusEnum::CREATED => Phase::Created,
            ContainerStateStatusEnum::RUNNING => Phase::Up,
            ContainerStateStatusEnum::RESTARTING => Phase::Restarting,
            _ => Phase::Ended,
        };
        let health = state.health.and_then(|health| match health.status? {
            HealthStatusEnum::STARTING => Some(Health::Starting),
            HealthStatusEnum::HEALTHY => Some(Health::Healthy),
            HealthStatusEnum::UNHEALTHY => {
                let said = health.log.unwrap_or_default().pop().and_then(|last| last.output);
                Some(Health::Unhealthy(
                    super::last_lines(&said.unwrap_or_default()).pop().unwrap_or_default(),
                ))
            }
            HealthStatusEnum::EMPTY | HealthStatusEnum::NONE => None,
        });
        let policy = host.restart_policy.and_then(|policy| policy.name);
        let labels = config.labels.unwrap_or_default();
        let bind = |mount: Mount| {
            let is_bind = mount.typ == Some(MountType::BIND);
            let read_only = mount.read_only.unwrap_or(false);
            mount.source.filter(|_| is_bind).map(|path| Bind { path: path.into(), read_only })
        };
        let seconds = config.stop_timeout.and_then(|seconds| u64::try_from(seconds).ok());
        Some(Self {
            id: answer.id?,
            name: answer.name?.trim_start_matches('/').to_owned(),
            phase,
            health,
            exit_code: state.exit_code.unwrap_or(0),
            ran_out_of_memory: state.oom_killed.unwrap_or(false),
            error: state.error.unwrap_or_default(),
            restarts: answer.restart_count.and_then(|count| u32::try_from(count).ok()).unwrap_or(0),
            pid: state.pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0),
            started_at: state.started_at.and_then(|text| text.parse().ok()),
            on_trial: !matches!(
                policy,
                Some(RestartPolicyNameEnum::UNLESS_STOPPED | RestartPolicyNameEnum::ALWAYS)
            ),
            release: labels.get(label::MANIFEST).and_then(|text| text.parse().ok()),
            labels,
            binds: host.mounts.unwrap_or_default().into_iter().filter_map(bind).collect(),
            memory: host.memory.unwrap_or(0),
            nano_cpus: host.nano_cpus.unwrap_or(0),
            pids: host.pids_limit.unwrap_or(0),
            stop_timeout: seconds.map_or(DEFAULT_STOP, Duration::from_secs),
        })
    }

    /// By what its use of the host can be read. Docker names control groups in one of two ways, as it is set up.
    pub fn roots(&self) -> Roots {
        Roots {
            groups: vec![format!("/system.slice/docker-{0}.scope", self.id), format!("/docker/{0}", self.id)],
            processes: Some(self.pid).filter(|pid| *pid > 0).into_iter().collect(),
        }
    }

    /// One that was just made.
    #[cfg(test)]
    pub fn named(name: &str) -> Self {
        Self {
            id: name.to_owned(),
            name: name.to_owned(),
            phase: Phase::Created,
            health: None,
            exit_code: 0,
            ran_out_of_memory: false,
            error: String::new(),
            restarts: 0,
            pid: 0,
            started_at: None,
            on_trial: true,
            release: None,
            labels: HashMap::new(),
            binds: Vec::new(),
            memory: 0,
            nano_cpus: 0,
            pids: 0,
            stop_timeout: DEFAULT_STOP,
        }
    }

    /// Whether a process of it runs, or soon will by itself.
    pub fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up | Phase::Restarting)
    }
}

/// A connection to Docker.
pub(super) struct Client {
    pub docker: bollard::Docker,
    /// Ends with the Docker that was connected to. Calls do not tell: each may go to the one after it.
    witness: std::os::unix::net::UnixStream,
}

impl Client {
    /// Speaks with the Docker behind this socket, in a version that it knows.
    pub async fn connect(socket: &Path) -> Result<Self, DockerError> {
        let unreachable = |hint: String| DockerError::Unreachable { path: socket.to_owned(), hint };
        // bollard does not tell one reason from another.
        let witness = match tokio::net::UnixStream::connect(socket).await {
            Ok(witness) => witness.into_std().map_err(|error| unreachable(error.to_string()))?,
            Err(error) => {
                use std::io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied};
                return Err(unreachable(match error.kind() {
                    NotFound => {
                        "there is no such socket; install docker.io, or set `socket` in [docker] of agent.toml"
                            .to_owned()
                    }
                    PermissionDenied => return Err(DockerError::Denied(socket.to_owned())),
                    ConnectionRefused => "nobody listens there; see `systemctl status docker`".to_owned(),
                    _ => error.to_string(),
                }));
            }
        };
        // Each call has its own deadline; this one is for what outlasts them all.
        const LONGEST_S: u64 = 24 * 60 * 60;
        let path = socket.to_string_lossy();
        let docker = bollard::Docker::connect_with_unix(&path, LONGEST_S, bollard::API_DEFAULT_VERSION)?;
        match within(CALL, docker.negotiate_version()).await {
            Ok(docker) => Ok(Self { docker, witness }),
            // systemd listens, and there is nobody behind it.
            Err(error @ DockerError::TooLate(_)) => Err(unreachable(error.to_string())),
            Err(error) => Err(error),
        }
    }

    /// Whether the Docker that was connected to has ended since.
    pub fn has_gone(&self) -> bool {
        // Nothing is ever asked here, and so nothing is said.
        let read = (&self.witness).read(&mut [0; 1]);
        !read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// The containers with these labels, running or not, by name.
    pub async fn list(&self, labels: &[(&str, &str)]) -> Result<Vec<Seen>, DockerError> {
        let wanted = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let filters: HashMap<&str, Vec<String>> = [("label", wanted)].into();
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let found = within(CALL, self.docker.list_containers(Some(options))).await?;
        let mut seen = Vec::new();
        for id in found.into_iter().filter_map(|container| container.id) {
            seen.extend(self.look(&id).await?);
        }
        seen.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(seen)
    }

    /// One container; none if it is not there (any more).
    pub async fn look(&self, id: &str) -> Result<Option<Seen>, DockerError> {
        Ok(self.inspect(id).await?.and_then(Seen::read))
    }

    /// All that Docker says of a container; nothing if it is not there (any more).
    pub async fn inspect(&self, id: &str) -> Result<Option<ContainerInspectResponse>, DockerError> {
        found(self.docker.inspect_container(id, None::<InspectContainerOptions>)).await
    }

    /// Makes a container, or finds the same one made already.
    ///
    /// # Errors
    /// [`DockerError::Taken`] if somebody else's has this name.
    pub async fn create(&self, name: &str, body: ContainerCreateBody) -> Result<Seen, DockerError> {
        let options = CreateContainerOptionsBuilder::default().name(name).build();
        let labels = body.labels.clone().unwrap_or_default();
        // Docker gives a name away before there is anything to look at: what an agent had asked for that was killed
        // meanwhile is being made now, or is given up again.
        for _ in 0..CREATE_TRIES {
            match within(CALL, self.docker.create_container(Some(options.clone()), body.clone())).await {
                Ok(_) => {}
                Err(error) if error.is(409) => {}
                Err(error) => return Err(error),
            }
            if let Some(seen) = self.look(name).await? {
                let is_ours = labels.iter().all(|(label, value)| seen.labels.get(label) == Some(value));
                return if is_ours { Ok(seen) } else { Err(DockerError::Taken(name.to_owned())) };
            }
            tokio::time::sleep(CREATE_PAUSE).await;
        }
        Err(DockerError::Broken(format!("the container {name} has gone as soon as it was made")))
    }

    pub async fn start(&self, id: &str) -> Result<(), DockerError> {
        match within(CALL, self.docker.start_container(id, None::<StartContainerOptions>)).await {
            // It runs already.
            Err(error) if error.is(304) => Ok(()),
            other => other,
        }
    }

    /// Asks a container to end, and kills it when its own time for that is over.
    pub async fn stop(&self, seen: &Seen) -> Result<(), DockerError> {
        let late = seen.stop_timeout + STOP_SLACK;
        match within(late, self.docker.stop_container(&seen.id, None::<StopContainerOptions>)).await {
            // It does not run, or is not there.
            Err(error) if error.is(304) || error.is(404) => Ok(()),
            other => other,
        }
    }

    /// Removes a container with the volumes that have no name.
    pub async fn remove(&self, id: &str) -> Result<(), DockerError> {
        let options = RemoveContainerOptionsBuilder::default().v(true).force(true).build();
        match within(CALL, self.docker.remove_container(id, Some(options))).await {
            Err(error) if error.is(404) => Ok(()),
            // Somebody is removing it, such as an agent that was killed meanwhile; until then it has its name.
            Err(error) if error.is(409) => {
                let late = Instant::now() + CALL;
                while self.look(id).await?.is_some() {
                    if Instant::now() >= late {
                        return Err(error);
                    }
                    tokio::time::sleep(super::POLL).await;
                }
                Ok(())
            }
            other => other,
        }
    }

    /// From now on Docker starts it again whenever it ends by itself, and after a reboot.
    pub async fn keep_up(&self, id: &str) -> Result<(), DockerError> {
        let name = Some(RestartPolicyNameEnum::UNLESS_STOPPED);
        let restart_policy = Some(RestartPolicy { name, maximum_retry_count: None });
        self.update(id, ContainerUpdateBody { restart_policy, ..ContainerUpdateBody::default() }).await
    }

    /// Sets what can be set while a container runs.
    pub async fn update(&self, id: &str, body: ContainerUpdateBody) -> Result<(), DockerError> {
        within(CALL, self.docker.update_container(id, body)).await
    }

    /// What a container wrote last, to either stream.
    pub async fn tail(&self, id: &str) -> Vec<String> {
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).tail(TAIL_LINES).build();
        let read = self.docker.logs(id, Some(options)).try_fold(Vec::new(), |mut all, piece| async move {
            all.extend_from_slice(piece.as_ref());
            Ok(all)
        });
        let text = within(CALL, read).await.unwrap_or_default();
        super::last_lines(&String::from_utf8_lossy(&text))
    }

    /// The volume of this name with its labels, if there is one.
    pub async fn volume(&self, name: &str) -> Result<Option<BTreeMap<String, String>>, DockerError> {
        match within(CALL, self.docker.inspect_volume(name)).await {
            Ok(volume) => Ok(Some(volume.labels.into_iter().collect())),
            Err(error) if error.is(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub async fn make_volume(&self, name: &str, labels: HashMap<String, String>) -> Result<(), DockerError> {
        let body = bollard::models::VolumeCreateRequest {
            name: Some(name.to_owned()),
            labels: Some(labels),
            ..Default::default()
        };
        within(CALL, self.docker.create_volume(body)).await.map(drop)
    }
}

/// A call with a deadline.
pub(super) async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<T, bollard::errors::Error>>,
) -> Result<T, DockerError> {
    match tokio::time::timeout(deadline, call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(DockerError::TooLate(deadline)),
    }
}

/// The same for calls that tell apart what is not there.
pub(super) async fn found<T>(
    call: impl Future<Output = Result<T, bollard::errors::Error>>,
) -> Result<Option<T>, DockerError> {
    match within(CALL, call).await {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.is(404) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_says_takes_one_line_and_not_for_ever() {
        assert_eq!(
            sentence(" manifest unknown:\n\tnot \u{1b}[2J found\n"),
            "manifest unknown: not [2J found"
        );
        let long = sentence(&"é".repeat(10_000));
        assert_eq!(long.chars().count(), 602);
        assert!(long.ends_with("é …"));
    }

    #[tokio::test]
    async fn the_end_of_the_docker_that_was_connected_to_is_seen() {
        let (witness, other) = std::os::unix::net::UnixStream::pair().unwrap();
        witness.set_nonblocking(true).unwrap();
        // It has to be there, and is not asked.
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let path = socket.to_str().unwrap();
        let docker = bollard::Docker::connect_with_unix(path, 1, bollard::API_DEFAULT_VERSION).unwrap();
        let client = Client { docker, witness };
        assert!(!client.has_gone());
        drop(other);
        assert!(client.has_gone());
    }
}
