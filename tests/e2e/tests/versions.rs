//! Programs of this version and of the one before it (`tests/previous`) on one stage: whichever part is upgraded first,
//! releases go through, no request is lost, and what an older part does not know it refuses in words that help.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use landfall_e2e::load::{Counts, Load};
use landfall_e2e::process::{command_line, wait_until};
use landfall_e2e::scene::Scene;
use landfall_e2e::stage::{PROGRAMS, Said, started_in};

/// However loaded the machine is.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the version before does not know: in a check, which is the agent's own to ask.
const NEWER: (&str, &str) = ("status = 200 }", "status = 200, headers = { X-Probe = \"landfall\" } }");

/// The same, of the holder.
const NEWER_OF_HOLDER: (&str, &str) = (
    "ready = { http = \"/healthz\",",
    "ready = { http = \"/healthz\", headers = { X-Probe = \"landfall\" },",
);

/// And what it must not take for something else.
const HOLD: (&str, &str) = ("stop_timeout = \"15s\"", "stop_timeout = \"15s\"\nhold = \"60s\"");

fn this() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap().to_owned()
}

/// The programs of the version before, as `tests/previous.sh` has built them.
fn before() -> PathBuf {
    let commit = include_str!("../../previous").lines().find(|line| !line.starts_with('#')).unwrap();
    let programs = this().join("../previous").join(commit.trim());
    for program in PROGRAMS {
        assert!(programs.join(program).is_file(), "{} is not there: tests/previous.sh", programs.display());
    }
    programs.canonicalize().unwrap()
}

fn load(scene: &Scene) -> Load {
    let targets = scene.stage.hosts.values().map(|host| format!("127.0.0.1:{}", host.port)).collect();
    Load::start(targets, "/", 40).unwrap()
}

#[track_caller]
fn nothing_lost(counts: &Counts) {
    assert_eq!(counts.failed, 0, "of {}: {:?}", counts.sent, counts.failures);
    assert!(counts.sent > 20, "{counts:?}");
}

/// A command ended with this code, and said all of this.
#[track_caller]
fn said(scene: &Scene, said: &Said, code: i32, words: &[&str]) {
    assert_eq!(said.code, code, "{said:?}\n{}", scene.last_words());
    for words in words {
        assert!(said.out.contains(words) || said.err.contains(words), "no {words:?} in {said:#?}");
    }
}

/// `ctl` was told this, and did it.
#[track_caller]
fn did(scene: &Scene, arguments: &[&str], words: &[&str]) {
    said(scene, &scene.ctl(arguments).unwrap(), 0, words);
}

/// A release went through, on all hosts.
#[track_caller]
fn released(scene: &Scene, release: &str) {
    said(scene, &scene.release(release).unwrap(), 0, &["succeeded"]);
    runs(scene, release);
}

#[track_caller]
fn went_back(scene: &Scene, release: &str) {
    did(scene, &["rollback", "--yes"], &["succeeded"]);
    runs(scene, release);
}

#[track_caller]
fn runs(scene: &Scene, release: &str) {
    for host in scene.stage.hosts.keys() {
        assert_eq!(scene.stage.current(host), release, "{host}\n{}", scene.last_words());
    }
}

/// A release with something that the version before does not know.
fn release_newer(scene: &Scene, release: &str, (old, new): (&str, &str)) -> Said {
    let artifact = scene.artifact(release, |text| text.replace(old, new)).unwrap();
    scene.release_command(release, &artifact, &[]).output().unwrap().into()
}

fn end_of(child: Child) -> Said {
    child.wait_with_output().unwrap().into()
}

/// A host's agent is of these programs from now on.
fn change_agent(scene: &mut Scene, host: &str, bin: &Path) {
    scene.stage.kill_agent(host).unwrap();
    scene.stage.set_agent(Some(host), bin);
    scene.stage.start_agent(host).unwrap();
}

/// The controller is of these programs from now on, as after the upgrade of its package.
fn change_controller(scene: &mut Scene, bin: &Path) {
    scene.stage.stop_controller().unwrap();
    scene.stage.set_controller(bin);
    scene.stage.start_controller().unwrap();
}

/// Waits until the controller has heard of its hosts again.
#[track_caller]
fn is_back(scene: &Scene, status: &str) {
    wait_until(status, PATIENCE, || scene.ctl(&["status"]).unwrap().out.contains(status))
        .unwrap_or_else(|error| panic!("{error}\n{}", scene.last_words()));
}

/// The processes of the application.
fn servers(scene: &Scene) -> Vec<u32> {
    let mut ids = started_in(&scene.stage.root);
    ids.retain(|id| command_line(*id).ends_with("server.py"));
    ids.sort_unstable();
    ids
}

