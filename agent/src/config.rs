//! `agent.toml`: where things are on this host, and what its administrator says of it.
//!
//! Unknown keys and wrong types are refused with line and text. What a host is (its name, application and
//! environment) is not here: that was settled at enrolment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use landfall_agent_core::drift::Rhythm;
use landfall_common::time::human;
use serde::Deserialize;

use crate::error::AgentError;
use crate::holder::{Launcher, Places};
use crate::program::Released;

/// Where it is looked for.
pub const DEFAULT_PATH: &str = "/etc/landfall/agent.toml";

/// The bound of a service's log, in bytes, before it is turned over.
const SERVICE_LOG_BYTES: u64 = 16 * 1024 * 1024;

/// An `agent.toml` with every key at its default, and what each means.
pub const TEMPLATE: &str = r#"# The agent of Landfall on this host. Every key may be left out; the values here are the defaults.

# Where the controller is. Set by `landfall-agent join` where it is absent.
# controller = "controller.example.com:7443"

# The ledger, the host's certificate, and what the agent trusts.
state_dir = "/var/lib/landfall"

# Each application has its directory here: /srv/<application>/{releases,prepared,shared,current}.
apps_dir = "/srv"

# Sockets.
run_dir = "/run/landfall"

# Output of steps (steps/<application>.<step>.log) and services (<application>.<service>.log).
log_dir = "/var/log/landfall"

# The agent of a release of the agent itself, run in place of the package's once it is there.
# program = "/var/lib/landfall-released/landfall-agent/current/landfall-agent"

# How the holders of services are started: "detached", or "systemd" (as instances of the template unit
# landfall-holder@.service; needed wherever systemd runs the agent).
launcher = "detached"

# Where preparation, migrations and smoke tests run: "child" (below the agent, as its own user), or "unit" (each in a
# unit of its own, landfall-step@.service, as the user landfall-step: without the agent's files, with the network
# only where the signed manifest says so, within limits).
steps = "child"

# What {words} in a release's commands and checks stand for on this host, and by what services with `on` choose
# the hosts that run them.
[variables]
# port = 8101
"#;

const DRIFT_TEMPLATE: &str = r#"
# How the active release is watched for what was changed on this host since (`ctl drift`).
[drift]
# Between two looks at the times and sizes of its files. What was changed is read.
every = "10m"

# Between two looks that read everything: they also find what a disk has done by itself.
read_all_every = "24h"

# What may be added below a release's directories without a word; * stands for anything.
# ignore = ["var/*.db", "celerybeat-schedule*"]
ignore = []
"#;

/// The whole file with every key at its default.
#[must_use]
pub fn template() -> String {
    let docker = crate::drivers::docker::settings::TEMPLATE;
    format!("{TEMPLATE}{}{docker}{DRIFT_TEMPLATE}", crate::traffic::settings::TEMPLATE)
}

/// The configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `HOST:PORT` of the controller, if it is not the one of the enrolment.
    pub controller: Option<String>,
    /// The ledger, identity, metadata.
    pub state_dir: PathBuf,
    /// Holds one directory for each application.
    pub apps_dir: PathBuf,
    /// Sockets.
    pub run_dir: PathBuf,
    /// Logs.
    pub log_dir: PathBuf,
    /// The agent that a release of its own brought, to be run in place of the one that is started.
    pub program: Option<PathBuf>,
    /// How holders are started.
    pub launcher: LauncherKind,
    /// Where steps run.
    pub steps: StepsIn,
    /// The host's own words.
    pub variables: BTreeMap<String, Value>,
    /// The proxies of this host.
    pub traffic: crate::traffic::Settings,
    /// Docker on this host.
    pub docker: crate::drivers::docker::Settings,
    /// How it is watched for drift.
    pub drift: Drift,
}

/// How a host is watched for drift.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Drift {
    /// Between two looks at the active release.
    pub every: String,
    /// Between two looks that read all of it.
    pub read_all_every: String,
    /// What may be added to a release without a word.
    pub ignore: Vec<String>,
}

impl Default for Drift {
    fn default() -> Self {
        Self { every: "10m".to_owned(), read_all_every: "24h".to_owned(), ignore: Vec::new() }
    }
}

impl Drift {
    /// As the watcher takes it.
    ///
    /// # Errors
    /// What is wrong, as a sentence.
    pub fn settings(&self) -> Result<crate::drift::Settings, String> {
        let parse = |key: &str, text: &str| match human::parse(text) {
            Ok(duration) if duration >= SHORTEST_LOOK => Ok(duration),
            Ok(_) => Err(format!("drift.{key} = {text:?} is shorter than {} s", SHORTEST_LOOK.as_secs())),
            Err(error) => Err(format!("drift.{key}: {error}")),
        };
        let (quick, full) = (parse("every", &self.every)?, parse("read_all_every", &self.read_all_every)?);
        if let Some(pattern) =
            self.ignore.iter().find(|pattern| pattern.is_empty() || pattern.starts_with('/'))
        {
            return Err(format!(
                "drift.ignore: {pattern:?} is no pattern of paths below a release, such as \"var/*.db\""
            ));
        }
        Ok(crate::drift::Settings { rhythm: Rhythm { quick, full }, ignore: self.ignore.clone() })
    }
}

