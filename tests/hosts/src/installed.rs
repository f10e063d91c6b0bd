//! Landfall on a fleet, installed with the very commands of the README (the controller on `deploy`, the operator on this
//! machine with an application in a Git repository) and of the guide on hosts (agents on the others, by hand).
//!
//! The application is the small HTTP server of the end-to-end tests, on port 8080 of each server, if a test does
//! not bring its own.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use landfall_common::definition::Definition;
use landfall_e2e::load::Load;
use landfall_e2e::scene::SERVER;
use landfall_e2e::stage::{Said, token_in};
use serde_json::Value;

use crate::fleet::{Fleet, Plan};
use crate::host::Host;
use crate::packages;

/// The application's name, as in the README.
pub const APPLICATION: &str = "tenants";

/// The host of the controller.
pub const DEPLOY: &str = "deploy";

/// Where the application listens on each server.
pub const PORT: u16 = 8080;

/// The version of the packages that are installed first.
pub const VERSION: &str = "0.1.0";

/// Where the hosts see the directory with the packages and the tarball.
pub const SOURCE: &str = "/usr/src/landfall";

/// Where they see those of the next version.
pub const NEXT: &str = "/usr/src/landfall-next";

const DEFINITION: &str = r#"[application]
name = "tenants"

[[service]]
name = "web"
driver = "process"
command = ["python3", "server.py"]
listen = "0.0.0.0:8080"
ready = { http = "/healthz", timeout = "30s" }
stop_timeout = "15s"

[[check]]
name = "healthz"
http = { url = "http://127.0.0.1:8080/healthz", status = 200 }
interval = "200ms"
timeout = "5s"

[environment.production]
canary = 1
batch = 1
max_unavailable = 1
min_healthy = "1s"
healthy_deadline = "60s"
"#;

/// A fleet with Landfall on it.
pub struct Installed {
    /// `deploy`, and the servers.
    pub fleet: Fleet,
    /// The names of the servers.
    pub servers: Vec<String>,
    /// The application's name, as its definition says.
    pub application: String,
    /// Added to what `ctl` finds in its environment, and so to what builds do.
    pub environment: BTreeMap<String, String>,
    operator: PathBuf,
}

impl Installed {
    /// Boots `deploy` and the servers, and does what the README and the guide say.
    ///
    /// # Errors
    /// The first thing that went wrong.
    pub fn new(servers: &[&str]) -> io::Result<Self> {
        Self::with_next(servers, None)
    }

    /// The same, with the packages of another version at hand on each host, in [`NEXT`].
    ///
    /// # Errors
    /// The first thing that went wrong.
    pub fn with_next(servers: &[&str], next: Option<&str>) -> io::Result<Self> {
        Self::build(servers, &[], next, Self::begin)
    }

    fn begin(&self) -> io::Result<()> {
        self.git(&["init", "--quiet", "--initial-branch", "main"])?;
        self.commit("v0", |text| text)
    }

    /// The same, with hosts on which nothing of Landfall is.
    ///
    /// # Errors
    /// The first thing that went wrong.
    pub fn with_others(servers: &[&str], others: &[&str]) -> io::Result<Self> {
        Self::build(servers, others, None, Self::begin)
    }

    /// The same with another application, which `make` puts as a Git repository into an empty directory, and
    /// with hosts on which nothing of Landfall is.
    ///
    /// # Errors
    /// The first thing that went wrong.
    pub fn with_application(
        servers: &[&str],
        others: &[&str],
        make: impl FnOnce(&Path) -> io::Result<()>,
    ) -> io::Result<Self> {
        Self::build(servers, others, None, |installed| make(&installed.operator.join("application")))
    }

