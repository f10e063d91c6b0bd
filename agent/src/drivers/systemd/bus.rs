//! Asking systemd, over the system's D-Bus.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::sync::Mutex;
use zbus::{Array, Connection, OwnedObjectPath, OwnedVariant, Structure};

/// How long systemd may take to answer a question; what a job may take is said by the service.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Where the host's administrator lists the units that the agent may act on.
pub(super) const RULES: &str = "/etc/polkit-1/rules.d/40-landfall-units.rules";

const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// Why systemd did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BusError {
    /// The bus or systemd cannot be reached.
    #[error("systemd cannot be asked over the system's D-Bus: {0}")]
    Unreachable(String),
    /// It said nothing for too long.
    #[error("systemd did not answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Silent,
    /// The agent may not.
    #[error(
        "polkit does not let the agent {verb} {unit} ({reason}): list the unit in {RULES} on this host; polkitd must be installed"
    )]
    Denied { verb: &'static str, unit: String, reason: String },
    /// It was refused for another reason.
    #[error("systemd refused to {verb} {unit}: {reason}")]
    Refused { verb: &'static str, unit: String, reason: String },
    /// The job goes on.
    #[error("systemd has not ended its job to {verb} {unit} within {timeout}", timeout = landfall_common::time::human::format(*.timeout))]
    Late { verb: &'static str, unit: String, timeout: Duration },
}

/// What may be asked of a unit. polkit allows each by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Start,
    Stop,
    Restart,
    Reload,
    ResetFailed,
}

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Reload => "reload",
            Self::ResetFailed => "reset-failed",
        }
    }
}

/// Ten columns of which two are read: a unit's name, and its place on the bus.
type Listed = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn list_units_by_patterns(&self, states: &[&str], patterns: &[&str]) -> zbus::Result<Vec<Listed>>;
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn reload_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;

    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: OwnedObjectPath, unit: String, result: String) -> zbus::Result<()>;
}

/// The connection, made when it is first needed and again after it broke.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bus {
    connection: Arc<Mutex<Option<Connection>>>,
}

/// How a unit is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct UnitState {
    pub load: String,
    pub active: String,
    pub sub: String,
    /// Of its last start; empty if it was never started.
    pub invocation: String,
    /// Whether a job is under way or queued.
    pub has_job: bool,
    pub kind: String,
    pub result: String,
    pub main_pid: u32,
    /// The control group of all its processes; empty while there is none.
    pub group: String,
    pub exit_kind: i32,
    pub exit_status: i32,
    pub restarts: u32,
    /// When it became active last, on the monotonic clock.
    pub active_since_us: u64,
    /// When its main process was started last, on the wall clock.
    pub started_us: u64,
    /// What its program says of itself by `STATUS=`.
    pub status: String,
}

impl UnitState {
    pub fn is_found(&self) -> bool {
        self.load == "loaded"
    }

    /// Whether its program runs or is about to.
    pub fn is_up(&self) -> bool {
        matches!(self.active.as_str(), "active" | "activating" | "reloading" | "refreshing")
    }

    pub fn waits_to_restart(&self) -> bool {
        self.sub.starts_with("auto-restart")
    }
}

impl Bus {
    async fn connection(&self) -> Result<Connection, BusError> {
        let mut held = self.connection.lock().await;
        if let Some(connection) = &*held {
            return Ok(connection.clone());
        }
        let connection = timely(Connection::system()).await?.map_err(|error| unreachable(&error))?;
        Ok(held.insert(connection).clone())
    }

    /// The bus may have been restarted: the next question makes another connection.
    async fn give_up(&self) {
        *self.connection.lock().await = None;
    }