#[test]
fn hosts_with_agents_of_the_version_before_and_of_this_one_go_through_releases_together() {
    let (this, before) = (this(), before());
    let mut scene = Scene::new(&this, &[]).unwrap();
    for (host, bin) in [("web-1", &before), ("web-2", &this)] {
        let config = scene.prepare(host).unwrap().join("agent.toml");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, format!("{text}\n[drift]\nevery = \"1s\"\n")).unwrap();
        scene.stage.set_agent(Some(host), bin);
        scene.join(host).unwrap();
    }
    released(&scene, "v1");
    let load = load(&scene);

    // Requests would come all the same to whom nobody can tell otherwise: that is said before anything is begun.
    let drained = scene.ctl(&["hosts", "drain", "web-1", "--reason", "a new disk"]).unwrap();
    let named = ["web-1 cannot be drained: its agent is of a version that cannot", "ctl hosts cordon web-1"];
    said(&scene, &drained, 1, &named);
    assert!(!scene.ctl(&["hosts"]).unwrap().out.contains("cordoned"), "nothing has changed");

    // An operator's ctl is of the version before, and does what it always did.
    scene.stage.set_ctl(&before);
    released(&scene, "v2");
    did(&scene, &["status"], &["v2 on 2"]);
    did(&scene, &["hosts"], &["web-1", "web-2"]);
    did(&scene, &["log", "verify"], &["verified"]);
    let artifact = scene.artifact("v3", |text| text).unwrap();
    let published = scene.release_command("v3", &artifact, &["--publish-only"]).output().unwrap().into();
    said(&scene, &published, 0, &[]);
    let planned = scene.ctl(&["plan", "v3"]).unwrap().expect_code(0).unwrap();
    went_back(&scene, "v1");
    nothing_lost(&load.take());

    // This version's sees the same.
    scene.stage.set_ctl(&this);
    did(&scene, &["log", "verify"], &["verified"]);
    said(&scene, &planned, 0, &["v2 -> v3"]);
    did(&scene, &["plan", "v3"], &["v1 -> v3", "web-1", "web-2"]);
    let looked = |host: &str| !scene.json(&["drift", host]).unwrap()["drift"]["hosts"][0]["looked"].is_null();
    wait_until("both hosts have looked for drift", PATIENCE, || looked("web-1") && looked("web-2")).unwrap();
    let logs = scene.ctl(&["logs", "web-1", "--service", "web"]).unwrap();
    said(&scene, &logs, 1, &["its agent may", "upgrade landfall-agent there"]);

    // What one host's agent does not know touches none, and says which it is.
    let newer = release_newer(&scene, "v4", NEWER);
    said(
        &scene,
        &newer,
        1,
        &["unknown field `headers`", "upgrade landfall-agent on web-1, then ctl release v4 again"],
    );
    runs(&scene, "v1");
    change_agent(&mut scene, "web-1", &this);
    said(&scene, &release_newer(&scene, "v4", NEWER), 0, &["succeeded"]);
    runs(&scene, "v4");

    // Nor does the operator's ctl of before, which is kept by it from nothing else.
    scene.stage.set_ctl(&before);
    did(&scene, &["status"], &["v4 on 2"]);
    said(&scene, &scene.ctl(&["diff", "v1", "v4"]).unwrap(), 1, &["unknown field `headers`"]);
    released(&scene, "v5");
    went_back(&scene, "v4");
    nothing_lost(&load.stop());
}

#[test]
fn an_agent_takes_over_a_host_from_the_version_before_and_gives_it_back() {
    let (this, before) = (this(), before());
    let mut scene = Scene::new(&this, &[]).unwrap();
    scene.prepare("web-1").unwrap();
    scene.stage.set_agent(Some("web-1"), &before);
    scene.join("web-1").unwrap();
    for release in ["v1", "v2"] {
        released(&scene, release);
    }
    let load = load(&scene);

    // Its services go on, in the holder that the version before has started.
    let running = servers(&scene);
    assert_eq!(running.len(), 1, "{running:?}");
    change_agent(&mut scene, "web-1", &this);
    is_back(&scene, "v2 on 1");
    assert_eq!(servers(&scene), running);
    went_back(&scene, "v1");
    released(&scene, "v3");

    // And back again: nothing is restarted, and nothing is forgotten.
    let running = servers(&scene);
    change_agent(&mut scene, "web-1", &before);
    is_back(&scene, "v3 on 1");
    assert_eq!(servers(&scene), running);
    released(&scene, "v4");
    went_back(&scene, "v3");
    change_agent(&mut scene, "web-1", &this);
    nothing_lost(&load.take());

    // What that holder does not know is refused before anything is begun.
    let running = servers(&scene);
    for (release, newer, why) in
        [("v5", NEWER_OF_HOLDER, "unknown field `headers`"), ("v6", HOLD, "knows no `hold`")]
    {
        let newer = release_newer(&scene, release, newer);
        said(&scene, &newer, 3, &[why, "systemctl restart landfall-holder@site.web"]);
        runs(&scene, "v3");
    }
    assert_eq!(servers(&scene), running);

    // With such releases on its disk an agent of the version before takes no other one, and keeps what runs. The newer
    // agent goes on from there.
    change_agent(&mut scene, "web-1", &before);
    is_back(&scene, "v3 on 1");
    let refused = scene.release("v7").unwrap();
    said(&scene, &refused, 1, &["upgrade landfall-agent on web-1, then ctl release v7 again"]);
    assert_eq!(servers(&scene), running);
    change_agent(&mut scene, "web-1", &this);
    released(&scene, "v7");
    nothing_lost(&load.stop());
}

