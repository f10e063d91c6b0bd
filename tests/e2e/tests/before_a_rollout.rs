//! What must hold before a rollout begins, as people type it to `ctl`, each on a machine of his own.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::path::Path;
use std::time::Duration;

use landfall_e2e::process::wait_until;
use landfall_e2e::scene::Scene;
use landfall_e2e::stage::{Said, token_in, told};

const PATIENCE: Duration = Duration::from_secs(60);

fn scene() -> Scene {
    Scene::new(Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap(), &["web-1"]).unwrap()
}

fn ctl(scene: &Scene, config: &Path, arguments: &[&str]) -> Said {
    scene.ctl_as(config, arguments).unwrap()
}

/// Begins to release an artifact whose environment says `line` too, and does not follow it.
fn release(scene: &Scene, release: &str, line: &str, more: &[&str]) -> Said {
    let with = format!("canary = 1\n{line}");
    let artifact = scene.artifact(release, |text| text.replace("canary = 1", &with)).unwrap();
    scene.release_command(release, &artifact, more).output().unwrap().into()
}

/// The id of the rollout that stands in line.
fn in_line(scene: &Scene) -> String {
    let status = scene.json(&["status"]).unwrap();
    let rollouts = status["rollouts"].as_array().unwrap();
    let waiting = rollouts.iter().find(|rollout| rollout["in_line"] == true);
    waiting.unwrap_or_else(|| panic!("{status:#}"))["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_release_waits_for_the_approval_of_somebody_else() {
    let mut scene = scene();
    told(&scene.release("v1").unwrap(), 0, &["succeeded"]);
    let (bo, cy) = (scene.log_in("bo", "deployer").unwrap(), scene.log_in("cy", "approver").unwrap());

    told(&release(&scene, "v2", "approvals = 1", &["--publish-only"]), 0, &[]);
    let note = "it stands in line until somebody other than whoever asks has approved it with `ctl approve`";
    told(&scene.ctl(&["plan", "v2"]).unwrap(), 0, &[note]);
    told(&release(&scene, "v2", "approvals = 1", &["--detach", "--batch", "1"]), 0, &["stands in line"]);
    let id = in_line(&scene);
    let waits = format!("waits for 1 approval by others than admin; `ctl approve {id}` or `ctl reject {id}`");
    told(&scene.ctl(&["status"]).unwrap(), 0, &["in line: ", &waits]);
    // Somebody who follows it is told, and may go.
    told(&scene.ctl(&["status", "--watch", &id, "--wait", "3s"]).unwrap(), 4, &[&waits]);
    told(&scene.ctl(&["approve", &id, "--yes"]).unwrap(), 1, &["has asked for rollout", "himself"]);
    // An approver says yes and no, and nothing else.
    told(&ctl(&scene, &cy, &["abort", &id]), 6, &["this needs the role deployer, and cy is approver"]);
    told(&ctl(&scene, &cy, &["approve", &id]), 2, &["v1 -> v2, site in production", "batch = 1", "--yes"]);
    assert_eq!(scene.stage.current("web-1"), "v1");
    let said = ctl(&scene, &cy, &["approve", &id, "--yes", "--reason", "tested"]);
    told(&said, 0, &["digest", "approved by cy"]);
    told(&scene.ctl(&["status", "--watch", &id]).unwrap(), 0, &["succeeded: v2 runs on the one host"]);
    told(&scene.ctl(&["log", "--all"]).unwrap(), 0, &["began on 1 host, approved by cy"]);

    // A release does not lift what it is held by; and what a removed operator has approved nobody has.
    scene.ctl(&["lock", "production", "audit"]).unwrap().expect_code(0).unwrap();
    told(&release(&scene, "v3", "", &["--detach", "--queue"]), 0, &["stands in line"]);
    let id = in_line(&scene);
    told(&ctl(&scene, &bo, &["approve", &id, "--yes"]), 0, &["approved by bo"]);
    scene.stage.stop_controller().unwrap();
    scene.stage.run_controller(&["operator-remove", "--name", "bo"]).unwrap().expect_code(0).unwrap();
    scene.stage.start_controller().unwrap();
    wait_until("the host is back", PATIENCE, || {
        scene.ctl(&["hosts"]).is_ok_and(|said| said.code == 0 && !said.out.contains("not connected"))
    })
    .unwrap();
    scene.ctl(&["unlock", "production"]).unwrap().expect_code(0).unwrap();
    told(&scene.ctl(&["status"]).unwrap(), 0, &["waits for 1 approval by others than admin"]);
    told(&scene.ctl(&["log", "--all"]).unwrap(), 0, &["by bo counts no more, since bo was removed"]);
    told(&ctl(&scene, &cy, &["reject", &id, "--reason", "not today"]), 0, &["it was rejected: not today"]);
    assert_eq!(scene.stage.current("web-1"), "v2");

    // No way back waits for anybody.
    told(&scene.ctl(&["rollback", "--yes"]).unwrap(), 0, &["succeeded: v1 runs on the one host"]);
}

/// A window of one day of the week, two days from now.
fn window() -> String {
    let days = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() / 86_400;
    // The first day of all was a Thursday.
    let day = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][usize::try_from((days + 2) % 7).unwrap()];
    format!("release_windows = [\"{day} 09:00-17:00\"]")
}

