//! A controller, some hosts and an operator on this machine, in one temporary directory.
//!
//! A test reads like a story: start the controller, let hosts join, release, kill something, look. All of
//! it talks over loopback; all of it is ended when the stage is dropped, the services that outlive their
//! agents included.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use crate::process::{self, Process, free_port, wait_until};

/// How long a program may take to start on a loaded machine.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// Says in its environment to which stage a process belongs.
const STAGE: &str = "LANDFALL_STAGE";

/// What a directory of programs holds.
pub const PROGRAMS: [&str; 3] = ["ctl", "landfall-controller", "landfall-agent"];

/// One host: an agent with directories of its own.
pub struct Host {
    /// Its name.
    pub name: String,
    /// Where its application listens.
    pub port: u16,
    /// What stands for `/srv/<app>`.
    pub srv: PathBuf,
    config: PathBuf,
    log: PathBuf,
    agent: Option<Process>,
    bin: PathBuf,
}

/// The whole scene.
pub struct Stage {
    /// Everything of this stage lives below it.
    pub root: PathBuf,
    /// By name.
    pub hosts: BTreeMap<String, Host>,
    /// The controller's address.
    pub address: String,
    controller_bin: PathBuf,
    ctl_bin: PathBuf,
    agent_bin: PathBuf,
    controller: Option<Process>,
    clock: Vec<(&'static str, OsString)>,
    keep: bool,
}

/// What a command printed, and how it ended.
#[derive(Debug)]
pub struct Said {
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// The exit code; -1 for a signal.
    pub code: i32,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code().unwrap_or(-1),
        }
    }
}

impl Said {
    /// The output, if the command exited with `code`.
    ///
    /// # Errors
    /// Everything that it said, if it exited otherwise.
    pub fn expect_code(self, code: i32) -> io::Result<Self> {
        if self.code == code {
            return Ok(self);
        }
        let Self { out, err, code: was } = self;
        Err(io::Error::other(format!("exit code {was} instead of {code}\n--- out\n{out}\n--- err\n{err}")))
    }
}

impl Stage {
    /// An empty stage below `root`, with the programs from `bin`.
    ///
    /// # Errors
    /// If a program is not there, or a directory cannot be made.
    pub fn new(root: &Path, bin: &Path) -> io::Result<Self> {
        for program in PROGRAMS {
            if !bin.join(program).is_file() {
                let message =
                    format!("{} is not there: run `cargo build --bins`", bin.join(program).display());
                return Err(io::Error::new(io::ErrorKind::NotFound, message));
            }
        }
        for directory in ["controller", "operator", "hosts"] {
            fs::create_dir_all(root.join(directory))?;
        }
        let stage = Self {
            root: root.to_owned(),
            hosts: BTreeMap::new(),
            address: format!("127.0.0.1:{}", free_port()?),
            controller_bin: bin.to_owned(),
            ctl_bin: bin.to_owned(),
            agent_bin: bin.to_owned(),
            controller: None,
            clock: Vec::new(),
            keep: false,
        };
        let config =
            format!("listen = \"{}\"\nstate_dir = {:?}\n", stage.address, root.join("controller/state"));
        fs::write(stage.controller_config(), config)?;
        Ok(stage)
    }

    /// Moves the clock of whatever is started from now on: `+13h`, `+40d`, `+0`.
    ///
    /// # Errors
    /// If faketime is not installed, with the command that installs it.
    pub fn set_clock(&mut self, offset: &str) -> io::Result<()> {
        let places = fs::read_dir("/usr/lib").into_iter().flatten();
        let library = places
            .filter_map(|entry| Some(entry.ok()?.path().join("faketime/libfaketimeMT.so.1")))
            .find(|library| library.is_file())
            .ok_or_else(|| {
                let message =
                    "faketime is not installed: `tests/setup.sh tests`, or apt-get install faketime";
                io::Error::new(io::ErrorKind::NotFound, message)
            })?;
        // The other clock is all processes' common one, and goes on as it does.
        self.clock = vec![
            ("LD_PRELOAD", library.into()),
            ("FAKETIME", offset.into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ];
        Ok(())
    }

    /// Leaves everything running when the stage is dropped.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// Adds to the controller's configuration, for its next start.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn configure_controller(&self, more: &str) -> io::Result<()> {
        let path = self.controller_config();
        let text = fs::read_to_string(&path)?;
        fs::write(path, format!("{text}\n{more}"))
    }

    fn controller_config(&self) -> PathBuf {
        self.root.join("controller/controller.toml")
    }

    /// The controller is of these programs from its next start on.
    pub fn set_controller(&mut self, bin: &Path) {
        bin.clone_into(&mut self.controller_bin);
    }

