//! The agent's program against a controller in memory, over real TLS, with real processes.

#![allow(clippy::unwrap_used, reason = "a test states what it expects with unwrap")]

mod controller;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use controller::Controller;
use landfall_common::Sha256;
use landfall_common::assignment::{Direction, Order};
use landfall_common::manifest::container::{Container, Image, LogDriver};
use landfall_common::manifest::traffic::{Gate, Proxy, Traffic};
use landfall_common::manifest::{
    Check, Directory, Driver, Entry, Manifest, Migration, Origin, Probe, Program, Service, Step, WayBack,
};
use landfall_proto::v1::{HealthKind, HostReport, HostTraffic, OutcomeKind};

const AGENT: &str = env!("CARGO_BIN_EXE_landfall-agent");

/// A host's directories, and its agent.
struct Host {
    directory: tempfile::TempDir,
    agent: Option<tokio::process::Child>,
}

impl Host {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let config = format!(
            "state_dir = {:?}\napps_dir = {:?}\nrun_dir = {:?}\nlog_dir = {:?}\n[variables]\nout = {:?}\n",
            path("state"),
            path("srv"),
            path("run"),
            path("log"),
            path("out"),
        );
        std::fs::write(path("agent.toml"), config).unwrap();
        Self { directory, agent: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    async fn call(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = tokio::process::Command::new(AGENT);
        command.arg("--config").arg(self.path("agent.toml")).args(arguments);
        tokio::time::timeout(Duration::from_secs(60), command.output()).await.unwrap().unwrap()
    }

    async fn join(&self, controller: &Controller) {
        let address = controller.address.to_string();
        let output = self.call(&["join", &controller.token(), "--controller", &address]).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn start(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("agent.log")).unwrap();
        let mut command = tokio::process::Command::new(AGENT);
        command.arg("--config").arg(self.path("agent.toml")).arg("run").stdin(Stdio::null()).stderr(log);
        self.agent = Some(command.kill_on_drop(true).spawn().unwrap());
    }

    async fn kill(&mut self) {
        self.agent.take().unwrap().kill().await.unwrap();
    }

    /// As the init system does it.
    async fn stop(&mut self) {
        let mut agent = self.agent.take().unwrap();
        let pid = i32::try_from(agent.id().unwrap()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(20), agent.wait()).await;
        assert!(ended.unwrap().unwrap().success());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("agent.log")).unwrap()
    }

    fn current(&self) -> String {
        let target = std::fs::read_link(self.path("srv/shop/current")).unwrap();
        target.file_name().unwrap().to_str().unwrap().to_owned()
    }
}

struct Release {
    manifest: Manifest,
    objects: BTreeMap<Sha256, Vec<u8>>,
}

fn step(name: &str, script: &str) -> Step {
    Step {
        name: name.parse().unwrap(),
        command: vec!["/bin/sh".into(), "-c".into(), script.into(), name.into(), "{out}".into()],
        environment: BTreeMap::new(),
        timeout: Duration::from_secs(20),
        network: None,
    }
}

/// A release whose service notes its version in the file `out`, and whose check looks for `good` there.
fn release(name: &str, files: &[(&str, Vec<u8>)]) -> Release {
    let mut objects = BTreeMap::new();
    let mut root = Directory::default();
    for (path, content) in files {
        let digest = Sha256::of(content);
        objects.insert(digest, content.clone());
        let entry = Entry::File { digest, size: content.len() as u64, executable: false };
        root.entries.insert((*path).to_owned(), entry);
    }
    let bytes = root.to_bytes().unwrap();
    let tree = Sha256::of(&bytes);
    objects.insert(tree, bytes);
    let manifest = Manifest {
        format: 1,
        application: "shop".parse().unwrap(),
        release: name.parse().unwrap(),
        origin: Origin::Artifact { commit: None },
        tree,
        file_count: files.len() as u64,
        total_bytes: files.iter().map(|(_, content)| content.len() as u64).sum(),
        program: Program {
            prepare: vec![Step {
                command: vec![
                    "/bin/sh".into(),
                    "-c".into(),
                    "echo made > \"$1/made\"".into(),
                    "p".into(),
                    "{prepared}".into(),
                ],
                ..step("prepare", "")
            }],
            services: vec![Service {
                name: "web".parse().unwrap(),
                on: BTreeMap::new(),
                driver: Driver::Exec {
                    restart: step("restart", "cat ../../current/version > \"$1\""),
                    stop: None,
                    status: None,
                },
            }],
            checks: vec![Check {
                name: "good".parse().unwrap(),
                probe: Probe::Exec { command: vec!["grep".into(), "good".into(), "{out}".into()] },
                interval: Duration::from_millis(100),
                timeout: Duration::from_secs(5),
            }],
            ..Program::default()
        },
        environments: BTreeMap::new(),
    };
    Release { manifest, objects }
}

