//! Drift, as an operator meets it: a file is changed on a host and a program of its Supervisor is stopped, `ctl drift`
//! says so, `--repair` puts both right, and the log knows who asked for it.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use landfall_e2e::process::wait_until;
use landfall_e2e::scene::Scene;
use landfall_e2e::stage::Said;

#[path = "../../../agent/tests/support/supervisor.rs"]
mod supervisor;

/// A service that runs where there is a Supervisor, whose program its administrator has installed.
const WORKER: &str = r#"
[[service]]
name = "worker"
on = { supervisor = "yes" }
driver = "supervisor"
program = "worker"
server = "{socket}"
"#;

/// A Supervisor, which ends with the test.
struct Supervisor(PathBuf);

impl Drop for Supervisor {
    fn drop(&mut self) {
        supervisor::control(&self.0, &["shutdown"]);
    }
}

/// Lets a host have a Supervisor.
fn supervise(host: &Path, current: &Path) -> Supervisor {
    let program = format!(
        "[program:worker]\ncommand=sleep 1000000\ndirectory={}\nautostart=false\nstartsecs=0\n",
        current.display()
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(supervisor::start(host, &program));
    Supervisor(host.to_owned())
}

/// However loaded the machine is.
const PATIENCE: Duration = Duration::from_secs(180);

fn scene() -> (Scene, Supervisor) {
    let bin = Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap();
    let mut scene = Scene::new(bin, &[]).unwrap();
    let mut supervised = None;
    for name in ["web-1", "web-2"] {
        let config = scene.prepare(name).unwrap().join("agent.toml");
        let host = scene.path("hosts").join(name);
        let has_it = if name == "web-1" { "yes" } else { "no" };
        let text = fs::read_to_string(&config).unwrap();
        let variables =
            format!("[variables]\nsupervisor = {has_it:?}\nsocket = {:?}\n", supervisor::socket(&host));
        let text = text.replace("[variables]\n", &variables);
        fs::write(&config, format!("{text}\n[drift]\nevery = \"1s\"\n")).unwrap();
        if name == "web-1" {
            let current = scene.stage.hosts[name].srv.join("current");
            supervised = Some(supervise(&host, &current));
        }
        scene.join(name).unwrap();
    }
    let artifact = scene.artifact("v1", |text| text + WORKER).unwrap();
    let said: Said = scene.release_command("v1", &artifact, &[]).output().unwrap().into();
    assert_eq!(said.code, 0, "{said:?}\n{}", scene.last_words());
    (scene, supervised.unwrap())
}

/// What `ctl drift` says of a host.
fn drift(scene: &Scene, host: &str) -> serde_json::Value {
    scene.json(&["drift", host]).unwrap()["drift"]["hosts"][0].clone()
}

#[test]
fn a_changed_file_and_a_stopped_program_are_shown_and_put_right_by_an_operators_word() {
    let (scene, _supervisor) = scene();
    let looked = || ["web-1", "web-2"].iter().all(|host| !drift(&scene, host)["looked"].is_null());
    let waited = wait_until("both hosts have looked", PATIENCE, looked);
    waited.unwrap_or_else(|error| panic!("{error}\n{}", scene.last_words()));
    assert_eq!(drift(&scene, "web-1")["findings"], serde_json::json!([]));
    assert!(!scene.ctl(&["status"]).unwrap().out.contains("drifted"));

    let release = scene.stage.hosts["web-1"].srv.join("releases/v1");
    fs::set_permissions(&release, Permissions::from_mode(0o755)).unwrap();
    fs::remove_file(release.join("release.txt")).unwrap();
    fs::write(release.join("release.txt"), "v9").unwrap();
    fs::write(release.join("debug.txt"), "somebody was here").unwrap();
    fs::set_permissions(release.join("release.txt"), Permissions::from_mode(0o444)).unwrap();
    fs::set_permissions(&release, Permissions::from_mode(0o555)).unwrap();
    let host = scene.path("hosts/web-1");
    let said = supervisor::control(&host, &["stop", "worker"]);
    assert!(said.contains("stopped"), "{said}");
    let seen = || drift(&scene, "web-1")["findings"].as_array().is_some_and(|all| all.len() == 3);
    wait_until("all are seen", PATIENCE, seen)
        .unwrap_or_else(|error| panic!("{error}\n{}\n{}", drift(&scene, "web-1"), scene.last_words()));
    let shown = scene.ctl(&["drift"]).unwrap().out;
    for words in [
        "web-1: site v1: 3 differences",
        "changed    releases/v1/release.txt",
        "missing    supervisor worker:worker: it does not run: STOPPED",
        "next: ctl drift web-1 --repair",
        "web-2 is as it was applied",
    ] {
        assert!(shown.contains(words), "no {words:?} in\n{shown}");
    }
    assert!(scene.ctl(&["status"]).unwrap().out.contains("1 drifted"));
    assert_eq!(scene.json(&["hosts"]).unwrap()["hosts"][0]["drift"]["total"], 3);

    let said = scene.ctl(&["drift", "web-1", "--repair", "--reason", "hotfix of last night"]).unwrap();
    assert_eq!(said.code, 0, "{said:?}\n{}", scene.last_words());
    assert!(said.out.contains("web-1: 2 differences put right"), "{said:?}");
    assert_eq!(fs::read_to_string(release.join("release.txt")).unwrap(), "v1");
    // What the agent did not put there it does not remove.
    assert!(release.join("debug.txt").exists() && said.out.contains("debug.txt"), "{said:?}");
    assert!(supervisor::control(&host, &["status", "worker"]).contains("RUNNING"));
    let log = scene.stage.run_ctl(&["log", "--all"]).unwrap().out;
    for words in [
        "web-1 was asked to put right what differs from its release: hotfix of last night",
        "web-1: 2 differences put right",
    ] {
        assert!(log.contains(words), "no {words:?} in\n{log}");
    }

    let said = scene.ctl(&["drift", "web-7"]).unwrap();
    assert!(said.code != 0 && said.err.contains("there is no host"), "{said:?}");
}