    async fn manager(&self) -> Result<ManagerProxy<'static>, BusError> {
        let connection = self.connection().await?;
        let built = ManagerProxy::builder(&connection).cache_properties(zbus::proxy::CacheProperties::No);
        timely(built.build()).await?.map_err(|error| unreachable(&error))
    }

    /// How a unit is. One that does not exist has a state that says so.
    pub(crate) async fn look(&self, unit: &str) -> Result<UnitState, BusError> {
        let looked = self.try_look(unit).await;
        if looked.is_err() {
            self.give_up().await;
        }
        looked
    }

    async fn try_look(&self, unit: &str) -> Result<UnitState, BusError> {
        let manager = self.manager().await?;
        let path =
            timely(manager.load_unit(unit)).await?.map_err(|error| refusal(&error, "look at", unit))?;
        let connection = self.connection().await?;
        let all = |interface: &'static str| {
            let (connection, path) = (connection.clone(), path.clone());
            async move {
                let message = connection
                    .call_method(
                        Some("org.freedesktop.systemd1"),
                        &path,
                        Some("org.freedesktop.DBus.Properties"),
                        "GetAll",
                        &interface,
                    )
                    .await?;
                message.body().deserialize::<HashMap<String, OwnedVariant>>()
            }
        };
        let common = timely(all("org.freedesktop.systemd1.Unit")).await?;
        let common = Properties(common.map_err(|error| refusal(&error, "look at", unit))?);
        let own = if unit.ends_with(".socket") {
            HashMap::new()
        } else {
            let own = timely(all("org.freedesktop.systemd1.Service")).await?;
            own.map_err(|error| refusal(&error, "look at", unit))?
        };
        let own = Properties(own);
        Ok(UnitState {
            load: common.text("LoadState"),
            active: common.text("ActiveState"),
            sub: common.text("SubState"),
            invocation: common.bytes("InvocationID"),
            has_job: common.job() != 0,
            kind: own.text("Type"),
            result: own.text("Result"),
            main_pid: own.number("MainPID"),
            group: own.text("ControlGroup"),
            exit_kind: own.signed("ExecMainCode"),
            exit_status: own.signed("ExecMainStatus"),
            restarts: own.number("NRestarts"),
            active_since_us: common.large("ActiveEnterTimestampMonotonic"),
            started_us: own.large("ExecMainStartTimestamp"),
            status: own.text("StatusText"),
        })
    }

    /// The names of the units that systemd has loaded and whose name is like this.
    pub(crate) async fn list(&self, pattern: &str) -> Result<Vec<String>, BusError> {
        let manager = self.manager().await?;
        let listed = timely(manager.list_units_by_patterns(&[], &[pattern])).await?;
        if listed.is_err() {
            self.give_up().await;
        }
        let listed = listed.map_err(|error| refusal(&error, "list", pattern))?;
        Ok(listed.into_iter().map(|unit| unit.0).collect())
    }

    /// Asks for something, waits for the end of the job, and tells systemd's word for how that ended.
    pub(crate) async fn ask(&self, verb: Verb, unit: &str, timeout: Duration) -> Result<String, BusError> {
        let manager = self.manager().await?;
        let refused = |error: zbus::Error| refusal(&error, verb.name(), unit);
        if verb == Verb::ResetFailed {
            return match timely(manager.reset_failed_unit(unit)).await? {
                // It forgets units that have ended, and their failures with them.
                Err(zbus::Error::MethodError(name, ..)) if name.as_str() == NO_SUCH_UNIT => Ok("done".into()),
                reset => reset.map(|()| "done".into()).map_err(refused),
            };
        }
        let mut ends = timely(manager.receive_job_removed()).await?.map_err(|error| unreachable(&error))?;
        // It may have been said before, on this connection.
        let _ = timely(manager.subscribe()).await?;
        let asked = async {
            match verb {
                Verb::Start => manager.start_unit(unit, "replace").await,
                Verb::Stop => manager.stop_unit(unit, "replace").await,
                Verb::Reload => manager.reload_unit(unit, "replace").await,
                Verb::Restart | Verb::ResetFailed => manager.restart_unit(unit, "replace").await,
            }
        };
        let job = timely(asked).await?.map_err(refused)?;
        let ended = async {
            while let Some(end) = ends.next().await {
                if let Ok(end) = end.args()
                    && end.job == job
                {
                    return Some(end.result);
                }
            }
            None
        };
        match tokio::time::timeout(timeout, ended).await {
            Ok(Some(result)) => Ok(result),
            Ok(None) => {
                self.give_up().await;
                Err(BusError::Unreachable("the connection was closed".to_owned()))
            }
            Err(_) => Err(BusError::Late { verb: verb.name(), unit: unit.to_owned(), timeout }),
        }
    }
}

async fn timely<T>(asking: impl Future<Output = T>) -> Result<T, BusError> {
    tokio::time::timeout(ANSWER_TIMEOUT, asking).await.map_err(|_| BusError::Silent)
}

fn unreachable(error: &zbus::Error) -> BusError {
    BusError::Unreachable(error.to_string())
}

fn refusal(error: &zbus::Error, verb: &'static str, unit: &str) -> BusError {
    use zbus::fdo::Error::{AccessDenied, Failed, InteractiveAuthorizationRequired, InvalidArgs};
    let unit = unit.to_owned();
    match error {
        zbus::Error::FDO(known) => match &**known {
            AccessDenied(reason) | InteractiveAuthorizationRequired(reason) => {
                BusError::Denied { verb, unit, reason: reason.clone() }
            }
            Failed(reason) | InvalidArgs(reason) => BusError::Refused { verb, unit, reason: reason.clone() },
            _ => unreachable(error),
        },
        // One of systemd's own.
        zbus::Error::MethodError(name, said, _) => {
            BusError::Refused { verb, unit, reason: said.clone().unwrap_or_else(|| name.to_string()) }
        }
        _ => unreachable(error),
    }
}

struct Properties(HashMap<String, OwnedVariant>);

impl Properties {
    fn text(&self, name: &str) -> String {
        self.0.get(name).and_then(|value| value.downcast_ref::<String>().ok()).unwrap_or_default()
    }

    fn number(&self, name: &str) -> u32 {
        self.0.get(name).and_then(|value| value.downcast_ref::<u32>().ok()).unwrap_or_default()
    }

    fn large(&self, name: &str) -> u64 {
        self.0.get(name).and_then(|value| value.downcast_ref::<u64>().ok()).unwrap_or_default()
    }

    fn signed(&self, name: &str) -> i32 {
        self.0.get(name).and_then(|value| value.downcast_ref::<i32>().ok()).unwrap_or_default()
    }

    /// In hexadecimal digits.
    fn bytes(&self, name: &str) -> String {
        let array = self.0.get(name).and_then(|value| value.downcast_ref::<Array<'_>>().ok());
        let bytes =
            array.map(|array| array.iter().filter_map(|byte| byte.downcast_ref::<u8>().ok()).collect());
        hex::encode::<Vec<u8>>(bytes.unwrap_or_default())
    }

    /// The number of the job, 0 if there is none.
    fn job(&self) -> u32 {
        let job = self.0.get("Job").and_then(|value| value.downcast_ref::<Structure<'_>>().ok());
        job.and_then(|job| job.fields().first()?.downcast_ref::<u32>().ok()).unwrap_or_default()
    }
}