/// More often nobody needs to know.
const SHORTEST_LOOK: std::time::Duration = std::time::Duration::from_secs(1);

/// How holders are started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LauncherKind {
    /// In sessions of their own.
    #[default]
    Detached,
    /// As instances of a template unit.
    Systemd,
}

/// Where steps run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepsIn {
    /// Below the agent.
    #[default]
    Child,
    /// In units of their own.
    Unit,
}

/// The value of a variable: a text or a whole number.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// A number, such as a port.
    Number(i64),
    /// A text.
    Text(String),
}

impl Default for Config {
    fn default() -> Self {
        Self {
            controller: None,
            state_dir: "/var/lib/landfall".into(),
            apps_dir: "/srv".into(),
            run_dir: "/run/landfall".into(),
            log_dir: "/var/log/landfall".into(),
            program: None,
            launcher: LauncherKind::default(),
            steps: StepsIn::default(),
            variables: BTreeMap::new(),
            traffic: Default::default(),
            docker: Default::default(),
            drift: Drift::default(),
        }
    }
}

impl Config {
    /// What a file says of the program of a release of the agent, and nothing else: that program may know keys that
    /// this one does not.
    #[must_use]
    pub fn released(path: Option<&Path>) -> Option<Released> {
        let text = std::fs::read_to_string(path.unwrap_or(Path::new(DEFAULT_PATH))).ok()?;
        let table: toml::Table = text.parse().ok()?;
        let path = |key| table.get(key).and_then(toml::Value::as_str).map(PathBuf::from);
        let run_dir = path("run_dir").unwrap_or(Self::default().run_dir);
        Some(Released { program: path("program")?, run_dir })
    }

    /// Reads a file. One that was not named and is not there counts as empty.
    ///
    /// # Errors
    /// [`AgentError::Config`] with the line and the text that is wrong.
    pub fn load(path: Option<&Path>) -> Result<Self, AgentError> {
        let (path, must_exist) = path.map_or((Path::new(DEFAULT_PATH), false), |path| (path, true));
        let refuse = |reason: String| AgentError::Config { path: path.to_owned(), reason };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => {
                return Ok(Self::default());
            }
            Err(error) => return Err(refuse(error.to_string())),
        };
        let config: Self = toml::from_str(&text).map_err(|error| refuse(error.to_string()))?;
        config.check().map_err(refuse)?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        for (key, path) in [
            ("state_dir", &self.state_dir),
            ("apps_dir", &self.apps_dir),
            ("run_dir", &self.run_dir),
            ("log_dir", &self.log_dir),
            ("program", self.program.as_ref().unwrap_or(&self.log_dir)),
        ] {
            if !path.is_absolute() {
                return Err(format!("{key} = {path:?} is not an absolute path"));
            }
        }
        if let Some(controller) = &self.controller {
            check_address(controller)?;
        }
        self.traffic.check()?;
        self.docker.check()?;
        self.drift.settings()?;
        for name in self.variables.keys() {
            let known = landfall_common::words::KNOWN.contains(&name.as_str());
            let text = format!("{{{name}}}");
            if known || landfall_common::words::names(&text).next() != Some(name) {
                return Err(format!(
                    "the variable {name:?} cannot be used: a name has lower-case letters, digits and _, and is none of {}",
                    landfall_common::words::KNOWN.join(", ")
                ));
            }
        }
        Ok(())
    }

    /// The host's own words.
    #[must_use]
    pub fn variables(&self) -> BTreeMap<String, String> {
        let text = |value: &Value| match value {
            Value::Number(number) => number.to_string(),
            Value::Text(text) => text.clone(),
        };
        self.variables.iter().map(|(name, value)| (name.clone(), text(value))).collect()
    }

    /// The directory of an application.
    #[must_use]
    pub fn app_dir(&self, application: &landfall_common::AppName) -> PathBuf {
        self.apps_dir.join(application.as_str())
    }

    /// Where holders keep their files.
    #[must_use]
    pub fn places(&self) -> Places {
        Places {
            run: self.run_dir.join("holders"),
            state: self.state_dir.join("holders"),
            logs: self.log_dir.clone(),
            log_bytes: SERVICE_LOG_BYTES,
        }
    }

    /// How holders are started.
    #[must_use]
    pub fn launcher(&self) -> Launcher {
        match self.launcher {
            LauncherKind::Systemd => Launcher::Systemd { template: "landfall-holder".to_owned() },
            LauncherKind::Detached => Launcher::detached_self(),
        }
    }
}

