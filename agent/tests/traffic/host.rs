//! A host with an agent, an application with two slots, and whatever proxy a test puts before it.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use landfall_common::Sha256;
use landfall_common::assignment::{OnFailure, Order, ReleaseRef};
use landfall_common::manifest::container::{
    Container, Image, LogDriver, Port, Protocol, Volume, VolumeSource,
};
use landfall_common::manifest::traffic::{Proxy, Slots, Switch};
use landfall_common::manifest::{
    Check, Directory, Driver, Entry, Manifest, Origin, Probe, Program, Ready, Seat, Service, Supervised,
    Traffic,
};
use landfall_proto::v1::{HostReport, HostTraffic, OutcomeKind};

use crate::controller::Controller;
use crate::world::{docker, roles, supervisor};

const AGENT: &str = env!("CARGO_BIN_EXE_landfall-agent");

pub struct Host {
    pub directory: tempfile::TempDir,
    pub controller: Controller,
    agent: Option<tokio::process::Child>,
    generation: u64,
}

/// How a release is, and what is to be done with its slots.
#[derive(Debug, Clone)]
pub struct Plan {
    pub name: &'static str,
    pub arguments: Vec<&'static str>,
    pub keep: Duration,
    pub drain: Duration,
    pub proxy: Option<Proxy>,
    /// It cannot run twice: what serves is stopped first, and connections wait.
    pub hold: Option<Duration>,
    /// Who runs it.
    pub by: By,
}

/// Who runs a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Holder,
    /// In a container of an image of the release's own.
    Docker,
    /// As the program `shop-SLOT` of a supervisord in the host's directory.
    Supervisor,
}

impl Plan {
    pub fn new(name: &'static str) -> Self {
        let seconds = Duration::from_secs;
        Self {
            name,
            arguments: Vec::new(),
            keep: seconds(600),
            drain: seconds(30),
            proxy: None,
            hold: None,
            by: By::Holder,
        }
    }
}

pub fn slots(keep: Duration) -> Slots {
    Slots {
        service: "web".parse().unwrap(),
        blue: "127.0.0.1:{blue}".into(),
        green: "127.0.0.1:{green}".into(),
        keep,
        warm_up: vec!["/".into()],
        warm_up_headers: Default::default(),
        warm_up_timeout: Duration::from_secs(8),
    }
}

/// Ports that were free a moment ago, each another.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let held: Vec<_> = (0..N).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    std::array::from_fn(|at| held[at].local_addr().unwrap().port())
}

impl Host {
    /// Enrolled, with its agent running.
    pub async fn new(directory: tempfile::TempDir, traffic: &str, blue: u16, green: u16) -> Self {
        let controller = Controller::start().await;
        let path = |name: &str| directory.path().join(name);
        let config = format!(
            "state_dir = {:?}\napps_dir = {:?}\nrun_dir = {:?}\nlog_dir = {:?}\n\
             [variables]\nblue = {blue}\ngreen = {green}\nsupervisor = {:?}\n{traffic}",
            path("state"),
            path("srv"),
            path("run"),
            path("log"),
            supervisor::socket(directory.path()),
        );
        std::fs::write(path("agent.toml"), config).unwrap();
        let mut host = Self { directory, controller, agent: None, generation: 0 };
        let address = host.controller.address.to_string();
        let output = tokio::process::Command::new(AGENT)
            .arg("--config")
            .arg(host.path("agent.toml"))
            .args(["join", &host.controller.token(), "--controller", &address])
            .output()
            .await
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        host.start();
        host
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn start(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("agent.log")).unwrap();
        let mut command = tokio::process::Command::new(AGENT);
        command.arg("--config").arg(self.path("agent.toml")).arg("run").stdin(Stdio::null()).stderr(log);
        self.agent = Some(command.kill_on_drop(true).spawn().unwrap());
    }

