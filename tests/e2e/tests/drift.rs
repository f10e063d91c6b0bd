//! Drift, as an operator meets it: a file is changed on a host, `ctl drift` says so, `--repair` puts it right, and the
//! log knows who asked for it.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use landfall_e2e::process::wait_until;
use landfall_e2e::scene::Scene;

/// However loaded the machine is.
const PATIENCE: Duration = Duration::from_secs(180);

fn scene() -> Scene {
    let bin = Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap();
    let mut scene = Scene::new(bin, &[]).unwrap();
    for name in ["web-1", "web-2"] {
        let config = scene.prepare(name).unwrap().join("agent.toml");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, format!("{text}\n[drift]\nevery = \"1s\"\n")).unwrap();
        scene.join(name).unwrap();
    }
    let said = scene.release("v1").unwrap();
    assert_eq!(said.code, 0, "{said:?}\n{}", scene.last_words());
    scene
}

/// What `ctl drift` says of a host.
fn drift(scene: &Scene, host: &str) -> serde_json::Value {
    scene.json(&["drift", host]).unwrap()["drift"]["hosts"][0].clone()
}

#[test]
fn a_changed_file_is_shown_and_put_right_by_an_operators_word() {
    let scene = scene();
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
    let seen = || drift(&scene, "web-1")["findings"].as_array().is_some_and(|all| all.len() == 2);
    wait_until("both are seen", PATIENCE, seen)
        .unwrap_or_else(|error| panic!("{error}\n{}\n{}", drift(&scene, "web-1"), scene.last_words()));
    let shown = scene.ctl(&["drift"]).unwrap().out;
    for words in
        ["web-1: site v1: 2 differences", "changed    releases/v1/release.txt", "web-2 is as it was applied"]
    {
        assert!(shown.contains(words), "no {words:?} in\n{shown}");
    }
    assert!(scene.ctl(&["status"]).unwrap().out.contains("1 drifted"));
    assert_eq!(scene.json(&["hosts"]).unwrap()["hosts"][0]["drift"]["total"], 2);

    let said = scene.ctl(&["drift", "web-1", "--repair", "--reason", "hotfix of last night"]).unwrap();
    assert_eq!(said.code, 0, "{said:?}\n{}", scene.last_words());
    assert!(said.out.contains("web-1: 1 difference put right"), "{said:?}");
    assert_eq!(fs::read_to_string(release.join("release.txt")).unwrap(), "v1");
    // What the agent did not put there it does not remove.
    assert!(release.join("debug.txt").exists() && said.out.contains("debug.txt"), "{said:?}");
    let log = scene.stage.run_ctl(&["log", "--all"]).unwrap().out;
    for words in [
        "web-1 was asked to put right what differs from its release: hotfix of last night",
        "web-1: 1 difference put right",
    ] {
        assert!(log.contains(words), "no {words:?} in\n{log}");
    }

    let said = scene.ctl(&["drift", "web-7"]).unwrap();
    assert!(said.code != 0 && said.err.contains("there is no host"), "{said:?}");
}
