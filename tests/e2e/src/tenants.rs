//! The example of this repository on its hosts: a Django application with its history, on PostgreSQL.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::load::Load;
use crate::postgres::Postgres;
use crate::stage::{Said, Stage, token_in};

/// The application's name.
const APPLICATION: &str = "tenants";

/// A controller, an operator who may do everything, hosts that have joined, and the application's repository.
pub struct Tenants {
    // Ended in this order: the services before their database.
    /// The stage.
    pub stage: Stage,
    /// Its database.
    pub database: Postgres,
    /// Its Git repository, with the tags v1.3 to v1.7.
    pub repository: PathBuf,
    _directory: tempfile::TempDir,
}

impl Tenants {
    /// Prepares all of it; a host is a name, and the labels (`key=value`) that it has.
    ///
    /// # Errors
    /// If any of it fails, with what the program said.
    pub fn new(bin: &Path, hosts: &[(&str, &[&str])]) -> io::Result<Self> {
        let mut tenants = Self::without_hosts(bin)?;
        for (name, labels) in hosts {
            tenants.prepare(name)?;
            tenants.join(name, labels)?;
        }
        Ok(tenants)
    }

    /// The same, and no host yet.
    ///
    /// # Errors
    /// If any of it fails, with what the program said.
    pub fn without_hosts(bin: &Path) -> io::Result<Self> {
        let database = Postgres::start()?;
        let directory = tempfile::Builder::new().prefix("landfall-e2e-").tempdir()?;
        let repository = directory.path().join(APPLICATION);
        let history = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/tenants/make-history.sh");
        let made = Command::new("sh").arg(history).arg(&repository).output()?;
        Said::from(made).expect_code(0)?;

        let mut stage = Stage::new(directory.path(), bin)?;
        let token = stage.init_controller()?;
        stage.start_controller()?;
        let address = stage.address.clone();
        let tenants = Self { stage, database, repository, _directory: directory };
        tenants.ctl(&["login", &token, "--controller", &address])?.expect_code(0)?;
        tenants.ctl(&["init"])?.expect_code(0)?;
        Ok(tenants)
    }

    /// Prepares a host that has not joined; gives its agent's configuration.
    ///
    /// # Errors
    /// If a directory or file cannot be written.
    pub fn prepare(&mut self, name: &str) -> io::Result<PathBuf> {
        let host = self.stage.add_host(name, APPLICATION)?;
        let settings = format!(
            "DATABASE_URL={}\nDJANGO_SECRET_KEY=of-a-test\nTENANTS_SAMPLE_DATA=1\n",
            self.database.url()
        );
        fs::write(host.srv.join("shared/.env"), settings)?;
        Ok(self.stage.root.join("hosts").join(name).join("agent.toml"))
    }

    /// Lets a prepared host join, with these labels.
    ///
    /// # Errors
    /// If that fails, with what the program said.
    pub fn join(&mut self, name: &str, labels: &[&str]) -> io::Result<()> {
        let mut asked = vec!["hosts", "token", "--env", "production", "--name", name];
        for label in labels {
            asked.extend(["--label", label]);
        }
        let said = self.ctl(&asked)?.expect_code(0)?;
        self.stage.join(name, &token_in(&said)?)
    }

    /// Runs an operator's command in the repository.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn ctl(&self, arguments: &[&str]) -> io::Result<Said> {
        self.stage.ctl_in(&self.repository, arguments)
    }

    /// Commits a change of one file on top of a tag, and tags it; a file that is not there is empty before.
    ///
    /// # Errors
    /// If Git refuses, or the file cannot be written.
    pub fn tag(&self, name: &str, on: &str, file: &str, change: impl Fn(String) -> String) -> io::Result<()> {
        self.git(&["checkout", "--quiet", "--detach", on])?;
        let path = self.repository.join(file);
        fs::write(&path, change(fs::read_to_string(&path).unwrap_or_default()))?;
        self.git(&["add", "--force", file])?;
        self.git(&["commit", "--quiet", "--message", name])?;
        self.git(&["tag", name])
    }

    fn git(&self, arguments: &[&str]) -> io::Result<()> {
        let mut command = Command::new("git");
        command.current_dir(&self.repository).args(["-c", "user.name=Ada Keller"]);
        command.args(["-c", "user.email=ada@tenants.example"]).args(arguments);
        Said::from(command.output()?).expect_code(0).map(|_| ())
    }

    /// Begins to ask all hosts for the front page, in turn.
    ///
    /// # Errors
    /// If the load cannot be started.
    pub fn load(&self, rate_per_s: u32) -> io::Result<Load> {
        let hosts = self.stage.hosts.values();
        let targets = hosts.map(|host| format!("127.0.0.1:{}", host.port)).collect();
        Load::start(targets, "/", rate_per_s)
    }

    /// What the controller and the agents have said, for a test that failed.
    #[must_use]
    pub fn last_words(&self) -> String {
        let agents: Vec<_> = self.stage.hosts.keys().map(|host| self.stage.agent_log(host)).collect();
        format!("{}\n{}", self.stage.controller_log(), agents.join("\n"))
    }
}