    /// SIGKILL.
    pub async fn kill(&mut self) {
        self.agent.take().unwrap().kill().await.unwrap();
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("agent.log")).unwrap()
    }

    /// Waits until the agent's log says something.
    pub async fn logs(&self, text: &str) {
        for _ in 0..6_000 {
            if self.log().contains(text) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the log never says {text:?}:\n{}", self.log());
    }

    pub fn publish(&mut self, plan: &Plan, counter: u64) -> ReleaseRef {
        let (manifest, objects) = manifest(plan);
        self.controller.publish(&objects, &manifest, counter)
    }

    /// Orders a release, and does not wait.
    pub fn order(&mut self, release: &ReleaseRef) -> u64 {
        let order = Order::Activate {
            on_failure: OnFailure::Revert,
            min_healthy: Duration::from_millis(300),
            healthy_deadline: Duration::from_secs(300),
        };
        self.ask(release, order)
    }

    /// Orders whatever it is, and does not wait.
    pub fn ask(&mut self, release: &ReleaseRef, order: Order) -> u64 {
        self.generation += 1;
        self.controller.assign(self.generation, release, order);
        self.generation
    }

    pub async fn activate(&mut self, release: &ReleaseRef) -> HostReport {
        let generation = self.order(release);
        self.ends(generation, OutcomeKind::Committed).await
    }

    /// Waits until it says so of its requests.
    pub async fn says(&self, traffic: HostTraffic) -> HostReport {
        self.controller.newest(traffic.as_str_name(), |report| report.traffic() == traffic).await
    }

    /// Waits for an outcome; another one is told with its failure.
    pub async fn ends(&self, generation: u64, kind: OutcomeKind) -> HostReport {
        let ended = self.controller.report("an outcome", |report| {
            report.outcome.as_ref().is_some_and(|outcome| outcome.generation == generation)
        });
        let report = tokio::time::timeout(Duration::from_secs(600), ended).await.unwrap();
        let outcome = report.outcome.clone().unwrap();
        assert_eq!(outcome.kind(), kind, "{outcome:?}\n{}", self.log());
        report
    }
}

