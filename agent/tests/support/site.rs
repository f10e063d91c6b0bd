//! A host in a temporary directory, whose holders end with it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use landfall_agent::drivers::{self, DriverHost, DriverState};
use landfall_agent::holder::{Client, Launcher, Places, Reply, Request, Status};
use landfall_agent::steps::{Identity, StepContext, Words};
use landfall_common::Sha256;
use landfall_common::manifest::{Driver, Ready, Service};
use landfall_common::report::Failure;

pub const APPLICATION: &str = "tenants";
pub const SERVICE: &str = "web";

pub struct Site {
    pub root: PathBuf,
    pub host: DriverHost,
    owned: Option<tempfile::TempDir>,
}

pub fn release_digest(release: &str) -> Sha256 {
    Sha256::of(release.as_bytes())
}

impl Site {
    /// A new one, which is taken down when it is dropped.
    pub fn new() -> Self {
        let owned = tempfile::tempdir().unwrap();
        let mut site = Self::at(owned.path());
        site.owned = Some(owned);
        site
    }

    /// The same one, from another process.
    pub fn at(root: &Path) -> Self {
        let launcher = Launcher::Detached {
            program: std::env::current_exe().unwrap(),
            arguments: super::roles::arguments("holder"),
        };
        let places = Places {
            run: root.join("run"),
            state: root.join("state"),
            logs: root.join("logs"),
            log_bytes: 64 * 1024,
        };
        let mut host = DriverHost::new(launcher, places, root.join("drivers"));
        // For whoever is at the same place, in another process too.
        if let Ok(text) = std::fs::read_to_string(root.join("docker.toml")) {
            host.docker = toml::from_str(&text).unwrap();
        }
        Self { root: root.to_owned(), host, owned: None }
    }

    /// What surrounds a release: its own directory, where releases are laid out at all.
    pub fn context(&self, release: &str) -> StepContext {
        let app = self.root.join("app");
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let (directory, words) = if app.exists() {
            let directory = app.join("releases").join(release);
            let (release, current) = (text(directory.clone()), text(app.join("current")));
            (directory, Words { release, current, ..Words::default() })
        } else {
            (self.root.clone(), Words { release: text(self.root.clone()), ..Words::default() })
        };
        StepContext {
            identity: Identity {
                application: APPLICATION.parse().unwrap(),
                environment: "production".parse().unwrap(),
                release: release.parse().unwrap(),
            },
            words,
            directory,
            home: self.root.clone(),
            log: None,
            fence: None,
            group_note: None,
            deadline: None,
            cancel: Default::default(),
        }
    }

    /// As [`Self::context`], for a step that notes which processes are its own.
    pub fn noted(&self, release: &str) -> StepContext {
        StepContext { group_note: Some(self.root.join("run/steps/note")), ..self.context(release) }
    }

    pub fn client(&self) -> Client {
        let spec = self.host.places.spec(&APPLICATION.parse().unwrap(), &SERVICE.parse().unwrap());
        Client::new(&spec.control())
    }

    pub fn control(&self) -> PathBuf {
        self.host.places.run.join(format!("{APPLICATION}.{SERVICE}.sock"))
    }

    /// What the holder says, if there is one.
    pub async fn status(&self) -> Option<Status> {
        match self.client().ask(&Request::Status).await {
            Ok(Reply::Status(status)) => Some(*status),
            _ => None,
        }
    }

    /// Waits until the holder's status is as wanted.
    pub async fn until(&self, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        let asking = async {
            loop {
                if let Some(status) = self.status().await
                    && wanted(&status)
                {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(30), asking).await {
            Ok(status) => status,
            Err(_) => panic!("not seen within 30 s: {what}; last {:#?}", self.status().await),
        }
    }

    pub async fn activate(&self, service: &Service, release: &str, attempt: &str) -> Result<(), Failure> {
        let context = self.context(release);
        let activation = drivers::activate(&self.host, service, &context, release_digest(release), attempt);
        tokio::time::timeout(Duration::from_secs(60), activation).await.expect("an activation never ended")
    }

    pub async fn state(&self, service: &Service) -> DriverState {
        drivers::status(&self.host, service, &self.context("v1")).await
    }

    pub async fn deactivate(&self, service: &Service) -> Result<(), Failure> {
        drivers::deactivate(&self.host, service, &self.context("v1")).await
    }

    /// The holder's process.
    pub async fn holder_pid(&self) -> u32 {
        self.status().await.expect("there is no holder").holder_pid
    }
}

impl Drop for Site {
    /// Ends every process that was started below this directory, by its id: they carry it in their
    /// environment (services) or arguments (holders).
    fn drop(&mut self) {
        let Some(owned) = &self.owned else { return };
        let mark = owned.path().to_string_lossy().into_owned();
        for pass in 0..3 {
            for entry in std::fs::read_dir("/proc").unwrap().flatten() {
                let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
                    continue;
                };
                if u32::try_from(pid) == Ok(std::process::id()) {
                    continue;
                }
                let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
                let found = [read("cmdline"), read("environ")]
                    .iter()
                    .any(|text| String::from_utf8_lossy(text).contains(&mark));
                if found && let Some(pid) = rustix::process::Pid::from_raw(pid) {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
            std::thread::sleep(Duration::from_millis(if pass < 2 { 10 } else { 0 }));
        }
    }
}

/// A service that runs the test's own server.
pub fn service(listen: &str, arguments: &[&str], ready: Ready) -> Service {
    let program = std::env::current_exe().unwrap().to_string_lossy().into_owned();
    let mut command = vec![program, super::roles::MARK.to_owned(), "serve".to_owned()];
    command.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    Service {
        name: SERVICE.parse().unwrap(),
        on: Default::default(),
        driver: Driver::Process {
            command,
            environment: [("MARK".to_owned(), "{release}".to_owned())].into(),
            listen: (!listen.is_empty()).then(|| listen.to_owned()),
            ready,
            stop_timeout: Duration::from_secs(10),
            hold: None,
        },
    }
}

pub fn http_ready(timeout_ms: u64) -> Ready {
    Ready::Http {
        path: "/healthz".to_owned(),
        headers: Default::default(),
        timeout: Duration::from_millis(timeout_ms),
    }
}

pub fn notify_ready(timeout_ms: u64) -> Ready {
    Ready::Notify { timeout: Duration::from_millis(timeout_ms) }
}

/// With another stop timeout.
pub fn stopping_within(mut service: Service, timeout: Duration) -> Service {
    if let Driver::Process { stop_timeout, .. } = &mut service.driver {
        *stop_timeout = timeout;
    }
    service
}

/// A port that was free a moment ago.
pub fn free_address() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}