    /// The operator's `ctl` is of these programs from now on.
    pub fn set_ctl(&mut self, bin: &Path) {
        bin.clone_into(&mut self.ctl_bin);
    }

    /// A host's agent is of these programs from its next start on; and that of each host that is added later, where
    /// none is named.
    pub fn set_agent(&mut self, name: Option<&str>, bin: &Path) {
        match name {
            Some(name) => {
                if let Some(host) = self.hosts.get_mut(name) {
                    bin.clone_into(&mut host.bin);
                }
            }
            None => bin.clone_into(&mut self.agent_bin),
        }
    }

    fn program(&self, program: PathBuf) -> Command {
        let mut command = Command::new(program);
        command.envs(self.clock.clone()).env_remove("RUST_LOG").env("NO_COLOR", "1").env(STAGE, &self.root);
        command
    }

    fn controller_program(&self) -> Command {
        let mut command = self.program(self.controller_bin.join("landfall-controller"));
        command.arg("--config").arg(self.controller_config());
        command
    }

    fn agent_program(&self, host: &Host) -> Command {
        let mut command = self.program(host.bin.join("landfall-agent"));
        command.arg("--config").arg(&host.config);
        command
    }

    /// Prepares the controller's state and gives the token of the first administrator.
    ///
    /// # Errors
    /// If that fails, with what it said.
    pub fn init_controller(&self) -> io::Result<String> {
        let said = self.run_controller(&["init"])?.expect_code(0)?;
        token_in(&said)
    }

    /// Runs a command of the controller's program, such as `backup`, and waits for its end.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn run_controller(&self, arguments: &[&str]) -> io::Result<Said> {
        Ok(self.controller_program().args(arguments).output()?.into())
    }

    /// Where the controller keeps everything.
    #[must_use]
    pub fn controller_state(&self) -> PathBuf {
        self.root.join("controller/state")
    }

    /// Starts the controller and waits until it answers.
    ///
    /// # Errors
    /// If it does not come up; with the end of its log.
    pub fn start_controller(&mut self) -> io::Result<()> {
        let log = self.root.join("controller/log");
        let controller = Process::spawn("landfall-controller", &mut self.controller_program(), &log)?;
        let address = self.address.clone();
        self.controller = Some(controller);
        wait_until("the controller listens", START_PATIENCE, || {
            std::net::TcpStream::connect(&address).is_ok()
        })
        .map_err(|error| io::Error::other(format!("{error}\n{}", process::tail(&log, 30))))
    }

    /// Kills the controller with SIGKILL.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub fn kill_controller(&mut self) -> io::Result<()> {
        self.controller.take().map_or(Ok(()), |mut controller| controller.kill().map(|_| ()))
    }

    /// Stops the controller with SIGTERM.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub fn stop_controller(&mut self) -> io::Result<()> {
        let patience = Duration::from_secs(15);
        self.controller.take().map_or(Ok(()), |mut controller| controller.terminate(patience).map(|_| ()))
    }

    /// An operator's command line, ready for arguments.
    #[must_use]
    pub fn ctl(&self) -> Command {
        let mut command = self.program(self.ctl_bin.join("ctl"));
        command.env("XDG_CONFIG_HOME", self.root.join("operator/config"));
        command.env("XDG_CACHE_HOME", self.root.join("operator/cache"));
        command.env("LANDFALL_CONFIG_DIR", self.root.join("operator/config/landfall"));
        command
    }

    /// Runs an operator's command in `directory`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn ctl_in(&self, directory: &Path, arguments: &[&str]) -> io::Result<Said> {
        Ok(self.ctl().current_dir(directory).args(arguments).output()?.into())
    }

    /// Runs an operator's command anywhere.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn run_ctl(&self, arguments: &[&str]) -> io::Result<Said> {
        self.ctl_in(&self.root.join("operator"), arguments)
    }

    /// Prepares a host for `application`, with a free port for it in the variable `port`; it has not joined.
    ///
    /// # Errors
    /// If a directory or file cannot be written.
    pub fn add_host(&mut self, name: &str, application: &str) -> io::Result<&Host> {
        let home = self.root.join("hosts").join(name);
        let srv = home.join("srv").join(application);
        fs::create_dir_all(srv.join("shared"))?;
        fs::create_dir_all(home.join("run"))?;
        let port = free_port()?;
        let config = home.join("agent.toml");
        let text = format!(
            "apps_dir = {:?}\nstate_dir = {:?}\nrun_dir = {:?}\nlog_dir = {:?}\nlauncher = \"detached\"\n\n[variables]\nport = \"{port}\"\n",
            home.join("srv"),
            home.join("state"),
            home.join("run"),
            home.join("logs"),
        );
        fs::write(&config, text)?;
        let host = Host {
            name: name.to_owned(),
            port,
            srv,
            config,
            log: home.join("log"),
            agent: None,
            bin: self.agent_bin.clone(),
        };
        self.hosts.insert(name.to_owned(), host);
        Ok(&self.hosts[name])
    }

    /// Lets a host join with a token, and starts its agent.
    ///
    /// # Errors
    /// If either fails.
    pub fn join(&mut self, name: &str, token: &str) -> io::Result<()> {
        let address = self.address.clone();
        self.run_agent(name, &["join", token, "--controller", &address])?.expect_code(0)?;
        self.start_agent(name)
    }

    /// Runs one command of a host's agent.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn run_agent(&self, name: &str, arguments: &[&str]) -> io::Result<Said> {
        Ok(self.agent_program(&self.hosts[name]).args(arguments).output()?.into())
    }

    /// Starts the agent of a host that has joined.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_agent(&mut self, name: &str) -> io::Result<()> {
        let host = self.hosts.get(name).ok_or_else(|| io::Error::other(format!("no host {name}")))?;
        let mut command = self.agent_program(host);
        let agent = Process::spawn(name, command.arg("run"), &host.log)?;
        self.hosts.entry(name.to_owned()).and_modify(|host| host.agent = Some(agent));
        Ok(())
    }

    /// Kills a host's agent with SIGKILL; its services go on.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub fn kill_agent(&mut self, name: &str) -> io::Result<()> {
        let agent = self.hosts.get_mut(name).and_then(|host| host.agent.take());
        agent.map_or(Ok(()), |mut agent| agent.kill().map(|_| ()))
    }

    /// What `current` of a host points at, as its release's name; empty before the first.
    #[must_use]
    pub fn current(&self, name: &str) -> String {
        let link = fs::read_link(self.hosts[name].srv.join("current")).unwrap_or_default();
        link.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// The process id of a host's agent, if it runs.
    #[must_use]
    pub fn agent_id(&self, name: &str) -> Option<u32> {
        self.hosts.get(name)?.agent.as_ref().map(Process::id)
    }

    /// The process id of the controller, if it runs.
    #[must_use]
    pub fn controller_id(&self) -> Option<u32> {
        self.controller.as_ref().map(Process::id)
    }

    /// The last lines that a host's agent wrote.
    #[must_use]
    pub fn agent_log(&self, name: &str) -> String {
        process::tail(&self.hosts[name].log, 40)
    }

    /// The last lines that the controller wrote.
    #[must_use]
    pub fn controller_log(&self) -> String {
        process::tail(&self.root.join("controller/log"), 40)
    }

    /// Ends everything that belongs to this stage, whoever started it.
    pub fn end(&mut self) {
        for host in self.hosts.values_mut() {
            host.agent = None;
        }
        self.controller = None;
        // The holders and their services outlive the agents on purpose: the stage ends them, and also what
        // a test has torn from its parent.
        end_all(|| process::that_name(&self.root));
    }
}