#[test]
fn outside_of_its_windows_a_release_waits_or_somebody_says_why_not() {
    let scene = scene();
    told(&scene.release("v1").unwrap(), 0, &["succeeded"]);
    let closed = ["site in production is outside of its release windows", "the next rollout may begin on "];
    told(&release(&scene, "v2", &window(), &[]), 5, &closed);
    told(&scene.ctl(&["plan", "v2"]).unwrap(), 1, &closed);
    told(&release(&scene, "v2", &window(), &["--queue", "--detach"]), 0, &["stands in line"]);
    let id = in_line(&scene);
    told(
        &scene.ctl(&["status"]).unwrap(),
        0,
        &["waits, since its environment is outside of its release windows"],
    );
    told(&scene.ctl(&["abort", &id]).unwrap(), 0, &[]);
    assert_eq!(scene.stage.current("web-1"), "v1");

    told(&release(&scene, "v2", &window(), &["--outside-window", "it burns"]), 0, &["succeeded: v2"]);
    let log = "is to begin although its environment is outside of its release windows";
    told(&scene.ctl(&["log", "--all"]).unwrap(), 0, &[log, "it burns"]);
    // By what is in force now: the one after it is held as well, and no way back is.
    told(&scene.ctl(&["status"]).unwrap(), 0, &["is outside of its release windows"]);
    told(&release(&scene, "v3", "", &[]), 5, &closed);
    told(&scene.ctl(&["rollback", "--yes"]).unwrap(), 0, &["succeeded: v1"]);
    told(&release(&scene, "v3", "", &[]), 0, &["succeeded: v3"]);
}

