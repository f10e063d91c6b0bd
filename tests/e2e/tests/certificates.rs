//! Certificates that have expired, an operator's and a host's: what is said, and who comes back by himself.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::path::Path;
use std::time::Duration;

use landfall_e2e::process::wait_until;
use landfall_e2e::scene::Scene;
use landfall_e2e::stage::{Said, token_in};

const PATIENCE: Duration = Duration::from_secs(60);

/// The scene some time later: the controller was started anew, agents are down.
fn later(scene: &mut Scene, offset: &str) {
    scene.stage.stop_controller().unwrap();
    scene.stage.set_clock(offset).unwrap();
    scene.stage.start_controller().unwrap();
}

/// An administrator who comes back by the word of the controller's own machine.
fn log_in_again(scene: &Scene) {
    let mut token = None;
    // A controller that has just begun to listen is asked again.
    wait_until("a token is made", PATIENCE, || {
        let said = scene.stage.run_controller(&["operator-token", "--name", "admin", "--role", "admin"]);
        token = said.and_then(|said| token_in(&said.expect_code(0)?)).ok();
        token.is_some()
    })
    .unwrap();
    let (token, address) = (token.unwrap(), scene.stage.address.clone());
    scene.stage.run_ctl(&["login", &token, "--controller", &address]).unwrap().expect_code(0).unwrap();
}

#[track_caller]
fn says(said: &Said, code: i32, words: &[&str]) {
    assert_eq!(said.code, code, "{said:?}");
    let missing: Vec<_> = words.iter().filter(|word| !said.err.contains(**word)).collect();
    assert!(missing.is_empty(), "no {missing:?} in\n{}", said.err);
}

#[test]
fn an_operator_whose_certificate_has_expired_is_told_both_ways_back() {
    let bin = Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap();
    let mut scene = Scene::new(bin, &[]).unwrap();
    later(&mut scene, "+13h");
    let words = [
        "error: your certificate expired at 2",
        "next:  ctl login TOKEN",
        "ctl operators token NAME --role ROLE",
        "landfall-controller operator-token --name NAME --role ROLE",
    ];
    says(&scene.ctl(&["hosts"]).unwrap(), 6, &words);

    // What it says works, also when no administrator is left.
    log_in_again(&scene);
    says(&scene.ctl(&["hosts"]).unwrap(), 0, &[]);

    // A clock that is behind is another matter than a certificate that is over.
    scene.stage.set_clock("+0").unwrap();
    let words = ["cannot reach the controller", "certificate not valid yet", "this machine's is behind"];
    says(&scene.ctl(&["hosts"]).unwrap(), 7, &words);
}

#[test]
fn a_host_comes_back_by_itself_after_a_weekend_and_not_after_forty_days() {
    let bin = Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap();
    let mut scene = Scene::new(bin, &["web-1"]).unwrap();
    scene.release("v1").unwrap().expect_code(0).unwrap();
    let mut back_after = |offset: &str, words: &[&str]| {
        scene.stage.kill_agent("web-1").unwrap();
        later(&mut scene, offset);
        scene.stage.start_agent("web-1").unwrap();
        let told = || {
            let log = scene.stage.agent_log("web-1");
            words.iter().all(|word| log.contains(word))
        };
        wait_until(&format!("{offset}: {words:?}"), PATIENCE, told)
            .unwrap_or_else(|error| panic!("{error}\n{}", scene.last_words()));
    };
    back_after("+3d", &["certificate renewed", "session begun"]);
    let words = [
        "the certificate is not renewed yet host=web-1 error=the controller: the certificate of web-1 expired at 2",
        "no longer than 30 days after",
        "no session host=web-1 error=this host's certificate expired at 2",
        "a session needs it renewed first",
    ];
    back_after("+40d", &words);

    // What it says works, and its ledger stays: an assignment with a lower generation would be refused.
    log_in_again(&scene);
    let join = |scene: &Scene, token: &str, again: &[&str]| {
        let address = &scene.stage.address;
        scene.stage.run_agent("web-1", &[&["join", token, "--controller", address], again].concat()).unwrap()
    };
    let token = |scene: &Scene, name: &str| {
        let said = scene.ctl(&["hosts", "token", "--env", "production", "--name", name]).unwrap();
        token_in(&said.expect_code(0).unwrap()).unwrap()
    };
    let for_it = token(&scene, "web-1");
    says(&join(&scene, &for_it, &["--again"]), 1, &["another landfall-agent holds agent.lock"]);
    scene.stage.kill_agent("web-1").unwrap();
    says(&join(&scene, &for_it, &[]), 1, &["enrolled already, as web-1", "--again"]);
    let words = ["it is for web-2 of", "and this is web-1 of", "--name web-1"];
    says(&join(&scene, &token(&scene, "web-2"), &["--again"]), 1, &words);
    let words = ["enrolled already; remove it with `ctl hosts remove web-1`"];
    says(&join(&scene, &for_it, &["--again"]), 1, &words);
    says(&scene.ctl(&["hosts", "remove", "web-1", "--yes"]).unwrap(), 0, &[]);
    says(&join(&scene, &token(&scene, "web-1"), &["--again"]), 0, &[]);
    scene.stage.start_agent("web-1").unwrap();
    scene.release("v2").unwrap().expect_code(0).unwrap();
    assert_eq!(scene.stage.current("web-1"), "v2");
}