/// Checks `HOST:PORT`.
///
/// # Errors
/// What is wrong, as a sentence.
pub fn check_address(text: &str) -> Result<(), String> {
    let valid = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains("//") && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if valid {
        Ok(())
    } else {
        Err(format!("{text:?} is not HOST:PORT, such as controller.example.com:7443"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(Some(&path)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_template_holds_the_defaults() {
        assert_eq!(load(&template()).unwrap(), Config::default());
    }

    #[test]
    fn the_program_of_a_release_is_found_whatever_else_the_file_says() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.toml");
        let released = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Config::released(Some(&path))
        };
        let program: PathBuf = "/a/agent".into();
        let known = Released { program: program.clone(), run_dir: Config::default().run_dir };
        assert_eq!(released("of_the_future = 1\nprogram = \"/a/agent\"\n[what.ever]\nx = 2\n"), Some(known));
        let known = Released { program, run_dir: "/b".into() };
        assert_eq!(released("run_dir = \"/b\"\nprogram = \"/a/agent\"\n"), Some(known));
        for text in ["", "program = 1", "program = [", "run_dir = \"/b\""] {
            assert_eq!(released(text), None, "{text}");
        }
    }

    fn repository(file: &str) -> String {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(file);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    #[test]
    fn the_file_of_the_package_says_another_thing_than_the_defaults_only_of_what_needs_systemd() {
        let packaged = load(&repository("deploy/etc/agent.toml")).unwrap();
        let systemd = (LauncherKind::Systemd, StepsIn::Unit);
        let program = Some("/var/lib/landfall-released/landfall-agent/current/landfall-agent".into());
        assert_eq!(packaged, Config { program, launcher: systemd.0, steps: systemd.1, ..Config::default() });
    }

    /// The keys of a table, out of the words with which an unknown one is refused.
    fn keys_of(table: &str) -> Vec<String> {
        let error = load(&format!("{table}\nno_such_key = 1")).unwrap_err();
        let (_, expected) = error.split_once("expected ").unwrap_or_else(|| panic!("{error}"));
        expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn the_reference_page_has_every_key_with_its_default() {
        let page = repository("docs/reference/agent-toml.md");
        let mut defaults = String::new();
        for (heading, table) in [
            ("## Top level", ""),
            ("## `[traffic.nginx]`", "[traffic.nginx]"),
            ("## `[traffic.haproxy]`", "[traffic.haproxy]"),
            ("## `[docker]`", "[docker]"),
            ("## `[drift]`", "[drift]"),
        ] {
            let section = page.split(heading).nth(1).unwrap().split("\n## ").next().unwrap();
            let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
            let rows: Vec<(&str, &str)> =
                rows.map(|(key, rest)| (key, rest.split(" | ").next().unwrap())).collect();
            let documented: Vec<&str> = rows.iter().map(|(key, _)| *key).collect();
            let tables = ["variables", "traffic", "drift", "docker"];
            let keys: Vec<String> =
                keys_of(table).into_iter().filter(|key| !tables.contains(&key.as_str())).collect();
            assert_eq!(documented, keys, "{heading}");
            defaults.push_str(&format!("{table}\n"));
            for (key, default) in rows {
                // What has no value by default is told in words.
                if let Some(value) = default.strip_prefix('`').and_then(|value| value.strip_suffix('`')) {
                    defaults.push_str(&format!("{key} = {value}\n"));
                }
            }
        }
        assert_eq!(load(&defaults).unwrap(), Config::default(), "{defaults}");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, expected) in [
            ("state_dri = \"/x\"", "state_dri"),
            ("launcher = \"docker\"", "docker"),
            ("steps = \"jail\"", "jail"),
            ("state_dir = \"x\"", "is not an absolute path"),
            ("controller = \"https://x\"", "is not HOST:PORT"),
            ("[variables]\nrelease = 1", "cannot be used"),
            ("[variables]\nPort = 1", "cannot be used"),
            ("[variables]\nport = 1.5", "port"),
            ("[traffic.nginx]\nanswer = \"localhost\"", "is not IP:PORT"),
            ("[traffic.nginx]\nreload = []", "nginx would never take the file up"),
            ("[traffic.nginx]\ndirectives = [\"keepalive 16;\"]", "without its semicolon"),
            ("[docker]\nmounts = [\"srv\"]", "is not an absolute path"),
            ("[docker]\nprivileged = 1", "privileged"),
            ("[drift]\nevery = \"10\"", "drift.every"),
            ("[drift]\nread_all_every = \"10ms\"", "shorter than 1 s"),
            ("[drift]\nignore = [\"/var\"]", "is no pattern"),
            ("[traffic.haproxy]\nstate_file = \"state\"", "is not an absolute path"),
        ] {
            let error = load(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let config = load("[variables]\nport = 8101\nzone = \"a\"").unwrap();
        assert_eq!(config.variables()["port"], "8101");
    }
}
