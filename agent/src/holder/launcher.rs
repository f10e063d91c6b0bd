//! Starting a holder so that it outlives whoever started it.

use std::ffi::OsString;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use landfall_common::{AppName, ServiceName};

use super::spec::HolderSpec;
use crate::program;

/// `systemctl start` of a unit that is ready as soon as it listens.
const SYSTEMCTL_TIMEOUT: Duration = Duration::from_secs(30);

/// How systemctl ends when the user may not do what it was asked for.
const NO_PERMISSION: i32 = 4;

/// Where the files of all holders of a host are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Sockets, `/run/landfall/holders`; short, since the path of a socket has at most 107 bytes.
    pub run: PathBuf,
    /// Specifications, locks and records, `/var/lib/landfall/holders`.
    pub state: PathBuf,
    /// The services' logs, `/var/log/landfall`.
    pub logs: PathBuf,
    /// The bound of each log, in bytes.
    pub log_bytes: u64,
}

impl Places {
    /// The specification of one service's holder.
    #[must_use]
    pub fn spec(&self, application: &AppName, service: &ServiceName) -> HolderSpec {
        HolderSpec {
            application: application.clone(),
            service: service.clone(),
            run: self.run.clone(),
            state: self.state.clone(),
            log: self.logs.join(format!("{application}.{service}.log")),
            log_bytes: self.log_bytes,
        }
    }

    /// Where that is written: `<state>/<application>.<service>.json`.
    #[must_use]
    pub fn spec_file(&self, spec: &HolderSpec) -> PathBuf {
        self.state.join(format!("{}.json", spec.name()))
    }
}

/// How a holder comes to life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Launcher {
    /// As a process in a session of its own. Under systemd it would stay in the agent's control group and
    /// be killed with it: there, use [`Launcher::Systemd`].
    Detached {
        /// The agent's own program.
        program: PathBuf,
        /// What comes before the path of the specification, usually `holder`.
        arguments: Vec<OsString>,
    },
    /// As an instance of a template unit that the package brings:
    /// `ExecStart=landfall-agent holder /var/lib/landfall/holders/%i.json`, `Type=notify`,
    /// `Restart=on-failure` (it exits 0 when its service was stopped), `KillMode=process` (one that died
    /// leaves its service running for the next).
    Systemd {
        /// The name before the `@`, `landfall-holder`.
        template: String,
    },
}

impl Launcher {
    /// The holder of the agent that runs this.
    #[must_use]
    pub fn detached_self() -> Self {
        Self::Detached { program: program::OWN.into(), arguments: vec!["holder".into()] }
    }

    /// Writes the specification and starts the holder; does not wait until it answers. Starting one that
    /// runs already does nothing: the second finds the first one's lock and ends.
    ///
    /// # Errors
    /// A sentence naming the file or the command that failed.
    pub async fn launch(&self, places: &Places, spec: &HolderSpec) -> Result<(), String> {
        for directory in [&places.run, &places.state, &places.logs] {
            std::fs::create_dir_all(directory)
                .map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
        }
        let file = places.spec_file(spec);
        let bytes = serde_json::to_vec_pretty(spec).expect("paths were read from UTF-8 configuration");
        // What is there already needs no room on a disk that may be full.
        if std::fs::read(&file).ok().as_ref() != Some(&bytes) {
            super::record::write(&file, &bytes)
                .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        }
        match self {
            Self::Detached { program, arguments } => {
                protect(&places.run)?;
                detach(program, arguments, &file, places, spec)
            }
            Self::Systemd { template } => systemctl_start(template, spec).await,
        }
    }

    /// What a holder that does not answer has said, or where to read it.
    #[must_use]
    pub fn said(&self, places: &Places, spec: &HolderSpec) -> String {
        if let Self::Systemd { template } = self {
            return format!("see `journalctl -u {}`", unit(template, spec));
        }
        let log = own_log(places, spec);
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        said.lines().last().map_or_else(
            || format!("it wrote nothing to {}", log.display()),
            |line| format!("it said: {line}"),
        )
    }
}

