//! Gates that others hold, with real processes: somebody opens and closes one through the gRPC API, or the controller asks
//! it over HTTP.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
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

/// For how many seconds a gate had been silent when its rollout paused, once the status says so between these words: it tells
/// the time that has passed, and a busy machine may notice later than at the deadline.
fn paused_after(scene: &Scene, before: &str, after: &str) -> u64 {
    let mut seconds = None;
    let says = |said: Said| {
        let (period, rest) = said.out.split_once(before)?.1.split_once('s')?;
        rest.starts_with(after).then(|| period.parse().ok())?
    };
    wait_until(before, PATIENCE, || {
        seconds = scene.ctl(&["status"]).ok().and_then(says);
        seconds.is_some()
    })
    .unwrap_or_else(|error| panic!("{error}\n{:?}\n{}", scene.ctl(&["status"]), scene.last_words()));
    seconds.unwrap()
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
    let silent = "gate qa-signoff has had no answer for ";
    assert!(paused_after(&scene, silent, ", and batch 1 of 2 waits for it") >= 10);
    assert_eq!(runs(&scene), ["v1", "v1"]);
    told(&scene.ctl(&["promote", "--reason", "qa is on holiday"]).unwrap(), 0, &[]);
    told(&scene.ctl(&["status", "--watch"]).unwrap(), 0, &["succeeded: v2"]);
    told(
        &scene.ctl(&["log", "--all"]).unwrap(),
        0,
        &["and overrules its gates: gate qa-signoff has no answer: qa is on holiday"],
    );
}

