//! Operators whose role holds for one environment, each on a machine of his own: two environments of one application,
//! on one controller.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::path::{Path, PathBuf};

use landfall_e2e::scene::Scene;
use landfall_e2e::stage::{Said, token_in, told};

/// web-1 in production and stage-1 in staging.
fn scene() -> Scene {
    let bin = Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap();
    let mut scene = Scene::new(bin, &["web-1"]).unwrap();
    scene.prepare("stage-1").unwrap();
    let token = ["hosts", "token", "--env", "staging", "--name", "stage-1", "--yes"];
    let token = token_in(&scene.ctl(&token).unwrap()).unwrap();
    scene.stage.join("stage-1", &token).unwrap();
    scene
}

/// As it is typed by somebody with this configuration.
fn release(scene: &Scene, config: Option<&PathBuf>, artifact: &(&str, PathBuf), more: &[&str]) -> Said {
    let mut command = scene.release_command(artifact.0, &artifact.1, more);
    if let Some(config) = config {
        command.env("LANDFALL_CONFIG_DIR", config);
    }
    command.output().unwrap().into()
}

/// It is said and well, and nothing of the other environment is in it.
#[track_caller]
fn told_only(said: &Said, words: &[&str], never: &[&str]) {
    told(said, 0, words);
    for word in never {
        assert!(!said.out.contains(word) && !said.err.contains(word), "{word:?} is told: {said:?}");
    }
}

