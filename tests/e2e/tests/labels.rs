//! Labels of hosts change while a rollout is paused: as an operator says it with `ctl`.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::path::Path;
use std::time::Duration;

use landfall_e2e::process::wait_until;
use landfall_e2e::scene::Scene;

const PATIENCE: Duration = Duration::from_secs(60);

fn says(scene: &Scene, arguments: &[&str]) -> String {
    scene.ctl(arguments).unwrap().expect_code(0).unwrap().out
}

fn runs(scene: &Scene) -> [String; 4] {
    ["web-1", "web-2", "web-3", "web-4"].map(|host| scene.stage.current(host))
}

/// Zone by zone behind a canary of certain labels; one host moves to another zone, and the canary loses its label, while a
/// person is asked, and the controller dies over it.
#[test]
fn a_host_that_changes_its_labels_changes_with_its_new_group() {
    let bin = Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap();
    let mut scene = Scene::new(bin, &["web-1", "web-2", "web-3", "web-4"]).unwrap();
    let said = scene.release("v1").unwrap();
    assert_eq!(said.code, 0, "{said:?}\n{}", scene.last_words());

    let said = says(&scene, &["hosts", "label", "web-1", "web-2", "zone=a"]);
    assert!(
        said.contains("web-2 of site in production: zone=a") && said.contains("next: ctl plan"),
        "{said}"
    );
    says(&scene, &["hosts", "label", "web-3", "web-4", "zone=b", "--reason", "they were moved"]);
    for (words, told) in [
        (&["web-9", "zone=a"][..], "no host web-9 is enrolled"),
        (&["web-1", "zone=a", "zone-"], "label zone is to be set and taken away at once"),
        (&["zone=a", "web-1"], "no host is named"),
    ] {
        let refused = scene.ctl(&[&["hosts", "label"], words].concat()).unwrap();
        assert!(refused.code == 2 && refused.err.contains(told), "{refused:?}");
    }

    let knobs = "canary = \"role=canary\"\nauto_promote = false\nspread = \"zone\"";
    let change = |text: String| text.replace("canary = 1", knobs).replace("batch = 1", "batch = 2");
    let artifact = scene.artifact("v2", |text| change(text.to_owned())).unwrap();
    let published = scene.release_command("v2", &artifact, &["--publish-only"]).output().unwrap();
    assert!(published.status.success(), "{published:?}");
    let nobody = scene.ctl(&["plan", "v2"]).unwrap();
    assert!(nobody.code == 2 && nobody.err.contains("ctl hosts label HOST KEY=VALUE"), "{nobody:?}");
    says(&scene, &["hosts", "label", "web-1", "role=canary"]);
    let plan = says(&scene, &["plan", "v2"]);
    assert!(plan.contains("4 hosts, 3 batches"), "{plan}");

    let begun = scene.release_command("v2", &artifact, &["--detach"]).output().unwrap();
    assert!(begun.status.success(), "{begun:?}");
    let waits =
        |scene: &Scene| scene.ctl(&["why"]).unwrap().out.contains("the canary is proven; `ctl promote");
    wait_until("the canary is proven", PATIENCE, || waits(&scene))
        .unwrap_or_else(|error| panic!("{error}\n{}", scene.last_words()));
    says(&scene, &["pause", "--reason", "web-2 is moved"]);
    let said = says(&scene, &["hosts", "label", "web-2", "zone=b", "--reason", "it was moved"]);
    assert!(said.contains("web-2 changes with batch 2 of 3"), "{said}");
    let said = says(&scene, &["hosts", "label", "web-4", "zone=a"]);
    assert!(said.contains("web-4 changes with batch 4 of 4"), "{said}");
    // There is a place beside web-3 by now.
    says(&scene, &["hosts", "label", "web-2", "zone=c"]);
    let said = scene.json(&["hosts", "label", "web-2", "zone=b"]).unwrap();
    assert_eq!(said["labelled"]["parts"][0]["batch"], 3, "{said}");
    assert_eq!(said["labelled"]["hosts"][0]["labels"]["zone"], "b", "{said}");
    let said = says(&scene, &["hosts", "label", "web-1", "role-"]);
    assert!(said.contains("web-1 was let go already, with batch 1 of 4"), "{said}");
    scene.stage.kill_controller().unwrap();
    scene.stage.start_controller().unwrap();
    assert_eq!(runs(&scene), ["v2", "v1", "v1", "v1"]);
    says(&scene, &["resume"]);
    wait_until("the canary is proven, again", PATIENCE, || waits(&scene))
        .unwrap_or_else(|error| panic!("{error}\n{}", scene.last_words()));
    says(&scene, &["promote"]);
    wait_until("all on v2", PATIENCE, || runs(&scene) == ["v2"; 4])
        .unwrap_or_else(|error| panic!("{error}\n{}", scene.last_words()));

    let log = says(&scene, &["log", "--all"]);
    assert!(log.contains("labels of web-2 changed, zone=b instead of a: it was moved"), "{log}");
    assert!(log.contains("by its labels web-2 changes with batch 3 of 4 of rollout"), "{log}");
    let hosts = scene.json(&["hosts"]).unwrap();
    assert_eq!(hosts["hosts"][3]["labels"]["zone"], "a", "{hosts}");
}