fn simple(name: &str, content: &str) -> Release {
    release(name, &[("version", content.as_bytes().to_vec()), ("same", b"in each release".to_vec())])
}

#[tokio::test]
async fn a_host_joins_takes_a_release_and_survives_a_kill() {
    let mut controller = Controller::start().await;
    let mut host = Host::new();
    host.join(&controller).await;
    host.start();
    let v1 = simple("v1", "good 1");
    let v1 = controller.publish(&v1.objects, &v1.manifest, 1);
    controller.activate(1, &v1);
    let report = controller.outcome(1, OutcomeKind::Committed).await;
    assert!(report.active_proven);
    assert_eq!(host.current(), "v1");
    assert_eq!(std::fs::read_to_string(host.path("out")).unwrap(), "good 1");
    controller
        .report("healthy", |r| r.health.as_ref().is_some_and(|h| h.kind() == HealthKind::Healthy))
        .await;
    assert!(controller.shared.lock().unwrap().figures.iter().any(|f| f.checks.iter().any(|c| c.count > 0)));

    host.kill().await;
    controller.shared.lock().unwrap().reports.clear();
    host.start();
    let again = controller.report("the second start", |r| r.incarnation == 2 && r.active.is_some()).await;
    assert_eq!(again.generation, 1, "the assignment that was shown again was taken for a new one");

    let v2 = simple("v2", "good 2");
    let v2 = controller.publish(&v2.objects, &v2.manifest, 2);
    controller.shared.lock().unwrap().asked = 0;
    controller.activate(2, &v2);
    controller.outcome(2, OutcomeKind::Committed).await;
    assert_eq!(host.current(), "v2");
    assert_eq!(controller.shared.lock().unwrap().asked, 3, "manifest, tree and one file were lacking");
    let status = String::from_utf8(host.call(&["status"]).await.stdout).unwrap();
    assert!(status.contains("active       v2") && status.contains("generation 2: committed"), "{status}");
}