/// What a detached holder itself writes.
fn own_log(places: &Places, spec: &HolderSpec) -> PathBuf {
    places.logs.join(format!("{}.holder.log", spec.name()))
}

/// Nobody else enters where the sockets are: between binding one and setting its mode anybody could connect.
/// Under systemd the directory above is as closed.
fn protect(run: &Path) -> Result<(), String> {
    std::fs::set_permissions(run, std::fs::Permissions::from_mode(0o700))
        .map_err(|error| format!("cannot protect {}: {error}", run.display()))
}

fn detach(
    program: &Path,
    arguments: &[OsString],
    file: &Path,
    places: &Places,
    spec: &HolderSpec,
) -> Result<(), String> {
    let log = own_log(places, spec);
    // Begun anew each time: a holder writes little, and only when something is wrong.
    let output = std::fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o640)
        .open(&log)
        .map_err(|error| format!("cannot open {}: {error}", log.display()))?;
    let second = output.try_clone().map_err(|error| format!("cannot share {}: {error}", log.display()))?;
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).arg(file).current_dir("/").stdin(Stdio::null()).stdout(output).stderr(second);
    let new_session = || {
        rustix::process::setsid()?;
        Ok(())
    };
    // SAFETY: between fork and exec only setsid is called.
    unsafe { command.pre_exec(new_session) };
    let mut child = command
        .spawn()
        .map_err(|error| format!("cannot start {} as a holder: {error}", program.display()))?;
    // Reaps it if it ends while this agent lives. It is not killed when the handle goes.
    tokio::spawn(async move {
        let _ = child.wait().await;
    });
    Ok(())
}

fn unit(template: &str, spec: &HolderSpec) -> String {
    format!("{template}@{}.service", spec.name())
}

async fn systemctl_start(template: &str, spec: &HolderSpec) -> Result<(), String> {
    let unit = unit(template, spec);
    let mut command = tokio::process::Command::new("systemctl");
    command.args(["--no-ask-password", "start", &unit]).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(SYSTEMCTL_TIMEOUT, command.output())
        .await
        .map_err(|_| {
            format!("`systemctl start {unit}` did not end within {} s", SYSTEMCTL_TIMEOUT.as_secs())
        })?
        .map_err(|error| format!("cannot run systemctl: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(refusal(&unit, output.status, said.trim()))
}

fn refusal(unit: &str, status: ExitStatus, said: &str) -> String {
    let next = if status.code() == Some(NO_PERMISSION) {
        "polkit must allow it: install polkitd, and 50-landfall.rules in /etc/polkit-1/rules.d".to_owned()
    } else {
        format!("see `journalctl -u {unit}`")
    };
    format!("`systemctl start {unit}` failed ({status}): {said}; {next}")
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[tokio::test]
    async fn nobody_else_enters_where_a_detached_holder_listens() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let places = Places {
            run: root.join("run/holders"),
            state: root.join("s"),
            logs: root.join("l"),
            log_bytes: 1,
        };
        let launcher = Launcher::Detached { program: "/bin/true".into(), arguments: Vec::new() };
        let spec = places.spec(&"shop".parse().unwrap(), &"web".parse().unwrap());
        launcher.launch(&places, &spec).await.unwrap();
        assert_eq!(std::fs::metadata(&places.run).unwrap().permissions().mode() & 0o7777, 0o700);
    }

    #[test]
    fn a_refusal_names_polkit_only_where_permission_is_missing() {
        let of = |code: i32| refusal("u.service", ExitStatus::from_raw(code << 8), "Access denied");
        assert!(
            of(4).ends_with("install polkitd, and 50-landfall.rules in /etc/polkit-1/rules.d"),
            "{}",
            of(4)
        );
        assert!(of(1).ends_with("see `journalctl -u u.service`"), "{}", of(1));
    }
}