#[test]
fn a_release_goes_from_one_environment_to_the_next() {
    let mut scene = scene();
    scene.prepare("stage-1").unwrap();
    let token =
        token_in(&scene.ctl(&["hosts", "token", "--env", "staging", "--name", "stage-1", "--yes"]).unwrap());
    scene.stage.join("stage-1", &token.unwrap()).unwrap();
    let bo = scene.log_in("bo", "deployer").unwrap();
    let staging = "\n[environment.staging]\nmin_healthy = \"1s\"\n";
    let artifacts = ["v1", "v2", "v3"].map(|release| {
        // The last one does not ask for it any more.
        let after = if release == "v3" { "" } else { "after = [\"staging\"]" };
        scene.artifact(release, |text| format!("{}\n{after}{staging}", text.trim_end())).unwrap()
    });
    let to = |env: &str, release: usize, more: &[&str]| -> Said {
        let (name, artifact) = (format!("v{release}"), &artifacts[release - 1]);
        scene.release_command(&name, artifact, &[&["--env", env], more].concat()).output().unwrap().into()
    };
    let promote = |release: &str| {
        scene.ctl(&["promote", release, "--from", "staging", "--to", "production", "--yes"]).unwrap()
    };

    // Too early, whichever way; and in line until it is not.
    let lacks = "v1 is not proven for site in staging, where nothing is in force";
    let how = "`ctl release v1 --env staging` proves it there";
    told(&to("production", 1, &[]), 1, &[lacks, how]);
    told(&promote("v1"), 1, &[lacks, how]);
    told(&scene.ctl(&["plan", "v1", "--env", "production"]).unwrap(), 1, &["refused", lacks]);
    told(&to("production", 1, &["--queue", "--detach"]), 0, &["stands in line"]);
    let id = in_line(&scene);
    let waits = format!("waits for a proof: {lacks}");
    told(&scene.ctl(&["status"]).unwrap(), 0, &[&waits]);
    told(&scene.ctl(&["why", &id]).unwrap(), 0, &[&waits]);
    assert_eq!(scene.stage.current("web-1"), "");
    told(&to("staging", 1, &[]), 0, &["succeeded: v1 runs on the one host of site in staging"]);
    told(&scene.ctl(&["status", "--watch", &id]).unwrap(), 0, &["succeeded: v1 runs on the one host"]);

    // What staging has gone back from is proven no more, until it is again.
    told(&to("staging", 2, &[]), 0, &["succeeded: v2"]);
    told(&scene.ctl(&["rollback", "--env", "staging", "--yes"]).unwrap(), 0, &["succeeded: v1"]);
    let gone = "v2 is not proven for site in staging any more, since that place has gone back from it to v1";
    told(&promote("v2"), 1, &[gone]);
    told(&to("staging", 2, &[]), 0, &["succeeded: v2"]);
    let plan = scene.ctl(&["plan", "v2", "--env", "production"]).unwrap();
    told(&plan, 0, &["proven    in staging, by rollout "]);
    let plan = scene.json(&["plan", "v2", "--env", "production"]).unwrap();
    let proof = &plan["plan"]["plan"]["proofs"][0];
    assert!(proof["environment"] == "staging" && proof["rollout"].is_string(), "{plan:#}");
    told(
        &promote("v2"),
        0,
        &["proven    in staging", "succeeded: v2 runs on the one host of site in production"],
    );
    assert_eq!((scene.stage.current("web-1"), scene.stage.current("stage-1")), ("v2".into(), "v2".into()));

    // A release does not lift what it is held by; who may does without, and the log tells; no way back waits.
    told(&to("production", 3, &[]), 1, &["v3 is not proven for site in staging, where v2 is in force"]);
    let unproven = ["--unproven", "staging burns"];
    let bos = ["promote", "v3", "--from", "staging", "--to", "production", "--yes"];
    told(
        &ctl(&scene, &bo, &[&bos[..], &unproven].concat()),
        6,
        &["to release what is not proven", "manager"],
    );
    told(&to("production", 3, &unproven), 0, &["succeeded: v3"]);
    let log = "of v3 is to begin although it is not proven in staging: staging burns";
    told(&scene.ctl(&["log", "--all"]).unwrap(), 0, &[log]);
    told(&scene.ctl(&["rollback", "--env", "production", "--yes"]).unwrap(), 0, &["succeeded: v2"]);

    // Nothing is guessed.
    told(&scene.ctl(&["promote", "v1", "--from", "staging"]).unwrap(), 2, &["--to"]);
    let same = ["promote", "v1", "--from", "staging", "--to", "staging"];
    told(&scene.ctl(&same).unwrap(), 2, &["staging is brought nothing from staging"]);
    told(&scene.ctl(&["promote", "--queue"]).unwrap(), 2, &["--queue is about a release that is brought"]);
}

#[test]
fn the_command_line_changes_what_the_definition_lets_it_change() {
    let scene = scene();
    let ranges = "overrides = { canary = { min = 1 }, watch = true }";
    told(&release(&scene, "v1", ranges, &["--publish-only"]), 0, &[]);
    let plan = |knob: &str, value: &str| scene.ctl(&["plan", "v1", knob, value]).unwrap();
    told(&plan("--canary", "100%"), 0, &["canary    web-1"]);
    told(&plan("--watch", "1h"), 0, &["next: ctl release v1 ", "--watch 1h"]);
    let rule = "canary cannot be 0 for one rollout: landfall.toml of v1 lets it be at least 1 in production";
    told(&plan("--canary", "0"), 2, &[rule, "[environment.production.overrides]"]);
    let refused = release(&scene, "v1", ranges, &["--min-healthy", "1ms"]);
    told(
        &refused,
        2,
        &["min_healthy cannot be 1ms for one rollout", "lets only canary, watch be set otherwise"],
    );
    assert!(!scene.ctl(&["log", "--all"]).unwrap().out.contains("rollout"), "nothing has begun");
    told(&release(&scene, "v1", ranges, &["--wait", "1m", "--canary", "1"]), 0, &["succeeded"]);
}