/// As after a reboot, when the agent is up before the manager of its services.
#[tokio::test]
async fn a_service_that_could_not_be_asked_for_is_started_once_it_can() {
    let mut controller = Controller::start().await;
    let mut host = Host::new();
    let manager = host.path("manager");
    let up = |answer: &str| {
        std::fs::write(&manager, format!("#!/bin/sh\n{answer}\n")).unwrap();
        std::fs::set_permissions(&manager, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    };
    let mut v1 = simple("v1", "good 1");
    let Driver::Exec { status, .. } = &mut v1.manifest.program.services[0].driver else { unreachable!() };
    let asked = vec![manager.to_str().unwrap().to_owned(), "{out}".to_owned()];
    *status = Some(Step { command: asked, ..step("status", "") });
    up("test -e \"$1\"");
    host.join(&controller).await;
    host.start();
    let v1 = controller.publish(&v1.objects, &v1.manifest, 1);
    controller.activate(1, &v1);
    controller.outcome(1, OutcomeKind::Committed).await;

    host.stop().await;
    std::fs::remove_file(&manager).unwrap();
    std::fs::remove_file(host.path("out")).unwrap();
    controller.shared.lock().unwrap().reports.clear();
    host.start();
    let is_unknown = |r: &HostReport| format!("{:?}", r.health).contains("service.web");
    controller.report("that the service cannot be asked for", is_unknown).await;
    assert!(!host.path("out").exists(), "nobody has started it");
    up("test -e \"$1\"");
    controller
        .report("healthy again", |r| r.health.as_ref().is_some_and(|h| h.kind() == HealthKind::Healthy))
        .await;
    assert_eq!(std::fs::read_to_string(host.path("out")).unwrap(), "good 1");
}

/// What a service needs beside its files is brought to the hosts that run it, and asked of no other.
#[tokio::test]
async fn only_services_of_this_host_are_staged_on_it() {
    let mut controller = Controller::start().await;
    let mut host = Host::new();
    let mut config = std::fs::read_to_string(host.path("agent.toml")).unwrap();
    config.push_str(&format!("[docker]\nsocket = {:?}\n", host.path("no-docker.sock")));
    std::fs::write(host.path("agent.toml"), config).unwrap();
    host.join(&controller).await;
    host.start();
    let contained = |name: &str, out: String| {
        let mut release = simple(name, &format!("good {name}"));
        let image = Image::Registry { name: "registry.example.com/jobs".into(), digest: Sha256::of(b"jobs") };
        let seconds = Duration::from_secs;
        let container = Container {
            image,
            command: Vec::new(),
            environment: BTreeMap::new(),
            publish: Vec::new(),
            volumes: Vec::new(),
            network: None,
            user: None,
            memory_bytes: None,
            cpus_milli: None,
            pids: None,
            privileged: false,
            log_driver: LogDriver::Local,
            settle: seconds(1),
            timeout: seconds(60),
            stop_timeout: seconds(10),
        };
        release.manifest.program.services.push(Service {
            name: "jobs".parse().unwrap(),
            on: [("out".to_owned(), out)].into(),
            driver: Driver::Docker(Box::new(container)),
        });
        release
    };
    let v1 = contained("v1", "another place".to_owned());
    let v1 = controller.publish(&v1.objects, &v1.manifest, 1);
    controller.activate(1, &v1);
    controller.outcome(1, OutcomeKind::Committed).await;
    let v2 = contained("v2", host.path("out").to_string_lossy().into_owned());
    let v2 = controller.publish(&v2.objects, &v2.manifest, 2);
    controller.activate(2, &v2);
    let report = controller.outcome(2, OutcomeKind::StageFailed).await;
    let reason = report.outcome.unwrap().failure.unwrap().reason;
    assert!(reason.contains("service jobs: Docker does not answer at"), "{reason}");
    assert!(reason.contains("no-docker.sock: there is no such socket; install docker.io"), "{reason}");
}

#[tokio::test]
async fn a_bad_release_goes_back_while_the_controller_is_down() {
    let mut controller = Controller::start().await;
    let mut host = Host::new();
    host.join(&controller).await;
    host.start();
    let v1 = simple("v1", "good 1");
    let v1 = controller.publish(&v1.objects, &v1.manifest, 1);
    controller.activate(1, &v1);
    controller.outcome(1, OutcomeKind::Committed).await;
    let v2 = simple("v2", "broken");
    let v2 = controller.publish(&v2.objects, &v2.manifest, 2);
    controller.activate(2, &v2);
    controller.report("v2 active", |r| r.active.as_ref().is_some_and(|a| a.name == "v2")).await;
    controller.stop().await;
    for _ in 0..400 {
        if host.log().contains("Reverted") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(host.current(), "v1");
    assert_eq!(std::fs::read_to_string(host.path("out")).unwrap(), "good 1");
    controller.serve().await;
    let report = controller.outcome(2, OutcomeKind::Reverted).await;
    let failure = report.outcome.unwrap().failure.unwrap();
    assert!(failure.reason.contains("check good fails"), "{}", failure.reason);
}

#[tokio::test]
async fn what_the_signers_do_not_list_or_the_director_did_not_sign_is_refused() {
    let mut controller = Controller::start().await;
    let mut host = Host::new();
    host.join(&controller).await;
    host.start();
    let v1 = simple("v1", "good 1");
    let unlisted = controller.upload(&v1.objects, &v1.manifest, 1);
    controller.assign(1, &unlisted, Order::Stage);
    let report = controller.outcome(1, OutcomeKind::Refused).await;
    let failure = report.outcome.unwrap().failure.unwrap();
    assert!(failure.reason.contains("list no release v1"), "{}", failure.reason);
    assert_eq!(report.generation, 0);

    let listed = controller.publish(&v1.objects, &v1.manifest, 1);
    let other = landfall_common::assignment::ReleaseRef { digest: Sha256::of(b"other"), ..listed.clone() };
    controller.assign(2, &other, Order::Stage);
    let report = controller.outcome(2, OutcomeKind::Refused).await;
    assert!(report.outcome.unwrap().failure.unwrap().reason.contains("the manifest digest"));

    let mallory = landfall_trust::KeyPair::generate().unwrap();
    controller.assign_as(&mallory, 3, &listed, Order::Stage);
    for _ in 0..100 {
        if host.log().contains("did not sign") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(host.log().contains("an assignment that the director did not sign is ignored"));
    controller.assign(4, &listed, Order::Stage);
    controller.outcome(4, OutcomeKind::Staged).await;
}

/// Draining brings nothing, and is what a host with a release that nobody trusts any more needs most.
#[tokio::test]
async fn a_host_is_drained_although_its_release_is_not_trusted_any_more() {
    let mut controller = Controller::start().await;
    let mut host = Host::new();
    host.join(&controller).await;
    host.start();
    let mut v1 = simple("v1", "good 1");
    let gate = Gate::Command {
        drain: step("away", "echo away > \"$1.led\""),
        undrain: step("back", "echo back > \"$1.led\""),
    };
    v1.manifest.program.traffic =
        Some(Traffic { proxy: Proxy::Gate { gate }, drain: Duration::from_secs(5) });
    let v1 = controller.publish(&v1.objects, &v1.manifest, 1);
    controller.activate(1, &v1);
    controller.outcome(1, OutcomeKind::Committed).await;
    controller.unlist_all();
    controller.assign(2, &v1, Order::Stage);
    controller.outcome(2, OutcomeKind::Refused).await;
    let led = || std::fs::read_to_string(host.path("out.led")).unwrap();

    controller.assign(3, &v1, Order::Drain { away: true });
    controller.outcome(3, OutcomeKind::Committed).await;
    controller.report("drained", |report| report.traffic() == HostTraffic::Drained).await;
    assert_eq!(led(), "away\n");
    controller.assign(4, &v1, Order::Drain { away: false });
    controller.report("led", |report| report.generation == 4 && report.traffic() == HostTraffic::Led).await;
    assert_eq!(led(), "back\n");
    let mallory = landfall_trust::KeyPair::generate().unwrap();
    controller.assign_as(&mallory, 5, &v1, Order::Drain { away: true });
    controller.assign(6, &v1, Order::Stage);
    controller.outcome(6, OutcomeKind::Refused).await;
    assert_eq!(led(), "back\n", "whoever leads requests is the director");
}

#[tokio::test]
async fn an_assignment_that_came_too_late_is_verified_all_the_same() {
    let controller = Controller::start().await;
    let mut host = Host::new();
    host.join(&controller).await;
    host.start();
    let v1 = simple("v1", "good 1");
    let unlisted = controller.upload(&v1.objects, &v1.manifest, 1);
    // Whether it has expired is asked again by the engine, by a clock that may have stepped back since.
    controller.assign_late(1, &unlisted, Order::Stage);
    let report = controller.outcome(1, OutcomeKind::Refused).await;
    let failure = report.outcome.unwrap().failure.unwrap();
    assert!(failure.reason.contains("not trusted"), "{}", failure.reason);
}

#[tokio::test]
async fn a_compressed_form_that_unpacks_to_little_does_not_fill_the_disk() {
    let mut controller = Controller::start().await;
    let mut host = Host::new();
    host.join(&controller).await;
    host.start();
    let v1 = simple("v1", "good 1");
    let listed = controller.publish(&v1.objects, &v1.manifest, 1);
    controller.shared.lock().unwrap().padding.insert(Sha256::of(b"good 1"), 4 * 1024 * 1024);
    controller.assign(1, &listed, Order::Stage);
    let report = controller.outcome(1, OutcomeKind::StageFailed).await;
    let reason = report.outcome.unwrap().failure.unwrap().reason;
    assert!(reason.contains("its compressed form has more than"), "{reason}");
    assert_eq!(std::fs::read_dir(host.path("srv/shop/.landfall/partial")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_tampered_object_is_fetched_again_and_given_up_after_a_few_times() {
    let mut controller = Controller::start().await;
    let mut host = Host::new();
    host.join(&controller).await;
    host.start();
    let v1 = simple("v1", "good 1");
    let listed = controller.publish(&v1.objects, &v1.manifest, 1);
    let object = Sha256::of(b"good 1");
    controller.shared.lock().unwrap().tamper.insert(object, 1);
    controller.assign(1, &listed, Order::Stage);
    controller.outcome(1, OutcomeKind::Staged).await;

    let v2 = simple("v2", "good 2");
    let listed = controller.publish(&v2.objects, &v2.manifest, 2);
    controller.shared.lock().unwrap().tamper.insert(Sha256::of(b"good 2"), usize::MAX);
    controller.assign(2, &listed, Order::Stage);
    let report = controller.outcome(2, OutcomeKind::StageFailed).await;
    let reason = report.outcome.unwrap().failure.unwrap().reason;
    assert!(reason.contains("is not what it should be") && reason.contains("asked 3 times"), "{reason}");
    assert!(!host.path("srv/shop/releases/v2").exists());
}

#[tokio::test]
async fn a_controller_that_says_no_is_not_asked_for_ever() {
    let mut controller = Controller::start().await;
    let mut host = Host::new();
    host.join(&controller).await;
    host.start();
    let v1 = simple("v1", "good 1");
    let listed = controller.publish(&v1.objects, &v1.manifest, 1);
    controller.shared.lock().unwrap().refuse.insert(Sha256::of(b"good 1"), tonic::Code::FailedPrecondition);
    controller.assign(1, &listed, Order::Stage);
    let report = controller.outcome(1, OutcomeKind::StageFailed).await;
    let reason = report.outcome.unwrap().failure.unwrap().reason;
    assert!(reason.contains("does not send what was asked for: the test says no; asked 3 times"), "{reason}");
}

#[tokio::test]
async fn an_interrupted_download_goes_on_where_it_ended() {
    let mut controller = Controller::start().await;
    let mut host = Host::new();
    host.join(&controller).await;
    host.start();
    // It does not compress: some fifty chunks.
    let mut random = 1u64;
    let mut noise = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        random.to_be_bytes()[0]
    };
    let large: Vec<u8> = (0..3_000_000).map(|_| noise()).collect();
    let v1 = release("v1", &[("version", b"good".to_vec()), ("large", large.clone())]);
    let listed = controller.publish(&v1.objects, &v1.manifest, 1);
    controller.shared.lock().unwrap().cut.insert(Sha256::of(&large), 20);
    controller.assign(1, &listed, Order::Stage);
    controller.outcome(1, OutcomeKind::Staged).await;
    assert_eq!(controller.shared.lock().unwrap().resumed_at, [20 * 64 * 1024]);
    assert_eq!(std::fs::read(host.path("srv/shop/releases/v1/large")).unwrap(), large);
    assert_eq!(std::fs::read_dir(host.path("srv/shop/.landfall/partial")).unwrap().count(), 0);
}

#[tokio::test]
async fn the_progress_of_one_large_file_is_told_while_it_comes() {
    let mut controller = Controller::start().await;
    let mut host = Host::new();
    host.join(&controller).await;
    host.start();
    let mut random = 7u64;
    let mut noise = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        random.to_be_bytes()[0]
    };
    let large: Vec<u8> = (0..3_000_000).map(|_| noise()).collect();
    let v1 = release("v1", &[("large", large.clone())]);
    let listed = controller.publish(&v1.objects, &v1.manifest, 1);
    let go_on = std::sync::Arc::new(tokio::sync::Notify::new());
    controller.shared.lock().unwrap().hold.insert(Sha256::of(&large), (25, go_on.clone()));
    controller.assign(1, &listed, Order::Stage);
    let half = controller.report("half of the file", |report| {
        let phase = report.phase.as_ref();
        phase.is_some_and(|phase| phase.done_bytes > 1_000_000 && phase.done_bytes < 2_000_000)
    });
    assert_eq!(half.await.phase.unwrap().total_bytes, 3_000_000);
    go_on.notify_one();
    controller.outcome(1, OutcomeKind::Staged).await;
}

/// How an agent ends while a migration runs.
enum Ending {
    Killed,
    Stopped,
}

#[tokio::test]
async fn a_migration_runs_once_and_an_agent_that_was_killed_learns_how_it_ended() {
    migrate_while(Ending::Killed).await;
}

#[tokio::test]
async fn a_migration_outlives_an_agent_that_is_stopped() {
    migrate_while(Ending::Stopped).await;
}

async fn migrate_while(ending: Ending) {
    let mut controller = Controller::start().await;
    let mut host = Host::new();
    host.join(&controller).await;
    host.start();
    let mut v1 = simple("v1", "good 1");
    v1.manifest.program.migrate = Some(Migration {
        step: step("migrate", "echo begun >> \"$1\"; sleep 2; echo ended >> \"$1\""),
        lease: Duration::from_secs(30),
        way_back: WayBack::Compatible,
        idempotent: false,
        schema: None,
        names: Vec::new(),
    });
    let v1 = controller.publish(&v1.objects, &v1.manifest, 1);
    let lease = Duration::from_secs(30);
    controller.assign(1, &v1, Order::Migrate { fence: 1, lease, direction: Direction::Up });
    for _ in 0..400 {
        if std::fs::read_to_string(host.path("out")).is_ok_and(|text| text.contains("begun")) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    match ending {
        Ending::Killed => host.kill().await,
        Ending::Stopped => host.stop().await,
    }
    host.start();
    controller.outcome(1, OutcomeKind::Migrated).await;
    assert_eq!(std::fs::read_to_string(host.path("out")).unwrap(), "begun\nended\n");
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_renewed_by_its_key() {
    let mut controller = Controller::start().await;
    controller.stop().await;
    controller.lifetime = Duration::ZERO;
    controller.serve().await;
    let mut host = Host::new();
    host.join(&controller).await;
    controller.stop().await;
    controller.lifetime = Duration::from_secs(3600);
    controller.serve().await;
    host.start();
    // Within the second in which it expires the old one may still let a first session in.
    while controller.shared.lock().unwrap().renewals == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    controller.shared.lock().unwrap().reports.clear();
    controller.report("a session with a renewed certificate", |report| report.incarnation == 1).await;
    assert_eq!(controller.shared.lock().unwrap().renewals, 1);
}

#[tokio::test]
async fn a_certificate_for_another_key_does_not_take_the_place_of_the_one_that_works() {
    let mut controller = Controller::start().await;
    controller.stop().await;
    // Renewed after two seconds, and good for one more.
    controller.lifetime = Duration::from_secs(3);
    controller.serve().await;
    let mut host = Host::new();
    host.join(&controller).await;
    let credentials =
        || std::fs::read(host.directory.path().join("state/identity/credentials.json")).unwrap();
    let before = credentials();
    controller.shared.lock().unwrap().is_careless = true;
    let log = host.path("agent.log");
    host.start();
    while !std::fs::read_to_string(&log).is_ok_and(|log| log.contains("is not one for this host's key")) {
        assert!(host.agent.as_mut().unwrap().try_wait().unwrap().is_none(), "{}", host.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let after = std::fs::read(host.path("state/identity/credentials.json")).unwrap();
    assert_eq!(after, before);
    controller.shared.lock().unwrap().is_careless = false;
    controller.stop().await;
    controller.lifetime = Duration::from_secs(3600);
    controller.serve().await;
    controller.shared.lock().unwrap().reports.clear();
    controller.report("a session with a renewed certificate", |report| report.incarnation == 1).await;
}

#[tokio::test]
async fn a_token_is_good_once_and_only_for_its_own_controller_and_root() {
    let controller = Controller::start().await;
    let host = Host::new();
    let address = controller.address.to_string();
    let refused = async |host: &Host, token: &str| {
        let output = host.call(&["join", token, "--controller", &address]).await;
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let foreign = controller.token_with(Sha256::of(b"other"), Sha256::of(b"x"));
    let error = refused(&host, &foreign).await;
    assert!(error.contains("is not this host's controller"), "{error}");
    let ca = controller.token();
    host.join(&controller).await;
    let second = Host::new();
    let error = refused(&second, &ca).await;
    assert!(error.contains("was used before"), "{error}");
    let error = refused(&host, &ca).await;
    assert!(error.contains("already"), "{error}");
    let error = String::from_utf8(second.call(&["run"]).await.stderr).unwrap();
    assert!(error.contains("not enrolled"), "{error}");
}

#[tokio::test]
async fn a_token_made_before_the_root_was_rotated_lets_a_host_in_and_its_releases_too() {
    let mut controller = Controller::start().await;
    let mut host = Host::new();
    for _ in 0..2 {
        controller.rotate_root();
    }
    // Of the first root, which the operator trusted then.
    host.join(&controller).await;
    host.start();
    let v1 = simple("v1", "good 1");
    let v1 = controller.publish(&v1.objects, &v1.manifest, 1);
    controller.activate(1, &v1);
    controller.outcome(1, OutcomeKind::Committed).await;
    assert_eq!(host.current(), "v1");
}

#[tokio::test]
async fn a_controller_cannot_place_a_host_elsewhere_than_its_token_does() {
    let controller = Controller::start().await;
    let host = Host::new();
    let address = controller.address.to_string();
    let token = controller.token_in("staging");
    let output = host.call(&["join", &token, "--controller", &address]).await;
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("staging"), "{error}");
    assert!(error.contains("ctl hosts remove web-1"), "{error}");
    let error = String::from_utf8(host.call(&["run"]).await.stderr).unwrap();
    assert!(error.contains("not enrolled"), "{error}");
}