impl Drop for Host {
    /// Holders and services carry the directory in their arguments or environment.
    fn drop(&mut self) {
        let mark = self.directory.path().to_string_lossy().into_owned();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
            let is_it = [read("cmdline"), read("environ")]
                .iter()
                .any(|text| String::from_utf8_lossy(text).contains(&mark));
            if is_it
                && u32::try_from(pid) != Ok(std::process::id())
                && let Some(pid) = rustix::process::Pid::from_raw(pid)
            {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

fn manifest(plan: &Plan) -> (Manifest, BTreeMap<Sha256, Vec<u8>>) {
    let mut files = BTreeMap::from([("version", plan.name.as_bytes().to_vec())]);
    let switch = Switch::Nginx { upstream: "shop".into() };
    let mut slots = slots(plan.keep);
    if plan.by == By::Docker {
        // Docker's own proxy is one more that has to be started.
        slots.warm_up_timeout = Duration::from_secs(20);
    }
    let proxy = plan.proxy.clone().unwrap_or(Proxy::Slots { slots, switch });
    let (has_slots, address) = match &proxy {
        Proxy::Slots { .. } => (true, "{address}"),
        Proxy::Gate { .. } => (false, "127.0.0.1:{blue}"),
    };
    // What may not run twice has one place, and nobody who leads requests.
    let (has_slots, address) =
        if plan.hold.is_some() { (false, "127.0.0.1:{blue}") } else { (has_slots, address) };
    let program = std::env::current_exe().unwrap().to_string_lossy().into_owned();
    let driver = match plan.by {
        By::Docker => {
            let image = docker::Image { mark: plan.name, ..docker::Image::default() }.saved();
            let driver = contained(plan, &image, address);
            files.insert("image.tar", image);
            driver
        }
        By::Supervisor => {
            let words: Vec<_> = serve(plan, &program).iter().map(|word| format!("'{word}'")).collect();
            files
                .insert("run", format!("exec {} \"bind=$LANDFALL_ADDRESS\"\n", words.join(" ")).into_bytes());
            Driver::Supervisor {
                target: Supervised::Program { name: "shop-{slot}".into() },
                server: "{supervisor}".into(),
                signal: None,
                settle: Duration::from_secs(2),
                timeout: Duration::from_secs(60),
                slot: Some(Seat::of_words()),
            }
        }
        By::Holder => Driver::Process {
            command: serve(plan, &program),
            environment: [("MARK".to_owned(), "{release}".to_owned())].into(),
            listen: (!has_slots).then(|| address.to_owned()),
            ready: Ready::Notify { timeout: Duration::from_secs(30) },
            stop_timeout: Duration::from_secs(10),
            hold: plan.hold,
        },
    };
    let size = |content: &Vec<u8>| content.len() as u64;
    let entry = |content: &Vec<u8>| Entry::File {
        digest: Sha256::of(content),
        size: size(content),
        executable: false,
    };
    let entries = files.iter().map(|(name, content)| ((*name).to_owned(), entry(content))).collect();
    let root = Directory { entries }.to_bytes().unwrap();
    let tree = Sha256::of(&root);
    let manifest = Manifest {
        format: 1,
        application: "shop".parse().unwrap(),
        release: plan.name.parse().unwrap(),
        origin: Origin::Artifact { commit: None },
        tree,
        file_count: files.len() as u64,
        total_bytes: files.values().map(size).sum(),
        program: Program {
            services: vec![Service { name: "web".parse().unwrap(), on: BTreeMap::new(), driver }],
            checks: vec![Check {
                name: "front".parse().unwrap(),
                probe: Probe::Http {
                    url: format!("http://{address}/"),
                    status: 200,
                    contains: None,
                    headers: Default::default(),
                },
                interval: Duration::from_millis(100),
                timeout: Duration::from_secs(5),
            }],
            traffic: plan.hold.is_none().then_some(Traffic { proxy, drain: plan.drain }),
            ..Program::default()
        },
        environments: BTreeMap::new(),
    };
    let files = files.into_values().map(|content| (Sha256::of(&content), content));
    (manifest, files.chain([(tree, root)]).collect())
}

fn serve(plan: &Plan, program: &str) -> Vec<String> {
    let before = [program, roles::MARK, "serve"].into_iter();
    before.chain(plan.arguments.iter().copied()).map(str::to_owned).collect()
}

/// The same server in a container, to which the host has to grant `/usr` and this program.
fn contained(plan: &Plan, image: &[u8], address: &str) -> Driver {
    let program = std::env::current_exe().unwrap().to_string_lossy().into_owned();
    let mount = |path: &str, target: &str| Volume {
        source: VolumeSource::Path { path: path.to_owned() },
        target: target.to_owned(),
        read_only: true,
    };
    let port = Port { host: address.to_owned(), container: 8000, protocol: Protocol::Tcp };
    Driver::Docker(Box::new(Container {
        image: Image::File { path: "image.tar".into(), digest: Some(Sha256::of(image)) },
        command: [serve(plan, "/server"), vec!["bind=0.0.0.0:8000".to_owned()]].concat(),
        environment: BTreeMap::new(),
        publish: vec![port],
        volumes: vec![mount("/usr", "/usr"), mount(&program, "/server")],
        network: None,
        user: None,
        memory_bytes: None,
        cpus_milli: None,
        pids: None,
        privileged: false,
        log_driver: LogDriver::Local,
        settle: Duration::from_millis(200),
        timeout: Duration::from_secs(300),
        stop_timeout: Duration::from_secs(10),
    }))
}

/// What is answered on a connection of its own: release and process.
pub fn ask(port: u16) -> (String, String) {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    let (release, pid) = body.split_once(' ').unwrap();
    (release.to_owned(), pid.to_owned())
}

/// The path of a program that a test needs, or the command that installs it.
pub fn needed(program: &str, package: &str) -> PathBuf {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut places =
        path.split(':').chain(["/usr/sbin", "/sbin"]).map(|place| PathBuf::from(place).join(program));
    places.find(|path| path.exists()).unwrap_or_else(|| {
        panic!("{program} is not installed: run tests/setup.sh, or `apt-get install --no-install-recommends {package}`")
    })
}
