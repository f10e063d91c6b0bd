//! Programs are killed, files are damaged, machines are rebuilt; rollouts go on and requests are answered.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use landfall_e2e::load::{Counts, Load};
use landfall_e2e::process::wait_until;
use landfall_e2e::scene::Scene;
use landfall_e2e::stage::{Said, token_in};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

const HOSTS: [&str; 3] = ["web-1", "web-2", "web-3"];

fn bin() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap().to_owned()
}

fn load(scene: &Scene) -> Load {
    let targets = scene.stage.hosts.values().map(|host| format!("127.0.0.1:{}", host.port)).collect();
    Load::start(targets, "/", 60).unwrap()
}

/// Waits until a host runs `release`.
fn wait_for(scene: &Scene, host: &str, release: &str) {
    wait_until(&format!("{host} has {release}"), PATIENCE, || scene.stage.current(host) == release)
        .unwrap_or_else(|error| panic!("{error}\n{}", scene.last_words()));
}

fn end_of(child: Child) -> Said {
    child.wait_with_output().unwrap().into()
}

#[track_caller]
fn succeeded(scene: &Scene, said: &Said, release: &str) {
    assert_eq!(said.code, 0, "{said:?}\n{}", scene.last_words());
    for host in scene.stage.hosts.keys() {
        assert_eq!(scene.stage.current(host), release, "{host}");
    }
}

#[track_caller]
fn nothing_lost(counts: &Counts) {
    assert_eq!(counts.failed, 0, "of {}: {:?}", counts.sent, counts.failures);
    assert!(counts.sent > 50, "{counts:?}");
}

/// Every entry of the log, whole.
fn log_of(scene: &Scene) -> Vec<Value> {
    let log = scene.json(&["log", "--all", "--limit", "500"]).unwrap();
    log["log"].as_array().unwrap().clone()
}

/// The log is longer than before, its entries are as they were, and the tree over them proves it.
#[track_caller]
fn log_holds(scene: &Scene, before: &[Value]) {
    let now = log_of(scene);
    let lost: Vec<_> = before.iter().filter(|entry| !now.contains(entry)).collect();
    assert!(lost.is_empty(), "lost: {lost:#?}");
    let verified = scene.ctl(&["log", "verify"]).unwrap();
    assert_eq!(verified.code, 0, "{verified:?}");
}

/// What stands in the environment, without what changes by itself.
fn hosts_of(scene: &Scene) -> Vec<(String, String)> {
    let hosts = scene.json(&["hosts"]).unwrap();
    let list = hosts["hosts"].as_array().unwrap_or_else(|| panic!("{hosts}")).clone();
    list.iter().map(|host| (host["id"].to_string(), host["active"].to_string())).collect()
}

#[test]
fn a_rollout_outlives_its_agents_and_its_controller() {
    let mut scene = Scene::new(&bin(), &HOSTS).unwrap();
    let said = scene.release("v1").unwrap();
    succeeded(&scene, &said, "v1");
    let load = load(&scene);

    // The agent that has just swapped is killed, and then one that has not begun.
    let release = scene.begin_release("v2").unwrap();
    wait_until("a host has v2", PATIENCE, || HOSTS.iter().any(|host| scene.stage.current(host) == "v2"))
        .unwrap_or_else(|error| panic!("{error}\n{}", scene.last_words()));
    let first = *HOSTS.iter().find(|host| scene.stage.current(host) == "v2").unwrap();
    let waiting = *HOSTS.iter().find(|host| scene.stage.current(host) == "v1").unwrap();
    for host in [first, waiting] {
        scene.stage.kill_agent(host).unwrap();
        scene.stage.start_agent(host).unwrap();
    }
    succeeded(&scene, &end_of(release), "v2");
    let counts = load.take();
    nothing_lost(&counts);
    assert!(counts.by_release.contains_key("v1") && counts.by_release.contains_key("v2"), "{counts:?}");

    // The controller is killed in the middle of the next one; the operator's ctl goes on following.
    let before = log_of(&scene);
    let release = scene.begin_release("v3").unwrap();
    wait_until("a host has v3", PATIENCE, || HOSTS.iter().any(|host| scene.stage.current(host) == "v3"))
        .unwrap_or_else(|error| panic!("{error}\n{}", scene.last_words()));
    scene.stage.kill_controller().unwrap();
    scene.stage.start_controller().unwrap();
    let said = end_of(release);
    let watched = scene.ctl(&["status", "--watch", "--wait", "60s"]).unwrap();
    succeeded(&scene, &watched, "v3");
    assert_eq!(said.code, 0, "ctl followed a controller that was restarted: {said:?}");
    log_holds(&scene, &before);
    nothing_lost(&load.take());

    // Without a controller the service goes on, and so does an agent that is started anew.
    scene.stage.stop_controller().unwrap();
    for host in HOSTS {
        scene.stage.kill_agent(host).unwrap();
        scene.stage.start_agent(host).unwrap();
    }
    std::thread::sleep(Duration::from_secs(2));
    nothing_lost(&load.take());
    for host in HOSTS {
        assert_eq!(scene.stage.current(host), "v3");
        assert!(scene.stage.agent_id(host).is_some());
    }
    scene.stage.start_controller().unwrap();
    let said = scene.release("v4").unwrap();
    succeeded(&scene, &said, "v4");
    nothing_lost(&load.stop());
}

