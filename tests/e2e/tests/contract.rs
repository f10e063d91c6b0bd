//! A release that takes away what the one before it needs: after the last host, once, and nothing older runs afterwards
//! (P7). The database is a real one, and each release asks it for the columns that it knows.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use landfall_e2e::process::{self, wait_until};
use landfall_e2e::scene::Scene;
use landfall_e2e::stage::Said;

const PATIENCE: Duration = Duration::from_secs(60);

/// Runs one statement.
const SQL: &str = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], timeout=20); \
                   print(db.execute(sys.argv[2]).fetchall()); db.commit()";

struct World {
    scene: Scene,
    database: PathBuf,
    go: PathBuf,
}

impl World {
    fn new() -> Self {
        let bin = Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap();
        let scene = Scene::new(bin, &["web-1", "web-2"]).unwrap();
        let world = Self { database: scene.path("people.sqlite"), go: scene.path("go"), scene };
        world.sql("create table people (name text)");
        world.sql("insert into people values ('Ada')");
        let said = world.begin("v1", &world.smoke("name"));
        assert_eq!(said.code, 0, "{said:?}\n{}", world.scene.last_words());
        world
    }

    fn sql(&self, statement: &str) -> String {
        let output =
            Command::new("python3").args(["-c", SQL]).arg(&self.database).arg(statement).output().unwrap();
        assert!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn columns(&self) -> String {
        self.sql("select group_concat(name) from pragma_table_info('people')")
    }

    fn statement(&self, statement: &str) -> String {
        format!("[\"python3\", \"-c\", {SQL:?}, {:?}, {statement:?}]", self.database)
    }

    /// A release is healthy where its column is.
    fn smoke(&self, column: &str) -> String {
        let command = self.statement(&format!("select {column} from people"));
        format!("\n[[smoke]]\nname = \"people\"\ncommand = {command}\n")
    }

    fn migrate(&self, statement: &str) -> String {
        let command = self.statement(statement);
        format!(
            "\n[migrate]\ncommand = {command}\ncompatible_with_previous = true\nfiles = [\"schema\"]\ntimeout = \"5m\"\n"
        )
    }

    /// Fails while there is no file `go`; ends once there is a file `GO.end`.
    fn contract(&self, go: &str, statement: &str) -> String {
        let go = self.scene.path(go);
        let (go, database) = (go.to_str().unwrap(), self.database.to_str().unwrap());
        let fences = self.scene.path("fences");
        let script = format!(
            "echo $LANDFALL_FENCE >> {}; test -e {go} || {{ echo 'people is locked' >&2; exit 3; }}; touch {go}.begun; \
             while [ ! -e {go}.end ]; do sleep 0.05; done; exec python3 -c \"$0\" {database} \"$1\"",
            fences.display()
        );
        format!(
            "\n[contract]\ncommand = [\"sh\", \"-c\", {script:?}, {SQL:?}, {statement:?}]\ntimeout = \"5m\"\n"
        )
    }

    fn artifact(&self, name: &str, more: &str) -> PathBuf {
        let artifact = self.scene.artifact(name, |text| text + more).unwrap();
        fs::write(artifact.join("schema"), name).unwrap();
        artifact
    }

    /// Releases `name` and follows it to its end.
    fn begin(&self, name: &str, more: &str) -> Said {
        let artifact = self.artifact(name, more);
        Said::from(self.scene.release_command(name, &artifact, &[]).output().unwrap())
    }

    /// The same, without waiting for anything.
    fn detached(&self, name: &str, more: &str) {
        let artifact = self.artifact(name, more);
        let mut command = self.scene.release_command(name, &artifact, &["--detach"]);
        let said = command.stdout(Stdio::null()).stderr(File::create(self.scene.path("told")).unwrap());
        assert!(said.status().unwrap().success());
    }

    fn ctl(&self, arguments: &[&str]) -> Said {
        self.scene.ctl(arguments).unwrap()
    }

    fn well(&self, arguments: &[&str]) -> Said {
        let said = self.ctl(arguments);
        assert_eq!(said.code, 0, "{arguments:?}: {said:?}");
        said
    }

    fn until_it_is(&self, status: &str) {
        let is = || self.scene.json(&["status"]).unwrap()["rollouts"][0]["status"] == status;
        wait_until(&format!("the rollout is {status}"), PATIENCE, is).unwrap_or_else(|error| {
            panic!("{error}\n{:?}\n{}", self.ctl(&["status"]), self.scene.last_words())
        });
    }

    #[track_caller]
    fn tells(&self, arguments: &[&str], words: &[&str]) {
        let said = self.ctl(arguments);
        let missing: Vec<_> =
            words.iter().filter(|word| !said.out.contains(**word) && !said.err.contains(**word)).collect();
        assert!(missing.is_empty(), "{arguments:?}: no {missing:?} in {said:?}");
    }
}

#[test]
fn a_contract_waits_for_the_last_old_host_runs_once_and_ends_every_way_back() {
    let mut world = World::new();
    let v2 = [
        world.smoke("full_name"),
        world.migrate("alter table people add column full_name text"),
        world.contract("go", "alter table people drop column name"),
    ];
    world.well(&["hosts", "cordon", "web-2", "--reason", "its disk is being looked at"]);
    world.detached("v2", &v2.concat());

    // The canary runs v2, and web-2 is left on v1, which still finds its column.
    world.until_it_is("waiting");
    world.tells(
        &["status"],
        &[
            "its contract waits until nothing older can run",
            "web-2 is cordoned and reports v1",
            "ctl hosts remove",
        ],
    );
    world.tells(&["why", "web-2"], &["cordoned"]);
    assert_eq!(world.columns(), "[('name,full_name',)]");

    // Then it runs on both; the contract fails, and the release stays.
    world.well(&["hosts", "uncordon", "web-2"]);
    world.until_it_is("paused");
    for host in ["web-1", "web-2"] {
        assert_eq!(world.scene.stage.current(host), "v2");
    }
    world.tells(
        &["status"],
        &["the contract of v2 failed on", "exit code 3", "ctl retry", "v2 stays on every host"],
    );
    let said = world.ctl(&["rollback", "--yes"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("the contract of v2 may have taken away what v1 needs"), "{said:?}");

    // Mended, and tried again by a person.
    fs::write(&world.go, "").unwrap();
    fs::write(world.scene.path("go.end"), "").unwrap();
    world.well(&["retry"]);
    world.until_it_is("succeeded");
    assert_eq!(world.columns(), "[('full_name',)]");
    let said = world.ctl(&["rollback", "--yes"]);
    assert_eq!(said.code, 1, "{said:?}");
    for word in ["the contract of v2 has taken away what v1 needs", "restore a backup of the database"] {
        assert!(said.err.contains(word), "no {word:?} in {said:?}");
    }
    world.tells(&["drill", "--yes"], &["v1 does not run on the schema as it is"]);

    // The next one dies in the middle: a person is asked, and it is not run a second time by itself.
    let v3 = [
        world.smoke("given_name"),
        world.migrate("alter table people add column given_name text"),
        world.contract("go3", "alter table people drop column full_name"),
    ];
    fs::write(world.scene.path("go3"), "").unwrap();
    world.detached("v3", &v3.concat());
    world.until_it_is("contracting");
    wait_until("it has begun", PATIENCE, || world.scene.path("go3.begun").exists()).unwrap();
    let runs = |host: &str| {
        let agent = world.scene.stage.agent_id(host).unwrap();
        process::children(agent).into_iter().find(|id| process::command_line(*id).contains("step-runner"))
    };
    let (host, runner) = ["web-1", "web-2"]
        .into_iter()
        .find_map(|host| Some((host, runs(host)?)))
        .expect("one of them runs it");
    world.scene.stage.kill_agent(host).unwrap();
    process::signal(runner, "KILL");
    world.scene.stage.start_agent(host).unwrap();
    world.until_it_is("waiting");
    world.tells(&["status"], &["nobody knows whether the contract on", "--applied", "--not-applied"]);
    assert_eq!(world.columns(), "[('full_name,given_name',)]");
    fs::write(world.scene.path("go3.end"), "").unwrap();
    world.well(&["migration", "resolve", "--not-applied", "--reason", "the column is there"]);
    world.until_it_is("succeeded");
    assert_eq!(world.columns(), "[('given_name',)]");

    // Each of the four runs had the number of its lease, and each a greater one.
    let fences = fs::read_to_string(world.scene.path("fences")).unwrap();
    let fences: Vec<u64> = fences.lines().map(|line| line.parse().unwrap()).collect();
    assert!(fences.len() == 4 && fences.is_sorted_by(|one, next| one < next), "{fences:?}");

    let log = world.ctl(&["log", "--all"]).out;
    for line in [
        "the contract of v2 failed",
        "the contract of v2 succeeded",
        "the contract of v3 ended without a known outcome",
        "the contract of v3 succeeded",
    ] {
        assert!(log.contains(line), "no {line:?} in\n{log}");
    }
    assert_eq!(world.ctl(&["log", "verify"]).code, 0);
}