    fn build(
        servers: &[&str],
        others: &[&str],
        next: Option<&str>,
        application: impl FnOnce(&Self) -> io::Result<()>,
    ) -> io::Result<Self> {
        let mut plan = Plan::new().share(&packages::ensure(VERSION)?, SOURCE).host(DEPLOY);
        if let Some(version) = next {
            plan = plan.share(&packages::ensure(version)?, NEXT);
        }
        let fleet = servers.iter().chain(others).fold(plan, |plan, name| plan.host(name)).boot()?;
        let operator = fleet.path("operator");
        fs::create_dir_all(operator.join("application"))?;
        let servers = servers.iter().map(|&name| name.to_owned()).collect();
        let mut installed = Self {
            fleet,
            servers,
            application: APPLICATION.to_owned(),
            environment: BTreeMap::new(),
            operator,
        };
        application(&installed)?;
        installed.application = installed.definition()?.application.to_string();

        let ([controller, you, _], [server, new_token]) = (readme()?, by_hand()?);
        let said = installed.controller().sh(&format!("cd {SOURCE}\n{controller}"))?;
        let token = token_in(&Said { out: said, err: String::new(), code: 0 })?;
        let address = installed.controller().address().to_string();
        let (first, _) = split_off_last(you.trim_end());
        installed.shell(&first.replace("lft1_…", &token).replace("deploy.example.org", &address))?;
        for name in &installed.servers {
            let token = token_in(&installed.shell(&new_token.replace("web-1", name))?)?;
            let script = server.replace("lft1_…", &token).replace("deploy.example.org", DEPLOY);
            let script = script.replace("/srv/tenants", &format!("/srv/{}", installed.application));
            installed.fleet.host(name).sh(&format!("cd {SOURCE}\n{script}"))?;
        }
        Ok(installed)
    }

    /// The host of the controller.
    #[must_use]
    pub fn controller(&self) -> &Host {
        self.fleet.host(DEPLOY)
    }

    /// What the application says of itself as of now.
    fn definition(&self) -> io::Result<Definition> {
        let path = self.operator.join("application/landfall.toml");
        Definition::parse(&path.display().to_string(), &fs::read_to_string(&path)?).map_err(|wrong| {
            let wrong: Vec<_> = wrong.iter().map(ToString::to_string).collect();
            io::Error::other(wrong.join("\n"))
        })
    }

    /// The line of the README that brings the agent to servers by ssh.
    ///
    /// # Errors
    /// If the README has none.
    pub fn adding() -> io::Result<String> {
        let [_, you, _] = readme()?;
        Ok(split_off_last(you.trim_end()).1.to_owned())
    }

