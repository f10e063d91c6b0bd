//! The executor: what is removed and ended around the steps that it runs.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

#[path = "support/world.rs"]
mod world;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use landfall_agent::config::Config;
use landfall_agent::engine::{self, Disks, Task};
use landfall_agent::executor::Executor;
use landfall_agent::runtime;
use landfall_agent_core::{Effect, Identity};
use landfall_common::Generation;
use landfall_common::assignment::ReleaseRef;
use landfall_common::disk::RealDisk;
use landfall_common::manifest::Step;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

struct Host {
    directory: tempfile::TempDir,
    tasks: mpsc::UnboundedSender<Task>,
}

impl Host {
    fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap())
    }

    fn start_in(directory: tempfile::TempDir) -> Self {
        let root = directory.path();
        let config = Config {
            state_dir: root.join("state"),
            apps_dir: root.join("srv"),
            run_dir: root.join("run"),
            log_dir: root.join("log"),
            ..Config::default()
        };
        let identity = Identity {
            host: "web-1".parse().unwrap(),
            application: "shop".parse().unwrap(),
            environment: "production".parse().unwrap(),
        };
        let app = config.app_dir(&identity.application);
        for directory in [&config.state_dir, &app, &app.join("releases/v1"), &app.join("shared")] {
            std::fs::create_dir_all(directory).unwrap();
        }
        let disks =
            Disks { state: Arc::new(RealDisk::new(&config.state_dir)), app: Arc::new(RealDisk::new(&app)) };
        engine::enrol(&disks, identity.clone()).unwrap();
        let (engine, _, _) = runtime::start(disks.clone()).unwrap();
        let (_, link) = watch::channel(None);
        let stop = CancellationToken::new();
        let executor = Executor::new(&config, &identity, disks.app, engine, link, stop).unwrap();
        let (tasks, outlet) = mpsc::unbounded_channel();
        tokio::spawn(executor.run(outlet));
        Self { directory, tasks }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("srv/shop").join(name)
    }

    /// Asks for the first step of the preparation of v1.
    fn prepare(&self, generation: u64, script: &str) {
        let release = ReleaseRef {
            name: "v1".parse().unwrap(),
            counter: landfall_common::ReleaseCounter(1),
            digest: landfall_common::Sha256::of(b"v1"),
            length: 2,
        };
        let step = Step {
            name: "venv".parse().unwrap(),
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            environment: Default::default(),
            timeout: Duration::from_secs(60),
            network: None,
        };
        let effect =
            Effect::Prepare { generation: Generation(generation), release: release.name.clone(), step: 0 };
        self.tasks
            .send(Task::Step { step, release: release.name, slot: None, afresh: true, effect })
            .unwrap();
    }
}

async fn appears(path: &Path) -> String {
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text,
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

#[tokio::test]
async fn what_a_step_writes_that_is_being_ended_is_not_there_when_it_is_run_anew() {
    let host = Host::start();
    // It writes on after it was asked to end.
    host.prepare(
        1,
        "trap 'mkdir -p {prepared}; echo late > {prepared}/late; exit 1' TERM; echo begun > {shared}/begun; \
         while true; do sleep 0.01; done",
    );
    appears(&host.path("shared/begun")).await;
    host.tasks.send(Task::Cancel).unwrap();
    host.prepare(2, "ls {prepared} > {shared}/seen; echo end >> {shared}/seen");
    assert_eq!(appears_whole(&host).await, "end\n");
    assert!(!host.path("prepared/v1/late").exists());
    // One log for a step, whatever release it is of.
    assert!(host.directory.path().join("log/steps/shop.venv.log").exists());
}

/// What the second run has seen, once it has seen all.
async fn appears_whole(host: &Host) -> String {
    loop {
        let seen = appears(&host.path("shared/seen")).await;
        if seen.ends_with("end\n") {
            return seen;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_agent_ends_at_its_start_what_the_one_before_it_left_running() {
    let directory = tempfile::tempdir().unwrap();
    let run = directory.path().join("run/steps");
    let script = format!("sleep 600 & echo $! > {}; wait", directory.path().join("pid").display());
    let mut before = std::process::Command::new(std::env::current_exe().unwrap())
        .args(world::roles::arguments("step"))
        .arg(directory.path())
        .arg(script)
        .spawn()
        .unwrap();
    let left = appears(&directory.path().join("pid")).await;
    before.kill().unwrap();
    before.wait().unwrap();
    std::fs::rename(run.join("note"), run.join("shop.step")).unwrap();
    // Nothing is asked of it.
    let _host = Host::start_in(directory);
    let stat = format!("/proc/{}/stat", left.trim());
    while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z")) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