/// Ends processes until none is found any more.
pub fn end_all(find: impl Fn() -> Vec<u32>) {
    for name in ["TERM", "KILL"] {
        find().into_iter().for_each(|id| process::signal(id, name));
        if wait_until("all have ended", Duration::from_secs(5), || find().is_empty()).is_ok() {
            return;
        }
    }
}

/// The ids of what a stage below `root` has started and of what that has started in turn: services have an
/// environment of their own, but a holder for a parent.
#[must_use]
pub fn started_in(root: &Path) -> Vec<u32> {
    let mut found = process::with_variable(STAGE, root.as_os_str());
    let mut at = 0;
    while at < found.len() {
        let children = process::children(found[at]).into_iter().filter(|child| !found.contains(child));
        found.extend(children.collect::<Vec<_>>());
        at += 1;
    }
    found
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.keep {
            for host in self.hosts.values_mut() {
                std::mem::forget(host.agent.take());
            }
            std::mem::forget(self.controller.take());
        } else {
            self.end();
        }
    }
}

/// Holds what was said against the exit code, and against words that must stand in it.
///
/// # Panics
/// If it is otherwise.
#[track_caller]
pub fn told(said: &Said, code: i32, words: &[&str]) {
    assert_eq!(said.code, code, "{said:?}");
    let all = format!("{}{}", said.out, said.err);
    for word in words {
        assert!(all.contains(word), "no {word:?} in:\n{all}");
    }
}

/// The token in what a command printed.
///
/// # Errors
/// If there is none.
pub fn token_in(said: &Said) -> io::Result<String> {
    said.out
        .split_whitespace()
        .find(|word| word.starts_with("lft1_"))
        .map(str::to_owned)
        .ok_or_else(|| io::Error::other(format!("no token in what was printed:\n{}\n{}", said.out, said.err)))
}
