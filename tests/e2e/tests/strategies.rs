//! How hosts change, as an operator says it to `ctl`: the canary is held, and a person lets the others follow; what was
//! brought is watched.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use landfall_e2e::process::wait_until;
use landfall_e2e::scene::{SERVER, Scene};
use landfall_e2e::stage::token_in;

const PATIENCE: Duration = Duration::from_secs(60);

/// Three hosts, of which the last one is the canary.
fn scene() -> Scene {
    let bin = Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap();
    let mut scene = Scene::new(bin, &["web-1", "web-2"]).unwrap();
    scene.prepare("web-3").unwrap();
    let token = ["hosts", "token", "--env", "production", "--name", "web-3", "--label", "role=canary"];
    let said = scene.ctl(&token).unwrap().expect_code(0).unwrap();
    scene.stage.join("web-3", &token_in(&said).unwrap()).unwrap();
    scene
}

fn runs(scene: &Scene) -> [String; 3] {
    ["web-1", "web-2", "web-3"].map(|host| scene.stage.current(host))
}

#[test]
fn the_canary_is_held_until_somebody_promotes_it() {
    let mut scene = scene();
    let said = scene.release("v1").unwrap();
    assert_eq!(said.code, 0, "{said:?}\n{}", scene.last_words());
    let held = "canary = \"role=canary\"\ncanary_hold = \"3s\"\nauto_promote = false";
    let artifact = scene.artifact("v2", |text| text.replace("canary = 1", held)).unwrap();
    let said = scene.release_command("v2", &artifact, &["--publish-only"]).output().unwrap();
    assert!(said.status.success(), "{said:?}");

    let plan = scene.ctl(&["plan", "v2"]).unwrap().expect_code(0).unwrap().out;
    assert!(plan.contains("canary    web-3 (role=canary)"), "{plan}");
    let then = "when the canary has been healthy for 3s and somebody types `ctl promote`";
    assert!(plan.contains(then), "{plan}");
    let wrong = scene.ctl(&["plan", "v2", "--canary", "role=none"]).unwrap();
    assert!(
        wrong.code != 0 && wrong.err.contains("no host of site in production has these labels"),
        "{wrong:?}"
    );

    let said = scene.release_command("v2", &artifact, &["--detach"]).output().unwrap();
    assert!(said.status.success(), "{said:?}");
    let waits = |scene: &Scene| {
        let said = scene.ctl(&["status"]).unwrap();
        said.out.contains("waiting") && said.out.contains("the canary is proven; `ctl promote")
    };
    wait_until("the canary is proven", PATIENCE, || waits(&scene))
        .unwrap_or_else(|error| panic!("{error}\n{}", scene.last_words()));
    assert_eq!(runs(&scene), ["v1", "v1", "v2"]);

    // Who waits for whom outlives the controller.
    scene.stage.kill_controller().unwrap();
    scene.stage.start_controller().unwrap();
    wait_until("the canary is proven, again", PATIENCE, || waits(&scene))
        .unwrap_or_else(|error| panic!("{error}\n{}", scene.last_words()));
    assert_eq!(runs(&scene), ["v1", "v1", "v2"]);

    scene.ctl(&["promote"]).unwrap().expect_code(0).unwrap();
    let said = scene.ctl(&["status", "--watch"]).unwrap();
    assert_eq!(runs(&scene), ["v2", "v2", "v2"], "{said:?}\n{}", scene.last_words());
    let log = scene.ctl(&["log", "--all"]).unwrap().expect_code(0).unwrap().out;
    assert!(log.contains("was promoted to batch 2"), "{log}");
    let late = scene.ctl(&["promote"]).unwrap();
    assert!(late.code != 0 && late.err.contains("no rollout of site is under way"), "{late:?}");
}

/// A release that is well until something happens that no canary has seen.
#[test]
fn what_turns_sick_after_the_last_batch_goes_back_while_it_is_watched() {
    let mut scene = scene();
    let said = scene.release("v1").unwrap();
    assert_eq!(said.code, 0, "{said:?}\n{}", scene.last_words());
    let trouble = scene.path("trouble");
    let watched = "canary = 1\nwatch = \"10m\"";
    let artifact = scene
        .artifact("v2", |text| text.replace("canary = 1", watched).replace("\"30s\"", "\"4s\""))
        .unwrap();
    let sours = format!("return (500 if os.path.exists('{}') else 200), \"ok\\n\"", trouble.display());
    let server = SERVER.replacen("return 200, \"ok\\n\"", &sours, 1);
    assert_ne!(server, SERVER);
    fs::write(artifact.join("server.py"), server).unwrap();

    let plan = scene.release_command("v2", &artifact, &["--publish-only"]).output().unwrap();
    assert!(plan.status.success(), "{plan:?}");
    let plan = scene.ctl(&["plan", "v2"]).unwrap().expect_code(0).unwrap().out;
    assert!(plan.contains("the fleet is watched for 10m after the last batch"), "{plan}");
    let mut release = scene.release_command("v2", &artifact, &[]);
    let follows = release.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let is_watched = |scene: &Scene, of: &str| {
        let said = scene.ctl(&["status"]).unwrap().out;
        said.contains("watching") && said.contains(of)
    };
    wait_until("the watch", PATIENCE, || is_watched(&scene, "of 10m"))
        .unwrap_or_else(|error| panic!("{error}\n{}", scene.last_words()));
    assert_eq!(runs(&scene), ["v2"; 3]);
    let held = scene.ctl(&["rollback", "v0"]).unwrap();
    assert_ne!(held.code, 0, "{held:?}");

    // Who watches outlives the controller.
    scene.stage.kill_controller().unwrap();
    scene.stage.start_controller().unwrap();
    wait_until("the watch, again", PATIENCE, || is_watched(&scene, "of 10m"))
        .unwrap_or_else(|error| panic!("{error}\n{}", scene.last_words()));
    fs::write(&trouble, "").unwrap();
    let said = follows.wait_with_output().unwrap();
    let out = String::from_utf8_lossy(&said.stdout).into_owned();
    assert_eq!(said.status.code(), Some(3), "{out}\n{}", scene.last_words());
    assert!(out.contains("it had committed the release and was not healthy for 1s at a stretch"), "{out}");
    assert_eq!(runs(&scene), ["v1"; 3]);

    // Somebody who has seen enough need not wait.
    fs::remove_file(&trouble).unwrap();
    let said = scene.release_command("v2", &artifact, &["--detach", "--watch", "5m"]).output().unwrap();
    assert!(said.status.success(), "{said:?}");
    wait_until("the watch of the second try", PATIENCE, || is_watched(&scene, "of 5m"))
        .unwrap_or_else(|error| panic!("{error}\n{}", scene.last_words()));
    let said = scene.ctl(&["promote"]).unwrap().expect_code(0).unwrap();
    let ended = scene.ctl(&["status", "--watch"]).unwrap();
    assert_eq!(ended.code, 0, "{said:?} {ended:?}");
    let log = scene.ctl(&["log", "--all"]).unwrap().expect_code(0).unwrap().out;
    assert!(log.contains("is watched for 5m from now on") && log.contains("was ended"), "{log}");
}