#[test]
fn a_damaged_index_and_a_lost_machine_cost_nothing() {
    let mut scene = Scene::new(&bin(), &HOSTS[..2]).unwrap();
    for release in ["v1", "v2"] {
        let said = scene.release(release).unwrap();
        succeeded(&scene, &said, release);
    }
    let (log, hosts, releases) = (log_of(&scene), hosts_of(&scene), scene.json(&["releases"]).unwrap());
    assert!(log.len() > 4 && hosts.len() == 2 && hosts[0].1.contains("v2"), "{hosts:?}");

    // The index holds nothing that the journal does not: garbage, half of it, none of it.
    let state = scene.stage.controller_state();
    for damage in ["garbage", "truncated", "gone"] {
        scene.stage.stop_controller().unwrap();
        let mut damaged = 0;
        for file in files_below(&state.join("index")) {
            let length = usize::try_from(fs::metadata(&file).unwrap().len()).unwrap();
            damaged += 1;
            match damage {
                "garbage" => fs::write(&file, vec![0xA5; length]).unwrap(),
                "truncated" => {
                    let file = fs::File::options().write(true).open(&file).unwrap();
                    file.set_len(length as u64 / 2).unwrap();
                }
                _ => fs::remove_file(&file).unwrap(),
            }
        }
        assert!(damaged > 0, "no file below {}", state.display());
        scene.stage.start_controller().unwrap_or_else(|error| panic!("{damage}: {error}"));
        // A host says itself what it runs, once it has found the controller again.
        wait_until("the hosts are back", PATIENCE, || hosts_of(&scene) == hosts)
            .unwrap_or_else(|error| panic!("{damage}: {error}: {:?} {hosts:?}", hosts_of(&scene)));
        assert_eq!(scene.json(&["releases"]).unwrap(), releases, "{damage}");
        log_holds(&scene, &log);
    }
    let said = scene.release("v3").unwrap();
    succeeded(&scene, &said, "v3");

    // The machine burns; the backup of a running controller is all that is left.
    let backup = scene.path("backup");
    let file = backup.to_str().unwrap();
    scene.stage.run_controller(&["backup", file]).unwrap().expect_code(0).unwrap();
    let log = log_of(&scene);
    scene.stage.kill_controller().unwrap();
    let refused = scene.stage.run_controller(&["restore", file]).unwrap();
    assert!(
        refused.code != 0 && refused.err.contains("holds the state of a controller already"),
        "{refused:?}"
    );
    fs::remove_dir_all(&state).unwrap();
    let restored = scene.stage.run_controller(&["restore", file]).unwrap().expect_code(0).unwrap();
    assert!(restored.err.contains("hosts are left as they are"), "{restored:?}");
    scene.stage.start_controller().unwrap();
    let said = scene.ctl(&["hosts"]).unwrap();
    assert!(said.code != 0 && said.err.contains("ctl login TOKEN"), "an operator of before: {said:?}");
    let admin = ["operator-token", "--name", "admin", "--role", "admin"];
    let token = token_in(&scene.stage.run_controller(&admin).unwrap().expect_code(0).unwrap()).unwrap();
    let login = ["login", &token, "--controller", &scene.stage.address];
    scene.stage.run_ctl(&login).unwrap().expect_code(0).unwrap();
    log_holds(&scene, &log);
    let said = scene.release("v4").unwrap();
    succeeded(&scene, &said, "v4");
    wait_for(&scene, "web-1", "v4");
    log_holds(&scene, &log);
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        if entry.path().is_dir() {
            files.extend(files_below(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files
}
