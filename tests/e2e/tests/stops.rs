//! Required stops: a host that was away for two releases comes to the second one over the first.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::path::Path;
use std::time::Duration;

use landfall_e2e::process::wait_until;
use landfall_e2e::scene::Scene;
use landfall_e2e::stage::Said;

const PATIENCE: Duration = Duration::from_secs(120);

fn says(scene: &Scene, arguments: &[&str]) -> String {
    scene.ctl(arguments).unwrap().expect_code(0).unwrap().out
}

/// Releases what follows `stop`, or nothing.
fn release(scene: &Scene, name: &str, stop: Option<&str>, more: &[&str]) -> Said {
    let line = stop.map_or_else(String::new, |stop| format!("follows = \"{stop}\"\n"));
    let artifact = scene.artifact(name, |text| {
        let text = text.replacen("name = \"site\"\n", &format!("name = \"site\"\n{line}"), 1);
        // The host that is away is out.
        text.replace("max_unavailable = 1", "max_unavailable = 2")
    });
    scene.release_command(name, &artifact.unwrap(), more).output().unwrap().into()
}

fn runs(scene: &Scene) -> [String; 3] {
    ["web-1", "web-2", "web-3"].map(|host| scene.stage.current(host))
}

/// Two of three hosts come to v1.1 and then to v1.2, which follows it, while the third is away; it comes back, and is led
/// over v1.1. In between it may be asked where it is.
#[test]
fn a_host_that_was_away_for_two_releases_catches_up_step_by_step() {
    let bin = Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap();
    let mut scene = Scene::new(bin, &["web-1", "web-2", "web-3"]).unwrap();
    let said = release(&scene, "v1.0", None, &[]);
    assert_eq!(said.code, 0, "{said:?}\n{}", scene.last_words());

    // What is no earlier release is refused before anything is made.
    let said = release(&scene, "v1.1", Some("v0.9"), &["--publish-only"]);
    assert_eq!(said.code, 2, "{said:?}");
    assert!(
        said.err.contains("v1.1 follows v0.9 by its landfall.toml, which its signers do not list"),
        "{said:?}"
    );

    // So that no rollout waits for it.
    says(&scene, &["hosts", "cordon", "web-3", "--reason", "it is away"]);
    scene.stage.kill_agent("web-3").unwrap();
    for (name, stop) in [("v1.1", None), ("v1.2", Some("v1.1"))] {
        let said = release(&scene, name, stop, &[]);
        assert_eq!(said.code, 0, "{said:?}\n{}", scene.last_words());
    }
    assert_eq!(runs(&scene), ["v1.2", "v1.2", "v1.0"]);

    says(&scene, &["hosts", "uncordon", "web-3"]);
    // A release that is to come says who goes over what.
    let said = release(&scene, "v1.3", Some("v1.2"), &["--publish-only"]);
    assert_eq!(said.code, 0, "{said:?}");
    let plan = says(&scene, &["plan", "v1.3"]);
    assert!(plan.contains("web-3 takes v1.1, then v1.2 first"), "{plan}");

    // Nobody has to know whom to ask about.
    let status = says(&scene, &["status"]);
    assert!(status.contains("awaited: web-3 ") && status.contains("v1.2"), "{status}");

    scene.stage.start_agent("web-3").unwrap();
    wait_until("web-3 has come to v1.2", PATIENCE, || scene.stage.current("web-3") == "v1.2")
        .unwrap_or_else(|error| panic!("{error}\n{}", scene.last_words()));
    let log = says(&scene, &["log", "--all"]);
    let at = |told: &str| log.find(told).unwrap_or_else(|| panic!("no {told:?} in {log}"));
    assert!(
        at("web-3 was sent to v1.1 on its way to v1.2") < at("web-3 was sent to v1.2, the release in force"),
        "{log}"
    );

    // And so it goes in a rollout: nobody has a stop left to take.
    let said = release(&scene, "v1.3", Some("v1.2"), &[]);
    assert_eq!(said.code, 0, "{said:?}\n{}", scene.last_words());
    assert_eq!(runs(&scene), ["v1.3"; 3]);
}