    /// The operator's home directory.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.operator
    }

    /// What lines of shell say that the operator types in the application's repository.
    ///
    /// # Errors
    /// If one of them fails: everything that was said.
    pub fn shell(&self, script: &str) -> io::Result<Said> {
        let mut path = packages::programs().into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut command = Command::new("sh");
        command.args(["-e", "-c", script]).env("PATH", path).env("NO_COLOR", "1");
        self.as_operator(&mut command);
        Said::from(command.output()?).expect_code(0)
    }

    fn as_operator(&self, command: &mut Command) {
        command.current_dir(self.operator.join("application")).stdin(Stdio::null()).env_remove("RUST_LOG");
        command.env("HOME", &self.operator).env("XDG_CACHE_HOME", self.operator.join("cache"));
        command.env("LANDFALL_CONFIG_DIR", self.operator.join("config"));
        command.envs(&self.environment);
    }

    /// Runs git in the application's repository.
    ///
    /// # Errors
    /// What git said.
    pub fn git(&self, arguments: &[&str]) -> io::Result<Said> {
        let mut command = Command::new("git");
        self.as_operator(&mut command);
        command.args(["-c", "user.name=operator", "-c", "user.email=operator@example.org"]).args(arguments);
        Said::from(command.output()?).expect_code(0)
    }

    /// Puts a file into the application; the next commit takes it along.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn file(&self, name: &str, content: &[u8]) -> io::Result<()> {
        fs::write(self.operator.join("application").join(name), content)
    }

    /// Commits and tags the application as of `release`; its definition goes through `edit`.
    ///
    /// # Errors
    /// What git said.
    pub fn commit(&self, release: &str, edit: impl FnOnce(String) -> String) -> io::Result<()> {
        let tree = self.operator.join("application");
        fs::write(tree.join("landfall.toml"), edit(DEFINITION.to_owned()))?;
        fs::write(tree.join("server.py"), SERVER)?;
        fs::write(tree.join("release.txt"), release)?;
        self.git(&["add", "."])?;
        self.git(&["commit", "--quiet", "-m", &format!("The application as of {release}")])?;
        self.git(&["tag", "-a", release, "-m", release]).map(|_| ())
    }

    /// A command line of `ctl`, ready to be started.
    #[must_use]
    pub fn ctl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(packages::programs().join("ctl"));
        self.as_operator(&mut command);
        command.env("NO_COLOR", "1").args(arguments);
        command
    }

    /// Runs `ctl` to its end.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn ctl(&self, arguments: &[&str]) -> io::Result<Said> {
        Ok(self.ctl_command(arguments).output()?.into())
    }

    /// Runs `ctl` to its end, in another directory of the operator's than that of the application.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn ctl_in(&self, directory: &Path, arguments: &[&str]) -> io::Result<Said> {
        Ok(self.ctl_command(arguments).current_dir(directory).output()?.into())
    }

    /// What `ctl -o json …` printed.
    ///
    /// # Errors
    /// If it failed, or what it printed is not JSON.
    pub fn json(&self, arguments: &[&str]) -> io::Result<Value> {
        let said = self.ctl(&[&["-o", "json"], arguments].concat())?.expect_code(0)?;
        serde_json::from_str(&said.out).map_err(|error| io::Error::other(format!("{error} in {}", said.out)))
    }

    /// Commits, tags and releases, and waits for the end.
    ///
    /// # Errors
    /// If git fails, or `ctl` cannot be started.
    pub fn release(&self, release: &str) -> io::Result<Said> {
        self.commit(release, |text| text)?;
        self.ctl(&["release", release, "--yes"])
    }

    /// Commits, tags and begins to release; the child is `ctl`, which follows.
    ///
    /// # Errors
    /// If git fails, or `ctl` cannot be started.
    pub fn begin_release(&self, release: &str) -> io::Result<Child> {
        self.commit(release, |text| text)?;
        let mut command = self.ctl_command(&["release", release, "--yes"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    }

    /// The active release of a server by its `current`; empty before the first.
    ///
    /// # Errors
    /// If the server is off.
    pub fn current(&self, server: &str) -> io::Result<String> {
        let said =
            self.fleet.host(server).exec(&["readlink", &format!("/srv/{}/current", self.application)])?;
        Ok(said.out.trim().rsplit('/').next().unwrap_or_default().to_owned())
    }

    /// Begins to send requests to the servers.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn load(&self, servers: &[&str], rate_per_s: u32) -> io::Result<Load> {
        let targets =
            servers.iter().map(|name| format!("{}:{PORT}", self.fleet.host(name).address())).collect();
        Load::start(targets, "/", rate_per_s)
    }
}

/// The three blocks of commands in the README: for the controller, for you, for the files of each server.
fn readme() -> io::Result<[String; 3]> {
    blocks("README.md", "On three real servers")
}

/// Those for a server without ssh: on it, and the one that prints its token.
fn by_hand() -> io::Result<[String; 2]> {
    blocks("docs/guides/hosts.md", "By hand")
}

/// The blocks of commands below a heading.
fn blocks<const N: usize>(file: &str, heading: &str) -> io::Result<[String; N]> {
    let path = crate::repository().join(file);
    let text = fs::read_to_string(&path)?;
    let section = text.split("\n## ").find(|section| section.starts_with(heading)).unwrap_or_default();
    let blocks: Vec<_> = section
        .split("\n```sh\n")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once("\n```")?.0.to_owned()))
        .collect();
    blocks.try_into().map_err(|blocks: Vec<_>| {
        let found = blocks.len();
        io::Error::other(format!("{}: {found} blocks of sh below {heading:?} instead of {N}", path.display()))
    })
}

fn split_off_last(block: &str) -> (&str, &str) {
    block.rsplit_once('\n').unwrap_or(("", block))
}

/// What an unprivileged user with this name may do on a host, as a command.
///
/// # Errors
/// If the host is off.
pub fn as_user(host: &Host, user: &str, words: &[&str]) -> io::Result<Said> {
    host.exec(&[&["runuser", "-u", user, "--"], words].concat())
}