#[test]
fn a_controller_takes_over_from_the_version_before_and_gives_back() {
    let (this, before) = (this(), before());
    let mut scene = Scene::new(&before, &[]).unwrap();
    scene.stage.set_agent(None, &this);
    for host in ["web-1", "web-2"] {
        scene.prepare(host).unwrap();
        scene.join(host).unwrap();
    }
    released(&scene, "v1");
    let load = load(&scene);
    scene.stage.set_ctl(&this);
    released(&scene, "v2");
    did(&scene, &["status"], &["v2 on 2"]);
    went_back(&scene, "v1");
    let logs = scene.ctl(&["logs", "web-1", "--service", "web"]).unwrap();
    said(&scene, &logs, 1, &["StreamOutput is not a method", "upgrade the controller"]);
    let drained = scene.ctl(&["hosts", "drain", "web-1", "--reason", "a new disk"]).unwrap();
    said(&scene, &drained, 1, &["DrainHosts is not a method", "upgrade the controller"]);
    let newer = release_newer(&scene, "v3", NEWER);
    said(&scene, &newer, 1, &["unknown field `headers`", "upgrade the controller"]);
    did(&scene, &["log", "verify"], &["verified"]);

    // In the middle of a rollout, there and back; whoever follows it sees it through.
    for (release, next) in [("v4", &this), ("v5", &before)] {
        let following = scene.begin_release(release).unwrap();
        let has_begun = || ["web-1", "web-2"].iter().any(|host| scene.stage.current(host) == release);
        wait_until("a host has it", PATIENCE, has_begun).unwrap();
        change_controller(&mut scene, next);
        said(&scene, &end_of(following), 0, &["succeeded"]);
        runs(&scene, release);
        did(&scene, &["log", "verify"], &["verified", "are those of the last look"]);
        nothing_lost(&load.take());
    }

    // A release that it does not understand is in the way of no other one.
    change_controller(&mut scene, &this);
    said(&scene, &release_newer(&scene, "v3", NEWER), 0, &["succeeded"]);
    change_controller(&mut scene, &before);
    released(&scene, "v6");
    went_back(&scene, "v3");
    change_controller(&mut scene, &this);
    released(&scene, "v7");
    did(&scene, &["log", "verify"], &["verified", "are those of the last look"]);
    nothing_lost(&load.stop());
}

/// It does not know that its host is drained, and leads requests back: that is named, and made good once it can be.
#[test]
fn an_agent_of_the_version_before_on_a_drained_host_is_named() {
    let (this, before) = (this(), before());
    let mut scene = Scene::new(&this, &[]).unwrap();
    scene.prepare("web-1").unwrap();
    scene.join("web-1").unwrap();
    let gate = "\n[traffic]\nproxy = \"command\"\ndrain_command = [\"/bin/true\"]\nundrain_command = [\"/bin/true\"]\n";
    let artifact = scene.artifact("v1", |text| text + gate).unwrap();
    said(&scene, &scene.release_command("v1", &artifact, &[]).output().unwrap().into(), 0, &["succeeded"]);
    let hosts = |scene: &Scene, words: &str| {
        wait_until(words, PATIENCE, || scene.ctl(&["hosts"]).unwrap().out.contains(words))
            .unwrap_or_else(|error| panic!("{error}\n{}", scene.last_words()));
    };
    did(&scene, &["hosts", "drain", "web-1", "--reason", "a new disk"], &["drained by admin"]);
    hosts(&scene, "a new disk; no request is led there");
    change_agent(&mut scene, "web-1", &before);
    hosts(&scene, "requests may come all the same, for its agent is of an older version");
    did(&scene, &["why", "web-1"], &["web-1 is drained, and requests may come there all the same"]);
    change_agent(&mut scene, "web-1", &this);
    hosts(&scene, "a new disk; no request is led there");
    did(&scene, &["hosts", "undrain", "web-1"], &["gets requests again once it is healthy"]);
    wait_until("requests", PATIENCE, || !scene.ctl(&["status"]).unwrap().out.contains("drained")).unwrap();
}
