//! Gates that others hold, with real processes: somebody opens and closes one through the gRPC API.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::path::Path;
use std::time::Duration;

use landfall_e2e::process::wait_until;
use landfall_e2e::scene::Scene;
use landfall_e2e::stage::{Said, told};

const PATIENCE: Duration = Duration::from_secs(60);

fn scene(hosts: &[&str]) -> Scene {
    Scene::new(Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap(), hosts).unwrap()
}

fn ctl(scene: &Scene, config: &Path, arguments: &[&str]) -> Said {
    scene.ctl_as(config, arguments).unwrap()
}

fn release(scene: &Scene, release: &str, gates: &str, more: &[&str]) -> Said {
    let with = format!("canary = 1\ngates = [{gates}]");
    let artifact = scene.artifact(release, |text| text.replace("canary = 1", &with)).unwrap();
    scene.release_command(release, &artifact, more).output().unwrap().into()
}

/// The rollout under way, once its status says these words.
fn waits(scene: &Scene, words: &str) -> String {
    wait_until(words, PATIENCE, || scene.ctl(&["status"]).is_ok_and(|said| said.out.contains(words)))
        .unwrap_or_else(|error| panic!("{error}\n{:?}\n{}", scene.ctl(&["status"]), scene.last_words()));
    let status = scene.json(&["status"]).unwrap();
    status["rollouts"][0]["id"].as_str().unwrap().to_owned()
}

fn runs(scene: &Scene) -> [String; 2] {
    ["web-1", "web-2"].map(|host| scene.stage.current(host))
}

#[test]
fn a_batch_waits_until_an_integration_opens_its_gate() {
    let mut scene = scene(&["web-1", "web-2"]);
    told(&scene.release("v1").unwrap(), 0, &["succeeded"]);
    let ci = scene.log_in("ci", "gatekeeper").unwrap();
    let gate = "{ name = \"qa-signoff\" }";
    told(&release(&scene, "v2", gate, &["--publish-only"]), 0, &[]);
    let then = "the next batch follows when gate qa-signoff is open";
    let note = "gate qa-signoff must be open before the second batch: `ctl gate open qa-signoff`";
    told(
        &scene.ctl(&["plan", "v2"]).unwrap(),
        0,
        &[then, note, "without an answer for 1d the rollout pauses"],
    );
    told(&release(&scene, "v2", gate, &["--detach"]), 0, &[]);
    let id = waits(&scene, "waits for gate qa-signoff: it has had no answer");
    told(
        &scene.ctl(&["why"]).unwrap(),
        0,
        &["deadline of a gate", "ctl gate open qa-signoff", "overrules the gates"],
    );
    // Somebody who follows it is told, and may go.
    told(&scene.ctl(&["status", "--watch", &id, "--wait", "2s"]).unwrap(), 4, &["waits for gate qa-signoff"]);

    // An integration looks, opens and closes, and nothing else; and what it says it says why.
    let open = ["gate", "open", "qa-signoff"];
    told(&ctl(&scene, &ci, &["promote"]), 6, &["this needs the role deployer, and ci is gatekeeper"]);
    told(&ctl(&scene, &ci, &open), 2, &["--reason"]);
    let wrong = [&open[..], &["--reason", "it is well", "--batch", "3"]].concat();
    told(&ctl(&scene, &ci, &wrong), 1, &["asks gate qa-signoff before batch 2, and this is about batch 3"]);
    let close = ["gate", "close", "qa-signoff", "--reason", "the load test runs"];
    told(&ctl(&scene, &ci, &close), 0, &["waiting", &format!("next: ctl status --watch {id}")]);
    let closed = waits(&scene, "ci has said closed");
    assert_eq!((closed.as_str(), runs(&scene)), (&*id, ["v2".to_owned(), "v1".to_owned()]));

    // What was said outlives the controller, and what was not said is not forgotten into yes.
    scene.stage.kill_controller().unwrap();
    scene.stage.start_controller().unwrap();
    waits(&scene, "ci has said closed");
    let gates = scene.json(&["gate", "list"]).unwrap();
    let gate = &gates["gates"][0];
    assert_eq!((&gate["name"], &gate["asked"]), (&"qa-signoff".into(), &2.into()), "{gates:#}");
    assert_eq!((&gate["verdict"], &gate["by"]), (&"closed".into(), &"ci".into()), "{gates:#}");
    assert_eq!(runs(&scene), ["v2", "v1"]);
    told(
        &ctl(&scene, &ci, &["gate", "open", "qa-signoff", "--reason", "it has passed", "--batch", "2"]),
        0,
        &[],
    );
    told(&scene.ctl(&["status", "--watch", &id]).unwrap(), 0, &["succeeded: v2 runs on all 2 hosts"]);
    let log = ["by ci: it has passed", "gate qa-signoff before batch 2", "is closed: the load test runs"];
    told(&scene.ctl(&["log", "--all"]).unwrap(), 0, &log);

    // A release without gates does not lift the one in force; one that says no has it go back.
    told(&release(&scene, "v3", "", &["--detach"]), 0, &[]);
    let id = waits(&scene, "waits for gate qa-signoff: it has had no answer");
    told(&ctl(&scene, &ci, &["gate", "fail", "qa-signoff", "--reason", "the basket is empty"]), 0, &[]);
    let end = ["rolled back", "gate qa-signoff says no, by ci: the basket is empty"];
    told(&scene.ctl(&["status", "--watch", &id]).unwrap(), 3, &end);
    assert_eq!(runs(&scene), ["v2", "v2"]);
    // And no way back waits for it.
    told(&scene.ctl(&["rollback", "--yes"]).unwrap(), 0, &["succeeded: v1"]);
}

#[test]
fn without_an_answer_a_rollout_pauses_and_somebody_overrules() {
    let scene = scene(&["web-1", "web-2"]);
    told(&scene.release("v1").unwrap(), 0, &["succeeded"]);
    let gate = "{ name = \"qa-signoff\", before = \"first\", deadline = \"10s\" }";
    told(&release(&scene, "v2", gate, &["--detach"]), 0, &[]);
    waits(&scene, "gate qa-signoff has had no answer for 10s, and batch 1 of 2 waits for it");
    assert_eq!(runs(&scene), ["v1", "v1"]);
    told(&scene.ctl(&["promote"]).unwrap(), 0, &[]);
    told(&scene.ctl(&["status", "--watch"]).unwrap(), 0, &["succeeded: v2"]);
    told(
        &scene.ctl(&["log", "--all"]).unwrap(),
        0,
        &["and overrules its gates: gate qa-signoff has no answer"],
    );
}
