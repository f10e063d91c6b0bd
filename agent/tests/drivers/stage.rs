//! Where a driver is tried: a host in a directory, releases that are laid out in it, and what really runs.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use landfall_agent::drivers::{self, DriverState};
use landfall_agent::usage::Usages;
use landfall_common::ServiceName;
use landfall_common::manifest::{Driver, Service};
use landfall_common::report::Failure;
use tokio_util::sync::CancellationToken;

use crate::world::agent::Agent;
use crate::world::site::{Site, release_digest};

/// How the program of a release behaves. Each that serves tells of its start in the stage's own list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// It runs until it is asked to end.
    Serve,
    /// The same, and it is ready only after a second.
    Slow,
    /// It says why and exits with [`CODE`].
    Crash,
}

pub const CODE: i32 = 3;
pub const WORDS: &str = "the database is not there";

/// What is true of one driver and not of another.
#[derive(Debug, Clone, Copy)]
pub struct Traits {
    /// A release that fails leaves the old one running.
    pub keeps_old: bool,
    /// A release that fails makes the old one start again.
    pub restarts_old: bool,
    /// Asked again for the same attempt, it does it again: it knows nothing but a command.
    pub repeats: bool,
    /// What ends by itself is started again and counted.
    pub counts_restarts: bool,
    /// A program that is not ready yet is told from one that is.
    pub sees_readiness: bool,
    /// It can say which release runs.
    pub knows_release: bool,
    /// What does not run is told from what failed.
    pub knows_stopped: bool,
}

pub struct Stage {
    pub site: Site,
    pub service: Service,
    pub traits: Traits,
}

impl Stage {
    fn app(&self) -> PathBuf {
        self.site.root.join("app")
    }

    /// Lays a release out.
    pub fn release(&self, name: &str, behaviour: Behaviour) {
        let app = self.app();
        let (directory, manifests) = (app.join("releases").join(name), app.join(".landfall/releases"));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::create_dir_all(&manifests).unwrap();
        std::fs::write(manifests.join(name), name).unwrap();
        let starts = self.site.root.join("starts");
        // In a container a process has one id, and on the host another.
        let tell = format!("echo \"$(basename \"$(pwd -P)\") ${{HOST_PID:-$$}}\" >>{}\n", starts.display());
        let ready = "[ -z \"$NOTIFY_SOCKET\" ] || systemd-notify --ready\n\
                     [ -z \"$READY_FILE\" ] || echo ready >\"$READY_FILE\"\n";
        let serve = "exec sleep 1000000\n";
        let script = match behaviour {
            Behaviour::Serve => format!("{tell}{ready}{serve}"),
            Behaviour::Slow => format!("{tell}sleep 1\n{ready}{serve}"),
            Behaviour::Crash => format!("echo '{WORDS}' >&2\nexit {CODE}\n"),
        };
        std::fs::write(directory.join("run"), script).unwrap();
    }

    /// Points `current` to a release, as an activation does before it asks any driver. A slot is started before.
    pub fn swap(&self, name: &str) {
        let seat = match &self.service.driver {
            Driver::Systemd { slot, .. } | Driver::Supervisor { slot, .. } => slot.as_ref(),
            _ => None,
        };
        let name = if seat.is_some() { "none" } else { name };
        let (link, new) = (self.app().join("current"), self.app().join("current.new"));
        let _ = std::fs::remove_file(&new);
        symlink(format!("releases/{name}"), &new).unwrap();
        std::fs::rename(&new, &link).unwrap();
    }

    /// Every start of a program that serves, in its order: release and process.
    pub fn starts(&self) -> Vec<(String, u32)> {
        let text = std::fs::read_to_string(self.site.root.join("starts")).unwrap_or_default();
        let read = |line: &str| {
            let (release, pid) = line.split_once(' ')?;
            Some((release.to_owned(), pid.parse().ok()?))
        };
        text.lines().filter_map(read).collect()
    }

    /// The releases whose programs run now.
    pub fn running(&self) -> Vec<String> {
        let lives = |pid: u32| {
            std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
        };
        // A process that loads itself anew has told of several starts; the last one counts.
        let last: std::collections::BTreeMap<u32, String> =
            self.starts().into_iter().map(|(release, pid)| (pid, release)).collect();
        let mut running: Vec<_> =
            last.into_iter().filter(|(pid, _)| lives(*pid)).map(|(_, release)| release).collect();
        running.sort();
        running
    }

