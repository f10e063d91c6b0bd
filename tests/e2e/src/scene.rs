//! A stage on which an application already has a controller, an operator with keys, and hosts.
//!
//! The application is a directory with one small HTTP server in Python's standard library: it takes its
//! socket from the holder, names its release in `X-Release`, and finishes its requests on SIGTERM.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::stage::{Said, Stage, token_in};

/// The application's name.
pub const APPLICATION: &str = "site";

/// The application: one file of Python.
pub const SERVER: &str = include_str!("scene/server.py");

const DEFINITION: &str = r#"[application]
name = "site"

[[service]]
name = "web"
driver = "process"
command = ["python3", "server.py"]
listen = "127.0.0.1:{port}"
ready = { http = "/healthz", timeout = "15s" }
stop_timeout = "15s"

[[check]]
name = "healthz"
http = { url = "http://127.0.0.1:{port}/healthz", status = 200 }
interval = "200ms"
timeout = "2s"

[environment.production]
canary = 1
batch = 1
max_unavailable = 1
min_healthy = "1s"
healthy_deadline = "30s"
"#;

/// The stage and the directory it stands in.
pub struct Scene {
    /// The stage; ended before its directory is removed.
    pub stage: Stage,
    directory: tempfile::TempDir,
}

impl Scene {
    /// A running controller, an operator who may do everything, and `hosts` that have joined.
    ///
    /// # Errors
    /// If any of it fails, with what the program said.
    pub fn new(bin: &Path, hosts: &[&str]) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("landfall-e2e-").tempdir()?;
        let mut stage = Stage::new(directory.path(), bin)?;
        let token = stage.init_controller()?;
        stage.start_controller()?;
        let address = stage.address.clone();
        stage.run_ctl(&["login", &token, "--controller", &address])?.expect_code(0)?;
        stage.run_ctl(&["init", "--app", APPLICATION])?.expect_code(0)?;
        let mut scene = Self { stage, directory };
        for name in hosts {
            scene.prepare(name)?;
            scene.join(name)?;
        }
        Ok(scene)
    }

    /// Prepares a host that has not joined; gives the directory of all that it has.
    ///
    /// # Errors
    /// If a directory or file cannot be written.
    pub fn prepare(&mut self, name: &str) -> io::Result<PathBuf> {
        self.stage.add_host(name, APPLICATION)?;
        Ok(self.path("hosts").join(name))
    }

    /// Lets a prepared host join.
    ///
    /// # Errors
    /// If that fails, with what the program said.
    pub fn join(&mut self, name: &str) -> io::Result<()> {
        let said = self.ctl(&["hosts", "token", "--env", "production", "--name", name])?;
        self.stage.join(name, &token_in(&said.expect_code(0)?)?)
    }

    /// A directory of this scene for anything.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes the application as of `release`; its definition goes through `edit`.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn artifact(&self, release: &str, edit: impl FnOnce(String) -> String) -> io::Result<PathBuf> {
        let artifact = self.path("artifacts").join(release);
        fs::create_dir_all(&artifact)?;
        fs::write(artifact.join("landfall.toml"), edit(DEFINITION.to_owned()))?;
        fs::write(artifact.join("server.py"), SERVER)?;
        fs::write(artifact.join("release.txt"), release)?;
        Ok(artifact)
    }

    /// The command line that releases an artifact, ready to be started.
    #[must_use]
    pub fn release_command(&self, release: &str, artifact: &Path, more: &[&str]) -> Command {
        let mut command = self.stage.ctl();
        command.current_dir(self.stage.root.join("operator")).args([
            "release",
            release,
            "--yes",
            "--artifact",
        ]);
        command.arg(artifact).args(more).stdin(Stdio::null());
        command
    }

    /// Releases the application as of `release` and waits for the end.
    ///
    /// # Errors
    /// If `ctl` cannot be started.
    pub fn release(&self, release: &str) -> io::Result<Said> {
        let artifact = self.artifact(release, |text| text)?;
        Ok(self.release_command(release, &artifact, &[]).output()?.into())
    }

    /// Begins to release the application as of `release`, and follows it in the background.
    ///
    /// # Errors
    /// If `ctl` cannot be started.
    pub fn begin_release(&self, release: &str) -> io::Result<Child> {
        let artifact = self.artifact(release, |text| text)?;
        self.release_command(release, &artifact, &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    }

    /// Runs `ctl` for the application of this scene.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn ctl(&self, arguments: &[&str]) -> io::Result<Said> {
        let mut all = vec!["--app", APPLICATION];
        all.extend(arguments);
        self.stage.run_ctl(&all)
    }

    /// The same on the machine of somebody else, whose keys lie in `config`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn ctl_as(&self, config: &Path, arguments: &[&str]) -> io::Result<Said> {
        let mut command = self.stage.ctl();
        command.env("LANDFALL_CONFIG_DIR", config).current_dir(self.stage.root.join("operator"));
        Ok(command.args(["--app", APPLICATION]).args(arguments).output()?.into())
    }

    /// Lets somebody with this role log in on a machine of his own; where his keys lie.
    ///
    /// # Errors
    /// If that is refused.
    pub fn log_in(&self, name: &str, role: &str) -> io::Result<PathBuf> {
        let said = self.ctl(&["operators", "token", name, "--role", role])?;
        let config = self.path(name);
        let login = ["login", &token_in(&said)?, "--controller", &self.stage.address];
        self.ctl_as(&config, &login)?.expect_code(0)?;
        Ok(config)
    }

    /// What `ctl … -o json` printed.
    ///
    /// # Errors
    /// If it failed, or what it printed is not JSON.
    pub fn json(&self, arguments: &[&str]) -> io::Result<serde_json::Value> {
        let mut all = vec!["-o", "json"];
        all.extend(arguments);
        let said = self.ctl(&all)?.expect_code(0)?;
        serde_json::from_str(&said.out).map_err(|error| {
            io::Error::other(format!("{error} in what {arguments:?} printed:\n{}", said.out))
        })
    }

    /// What every program wrote last, for a failed test.
    #[must_use]
    pub fn last_words(&self) -> String {
        let mut words = format!("--- controller\n{}", self.stage.controller_log());
        for name in self.stage.hosts.keys() {
            words.push_str(&format!("\n--- {name}\n{}", self.stage.agent_log(name)));
        }
        words
    }
}
