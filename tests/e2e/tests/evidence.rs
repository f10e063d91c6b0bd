//! What CI has to have said of a commit before its release begins, as CI and people type it to `ctl`.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use landfall_e2e::process::wait_until;
use landfall_e2e::scene::Scene;
use landfall_e2e::stage::{Said, told};

const PATIENCE: Duration = Duration::from_secs(60);

/// A repository with one commit; its directory and the commit's id.
fn repository(scene: &Scene) -> (PathBuf, String) {
    let directory = scene.path("repository");
    fs::create_dir_all(&directory).unwrap();
    let git = |arguments: &[&str]| {
        let who = ["-c", "user.name=ana", "-c", "user.email=ana@example.org"];
        let output = Command::new("git").current_dir(&directory).args(who).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    git(&["init", "--quiet"]);
    git(&["commit", "--quiet", "--allow-empty", "--message", "a faster search"]);
    let commit = git(&["rev-parse", "HEAD"]);
    (directory, commit)
}

/// An artifact whose environment says `line` too.
fn artifact(scene: &Scene, release: &str, line: &str) -> PathBuf {
    scene.artifact(release, |text| format!("{}\n{line}\n", text.trim_end())).unwrap()
}

fn release(scene: &Scene, release: &str, artifact: &Path, more: &[&str]) -> Said {
    scene.release_command(release, artifact, more).output().unwrap().into()
}

/// Hands in what was signed, as somebody.
fn submit(scene: &Scene, config: &Path, files: &[&Path]) -> Said {
    let files = files.iter().map(|file| file.to_str().unwrap());
    scene.ctl_as(config, &["evidence", "submit"].into_iter().chain(files).collect::<Vec<_>>()).unwrap()
}

/// Signed in a job that reaches no controller.
fn sign_for(scene: &Scene, repository: &Path, application: &str, said: &[&str; 3]) -> PathBuf {
    let [result, pem, run] = said;
    let mut job = scene.stage.ctl();
    job.env("LANDFALL_CONFIG_DIR", scene.path("nowhere")).current_dir(repository);
    job.args(["--app", application, "evidence", "sign", "--name", "tests"]);
    let signed = job.args(["--result", result, "--key", pem, "--run", run]).output().unwrap();
    assert!(signed.status.success(), "{signed:?}");
    let file = scene.path(&format!("{application}-{result}-{run}.json"));
    fs::write(&file, signed.stdout).unwrap();
    file
}

#[test]
fn no_release_begins_without_its_tests() {
    let mut scene = Scene::new(Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap(), &["web-1"]).unwrap();
    let (repository, head) = repository(&scene);
    let short = &head[..12];
    let (ci_pem, other_pem) = (scene.path("ci.pem"), scene.path("other.pem"));
    let (ci_pem, other_pem) = (ci_pem.to_str().unwrap(), other_pem.to_str().unwrap());
    let key = scene.ctl(&["evidence", "key", ci_pem]).unwrap().expect_code(0).unwrap().out;
    assert_eq!(scene.ctl(&["evidence", "key", ci_pem]).unwrap().out, key, "it is made once");
    let asks = format!("evidence = [{{ name = \"tests\", keys = [{:?}] }}]", key.trim());
    let first = artifact(&scene, "v1", &asks);
    let of_head = ["--commit", &head];

    // Nothing has been said; and of what names no commit nothing can be.
    let lacks =
        format!("v1 lacks the evidence tests for site in production: there is none of commit {short}");
    let how =
        format!("`ctl evidence add --commit {head} --name tests --result passed --key FILE` hands it in");
    told(&release(&scene, "v1", &first, &of_head), 1, &[&lacks, &how]);
    told(&scene.ctl(&["plan", "v1"]).unwrap(), 1, &[&format!("evidence  {lacks}"), &how]);
    // That is said before anything is published: afterwards its name would be taken.
    for (of, what) in
        [(&[][..], "the artifact names no commit"), (&["--commit", short], "is no full commit id")]
    {
        let asks = "landfall.toml asks for evidence of its commit in production: tests";
        told(&release(&scene, "v0", &first, of), 2, &[what, asks, "--commit \"$(git rev-parse HEAD)\""]);
    }
    assert!(!scene.ctl(&["releases"]).unwrap().expect_code(0).unwrap().out.contains("v0"));

    // A job that reaches no controller signs, and whoever may hands it in: nobody can make it up. What waits for it begins
    // once it has passed.
    let sign =
        |run: &str, result: &str, pem: &str| sign_for(&scene, &repository, "site", &[result, pem, run]);
    let ci = scene.log_in("ci", "gatekeeper:site/production").unwrap();
    let vi = scene.log_in("vi", "viewer").unwrap();
    let (passed, failed) = (sign("7", "passed", ci_pem), sign("8", "failed", ci_pem));
    told(&submit(&scene, &vi, &[&passed]), 6, &["this needs the role gatekeeper"]);
    let bent = scene.path("bent.json");
    fs::write(&bent, fs::read_to_string(&failed).unwrap().replace("failed", "passed")).unwrap();
    told(&submit(&scene, &ci, &[&bent]), 1, &["bent.json is no evidence", "0 valid signature(s) of 1"]);
    let stranger = sign("1", "passed", {
        scene.ctl(&["evidence", "key", other_pem]).unwrap().expect_code(0).unwrap();
        other_pem
    });
    told(
        &submit(&scene, &ci, &[&stranger]),
        0,
        &[&format!("tests of commit {short} of site: passed in run 1")],
    );
    told(
        &release(&scene, "v1", &first, &of_head),
        1,
        &["was signed by key", &format!("and v1 names {} for it", &key[..12])],
    );
    let elsewhere = sign_for(&scene, &repository, "sites", &["passed", ci_pem, "1"]);
    let elsewhere = scene.ctl(&["evidence", "submit", elsewhere.to_str().unwrap()]).unwrap();
    told(&elsewhere, 2, &["no application sites is known here"]);

    // A failure is not undone by a success of before, nor by one of the same run; each file is tried.
    let refused = ["failed in run 8", "bent.json: error:", "1 of 2 files were not handed in"];
    told(&submit(&scene, &ci, &[&bent, &failed]), 1, &refused);
    let again = sign("8", "passed", ci_pem);
    let already = format!("run 8 has said already that tests of commit {short} failed");
    told(&submit(&scene, &ci, &[&again]), 1, &[&already]);
    let outrun = format!("run 7 says nothing of tests of commit {short} any more, since run 8 has failed");
    told(&submit(&scene, &ci, &[&passed]), 1, &[&outrun]);
    told(&release(&scene, "v1", &first, &[&of_head[..], &["--queue", "--detach"]].concat()), 0, &["in line"]);
    let waits = format!(
        "waits for evidence: v1 lacks the evidence tests for site in production: run 8 of commit {short}"
    );
    told(&scene.ctl(&["status"]).unwrap(), 0, &[&waits]);
    scene.stage.stop_controller().unwrap();
    scene.stage.start_controller().unwrap();
    wait_until("the host is back", PATIENCE, || {
        scene.ctl(&["hosts"]).is_ok_and(|said| said.code == 0 && !said.out.contains("not connected"))
    })
    .unwrap();
    told(&submit(&scene, &ci, &[&passed]), 1, &[&outrun]);
    told(&scene.ctl(&["status"]).unwrap(), 0, &[&waits]);
    assert_eq!(scene.stage.current("web-1"), "");
    let add =
        ["evidence", "add", "--commit", &head, "--name", "tests", "--result", "passed", "--key", ci_pem];
    let url = ["--run", "9", "--url", "https://ci.example/9"];
    told(&scene.ctl_as(&ci, &[&add[..], &url].concat()).unwrap(), 0, &["passed in run 9"]);
    wait_until("it runs", PATIENCE, || scene.stage.current("web-1") == "v1").unwrap();
    wait_until("it is over", PATIENCE, || {
        scene.ctl(&["status"]).is_ok_and(|said| said.out.contains("succeeded"))
    })
    .unwrap();
    told(&scene.ctl(&["log", "--all"]).unwrap(), 0, &["began on 1 host; tests passed in run 9"]);
    let listed = scene.json(&["evidence", "list", &head]).unwrap();
    let last = &listed["evidence"][0];
    assert!(last["run"] == 9 && last["by"] == "ci" && last["result"] == "passed", "{listed:#}");
    told(&scene.ctl(&["evidence", "list"]).unwrap(), 0, &[short, "tests", "https://ci.example/9"]);
    told(&scene.ctl(&["evidence", "list", "--limit", "1"]).unwrap(), 0, &["and 1 before these"]);

    // A release does not shed what the one in force asks for; who may does without, and the log tells.
    let second = artifact(&scene, "v2", "");
    let shed = "v2 lacks the evidence tests for site in production: there is none of commit 0a0a0a0a0a0a; v1, which is in force";
    let of_another = ["--commit", &"0a".repeat(20)];
    told(&release(&scene, "v2", &second, &[]), 2, &["v1, which is in force, asks for evidence"]);
    told(&release(&scene, "v2", &second, &of_another), 1, &[shed]);
    let bo = scene.log_in("bo", "deployer").unwrap();
    let promote = [
        "promote",
        "v2",
        "--from",
        "staging",
        "--to",
        "production",
        "--yes",
        "--without-evidence",
        "CI burns",
    ];
    told(&scene.ctl_as(&bo, &promote).unwrap(), 6, &["to release without evidence", "manager"]);
    let without = [&of_another[..], &["--without-evidence", "CI burns"]].concat();
    told(&release(&scene, "v2", &second, &without), 0, &["succeeded: v2"]);
    let log = "of v2 is to begin although v2 lacks the evidence tests";
    told(&scene.ctl(&["log", "--all"]).unwrap(), 0, &[log, "CI burns"]);

    // No way back waits for any of it.
    let broken = [&add[..7], &["failed", "--key", ci_pem]].concat();
    told(&scene.ctl_as(&ci, &broken).unwrap(), 0, &["failed in run 1"]);
    told(&scene.ctl(&["rollback", "--yes"]).unwrap(), 0, &["succeeded: v1 runs on the one host"]);
}
