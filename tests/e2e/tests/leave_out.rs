//! Hosts that are left out, and why things are as they are: as an operator says and asks it with `ctl`.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::path::Path;
use std::time::Duration;

use landfall_e2e::process::wait_until;
use landfall_e2e::scene::Scene;

const PATIENCE: Duration = Duration::from_secs(60);

fn runs(scene: &Scene) -> [String; 4] {
    ["web-1", "web-2", "web-3", "web-4"].map(|host| scene.stage.current(host))
}

fn says(scene: &Scene, arguments: &[&str]) -> String {
    scene.ctl(arguments).unwrap().expect_code(0).unwrap().out
}

/// Four hosts: one is cordoned before the release, one is excluded while it waits, and both come back.
#[test]
fn a_cordoned_and_an_excluded_host_are_left_alone_and_named_until_they_are_taken_back() {
    let bin = Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap();
    let mut scene = Scene::new(bin, &["web-1", "web-2", "web-3", "web-4"]).unwrap();
    let said = scene.release("v1").unwrap();
    assert_eq!(said.code, 0, "{said:?}\n{}", scene.last_words());

    let wordless = scene.ctl(&["hosts", "cordon", "web-4", "--reason", " "]).unwrap();
    assert!(wordless.code == 1 && wordless.err.contains("says why, with --reason"), "{wordless:?}");
    let unknown = scene.ctl(&["hosts", "cordon", "web-9", "--reason", "x"]).unwrap();
    assert!(unknown.code == 2 && unknown.err.contains("no host web-9 is enrolled"), "{unknown:?}");
    let said = says(&scene, &["hosts", "cordon", "web-4", "--reason", "its disk is replaced"]);
    assert!(said.contains("web-4 of site in production is cordoned by"), "{said}");

    let artifact =
        scene.artifact("v2", |text| text.replace("canary = 1", "canary = 1\nauto_promote = false"));
    let artifact = artifact.unwrap();
    let published = scene.release_command("v2", &artifact, &["--publish-only"]).output().unwrap();
    assert!(published.status.success(), "{published:?}");
    let plan = says(&scene, &["plan", "v2"]);
    assert!(plan.contains("3 hosts, 3 batches") && plan.contains("web-4 is left out, cordoned by"), "{plan}");
    let begun = scene.release_command("v2", &artifact, &["--detach"]).output().unwrap();
    assert!(begun.status.success(), "{begun:?}");
    let waits = |scene: &Scene| {
        let why = scene.ctl(&["why"]).unwrap().out;
        why.contains("the canary is proven; `ctl promote") && why.contains("web-4 cordoned by")
    };
    wait_until("the canary is proven", PATIENCE, || waits(&scene))
        .unwrap_or_else(|error| panic!("{error}\n{}", scene.last_words()));

    let said = says(&scene, &["exclude", "web-2", "--reason", "it is being looked at"]);
    assert!(said.contains("left out web-2 excluded by"), "{said}");
    // Said twice it is the same, and it outlives the controller.
    says(&scene, &["exclude", "web-2", "--reason", "it is being looked at"]);
    scene.stage.kill_controller().unwrap();
    scene.stage.start_controller().unwrap();
    wait_until("the canary is proven, again", PATIENCE, || waits(&scene))
        .unwrap_or_else(|error| panic!("{error}\n{}", scene.last_words()));
    let account = scene.json(&["why"]).unwrap();
    let rollout = account["rollout"]["rollout"]["id"].as_str().unwrap().to_owned();
    assert_eq!(account["rollout"]["rollout"]["left_out"].as_array().unwrap().len(), 2, "{account}");
    let commands: Vec<&str> = (account["rollout"]["next"].as_array().unwrap().iter())
        .map(|next| next["command"].as_str().unwrap())
        .collect();
    assert_eq!(commands[0], format!("ctl promote {rollout}"), "{account}");

    says(&scene, &["promote"]);
    let ended = scene.ctl(&["status", "--watch", &rollout]).unwrap();
    assert_eq!(ended.code, 0, "{ended:?}\n{}", scene.last_words());
    for told in ["v2 runs on 2 of 4 hosts", "web-2, excluded by", "web-4, cordoned by"] {
        assert!(ended.out.contains(told), "{told}: {}", ended.out);
    }
    assert_eq!(runs(&scene), ["v2", "v1", "v2", "v1"]);
    let log = says(&scene, &["log", "--all"]);
    assert!(log.contains("web-4 was cordoned: its disk is replaced"), "{log}");
    assert!(
        log.contains(&format!("web-2 was left out of rollout {rollout}: it is being looked at")),
        "{log}"
    );

    // Neither goes anywhere by itself, and each says why.
    let why = says(&scene, &["why", "web-2"]);
    assert!(why.contains("runs      v1, proven") && why.contains("`ctl include web-2` ends that"), "{why}");
    let why = says(&scene, &["why", "web-4"]);
    assert!(why.contains("cordoned by") && why.contains("ctl hosts uncordon web-4"), "{why}");
    let status = says(&scene, &["status"]);
    assert!(status.contains("1 cordoned") && status.contains("left out: "), "{status}");
    let late = scene.ctl(&["exclude", "web-1", "--reason", "late"]).unwrap();
    assert!(late.code == 1 && late.err.contains("no rollout is under way in site in production"), "{late:?}");
    let part = scene.ctl(&["why", "web"]).unwrap();
    assert!(part.code == 2 && part.err.contains("there is web-1, web-2, web-3, web-4"), "{part:?}");

    says(&scene, &["include", "web-2"]);
    says(&scene, &["hosts", "uncordon", "web-4"]);
    wait_until("all on v2", PATIENCE, || runs(&scene) == ["v2"; 4])
        .unwrap_or_else(|error| panic!("{error}\n{}", scene.last_words()));
}
