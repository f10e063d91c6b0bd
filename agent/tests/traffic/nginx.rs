//! nginx before two slots.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use landfall_proto::v1::OutcomeKind;

use crate::host::{Host, Plan, ask, free_ports, needed};
use crate::load::{Counts, Load};

/// An nginx of the test's own.
pub struct Nginx {
    program: PathBuf,
    root: PathBuf,
    port: u16,
}

impl Nginx {
    /// As an administrator begins: an upstream that nobody is behind yet.
    pub fn start(root: &Path, port: u16) -> Self {
        Self::before(root, port, 1)
    }

    /// Before a port that does not change.
    pub fn before(root: &Path, port: u16, upstream: u16) -> Self {
        let nginx = Self { program: needed("nginx", "nginx-light"), root: root.to_owned(), port };
        for directory in ["nginx", "tmp"] {
            std::fs::create_dir_all(root.join(directory)).unwrap();
        }
        let text = format!("upstream shop {{ server 127.0.0.1:{upstream} max_fails=0; }}\n");
        std::fs::write(root.join("nginx/shop.conf"), text).unwrap();
        nginx.configure("");
        nginx.run(&[]);
        nginx
    }

    fn configure(&self, more: &str) {
        let root = self.root.display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|name| format!("{name}_temp_path {root}/tmp/{name};\n"))
            .collect();
        let config = format!(
            "daemon on;\nworker_processes 2;\nworker_shutdown_timeout 10s;\npid {root}/nginx.pid;\n\
             error_log {root}/error.log notice;\nevents {{ worker_connections 1024; }}\nhttp {{\naccess_log off;\n\
             {temporary}include {root}/nginx/*.conf;\nserver {{\nlisten 127.0.0.1:{};\nlocation / {{\n\
             proxy_pass http://shop;\nproxy_http_version 1.1;\nproxy_set_header Connection \"\";\n}}\n}}\n{more}\n}}\n",
            self.port
        );
        std::fs::write(self.root.join("nginx.conf"), config).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Vec<String> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let (root, config) = (text(&self.root), text(&self.root.join("nginx.conf")));
        // Before a configuration is read, a message goes to a file that only root may write, unless `-e` names another.
        let log = text(&self.root.join("error.log"));
        let base = [text(&self.program), "-p".into(), root, "-e".into(), log, "-c".into(), config];
        base.into_iter().chain(arguments.iter().map(|argument| (*argument).to_owned())).collect()
    }

    fn run(&self, arguments: &[&str]) {
        let command = self.command(arguments);
        let output = Command::new(&command[0]).args(&command[1..]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn settings(&self, answer: u16) -> String {
        format!(
            "[traffic.nginx]\ndirectory = {:?}\nanswer = \"127.0.0.1:{answer}\"\ntest = {:?}\nreload = {:?}\n\
             directives = [\"keepalive 16\"]\n",
            self.root.join("nginx"),
            self.command(&["-t", "-q"]),
            self.command(&["-s", "reload"]),
        )
    }

    fn reloads(&self) -> usize {
        let log = std::fs::read_to_string(self.root.join("error.log")).unwrap_or_default();
        log.matches("signal process started").count()
    }
}

impl Drop for Nginx {
    /// The master ends its workers before itself, and must not be killed before it has.
    fn drop(&mut self) {
        let pid = std::fs::read_to_string(self.root.join("nginx.pid")).unwrap_or_default();
        self.run(&["-s", "stop"]);
        // What has ended and was not waited for has an empty one.
        let master = PathBuf::from("/proc").join(pid.trim()).join("cmdline");
        let lives = || std::fs::read(&master).is_ok_and(|line| !line.is_empty());
        let until = std::time::Instant::now() + Duration::from_secs(30);
        while !pid.is_empty() && lives() && std::time::Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

struct Scene {
    nginx: Nginx,
    host: Host,
    port: u16,
}

/// A host on which v1 is committed behind nginx.
async fn scene() -> Scene {
    scene_of(plan("v1"), "").await
}

/// As [`scene`], with more in its `agent.toml`.
async fn scene_with(more: &str) -> Scene {
    scene_of(plan("v1"), more).await
}

async fn scene_of(first: Plan, more: &str) -> Scene {
    let [port, answer, blue, green] = free_ports();
    let directory = tempfile::tempdir().unwrap();
    let nginx = Nginx::start(directory.path(), port);
    let settings = format!("{}{more}", nginx.settings(answer));
    let mut host = Host::new(directory, &settings, blue, green).await;
    let v1 = host.publish(&first, 1);
    host.activate(&v1).await;
    Scene { nginx, host, port }
}

fn plan(name: &'static str) -> Plan {
    Plan { arguments: vec!["notify=yes"], ..Plan::new(name) }
}

pub fn load(port: u16) -> Load {
    Load::start(vec![format!("127.0.0.1:{port}")], "/", 200).unwrap()
}

/// Waits until so many requests have been answered since the last look.
pub async fn more(load: &Load, all: &mut Counts, count: u64) {
    let until = all.sent + count;
    for _ in 0..12_000 {
        all.add(&load.take());
        if all.sent >= until {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the load got {} of {until} answers", all.sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn releases_are_switched_under_load_without_a_failed_request_and_the_way_back_starts_nothing() {
    let mut scene = scene().await;
    let (host, port) = (&mut scene.host, scene.port);
    let first = ask(port);
    assert_eq!(first.0, "v1");
    let mut all = Counts::default();
    let load = load(port);
    more(&load, &mut all, 200).await;
    let v1 = host.publish(&plan("v1"), 1);
    let v2 = host.publish(&plan("v2"), 2);
    host.activate(&v2).await;
    assert_eq!(ask(port).0, "v2");
    more(&load, &mut all, 100).await;
    // Back within the kept time: the very process that served before.
    host.activate(&v1).await;
    assert_eq!(ask(port), first);
    more(&load, &mut all, 100).await;
    let v3 = host.publish(&plan("v3"), 3);
    host.activate(&v3).await;
    assert_eq!(ask(port).0, "v3");
    more(&load, &mut all, 200).await;
    all.add(&load.stop());
    assert_eq!((all.failed, &all.failures[..]), (0, &[][..]), "{} sent, {} repeated", all.sent, all.repeated);
    println!("{} requests, {} repeated on a new connection, none failed", all.sent, all.repeated);

    // An agent that starts again finds all as it should be and reloads nothing.
    let before = scene.nginx.reloads();
    assert!(before >= 4, "four releases were led to by {before} reloads");
    scene.host.kill().await;
    scene.host.controller.shared.lock().unwrap().reports.clear();
    scene.host.start();
    let healthy = |report: &landfall_proto::v1::HostReport| {
        use landfall_proto::v1::HealthKind;
        report.incarnation == 2 && report.health.as_ref().is_some_and(|h| h.kind() == HealthKind::Healthy)
    };
    scene.host.controller.report("healthy again", healthy).await;
    assert_eq!(scene.nginx.reloads(), before, "the proxy was right, and was reloaded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_slot_that_answers_badly_never_gets_a_request() {
    let mut scene = scene().await;
    let (host, port) = (&mut scene.host, scene.port);
    let reloads = scene.nginx.reloads();
    let first = ask(port);
    let mut all = Counts::default();
    let load = load(port);
    more(&load, &mut all, 100).await;
    let bad = Plan { arguments: vec!["notify=yes", "status=500"], ..Plan::new("v2") };
    let bad = host.publish(&bad, 2);
    let generation = host.order(&bad);
    let report = host.ends(generation, OutcomeKind::Reverted).await;
    let failure = report.outcome.unwrap().failure.unwrap();
    assert!(failure.reason.contains("GET / was answered with 500"), "{failure:?}");
    more(&load, &mut all, 100).await;
    all.add(&load.stop());
    assert_eq!(all.failed, 0, "{:?}", all.failures);
    assert_eq!(ask(port), first, "the old one was touched");
    assert_eq!(scene.nginx.reloads(), reloads, "the proxy was touched");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_that_somebody_broke_stops_the_switch_and_is_told_in_nginx_own_words() {
    let mut scene = scene().await;
    let first = ask(scene.port);
    let file = scene.host.path("nginx/shop.conf");
    let before = std::fs::read_to_string(&file).unwrap();
    scene.nginx.configure("nonsense on;");
    let v2 = scene.host.publish(&plan("v2"), 2);
    let generation = scene.host.order(&v2);
    let report = scene.host.ends(generation, OutcomeKind::Reverted).await;
    let failure = report.outcome.unwrap().failure.unwrap();
    assert!(failure.tail.iter().any(|line| line.contains("nonsense")), "{failure:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before, "the file is as it was");
    assert_eq!(ask(scene.port), first);
    scene.nginx.configure("");
    scene.host.activate(&v2).await;
    assert_eq!(ask(scene.port).0, "v2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_is_killed_on_the_way_finishes_it_without_a_failed_request() {
    let mut scene = scene().await;
    let (host, port) = (&mut scene.host, scene.port);
    let mut all = Counts::default();
    let load = load(port);
    let names = ["v2", "v3", "v4", "v5", "v6"];
    for (at, name) in names.into_iter().enumerate() {
        let slow = Plan { arguments: vec!["notify=yes", "start_ms=150"], ..Plan::new(name) };
        let release = host.publish(&slow, at as u64 + 2);
        let generation = host.order(&release);
        // Wherever that finds it; each time a little later.
        tokio::time::sleep(Duration::from_millis(60 * (at as u64 + 1))).await;
        host.kill().await;
        host.start();
        host.ends(generation, OutcomeKind::Committed).await;
        assert_eq!(ask(port).0, name);
        more(&load, &mut all, 40).await;
    }
    all.add(&load.stop());
    assert_eq!(all.failed, 0, "{:?}, {} sent", all.failures, all.sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_old_slot_is_drained_until_its_deadline_and_what_is_cut_then_is_told() {
    // A slot is drained by the word of the release that leaves it.
    let mut scene = scene_of(Plan { drain: Duration::from_millis(500), ..plan("v1") }, "").await;
    let [blue] = [scene.host.path("agent.toml")].map(|path| {
        let config = std::fs::read_to_string(path).unwrap();
        let line = config.lines().find(|line| line.starts_with("blue = ")).unwrap().to_owned();
        line.trim_start_matches("blue = ").parse::<u16>().unwrap()
    });
    // Somebody holds on to the first slot, as a websocket does.
    let held = std::net::TcpStream::connect(("127.0.0.1", blue)).unwrap();
    let v2 = Plan { keep: Duration::from_millis(500), ..plan("v2") };
    let v2 = scene.host.publish(&v2, 2);
    scene.host.activate(&v2).await;
    scene.host.logs("connections did not end within the drain").await;
    scene.host.logs("the slot is free").await;
    assert!(scene.host.log().contains("cut="), "{}", scene.host.log());
    drop(held);
    assert_eq!(ask(scene.port).0, "v2");
    assert!(std::net::TcpStream::connect(("127.0.0.1", blue)).is_err(), "the old slot still listens");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_somebody_changed_is_drift_and_a_start_of_the_agent_writes_it_anew() {
    let mut scene = scene_with("[drift]\nevery = \"1s\"\n").await;
    let host = &mut scene.host;
    let path = host.path("nginx/shop.conf");
    let written = std::fs::read_to_string(&path).unwrap();
    let changed = written.replace("keepalive 16;", "keepalive 17;");
    assert_ne!(written, changed);
    std::fs::write(&path, &changed).unwrap();
    host.logs("this host is not as it was applied").await;
    let log = host.log();
    assert!(log.contains("total=1") && log.contains("nginx/shop.conf"), "{log}");

    host.kill().await;
    host.start();
    for _ in 0..1_200 {
        if std::fs::read_to_string(&path).unwrap().contains("keepalive 16;") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it stays as somebody made it:\n{}", host.log());
}