/// Whoever is asked: what it answers with, nothing where it just hangs up, and what it was asked.
#[derive(Clone, Default)]
struct Door {
    answers: Arc<Mutex<Option<String>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Door {
    /// Answers on a port of its own, for as long as the test lasts.
    fn open() -> (Self, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let door = Self::default();
        let own = door.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                let mut question = Vec::new();
                let mut buffer = [0; 4096];
                while !question.ends_with(b"}") {
                    match stream.read(&mut buffer) {
                        Ok(count) if count > 0 => question.extend_from_slice(&buffer[..count]),
                        _ => break,
                    }
                }
                own.asked.lock().unwrap().push(String::from_utf8_lossy(&question).into_owned());
                let answer = own.answers.lock().unwrap().clone();
                if let Some(answer) = answer {
                    // Whoever asked may be gone.
                    let _ = stream.write_all(answer.as_bytes());
                }
            }
        });
        (door, port)
    }

    fn says(&self, body: &str) {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        *self.answers.lock().unwrap() = Some(answer);
    }

    fn is_silent(&self) {
        *self.answers.lock().unwrap() = None;
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

#[test]
fn a_gate_that_the_controller_asks_lets_a_batch_begin_or_not() {
    let mut scene = scene(&["web-1", "web-2"]);
    told(&scene.release("v1").unwrap(), 0, &["succeeded"]);
    let (door, port) = Door::open();
    let url = format!("http://127.0.0.1:{port}/gates/slo");
    let gate = format!(
        "{{ name = \"slo\", url = \"{url}\", every = \"1s\", timeout = \"2s\", deadline = \"10s\" }}"
    );

    // A release does not say where the controller goes.
    told(&release(&scene, "v2", &gate, &["--publish-only"]), 0, &[]);
    let refusal = format!("gate slo of v2 is asked at {url}, and this controller may not ask there");
    let needed = format!("`url = \"{url}\"`");
    told(&scene.ctl(&["plan", "v2"]).unwrap(), 1, &[&refusal, &needed, "controller.toml"]);
    told(&release(&scene, "v2", &gate, &[]), 1, &[&refusal]);
    assert_eq!((runs(&scene), door.asked().len()), (["v1".to_owned(), "v1".to_owned()], 0));

    let token = scene.path("gates.token");
    std::fs::write(&token, "s3cr3t\n").unwrap();
    let access = format!("[[gates]]\nurl = \"http://127.0.0.1:{port}/gates\"\ntoken_file = {token:?}\n");
    scene.stage.configure_controller(&access).unwrap();
    scene.stage.stop_controller().unwrap();
    scene.stage.start_controller().unwrap();
    let note = format!("the controller asks {url} every 1s; without an answer for 10s the rollout pauses");
    told(&scene.ctl(&["plan", "v2"]).unwrap(), 0, &["the next batch follows when gate slo is open", &note]);

    // It answers that it is closed, and no deadline runs against somebody who has answered.
    door.says(r#"{"state": "closed", "reason": "the load test runs"}"#);
    told(&release(&scene, "v2", &gate, &["--detach"]), 0, &[]);
    let id = waits(&scene, "has answered closed, and is asked every 1s: the load test runs");
    wait_until("many questions", PATIENCE, || door.asked().len() > 12).unwrap();
    let list = scene.ctl(&["gate", "list"]).unwrap();
    told(
        &list,
        0,
        &["slo before the second batch: closed for batch 2, by http", ": the load test runs; asked every 1s"],
    );
    let open = scene.ctl(&["gate", "open", "slo", "--reason", "I say so"]).unwrap();
    told(&open, 1, &["gate slo is asked by the controller, at http", "`ctl promote` overrules the gates"]);
    assert_eq!(runs(&scene), ["v2", "v1"]);
    let asked = door.asked().concat();
    for part in
        ["POST /gates/slo HTTP/1.1", "authorization: Bearer s3cr3t", &id, r#""release":"v2""#, r#""batch":2"#]
    {
        assert!(asked.contains(part), "{part}: {asked}");
    }

    // It does not answer any more: that opens nothing, and pauses with the error.
    door.is_silent();
    let silent = format!("gate slo has had no answer from {url} for ");
    assert!(paused_after(&scene, &silent, " (no answer") >= 10);
    assert_eq!(runs(&scene), ["v2", "v1"]);
    told(&scene.ctl(&["why"]).unwrap(), 0, &[&silent, "ctl resume", "ctl promote"]);
    let list = scene.json(&["gate", "list"]).unwrap();
    assert_eq!(
        (&list["gates"][0]["verdict"], &list["gates"][0]["url"]),
        (&serde_json::Value::Null, &url.as_str().into())
    );

    // What it says then counts once somebody says that the rollout goes on.
    door.says(r#"{"state": "open", "reason": "the load test has passed"}"#);
    told(&scene.ctl(&["resume"]).unwrap(), 0, &[]);
    told(&scene.ctl(&["status", "--watch", &id]).unwrap(), 0, &["succeeded: v2 runs on all 2 hosts"]);
    let passed = format!("slo is open, by {url}: the load test has passed");
    told(&scene.ctl(&["log", "--all"]).unwrap(), 0, &[&passed]);

    // The gate of the release in force holds the next one. Nobody is waited for, and who follows it sees the end.
    door.says(r#"{"state": "failed", "reason": "the basket is empty"}"#);
    let end = format!("gate slo says no, by {url}: the basket is empty");
    told(&release(&scene, "v3", "", &[]), 3, &["rolled back", &end]);
    assert_eq!(runs(&scene), ["v2", "v2"]);
}

/// After the last batch the same gates hold on: whom the controller asks is asked on, and whoever has opened one may take that
/// back.
#[test]
fn a_gate_that_says_no_in_the_watch_has_the_release_go_back() {
    let mut scene = scene(&["web-1", "web-2"]);
    told(&scene.release("v1").unwrap(), 0, &["succeeded"]);
    let (door, port) = Door::open();
    let access = format!("[[gates]]\nurl = \"http://127.0.0.1:{port}/gates\"\n");
    scene.stage.configure_controller(&access).unwrap();
    scene.stage.stop_controller().unwrap();
    scene.stage.start_controller().unwrap();
    let url = format!("http://127.0.0.1:{port}/gates/slo");
    let gates = format!(
        "{{ name = \"slo\", url = \"{url}\", every = \"1s\", timeout = \"2s\" }}, {{ name = \"qa\" }}"
    );
    door.says(r#"{"state": "open"}"#);

    // It is asked on, and with its no the whole fleet is back without anybody's doing.
    told(&release(&scene, "v2", &gates, &["--publish-only"]), 0, &[]);
    told(&scene.ctl(&["plan", "v2", "--watch", "10m"]).unwrap(), 0, &["; it holds on in the watch"]);
    told(&release(&scene, "v2", &gates, &["--detach", "--watch", "10m"]), 0, &[]);
    waits(&scene, "waits for gate qa");
    told(&scene.ctl(&["gate", "open", "qa", "--reason", "it looks well"]).unwrap(), 0, &[]);
    let id = waits(&scene, "has been watched for");
    assert_eq!(runs(&scene), ["v2", "v2"]);
    wait_until("a question", PATIENCE, || door.asked().concat().contains(r#""watch":true"#)).unwrap();
    let list = scene.ctl(&["gate", "list"]).unwrap();
    told(&list, 0, &["qa before the second batch: nobody has shut it", "open for the end of the watch"]);
    door.says(r#"{"state": "failed", "reason": "the error budget is used up"}"#);
    let end = format!("gate slo says no, by {url}: the error budget is used up");
    told(&scene.ctl(&["status", "--watch", &id]).unwrap(), 3, &["rolled back", &end]);
    assert_eq!(runs(&scene), ["v1", "v1"]);

    // While one is closed the watch does not end, unless somebody overrules that.
    door.says(r#"{"state": "open"}"#);
    told(&release(&scene, "v3", &gates, &["--detach", "--watch", "10m"]), 0, &[]);
    waits(&scene, "waits for gate qa");
    told(&scene.ctl(&["gate", "open", "qa", "--reason", "it looks well"]).unwrap(), 0, &[]);
    waits(&scene, "has been watched for");
    told(&scene.ctl(&["gate", "close", "qa", "--reason", "the basket is slow"]).unwrap(), 0, &[]);
    let id = waits(&scene, "the end of the watch waits for gate qa");
    let next = ["ctl gate open qa", "overrules the gates before the end of the watch"];
    told(&scene.ctl(&["why"]).unwrap(), 0, &next);
    told(&scene.ctl(&["promote", "--reason", "it is the network"]).unwrap(), 0, &[]);
    told(&scene.ctl(&["status", "--watch", &id]).unwrap(), 0, &["succeeded: v3"]);
    let log = "was ended, and overrules its gates: gate qa is closed, by ";
    told(&scene.ctl(&["log", "--all"]).unwrap(), 0, &[log, "the basket is slow: it is the network"]);
}