    /// Swaps and activates.
    pub async fn activate(&self, release: &str, attempt: &str) -> Result<(), Failure> {
        self.swap(release);
        self.site.activate(&self.service, release, attempt).await
    }

    /// The same, and it must succeed.
    pub async fn expect(&self, release: &str, attempt: &str) {
        if let Err(failure) = self.activate(release, attempt).await {
            panic!("{release} ({attempt}): {failure:#?}; it is {:?}", self.state().await);
        }
    }

    /// The same, with an end to it that somebody else may set.
    pub async fn activate_until(&self, release: &str, cancel: CancellationToken) -> Result<(), Failure> {
        self.swap(release);
        let mut context = self.site.context(release);
        context.cancel = cancel;
        let digest = release_digest(release);
        let activation = drivers::activate(&self.site.host, &self.service, &context, digest, "cancelled");
        tokio::time::timeout(Duration::from_secs(300), activation).await.expect("it never ended")
    }

    /// Restarts what runs of a release.
    pub async fn restart(&self, release: &str, attempt: &str) -> Result<(), Failure> {
        let context = self.site.context(release);
        let driver = drivers::of(&self.site.host, &self.service, &context);
        let restart = driver.restart(release_digest(release), attempt);
        tokio::time::timeout(Duration::from_secs(300), restart).await.expect("it never ended")
    }

    /// Has what runs of a release reload.
    pub async fn reload(&self, release: &str, attempt: &str) -> Result<(), Failure> {
        let context = self.site.context(release);
        let driver = drivers::of(&self.site.host, &self.service, &context);
        driver.reload(release_digest(release), attempt).await
    }

    /// An agent that does it, to be killed.
    pub fn agent(&self, release: &str, attempt: &str) -> Agent {
        self.swap(release);
        Agent::start(&self.site.root, &self.service, release, attempt)
    }

    pub async fn state(&self) -> DriverState {
        self.site.state(&self.service).await
    }

    /// Waits until the driver sees the service so.
    pub async fn until(&self, what: &str, wanted: impl Fn(&DriverState) -> bool) -> DriverState {
        let looking = async {
            loop {
                let state = self.state().await;
                if wanted(&state) {
                    return state;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(300), looking).await {
            Ok(state) => state,
            Err(_) => panic!("not seen within 60 s: {what}; last {:?}", self.state().await),
        }
    }

    /// Waits until the driver sees this release run.
    pub async fn until_running(&self, release: &str) {
        let digest = release_digest(release);
        let runs = |state: &DriverState| matches!(state, DriverState::Running { release: Some(told), .. } if *told == digest);
        self.until("it runs again", runs).await;
    }

    /// That the use of what runs can be read by what the driver says.
    pub fn expect_seen(&self, state: &DriverState) {
        let DriverState::Running { roots, .. } = state else { panic!("it does not run: {state:?}") };
        assert_eq!(roots.is_some(), self.traits.counts_restarts, "who sees processes sees them end");
        let name = ServiceName::new("web").unwrap();
        let usages = Usages::default();
        let now = std::time::Instant::now();
        usages.begin(&[name.clone()].into(), now);
        usages.runs(&name, roots.as_ref(), 0);
        let _ = usages.take(now + Duration::from_secs(1));
        let used = usages.take(now + Duration::from_secs(2));
        assert_eq!(used.iter().any(|usage| usage.cpu.is_some()), roots.is_some(), "{roots:?}: {used:?}");
        // Where processes of others are hidden, and the kernel counts no memory of control groups of version 2, it is
        // unknown.
        let counts =
            |group: &String| Path::new("/sys/fs/cgroup").join(&group[1..]).join("memory.stat").exists();
        let groups = roots.as_ref().map(|roots| roots.groups.clone()).unwrap_or_default();
        if groups.is_empty() || groups.iter().any(counts) {
            let is_known = used.iter().any(|usage| usage.memory_bytes > Some(0));
            assert_eq!(is_known, roots.is_some(), "{roots:?}: {used:?}");
        }
    }

    /// That this release runs and nothing else, and that the driver says so.
    pub async fn expect_running(&self, release: &str, count: usize) {
        assert_eq!(self.running(), vec![release; count], "starts: {:?}", self.starts());
        match self.state().await {
            DriverState::Running { release: told, .. } if self.traits.knows_release => {
                assert_eq!(told, Some(release_digest(release)));
            }
            DriverState::Running { .. } => {}
            state => panic!("{release} runs, and the driver says {state:?}"),
        }
    }
}