#[test]
fn a_role_for_one_environment_ends_there() {
    let scene = scene();
    let staging = "\n[environment.staging]\nmin_healthy = \"1s\"\n";
    let artifact = |release| {
        (release, scene.artifact(release, |text| format!("{}\n{staging}", text.trim_end())).unwrap())
    };
    let (v1, v2) = (artifact("v1"), artifact("v2"));
    told(&release(&scene, None, &v1, &["--env", "production"]), 0, &["succeeded: v1"]);
    told(&release(&scene, None, &v2, &["--publish-only"]), 0, &[]);
    let theirs = scene.json(&["status"]).unwrap()["rollouts"][0]["id"].as_str().unwrap().to_owned();

    let dora = scene.log_in("dora", "deployer:site/staging").unwrap();
    let pat = scene.log_in("pat", "viewer:site/staging,deployer:site/production").unwrap();
    let vera = scene.log_in("vera", "viewer:site").unwrap();
    let ctl = |who: &Path, arguments: &[&str]| scene.ctl_as(who, arguments).unwrap();

    // What belongs to staging, as before.
    told(&ctl(&dora, &["doctor"]), 0, &["you are dora (deployer:site/staging)"]);
    let done = "succeeded: v2 runs on the one host of site in staging";
    told(&release(&scene, Some(&dora), &v2, &["--env", "staging"]), 0, &[done]);
    let restart = ["restart", "--env", "staging", "--yes", "--reason", "a new certificate"];
    told(&ctl(&dora, &restart), 0, &["succeeded"]);
    told(&ctl(&dora, &["hosts", "cordon", "stage-1", "--reason", "its disk"]), 0, &["stage-1"]);
    told(&ctl(&dora, &["hosts", "uncordon", "stage-1"]), 0, &["stage-1"]);
    told(&ctl(&dora, &["diff", "v1", "v2"]), 0, &["v1 (", "files: 1"]);

    // Nothing of production, neither done nor told.
    let needs = "this needs the role deployer for site in production, and dora is deployer:site/staging";
    told(&release(&scene, Some(&dora), &v2, &["--env", "production"]), 6, &[needs, "next:"]);
    let gives = "`ctl operators token dora --role deployer:site/production,deployer:site/staging`";
    told(
        &ctl(&dora, &["rollback", "--env", "production", "--yes"]),
        6,
        &[needs, gives, "next:  ctl doctor shows your role"],
    );
    let looks = "this needs the role viewer for site in production, and dora is deployer:site/staging";
    told(&ctl(&dora, &["plan", "v2", "--env", "production"]), 6, &[looks]);
    told(&ctl(&dora, &["runbook", "--env", "production"]), 6, &[looks]);
    told(&ctl(&dora, &["hosts", "--env", "production"]), 6, &[looks]);
    told(&ctl(&dora, &["lock", "production", "mine"]), 6, &[needs]);
    let only = "dora looks at site in staging only";
    for about in
        [&["abort", &theirs][..], &["why", &theirs], &["status", "--watch", &theirs], &["why", "web-1"]]
    {
        let said = ctl(&dora, about);
        told(&said, 2, &[only]);
        assert!(!said.err.contains("production"), "{said:?}");
    }
    let cordon = ["hosts", "cordon", "web-1", "--reason", "mine"];
    told(&ctl(&dora, &cordon), 2, &["no host web-1 is enrolled; dora looks at site in staging only"]);
    told(&ctl(&dora, &["logs", "web-1", "--step", "migrate"]), 2, &["no host web-1 is enrolled", only]);
    let never = ["web-1", "production", theirs.as_str()];
    told_only(&ctl(&dora, &["status"]), &["staging"], &never);
    told_only(&ctl(&dora, &["hosts"]), &["stage-1"], &never);
    told_only(&ctl(&dora, &["drift"]), &[], &never);
    told_only(&ctl(&dora, &["releases"]), &["v1", "v2"], &never);
    told_only(&ctl(&dora, &["log"]), &["v2"], &never);
    told_only(&ctl(&dora, &["log", "--all"]), &["stage-1", "site v1 was published", "its disk"], &never[..2]);
    let proof = "reading the log as a whole, as proving it does, needs the role viewer for everything";
    told(
        &ctl(&dora, &["log", "verify"]),
        6,
        &[proof, "`ctl operators token dora --role viewer,deployer:site/staging`"],
    );
    told(&ctl(&dora, &["operators"]), 6, &["the role viewer for everything"]);
    told(
        &ctl(&dora, &["hosts", "token", "--env", "staging"]),
        6,
        &["this needs the role admin, and dora is"],
    );
    assert_eq!((scene.stage.current("web-1"), scene.stage.current("stage-1")), ("v1".into(), "v2".into()));

    // A promotion deploys to the one, and looks at the other.
    let promote = ["promote", "v2", "--from", "staging", "--to", "production", "--yes"];
    told(&ctl(&dora, &promote), 6, &[looks]);
    told(&ctl(&vera, &promote), 6, &["this needs the role deployer, and vera is viewer:site"]);
    told(
        &ctl(&pat, &promote),
        0,
        &["proven    in staging", "succeeded: v2 runs on the one host of site in production"],
    );
    told(
        &ctl(&pat, &["rollback", "--env", "staging", "--yes"]),
        6,
        &["the role deployer for site in staging, and pat is"],
    );
    told(&ctl(&vera, &["hosts"]), 0, &["web-1", "stage-1"]);

    // An admin sees who may do what; what is mistyped makes no token; who is removed is out.
    told(&scene.ctl(&["operators"]).unwrap(), 0, &["viewer:site/staging,deployer:site/production"]);
    let mistyped = ["operators", "token", "eve", "--role", "deployer:site/"];
    told(
        &scene.ctl(&mistyped).unwrap(),
        2,
        &["deployer:site/", "write deployer, deployer:APP or deployer:APP/ENV"],
    );
    scene.ctl(&["operators", "remove", "dora", "--yes"]).unwrap().expect_code(0).unwrap();
    told(&ctl(&dora, &["status"]), 6, &["`ctl operators token dora --role deployer:site/staging`"]);
    // On the controller's own host, where nobody has a certificate.
    let again = ["operator-token", "--name", "dora", "--role", "viewer", "--role", "deployer:site/staging"];
    let token = token_in(&scene.stage.run_controller(&again).unwrap()).unwrap();
    let login = ["login", &token, "--controller", &scene.stage.address];
    told(&ctl(&dora, &login), 0, &["as dora (viewer,deployer:site/staging)"]);
    told(&ctl(&dora, &["log", "verify"]), 0, &["verified"]);
    told(
        &ctl(&dora, &["rollback", "--env", "production", "--yes"]),
        6,
        &["this needs the role deployer for site in production"],
    );
}
